// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A difference as a page: what changed, with OLD and NEW beside each other.

use super::{Cell, Kind, anchor, count, document};
use crate::{
    report::{
        Diff,
        diff::{Change, Lost, Pair, Shift},
    },
    results::{Case, Outcome},
    visible::visible,
};
use maud::{Markup, html};
use std::collections::BTreeSet;

/// The changes of one kind: its CSS class, its heading, and the changes.
type Part<'a> = (Kind, &'static str, &'a [Change]);

struct Sides<'a> {
    diff: &'a Diff,
    old: &'a [Cell],
    new: &'a [Cell],
}

/// The page of a difference between these cells.
pub fn beside(diff: &Diff, old: &[Cell], new: &[Cell]) -> String {
    let sides = Sides { diff, old, new };
    let parts: [Part<'_>; 9] = [
        (Kind::Fail, "newly failing", &diff.newly_failing),
        (Kind::Fail, "failing otherwise than before", &diff.failing_anew),
        (Kind::Fail, "flaky", &diff.flaky),
        (Kind::Xfail, "with a known deviation now", &diff.newly_xfail),
        (Kind::Xpass, "whose known deviation is gone", &diff.newly_xpass),
        (Kind::Pass, "newly passing", &diff.newly_passing),
        (Kind::Skip, "newly skipped", &diff.newly_skipped),
        (Kind::Skip, "only in NEW", &diff.added),
        (Kind::Skip, "only in OLD", &diff.gone),
    ];
    let changed = parts.iter().any(|(.., changes)| !changes.is_empty()) || !diff.deviations.is_empty();
    let (word, class) = match (diff.is_good(), changed) {
        (false, _) => ("Worse", "fail"),
        (true, true) => ("Not worse", "pass"),
        (true, false) => ("The same", "pass"),
    };
    let verdict = diff.to_string().lines().last().unwrap_or_default().to_owned();
    let body = html! {
        header {
            p.what { strong { "dfr0" } " – what differs between two kernels" }
            h1 { span.verdict.(class) { (word) } " " span.sentence { (verdict) } }
        }
        main {
            section aria-labelledby="hosts-title" {
                h2 #hosts-title { "Compared" }
                (hosts(diff))
            }
            @for (number, (kind, heading, changes)) in parts.iter().enumerate() {
                @if !changes.is_empty() {
                    section aria-labelledby={ "part-" (number) } {
                        h2 id={ "part-" (number) } { (count(cases(changes), "case")) " " (heading) }
                        @for change in *changes { (sides.change(*kind, change)) }
                    }
                }
            }
            @if !diff.deviations.is_empty() {
                section aria-labelledby="deviations-title" {
                    h2 #deviations-title { "Other known deviations" }
                    @for shift in &diff.deviations { (deviations(shift)) }
                }
            }
        }
        footer { p { "Written by dfr0 " (env!("CARGO_PKG_VERSION")) "." } }
    };
    document(&visible(&body.into_string()), &visible(&format!("{word}: {verdict} – dfr0")))
}

fn cases(changes: &[Change]) -> usize {
    changes.iter().map(|change| change.case.as_str()).collect::<BTreeSet<_>>().len()
}

fn hosts(diff: &Diff) -> Markup {
    let kernel = |release: &Option<String>, build: &Option<String>| {
        let release =
            release.as_ref().map_or_else(|| "no kernel".into(), |release| format!("Linux {release}"));
        build.as_ref().map_or_else(|| release.clone(), |build| format!("{release}, {build}"))
    };
    html! {
        div.scroll tabindex="0" role="group" aria-labelledby="hosts-title" {
            table.sides {
                thead { tr { th scope="col" { "OLD" } th scope="col" { "its kernel" } th scope="col" { "NEW" } th scope="col" { "its kernel" } } }
                tbody {
                    @for Pair { old, old_release, new, new_release, old_build, new_build } in &diff.compared {
                        tr {
                            td { span.label { "OLD " } (old) } td { (kernel(old_release, old_build)) }
                            td { span.label { "NEW " } (new) } td { (kernel(new_release, new_build)) }
                        }
                    }
                }
            }
        }
        @for Lost { cell, why } in &diff.lost { p.fail { (cell) " did not report in NEW: " bdi { (why) } } }
        @for Lost { cell, why } in &diff.silent { p.skip { (cell) " reported on neither side: " bdi { (why) } } }
        @for cell in &diff.only_new { p.skip { "only NEW has results of " (cell) } }
    }
}

fn deviations(Shift { case, cell, appeared, vanished }: &Shift) -> Markup {
    html! {
        p {
            span.name { (case) } " on " (cell) ":"
            @for name in appeared { " now " span.name { (name) } }
            @for name in vanished { " no longer " span.name { (name) } }
        }
    }
}

impl Sides<'_> {
    fn change(&self, kind: Kind, change: &Change) -> Markup {
        let Change { case: name, cell, old, new, .. } = change;
        let pair = self.diff.compared.iter().find(|pair| pair.new == *cell);
        let of_old = pair.map_or(cell, |pair| &pair.old);
        html! {
            details.case.(kind.class()) open id=(anchor(cell, name)) {
                summary {
                    span.sign aria-hidden="true" { (kind.sign()) }
                    span.name { (name) }
                    span.rule { (cell) }
                }
                div.body.beside {
                    div { h4 { "OLD: " (words(old)) } (explained(self.old, of_old, name)) }
                    div { h4 { "NEW: " (words(new)) } (explained(self.new, cell, name)) }
                }
            }
        }
    }
}

fn words(outcomes: &BTreeSet<Outcome>) -> String {
    let words: Vec<&str> = outcomes.iter().map(|outcome| outcome.word()).collect();
    if words.is_empty() { "absent".into() } else { words.join(" or ") }
}

/// What was found in a case on one side.
fn explained(cells: &[Cell], name: &str, case: &str) -> Markup {
    let of_case = |cell: &Cell| -> Option<String> {
        let is_it = |other: &&Case| crate::renamed::case(&other.name) == case;
        cell.run()?.cases.iter().find(is_it).map(Case::explained)
    };
    let cell = cells.iter().find(|cell| cell.name() == name);
    let text = cell.and_then(of_case).unwrap_or_default();
    html! { @if text.is_empty() { p.nothing { "nothing found" } } @else { pre { (text) } } }
}
