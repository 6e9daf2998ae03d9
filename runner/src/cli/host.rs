// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 host`.

use super::{
    FINGERPRINTS, Outcome,
    output::{self, Out},
    plan::two,
};
use crate::{
    case::Session,
    cpu_types::Source,
    exit::Exit,
    fingerprint,
    guest::DEADLINE,
    machine::{self, Machine},
    plan,
    profile::{self, Profiles},
    slurm_features,
};
use clap::Subcommand;
use std::{
    fmt::Display,
    io::Write,
    path::{Path, PathBuf},
};

const CHECKED: &str = "\
A fingerprint is what `dfr0 host show --json` prints on a host, or the file that
Firecracker's `cpu-template-helper fingerprint dump` writes.

Exit status:
  0  the host is as a profile says
  1  the host differs, or the fingerprint or the command line is wrong
  4  there is no profile of this CPU, platform and kernel";

#[derive(Subcommand)]
pub enum Command {
    /// Print kernel, CPU, shape, writable fields and capabilities.
    Show {
        /// Print the host's fingerprint instead, which `compare`, `plan` and `common` read.
        #[arg(long)]
        json: bool,
        /// Print the host as features for the NodeName line of slurm.conf instead, from what it is:
        /// kvm,midr_414fd0c1,bp6,wp4,ctx2,dv8,doublelock means KVM, the CPU's MIDR_EL1, 6 breakpoints, 4 watchpoints, 2
        /// context-aware, DebugVer 8 and OS Double Lock; mixed_cpus means CPUs of several types.
        #[arg(long, conflicts_with = "json")]
        slurm_features: bool,
    },
    /// Compare this host, or another by its fingerprint, with what is known of its CPU and kernel.
    ///
    /// A profile in expected/hosts/ says which debug hardware KVM shows to a new VM, which fields userspace
    /// may write, and how many breakpoints and watchpoints userspace has for its own use. The profile is
    /// found by CPU, platform and kernel. Where several profiles fit, as for the shapes of an emulated CPU,
    /// the host must be as one of them says. Each difference is printed.
    #[command(after_help = CHECKED)]
    Check {
        /// Compare with this profile, whatever the host's CPU is.
        #[arg(long, value_name = "NAME")]
        profile: Option<String>,
        /// Read profiles from DIR/hosts instead of expected/hosts next to this program.
        #[arg(long, value_name = "DIR")]
        expected: Option<PathBuf>,
        /// Check the host of this fingerprint instead of this host.
        fingerprint: Option<PathBuf>,
    },
    /// Print what differs between two hosts.
    #[command(after_help = FINGERPRINTS)]
    Compare {
        /// The fingerprint of one host.
        a: PathBuf,
        /// The fingerprint of the other host.
        b: PathBuf,
    },
}

pub fn run(command: Command) -> Outcome {
    match command {
        Command::Show { slurm_features: true, .. } => {
            if machine::is_bare() {
                return Err("a bare CPU is not a node: it has no KVM".into());
            }
            let session = Session::open(DEADLINE)?;
            writeln!(
                Out,
                "{}",
                slurm_features::features(session.host(), &Source::of_this_machine().types())
            )?;
            Ok(Exit::Good)
        }
        Command::Show { json: false, .. } => show(),
        Command::Show { json: true, .. } => {
            let fingerprint = Machine::open(DEADLINE)?.fingerprint()?;
            Out.write_all(fingerprint.to_json().as_bytes())?;
            Ok(Exit::Good)
        }
        Command::Check { profile, expected, fingerprint } => {
            check(profile.as_deref(), expected.as_deref(), fingerprint.as_deref())
        }
        Command::Compare { a, b } => {
            let text = two(&a, &b, plan::compare)?;
            output::show(&text)?;
            Ok(Exit::Good)
        }
    }
}

fn show() -> Outcome {
    let session = Session::open(DEADLINE)?;
    let host = session.host();
    let mut out = Out;
    write!(out, "{host}")?;
    let mut fact = |name: &str, value: &dyn Display| writeln!(out, "{name}: {value}");
    fact("ID_AA64DFR0_EL1", &format_args!("{:#x}", host.id_aa64dfr0))?;
    host.capabilities.all().iter().try_for_each(|(name, value)| fact(name, value))?;
    Ok(Exit::Good)
}

fn check(profile: Option<&str>, expected: Option<&Path>, file: Option<&Path>) -> Outcome {
    let profiles = Profiles::load(expected)?;
    let named = profile.map(|name| profiles.get(name)).transpose()?;
    let fingerprint = match file {
        Some(file) => fingerprint::load(file)?,
        None => Machine::open(DEADLINE)?.fingerprint()?,
    };
    let check = profiles.check(&fingerprint, named);
    output::show(&check)?;
    Ok(match check.outcome {
        profile::Outcome::Same { .. } => Exit::Good,
        profile::Outcome::Differs { .. } => Exit::Failed,
        profile::Outcome::None(_) => Exit::Skipped,
    })
}
