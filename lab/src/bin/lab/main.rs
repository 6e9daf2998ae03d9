// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `lab`: boots KVM/arm64 hosts and runs a command in them.

mod defects;
mod fleet;
mod matrix;
mod pairs;

use std::env;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use dfr0_lab::bare_machine::{self, BareMachine};
use dfr0_lab::brought::Brought;
use dfr0_lab::cache::Cache;
use dfr0_lab::console::Console;
use dfr0_lab::errand::Errand;
use dfr0_lab::exit::Exit;
use dfr0_lab::hosts::{Host, Hosts};
use dfr0_lab::interrupt::{Interrupted, Signals};
use dfr0_lab::kernel::Choice;
use dfr0_lab::matrix::{kernels, plan};
use dfr0_lab::mode::Mode;
use dfr0_lab::outcome::Outcome;
use dfr0_lab::streams::Streams;
use dfr0_lab::virtual_machine::VirtualMachine;
use dfr0_lab::{pool, qemu, shaped_cpu, source, userland};

use crate::defects::Defects;
use crate::fleet::FleetCommand;
use crate::matrix::Matrix;
use crate::pairs::Pairs;

const EXAMPLES: &str = "\
Examples:
  lab list
      List the hosts.
  lab exec -- target/aarch64-unknown-linux-gnu/release/dfr0 --help
      Run a static arm64 program in the default host.
  lab exec --host shape-16-16-4 --kernel trixie -- ./set_id_regs
      Use a CPU with 16 breakpoints, and Debian 13's kernel.
  lab exec --with tools -- busybox uname -a
      Use the directory tools/ as the working directory.
  lab exec --kernel ~/linux/arch/arm64/boot/Image -- ./test
      Use your own kernel.
  lab exec --kernel ~/linux -- ./test
      Build a kernel from your tree, which is only read (docs/series.md).
  lab exec --kernel newest,series.mbox -- ./test
      Build one from Debian's newest source with these patches.
  lab exec --out results --with target/bundle -- ./dfr0 certify --out /out/v1.dfr0
      Bring files out of the host: results/ gets what CMD leaves in /out, and
      kernel.log, which is all that the host's kernel printed.
  lab exec --bare --host neoverse-n1 -- ./dfr0 run
      Run a program on this machine, with a host's CPU and without KVM.
  lab exec --bare --machine model/ -- ./dfr0 run
      The same with a CPU that the lab does not start (docs/bare.md).
  lab matrix --out run --with target/bundle -- ./dfr0 run
      Run a command in several hosts with several kernels (`lab matrix --help`).
  lab fetch --kernel trixie --kernel newest
      Fetch kernels for later use without a network.

The lab fetches what is missing: QEMU with apt, and kernels from the Debian
archive that this machine uses.

Exit status of `lab exec`: that of CMD; 128 + N if signal N killed CMD or lab;
125 if lab, the host or the arguments failed.

