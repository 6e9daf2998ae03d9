// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What a case found: the scenario, and the events side by side.

use super::anchor;
use crate::{
    report::Cell,
    results::{Case, Departed, Detail, Finding},
};
use maud::{Markup, html};
use std::collections::BTreeSet;

/// How many of the first and the last operations of a long scenario are shown.
const ENDS: usize = 24;

/// A finding, and where it was made.
struct Found<'a> {
    finding: &'a Finding,
    /// The cells, each with how often the finding was made and in how many checks.
    at: Vec<(&'a Cell, usize, usize)>,
}

/// The findings of a case, each once; what no known deviation lists is first.
pub fn findings(results: &[(&Cell, &Case)]) -> Markup {
    let mut all: Vec<Found<'_>> = Vec::new();
    for (cell, case) in results {
        for finding in &case.findings {
            let same = |found: &&mut Found<'_>| {
                let Finding { observed, known, detail, .. } = &found.finding;
                (observed, known, detail) == (&finding.observed, &finding.known, &finding.detail)
            };
            match all.iter_mut().find(same) {
                Some(found) => found.at.push((cell, finding.times, case.checks)),
                None => all.push(Found { finding, at: vec![(cell, finding.times, case.checks)] }),
            }
        }
    }
    all.sort_by_key(|found| found.finding.known.is_some());
    let rule = results.first().map(|(_, case)| case.rule.to_string()).unwrap_or_default();
    html! { @for found in &all { (one(found, &rule)) } }
}

fn one(Found { finding, at }: &Found<'_>, rule: &str) -> Markup {
    html! {
        article.finding.known[finding.known.is_some()] {
            h4 {
                "Observed: " bdi { (finding.observed) }
                @if let Some(known) = &finding.known {
                    " " a.badge href={ "#" (anchor("deviation", known)) } { "known: " (known) }
                }
            }
            p {
                "on "
                @for (place, (cell, times, checks)) in at.iter().enumerate() {
                    @if place > 0 { ", " }
                    a href={ "#" (anchor("host", &cell.name())) } { (cell.name()) }
                    " (" (times) " of " (checks) " checks)"
                }
            }
            @match &finding.detail {
                Some(Detail::Text(text)) => pre { (text) },
                Some(Detail::Scenario(scenario)) => (departed(scenario, rule)),
                None => {}
            }
        }
    }
}

/// The rule that decides is shown unless it is the case's own, which is above.
fn departed(Departed { how, shape, undoing, operations, mismatch }: &Departed, rule: &str) -> Markup {
    let gap = operations.len() > 2 * ENDS;
    let shown = |place: usize| !gap || place < ENDS || place + ENDS >= operations.len();
    html! {
        p.vm {
            @if let Some(how) = how { bdi { (how) } ": " }
            "in a VM of " bdi { (shape) }
            @if *undoing { ", while the scenario before was undone" }
        }
        div.scenario {
            ol.operations start="0" aria-label="The operations of the scenario" {
                @for (place, operation) in operations.iter().enumerate().filter(|(place, _)| shown(*place)) {
                    @if gap && place + ENDS == operations.len() {
                        li.gap value=(ENDS) { "… " (operations.len() - 2 * ENDS) " operations …" }
                    }
                    @if place == mismatch.place {
                        li.departs value=(place) { code { (operation) } " " strong { "departs" } }
                    } @else {
                        li value=(place) { code { (operation) } }
                    }
                }
            }
            div.events {
                div.seen {
                    h5 { "Seen" }
                    (events(&mismatch.seen, &mismatch.allowed.concat()))
                }
                div.allowed {
                    h5 { "Allowed" }
                    @for (number, allowed) in mismatch.allowed.iter().enumerate() {
                        @if number > 0 { p.or { "or" } }
                        (events(allowed, &mismatch.seen))
                    }
                }
                @if mismatch.rule != rule { p.decides { strong { "Rule " } bdi { (mismatch.rule) } } }
            }
        }
    }
}

/// Events. Words that are in none of the `others` are marked.
fn events(events: &[String], others: &[String]) -> Markup {
    let words: BTreeSet<&str> = others.iter().flat_map(|other| other.split(' ')).collect();
    html! {
        @if events.is_empty() { p.nothing { "nothing" } }
        @else {
            ul {
                @for event in events {
                    li {
                        code {
                            @for (place, word) in event.split(' ').enumerate() {
                                @if place > 0 { " " }
                                @if others.is_empty() || words.contains(word) { (word) } @else { mark { (word) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
