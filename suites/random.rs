// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Random scenarios over breakpoints, watchpoints, links, locks, masks, Exception levels and exits, drawn
//! from a seed. They find what no named case covers: an order of accesses, or two registers at once.

mod vms;

use arbitrary_int::{u2, u4, u5};
use dfr0_model::{
    access::Access,
    control::{BT_ADDRESS_LINKED, BT_CONTEXT_LINKED, BT_CONTEXTIDR_EL1_LINKED, Dbgbcr, Dbgwcr, Mdscr},
    rule,
    scenario::{El, Entry, Op, Scenario, Value},
    shape::Shape,
    sysreg::{self, CONTEXTIDR_EL1, MDSCR_EL1, OSLAR_EL1, OSLSR_EL1, SysReg},
    wire::{TARGET, marker},
};
use dfr0_runner::case::{Case, Context, Stop};
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any},
    prop_oneof,
};

/// An address that no watchpoint watches. QEMU 10 reports a load as a store if the previous hit was a store's
/// and no access to the page missed in between.
const ELSEWHERE: u64 = TARGET + 0x800;
/// The length of a scenario, in steps that are one operation each or a few that belong together.
const SHORT: usize = 12;
const LONG: usize = 60;

pub fn cases() -> Vec<Case> {
    let case = |name: &str, steps| {
        Case::new(name, &rule::BREAKPOINT_MATCHES, move |cx| {
            let strategy = scenarios(cx.shape(), steps, os_lock_masks(cx)?);
            cx.check_random(&strategy)
        })
        .drawn()
    };
    let vms = Case::new("vms", &rule::ID_READS_BACK, vms::random).drawn().with_own_vms();
    vec![case("short", SHORT), case("long", LONG).large(), vms]
}

/// Whether the OS Lock masks a breakpoint here. Where it does not, as on QEMU's bare CPU, each case of
/// os_lock reports it, and random scenarios do not lock it: they would find nothing else any more. With KVM,
/// which emulates the OS Lock, this is not tested.
fn os_lock_masks(cx: &Context<'_>) -> Result<bool, Stop> {
    if !cx.host().is_bare() {
        return Ok(true);
    }
    let armed = start().breakpoint(0, 0, Dbgbcr::address_at_el1());
    let events = cx.new_guest()?.events(&armed.write(OSLAR_EL1, 1).isb().exec(0))?;
    Ok(events.is_empty())
}

fn scenarios(shape: Shape, steps: usize, os_lock: bool) -> impl Strategy<Value = Scenario> {
    vec(step(shape, os_lock), 1..=steps).prop_map(|steps| steps.into_iter().fold(start(), Scenario::append))
}

/// Debug exceptions are enabled at first, so that most of what is drawn has an effect.
fn start() -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).enable(Mdscr::breakpoints_at_el1())
}

/// One operation, or a few that belong together. Executions and accesses are drawn most often, then the
/// registers that decide about them.
fn step(shape: Shape, os_lock: bool) -> impl Strategy<Value = Scenario> {
    let ops = |op: Op| Scenario::new().then(op);
    prop_oneof![
        6 => (assignment(shape), 0_u8..4).prop_map(move |((reg, value), who)| {
            ops(if who == 0 { Op::KvmSet { reg, value } } else { Op::Write { reg, value } })
        }),
        2 => (register(shape), 0_u8..4).prop_map(move |(reg, who)| {
            Scenario::new().isb().then(if who == 0 { Op::KvmGet { reg } } else { Op::Read { reg } })
        }),
        5 => (0_u8..4).prop_map(|marker| Scenario::new().exec(marker)),
        4 => (memory_access(), 0_u64..4).prop_map(|(access, word)| {
            Scenario::new().access(access, ELSEWHERE).access(access, TARGET + 8 * word)
        }),
        // Just after a write, which may or may not have an effect yet.
        1 => (assignment(shape), 0_u8..4).prop_map(|((reg, value), marker)| {
            Scenario::new().isb().write(reg, value).then(Op::Exec { marker })
        }),
        1 => Just(Scenario::new().brk()),
        1 => any::<bool>().prop_map(move |lock| Scenario::new().write(OSLAR_EL1, u64::from(lock && os_lock))),
        1 => any::<bool>().prop_map(move |lock| {
            ops(Op::KvmSet { reg: OSLSR_EL1, value: if lock { 0b1010 } else { 0b1000 } })
        }),
        1 => any::<bool>().prop_map(move |mask| ops(Op::MaskDebug(mask))),
        2 => any::<bool>().prop_map(move |el0| ops(Op::Level(if el0 { El::El0 } else { El::El1 }))),
        1 => (0_u8..4, 0_u8..4).prop_map(move |(ss, steps)| {
            ops(Op::Enter(if ss == 0 { Entry::Call } else { Entry::Return { ss: ss > 1, steps } }))
        }),
        1 => Just(ops(Op::Exit)),
    ]
}

