// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The PE: the state of its debug registers, and which events an operation may cause.
//!
//! The model does not guess: an operation whose outcome it does not know is [`Unknown`], which is an error of
//! the scenario's author.

use crate::{
    access::{self, Access, Kind},
    debugger::{self, Debugger},
    execution::{Execution, Instruction, Memory},
    fault::{self, TAG},
    id_write::EINVAL,
    layout::{self, TARGET, TARGET_SIZE},
    matching::{Match, View},
    outcome::{Expected, Outcome, Unknown},
    registers::Registers,
    rule::{self, Rule},
    scenario::{El, Entry, Op, Passage},
    sequence::{Does, Moves, Sequence},
    shape::Shape,
    sysreg::{self, DebugRegister, SysReg},
    vector::{ELEMENTS, Vector},
};
use alloc::vec::Vec;

/// OSLSR_EL1.OSLM: the OS Lock is implemented, bits [3, 0] = 0b10; nTT, bit [2], is RAZ.
const OSLSR_OSLM: u64 = 1 << 3;
/// OSLSR_EL1.OSLK, which userspace may write and the guest only through OSLAR_EL1.
const OSLSR_OSLK: u64 = 1 << 1;
/// The size in bytes of the block that DC ZVA zeroes on most PEs.
const ZVA_BLOCK: u64 = 64;
/// The reads of a Memory Copy, and the writes of a Memory Copy or Memory Set: what several instructions do together, so
/// that the bytes are the piece's.
static MOVE_LOAD: Access = access::access("the reads of a Memory Copy", 0, Kind::MoveLoad, 0);
static MOVE_STORE: Access =
    access::access("the writes of a Memory Copy or Memory Set", 0, Kind::MoveStore, 0);
/// The marker's instruction.
const NOP: Instruction = Instruction::Other(Does::Nothing);
/// The upper limit of states of the registers that are tried; no scenario needs more.
const MAX_VIEWS: usize = 64;

/// Registers that KVM_GET_REG_LIST does not list, in any kernel version.
const UNLISTED: [SysReg; 8] = [
    sysreg::OSLAR_EL1,
    sysreg::OSDLR_EL1,
    sysreg::OSECCR_EL1,
    sysreg::DBGCLAIMSET_EL1,
    sysreg::DBGCLAIMCLR_EL1,
    sysreg::DBGAUTHSTATUS_EL1,
    sysreg::MDRAR_EL1,
    sysreg::MDCCSR_EL0,
];

/// A PE's debug state, as software at EL1 in a VM may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pe {
    shape: Shape,
    host: Shape,
    zva_block: u64,
    registers: Registers,
    /// Values that registers had since the last context synchronization event: the PE may still see them.
    earlier: Vec<(SysReg, u64)>,
    pstate_d: bool,
    el: El,
    entry: Entry,
    debugger: Debugger,
}

