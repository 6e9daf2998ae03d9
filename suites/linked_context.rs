// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Breakpoints and watchpoints that are linked to a context-aware breakpoint: from every number to every
//! other number that is context-aware.

use crate::{
    forms::within,
    stage::{ADDRESS, BY_RETURN, CONTEXT, HERE, ON, STR},
};
use arbitrary_int::{u2, u4};
use dfr0_model::{
    claim::Claim,
    control::{BT_CONTEXT, BT_CONTEXTIDR_EL1, BT_CONTEXTIDR_EL1_LINKED, Dbgbcr, Dbgwcr, Mdscr},
    rule::{self, Rule},
    scenario::{El, Op, Scenario},
    shape::Shape,
    sysreg::{CONTEXTIDR_EL1, dbgbcr},
    wire::TARGET,
};
use dfr0_runner::case::{Case, Context, Stop};

/// The partner of a link.
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

    /// `n` linked to `partner`, which matches [`CONTEXT`] as `control` says. CONTEXTIDR_EL1 is [`CONTEXT`].
    fn armed(self, n: u8, partner: u8, control: Dbgbcr) -> Scenario {
        let lbn = u4::new(partner);
        let scenario = Scenario::new().unmask().breakpoint_at(partner, CONTEXT, control);
        self.set(scenario, n, lbn).enable(ON).write(CONTEXTIDR_EL1, CONTEXT)
    }

    fn is_breakpoint(self) -> bool {
        matches!(self, Self::Breakpoint)
    }

    /// `n` linked to `lbn`.
    fn set(self, scenario: Scenario, n: u8, lbn: u4) -> Scenario {
        match self {
            Self::Breakpoint => scenario.breakpoint(n, HERE, Dbgbcr::address_linked_to(lbn)),
            Self::Watchpoint => scenario.watchpoint(n, TARGET, Dbgwcr::linked_to(lbn)),
        }
    }

    /// Executes or accesses what it is set on.
    fn hit(self, scenario: Scenario) -> Scenario {
        scenario.isb().then(self.unsynchronised())
    }

    /// Executes or accesses what it is set on, without an ISB before it.
    fn unsynchronised(self) -> Op {
        match self {
            Self::Breakpoint => Op::Exec { marker: HERE },
            Self::Watchpoint => Op::Access { access: STR, address: TARGET },
        }
    }

    /// It fires where it is set.
    fn fires(self, scenario: Scenario) -> Scenario {
        self.hit(scenario).claim(match self {
            Self::Breakpoint => Claim::Breakpoint,
            Self::Watchpoint => Claim::Watchpoint,
        })
    }

    /// It does not fire where it is set.
    fn silent(self, scenario: Scenario) -> Scenario {
        self.hit(scenario).nothing()
    }

    /// Right after a write, it fires where it is set or does not.
    fn may_fire(self, scenario: Scenario) -> Scenario {
        scenario.then(self.unsynchronised()).may(match self {
            Self::Breakpoint => &Claim::Breakpoint,
            Self::Watchpoint => &Claim::Watchpoint,
        })
    }

    /// Executes or accesses what is next to what it is set on.
    fn miss(self, scenario: Scenario) -> Scenario {
        match self {
            Self::Breakpoint => scenario.exec(HERE + 1),
            Self::Watchpoint => scenario.store(TARGET + 8),
        }
    }
}

pub fn cases() -> Vec<Case> {
    Linked::ALL.into_iter().flat_map(|(name, linked)| within(name, cases_of(linked))).collect()
}

