// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The ID registers besides ID_AA64DFR0_EL1 that differ between hosts, and the values with which a VM can be created on all
//! of them.
//!
//! A greater value of a field promises at least what a smaller one does (DDI 0487, "Principles of the ID scheme for fields in
//! ID registers"), so hosts share the least value. A field that does not follow the scheme has no least value here.

use super::{
    Named, Verdict,
    other_registers::{AARCH32_IGNORED_SINCE, MPIDR_EL1, fields, forgiven},
};
use crate::{
    fingerprint::{Accepts, Fingerprint},
    register_id::RegisterId,
};
use dfr0_model::{
    dfr0::Order,
    id_register,
    sysreg::{ID_AA64DFR0_EL1, ID_DFR0_EL1, SysReg},
};
use serde::Serialize;
use std::collections::BTreeSet;

/// A register that is not the same on all hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Register {
    /// Its name.
    pub register: String,
    /// Its id.
    pub id: String,
    /// The fields that differ.
    pub fields: String,
    /// The value with the least that any host promises, if there is one.
    pub value: Option<String>,
    /// The hosts, as given.
    pub hosts: Vec<OfHost>,
    #[serde(skip)]
    pub(super) bits: Bits,
}

/// Whether a VM on a host can have the shared value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfHost {
    /// What its KVM gives to a new VM, if its file says.
    pub has: Option<String>,
    /// Whether a VM on this host can have the shared value.
    pub verdict: Verdict,
    /// Why it does not simply have it.
    pub why: Option<String>,
}

/// The value that hosts share, and the bits in which some host differs from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    pub id: u64,
    pub value: Option<u64>,
    pub changed: u64,
}

