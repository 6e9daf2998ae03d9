// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Files that a command leaves in `/out` of its host, and `lab` brings out. They come while they grow, so that a host that
//! dies leaves what was written before.
//!
//! A piece of a file is the payload of a frame: its offset, NUL, the path in `/out`, NUL, and the bytes. Offset 0 starts the file,
//! maybe again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::protocol::{MAX_PAYLOAD, printable};

/// The directory in the host.
pub const OUT: &str = "/out";
/// An upper limit of the bytes that a host may send, and of the files that it may start. A host may be out of order.
const LARGEST: u64 = 1 << 30;
const MOST: u32 = 4096;
/// The longest path, in bytes, and the deepest.
const LONGEST: usize = MAX_PAYLOAD / 2;
const DEEPEST: usize = 8;

/// The pieces of the file `path`, from `offset` to the end of `bytes`, which may be empty. There is none if the path is too long
/// or if it is not text.
pub fn pieces<'a>(path: &'a Path, offset: u64, bytes: &'a [u8]) -> impl Iterator<Item = Vec<u8>> + 'a {
    let name = path.to_str().filter(|name| name.len() <= LONGEST);
    // 20 digits and two NULs.
    let size = MAX_PAYLOAD - LONGEST - 22;
    let count = if name.is_some() { bytes.len().div_ceil(size).max(1) } else { 0 };
    (0..count).map(move |number| {
        let start = number * size;
        let head = format!("{}\0{}\0", offset + start as u64, name.unwrap_or_default());
        [head.as_bytes(), &bytes[start..bytes.len().min(start + size)]].concat()
    })
}

/// A directory of this machine into which files come.
#[derive(Debug)]
pub struct Brought {
    directory: PathBuf,
    left: u64,
    files: u32,
}

impl Brought {
    /// Creates the directory if it does not exist.
    pub fn into(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self { directory: directory.to_owned(), left: LARGEST, files: MOST })
    }

    /// Takes a piece of a file. The host may send anything.
    pub fn take(&mut self, piece: &[u8]) -> Result<()> {
        let mut parts = piece.splitn(3, |&byte| byte == 0);
        let mut part = || parts.next().unwrap_or_default();
        let (offset, name, bytes) = (part(), part(), part());
        let offset: Option<u64> = std::str::from_utf8(offset).ok().and_then(|offset| offset.parse().ok());
        let relative = std::str::from_utf8(name).ok().map(Path::new).filter(|path| is_inside(path));
        let (Some(offset), Some(relative)) = (offset, relative) else {
            bail!("the host sent a file with the invalid name {:?}", printable(name));
        };
        let path = self.directory.join(relative);
        let failed = || format!("cannot write {}", path.display());
        let size = bytes.len() as u64;
        self.left = self.left.checked_sub(size).context("the host's files in /out are larger than 1 GiB")?;
        if offset == 0 {
            self.files = self.files.checked_sub(1).context("the host has too many files in /out")?;
            fs::create_dir_all(path.parent().unwrap_or(&self.directory)).with_context(failed)?;
            // A new file and not what a link may lead to.
            if path.symlink_metadata().is_ok() {
                fs::remove_file(&path).with_context(failed)?;
            }
            File::create_new(&path).and_then(|mut file| file.write_all(bytes)).with_context(failed)
        } else {
            let mut file = File::options().append(true).open(&path).with_context(failed)?;
            if file.metadata().with_context(failed)?.len() != offset {
                bail!("a part of the host's file {OUT}/{} is missing", relative.display());
            }
            file.write_all(bytes).with_context(failed)
        }
    }
}

/// Whether a path stays in its directory. Files whose names start with a dot are temporary ones.
fn is_inside(path: &Path) -> bool {
    let is_plain = |part: Component<'_>| match part {
        Component::Normal(name) => !name.to_string_lossy().starts_with('.'),
        _ => false,
    };
    !path.as_os_str().is_empty() && path.components().all(is_plain) && path.components().count() <= DEEPEST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(path: &str, offset: u64, bytes: &[u8]) -> Vec<Vec<u8>> {
        pieces(Path::new(path), offset, bytes).collect()
    }

    #[test]
    fn a_file_comes_in_pieces_grows_and_may_start_again() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("new");
        let mut brought = Brought::into(&at).unwrap();
        let long: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let mut take = |path: &str, offset, bytes: &[u8]| {
            let pieces = all(path, offset, bytes);
            assert!(pieces.iter().all(|piece| piece.len() <= MAX_PAYLOAD));
            pieces.iter().try_for_each(|piece| brought.take(piece))
        };
        take("a/run.jsonl", 0, &long[..3000]).unwrap();
        take("a/run.jsonl", 3000, &long[3000..]).unwrap();
        assert_eq!(fs::read(at.join("a/run.jsonl")).unwrap(), long);
        take("empty", 0, b"").unwrap();
        assert_eq!(fs::read(at.join("empty")).unwrap(), b"");
        take("a/run.jsonl", 0, b"again").unwrap();
        assert_eq!(fs::read(at.join("a/run.jsonl")).unwrap(), b"again");
        let error = take("a/run.jsonl", 7, b"x").unwrap_err().to_string();
        assert_eq!(error, "a part of the host's file /out/a/run.jsonl is missing");
        assert_eq!(all(&"x".repeat(LONGEST), 0, b"x").len(), 1);
        assert!(all(&"x".repeat(LONGEST + 1), 0, b"x").is_empty());
    }

    #[test]
    fn nothing_is_written_outside_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("in");
        let mut brought = Brought::into(&at).unwrap();
        for name in ["", "../x", "/tmp/x", "a/../../x", ".", ".x", "a/.x", "1/2/3/4/5/6/7/8/9", "a\u{0}"] {
            let piece = [b"0\0", name.as_bytes(), b"\0bytes"].concat();
            let taken = brought.take(&piece);
            assert!(name == "a\u{0}" || taken.is_err(), "{name:?}");
        }
        for piece in [&b""[..], b"0", b"x\0a\0b", b"-1\0a\0b", b"0\0\xff\0b", b"99999999999999999999\0a\0b"] {
            assert!(brought.take(piece).is_err(), "{piece:?}");
        }
        std::os::unix::fs::symlink(directory.path().join("victim"), at.join("link")).unwrap();
        brought.take(b"0\0link\0bytes").unwrap();
        assert!(!directory.path().join("victim").exists());
        assert_eq!(fs::read(at.join("link")).unwrap(), b"bytes");
        brought.left = 3;
        assert!(brought.take(b"0\0big\0four").unwrap_err().to_string().contains("1 GiB"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
