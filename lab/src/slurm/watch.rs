// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Waiting for jobs, and saying what they wait for.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use super::{Task, queue};
use crate::interrupt::{Signals, poll_timeout};

/// Slurm is asked this often at first, and less often while nothing changes.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15);

/// Waits until `look` finds that nothing is left, or until none of `jobs` waits or runs. `look` looks at the files and returns the
/// number of those that are missing, `name` is what a task is called if its file is missing, and `say` shows a line.
pub fn watch(
    jobs: &[u64],
    signals: &Signals,
    name: &dyn Fn(&Task) -> Option<String>,
    say: &dyn Fn(String),
    look: &dyn Fn() -> usize,
) -> Result<()> {
    let mut before: Vec<String> = Vec::new();
    let mut count = look();
    let mut pause = SHORTEST;
    let mut over = false;
    while count > 0 {
        signals.wait(&[], poll_timeout(pause))?;
        let (state, alive) = match queue() {
            Ok(mut tasks) => {
                tasks.retain(|task| jobs.contains(&task.job) && task.is_alive());
                (obstacles(&tasks, name), !tasks.is_empty())
            }
            // Slurm's controller may start again.
            Err(error) => (vec![format!("Slurm does not answer: {error:#}")], true),
        };
        let left = look();
        // A job that Slurm starts again has ended for a moment.
        if over && !alive {
            return Ok(());
        }
        over = !alive;
        for line in state.iter().filter(|line| !before.contains(line)) {
            say(line.clone());
        }
        let changed = left != count || state != before || over;
        pause = if changed { SHORTEST } else { (pause * 3 / 2).min(LONGEST) };
        (before, count) = (state, left);
    }
    Ok(())
}

/// What tasks wait for, if it is not their turn: one line for each reason.
fn obstacles(tasks: &[Task], name: &dyn Fn(&Task) -> Option<String>) -> Vec<String> {
    let mut names: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for task in tasks {
        if let (Some(obstacle), Some(name)) = (task.obstacle(), name(task)) {
            names.entry(obstacle).or_default().push(name);
        }
    }
    let line = |(obstacle, names): (&str, Vec<String>)| match &names[..] {
        [first, others @ ..] if !others.is_empty() => {
            format!("{first} and {} others wait: {}", others.len(), explain(obstacle))
        }
        names => format!("{} waits: {}", names.concat(), explain(obstacle)),
    };
    names.into_iter().map(line).collect()
}

/// A reason of Slurm's, and what it means.
fn explain(reason: &str) -> String {
    let meaning = match reason.split([',', ' ']).next().unwrap_or_default() {
        "BeginTime" => "Slurm starts it again, some minutes after its node failed",
        "ReqNodeNotAvail" | "Nodes" => "its nodes are drained, reserved or down; `sinfo -R` says why",
        "PartitionDown" | "PartitionInactive" => "the partition is down",
        "BadConstraints" => "no node has what the job asks for",
        reason if reason.starts_with("JobHeld") => "it is held; `scontrol release` lets it go",
        reason if reason.starts_with("Assoc") || reason.starts_with("QOS") => {
            "a limit of the account is reached"
        }
        _ => return reason.to_owned(),
    };
    format!("{reason} ({meaning})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_listed_by_what_they_wait_for() {
        let task = |index, reason: &str| Task {
            job: 7,
            index: Some(index),
            state: "PENDING".into(),
            reason: reason.into(),
            nodes: String::new(),
        };
        let drained = "ReqNodeNotAvail, UnavailableNodes:n3";
        let tasks = [
            task(0, drained),
            task(1, "BeginTime"),
            task(2, drained),
            task(3, drained),
            task(4, "Priority"),
            task(5, "SomethingNew"),
        ];
        let name = |task: &Task| (task.index != Some(3)).then(|| format!("cell {}", task.index.unwrap()));
        let lines = obstacles(&tasks, &name);
        let [first, second, third] = &lines[..] else { panic!("{lines:?}") };
        assert!(first.starts_with("cell 1 waits: BeginTime (Slurm starts it again"), "{first}");
        let expected = format!("cell 0 and 1 others wait: {drained} (its nodes are drained");
        assert!(second.starts_with(&expected), "{second}");
        assert_eq!(third, "cell 5 waits: SomethingNew");
    }
}
