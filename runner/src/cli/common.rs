// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 common`.

use super::{
    Outcome,
    output::{print_json, show},
    plan::load,
};
use crate::plan::{self, Named, Template};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

const COMMON: &str = "\
A fingerprint is what `dfr0 host show --json` prints on a host, or the file that
Firecracker's `cpu-template-helper fingerprint dump` writes; `-` is standard
input. This machine needs no KVM.

Exit status:
   0  all hosts give the same ID registers
   1  a fingerprint or the command line is wrong
  10  all hosts give the printed values to a VM that is created with them
  11  they may give them, depending on what the fingerprints do not say
  12  some host prevents it";

/// Find what hosts share, or the hosts that prevent it.
///
/// This is the largest shape of debug hardware, the least that the other ID registers promise, and the
/// writes that give a VM these values.
#[derive(Args)]
#[command(after_help = COMMON)]
pub struct Common {
    /// The hosts' fingerprints.
    #[arg(required = true, num_args = 2..)]
    hosts: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print what the hosts share in another form.
    #[arg(long, value_name = "FORM", conflicts_with = "json")]
    format: Option<Format>,
    /// Derive the exit status from the debug hardware alone.
    #[arg(long)]
    debug_only: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A custom CPU template for Firecracker.
    Firecracker,
}

impl Common {
    pub fn run(self) -> Outcome {
        let names: Vec<String> = self.hosts.iter().map(|path| path.display().to_string()).collect();
        let fingerprints = load(&self.hosts)?;
        let hosts = names.iter().zip(&fingerprints).map(|(name, fingerprint)| Named { name, fingerprint });
        let common = plan::common(&hosts.collect::<Vec<_>>());
        match self.format {
            Some(Format::Firecracker) => print_json(&Template::of(&common)?)?,
            None if self.json => print_json(&common)?,
            None => show(&common)?,
        }
        Ok(if self.debug_only { common.debug } else { common.verdict }.into())
    }
}
