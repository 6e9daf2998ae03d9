// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A VM whose guest is in AArch32.

use super::{
    composed_vm::{Code, ComposedVm, Userspace},
    debug::Debugger,
    device::Kvm,
    features, one_reg,
};
use crate::{a32, composed, cpus::Pinned, guest::Error};
use dfr0_model::{
    aarch32::{self, BKPT, Event, Op},
    id_write::Answer,
    sysreg::SysReg,
    vmm::Features,
    wire::RAM,
};
use std::time::Duration;

/// A VM with one vCPU.
#[derive(Debug)]
pub struct A32Vm {
    vm: ComposedVm,
    ops: Vec<Op>,
}

impl Kvm {
    /// A VM whose guest executes these operations; it may run for `deadline` at a time.
    pub fn a32_vm(&self, ops: &[Op], deadline: Duration) -> Result<A32Vm, Error> {
        let vm =
            ComposedVm::new(self.create_vm(Features::AArch32)?, features::bits(Features::AArch32), deadline)?;
        Ok(A32Vm { vm, ops: ops.to_vec() })
    }
}

impl A32Vm {
    /// KVM_GET_ONE_REG of a system register that must exist.
    pub fn read(&self, reg: SysReg) -> Result<u64, Error> {
        self.vm.read(reg)
    }

    /// KVM_SET_ONE_REG of a system register.
    pub fn set(&self, reg: SysReg, value: u64) -> Answer {
        self.vm.set(one_reg::system(reg), value)
    }

    /// Lets the guest execute its operations. Returns the event of each, including userspace's. The thread stays on its CPU:
    /// in QEMU (seen in 10.0) the SPSR of the current mode does not move with the vCPU.
    pub fn executes(&mut self) -> Result<Vec<Event>, Error> {
        let _here = Pinned::here()?;
        let code = Code { pieces: a32::compose(&self.ops), start: a32::CODE, vectors: RAM };
        let (userspaces, words) = self.vm.executes(code, &self.ops, &mut Debugging::default())?;
        let words: Vec<u32> = words.into_iter().map(|word| word as u32).collect();
        let guests = aarch32::decode(&words).ok_or_else(|| self.vm.died("its log makes no sense".into()))?;
        composed::in_order(&self.ops, userspaces, guests)
            .ok_or_else(|| self.vm.died("it did not log one event per operation".into()))
    }
}

/// Userspace accesses registers, and is the guest's debugger.
#[derive(Default)]
struct Debugging {
    debugger: Debugger,
    /// The syndrome of the last KVM_EXIT_DEBUG, until an operation reads it.
    exit: u32,
}

impl Userspace for Debugging {
    type Op = Op;
    type Event = Event;

    fn act(&mut self, vm: &mut ComposedVm, op: Op) -> Event {
        let answer = match op {
            Op::Get(register) => {
                return vm.get(one_reg::system(register)).map_or_else(Event::Refused, Event::Value);
            }
            Op::GetSpsrAbt => return vm.get(one_reg::SPSR_ABT).map_or_else(Event::Refused, Event::Value),
            Op::GetDebugExit => return Event::Value(std::mem::take(&mut self.exit).into()),
            Op::Set(register, value) => vm.set(one_reg::system(register), value),
            Op::Debug(debug) => self.debugger.set(&vm.vcpu, debug),
            _ => Answer::Accepted,
        };
        match answer {
            Answer::Accepted => Event::Done,
            Answer::Refused(errno) => Event::Refused(errno),
        }
    }

    /// Moves PC past a BKPT.
    fn debug_exit(&mut self, vm: &ComposedVm, hsr: u32) -> bool {
        self.exit = hsr;
        vm.get(one_reg::PC) == Ok(BKPT.into()) && vm.set(one_reg::PC, u64::from(BKPT) + 4) == Answer::Accepted
    }
}
