// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The host's own hardware breakpoints and watchpoints, of the thread that runs the vCPU.

use super::{armed, everywhere, seen};
use crate::stage::{ADDRESS, HERE, ON, STEP, armed as armed_breakpoint};
use dfr0_model::{
    control::Mdscr,
    guest_debug::{ENABLE, GuestDebug, SINGLESTEP},
    rule,
    scenario::{El, Entry, Scenario},
    shape::Shape,
    wire::{TARGET, marker},
};
use dfr0_runner::{case::Case, host_debug::Kind, other::MARKER};

const KINDS: [(&str, Kind); 2] =
    [("host_breakpoints", Kind::Breakpoint), ("host_watchpoints", Kind::Watchpoint)];

/// A scenario of a vCPU of this shape, on a host with so many breakpoints and watchpoints.
type Guest = fn(Shape, Shape) -> Scenario;

/// What the guest does before a hit, with its part of a case's name.
const KEPT_AFTER: [(&str, Guest); 8] = [
    ("an_idle_guest", |_, _| Scenario::new().exec(HERE).nothing().store(TARGET).nothing()),
    ("an_armed_guest", |shape, _| seen(everywhere(armed(shape).exit(), shape), shape).exit()),
    ("an_enabled_guest", |_, _| Scenario::new().unmask().enable(ON).exit().exec(HERE).nothing().exit()),
    ("a_locked_guest", |shape, _| {
        let locked = armed(shape).lock().exit().exec(HERE).nothing().store(TARGET).nothing();
        locked.exit().unlock().exit()
    }),
    ("a_guest_that_steps", |_, _| {
        let enabled = Scenario::new().unmask().enable(STEP).isb();
        let stepped = enabled.entered(Entry::stepped(2)).exit().exec(HERE).takes_steps(2);
        stepped.entered(Entry::Call).exit()
    }),
    ("a_guest_that_disarms", |shape, _| {
        let disarmed = everywhere(armed(shape).exit(), shape).enable(Mdscr::DEFAULT).exit();
        disarmed.exec(HERE).nothing().exit()
    }),
    ("userspaces_breakpoints", |shape, host| {
        let debug = GuestDebug::first_breakpoints(host.breakpoints);
        let debugged = armed(shape).userspace_debugs(debug).exec(0).exits().exit().exec(0).exits();
        debugged.userspace_stops().exit()
    }),
    ("userspaces_steps", |_, _| {
        let stepped = Scenario::new().userspace_debugs(GuestDebug::new(ENABLE | SINGLESTEP));
        stepped.exec(HERE).exits().exits().userspace_stops().exit()
    }),
];

/// What a guest does at its own addresses, where the host has breakpoints and watchpoints for EL0, with its part of a case's
/// name.
const NOTHING_TO: [(&str, Guest); 4] = [
    ("an_idle_guest", |_, _| at_both_levels(Scenario::new().unmask().enable(Mdscr::DEFAULT).exit())),
    ("an_enabled_guest", |_, _| at_both_levels(Scenario::new().unmask().enable(ON))),
    ("a_guest_with_another_breakpoint", |shape, _| {
        let other = armed_breakpoint(shape.breakpoints - 1);
        at_both_levels(other.breakpoint(shape.breakpoints - 1, MARKER, ADDRESS))
    }),
    ("a_locked_guest", |_, _| at_both_levels(Scenario::new().unmask().enable(ON).lock()).unlock()),
];

pub fn cases() -> Vec<Case> {
    let kinds = KINDS.into_iter().flat_map(|(group, kind)| {
        let kept = KEPT_AFTER.into_iter().map(move |(after, guest)| {
            Case::new(format!("kept_after.{after}"), &rule::HOST_DEBUG_KEPT, move |cx| {
                let scenario = guest(cx.shape(), cx.host().shape());
                cx.check_before_a_hit(kind, std::iter::repeat_n(scenario, 4))
            })
            .within(group)
        });
        let nothing = NOTHING_TO.into_iter().map(move |(to, guest)| {
            Case::new(format!("nothing_to.{to}"), &rule::HOST_DEBUG_HIDDEN, move |cx| {
                let scenario = guest(cx.shape(), cx.host().shape());
                cx.check_at_own(kind, marker(HERE), [scenario])
            })
            .within(group)
        });
        kept.chain(nothing)
    });
    kinds.collect()
}

fn at_both_levels(scenario: Scenario) -> Scenario {
    let both = scenario.each([El::El0, El::El1], |scenario, el| {
        scenario.at(el).exec(HERE).nothing().store(TARGET).nothing().exit()
    });
    both.each([El::El0, El::El1], |scenario, el| scenario.at(el).exec(HERE).nothing().store(TARGET).nothing())
}
