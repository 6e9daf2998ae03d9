// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Whether a breakpoint matches an instruction and a watchpoint an access, with the debug registers as the PE sees
//! them.
//!
//! Where the architecture leaves a choice (CONSTRAINED UNPREDICTABLE, IMPLEMENTATION DEFINED) the answer is
//! [`Match::May`]. Security states, EL2 and EL3 are not a guest's to know: an encoding whose meaning depends on them
//! has that answer too.

use crate::{
    access::{Access, Kind},
    control::{
        BAS_A64, BT_ADDRESS, BT_ADDRESS_LINKED, BT_CONTEXT, BT_CONTEXT_LINKED, BT_CONTEXTIDR_EL1,
        BT_CONTEXTIDR_EL1_LINKED, Dbgbcr, Dbgwcr, LSC_LOAD, LSC_STORE, PMC_EL0, PMC_EL1,
    },
    registers::Registers,
    rule::{self, Rule},
    scenario::El,
    shape::Shape,
};
use arbitrary_int::u2;
use core::ops::Range;

/// Whether something matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// It does not.
    No,
    /// The architecture lets it match or not.
    May,
    /// It does.
    Yes,
}

/// Whether something matches, and the rule that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it matches.
    pub matches: Match,
    /// The rule.
    pub rule: &'static Rule,
}

impl Verdict {
    /// It is not certain which values the PE sees.
    pub(crate) const UNSETTLED: Self = Self::may(&rule::CONTEXT_SYNCHRONIZATION);

    pub(crate) const fn no(rule: &'static Rule) -> Self {
        Self { matches: Match::No, rule }
    }

    const fn may(rule: &'static Rule) -> Self {
        Self { matches: Match::May, rule }
    }

    const fn yes(rule: &'static Rule) -> Self {
        Self { matches: Match::Yes, rule }
    }

    const fn yes_if(holds: bool, rule: &'static Rule) -> Self {
        if holds { Self::yes(rule) } else { Self::no(rule) }
    }

    /// Both must match; where both do alike, the other's rule decides.
    fn and(self, other: Self) -> Self {
        if self.matches < other.matches { self } else { other }
    }

    /// Either may match; where both do alike, the other's rule decides.
    fn or(self, other: Self) -> Self {
        if other.matches >= self.matches { other } else { self }
    }
}

/// An access that watchpoints match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Whether it does, and the rule.
    pub verdict: Verdict,
    /// ESR_EL1.WnR, where it is certain.
    pub wnr: Option<bool>,
    /// The lowest and the highest address that FAR_EL1 may hold.
    pub far: (u64, u64),
}

impl Hit {
    /// Either, as it is not certain which values the PE sees.
    pub(crate) fn or_unsettled(self, other: Self) -> Self {
        let (one, two) = (self.verdict.matches, other.verdict.matches);
        match (one, two) {
            (Match::No, Match::No) => other,
            (Match::No, _) => Self { verdict: Verdict::UNSETTLED, ..other },
            (_, Match::No) => Self { verdict: Verdict::UNSETTLED, ..self },
            _ => Self {
                verdict: if one == two { self.verdict } else { Verdict::UNSETTLED },
                wnr: self.wnr.filter(|_| self.wnr == other.wnr),
                far: (self.far.0.min(other.far.0), self.far.1.max(other.far.1)),
            },
        }
    }
}

/// What a breakpoint of this type and number compares.
enum Type {
    /// The address of the instruction.
    Address { linked: bool },
    /// CONTEXTIDR_EL1; a linked one does so for others and matches nothing by itself.
    Context { linked: bool },
    /// It depends on what a guest cannot know, or the encoding is reserved for this breakpoint.
    Unpredictable,
}

/// BT's values that are linked or linked to, of those that are no address match.
fn breakpoint_type(shape: &Shape, n: u8, control: Dbgbcr) -> Type {
    /// ID_AA64DFR0_EL1.DebugVer of Armv8.1 with FEAT_VHE, which brings the CONTEXTIDR_EL1 types.
    const DEBUG_VER_VHE: u8 = 7;
    let with_vhe = shape.debug_ver >= DEBUG_VER_VHE;
    match control.bt() {
        BT_ADDRESS => Type::Address { linked: false },
        BT_ADDRESS_LINKED => Type::Address { linked: true },
        _ if !shape.is_context_aware(n) => Type::Unpredictable,
        BT_CONTEXT => Type::Context { linked: false },
        BT_CONTEXT_LINKED => Type::Context { linked: true },
        BT_CONTEXTIDR_EL1 if with_vhe => Type::Context { linked: false },
        BT_CONTEXTIDR_EL1_LINKED if with_vhe => Type::Context { linked: true },
        _ => Type::Unpredictable,
    }
}

