// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The judge: compares what a scenario caused with what the rules allow.

use crate::{
    event::{
        EC_BREAKPOINT_CURRENT_EL, EC_BREAKPOINT_LOWER_EL, EC_BRK, EC_DATA_ABORT_CURRENT_EL,
        EC_DATA_ABORT_LOWER_EL, EC_ILLEGAL_STATE, EC_STEP_CURRENT_EL, EC_STEP_LOWER_EL, EC_UNKNOWN,
        EC_WATCHPOINT_CURRENT_EL, EC_WATCHPOINT_LOWER_EL, Event, Exception, Logged, debug_exit_class,
    },
    layout,
    outcome::{Outcome, Unknown},
    rule::Rule,
    scenario::Op,
    vm::Model,
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

/// An operation that caused what no rule allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The operation's place in the program.
    pub place: usize,
    /// What was observed, in words that hold on any host: the operation and its events, without the numbers that
    /// differ from host to host.
    pub observed: String,
    /// The events, with all their numbers.
    pub events: Vec<Event>,
    /// What the rules allow.
    pub allowed: Outcome,
}

impl Mismatch {
    /// The rule that was broken.
    pub fn rule(&self) -> &'static Rule {
        self.allowed.rule
    }

    /// The mismatch in words.
    pub fn words(&self) -> Words {
        fn each(items: &[impl ToString]) -> Vec<String> {
            items.iter().map(ToString::to_string).collect()
        }
        Words {
            place: self.place,
            observed: self.observed.clone(),
            seen: each(&self.events),
            allowed: self.allowed.alternatives().map(each).collect(),
            rule: self.rule().to_string(),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.words().fmt(f)
    }
}

/// A [`Mismatch`] in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// The operation's place in the program.
    pub place: usize,
    /// The operation and its events, in words that hold on any host.
    pub observed: String,
    /// Each event, with all its numbers.
    pub seen: Vec<String>,
    /// What the rules allow: one of these lists of events.
    pub allowed: Vec<Vec<String>>,
    /// The rule that was broken, and its section.
    pub rule: String,
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = |what: &str, events: &[String]| match events {
            [] => writeln!(f, "{what} nothing"),
            events => events.iter().try_for_each(|event| writeln!(f, "{what} {event}")),
        };
        list(&format!("operation {}:", self.place), core::slice::from_ref(&self.observed))?;
        list("  seen:   ", &self.seen)?;
        for (number, allowed) in self.allowed.iter().enumerate() {
            list(if number == 0 { "  allowed:" } else { "  or:     " }, allowed)?;
        }
        write!(f, "  rule:    {}", self.rule)
    }
}

/// Compares the events that `ops` caused with those that the rules allow; the first operation that differs
/// ends the comparison, because the state after it is not known.
pub fn judge(mut model: impl Model, ops: &[Op], log: &[Logged]) -> Result<Option<Mismatch>, Unknown> {
    judge_on(&mut model, ops, log)
}

/// The same as [`judge`]; the model is then in the state after the last operation.
pub fn judge_on(model: &mut impl Model, ops: &[Op], log: &[Logged]) -> Result<Option<Mismatch>, Unknown> {
    let mut left = log;
    let mut events = Vec::new();
    for (place, op) in ops.iter().enumerate() {
        let allowed = model.step(*op)?;
        let count = left.iter().take_while(|logged| logged.op == place).count();
        let (of_this, after) = left.split_at(count);
        left = after;
        events.clear();
        events.extend(of_this.iter().map(|logged| logged.event));
        // An event that was logged for an earlier operation, or for none, counts as an event of the last one.
        if place + 1 == ops.len() {
            events.extend(left.iter().map(|logged| logged.event));
        }
        if !allowed.admits(&events) {
            let observed = model.words(*op, &events).unwrap_or_else(|| describe(*op, &events));
            return Ok(Some(Mismatch { place, observed, events, allowed }));
        }
        model.saw(&events);
    }
    Ok(None)
}

