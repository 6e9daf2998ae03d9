// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Userspace's watchpoints, and the guest's own on the same memory.

use crate::forms::{each_watchpoint as each, whole};
use arbitrary_int::u5;
use dfr0_model::{
    access::{self, Access, Kind},
    control::{Dbgwcr, LSC_BOTH, LSC_LOAD, LSC_STORE, Mdscr, PMC_EL0, PMC_EL1},
    guest_debug::{ENABLE, GuestDebug, OnExit, SINGLESTEP, USE_HW, USE_SW_BP},
    rule::{self, Rule},
    scenario::{Op, Scenario},
    sysreg::{MDSCR_EL1, OSLAR_EL1, OSLSR_EL1, dbgwcr, dbgwvr},
    wire::{TARGET, TARGET_SIZE},
};
use dfr0_runner::case::{Case, Context, Stop};

/// The doubleword of userspace's watchpoint, in the middle of the target memory.
const HERE: u64 = TARGET + TARGET_SIZE / 2;
/// The doubleword of the guest's own watchpoint.
const OWN: u64 = HERE - 0x100;
/// The marker of userspace's breakpoint, in cases that have one.
const MARKER: u8 = 1;
const ON: Mdscr = Mdscr::breakpoints_at_el1();
const DOUBLEWORD: Dbgwcr = Dbgwcr::doubleword();
const OFF: Op = Op::Debug(GuestDebug::OFF);

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
            both(both(both(both(unarmed(n), HERE), HERE + 8), HERE - 8), HERE)
        }),
        whole("all_watchpoints_exit", EXITS, |cx| {
            let count = cx.shape().watchpoints;
            let debug = Op::Debug(GuestDebug::first_watchpoints(count, HERE));
            let around = (0..=u64::from(count)).map(|place| HERE + 8 * place);
            cx.check(&around.fold(Scenario::new().then(debug), both))
        }),
        each("watchpoint_disabled", &rule::WATCHPOINT_ENABLED, |n| with(n, DOUBLEWORD.with_e(false))),
        each("watchpoint_for_loads_or_stores", &rule::WATCHPOINT_LSC, |n| {
            with(n, DOUBLEWORD.with_lsc(LSC_LOAD)).append(with(n, DOUBLEWORD.with_lsc(LSC_STORE)))
        }),
        whole("watchpoint_exits_at_each_access", EXITS, |cx| {
            let accesses = accesses(cx)?;
            let n = cx.shape().watchpoints - 1;
            let places = |access: &Access| {
                let beside = u64::from(access.size.max(8));
                [HERE, HERE + beside, HERE - beside]
            };
            cx.check_each([LSC_LOAD, LSC_STORE, LSC_BOTH].into_iter().flat_map(|lsc| {
                accesses.iter().map(move |(place, access)| {
                    let debug = GuestDebug::watchpoint(n, HERE).with_dbgwcr(DOUBLEWORD.with_lsc(lsc));
                    let debugged = Scenario::new().then(Op::Debug(debug));
                    places(access).into_iter().fold(debugged, |scenario, at| scenario.access(*place, at))
                })
            }))
        }),
        whole("watchpoint_exits_with_a_byte_of_the_access", EXITS, |cx| {
            let accesses = accesses(cx)?;
            let n = cx.shape().watchpoints - 1;
            cx.check_each((0..8).flat_map(|byte| {
                accesses.iter().map(move |(place, _)| {
                    let debug = GuestDebug::watchpoint(n, HERE).with_dbgwcr(DOUBLEWORD.with_bas(1 << byte));
                    Scenario::new().then(Op::Debug(debug)).access(*place, HERE)
                })
            }))
        }),
        each("watchpoint_for_one_level", &rule::WATCHPOINT_PRIVILEGE, |n| {
            with(n, DOUBLEWORD.with_pac(PMC_EL0)).append(with(n, DOUBLEWORD.with_pac(PMC_EL1)))
        }),
        each("watchpoint_at_the_ends_of_memory", &rule::WATCHPOINT_ADDRESS, |n| {
            // Bit 31 is set, so that no block contains the payload's own memory.
            let ends = [0, 1 << 31, 1 << 47, HERE ^ 1 << 47, !0b111];
            let masked = DOUBLEWORD.with_mask(u5::new(31));
            ends.into_iter().fold(Scenario::new(), |scenario, end| {
                let debug = GuestDebug::watchpoint(n, end);
                let block = GuestDebug::watchpoint(n, (end | 1 << 31) & !((1 << 31) - 1));
                let scenario = both(scenario.then(Op::Debug(debug)), HERE);
                both(scenario.then(Op::Debug(block.with_dbgwcr(masked))), HERE)
            })
        }),
        each("watchpoint_whatever_the_guest_masks", EXITS, |n| {
            let values = [Mdscr::DEFAULT, ON, ON.with_mde(false), ON.with_kde(false)];
            let masks = values.into_iter().flat_map(|mdscr| [(mdscr, true), (mdscr, false)]);
            masks.fold(unarmed(n), |scenario, (mdscr, d)| {
                both(both(scenario.enable(mdscr).then(Op::MaskDebug(d)), HERE).then(Op::Exit), HERE)
            })
        }),
        each("watchpoint_cleared", &rule::GUEST_DEBUG_OFF, |n| {
            let none = Op::Debug(GuestDebug::new(ENABLE | USE_HW));
            [none, debug(n), OFF]
                .into_iter()
                .fold(both(unarmed(n), HERE), |scenario, op| both(scenario.then(op), HERE))
        }),
        each("watchpoint_moved", EXITS, |n| {
            let moved = Op::Debug(GuestDebug::watchpoint(n, HERE + 8));
            both(both(both(unarmed(n), HERE).then(moved), HERE), HERE + 8)
        }),
        each("watchpoint_over_exits", EXITS, |n| {
            both(both(unarmed(n).then(Op::Exit), HERE).then(Op::Exit).then(Op::Exit), HERE)
        }),
        each("watchpoint_stepped_over", &rule::GUEST_DEBUG_STEPS, |n| {
            let debug = GuestDebug::watchpoint(n, HERE).on_exit(OnExit::StepOver);
            let over = both(both(both(own(n, OWN).then(Op::Debug(debug)), HERE), OWN), HERE);
            both(both(over.then(OFF), HERE), OWN)
        }),
        each("watchpoint_beside_breakpoint", EXITS, |n| {
            let debug = GuestDebug::breakpoint(0, MARKER).and_watchpoint(n, HERE).and(USE_SW_BP);
            let marked = both(Scenario::new().then(Op::Debug(debug)), HERE).exec(MARKER);
            both(both(marked.exec(MARKER + 1), HERE + 8).exec(MARKER).then(Op::Brk), HERE)
        }),
        each("watchpoint_under_guests_accesses", EXITS, |n| {
            let written = both(both(both(debugged(n), HERE).append(own(n, OWN)), HERE), OWN);
            [dbgwvr(n), dbgwcr(n), MDSCR_EL1]
                .into_iter()
                .fold(written, |scenario, reg| both(scenario.read(reg), HERE))
        }),
        each("watchpoint_under_os_lock", EXITS, |n| {
            let locked = own(n, OWN).write(OSLAR_EL1, 1).then(debug(n));
            let locked = both(both(locked, HERE), OWN).read(OSLSR_EL1).then(Op::Exit);
            both(both(both(locked, HERE).write(OSLAR_EL1, 0), HERE).then(OFF), OWN)
        }),
        each("os_lock_under_watchpoint", EXITS, |n| {
            let locked = both(both(debugged(n).write(OSLAR_EL1, 1).read(OSLSR_EL1), HERE), OWN);
            let off = both(both(locked.then(OFF), HERE), OWN).read(OSLSR_EL1);
            both(off.write(OSLAR_EL1, 0), OWN)
        }),
        whole("steps_accesses", &rule::GUEST_DEBUG_STEPS, |cx| {
            let steps = Op::Debug(GuestDebug::new(ENABLE | SINGLESTEP));
            cx.check(&both(both(Scenario::new().then(steps), HERE).then(OFF), HERE))
        }),
    ]
}

