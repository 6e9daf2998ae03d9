// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Breakpoints and watchpoints that are linked to a context-aware breakpoint: from every number to every other that is
//! context-aware, in the shape that KVM gives and in each with fewer breakpoints that userspace may set.

use arbitrary_int::u4;
use dfr0_model::{
    access,
    control::{Dbgbcr, Dbgwcr, Mdscr},
    dfr0::{BRPS, CTX_CMPS},
    id_write::Answer,
    rule::{self, Rule},
    scenario::{El, Op, Scenario},
    shape::Shape,
    sysreg::{CONTEXTIDR_EL1, ID_AA64DFR0_EL1, dbgbcr, dbgbvr},
    wire::TARGET,
};
use dfr0_runner::{
    case::{Case, Context, Stop, Suite},
    guest::Config,
};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "linked_context",
    about: "a link fires in the context of its context-aware breakpoint, in every shape that a VM may have",
    cases,
};

const HERE: u8 = 1;
const CONTEXT: u64 = 0x5a5a_1234;
const MATCHES: Dbgbcr = Dbgbcr::linked_context();

/// A breakpoint or a watchpoint of number `n`, linked to breakpoint `partner`, and what makes it fire.
#[derive(Clone, Copy)]
enum Linked {
    Breakpoint,
    Watchpoint,
}

impl Linked {
    const ALL: [(&'static str, Self); 2] =
        [("breakpoint", Self::Breakpoint), ("watchpoint", Self::Watchpoint)];

    /// The numbers that can be linked to `partner`.
    fn numbers(self, shape: Shape, partner: u8) -> Vec<u8> {
        match self {
            Self::Breakpoint => shape.breakpoint_numbers().filter(|n| *n != partner).collect(),
            Self::Watchpoint => (0..shape.watchpoints).collect(),
        }
    }

    /// `n` linked to `partner`, which matches [`CONTEXT`] as `control` says; the context is that.
    fn armed(self, n: u8, partner: u8, control: Dbgbcr) -> Scenario {
        let lbn = u4::new(partner);
        let scenario = Scenario::new()
            .then(Op::MaskDebug(false))
            .write(dbgbvr(partner), CONTEXT)
            .write(dbgbcr(partner), control.raw_value());
        let scenario = match self {
            Self::Breakpoint => scenario.breakpoint(n, HERE, Dbgbcr::address_linked_to(lbn)),
            Self::Watchpoint => scenario.watchpoint(n, TARGET, Dbgwcr::linked_to(lbn)),
        };
        scenario.enable(Mdscr::breakpoints_at_el1()).write(CONTEXTIDR_EL1, CONTEXT)
    }

    /// What it is set on.
    fn hit(self, scenario: Scenario) -> Scenario {
        match self {
            Self::Breakpoint => scenario.exec(HERE),
            Self::Watchpoint => scenario.access(access::named("str x1").unwrap_or_default(), TARGET),
        }
    }
}

fn cases() -> Vec<Case> {
    Linked::ALL.into_iter().flat_map(|(name, linked)| cases_of(name, linked)).collect()
}

fn cases_of(kind: &str, linked: Linked) -> Vec<Case> {
    let each = |name: &str, rule: &'static Rule, scenario: fn(Linked, u8, u8) -> Scenario| {
        Case::new(format!("linked_context.{kind}.{name}"), rule, move |cx| {
            each_link(cx, Config::default(), cx.shape(), linked, scenario)
        })
    };
    let fewer = Case::new(
        format!("linked_context.{kind}.highest_of_fewer_match"),
        &rule::CONTEXT_AWARE_HIGHEST,
        move |cx| highest_of_fewer_match(cx, linked),
    );
    vec![
        each("fires_in_its_context", &rule::LINKED_CONTEXT, fires),
        each("silent_in_another_context", &rule::LINKED_CONTEXT, |linked, n, partner| {
            let others = (0..32).map(|bit| CONTEXT ^ 1 << bit);
            others.chain([CONTEXT]).fold(linked.armed(n, partner, MATCHES), |scenario, context| {
                linked.hit(scenario.write(CONTEXTIDR_EL1, context))
            })
        }),
        each("partner_disabled", &rule::LINKED_CONTEXT, |linked, n, partner| {
            linked.hit(linked.armed(n, partner, MATCHES.with_e(false)))
        }),
        each("partner_of_another_type", &rule::LINKED_CONTEXT, |linked, n, partner| {
            linked.hit(linked.armed(n, partner, Dbgbcr::address_at_el1()))
        }),
        each("partner_alone_is_silent", &rule::LINKED_CONTEXT, |linked, n, partner| {
            let disabled = match linked {
                Linked::Breakpoint => linked.armed(n, partner, MATCHES).write(dbgbcr(n), 0),
                Linked::Watchpoint => {
                    linked.armed(n, partner, MATCHES).watchpoint(n, TARGET, Dbgwcr::DEFAULT)
                }
            };
            linked.hit(disabled)
        }),
        each("context_set_after_exit", &rule::EXIT_KEEPS_STATE, |linked, n, partner| {
            let elsewhere = linked.armed(n, partner, MATCHES).write(CONTEXTIDR_EL1, 0).then(Op::Exit);
            linked.hit(linked.hit(elsewhere).write(CONTEXTIDR_EL1, CONTEXT).then(Op::Exit))
        }),
        each("set_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, |linked, n, partner| {
            let set = linked.armed(n, partner, MATCHES).by_userspace();
            linked
                .hit(linked.hit(set).then(Op::KvmSet { reg: CONTEXTIDR_EL1, value: !CONTEXT & 0xffff_ffff }))
        }),
        fewer,
    ]
}

