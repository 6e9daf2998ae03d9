// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A VM whose guest is a hypervisor at EL2.

use super::{
    composed_vm::{Code, ComposedVm, Userspace},
    debug::Debugger,
    device::Kvm,
    features::KVM_CAP_ARM_EL2,
    gic::Gic,
    one_reg,
};
use crate::{
    composed::{END, EXIT, Operation},
    guest::Error,
    nested::{self, HDFGRTR_EL2, HDFGWTR_EL2, Home, MDCR_EL2, Moment},
};
use dfr0_model::{
    guest_debug::{ENABLE, GuestDebug, SINGLESTEP},
    id_write::Answer,
    nested::{Event, Visit, pe::Pe},
    sysreg::SysReg,
    vmm::Features,
    wire::RAM,
};
use kvm_bindings::{KVM_ARM_VCPU_HAS_EL2, KVM_ARM_VCPU_HAS_EL2_E2H0};
use kvm_ioctls::VcpuFd;
use std::time::Duration;

/// KVM_CAP_ARM_EL2_E2H0 (KVM API, KVM_ARM_VCPU_INIT).
const KVM_CAP_ARM_EL2_E2H0: u32 = 241;

/// The registers whose reset values say whether something is trapped.
const CONTROLS: [(&str, SysReg); 3] =
    [("MDCR_EL2", MDCR_EL2), ("HDFGRTR_EL2", HDFGRTR_EL2), ("HDFGWTR_EL2", HDFGWTR_EL2)];

/// A visit and what ends it are a few hundred instructions.
const MOST_STEPS: usize = 1 << 14;

const HOME: Home = Home { base: RAM, word: 1, bell: END, exit: None };

/// What is done in turn.
#[derive(Clone, Copy)]
enum Turn {
    /// The hypervisor makes its visits.
    Visits,
    /// Userspace steps it from here on.
    Steps,
    /// Userspace moves it to the VM's other vCPU.
    Moves,
}

impl Operation for Turn {
    fn is_userspaces(&self) -> bool {
        !matches!(self, Self::Visits)
    }
}

/// Userspace as the hypervisor's debugger: the PC after each step.
#[derive(Default)]
struct Stepper {
    debugger: Debugger,
    pcs: Vec<u64>,
}

impl Userspace for Stepper {
    type Op = Turn;
    type Event = Answer;
    fn act(&mut self, vm: &mut ComposedVm, _: Turn) -> Answer {
        self.debugger.set(&vm.vcpu, GuestDebug::new(ENABLE | SINGLESTEP))
    }
    fn debug_exit(&mut self, vm: &ComposedVm, _: u32) -> bool {
        vm.get(one_reg::PC).is_ok_and(|pc| {
            self.pcs.push(pc);
            self.pcs.len() < MOST_STEPS
        })
    }
}

/// Userspace that moves the hypervisor to and fro between this vCPU and its own.
struct Mover<'a> {
    other: &'a mut VcpuFd,
    features: &'static [u32],
}

impl Userspace for Mover<'_> {
    type Op = Turn;
    type Event = Result<(), Error>;
    fn act(&mut self, vm: &mut ComposedVm, _: Turn) -> Self::Event {
        vm.moves(self.other, self.features)
    }
    fn debug_exit(&mut self, _: &ComposedVm, _: u32) -> bool {
        false
    }
}

impl Kvm {
    /// The capability that is missing for VMs with EL2 whose HCR_EL2.E2H has this value.
    pub fn lacks_el2(&self, e2h: bool) -> Option<&'static str> {
        let has = |number: u32| self.0.check_extension_raw(number.into()) > 0;
        if !has(KVM_CAP_ARM_EL2) {
            Some("KVM_CAP_ARM_EL2")
        } else if !e2h && !has(KVM_CAP_ARM_EL2_E2H0) {
            Some("KVM_CAP_ARM_EL2_E2H0")
        } else {
            None
        }
    }

    /// A VM whose guest is a hypervisor, with HCR_EL2.E2H of this value.
    pub fn nested_vm(&self, e2h: bool, deadline: Duration) -> Result<NestedVm, Error> {
        const WITH_E2H: &[u32] = &[KVM_ARM_VCPU_HAS_EL2];
        const WITHOUT_E2H: &[u32] = &[KVM_ARM_VCPU_HAS_EL2, KVM_ARM_VCPU_HAS_EL2_E2H0];
        let features = if e2h { WITH_E2H } else { WITHOUT_E2H };
        let vm = self.create_vm(Features::None)?;
        let mut gic = Gic::new(&vm)?;
        let mut vm = ComposedVm::new(vm, features, deadline)?;
        let other = vm.another_vcpu(features)?;
        let resets = CONTROLS.map(|(name, reg)| (name, vm.get(one_reg::system(reg)).ok()));
        gic.initialise()?;
        vm.start(Code {
            pieces: Some(nested::fixed(HOME)),
            start: RAM + nested::START,
            vectors: RAM + nested::EL1_VECTORS,
        })?;
        vm.goes_on(&[], &mut Stepper::default())?;
        Ok(NestedVm { other, vm, _gic: gic, features, resets })
    }
}

