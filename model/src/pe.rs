// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The PE: the state of its debug registers, and which events an operation may cause.
//!
//! Each predicate is written from the meaning of the Arm ARM's, whose name it has. What is not written here is not
//! guessed: an operation whose outcome the model does not know is [`Unknown`], an error of the scenario's author.

use crate::{
    access::{self, Access},
    control::{
        BAS_A64, BT_ADDRESS, BT_ADDRESS_LINKED, BT_CONTEXT_LINKED, Dbgbcr, Dbgwcr, LSC_LOAD, LSC_STORE,
        Mdscr, PMC_EL0, PMC_EL1,
    },
    event::{EC_BREAKPOINT_LOWER_EL, EC_BRK, EC_STEP_LOWER_EL, EC_WATCHPOINT_LOWER_EL, Event, Exception},
    guest_debug::Debugger,
    id_write::EINVAL,
    rule::{self, Rule},
    scenario::{El, Op},
    shape::Shape,
    sysreg::{self, DebugRegister, SysReg},
    wire,
};
use alloc::vec::Vec;
use arbitrary_int::u2;
use core::fmt;

/// The vector of a synchronous exception from the current Exception level with SP_ELx.
const VECTOR_CURRENT_EL_SYNCHRONOUS: u64 = 4;
/// The vector of a synchronous exception from a lower Exception level in AArch64 state.
const VECTOR_LOWER_EL_SYNCHRONOUS: u64 = 8;
/// ESR_EL1's bits without those of a Watchpoint exception that FEAT_Debugv8p9 defines and hardware may set whatever
/// ID_AA64DFR0_EL1 says: WPT, WPTV, WPF, FnP and FnV.
pub(crate) const ESR_WATCHPOINT_COMPARED: u64 = !(0x3f << 18 | 1 << 17 | 1 << 16 | 1 << 15 | 1 << 10);
/// ESR_EL1.WnR.
pub(crate) const ESR_WNR: u64 = 1 << 6;
/// ESR_EL1.IL: set for each exception that the model knows.
const ESR_IL: u64 = 1 << 25;
/// ESR_EL1.IFSC of a debug exception.
const IFSC_DEBUG: u64 = 0b10_0010;
/// SPSR_EL1: D, A, I, F, IL, SS and M; the condition flags and the bits of later features are the payload's own.
const SPSR_COMPARED: u64 = 0xf << 6 | 1 << 20 | 1 << 21 | 0x1f;
const SPSR_AIF: u64 = 0b111 << 6;
const SPSR_EL1H: u64 = 0b0_0101;
const SPSR_EL0T: u64 = 0;
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
        /// The vector.
        vector: u64,
        /// ESR_EL1's compared bits.
        esr: u64,
        /// Which bits of ESR_EL1 are compared.
        esr_mask: u64,
        /// ELR_EL1.
        elr: u64,
        /// SPSR_EL1's compared bits.
        spsr: u64,
        /// The lowest and the highest value of FAR_EL1.
        far: (u64, u64),
    },
    /// The instruction that accesses a register is UNDEFINED. Where it stands is the payload's business.
    Undefined,
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
        /// The lowest and the highest value of `kvm_debug_exit_arch.far`.
        far: (u64, u64),
        /// It may also not happen.
        optional: bool,
    },
}

/// ESR_EL1 of an UNDEFINED instruction: EC 0 and IL.
const ESR_UNDEFINED: u64 = ESR_IL;

/// FAR_EL1 of an exception that leaves it UNKNOWN.
const FAR_UNKNOWN: (u64, u64) = (0, u64::MAX);

