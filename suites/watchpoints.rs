// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Watchpoints: each one that the host has watches the bytes that it is told to, for the accesses and the privileges
//! that it is told to, and keeps what was written to it on every way that leads to the hardware.

use arbitrary_int::u5;
use dfr0_model::{
    access::{self, ACCESSES, Access, Kind},
    control::{Dbgwcr, LSC_BOTH, LSC_LOAD, LSC_STORE, Mdscr, PMC_EL0, PMC_EL1, PMC_EL1_EL0},
    rule,
    scenario::{El, Op, Scenario},
    sysreg::{MDSCR_EL1, dbgwcr, dbgwvr},
    wire::{TARGET, TARGET_SIZE},
};
use dfr0_runner::case::{Case, Context, Stop, Suite};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "watchpoints",
    about: "every watchpoint of the host watches what it must and nothing else",
    cases,
};

/// The doubleword that is watched, and what is around it, in the middle of the target memory.
const HERE: u64 = TARGET + TARGET_SIZE / 2;
const ON: Mdscr = Mdscr::breakpoints_at_el1();
const DOUBLEWORD: Dbgwcr = Dbgwcr::doubleword();

const LDR: u8 = named("ldr x1");
const STR: u8 = named("str x1");

const fn named(name: &str) -> u8 {
    match access::named(name) {
        Some(place) => place,
        None => panic!("no access has this name"),
    }
}

fn cases() -> Vec<Case> {
    let each = |name: &str, rule, scenario: fn(u8) -> Scenario| {
        Case::new(format!("watchpoints.{name}"), rule, move |cx| {
            numbers(cx).try_for_each(|n| cx.check(&scenario(n)))
        })
    };
    let whole = |name: &str, rule, test: fn(&mut Context<'_>) -> Result<(), Stop>| {
        Case::new(format!("watchpoints.{name}"), rule, test)
    };
    vec![
        each("fires", &rule::WATCHPOINT_MATCHES, |n| both(armed(n))),
        each("disabled", &rule::WATCHPOINT_ENABLED, |n| {
            both(armed(n).write(dbgwcr(n), DOUBLEWORD.with_e(false).raw_value()))
        }),
        whole("each_access", &rule::WATCHPOINT_LSC, |cx| each_lsc(cx, is_plain)),
        whole("atomic_accesses", &rule::WATCHPOINT_LSC, |cx| {
            each_lsc(cx, |access| access.kind == Kind::Atomic)
        }),
        whole("each_privilege", &rule::WATCHPOINT_PRIVILEGE, |cx| each_privilege(cx, is_plain)),
        whole("unprivileged_accesses", &rule::WATCHPOINT_PRIVILEGE, |cx| {
            each_privilege(cx, |access| access.unprivileged)
        }),
        whole("each_byte_select", &rule::WATCHPOINT_ADDRESS, each_byte_select),
        whole("each_mask", &rule::WATCHPOINT_ADDRESS, each_mask),
        whole("each_address_bit", &rule::WATCHPOINT_ADDRESS, each_address_bit),
        whole("reads_back_all", &rule::REGISTERS_READ_BACK, |cx| all(cx, &[])),
        whole("reads_back_all_after_exit", &rule::EXIT_KEEPS_STATE, |cx| all(cx, &[Op::Exit])),
        whole("reads_back_all_enabled_after_exit", &rule::EXIT_KEEPS_STATE, |cx| {
            all(cx, &[Op::Write { reg: MDSCR_EL1, value: ON.raw_value() }, Op::Exit])
        }),
        whole("all_armed", &rule::WATCHPOINT_MATCHES, |cx| all_armed(cx, &[])),
        whole("all_armed_after_exit", &rule::EXIT_KEEPS_STATE, |cx| all_armed(cx, &[Op::Exit])),
        each("fires_after_exit", &rule::EXIT_KEEPS_STATE, |n| {
            both(both(armed(n).then(Op::Exit)).then(Op::Exit))
        }),
        each("enabled_after_exit", &rule::EXIT_KEEPS_STATE, |n| {
            both(armed(n).write(MDSCR_EL1, 0).then(Op::Exit).enable(ON))
        }),
        each("enabled_last_after_exit", &rule::EXIT_KEEPS_STATE, |n| {
            both(armed(n).write(dbgwcr(n), 0).then(Op::Exit).write(dbgwcr(n), DOUBLEWORD.raw_value()))
        }),
        each("armed_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, |n| {
            both(armed(n).by_userspace()).read(dbgwvr(n)).read(dbgwcr(n)).read(MDSCR_EL1)
        }),
        each("seen_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, |n| {
            [dbgwvr(n), dbgwcr(n), MDSCR_EL1]
                .into_iter()
                .fold(both(armed(n)), |scenario, reg| scenario.then(Op::KvmGet { reg }))
        }),
        whole("written_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, written_by_userspace),
    ]
}

