// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The guest's suites in the shapes that userspace may give to a VM: registers beyond a count do not exist,
//! those below it work, and the context-aware breakpoints are the highest numbered of the shape.
//!
//! The kernel is asked which shapes these are: each field of ID_AA64DFR0_EL1 that describes breakpoints,
//! watchpoints and locks, with each value that KVM accepts.

use crate::{BREAKPOINTS, DOUBLE_LOCK, GUEST_DEBUG, LINKED_CONTEXT, RANDOM, REGISTER_ACCESS, WATCHPOINTS};
use dfr0_model::{
    dfr0::{BRPS, CTX_CMPS, DEBUGVER, DOUBLELOCK, Field, WRPS},
    id_write::Answer,
    shape::Shape,
    sysreg::ID_AA64DFR0_EL1,
};
use dfr0_runner::{
    case::{Again, Case, Context, Stop, Suite},
    guest::Config,
};
use std::sync::{Arc, OnceLock};

/// The suites that run in each shape.
const SUITES: [Suite; 7] =
    [REGISTER_ACCESS, BREAKPOINTS, WATCHPOINTS, LINKED_CONTEXT, DOUBLE_LOCK, GUEST_DEBUG, RANDOM];

/// Values of ID_AA64DFR0_EL1 that the kernel accepts, asked for when the first case needs them.
type Shapes = Arc<OnceLock<Vec<u64>>>;

/// How many shapes differ from the host's in everything that userspace may change.
const COMBINED: usize = 3;

pub fn cases() -> Vec<Case> {
    let shapes = Shapes::default();
    let again = |case: Case| {
        let shapes = Arc::clone(&shapes);
        let (rule, also) = (case.rule, case.also);
        Case::new(case.name.clone(), rule, move |cx| in_shapes(cx, ask_once(cx, &shapes)?, &case)).and(also)
    };
    run_again().map(again).collect()
}

/// The cases that run in other shapes.
fn run_again() -> impl Iterator<Item = Case> {
    let cases = SUITES.into_iter().flat_map(|suite| suite.cases());
    cases.filter(|case| case.again() != Again::Never)
}

/// A case that tests one field runs only in shapes in which that field differs from the host's.
fn in_shapes(cx: &mut Context<'_>, shapes: &[u64], case: &Case) -> Result<(), Stop> {
    let bits = case.field().map_or(u64::MAX, Field::mask);
    let configs = differing(cx, shapes, bits).into_iter();
    let configs: Vec<Config> =
        configs.map(|value| Config { id_aa64dfr0: Some(value), ..Config::default() }).collect();
    if cx.run_again(&configs, case)? {
        Ok(())
    } else {
        Stop::skip("this kernel does not let userspace change what this case tests of a VM's shape")
    }
}

/// The shapes that differ from the host's in these bits.
fn differing(cx: &Context<'_>, shapes: &[u64], bits: u64) -> Vec<u64> {
    let host = cx.host().id_aa64dfr0;
    shapes.iter().filter(|value| (*value ^ host) & bits != 0).copied().collect()
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
    use dfr0_runner::effort::Effort;

    #[test]
    fn each_shape_has_about_as_many_cases_as_any_other() {
        let again: Vec<Case> = run_again().filter(|case| case.again() == Again::InTurn).collect();
        let sample = Effort { every: 2, ..Effort::default() };
        for (shapes, effort) in
            [104, 33, 11].map(|all| (all, Effort::default())).into_iter().chain([(33, sample)])
        {
            let mut cases = vec![0; shapes];
            again
                .iter()
                .flat_map(|case| effort.shapes(case, shapes))
                .for_each(|(place, _)| cases[place] += 1);
            let mean = cases.iter().sum::<usize>() / shapes;
            assert!(cases.iter().all(|cases| (mean / 3..=mean * 2).contains(cases)), "{cases:?}");
        }
    }
}
