// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The other debug feature registers: ID_AA64DFR1_EL1, ID_AA64DFR2_EL1, and AArch32's ID_DFR0_EL1 and
//! ID_DFR1_EL1.

use super::{
    all_read,
    values::{self, is_accepted, is_legal, is_refused},
    vm, whole,
};
use dfr0_model::{
    dfr0::Field,
    id_dfr0::{COPSDBG, FIELDS},
    id_write::{Writable, allowed},
    rule,
    scenario::Scenario,
    sysreg::{ID_AA64DFR1_EL1, ID_AA64DFR2_EL1, ID_DFR0_EL1, ID_DFR1_EL1, SysReg},
    vm::Facts,
    vmm::Features::{self, Pmu},
};
use dfr0_runner::case::{Case, Context, Stop};
use std::sync::Arc;

pub fn cases() -> Vec<Case> {
    let fixed: [(&str, SysReg); 3] =
        [("id_aa64dfr1", ID_AA64DFR1_EL1), ("id_aa64dfr2", ID_AA64DFR2_EL1), ("id_dfr1", ID_DFR1_EL1)];
    let mut cases: Vec<Case> = fixed
        .into_iter()
        .map(|(name, reg)| {
            Case::new("each_bit", &rule::ID_READ_ONLY_REFUSED, move |cx| each_bit(cx, reg))
                .within(name)
                .and(&[&rule::ID_DEFAULT_ACCEPTED, &rule::ID_READS_BACK])
        })
        .collect();
    cases.extend([
        whole("id_dfr0.accepted", &rule::ID_SAFE_ACCEPTED, |cx| written(cx, is_accepted))
            .and(&[&rule::ID_DEFAULT_ACCEPTED, &rule::ID_PMUVER_IMP_DEF]),
        whole("id_dfr0.refused", &rule::ID_UNSAFE_REFUSED, |cx| {
            written(cx, |facts, field, value| {
                is_refused(facts, field, value) && !is_reserved(facts, field, value)
            })
        })
        .and(&[&rule::ID_READ_ONLY_REFUSED]),
        whole("id_dfr0.reserved_refused", &rule::ID_RESERVED_REFUSED, |cx| {
            written(cx, |facts, field, value| field.lsb != COPSDBG.lsb && is_reserved(facts, field, value))
        }),
        whole("id_dfr0.copsdbg_reserved_refused", &rule::ID_RESERVED_REFUSED, |cx| {
            written(cx, |facts, field, value| field.lsb == COPSDBG.lsb && is_reserved(facts, field, value))
        }),
        whole("id_dfr0.reads_back", &rule::ID_READS_BACK, reads_back),
        whole("id_dfr0.mask", &rule::ID_MASK_COVERS_FIELDS, mask_agrees),
        whole("id_dfr0.guest_reads", &rule::ID_GUEST_READS, lowered_guest_reads),
        whole("id_dfr0.without_aarch32", &rule::ID_AARCH32_ABSENT, without_aarch32),
        whole("debug_features.guest_reads", &rule::ID_GUEST_READS, |cx| cx.check_vm(&all_read(vm()))),
    ]);
    cases
}

/// The register accepts its own value and refuses a value that differs in a bit that is not writable.
fn each_bit(cx: &mut Context<'_>, reg: SysReg) -> Result<(), Stop> {
    let default = cx.facts(Features::None)?.default(reg);
    let bits = (0..u64::BITS).map(|bit| 1 << bit);
    let flipped = bits.chain([0, u64::MAX, !default, 0xf, 0xffff]);
    cx.check_after(&vm(), flipped.map(|flipped| Scenario::new().sets(reg, default ^ flipped).gets(reg)))
}

/// VMs without a PMU, and with a PMU where the host has one.
fn kinds(cx: &mut Context<'_>) -> Result<Vec<Arc<Facts>>, Stop> {
    let without = cx.facts(Features::None)?;
    if !without.has_aarch32() {
        return Stop::skip("the VM has no AArch32");
    }
    match cx.facts(Pmu) {
        Ok(with) => Ok(vec![without, with]),
        Err(Stop::Skip(_)) => Ok(vec![without]),
        Err(stop) => Err(stop),
    }
}

