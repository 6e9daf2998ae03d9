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
use dfr0_model::{aarch32::Op, sysreg::SysReg};

pub use dfr0_model::vmm::{Features, MaskRequest, StepState};

/// What the guest of a [`PlainVm`] reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reads {
    /// In AArch64, these registers.
    Registers(Vec<SysReg>),
    /// In AArch32, the guest executes these operations.
    A32(Vec<Op>),
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