/// It fires at EL1, after an exit and, if it is a watchpoint, at EL0.
fn fires(linked: Linked, n: u8, partner: u8) -> Scenario {
    let scenario = linked.hit(linked.hit(linked.armed(n, partner, MATCHES)).then(Op::Exit));
    match linked {
        Linked::Breakpoint => scenario,
        Linked::Watchpoint => linked.hit(scenario.at(El::El0)),
    }
}

/// A link from each number to each breakpoint that is context-aware in `shape`.
fn each_link(
    cx: &mut Context<'_>,
    config: Config,
    shape: Shape,
    linked: Linked,
    scenario: fn(Linked, u8, u8) -> Scenario,
) -> Result<(), Stop> {
    for partner in shape.context_aware_numbers() {
        for n in linked.numbers(shape, partner) {
            cx.check_in(config, &scenario(linked, n, partner))?;
        }
    }
    Ok(())
}

/// In each shape with fewer breakpoints that userspace may set, the highest numbered match contexts.
///
/// This is what a smaller BRPs is about: hardware's context-aware breakpoints are the highest numbered of the
/// host's, and the guest's are the highest numbered of fewer.
fn highest_of_fewer_match(cx: &mut Context<'_>, linked: Linked) -> Result<(), Stop> {
    let host = cx.host().id_aa64dfr0;
    let mut shapes = 0;
    for brps in 1..=BRPS.get(host) {
        for ctx_cmps in 0..=CTX_CMPS.get(host).min(brps) {
            let value = CTX_CMPS.with(BRPS.with(host, brps), ctx_cmps);
            let guest = cx.new_guest(Config::default())?;
            if value == host || guest.set(ID_AA64DFR0_EL1, value)? != Answer::Accepted {
                continue;
            }
            shapes += 1;
            let config = Config { id_aa64dfr0: Some(value) };
            each_link(cx, config, Shape::from_id_aa64dfr0(value), linked, fires)?;
        }
    }
    if shapes == 0 {
        return Stop::skip("this kernel lets userspace change neither BRPs nor CTX_CMPs");
    }
    Ok(())
}
