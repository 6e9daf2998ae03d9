// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The commands: `dfr0`, and one program a suite.

mod certify;
mod pairs;
mod report;
mod snapshot;

use crate::{
    bench,
    bless::Drafts,
    case::{Case, Session, Suite},
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
    random::Draw,
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
/// There is nothing to hold a host against: to kselftest's runners a skip.
const UNKNOWN: u8 = 4;

const PATTERNS: &str = "\
Patterns name cases: a whole name (breakpoints.fires), its first parts (breakpoints, id_regs.wrps), or a glob
(*.reads_back). Without one, all cases run.";

const EXPLAINED: &str = "\
CASE is a whole name (breakpoints.fires), its first parts (breakpoints, id_regs.wrps), or a glob (*.reads_back); `dfr0
list` prints all. A scenario is listed as a failed case lists it, and `dfr0 replay` runs it.

Examples:
  dfr0 explain double_lock.implemented.reads_back
  dfr0 explain '*.refused'               each case whose name ends so";

const BLESSED: &str = "\
Example:
  dfr0 run --results run.jsonl
  dfr0 bless run.jsonl expected/drafts.toml
  $EDITOR expected/drafts.toml           dfr0 says line by line what is still to be filled in

A case that did not run to its end is never forgiven and has no draft.";

const FINGERPRINTS: &str = "\
A fingerprint is what `dfr0 host show --json` prints on a host, or the file of Firecracker's `cpu-template-helper
fingerprint dump`. This machine needs no KVM.";

const CHECKED: &str = "\
A fingerprint is what `dfr0 host show --json` prints on a host, or the file of Firecracker's `cpu-template-helper
fingerprint dump`.

Exit status: 0 as a profile says; 1 it differs, or the fingerprint or the command line is wrong; 4 there is no profile of
this CPU, platform and kernel.";

const PLANS: &str = "\
A fingerprint is what `dfr0 host show --json` prints on a host, or the file of Firecracker's `cpu-template-helper
fingerprint dump`. This machine needs no KVM.

Exit status: 0 moves as is; 10 moves if the VM is created with the shape that is printed; 11 may move, depending on what
the fingerprints do not say; 12 cannot move; 1 a fingerprint or the command line is wrong.";

const COMMON: &str = "\
A fingerprint is what `dfr0 host show --json` prints on a host, or the file of Firecracker's `cpu-template-helper
fingerprint dump`. This machine needs no KVM.

Exit status: 0 all give the same shape; 10 all give the shape that is printed when a VM is created so; 11 they may,
depending on what the fingerprints do not say; 12 some host prevents it; 1 a fingerprint or the command line is wrong.";

/// Conformance tests for KVM/arm64's self-hosted debug.
///
/// Boots minimal guests that program breakpoints and locks, rewrites ID_AA64DFR0_EL1 under them, and judges what
/// happens by the Arm ARM. Results are KTAP on standard output.
#[derive(Parser)]
#[command(
    name = "dfr0",
    version,
    after_help = "\
Examples:
  dfr0 run                          every case
  dfr0 run breakpoints '*.reserved_refused'
  dfr0 list --rules id_regs         what these cases test, and where it is written
  dfr0 explain breakpoints.fires    what this case runs, and what is known of it
  dfr0 host show                    what this host's KVM gives to a guest
  dfr0 host show --json > a.json    all that decides whether a guest may move here or away
  dfr0 plan a.json b.json           whether a guest may move from one host to the other
  dfr0 run --results r.jsonl        every case, and the results as a file
  dfr0 report html --out r.html r.jsonl
                                    the same as a page
  dfr0 certify --out host.dfr0      every case, and all that was found as an archive

Exit status of run: 0 all passed, were skipped, or failed as listed in expected/; 1 something else; 4 all skipped."
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
        /// Which cases.
        patterns: Vec<String>,
    },
    /// Say what cases test, by which rule and with which scenarios, and which deviations are known of them.
    ///
    /// Of each known deviation: what is observed, the section that says otherwise, where the kernel does it, on which
    /// kernels and hosts, and whether that includes this host. Nothing runs, and where no guest can run all but the last
    /// is printed.
    #[command(after_help = EXPLAINED)]
    Explain {
        /// Which cases.
        #[arg(required = true, value_name = "CASE")]
        patterns: Vec<String>,
        /// Read deviations from DIR instead of expected/ beside this program.
        #[arg(long, value_name = "DIR")]
        expected: Option<PathBuf>,
    },
    /// Draft an entry of expected/ for each deviation that a run found and none lists.
    ///
    /// A draft has the cases and what they observed, and no citation: FILE does not load before a person has read the rule
    /// again, cited it in `why` and said in `source` what departs from it. docs/expected.md has the keys.
    #[command(after_help = BLESSED)]
    Bless {
        /// The results, as `dfr0 run --results` writes them; `-` is standard input.
        results: PathBuf,
        /// The file to write, in expected/ or to be moved there.
        file: PathBuf,
        /// Write over FILE.
        #[arg(long)]
        force: bool,
        /// Read deviations from DIR instead of expected/ beside this program.
        #[arg(long, value_name = "DIR")]
        expected: Option<PathBuf>,
    },
    /// Run random scenarios again, by their seed, or one scenario from a file.
    ///
    /// A file holds a scenario as `dfr0 run` prints it, a line an operation: what stands behind `in a VM of …:` in the
    /// diagnostics of a failed case. Each operation is shown with its events.
    Replay {
        /// The seed of a run, or a file; `-` is standard input.
        #[arg(value_name = "SEED|FILE")]
        what: String,
    },
    /// Measure how fast cases run here, and against a loop that only takes exceptions.
    #[command(after_help = PATTERNS)]
    Bench {
        /// Which cases.
        patterns: Vec<String>,
    },
    /// This host, and others by their fingerprints.
    #[command(subcommand)]
    Host(HostCommand),
    /// A vCPU in the middle of a scenario, saved here and restored there.
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// Say whether a guest may move from host A to host B, and what stops it.
    #[command(after_help = PLANS)]
    Plan {
        /// The fingerprint of the host that the guest leaves.
        a: PathBuf,
        /// The fingerprint of the host that it moves to.
        b: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Let the exit status be of the debug hardware alone.
        #[arg(long)]
        debug_only: bool,
    },
    /// Move scenarios between hosts, and hold what comes of it against the plans.
    #[command(subcommand)]
    Pairs(pairs::Command),
    /// Results of one or many runs in other forms, and what differs between two.
    #[command(subcommand)]
    Report(report::Command),
    /// Run every case here and write all that was found as one archive, which another machine can check.
    Certify(certify::Certify),
    /// Find the largest shape of debug hardware that hosts share, or who prevents it.
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
        /// Print the host's fingerprint instead, as `compare`, `plan` and `common` read it.
        #[arg(long)]
        json: bool,
    },
    /// Hold this host, or one by its fingerprint, against what is known of its CPU and kernel, and print what differs.
    ///
    /// A profile in expected/hosts/ says what KVM shows to a new VM of the debug hardware, what of it userspace may write,
    /// and how many breakpoints and watchpoints userspace has for its own. It is found by CPU, platform and kernel. Where
    /// that does not tell one from another, as between the shapes of an emulated CPU, the host must be as one of them says.
    #[command(after_help = CHECKED)]
    Check {
        /// Hold it against this profile, whatever its CPU is.
        #[arg(long, value_name = "NAME")]
        profile: Option<String>,
        /// Read profiles from DIR/hosts instead of expected/hosts beside this program.
        #[arg(long, value_name = "DIR")]
        expected: Option<PathBuf>,
        /// Another host's fingerprint instead of this host.
        fingerprint: Option<PathBuf>,
    },
    /// Print what differs between two hosts.
    #[command(after_help = FINGERPRINTS)]
    Compare {
        /// One host's fingerprint.
        a: PathBuf,
        /// The other's.
        b: PathBuf,
    },
}

#[derive(Args)]
struct Run {
    /// Which cases.
    patterns: Vec<String>,
    /// Read deviations from DIR instead of expected/ beside this program.
    #[arg(long, value_name = "DIR")]
    expected: Option<PathBuf>,
    /// Write the results to FILE as well, as JSON lines (docs/results.md); `-` is standard output, without KTAP.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Fail when a listed deviation is no longer seen.
    #[arg(long)]
    strict: bool,
    /// Take a guest for hung when it runs for longer, and a bare machine (docs/bare.md) when it takes longer to answer. Once
    /// a guest has hung, a tenth is left to those after it, and no less than two seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = DEADLINE.as_secs(), value_parser = RangedU64ValueParser::<u64>::new().range(1..=604_800))]
    deadline: u64,
    /// Draw other random scenarios; the same seed draws the same on hosts of the same shape.
    #[arg(long, default_value_t = Draw::default().seed)]
    seed: u64,
    /// Draw more random scenarios, or fewer, in each case of the suite random.
    #[arg(long, value_name = "SCENARIOS", default_value_t = Draw::default().scenarios, value_parser = clap::value_parser!(u32).range(1..))]
    draws: u32,
    /// Run a sample: of the scenarios of each case the first and every Nth, an Nth of the random ones, and of the cases that
    /// move a vCPU each fourth, with one move. A known deviation that a sample does not show is not reported as gone.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "thorough", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    every: u32,
    /// Draw random scenarios for so many minutes in each case of the suite random, however many that are, let all
    /// scenarios of each case of the suite migration move behind each operation, for as long, and run the suite shapes whole
    /// in each shape.
    #[arg(long, value_name = "MINUTES", conflicts_with = "draws", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    thorough: Option<u32>,
}

impl Run {
    fn draw(&self) -> Draw {
        let time = self.thorough.map(|minutes| Duration::from_secs(60 * u64::from(minutes)));
        Draw { seed: self.seed, scenarios: self.draws, time }
    }

    /// Who takes the results.
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
#[command(version, after_help = PATTERNS)]
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
        // Nothing is left to do for a reader who is gone.
        let _ = error.print();
        code
    })
}

fn finish(result: Result<ExitCode, Box<dyn std::error::Error>>) -> ExitCode {
    result.unwrap_or_else(|error| {
        // In colour where standard error takes it.
        anstream::eprintln!("error: {error:#}");
        ExitCode::from(FAILED)
    })
}

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

fn start(suites: &[Suite], only: Option<&str>, run: Run) -> Outcome {
    let cases: Vec<Case> = suites.iter().flat_map(|suite| (suite.cases)()).collect();
    let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
    let deviations = Deviations::load(run.expected.as_deref(), &names)?;
    let of_suite =
        |case: &Case| only.is_none_or(|suite| pattern::matches(suite, &case.name).unwrap_or(false));
    let cases = select(cases.into_iter().filter(of_suite).collect(), &run.patterns)?;
    let options = Options {
        strict: run.strict,
        deadline: Duration::from_secs(run.deadline),
        draw: run.draw(),
        every: run.every as usize,
    };
    Ok(run::run(&cases, &deviations, options, &mut run.writers()?)?)
}

fn list(suites: &[Suite], patterns: &[String], rules: bool) -> Outcome {
    let cases = select(suites.iter().flat_map(|suite| (suite.cases)()).collect(), patterns)?;
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
    let all: Vec<Case> = suites.iter().flat_map(|suite| (suite.cases)()).collect();
    let names: Vec<String> = all.iter().map(|case| case.name.clone()).collect();
    let deviations = Deviations::load(expected, &names)?;
    let chosen = select(suites.iter().flat_map(|suite| (suite.cases)()).collect(), patterns)?;
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
    let all: Vec<Case> = suites.iter().flat_map(|suite| (suite.cases)()).collect();
    let names: Vec<String> = all.iter().map(|case| case.name.clone()).collect();
    let drafts = Drafts::new(&run, &all, &Deviations::load(expected, &names)?)?;
    drafts.left.iter().for_each(|left| eprintln!("dfr0: no draft: {left}"));
    let mut out = io::stdout().lock();
    match drafts.count() {
        (0, _) => {
            writeln!(out, "nothing to draft: no case that ran to its end failed by what no deviation lists")?
        }
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
    let options = |draw| Options { strict: false, deadline: DEADLINE, draw, every: 1 };
    if let Ok(seed) = what.parse() {
        let cases: Vec<Case> = suites.iter().flat_map(|suite| (suite.cases)()).collect();
        let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
        let deviations = Deviations::load(None, &names)?;
        let random = select(cases, &["random".into()])?;
        return Ok(run::run(&random, &deviations, options(Draw { seed, ..Draw::default() }), &mut [ktap()])?);
    }
    let scenario = replay::read(what)?;
    Ok(run::run(&[replay::case(scenario)], &Deviations::none(), options(Draw::default()), &mut [ktap()])?)
}

fn bench(suites: &[Suite], patterns: &[String]) -> Outcome {
    let cases = select(suites.iter().flat_map(|suite| (suite.cases)()).collect(), patterns)?;
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

/// The cases that some pattern names; a pattern that names none is an error.
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
