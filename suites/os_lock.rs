// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The OS Lock: who sees it, what it masks, and whether the debug registers keep their values when they are
//! accessed under it and right after it, on each path by which KVM switches them between host and guest.

use crate::{
    forms::{each_breakpoint as each, each_watchpoint, one, whole, within},
    stage::{ADDRESS, DEBUGGER, DOUBLEWORD, HERE, LOCKED, ON, STEP, UNLOCKED, WATCHED, armed, watching},
};
use dfr0_model::{
    claim::Claim,
    control::{LSC_LOAD, Mdscr, PMC_EL0},
    id_write::EINVAL,
    rule,
    scenario::{El, Entry, Scenario, Value},
    shape::Shape,
    sysreg::{
        DebugRegister, MDCCINT_EL1, MDSCR_EL1, OSLAR_EL1, OSLSR_EL1, SysReg, dbgbcr, dbgbvr, dbgwcr, dbgwvr,
    },
    wire::marker,
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    effort::share_of,
};

pub fn cases() -> Vec<Case> {
    let mut cases = access_cases();
    cases.extend(within("breakpoint", breakpoints()));
    cases.extend(within("watchpoint", watchpoints()));
    cases.extend(brk_and_steps());
    cases.extend(within("registers", registers()));
    cases
}

/// Who writes the lock.
#[derive(Clone, Copy)]
enum By {
    Guest,
    Userspace,
}

const BOTH: [By; 2] = [By::Guest, By::Userspace];

/// What happens between two operations. An exit and a debugger each make KVM decide again who owns the debug
/// registers.
#[derive(Clone, Copy)]
enum Way {
    Straight,
    Exit,
    /// Userspace starts and stops debugging the guest.
    TakenOver,
}

const WAYS: [Way; 3] = [Way::Straight, Way::Exit, Way::TakenOver];

/// Who owns the debug registers when the lock is taken: nobody, because no debug exception is enabled and the
/// guest has just exited; the guest; or userspace, because it debugs the guest.
#[derive(Clone, Copy)]
enum Owner {
    Nobody,
    Guest,
    Host,
}

const OWNERS: [Owner; 3] = [Owner::Nobody, Owner::Guest, Owner::Host];

fn lock(scenario: Scenario, by: By) -> Scenario {
    match by {
        By::Guest => scenario.lock(),
        By::Userspace => scenario.userspace_writes(OSLSR_EL1, LOCKED).accepted(),
    }
}

fn unlock(scenario: Scenario, by: By) -> Scenario {
    match by {
        By::Guest => scenario.unlock(),
        By::Userspace => scenario.userspace_writes(OSLSR_EL1, UNLOCKED).accepted(),
    }
}

fn on_way(scenario: Scenario, way: Way) -> Scenario {
    match way {
        Way::Straight => scenario,
        Way::Exit => scenario.exit(),
        Way::TakenOver => scenario.userspace_debugs(DEBUGGER).exit().userspace_stops(),
    }
}

/// After a context synchronization event, the guest reads that the OS Lock is locked.
fn is_locked(scenario: Scenario) -> Scenario {
    scenario.isb().read(OSLSR_EL1).reads(LOCKED)
}

/// The same, unlocked.
fn is_unlocked(scenario: Scenario) -> Scenario {
    scenario.isb().read(OSLSR_EL1).reads(UNLOCKED)
}

