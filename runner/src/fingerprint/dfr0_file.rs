// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! dfr0's own file format for a fingerprint.
//!
//! ```json
//! {
//!   "format": "dfr0-fingerprint", "version": 2, "dfr0": "0.1.0",
//!   "kernel": "7.3.4", "platform": "linux,dummy-virt", "mode": "vhe",
//!   "cpu": "Neoverse V1", "midr": "0x00000000411fd402",
//!   "capabilities": { "KVM_CAP_GUEST_DEBUG_HW_BPS": 6, … },
//!   "id_registers": [ { "name": "ID_AA64DFR0_EL1", "id": "0x603000000013c028", "value": "0x000000f010305009" }, … ],
//!   "writable_masks": [ { "name": "ID_AA64DFR0_EL1", "id": "0x603000000013c028", "mask": "0x000000f000f00f0f" }, … ],
//!   "registers": [ "0x6030000000100000", … ],
//!   "sha256": "…"
//! }
//! ```
//!
//! Everything is sorted by id, so two files of one host are identical. `writable_masks` is `null` if the
//! kernel has no masks, and leaves out masks that are zero. `mode` is missing if the host does not say it. Names and `cpu` are for people and decide nothing.
//! `sha256` covers everything else, also these; remove it to edit a file by hand.

use super::{
    Fingerprint, MAKE_ONE, Masks, Problem, Source, few_enough, json, name,
    number::{Hex, Id},
    once,
};
use crate::{capabilities::Capabilities, cpu_model, mode::Mode, register_id::RegisterId};
use dfr0_model::sysreg::{ID_AA64DFR0_EL1, SysReg};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

pub const FORMAT: &str = "dfr0-fingerprint";
pub const VERSION: u32 = 2;

#[derive(Serialize)]
struct Written<'a> {
    format: &'a str,
    version: u32,
    dfr0: &'a str,
    kernel: &'a str,
    platform: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    cpu: &'a str,
    midr: Hex,
    capabilities: Capabilities,
    id_registers: Vec<WrittenValue>,
    writable_masks: Option<Vec<WrittenMask>>,
    registers: Vec<Id>,
    sha256: String,
}

#[derive(Serialize)]
struct WrittenValue {
    name: String,
    id: Id,
    value: Hex,
}

#[derive(Serialize)]
struct WrittenMask {
    name: String,
    id: Id,
    mask: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "format")]
    _format: IgnoredAny,
    #[serde(rename = "version")]
    _version: IgnoredAny,
    dfr0: String,
    kernel: String,
    platform: String,
    mode: Option<Mode>,
    cpu: String,
    midr: Hex,
    capabilities: Capabilities,
    id_registers: Vec<Value>,
    // Without this, a file that lost the key would be read as the file of a kernel without masks.
    #[serde(deserialize_with = "Option::deserialize")]
    writable_masks: Option<Vec<Mask>>,
    registers: Vec<Id>,
    sha256: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Value {
    name: String,
    id: Id,
    value: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mask {
    name: String,
    id: Id,
    mask: Hex,
}

pub fn write(fingerprint: &Fingerprint) -> String {
    let midr = fingerprint.midr().unwrap_or_default();
    let named = |reg: SysReg| (RegisterId::system(reg).name(), Id(RegisterId::system(reg)));
    let cpu = cpu_model::cpu_name(midr);
    let masks = match &fingerprint.masks {
        Masks::Known(masks) => masks.keys().copied().collect(),
        Masks::OfProfile { .. } | Masks::Absent | Masks::Unsaid => Vec::new(),
    };
    let registers = fingerprint.id_registers.keys().copied().chain(masks);
    let names: Vec<String> = registers.map(|reg| named(reg).0).collect();
    let (Source::Dfr0(version) | Source::Firecracker(version)) = &fingerprint.source;
    let written = Written {
        format: FORMAT,
        version: VERSION,
        dfr0: version,
        kernel: &fingerprint.kernel,
        platform: fingerprint.platform.as_deref().unwrap_or("unknown"),
        mode: fingerprint.mode,
        cpu,
        midr: Hex(midr),
        capabilities: fingerprint.capabilities.clone().unwrap_or_default(),
        id_registers: by_id(&fingerprint.id_registers)
            .map(|(reg, value)| {
                let (name, id) = named(reg);
                WrittenValue { name, id, value: Hex(value) }
            })
            .collect(),
        writable_masks: match &fingerprint.masks {
            Masks::Known(masks) => Some(
                by_id(masks)
                    .map(|(reg, mask)| {
                        let (name, id) = named(reg);
                        WrittenMask { name, id, mask: Hex(mask) }
                    })
                    .collect(),
            ),
            Masks::OfProfile { .. } | Masks::Absent | Masks::Unsaid => None,
        },
        registers: fingerprint.registers.iter().copied().map(Id).collect(),
        sha256: digest(fingerprint, cpu, &names),
    };
    // Strings, numbers and lists of them: writing these cannot fail.
    serde_json::to_string_pretty(&written).unwrap_or_default() + "\n"
}

fn by_id(map: &BTreeMap<SysReg, u64>) -> impl Iterator<Item = (SysReg, u64)> + '_ {
    map.iter().map(|(reg, value)| (*reg, *value))
}

