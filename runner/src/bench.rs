// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! How fast the suites are on this host, compared with what is possible. All is measured in one run, because
//! hosts differ.

use crate::{
    case::{Case, Cost, Session, Stop, Suite},
    guest::{Config, DEADLINE, Error},
    jobs,
    run::run_case,
};
use dfr0_model::scenario::Scenario;
use std::{
    fmt,
    io::{self, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// How many exceptions the tight loop takes, and how often it is measured; the fastest measurement counts.
const TIGHT: u64 = 200_000;
const TRIES: usize = 3;
/// How many VMs are made and freed.
const VMS: u32 = 20;

/// A measurement that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// KVM is present but does not work.
    #[error(transparent)]
    Kvm(#[from] Error),
    /// A case of the runner's own failed.
    #[error("{0}")]
    Stopped(#[from] Stop),
    /// The program to compare with did not run to its end.
    #[error("{} did not run: {why}", .program.display())]
    Beside {
        /// The program.
        program: PathBuf,
        /// What happened.
        why: String,
    },
    /// The results cannot be written.
    #[error("cannot write the results: {0}")]
    Write(#[from] io::Error),
}

/// How many per second.
fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(f64::EPSILON)
}

/// One line of the table.
struct Row<'a> {
    name: &'a str,
    checks: usize,
    time: Duration,
    cost: Cost,
    /// Exceptions per second of the tight loop.
    limit: f64,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, checks, time, cost, limit } = self;
        let share = |part: Duration| 100.0 * part.as_secs_f64() / time.as_secs_f64().max(f64::EPSILON);
        write!(
            f,
            "{name:18} {checks:9} {:8.2} {:12.0} {:12.0} {:8.3} {:8.0}% {:8.0}%",
            time.as_secs_f64(),
            rate(*checks, *time),
            rate(cost.exceptions, *time),
            rate(cost.exceptions, *time) / limit,
            share(cost.running),
            share(cost.judging),
        )
    }
}

/// Runs `cases` of these suites and writes what they cost, one after the other and side by side; and how long another
/// program takes on the same host, if one is named.
pub fn run(
    suites: &[Suite],
    cases: &[Case],
    beside: Option<&Path>,
    mut out: impl Write,
) -> Result<(), Failure> {
    let mut session = Session::open(DEADLINE)?;
    writeln!(out, "{}", session.host())?;
    let limit = tight_loop(&session)?;
    writeln!(out, "tight loop: {limit:.0} Breakpoint exceptions per second, the limit of this host")?;
    let (first, teardown) = virtual_machines(&session)?;
    writeln!(out, "VM: {first:.2?} from its creation to its first event, {teardown:.2?} to free it")?;
    writeln!(
        out,
        "\n{:18} {:>9} {:>8} {:>12} {:>12} {:>8} {:>9} {:>9}",
        "suite", "scenarios", "seconds", "scenarios/s", "exceptions/s", "of limit", "in guest", "judging"
    )?;
    let mut all = Row { name: "all", checks: 0, time: Duration::ZERO, cost: Cost::default(), limit };
    for suite in suites {
        let prefix = format!("{}.", suite.name);
        let mut row = Row { name: suite.name, checks: 0, time: Duration::ZERO, cost: Cost::default(), limit };
        for case in cases.iter().filter(|case| case.name.starts_with(&prefix)) {
            let start = Instant::now();
            let report = run_case(case, &mut session);
            row.add(report.checks, start.elapsed(), report.cost);
        }
        if row.checks > 0 {
            writeln!(out, "{row}")?;
            all.add(row.checks, row.time, row.cost);
        }
    }
    writeln!(out, "{all}")?;
    let jobs = session.jobs(None)?;
    let together = match jobs {
        1 => all.time,
        _ => side_by_side(cases, &mut session, jobs)?,
    };
    let times = |one: Duration, other: Duration| one.as_secs_f64() / other.as_secs_f64().max(f64::EPSILON);
    let faster = times(all.time, together);
    writeln!(
        out,
        "\nall of these, {jobs} jobs: {:.2} s, {faster:.2} times as fast as one job",
        together.as_secs_f64()
    )?;
    if let Some(program) = beside {
        let alone = time_of(program)?;
        let longer = times(together, alone);
        writeln!(
            out,
            "{}: {:.2} s; these cases take {longer:.2} times as long",
            program.display(),
            alone.as_secs_f64()
        )?;
    }
    Ok(())
}

/// How long the cases take when they run in this many threads.
fn side_by_side(cases: &[Case], session: &mut Session, jobs: usize) -> Result<Duration, Failure> {
    let common = session.common(jobs);
    let start = Instant::now();
    jobs::run(
        cases,
        session,
        (jobs, || common.open()),
        |case, session| drop(run_case(case, session)),
        |()| Ok(ControlFlow::Continue(())),
        |()| Ok::<_, Failure>(()),
    )?;
    Ok(start.elapsed())
}

/// How long another program takes, without arguments.
fn time_of(program: &Path) -> Result<Duration, Failure> {
    let start = Instant::now();
    let ended = Command::new(program).stdin(Stdio::null()).stdout(Stdio::null()).status();
    let why = match ended {
        Ok(status) if status.success() => return Ok(start.elapsed()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    Err(Failure::Beside { program: program.into(), why })
}

impl Row<'_> {
    fn add(&mut self, checks: usize, time: Duration, cost: Cost) {
        self.checks += checks;
        self.time += time;
        self.cost.exceptions += cost.exceptions;
        self.cost.running += cost.running;
        self.cost.judging += cost.judging;
    }
}

/// Exceptions per second of a loop that does nothing but take them.
fn tight_loop(session: &Session) -> Result<f64, Failure> {
    let mut fastest = Duration::MAX;
    for _ in 0..TRIES {
        let mut guest = session.guest(Config::default())?;
        guest.events(&Scenario::new().isb())?;
        let start = Instant::now();
        guest.take_exceptions(TIGHT)?;
        fastest = fastest.min(start.elapsed());
    }
    Ok(rate(TIGHT as usize, fastest))
}

/// The mean time from a VM's creation to its first event, and to free it.
fn virtual_machines(session: &Session) -> Result<(Duration, Duration), Failure> {
    let (mut first, mut teardown) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..VMS {
        let start = Instant::now();
        let mut guest = session.guest(Config::default())?;
        guest.events(&Scenario::new().brk())?;
        let event = Instant::now();
        drop(guest);
        first += event - start;
        teardown += event.elapsed();
    }
    Ok((first / VMS, teardown / VMS))
}
