// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Results as JSON lines.

use super::{Record, Writer};
use crate::whole;
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// Writes each record as a line at once, so that a reader sees how far an unfinished run came.
#[derive(Debug)]
pub struct Lines<W>(pub W);

impl<W: Write> Writer for Lines<W> {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.0.write_all(&line)?;
        self.0.flush()
    }
}

/// A file of results. It appears with the first record, in place of a file that was there, and has each further record as
/// soon as that is written.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    /// No record was written.
    New(NamedTempFile),
    Begun(Lines<fs::File>),
    /// The first record could not be written.
    Failed,
}

impl File {
    /// Begins a file that will be at `path`. It is an error now if it cannot be written there.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), state: State::New(whole::begin(path)?) })
    }
}

impl Writer for File {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::New(mut file) => {
                Lines(&mut file).write(record)?;
                self.state = State::Begun(Lines(whole::end(file, &self.path)?));
            }
            State::Begun(mut lines) => {
                lines.write(record)?;
                // What is not on the disk is gone when the kernel panics.
                lines.0.sync_data()?;
                self.state = State::Begun(lines);
            }
            State::Failed => return Err(io::Error::other("an earlier record could not be written")),
        }
        Ok(())
    }
}
