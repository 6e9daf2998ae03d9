// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Signals such as that of Ctrl-C, as something to wait for: current work ends, and temporary files are removed before
//! `lab` exits.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// `lab` was stopped by a signal.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("stopped by {0}")]
pub struct Interrupted(pub Signal);

/// SIGHUP, SIGINT and SIGTERM, blocked. The first of them stops every thread that waits here.
#[derive(Debug)]
pub struct Signals {
    held: SigSet,
    fd: SignalFd,
    first: OnceLock<Signal>,
    /// This stays readable after a signal, which only one thread can read.
    told: EventFd,
}

impl Signals {
    /// Blocks the signals in this thread and in the threads that it will start. (The standard library gives child
    /// processes an empty mask.)
    pub fn hold() -> Result<Self> {
        let held: SigSet = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
        held.thread_block().context("cannot block signals")?;
        let fd = SignalFd::with_flags(&held, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        let told = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        Ok(Self {
            held,
            fd: fd.context("cannot make a signalfd")?,
            first: OnceLock::new(),
            told: told.context("cannot make an eventfd")?,
        })
    }

    /// Unblocks the signals, so that the next one ends this process. Call this in the thread that blocked them.
    pub fn let_go(&self) -> Result<()> {
        self.held.thread_unblock().context("cannot unblock signals")
    }

    /// Returns an [`Interrupted`] if a signal has arrived.
    pub fn check(&self) -> Result<()> {
        if self.first.get().is_none()
            && let Some(info) = self.fd.read_signal().context("cannot read the signalfd")?
        {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            // Another thread may have set another signal first.
            let _ = self.first.set(signal.unwrap_or(Signal::SIGTERM));
            self.told.write(1).context("cannot write to the eventfd")?;
        }
        match self.first.get() {
            Some(&signal) => Err(Interrupted(signal).into()),
            None => Ok(()),
        }
    }

    /// Waits until one of `fds` is ready or `timeout` is over. Returns an [`Interrupted`] if a signal arrives first.
    pub fn wait(&self, fds: &[(BorrowedFd<'_>, PollFlags)], timeout: PollTimeout) -> Result<Vec<bool>> {
        let mut polled: Vec<_> = fds.iter().map(|&(fd, flags)| PollFd::new(fd, flags)).collect();
        polled.push(PollFd::new(self.fd.as_fd(), PollFlags::POLLIN));
        polled.push(PollFd::new(self.told.as_fd(), PollFlags::POLLIN));
        match poll(&mut polled, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot poll"),
        }
        self.check()?;
        Ok(polled[..fds.len()].iter().map(|fd| fd.any().unwrap_or(true)).collect())
    }
}

/// Converts a time for poll. The result is rounded up, so that the deadline is over when poll returns.
pub fn poll_timeout(left: Duration) -> PollTimeout {
    PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sys::pthread::{pthread_kill, pthread_self};

    use super::*;

    #[test]
    fn one_signal_stops_every_thread_and_stays() {
        let signals = Signals::hold().unwrap();
        // After a minute the test fails.
        let wait = || signals.wait(&[], PollTimeout::from(60_000u16));
        let is_interrupted = |result: Result<Vec<bool>>| {
            result.unwrap_err().downcast::<Interrupted>().unwrap().0 == Signal::SIGHUP
        };
        thread::scope(|scope| {
            let waiting = [scope.spawn(wait), scope.spawn(wait)];
            // Only this thread gets the signal, because other tests block signals too.
            pthread_kill(pthread_self(), Signal::SIGHUP).unwrap();
            assert!(is_interrupted(wait()));
            let told = &mut [PollFd::new(signals.told.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(told, PollTimeout::ZERO), Ok(1), "the other threads are woken");
            for thread in waiting {
                assert!(is_interrupted(thread.join().unwrap()));
            }
        });
        assert!(is_interrupted(wait()));
    }
}
