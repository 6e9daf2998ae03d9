// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The OS Lock: who sees it, what it masks, and whether the debug registers keep their values when they are
//! accessed under it and right after it, on each path by which KVM switches them between host and guest.

use crate::forms::{each_breakpoint as each, each_watchpoint, one as case, whole, within};
use dfr0_model::{
    access,
    control::{Dbgbcr, Dbgwcr, LSC_LOAD, Mdscr, PMC_EL0},
    guest_debug::{ENABLE, GuestDebug},
    rule,
    scenario::{El, Entry, Op, Scenario},
    shape::Shape,
    sysreg::{
        DebugRegister, MDCCINT_EL1, MDSCR_EL1, OSLAR_EL1, OSLSR_EL1, SysReg, dbgbcr, dbgbvr, dbgwcr, dbgwvr,
    },
    wire::{TARGET, TARGET_SIZE},
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    effort::share_of,
};

/// The marker that breakpoints are set on.
const HERE: u8 = 1;
/// The doubleword that is watched.
const WATCHED: u64 = TARGET + TARGET_SIZE / 2;
const ON: Mdscr = Mdscr::breakpoints_at_el1();
const ADDRESS: Dbgbcr = Dbgbcr::address_at_el1();
const DOUBLEWORD: Dbgwcr = Dbgwcr::doubleword();
/// OSLSR_EL1, locked and unlocked.
const LOCKED: u64 = 0b1010;
const UNLOCKED: u64 = 0b1000;
/// Software step enabled from EL1.
const STEP: Mdscr = Mdscr::DEFAULT.with_ss(true).with_kde(true);

const LDR: u8 = access::place("ldr x1");
const STR: u8 = access::place("str x1");

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
        By::Guest => scenario.write(OSLAR_EL1, 1),
        By::Userspace => scenario.then(Op::KvmSet { reg: OSLSR_EL1, value: LOCKED }),
    }
}

fn unlock(scenario: Scenario, by: By) -> Scenario {
    match by {
        By::Guest => scenario.write(OSLAR_EL1, 0),
        By::Userspace => scenario.then(Op::KvmSet { reg: OSLSR_EL1, value: UNLOCKED }),
    }
}

fn on_way(scenario: Scenario, way: Way) -> Scenario {
    match way {
        Way::Straight => scenario,
        Way::Exit => scenario.then(Op::Exit),
        Way::TakenOver => {
            scenario.then(Op::Debug(GuestDebug::new(ENABLE))).then(Op::Exit).then(Op::Debug(GuestDebug::OFF))
        }
    }
}

/// OSLSR_EL1 as the guest reads it, after a context synchronization event.
fn status(scenario: Scenario) -> Scenario {
    scenario.isb().read(OSLSR_EL1)
}

pub fn cases() -> Vec<Case> {
    let mut cases = access_cases();
    cases.extend(within("breakpoint", breakpoints()));
    cases.extend(within("watchpoint", watchpoints()));
    cases.extend(brk_and_steps());
    cases.extend(within("registers", registers()));
    cases
}

fn access_cases() -> Vec<Case> {
    vec![
        case("oslar_is_write_only", &rule::REGISTERS_ONE_WAY, || {
            status(status(Scenario::new().read(OSLAR_EL1).write(OSLAR_EL1, 1)).read(OSLAR_EL1))
        }),
        case("oslsr_is_read_only", &rule::REGISTERS_ONE_WAY, || {
            let written = status(Scenario::new().write(OSLSR_EL1, 0b10)).write(OSLAR_EL1, 1);
            status(written.isb().write(OSLSR_EL1, 0))
        }),
        case("oslsr_from_userspace", &rule::OSLSR_FROM_USERSPACE, || {
            let others =
                (0..64).filter(|bit| *bit != 1).flat_map(|bit| [UNLOCKED ^ 1 << bit, LOCKED ^ 1 << bit]);
            let values = [0, 0b10, 0b1001, LOCKED, 0b1100, 0b1_1000, u64::MAX, UNLOCKED].into_iter();
            values.chain(others).chain([LOCKED, UNLOCKED]).fold(Scenario::new(), |scenario, value| {
                let set = scenario.then(Op::KvmSet { reg: OSLSR_EL1, value });
                status(set.then(Op::KvmGet { reg: OSLSR_EL1 }))
            })
        }),
        case("oslar_takes_bit_0_alone", &rule::OS_LOCK_ACCESS, || {
            (1..64).fold(Scenario::new(), |scenario, bit| {
                let locked = status(scenario.write(OSLAR_EL1, 1 << bit | 1));
                status(locked.write(OSLAR_EL1, 1 << bit))
            })
        }),
        case("oslsr_shows_it_to_both", &rule::OS_LOCK_ACCESS, || {
            BOTH.into_iter().flat_map(|by| BOTH.map(|other| (by, other))).fold(
                Scenario::new(),
                |scenario, (by, other)| {
                    let seen = |scenario| {
                        status(status(scenario).then(Op::KvmGet { reg: OSLSR_EL1 })).then(Op::Exit)
                    };
                    status(seen(unlock(status(seen(lock(scenario, by))), other)))
                },
            )
        }),
    ]
}

