// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The first screen: what was tested, on what, and the verdict.

use super::{Kind, Report, count, hosts_or_runs};
use crate::{
    pairs::Table,
    report::{Cell, Reported},
    results::{Outcome, Run},
};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use std::collections::BTreeSet;

/// The verdict.
struct Verdict {
    word: &'static str,
    class: &'static str,
    sentence: String,
}

fn verdict(report: &Report<'_>, moves: Option<&Table>) -> Verdict {
    let cells = report.cells;
    let silent = cells.iter().filter(|cell| cell.silence().is_some()).count();
    let failing = report.of(Kind::Fail).count();
    let fails =
        |cell: &&Cell| cell.run().is_some_and(|run| run.cases.iter().any(|case| run.fails(case.outcome)));
    let hosts = cells.iter().filter(fails).count();
    let wrong = moves.map_or(0, |table| {
        table.moves().filter(|pair| pair.debug.problem.is_some() || pair.whole.problem.is_some()).count()
    });
    let deviations: BTreeSet<&str> = report
        .cases
        .values()
        .flatten()
        .filter(|(_, case)| case.outcome == Outcome::Xfail)
        .flat_map(|(_, case)| case.deviations.iter().map(|deviation| deviation.name.as_str()))
        .collect();
    let what = hosts_or_runs(cells);
    let (all, on) = (count(cells.len(), what), if what == "run" { "in" } else { "on" });
    let mut said = Vec::new();
    if failing > 0 {
        let of = if hosts == cells.len() { String::new() } else { format!("{hosts} of ") };
        said.push(format!("{} {on} {of}{all}", verb(failing, "case", "fails", "fail")));
    }
    if silent > 0 {
        said.push(format!("{silent} of {all} did not report"));
    }
    if wrong > 0 {
        said.push(format!("{} between hosts did not go as planned", count(wrong, "move")));
    }
    let ran = report.cells.iter().filter_map(Cell::run).any(|run| run.end.totals.ran() > 0);
    let (word, class) = match (failing + wrong, silent, ran) {
        (0, 0, true) => ("Passed", "pass"),
        (0, 0, false) => ("Nothing tested", "skip"),
        (0, ..) => ("Incomplete", "fail"),
        _ => ("Failed", "fail"),
    };
    if said.is_empty() {
        said.push(match (ran, deviations.len()) {
            (false, _) => "no case applied to any host".into(),
            (true, 0) => format!("no deviation from the architecture {on} {all}"),
            (true, known) => {
                format!("nothing but {} {on} {all}", count(known, "known deviation"))
            }
        });
    }
    Verdict { word, class, sentence: said.join("; ") }
}

fn verb(number: usize, what: &str, one: &str, many: &str) -> String {
    format!("{} {}", count(number, what), if number == 1 { one } else { many })
}

/// The title of the page.
pub fn title(report: &Report<'_>, moves: Option<&Table>) -> String {
    let Verdict { word, sentence, .. } = verdict(report, moves);
    format!("{word}: {sentence} – dfr0")
}

pub fn summary(report: &Report<'_>, moves: Option<&Table>) -> Markup {
    let Verdict { word, class, sentence } = verdict(report, moves);
    let runs: Vec<&Run> = report.cells.iter().filter_map(Cell::run).collect();
    let hosts: BTreeSet<&str> = report.cells.iter().map(|cell| cell.host.as_str()).collect();
    let kernels: BTreeSet<&str> = report.cells.iter().filter_map(|cell| cell.release.as_deref()).collect();
    let checks = runs.iter().fold(0usize, |sum, run| sum.saturating_add(run.end.checks));
    let silent = report.cells.iter().filter(|cell| cell.silence().is_some()).count();
    html! {
        header {
            p.what { strong { "dfr0" } " – self-hosted debug of KVM/arm64 guests, judged by the Arm ARM (DDI 0487)" }
            h1 { span.verdict.(class) { (word) } " " span.sentence { (sentence) } }
            p.ground {
                (count(report.cases.len(), "case")) ", " (grouped(checks)) " scenarios and values judged, on "
                (count(hosts.len(), "host"))
                @if hosts.len() < report.cells.len() { " in " (count(report.cells.len(), "run")) }
                @if !kernels.is_empty() { " with " (several("Linux", &kernels)) }
                @if let Some(when) = dates(&runs) { "; run on " (when) }
                "."
            }
            (emulated(&runs, report.cells))
            dl.tiles {
                @if silent > 0 { (tile("fail", "!", silent, "did not report", "#grid")) }
                @for kind in [Kind::Fail, Kind::Xfail, Kind::Xpass, Kind::Pass, Kind::Skip] {
                    (tile(kind.class(), kind.sign(), report.of(kind).count(), kind.words(), &format!("#{}", kind.class())))
                }
            }
        }
    }
}

/// A number, and a link to what it counts.
fn tile(class: &str, sign: &str, number: usize, words: &str, target: &str) -> Markup {
    html! {
        div.tile.(class).none[number == 0] {
            dt { span.sign aria-hidden="true" { (sign) } " " (words) }
            dd { @if number > 0 { a href=(target) { (number) } } @else { (number) } }
        }
    }
}

/// Notes about what the results are based on.
fn emulated(runs: &[&Run], cells: &[Cell]) -> Markup {
    let emulated = runs.iter().filter(|run| run.begin.lab_host.is_some()).count();
    let bare = runs.iter().filter(|run| run.begin.host.is_bare()).count();
    let sample = runs.iter().map(|run| run.begin.every).max().unwrap_or(1);
    let unavailable = cells.iter().filter(|cell| matches!(cell.reported, Reported::Unavailable(_))).count();
    html! {
        @if emulated > 0 {
            p.note {
                strong { "Emulated: " }
                @if emulated == cells.len() { "the CPU of every host" }
                @else if emulated == runs.len() { "the CPU of every host that reported" }
                @else { "the CPU of " (count(emulated, "host")) " of " (runs.len()) }
                " is QEMU's and not silicon. The KVM that runs on it is the real one."
            }
        }
        @if sample > 1 {
            p.note { strong { "A sample: " } "only the first scenario and one in " (sample) " ran in each case." }
        }
        @if bare > 0 { p.note { strong { "Bare: " } (count(bare, "run")) " on a CPU without KVM, as a control." } }
        @if unavailable > 0 { p.note { strong { "Skipped: " } "on " (count(unavailable, "host")) " no case can run." } }
    }
}

fn several(what: &str, all: &BTreeSet<&str>) -> String {
    let names: Vec<&str> = all.iter().copied().collect();
    match names.len() {
        0..=3 => format!("{what} {}", names.join(", ")),
        many => format!("{many} kernels, {what} {} to {}", names[0], names[many - 1]),
    }
}

/// The days of the runs.
fn dates(runs: &[&Run]) -> Option<String> {
    let days = runs.iter().filter_map(|run| day(run.begin.started));
    let days: BTreeSet<String> = days.collect();
    let (first, last) = (days.first()?, days.last()?);
    Some(if first == last { first.clone() } else { format!("{first} to {last}") })
}

/// The day of a time in seconds since 1970, UTC.
pub fn day(seconds: u64) -> Option<String> {
    let time = DateTime::<Utc>::from_timestamp(i64::try_from(seconds).ok()?, 0)?;
    Some(time.format("%Y-%m-%d").to_string())
}

/// A number with its thousands separated.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}
