// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `lab-init`: process 1 of a host that `lab` boots. It runs one command and powers the host off.

#[cfg(target_arch = "aarch64")]
mod command;
#[cfg(target_arch = "aarch64")]
mod console;
#[cfg(target_arch = "aarch64")]
mod files;
#[cfg(target_arch = "aarch64")]
mod host_facts;
#[cfg(target_arch = "aarch64")]
mod kernel_log;
#[cfg(target_arch = "aarch64")]
mod mounts;

#[cfg(not(target_arch = "aarch64"))]
fn main() -> std::process::ExitCode {
    eprintln!("lab-init is process 1 of the arm64 hosts that lab boots and cannot run here");
    std::process::ExitCode::FAILURE
}

#[cfg(target_arch = "aarch64")]
fn main() -> std::process::ExitCode {
    use dfr0_lab::outcome::Outcome;
    use dfr0_lab::protocol::Kind;
    use nix::sys::reboot::{RebootMode, reboot};

    if std::process::id() != 1 {
        eprintln!("lab-init is process 1 of the hosts that lab boots and cannot run here");
        return std::process::ExitCode::FAILURE;
    }
    mounts::mount_all();
    let console = match console::Console::open() {
        Ok(console) => console,
        // The kernel panics when process 1 ends, and `lab` shows the panic.
        Err(error) => panic!("lab-init cannot open the console: {error}"),
    };
    kernel_log::forward(console);
    let outcome = command::run(console).unwrap_or_else(|error| Outcome::Refused(format!("{error:#}")));
    console.send(Kind::Outcome, outcome.to_string().as_bytes());
    console.drain();
    // A kernel without PSCI cannot power the host off. With -no-reboot, QEMU also exits on a restart.
    let _ = reboot(RebootMode::RB_POWER_OFF);
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    panic!("lab-init can neither power the host off nor restart it");
}
