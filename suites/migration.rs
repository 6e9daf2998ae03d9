// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The guest's suites while userspace moves the vCPU from VM to VM, after each operation of a scenario. The
//! guest takes the same exceptions and reads the same values as without the moves.

use crate::{
    BREAKPOINTS, DOUBLE_LOCK, EXCEPTION_MASKING, GUEST_DEBUG, LINKED_CONTEXT, OS_LOCK, REGISTER_ACCESS,
    SOFTWARE_STEP, WATCHPOINTS, shapes,
    stage::{ADDRESS, BY_RETURN, DOUBLEWORD, HERE, LOCKED, ON, STEP, STR},
};
use dfr0_model::{
    claim::Claim,
    control::Dbgbcr,
    rule,
    scenario::{Entry, Migrate, Op, Passage, Scenario},
    sysreg::OSLSR_EL1,
    wire::{TARGET, access_code, passage},
};
use dfr0_runner::{
    case::{Case, Context, Stop, Suite},
    guest::Config,
};

/// The suites whose scenarios migrate.
pub(crate) const SUITES: [Suite; 9] = [
    REGISTER_ACCESS,
    BREAKPOINTS,
    WATCHPOINTS,
    LINKED_CONTEXT,
    SOFTWARE_STEP,
    EXCEPTION_MASKING,
    OS_LOCK,
    DOUBLE_LOCK,
    GUEST_DEBUG,
];

/// The cases whose vCPU moves.
fn movable() -> impl Iterator<Item = Case> {
    let cases = SUITES.into_iter().flat_map(|suite| suite.cases());
    cases.filter(|case| case.why_it_stays().is_none())
}

pub fn cases() -> Vec<Case> {
    let in_code = |name: &str, scenarios: fn(Migrate) -> Vec<Scenario>| {
        Case::new(name, &rule::MIGRATION, move |cx| {
            if cx.host().is_bare() {
                return Stop::skip("there is no userspace that a store could exit to");
            }
            cx.check_each(Migrate::ALL.into_iter().flat_map(scenarios))
        })
        .within("in_code")
    };
    let os_lock_held = Case::new("os_lock_held", &rule::MIGRATION, |cx| {
        cx.check_each(Migrate::ALL.into_iter().map(locked_while_it_moves))
    });
    let into_another_shape = Case::new("into_another_shape", &rule::MIGRATION, into_another_shape);
    movable()
        .map(migrating)
        .chain([
            os_lock_held,
            into_another_shape,
            in_code("between_steps", between_steps),
            in_code("before_a_breakpoint", |to| at_the_return(to, ADDRESS, Claim::Breakpoint)),
            in_code("before_a_disabled_breakpoint", |to| {
                at_the_return(to, ADDRESS.with_e(false), Claim::Nothing)
            }),
            in_code("before_a_watched_access", |to| {
                let watched = Scenario::new().watchpoint(0, TARGET, DOUBLEWORD).unmask().enable(ON);
                vec![watched.passes(Passage::Migrate(to)).nothing().store(TARGET).takes_watchpoint()]
            }),
            in_code("by_a_watched_store", |to| {
                let watched = Scenario::new().watchpoint(0, passage(Passage::Migrate(to)), DOUBLEWORD);
                let both = watched.watchpoint(1, TARGET, DOUBLEWORD).unmask().enable(ON);
                let moved = both.passes(Passage::Migrate(to)).may(&Claim::Watchpoint);
                vec![moved.store(TARGET).takes_watchpoint()]
            })
            .and(&[&rule::WATCHPOINT_AFTER_TRANSLATION]),
        ])
        .collect()
}

