// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The CPUs on which the calling thread runs.

use crate::guest::Error;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity},
    sys::resource::{UsageWho, getrusage},
    unistd::Pid,
};

/// The calling thread, for the system calls that take one.
const THIS_THREAD: Pid = Pid::from_raw(0);

/// The CPUs that the calling thread may run on, in their order.
pub fn allowed() -> Result<Vec<usize>, Error> {
    Ok(members(&affinity()?))
}

/// How often the calling thread was preempted by another.
pub fn preemptions() -> Result<i64, Error> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).map_err(|errno| failed("getrusage", errno))?;
    Ok(usage.involuntary_context_switches())
}

/// Keeps the thread that made it on one CPU. When this is dropped, the thread may run again where it could
/// before.
#[derive(Debug)]
pub struct Pinned {
    before: CpuSet,
    cpus: Vec<usize>,
    place: usize,
}

impl Pinned {
    /// Keeps the calling thread on the CPU on which it runs.
    pub fn here() -> Result<Self, Error> {
        let here = sched_getcpu().map_err(|errno| failed("sched_getcpu", errno))?;
        let place = allowed()?.iter().position(|cpu| *cpu == here);
        Self::at(place.unwrap_or_default())
    }

    /// Keeps the calling thread on the CPU at this place among those on which it may run; the count wraps
    /// around.
    pub fn at(place: usize) -> Result<Self, Error> {
        let before = affinity()?;
        let cpus = members(&before);
        let mut pinned = Self { before, cpus, place };
        pinned.settle()?;
        Ok(pinned)
    }

    /// Moves the thread to the next CPU. If there is only one, it stays.
    pub fn advance(&mut self) -> Result<(), Error> {
        self.place += 1;
        self.settle()
    }

    fn settle(&mut self) -> Result<(), Error> {
        self.place %= self.cpus.len().max(1);
        let Some(cpu) = self.cpus.get(self.place) else { return Ok(()) };
        let mut set = CpuSet::new();
        set.set(*cpu)
            .and_then(|()| sched_setaffinity(THIS_THREAD, &set))
            .map_err(|errno| failed(&format!("sched_setaffinity to CPU {cpu}"), errno))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let restored = sched_setaffinity(THIS_THREAD, &self.before);
        debug_assert!(restored.is_ok(), "what was allowed before is allowed again");
    }
}

/// Keeps the calling thread, and those that it makes from now on, on these CPUs.
pub fn keep_to(cpus: &[usize]) -> Result<(), Error> {
    let mut set = CpuSet::new();
    cpus.iter()
        .try_for_each(|cpu| set.set(*cpu))
        .and_then(|()| sched_setaffinity(THIS_THREAD, &set))
        .map_err(|errno| failed("sched_setaffinity", errno))
}

fn affinity() -> Result<CpuSet, Error> {
    sched_getaffinity(THIS_THREAD).map_err(|errno| failed("sched_getaffinity", errno))
}

fn members(set: &CpuSet) -> Vec<usize> {
    (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect()
}

fn failed(what: &str, errno: nix::Error) -> Error {
    Error::System { what: what.into(), source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_kept_on_one_cpu_after_another_and_then_released() {
        let before = allowed().expect("CPUs");
        let here = Pinned::here().expect("pinned");
        assert_eq!(allowed().expect("CPUs").len(), 1);
        drop(here);
        let mut pinned = Pinned::at(0).expect("pinned");
        assert_eq!(allowed().expect("CPUs"), before[..1]);
        pinned.advance().expect("moved");
        assert_eq!(allowed().expect("CPUs"), [before[1 % before.len()]]);
        drop(pinned);
        assert_eq!(allowed().expect("CPUs"), before);
    }
}
