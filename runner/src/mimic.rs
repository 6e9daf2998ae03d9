// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The cases as tests of `cargo test` and nextest, through libtest-mimic.

use crate::{
    case::{Case, Session, Suite},
    expected::Deviations,
    guest::{DEADLINE, Error},
    machine,
    results::{self, Outcome},
    run::run_case,
};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::{
    cell::RefCell,
    process::ExitCode,
    sync::{Arc, RwLock},
    time::Instant,
};

thread_local! {
    /// The session of the tests that run in this thread, once the first has opened it.
    static SESSION: RefCell<Option<Session>> = const { RefCell::new(None) };
}

/// A case that runs alone has it to itself.
static BESIDE: RwLock<()> = RwLock::new(());

/// Runs the cases of `suites` as the tests of a `harness = false` target.
pub fn main(suites: &[Suite]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    if machine::is_bare() {
        // There is only one.
        arguments.test_threads = Some(1);
    }
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
        let result = match with_session(|session| judged(&case, &deviations, session)) {
            Ok(result) => result,
            Err(Error::Unavailable(unavailable)) => return Ok(Completion::ignored_with(unavailable)),
            Err(error) => return Err(error.into()),
        };
        match (result.outcome, &result.stopped) {
            (Outcome::Skip, Some(stopped)) => Ok(Completion::ignored_with(&stopped.why)),
            (Outcome::Fail, _) => Err(Failed::from(result.explained())),
            _ => Ok(Completion::Completed),
        }
    })
}

/// Does something in the thread's session.
fn with_session<R>(run: impl FnOnce(&mut Session) -> R) -> Result<R, Error> {
    SESSION.with_borrow_mut(|session| {
        let session = match session {
            Some(session) => session,
            None => session.insert(Session::open(DEADLINE)?),
        };
        Ok(run(session))
    })
}

fn judged(case: &Case, deviations: &Deviations, session: &mut Session) -> results::Case {
    let _alone = case.is_alone().then(|| BESIDE.write());
    let _beside = (!case.is_alone()).then(|| BESIDE.read());
    let start = Instant::now();
    let report = run_case(case, session);
    results::Case::new(case, &report, (deviations, session), start.elapsed())
}
