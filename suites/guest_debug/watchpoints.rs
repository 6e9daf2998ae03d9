// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Userspace's watchpoints, and the guest's own on the same memory.

use super::both_read;
use crate::{
    forms::{each_watchpoint as each, whole},
    stage::{DOUBLEWORD, HERE, LOCKED, ON, WATCHED},
};
use arbitrary_int::u5;
use dfr0_model::{
    access::{self, Access, Kind},
    claim::Claim::{self, Exit, Nothing, Watchpoint},
    control::{Dbgwcr, LSC_BOTH, LSC_LOAD, LSC_STORE, Mdscr, PMC_EL0, PMC_EL1},
    guest_debug::{ENABLE, GuestDebug, OnExit, SINGLESTEP, USE_HW, USE_SW_BP},
    rule::{self, Rule},
    scenario::{Op, Scenario},
    sysreg::{MDSCR_EL1, OSLSR_EL1, dbgwcr, dbgwvr},
    wire::{HIGH_TARGET, TARGET},
};
use dfr0_runner::case::{Case, Context, Stop};

/// The doubleword of the guest's own watchpoint. Userspace's is on [`WATCHED`], and its breakpoint, in cases that have
/// one, on the marker [`HERE`].
const OWN: u64 = WATCHED - 0x100;

/// The doubleword [`WATCHED`] at its other address, which has bits above [31:0].
const HIGH: u64 = WATCHED - TARGET + HIGH_TARGET;

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = userspaces();
    cases.extend(guests());
    cases
}

