// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Execution of code: a marker, BRK, an access or a piece of several instructions, the RET after it, and the SVC that
//! ends code which an exception return entered.
//!
//! At each instruction, in the order of their priority: a Software Step exception that is pending, a Breakpoint
//! exception, what the instruction itself does. Where the architecture leaves a choice, each of its outcomes is
//! followed to the end.

use crate::{
    access::Access,
    event::{
        EC_BREAKPOINT_LOWER_EL, EC_BRK, EC_DATA_ABORT_LOWER_EL, EC_ILLEGAL_STATE, EC_STEP_LOWER_EL,
        EC_SYSTEM, EC_UNKNOWN, EC_WATCHPOINT_LOWER_EL, EC_WFX, VECTOR_CURRENT_EL_SYNCHRONOUS,
        VECTOR_LOWER_EL_SYNCHRONOUS,
    },
    fault::Fault,
    layout,
    matching::{Hit, Match, Verdict, View},
    outcome::{
        ESR_FNP, ESR_FNV, ESR_IL, ESR_WNR, Expected, FAR_UNKNOWN, IFSC_DEBUG, Outcome, Unknown,
        esr_of_watchpoint,
    },
    pstate,
    registers::Registers,
    rule::{self, Rule},
    scenario::{El, Entry},
    sequence::Does,
    shape::Shape,
    vector::{ELEMENTS, Faulting, Vector},
};
use alloc::{vec, vec::Vec};
use core::ops::Range;

/// ESR_EL1.ISV of a Software Step exception: EX is valid.
const ESR_ISV: u64 = 1 << 24;
/// ESR_EL1.EX of a Software Step exception: a Load-Exclusive instruction was stepped.
const ESR_EX: u64 = 1 << 6;
/// ESR_EL1's bits of a Data Abort exception that a guest's stage 1 defines: EC, IL, CM, S1PTW, WnR and DFSC.
const ESR_ABORT_COMPARED: u64 = 0x3f << 26 | ESR_IL | 0x1ff;
/// ESR_EL1's bits of a trapped WFI or WFE without RN and RV.
const ESR_WFX_COMPARED: u64 = !(0x1f << 5 | 1 << 2);
/// CV and COND of a trapped WFI or WFE in AArch64 state.
const ESR_WFX_ALWAYS: u64 = 1 << 24 | 0xe << 20;
/// ESR_EL1's bits of a trapped instruction that say that it was trapped: EC and IL. Which one it was is not debug's.
const ESR_TRAP_COMPARED: u64 = 0x3f << 26 | ESR_IL;
/// More events than any code causes before it ends.
const MOST_EVENTS: usize = 64;
/// What KVM returns in X0 from an unknown call: NOT_SUPPORTED.
const NOT_SUPPORTED: u64 = u64::MAX;

/// What the code consists of; a RET follows.
#[derive(Clone, Debug)]
pub(crate) enum Instruction {
    /// `BRK`.
    Brk,
    /// An access.
    Access(Memory),
    /// A Store-Exclusive.
    StoreExclusive {
        /// The store that it does while the monitor is held.
        held: Memory,
        /// The same store if it may fail.
        lost: Memory,
        /// It is repeated until it succeeds.
        again: bool,
    },
    /// An SVE contiguous load or store, and its base.
    Vector(Vector, u64),
    /// A part of a Memory Copy or Memory Set.
    Move {
        /// All that the three instructions read and write.
        accesses: Vec<Memory>,
        /// This instruction does all of the rest.
        last: bool,
    },
    /// Loads into X0 a doubleword that a Memory Copy or Memory Set has written.
    ReadBack {
        /// The load.
        memory: Memory,
        /// What it is.
        value: u64,
    },
    /// Any other.
    Other(Does),
}

/// An access, the bytes that it accesses, and whether it faults.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    pub access: &'static Access,
    pub bytes: Range<u64>,
    /// Bits [63:56] of the address.
    pub tag: u64,
    pub fault: Option<Fault>,
}

/// Code, and the state in which it is entered.
#[derive(Debug)]
pub(crate) struct Execution<'a> {
    pub shape: &'a Shape,
    /// The number of bytes that DC ZVA zeroes.
    pub zva_block: u64,
    /// The registers as the PE may see them before the next context synchronization event: the last is what was
    /// written.
    pub views: &'a [Registers],
    pub el: El,
    /// PSTATE.D.
    pub masked: bool,
    pub entry: Entry,
    /// Where the code starts.
    pub code: u64,
    /// The code.
    pub instructions: &'a [Instruction],
    /// X0 on entry, where the payload logs it at the end.
    pub x0: Option<u64>,
}

/// What code may cause, and the state after it.
#[derive(Debug)]
pub(crate) struct Executed {
    pub outcome: Outcome,
    /// The handler of a Software Step exception has cleared MDSCR_EL1.SS.
    pub ss_cleared: bool,
    /// The handler of an exception from a Memory Copy or Memory Set has cleared MDSCR_EL1.MDE.
    pub mde_cleared: bool,
    /// There was certainly a context synchronization event.
    pub synchronised: bool,
}

/// What a Software Step exception says of the instruction before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stepped {
    /// No instruction was stepped: the exception return left the exception pending, or the hypervisor emulated the
    /// instruction.
    Nothing,
    /// An instruction was stepped; whether it was a Load-Exclusive.
    One(bool),
    /// An instruction was stepped of which the PE may say nothing.
    Perhaps,
}

/// One way through the code.
#[derive(Clone, Debug)]
struct Path {
    pc: u64,
    el: El,
    /// PSTATE.D.
    masked: bool,
    /// PSTATE.IL.
    illegal: bool,
    /// PSTATE.SS.
    ss: bool,
    stepped: Stepped,
    /// The number of Software Step exceptions still wanted.
    wanted: u8,
    ss_cleared: bool,
    mde_cleared: bool,
    synchronised: bool,
    /// The exclusive monitor is held.
    monitor: bool,
    /// W3, the status of a Store-Exclusive, says that it failed.
    failed: bool,
    x0: u64,
    /// How many Active elements the FFR may say were loaded: the least and the most. None as long as it is UNKNOWN.
    loaded: Option<(u64, u64)>,
    /// The least and the most that X0 may be, where it is the number of these elements.
    counted: Option<(u64, u64)>,
    /// SPSR_EL1, if the code has written it and no exception was taken since.
    spsr: Option<u64>,
    /// An exception was taken in place of an instruction.
    skipped: bool,
    over: bool,
    events: Vec<Expected>,
}

