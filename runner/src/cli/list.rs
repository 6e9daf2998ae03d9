// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 list`.

use super::{Outcome, PATTERNS, all, output::Out, select};
use crate::{case::Suite, exit::Exit};
use clap::Args;
use std::io::Write;

/// List cases.
#[derive(Args)]
#[command(after_help = PATTERNS)]
pub struct List {
    /// Print the rules that each case tests, and their sections.
    #[arg(long)]
    rules: bool,
    /// Cases to list.
    patterns: Vec<String>,
}

impl List {
    pub fn run(self, suites: &[Suite]) -> Outcome {
        let mut out = Out;
        for case in select(all(suites).0, &self.patterns)? {
            writeln!(out, "{}", case.name)?;
            if self.rules {
                case.rules().try_for_each(|rule| writeln!(out, "    {rule}"))?;
            }
        }
        Ok(Exit::Good)
    }
}
