// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 replay`.

use super::{Outcome, all, run::ktap, select};
use crate::{
    case::Suite,
    cpu_types,
    effort::Effort,
    expected::Deviations,
    guest::DEADLINE,
    replay,
    results::Writers,
    run::{self, Options},
};
use clap::Args;

/// Run random scenarios again, by their seed, or one scenario from a file.
///
/// A file holds a scenario, one operation per line, or what `dfr0 run` printed or wrote with --results. Of
/// several scenarios the first one runs, or the first one of CASE. It runs in a VM of the shape that the line
/// `in a VM of …:` above it says. Each operation is printed with its events.
#[derive(Args)]
pub struct Replay {
    /// The seed of a run, or a file; `-` is standard input.
    #[arg(value_name = "SEED|FILE")]
    what: String,
    /// Run a scenario of this case, which failed.
    case: Option<String>,
}

impl Replay {
    pub fn run(self, suites: &[Suite]) -> Outcome {
        let (cases, deviations, effort) = match (self.what.parse(), &self.case) {
            (Ok(seed), None) => {
                let (cases, names) = all(suites);
                let effort = Effort { seed, ..Effort::default() };
                (select(cases, &["random".into()])?, Deviations::load(None, &names)?, effort)
            }
            _ => {
                let found = replay::read(&self.what, self.case.as_deref())?;
                (vec![replay::case(found)], Deviations::none(), Effort::default())
            }
        };
        let options = Options {
            strict: false,
            deadline: DEADLINE,
            effort,
            jobs: None,
            fail_fast: false,
            cpus: cpu_types::settle(None)?,
        };
        Ok(run::run(
            &cases,
            &deviations,
            options,
            &mut Writers { in_order: vec![ktap()], ..Writers::default() },
        )?)
    }
}
