// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A guest that is a hypervisor: what MDCR_EL2 and the fine-grained traps trap of what it runs, which debug exceptions
//! it takes, and what it sees of its own breakpoints and watchpoints.
//!
//! Each case makes its visits with HCR_EL2.E2H set, and again with E2H clear.

use arbitrary_int::{u2, u4};
use dfr0_model::{
    control::{
        BT_ADDRESS_LINKED, BT_CONTEXT_LINKED, BT_CONTEXTIDR_EL1_LINKED, Dbgbcr, Dbgwcr, LSC_BOTH, Mdscr,
    },
    nested::{
        Breakpoint, Event, Instruction, Level, Linked, Mdcr, Visit,
        pe::{Outcome, Pe},
        trap::{NAMED, Trap},
    },
    rule::{self, Rule},
    sysreg::{SysReg, dbgbcr, dbgbvr, dbgwcr, dbgwvr},
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    nested_vm::{Hypervisor, Moment},
};
use std::{
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
};

/// The hypervisor of the case before: in an emulator KVM takes seconds to free a VM with EL2.
type Shared = Arc<Mutex<Option<Hypervisor>>>;

/// The visits of a case. `Err` says what this PE does not have.
type Visits = fn(&Pe) -> Result<Vec<Visit>, &'static str>;

pub fn cases() -> Vec<Case> {
    let with = [("e2h", true), ("e2h0", false)];
    let cases = with.into_iter().flat_map(|(group, e2h)| {
        let shared = Arc::new(Mutex::new(None));
        let steps = Case::new(format!("{group}.steps_over_eret"), &rule::GUEST_DEBUG_STEPS, {
            let shared = Arc::clone(&shared);
            move |cx| with_hypervisor(cx, e2h, &shared, steps_over_eret)
        });
        let resets = Case::new(format!("{group}.reset_values"), &rule::NESTED_RESET, {
            let shared = Arc::clone(&shared);
            move |cx| with_hypervisor(cx, e2h, &shared, reset_values)
        });
        let moves = [("at_el2", Moment::Leaving), ("below_el2", Moment::Arrived)].map(|(name, at)| {
            let shared = Arc::clone(&shared);
            Case::new(format!("{group}.moves.{name}"), &rule::NESTED_MOVES, move |cx| {
                with_hypervisor(cx, e2h, &shared, |cx, hypervisor| moves(cx, hypervisor, at))
            })
        });
        all().map(move |one| case(group, e2h, Arc::clone(&shared), one)).chain([steps, resets]).chain(moves)
    });
    cases.collect()
}

fn all() -> impl Iterator<Item = (&'static str, &'static Rule, Visits)> {
    let traps: [(_, _, Visits); 7] = [
        ("traps.none", &rule::NESTED_UNTRAPPED, |pe| Ok(accesses(pe, Visit::default()))),
        ("traps.tde", &rule::NESTED_TRAPS, |pe| Ok(trapping(pe, Mdcr::DEFAULT.with_tde(true)))),
        ("traps.tda", &rule::NESTED_TRAPS, |pe| Ok(trapping(pe, Mdcr::DEFAULT.with_tda(true)))),
        ("traps.tdosa", &rule::NESTED_TRAPS, |pe| Ok(trapping(pe, Mdcr::DEFAULT.with_tdosa(true)))),
        ("traps.tdra", &rule::NESTED_TRAPS, |pe| Ok(trapping(pe, Mdcr::DEFAULT.with_tdra(true)))),
        ("traps.tdcc", &rule::NESTED_TRAPS, |pe| match pe.fgt {
            true => Ok(trapping(pe, Mdcr::DEFAULT.with_tdcc(true))),
            false => Err("MDCR_EL2.TDCC is there with FEAT_FGT alone"),
        }),
        ("traps.tid3", &rule::NESTED_TRAPS, |pe| Ok(accesses(pe, Visit { tid3: true, ..Visit::default() }))),
    ];
    let others: [(_, _, Visits); 12] = [
        ("registers", &rule::NESTED_REGISTERS, |pe| {
            Ok(accesses(pe, Visit { level: Level::El2, ..Visit::default() }))
        }),
        ("traps.of_its_host", &rule::NESTED_HOSTS_EL0, |pe| {
            let none = Mdcr::DEFAULT;
            let all =
                [none, none.with_tde(true), none.with_tda(true), none.with_tdosa(true), none.with_tdra(true)];
            let host = all.map(|mdcr| Visit { mdcr, level: Level::HostEl0, ..Visit::default() });
            let below = Visit { tdcc_el1: true, ..host[0] };
            Ok(host.into_iter().chain([below]).flat_map(|controls| accesses(pe, controls)).collect())
        }),
        ("traps.tdcc_of_el1", &rule::NESTED_CHANNEL, |pe| {
            let below = Visit { tdcc_el1: true, ..Visit::default() };
            let both = Visit { mdcr: Mdcr::DEFAULT.with_tda(true), ..below };
            Ok([accesses(pe, below), accesses(pe, both)].concat())
        }),
        ("fine_grained.reads", &rule::NESTED_FINE_GRAINED, |pe| filtered(pe, true)),
        ("fine_grained.writes", &rule::NESTED_FINE_GRAINED, |pe| filtered(pe, false)),
        ("exceptions.of_its_guest", &rule::NESTED_ROUTES, |_| Ok(events(&[Level::El1, Level::El0]))),
        ("exceptions.of_its_host", &rule::NESTED_ROUTES, |_| Ok(events(&[Level::HostEl0]))),
        ("exceptions.of_its_own", &rule::NESTED_ABOVE_ELD, |_| Ok(events(&[Level::El2]))),
        ("state_control.breakpoints", &rule::NESTED_STATE_MATCH, |_| Ok(states(breakpoint_at))),
        ("state_control.watchpoints", &rule::NESTED_STATE_MATCH, |_| Ok(states(watchpoint_at))),
        ("contexts", &rule::NESTED_CONTEXT, contexts),
        ("os_lock", &rule::NESTED_OS_LOCK, |_| {
            let locked = |visit| Visit { os_lock: true, ..visit };
            Ok(events(&Level::ALL).into_iter().filter(|visit| visit.mdcr.tde()).map(locked).collect())
        }),
    ];
    traps.into_iter().chain(others)
}

