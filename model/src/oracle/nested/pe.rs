// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What a visit may cause.
//!
//! Not compared is what the architecture leaves open: FAR of anything but a Watchpoint exception, PSTATE.SS, and ISV and
//! EX of a Software Step exception, for a hypervisor may emulate the exception return.

use super::{BRK_IMMEDIATE, Event, Instruction, Level, Linked, Mdcr, Target, Visit, WATCHED, trap::Trap};
use crate::{
    control::{
        BT_ADDRESS, BT_ADDRESS_LINKED, BT_CONTEXT_LINKED, BT_CONTEXTIDR_EL1_LINKED, Dbgbcr, Dbgwcr, LSC_BOTH,
    },
    event::{
        EC_BREAKPOINT_LOWER_EL, EC_BRK, EC_STEP_LOWER_EL, EC_SYSTEM, EC_UNKNOWN, EC_WATCHPOINT_LOWER_EL,
        Exception,
    },
    outcome::Unknown,
    pstate,
    shape::Shape,
    sysreg::{DebugRegister, SysReg},
};
use alloc::{vec, vec::Vec};
use core::fmt;

/// ESR_ELx.IL: the instruction has 32 bits.
const IL: u64 = 1 << 25;
/// IFSC and DFSC of a debug exception.
const DEBUG: u64 = 0b10_0010;
/// ISS of a Watchpoint exception: WnR.
const WNR: u64 = 1 << 6;
/// The number of bytes that a load or a store accesses.
const ACCESSED: u64 = 8;

/// A PE with EL2, as its ID registers describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pe {
    /// ID_AA64DFR0_EL1.
    pub shape: Shape,
    /// FEAT_FGT is implemented.
    pub fgt: bool,
    /// HCR_EL2.E2H is 1.
    pub e2h: bool,
    /// The registers that are UNDEFINED at EL2, which they should not be. Nothing more is asked of them where they are not
    /// trapped.
    pub undefined: Vec<SysReg>,
    /// Those of them that MDCR_EL2.TDE does not trap either: the CPU does not have them.
    pub lacking: Vec<SysReg>,
}

/// An exception that is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Where it is taken to.
    pub target: Target,
    /// The number of the vector: 4 from the same Exception level, 8 from a lower one.
    pub vector: u64,
    /// The bits of ESR_ELx that are defined.
    pub defined: u64,
    /// The value of these bits.
    pub esr: u64,
    /// ELR_ELx, relative to the instruction.
    pub elr: u64,
    /// M and D of SPSR_ELx.
    pub spsr: u64,
    /// The lowest and the highest value of FAR_ELx, if it is defined.
    pub far: Option<(u64, u64)>,
}

/// The bits of SPSR_ELx that are compared.
const SPSR: u64 = pstate::MODE | pstate::D;

impl Expected {
    fn departures(&self, target: Target, seen: &Exception) -> Vec<Departure> {
        let wrong = [
            (target != self.target).then_some(Departure::Target(target)),
            (seen.vector != self.vector).then_some(Departure::Vector(seen.vector)),
            ((seen.esr ^ self.esr) & self.defined != 0).then_some(Departure::Esr(seen.esr & self.defined)),
            (seen.elr != self.elr).then_some(Departure::Elr),
            ((seen.spsr ^ self.spsr) & SPSR != 0).then_some(Departure::Spsr(seen.spsr & SPSR)),
            self.far.is_some_and(|(low, high)| !(low..=high).contains(&seen.far)).then_some(Departure::Far),
        ];
        wrong.into_iter().flatten().collect()
    }
}

/// What an expected exception reports wrongly, in words that hold on any host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The Exception level that took it.
    Target(Target),
    /// The vector.
    Vector(u64),
    /// ESR_ELx, in the bits that are defined.
    Esr(u64),
    /// The return address.
    Elr,
    /// M and D of SPSR_ELx.
    Spsr(u64),
    /// FAR_ELx.
    Far,
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(target) => write!(f, "taken to {target}"),
            Self::Vector(vector) => write!(f, "vector {:#x}", vector << 7),
            Self::Esr(esr) => write!(f, "ESR {esr:#x}"),
            Self::Elr => f.write_str("ELR"),
            Self::Spsr(spsr) => write!(f, "SPSR {spsr:#x}"),
            Self::Far => f.write_str("FAR"),
        }
    }
}