fn access_cases() -> Vec<Case> {
    vec![
        one("oslar_is_write_only", &rule::REGISTERS_ONE_WAY, || {
            let locked = is_locked(Scenario::new().read(OSLAR_EL1).undefined().lock());
            is_locked(locked.read(OSLAR_EL1).undefined())
        }),
        one("oslsr_is_read_only", &rule::REGISTERS_ONE_WAY, || {
            let unlocked = is_unlocked(Scenario::new().write(OSLSR_EL1, 0b10).undefined());
            is_locked(unlocked.lock().isb().write(OSLSR_EL1, 0).undefined())
        }),
        one("oslsr_from_userspace", &rule::OSLSR_FROM_USERSPACE, oslsr_from_userspace),
        one("oslar_takes_bit_0_alone", &rule::OS_LOCK_ACCESS, || {
            Scenario::new().each(1..64, |scenario, bit| {
                let locked = is_locked(scenario.write(OSLAR_EL1, 1 << bit | 1));
                is_unlocked(locked.write(OSLAR_EL1, 1 << bit))
            })
        }),
        one("oslsr_shows_it_to_both", &rule::OS_LOCK_ACCESS, || {
            let pairs = BOTH.into_iter().flat_map(|by| BOTH.map(|other| (by, other)));
            Scenario::new().each(pairs, |scenario, (by, other)| {
                let locked = is_locked(lock(scenario, by)).userspace_reads(OSLSR_EL1).reads(LOCKED);
                let locked = is_locked(is_locked(locked).exit());
                let unlocked = is_unlocked(unlock(locked, other)).userspace_reads(OSLSR_EL1).reads(UNLOCKED);
                is_unlocked(is_unlocked(unlocked).exit())
            })
        }),
    ]
}

/// OSLK is bit 1. KVM refuses a value that differs in another bit from what the register reads as.
fn oslsr_from_userspace() -> Scenario {
    let others = (0..64).filter(|bit| *bit != 1).flat_map(|bit| [UNLOCKED ^ 1 << bit, LOCKED ^ 1 << bit]);
    let values = [0, 0b10, 0b1001, LOCKED, 0b1100, 0b1_1000, u64::MAX, UNLOCKED].into_iter();
    let mut now = UNLOCKED;
    Scenario::new().each(values.chain(others).chain([LOCKED, UNLOCKED]), |scenario, value| {
        let set = scenario.userspace_writes(OSLSR_EL1, value);
        let set = if [LOCKED, UNLOCKED].contains(&value) {
            now = value;
            set.accepted()
        } else {
            set.refused(EINVAL)
        };
        set.userspace_reads(OSLSR_EL1).reads(now).isb().read(OSLSR_EL1).reads(now)
    })
}

fn breakpoints() -> Vec<Case> {
    vec![
        each("held", &rule::OS_LOCK, |n| is_locked(armed(n).lock()).exec(HERE).nothing()),
        each("held_at_el0", &rule::OS_LOCK, |n| {
            let at_el0 = armed(n).write(dbgbcr(n), ADDRESS.with_pmc(PMC_EL0)).at(El::El0);
            at_el0.lock().exec(HERE).nothing()
        }),
        each("held_over_exit", &rule::OS_LOCK, |n| {
            armed(n).lock().exit().exec(HERE).nothing().unlock().exec(HERE).takes_breakpoint()
        }),
        each("released", &rule::OS_LOCK, |n| {
            let held = armed(n).lock().exec(HERE).nothing();
            is_unlocked(held.unlock()).exec(HERE).takes_breakpoint()
        }),
        // KVM owns the debug registers while the lock is held, and has to give them back.
        each("armed_after_it", &rule::OS_LOCK, |n| {
            Scenario::new().lock().unlock().append(armed(n)).exec(HERE).takes_breakpoint()
        }),
        each("written_under", &rule::OS_LOCK, |n| {
            let written = Scenario::new().lock().append(armed(n)).isb();
            let value = written.read(dbgbvr(n)).reads(marker(HERE));
            let all = value.read(dbgbcr(n)).reads(ADDRESS).read(MDSCR_EL1).reads(ON);
            all.exec(HERE).nothing().unlock().exec(HERE).takes_breakpoint()
        }),
        each("by_userspace", &rule::ONE_REG_IS_THE_REGISTER, |n| {
            let locked = is_locked(lock(armed(n), By::Userspace)).exec(HERE).nothing();
            let seen = locked.userspace_reads(OSLSR_EL1).reads(LOCKED);
            is_unlocked(unlock(seen, By::Userspace)).exec(HERE).takes_breakpoint()
        }),
        each("bits", &rule::OS_LOCK_ACCESS, |n| {
            // All bits but bit 0.
            let bit_0_clear = is_unlocked(armed(n).write(OSLAR_EL1, !1)).exec(HERE).takes_breakpoint();
            let all = is_locked(bit_0_clear.write(OSLAR_EL1, u64::MAX)).exec(HERE).nothing();
            let bit_1 = is_unlocked(all.write(OSLAR_EL1, 2)).exec(HERE).takes_breakpoint();
            is_locked(bit_1.write(OSLAR_EL1, 1)).exec(HERE).nothing()
        }),
        Case::new("each_way", &rule::OS_LOCK, |cx| {
            let fires = |scenario: Scenario| scenario.exec(HERE).takes_breakpoint();
            let silent = |scenario: Scenario| scenario.exec(HERE).nothing();
            cx.shape().breakpoint_numbers().try_for_each(|n| each_way(cx, Some(n), &armed(n), silent, fires))
        }),
    ]
}

