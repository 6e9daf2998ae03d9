// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Userspace debugs the guest with KVM_SET_GUEST_DEBUG while the guest uses its own debug registers.
//! Userspace gets its exits whatever the guest does, and the guest reads the values that it wrote, while
//! userspace debugs it and afterwards.

use crate::{
    forms::{each_breakpoint as each, whole},
    stage::{ADDRESS, HERE, LOCKED, ON},
};
use dfr0_model::{
    claim::Claim,
    control::{Mdscr, PMC_EL0},
    guest_debug::{ENABLE, GuestDebug, OnExit, SINGLESTEP, USE_HW, USE_SW_BP, VALID},
    id_write::EINVAL,
    rule,
    scenario::{Op, Scenario, Value},
    sequence::Sequence,
    sysreg::{MDSCR_EL1, OSLSR_EL1, SysReg, dbgbcr, dbgbvr},
    wire::marker,
};
use dfr0_runner::case::{Case, Context, Stop};

mod between_runs;
mod watchpoints;

/// The marker of the guest's own breakpoint. Userspace's is on [`HERE`]; if userspace uses all breakpoints, they are on
/// the markers starting with 0.
const OWN: u8 = 20;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        whole("counts_are_the_hosts", &rule::GUEST_DEBUG_COUNTS, counts_are_the_hosts),
        whole("invalid_bits_refused", &rule::GUEST_DEBUG_INVALID, |cx| {
            let invalid = (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| bit & VALID == 0);
            let controls = invalid.flat_map(|bit| [bit, bit | ENABLE, bit | VALID]);
            cx.check(&own(0).each(controls, |scenario, control| {
                let refused = scenario.userspace_debugs(GuestDebug::new(control)).refused(EINVAL);
                refused.exec(OWN).takes_breakpoint()
            }))
        }),
        each("refused_changes_nothing", &rule::GUEST_DEBUG_INVALID, |n| {
            let invalid = GuestDebug::breakpoint(n, HERE + 1).and(1 << 2);
            let refused = debugged(n).userspace_debugs(invalid).refused(EINVAL);
            refused.exec(HERE + 1).nothing().exec(HERE).exits()
        }),
        each("off_without_enable", &rule::GUEST_DEBUG_OFF, |n| {
            let control = SINGLESTEP | USE_SW_BP | USE_HW;
            let debug = GuestDebug { control, ..GuestDebug::breakpoint(n, HERE) };
            let off = |scenario: Scenario| {
                let off = scenario.userspace_debugs(debug).exec(HERE).nothing();
                off.exec(OWN).takes_breakpoint().then(Op::Brk).takes_brk()
            };
            let on = off(own(n)).userspace_debugs(breakpoint(n)).exec(HERE).exits();
            off(on)
        }),
    ];
    cases.extend(hardware_breakpoints());
    cases.extend(guests_registers());
    cases.extend(software_breakpoints_and_steps());
    cases.extend(watchpoints::cases());
    cases.extend(between_runs::cases());
    cases
}

