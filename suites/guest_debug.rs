// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Userspace debugs the guest with KVM_SET_GUEST_DEBUG while the guest uses its own debug registers.
//! Userspace gets its exits whatever the guest does, and the guest reads the values that it wrote, while
//! userspace debugs it and afterwards.

use crate::forms::{each_breakpoint as each, whole};
use dfr0_model::{
    control::{Dbgbcr, Mdscr, PMC_EL0},
    guest_debug::{ENABLE, GuestDebug, OnExit, SINGLESTEP, USE_HW, USE_SW_BP, VALID},
    rule,
    scenario::{Op, Scenario},
    sysreg::{MDSCR_EL1, OSLAR_EL1, OSLSR_EL1, SysReg, dbgbcr, dbgbvr},
    wire::marker,
};
use dfr0_runner::case::{Case, Context, Stop};

mod watchpoints;

/// The marker of userspace's breakpoint. If userspace uses all breakpoints, they are on the markers starting
/// with 0.
const HERE: u8 = 1;
/// The marker of the guest's own breakpoint.
const OWN: u8 = 20;
const ON: Mdscr = Mdscr::breakpoints_at_el1();
const ADDRESS: Dbgbcr = Dbgbcr::address_at_el1();
const OFF: Op = Op::Debug(GuestDebug::OFF);

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        whole("counts_are_the_hosts", &rule::GUEST_DEBUG_COUNTS, counts_are_the_hosts),
        whole("invalid_bits_refused", &rule::GUEST_DEBUG_INVALID, |cx| {
            let invalid = (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| bit & VALID == 0);
            let controls = invalid.flat_map(|bit| [bit, bit | ENABLE, bit | VALID]);
            cx.check(&controls.fold(own(0), |scenario, control| {
                scenario.then(Op::Debug(GuestDebug::new(control))).exec(OWN)
            }))
        }),
        each("refused_changes_nothing", &rule::GUEST_DEBUG_INVALID, |n| {
            let refused = GuestDebug::breakpoint(n, HERE + 1).and(1 << 2);
            debugged(n).then(Op::Debug(refused)).exec(HERE + 1).exec(HERE)
        }),
        each("off_without_enable", &rule::GUEST_DEBUG_OFF, |n| {
            let control = SINGLESTEP | USE_SW_BP | USE_HW;
            let debug = GuestDebug { control, ..GuestDebug::breakpoint(n, HERE) };
            let off = own(n).then(Op::Debug(debug)).exec(HERE).exec(OWN).then(Op::Brk);
            off.then(Op::Debug(GuestDebug::breakpoint(n, HERE)))
                .exec(HERE)
                .then(Op::Debug(debug))
                .exec(HERE)
                .exec(OWN)
                .then(Op::Brk)
        }),
    ];
    cases.extend(hardware_breakpoints());
    cases.extend(guests_registers());
    cases.extend(software_breakpoints_and_steps());
    cases.extend(watchpoints::cases());
    cases
}

