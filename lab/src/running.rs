// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Processes that end no later than `lab`.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // These fail only if the process has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes the kernel kill the process when `lab` dies.
pub fn die_with_lab(command: &mut Command) {
    let die_with_lab = || Ok(set_pdeathsig(Signal::SIGKILL)?);
    // SAFETY: between fork and exec the closure makes one system call, prctl, and neither allocates nor locks.
    unsafe { command.pre_exec(die_with_lab) };
}