/// Each of these registers, and how each host comes to the shared value.
pub fn registers(hosts: &[Named<'_>]) -> Vec<Register> {
    let all: BTreeSet<SysReg> =
        hosts.iter().flat_map(|host| host.fingerprint.id_registers.keys().copied()).collect();
    // MPIDR_EL1 is the vCPU's place in its VM, which the VMM chooses.
    all.into_iter()
        .filter(|reg| ![ID_AA64DFR0_EL1, MPIDR_EL1].contains(reg))
        .filter_map(|reg| register(reg, hosts))
        .collect()
}

fn register(reg: SysReg, hosts: &[Named<'_>]) -> Option<Register> {
    let ignoring = hosts.iter().filter(|host| ignores(reg, host.fingerprint)).count();
    // A guest from a host without AArch32 has 0 in these registers, of which KVM refuses one.
    let refused = reg == ID_DFR0_EL1 && 0 < ignoring && ignoring < hosts.len();
    let matter = hosts.iter().filter(|host| !ignores(reg, host.fingerprint));
    let values: Vec<Option<u64>> =
        matter.map(|host| host.fingerprint.id_registers.get(&reg).copied()).collect();
    let known: Vec<u64> = values.iter().copied().flatten().collect();
    let differing = known.iter().fold(0, |bits, value| bits | (value ^ known[0]));
    if differing == 0 && known.len() == values.len() && !refused {
        return None;
    }
    let value = if refused { None } else { least(reg, &known, differing) };
    let id = RegisterId::system(reg);
    let names =
        if id_register::IMPLEMENTATION.contains(&reg) { String::new() } else { fields(reg, differing) };
    Some(Register {
        register: id.name(),
        id: id.to_string(),
        fields: names,
        value: value.map(|value| format!("{value:#x}")),
        hosts: hosts.iter().map(|host| of_host(reg, value, host.fingerprint)).collect(),
        bits: Bits { id: id.bits(), value, changed: differing },
    })
}

/// The host ignores writes of this register, because EL0 has no AArch32 state there.
fn ignores(reg: SysReg, host: &Fingerprint) -> bool {
    id_register::is_aarch32(reg)
        && host.has_aarch32() == Some(false)
        && host.kernel_version() >= Some(AARCH32_IGNORED_SINCE)
}

/// The value with the least of each field that differs, if all of these have an order.
fn least(reg: SysReg, values: &[u64], differing: u64) -> Option<u64> {
    let mut shared = *values.first()?;
    for lsb in (0..64_u8).step_by(4).filter(|lsb| differing >> lsb & 0xf != 0) {
        let order = order(reg, lsb)?;
        let key = |value: &u64| match order {
            Order::Signed => (value >> lsb & 0xf ^ 8) as i64 - 8,
            Order::Unsigned | Order::UnsignedOrImpDef => (value >> lsb & 0xf) as i64,
        };
        let field = values.iter().min_by_key(|value| key(value))? & 0xf << lsb;
        shared = shared & !(0xf << lsb) | field;
    }
    Some(shared)
}

/// The order of a field's values; `None` if it has none, or if it depends on another field.
fn order(reg: SysReg, lsb: u8) -> Option<Order> {
    if id_register::IMPLEMENTATION.contains(&reg) {
        return None;
    }
    match id_register::field(reg, lsb)?.0 {
        // Algorithms, granules that other fields describe, and what is safer when it is greater.
        "APA" | "API" | "APA3" | "TGran4_2" | "TGran16_2" | "TGran64_2" | "SpecSEI" | "PerfMon" => None,
        name if name.ends_with("_frac") => None,
        "FP" | "AdvSIMD" | "TGran4" | "TGran64" | "MTPMU" | "InnerShr" | "OuterShr" | "E2H0" => {
            Some(Order::Signed)
        }
        _ => Some(Order::Unsigned),
    }
}

fn of_host(reg: SysReg, shared: Option<u64>, host: &Fingerprint) -> OfHost {
    let has = host.id_registers.get(&reg).copied();
    let (verdict, why) = comes_to(reg, shared, has, host);
    OfHost { has: has.map(|value| format!("{value:#x}")), verdict, why }
}

fn comes_to(
    reg: SysReg,
    shared: Option<u64>,
    has: Option<u64>,
    host: &Fingerprint,
) -> (Verdict, Option<String>) {
    if ignores(reg, host) {
        return (Verdict::AsIs, Some("it ignores writes: EL0 has no AArch32 state".into()));
    }
    let Some(has) = has else {
        let verdict = if host.lists_all() { Verdict::Cannot } else { Verdict::NotKnown };
        return (verdict, Some("its file does not have the register".into()));
    };
    let Some(shared) = shared else {
        if reg == ID_DFR0_EL1 {
            let why = "it refuses the CopDbg below 0x6 that a guest from a host without AArch32 has";
            return (Verdict::Cannot, Some(why.into()));
        }
        if id_register::IMPLEMENTATION.contains(&reg) {
            let (verdict, why) = match host.accepts(reg) {
                Accepts::Mask(0) | Accepts::Own => {
                    (Verdict::Cannot, "its KVM takes only its own CPU's value")
                }
                _ => (
                    Verdict::NotKnown,
                    "the VMM must choose a value, and enable KVM_CAP_ARM_WRITABLE_IMP_ID_REGS before it creates vCPUs",
                ),
            };
            return (verdict, Some(why.into()));
        }
        return (
            Verdict::NotKnown,
            Some("these fields have no order by which one value promises less".into()),
        );
    };
    let differing = has ^ shared;
    let fixed = match host.accepts(reg) {
        _ if differing == 0 => return (Verdict::AsIs, None),
        Accepts::Mask(mask) => differing & !mask,
        Accepts::Own => differing,
        Accepts::Unsaid => {
            let why = "its file does not say which fields its KVM lets userspace write";
            return (Verdict::NotKnown, Some(why.into()));
        }
    };
    if fixed == 0 {
        return (Verdict::WithShape, None);
    }
    if fixed & !forgiven(reg) == 0 {
        let why =
            format!("{} cannot be lowered, but newer kernels may take it and ignore it", fields(reg, fixed));
        return (Verdict::NotKnown, Some(why));
    }
    let why = match host.accepts(reg) {
        Accepts::Own => "its KVM takes only the value that it gave".into(),
        _ => format!("its writable mask is without {}", fields(reg, fixed)),
    };
    (Verdict::Cannot, Some(why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfr0_model::sysreg::{DCZID_EL0, ID_AA64MMFR2_EL1, ID_AA64PFR0_EL1, ID_AA64PFR1_EL1, MIDR_EL1};

    fn of(reg: SysReg, values: &[u64]) -> Option<u64> {
        least(reg, values, values.iter().fold(0, |bits, value| bits | (value ^ values[0])))
    }

    #[test]
    fn each_field_has_its_own_least_value() {
        assert_eq!(of(ID_AA64MMFR2_EL1, &[0x12, 0x21, 0x33]), Some(0x11));
        assert_eq!(of(ID_AA64MMFR2_EL1, &[0xf, 0x0]), Some(0), "unsigned");
        assert_eq!(of(ID_AA64PFR0_EL1, &[0xf << 16, 0]), Some(0xf << 16), "0b1111 is FP not implemented");
        assert_eq!(of(ID_AA64PFR0_EL1, &[1 << 16, 0, 0xf << 20]), Some(0xf << 20));
    }

    #[test]
    fn what_has_no_order_has_no_least_value() {
        assert_eq!(of(MIDR_EL1, &[1, 2]), None);
        assert_eq!(of(DCZID_EL0, &[4, 5]), None, "another layout");
        assert_eq!(of(ID_AA64PFR1_EL1, &[1 << 32, 2 << 32]), None, "CSV2_frac depends on CSV2");
        assert_eq!(of(ID_AA64PFR1_EL1, &[1 << 32 | 2, 1 << 32 | 1]), Some(1 << 32 | 1), "the same on all");
    }
}
