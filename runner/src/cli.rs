// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The commands: `dfr0`, and one program per suite, which are the same program under other names.

mod bench;
mod bless;
mod certify;
mod choice;
mod common;
mod explain;
mod host;
mod list;
mod output;
mod pairs;
mod plan;
mod replay;
mod report;
mod run;
mod snapshot;

use crate::{
    case::{Case, Suite},
    exit::Exit,
    pairs::Scenarios,
    pattern,
};
use clap::{Parser, Subcommand};
use std::{env, error, ffi::OsStr, io::Write, path::Path, process::ExitCode};

const PATTERNS: &str = "\
Patterns name cases: a whole name (breakpoints.fires), the first parts of a name
(breakpoints, id_regs.wrps), or a glob (*.reads_back). No pattern means all
cases.";

const FINGERPRINTS: &str = "\
A fingerprint is what `dfr0 host show --json` prints on a host, or the file that
Firecracker's `cpu-template-helper fingerprint dump` writes. This machine needs
no KVM.";

/// Conformance tests for KVM/arm64's self-hosted debug.
///
/// Boots minimal guests that program breakpoints and locks, rewrites ID_AA64DFR0_EL1 under them, and judges
/// what they see by the Arm ARM. Results are KTAP on standard output.
#[derive(Parser)]
#[command(
    name = "dfr0",
    version,
    max_term_width = 80,
    after_help = "\
Examples:
  dfr0 run                          run every case
  dfr0 run breakpoints '*.reserved_refused'
  dfr0 list --rules id_regs         print the rules that these cases test
  dfr0 explain breakpoints.fires    print what this case runs
  dfr0 host show                    print what this host's KVM gives to a guest
  dfr0 host show --json > a.json    save this host's fingerprint
  dfr0 plan a.json b.json           predict whether a guest may move
  dfr0 run --results r.jsonl        run every case, and save the results
  dfr0 report html --out r.html r.jsonl
                                    make a page of the results
  dfr0 certify --out host.dfr0      run every case, and save all in an archive

Exit status of `dfr0 run`:
  0  all cases passed, were skipped, or failed as listed in expected/
  1  anything else
  4  all cases were skipped"
)]
struct Dfr0 {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Run),
    List(list::List),
    Explain(explain::Explain),
    Bless(bless::Bless),
    Replay(replay::Replay),
    Bench(bench::Bench),
    /// Show this host, and check and compare hosts by their fingerprints.
    #[command(subcommand)]
    Host(host::Command),
    /// Save a vCPU in the middle of a scenario, and restore it on another host.
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    Plan(plan::Plan),
    /// Move scenarios between hosts, and compare the outcomes with the plans.
    #[command(subcommand)]
    Pairs(pairs::Command),
    /// Print results of one or many runs in other forms, and what differs between two.
    #[command(subcommand)]
    Report(report::Command),
    /// Run every case on this host, and write all results as one archive that another machine can check.
    Certify(certify::Certify),
    Common(common::Common),
}

/// The commands and options of `dfr0`, from which manual pages and shell completions are made.
pub fn command() -> clap::Command {
    <Dfr0 as clap::CommandFactory>::command()
}

/// The program of one suite: `dfr0 run` for its cases.
#[derive(Parser)]
#[command(version, max_term_width = 80, after_help = PATTERNS)]
struct OneSuite {
    #[command(flatten)]
    run: run::Run,
}

/// How a command ends.
type Outcome = Result<Exit, Box<dyn error::Error>>;

/// The command `dfr0` over all suites; `moved` are the scenarios that move between hosts. Called as `dfr0_SUITE`, it is the
/// program of that suite.
pub fn main(suites: &[Suite], moved: Scenarios) -> ExitCode {
    if let Some(suite) = env::args_os().next().and_then(|called| suite_of(&called, suites)) {
        return finish(|OneSuite { run }| run.run(suites, Some(suite.name)));
    }
    finish(|Dfr0 { command }| match command {
        Command::Run(run) => run.run(suites, None),
        Command::List(list) => list.run(suites),
        Command::Explain(explain) => explain.run(suites),
        Command::Bless(bless) => bless.run(suites),
        Command::Replay(replay) => replay.run(suites),
        Command::Bench(bench) => bench.run(suites),
        Command::Host(command) => host::run(command),
        Command::Snapshot(command) => snapshot::run(command),
        Command::Plan(plan) => plan.run(),
        Command::Pairs(command) => pairs::run(command, moved),
        Command::Report(command) => report::run(command),
        Command::Certify(certify) => certify::run(suites, certify),
        Command::Common(common) => common.run(),
    })
}

