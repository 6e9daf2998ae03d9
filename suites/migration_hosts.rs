// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Scenarios that are saved on one host and restored on another (`dfr0 pairs`). Together they use each
//! register of each breakpoint and watchpoint, each link, the locks and software step. Each of these is set
//! before the move and observed after it.

use crate::stage::{ADDRESS, CONTEXT, DOUBLEWORD, HERE, LOCKED, ON, STEP};
use arbitrary_int::u4;
use dfr0_model::{
    control::{Dbgbcr, Dbgwcr},
    scenario::{Entry, Scenario},
    shape::Shape,
    sysreg::{CONTEXTIDR_EL1, MDSCR_EL1, OSDLR_EL1, OSLSR_EL1, SysReg, dbgbcr, dbgbvr, dbgwcr, dbgwvr},
    wire::TARGET,
};
use dfr0_runner::pairs::Moved;

/// The scenarios of a guest of this shape.
pub fn scenarios(shape: Shape) -> Vec<Moved> {
    let mut all = vec![
        moved("breakpoints", every_breakpoint(shape), exec_each(shape)),
        moved("watchpoints", every_watchpoint(shape), access_each(shape)),
        moved(
            "registers_of_breakpoints",
            distinct(shape.breakpoints, [dbgbvr, dbgbcr]),
            read(shape.breakpoints, [dbgbvr, dbgbcr]),
        ),
        moved(
            "registers_of_watchpoints",
            distinct(shape.watchpoints, [dbgwvr, dbgwcr]),
            read(shape.watchpoints, [dbgwvr, dbgwcr]),
        ),
        moved("os_lock", every_breakpoint(shape).lock(), {
            let held = Scenario::new().exec(0).nothing().read(OSLSR_EL1).reads(LOCKED);
            held.unlock().append(exec_each(shape))
        }),
        moved("disabled", every_breakpoint(shape).disable(), {
            Scenario::new().exec(0).nothing().enable(ON).append(exec_each(shape))
        }),
        moved("software_step", Scenario::new().unmask().enable(STEP), {
            let stepped = Scenario::new().entered(Entry::stepped(2)).exec(HERE).takes_steps(2);
            stepped.read(MDSCR_EL1).reads(STEP.with_ss(false))
        }),
        moved("double_lock", every_breakpoint(shape).write(OSDLR_EL1, 0), {
            Scenario::new().read(OSDLR_EL1).reads(0).exec(0).takes_breakpoint()
        }),
    ];
    all.extend(shape.context_aware_numbers().map(|partner| {
        let fires = Scenario::new().exec(HERE).takes_breakpoint().store(TARGET).takes_watchpoint();
        let elsewhere = fires.write(CONTEXTIDR_EL1, CONTEXT ^ 1);
        let silent = elsewhere.exec(HERE).nothing().store(TARGET).nothing();
        let back = silent.write(CONTEXTIDR_EL1, CONTEXT).exec(HERE).takes_breakpoint();
        moved(&format!("linked_to_{partner}"), linked(shape, partner), back)
    }));
    all
}

/// The guest executes `set`, moves, and executes `show`.
fn moved(name: &str, set: Scenario, show: Scenario) -> Moved {
    let place = set.ops().len() - 1;
    Moved { name: name.into(), scenario: set.append(show), place }
}

/// Each breakpoint on its own marker.
fn every_breakpoint(shape: Shape) -> Scenario {
    let all = shape.breakpoint_numbers();
    Scenario::new().unmask().each(all, |scenario, n| scenario.breakpoint(n, 2 * n, ADDRESS)).enable(ON)
}

fn exec_each(shape: Shape) -> Scenario {
    Scenario::new().each(shape.breakpoint_numbers(), |scenario, n| {
        scenario.exec(2 * n).takes_breakpoint().exec(2 * n + 1).nothing()
    })
}

/// Each watchpoint on its own doubleword.
fn every_watchpoint(shape: Shape) -> Scenario {
    let all = 0..shape.watchpoints;
    Scenario::new()
        .unmask()
        .each(all, |scenario, n| scenario.watchpoint(n, watched(n), DOUBLEWORD))
        .enable(ON)
}

fn access_each(shape: Shape) -> Scenario {
    Scenario::new().each(0..shape.watchpoints, |scenario, n| {
        scenario.store(watched(n)).takes_watchpoint().store(watched(n) + 8).nothing()
    })
}

const fn watched(n: u8) -> u64 {
    TARGET + 16 * n as u64
}

/// The control of each register in [`distinct`]: not enabled.
const CONTROL: u64 = 0b01 << 1 | 0xf << 5;

/// The address in the value register of number `n` in [`distinct`].
const fn address(n: u8) -> u64 {
    0xffff_8765_0000_0000 + 0x1_0040 * n as u64
}

/// Writes a different address to each value register, and the same control to each control register.
fn distinct(count: u8, [value, control]: [fn(u8) -> SysReg; 2]) -> Scenario {
    Scenario::new()
        .each(0..count, |scenario, n| scenario.write(value(n), address(n)).write(control(n), CONTROL))
}

fn read(count: u8, [value, control]: [fn(u8) -> SysReg; 2]) -> Scenario {
    Scenario::new().isb().each((0..count).rev(), |scenario, n| {
        scenario.read(value(n)).reads(address(n)).read(control(n)).reads(CONTROL)
    })
}

/// Watchpoint 0, and breakpoint 0 or the next one that is free, linked to this context-aware breakpoint.
fn linked(shape: Shape, partner: u8) -> Scenario {
    let (lbn, n) = (u4::new(partner), u8::from(partner == 0));
    let matching = Scenario::new().unmask().breakpoint_at(partner, CONTEXT, Dbgbcr::linked_context());
    let set = if n < shape.breakpoints {
        matching.breakpoint(n, HERE, Dbgbcr::address_linked_to(lbn))
    } else {
        matching
    };
    set.watchpoint(0, TARGET, Dbgwcr::linked_to(lbn)).enable(ON).write(CONTEXTIDR_EL1, CONTEXT)
}
