// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Breakpoints at EL1: each one that the host has fires when it must, is silent when it must, and keeps what was
//! written to it on every way that leads to the hardware.

use arbitrary_int::u4;
use dfr0_model::{
    control::{Dbgbcr, Mdscr, PMC_EL0, PMC_EL1, PMC_EL1_EL0},
    rule,
    scenario::{El, Op, Scenario},
    sysreg::{MDSCR_EL1, dbgbcr, dbgbvr},
    wire::marker,
};
use dfr0_runner::{
    case::{Case, Context, Stop, Suite},
    guest::Config,
};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "breakpoints",
    about: "every breakpoint of the host fires at EL1 when it must and only then",
    cases,
};

/// The marker that breakpoints are set on; 0 and 2 are its neighbours.
const HERE: u8 = 1;
const ON: Mdscr = Mdscr::breakpoints_at_el1();
const ADDRESS: Dbgbcr = Dbgbcr::address_at_el1();

fn cases() -> Vec<Case> {
    let each = |name: &str, rule, scenario: fn(u8) -> Scenario| {
        Case::new(format!("breakpoints.{name}"), rule, move |cx| {
            cx.shape().breakpoint_numbers().try_for_each(|n| cx.check(&scenario(n)))
        })
    };
    let whole = |name: &str, rule, test: fn(&mut Context<'_>) -> Result<(), Stop>| {
        Case::new(format!("breakpoints.{name}"), rule, test)
    };
    vec![
        each("fires", &rule::BREAKPOINT_MATCHES, |n| armed(n).exec(HERE)),
        each("fires_each_time", &rule::BREAKPOINT_SYNDROME, |n| armed(n).exec(HERE).exec(HERE).exec(HERE)),
        each("disabled", &rule::BREAKPOINT_ENABLED, |n| {
            armed(n).write(dbgbcr(n), ADDRESS.with_e(false).raw_value()).exec(HERE)
        }),
        each("one_instruction_before", &rule::BREAKPOINT_ADDRESS, |n| {
            armed_at(n, marker(HERE) - 4).exec(HERE)
        }),
        each("one_instruction_behind", &rule::BREAKPOINT_ADDRESS, |n| {
            armed_at(n, marker(HERE) + 4).exec(HERE)
        }),
        each("next_marker", &rule::BREAKPOINT_ADDRESS, |n| armed(n).exec(HERE + 1).exec(HERE - 1)),
        whole("each_address_bit", &rule::BREAKPOINT_ADDRESS, each_address_bit),
        each("el0_only", &rule::BREAKPOINT_PRIVILEGE, |n| {
            armed(n).write(dbgbcr(n), ADDRESS.with_pmc(PMC_EL0).raw_value()).exec(HERE)
        }),
        whole("each_privilege", &rule::BREAKPOINT_PRIVILEGE, each_privilege),
        each("reads_back", &rule::REGISTERS_READ_BACK, reads_back),
        whole("reads_back_all", &rule::REGISTERS_READ_BACK, |cx| all(cx, &[])),
        whole("reads_back_all_after_exit", &rule::EXIT_KEEPS_STATE, |cx| all(cx, &[Op::Exit])),
        whole("reads_back_all_enabled_after_exit", &rule::EXIT_KEEPS_STATE, |cx| {
            all(cx, &[Op::Write { reg: MDSCR_EL1, value: ON.raw_value() }, Op::Exit])
        }),
        whole("all_armed", &rule::BREAKPOINT_MATCHES, |cx| all_armed(cx, &[])),
        whole("all_armed_after_exit", &rule::EXIT_KEEPS_STATE, |cx| all_armed(cx, &[Op::Exit])),
        each("fires_after_exit", &rule::EXIT_KEEPS_STATE, |n| {
            armed(n).then(Op::Exit).exec(HERE).then(Op::Exit).then(Op::Exit).exec(HERE)
        }),
        each("enabled_after_exit", &rule::EXIT_KEEPS_STATE, |n| {
            armed(n).write(MDSCR_EL1, 0).then(Op::Exit).enable(ON).exec(HERE)
        }),
        each("enabled_last_after_exit", &rule::EXIT_KEEPS_STATE, |n| {
            let armed = armed(n).write(dbgbcr(n), 0).then(Op::Exit);
            armed.write(dbgbcr(n), ADDRESS.raw_value()).exec(HERE)
        }),
        each("disabled_after_exit", &rule::EXIT_KEEPS_STATE, |n| {
            armed(n).then(Op::Exit).enable(Mdscr::DEFAULT).exec(HERE).then(Op::Exit).exec(HERE)
        }),
        each("armed_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, |n| {
            armed(n).by_userspace().exec(HERE).read(dbgbvr(n)).read(dbgbcr(n)).read(MDSCR_EL1)
        }),
        each("seen_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, |n| {
            [dbgbvr(n), dbgbcr(n), MDSCR_EL1]
                .into_iter()
                .fold(armed(n).exec(HERE), |scenario, reg| scenario.then(Op::KvmGet { reg }))
        }),
        whole("written_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, written_by_userspace),
        whole("all_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, all_by_userspace),
    ]
}

/// Breakpoint `n` on marker [`HERE`], all that masks it clear.
fn armed(n: u8) -> Scenario {
    armed_at(n, marker(HERE))
}

fn armed_at(n: u8, address: u64) -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).breakpoint_at(n, address, ADDRESS).enable(ON)
}

