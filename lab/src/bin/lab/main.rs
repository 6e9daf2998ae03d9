// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `lab`: boots a KVM/arm64 host and runs a command in it.

mod matrix;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use dfr0_lab::bare_machine::{self, BareMachine};
use dfr0_lab::cache::Cache;
use dfr0_lab::console::Console;
use dfr0_lab::errand::Errand;
use dfr0_lab::hosts::{Host, Hosts};
use dfr0_lab::interrupt::{Interrupted, Signals};
use dfr0_lab::kernel::Choice;
use dfr0_lab::outcome::{LAB_FAILED, Outcome, signal_status};
use dfr0_lab::streams::Streams;
use dfr0_lab::virtual_machine::VirtualMachine;
use dfr0_lab::{qemu, shaped_cpu, source, userland};

use crate::matrix::Matrix;

const EXAMPLES: &str = "\
Examples:
  lab list                                        the hosts
  lab exec -- target/aarch64-unknown-linux-gnu/release/dfr0 --help
                                                  a static arm64 program, in the default host
  lab exec --host shape-16-16-4 --kernel trixie -- ./set_id_regs
                                                  a CPU with 16 breakpoints, Debian 13's kernel
  lab exec --with tools -- busybox uname -a       with the directory tools/ as the working directory
  lab exec --kernel ~/linux/arch/arm64/boot/Image -- ./test
                                                  a kernel of your own
  lab exec --bare --host neoverse-n1 -- ./dfr0 run
                                                  a program of this machine, with a CPU and no KVM at its disposal
  lab exec --bare --machine model/ -- ./dfr0 run  the same with a CPU that is not the lab's (docs/bare.md)
  lab matrix --out run --with target/bundle -- ./dfr0 run
                                                  in many hosts with many kernels (`lab matrix --help`)
  lab fetch --kernel trixie --kernel newest       for later use without a network

What is not here yet is fetched: QEMU by apt, kernels from the Debian archive that this machine uses.

Exit status of `lab exec`: CMD's; 128 + N if signal N killed CMD, or lab; 125 if lab, the host or the arguments failed.

