// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A host's fingerprint: what decides whether a guest may move to it or away from it, as a file.
//!
//! The files come from other machines. Their size is limited before they are read, and only printable text
//! from them reaches a terminal.

mod dfr0_file;
mod firecracker;
mod number;

pub(crate) use number::{Hex, Id};

use crate::{
    bounded, capabilities::Capabilities, cpu_model, kernel_version::KernelVersion, mode::Mode,
    register_id::RegisterId, visible::one_line,
};
use dfr0_model::{
    id_register,
    shape::Shape,
    sysreg::{ID_AA64DFR0_EL1, ID_AA64PFR0_EL1, MIDR_EL1, SysReg},
};
use serde::{Deserialize, de::IgnoredAny};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

/// The upper limit of a file, in bytes; anything longer is rejected.
const LONGEST: u64 = 1 << 20;
/// The upper limit of a list of registers; a vCPU with all features has some 900.
const MOST_REGISTERS: usize = 4096;
/// The upper limit of a name, in bytes.
const LONGEST_NAME: usize = 256;
/// The upper limit of text from a file that is shown, in characters.
const LONGEST_MESSAGE: usize = 300;

const MAKE_ONE: &str = "`dfr0 host show --json` prints a fingerprint";

/// What a host's KVM gives to a VM with no optional feature, and what it lets userspace change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The tool that made it.
    pub source: Source,
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// The machine, if the file says.
    pub platform: Option<String>,
    /// How KVM runs, if the file says.
    pub mode: Option<Mode>,
    /// KVM's capabilities, if the file says.
    pub capabilities: Option<Capabilities>,
    /// The feature ID registers of a new VM.
    pub id_registers: BTreeMap<SysReg, u64>,
    /// Which bits of them userspace may write.
    pub masks: Masks,
    /// The registers that KVM_GET_REG_LIST lists, or those of them that the file has.
    pub registers: BTreeSet<RegisterId>,
}

/// The tool that made a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `dfr0 host show --json` of this version.
    Dfr0(String),
    /// Firecracker's `cpu-template-helper fingerprint dump` of this version.
    Firecracker(String),
}

/// KVM_ARM_GET_REG_WRITABLE_MASKS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Masks {
    /// The masks that are not zero.
    Known(BTreeMap<SysReg, u64>),
    /// The kernel does not have this ioctl, and accepts only the values that it gave.
    Absent,
    /// The file does not say, but a profile in `expected/hosts/` says it of ID_AA64DFR0_EL1 on this CPU and kernel.
    OfProfile {
        /// The mask.
        id_aa64dfr0: u64,
        /// The profile's name.
        profile: String,
    },
    /// The file does not say.
    Unsaid,
}

/// What KVM accepts for one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// These bits.
    Mask(u64),
    /// Only the value that KVM gave.
    Own,
    /// The file does not say.
    Unsaid,
}

/// A fingerprint that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; a fingerprint is a file, and {MAKE_ONE}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file was read, but it is not a fingerprint.
    #[error("{}: {problem}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: Problem,
    },
}

/// What is wrong with a fingerprint.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It is too long.
    #[error("longer than {LONGEST} bytes, the upper limit of a fingerprint; {MAKE_ONE}")]
    Long,
    /// It is not JSON, or its keys or types are not those of a fingerprint. The message has line and column.
    #[error("{0}; {MAKE_ONE}")]
    Json(String),
    /// It is JSON, but has neither format.
    #[error(
        "neither dfr0's fingerprint, which has a \"format\", nor Firecracker's, which has a \"guest_cpu_config\"; {MAKE_ONE}"
    )]
    Stranger,
    /// It has another format or version.
    #[error(
        "format \"{format}\", version {version}; this dfr0 reads \"{}\", version {}: {MAKE_ONE}",
        dfr0_file::FORMAT,
        dfr0_file::VERSION
    )]
    Version {
        /// The format that it names.
        format: String,
        /// The version, if it names one.
        version: String,
    },
    /// A value in it is invalid.
    #[error("{0}")]
    Value(String),
}

/// The keys that tell the formats apart.
#[derive(Deserialize)]
struct Kind {
    format: Option<String>,
    version: Option<serde_json::Number>,
    guest_cpu_config: Option<IgnoredAny>,
}

/// Reads the fingerprint in a file of dfr0's format or of Firecracker's.
pub fn load(path: &Path) -> Result<Fingerprint, Error> {
    let content = |problem| Error::Content { path: path.to_owned(), problem };
    let bytes = bounded::load(path, LONGEST).map_err(|source| match source.kind() {
        bounded::TOO_LONG => content(Problem::Long),
        _ => Error::Read { path: path.to_owned(), source },
    })?;
    parse(&bytes).map_err(content)
}

