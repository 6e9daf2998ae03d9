// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Whether a breakpoint matches an instruction and a watchpoint an access, with the debug registers as the PE sees
//! them.
//!
//! Where the architecture leaves a choice (CONSTRAINED UNPREDICTABLE, IMPLEMENTATION DEFINED) the answer is
//! [`Match::May`]. So it is for an encoding whose meaning depends on EL3 or on Security states, which a guest cannot
//! know.

use crate::{
    access::{Access, Kind},
    control::{BAS_A64, Dbgbcr, Dbgwcr, LSC_LOAD, LSC_STORE, PMC_EL0, PMC_EL1},
    layout::PAGE,
    registers::Registers,
    rule::{self, Rule},
    scenario::El,
    shape::Shape,
};
use arbitrary_int::{u2, u4};
use core::ops::Range;

mod vector;

/// Whether something matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// It does not match.
    No,
    /// The architecture lets it match or not.
    May,
    /// It matches.
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

    pub(crate) const fn may(rule: &'static Rule) -> Self {
        Self { matches: Match::May, rule }
    }

    const fn yes(rule: &'static Rule) -> Self {
        Self { matches: Match::Yes, rule }
    }

    const fn yes_if(holds: bool, rule: &'static Rule) -> Self {
        if holds { Self::yes(rule) } else { Self::no(rule) }
    }

    /// Both must match; if both give the same answer, the other's rule decides.
    fn and(self, other: Self) -> Self {
        if self.matches < other.matches { self } else { other }
    }

    /// Either may match; if both give the same answer, the other's rule decides.
    fn or(self, other: Self) -> Self {
        if other.matches >= self.matches { other } else { self }
    }
}

/// An access that watchpoints match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Whether one matches, and the rule.
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

/// BT without its lowest bit, which says that the breakpoint is linked or has linking enabled.
mod comparison {
    pub const ADDRESS: u8 = 0b000;
    pub const CONTEXT: u8 = 0b001;
    pub const ADDRESS_MISMATCH: u8 = 0b010;
    pub const CONTEXTIDR_EL1: u8 = 0b011;
    pub const CONTEXT_AND_VMID: u8 = 0b101;
    pub const FULL_CONTEXT: u8 = 0b111;
}

/// The address bits that every implementation compares. Those above, up to the size of its virtual addresses, a PE
/// compares too; and those above that (RESS), unless they are copies of the highest of these, or not.
const COMPARED_BY_ALL: u64 = (1 << 49) - 1;

/// The most address bits that a MASK leaves out, of DBGBCR and of DBGWCR.
const LARGEST_MASK: u64 = (1 << 31) - 1;

/// Whether two addresses differ at most in `ignored`.
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

/// The fields that select Exception levels and Security states.
struct StateControl {
    hmc: bool,
    ssc: u2,
    ssce: bool,
    /// PMC or PAC.
    privilege: u2,
}

impl StateControl {
    /// `AArch64.StateMatch` without its link, for an instruction or access with the privilege of `el`.
    ///
    /// A guest is told neither of EL2 nor, on some hosts, of EL3 and Security states. EL2 is there all the same, for KVM
    /// runs at it, and the guest's values are in the registers of that PE: what is reserved only on a PE without EL2 is
    /// certain. What depends on EL3, on Secure EL2 or on the Security state is a choice.
    fn matches(&self, el: El, rule: &'static Rule) -> Verdict {
        let selects = match el {
            El::El0 => PMC_EL0,
            El::El1 => PMC_EL1,
        };
        match (self.ssce, self.hmc, self.ssc.value(), self.privilege.value()) {
            (false, false, 0b00, 0b01..=0b11) | (false, true, 0b00, 0b01 | 0b11) => {
                Verdict::yes_if(self.privilege.value() & selects.value() != 0, rule)
            }
            // EL2 alone.
            (false, true, 0b11, 0b00) => Verdict::no(rule),
            _ => Verdict::may(&rule::STATE_UNPREDICTABLE),
        }
    }
}

