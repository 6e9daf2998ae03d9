// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Each value of each field of a register, written one after another in one VM and taken back, and the checks
//! of the answers. They are the same at each moment at which a value can be taken back.

use super::{answered, describe, named};
use dfr0_model::{
    dfr0::{FIELDS, Field},
    id_write::{Allowed, Answer, Writable, allowed, allowed_late},
    rule::{self, Rule},
    shape::Shape,
    sysreg::{ID_AA64DFR0_EL1, ID_AA64DFR1_EL1, ID_AA64DFR2_EL1, ID_DFR0_EL1, ID_DFR1_EL1, SysReg},
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    plain::{Features, PlainVm, Reads},
};
use std::sync::{Arc, OnceLock};

/// The debug feature registers.
pub const DEBUG_FEATURES: [SysReg; 5] =
    [ID_AA64DFR0_EL1, ID_AA64DFR1_EL1, ID_AA64DFR2_EL1, ID_DFR0_EL1, ID_DFR1_EL1];

/// The result of writing one value to one field.
#[derive(Clone, Copy)]
pub struct Seen {
    pub field: &'static Field,
    pub value: u8,
    pub answer: Answer,
    /// The whole register, read through the vCPU that it was written through and through another.
    pub reads: [u64; 2],
    /// Whether the register accepted its previous value again.
    taken_back: bool,
}

/// Every value of some fields of one register.
pub struct Sweep {
    /// The register before the sweep, which is what KVM gave to the VM.
    pub default: u64,
    pub writable: Writable,
    pub seen: Vec<Seen>,
    /// Other ID registers that read another value afterwards.
    others: Vec<SysReg>,
}

