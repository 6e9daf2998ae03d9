// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Other vCPUs on the same CPU, other CPUs for the same vCPU, and the debug registers of the host's own thread. Whatever runs
//! in between, each vCPU has the debug registers that it wrote, and takes the exceptions that they cause and no others; and so
//! has the host.

use crate::stage::{
    ADDRESS, CONTEXT, DOUBLEWORD, HERE, LOCKED, ON, STEP, UNLOCKED, armed as armed_breakpoint,
};
use arbitrary_int::u4;
use dfr0_model::{
    claim::Claim,
    control::{Dbgbcr, Dbgwcr, Mdscr},
    guest_debug::GuestDebug,
    rule::{self, Rule},
    scenario::{El, Entry, Op, Other, Scenario, Value},
    shape::Shape,
    sysreg::{CONTEXTIDR_EL1, MDSCR_EL1, OSLSR_EL1, SysReg, dbgbcr, dbgbvr, dbgwcr, dbgwvr},
    wire::{TARGET, marker},
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    other::{self, everywhere, seen},
    together::Together,
};

mod host_debug;

/// What happens in between, with its part of a case's name.
const BETWEEN: [(&str, Op, &Rule); 6] = [
    ("other_untouched", Op::Other(Other::Untouched), &rule::OTHER_VCPU),
    ("other_enabled", Op::Other(Other::Enabled), &rule::OTHER_VCPU),
    ("other_disabled", Op::Other(Other::Disabled), &rule::OTHER_VCPU),
    ("other_locked", Op::Other(Other::Locked), &rule::OTHER_VCPU),
    ("other_debugged", Op::Other(Other::Debugged), &rule::OTHER_VCPU),
    ("other_cpu", Op::Move, &rule::OTHER_CPU),
];

/// Scenarios of a vCPU of this shape, with an operation that happens in between.
type Around = fn(Shape, Op) -> Vec<Scenario>;

