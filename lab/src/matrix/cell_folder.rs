// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A cell's directory. It is filled under a hidden name and renamed when the cell has ended.
//!
//! A cell may run twice at a time: Slurm starts it again if it believes that its node is dead. The hidden names of the two
//! copies differ, and the one that is renamed first is the cell.

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
    /// Creates the files of a copy of a cell of the run in `directory`. Another copy that runs has another name. `running`
    /// shows what the cell prints.
    pub fn open(directory: &Path, cell: &Cell, copy: &str, running: Running) -> Result<Self> {
        let hidden = format!(".{}.{copy}", cell.name());
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

    /// Ends the cell: its directory appears. Returns false, and drops this copy, if another copy has ended before.
    pub fn close(self, cell: &Cell) -> Result<bool> {
        write_json(&self.filled.path().join(STATUS), cell)?;
        // A directory never replaces one that is not empty. RENAME_NOREPLACE would say the same, but NFS has no such flag.
        match fs::rename(self.filled.path(), &self.place) {
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                return Ok(false);
            }
            renamed => self.written(renamed)?,
        }
        // The directory was renamed, so there is nothing to remove.
        let _ = self.filled.keep();
        Ok(true)
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

/// How a cell ended, if its directory exists.
pub fn ended(directory: &Path, cell: &Cell) -> Option<Cell> {
    let found: Cell = read_json(&directory.join(cell.name()).join(STATUS)).ok()?;
    (found.name() == cell.name() && found.status.has_ended()).then_some(found)
}

/// Removes what is not the directory of a cell that has ended but has its name, so that the cell can end.
pub fn make_place(directory: &Path, cell: &Cell) -> Result<()> {
    let place = directory.join(cell.name());
    // In this order, because a copy that runs may end at any time: what was there before it was read is not that copy.
    if place.symlink_metadata().is_err() || ended(directory, cell).is_some() {
        return Ok(());
    }
    remove(&place)
}

/// Removes what copies of a cell that has ended have left. One that still runs notices that it came too late.
pub fn remove_copies(directory: &Path, cell: &Cell) -> Result<()> {
    let failed = || format!("cannot read {}", directory.display());
    let start = format!(".{}.", cell.name());
    for entry in fs::read_dir(directory).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        if entry.file_name().to_string_lossy().starts_with(&start) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a directory if it exists. What is added to it meanwhile may stay.
fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Ok(()),
        removed => removed.with_context(|| format!("cannot remove {}", directory.display())),
    }
}

#[cfg(test)]
pub(in crate::matrix) mod tests {
    use super::*;
    use crate::matrix::record::Status;
    use crate::progress::Progress;

    fn open(directory: &Path, copy: &str) -> CellFolder {
        let running = Progress::new(1).begin("max@sid".into());
        CellFolder::open(directory, &Cell::new("max", "sid"), copy, running).unwrap()
    }

    fn with(status: Status) -> Cell {
        Cell { status, ..Cell::new("max", "sid") }
    }

    /// The names of what is in a directory, sorted.
    pub fn entries(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_first_of_two_copies_is_the_cell() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let (mut first, mut second) = (open(at, "7.0"), open(at, "7.1"));
        assert_eq!(entries(at), [".max@sid.7.0", ".max@sid.7.1"]);
        (&mut first).stdout(b"first").unwrap();
        (&mut second).stdout(b"second").unwrap();
        assert_eq!(ended(at, &with(Status::NotRun)), None);
        assert!(second.close(&with(Status::Exited(0))).unwrap());
        assert!(!first.close(&with(Status::Exited(1))).unwrap());
        assert_eq!(entries(at), ["max@sid"]);
        assert_eq!(ended(at, &with(Status::NotRun)), Some(with(Status::Exited(0))));
        assert_eq!(fs::read(at.join("max@sid/stdout")).unwrap(), b"second");
    }

    #[test]
    fn what_killed_copies_leave_is_removed_when_the_cell_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let late = open(at, "7.0");
        assert!(open(at, "7.1").close(&with(Status::Exited(0))).unwrap());
        fs::create_dir_all(at.join(".max@sid-1234.7.0/stdout")).unwrap();
        remove_copies(at, &with(Status::NotRun)).unwrap();
        assert_eq!(entries(at), [".max@sid-1234.7.0", "max@sid"]);
        assert!(late.close(&with(Status::Exited(1))).is_err());
        assert_eq!(ended(at, &with(Status::NotRun)), Some(with(Status::Exited(0))));
    }

    #[test]
    fn only_a_whole_directory_of_this_cell_is_one_that_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let (at, cell) = (directory.path(), with(Status::NotRun));
        let status = at.join("max@sid").join(STATUS);
        for other in [
            None,
            Some("{}".into()),
            Some("\u{0}".into()),
            Some(serde_json::to_string(&with(Status::Lost("NODE_FAIL".into()))).unwrap()),
            Some(serde_json::to_string(&Cell { host: "a".into(), ..with(Status::Exited(0)) }).unwrap()),
        ] {
            fs::create_dir_all(status.parent().unwrap()).unwrap();
            if let Some(text) = &other {
                fs::write(&status, text).unwrap();
            }
            assert_eq!(ended(at, &cell), None, "{other:?}");
            make_place(at, &cell).unwrap();
            assert!(entries(at).is_empty(), "{other:?}");
        }
    }
}