impl Execution<'_> {
    /// Follows every path. There are few: code is a few instructions, of which each may take two exceptions or none.
    pub fn run(&self) -> Result<Executed, Unknown> {
        let start = Path {
            pc: self.code,
            el: self.el,
            masked: self.masked,
            illegal: false,
            ss: false,
            stepped: Stepped::Nothing,
            wanted: 0,
            ss_cleared: false,
            mde_cleared: false,
            synchronised: self.by_return(),
            monitor: false,
            failed: false,
            x0: self.x0.unwrap_or_default(),
            loaded: None,
            counted: None,
            spsr: None,
            skipped: false,
            over: false,
            events: Vec::new(),
        };
        if !self.by_return() {
            self.refuse_what_a_call_exposes(&start)?;
        }
        let (ss, wanted) = match self.entry {
            Entry::Call => (false, 0),
            Entry::Return { ss, steps } => (ss && self.written(&start).steps().is_ok(), steps),
        };
        let start = Path { ss, wanted, ..start };
        let silent = self.why_silent(&start);
        let (mut open, mut done, mut decided) = (vec![start], Vec::new(), None);
        while let Some(path) = open.pop() {
            if path.over {
                done.push(path);
            } else {
                self.advance(path, &mut open, &mut decided)?;
            }
        }
        self.summary(done, decided.unwrap_or(silent))
    }

    /// The code is entered by an exception return, and ends with an SVC.
    fn by_return(&self) -> bool {
        self.el == El::El0 || self.entry != Entry::Call
    }

    /// A call at EL1 with PSTATE.D clear exposes instructions of the payload's own.
    fn refuse_what_a_call_exposes(&self, start: &Path) -> Result<(), Unknown> {
        if self.x0.is_some() {
            return Err(Unknown("a piece of code that is not entered by an exception return"));
        }
        for view in self.views.iter().map(|registers| self.view(registers, start)) {
            if view.steps().is_ok() {
                return Err(Unknown(
                    "code that is not entered to be stepped, while software step is enabled",
                ));
            }
            if view.generate_debug_exceptions().is_ok() && view.may_match_anywhere() {
                return Err(Unknown("a call under a breakpoint that may match the payload's own code"));
            }
        }
        Ok(())
    }

    fn view<'a>(&'a self, registers: &'a Registers, path: &Path) -> View<'a> {
        View { shape: self.shape, registers, el: path.el, masked: path.masked, zva_block: self.zva_block }
    }

    /// The PE with all registers as they were written.
    fn written(&self, path: &Path) -> View<'_> {
        self.view(&self.views[self.views.len() - 1], path)
    }

    /// The ways in which the PE may see its registers on this path.
    fn views_on(&self, path: &Path) -> impl Iterator<Item = View<'_>> + use<'_> {
        let first = if path.synchronised { self.views.len() - 1 } else { 0 };
        let (el, masked, zva_block) = (path.el, path.masked, self.zva_block);
        self.views[first..].iter().map(move |registers| View {
            shape: self.shape,
            registers,
            el,
            masked,
            zva_block,
        })
    }

    /// Executes one instruction, in each way that is allowed; the path that is pushed last has the most events.
    fn advance(
        &self,
        path: Path,
        open: &mut Vec<Path>,
        decided: &mut Option<&'static Rule>,
    ) -> Result<(), Unknown> {
        if path.events.len() > MOST_EVENTS {
            return Err(Unknown("code that does not come to an end"));
        }
        let stepping = !path.ss_cleared && self.written(&path).steps().is_ok();
        if stepping && !path.ss {
            decided.get_or_insert(&rule::STEP);
            open.push(self.step_exception(path));
            return Ok(());
        }
        let breakpoint = if path.mde_cleared {
            Verdict::no(&rule::MDE)
        } else {
            agreed(self.views_on(&path).map(|view| view.breakpoint(path.pc)))
        };
        let taken = (breakpoint.matches > Match::No).then(|| {
            decided.get_or_insert(breakpoint.rule);
            let esr = debug_class(EC_BREAKPOINT_LOWER_EL, &path) | IFSC_DEBUG;
            let event = exception(esr, &path);
            if self.moves(path.pc) { resumed(path.clone(), event) } else { self.taken(path.clone(), event) }
        });
        if path.illegal {
            // Which of the two comes first is IMPLEMENTATION DEFINED.
            decided.get_or_insert(&rule::STEP_ILLEGAL_RETURN);
            let event = exception(u64::from(EC_ILLEGAL_STATE) << 26 | ESR_IL, &path);
            open.push(self.taken(path, event));
        } else if breakpoint.matches < Match::Yes {
            self.execute(path, open, decided)?;
        }
        open.extend(taken);
        Ok(())
    }

    /// The handler of a Software Step exception has the next instruction stepped too, or ends stepping.
    fn step_exception(&self, mut path: Path) -> Path {
        let (stepped, unknown) = match path.stepped {
            Stepped::Nothing => (0, 0),
            Stepped::One(false) => (ESR_ISV, 0),
            Stepped::One(true) => (ESR_ISV | ESR_EX, 0),
            Stepped::Perhaps => (0, ESR_ISV),
        };
        let mut event = exception(debug_class(EC_STEP_LOWER_EL, &path) | IFSC_DEBUG | stepped, &path);
        if let Expected::Exception { esr_mask, .. } = &mut event {
            *esr_mask &= !unknown;
            if self.was_emulated(&path) {
                *esr_mask &= !(ESR_ISV | ESR_EX);
            }
        }
        path.events.push(event);
        path.wanted = path.wanted.saturating_sub(1);
        path.ss = path.wanted > 0;
        path.ss_cleared = path.wanted == 0;
        path.stepped = Stepped::Nothing;
        // The handler goes on after an ERET, which would return by what the handler returns with.
        let returns = matches!(
            self.at(path.pc),
            Some(Instruction::Other(Does::ExceptionReturn | Does::ReturnToItself))
        );
        let path = excepted(path);
        if returns { self.after(path) } else { path }
    }

    /// What was stepped is a store that userspace did for the guest: KVM makes the step pending, and the PE has executed
    /// nothing when it takes the exception.
    fn was_emulated(&self, path: &Path) -> bool {
        let passes = matches!(self.instructions, [Instruction::Access(memory)] if memory.passes());
        passes && path.stepped != Stepped::Nothing && path.pc == self.code + 4
    }

    /// Any other exception: its handler returns after the instruction with SPSR_EL1 as it is.
    fn taken(&self, mut path: Path, event: Expected) -> Path {
        path.events.push(event);
        path.stepped = Stepped::Nothing;
        self.after(Path { skipped: true, ..excepted(path) })
    }

    /// A Memory Copy or Memory Set is done here.
    fn moves(&self, pc: u64) -> bool {
        matches!(self.at(pc), Some(Instruction::Move { .. }))
    }

    /// The next instruction: after the RET, the one to which it returns.
    fn after(&self, path: Path) -> Path {
        let ret = self.code + 4 * self.instructions.len() as u64;
        if (self.code..ret).contains(&path.pc) {
            Path { pc: path.pc + 4, ..path }
        } else if path.pc == ret && self.by_return() {
            Path { pc: layout::RETURN, ..path }
        } else {
            Path { over: true, ..path }
        }
    }

    /// The instruction at this address; `None` for the RET and what follows.
    fn at(&self, pc: u64) -> Option<&Instruction> {
        let place = usize::try_from(pc.checked_sub(self.code)? / 4).ok()?;
        self.instructions.get(place)
    }

    /// What the instruction itself does.
    fn execute(
        &self,
        path: Path,
        open: &mut Vec<Path>,
        decided: &mut Option<&'static Rule>,
    ) -> Result<(), Unknown> {
        match self.at(path.pc) {
            None => open.push(self.done(path, Stepped::One(false))),
            Some(Instruction::Brk) => {
                decided.get_or_insert(&rule::BRK_UNMASKED);
                let esr = u64::from(EC_BRK) << 26 | ESR_IL | u64::from(layout::BRK_IMMEDIATE);
                let event = exception(esr, &path);
                open.push(self.taken(path, event));
            }
            Some(Instruction::Access(memory)) => self.access(memory, path, open, decided),
            Some(Instruction::StoreExclusive { held, lost, again }) => {
                self.store_exclusive([held, lost], *again, path, open, decided);
            }
            Some(Instruction::Vector(vector, base)) => self.vector(vector, *base, path, open, decided),
            Some(Instruction::Move { accesses, last }) => {
                self.memory_move(accesses, *last, path, open, decided)?;
            }
            Some(Instruction::ReadBack { memory, value }) => {
                let (first, events) = (open.len(), path.events.len());
                self.access(memory, path, open, decided);
                for other in open[first..].iter_mut().filter(|other| other.events.len() == events) {
                    other.x0 = *value;
                }
            }
            Some(Instruction::Other(does)) => self.execute_other(*does, path, open, decided)?,
        }
        Ok(())
    }

    /// The instruction was executed, and is stepped if stepping is active.
    fn done(&self, path: Path, stepped: Stepped) -> Path {
        let stepped = if path.ss { stepped } else { Stepped::Nothing };
        self.after(Path { ss: false, stepped, ..path })
    }

    /// Which watchpoints, if any, generate an exception here.
    fn hit(&self, access: &Access, bytes: &Range<u64>, path: &Path) -> Hit {
        if path.mde_cleared {
            return Hit { verdict: Verdict::no(&rule::MDE), wnr: None, far: FAR_UNKNOWN };
        }
        agreed_hit(self.views_on(path).map(|view| view.watchpoint(access, bytes)))
    }

    fn access(&self, memory: &Memory, path: Path, open: &mut Vec<Path>, decided: &mut Option<&'static Rule>) {
        let Memory { access, bytes, fault, .. } = memory;
        if let Some(fault) = fault {
            decided.get_or_insert(&rule::ABORT_FIRST);
            let event = abort_exception(memory, *fault, &path);
            open.push(self.taken(path, event));
            return;
        }
        let mut hit = self.hit(access, bytes, &path);
        // The address is translated first: where stage 2 maps nothing, the access exits to KVM, and whoever does it for
        // the guest need not look at the watchpoints.
        if memory.passes() && hit.verdict.matches == Match::Yes {
            hit.verdict = Verdict::may(&rule::WATCHPOINT_AFTER_TRANSLATION);
        }
        if hit.verdict.matches < Match::Yes {
            let path = Path { monitor: path.monitor || access.load_exclusive, ..path.clone() };
            open.push(self.done(path, Stepped::One(access.load_exclusive)));
        }
        if hit.verdict.matches > Match::No {
            decided.get_or_insert(hit.verdict.rule);
            let event = watchpoint_exception(&hit, memory.tag, &path);
            open.push(self.taken(path, event));
        }
    }

    /// While the monitor is held, a Store-Exclusive stores, and is reported as any store. It may lose the monitor at any
    /// time, and then fails. If it is repeated until it succeeds, the attempts that fail are not seen.
    fn store_exclusive(
        &self,
        [held, lost]: [&Memory; 2],
        again: bool,
        path: Path,
        open: &mut Vec<Path>,
        decided: &mut Option<&'static Rule>,
    ) {
        let monitor = path.monitor;
        let path = Path { monitor: false, ..path };
        let first = open.len();
        if !monitor || !again {
            self.access(lost, Path { failed: true, ..path.clone() }, open, decided);
        }
        // If the exception is taken, the handler returns after the instruction, and its status is still zero.
        for other in &mut open[first..] {
            other.failed = other.events.len() == path.events.len();
        }
        if monitor {
            self.access(held, path, open, decided);
        }
    }

    fn vector(
        &self,
        vector: &Vector,
        base: u64,
        path: Path,
        open: &mut Vec<Path>,
        decided: &mut Option<&'static Rule>,
    ) {
        let hits: Vec<_> = self.views_on(&path).map(|view| view.vector(vector, base)).collect();
        let hit = agreed_hit(hits.iter().map(|seen| seen.hit));
        decided.get_or_insert(hit.verdict.rule);
        if hit.verdict.matches < Match::Yes {
            let least = hits.iter().map(|seen| seen.loaded.0).min();
            let most = hits.iter().map(|seen| seen.loaded.1).max();
            let loaded = match vector.faulting {
                Faulting::All => path.loaded,
                Faulting::First | Faulting::None => path.loaded.and(least.zip(most)),
            };
            open.push(self.done(Path { loaded, ..path.clone() }, Stepped::One(false)));
        }
        if hit.verdict.matches > Match::No {
            let rounded = vector.rounded(base);
            for event in vector_exceptions(&hit, rounded.start, &path) {
                open.push(self.taken(path.clone(), event));
            }
        }
    }

    /// Which of the three instructions does what is IMPLEMENTATION DEFINED: a watched access is done here, or later unless
    /// this is the last of the three.
    fn memory_move(
        &self,
        accesses: &[Memory],
        last: bool,
        path: Path,
        open: &mut Vec<Path>,
        decided: &mut Option<&'static Rule>,
    ) -> Result<(), Unknown> {
        if path.skipped {
            return Err(Unknown("a Memory Copy or Memory Set of which an exception has skipped a part"));
        }
        if accesses.iter().any(|memory| memory.fault.is_some()) {
            return Err(Unknown("a fault of a Memory Copy or Memory Set"));
        }
        let hits = || accesses.iter().map(|memory| (memory, self.hit(memory.access, &memory.bytes, &path)));
        if !last || hits().all(|(_, hit)| hit.verdict.matches < Match::Yes) {
            let end = accesses.last().map(|write| write.bytes.end).filter(|_| last);
            let path = Path { x0: end.unwrap_or(path.x0), ..path.clone() };
            open.push(self.done(path, Stepped::One(false)));
        }
        for (memory, hit) in hits().filter(|(_, hit)| hit.verdict.matches > Match::No) {
            let certain = hit.verdict.matches == Match::Yes;
            decided.get_or_insert(if certain { &rule::WATCHPOINT_MOVE } else { hit.verdict.rule });
            open.push(resumed(path.clone(), watchpoint_exception(&hit, memory.tag, &path)));
        }
        Ok(())
    }

    fn execute_other(
        &self,
        does: Does,
        path: Path,
        open: &mut Vec<Path>,
        decided: &mut Option<&'static Rule>,
    ) -> Result<(), Unknown> {
        let el0 = path.el == El::El0;
        match does {
            Does::Privileged
            | Does::SetSpsr
            | Does::ExceptionReturn
            | Does::ReturnToItself
            | Does::HypervisorCall
            | Does::SecureMonitorCall
                if el0 =>
            {
                open.push(self.undefined(path, decided));
            }
            Does::Nothing | Does::Privileged => open.push(self.done(path, Stepped::One(false))),
            Does::ReadPmcr if el0 => {
                return Err(Unknown("a read of PMCR_EL0 at EL0, which PMUSERENR_EL0 may trap"));
            }
            Does::ReadPmcr => {
                decided.get_or_insert(&rule::STEP_UNDEFINED);
                open.push(self.undefined(path, decided));
            }
            Does::ReadMdccsr => {
                let traps = |view: View<'_>| view.registers.mdscr().tdcc();
                let trapped = traps(self.written(&path));
                if self.views_on(&path).any(|view| traps(view) != trapped) {
                    return Err(Unknown("a change of MDSCR_EL1.TDCC before a context synchronization event"));
                }
                decided.get_or_insert(&rule::DCC_TRAPPED);
                open.push(if el0 && trapped {
                    let event = trap(&path);
                    self.taken(path, event)
                } else {
                    self.done(path, Stepped::One(false))
                });
            }
            Does::Isb => {
                decided.get_or_insert(&rule::STEP_SYNCHRONIZES);
                let path = Path { synchronised: true, ..path };
                open.push(self.done(path, Stepped::Perhaps));
            }
            Does::MaskDebug(_) if el0 => {
                decided.get_or_insert(&rule::STEP_EXCEPTION);
                let event = trap(&path);
                open.push(self.taken(path, event));
            }
            Does::MaskDebug(masked) => {
                decided.get_or_insert(if masked { &rule::STEP_MASKED } else { &rule::STEP_UNMASKED });
                let path = self.done(path, Stepped::One(false));
                open.push(Path { masked, ..path });
            }
            Does::SetSpsr => {
                let path = self.done(Path { spsr: Some(path.x0), ..path }, Stepped::One(false));
                open.push(path);
            }
            Does::ExceptionReturn => open.push(self.exception_return(path, decided)?),
            Does::ReturnToItself if path.ss => {
                decided.get_or_insert(&rule::STEP_RETURN);
                let here = path.pc;
                let path = self.done(path, Stepped::Perhaps);
                open.push(Path { pc: here, monitor: false, ..path });
            }
            Does::ReturnToItself => return Err(Unknown("code that does not come to an end")),
            Does::HypervisorCall | Does::SecureMonitorCall => {
                decided.get_or_insert(&rule::STEP_CALL);
                if does == Does::SecureMonitorCall && !self.shape.traps_smc() {
                    open.push(self.undefined(path.clone(), decided));
                }
                // The exit to the hypervisor and its return synchronise, and lose the monitor.
                let path = Path { x0: NOT_SUPPORTED, synchronised: true, monitor: false, ..path };
                open.push(self.done(path, Stepped::Nothing));
            }
            Does::Wait(ti) => {
                decided.get_or_insert(&rule::STEP_WAIT);
                if el0 {
                    let mut event =
                        exception(u64::from(EC_WFX) << 26 | ESR_IL | ESR_WFX_ALWAYS | u64::from(ti), &path);
                    if let Expected::Exception { esr_mask, .. } = &mut event {
                        *esr_mask = ESR_WFX_COMPARED;
                    }
                    open.push(self.taken(path.clone(), event));
                }
                open.push(self.done(path, Stepped::Perhaps));
            }
            Does::ClearExclusive => {
                open.push(self.done(Path { monitor: false, ..path }, Stepped::One(false)));
            }
            Does::Retry if path.failed => {
                let path = self.done(path, Stepped::One(false));
                open.push(Path { pc: self.code, failed: false, ..path });
            }
            Does::Retry => open.push(self.done(path, Stepped::One(false))),
            Does::Status => {
                let path = Path { x0: path.failed.into(), ..path };
                open.push(self.done(path, Stepped::One(false)));
            }
            Does::SetFirstFault => {
                let all = u64::from(ELEMENTS);
                let path = Path { loaded: Some((all, all)), ..path };
                open.push(self.done(path, Stepped::One(false)));
            }
            Does::CountLoaded(active) => {
                let (least, most) = path.loaded.ok_or(Unknown("the FFR before it was set"))?;
                let counted = Some((least.min(active.into()), most.min(active.into())));
                open.push(self.done(Path { counted, ..path }, Stepped::One(false)));
            }
            Does::Access(_) | Does::StoreExclusive | Does::Vector(_) | Does::Move { .. } | Does::ReadBack => {
                return Err(Unknown("an access whose bytes are not known"));
            }
        }
        Ok(())
    }

    fn undefined(&self, path: Path, decided: &mut Option<&'static Rule>) -> Path {
        decided.get_or_insert(&rule::STEP_EXCEPTION);
        let event = exception(u64::from(EC_UNKNOWN) << 26 | ESR_IL, &path);
        self.taken(path, event)
    }

    /// `AArch64.ExceptionReturn` at EL1, to the next instruction.
    fn exception_return(&self, path: Path, decided: &mut Option<&'static Rule>) -> Result<Path, Unknown> {
        if path.skipped {
            return Err(Unknown("an exception return that an exception has kept from being prepared"));
        }
        let Some(spsr) = path.spsr else {
            // It returns to the state to which the previous handler returned, which steps nothing more.
            let path = self.done(path, Stepped::Perhaps);
            return Ok(Path { synchronised: true, monitor: false, ..path });
        };
        if spsr & !(pstate::MODE | pstate::D | pstate::SS) != pstate::AIF {
            return Err(Unknown("an exception return with this SPSR_EL1"));
        }
        let (el, illegal) = match spsr & pstate::MODE {
            pstate::EL0T => (El::El0, false),
            pstate::EL1H => (El::El1, false),
            pstate::EL2H => (El::El1, true),
            _ => return Err(Unknown("an exception return to this mode")),
        };
        decided.get_or_insert(if illegal { &rule::STEP_ILLEGAL_RETURN } else { &rule::STEP_RETURN });
        let here = path.generates(self);
        let path = self.done(path, Stepped::Perhaps);
        let there =
            Path { el, masked: spsr & pstate::D != 0, illegal, synchronised: true, monitor: false, ..path };
        let steps = !there.ss_cleared && self.written(&there).steps().is_ok();
        Ok(Path { ss: spsr & pstate::SS != 0 && !here && steps, ..there })
    }

    /// If several rules decide what happens, the first is named.
    fn summary(&self, mut done: Vec<Path>, rule: &'static Rule) -> Result<Executed, Unknown> {
        let ss_cleared = done.iter().all(|path| path.ss_cleared);
        if !ss_cleared && done.iter().any(|path| path.ss_cleared) {
            return Err(Unknown("code that may end with software step enabled or not"));
        }
        let mde_cleared = done.iter().all(|path| path.mde_cleared);
        if !mde_cleared && done.iter().any(|path| path.mde_cleared) {
            return Err(Unknown("code that may end with MDSCR_EL1.MDE set or not"));
        }
        let synchronised = done.iter().all(|path| path.synchronised);
        if self.x0.is_some() {
            for path in &mut done {
                path.events.push(match path.counted {
                    Some((lowest, highest)) => Expected::Within { lowest, highest },
                    None => Expected::Value { value: path.x0, mask: u64::MAX },
                });
            }
        }
        let mut sequences: Vec<Vec<Expected>> = Vec::new();
        for path in done {
            if !sequences.contains(&path.events) {
                sequences.push(path.events);
            }
        }
        let mut sequences = sequences.into_iter();
        let events = sequences.next().unwrap_or_default();
        let outcome = Outcome { events, or: sequences.collect(), rule };
        Ok(Executed { outcome, ss_cleared, mde_cleared, synchronised })
    }

    /// The rule by which nothing happens at the first instruction.
    fn why_silent(&self, start: &Path) -> &'static Rule {
        let view = self.written(start);
        match (self.instructions, self.entry, view.steps()) {
            (_, Entry::Return { ss: true, .. }, Err(rule)) => rule,
            ([Instruction::Access(Memory { access, bytes, .. })], ..) => {
                view.watchpoint(access, bytes).verdict.rule
            }
            _ => view.breakpoint(self.code).rule,
        }
    }
}