fn breakpoints() -> Vec<Case> {
    vec![
        each("held", &rule::OS_LOCK, |n| status(armed(n).write(OSLAR_EL1, 1)).exec(HERE)),
        each("held_at_el0", &rule::OS_LOCK, |n| {
            let at_el0 = armed(n).write(dbgbcr(n), ADDRESS.with_pmc(PMC_EL0).raw_value()).at(El::El0);
            at_el0.write(OSLAR_EL1, 1).exec(HERE)
        }),
        each("held_over_exit", &rule::OS_LOCK, |n| {
            armed(n).write(OSLAR_EL1, 1).then(Op::Exit).exec(HERE).write(OSLAR_EL1, 0).exec(HERE)
        }),
        each("released", &rule::OS_LOCK, |n| {
            status(armed(n).write(OSLAR_EL1, 1).exec(HERE).write(OSLAR_EL1, 0)).exec(HERE)
        }),
        each("written_under", &rule::OS_LOCK, |n| {
            let written = Scenario::new().write(OSLAR_EL1, 1).append(armed(n));
            let read = written.isb().read(dbgbvr(n)).read(dbgbcr(n)).read(MDSCR_EL1);
            read.exec(HERE).write(OSLAR_EL1, 0).exec(HERE)
        }),
        each("by_userspace", &rule::ONE_REG_IS_THE_REGISTER, |n| {
            let locked = status(lock(armed(n), By::Userspace)).exec(HERE);
            status(unlock(locked.then(Op::KvmGet { reg: OSLSR_EL1 }), By::Userspace)).exec(HERE)
        }),
        each("bits", &rule::OS_LOCK_ACCESS, |n| {
            [!1, u64::MAX, 2, 1]
                .into_iter()
                .fold(armed(n), |scenario, value| status(scenario.write(OSLAR_EL1, value)).exec(HERE))
        }),
        Case::new("each_way", &rule::OS_LOCK, |cx| {
            cx.shape()
                .breakpoint_numbers()
                .try_for_each(|n| each_way(cx, Some(n), &armed(n), |scenario| scenario.exec(HERE)))
        }),
    ]
}

fn watchpoints() -> Vec<Case> {
    let each = |name: &str, scenario: fn(u8) -> Scenario| each_watchpoint(name, &rule::OS_LOCK, scenario);
    vec![
        each("held", |n| {
            let locked = load_and_store(watching(n).write(OSLAR_EL1, 1));
            load_and_store(locked.at(El::El0)).at(El::El1).write(OSLAR_EL1, 0).access(STR, WATCHED)
        }),
        each("written_under", |n| {
            let written = load_and_store(Scenario::new().write(OSLAR_EL1, 1).append(watching(n)));
            load_and_store(written.write(OSLAR_EL1, 0))
        }),
        Case::new("each_way", &rule::OS_LOCK, |cx| {
            (0..cx.shape().watchpoints).try_for_each(|n| each_way(cx, Some(n), &watching(n), load_and_store))
        }),
    ]
}

