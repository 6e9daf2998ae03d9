// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Starts the command, forwards its output, and waits for it.

use std::fs;
use std::io::{ErrorKind, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use dfr0_lab::job::{JOB, Job, WORKING_DIRECTORY};
use dfr0_lab::outcome::Outcome;
use dfr0_lab::protocol::Kind;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeSpec;
use nix::sys::wait::{WaitStatus, wait};
use nix::time::{ClockId, clock_settime};
use nix::unistd::Pid;

use crate::console::Console;
use crate::{files, host_facts};

/// Reads the job, sends the host's facts, and runs the command if the host has the expected shape.
pub fn run(console: &'static Console) -> Result<Outcome> {
    let text = fs::read_to_string(JOB).with_context(|| format!("cannot read {JOB}"))?;
    let job: Job = toml::from_str(&text).with_context(|| format!("cannot read {JOB}"))?;
    // A kernel may refuse this; then only the dates in results are wrong.
    let now = TimeSpec::new(job.now.try_into().unwrap_or_default(), 0);
    let _ = clock_settime(ClockId::CLOCK_REALTIME, now);
    let facts = host_facts::read();
    console.send(Kind::Facts, toml::to_string(&facts).context("cannot write the facts")?.as_bytes());
    if let Err(reason) = facts.check(job.expected_shape, job.expected_mode) {
        return Ok(Outcome::Refused(reason));
    }

    let mut child = Command::new(&job.program)
        .args(&job.arguments)
        .env_clear()
        .envs(&job.environment)
        .current_dir(WORKING_DIRECTORY)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {} in the host", job.program.display()))?;
    let streams = [
        forward(child.stdout.take().context("no stdout")?, Kind::Stdout, console),
        forward(child.stderr.take().context("no stderr")?, Kind::Stderr, console),
    ];
    let (running, ended) = mpsc::channel();
    let files = thread::spawn(move || files::forward(console, &ended));
    let outcome = wait_for(Pid::from_raw(child.id().try_into()?))?;
    // Processes that the command left running would keep its pipes open. This fails if there are none.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    drop(running);
    for thread in streams.into_iter().chain([files]) {
        if thread.join().is_err() {
            bail!("a thread that forwards the command's output panicked");
        }
    }
    Ok(outcome)
}

fn forward(mut pipe: impl Read + Send + 'static, kind: Kind, console: &'static Console) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        loop {
            match pipe.read(&mut bytes) {
                Ok(0) => return,
                Ok(size) => console.send(kind, &bytes[..size]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    })
}

/// Waits for the command and, as process 1, for all other processes that end before it.
fn wait_for(command: Pid) -> Result<Outcome> {
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, status)) if pid == command => {
                return Ok(Outcome::Exited(status as u8));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => {
                return Ok(Outcome::Killed(signal as u8));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => bail!("cannot wait for the command: {error}"),
        }
    }
}