fn case(
    group: &str,
    e2h: bool,
    shared: Shared,
    (name, rule, visits): (&'static str, &'static Rule, Visits),
) -> Case {
    Case::new(format!("{group}.{name}"), rule, move |cx| {
        with_hypervisor(cx, e2h, &shared, |cx, hypervisor| makes(cx, hypervisor, name, visits))
    })
}

/// Does this with the hypervisor of the case before, or a new one, and leaves it for the next case unless it died.
fn with_hypervisor(
    cx: &mut Context<'_>,
    e2h: bool,
    shared: &Shared,
    then: impl FnOnce(&mut Context<'_>, &mut Hypervisor) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let mut hypervisor = match shared.take() {
        Some(hypervisor) => hypervisor,
        None => cx.hypervisor(e2h)?,
    };
    let ended = then(cx, &mut hypervisor);
    if !matches!(ended, Err(Stop::Broken(_))) {
        *shared = Some(hypervisor);
    }
    ended
}

fn makes(cx: &mut Context<'_>, hypervisor: &mut Hypervisor, name: &str, visits: Visits) -> Result<(), Stop> {
    let visits = visits(hypervisor.pe()).or_else(Stop::skip)?;
    let mut pe = hypervisor.pe().clone();
    if name == "registers" {
        pe.undefined.clear();
        pe.lacking.clear();
    }
    for (visit, event) in visits.iter().zip(hypervisor.visit(cx, &visits)?) {
        cx.count();
        let mut allowed = pe.allowed(visit)?;
        if name.starts_with("state_control") {
            // Whether it fires is the question; the cases of exceptions ask what it reports.
            allowed.iter_mut().for_each(Outcome::forget_far);
        }
        if !allowed.iter().any(|outcome| outcome.allows(&event)) {
            cx.find(observed(visit, &event, &allowed), described(visit, &event, &allowed));
        }
    }
    Ok(())
}

/// Each visit is made, and made again with a move: what departs from the model in both ways is the finding of another case.
fn moves(cx: &mut Context<'_>, hypervisor: &mut Hypervisor, at: Moment) -> Result<(), Stop> {
    let visits = moved(hypervisor.pe(), at);
    let unmoved = hypervisor.visit(cx, &visits)?;
    let moved = hypervisor.visit_and_move(&visits, at)?;
    for ((visit, event), unmoved) in visits.iter().zip(moved).zip(unmoved) {
        cx.count();
        let allowed = hypervisor.pe().allowed(visit)?;
        let seen = observed(visit, &event, &allowed);
        let departs = !allowed.iter().any(|outcome| outcome.allows(&event));
        if departs && seen != observed(visit, &unmoved, &allowed) {
            cx.find(seen, format!("{}\n  unmoved: {unmoved}", described(visit, &event, &allowed)));
        }
    }
    Ok(())
}