fn is_reserved(facts: &Facts, field: &'static Field, value: u8) -> bool {
    let (default, writable) = (facts.default(ID_DFR0_EL1), facts.writable(ID_DFR0_EL1));
    allowed(field, value, default, writable).rule == &rule::ID_RESERVED_REFUSED
}

/// The values for which `which` is true. Skips where there are none: KVM's own value decides what promises less.
fn written(cx: &mut Context<'_>, which: fn(&Facts, &'static Field, u8) -> bool) -> Result<(), Stop> {
    let mut any = false;
    for facts in kinds(cx)? {
        let values = FIELDS.into_iter().flat_map(|field| (0..16).map(move |value| (field, value)));
        let values = values.filter(|(field, value)| which(&facts, field, *value));
        let default = facts.default(ID_DFR0_EL1);
        let sets = values.map(|(field, value)| Scenario::new().sets(ID_DFR0_EL1, field.with(default, value)));
        let sets: Vec<Scenario> = sets.collect();
        if !sets.is_empty() {
            any = true;
            cx.check_after(&Scenario::vm(facts.features), sets)?;
        }
    }
    if any { Ok(()) } else { Stop::skip("no reserved encoding promises less than KVM's value") }
}

fn reads_back(cx: &mut Context<'_>) -> Result<(), Stop> {
    for facts in kinds(cx)? {
        let default = facts.default(ID_DFR0_EL1);
        let values = FIELDS.into_iter().flat_map(|field| values::of(&facts, field));
        let tried = values.map(|value| {
            Scenario::new()
                .tries(ID_DFR0_EL1, value)
                .gets(ID_DFR0_EL1)
                .sets(ID_DFR0_EL1, default)
                .gets(ID_DFR0_EL1)
        });
        let all = Scenario::new().gets_each(values::id_registers(&facts));
        cx.check_after(&Scenario::vm(facts.features), tried.chain([all]))?;
    }
    Ok(())
}

/// A field in the mask accepts each legal value. A field that is not in the mask accepts none.
fn mask_agrees(cx: &mut Context<'_>) -> Result<(), Stop> {
    for facts in kinds(cx)? {
        let default = facts.default(ID_DFR0_EL1);
        if facts.writable(ID_DFR0_EL1) == Writable::Unknown {
            return Stop::skip("this kernel has no KVM_ARM_GET_REG_WRITABLE_MASKS");
        }
        let values = FIELDS.into_iter().flat_map(|field| (0..16).map(move |value| (field, value)));
        let legal = values.filter(|(field, value)| is_legal(field, *value, default));
        let sets = legal.map(|(field, value)| Scenario::new().sets(ID_DFR0_EL1, field.with(default, value)));
        cx.check_after(&Scenario::vm(facts.features), sets)?;
    }
    Ok(())
}

/// For each field, a VM with the first legal value that KVM must accept.
fn lowered_guest_reads(cx: &mut Context<'_>) -> Result<(), Stop> {
    let facts = cx.facts(Features::None)?;
    if !facts.has_aarch32() {
        return Stop::skip("the VM has no AArch32");
    }
    let (default, writable) = (facts.default(ID_DFR0_EL1), facts.writable(ID_DFR0_EL1));
    let values = FIELDS.into_iter().filter_map(|field| {
        let legal = |value: &u8| is_legal(field, *value, default);
        let value = (0..16).filter(legal).find(|value| allowed(field, *value, default, writable).accepted)?;
        Some(field.with(default, value))
    });
    cx.check_vms(values.map(|value| all_read(vm().tries(ID_DFR0_EL1, value)).gets(ID_DFR0_EL1)))
}

/// Any value is accepted and ignored, before a run and after it.
fn without_aarch32(cx: &mut Context<'_>) -> Result<(), Stop> {
    if cx.facts(Features::None)?.has_aarch32() {
        return Stop::skip("the VM has AArch32");
    }
    let values = (0..u64::BITS).map(|bit| 1 << bit).chain([0, u64::MAX]);
    let sets = |scenario: Scenario| {
        values.clone().fold(scenario, |scenario, value| scenario.sets(ID_DFR0_EL1, value).gets(ID_DFR0_EL1))
    };
    cx.check_vm(&sets(sets(vm()).read(ID_DFR0_EL1)).read(ID_DFR0_EL1))
}
