// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Profiles: what KVM shows of known CPUs' debug hardware, by kernel, and whether a host is as its profile
//! says.
//!
//! A profile is chosen by a host's CPU, platform and kernel. If a CPU has several shapes with the same
//! MIDR_EL1, as an emulated CPU may have, several profiles fit, and the host must be as one of them says. To
//! check one of them, it must be named.

mod check;
mod file;

pub use check::{Check, Difference, Outcome};

use crate::{
    cpu_model::CpuModel,
    expected::{self, Error},
    kernel_version::KernelVersion,
};
use dfr0_model::sysreg::{ID_AA64DFR0_EL1, ID_AA64DFR1_EL1, ID_DFR0_EL1, SysReg};
use std::path::Path;

/// The files of `expected/hosts/`, as they were when this program was built.
const BUILT_IN: [(&str, &str); 2] = [
    ("hosts/graviton.toml", include_str!("../../expected/hosts/graviton.toml")),
    ("hosts/lab.toml", include_str!("../../expected/hosts/lab.toml")),
];

/// What is known about one kind of host.
#[derive(Clone, Debug)]
pub struct Profile {
    /// A short name.
    pub name: String,
    /// A description.
    pub about: String,
    /// Its CPU.
    pub cpu: CpuModel,
    /// Its platform, if another platform has other facts.
    pub platform: Option<String>,
    /// Where the facts come from.
    pub source: String,
    /// The facts, by kernel.
    pub kernels: Vec<Kernel>,
}

/// The facts of a range of kernels.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The first version that has these facts.
    pub since: KernelVersion,
    /// The first later version that does not have them.
    pub until: Option<KernelVersion>,
    /// The facts.
    pub facts: Facts,
}

/// What KVM shows to a new VM, and what userspace may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// ID_AA64DFR0_EL1: the shape.
    pub id_aa64dfr0: u64,
    /// The bits of it that userspace may write; `None` if the kernel does not say.
    pub writable: Option<u64>,
    /// ID_AA64DFR1_EL1: the counts of FEAT_Debugv8p9, which ID_AA64DFR0_EL1 has no room for.
    pub id_aa64dfr1: u64,
    /// ID_DFR0_EL1: the debug architecture that AArch32 code is shown.
    pub id_dfr0: u64,
    /// KVM_CAP_GUEST_DEBUG_HW_BPS: the number of breakpoints that userspace has for itself.
    pub guest_debug_breakpoints: i32,
    /// KVM_CAP_GUEST_DEBUG_HW_WPS: the number of watchpoints that userspace has for itself.
    pub guest_debug_watchpoints: i32,
}

/// The ID registers in a profile.
pub(crate) const REGISTERS: [SysReg; 3] = [ID_AA64DFR0_EL1, ID_AA64DFR1_EL1, ID_DFR0_EL1];

/// All profiles.
#[derive(Clone, Debug)]
pub struct Profiles(Vec<Profile>);

impl Profiles {
    /// The profiles in `hosts/` of `directory`; without a directory, those next to this executable or else
    /// the built-in ones.
    pub fn load(directory: Option<&Path>) -> Result<Self, Error> {
        let mut all: Vec<file::Placed> = Vec::new();
        for source in expected::files(directory, "hosts", &BUILT_IN)? {
            for profile in file::read(source)? {
                all.iter().try_for_each(|earlier| profile.check_beside(earlier))?;
                all.push(profile);
            }
        }
        Ok(Self(all.into_iter().map(|placed| placed.profile).collect()))
    }

    /// All profiles, in order.
    pub fn all(&self) -> impl Iterator<Item = &Profile> {
        self.0.iter()
    }

    /// The profile with this name.
    pub fn get(&self, name: &str) -> Result<&Profile, String> {
        self.0.iter().find(|profile| profile.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.0.iter().map(|profile| profile.name.as_str()).collect();
            format!("there is no profile \"{name}\"; there are {}", names.join(", "))
        })
    }
}

impl Kernel {
    /// Whether this version is in the range.
    fn includes(&self, version: KernelVersion) -> bool {
        version >= self.since && self.until.is_none_or(|until| version < until)
    }

    /// The range, in words.
    fn range(&self) -> String {
        match self.until {
            Some(until) => format!("Linux {} and later, before {until}", self.since),
            None => format!("Linux {} and later", self.since),
        }
    }
}

#[cfg(test)]
mod tests;
