// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What a host prints, on the stdout and stderr of `lab`.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::PollFlags;

use crate::console::Output;
use crate::interrupt::{Signals, poll_timeout};

/// The stdout and stderr of `lab`. A reader that is slow holds the host up, but neither Ctrl-C nor the deadline.
#[derive(Debug)]
pub struct Streams<'a> {
    signals: &'a Signals,
    end: Instant,
}

impl<'a> Streams<'a> {
    /// The streams of a host that has so much time.
    pub fn new(signals: &'a Signals, deadline: Duration) -> Self {
        Self { signals, end: Instant::now() + deadline }
    }

    fn write(&self, stream: &mut (impl Write + AsFd), name: &str, bytes: &[u8]) -> Result<()> {
        let left = self.end.saturating_duration_since(Instant::now());
        // A pipe that is ready takes as much as a frame can hold without blocking.
        self.signals.wait(&[(stream.as_fd(), PollFlags::POLLOUT)], poll_timeout(left))?;
        stream
            .write_all(bytes)
            .and_then(|()| stream.flush())
            .with_context(|| format!("cannot pass the host's output on to {name}"))
    }
}

impl Output for Streams<'_> {
    fn stdout(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(&mut std::io::stdout(), "stdout", bytes)
    }

    fn stderr(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(&mut std::io::stderr(), "stderr", bytes)
    }

    fn note(&mut self, line: &str) -> Result<()> {
        self.write(&mut std::io::stderr(), "stderr", format!("{line}\n").as_bytes())
    }
}
