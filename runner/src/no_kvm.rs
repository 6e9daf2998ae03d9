// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Replaces `kvm` where there is no KVM/arm64: no value of these types exists, so none of this can run. It has
//! what is used outside of `kvm`.

use crate::{
    fingerprint::Fingerprint,
    guest::{Config, Error, Guest},
    host::{Host, Unavailable},
    image::Words,
    nested_vm::Moment,
    snapshot::{RestoreError, Restored, Scope, State},
};
use dfr0_model::{
    aarch32::{Event, Op},
    guest_debug::GuestDebug,
    id_write::Answer,
    nested::{self, Visit, pe::Pe},
    protected,
    sysreg::SysReg,
    vm::Facts,
    vmm::Features,
};
use std::time::Duration;

/// `/dev/kvm` of an arm64 host.
#[derive(Debug)]
pub enum Kvm {}

impl Kvm {
    /// There is no KVM/arm64 on this architecture.
    pub fn open() -> Result<Self, Error> {
        Err(Unavailable::Architecture { arch: std::env::consts::ARCH }.into())
    }

    /// The host's facts.
    pub fn host(&self) -> Result<Host, Error> {
        match *self {}
    }

    /// What is known of VMs with these features.
    pub fn facts(&self, _: Features) -> Result<Facts, Error> {
        match *self {}
    }

    /// The host's fingerprint.
    pub fn fingerprint(&self) -> Result<Fingerprint, Error> {
        match *self {}
    }

    /// A VM in this state.
    pub fn restore(
        &self,
        _: &State,
        _: Words,
        _: Scope,
        _: Duration,
    ) -> Result<(Guest, Restored), RestoreError> {
        match *self {}
    }

    /// A VM.
    pub fn guest(&self, _: Config, _: Duration) -> Result<Guest, Error> {
        match *self {}
    }

    /// The host has what these features need.
    pub fn can(&self, _: Features) -> bool {
        match *self {}
    }

    /// The capability that is missing for VMs with EL2.
    pub fn lacks_el2(&self, _: bool) -> Option<&'static str> {
        match *self {}
    }

    /// A VM whose guest is a hypervisor.
    pub fn nested_vm(&self, _: bool, _: Duration) -> Result<NestedVm, Error> {
        match *self {}
    }

    /// A protected VM.
    pub fn protected_vm(&self, _: &[protected::Op], _: Duration) -> Result<Option<ProtectedVm>, Error> {
        match *self {}
    }

    /// A VM whose guest is in AArch32.
    pub fn a32_vm(&self, _: &[Op], _: Duration) -> Result<A32Vm, Error> {
        match *self {}
    }
}

/// A VM with one vCPU.
#[derive(Debug)]
pub enum A32Vm {}

impl A32Vm {
    /// KVM_GET_ONE_REG of a register that must exist.
    pub fn read(&self, _: SysReg) -> Result<u64, Error> {
        match *self {}
    }

    /// KVM_SET_ONE_REG.
    pub fn set(&self, _: SysReg, _: u64) -> Answer {
        match *self {}
    }

    /// What the guest does.
    pub fn executes(&mut self) -> Result<Vec<Event>, Error> {
        match *self {}
    }
}

/// A protected VM.
#[derive(Debug)]
pub enum ProtectedVm {}

impl ProtectedVm {
    /// KVM_CAP_SET_GUEST_DEBUG2.
    pub fn guest_debug_bits(&self) -> u32 {
        match *self {}
    }

    /// KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES.
    pub fn mask_ranges(&self) -> u64 {
        match *self {}
    }

    /// KVM_ARM_GET_REG_WRITABLE_MASKS.
    pub fn masks(&self) -> Result<Vec<u64>, i32> {
        match *self {}
    }

    /// KVM_SET_GUEST_DEBUG.
    pub fn debug(&self, _: GuestDebug) -> Answer {
        match *self {}
    }

    /// What the guest does.
    pub fn executes(&mut self) -> Result<Vec<protected::Event>, Error> {
        match *self {}
    }
}

/// A VM whose guest is a hypervisor.
#[derive(Debug)]
pub enum NestedVm {}

impl NestedVm {
    /// The controls after KVM_ARM_VCPU_INIT.
    pub fn resets(&self) -> [(&'static str, Option<u64>); 3] {
        match *self {}
    }

    /// What the hypervisor sees.
    pub fn visit(&mut self, _: &Pe, _: &[Visit]) -> Result<Vec<nested::Event>, Error> {
        match *self {}
    }

    /// What it sees when it moves.
    pub fn visit_and_move(&mut self, _: &Pe, _: &[Visit], _: Moment) -> Result<Vec<nested::Event>, Error> {
        match *self {}
    }

    /// Where steps end.
    pub fn steps(&mut self, _: &Pe, _: Visit) -> Result<Vec<i64>, Error> {
        match *self {}
    }
}
