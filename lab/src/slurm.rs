// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Slurm, by its commands `sbatch`, `squeue` and `scancel`. They must be installed and configured on this machine.
//!
//! Slurm does not say whether a job has done its work: a job that was cancelled or that ran out of time may have exit status 0,
//! and there may be no accounting. So only the state of a job is read here, and what it has done is in files.

mod watch;

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::protocol::printable;

pub use watch::watch;

/// The states of a job that has ended, from squeue(1).
const ENDED: [&str; 12] = [
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "LAUNCH_FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "RECONFIG_FAIL",
    "REVOKED",
    "TIMEOUT",
];
/// The reasons of a job that only waits for its turn.
const TURN: [&str; 4] = ["None", "Priority", "Resources", "Dependency"];

/// A job, or a task of an array of jobs, as `squeue` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The id of the job, or of the array.
    pub job: u64,
    /// The task's index in its array.
    pub index: Option<usize>,
    /// Its state, as in squeue(1).
    pub state: String,
    /// Why it is in this state; `None` if there is no reason.
    pub reason: String,
    /// The nodes on which it runs or ran.
    pub nodes: String,
}

impl Task {
    /// Whether it waits or runs. A state that is not known is one of these.
    pub fn is_alive(&self) -> bool {
        !ENDED.contains(&self.state.as_str())
    }

    /// What keeps a task waiting that does not just wait for its turn, such as a node that is drained or down.
    pub fn obstacle(&self) -> Option<&str> {
        let waits = self.state == "PENDING" && !TURN.contains(&self.reason.as_str());
        waits.then_some(&*self.reason)
    }

    /// Its state with the reason and the nodes.
    pub fn described(&self) -> String {
        let mut text = self.state.clone();
        // Slurm's word for nothing.
        if self.reason != "None" && !self.reason.is_empty() {
            text += &format!(" ({})", self.reason);
        }
        if !self.nodes.is_empty() {
            text += &format!(" on {}", self.nodes);
        }
        text
    }
}

/// This user's jobs: those that wait or run, and those that ended in the last minutes (MinJobAge in slurm.conf).
pub fn queue() -> Result<Vec<Task>> {
    let mut squeue = Command::new("squeue");
    squeue.args(["--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%N|%r"]);
    Ok(run(&mut squeue)?.lines().filter_map(task).collect())
}

/// Reads a line of [`queue`]. Other jobs of this user may have ids that are not read here.
fn task(line: &str) -> Option<Task> {
    let mut parts = line.splitn(4, '|');
    let id = parts.next()?.trim();
    let (job, index) = match id.split_once('_') {
        Some((job, index)) => (job, Some(index.parse().ok()?)),
        None => (id, None),
    };
    let mut text = || Some(printable(parts.next()?.trim().as_bytes()));
    let (state, nodes, reason) = (text()?, text()?, text()?);
    Some(Task { job: job.parse().ok()?, index, state, reason, nodes })
}

/// A node, and the features that its configuration names: all of them, also those of kernels that it could boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its features.
    pub features: Vec<String>,
}

/// All nodes, whatever their state, in the order of their names.
pub fn nodes() -> Result<Vec<Node>> {
    let mut nodes: Vec<Node> = run(Command::new("sinfo").args(["--noheader", "--Node", "--format=%N|%f"]))?
        .lines()
        .filter_map(node)
        .collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    // A node is listed once for each of its partitions.
    nodes.dedup_by(|a, b| a.name == b.name);
    Ok(nodes)
}

/// Reads a line of [`nodes`].
fn node(line: &str) -> Option<Node> {
    let (name, features) = line.split_once('|')?;
    let name = name.trim();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
        return None;
    }
    let features = features.trim().split(',').filter(|feature| !feature.is_empty() && *feature != "(null)");
    Some(Node { name: name.into(), features: features.map(ToOwned::to_owned).collect() })
}