/// What this vCPU does before and after it, with its part of a case's name.
const AROUND: [(&str, Around); 10] = [
    ("breakpoints", |shape, between| {
        let fires = |n| around(armed_breakpoint(n), between, Claim::Breakpoint, Claim::Nothing);
        let seen = |n| {
            let value = both_read(fires(n), dbgbvr(n), marker(HERE));
            both_read(both_read(value, dbgbcr(n), ADDRESS), MDSCR_EL1, ON)
        };
        shape.breakpoint_numbers().map(seen).collect()
    }),
    ("watchpoints", |shape, between| {
        let fires = |n| around(armed_watchpoint(n), between, Claim::Nothing, Claim::Watchpoint);
        let seen = |n| {
            let value = both_read(fires(n), dbgwvr(n), TARGET);
            both_read(both_read(value, dbgwcr(n), DOUBLEWORD), MDSCR_EL1, ON)
        };
        (0..shape.watchpoints).map(seen).collect()
    }),
    ("all_registers", |shape, between| {
        let all = everywhere(armed(shape).then(between), shape).then(between);
        vec![userspace_sees(seen(all, shape).then(between), shape)]
    }),
    ("before_first_access", |shape, between| {
        let first = everywhere(Scenario::new().unmask().then(between), shape);
        vec![everywhere(first.append(armed(shape)), shape)]
    }),
    ("between_writes", |shape, between| {
        let writes = Scenario::new().each(armed(shape).ops(), |scenario, op| match op {
            Op::Write { reg, .. } if reg.debug_number().is_none() => {
                scenario.then(between).then(*op).then(between)
            }
            op => scenario.then(*op),
        });
        vec![seen(everywhere(writes, shape), shape)]
    }),
    ("masked", |shape, between| {
        [Mdscr::DEFAULT, ON.with_mde(false), ON.with_kde(false)]
            .map(|mdscr| {
                let masked = armed(shape).enable(mdscr).then(between);
                seen(everywhere(everywhere(masked, shape).enable(ON).then(between), shape), shape)
            })
            .into()
    }),
    ("os_lock_held", |shape, between| {
        let locked = armed(shape).lock().then(between).read(OSLSR_EL1).reads(LOCKED);
        let unlocked = seen(everywhere(locked, shape), shape).unlock().then(between);
        vec![everywhere(unlocked.read(OSLSR_EL1).reads(UNLOCKED), shape)]
    }),
    ("linked_context", |shape, between| linked(shape, between).collect()),
    ("step_enabled", |shape, between| {
        let ways = [(El::El1, 1), (El::El1, 2), (El::El0, 2)];
        let stepped = Scenario::new().unmask().each(ways, |scenario, (el, steps)| {
            let enabled = scenario.enable(STEP).at(el).isb().then(between);
            let stepped = enabled.entered(Entry::stepped(steps)).exec(HERE).takes_steps(steps.into());
            stepped.read(MDSCR_EL1).reads(STEP.with_ss(false)).at(El::El1).entered(Entry::Call)
        });
        vec![everywhere(stepped.then(between), shape)]
    }),
    ("debugged_by_userspace", |shape, between| {
        let debug = GuestDebug::breakpoint(shape.breakpoints - 1, other::MARKER - 1);
        let debug = debug.and_watchpoint(shape.watchpoints - 1, TARGET + 0x200);
        let debugged = everywhere(armed(shape).userspace_debugs(debug).then(between), shape);
        let exits = debugged.store(TARGET + 0x200).exits().then(between);
        let off = everywhere(seen(exits, shape).userspace_stops().then(between), shape);
        vec![off.store(TARGET + 0x200).nothing()]
    }),
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (between, op, rule) in BETWEEN {
        cases.extend(AROUND.map(|(around, scenarios)| {
            Case::new(around, rule, move |cx| {
                needs_cpus(cx, op)?;
                cx.check_each(scenarios(cx.shape(), op))
            })
            .within(between)
        }));
    }
    cases.push(Case::new("others_in_turn", &rule::OTHER_VCPU, |cx| {
        let shape = cx.shape();
        let turns = Other::ALL.into_iter().flat_map(|one| Other::ALL.map(|next| [one, next])).flatten();
        let all = armed(shape).each(turns, |scenario, other| {
            let kept = scenario.other(other).exec(0).takes_breakpoint().exec(other::MARKER).nothing();
            kept.read(MDSCR_EL1).reads(ON).read(CONTEXTIDR_EL1).reads(CONTEXT)
        });
        cx.check(&seen(all, shape))
    }));
    cases.push(Case::new("others_and_cpus_in_turn", &rule::OTHER_CPU, |cx| {
        needs_cpus(cx, Op::Move)?;
        let shape = cx.shape();
        let all = armed(shape).each(Other::ALL, |scenario, other| {
            let moved = scenario.other(other).then(Op::Move).exec(0).takes_breakpoint();
            let apart = moved.other(other).exec(other::MARKER).nothing();
            apart.then(Op::Move).then(Op::Move).exec(0).takes_breakpoint()
        });
        cx.check(&seen(everywhere(all, shape), shape))
    }));
    cases.extend([("one_cpu", Together::OneCpu), ("a_cpu_each", Together::CpuEach)].map(|(name, on)| {
        Case::new(name, &rule::PREEMPTION, move |cx| {
            let shape = cx.shape();
            cx.check_together(on, &together(shape))
        })
        .within("together")
    }));
    cases.extend(host_debug::cases());
    cases.into_iter().map(Case::alone).collect()
}

fn needs_cpus(cx: &Context<'_>, between: Op) -> Result<(), Stop> {
    if between == Op::Move && cx.cpus()? < 2 {
        return Stop::skip("this thread may run on only one CPU");
    }
    Ok(())
}

/// Two rounds of executions and accesses that `armed` may match, with `between` before, between and after
/// them. At its marker and at a store to its doubleword this happens; at the other vCPU's, nothing does.
fn around(armed: Scenario, between: Op, at_marker: Claim, at_store: Claim) -> Scenario {
    let rounds = armed.each(0..2, |scenario, _| {
        let markers = scenario.then(between).exec(HERE).claim(at_marker).exec(other::MARKER).nothing();
        markers.store(TARGET).claim(at_store).store(other::WATCHED).nothing()
    });
    rounds.then(between)
}