fn hardware_breakpoints() -> Vec<Case> {
    vec![
        each("breakpoint_exits", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            let exits = unarmed(n).exec(HERE).exits().exec(HERE).exits();
            exits.exec(HERE + 1).nothing().exec(HERE - 1).nothing().exec(HERE).exits()
        }),
        whole("all_breakpoints_exit", &rule::GUEST_DEBUG_HW_EXITS, |cx| {
            // Userspace has those of the host, also where the guest is shown fewer.
            let count = cx.host().shape().breakpoints;
            let debugged = Scenario::new().userspace_debugs(GuestDebug::first_breakpoints(count));
            let all = debugged.each(0..count, |scenario, marker| scenario.exec(marker).exits());
            cx.check(&all.exec(count).nothing())
        }),
        each("breakpoint_disabled", &rule::BREAKPOINT_ENABLED, |n| {
            let debug = breakpoint(n).with_dbgbcr(ADDRESS.with_e(false));
            unarmed(n).userspace_debugs(debug).exec(HERE).nothing()
        }),
        each("breakpoint_for_el0", &rule::BREAKPOINT_PRIVILEGE, |n| {
            let debug = breakpoint(n).with_dbgbcr(ADDRESS.with_pmc(PMC_EL0));
            unarmed(n).userspace_debugs(debug).exec(HERE).nothing()
        }),
        each("breakpoint_whatever_the_guest_masks", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            let values = [Mdscr::DEFAULT, ON, ON.with_mde(false), ON.with_kde(false)];
            let masks = values.into_iter().flat_map(|mdscr| [(mdscr, true), (mdscr, false)]);
            unarmed(n).each(masks, |scenario, (mdscr, d)| {
                let masked = scenario.enable(mdscr).pstate_d(d).exec(HERE).exits();
                masked.exit().exec(HERE).exits()
            })
        }),
        each("breakpoint_cleared", &rule::GUEST_DEBUG_OFF, |n| {
            let cleared = unarmed(n).exec(HERE).exits().userspace_debugs(GuestDebug::new(ENABLE | USE_HW));
            let again = cleared.exec(HERE).nothing().userspace_debugs(breakpoint(n)).exec(HERE).exits();
            again.userspace_stops().exec(HERE).nothing()
        }),
        each("breakpoint_without_use_hw", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            let others = [ENABLE, ENABLE | USE_SW_BP];
            own(n).each(others, |scenario, control| {
                let armed = scenario.userspace_debugs(breakpoint(n)).exec(HERE).exits();
                let without = armed.userspace_debugs(GuestDebug::new(control)).exec(HERE).nothing();
                let stepped = stepped(without.userspace_debugs(GuestDebug::new(control | SINGLESTEP)), HERE);
                stepped.lock().userspace_stops().exec(HERE).nothing().unlock()
            })
        }),
        each("breakpoint_moved", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            let moved = unarmed(n).exec(HERE).exits().userspace_debugs(GuestDebug::breakpoint(n, HERE + 1));
            moved.exec(HERE).nothing().exec(HERE + 1).exits()
        }),
        each("breakpoint_over_exits", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            unarmed(n).exit().exec(HERE).exits().exit().exit().exec(HERE).exits()
        }),
        each("breakpoint_stepped_over", &rule::GUEST_DEBUG_STEPS, |n| {
            // One exit at the breakpoint, and one after the step.
            let over = |scenario: Scenario| scenario.exec(HERE).exits().exits();
            let debugged = own(n).userspace_debugs(breakpoint(n).on_exit(OnExit::StepOver));
            let twice = over(over(debugged).exec(HERE + 1).nothing());
            twice.userspace_stops().exec(HERE).nothing().exec(OWN).takes_breakpoint()
        }),
        each("breakpoint_under_guests_accesses", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            let written =
                debugged(n).exec(HERE).exits().append(own(n)).exec(HERE).exits().exec(OWN).nothing();
            let value = written.read(dbgbvr(n)).reads(marker(OWN)).exec(HERE).exits();
            let control = value.read(dbgbcr(n)).reads(ADDRESS).exec(HERE).exits();
            control.read(MDSCR_EL1).reads(ON).exec(HERE).exits()
        }),
        each("breakpoint_under_os_lock", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            let locked = own(n).lock().userspace_debugs(breakpoint(n)).exec(HERE).exits().exec(OWN).nothing();
            let held = locked.read(OSLSR_EL1).reads(LOCKED).exit().exec(HERE).exits();
            held.unlock().exec(HERE).exits().userspace_stops().exec(OWN).takes_breakpoint()
        }),
        each("os_lock_under_breakpoint", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            // There was no ISB since the guest wrote the lock.
            let locked = debugged(n).lock().read(OSLSR_EL1).exec(HERE).exits().exec(OWN).nothing();
            let off = locked.userspace_stops().exec(HERE).nothing().exec(OWN).nothing();
            off.read(OSLSR_EL1).reads(LOCKED).unlock().exec(OWN).takes_breakpoint()
        }),
    ]
}