fn watchpoints() -> Vec<Case> {
    let each = |name: &str, scenario: fn(u8) -> Scenario| each_watchpoint(name, &rule::OS_LOCK, scenario);
    vec![
        each("held", |n| {
            let locked = silent(watching(n).lock());
            silent(locked.at(El::El0)).at(El::El1).unlock().store(WATCHED).takes_watchpoint()
        }),
        each("written_under", |n| {
            let written = silent(Scenario::new().lock().append(watching(n)));
            fires(written.unlock())
        }),
        Case::new("each_way", &rule::OS_LOCK, |cx| {
            (0..cx.shape().watchpoints).try_for_each(|n| each_way(cx, Some(n), &watching(n), silent, fires))
        }),
    ]
}

/// The watchpoint fires at a load and at a store.
fn fires(scenario: Scenario) -> Scenario {
    scenario.load_and_store(WATCHED, Claim::Watchpoint)
}

/// The watchpoint fires neither at a load nor at a store.
fn silent(scenario: Scenario) -> Scenario {
    scenario.load_and_store(WATCHED, Claim::Nothing)
}

fn brk_and_steps() -> Vec<Case> {
    let brk =
        |name: &str, scenario: fn(u8) -> Scenario| each(name, &rule::BRK_UNMASKED, scenario).within("brk");
    let step = |name: &str, scenario: fn() -> Scenario| one(name, &rule::OS_LOCK, scenario).within("step");
    vec![
        brk("taken", |n| armed(n).lock().brk().takes_brk()),
        brk("taken_at_el0", |n| armed(n).lock().at(El::El0).brk().takes_brk()),
        step("held", || {
            let locked = stepping(El::El0).lock().exec(HERE).nothing().at(El::El1).exec(HERE).nothing();
            locked.read(MDSCR_EL1).reads(STEP).unlock().exec(HERE).takes_steps(2)
        }),
        step("held_over_exit", || {
            let locked = stepping(El::El1).lock().exit().exec(HERE).nothing();
            // The second step's handler has switched stepping off.
            locked.unlock().exit().exec(HERE).takes_steps(2).exec(HERE).nothing()
        }),
        Case::new("each_way", &rule::OS_LOCK, |cx| {
            let fires = |scenario: Scenario| scenario.exec(HERE).takes_steps(2);
            let silent = |scenario: Scenario| scenario.exec(HERE).nothing();
            each_way(cx, None, &stepping(El::El1), silent, fires)
        })
        .within("step"),
    ]
}

/// Armed on each way, locked by the guest or userspace, and unlocked by the guest or userspace, with one way
/// while locked and one afterwards, so that each two ways meet. Nothing fires under the lock, and everything
/// fires afterwards. Number 0 has all combinations; each of the others has every fourth.
fn each_way(
    cx: &mut Context<'_>,
    n: Option<u8>,
    armed: &Scenario,
    silent: fn(Scenario) -> Scenario,
    fires: fn(Scenario) -> Scenario,
) -> Result<(), Stop> {
    let armed = WAYS.map(|way| on_way(armed.clone(), way)).into_iter().chain([armed.by_userspace()]);
    let combinations = armed.enumerate().flat_map(|(place, armed)| {
        let who = BOTH.into_iter().flat_map(|by| BOTH.map(|other| (by, other)));
        let ways = who.flat_map(|who| (0..WAYS.len()).map(move |next| (who, next)));
        ways.map(move |(who, next)| (armed.clone(), who, WAYS[next], WAYS[(place + next) % WAYS.len()]))
    });
    share_of(n, combinations).try_for_each(|(armed, (by, other), under, after)| {
        let locked = silent(on_way(lock(armed, by), under));
        let released = on_way(unlock(is_locked(locked), other), after);
        cx.check(&is_unlocked(fires(released)))
    })
}

