// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A VM whose vCPUs a case handles one ioctl at a time, for what KVM promises to userspace: before
//! KVM_ARM_VCPU_INIT and after a second one, one vCPU beside another, with vCPU features, in AArch32.
//!
//! Its guest does not run the payload. It is a few instructions that read registers and store each value to
//! an address that exits to userspace, or in AArch32 the operations of a scenario.

pub use crate::kvm::PlainVm;
use crate::{
    case::{Context, Stop},
    guest::Error,
    machine::Machine,
};
use dfr0_model::{aarch32::Op, feature::Feature, sysreg::SysReg};
use std::fmt;

/// The features that userspace requests for a VM and its vCPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Features {
    /// Nothing.
    #[default]
    None,
    /// KVM_ARM_VCPU_PMU_V3, and KVM_ARM_VCPU_PMU_V3_INIT after it.
    Pmu,
    /// KVM_ARM_VCPU_SVE, and KVM_ARM_VCPU_FINALIZE after it.
    Sve,
    /// KVM_ARM_VCPU_PTRAUTH_ADDRESS and KVM_ARM_VCPU_PTRAUTH_GENERIC.
    PointerAuthentication,
    /// KVM_ARM_VCPU_EL1_32BIT: the guest is in AArch32.
    AArch32,
    /// KVM_CAP_ARM_MTE, before the first vCPU is created.
    MemoryTagging,
}

impl Features {
    /// The capabilities that a host must have for these features.
    pub const fn capabilities(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Pmu => &["KVM_CAP_ARM_PMU_V3"],
            Self::Sve => &["KVM_CAP_ARM_SVE"],
            Self::PointerAuthentication => &["KVM_CAP_ARM_PTRAUTH_ADDRESS", "KVM_CAP_ARM_PTRAUTH_GENERIC"],
            Self::AArch32 => &["KVM_CAP_ARM_EL1_32BIT"],
            Self::MemoryTagging => &["KVM_CAP_ARM_MTE"],
        }
    }

    /// The features of a VM whose guest must have this feature, if it has to be requested.
    pub const fn for_guest(feature: Feature) -> Self {
        match feature {
            Feature::Sve => Self::Sve,
            Feature::Mte2 => Self::MemoryTagging,
            Feature::Lse | Feature::Uao | Feature::Mops => Self::None,
        }
    }
}

/// What the guest of a [`PlainVm`] reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reads {
    /// In AArch64, these registers.
    Registers(Vec<SysReg>),
    /// In AArch32, the guest executes these operations.
    A32(Vec<Op>),
}

/// The parts of a vCPU's step state that KVM does not list as system registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// PSTATE.
    Pstate,
    /// SPSR_EL1, from which an exception return takes PSTATE.
    SpsrEl1,
}

impl fmt::Display for StepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pstate => "PSTATE",
            Self::SpsrEl1 => "SPSR_EL1",
        })
    }
}

/// The argument of a KVM_ARM_GET_REG_WRITABLE_MASKS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaskRequest {
    /// `range`.
    pub range: u32,
    /// `reserved`.
    pub reserved: [u32; 13],
    /// `addr` is an address where nothing is mapped.
    pub unmapped: bool,
}

impl Context<'_> {
    /// A VM with this number of vCPUs, which are not initialised; `features` are for their initialisation.
    /// Skips the case if the host does not have the capabilities, or there is no KVM.
    pub fn plain_vm(&self, vcpus: usize, features: Features, reads: Reads) -> Result<PlainVm, Stop> {
        let kvm = match self.machine() {
            Machine::Kvm(kvm) => kvm,
            Machine::Bare(_) => return Err(Error::NoVcpu("vCPUs handled one ioctl at a time".into()).into()),
            Machine::Paper(_) => return Err(Error::NothingRuns.into()),
        };
        if !kvm.can(features) {
            return Stop::skip(format!("this host does not have {}", features.capabilities().join(" and ")));
        }
        Ok(kvm.plain_vm(vcpus, features, reads, self.deadline())?)
    }
}
