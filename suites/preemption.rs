// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Other vCPUs on the same CPU, and other CPUs for the same vCPU. Whatever runs in between, each vCPU has the
//! debug registers that it wrote, and takes the exceptions that they cause and no others.

use arbitrary_int::u4;
use dfr0_model::{
    access,
    control::{Dbgbcr, Dbgwcr, Mdscr},
    guest_debug::GuestDebug,
    rule::{self, Rule},
    scenario::{El, Entry, Op, Other, Scenario},
    shape::Shape,
    sysreg::{CONTEXTIDR_EL1, MDSCR_EL1, OSLAR_EL1, OSLSR_EL1, SysReg, dbgbcr, dbgbvr, dbgwcr, dbgwvr},
    wire::TARGET,
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    other::{self, everywhere, seen},
    together::Together,
};

const HERE: u8 = 1;
const WATCHED: u64 = TARGET;
const CONTEXT: u64 = 0x5a5a_1234;
const ON: Mdscr = Mdscr::breakpoints_at_el1();

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
        shape.breakpoint_numbers().map(|n| breakpoint(around(armed_breakpoint(n), between), n)).collect()
    }),
    ("watchpoints", |shape, between| {
        (0..shape.watchpoints).map(|n| watchpoint(around(armed_watchpoint(n), between), n)).collect()
    }),
    ("all_registers", |shape, between| {
        let all = everywhere(armed(shape).then(between), shape).then(between);
        vec![userspace_sees(seen(all, shape).then(between), shape)]
    }),
    ("before_first_access", |shape, between| {
        let first = everywhere(Scenario::new().then(Op::MaskDebug(false)).then(between), shape);
        vec![everywhere(first.append(armed(shape)), shape)]
    }),
    ("between_writes", |shape, between| {
        let writes = armed(shape).ops().iter().fold(Scenario::new(), |scenario, op| match op {
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
        let locked = armed(shape).write(OSLAR_EL1, 1).then(between).read(OSLSR_EL1);
        let unlocked = seen(everywhere(locked, shape), shape).write(OSLAR_EL1, 0).then(between);
        vec![everywhere(unlocked.read(OSLSR_EL1), shape)]
    }),
    ("linked_context", |shape, between| linked(shape, between).collect()),
    ("step_enabled", |shape, between| {
        let on = Mdscr::DEFAULT.with_ss(true).with_kde(true);
        let stepped = [(El::El1, 1), (El::El1, 2), (El::El0, 2)].into_iter().fold(
            Scenario::new().then(Op::MaskDebug(false)),
            |scenario, (el, steps)| {
                let enabled = scenario.enable(on).at(el).isb().then(between);
                let stepped = enabled.entered(Entry::stepped(steps)).exec(HERE).read(MDSCR_EL1);
                stepped.at(El::El1).entered(Entry::Call)
            },
        );
        vec![everywhere(stepped.then(between), shape)]
    }),
    ("debugged_by_userspace", |shape, between| {
        let debug = GuestDebug::breakpoint(shape.breakpoints - 1, other::MARKER - 1);
        let debug = Op::Debug(debug.and_watchpoint(shape.watchpoints - 1, WATCHED + 0x200));
        let store = |scenario: Scenario| scenario.access(STR, WATCHED + 0x200);
        let debugged = store(everywhere(armed(shape).then(debug).then(between), shape)).then(between);
        let off = seen(debugged, shape).then(Op::Debug(GuestDebug::OFF)).then(between);
        vec![store(everywhere(off, shape))]
    }),
];

const STR: u8 = access::place("str x1");

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
        let all = turns.fold(armed(shape), |scenario, other| {
            scenario.then(Op::Other(other)).exec(0).exec(other::MARKER).read(MDSCR_EL1).read(CONTEXTIDR_EL1)
        });
        cx.check(&seen(all, shape))
    }));
    cases.push(Case::new("others_and_cpus_in_turn", &rule::OTHER_CPU, |cx| {
        needs_cpus(cx, Op::Move)?;
        let shape = cx.shape();
        let all = Other::ALL.into_iter().fold(armed(shape), |scenario, other| {
            let scenario = scenario.then(Op::Other(other)).then(Op::Move).exec(0);
            scenario.then(Op::Other(other)).exec(other::MARKER).then(Op::Move).then(Op::Move).exec(0)
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
    cases
}

fn needs_cpus(cx: &Context<'_>, between: Op) -> Result<(), Stop> {
    if between == Op::Move && cx.cpus()? < 2 {
        return Stop::skip("this thread may run on only one CPU");
    }
    Ok(())
}

/// Two rounds of executions and accesses that `armed` may match, with `between` before, between and after
/// them.
fn around(armed: Scenario, between: Op) -> Scenario {
    let hit = |scenario: Scenario| {
        let scenario = scenario.then(between).exec(HERE).exec(other::MARKER);
        scenario.access(STR, WATCHED).access(STR, other::WATCHED)
    };
    hit(hit(armed)).then(between)
}

fn armed_breakpoint(n: u8) -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).breakpoint(n, HERE, Dbgbcr::address_at_el1()).enable(ON)
}

fn armed_watchpoint(n: u8) -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).watchpoint(n, WATCHED, Dbgwcr::doubleword()).enable(ON)
}

