// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! How KVM runs on a host.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How KVM runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// At EL2 with the host's kernel.
    Vhe,
    /// In part at EL2, with the host's kernel at EL1.
    Nvhe,
    /// As VHE, and VMs may have EL2.
    Nested,
    /// pKVM: the part at EL2 does not trust the host's kernel.
    Protected,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vhe => "vhe",
            Self::Nvhe => "nvhe",
            Self::Nested => "nested",
            Self::Protected => "protected",
        })
    }
}