/// An exception was taken, and its handler has returned.
fn excepted(path: Path) -> Path {
    Path { synchronised: true, monitor: false, spsr: None, ..path }
}

/// The handler of a debug exception from a Memory Copy or Memory Set has cleared MDSCR_EL1.MDE and returns to the
/// instruction, which goes on.
fn resumed(mut path: Path, event: Expected) -> Path {
    path.events.push(event);
    Path { stepped: Stepped::Nothing, mde_cleared: true, ..excepted(path) }
}

impl Path {
    /// Debug exceptions other than BRK are enabled here.
    fn generates(&self, execution: &Execution<'_>) -> bool {
        execution.written(self).generate_debug_exceptions().is_ok()
    }
}

impl Memory {
    /// Userspace does the access for the guest.
    fn passes(&self) -> bool {
        layout::passage_at(self.bytes.start).is_some()
    }
}

fn watchpoint_exception(hit: &Hit, tag: u64, path: &Path) -> Expected {
    let (wnr, compared) = esr_of_watchpoint(hit.wnr);
    let mut event = exception(debug_class(EC_WATCHPOINT_LOWER_EL, path) | IFSC_DEBUG | wnr, path);
    if let Expected::Exception { esr_mask, far, .. } = &mut event {
        *esr_mask = compared;
        *far = (hit.far.0 | tag, hit.far.1 | tag);
    }
    event
}

/// In each way that FAR_EL1 may be reported: not valid, not precise, and precise. An address that is not precise need
/// not lie in a block of DC ZVA's size.
fn vector_exceptions(hit: &Hit, lowest: u64, path: &Path) -> [Expected; 3] {
    [(ESR_FNV, FAR_UNKNOWN), (ESR_FNP, (lowest, hit.far.1)), (0, hit.far)].map(|(set, reported)| {
        let mut event = watchpoint_exception(hit, 0, path);
        if let Expected::Exception { esr, esr_mask, far, .. } = &mut event {
            *esr |= set;
            *esr_mask |= ESR_FNV | if set == ESR_FNV { 0 } else { ESR_FNP };
            *far = reported;
        }
        event
    })
}

/// An MSR or MRS is trapped to EL1.
fn trap(path: &Path) -> Expected {
    let mut event = exception(u64::from(EC_SYSTEM) << 26 | ESR_IL, path);
    if let Expected::Exception { esr_mask, .. } = &mut event {
        *esr_mask = ESR_TRAP_COMPARED;
    }
    event
}

/// If an access to several bytes may be several accesses, the architecture does not say which faults first.
fn abort_exception(memory: &Memory, fault: Fault, path: &Path) -> Expected {
    let wnr = if fault.wnr { ESR_WNR } else { 0 };
    let mut event = exception(debug_class(EC_DATA_ABORT_LOWER_EL, path) | fault.dfsc | wnr, path);
    if let Expected::Exception { esr_mask, far, .. } = &mut event {
        *esr_mask = ESR_ABORT_COMPARED;
        *far = (memory.bytes.start | memory.tag, (memory.bytes.end - 1) | memory.tag);
    }
    event
}

/// A synchronous exception to EL1 from an instruction of the payload, which runs at EL1h or EL0t with interrupts
/// masked.
fn exception(esr: u64, path: &Path) -> Expected {
    let (vector, mode) = match path.el {
        El::El0 => (VECTOR_LOWER_EL_SYNCHRONOUS, pstate::EL0T),
        El::El1 => (VECTOR_CURRENT_EL_SYNCHRONOUS, pstate::EL1H),
    };
    let bit = |set, bit| if set { bit } else { 0 };
    let flags = bit(path.ss, pstate::SS) | bit(path.masked, pstate::D) | bit(path.illegal, pstate::IL);
    let spsr = pstate::AIF | mode | flags;
    Expected::Exception { vector, esr, esr_mask: u64::MAX, elr: path.pc, spsr, far: FAR_UNKNOWN }
}

/// ESR_EL1.EC of an exception that has one class for EL0 and another for EL1, from its value for EL0.
fn debug_class(from_el0: u8, path: &Path) -> u64 {
    let from_el1 = u8::from(path.el == El::El1);
    u64::from(from_el0 + from_el1) << 26 | ESR_IL
}

/// What all views agree on; where they differ, `May`.
fn agreed(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
    verdicts
        .reduce(|one, other| if one.matches == other.matches { one } else { Verdict::UNSETTLED })
        .unwrap_or(Verdict::UNSETTLED)
}

