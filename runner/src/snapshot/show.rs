// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A snapshot in words.

use super::{Pages, Register, Snapshot, state::hexadecimal};
use crate::fingerprint::{Hex, Id};
use dfr0_model::{
    control::{Dbgbcr, Dbgwcr, Mdscr},
    dfr0::FIELDS,
    id_register,
    sysreg::{DebugRegister, ID_AA64DFR0_EL1, MDSCR_EL1, SysReg},
};
use serde_json::{Value, json};
use std::fmt;

/// A snapshot, as `dfr0 snapshot show` prints it.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a Snapshot);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(snapshot) = self;
        facts(snapshot).into_iter().try_for_each(|(name, value)| writeln!(f, "{name}: {value}"))?;
        for (number, registers) in snapshot.vcpus().enumerate() {
            let zero = registers.iter().filter(|register| register.is_zero()).count();
            writeln!(f, "vCPU {number}: {} registers, {zero} of them zero; the others:", registers.len())?;
            for register in registers.iter().filter(|register| !register.is_zero()) {
                writeln!(f, "  {}", in_words(register))?;
            }
        }
        writeln!(f, "operations left, of {}:", snapshot.scenario.ops().len())?;
        // A snapshot is shown even if the model has no rule for it.
        match snapshot.expected() {
            Ok(expected) => f.write_str(&expected),
            Err(unknown) => writeln!(f, "  {unknown}"),
        }
    }
}

/// The facts about a snapshot other than its registers, by name.
pub fn facts(snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    let Snapshot { dfr0, fingerprint, done, seen, state, scenario, .. } = snapshot;
    vec![
        ("dfr0", dfr0.clone()),
        ("kernel", format!("Linux {}", fingerprint.kernel)),
        ("platform", fingerprint.platform.clone().unwrap_or_default()),
        ("cpu", fingerprint.cpu()),
        ("shape", snapshot.shape().to_string()),
        ("operations done", format!("{done} of {}", scenario.ops().len())),
        ("events seen", seen.len().to_string()),
        ("memory", format!("{} of {} pages are not zero", state.memory.0.len(), Pages::COUNT)),
    ]
}

/// A register with its fields, if their names are known.
pub fn in_words(register: &Register) -> String {
    let fields = register.id.system_register().map(|reg| fields(reg, register.low()));
    match fields {
        Some(fields) if !fields.is_empty() => format!("{register}  ({})", fields.join(", ")),
        _ => register.to_string(),
    }
}

/// The fields of a system register that are not zero.
fn fields(reg: SysReg, value: u64) -> Vec<String> {
    match reg.debug_number() {
        Some((DebugRegister::Bcr, _)) => return vec![Dbgbcr::new_with_raw_value(value).to_string()],
        Some((DebugRegister::Wcr, _)) => return vec![Dbgwcr::new_with_raw_value(value).to_string()],
        _ if reg == MDSCR_EL1 => return vec![Mdscr::new_with_raw_value(value).to_string()],
        _ => {}
    }
    named(reg, value, value).into_iter().map(|(name, value)| format!("{name} {value:#x}")).collect()
}

/// The fields of an ID register that contain one of these bits, with their parts of `value`; the highest
/// first.
pub fn named(reg: SysReg, bits: u64, value: u64) -> Vec<(&'static str, u64)> {
    if reg == ID_AA64DFR0_EL1 {
        let of_bits = FIELDS.into_iter().filter(|field| bits & field.mask() != 0);
        return of_bits.map(|field| (field.name, field.get(value).into())).collect();
    }
    let mut fields: Vec<(&str, u64)> = Vec::new();
    for bit in (0..64_u8).rev().filter(|bit| bits >> bit & 1 == 1) {
        if let Some((name, lsb)) = id_register::field(reg, bit)
            && fields.iter().all(|(other, _)| *other != name)
        {
            fields.push((name, value >> lsb & 0xf));
        }
    }
    fields
}

impl Shown<'_> {
    /// The snapshot as JSON.
    pub fn to_json(&self) -> Value {
        let Self(snapshot) = self;
        let vcpus: Vec<Vec<Value>> =
            snapshot.vcpus().map(|registers| registers.iter().map(register).collect()).collect();
        let Snapshot { dfr0, fingerprint, done, seen, state, scenario, .. } = snapshot;
        let pages: Vec<Hex> = state.memory.0.keys().map(|address| Hex(*address)).collect();
        let seen: Vec<Value> = seen
            .iter()
            .map(|logged| json!({ "operation": logged.op, "event": logged.event.to_string() }))
            .collect();
        json!({
            "dfr0": dfr0,
            "kernel": fingerprint.kernel,
            "platform": fingerprint.platform,
            "cpu": fingerprint.cpu(),
            "shape": snapshot.shape().to_string(),
            "operations": scenario.ops().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "operations_done": done,
            "events": seen,
            "pages": pages,
            "vcpus": vcpus,
        })
    }
}

fn register(register: &Register) -> Value {
    let fields = register.id.system_register().map_or(Vec::new(), |reg| fields(reg, register.low()));
    json!({
        "name": register.id.name(),
        "id": Id(register.id),
        "value": hexadecimal(&register.value),
        "fields": fields,
    })
}
