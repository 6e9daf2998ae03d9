// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Software step by the guest, of code at EL1 and at EL0: one instruction at a time and only when it may,
//! over exceptions and exclusives, and together with breakpoints and watchpoints on the same instruction.

use crate::{
    forms::{one, whole},
    stage::{ADDRESS, DOUBLEWORD, HERE, LDR, LEVELS, STEP},
};
use dfr0_model::{
    access::Access,
    control::{LSC_STORE, Mdscr, PMC_EL1_EL0},
    feature::Feature,
    pstate::{self, EL0T, EL1H, EL2H},
    rule,
    scenario::{El, Entry, Scenario},
    sequence::{self, Sequence},
    sysreg::MDSCR_EL1,
    wire::{BRK, PRIVILEGED, READ_ONLY, RETURN, TARGET, UNMAPPED, access_code, marker, sequence_ret},
};
use dfr0_runner::case::{Case, Context, Stop};

/// Software step is enabled, and breakpoints and watchpoints too.
const ALL_ON: Mdscr = STEP.with_mde(true);
/// What the handler of the last step leaves of [`STEP`].
const SWITCHED_OFF: Mdscr = STEP.with_ss(false);

pub fn cases() -> Vec<Case> {
    vec![
        one("el1_one_instruction", &rule::STEP, || steps(on(El::El1), 1)),
        one("el1_two_instructions", &rule::STEP_SYNDROME, || steps(on(El::El1), 2)),
        one("el0_one_instruction", &rule::STEP, || steps(on(El::El0), 1)),
        one("el0_two_instructions", &rule::STEP_SYNDROME, || steps(on(El::El0), 2)),
        one("again_after_it_was_switched_off", &rule::STEP_NEEDS_SS, || {
            let off = is_not_stepped(steps(on(El::El1), 1), 1).read(MDSCR_EL1).reads(SWITCHED_OFF);
            let el0 = steps(off.enable(STEP), 2).at(El::El0).enable(STEP);
            is_not_stepped(steps(el0, 2), 2)
        }),
        one("ss_clear", &rule::STEP_NEEDS_SS, || {
            let el1 = is_not_stepped(with(El::El1, STEP.with_ss(false)), 2);
            steps(is_not_stepped(el1.at(El::El0), 2).enable(STEP), 1)
        }),
        one("pending_at_once", &rule::STEP_PENDING, || {
            Scenario::new().each(LEVELS, |scenario, el| {
                scenario.append(on(el)).each(1..=3, |scenario, steps| {
                    let pending = scenario.enable(STEP).entered(Entry::Return { ss: false, steps });
                    pending.exec(HERE).takes_steps(steps.into())
                })
            })
        }),
        one("spsr_ss_without_mdscr_ss", &rule::STEP_NEEDS_SS, || {
            Scenario::new().each(LEVELS, |scenario, el| {
                let off = Mdscr::DEFAULT.with_kde(true);
                is_not_stepped(scenario.append(with(el, off)), 1).read(MDSCR_EL1).reads(off)
            })
        }),
        one("after_exit", &rule::EXIT_KEEPS_STATE, || {
            let el1 = steps(on(El::El1).exit(), 2);
            let el1 = steps(el1.enable(STEP).exit(), 1);
            steps(el1.at(El::El0).enable(STEP).exit(), 2).read(MDSCR_EL1).reads(SWITCHED_OFF)
        }),
        one("enabled_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, || {
            let stepped = steps(on(El::El1).by_userspace(), 2);
            let seen = stepped.userspace_reads(MDSCR_EL1).reads(SWITCHED_OFF);
            seen.read(MDSCR_EL1).reads(SWITCHED_OFF)
        }),
        one("over_brk", &rule::STEP_EXCEPTION, || {
            Scenario::new().each(LEVELS, |scenario, el| {
                // After the BRK exception, the RET is stepped.
                let stepped =
                    scenario.append(on(el)).entered(Entry::stepped(1)).brk().takes_brk().takes_steps(1);
                stepped.enable(STEP).entered(PENDING).brk().takes_steps(1).takes_brk()
            })
        }),
        whole("over_load_exclusive", &rule::STEP_LOAD_EXCLUSIVE, |cx| {
            each_access(cx, &["ldxr x1", "ldxp x1, x2", "ldar x1", "ldr x1", "str x1"])
        }),
        whole("over_isb", &rule::STEP_SYNCHRONIZES, |cx| over(cx, &["isb"], 0)),
        whole("over_exception_return", &rule::STEP_RETURN, |cx| {
            over_return(cx, [EL1H, EL1H | pstate::D, EL0T])
        }),
        whole("over_return_to_itself", &rule::STEP_RETURN, over_return_to_itself),
        whole("over_illegal_return", &rule::STEP_ILLEGAL_RETURN, |cx| {
            over_return(cx, [EL2H, EL2H | pstate::D])
        }),
        whole("over_unmasking", &rule::STEP_UNMASKED, over_unmasking),
        whole("over_masking", &rule::STEP_MASKED, |cx| over_at(cx, El::El1, &MASKING, 0)),
        whole("over_hypervisor_call", &rule::STEP_CALL, |cx| over_call(cx, &["hvc #0"])),
        whole("over_secure_monitor_call", &rule::STEP_CALL, over_secure_monitor_call),
        whole("over_undefined_access", &rule::STEP_UNDEFINED, over_undefined_access),
        whole("over_wait", &rule::STEP_WAIT, over_wait),
        whole("over_store_exclusive", &rule::STEP_LOAD_EXCLUSIVE, |cx| {
            over(cx, &["ldxr; nop; stxr", "ldxr; clrex; stxr"], TARGET)
        }),
        whole("over_memory_set_and_copy", &rule::MOVE_GOES_ON, over_memory_set_and_copy),
        whole("over_aborting_access", &rule::ABORT_FIRST, over_aborting_access),
        whole("over_watched_access", &rule::STEP_EXCEPTION, over_watched_access),
        whole("on_a_breakpoint", &rule::PRIORITY, |cx| {
            beside_breakpoint(cx, [marker(HERE), access_code(LDR), BRK])
        }),
        whole("before_a_breakpoint", &rule::PRIORITY, |cx| {
            beside_breakpoint(cx, [marker(HERE) + 4, access_code(LDR) + 4, BRK + 4])
        }),
        whole("breakpoint_on_the_last_instruction", &rule::PRIORITY, |cx| beside_breakpoint(cx, [RETURN])),
    ]
}

