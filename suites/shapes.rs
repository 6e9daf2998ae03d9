// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The guest's suites in the shapes that userspace may give to a VM: registers beyond a count are not there, those
//! within work, and the context-aware breakpoints are the highest numbered of the shape.
//!
//! Which shapes these are is asked of the kernel: each field of ID_AA64DFR0_EL1 that tells of breakpoints, watchpoints
//! and locks, with each value that KVM accepts.

use crate::{breakpoints, double_lock, linked_context, register_access, watchpoints};
use dfr0_model::{
    dfr0::{BRPS, CTX_CMPS, DEBUGVER, DOUBLELOCK, Field, WRPS},
    id_write::Answer,
    rule::{self, Rule},
    shape::Shape,
    sysreg::ID_AA64DFR0_EL1,
};
use dfr0_runner::{
    case::{Case, Context, Stop, Suite, Turns},
    guest::Config,
};
use std::sync::{Arc, OnceLock};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "shapes",
    about: "the guest lives in the shape that it was shown, in each that userspace may set",
    cases,
};

/// The suites that run in each shape.
const SUITES: [Suite; 5] = [
    register_access::SUITE,
    breakpoints::SUITE,
    watchpoints::SUITE,
    linked_context::SUITE,
    double_lock::SUITE,
];

/// Values of ID_AA64DFR0_EL1, asked of the kernel when the first case needs them.
type Shapes = Arc<OnceLock<Vec<u64>>>;

/// In how many shapes the scenarios of a case take turns; the cases take turns among more.
const AT_ONCE: usize = 8;
/// How many shapes differ from the host's in everything that may differ.
const COMBINED: usize = 3;

fn cases() -> Vec<Case> {
    let shapes = Shapes::default();
    let in_shapes = |(turn, case): (usize, Case)| {
        let shapes = Arc::clone(&shapes);
        let (rule, also) = (case.rule, case.also);
        let name = format!("shapes.{}", case.name);
        Case::new(name, rule, move |cx| in_each_shape(cx, &shapes, turn, &case)).and(also)
    };
    let small = |case: &Case| !case.name.contains("sweep");
    SUITES.into_iter().flat_map(|suite| (suite.cases)()).filter(small).enumerate().map(in_shapes).collect()
}

/// A case whose rule is about the counts runs whole in each shape. The others take turns, and so do their scenarios.
fn in_each_shape(cx: &mut Context<'_>, shapes: &Shapes, turn: usize, case: &Case) -> Result<(), Stop> {
    const OF_COUNTS: [&Rule; 2] = [&rule::CONTEXT_AWARE_HIGHEST, &rule::REGISTERS_BEYOND_COUNT];
    let shapes = match shapes.get() {
        Some(shapes) => shapes,
        None => {
            let asked = ask(cx)?;
            shapes.get_or_init(|| asked)
        }
    };
    let whole = case.rules().any(|rule| OF_COUNTS.contains(&rule));
    let count = if whole { shapes.len() } else { shapes.len().min(AT_ONCE) };
    let mut skipped = "this kernel lets userspace change nothing of a VM's shape".to_owned();
    let mut ran = false;
    for (place, value) in
        shapes.iter().cycle().skip(turn * AT_ONCE % shapes.len().max(1)).take(count).enumerate()
    {
        let turns = (!whole).then(|| Turns::new(place, count));
        match cx.run_in(Config { id_aa64dfr0: Some(*value) }, turns, case) {
            Ok(()) => ran = true,
            Err(Stop::Skip(why)) => skipped = why,
            Err(stop) => return Err(stop),
        }
    }
    if ran { Ok(()) } else { Stop::skip(skipped) }
}

/// The values of the register that KVM accepts and that are not its own: each value of each field, each number of
/// context-aware breakpoints in each number of breakpoints, and some values of all fields at once.
fn ask(cx: &Context<'_>) -> Result<Vec<u64>, Stop> {
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
        // Each of the values differs from the host's in fields of its own.
        let differs =
            each.iter().map(|values| values[turn % values.len()] ^ host).fold(0, |all, one| all | one);
        if accepts(host ^ differs)? && !shapes.contains(&(host ^ differs)) {
            shapes.push(host ^ differs);
        }
    }
    Ok(shapes)
}
