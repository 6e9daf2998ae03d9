// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The cells of a run as jobs of Slurm: an array with a task for each cell, and a job after it that collects what they left.
//!
//! Truth is in the run's directory. Slurm is only asked which tasks still wait or run, and why one has no result.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::cache::write_whole;
use crate::interrupt::Signals;
use crate::matrix::cell_folder::ended;
use crate::matrix::plan::{self, Frozen};
use crate::matrix::record::{Cell, Status, read_json, write_json};
use crate::matrix::run::{Run, line};
use crate::progress::Progress;
use crate::protocol::printable;
use crate::slurm::{self, Submission, Task, watch};

const FILE: &str = "jobs.json";
/// A job runs its arguments. That of a task gets the index too.
const SCRIPT: &str = "#!/bin/sh\nexec \"$@\" $SLURM_ARRAY_TASK_ID\n";
/// What a job may need in addition to the deadline of its cell, in seconds: QEMU starts, and a host that does not boot is
/// booted again.
const MARGIN: u64 = 180;
/// The time of the job that collects, in minutes.
const COLLECTS: u64 = 15;
/// Slurm is asked this often whether jobs that were cancelled have ended.
const PAUSE: Duration = Duration::from_secs(1);

/// The jobs of a run, in its plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    /// The arrays, each with a task for each cell that had no result then. The last one with a task of a cell is the cell's.
    pub arrays: Vec<u64>,
    /// The job that collects the cells.
    pub collector: Option<u64>,
}

/// How the jobs are submitted.
#[derive(Debug)]
pub struct Settings<'a> {
    /// Options of sbatch.
    pub sbatch: &'a [String],
    /// Slurm cancels a job that cannot end within this number of seconds, so that none waits for ever.
    pub within: u64,
    /// How many cells run at a time.
    pub at_a_time: Option<u16>,
    /// The program that makes the reports.
    pub dfr0: Option<&'a Path>,
}

