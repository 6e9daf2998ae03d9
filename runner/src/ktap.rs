// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Results as KTAP, in the form that each of its consumers reads: flat, plan first, a directive without text.

use crate::expected::Verdict;
use std::io::{self, Write};

/// How many results of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Passed.
    pub pass: usize,
    /// Failed.
    pub fail: usize,
    /// Failed as listed.
    pub xfail: usize,
    /// Passed though listed.
    pub xpass: usize,
    /// Skipped.
    pub skip: usize,
}

/// A writer of KTAP; each line is flushed, so that a reader sees it when it happens.
#[derive(Debug)]
pub struct Ktap<W> {
    out: W,
    number: usize,
    totals: Totals,
}

impl<W: Write> Ktap<W> {
    /// Writes the header, unless a parent test has written it, and the plan.
    pub fn start(mut out: W, nested: bool, plan: usize) -> io::Result<Self> {
        header(&mut out, nested)?;
        writeln!(out, "1..{plan}")?;
        out.flush()?;
        Ok(Self { out, number: 0, totals: Totals::default() })
    }

    /// Writes text as comment lines.
    pub fn comment(&mut self, text: &str) -> io::Result<()> {
        for line in text.lines() {
            writeln!(self.out, "# {line}")?;
        }
        self.out.flush()
    }

    /// Writes one result.
    pub fn result(&mut self, name: &str, verdict: &Verdict) -> io::Result<()> {
        let totals = &mut self.totals;
        let (count, ok, directive) = match verdict {
            Verdict::Pass => (&mut totals.pass, "ok", ""),
            Verdict::Fail => (&mut totals.fail, "not ok", ""),
            Verdict::Skip => (&mut totals.skip, "ok", " # SKIP"),
            Verdict::XFail(_) => (&mut totals.xfail, "ok", " # XFAIL"),
            Verdict::XPass(_) => (&mut totals.xpass, "ok", " # XPASS"),
        };
        *count += 1;
        self.number += 1;
        writeln!(self.out, "{ok} {} {name}{directive}", self.number)?;
        self.out.flush()
    }

    /// Writes the totals.
    pub fn finish(mut self) -> io::Result<Totals> {
        let Totals { pass, fail, xfail, xpass, skip } = self.totals;
        writeln!(
            self.out,
            "# Totals: pass:{pass} fail:{fail} xfail:{xfail} xpass:{xpass} skip:{skip} error:0"
        )?;
        self.out.flush()?;
        Ok(self.totals)
    }
}

/// Writes a plan of no tests, and why.
pub fn skip_all(mut out: impl Write, nested: bool, reason: &str) -> io::Result<()> {
    header(&mut out, nested)?;
    writeln!(out, "1..0 # SKIP {}", reason.replace('\n', " "))?;
    out.flush()
}

fn header(out: &mut impl Write, nested: bool) -> io::Result<()> {
    if nested { Ok(()) } else { writeln!(out, "TAP version 13") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(nested: bool) -> (String, Totals) {
        let mut out = Vec::new();
        let mut ktap = Ktap::start(&mut out, nested, 5).expect("a vector");
        ktap.result("s.a", &Verdict::Pass).expect("a vector");
        ktap.comment("why\nand how").expect("a vector");
        ktap.result("s.b", &Verdict::Fail).expect("a vector");
        ktap.result("s.c", &Verdict::Skip).expect("a vector");
        ktap.result("s.d", &Verdict::XFail(vec!["n".into()])).expect("a vector");
        ktap.result("s.e", &Verdict::XPass(vec!["n".into()])).expect("a vector");
        let totals = ktap.finish().expect("a vector");
        (String::from_utf8(out).expect("text"), totals)
    }

    #[test]
    fn results_are_flat_numbered_and_end_with_the_totals() {
        let (text, totals) = written(false);
        assert_eq!(
            text,
            "TAP version 13\n1..5\nok 1 s.a\n# why\n# and how\nnot ok 2 s.b\nok 3 s.c # SKIP\n\
             ok 4 s.d # XFAIL\nok 5 s.e # XPASS\n\
             # Totals: pass:1 fail:1 xfail:1 xpass:1 skip:1 error:0\n"
        );
        assert_eq!(totals, Totals { pass: 1, fail: 1, xfail: 1, xpass: 1, skip: 1 });
    }

    #[test]
    fn a_nested_run_leaves_the_header_to_its_parent() {
        assert!(written(true).0.starts_with("1..5\n"));
    }

    #[test]
    fn nothing_to_run_is_a_plan_of_none_with_its_reason_on_one_line() {
        let mut out = Vec::new();
        skip_all(&mut out, false, "no\nKVM").expect("a vector");
        assert_eq!(String::from_utf8(out).expect("text"), "TAP version 13\n1..0 # SKIP no KVM\n");
    }
}
