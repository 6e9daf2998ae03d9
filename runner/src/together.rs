// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! vCPUs that run at the same time, each in a thread and a VM of its own.

use crate::{
    case::{Common, Context, Report, Stop},
    cpus::{self, Pinned},
    guest::Error,
};
use dfr0_model::scenario::Scenario;
use std::{
    sync::Barrier,
    thread::{self, ScopedJoinHandle},
};

/// A thread ends after this many preemptions.
const ENOUGH: i64 = 32;
/// A thread ends after this many turns, however often it was preempted.
const TURNS: usize = 64;
/// How many turns a thread has if it does not share its CPU.
const TURNS_ALONE: usize = 4;

/// Where vCPUs run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// All on one CPU: the kernel preempts each for the others.
    OneCpu,
    /// Each on a CPU of its own.
    CpuEach,
}

/// What one thread found.
struct Ran {
    report: Report,
    /// How often the thread was preempted.
    preemptions: i64,
    result: Result<(), Stop>,
}

impl Context<'_> {
    /// Runs these lists of scenarios at the same time, on one CPU or each on a CPU of its own. Each list is
    /// repeated until its thread was preempted often enough or has had its turns. The case is skipped if a
    /// thread was never preempted.
    pub fn check_together(&mut self, on: Together, lists: &[Vec<Scenario>]) -> Result<(), Stop> {
        if self.is_on_paper() {
            return lists.iter().flatten().try_for_each(|scenario| self.list(scenario.clone()));
        }
        if !self.is_kvm() {
            return Err(Error::NoVcpu("vCPUs at the same time".into()).into());
        }
        if on == Together::CpuEach && self.cpus()? < lists.len() {
            return Stop::skip(format!("this thread may run on fewer than {} CPUs", lists.len()));
        }
        let start = Barrier::new(lists.len());
        let common = &self.session().common(lists.len());
        let threads: Vec<_> = thread::scope(|scope| {
            let start = &start;
            let spawn = |place: usize| scope.spawn(move || beside(common, place, on, start, &lists[place]));
            let threads: Vec<_> = (0..lists.len()).map(spawn).collect();
            threads.into_iter().map(ScopedJoinHandle::join).collect()
        });
        let mut never_preempted = false;
        for ran in threads {
            let Ok(Ran { report, preemptions, result }) = ran else {
                let panicked = "a thread of the case panicked; the message is on standard error";
                return Err(Error::Unfit(panicked.into()).into());
            };
            self.report.add(report);
            result?;
            never_preempted |= preemptions == 0;
        }
        if on == Together::OneCpu && never_preempted && self.report.findings.is_empty() {
            return Stop::skip(format!("in {TURNS} turns a vCPU was never preempted"));
        }
        Ok(())
    }
}

/// One thread of [`Context::check_together`].
fn beside(common: &Common, place: usize, on: Together, start: &Barrier, list: &[Scenario]) -> Ran {
    let place = if on == Together::OneCpu { 0 } else { place };
    let prepared = Pinned::at(place).and_then(|pinned| Ok((pinned, common.open()?)));
    // A thread that failed lets the others start too.
    start.wait();
    let mut ran = Ran { report: Report::default(), preemptions: 0, result: Ok(()) };
    ran.result = prepared.map_err(Stop::from).and_then(|(_pinned, mut session)| {
        let mut context = Context::new(&mut session);
        let result = turns(&mut context, on, list, &mut ran.preemptions);
        ran.report = context.report;
        result
    });
    if let Err(Stop::Broken(Error::Died(death))) = &mut ran.result {
        death.reason = format!("beside another vCPU: {}", death.reason);
    }
    ran
}

/// Runs the vCPU's turns, and counts how often it was preempted.
fn turns(
    context: &mut Context<'_>,
    on: Together,
    list: &[Scenario],
    preemptions: &mut i64,
) -> Result<(), Stop> {
    let before = cpus::preemptions()?;
    let most = if on == Together::OneCpu { TURNS } else { TURNS_ALONE };
    for _ in 0..most {
        context.check_each(list.iter().cloned())?;
        *preemptions = cpus::preemptions()? - before;
        if *preemptions >= ENOUGH && on == Together::OneCpu || !context.report.findings.is_empty() {
            break;
        }
    }
    // How many turns it takes is not the same in each run.
    context.report.checks = list.len();
    Ok(())
}