fn userspaces() -> Vec<Case> {
    const EXITS: &Rule = &rule::GUEST_DEBUG_WATCHPOINT_EXITS;
    vec![
        each("watchpoint_exits", EXITS, |n| {
            let exits = unarmed(n).load_and_store(WATCHED, Exit);
            let beside = exits.load_and_store(WATCHED + 8, Nothing).load_and_store(WATCHED - 8, Nothing);
            beside.load_and_store(WATCHED, Exit)
        }),
        each("watchpoint_exits_at_a_high_address", EXITS, |n| {
            let exits = Scenario::new().userspace_debugs(GuestDebug::watchpoint(n, HIGH));
            let exits = exits.load_and_store(HIGH, Exit).load_and_store(WATCHED, Nothing);
            exits.load_and_store(HIGH + 8, Nothing).load_and_store(HIGH, Exit)
        }),
        whole("all_watchpoints_exit", EXITS, |cx| {
            let count = cx.host().shape().watchpoints;
            let debugged = Scenario::new().userspace_debugs(GuestDebug::first_watchpoints(count, WATCHED));
            let all = debugged.each(0..count, |scenario, n| scenario.load_and_store(place(n), Exit));
            cx.check(&all.load_and_store(place(count), Nothing))
        }),
        each("watchpoint_disabled", &rule::WATCHPOINT_ENABLED, |n| {
            with(n, DOUBLEWORD.with_e(false)).load_and_store(WATCHED, Nothing)
        }),
        each("watchpoint_for_loads_or_stores", &rule::WATCHPOINT_LSC, |n| {
            let loads = with(n, DOUBLEWORD.with_lsc(LSC_LOAD)).load(WATCHED).exits().store(WATCHED).nothing();
            let stores =
                with(n, DOUBLEWORD.with_lsc(LSC_STORE)).load(WATCHED).nothing().store(WATCHED).exits();
            loads.append(stores)
        }),
        whole("watchpoint_exits_at_each_access", EXITS, |cx| {
            let accesses = accesses(cx)?;
            let n = cx.shape().watchpoints - 1;
            let places = |access: &Access| {
                let beside = u64::from(access.size.max(8));
                [WATCHED, WATCHED + beside, WATCHED - beside]
            };
            cx.check_each([LSC_LOAD, LSC_STORE, LSC_BOTH].into_iter().flat_map(|lsc| {
                accesses.iter().map(move |access| {
                    let debugged = with(n, DOUBLEWORD.with_lsc(lsc));
                    debugged.each(places(access), |scenario, at| scenario.access(access, at))
                })
            }))
        }),
        whole("watchpoint_exits_with_a_byte_of_the_access", EXITS, |cx| {
            let accesses = accesses(cx)?;
            let n = cx.shape().watchpoints - 1;
            cx.check_each((0..8).flat_map(|byte| {
                let debugged = with(n, DOUBLEWORD.with_bas(1 << byte));
                accesses.iter().map(move |access| debugged.clone().access(access, WATCHED))
            }))
        }),
        each("watchpoint_for_one_level", &rule::WATCHPOINT_PRIVILEGE, |n| {
            let el0 = with(n, DOUBLEWORD.with_pac(PMC_EL0)).load_and_store(WATCHED, Nothing);
            el0.append(with(n, DOUBLEWORD.with_pac(PMC_EL1)).load_and_store(WATCHED, Exit))
        }),
        each("watchpoint_at_the_ends_of_memory", &rule::WATCHPOINT_ADDRESS, |n| {
            // Bit 31 is set, so that no block contains the payload's own memory.
            let ends = [0, 1 << 31, 1 << 47, WATCHED ^ 1 << 47, !0b111];
            let masked = DOUBLEWORD.with_mask(u5::new(31));
            Scenario::new().each(ends, |scenario, end| {
                let block = GuestDebug::watchpoint(n, (end | 1 << 31) & !((1 << 31) - 1));
                let one = scenario.userspace_debugs(GuestDebug::watchpoint(n, end));
                let block = one.load_and_store(WATCHED, Nothing).userspace_debugs(block.with_dbgwcr(masked));
                block.load_and_store(WATCHED, Nothing)
            })
        }),
        each("watchpoint_whatever_the_guest_masks", EXITS, |n| {
            let values = [Mdscr::DEFAULT, ON, ON.with_mde(false), ON.with_kde(false)];
            let masks = values.into_iter().flat_map(|mdscr| [(mdscr, true), (mdscr, false)]);
            unarmed(n).each(masks, |scenario, (mdscr, d)| {
                let masked = scenario.enable(mdscr).pstate_d(d).load_and_store(WATCHED, Exit);
                masked.exit().load_and_store(WATCHED, Exit)
            })
        }),
        each("watchpoint_cleared", &rule::GUEST_DEBUG_OFF, |n| {
            let cleared =
                unarmed(n).load_and_store(WATCHED, Exit).userspace_debugs(GuestDebug::new(ENABLE | USE_HW));
            let again = cleared.load_and_store(WATCHED, Nothing).userspace_debugs(watchpoint(n));
            again.load_and_store(WATCHED, Exit).userspace_stops().load_and_store(WATCHED, Nothing)
        }),
        each("watchpoint_moved", EXITS, |n| {
            let moved = GuestDebug::watchpoint(n, WATCHED + 8);
            let moved = unarmed(n).load_and_store(WATCHED, Exit).userspace_debugs(moved);
            moved.load_and_store(WATCHED, Nothing).load_and_store(WATCHED + 8, Exit)
        }),
        each("watchpoint_over_exits", EXITS, |n| {
            unarmed(n).exit().load_and_store(WATCHED, Exit).exit().exit().load_and_store(WATCHED, Exit)
        }),
        each("watchpoint_stepped_over", &rule::GUEST_DEBUG_STEPS, |n| {
            // One exit at the watchpoint, and one after the step.
            let over =
                |scenario: Scenario| scenario.load(WATCHED).exits().exits().store(WATCHED).exits().exits();
            let debugged = own(n, OWN).userspace_debugs(watchpoint(n).on_exit(OnExit::StepOver));
            let twice = over(over(debugged).load_and_store(OWN, Nothing));
            twice.userspace_stops().load_and_store(WATCHED, Nothing).load_and_store(OWN, Watchpoint)
        }),
        each("watchpoint_beside_breakpoint", EXITS, |n| {
            let debug = GuestDebug::breakpoint(0, HERE).and_watchpoint(n, WATCHED).and(USE_SW_BP);
            let first = Scenario::new().userspace_debugs(debug).load_and_store(WATCHED, Exit);
            let markers = first.exec(HERE).exits().exec(HERE + 1).nothing();
            let again = markers.load_and_store(WATCHED + 8, Nothing).exec(HERE).exits().then(Op::Brk).exits();
            again.load_and_store(WATCHED, Exit)
        }),
        each("watchpoint_under_guests_accesses", EXITS, |n| {
            let written = debugged(n).load_and_store(WATCHED, Exit).append(own(n, OWN));
            let written = written.load_and_store(WATCHED, Exit).load_and_store(OWN, Nothing);
            let value = written.read(dbgwvr(n)).reads(OWN).load_and_store(WATCHED, Exit);
            let control = value.read(dbgwcr(n)).reads(DOUBLEWORD).load_and_store(WATCHED, Exit);
            control.read(MDSCR_EL1).reads(ON).load_and_store(WATCHED, Exit)
        }),
        each("watchpoint_under_os_lock", EXITS, |n| {
            let locked = own(n, OWN).lock().userspace_debugs(watchpoint(n));
            let locked = locked.load_and_store(WATCHED, Exit).load_and_store(OWN, Nothing);
            let held = locked.read(OSLSR_EL1).reads(LOCKED).exit().load_and_store(WATCHED, Exit);
            let released = held.unlock().load_and_store(WATCHED, Exit);
            released.userspace_stops().load_and_store(OWN, Watchpoint)
        }),
        each("os_lock_under_watchpoint", EXITS, |n| {
            // There was no ISB since the guest wrote the lock.
            let locked = debugged(n).lock().read(OSLSR_EL1);
            let locked = locked.load_and_store(WATCHED, Exit).load_and_store(OWN, Nothing).userspace_stops();
            let off = locked.load_and_store(WATCHED, Nothing).load_and_store(OWN, Nothing);
            off.read(OSLSR_EL1).reads(LOCKED).unlock().load_and_store(OWN, Watchpoint)
        }),
        whole("steps_accesses", &rule::GUEST_DEBUG_STEPS, |cx| {
            let stepped = Scenario::new().userspace_debugs(GuestDebug::new(ENABLE | SINGLESTEP));
            let stepped = stepped.load(WATCHED).exits().exits().store(WATCHED).exits().exits();
            cx.check(&stepped.userspace_stops().load_and_store(WATCHED, Nothing))
        }),
    ]
}

