// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A hypervisor at EL2, in a VM or on a bare CPU, that makes visits.

pub use crate::nested::Moment;
use crate::{
    case::{Context, Stop},
    guest::Error,
    kvm::NestedVm,
    machine::Machine,
};
use dfr0_model::{
    event::EC_UNKNOWN,
    nested::{
        Event, Instruction, Level, Mdcr, Visit,
        pe::Pe,
        trap::{NAMED, Trap},
    },
    shape::Shape,
    sysreg::{ID_AA64DFR0_EL1, SysReg},
};

const ID_AA64MMFR0_EL1: SysReg = SysReg::new(3, 0, 0, 7, 0);
const ID_AA64MMFR1_EL1: SysReg = SysReg::new(3, 0, 0, 7, 1);
/// ID_AA64MMFR0_EL1.FGT and ID_AA64MMFR1_EL1.VH.
const FGT: u32 = 56;
const VH: u32 = 8;

/// A hypervisor.
#[derive(Debug)]
pub struct Hypervisor {
    pe: Pe,
    /// The VM that it is the guest of. On a bare CPU each visit starts anew.
    vm: Option<NestedVm>,
}

impl Context<'_> {
    /// A hypervisor whose HCR_EL2.E2H has this value. Skips the case if there is none here.
    pub fn hypervisor(&self, e2h: bool) -> Result<Hypervisor, Stop> {
        let vm = match self.machine() {
            Machine::Kvm(kvm) => match kvm.lacks_el2(e2h) {
                Some(capability) => return Stop::skip(format!("this host does not have {capability}")),
                None => Some(kvm.nested_vm(e2h, self.deadline())?),
            },
            Machine::Bare(_) => None,
            Machine::Paper(_) => return Err(Error::NothingRuns.into()),
        };
        // What it reads does not depend on the rest; HCR_EL2.E2H of a VM with EL2 cannot be changed.
        let shape = Shape { breakpoints: 0, watchpoints: 0, ..Shape::from_id_aa64dfr0(0) };
        let e2h_at_first = e2h && vm.is_some();
        let pe = Pe::new(shape, false, e2h_at_first);
        let mut hypervisor = Hypervisor { pe, vm };
        let registers = [ID_AA64DFR0_EL1, ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1];
        let visits = registers.map(|reg| Visit::new(Level::El2, Instruction::Read(reg)));
        let events = hypervisor.visit(self, &visits)?;
        let [Event::Completed(dfr0), Event::Completed(mmfr0), Event::Completed(mmfr1)] = events[..] else {
            return Err(Error::Unfit(format!("EL2 does not identify itself: {events:?}")).into());
        };
        if e2h && mmfr1 >> VH & 0xf == 0 {
            return Stop::skip("this CPU does not have FEAT_VHE");
        }
        let pe = &mut hypervisor.pe;
        (pe.shape, pe.fgt, pe.e2h) = (Shape::from_id_aa64dfr0(dfr0), mmfr0 >> FGT & 0xf != 0, e2h);
        let at_el2 = Visit { level: Level::El2, ..Visit::default() };
        let undefined = hypervisor.undefined(self, &NAMED, at_el2)?;
        let trapped = Visit { mdcr: Mdcr::DEFAULT.with_tde(true), ..Visit::default() };
        hypervisor.pe.lacking = hypervisor.undefined(self, &undefined, trapped)?;
        hypervisor.pe.undefined = undefined;
        Ok(hypervisor)
    }
}

impl Hypervisor {
    /// Its PE.
    pub const fn pe(&self) -> &Pe {
        &self.pe
    }

    /// Lets it make these visits. Returns the event of each. After an error it cannot be used any more.
    pub fn visit(&mut self, cx: &Context<'_>, visits: &[Visit]) -> Result<Vec<Event>, Stop> {
        /// As many as fit into the hypervisor's memory.
        const AT_ONCE: usize = 1000;
        let mut events = Vec::new();
        for visits in visits.chunks(AT_ONCE) {
            events.extend(match (&mut self.vm, cx.machine()) {
                (Some(vm), _) => vm.visit(&self.pe, visits)?,
                (None, Machine::Bare(bare)) => bare.visit(&self.pe, visits, cx.deadline())?,
                (None, Machine::Kvm(_) | Machine::Paper(_)) => return Err(Error::NothingRuns.into()),
            });
        }
        Ok(events)
    }

    /// Lets it make these visits while userspace moves it to another vCPU at this moment of each. Skips the case on a bare CPU.
    pub fn visit_and_move(&mut self, visits: &[Visit], at: Moment) -> Result<Vec<Event>, Stop> {
        /// A move takes 0.1 s at the most in an emulator, and these are made in one deadline.
        const AT_ONCE: usize = 32;
        let Some(vm) = &mut self.vm else {
            return Stop::skip("there is no userspace that could move a hypervisor on a bare CPU");
        };
        let mut events = Vec::new();
        for visits in visits.chunks(AT_ONCE) {
            events.extend(vm.visit_and_move(&self.pe, visits, at)?);
        }
        Ok(events)
    }

    /// Lets it make this visit while userspace steps it. Returns how far from the visit's instruction each step ended, in
    /// bytes. Skips the case on a bare CPU.
    pub fn steps(&mut self, visit: Visit) -> Result<Vec<i64>, Stop> {
        match &mut self.vm {
            Some(vm) => Ok(vm.steps(&self.pe, visit)?),
            None => Stop::skip("there is no userspace that could step a hypervisor on a bare CPU"),
        }
    }

    /// MDCR_EL2, HDFGRTR_EL2 and HDFGWTR_EL2 of its vCPU after KVM_ARM_VCPU_INIT, each with its value, if KVM has it. Skips
    /// the case on a bare CPU.
    pub fn resets(&self) -> Result<[(&'static str, Option<u64>); 3], Stop> {
        match &self.vm {
            Some(vm) => Ok(vm.resets()),
            None => Stop::skip("there is no KVM_ARM_VCPU_INIT on a bare CPU"),
        }
    }

    /// Those of these registers that are UNDEFINED with these controls.
    fn undefined(
        &mut self,
        cx: &Context<'_>,
        registers: &[SysReg],
        controls: Visit,
    ) -> Result<Vec<SysReg>, Stop> {
        let access = |reg: &SysReg| match Trap::of(*reg) {
            Some(trap) if !trap.read => Instruction::Write(*reg, 0),
            _ => Instruction::Read(*reg),
        };
        let visits: Vec<Visit> =
            registers.iter().map(|reg| Visit { instruction: access(reg), ..controls }).collect();
        let events = self.visit(cx, &visits)?;
        let is_undefined = |event: &Event| matches!(event, Event::Taken(_, seen) if seen.ec() == EC_UNKNOWN);
        let undefined = registers.iter().zip(&events).filter(|(_, event)| is_undefined(event));
        Ok(undefined.map(|(reg, _)| *reg).collect())
    }
}
