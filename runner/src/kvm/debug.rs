// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Userspace as the guest's debugger: KVM_SET_GUEST_DEBUG, and what is done at a KVM_EXIT_DEBUG.

use crate::guest::Error;
use dfr0_model::{
    event::{EC_STEP_LOWER_EL, EC_WATCHPOINT_LOWER_EL, debug_exit_class},
    guest_debug::{ENABLE, GuestDebug, OnExit, SINGLESTEP},
    id_write::Answer,
    vmm::RunField,
    wire::{ACCESS_CODE, ACCESS_CODE_END, BRK, MARKERS, VECTOR},
};
use kvm_bindings::kvm_guest_debug;
use kvm_ioctls::VcpuFd;
use std::io;

/// The debugger of one vCPU.
#[derive(Debug, Default)]
pub struct Debugger {
    /// The scenario's request, while guest debugging is on.
    asked: Option<GuestDebug>,
    /// One instruction is being stepped over; afterwards the scenario's request is set again.
    stepping_over: bool,
    /// The next step is the only one, and is logged wherever it ends.
    once: bool,
    /// The PC of the last KVM_EXIT_DEBUG.
    pc: u64,
    /// What `struct kvm_run` had at the last KVM_EXIT_DEBUG besides hsr and far.
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    flags: u16,
    hsr_high: u32,
}

/// Where the vCPU continues after a KVM_EXIT_DEBUG.
pub enum Resume {
    /// At its PC.
    Here,
    /// At this address.
    At(u64),
    /// Nowhere: the exit does not belong to an operation.
    Never,
}

impl Debugger {
    /// KVM_SET_GUEST_DEBUG.
    pub fn set(&mut self, vcpu: &VcpuFd, debug: GuestDebug) -> Answer {
        match set(vcpu, debug) {
            Ok(()) => {
                self.asked = debug.is_on().then_some(debug);
                (self.stepping_over, self.once) = (false, false);
                Answer::Accepted
            }
            Err(error) => Answer::Refused(error.errno()),
        }
    }

    /// KVM_SET_GUEST_DEBUG, which KVM must accept.
    pub fn must_set(&mut self, vcpu: &VcpuFd, debug: GuestDebug) -> Result<(), Error> {
        match self.set(vcpu, debug) {
            Answer::Accepted => Ok(()),
            Answer::Refused(errno) => Err(refused(debug, io::Error::from_raw_os_error(errno))),
        }
    }

    /// Guest debugging is switched off after the next step.
    pub fn step_once(&mut self) {
        self.once = true;
    }

    /// KVM_RUN has ended with KVM_EXIT_DEBUG.
    pub fn saw(&mut self, flags: u16, hsr_high: u32) {
        self.last = Some(Last { flags, hsr_high });
    }

    /// A field of `struct kvm_run`, whose flags are these now; `None` if there was no such exit.
    pub fn run_field(&self, field: RunField, flags: u16) -> Option<u64> {
        match field {
            RunField::Flags => Some(flags.into()),
            RunField::DebugFlags => self.last.map(|last| last.flags.into()),
            RunField::HsrHigh => self.last.map(|last| last.hsr_high.into()),
        }
    }

    /// Debugs another vCPU like this one.
    pub fn set_again(&self, vcpu: &VcpuFd) -> Result<(), Error> {
        match self.asked {
            Some(_) if self.stepping_over => must_set(vcpu, GuestDebug::new(ENABLE | SINGLESTEP)),
            Some(debug) => must_set(vcpu, debug),
            // The other vCPU may have been debugged before.
            None => must_set(vcpu, GuestDebug::OFF),
        }
    }

    /// Switches guest debugging off if it is on.
    pub fn switch_off(&mut self, vcpu: &VcpuFd) -> Result<(), Error> {
        match self.asked.take() {
            Some(_) => must_set(vcpu, GuestDebug::OFF),
            None => Ok(()),
        }
    }

    /// The exit is a requested step through the payload's own code, which is not logged. A step from an operation into
    /// the payload's handler is one of the operation's.
    pub fn is_passing(&mut self, hsr: u32, pc: u64) -> bool {
        let from = std::mem::replace(&mut self.pc, pc);
        let of_operation = is_operations(pc) || pc == VECTOR && is_operations(from);
        is_step(hsr) && !self.once && !of_operation && self.asked.is_some_and(|debug| debug.has(SINGLESTEP))
    }

    /// What userspace does at the exit.
    pub fn resume(&mut self, vcpu: &VcpuFd, hsr: u32, pc: u64) -> Result<Resume, Error> {
        if is_step(hsr) {
            if std::mem::take(&mut self.once) {
                self.switch_off(vcpu)?;
            }
            if let Some(debug) = self.asked.filter(|_| self.stepping_over) {
                self.stepping_over = false;
                must_set(vcpu, debug)?;
            }
            return Ok(Resume::Here);
        }
        if !is_operations(pc) {
            return Ok(Resume::Never);
        }
        match self.asked.map_or(OnExit::Skip, |debug| debug.on_exit) {
            OnExit::Skip => return Ok(Resume::At(pc + 4)),
            OnExit::StepOver => {
                self.stepping_over = true;
                must_set(vcpu, GuestDebug::new(ENABLE | SINGLESTEP))?;
            }
            OnExit::SwitchOff => self.switch_off(vcpu)?,
        }
        Ok(Resume::Here)
    }
}

fn is_step(hsr: u32) -> bool {
    debug_exit_class(hsr.into()) == EC_STEP_LOWER_EL
}

/// `kvm_debug_exit_arch.far` if the exit defines it, or zero: KVM then leaves the value of the exit before.
pub fn far_of(hsr: u32, far: u64) -> u64 {
    if debug_exit_class(hsr.into()) == EC_WATCHPOINT_LOWER_EL { far } else { 0 }
}

/// A marker or an access, not the payload's own code.
fn is_operations(pc: u64) -> bool {
    (MARKERS..BRK + 8).contains(&pc) || (ACCESS_CODE..ACCESS_CODE_END).contains(&pc)
}

fn must_set(vcpu: &VcpuFd, debug: GuestDebug) -> Result<(), Error> {
    set(vcpu, debug).map_err(|error| refused(debug, error.into()))
}

fn refused(debug: GuestDebug, source: io::Error) -> Error {
    Error::System { what: format!("KVM_SET_GUEST_DEBUG {}", debug.control_names()), source }
}

fn set(vcpu: &VcpuFd, debug: GuestDebug) -> Result<(), kvm_ioctls::Error> {
    let mut argument = kvm_guest_debug { control: debug.control, ..Default::default() };
    for (n, address) in debug.addresses() {
        argument.arch.dbg_bvr[usize::from(n)] = address;
        argument.arch.dbg_bcr[usize::from(n)] = debug.dbgbcr.raw_value();
    }
    for (n, address) in debug.watched_addresses() {
        argument.arch.dbg_wvr[usize::from(n)] = address;
        argument.arch.dbg_wcr[usize::from(n)] = debug.dbgwcr.raw_value();
    }
    vcpu.set_guest_debug(&argument)
}
