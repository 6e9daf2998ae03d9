// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The guest's suites in the shapes that userspace may give to a VM: registers beyond a count do not exist,
//! those below it work, and the context-aware breakpoints are the highest numbered of the shape.
//!
//! The kernel is asked which shapes these are: each field of ID_AA64DFR0_EL1 that describes breakpoints,
//! watchpoints and locks, with each value that KVM accepts.

use crate::{breakpoints, double_lock, guest_debug, linked_context, random, register_access, watchpoints};
use dfr0_model::{
    dfr0::{BRPS, CTX_CMPS, DEBUGVER, DOUBLELOCK, Field, WRPS},
    id_write::Answer,
    rule,
    shape::Shape,
    sysreg::ID_AA64DFR0_EL1,
};
use dfr0_runner::{
    case::{Again, Case, Context, Stop, Suite, Variation, Which},
    guest::Config,
    turn,
};
use std::sync::{Arc, OnceLock};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "shapes",
    about: "the guest has the shape that its ID register shows, in each shape that userspace may set",
    cases,
};

/// The suites that run in each shape.
const SUITES: [Suite; 6] = [
    register_access::SUITE,
    breakpoints::SUITE,
    watchpoints::SUITE,
    linked_context::SUITE,
    double_lock::SUITE,
    random::SUITE,
];

/// Values of ID_AA64DFR0_EL1 that the kernel accepts, asked for when the first case needs them.
type Shapes = Arc<OnceLock<Vec<u64>>>;

/// In how many shapes the scenarios of a case take turns. Which shapes these are follows from its name.
const AT_ONCE: usize = 8;
const AT_ONCE_IN_A_SAMPLE: usize = 2;
/// How many shapes differ from the host's in everything that userspace may change.
const COMBINED: usize = 3;

fn cases() -> Vec<Case> {
    let shapes = Shapes::default();
    let in_shapes = |case: Case| {
        let shapes = Arc::clone(&shapes);
        let (rule, also) = (case.rule, case.also);
        let name = format!("shapes.{}", case.name);
        Case::new(name, rule, move |cx| in_shapes_in_turn(cx, ask_once(cx, &shapes)?, &case)).and(also)
    };
    let mut cases: Vec<Case> = run_again().map(in_shapes).collect();
    cases.push(Case::new("shapes.guest_debug", &rule::GUEST_DEBUG_KEEPS_REGISTERS, move |cx| {
        under_guest_debug(cx, ask_once(cx, &shapes)?)
    }));
    cases
}

/// The cases that run in other shapes.
fn run_again() -> impl Iterator<Item = Case> {
    let cases = SUITES.into_iter().flat_map(|suite| (suite.cases)());
    cases.filter(|case| case.again() != Again::Never)
}

/// A case that tests one field runs completely in each shape in which that field differs from the host's. The
/// other cases take turns, and so do their scenarios. In a thorough run they run completely in each shape.
fn in_shapes_in_turn(cx: &mut Context<'_>, shapes: &[u64], case: &Case) -> Result<(), Stop> {
    if let Some(field) = case.field() {
        let shapes = differing(cx, shapes, field.mask());
        return in_each(cx, shapes.into_iter().map(|value| (value, Which::All)), case);
    }
    if case.again() == Again::Whole || cx.thorough().is_some() && !case.is_drawn() {
        return in_each(cx, shapes.iter().map(|value| (*value, Which::All)), case);
    }
    let count = shapes.len().min(if cx.every() > 1 { AT_ONCE_IN_A_SAMPLE } else { AT_ONCE });
    let its = turn::places(case.turn(), count, shapes.len()).map(|place| shapes[place]);
    in_each(cx, its.enumerate().map(|(this, value)| (value, Which::Turn { this, of: count })), case)
}

/// Userspace debugs a guest that has other breakpoints than the host. Userspace uses those of the host.
fn under_guest_debug(cx: &mut Context<'_>, shapes: &[u64]) -> Result<(), Stop> {
    let shapes = differing(cx, shapes, BRPS.mask() | CTX_CMPS.mask());
    if shapes.is_empty() {
        return Stop::skip("this kernel lets userspace change neither BRPs nor CTX_CMPs");
    }
    for case in &(guest_debug::SUITE.cases)() {
        match in_shapes_in_turn(cx, &shapes, case) {
            Err(Stop::Skip(_)) => {}
            result => result?,
        }
    }
    Ok(())
}

