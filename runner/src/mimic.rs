// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The cases as tests of `cargo test` and nextest, through libtest-mimic.

use crate::{
    case::{Case, Session, Suite},
    expected::Deviations,
    guest::{DEADLINE, Error},
    results::{self, Outcome},
    run::run_case,
};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::{process::ExitCode, sync::Arc, time::Instant};

/// Runs the cases of `suites` as the tests of a `harness = false` target, one after the other, because a
/// guest has a deadline.
pub fn main(suites: &[Suite]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    let cases: Vec<Case> = suites.iter().flat_map(|suite| suite.cases()).collect();
    let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
    let deviations = match Deviations::load(None, &names) {
        Ok(deviations) => Arc::new(deviations),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let trials = cases.into_iter().map(|case| trial(case, Arc::clone(&deviations))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(case: Case, deviations: Arc<Deviations>) -> Trial {
    Trial::ignorable_test(case.name.clone(), move || {
        let mut session = match Session::open(DEADLINE) {
            Ok(session) => session,
            Err(Error::Unavailable(unavailable)) => return Ok(Completion::ignored_with(unavailable)),
            Err(error) => return Err(error.into()),
        };
        let start = Instant::now();
        let report = run_case(&case, &mut session);
        let result = results::Case::new(&case, &report, (&deviations, &session), start.elapsed());
        match (result.outcome, &result.stopped) {
            (Outcome::Skip, Some(stopped)) => Ok(Completion::ignored_with(&stopped.why)),
            (Outcome::Fail, _) => Err(Failed::from(result.explained())),
            _ => Ok(Completion::Completed),
        }
    })
}
