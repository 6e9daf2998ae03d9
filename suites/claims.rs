// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Double entry: what the cases say must happen is what the model says, in several shapes.

use crate::{ALL, migration_hosts};
use dfr0_model::{
    claim,
    dfr0::{BRPS, CTX_CMPS, DEBUGVER, DOUBLELOCK, DOUBLELOCK_IMP, WRPS},
    pe::Pe,
    scenario::Scenario,
    shape::Shape,
    vm::Vm,
};
use dfr0_runner::{host::Host, paper};
use std::{collections::BTreeMap, sync::Arc};

/// Breakpoints, watchpoints, context-aware breakpoints, DebugVer and whether FEAT_DoubleLock is implemented.
const SHAPES: [(u8, u8, u8, u8, bool); 5] =
    [(6, 4, 2, 8, true), (6, 4, 2, 9, false), (16, 16, 4, 9, false), (4, 2, 1, 6, true), (2, 2, 2, 6, false)];

/// DOUBLELOCK: not implemented.
const DOUBLELOCK_NI: u8 = 0xf;

fn id_aa64dfr0(
    (breakpoints, watchpoints, context_aware, version, double_lock): (u8, u8, u8, u8, bool),
) -> u64 {
    let lock = if double_lock { DOUBLELOCK_IMP } else { DOUBLELOCK_NI };
    let fields = [(BRPS, breakpoints - 1), (WRPS, watchpoints - 1), (CTX_CMPS, context_aware - 1)];
    let all = fields.into_iter().chain([(DEBUGVER, version), (DOUBLELOCK, lock)]);
    all.fold(0, |value, (field, of)| field.with(value, of))
}

/// What [`migration_hosts`] is called here; it is not a suite.
const PAIRS: &str = "pairs";
/// Suites whose cases say what must happen.
const SUITES: [&str; 13] = [
    "id_regs",
    "register_access",
    "breakpoints",
    "watchpoints",
    "linked_context",
    "os_lock",
    "double_lock",
    "exception_masking",
    "guest_debug",
    "software_step",
    "preemption",
    "migration",
    PAIRS,
];

#[test]
fn cases_and_model_agree_in_every_shape() {
    let (mut held, mut wrong) = (BTreeMap::<&str, usize>::new(), BTreeMap::<String, Vec<String>>::new());
    let mut hold = |suite, case: &str, host: &Host, of: Shape, scenario: &Scenario| {
        if !scenario.has_claims() {
            return;
        }
        *held.entry(suite).or_default() += 1;
        let found = match scenario.features() {
            Some(features) => claim::disagreements(Vm::new(Arc::new(paper::facts(host, features))), scenario),
            None => claim::disagreements(Pe::new(of).with_host(host.shape()), scenario),
        };
        let found = match found {
            Err(unknown) => Some(unknown.to_string()),
            Ok(found) => found.first().map(ToString::to_string),
        };
        if let Some(found) = found {
            wrong.entry(case.into()).or_default().push(format!("in a VM of {of}:\n{scenario}{found}"));
        }
    };
    for shape in SHAPES.map(id_aa64dfr0) {
        let host = &Host::imagined(shape);
        for suite in ALL {
            for case in suite.cases() {
                for (of, scenario) in case.on_paper(shape) {
                    hold(suite.name, &case.name, host, of, &scenario);
                }
            }
        }
        let of = Shape::from_id_aa64dfr0(shape);
        for moved in migration_hosts::scenarios(of) {
            hold(PAIRS, &moved.name, host, of, &moved.scenario);
        }
    }
    // A case comes before its variations, whose names are longer.
    let mut wrong: Vec<_> = wrong.into_iter().collect();
    wrong.sort_by_key(|(name, _)| name.len());
    let each = wrong
        .iter()
        .map(|(name, texts)| format!("{name}: {} scenarios, the first {}", texts.len(), texts[0]));
    let text = each.collect::<Vec<_>>().join("\n\n");
    assert!(wrong.is_empty(), "{} cases claim what the model does not say\n{text}", wrong.len());
    for suite in SUITES {
        assert!(held.contains_key(suite), "no scenario of {suite} claims anything");
    }
}