/// The shapes that differ from the host's in these bits.
fn differing(cx: &Context<'_>, shapes: &[u64], bits: u64) -> Vec<u64> {
    let host = cx.host().id_aa64dfr0;
    shapes.iter().filter(|value| (*value ^ host) & bits != 0).copied().collect()
}

/// Runs a case in these shapes. The case is skipped if it skips in each of them.
fn in_each(
    cx: &mut Context<'_>,
    shapes: impl Iterator<Item = (u64, Which)>,
    case: &Case,
) -> Result<(), Stop> {
    let mut skipped = Err(Stop::Skip(
        "this kernel does not let userspace change what this case tests of a VM's shape".into(),
    ));
    let mut ran = false;
    for (value, which) in shapes {
        let config = Config { id_aa64dfr0: Some(value), ..Config::default() };
        match cx.run_in(Variation { config, which, ..Variation::default() }, case) {
            Err(Stop::Skip(why)) => skipped = Stop::skip(why),
            result => ran |= result?,
        }
    }
    if ran { Ok(()) } else { skipped }
}

fn ask_once<'a>(cx: &Context<'_>, shapes: &'a Shapes) -> Result<&'a [u64], Stop> {
    if let Some(shapes) = shapes.get() {
        return Ok(shapes);
    }
    let asked = ask(cx)?;
    Ok(shapes.get_or_init(|| asked))
}

/// The values of the register that KVM accepts and that differ from its own: each value of each field, each
/// number of context-aware breakpoints with each number of breakpoints, and some values that change all
/// fields at once.
pub(crate) fn ask(cx: &Context<'_>) -> Result<Vec<u64>, Stop> {
    let host = cx.host().id_aa64dfr0;
    let vm = cx.new_guest()?;
    let accepts = |value| {
        let is_shape = Shape::from_id_aa64dfr0(value);
        let is_shape = is_shape.context_aware <= is_shape.breakpoints;
        Ok::<_, Stop>(is_shape && value != host && vm.set(ID_AA64DFR0_EL1, value)? == Answer::Accepted)
    };
    let architected =
        |field: &Field| (0..16).filter(|value| field.is_architected(*value)).collect::<Vec<_>>();

    let mut counts = Vec::new();
    for brps in architected(&BRPS) {
        for ctx_cmps in architected(&CTX_CMPS) {
            let value = CTX_CMPS.with(BRPS.with(host, brps), ctx_cmps);
            if accepts(value)? {
                counts.push(value);
            }
        }
    }
    let mut each = vec![counts];
    for field in [&WRPS, &DEBUGVER, &DOUBLELOCK] {
        let mut values = Vec::new();
        for value in architected(field) {
            if accepts(field.with(host, value))? {
                values.push(field.with(host, value));
            }
        }
        each.push(values);
    }
    each.retain(|values| !values.is_empty());
    let mut shapes = each.concat();
    for turn in 0..each.iter().map(Vec::len).max().unwrap_or(0).min(COMBINED) {
        // Each of the values differs from the host's in other fields.
        let differs =
            each.iter().map(|values| values[turn % values.len()] ^ host).fold(0, |all, one| all | one);
        if accepts(host ^ differs)? && !shapes.contains(&(host ^ differs)) {
            shapes.push(host ^ differs);
        }
    }
    Ok(shapes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shape_has_about_as_many_cases_as_any_other() {
        let turns: Vec<usize> =
            run_again().filter(|case| case.again() == Again::InTurn).map(|case| case.turn()).collect();
        for (shapes, at_once) in [(104, AT_ONCE), (33, AT_ONCE), (11, AT_ONCE), (33, AT_ONCE_IN_A_SAMPLE)] {
            let mut cases = vec![0; shapes];
            turns
                .iter()
                .flat_map(|turn| turn::places(*turn, at_once, shapes))
                .for_each(|place| cases[place] += 1);
            let mean = turns.len() * at_once / shapes;
            let (least, most) = (cases.iter().min(), cases.iter().max());
            assert!(least.is_some_and(|least| *least >= mean / 3), "{shapes} shapes: {cases:?}");
            assert!(most.is_some_and(|most| *most <= mean * 2), "{shapes} shapes: {cases:?}");
        }
    }
}
