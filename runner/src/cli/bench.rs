// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 bench`.

use super::{Outcome, PATTERNS, all, select};
use crate::{bench, case::Suite, exit::Exit};
use clap::Args;

/// Measure how fast cases run on this host, compared with a loop that only takes exceptions.
#[derive(Args)]
#[command(after_help = PATTERNS)]
pub struct Bench {
    /// Cases to measure.
    patterns: Vec<String>,
}

impl Bench {
    pub fn run(self, suites: &[Suite]) -> Outcome {
        bench::run(suites, &select(all(suites).0, &self.patterns)?)?;
        Ok(Exit::Good)
    }
}
