// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A protected VM (pKVM): debug, which the hypervisor hides from its guest, is hidden.
//!
//! The hypervisor also has to hide it from a host that it does not trust. Linux Documentation/virt/kvm/arm/pkvm.rst says that
//! this, the isolation of the CPU state, is unimplemented: the cases of `userspace` and `guest_debug` say what the host can
//! do meanwhile.

use crate::aarch32::described;
use dfr0_model::{
    control::{Dbgbcr, Dbgwcr, Mdscr},
    dfr0::{DEBUGVER, FIELDS},
    guest_debug::{ENABLE, GuestDebug, SINGLESTEP, USE_HW, USE_SW_BP},
    id_write::Answer,
    layout::{TARGET, marker},
    promise,
    protected::{Event, Op, Outcome, Pe, is_other, present_on_every_pe},
    rule::{self, Rule},
    sysreg::{
        DBGCLAIMCLR_EL1, DBGCLAIMSET_EL1, DebugRegister, ID_AA64DFR0_EL1, ID_AA64DFR1_EL1, ID_AA64DFR2_EL1,
        ID_DFR0_EL1, ID_DFR1_EL1, MDCCINT_EL1, MDSCR_EL1, OSDLR_EL1, OSLAR_EL1, OSLSR_EL1, SysReg, dbgbcr,
        dbgbvr, dbgwcr, dbgwvr, debug_registers,
    },
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    guest::Error,
};

pub fn cases() -> Vec<Case> {
    let mut cases = id_registers();
    cases.extend(registers());
    cases.extend(events());
    cases.extend(userspace());
    cases.extend(guest_debug());
    cases.into_iter().map(|case| case.with_own_vms().tainting()).collect()
}

/// A case with one list of operations.
fn case(name: &str, rule: &'static Rule, ops: fn() -> Vec<Op>) -> Case {
    Case::new(name, rule, move |cx| check(cx, &ops()))
}

const ID_REGISTERS: [SysReg; 5] =
    [ID_AA64DFR0_EL1, ID_AA64DFR1_EL1, ID_AA64DFR2_EL1, ID_DFR0_EL1, ID_DFR1_EL1];

fn id_registers() -> Vec<Case> {
    vec![
        case("id_registers.no_feature", &rule::PROTECTED_NO_FEATURE, || ID_REGISTERS.map(Op::Read).to_vec()),
        case("id_registers.read_only", &rule::REGISTERS_ONE_WAY, || {
            ID_REGISTERS.map(|reg| Op::Write(reg, 0)).to_vec()
        }),
        Case::new("id_registers.permitted_values", &rule::ID_VALUES_PERMITTED, permitted_values),
        Case::new("id_registers.written_by_userspace", &rule::PROTECTED_NO_FEATURE, |cx| {
            let armv8 = DEBUGVER.with(cx.host().id_aa64dfr0, DEBUGVER_ARMV8);
            let read = ID_REGISTERS.map(Op::Read);
            check(cx, &[&[Op::Set(ID_AA64DFR0_EL1, armv8)], &read[..]].concat())
        }),
        case("id_registers.features_absent", &rule::ID_FIELDS_ARE_PROMISES, || {
            promise::TABLE.iter().map(|promise| Op::Read(promise.reg)).collect()
        }),
    ]
}

/// ID_AA64DFR0_EL1.DebugVer of Armv8.0, the least.
const DEBUGVER_ARMV8: u8 = 0b0110;

fn permitted_values(cx: &mut Context<'_>) -> Result<(), Stop> {
    /// OSLSR_EL1.OSLM, which is 0b10 where the OS Lock is implemented, as it is on every PE.
    const OSLM: u64 = 0b1001;
    const OS_LOCK: u64 = 0b1000;
    let (id_aa64dfr0, events) = run(cx, &[Op::Read(OSLSR_EL1)])?;
    for field in FIELDS {
        cx.count();
        let value = field.get(id_aa64dfr0);
        if !field.is_architected(value) {
            let found = format!("ID_AA64DFR0_EL1.{} is {value:#06b}, which is reserved", field.name);
            cx.find(found, format!("mrs ID_AA64DFR0_EL1: {id_aa64dfr0:#x}"));
        }
    }
    cx.count();
    if !matches!(events[..], [Event::Value(oslsr)] if oslsr & OSLM == OS_LOCK) {
        cx.find("OSLSR_EL1.OSLM is not 0b10".into(), format!("mrs OSLSR_EL1: {events:?}"));
    }
    Ok(())
}

/// The guest reads a register, writes it and reads it again.
fn accessed(registers: impl IntoIterator<Item = SysReg>) -> Vec<Op> {
    let access = |reg| [Op::Read(reg), Op::Write(reg, value_for(reg)), Op::Isb, Op::Read(reg)];
    registers.into_iter().flat_map(access).collect()
}

