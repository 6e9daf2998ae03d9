// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A protected VM.

use super::{
    composed_vm::{Code, ComposedVm, Userspace},
    debug::Debugger,
    device::Kvm,
    features, one_reg, writable_masks,
};
use crate::{composed, guest::Error, protected as code};
use dfr0_model::{
    event::{EC_BRK, debug_exit_class},
    guest_debug::GuestDebug,
    id_write::Answer,
    protected::{self, Event, Op},
    vmm::{Features, MaskRequest},
};
use kvm_bindings::{KVM_CAP_SET_GUEST_DEBUG, KVM_CAP_SET_GUEST_DEBUG2};
use std::time::Duration;

/// A VM with one vCPU.
#[derive(Debug)]
pub struct ProtectedVm {
    vm: ComposedVm,
    ops: Vec<Op>,
}

impl Kvm {
    /// A protected VM whose guest executes these operations; it may run for `deadline` at a time. `None` if this kernel has no
    /// protected VMs. Creating one taints the kernel.
    pub fn protected_vm(&self, ops: &[Op], deadline: Duration) -> Result<Option<ProtectedVm>, Error> {
        let Some(vm) = self.create_protected_vm()? else { return Ok(None) };
        Ok(Some(ProtectedVm {
            vm: ComposedVm::new(vm, features::bits(Features::None), deadline)?,
            ops: ops.to_vec(),
        }))
    }
}

impl ProtectedVm {
    /// The VM's KVM_CAP_SET_GUEST_DEBUG2; zero if its KVM_CAP_SET_GUEST_DEBUG is zero.
    pub fn guest_debug_bits(&self) -> u32 {
        let capability = |number: u32| self.vm.vm.check_extension_raw(number.into());
        if capability(KVM_CAP_SET_GUEST_DEBUG) > 0 { capability(KVM_CAP_SET_GUEST_DEBUG2) as u32 } else { 0 }
    }

    /// The VM's KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES.
    pub fn mask_ranges(&self) -> u64 {
        writable_masks::ranges(&self.vm.vm)
    }

    /// KVM_ARM_GET_REG_WRITABLE_MASKS, or the errno of its refusal.
    pub fn masks(&self) -> Result<Vec<u64>, i32> {
        writable_masks::read(&self.vm.vm, MaskRequest::default())
    }

    /// KVM_SET_GUEST_DEBUG.
    pub fn debug(&self, debug: GuestDebug) -> Answer {
        Debugger::default().set(&self.vm.vcpu, debug)
    }

    /// Lets the guest execute its operations. Returns the event of each, including userspace's.
    pub fn executes(&mut self) -> Result<Vec<Event>, Error> {
        let code = Code { pieces: code::compose(&self.ops), start: code::CODE, vectors: code::VECTORS };
        let mut userspace = Debugging::default();
        let (userspaces, words) = self.vm.executes(code, &self.ops, &mut userspace)?;
        let guests =
            protected::decode(&words).ok_or_else(|| self.vm.died("its log makes no sense".into()))?;
        let mut events = composed::in_order(&self.ops, userspaces, guests)
            .ok_or_else(|| self.vm.died("it did not log one event per operation".into()))?;
        for (ec, pc) in userspace.exits {
            let exit = Event::DebugExit { ec };
            let owner =
                self.ops.iter().zip(&mut events).find(|(op, event)| op.owns(ec, pc) && **event != exit);
            match owner {
                Some((_, event)) => *event = exit,
                None => return Err(self.vm.died(format!("KVM_EXIT_DEBUG of EC {ec:#04x} at {pc:#x}"))),
            }
        }
        Ok(events)
    }
}

/// Userspace as the guest's debugger.
#[derive(Default)]
struct Debugging {
    debugger: Debugger,
    /// The exception class and PC of each KVM_EXIT_DEBUG.
    exits: Vec<(u8, u64)>,
}

impl Userspace for Debugging {
    type Op = Op;
    type Event = Event;

    fn act(&mut self, vm: &mut ComposedVm, op: Op) -> Event {
        let answer = match op {
            Op::Get(reg) => return vm.get(one_reg::system(reg)).map_or_else(Event::Refused, Event::Value),
            Op::Set(reg, value) => vm.set(one_reg::system(reg), value),
            Op::Debug(debug) => self.debugger.set(&vm.vcpu, debug),
            _ => Answer::Accepted,
        };
        match answer {
            Answer::Accepted => Event::Done,
            Answer::Refused(errno) => Event::Refused(errno),
        }
    }

    /// Moves PC past a BRK; switches guest debugging off after anything else.
    fn debug_exit(&mut self, vm: &ComposedVm, hsr: u32) -> bool {
        let ec = debug_exit_class(hsr.into());
        let Ok(pc) = vm.get(one_reg::PC) else { return false };
        self.exits.push((ec, pc));
        match ec {
            EC_BRK => vm.set(one_reg::PC, pc + 4) == Answer::Accepted,
            _ => self.debugger.switch_off(&vm.vcpu).is_ok(),
        }
    }
}
