// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A deadline for KVM_RUN: a timer that sends this thread a signal, so that the ioctl returns EINTR.
//!
//! When its time is over the guest gets some more, in parts of which this thread must see the end: while a machine was suspended, or
//! so busy that the thread did not run, the guest did not run either. The parts are not there from the start, because a signal
//! changes what some kernels do (expected/guest_debug.toml, step-into-the-handler-interrupted).

use crate::guest::Error;
use nix::{
    sys::{
        signal::{SigEvent, SigevNotify, Signal},
        timer::{Expiration, Timer, TimerSetTimeFlags},
    },
    time::ClockId,
    unistd::gettid,
};
use std::{
    io,
    sync::{Arc, Once, atomic::AtomicBool},
    time::{Duration, Instant},
};

/// After the deadline the signal is sent repeatedly, because the first may arrive just before KVM_RUN is
/// entered.
const AGAIN: Duration = Duration::from_millis(20);
/// The number of these parts, each a tenth of the time.
const PARTS: u32 = 3;
/// A signal whose handler does nothing and that nothing else in a test program uses.
const SIGNAL: Signal = Signal::SIGALRM;

/// A timer for the thread that made it.
#[derive(Debug)]
pub struct Deadline {
    timer: Timer,
    length: Duration,
    /// The parts that have not begun.
    left: u32,
    /// When the time ends, or the present part.
    ends: Instant,
    /// When the timer sends its first signal. This may be early, because setting it costs more than a short
    /// KVM_RUN.
    signals: Instant,
}

impl Deadline {
    /// A timer that is not yet started.
    pub fn new(length: Duration) -> Result<Self, Error> {
        // A signal without a handler would end the process; this one sets a flag that nobody reads.
        static HANDLED: Once = Once::new();
        let mut handler = Ok(());
        HANDLED.call_once(|| {
            handler = signal_hook::flag::register(SIGNAL as i32, Arc::new(AtomicBool::new(false))).map(drop);
        });
        handler.map_err(|source| Error::System { what: format!("a handler for {SIGNAL}"), source })?;
        let notify = SigevNotify::SigevThreadId { signal: SIGNAL, thread_id: gettid().as_raw(), si_value: 0 };
        let timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify)).map_err(failed)?;
        let now = Instant::now();
        Ok(Self { timer, length, left: PARTS, ends: now, signals: now })
    }

    /// Starts the deadline.
    pub fn start(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        (self.left, self.ends) = (PARTS, now + self.length);
        if self.signals < now + self.length / 2 { self.set(now) } else { Ok(()) }
    }

    /// The deadline is over. If it is not, the timer is set for the rest of it, or for the next part.
    pub fn is_over(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        if now >= self.ends {
            let Some(left) = self.left.checked_sub(1) else { return Ok(true) };
            (self.left, self.ends) = (left, now + self.length / 10);
        }
        self.set(now)?;
        Ok(false)
    }

    /// The length of the deadline.
    pub fn length(&self) -> Duration {
        self.length
    }

    fn set(&mut self, now: Instant) -> Result<(), Error> {
        self.signals = self.ends;
        // Setting a timer to zero disarms it.
        let left = self.ends.saturating_duration_since(now).max(AGAIN);
        let expiration = Expiration::IntervalDelayed(left.into(), AGAIN.into());
        self.timer.set(expiration, TimerSetTimeFlags::empty()).map_err(failed)
    }
}

fn failed(errno: nix::Error) -> Error {
    Error::System { what: "a timer for the guest's deadline".into(), source: io::Error::from(errno) }
}
