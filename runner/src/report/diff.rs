// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What differs between two sides, each of one or many cells. Regression CI asks this.
//!
//! The kernel is what CI changes between two sides, so hosts are compared by their names. If each side ran a
//! host with one kernel, these are compared. If a side ran it with several, kernels of the same name are
//! paired, then those of the same release, then those of the same series, and then those that are left over
//! if there is one on each side.
//!
//! Several runs of the same host and kernel on one side count as one: a case that fails in any of them fails,
//! and a case on which they disagree is flaky.

mod text;

use super::Cell;
use crate::renamed;
use crate::results::{Case, Finding, Outcome, Run};
use serde::Serialize;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// The name of the format of a difference as JSON.
const FORMAT: &str = "dfr0-diff";
/// Its version.
const VERSION: u32 = 1;

/// What differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diff {
    format: &'static str,
    version: u32,
    /// What was compared.
    pub compared: Vec<Pair>,
    /// Fails in NEW, and did not fail or did not exist in OLD.
    pub newly_failing: Vec<Change>,
    /// Fails in both, and NEW shows what OLD did not.
    pub failing_anew: Vec<Change>,
    /// Passes in NEW and did not pass in OLD.
    pub newly_passing: Vec<Change>,
    /// Shows a known deviation in NEW and not in OLD.
    pub newly_xfail: Vec<Change>,
    /// Has a known deviation that is gone in NEW and was not gone in OLD.
    pub newly_xpass: Vec<Change>,
    /// Shows other known deviations in NEW than in OLD.
    pub deviations: Vec<Shift>,
    /// Skipped in NEW and not in OLD.
    pub newly_skipped: Vec<Change>,
    /// Only in OLD.
    pub gone: Vec<Change>,
    /// Only in NEW.
    pub added: Vec<Change>,
    /// The runs of a side disagree.
    pub flaky: Vec<Change>,
    /// Hosts that reported in OLD and not in NEW.
    pub lost: Vec<Lost>,
    /// Hosts that reported in NEW and not in OLD.
    pub only_new: Vec<String>,
    /// Hosts that reported on neither side.
    pub silent: Vec<Lost>,
}

/// A host in OLD and the same host in NEW.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// The cell of OLD.
    pub old: String,
    /// Its kernel's release.
    pub old_release: Option<String>,
    /// The cell of NEW.
    pub new: String,
    /// Its kernel's release.
    pub new_release: Option<String>,
    /// What distinguishes the kernel of OLD from others of its release.
    pub old_build: Option<String>,
    /// What distinguishes the kernel of NEW.
    pub new_build: Option<String>,
}

/// The known deviations of a case that are seen on one side alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shift {
    /// The case.
    pub case: String,
    /// The name of the cell in NEW.
    pub cell: String,
    /// Those that are seen in NEW alone.
    pub appeared: BTreeSet<String>,
    /// Those that were seen in OLD alone.
    pub vanished: BTreeSet<String>,
}

/// A case whose outcome changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name.
    pub case: String,
    /// The name of the cell in NEW; in OLD if the case is gone.
    pub cell: String,
    /// Its outcomes in OLD.
    pub old: BTreeSet<Outcome>,
    /// Its outcomes in NEW.
    pub new: BTreeSet<Outcome>,
    /// What was observed that no known deviation lists, if it fails in NEW.
    pub observed: Vec<String>,
    /// What was observed beside it and is known, if it fails in NEW.
    pub known: Vec<String>,
}

/// A cell without results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Its name.
    pub cell: String,
    /// Why.
    pub why: String,
}

/// The runs of a host with a kernel on one side.
struct Group<'a> {
    host: &'a str,
    kernel: Option<&'a str>,
    cells: Vec<&'a Cell>,
}

impl<'a> Group<'a> {
    fn name(&self) -> String {
        self.cells[0].name()
    }

    fn release(&self) -> Option<String> {
        self.cells.iter().find_map(|cell| cell.release.clone())
    }

    /// What distinguishes its kernel from others of the same release.
    fn build(&self) -> Option<String> {
        let build = &self.cells[0].build;
        let image =
            Some(build.short()).filter(|short| !short.is_empty()).map(|short| format!("image {short}"));
        let parts: Vec<String> = build.source.clone().into_iter().chain(image).collect();
        if parts.is_empty() { build.version.clone() } else { Some(parts.join(", ")) }
    }

    fn runs(&self) -> impl Iterator<Item = &'a Run> + '_ {
        self.cells.iter().filter_map(|cell| cell.run())
    }

    fn reported(&self) -> bool {
        self.runs().next().is_some()
    }

