// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Each ordered pair of hosts: the plan, the outcome, and whether they agree.

use super::{
    Error, Hosts, OUTCOMES,
    outcome::{Outcome, Pair},
};
use crate::{
    bounded,
    fingerprint::printable,
    plan::{Plan, Reason, Verdict},
    visible::visible,
};
use std::{
    fmt::{self, Write},
    path::Path,
};

/// The upper limit of what is read of a file of outcomes, in bytes.
const LONGEST: u64 = 16 << 20;

/// The outcome of all scenarios of a pair, or of the whole move.
#[derive(Debug)]
enum Came {
    Same,
    Refused(Vec<(String, Vec<String>)>),
    /// The first loss.
    Lost(String),
    /// Some scenarios were refused and some were not, or something failed.
    Mixed(String),
}

#[derive(Debug)]
struct Row {
    from: String,
    to: String,
    shape: Option<String>,
    debug: (Verdict, String, Came),
    whole: (Verdict, String, Came),
}

/// A pair of hosts, in words.
#[derive(Clone, Debug)]
pub struct Move<'a> {
    /// The source.
    pub from: &'a str,
    /// The target.
    pub to: &'a str,
    /// The shape that the plan asks for, if it asks for one.
    pub shape: Option<&'a str>,
    /// The move of the debug hardware.
    pub debug: MovePart,
    /// The move with every register.
    pub whole: MovePart,
}

/// The plan for a part of a move, and the outcome.
#[derive(Clone, Debug)]
pub struct MovePart {
    /// The plan.
    pub plan: &'static str,
    /// The outcome.
    pub came: String,
    /// The kind of the outcome.
    pub how: How,
    /// How plan and outcome differ, if they do, or what was lost.
    pub problem: Option<String>,
}

/// The kinds of outcomes of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The events are those that the rules allow.
    Moved,
    /// The target refused it.
    Refused,
    /// Events were lost or added, or the outcome is not clear.
    Lost,
}

/// The pairs of all hosts.
#[derive(Debug)]
pub struct Table(Vec<Row>);

impl Table {
    /// Reads the outcomes on the hosts in `directory`; a missing pair is an error.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let hosts = Hosts::load(directory)?;
        let mut rows = Vec::new();
        for to in hosts.all.keys() {
            let found = outcomes(&hosts, to)?;
            for from in hosts.others(to) {
                let path = hosts.path(to, OUTCOMES);
                let content = |message: String| Error::Content { path: path.clone(), message };
                let pair = found
                    .iter()
                    .find(|pair| pair.from == from && pair.to == *to)
                    .ok_or_else(|| content(format!("there is no move from {from} in it")))?;
                if pair.scenarios.is_empty() {
                    return Err(content(format!("the move from {from} has no scenario")));
                }
                rows.push(Row::new(pair, &hosts.plan(from, to)?));
            }
        }
        rows.sort_by(|one, other| (&one.from, &one.to).cmp(&(&other.from, &other.to)));
        Ok(Self(rows))
    }

    /// The pairs, by source and target.
    pub fn moves(&self) -> impl Iterator<Item = Move<'_>> {
        self.0.iter().map(|row| {
            let part = |(verdict, stops, came): &(Verdict, String, Came)| MovePart {
                plan: planned(*verdict),
                came: came.to_string(),
                how: match came {
                    Came::Same => How::Moved,
                    Came::Refused(_) => How::Refused,
                    Came::Lost(_) | Came::Mixed(_) => How::Lost,
                },
                problem: disagreement(*verdict, stops, came),
            };
            Move {
                from: &row.from,
                to: &row.to,
                shape: row.shape.as_deref(),
                debug: part(&row.debug),
                whole: part(&row.whole),
            }
        })
    }

    /// Whether every plan was right and nothing was lost silently.
    pub fn agrees(&self) -> bool {
        self.0.iter().all(|row| row.disagreements().is_empty())
    }
}

fn outcomes(hosts: &Hosts, to: &str) -> Result<Vec<Pair>, Error> {
    let path = hosts.path(to, OUTCOMES);
    let text = bounded::load(&path, LONGEST).map_err(|source| Error::File { path: path.clone(), source })?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::Content { path: path.clone(), message: printable(&error.to_string()) })
}

impl Row {
    fn new(pair: &Pair, plan: &Plan) -> Self {
        let debug = came(pair.scenarios.iter().map(|of| (of.scenario.as_str(), &of.debug)));
        let whole = came([("the whole move", &pair.whole)].into_iter());
        let shape = plan.guest.as_ref().filter(|_| plan.debug.verdict == Verdict::WithShape);
        let all: Vec<&Reason> = plan.debug.reasons.iter().chain(&plan.others.reasons).collect();
        Self {
            from: pair.from.clone(),
            to: pair.to.clone(),
            shape: shape.map(|guest| guest.shape.clone()),
            debug: (plan.debug.verdict, stops(&plan.debug.reasons.iter().collect::<Vec<_>>()), debug),
            whole: (plan.verdict, stops(&all), whole),
        }
    }

    fn disagreements(&self) -> Vec<String> {
        let parts = [("the debug hardware", &self.debug), ("the whole move", &self.whole)];
        parts
            .into_iter()
            .filter_map(|(what, (verdict, stops, came))| {
                let problem = disagreement(*verdict, stops, came)?;
                Some(format!("{} → {}, {what}: {problem}", self.from, self.to))
            })
            .collect()
    }
}

