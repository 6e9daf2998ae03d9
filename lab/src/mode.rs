// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! How KVM runs on a host: the kernel parameter `kvm-arm.mode`, and what the kernel says that it does.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How KVM runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
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

impl Mode {
    /// What `kvm-arm.mode` selects on the command line; `None` if KVM chooses.
    pub fn parameter(self) -> Option<&'static str> {
        match self {
            Self::Vhe => None,
            Self::Nvhe => Some("nvhe"),
            Self::Nested => Some("nested"),
            Self::Protected => Some("protected"),
        }
    }

    /// The mode that a message of KVM's names when it is initialised, as `kvm [1]: VHE+NV2 mode initialized successfully`;
    /// `None` if it is another message.
    pub fn of_message(message: &str) -> Option<Self> {
        let message = message.strip_prefix("kvm [")?;
        let (_, message) = message.split_once("]: ")?;
        let name = message.split_once("mode initialized")?.0;
        Some(if name.contains("Protected") {
            Self::Protected
        } else if name.contains("NV2") {
            Self::Nested
        } else if name.contains("nVHE") || !name.contains("VHE") {
            Self::Nvhe
        } else {
            Self::Vhe
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vhe => "VHE",
            Self::Nvhe => "nVHE",
            Self::Nested => "nested",
            Self::Protected => "protected",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_says_how_it_runs() {
        for (message, mode) in [
            ("kvm [1]: VHE mode initialized successfully", Some(Mode::Vhe)),
            ("kvm [1]: VHE+NV2 mode initialized successfully", Some(Mode::Nested)),
            ("kvm [1]: Protected hVHE mode initialized successfully", Some(Mode::Protected)),
            ("kvm [1]: Protected nVHE mode initialized successfully", Some(Mode::Protected)),
            ("kvm [1]: Hyp nVHE mode initialized successfully", Some(Mode::Nvhe)),
            ("kvm [1]: Hyp mode initialized successfully", Some(Mode::Nvhe)),
            ("kvm [1]: nv: 568 coarse grained trap handlers", None),
            ("VHE mode initialized", None),
            ("", None),
        ] {
            assert_eq!(Mode::of_message(message), mode, "{message}");
        }
    }
}
