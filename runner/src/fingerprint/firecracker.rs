// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The file of Firecracker's `cpu-template-helper fingerprint dump`: those parts that dfr0 compares.
//!
//! Its `guest_cpu_config` is a CPU template whose `reg_modifiers` are a vCPU's registers: an id, and all bits
//! of the value in binary. The file has no writable masks and leaves out some registers.

use super::{Fingerprint, Masks, Problem, Source, few_enough, json, name, number, number::Id, once};
use crate::kernel_version::KernelVersion;
use dfr0_model::sysreg::ID_AA64DFR0_EL1;
use serde::{Deserialize, de::IgnoredAny};
use std::collections::{BTreeMap, BTreeSet};

/// Kernels before this version are known to accept only their own ID register values (tested on 6.1).
const MASKS_NOT_KNOWN_SINCE: KernelVersion = KernelVersion::new(6, 2);

#[derive(Deserialize)]
struct File {
    firecracker_version: String,
    kernel_version: String,
    guest_cpu_config: Config,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    reg_modifiers: Vec<Modifier>,
    cpuid_modifiers: Option<IgnoredAny>,
    msr_modifiers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Modifier {
    addr: Id,
    bitmap: String,
}

pub fn read(bytes: &[u8]) -> Result<Fingerprint, Problem> {
    let file: File = serde_json::from_slice(bytes).map_err(json)?;
    let Config { reg_modifiers: modifiers, cpuid_modifiers, msr_modifiers } = file.guest_cpu_config;
    if cpuid_modifiers.is_some() || msr_modifiers.is_some() {
        return Err(Problem::Value(
            "the fingerprint of an x86 host: it has CPUID or MSRs. dfr0 compares arm64 hosts".into(),
        ));
    }
    few_enough("\"reg_modifiers\"", modifiers.len())?;
    let mut registers = BTreeSet::new();
    let mut id_registers = BTreeMap::new();
    for Modifier { addr: Id(id), bitmap } in modifiers {
        let (value, bits) = number::binary(&bitmap).ok_or_else(|| {
            let open = "a bit x is left open: a CPU template may have it, but not a fingerprint";
            Problem::Value(format!(
                "the \"bitmap\" of {id} ({}) is not 0b and binary digits ({open})",
                id.name()
            ))
        })?;
        if bits > id.width() {
            return Err(Problem::Value(format!(
                "{id} ({}) has {} bits, but its \"bitmap\" has bit {} set",
                id.name(),
                id.width(),
                bits - 1
            )));
        }
        once(&mut registers, id, &format!("register {id} ({})", id.name()))?;
        if let Some(reg) = id.system_register().filter(|reg| reg.is_id()) {
            id_registers.insert(reg, value);
        }
    }
    if !id_registers.contains_key(&ID_AA64DFR0_EL1) {
        return Err(Problem::Value(
            "\"reg_modifiers\" does not have ID_AA64DFR0_EL1 (0x603000000013c028), which dfr0 compares"
                .into(),
        ));
    }
    let masks = match KernelVersion::of_release(&file.kernel_version) {
        Some(version) if version < MASKS_NOT_KNOWN_SINCE => Masks::Absent,
        _ => Masks::Unsaid,
    };
    Ok(Fingerprint {
        source: Source::Firecracker(name("\"firecracker_version\"", file.firecracker_version)?),
        kernel: name("\"kernel_version\"", file.kernel_version)?,
        platform: None,
        mode: None,
        capabilities: None,
        id_registers,
        masks,
        registers,
    })
}
