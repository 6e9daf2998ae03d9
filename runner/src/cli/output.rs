// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Standard output and standard error, whose readers may go away: what is written after that is dropped, so that `| head`
//! changes no exit status.

use crate::visible::visible;
use serde::Serialize;
use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
};

/// Standard output.
#[derive(Clone, Copy, Debug)]
pub struct Out;

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unless_closed(io::stdout().write(bytes), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_closed(io::stdout().flush(), ())
    }
}

fn unless_closed<T>(result: io::Result<T>, dropped: T) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(dropped),
        result => result,
    }
}

/// Prints text on standard output. What comes from outside in it cannot command a terminal.
pub fn show(what: &impl Display) -> io::Result<()> {
    Out.write_all(visible(&what.to_string()).as_bytes())
}

/// Prints a value on standard output, as text or as JSON.
pub fn print(what: &(impl Display + Serialize), json: bool) -> io::Result<()> {
    if json { print_json(what) } else { show(what) }
}

/// Prints a value on standard output as JSON.
pub fn print_json(what: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(what)?;
    text.push(b'\n');
    Out.write_all(&text)
}

/// Prints text on standard error.
pub fn note(what: &impl Display) {
    let _ = io::stderr().write_all(visible(&what.to_string()).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_error_and_others_are() {
        assert_eq!(unless_closed(Err(ErrorKind::BrokenPipe.into()), 7).expect("dropped"), 7);
        assert_eq!(unless_closed(Ok(1), 7).expect("written"), 1);
        let full = unless_closed(Err(ErrorKind::StorageFull.into()), 7).expect_err("an error");
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }
}
