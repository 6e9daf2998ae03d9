// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A bare machine, and a command on this machine that uses its CPU. The bare machine is QEMU without a kernel and without
//! KVM, or one that somebody else has started.
//!
//! DFR0_BARE tells the command the directory that docs/bare.md describes. QEMU has as many CPUs as the host, and all but one
//! are powered off: QEMU emulates an atomic access differently if there is only one CPU.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::iter::repeat_n;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::PollTimeout;

use crate::hosts::Host;
use crate::interrupt::Signals;
use crate::outcome::Outcome;
use crate::protocol::printable;
use crate::running::{Running, die_with_lab};

/// The variable that tells the command the machine's directory.
const VARIABLE: &str = "DFR0_BARE";
/// The variable that tells the command the host's name.
const HOST: &str = "DFR0_LAB_HOST";
/// The name of QEMU's `virt` in its device tree.
const PLATFORM: &str = "linux,dummy-virt";
/// The address at which its memory starts.
const RAM: u64 = 0x4000_0000;
const RAM_SIZE: u64 = 4 << 20;
const PAGE: u64 = 0x1000;
/// The time that QEMU has to answer on its monitor.
const START: Duration = Duration::from_secs(30);
/// The interval, in milliseconds, of checking whether a child process has ended.
const TICK: u8 = 10;
/// Upper limit for QEMU's messages in bytes; the rest is dropped.
const LONGEST_MESSAGES: u64 = 1 << 16;

/// Runs a command, a program and its arguments, with the machine of this directory, and returns how it ended.
pub fn run_beside(
    directory: &Path,
    host: Option<&str>,
    command: &[String],
    deadline: Duration,
    signals: &Signals,
) -> Result<Outcome> {
    let end = Instant::now() + deadline;
    let [name, arguments @ ..] = command else { bail!("CMD is missing") };
    let mut command = Command::new(name);
    command.args(arguments).env(VARIABLE, directory).env_remove(HOST).envs(host.map(|host| (HOST, host)));
    die_with_lab(&mut command);
    let mut command = Running(command.spawn().with_context(|| format!("cannot run {name}"))?);
    match wait(&mut command, end, signals)? {
        Some(status) => Ok(outcome(status)),
        None => Ok(Outcome::Refused(format!(
            "CMD did not end within {} s and was stopped (--deadline sets a longer limit)",
            deadline.as_secs()
        ))),
    }
}

/// QEMU's CPU, and the command that uses it.
#[derive(Debug)]
pub struct BareMachine<'a> {
    /// QEMU, or a copy whose CPU has another shape.
    pub qemu: &'a Path,
    /// The host whose CPUs to use; its kernel and memory are not used.
    pub host: &'a Host,
    /// A program of this machine, and its arguments.
    pub command: &'a [String],
}

