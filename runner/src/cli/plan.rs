// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 plan`.

use super::{Outcome, output::print};
use crate::{
    fingerprint::{self, Fingerprint},
    plan::{self, Named},
    profile::Profiles,
};
use clap::Args;
use std::path::{Path, PathBuf};

const PLANS: &str = "\
A fingerprint is what `dfr0 host show --json` prints on a host, or the file that
Firecracker's `cpu-template-helper fingerprint dump` writes; `-` is standard
input. This machine needs no KVM. What a file does not say and a profile in
expected/hosts/ does is known from there.

Exit status:
   0  the guest moves as it is
   1  a fingerprint or the command line is wrong
  10  the guest moves if its VM is created with the shape that is printed
  11  the guest may move, depending on what the fingerprints do not say
  12  the guest cannot move";

/// Predict whether a guest may move from host A to host B, and print what prevents it.
#[derive(Args)]
#[command(after_help = PLANS)]
pub struct Plan {
    /// The fingerprint of the host that the guest leaves.
    a: PathBuf,
    /// The fingerprint of the host that it moves to.
    b: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Derive the exit status from the debug hardware alone.
    #[arg(long)]
    debug_only: bool,
}

impl Plan {
    pub fn run(self) -> Outcome {
        let plan = two(&self.a, &self.b, plan::plan)?;
        print(&plan, self.json)?;
        Ok(if self.debug_only { plan.debug.verdict } else { plan.verdict }.into())
    }
}

/// What `compare` makes of the fingerprints in two files, which are named by their paths.
pub fn two<T>(
    a: &Path,
    b: &Path,
    compare: impl FnOnce(Named<'_>, Named<'_>) -> T,
) -> Result<T, Box<dyn std::error::Error>> {
    let fingerprints = load(&[a, b])?;
    let names = [a, b].map(|path| path.display().to_string());
    let [a, b] = [0, 1].map(|n| Named { name: &names[n], fingerprint: &fingerprints[n] });
    Ok(compare(a, b))
}

/// The fingerprints in these files, with what profiles know of hosts whose files do not say it.
pub fn load(paths: &[impl AsRef<Path>]) -> Result<Vec<Fingerprint>, Box<dyn std::error::Error>> {
    let profiles = Profiles::load(None)?;
    let mut fingerprints =
        paths.iter().map(|path| fingerprint::load(path.as_ref())).collect::<Result<Vec<_>, _>>()?;
    fingerprints.iter_mut().for_each(|fingerprint| profiles.complete(fingerprint));
    Ok(fingerprints)
}