impl Expected {
    /// `event` is the one that was expected.
    pub fn admits(&self, event: &Event) -> bool {
        match (*self, *event) {
            (Self::Value { value, mask }, Event::Value(read)) => read & mask == value & mask,
            (Self::Exception { vector, esr, esr_mask, elr, spsr, far }, Event::Exception(taken)) => {
                taken.vector == vector
                    && taken.esr & esr_mask == esr & esr_mask
                    && taken.elr == elr
                    && taken.spsr & SPSR_COMPARED == spsr
                    && (far.0..=far.1).contains(&taken.far)
            }
            (Self::Undefined, Event::Exception(taken)) => {
                taken.vector == VECTOR_CURRENT_EL_SYNCHRONOUS && taken.esr == ESR_UNDEFINED
            }
            (Self::Refused(errno), Event::Refused(was)) => was == errno,
            (Self::DebugExit { hsr, mask, pc, far, .. }, Event::DebugExit { hsr: was, pc: at, far: of }) => {
                was & mask == hsr & mask && at == pc && (far.0..=far.1).contains(&of)
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
            Self::DebugExit { hsr, mask, pc, far, .. } => {
                Self::DebugExit { hsr, mask, pc, far, optional: true }
            }
            other => other,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Undefined => f.write_str("UNDEFINED instruction"),
            Self::Value { value, mask } if mask == u64::MAX => write!(f, "{value:#x}"),
            Self::Value { value, mask } => write!(f, "{:#x} in the bits {mask:#x}", value & mask),
            Self::Exception { vector, esr, elr, spsr, far, .. } => {
                Exception { vector, esr, elr, spsr, far: far.0 }.fmt_without_far(f)?;
                if far == FAR_UNKNOWN { Ok(()) } else { write!(f, " FAR {:#x} to {:#x}", far.0, far.1) }
            }
            Self::Refused(errno) => Event::Refused(errno).fmt(f),
            Self::DebugExit { hsr, pc, far, optional, .. } => {
                Event::DebugExit { hsr, pc, far: far.0 }.fmt(f)?;
                if far.0 != far.1 {
                    write!(f, " to {:#x}", far.1)?;
                }
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

    fn undefined(rule: &'static Rule) -> Self {
        Self { events: Vec::from([Expected::Undefined]), rule }
    }

    fn value(value: u64, mask: u64, rule: &'static Rule) -> Self {
        Self { events: Vec::from([Expected::Value { value, mask }]), rule }
    }
}

/// The set bits of `bas` are one run.
fn is_contiguous(bas: u8) -> bool {
    let run = bas.checked_shr(bas.trailing_zeros()).unwrap_or(0);
    run != 0 && run & run.wrapping_add(1) == 0
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
    dbgwcr: [Dbgwcr; 16],
    mdscr: Mdscr,
    contextidr: u64,
    oslk: bool,
    dlk: bool,
    pstate_d: bool,
    el: El,
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
            dbgwcr: [Dbgwcr::DEFAULT; 16],
            mdscr: Mdscr::DEFAULT,
            contextidr: 0,
            oslk: false,
            dlk: false,
            pstate_d: true,
            el: El::El1,
            unsynchronised: false,
            debugger: Debugger::default(),
        }
    }

    /// What `op` may cause; the PE is then in the state behind it.
    pub fn step(&mut self, op: Op) -> Result<Outcome, Unknown> {
        match op {
            Op::Write { reg, .. } | Op::Read { reg } if self.is_beyond_count(reg) => {
                Ok(Outcome::undefined(&rule::REGISTERS_BEYOND_COUNT))
            }
            Op::Write { reg: sysreg::OSLSR_EL1 | sysreg::ID_AA64DFR0_EL1, .. }
            | Op::Read { reg: sysreg::OSLAR_EL1 } => Ok(Outcome::undefined(&rule::REGISTERS_ONE_WAY)),
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
            Op::Level(el) => {
                self.el = el;
                // What is executed there is entered by an exception return.
                Ok(Outcome::silent(&rule::BREAKPOINT_PRIVILEGE))
            }
            Op::Exec { .. } | Op::Brk | Op::Access { .. } if self.debugger.is_on() && self.el == El::El0 => {
                Err(Unknown("code at EL0 while userspace debugs"))
            }
            Op::Step { .. } if self.debugger.is_on() => {
                Err(Unknown("a step of the guest's own while userspace debugs"))
            }
            Op::Exec { marker } if self.debugger.is_on() => self.execute_debugged(wire::marker(marker)),
            Op::Brk if self.debugger.is_on() => self.execute_brk_debugged(),
            Op::Access { access, address } if self.debugger.is_on() => self.access_debugged(access, address),
            Op::Exec { .. } | Op::Access { .. } | Op::Brk if self.is_stepping() => {
                Err(Unknown("code that is not entered to be stepped, while software step is enabled"))
            }
            Op::Exec { marker } => self.execute(wire::marker(marker)),
            Op::Access { access, address } => self.access(access, address),
            Op::Brk => self.execute_brk(),
            Op::Step { marker, count } => self.software_step(wire::marker(marker), count),
            Op::Exit => {
                self.unsynchronised = false;
                Ok(Outcome::silent(&rule::EXIT_KEEPS_STATE))
            }
            Op::Other(_) | Op::Move => {
                self.unsynchronised = false;
                let other = matches!(op, Op::Other(_));
                Ok(Outcome::silent(if other { &rule::OTHER_VCPU } else { &rule::OTHER_CPU }))
            }
            Op::Debug(debug) => {
                self.unsynchronised = false;
                Ok(self.debugger.set(debug))
            }
            Op::KvmSet { reg: sysreg::OSLAR_EL1 | sysreg::OSDLR_EL1, .. }
            | Op::KvmGet { reg: sysreg::OSLAR_EL1 | sysreg::OSDLR_EL1 } => {
                Err(Unknown("userspace access to a register that KVM does not list"))
            }
            Op::KvmSet { reg: sysreg::OSLSR_EL1, value } if value & !OSLSR_OSLK != OSLSR_OSLM => {
                self.unsynchronised = false;
                let events = Vec::from([Expected::Refused(EINVAL)]);
                Ok(Outcome { events, rule: &rule::OSLSR_FROM_USERSPACE })
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

    fn is_beyond_count(&self, reg: SysReg) -> bool {
        reg.debug_number().is_some_and(|(kind, n)| self.numbered(kind, n).is_err())
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
                DebugRegister::Wcr => self.dbgwcr[n] = Dbgwcr::new_with_raw_value(value),
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
                // Bits [1:0] are RES0, and bit [2] where it selects a word is written as zero by every scenario.
                DebugRegister::Wvr => plain(self.dbgwvr[n], !0b11),
                DebugRegister::Wcr => plain(self.dbgwcr[n].raw_value(), self.dbgwcr_defined(n)),
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

    /// DBGWCR<n>_EL1's bits that read as written; LBN is UNKNOWN where nothing is linked.
    fn dbgwcr_defined(&self, n: usize) -> u64 {
        const MASK_WT: u64 = 0x1f << 24 | 1 << 20;
        const LBN: u64 = 0xf << 16;
        const SSC_TO_E: u64 = 0xffff;
        MASK_WT | SSC_TO_E | if self.dbgwcr[n].wt() { LBN } else { 0 }
    }

    /// A marker entered by an exception return with SPSR_EL1.SS set: the step after its NOP, and after its RET if two
    /// are wanted.
    fn software_step(&mut self, marker: u64, count: u8) -> Result<Outcome, Unknown> {
        for instruction in [marker, marker + 4] {
            if self.breakpoint_exception(instruction)?.0.is_some() {
                return Err(Unknown("a breakpoint on an instruction that is stepped"));
            }
        }
        if !self.mdscr.ss() {
            return Ok(Outcome::silent(&rule::STEP_NEEDS_SS));
        }
        if let Err(rule) = self.generate_debug_exceptions() {
            return Ok(Outcome::silent(rule));
        }
        const ISV: u64 = 1 << 24;
        let esr = self.debug_class(EC_STEP_LOWER_EL) | ISV | IFSC_DEBUG;
        let returns = [marker + 4, wire::RETURN];
        let events = returns.into_iter().take(count.into()).map(|elr| self.exception(esr, elr)).collect();
        self.mdscr = self.mdscr.with_ss(false);
        Ok(Outcome { events, rule: &rule::STEP })
    }

    fn is_stepping(&self) -> bool {
        self.mdscr.ss() && self.generate_debug_exceptions().is_ok()
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

    /// An access while userspace debugs.
    fn access_debugged(&mut self, access: u8, address: u64) -> Result<Outcome, Unknown> {
        if self.unsynchronised {
            return Err(Unknown("executing before a context synchronization event"));
        }
        if self.double_lock_status() {
            return Err(Unknown("the OS Double Lock while userspace debugs"));
        }
        let code = wire::access_code(access);
        if self.guests_breakpoint_matches(code)? || self.guests_breakpoint_matches(code + 4)? {
            return Err(Unknown("a breakpoint on an access"));
        }
        let unmasked = self.mdscr.mde() && !self.oslk;
        let guests_own = self.watchpoint_hit(access, address)?.ok().filter(|_| unmasked);
        // The registers hold what userspace supplied; which of the guest's would match does not matter then.
        let (dbgwvr, dbgwcr) = self.debugger.watchpoints();
        let userspaces = Self { dbgwvr, dbgwcr, ..self.clone() }.watchpoint_hit(access, address)?;
        let mut outcome = self.debugger.exits_at_access(code, address, userspaces, guests_own)?;
        if !self.debugger.is_on() {
            outcome.events.extend(self.access(access, address)?.events);
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
        let event = self.exception(esr, wire::BRK);
        Ok(Outcome { events: Vec::from([event]), rule: &rule::BRK_UNMASKED })
    }

    /// A synchronous exception to EL1 from an instruction of the payload's, which runs at EL1h or EL0t with interrupts
    /// masked.
    fn exception(&self, esr: u64, elr: u64) -> Expected {
        let (vector, mode) = match self.el {
            El::El0 => (VECTOR_LOWER_EL_SYNCHRONOUS, SPSR_EL0T),
            El::El1 => (VECTOR_CURRENT_EL_SYNCHRONOUS, SPSR_EL1H),
        };
        let spsr = SPSR_AIF | mode | u64::from(self.pstate_d) << 9;
        Expected::Exception { vector, esr, esr_mask: u64::MAX, elr, spsr, far: FAR_UNKNOWN }
    }

    /// ESR_EL1.EC of a debug exception, from its value for EL0.
    fn debug_class(&self, from_el0: u8) -> u64 {
        let from_el1 = u8::from(self.el == El::El1);
        u64::from(from_el0 + from_el1) << 26 | ESR_IL
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
        let esr = self.debug_class(EC_BREAKPOINT_LOWER_EL) | IFSC_DEBUG;
        Ok((Some(self.exception(esr, instruction)), rule))
    }

    /// `AArch64.GenerateDebugExceptionsFrom` the current Exception level with EL1 as the target: MDCR_EL2.TDE is zero for
    /// a guest that userspace does not debug.
    fn generate_debug_exceptions(&self) -> Result<(), &'static Rule> {
        if self.oslk {
            Err(&rule::OS_LOCK)
        } else if self.double_lock_status() {
            Err(&rule::DOUBLE_LOCK)
        } else if self.el == El::El0 {
            Ok(())
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

    /// `AArch64.BreakpointMatch`, for the types and conditions that the scenarios use: the rule by which the
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
        if !self.state_match(control.hmc(), control.ssc(), control.pmc(), self.el)? {
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

    /// `AArch64.StateMatch` without its link, for an access with the privilege of `el`.
    ///
    /// HMC and SSC other than zero depend on Security states and on EL2 and EL3, of which a guest knows nothing.
    fn state_match(&self, hmc: bool, ssc: u2, privilege: u2, el: El) -> Result<bool, Unknown> {
        if hmc || ssc.value() != 0 || privilege.value() == 0 {
            return Err(Unknown("these values of HMC, SSC and PMC or PAC"));
        }
        let selects = match el {
            El::El0 => PMC_EL0,
            El::El1 => PMC_EL1,
        };
        Ok(privilege.value() & selects.value() != 0)
    }

    /// The watchpoints that match, whatever masks their exception: the highest byte that one of them may report, and
    /// WnR; or the rule by which none does.
    fn watchpoint_hit(
        &self,
        access: u8,
        address: u64,
    ) -> Result<Result<(u64, bool), &'static Rule>, Unknown> {
        let access = access::TABLE.get(usize::from(access)).ok_or(Unknown("an access that is none"))?;
        let end = address.checked_add(u64::from(access.size));
        if address < wire::TARGET || end.is_none_or(|end| end > wire::TARGET + wire::TARGET_SIZE) {
            return Err(Unknown("an access outside of the target memory"));
        }
        if access.aligned && !address.is_multiple_of(access.size.into()) {
            return Err(Unknown("an access that faults on its alignment"));
        }
        let mut hit: Option<(u64, bool)> = None;
        let mut why_not = &rule::WATCHPOINT_ENABLED;
        for n in 0..usize::from(self.shape.watchpoints) {
            match self.watchpoint_match(n, access, address)? {
                // Any of several watchpoints may be the one that reports.
                Ok((highest, write)) => {
                    hit = Some(hit.map_or((highest, write), |(other, w)| (other.max(highest), w && write)));
                }
                Err(rule) if self.dbgwcr[n].e() => why_not = rule,
                Err(_) => {}
            }
        }
        Ok(hit.ok_or(why_not))
    }

    fn access(&self, access: u8, address: u64) -> Result<Outcome, Unknown> {
        let code = wire::access_code(access);
        for exception in [code, code + 4].map(|instruction| self.breakpoint_exception(instruction)) {
            if exception?.0.is_some() {
                return Err(Unknown("a breakpoint on an access"));
            }
        }
        let (highest, write) = match self.watchpoint_hit(access, address)? {
            Ok(hit) => hit,
            Err(why_not) => return Ok(Outcome::silent(why_not)),
        };
        if let Err(rule) = self.generate_debug_exceptions() {
            return Ok(Outcome::silent(rule));
        }
        if !self.mdscr.mde() {
            return Ok(Outcome::silent(&rule::MDE));
        }
        let esr = self.debug_class(EC_WATCHPOINT_LOWER_EL) | IFSC_DEBUG | if write { ESR_WNR } else { 0 };
        let mut event = self.exception(esr, code);
        if let Expected::Exception { esr_mask, far, .. } = &mut event {
            *esr_mask = ESR_WATCHPOINT_COMPARED;
            *far = (address, highest);
        }
        Ok(Outcome { events: Vec::from([event]), rule: &rule::WATCHPOINT_MATCHES })
    }

    /// `AArch64.WatchpointMatch`: the highest byte that is watched and accessed, and whether WnR says write; or the rule
    /// by which there is no match.
    fn watchpoint_match(
        &self,
        n: usize,
        access: &Access,
        address: u64,
    ) -> Result<Result<(u64, bool), &'static Rule>, Unknown> {
        let control = self.dbgwcr[n];
        if !control.e() {
            return Ok(Err(&rule::WATCHPOINT_ENABLED));
        }
        let (loads, stores) = (control.lsc() & LSC_LOAD == LSC_LOAD, control.lsc() & LSC_STORE == LSC_STORE);
        if !loads && !stores {
            return Err(Unknown("LSC 0b00, which is reserved"));
        }
        let el = if access.unprivileged { El::El0 } else { self.el };
        if !self.state_match(control.hmc(), control.ssc(), control.pac(), el)? {
            return Ok(Err(&rule::WATCHPOINT_PRIVILEGE));
        }
        let (by_read, by_write) = (loads && access.reads(), stores && access.writes());
        if !by_read && !by_write {
            return Ok(Err(&rule::WATCHPOINT_LSC));
        }
        let mut highest = None;
        for byte in address..address + u64::from(access.size) {
            if self.watched(n, byte)? {
                highest = Some(byte);
            }
        }
        let Some(highest) = highest else { return Ok(Err(&rule::WATCHPOINT_ADDRESS)) };
        if control.wt() && !self.linked_context_match(control.lbn().value())? {
            return Ok(Err(&rule::LINKED_CONTEXT));
        }
        Ok(Ok((highest, !by_read)))
    }

    /// `AArch64.WatchpointByteMatch` of one byte.
    fn watched(&self, n: usize, byte: u64) -> Result<bool, Unknown> {
        let (value, control) = (self.dbgwvr[n], self.dbgwcr[n]);
        if value & 0b111 != 0 {
            return Err(Unknown("a watchpoint's address that is no doubleword's"));
        }
        let mask = control.mask().value();
        if mask == 0 {
            let bas = control.bas();
            if !is_contiguous(bas) {
                return Err(Unknown("a byte address select that is empty or not contiguous"));
            }
            return Ok(byte & !0b111 == value && bas >> (byte & 0b111) & 1 == 1);
        }
        let low = (1 << mask) - 1;
        if mask < 3 || control.bas() != 0xff || value & low != 0 {
            return Err(Unknown(
                "a MASK of 1 or 2, with a BAS other than 0xff, or with masked address bits set",
            ));
        }
        Ok(byte & !low == value)
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
    use crate::{
        control::LSC_BOTH,
        event::Logged,
        guest_debug::{ENABLE, GuestDebug, USE_SW_BP},
        judge::judge,
        scenario::{Other, Scenario},
    };
    use arbitrary_int::{u4, u5};
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
        let (vector, esr, esr_mask, spsr, far) = (4, 0xc600_0022, u64::MAX, 0x1c5, FAR_UNKNOWN);
        Vec::from([Expected::Exception { vector, esr, esr_mask, elr, spsr, far }])
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
        let (vector, esr, esr_mask, elr, spsr, far) =
            (4, 0xf200_00df, u64::MAX, wire::BRK, 0x3c5, FAR_UNKNOWN);
        let brk = Expected::Exception { vector, esr, esr_mask, elr, spsr, far };
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

    const WATCHED: u64 = wire::TARGET + 0x40;

    /// Watchpoint 0 on [`WATCHED`], and an access by name.
    fn watched(control: Dbgwcr, el: El, name: &str, address: u64) -> Scenario {
        let access = access::named(name).expect("an access");
        Scenario::new()
            .then(Op::MaskDebug(false))
            .watchpoint(0, WATCHED, control)
            .enable(ARMED)
            .at(el)
            .access(access, address)
    }

    /// ESR_EL1 and the range of FAR_EL1 of the last operation's Watchpoint exception.
    fn watchpoint(scenario: &Scenario) -> Option<(u64, (u64, u64))> {
        match last(SHAPE, scenario).events.as_slice() {
            [] => None,
            [Expected::Exception { esr, far, .. }] => Some((*esr, *far)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_watchpoint_reports_its_class_the_direction_and_an_address_between_access_and_watched_byte() {
        let bytes = Dbgwcr::doubleword().with_bas(0b0011_0000);
        let at = |el, name, address| watchpoint(&watched(bytes, el, name, address));
        assert_eq!(at(El::El1, "ldrb w1", WATCHED + 5), Some((0xd600_0022, (WATCHED + 5, WATCHED + 5))));
        assert_eq!(at(El::El1, "str x1", WATCHED), Some((0xd600_0062, (WATCHED, WATCHED + 5))));
        assert_eq!(at(El::El0, "str x1", WATCHED), Some((0xd200_0062, (WATCHED, WATCHED + 5))));
        assert_eq!(at(El::El1, "ldp x1, x2", WATCHED - 8), Some((0xd600_0022, (WATCHED - 8, WATCHED + 5))));
        assert_eq!(at(El::El1, "ldrb w1", WATCHED + 3), None);
        assert_eq!(at(El::El1, "ldrb w1", WATCHED + 6), None);
        assert_eq!(at(El::El1, "ldr w1", WATCHED + 1), Some((0xd600_0022, (WATCHED + 1, WATCHED + 4))));
    }

    #[test]
    fn an_atomic_access_is_a_read_if_reads_are_watched_and_a_prefetch_is_nothing() {
        let esr =
            |lsc, name| watchpoint(&watched(Dbgwcr::doubleword().with_lsc(lsc), El::El1, name, WATCHED));
        assert_eq!(esr(LSC_BOTH, "ldadd x1, x2").map(|(esr, _)| esr & ESR_WNR), Some(0));
        assert_eq!(esr(LSC_STORE, "ldadd x1, x2").map(|(esr, _)| esr & ESR_WNR), Some(ESR_WNR));
        assert_eq!(esr(LSC_BOTH, "prfm pldl1keep"), None);
        assert_eq!(esr(LSC_STORE, "ldr x1"), None);
        assert_eq!(esr(LSC_LOAD, "str x1"), None);
    }

    #[test]
    fn an_unprivileged_access_at_el1_is_one_of_el0() {
        let el0 = Dbgwcr::doubleword().with_pac(PMC_EL0);
        assert!(watchpoint(&watched(el0, El::El1, "ldtr x1", WATCHED)).is_some());
        assert!(watchpoint(&watched(el0, El::El1, "ldr x1", WATCHED)).is_none());
        assert!(watchpoint(&watched(el0.with_pac(PMC_EL1), El::El1, "ldtr x1", WATCHED)).is_none());
        assert!(watchpoint(&watched(el0, El::El0, "ldr x1", WATCHED)).is_some());
    }

    #[test]
    fn mask_watches_a_naturally_aligned_block() {
        let block = Dbgwcr::doubleword().with_mask(u5::new(6));
        let hit = |address| watchpoint(&watched(block, El::El1, "ldrb w1", address)).is_some();
        assert!(hit(WATCHED) && hit(WATCHED + 63));
        assert!(!hit(WATCHED - 1) && !hit(WATCHED + 64));
    }

    #[test]
    fn what_is_beyond_the_count_or_goes_one_way_only_is_undefined() {
        let undefined = |scenario: Scenario| last(SHAPE, &scenario).events == [Expected::Undefined];
        assert!(undefined(Scenario::new().read(sysreg::dbgbcr(6))));
        assert!(undefined(Scenario::new().write(sysreg::dbgwvr(4), 0)));
        assert!(!undefined(Scenario::new().write(sysreg::dbgwvr(3), 0)));
        assert!(undefined(Scenario::new().read(sysreg::OSLAR_EL1)));
        assert!(undefined(Scenario::new().write(sysreg::OSLSR_EL1, 0)));
        let taken = Exception { vector: 4, esr: 0x200_0000, elr: 0x4000_2160, spsr: 0x3c5, far: 0 };
        assert!(Expected::Undefined.admits(&Event::Exception(taken)));
        assert!(!Expected::Undefined.admits(&Event::Exception(Exception { esr: 0x6232_0000, ..taken })));
    }

    #[test]
    fn userspace_may_write_nothing_but_oslk_of_oslsr() {
        let set = |value| Scenario::new().then(Op::KvmSet { reg: sysreg::OSLSR_EL1, value });
        for value in [0, 0b10, 0b1001, 0b1100, 0b1_1000, u64::MAX] {
            assert_eq!(last(SHAPE, &set(value)).events, [Expected::Refused(EINVAL)], "{value:#b}");
        }
        assert_eq!(last(SHAPE, &set(0b1010)).events, []);
        let refused =
            set(0b1010).then(Op::KvmSet { reg: sysreg::OSLSR_EL1, value: 0 }).read(sysreg::OSLSR_EL1);
        assert_eq!(last(SHAPE, &refused).events, [Expected::Value { value: 0b1010, mask: u64::MAX }]);
    }

    fn stepped(el: El, mdscr: Mdscr, masked: bool, count: u8) -> Scenario {
        let level = Scenario::new().then(Op::MaskDebug(masked)).enable(mdscr).at(el);
        level.isb().then(Op::Step { marker: 1, count })
    }

    #[test]
    fn a_step_returns_to_the_next_instruction_and_the_last_one_switches_stepping_off() {
        let elrs = |scenario: &Scenario| -> Vec<(u64, u64, u64)> {
            let events = last(SHAPE, scenario).events;
            let exceptions = events.iter().map(|event| match event {
                Expected::Exception { vector, esr, elr, .. } => (*vector, *esr, *elr),
                other => panic!("{other}"),
            });
            exceptions.collect()
        };
        let on = ARMED.with_ss(true);
        let (next, end) = (wire::marker(1) + 4, wire::RETURN);
        assert_eq!(elrs(&stepped(El::El1, on, false, 1)), [(4, 0xcf00_0022, next)]);
        assert_eq!(elrs(&stepped(El::El1, on, false, 2)), [(4, 0xcf00_0022, next), (4, 0xcf00_0022, end)]);
        assert_eq!(elrs(&stepped(El::El0, on.with_kde(false), true, 1)), [(8, 0xcb00_0022, next)]);
        assert_eq!(elrs(&stepped(El::El1, on, false, 1).isb().then(Op::Step { marker: 1, count: 1 })), []);
    }

    #[test]
    fn software_step_at_el1_is_masked_as_other_debug_exceptions_are() {
        let on = ARMED.with_ss(true);
        silent_by(&stepped(El::El1, on, true, 1), &rule::PSTATE_D);
        silent_by(&stepped(El::El1, on.with_kde(false), false, 1), &rule::KDE);
        silent_by(&stepped(El::El1, ARMED, false, 1), &rule::STEP_NEEDS_SS);
        let no_mde = last(SHAPE, &stepped(El::El1, on.with_mde(false), false, 1));
        assert_eq!(no_mde.events.len(), 1, "MDE does not concern software step");
    }

    #[test]
    fn a_byte_address_select_is_contiguous_when_its_ones_are_one_run() {
        let contiguous = (0..=u8::MAX).filter(|bas| is_contiguous(*bas)).count();
        assert_eq!(contiguous, 8 * 9 / 2);
        assert!(!is_contiguous(0) && !is_contiguous(0b101) && is_contiguous(0b1100_0000));
    }

    #[test]
    fn from_el0_neither_kde_nor_pstate_d_masks() {
        let control = Dbgbcr::address_at_el1().with_pmc(PMC_EL0);
        let scenario = armed(control, ARMED.with_kde(false)).then(Op::MaskDebug(true)).at(El::El0).exec(1);
        let (vector, esr, esr_mask, spsr, far) = (8, 0xc200_0022, u64::MAX, 0x3c0, FAR_UNKNOWN);
        let elr = wire::marker(1);
        assert_eq!(
            last(SHAPE, &scenario).events,
            [Expected::Exception { vector, esr, esr_mask, elr, spsr, far }]
        );
        silent_by(&armed(control, ARMED.with_mde(false)).at(El::El0).exec(1), &rule::MDE);
    }

    #[test]
    fn what_is_not_modelled_is_said_and_not_guessed() {
        let attempt = |scenario: Scenario| {
            let mut pe = Pe::new(SHAPE);
            scenario.ops().iter().try_for_each(|op| pe.step(*op).map(drop))
        };
        assert!(attempt(linked(3, Dbgbcr::linked_context(), 1, 1)).is_err(), "3 of 6/2 is not context-aware");
        let set = Op::KvmSet { reg: sysreg::dbgbvr(6), value: 0 };
        assert!(attempt(Scenario::new().then(set)).is_err(), "6 of 6 is not there");
        let stepping = armed(Dbgbcr::DEFAULT, ARMED.with_ss(true));
        assert!(attempt(stepping.exec(1)).is_err(), "the payload itself would be stepped");
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
                .write(sysreg::MDSCR_EL1, mdscr & !1)
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

    /// The bits of the last operation's register value that the model compares, and its rule.
    fn compared(scenario: &Scenario) -> (u64, u64, &'static Rule) {
        let outcome = last(SHAPE, scenario);
        match outcome.events.as_slice() {
            [Expected::Value { value, mask }] => (value & mask, *mask, outcome.rule),
            other => panic!("{other:?}"),
        }
    }

    /// What the model says that it does not know of the last operation.
    fn unknown(scenario: &Scenario) -> Option<&'static str> {
        let mut pe = Pe::new(SHAPE);
        scenario.ops().iter().find_map(|op| pe.step(*op).err()).map(|unknown| unknown.0)
    }

    fn set_bits(bits: impl IntoIterator<Item = u32>) -> u64 {
        bits.into_iter().fold(0, |set, bit| set | 1 << bit)
    }

    /// The bits of a register that may differ from `event`'s without a mismatch; `flip` flips one.
    fn not_compared(expected: &Expected, event: Exception, flip: fn(&mut Exception, u64)) -> u64 {
        assert!(expected.admits(&Event::Exception(event)), "{expected}");
        set_bits((0..64).filter(|bit| {
            let mut other = event;
            flip(&mut other, 1 << bit);
            expected.admits(&Event::Exception(other))
        }))
    }

    #[test]
    fn a_breakpoint_exception_is_compared_in_all_but_the_flags_and_far() {
        let outcome = last(SHAPE, &armed(Dbgbcr::address_at_el1(), ARMED).exec(1));
        let taken = Exception { vector: 4, esr: 0xc600_0022, elr: wire::marker(1), spsr: 0x1c5, far: 7 };
        let free = |flip| not_compared(&outcome.events[0], taken, flip);
        assert_eq!(free(|taken, bit| taken.vector ^= bit), 0);
        assert_eq!(free(|taken, bit| taken.esr ^= bit), 0);
        assert_eq!(free(|taken, bit| taken.elr ^= bit), 0);
        assert_eq!(!free(|taken, bit| taken.spsr ^= bit), set_bits([0, 1, 2, 3, 4, 6, 7, 8, 9, 20, 21]));
        assert_eq!(free(|taken, bit| taken.far ^= bit), u64::MAX);
    }

    #[test]
    fn a_watchpoint_exception_may_set_the_bits_of_debugv8p9() {
        let outcome = last(SHAPE, &watched(Dbgwcr::doubleword(), El::El1, "ldr x1", WATCHED));
        let elr = wire::access_code(access::named("ldr x1").expect("an access"));
        let taken = Exception { vector: 4, esr: 0xd600_0022, elr, spsr: 0x1c5, far: WATCHED };
        let free = |flip| not_compared(&outcome.events[0], taken, flip);
        assert_eq!(free(|taken, bit| taken.esr ^= bit), set_bits([10, 15, 16, 17, 18, 19, 20, 21, 22, 23]));
        assert_eq!(free(|taken, bit| taken.far ^= bit), 0b111, "any byte of the access");
    }

    #[test]
    fn what_is_expected_prints_as_the_event_and_far_as_a_range() {
        let print = |expected: &Expected| alloc::string::ToString::to_string(expected);
        assert_eq!(print(&Expected::Value { value: 0x1e3, mask: u64::MAX }), "0x1e3");
        assert_eq!(print(&Expected::Value { value: 0x1e3, mask: 0xff }), "0xe3 in the bits 0xff");
        let breakpoint = &breakpoint_at(0x10)[0];
        let registers = "EC 0x31 ESR 0xc6000022 ELR 0x10 SPSR 0x1c5 vector 0x200";
        assert_eq!(print(breakpoint), alloc::format!("Breakpoint exception: {registers}"));
        let Expected::Exception { vector, esr, esr_mask, elr, spsr, .. } = *breakpoint else { panic!() };
        let with_far = Expected::Exception { vector, esr, esr_mask, elr, spsr, far: (0x20, 0x27) };
        assert_eq!(print(&with_far), alloc::format!("Breakpoint exception: {registers} FAR 0x20 to 0x27"));
    }

    #[test]
    fn what_is_not_modelled_prints_as_such() {
        let unknown = Unknown("this breakpoint type");
        assert_eq!(
            alloc::string::ToString::to_string(&unknown),
            "the model has no rule for this breakpoint type"
        );
    }

    #[test]
    fn mdscr_and_contextidr_read_as_written_in_their_defined_bits() {
        let mdscr = Scenario::new().write(sysreg::MDSCR_EL1, u64::MAX).read(sysreg::MDSCR_EL1);
        assert_eq!(compared(&mdscr), (0xa001, 0xa001, &rule::REGISTERS_READ_BACK));
        let context = Scenario::new().write(sysreg::CONTEXTIDR_EL1, u64::MAX).read(sysreg::CONTEXTIDR_EL1);
        assert_eq!(compared(&context), (0xffff_ffff, u64::MAX, &rule::REGISTERS_READ_BACK));
    }

    #[test]
    fn a_breakpoints_registers_read_as_written_in_the_bits_that_its_type_defines() {
        let read = |control: Dbgbcr, reg| {
            let written = Scenario::new().breakpoint_at(5, u64::MAX, control);
            compared(&written.read(reg)).1
        };
        let (bvr, bcr) = (sysreg::dbgbvr(5), sysreg::dbgbcr(5));
        let address = Dbgbcr::address_at_el1();
        assert_eq!(read(address, bvr), !0b11);
        assert_eq!(read(Dbgbcr::address_linked_to(u4::new(4)), bvr), !0b11);
        assert_eq!(read(Dbgbcr::linked_context(), bvr), 0xffff_ffff);
        assert_eq!(read(address, bcr), 0xf0_e1e7);
        assert_eq!(
            read(address.with_bas(u4::new(0b0101)), bcr),
            0xf0_e0a7,
            "BAS reads as one where it is one"
        );
        assert_eq!(read(Dbgbcr::address_linked_to(u4::new(4)), bcr), 0xff_e1e7);
        assert_eq!(read(Dbgbcr::linked_context(), bcr), 0xf0_0001);
    }

    #[test]
    fn a_watchpoints_registers_read_as_written_in_their_defined_bits() {
        let read = |control: Dbgwcr, reg| {
            let written = Scenario::new().watchpoint(3, u64::MAX, control);
            compared(&written.read(reg)).1
        };
        assert_eq!(read(Dbgwcr::doubleword(), sysreg::dbgwvr(3)), !0b11);
        assert_eq!(read(Dbgwcr::doubleword(), sysreg::dbgwcr(3)), 0x1f10_ffff);
        assert_eq!(read(Dbgwcr::linked_to(u4::new(4)), sysreg::dbgwcr(3)), 0x1f1f_ffff);
    }

    #[test]
    fn oslsr_shows_the_lock_that_the_guest_or_userspace_has_set() {
        let status = |scenario: Scenario| compared(&scenario.read(sysreg::OSLSR_EL1));
        let by_guest = |value| status(Scenario::new().write(sysreg::OSLAR_EL1, value));
        assert_eq!(by_guest(1), (0b1010, u64::MAX, &rule::OS_LOCK_ACCESS));
        assert_eq!(by_guest(0b1010).0, 0b1000);
        let by_userspace = |value| status(Scenario::new().then(Op::KvmSet { reg: sysreg::OSLSR_EL1, value }));
        assert_eq!(by_userspace(0b1010).0, 0b1010);
        assert_eq!(by_userspace(0b1000).0, 0b1000);
        assert_eq!(by_userspace(!0b10).0, 0b1000, "OSLK alone counts");
    }

    #[test]
    fn what_userspace_reads_is_the_register_by_the_rule_of_one_reg() {
        let read =
            Scenario::new().write(sysreg::MDSCR_EL1, 0x8000).then(Op::KvmGet { reg: sysreg::MDSCR_EL1 });
        assert_eq!(compared(&read), (0x8000, 0xa001, &rule::ONE_REG_IS_THE_REGISTER));
    }

    #[test]
    fn an_exit_and_userspaces_accesses_synchronise_what_was_written_before() {
        let written = || armed(Dbgbcr::address_at_el1(), ARMED);
        for op in [
            Op::Exit,
            Op::Other(Other::Enabled),
            Op::Move,
            Op::KvmGet { reg: sysreg::MDSCR_EL1 },
            Op::KvmSet { reg: sysreg::CONTEXTIDR_EL1, value: 0 },
        ] {
            let scenario = written().then(op).then(Op::Exec { marker: 1 });
            assert_eq!(last(SHAPE, &scenario).events, breakpoint_at(wire::marker(1)), "{op}");
        }
    }

    #[test]
    fn userspace_cannot_reach_a_register_that_kvm_does_not_list() {
        for reg in [sysreg::OSLAR_EL1, sysreg::OSDLR_EL1] {
            let said = Some("userspace access to a register that KVM does not list");
            assert_eq!(unknown(&Scenario::new().then(Op::KvmGet { reg })), said, "{reg}");
            assert_eq!(unknown(&Scenario::new().then(Op::KvmSet { reg, value: 0 })), said, "{reg}");
        }
    }

    #[test]
    fn a_breakpoint_on_brk_or_its_return_is_not_modelled() {
        let at = |address| {
            let scenario = Scenario::new().then(Op::MaskDebug(false));
            let scenario = scenario.breakpoint_at(0, address, Dbgbcr::address_at_el1()).enable(ARMED).isb();
            unknown(&scenario.then(Op::Brk))
        };
        assert_eq!(at(wire::BRK), Some("a breakpoint on the BRK marker"));
        assert_eq!(at(wire::BRK + 4), Some("a breakpoint on the BRK marker"));
        assert_eq!(at(wire::BRK - 4), None);
    }

    #[test]
    fn a_breakpoint_on_an_access_or_its_return_is_not_modelled() {
        let access = access::named("ldr x1").expect("an access");
        let at = |address| {
            let scenario = Scenario::new().then(Op::MaskDebug(false));
            let scenario = scenario.breakpoint_at(0, address, Dbgbcr::address_at_el1()).enable(ARMED);
            unknown(&scenario.access(access, WATCHED))
        };
        assert_eq!(at(wire::access_code(access)), Some("a breakpoint on an access"));
        assert_eq!(at(wire::access_code(access) + 4), Some("a breakpoint on an access"));
        assert_eq!(at(wire::access_code(access) - 4), None);
    }

    #[test]
    fn an_access_lies_in_the_target_memory_whole() {
        let access = |name, address| {
            unknown(&Scenario::new().access(access::named(name).expect("an access"), address))
        };
        let outside = Some("an access outside of the target memory");
        let end = wire::TARGET + wire::TARGET_SIZE;
        assert_eq!(access("ldr x1", wire::TARGET), None);
        assert_eq!(access("ldr x1", wire::TARGET - 1), outside);
        assert_eq!(access("ldr x1", end - 8), None);
        assert_eq!(access("ldr x1", end - 7), outside);
        assert_eq!(access("ldr x1", end + 8), outside);
        assert_eq!(access("ldr x1", u64::MAX), outside);
        assert_eq!(
            unknown(&Scenario::new().access(access::ACCESSES as u8, wire::TARGET)),
            Some("an access that is none")
        );
    }

    #[test]
    fn an_ordered_access_is_aligned() {
        let access =
            |address| unknown(&Scenario::new().access(access::named("ldar x1").expect("an access"), address));
        assert_eq!(access(WATCHED + 8), None);
        assert_eq!(access(WATCHED + 4), Some("an access that faults on its alignment"));
    }

    #[test]
    fn a_context_match_on_a_breakpoint_that_is_not_context_aware_is_not_modelled() {
        let at = |n: u8| {
            let context = Dbgbcr::linked_context().raw_value();
            unknown(&Scenario::new().write(sysreg::dbgbcr(n), context).exec(1))
        };
        assert_eq!(at(3), Some("a context match on a breakpoint that is not context-aware"));
        assert_eq!(at(4), None);
    }

    #[test]
    fn the_rule_of_a_silent_access_is_that_of_the_watchpoint_that_is_enabled() {
        let silent = |control: Dbgwcr, name, address| {
            let outcome = last(SHAPE, &watched(control, El::El1, name, address));
            assert_eq!(outcome.events, []);
            outcome.rule
        };
        let doubleword = Dbgwcr::doubleword();
        assert_eq!(silent(doubleword, "ldr x1", WATCHED + 8), &rule::WATCHPOINT_ADDRESS);
        assert_eq!(silent(doubleword.with_lsc(LSC_LOAD), "str x1", WATCHED), &rule::WATCHPOINT_LSC);
        assert_eq!(silent(doubleword.with_pac(PMC_EL0), "ldr x1", WATCHED), &rule::WATCHPOINT_PRIVILEGE);
        assert_eq!(silent(doubleword.with_e(false), "ldr x1", WATCHED), &rule::WATCHPOINT_ENABLED);
    }

    #[test]
    fn of_several_watchpoints_any_may_report_and_wnr_is_set_only_if_all_say_write() {
        let several = |first: Dbgwcr, second: Dbgwcr| {
            let access = access::named("ldadd x1, x2").expect("an access");
            let scenario = Scenario::new().then(Op::MaskDebug(false)).watchpoint(0, WATCHED, first);
            watchpoint(&scenario.watchpoint(1, WATCHED, second).enable(ARMED).access(access, WATCHED))
        };
        let stores = Dbgwcr::doubleword().with_lsc(LSC_STORE).with_bas(0b0000_0011);
        let loads = Dbgwcr::doubleword().with_lsc(LSC_LOAD).with_bas(0b0000_1100);
        let far = (WATCHED, WATCHED + 3);
        assert_eq!(several(stores, loads), Some((0xd600_0022, far)));
        assert_eq!(several(loads, stores), Some((0xd600_0022, far)));
        assert_eq!(several(stores, stores), Some((0xd600_0062, (WATCHED, WATCHED + 1))));
    }

    #[test]
    fn a_linked_watchpoint_fires_only_in_its_context() {
        let linked = |contextidr| {
            let access = access::named("ldr x1").expect("an access");
            let scenario = Scenario::new()
                .then(Op::MaskDebug(false))
                .watchpoint(0, WATCHED, Dbgwcr::linked_to(u4::new(5)))
                .write(sysreg::dbgbvr(5), 0x1234)
                .write(sysreg::dbgbcr(5), Dbgbcr::linked_context().raw_value())
                .enable(ARMED);
            scenario.write(sysreg::CONTEXTIDR_EL1, contextidr).access(access, WATCHED)
        };
        assert!(watchpoint(&linked(0x1234)).is_some());
        silent_by(&linked(0x1235), &rule::LINKED_CONTEXT);
    }

    #[test]
    fn a_mask_that_is_not_architected_is_not_modelled() {
        let with = |address, control: Dbgwcr| {
            let access = access::named("ldr x1").expect("an access");
            unknown(&Scenario::new().watchpoint(0, address, control).access(access, WATCHED))
        };
        let masked = |mask| Dbgwcr::doubleword().with_mask(u5::new(mask));
        let odd = Some("a MASK of 1 or 2, with a BAS other than 0xff, or with masked address bits set");
        assert_eq!(with(WATCHED, masked(0)), None);
        assert_eq!(with(WATCHED, masked(1)), odd);
        assert_eq!(with(WATCHED, masked(2)), odd);
        assert_eq!(with(WATCHED, masked(3)), None);
        assert_eq!(with(WATCHED, masked(4).with_bas(0x7f)), odd);
        assert_eq!(with(WATCHED + 8, masked(4)), odd);
        assert_eq!(with(WATCHED + 8, masked(3)), None);
        assert_eq!(with(WATCHED + 4, masked(0)), Some("a watchpoint's address that is no doubleword's"));
    }

    /// Breakpoint 0 on an address, and userspace debugs with these control bits.
    fn debugged(address: u64, control: u32) -> Scenario {
        let scenario = Scenario::new().then(Op::MaskDebug(false));
        let scenario = scenario.breakpoint_at(0, address, Dbgbcr::address_at_el1()).enable(ARMED);
        scenario.then(Op::Debug(GuestDebug::new(control)))
    }

    #[test]
    fn while_userspace_debugs_only_markers_and_brk_at_el1_are_modelled() {
        let on = || debugged(0, ENABLE | USE_SW_BP);
        let at_el0 = Some("code at EL0 while userspace debugs");
        assert_eq!(unknown(&on().at(El::El0).exec(1)), at_el0);
        assert_eq!(unknown(&on().at(El::El0).isb().then(Op::Brk)), at_el0);
        assert_eq!(unknown(&on().at(El::El0).access(0, WATCHED)), at_el0);
        let others = Some("a step of the guest's own while userspace debugs");
        assert_eq!(unknown(&on().access(0, WATCHED)), None);
        assert_eq!(unknown(&on().isb().then(Op::Step { marker: 1, count: 1 })), others);
        assert_eq!(unknown(&on().exec(1).then(Op::Brk)), None);
    }

    #[test]
    fn a_guests_breakpoint_on_brk_or_behind_a_marker_is_not_modelled_while_userspace_debugs() {
        let brk = |address| unknown(&debugged(address, ENABLE | USE_SW_BP).isb().then(Op::Brk));
        assert_eq!(brk(wire::BRK), Some("a breakpoint on the BRK marker"));
        assert_eq!(brk(wire::BRK + 4), Some("a breakpoint on the BRK marker"));
        assert_eq!(brk(wire::BRK - 4), None);
        let exec = |address| unknown(&debugged(address, ENABLE).exec(1));
        let behind = Some("a guest's breakpoint behind a marker while userspace debugs");
        assert_eq!(exec(wire::marker(1) + 4), behind);
        assert_eq!(exec(wire::marker(1) - 4), None);
    }

    #[test]
    fn a_breakpoint_on_an_instruction_that_is_stepped_is_not_modelled() {
        let at = |address| {
            let scenario = Scenario::new().then(Op::MaskDebug(false));
            let scenario = scenario.breakpoint_at(0, address, Dbgbcr::address_at_el1());
            let scenario = scenario.enable(ARMED.with_ss(true)).isb();
            unknown(&scenario.then(Op::Step { marker: 1, count: 1 }))
        };
        let said = Some("a breakpoint on an instruction that is stepped");
        assert_eq!(at(wire::marker(1)), said);
        assert_eq!(at(wire::marker(1) + 4), said);
        assert_eq!(at(wire::marker(1) - 4), None);
    }

    #[test]
    fn brk_is_by_its_own_rule_where_nobody_debugs() {
        let outcome = last(SHAPE, &Scenario::new().then(Op::Brk));
        assert_eq!((outcome.events.len(), outcome.rule), (1, &rule::BRK_UNMASKED));
    }
}
