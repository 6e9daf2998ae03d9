// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The vCPUs of a VM, and their numbers.

use super::features;
use crate::guest::Error;
use dfr0_model::vmm::Features;
use kvm_ioctls::{VcpuFd, VmFd};

/// The least number of vCPUs that are created in advance, if there are moves to come: a VM then serves some programs.
const FEW: usize = 8;

/// How many vCPUs a VM has had, and those that wait for a move.
///
/// They are created before the first KVM_RUN: pKVM runs no vCPU that is created later, and elsewhere KVM_CREATE_VCPU
/// then waits until every CPU has seen it.
#[derive(Debug, Default)]
pub struct Vcpus {
    created: u64,
    /// Not initialised.
    spare: Vec<(u64, VcpuFd)>,
    /// One of them has run.
    ran: bool,
}

impl Vcpus {
    /// KVM_CREATE_VCPU with the next number.
    pub fn create(&mut self, vm: &VmFd) -> Result<(u64, VcpuFd), Error> {
        let id = self.created;
        let vcpu = vm.create_vcpu(id).map_err(failed("KVM_CREATE_VCPU"))?;
        self.created += 1;
        Ok((id, vcpu))
    }

    /// The VM has run, and has fewer than this many left.
    pub fn lack(&self, moves: usize) -> bool {
        self.ran && self.spare.len() < moves
    }

    /// Creates as many as the moves of a program will take.
    pub fn provide(&mut self, vm: &VmFd, moves: usize) -> Result<(), Error> {
        while moves > 0 && self.spare.len() < moves.max(if self.ran { 0 } else { FEW }) {
            let vcpu = self.create(vm)?;
            self.spare.push(vcpu);
        }
        Ok(())
    }

    /// An initialised vCPU that has not run, and its number. It has a pending interrupt: the payload masks the interrupt,
    /// so its WFI does not wait.
    pub fn take(&mut self, vm: &VmFd, features: Features) -> Result<(u64, VcpuFd), Error> {
        let (id, vcpu) = match self.spare.pop() {
            Some(spare) => spare,
            None => self.create(vm)?,
        };
        features::init(vm, &vcpu, features)?;
        features::complete(&vcpu, features)?;
        pend_interrupt(vm, id)?;
        Ok((id, vcpu))
    }

    /// One of them runs.
    pub fn run(&mut self) {
        self.ran = true;
    }
}

/// Makes an interrupt of this vCPU pending.
pub fn pend_interrupt(vm: &VmFd, vcpu: u64) -> Result<(), Error> {
    /// KVM_IRQ_LINE: KVM_ARM_IRQ_TYPE_CPU, IRQ, of a vCPU below 256.
    const fn interrupt(vcpu: u64) -> u32 {
        (vcpu as u32 & 0xff) << 16
    }
    vm.set_irq_line(interrupt(vcpu), true).map_err(failed("KVM_IRQ_LINE"))
}

fn failed(what: &str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |error| Error::System { what: what.to_owned(), source: error.into() }
}