fn armed_watchpoint(n: u8) -> Scenario {
    Scenario::new().unmask().watchpoint(n, TARGET, DOUBLEWORD).enable(ON)
}

/// The guest and userspace read this value of a register.
fn both_read(scenario: Scenario, reg: SysReg, value: impl Value) -> Scenario {
    let value = value.bits();
    scenario.read(reg).reads(value).userspace_reads(reg).reads(value)
}

/// Every breakpoint except the highest is on the marker of its number, and breakpoint 0 is linked to the
/// highest. Every watchpoint is on its own doubleword.
fn armed(shape: Shape) -> Scenario {
    let partner = shape.breakpoints - 1;
    let start = Scenario::new().unmask().breakpoint_at(partner, CONTEXT, Dbgbcr::linked_context());
    let breakpoints = start.each(0..partner, |scenario, n| {
        let control = match n {
            0 => Dbgbcr::address_linked_to(u4::new(partner)),
            _ => ADDRESS,
        };
        scenario.breakpoint(n, n, control)
    });
    let watchpoints = breakpoints.each(0..shape.watchpoints, |scenario, n| {
        scenario.watchpoint(n, TARGET + 8 * u64::from(n), DOUBLEWORD)
    });
    watchpoints.write(CONTEXTIDR_EL1, CONTEXT).enable(ON)
}

/// KVM_GET_ONE_REG of every debug register.
fn userspace_sees(scenario: Scenario, shape: Shape) -> Scenario {
    let breakpoints = shape.breakpoint_numbers().flat_map(|n| [dbgbvr(n), dbgbcr(n)]);
    let watchpoints = (0..shape.watchpoints).flat_map(|n| [dbgwvr(n), dbgwcr(n)]);
    let others = [MDSCR_EL1, CONTEXTIDR_EL1, OSLSR_EL1];
    let all = breakpoints.chain(watchpoints).chain(others);
    scenario.each(all, Scenario::userspace_reads)
}

/// A breakpoint and a watchpoint linked to each context-aware breakpoint, in their context and in the other
/// vCPU's.
fn linked(shape: Shape, between: Op) -> impl Iterator<Item = Scenario> {
    shape.context_aware_numbers().map(move |partner| {
        let (n, lbn) = (u8::from(partner == 0), u4::new(partner));
        let linked = Scenario::new()
            .unmask()
            .breakpoint_at(partner, CONTEXT, Dbgbcr::linked_context())
            .breakpoint(n, HERE, Dbgbcr::address_linked_to(lbn))
            .watchpoint(0, TARGET, Dbgwcr::linked_to(lbn))
            .enable(ON);
        linked.each([CONTEXT, other::CONTEXT, 0, CONTEXT], |scenario, context| {
            let entered = scenario.write(CONTEXTIDR_EL1, context).then(between);
            let done = match context {
                CONTEXT => entered.exec(HERE).takes_breakpoint().store(TARGET).takes_watchpoint(),
                _ => entered.exec(HERE).nothing().store(TARGET).nothing(),
            };
            done.then(between).read(CONTEXTIDR_EL1).reads(context)
        })
    })
}

/// Long lists of operations of two vCPUs, without an exit. The second vCPU does what the other vCPU does in
/// the cases above.
fn together(shape: Shape) -> [Vec<Scenario>; 2] {
    const ROUNDS: usize = 8;
    let long =
        |armed: Scenario| armed.each(0..ROUNDS, |scenario, _| seen(everywhere(scenario, shape), shape));
    let program = other::scenario(Other::Enabled, shape);
    let other = long(program);
    let locked = long(armed(shape).lock()).unlock();
    [vec![long(armed(shape)), locked], vec![other, other::scenario(Other::Debugged, shape)]]
}
