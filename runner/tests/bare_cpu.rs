// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A guest on a bare CPU that is late is one failed case with the CPU's registers, and the next guest gets
//! the CPU after a reset.
//!
//! `make test` runs this with `lab exec --bare`.

use dfr0_model::{
    control::{Dbgbcr, Mdscr},
    rule,
    scenario::{Op, Scenario},
};
use dfr0_runner::{
    case::{Case, Report, Session, Stop},
    guest::{Config, DEADLINE, Error},
    run::run_case,
};
use std::time::Duration;

fn session() -> Session {
    Session::open(DEADLINE).expect("the bare CPU works")
}

/// Breakpoint `n` on a marker.
fn armed(n: u8, marker: u8) -> Scenario {
    let armed = Scenario::new().then(Op::MaskDebug(false)).breakpoint(n, marker, Dbgbcr::address_at_el1());
    armed.enable(Mdscr::breakpoints_at_el1())
}

fn fires(session: &mut Session) -> Report {
    let case = Case::new("test.fires", &rule::BREAKPOINT_MATCHES, |cx| {
        // No breakpoint is on marker 2, unless another guest has left one there.
        cx.check(&armed(0, 1).exec(1).exec(2))
    });
    run_case(&case, session)
}

fn passed(report: &Report) -> bool {
    report.stopped.is_none() && report.findings.is_empty() && report.checks == 1
}

#[test]
fn one_guest_after_the_other_has_the_cpu() {
    let report = fires(&mut session().allowing(Duration::from_nanos(1)));
    match &report.stopped {
        Some(Stop::Broken(Error::Died(death))) => {
            assert!(death.reason.contains("did not come back within 1ns"), "{death}");
            assert!(death.registers.iter().any(|(name, _)| name == "PC"), "{death}");
        }
        other => panic!("the guest was in time: {other:?}"),
    }

    let mut session = session();
    assert!(session.host().is_bare());
    let next = fires(&mut session);
    assert!(passed(&next), "{next:?}");

    let taken = Case::new("test.takes", &rule::BREAKPOINT_MATCHES, |cx| {
        cx.new_guest()?.events(&armed(1, 2).exec(2))?;
        Ok(())
    });
    assert!(run_case(&taken, &mut session).stopped.is_none());
    let again = fires(&mut session);
    assert!(passed(&again), "the CPU was another guest's in between: {again:?}");

    let asks = Case::new("test.asks", &rule::ID_DEFAULT_ACCEPTED, |cx| {
        cx.new_guest_of(Config { id_aa64dfr0: Some(0), ..Config::default() })?;
        Ok(())
    });
    assert!(
        matches!(run_case(&asks, &mut session).stopped, Some(Stop::Skip(why)) if why.contains("needs KVM"))
    );
}
