// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 bench`.

use super::{Outcome, PATTERNS, all, output::Out, select};
use crate::{bench, case::Suite, exit::Exit};
use clap::Args;
use std::path::PathBuf;

/// Measure how fast cases run on this host: compared with a loop that only takes exceptions, side by side, and compared
/// with another program.
#[derive(Args)]
#[command(after_help = PATTERNS)]
pub struct Bench {
    /// Cases to measure.
    patterns: Vec<String>,
    /// Also run PROGRAM, without arguments, and compare the times: upstream's debug-exceptions, for example.
    #[arg(long, value_name = "PROGRAM")]
    beside: Option<PathBuf>,
}

impl Bench {
    pub fn run(self, suites: &[Suite]) -> Outcome {
        bench::run(suites, &select(all(suites).0, &self.patterns)?, self.beside.as_deref(), Out)?;
        Ok(Exit::Good)
    }
}