/// The exception return leaves a Software Step exception pending.
const PENDING: Entry = Entry::Return { ss: false, steps: 1 };

/// The marker is entered to be stepped this many times, and is: first its NOP, then its RET.
fn steps(scenario: Scenario, count: u8) -> Scenario {
    scenario.entered(Entry::stepped(count)).exec(HERE).takes_steps(count.into())
}

/// The marker is entered to be stepped this many times, and is not.
fn is_not_stepped(scenario: Scenario, count: u8) -> Scenario {
    scenario.entered(Entry::stepped(count)).exec(HERE).nothing()
}

fn on(el: El) -> Scenario {
    with(el, STEP)
}

/// What follows is executed at `el`, with PSTATE.D clear and MDSCR_EL1 written.
fn with(el: El, mdscr: Mdscr) -> Scenario {
    Scenario::new().unmask().enable(mdscr).at(el).isb()
}

/// Each access, entered to be stepped and with a step pending.
fn each_access(cx: &mut Context<'_>, names: &[&str]) -> Result<(), Stop> {
    for el in LEVELS {
        for access in names.iter().map(|name| Access::named(name)) {
            for entry in [Entry::stepped(1), Entry::stepped(2), PENDING] {
                cx.check(&on(el).entered(entry).access(access, TARGET))?;
            }
        }
    }
    Ok(())
}

/// Pieces that set PSTATE.D.
const MASKING: [&str; 2] = ["msr daifset, #8", "msr daifset, #8; msr daifclr, #8"];
/// A function of the SMC Calling Convention that nothing implements: a 64-bit fast call of a SiP service.
const NO_FUNCTION: u64 = 0xc200_ffff;

/// How a piece of code is entered: to be stepped a given number of times, with a step pending, or neither.
fn entries() -> impl Iterator<Item = Entry> {
    let pending = [0, 1, 3].map(|steps| Entry::Return { ss: false, steps });
    (1..=4).chain([9]).map(Entry::stepped).chain(pending)
}

