// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The values of ID_AA64DFR0_EL1 at other moments: before KVM_ARM_VCPU_INIT and after a second one, after a
//! run, and through another vCPU.

use super::{
    describe, named,
    values::{self, DEBUG_FEATURES, guest_agrees, id_registers, late, lower, new_vm, sweep},
};
use dfr0_model::{
    dfr0::FIELDS,
    id_write::{Answer, EBUSY, EINTR, EINVAL, ENOEXEC, Writable},
    rule::{self, Rule},
    sysreg::{ID_AA64DFR0_EL1, SysReg},
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    plain::{
        Features::{self, None, Pmu, Sve},
        PlainVm, Reads,
    },
};

pub fn cases() -> Vec<Case> {
    let case = |name: &str, rule: &'static Rule, test: fn(&mut Context<'_>) -> Result<(), Stop>| {
        Case::new(name, rule, test)
    };
    let mut cases = vec![
        case("before_init.refused", &rule::ID_NEEDS_INIT, before_init),
        case("before_init.changes_nothing", &rule::ID_NEEDS_INIT, before_init_changes_nothing),
        case("after_run.each_value", &rule::ID_FROZEN_BY_RUN, after_run)
            .and(&[&rule::ID_LATE_AND_ILLEGAL, &rule::ID_PMUVER_IMP_DEF]),
        case("after_run.every_id_register", &rule::ID_FROZEN_BY_RUN, every_id_register_after_run),
        case("immediate_exit.freezes", &rule::ID_FROZEN_BY_IMMEDIATE_EXIT, immediate_exit)
            .and(&[&rule::ID_FROZEN_BY_RUN, &rule::ID_LATE_AND_ILLEGAL]),
        case("failed_run.sve_not_finalised", &rule::ID_FROZEN_BY_FAILED_RUN, |cx| failed_run(cx, Sve))
            .and(&[&rule::ID_FROZEN_BY_RUN, &rule::ID_LATE_AND_ILLEGAL]),
        case("failed_run.pmu_not_initialised", &rule::ID_FROZEN_BY_FAILED_RUN, |cx| failed_run(cx, Pmu))
            .and(&[&rule::ID_FROZEN_BY_RUN, &rule::ID_LATE_AND_ILLEGAL]),
        case("second_init.keeps", &rule::ID_KEPT_BY_INIT, second_init_keeps),
        case("second_init.after_run", &rule::ID_KEPT_BY_INIT, second_init_after_run)
            .and(&[&rule::ID_FROZEN_BY_RUN]),
    ];
    cases.extend(values::cases("second_init", &rule::ID_KEPT_BY_INIT, |cx| {
        let mut vm = new_vm(cx, 1, None)?;
        lower(&vm, 0)?;
        vm.init(0)?;
        vm.set(0, ID_AA64DFR0_EL1, cx.host().id_aa64dfr0)?;
        Ok(vec![sweep(&vm, &FIELDS, 0, 0)?])
    }));
    cases.extend(values::cases("other_vcpu", &rule::ID_VM_SCOPED, |cx| {
        let vm = new_vm(cx, 2, None)?;
        Ok(vec![sweep(&vm, &FIELDS, 0, 1)?, sweep(&vm, &FIELDS, 1, 0)?])
    }));
    cases.extend([
        case("other_vcpu.guest_reads", &rule::ID_VM_SCOPED, other_vcpu_guest_reads),
        case("other_vcpu.frozen_by_run", &rule::ID_VM_SCOPED, other_vcpu_freezes)
            .and(&[&rule::ID_FROZEN_BY_RUN, &rule::ID_LATE_AND_ILLEGAL]),
        case("other_vcpu.init_keeps", &rule::ID_KEPT_BY_INIT, other_init_keeps),
    ]);
    cases
}

fn uninitialised(cx: &Context<'_>, vcpus: usize) -> Result<PlainVm, Stop> {
    cx.plain_vm(vcpus, None, Reads::Registers(DEBUG_FEATURES.to_vec()))
}

/// Reads each debug feature register and writes each value of ID_AA64DFR0_EL1 through a vCPU that is not
/// initialised.
fn try_uninitialised(cx: &mut Context<'_>, vm: &PlainVm, n: usize) -> Result<(), Stop> {
    let default = cx.host().id_aa64dfr0;
    for reg in DEBUG_FEATURES {
        cx.count();
        let got = vm.get(n, reg)?;
        if got != Err(ENOEXEC) {
            let answer = got.map_or_else(Answer::Refused, |_| Answer::Accepted);
            cx.find(format!("a read {}", describe(answer)), format!("KVM_GET_ONE_REG {reg}: {got:#x?}"));
        }
    }
    for field in FIELDS {
        for value in 0..16 {
            cx.count();
            let answer = vm.set(n, ID_AA64DFR0_EL1, field.with(default, value))?;
            if answer != Answer::Refused(ENOEXEC) {
                cx.find(format!("a write {}", describe(answer)), named(field, value));
            }
        }
    }
    Ok(())
}

