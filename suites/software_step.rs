// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Software Step by the guest, of code at EL1 and at EL0: one instruction at a time and only when it may, over
//! exceptions and exclusives, and beside breakpoints and watchpoints on the same instruction.

use dfr0_model::{
    access,
    control::{Dbgbcr, Dbgwcr, Mdscr, PMC_EL1_EL0},
    rule::{self, Rule},
    scenario::{El, Entry, Op, Scenario},
    sysreg::MDSCR_EL1,
    wire::{BRK, RETURN, TARGET, access_code, marker},
};
use dfr0_runner::case::{Case, Context, Stop, Suite};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "software_step",
    about: "a guest steps its own code at EL1 and EL0, one instruction at a time and only when it may",
    cases,
};

/// Software step enabled from EL1; MDE does not concern it.
const ON: Mdscr = Mdscr::DEFAULT.with_ss(true).with_kde(true);
/// The same, and breakpoints and watchpoints too.
const ALL_ON: Mdscr = ON.with_mde(true);
/// The marker that is stepped.
const HERE: u8 = 1;
const LOAD: u8 = access::place("ldr x1");
const LEVELS: [El; 2] = [El::El0, El::El1];

fn cases() -> Vec<Case> {
    let case = |name: &str, rule: &'static Rule, scenario: fn() -> Scenario| {
        Case::new(format!("software_step.{name}"), rule, move |cx| cx.check(&scenario()))
    };
    let whole = |name: &str, rule: &'static Rule, test: fn(&mut Context<'_>) -> Result<(), Stop>| {
        Case::new(format!("software_step.{name}"), rule, test)
    };
    vec![
        case("el1_one_instruction", &rule::STEP, || on(El::El1).append(one())),
        case("el1_two_instructions", &rule::STEP_SYNDROME, || on(El::El1).append(two())),
        case("el0_one_instruction", &rule::STEP, || on(El::El0).append(one())),
        case("el0_two_instructions", &rule::STEP_SYNDROME, || on(El::El0).append(two())),
        case("again_after_it_was_switched_off", &rule::STEP_NEEDS_SS, || {
            let once = on(El::El1).append(one()).append(one()).read(MDSCR_EL1);
            let el0 = once.enable(ON).append(two()).at(El::El0).enable(ON).append(two());
            el0.append(two())
        }),
        case("ss_clear", &rule::STEP_NEEDS_SS, || {
            let clear = with(El::El1, ON.with_ss(false)).append(two()).at(El::El0).append(two());
            clear.enable(ON).append(one())
        }),
        case("pending_at_once", &rule::STEP_PENDING, || {
            LEVELS.into_iter().fold(Scenario::new(), |scenario, el| {
                (1..=3).fold(scenario.append(on(el)), |scenario, steps| {
                    scenario.enable(ON).entered(Entry::Return { ss: false, steps }).exec(HERE)
                })
            })
        }),
        case("spsr_ss_without_mdscr_ss", &rule::STEP_NEEDS_SS, || {
            LEVELS.into_iter().fold(Scenario::new(), |scenario, el| {
                scenario.append(with(el, Mdscr::DEFAULT.with_kde(true))).append(one()).read(MDSCR_EL1)
            })
        }),
        case("after_exit", &rule::EXIT_KEEPS_STATE, || {
            let el1 = on(El::El1).then(Op::Exit).append(two()).enable(ON).then(Op::Exit).append(one());
            el1.at(El::El0).enable(ON).then(Op::Exit).append(two()).read(MDSCR_EL1)
        }),
        case("enabled_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, || {
            on(El::El1).by_userspace().append(two()).then(Op::KvmGet { reg: MDSCR_EL1 }).read(MDSCR_EL1)
        }),
        case("over_brk", &rule::STEP_EXCEPTION, || {
            LEVELS.into_iter().fold(Scenario::new(), |scenario, el| {
                scenario.append(on(el)).entered(Entry::stepped(1)).brk().enable(ON).entered(PENDING).brk()
            })
        }),
        whole("over_load_exclusive", &rule::STEP_LOAD_EXCLUSIVE, |cx| {
            each_access(cx, &["ldxr x1", "ldxp x1, x2", "ldar x1", "ldr x1", "str x1"])
        }),
        whole("over_watched_access", &rule::STEP_EXCEPTION, over_watched_access),
        whole("on_a_breakpoint", &rule::PRIORITY, |cx| {
            beside_breakpoint(cx, [marker(HERE), access_code(LOAD), BRK])
        }),
        whole("before_a_breakpoint", &rule::PRIORITY, |cx| {
            beside_breakpoint(cx, [marker(HERE) + 4, access_code(LOAD) + 4, BRK + 4])
        }),
        whole("breakpoint_on_the_last_instruction", &rule::PRIORITY, |cx| beside_breakpoint(cx, [RETURN])),
    ]
}

/// The exception return leaves a Software Step exception pending.
const PENDING: Entry = Entry::Return { ss: false, steps: 1 };

/// One step of the marker.
fn one() -> Scenario {
    Scenario::new().entered(Entry::stepped(1)).exec(HERE)
}

/// Two steps of it: its NOP and its RET.
fn two() -> Scenario {
    Scenario::new().entered(Entry::stepped(2)).exec(HERE)
}

fn on(el: El) -> Scenario {
    with(el, ON)
}

/// What follows is executed at `el`, with PSTATE.D clear and MDSCR_EL1 written.
fn with(el: El, mdscr: Mdscr) -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).enable(mdscr).at(el).isb()
}

/// Each access, entered stepped and with the step pending.
fn each_access(cx: &mut Context<'_>, names: &[&str]) -> Result<(), Stop> {
    for el in LEVELS {
        for access in names.iter().map(|name| access::place(name)) {
            for entry in [Entry::stepped(1), Entry::stepped(2), PENDING] {
                cx.check(&on(el).entered(entry).access(access, TARGET))?;
            }
        }
    }
    Ok(())
}

/// A watchpoint on what is accessed: its exception comes instead of the step, and the return from it steps again.
fn over_watched_access(cx: &mut Context<'_>) -> Result<(), Stop> {
    for n in 0..cx.shape().watchpoints {
        for el in LEVELS {
            for access in ["ldr x1", "str x1"].map(access::place) {
                for entry in [Entry::stepped(1), Entry::stepped(2), PENDING] {
                    let watched = with(el, ALL_ON).watchpoint(n, TARGET, Dbgwcr::doubleword());
                    cx.check(&watched.entered(entry).access(access, TARGET))?;
                }
            }
        }
    }
    Ok(())
}

/// A breakpoint at each address, while a marker, an access and BRK are stepped.
fn beside_breakpoint<const N: usize>(cx: &mut Context<'_>, addresses: [u64; N]) -> Result<(), Stop> {
    let control = Dbgbcr::address_at_el1().with_pmc(PMC_EL1_EL0);
    for n in cx.shape().breakpoint_numbers() {
        for el in LEVELS {
            for entry in [Entry::stepped(1), Entry::stepped(3), PENDING] {
                for address in addresses {
                    let set = with(el, ALL_ON).breakpoint_at(n, address, control).entered(entry);
                    cx.check(&set.clone().exec(HERE))?;
                    cx.check(&set.clone().access(LOAD, TARGET))?;
                    cx.check(&set.brk())?;
                }
            }
        }
    }
    Ok(())
}