/// Pieces of code, stepped, at both Exception levels. They also run without being stepped, and with a
/// breakpoint on their RET.
fn over(cx: &mut Context<'_>, names: &[&str], x0: u64) -> Result<(), Stop> {
    LEVELS.into_iter().try_for_each(|el| over_at(cx, el, names, x0))
}

fn over_at(cx: &mut Context<'_>, el: El, names: &[&str], x0: u64) -> Result<(), Stop> {
    let after = ADDRESS.with_pmc(PMC_EL1_EL0);
    cx.check_each(pieces(names).flat_map(|piece| {
        let not_stepped = with(el, ALL_ON.with_ss(false)).entered(Entry::Return { ss: true, steps: 1 });
        let stepped = entries().flat_map(move |entry| {
            let set = with(el, ALL_ON).entered(entry);
            let break_after = set.clone().breakpoint_at(0, sequence_ret(piece), after);
            [set, break_after].map(|set| set.run(piece, x0))
        });
        stepped.chain([not_stepped.run(piece, x0)])
    }))
}

fn pieces(names: &[&str]) -> impl Iterator<Item = &'static Sequence> {
    sequence::TABLE.iter().filter(|piece| names.contains(&piece.name))
}

/// Pieces of code, stepped, that make calls that KVM answers.
fn over_call(cx: &mut Context<'_>, names: &[&str]) -> Result<(), Stop> {
    if cx.host().is_bare() {
        return Stop::skip("needs KVM, and this is a bare CPU");
    }
    over(cx, names, NO_FUNCTION)
}

/// Pieces of code that may be trapped to EL1, which then takes one step less. With these entries stepping
/// ends or continues in the same way with and without the trap.
fn over_trapped(cx: &mut Context<'_>, el: El, names: &[&str], x0: u64) -> Result<(), Stop> {
    cx.check_each(pieces(names).flat_map(|piece| {
        [Entry::stepped(1), Entry::stepped(9), PENDING]
            .map(|entry| with(el, ALL_ON).entered(entry).run(piece, x0))
    }))
}

/// An SMC. It may be UNDEFINED, which is taken to EL1, unless KVM traps it on every PE.
fn over_secure_monitor_call(cx: &mut Context<'_>) -> Result<(), Stop> {
    const SMC: [&str; 1] = ["smc #0"];
    if cx.shape().traps_smc() || cx.host().is_bare() {
        return over_call(cx, &SMC);
    }
    over_trapped(cx, El::El1, &SMC, NO_FUNCTION)?;
    over_at(cx, El::El0, &SMC, NO_FUNCTION)
}

/// An access that KVM makes UNDEFINED, because the VM has no PMU.
fn over_undefined_access(cx: &mut Context<'_>) -> Result<(), Stop> {
    const READ: [&str; 1] = ["mrs x1, pmcr_el0"];
    if cx.host().is_bare() {
        return Stop::skip("needs KVM, and this is a bare CPU");
    }
    over_at(cx, El::El1, &READ, 0)?;
    cx.check_each(pieces(&READ).flat_map(|piece| entries().map(move |entry| masked(entry).run(piece, 0))))
}

/// WFI and WFE when what they wait for has already happened.
fn over_wait(cx: &mut Context<'_>) -> Result<(), Stop> {
    const WAITS: [&str; 2] = ["wfi", "sevl; wfe"];
    over_at(cx, El::El1, &WAITS, 0)?;
    over_trapped(cx, El::El0, &WAITS, 0)
}

/// An exception return to these states, with SPSR_EL1.SS set and clear, from a state in which software step
/// is active and from one in which PSTATE.D masks it.
fn over_return<const N: usize>(cx: &mut Context<'_>, states: [u64; N]) -> Result<(), Stop> {
    const PIECE: &str = "msr spsr_el1, x0; eret";
    for state in
        states.into_iter().map(|state| pstate::AIF | state).flat_map(|state| [state, state | pstate::SS])
    {
        over(cx, &[PIECE], state)?;
        let masked = entries().map(masked);
        cx.check_each(
            masked.flat_map(|set| pieces(&[PIECE]).map(move |piece| set.clone().run(piece, state))),
        )?;
    }
    Ok(())
}