fn guests() -> Vec<Case> {
    vec![
        whole("watchpoints_keep_their_values", &rule::GUEST_DEBUG_KEEPS_REGISTERS, keep_their_values),
        each("watchpoints_written_under_debug", &rule::GUEST_DEBUG_KEEPS_REGISTERS, |n| {
            let written = both(Scenario::new().then(debug(n)).append(own(n, OWN)), HERE);
            both(both(seen(seen(written, n).then(OFF), n), HERE), OWN)
        }),
        each("watchpoints_written_by_userspace", &rule::GUEST_DEBUG_KEEPS_REGISTERS, |n| {
            let written = Scenario::new().then(debug(n)).append(own(n, OWN).by_userspace());
            both(both(both(seen(written, n), HERE), OWN).then(OFF), OWN)
        }),
        each("guests_watchpoint_under_watchpoint", &rule::GUEST_DEBUG_WATCHPOINT_EXITS, |n| {
            let apart = both(both(debugged(n), OWN), HERE).then(Op::Exit);
            let same = both(apart, OWN).append(own(n, HERE)).then(debug(n));
            both(both(same, HERE).then(OFF), HERE)
        }),
        each("guests_watchpoint_under_breakpoint", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            let debug = Op::Debug(GuestDebug::breakpoint(0, MARKER));
            both(own(n, OWN).then(debug), OWN)
                .exec(MARKER)
                .then(OFF)
                .exec(MARKER)
                .append(both(Scenario::new(), OWN))
        }),
        each("guests_watchpoint_under_enable", &rule::GUEST_DEBUG_GUESTS_OWN, |n| {
            [ENABLE, ENABLE | USE_SW_BP].into_iter().fold(own(n, OWN), |scenario, control| {
                let on = scenario.then(Op::Debug(GuestDebug::new(control)));
                both(seen(seen(both(both(on, OWN), HERE), n).then(OFF), n), OWN)
            })
        }),
        each("guests_watchpoint_fires_afterwards", &rule::GUEST_DEBUG_OFF, |n| {
            let given_back = both(both(both(debugged(n), HERE).then(OFF), OWN), HERE).then(Op::Exit);
            let again = both(both(both(given_back, OWN).then(debug(n)), HERE), OWN);
            both(again.then(OFF), OWN)
        }),
        each("guests_watchpoint_fires_when_given_back", &rule::GUEST_DEBUG_OFF, |n| {
            let debug = GuestDebug::watchpoint(n, OWN).on_exit(OnExit::SwitchOff);
            both(own(n, OWN).then(Op::Debug(debug)), OWN)
        }),
        whole("all_guests_watchpoints_fire_afterwards", &rule::GUEST_DEBUG_OFF, |cx| {
            let count = cx.shape().watchpoints;
            let place = |n: u8| OWN + 8 * u64::from(n);
            let armed = (0..count).fold(Scenario::new().then(Op::MaskDebug(false)), |scenario, n| {
                scenario.watchpoint(n, place(n), DOUBLEWORD)
            });
            let debug = Op::Debug(GuestDebug::first_watchpoints(count, OWN));
            let places = || (0..count).map(place);
            let exits = places().fold(armed.enable(ON).then(debug), both);
            cx.check(&places().fold(exits.then(OFF), both))
        }),
    ]
}

