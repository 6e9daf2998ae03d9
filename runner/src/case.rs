// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Suites and cases, and what a case finds.
//!
//! | module | subject |
//! |---|---|
//! | `session` | a host, and the guests that cases share there |
//! | `context` | what a case works with |
//! | `variation` | a case that runs again as a part of another one |

use crate::{guest::Error, host::Host, results::Detail, turn};
use dfr0_model::{dfr0::Field, outcome::Unknown, rule::Rule, scenario::Scenario, shape::Shape};
use std::{collections::BTreeMap, fmt, time::Duration};

mod context;
mod session;
mod variation;

pub use context::Context;
pub(crate) use session::Common;
pub use session::Session;

/// One subject: a test program, and its cases.
#[derive(Clone, Copy)]
pub struct Suite {
    /// The subject, and the first part of each case's name.
    pub name: &'static str,
    cases: fn() -> Vec<Case>,
}

impl Suite {
    /// A suite of these cases, which are the same on every host.
    pub const fn new(name: &'static str, cases: fn() -> Vec<Case>) -> Self {
        Self { name, cases }
    }

    /// Its cases, whose names begin with its name.
    pub fn cases(&self) -> Vec<Case> {
        (self.cases)().into_iter().map(|case| case.within(self.name)).collect()
    }
}

/// Where nothing runs, a case lists at most this many scenarios, unless all are wanted: a few to show, and one to know
/// that there are more.
pub(crate) const LISTED: usize = 3;

/// What a case does.
type Test = Box<dyn Fn(&mut Context<'_>) -> Result<(), Stop> + Send + Sync>;

/// One test point.
pub struct Case {
    /// Dotted, lower case, the same on every host and kernel. It begins with the name of its suite.
    pub name: String,
    /// The rule that it tests.
    pub rule: &'static Rule,
    /// Other rules that decide some of its values or scenarios.
    pub also: &'static [&'static Rule],
    again: Again,
    field: Option<&'static Field>,
    stays: Option<&'static str>,
    drawn: bool,
    alone: bool,
    taints: bool,
    test: Test,
}

/// In which other shapes a case runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// In none.
    Never,
    /// In some of them, and its scenarios take turns in these.
    InTurn,
    /// In each, with all its scenarios.
    Whole,
}

impl Case {
    /// A case that passes when `test` finds nothing. It runs again in some other shapes and while its vCPU moves, unless
    /// what follows says otherwise.
    pub fn new(
        name: impl Into<String>,
        rule: &'static Rule,
        test: impl Fn(&mut Context<'_>) -> Result<(), Stop> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            rule,
            also: &[],
            again: Again::InTurn,
            field: None,
            stays: None,
            drawn: false,
            alone: false,
            taints: false,
            test: Box::new(test),
        }
    }

    /// Its name begins with the name of this group, which may be that of its suite.
    pub fn within(self, group: &str) -> Self {
        Self { name: format!("{group}.{}", self.name), ..self }
    }