/// A VM whose vCPUs have EL2: one in which the hypervisor is, and another to which it can move. It makes visits as long as it
/// lives, because in an emulator KVM takes seconds to free a VM with EL2.
#[derive(Debug)]
pub struct NestedVm {
    other: VcpuFd,
    vm: ComposedVm,
    _gic: Gic,
    features: &'static [u32],
    resets: [(&'static str, Option<u64>); 3],
}

impl NestedVm {
    /// The controls of EL2 after KVM_ARM_VCPU_INIT, each with its value, if KVM has it.
    pub fn resets(&self) -> [(&'static str, Option<u64>); 3] {
        self.resets
    }

    /// Lets the hypervisor make these visits.
    pub fn visit(&mut self, pe: &Pe, visits: &[Visit]) -> Result<Vec<Event>, Error> {
        let instructions = self.stage(pe, visits, HOME)?;
        self.vm.goes_on(&[], &mut Stepper::default())?;
        self.events(&instructions)
    }

    /// Lets the hypervisor make these visits, and moves it to another vCPU at this moment of each.
    pub fn visit_and_move(&mut self, pe: &Pe, visits: &[Visit], at: Moment) -> Result<Vec<Event>, Error> {
        let instructions = self.stage(pe, visits, Home { exit: Some((at, EXIT)), ..HOME })?;
        let turns: Vec<Turn> =
            visits.iter().flat_map(|_| [Turn::Visits, Turn::Moves]).chain([Turn::Visits]).collect();
        let mut mover = Mover { other: &mut self.other, features: self.features };
        let (moved, _) = self.vm.goes_on(&turns, &mut mover)?;
        moved.into_iter().collect::<Result<(), Error>>()?;
        self.events(&instructions)
    }

    /// The events of visits that were made, whose instructions are at these addresses.
    fn events(&mut self, instructions: &[u64]) -> Result<Vec<Event>, Error> {
        let memory = self.vm.memory().ok_or_else(nested::too_many)?;
        nested::events(memory, RAM, instructions).ok_or_else(nested::too_many)
    }

    /// Lets the hypervisor make a visit while userspace steps it. Returns how far from the visit's instruction each step ended.
    pub fn steps(&mut self, pe: &Pe, visit: Visit) -> Result<Vec<i64>, Error> {
        let instructions = self.stage(pe, &[visit], Home { exit: Some((Moment::Start, EXIT)), ..HOME })?;
        let mut stepper = Stepper::default();
        let (answers, _) = self.vm.goes_on(&[Turn::Visits, Turn::Steps, Turn::Visits], &mut stepper)?;
        stepper.debugger.switch_off(&self.vm.vcpu)?;
        match (&answers[..], &instructions[..]) {
            ([Answer::Accepted], [at]) => {
                Ok(stepper.pcs.iter().map(|pc| pc.wrapping_sub(*at).cast_signed()).collect())
            }
            _ => Err(self.vm.died(format!("KVM_SET_GUEST_DEBUG: {answers:?}"))),
        }
    }

    /// Writes visits where the hypervisor finds them. Returns the address of each one's instruction.
    fn stage(&mut self, pe: &Pe, visits: &[Visit], home: Home) -> Result<Vec<u64>, Error> {
        let composed = nested::compose(pe, visits, home).ok_or_else(nested::too_many)?;
        let memory = self.vm.memory().ok_or_else(nested::too_many)?;
        match memory.write_code(&[composed.staged]) {
            true => Ok(composed.instructions),
            false => Err(nested::too_many()),
        }
    }
}