fn guests_registers() -> Vec<Case> {
    vec![
        whole("registers_keep_their_values", &rule::GUEST_DEBUG_KEEPS_REGISTERS, registers_keep_their_values),
        each("registers_written_under_debug", &rule::GUEST_DEBUG_KEEPS_REGISTERS, |n| {
            let written = Scenario::new().userspace_debugs(breakpoint(n)).append(own(n)).exec(HERE).exits();
            let seen = own_seen(own_seen(written, n).userspace_stops(), n);
            seen.exec(HERE).nothing().exec(OWN).takes_breakpoint()
        }),
        each("registers_written_by_userspace", &rule::GUEST_DEBUG_KEEPS_REGISTERS, |n| {
            let debugged = Scenario::new().unmask().userspace_debugs(breakpoint(n));
            let value = debugged.userspace_writes(dbgbvr(n), marker(OWN)).accepted();
            let control = value.userspace_writes(dbgbcr(n), ADDRESS).accepted();
            let written = control.userspace_writes(MDSCR_EL1, ON).accepted();
            let on = own_seen(written, n).exec(HERE).exits().exec(OWN).nothing();
            on.userspace_stops().exec(HERE).nothing().exec(OWN).takes_breakpoint()
        }),
        each("mdscr_keeps_its_value", &rule::GUEST_DEBUG_KEEPS_REGISTERS, |n| {
            unarmed(n).each(mdscr_values(), |scenario, value| {
                let written = scenario.write(MDSCR_EL1, value).exec(HERE).exits();
                both_read(written.exit(), MDSCR_EL1, value)
            })
        }),
        each("guests_breakpoint_under_breakpoint", &rule::GUEST_DEBUG_HW_EXITS, |n| {
            let once = debugged(n).exec(OWN).nothing().exec(HERE).exits().exec(OWN).nothing();
            once.exit().exec(OWN).nothing()
        }),
        each("guests_breakpoint_under_enable", &rule::GUEST_DEBUG_GUESTS_OWN, |n| {
            own(n).each([ENABLE, ENABLE | USE_SW_BP], |scenario, control| {
                let may_exit = |scenario: Scenario| scenario.exec(OWN).may(&Claim::Exit);
                let on = may_exit(scenario.userspace_debugs(GuestDebug::new(control)));
                let on = own_seen(may_exit(on.exec(HERE).nothing()), n);
                own_seen(on.userspace_stops(), n).exec(OWN).takes_breakpoint()
            })
        }),
        each("guests_breakpoint_fires_afterwards", &rule::GUEST_DEBUG_OFF, |n| {
            let given_back = debugged(n).exec(HERE).exits().userspace_stops();
            let once = given_back.exec(OWN).takes_breakpoint().exec(HERE).nothing();
            let twice = once.exit().exec(OWN).takes_breakpoint();
            let again = twice.userspace_debugs(breakpoint(n)).exec(HERE).exits().exec(OWN).nothing();
            again.userspace_stops().exec(OWN).takes_breakpoint()
        }),
        each("guests_breakpoint_fires_after_an_idle_debugger", &rule::GUEST_DEBUG_OFF, |n| {
            let idle = debugged(n).exit().userspace_stops().exec(OWN).takes_breakpoint();
            idle.userspace_debugs(breakpoint(n)).userspace_stops().exec(OWN).takes_breakpoint()
        }),
        each("guests_breakpoint_fires_when_given_back", &rule::GUEST_DEBUG_OFF, |n| {
            let debug = GuestDebug::breakpoint(n, OWN).on_exit(OnExit::SwitchOff);
            let given_back = own(n).userspace_debugs(debug).exec(OWN).exits().takes_breakpoint();
            given_back.exec(OWN).takes_breakpoint()
        }),
        whole("all_guests_breakpoints_fire_afterwards", &rule::GUEST_DEBUG_OFF, |cx| {
            let count = cx.shape().breakpoints;
            let armed =
                Scenario::new().unmask().each(0..count, |scenario, n| scenario.breakpoint(n, n, ADDRESS));
            let debugged = armed.enable(ON).userspace_debugs(GuestDebug::first_breakpoints(count));
            let exits = debugged.each(0..count, |scenario, marker| scenario.exec(marker).exits());
            cx.check(
                &exits
                    .userspace_stops()
                    .each(0..count, |scenario, marker| scenario.exec(marker).takes_breakpoint()),
            )
        }),
    ]
}

