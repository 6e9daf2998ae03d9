// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A difference in words.

use super::{Change, Diff, Lost, Pair, Shift};
use crate::{report::text::count, results::Outcome, visible::one_line};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Pair { old, old_release, new, new_release, old_build, new_build } in &self.compared {
            let release = |release: &Option<String>, build: &Option<String>| {
                let build = build.as_ref().map_or_else(String::new, |build| format!(", {build}"));
                format!("{}{build}", release.as_deref().unwrap_or("bare"))
            };
            let (before, now) = (release(old_release, old_build), release(new_release, new_build));
            let names = if old == new { new.clone() } else { format!("{old} → {new}") };
            let kernels = if before == now { now } else { format!("{before} → {now}") };
            writeln!(f, "compared: {} ({})", one_line(&names), one_line(&kernels))?;
        }
        let parts = [
            ("newly failing", &self.newly_failing),
            ("fails otherwise", &self.failing_anew),
            ("newly passing", &self.newly_passing),
            ("newly a known deviation (XFAIL)", &self.newly_xfail),
            ("known deviation newly gone (XPASS)", &self.newly_xpass),
            ("newly skipped", &self.newly_skipped),
            ("flaky", &self.flaky),
            ("gone", &self.gone),
            ("added", &self.added),
        ];
        for (what, changes) in parts {
            by_case(f, what, changes)?;
        }
        for Shift { case, cell, appeared, vanished } in &self.deviations {
            let names = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
            writeln!(f, "other known deviations: {case}\n  {}:", one_line(cell))?;
            for (what, those) in [("now seen", appeared), ("no longer seen", vanished)] {
                if !those.is_empty() {
                    writeln!(f, "    {what}: {}", one_line(&names(those)))?;
                }
            }
        }
        for cell in &self.only_new {
            writeln!(f, "only NEW has results of {}", one_line(cell))?;
        }
        for Lost { cell, why } in &self.silent {
            writeln!(f, "no results on either side: {}: {}", one_line(cell), one_line(why))?;
        }
        for Lost { cell, why } in &self.lost {
            writeln!(f, "DID NOT REPORT in NEW: {}: {}", one_line(cell), one_line(why))?;
        }
        let mut parts = vec![format!("{} compared", count(self.compared.len(), "host"))];
        let mut part = |number: usize, what: &str, became: &str| {
            if number > 0 {
                parts.push(format!("{} {became}", count(number, what)));
            }
        };
        let cases = |changes: &[Change]| {
            changes.iter().map(|change| change.case.as_str()).collect::<BTreeSet<_>>().len()
        };
        part(cases(&self.newly_failing), "case", "newly failing");
        part(cases(&self.failing_anew), "case", "failing otherwise");
        part(cases(&self.newly_passing), "case", "newly passing");
        part(cases(&self.newly_xfail), "case", "newly a known deviation");
        part(cases(&self.newly_xpass), "case", "whose known deviation is gone");
        part(self.deviations.len(), "case", "with other known deviations");
        part(cases(&self.flaky), "case", "flaky");
        part(self.lost.len(), "host", "not reporting");
        let verdict = if self.is_good() { "no regression" } else { "REGRESSION" };
        writeln!(f, "{verdict}: {}", parts.join(", "))
    }
}

/// Prints the changes of one kind, grouped by case.
fn by_case(f: &mut fmt::Formatter<'_>, what: &str, changes: &[Change]) -> fmt::Result {
    let mut cases: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
    changes.iter().for_each(|change| cases.entry(&change.case).or_default().push(change));
    for (case, changes) in cases {
        writeln!(f, "{what}: {case}")?;
        for Change { cell, old, new, observed, known, .. } in changes {
            writeln!(f, "  {}: {} → {}", one_line(cell), in_words(old), in_words(new))?;
            for observed in observed {
                writeln!(f, "    observed: {}", one_line(observed))?;
            }
            for observed in known {
                writeln!(f, "    also seen, known: {}", one_line(observed))?;
            }
        }
    }
    Ok(())
}

fn in_words(outcomes: &BTreeSet<Outcome>) -> String {
    let words: Vec<&str> = outcomes.iter().map(|outcome| outcome.word()).collect();
    if words.is_empty() { "absent".into() } else { words.join(" or ") }
}
