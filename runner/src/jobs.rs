// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Cases that run at the same time, and their results in the order of the cases.

use crate::{
    case::{Case, Session},
    guest::Error,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
};

/// Runs the cases with `run`, in `jobs` threads with a session each, and gives the results to `done` in the order of the
/// cases, whatever the order in which they end. Cases that run alone run before the others, in `session`.
pub fn run<R: Send, E: From<Error>>(
    cases: &[Case],
    session: &mut Session,
    (jobs, open): (usize, impl Fn() -> Result<Session, Error> + Sync),
    run: impl Fn(&Case, &mut Session) -> R + Sync,
    mut done: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    if jobs == 1 {
        return cases.iter().try_for_each(|case| done(run(case, session)));
    }
    raise_limit_of_files();
    let mut results = InOrder { done, waiting: BTreeMap::new(), next: 0 };
    let (alone, mut others): (Vec<_>, Vec<_>) =
        cases.iter().enumerate().partition(|(_, case)| case.is_alone());
    for (place, case) in alone {
        results.add(place, run(case, session))?;
    }
    // No thread has a long case left when the others have nothing to do any more.
    others.sort_by_key(|(_, case)| !case.is_long());
    let (others, next, run, open) = (&others, &AtomicUsize::new(0), &run, &open);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..jobs.min(others.len()) {
            let sender = sender.clone();
            scope.spawn(move || {
                let mut session = match open() {
                    Ok(session) => session,
                    Err(error) => return drop(sender.send(Err(error))),
                };
                while let Some((place, case)) = others.get(next.fetch_add(1, Relaxed)) {
                    if sender.send(Ok((*place, run(case, &mut session)))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        receiver.into_iter().try_for_each(|result| {
            let (place, result) = result?;
            results.add(place, result)
        })
    })
}

/// Gives results away in their order.
struct InOrder<R, D> {
    done: D,
    /// Results that came before their turn, by their places.
    waiting: BTreeMap<usize, R>,
    /// The place of the result that is given away next.
    next: usize,
}

impl<R, D> InOrder<R, D> {
    fn add<E>(&mut self, place: usize, result: R) -> Result<(), E>
    where
        D: FnMut(R) -> Result<(), E>,
    {
        self.waiting.insert(place, result);
        while let Some(result) = self.waiting.remove(&self.next) {
            self.next += 1;
            (self.done)(result)?;
        }
        Ok(())
    }
}

/// Each VM has some files open. Where the limit cannot be raised, a VM that does not fit says so.
fn raise_limit_of_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use dfr0_model::rule;

    fn names(jobs: usize) -> Vec<String> {
        let case = |n: usize| Case::new(format!("s.{n}"), &rule::MDE, |_| Ok(()));
        let cases: Vec<Case> = (0..100)
            .map(|n| match n % 10 {
                3 => case(n).alone(),
                7 => case(n).large(),
                _ => case(n),
            })
            .collect();
        let on_paper = || Ok(Session::on_paper(Host::imagined(0x1030_5006)));
        let mut session = on_paper().expect("nothing runs");
        let mut names = Vec::new();
        let ran = run(
            &cases,
            &mut session,
            (jobs, on_paper),
            |case, session| {
                assert!(case.run(session).stopped.is_none());
                case.name.clone()
            },
            |name| {
                names.push(name);
                Ok::<_, Error>(())
            },
        );
        ran.expect("nothing runs");
        names
    }

    #[test]
    fn results_come_in_the_order_of_the_cases_whatever_the_number_of_jobs() {
        let one = names(1);
        assert_eq!(one.len(), 100);
        for jobs in [2, 3, 8, 200] {
            assert_eq!(names(jobs), one, "with {jobs} jobs");
        }
    }

    #[test]
    fn a_result_that_nobody_takes_ends_the_run() {
        let cases: Vec<Case> = (0..50).map(|n| Case::new(format!("s.{n}"), &rule::MDE, |_| Ok(()))).collect();
        let on_paper = || Ok(Session::on_paper(Host::imagined(0x1030_5006)));
        let mut session = on_paper().expect("nothing runs");
        let mut taken = 0;
        let full = || Error::Unfit("full".into());
        let ran = run(
            &cases,
            &mut session,
            (4, on_paper),
            |_, _| (),
            |()| {
                taken += 1;
                if taken < 10 { Ok(()) } else { Err(full()) }
            },
        );
        assert_eq!((ran.expect_err("it ended").to_string(), taken), (full().to_string(), 10));
    }
}