/// The guest and userspace read these registers.
fn reads(scenario: Scenario, registers: impl IntoIterator<Item = SysReg>) -> Scenario {
    registers.into_iter().fold(scenario, |scenario, reg| scenario.read(reg).then(Op::KvmGet { reg }))
}

fn breakpoint(scenario: Scenario, n: u8) -> Scenario {
    reads(scenario, [dbgbvr(n), dbgbcr(n), MDSCR_EL1])
}

fn watchpoint(scenario: Scenario, n: u8) -> Scenario {
    reads(scenario, [dbgwvr(n), dbgwcr(n), MDSCR_EL1])
}

/// Every breakpoint except the highest is on the marker of its number, and breakpoint 0 is linked to the
/// highest. Every watchpoint is on its own doubleword.
fn armed(shape: Shape) -> Scenario {
    let partner = shape.breakpoints - 1;
    let start =
        Scenario::new().then(Op::MaskDebug(false)).breakpoint_at(partner, CONTEXT, Dbgbcr::linked_context());
    let breakpoints = (0..partner).fold(start, |scenario, n| {
        let control = match n {
            0 => Dbgbcr::address_linked_to(u4::new(partner)),
            _ => Dbgbcr::address_at_el1(),
        };
        scenario.breakpoint(n, n, control)
    });
    let watchpoints = (0..shape.watchpoints).fold(breakpoints, |scenario, n| {
        scenario.watchpoint(n, WATCHED + 8 * u64::from(n), Dbgwcr::doubleword())
    });
    watchpoints.write(CONTEXTIDR_EL1, CONTEXT).enable(ON)
}

/// KVM_GET_ONE_REG of every debug register.
fn userspace_sees(scenario: Scenario, shape: Shape) -> Scenario {
    let breakpoints = shape.breakpoint_numbers().flat_map(|n| [dbgbvr(n), dbgbcr(n)]);
    let watchpoints = (0..shape.watchpoints).flat_map(|n| [dbgwvr(n), dbgwcr(n)]);
    let others = [MDSCR_EL1, CONTEXTIDR_EL1, OSLSR_EL1];
    let all = breakpoints.chain(watchpoints).chain(others);
    all.fold(scenario, |scenario, reg| scenario.then(Op::KvmGet { reg }))
}

/// A breakpoint and a watchpoint linked to each context-aware breakpoint, in their context and in the other
/// vCPU's.
fn linked(shape: Shape, between: Op) -> impl Iterator<Item = Scenario> {
    shape.context_aware_numbers().map(move |partner| {
        let (n, lbn) = (u8::from(partner == 0), u4::new(partner));
        let linked = Scenario::new()
            .then(Op::MaskDebug(false))
            .breakpoint_at(partner, CONTEXT, Dbgbcr::linked_context())
            .breakpoint(n, HERE, Dbgbcr::address_linked_to(lbn))
            .watchpoint(0, WATCHED, Dbgwcr::linked_to(lbn))
            .enable(ON);
        [CONTEXT, other::CONTEXT, 0, CONTEXT].into_iter().fold(linked, |scenario, context| {
            let scenario = scenario.write(CONTEXTIDR_EL1, context).then(between).exec(HERE);
            scenario.access(STR, WATCHED).then(between).read(CONTEXTIDR_EL1)
        })
    })
}

/// Long lists of operations of two vCPUs, without an exit. The second vCPU does what the other vCPU does in
/// the cases above.
fn together(shape: Shape) -> [Vec<Scenario>; 2] {
    const ROUNDS: usize = 8;
    let long =
        |armed: Scenario| (0..ROUNDS).fold(armed, |scenario, _| seen(everywhere(scenario, shape), shape));
    let program = other::scenario(Other::Enabled, shape);
    let other = (0..ROUNDS).fold(program, |scenario, _| seen(everywhere(scenario, shape), shape));
    let stepped = long(armed(shape).write(OSLAR_EL1, 1)).write(OSLAR_EL1, 0);
    [vec![long(armed(shape)), stepped], vec![other, other::scenario(Other::Debugged, shape)]]
}
