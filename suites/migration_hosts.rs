// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Scenarios that are saved on one host and restored on another (`dfr0 pairs`). Together they use each
//! register of each breakpoint and watchpoint, each link, the locks and software step. Each of these is set
//! before the move and observed after it.

use arbitrary_int::u4;
use dfr0_model::{
    access,
    control::{Dbgbcr, Dbgwcr, Mdscr},
    scenario::{Entry, Op, Scenario},
    shape::Shape,
    sysreg::{CONTEXTIDR_EL1, MDSCR_EL1, OSDLR_EL1, OSLAR_EL1, OSLSR_EL1, dbgbcr, dbgbvr, dbgwcr, dbgwvr},
    wire::TARGET,
};
use dfr0_runner::pairs::Moved;

const HERE: u8 = 1;
const CONTEXT: u64 = 0x5a5a_1234;
const STORE: u8 = access::place("str x1");
const ON: Mdscr = Mdscr::breakpoints_at_el1();

/// The scenarios of a guest of this shape.
pub fn scenarios(shape: Shape) -> Vec<Moved> {
    let mut all = vec![
        moved("breakpoints", every_breakpoint(shape), exec_each(shape)),
        moved("watchpoints", every_watchpoint(shape), access_each(shape)),
        moved(
            "registers_of_breakpoints",
            distinct(shape.breakpoints, [dbgbvr, dbgbcr], Dbgbcr::DEFAULT.raw_value()),
            read(shape.breakpoints, [dbgbvr, dbgbcr]),
        ),
        moved(
            "registers_of_watchpoints",
            distinct(shape.watchpoints, [dbgwvr, dbgwcr], Dbgwcr::DEFAULT.raw_value()),
            read(shape.watchpoints, [dbgwvr, dbgwcr]),
        ),
        moved(
            "os_lock",
            every_breakpoint(shape).write(OSLAR_EL1, 1),
            Scenario::new().exec(0).read(OSLSR_EL1).write(OSLAR_EL1, 0).append(exec_each(shape)),
        ),
        moved(
            "disabled",
            every_breakpoint(shape).write(MDSCR_EL1, 0),
            Scenario::new().exec(0).enable(ON).append(exec_each(shape)),
        ),
        moved(
            "software_step",
            unmasked().enable(Mdscr::DEFAULT.with_ss(true).with_kde(true)),
            Scenario::new().entered(Entry::stepped(2)).exec(HERE).read(MDSCR_EL1),
        ),
        moved(
            "double_lock",
            every_breakpoint(shape).write(OSDLR_EL1, 0),
            Scenario::new().read(OSDLR_EL1).exec(0),
        ),
    ];
    for partner in shape.context_aware_numbers() {
        let set = linked(shape, partner);
        let hit = |scenario: Scenario| scenario.exec(HERE).access(STORE, TARGET);
        all.push(moved(
            &format!("linked_to_{partner}"),
            set,
            hit(hit(Scenario::new()).write(CONTEXTIDR_EL1, CONTEXT ^ 1))
                .write(CONTEXTIDR_EL1, CONTEXT)
                .exec(HERE),
        ));
    }
    all
}

/// The guest executes `set`, moves, and executes `show`.
fn moved(name: &str, set: Scenario, show: Scenario) -> Moved {
    let place = set.ops().len() - 1;
    Moved { name: name.into(), scenario: set.append(show), place }
}

fn unmasked() -> Scenario {
    Scenario::new().then(Op::MaskDebug(false))
}

/// Each breakpoint on its own marker.
fn every_breakpoint(shape: Shape) -> Scenario {
    let set = |scenario: Scenario, n| scenario.breakpoint(n, 2 * n, Dbgbcr::address_at_el1());
    shape.breakpoint_numbers().fold(unmasked(), set).enable(ON)
}

fn exec_each(shape: Shape) -> Scenario {
    shape.breakpoint_numbers().fold(Scenario::new(), |scenario, n| scenario.exec(2 * n).exec(2 * n + 1))
}

/// Each watchpoint on its own doubleword.
fn every_watchpoint(shape: Shape) -> Scenario {
    let set = |scenario: Scenario, n| scenario.watchpoint(n, watched(n), Dbgwcr::doubleword());
    (0..shape.watchpoints).fold(unmasked(), set).enable(ON)
}

fn access_each(shape: Shape) -> Scenario {
    let both = |scenario: Scenario, n| scenario.access(STORE, watched(n)).access(STORE, watched(n) + 8);
    (0..shape.watchpoints).fold(Scenario::new(), both)
}

const fn watched(n: u8) -> u64 {
    TARGET + 16 * n as u64
}

/// Writes a different address to each value register, and the same control to each control register.
fn distinct(count: u8, registers: [fn(u8) -> dfr0_model::sysreg::SysReg; 2], control: u64) -> Scenario {
    (0..count).fold(Scenario::new(), |scenario, n| {
        let value = 0xffff_8765_0000_0000 + 0x1_0040 * u64::from(n);
        scenario.write(registers[0](n), value).write(registers[1](n), control | 0b01 << 1 | 0xf << 5)
    })
}

fn read(count: u8, registers: [fn(u8) -> dfr0_model::sysreg::SysReg; 2]) -> Scenario {
    (0..count)
        .rev()
        .fold(Scenario::new().isb(), |scenario, n| scenario.read(registers[0](n)).read(registers[1](n)))
}

/// Watchpoint 0, and breakpoint 0 or the next one that is free, linked to this context-aware breakpoint.
fn linked(shape: Shape, partner: u8) -> Scenario {
    let (lbn, n) = (u4::new(partner), u8::from(partner == 0));
    let matching = unmasked()
        .write(dbgbvr(partner), CONTEXT)
        .write(dbgbcr(partner), Dbgbcr::linked_context().raw_value());
    let set = if n < shape.breakpoints {
        matching.breakpoint(n, HERE, Dbgbcr::address_linked_to(lbn))
    } else {
        matching
    };
    set.watchpoint(0, TARGET, Dbgwcr::linked_to(lbn)).enable(ON).write(CONTEXTIDR_EL1, CONTEXT)
}