fn software_breakpoints_and_steps() -> Vec<Case> {
    const SOFTWARE: GuestDebug = GuestDebug::new(ENABLE | USE_SW_BP);
    const STEPS: GuestDebug = GuestDebug::new(ENABLE | SINGLESTEP);
    vec![
        whole("brk_exits", &rule::GUEST_DEBUG_SW_EXITS, |cx| {
            let masked =
                Scenario::new().userspace_debugs(SOFTWARE).then(Op::Brk).exits().then(Op::Brk).exits();
            let armed = masked.unmask().enable(ON).brk().exits();
            cx.check(&armed.lock().brk().exits().exit().then(Op::Brk).exits())
        }),
        each("brk_exits_beside_breakpoint", &rule::GUEST_DEBUG_SW_EXITS, |n| {
            let debugged = own(n).userspace_debugs(breakpoint(n).and(USE_SW_BP));
            let once = debugged.exec(HERE).exits().then(Op::Brk).exits().exec(OWN).nothing();
            once.exec(HERE).exits().then(Op::Brk).exits()
        }),
        whole("brk_without_use_sw_bp", &rule::GUEST_DEBUG_GUESTS_BRK, |cx| {
            cx.check_each([ENABLE, ENABLE | USE_HW].map(|control| {
                let debugged = Scenario::new().userspace_debugs(GuestDebug::new(control));
                let armed = debugged.brk().brk().unmask().enable(ON).brk();
                armed.lock().brk().userspace_stops().brk().takes_brk()
            }))
        }),
        each("brk_is_the_guests_afterwards", &rule::GUEST_DEBUG_OFF, |n| {
            let under = own(n).brk().takes_brk().userspace_debugs(SOFTWARE).then(Op::Brk).exits();
            let after = under.userspace_stops().then(Op::Brk).takes_brk().exec(OWN).takes_breakpoint();
            after.exit().then(Op::Brk).takes_brk()
        }),
        whole("brk_is_the_guests_when_given_back", &rule::GUEST_DEBUG_OFF, |cx| {
            let debugged = Scenario::new().userspace_debugs(SOFTWARE.on_exit(OnExit::SwitchOff));
            cx.check(&debugged.then(Op::Brk).exits().takes_brk().then(Op::Brk).takes_brk())
        }),
        whole("steps", &rule::GUEST_DEBUG_STEPS, |cx| {
            let stepped = stepped(stepped(Scenario::new().userspace_debugs(STEPS), HERE), HERE + 1);
            cx.check(&self::stepped(stepped.exit(), HERE).userspace_stops().exec(HERE).nothing())
        }),
        whole("steps_whatever_the_guest_masks", &rule::GUEST_DEBUG_STEPS, |cx| {
            let debugged = || Scenario::new().userspace_debugs(STEPS);
            let masked = mdscr_values().map(|mdscr| {
                debugged().each([true, false], |scenario, d| {
                    stepped(scenario.pstate_d(d).write(MDSCR_EL1, mdscr), HERE)
                })
            });
            let locked = stepped(stepped(debugged().lock(), HERE).unlock(), HERE);
            cx.check_each(masked.chain([locked]))
        }),
        whole("steps_into_the_handler", &rule::GUEST_DEBUG_STEPS_INTO_HANDLER, |cx| {
            let undefined = Sequence::named("mrs x1, pmcr_el0");
            let masks = mdscr_values().flat_map(|mdscr| [(mdscr, true), (mdscr, false)]);
            cx.check_each(masks.map(|(mdscr, d)| {
                let debugged = Scenario::new().userspace_debugs(STEPS).pstate_d(d).enable(mdscr);
                stepped(debugged.run(undefined, 0), HERE)
            }))
        }),
        // The marker's page is accessed for the first time, which is a stage 2 fault.
        whole("steps_in_a_new_vm", &rule::GUEST_DEBUG_STEPS, |cx| {
            let stepped = stepped(Scenario::new().userspace_debugs(STEPS), HERE);
            cx.new_guest().and_then(|mut guest| cx.check_on(&mut guest, &stepped)).map(drop)
        })
        .with_own_vms(),
        whole("steps_keep_mdscr", &rule::GUEST_DEBUG_KEEPS_REGISTERS, |cx| {
            // Written before userspace steps the guest, and another while it does.
            let others = mdscr_values().skip(1).chain([Mdscr::DEFAULT]);
            cx.check_each(mdscr_values().zip(others).map(|(before, under)| {
                let stepped = |scenario, value| both_read(stepped(scenario, HERE), MDSCR_EL1, value);
                let kept = stepped(Scenario::new().write(MDSCR_EL1, before).userspace_debugs(STEPS), before);
                let changed = stepped(kept.write(MDSCR_EL1, under), under);
                both_read(changed.userspace_stops(), MDSCR_EL1, under)
            }))
        }),
        each("steps_keep_registers", &rule::GUEST_DEBUG_KEEPS_REGISTERS, |n| {
            let stepped = stepped(own(n).userspace_debugs(STEPS), HERE);
            let seen = own_seen(own_seen(stepped, n).userspace_stops(), n);
            seen.exec(HERE).nothing().exec(OWN).takes_breakpoint()
        }),
        each("guests_breakpoint_fires_after_steps", &rule::GUEST_DEBUG_OFF, |n| {
            let stepped = stepped(own(n).userspace_debugs(STEPS), HERE).userspace_stops();
            let twice = stepped.exec(OWN).takes_breakpoint().exit().exec(OWN).takes_breakpoint();
            twice.exec(HERE).nothing().then(Op::Brk).takes_brk()
        }),
    ]
}

