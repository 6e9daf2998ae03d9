// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Cells in the form of KernelCI's KCIDB: I/O schema version 5.
//!
//! A case is a test of a build, which is the kernel. A case with a known deviation is a failed test with an
//! incident of an issue that says that the failure is known: KCIDB has no status for this. An XPASS is a
//! passed test with an incident that says that the issue is gone. A cell that did not report is a test with
//! the status MISS.

use super::{Cell, Reported};
use crate::{
    host::Build,
    results::{Case, Deviation, Outcome, Run},
    visible::visible,
};
use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The root of the paths of dfr0's tests.
const ROOT: &str = "dfr0";
/// The longest excerpt of a log, in characters.
const EXCERPT: usize = 16_384;

/// Who submits, and which build was tested.
#[derive(Clone, Debug)]
pub struct Ids {
    /// The name of the CI system: lower-case letters, digits and underscores.
    pub origin: String,
    /// What distinguishes the hosts of this report that did not run from those of any other.
    pub silent: String,
    /// The tested build, if KCIDB knows it already; otherwise each kernel is a build of the origin's own.
    pub build: Option<String>,
}

/// The cells as a document.
///
/// # Errors
///
/// A build is named, but the cells are of several kernels.
pub fn kcidb(cells: &[Cell], ids: &Ids) -> Result<Value, String> {
    let mut report = Report {
        ids,
        kernels: BTreeMap::new(),
        tests: Vec::new(),
        issues: BTreeMap::new(),
        incidents: Vec::new(),
    };
    cells.iter().for_each(|cell| report.add(cell));
    report.finish()
}

struct Report<'a> {
    ids: &'a Ids,
    /// The id of each build, and what it is of: the kernel's release, and what its image was made of.
    kernels: BTreeMap<String, (String, String)>,
    tests: Vec<Value>,
    issues: BTreeMap<&'a str, Value>,
    incidents: Vec<Value>,
}

impl<'a> Report<'a> {
    fn id(&self, what: &str) -> String {
        format!("{}:{}", self.ids.origin, what)
    }

    fn build(&mut self, cell: &Cell) -> String {
        let release = cell.release.as_ref().or(cell.kernel.as_ref()).map(String::as_str);
        // Two builds of one release are two kernels.
        let kernel = format!("{}{}", release.unwrap_or("unknown"), image(&cell.build));
        let id = match &self.ids.build {
            Some(build) => build.clone(),
            None => self.id(&format!("kernel:{kernel}")),
        };
        if release.is_some() || self.ids.build.is_none() {
            let source = cell.build.source.as_ref().or(cell.build.version.as_ref());
            let source = source.map_or_else(String::new, |source| format!(" ({source})"));
            let name = format!("Linux {}{source}", release.unwrap_or("unknown"));
            self.kernels.insert(kernel, (id.clone(), name));
        }
        id
    }

    fn add(&mut self, cell: &'a Cell) {
        let build = self.build(cell);
        if let Some(run) = cell.run() {
            let environment = environment(cell, run);
            run.cases.iter().for_each(|case| self.case(cell, run, case, &build, &environment));
        }
        if let Reported::Unavailable(unavailable) = &cell.reported {
            self.whole(cell, &build, "SKIP", &unavailable.reason);
        }
        if let Some(why) = cell.silence() {
            self.whole(cell, &build, "MISS", why);
        }
    }

    /// A cell that has no cases.
    fn whole(&mut self, cell: &Cell, build: &str, status: &str, why: &str) {
        let id = match cell.run() {
            Some(run) => self.id(&format!("{}:{ROOT}", run_id(cell, run))),
            None => self.id(&format!("{}:{}", cell.name(), self.ids.silent)),
        };
        self.tests.push(json!({
            "id": id,
            "origin": self.ids.origin,
            "build_id": build,
            "path": ROOT,
            "status": status,
            "comment": why,
            "environment": { "comment": cell.name() },
        }));
    }

    fn case(&mut self, cell: &Cell, run: &Run, case: &'a Case, build: &str, environment: &Value) {
        let id = self.id(&format!("{}:{}", run_id(cell, run), case.name));
        let status = match case.outcome {
            Outcome::Pass => "PASS",
            Outcome::Xpass if !run.fails(case.outcome) => "PASS",
            Outcome::Skip => "SKIP",
            Outcome::Fail if case.is_broken() => "ERROR",
            Outcome::Fail | Outcome::Xfail | Outcome::Xpass => "FAIL",
        };
        let mut test = Map::new();
        let mut set = |key: &str, value: Value| test.insert(key.into(), value);
        set("id", json!(id));
        set("origin", json!(self.ids.origin));
        set("build_id", json!(build));
        set("path", json!(format!("{ROOT}.{}", case.name)));
        set("status", json!(status));
        set("comment", json!(case.rule.to_string()));
        set("environment", environment.clone());
        set("duration", json!(case.milliseconds as f64 / 1000.0));
        if let Some(started) = time(run) {
            set("start_time", json!(started));
        }
        let explained = excerpt(&case.explained());
        if !explained.is_empty() {
            set("log_excerpt", json!(explained));
        }
        set("misc", json!({ "dfr0_outcome": case.outcome, "dfr0_checks": case.checks }));
        self.tests.push(Value::Object(test));
        for deviation in &case.deviations {
            self.incident(run, deviation, &id, case.outcome != Outcome::Xpass);
        }
    }