fn guests() -> Vec<Case> {
    vec![
        whole("watchpoints_keep_their_values", &rule::GUEST_DEBUG_KEEPS_REGISTERS, keep_their_values),
        each("watchpoints_written_under_debug", &rule::GUEST_DEBUG_KEEPS_REGISTERS, |n| {
            let written = unarmed(n).append(own(n, OWN)).load_and_store(WATCHED, Exit);
            let seen = own_seen(own_seen(written, n).userspace_stops(), n);
            seen.load_and_store(WATCHED, Nothing).load_and_store(OWN, Watchpoint)
        }),
        each("watchpoints_written_by_userspace", &rule::GUEST_DEBUG_KEEPS_REGISTERS, |n| {
            let written = own_seen(unarmed(n).append(own(n, OWN).by_userspace()), n);
            let on = written.load_and_store(WATCHED, Exit).load_and_store(OWN, Nothing);
            on.userspace_stops().load_and_store(OWN, Watchpoint)
        }),
        each("guests_watchpoint_under_watchpoint", &rule::GUEST_DEBUG_WATCHPOINT_EXITS, |n| {
            let apart = debugged(n).load_and_store(OWN, Nothing).load_and_store(WATCHED, Exit).exit();
            let same = apart.load_and_store(OWN, Nothing).append(own(n, WATCHED));
            let same = same.userspace_debugs(watchpoint(n)).load_and_store(WATCHED, Exit);
            same.userspace_stops().load_and_store(WATCHED, Watchpoint)
        }),
        each("guests_watchpoint_under_breakpoint", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            let debugged = own(n, OWN).userspace_debugs(GuestDebug::breakpoint(0, HERE));
            let on = debugged.load_and_store(OWN, Nothing).exec(HERE).exits();
            on.userspace_stops().exec(HERE).nothing().load_and_store(OWN, Watchpoint)
        }),
        each("guests_watchpoint_under_enable", &rule::GUEST_DEBUG_GUESTS_OWN, |n| {
            own(n, OWN).each([ENABLE, ENABLE | USE_SW_BP], |scenario, control| {
                let on = scenario.userspace_debugs(GuestDebug::new(control));
                let on = on.load_and_store(OWN, MAY_EXIT).load_and_store(WATCHED, Nothing);
                own_seen(own_seen(on, n).userspace_stops(), n).load_and_store(OWN, Watchpoint)
            })
        }),
        each("guests_watchpoint_fires_afterwards", &rule::GUEST_DEBUG_OFF, |n| {
            let given_back = debugged(n).load_and_store(WATCHED, Exit).userspace_stops();
            let once = given_back.load_and_store(OWN, Watchpoint).load_and_store(WATCHED, Nothing);
            let twice = once.exit().load_and_store(OWN, Watchpoint).userspace_debugs(watchpoint(n));
            let again = twice.load_and_store(WATCHED, Exit).load_and_store(OWN, Nothing);
            again.userspace_stops().load_and_store(OWN, Watchpoint)
        }),
        each("guests_watchpoint_fires_when_given_back", &rule::GUEST_DEBUG_OFF, |n| {
            let debug = GuestDebug::watchpoint(n, OWN).on_exit(OnExit::SwitchOff);
            let given_back = own(n, OWN).userspace_debugs(debug).load(OWN).exits().takes_watchpoint();
            given_back.store(OWN).takes_watchpoint()
        }),
        whole("all_guests_watchpoints_fire_afterwards", &rule::GUEST_DEBUG_OFF, |cx| {
            let count = cx.shape().watchpoints;
            let place = |n: u8| OWN + 8 * u64::from(n);
            let armed = Scenario::new()
                .unmask()
                .each(0..count, |scenario, n| scenario.watchpoint(n, place(n), DOUBLEWORD));
            let debugged = armed.enable(ON).userspace_debugs(GuestDebug::first_watchpoints(count, OWN));
            let exits = debugged.each(0..count, |scenario, n| scenario.load_and_store(place(n), Exit));
            cx.check(
                &exits
                    .userspace_stops()
                    .each(0..count, |scenario, n| scenario.load_and_store(place(n), Watchpoint)),
            )
        }),
    ]
}