fn before_init(cx: &mut Context<'_>) -> Result<(), Stop> {
    let mut vm = uninitialised(cx, 2)?;
    try_uninitialised(cx, &vm, 0)?;
    vm.init(0)?;
    // The second vCPU behaves like the first, although the first is initialised now.
    try_uninitialised(cx, &vm, 1)
}

fn before_init_changes_nothing(cx: &mut Context<'_>) -> Result<(), Stop> {
    let default = cx.host().id_aa64dfr0;
    let mut vm = uninitialised(cx, 2)?;
    for field in FIELDS {
        for value in 0..16 {
            vm.set(0, ID_AA64DFR0_EL1, field.with(default, value))?;
        }
    }
    cx.count();
    let answer = vm.enter_and_leave(0)?;
    if answer != Answer::Refused(ENOEXEC) {
        cx.find(format!("KVM_RUN {}", describe(answer)), "with immediate_exit, of vCPU 0".to_owned());
    }
    vm.init(0)?;
    let before = id_registers(&vm, 0)?;
    cx.count();
    if vm.read(0, ID_AA64DFR0_EL1)? != default {
        let read = vm.read(0, ID_AA64DFR0_EL1)?;
        cx.find("the register is not KVM's own".into(), format!("{read:#x}, and not {default:#x}"));
    }
    for field in FIELDS {
        for value in 0..16 {
            vm.set(1, ID_AA64DFR0_EL1, field.with(default, value))?;
        }
    }
    vm.enter_and_leave(1)?;
    same_registers(cx, &before, &id_registers(&vm, 0)?);
    // The register is not frozen, because no vCPU has run.
    let lowered = lower(&vm, 0)?;
    cx.count();
    if matches!(vm.writable(ID_AA64DFR0_EL1), Writable::Mask(mask) if mask != 0) && lowered == default {
        cx.find("nothing can be written afterwards".into(), format!("the register is {lowered:#x}"));
    }
    Ok(())
}

/// Finds ID registers that read another value than before.
fn same_registers(cx: &mut Context<'_>, before: &[(SysReg, u64)], after: &[(SysReg, u64)]) {
    cx.count();
    for ((reg, before), (_, after)) in before.iter().zip(after).filter(|(before, after)| before != after) {
        cx.find("an ID register reads otherwise".into(), format!("{reg} was {before:#x} and is {after:#x}"));
    }
}

/// A VM in which a run froze KVM's own value, and a VM in which a run froze the least value that may be
/// written.
fn after_run(cx: &mut Context<'_>) -> Result<(), Stop> {
    for lowered in [false, true] {
        let mut vm = new_vm(cx, 1, None)?;
        let default = vm.read(0, ID_AA64DFR0_EL1)?;
        if lowered {
            lower(&vm, 0)?;
        }
        guest_agrees(cx, &mut vm, 0)?;
        late(cx, &vm, 0, default)?;
        guest_agrees(cx, &mut vm, 0)?;
    }
    Ok(())
}

/// Every listed ID register accepts its own value and no other. Kernels without the masks are older than this
/// rule, and let userspace change a few fields of registers other than the debug feature registers at any
/// time.
fn every_id_register_after_run(cx: &mut Context<'_>) -> Result<(), Stop> {
    let mut vm = new_vm(cx, 1, None)?;
    vm.guest_reads(0)?;
    for (reg, value) in id_registers(&vm, 0)? {
        cx.count();
        let same = vm.set(0, reg, value)?;
        if same != Answer::Accepted {
            cx.find(format!("the same value {}", describe(same)), format!("{reg} {value:#x}"));
        }
        if vm.writable(reg) == Writable::Unknown && !DEBUG_FEATURES.contains(&reg) {
            continue;
        }
        for bit in 0..u64::BITS {
            let other = value ^ 1 << bit;
            let answer = vm.set(0, reg, other)?;
            let read = vm.read(0, reg)?;
            // Some values of some registers are accepted and ignored, at any time.
            let known = matches!(answer, Answer::Accepted | Answer::Refused(EBUSY | EINVAL));
            if read != value || !known {
                cx.find(
                    format!("another value {}", describe(answer)),
                    format!("{reg} {value:#x}, {other:#x} written, reads {read:#x}"),
                );
            }
        }
    }
    Ok(())
}

