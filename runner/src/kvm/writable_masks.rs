// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! KVM_ARM_GET_REG_WRITABLE_MASKS (KVM API, 4.139), which kvm-ioctls does not have.

use dfr0_model::{id_write::Writable, sysreg::SysReg, vmm::MaskRequest};
use kvm_bindings::{
    KVM_ARM_FEATURE_ID_RANGE, KVM_ARM_FEATURE_ID_RANGE_SIZE, KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES,
    reg_mask_range,
};
use kvm_ioctls::VmFd;
use std::{collections::BTreeMap, os::fd::AsRawFd};

/// KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES; bit 0 is the feature ID range.
const CAPABILITY: u64 = KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES as u64;

mod ioctl {
    use kvm_bindings::reg_mask_range;
    nix::ioctl_read!(kvm_arm_get_reg_writable_masks, 0xae, 0xb6, reg_mask_range);
}

/// The ranges that the kernel has, one bit each.
pub fn ranges(vm: &VmFd) -> u64 {
    u64::try_from(vm.check_extension_raw(CAPABILITY)).unwrap_or(0)
}

/// The masks of a range, or the errno of a refusal.
pub fn read(vm: &VmFd, request: MaskRequest) -> Result<Vec<u64>, i32> {
    // KVM writes all of them, also those that are zero.
    let mut masks = vec![u64::MAX; KVM_ARM_FEATURE_ID_RANGE_SIZE as usize];
    // Nothing of this process is mapped at the top of the address space. Another range may have another size.
    let unmapped = request.unmapped || request.range != KVM_ARM_FEATURE_ID_RANGE;
    let addr = if unmapped { u64::MAX << 12 } else { masks.as_mut_ptr() as u64 };
    let mut range = reg_mask_range { addr, range: request.range, ..Default::default() };
    if let Some((place, word)) = request.reserved {
        range.reserved[usize::from(place) % range.reserved.len()] = word;
    }
    // SAFETY: the ioctl writes KVM_ARM_FEATURE_ID_RANGE_SIZE words at `addr`. That is `masks`, which holds as
    // many, or an address of the kernel's, to which it refuses to write.
    match unsafe { ioctl::kvm_arm_get_reg_writable_masks(vm.as_raw_fd(), &mut range) } {
        Ok(_) => Ok(masks),
        Err(errno) => Err(errno as i32),
    }
}

/// Which bits of the ID register `reg` (op0 = 3, op1 = 0, CRn = 0) userspace may write.
pub fn of(vm: &VmFd, reg: SysReg) -> Writable {
    let mask = all(vm).and_then(|masks| masks.get(index(reg)).copied());
    mask.map_or(Writable::Unknown, Writable::Mask)
}

/// The masks of all feature ID registers that are not zero; `None` if the kernel does not have masks.
pub fn of_all(vm: &VmFd) -> Option<BTreeMap<SysReg, u64>> {
    let registers = [0, 1, 3]
        .into_iter()
        .flat_map(|op1| (0..64).map(move |low: u16| SysReg::new(3, op1, 0, low >> 3, low & 7)));
    let masks = all(vm)?;
    Some(registers.zip(masks).filter(|(_, mask)| *mask != 0).collect())
}

fn all(vm: &VmFd) -> Option<Vec<u64>> {
    if ranges(vm) >> KVM_ARM_FEATURE_ID_RANGE & 1 == 0 {
        return None;
    }
    read(vm, MaskRequest::default()).ok()
}

/// `KVM_ARM_FEATURE_ID_RANGE_IDX` for op1 = 0: CRm and op2.
fn index(reg: SysReg) -> usize {
    usize::from(reg.encoding() & 0x3f)
}
