// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A run in its directory. It runs several cells at a time, until all have ended or the run is stopped, or collects cells
//! that others have run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::interrupt::{Interrupted, Signals};
use crate::matrix::cell_folder::{CannotWrite, CellFolder, ended, make_place, remove_copies};
use crate::matrix::record::{Cell, FILE, Record, Status};
use crate::outcome::Outcome;
use crate::pool;
use crate::progress::{Progress, Running};
use crate::virtual_machine::DeadlineOver;

/// The time that another lab may need to collect the cells.
const COLLECTING: Duration = Duration::from_secs(60);

/// Boots the host of a cell and runs the command in it.
pub type RunCell<'a> = dyn Fn(&Cell, &mut CellFolder) -> Result<Outcome> + Sync + 'a;

/// A run and its directory, which is locked against other labs.
#[derive(Debug)]
pub struct Run {
    directory: PathBuf,
    record: Record,
    _lock: Flock<File>,
}

impl Run {
    /// Starts the run of `record` in `directory`, which must be empty or is created. With `resume`, continues the same
    /// run in `directory`.
    pub fn open(directory: &Path, mut record: Record, resume: bool) -> Result<Self> {
        let shown = directory.display();
        if !resume {
            fs::create_dir_all(directory).with_context(|| format!("cannot create {shown}"))?;
        }
        let failed = || match resume {
            true => format!("there is no run in {shown} to continue"),
            false => format!("cannot open {shown}"),
        };
        let lock = Flock::lock(File::open(directory).with_context(failed)?, FlockArg::LockExclusiveNonblock);
        let lock =
            lock.map_err(|(_, error)| anyhow!("cannot lock {shown} ({error}): another lab may use it"))?;
        let mut entries = fs::read_dir(directory).with_context(|| format!("cannot read {shown}"))?;
        if resume {
            if !directory.join(FILE).exists() {
                bail!("there is no run in {shown} to continue: it has no {FILE}");
            }
            Record::load(directory)
                .and_then(|earlier| record.resume(earlier, |cell| ended(directory, cell)))
                .with_context(|| format!("cannot continue {shown} (another --out starts a new run)"))?;
            record.cells.iter().try_for_each(|cell| make_place(directory, cell))?;
        } else if entries.next().is_some() {
            bail!("{shown} is not empty: --resume continues the run in it, another --out starts a new one");
        }
        record.save(directory)?;
        Ok(Self { directory: directory.to_owned(), record, _lock: lock })
    }

    /// Opens the run in `directory` as it is, to collect its cells. Another lab that does so now is waited for.
    pub fn reopen(directory: &Path) -> Result<Self> {
        let shown = directory.display();
        let until = Instant::now() + COLLECTING;
        let mut file = File::open(directory).with_context(|| format!("there is no run in {shown}"))?;
        let lock = loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => break lock,
                Err((returned, Errno::EWOULDBLOCK)) if Instant::now() < until => file = returned,
                Err((_, error)) => bail!("cannot lock {shown} ({error}): another lab may use it"),
            }
            sleep(Duration::from_millis(100));
        };
        let record = Record::load(directory)?;
        Ok(Self { directory: directory.to_owned(), record, _lock: lock })
    }

    /// The cells that have not ended, by their index.
    pub fn left(&self) -> Vec<(usize, Cell)> {
        let left = self.record.cells.iter().enumerate().filter(|(_, cell)| !cell.status.has_ended());
        left.map(|(index, cell)| (index, cell.clone())).collect()
    }

    /// Takes over each cell that has ended since. `status` is that of the others.
    pub fn collect(&mut self, status: impl Fn(usize) -> Status) -> Result<()> {
        for (index, cell) in self.left() {
            match ended(&self.directory, &cell) {
                Some(cell) => self.record.set(index, cell),
                None => self.record.set(index, Cell { status: status(index), ..cell }),
            }
        }
        for cell in self.record.cells.iter().filter(|cell| cell.status.has_ended()) {
            remove_copies(&self.directory, cell)?;
        }
        self.record.save(&self.directory)
    }

    /// The record of the run.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Runs the cells that have not ended, `jobs` at a time. If `signals` stop the run, or if the directory cannot be written, the record says which cells have ended.
    pub fn go(&mut self, jobs: usize, signals: &Signals, run_cell: &RunCell<'_>) -> Result<()> {
        let left = self.left();
        let progress = Progress::new(left.len());
        let directory = self.directory.clone();
        let work =
            |(_, cell): &(usize, Cell)| one(&directory, cell, "local", progress.begin(cell.name()), run_cell);
        pool::run(left, jobs, signals, &work, |(index, cell), result| {
            let cell = match result {
                Some(cell) => {
                    progress.say(format!("lab: {}\n", line(&self.directory, &cell)));
                    progress.ended();
                    cell
                }
                None => Cell { status: Status::Interrupted, ..cell },
            };
            self.record.set(index, cell);
            self.record.save(&self.directory)
        })
    }
}

