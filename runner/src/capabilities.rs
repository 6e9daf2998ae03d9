// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! KVM's capabilities that matter to a guest's debug hardware.

use serde::{Deserialize, Serialize};

/// The answers of KVM_CHECK_EXTENSION, by KVM's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", deny_unknown_fields)]
pub struct Capabilities {
    /// The number of the host's breakpoints.
    pub kvm_cap_guest_debug_hw_bps: i32,
    /// The number of the host's watchpoints.
    pub kvm_cap_guest_debug_hw_wps: i32,
    /// Whether KVM has KVM_SET_GUEST_DEBUG.
    pub kvm_cap_set_guest_debug: i32,
    /// The bits that KVM_SET_GUEST_DEBUG accepts.
    pub kvm_cap_set_guest_debug2: i32,
    /// The largest IPA space, in bits.
    pub kvm_cap_arm_vm_ipa_size: i32,
    /// Whether EL1 can have AArch32 state.
    pub kvm_cap_arm_el1_32bit: i32,
    /// The ranges of KVM_ARM_GET_REG_WRITABLE_MASKS, one bit per range.
    pub kvm_cap_arm_supported_reg_mask_ranges: i32,
    /// Whether MIDR_EL1, REVIDR_EL1 and AIDR_EL1 can be made writable.
    pub kvm_cap_arm_writable_imp_id_regs: i32,
}

impl Capabilities {
    /// Each capability with its name.
    pub fn all(&self) -> [(&'static str, i32); 8] {
        [
            ("KVM_CAP_GUEST_DEBUG_HW_BPS", self.kvm_cap_guest_debug_hw_bps),
            ("KVM_CAP_GUEST_DEBUG_HW_WPS", self.kvm_cap_guest_debug_hw_wps),
            ("KVM_CAP_SET_GUEST_DEBUG", self.kvm_cap_set_guest_debug),
            ("KVM_CAP_SET_GUEST_DEBUG2", self.kvm_cap_set_guest_debug2),
            ("KVM_CAP_ARM_VM_IPA_SIZE", self.kvm_cap_arm_vm_ipa_size),
            ("KVM_CAP_ARM_EL1_32BIT", self.kvm_cap_arm_el1_32bit),
            ("KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES", self.kvm_cap_arm_supported_reg_mask_ranges),
            ("KVM_CAP_ARM_WRITABLE_IMP_ID_REGS", self.kvm_cap_arm_writable_imp_id_regs),
        ]
    }
}
