// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A protected VM, whose guest executes a list of operations.

use crate::{
    case::{Context, Stop},
    guest::Error,
    machine::Machine,
    mode::Mode,
};
use dfr0_model::protected::Op;

pub use crate::kvm::ProtectedVm;

impl Context<'_> {
    /// A protected VM whose guest executes these operations. Skips the case if the host has no protected VMs: it is known
    /// only from the mode of its KVM, and creating such a VM taints the kernel.
    pub fn protected_vm(&self, ops: &[Op]) -> Result<ProtectedVm, Stop> {
        let kvm = match self.machine() {
            Machine::Kvm(kvm) => kvm,
            Machine::Bare(_) => return Err(Error::NoVcpu("a protected VM".into()).into()),
            Machine::Paper(_) => return Err(Error::NothingRuns.into()),
        };
        match self.host().mode {
            Some(Mode::Protected) => {}
            Some(mode) => return Stop::skip(format!("KVM's mode is {mode} here: it has no protected VMs")),
            None => return Stop::skip("it is not known whether KVM's mode is protected here"),
        }
        match kvm.protected_vm(ops, self.deadline())? {
            Some(vm) => Ok(vm),
            None => Stop::skip("KVM's mode is protected, but this kernel has no protected VMs"),
        }
    }
}
