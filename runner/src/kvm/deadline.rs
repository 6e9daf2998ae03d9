// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A deadline for KVM_RUN: a timer that sends this thread a signal, so that the ioctl returns EINTR.
//!
//! The deadline is over after so many parts of it that this thread has seen the end of each. So while a machine is suspended, or so
//! busy that the thread does not run, no more than one part ends.

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
/// The number of parts.
const PARTS: u32 = 10;
/// A signal whose handler does nothing and that nothing else in a test program uses.
const SIGNAL: Signal = Signal::SIGALRM;

/// A timer for the thread that made it.
#[derive(Debug)]
pub struct Deadline {
    timer: Timer,
    length: Duration,
    /// The parts that have not ended.
    left: u32,
    /// When the present one ends.
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
        let (now, part) = (Instant::now(), self.length / PARTS);
        (self.left, self.ends) = (PARTS, now + part);
        if self.signals < now + part / 2 { self.set(now) } else { Ok(()) }
    }

    /// The deadline is over. If it is not, the timer is set for the rest of this part.
    pub fn is_over(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        if now >= self.ends {
            self.left = self.left.saturating_sub(1);
            self.ends = now + self.length / PARTS;
        }
        if self.left > 0 {
            self.set(now)?;
        }
        Ok(self.left == 0)
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