/// The operation and its events in words that hold on any host.
fn describe(op: Op, events: &[Event]) -> String {
    let name = match op {
        Op::Write { reg, .. } => format!("msr {reg}"),
        Op::KvmSet { reg, .. } => format!("KVM_SET_ONE_REG {reg}"),
        Op::Access { access, .. } => access.name.into(),
        Op::Run { sequence, .. } => format!("`{sequence}`"),
        Op::Debug(debug) => format!("KVM_SET_GUEST_DEBUG {}", debug.control_names()),
        other => other.to_string(),
    };
    if events.is_empty() {
        return format!("{name}: no event");
    }
    let events: Vec<String> = events.iter().map(describe_event).collect();
    let runs: Vec<String> = events
        .chunk_by(|one, next| one == next)
        .map(|run| match run {
            // The number differs from host to host, and a list of all would fill the page.
            [event, _, _, ..] => format!("{event} again and again"),
            few => few.join(", "),
        })
        .collect();
    format!("{name}: {}", runs.join(", "))
}

fn describe_event(event: &Event) -> String {
    match event {
        Event::Value(value) => format!("{value:#x}"),
        Event::Refused(errno) => format!("errno {errno}"),
        Event::Exception(exception) => describe_exception(exception),
        Event::DebugExit { hsr, pc, .. } => {
            describe_place(format!("KVM_EXIT_DEBUG with EC {:#04x}", debug_exit_class(*hsr)), *pc)
        }
    }
}

fn describe_exception(exception: &Exception) -> String {
    let class = match exception.ec() {
        EC_UNKNOWN => "UNDEFINED".into(),
        EC_BREAKPOINT_LOWER_EL | EC_BREAKPOINT_CURRENT_EL => "Breakpoint exception".into(),
        EC_STEP_LOWER_EL | EC_STEP_CURRENT_EL => "Software Step exception".into(),
        EC_WATCHPOINT_LOWER_EL | EC_WATCHPOINT_CURRENT_EL => "Watchpoint exception".into(),
        EC_BRK => "BRK exception".into(),
        EC_DATA_ABORT_LOWER_EL | EC_DATA_ABORT_CURRENT_EL => "Data Abort exception".into(),
        EC_ILLEGAL_STATE => "Illegal Execution state exception".into(),
        other => format!("exception with EC {other:#04x}"),
    };
    describe_place(class, exception.elr)
}