impl BareMachine<'_> {
    /// Starts the machine, runs the command, and returns how it ended.
    pub fn run(&self, deadline: Duration, signals: &Signals) -> Result<Outcome> {
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let at = |name: &str| directory.path().join(name);
        let written = || -> std::io::Result<()> {
            File::create_new(at("ram"))?.set_len(RAM_SIZE)?;
            fs::write(at("platform"), format!("{PLATFORM}\n"))
        };
        written().with_context(|| format!("cannot write into {}", directory.path().display()))?;

        // QEMU writes its messages to a file, so that no slow reader can block it.
        let mut messages = tempfile::tempfile().context("cannot make a temporary file")?;
        let mut qemu = self.qemu_command(directory.path());
        qemu.stderr(messages.try_clone().context("cannot duplicate a file descriptor")?);
        let mut qemu = Running(qemu.spawn().with_context(|| format!("cannot run {}", self.qemu.display()))?);
        if let Err(error) = wait_for_monitor(&at("qmp"), &mut qemu, Instant::now() + START, signals) {
            drop(qemu);
            say(&mut messages)?;
            return Err(error);
        }

        let ended = run_beside(directory.path(), Some(&self.host.name), self.command, deadline, signals)?;
        drop(qemu);
        say(&mut messages)?;
        Ok(ended)
    }

    fn qemu_command(&self, directory: &Path) -> Command {
        let socket =
            |name: &str| option(&format!("socket,id={name},server=on,wait=off,path="), &directory.join(name));
        let ram = option(
            &format!("memory-backend-file,id=ram,share=on,size={RAM_SIZE},mem-path="),
            &directory.join("ram"),
        );
        let mut command = Command::new(self.qemu);
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg", "-S"])
            .args(["-M", &format!("{},memory-backend=ram", self.host.machine())])
            .args([
                "-cpu",
                &self.host.cpu,
                "-smp",
                &self.host.vcpus.to_string(),
                "-m",
                &format!("{RAM_SIZE}B"),
            ])
            .arg("-object")
            .arg(ram)
            .args(["-device", &format!("loader,cpu-num=0,addr={:#x}", RAM + RAM_SIZE - PAGE)])
            .arg("-chardev")
            .arg(socket("serial"))
            .args(["-serial", "chardev:serial", "-chardev"])
            // QEMU makes this socket last: when it exists, the others do too.
            .arg(socket("qmp"))
            .args(["-mon", "chardev=qmp,mode=control"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Ctrl-C is for `lab` and CMD; `lab` stops QEMU.
            .process_group(0);
        die_with_lab(&mut command);
        command
    }
}

/// An option's value that ends with a path. QEMU reads two commas in it as one.
fn option(text: &str, path: &Path) -> OsString {
    let path = path.as_os_str().as_bytes();
    let doubled = path.iter().flat_map(|&byte| repeat_n(byte, if byte == b',' { 2 } else { 1 }));
    OsString::from_vec(text.bytes().chain(doubled).collect())
}

/// Waits for the greeting of QEMU's monitor, which shows that the machine is complete.
fn wait_for_monitor(socket: &Path, qemu: &mut Running, end: Instant, signals: &Signals) -> Result<()> {
    let greets = || -> std::io::Result<()> {
        let mut monitor = UnixStream::connect(socket)?;
        monitor.set_read_timeout(Some(Duration::from_secs(1)))?;
        monitor.read_exact(&mut [0])
    };
    while greets().is_err() {
        if let Some(status) = qemu.0.try_wait().context("cannot wait for QEMU")? {
            bail!("QEMU ended before its machine was ready ({status})");
        }
        if Instant::now() >= end {
            bail!("QEMU's monitor did not answer within {} s", START.as_secs());
        }
        signals.wait(&[], PollTimeout::from(TICK))?;
    }
    Ok(())
}

/// Waits for the command and returns how it ended, or `None` if it is still running at `end`.
fn wait(command: &mut Running, end: Instant, signals: &Signals) -> Result<Option<ExitStatus>> {
    while Instant::now() < end {
        if let Some(status) = command.0.try_wait().context("cannot wait for CMD")? {
            return Ok(Some(status));
        }
        signals.wait(&[], PollTimeout::from(TICK))?;
    }
    Ok(None)
}

fn outcome(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(code), _) => Outcome::Exited(code as u8),
        (None, signal) => Outcome::Killed(signal.unwrap_or_default() as u8),
    }
}

/// Prints QEMU's messages to stderr.
fn say(messages: &mut File) -> Result<()> {
    let mut said = Vec::new();
    messages
        .rewind()
        .and_then(|()| messages.take(LONGEST_MESSAGES).read_to_end(&mut said))
        .context("cannot read QEMU's messages")?;
    let mut stderr = std::io::stderr().lock();
    for line in said.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        writeln!(stderr, "qemu: {}", printable(line)).context("cannot write to stderr")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_stays_in_the_path() {
        assert_eq!(option("a=b,path=", Path::new("/tmp/x,y")), "a=b,path=/tmp/x,,y");
    }

    #[test]
    fn the_end_of_a_command_is_passed_on() {
        assert_eq!(outcome(ExitStatus::from_raw(7 << 8)), Outcome::Exited(7));
        assert_eq!(outcome(ExitStatus::from_raw(9)), Outcome::Killed(9));
    }
}