/// Reads the fingerprint in these bytes.
pub fn parse(bytes: &[u8]) -> Result<Fingerprint, Problem> {
    if bytes.len() as u64 > LONGEST {
        return Err(Problem::Long);
    }
    let kind: Kind = serde_json::from_slice(bytes).map_err(json)?;
    match kind {
        Kind { format: Some(format), version, .. } => {
            let version = version.map_or("none".into(), |version| version.to_string());
            if format != dfr0_file::FORMAT || version != dfr0_file::VERSION.to_string() {
                return Err(Problem::Version { format: printable(&format), version });
            }
            dfr0_file::read(bytes)
        }
        Kind { guest_cpu_config: Some(_), .. } => firecracker::read(bytes),
        Kind { .. } => Err(Problem::Stranger),
    }
}

fn json(error: serde_json::Error) -> Problem {
    Problem::Json(printable(&error.to_string()))
}

/// Text from a file as it may be shown: shortened, and without control characters.
pub(crate) fn printable(text: &str) -> String {
    let shown: String = text.chars().take(LONGEST_MESSAGE).collect();
    let rest = if shown.len() < text.len() { "…" } else { "" };
    one_line(&shown) + rest
}

/// A valid name from a file; an error calls it `what`.
fn name(what: &str, text: String) -> Result<String, Problem> {
    if text.is_empty() || text.len() > LONGEST_NAME || text.chars().any(char::is_control) {
        return Err(Problem::Value(format!(
            "{what} must be printable text of 1 to {LONGEST_NAME} bytes: it is \"{}\"",
            printable(&text)
        )));
    }
    Ok(text)
}

/// Adds `id` to the ids that were seen; it is an error if it was seen before.
fn once<T: Ord>(seen: &mut BTreeSet<T>, id: T, what: &str) -> Result<(), Problem> {
    if seen.insert(id) { Ok(()) } else { Err(Problem::Value(format!("{what} appears twice"))) }
}

fn few_enough(what: &str, count: usize) -> Result<(), Problem> {
    match count {
        0..=MOST_REGISTERS => Ok(()),
        _ => Err(Problem::Value(format!(
            "{what} has {count} entries, but no vCPU has more than {MOST_REGISTERS} registers"
        ))),
    }
}

impl Fingerprint {
    /// The fingerprint in dfr0's file format.
    pub fn to_json(&self) -> String {
        dfr0_file::write(self)
    }

    /// ID_AA64DFR0_EL1 as KVM gives it to a new VM. Every fingerprint has it: a file without it is rejected.
    pub fn id_aa64dfr0(&self) -> u64 {
        self.id_registers.get(&ID_AA64DFR0_EL1).copied().unwrap_or_default()
    }

    /// The shape that KVM gives to a new VM.
    pub fn shape(&self) -> Shape {
        Shape::from_id_aa64dfr0(self.id_aa64dfr0())
    }

    /// MIDR_EL1, if the file has it.
    pub fn midr(&self) -> Option<u64> {
        self.id_registers.get(&MIDR_EL1).copied()
    }

    /// The CPU, in words.
    pub fn cpu(&self) -> String {
        self.midr().map_or("a CPU without MIDR_EL1".into(), cpu_model::cpu)
    }

    /// What KVM accepts for a register.
    pub fn accepts(&self, reg: SysReg) -> Accepts {
        match &self.masks {
            Masks::Known(masks) => Accepts::Mask(masks.get(&reg).copied().unwrap_or_default()),
            Masks::OfProfile { id_aa64dfr0, .. } if reg == ID_AA64DFR0_EL1 => Accepts::Mask(*id_aa64dfr0),
            Masks::Absent => Accepts::Own,
            Masks::OfProfile { .. } | Masks::Unsaid => Accepts::Unsaid,
        }
    }

    /// Whether the file has all of KVM_GET_REG_LIST.
    pub fn lists_all(&self) -> bool {
        matches!(self.source, Source::Dfr0(_))
    }

    /// Whether EL0 has AArch32 state; `None` if the file does not say.
    pub fn has_aarch32(&self) -> Option<bool> {
        self.id_registers.get(&ID_AA64PFR0_EL1).copied().map(id_register::has_aarch32)
    }

    /// The kernel's version, if its release begins with one.
    pub fn kernel_version(&self) -> Option<KernelVersion> {
        KernelVersion::of_release(&self.kernel)
    }

    /// What is assumed about this host because its file does not say it.
    pub fn assumed(&self) -> Vec<String> {
        let Source::Firecracker(_) = self.source else {
            return Vec::new();
        };
        let masks = match &self.masks {
            Masks::Absent => format!(
                "Linux {} has no KVM_ARM_GET_REG_WRITABLE_MASKS: its KVM takes only the ID register values that it gave",
                self.kernel
            ),
            Masks::OfProfile { profile, .. } => format!(
                "which fields of ID_AA64DFR0_EL1 Linux {} lets userspace write is known from the profile {profile}; \
                 of other ID registers it is not known: the file has no masks",
                self.kernel
            ),
            _ => format!(
                "not known which ID register fields Linux {} lets userspace write: the file has no masks",
                self.kernel
            ),
        };
        vec![
            masks,
            "the file has only those registers of KVM_GET_REG_LIST that cpu-template-helper keeps".into(),
        ]
    }
}

#[cfg(test)]
mod tests;