impl Jobs {
    /// The jobs that were submitted for the run in `directory`.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join(plan::DIRECTORY).join(FILE);
        if path.exists() { read_json(&path) } else { Ok(Self::default()) }
    }

    /// Submits the cells of `run`, which is in `directory`, that have no result and are not in Slurm's queue.
    pub fn submit(run: &Run, directory: &Path, frozen: &Frozen, settings: &Settings<'_>) -> Result<Self> {
        let place = directory.join(plan::DIRECTORY);
        let mut jobs = Self::load(directory)?;
        let tasks = slurm::queue()?;
        let queued: BTreeSet<usize> = jobs.alive(&tasks).iter().filter_map(|task| task.index).collect();
        if !queued.is_empty() && frozen.differs(&place) {
            bail!(
                "jobs of this run are in Slurm's queue, and the order of hosts and kernels or the deadline was another: wait \
                 for them, or cancel them with `scancel {}`",
                jobs.ids()
            );
        }
        let left: Vec<usize> = run.left().into_iter().map(|(index, _)| index).collect();
        let missing: Vec<String> =
            left.iter().filter(|index| !queued.contains(index)).map(ToString::to_string).collect();
        if left.is_empty() {
            return Ok(jobs);
        }
        frozen.write(&place)?;
        let programs = Programs::write(&place, settings.dfr0)?;
        // One that was submitted before would collect too early.
        slurm::cancel(jobs.collector.as_slice())?;
        let submit = |name: &str, log: &str, arguments: &[&str], options: &[String]| {
            let environment = "--export=ALL,DFR0_NO_INSTALL=1".to_owned();
            let options = [&[environment], options, settings.sbatch].concat();
            // sbatch replaces what follows a `%`.
            let log = format!("{}/log/{log}", argument(&place)?.replace('%', "%%"));
            Submission { name, script: &programs.script, arguments, log: log.as_ref(), options: &options }
                .submit()
        };
        let (directory, lab) = (argument(directory)?, argument(&programs.lab)?);
        if !missing.is_empty() {
            let minutes = (frozen.plan().deadline + MARGIN).div_ceil(60);
            let options = [
                format!(
                    "--array={}{}",
                    missing.join(","),
                    settings.at_a_time.map_or_else(String::new, |n| format!("%{n}"))
                ),
                "--requeue".into(),
                format!("--time={minutes}"),
                format!("--deadline=now+{}seconds", settings.within.max(minutes * 60 + 60)),
            ];
            jobs.arrays.push(submit("dfr0-matrix", "%A_%a", &[lab, "matrix", "cell", directory], &options)?);
            write_json(&place.join(FILE), &jobs)?;
        }
        let mut after: BTreeSet<u64> = jobs.alive(&tasks).iter().map(|task| task.job).collect();
        after.extend(jobs.arrays.last().filter(|_| !missing.is_empty()));
        let after: Vec<_> = after.iter().map(|id| format!(":{id}")).collect();
        let options = [format!("--dependency=afterany{}", after.concat()), format!("--time={COLLECTS}")];
        jobs.collector =
            Some(submit("dfr0-collect", "%A", &[lab, "matrix", "collect", directory], &options)?);
        write_json(&place.join(FILE), &jobs)?;
        Ok(jobs)
    }

    /// The ids of the jobs, separated by spaces.
    pub fn ids(&self) -> String {
        let ids: Vec<_> = self.arrays.iter().chain(&self.collector).map(ToString::to_string).collect();
        ids.join(" ")
    }

    /// Cancels all jobs.
    pub fn cancel(&self) -> Result<()> {
        let ids: Vec<u64> = self.arrays.iter().chain(&self.collector).copied().collect();
        slurm::cancel(&ids)
    }

    /// Waits until each of `left` has ended, or until no task waits or runs. Says which cells end and what the others wait for.
    pub fn wait(&self, directory: &Path, left: &[(usize, Cell)], signals: &Signals) -> Result<()> {
        let progress = Progress::new(left.len());
        let left: RefCell<BTreeMap<usize, &Cell>> =
            RefCell::new(left.iter().map(|(index, cell)| (*index, cell)).collect());
        let say = |text: String| progress.say(format!("lab: {text}\n"));
        let name = |task: &Task| Some(left.borrow().get(&task.index?)?.name());
        let look = || {
            left.borrow_mut().retain(|_, cell| match ended(directory, cell) {
                Some(cell) => {
                    say(line(directory, &cell));
                    progress.ended();
                    false
                }
                None => true,
            });
            left.borrow().len()
        };
        watch(&self.arrays, signals, &name, &say, &look)
    }

    /// Waits until no task waits or runs.
    pub fn wait_for_end(&self) -> Result<()> {
        while !self.alive(&slurm::queue()?).is_empty() {
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Why the cell with this index has no result.
    pub fn lost(&self, tasks: &[Task], index: usize, directory: &Path) -> Status {
        let of = |job: &u64| tasks.iter().find(|task| task.job == *job && task.index == Some(index));
        let Some(task) = self.arrays.iter().rev().find_map(of) else {
            return Status::Lost(match self.arrays.last() {
                Some(job) => format!("Slurm does not know its job {job}_{index} any more"),
                None => "no job was submitted".into(),
            });
        };
        let job = format!("{}_{index}", task.job);
        let mut reason = format!("its job {job}: {}", task.described());
        let log = directory.join(plan::DIRECTORY).join("log").join(job);
        if let Some(last) = last_line(&log) {
            reason += &format!("; it printed `{last}`");
        }
        Status::Lost(reason)
    }

    /// The tasks that wait or run.
    fn alive<'a>(&self, tasks: &'a [Task]) -> Vec<&'a Task> {
        tasks.iter().filter(|task| self.arrays.contains(&task.job) && task.is_alive()).collect()
    }
}

