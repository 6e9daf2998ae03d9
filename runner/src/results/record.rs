// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The records of a run.

use crate::{
    case::{self, Report, Session, Stop},
    cpu_types::Cpus,
    expected::{self, Deviations},
    guest,
    host::Host,
};
use dfr0_model::{judge::Words, rule::Rule};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The name of the format, which its first line holds.
pub const FORMAT: &str = "dfr0-results";
/// The version of the format.
pub const VERSION: u32 = 1;

/// How many of a case's findings are recorded in full.
const IN_FULL: usize = 4;

/// A record, one line of a file.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "record", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "they are written and dropped one by one")]
pub enum Record {
    /// The first record.
    Begin(Begin),
    /// The only record of a run that could not start.
    Unavailable(Unavailable),
    /// The record of each case.
    Case(Case),
    /// The last record.
    End(End),
}

/// What ran, and where.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// dfr0's version.
    pub dfr0: String,
    /// When the run started, in seconds since 1970-01-01 UTC, by the host's clock.
    pub started: u64,
    /// Distinguishes this run from any other: 32 hexadecimal digits; older results do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The command that ran, with its arguments; older results do not have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// How many cases run.
    pub cases: usize,
    /// Their names, in their order; older results do not have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<String>,
    /// Whether a deviation that is gone fails the run.
    pub strict: bool,
    /// The seed of random scenarios.
    pub seed: u64,
    /// How many random scenarios were drawn in each case of the suite random, unless the run was thorough.
    pub draws: u32,
    /// The first and every Nth scenario of each case ran: 1 means all, more is a sample.
    pub every: usize,
    /// How many minutes each such case had instead in a thorough run.
    pub thorough_minutes: Option<u64>,
    /// The lab's name for the host, which is then emulated.
    pub lab_host: Option<String>,
    /// Cases of the run taint the host's kernel.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taints: bool,
    /// On which CPUs it ran, where the host's are of several types or some were chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
    /// The host.
    pub host: Host,
}

/// No case could run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Unavailable {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// dfr0's version.
    pub dfr0: String,
    /// Why no case could run.
    pub reason: String,
}

/// The result of a case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// The rule that it tests.
    pub rule: Why,
    /// The outcome.
    pub outcome: Outcome,
    /// How many scenarios were judged, or values written.
    pub checks: usize,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// What departed from the rules: what is new is first, what is known follows.
    pub findings: Vec<Finding>,
    /// The deviations that were seen, or are gone (an XPASS).
    pub deviations: Vec<Deviation>,
    /// Deviations that were seen and are known of other hosts.
    pub elsewhere: Vec<Elsewhere>,
    /// Why it ended early, if it did.
    pub stopped: Option<Stopped>,
    /// Text that it shows whatever it found.
    pub shown: String,
}

/// A rule and its section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Why {
    /// Its name in the model; older results do not have it.
    #[serde(default)]
    pub name: Option<String>,
    /// The rule, in one sentence.
    pub says: String,
    /// Its section.
    pub section: String,
}

/// The outcome of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing was found.
    Pass,
    /// Something was found that is not listed, or the case could not be run to its end.
    Fail,
    /// All that was found is listed.
    Xfail,
    /// Nothing was found, though something is listed.
    Xpass,
    /// The case does not apply.
    Skip,
}

impl Outcome {
    /// The word for it in a file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Xfail => "xfail",
            Self::Xpass => "xpass",
            Self::Skip => "skip",
        }
    }
}

/// A departure from a rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// What was observed, in words that are the same on any host.
    pub observed: String,
    /// How often it was observed.
    pub times: usize,
    /// The known deviation that lists it here; older results do not have it.
    #[serde(default)]
    pub known: Option<String>,
    /// The first departure in full, for the first few findings of a case.
    pub detail: Option<Detail>,
}

/// A departure in full.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// The departure of something other than a scenario.
    Text(String),
    /// The departure of a scenario.
    Scenario(Departed),
}

impl From<String> for Detail {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Departed> for Detail {
    fn from(departed: Departed) -> Self {
        Self::Scenario(departed)
    }
}

/// A scenario that departed from the rules.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Departed {
    /// A note on how it was found.
    pub how: Option<String>,
    /// The VM's shape.
    pub shape: String,
    /// Whether it departed while the scenario before was undone.
    pub undoing: bool,
    /// The operations up to the one that departed.
    pub operations: Vec<String>,
    /// The operation that departed, what was seen and what is allowed.
    #[serde(with = "Mismatch")]
    pub mismatch: Words,
}

/// The keys of [`Words`].
#[derive(Deserialize, Serialize)]
#[serde(remote = "Words", deny_unknown_fields)]
struct Mismatch {
    place: usize,
    observed: String,
    seen: Vec<String>,
    allowed: Vec<Vec<String>>,
    rule: String,
}

/// A known deviation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// Its name.
    pub name: String,
    /// Who departs: `KVM`, or `the platform`.
    pub whose: String,
    /// What the architecture says instead.
    pub why: String,
    /// Where the kernel or platform does it.
    pub source: String,
}