impl Pe {
    /// A vCPU of this shape as KVM_ARM_VCPU_INIT leaves it.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            host: shape,
            zva_block: ZVA_BLOCK,
            registers: Registers::RESET,
            earlier: Vec::new(),
            pstate_d: true,
            el: El::El1,
            entry: Entry::Call,
            debugger: Debugger::default(),
        }
    }

    /// The guest is shown this shape from here on.
    pub(crate) fn show(&mut self, shape: Shape) {
        self.shape = shape;
    }

    /// Userspace debugs with the breakpoints and watchpoints of this host, whose numbers may be larger than the guest's.
    pub fn with_host(self, host: Shape) -> Self {
        Self { host, ..self }
    }

    /// Sets the size in bytes of the block that DC ZVA zeroes.
    pub fn with_zva_block(self, zva_block: u64) -> Self {
        Self { zva_block, ..self }
    }

    /// What `op` may cause; the PE is then in the state after `op`.
    pub fn step(&mut self, op: Op) -> Result<Outcome, Unknown> {
        match op {
            Op::Write { reg, .. } | Op::Read { reg } if self.is_beyond_count(reg) => {
                Ok(self.undefined(&rule::REGISTERS_BEYOND_COUNT))
            }
            Op::Write {
                reg:
                    sysreg::OSLSR_EL1
                    | sysreg::DBGAUTHSTATUS_EL1
                    | sysreg::MDRAR_EL1
                    | sysreg::MDCCSR_EL0
                    | sysreg::ID_AA64DFR0_EL1,
                ..
            }
            | Op::Read { reg: sysreg::OSLAR_EL1 } => Ok(self.undefined(&rule::REGISTERS_ONE_WAY)),
            Op::Write { reg, value } => self.write(reg, value).map(Outcome::silent),
            Op::Read { reg } => self.read(reg),
            Op::Isb => {
                self.earlier.clear();
                Ok(Outcome::silent(&rule::REGISTERS_READ_BACK))
            }
            Op::MaskDebug(mask) => {
                self.pstate_d = mask;
                Ok(Outcome::silent(&rule::PSTATE_D))
            }
            Op::Level(el) => {
                self.el = el;
                Ok(Outcome::silent(&rule::BREAKPOINT_PRIVILEGE))
            }
            Op::Enter(entry) => {
                self.entry = entry;
                Ok(Outcome::silent(&rule::STEP))
            }
            Op::Exec { .. } | Op::Brk | Op::Access { .. } | Op::Run { .. }
                if self.debugger.is_on() && (self.el == El::El0 || self.entry != Entry::Call) =>
            {
                Err(Unknown("code at EL0, or entered by an exception return, while userspace debugs"))
            }
            Op::Run { sequence, x0 } if self.debugger.is_on() => self.run_debugged(sequence, x0),
            Op::Exec { marker } if self.debugger.is_on() => self.execute_debugged(layout::marker(marker)),
            Op::Brk if self.debugger.is_on() => self.execute_brk_debugged(),
            Op::Exec { marker } => self.execute(layout::marker(marker), &[NOP], None),
            Op::Access { access, address } => self.access(access, address),
            Op::Run { sequence, x0 } => self.run(sequence, x0),
            Op::Brk => self.execute(layout::BRK, &[Instruction::Brk], None),
            Op::Exit => {
                self.earlier.clear();
                Ok(Outcome::silent(&rule::EXIT_KEEPS_STATE))
            }
            Op::Other(_) => {
                self.earlier.clear();
                Ok(Outcome::silent(&rule::OTHER_VCPU))
            }
            Op::Move => {
                self.earlier.clear();
                Ok(Outcome::silent(&rule::OTHER_CPU))
            }
            Op::Migrate(_) => {
                self.earlier.clear();
                Ok(Outcome::silent(&rule::MIGRATION))
            }
            Op::Debug(debug) => {
                self.earlier.clear();
                Ok(self.debugger.set(debug))
            }
            Op::Vmm(_) | Op::KvmTry { .. } => {
                Err(Unknown("an operation of userspace's on a PE that is not in a VM"))
            }
            Op::KvmSet { reg, .. } | Op::KvmGet { reg } if UNLISTED.contains(&reg) => {
                Err(Unknown("userspace access to a register that KVM does not list"))
            }
            Op::KvmSet { reg: sysreg::OSLSR_EL1, value } if value & !OSLSR_OSLK != OSLSR_OSLM => {
                self.earlier.clear();
                let events = Vec::from([Expected::Refused(EINVAL)]);
                Ok(Outcome::certain(events, &rule::OSLSR_FROM_USERSPACE))
            }
            Op::KvmSet { reg, value } => {
                if reg == sysreg::OSLSR_EL1 {
                    self.registers.set(sysreg::OSLAR_EL1, u64::from(value & OSLSR_OSLK != 0));
                } else {
                    self.write(reg, value)?;
                }
                self.earlier.clear();
                Ok(Outcome::silent(&rule::ONE_REG_IS_THE_REGISTER))
            }
            Op::KvmGet { reg } => {
                self.earlier.clear();
                Ok(Outcome { rule: &rule::ONE_REG_IS_THE_REGISTER, ..self.read(reg)? })
            }
        }
    }

    /// Takes an exception, which is a context synchronization event.
    fn undefined(&mut self, rule: &'static Rule) -> Outcome {
        self.earlier.clear();
        Outcome::undefined(rule)
    }

    pub(crate) fn is_beyond_count(&self, reg: SysReg) -> bool {
        let count = |kind| match kind {
            DebugRegister::Bvr | DebugRegister::Bcr => self.shape.breakpoints,
            DebugRegister::Wvr | DebugRegister::Wcr => self.shape.watchpoints,
        };
        reg.debug_number().is_some_and(|(kind, n)| n >= count(kind))
    }

    fn write(&mut self, reg: SysReg, value: u64) -> Result<&'static Rule, Unknown> {
        if self.is_beyond_count(reg) {
            return Err(Unknown("a debug register beyond the shape's count"));
        }
        let before = self.registers.get(reg).ok_or(Unknown("a write of this register"))?;
        let value = if reg == sysreg::OSDLR_EL1 && !self.shape.double_lock { 0 } else { value };
        self.registers.set(reg, value);
        let earlier = (reg, before);
        if self.registers.get(reg) != Some(before) && !self.earlier.contains(&earlier) {
            self.earlier.push(earlier);
        }
        Ok(self.registers_rule(reg))
    }

    fn read(&self, reg: SysReg) -> Result<Outcome, Unknown> {
        if self.is_beyond_count(reg) {
            return Err(Unknown("a debug register beyond the shape's count"));
        }
        if reg == sysreg::OSLSR_EL1 {
            let value = OSLSR_OSLM | if self.registers.oslk() { OSLSR_OSLK } else { 0 };
            // OSLSR_EL1 shows what was written to OSLAR_EL1, which may not have taken effect yet.
            let settled = self.earlier.iter().all(|(reg, _)| *reg != sysreg::OSLAR_EL1);
            let (mask, rule) = match settled {
                true => (u64::MAX, &rule::OS_LOCK_ACCESS),
                false => (!OSLSR_OSLK, &rule::CONTEXT_SYNCHRONIZATION),
            };
            return Ok(Outcome::value(value, mask, rule));
        }
        let (value, mask) = self
            .registers
            .get(reg)
            .zip(self.registers.defined(reg, &self.shape))
            .ok_or(Unknown("a read of this register"))?;
        let rule = match reg {
            sysreg::MDSCR_EL1 if self.registers.shows_edscr() => &rule::SAVED_UNDER_OS_LOCK,
            reg => self.registers_rule(reg),
        };
        Ok(Outcome::value(value, mask, rule))
    }

    /// The rule that decides what a register holds.
    fn registers_rule(&self, reg: SysReg) -> &'static Rule {
        match reg {
            sysreg::OSLAR_EL1 => &rule::OS_LOCK_ACCESS,
            sysreg::OSDLR_EL1 if self.shape.double_lock => &rule::DOUBLE_LOCK_ACCESS,
            sysreg::OSDLR_EL1 => &rule::DOUBLE_LOCK_ABSENT,
            sysreg::DBGCLAIMSET_EL1 | sysreg::DBGCLAIMCLR_EL1 => &rule::CLAIM_TAGS,
            sysreg::OSECCR_EL1 => &rule::EXCEPTION_CATCH_ACCESS,
            sysreg::DBGAUTHSTATUS_EL1 => &rule::AUTHENTICATION_STATUS,
            sysreg::MDRAR_EL1 | sysreg::MDCCSR_EL0 => &rule::EXTERNAL_DEBUG_STATUS,
            _ => &rule::REGISTERS_READ_BACK,
        }
    }

    /// Each state of the registers that the PE may see; the last one includes all writes.
    fn views(&self) -> Result<Vec<Registers>, Unknown> {
        let mut views = Vec::from([self.registers.clone()]);
        for (reg, value) in self.earlier.iter().rev() {
            for place in 0..views.len() {
                let mut view = views[place].clone();
                view.set(*reg, *value);
                if !views.contains(&view) {
                    views.push(view);
                }
            }
            if views.len() > MAX_VIEWS {
                return Err(Unknown("code after too many writes without a context synchronization event"));
            }
        }
        views.reverse();
        Ok(views)
    }

    fn execute(
        &mut self,
        code: u64,
        instructions: &[Instruction],
        x0: Option<u64>,
    ) -> Result<Outcome, Unknown> {
        let settled = core::slice::from_ref(&self.registers);
        let unsettled = if self.earlier.is_empty() { Vec::new() } else { self.views()? };
        let execution = Execution {
            shape: &self.shape,
            zva_block: self.zva_block,
            views: if unsettled.is_empty() { settled } else { &unsettled },
            el: self.el,
            masked: self.pstate_d,
            entry: self.entry,
            code,
            instructions,
            x0,
        };
        let executed = execution.run()?;
        if executed.ss_cleared {
            let mdscr = self.registers.mdscr().with_ss(false).raw_value();
            self.registers.set(sysreg::MDSCR_EL1, mdscr);
        }
        if executed.mde_cleared {
            let mdscr = self.registers.mdscr().with_mde(false).raw_value();
            self.registers.set(sysreg::MDSCR_EL1, mdscr);
        }
        if executed.synchronised {
            self.earlier.clear();
        }
        Ok(executed.outcome)
    }

    fn access(&mut self, access: &'static Access, address: u64) -> Result<Outcome, Unknown> {
        let code = layout::access_code(access);
        let memory = self.memory(access, address)?;
        let passage = layout::passage_at(address);
        match passage {
            Some(passage) if self.debugger.is_on() => return self.passage_debugged(code, &memory, passage),
            None if self.debugger.is_on() => return self.access_debugged(code, memory),
            _ => {}
        }
        let tagged = memory.tag != 0;
        let outcome = self.execute(code, &[Instruction::Access(memory)], None)?;
        match passage {
            Some(Passage::Steps | Passage::DebugOn)
                if self.entry != Entry::Call || outcome.alternatives().any(|events| !events.is_empty()) =>
            {
                Err(Unknown("the guest's own debug exceptions where userspace starts to debug"))
            }
            Some(passage @ (Passage::Steps | Passage::DebugOn)) => {
                self.debugger.exits_at_passage(code, passage)
            }
            Some(Passage::StepsOne) => debugger::step_over_ret(self.entry, &outcome),
            Some(Passage::StepsNothing) => Ok(Outcome { rule: &rule::GUEST_DEBUG_KEEPS_STEP, ..outcome }),
            _ if tagged => Ok(Outcome { rule: &rule::WATCHPOINT_TAG, ..outcome }),
            _ => Ok(outcome),
        }
    }

    /// A store that ends KVM_RUN while userspace debugs.
    fn passage_debugged(&mut self, code: u64, memory: &Memory, passage: Passage) -> Result<Outcome, Unknown> {
        let watched = self.view(&self.registers).watchpoint_matches(memory.access, &memory.bytes);
        if watched.verdict.matches > Match::No
            || self.guests_breakpoint_matches(code)?
            || self.guests_breakpoint_matches(code + 4)?
        {
            return Err(Unknown("a breakpoint or watchpoint of the guest on a store that ends KVM_RUN"));
        }
        self.debugger.exits_at_passage(code, passage)
    }

    /// What an access to this address accesses, and its fault.
    fn memory(&self, access: &'static Access, address: u64) -> Result<Memory, Unknown> {
        // KVM can describe only this access to userspace, and only EL1 may do it.
        let passes = layout::passage_at(address).is_some() && access.name == "str x1" && self.el == El::El1;
        let bytes = access
            .bytes(address & !TAG, self.zva_block)
            .ok_or(Unknown("an access outside of the target memory"))?;
        let fault = if passes { None } else { fault::of(access, self.el, &bytes)? };
        Ok(Memory { access, bytes, tag: address & TAG, fault })
    }

    /// The same of what a Memory Copy or Memory Set reads or writes.
    fn moved(&self, access: &'static Access, start: u64, size: u64) -> Result<Memory, Unknown> {
        let end = start.checked_add(size).ok_or(Unknown("an access outside of the target memory"))?;
        let bytes = start..end;
        let fault = fault::of(access, self.el, &bytes)?;
        Ok(Memory { access, bytes, tag: 0, fault })
    }

    /// Runs a piece of code with this X0.
    fn run(&mut self, sequence: &Sequence, x0: u64) -> Result<Outcome, Unknown> {
        let code = layout::sequence_code(sequence);
        let again = sequence.instructions.iter().any(|(_, does)| *does == Does::Retry);
        let moved = || {
            let moves = sequence.moves.ok_or(Unknown("a piece of code that moves nothing"))?;
            let memory = |access, start| self.moved(access, start, moves.size);
            let write = memory(&MOVE_STORE, x0)?;
            Ok(match moves.from {
                Some(from) => Vec::from([memory(&MOVE_LOAD, from)?, write]),
                None => Vec::from([write]),
            })
        };
        let read_back = sequence.moves.and_then(|moves| {
            Some((x0.checked_add(moves.size)?.checked_sub(Moves::READ_BACK)?, moves.value))
        });
        let instruction = |does| {
            Ok(match does {
                Does::Access(access) => Instruction::Access(self.memory(access, x0)?),
                Does::StoreExclusive => Instruction::StoreExclusive {
                    held: self.memory(Access::named("str x1"), x0)?,
                    lost: self.memory(Access::named("stxr w1, x2"), x0)?,
                    again,
                },
                Does::Vector(vector) => self.vector(vector, x0)?,
                Does::Move { last } => Instruction::Move { accesses: moved()?, last },
                Does::ReadBack => {
                    let (address, value) = read_back.ok_or(Unknown("a piece of code that moves nothing"))?;
                    Instruction::ReadBack { memory: self.memory(Access::named("ldr x1"), address)?, value }
                }
                other => Instruction::Other(other),
            })
        };
        let instructions: Result<Vec<_>, _> =
            sequence.instructions.iter().map(|(_, does)| instruction(*does)).collect();
        self.execute(code, &instructions?, Some(x0))
    }

    /// A piece of code while userspace debugs.
    fn run_debugged(&self, sequence: &Sequence, x0: u64) -> Result<Outcome, Unknown> {
        let [(_, Does::ReadPmcr)] = sequence.instructions else {
            return Err(Unknown("this piece of code while userspace debugs"));
        };
        let code = layout::sequence_code(sequence);
        if self.guests_breakpoint_matches(code)? || self.guests_breakpoint_matches(code + 4)? {
            return Err(Unknown("a breakpoint of the guest on a piece of code while userspace debugs"));
        }
        let mut outcome = self.debugger.exits_at_undefined(code)?;
        outcome.events.push(Expected::Value { value: x0, mask: u64::MAX });
        Ok(outcome)
    }

    fn vector(&self, vector: Vector, base: u64) -> Result<Instruction, Unknown> {
        let inside = TARGET..=TARGET + TARGET_SIZE - u64::from(ELEMENTS);
        match inside.contains(&base) {
            true => Ok(Instruction::Vector(vector, base)),
            false => Err(Unknown("a vector outside of the target memory")),
        }
    }

    /// An access while userspace debugs: its exits and, if userspace switches off at one, the guest's
    /// exceptions.
    fn access_debugged(&mut self, code: u64, memory: Memory) -> Result<Outcome, Unknown> {
        let Memory { access, ref bytes, tag, fault } = memory;
        if fault.is_some() || tag != 0 {
            return Err(Unknown("an access that faults, or has a tag, while userspace debugs"));
        }
        if self.guests_breakpoint_matches(code)? || self.guests_breakpoint_matches(code + 4)? {
            return Err(Unknown("a breakpoint of the guest on an access while userspace debugs"));
        }
        let guests_own = self.view(&self.registers).watchpoint_matches(access, bytes);
        let enabled = self.registers.mdscr().mde() && !self.registers.oslk();
        let guests_own = (enabled && guests_own.verdict.matches > Match::No).then_some(guests_own);
        let userspaces = self.debugger.watchpoints();
        let userspaces =
            View { shape: &self.host, ..self.view(&userspaces) }.watchpoint_matches(access, bytes);
        let mut outcome = self.debugger.exits_at_access(code, &userspaces, guests_own.as_ref())?;
        if !self.debugger.is_on() {
            let after = self.execute(code, &[Instruction::Access(memory)], None)?;
            if !after.or.is_empty() {
                return Err(Unknown("an access with several outcomes after a debug exit"));
            }
            outcome.events.extend(after.events);
        }
        Ok(outcome)
    }

    /// A marker while userspace debugs: its exits and, if userspace switches off at one, the guest's
    /// exceptions.
    fn execute_debugged(&mut self, marker: u64) -> Result<Outcome, Unknown> {
        let guests_own = self.guests_breakpoint_matches(marker)?;
        if self.guests_breakpoint_matches(marker + 4)? {
            return Err(Unknown("a breakpoint of the guest after a marker while userspace debugs"));
        }
        let mut outcome = self.debugger.exits_at_marker(marker, self.host.breakpoints, guests_own)?;
        if !self.debugger.is_on() {
            outcome.events.extend(self.execute(marker, &[NOP], None)?.events);
        }
        Ok(outcome)
    }

    /// The BRK marker while userspace debugs.
    fn execute_brk_debugged(&mut self) -> Result<Outcome, Unknown> {
        if self.guests_breakpoint_matches(layout::BRK)? || self.guests_breakpoint_matches(layout::BRK + 4)? {
            return Err(Unknown("a breakpoint on the BRK marker while userspace debugs"));
        }
        let guests = self.execute(layout::BRK, &[Instruction::Brk], None)?.events;
        self.debugger.exits_at_brk(guests)
    }

    fn view<'a>(&'a self, registers: &'a Registers) -> View<'a> {
        View { shape: &self.shape, registers, el: self.el, masked: self.pstate_d, zva_block: self.zva_block }
    }

    /// A breakpoint of the guest would generate an exception. It would be taken to EL2, so KDE and PSTATE.D
    /// do not matter.
    fn guests_breakpoint_matches(&self, instruction: u64) -> Result<bool, Unknown> {
        if !self.earlier.is_empty() {
            return Err(Unknown("executing before a context synchronization event while userspace debugs"));
        }
        let registers = &self.registers;
        let view = self.view(registers);
        if view.double_lock_status() {
            return Err(Unknown("the OS Double Lock while userspace debugs"));
        }
        match view.breakpoint_matches(instruction).matches {
            Match::No => Ok(false),
            Match::Yes => Ok(registers.mdscr().mde() && !registers.oslk()),
            Match::May => Err(Unknown("a breakpoint that may match while userspace debugs")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::{
            BT_CONTEXT, BT_CONTEXT_LINKED, Dbgbcr, Dbgwcr, LSC_BOTH, LSC_LOAD, LSC_STORE, Mdscr, PMC_EL0,
            PMC_EL1,
        },
        event::{Event, Exception, Logged},
        guest_debug::{ENABLE, GuestDebug, USE_SW_BP},
        judge::judge,
        outcome::{ESR_WNR, FAR_UNKNOWN},
        scenario::{Migrate, Other, Scenario},
    };
    use arbitrary_int::{u2, u4, u5};
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
        assert_eq!(outcome.events, breakpoint_at(layout::marker(1)));
    }

    #[test]
    fn a_breakpoint_on_the_return_fires_there_and_not_at_the_marker() {
        let scenario = Scenario::new()
            .then(Op::MaskDebug(false))
            .breakpoint_at(0, layout::marker(1) + 4, Dbgbcr::address_at_el1())
            .enable(ARMED)
            .exec(1);
        assert_eq!(last(SHAPE, &scenario).events, breakpoint_at(layout::marker(1) + 4));
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
        assert_eq!(last(SHAPE, &unlocked).events, breakpoint_at(layout::marker(1)));
    }

    #[test]
    fn the_double_lock_keeps_a_breakpoint_silent_where_it_is_implemented() {
        let locked = armed(Dbgbcr::address_at_el1(), ARMED).write(sysreg::OSDLR_EL1, 1);
        silent_by(&locked.clone().exec(1), &rule::DOUBLE_LOCK);
        let without = Shape { double_lock: false, ..SHAPE };
        assert_eq!(last(without, &locked.exec(1)).events, breakpoint_at(layout::marker(1)));
    }

    #[test]
    fn osdlr_reads_as_written_where_it_is_implemented_and_as_zero_elsewhere() {
        let scenario = Scenario::new().write(sysreg::OSDLR_EL1, u64::MAX).read(sysreg::OSDLR_EL1);
        let value = |value| Vec::from([Expected::Value { value, mask: u64::MAX }]);
        assert_eq!(last(SHAPE, &scenario).events, value(1));
        assert_eq!(last(Shape { double_lock: false, ..SHAPE }, &scenario).events, value(0));
    }

    #[test]
    fn accesses_of_the_locks_name_the_rules_of_the_locks() {
        let rule = |double_lock, scenario: &Scenario| last(Shape { double_lock, ..SHAPE }, scenario).rule;
        let written = Scenario::new().write(sysreg::OSDLR_EL1, 1);
        for scenario in [written.clone(), written.read(sysreg::OSDLR_EL1)] {
            assert_eq!(rule(true, &scenario), &rule::DOUBLE_LOCK_ACCESS);
            assert_eq!(rule(false, &scenario), &rule::DOUBLE_LOCK_ABSENT);
        }
        silent_by(&Scenario::new().write(sysreg::OSLAR_EL1, 1), &rule::OS_LOCK_ACCESS);
    }

    #[test]
    fn brk_is_never_masked() {
        let masked = Scenario::new().write(sysreg::OSLAR_EL1, 1).write(sysreg::OSDLR_EL1, 1).isb();
        let outcome = last(SHAPE, &masked.then(Op::Brk));
        let (vector, esr, esr_mask, elr, spsr, far) =
            (4, 0xf200_00df, u64::MAX, layout::BRK, 0x3c5, FAR_UNKNOWN);
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
        assert_eq!(last(SHAPE, &fires).events, breakpoint_at(layout::marker(1)));
        silent_by(&linked(5, Dbgbcr::linked_context(), 0x1234, 0x1235), &rule::LINKED_CONTEXT);
        silent_by(&linked(5, Dbgbcr::linked_context().with_e(false), 0x1234, 0x1234), &rule::LINKED_CONTEXT);
    }

    const WATCHED: u64 = layout::TARGET + 0x40;

    /// Watchpoint 0 on [`WATCHED`], and an access by name.
    fn watched(control: Dbgwcr, el: El, name: &str, address: u64) -> Scenario {
        let access = Access::named(name);
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
        assert_eq!(
            at(El::El1, "ldp x1, x2", WATCHED - 8),
            Some((0xd600_0022, (WATCHED, WATCHED + 5))),
            "in its block"
        );
        assert_eq!(at(El::El1, "ldrb w1", WATCHED + 3), None);
        assert_eq!(at(El::El1, "ldrb w1", WATCHED + 6), None);
        assert_eq!(at(El::El1, "ldr w1", WATCHED + 1), Some((0xd600_0022, (WATCHED + 1, WATCHED + 4))));
    }

    #[test]
    fn an_atomic_access_is_a_read_if_reads_are_watched_and_a_prefetch_is_not_an_access() {
        let esr =
            |lsc, name| watchpoint(&watched(Dbgwcr::doubleword().with_lsc(lsc), El::El1, name, WATCHED));
        assert_eq!(esr(LSC_BOTH, "ldadd x1, x2").map(|(esr, _)| esr & ESR_WNR), Some(0));
        assert_eq!(esr(LSC_STORE, "ldadd x1, x2").map(|(esr, _)| esr & ESR_WNR), Some(ESR_WNR));
        assert_eq!(esr(LSC_BOTH, "prfm pldl1keep"), None);
        assert_eq!(esr(LSC_STORE, "ldr x1"), None);
        assert_eq!(esr(LSC_LOAD, "str x1"), None);
    }

    #[test]
    fn an_unprivileged_access_at_el1_counts_as_an_access_of_el0() {
        let el0 = Dbgwcr::doubleword().with_pac(PMC_EL0);
        assert!(watchpoint(&watched(el0, El::El1, "ldtr x1", WATCHED)).is_some());
        assert!(watchpoint(&watched(el0, El::El1, "ldr x1", WATCHED)).is_none());
        assert!(watchpoint(&watched(el0.with_pac(PMC_EL1), El::El1, "ldtr x1", WATCHED)).is_none());
        assert!(watchpoint(&watched(el0, El::El0, "ldr x1", WATCHED)).is_some());
    }

    #[test]
    fn what_masks_a_breakpoint_masks_a_watchpoint() {
        let load = Access::named("ldr x1");
        let armed = || {
            let scenario = Scenario::new().then(Op::MaskDebug(false)).enable(ARMED);
            scenario.watchpoint(0, WATCHED, Dbgwcr::doubleword())
        };
        let rule = |scenario: Scenario, address| {
            let outcome = last(SHAPE, &scenario.access(load, address));
            (outcome.events.len(), outcome.rule)
        };
        assert_eq!(rule(armed(), WATCHED), (1, &rule::WATCHPOINT_MATCHES));
        for (masked, by) in [
            (armed().enable(ARMED.with_mde(false)), &rule::MDE),
            (armed().enable(ARMED.with_kde(false)), &rule::KDE),
            (armed().then(Op::MaskDebug(true)), &rule::PSTATE_D),
            (armed().write(sysreg::OSLAR_EL1, 1), &rule::OS_LOCK),
            (armed().write(sysreg::OSDLR_EL1, 1), &rule::DOUBLE_LOCK),
        ] {
            assert_eq!(rule(masked.clone(), WATCHED), (0, by));
            assert_eq!(rule(masked, WATCHED + 8), (0, &rule::WATCHPOINT_ADDRESS), "nothing is masked");
        }
        let neither = || armed().enable(ARMED.with_kde(false)).then(Op::MaskDebug(true)).at(El::El0);
        assert_eq!(rule(neither(), WATCHED), (1, &rule::WATCHPOINT_MATCHES), "at EL0 neither matters");
    }

    #[test]
    fn mask_watches_a_naturally_aligned_block() {
        let block = Dbgwcr::doubleword().with_mask(u5::new(6));
        let hit = |address| watchpoint(&watched(block, El::El1, "ldrb w1", address)).is_some();
        assert!(hit(WATCHED) && hit(WATCHED + 63));
        assert!(!hit(WATCHED - 1) && !hit(WATCHED + 64));
    }

    #[test]
    fn an_access_beyond_the_count_or_in_the_wrong_direction_is_undefined() {
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
        level.entered(Entry::stepped(count)).exec(1)
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
        let (next, end) = (layout::marker(1) + 4, layout::RETURN);
        assert_eq!(elrs(&stepped(El::El1, on, false, 1)), [(4, 0xcf00_0022, next)]);
        assert_eq!(elrs(&stepped(El::El1, on, false, 2)), [(4, 0xcf00_0022, next), (4, 0xcf00_0022, end)]);
        assert_eq!(elrs(&stepped(El::El0, on.with_kde(false), true, 1)), [(8, 0xcb00_0022, next)]);
        assert_eq!(elrs(&stepped(El::El1, on, false, 1).exec(1)), []);
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
    fn from_el0_neither_kde_nor_pstate_d_masks() {
        let control = Dbgbcr::address_at_el1().with_pmc(PMC_EL0);
        let scenario = armed(control, ARMED.with_kde(false)).then(Op::MaskDebug(true)).at(El::El0).exec(1);
        let (vector, esr, esr_mask, spsr, far) = (8, 0xc200_0022, u64::MAX, 0x3c0, FAR_UNKNOWN);
        let elr = layout::marker(1);
        assert_eq!(
            last(SHAPE, &scenario).events,
            [Expected::Exception { vector, esr, esr_mask, elr, spsr, far }]
        );
        silent_by(&armed(control, ARMED.with_mde(false)).at(El::El0).exec(1), &rule::MDE);
    }

    #[test]
    fn what_is_not_modelled_is_reported_and_not_guessed() {
        let attempt = |scenario: Scenario| {
            let mut pe = Pe::new(SHAPE);
            scenario.ops().iter().try_for_each(|op| pe.step(*op).map(drop))
        };
        let set = Op::KvmSet { reg: sysreg::dbgbvr(6), value: 0 };
        assert!(attempt(Scenario::new().then(set)).is_err(), "there is no breakpoint 6");
        let stepping = armed(Dbgbcr::DEFAULT, ARMED.with_ss(true));
        assert!(attempt(stepping.exec(1)).is_err(), "the payload itself would be stepped");
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
    fn an_extra_event_or_a_wrong_vector_is_a_mismatch() {
        let scenario = armed(Dbgbcr::address_at_el1(), ARMED).exec(1);
        let place = scenario.ops().len() - 1;
        let taken = Exception { vector: 4, esr: 0xc600_0022, elr: layout::marker(1), spsr: 0x1c5, far: 7 };
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
        assert!(judged(&[Exception { elr: layout::marker(2), ..taken }]).is_some());
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
            prop_assert_eq!(last(SHAPE, &scenario).events, breakpoint_at(layout::marker(marker)));
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

    /// What the model does not know about the scenario, if anything.
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
        let taken = Exception { vector: 4, esr: 0xc600_0022, elr: layout::marker(1), spsr: 0x1c5, far: 7 };
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
        let elr = layout::access_code(Access::named("ldr x1"));
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
        let exit = |far| Expected::DebugExit { hsr: 0xd200_0022, mask: !0, pc: 0x10, far, optional: false };
        let event =
            |far| alloc::string::ToString::to_string(&Event::DebugExit { hsr: 0xd200_0022, pc: 0x10, far });
        assert_eq!(print(&exit((0x20, 0x20))), event(0x20));
        assert_eq!(print(&exit((0x20, 0x27))), alloc::format!("{} to 0x27", event(0x20)));
        assert_eq!(print(&exit((0, 0)).or_nothing()), alloc::format!("{}, or nothing", event(0)));
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
        assert_eq!(compared(&mdscr), (0xb001, 0xb001, &rule::REGISTERS_READ_BACK));
        let context = Scenario::new().write(sysreg::CONTEXTIDR_EL1, u64::MAX).read(sysreg::CONTEXTIDR_EL1);
        assert_eq!(compared(&context), (0xffff_ffff, u64::MAX, &rule::REGISTERS_READ_BACK));
    }

    #[test]
    fn mdscr_shows_edscr_if_the_os_lock_was_locked_before_the_write_and_still_is() {
        let read = |scenario: Scenario| compared(&scenario.read(sysreg::MDSCR_EL1)).1;
        let written = || Scenario::new().write(sysreg::MDSCR_EL1, u64::MAX);
        let locked = |scenario: Scenario| scenario.write(sysreg::OSLAR_EL1, 1);
        let under = || locked(Scenario::new()).write(sysreg::MDSCR_EL1, u64::MAX);
        assert_eq!(read(under()), 0x6c20_f041);
        assert_eq!(read(locked(written())), 0xb001);
        assert_eq!(read(under().write(sysreg::OSLAR_EL1, 0)), 0xb001);
        assert_eq!(read(locked(under().write(sysreg::OSLAR_EL1, 0))), 0xb001);
        assert_eq!(read(under().then(Op::KvmSet { reg: sysreg::OSLSR_EL1, value: OSLSR_OSLM })), 0xb001);
        let rule = compared(&under().read(sysreg::MDSCR_EL1)).2;
        assert_eq!(rule, &rule::SAVED_UNDER_OS_LOCK);
    }

    #[test]
    fn mdccint_reads_as_written_in_rx_and_tx() {
        let written = Scenario::new().write(sysreg::MDCCINT_EL1, u64::MAX).read(sysreg::MDCCINT_EL1);
        assert_eq!(compared(&written), (0x6000_0000, 0x6000_0000, &rule::REGISTERS_READ_BACK));
    }

    #[test]
    fn claim_tags_are_set_and_cleared_by_ones() {
        let tags = |scenario: &Scenario| compared(&scenario.clone().read(sysreg::DBGCLAIMCLR_EL1));
        let set = Scenario::new().write(sysreg::DBGCLAIMSET_EL1, 0x1a5).write(sysreg::DBGCLAIMSET_EL1, 2);
        assert_eq!(tags(&Scenario::new()), (0, 0xffff_ffff, &rule::CLAIM_TAGS));
        assert_eq!(tags(&set).0, 0xa7);
        assert_eq!(tags(&set.clone().write(sysreg::DBGCLAIMCLR_EL1, 0x81)).0, 0x26);
        let all = compared(&set.read(sysreg::DBGCLAIMSET_EL1));
        assert_eq!(all, (0xff, 0xffff_ffff, &rule::CLAIM_TAGS));
    }

    #[test]
    fn oseccr_and_dbgauthstatus_have_32_bits() {
        let read = |reg| compared(&Scenario::new().read(reg));
        assert_eq!(read(sysreg::OSECCR_EL1), (0, !0xffff_ffff, &rule::EXCEPTION_CATCH_ACCESS));
        assert_eq!(read(sysreg::DBGAUTHSTATUS_EL1), (0, !0xffff_ffff, &rule::AUTHENTICATION_STATUS));
        silent_by(&Scenario::new().write(sysreg::OSECCR_EL1, 1), &rule::EXCEPTION_CATCH_ACCESS);
        let written = last(SHAPE, &Scenario::new().write(sysreg::DBGAUTHSTATUS_EL1, 0));
        assert_eq!(written, Outcome::undefined(&rule::REGISTERS_ONE_WAY));
    }

    #[test]
    fn registers_of_external_debug_can_be_read_and_not_written() {
        let read = |reg| compared(&Scenario::new().read(reg));
        assert_eq!(read(sysreg::MDRAR_EL1), (0, 0, &rule::EXTERNAL_DEBUG_STATUS));
        assert_eq!(read(sysreg::MDCCSR_EL0), (0, !0xffff_ffff, &rule::EXTERNAL_DEBUG_STATUS));
        for reg in [sysreg::MDRAR_EL1, sysreg::MDCCSR_EL0] {
            let written = last(SHAPE, &Scenario::new().write(reg, 0));
            assert_eq!(written, Outcome::undefined(&rule::REGISTERS_ONE_WAY));
        }
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
            read(address.with_bas(u4::new(0b0011)), bcr),
            0xf0_e067,
            "BAS reads as one where it was written as one"
        );
        assert_eq!(read(Dbgbcr::address_linked_to(u4::new(4)), bcr), 0xff_e1e7);
        assert_eq!(
            read(Dbgbcr::address_linked_to(u4::new(3)), bcr),
            0xf0_e1e7,
            "number 3 matches no context"
        );
        assert_eq!(read(Dbgbcr::address_linked_to(u4::new(9)), bcr), 0xf0_e1e7, "there is no number 9");
        assert_eq!(read(Dbgbcr::linked_context(), bcr), 0xf0_01e1);
        assert_eq!(read(Dbgbcr::linked_context().with_bt(BT_CONTEXT), bcr), 0xf0_e1e7);
        assert_eq!(read(address.with_bas(u4::new(0b0101)), bcr), 0xf0_e007, "reserved");
        let context = |bt| {
            let control = address.with_bt(u4::new(bt));
            (read(control, bcr) >> 20 & 0xf, read(control, bvr))
        };
        assert_eq!(context(0b1000), (0, 0), "reserved without EL2");
        assert_eq!(context(0b0110), (0xf, 0xffff_ffff));
        assert_eq!(context(0b1101), (0xf, 0xffff_ffff_0000_0000));
        assert_eq!(context(0b1110), (0xf, u64::MAX));
        assert_eq!(context(0b0100).0, 0);
    }

    #[test]
    fn the_state_fields_read_as_written_where_no_pe_reserves_them() {
        for bits in 0..32_u8 {
            let (hmc, ssc, privilege) = (bits >> 4 == 1, u2::new(bits >> 2 & 3), u2::new(bits & 3));
            let control = Dbgbcr::address_at_el1().with_hmc(hmc).with_ssc(ssc).with_pmc(privilege);
            let watch = Dbgwcr::doubleword().with_hmc(hmc).with_ssc(ssc).with_pac(privilege);
            let breakpoint = Scenario::new().breakpoint(0, 1, control).read(sysreg::dbgbcr(0));
            let watchpoint = Scenario::new().watchpoint(0, 0, watch).read(sysreg::dbgwcr(0));
            let expected = if (1..4).contains(&bits) { 0xe006 } else { 0 };
            assert_eq!(compared(&breakpoint).1 & 0xe006, expected, "{control}");
            assert_eq!(compared(&watchpoint).1 & 0xe006, expected, "{watch}");
        }
    }

    #[test]
    fn a_type_that_a_breakpoint_does_not_have_need_not_read_as_written() {
        let read = |n, bt| {
            let written = Scenario::new().breakpoint_at(n, u64::MAX, Dbgbcr::linked_context().with_bt(bt));
            let compared = |reg| compared(&written.clone().read(reg)).1;
            (compared(sysreg::dbgbvr(n)), compared(sysreg::dbgbcr(n)))
        };
        for bt in [BT_CONTEXT, BT_CONTEXT_LINKED] {
            let state = if bt == BT_CONTEXT { 0xe006 } else { 0 };
            assert_eq!(read(3, bt), (0, 0x1e1 | state), "breakpoint 3 is not context-aware");
            assert_eq!(read(4, bt).0, 0xffff_ffff, "breakpoint 4 is context-aware");
        }
        let reserved = u4::new(0b1001);
        assert_eq!((read(3, reserved), read(4, reserved)), ((0, 0x1e1), (0, 0x1e1)));
    }

    #[test]
    fn address_bits_above_48_read_as_written_only_where_they_are_copies_of_it() {
        let defined = |address| {
            let breakpoint = Scenario::new().breakpoint_at(0, address, Dbgbcr::address_at_el1());
            let watchpoint = Scenario::new().watchpoint(0, address, Dbgwcr::doubleword());
            let breakpoint = compared(&breakpoint.read(sysreg::dbgbvr(0))).1;
            assert_eq!(compared(&watchpoint.read(sysreg::dbgwvr(0))).1, breakpoint, "{address:#x}");
            breakpoint
        };
        for copies in [0, layout::marker(1), (1 << 48) - 1, u64::MAX, u64::MAX << 48] {
            assert_eq!(defined(copies), !0b11, "{copies:#x}");
            for bit in 48..64 {
                assert_eq!(defined(copies ^ 1 << bit), 0x1_ffff_ffff_fffc, "{copies:#x} but for bit {bit}");
            }
        }
    }

    #[test]
    fn a_watchpoints_registers_read_as_written_in_their_defined_bits() {
        let read = |control: Dbgwcr, reg| {
            let written = Scenario::new().watchpoint(3, !0b111, control);
            compared(&written.read(reg)).1
        };
        let (doubleword, wcr) = (Dbgwcr::doubleword(), sysreg::dbgwcr(3));
        assert_eq!(read(doubleword, sysreg::dbgwvr(3)), !0b11);
        assert_eq!(read(doubleword, wcr), 0x1f10_ffff);
        assert_eq!(read(Dbgwcr::linked_to(u4::new(4)), wcr), 0x1f1f_ffff);
        assert_eq!(read(Dbgwcr::linked_to(u4::new(3)), wcr), 0x1f10_ffff, "number 3 matches no context");
        for bas in [0, 0b101, 0b1000_0001] {
            assert_eq!(read(doubleword.with_bas(bas), wcr), 0x1f10_e01f, "{bas:#b} is reserved");
        }
        let word = |bas| {
            let written = Scenario::new().watchpoint(3, 0b100, doubleword.with_bas(bas));
            compared(&written.read(wcr)).1 >> 5 & 0xff
        };
        assert_eq!(word(0xff), 0x0f, "BAS[7:4] are RES0");
        assert_eq!(word(0xf0), 0);
        assert_eq!(read(doubleword.with_mask(u5::new(2)), wcr), 0x10_ffff);
    }

    #[test]
    fn an_overrun_that_is_saved_without_its_error_is_unknown() {
        const ERR: u64 = 1 << 6;
        const RXO: u64 = 1 << 27;
        const TXU: u64 = 1 << 26;
        let compared = |value| {
            let locked = Scenario::new().write(sysreg::OSLAR_EL1, 1).isb().write(sysreg::MDSCR_EL1, value);
            compared(&locked.isb().read(sysreg::MDSCR_EL1)).1 & (ERR | RXO | TXU)
        };
        assert_eq!(compared(0), ERR | RXO | TXU);
        assert_eq!(compared(ERR | RXO | TXU), ERR | RXO | TXU);
        assert_eq!(compared(RXO), TXU);
        assert_eq!(compared(TXU), RXO);
        assert_eq!(compared(RXO | TXU), 0);
    }

    #[test]
    fn oslsr_shows_the_lock_that_the_guest_or_userspace_has_set() {
        let status = |scenario: Scenario| compared(&scenario.read(sysreg::OSLSR_EL1));
        let by_guest = |value| status(Scenario::new().write(sysreg::OSLAR_EL1, value).isb());
        assert_eq!(by_guest(1), (0b1010, u64::MAX, &rule::OS_LOCK_ACCESS));
        assert_eq!(by_guest(0b1010).0, 0b1000);
        let by_userspace = |value| status(Scenario::new().then(Op::KvmSet { reg: sysreg::OSLSR_EL1, value }));
        assert_eq!(by_userspace(0b1010).0, 0b1010);
        assert_eq!(by_userspace(0b1000).0, 0b1000);
        assert_eq!(by_userspace(!0b10).0, 0b1000, "OSLK alone counts");
    }

    #[test]
    fn a_write_of_what_a_register_holds_leaves_nothing_to_synchronise() {
        let status =
            |value| compared(&Scenario::new().write(sysreg::OSLAR_EL1, value).read(sysreg::OSLSR_EL1));
        assert_eq!(status(0), (0b1000, u64::MAX, &rule::OS_LOCK_ACCESS));
        assert_eq!(status(1), (0b1000, !0b10, &rule::CONTEXT_SYNCHRONIZATION));
    }

    #[test]
    fn six_unsynchronised_writes_are_modelled_and_seven_are_not() {
        let written = |count| {
            let writes = (0..count).map(sysreg::dbgbvr);
            writes.fold(Scenario::new(), |scenario, reg| scenario.write(reg, layout::marker(1)))
        };
        assert_eq!(unknown(&written(5).write(sysreg::MDSCR_EL1, 1 << 15).then(Op::Exec { marker: 1 })), None);
        assert_eq!(
            unknown(&written(6).write(sysreg::MDSCR_EL1, 1 << 15).then(Op::Exec { marker: 1 })),
            Some("code after too many writes without a context synchronization event")
        );
    }

    #[test]
    fn userspace_reads_the_register_and_the_rule_is_that_of_one_reg() {
        let read =
            Scenario::new().write(sysreg::MDSCR_EL1, 0x8000).then(Op::KvmGet { reg: sysreg::MDSCR_EL1 });
        assert_eq!(compared(&read), (0x8000, 0xb001, &rule::ONE_REG_IS_THE_REGISTER));
    }

    #[test]
    fn an_exit_and_userspaces_accesses_synchronise_earlier_writes() {
        let written = || armed(Dbgbcr::address_at_el1(), ARMED);
        for op in [
            Op::Exit,
            Op::Other(Other::Enabled),
            Op::Move,
            Op::Migrate(Migrate::FreshVm),
            Op::KvmGet { reg: sysreg::MDSCR_EL1 },
            Op::KvmSet { reg: sysreg::CONTEXTIDR_EL1, value: 0 },
        ] {
            let scenario = written().then(op).then(Op::Exec { marker: 1 });
            assert_eq!(last(SHAPE, &scenario).events, breakpoint_at(layout::marker(1)), "{op}");
        }
    }

    #[test]
    fn userspace_cannot_reach_a_register_that_kvm_does_not_list() {
        for reg in UNLISTED {
            let said = Some("userspace access to a register that KVM does not list");
            assert_eq!(unknown(&Scenario::new().then(Op::KvmGet { reg })), said, "{reg}");
            assert_eq!(unknown(&Scenario::new().then(Op::KvmSet { reg, value: 0 })), said, "{reg}");
        }
    }

    #[test]
    fn a_step_over_a_store_that_userspace_performs_may_report_isv_0() {
        let step = Mdscr::DEFAULT.with_ss(true).with_kde(true);
        let isv_compared = |address| {
            let set = Scenario::new().then(Op::MaskDebug(false)).enable(step).entered(Entry::stepped(2));
            let outcome = last(SHAPE, &set.access(Access::named("str x1"), address));
            outcome
                .events
                .iter()
                .map(|event| match event {
                    Expected::Exception { esr_mask, .. } => esr_mask & 1 << 24 != 0,
                    _ => false,
                })
                .collect::<Vec<bool>>()
        };
        assert_eq!(isv_compared(layout::passage(Passage::Migrate(Migrate::Fresh))), [false, true]);
        assert_eq!(isv_compared(layout::TARGET), [true, true]);
    }

    #[test]
    fn an_access_lies_entirely_in_the_target_memory() {
        let access = |name, address| unknown(&Scenario::new().access(Access::named(name), address));
        let outside = Some("an access outside of the target memory");
        let end = layout::TARGET + layout::TARGET_SIZE;
        assert_eq!(access("ldr x1", layout::TARGET), None);
        assert_eq!(access("ldr x1", layout::TARGET - 1), outside);
        assert_eq!(access("ldr x1", end - 8), None);
        assert_eq!(access("ldr x1", end - 7), outside, "two pages that stage 1 maps differently");
        assert_eq!(access("ldr x1", layout::UNMAPPED + layout::PAGE - 8), None);
        assert_eq!(access("ldr x1", layout::UNMAPPED + layout::PAGE), outside);
        assert_eq!(access("ldr x1", u64::MAX), outside);
        let passage = layout::passage(Passage::Migrate(Migrate::Back));
        assert_eq!(access("str x1", passage), None, "it migrates");
        assert_eq!(access("str x1", layout::passage(Passage::Migrate(Migrate::FreshVm)) + 1), outside);
        assert_eq!(access("stp x1, x2", passage), outside);
        let at_el0 = Scenario::new().at(El::El0).access(Access::named("str x1"), passage);
        assert_eq!(unknown(&at_el0), outside);
    }

    #[test]
    fn an_ordered_access_is_aligned() {
        let access = |address| unknown(&Scenario::new().access(Access::named("ldar x1"), address));
        assert_eq!(access(WATCHED + 8), None);
        assert_eq!(access(WATCHED + 4), Some("an access that faults on its alignment, or not"));
    }

    #[test]
    fn the_rule_of_a_silent_access_is_that_of_the_enabled_watchpoint() {
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
            let access = Access::named("ldadd x1, x2");
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
            let access = Access::named("ldr x1");
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
    fn far_is_not_a_byte_that_only_a_watchpoint_in_another_context_watches() {
        let far = |contextidr| {
            let access = Access::named("ldr x1");
            let scenario = Scenario::new()
                .then(Op::MaskDebug(false))
                .watchpoint(0, WATCHED, Dbgwcr::doubleword().with_bas(0b1))
                .watchpoint(1, WATCHED, Dbgwcr::linked_to(u4::new(5)).with_bas(0b1000_0000))
                .write(sysreg::dbgbvr(5), 0x1234)
                .write(sysreg::dbgbcr(5), Dbgbcr::linked_context().raw_value())
                .enable(ARMED);
            watchpoint(&scenario.write(sysreg::CONTEXTIDR_EL1, contextidr).access(access, WATCHED))
        };
        assert_eq!(far(0x1234), Some((0xd600_0022, (WATCHED, WATCHED + 7))));
        assert_eq!(far(0x1235), Some((0xd600_0022, (WATCHED, WATCHED))));
    }

    /// Breakpoint 0 on an address, and userspace debugs with these control bits.
    fn debugged(address: u64, control: u32) -> Scenario {
        let scenario = Scenario::new().then(Op::MaskDebug(false));
        let scenario = scenario.breakpoint_at(0, address, Dbgbcr::address_at_el1()).enable(ARMED);
        scenario.then(Op::Debug(GuestDebug::new(control)))
    }

    #[test]
    fn while_userspace_debugs_only_calls_at_el1_are_modelled() {
        let on = || debugged(0, ENABLE | USE_SW_BP);
        let at_el0 = Some("code at EL0, or entered by an exception return, while userspace debugs");
        assert_eq!(unknown(&on().at(El::El0).exec(1)), at_el0);
        assert_eq!(unknown(&on().at(El::El0).isb().then(Op::Brk)), at_el0);
        assert_eq!(unknown(&on().at(El::El0).access(Access::named("ldr x1"), WATCHED)), at_el0);
        assert_eq!(unknown(&on().access(Access::named("ldr x1"), WATCHED)), None);
        assert_eq!(unknown(&on().entered(Entry::stepped(1)).exec(1)), at_el0);
        assert_eq!(unknown(&on().exec(1).then(Op::Brk)), None);
    }

    #[test]
    fn a_breakpoint_of_the_guest_on_brk_or_an_access_or_after_a_marker_is_not_modelled_while_userspace_debugs()
     {
        let brk = |address| unknown(&debugged(address, ENABLE | USE_SW_BP).isb().then(Op::Brk));
        assert_eq!(brk(layout::BRK), Some("a breakpoint on the BRK marker while userspace debugs"));
        assert_eq!(brk(layout::BRK + 4), Some("a breakpoint on the BRK marker while userspace debugs"));
        assert_eq!(brk(layout::BRK - 4), None);
        let exec = |address| unknown(&debugged(address, ENABLE).exec(1));
        let after = Some("a breakpoint of the guest after a marker while userspace debugs");
        assert_eq!(exec(layout::marker(1) + 4), after);
        assert_eq!(exec(layout::marker(1) - 4), None);
        let load = Access::named("ldr x1");
        let access = |address| unknown(&debugged(address, ENABLE).access(load, WATCHED));
        let on_it = Some("a breakpoint of the guest on an access while userspace debugs");
        assert_eq!(access(layout::access_code(load)), on_it);
        assert_eq!(access(layout::access_code(load) + 4), on_it);
        assert_eq!(access(layout::access_code(load) - 4), None);
        assert_eq!(access(layout::access_code(load) + 8), None);
    }

    #[test]
    fn brk_has_its_own_rule_when_userspace_does_not_debug() {
        let outcome = last(SHAPE, &Scenario::new().then(Op::Brk));
        assert_eq!((outcome.events.len(), outcome.rule), (1, &rule::BRK_UNMASKED));
    }
}
