// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A deadline for KVM_RUN: a timer that sends this thread a signal, so that the ioctl returns EINTR.

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

/// After the deadline the signal is sent again and again: the first may arrive just before KVM_RUN is entered.
const AGAIN: Duration = Duration::from_millis(20);
/// A signal whose handler does nothing and that nothing else in a test program uses.
const SIGNAL: Signal = Signal::SIGALRM;

/// A timer for the thread that made it.
#[derive(Debug)]
pub struct Deadline {
    timer: Timer,
    length: Duration,
    ends: Instant,
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
        Ok(Self { timer, length, ends: Instant::now() })
    }

    /// Starts the time.
    pub fn start(&mut self) -> Result<(), Error> {
        self.ends = Instant::now() + self.length;
        let expiration = Expiration::IntervalDelayed(self.length.into(), AGAIN.into());
        self.timer.set(expiration, TimerSetTimeFlags::empty()).map_err(failed)
    }

    /// Stops the time.
    pub fn stop(&mut self) -> Result<(), Error> {
        let never = Expiration::OneShot(Duration::ZERO.into());
        self.timer.set(never, TimerSetTimeFlags::empty()).map_err(failed)
    }

    /// The time is over.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.ends
    }

    /// How long it is.
    pub fn length(&self) -> Duration {
        self.length
    }
}

fn failed(errno: nix::Error) -> Error {
    Error::System { what: "a timer for the guest's deadline".into(), source: io::Error::from(errno) }
}