    fn incident(&mut self, run: &Run, deviation: &'a Deviation, test: &str, present: bool) {
        let issue = self.id(&format!("deviation:{}", deviation.name));
        let version = version(&run.begin.dfr0);
        let kvms = deviation.whose == "KVM";
        self.issues.entry(&deviation.name).or_insert_with(|| {
            json!({
                "id": issue,
                "version": version,
                "origin": self.ids.origin,
                "comment": format!("{}: {}; {}", deviation.name, deviation.why, deviation.source),
                "culprit": { "code": kvms, "tool": false, "harness": !kvms },
            })
        });
        let id = self.id(&format!("deviation:{}:{test}", deviation.name));
        self.incidents.push(json!({
            "id": id,
            "origin": self.ids.origin,
            "issue_id": issue,
            "issue_version": version,
            "test_id": test,
            "present": present,
        }));
    }

    fn finish(self) -> Result<Value, String> {
        let mut document = json!({ "version": { "major": 5, "minor": 3 } });
        let mut set = |key: &str, all: Vec<Value>| {
            if !all.is_empty() {
                document[key] = Value::Array(all);
            }
        };
        match &self.ids.build {
            Some(build) if self.kernels.len() > 1 => {
                let kernels: Vec<&str> = self.kernels.keys().map(String::as_str).collect();
                return Err(format!("{build} is one build, but the results are of {}", kernels.join(", ")));
            }
            Some(_) => {}
            None => {
                let origin = &self.ids.origin;
                let checkout = |kernel: &str| format!("{origin}:checkout:{kernel}");
                let all = || self.kernels.iter();
                set(
                    "checkouts",
                    all()
                        .map(|(kernel, (_, name))| {
                            json!({ "id": checkout(kernel), "origin": origin, "comment": name })
                        })
                        .collect(),
                );
                set(
                    "builds",
                    all()
                        .map(|(kernel, (id, name))| {
                            json!({
                                "id": id,
                                "checkout_id": checkout(kernel),
                                "origin": origin,
                                "architecture": "arm64",
                                "comment": name,
                            })
                        })
                        .collect(),
                );
            }
        }
        set("tests", self.tests);
        set("issues", self.issues.into_values().collect());
        set("incidents", self.incidents);
        Ok(cleaned(document))
    }
}

/// What distinguishes a run from all others, on this host and on others: of the same kind, begun in the same second.
fn run_id(cell: &Cell, run: &Run) -> String {
    match &run.begin.id {
        Some(id) => id.clone(),
        None => format!("{}{}:{}", cell.name(), image(&cell.build), run.begin.started),
    }
}

/// The part of an id that distinguishes two builds of one release.
fn image(build: &Build) -> String {
    let short = build.short();
    if short.is_empty() { short } else { format!(":{short}") }
}

fn environment(cell: &Cell, run: &Run) -> Value {
    let host = &run.begin.host;
    let emulated = if run.begin.lab_host.is_some() { ", an emulated CPU" } else { "" };
    let mut environment = json!({
        "comment": format!("{}: {}{emulated}", cell.name(), host.cpu()),
        "misc": { "dfr0": run.begin.dfr0, "host": host, "lab_host": run.begin.lab_host, "cpus": run.begin.cpus },
    });
    // The name in a device tree has a comma, the vendor that a firmware names does not.
    let parts = || host.platform.split(',');
    if parts().count() > 1 && parts().all(|part| !part.is_empty() && !part.contains([' ', '\0'])) {
        environment["compatible"] = json!([host.platform]);
    }
    environment
}

/// When the run began, in the format of RFC 3339.
fn time(run: &Run) -> Option<String> {
    let seconds = i64::try_from(run.begin.started).ok()?;
    let time = DateTime::<Utc>::from_timestamp(seconds, 0)?;
    // RFC 3339 has no years of five digits.
    (time.year() <= 9999).then(|| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// The version of issues: the version of the dfr0 that lists the deviations, so that the newest text is kept.
fn version(dfr0: &str) -> u32 {
    let mut parts = dfr0.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0).min(99));
    let mut next = || parts.next().unwrap_or(0);
    next() * 10_000 + next() * 100 + next()
}

fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT).collect()
}

/// The document without control characters in its text, where KCIDB accepts no NUL.
fn cleaned(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(visible(&text).into_owned()),
        Value::Array(all) => all.into_iter().map(cleaned).collect(),
        Value::Object(all) => all.into_iter().map(|(key, value)| (key, cleaned(value))).collect(),
        value => value,
    }
}