/// An exception return that returns to itself, as often as it is stepped.
fn over_return_to_itself(cx: &mut Context<'_>) -> Result<(), Stop> {
    cx.check_each(pieces(&["eret"]).flat_map(|piece| {
        [1, 2, 9].into_iter().flat_map(move |steps| {
            LEVELS.map(|el| with(el, ALL_ON).entered(Entry::stepped(steps)).run(piece, 0))
        })
    }))
}

/// At EL1 with PSTATE.D set, which keeps software step inactive.
fn masked(entry: Entry) -> Scenario {
    on(El::El1).mask().entered(entry)
}

/// The code itself clears PSTATE.D, or sets it where it is already set, or changes it at EL0, where that is
/// trapped.
fn over_unmasking(cx: &mut Context<'_>) -> Result<(), Stop> {
    over(cx, &["msr daifclr, #8"], 0)?;
    over_at(cx, El::El0, &MASKING, 0)?;
    let all = sequence::TABLE.iter().filter(|piece| piece.name.starts_with("msr daif"));
    cx.check_each(all.flat_map(|piece| entries().map(move |entry| masked(entry).run(piece, 0))))
}

/// Accesses that fault at stage 1, watched and not.
fn over_aborting_access(cx: &mut Context<'_>) -> Result<(), Stop> {
    for el in LEVELS {
        for (access, page) in
            [("ldr x1", UNMAPPED), ("str x1", UNMAPPED), ("str x1", READ_ONLY), ("ldr x1", PRIVILEGED)]
        {
            for entry in entries() {
                let access = Access::named(access);
                let set = with(el, ALL_ON).entered(entry);
                cx.check(&set.clone().access(access, page))?;
                cx.check(&set.watchpoint(0, page, DOUBLEWORD).access(access, page))?;
            }
        }
    }
    Ok(())
}

/// Each of the three instructions that set or copy memory is a step, watched and not.
fn over_memory_set_and_copy(cx: &mut Context<'_>) -> Result<(), Stop> {
    const WATCHED: u64 = TARGET + 0x18;
    cx.needs(Feature::Mops)?;
    let stores = DOUBLEWORD.with_lsc(LSC_STORE);
    cx.check_each(sequence::TABLE.iter().filter(|piece| piece.moves.is_some()).flat_map(|piece| {
        LEVELS.into_iter().flat_map(move |el| {
            entries().flat_map(move |entry| {
                let set = with(el, ALL_ON).entered(entry);
                [set.clone(), set.watchpoint(0, WATCHED, stores)].map(|set| set.run(piece, TARGET))
            })
        })
    }))
}

/// A watchpoint on the memory that is accessed. Its exception is taken instead of the step, and the return
/// from it steps again.
fn over_watched_access(cx: &mut Context<'_>) -> Result<(), Stop> {
    for n in 0..cx.shape().watchpoints {
        for el in LEVELS {
            for access in ["ldr x1", "str x1"].map(Access::named) {
                for entry in [Entry::stepped(1), Entry::stepped(2), PENDING] {
                    let watched = with(el, ALL_ON).watchpoint(n, TARGET, DOUBLEWORD);
                    cx.check(&watched.entered(entry).access(access, TARGET))?;
                }
            }
        }
    }
    Ok(())
}

/// A breakpoint at each address while a marker, an access and BRK are stepped.
fn beside_breakpoint<const N: usize>(cx: &mut Context<'_>, addresses: [u64; N]) -> Result<(), Stop> {
    let control = ADDRESS.with_pmc(PMC_EL1_EL0);
    for n in cx.shape().breakpoint_numbers() {
        for el in LEVELS {
            for entry in [Entry::stepped(1), Entry::stepped(3), PENDING] {
                for address in addresses {
                    let set = with(el, ALL_ON).breakpoint_at(n, address, control).entered(entry);
                    cx.check(&set.clone().exec(HERE))?;
                    cx.check(&set.clone().access(LDR, TARGET))?;
                    cx.check(&set.brk())?;
                }
            }
        }
    }
    Ok(())
}