    /// Adds other rules that the case tests.
    pub fn and(self, also: &'static [&'static Rule]) -> Self {
        Self { also, ..self }
    }

    /// It has too many scenarios to run again in other shapes.
    pub fn large(self) -> Self {
        Self { again: Again::Never, ..self }
    }

    /// It makes its own VMs, which have KVM's default shape and are not moved.
    pub fn with_own_vms(self) -> Self {
        Self { again: Again::Never, ..self.stays("it makes its own VMs") }
    }

    /// What it tests may be wrong in any shape and right in all others.
    pub fn in_each_shape(self) -> Self {
        Self { again: Again::Whole, ..self }
    }

    /// It tests what this field of ID_AA64DFR0_EL1 promises, and runs again only in shapes that differ in it.
    pub fn of_field(self, field: &'static Field) -> Self {
        Self { again: Again::Whole, field: Some(field), ..self }
    }

    /// Its vCPU cannot move, because `why`.
    pub fn stays(self, why: &'static str) -> Self {
        Self { stays: Some(why), ..self }
    }

    /// Its scenarios are drawn: there is no end of them, and no run has them all.
    pub fn drawn(self) -> Self {
        Self { drawn: true, ..self }
    }

    /// What it tests depends on what else runs on its CPUs: no other case runs meanwhile.
    pub fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// It taints the kernel of a host whose KVM is in protected mode.
    pub fn tainting(self) -> Self {
        Self { taints: true, ..self }
    }

    /// Its turn among the cases: which of the shapes and moves are its own.
    pub fn turn(&self) -> usize {
        turn::of(&self.name)
    }

    /// In which other shapes it runs again.
    pub fn again(&self) -> Again {
        self.again
    }

    /// The field of ID_AA64DFR0_EL1 whose promise it tests, if it is one.
    pub fn field(&self) -> Option<&'static Field> {
        self.field
    }

    /// Why its vCPU cannot move, if it cannot.
    pub fn why_it_stays(&self) -> Option<&'static str> {
        self.stays
    }

    /// Its scenarios are drawn.
    pub fn is_drawn(&self) -> bool {
        self.drawn
    }

    /// No other case runs meanwhile.
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// It taints the kernel of a host whose KVM is in protected mode.
    pub fn is_tainting(&self) -> bool {
        self.taints
    }

    /// It takes much longer than most.
    pub(crate) fn is_long(&self) -> bool {
        self.drawn || self.again == Again::Never && self.stays.is_none()
    }

    /// All rules that the case tests, its main rule first.
    pub fn rules(&self) -> impl Iterator<Item = &'static Rule> + use<> {
        std::iter::once(self.rule).chain(self.also.iter().copied())
    }

    /// All scenarios that the case would run on a host with this ID_AA64DFR0_EL1, as far as that does not depend on what
    /// KVM and guests answer; and the shapes of their VMs.
    pub fn on_paper(&self, id_aa64dfr0: u64) -> Vec<(Shape, Scenario)> {
        self.run(&mut Session::on_paper(Host::imagined(id_aa64dfr0)).listing_all()).listed
    }

    /// Runs the case.
    pub fn run(&self, session: &mut Session) -> Report {
        let mut context = Context::new(session);
        let stopped = (self.test)(&mut context).err();
        let Context { session, mut report, .. } = context;
        report.stopped = stopped;
        if matches!(report.stopped, Some(Stop::Broken(Error::Died(_)))) {
            session.guest_died();
        }
        report
    }
}

/// The name of the case that the case `name` runs in a variation, if it runs one.
pub(crate) fn varied(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, varied)| varied).filter(|varied| varied.contains('.'))
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
    Broken(Error),
    /// The model has no rule for a scenario of the case: a defect of the suite.
    #[error("{0}")]
    NotModelled(#[from] Unknown),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::NoVcpu(_) | Error::NothingRuns => Self::Skip(error.to_string()),
            _ => Self::Broken(error),
        }
    }
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
    /// How many exceptions the guests took, and where the time went.
    pub cost: Cost,
    /// Departures from the rules, by observation: words that hold on any host.
    pub findings: BTreeMap<String, Finding>,
    /// Text that is shown whatever the case found.
    pub shown: String,
    /// Where nothing runs: scenarios that the case would have run, and the shapes of their VMs.
    pub listed: Vec<(Shape, Scenario)>,
    /// Why the case ended early, if it did.
    pub stopped: Option<Stop>,
}

impl Report {
    /// Adds what another thread of the same case found.
    pub(crate) fn add(&mut self, other: Self) {
        self.checks += other.checks;
        self.cost.exceptions += other.cost.exceptions;
        self.cost.running += other.cost.running;
        self.cost.judging += other.cost.judging;
        for (observed, finding) in other.findings {
            let times = finding.times;
            self.findings.entry(observed).or_insert(Finding { times: 0, ..finding }).times += times;
        }
    }
}

/// What a case costs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// The exceptions that guests took.
    pub exceptions: usize,
    /// The time to write and run programs, and to read their logs.
    pub running: Duration,
    /// The time to judge logs.
    pub judging: Duration,
}

/// A departure from a rule.
#[derive(Debug)]
pub struct Finding {
    /// How often it was seen.
    pub times: usize,
    /// The first occurrence, in full.
    pub detail: Detail,
}

impl Finding {
    fn first(detail: impl Into<Detail>) -> Self {
        Self { times: 0, detail: detail.into() }
    }
}
