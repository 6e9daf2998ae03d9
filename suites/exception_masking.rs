// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What enables and masks debug exceptions: MDSCR_EL1.MDE and KDE, PSTATE.D, the OS Lock and the Exception
//! level, in every combination, for each kind of debug exception.

use crate::forms::{each_breakpoint as each, each_watchpoint, one, within};
use dfr0_model::{
    access,
    control::{Dbgbcr, Dbgwcr, Mdscr, PMC_EL0, PMC_EL1_EL0},
    rule::{self, Rule},
    scenario::{El, Entry, Op, Scenario},
    shape::Shape,
    sysreg::{MDSCR_EL1, OSLAR_EL1, dbgbcr},
    wire::{TARGET, TARGET_SIZE},
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    effort::share_of,
};
use std::ops::Range;

/// The marker that breakpoints are set on.
const HERE: u8 = 1;
/// The doubleword that is watched.
const WATCHED: u64 = TARGET + TARGET_SIZE / 2;
const ON: Mdscr = Mdscr::breakpoints_at_el1();
const STEP: Mdscr = Mdscr::DEFAULT.with_ss(true).with_kde(true);
const ADDRESS: Dbgbcr = Dbgbcr::address_at_el1();
/// Two steps of a marker: its NOP and its RET.
const STEPPED: Entry = Entry::stepped(2);

const LDR: u8 = access::place("ldr x1");
const STR: u8 = access::place("str x1");

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
        armed: |n| Scenario::new().watchpoint(n, WATCHED, Dbgwcr::doubleword()),
        attempts: &[|scenario| scenario.access(LDR, WATCHED), |scenario| scenario.access(STR, WATCHED)],
        steps: false,
    },
    Kind {
        name: "brk",
        rule: &rule::BRK_UNMASKED,
        also: &[],
        numbers: |_| 0..1,
        armed: |_| Scenario::new(),
        attempts: &[|scenario| scenario.isb().then(Op::Brk)],
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
            scenario = scenario.write(OSLAR_EL1, u64::from(self.locked));
        }
        if self.d != before.d {
            scenario = scenario.then(Op::MaskDebug(self.d));
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
                cx.check(&attempt(attempt(set.clone()).then(Op::Exit)))?;
                cx.check(&attempt(set.then(Op::Exit)))?;
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
    let exit = |scenario: Scenario, here| if here { scenario.then(Op::Exit) } else { scenario };
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
        each("mde_clear", &rule::MDE, |n| armed(n).enable(ON.with_mde(false)).exec(HERE)),
        each("mde_clear_after_exit", &rule::MDE, |n| {
            armed(n).enable(ON.with_mde(false)).then(Op::Exit).exec(HERE).read(MDSCR_EL1)
        }),
        each("kde_clear", &rule::KDE, |n| armed(n).enable(ON.with_kde(false)).exec(HERE)),
        each("kde_clear_after_exit", &rule::KDE, |n| {
            armed(n).enable(ON.with_kde(false)).then(Op::Exit).exec(HERE).read(MDSCR_EL1)
        }),
        each("pstate_d_set", &rule::PSTATE_D, |n| {
            armed(n).then(Op::MaskDebug(true)).exec(HERE).then(Op::MaskDebug(false)).exec(HERE)
        }),
        each("el0_needs_no_kde", &rule::BREAKPOINT_EL0, |n| {
            at_el0(n).enable(ON.with_kde(false)).exec(HERE).then(Op::Exit).exec(HERE)
        }),
        each("el0_needs_no_pstate_d_clear", &rule::BREAKPOINT_EL0, |n| {
            at_el0(n).then(Op::MaskDebug(true)).exec(HERE)
        }),
        each("el0_mde_clear", &rule::MDE, |n| at_el0(n).enable(ON.with_mde(false)).exec(HERE)),
    ]
}

fn watchpoints() -> Vec<Case> {
    let each = each_watchpoint;
    vec![
        each("mde_clear", &rule::MDE, |n| load_and_store(watching(n).enable(ON.with_mde(false)))),
        each("kde_clear", &rule::KDE, |n| load_and_store(watching(n).enable(ON.with_kde(false)))),
        each("pstate_d_set", &rule::PSTATE_D, |n| {
            let masked = load_and_store(watching(n).then(Op::MaskDebug(true)));
            load_and_store(masked.then(Op::MaskDebug(false)))
        }),
        each("el0_needs_neither", &rule::WATCHPOINT_SYNDROME, |n| {
            load_and_store(watching(n).enable(ON.with_kde(false)).then(Op::MaskDebug(true)).at(El::El0))
        }),
    ]
}

fn brk_and_steps() -> Vec<Case> {
    let step = |name: &str, rule, scenario: fn() -> Scenario| one(name, rule, scenario).within("step");
    vec![
        each("mde_clear", &rule::BRK_UNMASKED, |n| {
            let armed = armed(n).isb().then(Op::Brk);
            armed.enable(ON.with_mde(false)).isb().then(Op::Brk)
        })
        .within("brk"),
        step("kde_clear", &rule::KDE, || stepping(El::El1, STEP.with_kde(false)).exec(HERE).read(MDSCR_EL1)),
        step("pstate_d_set", &rule::PSTATE_D, || {
            stepping(El::El1, STEP).then(Op::MaskDebug(true)).exec(HERE)
        }),
        step("el0_needs_neither", &rule::STEP, || {
            stepping(El::El0, STEP.with_kde(false)).then(Op::MaskDebug(true)).exec(HERE)
        }),
        step("mde_does_not_matter", &rule::STEP, || stepping(El::El1, STEP.with_mde(true)).exec(HERE)),
    ]
}

/// Breakpoint `n` on marker [`HERE`] at EL1, with nothing that masks it.
fn armed(n: u8) -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).breakpoint(n, HERE, ADDRESS).enable(ON)
}

/// Breakpoint `n` on marker [`HERE`] for EL0. What follows is executed at EL0.
fn at_el0(n: u8) -> Scenario {
    armed(n).write(dbgbcr(n), ADDRESS.with_pmc(PMC_EL0).raw_value()).at(El::El0)
}

/// Watchpoint `n` on [`WATCHED`], with nothing that masks it.
fn watching(n: u8) -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).watchpoint(n, WATCHED, Dbgwcr::doubleword()).enable(ON)
}

fn load_and_store(scenario: Scenario) -> Scenario {
    scenario.access(LDR, WATCHED).access(STR, WATCHED)
}

/// What follows is executed at `el`, with PSTATE.D clear and MDSCR_EL1 written.
fn stepping(el: El, mdscr: Mdscr) -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).enable(mdscr).at(el).entered(STEPPED).isb()
}
