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
    shape::Shape,
    sysreg::ID_AA64DFR0_EL1,
};
use dfr0_runner::{
    case::{Case, Context, Stop, Suite},
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

/// What makes a shape.
const FIELDS: [&Field; 5] = [&BRPS, &CTX_CMPS, &WRPS, &DEBUGVER, &DOUBLELOCK];

/// Values of ID_AA64DFR0_EL1, asked of the kernel when the first case needs them.
type Shapes = Arc<OnceLock<Vec<u64>>>;

fn cases() -> Vec<Case> {
    let shapes = Shapes::default();
    let in_each = |case: Case| {
        let shapes = Arc::clone(&shapes);
        let (rule, also) = (case.rule, case.also);
        Case::new(format!("shapes.{}", case.name), rule, move |cx| in_each_shape(cx, &shapes, &case))
            .and(also)
    };
    let small = |case: &Case| !case.name.contains("sweep");
    SUITES.into_iter().flat_map(|suite| (suite.cases)()).filter(small).map(in_each).collect()
}

fn in_each_shape(cx: &mut Context<'_>, shapes: &Shapes, case: &Case) -> Result<(), Stop> {
    let shapes = match shapes.get() {
        Some(shapes) => shapes,
        None => {
            let asked = ask(cx)?;
            shapes.get_or_init(|| asked)
        }
    };
    if shapes.is_empty() {
        return Stop::skip("this kernel lets userspace change nothing of a VM's shape");
    }
    let mut skipped = None;
    let mut ran = 0;
    for value in shapes {
        match cx.run_in(Config { id_aa64dfr0: Some(*value) }, case) {
            Ok(()) => ran += 1,
            Err(Stop::Skip(why)) => skipped = Some(why),
            Err(stop) => return Err(stop),
        }
    }
    match skipped {
        Some(why) if ran == 0 => Stop::skip(why),
        _ => Ok(()),
    }
}

/// The values of the register that KVM accepts, other than its own.
fn ask(cx: &Context<'_>) -> Result<Vec<u64>, Stop> {
    let host = cx.host().id_aa64dfr0;
    let mut values = vec![host];
    for field in FIELDS {
        for value in 0..16 {
            let one = field.with(host, value);
            if one == host || !field.is_architected(value) || !is_shape(one) {
                continue;
            }
            if cx.new_guest()?.set(ID_AA64DFR0_EL1, one)? == Answer::Accepted {
                values.push(one);
            }
        }
    }
    values.remove(0);
    Ok(values)
}

fn is_shape(value: u64) -> bool {
    let shape = Shape::from_id_aa64dfr0(value);
    shape.context_aware <= shape.breakpoints
}
