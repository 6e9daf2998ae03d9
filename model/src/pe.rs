// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The PE: the state of its debug registers, and which events an operation may cause.
//!
//! Each predicate is written from the meaning of the Arm ARM's, whose name it has. What is not written here is not
//! guessed: an operation whose outcome the model does not know is [`Unknown`], an error of the scenario's author.

use crate::{
    control::{
        BAS_A64, BT_ADDRESS, BT_ADDRESS_LINKED, BT_CONTEXT_LINKED, Dbgbcr, Mdscr, PMC_EL1, PMC_EL1_EL0,
    },
    event::{EC_BREAKPOINT_CURRENT_EL, EC_BRK, Event, Exception},
    guest_debug::Debugger,
    rule::{self, Rule},
    scenario::Op,
    shape::Shape,
    sysreg::{self, DebugRegister, SysReg},
    wire,
};
use alloc::vec::Vec;
use core::fmt;

/// The vector of a synchronous exception from the current Exception level with SP_ELx.
const VECTOR_CURRENT_EL_SYNCHRONOUS: u64 = 4;
/// ESR_EL1.IL: set for each exception that the model knows.
const ESR_IL: u64 = 1 << 25;
/// ESR_EL1.IFSC of a debug exception.
const IFSC_DEBUG: u64 = 0b10_0010;
/// SPSR_EL1: D, A, I, F, IL, SS and M; the condition flags and the bits of later features are the payload's own.
const SPSR_COMPARED: u64 = 0xf << 6 | 1 << 20 | 1 << 21 | 0x1f;
const SPSR_AIF: u64 = 0b111 << 6;
const SPSR_EL1H: u64 = 0b0_0101;
/// MDSCR_EL1's bits that the model defines.
const MDSCR_DEFINED: u64 = 1 << 15 | 1 << 13 | 1;
/// OSLSR_EL1.OSLM: the OS Lock is implemented, bits [3, 0] = 0b10; nTT, bit [2], is RAZ.
const OSLSR_OSLM: u64 = 1 << 3;
/// OSLSR_EL1.OSLK, which userspace may write and the guest only through OSLAR_EL1.
const OSLSR_OSLK: u64 = 1 << 1;

/// An event that the rules allow; bits outside of a mask may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A register reads as `value` where `mask` is set.
    Value {
        /// The defined bits.
        value: u64,
        /// Which bits are defined.
        mask: u64,
    },
    /// A synchronous exception to EL1.
    Exception {
        /// ESR_EL1, all of it.
        esr: u64,
        /// ELR_EL1.
        elr: u64,
        /// SPSR_EL1's compared bits.
        spsr: u64,
    },
    /// KVM refuses userspace's access with this errno.
    Refused(i32),
    /// KVM_RUN ends with KVM_EXIT_DEBUG.
    DebugExit {
        /// `kvm_debug_exit_arch.hsr`.
        hsr: u64,
        /// Which of its bits are defined.
        mask: u64,
        /// The vCPU's PC.
        pc: u64,
        /// It may also not happen.
        optional: bool,
    },
}

impl Expected {
    /// `event` is the one that was expected.
    pub fn admits(&self, event: &Event) -> bool {
        match (*self, *event) {
            (Self::Value { value, mask }, Event::Value(read)) => read & mask == value & mask,
            (Self::Exception { esr, elr, spsr }, Event::Exception(taken)) => {
                taken.vector == VECTOR_CURRENT_EL_SYNCHRONOUS
                    && taken.esr == esr
                    && taken.elr == elr
                    && taken.spsr & SPSR_COMPARED == spsr
            }
            (Self::Refused(errno), Event::Refused(was)) => was == errno,
            (Self::DebugExit { hsr, mask, pc, .. }, Event::DebugExit { hsr: was, pc: at }) => {
                was & mask == hsr & mask && at == pc
            }
            _ => false,
        }
    }

    /// It may also not happen.
    pub const fn is_optional(&self) -> bool {
        matches!(self, Self::DebugExit { optional: true, .. })
    }