/// What a move may lose: each control of EL2 that traps, each debug exception and what routes it, and the contexts.
fn moved(pe: &Pe, at: Moment) -> Vec<Visit> {
    /// It has no factor in common with the number of exceptions for each value of what routes them.
    const EVERY: usize = 5;
    let mdcrs = [
        Mdcr::DEFAULT.with_tde(true),
        Mdcr::DEFAULT.with_tda(true),
        Mdcr::DEFAULT.with_tdosa(true),
        Mdcr::DEFAULT.with_tdra(true),
    ];
    let mdcrs = mdcrs.into_iter().chain(pe.fgt.then(|| Mdcr::DEFAULT.with_tdcc(true)));
    let coarse = mdcrs.map(|mdcr| Visit { mdcr, ..Visit::default() });
    let tid3 = Visit { tid3: true, ..Visit::default() };
    let coarse = coarse.chain([tid3]).flat_map(|controls| accesses(pe, controls));
    let fine = [true, false].into_iter().filter_map(|reads| filtered(pe, reads).ok()).flatten();
    let mut trapped: Vec<Visit> = coarse.chain(fine).filter(|visit| is_trapped(pe, visit)).collect();
    trapped.dedup_by_key(|visit| (visit.mdcr, visit.tid3, visit.hdfgrtr, visit.hdfgwtr));
    trapped
        .into_iter()
        .chain(events(&Level::ALL).into_iter().step_by(EVERY))
        .chain(contexts(pe).unwrap_or_default())
        // The step would be over before the move.
        .filter(|visit| at != Moment::Arrived || !visit.mdscr.ss())
        .collect()
}

/// A control of EL2 traps the visit's access.
fn is_trapped(pe: &Pe, visit: &Visit) -> bool {
    pe.allowed(visit).is_ok_and(|allowed| allowed.iter().all(Outcome::is_trap))
}

/// Userspace steps an exception return, which KVM may emulate: the step ends at the instruction that is returned to.
fn steps_over_eret(cx: &mut Context<'_>, hypervisor: &mut Hypervisor) -> Result<(), Stop> {
    /// Where the ERET is.
    const ERET: i64 = -4;
    for level in Level::ALL {
        let steps = hypervisor.steps(Visit::new(level, Instruction::Nop))?;
        cx.count();
        let at = steps.iter().position(|place| *place == ERET);
        match at.and_then(|at| steps.get(at + 1)) {
            Some(0) => {}
            other => {
                let ended = other.map_or("nowhere".into(), |place| format!("{place:+} bytes from it"));
                let detail = format!("  steps ended at these distances from the instruction: {steps:?}");
                cx.find(format!("eret to {level}: the step ends {ended}"), detail);
            }
        }
    }
    Ok(())
}

/// No control of EL2 traps an access to a debug register, or takes a debug exception to EL2, before something sets it.
fn reset_values(cx: &mut Context<'_>, hypervisor: &mut Hypervisor) -> Result<(), Stop> {
    let numbered = [dbgbcr(0), dbgbvr(0), dbgwcr(0), dbgwvr(0)];
    let traps = || NAMED.into_iter().chain(numbered).filter_map(Trap::of);
    let bits = |bit: fn(Trap) -> Option<u8>| traps().filter_map(bit).fold(0, |bits, bit| bits | 1_u64 << bit);
    let mdcr = traps().fold(0, |bits, trap| bits | trap.mdcr.raw_value());
    let fgt = hypervisor.pe().fgt;
    let controls = [(true, mdcr), (fgt, bits(|trap| trap.hdfgrtr)), (fgt, bits(|trap| trap.hdfgwtr))];
    for ((reg, value), (is_there, bits)) in hypervisor.resets()?.into_iter().zip(controls) {
        cx.count();
        match value {
            Some(value) if value & bits != 0 => {
                cx.find(format!("{reg} traps after KVM_ARM_VCPU_INIT"), format!("  {reg}: {value:#x}"));
            }
            None if is_there => {
                cx.find(
                    format!("KVM_GET_ONE_REG {reg}: refused"),
                    "  a VM with EL2 has this register".to_owned(),
                );
            }
            _ => {}
        }
    }
    Ok(())
}