/// An allowed outcome of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The instruction completes.
    Completed,
    /// An exception.
    Taken(Expected),
}

impl Outcome {
    /// Allows any value of FAR_ELx.
    pub const fn forget_far(&mut self) {
        if let Self::Taken(expected) = self {
            expected.far = None;
        }
    }

    /// An access is trapped.
    pub fn is_trap(&self) -> bool {
        matches!(self, Self::Taken(expected) if expected.esr >> 26 == EC_SYSTEM.into())
    }

    /// The visit may cause this event.
    pub fn allows(&self, event: &Event) -> bool {
        match (self, event) {
            (Self::Completed, Event::Completed(_)) => true,
            _ => self.departures(event).is_some_and(|departures| departures.is_empty()),
        }
    }

    /// What the event reports wrongly; `None` if it is not an exception of this class.
    pub fn departures(&self, event: &Event) -> Option<Vec<Departure>> {
        /// EC without the bit that says that the exception is from the same Exception level.
        const fn class(esr: u64) -> u64 {
            esr >> 27 & 0x1f
        }
        match (self, event) {
            (Self::Taken(expected), Event::Taken(target, seen)) if class(expected.esr) == class(seen.esr) => {
                Some(expected.departures(*target, seen))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Taken(expected) = self else { return f.write_str("completed") };
        let Expected { target, vector, defined, esr, elr, spsr, far } = expected;
        write!(f, "taken to {target}: ESR {esr:#x} (of {defined:#x}) ELR +{elr:#x} SPSR {spsr:#x}")?;
        if let Some((low, high)) = far {
            write!(f, " FAR {low:#x} to {high:#x}")?;
        }
        write!(f, " vector {:#x}", vector << 7)
    }
}

/// Where an instruction is executed, and with which exceptions.
struct At<'a> {
    pe: &'a Pe,
    visit: &'a Visit,
    mdcr: Mdcr,
}

impl Pe {
    /// A PE on which every debug register can be accessed at EL2.
    pub const fn new(shape: Shape, fgt: bool, e2h: bool) -> Self {
        Self { shape, fgt, e2h, undefined: Vec::new(), lacking: Vec::new() }
    }

    /// The outcomes that this visit may have.
    pub fn allowed(&self, visit: &Visit) -> Result<Vec<Outcome>, Unknown> {
        // Without FEAT_FGT, TDCC is RES0.
        let mdcr = visit.mdcr.with_tdcc(visit.mdcr.tdcc() && self.fgt);
        let at = At { pe: self, visit, mdcr };
        let stepped = at.debug_exceptions() && visit.mdscr.ss();
        // Active-pending (DDI 0487 D2.11 Software Step exceptions): nothing is executed.
        if stepped && !visit.ss {
            return Ok(vec![at.debug(EC_STEP_LOWER_EL, 0, 0)]);
        }
        if at.breakpoint()? {
            return Ok(vec![at.debug(EC_BREAKPOINT_LOWER_EL, 0, 0)]);
        }
        let executed = match visit.instruction {
            Instruction::Nop => vec![Outcome::Completed],
            Instruction::Brk => vec![at.brk()],
            Instruction::Load | Instruction::Store if at.watchpoint()? => vec![at.watched()],
            Instruction::Load | Instruction::Store => vec![Outcome::Completed],
            Instruction::Read(reg) => at.access(reg, true)?,
            Instruction::Write(reg, _) => at.access(reg, false)?,
        };
        let step = |outcome| match outcome {
            Outcome::Completed if stepped => at.debug(EC_STEP_LOWER_EL, 0, 4),
            other => other,
        };
        Ok(executed.into_iter().map(step).collect())
    }
}

impl At<'_> {
    /// HCR_EL2.TGE is 1.
    fn tge(&self) -> bool {
        self.visit.level == Level::HostEl0
    }

