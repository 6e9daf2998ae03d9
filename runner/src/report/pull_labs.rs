// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Cells as a lab posts them to KernelCI that pulls its jobs: nested tests, each with a status.
//!
//! KernelCI joins the names with dots to a path, so a case has the path that it has in KCIDB. There is no status of a known
//! failure: an XFAIL passes, as it does for `dfr0 run`.

use super::{Cell, Reported, tap};
use crate::{
    results::{Case, Outcome, Run},
    visible::visible,
};
use serde_json::{Map, Value, json};
use std::io;

/// The root of the paths of dfr0's tests.
const ROOT: &str = "dfr0";

/// How many tests there are, and how many of them failed.
#[derive(Default)]
struct Count {
    total: usize,
    failed: usize,
}

/// The cells as a document. Its log is their KTAP.
pub fn pull_labs(cells: &[Cell]) -> io::Result<Value> {
    let mut log = Vec::new();
    tap(cells, &mut log)?;
    let mut count = Count::default();
    let tests = match cells {
        [cell] => cell_test(cell, &mut count),
        cells => {
            let names = cells.iter().map(Cell::name);
            let of_cells = names.zip(cells).map(|(name, cell)| (name, cell_test(cell, &mut count)));
            group(of_cells.map(|(name, test)| (plain(&name), test)).collect())
        }
    };
    let systems: Vec<String> = cells.iter().map(|cell| visible(&cell.name()).into_owned()).collect();
    Ok(json!({
        "summary": { "total": count.total, "failed": count.failed },
        "metadata": { "system": systems.join(", ") },
        "tests": { ROOT: tests },
        "artifacts": { "log": String::from_utf8_lossy(&log) },
    }))
}

fn cell_test(cell: &Cell, count: &mut Count) -> Value {
    let mut tests = Map::new();
    if let Some(run) = cell.run() {
        for (suite, cases) in run.suites() {
            tests.insert(suite.into(), suite_test(run, suite, &cases, count));
        }
    }
    if let Reported::Unavailable(_) = &cell.reported {
        tests.insert("all_reported".into(), leaf("skip", None, count));
    }
    if cell.silence().is_some() {
        tests.insert("all_reported".into(), leaf("error", None, count));
    }
    group(tests)
}

fn suite_test(run: &Run, suite: &str, cases: &[&Case], count: &mut Count) -> Value {
    let mut tests = Map::new();
    for case in cases {
        let status = match case.outcome {
            Outcome::Fail if case.is_broken() => "error",
            outcome if run.fails(outcome) => "fail",
            Outcome::Skip => "skip",
            Outcome::Pass | Outcome::Fail | Outcome::Xfail | Outcome::Xpass => "pass",
        };
        let name = case.name.strip_prefix(suite).unwrap_or(&case.name).trim_start_matches('.');
        let name = if name.is_empty() { suite } else { name };
        tests.insert(name.into(), leaf(status, Some(case.milliseconds), count));
    }
    group(tests)
}

fn leaf(status: &str, milliseconds: Option<u64>, count: &mut Count) -> Value {
    count.total += 1;
    count.failed += usize::from(matches!(status, "fail" | "error"));
    let mut test = json!({ "status": status });
    if let Some(milliseconds) = milliseconds {
        test["duration_ms"] = milliseconds.into();
    }
    test
}

/// A test of other tests. KernelCI takes a job whose tests all have the status `error` for one that its lab has broken, so
/// that is only what has no result at all.
fn group(tests: Map<String, Value>) -> Value {
    let has = |statuses: &[&str]| {
        tests.values().any(|test| statuses.iter().any(|status| test["status"] == *status))
    };
    let status = if !has(&["pass", "fail", "skip"]) {
        "error"
    } else if has(&["fail", "error"]) {
        "fail"
    } else if has(&["pass"]) {
        "pass"
    } else {
        "skip"
    };
    json!({ "status": status, "subtests": tests })
}

/// A name whose letters KernelCI accepts in a path.
fn plain(name: &str) -> String {
    let plain =
        |letter: char| if letter.is_ascii_alphanumeric() || "_-".contains(letter) { letter } else { '_' };
    name.chars().map(plain).collect()
}
