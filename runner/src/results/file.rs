// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Results as JSON lines.

use super::{Record, Writer};
use crate::whole;
use std::{
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

/// A file of results. It appears when the last record is written, and not before.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    lines: Option<Lines<NamedTempFile>>,
}

impl File {
    /// Begins a file that will be at `path`. It is an error now if it cannot be written there.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), lines: Some(Lines(whole::begin(path)?)) })
    }
}

impl Writer for File {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let Some(lines) = &mut self.lines else { return Ok(()) };
        lines.write(record)?;
        if let Record::End(_) | Record::Unavailable(_) = record
            && let Some(Lines(file)) = self.lines.take()
        {
            whole::end(file, &self.path)?;
        }
        Ok(())
    }
}
