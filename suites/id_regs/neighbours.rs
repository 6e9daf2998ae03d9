// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The other debug feature registers: ID_AA64DFR1_EL1, ID_AA64DFR2_EL1, and AArch32's ID_DFR0_EL1 and
//! ID_DFR1_EL1.

use super::{
    describe, named,
    values::{DEBUG_FEATURES, Sweep, find_answers, find_reads, guest_agrees, is_legal, new_vm, sweep},
};
use dfr0_model::{
    dfr0::Field,
    id_dfr0::{COPSDBG, FIELDS},
    id_write::{Answer, EINVAL, Writable, allowed},
    rule::{self, Rule},
    sysreg::{ID_AA64DFR1_EL1, ID_AA64DFR2_EL1, ID_AA64PFR0_EL1, ID_DFR0_EL1, ID_DFR1_EL1, SysReg},
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    plain::{
        Features::{self, Pmu},
        PlainVm,
    },
};

pub fn cases() -> Vec<Case> {
    let case = |name: &str, rule: &'static Rule, test: fn(&mut Context<'_>) -> Result<(), Stop>| {
        Case::new(name, rule, test)
    };
    let fixed: [(&str, SysReg); 3] =
        [("id_aa64dfr1", ID_AA64DFR1_EL1), ("id_aa64dfr2", ID_AA64DFR2_EL1), ("id_dfr1", ID_DFR1_EL1)];
    let mut cases: Vec<Case> = fixed
        .into_iter()
        .map(|(name, reg)| {
            let name = format!("{name}.each_bit");
            Case::new(name, &rule::ID_READ_ONLY_REFUSED, move |cx| each_bit(cx, reg))
                .and(&[&rule::ID_DEFAULT_ACCEPTED, &rule::ID_READS_BACK])
        })
        .collect();
    cases.extend([
        case("id_dfr0.accepted", &rule::ID_SAFE_ACCEPTED, |cx| {
            each_sweep(cx, |cx, sweep| find_answers(cx, sweep, |allowed| allowed.accepted))
        })
        .and(&[&rule::ID_DEFAULT_ACCEPTED, &rule::ID_PMUVER_IMP_DEF]),
        case("id_dfr0.refused", &rule::ID_UNSAFE_REFUSED, |cx| {
            each_sweep(cx, |cx, sweep| {
                find_answers(cx, sweep, |allowed| {
                    !allowed.accepted && *allowed.rule != rule::ID_RESERVED_REFUSED
                })
            })
        })
        .and(&[&rule::ID_READ_ONLY_REFUSED]),
        case("id_dfr0.reserved_refused", &rule::ID_RESERVED_REFUSED, |cx| {
            reserved_refused(cx, |field| field.lsb != COPSDBG.lsb)
        }),
        case("id_dfr0.copsdbg_reserved_refused", &rule::ID_RESERVED_REFUSED, |cx| {
            reserved_refused(cx, |field| field.lsb == COPSDBG.lsb)
        }),
        case("id_dfr0.reads_back", &rule::ID_READS_BACK, |cx| each_sweep(cx, find_reads)),
        case("id_dfr0.mask", &rule::ID_MASK_COVERS_FIELDS, mask_agrees),
        case("id_dfr0.guest_reads", &rule::ID_GUEST_READS, lowered_guest_reads),
        case("id_dfr0.without_aarch32", &rule::ID_AARCH32_ABSENT, without_aarch32),
        case("debug_features.guest_reads", &rule::ID_GUEST_READS, |cx| {
            let mut vm = new_vm(cx, 1, Features::None)?;
            guest_agrees(cx, &mut vm, 0)
        }),
    ]);
    cases
}

/// Whether EL0 of the VM can use AArch32.
pub fn has_aarch32(vm: &PlainVm) -> Result<bool, Stop> {
    const BOTH: u64 = 0b0010;
    Ok(vm.read(0, ID_AA64PFR0_EL1)? & 0xf == BOTH)
}

/// The register accepts its own value and refuses a value that differs in a bit that is not writable.
fn each_bit(cx: &mut Context<'_>, reg: SysReg) -> Result<(), Stop> {
    let vm = new_vm(cx, 1, Features::None)?;
    let (default, writable) = (vm.read(0, reg)?, vm.writable(reg));
    let bits = (0..u64::BITS).map(|bit| 1 << bit);
    for flipped in bits.chain([0, u64::MAX, !default, 0xf, 0xffff]) {
        cx.count();
        let value = default ^ flipped;
        let answer = vm.set(0, reg, value)?;
        let read = vm.read(0, reg)?;
        vm.set(0, reg, default)?;
        let refused = answer == Answer::Refused(EINVAL);
        let allowed = match writable {
            _ if flipped == 0 => answer == Answer::Accepted,
            Writable::Mask(mask) if flipped & !mask != 0 => refused,
            _ => refused || answer == Answer::Accepted,
        };
        let what = if flipped == 0 { "its own value" } else { "another value" };
        let full = format!("{reg} {default:#x}: {value:#x} written, reads {read:#x}");
        if !allowed {
            cx.find(format!("{what} {}", describe(answer)), full.clone());
        }
        if read != if answer == Answer::Accepted { value } else { default } {
            cx.find(format!("{what} {}, then the register reads otherwise", describe(answer)), full);
        }
    }
    Ok(())
}

