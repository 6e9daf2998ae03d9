// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Watchpoints on SVE contiguous loads and stores.

use super::{Hit, Match, Verdict, View};
use crate::{
    rule::{self, Rule},
    vector::{Faulting, Vector},
};

/// What watchpoints do to an SVE contiguous load or store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VectorHit {
    /// The Watchpoint exception.
    pub hit: Hit,
    /// Without it, of how many Active elements the FFR may say that they were loaded: the least and the most.
    pub loaded: (u64, u64),
}

impl Vector {
    /// The rule of watchpoints on its Active elements.
    fn rule(&self) -> &'static Rule {
        match self.faulting {
            Faulting::All => &rule::WATCHPOINT_SVE,
            Faulting::First => &rule::WATCHPOINT_SVE_FIRST_FAULT,
            Faulting::None => &rule::WATCHPOINT_SVE_NON_FAULT,
        }
    }
}

impl View<'_> {
    /// Which watchpoints, if any, generate a Watchpoint exception, or keep elements from being loaded, when `vector`
    /// is executed with this base.
    pub fn vector(&self, vector: &Vector, base: u64) -> VectorHit {
        let hit = self.vector_matches(vector, base);
        let verdict = match hit.verdict.matches {
            Match::No => hit.verdict,
            _ => hit.verdict.and(self.enabled(hit.verdict.rule)),
        };
        VectorHit { hit: Hit { verdict, ..hit }, loaded: self.loaded(vector, base) }
    }

    /// The exception, were debug exceptions enabled.
    fn vector_matches(&self, vector: &Vector, base: u64) -> Hit {
        let (access, active, rounded) = (vector.access(), vector.bytes(base), vector.rounded(base));
        let mut hit = Hit {
            verdict: Verdict::no(if active.is_empty() { vector.rule() } else { &rule::WATCHPOINT_ENABLED }),
            wnr: Some(vector.stores),
            far: (rounded.start, rounded.start),
        };
        if active.is_empty() {
            return hit;
        }
        let reporting = match vector.faulting {
            Faulting::All => active.clone(),
            Faulting::First => active.start..active.start + 1,
            Faulting::None => active.start..active.start,
        };
        let enabled = || (0..self.shape.watchpoints).filter(|n| self.registers.dbgwcr(*n).e());
        for n in enabled() {
            let matched = self.watchpoint_match(n, access, &active).verdict;
            let around = self.watchpoint_match(n, access, &rounded);
            let reported = match self.watchpoint_match(n, access, &reporting).verdict {
                _ if matched.matches == Match::No => matched,
                reported if reported.matches == Match::May => reported,
                reported => Verdict { rule: vector.rule(), ..reported },
            };
            let is_relaxed = matched.matches < Match::Yes && around.verdict.matches > Match::No;
            let this = match is_relaxed {
                true => Verdict::may(&rule::WATCHPOINT_SVE_RELAXED).or(reported),
                false => reported,
            };
            let first = hit.verdict.matches == Match::No;
            hit.verdict = hit.verdict.or(this);
            let Some((lowest, highest)) = around.span.filter(|_| this.matches > Match::No) else { continue };
            // Within a block that is aligned and not larger than that of DC ZVA.
            let lowest = rounded.start.max(lowest - lowest % self.zva_block.max(1));
            let highest = if is_relaxed { rounded.end - 1 } else { highest };
            hit.far = match first {
                true => (lowest, highest),
                false => (hit.far.0.min(lowest), hit.far.1.max(highest)),
            };
        }
        if enabled().any(|n| self.registers.dbgwcr(n).wt2()) {
            hit.verdict = hit.verdict.and(Verdict::may(&rule::RES0_WITHOUT_FEATURE));
        }
        hit
    }

    /// A PE may report any element but the First active one of a First-fault load as not loaded, and with it all that
    /// follow: it must from the first that is watched for certain.
    fn loaded(&self, vector: &Vector, base: u64) -> (u64, u64) {
        let watched =
            |byte: u64| self.watchpoint(vector.access(), &(byte..byte + 1)).verdict.matches == Match::Yes;
        let active = vector.bytes(base);
        let least = u64::from(vector.faulting == Faulting::First && !active.is_empty());
        let most = active.clone().take_while(|byte| !watched(*byte)).count() as u64;
        (least, most.max(least))
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        control::{Dbgwcr, LSC_LOAD, LSC_STORE, Mdscr},
        event::{Event, Exception},
        layout::{TARGET, sequence_code},
        outcome::{Expected, Outcome},
        pe::Pe,
        rule::{self, Rule},
        scenario::{Entry, Op, Scenario},
        sequence::Sequence,
        shape::Shape,
        sysreg::dbgwcr,
    };
    use alloc::vec::Vec;

    const SHAPE: Shape =
        Shape { debug_ver: 9, breakpoints: 6, watchpoints: 4, context_aware: 2, double_lock: false };
    /// A multiple of DC ZVA's block.
    const BASE: u64 = TARGET + 0x40;
    const FNV: u64 = 1 << 10;
    const FNP: u64 = 1 << 15;

    /// Watchpoint 1 on one byte.
    fn byte(address: u64) -> Scenario {
        let control = Dbgwcr::doubleword().with_bas(1 << (address % 8));
        Scenario::new().then(Op::MaskDebug(false)).watchpoint(1, address & !7, control)
    }

    fn run(set: Scenario, piece: &str, base: u64) -> Outcome {
        let scenario = set
            .enable(Mdscr::breakpoints_at_el1())
            .entered(Entry::Return { ss: false, steps: 0 })
            .run(Sequence::named(piece), base);
        let mut pe = Pe::new(SHAPE);
        scenario.ops().iter().map(|op| pe.step(*op)).last().expect("an operation").expect("modelled")
    }

    /// The Watchpoint exceptions that are allowed, and what X0 may be without one.
    fn seen(outcome: &Outcome) -> (usize, Option<(u64, u64)>) {
        let exceptions = outcome.alternatives().filter(|events| events.len() == 2).count();
        let silent = outcome.alternatives().find_map(|events| match *events {
            [Expected::Within { lowest, highest }] => Some((lowest, highest)),
            [Expected::Value { value, .. }] => Some((value, value)),
            _ => None,
        });
        (exceptions, silent)
    }

    /// Whether a watched byte generates an exception: it must (2), may (1) or must not (0).
    fn certainty(outcome: &Outcome) -> u8 {
        match seen(outcome) {
            (0, Some(_)) => 0,
            (3, Some(_)) => 1,
            (3, None) => 2,
            other => panic!("{other:?}"),
        }
    }

    fn each(piece: &str, base: u64) -> Vec<u8> {
        (BASE - 16..BASE + 48).map(|address| certainty(&run(byte(address), piece, base))).collect()
    }

    fn runs(of: &[(usize, u8)]) -> Vec<u8> {
        of.iter().flat_map(|(count, certainty)| core::iter::repeat_n(*certainty, *count)).collect()
    }

    #[test]
    fn active_elements_must_and_what_they_are_rounded_to_may() {
        for kind in ["ld1b", "st1b"] {
            let each = |which: &str, base| each(&alloc::format!("{kind}{which}"), base);
            assert_eq!(each("", BASE), runs(&[(16, 0), (16, 2), (32, 0)]));
            assert_eq!(each("", BASE + 3), runs(&[(16, 0), (3, 1), (16, 2), (13, 1), (16, 0)]));
            assert_eq!(each(" of the first 8", BASE), runs(&[(16, 0), (8, 2), (8, 1), (32, 0)]));
            assert_eq!(each(" of the first 8", BASE + 8), runs(&[(16, 0), (8, 1), (8, 2), (32, 0)]));
            assert_eq!(each(" of the last 12", BASE), runs(&[(16, 0), (4, 1), (12, 2), (32, 0)]));
            assert_eq!(each(" of the last 12", BASE + 12), runs(&[(32, 0), (12, 2), (4, 1), (16, 0)]));
            assert_eq!(each(" of none", BASE), runs(&[(64, 0)]));
        }
    }

    #[test]
    fn a_non_fault_load_generates_none_for_an_element_and_a_first_fault_load_for_the_first_alone() {
        assert_eq!(each("ldnf1b", BASE + 3), runs(&[(16, 0), (3, 1), (16, 0), (13, 1), (16, 0)]));
        assert_eq!(each("ldff1b", BASE), runs(&[(16, 0), (1, 2), (47, 0)]));
        assert_eq!(each("ldff1b", BASE + 3), runs(&[(16, 0), (3, 1), (1, 2), (15, 0), (13, 1), (16, 0)]));
        assert_eq!(each("ldff1b of the last 12", BASE), runs(&[(16, 0), (4, 1), (1, 2), (43, 0)]));
    }

    #[test]
    fn the_ffr_tells_of_the_first_watched_element_and_may_of_any_but_the_first_active_one() {
        let count = |piece, element: u64| seen(&run(byte(BASE + element), piece, BASE)).1;
        assert_eq!(count("ldnf1b", 0), Some((0, 0)));
        assert_eq!(count("ldnf1b", 5), Some((0, 5)));
        assert_eq!(count("ldnf1b", 32), Some((0, 16)));
        assert_eq!(count("ldff1b", 5), Some((1, 5)));
        assert_eq!(count("ldff1b", 32), Some((1, 16)));
        assert_eq!(count("ldff1b of the last 12", 5), Some((1, 1)));
        assert_eq!(count("ldff1b of the last 12", 15), Some((1, 11)));
        assert_eq!(count("ldff1b of the last 12", 32), Some((1, 12)));
        let off = byte(BASE + 5).write(dbgwcr(1), Dbgwcr::doubleword().with_e(false).raw_value());
        assert_eq!(seen(&run(off, "ldnf1b", BASE)).1, Some((0, 16)));
    }

    #[test]
    fn after_an_exception_the_load_was_not_done_and_the_ffr_is_as_it_was() {
        for (piece, all) in [("ldff1b", 16), ("ldff1b of the last 12", 12)] {
            let outcome = run(byte(BASE + 16 - all), piece, BASE);
            for events in outcome.alternatives() {
                let count = Some(&Expected::Within { lowest: all, highest: all });
                assert_eq!((events.len(), events.get(1)), (2, count), "{piece}");
            }
        }
    }

    #[test]
    fn loads_and_stores_are_told_apart() {
        for (piece, lsc, fires) in
            [("ld1b", LSC_LOAD, 2), ("ld1b", LSC_STORE, 0), ("st1b", LSC_LOAD, 0), ("st1b", LSC_STORE, 2)]
        {
            let control = Dbgwcr::doubleword().with_lsc(lsc);
            let set = byte(BASE).write(dbgwcr(1), control.raw_value());
            assert_eq!(certainty(&run(set, piece, BASE)), fires, "{piece}");
        }
    }

    #[test]
    fn far_lies_between_the_lowest_rounded_and_the_highest_watched_unless_it_is_not_valid() {
        let admits = |outcome: &Outcome, set: u64, far| {
            let piece = sequence_code(Sequence::named("st1b"));
            let esr = 0xd600_0062 | set;
            let taken = Exception { vector: 4, esr, elr: piece + 4, spsr: 0x1c5, far };
            outcome.admits(&[Event::Exception(taken), Event::Value(BASE + 0x38)])
        };
        // Across the end of a block of DC ZVA's size, and the second block is watched.
        let crosses = run(byte(BASE + 0x44), "st1b", BASE + 0x38);
        for (far, precise, at_all) in [
            (0x2f, false, false),
            (0x30, false, true),
            (0x3f, false, true),
            (0x40, true, true),
            (0x44, true, true),
            (0x45, false, false),
        ] {
            assert_eq!(admits(&crosses, 0, BASE + far), precise, "{far:#x}");
            assert_eq!(admits(&crosses, FNP, BASE + far), at_all, "{far:#x}, not precise");
            assert!(admits(&crosses, FNV, BASE + far), "{far:#x}, not valid");
        }
        let relaxed = run(byte(BASE + 0x49), "st1b", BASE + 0x38);
        assert!(admits(&relaxed, 0, BASE + 0x4f) && !admits(&relaxed, 0, BASE + 0x50));
    }

    #[test]
    fn the_rule_is_that_of_the_kind_of_access() {
        let rule = |piece, address, base| -> &'static Rule { run(byte(address), piece, base).rule };
        assert_eq!(rule("ld1b", BASE, BASE), &rule::WATCHPOINT_SVE);
        assert_eq!(rule("ld1b of none", BASE, BASE), &rule::WATCHPOINT_SVE);
        assert_eq!(rule("ld1b", BASE, BASE + 1), &rule::WATCHPOINT_SVE_RELAXED);
        assert_eq!(rule("ldnf1b", BASE, BASE), &rule::WATCHPOINT_SVE_NON_FAULT);
        assert_eq!(rule("ldff1b", BASE, BASE), &rule::WATCHPOINT_SVE_FIRST_FAULT);
        assert_eq!(rule("ldff1b", BASE + 1, BASE), &rule::WATCHPOINT_SVE_FIRST_FAULT);
        assert_eq!(rule("ldff1b", BASE + 32, BASE), &rule::WATCHPOINT_ADDRESS);
    }

    #[test]
    fn nothing_is_generated_and_all_may_be_loaded_while_debug_exceptions_are_disabled() {
        for (piece, loaded) in [("ld1b", (BASE, BASE)), ("ldnf1b", (0, 16)), ("ldff1b", (1, 16))] {
            let scenario = byte(BASE)
                .enable(Mdscr::breakpoints_at_el1().with_mde(false))
                .entered(Entry::Return { ss: false, steps: 0 })
                .run(Sequence::named(piece), BASE);
            let mut pe = Pe::new(SHAPE);
            let outcome =
                scenario.ops().iter().map(|op| pe.step(*op)).last().expect("one").expect("modelled");
            assert_eq!(seen(&outcome), (0, Some(loaded)), "{piece}");
        }
    }
}