Environment:
  DFR0_CACHE           the cache (default: $XDG_CACHE_HOME/dfr0 or ~/.cache/dfr0); it may be deleted
  DFR0_DEBIAN_ARCHIVE  the URI of a Debian archive (default: what this machine's apt uses)
  DFR0_LAB_HOSTS       a hosts.toml of your own, as --hosts
  DFR0_LAB_INIT        the lab-init to boot (default: the one that was built beside lab)
  DFR0_NO_INSTALL      if set: never install QEMU
  DFR0_QEMU            a qemu-system-aarch64 of your own, 10.0 or later
CMD sees variables whose names begin with CARGO_PKG_, DFR0_, KSELFTEST_, KSFT_, NEXTEST, NO_COLOR, PROPTEST_ or RUST_,
and DFR0_LAB_HOST, the host's name.";

/// KVM/arm64 hosts on demand: QEMU (TCG, EL2 emulated) boots Debian's own arm64 kernels, where KVM is real.
#[derive(Parser)]
#[command(name = "lab", version, after_help = EXAMPLES)]
struct Cli {
    /// Take the hosts from FILE instead of those that are built in
    #[arg(long, value_name = "FILE", global = true)]
    hosts: Option<PathBuf>,
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// List the hosts
    List,
    /// Boot a host and run CMD in it
    #[command(after_help = EXAMPLES)]
    Exec(Exec),
    /// Boot many hosts with many kernels and run CMD in each
    #[command(after_help = matrix::EXAMPLES)]
    Matrix(Matrix),
    /// Fetch QEMU and kernels into the cache, as `exec` does when it needs them
    Fetch(Fetch),
    /// Print the path of a tar archive: what a Debian kernel's selftests are built from
    Source(Source),
    /// Print the path of a tar archive: arm64 packages of Debian 13 and what they depend on, unpacked
    Userland(Userland),
}

#[derive(Args)]
struct Exec {
    /// The host to boot (`lab list` shows them)
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Boot this kernel instead of the host's own: bookworm, trixie, sid, trixie-backports, newest, or the path of an
    /// arm64 Image
    #[arg(long, value_name = "SUITE|PATH")]
    kernel: Option<Choice>,
    /// Copy DIR into the host, where it is CMD's working directory
    #[arg(long, value_name = "DIR")]
    with: Option<PathBuf>,
    /// Boot nothing: run CMD on this machine, with the host's CPU, without KVM, in the directory that DFR0_BARE names
    #[arg(long, conflicts_with_all = ["kernel", "with", "verbose"])]
    bare: bool,
    /// Start no CPU either: the machine that DIR describes is there already
    #[arg(long, value_name = "DIR", requires = "bare", conflicts_with = "host")]
    machine: Option<PathBuf>,
    /// Stop the host after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    deadline: u64,
    /// Show the kernel's messages and what the host is
    #[arg(long)]
    verbose: bool,
    /// A static arm64 program of this machine (with a `/` in its name) or of DIR, and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

#[derive(Args)]
struct Fetch {
    /// A kernel to fetch; may be repeated [default: those that the hosts name]
    #[arg(long, value_name = "SUITE")]
    kernel: Vec<Choice>,
    /// Look for newer kernels, too
    #[arg(long)]
    refresh: bool,
}

#[derive(Args)]
struct Source {
    /// The kernel: bookworm, trixie, sid, trixie-backports or newest
    #[arg(value_name = "SUITE")]
    kernel: Choice,
}

#[derive(Args)]
struct Userland {
    /// Names of packages
    #[arg(value_name = "PACKAGE", required = true)]
    packages: Vec<String>,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let status = if error.use_stderr() { LAB_FAILED } else { 0 };
            // Nothing is left to say if stderr is closed.
            let _ = error.print();
            return status.into();
        }
    };
    match run(&cli) {
        Ok(status) => status.into(),
        Err(error) => match error.downcast_ref::<Interrupted>() {
            Some(Interrupted(signal)) => {
                eprintln!("lab: stopped by {signal}");
                signal_status(*signal as u8).into()
            }
            None => {
                eprintln!("lab: {error:#}");
                LAB_FAILED.into()
            }
        },
    }
}

fn run(cli: &Cli) -> Result<u8> {
    let file = cli.hosts.clone().or_else(|| env::var_os("DFR0_LAB_HOSTS").map(PathBuf::from));
    let hosts = Hosts::load(file.as_deref())?;
    match &cli.command {
        Subcommands::List => list(&hosts),
        Subcommands::Exec(exec) => exec.run(&hosts),
        Subcommands::Matrix(matrix) => matrix.run(&hosts),
        Subcommands::Fetch(fetch) => fetch.run(&hosts),
        Subcommands::Source(source) => source.run(),
        Subcommands::Userland(userland) => userland.run(),
    }
}

fn list(hosts: &Hosts) -> Result<u8> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let matrix = hosts.several(&[])?;
    for (host, is_default) in hosts.iter() {
        let default = if is_default { " (default)" } else { "" };
        let matrix = if matrix.contains(&host) { " (matrix)" } else { "" };
        writeln!(out, "{:<18} {:<8} {}{default}{matrix}", host.name, host.kernel.to_string(), host.about)?;
    }
    Ok(0)
}

impl Exec {
    fn run(&self, hosts: &Hosts) -> Result<u8> {
        let signals = Signals::hold()?;
        if let Some(directory) = &self.machine {
            return self.run_beside(directory, &signals);
        }
        let host = hosts.get(self.host.as_deref())?;
        if self.bare {
            return self.run_bare(host, &signals);
        }
        let errand = Errand::new(&self.command, self.with.as_deref())?;
        let cache = Cache::open()?;
        let kernel = self.kernel.as_ref().unwrap_or(&host.kernel).image(false, &cache, &signals)?;
        let qemu = qemu_of(host, &cache, &signals)?;
        signals.check()?;
        let initramfs = errand.initramfs(host)?;
        let machine = VirtualMachine { qemu: &qemu, host, kernel: &kernel, initramfs, verbose: self.verbose };
        let deadline = Duration::from_secs(self.deadline);
        let console = Console::new(Streams::new(&signals, deadline), self.verbose);
        let outcome = machine
            .run(deadline, &signals, console)
            .with_context(|| format!("host {}, kernel {}", host.name, kernel.display()))?;
        if let Outcome::Refused(reason) = &outcome {
            eprintln!("lab: host {}, kernel {}: {reason}", host.name, kernel.display());
        }
        Ok(outcome.exit_status())
    }

