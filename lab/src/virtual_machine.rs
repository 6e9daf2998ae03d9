// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Boots a host in QEMU, reads its console, and stops QEMU no later than `lab` ends.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::PollFlags;

use crate::console::{Console, Output};
use crate::hosts::Host;
use crate::interrupt::{Signals, poll_timeout};
use crate::mode::Mode;
use crate::outcome::Outcome;
use crate::protocol::printable;
use crate::running::{Running, die_with_lab};

/// The time that a host has to power off after it has reported how its command ended.
const POWER_OFF: Duration = Duration::from_secs(5);

/// A host that has printed nothing for this long is said to boot, and one that has printed nothing for longer to be silent.
const SLOW: Duration = Duration::from_secs(8);
const SILENCE: Duration = Duration::from_secs(15);

/// The time in which a host boots. A slow machine needs a tenth of it.
const BOOT: Duration = Duration::from_secs(120);

/// The time of the boot that only shows the kernel's messages.
const AGAIN: Duration = Duration::from_secs(40);

/// Why QEMU does not run any more.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// It ended.
    Died(ExitStatus),
    /// It was stopped.
    Late,
}

/// A host, ready to boot.
#[derive(Debug)]
pub struct VirtualMachine<'a> {
    /// QEMU, or a copy whose CPU has another shape.
    pub qemu: &'a Path,
    /// The CPU, the number of CPUs and the memory.
    pub host: &'a Host,
    /// An arm64 Image.
    pub kernel: &'a Path,
    /// The initramfs. The file needs no name, so that it is always removed.
    pub initramfs: File,
    /// Whether the kernel prints its messages from the start.
    pub verbose: bool,
}

/// A host was stopped before its command had ended.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("CMD did not end within {} s and the host was stopped (--deadline sets a longer limit)", .0.as_secs())]
pub struct DeadlineOver(pub Duration);