fn numbers(cx: &Context<'_>) -> std::ops::Range<u8> {
    0..cx.shape().watchpoints
}

/// Watchpoint `n` on the doubleword [`HERE`], all that masks it clear.
fn armed(n: u8) -> Scenario {
    with(n, DOUBLEWORD)
}

fn with(n: u8, control: Dbgwcr) -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).watchpoint(n, HERE, control).enable(ON)
}

/// A load and a store of what is watched.
fn both(scenario: Scenario) -> Scenario {
    scenario.access(LDR, HERE).access(STR, HERE)
}

/// Neither atomic nor unprivileged: those have rules of their own.
fn is_plain(access: &Access) -> bool {
    access.kind != Kind::Atomic && !access.unprivileged
}

/// The accesses of some kind that this host's guests can do.
fn accesses(cx: &Context<'_>, which: fn(&Access) -> bool) -> Result<Vec<(u8, &'static Access)>, Stop> {
    let lse = cx.host().lse;
    let there = |access: &Access| which(access) && (lse || !access.lse);
    let accesses: Vec<_> =
        (0..ACCESSES as u8).zip(&access::TABLE).filter(|(_, access)| there(access)).collect();
    if accesses.is_empty() { Stop::skip("the host does not implement FEAT_LSE") } else { Ok(accesses) }
}

/// Each access with each LSC.
fn each_lsc(cx: &mut Context<'_>, which: fn(&Access) -> bool) -> Result<(), Stop> {
    for (access, _) in accesses(cx, which)? {
        for n in numbers(cx) {
            for lsc in [LSC_LOAD, LSC_STORE, LSC_BOTH] {
                cx.check(&with(n, DOUBLEWORD.with_lsc(lsc)).access(access, HERE))?;
            }
        }
    }
    Ok(())
}

/// Each PAC at each Exception level.
fn each_privilege(cx: &mut Context<'_>, which: fn(&Access) -> bool) -> Result<(), Stop> {
    for (access, _) in accesses(cx, which)? {
        for n in numbers(cx) {
            for pac in [PMC_EL1, PMC_EL0, PMC_EL1_EL0] {
                let set = with(n, DOUBLEWORD.with_pac(pac)).access(access, HERE);
                cx.check(&set.at(El::El0).access(access, HERE).at(El::El1).access(access, HERE))?;
            }
        }
    }
    Ok(())
}

/// Each run of watched bytes in a doubleword, with each access at each byte before, in and behind it.
fn each_byte_select(cx: &mut Context<'_>) -> Result<(), Stop> {
    let accesses = accesses(cx, |access| is_plain(access) && access.kind != Kind::Prefetch)?;
    for n in numbers(cx) {
        for first in 0..8 {
            for len in 1..=8 - first {
                let bas = (((1_u16 << len) - 1) << first) as u8;
                let set = with(n, DOUBLEWORD.with_bas(bas));
                let scenario = accesses.iter().fold(set, |scenario, (place, access)| {
                    addresses_around(access)
                        .fold(scenario, |scenario, address| scenario.access(*place, address))
                });
                cx.check(&scenario)?;
            }
        }
    }
    Ok(())
}

/// Where an access touches the doubleword [`HERE`], and one step beyond on both sides.
fn addresses_around(access: &Access) -> impl Iterator<Item = u64> + use<> {
    let size = u64::from(access.size);
    let step = if access.aligned { size } else { 1 };
    (HERE - size.max(step)..=HERE + 8).step_by(step as usize)
}

