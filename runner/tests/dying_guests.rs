// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A guest that hangs or jumps away is one failed case with the guest's registers, and the next case runs.

#![cfg(target_arch = "aarch64")]

use dfr0_model::{
    control::{Dbgbcr, Mdscr},
    guest_debug::{ENABLE, GuestDebug, SINGLESTEP},
    rule,
    scenario::{Op, Scenario},
    sysreg::{self, VBAR_EL1},
    wire,
};
use dfr0_runner::{
    case::{Case, Report, Session, Stop},
    guest::{Death, Error},
    run::run_case,
};
use std::time::Duration;

/// VBAR_EL1.
/// How long a guest hangs in these tests.
const DEADLINE: Duration = Duration::from_secs(2);

fn session() -> Session {
    Session::open(DEADLINE).expect("KVM works")
}

fn death(report: &Report) -> &Death {
    match &report.stopped {
        Some(Stop::Broken(Error::Died(death))) => death,
        other => panic!("the guest is alive: {other:?}"),
    }
}

fn register(death: &Death, name: &str) -> u64 {
    let found = death.registers.iter().find(|(register, _)| register == name);
    found.unwrap_or_else(|| panic!("no {name} in {death}")).1
}

/// Runs `scenario` without judging it.
fn run(session: &mut Session, scenario: &Scenario) -> Report {
    let scenario = scenario.clone();
    let case = Case::new("test.dies", &rule::MDE, move |cx| {
        cx.new_guest()?.events(&scenario)?;
        Ok(())
    });
    run_case(&case, session)
}

/// Breakpoint 0 at `address`, and marker 1 is called.
fn breakpoint_at(address: u64) -> Scenario {
    Scenario::new()
        .then(Op::MaskDebug(false))
        .breakpoint_at(0, address, Dbgbcr::address_at_el1())
        .enable(Mdscr::breakpoints_at_el1())
        .exec(1)
}

/// Its vectors are where nothing is mapped: the first exception never ends.
fn hang() -> Scenario {
    Scenario::new().then(Op::KvmSet { reg: VBAR_EL1, value: 0 }).append(breakpoint_at(wire::marker(1)))
}

fn fires(session: &mut Session) -> Report {
    let case =
        Case::new("test.lives", &rule::BREAKPOINT_MATCHES, |cx| cx.check(&breakpoint_at(wire::marker(1))));
    run_case(&case, session)
}

#[test]
fn a_hung_guest_ends_at_its_deadline_and_the_next_case_runs() {
    let mut session = session();
    let report = run(&mut session, &hang());
    let death = death(&report);
    assert!(death.reason.contains("did not come back within 2s"), "{death}");
    assert_eq!(register(death, "VBAR_EL1"), 0);
    assert_eq!(register(death, "PC") & !0x7ff, 0, "it is in its vectors: {death}");
    let next = fires(&mut session);
    assert!(next.stopped.is_none() && next.findings.is_empty() && next.checks == 1, "{next:?}");
}

/// A guest that userspace steps leaves KVM_RUN all the time, but this does not mean that it came back.
#[test]
fn a_guest_that_hangs_while_it_is_stepped_ends_at_its_deadline() {
    let undefined = Op::Write { reg: sysreg::ID_AA64DFR0_EL1, value: 0 };
    let scenario = Scenario::new()
        .then(Op::KvmSet { reg: VBAR_EL1, value: 0 })
        .then(Op::Debug(GuestDebug::new(ENABLE | SINGLESTEP)))
        .then(undefined);
    let report = run(&mut session(), &scenario);
    let death = death(&report);
    assert!(death.reason.contains("did not come back within 2s"), "{death}");
    assert_eq!(register(death, "PC") & !0x7ff, 0, "it is in its vectors: {death}");
}

#[test]
fn a_guest_that_takes_an_exception_outside_of_the_markers_says_where() {
    let mut session = session();
    let report = run(&mut session, &hang());
    let after_the_call = register(death(&report), "X30");
    let report = run(&mut session, &breakpoint_at(after_the_call));
    let death = death(&report);
    assert!(death.reason.contains("lost after operation 5: Breakpoint exception"), "{death}");
    assert_eq!(register(death, "ELR_EL1"), after_the_call);
}

#[test]
fn a_register_that_kvm_does_not_list_is_an_error_that_names_it() {
    let report = run(&mut session(), &Scenario::new().then(Op::KvmGet { reg: sysreg::OSDLR_EL1 }));
    let message = report.stopped.expect("an error").to_string();
    assert!(message.contains("KVM_GET_ONE_REG OSDLR_EL1"), "{message}");
}

#[test]
fn a_panic_is_a_failure_of_its_case_alone() {
    let mut session = session();
    let report =
        run_case(&Case::new("test.panics", &rule::MDE, |_| panic!("as the test wants")), &mut session);
    assert!(report.stopped.is_some());
    assert!(fires(&mut session).stopped.is_none());
}