/// The guest's own breakpoint `n`, on marker [`OWN`], with nothing that masks it.
fn own(n: u8) -> Scenario {
    Scenario::new().unmask().breakpoint(n, OWN, ADDRESS).enable(ON)
}

/// Userspace's breakpoint `n`, on marker [`HERE`].
const fn breakpoint(n: u8) -> GuestDebug {
    GuestDebug::breakpoint(n, HERE)
}

/// The guest and userspace both use breakpoint `n`.
fn debugged(n: u8) -> Scenario {
    own(n).userspace_debugs(breakpoint(n))
}

/// Userspace uses breakpoint `n`. The guest has not accessed its debug registers.
fn unarmed(n: u8) -> Scenario {
    Scenario::new().userspace_debugs(breakpoint(n))
}

/// Userspace steps a marker: one exit at its NOP and one at its RET.
fn stepped(scenario: Scenario, marker: u8) -> Scenario {
    scenario.exec(marker).exits().exits()
}

/// The guest and userspace read this value of a register.
fn both_read(scenario: Scenario, reg: SysReg, value: impl Value) -> Scenario {
    let value = value.bits();
    scenario.isb().read(reg).reads(value).userspace_reads(reg).reads(value)
}

/// The guest and userspace read breakpoint `n` and MDSCR_EL1 as [`own`] has written them.
fn own_seen(scenario: Scenario, n: u8) -> Scenario {
    let value = both_read(scenario, dbgbvr(n), marker(OWN));
    both_read(both_read(value, dbgbcr(n), ADDRESS), MDSCR_EL1, ON)
}

/// MDE, KDE and SS in each combination.
fn mdscr_values() -> impl Iterator<Item = Mdscr> {
    [false, true].into_iter().flat_map(|mde| {
        [false, true].into_iter().flat_map(move |kde| {
            [false, true].into_iter().map(move |ss| Mdscr::DEFAULT.with_mde(mde).with_kde(kde).with_ss(ss))
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
    let value = |n: u8| 0x1234_5670_0000 + 0x1_0040 * u64::from(n);
    let control = |n: u8| ADDRESS.with_e(n.is_multiple_of(2));
    for mdscr in [Mdscr::DEFAULT, ON] {
        let seen = |scenario: Scenario, n| {
            let read = both_read(both_read(scenario, dbgbvr(n), value(n)), dbgbcr(n), control(n));
            both_read(read, MDSCR_EL1, mdscr)
        };
        let written = Scenario::new()
            .each(numbers.clone(), |scenario, n| scenario.breakpoint_at(n, value(n), control(n)));
        let debug = GuestDebug::first_breakpoints(cx.shape().breakpoints);
        let debugged = written.enable(mdscr).userspace_debugs(debug);
        let exits = debugged.each(numbers.clone(), |scenario, marker| scenario.exec(marker).exits());
        let during = exits.each(numbers.clone(), seen);
        cx.check(&during.userspace_stops().each(numbers.clone(), seen))?;
    }
    Ok(())
}