fn cases_of(linked: Linked) -> Vec<Case> {
    let each = |name: &str, rule: &'static Rule, scenario: fn(Linked, u8, u8) -> Scenario| {
        Case::new(name, rule, move |cx| each_link(cx, linked, scenario))
    };
    let whole = |name: &str, rule: &'static Rule, test: fn(&mut Context<'_>, Linked) -> Result<(), Stop>| {
        Case::new(name, rule, move |cx| test(cx, linked))
    };
    vec![
        each("fires_in_its_context", &rule::LINKED_CONTEXT, fires)
            .and(&[&rule::CONTEXT_AWARE_HIGHEST])
            .in_each_shape(),
        each("silent_in_another_context", &rule::LINKED_CONTEXT, |linked, n, partner| {
            let others = (0..32).map(|bit| CONTEXT ^ 1 << bit);
            let elsewhere = linked
                .armed(n, partner, MATCHES)
                .each(others, |scenario, context| linked.silent(scenario.write(CONTEXTIDR_EL1, context)));
            linked.fires(elsewhere.write(CONTEXTIDR_EL1, CONTEXT))
        }),
        each("partner_disabled", &rule::LINKED_CONTEXT, |linked, n, partner| {
            linked.silent(linked.armed(n, partner, MATCHES.with_e(false)))
        }),
        each("partner_of_another_type", &rule::LINKED_CONTEXT, |linked, n, partner| {
            linked.silent(linked.armed(n, partner, ADDRESS))
        }),
        each("partner_alone_is_silent", &rule::LINKED_CONTEXT, |linked, n, partner| {
            let armed = linked.armed(n, partner, MATCHES);
            linked.silent(match linked {
                Linked::Breakpoint => armed.write(dbgbcr(n), 0),
                Linked::Watchpoint => armed.watchpoint(n, TARGET, Dbgwcr::DEFAULT),
            })
        }),
        each("context_set_after_exit", &rule::EXIT_KEEPS_STATE, |linked, n, partner| {
            let elsewhere = linked.armed(n, partner, MATCHES).write(CONTEXTIDR_EL1, 0).exit();
            linked.fires(linked.silent(elsewhere).write(CONTEXTIDR_EL1, CONTEXT).exit())
        }),
        each("set_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, |linked, n, partner| {
            let set = linked.fires(linked.armed(n, partner, MATCHES).by_userspace());
            linked.silent(set.userspace_writes(CONTEXTIDR_EL1, !CONTEXT & 0xffff_ffff).accepted())
        }),
        whole("sweep", &rule::LINKED_CONTEXT, sweep).large(),
        whole("contextidr_el1_type", &rule::LINKED_CONTEXT, |cx, linked| {
            links(cx, linked, |linked, n, partner| {
                let control = MATCHES.with_bt(BT_CONTEXTIDR_EL1_LINKED);
                let armed = linked.armed(n, partner, control).entered(BY_RETURN);
                vec![linked.hit(armed.clone()), linked.hit(armed.write(CONTEXTIDR_EL1, CONTEXT ^ 1))]
            })
        }),
        whole("each_partner_type", &rule::LINK_UNPREDICTABLE, |cx, linked| {
            links(cx, linked, |linked, n, partner| {
                let types = (0..16).filter(|bt| !MATCH_BY_THEMSELVES.contains(bt)).map(u4::new);
                let armed = |bt| linked.armed(n, partner, MATCHES.with_bt(bt)).entered(BY_RETURN);
                types.map(|bt| linked.hit(armed(bt))).collect()
            })
        }),
        whole("partners_other_fields_do_not_matter", &rule::LINKED_CONTEXT, |cx, linked| {
            links(cx, linked, |linked, n, partner| {
                let fields = (0..4).flat_map(|pmc| [0, 0b0011, 0b1111].map(|bas| (pmc, bas)));
                let control = |(pmc, bas)| MATCHES.with_pmc(u2::new(pmc)).with_bas(u4::new(bas));
                fields.map(|fields| linked.fires(linked.armed(n, partner, control(fields)))).collect()
            })
        }),
        whole("to_itself_or_to_nothing", &rule::LINK_UNPREDICTABLE, to_itself_or_to_nothing),
        whole("context_not_synchronised", &rule::CONTEXT_SYNCHRONIZATION, |cx, linked| {
            links(cx, linked, |linked, n, partner| {
                let armed = linked.armed(n, partner, MATCHES);
                let leaves = linked.fires(armed.clone()).write(CONTEXTIDR_EL1, CONTEXT ^ 1);
                let enters = linked.silent(armed.write(CONTEXTIDR_EL1, CONTEXT ^ 1));
                let enters = enters.write(CONTEXTIDR_EL1, CONTEXT);
                vec![linked.silent(linked.may_fire(leaves)), linked.fires(linked.may_fire(enters))]
            })
        }),
    ]
}