/// The registers and fields that stop a move, or may, by name.
fn stops(reasons: &[&Reason]) -> String {
    let cannot = reasons.iter().filter(|reason| reason.verdict >= Verdict::NotKnown);
    let name = |reason: &&&Reason| match &reason.field {
        Some(field) => format!("{}.{field}", reason.register),
        None => reason.register.clone(),
    };
    let mut names: Vec<String> = cannot.map(|reason| name(&reason)).collect();
    names.dedup();
    names.join(", ")
}

fn came<'a>(outcomes: impl Iterator<Item = (&'a str, &'a Outcome)>) -> Came {
    let (mut same, mut refused, mut failed) = (0, Vec::new(), Vec::new());
    for (scenario, outcome) in outcomes {
        match outcome {
            Outcome::Same => same += 1,
            Outcome::Refused { register, fields } => {
                let reason = (register.clone(), fields.clone());
                if !refused.contains(&reason) {
                    refused.push(reason);
                }
            }
            Outcome::SilentLoss { detail, changed } => {
                let changed: String = changed.iter().map(|register| format!("\n{register}")).collect();
                return Came::Lost(format!("{scenario}: {detail}{changed}"));
            }
            Outcome::Failed { why } => failed.push(format!("{scenario}: {why}")),
        }
    }
    match (failed.into_iter().next(), same, refused.is_empty()) {
        (Some(why), _, _) => Came::Mixed(why),
        (None, _, true) => Came::Same,
        (None, 0, false) => Came::Refused(refused),
        (None, _, false) => Came::Mixed("some scenarios were refused and others were not".into()),
    }
}

/// GIC of these registers is the VM's and not the host's: a fingerprint has what a VM has before its first KVM_RUN, and the VMs
/// that are moved have no GICv3, so newer kernels clear the field at the first (arch/arm64/kvm/sys_regs.c,
/// kvm_finalize_sys_regs).
fn is_the_vms((register, fields): &(String, Vec<String>)) -> bool {
    ["ID_AA64PFR0_EL1", "ID_PFR1_EL1"].contains(&register.as_str())
        && fields.iter().all(|field| field == "GIC")
}

/// How the outcome of a move differs from the plan, if it does.
fn disagreement(verdict: Verdict, stops: &str, came: &Came) -> Option<String> {
    let planned = |reason: &(String, Vec<String>)| {
        let (register, fields) = reason;
        stops.split(", ").any(|stop| match stop.split_once('.') {
            Some((of, field)) => {
                of == register && (fields.is_empty() || fields.iter().any(|name| name == field))
            }
            None => stop == register,
        })
    };
    match (verdict, came) {
        (_, Came::Lost(what)) => Some(format!("a silent loss: {what}")),
        (_, Came::Mixed(why)) => Some(why.clone()),
        (Verdict::Cannot, Came::Same) => Some(format!("planned to be stopped by {stops}, but it moved")),
        (Verdict::Cannot, Came::Refused(reasons)) => {
            let other = reasons.iter().find(|reason| !planned(reason) && !is_the_vms(reason))?;
            Some(format!("planned to be stopped by {stops}, but {} stopped it", in_words(other)))
        }
        (Verdict::AsIs | Verdict::WithShape, Came::Refused(reasons)) => {
            let reasons: Vec<String> = reasons.iter().map(in_words).collect();
            Some(format!("planned to move, but {} stopped it", reasons.join(", ")))
        }
        (Verdict::AsIs | Verdict::WithShape | Verdict::NotKnown, Came::Same)
        | (Verdict::NotKnown, Came::Refused(_)) => None,
    }
}

fn in_words((register, fields): &(String, Vec<String>)) -> String {
    if fields.is_empty() { register.clone() } else { format!("{register}.{}", fields.join("/")) }
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("same events"),
            Self::Refused(reasons) => {
                let reasons: Vec<String> = reasons.iter().map(in_words).collect();
                write!(f, "refused: {}", reasons.join(", "))
            }
            Self::Lost(_) => f.write_str("SILENT LOSS"),
            Self::Mixed(_) => f.write_str("UNCLEAR"),
        }
    }
}

const fn planned(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::AsIs => "moves as is",
        Verdict::WithShape => "moves with a shape",
        Verdict::NotKnown => "not known",
        Verdict::Cannot => "cannot",
    }
}

impl fmt::Display for Table {
    /// Registers, fields and details are text from another machine: it must not control the terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text)?;
        f.write_str(&visible(&text))
    }
}

impl Table {
    fn write(&self, f: &mut impl Write) -> fmt::Result {
        let width = self.0.iter().map(|row| row.from.len().max(row.to.len())).max().unwrap_or(0);
        writeln!(
            f,
            "{:width$}  {:width$}  {:18}  {:40}  {:11}  everything: outcome",
            "from", "to", "debug: plan", "debug: outcome", "everything"
        )?;
        for row in &self.0 {
            let ((debug, _, of_debug), (whole, _, of_whole)) = (&row.debug, &row.whole);
            let of_debug = of_debug.to_string();
            let whole = match whole {
                Verdict::WithShape => "with shape",
                other => planned(*other),
            };
            writeln!(
                f,
                "{:width$}  {:width$}  {:18}  {of_debug:40}  {whole:11}  {of_whole}",
                row.from,
                row.to,
                planned(*debug)
            )?;
        }
        for row in self.0.iter().filter(|row| row.shape.is_some()) {
            writeln!(
                f,
                "{} → {}: created with {}",
                row.from,
                row.to,
                row.shape.as_deref().unwrap_or_default()
            )?;
        }
        for problem in self.0.iter().flat_map(Row::disagreements) {
            writeln!(f, "DISAGREES: {problem}")?;
        }
        Ok(())
    }
}