/// Every access to every register: with controls of EL1 from EL1 and EL0, and otherwise from the level of the controls.
fn accesses(pe: &Pe, controls: Visit) -> Vec<Visit> {
    let levels = match controls.level {
        Level::El1 => vec![Level::El1, Level::El0],
        host => vec![host],
    };
    let instructions =
        registers().into_iter().flat_map(|reg| [Instruction::Read(reg), Instruction::Write(reg, 0)]);
    let visits = instructions.flat_map(|instruction| {
        levels.clone().into_iter().map(move |level| Visit { level, instruction, ..controls })
    });
    visits.filter(|visit| pe.allowed(visit).is_ok()).collect()
}

fn trapping(pe: &Pe, mdcr: Mdcr) -> Vec<Visit> {
    accesses(pe, Visit { mdcr, ..Visit::default() })
}

/// The debug registers.
fn registers() -> Vec<SysReg> {
    let numbered = (0..16).flat_map(|n| [dbgbvr(n), dbgbcr(n), dbgwvr(n), dbgwcr(n)]);
    NAMED.into_iter().chain(numbered).collect()
}

/// Each bit of HDFGRTR_EL2 or HDFGWTR_EL2 that concerns a register here, with each access.
fn filtered(pe: &Pe, reads: bool) -> Result<Vec<Visit>, &'static str> {
    if !pe.fgt {
        return Err("this CPU does not have FEAT_FGT");
    }
    let registers = registers();
    let bit = |reg: &SysReg| Trap::of(*reg).and_then(|trap| if reads { trap.hdfgrtr } else { trap.hdfgwtr });
    let mut bits: Vec<u8> = registers.iter().filter_map(bit).collect();
    bits.sort_unstable();
    bits.dedup();
    let controls = bits.into_iter().map(|bit| match reads {
        true => Visit { hdfgrtr: 1 << bit, ..Visit::default() },
        false => Visit { hdfgwtr: 1 << bit, ..Visit::default() },
    });
    let at_el1 = |visit: &Visit| visit.level == Level::El1;
    Ok(controls.flat_map(|controls| accesses(pe, controls).into_iter().filter(at_el1)).collect())
}

/// E, and what selects every instruction and access at every Exception level.
const EVERYWHERE: (bool, u2, u2) = (true, u2::new(0b00), u2::new(0b11));

fn breakpoint_control((hmc, ssc, pmc): (bool, u2, u2)) -> Dbgbcr {
    Dbgbcr::address_at_el1().with_hmc(hmc).with_ssc(ssc).with_pmc(pmc)
}

fn breakpoint_at(visit: Visit, state: (bool, u2, u2)) -> Vec<Visit> {
    let breakpoint = Breakpoint { n: 0, control: breakpoint_control(state), linked: None };
    vec![Visit { instruction: Instruction::Nop, breakpoint: Some(breakpoint), ..visit }]
}

fn watchpoint_at(visit: Visit, (hmc, ssc, pac): (bool, u2, u2)) -> Vec<Visit> {
    let control = Dbgwcr::doubleword().with_lsc(LSC_BOTH).with_hmc(hmc).with_ssc(ssc).with_pac(pac);
    let watched = |instruction| Visit { instruction, watchpoint: Some((0, control)), ..visit };
    vec![watched(Instruction::Load), watched(Instruction::Store)]
}

/// Each debug exception at these levels, with each value of what routes and masks it.
fn events(levels: &[Level]) -> Vec<Visit> {
    let bools = [false, true];
    let mut visits = Vec::new();
    for &level in levels {
        for (tde, kde, unmasked) in
            bools.into_iter().flat_map(|a| bools.into_iter().flat_map(move |b| bools.map(|c| (a, b, c))))
        {
            let mdcr = Mdcr::DEFAULT.with_tde(tde);
            let mdscr = Mdscr::DEFAULT.with_kde(kde);
            let visit = Visit { mdcr, mdscr, unmasked, ..Visit::new(level, Instruction::Nop) };
            let enabled = Visit { mdscr: mdscr.with_mde(true), ..visit };
            visits.extend(breakpoint_at(enabled, EVERYWHERE));
            visits.extend(watchpoint_at(enabled, EVERYWHERE));
            visits.push(Visit { instruction: Instruction::Brk, ..visit });
            visits.extend(bools.map(|ss| Visit { mdscr: mdscr.with_ss(true), ss, ..visit }));
        }
    }
    visits
}

