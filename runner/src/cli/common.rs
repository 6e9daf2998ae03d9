// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 common`.

use super::{Outcome, output::print};
use crate::{
    fingerprint,
    plan::{self, Named},
};
use clap::Args;
use std::path::PathBuf;

const COMMON: &str = "\
A fingerprint is what `dfr0 host show --json` prints on a host, or the file that
Firecracker's `cpu-template-helper fingerprint dump` writes. This machine needs
no KVM.

Exit status:
   0  all hosts give the same shape
   1  a fingerprint or the command line is wrong
  10  all hosts give the printed shape to a VM that is created with it
  11  they may give it, depending on what the fingerprints do not say
  12  some host prevents it";

/// Find the largest shape of debug hardware that hosts share, or the hosts that prevent it.
#[derive(Args)]
#[command(after_help = COMMON)]
pub struct Common {
    /// The hosts' fingerprints.
    #[arg(required = true, num_args = 2..)]
    hosts: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Common {
    pub fn run(self) -> Outcome {
        let names: Vec<String> = self.hosts.iter().map(|path| path.display().to_string()).collect();
        let fingerprints =
            self.hosts.iter().map(|path| fingerprint::load(path)).collect::<Result<Vec<_>, _>>()?;
        let hosts = names.iter().zip(&fingerprints).map(|(name, fingerprint)| Named { name, fingerprint });
        let common = plan::common(&hosts.collect::<Vec<_>>());
        print(&common, self.json)?;
        Ok(common.verdict.into())
    }
}
