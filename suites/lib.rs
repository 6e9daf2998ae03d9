// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The suites: what is tested, not how it is run.

use dfr0_runner::case::Suite;

mod aarch32;
mod below_el2;
mod breakpoints;
mod double_lock;
mod exception_masking;
mod forms;
mod guest_debug;
mod id_regs;
mod linked_context;
mod migration;
pub mod migration_hosts;
mod nested;
mod os_lock;
mod preemption;
mod protected;
mod random;
mod register_access;
mod shapes;
mod software_step;
mod stage;
mod watchpoints;

/// What KVM answers when userspace rewrites debug feature registers, and what the guest then reads.
pub const ID_REGS: Suite = Suite::new("id_regs", id_regs::cases);
/// Debug registers exist up to the VM's counts, and can be read and written as they should.
pub const REGISTER_ACCESS: Suite = Suite::new("register_access", register_access::cases);
/// Every breakpoint of the host fires at EL1 when it must and only then.
pub const BREAKPOINTS: Suite = Suite::new("breakpoints", breakpoints::cases);
/// Every watchpoint of the host watches what it must and nothing else.
pub const WATCHPOINTS: Suite = Suite::new("watchpoints", watchpoints::cases);
/// A linked breakpoint or watchpoint fires in the context of its partner and in no other.
pub const LINKED_CONTEXT: Suite = Suite::new("linked_context", linked_context::cases);
/// A guest steps its own code at EL1 and EL0, one instruction at a time and only when it may.
pub const SOFTWARE_STEP: Suite = Suite::new("software_step", software_step::cases);
/// MDE, KDE, PSTATE.D, the OS Lock and the Exception level mask what they must and nothing else.
pub const EXCEPTION_MASKING: Suite = Suite::new("exception_masking", exception_masking::cases);
/// The OS Lock masks debug exceptions while it is locked, and no register loses its value.
pub const OS_LOCK: Suite = Suite::new("os_lock", os_lock::cases);
/// OSDLR_EL1 locks where FEAT_DoubleLock is implemented and is RAZ/WI where it is not.
pub const DOUBLE_LOCK: Suite = Suite::new("double_lock", double_lock::cases);
/// A guest in AArch32 reads its VM's ID registers, uses its debug registers and takes exceptions.
pub const AARCH32: Suite = Suite::new("aarch32", aarch32::cases);
/// A guest that is a hypervisor: what it traps, which debug exceptions it takes, and its own breakpoints.
pub const NESTED: Suite = Suite::new("nested", nested::cases);
/// The guest's suites at EL1 and EL0 of VMs that have EL2.
pub const BELOW_EL2: Suite = Suite::new("below_el2", below_el2::cases);
/// A protected VM: debug is hidden from its guest.
pub const PROTECTED: Suite = Suite::new("protected", protected::cases);
/// The guest has the shape that its ID register shows, in each shape that userspace may set.
pub const SHAPES: Suite = Suite::new("shapes", shapes::cases);
/// Userspace debugs the guest, and the guest keeps its own debug registers.
pub const GUEST_DEBUG: Suite = Suite::new("guest_debug", guest_debug::cases);
/// Each vCPU keeps its own debug registers, whatever runs in between and wherever it continues; and so does the host.
pub const PREEMPTION: Suite = Suite::new("preemption", preemption::cases);
/// A vCPU that is saved and restored in another VM continues as if it had not moved.
pub const MIGRATION: Suite = Suite::new("migration", migration::cases);
/// Scenarios drawn from a seed, judged and shrunk like all others.
pub const RANDOM: Suite = Suite::new("random", random::cases);

/// All suites, in the order in which they run.
pub const ALL: [Suite; 18] = [
    ID_REGS,
    REGISTER_ACCESS,
    BREAKPOINTS,
    WATCHPOINTS,
    LINKED_CONTEXT,
    SOFTWARE_STEP,
    EXCEPTION_MASKING,
    OS_LOCK,
    DOUBLE_LOCK,
    AARCH32,
    NESTED,
    BELOW_EL2,
    PROTECTED,
    SHAPES,
    GUEST_DEBUG,
    PREEMPTION,
    MIGRATION,
    RANDOM,
];

#[cfg(test)]
mod claims;
#[cfg(test)]
mod coverage;

#[cfg(test)]
mod tests {
    use super::ALL;
    use std::collections::BTreeSet;

    /// kselftest's make cannot ask the program, which it may have cross-compiled.
    #[test]
    fn the_kernels_makefiles_list_each_suite() {
        let makefile = include_str!("kselftest/programs.mk").replace("\\\n", "");
        let listed =
            makefile.lines().find_map(|line| line.strip_prefix("DFR0_SUITES := ")).expect("the list");
        let mut names = ALL.map(|suite| suite.name);
        names.sort_unstable();
        assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), names);
    }

    #[test]
    fn names_are_dotted_lower_case_unique_and_start_with_their_suite() {
        let mut seen = BTreeSet::new();
        for suite in ALL {
            for case in suite.cases() {
                let name = case.name;
                let parts: Vec<&str> = name.split('.').collect();
                assert_eq!(parts[0], suite.name, "{name}");
                assert_ne!(parts[1], suite.name, "{name} has the name of its suite twice");
                assert!(parts.len() > 1 && parts.iter().all(|part| !part.is_empty()), "{name}");
                assert!(name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '.')), "{name}");
                assert!(seen.insert(name.clone()), "there are two cases {name}");
            }
        }
    }
}
