// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 run`.

use super::{Outcome, PATTERNS, all, choice::Choice, output::Out};
use crate::{
    case::{Case, Suite},
    cpu_types::{self, List},
    effort::Effort,
    expected::Deviations,
    guest::DEADLINE,
    ktap::Ktap,
    lava::Lava,
    pattern::CasePattern,
    results::{self, Lines, Writer, Writers},
    run::{self, Options},
};
use clap::{Args, ValueEnum, builder::RangedU64ValueParser};
use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

/// Run cases and print KTAP.
#[derive(Args)]
#[command(after_help = PATTERNS)]
pub struct Run {
    #[command(flatten)]
    choice: Choice,
    /// Read deviations from DIR instead of expected/ next to this program.
    #[arg(long, value_name = "DIR")]
    expected: Option<PathBuf>,
    /// Also write the results to FILE, as JSON lines (docs/results.md), each when its case has ended, so that what ended is
    /// there if the host dies; `-` is standard output, without KTAP.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// What standard output has.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Begin no case after one has failed. The results then say that the run did not end.
    #[arg(long)]
    fail_fast: bool,
    /// Fail when a listed deviation is no longer seen.
    #[arg(long)]
    strict: bool,
    /// Consider a guest hung when it runs for longer, and a bare machine (docs/bare.md) when it takes longer
    /// to answer. After a guest has hung, later guests have a tenth of this time, but at least two seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = DEADLINE.as_secs(), value_parser = RangedU64ValueParser::<u64>::new().range(1..=604_800))]
    deadline: u64,
    /// Run this many cases at the same time, each in VMs of its own. The results are the same, and in the same order.
    /// Default: one for each CPU.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=4096))]
    jobs: Option<usize>,
    /// Run on these CPUs, such as 0-3,8, which must be of one type. Default: those of one type, if the host's CPUs are of several
    /// types; the type with most CPUs, or of these the first.
    #[arg(long, value_name = "LIST")]
    cpus: Option<List>,
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
    /// Runs the cases of all suites, or of one.
    pub fn run(self, suites: &[Suite], only: Option<&str>) -> Outcome {
        let (cases, names) = all(suites);
        let deviations = Deviations::load(self.expected.as_deref(), &names)?;
        let only = only.map(CasePattern::new).transpose()?;
        let of_suite = |case: &Case| only.as_ref().is_none_or(|suite| suite.matches(&case.name));
        let cases = self.choice.of(cases.into_iter().filter(of_suite).collect(), &names)?;
        let mut writers = self.writers()?;
        if cases.is_empty() {
            return Ok(run::nothing(self.choice.why_nothing(), &mut writers)?);
        }
        let options = Options {
            strict: self.strict,
            deadline: Duration::from_secs(self.deadline),
            effort: self.effort(),
            jobs: self.jobs,
            fail_fast: self.fail_fast,
            cpus: cpu_types::settle(self.cpus.clone())?,
        };
        Ok(run::run(&cases, &deviations, options, &mut writers)?)
    }

    fn effort(&self) -> Effort {
        let thorough = self.thorough.map(|minutes| Duration::from_secs(60 * u64::from(minutes)));
        Effort { seed: self.seed, draws: self.draws, every: self.every as usize, thorough }
    }

    /// The writers that take the results.
    fn writers(&self) -> Result<Writers, String> {
        let form = || match self.format {
            None | Some(Format::Ktap) => ktap(),
            Some(Format::Lava) => Box::new(Lava::new(Out)),
        };
        Ok(match &self.results {
            None => Writers { at_once: vec![], in_order: vec![form()] },
            Some(path) if path == Path::new("-") => {
                if self.format.is_some() {
                    return Err(
                        "with --results - standard output has the results alone, so --format has no effect: \
                                name a file for --results, or leave out --format"
                            .into(),
                    );
                }
                Writers { at_once: vec![Box::new(Lines(Out))], in_order: vec![] }
            }
            Some(path) => {
                let file = results::File::create(path)
                    .map_err(|error| format!("cannot write the results to {}: {error}", path.display()))?;
                Writers { at_once: vec![Box::new(file)], in_order: vec![form()] }
            }
        })
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// KTAP, the default.
    Ktap,
    /// Signals of LAVA's test shell (docs/engines.md).
    Lava,
}

/// KTAP on standard output.
pub fn ktap() -> Box<dyn Writer> {
    Box::new(Ktap::new(Out, env::var_os("KSFT_TAP_LEVEL").is_some()))
}
