// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! KVM_ARM_GET_REG_WRITABLE_MASKS (KVM API, 4.139), which kvm-ioctls does not have.

use dfr0_model::{id_write::Writable, sysreg::SysReg};
use kvm_bindings::{KVM_ARM_FEATURE_ID_RANGE_SIZE, reg_mask_range};
use kvm_ioctls::VmFd;
use std::{collections::BTreeMap, os::fd::AsRawFd};

/// KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES; bit 0 is the feature ID range.
pub const CAPABILITY: u64 = 230;

mod ioctl {
    use kvm_bindings::reg_mask_range;
    nix::ioctl_read!(kvm_arm_get_reg_writable_masks, 0xae, 0xb6, reg_mask_range);
}

/// Which bits of the ID register `reg` (op0 = 3, op1 = 0, CRn = 0) userspace may write.
pub fn of(vm: &VmFd, reg: SysReg) -> Writable {
    let mask = all(vm).and_then(|masks| masks.get(index(reg)).copied());
    mask.map_or(Writable::Unknown, Writable::Mask)
}

/// The masks of all feature ID registers that are not zero; none where the kernel has no masks.
pub fn of_all(vm: &VmFd) -> Option<BTreeMap<SysReg, u64>> {
    let registers = [0, 1, 3]
        .into_iter()
        .flat_map(|op1| (0..64).map(move |low: u16| SysReg::new(3, op1, 0, low >> 3, low & 7)));
    let masks = all(vm)?;
    Some(registers.zip(masks).filter(|(_, mask)| *mask != 0).collect())
}

fn all(vm: &VmFd) -> Option<Vec<u64>> {
    if vm.check_extension_raw(CAPABILITY) & 1 == 0 {
        return None;
    }
    let mut masks = vec![0_u64; KVM_ARM_FEATURE_ID_RANGE_SIZE as usize];
    let mut range = reg_mask_range { addr: masks.as_mut_ptr() as u64, ..Default::default() };
    // SAFETY: the ioctl writes KVM_ARM_FEATURE_ID_RANGE_SIZE words at `addr`, and `masks` holds as many.
    unsafe { ioctl::kvm_arm_get_reg_writable_masks(vm.as_raw_fd(), &mut range) }.ok()?;
    Some(masks)
}

/// `KVM_ARM_FEATURE_ID_RANGE_IDX` for op1 = 0: CRm and op2.
fn index(reg: SysReg) -> usize {
    usize::from(reg.encoding() & 0x3f)
}