/// The accesses that only read or only write, with the privilege of their Exception level, and their places
/// in the table.
fn accesses(cx: &mut Context<'_>) -> Result<Vec<(u8, &'static Access)>, Stop> {
    let zva = cx.zva_block()?.is_some();
    let fits = |access: &Access| match access.kind {
        Kind::Load | Kind::Store => !access.unprivileged,
        Kind::Block => zva && !access.is_of_tags(),
        _ => false,
    };
    Ok((0..).zip(&access::TABLE).filter(|(_, access)| fits(access)).collect())
}

/// A load and a store.
fn both(scenario: Scenario, address: u64) -> Scenario {
    const LDR: u8 = access::place("ldr x1");
    const STR: u8 = access::place("str x1");
    scenario.access(LDR, address).access(STR, address)
}

/// The guest's own watchpoint `n`, on the doubleword at an address, with nothing that masks it.
fn own(n: u8, address: u64) -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).watchpoint(n, address, DOUBLEWORD).enable(ON)
}

/// Userspace's watchpoint `n`, on [`HERE`].
const fn debug(n: u8) -> Op {
    Op::Debug(GuestDebug::watchpoint(n, HERE))
}

/// The guest and userspace both use watchpoint `n`.
fn debugged(n: u8) -> Scenario {
    own(n, OWN).then(debug(n))
}

/// Userspace uses watchpoint `n`. The guest has not accessed its debug registers.
fn unarmed(n: u8) -> Scenario {
    Scenario::new().then(debug(n))
}

/// Userspace's watchpoint `n` with this control, and a load and a store of what it watches.
fn with(n: u8, control: Dbgwcr) -> Scenario {
    both(Scenario::new().then(Op::Debug(GuestDebug::watchpoint(n, HERE).with_dbgwcr(control))), HERE)
}

/// The guest and userspace read watchpoint `n` and MDSCR_EL1.
fn seen(scenario: Scenario, n: u8) -> Scenario {
    [dbgwvr(n), dbgwcr(n), MDSCR_EL1]
        .into_iter()
        .fold(scenario, |scenario, reg| scenario.isb().read(reg).then(Op::KvmGet { reg }))
}

/// Every watchpoint of the guest keeps its own value while userspace uses the same watchpoint with another
/// value.
fn keep_their_values(cx: &mut Context<'_>) -> Result<(), Stop> {
    let count = cx.shape().watchpoints;
    let debug = Op::Debug(GuestDebug::first_watchpoints(count, HERE));
    for mdscr in [Mdscr::DEFAULT, ON] {
        let written = (0..count).fold(Scenario::new(), |scenario, n| {
            let control = DOUBLEWORD.with_e(n.is_multiple_of(2)).with_bas(1 << (n % 8));
            scenario.watchpoint(n, 0x1234_5670_0000 + 0x1_0040 * u64::from(n), control)
        });
        let exits = (0..count).map(|n| HERE + 8 * u64::from(n));
        let exits = exits.fold(written.enable(mdscr).then(debug), both);
        let during = (0..count).fold(exits, seen);
        cx.check(&(0..count).fold(during.then(OFF), seen))?;
    }
    // Userspace's breakpoints do not change the guest's watchpoints either.
    let breakpoints = GuestDebug::first_breakpoints(cx.shape().breakpoints);
    let armed =
        (0..count).fold(Scenario::new(), |scenario, n| scenario.append(own(n, OWN + 8 * u64::from(n))));
    let during = (0..count).fold(armed.then(Op::Debug(breakpoints)).exec(MARKER), seen);
    cx.check(&(0..count).fold(during.then(OFF), seen))
}
