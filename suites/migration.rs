// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The guest's suites while userspace moves the vCPU from VM to VM, behind each operation of a scenario's: what the guest
//! takes, reads and is spared is what it would have been without.

use crate::{
    breakpoints, double_lock, exception_masking, guest_debug, linked_context, os_lock, register_access,
    software_step, watchpoints,
};
use dfr0_model::rule;
use dfr0_runner::case::{Case, Moves, Stop, Suite, Variation, Which};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "migration",
    about: "a vCPU that is saved and restored in another VM goes on as if it had not moved",
    cases,
};

/// The suites whose scenarios migrate.
const SUITES: [Suite; 9] = [
    register_access::SUITE,
    breakpoints::SUITE,
    watchpoints::SUITE,
    linked_context::SUITE,
    software_step::SUITE,
    exception_masking::SUITE,
    os_lock::SUITE,
    double_lock::SUITE,
    guest_debug::SUITE,
];

/// Cases of registers that KVM keeps for no guest, and lists for no VMM.
const NOT_KEPT: [&str; 3] =
    ["register_access.claim_tags", "register_access.oseccr", "register_access.dbgauthstatus"];

/// How often a scenario moves in a run that is not thorough: to read and write a vCPU's registers takes milliseconds.
const MOVES: usize = 3;

fn cases() -> Vec<Case> {
    let is_kept = |case: &Case| !NOT_KEPT.contains(&case.name.as_str());
    let cases = SUITES.into_iter().flat_map(|suite| (suite.cases)()).filter(is_kept);
    cases.enumerate().map(|(place, case)| migrating(place, case)).collect()
}

/// The cases begin with each operation and each way in turn.
fn migrating(from: usize, case: Case) -> Case {
    Case::new(format!("migration.{}", case.name), &rule::MIGRATION, move |cx| {
        let (which, most) = if cx.is_thorough() { (Which::All, usize::MAX) } else { (Which::Few, MOVES) };
        let variation = Variation { which, migrating: Some(Moves { from, most }), ..Variation::default() };
        if cx.run_in(variation, &case)? { Ok(()) } else { Stop::skip("no scenario of it is a guest's") }
    })
}
