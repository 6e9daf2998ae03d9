// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Suites and cases, and what a case may ask for.

use crate::{
    cpus::{self, Pinned},
    guest::{Config, DEADLINE_AFTER_DEATH, Error, Guest, Kvm},
    host::{Host, Unavailable},
};
use dfr0_model::{
    judge::judge,
    pe::{Pe, Unknown},
    rule::Rule,
    scenario::{Op, Scenario},
    shape::Shape,
};
use proptest::{
    strategy::Strategy,
    test_runner::{self, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use std::{cell::RefCell, collections::BTreeMap, fmt, sync::Barrier, thread, time::Duration};

/// One subject: a test program, and its cases.
#[derive(Clone, Copy)]
pub struct Suite {
    /// The subject, and the first part of each case's name.
    pub name: &'static str,
    /// What is tested, in one line.
    pub about: &'static str,
    /// Its cases, the same on every host.
    pub cases: fn() -> Vec<Case>,
}

/// What a case does.
type Test = Box<dyn Fn(&mut Context<'_>) -> Result<(), Stop> + Send>;

/// One test point.
pub struct Case {
    /// Dotted, lower case, the same on every host and kernel.
    pub name: String,
    /// The rule that it tests.
    pub rule: &'static Rule,
    /// Rules that decide some of its values or scenarios besides.
    pub also: &'static [&'static Rule],
    test: Test,
}

impl Case {
    /// A case that passes when `test` finds nothing.
    pub fn new(
        name: impl Into<String>,
        rule: &'static Rule,
        test: impl Fn(&mut Context<'_>) -> Result<(), Stop> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), rule, also: &[], test: Box::new(test) }
    }

    /// The same case, which tests these rules besides.
    pub fn and(self, also: &'static [&'static Rule]) -> Self {
        Self { also, ..self }
    }

    /// Every rule that it tests, the one that it is about first.
    pub fn rules(&self) -> impl Iterator<Item = &'static Rule> + use<> {
        std::iter::once(self.rule).chain(self.also.iter().copied())
    }

    /// Runs the case.
    pub fn run(&self, session: &mut Session) -> Report {
        let mut context = Context { session, report: Report::default() };
        let stopped = (self.test)(&mut context).err();
        let Context { session, mut report } = context;
        report.stopped = stopped;
        if matches!(report.stopped, Some(Stop::Broken(Error::Died(_)))) {
            session.deadline = session.deadline.min(DEADLINE_AFTER_DEATH);
        }
        report
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("rule", self.rule).finish_non_exhaustive()
    }
}

/// Why a case ended early.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The case does not apply to this host.
    #[error("{0}")]
    Skip(String),
    /// Something failed that no case expects.
    #[error("{0}")]
    Broken(#[from] Error),
    /// The case asks for what the model has no rule for: a defect of the suite.
    #[error("{0}")]
    NotModelled(#[from] Unknown),
}

impl Stop {
    /// The case does not apply, because `why`.
    pub fn skip<T>(why: impl Into<String>) -> Result<T, Self> {
        Err(Self::Skip(why.into()))
    }
}

/// What a case found.
#[derive(Debug, Default)]
pub struct Report {
    /// How many scenarios were judged, or values written.
    pub checks: usize,
    /// What departs from the rules, by what was observed: words that hold on any host.
    pub findings: BTreeMap<String, Finding>,
    /// Why the case ended early, if it did.
    pub stopped: Option<Stop>,
}

/// A departure from a rule.
#[derive(Debug)]
pub struct Finding {
    /// How often it was seen.
    pub times: usize,
    /// The first time, in full.
    pub detail: String,
}

/// A host, its `/dev/kvm`, and the VM that cases share.
#[derive(Debug)]
pub struct Session {
    kvm: Kvm,
    host: Host,
    deadline: Duration,
    draw: Draw,
    guest: Option<(Config, Guest)>,
}

/// How random scenarios are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The same seed draws the same scenarios on hosts of the same shape.
    pub seed: u64,
    /// How many a case draws.
    pub scenarios: u32,
}

impl Default for Draw {
    fn default() -> Self {
        Self { seed: 1, scenarios: 300 }
    }
}

impl Session {
    /// Opens this host; where no guest can run at all, says why. A guest may run for `deadline` at a time.
    pub fn open(deadline: Duration) -> Result<Result<Self, Unavailable>, Error> {
        Ok(match Kvm::open()? {
            Ok(kvm) => Ok(Self { host: kvm.host()?, kvm, deadline, draw: Draw::default(), guest: None }),
            Err(unavailable) => Err(unavailable),
        })
    }

    /// A session of another thread's on a host that is known.
    fn beside(host: &Host, deadline: Duration) -> Result<Self, Stop> {
        let kvm = match Kvm::open()? {
            Ok(kvm) => kvm,
            Err(unavailable) => return Err(Error::Unfit(unavailable.to_string()).into()),
        };
        Ok(Self { kvm, host: host.clone(), deadline, draw: Draw::default(), guest: None })
    }

    /// The same session, drawing other random scenarios.
    pub fn drawing(self, draw: Draw) -> Self {
        Self { draw, ..self }
    }

    /// The host's facts.
    pub fn host(&self) -> &Host {
        &self.host
    }
}

/// Where vCPUs run that run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// All on one CPU: the kernel preempts each for the others.
    OneCpu,
    /// Each on a CPU of its own.
    CpuEach,
}