/// Each block that MASK can watch, with accesses around its ends where these lie in the target memory.
///
/// Each access is a scenario of its own: QEMU 10 keeps the direction of a hit that spans two pages for the next hit,
/// until the watchpoint is written anew.
fn each_mask(cx: &mut Context<'_>) -> Result<(), Stop> {
    let target = TARGET..TARGET + TARGET_SIZE;
    let inside = |address: &u64| target.contains(address) && target.contains(&(address + 15));
    for n in numbers(cx) {
        for mask in 3..=31 {
            let size = 1_u64 << mask;
            let start = HERE & !(size - 1);
            let set = Scenario::new()
                .then(Op::MaskDebug(false))
                .watchpoint(n, start, DOUBLEWORD.with_mask(u5::new(mask)))
                .enable(ON);
            let edges = [start.wrapping_sub(8), start.wrapping_sub(4), start, start + size - 8, start + size];
            let around =
                edges.into_iter().filter(inside).flat_map(|address| [(LDR, address), (STR, address + 1)]);
            let fixed = [(named("ldrb w1"), HERE), (named("st1 {v0.16b-v3.16b}"), HERE - 64)];
            for (access, address) in around.chain(fixed) {
                cx.check(&set.clone().access(access, address))?;
            }
        }
    }
    Ok(())
}

/// An address that differs from the watched one in one bit is another address.
fn each_address_bit(cx: &mut Context<'_>) -> Result<(), Stop> {
    for n in numbers(cx) {
        for bit in 3..48 {
            cx.check(&both(armed(n).write(dbgwvr(n), HERE ^ 1 << bit)))?;
        }
    }
    Ok(())
}

/// A value and a control that no other watchpoint has; even ones are enabled, at an address that nobody accesses.
fn distinct(n: u8) -> (u64, u64) {
    let control = DOUBLEWORD
        .with_e(n.is_multiple_of(2))
        .with_bas(1 << (n % 8))
        .with_lsc(if n.is_multiple_of(3) { LSC_LOAD } else { LSC_STORE })
        .with_pac(if n.is_multiple_of(5) { PMC_EL0 } else { PMC_EL1 });
    (0x1234_5670_0000 + 0x1_0040 * u64::from(n), control.raw_value())
}

/// Every watchpoint keeps its own value, whatever is done in between.
fn all(cx: &mut Context<'_>, between: &[Op]) -> Result<(), Stop> {
    let written = numbers(cx).fold(Scenario::new(), |scenario, n| {
        let (value, control) = distinct(n);
        scenario.write(dbgwvr(n), value).write(dbgwcr(n), control)
    });
    let scenario = between.iter().fold(written.isb(), |scenario, op| scenario.then(*op)).isb();
    let read = numbers(cx).rev().fold(scenario, |scenario, n| scenario.read(dbgwvr(n)).read(dbgwcr(n)));
    let seen = numbers(cx).fold(read, |scenario, n| {
        scenario.then(Op::KvmGet { reg: dbgwvr(n) }).then(Op::KvmGet { reg: dbgwcr(n) })
    });
    cx.check(&seen)
}

/// Every watchpoint has a doubleword of its own; each fires, and what is between them does not.
fn all_armed(cx: &mut Context<'_>, between: &[Op]) -> Result<(), Stop> {
    let place = |n: u8| TARGET + 64 * u64::from(n);
    let armed = numbers(cx).fold(Scenario::new().then(Op::MaskDebug(false)), |scenario, n| {
        scenario.watchpoint(n, place(n), DOUBLEWORD)
    });
    let scenario = between.iter().fold(armed.enable(ON), |scenario, op| scenario.then(*op));
    let scenario = numbers(cx).fold(scenario, |scenario, n| {
        scenario.access(LDR, place(n)).access(STR, place(n)).access(STR, place(n) + 8)
    });
    cx.check(&scenario)
}

/// What userspace writes, it and the guest read.
fn written_by_userspace(cx: &mut Context<'_>) -> Result<(), Stop> {
    let values = [
        (0x0000_5555_5555_5550, DOUBLEWORD.with_e(false).with_mask(u5::new(0b10101))),
        (0xffff_aaaa_aaaa_aaa8, DOUBLEWORD.with_bas(0xf0)),
        (HERE, DOUBLEWORD.with_lsc(LSC_LOAD).with_pac(PMC_EL0)),
    ];
    for n in numbers(cx) {
        for (value, control) in values {
            let written = Scenario::new().watchpoint(n, value, control).by_userspace();
            let seen = written.then(Op::KvmGet { reg: dbgwvr(n) }).then(Op::KvmGet { reg: dbgwcr(n) });
            cx.check(&seen.read(dbgwvr(n)).read(dbgwcr(n)))?;
        }
    }
    Ok(())
}
