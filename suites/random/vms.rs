// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Random programs of userspace: VMs with one vCPU or two, their ID registers, KVM_ARM_VCPU_INIT, KVM_RUN and
//! moves, mixed with what the guests do to their debug registers.

use super::{start, step};
use dfr0_model::{
    dfr0::{self, BRPS, Field, WRPS},
    id_dfr0, id_register,
    id_write::Writable,
    scenario::{Migrate, Op, Scenario},
    shape::Shape,
    sysreg::{ID_AA64DFR0_EL1, MDSCR_EL1, OSLSR_EL1, SysReg, dbgbcr, dbgwvr},
    vm::{DEBUG_FEATURES, Facts},
    vmm::Features,
};
use dfr0_runner::case::{Context, Stop};
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any},
    prop_oneof,
    sample::select,
    strategy::Union,
};
use std::{collections::BTreeMap, sync::Arc};

/// The number of steps after the VM is made.
const STEPS: usize = 14;

pub fn random(cx: &mut Context<'_>) -> Result<(), Stop> {
    let mut kinds = BTreeMap::new();
    for features in [Features::None, Features::Pmu] {
        match cx.facts(features) {
            Ok(facts) => _ = kinds.insert(features, facts),
            Err(Stop::Skip(_)) if features != Features::None => {}
            Err(stop) => return Err(stop),
        }
    }
    cx.check_random_vms(&Union::new(kinds.values().map(scenarios)), &kinds)
}

/// VMs of one kind.
fn scenarios(facts: &Arc<Facts>) -> impl Strategy<Value = Scenario> + use<> {
    let features = facts.features;
    let two = any::<bool>().prop_map(move |two| {
        let one = Scenario::vm(features);
        if two { one.creates_vcpu().on_vcpu(1).initialises(features).on_vcpu(0) } else { one }
    });
    two.prop_flat_map({
        let facts = Arc::clone(facts);
        move |made| {
            let steps = vec(vmm_step(&facts, if made == Scenario::vm(features) { 1 } else { 2 }), 1..=STEPS);
            steps.prop_map(move |steps| steps.into_iter().fold(made.clone(), Scenario::append))
        }
    })
}

fn vmm_step(facts: &Facts, vcpus: u8) -> impl Strategy<Value = Scenario> + use<> {
    let features = facts.features;
    let one = Scenario::new;
    // Numbers that each shape has: userspace may lower WRPs.
    let shape = Shape { watchpoints: facts.shape().watchpoints.min(2), ..facts.shape() };
    // Without AArch32, another case reports what KVM gives to ID_DFR0_EL1.
    let is_read = |reg: &SysReg| {
        facts.registers.contains_key(reg) && (facts.has_aarch32() || !id_register::is_aarch32(*reg))
    };
    let registers = DEBUG_FEATURES.into_iter().filter(is_read);
    let registers: Vec<SysReg> = registers.collect();
    let listed = [MDSCR_EL1, OSLSR_EL1, dbgbcr(0), dbgwvr(1)].into_iter().chain(DEBUG_FEATURES);
    let listed: Vec<SysReg> = listed.collect();
    prop_oneof![
        6 => write(facts),
        2 => select(registers.clone()).prop_map(move |reg| one().gets(reg)),
        3 => select(registers).prop_map(move |reg| one().read(reg)),
        1 => Just(one().inits(features)),
        3 => (0..vcpus).prop_map(move |n| one().on_vcpu(n)),
        1 => Just(one().enters_and_leaves()),
        1 => select(listed).prop_map(move |reg| one().lists(reg)),
        1 => select(Migrate::ALL.to_vec()).prop_map(move |to| one().then(Op::Migrate(to))),
        1 => Just(start()),
        6 => step(shape, true),
    ]
}

/// A write of an ID register in which one field or a few differ from what KVM gave.
fn write(facts: &Facts) -> impl Strategy<Value = Scenario> + use<> {
    let (default, least) = (facts.default(ID_AA64DFR0_EL1), facts.least());
    let fields = dfr0::FIELDS.into_iter().chain(id_dfr0::FIELDS);
    let weighted = fields.map(|field| {
        let is_writable =
            matches!(facts.writable(field.reg), Writable::Mask(mask) if mask & field.mask() != 0);
        let own = facts.default(field.reg);
        (
            if is_writable { 8 } else { 1 },
            value(field, field.get(own)).prop_map(move |value| (field, own, value)),
        )
    });
    let weighted: Vec<_> = weighted.map(|(weight, strategy)| (weight, strategy.boxed())).collect();
    (Union::new_weighted(weighted), any::<bool>()).prop_map(move |((field, own, value), lowered)| {
        let others = if lowered && own == default && field.reg == ID_AA64DFR0_EL1 { least } else { own };
        let register = field.with(others, value);
        // KVM accepts some reserved encodings, which other cases report.
        match field.is_architected(value) || value == field.get(own) {
            true => Scenario::new().sets(field.reg, register),
            false => Scenario::new().tries(field.reg, register),
        }
    })
}

/// A value of a field, mostly at the edges. No VM gets a single breakpoint or watchpoint: no PE has one.
fn value(field: &'static Field, own: u8) -> impl Strategy<Value = u8> {
    let least = if field.lsb == BRPS.lsb || field.lsb == WRPS.lsb { 1 } else { 0 };
    let edges = [own, own.saturating_sub(1), own.wrapping_add(1) & 0xf, 0, 15];
    prop_oneof![3 => select(edges.to_vec()), 1 => 0_u8..16].prop_map(move |value| value.max(least))
}