/// A value that the register holds where it is not hidden, and that enables nothing that fires.
fn value_for(reg: SysReg) -> u64 {
    /// MDCCINT_EL1.TX.
    const TX: u64 = 1 << 29;
    match reg.debug_number() {
        Some((DebugRegister::Bvr | DebugRegister::Wvr, _)) => 0x5670_0040,
        Some((DebugRegister::Bcr, _)) => Dbgbcr::address_at_el1().with_e(false).raw_value(),
        Some((DebugRegister::Wcr, _)) => Dbgwcr::doubleword().with_e(false).raw_value(),
        None => match reg {
            MDSCR_EL1 => Mdscr::breakpoints_at_el1().raw_value(),
            MDCCINT_EL1 => TX,
            DBGCLAIMSET_EL1 | DBGCLAIMCLR_EL1 => 0xff,
            _ => 1,
        },
    }
}

fn is_breakpoints(reg: SysReg) -> bool {
    matches!(reg.debug_number(), Some((DebugRegister::Bvr | DebugRegister::Bcr, _)))
}

fn is_watchpoints(reg: SysReg) -> bool {
    matches!(reg.debug_number(), Some((DebugRegister::Wvr | DebugRegister::Wcr, _)))
}

fn registers() -> Vec<Case> {
    let hidden = |name: &str, ops| case(name, &rule::PROTECTED_REGISTERS_HIDDEN, ops);
    vec![
        hidden("registers.breakpoints", || accessed(debug_registers().filter(|reg| is_breakpoints(*reg))))
            .and(&[&rule::REGISTERS_BEYOND_COUNT]),
        hidden("registers.watchpoints", || accessed(debug_registers().filter(|reg| is_watchpoints(*reg))))
            .and(&[&rule::REGISTERS_BEYOND_COUNT]),
        hidden("registers.mdscr", || accessed([MDSCR_EL1])),
        hidden("registers.os_lock", || {
            let seen = |value| [Op::Write(OSLAR_EL1, value), Op::Isb, Op::Read(OSLSR_EL1)];
            [Op::Read(OSLSR_EL1)].into_iter().chain([1, 0, 1].into_iter().flat_map(seen)).collect()
        }),
        hidden("registers.double_lock", || accessed([OSDLR_EL1])).and(&[&rule::DOUBLE_LOCK_ABSENT]),
        hidden("registers.others", || accessed(debug_registers().filter(|reg| is_other(*reg)))),
        case("registers.one_way", &rule::REGISTERS_ONE_WAY, || {
            vec![Op::Read(OSLAR_EL1), Op::Write(OSLSR_EL1, 0)]
        }),
        Case::new("registers.present_on_every_pe", &rule::PRESENT_ON_EVERY_PE, |cx| {
            let ops: Vec<Op> = present_on_every_pe().map(Op::Read).collect();
            let (_, events) = run(cx, &ops)?;
            for (op, event) in ops.iter().zip(&events) {
                judge(cx, &[*op], (event, &[Outcome::AnyValue]), observed);
            }
            Ok(())
        }),
    ]
}

/// Every breakpoint is on marker 0 and every watchpoint on the doubleword that the guest accesses.
fn armed() -> impl Iterator<Item = (SysReg, u64)> {
    let (breakpoint, watchpoint) = (Dbgbcr::address_at_el1(), Dbgwcr::doubleword());
    (0..16).flat_map(move |n| {
        [
            (dbgbvr(n), marker(0)),
            (dbgbcr(n), breakpoint.raw_value()),
            (dbgwvr(n), TARGET),
            (dbgwcr(n), watchpoint.raw_value()),
        ]
    })
}

const ENABLED: u64 = Mdscr::breakpoints_at_el1().raw_value();
const STEPPING: u64 = Mdscr::breakpoints_at_el1().with_ss(true).raw_value();
const ATTEMPT: [Op; 3] = [Op::Execute, Op::Load, Op::Store];
/// OSLSR_EL1 as userspace locks the OS Lock: OSLM 0b10 and OSLK.
const LOCKED: u64 = 0xa;

fn events() -> Vec<Case> {
    let silent = |name: &str, ops| case(name, &rule::PROTECTED_NO_EVENTS, ops);
    vec![
        silent("events.breakpoints_and_watchpoints", || {
            let write = |(reg, value)| Op::Write(reg, value);
            armed().map(write).chain([Op::Write(MDSCR_EL1, ENABLED), Op::Isb]).chain(ATTEMPT).collect()
        }),
        silent("events.step", || vec![Op::Write(MDSCR_EL1, STEPPING), Op::Isb, Op::Step]),
        case("events.brk", &rule::BRK_UNMASKED, || {
            let locked = [Op::Write(OSLAR_EL1, 1), Op::Isb, Op::Brk];
            let enabled = [Op::Write(MDSCR_EL1, ENABLED), Op::Isb, Op::Brk];
            [Op::Brk].into_iter().chain(locked).chain(enabled).collect()
        }),
    ]
}