/// ID_DFR0_EL1 of a VM without a PMU, and of a VM with a PMU where the host has one.
fn each_sweep(cx: &mut Context<'_>, find: fn(&mut Context<'_>, &Sweep)) -> Result<(), Stop> {
    for sweep in sweeps(cx)? {
        find(cx, &sweep);
    }
    Ok(())
}

fn sweeps(cx: &Context<'_>) -> Result<Vec<Sweep>, Stop> {
    let mut sweeps = Vec::new();
    for features in [Features::None, Pmu] {
        let vm = match new_vm(cx, 1, features) {
            Ok(vm) => vm,
            Err(Stop::Skip(_)) if features == Pmu => continue,
            Err(stop) => return Err(stop),
        };
        if !has_aarch32(&vm)? {
            return Stop::skip("the VM has no AArch32");
        }
        sweeps.push(sweep(&vm, &FIELDS, 0, 0)?);
    }
    Ok(sweeps)
}

/// Skips where no reserved encoding promises less than KVM's value: KVM then refuses each one because it
/// promises more.
fn reserved_refused(cx: &mut Context<'_>, of: fn(&Field) -> bool) -> Result<(), Stop> {
    let mut sweeps = sweeps(cx)?;
    for sweep in &mut sweeps {
        let (default, writable) = (sweep.default, sweep.writable);
        sweep.seen.retain(|seen| {
            let rule = allowed(seen.field, seen.value, default, writable).rule;
            of(seen.field) && rule == &rule::ID_RESERVED_REFUSED
        });
    }
    if sweeps.iter().all(|sweep| sweep.seen.is_empty()) {
        return Stop::skip("no reserved encoding promises less than KVM's value");
    }
    sweeps.iter().for_each(|sweep| find_answers(cx, sweep, |_| true));
    Ok(())
}

/// A field in the mask accepts another value if one is legal. A field that is not in the mask accepts none.
fn mask_agrees(cx: &mut Context<'_>) -> Result<(), Stop> {
    for sweep in sweeps(cx)? {
        let Writable::Mask(mask) = sweep.writable else {
            return Stop::skip("this kernel has no KVM_ARM_GET_REG_WRITABLE_MASKS");
        };
        for field in FIELDS {
            cx.count();
            let in_mask = mask & field.mask();
            let legal = sweep
                .seen
                .iter()
                .filter(|seen| seen.field.lsb == field.lsb && is_legal(field, seen.value, sweep.default));
            let (mut any_legal, mut any_accepted) = (false, false);
            for seen in legal {
                any_legal = true;
                any_accepted |= seen.answer == Answer::Accepted;
            }
            let full = format!("mask {mask:#x}, default {:#x}", sweep.default);
            if in_mask != 0 && in_mask != field.mask() {
                cx.find(format!("{} is in the mask in part", field.name), full);
            } else if in_mask == 0 && any_accepted {
                cx.find(format!("{} is not in the mask and is writable", field.name), full);
            } else if in_mask != 0 && any_legal && !any_accepted {
                cx.find(format!("{} is in the mask and not writable", field.name), full);
            }
        }
    }
    Ok(())
}

/// For each field, a VM with the first legal value that KVM accepts.
fn lowered_guest_reads(cx: &mut Context<'_>) -> Result<(), Stop> {
    for field in FIELDS {
        let mut vm = new_vm(cx, 1, Features::None)?;
        if !has_aarch32(&vm)? {
            return Stop::skip("the VM has no AArch32");
        }
        let default = vm.read(0, ID_DFR0_EL1)?;
        for value in (0..16).filter(|value| is_legal(field, *value, default)) {
            if vm.set(0, ID_DFR0_EL1, field.with(default, value))? == Answer::Accepted {
                guest_agrees(cx, &mut vm, 0)?;
                let read = vm.read(0, ID_DFR0_EL1)?;
                if field.get(read) != value {
                    cx.find(
                        format!("{} accepted, then a run changed it", named(field, value)),
                        format!("{read:#x}"),
                    );
                }
                break;
            }
        }
    }
    Ok(())
}

/// Any value is accepted and ignored, before a run and after it.
fn without_aarch32(cx: &mut Context<'_>) -> Result<(), Stop> {
    let mut vm = new_vm(cx, 1, Features::None)?;
    if has_aarch32(&vm)? {
        return Stop::skip("the VM has AArch32");
    }
    for moment in ["before a run", "after a run"] {
        for value in (0..u64::BITS).map(|bit| 1 << bit).chain([0, u64::MAX]) {
            cx.count();
            let answer = vm.set(0, ID_DFR0_EL1, value)?;
            let read = vm.read(0, ID_DFR0_EL1)?;
            if answer != Answer::Accepted {
                cx.find(format!("a value {}", describe(answer)), format!("{value:#x}, {moment}"));
            }
            if read != 0 {
                cx.find("the register is not zero".into(), format!("{read:#x}, {moment}"));
            }
        }
        let guest = vm.guest_reads(0)?;
        let place = DEBUG_FEATURES.iter().position(|reg| *reg == ID_DFR0_EL1);
        if place.and_then(|place| guest.get(place)) != Some(&0) {
            cx.find("the guest's is not zero".into(), format!("{guest:#x?}"));
        }
    }
    Ok(())
}