Environment:
  CROSS_COMPILE        what comes before gcc in the compiler's name
  DFR0_CACHE           the cache, which may be deleted at any time
                       (default: $XDG_CACHE_HOME/dfr0 or ~/.cache/dfr0)
  DFR0_DEBIAN_ARCHIVE  the URI of a Debian archive
                       (default: the one that this machine's apt uses)
  DFR0_LAB_HOSTS       your own hosts.toml, as with --hosts
  DFR0_LAB_INIT        the lab-init to boot
                       (default: the one that was built with lab)
  DFR0_NO_INSTALL      if set, lab does not install QEMU
  DFR0_QEMU            your own qemu-system-aarch64, 10.0 or later
CMD inherits variables whose names start with CARGO_PKG_, DFR0_, KSELFTEST_,
KSFT_, NEXTEST, NO_COLOR, PROPTEST_ or RUST_, and gets DFR0_LAB_HOST, the name
of the host, DFR0_LAB_KERNEL_SHA256, and DFR0_LAB_KERNEL_SOURCE if lab built the
kernel.";

/// KVM/arm64 hosts on demand: QEMU (TCG, EL2 emulated) boots Debian's own arm64 kernels with their real KVM
#[derive(Parser)]
#[command(name = "lab", version, max_term_width = 80, after_help = EXAMPLES)]
struct Cli {
    /// Use the hosts in FILE instead of the built-in ones
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
    /// Boot several hosts with several kernels and run CMD in each of them
    #[command(after_help = matrix::EXAMPLES)]
    Matrix(Matrix),
    /// Move dfr0's scenarios between each ordered pair of hosts, for `dfr0 pairs table`
    Pairs(Pairs),
    /// Run dfr0 on the nodes of a Slurm cluster, with their own KVM
    #[command(after_help = fleet::EXAMPLES)]
    Fleet(FleetCommand),
    /// Build kernels with one defect each, and say which cases see it
    #[command(after_help = defects::EXAMPLES)]
    Defects(Defects),
    /// Fetch QEMU and kernels into the cache, as `exec` does when it needs them
    Fetch(Fetch),
    /// Print the path of a tar archive with the source of a Debian kernel's selftests
    Source(Source),
    /// Print the path of a tar archive with the files of arm64 packages of Debian 13 and of their dependencies
    Userland(Userland),
}

#[derive(Args)]
struct Exec {
    /// The host to boot (`lab list` lists them)
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Boot this kernel instead of the host's own: bookworm, trixie, sid, trixie-backports, newest, or the path of an
    /// arm64 Image or of a kernel tree; `newest,a.patch` or `path/to/linux,v7.3..topic` is the source with patches
    #[arg(long, value_name = "SUITE|PATH[,PATCH…]")]
    kernel: Option<Choice>,
    /// Run KVM in this mode instead of the host's own
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,
    /// Copy DIR into the host, as CMD's working directory
    #[arg(long, value_name = "DIR")]
    with: Option<PathBuf>,
    /// Bring the files that CMD leaves in /out into OUT, while they are written, and the kernel's log
    #[arg(long, value_name = "OUT")]
    out: Option<PathBuf>,
    /// Do not boot a kernel: run CMD on this machine; DFR0_BARE tells CMD the directory of a machine with the host's CPU
    #[arg(long, conflicts_with_all = ["kernel", "mode", "with", "out", "verbose"])]
    bare: bool,
    /// Do not start a CPU either: DIR describes a machine that is already running
    #[arg(long, value_name = "DIR", requires = "bare", conflicts_with = "host")]
    machine: Option<PathBuf>,
    /// Stop the host after this number of seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    deadline: u64,
    /// Show the kernel's messages and the host's kernel and CPU
    #[arg(long)]
    verbose: bool,
    /// A static arm64 program of this machine (with a `/` in its name) or of DIR, and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

#[derive(Args)]
struct Fetch {
    /// A kernel to fetch or to build, as for `lab exec`; may be repeated [default: those of the hosts]
    #[arg(long, value_name = "KERNEL")]
    kernel: Vec<Choice>,
    /// Also look for newer kernels
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
            let exit = if error.use_stderr() { Exit::LabFailed } else { Exit::Good };
            // If stderr is closed, the message cannot be shown.
            let _ = error.print();
            return exit.into();
        }
    };
    let exit = run(&cli).unwrap_or_else(|error| match error.downcast_ref::<Interrupted>() {
        Some(Interrupted(signal)) => {
            eprintln!("lab: stopped by {signal}");
            Exit::Signal(*signal as u8)
        }
        None => {
            eprintln!("lab: {error:#}");
            Exit::LabFailed
        }
    });
    exit.into()
}

fn run(cli: &Cli) -> Result<Exit> {
    let file = cli.hosts.clone().or_else(|| env::var_os("DFR0_LAB_HOSTS").map(PathBuf::from));
    let hosts = Hosts::load(file.as_deref())?;
    match &cli.command {
        Subcommands::List => list(&hosts),
        Subcommands::Exec(exec) => exec.run(&hosts),
        Subcommands::Matrix(matrix) => matrix.run(&hosts),
        Subcommands::Pairs(pairs) => pairs.run(&hosts),
        Subcommands::Fleet(fleet) => fleet.run(),
        Subcommands::Defects(defects) => defects.run(&hosts),
        Subcommands::Fetch(fetch) => fetch.run(&hosts),
        Subcommands::Source(source) => source.run(),
        Subcommands::Userland(userland) => userland.run(),
    }
}

/// Prints a line. If the reader is gone, as that of `| head`, nobody wants it.
fn print(line: &str) -> Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to stdout"),
    }
}

fn list(hosts: &Hosts) -> Result<Exit> {
    let matrix = hosts.several(&[])?;
    for (host, is_default) in hosts.iter() {
        let default = if is_default { " (default)" } else { "" };
        let matrix = if matrix.contains(&host) { " (matrix)" } else { "" };
        print(&format!("{:<18} {:<8} {}{default}{matrix}", host.name, host.kernel.to_string(), host.about))?;
    }
    Ok(Exit::Good)
}