/// What is submitted.
#[derive(Debug)]
pub struct Submission<'a> {
    /// The job's name.
    pub name: &'a str,
    /// The script, of which Slurm takes a copy.
    pub script: &'a Path,
    /// The script's arguments.
    pub arguments: &'a [&'a str],
    /// The file to which the job prints. `%` is sbatch's.
    pub log: &'a Path,
    /// sbatch's other options. The last one of a kind counts.
    pub options: &'a [String],
}

impl Submission<'_> {
    /// Submits it, and returns the job's id.
    pub fn submit(&self) -> Result<u64> {
        let mut sbatch = Command::new("sbatch");
        sbatch
            .args(["--parsable", "--open-mode=append", "--input=/dev/null", "--job-name", self.name])
            .arg("--output")
            .arg(self.log)
            .args(self.options)
            .arg(self.script)
            .args(self.arguments);
        let printed = run(&mut sbatch)?;
        // A cluster's name may follow.
        let id = printed.trim().split(';').next().and_then(|id| id.parse().ok());
        id.with_context(|| format!("sbatch printed no job id: {:?}", printable(printed.as_bytes())))
    }
}

/// Cancels jobs, and all tasks of those that are arrays. Those that have ended are left out.
pub fn cancel(jobs: &[u64]) -> Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    run(Command::new("scancel").arg("--quiet").args(jobs.iter().map(ToString::to_string))).map(drop)
}

/// Runs a command of Slurm until it ends. Ctrl-C does not stop it, because after that jobs are cancelled.
fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = match command.stdin(Stdio::null()).process_group(0).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!(
                "`{program}` is not installed: Slurm's client must be (Debian: slurm-client), with its slurm.conf"
            )
        }
        output => output.with_context(|| format!("cannot run `{program}`"))?,
    };
    if !output.status.success() {
        let lines = output.stderr.split(|&byte| byte == b'\n').map(printable);
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        bail!("`{program}` failed ({}): {}", output.status, lines.join("; "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_are_read_and_those_of_other_jobs_skipped() {
        let line = "12_3|PENDING||ReqNodeNotAvail, UnavailableNodes:n[1-3]";
        let task = super::task;
        let waits = task(line).unwrap();
        assert_eq!((waits.job, waits.index, waits.is_alive()), (12, Some(3), true));
        assert_eq!(waits.obstacle(), Some("ReqNodeNotAvail, UnavailableNodes:n[1-3]"));
        assert_eq!(waits.described(), "PENDING (ReqNodeNotAvail, UnavailableNodes:n[1-3])");
        let ended = task("7|TIMEOUT|n2|TimeLimit").unwrap();
        assert_eq!((ended.job, ended.index, ended.is_alive()), (7, None, false));
        assert_eq!(ended.described(), "TIMEOUT (TimeLimit) on n2");
        assert_eq!(task("7|COMPLETED|n2|None").unwrap().described(), "COMPLETED on n2");
        assert!(task("7|NEW_STATE|n2|None").unwrap().is_alive());
        assert_eq!(task("7|PENDING||Priority").unwrap().obstacle(), None);
        assert_eq!(task("7|RUNNING|n1|a|b").unwrap().reason, "a|b");
        assert_eq!(task("7|RUN\u{1b}[2J|n1|").unwrap().state, "RUN\u{fffd}[2J");
        for other in ["", "7", "7|RUNNING", "7|RUNNING|n1", "12_[3-4]|PENDING||None", "9+1|RUNNING|n1|None"] {
            assert_eq!(task(other), None, "{other}");
        }
        let node = |line| super::node(line).map(|node| (node.name, node.features.join("+")));
        assert_eq!(node("n1|kvm,bp6"), Some(("n1".into(), "kvm+bp6".into())));
        assert_eq!(node("n-2.x|(null)"), Some(("n-2.x".into(), String::new())));
        for other in ["", "n1", "|kvm", "../n|kvm", "n/1|kvm", ".n|", "n 1|"] {
            assert_eq!(node(other), None, "{other}");
        }
        assert_eq!(task("-1|RUNNING|n1|None"), None);
        assert_eq!(task("99999999999999999999|RUNNING|n1|None"), None);
    }
}
