// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! KVM_ARM_GET_REG_WRITABLE_MASKS: its arguments, and whether the masks of all ID registers say what
//! userspace may write.

use super::{values::id_registers, vm, whole};
use dfr0_model::{
    id_register,
    id_write::Writable,
    rule,
    scenario::{Op, Scenario},
    vm::Facts,
    vmm::{Features, MaskRequest, Vmm},
};
use dfr0_runner::case::{Case, Context, Stop};
use std::sync::Arc;

pub fn cases() -> Vec<Case> {
    vec![
        whole("masks.capability", &rule::MASKS_ARGUMENTS, |cx| {
            cx.check_vm(
                &vm().then(Op::Vmm(Vmm::MaskRanges)).then(Op::Vmm(Vmm::Masks(MaskRequest::default()))),
            )
        }),
        whole("masks.arguments", &rule::MASKS_ARGUMENTS, arguments),
        whole("masks.same_value", &rule::ID_DEFAULT_ACCEPTED, |cx| {
            let facts = cx.facts(Features::None)?;
            let same =
                facts.registers.iter().map(|(reg, id)| Scenario::new().sets(*reg, id.default).gets(*reg));
            cx.check_after(&vm(), same.chain([unchanged(&facts)]))
        }),
        whole("masks.outside", &rule::MASKS_TELL_WHAT_CHANGES, outside)
            .and(&[&rule::ID_READ_ONLY_REFUSED, &rule::ID_READS_BACK]),
        whole("masks.inside", &rule::ID_READS_BACK, inside)
            .and(&[&rule::ID_PMUVER_IMP_DEF, &rule::ID_AARCH32_ABSENT]),
        whole("masks.without_aarch32", &rule::MASKS_ARE_NO_MORE, without_aarch32),
        whole("masks.of_registers", &rule::MASKS_ARE_OF_REGISTERS, of_registers),
        whole("masks.known_fields", &rule::MASKS_KEEP_FIELDS, known_fields)
            .and(&[&rule::ID_MASK_COVERS_FIELDS]),
    ]
}

/// The facts of VMs under a kernel with masks.
fn facts(cx: &mut Context<'_>) -> Result<Arc<Facts>, Stop> {
    let facts = cx.facts(Features::None)?;
    match facts.mask_ranges & 1 {
        0 => Stop::skip("this kernel has no KVM_ARM_GET_REG_WRITABLE_MASKS"),
        _ => Ok(facts),
    }
}

fn unchanged(facts: &Facts) -> Scenario {
    Scenario::new().gets_each(id_registers(facts))
}

/// Reserved words that are not zero, ranges that the capability does not have, and an address that is not
/// mapped.
fn arguments(cx: &mut Context<'_>) -> Result<(), Stop> {
    facts(cx)?;
    let plain = MaskRequest::default();
    let words = (0..MaskRequest::RESERVED)
        .flat_map(|place| [1, 1 << 7, 1 << 8, 1 << 16, 1 << 31].map(|word| (place, word)));
    let reserved = words.map(|word| MaskRequest { reserved: Some(word), ..plain });
    let ranges =
        [1, 2, 63, 64, 1 << 31, u32::MAX].map(|range| MaskRequest { range, unmapped: true, ..plain });
    let all = reserved.chain(ranges).chain([MaskRequest { unmapped: true, ..plain }]);
    cx.check_after(&vm(), all.map(|request| Scenario::new().then(Op::Vmm(Vmm::Masks(request)))))
}

/// Bits outside of the mask, one by one and all at once.
fn outside(cx: &mut Context<'_>) -> Result<(), Stop> {
    let facts = facts(cx)?;
    let writes = facts.registers.iter().flat_map(|(reg, id)| {
        let Writable::Mask(mask) = id.writable else { return Vec::new() };
        let bits = (0..u64::BITS).map(|bit| 1 << bit).filter(|bit| mask & bit == 0);
        let flipped = bits.chain([!mask]).filter(|flipped| *flipped != 0);
        flipped.map(|flipped| Scenario::new().sets(*reg, id.default ^ flipped).gets(*reg)).collect()
    });
    cx.check_after(&vm(), writes.chain([unchanged(&facts)]))
}

/// Bits inside the mask, one by one. KVM may accept or refuse each, and the register reads as KVM answered.
fn inside(cx: &mut Context<'_>) -> Result<(), Stop> {
    let facts = cx.facts(Features::None)?;
    let writes = facts.registers.iter().flat_map(|(reg, id)| {
        let mask = match id.writable {
            Writable::Mask(mask) => mask,
            Writable::Unknown => u64::MAX,
        };
        let bits = (0..u64::BITS).filter(move |bit| mask >> bit & 1 == 1);
        bits.map(|bit| {
            Scenario::new().tries(*reg, id.default ^ 1 << bit).gets(*reg).sets(*reg, id.default).gets(*reg)
        })
    });
    cx.check_after(&vm(), writes.chain([unchanged(&facts)]))
}

/// The masks of AArch32's registers are zero where KVM ignores writes to them.
fn without_aarch32(cx: &mut Context<'_>) -> Result<(), Stop> {
    let facts = facts(cx)?;
    if facts.has_aarch32() {
        return Stop::skip("the VM has AArch32");
    }
    let registers = id_registers(&facts).into_iter().filter(|reg| id_register::is_aarch32(*reg));
    cx.check_after(&vm(), registers.map(|reg| Scenario::new().mask_of(reg)))
}

/// Each mask that is not zero is that of a register.
fn of_registers(cx: &mut Context<'_>) -> Result<(), Stop> {
    let facts = facts(cx)?;
    for (reg, mask) in &facts.masks {
        cx.count();
        if !facts.registers.contains_key(reg) && !facts.listed.contains_key(reg) {
            cx.find(
                "an encoding that is no register's has a writable mask".into(),
                format!("the writable mask of {reg} is {mask:#x}, and KVM_GET_REG_LIST does not list it"),
            );
        }
    }
    Ok(())
}

/// Every field that userspace could write under an earlier kernel is in the mask, and no field is there in part.
fn known_fields(cx: &mut Context<'_>) -> Result<(), Stop> {
    let facts = cx.facts(Features::None)?;
    let is_there = |reg| facts.has_aarch32() || !id_register::is_aarch32(reg);
    let known: Vec<_> = facts.known.keys().copied().filter(|reg| is_there(*reg)).collect();
    if known.is_empty() {
        return Stop::skip("dfr0 knows of no field that userspace could write under an earlier kernel");
    }
    cx.check_after(&vm(), known.into_iter().map(|reg| Scenario::new().mask_of(reg)))
}
