// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Each case, the failing ones first, with its results on all hosts.

use super::{Kind, Report, anchor, count, finding::findings, links};
use crate::{
    report::Cell,
    results::{Case, Deviation, Elsewhere, Why},
};
use maud::{Markup, html};
use std::collections::{BTreeMap, BTreeSet};

/// The groups that are open at first: those that need a person's attention.
const OPEN: [Kind; 2] = [Kind::Fail, Kind::Xpass];

/// Up to this many hosts are named even if a case has the same outcome on all.
const FEW: usize = 4;

pub fn cases(report: &Report<'_>) -> Markup {
    html! {
        form.filter role="search" aria-label="Filter the cases" {
            label.text hidden {
                span { "Filter" }
                input #filter type="search" placeholder="name, rule or observation" autocomplete="off" spellcheck="false"
                    aria-keyshortcuts="/";
            }
            fieldset {
                legend { "Show" }
                @for kind in Kind::ALL {
                    @let number = report.of(kind).count();
                    label.(kind.class()) {
                        input type="checkbox" id={ "show-" (kind.class()) } checked disabled[number == 0];
                        span { span.sign aria-hidden="true" { (kind.sign()) } " " (kind.words()) " " b { (number) } }
                    }
                }
            }
            p #shown role="status" {}
        }
        @for kind in Kind::ALL {
            @let number = report.of(kind).count();
            @if number > 0 {
                details.group.(kind.class()) id=(kind.class()) open[OPEN.contains(&kind)] {
                    summary { h3 { span.sign aria-hidden="true" { (kind.sign()) } " " (count(number, "case")) " " (kind.heading()) } }
                    @for (name, results) in report.of(kind) { (case(name, kind, results)) }
                }
            }
        }
        @if report.cases.is_empty() { p { "No case has a result." } }
    }
}

fn case(name: &str, kind: Kind, results: &[(&Cell, &Case)]) -> Markup {
    let mut hosts: BTreeMap<Kind, Vec<&Cell>> = BTreeMap::new();
    for (cell, case) in results {
        hosts.entry(Kind::of(cell, case)).or_default().push(cell);
    }
    let Some((_, first)) = results.first() else { return html! {} };
    let Why { name: rule, says, section } = &first.rule;
    html! {
        details.case.(kind.class()) id=(anchor("case", name)) {
            summary {
                span.sign aria-hidden="true" { (kind.sign()) }
                span.name { (name) }
                span.rule { (says) }
                span.hosts {
                    @for (of, cells) in &hosts {
                        span.(of.class()) { (cells.len()) " " (of.class()) }
                    }
                }
            }
            div.body {
                p.rule { strong { "Rule " @if let Some(rule) = rule { bdi { (rule) } " " } } bdi { (says) } " " cite { (section) } }
                dl.outcomes {
                    @for (of, cells) in &hosts {
                        dt.(of.class()) { span.sign aria-hidden="true" { (of.sign()) } " " (of.words()) }
                        dd {
                            @if cells.len() == results.len() && cells.len() > FEW { "all " (cells.len()) " hosts" }
                            @else { (links(cells)) }
                        }
                    }
                }
                (commands(results))
                (deviations(results))
                (findings(results))
                (elsewhere(results))
                (ended_early(results))
                (shown(results))
            }
        }
    }
}

/// How to run a failed case again.
fn commands(results: &[(&Cell, &Case)]) -> Markup {
    let commands: BTreeSet<_> = results.iter().flat_map(|(_, case)| case.commands("RESULTS")).collect();
    html! { @for (what, command) in commands.iter().rev() { p.again { (what) ": " code { (command) } } } }
}

fn deviations(results: &[(&Cell, &Case)]) -> Markup {
    let all: BTreeMap<&str, &Deviation> = results
        .iter()
        .flat_map(|(_, case)| &case.deviations)
        .map(|deviation| (deviation.name.as_str(), deviation))
        .collect();
    html! {
        @for (name, deviation) in all {
            p.known {
                "Known deviation of " bdi { (deviation.whose) } ": "
                a href={ "#" (anchor("deviation", name)) } { (name) }
            }
        }
    }
}

/// The deviations that are known of other hosts and forgive nothing here.
fn elsewhere(results: &[(&Cell, &Case)]) -> Markup {
    let mut all: BTreeMap<(&str, &str), Vec<&Cell>> = BTreeMap::new();
    for (cell, case) in results {
        for Elsewhere { name, why } in &case.elsewhere {
            all.entry((name, why)).or_default().push(cell);
        }
    }
    html! {
        @for ((name, why), cells) in all {
            p.known { "The known deviation " span.name { (name) } " does not apply to " (links(&cells)) ": " bdi { (why) } }
        }
    }
}

/// Why cases ended early, each reason once.
fn ended_early(results: &[(&Cell, &Case)]) -> Markup {
    let mut reasons: BTreeMap<&str, Vec<&Cell>> = BTreeMap::new();
    for (cell, case) in results {
        if let Some(stopped) = &case.stopped {
            reasons.entry(&stopped.why).or_default().push(cell);
        }
    }
    html! {
        @for (why, cells) in reasons {
            div.stopped { pre { (why) } p { "on " (links(&cells)) } }
        }
    }
}

fn shown(results: &[(&Cell, &Case)]) -> Markup {
    let mut texts: BTreeMap<&str, Vec<&Cell>> = BTreeMap::new();
    for (cell, case) in results.iter().filter(|(_, case)| !case.shown.is_empty()) {
        texts.entry(&case.shown).or_default().push(cell);
    }
    html! {
        @for (text, cells) in texts {
            div.shown { pre { (text) } p { "on " (links(&cells)) } }
        }
    }
}