impl Exec {
    fn run(&self, hosts: &Hosts) -> Result<Exit> {
        let signals = Signals::hold()?;
        if let Some(directory) = &self.machine {
            return self.run_beside(directory, &signals);
        }
        let host = hosts.get(self.host.as_deref())?;
        if self.bare {
            return self.run_bare(host, &signals);
        }
        let host = &Host { mode: self.mode.or(host.mode), ..host.clone() };
        let errand = Errand::new(&self.command, self.with.as_deref())?;
        let cache = Cache::open()?;
        let image = self.kernel.as_ref().unwrap_or(&host.kernel).image(false, &cache, &signals)?;
        let (kernel, identity) = (image.path.as_path(), image.identity()?);
        let qemu = qemu_of(host, &cache, &signals)?;
        signals.check()?;
        let initramfs = errand.initramfs(host, &identity)?;
        let machine = VirtualMachine { qemu: &qemu, host, kernel, initramfs, verbose: self.verbose };
        let deadline = Duration::from_secs(self.deadline);
        let log = cache.scratch_file("logs")?;
        let handle = log.reopen().context("cannot open the host's log")?;
        let brought = self.out.as_deref().map(Brought::into).transpose()?;
        let streams = Streams::new(&signals, deadline).bringing(brought);
        let console = Console::new(streams, self.verbose).logged(handle);
        let choice = self.kernel.as_ref().unwrap_or(&host.kernel);
        let outcome = machine.run(deadline, &signals, console);
        if let Some(out) = &self.out {
            let mut log = log.reopen().context("cannot open the host's log")?;
            plan::copy(&mut log, &out.join("kernel.log"), 0o644)?;
        }
        if outcome.as_ref().is_err_and(|error| !error.is::<Interrupted>()) {
            let name = format!("logs/{}@{}.log", host.name, kernels::name(choice, &identity.sha256));
            let place = cache.path(name)?;
            log.persist(&place).with_context(|| format!("cannot write {}", place.display()))?;
            eprintln!("lab: all that the host's kernel printed is in {}", place.display());
        }
        let outcome = outcome.with_context(|| format!("host {}, kernel {choice}", host.name))?;
        if let Outcome::Refused(reason) = &outcome {
            eprintln!("lab: host {}, kernel {}: {reason}", host.name, kernel.display());
        }
        Ok(outcome.exit())
    }

    fn run_beside(&self, directory: &Path, signals: &Signals) -> Result<Exit> {
        let deadline = Duration::from_secs(self.deadline);
        let outcome = bare_machine::run_beside(directory, None, &self.command, deadline, signals)?;
        if let Outcome::Refused(reason) = &outcome {
            eprintln!("lab: the machine in {}: {reason}", directory.display());
        }
        Ok(outcome.exit())
    }

    fn run_bare(&self, host: &Host, signals: &Signals) -> Result<Exit> {
        let qemu = qemu_of(host, &Cache::open()?, signals)?;
        let machine = BareMachine { qemu: &qemu, host, command: &self.command };
        let outcome = machine
            .run(Duration::from_secs(self.deadline), signals)
            .with_context(|| format!("the bare CPU of {}", host.name))?;
        if let Outcome::Refused(reason) = &outcome {
            eprintln!("lab: the bare CPU of {}: {reason}", host.name);
        }
        Ok(outcome.exit())
    }
}

/// QEMU, or a copy of it whose CPU has the host's shape.
fn qemu_of(host: &Host, cache: &Cache, signals: &Signals) -> Result<PathBuf> {
    let qemu = qemu::find(cache, signals)?;
    match &host.shaped {
        Some(cpu) => shaped_cpu::qemu_with(cpu, &qemu, cache),
        None => Ok(qemu),
    }
}

impl Fetch {
    fn run(&self, hosts: &Hosts) -> Result<Exit> {
        let signals = Signals::hold()?;
        let cache = Cache::open()?;
        let mut kernels = self.kernel.clone();
        if kernels.is_empty() {
            kernels = hosts.iter().map(|(host, _)| host.kernel.clone()).collect();
            kernels.dedup();
        }
        let image = |kernel: &Choice| Ok(kernel.image(self.refresh, &cache, &signals)?.path);
        let images = || kernels.iter().map(image).collect::<Result<Vec<_>>>();
        let (qemu, images) = pool::both(|| qemu::find(&cache, &signals), images)?;
        for path in [qemu].iter().chain(&images) {
            print(&path.display().to_string())?;
        }
        Ok(Exit::Good)
    }
}

impl Source {
    fn run(&self) -> Result<Exit> {
        let archive = source::archive(&self.kernel, &Cache::open()?, &Signals::hold()?)?;
        print(&archive.display().to_string())?;
        Ok(Exit::Good)
    }
}

impl Userland {
    fn run(&self) -> Result<Exit> {
        let archive = userland::archive(&self.packages, &Cache::open()?, &Signals::hold()?)?;
        print(&archive.display().to_string())?;
        Ok(Exit::Good)
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
    fn a_machine_needs_bare_and_excludes_a_host() {
        assert_eq!(error(&["--bare", "--machine", "d", "--deadline", "5"]), None);
        assert_eq!(error(&["--machine", "d"]), Some(ErrorKind::MissingRequiredArgument));
        assert_eq!(error(&["--bare", "--machine", "d", "--host", "max"]), Some(ErrorKind::ArgumentConflict));
    }

    #[test]
    fn bare_excludes_the_options_of_a_booted_host() {
        assert_eq!(error(&["--bare", "--host", "max", "--deadline", "5"]), None);
        for booted in [
            &["--kernel", "trixie"][..],
            &["--mode", "nested"],
            &["--with", "/"],
            &["--out", "o"],
            &["--verbose"],
        ] {
            assert_eq!(error(booted), None);
            assert_eq!(
                error(&[&["--bare"], booted].concat()),
                Some(ErrorKind::ArgumentConflict),
                "{booted:?}"
            );
        }
    }
}
