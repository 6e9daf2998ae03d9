// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! KVM_ARM_GET_REG_WRITABLE_MASKS: its arguments, and whether the masks of all ID registers say what
//! userspace may write.

use super::{
    describe,
    neighbours::has_aarch32,
    values::{id_registers, new_vm},
};
use dfr0_model::{
    dfr0::{Field, PMUVER, PMUVER_IMP_DEF, PMUVER_NI},
    id_dfr0::PERFMON,
    id_register,
    id_write::{Answer, EFAULT, EINVAL, Writable},
    rule,
    sysreg::SysReg,
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    kernel_version::KernelVersion,
    known_fields::writable_under,
    plain::{Features, MaskRequest, PlainVm},
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("masks.capability", &rule::MASKS_ARGUMENTS, capability),
        Case::new("masks.arguments", &rule::MASKS_ARGUMENTS, arguments),
        Case::new("masks.same_value", &rule::ID_DEFAULT_ACCEPTED, same_value),
        Case::new("masks.outside", &rule::MASKS_TELL_WHAT_CHANGES, outside)
            .and(&[&rule::ID_READ_ONLY_REFUSED, &rule::ID_READS_BACK]),
        Case::new("masks.inside", &rule::ID_READS_BACK, inside)
            .and(&[&rule::ID_PMUVER_IMP_DEF, &rule::ID_AARCH32_ABSENT]),
        Case::new("masks.without_aarch32", &rule::MASKS_ARE_NO_MORE, without_aarch32),
        Case::new("masks.known_fields", &rule::MASKS_KEEP_FIELDS, known_fields),
    ]
}

fn vm(cx: &Context<'_>) -> Result<PlainVm, Stop> {
    new_vm(cx, 1, Features::None)
}

/// The capability contains the feature ID range if and only if the ioctl supports it.
fn capability(cx: &mut Context<'_>) -> Result<(), Stop> {
    let vm = vm(cx)?;
    cx.count();
    let (ranges, masks) = (vm.mask_ranges(), vm.writable_masks(MaskRequest::default()));
    if (ranges & 1 == 1) != masks.is_ok() {
        let answer = masks.map_or_else(Answer::Refused, |_| Answer::Accepted);
        let short = format!("the ioctl {}, and the capability says otherwise", describe(answer));
        cx.find(short, format!("KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES is {ranges:#x}"));
    }
    Ok(())
}

fn arguments(cx: &mut Context<'_>) -> Result<(), Stop> {
    let vm = vm(cx)?;
    let ranges = vm.mask_ranges();
    if ranges & 1 == 0 {
        return Stop::skip("this kernel has no KVM_ARM_GET_REG_WRITABLE_MASKS");
    }
    let mut check = |what: &str, request: MaskRequest, errno: i32| {
        cx.count();
        let answer = vm.writable_masks(request).map_or_else(Answer::Refused, |_| Answer::Accepted);
        if answer != Answer::Refused(errno) {
            cx.find(format!("{what}: {}", describe(answer)), format!("{request:?}, allowed: errno {errno}"));
        }
    };
    let plain = MaskRequest::default();
    for place in 0..plain.reserved.len() {
        for value in [1, 1 << 7, 1 << 8, 1 << 16, 1 << 31] {
            let mut reserved = plain.reserved;
            reserved[place] = value;
            check("a reserved word that is not zero", MaskRequest { reserved, ..plain }, EINVAL);
        }
    }
    for range in [1, 2, 63, 64, 1 << 31, u32::MAX] {
        if range >= u64::BITS || ranges >> range & 1 == 0 {
            check("a range that the capability does not have", MaskRequest { range, ..plain }, EINVAL);
        }
    }
    check("an address that is not mapped", MaskRequest { unmapped: true, ..plain }, EFAULT);
    Ok(())
}

/// Every ID register accepts its own value.
fn same_value(cx: &mut Context<'_>) -> Result<(), Stop> {
    let vm = vm(cx)?;
    let before = id_registers(&vm, 0)?;
    for (reg, value) in &before {
        cx.count();
        let answer = vm.set(0, *reg, *value)?;
        if answer != Answer::Accepted {
            cx.find(format!("its own value {}", describe(answer)), format!("{reg} {value:#x}"));
        }
    }
    unchanged(cx, &before, &vm)
}

/// The masks of AArch32's registers are zero where KVM ignores writes to them.
fn without_aarch32(cx: &mut Context<'_>) -> Result<(), Stop> {
    let vm = vm(cx)?;
    if has_aarch32(&vm)? {
        return Stop::skip("the VM has AArch32");
    }
    for (reg, _) in id_registers(&vm, 0)?.iter().filter(|(reg, _)| id_register::is_aarch32(*reg)) {
        let Writable::Mask(mask) = vm.writable(*reg) else {
            return Stop::skip("this kernel has no KVM_ARM_GET_REG_WRITABLE_MASKS");
        };
        cx.count();
        if mask != 0 {
            cx.find("a register of AArch32 has a writable mask".into(), format!("{reg}: {mask:#x}"));
        }
    }
    Ok(())
}