/// A deviation that is known of other hosts than this one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Elsewhere {
    /// Its name.
    pub name: String,
    /// Why it is not known of this one.
    pub why: String,
}

/// Why a case ended early.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Stopped {
    /// How it ended.
    pub how: How,
    /// Why, in words.
    pub why: String,
}

/// How a case ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// It does not apply to the host.
    Skipped,
    /// A guest hung or crashed: the host failed.
    Died,
    /// Something failed that no case expects; this says nothing of the host.
    Broken,
}

/// The end of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// How many results of each kind.
    pub totals: Totals,
    /// How many scenarios were judged and values written.
    pub checks: usize,
    /// Why the run ended before all of its cases had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

impl End {
    /// Adds the result of a case.
    pub fn count(&mut self, case: &Case) {
        self.totals.count(case.outcome);
        self.checks = self.checks.saturating_add(case.checks);
    }
}

/// How many results of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Passed.
    pub pass: usize,
    /// Failed.
    pub fail: usize,
    /// Failed as listed.
    pub xfail: usize,
    /// Passed though listed.
    pub xpass: usize,
    /// Skipped.
    pub skip: usize,
}

impl Totals {
    /// Increments the count of an outcome.
    pub fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Pass => &mut self.pass,
            Outcome::Fail => &mut self.fail,
            Outcome::Xfail => &mut self.xfail,
            Outcome::Xpass => &mut self.xpass,
            Outcome::Skip => &mut self.skip,
        } += 1;
    }

    /// How many cases ran: all that were not skipped.
    pub const fn ran(&self) -> usize {
        self.pass + self.fail + self.xfail + self.xpass
    }
}

impl Unavailable {
    /// A run that could not start, because of `reason`.
    pub fn because(reason: String) -> Self {
        Self { format: FORMAT.into(), version: VERSION, dfr0: env!("CARGO_PKG_VERSION").into(), reason }
    }
}

impl Case {
    /// The result of a case that made this report, judged with the known deviations.
    pub fn new(
        case: &case::Case,
        report: &Report,
        (deviations, session): (&Deviations, &Session),
        took: Duration,
    ) -> Self {
        let host = session.host();
        let judged = deviations.outcome(&case.name, host, report);
        let (outcome, seen) =
            if session.effort().is_sample() { expected::of_a_sample(judged) } else { judged };
        let known = |observed: &str| seen.iter().find(|deviation| deviation.lists(observed));
        let finding = |(observed, finding): (&String, &case::Finding)| Finding {
            observed: observed.clone(),
            times: finding.times,
            known: known(observed).map(|deviation| deviation.name.clone()),
            detail: Some(finding.detail.clone()),
        };
        let mut findings: Vec<Finding> = report.findings.iter().map(finding).collect();
        findings.sort_by_key(|finding| finding.known.is_some());
        findings.iter_mut().skip(IN_FULL).for_each(|finding| finding.detail = None);
        let elsewhere = |deviation: &expected::Deviation| {
            let is_seen = deviation.observed.iter().any(|observed| report.findings.contains_key(observed));
            let why = deviation.condition.fails_on(host).filter(|_| is_seen)?;
            Some(Elsewhere { name: deviation.name.clone(), why })
        };
        Self {
            name: case.name.clone(),
            rule: case.rule.into(),
            outcome,
            checks: report.checks,
            milliseconds: took.as_millis().try_into().unwrap_or(u64::MAX),
            findings,
            deviations: seen.into_iter().map(Deviation::from).collect(),
            elsewhere: deviations.of(&case.name).filter_map(elsewhere).collect(),
            stopped: report.stopped.as_ref().map(Stopped::from),
            shown: report.shown.clone(),
        }
    }

    /// Whether it failed for a reason that says nothing of the host.
    pub fn is_broken(&self) -> bool {
        let broken = self.stopped.as_ref().is_some_and(|stopped| stopped.how == How::Broken);
        self.outcome == Outcome::Fail && broken && self.findings.is_empty()
    }

    /// The name of its suite: the first part of its own.
    pub fn suite(&self) -> &str {
        self.name.split('.').next().unwrap_or_default()
    }
}

impl From<&Rule> for Why {
    fn from(rule: &Rule) -> Self {
        Self { name: Some(rule.name.into()), says: rule.says.into(), section: rule.section.into() }
    }
}

impl From<&expected::Deviation> for Deviation {
    fn from(deviation: &expected::Deviation) -> Self {
        Self {
            name: deviation.name.clone(),
            whose: deviation.whose().into(),
            why: deviation.why.clone(),
            source: deviation.source.clone(),
        }
    }
}

impl From<&Stop> for Stopped {
    fn from(stop: &Stop) -> Self {
        Self { how: stop.into(), why: stop.to_string() }
    }
}

impl From<&Stop> for How {
    fn from(stop: &Stop) -> Self {
        match stop {
            Stop::Skip(_) => Self::Skipped,
            Stop::Broken(guest::Error::Died(_)) => Self::Died,
            Stop::Broken(_) | Stop::NotModelled(_) => Self::Broken,
        }
    }
}
