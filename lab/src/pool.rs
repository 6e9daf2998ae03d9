// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Work on several things at a time, until all is done, something fails or `lab` is stopped.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError, mpsc};
use std::{panic, thread};

use anyhow::Result;

use crate::interrupt::Signals;

/// Does two things at a time.
pub fn both<A: Send, B>(
    first: impl FnOnce() -> Result<A> + Send,
    second: impl FnOnce() -> Result<B>,
) -> Result<(A, B)> {
    thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second();
        let first = first.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked));
        Ok((first?, second?))
    })
}

/// Does `work` on each item, `jobs` at a time. `ended` takes each item with its result, which is `None` after an error.
/// After a signal or an error no more work starts; the first error is returned when the work that runs has ended.
pub fn run<T: Send, R: Send>(
    items: Vec<T>,
    jobs: usize,
    signals: &Signals,
    work: &(dyn Fn(&T) -> Result<R> + Sync),
    mut ended: impl FnMut(T, Option<R>) -> Result<()>,
) -> Result<()> {
    let jobs = jobs.min(items.len());
    let queue = Mutex::new(VecDeque::from(items));
    let queue = || queue.lock().unwrap_or_else(PoisonError::into_inner);
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        let mut stopped = Ok(());
        for _ in 0..jobs {
            let sender = sender.clone();
            scope.spawn(move || {
                loop {
                    let Some(item) = queue().pop_front() else { return };
                    let result = signals.check().and_then(|()| work(&item));
                    if result.is_err() {
                        queue().clear();
                    }
                    // The receiver exists as long as this thread.
                    let _ = sender.send((item, result));
                }
            });
        }
        drop(sender);
        for (item, result) in results {
            let (result, failed) = match result {
                Ok(result) => (Some(result), None),
                Err(error) => (None, Some(error)),
            };
            for error in failed.into_iter().chain(ended(item, result).err()) {
                queue().clear();
                if stopped.is_ok() {
                    // A second signal ends the process without waiting for the other work.
                    signals.let_go()?;
                    stopped = Err(error);
                }
            }
        }
        stopped
    })
}
