// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The values of ID_AA64DFR0_EL1 at other moments: before KVM_ARM_VCPU_INIT and after a second one, after a
//! run, and through another vCPU.

use super::{
    DFR0, all_read,
    values::{self, Moment, id_registers, late, own_and_least},
    vm, whole,
};
use dfr0_model::{
    dfr0::FIELDS,
    id_write::{EINTR, ENOEXEC, Writable},
    rule,
    scenario::Scenario,
    sysreg::MDSCR_EL1,
    vm::{DEBUG_FEATURES, Facts},
    vmm::Features::{self, None, Pmu, Sve},
};
use dfr0_runner::case::{Case, Context, Stop};

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        whole("before_init.refused", &rule::ID_NEEDS_INIT, before_init),
        whole("before_init.changes_nothing", &rule::ID_NEEDS_INIT, before_init_changes_nothing),
        whole("after_run.each_value", &rule::ID_FROZEN_BY_RUN, |cx| {
            each_late(cx, None, all_read, Scenario::new())
        })
        .and(&[&rule::ID_LATE_AND_ILLEGAL, &rule::ID_PMUVER_IMP_DEF]),
        whole("after_run.every_id_register", &rule::ID_FROZEN_BY_RUN, every_id_register_after_run),
        whole("immediate_exit.freezes", &rule::ID_FROZEN_BY_IMMEDIATE_EXIT, |cx| {
            each_late(cx, None, |vm| vm.enters_and_leaves().refused(EINTR), Scenario::new())
        })
        .and(&[&rule::ID_FROZEN_BY_RUN, &rule::ID_LATE_AND_ILLEGAL]),
        whole("failed_run.sve_not_finalised", &rule::ID_FROZEN_BY_FAILED_RUN, |cx| failed_run(cx, Sve))
            .and(&[&rule::ID_FROZEN_BY_RUN, &rule::ID_LATE_AND_ILLEGAL]),
        whole("failed_run.pmu_not_initialised", &rule::ID_FROZEN_BY_FAILED_RUN, |cx| failed_run(cx, Pmu))
            .and(&[&rule::ID_FROZEN_BY_RUN, &rule::ID_LATE_AND_ILLEGAL]),
        whole("second_init.keeps", &rule::ID_KEPT_BY_INIT, |cx| {
            let facts = cx.facts(None)?;
            let again = vm().sets(DFR0, facts.least()).inits(None).gets_each(id_registers(&facts));
            cx.check_vm(&all_read(again.gets(DFR0).reads(facts.least())))
        }),
        whole("second_init.after_run", &rule::ID_KEPT_BY_INIT, second_init_after_run)
            .and(&[&rule::ID_FROZEN_BY_RUN]),
    ];
    cases.extend(values::cases(
        "second_init",
        &rule::ID_KEPT_BY_INIT,
        Moment {
            features: None,
            before: |facts| vm().sets(DFR0, facts.least()).inits(None).sets(DFR0, facts.default(DFR0)),
            through: &[(0, 0)],
        },
    ));
    cases.extend(values::cases(
        "other_vcpu",
        &rule::ID_VM_SCOPED,
        Moment { features: None, before: |_| two_vcpus(), through: &[(0, 1), (1, 0)] },
    ));
    cases.extend([
        whole("other_vcpu.guest_reads", &rule::ID_VM_SCOPED, other_vcpu_guest_reads),
        whole("other_vcpu.frozen_by_run", &rule::ID_VM_SCOPED, other_vcpu_freezes)
            .and(&[&rule::ID_FROZEN_BY_RUN, &rule::ID_LATE_AND_ILLEGAL]),
        whole("other_vcpu.created_after_run", &rule::VCPU_RUNS, |cx| {
            let ran = vm().read(MDSCR_EL1).reads(0);
            cx.check_vm(&ran.creates_vcpu().on_vcpu(1).inits(None).enters_and_leaves().refused(EINTR))
        })
        .and(&[&rule::ID_FROZEN_BY_IMMEDIATE_EXIT]),
        whole("other_vcpu.init_keeps", &rule::ID_KEPT_BY_INIT, other_init_keeps),
    ]);
    cases
}

/// A VM with two vCPUs, both initialised, the first of which is the current one.
fn two_vcpus() -> Scenario {
    vm().creates_vcpu().on_vcpu(1).inits(None).on_vcpu(0)
}

/// Reads of each debug feature register and writes of each value of ID_AA64DFR0_EL1.
fn each_access(facts: &Facts) -> impl Iterator<Item = Scenario> {
    let reads = DEBUG_FEATURES.into_iter().map(|reg| Scenario::new().gets(reg));
    let values = FIELDS.into_iter().flat_map(|field| values::of(facts, field));
    let all = reads.chain(values.map(|value| Scenario::new().sets(DFR0, value)));
    all.map(|scenario| scenario.refused(ENOEXEC))
}