    /// How many of its cells have no results, and why the first of them has none.
    fn silence(&self) -> (usize, String) {
        let mut silent = self.cells.iter().filter_map(|cell| cell.silence());
        let why = silent.next();
        (why.iter().count() + silent.count(), why.unwrap_or("no case could run there").to_owned())
    }

    /// `6.12` of the release 6.12.57.
    fn series(&self) -> Option<String> {
        let release = self.release()?;
        let mut parts = release.splitn(3, '.');
        Some(format!("{}.{}", parts.next()?, parts.next()?))
    }

    /// By their present names.
    fn cases(&self) -> BTreeMap<Cow<'a, str>, Vec<(&'a Run, &'a Case)>> {
        let mut cases: BTreeMap<Cow<'a, str>, Vec<_>> = BTreeMap::new();
        for run in self.runs() {
            run.cases
                .iter()
                .for_each(|case| cases.entry(renamed::case(&case.name)).or_default().push((run, case)));
        }
        cases
    }
}

impl Diff {
    /// What differs from `old` to `new`.
    pub fn new(old: &[Cell], new: &[Cell]) -> Self {
        let mut diff = Self {
            format: FORMAT,
            version: VERSION,
            compared: Vec::new(),
            newly_failing: Vec::new(),
            failing_anew: Vec::new(),
            newly_passing: Vec::new(),
            newly_xfail: Vec::new(),
            newly_xpass: Vec::new(),
            deviations: Vec::new(),
            newly_skipped: Vec::new(),
            gone: Vec::new(),
            added: Vec::new(),
            flaky: Vec::new(),
            lost: Vec::new(),
            only_new: Vec::new(),
            silent: Vec::new(),
        };
        let (mut old, mut new) = (groups(old), groups(new));
        for (old, new) in pairs(&mut old, &mut new) {
            diff.compare(&old, &new);
        }
        for gone in old {
            let (_, why) = gone.silence();
            if gone.reported() {
                diff.lost.push(Lost { cell: gone.name(), why: "NEW does not have it".into() });
            } else {
                diff.silent.push(Lost { cell: gone.name(), why });
            }
        }
        for added in new {
            if added.reported() {
                diff.only_new.push(added.name());
                diff.failing_without_old(&added);
            } else {
                diff.silent.push(Lost { cell: added.name(), why: added.silence().1 });
            }
        }
        diff
    }

    /// Whether no case fails, or fails otherwise, and no host is silent that did not or was not before, and something was
    /// compared.
    pub fn is_good(&self) -> bool {
        let fails = !self.newly_failing.is_empty() || !self.failing_anew.is_empty();
        !fails && self.lost.is_empty() && !self.compared.is_empty()
    }

    fn compare(&mut self, old: &Group<'_>, new: &Group<'_>) {
        let (cell, (silent, why)) = (new.name(), new.silence());
        match (old.reported(), new.reported()) {
            (true, true) => {}
            (true, false) => return self.lost.push(Lost { cell, why }),
            (false, false) => return self.silent.push(Lost { cell, why }),
            (false, true) => {
                self.only_new.push(cell);
                return self.failing_without_old(new);
            }
        }
        self.compared.push(Pair {
            old: old.name(),
            old_release: old.release(),
            new: cell.clone(),
            new_release: new.release(),
            old_build: old.build(),
            new_build: new.build(),
        });
        if silent > old.silence().0 {
            self.lost.push(Lost { cell, why });
        }
        let (before, mut now) = (old.cases(), new.cases());
        for (name, before) in before {
            match now.remove(&name) {
                Some(now) => self.case(&name, new, &before, &now),
                None => self.gone.push(change(&name, old, &before, &[])),
            }
        }
        for (name, now) in now {
            let change = change(&name, new, &[], &now);
            if fails(&now) {
                self.newly_failing.push(change.clone());
            }
            self.added.push(change);
        }
    }