fn brk_and_steps() -> Vec<Case> {
    let brk =
        |name: &str, scenario: fn(u8) -> Scenario| each(name, &rule::BRK_UNMASKED, scenario).within("brk");
    let step = |name: &str, scenario: fn() -> Scenario| case(name, &rule::OS_LOCK, scenario).within("step");
    vec![
        brk("taken", |n| armed(n).write(OSLAR_EL1, 1).isb().then(Op::Brk)),
        brk("taken_at_el0", |n| armed(n).write(OSLAR_EL1, 1).at(El::El0).isb().then(Op::Brk)),
        step("held", || {
            let locked = stepping(El::El0).write(OSLAR_EL1, 1).exec(HERE).at(El::El1).exec(HERE);
            locked.read(MDSCR_EL1).write(OSLAR_EL1, 0).exec(HERE)
        }),
        step("held_over_exit", || {
            let locked = stepping(El::El1).write(OSLAR_EL1, 1).then(Op::Exit).exec(HERE);
            locked.write(OSLAR_EL1, 0).then(Op::Exit).exec(HERE).exec(HERE)
        }),
        Case::new("each_way", &rule::OS_LOCK, |cx| {
            each_way(cx, None, &stepping(El::El1), |scenario| scenario.exec(HERE))
        })
        .within("step"),
    ]
}

/// Armed on each way, locked by the guest or userspace, and unlocked by the guest or userspace, with one way
/// while locked and one afterwards, so that each two ways meet. Nothing fires under the lock, and everything
/// fires afterwards. Number 0 has all combinations; the others take turns.
fn each_way(
    cx: &mut Context<'_>,
    n: Option<u8>,
    armed: &Scenario,
    attempt: fn(Scenario) -> Scenario,
) -> Result<(), Stop> {
    let armed = WAYS.map(|way| on_way(armed.clone(), way)).into_iter().chain([armed.by_userspace()]);
    let combinations = armed.enumerate().flat_map(|(place, armed)| {
        let who = BOTH.into_iter().flat_map(|by| BOTH.map(|other| (by, other)));
        let ways = who.flat_map(|who| (0..WAYS.len()).map(move |next| (who, next)));
        ways.map(move |(who, next)| (armed.clone(), who, WAYS[next], WAYS[(place + next) % WAYS.len()]))
    });
    share_of(n, combinations).try_for_each(|(armed, (by, other), under, after)| {
        let locked = attempt(on_way(lock(armed, by), under));
        let released = on_way(unlock(status(locked), other), after);
        cx.check(&status(attempt(released)))
    })
}

