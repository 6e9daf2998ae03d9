// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What enables and masks debug exceptions: MDSCR_EL1.MDE and KDE, PSTATE.D, the OS Lock and the Exception
//! level, in every combination, for each kind of debug exception.

use crate::{
    forms::{each_breakpoint as each, each_watchpoint, one, within},
    stage::{ADDRESS, DOUBLEWORD, HERE, ON, STEP, WATCHED, armed, watching},
};
use dfr0_model::{
    claim::Claim,
    control::{Mdscr, PMC_EL0, PMC_EL1_EL0},
    rule::{self, Rule},
    scenario::{El, Entry, Scenario},
    shape::Shape,
    sysreg::{MDSCR_EL1, dbgbcr},
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    effort::share_of,
};
use std::ops::Range;

/// Two steps of a marker: its NOP and its RET.
const STEPPED: Entry = Entry::stepped(2);

/// A kind of debug exception.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    /// The rule that the combinations test.
    rule: &'static Rule,
    /// Other rules that decide some of the combinations.
    also: &'static [&'static Rule],
    /// The numbers of the registers that generate it.
    numbers: fn(Shape) -> Range<u8>,
    /// Register `n` is armed for EL1 and EL0; MDSCR_EL1 is not written.
    armed: fn(u8) -> Scenario,
    /// What generates the exception unless it is masked. Each attempt has its own scenarios, because QEMU 10
    /// keeps the direction of a masked watchpoint hit for the next hit.
    attempts: &'static [fn(Scenario) -> Scenario],
    /// The exception needs MDSCR_EL1.SS, which the payload clears after the exception.
    steps: bool,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "breakpoint",
        rule: &rule::KDE,
        also: &[&rule::MDE, &rule::PSTATE_D, &rule::OS_LOCK, &rule::BREAKPOINT_EL0],
        numbers: |shape| 0..shape.breakpoints,
        armed: |n| Scenario::new().breakpoint(n, HERE, ADDRESS.with_pmc(PMC_EL1_EL0)),
        attempts: &[|scenario| scenario.exec(HERE)],
        steps: false,
    },
    Kind {
        name: "watchpoint",
        rule: &rule::KDE,
        also: &[&rule::MDE, &rule::PSTATE_D, &rule::OS_LOCK],
        numbers: |shape| 0..shape.watchpoints,
        armed: |n| Scenario::new().watchpoint(n, WATCHED, DOUBLEWORD),
        attempts: &[|scenario| scenario.load(WATCHED), |scenario| scenario.store(WATCHED)],
        steps: false,
    },
    Kind {
        name: "brk",
        rule: &rule::BRK_UNMASKED,
        also: &[],
        numbers: |_| 0..1,
        armed: |_| Scenario::new(),
        attempts: &[Scenario::brk],
        steps: false,
    },
    Kind {
        name: "step",
        rule: &rule::KDE,
        also: &[&rule::PSTATE_D, &rule::OS_LOCK],
        numbers: |_| 0..1,
        armed: |_| Scenario::new(),
        attempts: &[|scenario| scenario.entered(STEPPED).exec(HERE)],
        steps: true,
    },
];

/// One combination of the bits that enable and mask debug exceptions.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Masks {
    mde: bool,
    kde: bool,
    d: bool,
    locked: bool,
    el0: bool,
}

/// How many combinations there are.
const COMBINATIONS: u8 = 32;

impl Masks {
    /// The state of a vCPU after reset.
    const AT_RESET: Self = Self { mde: false, kde: false, d: true, locked: false, el0: false };

    fn from_bits(bits: u8) -> Self {
        let bit = |n: u8| bits >> n & 1 == 1;
        Self { mde: bit(0), kde: bit(1), d: bit(2), locked: bit(3), el0: bit(4) }
    }

    fn mdscr(self, kind: Kind) -> Mdscr {
        Mdscr::DEFAULT.with_mde(self.mde).with_kde(self.kde).with_ss(kind.steps)
    }

    /// Changes what differs from `before`, MDSCR_EL1 first and then the lock.
    fn after(self, before: Self, kind: Kind, scenario: Scenario) -> Scenario {
        let mdscr = self.mdscr(kind);
        let mut scenario = scenario;
        if kind.steps || mdscr != before.mdscr(kind) {
            scenario = scenario.enable(mdscr);
        }
        if self.locked != before.locked {
            scenario = if self.locked { scenario.lock() } else { scenario.unlock() };
        }
        if self.d != before.d {
            scenario = scenario.pstate_d(self.d);
        }
        match (before.el0, self.el0) {
            (false, true) => scenario.at(El::El0),
            (true, false) => scenario.at(El::El1),
            _ => scenario,
        }
    }
}

pub fn cases() -> Vec<Case> {
    let swept = KINDS.into_iter().flat_map(|kind| {
        let case = |name: &str, test: fn(&mut Context<'_>, Kind) -> Result<(), Stop>| {
            Case::new(name, kind.rule, move |cx| test(cx, kind)).and(kind.also).within(kind.name)
        };
        [case("each_combination", each_combination), case("one_after_another", one_after_another)]
    });
    let breakpoints = within("breakpoint", breakpoints());
    swept.chain(breakpoints).chain(within("watchpoint", watchpoints())).chain(brk_and_steps()).collect()
}

