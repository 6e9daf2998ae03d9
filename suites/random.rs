// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Random scenarios over breakpoints, watchpoints, links, locks, masks, Exception levels and exits, drawn from a seed.
//! They find what no named case thought of: an order of accesses, or two registers at once.

use arbitrary_int::{u2, u4, u5};
use dfr0_model::{
    access,
    control::{Dbgbcr, Dbgwcr, Mdscr},
    rule,
    scenario::{El, Op, Scenario},
    shape::Shape,
    sysreg::{self, CONTEXTIDR_EL1, MDSCR_EL1, OSLAR_EL1, OSLSR_EL1, SysReg},
    wire::{TARGET, marker},
};
use dfr0_runner::case::{Case, Suite};
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any},
    prop_oneof,
};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "random",
    about: "scenarios drawn from a seed, judged and shrunk as all others are",
    cases,
};

/// An address that nothing watches. QEMU 10 reports a load as a store if the hit before was a store's and no access of
/// the page missed in between.
const ELSEWHERE: u64 = TARGET + 0x200;
/// How long a scenario is: steps that each are one operation or a few that belong together.
const SHORT: usize = 12;
const LONG: usize = 60;

fn cases() -> Vec<Case> {
    [("short", SHORT), ("long", LONG)]
        .into_iter()
        .map(|(name, steps)| {
            Case::new(format!("random.{name}"), &rule::BREAKPOINT_MATCHES, move |cx| {
                let strategy = scenarios(cx.shape(), steps);
                cx.check_random(&strategy)
            })
        })
        .collect()
}

fn scenarios(shape: Shape, steps: usize) -> impl Strategy<Value = Scenario> {
    vec(step(shape), 1..=steps).prop_map(|steps| steps.into_iter().fold(start(), Scenario::append))
}

/// Debug exceptions are enabled at first, so that most of what is drawn is seen.
fn start() -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).enable(Mdscr::breakpoints_at_el1())
}

fn step(shape: Shape) -> impl Strategy<Value = Scenario> {
    let ops = |op: Op| Scenario::new().then(op);
    prop_oneof![
        4 => (assignment(shape), any::<bool>()).prop_map(move |((reg, value), by_userspace)| {
            ops(if by_userspace { Op::KvmSet { reg, value } } else { Op::Write { reg, value } })
        }),
        2 => (register(shape), any::<bool>()).prop_map(move |(reg, by_userspace)| {
            let scenario = Scenario::new().isb();
            scenario.then(if by_userspace { Op::KvmGet { reg } } else { Op::Read { reg } })
        }),
        5 => (0_u8..4).prop_map(|marker| Scenario::new().exec(marker)),
        4 => (memory_access(), 0_u64..4).prop_map(|(access, word)| {
            Scenario::new().access(access, ELSEWHERE).access(access, TARGET + 8 * word)
        }),
        1 => Just(Scenario::new().isb().then(Op::Brk)),
        1 => any::<bool>().prop_map(move |lock| Scenario::new().write(OSLAR_EL1, lock.into())),
        1 => any::<bool>().prop_map(move |lock| {
            ops(Op::KvmSet { reg: OSLSR_EL1, value: if lock { 0b1010 } else { 0b1000 } })
        }),
        1 => any::<bool>().prop_map(move |mask| ops(Op::MaskDebug(mask))),
        2 => any::<bool>().prop_map(move |el0| ops(Op::Level(if el0 { El::El0 } else { El::El1 }))),
        2 => Just(ops(Op::Exit)),
    ]
}

/// A register and a value that the model has rules for.
fn assignment(shape: Shape) -> impl Strategy<Value = (SysReg, u64)> {
    let breakpoint = 0..shape.breakpoints;
    let watchpoint = 0..shape.watchpoints;
    let context_aware = shape.context_aware_numbers();
    let partner = shape.context_aware_numbers();
    prop_oneof![
        4 => (breakpoint.clone(), 0_u8..4, any::<bool>()).prop_map(|(n, at, behind)| {
            (sysreg::dbgbvr(n), marker(at) + if behind { 4 } else { 0 })
        }),
        4 => (breakpoint.clone(), address_match()).prop_map(|(n, control)| (sysreg::dbgbcr(n), control.raw_value())),
        2 => (breakpoint, address_match(), partner).prop_map(|(n, control, lbn)| {
            let link = Dbgbcr::address_linked_to(u4::new(lbn));
            (sysreg::dbgbcr(n), link.with_e(control.e()).with_pmc(control.pmc()).raw_value())
        }),
        2 => (context_aware.clone(), any::<bool>()).prop_map(|(n, e)| {
            (sysreg::dbgbcr(n), Dbgbcr::linked_context().with_e(e).raw_value())
        }),
        1 => (context_aware.clone(), 0_u64..2).prop_map(|(n, context)| (sysreg::dbgbvr(n), context)),
        1 => (0_u64..2).prop_map(|context| (CONTEXTIDR_EL1, context)),
        3 => (watchpoint.clone(), 0_u64..4).prop_map(|(n, word)| (sysreg::dbgwvr(n), TARGET + 8 * word)),
        4 => (watchpoint, watch(), any::<bool>(), context_aware).prop_map(|(n, control, linked, lbn)| {
            let control = if linked { control.with_wt(true).with_lbn(u4::new(lbn)) } else { control };
            (sysreg::dbgwcr(n), control.raw_value())
        }),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(mde, kde)| {
            (MDSCR_EL1, Mdscr::DEFAULT.with_mde(mde).with_kde(kde).raw_value())
        }),
    ]
}

/// PMC or PAC: EL1, EL0 or both.
fn privilege() -> impl Strategy<Value = u2> {
    (1_u8..=3).prop_map(u2::new)
}

fn address_match() -> impl Strategy<Value = Dbgbcr> {
    (privilege(), 0_u8..4).prop_map(|(pmc, e)| Dbgbcr::address_at_el1().with_pmc(pmc).with_e(e > 0))
}

fn watch() -> impl Strategy<Value = Dbgwcr> {
    let bytes = (0_u32..8).prop_flat_map(|first| (Just(first), 1_u32..=8 - first));
    (privilege(), privilege(), bytes, 0_u8..4).prop_map(|(pac, lsc, (first, len), e)| {
        let bas = (((1_u16 << len) - 1) << first) as u8;
        Dbgwcr::doubleword().with_pac(pac).with_lsc(lsc).with_bas(bas).with_mask(u5::new(0)).with_e(e > 0)
    })
}

fn register(shape: Shape) -> impl Strategy<Value = SysReg> {
    prop_oneof![
        (0..shape.breakpoints).prop_map(sysreg::dbgbvr),
        (0..shape.breakpoints).prop_map(sysreg::dbgbcr),
        (0..shape.watchpoints).prop_map(sysreg::dbgwvr),
        (0..shape.watchpoints).prop_map(sysreg::dbgwcr),
        Just(MDSCR_EL1),
        Just(CONTEXTIDR_EL1),
        Just(OSLSR_EL1),
    ]
}

/// Accesses inside of one doubleword.
fn memory_access() -> impl Strategy<Value = u8> {
    const NAMES: [&str; 8] =
        ["ldrb w1", "ldrh w1", "ldr w1", "ldr x1", "strb w1", "strh w1", "str w1", "str x1"];
    (0..NAMES.len()).prop_map(|place| access::named(NAMES[place]).unwrap_or_default())
}
