// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A cell's directory. It is filled under a hidden name and renamed when the cell has ended.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::console::Output;
use crate::facts::Facts;
use crate::matrix::record::{Cell, read_json, write_json};
use crate::progress::Running;

const STATUS: &str = "status.json";

/// The run's directory cannot be written. This is not the fault of the cell, and other cells would fail as well.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", .path.display())]
pub struct CannotWrite {
    /// The path that cannot be written.
    pub path: PathBuf,
    /// Why it cannot be written.
    pub source: io::Error,
}

/// A cell's files while it runs. They are removed if this is dropped before [`CellFolder::close`].
#[derive(Debug)]
pub struct CellFolder {
    filled: TempDir,
    place: PathBuf,
    stdout: File,
    stderr: File,
    kernel_log: File,
    facts: Option<Facts>,
    running: Running,
}

impl CellFolder {
    /// Creates the files of a cell of the run in `directory`. `running` shows what the cell prints.
    pub fn open(directory: &Path, cell: &Cell, running: Running) -> Result<Self> {
        let hidden = format!(".{}", cell.name());
        let failed = |source| CannotWrite { path: directory.join(&hidden), source };
        // A lab that was killed leaves this directory.
        remove(&directory.join(&hidden))?;
        let mut builder = tempfile::Builder::new();
        let filled = builder.prefix(&hidden).rand_bytes(0).tempdir_in(directory).map_err(failed)?;
        let file = |name: &str| File::create_new(filled.path().join(name)).map_err(failed);
        Ok(Self {
            stdout: file("stdout")?,
            stderr: file("stderr")?,
            kernel_log: file("kernel.log")?,
            place: directory.join(cell.name()),
            filled,
            facts: None,
            running,
        })
    }

    /// The facts that the host has reported.
    pub fn facts(&self) -> Option<&Facts> {
        self.facts.as_ref()
    }

    /// Ends the cell: its directory appears, and replaces an older one.
    pub fn close(self, cell: &Cell) -> Result<()> {
        write_json(&self.filled.path().join(STATUS), cell)?;
        remove(&self.place)?;
        self.written(fs::rename(self.filled.path(), &self.place))?;
        // The directory was renamed, so there is nothing to remove.
        let _ = self.filled.keep();
        Ok(())
    }

    fn written(&self, written: io::Result<()>) -> Result<()> {
        Ok(written.map_err(|source| CannotWrite { path: self.place.clone(), source })?)
    }
}

impl Output for &mut CellFolder {
    fn stdout(&mut self, bytes: &[u8]) -> Result<()> {
        self.running.printed(bytes);
        let written = self.stdout.write_all(bytes);
        self.written(written)
    }

    fn stderr(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.stderr.write_all(bytes);
        self.written(written)
    }

    fn note(&mut self, line: &str) -> Result<()> {
        let written = self.kernel_log.write_all(format!("{line}\n").as_bytes());
        self.written(written)
    }

    fn facts(&mut self, facts: Facts) -> Result<()> {
        self.facts = Some(facts);
        Ok(())
    }
}

/// Whether the directory of a cell exists and agrees with the record.
pub fn is_there(directory: &Path, cell: &Cell) -> bool {
    read_json::<Cell>(&directory.join(cell.name()).join(STATUS)).is_ok_and(|found| found == *cell)
}

/// Removes a directory if it exists.
fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("cannot remove {}", directory.display())),
    }
}