    /// The same exit, or none; other events are as they were.
    pub const fn or_nothing(self) -> Self {
        match self {
            Self::DebugExit { hsr, mask, pc, .. } => Self::DebugExit { hsr, mask, pc, optional: true },
            other => other,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Value { value, mask } if mask == u64::MAX => write!(f, "{value:#x}"),
            Self::Value { value, mask } => write!(f, "{:#x} in the bits {mask:#x}", value & mask),
            Self::Exception { esr, elr, spsr } => {
                let vector = VECTOR_CURRENT_EL_SYNCHRONOUS;
                Exception { vector, esr, elr, spsr, far: 0 }.fmt_without_far(f)
            }
            Self::Refused(errno) => Event::Refused(errno).fmt(f),
            Self::DebugExit { hsr, pc, optional, .. } => {
                Event::DebugExit { hsr, pc }.fmt(f)?;
                f.write_str(if optional { ", or nothing" } else { "" })
            }
        }
    }
}

/// The events that one operation may cause, in order, and the rule that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The events.
    pub events: Vec<Expected>,
    /// The rule.
    pub rule: &'static Rule,
}

impl Outcome {
    fn silent(rule: &'static Rule) -> Self {
        Self { events: Vec::new(), rule }
    }

    fn value(value: u64, mask: u64, rule: &'static Rule) -> Self {
        Self { events: Vec::from([Expected::Value { value, mask }]), rule }
    }
}

/// The model has no rule for this operation in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown(
    /// What is not modelled.
    pub &'static str,
);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the model has no rule for {}", self.0)
    }
}

impl core::error::Error for Unknown {}

/// A PE's debug state, as software at EL1 in a VM may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pe {
    shape: Shape,
    dbgbvr: [u64; 16],
    dbgbcr: [Dbgbcr; 16],
    dbgwvr: [u64; 16],
    dbgwcr: [u64; 16],
    mdscr: Mdscr,
    contextidr: u64,
    oslk: bool,
    dlk: bool,
    pstate_d: bool,
    /// Registers were written since the last context synchronization event.
    unsynchronised: bool,
    debugger: Debugger,
}