    /// `IsInHost`.
    fn in_host(&self) -> bool {
        self.pe.e2h && matches!(self.visit.level, Level::El2 | Level::HostEl0)
    }

    /// Where debug exceptions are taken to: `AArch64.GenerateDebugExceptionsFrom`, ELD.
    fn debug_target(&self) -> Target {
        let to_el2 = self.tge() || self.mdcr.tde() || self.visit.level == Level::El2;
        if to_el2 { Target::El2 } else { Target::El1 }
    }

    /// `AArch64.GenerateDebugExceptionsFrom`.
    fn debug_exceptions(&self) -> bool {
        let target = if self.tge() || self.mdcr.tde() { 2 } else { 1 };
        let from = self.visit.level.el();
        let enabled =
            if from == target { self.visit.mdscr.kde() && self.visit.unmasked } else { target > from };
        enabled && !self.visit.os_lock
    }

    /// An exception of the instruction that goes to this level.
    fn taken(&self, target: Target, ec: u8, defined: u64, iss: u64) -> Outcome {
        let from = self.visit.level.el();
        let same = from == 2 || (from == 1 && target == Target::El1);
        let mode = match self.visit.level {
            Level::El0 | Level::HostEl0 => pstate::EL0T,
            Level::El1 => pstate::EL1H,
            Level::El2 => pstate::EL2H,
        };
        Outcome::Taken(Expected {
            target,
            vector: if same { 4 } else { 8 },
            defined: 0xfe00_0000 | defined,
            esr: u64::from(ec) << 26 | IL | iss,
            elr: 0,
            spsr: mode | if self.visit.unmasked { 0 } else { pstate::D },
            far: None,
        })
    }

    /// A debug exception but that of BRK; `ec` is that from a lower Exception level.
    fn debug(&self, ec: u8, iss: u64, elr: u64) -> Outcome {
        let target = self.debug_target();
        let from = self.visit.level.el();
        let same = from == 2 || (from == 1 && target == Target::El1);
        let fault = 0b11_1111;
        match self.taken(target, ec | u8::from(same), fault | iss_defined(ec), DEBUG | iss) {
            Outcome::Taken(expected) => Outcome::Taken(Expected { elr, ..expected }),
            completed @ Outcome::Completed => completed,
        }
    }

    /// `AArch64.SoftwareBreakpoint`.
    fn brk(&self) -> Outcome {
        self.taken(self.debug_target(), EC_BRK, 0xffff, BRK_IMMEDIATE.into())
    }

    fn watched(&self) -> Outcome {
        let store = self.visit.instruction == Instruction::Store;
        match self.debug(EC_WATCHPOINT_LOWER_EL, if store { WNR } else { 0 }, 0) {
            Outcome::Taken(expected) => {
                Outcome::Taken(Expected { far: Some((WATCHED, WATCHED + ACCESSED - 1)), ..expected })
            }
            completed @ Outcome::Completed => completed,
        }
    }

    fn breakpoint(&self) -> Result<bool, Unknown> {
        let Some(breakpoint) = self.visit.breakpoint else { return Ok(false) };
        let control = breakpoint.control;
        let fires = control.e() && self.visit.mdscr.mde() && self.debug_exceptions();
        if !fires || !self.state(control.hmc(), control.ssc().value(), control.pmc().value())? {
            return Ok(false);
        }
        match (control.bt(), breakpoint.linked) {
            (BT_ADDRESS, _) => Ok(true),
            (BT_ADDRESS_LINKED, Some(linked)) if self.pe.shape.is_context_aware(linked.n) => {
                self.context(&linked)
            }
            _ => Err(Unknown("a breakpoint of this type at EL2")),
        }
    }

