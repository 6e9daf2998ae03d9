// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The features that userspace requests for a VM and its vCPUs.

use super::device::Kvm;
use crate::guest::Error;
use dfr0_model::vmm::Features;
use kvm_bindings::{
    KVM_ARM_VCPU_EL1_32BIT, KVM_ARM_VCPU_HAS_EL2, KVM_ARM_VCPU_PMU_V3, KVM_ARM_VCPU_PMU_V3_CTRL,
    KVM_ARM_VCPU_PMU_V3_INIT, KVM_ARM_VCPU_PTRAUTH_ADDRESS, KVM_ARM_VCPU_PTRAUTH_GENERIC, KVM_ARM_VCPU_SVE,
    KVM_CAP_ARM_EL1_32BIT, KVM_CAP_ARM_MTE, KVM_CAP_ARM_PMU_V3, KVM_CAP_ARM_PTRAUTH_ADDRESS,
    KVM_CAP_ARM_PTRAUTH_GENERIC, KVM_CAP_ARM_SVE, kvm_device_attr, kvm_vcpu_init,
};
use kvm_ioctls::{VcpuFd, VmFd};

/// KVM_CAP_ARM_EL2 (KVM API, KVM_ARM_VCPU_INIT).
pub(super) const KVM_CAP_ARM_EL2: u32 = 240;

impl Kvm {
    /// The host has what these features need.
    pub fn can(&self, features: Features) -> bool {
        let capabilities: &[u32] = match features {
            Features::None => &[],
            Features::Pmu => &[KVM_CAP_ARM_PMU_V3],
            Features::Sve => &[KVM_CAP_ARM_SVE],
            Features::PointerAuthentication => &[KVM_CAP_ARM_PTRAUTH_ADDRESS, KVM_CAP_ARM_PTRAUTH_GENERIC],
            Features::AArch32 => &[KVM_CAP_ARM_EL1_32BIT],
            Features::MemoryTagging => &[KVM_CAP_ARM_MTE],
            Features::El2 => &[KVM_CAP_ARM_EL2],
        };
        capabilities.iter().all(|capability| self.0.check_extension_raw((*capability).into()) > 0)
    }
}

/// The bits of these features in KVM_ARM_VCPU_INIT.
pub(super) const fn bits(features: Features) -> &'static [u32] {
    match features {
        Features::None | Features::MemoryTagging => &[],
        Features::Pmu => &[KVM_ARM_VCPU_PMU_V3],
        Features::Sve => &[KVM_ARM_VCPU_SVE],
        Features::PointerAuthentication => &[KVM_ARM_VCPU_PTRAUTH_ADDRESS, KVM_ARM_VCPU_PTRAUTH_GENERIC],
        Features::AArch32 => &[KVM_ARM_VCPU_EL1_32BIT],
        Features::El2 => &[KVM_ARM_VCPU_HAS_EL2],
    }
}

/// KVM_ARM_VCPU_INIT with these features.
pub(super) fn init(vm: &VmFd, vcpu: &VcpuFd, bits: &[u32]) -> Result<(), Error> {
    let mut target = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut target).map_err(failed("KVM_ARM_PREFERRED_TARGET"))?;
    target.features[0] |= bits.iter().fold(0, |bits, feature| bits | 1 << feature);
    vcpu.vcpu_init(&target).map_err(failed(&format!("KVM_ARM_VCPU_INIT with the features {bits:?}")))
}

/// What the features need after the first KVM_ARM_VCPU_INIT.
pub(super) fn complete(vcpu: &VcpuFd, features: Features) -> Result<(), Error> {
    match features {
        Features::Pmu => {
            let attribute = kvm_device_attr {
                group: KVM_ARM_VCPU_PMU_V3_CTRL,
                attr: KVM_ARM_VCPU_PMU_V3_INIT.into(),
                ..Default::default()
            };
            vcpu.set_device_attr(&attribute).map_err(failed("KVM_ARM_VCPU_PMU_V3_INIT"))
        }
        Features::Sve => {
            let finalized = vcpu.vcpu_finalize(&(KVM_ARM_VCPU_SVE as i32));
            finalized.map_err(failed("KVM_ARM_VCPU_FINALIZE of SVE"))
        }
        _ => Ok(()),
    }
}

fn failed(what: &str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    let what = what.to_owned();
    move |error| Error::System { what, source: error.into() }
}