/// What a case works with.
#[derive(Debug)]
pub struct Context<'a> {
    session: &'a mut Session,
    report: Report,
}

impl Context<'_> {
    /// The host's facts.
    pub fn host(&self) -> &Host {
        &self.session.host
    }

    /// The shape that KVM gives to a new VM.
    pub fn shape(&self) -> Shape {
        self.session.host.shape()
    }

    /// How many CPUs this thread may run on.
    pub fn cpus(&self) -> Result<usize, Stop> {
        Ok(cpus::allowed()?.len())
    }

    /// Draws scenarios from `strategy`, and runs and judges each. The first that departs from the rules is shrunk to a
    /// smallest one that still does, and reported with its seed.
    pub fn check_random(&mut self, strategy: &impl Strategy<Value = Scenario>) -> Result<(), Stop> {
        let Draw { seed, scenarios } = self.session.draw;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = test_runner::Config {
            cases: scenarios,
            failure_persistence: None,
            ..test_runner::Config::default()
        };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let cell = RefCell::new((&mut *self, None));
        let result = TestRunner::new_with_rng(config, rng).run(strategy, |scenario| {
            let (cx, stop) = &mut *cell.borrow_mut();
            if stop.is_some() {
                return Ok(());
            }
            let mut probe = Context { session: &mut *cx.session, report: Report::default() };
            let outcome = probe.check(&scenario);
            let departed = !probe.report.findings.is_empty();
            cx.report.checks += 1;
            match outcome {
                Err(error) => {
                    let detail = format!("seed {seed}, not shrunk:\n{}", listing(scenario.ops()));
                    cx.find("a scenario that could not be run to its end".into(), detail);
                    *stop = Some(error);
                    Ok(())
                }
                Ok(()) if departed => Err(TestCaseError::fail("a departure")),
                Ok(()) => Ok(()),
            }
        });
        let (cx, stop) = cell.into_inner();
        match (stop, result) {
            (Some(stop), _) => Err(stop),
            (None, Ok(())) => Ok(()),
            (None, Err(TestError::Abort(reason))) => {
                Err(Error::Unfit(format!("no scenario was drawn: {reason}")).into())
            }
            (None, Err(TestError::Fail(_, smallest))) => {
                let before = cx.report.findings.len();
                cx.check(&smallest)?;
                let again = cx.report.findings.len() > before;
                for finding in cx.report.findings.values_mut().filter(|_| again) {
                    finding.detail = format!("seed {seed}, shrunk:\n{}", finding.detail);
                }
                if !again {
                    let detail = format!("seed {seed}, shrunk to what no longer departs:\n{smallest}");
                    cx.find("a scenario that departs now and then".into(), detail);
                }
                Ok(())
            }
        }
    }

    /// A VM of its own that has not run.
    pub fn new_guest(&self, config: Config) -> Result<Guest, Stop> {
        Ok(self.session.kvm.guest(config, self.session.deadline)?)
    }

    /// Runs a scenario in a VM as KVM makes it, and judges it.
    pub fn check(&mut self, scenario: &Scenario) -> Result<(), Stop> {
        self.check_in(Config::default(), scenario)
    }

    /// Runs a scenario in a VM of this configuration, shared with other scenarios, and judges it by the shape that
    /// the VM was given.
    pub fn check_in(&mut self, config: Config, scenario: &Scenario) -> Result<(), Stop> {
        let mut guest = match self.session.guest.take() {
            Some((of, guest)) if of == config => guest,
            _ => self.new_guest(config)?,
        };
        if self.check_on(&mut guest, config, scenario)? {
            self.session.guest = Some((config, guest));
        }
        Ok(())
    }

    /// Runs a scenario in this VM, made with `config`, and judges it. False if it departed from the rules: the VM
    /// is then in a state that the model does not know.
    pub fn check_on(&mut self, guest: &mut Guest, config: Config, scenario: &Scenario) -> Result<bool, Stop> {
        let shape = config.id_aa64dfr0.map_or(self.shape(), Shape::from_id_aa64dfr0);
        let (ops, log) = guest.run(scenario)?;
        self.report.checks += 1;
        let mut others_agree = true;
        for (other, ops, log) in guest.take_others() {
            let Some(mismatch) = judge(Pe::new(self.shape()), &ops, &log)? else { continue };
            others_agree = false;
            let ran = listing(&ops[..=mismatch.place]);
            let observed = format!("of another vCPU, its debug registers {other}: {}", mismatch.observed);
            self.find(observed, format!("what the other vCPU did:\n{ran}{mismatch}"));
        }
        let Some(mut mismatch) = judge(Pe::new(shape), &ops, &log)? else { return Ok(others_agree) };
        let undone = ops.len() - scenario.ops().len();
        let (ran, what) = match mismatch.place.checked_sub(undone) {
            Some(place) => {
                mismatch.place = place;
                (scenario.ops(), "")
            }
            None => (ops.as_slice(), ", while the scenario before was undone"),
        };
        let ran = listing(&ran[..=mismatch.place]);
        self.find(mismatch.observed.clone(), format!("in a VM of {shape}{what}:\n{ran}{mismatch}"));
        Ok(false)
    }

    /// Runs these lists of scenarios at the same time, each in a thread and a VM of its own, on one CPU or each on one
    /// of its own; again and again, until each thread was preempted by another often enough or has had its turns.
    pub fn check_together(&mut self, on: Together, lists: &[Vec<Scenario>]) -> Result<(), Stop> {
        if on == Together::CpuEach && cpus::allowed()?.len() < lists.len() {
            return Stop::skip(format!("this thread may run on fewer than {} CPUs", lists.len()));
        }
        let start = Barrier::new(lists.len());
        let (host, deadline) = (&self.session.host, self.session.deadline);
        let reports: Vec<_> = thread::scope(|scope| {
            let start = &start;
            let threads: Vec<_> = lists
                .iter()
                .enumerate()
                .map(|(place, list)| {
                    let place = if on == Together::OneCpu { 0 } else { place };
                    scope.spawn(move || beside(&|| Session::beside(host, deadline), place, on, start, list))
                })
                .collect();
            threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        for report in reports {
            let died =
                || Error::Unfit("a thread of the case panicked; the message is on standard error".into());
            let (report, result) = report.map_err(|_| died())?;
            self.report.checks += report.checks;
            for (observed, finding) in report.findings {
                let times = finding.times;
                self.report.findings.entry(observed).or_insert(Finding { times: 0, ..finding }).times +=
                    times;
            }
            result?;
        }
        Ok(())
    }

    /// Counts a check that is no scenario.
    pub fn count(&mut self) {
        self.report.checks += 1;
    }

    /// Reports a departure from the rules. `observed` says it in words that hold on any host; `detail` in full.
    pub fn find(&mut self, observed: String, detail: String) {
        let finding = self.report.findings.entry(observed).or_insert(Finding { times: 0, detail });
        finding.times += 1;
    }
}

/// One thread of [`Context::check_together`].
fn beside(
    open: &dyn Fn() -> Result<Session, Stop>,
    place: usize,
    on: Together,
    start: &Barrier,
    list: &[Scenario],
) -> (Report, Result<(), Stop>) {
    /// Preemptions at which a thread has seen enough, and turns after which it gives up waiting for them.
    const ENOUGH: i64 = 32;
    const TURNS: usize = 64;
    let mut report = Report::default();
    let prepared = (|| Ok((Pinned::at(place)?, open()?)))();
    // Even a thread that failed lets the others start.
    start.wait();
    let mut result = prepared.and_then(|(pinned, mut session): (Pinned, Session)| {
        let mut context = Context { session: &mut session, report: Report::default() };
        let before = cpus::preemptions()?;
        let result = (0..TURNS).try_for_each(|turn| {
            let seen = if on == Together::OneCpu { cpus::preemptions()? - before } else { turn as i64 * 8 };
            if seen >= ENOUGH || !context.report.findings.is_empty() {
                return Ok(());
            }
            list.iter().try_for_each(|scenario| context.check(scenario))
        });
        report = context.report;
        drop(pinned);
        result
    });
    if let Err(Stop::Broken(Error::Died(death))) = &mut result {
        death.reason = format!("beside another vCPU: {}", death.reason);
    }
    (report, result)
}

/// The operations, a line each; of many, the first and the last.
fn listing(ops: &[Op]) -> String {
    const ENDS: usize = 16;
    let mut text = String::new();
    for (place, op) in ops.iter().enumerate() {
        if place < ENDS || place + ENDS >= ops.len() {
            text.push_str(&format!("{place:4}  {op}\n"));
        } else if place == ENDS {
            text.push_str("       …\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_scenario_is_listed_by_its_ends() {
        assert_eq!(listing(&[Op::Isb, Op::Brk]), "   0  isb\n   1  exec brk\n");
        let long = listing(&[Op::Isb; 100]);
        assert_eq!(long.lines().count(), 33);
        assert!(long.contains("  15  isb\n       …\n  84  isb\n") && long.ends_with("  99  isb\n"));
        assert_eq!(listing(&[Op::Isb; 32]).lines().count(), 32, "nothing is left out where all fits");
    }
}
