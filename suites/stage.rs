// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The stage on which all suites play: where breakpoints and watchpoints are set, what "on" is, and who accesses what is
//! watched. A suite that needs another stage says so with a name of its own.

use dfr0_model::{
    access::Access,
    control::{Dbgbcr, Dbgwcr, Mdscr},
    guest_debug::{ENABLE, GuestDebug},
    scenario::{El, Entry, Scenario},
    wire::{TARGET, TARGET_SIZE, marker},
};

/// The marker that a breakpoint is set on; the numbers before and after it are its neighbours.
pub const HERE: u8 = 1;
/// The doubleword that a watchpoint is set on, in the middle of the target memory.
pub const WATCHED: u64 = TARGET + TARGET_SIZE / 2;
/// A value of CONTEXTIDR_EL1.
pub const CONTEXT: u64 = 0x5a5a_1234;

/// Breakpoints and watchpoints are enabled, also at EL1: MDE and KDE.
pub const ON: Mdscr = Mdscr::breakpoints_at_el1();
/// Software step is enabled, also at EL1: SS and KDE.
pub const STEP: Mdscr = Mdscr::DEFAULT.with_ss(true).with_kde(true);

/// DBGBCR of an enabled breakpoint on an instruction that EL1 executes.
pub const ADDRESS: Dbgbcr = Dbgbcr::address_at_el1();
/// DBGWCR of an enabled watchpoint on a doubleword that EL1 or EL0 loads or stores.
pub const DOUBLEWORD: Dbgwcr = Dbgwcr::doubleword();

/// A load of a doubleword.
pub const LDR: &Access = Access::named("ldr x1");
/// A store of a doubleword.
pub const STR: &Access = Access::named("str x1");

/// The Exception levels of a guest.
pub const LEVELS: [El; 2] = [El::El0, El::El1];
/// An exception return enters the code and nothing is stepped, so that a breakpoint that may match anywhere does not
/// match an instruction of the payload itself.
pub const BY_RETURN: Entry = Entry::Return { ss: false, steps: 0 };

/// OSLSR_EL1 while the OS Lock is locked.
pub const LOCKED: u64 = 0b1010;
/// OSLSR_EL1 while the OS Lock is unlocked.
pub const UNLOCKED: u64 = 0b1000;

/// Userspace debugs the guest and asks for no exits.
pub const DEBUGGER: GuestDebug = GuestDebug::new(ENABLE);

/// Breakpoint `n` on marker [`HERE`] at EL1, with nothing that masks it.
pub fn armed(n: u8) -> Scenario {
    armed_at(n, marker(HERE))
}

/// Breakpoint `n` on this address at EL1, with nothing that masks it.
pub fn armed_at(n: u8, address: u64) -> Scenario {
    Scenario::new().unmask().breakpoint_at(n, address, ADDRESS).enable(ON)
}

/// Watchpoint `n` on the doubleword [`WATCHED`], with nothing that masks it.
pub fn watching(n: u8) -> Scenario {
    watching_with(n, DOUBLEWORD)
}

/// Watchpoint `n` on [`WATCHED`] with this control, and nothing that masks it.
pub fn watching_with(n: u8, control: Dbgwcr) -> Scenario {
    Scenario::new().unmask().watchpoint(n, WATCHED, control).enable(ON)
}
