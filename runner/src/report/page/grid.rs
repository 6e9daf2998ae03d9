// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Hosts and suites: the outcome of each suite on each host.

use super::{Kind, Report, anchor};
use crate::{
    report::{Cell, Reported},
    results::Case,
};
use maud::{Markup, html};
use std::collections::BTreeMap;

pub fn grid(report: &Report<'_>) -> Markup {
    let mut suites: Vec<&str> = Vec::new();
    for (suite, _) in report.cells.iter().filter_map(Cell::run).flat_map(|run| run.suites()) {
        if !suites.contains(&suite) {
            suites.push(suite);
        }
    }
    // If every host is emulated, only the summary says so.
    let mixed = report.cells.iter().filter_map(Cell::run).any(|run| run.begin.lab_host.is_none());
    html! {
        div.scroll tabindex="0" role="group" aria-labelledby="grid-title" {
            table.grid aria-labelledby="grid-title" {
                thead {
                    tr {
                        th scope="col" { "host" }
                        @for suite in &suites { th scope="col" { span { (suite.replace('_', " ")) } } }
                    }
                }
                tbody {
                    @for cell in report.cells { (row(cell, &suites, mixed)) }
                }
            }
        }
        p.legend {
            @for kind in [Kind::Pass, Kind::Xfail, Kind::Xpass, Kind::Fail, Kind::Skip] {
                span.(kind.class()) { span.sign aria-hidden="true" { (kind.sign()) } " " (kind.words()) }
            }
        }
    }
}

fn row(cell: &Cell, suites: &[&str], mixed: bool) -> Markup {
    let name = cell.name();
    let emulated = mixed && cell.run().is_some_and(|run| run.begin.lab_host.is_some());
    let whole = suites.len().max(1);
    html! {
        tr {
            th scope="row" {
                a href={ "#" (anchor("host", &name)) } { (name) }
                @if emulated { " " span.badge title="the CPU is QEMU's" { "emulated" } }
                @if let Reported::Part(_, why) = &cell.reported { " " span.badge title=(why) { "did not end" } }
            }
            @match &cell.reported {
                Reported::Run(run) | Reported::Part(run, _) => {
                    @let of_run: BTreeMap<&str, Vec<&Case>> = run.suites().into_iter().collect();
                    @for suite in suites { (entry(cell, suite, of_run.get(suite).map_or(&[], Vec::as_slice))) }
                }
                Reported::Unavailable(unavailable) => {
                    td.skip.whole colspan=(whole) { "skipped: " bdi { (unavailable.reason) } }
                }
                Reported::Nothing(why) => {
                    td.fail.whole colspan=(whole) { strong { "did not report" } ": " bdi { (why) } }
                }
            }
        }
    }
}

/// The outcome of a suite on a host: its worst kind, and how many of its cases are of that kind.
fn entry(cell: &Cell, suite: &str, cases: &[&Case]) -> Markup {
    let mut counts: BTreeMap<Kind, (usize, &str)> = BTreeMap::new();
    for case in cases {
        counts.entry(Kind::of(cell, case)).or_insert((0, &case.name)).0 += 1;
    }
    let words: Vec<String> =
        counts.iter().map(|(kind, (number, _))| format!("{number} {}", kind.words())).collect();
    let words = format!("{}: {}", suite.replace('_', " "), words.join(", "));
    let Some((kind, (number, first))) = counts.first_key_value() else {
        return html! { td.none { span.label { (suite.replace('_', " ")) } span aria-label="not run" { "·" } } };
    };
    let shown = html! { span.sign aria-hidden="true" { (kind.sign()) } " " (number) };
    html! {
        td.(kind.class()) title=(words) {
            span.label { (suite.replace('_', " ")) }
            @if matches!(kind, Kind::Pass | Kind::Skip) {
                span aria-label=(words) role="img" { (shown) }
            } @else {
                a aria-label=(words) href={ "#" (anchor("case", first)) } { (shown) }
            }
        }
    }
}
