// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Ctrl-C and its kin, as something to wait for: whatever is under way ends, and everything temporary is removed on
//! the way out.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// A signal asked `lab` to stop.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("stopped by {0}")]
pub struct Interrupted(pub Signal);

/// SIGHUP, SIGINT and SIGTERM, held back.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Holds the signals back in this thread and in those it will start. (Children get an empty mask from the
    /// standard library.)
    pub fn hold() -> Result<Self> {
        let set: SigSet = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
        set.thread_block().context("cannot block signals")?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        Ok(Self(fd.context("cannot make a signalfd")?))
    }

    /// An [`Interrupted`] if a signal has come.
    pub fn check(&self) -> Result<()> {
        let Some(info) = self.0.read_signal().context("cannot read the signalfd")? else { return Ok(()) };
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
        Err(Interrupted(signal.unwrap_or(Signal::SIGTERM)).into())
    }

    /// Waits until one of `fds` is ready or `timeout` is over; an [`Interrupted`] if a signal comes first.
    pub fn wait(&self, fds: &[(BorrowedFd<'_>, PollFlags)], timeout: PollTimeout) -> Result<Vec<bool>> {
        let mut polled: Vec<_> = fds.iter().map(|&(fd, flags)| PollFd::new(fd, flags)).collect();
        polled.push(PollFd::new(self.0.as_fd(), PollFlags::POLLIN));
        match poll(&mut polled, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot poll"),
        }
        self.check()?;
        polled.pop();
        Ok(polled.iter().map(|fd| fd.any().unwrap_or(true)).collect())
    }
}