/// The address bits that every implementation compares; what is above them may be treated as copies of the top one
/// (RESS) or compared.
const COMPARED_BY_ALL: u64 = (1 << 48) - 1;

/// Two addresses that differ at most in `ignored`.
const fn same_address(one: u64, other: u64, ignored: u64, rule: &'static Rule) -> Verdict {
    let different = (one ^ other) & !ignored;
    if different == 0 {
        Verdict::yes(rule)
    } else if different & COMPARED_BY_ALL == 0 {
        Verdict::may(&rule::RESS)
    } else {
        Verdict::no(rule)
    }
}

/// `AArch64.StateMatch` without its link, for an instruction or access with the privilege of `el`.
///
/// With HMC and SSC zero, PMC or PAC selects EL1 and EL0. Which other encodings are reserved depends on EL2, EL3 and
/// Security states.
fn state_match(hmc: bool, ssc: u2, privilege: u2, el: El, rule: &'static Rule) -> Verdict {
    if hmc || ssc.value() != 0 || privilege.value() == 0 {
        return Verdict::may(&rule::STATE_UNPREDICTABLE);
    }
    let selects = match el {
        El::El0 => PMC_EL0,
        El::El1 => PMC_EL1,
    };
    Verdict::yes_if(privilege.value() & selects.value() != 0, rule)
}

/// The bytes that a watchpoint watches.
struct Watched {
    /// An address in the naturally aligned block that they are a part of.
    block: u64,
    /// The block's size less one: the address bits that do not tell one of its bytes from another.
    inside: u64,
    /// Which bytes of a block of at most eight, bit n for byte n; none for all.
    select: Option<u8>,
    /// How certain a match of these is.
    at_best: Verdict,
}

impl Watched {
    /// `AArch64.WatchpointByteMatch`: DBGWVR, BAS and MASK.
    fn new(value: u64, control: Dbgwcr) -> Self {
        const DOUBLEWORD: u64 = 7;
        const WORD: u64 = 3;
        const LARGEST: u64 = (1 << 31) - 1;
        let (bas, mask) = (control.bas(), control.mask().value());
        let certain = Verdict::yes(&rule::WATCHPOINT_ADDRESS);
        let block = value & !0b11;
        if matches!(mask, 1 | 2) {
            // Reserved: no match, no masking, or any masking.
            let at_best = Verdict::may(&rule::WATCHPOINT_MASK_UNPREDICTABLE);
            return Self { block, inside: LARGEST, select: None, at_best };
        }
        if mask != 0 {
            let inside = (1 << mask) - 1;
            let at_best = if bas == 0xff && block & inside == 0 {
                certain
            } else {
                Verdict::may(&rule::WATCHPOINT_MASK_UNPREDICTABLE)
            };
            return Self { block, inside, select: None, at_best };
        }
        // The upper half of a doubleword may be named as a word, whose bytes are BAS[3:0].
        let word = block & 0b100 != 0;
        if !is_one_run(bas) || word && bas > 0xf {
            let at_best = Verdict::may(&rule::WATCHPOINT_BAS_UNPREDICTABLE);
            return Self { block, inside: DOUBLEWORD, select: None, at_best };
        }
        Self { block, inside: if word { WORD } else { DOUBLEWORD }, select: Some(bas), at_best: certain }
    }

    /// Whether some byte of `accessed` is watched, and the highest that may be.
    fn of(&self, accessed: &Range<u64>) -> (Verdict, u64) {
        let mut verdict = Verdict::no(&rule::WATCHPOINT_ADDRESS);
        let mut highest = accessed.start;
        for byte in accessed.clone() {
            let selected = self.select.is_none_or(|select| select >> (byte & self.inside) & 1 == 1);
            let same = same_address(byte, self.block, self.inside, self.at_best.rule);
            if selected && same.matches > Match::No {
                highest = byte;
                verdict = verdict.or(same.and(self.at_best));
            }
        }
        (verdict, highest)
    }
}

/// The set bits of `bas` are one run, or there are none.
const fn is_one_run(bas: u8) -> bool {
    let lowest = bas & bas.wrapping_neg();
    let above = bas.wrapping_add(lowest);
    above & above.wrapping_sub(1) == 0
}

/// A PE as debug events see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub shape: &'a Shape,
    pub registers: &'a Registers,
    pub el: El,
    /// PSTATE.D.
    pub masked: bool,
}

