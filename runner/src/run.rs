// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Runs cases, compares what they found with the deviations, and writes the results.

use crate::{
    case::{Case, Report, Session, Stop},
    expected::{Deviation, Deviations, Verdict},
    host::Host,
    ktap::{self, Ktap, Totals},
    random::Draw,
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    env,
    io::{self, IsTerminal},
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    time::Duration,
};

/// Exit codes, as kselftest's `ksft_finished` has them.
const FAILED: u8 = 1;
const SKIPPED: u8 = 4;

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A listed deviation that is gone is a failure.
    pub strict: bool,
    /// How long a guest may run at a time.
    pub deadline: Duration,
    /// How random scenarios are drawn.
    pub draw: Draw,
}

/// A run that could not be done at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// KVM or the bare CPU is there and does not work.
    #[error("no guest can run here: {0}")]
    Guest(#[from] crate::guest::Error),
    /// The results cannot be written.
    #[error("cannot write the results: {0}")]
    Write(#[from] io::Error),
}

/// Runs `cases`, writes KTAP to standard output and says how to exit.
pub fn run(cases: &[Case], deviations: &Deviations, options: Options) -> Result<ExitCode, Error> {
    let nested = env::var_os("KSFT_TAP_LEVEL").is_some();
    let mut session = match Session::open(options.deadline)? {
        Ok(session) => session.drawing(options.draw),
        Err(unavailable) => {
            ktap::skip_all(io::stdout().lock(), nested, &unavailable.to_string())?;
            return Ok(ExitCode::from(SKIPPED));
        }
    };
    let mut ktap = Ktap::start(io::stdout().lock(), nested, cases.len())?;
    ktap.comment(&session.host().to_string())?;
    let progress = progress(cases.len());
    let mut checks = 0;
    for case in cases {
        progress.set_message(case.name.clone());
        let report = run_case(case, &mut session);
        checks += report.checks;
        let verdict = deviations.verdict(&case.name, session.host(), &report);
        ktap.comment(&explain(case, &report, &verdict, deviations, session.host()))?;
        ktap.result(&case.name, &verdict)?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    ktap.comment(&format!("checks: {checks} scenarios judged and values written"))?;
    Ok(exit_code(ktap.finish()?, options.strict))
}

/// Runs one case; a panic in it is a failure of that case alone.
pub fn run_case(case: &Case, session: &mut Session) -> Report {
    panic::catch_unwind(AssertUnwindSafe(|| case.run(session))).unwrap_or_else(|_| {
        let unfit = "the case panicked; the message is on standard error".into();
        Report { stopped: Some(Stop::Broken(crate::guest::Error::Unfit(unfit))), ..Report::default() }
    })
}

/// What to say of a case before its result; nothing of one that passed.
pub fn explain(
    case: &Case,
    report: &Report,
    verdict: &Verdict,
    deviations: &Deviations,
    host: &Host,
) -> String {
    const SHOWN: usize = 4;
    let mut text = String::new();
    let mut say = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    report.shown.lines().for_each(&mut say);
    match verdict {
        Verdict::Pass => {}
        Verdict::Skip => {}
        Verdict::XPass(names) => say(&format!("{}: no longer seen: {}", case.name, names.join(", "))),
        Verdict::XFail(names) => {
            for deviation in names.iter().filter_map(|name| deviations.get(name)) {
                say(&format!("{}: known deviation {} of {}", case.name, deviation.name, deviation.whose()));
                say(&format!("  why: {}", deviation.why));
                say(&format!("  source: {}", deviation.source));
            }
            for observed in report.findings.keys() {
                say(&format!("  observed: {observed}"));
            }
        }
        Verdict::Fail => {
            say(&format!("{}: {}", case.name, case.rule));
            for (observed, finding) in report.findings.iter().take(SHOWN) {
                say(&format!("observed: {observed} ({} of {} checks)", finding.times, report.checks));
                finding.detail.lines().for_each(|line| say(&format!("  {line}")));
            }
            for observed in report.findings.keys().skip(SHOWN) {
                say(&format!("observed: {observed}"));
            }
            let is_seen = |deviation: &&Deviation| {
                deviation.observed.iter().any(|one| report.findings.contains_key(one))
            };
            for deviation in deviations.of(&case.name).filter(is_seen) {
                if let Some(why) = deviation.condition.fails_on(host) {
                    say(&format!("known deviation {} does not apply here: {why}", deviation.name));
                }
            }
        }
    }
    if let Some(stop) = &report.stopped {
        say(&format!("{}: {stop}", case.name));
    }
    text
}

fn exit_code(totals: Totals, strict: bool) -> ExitCode {
    let ran = totals.pass + totals.fail + totals.xfail + totals.xpass;
    if totals.fail > 0 || (strict && totals.xpass > 0) || ran + totals.skip == 0 {
        ExitCode::from(FAILED)
    } else if ran == 0 {
        ExitCode::from(SKIPPED)
    } else {
        ExitCode::SUCCESS
    }
}

/// A bar on standard error for a person whose standard output goes elsewhere; the results are progress enough.
fn progress(cases: usize) -> ProgressBar {
    if !io::stderr().is_terminal() || io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{pos}/{len} {wide_msg}").unwrap_or(ProgressStyle::default_bar());
    ProgressBar::new(cases as u64).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(totals: Totals, strict: bool) -> String {
        format!("{:?}", exit_code(totals, strict))
    }

    #[test]
    fn exit_codes_are_those_of_kselftest() {
        let ok = Totals { pass: 3, xfail: 1, xpass: 1, skip: 1, ..Totals::default() };
        let expected = |code: u8| format!("{:?}", ExitCode::from(code));
        assert_eq!(code(ok, false), expected(0));
        assert_eq!(code(ok, true), expected(1), "an XPASS fails a strict run");
        assert_eq!(code(Totals { fail: 1, ..ok }, false), expected(1));
        assert_eq!(code(Totals { skip: 2, ..Totals::default() }, false), expected(4));
        assert_eq!(code(Totals::default(), false), expected(1), "a run of nothing has failed");
    }
}