/// Writes each value of each field through vCPU `by`, reads it there and through vCPU `beside`, and takes it
/// back.
pub fn sweep(vm: &PlainVm, fields: &[&'static Field], by: usize, beside: usize) -> Result<Sweep, Stop> {
    let reg = fields.first().map_or(ID_AA64DFR0_EL1, |field| field.reg);
    let before = id_registers(vm, by)?;
    let default = vm.read(by, reg)?;
    let mut seen = Vec::new();
    for field in fields {
        for value in 0..16 {
            let answer = vm.set(by, reg, field.with(default, value))?;
            let reads = [vm.read(by, reg)?, vm.read(beside, reg)?];
            let taken_back = vm.set(by, reg, default)? == Answer::Accepted && vm.read(by, reg)? == default;
            seen.push(Seen { field, value, answer, reads, taken_back });
        }
    }
    let after = id_registers(vm, by)?;
    let others = before.iter().zip(&after).filter(|(before, after)| before != after).map(|(reg, _)| reg.0);
    Ok(Sweep { default, writable: vm.writable(reg), seen, others: others.collect() })
}

/// The ID registers that KVM lists, with their values.
pub fn id_registers(vm: &PlainVm, n: usize) -> Result<Vec<(SysReg, u64)>, Stop> {
    let listed = vm.listed(n)?.into_iter().filter(|reg| reg.is_id_register());
    listed.map(|reg| Ok((reg, vm.read(n, reg)?))).collect()
}

/// Makes the sweeps of one moment, when the first case needs them.
pub type Prepare = fn(&Context<'_>) -> Result<Vec<Sweep>, Stop>;

/// The cases of a moment at which a value can be taken back. The first rule of each is the rule of the
/// moment.
pub fn cases(moment: &str, rule: &'static Rule, prepare: Prepare) -> Vec<Case> {
    let sweeps = Arc::new(OnceLock::new());
    let case = |name: &str, find: fn(&mut Context<'_>, &Sweep)| {
        let sweeps = Arc::clone(&sweeps);
        Case::new(format!("{moment}.{name}"), rule, move |cx| {
            let sweeps = match sweeps.get() {
                Some(sweeps) => sweeps,
                None => {
                    let prepared = prepare(cx)?;
                    sweeps.get_or_init(|| prepared)
                }
            };
            sweeps.iter().for_each(|sweep| find(cx, sweep));
            Ok(())
        })
    };
    vec![
        case("accepted", |cx, sweep| find_answers(cx, sweep, |allowed| allowed.accepted)).and(&[
            &rule::ID_SAFE_ACCEPTED,
            &rule::ID_DEFAULT_ACCEPTED,
            &rule::ID_PMUVER_IMP_DEF,
            &rule::ID_IMPOSSIBLE_SHAPE,
        ]),
        case("refused", |cx, sweep| find_answers(cx, sweep, |allowed| !allowed.accepted)).and(&[
            &rule::ID_UNSAFE_REFUSED,
            &rule::ID_RESERVED_REFUSED,
            &rule::ID_READ_ONLY_REFUSED,
        ]),
        case("reads_back", find_reads).and(&[&rule::ID_READS_BACK]),
    ]
}

/// Finds answers that are not allowed, among the values for which `among` is true.
pub fn find_answers(cx: &mut Context<'_>, sweep: &Sweep, among: fn(Allowed) -> bool) {
    for seen in &sweep.seen {
        let allowed = allowed(seen.field, seen.value, sweep.default, sweep.writable);
        if among(allowed) {
            cx.count();
            if let Some((short, full)) = answered(seen.field, seen.value, seen.answer, allowed) {
                cx.find(short, format!("{full}, default {:#x}\n  rule: {}", sweep.default, allowed.rule));
            }
        }
    }
}

/// A value that was accepted reads back through each vCPU and can be taken back. A value that was refused
/// changed nothing.
pub fn find_reads(cx: &mut Context<'_>, sweep: &Sweep) {
    for seen in &sweep.seen {
        let (field, value) = (seen.field, seen.value);
        let allowed = allowed(field, value, sweep.default, sweep.writable);
        let expected = match seen.answer {
            Answer::Accepted => field.with(sweep.default, allowed.reads_back),
            Answer::Refused(_) => sweep.default,
        };
        cx.count();
        let [here, beside] = seen.reads;
        let answer = describe(seen.answer);
        if here != expected || beside != expected {
            let who = if here == expected { " through another vCPU" } else { "" };
            let short = format!("{} {answer}, then the register reads otherwise{who}", named(field, value));
            cx.find(short, format!("{here:#x}, through the other vCPU {beside:#x}, allowed: {expected:#x}"));
        }
        if !seen.taken_back {
            let short = format!("{} {answer}, then the value before is not accepted", named(field, value));
            cx.find(short, format!("KVM_SET_ONE_REG {:#x}", sweep.default));
        }
    }
    for reg in &sweep.others {
        cx.find("another ID register reads otherwise afterwards".into(), reg.to_string());
    }
}

/// Whether a value of a field is legal, whatever the writable mask says, and not the default.
pub fn is_legal(field: &Field, value: u8, default: u64) -> bool {
    allowed(field, value, default, Writable::Mask(u64::MAX)).rule == &rule::ID_SAFE_ACCEPTED
}

/// Writes to each field of ID_AA64DFR0_EL1 the least legal value that KVM accepts, and returns the register.
pub fn lower(vm: &PlainVm, n: usize) -> Result<u64, Stop> {
    let default = vm.read(n, ID_AA64DFR0_EL1)?;
    for field in FIELDS {
        let mut values: Vec<u8> = (0..16).filter(|value| is_legal(field, *value, default)).collect();
        values.sort_by_key(|value| (0..16).filter(|other| field.promises_no_more(*other, *value)).count());
        for value in values {
            let lowered = field.with(vm.read(n, ID_AA64DFR0_EL1)?, value);
            let shape = Shape::from_id_aa64dfr0(lowered);
            if shape.context_aware <= shape.breakpoints
                && vm.set(n, ID_AA64DFR0_EL1, lowered)? == Answer::Accepted
            {
                break;
            }
        }
    }
    Ok(vm.read(n, ID_AA64DFR0_EL1)?)
}

/// A VM whose guest reads the debug feature registers, with the given number of vCPUs, all initialised.
pub fn new_vm(cx: &Context<'_>, vcpus: usize, features: Features) -> Result<PlainVm, Stop> {
    let mut vm = cx.plain_vm(vcpus, features, Reads::Registers(DEBUG_FEATURES.to_vec()))?;
    (0..vcpus).try_for_each(|n| vm.init(n))?;
    Ok(vm)
}

/// Compares the guest's MRS of each debug feature register on a vCPU with what userspace reads through that
/// vCPU.
pub fn guest_agrees(cx: &mut Context<'_>, vm: &mut PlainVm, n: usize) -> Result<(), Stop> {
    let guest = vm.guest_reads(n)?;
    for (reg, guest) in DEBUG_FEATURES.into_iter().zip(guest) {
        cx.count();
        let userspace = vm.read(n, reg)?;
        if guest != userspace {
            cx.find(
                format!("the guest reads {reg} otherwise"),
                format!("{guest:#x} on vCPU {n}, userspace reads {userspace:#x}"),
            );
        }
    }
    Ok(())
}

/// Writes each value of each field to a register that a run has frozen, and checks the answers and that
/// nothing changes.
pub fn late(cx: &mut Context<'_>, vm: &PlainVm, n: usize, default: u64) -> Result<(), Stop> {
    let (frozen, writable) = (vm.read(n, ID_AA64DFR0_EL1)?, vm.writable(ID_AA64DFR0_EL1));
    for field in FIELDS {
        for value in 0..16 {
            cx.count();
            let answer = vm.set(n, ID_AA64DFR0_EL1, field.with(frozen, value))?;
            let (allowed, rule) = allowed_late(field, value, frozen, default, writable);
            let reads = vm.read(n, ID_AA64DFR0_EL1)?;
            let name = named(field, value);
            let written = format!("{:#x} into {frozen:#x}, through vCPU {n}", field.with(frozen, value));
            if !allowed.contains(&answer) {
                let what = if field.get(frozen) == value { "the same value" } else { "another value" };
                let allowed: Vec<String> = allowed.iter().map(|answer| describe(*answer)).collect();
                let full = format!("{name}: {written}, allowed: {}\n  rule: {rule}", allowed.join(" or "));
                cx.find(format!("{what} {}", describe(answer)), full);
            }
            if reads != frozen {
                cx.find("the register changed".into(), format!("{name}: {written}: {reads:#x}"));
            }
        }
    }
    Ok(())
}