impl VirtualMachine<'_> {
    /// Boots the host, passes its output to `console`, and returns how the command ended. Returns a [`DeadlineOver`] if
    /// the command did not end in time. A host that does not boot is booted again with all of the kernel's messages, so that the
    /// console shows how far it came.
    pub fn run(
        self,
        deadline: Duration,
        signals: &Signals,
        mut console: Console<impl Output>,
    ) -> Result<Outcome> {
        let limit = deadline.min(BOOT);
        let stop = self.once(deadline, limit, self.verbose, signals, &mut console)?;
        let never_booted = !console.has_booted();
        // QEMU fails where it has not even started a CPU.
        let started = !matches!(stop, Stop::Died(status) if !status.success());
        if never_booted && started && !self.verbose {
            console.line("lab: the host did not boot; again, with all of the kernel's messages".into())?;
            console.boot_again();
            self.once(AGAIN, AGAIN, true, signals, &mut console)?;
        }
        console.outcome(|| match stop {
            Stop::Late if never_booted && limit < deadline => {
                anyhow!("the host did not boot within {} s", limit.as_secs())
            }
            Stop::Late => DeadlineOver(deadline).into(),
            Stop::Died(status) if never_booted => anyhow!("the host did not boot (QEMU: {status})"),
            Stop::Died(status) => anyhow!("the host died before its command ended (QEMU: {status})"),
        })
    }

    /// Runs QEMU until it ends, or until it is late: after `deadline`, or after `boot` if the host has not booted then.
    fn once(
        &self,
        deadline: Duration,
        boot: Duration,
        verbose: bool,
        signals: &Signals,
        console: &mut Console<impl Output>,
    ) -> Result<Stop> {
        let start = Instant::now();
        let mut end = start + deadline;
        let command = self.command(verbose)?.spawn();
        let mut running = Running(command.with_context(|| format!("cannot run {}", self.qemu.display()))?);
        let mut serial = running.0.stdout.take().expect("stdout is piped");
        let mut stderr = running.0.stderr.take().expect("stderr is piped");
        let mut messages = Vec::new();
        let mut in_time = true;
        let mut serial_open = true;
        let mut stderr_open = true;
        let booting = format!("booting {} ({} s)", self.host.name, SLOW.as_secs());
        let mut notices = vec![(start + SILENCE, self.silent()), (start + SLOW, booting)];
        while serial_open || stderr_open {
            let until = if console.has_booted() { end } else { end.min(start + boot) };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                in_time = false;
                break;
            }
            // A closed pipe is always ready, so it is left out.
            let mut fds: Vec<(BorrowedFd<'_>, _)> = Vec::new();
            if serial_open {
                fds.push((serial.as_fd(), PollFlags::POLLIN));
            }
            if stderr_open {
                fds.push((stderr.as_fd(), PollFlags::POLLIN));
            }
            let silence =
                notices.last().map_or(left, |(until, _)| until.saturating_duration_since(Instant::now()));
            let ready = signals.wait(&fds, poll_timeout(left.min(silence)))?;
            if let Some((_, notice)) = notices.pop_if(|(until, _)| *until <= Instant::now()) {
                eprintln!("lab: {notice}");
            }
            let mut buffer = [0; 16384];
            if serial_open && ready[0] {
                let size = read(&mut serial, &mut buffer)?;
                serial_open = size != 0;
                notices.clear();
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
        Ok(if in_time { Stop::Died(running.0.wait().context("cannot wait for QEMU")?) } else { Stop::Late })
    }

    /// What is known of a host that prints nothing.
    fn silent(&self) -> String {
        format!(
            "the host has printed nothing for {} s: kernel {}, QEMU {}. If it does not boot, it is booted again with all \
             of the kernel's messages; a kernel needs the PL011 console and the machine `virt`",
            SILENCE.as_secs(),
            self.kernel.display(),
            self.qemu.display()
        )
    }

    fn command(&self, verbose: bool) -> Result<Command> {
        let Host { cpu, vcpus, memory_mib, mode, .. } = self.host;
        let mode = mode.and_then(Mode::parameter);
        let mode = mode.map_or_else(String::new, |mode| format!(" kvm-arm.mode={mode}"));
        let size = self.initramfs.metadata().context("cannot read the initramfs's size")?.len();
        // The archive and its unpacked files are in memory at once.
        let memory_mib = u64::from(*memory_mib) + 2 * (size >> 20);
        fcntl(&self.initramfs, FcntlArg::F_SETFD(FdFlag::empty())).context("cannot pass the initramfs on")?;
        // The kernel prints only emergencies to the console, so that its messages do not split the lines of `lab-init`.
        // It still prints an oops or a panic, because it raises the level itself.
        let messages = if verbose { "loglevel=7 earlycon" } else { "loglevel=1" };

        let mut command = Command::new(self.qemu);
        command
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-M", &self.host.machine(), "-accel", "tcg,thread=multi"])
            .args(["-cpu", cpu, "-smp", &vcpus.to_string(), "-m", &format!("{memory_mib}M")])
            .args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"])
            .arg("-kernel")
            .arg(self.kernel)
            .args(["-initrd", &format!("/proc/self/fd/{}", self.initramfs.as_raw_fd())])
            // Without these the kernel's tests of its ciphers would run for seconds while the command runs, and each system
            // call would change the ASID, at which QEMU flushes its TLB.
            .args([
                "-append",
                &format!("console=ttyAMA0 panic=-1 rdinit=/init cryptomgr.notests kpti=0 {messages}{mode}"),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for `lab`, which stops QEMU.
            .process_group(0);
        die_with_lab(&mut command);
        Ok(command)
    }
}

/// Upper limit for QEMU's messages in bytes; the rest is dropped.
const LONGEST_MESSAGES: usize = 1 << 16;

fn read(pipe: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    match pipe.read(buffer) {
        Err(error) if error.kind() == ErrorKind::Interrupted => read(pipe, buffer),
        size => size.context("cannot read from QEMU"),
    }
}