/// Every field that userspace could write under an earlier kernel is in the mask.
fn known_fields(cx: &mut Context<'_>) -> Result<(), Stop> {
    let vm = vm(cx)?;
    let has_aarch32 = has_aarch32(&vm)?;
    let release = cx.host().kernel.clone().unwrap_or_default();
    let Some(version) = KernelVersion::of_release(&release) else {
        return Stop::skip(format!("the kernel release \"{release}\" does not begin with a version"));
    };
    let is_there = |field: &&Field| has_aarch32 || !id_register::is_aarch32(field.reg);
    let mut known = writable_under(version).filter(is_there).peekable();
    if known.peek().is_none() {
        return Stop::skip("dfr0 knows of no field that userspace could write under an earlier kernel");
    }
    for field in known {
        cx.count();
        let is_writable =
            matches!(vm.writable(field.reg), Writable::Mask(mask) if mask & field.mask() == field.mask());
        if !is_writable {
            cx.find(
                format!("{}.{} cannot be written any more", field.reg, field.name),
                format!("userspace could write it under a kernel earlier than {release}"),
            );
        }
    }
    Ok(())
}

/// Bits outside of the mask, one by one and all at once.
fn outside(cx: &mut Context<'_>) -> Result<(), Stop> {
    let vm = vm(cx)?;
    let before = id_registers(&vm, 0)?;
    for (reg, value) in &before {
        let Writable::Mask(mask) = vm.writable(*reg) else {
            return Stop::skip("this kernel has no KVM_ARM_GET_REG_WRITABLE_MASKS");
        };
        let bits = (0..u64::BITS).map(|bit| 1 << bit).filter(|bit| mask & bit == 0);
        for flipped in bits.chain([!mask]).filter(|flipped| *flipped != 0) {
            cx.count();
            let other = value ^ flipped;
            let answer = vm.set(0, *reg, other)?;
            let read = vm.read(0, *reg)?;
            let full = || format!("{reg} {value:#x}, mask {mask:#x}: {other:#x} written, reads {read:#x}");
            if read != *value {
                cx.find(format!("a bit outside of the mask {}, and changed", describe(answer)), full());
                vm.set(0, *reg, *value)?;
            }
            if !matches!(answer, Answer::Accepted | Answer::Refused(EINVAL)) {
                cx.find(format!("a bit outside of the mask {}", describe(answer)), full());
            }
        }
    }
    unchanged(cx, &before, &vm)
}

/// Bits inside the mask, one by one. KVM may accept or refuse each, and the register reads as KVM answered.
fn inside(cx: &mut Context<'_>) -> Result<(), Stop> {
    let vm = vm(cx)?;
    let before = id_registers(&vm, 0)?;
    let has_aarch32 = has_aarch32(&vm)?;
    for (reg, value) in &before {
        let mask = match vm.writable(*reg) {
            Writable::Mask(mask) => mask,
            Writable::Unknown => u64::MAX,
        };
        let is_ignored = !has_aarch32 && id_register::is_aarch32(*reg);
        for bit in (0..u64::BITS).filter(|bit| mask >> bit & 1 == 1) {
            cx.count();
            let other = value ^ 1 << bit;
            let answer = vm.set(0, *reg, other)?;
            let read = vm.read(0, *reg)?;
            let is_taken = answer == Answer::Accepted && !is_ignored;
            let expected = if is_taken { taken(*reg, other) } else { *value };
            let taken_back = vm.set(0, *reg, *value)?;
            let full = || format!("{reg} {value:#x}, mask {mask:#x}: {other:#x} written, reads {read:#x}");
            if read != expected {
                let short = format!("a value {}, then the register reads otherwise", describe(answer));
                cx.find(short, format!("{}, allowed: {expected:#x}", full()));
            }
            if !matches!(answer, Answer::Accepted | Answer::Refused(EINVAL)) {
                cx.find(format!("a value {}", describe(answer)), full());
            }
            if taken_back != Answer::Accepted {
                cx.find(format!("the value before {}", describe(taken_back)), full());
            }
        }
    }
    unchanged(cx, &before, &vm)
}

/// The value that the register reads after KVM accepted `value`: an IMPLEMENTATION DEFINED PMU reads as no
/// PMU.
fn taken(reg: SysReg, value: u64) -> u64 {
    let is_imp_def = |field: &&&Field| field.reg == reg && field.get(value) == PMUVER_IMP_DEF;
    [&PMUVER, &PERFMON].iter().find(is_imp_def).map_or(value, |field| field.with(value, PMUVER_NI))
}

/// Every ID register reads the same as before.
fn unchanged(cx: &mut Context<'_>, before: &[(SysReg, u64)], vm: &PlainVm) -> Result<(), Stop> {
    cx.count();
    let after = id_registers(vm, 0)?;
    for ((reg, before), (_, after)) in before.iter().zip(&after).filter(|(before, after)| before != after) {
        cx.find("an ID register reads otherwise afterwards".into(), format!("{reg} {before:#x}, {after:#x}"));
    }
    Ok(())
}
