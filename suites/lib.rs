// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The suites: what is tested, not how it is run.

use dfr0_runner::case::Suite;

pub mod aarch32;
pub mod breakpoints;
pub mod double_lock;
pub mod exception_masking;
pub mod guest_debug;
pub mod id_regs;
pub mod linked_context;
pub mod migration;
pub mod migration_hosts;
pub mod os_lock;
pub mod preemption;
pub mod random;
pub mod register_access;
pub mod shapes;
pub mod software_step;
pub mod watchpoints;

/// All suites, in the order in which they run.
pub const ALL: [Suite; 15] = [
    id_regs::SUITE,
    register_access::SUITE,
    breakpoints::SUITE,
    watchpoints::SUITE,
    linked_context::SUITE,
    software_step::SUITE,
    exception_masking::SUITE,
    os_lock::SUITE,
    double_lock::SUITE,
    aarch32::SUITE,
    shapes::SUITE,
    guest_debug::SUITE,
    preemption::SUITE,
    migration::SUITE,
    random::SUITE,
];

#[cfg(test)]
mod coverage;

#[cfg(test)]
mod tests {
    use super::ALL;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_dotted_lower_case_unique_and_start_with_their_suite() {
        let mut seen = BTreeSet::new();
        for suite in ALL {
            for case in (suite.cases)() {
                let name = case.name;
                let parts: Vec<&str> = name.split('.').collect();
                assert_eq!(parts[0], suite.name, "{name}");
                assert!(parts.len() > 1 && parts.iter().all(|part| !part.is_empty()), "{name}");
                assert!(name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '.')), "{name}");
                assert!(seen.insert(name.clone()), "there are two cases {name}");
            }
        }
    }
}
