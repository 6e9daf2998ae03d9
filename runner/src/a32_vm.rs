// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A VM whose guest is in AArch32 and executes a list of operations.

use crate::{
    case::{Context, Stop},
    guest::Error,
    machine::Machine,
};
use dfr0_model::{aarch32::Op, vmm::Features};

pub use crate::kvm::A32Vm;

impl Context<'_> {
    /// A VM whose guest executes these operations. Skips the case if the host has no AArch32 at EL1, or no KVM.
    pub fn a32_vm(&self, ops: &[Op]) -> Result<A32Vm, Stop> {
        let kvm = match self.machine() {
            Machine::Kvm(kvm) => kvm,
            Machine::Bare(_) => return Err(Error::NoVcpu("a guest in AArch32".into()).into()),
            Machine::Paper(_) => return Err(Error::NothingRuns.into()),
        };
        if !kvm.can(Features::AArch32) {
            let capabilities = Features::AArch32.capabilities().join(" and ");
            return Stop::skip(format!("this host does not have {capabilities}"));
        }
        Ok(kvm.a32_vm(ops, self.deadline())?)
    }
}