/// The end of the last line of a file that is not empty.
pub fn last_line(path: &Path) -> Option<String> {
    const SHOWN: u64 = 400;
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(SHOWN))).ok()?;
    let mut end = Vec::new();
    file.take(SHOWN).read_to_end(&mut end).ok()?;
    let mut lines = end.split(|&byte| byte == b'\n').rev();
    lines.find(|line| !line.trim_ascii().is_empty()).map(|line| printable(line.trim_ascii()))
}

/// The programs that jobs run. They are in the plan, because those of this machine may be built again meanwhile.
struct Programs {
    lab: PathBuf,
    script: PathBuf,
}

impl Programs {
    fn write(place: &Path, dfr0: Option<&Path>) -> Result<Self> {
        let log = place.join("log");
        fs::create_dir_all(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let programs = Self { lab: place.join("lab"), script: place.join("job") };
        let this = env::current_exe().context("cannot find this program's own path")?;
        for (from, to) in [(Some(this.as_path()), &programs.lab), (dfr0, &reporter(place))] {
            if let Some(from) = from {
                let mut file = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
                plan::copy(&mut file, to, 0o755)?;
            }
        }
        write_whole(&programs.script, 0o755, |file| Ok(file.write_all(SCRIPT.as_bytes())?))?;
        Ok(programs)
    }
}

fn argument(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8, and a job needs the path", path.display()))
}

/// The program that makes the reports, in a plan.
pub fn reporter(place: &Path) -> PathBuf {
    place.join("dfr0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(job: u64, index: usize, state: &str, reason: &str) -> Task {
        Task { job, index: Some(index), state: state.into(), reason: reason.into(), nodes: String::new() }
    }

    fn jobs(arrays: &[u64]) -> Jobs {
        Jobs { arrays: arrays.to_vec(), collector: None }
    }

    #[test]
    fn a_cell_without_a_result_has_the_reason_of_its_last_job() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("plan/log");
        fs::create_dir_all(&log).unwrap();
        fs::write(log.join("9_1"), format!("{}\nlab: no \u{1b}[2Jfile\n\n", "x".repeat(1000))).unwrap();
        let tasks = [
            task(7, 1, "TIMEOUT", "TimeLimit"),
            task(9, 1, "FAILED", "NonZeroExitCode"),
            task(7, 2, "NODE_FAIL", "None"),
            task(8, 3, "CANCELLED", "None"),
            task(9, 4, "PENDING", "BadConstraints"),
        ];
        let lost = |index| match jobs(&[7, 9]).lost(&tasks, index, directory.path()) {
            Status::Lost(reason) => reason,
            other => panic!("{other}"),
        };
        assert_eq!(lost(1), "its job 9_1: FAILED (NonZeroExitCode); it printed `lab: no \u{fffd}[2Jfile`");
        assert_eq!(lost(2), "its job 7_2: NODE_FAIL");
        assert_eq!(lost(3), "Slurm does not know its job 9_3 any more");
        assert_eq!(lost(4), "its job 9_4: PENDING (BadConstraints)");
        let none = jobs(&[]).lost(&tasks, 1, directory.path());
        assert_eq!(none, Status::Lost("no job was submitted".into()));
    }

    #[test]
    fn the_jobs_of_a_run_can_be_written_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Jobs::load(directory.path()).unwrap(), Jobs::default());
        let place = directory.path().join(plan::DIRECTORY);
        fs::create_dir(&place).unwrap();
        let jobs = Jobs { arrays: vec![7, 9], collector: Some(10) };
        write_json(&place.join(FILE), &jobs).unwrap();
        assert_eq!(Jobs::load(directory.path()).unwrap(), jobs);
        assert_eq!(jobs.ids(), "7 9 10");
        fs::write(place.join(FILE), "{\"arrays\":[-1]}").unwrap();
        assert!(format!("{:#}", Jobs::load(directory.path()).unwrap_err()).contains("jobs.json"));
    }
}