fn hardware_breakpoints() -> Vec<Case> {
    vec![
        each("breakpoint_exits", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            unarmed(n).exec(HERE).exec(HERE).exec(HERE + 1).exec(HERE - 1).exec(HERE)
        }),
        whole("all_breakpoints_exit", &rule::GUEST_DEBUG_HW_EXITS, |cx| {
            let count = cx.shape().breakpoints;
            let debug = Op::Debug(GuestDebug::first_breakpoints(count));
            cx.check(&(0..=count).fold(Scenario::new().then(debug), Scenario::exec))
        }),
        each("breakpoint_disabled", &rule::BREAKPOINT_ENABLED, |n| {
            let debug = GuestDebug::breakpoint(n, HERE).with_dbgbcr(ADDRESS.with_e(false));
            unarmed(n).then(Op::Debug(debug)).exec(HERE)
        }),
        each("breakpoint_for_el0", &rule::BREAKPOINT_PRIVILEGE, |n| {
            let debug = GuestDebug::breakpoint(n, HERE).with_dbgbcr(ADDRESS.with_pmc(PMC_EL0));
            unarmed(n).then(Op::Debug(debug)).exec(HERE)
        }),
        each("breakpoint_whatever_the_guest_masks", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            let values = [Mdscr::DEFAULT, ON, ON.with_mde(false), ON.with_kde(false)];
            let masks = values.into_iter().flat_map(|mdscr| [(mdscr, true), (mdscr, false)]);
            masks.fold(unarmed(n), |scenario, (mdscr, d)| {
                scenario.enable(mdscr).then(Op::MaskDebug(d)).exec(HERE).then(Op::Exit).exec(HERE)
            })
        }),
        each("breakpoint_cleared", &rule::GUEST_DEBUG_OFF, |n| {
            let none = Op::Debug(GuestDebug::new(ENABLE | USE_HW));
            unarmed(n).exec(HERE).then(none).exec(HERE).then(debug(n)).exec(HERE).then(OFF).exec(HERE)
        }),
        each("breakpoint_moved", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            let moved = Op::Debug(GuestDebug::breakpoint(n, HERE + 1));
            unarmed(n).exec(HERE).then(moved).exec(HERE).exec(HERE + 1)
        }),
        each("breakpoint_over_exits", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            unarmed(n).then(Op::Exit).exec(HERE).then(Op::Exit).then(Op::Exit).exec(HERE)
        }),
        each("breakpoint_stepped_over", &rule::GUEST_DEBUG_STEPS, |n| {
            let debug = GuestDebug::breakpoint(n, HERE).on_exit(OnExit::StepOver);
            own(n).then(Op::Debug(debug)).exec(HERE).exec(HERE + 1).exec(HERE).then(OFF).exec(HERE).exec(OWN)
        }),
        each("breakpoint_under_guests_accesses", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            let written = debugged(n).exec(HERE).append(own(n)).exec(HERE).exec(OWN);
            written.read(dbgbvr(n)).exec(HERE).read(dbgbcr(n)).exec(HERE).read(MDSCR_EL1).exec(HERE)
        }),
        each("breakpoint_under_os_lock", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            let locked = own(n).write(OSLAR_EL1, 1).then(debug(n)).exec(HERE).exec(OWN).read(OSLSR_EL1);
            locked.then(Op::Exit).exec(HERE).write(OSLAR_EL1, 0).exec(HERE).then(OFF).exec(OWN)
        }),
        each("os_lock_under_breakpoint", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            let locked = debugged(n).write(OSLAR_EL1, 1).read(OSLSR_EL1).exec(HERE).exec(OWN);
            locked.then(OFF).exec(HERE).exec(OWN).read(OSLSR_EL1).write(OSLAR_EL1, 0).exec(OWN)
        }),
    ]
}

fn guests_registers() -> Vec<Case> {
    vec![
        whole("registers_keep_their_values", &rule::GUEST_DEBUG_KEEPS_REGISTERS, registers_keep_their_values),
        each("registers_written_under_debug", &rule::GUEST_DEBUG_KEEPS_REGISTERS, |n| {
            let written = Scenario::new().then(debug(n)).append(own(n)).exec(HERE);
            seen(seen(written, n).then(OFF), n).exec(HERE).exec(OWN)
        }),
        each("registers_written_by_userspace", &rule::GUEST_DEBUG_KEEPS_REGISTERS, |n| {
            let set = |reg, value| Op::KvmSet { reg, value };
            let written = Scenario::new()
                .then(Op::MaskDebug(false))
                .then(debug(n))
                .then(set(dbgbvr(n), marker(OWN)))
                .then(set(dbgbcr(n), ADDRESS.raw_value()))
                .then(set(MDSCR_EL1, ON.raw_value()));
            seen(written, n).exec(HERE).exec(OWN).then(OFF).exec(HERE).exec(OWN)
        }),
        each("mdscr_keeps_its_value", &rule::GUEST_DEBUG_KEEPS_REGISTERS, |n| {
            mdscr_values().fold(Scenario::new().then(debug(n)), |scenario, value| {
                let written = scenario.write(MDSCR_EL1, value).exec(HERE);
                both(written.then(Op::Exit), MDSCR_EL1)
            })
        }),
        each("guests_breakpoint_under_breakpoint", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            debugged(n).exec(OWN).exec(HERE).exec(OWN).then(Op::Exit).exec(OWN)
        }),
        each("guests_breakpoint_under_enable", &rule::GUEST_DEBUG_GUESTS_OWN, |n| {
            [ENABLE, ENABLE | USE_SW_BP].into_iter().fold(own(n), |scenario, control| {
                let on = scenario.then(Op::Debug(GuestDebug::new(control))).exec(OWN).exec(HERE);
                seen(seen(on.exec(OWN), n).then(OFF), n).exec(OWN)
            })
        }),
        each("guests_breakpoint_fires_afterwards", &rule::GUEST_DEBUG_OFF, |n| {
            let given_back = debugged(n).exec(HERE).then(OFF).exec(OWN).exec(HERE);
            given_back.then(Op::Exit).exec(OWN).then(debug(n)).exec(HERE).exec(OWN).then(OFF).exec(OWN)
        }),
        each("guests_breakpoint_fires_after_an_idle_debugger", &rule::GUEST_DEBUG_OFF, |n| {
            own(n).then(debug(n)).then(Op::Exit).then(OFF).exec(OWN).then(debug(n)).then(OFF).exec(OWN)
        }),
        each("guests_breakpoint_fires_when_given_back", &rule::GUEST_DEBUG_OFF, |n| {
            let debug = GuestDebug::breakpoint(n, OWN).on_exit(OnExit::SwitchOff);
            own(n).then(Op::Debug(debug)).exec(OWN).exec(OWN)
        }),
        whole("all_guests_breakpoints_fire_afterwards", &rule::GUEST_DEBUG_OFF, |cx| {
            let count = cx.shape().breakpoints;
            let armed = (0..count).fold(Scenario::new().then(Op::MaskDebug(false)), |scenario, n| {
                scenario.breakpoint(n, n, ADDRESS)
            });
            let debug = Op::Debug(GuestDebug::first_breakpoints(count));
            let exits = (0..count).fold(armed.enable(ON).then(debug), Scenario::exec);
            cx.check(&(0..count).fold(exits.then(OFF), Scenario::exec))
        }),
    ]
}