/// The bytes that a watchpoint watches.
struct Watched {
    /// An address in the naturally aligned block that they are a part of.
    block: u64,
    /// The block's size less one: the address bits that are not compared.
    inside: u64,
    /// Which bytes of a block of at most eight, bit n for byte n; none for all.
    select: Option<u8>,
    /// How certain a match of these is.
    at_best: Verdict,
}

impl Watched {
    /// `AArch64.WatchpointByteMatch`: DBGWVR, BAS and MASK.
    ///
    /// BAS 0b00000000 selects no byte, as table D2-14 and the pseudocode have it, although "Reserved DBGWCR<n>_EL1.BAS
    /// values" leaves it out of those that are not reserved: two places that name the value go before one that does not.
    fn new(value: u64, control: Dbgwcr) -> Self {
        const DOUBLEWORD: u64 = 7;
        const WORD: u64 = 3;
        let (bas, mask) = (control.bas(), control.mask().value());
        let certain = Verdict::yes(&rule::WATCHPOINT_ADDRESS);
        let block = value & !0b11;
        if matches!(mask, 1 | 2) {
            // Reserved: no match, no masking, or any masking.
            let at_best = Verdict::may(&rule::WATCHPOINT_MASK_UNPREDICTABLE);
            return Self { block, inside: LARGEST_MASK, select: None, at_best };
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
        if !control.bas_is_one_run() {
            // All eight bits of BAS are looked at and the whole doubleword may be watched, also where DBGWVR names a word
            // and BAS[7:4] are RES0: so the pseudocode; by the text BAS[3:0] then decide, within that.
            let at_best = Verdict::may(&rule::WATCHPOINT_BAS_UNPREDICTABLE);
            return Self { block, inside: DOUBLEWORD, select: None, at_best };
        }
        // The upper half of a doubleword may be named as a word, whose bytes are BAS[3:0].
        let inside = if block & 0b100 != 0 { WORD } else { DOUBLEWORD };
        Self { block, inside, select: Some(bas), at_best: certain }
    }

    /// Which of the bytes `accessed` are watched, from the lowest to the highest that may be.
    fn of(&self, accessed: &Range<u64>) -> Bytes {
        let mut bytes = Bytes { verdict: Verdict::no(&rule::WATCHPOINT_ADDRESS), span: None };
        for byte in accessed.clone() {
            let selected = self.select.is_none_or(|select| select >> (byte & self.inside) & 1 == 1);
            let same = same_address(byte, self.block, self.inside, self.at_best.rule);
            if selected && same.matches > Match::No {
                bytes.verdict = bytes.verdict.or(same.and(self.at_best));
                bytes.span = Some((bytes.span.map_or(byte, |(lowest, _)| lowest), byte));
            }
        }
        bytes
    }
}

/// Bytes that are accessed and watched.
struct Bytes {
    /// Whether there are any.
    verdict: Verdict,
    /// The lowest and the highest of those that there may be.
    span: Option<(u64, u64)>,
}

/// A PE as debug events see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub shape: &'a Shape,
    pub registers: &'a Registers,
    pub el: El,
    /// PSTATE.D.
    pub masked: bool,
    /// How many bytes DC ZVA zeroes, in which block FAR lies.
    pub zva_block: u64,
}