/// Each value of PMC at each Exception level, and back again.
fn each_privilege(cx: &mut Context<'_>) -> Result<(), Stop> {
    for n in cx.shape().breakpoint_numbers() {
        for pmc in [PMC_EL1, PMC_EL0, PMC_EL1_EL0] {
            let set = armed(n).write(dbgbcr(n), ADDRESS.with_pmc(pmc).raw_value());
            cx.check(&set.exec(HERE).at(El::El0).exec(HERE).at(El::El1).exec(HERE))?;
        }
    }
    Ok(())
}

/// An address that differs from the marker's in one bit is another address. The bits above 31 make it one that the
/// guest's translation does not know; a comparison does not care.
fn each_address_bit(cx: &mut Context<'_>) -> Result<(), Stop> {
    for n in cx.shape().breakpoint_numbers() {
        for bit in 2..48 {
            cx.check(&armed_at(n, marker(HERE) ^ 1 << bit).exec(HERE))?;
        }
    }
    Ok(())
}

/// Values of DBGBVR and DBGBCR that between them set each bit of an address both ways.
const VALUES: [(u64, Dbgbcr); 4] = [
    (0, Dbgbcr::DEFAULT),
    (0x4001_0008, ADDRESS),
    (0x0000_5555_5555_5554, ADDRESS.with_e(false)),
    (0xffff_aaaa_aaaa_aaa8, ADDRESS.with_pmc(PMC_EL0)),
];

fn reads_back(n: u8) -> Scenario {
    VALUES.into_iter().map(|(value, control)| (value, control.raw_value())).fold(
        Scenario::new(),
        |scenario, (value, control)| {
            scenario.write(dbgbvr(n), value).write(dbgbcr(n), control).isb().read(dbgbvr(n)).read(dbgbcr(n))
        },
    )
}

/// What userspace writes, it and the guest read: addresses, privileges, and a link to a context-aware breakpoint.
fn written_by_userspace(cx: &mut Context<'_>) -> Result<(), Stop> {
    let shape = cx.shape();
    let linked = Dbgbcr::address_linked_to(u4::new(shape.breakpoints - 1)).with_e(false);
    for n in shape.breakpoint_numbers() {
        for (value, control) in VALUES.into_iter().chain([(0x4001_0008, linked)]) {
            let written = Scenario::new().breakpoint_at(n, value, control).by_userspace();
            let seen = written.then(Op::KvmGet { reg: dbgbvr(n) }).then(Op::KvmGet { reg: dbgbcr(n) });
            cx.check(&seen.read(dbgbvr(n)).read(dbgbcr(n)))?;
        }
    }
    Ok(())
}

/// A value and a control that no other breakpoint has; even ones are enabled, at an address that nobody executes.
fn distinct(n: u8) -> (u64, u64) {
    let control = ADDRESS.with_e(n.is_multiple_of(2)).with_pmc(if n.is_multiple_of(3) {
        PMC_EL0
    } else {
        ADDRESS.pmc()
    });
    (0x1234_5670_0000 + 0x1_0040 * u64::from(n), control.raw_value())
}

/// Every breakpoint keeps its own value, whatever is done in between.
fn all(cx: &mut Context<'_>, between: &[Op]) -> Result<(), Stop> {
    let numbers = || cx.shape().breakpoint_numbers();
    let written = numbers().fold(Scenario::new(), |scenario, n| {
        let (value, control) = distinct(n);
        scenario.write(dbgbvr(n), value).write(dbgbcr(n), control)
    });
    let scenario = between.iter().fold(written.isb(), |scenario, op| scenario.then(*op)).isb();
    let read = numbers().rev().fold(scenario, |scenario, n| scenario.read(dbgbvr(n)).read(dbgbcr(n)));
    let seen = numbers().fold(read, |scenario, n| {
        scenario.then(Op::KvmGet { reg: dbgbvr(n) }).then(Op::KvmGet { reg: dbgbcr(n) })
    });
    cx.check(&seen)
}

/// Every breakpoint has a marker of its own; each marker fires once.
fn all_armed(cx: &mut Context<'_>, between: &[Op]) -> Result<(), Stop> {
    let numbers = || cx.shape().breakpoint_numbers();
    let armed = numbers().fold(Scenario::new().then(Op::MaskDebug(false)), |scenario, n| {
        scenario.breakpoint(n, 2 * n, ADDRESS)
    });
    let scenario = between.iter().fold(armed.enable(ON), |scenario, op| scenario.then(*op));
    let scenario = numbers().fold(scenario, |scenario, n| scenario.exec(2 * n).exec(2 * n + 1));
    cx.check(&scenario)
}

/// Userspace writes every breakpoint before the VM has run; it and then the guest read them, and they fire.
fn all_by_userspace(cx: &mut Context<'_>) -> Result<(), Stop> {
    let numbers = cx.shape().breakpoint_numbers();
    let armed = numbers.clone().fold(Scenario::new().then(Op::MaskDebug(false)), |scenario, n| {
        scenario.breakpoint(n, 2 * n, ADDRESS)
    });
    let set = armed.enable(ON).by_userspace();
    let seen = numbers.clone().fold(set, |scenario, n| {
        scenario.then(Op::KvmGet { reg: dbgbvr(n) }).then(Op::KvmGet { reg: dbgbcr(n) })
    });
    let scenario = numbers
        .fold(seen, |scenario, n| scenario.read(dbgbvr(n)).read(dbgbcr(n)).exec(2 * n).exec(2 * n + 1));
    let mut guest = cx.new_guest(Config::default())?;
    cx.check_on(&mut guest, Config::default(), &scenario)?;
    Ok(())
}
