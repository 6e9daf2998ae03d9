// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! KVM_ARM_GET_REG_WRITABLE_MASKS (KVM API, 4.139), which kvm-ioctls does not have.

use dfr0_model::{id_write::Writable, sysreg::SysReg};
use kvm_bindings::{KVM_ARM_FEATURE_ID_RANGE_SIZE, reg_mask_range};
use kvm_ioctls::VmFd;
use std::os::fd::AsRawFd;

/// KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES; bit 0 is the feature ID range.
const CAPABILITY: u64 = 230;

mod ioctl {
    use kvm_bindings::reg_mask_range;
    nix::ioctl_read!(kvm_arm_get_reg_writable_masks, 0xae, 0xb6, reg_mask_range);
}

/// Which bits of the ID register `reg` (op0 = 3, op1 = 0, CRn = 0) userspace may write.
pub fn of(vm: &VmFd, reg: SysReg) -> Writable {
    if vm.check_extension_raw(CAPABILITY) & 1 == 0 {
        return Writable::Unknown;
    }
    let mut masks = vec![0_u64; KVM_ARM_FEATURE_ID_RANGE_SIZE as usize];
    let mut range = reg_mask_range { addr: masks.as_mut_ptr() as u64, ..Default::default() };
    // SAFETY: the ioctl writes KVM_ARM_FEATURE_ID_RANGE_SIZE words at `addr`, and `masks` holds as many.
    match unsafe { ioctl::kvm_arm_get_reg_writable_masks(vm.as_raw_fd(), &mut range) } {
        Ok(_) => masks.get(index(reg)).map_or(Writable::Unknown, |mask| Writable::Mask(*mask)),
        Err(_) => Writable::Unknown,
    }
}

/// `KVM_ARM_FEATURE_ID_RANGE_IDX` for op1 = 0: CRm and op2.
fn index(reg: SysReg) -> usize {
    usize::from(reg.encoding() & 0x3f)
}
