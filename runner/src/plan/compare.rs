// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What differs between two hosts, whether it stops a move or not.

use super::{
    Named,
    debug_fields::{in_order, value},
    other_registers::fields,
    text::names,
};
use crate::{
    fingerprint::{Fingerprint, Masks},
    register_id::RegisterId,
};
use dfr0_model::{
    id_register,
    sysreg::{ID_AA64DFR0_EL1, SysReg},
};
use std::{
    collections::BTreeSet,
    fmt::{self, Write},
};

/// The differences, one per line.
pub fn compare(a: Named<'_>, b: Named<'_>) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut out, a, b);
    out
}

fn write(out: &mut String, a: Named<'_>, b: Named<'_>) -> fmt::Result {
    let [one, other] = [a, b].map(|host| host.fingerprint);
    writeln!(out, "A: {}: {}, Linux {}", a.name, one.cpu(), one.kernel)?;
    writeln!(out, "B: {}: {}, Linux {}", b.name, other.cpu(), other.kernel)?;
    let head = out.len();
    debug(out, one, other)?;
    id_registers(out, one, other)?;
    masks(out, one, other)?;
    capabilities(out, one, other)?;
    for ((from, from_has), (to, to_has)) in [(("A", one), ("B", other)), (("B", other), ("A", one))] {
        let only: Vec<RegisterId> = from_has.registers.difference(&to_has.registers).copied().collect();
        if !only.is_empty() {
            let partly = if to_has.lists_all() { "" } else { ", as far as its file says" };
            writeln!(out, "\nregisters that {from} lists and {to} does not{partly}: {}", only.len())?;
            writeln!(
                out,
                "  a guest that has them cannot move from {from} to {to}; in the other direction they are just not saved"
            )?;
            names(out, only.iter().map(|id| id.name()))?;
        }
    }
    if out.len() == head {
        writeln!(out, "\nno difference in ID registers, writable masks, capabilities or register lists")?;
    }
    Ok(())
}

fn debug(out: &mut String, a: &Fingerprint, b: &Fingerprint) -> fmt::Result {
    let values = [a, b].map(Fingerprint::id_aa64dfr0);
    if values[0] != values[1] {
        writeln!(out, "\nID_AA64DFR0_EL1  A {:#x}, B {:#x}", values[0], values[1])?;
    }
    for field in in_order() {
        let [one, other] = values.map(|value| field.get(value));
        if one != other {
            writeln!(out, "  {:<11} A {}, B {}", field.name, value(field, one), value(field, other))?;
        }
    }
    Ok(())
}

fn id_registers(out: &mut String, a: &Fingerprint, b: &Fingerprint) -> fmt::Result {
    let both: BTreeSet<&SysReg> = a.id_registers.keys().chain(b.id_registers.keys()).collect();
    for reg in both.into_iter().filter(|reg| **reg != ID_AA64DFR0_EL1) {
        let name = RegisterId::system(*reg).name();
        match (a.id_registers.get(reg), b.id_registers.get(reg)) {
            (Some(one), Some(other)) if one != other => {
                writeln!(out, "\n{name}  A {one:#x}, B {other:#x}")?;
                field_lines(out, *reg, *one, *other)?;
            }
            (Some(one), None) => writeln!(out, "\n{name}  A {one:#x}, B does not have it")?,
            (None, Some(other)) => writeln!(out, "\n{name}  A does not have it, B {other:#x}")?,
            _ => {}
        }
    }
    Ok(())
}

fn field_lines(out: &mut String, reg: SysReg, one: u64, other: u64) -> fmt::Result {
    if id_register::IMPLEMENTATION.contains(&reg) {
        return Ok(());
    }
    for lsb in (0..64_u8).step_by(4).rev() {
        let [one, other] = [one, other].map(|value| value >> lsb & 0xf);
        if one != other {
            let name = fields(reg, 0xf << lsb);
            writeln!(out, "  {name:<11} A {one:#x}, B {other:#x}")?;
        }
    }
    Ok(())
}

fn masks(out: &mut String, a: &Fingerprint, b: &Fingerprint) -> fmt::Result {
    let is_said = |masks: &Masks| matches!(masks, Masks::Known(_) | Masks::Absent);
    if a.masks == b.masks || !is_said(&a.masks) && !is_said(&b.masks) {
        return Ok(());
    }
    let (Masks::Known(one), Masks::Known(other)) = (&a.masks, &b.masks) else {
        let words = |masks: &Masks| match masks {
            Masks::Known(masks) => format!("for {} registers", masks.len()),
            Masks::Absent => "none, because the kernel does not have KVM_ARM_GET_REG_WRITABLE_MASKS".into(),
            Masks::OfProfile { .. } | Masks::Unsaid => "not known".into(),
        };
        return writeln!(out, "\nwritable masks: A {}; B {}", words(&a.masks), words(&b.masks));
    };
    writeln!(out, "\nwritable masks")?;
    let both: BTreeSet<&SysReg> = one.keys().chain(other.keys()).collect();
    for reg in both {
        let [one, other] = [one, other].map(|masks| masks.get(reg).copied().unwrap_or_default());
        for (who, bits) in [("A", one & !other), ("B", other & !one)] {
            if bits != 0 {
                writeln!(
                    out,
                    "  {}: only {who}'s userspace may write {}",
                    RegisterId::system(*reg).name(),
                    fields(*reg, bits)
                )?;
            }
        }
    }
    Ok(())
}

fn capabilities(out: &mut String, a: &Fingerprint, b: &Fingerprint) -> fmt::Result {
    let (Some(one), Some(other)) = (&a.capabilities, &b.capabilities) else {
        return Ok(());
    };
    let mut head = false;
    for ((name, one), (_, other)) in one.all().into_iter().zip(other.all()) {
        if one != other {
            if !head {
                writeln!(out, "\ncapabilities")?;
                head = true;
            }
            writeln!(out, "  {name}  A {one}, B {other}")?;
        }
    }
    Ok(())
}
