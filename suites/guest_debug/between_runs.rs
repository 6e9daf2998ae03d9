// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What lives between two KVM_RUNs: what KVM has told userspace of the last exit, a step of userspace's that is pending,
//! and the guest's own software step while userspace steps it.

use crate::{
    forms::{whole, within},
    stage::{BY_RETURN, HERE, STEP, WATCHED},
};
use dfr0_model::{
    claim::Claim,
    control::Mdscr,
    guest_debug::{ENABLE, GuestDebug, SINGLESTEP, USE_SW_BP, VALID},
    id_write::EINTR,
    pstate::{EL1H_MASKED, SS},
    rule::{self, Rule},
    scenario::{Entry, Passage, Scenario},
    vmm::{Features, RunField, StepState::Pstate},
    wire::MARKER_COUNT,
};
use dfr0_runner::case::{Case, Context, Stop};

const STEPS: GuestDebug = GuestDebug::new(ENABLE | SINGLESTEP);

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![whole("control_bits", &rule::GUEST_DEBUG_BITS, control_bits)];
    cases.extend(within("exit_fields", exit_fields()));
    cases.extend(within("pending_step", pending_steps()));
    cases.extend(within("guests_step", guests_steps()));
    cases
}

/// KVM accepts each set of the bits that the capability reports, and reports that it has the ioctl.
fn control_bits(cx: &mut Context<'_>) -> Result<(), Stop> {
    const NAME: &str = "KVM_CAP_SET_GUEST_DEBUG2";
    if cx.host().is_bare() {
        return Stop::skip("needs KVM, and this is a bare CPU");
    }
    let says = cx.host().capabilities.kvm_cap_set_guest_debug2;
    cx.count();
    if says != VALID as i32 {
        cx.find(
            format!("{NAME} does not report the bits that KVM_SET_GUEST_DEBUG accepts"),
            format!("{NAME} is {says:#x}, and KVM_SET_GUEST_DEBUG accepts {VALID:#x}"),
        );
    }
    cx.count();
    if cx.host().capabilities.kvm_cap_set_guest_debug == 0 {
        cx.find(
            "KVM_CAP_SET_GUEST_DEBUG says that there is no KVM_SET_GUEST_DEBUG".into(),
            format!("KVM_CAP_SET_GUEST_DEBUG is 0, and KVM_SET_GUEST_DEBUG accepts {VALID:#x}"),
        );
    }
    let bits = (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| VALID & bit != 0);
    let sets = bits.fold(vec![0], |sets, bit| sets.iter().flat_map(|set| [*set, set | bit]).collect());
    cx.check(&Scenario::new().each(sets, |scenario, set| {
        scenario.userspace_debugs(GuestDebug::new(set)).accepted().userspace_stops().accepted()
    }))
}

/// Each kind of KVM_EXIT_DEBUG, and an exit of another kind after it.
fn exit_fields() -> Vec<Case> {
    let of = |name, exits: fn(Scenario) -> Scenario| {
        Case::new(name, &rule::GUEST_DEBUG_EXIT_FIELDS, move |cx| {
            let told = |scenario: Scenario| {
                let flag = scenario.run_field(RunField::DebugFlags).reads(RunField::HSR_HIGH_VALID);
                flag.run_field(RunField::HsrHigh).reads(0).run_field(RunField::Flags).reads(0)
            };
            let before =
                Scenario::vm(Features::None).exec(HERE).nothing().run_field(RunField::Flags).reads(0);
            let once = told(exits(before));
            cx.check_vm(&told(exits(once.userspace_stops().exec(HERE).nothing())))
        })
        .with_own_vms()
    };
    vec![
        of("breakpoint", |scenario| {
            scenario.userspace_debugs(GuestDebug::breakpoint(0, HERE)).exec(HERE).exits()
        }),
        of("watchpoint", |scenario| {
            let watched = scenario.userspace_debugs(GuestDebug::watchpoint(0, WATCHED));
            watched.load_and_store(WATCHED, Claim::Exit)
        }),
        of("brk", |scenario| scenario.userspace_debugs(GuestDebug::new(ENABLE | USE_SW_BP)).brk().exits()),
        of("step", |scenario| super::stepped(scenario.userspace_debugs(STEPS), HERE)),
    ]
}

/// The guest's store ends KVM_RUN while userspace steps it. KVM_RUN with `immediate_exit` completes the store, and that
/// ends the step.
fn pending_steps() -> Vec<Case> {
    const PENDING: &Rule = &rule::GUEST_DEBUG_STEP_PENDING;
    const FORGOTTEN: &Rule = &rule::GUEST_DEBUG_STEP_FORGOTTEN;
    vec![
        in_code("is_reported", PENDING, || {
            let reported = |scenario: Scenario| scenario.passes(Passage::Complete).exits().exits();
            let twice = reported(reported(Scenario::new().userspace_debugs(STEPS)));
            let between = reported(super::stepped(twice, HERE).exit());
            super::stepped(between, HERE).userspace_stops().passes(Passage::Complete).nothing()
        }),
        in_code_each("is_reported_whatever_the_guest_masks", PENDING, || {
            super::mdscr_values().map(|mdscr| {
                Scenario::new().userspace_debugs(STEPS).each([true, false], |scenario, d| {
                    let masked = scenario.pstate_d(d).enable(mdscr);
                    masked.passes(Passage::Complete).exits().exits()
                })
            })
        }),
        in_code("is_reported_after_the_same_request", PENDING, || {
            let again = Scenario::new().userspace_debugs(STEPS).passes(Passage::Steps).exits().exits();
            super::stepped(again, HERE).userspace_stops().exec(HERE).nothing()
        }),
        in_code("is_not_there_before_the_first_step", FORGOTTEN, || {
            let others = [GuestDebug::OFF, GuestDebug::new(ENABLE), GuestDebug::new(ENABLE | USE_SW_BP)];
            Scenario::new().each(others, |scenario, debug| {
                let exited = scenario.userspace_debugs(debug).exec(HERE).nothing().exit();
                let begun = exited.passes(Passage::Complete).nothing().passes(Passage::Steps).nothing();
                super::stepped(begun, HERE).userspace_stops().exec(HERE).nothing()
            })
        }),
        in_code("is_forgotten_without_debugging", FORGOTTEN, || forgotten(Passage::DebugOff)),
        in_code("is_forgotten_without_steps", FORGOTTEN, || forgotten(Passage::DebugOn)),
    ]
}