/// The vCPU moves into VMs to which userspace has given another shape. Afterwards they have the guest's
/// shape.
fn into_another_shape(cx: &mut Context<'_>) -> Result<(), Stop> {
    const CASES: [&str; 3] =
        ["breakpoints.fires", "watchpoints.fires", "linked_context.breakpoint.fires_in_its_context"];
    let mut shapes = shapes::ask(cx)?;
    if shapes.is_empty() {
        return Stop::skip("this kernel does not let userspace change a VM's shape");
    }
    shapes.push(cx.host().id_aa64dfr0);
    let cases: Vec<Case> = [BREAKPOINTS, WATCHPOINTS, LINKED_CONTEXT]
        .into_iter()
        .flat_map(|suite| suite.cases())
        .filter(|case| CASES.contains(&case.name.as_str()))
        .collect();
    let moves = shapes.iter().zip(shapes.iter().cycle().skip(1)).zip(cases.iter().cycle());
    cx.each(moves, |cx, ((own, other), case)| {
        let config = Config { id_aa64dfr0: Some(*own), migrates_into: Some(*other), ..Config::default() };
        cx.run_moving_into(config, case)
    })
}

/// Armed, locked, moved, unlocked. The registers that are restored before and after OSLSR_EL1 change neither
/// the lock nor each other.
fn locked_while_it_moves(to: Migrate) -> Scenario {
    let set = Scenario::new().unmask().enable(ON);
    let armed = set.breakpoint(0, HERE, ADDRESS).watchpoint(0, TARGET, DOUBLEWORD);
    let moved = armed.lock().isb().then(Op::Migrate(to));
    let held = moved.exec(HERE).nothing().store(TARGET).nothing().read(OSLSR_EL1).reads(LOCKED);
    held.unlock().isb().exec(HERE).takes_breakpoint().store(TARGET).takes_watchpoint()
}

/// The guest steps the store that migrates it. The step ends in the VM in which the guest continues.
fn between_steps(to: Migrate) -> Vec<Scenario> {
    let pending = Entry::Return { ss: false, steps: 1 };
    let stepped = |(entry, steps)| {
        let moved = Scenario::new()
            .unmask()
            .enable(STEP)
            .entered(entry)
            .passes(Passage::Migrate(to))
            .takes_steps(steps);
        moved.enable(STEP).store(TARGET).takes_steps(steps)
    };
    [(Entry::stepped(1), 1), (Entry::stepped(2), 2), (pending, 1)].map(stepped).into()
}

/// A breakpoint on the instruction after the store: the guest moves, and there this happens.
fn at_the_return(to: Migrate, control: Dbgbcr, claim: Claim) -> Vec<Scenario> {
    let set = Scenario::new().unmask().enable(ON);
    let set = set.breakpoint_at(0, access_code(STR) + 4, control).entered(BY_RETURN);
    vec![set.passes(Passage::Migrate(to)).claim(claim).store(TARGET).claim(claim)]
}

/// With which operation and which way to migrate a case begins follows from its name.
fn migrating(case: Case) -> Case {
    Case::new(case.name.clone(), &rule::MIGRATION, move |cx| {
        if cx.run_moving(&case)? { Ok(()) } else { Stop::skip("no scenario of this case runs a guest") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfr0_runner::effort::Effort;

    #[test]
    fn each_way_to_migrate_comes_first_in_about_as_many_cases_as_any_other() {
        let sample = Effort { every: 2, ..Effort::default() };
        let [all, sampled] = [Effort::default(), sample].map(|effort| {
            let cases = movable().filter(|case| effort.moving(case.turn()).is_ok());
            cases.map(|case| case.turn() % Migrate::ALL.len()).collect::<Vec<_>>()
        });
        assert_eq!(all.len(), movable().count());
        assert!((all.len() / 5..all.len() / 3).contains(&sampled.len()), "{}", sampled.len());
        for ways in [all, sampled] {
            let mean = ways.len() / Migrate::ALL.len();
            let cases = |way| ways.iter().filter(|first| **first == way).count();
            let cases = (0..Migrate::ALL.len()).map(cases).collect::<Vec<_>>();
            assert!(cases.iter().all(|cases| (mean / 2..=mean * 2).contains(cases)), "{cases:?}");
        }
    }
}
