// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 explain`.

use super::{Outcome, all, output::show, select};
use crate::{
    case::Suite,
    exit::Exit,
    expected::Deviations,
    explain::Explanation,
    guest::{DEADLINE, Error},
    machine::Machine,
};
use clap::Args;
use std::path::PathBuf;

const EXPLAINED: &str = "\
CASE is a whole name (breakpoints.fires), the first parts of a name
(breakpoints, id_regs.wrps), or a glob (*.reads_back); `dfr0 list` prints all
names. A scenario is printed as a failed case prints it, and `dfr0 replay` runs
it.

Examples:
  dfr0 explain double_lock.implemented.reads_back
  dfr0 explain '*.refused'           all cases whose names end in .refused";

/// Print what cases test: their rules, their scenarios and their known deviations.
///
/// For each known deviation it prints what is observed, the section that says otherwise, where the kernel
/// does it, on which kernels and hosts, and whether that includes this host. Nothing runs. Where no guest
/// can run, it does not print whether a deviation applies here.
#[derive(Args)]
#[command(after_help = EXPLAINED)]
pub struct Explain {
    /// Cases to explain.
    #[arg(required = true, value_name = "CASE")]
    patterns: Vec<String>,
    /// Read deviations from DIR instead of expected/ next to this program.
    #[arg(long, value_name = "DIR")]
    expected: Option<PathBuf>,
}

impl Explain {
    pub fn run(self, suites: &[Suite]) -> Outcome {
        let (cases, names) = all(suites);
        let deviations = Deviations::load(self.expected.as_deref(), &names)?;
        let chosen = select(all(suites).0, &self.patterns)?;
        let here = match Machine::open(DEADLINE) {
            Ok(machine) => Ok(machine.host()?),
            Err(Error::Unavailable(unavailable)) => Err(unavailable.to_string()),
            Err(error) => return Err(error.into()),
        };
        let here = here.as_ref().map_err(String::as_str);
        let explanation = Explanation { chosen: &chosen, all: &cases, deviations: &deviations, here };
        show(&explanation)?;
        Ok(Exit::Good)
    }
}
