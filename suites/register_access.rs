// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Which debug registers exist for a guest, and what an access to another does.

use dfr0_model::{
    control::{Dbgbcr, Mdscr},
    rule::{self, Rule},
    scenario::{Op, Scenario},
    sysreg::{CONTEXTIDR_EL1, ID_AA64DFR0_EL1, MDSCR_EL1, OSLAR_EL1, SysReg, dbgbcr, dbgbvr, dbgwcr, dbgwvr},
};
use dfr0_runner::case::{Case, Context, Stop, Suite};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "register_access",
    about: "debug registers exist up to the VM's counts, and go the ways that they should",
    cases,
};

fn cases() -> Vec<Case> {
    let case = |name: &str, rule: &'static Rule, test: fn(&mut Context<'_>) -> Result<(), Stop>| {
        Case::new(format!("register_access.{name}"), rule, test)
    };
    vec![
        case("beyond_breakpoints", &rule::REGISTERS_BEYOND_COUNT, |cx| {
            let count = cx.shape().breakpoints;
            beyond(cx, count, [dbgbvr, dbgbcr])
        }),
        case("beyond_watchpoints", &rule::REGISTERS_BEYOND_COUNT, |cx| {
            let count = cx.shape().watchpoints;
            beyond(cx, count, [dbgwvr, dbgwcr])
        }),
        case("id_aa64dfr0_is_read_only", &rule::REGISTERS_ONE_WAY, |cx| {
            cx.check(&Scenario::new().write(ID_AA64DFR0_EL1, 0))
        }),
        case("mdscr_reads_back", &rule::REGISTERS_READ_BACK, mdscr_reads_back),
        case("contextidr_reads_back", &rule::REGISTERS_READ_BACK, |cx| {
            let values = (0..32).map(|bit| 1 << bit).chain([0, 0xffff_ffff]);
            cx.check(&values.fold(Scenario::new(), |scenario, value| {
                scenario
                    .write(CONTEXTIDR_EL1, value)
                    .isb()
                    .read(CONTEXTIDR_EL1)
                    .then(Op::Exit)
                    .read(CONTEXTIDR_EL1)
            }))
        }),
        case("a_read_comes_first", &rule::REGISTERS_READ_BACK, a_read_comes_first),
    ]
}

/// Every number from `count` to 15, while debug exceptions are off and while they are on, and after an exit: KVM traps
/// the accesses in some of these states and not in others.
fn beyond(cx: &mut Context<'_>, count: u8, registers: [fn(u8) -> SysReg; 2]) -> Result<(), Stop> {
    if count == 16 {
        return Stop::skip("the host has all 16");
    }
    let accesses = |scenario: Scenario| {
        (count..16)
            .flat_map(|n| registers.map(|register| register(n)))
            .fold(scenario, |scenario, reg| scenario.read(reg).write(reg, 0).read(reg))
    };
    cx.check(&accesses(Scenario::new()))?;
    let on =
        Scenario::new().breakpoint(0, 1, Dbgbcr::address_at_el1()).enable(Mdscr::breakpoints_at_el1()).isb();
    cx.check(&accesses(accesses(on).then(Op::Exit)))?;
    cx.check(&accesses(Scenario::new().write(OSLAR_EL1, 1)))
}

/// MDSCR_EL1's bits that enable debug exceptions, in each combination, as guest and as userspace read them.
fn mdscr_reads_back(cx: &mut Context<'_>) -> Result<(), Stop> {
    for bits in 0..8 {
        let mdscr = Mdscr::DEFAULT.with_mde(bits & 1 != 0).with_kde(bits & 2 != 0).with_ss(bits & 4 != 0);
        let written = Scenario::new().enable(mdscr).isb();
        for scenario in [written.clone(), written.by_userspace()] {
            let read =
                scenario.read(MDSCR_EL1).then(Op::KvmGet { reg: MDSCR_EL1 }).then(Op::Exit).read(MDSCR_EL1);
            cx.check(&read)?;
        }
    }
    Ok(())
}

/// In a VM that has not touched its debug registers the first access is a read; then it writes.
fn a_read_comes_first(cx: &mut Context<'_>) -> Result<(), Stop> {
    let shape = cx.shape();
    let control = Dbgbcr::address_at_el1().raw_value();
    for n in shape.breakpoint_numbers() {
        let set = Scenario::new()
            .then(Op::KvmSet { reg: dbgbvr(n), value: 0x1234_5678 })
            .then(Op::KvmSet { reg: dbgbcr(n), value: control });
        cx.check(
            &set.read(dbgbcr(n)).read(dbgbvr(n)).write(dbgbvr(n), 0x4000).read(dbgbvr(n)).read(dbgbcr(n)),
        )?;
    }
    Ok(())
}
