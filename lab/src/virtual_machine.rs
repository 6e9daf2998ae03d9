// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! QEMU, run once: booted, read, and gone when `lab` is.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFlags, PollTimeout};

use crate::console::{Console, Output};
use crate::hosts::Host;
use crate::interrupt::Signals;
use crate::outcome::Outcome;
use crate::protocol::printable;
use crate::running::{Running, die_with_lab};

/// A host that has told how its command ended gets this long to power off.
const POWER_OFF: Duration = Duration::from_secs(5);

/// A host, ready to boot.
#[derive(Debug)]
pub struct VirtualMachine<'a> {
    /// QEMU, perhaps a copy with a CPU of another shape.
    pub qemu: &'a Path,
    /// CPU, number of CPUs and memory.
    pub host: &'a Host,
    /// An arm64 Image.
    pub kernel: &'a Path,
    /// Needs no name, so that none is left behind.
    pub initramfs: File,
    /// Show the kernel's messages.
    pub verbose: bool,
}

impl VirtualMachine<'_> {
    /// Boots the host, hands on what its command prints, and returns how the command ended.
    pub fn run(self, deadline: Duration, signals: &Signals) -> Result<Outcome> {
        let end = Instant::now() + deadline;
        let mut running =
            Running(self.command()?.spawn().with_context(|| format!("cannot run {}", self.qemu.display()))?);
        let mut serial = running.0.stdout.take().expect("stdout is piped");
        let mut stderr = running.0.stderr.take().expect("stderr is piped");
        let mut console = Console::new(Streams { signals, end }, self.verbose);
        let mut messages = Vec::new();
        let mut end = end;
        let mut in_time = true;
        let mut serial_open = true;
        let mut stderr_open = true;
        while serial_open || stderr_open {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                in_time = false;
                break;
            }
            // A closed pipe stays ready for ever: it is left out.
            let mut fds: Vec<(BorrowedFd<'_>, _)> = Vec::new();
            if serial_open {
                fds.push((serial.as_fd(), PollFlags::POLLIN));
            }
            if stderr_open {
                fds.push((stderr.as_fd(), PollFlags::POLLIN));
            }
            let ready = signals.wait(&fds, timeout(left))?;
            let mut buffer = [0; 16384];
            if serial_open && ready[0] {
                let size = read(&mut serial, &mut buffer)?;
                serial_open = size != 0;
                let had_outcome = console.has_outcome();
                console.read(&buffer[..size])?;
                if !had_outcome && console.has_outcome() {
                    end = end.min(Instant::now() + POWER_OFF);
                }
            }
            if stderr_open && ready.last() == Some(&true) {
                let size = read(&mut stderr, &mut buffer)?;
                stderr_open = size != 0;
                messages
                    .extend_from_slice(&buffer[..size.min(LONGEST_MESSAGES.saturating_sub(messages.len()))]);
            }
        }
        console.finish()?;
        for line in messages.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            console.line(format!("qemu: {}", printable(line)))?;
        }
        let status = if in_time { Some(running.0.wait().context("cannot wait for QEMU")?) } else { None };
        console.outcome(|| match status {
            None => format!(
                "the deadline of {} s is over; the host was stopped (--deadline allows more)",
                deadline.as_secs()
            ),
            Some(status) => format!("the host died before its command ended (QEMU: {status})"),
        })
    }

    fn command(&self) -> Result<Command> {
        let Host { cpu, vcpus, memory_mib, nvhe, .. } = self.host;
        let mode = if *nvhe { " kvm-arm.mode=nvhe" } else { "" };
        let size = self.initramfs.metadata().context("cannot read the initramfs's size")?.len();
        // The archive and its unpacked files are in memory at once.
        let memory_mib = u64::from(*memory_mib) + 2 * (size >> 20);
        fcntl(&self.initramfs, FcntlArg::F_SETFD(FdFlag::empty())).context("cannot hand on the initramfs")?;
        // Only emergencies reach the console by themselves, so that no message lands between our lines: an oops or a
        // panic still does, because the kernel raises the level itself.
        let messages = if self.verbose { "loglevel=7 earlycon" } else { "loglevel=1" };

        let mut command = Command::new(self.qemu);
        command
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-M", "virt,virtualization=on,gic-version=3", "-accel", "tcg,thread=multi"])
            .args(["-cpu", cpu, "-smp", &vcpus.to_string(), "-m", &format!("{memory_mib}M")])
            .args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"])
            .arg("-kernel")
            .arg(self.kernel)
            .args(["-initrd", &format!("/proc/self/fd/{}", self.initramfs.as_raw_fd())])
            .args(["-append", &format!("console=ttyAMA0 panic=-1 rdinit=/init {messages}{mode}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for `lab`, which stops QEMU.
            .process_group(0);
        die_with_lab(&mut command);
        Ok(command)
    }
}

/// QEMU says little; what is beyond this is dropped.
const LONGEST_MESSAGES: usize = 1 << 16;

fn timeout(left: Duration) -> PollTimeout {
    // Rounded up, so that the deadline is over when the time is.
    PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
}

fn read(pipe: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    match pipe.read(buffer) {
        Err(error) if error.kind() == ErrorKind::Interrupted => read(pipe, buffer),
        size => size.context("cannot read from QEMU"),
    }
}

/// The stdout and stderr of `lab`. A reader that is slow holds the host up, but neither Ctrl-C nor the deadline.
struct Streams<'a> {
    signals: &'a Signals,
    end: Instant,
}

impl Streams<'_> {
    fn write(&self, stream: &mut (impl Write + AsFd), name: &str, bytes: &[u8]) -> Result<()> {
        let left = self.end.saturating_duration_since(Instant::now());
        // A pipe that is ready takes as much as a frame can hold without blocking.
        self.signals.wait(&[(stream.as_fd(), PollFlags::POLLOUT)], timeout(left))?;
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
