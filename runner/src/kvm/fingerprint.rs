// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! This host's fingerprint, from a VM that never runs.

use super::{device::Kvm, vm::Vcpu, writable_masks};
use crate::{
    fingerprint::{Capabilities, Fingerprint, Masks, Source},
    guest::{Config, Cpu, Error},
    register_id::RegisterId,
};
use dfr0_model::{id_register, sysreg::SysReg};
use kvm_bindings::{KVM_CAP_ARM_EL1_32BIT, KVM_CAP_SET_GUEST_DEBUG, KVM_CAP_SET_GUEST_DEBUG2};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// KVM_CAP_ARM_WRITABLE_IMP_ID_REGS.
const WRITABLE_IMP_ID_REGS: u64 = 239;

impl Kvm {
    /// The host's fingerprint.
    pub fn fingerprint(&self) -> Result<Fingerprint, Error> {
        let host = self.host()?;
        let vcpu = Vcpu::new(self, Config::default(), Duration::ZERO)?;
        let registers = vcpu
            .register_ids()?
            .into_iter()
            .map(|id| {
                RegisterId::new(id).ok_or_else(|| {
                    Error::Unfit(format!("KVM_GET_REG_LIST lists {id:#x}, which is no register"))
                })
            })
            .collect::<Result<BTreeSet<_>, _>>()?;
        let id_registers: BTreeMap<SysReg, u64> = registers
            .iter()
            .filter_map(|id| id.system_register())
            .filter(|reg| id_register::is_feature_id(*reg))
            .map(|reg| Ok((reg, vcpu.get(reg)?)))
            .collect::<Result<_, Error>>()?;
        let capability = |number: u64| vcpu.vm().check_extension_raw(number);
        Ok(Fingerprint {
            source: Source::Dfr0(env!("CARGO_PKG_VERSION").into()),
            kernel: host.kernel.unwrap_or_default(),
            platform: Some(host.platform),
            capabilities: Some(Capabilities {
                kvm_cap_guest_debug_hw_bps: host.guest_debug_breakpoints,
                kvm_cap_guest_debug_hw_wps: host.guest_debug_watchpoints,
                kvm_cap_set_guest_debug: capability(KVM_CAP_SET_GUEST_DEBUG.into()),
                kvm_cap_set_guest_debug2: capability(KVM_CAP_SET_GUEST_DEBUG2.into()),
                kvm_cap_arm_vm_ipa_size: host.ipa_bits,
                kvm_cap_arm_el1_32bit: capability(KVM_CAP_ARM_EL1_32BIT.into()),
                kvm_cap_arm_supported_reg_mask_ranges: capability(writable_masks::CAPABILITY),
                kvm_cap_arm_writable_imp_id_regs: capability(WRITABLE_IMP_ID_REGS),
            }),
            id_registers,
            masks: writable_masks::of_all(vcpu.vm()).map_or(Masks::Absent, Masks::Known),
            registers,
        })
    }
}