fn registers() -> Vec<Case> {
    vec![
        whole("read_first_under_it", &rule::REGISTERS_READ_BACK, |cx| {
            let under = |scenario: Scenario, register: &Register| {
                scenario.isb().read(register.reg).reads(register.first)
            };
            each_register(cx, under, |scenario, _| scenario, |register| register.first)
        }),
        whole("written_first_under_it", &rule::REGISTERS_READ_BACK, |cx| {
            let under = |scenario: Scenario, register: &Register| {
                let written = scenario.write(register.reg, register.second).isb();
                written.read(register.reg).reads(register.second)
            };
            each_register(cx, under, |scenario, _| scenario, |register| register.second)
        }),
        whole("written_by_userspace_under_it", &rule::ONE_REG_IS_THE_REGISTER, |cx| {
            let under = |scenario: Scenario, register: &Register| {
                let written = scenario.userspace_writes(register.reg, register.second).accepted();
                written.read(register.reg).reads(register.second)
            };
            each_register(cx, under, |scenario, _| scenario, |register| register.second)
        }),
        whole("written_first_after_it", &rule::REGISTERS_READ_BACK, |cx| {
            let after =
                |scenario: Scenario, register: &Register| scenario.write(register.reg, register.second);
            each_register(cx, |scenario, _| scenario, after, |register| register.second)
        }),
        whole("mdscr_saves_edscr", &rule::SAVED_UNDER_OS_LOCK, |cx| {
            // RXfull, TXfull, RXO, TXU, TDA, HDE and ERR, one by one.
            [30, 29, 27, 26, 21, 14, 6].into_iter().try_for_each(|bit| {
                BOTH.into_iter().try_for_each(|by| {
                    let value = 1 << bit | ON.bits();
                    let written = lock(Scenario::new(), by).isb().write(MDSCR_EL1, value).isb();
                    let read = written.read(MDSCR_EL1).reads(value).exit().read(MDSCR_EL1).reads(value);
                    let seen = read.userspace_reads(MDSCR_EL1).reads(value);
                    let cleared = seen.disable().isb().read(MDSCR_EL1).reads(0);
                    cx.check(&unlock(cleared, by).isb().read(MDSCR_EL1).reads(0))
                })
            })
        }),
        whole("mdccint_under_it", &rule::REGISTERS_READ_BACK, |cx| {
            let values = [1 << 30, 1 << 29, 0b11 << 29, 0];
            cx.check(&Scenario::new().lock().each(values, |scenario, value: u64| {
                let read = scenario.write(MDCCINT_EL1, value).isb().read(MDCCINT_EL1).reads(value);
                read.exit().read(MDCCINT_EL1).reads(value).userspace_reads(MDCCINT_EL1).reads(value)
            }))
        }),
        whole("all_keep_their_values", &rule::REGISTERS_READ_BACK, all_keep_their_values),
    ]
}

/// A register, and two values for it.
struct Register {
    reg: SysReg,
    first: u64,
    second: u64,
}

fn register(reg: SysReg, first: impl Value, second: impl Value) -> Register {
    Register { reg, first: first.bits(), second: second.bits() }
}

