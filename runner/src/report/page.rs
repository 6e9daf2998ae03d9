// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Cells as one self-contained HTML page for people.
//!
//! Whatever comes from a file is escaped, and the page's own policy lets the browser fetch nothing and run
//! nothing but the page's own script. Without that script everything works except the filter by text.

mod beside;
mod cases;
mod deviations;
mod finding;
mod grid;
mod hosts;
mod moves;
mod summary;

pub use beside::beside;

use super::{Cell, text::count};
use crate::{
    pairs::Table,
    results::{Case, Outcome},
    visible::visible,
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// What the page shows.
struct Report<'a> {
    cells: &'a [Cell],
    /// Each case, by its name, with all its results.
    cases: BTreeMap<&'a str, Vec<(&'a Cell, &'a Case)>>,
}

impl<'a> Report<'a> {
    fn new(cells: &'a [Cell]) -> Self {
        let mut cases: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for cell in cells {
            let of_cell = cell.run().into_iter().flat_map(|run| &run.cases);
            of_cell.for_each(|case| cases.entry(&case.name).or_default().push((cell, case)));
        }
        Self { cells, cases }
    }

    /// The cases whose worst result is of this kind.
    fn of(&self, kind: Kind) -> impl Iterator<Item = (&'a str, &[(&'a Cell, &'a Case)])> {
        let all = self.cases.iter().map(|(name, results)| (*name, &results[..]));
        all.filter(move |(_, results)| worst(results.iter().copied()) == Some(kind))
    }
}

/// The kind of a result, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Fail,
    Xpass,
    Xfail,
    Pass,
    Skip,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Fail, Self::Xpass, Self::Xfail, Self::Skip, Self::Pass];

    fn of(cell: &Cell, case: &Case) -> Self {
        match case.outcome {
            outcome if cell.run().is_some_and(|run| run.fails(outcome)) => Self::Fail,
            Outcome::Fail => Self::Fail,
            Outcome::Xpass => Self::Xpass,
            Outcome::Xfail => Self::Xfail,
            Outcome::Pass => Self::Pass,
            Outcome::Skip => Self::Skip,
        }
    }

    /// Its CSS class.
    const fn class(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Xpass => "xpass",
            Self::Xfail => "xfail",
            Self::Pass => "pass",
            Self::Skip => "skip",
        }
    }

    /// A sign that differs from the others even without its colour.
    const fn sign(self) -> &'static str {
        match self {
            Self::Fail => "✗",
            Self::Xpass => "△",
            Self::Xfail => "≈",
            Self::Pass => "✓",
            Self::Skip => "–",
        }
    }

    /// The heading of the cases whose worst result is of this kind.
    const fn heading(self) -> &'static str {
        match self {
            Self::Fail => "failing",
            Self::Xpass => "whose known deviation is gone",
            Self::Xfail => "with a known deviation",
            Self::Pass => "passed",
            Self::Skip => "skipped",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Fail => "failing",
            Self::Xpass => "deviation gone",
            Self::Xfail => "known deviation",
            Self::Pass => "passed",
            Self::Skip => "skipped",
        }
    }
}

/// What cells are called: hosts if no host ran twice, otherwise runs.
fn hosts_or_runs(cells: &[Cell]) -> &'static str {
    let hosts: BTreeSet<&str> = cells.iter().map(|cell| cell.host.as_str()).collect();
    if hosts.len() == cells.len() { "host" } else { "run" }
}

fn worst<'a>(results: impl IntoIterator<Item = (&'a Cell, &'a Case)>) -> Option<Kind> {
    results.into_iter().map(|(cell, case)| Kind::of(cell, case)).min()
}

/// The page of these cells, and of the moves between hosts if they were tried.
pub fn page(cells: &[Cell], moves: Option<&Table>) -> String {
    let report = Report::new(cells);
    let parts = [
        ("grid", "Hosts and suites", Some(grid::grid(&report))),
        ("cases", "Cases", Some(cases::cases(&report))),
        ("deviations", "Known deviations", deviations::deviations(&report)),
        ("moves", "Moves between hosts", moves.map(moves::moves)),
        ("hosts", "Hosts", Some(hosts::hosts(&report))),
    ];
    let parts: Vec<_> = parts.into_iter().filter_map(|(id, title, part)| Some((id, title, part?))).collect();
    let body = html! {
        a.jump href="#cases" { "Skip to the cases" }
        (summary::summary(&report, moves))
        nav aria-label="Parts of this page" {
            @for (id, title, _) in &parts { a href={ "#" (id) } { (title) } }
        }
        main {
            @for (id, title, part) in &parts {
                section id=(id) aria-labelledby={ (id) "-title" } {
                    h2 id={ (id) "-title" } { (title) }
                    (part)
                }
            }
        }
        footer {
            p { "Written by dfr0 " (env!("CARGO_PKG_VERSION")) "." }
        }
    };
    document(&visible(&body.into_string()), &visible(&summary::title(&report, moves)))
}

fn document(body: &str, title: &str) -> String {
    // No text in the body can contain the digest of the body, so none can pass for the page's own script.
    let nonce: String = Sha256::digest(body).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let policy =
        format!("default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; base-uri 'none'");
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style nonce=(nonce) { (PreEscaped(STYLE)) }
            }
            body {
                (PreEscaped(body))
                script nonce=(nonce) { (PreEscaped(SCRIPT)) }
            }
        }
    };
    document.into_string()
}

/// The fragment that links to something of this kind and name.
fn anchor(kind: &str, name: &str) -> String {
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '_' }
    };
    format!("{kind}-{}", name.chars().map(plain).collect::<String>())
}

/// The names of cells as links to the part about their hosts.
fn links(cells: &[&Cell]) -> Markup {
    html! {
        @for (place, cell) in cells.iter().enumerate() {
            @if place > 0 { ", " }
            a href={ "#" (anchor("host", &cell.name())) } { (cell.name()) }
        }
    }
}