    fn watchpoint(&self) -> Result<bool, Unknown> {
        let Some((_, control)) = self.visit.watchpoint else { return Ok(false) };
        const ALL: Dbgwcr = Dbgwcr::DEFAULT.with_bas(0xff).with_lsc(LSC_BOTH);
        if control.bas() != ALL.bas() || control.lsc() != ALL.lsc() || control.wt() {
            return Err(Unknown("a watchpoint on less than a doubleword at EL2"));
        }
        let fires = control.e() && self.visit.mdscr.mde() && self.debug_exceptions();
        Ok(fires && self.state(control.hmc(), control.ssc().value(), control.pac().value())?)
    }

    /// `AArch64.StateMatch`: the Exception level is one of those that HMC, SSC and PMC or PAC select.
    fn state(&self, hmc: bool, ssc: u8, privilege: u8) -> Result<bool, Unknown> {
        match (hmc, ssc, privilege) {
            (false, 0b00, 0b01..=0b11) | (true, 0b00, 0b01 | 0b11) | (true, 0b11, 0b00) => {}
            _ => return Err(Unknown("HMC, SSC and PMC that are reserved or depend on the Security state")),
        }
        Ok(match self.visit.level.el() {
            2 => hmc,
            1 => privilege & 0b01 != 0,
            _ => privilege & 0b10 != 0,
        })
    }

    /// `AArch64.BreakpointValueMatch` of a context.
    fn context(&self, linked: &Linked) -> Result<bool, Unknown> {
        let equals = |contextidr: u32| linked.value & 0xffff_ffff == contextidr.into();
        let below = self.visit.level != Level::El2;
        let Visit { contextidr_el1, contextidr_el2, .. } = *self.visit;
        if !linked.control.e() || !is_certain(linked.control) {
            return Err(Unknown("a context that is not enabled at every level"));
        }
        match linked.control.bt() {
            BT_CONTEXT_LINKED if self.in_host() => Ok(equals(contextidr_el2)),
            BT_CONTEXT_LINKED => Ok(below && equals(contextidr_el1)),
            BT_CONTEXTIDR_EL1_LINKED => Ok(below && !self.in_host() && equals(contextidr_el1)),
            _ => Err(Unknown("a context of this type at EL2")),
        }
    }

    /// MRS or MSR of a register, which may be missing.
    fn access(&self, reg: SysReg, read: bool) -> Result<Vec<Outcome>, Unknown> {
        let mut outcomes = self.access_to(reg, read)?;
        let untrapped = outcomes.contains(&Outcome::Completed);
        if self.pe.lacking.contains(&reg) || (untrapped && self.pe.undefined.contains(&reg)) {
            outcomes.push(self.undefined());
        }
        Ok(outcomes)
    }

    /// The instruction is UNDEFINED.
    fn undefined(&self) -> Outcome {
        let target = if self.visit.level == Level::El2 || self.tge() { Target::El2 } else { Target::El1 };
        self.taken(target, EC_UNKNOWN, 0x1ff_ffff, 0)
    }