    fn run_beside(&self, directory: &Path, signals: &Signals) -> Result<u8> {
        let deadline = Duration::from_secs(self.deadline);
        let outcome = bare_machine::run_beside(directory, None, &self.command, deadline, signals)?;
        if let Outcome::Refused(reason) = &outcome {
            eprintln!("lab: the machine of {}: {reason}", directory.display());
        }
        Ok(outcome.exit_status())
    }

    fn run_bare(&self, host: &Host, signals: &Signals) -> Result<u8> {
        let qemu = qemu_of(host, &Cache::open()?, signals)?;
        let machine = BareMachine { qemu: &qemu, host, command: &self.command };
        let outcome = machine
            .run(Duration::from_secs(self.deadline), signals)
            .with_context(|| format!("the bare CPU of {}", host.name))?;
        if let Outcome::Refused(reason) = &outcome {
            eprintln!("lab: the bare CPU of {}: {reason}", host.name);
        }
        Ok(outcome.exit_status())
    }
}

/// QEMU, with a CPU of the host's shape.
fn qemu_of(host: &Host, cache: &Cache, signals: &Signals) -> Result<PathBuf> {
    let qemu = qemu::find(cache, signals)?;
    match &host.shaped {
        Some(cpu) => shaped_cpu::qemu_with(cpu, &qemu, cache),
        None => Ok(qemu),
    }
}

impl Fetch {
    fn run(&self, hosts: &Hosts) -> Result<u8> {
        let signals = Signals::hold()?;
        let cache = Cache::open()?;
        let mut kernels = self.kernel.clone();
        if kernels.is_empty() {
            kernels = hosts.iter().map(|(host, _)| host.kernel.clone()).collect();
            kernels.dedup();
        }
        println!("{}", qemu::find(&cache, &signals)?.display());
        for kernel in kernels {
            println!("{}", kernel.image(self.refresh, &cache, &signals)?.display());
        }
        Ok(0)
    }
}

impl Source {
    fn run(&self) -> Result<u8> {
        let archive = source::archive(&self.kernel, &Cache::open()?, &Signals::hold()?)?;
        println!("{}", archive.display());
        Ok(0)
    }
}

impl Userland {
    fn run(&self) -> Result<u8> {
        let archive = userland::archive(&self.packages, &Cache::open()?, &Signals::hold()?)?;
        println!("{}", archive.display());
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    fn error(arguments: &[&str]) -> Option<ErrorKind> {
        Cli::try_parse_from([&["lab", "exec"], arguments, &["--", "true"]].concat())
            .err()
            .map(|error| error.kind())
    }

    #[test]
    fn a_machine_that_is_there_is_bare_and_no_host_of_the_labs() {
        assert_eq!(error(&["--bare", "--machine", "d", "--deadline", "5"]), None);
        assert_eq!(error(&["--machine", "d"]), Some(ErrorKind::MissingRequiredArgument));
        assert_eq!(error(&["--bare", "--machine", "d", "--host", "max"]), Some(ErrorKind::ArgumentConflict));
    }

    #[test]
    fn a_bare_cpu_boots_nothing() {
        assert_eq!(error(&["--bare", "--host", "max", "--deadline", "5"]), None);
        for booted in [&["--kernel", "trixie"][..], &["--with", "/"], &["--verbose"]] {
            assert_eq!(error(booted), None);
            assert_eq!(
                error(&[&["--bare"], booted].concat()),
                Some(ErrorKind::ArgumentConflict),
                "{booted:?}"
            );
        }
    }
}