/// The SHA-256 of a file's content, which does not depend on the layout: `names` are those of the ID registers and of the
/// masks, in this order.
fn digest(fingerprint: &Fingerprint, cpu: &str, names: &[String]) -> String {
    let Fingerprint { source, kernel, platform, mode, capabilities, id_registers, masks, registers } =
        fingerprint;
    let content =
        format!("{source:?} {kernel:?} {platform:?} {:?}", capabilities.as_ref().map(Capabilities::all));
    let mode = mode.map_or_else(String::new, |mode| format!(" {mode}"));
    let numbers = |map: &BTreeMap<SysReg, u64>| {
        by_id(map).map(|(reg, value)| format!(" {:x}={value:x}", reg.encoding())).collect::<String>()
    };
    let masks = match masks {
        Masks::Known(masks) => numbers(masks),
        Masks::Absent => "absent".into(),
        Masks::OfProfile { .. } | Masks::Unsaid => "unsaid".into(),
    };
    let registers: String = registers.iter().map(|id| format!(" {id}")).collect();
    let hash = Sha256::digest(format!(
        "{content}{mode}\n{}\n{masks}\n{registers}\n{cpu:?} {names:?}",
        numbers(id_registers)
    ));
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn read(bytes: &[u8]) -> Result<Fingerprint, Problem> {
    let file: File = serde_json::from_slice(bytes).map_err(json)?;
    few_enough("\"registers\"", file.registers.len())?;
    let mut registers = BTreeSet::new();
    for Id(id) in file.registers {
        once(&mut registers, id, &format!("register {id} ({})", id.name()))?;
    }
    let names: Vec<String> = file
        .id_registers
        .iter()
        .map(|entry| entry.name.clone())
        .chain(file.writable_masks.iter().flatten().map(|entry| entry.name.clone()))
        .collect();
    let id_registers = map("id_registers", file.id_registers.iter().map(|entry| (entry.id, entry.value)))?;
    if let Some(reg) = id_registers.keys().find(|reg| !registers.contains(&RegisterId::system(**reg))) {
        let id = RegisterId::system(*reg);
        return Err(Problem::Value(format!(
            "{} is in \"id_registers\", but {id} is not in \"registers\"",
            id.name()
        )));
    }
    let masks = match file.writable_masks {
        Some(masks) => Masks::Known(map("writable_masks", masks.iter().map(|entry| (entry.id, entry.mask)))?),
        None => Masks::Absent,
    };
    let fingerprint = Fingerprint {
        source: Source::Dfr0(name("\"dfr0\"", file.dfr0)?),
        kernel: name("\"kernel\"", file.kernel)?,
        platform: Some(name("\"platform\"", file.platform)?),
        mode: file.mode,
        capabilities: Some(file.capabilities),
        id_registers,
        masks,
        registers,
    };
    if !fingerprint.id_registers.contains_key(&ID_AA64DFR0_EL1) {
        return Err(Problem::Value(
            "\"id_registers\" does not have ID_AA64DFR0_EL1, which dfr0 compares".into(),
        ));
    }
    if fingerprint.midr() != Some(file.midr.0) {
        return Err(Problem::Value(format!(
            "\"midr\" is {:#x}, but MIDR_EL1 in \"id_registers\" is {}",
            file.midr.0,
            fingerprint.midr().map_or("missing".into(), |midr| format!("{midr:#x}"))
        )));
    }
    let digest = digest(&fingerprint, &file.cpu, &names);
    match file.sha256 {
        Some(sha256) if sha256 != digest => Err(Problem::Value(format!(
            "it was changed since it was written: its \"sha256\" should be {digest}; {MAKE_ONE}; after a change on purpose, \
             remove \"sha256\""
        ))),
        _ => Ok(fingerprint),
    }
}

/// A map of feature ID registers; each may appear once.
fn map(
    key: &str,
    entries: impl ExactSizeIterator<Item = (Id, Hex)>,
) -> Result<BTreeMap<SysReg, u64>, Problem> {
    few_enough(&format!("\"{key}\""), entries.len())?;
    let mut map = BTreeMap::new();
    for (Id(id), Hex(value)) in entries {
        let Some(reg) = id.system_register().filter(|reg| reg.is_id()) else {
            return Err(Problem::Value(format!(
                "{id} ({}) in \"{key}\" is not a feature ID register",
                id.name()
            )));
        };
        if map.insert(reg, value).is_some() {
            return Err(Problem::Value(format!("{} appears twice in \"{key}\"", id.name())));
        }
    }
    Ok(map)
}