/// Each combination from the state at reset, before and after an exit, and with an exit between setting it
/// and the first attempt, so that KVM has loaded the registers again. Number 0 has all combinations; the
/// others take turns.
fn each_combination(cx: &mut Context<'_>, kind: Kind) -> Result<(), Stop> {
    for n in (kind.numbers)(cx.shape()) {
        for masks in share_of(n, 0..COMBINATIONS).map(Masks::from_bits) {
            for attempt in kind.attempts {
                let set = masks.after(Masks::AT_RESET, kind, (kind.armed)(n));
                cx.check(&attempt(attempt(set.clone()).exit()))?;
                cx.check(&attempt(set.exit()))?;
            }
        }
    }
    Ok(())
}

/// All combinations in one scenario, each with one change from the one before: without exits, with an exit
/// after each change, and with an exit after each attempt.
fn one_after_another(cx: &mut Context<'_>, kind: Kind) -> Result<(), Stop> {
    for n in (kind.numbers)(cx.shape()) {
        for exits in [[false, false], [true, false], [false, true]] {
            for attempt in kind.attempts {
                cx.check(&walk((kind.armed)(n), kind, *attempt, exits))?;
            }
        }
    }
    Ok(())
}

fn walk(
    armed: Scenario,
    kind: Kind,
    attempt: fn(Scenario) -> Scenario,
    [before_attempt, after]: [bool; 2],
) -> Scenario {
    let exit = |scenario: Scenario, here| if here { scenario.exit() } else { scenario };
    let combinations = (0..COMBINATIONS).map(|place| Masks::from_bits(place ^ place >> 1));
    let start = (armed, Masks::AT_RESET);
    let (scenario, _) = combinations.fold(start, |(scenario, before), masks| {
        let set = exit(masks.after(before, kind, scenario), before_attempt);
        (exit(attempt(set), after), masks)
    });
    scenario
}

fn breakpoints() -> Vec<Case> {
    vec![
        each("mde_clear", &rule::MDE, |n| armed(n).enable(ON.with_mde(false)).exec(HERE).nothing()),
        each("mde_clear_after_exit", &rule::MDE, |n| {
            let off = ON.with_mde(false);
            armed(n).enable(off).exit().exec(HERE).nothing().read(MDSCR_EL1).reads(off)
        }),
        each("kde_clear", &rule::KDE, |n| armed(n).enable(ON.with_kde(false)).exec(HERE).nothing()),
        each("kde_clear_after_exit", &rule::KDE, |n| {
            let off = ON.with_kde(false);
            armed(n).enable(off).exit().exec(HERE).nothing().read(MDSCR_EL1).reads(off)
        }),
        each("pstate_d_set", &rule::PSTATE_D, |n| {
            armed(n).mask().exec(HERE).nothing().unmask().exec(HERE).takes_breakpoint()
        }),
        each("el0_needs_no_kde", &rule::BREAKPOINT_EL0, |n| {
            let once = at_el0(n).enable(ON.with_kde(false)).exec(HERE).takes_breakpoint();
            once.exit().exec(HERE).takes_breakpoint()
        }),
        each("el0_needs_no_pstate_d_clear", &rule::BREAKPOINT_EL0, |n| {
            at_el0(n).mask().exec(HERE).takes_breakpoint()
        }),
        each("el0_mde_clear", &rule::MDE, |n| at_el0(n).enable(ON.with_mde(false)).exec(HERE).nothing()),
    ]
}

fn watchpoints() -> Vec<Case> {
    let each = each_watchpoint;
    vec![
        each("mde_clear", &rule::MDE, |n| {
            watching(n).enable(ON.with_mde(false)).load_and_store(WATCHED, Claim::Nothing)
        }),
        each("kde_clear", &rule::KDE, |n| {
            watching(n).enable(ON.with_kde(false)).load_and_store(WATCHED, Claim::Nothing)
        }),
        each("pstate_d_set", &rule::PSTATE_D, |n| {
            let masked = watching(n).mask().load_and_store(WATCHED, Claim::Nothing);
            masked.unmask().load_and_store(WATCHED, Claim::Watchpoint)
        }),
        each("el0_needs_neither", &rule::WATCHPOINT_SYNDROME, |n| {
            let masked = watching(n).enable(ON.with_kde(false)).mask();
            masked.at(El::El0).load_and_store(WATCHED, Claim::Watchpoint)
        }),
    ]
}

fn brk_and_steps() -> Vec<Case> {
    let step = |name: &str, rule, scenario: fn() -> Scenario| one(name, rule, scenario).within("step");
    vec![
        each("mde_clear", &rule::BRK_UNMASKED, |n| {
            armed(n).brk().takes_brk().enable(ON.with_mde(false)).brk().takes_brk()
        })
        .within("brk"),
        step("kde_clear", &rule::KDE, || {
            let off = STEP.with_kde(false);
            stepping(El::El1, off).exec(HERE).nothing().read(MDSCR_EL1).reads(off)
        }),
        step("pstate_d_set", &rule::PSTATE_D, || stepping(El::El1, STEP).mask().exec(HERE).nothing()),
        step("el0_needs_neither", &rule::STEP, || {
            stepping(El::El0, STEP.with_kde(false)).mask().exec(HERE).takes_steps(2)
        }),
        step("mde_does_not_matter", &rule::STEP, || {
            stepping(El::El1, STEP.with_mde(true)).exec(HERE).takes_steps(2)
        }),
    ]
}

/// Breakpoint `n` on marker [`HERE`] for EL0. What follows is executed at EL0.
fn at_el0(n: u8) -> Scenario {
    armed(n).write(dbgbcr(n), ADDRESS.with_pmc(PMC_EL0)).at(El::El0)
}

/// What follows is executed at `el`, with PSTATE.D clear and MDSCR_EL1 written.
fn stepping(el: El, mdscr: Mdscr) -> Scenario {
    Scenario::new().unmask().enable(mdscr).at(el).entered(STEPPED).isb()
}