fn userspace() -> Vec<Case> {
    let silent = |name: &str, ops| case(name, &rule::PROTECTED_NO_EVENTS, ops);
    vec![
        case("userspace.id_register", &rule::ID_GUEST_READS, || {
            vec![Op::Get(ID_AA64DFR0_EL1), Op::Isb, Op::Get(ID_AA64DFR0_EL1)]
        }),
        Case::new("userspace.masks", &rule::MASKS_ARGUMENTS, masks),
        case("userspace.registers_read_back", &rule::ONE_REG_READS_BACK, || {
            let all = debug_registers().filter(|reg| is_breakpoints(*reg) || is_watchpoints(*reg));
            let access = |reg| [Op::Set(reg, value_for(reg)), Op::Get(reg)];
            all.chain([MDSCR_EL1, MDCCINT_EL1]).flat_map(access).collect()
        }),
        Case::new("userspace.registers_reach_the_guest", &rule::ONE_REG_IS_THE_REGISTER, reach_the_guest),
        case("userspace.registers_stay_hidden", &rule::PROTECTED_REGISTERS_HIDDEN, || {
            let written = [Op::Set(dbgbvr(0), 0x5670_0040), Op::Set(dbgwvr(0), 0x5670_0048)];
            [Op::Isb].into_iter().chain(written).chain(readable().map(Op::Read)).collect()
        }),
        Case::new("userspace.enabled_registers_stay_hidden", &rule::PROTECTED_REGISTERS_HIDDEN, |cx| {
            let ops: Vec<Op> =
                [Op::Set(MDSCR_EL1, ENABLED)].into_iter().chain(readable().map(Op::Read)).collect();
            // How many registers show themselves depends on the CPU.
            check_as(cx, &ops, |_, _| "a debug register is not hidden".into())
        }),
        silent("userspace.breakpoints_and_watchpoints", || {
            let all = armed().chain([(MDSCR_EL1, ENABLED)]);
            all.map(|(reg, value)| Op::Set(reg, value)).chain(ATTEMPT).collect()
        }),
        silent("userspace.step", || vec![Op::Set(MDSCR_EL1, STEPPING), Op::Step]),
        case("userspace.os_lock", &rule::PROTECTED_REGISTERS_HIDDEN, || {
            vec![Op::Set(OSLSR_EL1, LOCKED), Op::Read(OSLSR_EL1), Op::Read(MDSCR_EL1), Op::Brk]
        })
        .and(&[&rule::BRK_UNMASKED]),
    ]
}

/// The debug registers of no other feature that can be read.
fn readable() -> impl Iterator<Item = SysReg> {
    debug_registers().filter(|reg| promise::of(*reg).is_none() && *reg != OSLAR_EL1)
}

/// What userspace writes and KVM accepts is what the guest reads.
fn reach_the_guest(cx: &mut Context<'_>) -> Result<(), Stop> {
    let all = || debug_registers().filter(|reg| is_breakpoints(*reg) || is_watchpoints(*reg));
    let ops: Vec<Op> = all().map(|reg| Op::Set(reg, value_for(reg))).chain(all().map(Op::Read)).collect();
    let (_, events) = run(cx, &ops)?;
    let (sets, reads) = events.split_at(all().count());
    for (reg, (set, read)) in all().zip(sets.iter().zip(reads)) {
        cx.count();
        if *set == Event::Done && *read != Event::Value(value_for(reg)) {
            let detail = format!("KVM_SET_ONE_REG {reg}, {:#x}: accepted; mrs {reg}: {read}", value_for(reg));
            cx.find("KVM_SET_ONE_REG of a debug register that the guest does not read".into(), detail);
        }
    }
    Ok(())
}

fn guest_debug() -> Vec<Case> {
    vec![
        Case::new("guest_debug.control_bits", &rule::GUEST_DEBUG_BITS, control_bits),
        case("guest_debug.brk", &rule::GUEST_DEBUG_SW_EXITS, || {
            vec![Op::Debug(GuestDebug::new(ENABLE | USE_SW_BP)), Op::Brk, Op::Debug(GuestDebug::OFF), Op::Brk]
        }),
        case("guest_debug.breakpoint", &rule::GUEST_DEBUG_HW_EXITS, || {
            vec![Op::Debug(GuestDebug::breakpoint(0, 0)), Op::Execute, Op::Execute]
        }),
        case("guest_debug.watchpoint", &rule::GUEST_DEBUG_WATCHPOINT_EXITS, || {
            vec![Op::Debug(GuestDebug::watchpoint(0, TARGET)), Op::Load, Op::Store]
        }),
        case("guest_debug.step", &rule::GUEST_DEBUG_STEPS, || {
            vec![Op::Isb, Op::Debug(GuestDebug::new(ENABLE | SINGLESTEP)), Op::Isb]
        }),
        case("guest_debug.registers_stay_hidden", &rule::PROTECTED_REGISTERS_HIDDEN, || {
            let debug = GuestDebug::breakpoint(0, 1).and_watchpoint(0, TARGET + 8);
            [Op::Debug(debug)].into_iter().chain(readable().map(Op::Read)).collect()
        }),
    ]
}