/// The same for watchpoints.
fn agreed_hit(hits: impl Iterator<Item = Hit>) -> Hit {
    let mut agreed: Option<Hit> = None;
    for hit in hits {
        agreed = Some(match agreed {
            None => hit,
            Some(before) => before.or_unsettled(hit),
        });
    }
    agreed.unwrap_or(Hit { verdict: Verdict::UNSETTLED, wnr: None, far: FAR_UNKNOWN })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access,
        control::{
            BT_CONTEXT, BT_CONTEXT_LINKED, BT_CONTEXTIDR_EL1, BT_CONTEXTIDR_EL1_LINKED, Dbgbcr, Dbgwcr,
            LSC_LOAD, LSC_STORE, Mdscr, PMC_EL1_EL0,
        },
        event::Exception,
        pe::Pe,
        scenario::{Op, Scenario},
        sequence::Sequence,
        sysreg::{CONTEXTIDR_EL1, MDSCR_EL1, OSLAR_EL1, OSLSR_EL1, dbgbcr, dbgbvr, dbgwcr},
    };
    use arbitrary_int::{u2, u4, u5};
    use proptest::prelude::*;

    const SHAPE: Shape =
        Shape { debug_ver: 9, breakpoints: 6, watchpoints: 4, context_aware: 2, double_lock: false };
    const ON: Mdscr = Mdscr::breakpoints_at_el1();
    const BY_RETURN: Entry = Entry::Return { ss: false, steps: 0 };
    const PENDING: Entry = Entry::Return { ss: false, steps: 1 };
    const WATCHED: u64 = layout::TARGET + 0x40;
    const MARKER: u64 = layout::marker(1);
    const RET: u64 = MARKER + 4;
    const WNR: u64 = 1 << 6;

    fn outcome(scenario: &Scenario) -> Result<Outcome, Unknown> {
        let mut pe = Pe::new(SHAPE);
        scenario.ops().iter().map(|op| pe.step(*op)).last().expect("an operation")
    }

    /// Each sequence of events: exception class and ELR of each.
    fn sequences(scenario: &Scenario) -> Vec<Vec<(u8, u64)>> {
        let class = |event: &Expected| match *event {
            Expected::Exception { esr, elr, .. } => {
                (Exception { vector: 0, esr, elr, spsr: 0, far: 0 }.ec(), elr)
            }
            other => panic!("{other}"),
        };
        let outcome = outcome(scenario).expect("modelled");
        outcome.alternatives().map(|events| events.iter().map(class).collect()).collect()
    }

    fn rule_of(scenario: &Scenario) -> &'static Rule {
        outcome(scenario).expect("modelled").rule
    }

    fn start(mdscr: Mdscr) -> Scenario {
        Scenario::new().then(Op::MaskDebug(false)).enable(mdscr)
    }

    fn breakpoint(control: Dbgbcr) -> Scenario {
        start(ON).breakpoint(5, 1, control)
    }

    const ADDRESS: Dbgbcr = Dbgbcr::address_at_el1();

    const MOVED: u64 = layout::TARGET + 0x100;

    fn code_of(name: &str) -> (&'static Sequence, u64) {
        let piece = Sequence::named(name);
        (piece, layout::sequence_code(piece))
    }

    /// The ELR, WnR and FAR of the first event of each outcome, and the value that the piece ends with.
    fn moved(scenario: &Scenario) -> Vec<(u64, bool, (u64, u64), u64)> {
        let outcome = outcome(scenario).expect("modelled");
        let ends = outcome.alternatives().map(|events| match *events {
            [Expected::Exception { esr, elr, far, .. }, Expected::Value { value, .. }] => {
                (elr, esr & WNR != 0, far, value)
            }
            ref other => panic!("{other:?}"),
        });
        let mut ends: Vec<_> = ends.collect();
        ends.sort_unstable();
        ends
    }

    fn move_of(name: &str, address: u64, control: Dbgwcr) -> Scenario {
        let (piece, _) = code_of(name);
        start(ON).watchpoint(0, address, control).entered(BY_RETURN).run(piece, MOVED)
    }

    #[test]
    fn a_watched_memory_set_is_interrupted_at_one_of_three_instructions_and_goes_on() {
        let (_, code) = code_of("set 64 bytes to ones");
        let set = |control| move_of("set 64 bytes to ones", MOVED + 16, control);
        let far = (MOVED, MOVED + 23);
        let each = [2, 3, 4].map(|place| (code + 4 * place, true, far, u64::MAX));
        for lsc in [LSC_STORE, LSC_STORE | LSC_LOAD] {
            let control = Dbgwcr::doubleword().with_lsc(lsc);
            assert_eq!(moved(&set(control)), each);
            assert_eq!(rule_of(&set(control)), &rule::WATCHPOINT_MOVE);
        }
        let silent = outcome(&set(Dbgwcr::doubleword().with_lsc(LSC_LOAD))).expect("modelled");
        assert_eq!(silent.events, [Expected::Value { value: u64::MAX, mask: u64::MAX }], "it reads nothing");
        assert_eq!(silent.or, Vec::<Vec<Expected>>::new());
    }

    #[test]
    fn a_memory_copy_reports_its_reads_and_its_writes_each_by_its_side() {
        for name in ["copy 64 bytes", "copy 64 bytes forwards"] {
            let (_, code) = code_of(name);
            let value = 0xd65f_03c0_d503_201f;
            let parts = [2, 3, 4].map(|place| code + 4 * place);
            let source = move_of(name, layout::MARKERS + 8, Dbgwcr::doubleword());
            let read = (layout::MARKERS, layout::MARKERS + 15);
            assert_eq!(moved(&source), parts.map(|elr| (elr, false, read, value)));
            let target = |lsc| move_of(name, MOVED + 8, Dbgwcr::doubleword().with_lsc(lsc));
            let write = (MOVED, MOVED + 15);
            assert_eq!(moved(&target(LSC_STORE)), parts.map(|elr| (elr, true, write, value)));
            let stores = move_of(name, layout::MARKERS + 8, Dbgwcr::doubleword().with_lsc(LSC_STORE));
            assert_eq!(outcome(&stores).expect("modelled").events.len(), 1, "nothing is written there");
            let (piece, _) = code_of(name);
            let both = start(ON).watchpoint(0, MOVED, Dbgwcr::doubleword());
            let both = both.watchpoint(1, layout::MARKERS, Dbgwcr::doubleword()).entered(BY_RETURN);
            assert_eq!(moved(&both.run(piece, MOVED)).len(), 6, "either side may be first");
        }
    }

    #[test]
    fn far_of_a_memory_set_lies_in_the_page_of_the_watched_address() {
        let (piece, _) = code_of("set 64 bytes to ones");
        let page = layout::TARGET + layout::PAGE;
        let far = |address, control: Dbgwcr| {
            let set = start(ON).watchpoint(0, address, control).entered(BY_RETURN).run(piece, page - 32);
            moved(&set)[0].2
        };
        let doubleword = Dbgwcr::doubleword();
        assert_eq!(far(page + 8, doubleword), (page, page + 15));
        assert_eq!(far(page - 8, doubleword), (page - 32, page - 1));
        assert_eq!(
            far(layout::TARGET, doubleword.with_mask(u5::new(13))),
            (page - 32, page + 31),
            "both pages"
        );
    }

    #[test]
    fn what_is_read_back_may_be_watched_for_loads() {
        let scenario = move_of("set 64 bytes to zeros", MOVED + 24, Dbgwcr::doubleword().with_lsc(LSC_LOAD));
        let (_, code) = code_of("set 64 bytes to zeros");
        assert_eq!(moved(&scenario), [(code + 16, false, (MOVED + 24, MOVED + 31), MOVED + 64)]);
    }

    #[test]
    fn an_exception_of_a_memory_set_clears_mde_for_the_rest_and_nothing_else_does() {
        let (piece, code) = code_of("set 64 bytes to ones");
        let twice = move_of("set 64 bytes to ones", MOVED, Dbgwcr::doubleword()).isb();
        let again = twice.clone().then(Op::Run { sequence: piece, x0: MOVED });
        assert_eq!(outcome(&again).expect("modelled").events.len(), 1, "the value alone");
        let mde = |scenario: Scenario| match outcome(&scenario.read(MDSCR_EL1)).expect("modelled").events[..]
        {
            [Expected::Value { value, .. }] => Mdscr::new_with_raw_value(value).mde(),
            ref other => panic!("{other:?}"),
        };
        assert!(!mde(twice));
        assert!(mde(move_of("set 64 bytes to ones", MOVED + 64, Dbgwcr::doubleword())));
        let broken = start(ON).breakpoint_at(0, code + 12, ADDRESS).entered(BY_RETURN).run(piece, MOVED);
        let events = outcome(&broken).expect("modelled").events;
        assert!(
            matches!(events[..], [Expected::Exception { elr, .. }, Expected::Value { value: u64::MAX, .. }]
            if elr == code + 12)
        );
        let after = start(ON).breakpoint_at(0, code + 4, ADDRESS).entered(BY_RETURN);
        assert_eq!(
            outcome(&after.run(piece, MOVED)).err().map(|unknown| unknown.0),
            Some("a Memory Copy or Memory Set of which an exception has skipped a part")
        );
    }

    #[test]
    fn a_memory_set_that_may_or_may_not_be_interrupted_is_not_modelled() {
        let odd = move_of("set 64 bytes to ones", MOVED, Dbgwcr::doubleword().with_bas(0b101));
        assert!(outcome(&odd).is_err());
        let fault = start(ON).entered(BY_RETURN).run(code_of("set 64 bytes to ones").0, layout::READ_ONLY);
        assert!(outcome(&fault).is_err());
    }

    #[test]
    fn each_part_of_a_memory_set_is_one_step() {
        let (piece, code) = code_of("set 64 bytes to ones");
        let set = start(ON.with_ss(true)).entered(Entry::stepped(8)).run(piece, MOVED);
        let events = outcome(&set).expect("modelled").events;
        let elr = |event: &Expected| match *event {
            Expected::Exception { elr, .. } => Some(elr),
            _ => None,
        };
        let steps: Vec<u64> = events.iter().filter_map(elr).collect();
        assert_eq!(
            steps,
            [1, 2, 3, 4, 5, 6, 7]
                .map(|k| code + 4 * k)
                .into_iter()
                .chain([layout::RETURN])
                .collect::<Vec<_>>()
        );
        let watched = start(ON.with_ss(true)).watchpoint(0, MOVED, Dbgwcr::doubleword());
        let watched = outcome(&watched.entered(Entry::stepped(8)).run(piece, MOVED)).expect("modelled");
        let mut at: Vec<_> = watched
            .alternatives()
            .map(|events| {
                let seen: Vec<u64> = events.iter().filter_map(elr).collect();
                let place =
                    seen.windows(2).position(|two| two[0] == two[1]).expect("a part that is done again");
                assert_eq!(seen.len(), 9);
                seen[place]
            })
            .collect();
        at.sort_unstable();
        assert_eq!(at, [2, 3, 4].map(|k| code + 4 * k));
    }

    #[test]
    fn a_write_may_be_seen_before_the_next_isb_and_is_seen_after_it() {
        let off = breakpoint(ADDRESS).isb().write(dbgbcr(5), 0);
        let either = off.clone().then(Op::Exec { marker: 1 });
        assert_eq!(sequences(&either), [vec![(0x31, MARKER)], vec![]]);
        assert_eq!(rule_of(&either), &rule::CONTEXT_SYNCHRONIZATION);
        assert_eq!(sequences(&off.exec(1)), [vec![]]);
    }

    #[test]
    fn an_exception_synchronises_what_was_written_before() {
        let both = breakpoint(ADDRESS).breakpoint_at(4, RET, ADDRESS).isb();
        let off = both.write(dbgbcr(4), 0).then(Op::Exec { marker: 1 });
        assert_eq!(sequences(&off), [vec![(0x31, MARKER)]], "the RET is after the first exception");
        let elsewhere = breakpoint(ADDRESS).breakpoint(4, 2, ADDRESS).isb().write(dbgbcr(4), 0);
        let then = |scenario: Scenario| sequences(&scenario.then(Op::Exec { marker: 2 }));
        assert_eq!(then(elsewhere.clone()), [vec![(0x31, layout::marker(2))], vec![]], "old or new");
        assert_eq!(then(elsewhere.clone().then(Op::Exec { marker: 3 })).len(), 2, "no exception");
        assert_eq!(then(elsewhere.then(Op::Exec { marker: 1 })), [vec![]], "after the exception");
    }

    #[test]
    fn of_several_rules_that_decide_the_first_is_named() {
        let odd = |address| start(ON).breakpoint_at(0, address, ADDRESS.with_bas(u4::new(4)));
        let load = Access::named("ldr x1");
        let watched = odd(layout::access_code(load)).watchpoint(0, WATCHED, Dbgwcr::doubleword());
        for scenario in [odd(layout::BRK).brk(), watched.access(load, WATCHED)] {
            assert_eq!(sequences(&scenario).len(), 2, "{scenario}");
            assert_eq!(rule_of(&scenario), &rule::BREAKPOINT_BAS, "{scenario}");
        }
        let new = start(ON).isb().breakpoint_at(0, layout::BRK, ADDRESS).then(Op::Brk);
        assert_eq!(rule_of(&new), &rule::CONTEXT_SYNCHRONIZATION);
        let beside = odd(MARKER).isb().write(CONTEXTIDR_EL1, 1).then(Op::Exec { marker: 1 });
        assert_eq!(sequences(&beside).len(), 2);
        assert_eq!(rule_of(&beside), &rule::BREAKPOINT_BAS, "whether the write is seen makes no difference");
    }

    #[test]
    fn where_the_views_differ_that_is_the_rule_though_the_last_of_them_leaves_a_choice_of_its_own() {
        let load = Access::named("ldr x1");
        let (certain, odd) = (Dbgwcr::doubleword(), Dbgwcr::doubleword().with_bas(0b101));
        let watched = start(ON).watchpoint(0, WATCHED, certain.with_e(false)).isb();
        let watched = watched.write(dbgwcr(0), certain.raw_value()).write(dbgwcr(0), odd.raw_value());
        let hit = breakpoint(ADDRESS.with_e(false)).isb().write(dbgbcr(5), ADDRESS.raw_value());
        let hit = hit.write(dbgbcr(5), ADDRESS.with_bas(u4::new(4)).raw_value());
        let watched = watched.then(Op::Access { access: load, address: WATCHED });
        for scenario in [hit.then(Op::Exec { marker: 1 }), watched] {
            assert_eq!(sequences(&scenario).len(), 2, "{scenario}");
            assert_eq!(rule_of(&scenario), &rule::CONTEXT_SYNCHRONIZATION, "{scenario}");
        }
    }

    #[test]
    fn of_breakpoints_that_match_the_last_says_why() {
        let both = |linked, alone| {
            let scenario = start(ON).breakpoint(linked, 1, Dbgbcr::address_linked_to(u4::new(5)));
            let scenario = scenario.breakpoint(alone, 1, ADDRESS);
            rule_of(&scenario.write(dbgbcr(5), Dbgbcr::linked_context().raw_value()).exec(1))
        };
        assert_eq!(both(0, 1), &rule::BREAKPOINT_MATCHES);
        assert_eq!(both(1, 0), &rule::LINKED_CONTEXT);
    }

    #[test]
    fn an_exception_return_synchronises() {
        let off = breakpoint(ADDRESS).isb().write(dbgbcr(5), 0).entered(BY_RETURN);
        assert_eq!(sequences(&off.then(Op::Exec { marker: 1 })), [vec![]]);
    }

    #[test]
    fn of_two_writes_each_may_be_seen_without_the_other() {
        let moved = start(ON).breakpoint(5, 2, ADDRESS.with_e(false)).isb();
        let moved = moved.write(dbgbvr(5), MARKER).write(dbgbcr(5), ADDRESS.raw_value());
        assert_eq!(
            sequences(&moved.clone().then(Op::Exec { marker: 2 })).len(),
            2,
            "new control, old address"
        );
        assert_eq!(sequences(&moved.then(Op::Exec { marker: 1 })).len(), 2);
    }

    #[test]
    fn so_many_writes_that_all_their_orders_cannot_be_followed_are_not_modelled() {
        let many = (0..6).fold(start(ON).isb(), |scenario, n| scenario.breakpoint(n, 1, ADDRESS));
        let said = outcome(&many.then(Op::Exec { marker: 1 })).map(drop);
        assert!(said.is_err());
    }

    #[test]
    fn the_os_lock_status_is_certain_after_an_isb_only() {
        let locked = Scenario::new().write(OSLAR_EL1, 1);
        let mask = |scenario: Scenario| match outcome(&scenario.read(OSLSR_EL1)).expect("modelled").events[0]
        {
            Expected::Value { mask, .. } => mask,
            other => panic!("{other}"),
        };
        assert_eq!(mask(locked.clone()), !0b10);
        assert_eq!(mask(locked.isb()), u64::MAX);
    }

    #[test]
    fn a_byte_select_with_its_lowest_bit_matches_and_another_may_at_the_address_and_nowhere_else() {
        for bas in 0..15 {
            let odd = breakpoint(ADDRESS.with_bas(u4::new(bas)));
            let at_it = sequences(&odd.clone().exec(1));
            if bas & 1 == 1 {
                assert_eq!(at_it, [vec![(0x31, MARKER)]], "{bas:#06b}");
            } else {
                assert_eq!(at_it.len(), 2, "{bas:#06b}");
            }
            assert_eq!(sequences(&odd.exec(2)), [vec![]], "{bas:#06b}");
        }
    }

    #[test]
    fn states_that_depend_on_what_a_guest_is_not_told_may_match_or_not() {
        // HMC, SSC, PMC or PAC, and whether EL1 and EL0 must (2), may (1) or must not (0) match.
        for hmc in [false, true] {
            for ssc in 0..4 {
                for privilege in 0..4 {
                    let expected = match (hmc, ssc, privilege) {
                        (false, 0, 1) | (true, 0, 1) => [2, 0],
                        (false, 0, 2) => [0, 2],
                        (false, 0, 3) | (true, 0, 3) => [2, 2],
                        (true, 3, 0) => [0, 0],
                        _ => [1, 1],
                    };
                    let control = ADDRESS.with_hmc(hmc).with_ssc(u2::new(ssc)).with_pmc(u2::new(privilege));
                    let watch = Dbgwcr::doubleword().with_hmc(hmc).with_ssc(u2::new(ssc));
                    let watch = watch.with_pac(u2::new(privilege));
                    let load = Access::named("ldr x1");
                    let watched = start(ON).watchpoint(0, WATCHED, watch);
                    for (el, expected) in [El::El1, El::El0].into_iter().zip(expected) {
                        let at = |scenario: Scenario| certainty(&scenario.entered(BY_RETURN).at(el));
                        assert_eq!(at(breakpoint(control)).exec(), expected, "{control}");
                        assert_eq!(at(watched.clone()).access(load), expected, "{watch}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_ssce_that_a_pe_with_rme_would_heed_may_keep_a_match_from_happening() {
        let load = Access::named("ldr x1");
        assert_eq!(certainty(&breakpoint(ADDRESS.with_ssce(true)).entered(BY_RETURN)).exec(), 1);
        let watched = start(ON).watchpoint(0, WATCHED, Dbgwcr::doubleword().with_ssce(true));
        assert_eq!(certainty(&watched).access(load), 1);
    }

    #[test]
    fn fields_of_later_features_may_mean_something_or_not() {
        let at = |address, control: Dbgbcr| {
            let set = start(ON).breakpoint_at(0, address, control).entered(BY_RETURN);
            let context = set.write(dbgbvr(5), 1).write(dbgbcr(5), Dbgbcr::linked_context().raw_value());
            certainty(&context.write(CONTEXTIDR_EL1, 1)).exec()
        };
        let block = |mask| ADDRESS.with_mask(u5::new(mask));
        let aligned = MARKER & !0xff;
        assert_eq!(at(MARKER, ADDRESS.with_bt2(true)), 1, "FEAT_ABLE: it only links");
        assert_eq!(at(MARKER + 8, ADDRESS.with_bt2(true)), 0);
        assert_eq!(at(aligned, block(8)), 1, "FEAT_BWE: the range holds the marker");
        assert_eq!(at(MARKER + 0x100, block(8)), 0, "neither does its range");
        assert_eq!(at(MARKER, block(3)), 2, "at its address with a mask and without");
        assert_eq!(at(MARKER, block(4)), 1, "a masked bit of the address is set");
        assert_eq!(at(MARKER ^ 1 << 30, block(1)), 1, "a reserved mask may be any");
        assert_eq!(at(MARKER ^ 1 << 31, block(1)), 0);
        let linked = Dbgbcr::address_linked_to(u4::new(5));
        assert_eq!(at(MARKER, linked), 2);
        assert_eq!(at(MARKER, linked.with_lbnx(u2::new(1))), 1, "FEAT_Debugv8p9: to number 21");
        let mismatch = ADDRESS.with_bt(u4::new(0b0100)).with_mask(u5::new(3));
        let both = breakpoint(ADDRESS).breakpoint_at(0, MARKER + 0x1000, mismatch).entered(BY_RETURN);
        assert_eq!(certainty(&both).exec(), 1, "FEAT_BWE: a mismatch is heeded beside a match");
    }

    #[test]
    fn a_watchpoint_that_a_pe_with_bwe2_takes_for_a_mismatch_may_hit_anywhere() {
        let load = Access::named("ldr x1");
        let one = |address, control| start(ON).watchpoint(0, address, control);
        let mismatch = Dbgwcr::doubleword().with_wt2(true);
        assert_eq!(certainty(&one(WATCHED + 0x100, mismatch)).access(load), 1);
        let beside = one(WATCHED + 0x100, mismatch).watchpoint(1, WATCHED, Dbgwcr::doubleword());
        assert_eq!(certainty(&beside).access(load), 1, "a match counts only beside it");
        let linked = Dbgwcr::linked_to(u4::new(5)).with_lbnx(u2::new(1));
        assert_eq!(certainty(&one(WATCHED, linked)).access(load), 1);
    }

    /// Whether the first instruction must (2), may (1) or must not (0) take a debug exception.
    struct Certainty(Scenario);

    fn certainty(scenario: &Scenario) -> Certainty {
        Certainty(scenario.clone())
    }

    impl Certainty {
        fn exec(&self) -> u8 {
            taken_at(&self.0.clone().exec(1), MARKER)
        }

        fn access(&self, access: &'static Access) -> u8 {
            taken_at(&self.0.clone().access(access, WATCHED), layout::access_code(access))
        }
    }

    fn taken_at(scenario: &Scenario, first: u64) -> u8 {
        let sequences = sequences(scenario);
        let taken = |events: &Vec<(u8, u64)>| events.first().is_some_and(|(_, elr)| *elr == first);
        match (sequences.iter().all(taken), sequences.iter().any(taken)) {
            (true, _) => 2,
            (false, any) => any.into(),
        }
    }

    #[test]
    fn address_bits_above_48_may_be_compared_and_those_up_to_it_are() {
        let load = Access::named("ldr x1");
        for bit in 2..64 {
            let expected = u8::from(bit > 48);
            let at = |address| certainty(&start(ON).breakpoint_at(5, address, ADDRESS).entered(BY_RETURN));
            assert_eq!(at(MARKER ^ 1 << bit).exec(), expected, "{bit}");
            assert_eq!(at(MARKER ^ 1 << bit | 1 << 48).exec(), 0, "{bit}");
            if bit > 3 {
                let watched = start(ON).watchpoint(0, WATCHED ^ 1 << bit, Dbgwcr::doubleword());
                assert_eq!(certainty(&watched).access(load), expected, "{bit}");
            }
        }
    }

    #[test]
    fn an_unlinked_context_breakpoint_fires_at_each_instruction_in_its_context() {
        let by = |bt, context| {
            let control = ADDRESS.with_bt(bt).with_pmc(PMC_EL1_EL0);
            let set = start(ON).write(dbgbvr(5), 7).write(dbgbcr(5), control.raw_value());
            set.write(CONTEXTIDR_EL1, context).entered(BY_RETURN)
        };
        for bt in [BT_CONTEXT, BT_CONTEXTIDR_EL1] {
            let each = [(0x31, MARKER), (0x31, RET), (0x31, layout::RETURN)];
            assert_eq!(sequences(&by(bt, 7).exec(1)), [each.to_vec()]);
            let at_el0 = each.map(|(ec, elr)| (ec - 1, elr));
            assert_eq!(sequences(&by(bt, 7).at(El::El0).exec(1)), [at_el0.to_vec()]);
            assert_eq!(sequences(&by(bt, 8).exec(1)), [vec![]]);
            assert_eq!(rule_of(&by(bt, 7).exec(1)), &rule::BREAKPOINT_CONTEXT);
        }
        assert!(outcome(&by(BT_CONTEXT, 7).entered(Entry::Call).exec(1)).is_err(), "the call itself is hit");
        assert!(outcome(&by(BT_CONTEXT, 8).entered(Entry::Call).exec(1)).is_ok());
    }

    #[test]
    fn without_vhe_the_contextidr_types_are_reserved() {
        let old = Shape { debug_ver: 6, ..SHAPE };
        let control = ADDRESS.with_bt(BT_CONTEXTIDR_EL1);
        let ops = breakpoint(control).write(CONTEXTIDR_EL1, MARKER & 0xffff_ffff).entered(BY_RETURN).exec(1);
        let mut pe = Pe::new(old);
        let last = ops.ops().iter().map(|op| pe.step(*op)).last().expect("an operation").expect("modelled");
        assert_eq!(last.alternatives().count(), 8, "each of three instructions may be hit");
    }

    #[test]
    fn what_each_type_of_breakpoint_may_match_by_itself() {
        let context = MARKER & 0xffff_ffff;
        for bt in 0..16 {
            let set = |n, marker, contextidr, mdscr| {
                let control = ADDRESS.with_bt(u4::new(bt)).with_lbn(u4::new(4));
                let partner = Dbgbcr::linked_context();
                let set = start(mdscr).breakpoint(n, 1, control).write(dbgbvr(4), contextidr);
                let set = set.write(dbgbcr(4), partner.raw_value()).write(CONTEXTIDR_EL1, contextidr);
                let code = layout::marker(marker);
                taken_at(&set.entered(BY_RETURN).exec(marker), code)
            };
            // At its address, elsewhere, and elsewhere while CONTEXTIDR_EL1 is the low half of DBGBVR.
            let all = |n| [set(n, 1, 7, ON), set(n, 2, 7, ON), set(n, 2, context, ON)];
            let links_only = matches!(bt, 3 | 7 | 9 | 11 | 13 | 15);
            let aware = match bt {
                0 | 1 => [2, 0, 0],
                2 | 6 => [0, 0, 2],
                4 | 5 | 8 | 12 => [1, 1, 1],
                10 | 14 => [0, 0, 1],
                _ => [0, 0, 0],
            };
            assert_eq!(all(5), aware, "context-aware, type {bt:#06b}");
            let not_aware = match bt {
                0 | 1 => [2, 0, 0],
                _ if links_only => [0, 0, 0],
                _ => [1, 0, 0],
            };
            assert_eq!(all(0), not_aware, "not context-aware, type {bt:#06b}");
            assert_eq!(set(5, 1, context, ON.with_mde(false)), 0, "masked as all are, type {bt:#06b}");
        }
    }

    #[test]
    fn what_each_type_of_breakpoint_is_as_the_partner_of_a_link() {
        let load = Access::named("ldr x1");
        for bt in 0..16 {
            let partner = |set: Scenario, contextidr| {
                let control = Dbgbcr::linked_context()
                    .with_bt(u4::new(bt))
                    .with_pmc(u2::new(0))
                    .with_hmc(true)
                    .with_ssc(u2::new(3));
                let set = set.write(dbgbvr(5), 7).write(dbgbcr(5), control.raw_value());
                certainty(&set.write(CONTEXTIDR_EL1, contextidr).entered(BY_RETURN))
            };
            let breakpoint = start(ON).breakpoint(0, 1, Dbgbcr::address_linked_to(u4::new(5)));
            let watchpoint = start(ON).watchpoint(0, WATCHED, Dbgwcr::linked_to(u4::new(5)));
            // In its context and in another.
            let expected = match bt {
                3 | 7 => [2, 0],
                4 | 5 | 9 | 13 => [1, 1],
                11 | 15 => [1, 0],
                _ => [0, 0],
            };
            let contexts = [7, 8];
            assert_eq!(contexts.map(|context| partner(breakpoint.clone(), context).exec()), expected, "{bt}");
            let accesses = contexts.map(|context| partner(watchpoint.clone(), context).access(load));
            assert_eq!(accesses, expected, "{bt}");
        }
    }

    #[test]
    fn below_armv8_1_the_types_of_vhe_may_be_there_or_reserved() {
        let ways = |debug_ver, scenario: &Scenario| {
            let mut pe = Pe::new(Shape { debug_ver, ..SHAPE });
            let last = scenario.ops().iter().map(|op| pe.step(*op)).last().expect("an operation");
            last.expect("modelled").alternatives().count()
        };
        let context = |bt| {
            let set = start(ON).write(dbgbvr(5), 7).write(CONTEXTIDR_EL1, 7);
            set.write(dbgbcr(5), Dbgbcr::linked_context().with_bt(bt).raw_value()).entered(BY_RETURN)
        };
        let linked = |bt| context(bt).breakpoint(0, 1, Dbgbcr::address_linked_to(u4::new(5))).exec(1);
        for (bt, linked_bt) in
            [(BT_CONTEXT, BT_CONTEXT_LINKED), (BT_CONTEXTIDR_EL1, BT_CONTEXTIDR_EL1_LINKED)]
        {
            let reserved = bt == BT_CONTEXTIDR_EL1;
            for scenario in [context(bt).exec(1), linked(linked_bt)] {
                assert_eq!(ways(7, &scenario), 1, "{scenario}");
                assert_eq!(ways(6, &scenario) > 1, reserved, "{scenario}");
            }
            assert_eq!(ways(6, &context(linked_bt).exec(1)), 1, "linking enabled is linking enabled");
        }
    }

    #[test]
    fn links_that_lead_nowhere() {
        let linked = |n, lbn| {
            start(ON).breakpoint(n, 1, Dbgbcr::address_linked_to(u4::new(lbn))).write(CONTEXTIDR_EL1, 1)
        };
        assert_eq!(sequences(&linked(5, 5).exec(1)), [vec![]], "itself, which is an address match");
        assert_eq!(sequences(&linked(0, 0).exec(1)).len(), 2, "itself, which is not context-aware");
        assert_eq!(sequences(&linked(0, 3).exec(1)).len(), 2, "not context-aware");
        assert_eq!(sequences(&linked(0, 6).exec(1)).len(), 2, "not there");
        assert_eq!(sequences(&linked(0, 3).exec(2)), [vec![]], "the address must match all the same");
        let partner = |bt: u8| {
            let control = Dbgbcr::linked_context().with_bt(u4::new(bt));
            linked(0, 5).write(dbgbvr(5), 1).write(dbgbcr(5), control.raw_value()).entered(BY_RETURN).exec(1)
        };
        assert_eq!(sequences(&partner(0)), [vec![]]);
        assert_eq!(sequences(&partner(3)), [vec![(0x31, MARKER)]]);
        assert_eq!(sequences(&partner(7)), [vec![(0x31, MARKER)]]);
        assert!(sequences(&partner(9)).len() > 1, "VMIDs are EL2's");
    }

    #[test]
    fn a_breakpoint_comes_before_brk_and_before_the_access() {
        let on = |address| start(ON).breakpoint_at(0, address, ADDRESS);
        assert_eq!(sequences(&on(layout::BRK).brk()), [vec![(0x31, layout::BRK)]]);
        assert_eq!(
            sequences(&on(layout::BRK + 4).brk()),
            [vec![(0x3c, layout::BRK), (0x31, layout::BRK + 4)]]
        );
        let load = Access::named("ldr x1");
        let code = layout::access_code(load);
        let watched =
            |address| on(address).watchpoint(0, WATCHED, Dbgwcr::doubleword()).access(load, WATCHED);
        assert_eq!(sequences(&watched(code)), [vec![(0x31, code)]]);
        assert_eq!(sequences(&watched(code + 4)), [vec![(0x35, code), (0x31, code + 4)]]);
    }

    /// SPSR_EL1.SS and ESR_EL1's ISV and EX of each exception.
    fn step_bits(scenario: &Scenario) -> Vec<(bool, bool, bool)> {
        let bits = |event: &Expected| match *event {
            Expected::Exception { esr, spsr, .. } => {
                (spsr & pstate::SS != 0, esr & ESR_ISV != 0, esr & ESR_EX != 0)
            }
            other => panic!("{other}"),
        };
        outcome(scenario).expect("modelled").events.iter().map(bits).collect()
    }

    const STEP: Mdscr = ON.with_ss(true);

    #[test]
    fn with_spsr_ss_clear_the_step_is_pending_at_once() {
        let pending = start(STEP).entered(PENDING).exec(1);
        assert_eq!(sequences(&pending), [vec![(0x33, MARKER)]]);
        assert_eq!(step_bits(&pending), [(false, false, false)], "nothing was stepped");
        let and_on = start(STEP).entered(Entry::Return { ss: false, steps: 3 }).exec(1);
        assert_eq!(sequences(&and_on), [vec![(0x33, MARKER), (0x33, RET), (0x33, layout::RETURN)]]);
        assert_eq!(step_bits(&and_on)[1..], [(false, true, false); 2]);
    }

    #[test]
    fn a_pending_step_comes_before_a_breakpoint_and_a_breakpoint_before_the_step() {
        let beside = |entry| start(STEP).breakpoint(0, 1, ADDRESS).entered(entry).exec(1);
        let order = [(0x33, MARKER), (0x31, MARKER)];
        assert_eq!(sequences(&beside(PENDING)), [order.to_vec()]);
        let stepped = beside(Entry::stepped(1));
        assert_eq!(sequences(&stepped), [vec![(0x31, MARKER), (0x33, layout::RETURN)]]);
        assert_eq!(step_bits(&stepped), [(true, false, false), (false, true, false)]);
    }

    #[test]
    fn an_exception_of_the_stepped_instruction_keeps_spsr_ss() {
        let brk = start(STEP).entered(Entry::stepped(1)).brk();
        assert_eq!(sequences(&brk), [vec![(0x3c, layout::BRK), (0x33, layout::RETURN)]]);
        assert!(step_bits(&brk)[0].0);
        let load = Access::named("ldr x1");
        let watched = start(STEP).watchpoint(0, WATCHED, Dbgwcr::doubleword()).entered(Entry::stepped(1));
        let watched = watched.access(load, WATCHED);
        assert_eq!(sequences(&watched), [vec![(0x35, layout::access_code(load)), (0x33, layout::RETURN)]]);
        assert!(step_bits(&watched)[0].0);
    }

    #[test]
    fn ex_is_set_for_a_load_exclusive_and_for_nothing_else() {
        for access in &access::TABLE {
            let stepped = start(STEP).entered(Entry::stepped(2)).access(access, WATCHED);
            assert_eq!(
                step_bits(&stepped),
                [(false, true, access.load_exclusive), (false, true, false)],
                "{access}"
            );
        }
    }

    #[test]
    fn stepping_ends_with_the_last_step_that_is_wanted() {
        let after = start(STEP).entered(Entry::stepped(1)).exec(1);
        assert_eq!(sequences(&after.clone().exec(1)), [vec![]]);
        let mask = outcome(&after.read(MDSCR_EL1)).expect("modelled").events;
        assert!(matches!(mask[..], [Expected::Value { value, .. }] if value & 1 == 0));
        let left = start(STEP).entered(Entry::stepped(9)).exec(1).read(MDSCR_EL1);
        let left = outcome(&left).expect("modelled").events;
        assert!(
            matches!(left[..], [Expected::Value { value, .. }] if value & 1 == 1),
            "seven are still wanted"
        );
    }

    /// Whether a watchpoint with this address and control must (2), may (1) or must not (0) hit each byte from the
    /// doubleword before the watched one on.
    fn bytes(address: u64, control: Dbgwcr) -> [u8; 24] {
        let byte = Access::named("ldrb w1");
        core::array::from_fn(|k| {
            let scenario = start(ON).watchpoint(0, address, control).access(byte, WATCHED - 8 + k as u64);
            let sequences = sequences(&scenario);
            match (sequences.len(), sequences[0].is_empty()) {
                (1, true) => 0,
                (1, false) => 2,
                _ => 1,
            }
        })
    }

    fn doubleword(of: [u8; 8]) -> [u8; 24] {
        core::array::from_fn(|k| if (8..16).contains(&k) { of[k - 8] } else { 0 })
    }

    #[test]
    fn a_byte_select_of_one_run_watches_its_bytes_and_another_may_watch_any_of_the_doubleword() {
        let with = |bas| bytes(WATCHED, Dbgwcr::doubleword().with_bas(bas));
        assert_eq!(with(0b0011_1000), doubleword([0, 0, 0, 2, 2, 2, 0, 0]));
        assert_eq!(with(0), doubleword([0; 8]));
        assert_eq!(with(0b1000_0001), doubleword([1; 8]));
        assert_eq!(with(0b0101_0000), doubleword([1; 8]));
    }

    #[test]
    fn the_upper_word_takes_its_bytes_from_the_low_half_of_bas() {
        let with = |bas| bytes(WATCHED + 4, Dbgwcr::doubleword().with_bas(bas));
        assert_eq!(with(0b0110), doubleword([0, 0, 0, 0, 0, 2, 2, 0]));
        assert_eq!(with(0b1111), doubleword([0, 0, 0, 0, 2, 2, 2, 2]));
        assert_eq!(with(0b1_1110), doubleword([0, 0, 0, 0, 0, 2, 2, 2]), "BAS[7:4] select nothing");
        assert_eq!(with(0b1111_1111), doubleword([0, 0, 0, 0, 2, 2, 2, 2]));
        assert_eq!(with(0b1000_0000), doubleword([0; 8]));
        assert_eq!(with(0b1001), doubleword([1; 8]));
    }

    #[test]
    fn mask_watches_its_block_and_may_do_so_where_it_is_combined_with_what_it_should_not_be() {
        let with =
            |address, mask, bas| bytes(address, Dbgwcr::doubleword().with_mask(u5::new(mask)).with_bas(bas));
        assert_eq!(with(WATCHED, 3, 0xff), doubleword([2; 8]));
        assert_eq!(with(WATCHED, 3, 0x0f), doubleword([1; 8]));
        assert_eq!(with(WATCHED, 1, 0xff), [1; 24], "any mask");
        assert_eq!(with(WATCHED, 2, 0xff), [1; 24], "any mask");
        let block: [u8; 24] = core::array::from_fn(|k| if k < 8 { 0 } else { 2 });
        assert_eq!(with(WATCHED, 4, 0xff), block);
        assert_eq!(with(WATCHED + 8, 4, 0xff), block.map(|b| b / 2), "a masked bit is set");
        let far = Dbgwcr::doubleword().with_mask(u5::new(1));
        assert_eq!(bytes(WATCHED ^ 1 << 31, far), [0; 24], "no mask reaches so far");
    }

    #[test]
    fn the_reserved_lsc_watches_nothing() {
        assert_eq!(bytes(WATCHED, Dbgwcr::doubleword().with_lsc(u2::new(0))), [0; 24]);
    }

    #[test]
    fn a_store_that_the_monitor_may_forbid_may_be_reported_and_a_compare_and_swap_is() {
        let watched = |lsc, name| {
            let access = Access::named(name);
            let scenario = start(ON).watchpoint(0, WATCHED, Dbgwcr::doubleword().with_lsc(lsc));
            sequences(&scenario.access(access, WATCHED)).len()
        };
        assert_eq!(watched(LSC_STORE, "cas x1, x2"), 1);
        assert_eq!(watched(LSC_LOAD, "cas x1, x2"), 1);
        assert_eq!(watched(LSC_STORE, "stxr w1, x2"), 2);
        assert_eq!(watched(LSC_STORE, "str x1"), 1);
    }

    #[test]
    fn dc_zva_stores_to_the_whole_block_around_its_address() {
        let zva = Access::named("dc zva");
        let far = |address, block| {
            let scenario = start(ON).watchpoint(0, WATCHED + 0x38, Dbgwcr::doubleword()).access(zva, address);
            let mut pe = Pe::new(SHAPE).with_zva_block(block);
            let last = scenario.ops().iter().map(|op| pe.step(*op)).last().expect("an op").expect("modelled");
            match last.events[..] {
                [Expected::Exception { esr, far, .. }] => Some((esr & WNR != 0, far)),
                _ => None,
            }
        };
        assert_eq!(far(WATCHED + 5, 64), Some((true, (WATCHED, WATCHED + 0x3f))));
        assert_eq!(far(WATCHED + 0x40, 64), None);
        assert_eq!(far(WATCHED + 0x41, 128), None);
        assert_eq!(far(WATCHED - 0x40, 64), None);
        assert_eq!(
            far(WATCHED - 0x40, 256),
            Some((true, (WATCHED - 0x40, WATCHED + 0xbf))),
            "the whole block"
        );
        assert_eq!(far(WATCHED - 0x40, 128), Some((true, (WATCHED - 0x40, WATCHED + 0x3f))));
    }

    #[test]
    fn where_the_pe_may_see_old_or_new_watchpoints_their_reports_are_merged() {
        let store = Access::named("str x1");
        let moved = start(ON).watchpoint(0, WATCHED, Dbgwcr::doubleword().with_bas(1)).isb();
        let moved = moved.write(dbgwcr(0), Dbgwcr::doubleword().with_bas(0x80).raw_value());
        let both = outcome(&moved.then(Op::Access { access: store, address: WATCHED })).expect("modelled");
        let [Expected::Exception { far, .. }] = both.events[..] else { panic!("{both:?}") };
        assert_eq!((far, both.or.len()), ((WATCHED, WATCHED + 7), 0), "one of them hits for certain");
    }

    #[test]
    fn a_watchpoint_that_the_pe_may_see_old_or_new_may_hit() {
        let load = Access::named("ldr x1");
        let then =
            |scenario: Scenario| sequences(&scenario.then(Op::Access { access: load, address: WATCHED }));
        let on = || start(ON).watchpoint(0, WATCHED, Dbgwcr::doubleword()).isb();
        let hit = vec![(0x35, layout::access_code(load))];
        let off = on().write(dbgwcr(0), 0);
        assert_eq!(then(off.clone()), [hit.clone(), vec![]], "old or new");
        assert_eq!(
            rule_of(&off.clone().then(Op::Access { access: load, address: WATCHED })),
            &rule::CONTEXT_SYNCHRONIZATION
        );
        assert_eq!(then(off.clone().isb()), [vec![]]);
        let enabled = start(ON).isb().watchpoint(0, WATCHED, Dbgwcr::doubleword());
        assert_eq!(then(enabled.clone()), [hit, vec![]], "new or old");
        for (scenario, name, wnr) in
            [(&off, "ldr x1", 0), (&enabled, "ldr x1", 0), (&off, "str x1", WNR), (&enabled, "str x1", WNR)]
        {
            let access = Access::named(name);
            let either = scenario.clone().then(Op::Access { access, address: WATCHED });
            let events = outcome(&either).expect("modelled").events;
            let [Expected::Exception { esr, esr_mask, .. }] = events[..] else { panic!("{events:?}") };
            assert_eq!((esr & WNR, esr_mask & WNR), (wnr, WNR), "if it hits, {name} is what did");
        }
        let neither =
            on().write(dbgwcr(0), 0).isb().write(dbgwcr(0), Dbgwcr::doubleword().with_e(false).raw_value());
        assert_eq!(then(neither), [vec![]]);
    }

    #[test]
    fn where_old_and_new_report_different_directions_either_may_be() {
        let swap = Access::named("swp x1, x2");
        let stores = Dbgwcr::doubleword().with_lsc(LSC_STORE);
        let changed = start(ON).watchpoint(0, WATCHED, stores).isb();
        let changed = changed.write(dbgwcr(0), stores.with_lsc(LSC_LOAD).raw_value());
        let outcome =
            outcome(&changed.then(Op::Access { access: swap, address: WATCHED })).expect("modelled");
        let [Expected::Exception { esr_mask, .. }] = outcome.events[..] else { panic!("{outcome:?}") };
        assert_eq!((esr_mask & WNR, outcome.or.len()), (0, 0));
    }

    #[test]
    fn after_the_last_step_an_exception_finds_ss_clear() {
        let brk = start(STEP).entered(PENDING).brk();
        assert_eq!(sequences(&brk), [vec![(0x33, layout::BRK), (0x3c, layout::BRK)]]);
        assert!(!step_bits(&brk)[1].0);
    }

    /// Exception class, ELR and SPSR of each exception, and what X0 is at the end.
    type Way = (Vec<(u8, u64, u64)>, u64);

    /// What a piece may cause, with ELRs from its start on.
    fn piece(scenario: Scenario, name: &str, x0: u64) -> Vec<Way> {
        let piece = Sequence::named(name);
        let code = layout::sequence_code(piece);
        let outcome = outcome(&scenario.run(piece, x0)).expect("modelled");
        let ways = outcome.alternatives().map(|events| {
            let exceptions = events.iter().filter_map(|event| match *event {
                Expected::Exception { esr, elr, spsr, .. } => {
                    let ec = Exception { vector: 0, esr, elr, spsr, far: 0 }.ec();
                    Some((ec, elr.wrapping_sub(code), spsr))
                }
                _ => None,
            });
            let x0 = match events.last() {
                Some(Expected::Value { value, mask: u64::MAX }) => *value,
                other => panic!("{other:?}"),
            };
            (exceptions.collect(), x0)
        });
        ways.collect()
    }

    fn isv(scenario: &Scenario) -> Vec<(bool, bool)> {
        let bits = |event: &Expected| match *event {
            Expected::Exception { esr, esr_mask, .. } => Some((esr & ESR_ISV != 0, esr_mask & ESR_ISV != 0)),
            _ => None,
        };
        outcome(scenario).expect("modelled").events.iter().filter_map(bits).collect()
    }

    const AT_EL1: u64 = 0x1c5;

    #[test]
    fn a_call_is_stepped_by_the_hypervisor() {
        let stepped = || start(STEP).entered(Entry::stepped(1));
        for name in ["hvc #0", "smc #0"] {
            assert_eq!(piece(stepped(), name, 7), [(vec![(0x33, 4, AT_EL1)], u64::MAX)], "{name}");
            let el0 = piece(stepped().at(El::El0), name, 7);
            let undefined = (0, 0, 0x2001c0);
            assert_eq!(el0[0].0[0], undefined, "{name}");
            assert_eq!((el0.len(), el0[0].1), (1, 7), "{name}");
            let place = Sequence::named(name);
            assert_eq!(isv(&stepped().run(place, 7)), [(false, true)], "{name}: nothing was stepped");
        }
        let mut old = Pe::new(Shape { debug_ver: 8, ..SHAPE });
        let smc = stepped().run(Sequence::named("smc #0"), 7);
        let last = smc.ops().iter().map(|op| old.step(*op)).last().expect("an operation").expect("modelled");
        assert_eq!(last.alternatives().count(), 2, "UNDEFINED, if it has no EL3");
    }

    #[test]
    fn an_undefined_access_is_skipped_and_what_follows_is_stepped() {
        let read = |scenario: Scenario| piece(scenario, "mrs x1, pmcr_el0", 7);
        let end = layout::RETURN - layout::sequence_code(Sequence::named("mrs x1, pmcr_el0"));
        let stepped = read(start(STEP).entered(Entry::stepped(1)));
        assert_eq!(stepped, [(vec![(0, 0, AT_EL1 | pstate::SS), (0x33, end, AT_EL1)], 7)]);
        assert_eq!(read(start(ON).entered(BY_RETURN)), [(vec![(0, 0, AT_EL1)], 7)]);
        let el0 = start(ON).at(El::El0).run(Sequence::named("mrs x1, pmcr_el0"), 7);
        assert!(outcome(&el0).is_err(), "PMUSERENR_EL0");
    }

    #[test]
    fn tdcc_traps_what_el0_reads_whatever_the_os_lock() {
        let read = |tdcc, el| {
            let set = start(ON.with_tdcc(tdcc)).write(OSLAR_EL1, 1).isb().at(el).entered(BY_RETURN);
            piece(set, "mrs x1, mdccsr_el0", 7)
        };
        for silent in [read(false, El::El0), read(false, El::El1), read(true, El::El1)] {
            assert_eq!(silent, [(vec![], 7)]);
        }
        assert_eq!(read(true, El::El0), [(vec![(0x18, 0, 0x1c0)], 7)]);
        let unsettled = start(ON).isb().enable(ON.with_tdcc(true)).entered(BY_RETURN).at(El::El0);
        assert_eq!(piece(unsettled, "mrs x1, mdccsr_el0", 7).len(), 1, "the exception return synchronises");
    }

    #[test]
    fn of_an_isb_the_pe_may_say_nothing_and_a_wait_may_be_trapped() {
        let step = |name| isv(&start(STEP).entered(Entry::stepped(1)).run(Sequence::named(name), 0));
        assert_eq!(step("isb"), [(false, false)]);
        assert_eq!(step("wfi"), [(false, false)]);
        let el0 = start(STEP).at(El::El0).entered(Entry::stepped(1));
        let ways = piece(el0, "wfi", 0);
        assert_eq!(ways[0].0, [(0x32, 4, 0x1c0)]);
        assert_eq!(ways[1].0[0], (1, 0, 0x2001c0));
    }

    #[test]
    fn setting_pstate_d_ends_stepping_and_clearing_it_leaves_a_step_pending() {
        let enter = |masked, entry| start(STEP).then(Op::MaskDebug(masked)).entered(entry);
        let both = "msr daifset, #8; msr daifclr, #8";
        assert_eq!(piece(enter(false, Entry::stepped(9)), "msr daifset, #8", 0), [(vec![], 0)]);
        assert_eq!(piece(enter(false, Entry::stepped(1)), both, 0), [(vec![(0x33, 8, AT_EL1)], 0)]);
        let clear = enter(true, Entry::stepped(1));
        assert_eq!(piece(clear.clone(), "msr daifclr, #8", 0), [(vec![(0x33, 4, AT_EL1)], 0)]);
        let place = Sequence::named("msr daifclr, #8");
        assert_eq!(isv(&clear.run(place, 0)), [(false, true)], "nothing was stepped");
        let trapped = piece(enter(false, Entry::stepped(1)).at(El::El0), "msr daifclr, #8", 0);
        assert_eq!(trapped[0].0[0], (0x18, 0, 0x2001c0));
    }

    #[test]
    fn an_exception_return_copies_ss_from_where_steps_are_masked_alone() {
        const PIECE: &str = "msr spsr_el1, x0; eret";
        let masked = || start(STEP).then(Op::MaskDebug(true)).entered(Entry::stepped(1));
        assert_eq!(piece(masked(), PIECE, 0x1c5), [(vec![(0x33, 16, AT_EL1)], 0x1c5)]);
        let end = layout::RETURN - layout::sequence_code(Sequence::named(PIECE));
        assert_eq!(piece(masked(), PIECE, 0x2001c5), [(vec![(0x33, end, AT_EL1)], 0x2001c5)]);
        assert_eq!(piece(masked(), PIECE, 0x2001c0), [(vec![(0x32, end, 0x1c0)], 0x2001c0)]);
        assert_eq!(piece(masked(), PIECE, 0x2003c5), [(vec![], 0x2003c5)]);
        let illegal = piece(masked(), PIECE, 0x1c9);
        let il = AT_EL1 | pstate::IL;
        assert_eq!(illegal, [(vec![(0x33, 16, il), (0xe, 16, il), (0xe, end, il)], 0x1c9)]);
        let illegal = piece(masked(), PIECE, 0x2001c9);
        let ss = il | pstate::SS;
        assert_eq!(illegal, [(vec![(0xe, 16, ss), (0xe, end, ss)], 0x2001c9)]);
        let to_itself = piece(start(STEP).entered(Entry::stepped(1)), "eret", 0);
        assert_eq!(to_itself, [(vec![(0x33, 0, AT_EL1)], 0)]);
        let place = Sequence::named(PIECE);
        for x0 in [0x1c1, 0x1d0, 0x145, 0x4001c5] {
            assert!(outcome(&masked().run(place, x0)).is_err(), "{x0:#x}");
        }
        assert!(outcome(&start(STEP).run(place, 0x1c5)).is_err(), "a call does not end with an SVC");
        let alone = Sequence::named("eret");
        assert!(outcome(&start(ON).entered(BY_RETURN).run(alone, 0)).is_err(), "nobody ends it");
        let broken = start(ON).breakpoint_at(0, layout::sequence_code(place) + 4, ADDRESS).entered(BY_RETURN);
        assert!(outcome(&broken.run(place, 0x1c5)).is_err(), "its target is not known");
    }

    #[test]
    fn a_store_exclusive_that_is_done_is_reported_and_one_that_fails_may_be() {
        let watched = |lsc, name| {
            let set = start(ON).watchpoint(0, WATCHED, Dbgwcr::doubleword().with_lsc(lsc)).entered(BY_RETURN);
            piece(set, name, WATCHED)
        };
        let hit = |at| (0x35, at, AT_EL1);
        assert_eq!(watched(LSC_STORE, "ldxr; stxr, until it is done"), [(vec![hit(8)], 0)]);
        let once = watched(LSC_STORE, "ldxr; nop; stxr");
        assert_eq!(once, [(vec![hit(12)], 0), (vec![], 1)], "it is not done unseen");
        assert_eq!(watched(LSC_STORE, "ldxr; clrex; stxr"), once);
        let lost = watched(LSC_LOAD, "ldxr; nop; stxr");
        assert_eq!(lost, [(vec![hit(4)], 1)], "the return from the exception loses the monitor");
        let unwatched = piece(start(ON).entered(BY_RETURN), "ldxr; nop; stxr", WATCHED);
        assert_eq!(unwatched, [(vec![], 0), (vec![], 1)]);
        let place = Sequence::named("ldxr; stxr, until it is done");
        let forever = start(ON).watchpoint(0, WATCHED, Dbgwcr::doubleword()).entered(BY_RETURN);
        assert!(outcome(&forever.run(place, WATCHED)).is_err(), "it never comes to an end");
    }

    #[test]
    fn dc_ivac_may_be_a_store_to_the_line_around_its_address() {
        let ivac = Access::named("dc ivac");
        let ways = |lsc, address| {
            let set = start(ON).watchpoint(0, WATCHED, Dbgwcr::doubleword().with_lsc(lsc));
            outcome(&set.access(ivac, address)).expect("modelled").alternatives().count()
        };
        assert_eq!([ways(LSC_STORE, WATCHED), ways(LSC_LOAD, WATCHED)], [2, 1]);
        assert_eq!(
            [ways(LSC_STORE, layout::TARGET + 0x7ff), ways(LSC_STORE, layout::TARGET + 0x800)],
            [2, 1]
        );
        assert!(outcome(&start(ON).at(El::El0).access(ivac, WATCHED)).is_err(), "it is UNDEFINED there");
    }

    #[test]
    fn with_uao_an_unprivileged_access_is_one_of_el1() {
        let watched = |pac: u8, el| {
            let control = Dbgwcr::doubleword().with_pac(u2::new(pac));
            let set = start(ON).watchpoint(0, WATCHED, control).at(el).entered(BY_RETURN);
            piece(set, "msr uao, #1; ldtr x1", WATCHED)[0].0.iter().any(|(ec, ..)| matches!(ec, 0x34 | 0x35))
        };
        assert_eq!([watched(1, El::El1), watched(2, El::El1)], [true, false]);
        assert_eq!([watched(1, El::El0), watched(2, El::El0)], [false, true]);
    }

    #[test]
    fn a_tag_is_reported_and_not_compared_and_a_fault_comes_before_the_watchpoint() {
        const TAG: u64 = 0x5a << 56;
        let store = Access::named("str x1");
        let event = |address, watched| {
            let set = start(STEP).watchpoint(0, watched, Dbgwcr::doubleword()).entered(Entry::stepped(1));
            let events = outcome(&set.access(store, address)).expect("modelled").events;
            match events[0] {
                Expected::Exception { esr, far, spsr, .. } => (esr >> 26, far, spsr & pstate::SS != 0),
                other => panic!("{other}"),
            }
        };
        let bytes = (WATCHED | TAG, (WATCHED + 7) | TAG);
        assert_eq!(event(WATCHED | TAG, WATCHED), (0x35, bytes, true));
        let bytes = (layout::UNMAPPED, layout::UNMAPPED + 7);
        assert_eq!(event(layout::UNMAPPED, layout::UNMAPPED), (0x25, bytes, true));
    }

    proptest! {
        /// Whatever the registers hold, code with debug exceptions off takes none.
        #[test]
        fn what_is_masked_takes_no_debug_exception(n in 0_u8..6, value: u64, control: u64, which in 0_u8..3) {
            let set = start(ON).write(dbgbvr(n), value).write(dbgbcr(n), control).entered(BY_RETURN);
            let masked = match which {
                0 => set.enable(ON.with_mde(false)),
                1 => set.enable(ON.with_kde(false)),
                _ => set.write(OSLAR_EL1, 1),
            };
            prop_assert_eq!(sequences(&masked.exec(1)), [vec![]]);
        }

        /// Fewer breakpoints never add an event.
        #[test]
        fn a_lower_count_adds_no_event(n in 0_u8..6, fewer in 2_u8..6, pmc in 1_u8..4) {
            let scenario = start(ON).breakpoint(n, 1, ADDRESS.with_pmc(u2::new(pmc))).exec(1);
            let events = |breakpoints| {
                let mut pe = Pe::new(Shape { breakpoints, ..SHAPE });
                let last = scenario.ops().iter().map(|op| pe.step(*op)).last().expect("an operation");
                last.expect("modelled").events.len()
            };
            prop_assert!(events(fewer) <= events(6));
            prop_assert_eq!(events(fewer) == events(6), n < fewer || pmc & 1 == 0);
        }

        /// A link is from one to another: the partner's own match does not follow from it.
        #[test]
        fn linking_is_not_symmetric(n in 0_u8..4, partner in 4_u8..6) {
            let linked = start(ON)
                .breakpoint(n, 1, Dbgbcr::address_linked_to(u4::new(partner)))
                .write(dbgbvr(partner), 3)
                .write(dbgbcr(partner), Dbgbcr::linked_context().raw_value())
                .write(CONTEXTIDR_EL1, 3);
            prop_assert_eq!(sequences(&linked.clone().exec(1)), [vec![(0x31, MARKER)]]);
            prop_assert_eq!(sequences(&linked.clone().write(dbgbcr(n), 0).exec(1)), [vec![]]);
            prop_assert_eq!(sequences(&linked.exec(2)), [vec![]]);
        }
    }
}