fn registers() -> Vec<Case> {
    vec![
        whole("read_first_under_it", &rule::REGISTERS_READ_BACK, |cx| {
            each_register(cx, |scenario, register| scenario.isb().read(register.reg), |scenario, _| scenario)
        }),
        whole("written_first_under_it", &rule::REGISTERS_READ_BACK, |cx| {
            each_register(
                cx,
                |scenario, register| scenario.write(register.reg, register.second).isb().read(register.reg),
                |scenario, _| scenario,
            )
        }),
        whole("written_by_userspace_under_it", &rule::ONE_REG_IS_THE_REGISTER, |cx| {
            each_register(
                cx,
                |scenario, register| {
                    let (reg, value) = (register.reg, register.second);
                    scenario.then(Op::KvmSet { reg, value }).read(reg)
                },
                |scenario, _| scenario,
            )
        }),
        whole("written_first_after_it", &rule::REGISTERS_READ_BACK, |cx| {
            each_register(
                cx,
                |scenario, _| scenario,
                |scenario, register| scenario.write(register.reg, register.second),
            )
        }),
        whole("mdscr_saves_edscr", &rule::SAVED_UNDER_OS_LOCK, |cx| {
            // RXfull, TXfull, RXO, TXU, TDA, HDE and ERR, one by one.
            [30, 29, 27, 26, 21, 14, 6].into_iter().try_for_each(|bit| {
                BOTH.into_iter().try_for_each(|by| {
                    let written = lock(Scenario::new(), by).isb().write(MDSCR_EL1, 1 << bit | ON.raw_value());
                    let read = written.isb().read(MDSCR_EL1).then(Op::Exit).read(MDSCR_EL1);
                    let cleared = read.then(Op::KvmGet { reg: MDSCR_EL1 }).write(MDSCR_EL1, 0).isb();
                    cx.check(&unlock(cleared.read(MDSCR_EL1), by).isb().read(MDSCR_EL1))
                })
            })
        }),
        whole("mdccint_under_it", &rule::REGISTERS_READ_BACK, |cx| {
            let locked = Scenario::new().write(OSLAR_EL1, 1);
            cx.check(&[1 << 30, 1 << 29, 0b11 << 29, 0].into_iter().fold(locked, |scenario, value| {
                let written = scenario.write(MDCCINT_EL1, value).isb().read(MDCCINT_EL1);
                written.then(Op::Exit).read(MDCCINT_EL1).then(Op::KvmGet { reg: MDCCINT_EL1 })
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

fn all_registers(shape: Shape) -> Vec<Register> {
    let breakpoints = (0..shape.breakpoints).flat_map(|n| {
        let other = ADDRESS.with_pmc(PMC_EL0).with_e(false);
        [
            Register { reg: dbgbvr(n), first: 0x1234_5670_0040, second: 0xffff_edcb_a98f_ffbc },
            Register { reg: dbgbcr(n), first: ADDRESS.raw_value(), second: other.raw_value() },
        ]
    });
    let watchpoints = (0..shape.watchpoints).flat_map(|n| {
        let other = DOUBLEWORD.with_lsc(LSC_LOAD).with_bas(0x0f).with_e(false);
        [
            Register { reg: dbgwvr(n), first: 0x1234_5670_0040, second: 0xffff_edcb_a98f_ffb8 },
            Register { reg: dbgwcr(n), first: DOUBLEWORD.raw_value(), second: other.raw_value() },
        ]
    });
    let [kde, both] = [ON.with_mde(false), ON].map(|mdscr| mdscr.raw_value());
    let mdscr = Register { reg: MDSCR_EL1, first: kde, second: both };
    breakpoints.chain(watchpoints).chain([mdscr]).collect()
}

/// Each register with each owner. The register is written, the guest or userspace locks, the register is
/// accessed `under` the lock, the guest or userspace unlocks, and the register is accessed `after` the lock.
/// The guest reads it before and after an exit, and userspace reads it. Number 0 has all combinations; the
/// others take turns.
fn each_register(
    cx: &mut Context<'_>,
    under: fn(Scenario, &Register) -> Scenario,
    after: fn(Scenario, &Register) -> Scenario,
) -> Result<(), Stop> {
    for register in all_registers(cx.shape()) {
        let reg = register.reg;
        let who = BOTH.into_iter().flat_map(|by| BOTH.map(|other| (by, other)));
        let combinations = OWNERS.into_iter().flat_map(|owner| who.clone().map(move |who| (owner, who)));
        for (owner, (by, other)) in share_of(reg.debug_number().map(|(_, n)| n), combinations) {
            let start = owned(Scenario::new(), owner).write(reg, register.first);
            let start = if matches!(owner, Owner::Nobody) { start.then(Op::Exit) } else { start };
            let released = unlock(under(lock(start, by), &register), other);
            let read = after(released, &register).isb().read(reg).then(Op::Exit).read(reg);
            cx.check(&read.then(Op::KvmGet { reg }).then(Op::Debug(GuestDebug::OFF)).read(reg))?;
        }
    }
    Ok(())
}

/// What follows happens while `owner` owns the debug registers.
fn owned(scenario: Scenario, owner: Owner) -> Scenario {
    match owner {
        Owner::Nobody => scenario,
        Owner::Guest => scenario.enable(ON),
        Owner::Host => scenario.then(Op::Debug(GuestDebug::new(ENABLE))),
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
    let read =
        |scenario: Scenario| values.iter().rev().fold(scenario, |scenario, (reg, _)| scenario.read(*reg));
    for mdscr in [Mdscr::DEFAULT, ON] {
        for (by, other) in BOTH.into_iter().flat_map(|by| BOTH.map(|other| (by, other))) {
            let written =
                values.iter().fold(Scenario::new(), |scenario, (reg, value)| scenario.write(*reg, *value));
            let locked = read(lock(written.enable(mdscr).isb(), by).then(Op::Exit));
            let released = read(unlock(locked, other).isb());
            let seen =
                values.iter().fold(released, |scenario, (reg, _)| scenario.then(Op::KvmGet { reg: *reg }));
            cx.check(&read(seen))?;
        }
    }
    Ok(())
}

/// Breakpoint `n` on marker [`HERE`], with nothing that masks it.
fn armed(n: u8) -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).breakpoint(n, HERE, ADDRESS).enable(ON)
}

/// Watchpoint `n` on [`WATCHED`], with nothing that masks it.
fn watching(n: u8) -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).watchpoint(n, WATCHED, DOUBLEWORD).enable(ON)
}

fn load_and_store(scenario: Scenario) -> Scenario {
    scenario.access(LDR, WATCHED).access(STR, WATCHED)
}

/// What follows is stepped at `el`.
fn stepping(el: El) -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).enable(STEP).at(el).entered(Entry::stepped(2)).isb()
}