impl View<'_> {
    /// Some breakpoint generates a Breakpoint exception at the instruction at this address.
    pub fn breakpoint(&self, instruction: u64) -> Verdict {
        let matched = self.breakpoint_matches(instruction);
        if matched.matches == Match::No { matched } else { matched.and(self.enabled(matched.rule)) }
    }

    /// Whether some breakpoint would match at this address if debug exceptions were enabled. If several give the same
    /// answer, the last one says why.
    pub fn breakpoint_matches(&self, instruction: u64) -> Verdict {
        // With FEAT_BWE an address match counts only where each mismatch that is in use is one too.
        let mismatches = self.enabled_breakpoints().any(|n| {
            let control = self.registers.dbgbcr(n);
            compares(control) == comparison::ADDRESS_MISMATCH && control.mask().value() != 0
        });
        let counted = |n: u8| {
            let matched = self.breakpoint_match(n, instruction);
            if mismatches && compares(self.registers.dbgbcr(n)) == comparison::ADDRESS {
                matched.and(Verdict::may(&rule::RES0_WITHOUT_FEATURE))
            } else {
                matched
            }
        };
        self.enabled_breakpoints().map(counted).fold(Verdict::no(&rule::BREAKPOINT_ENABLED), Verdict::or)
    }

    fn enabled_breakpoints(&self) -> impl Iterator<Item = u8> + use<'_> {
        self.shape.breakpoint_numbers().filter(|n| self.registers.dbgbcr(*n).e())
    }

    /// Some breakpoint may match at instructions that its address does not name.
    pub fn may_match_anywhere(&self) -> bool {
        self.enabled_breakpoints().any(|n| {
            let elsewhere = self.registers.dbgbvr(n) ^ 1 << 40;
            let range = self.registers.dbgbcr(n).mask().value() != 0;
            range || self.breakpoint_match(n, elsewhere & !0b11).matches > Match::No
        })
    }

    /// `AArch64.BreakpointMatch` of a breakpoint that is enabled.
    ///
    /// A type that is reserved makes it behave as if disabled or of a type that is not. As in the pseudocode, whether it
    /// is linked, and whether linking is enabled, is what BT says as it was written: a breakpoint with linking enabled
    /// delivers its result to those that link to it and generates no event by itself (D2.8.3).
    fn breakpoint_match(&self, n: u8, instruction: u64) -> Verdict {
        let control = self.registers.dbgbcr(n);
        if control.has_linking_enabled() {
            return Verdict::no(&rule::LINKED_CONTEXT);
        }
        let (hmc, ssc, ssce, privilege) = (control.hmc(), control.ssc(), control.ssce(), control.pmc());
        let state = StateControl { hmc, ssc, ssce, privilege }.matches(self.el, &rule::BREAKPOINT_PRIVILEGE);
        let value = self.breakpoint_value_match(n, instruction);
        let value = if control.bt().value() & 1 == 1 && value.matches > Match::No {
            value.and(self.link(control.lbnx(), control.lbn()))
        } else {
            value
        };
        // With FEAT_ABLE linking is enabled by BT2.
        let value = if control.bt2() { value.and(Verdict::may(&rule::RES0_WITHOUT_FEATURE)) } else { value };
        state.and(value)
    }

    /// `AArch64.BreakpointValueMatch` of a breakpoint that has no linking enabled, without its link.
    fn breakpoint_value_match(&self, n: u8, instruction: u64) -> Verdict {
        let control = self.registers.dbgbcr(n);
        let compared = compares(control);
        if compared == comparison::ADDRESS {
            return self.address_match(n, instruction);
        }
        if !self.shape.is_context_aware(n) {
            // Disabled, or an address match, the only type that it has.
            let address = self.address_match(n, instruction);
            return match (compared, control.mask().value()) {
                (comparison::ADDRESS_MISMATCH, 1..) => Verdict::may(&rule::RES0_WITHOUT_FEATURE),
                _ => address.and(Verdict::may(&rule::BREAKPOINT_TYPE_UNPREDICTABLE)),
            };
        }
        // A reserved type may stand for a VMID match, which may match at any instruction.
        self.context_match(n).unwrap_or(Verdict::may(&rule::BREAKPOINT_TYPE_UNPREDICTABLE))
    }

    /// The address match of breakpoint `n`. A64 instructions are words: of BAS its lowest bit decides, and where it is
    /// clear a match of the second halfword, or a BAS that is RES1 on a PE without AArch32, may count or not. "Reserved
    /// DBGBCR<n>_EL1.BAS values" would let a reserved BAS disable the breakpoint also where that bit is set; the pseudocode
    /// does not, and is what is followed.
    fn address_match(&self, n: u8, instruction: u64) -> Verdict {
        let control = self.registers.dbgbcr(n);
        let value = self.registers.dbgbvr(n) & !0b11;
        let linked = control.bt().value() & 1 == 1;
        let matched = if linked { &rule::LINKED_CONTEXT } else { &rule::BREAKPOINT_MATCHES };
        let at = |ignored| match same_address(value, instruction, ignored, matched) {
            Verdict { matches: Match::No, .. } => Verdict::no(&rule::BREAKPOINT_ADDRESS),
            same => same,
        };
        let exact = match at(0) {
            same if control.bas().value() & 1 == 1 => same,
            same => same.and(Verdict::may(&rule::BREAKPOINT_BAS)),
        };
        let mask = control.mask().value();
        let ranges = match mask {
            0 => return exact,
            1 | 2 => at(LARGEST_MASK).and(Verdict::may(&rule::RES0_WITHOUT_FEATURE)),
            _ => {
                let inside = (1 << mask) - 1;
                let certain = control.bas() == BAS_A64 && value & inside == 0;
                let range = at(inside);
                if certain { range } else { range.and(Verdict::may(&rule::RES0_WITHOUT_FEATURE)) }
            }
        };
        if exact.matches == ranges.matches { exact } else { Verdict::may(&rule::RES0_WITHOUT_FEATURE) }
    }

    /// Whether what context-aware breakpoint `n` compares, other than an address, matches; `None` if its type is reserved,
    /// or may be.
    fn context_match(&self, n: u8) -> Option<Verdict> {
        let control = self.registers.dbgbcr(n);
        let compared = compares(control);
        let with_vhe = self.shape.has_vhe();
        let in_context = Verdict::yes_if(self.in_context_of(n), &rule::BREAKPOINT_CONTEXT);
        let not_known = Verdict::may(&rule::BREAKPOINT_TYPE_UNPREDICTABLE);
        let matched = match compared {
            comparison::ADDRESS | comparison::ADDRESS_MISMATCH => return None,
            comparison::CONTEXT => in_context,
            comparison::CONTEXTIDR_EL1 if with_vhe => in_context,
            comparison::CONTEXT_AND_VMID => in_context.and(not_known),
            comparison::FULL_CONTEXT if with_vhe => in_context.and(not_known),
            // A VMID, or CONTEXTIDR_EL2.
            0b100 | 0b110 if with_vhe || compared == 0b100 => not_known,
            _ => return None,
        };
        let range = control.mask().value() != 0;
        Some(if range { matched.and(Verdict::may(&rule::RES0_WITHOUT_FEATURE)) } else { matched })
    }

    /// The breakpoint that a link names has linking enabled and matches the current context.
    fn link(&self, lbnx: u2, lbn: u4) -> Verdict {
        let (lbnx, lbn) = (lbnx.value(), lbn.value());
        let control = self.registers.dbgbcr(lbn);
        if lbnx != 0 || control.bt2() {
            return Verdict::may(&rule::RES0_WITHOUT_FEATURE);
        }
        if !self.shape.is_context_aware(lbn) {
            return Verdict::may(&rule::LINK_UNPREDICTABLE);
        }
        if !control.e() || compares(control) == comparison::ADDRESS {
            return Verdict::no(&rule::LINKED_CONTEXT);
        }
        match self.context_match(lbn) {
            None => Verdict::may(&rule::LINK_UNPREDICTABLE),
            Some(_) if !control.has_linking_enabled() => Verdict::no(&rule::LINKED_CONTEXT),
            Some(matched) if matched.matches == Match::May => Verdict::may(&rule::LINK_UNPREDICTABLE),
            Some(matched) => Verdict { rule: &rule::LINKED_CONTEXT, ..matched },
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

    /// Which watchpoints would match if debug exceptions were enabled. Any of those that match may be the one that is
    /// reported: WnR is certain if all agree on it, and FAR lies in what any of them allows.
    pub fn watchpoint_matches(&self, access: &Access, accessed: &Range<u64>) -> Hit {
        let enabled = || (0..self.shape.watchpoints).filter(|n| self.registers.dbgwcr(*n).e());
        let mut hit = Hit {
            verdict: Verdict::no(&rule::WATCHPOINT_ENABLED),
            wnr: Some(access.writes()),
            far: (accessed.start, accessed.start),
        };
        for (n, this) in enabled().map(|n| (n, self.watchpoint_match(n, access, accessed))) {
            let first = hit.verdict.matches == Match::No;
            hit.verdict = hit.verdict.or(this.verdict);
            let Some((lowest, highest)) = this.span.filter(|_| this.verdict.matches > Match::No) else {
                continue;
            };
            let control = self.registers.dbgwcr(n);
            let wnr = access.writes() && !(access.reads() && control.lsc() & LSC_LOAD == LSC_LOAD);
            let block = |byte| byte - byte % self.zva_block.max(1);
            let far = match access.kind {
                // Any address that it accesses.
                Kind::Block | Kind::Invalidate => (accessed.start, accessed.end - 1),
                // An interval, in the page of the watched address.
                Kind::MoveLoad | Kind::MoveStore => (accessed.start.max(lowest - lowest % PAGE), highest),
                // An interval, which is exact where the block is not smaller than the access.
                _ => (accessed.start.max(block(lowest)), highest),
            };
            hit.wnr = hit.wnr.filter(|other| first || *other == wnr).map(|_| wnr);
            hit.far = if first { far } else { (hit.far.0.min(far.0), hit.far.1.max(far.1)) };
        }
        // With FEAT_BWE2 a match counts only where each mismatch that is in use is one too.
        if enabled().any(|n| self.registers.dbgwcr(n).wt2()) {
            hit.verdict = hit.verdict.and(Verdict::may(&rule::RES0_WITHOUT_FEATURE));
        }
        hit
    }

    /// `AArch64.WatchpointMatch` of a watchpoint that is enabled.
    fn watchpoint_match(&self, n: u8, access: &Access, accessed: &Range<u64>) -> Bytes {
        let control = self.registers.dbgwcr(n);
        let none = |rule| Bytes { verdict: Verdict::no(rule), span: None };
        let el = if access.unprivileged { El::El0 } else { self.el };
        let (hmc, ssc, ssce, privilege) = (control.hmc(), control.ssc(), control.ssce(), control.pac());
        let state = StateControl { hmc, ssc, ssce, privilege }.matches(el, &rule::WATCHPOINT_PRIVILEGE);
        if state.matches == Match::No {
            return none(state.rule);
        }
        let selected = |lsc: u2, does| does && control.lsc() & lsc == lsc;
        if !selected(LSC_LOAD, access.reads()) && !selected(LSC_STORE, access.writes()) {
            return none(&rule::WATCHPOINT_LSC);
        }
        let bytes = if control.wt2() {
            let span = accessed.end.checked_sub(1).map(|last| (accessed.start, last));
            Bytes { verdict: Verdict::may(&rule::RES0_WITHOUT_FEATURE), span }
        } else {
            Watched::new(self.registers.dbgwvr(n), control).of(accessed)
        };
        if bytes.verdict.matches == Match::No {
            return bytes;
        }
        let link = match control.wt() {
            true => self.link(control.lbnx(), control.lbn()),
            false => Verdict::yes(&rule::WATCHPOINT_MATCHES),
        };
        if link.matches == Match::No {
            return none(link.rule);
        }
        let done = match access.kind {
            Kind::StoreExclusive => Verdict::may(&rule::WATCHPOINT_CONDITIONAL_STORE),
            Kind::Invalidate => Verdict::may(&rule::WATCHPOINT_INVALIDATE),
            _ => Verdict::yes(&rule::WATCHPOINT_MATCHES),
        };
        let verdict = done.and(state).and(bytes.verdict).and(link);
        let verdict = match access.is_of_tags() {
            true => verdict.and(Verdict::yes(&rule::WATCHPOINT_ALLOCATION_TAGS)),
            false => verdict,
        };
        Bytes { verdict, ..bytes }
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

/// What a breakpoint compares, by BT without its lowest bit.
fn compares(control: Dbgbcr) -> u8 {
    control.bt().value() >> 1
}