/// The values of BT that match a context without a link to them.
const MATCH_BY_THEMSELVES: [u8; 2] = [BT_CONTEXT.value(), BT_CONTEXTIDR_EL1.value()];

/// Checks the scenarios of each link.
fn links(
    cx: &mut Context<'_>,
    linked: Linked,
    scenarios: fn(Linked, u8, u8) -> Vec<Scenario>,
) -> Result<(), Stop> {
    let shape = cx.shape();
    let of =
        |partner| linked.numbers(shape, partner).into_iter().flat_map(move |n| scenarios(linked, n, partner));
    cx.check_each(shape.context_aware_numbers().flat_map(of))
}

/// Each link with its partner enabled or not, in its context or another, at each Exception level, with each
/// of the bits that mask it.
fn sweep(cx: &mut Context<'_>, linked: Linked) -> Result<(), Stop> {
    links(cx, linked, |linked, n, partner| {
        (0..64_u8)
            .map(|bits| {
                let bit = |k: u8| bits >> k & 1 == 1;
                let armed = linked.armed(n, partner, MATCHES.with_e(bit(0)));
                let context = if bit(1) { CONTEXT } else { CONTEXT + 1 };
                let mdscr = Mdscr::DEFAULT.with_mde(bit(2)).with_kde(bit(3));
                let set = armed.write(CONTEXTIDR_EL1, context).enable(mdscr).pstate_d(bit(4));
                linked.hit(set.at(if bit(5) { El::El0 } else { El::El1 }))
            })
            .collect()
    })
}

/// A link to a breakpoint that is not context-aware, that does not exist, or that is the linked breakpoint
/// itself. It may match or not, but in no other place. A breakpoint that is context-aware and linked to
/// itself never matches.
fn to_itself_or_to_nothing(cx: &mut Context<'_>, linked: Linked) -> Result<(), Stop> {
    let shape = cx.shape();
    let numbers = match linked {
        Linked::Breakpoint => shape.breakpoints,
        Linked::Watchpoint => shape.watchpoints,
    };
    cx.check_each((0..numbers).flat_map(|n| {
        (0..16).flat_map(move |lbn| {
            let itself = linked.is_breakpoint() && lbn == n;
            if shape.is_context_aware(lbn) && !itself {
                return Vec::new();
            }
            let set = Scenario::new().unmask().enable(ON);
            let set = linked.set(set, n, u4::new(lbn)).write(CONTEXTIDR_EL1, CONTEXT);
            vec![linked.hit(linked.miss(set).nothing())]
        })
    }))
}

/// The link fires at EL1, after an exit and, if it is a watchpoint's, at EL0.
fn fires(linked: Linked, n: u8, partner: u8) -> Scenario {
    let once = linked.fires(linked.armed(n, partner, MATCHES)).exit();
    let twice = linked.fires(once);
    match linked {
        Linked::Breakpoint => twice,
        Linked::Watchpoint => linked.fires(twice.at(El::El0)),
    }
}

/// A link from each number to each breakpoint that is context-aware.
fn each_link(
    cx: &mut Context<'_>,
    linked: Linked,
    scenario: fn(Linked, u8, u8) -> Scenario,
) -> Result<(), Stop> {
    let shape = cx.shape();
    for partner in shape.context_aware_numbers() {
        for n in linked.numbers(shape, partner) {
            cx.check(&scenario(linked, n, partner))?;
        }
    }
    Ok(())
}
