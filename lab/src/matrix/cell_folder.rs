// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A cell's directory: filled beside its place under a hidden name, and moved there when the cell has ended.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::console::Output;
use crate::facts::Facts;
use crate::matrix::progress::Running;
use crate::matrix::record::{Cell, read_json, write_json};

const STATUS: &str = "status.json";

/// The run's directory cannot be written. That is no cell's fault, and no other cell would fare better.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", .path.display())]
pub struct CannotWrite {
    /// What was written.
    pub path: PathBuf,
    /// Why it was not.
    pub source: io::Error,
}

/// A cell's files while it runs. They are gone when this is dropped before [`CellFolder::close`].
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
    /// The files of a cell of the run in `directory`. `running` shows what it prints.
    pub fn open(directory: &Path, cell: &Cell, running: Running) -> Result<Self> {
        let hidden = format!(".{}", cell.name());
        let failed = |source| CannotWrite { path: directory.join(&hidden), source };
        // A lab that was killed leaves it.
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

    /// What the host has said of itself.
    pub fn facts(&self) -> Option<&Facts> {
        self.facts.as_ref()
    }

    /// The cell has ended: its directory appears, in place of an older one.
    pub fn close(self, cell: &Cell) -> Result<()> {
        write_json(&self.filled.path().join(STATUS), cell)?;
        remove(&self.place)?;
        self.written(fs::rename(self.filled.path(), &self.place))?;
        // It is not there any more.
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

/// Whether the directory of a cell is there, as the record has it.
pub fn is_there(directory: &Path, cell: &Cell) -> bool {
    read_json::<Cell>(&directory.join(cell.name()).join(STATUS)).is_ok_and(|found| found == *cell)
}

/// Removes a directory that may not be there.
fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("cannot remove {}", directory.display())),
    }
}
