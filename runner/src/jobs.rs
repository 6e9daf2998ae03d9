// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Cases that run at the same time, and their results in the order of the cases.

use crate::{
    case::{Case, Session},
    guest::Error,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
};

/// Runs the cases with `run`, in `jobs` threads with a session each. Gives each result to `ended` as soon as the case has
/// ended, and to `done` in the order of the cases, whatever the order in which they end. Cases that run alone run before the
/// others, in `session`. No case is begun after `ended` has said so; results that are then not at their turn are done
/// nevertheless.
pub fn run<R: Send, E: From<Error>>(
    cases: &[Case],
    session: &mut Session,
    (jobs, open): (usize, impl Fn() -> Result<Session, Error> + Sync),
    run: impl Fn(&Case, &mut Session) -> R + Sync,
    ended: impl FnMut(&R) -> Result<ControlFlow<()>, E>,
    done: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let mut results = InOrder { ended, done, waiting: BTreeMap::new(), next: 0 };
    if jobs == 1 {
        for (place, case) in cases.iter().enumerate() {
            if results.add(place, run(case, session))?.is_break() {
                break;
            }
        }
        return Ok(());
    }
    raise_limit_of_files();
    let (alone, mut others): (Vec<_>, Vec<_>) =
        cases.iter().enumerate().partition(|(_, case)| case.is_alone());
    for (place, case) in alone {
        if results.add(place, run(case, session))?.is_break() {
            return results.rest();
        }
    }
    // No thread has a long case left when the others have nothing to do any more.
    others.sort_by_key(|(_, case)| !case.is_long());
    let (others, next, is_over, run, open) =
        (&others, &AtomicUsize::new(0), &AtomicBool::new(false), &run, &open);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..jobs.min(others.len()) {
            let sender = sender.clone();
            scope.spawn(move || {
                let mut session = match open() {
                    Ok(session) => session,
                    Err(error) => return drop(sender.send(Err(error))),
                };
                while !is_over.load(Relaxed)
                    && let Some((place, case)) = others.get(next.fetch_add(1, Relaxed))
                {
                    if sender.send(Ok((*place, run(case, &mut session)))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for result in receiver {
            let (place, result) = result?;
            if results.add(place, result)?.is_break() {
                is_over.store(true, Relaxed);
            }
        }
        results.rest()
    })
}

/// Gives results away, as they come and in their order.
struct InOrder<R, N, D> {
    ended: N,
    done: D,
    /// Results that came before their turn, by their places.
    waiting: BTreeMap<usize, R>,
    /// The place of the result that is given away next.
    next: usize,
}

impl<R, E, N, D> InOrder<R, N, D>
where
    N: FnMut(&R) -> Result<ControlFlow<()>, E>,
    D: FnMut(R) -> Result<(), E>,
{
    fn add(&mut self, place: usize, result: R) -> Result<ControlFlow<()>, E> {
        let flow = (self.ended)(&result)?;
        self.waiting.insert(place, result);
        while let Some(result) = self.waiting.remove(&self.next) {
            self.next += 1;
            (self.done)(result)?;
        }
        Ok(flow)
    }

    /// Gives away what waits for a result that does not come.
    fn rest(self) -> Result<(), E> {
        self.waiting.into_values().try_for_each(self.done)
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
    use std::time::Duration;

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
            |_| Ok(ControlFlow::Continue(())),
            |name| {
                names.push(name);
                Ok::<_, Error>(())
            },
        );
        ran.expect("nothing runs");
        names
    }

    /// What `jobs` jobs give away, as it comes and in order, of many cases that take a millisecond each, if no case is begun
    /// after this one. Number 2000 is long, so it begins before the others.
    fn until(jobs: usize, last: usize) -> [Vec<usize>; 2] {
        let case = |n: usize| Case::new(format!("s.{n}"), &rule::MDE, |_| Ok(()));
        let cases: Vec<Case> = (0..5000).map(|n| if n == 2000 { case(n).large() } else { case(n) }).collect();
        let on_paper = || Ok(Session::on_paper(Host::imagined(0x1030_5006)));
        let mut session = on_paper().expect("nothing runs");
        let [mut ended, mut done] = [Vec::new(), Vec::new()];
        let ran = run(
            &cases,
            &mut session,
            (jobs, on_paper),
            |case, _| {
                thread::sleep(Duration::from_millis(1));
                case.name[2..].parse().expect("a number")
            },
            |n: &usize| {
                ended.push(*n);
                Ok(if *n == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            },
            |n| {
                done.push(n);
                Ok::<_, Error>(())
            },
        );
        ran.expect("nothing runs");
        [ended, done]
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
    fn no_case_begins_after_the_last_and_each_that_ended_is_done_in_order() {
        assert_eq!(until(1, 4), [vec![0, 1, 2, 3, 4], vec![0, 1, 2, 3, 4]]);
        for last in [4, 2000] {
            let [mut ended, done] = until(3, last);
            let place = ended.iter().position(|n| *n == 2000).expect("it begins first");
            assert!(place < 1000, "a result is there when its case has ended, and not at its turn: {place}");
            ended.sort_unstable();
            assert_eq!(ended, done);
            assert!(done.contains(&last) && done.len() < 4000, "{done:?}");
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
            |()| Ok(ControlFlow::Continue(())),
            |()| {
                taken += 1;
                if taken < 10 { Ok(()) } else { Err(full()) }
            },
        );
        assert_eq!((ran.expect_err("it ended").to_string(), taken), (full().to_string(), 10));
    }
}