/// How a cell ended, and the path of its directory if it did not succeed.
pub fn line(directory: &Path, cell: &Cell) -> String {
    let seconds = cell.milliseconds.unwrap_or_default().div_ceil(1000);
    let line = format!("{}: {} ({seconds} s)", cell.name(), cell.status);
    if cell.status.is_good() {
        line
    } else {
        format!("{line}; see {}", directory.join(cell.name()).display())
    }
}

/// Runs a copy of a cell until it ends, and returns how the cell ended, which is that of another copy if that was faster. An
/// error is not the fault of the cell.
pub fn one(
    directory: &Path,
    cell: &Cell,
    copy: &str,
    running: Running,
    run_cell: &RunCell<'_>,
) -> Result<Cell> {
    let start = Instant::now();
    let mut folder = CellFolder::open(directory, cell, copy, running)?;
    let status = match run_cell(cell, &mut folder) {
        Ok(outcome) => outcome.into(),
        Err(error) if error.is::<Interrupted>() || error.is::<CannotWrite>() => return Err(error),
        Err(error) => match error.downcast_ref() {
            Some(DeadlineOver(deadline)) => Status::Deadline(deadline.as_secs()),
            None => Status::NoReport(format!("{error:#}")),
        },
    };
    let milliseconds = u64::try_from(start.elapsed().as_millis()).ok();
    let cell = Cell { status, facts: folder.facts().cloned(), milliseconds, ..cell.clone() };
    if folder.close(&cell)? {
        return Ok(cell);
    }
    ended(directory, &cell).with_context(|| {
        format!("{} is not the directory of a cell that has ended", directory.join(cell.name()).display())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Barrier, Mutex};
    use std::time::Duration;

    use nix::sys::signal::Signal;

    use super::*;
    use crate::console::Output;
    use crate::facts::Facts;
    use crate::hosts::Hosts;
    use crate::matrix::cell_folder::tests::entries;
    use crate::matrix::kernels::Kernel;

    fn planned() -> Record {
        let names = ["max", "neoverse-n1"].map(ToOwned::to_owned);
        let hosts = Hosts::load(None).unwrap();
        let kernel = |name: &str| Kernel {
            name: name.into(),
            asked_for: vec![name.into()],
            sha256: name.into(),
            source: None,
            release: None,
        };
        let kernels = ["bookworm", "trixie", "sid"].map(kernel).to_vec();
        Record::new("10.0.2", &["./t".into()], "f00d", &hosts.several(&names).unwrap(), kernels)
    }

    fn statuses(run: &Run) -> Vec<Status> {
        run.record().cells.iter().map(|cell| cell.status.clone()).collect()
    }

    fn prints(cell: &Cell, folder: &mut CellFolder) -> Result<Outcome> {
        let mut output = folder;
        let (release, no_kvm) = (cell.kernel.clone(), Some("none here".into()));
        output.facts(Facts { release, midr: None, mode: None, id_aa64dfr0: None, no_kvm })?;
        output.stdout(b"ok 1 ")?;
        output.stdout(cell.host.as_bytes())?;
        output.stderr(b"a warning\n")?;
        output.note("host: a message")?;
        Ok(Outcome::Exited(0))
    }

    #[test]
    fn each_cell_runs_once_and_leaves_its_directory() {
        let (directory, signals) = (tempfile::tempdir().unwrap(), Signals::hold().unwrap());
        let out = directory.path().join("some/run");
        let mut run = Run::open(&out, planned(), false).unwrap();
        let count = AtomicUsize::new(0);
        // This never ends unless two cells run at a time.
        let two = Barrier::new(2);
        let run_cell = |cell: &Cell, folder: &mut CellFolder| {
            two.wait();
            count.fetch_add(1, Ordering::Relaxed);
            prints(cell, folder)
        };
        run.go(2, &signals, &run_cell).unwrap();

        assert_eq!((count.into_inner(), run.record().exit().status()), (6, 0));
        assert_eq!(Record::load(&out).unwrap(), *run.record());
        assert_eq!(entries(&out).len(), 7);
        let cell = out.join("neoverse-n1@trixie");
        assert_eq!(entries(&cell), ["kernel.log", "status.json", "stderr", "stdout"]);
        assert_eq!(fs::read(cell.join("stdout")).unwrap(), b"ok 1 neoverse-n1");
        assert_eq!(fs::read(cell.join("stderr")).unwrap(), b"a warning\n");
        assert_eq!(fs::read(cell.join("kernel.log")).unwrap(), b"host: a message\n");
        let kernel = &run.record().kernels[1];
        assert_eq!((kernel.name.as_str(), kernel.release.as_deref()), ("trixie", Some("trixie")));
    }

    #[test]
    fn each_way_to_end_has_its_own_status() {
        let (directory, signals) = (tempfile::tempdir().unwrap(), Signals::hold().unwrap());
        let mut run = Run::open(directory.path(), planned(), false).unwrap();
        let run_cell = |cell: &Cell, folder: &mut CellFolder| match cell.name().as_str() {
            "max@bookworm" => Ok(Outcome::Exited(125)),
            "max@trixie" => Ok(Outcome::Killed(6)),
            "max@sid" => Ok(Outcome::Refused("another shape".into())),
            "neoverse-n1@bookworm" => {
                let mut output = folder;
                output.stdout(b"ok 1 of 2\n")?;
                Err(DeadlineOver(Duration::from_secs(9))).context("host neoverse-n1")
            }
            "neoverse-n1@trixie" => bail!("the host died"),
            _ => Ok(Outcome::Exited(4)),
        };
        run.go(1, &signals, &run_cell).unwrap();
        let expected = [
            Status::Exited(125),
            Status::Killed(6),
            Status::Refused("another shape".into()),
            Status::Deadline(9),
            Status::NoReport("the host died".into()),
            Status::Exited(4),
        ];
        assert_eq!((statuses(&run), run.record().exit().status()), (expected.to_vec(), 1));
        let late = directory.path().join("neoverse-n1@bookworm/stdout");
        assert_eq!(fs::read(late).unwrap(), b"ok 1 of 2\n");
    }

    /// A run in `directory` that is stopped at its second cell.
    fn interrupted(directory: &Path) -> Run {
        let signals = Signals::hold().unwrap();
        let mut run = Run::open(directory, planned(), false).unwrap();
        let run_cell = |cell: &Cell, folder: &mut CellFolder| match cell.kernel.as_str() {
            "trixie" => Err(Interrupted(Signal::SIGINT)).context("in the cell"),
            _ => prints(cell, folder),
        };
        let error = run.go(1, &signals, &run_cell).unwrap_err();
        assert!(error.is::<Interrupted>(), "{error:#}");
        run
    }

    #[test]
    fn an_interrupted_run_starts_no_more_cells_and_can_be_resumed() {
        let directory = tempfile::tempdir().unwrap();
        let run = interrupted(directory.path());
        let mut expected = vec![Status::NotRun; 6];
        expected[0] = Status::Exited(0);
        expected[1] = Status::Interrupted;
        assert_eq!(statuses(&run), expected);
        assert_eq!(Record::load(directory.path()).unwrap(), *run.record());
        assert_eq!(entries(directory.path()), ["matrix.json", "max@bookworm"]);
        drop(run);

        // The directories that a killed lab leaves do no harm.
        fs::create_dir_all(directory.path().join(".max@trixie.local/stdout")).unwrap();
        fs::create_dir_all(directory.path().join("max@sid/stdout")).unwrap();
        let mut run = Run::open(directory.path(), planned(), true).unwrap();
        let ran = Mutex::new(Vec::new());
        let run_cell = |cell: &Cell, folder: &mut CellFolder| {
            ran.lock().unwrap().push(cell.name());
            prints(cell, folder)
        };
        run.go(1, &Signals::hold().unwrap(), &run_cell).unwrap();
        let names: Vec<_> = run.record().cells.iter().map(Cell::name).collect();
        assert_eq!(ran.into_inner().unwrap(), names[1..]);
        assert_eq!(statuses(&run), vec![Status::Exited(0); 6]);
        assert_eq!(entries(directory.path()).len(), 7);
    }

    #[test]
    fn a_cell_without_its_directory_runs_again() {
        let directory = tempfile::tempdir().unwrap();
        drop(interrupted(directory.path()));
        fs::remove_dir_all(directory.path().join("max@bookworm")).unwrap();
        let run = Run::open(directory.path(), planned(), true).unwrap();
        assert_eq!(statuses(&run), vec![Status::NotRun; 6]);
    }

    #[test]
    fn a_directory_must_be_empty_or_contain_a_run_to_resume() {
        let directory = tempfile::tempdir().unwrap();
        let open = |resume| format!("{:#}", Run::open(directory.path(), planned(), resume).unwrap_err());
        assert!(open(true).contains("it has no matrix.json"), "{}", open(true));
        fs::write(directory.path().join("thesis"), "").unwrap();
        assert!(open(false).contains("is not empty: --resume"), "{}", open(false));
        assert_eq!(entries(directory.path()), ["thesis"]);
        fs::write(directory.path().join(FILE), "{}").unwrap();
        assert!(
            open(true).contains("cannot continue") && open(true).contains("missing field"),
            "{}",
            open(true)
        );

        let missing = directory.path().join("missing");
        let error = format!("{:#}", Run::open(&missing, planned(), true).unwrap_err());
        assert!(error.contains("no run in") && !missing.exists(), "{error}");
    }

    #[test]
    fn two_labs_do_not_share_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let _first = Run::open(directory.path(), planned(), false).unwrap();
        let error = Run::open(directory.path(), planned(), true).unwrap_err().to_string();
        assert!(error.contains("another lab"), "{error}");
    }

    #[test]
    fn no_cell_ends_if_the_directory_cannot_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let gone = |cell: &Cell, folder: &mut CellFolder| {
            fs::remove_dir_all(directory.path().join("1")).unwrap();
            prints(cell, folder)
        };
        let full = |_: &Cell, _: &mut CellFolder| {
            let source = std::io::ErrorKind::StorageFull.into();
            Err(CannotWrite { path: "2/stdout".into(), source }.into())
        };
        for (name, run_cell) in [("1", &gone as &RunCell<'_>), ("2", &full)] {
            let mut run = Run::open(&directory.path().join(name), planned(), false).unwrap();
            let error = format!("{:#}", run.go(1, &Signals::hold().unwrap(), run_cell).unwrap_err());
            assert!(error.contains("cannot write"), "{error}");
            assert!(run.record().cells.iter().all(|cell| !cell.status.has_ended()));
        }
    }
}
