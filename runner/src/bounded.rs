// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Input from outside, read up to a limit. Longer input is the error [`TOO_LONG`].

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    path::Path,
};

/// The kind of the error that says the limit.
pub const TOO_LONG: ErrorKind = ErrorKind::FileTooLarge;

/// A reader with a limit, in bytes.
#[derive(Debug)]
pub struct Bounded<R> {
    from: R,
    limit: u64,
    left: u64,
}

impl<R> Bounded<R> {
    /// Reads from `from`, but no more than `limit` bytes.
    pub const fn new(from: R, limit: u64) -> Self {
        Self { from, limit, left: limit }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(bytes)?;
        let long = || io::Error::new(TOO_LONG, format!("longer than {} bytes", self.limit));
        self.left = self.left.checked_sub(read as u64).ok_or_else(long)?;
        Ok(read)
    }
}

/// All bytes of `from`.
pub fn read(from: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Bounded::new(from, limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// All text of `from`.
pub fn read_text(from: impl Read, limit: u64) -> io::Result<String> {
    String::from_utf8(read(from, limit)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// All bytes of a file; `-` is standard input.
pub fn load(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    if path == Path::new("-") { read(io::stdin().lock(), limit) } else { read(File::open(path)?, limit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_than_the_limit_is_an_error_that_says_it() {
        assert_eq!(read(&b"1234"[..], 4).expect("four bytes"), b"1234");
        let error = read(&b"12345"[..], 4).expect_err("five bytes");
        assert_eq!((error.kind(), error.to_string().as_str()), (TOO_LONG, "longer than 4 bytes"));
        assert_eq!(load(Path::new("/dev/zero"), 1 << 16).expect_err("no end").kind(), TOO_LONG);
        assert_eq!(read_text(&b"\xff"[..], 4).expect_err("not text").kind(), ErrorKind::InvalidData);
    }
}