/// The VM's capability is the set of control bits that the ioctl accepts.
fn control_bits(cx: &mut Context<'_>) -> Result<(), Stop> {
    let vm = cx.protected_vm(&[])?;
    let capability = vm.guest_debug_bits();
    for control in [ENABLE, ENABLE | SINGLESTEP, ENABLE | USE_SW_BP, ENABLE | USE_HW] {
        cx.count();
        let accepted = vm.debug(GuestDebug::new(control)) == Answer::Accepted;
        if accepted != (capability & control == control) {
            let found = format!(
                "KVM_SET_GUEST_DEBUG {} {}",
                GuestDebug::new(control).control_names(),
                if accepted { "accepted" } else { "refused" }
            );
            cx.find(found, format!("KVM_CAP_SET_GUEST_DEBUG2 of the VM: {capability:#x}"));
        }
    }
    Ok(())
}

/// KVM_ARM_GET_REG_WRITABLE_MASKS is available when the VM's capability says so.
fn masks(cx: &mut Context<'_>) -> Result<(), Stop> {
    let vm = cx.protected_vm(&[])?;
    let (ranges, masks) = (vm.mask_ranges(), vm.masks());
    cx.count();
    if (ranges != 0) != masks.is_ok() {
        let found = if masks.is_ok() { "available" } else { "refused" };
        let errno = masks.err().map_or("no error".into(), |errno| format!("errno {errno}"));
        let detail =
            format!("KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES of the VM: {ranges:#x}; the ioctl: {errno}");
        cx.find(format!("KVM_ARM_GET_REG_WRITABLE_MASKS is {found}"), detail);
    }
    Ok(())
}

/// Runs the operations in a protected VM. Returns what the guest reads in ID_AA64DFR0_EL1, and the events.
fn run(cx: &mut Context<'_>, ops: &[Op]) -> Result<(u64, Vec<Event>), Stop> {
    let all: Vec<Op> = ops.iter().copied().chain([Op::Read(ID_AA64DFR0_EL1)]).collect();
    let mut events = cx.protected_vm(&all)?.executes()?;
    match events.pop() {
        Some(Event::Value(id_aa64dfr0)) => Ok((id_aa64dfr0, events)),
        other => Err(Error::Unfit(format!("the guest cannot read ID_AA64DFR0_EL1: {other:?}")).into()),
    }
}

/// Runs the operations in a protected VM, and checks the result of each against the rules.
fn check(cx: &mut Context<'_>, ops: &[Op]) -> Result<(), Stop> {
    check_as(cx, ops, observed)
}

/// The same, with other words for what departs from the rules.
fn check_as(cx: &mut Context<'_>, ops: &[Op], observed: fn(Op, &Event) -> String) -> Result<(), Stop> {
    let (id_aa64dfr0, events) = run(cx, ops)?;
    let mut pe = Pe::new(id_aa64dfr0);
    for (k, (op, event)) in ops.iter().zip(&events).enumerate() {
        let allowed = pe.allowed(*op);
        pe.follow(*op, event);
        judge(cx, &ops[..=k], (event, &allowed), observed);
    }
    Ok(())
}

/// Checks the event of the last of these operations.
fn judge(
    cx: &mut Context<'_>,
    ops: &[Op],
    (event, allowed): (&Event, &[Outcome]),
    observed: fn(Op, &Event) -> String,
) {
    cx.count();
    if let Some(op) = ops.last().filter(|_| !allowed.iter().any(|outcome| outcome.allows(event))) {
        cx.find(observed(*op, event), described(ops, event, allowed));
    }
}

/// An operation and what it caused, in words that do not depend on the host.
fn observed(op: Op, event: &Event) -> String {
    let words = match op {
        Op::Get(ID_AA64DFR0_EL1) => {
            return "KVM_GET_ONE_REG ID_AA64DFR0_EL1: not what the guest reads".into();
        }
        Op::Get(reg) => return format!("KVM_GET_ONE_REG {reg}: not what was written"),
        Op::Write(reg, _) => format!("msr {reg}"),
        Op::Set(reg, _) => format!("KVM_SET_ONE_REG {reg}"),
        Op::Debug(debug) => format!("KVM_SET_GUEST_DEBUG {}", debug.control_names()),
        _ => op.to_string(),
    };
    format!("{words}: {event}")
}