/// KVM may exit for the guest's own watchpoint, or nothing happens.
const MAY_EXIT: Claim = Claim::May(&Exit);

/// The accesses that only read or only write, with the privilege of their Exception level, and their places
/// in the table.
fn accesses(cx: &mut Context<'_>) -> Result<Vec<&'static Access>, Stop> {
    let zva = cx.zva_block()?.is_some();
    let fits = |access: &Access| match access.kind {
        Kind::Load | Kind::Store => !access.unprivileged,
        Kind::Block => zva && !access.is_of_tags(),
        _ => false,
    };
    Ok(access::TABLE.iter().filter(|access| fits(access)).collect())
}

/// The guest's own watchpoint `n`, on the doubleword at an address, with nothing that masks it.
fn own(n: u8, address: u64) -> Scenario {
    Scenario::new().unmask().watchpoint(n, address, DOUBLEWORD).enable(ON)
}

/// Userspace's watchpoint `n`, on [`WATCHED`].
const fn watchpoint(n: u8) -> GuestDebug {
    GuestDebug::watchpoint(n, WATCHED)
}

/// The doubleword of userspace's watchpoint `n`, if it has one on each of consecutive doublewords.
const fn place(n: u8) -> u64 {
    WATCHED + 8 * n as u64
}

/// The guest and userspace both use watchpoint `n`.
fn debugged(n: u8) -> Scenario {
    own(n, OWN).userspace_debugs(watchpoint(n))
}

/// Userspace uses watchpoint `n`. The guest has not accessed its debug registers.
fn unarmed(n: u8) -> Scenario {
    Scenario::new().userspace_debugs(watchpoint(n))
}

/// Userspace's watchpoint `n` with this control.
fn with(n: u8, control: Dbgwcr) -> Scenario {
    Scenario::new().userspace_debugs(watchpoint(n).with_dbgwcr(control))
}

/// The guest and userspace read watchpoint `n` and MDSCR_EL1 as [`own`] has written them, on [`OWN`].
fn own_seen(scenario: Scenario, n: u8) -> Scenario {
    both_read(both_read(both_read(scenario, dbgwvr(n), OWN), dbgwcr(n), DOUBLEWORD), MDSCR_EL1, ON)
}

/// Every watchpoint of the guest keeps its own value while userspace uses the same watchpoint with another
/// value.
fn keep_their_values(cx: &mut Context<'_>) -> Result<(), Stop> {
    let count = cx.shape().watchpoints;
    let value = |n: u8| 0x1234_5670_0000 + 0x1_0040 * u64::from(n);
    let control = |n: u8| DOUBLEWORD.with_e(n.is_multiple_of(2)).with_bas(1 << (n % 8));
    for mdscr in [Mdscr::DEFAULT, ON] {
        let seen = |scenario: Scenario, n| {
            let read = both_read(both_read(scenario, dbgwvr(n), value(n)), dbgwcr(n), control(n));
            both_read(read, MDSCR_EL1, mdscr)
        };
        let written =
            Scenario::new().each(0..count, |scenario, n| scenario.watchpoint(n, value(n), control(n)));
        let debugged = written.enable(mdscr).userspace_debugs(GuestDebug::first_watchpoints(count, WATCHED));
        let exits = debugged.each(0..count, |scenario, n| scenario.load_and_store(place(n), Exit));
        cx.check(&exits.each(0..count, seen).userspace_stops().each(0..count, seen))?;
    }
    // Userspace's breakpoints do not change the guest's watchpoints either.
    let seen = |scenario: Scenario, n: u8| {
        let read = both_read(scenario, dbgwvr(n), OWN + 8 * u64::from(n));
        both_read(both_read(read, dbgwcr(n), DOUBLEWORD), MDSCR_EL1, ON)
    };
    let armed = Scenario::new().each(0..count, |scenario, n| scenario.append(own(n, OWN + 8 * u64::from(n))));
    let debugged = armed.userspace_debugs(GuestDebug::first_breakpoints(cx.shape().breakpoints));
    let during = debugged.exec(HERE).exits().each(0..count, seen);
    cx.check(&during.userspace_stops().each(0..count, seen))
}