fn software_breakpoints_and_steps() -> Vec<Case> {
    const SOFTWARE: GuestDebug = GuestDebug::new(ENABLE | USE_SW_BP);
    const STEPS: GuestDebug = GuestDebug::new(ENABLE | SINGLESTEP);
    vec![
        whole("brk_exits", &rule::GUEST_DEBUG_SW_EXITS, |cx| {
            let masked = Scenario::new().then(Op::Debug(SOFTWARE)).then(Op::Brk).then(Op::Brk);
            let armed = masked.then(Op::MaskDebug(false)).enable(ON).isb().then(Op::Brk);
            cx.check(&armed.write(OSLAR_EL1, 1).isb().then(Op::Brk).then(Op::Exit).then(Op::Brk))
        }),
        each("brk_exits_beside_breakpoint", &rule::GUEST_DEBUG_SW_EXITS, |n| {
            let debug = GuestDebug::breakpoint(n, HERE).and(USE_SW_BP);
            own(n).then(Op::Debug(debug)).exec(HERE).then(Op::Brk).exec(OWN).exec(HERE).then(Op::Brk)
        }),
        each("brk_is_the_guests_afterwards", &rule::GUEST_DEBUG_OFF, |n| {
            let before = own(n).isb().then(Op::Brk).then(Op::Debug(SOFTWARE)).then(Op::Brk);
            before.then(OFF).then(Op::Brk).exec(OWN).then(Op::Exit).then(Op::Brk)
        }),
        whole("brk_is_the_guests_when_given_back", &rule::GUEST_DEBUG_OFF, |cx| {
            let debug = Op::Debug(SOFTWARE.on_exit(OnExit::SwitchOff));
            cx.check(&Scenario::new().then(debug).then(Op::Brk).then(Op::Brk))
        }),
        whole("steps", &rule::GUEST_DEBUG_STEPS, |cx| {
            let stepped = Scenario::new().then(Op::Debug(STEPS)).exec(HERE).exec(HERE + 1);
            cx.check(&stepped.then(Op::Exit).exec(HERE).then(OFF).exec(HERE))
        }),
        whole("steps_whatever_the_guest_masks", &rule::GUEST_DEBUG_STEPS, |cx| {
            let masks = mdscr_values().flat_map(|mdscr| [(mdscr, true), (mdscr, false)]);
            let stepped = masks.fold(Scenario::new().then(Op::Debug(STEPS)), |scenario, (mdscr, d)| {
                scenario.then(Op::MaskDebug(d)).write(MDSCR_EL1, mdscr).exec(HERE)
            });
            cx.check(&stepped.write(OSLAR_EL1, 1).exec(HERE).write(OSLAR_EL1, 0).exec(HERE))
        }),
        whole("steps_keep_mdscr", &rule::GUEST_DEBUG_KEEPS_REGISTERS, |cx| {
            let before = mdscr_values().fold(Scenario::new(), |scenario, value| {
                let stepped = scenario.write(MDSCR_EL1, value).then(Op::Debug(STEPS)).exec(HERE);
                both(both(stepped, MDSCR_EL1).then(OFF), MDSCR_EL1)
            });
            let under = mdscr_values().fold(before.then(Op::Debug(STEPS)), |scenario, value| {
                both(scenario.write(MDSCR_EL1, value).exec(HERE), MDSCR_EL1)
            });
            cx.check(&both(under.then(OFF), MDSCR_EL1))
        }),
        each("steps_keep_registers", &rule::GUEST_DEBUG_KEEPS_REGISTERS, |n| {
            let stepped = own(n).then(Op::Debug(STEPS)).exec(HERE);
            seen(seen(stepped, n).then(OFF), n).exec(HERE).exec(OWN)
        }),
        each("guests_breakpoint_fires_after_steps", &rule::GUEST_DEBUG_OFF, |n| {
            let stepped = own(n).then(Op::Debug(STEPS)).exec(HERE).then(OFF);
            stepped.exec(OWN).then(Op::Exit).exec(OWN).exec(HERE).then(Op::Brk)
        }),
    ]
}