    fn access_to(&self, reg: SysReg, read: bool) -> Result<Vec<Outcome>, Unknown> {
        let trap = Trap::of(reg).ok_or(Unknown("this register at EL2"))?;
        let from = self.visit.level.el();
        let exists = match reg.debug_number() {
            Some((DebugRegister::Bvr | DebugRegister::Bcr, n)) => n < self.pe.shape.breakpoints,
            Some((DebugRegister::Wvr | DebugRegister::Wcr, n)) => n < self.pe.shape.watchpoints,
            None => true,
        };
        let allowed = if read { trap.read } else { trap.write };
        let is_id = reg.is_id_register();
        if is_id && from == 0 {
            // With FEAT_IDST it is a trap, and a kernel may emulate the read.
            return Err(Unknown("an ID register at EL0"));
        }
        if !exists || !allowed || (from == 0 && !trap.el0) {
            return Ok(vec![self.undefined()]);
        }
        let trapped = |target| {
            let encoding = u64::from(reg.encoding());
            let field = |at: u64, width: u64| encoding >> at & ((1 << width) - 1);
            // ISS: Op0, Op2, Op1, CRn, Rt, CRm, Direction.
            let iss = field(14, 2) << 20
                | field(0, 3) << 17
                | field(11, 3) << 14
                | field(7, 4) << 10
                | u64::from(self.visit.instruction.rt()) << 5
                | field(3, 4) << 1
                | u64::from(read);
            self.taken(target, EC_SYSTEM, 0x1ff_ffff, iss)
        };
        if from == 2 {
            return Ok(vec![Outcome::Completed]);
        }
        let channel = trap.mdcr.tdcc();
        if from == 0 && channel && self.visit.tdcc_el1 {
            let target = if self.tge() { Target::El2 } else { Target::El1 };
            return Ok(vec![trapped(target)]);
        }
        let filter =
            if read { (trap.hdfgrtr, self.visit.hdfgrtr) } else { (trap.hdfgwtr, self.visit.hdfgwtr) };
        let by_filter = from == 1 && matches!(filter, (Some(bit), set) if set >> bit & 1 != 0);
        let by_mdcr = self.mdcr.raw_value() & trap.mdcr.raw_value() != 0;
        let by_tge = from == 0 && self.tge();
        let by_tid3 = is_id && self.visit.tid3;
        if !(by_filter || by_mdcr || by_tge || by_tid3) {
            return Ok(vec![Outcome::Completed]);
        }
        let mut outcomes = vec![trapped(Target::El2)];
        // IMPLEMENTATION DEFINED: "Trapped by MDCR_EL2.TDOSA".
        let only_tdosa = self.mdcr.tdosa() && !self.mdcr.tde() && !by_filter;
        if reg == crate::sysreg::OSDLR_EL1 && !self.pe.shape.double_lock && only_tdosa {
            outcomes.push(Outcome::Completed);
        }
        Ok(outcomes)
    }
}

/// The bits of ISS besides the fault status that are compared: WnR of a Watchpoint exception.
const fn iss_defined(ec: u8) -> u64 {
    if ec == EC_WATCHPOINT_LOWER_EL { WNR } else { 0 }
}

