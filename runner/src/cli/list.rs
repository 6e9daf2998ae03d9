// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 list`.

use super::{
    Outcome, PATTERNS, all,
    choice::Choice,
    output::{Out, print_json},
};
use crate::{
    case::{Case, Suite},
    exit::Exit,
    results,
};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::io::Write;

/// List cases.
#[derive(Args)]
#[command(after_help = PATTERNS)]
pub struct List {
    /// Print the rules that each case tests, and their sections.
    #[arg(long)]
    rules: bool,
    #[command(flatten)]
    choice: Choice,
    /// How to print them.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl List {
    pub fn run(self, suites: &[Suite]) -> Outcome {
        let (cases, names) = all(suites);
        let cases = self.choice.of(cases, &names)?;
        if self.format == Format::Json {
            let listed: Vec<Listed<'_>> = cases.iter().map(Listed::of).collect();
            print_json(&listed)?;
            return Ok(Exit::Good);
        }
        let mut out = Out;
        for case in cases {
            writeln!(out, "{}", case.name)?;
            if self.rules {
                case.rules().try_for_each(|rule| writeln!(out, "    {rule}"))?;
            }
        }
        Ok(Exit::Good)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A name per line.
    #[default]
    Text,
    /// A list of objects: `name`, `suite`, and `rules`, each with its `name`, what it `says` and its `section`.
    Json,
}

/// A case as JSON.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    suite: &'a str,
    rules: Vec<results::Why>,
}

impl<'a> Listed<'a> {
    fn of(case: &'a Case) -> Self {
        let suite = case.name.split('.').next().unwrap_or_default();
        Self { name: &case.name, suite, rules: case.rules().map(results::Why::from).collect() }
    }
}