/// The guest's own breakpoint `n`, on marker [`OWN`], with nothing that masks it.
fn own(n: u8) -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).breakpoint(n, OWN, ADDRESS).enable(ON)
}

/// Userspace's breakpoint `n`, on marker [`HERE`].
const fn debug(n: u8) -> Op {
    Op::Debug(GuestDebug::breakpoint(n, HERE))
}

/// The guest and userspace both use breakpoint `n`.
fn debugged(n: u8) -> Scenario {
    own(n).then(debug(n))
}

/// Userspace uses breakpoint `n`. The guest has not accessed its debug registers.
fn unarmed(n: u8) -> Scenario {
    Scenario::new().then(debug(n))
}

/// The guest and userspace read a register.
fn both(scenario: Scenario, reg: SysReg) -> Scenario {
    scenario.isb().read(reg).then(Op::KvmGet { reg })
}

/// The guest and userspace read breakpoint `n` and MDSCR_EL1.
fn seen(scenario: Scenario, n: u8) -> Scenario {
    [dbgbvr(n), dbgbcr(n), MDSCR_EL1].into_iter().fold(scenario, both)
}

/// MDE, KDE and SS in each combination.
fn mdscr_values() -> impl Iterator<Item = u64> {
    [false, true].into_iter().flat_map(|mde| {
        [false, true].into_iter().flat_map(move |kde| {
            [false, true]
                .into_iter()
                .map(move |ss| Mdscr::DEFAULT.with_mde(mde).with_kde(kde).with_ss(ss).raw_value())
        })
    })
}

fn counts_are_the_hosts(cx: &mut Context<'_>) -> Result<(), Stop> {
    let host = cx.host();
    let shape = host.shape();
    if host.is_bare() {
        return Stop::skip("needs KVM, and this is a bare CPU");
    }
    let counts = [
        ("KVM_CAP_GUEST_DEBUG_HW_BPS", host.capabilities.kvm_cap_guest_debug_hw_bps, shape.breakpoints),
        ("KVM_CAP_GUEST_DEBUG_HW_WPS", host.capabilities.kvm_cap_guest_debug_hw_wps, shape.watchpoints),
    ];
    for (capability, says, count) in counts {
        cx.count();
        if says != i32::from(count) {
            cx.find(
                format!("{capability} is not the host's count"),
                format!("{capability} is {says}, and ID_AA64DFR0_EL1 has {count}"),
            );
        }
    }
    Ok(())
}

/// Every breakpoint of the guest keeps its own value while userspace uses the same breakpoint with another
/// value.
fn registers_keep_their_values(cx: &mut Context<'_>) -> Result<(), Stop> {
    let numbers = cx.shape().breakpoint_numbers();
    let debug = Op::Debug(GuestDebug::first_breakpoints(cx.shape().breakpoints));
    for mdscr in [Mdscr::DEFAULT, ON] {
        let written = numbers.clone().fold(Scenario::new(), |scenario, n| {
            let control = ADDRESS.with_e(n.is_multiple_of(2));
            scenario.breakpoint_at(n, 0x1234_5670_0000 + 0x1_0040 * u64::from(n), control)
        });
        let exits = numbers.clone().fold(written.enable(mdscr).then(debug), Scenario::exec);
        let during = numbers.clone().fold(exits, seen);
        cx.check(&numbers.clone().fold(during.then(OFF), seen))?;
    }
    Ok(())
}