/// Each value of HMC, SSC and PMC or PAC that depends on the Exception level alone, at each level.
fn states(arm: fn(Visit, (bool, u2, u2)) -> Vec<Visit>) -> Vec<Visit> {
    let values = [
        (false, 0b00, 0b01),
        (false, 0b00, 0b10),
        (false, 0b00, 0b11),
        (true, 0b00, 0b01),
        (true, 0b00, 0b11),
        (true, 0b11, 0b00),
    ];
    let values = values.map(|(hmc, ssc, privilege)| (hmc, u2::new(ssc), u2::new(privilege)));
    let mdcr = Mdcr::DEFAULT.with_tde(true);
    let mdscr = Mdscr::breakpoints_at_el1();
    let at = |level| Visit { mdcr, mdscr, unmasked: true, ..Visit::new(level, Instruction::Nop) };
    Level::ALL
        .into_iter()
        .flat_map(|level| values.into_iter().flat_map(move |state| arm(at(level), state)))
        .collect()
}

/// A breakpoint that is linked to each type of context, with each context, at each level.
fn contexts(pe: &Pe) -> Result<Vec<Visit>, &'static str> {
    const EL1S: u32 = 0x1234;
    const EL2S: u32 = 0x5678;
    let n = pe.shape.breakpoints - 1;
    if n == 0 {
        return Err("this VM has only one breakpoint");
    }
    let mut visits = Vec::new();
    for level in Level::ALL {
        for bt in [BT_CONTEXT_LINKED, BT_CONTEXTIDR_EL1_LINKED] {
            for value in [EL1S, EL2S, EL1S ^ EL2S] {
                let linked =
                    Linked { n, control: breakpoint_control(EVERYWHERE).with_bt(bt), value: value.into() };
                let control = breakpoint_control(EVERYWHERE).with_bt(BT_ADDRESS_LINKED).with_lbn(u4::new(n));
                visits.push(Visit {
                    unmasked: true,
                    mdcr: Mdcr::DEFAULT.with_tde(true),
                    mdscr: Mdscr::breakpoints_at_el1(),
                    breakpoint: Some(Breakpoint { n: 0, control, linked: Some(linked) }),
                    contextidr_el1: EL1S,
                    contextidr_el2: if pe.e2h { EL2S } else { 0 },
                    ..Visit::new(level, Instruction::Nop)
                });
            }
        }
    }
    Ok(visits)
}

/// What a visit did and what it caused, in words that hold on any host.
fn observed(visit: &Visit, event: &Event, allowed: &[Outcome]) -> String {
    let mut text = match visit.instruction {
        Instruction::Write(reg, _) => format!("msr {reg} at {}", visit.level),
        other => format!("{other} at {}", visit.level),
    };
    let mut also = |name: &str| _ = write!(text, " {name}");
    for (is_set, name) in [
        (visit.mdcr.tde(), "TDE"),
        (visit.mdcr.tda(), "TDA"),
        (visit.mdcr.tdosa(), "TDOSA"),
        (visit.mdcr.tdra(), "TDRA"),
        (visit.mdcr.tdcc(), "TDCC"),
        (visit.hdfgrtr != 0, "HDFGRTR_EL2"),
        (visit.hdfgwtr != 0, "HDFGWTR_EL2"),
        (visit.tid3, "TID3"),
        (visit.tdcc_el1, "MDSCR_EL1.TDCC"),
        (visit.os_lock, "OSLK"),
        (visit.mdscr.ss(), "SS"),
    ] {
        if is_set {
            also(name);
        }
    }
    let state = match (visit.breakpoint, visit.watchpoint) {
        (Some(Breakpoint { control, .. }), _) => Some((control.hmc(), control.ssc(), control.pmc())),
        (_, Some((_, control))) => Some((control.hmc(), control.ssc(), control.pac())),
        _ => None,
    };
    if let Some((hmc, ssc, privilege)) = state.filter(|state| *state != EVERYWHERE) {
        also(&format!("HMC={} SSC={:#04b} PMC={:#04b}", u8::from(hmc), ssc.value(), privilege.value()));
    }
    if let Some(Breakpoint { linked: Some(linked), .. }) = visit.breakpoint {
        also(&format!("BT={:#06b}", linked.control.bt().value()));
    }
    let Event::Taken(target, exception) = event else { return format!("{text}: completed") };
    let ec = exception.ec();
    match allowed.iter().find_map(|outcome| outcome.departures(event)) {
        None => format!("{text}: EC {ec:#04x} taken to {target}"),
        Some(departures) => {
            let departures: Vec<String> = departures.iter().map(ToString::to_string).collect();
            format!("{text}: EC {ec:#04x} with {}", departures.join(" and "))
        }
    }
}

fn described(visit: &Visit, event: &Event, allowed: &[Outcome]) -> String {
    let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    format!("  {visit}\n  seen:    {event}\n  allowed: {}", allowed.join("\n           "))
}