impl Pe {
    /// A vCPU of this shape as KVM_ARM_VCPU_INIT leaves it.
    ///
    /// The Arm ARM leaves most of these registers UNKNOWN at a reset and locks the OS Lock at a Cold reset; KVM
    /// sets the registers to zero and the OS Lock to unlocked, and this is where a scenario starts.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            dbgbvr: [0; 16],
            dbgbcr: [Dbgbcr::DEFAULT; 16],
            dbgwvr: [0; 16],
            dbgwcr: [0; 16],
            mdscr: Mdscr::DEFAULT,
            contextidr: 0,
            oslk: false,
            dlk: false,
            pstate_d: true,
            unsynchronised: false,
            debugger: Debugger::default(),
        }
    }

    /// What `op` may cause; the PE is then in the state behind it.
    pub fn step(&mut self, op: Op) -> Result<Outcome, Unknown> {
        match op {
            Op::Write { reg, value } => {
                let rule = self.write(reg, value)?;
                self.unsynchronised = true;
                Ok(Outcome::silent(rule))
            }
            Op::Read { reg } => self.read(reg),
            Op::Isb => {
                self.unsynchronised = false;
                Ok(Outcome::silent(&rule::REGISTERS_READ_BACK))
            }
            Op::MaskDebug(mask) => {
                self.pstate_d = mask;
                Ok(Outcome::silent(&rule::PSTATE_D))
            }
            Op::Exec { marker } if self.debugger.is_on() => self.execute_debugged(wire::marker(marker)),
            Op::Exec { marker } => self.execute(wire::marker(marker)),
            Op::Brk if self.debugger.is_on() => self.execute_brk_debugged(),
            Op::Brk => self.execute_brk(),
            Op::Exit => {
                self.unsynchronised = false;
                Ok(Outcome::silent(&rule::EXIT_KEEPS_STATE))
            }
            Op::Debug(debug) => {
                self.unsynchronised = false;
                Ok(self.debugger.set(debug))
            }
            Op::KvmSet { reg: sysreg::OSLAR_EL1 | sysreg::OSDLR_EL1, .. }
            | Op::KvmGet { reg: sysreg::OSLAR_EL1 | sysreg::OSDLR_EL1 } => {
                Err(Unknown("userspace access to a register that KVM does not list"))
            }
            Op::KvmSet { reg, value } => {
                if reg == sysreg::OSLSR_EL1 {
                    self.oslk = value & OSLSR_OSLK != 0;
                } else {
                    self.write(reg, value)?;
                }
                self.unsynchronised = false;
                Ok(Outcome::silent(&rule::ONE_REG_IS_THE_REGISTER))
            }
            Op::KvmGet { reg } => {
                let outcome = self.read(reg)?;
                self.unsynchronised = false;
                Ok(Outcome { rule: &rule::ONE_REG_IS_THE_REGISTER, ..outcome })
            }
        }
    }

    fn numbered(&self, kind: DebugRegister, n: u8) -> Result<usize, Unknown> {
        let count = match kind {
            DebugRegister::Bvr | DebugRegister::Bcr => self.shape.breakpoints,
            DebugRegister::Wvr | DebugRegister::Wcr => self.shape.watchpoints,
        };
        if n < count { Ok(n.into()) } else { Err(Unknown("a debug register beyond the shape's count")) }
    }

    fn write(&mut self, reg: SysReg, value: u64) -> Result<&'static Rule, Unknown> {
        if let Some((kind, n)) = reg.debug_number() {
            let n = self.numbered(kind, n)?;
            match kind {
                DebugRegister::Bvr => self.dbgbvr[n] = value,
                DebugRegister::Bcr => self.dbgbcr[n] = Dbgbcr::new_with_raw_value(value),
                DebugRegister::Wvr => self.dbgwvr[n] = value,
                DebugRegister::Wcr => self.dbgwcr[n] = value,
            }
            return Ok(&rule::REGISTERS_READ_BACK);
        }
        match reg {
            sysreg::MDSCR_EL1 => self.mdscr = Mdscr::new_with_raw_value(value),
            sysreg::CONTEXTIDR_EL1 => self.contextidr = value & 0xffff_ffff,
            sysreg::OSLAR_EL1 => {
                self.oslk = value & 1 == 1;
                return Ok(&rule::OS_LOCK_ACCESS);
            }
            sysreg::OSDLR_EL1 => {
                self.dlk = self.shape.double_lock && value & 1 == 1;
                return Ok(self.double_lock_rule());
            }
            _ => return Err(Unknown("a write of this register")),
        }
        Ok(&rule::REGISTERS_READ_BACK)
    }

    fn read(&self, reg: SysReg) -> Result<Outcome, Unknown> {
        let plain = |value, mask| Outcome::value(value, mask, &rule::REGISTERS_READ_BACK);
        if let Some((kind, n)) = reg.debug_number() {
            let n = self.numbered(kind, n)?;
            return Ok(match kind {
                DebugRegister::Bvr => plain(self.dbgbvr[n], self.dbgbvr_defined(n)?),
                DebugRegister::Bcr => plain(self.dbgbcr[n].raw_value(), self.dbgbcr_defined(n)?),
                DebugRegister::Wvr | DebugRegister::Wcr => return Err(Unknown("a read of a watchpoint")),
            });
        }
        Ok(match reg {
            sysreg::MDSCR_EL1 => plain(self.mdscr.raw_value(), MDSCR_DEFINED),
            sysreg::CONTEXTIDR_EL1 => plain(self.contextidr, u64::MAX),
            sysreg::OSLSR_EL1 => {
                let value = OSLSR_OSLM | if self.oslk { OSLSR_OSLK } else { 0 };
                Outcome::value(value, u64::MAX, &rule::OS_LOCK_ACCESS)
            }
            sysreg::OSDLR_EL1 => Outcome::value(u64::from(self.dlk), u64::MAX, self.double_lock_rule()),
            _ => return Err(Unknown("a read of this register")),
        })
    }

    fn double_lock_rule(&self) -> &'static Rule {
        if self.shape.double_lock { &rule::DOUBLE_LOCK_ACCESS } else { &rule::DOUBLE_LOCK_ABSENT }
    }

    /// DBGBVR<n>_EL1's bits that read as written: an address without its low two bits, which are RES0, or a
    /// Context ID, above which the register is RES0.
    fn dbgbvr_defined(&self, n: usize) -> Result<u64, Unknown> {
        match self.dbgbcr[n].bt() {
            BT_ADDRESS | BT_ADDRESS_LINKED => Ok(!0b11),
            BT_CONTEXT_LINKED => Ok(0xffff_ffff),
            _ => Err(Unknown("this breakpoint type")),
        }
    }

    /// DBGBCR<n>_EL1's bits that read as written. LBN is UNKNOWN where nothing is linked, BAS where no address is
    /// compared; BAS is also RES1 on a PE without AArch32, which may then read a zero as one.
    fn dbgbcr_defined(&self, n: usize) -> Result<u64, Unknown> {
        const BT: u64 = 0xf << 20;
        const LBN: u64 = 0xf << 16;
        const SSC_HMC_PMC_E: u64 = 0b111 << 13 | 0b111;
        let control = self.dbgbcr[n];
        let bas = u64::from(control.bas().value()) << 5;
        match control.bt() {
            BT_ADDRESS => Ok(BT | SSC_HMC_PMC_E | bas),
            BT_ADDRESS_LINKED => Ok(BT | SSC_HMC_PMC_E | bas | LBN),
            BT_CONTEXT_LINKED => Ok(BT | 1),
            _ => Err(Unknown("this breakpoint type")),
        }
    }

    fn execute(&self, marker: u64) -> Result<Outcome, Unknown> {
        let mut outcome = Outcome::silent(&rule::BREAKPOINT_MATCHES);
        for instruction in [marker, marker + 4] {
            let (event, rule) = self.breakpoint_exception(instruction)?;
            if instruction == marker || (event.is_some() && outcome.events.is_empty()) {
                outcome.rule = rule;
            }
            outcome.events.extend(event);
        }
        Ok(outcome)
    }

    /// A marker while userspace debugs: its exits, and once it has switched off the guest's exceptions.
    fn execute_debugged(&mut self, marker: u64) -> Result<Outcome, Unknown> {
        if self.unsynchronised {
            return Err(Unknown("executing before a context synchronization event"));
        }
        if self.double_lock_status() {
            return Err(Unknown("the OS Double Lock while userspace debugs"));
        }
        let guests_own = self.guests_breakpoint_matches(marker)?;
        if self.guests_breakpoint_matches(marker + 4)? {
            return Err(Unknown("a guest's breakpoint behind a marker while userspace debugs"));
        }
        let mut outcome = self.debugger.exits_at_marker(marker, self.shape.breakpoints, guests_own)?;
        if !self.debugger.is_on() {
            outcome.events.extend(self.execute(marker)?.events);
        }
        Ok(outcome)
    }

    /// The BRK marker while userspace debugs.
    fn execute_brk_debugged(&mut self) -> Result<Outcome, Unknown> {
        if self.guests_breakpoint_matches(wire::BRK)? || self.guests_breakpoint_matches(wire::BRK + 4)? {
            return Err(Unknown("a breakpoint on the BRK marker"));
        }
        let mut outcome = self.debugger.exits_at_brk()?;
        if !self.debugger.is_on() {
            outcome.events.extend(self.execute_brk()?.events);
        }
        Ok(outcome)
    }

    /// A breakpoint of the guest's would generate an exception that is taken to EL2, for which KDE and PSTATE.D do
    /// not matter.
    fn guests_breakpoint_matches(&self, instruction: u64) -> Result<bool, Unknown> {
        let mut matches = false;
        for n in self.shape.breakpoint_numbers() {
            matches |= self.breakpoint_match(n.into(), instruction)?.is_ok();
        }
        Ok(matches && self.mdscr.mde() && !self.oslk)
    }

    fn execute_brk(&self) -> Result<Outcome, Unknown> {
        for instruction in [wire::BRK, wire::BRK + 4] {
            if self.breakpoint_exception(instruction)?.0.is_some() {
                return Err(Unknown("a breakpoint on the BRK marker"));
            }
        }
        let esr = u64::from(EC_BRK) << 26 | ESR_IL | u64::from(wire::BRK_IMMEDIATE);
        let event = Expected::Exception { esr, elr: wire::BRK, spsr: self.spsr() };
        Ok(Outcome { events: Vec::from([event]), rule: &rule::BRK_UNMASKED })
    }

    /// SPSR_EL1 of an exception from a marker: the payload runs at EL1h with interrupts masked.
    fn spsr(&self) -> u64 {
        SPSR_AIF | SPSR_EL1H | u64::from(self.pstate_d) << 9
    }

    /// The exception that a breakpoint generates at `instruction`, if any, and the rule that decides.
    fn breakpoint_exception(&self, instruction: u64) -> Result<(Option<Expected>, &'static Rule), Unknown> {
        if self.unsynchronised {
            return Err(Unknown("executing before a context synchronization event"));
        }
        let mut matched = None;
        let mut why_not = &rule::BREAKPOINT_ENABLED;
        for n in self.shape.breakpoint_numbers() {
            match self.breakpoint_match(n.into(), instruction)? {
                Ok(rule) => matched = Some(rule),
                Err(rule) if self.dbgbcr[usize::from(n)].e() => why_not = rule,
                Err(_) => {}
            }
        }
        let Some(rule) = matched else { return Ok((None, why_not)) };
        if let Err(rule) = self.generate_debug_exceptions() {
            return Ok((None, rule));
        }
        if !self.mdscr.mde() {
            return Ok((None, &rule::MDE));
        }
        let esr = u64::from(EC_BREAKPOINT_CURRENT_EL) << 26 | ESR_IL | IFSC_DEBUG;
        Ok((Some(Expected::Exception { esr, elr: instruction, spsr: self.spsr() }), rule))
    }

    /// `AArch64.GenerateDebugExceptionsFrom(EL1)` with EL1 as the target: MDCR_EL2.TDE is zero for a guest that
    /// userspace does not debug.
    fn generate_debug_exceptions(&self) -> Result<(), &'static Rule> {
        if self.oslk {
            Err(&rule::OS_LOCK)
        } else if self.double_lock_status() {
            Err(&rule::DOUBLE_LOCK)
        } else if !self.mdscr.kde() {
            Err(&rule::KDE)
        } else if self.pstate_d {
            Err(&rule::PSTATE_D)
        } else {
            Ok(())
        }
    }

    /// `DoubleLockStatus()`. DBGPRCR_EL1.CORENPDRQ, which can keep the lock from working, is set by an external
    /// debugger's power-up request or by software; a guest has no such debugger and no scenario sets it.
    fn double_lock_status(&self) -> bool {
        self.shape.double_lock && self.dlk
    }

    /// `AArch64.BreakpointMatch` at EL1, for the types and conditions that the scenarios use: the rule by which the
    /// breakpoint matches, or the rule by which it does not.
    fn breakpoint_match(
        &self,
        n: usize,
        instruction: u64,
    ) -> Result<Result<&'static Rule, &'static Rule>, Unknown> {
        let control = self.dbgbcr[n];
        if !control.e() {
            return Ok(Err(&rule::BREAKPOINT_ENABLED));
        }
        match control.bt() {
            BT_ADDRESS | BT_ADDRESS_LINKED => {}
            BT_CONTEXT_LINKED if self.shape.is_context_aware(n as u8) => {
                return Ok(Err(&rule::LINKED_CONTEXT));
            }
            BT_CONTEXT_LINKED => {
                return Err(Unknown("a context match on a breakpoint that is not context-aware"));
            }
            _ => return Err(Unknown("this breakpoint type")),
        }
        if control.bas() != BAS_A64 {
            return Err(Unknown("a byte address select other than 0b1111"));
        }
        if control.hmc() || control.ssc().value() != 0 || control.pmc().value() == 0 {
            return Err(Unknown("these values of HMC, SSC and PMC"));
        }
        if control.pmc() != PMC_EL1 && control.pmc() != PMC_EL1_EL0 {
            return Ok(Err(&rule::BREAKPOINT_PRIVILEGE));
        }
        if self.dbgbvr[n] & !0b11 != instruction {
            return Ok(Err(&rule::BREAKPOINT_ADDRESS));
        }
        if control.bt() == BT_ADDRESS {
            return Ok(Ok(&rule::BREAKPOINT_MATCHES));
        }
        let linked = self.linked_context_match(control.lbn().value())?;
        Ok(if linked { Ok(&rule::LINKED_CONTEXT) } else { Err(&rule::LINKED_CONTEXT) })
    }

    /// The context-aware breakpoint that a link names matches the current context.
    fn linked_context_match(&self, lbn: u8) -> Result<bool, Unknown> {
        if !self.shape.is_context_aware(lbn) {
            return Err(Unknown("a link to a breakpoint that is not context-aware"));
        }
        let partner = self.dbgbcr[usize::from(lbn)];
        Ok(partner.e()
            && partner.bt() == BT_CONTEXT_LINKED
            && self.dbgbvr[usize::from(lbn)] & 0xffff_ffff == self.contextidr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{control::PMC_EL0, event::Logged, judge::judge, scenario::Scenario};
    use arbitrary_int::{u2, u4};
    use proptest::prelude::*;

    const SHAPE: Shape =
        Shape { debug_ver: 8, breakpoints: 6, watchpoints: 4, context_aware: 2, double_lock: true };
    const ARMED: Mdscr = Mdscr::breakpoints_at_el1();

    /// The last operation's outcome.
    fn last(shape: Shape, scenario: &Scenario) -> Outcome {
        let mut pe = Pe::new(shape);
        let mut outcome = None;
        for op in scenario.ops() {
            outcome = Some(pe.step(*op).expect("modelled"));
        }
        outcome.expect("an operation")
    }

    fn armed(control: Dbgbcr, mdscr: Mdscr) -> Scenario {
        Scenario::new().then(Op::MaskDebug(false)).breakpoint(0, 1, control).enable(mdscr)
    }

    fn breakpoint_at(elr: u64) -> Vec<Expected> {
        Vec::from([Expected::Exception { esr: 0xc600_0022, elr, spsr: 0x1c5 }])
    }

    fn silent_by(scenario: &Scenario, rule: &'static Rule) {
        let outcome = last(SHAPE, scenario);
        assert_eq!(outcome.events, []);
        assert_eq!(outcome.rule, rule);
    }

    #[test]
    fn an_enabled_breakpoint_fires_at_its_instruction() {
        let outcome = last(SHAPE, &armed(Dbgbcr::address_at_el1(), ARMED).exec(1));
        assert_eq!(outcome.events, breakpoint_at(wire::marker(1)));
    }

    #[test]
    fn a_breakpoint_on_the_return_fires_there_and_not_at_the_marker() {
        let scenario = Scenario::new()
            .then(Op::MaskDebug(false))
            .breakpoint_at(0, wire::marker(1) + 4, Dbgbcr::address_at_el1())
            .enable(ARMED)
            .exec(1);
        assert_eq!(last(SHAPE, &scenario).events, breakpoint_at(wire::marker(1) + 4));
    }

    #[test]
    fn a_breakpoint_elsewhere_is_silent() {
        silent_by(&armed(Dbgbcr::address_at_el1(), ARMED).exec(2), &rule::BREAKPOINT_ADDRESS);
    }

    #[test]
    fn a_disabled_breakpoint_is_silent() {
        silent_by(&armed(Dbgbcr::address_at_el1().with_e(false), ARMED).exec(1), &rule::BREAKPOINT_ENABLED);
    }

    #[test]
    fn a_breakpoint_for_el0_is_silent_at_el1() {
        silent_by(
            &armed(Dbgbcr::address_at_el1().with_pmc(PMC_EL0), ARMED).exec(1),
            &rule::BREAKPOINT_PRIVILEGE,
        );
    }

    #[test]
    fn mde_kde_and_pstate_d_each_keep_a_breakpoint_silent() {
        let control = Dbgbcr::address_at_el1();
        silent_by(&armed(control, ARMED.with_mde(false)).exec(1), &rule::MDE);
        silent_by(&armed(control, ARMED.with_kde(false)).exec(1), &rule::KDE);
        silent_by(&armed(control, ARMED).then(Op::MaskDebug(true)).exec(1), &rule::PSTATE_D);
    }

    #[test]
    fn the_os_lock_keeps_a_breakpoint_silent_until_it_is_unlocked() {
        let locked = armed(Dbgbcr::address_at_el1(), ARMED).write(sysreg::OSLAR_EL1, 1);
        silent_by(&locked.clone().exec(1), &rule::OS_LOCK);
        let unlocked = locked.write(sysreg::OSLAR_EL1, 0).exec(1);
        assert_eq!(last(SHAPE, &unlocked).events, breakpoint_at(wire::marker(1)));
    }

    #[test]
    fn the_double_lock_keeps_a_breakpoint_silent_where_it_is_implemented() {
        let locked = armed(Dbgbcr::address_at_el1(), ARMED).write(sysreg::OSDLR_EL1, 1);
        silent_by(&locked.clone().exec(1), &rule::DOUBLE_LOCK);
        let without = Shape { double_lock: false, ..SHAPE };
        assert_eq!(last(without, &locked.exec(1)).events, breakpoint_at(wire::marker(1)));
    }

    #[test]
    fn osdlr_reads_as_written_where_it_is_implemented_and_as_zero_elsewhere() {
        let scenario = Scenario::new().write(sysreg::OSDLR_EL1, u64::MAX).read(sysreg::OSDLR_EL1);
        let value = |value| Vec::from([Expected::Value { value, mask: u64::MAX }]);
        assert_eq!(last(SHAPE, &scenario).events, value(1));
        assert_eq!(last(Shape { double_lock: false, ..SHAPE }, &scenario).events, value(0));
    }

    #[test]
    fn brk_is_never_masked() {
        let masked = Scenario::new().write(sysreg::OSLAR_EL1, 1).write(sysreg::OSDLR_EL1, 1).isb();
        let outcome = last(SHAPE, &masked.then(Op::Brk));
        let brk = Expected::Exception { esr: 0xf200_00df, elr: wire::BRK, spsr: 0x3c5 };
        assert_eq!(outcome.events, [brk]);
    }

    fn linked(lbn: u8, partner: Dbgbcr, value: u64, contextidr: u64) -> Scenario {
        armed(Dbgbcr::address_linked_to(u4::new(lbn)), ARMED)
            .write(sysreg::dbgbvr(lbn), value)
            .write(sysreg::dbgbcr(lbn), partner.raw_value())
            .write(sysreg::CONTEXTIDR_EL1, contextidr)
            .exec(1)
    }

    #[test]
    fn a_linked_breakpoint_fires_only_in_its_context() {
        let fires = linked(5, Dbgbcr::linked_context(), 0x1234, 0x1234);
        assert_eq!(last(SHAPE, &fires).events, breakpoint_at(wire::marker(1)));
        silent_by(&linked(5, Dbgbcr::linked_context(), 0x1234, 0x1235), &rule::LINKED_CONTEXT);
        silent_by(&linked(5, Dbgbcr::linked_context().with_e(false), 0x1234, 0x1234), &rule::LINKED_CONTEXT);
    }

    #[test]
    fn what_is_not_modelled_is_said_and_not_guessed() {
        let attempt = |scenario: Scenario| {
            let mut pe = Pe::new(SHAPE);
            scenario.ops().iter().try_for_each(|op| pe.step(*op).map(drop))
        };
        assert!(attempt(linked(3, Dbgbcr::linked_context(), 1, 1)).is_err(), "3 of 6/2 is not context-aware");
        assert!(attempt(Scenario::new().write(sysreg::dbgbvr(6), 0)).is_err(), "6 of 6 is not there");
        assert!(
            attempt(armed(Dbgbcr::address_at_el1(), ARMED).then(Op::Exec { marker: 1 })).is_err(),
            "no ISB"
        );
        let odd = Dbgbcr::address_at_el1().with_ssc(u2::new(1));
        assert!(attempt(armed(odd, ARMED).exec(1)).is_err(), "SSC 0b01");
    }

    #[test]
    fn a_mismatch_names_what_was_seen_and_the_rule() {
        let scenario = Scenario::new().write(sysreg::OSDLR_EL1, 1).read(sysreg::OSDLR_EL1);
        let log = [Logged { op: 1, event: Event::Value(0) }];
        let mismatch = judge(Pe::new(SHAPE), scenario.ops(), &log).expect("modelled").expect("a mismatch");
        assert_eq!(mismatch.observed, "mrs OSDLR_EL1: 0x0");
        assert_eq!(mismatch.rule(), &rule::DOUBLE_LOCK_ACCESS);
    }

    #[test]
    fn an_event_too_many_or_in_the_wrong_vector_is_a_mismatch() {
        let scenario = armed(Dbgbcr::address_at_el1(), ARMED).exec(1);
        let place = scenario.ops().len() - 1;
        let taken = Exception { vector: 4, esr: 0xc600_0022, elr: wire::marker(1), spsr: 0x1c5, far: 7 };
        let judged = |taken: &[Exception]| {
            let log: Vec<Logged> =
                taken.iter().map(|taken| Logged { op: place, event: Event::Exception(*taken) }).collect();
            judge(Pe::new(SHAPE), scenario.ops(), &log).expect("modelled").map(|mismatch| mismatch.observed)
        };
        assert_eq!(judged(&[taken]), None, "FAR is UNKNOWN");
        assert_eq!(judged(&[]).as_deref(), Some("exec marker 1: no event"));
        assert!(judged(&[taken, taken]).is_some());
        assert!(judged(&[Exception { vector: 0, ..taken }]).is_some());
        assert!(judged(&[Exception { esr: 0xc200_0022, ..taken }]).is_some());
        assert!(judged(&[Exception { spsr: 0x3c5, ..taken }]).is_some());
        assert!(judged(&[Exception { elr: wire::marker(2), ..taken }]).is_some());
        assert!(judged(&[Exception { spsr: 0x6000_01c5, ..taken }]).is_none(), "flags are the payload's own");
    }

    #[test]
    fn lbn_of_an_unlinked_breakpoint_may_read_as_anything() {
        let scenario =
            Scenario::new().write(sysreg::dbgbcr(0), 0x0f_01e3).read(sysreg::dbgbcr(0)).ops().to_vec();
        for (read, matches) in [(0x0f_01e3, true), (0x01e3, true), (0x01e1, false), (0x2001e3, false)] {
            let log = [Logged { op: 1, event: Event::Value(read) }];
            assert_eq!(
                judge(Pe::new(SHAPE), &scenario, &log).expect("modelled").is_none(),
                matches,
                "{read:#x}"
            );
        }
    }

    #[test]
    fn bas_written_as_zero_may_read_as_res1() {
        let scenario = Scenario::new().write(sysreg::dbgbcr(0), 0).read(sysreg::dbgbcr(0));
        for (read, matches) in [(0, true), (0x1e0, true), (0x1e1, false)] {
            let log = [Logged { op: 1, event: Event::Value(read) }];
            let mismatch = judge(Pe::new(SHAPE), scenario.ops(), &log).expect("modelled");
            assert_eq!(mismatch.is_none(), matches, "{read:#x}");
        }
        let set = Scenario::new().write(sysreg::dbgbcr(0), 0x1e0).read(sysreg::dbgbcr(0));
        let log = [Logged { op: 1, event: Event::Value(0) }];
        assert!(judge(Pe::new(SHAPE), set.ops(), &log).expect("modelled").is_some(), "ones read as ones");
    }

    proptest! {
        #[test]
        fn a_breakpoint_that_is_not_enabled_never_fires(n in 0_u8..6, value: u64, control: u64, mdscr: u64, d: bool) {
            let scenario = Scenario::new()
                .then(Op::MaskDebug(d))
                .write(sysreg::dbgbvr(n), value)
                .write(sysreg::dbgbcr(n), control & !1)
                .write(sysreg::MDSCR_EL1, mdscr)
                .exec(1);
            prop_assert_eq!(last(SHAPE, &scenario).events, Vec::new());
        }

        #[test]
        fn a_lock_never_adds_an_event(n in 0_u8..6, mdscr: u64, d: bool, os_lock: bool) {
            let scenario = Scenario::new()
                .then(Op::MaskDebug(d))
                .breakpoint(n, 1, Dbgbcr::address_at_el1())
                .write(sysreg::MDSCR_EL1, mdscr);
            let lock = if os_lock { sysreg::OSLAR_EL1 } else { sysreg::OSDLR_EL1 };
            prop_assert_eq!(last(SHAPE, &scenario.clone().write(lock, 1).exec(1)).events, Vec::new());
        }

        #[test]
        fn which_breakpoint_is_used_makes_no_difference(n in 0_u8..6, marker in 0_u8..32) {
            let scenario = Scenario::new()
                .then(Op::MaskDebug(false))
                .breakpoint(n, marker, Dbgbcr::address_at_el1())
                .enable(ARMED)
                .exec(marker);
            prop_assert_eq!(last(SHAPE, &scenario).events, breakpoint_at(wire::marker(marker)));
        }
    }
}
