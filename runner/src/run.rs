// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Runs cases, and compares what they found with the deviations.

use crate::{
    case::{Case, Report, Session, Stop},
    cpu_types::Cpus,
    effort::Effort,
    exit::Exit,
    expected::Deviations,
    guest, jobs,
    mode::Mode,
    results::{self, Begin, End, FORMAT, Outcome, Record, Totals, Unavailable, VERSION, Writer, Writers},
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    env,
    fs::File,
    io::{self, IsTerminal, Read},
    ops::ControlFlow,
    panic::{self, AssertUnwindSafe},
    time::{Duration, Instant, UNIX_EPOCH},
};

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// A listed deviation that is gone is a failure.
    pub strict: bool,
    /// How long a guest may run at a time.
    pub deadline: Duration,
    /// How much cases do.
    pub effort: Effort,
    /// How many cases run at the same time; `None` is one for each CPU.
    pub jobs: Option<usize>,
    /// No case begins after one has failed.
    pub fail_fast: bool,
    /// The CPUs on which this process was kept.
    pub cpus: Option<Cpus>,
}

/// A run that could not start or be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// KVM or the bare CPU is present but does not work.
    #[error("no guest can run here: {0}")]
    Guest(#[from] guest::Error),
    /// The results cannot be written.
    #[error("cannot write the results: {0}")]
    Write(#[from] io::Error),
}

/// Runs `cases`, gives their results to `writers` and returns the exit status.
pub fn run(
    cases: &[Case],
    deviations: &Deviations,
    options: Options,
    writers: &mut Writers,
) -> Result<Exit, Error> {
    let Options { strict, deadline, effort, jobs, fail_fast, cpus } = options;
    let mut session = match Session::open(deadline) {
        Ok(session) => session.with_effort(effort),
        Err(guest::Error::Unavailable(unavailable)) => {
            return nothing(unavailable.to_string(), writers);
        }
        Err(error) => return Err(error.into()),
    };
    writers.write(&Record::Begin(Begin {
        format: FORMAT.into(),
        version: VERSION,
        dfr0: env!("CARGO_PKG_VERSION").into(),
        started: UNIX_EPOCH.elapsed().unwrap_or_default().as_secs(),
        id: Some(id()?),
        command: env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        cases: cases.len(),
        plan: cases.iter().map(|case| case.name.clone()).collect(),
        strict,
        seed: effort.seed,
        draws: effort.draws,
        every: effort.every,
        thorough_minutes: effort.thorough.map(|time| time.as_secs() / 60),
        lab_host: env::var("DFR0_LAB_HOST").ok(),
        taints: session.host().mode == Some(Mode::Protected) && cases.iter().any(Case::is_tainting),
        cpus,
        host: session.host().clone(),
    }))?;
    let progress = progress(cases.len());
    let (mut end, mut ended) = (End::default(), 0);
    let Writers { at_once, in_order } = writers;
    let jobs = session.jobs(jobs)?;
    let common = session.common(jobs);
    let judged = |case: &Case, session: &mut Session| {
        progress.set_message(case.name.clone());
        let start = Instant::now();
        let report = run_case(case, session);
        progress.inc(1);
        results::Case::new(case, &report, (deviations, session), start.elapsed())
    };
    let at_end = |result: &results::Case| {
        end.count(result);
        ended += 1;
        write(at_once, &Record::Case(result.clone()))?;
        let fails = result.outcome == Outcome::Fail || (strict && result.outcome == Outcome::Xpass);
        if !(fail_fast && fails) {
            return Ok(ControlFlow::Continue(()));
        }
        end.stopped.get_or_insert_with(|| format!("{} failed, and --fail-fast was given", result.name));
        Ok(ControlFlow::Break(()))
    };
    jobs::run(cases, &mut session, (jobs, || common.open()), judged, at_end, |result| {
        write(in_order, &Record::Case(result)).map_err(Error::Write)
    })?;
    progress.finish_and_clear();
    end.stopped = end.stopped.filter(|_| ended < cases.len());
    writers.write(&Record::End(end.clone()))?;
    Ok(exit(end.totals, strict))
}

/// Tells `writers` why no case runs.
pub fn nothing(why: String, writers: &mut Writers) -> Result<Exit, Error> {
    writers.write(&Record::Unavailable(Unavailable::because(why)))?;
    Ok(Exit::Skipped)
}

impl Writers {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        write(&mut self.at_once, record)?;
        write(&mut self.in_order, record)
    }
}

fn write(writers: &mut [Box<dyn Writer>], record: &Record) -> io::Result<()> {
    writers.iter_mut().try_for_each(|writer| writer.write(record))
}

/// What distinguishes a run from any other, on this host and on others: two may begin in the same second.
pub fn id() -> io::Result<String> {
    let mut random = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(random)))
}

/// Runs one case. If it panics, only this case fails.
pub fn run_case(case: &Case, session: &mut Session) -> Report {
    panic::catch_unwind(AssertUnwindSafe(|| case.run(session))).unwrap_or_else(|_| {
        let unfit = "the case panicked; the message is on standard error".into();
        Report { stopped: Some(Stop::Broken(guest::Error::Unfit(unfit))), ..Report::default() }
    })
}

fn exit(totals: Totals, strict: bool) -> Exit {
    let ran = totals.ran();
    if totals.fail > 0 || (strict && totals.xpass > 0) || ran + totals.skip == 0 {
        Exit::Failed
    } else if ran == 0 {
        Exit::Skipped
    } else {
        Exit::Good
    }
}

/// A progress bar on a terminal's standard error if standard output is not a terminal; otherwise the results
/// show progress.
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

    fn code(totals: Totals, strict: bool) -> u8 {
        exit(totals, strict).status()
    }

    #[test]
    fn exit_codes_are_those_of_kselftest() {
        let ok = Totals { pass: 3, xfail: 1, xpass: 1, skip: 1, ..Totals::default() };
        assert_eq!(code(ok, false), 0);
        assert_eq!(code(ok, true), 1, "an XPASS fails a strict run");
        assert_eq!(code(Totals { fail: 1, ..ok }, false), 1);
        assert_eq!(code(Totals { skip: 2, ..Totals::default() }, false), 4);
        assert_eq!(code(Totals::default(), false), 1, "a run of nothing has failed");
    }
}