/// The fields of a linked context that select Exception levels select every one.
fn is_certain(control: Dbgbcr) -> bool {
    control.hmc()
        && control.ssc().value() == 0
        && control.pmc().value() == 0b11
        && control.bas().value() == 0b1111
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::Mdscr,
        sysreg::{ID_AA64DFR0_EL1, MDCCSR_EL0, OSDLR_EL1, OSLAR_EL1, OSLSR_EL1, dbgbcr},
    };

    const PE: Pe = Pe::new(Shape::from_id_aa64dfr0(0xf0_0030_5009), true, true);

    fn target(visit: &Visit) -> Option<(Target, u64)> {
        match PE.allowed(visit).expect("modelled").as_slice() {
            [Outcome::Taken(expected)] => Some((expected.target, expected.esr >> 26)),
            [Outcome::Completed] => None,
            more => panic!("{more:?}"),
        }
    }

    #[test]
    fn each_control_traps_its_own_registers() {
        let tdosa = Mdcr::DEFAULT.with_tdosa(true);
        let read = |reg, mdcr| Visit { mdcr, ..Visit::new(Level::El1, Instruction::Read(reg)) };
        assert_eq!(target(&read(OSLSR_EL1, tdosa)), Some((Target::El2, 0x18)));
        assert_eq!(target(&read(dbgbcr(0), tdosa)), None);
        assert_eq!(target(&read(dbgbcr(0), Mdcr::DEFAULT.with_tda(true))), Some((Target::El2, 0x18)));
        assert_eq!(PE.allowed(&read(OSDLR_EL1, tdosa)).map(|all| all.len()), Ok(2), "no Double Lock");
        assert_eq!(target(&read(OSDLR_EL1, Mdcr::DEFAULT.with_tde(true))), Some((Target::El2, 0x18)));
    }

    #[test]
    fn undefined_comes_before_a_trap_and_is_of_the_level_that_executes() {
        let tde = Mdcr::DEFAULT.with_tde(true);
        let beyond = Instruction::Read(dbgbcr(15));
        for (level, expected) in
            [(Level::El1, Target::El1), (Level::El0, Target::El1), (Level::HostEl0, Target::El2)]
        {
            assert_eq!(target(&Visit { mdcr: tde, ..Visit::new(level, beyond) }), Some((expected, 0)));
        }
    }

    #[test]
    fn the_wrong_direction_is_undefined_and_not_trapped() {
        let wrong = [Instruction::Read(OSLAR_EL1), Instruction::Write(OSLSR_EL1, 0)];
        for instruction in wrong {
            let visit = Visit { mdcr: Mdcr::DEFAULT.with_tde(true), ..Visit::new(Level::El1, instruction) };
            assert_eq!(target(&visit), Some((Target::El1, 0)));
        }
    }

    #[test]
    fn nothing_more_is_asked_of_a_register_that_is_undefined_at_el2() {
        let undefined = Pe { undefined: vec![OSLSR_EL1], ..PE };
        let lacking = Pe { lacking: vec![OSLSR_EL1], ..undefined.clone() };
        let read = |mdcr| Visit { mdcr, ..Visit::new(Level::El1, Instruction::Read(OSLSR_EL1)) };
        let count = |pe: &Pe, mdcr| pe.allowed(&read(mdcr)).map(|all| all.len());
        let (none, trapped) = (Mdcr::DEFAULT, Mdcr::DEFAULT.with_tdosa(true));
        assert_eq!([count(&PE, none), count(&undefined, none), count(&lacking, none)], [Ok(1), Ok(2), Ok(2)]);
        assert_eq!([count(&undefined, trapped), count(&lacking, trapped)], [Ok(1), Ok(2)]);
    }

    #[test]
    fn the_syndrome_of_a_trap_names_the_access() {
        let visit = Visit {
            mdcr: Mdcr::DEFAULT.with_tda(true),
            ..Visit::new(Level::El1, Instruction::Read(dbgbcr(3)))
        };
        let Ok([Outcome::Taken(trap)]) = PE.allowed(&visit).as_deref().map(|all| [all[0]]) else { panic!() };
        // Op0 2, Op2 5, Op1 0, CRn 0, Rt, CRm 3, read.
        let rt = u64::from(visit.instruction.rt());
        assert_ne!(rt, 0);
        assert_eq!(trap.esr, 0x18 << 26 | 1 << 25 | 2 << 20 | 5 << 17 | rt << 5 | 3 << 1 | 1);
    }

    #[test]
    fn the_channel_at_el0_is_el1s_and_then_el2s_and_the_hosts_always() {
        let read = |level| Visit::new(level, Instruction::Read(MDCCSR_EL0));
        assert_eq!(target(&read(Level::El0)), None);
        assert_eq!(target(&read(Level::HostEl0)), Some((Target::El2, 0x18)));
        let el1 = Visit { tdcc_el1: true, mdcr: Mdcr::DEFAULT.with_tda(true), ..read(Level::El0) };
        assert_eq!(target(&el1), Some((Target::El1, 0x18)));
        assert_eq!(target(&Visit { level: Level::El1, ..el1 }), Some((Target::El2, 0x18)));
    }

    fn armed(level: Level) -> Visit {
        let control = Dbgbcr::address_at_el1().with_hmc(true).with_pmc(arbitrary_int::u2::new(0b11));
        let mdscr = Mdscr::breakpoints_at_el1();
        let breakpoint = Some(super::super::Breakpoint { n: 0, control, linked: None });
        Visit { unmasked: true, mdscr, breakpoint, ..Visit::new(level, Instruction::Nop) }
    }

    #[test]
    fn debug_exceptions_go_to_el2_with_tde_and_never_come_from_above() {
        let tde = |visit: Visit| Visit { mdcr: Mdcr::DEFAULT.with_tde(true), ..visit };
        assert_eq!(target(&armed(Level::El1)), Some((Target::El1, 0x31)));
        assert_eq!(target(&tde(armed(Level::El1))), Some((Target::El2, 0x30)));
        assert_eq!(target(&armed(Level::El2)), None, "EL2 is above ELD");
        assert_eq!(target(&tde(armed(Level::El2))), Some((Target::El2, 0x31)));
        assert_eq!(target(&Visit { unmasked: false, ..tde(armed(Level::El2)) }), None);
        assert_eq!(target(&Visit { unmasked: false, ..tde(armed(Level::El1)) }), Some((Target::El2, 0x30)));
        assert_eq!(target(&Visit { os_lock: true, ..tde(armed(Level::El1)) }), None);
    }

    #[test]
    fn a_context_is_that_of_the_host_at_el2() {
        let linked = |bt, value| Linked {
            n: 5,
            control: armed(Level::El1).breakpoint.expect("one").control.with_bt(bt),
            value,
        };
        let at = |level, linked| {
            let mut visit = Visit { mdcr: Mdcr::DEFAULT.with_tde(true), ..armed(level) };
            let breakpoint = visit.breakpoint.as_mut().expect("one");
            breakpoint.control = breakpoint.control.with_bt(BT_ADDRESS_LINKED);
            breakpoint.linked = Some(linked);
            Visit { contextidr_el1: 1, contextidr_el2: 2, ..visit }
        };
        let fires = |level, linked| target(&at(level, linked)).is_some();
        assert!(fires(Level::El2, linked(BT_CONTEXT_LINKED, 2)));
        assert!(!fires(Level::El2, linked(BT_CONTEXT_LINKED, 1)));
        assert!(fires(Level::El1, linked(BT_CONTEXT_LINKED, 1)));
        assert!(fires(Level::El1, linked(BT_CONTEXTIDR_EL1_LINKED, 1)));
        assert!(!fires(Level::El2, linked(BT_CONTEXTIDR_EL1_LINKED, 1)));
        assert!(!fires(Level::El2, linked(BT_CONTEXTIDR_EL1_LINKED, 2)));
        let e2h0 = Pe { e2h: false, ..PE };
        assert_eq!(e2h0.allowed(&at(Level::El2, linked(BT_CONTEXT_LINKED, 2))), Ok(vec![Outcome::Completed]));
    }

    fn expected(visit: &Visit) -> Expected {
        match PE.allowed(visit).as_deref() {
            Ok([Outcome::Taken(expected)]) => *expected,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_selects_el1_alone_does_not_match_at_el2_and_what_selects_el2_matches_nowhere_else() {
        let at = |level, hmc, ssc, pmc| {
            let mut visit = Visit { mdcr: Mdcr::DEFAULT.with_tde(true), ..armed(level) };
            let breakpoint = visit.breakpoint.as_mut().expect("one");
            let ssc = arbitrary_int::u2::new(ssc);
            breakpoint.control =
                breakpoint.control.with_hmc(hmc).with_ssc(ssc).with_pmc(arbitrary_int::u2::new(pmc));
            target(&visit).is_some()
        };
        let levels = [Level::El2, Level::El1, Level::El0];
        assert_eq!(levels.map(|level| at(level, false, 0b00, 0b11)), [false, true, true]);
        assert_eq!(levels.map(|level| at(level, false, 0b00, 0b01)), [false, true, false]);
        assert_eq!(levels.map(|level| at(level, true, 0b00, 0b01)), [true, true, false]);
        assert_eq!(levels.map(|level| at(level, true, 0b11, 0b00)), [true, false, false]);
    }

    #[test]
    fn a_fine_grained_trap_is_of_one_direction_one_register_and_el1() {
        let bit = 1 << 9;
        let visit = |hdfgrtr, hdfgwtr, level, instruction| Visit {
            hdfgrtr,
            hdfgwtr,
            ..Visit::new(level, instruction)
        };
        let (reads, oslar) = (Instruction::Read(OSLSR_EL1), Instruction::Write(OSLAR_EL1, 0));
        assert_eq!(target(&visit(bit, 0, Level::El1, reads)), Some((Target::El2, 0x18)));
        assert_eq!(target(&visit(0, bit, Level::El1, reads)), None, "the bit of writes");
        assert_eq!(target(&visit(0, 1 << 8, Level::El1, oslar)), Some((Target::El2, 0x18)));
        assert_eq!(target(&visit(0, bit, Level::El1, oslar)), None, "the bit of another register");
        assert_eq!(target(&visit(1, 0, Level::El2, Instruction::Read(dbgbcr(0)))), None);
    }

    #[test]
    fn brk_is_not_masked_and_goes_where_debug_exceptions_go() {
        let brk = |level| Visit { os_lock: true, ..Visit::new(level, Instruction::Brk) };
        let tde = |level| Visit { mdcr: Mdcr::DEFAULT.with_tde(true), ..brk(level) };
        assert_eq!(target(&brk(Level::El1)), Some((Target::El1, 0x3c)));
        assert_eq!(target(&tde(Level::El0)), Some((Target::El2, 0x3c)));
        for level in [Level::HostEl0, Level::El2] {
            assert_eq!(target(&brk(level)), Some((Target::El2, 0x3c)));
        }
    }

    #[test]
    fn an_exception_reports_where_it_is_from() {
        let brk = |level, unmasked| expected(&Visit { unmasked, ..Visit::new(level, Instruction::Brk) });
        assert_eq!(brk(Level::El1, false).spsr, pstate::EL1H | pstate::D);
        assert_eq!(brk(Level::El1, true).spsr, pstate::EL1H);
        assert_eq!(brk(Level::El2, true).spsr, pstate::EL2H);
        assert_eq!(brk(Level::HostEl0, true).spsr, pstate::EL0T);
        let vectors = Level::ALL.map(|level| brk(level, true).vector);
        assert_eq!(vectors, [4, 8, 8, 4], "from EL1 to EL1, from EL0 up twice, within EL2");
    }

    #[test]
    fn tid3_traps_id_registers_alone() {
        let tid3 = |reg| Visit { tid3: true, ..Visit::new(Level::El1, Instruction::Read(reg)) };
        assert_eq!(target(&tid3(ID_AA64DFR0_EL1)), Some((Target::El2, 0x18)));
        assert_eq!(target(&tid3(OSLSR_EL1)), None);
    }

    #[test]
    fn far_is_an_address_of_the_access() {
        let control = Dbgwcr::doubleword().with_hmc(true);
        let visit = Visit {
            watchpoint: Some((0, control)),
            breakpoint: None,
            instruction: Instruction::Store,
            mdcr: Mdcr::DEFAULT.with_tde(true),
            ..armed(Level::El1)
        };
        let watched = expected(&visit);
        assert_eq!((watched.far, watched.esr & WNR), (Some((WATCHED, WATCHED + 7)), WNR));
        let seen = |far| {
            Event::Taken(
                Target::El2,
                Exception { vector: watched.vector, esr: watched.esr, elr: 0, spsr: watched.spsr, far },
            )
        };
        assert!(Outcome::Taken(watched).allows(&seen(WATCHED + 7)));
        assert!(!Outcome::Taken(watched).allows(&seen(WATCHED + 8)));
    }

    #[test]
    fn a_step_is_one_instruction_or_none() {
        let mdscr = Mdscr::DEFAULT.with_ss(true);
        let at = |ss| Visit {
            mdscr,
            ss,
            mdcr: Mdcr::DEFAULT.with_tde(true),
            ..Visit::new(Level::El1, Instruction::Nop)
        };
        let elr = |ss| match PE.allowed(&at(ss)).as_deref() {
            Ok([Outcome::Taken(step)]) => step.elr,
            other => panic!("{other:?}"),
        };
        assert_eq!([elr(true), elr(false)], [4, 0]);
    }
}
