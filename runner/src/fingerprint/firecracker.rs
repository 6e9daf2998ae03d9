// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The file of Firecracker's `cpu-template-helper fingerprint dump`, as far as it says what dfr0 compares.
//!
//! Its `guest_cpu_config` is a CPU template whose `reg_modifiers` are a vCPU's registers: an id, and all of its bits in
//! binary. It knows no writable masks, and leaves some registers out.

use super::{Fingerprint, Masks, Problem, Source, few_enough, json, name, number, number::Id, once};
use crate::kernel_version::KernelVersion;
use dfr0_model::sysreg::ID_AA64DFR0_EL1;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Kernels before this one are known to take no ID register value but their own (6.1 was run).
const MASKS_NOT_KNOWN_SINCE: KernelVersion = KernelVersion::new(6, 2);

#[derive(Deserialize)]
struct File {
    firecracker_version: String,
    kernel_version: String,
    guest_cpu_config: Config,
}

#[derive(Deserialize)]
struct Config {
    reg_modifiers: Vec<Modifier>,
}

#[derive(Deserialize)]
struct Modifier {
    addr: Id,
    bitmap: String,
}

pub fn read(bytes: &[u8]) -> Result<Fingerprint, Problem> {
    let file: File = serde_json::from_slice(bytes).map_err(json)?;
    let modifiers = file.guest_cpu_config.reg_modifiers;
    few_enough("\"reg_modifiers\"", modifiers.len())?;
    let mut registers = BTreeSet::new();
    let mut id_registers = BTreeMap::new();
    for Modifier { addr: Id(id), bitmap } in modifiers {
        let (value, bits) = number::binary(&bitmap).ok_or_else(|| {
            let open = "a bit that is x is left open, which a CPU template may do and a fingerprint does not";
            Problem::Value(format!(
                "the \"bitmap\" of {id} ({}) is not 0b and binary digits ({open})",
                id.name()
            ))
        })?;
        if bits > id.width() {
            return Err(Problem::Value(format!(
                "{id} ({}) is of {} bits, and its \"bitmap\" has bit {} set",
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
            "\"reg_modifiers\" holds no ID_AA64DFR0_EL1 (0x603000000013c028), which is what dfr0 compares"
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
        capabilities: None,
        id_registers,
        masks,
        registers,
    })
}
