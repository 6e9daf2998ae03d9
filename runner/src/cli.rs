// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The commands: `dfr0`, and one program per suite.

mod certify;
mod pairs;
mod report;
mod snapshot;

use crate::{
    bench,
    bless::Drafts,
    case::{Case, Session, Suite},
    effort::Effort,
    expected::Deviations,
    explain::Explanation,
    fingerprint::{self, Fingerprint},
    guest::DEADLINE,
    ktap::Ktap,
    machine::Machine,
    pairs::Scenarios,
    pattern,
    plan::{self, Named},
    profile::{self, Profiles},
    replay,
    results::{self, Lines, Results, Writer},
    run::{self, Options},
};
use clap::{Args, Parser, Subcommand, builder::RangedU64ValueParser};
use serde::Serialize;
use std::{
    env,
    fmt::Display,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// Usage errors exit with 1: kselftest's runners take 2 and 3 for results.
const FAILED: u8 = 1;
/// There is no profile to compare a host with. To kselftest's runners this status is a skip.
const UNKNOWN: u8 = 4;

const PATTERNS: &str = "\
Patterns name cases: a whole name (breakpoints.fires), the first parts of a name
(breakpoints, id_regs.wrps), or a glob (*.reads_back). No pattern means all
cases.";

const EXPLAINED: &str = "\
CASE is a whole name (breakpoints.fires), the first parts of a name
(breakpoints, id_regs.wrps), or a glob (*.reads_back); `dfr0 list` prints all
names. A scenario is printed as a failed case prints it, and `dfr0 replay` runs
it.

Examples:
  dfr0 explain double_lock.implemented.reads_back
  dfr0 explain '*.refused'           all cases whose names end in .refused";

const BLESSED: &str = "\
Example:
  dfr0 run --results run.jsonl
  dfr0 bless run.jsonl expected/drafts.toml
  $EDITOR expected/drafts.toml

dfr0 refuses the file, and names the line, until all drafts are filled in. A
case that did not run to its end is never forgiven, so it has no draft.";

const FINGERPRINTS: &str = "\
A fingerprint is what `dfr0 host show --json` prints on a host, or the file that
Firecracker's `cpu-template-helper fingerprint dump` writes. This machine needs
no KVM.";

const CHECKED: &str = "\
A fingerprint is what `dfr0 host show --json` prints on a host, or the file that
Firecracker's `cpu-template-helper fingerprint dump` writes.

Exit status:
  0  the host is as a profile says
  1  the host differs, or the fingerprint or the command line is wrong
  4  there is no profile of this CPU, platform and kernel";

const PLANS: &str = "\
A fingerprint is what `dfr0 host show --json` prints on a host, or the file that
Firecracker's `cpu-template-helper fingerprint dump` writes. This machine needs
no KVM.

Exit status:
   0  the guest moves as it is
   1  a fingerprint or the command line is wrong
  10  the guest moves if its VM is created with the shape that is printed
  11  the guest may move, depending on what the fingerprints do not say
  12  the guest cannot move";

const COMMON: &str = "\
A fingerprint is what `dfr0 host show --json` prints on a host, or the file that
Firecracker's `cpu-template-helper fingerprint dump` writes. This machine needs
no KVM.

Exit status:
   0  all hosts give the same shape
   1  a fingerprint or the command line is wrong
  10  all hosts give the printed shape to a VM that is created with it
  11  they may give it, depending on what the fingerprints do not say
  12  some host prevents it";

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
    /// Run cases and print KTAP.
    #[command(after_help = PATTERNS)]
    Run(Run),
    /// List cases.
    #[command(after_help = PATTERNS)]
    List {
        /// Print the rules that each case tests, and their sections.
        #[arg(long)]
        rules: bool,
        /// Cases to list.
        patterns: Vec<String>,
    },
    /// Print what cases test: their rules, their scenarios and their known deviations.
    ///
    /// For each known deviation it prints what is observed, the section that says otherwise, where the kernel
    /// does it, on which kernels and hosts, and whether that includes this host. Nothing runs. Where no guest
    /// can run, it does not print whether a deviation applies here.
    #[command(after_help = EXPLAINED)]
    Explain {
        /// Cases to explain.
        #[arg(required = true, value_name = "CASE")]
        patterns: Vec<String>,
        /// Read deviations from DIR instead of expected/ next to this program.
        #[arg(long, value_name = "DIR")]
        expected: Option<PathBuf>,
    },
    /// Draft an entry of expected/ for each deviation that a run found and no entry lists.
    ///
    /// A draft contains the cases and what they observed, but no citation: FILE does not load until a person
    /// has read the rule again, cited it in `why` and named in `source` what departs from it.
    /// docs/expected.md describes the keys.
    #[command(after_help = BLESSED)]
    Bless {
        /// The results, as `dfr0 run --results` writes them; `-` is standard input.
        results: PathBuf,
        /// The file to write, in expected/ or to be moved there later.
        file: PathBuf,
        /// Overwrite FILE if it exists.
        #[arg(long)]
        force: bool,
        /// Read deviations from DIR instead of expected/ next to this program.
        #[arg(long, value_name = "DIR")]
        expected: Option<PathBuf>,
    },
    /// Run random scenarios again, by their seed, or one scenario from a file.
    ///
    /// A file holds a scenario as `dfr0 run` prints it, one operation per line: the lines after `in a VM of …:`
    /// in the diagnostics of a failed case. Each operation is printed with its events.
    Replay {
        /// The seed of a run, or a file; `-` is standard input.
        #[arg(value_name = "SEED|FILE")]
        what: String,
    },
    /// Measure how fast cases run on this host, compared with a loop that only takes exceptions.
    #[command(after_help = PATTERNS)]
    Bench {
        /// Cases to measure.
        patterns: Vec<String>,
    },
    /// Show this host, and check and compare hosts by their fingerprints.
    #[command(subcommand)]
    Host(HostCommand),
    /// Save a vCPU in the middle of a scenario, and restore it on another host.
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// Predict whether a guest may move from host A to host B, and print what prevents it.
    #[command(after_help = PLANS)]
    Plan {
        /// The fingerprint of the host that the guest leaves.
        a: PathBuf,
        /// The fingerprint of the host that it moves to.
        b: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Derive the exit status from the debug hardware alone.
        #[arg(long)]
        debug_only: bool,
    },
    /// Move scenarios between hosts, and compare the outcomes with the plans.
    #[command(subcommand)]
    Pairs(pairs::Command),
    /// Print results of one or many runs in other forms, and what differs between two.
    #[command(subcommand)]
    Report(report::Command),
    /// Run every case on this host, and write all results as one archive that another machine can check.
    Certify(certify::Certify),
    /// Find the largest shape of debug hardware that hosts share, or the hosts that prevent it.
    #[command(after_help = COMMON)]
    Common {
        /// The hosts' fingerprints.
        #[arg(required = true, num_args = 2..)]
        hosts: Vec<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
enum HostCommand {
    /// Print kernel, CPU, shape, writable fields and capabilities.
    Show {
        /// Print the host's fingerprint instead, which `compare`, `plan` and `common` read.
        #[arg(long)]
        json: bool,
    },
    /// Compare this host, or another by its fingerprint, with what is known of its CPU and kernel.
    ///
    /// A profile in expected/hosts/ says which debug hardware KVM shows to a new VM, which fields userspace
    /// may write, and how many breakpoints and watchpoints userspace has for its own use. The profile is
    /// found by CPU, platform and kernel. Where several profiles fit, as for the shapes of an emulated CPU,
    /// the host must be as one of them says. Each difference is printed.
    #[command(after_help = CHECKED)]
    Check {
        /// Compare with this profile, whatever the host's CPU is.
        #[arg(long, value_name = "NAME")]
        profile: Option<String>,
        /// Read profiles from DIR/hosts instead of expected/hosts next to this program.
        #[arg(long, value_name = "DIR")]
        expected: Option<PathBuf>,
        /// Check the host of this fingerprint instead of this host.
        fingerprint: Option<PathBuf>,
    },
    /// Print what differs between two hosts.
    #[command(after_help = FINGERPRINTS)]
    Compare {
        /// The fingerprint of one host.
        a: PathBuf,
        /// The fingerprint of the other host.
        b: PathBuf,
    },
}

#[derive(Args)]
struct Run {
    /// Cases to run.
    patterns: Vec<String>,
    /// Read deviations from DIR instead of expected/ next to this program.
    #[arg(long, value_name = "DIR")]
    expected: Option<PathBuf>,
    /// Also write the results to FILE, as JSON lines (docs/results.md); `-` is standard output, without KTAP.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Fail when a listed deviation is no longer seen.
    #[arg(long)]
    strict: bool,
    /// Consider a guest hung when it runs for longer, and a bare machine (docs/bare.md) when it takes longer
    /// to answer. After a guest has hung, later guests have a tenth of this time, but at least two seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = DEADLINE.as_secs(), value_parser = RangedU64ValueParser::<u64>::new().range(1..=604_800))]
    deadline: u64,
    /// The seed of random scenarios; the same seed draws the same scenarios on hosts of the same shape.
    #[arg(long, default_value_t = Effort::default().seed)]
    seed: u64,
    /// The number of random scenarios in each case of the suite random.
    #[arg(long, value_name = "SCENARIOS", default_value_t = Effort::default().draws, value_parser = clap::value_parser!(u32).range(1..))]
    draws: u32,
    /// Run a sample: the first and every Nth scenario of each case, one Nth of the random scenarios, and
    /// one in four of the cases that move a vCPU, with one move. A known deviation that a sample does not
    /// show is not reported as gone.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "thorough", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    every: u32,
    /// Draw random scenarios for this many minutes in each case of the suite random. In each case of the
    /// suite migration move all scenarios after each operation, for the same time. Run the whole suite shapes
    /// in each shape.
    #[arg(long, value_name = "MINUTES", conflicts_with = "draws", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    thorough: Option<u32>,
}

impl Run {
    fn effort(&self) -> Effort {
        let thorough = self.thorough.map(|minutes| Duration::from_secs(60 * u64::from(minutes)));
        Effort { seed: self.seed, draws: self.draws, every: self.every as usize, thorough }
    }

    /// The writers that take the results.
    fn writers(&self) -> Result<Vec<Box<dyn Writer>>, String> {
        Ok(match &self.results {
            None => vec![ktap()],
            Some(path) if path == Path::new("-") => vec![Box::new(Lines(io::stdout()))],
            Some(path) => {
                let file = results::File::create(path)
                    .map_err(|error| format!("cannot write the results to {}: {error}", path.display()))?;
                vec![ktap(), Box::new(file)]
            }
        })
    }
}

/// KTAP on standard output.
fn ktap() -> Box<dyn Writer> {
    Box::new(Ktap::new(io::stdout(), env::var_os("KSFT_TAP_LEVEL").is_some()))
}

/// The program of one suite: `dfr0 run` for its cases.
#[derive(Parser)]
#[command(version, max_term_width = 80, after_help = PATTERNS)]
struct OneSuite {
    #[command(flatten)]
    run: Run,
}

/// The command `dfr0` over all suites; `moved` are the scenarios that move between hosts.
pub fn main(suites: &[Suite], moved: Scenarios) -> ExitCode {
    match parse::<Dfr0>() {
        Err(code) => code,
        Ok(Dfr0 { command: Command::Run(run) }) => finish(start(suites, None, run)),
        Ok(Dfr0 { command: Command::List { rules, patterns } }) => finish(list(suites, &patterns, rules)),
        Ok(Dfr0 { command: Command::Explain { patterns, expected } }) => {
            finish(explain(suites, &patterns, expected.as_deref()))
        }
        Ok(Dfr0 { command: Command::Bless { results, file, force, expected } }) => {
            finish(bless(suites, &results, &file, force, expected.as_deref()))
        }
        Ok(Dfr0 { command: Command::Replay { what } }) => finish(replay(suites, &what)),
        Ok(Dfr0 { command: Command::Bench { patterns } }) => finish(bench(suites, &patterns)),
        Ok(Dfr0 { command: Command::Host(HostCommand::Show { json: false }) }) => finish(show_host()),
        Ok(Dfr0 { command: Command::Host(HostCommand::Show { json: true }) }) => finish(show_fingerprint()),
        Ok(Dfr0 { command: Command::Host(HostCommand::Compare { a, b }) }) => finish(compare(&a, &b)),
        Ok(Dfr0 { command: Command::Host(HostCommand::Check { profile, expected, fingerprint }) }) => {
            finish(check_host(profile.as_deref(), expected.as_deref(), fingerprint.as_deref()))
        }
        Ok(Dfr0 { command: Command::Pairs(command) }) => finish(pairs::run(command, moved)),
        Ok(Dfr0 { command: Command::Report(command) }) => finish(report::run(command)),
        Ok(Dfr0 { command: Command::Certify(command) }) => finish(certify::run(suites, command)),
        Ok(Dfr0 { command: Command::Snapshot(command) }) => finish(snapshot::run(command)),
        Ok(Dfr0 { command: Command::Plan { a, b, json, debug_only } }) => {
            finish(plan(&a, &b, json, debug_only))
        }
        Ok(Dfr0 { command: Command::Common { hosts, json } }) => finish(common(&hosts, json)),
    }
}

/// The program of the suite named `suite` among all `suites`.
pub fn suite_main(suites: &[Suite], suite: &str) -> ExitCode {
    match parse::<OneSuite>() {
        Err(code) => code,
        Ok(OneSuite { run }) => finish(start(suites, Some(suite), run)),
    }
}

fn parse<P: Parser>() -> Result<P, ExitCode> {
    P::try_parse().map_err(|error| {
        let code = if error.use_stderr() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS };
        // An error here means that the reader is gone.
        let _ = error.print();
        code
    })
}

fn finish(result: Result<ExitCode, Box<dyn std::error::Error>>) -> ExitCode {
    result.unwrap_or_else(|error| {
        // In colour if standard error supports it.
        anstream::eprintln!("error: {error:#}");
        ExitCode::from(FAILED)
    })
}

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

fn start(suites: &[Suite], only: Option<&str>, run: Run) -> Outcome {
    let cases: Vec<Case> = suites.iter().flat_map(|suite| suite.cases()).collect();
    let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
    let deviations = Deviations::load(run.expected.as_deref(), &names)?;
    let of_suite =
        |case: &Case| only.is_none_or(|suite| pattern::matches(suite, &case.name).unwrap_or(false));
    let cases = select(cases.into_iter().filter(of_suite).collect(), &run.patterns)?;
    let options =
        Options { strict: run.strict, deadline: Duration::from_secs(run.deadline), effort: run.effort() };
    Ok(run::run(&cases, &deviations, options, &mut run.writers()?)?)
}

fn list(suites: &[Suite], patterns: &[String], rules: bool) -> Outcome {
    let cases = select(suites.iter().flat_map(|suite| suite.cases()).collect(), patterns)?;
    let mut out = io::stdout().lock();
    for case in cases {
        writeln!(out, "{}", case.name)?;
        if rules {
            case.rules().try_for_each(|rule| writeln!(out, "    {rule}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn explain(suites: &[Suite], patterns: &[String], expected: Option<&Path>) -> Outcome {
    let all: Vec<Case> = suites.iter().flat_map(|suite| suite.cases()).collect();
    let names: Vec<String> = all.iter().map(|case| case.name.clone()).collect();
    let deviations = Deviations::load(expected, &names)?;
    let chosen = select(suites.iter().flat_map(|suite| suite.cases()).collect(), patterns)?;
    let here = match Machine::open(DEADLINE)? {
        Ok(machine) => Ok(machine.host()?),
        Err(unavailable) => Err(unavailable.to_string()),
    };
    let here = here.as_ref().map_err(String::as_str);
    let explanation = Explanation { chosen: &chosen, all: &all, deviations: &deviations, here };
    write!(io::stdout().lock(), "{explanation}")?;
    Ok(ExitCode::SUCCESS)
}

fn bless(suites: &[Suite], results: &Path, file: &Path, force: bool, expected: Option<&Path>) -> Outcome {
    let run = match results::load(results)? {
        Results::Run(run) => run,
        Results::Unavailable(unavailable) => {
            return Err(format!("{}: nothing ran: {}", results.display(), unavailable.reason).into());
        }
    };
    let all: Vec<Case> = suites.iter().flat_map(|suite| suite.cases()).collect();
    let names: Vec<String> = all.iter().map(|case| case.name.clone()).collect();
    let drafts = Drafts::new(&run, &all, &Deviations::load(expected, &names)?)?;
    drafts.left.iter().for_each(|left| eprintln!("dfr0: no draft: {left}"));
    let mut out = io::stdout().lock();
    match drafts.count() {
        (0, _) => writeln!(
            out,
            "nothing to draft: no case that ran to its end failed with an unlisted observation"
        )?,
        (drafted, cases) => {
            drafts.write(file, force)?;
            writeln!(
                out,
                "{}: {drafted} drafts of {cases} cases; fill in why and source of each",
                file.display()
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn replay(suites: &[Suite], what: &str) -> Outcome {
    let options = |effort| Options { strict: false, deadline: DEADLINE, effort };
    if let Ok(seed) = what.parse() {
        let cases: Vec<Case> = suites.iter().flat_map(|suite| suite.cases()).collect();
        let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
        let deviations = Deviations::load(None, &names)?;
        let random = select(cases, &["random".into()])?;
        return Ok(run::run(
            &random,
            &deviations,
            options(Effort { seed, ..Effort::default() }),
            &mut [ktap()],
        )?);
    }
    let scenario = replay::read(what)?;
    Ok(run::run(&[replay::case(scenario)], &Deviations::none(), options(Effort::default()), &mut [ktap()])?)
}

fn bench(suites: &[Suite], patterns: &[String]) -> Outcome {
    let cases = select(suites.iter().flat_map(|suite| suite.cases()).collect(), patterns)?;
    bench::run(suites, &cases)?;
    Ok(ExitCode::SUCCESS)
}

fn show_host() -> Outcome {
    let session = Session::open(DEADLINE)??;
    let host = session.host();
    let mut out = io::stdout().lock();
    write!(out, "{host}")?;
    let mut fact = |name: &str, value: &dyn Display| writeln!(out, "{name}: {value}");
    fact("ID_AA64DFR0_EL1", &format_args!("{:#x}", host.id_aa64dfr0))?;
    host.capabilities.all().iter().try_for_each(|(name, value)| fact(name, value))?;
    Ok(ExitCode::SUCCESS)
}

fn show_fingerprint() -> Outcome {
    let fingerprint = Machine::open(DEADLINE)??.fingerprint()?;
    io::stdout().lock().write_all(fingerprint.to_json().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn check_host(profile: Option<&str>, expected: Option<&Path>, file: Option<&Path>) -> Outcome {
    let profiles = Profiles::load(expected)?;
    let named = profile.map(|name| profiles.get(name)).transpose()?;
    let fingerprint = match file {
        Some(file) => fingerprint::load(file)?,
        None => Machine::open(DEADLINE)??.fingerprint()?,
    };
    let check = profiles.check(&fingerprint, named);
    write!(io::stdout().lock(), "{check}")?;
    Ok(match check.outcome {
        profile::Outcome::Same { .. } => ExitCode::SUCCESS,
        profile::Outcome::Differs { .. } => ExitCode::from(FAILED),
        profile::Outcome::None(_) => ExitCode::from(UNKNOWN),
    })
}

fn compare(a: &Path, b: &Path) -> Outcome {
    let (one, other) = (fingerprint::load(a)?, fingerprint::load(b)?);
    let [a, b] =
        [(a, &one), (b, &other)].map(|(path, fingerprint)| (path.display().to_string(), fingerprint));
    let text = plan::compare(named(&a), named(&b));
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn plan(a: &Path, b: &Path, json: bool, debug_only: bool) -> Outcome {
    let (one, other) = (fingerprint::load(a)?, fingerprint::load(b)?);
    let [a, b] =
        [(a, &one), (b, &other)].map(|(path, fingerprint)| (path.display().to_string(), fingerprint));
    let plan = plan::plan(named(&a), named(&b));
    let verdict = if debug_only { plan.debug.verdict } else { plan.verdict };
    print(&plan, json)?;
    Ok(ExitCode::from(verdict.status()))
}

fn common(hosts: &[PathBuf], json: bool) -> Outcome {
    let fingerprints = hosts.iter().map(|path| fingerprint::load(path)).collect::<Result<Vec<_>, _>>()?;
    let names = hosts.iter().map(|path| path.display().to_string());
    let hosts: Vec<(String, &Fingerprint)> = names.zip(&fingerprints).collect();
    let common = plan::common(&hosts.iter().map(named).collect::<Vec<_>>());
    print(&common, json)?;
    Ok(ExitCode::from(common.verdict.status()))
}

fn named<'a>((name, fingerprint): &'a (String, &'a Fingerprint)) -> Named<'a> {
    Named { name, fingerprint }
}

fn print(what: &(impl Display + Serialize), json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, what)?;
        return writeln!(out);
    }
    write!(out, "{what}")
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