/// A step is pending when userspace stops stepping. Userspace steps again later, again in the middle of code.
fn forgotten(by: Passage) -> Scenario {
    let stopped = Scenario::new().userspace_debugs(STEPS).passes(by).exits().exec(HERE).nothing();
    let again = stopped.passes(Passage::Steps).nothing();
    super::stepped(again, HERE).userspace_stops().exec(HERE).nothing()
}

fn guests_steps() -> Vec<Case> {
    const KEEPS: &Rule = &rule::GUEST_DEBUG_KEEPS_STEP;
    let pstate = |name, scenario: fn(u64) -> Scenario| {
        Case::new(name, KEEPS, move |cx| {
            [EL1H_MASKED, EL1H_MASKED | SS].into_iter().try_for_each(|pstate| cx.check_vm(&scenario(pstate)))
        })
        .with_own_vms()
    };
    vec![
        pstate("pstate_under_steps", |pstate| {
            let set = Scenario::vm(Features::None).sets_state(Pstate, pstate);
            let both = [pstate, pstate ^ SS, pstate];
            set.userspace_debugs(STEPS).each(both, |scenario, pstate| {
                // Nothing is executed.
                let entered = scenario.sets_state(Pstate, pstate).enters_and_leaves().refused(EINTR);
                let read = entered.gets_state(Pstate).reads(pstate).enters_and_leaves().refused(EINTR);
                read.gets_state(Pstate).reads(pstate)
            })
        }),
        pstate("pstate_after_steps", |pstate| {
            let set = Scenario::vm(Features::None).sets_state(Pstate, pstate).userspace_debugs(STEPS);
            let stopped = set.enters_and_leaves().refused(EINTR).userspace_stops();
            let read = stopped.gets_state(Pstate).reads(pstate).enters_and_leaves().refused(EINTR);
            read.gets_state(Pstate).reads(pstate)
        }),
        Case::new("pstate_of_a_stepped_guest", KEEPS, |cx| {
            let stepped = Scenario::vm(Features::None).userspace_debugs(STEPS);
            let read = stepped.each(0..MARKER_COUNT, |scenario, marker| {
                super::stepped(scenario, marker).gets_state(Pstate)
            });
            cx.check_vm(&read.userspace_stops().gets_state(Pstate).exec(HERE).nothing().gets_state(Pstate))
        })
        .with_own_vms(),
        in_code("is_taken_after_userspace_steps_nothing", KEEPS, || {
            let pending = Entry::Return { ss: false, steps: 1 };
            let ways = [(Entry::stepped(1), 1), (Entry::stepped(2), 2), (pending, 1)];
            Scenario::new().unmask().each(ways, |scenario, (entry, steps)| {
                let entered = scenario.enable(STEP).entered(entry);
                entered.passes(Passage::StepsNothing).takes_steps(steps)
            })
        }),
        in_code("is_taken_after_userspace_steps_one", KEEPS, || {
            let enabled = Scenario::new().unmask().each(0..2, |scenario, _| {
                let stepped = scenario.enable(STEP).entered(Entry::stepped(1));
                stepped.passes(Passage::StepsOne).exits().takes_steps(1)
            });
            let off = enabled.entered(BY_RETURN).passes(Passage::StepsOne).exits();
            off.entered(Entry::Call).exec(HERE).nothing()
        }),
        in_code("is_taken_after_userspace_stepped", KEEPS, || {
            let stepped = Scenario::new().unmask().userspace_debugs(STEPS);
            let stepped = super::stepped(stepped.enable(STEP.with_kde(false)), HERE).userspace_stops();
            let own = stepped.enable(STEP).entered(Entry::stepped(2)).exec(HERE).takes_steps(2);
            own.entered(Entry::Call).enable(Mdscr::DEFAULT).exec(HERE).nothing()
        }),
    ]
}

/// A case whose guest exits in the middle of code.
fn in_code(name: &str, rule: &'static Rule, scenario: fn() -> Scenario) -> Case {
    in_code_each(name, rule, move || [scenario()])
}

/// Such a case with several scenarios.
fn in_code_each<S: IntoIterator<Item = Scenario>>(
    name: &str,
    rule: &'static Rule,
    scenarios: impl Fn() -> S + Send + Sync + 'static,
) -> Case {
    Case::new(name, rule, move |cx| match cx.host().is_bare() {
        true => Stop::skip("there is no userspace that a store could exit to"),
        false => cx.check_each(scenarios()),
    })
}
