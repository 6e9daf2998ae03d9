// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Results as KTAP, in the form that all its consumers read: flat, plan first, directives without text. docs/engines.md says
//! what each of them makes of it.

use crate::{
    results::{Case, End, Outcome, Record, Totals, Writer},
    visible::{one_line, visible},
};
use std::io::{self, Write};

/// A writer of KTAP. Each line is flushed, so that a reader sees it at once.
#[derive(Debug)]
pub struct Ktap<W> {
    out: W,
    nested: bool,
    number: usize,
}

impl<W: Write> Ktap<W> {
    /// Writes to `out`. The parent test of a nested run has written the header.
    pub const fn new(out: W, nested: bool) -> Self {
        Self { out, nested, number: 0 }
    }

    fn header(&mut self) -> io::Result<()> {
        if self.nested { Ok(()) } else { writeln!(self.out, "TAP version 13") }
    }

    fn comment(&mut self, text: &str) -> io::Result<()> {
        visible(text).lines().try_for_each(|line| writeln!(self.out, "# {line}"))
    }

    fn result(&mut self, case: &Case) -> io::Result<()> {
        let (ok, directive) = match case.outcome {
            Outcome::Pass => ("ok", String::new()),
            Outcome::Fail => ("not ok", format!(" # {}", in_short(case))),
            Outcome::Skip => ("ok", " # SKIP".into()),
            Outcome::Xfail => ("ok", " # XFAIL".into()),
            Outcome::Xpass => ("ok", " # XPASS".into()),
        };
        self.number += 1;
        writeln!(self.out, "{ok} {} {}{directive}", self.number, case.name)
    }
}

/// Why a case failed, for its own line: some consumers give the lines above to the case before. No word of it is taken for
/// a directive, nor the text for that of another line.
fn in_short(case: &Case) -> String {
    /// The upper limit of its length, in characters.
    const LONGEST: usize = 120;
    let why = case.in_short();
    let plain = one_line(&why).replace('#', "");
    let words = plain.split_whitespace().map(|word| match word.to_ascii_lowercase().as_str() {
        "skip" | "todo" | "xfail" | "xpass" => word.to_lowercase(),
        _ => word.into(),
    });
    let text = words.collect::<Vec<String>>().join(" ");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text,
    }
}

impl<W: Write> Writer for Ktap<W> {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        match record {
            Record::Begin(begin) => {
                self.header()?;
                writeln!(self.out, "1..{}", begin.cases)?;
                self.comment(&begin.heading())?;
            }
            Record::Unavailable(unavailable) => {
                self.header()?;
                writeln!(self.out, "1..0 # SKIP {}", one_line(&unavailable.reason))?;
            }
            Record::Case(case) => {
                self.comment(&case.explained())?;
                self.result(case)?;
            }
            Record::End(End { totals, checks, stopped }) => {
                if let Some(why) = stopped {
                    writeln!(self.out, "Bail out! {}", one_line(why))?;
                }
                let Totals { pass, fail, xfail, xpass, skip } = totals;
                self.comment(&format!("checks: {checks} scenarios judged and values written"))?;
                self.comment(&format!(
                    "Totals: pass:{pass} fail:{fail} xfail:{xfail} xpass:{xpass} skip:{skip} error:0"
                ))?;
            }
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{How, Stopped, Unavailable, tests::run};

    fn written(nested: bool) -> String {
        let mut out = Vec::new();
        let mut ktap = Ktap::new(&mut out, nested);
        run().records().try_for_each(|record| ktap.write(&record)).expect("a vector");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn results_are_flat_numbered_and_end_with_the_totals() {
        let text = written(false);
        assert!(text.starts_with("TAP version 13\n1..5\n# kernel: Linux 7.3.4\n"), "{text}");
        let results: Vec<&str> = text.lines().skip(2).filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            results,
            [
                "ok 1 s.a",
                "not ok 2 s.b # observed exec marker 1: no event",
                "ok 3 s.c # SKIP",
                "ok 4 s.d # XFAIL",
                "ok 5 s.e # XPASS"
            ]
        );
        assert!(text.ends_with("# Totals: pass:1 fail:1 xfail:1 xpass:1 skip:1 error:0\n"), "{text}");
    }

    #[test]
    fn a_run_that_taints_the_kernel_says_so_above_the_cases() {
        let text = |taints| {
            let mut run = run();
            run.begin.taints = taints;
            let mut out = Vec::new();
            let mut ktap = Ktap::new(&mut out, false);
            run.records().try_for_each(|record| ktap.write(&record)).expect("a vector");
            String::from_utf8(out).expect("text")
        };
        assert!(text(true).contains("\n# taints the kernel"));
        assert!(!text(false).contains("taints"));
    }

    #[test]
    fn what_was_observed_is_short_and_is_neither_a_directive_nor_another_line() {
        let line = |observed: &str| {
            let mut run = run();
            run.cases[1].findings[0].observed = observed.into();
            let mut out = Vec::new();
            let mut ktap = Ktap::new(&mut out, false);
            run.records().try_for_each(|record| ktap.write(&record)).expect("a vector");
            let text = String::from_utf8(out).expect("text");
            let lines: Vec<&str> =
                text.lines().filter(|line| !line.starts_with("# ") && line.contains("ok 2 ")).collect();
            assert_eq!(lines.len(), 1, "{text}");
            lines[0].to_owned()
        };
        assert_eq!(line("x # SKIP y"), "not ok 2 s.b # observed x skip y");
        assert_eq!(line("a\nok 2 s.b # TODO"), "not ok 2 s.b # observed a ok 2 s.b todo");
        assert_eq!(line(&"é".repeat(500)).chars().count(), "not ok 2 s.b # ".len() + 120 + 1);
        let mut run = run();
        run.cases[1].findings.clear();
        let died =
            Stopped { how: How::Died, why: "the guest did not come back within 2s\n PC 0x40000000".into() };
        run.cases[1].stopped = Some(died);
        let said = in_short(&run.cases[1]);
        assert_eq!(said, "the guest did not come back within 2s");
    }

    #[test]
    fn a_nested_run_leaves_the_header_to_its_parent() {
        assert!(written(true).starts_with("1..5\n"));
    }

    #[test]
    fn a_run_that_cannot_start_is_a_plan_of_zero_with_its_reason_on_one_line() {
        let mut out = Vec::new();
        let none = Unavailable::because("no\nKVM".into());
        Ktap::new(&mut out, false).write(&Record::Unavailable(none)).expect("a vector");
        assert_eq!(String::from_utf8(out).expect("text"), "TAP version 13\n1..0 # SKIP no KVM\n");
    }
}