    fn case(&mut self, name: &str, cell: &Group<'_>, before: &[(&Run, &Case)], now: &[(&Run, &Case)]) {
        let change = change(name, cell, before, now);
        if fails(now) && !fails(before) {
            self.newly_failing.push(change.clone());
        }
        if change.old.len() > 1 || change.new.len() > 1 {
            self.flaky.push(change);
            return;
        }
        let (seen, now_seen) = (seen(before), seen(now));
        let only =
            |one: &BTreeSet<String>, other: &BTreeSet<String>| one.difference(other).cloned().collect();
        let shift = Shift {
            case: change.case.clone(),
            cell: change.cell.clone(),
            appeared: only(&now_seen, &seen),
            vanished: only(&seen, &now_seen),
        };
        if change.old == change.new {
            // Where the outcome changed, that says it.
            if !(shift.appeared.is_empty() && shift.vanished.is_empty()) {
                self.deviations.push(shift);
            }
            let was: BTreeSet<String> = before.iter().flat_map(|(_, case)| unlisted(case)).collect();
            let observed: Vec<_> =
                change.observed.iter().filter(|what| !was.contains(*what)).cloned().collect();
            if !observed.is_empty() {
                self.failing_anew.push(Change { observed, known: Vec::new(), ..change });
            }
            return;
        }
        match change.new.first() {
            Some(Outcome::Pass) => self.newly_passing.push(change),
            Some(Outcome::Xfail) => self.newly_xfail.push(change),
            Some(Outcome::Xpass) => self.newly_xpass.push(change),
            Some(Outcome::Skip) => self.newly_skipped.push(change),
            Some(Outcome::Fail) | None => {}
        }
    }

    fn failing_without_old(&mut self, new: &Group<'_>) {
        for (name, now) in new.cases() {
            if fails(&now) {
                self.newly_failing.push(change(&name, new, &[], &now));
            }
        }
    }
}

fn change(name: &str, cell: &Group<'_>, before: &[(&Run, &Case)], now: &[(&Run, &Case)]) -> Change {
    let outcomes = |all: &[(&Run, &Case)]| all.iter().map(|(_, case)| case.outcome).collect();
    let failed = now.iter().map(|(_, case)| case).find(|case| case.outcome == Outcome::Fail);
    let observed = failed.map(|case| unlisted(case));
    let is_known = |finding: &&Finding| finding.known.is_some();
    let known = failed.into_iter().flat_map(|case| &case.findings).filter(is_known);
    Change {
        case: name.to_owned(),
        cell: cell.name(),
        old: outcomes(before),
        new: outcomes(now),
        observed: observed.unwrap_or_default(),
        known: known.map(|finding| finding.observed.clone()).collect(),
    }
}

/// What a case shows that no known deviation lists.
fn unlisted(case: &Case) -> Vec<String> {
    let stopped = case.stopped.iter().map(|stopped| stopped.why.clone());
    case.unlisted().map(|finding| renamed::observation(&finding.observed)).chain(stopped).collect()
}

/// The known deviations that are seen.
fn seen(all: &[(&Run, &Case)]) -> BTreeSet<String> {
    let shows = |case: &&&Case| case.outcome != Outcome::Xpass;
    let cases = all.iter().map(|(_, case)| case).filter(shows);
    cases.flat_map(|case| &case.deviations).map(|deviation| deviation.name.clone()).collect()
}

fn fails(all: &[(&Run, &Case)]) -> bool {
    all.iter().any(|(run, case)| run.fails(case.outcome))
}

fn groups(cells: &[Cell]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for cell in cells {
        let (host, kernel) = (cell.host.as_str(), cell.kernel.as_deref());
        match groups.iter_mut().find(|group| (group.host, group.kernel) == (host, kernel)) {
            Some(group) => group.cells.push(cell),
            None => groups.push(Group { host, kernel, cells: vec![cell] }),
        }
    }
    groups
}

/// Removes the groups that belong together from both sides, and returns them in pairs.
fn pairs<'a>(old: &mut Vec<Group<'a>>, new: &mut Vec<Group<'a>>) -> Vec<(Group<'a>, Group<'a>)> {
    type Alike = fn(&Group<'_>, &Group<'_>) -> bool;
    // The closest likeness comes first. A likeness that is not one to one does not count.
    let alike: [Alike; 4] = [
        |one, other| one.kernel == other.kernel,
        |one, other| one.release().is_some() && one.release() == other.release(),
        |one, other| one.series().is_some() && one.series() == other.series(),
        |_, _| true,
    ];
    let mut pairs = Vec::new();
    for alike in alike {
        let alike = |one: &Group<'_>, other: &Group<'_>| one.host == other.host && alike(one, other);
        let mut place = 0;
        while place < old.len() {
            let same: Vec<usize> = (0..new.len()).filter(|other| alike(&old[place], &new[*other])).collect();
            let alone =
                old.iter().filter(|other| same.first().is_some_and(|first| alike(other, &new[*first])));
            if let ([other], 1) = (&same[..], alone.count()) {
                pairs.push((old.remove(place), new.remove(*other)));
            } else {
                place += 1;
            }
        }
    }
    pairs.sort_by(|(one, _), (other, _)| (one.host, one.kernel).cmp(&(other.host, other.kernel)));
    pairs
}
