// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Software Step by the guest, of code at EL1 and at EL0.

use dfr0_model::{
    control::Mdscr,
    rule::{self, Rule},
    scenario::{El, Op, Scenario},
    sysreg::MDSCR_EL1,
};
use dfr0_runner::case::{Case, Suite};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "software_step",
    about: "a guest steps its own code at EL1 and EL0, one instruction at a time and only when it may",
    cases,
};

/// Software step enabled from EL1; MDE does not concern it.
const ON: Mdscr = Mdscr::DEFAULT.with_ss(true).with_kde(true);
/// One step of marker 1.
const ONE: Op = Op::Step { marker: 1, count: 1 };
/// Two steps of it: its NOP and its RET.
const TWO: Op = Op::Step { marker: 1, count: 2 };

fn cases() -> Vec<Case> {
    let case = |name: &str, rule: &'static Rule, scenario: fn() -> Scenario| {
        Case::new(format!("software_step.{name}"), rule, move |cx| cx.check(&scenario()))
    };
    vec![
        case("el1_one_instruction", &rule::STEP, || on(El::El1).then(ONE)),
        case("el1_two_instructions", &rule::STEP_SYNDROME, || on(El::El1).then(TWO)),
        case("el0_one_instruction", &rule::STEP, || on(El::El0).then(ONE)),
        case("el0_two_instructions", &rule::STEP_SYNDROME, || on(El::El0).then(TWO)),
        case("again_after_it_was_switched_off", &rule::STEP_NEEDS_SS, || {
            let once = on(El::El1).then(ONE).then(ONE).read(MDSCR_EL1);
            once.enable(ON).isb().then(TWO).at(El::El0).enable(ON).isb().then(TWO).then(TWO)
        }),
        case("ss_clear", &rule::STEP_NEEDS_SS, || {
            with(El::El1, ON.with_ss(false)).then(TWO).at(El::El0).then(TWO).enable(ON).isb().then(ONE)
        }),
        case("after_exit", &rule::EXIT_KEEPS_STATE, || {
            let el1 = on(El::El1).then(Op::Exit).then(TWO).enable(ON).then(Op::Exit).then(ONE);
            el1.at(El::El0).enable(ON).then(Op::Exit).then(TWO).read(MDSCR_EL1)
        }),
        case("enabled_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, || {
            on(El::El1).by_userspace().then(TWO).then(Op::KvmGet { reg: MDSCR_EL1 }).read(MDSCR_EL1)
        }),
    ]
}

fn on(el: El) -> Scenario {
    with(el, ON)
}

/// What follows is executed at `el`, with PSTATE.D clear and MDSCR_EL1 written.
fn with(el: El, mdscr: Mdscr) -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).enable(mdscr).at(el).isb()
}