/// The second vCPU behaves like the first, although the first is initialised then.
fn before_init(cx: &mut Context<'_>) -> Result<(), Stop> {
    let facts = cx.facts(None)?;
    cx.check_after(&Scenario::new().creates_vcpu(), each_access(&facts))?;
    cx.check_after(&vm().creates_vcpu().on_vcpu(1), each_access(&facts))
}

fn before_init_changes_nothing(cx: &mut Context<'_>) -> Result<(), Stop> {
    let facts = cx.facts(None)?;
    let sets = |scenario| each_access(&facts).fold(scenario, Scenario::append).enters_and_leaves();
    let first = sets(Scenario::new().creates_vcpu().creates_vcpu()).inits(None);
    let second = sets(first.gets_each(id_registers(&facts)).on_vcpu(1));
    // The register is not frozen, because no vCPU has run.
    let after = second.on_vcpu(0).gets_each(id_registers(&facts)).sets(DFR0, facts.least()).gets(DFR0);
    cx.check_vm(&after)
}

/// Each value in a VM that `start` started, with KVM's own value and with the least that may be written; then the guest
/// reads all of them, after `end`.
fn each_late(
    cx: &mut Context<'_>,
    features: Features,
    start: fn(Scenario) -> Scenario,
    end: Scenario,
) -> Result<(), Stop> {
    let facts = cx.facts(features)?;
    for frozen in own_and_least(&facts) {
        let started = start(Scenario::new().creates_vcpu().inits(features).sets(DFR0, frozen));
        cx.check_after(&started, late(frozen, 0).chain([all_read(end.clone())]))?;
    }
    Ok(())
}

/// Every listed ID register accepts its own value and no other. Kernels without the masks are older than this
/// rule, and let userspace change a few fields of registers other than the debug feature registers at any
/// time.
fn every_id_register_after_run(cx: &mut Context<'_>) -> Result<(), Stop> {
    let facts = cx.facts(None)?;
    let writes = facts.registers.iter().flat_map(|(reg, register)| {
        let frozen = register.writable != Writable::Unknown || DEBUG_FEATURES.contains(reg);
        let bits = if frozen { 0..u64::BITS } else { 0..0 };
        let others = bits.map(move |bit| register.default ^ 1 << bit);
        let all = std::iter::once(register.default).chain(others);
        all.map(move |value| Scenario::new().sets(*reg, value).gets(*reg))
    });
    cx.check_after(&vm().read(MDSCR_EL1), writes)
}

/// KVM_RUN of a vCPU whose features need more than KVM_ARM_VCPU_INIT. Afterwards the vCPU is completed, and
/// the guest runs.
fn failed_run(cx: &mut Context<'_>, features: Features) -> Result<(), Stop> {
    each_late(cx, features, Scenario::enters_and_leaves, Scenario::new().completes(features))
}

/// A second KVM_ARM_VCPU_INIT resets a vCPU that has run, but not its VM.
fn second_init_after_run(cx: &mut Context<'_>) -> Result<(), Stop> {
    let facts = cx.facts(None)?;
    let ran = all_read(vm().sets(DFR0, facts.least()));
    let again = ran.inits(None).gets_each(id_registers(&facts));
    cx.check_after(&again, late(facts.least(), 0).chain([all_read(Scenario::new())]))
}

/// The guest reads the value that was written through one vCPU on both vCPUs, first on the other one.
fn other_vcpu_guest_reads(cx: &mut Context<'_>) -> Result<(), Stop> {
    let facts = cx.facts(None)?;
    cx.check_vms([0, 1].map(|by| {
        let written = two_vcpus().on_vcpu(by).sets(DFR0, facts.least());
        let elsewhere = all_read(written.on_vcpu(1 - by));
        all_read(elsewhere.on_vcpu(by)).on_vcpu(1 - by).gets(DFR0).reads(facts.least())
    }))
}

fn other_vcpu_freezes(cx: &mut Context<'_>) -> Result<(), Stop> {
    let facts = cx.facts(None)?;
    for frozen in own_and_least(&facts) {
        let ran = two_vcpus().sets(DFR0, frozen).on_vcpu(1).read(MDSCR_EL1);
        let both = late(frozen, 0).chain(late(frozen, 1));
        cx.check_after(&ran, both.chain([all_read(Scenario::new().on_vcpu(0))]))?;
    }
    Ok(())
}

/// The second vCPU is initialised after the registers were written through the first.
fn other_init_keeps(cx: &mut Context<'_>) -> Result<(), Stop> {
    let facts = cx.facts(None)?;
    let written = Scenario::new().creates_vcpu().creates_vcpu().inits(None).sets(DFR0, facts.least());
    let both = written.on_vcpu(1).inits(None).gets_each(id_registers(&facts));
    cx.check_vm(&all_read(both.on_vcpu(0).gets_each(id_registers(&facts)).on_vcpu(1)))
}
