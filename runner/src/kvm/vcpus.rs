// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The vCPUs of a VM, and their numbers.

use super::{features, gic::Gic};
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
    spare: Vec<Spare>,
    /// One of them has run.
    ran: bool,
    /// The interrupt controller of a VM with EL2.
    gic: Option<Gic>,
}

/// A vCPU that waits for a move, and its number.
#[derive(Debug)]
struct Spare {
    id: u64,
    vcpu: VcpuFd,
    is_initialised: bool,
}

impl Vcpus {
    /// Those of a VM with these features.
    pub fn of(vm: &VmFd, features: Features) -> Result<Self, Error> {
        let gic = (features == Features::El2).then(|| Gic::new(vm)).transpose()?;
        Ok(Self { gic, ..Self::default() })
    }

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

    /// Creates as many as the moves of a program will take, with these features unless a scenario is still to choose them.
    /// pKVM of Linux 6.12 takes the features of all vCPUs at the first KVM_RUN of the VM.
    pub fn provide(&mut self, vm: &VmFd, moves: usize, features: Option<Features>) -> Result<(), Error> {
        // KVM takes the longer to free a VM with EL2 the more vCPUs it has.
        let least = if self.ran || self.gic.is_some() { 0 } else { FEW };
        while moves > 0 && self.spare.len() < moves.max(least) {
            let (id, vcpu) = self.create(vm)?;
            features.map_or(Ok(()), |features| self.initialise(vm, &vcpu, id, features))?;
            self.spare.push(Spare { id, vcpu, is_initialised: features.is_some() });
        }
        Ok(())
    }

    /// An initialised vCPU that has not run, and its number. It has a pending interrupt: the payload masks the interrupt,
    /// so its WFI does not wait.
    pub fn take(&mut self, vm: &VmFd, features: Features) -> Result<(u64, VcpuFd), Error> {
        let (id, vcpu) = match self.spare.pop() {
            Some(Spare { id, vcpu, is_initialised: true }) => return Ok((id, vcpu)),
            Some(Spare { id, vcpu, .. }) => (id, vcpu),
            None => self.create(vm)?,
        };
        self.initialise(vm, &vcpu, id, features)?;
        Ok((id, vcpu))
    }

    /// One of them is about to run.
    pub fn run(&mut self) -> Result<(), Error> {
        self.ran = true;
        self.gic.as_mut().map_or(Ok(()), Gic::initialise)
    }

    fn initialise(&self, vm: &VmFd, vcpu: &VcpuFd, id: u64, features: Features) -> Result<(), Error> {
        features::init(vm, vcpu, features::bits(features))?;
        features::complete(vcpu, features)?;
        self.pend_interrupt(vm, id)
    }

    /// Makes an interrupt of this vCPU pending, unless it would come from an interrupt controller.
    pub fn pend_interrupt(&self, vm: &VmFd, vcpu: u64) -> Result<(), Error> {
        /// KVM_IRQ_LINE: KVM_ARM_IRQ_TYPE_CPU, IRQ, of a vCPU below 256.
        const fn interrupt(vcpu: u64) -> u32 {
            (vcpu as u32 & 0xff) << 16
        }
        match self.gic {
            Some(_) => Ok(()),
            None => vm.set_irq_line(interrupt(vcpu), true).map_err(failed("KVM_IRQ_LINE")),
        }
    }
}

fn failed(what: &str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |error| Error::System { what: what.to_owned(), source: error.into() }
}