/// The suite whose program has this path. kselftest knows a test by the name of its file.
fn suite_of<'a>(program: &OsStr, suites: &'a [Suite]) -> Option<&'a Suite> {
    let name = Path::new(program).file_name()?.to_str()?.strip_prefix("dfr0_")?;
    suites.iter().find(|suite| suite.name == name)
}

/// Parses the command line, and does what it says.
fn finish<P: Parser>(run: impl FnOnce(P) -> Outcome) -> ExitCode {
    let exit = match P::try_parse() {
        Ok(command) => run(command).unwrap_or_else(|error| {
            // In colour if standard error supports it. An error here means that the reader is gone.
            let _ = writeln!(anstream::stderr(), "error: {error:#}");
            Exit::Failed
        }),
        Err(error) => {
            // An error here means that the reader is gone.
            let _ = error.print();
            Exit::good_if(!error.use_stderr())
        }
    };
    exit.into()
}

/// All cases, and their names.
fn all(suites: &[Suite]) -> (Vec<Case>, Vec<String>) {
    let cases: Vec<Case> = suites.iter().flat_map(|suite| suite.cases()).collect();
    let names = cases.iter().map(|case| case.name.clone()).collect();
    (cases, names)
}

/// The cases that the patterns name; a pattern that names no case is an error.
fn select(cases: Vec<Case>, patterns: &[String]) -> Result<Vec<Case>, String> {
    let mut chosen = vec![patterns.is_empty(); cases.len()];
    for pattern in patterns {
        for place in pattern::places(pattern, cases.iter().map(|case| case.name.as_str()))? {
            chosen[place] = true;
        }
    }
    Ok(cases.into_iter().zip(chosen).filter_map(|(case, chosen)| chosen.then_some(case)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_well_formed() {
        Dfr0::command().debug_assert();
        OneSuite::command().debug_assert();
    }

    /// Renders the help of `command` and of all its subcommands, which is never wider than 80 columns.
    fn check_width(mut command: clap::Command) {
        command.build();
        for help in [command.render_help(), command.render_long_help()] {
            let wide = help.to_string().lines().find(|line| line.chars().count() > 80).map(str::to_owned);
            assert_eq!(wide, None, "in the help of {}", command.get_name());
        }
        command.get_subcommands().cloned().for_each(check_width);
    }

    #[test]
    fn help_fits_80_columns() {
        check_width(Dfr0::command());
        check_width(OneSuite::command());
    }

    #[test]
    fn the_name_of_the_program_selects_a_suite() {
        let suites = ["os_lock", "random"].map(|name| Suite::new(name, Vec::new));
        let suite = |program: &str| suite_of(program.as_ref(), &suites).map(|suite| suite.name);
        assert_eq!(suite("dfr0_os_lock"), Some("os_lock"));
        assert_eq!(suite("/opt/kselftest/kvm/dfr0_random"), Some("random"));
        for command in ["dfr0", "./dfr0", "dfr0_os", "dfr0_os_lock_2", "os_lock", "dfr0_random/dfr0", ""] {
            assert_eq!(suite(command), None, "{command}");
        }
    }

    #[test]
    fn a_pattern_that_names_nothing_is_an_error() {
        let cases = || vec![Case::new("s.a", &dfr0_model::rule::MDE, |_| Ok(()))];
        let select = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
            super::select(cases(), &patterns).map(|cases| cases.len())
        };
        assert_eq!(select(&[]), Ok(1));
        assert_eq!(select(&["s", "s.a"]), Ok(1), "a case is chosen once");
        assert!(select(&["s", "t"]).is_err());
    }
}