/// `what`, and the marker where it happened.
fn describe_place(what: String, address: u64) -> String {
    match address.checked_sub(layout::MARKERS) {
        Some(offset) if offset < 8 * u64::from(layout::MARKER_COUNT) => match offset % 8 {
            0 => format!("{what} at marker {}", offset / 8),
            _ => format!("{what} after marker {}", offset / 8),
        },
        _ => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access::Access, pe::Pe, scenario::Scenario, shape::Shape, sysreg::MDSCR_EL1};

    fn described(op: Op, esr: u64, elr: u64) -> String {
        describe(op, &[Event::Exception(Exception { vector: 4, esr, elr, spsr: 0, far: 0 })])
    }

    #[test]
    fn an_event_of_an_earlier_operation_or_of_none_counts_as_an_event_of_the_last() {
        const SHAPE: Shape =
            Shape { debug_ver: 8, breakpoints: 6, watchpoints: 4, context_aware: 2, double_lock: true };
        let scenario = Scenario::new().read(MDSCR_EL1).isb().isb();
        let judged = |ops: &[usize]| {
            let logged = |op: &usize| Logged { op: *op, event: Event::Value(0) };
            let log: Vec<Logged> = ops.iter().map(logged).collect();
            let mismatch = judge(Pe::new(SHAPE), scenario.ops(), &log).expect("modelled");
            mismatch.map(|mismatch| (mismatch.place, mismatch.observed))
        };
        assert_eq!(judged(&[0]), None);
        let of_the_last = |events| Some((2, format!("isb: {events}")));
        assert_eq!(judged(&[0, 2, 0]), of_the_last("0x0, 0x0"), "an earlier operation");
        assert_eq!(judged(&[0, 3]), of_the_last("0x0"), "no operation");
        assert_eq!(judged(&[0, 1]), Some((1, "isb: 0x0".into())));
    }

    #[test]
    fn an_exception_is_described_by_its_class() {
        let class = |ec: u8| described(Op::Isb, u64::from(ec) << 26, 0);
        assert_eq!(class(EC_UNKNOWN), "isb: UNDEFINED");
        assert_eq!(class(EC_BREAKPOINT_LOWER_EL), "isb: Breakpoint exception");
        assert_eq!(class(EC_BREAKPOINT_CURRENT_EL), "isb: Breakpoint exception");
        assert_eq!(class(EC_WATCHPOINT_LOWER_EL), "isb: Watchpoint exception");
        assert_eq!(class(EC_WATCHPOINT_CURRENT_EL), "isb: Watchpoint exception");
        assert_eq!(class(EC_BRK), "isb: BRK exception");
        assert_eq!(class(EC_DATA_ABORT_LOWER_EL), "isb: Data Abort exception");
        assert_eq!(class(EC_DATA_ABORT_CURRENT_EL), "isb: Data Abort exception");
        assert_eq!(class(EC_ILLEGAL_STATE), "isb: Illegal Execution state exception");
        assert_eq!(class(0x20), "isb: exception with EC 0x20");
    }

    #[test]
    fn an_exception_among_the_markers_is_described_by_its_marker() {
        let at = |elr| described(Op::Exec { marker: 3 }, 0xc600_0022, elr);
        assert_eq!(at(layout::marker(0)), "exec marker 3: Breakpoint exception at marker 0");
        assert_eq!(at(layout::marker(3)), "exec marker 3: Breakpoint exception at marker 3");
        assert_eq!(at(layout::marker(3) + 4), "exec marker 3: Breakpoint exception after marker 3");
        assert_eq!(at(layout::marker(255) + 4), "exec marker 3: Breakpoint exception");
        assert_eq!(at(layout::BRK), "exec marker 3: Breakpoint exception");
        assert_eq!(at(layout::MARKERS - 4), "exec marker 3: Breakpoint exception");
    }

    #[test]
    fn an_operation_is_described_without_the_numbers_that_differ_from_host_to_host() {
        let reg = crate::sysreg::OSDLR_EL1;
        assert_eq!(describe(Op::Write { reg, value: 5 }, &[]), "msr OSDLR_EL1: no event");
        assert_eq!(
            describe(Op::KvmSet { reg, value: 5 }, &[Event::Refused(22)]),
            "KVM_SET_ONE_REG OSDLR_EL1: errno 22"
        );
        assert_eq!(
            describe(Op::Access { access: Access::named("ldrb w1"), address: 5 }, &[]),
            "ldrb w1: no event"
        );
        assert_eq!(
            describe(Op::Read { reg }, &[Event::Value(1), Event::Value(2)]),
            "mrs OSDLR_EL1: 0x1, 0x2"
        );
    }

    #[test]
    fn a_mismatch_prints_what_was_seen_what_is_allowed_and_the_rule() {
        let rule = &crate::rule::DOUBLE_LOCK_ACCESS;
        let allowed = Outcome::value(1, !0, rule);
        let mismatch =
            Mismatch { place: 7, observed: "mrs X".into(), events: Vec::from([Event::Value(0)]), allowed };
        assert_eq!(
            mismatch.to_string(),
            format!("operation 7: mrs X\n  seen:    0x0\n  allowed: 0x1\n  rule:    {rule}")
        );
        let silent = Outcome::silent(rule);
        let mismatch = Mismatch { events: Vec::new(), allowed: silent, ..mismatch };
        assert_eq!(
            mismatch.to_string(),
            format!("operation 7: mrs X\n  seen:    nothing\n  allowed: nothing\n  rule:    {rule}")
        );
    }
}
