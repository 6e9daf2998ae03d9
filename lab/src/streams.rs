// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Writes a host's output to the stdout and stderr of `lab`.

use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::PollFlags;

use crate::brought::Brought;
use crate::console::Output;
use crate::interrupt::{Signals, poll_timeout};

/// The stdout and stderr of `lab`. A slow reader delays the host, but not Ctrl-C or the deadline.
#[derive(Debug)]
pub struct Streams<'a> {
    signals: &'a Signals,
    end: Instant,
    brought: Option<Brought>,
}

impl<'a> Streams<'a> {
    /// The streams of a host that starts now and has this deadline.
    pub fn new(signals: &'a Signals, deadline: Duration) -> Self {
        Self { signals, end: Instant::now() + deadline, brought: None }
    }

    /// The same streams; the files that the command leaves come into `brought`.
    pub fn bringing(self, brought: Option<Brought>) -> Self {
        Self { brought, ..self }
    }

    fn write(&self, stream: &mut (impl Write + AsFd), name: &str, bytes: &[u8]) -> Result<()> {
        let left = self.end.saturating_duration_since(Instant::now());
        // A pipe that is ready accepts the contents of a frame without blocking.
        self.signals.wait(&[(stream.as_fd(), PollFlags::POLLOUT)], poll_timeout(left))?;
        match stream.write_all(bytes).and_then(|()| stream.flush()) {
            // The reader is gone, as that of `| head`, and wants no more. The exit status is still the command's.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result.with_context(|| format!("cannot write the host's output to {name}")),
        }
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

    fn file(&mut self, piece: &[u8]) -> Result<()> {
        self.brought.as_mut().map_or(Ok(()), |brought| brought.take(piece))
    }
}