impl View<'_> {
    /// Some breakpoint generates a Breakpoint exception at the instruction at this address.
    pub fn breakpoint(&self, instruction: u64) -> Verdict {
        let matched = self.breakpoint_matches(instruction);
        if matched.matches == Match::No { matched } else { matched.and(self.enabled(matched.rule)) }
    }

    /// Some breakpoint matches at this address, were debug exceptions enabled. Of those that are enabled and do alike,
    /// the last one says why.
    pub fn breakpoint_matches(&self, instruction: u64) -> Verdict {
        self.shape
            .breakpoint_numbers()
            .filter(|n| self.registers.dbgbcr(*n).e())
            .map(|n| self.breakpoint_match(n, instruction))
            .fold(Verdict::no(&rule::BREAKPOINT_ENABLED), Verdict::or)
    }

    /// Some breakpoint may match at instructions that its address does not name.
    pub fn may_match_anywhere(&self) -> bool {
        self.shape.breakpoint_numbers().any(|n| {
            let control = self.registers.dbgbcr(n);
            let by_address = matches!(breakpoint_type(self.shape, n, control), Type::Address { .. });
            control.e() && !by_address && self.breakpoint_match(n, 0).matches > Match::No
        })
    }

    /// `AArch64.BreakpointMatch` and `AArch64.BreakpointValueMatch` of a breakpoint that is enabled.
    fn breakpoint_match(&self, n: u8, instruction: u64) -> Verdict {
        let control = self.registers.dbgbcr(n);
        let state =
            state_match(control.hmc(), control.ssc(), control.pmc(), self.el, &rule::BREAKPOINT_PRIVILEGE);
        let value = match breakpoint_type(self.shape, n, control) {
            Type::Address { linked } => {
                let address = same_address(
                    self.registers.dbgbvr(n) & !0b11,
                    instruction,
                    0,
                    if linked { &rule::LINKED_CONTEXT } else { &rule::BREAKPOINT_MATCHES },
                );
                if address.matches == Match::No {
                    // Whatever BAS and the link are.
                    return state.and(Verdict::no(&rule::BREAKPOINT_ADDRESS));
                }
                let bas = if control.bas() == BAS_A64 {
                    address
                } else {
                    address.and(Verdict::may(&rule::BREAKPOINT_BAS))
                };
                if linked { bas.and(self.link(control.lbn().value())) } else { bas }
            }
            Type::Context { linked: true } => return Verdict::no(&rule::LINKED_CONTEXT),
            Type::Context { linked: false } => {
                Verdict::yes_if(self.in_context_of(n), &rule::BREAKPOINT_CONTEXT)
            }
            Type::Unpredictable => Verdict::may(&rule::BREAKPOINT_TYPE_UNPREDICTABLE),
        };
        state.and(value)
    }

    /// The breakpoint that a link names matches the current context.
    fn link(&self, lbn: u8) -> Verdict {
        if !self.shape.is_context_aware(lbn) {
            return Verdict::may(&rule::LINK_UNPREDICTABLE);
        }
        let control = self.registers.dbgbcr(lbn);
        match breakpoint_type(self.shape, lbn, control) {
            _ if !control.e() => Verdict::no(&rule::LINKED_CONTEXT),
            Type::Context { linked: true } => Verdict::yes_if(self.in_context_of(lbn), &rule::LINKED_CONTEXT),
            Type::Context { linked: false } | Type::Address { .. } => Verdict::no(&rule::LINKED_CONTEXT),
            Type::Unpredictable => Verdict::may(&rule::LINK_UNPREDICTABLE),
        }
    }

    /// CONTEXTIDR_EL1 is the Context ID in DBGBVR<n>_EL1.
    fn in_context_of(&self, n: u8) -> bool {
        self.registers.dbgbvr(n) as u32 == self.registers.contextidr() as u32
    }

    /// Which watchpoints, if any, generate a Watchpoint exception when the bytes `accessed` are.
    pub fn watchpoint(&self, access: &Access, accessed: &Range<u64>) -> Hit {
        let hit = self.watchpoint_matches(access, accessed);
        if hit.verdict.matches == Match::No {
            return hit;
        }
        Hit { verdict: hit.verdict.and(self.enabled(hit.verdict.rule)), ..hit }
    }

    /// The same, were debug exceptions enabled.
    pub fn watchpoint_matches(&self, access: &Access, accessed: &Range<u64>) -> Hit {
        let silent = Verdict::no(&rule::WATCHPOINT_ENABLED);
        let (mut read, mut write, mut highest) = (silent, silent, accessed.start);
        for n in (0..self.shape.watchpoints).filter(|n| self.registers.dbgwcr(*n).e()) {
            let this = self.watchpoint_match(n, access, accessed);
            (read, write) = (read.or(this.read), write.or(this.write));
            highest = highest.max(this.highest);
        }
        // An access that both reads and writes is reported as a read if its read is watched.
        let wnr = match (read.matches, write.matches) {
            (Match::Yes, _) => Some(false),
            (Match::No, _) => Some(true),
            (Match::May, Match::No) => Some(false),
            (Match::May, _) => None,
        };
        let verdict = match access.reads() {
            true => read.or(write),
            false => write,
        };
        // DC ZVA may report the address that it was given, which is anywhere in its block.
        let highest = if access.kind == Kind::ZeroBlock { accessed.end - 1 } else { highest };
        Hit { verdict, wnr, far: (accessed.start, highest) }
    }

    /// `AArch64.WatchpointMatch` of a watchpoint that is enabled.
    fn watchpoint_match(&self, n: u8, access: &Access, accessed: &Range<u64>) -> OneWatchpoint {
        let control = self.registers.dbgwcr(n);
        let selects = |lsc: u2| control.lsc() & lsc == lsc;
        let by = |selected, does, may_not| match (selected && does, may_not) {
            (false, _) => Verdict::no(&rule::WATCHPOINT_LSC),
            (true, false) => Verdict::yes(&rule::WATCHPOINT_MATCHES),
            (true, true) => Verdict::may(&rule::WATCHPOINT_CONDITIONAL_STORE),
        };
        let read = by(selects(LSC_LOAD), access.reads(), false);
        let write = by(selects(LSC_STORE), access.writes(), access.may_not_write());
        let none = |rule| OneWatchpoint { read: Verdict::no(rule), write: Verdict::no(rule), highest: 0 };
        let el = if access.unprivileged { El::El0 } else { self.el };
        let state = state_match(control.hmc(), control.ssc(), control.pac(), el, &rule::WATCHPOINT_PRIVILEGE);
        if state.matches == Match::No {
            return none(state.rule);
        }
        if read.matches == Match::No && write.matches == Match::No {
            return none(&rule::WATCHPOINT_LSC);
        }
        let (bytes, highest) = Watched::new(self.registers.dbgwvr(n), control).of(accessed);
        if bytes.matches == Match::No {
            return none(bytes.rule);
        }
        let link = match control.wt() {
            true => self.link(control.lbn().value()),
            false => Verdict::yes(&rule::WATCHPOINT_MATCHES),
        };
        if link.matches == Match::No {
            return none(link.rule);
        }
        let conditions = state.and(bytes).and(link);
        OneWatchpoint { read: read.and(conditions), write: write.and(conditions), highest }
    }

    /// Breakpoint and Watchpoint exceptions are enabled, where something matched by `rule`.
    fn enabled(&self, rule: &'static Rule) -> Verdict {
        match self.generate_debug_exceptions() {
            Err(rule) => Verdict::no(rule),
            Ok(()) if !self.registers.mdscr().mde() => Verdict::no(&rule::MDE),
            Ok(()) => Verdict::yes(rule),
        }
    }

    /// `AArch64.GenerateDebugExceptionsFrom` the current Exception level with EL1 as the target: MDCR_EL2.TDE is zero
    /// for a guest that userspace does not debug.
    pub fn generate_debug_exceptions(&self) -> Result<(), &'static Rule> {
        if self.registers.oslk() {
            Err(&rule::OS_LOCK)
        } else if self.double_lock_status() {
            Err(&rule::DOUBLE_LOCK)
        } else if self.el == El::El0 {
            Ok(())
        } else if !self.registers.mdscr().kde() {
            Err(&rule::KDE)
        } else if self.masked {
            Err(&rule::PSTATE_D)
        } else {
            Ok(())
        }
    }

    /// `DoubleLockStatus()`. DBGPRCR_EL1.CORENPDRQ, which can keep the lock from working, is set by an external
    /// debugger's power-up request or by software; a guest has no such debugger and no scenario sets it.
    pub fn double_lock_status(&self) -> bool {
        self.shape.double_lock && self.registers.dlk()
    }

    /// Software step is enabled: MDSCR_EL1.SS, and debug exceptions from here.
    pub fn steps(&self) -> Result<(), &'static Rule> {
        if self.registers.mdscr().ss() { self.generate_debug_exceptions() } else { Err(&rule::STEP_NEEDS_SS) }
    }
}

struct OneWatchpoint {
    read: Verdict,
    write: Verdict,
    /// The highest byte that is accessed and may be watched; 0 if it does not match.
    highest: u64,
}