fn immediate_exit(cx: &mut Context<'_>) -> Result<(), Stop> {
    for lowered in [false, true] {
        let mut vm = new_vm(cx, 1, None)?;
        let default = vm.read(0, ID_AA64DFR0_EL1)?;
        if lowered {
            lower(&vm, 0)?;
        }
        cx.count();
        let answer = vm.enter_and_leave(0)?;
        if answer != Answer::Refused(EINTR) {
            cx.find(format!("KVM_RUN {}", describe(answer)), "with immediate_exit".to_owned());
        }
        late(cx, &vm, 0, default)?;
        guest_agrees(cx, &mut vm, 0)?;
    }
    Ok(())
}

/// KVM_RUN of a vCPU whose features need more than KVM_ARM_VCPU_INIT. Afterwards the vCPU is completed, and
/// the guest runs.
fn failed_run(cx: &mut Context<'_>, features: Features) -> Result<(), Stop> {
    let read = Reads::Registers(DEBUG_FEATURES.to_vec());
    for lowered in [false, true] {
        let mut vm = cx.plain_vm(1, features, read.clone())?;
        vm.init_alone(0)?;
        let default = vm.read(0, ID_AA64DFR0_EL1)?;
        if lowered {
            lower(&vm, 0)?;
        }
        cx.count();
        let answer = vm.enter_and_leave(0)?;
        if !matches!(answer, Answer::Refused(errno) if errno != EINTR) {
            cx.find(
                format!("KVM_RUN {}", describe(answer)),
                format!("of a vCPU with {features:?} that is not complete"),
            );
        }
        late(cx, &vm, 0, default)?;
        vm.complete(0)?;
        guest_agrees(cx, &mut vm, 0)?;
    }
    Ok(())
}

fn second_init_keeps(cx: &mut Context<'_>) -> Result<(), Stop> {
    let mut vm = new_vm(cx, 1, None)?;
    lower(&vm, 0)?;
    let before = id_registers(&vm, 0)?;
    vm.init(0)?;
    same_registers(cx, &before, &id_registers(&vm, 0)?);
    guest_agrees(cx, &mut vm, 0)
}

/// A second KVM_ARM_VCPU_INIT resets a vCPU that has run, but not its VM.
fn second_init_after_run(cx: &mut Context<'_>) -> Result<(), Stop> {
    let mut vm = new_vm(cx, 1, None)?;
    let default = vm.read(0, ID_AA64DFR0_EL1)?;
    lower(&vm, 0)?;
    guest_agrees(cx, &mut vm, 0)?;
    let before = id_registers(&vm, 0)?;
    vm.init(0)?;
    same_registers(cx, &before, &id_registers(&vm, 0)?);
    late(cx, &vm, 0, default)?;
    guest_agrees(cx, &mut vm, 0)
}

/// The guest reads the value that was written through one vCPU on both vCPUs, first on the other one.
fn other_vcpu_guest_reads(cx: &mut Context<'_>) -> Result<(), Stop> {
    for by in [0, 1] {
        let mut vm = new_vm(cx, 2, None)?;
        let lowered = lower(&vm, by)?;
        guest_agrees(cx, &mut vm, 1 - by)?;
        guest_agrees(cx, &mut vm, by)?;
        for n in [0, 1] {
            cx.count();
            let read = vm.read(n, ID_AA64DFR0_EL1)?;
            if read != lowered {
                cx.find(
                    "the register reads otherwise after a run".into(),
                    format!("{read:#x} through vCPU {n}, {lowered:#x} was written through vCPU {by}"),
                );
            }
        }
    }
    Ok(())
}

fn other_vcpu_freezes(cx: &mut Context<'_>) -> Result<(), Stop> {
    for lowered in [false, true] {
        let mut vm = new_vm(cx, 2, None)?;
        let default = vm.read(0, ID_AA64DFR0_EL1)?;
        if lowered {
            lower(&vm, 0)?;
        }
        vm.guest_reads(1)?;
        late(cx, &vm, 0, default)?;
        late(cx, &vm, 1, default)?;
        guest_agrees(cx, &mut vm, 0)?;
    }
    Ok(())
}

/// The second vCPU is initialised after the registers were written through the first.
fn other_init_keeps(cx: &mut Context<'_>) -> Result<(), Stop> {
    let mut vm = uninitialised(cx, 2)?;
    vm.init(0)?;
    lower(&vm, 0)?;
    let before = id_registers(&vm, 0)?;
    vm.init(1)?;
    for n in [0, 1] {
        same_registers(cx, &before, &id_registers(&vm, n)?);
    }
    guest_agrees(cx, &mut vm, 1)
}
