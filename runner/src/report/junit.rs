// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Cells as JUnit XML: a test suite for each cell and suite.
//!
//! A known deviation is a skipped test of type `xfail` whose message names it, as pytest writes it: every
//! consumer shows the message of a skipped test, but few show the properties of a passed one.

use super::{Cell, Reported};
use crate::{
    results::{Case, Outcome, Run},
    visible::visible,
};
use chrono::{DateTime, Utc};
use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// The name of a cell without cases, in place of a suite's name.
const WHOLE: &str = "dfr0";

/// The cells as a document.
pub fn junit(cells: &[Cell]) -> Result<String, SerializeError> {
    let mut report = Report::new("dfr0");
    for cell in cells {
        let name = visible(&cell.name()).into_owned();
        if let Some(run) = cell.run() {
            for (suite, cases) in run.suites() {
                report.add_test_suite(of_suite(cell, run, suite, &cases));
            }
        }
        if let Reported::Unavailable(unavailable) = &cell.reported {
            let mut status = TestCaseStatus::skipped();
            status.set_type("skip").set_message(&*visible(&unavailable.reason));
            report.add_test_suite(alone(&name, status));
        }
        if let Some(why) = cell.silence() {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_type("no results").set_message(&*visible(why));
            report.add_test_suite(alone(&name, status));
        }
    }
    report.to_string()
}

fn alone(name: &str, status: TestCaseStatus) -> TestSuite {
    let mut suite = TestSuite::new(format!("{name}.{WHOLE}"));
    let mut case = TestCase::new(WHOLE, status);
    case.set_classname(format!("{name}.{WHOLE}"));
    suite.add_test_case(case);
    suite
}

fn of_suite(cell: &Cell, run: &Run, name: &str, cases: &[&Case]) -> TestSuite {
    let host = visible(&cell.name()).into_owned();
    let name = format!("{host}.{name}");
    let mut suite = TestSuite::new(name.as_str());
    suite.extra.insert("hostname".into(), host.into());
    let started = i64::try_from(run.begin.started).ok();
    if let Some(started) = started.and_then(|seconds| DateTime::<Utc>::from_timestamp(seconds, 0)) {
        suite.set_timestamp(started);
    }
    let took = cases.iter().map(|case| case.milliseconds).fold(0, u64::saturating_add);
    suite.set_time(Duration::from_millis(took));
    suite.add_property(("dfr0", &*visible(&run.begin.dfr0)));
    for fact in visible(&run.begin.heading()).lines() {
        suite.add_property(fact.split_once(": ").unwrap_or((fact, "")));
    }
    if let Some(host) = &run.begin.lab_host {
        suite.add_property(("emulated", &*visible(host)));
    }
    for case in cases {
        let mut of_case = TestCase::new(case.name.as_str(), status(run, case));
        of_case.set_classname(name.as_str()).set_time(Duration::from_millis(case.milliseconds));
        suite.add_test_case(of_case);
    }
    suite
}

fn status(run: &Run, case: &Case) -> TestCaseStatus {
    let names = || {
        let names: Vec<&str> = case.deviations.iter().map(|deviation| deviation.name.as_str()).collect();
        names.join(", ")
    };
    let explained = visible(&case.explained()).into_owned();
    let failed = |kind, ty: &str, message: String| {
        let mut status = TestCaseStatus::non_success(kind);
        status.set_type(ty).set_message(&*visible(&message)).set_description(explained.as_str());
        status
    };
    let skipped = |ty: &str, message: String| {
        let mut status = TestCaseStatus::skipped();
        status.set_type(ty).set_message(&*visible(&message)).set_description(explained.as_str());
        status
    };
    let stopped = || case.stopped.as_ref().map(|stopped| stopped.why.clone()).unwrap_or_default();
    match case.outcome {
        Outcome::Fail if case.is_broken() => failed(NonSuccessKind::Error, "broken", stopped()),
        Outcome::Fail => {
            let observed = case.findings.first().map_or_else(stopped, |finding| finding.observed.clone());
            failed(NonSuccessKind::Failure, "fail", observed)
        }
        Outcome::Xpass if run.fails(case.outcome) => {
            failed(NonSuccessKind::Failure, "xpass", format!("no longer seen: {}", names()))
        }
        Outcome::Pass | Outcome::Xpass => TestCaseStatus::success(),
        Outcome::Xfail => skipped("xfail", format!("known deviation: {}", names())),
        Outcome::Skip => skipped("skip", stopped()),
    }
}