fn all_registers(shape: Shape) -> Vec<Register> {
    let breakpoints = (0..shape.breakpoints).flat_map(|n| {
        let other = ADDRESS.with_pmc(PMC_EL0).with_e(false);
        let value = register(dbgbvr(n), 0x1234_5670_0040, 0xffff_edcb_a98f_ffbc);
        [value, register(dbgbcr(n), ADDRESS, other)]
    });
    let watchpoints = (0..shape.watchpoints).flat_map(|n| {
        let other = DOUBLEWORD.with_lsc(LSC_LOAD).with_bas(0x0f).with_e(false);
        let value = register(dbgwvr(n), 0x1234_5670_0040, 0xffff_edcb_a98f_ffb8);
        [value, register(dbgwcr(n), DOUBLEWORD, other)]
    });
    let mdscr = register(MDSCR_EL1, ON.with_mde(false), ON);
    breakpoints.chain(watchpoints).chain([mdscr]).collect()
}

/// Each register with each owner. The register is written, the guest or userspace locks, the register is
/// accessed `under` the lock, the guest or userspace unlocks, and the register is accessed `after` the lock.
/// The guest reads it before and after an exit, and userspace reads it: it holds `holds`. Number 0 has all
/// combinations; each of the others has every fourth.
fn each_register(
    cx: &mut Context<'_>,
    under: fn(Scenario, &Register) -> Scenario,
    after: fn(Scenario, &Register) -> Scenario,
    holds: fn(&Register) -> u64,
) -> Result<(), Stop> {
    for register in all_registers(cx.shape()) {
        let (reg, value) = (register.reg, holds(&register));
        let who = BOTH.into_iter().flat_map(|by| BOTH.map(|other| (by, other)));
        let combinations = OWNERS.into_iter().flat_map(|owner| who.clone().map(move |who| (owner, who)));
        for (owner, (by, other)) in share_of(reg.debug_number().map(|(_, n)| n), combinations) {
            let start = owned(Scenario::new(), owner).write(reg, register.first);
            let start = if matches!(owner, Owner::Nobody) { start.exit() } else { start };
            let released = unlock(under(lock(start, by), &register), other);
            let read = after(released, &register).isb().read(reg).reads(value);
            let seen = read.exit().read(reg).reads(value).userspace_reads(reg).reads(value);
            cx.check(&seen.userspace_stops().read(reg).reads(value))?;
        }
    }
    Ok(())
}

/// What follows happens while `owner` owns the debug registers.
fn owned(scenario: Scenario, owner: Owner) -> Scenario {
    match owner {
        Owner::Nobody => scenario,
        Owner::Guest => scenario.enable(ON),
        Owner::Host => scenario.userspace_debugs(DEBUGGER),
    }
}

/// Every register keeps its own value, under the lock and after it, over exits.
fn all_keep_their_values(cx: &mut Context<'_>) -> Result<(), Stop> {
    let registers = all_registers(cx.shape());
    // Not MDSCR_EL1: it decides who owns the others.
    let values: Vec<(SysReg, u64)> = registers
        .iter()
        .filter_map(|register| {
            let (kind, n) = register.reg.debug_number()?;
            let value = match kind {
                DebugRegister::Bvr | DebugRegister::Wvr => register.first + 0x1_0040 * u64::from(n),
                _ if n.is_multiple_of(2) => register.first,
                _ => register.second,
            };
            Some((register.reg, value))
        })
        .collect();
    let read = |scenario: Scenario| {
        scenario.each(values.iter().rev(), |scenario, (reg, value)| scenario.read(*reg).reads(*value))
    };
    for mdscr in [Mdscr::DEFAULT, ON] {
        for (by, other) in BOTH.into_iter().flat_map(|by| BOTH.map(|other| (by, other))) {
            let written =
                Scenario::new().each(&values, |scenario, (reg, value)| scenario.write(*reg, *value));
            let locked = read(lock(written.enable(mdscr).isb(), by).exit());
            let released = read(unlock(locked, other).isb());
            let seen =
                released.each(&values, |scenario, (reg, value)| scenario.userspace_reads(*reg).reads(*value));
            cx.check(&read(seen))?;
        }
    }
    Ok(())
}

/// What follows is stepped at `el`.
fn stepping(el: El) -> Scenario {
    Scenario::new().unmask().enable(STEP).at(el).entered(Entry::stepped(2)).isb()
}
