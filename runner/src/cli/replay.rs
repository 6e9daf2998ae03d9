// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 replay`.

use super::{Outcome, all, run::ktap, select};
use crate::{
    case::Suite,
    effort::Effort,
    expected::Deviations,
    guest::DEADLINE,
    replay,
    run::{self, Options},
};
use clap::Args;

/// Run random scenarios again, by their seed, or one scenario from a file.
///
/// A file holds a scenario as `dfr0 run` prints it, one operation per line: the lines after `in a VM of …:`
/// in the diagnostics of a failed case. Each operation is printed with its events.
#[derive(Args)]
pub struct Replay {
    /// The seed of a run, or a file; `-` is standard input.
    #[arg(value_name = "SEED|FILE")]
    what: String,
}

impl Replay {
    pub fn run(self, suites: &[Suite]) -> Outcome {
        let (cases, deviations, effort) = if let Ok(seed) = self.what.parse() {
            let (cases, names) = all(suites);
            let effort = Effort { seed, ..Effort::default() };
            (select(cases, &["random".into()])?, Deviations::load(None, &names)?, effort)
        } else {
            (vec![replay::case(replay::read(&self.what)?)], Deviations::none(), Effort::default())
        };
        let options = Options { strict: false, deadline: DEADLINE, effort, jobs: None };
        Ok(run::run(&cases, &deviations, options, &mut [ktap()])?)
    }
}
