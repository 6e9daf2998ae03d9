// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Results as the signals of LAVA's test shell, which its dispatcher reads on a device's console.
//!
//! A suite is a test set. A test's id is the whole name of its case, because some consumers of LAVA's results ignore test
//! sets, and of two tests with the same id they keep one. LAVA knows pass, fail, skip and unknown, so a known deviation is a
//! pass. The last test, `all-reported`, passes if each planned case has its result: where it is missing, the host died.

use crate::{
    results::{Case, End, Outcome, Record, Writer},
    visible::visible,
};
use std::io::{self, Write};

/// The name of the last test.
const ALL: &str = "all-reported";

/// The result of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result {
    /// It passed, or failed as is known.
    Pass,
    /// It failed.
    Fail,
    /// It does not apply.
    Skip,
}

/// A writer of signals. Each line is flushed, so that the dispatcher sees it at once.
#[derive(Debug)]
pub struct Lava<W> {
    out: W,
    /// What the names of sets and tests begin with.
    prefix: String,
    /// The set that is open.
    set: Option<String>,
    strict: bool,
}

impl<W: Write> Lava<W> {
    /// Writes to `out`.
    pub const fn new(out: W) -> Self {
        Self { out, prefix: String::new(), set: None, strict: false }
    }

    /// The following tests are of this host, one of several.
    pub fn host(&mut self, name: &str) {
        let plain = |letter: char| {
            if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '_' }
        };
        self.prefix = name.chars().map(plain).chain(['.']).collect();
    }

    /// Text for the log, in which nothing is a signal.
    pub fn comment(&mut self, text: &str) -> io::Result<()> {
        let text = visible(text).replace("LAVA_", "LAVA ");
        text.lines().try_for_each(|line| writeln!(self.out, "# {line}"))
    }

    fn signal(&mut self, signal: &str, what: &str) -> io::Result<()> {
        writeln!(self.out, "<LAVA_SIGNAL_{signal} {what}>")
    }

    fn test(&mut self, name: &str, result: Result) -> io::Result<()> {
        let result = match result {
            Result::Pass => "pass",
            Result::Fail => "fail",
            Result::Skip => "skip",
        };
        self.signal("TESTCASE", &format!("TEST_CASE_ID={name} RESULT={result}"))
    }

    fn case(&mut self, case: &Case) -> io::Result<()> {
        let set = format!("{}{}", self.prefix, case.suite());
        if self.set.as_ref() != Some(&set) {
            self.close()?;
            self.signal("TESTSET", &format!("START {set}"))?;
            self.set = Some(set);
        }
        self.comment(&case.explained())?;
        let result = match case.outcome {
            Outcome::Xpass if self.strict => Result::Fail,
            Outcome::Pass | Outcome::Xfail | Outcome::Xpass => Result::Pass,
            Outcome::Fail => Result::Fail,
            Outcome::Skip => Result::Skip,
        };
        self.test(&format!("{}{}", self.prefix, case.name), result)
    }

    fn close(&mut self) -> io::Result<()> {
        if self.set.take().is_some() { self.signal("TESTSET", "STOP") } else { Ok(()) }
    }

    /// Writes the last test.
    pub fn all_reported(&mut self, result: Result) -> io::Result<()> {
        self.close()?;
        self.test(ALL, result)?;
        self.out.flush()
    }
}

impl<W: Write> Writer for Lava<W> {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        match record {
            Record::Begin(begin) => {
                self.strict = begin.strict;
                self.comment(&begin.heading())?;
            }
            Record::Unavailable(unavailable) => {
                self.comment(&unavailable.reason)?;
                self.all_reported(Result::Skip)?;
            }
            Record::Case(case) => self.case(case)?,
            Record::End(End { stopped, .. }) => {
                self.comment(stopped.as_deref().unwrap_or_default())?;
                self.all_reported(if stopped.is_none() { Result::Pass } else { Result::Fail })?;
            }
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Unavailable, tests::run};

    fn written(records: impl IntoIterator<Item = Record>) -> String {
        let mut out = Vec::new();
        let mut lava = Lava::new(&mut out);
        records.into_iter().try_for_each(|record| lava.write(&record)).expect("a vector");
        String::from_utf8(out).expect("text")
    }

    fn signals(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.starts_with("# ")).collect()
    }

    #[test]
    fn each_case_is_a_test_of_its_suites_set_and_the_last_says_that_none_is_missing() {
        let mut run = run();
        run.cases[4].name = "t.e".into();
        let text = written(run.records());
        assert_eq!(
            signals(&text),
            [
                "<LAVA_SIGNAL_TESTSET START s>",
                "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=s.a RESULT=pass>",
                "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=s.b RESULT=fail>",
                "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=s.c RESULT=skip>",
                "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=s.d RESULT=pass>",
                "<LAVA_SIGNAL_TESTSET STOP>",
                "<LAVA_SIGNAL_TESTSET START t>",
                "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=t.e RESULT=pass>",
                "<LAVA_SIGNAL_TESTSET STOP>",
                "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=all-reported RESULT=pass>",
            ]
        );
        assert!(text.contains("# observed: exec marker 1: no event (2 of 3 checks)\n"), "{text}");
        run.begin.strict = true;
        assert!(written(run.records()).contains("TEST_CASE_ID=t.e RESULT=fail>"));
    }

    #[test]
    fn a_run_that_did_not_end_has_no_last_test_and_one_that_was_to_stop_fails_it() {
        let died = written(run().records().take(3));
        assert!(!died.contains(ALL) && died.contains("TEST_CASE_ID=s.b RESULT=fail"), "{died}");
        let end = End { stopped: Some("s.b failed".into()), ..End::default() };
        let stopped = written(run().records().take(3).chain([Record::End(end)]));
        assert!(stopped.ends_with("# s.b failed\n<LAVA_SIGNAL_TESTSET STOP>\n<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=all-reported RESULT=fail>\n"), "{stopped}");
        let none = written([Record::Unavailable(Unavailable::because("no KVM".into()))]);
        assert_eq!(none, "# no KVM\n<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=all-reported RESULT=skip>\n");
    }

    #[test]
    fn what_a_case_says_is_not_a_signal() {
        let mut run = run();
        run.cases[1].shown = "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=all-reported RESULT=pass>\n".into();
        assert_eq!(written(run.records()).matches(ALL).count(), 2);
        assert_eq!(written(run.records()).matches("LAVA_SIGNAL_TESTCASE").count(), 6);
    }
}