/// A register and a value.
fn assignment(shape: Shape) -> impl Strategy<Value = (SysReg, u64)> {
    let breakpoint = 0..shape.breakpoints;
    let watchpoint = 0..shape.watchpoints;
    let context_aware = shape.context_aware_numbers();
    prop_oneof![
        4 => (breakpoint.clone(), 0_u8..4, any::<bool>()).prop_map(|(n, at, after)| {
            (sysreg::dbgbvr(n), marker(at) + if after { 4 } else { 0 })
        }),
        4 => (breakpoint.clone(), address_match())
            .prop_map(|(n, control)| (sysreg::dbgbcr(n), control.bits())),
        2 => (breakpoint.clone(), address_match(), context_aware.clone()).prop_map(|(n, control, lbn)| {
            (sysreg::dbgbcr(n), control.with_bt(BT_ADDRESS_LINKED).with_lbn(u4::new(lbn)).bits())
        }),
        2 => (context_aware.clone(), any::<bool>(), any::<bool>()).prop_map(|(n, e, el1)| {
            let control = Dbgbcr::linked_context().with_e(e);
            let bt = if el1 { BT_CONTEXTIDR_EL1_LINKED } else { BT_CONTEXT_LINKED };
            (sysreg::dbgbcr(n), control.with_bt(bt).bits())
        }),
        1 => (breakpoint, odd_breakpoint())
            .prop_map(|(n, control)| (sysreg::dbgbcr(n), control.bits())),
        1 => (context_aware.clone(), 0_u64..2).prop_map(|(n, context)| (sysreg::dbgbvr(n), context)),
        1 => (0_u64..2).prop_map(|context| (CONTEXTIDR_EL1, context)),
        3 => (watchpoint.clone(), 0_u64..8).prop_map(|(n, word)| (sysreg::dbgwvr(n), TARGET + 4 * word)),
        4 => (watchpoint.clone(), watch(), any::<bool>(), context_aware).prop_map(|(n, control, linked, lbn)| {
            let control = if linked { control.with_wt(true).with_lbn(u4::new(lbn)) } else { control };
            (sysreg::dbgwcr(n), control.bits())
        }),
        1 => (watchpoint, odd_watchpoint())
            .prop_map(|(n, control)| (sysreg::dbgwcr(n), control.bits())),
        3 => (0_u8..4, 0_u8..4, 0_u8..4).prop_map(|(mde, kde, ss)| {
            (MDSCR_EL1, Mdscr::DEFAULT.with_mde(mde > 0).with_kde(kde > 0).with_ss(ss == 0).bits())
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

/// A breakpoint for which the architecture allows more than one behaviour.
fn odd_breakpoint() -> impl Strategy<Value = Dbgbcr> {
    // Types 2 and 6, unlinked context matches, have their own case, because some platforms lack them.
    let types = (0_u8..16).prop_filter("matches a context by itself", |bt| ![2, 6].contains(bt));
    (types, 0_u8..16, 0_u8..16, 0_u8..32).prop_map(|(bt, lbn, bas, state)| {
        Dbgbcr::DEFAULT
            .with_e(true)
            .with_bt(u4::new(bt))
            .with_lbn(u4::new(lbn))
            .with_bas(u4::new(bas))
            .with_pmc(u2::new(state & 3))
            .with_ssc(u2::new(state >> 2 & 3))
            .with_hmc(state > 15)
    })
}

fn watch() -> impl Strategy<Value = Dbgwcr> {
    let bytes = (0_u32..8).prop_flat_map(|first| (Just(first), 1_u32..=8 - first));
    (privilege(), privilege(), bytes, 0_u8..4).prop_map(|(pac, lsc, (first, len), e)| {
        let bas = (((1_u16 << len) - 1) << first) as u8;
        Dbgwcr::doubleword().with_pac(pac).with_lsc(lsc).with_bas(bas).with_e(e > 0)
    })
}

/// A watchpoint with any BAS, MASK, HMC, SSC and PAC; its block does not reach [`ELSEWHERE`].
fn odd_watchpoint() -> impl Strategy<Value = Dbgwcr> {
    let masks = prop_oneof![Just(0_u8), 3_u8..=8];
    (any::<u8>(), masks, 0_u8..32).prop_map(|(bas, mask, state)| {
        Dbgwcr::doubleword()
            .with_bas(if mask > 0 { 0xff } else { bas })
            .with_mask(u5::new(mask))
            .with_pac(u2::new(state & 3))
            .with_ssc(u2::new(state >> 2 & 3))
            .with_hmc(state > 15)
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

/// Accesses inside one doubleword.
fn memory_access() -> impl Strategy<Value = &'static Access> {
    const NAMES: [&str; 8] =
        ["ldrb w1", "ldrh w1", "ldr w1", "ldr x1", "strb w1", "strh w1", "str w1", "str x1"];
    (0..NAMES.len()).prop_map(|place| Access::named(NAMES[place]))
}
