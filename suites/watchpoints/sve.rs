// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! SVE contiguous loads and stores.

use super::numbers;
use crate::stage::{BY_RETURN, DOUBLEWORD, LEVELS, WATCHED, watching_with};
use dfr0_model::{
    control::{LSC_BOTH, LSC_LOAD, LSC_STORE},
    feature::Feature,
    rule,
    scenario::{El, Scenario},
    sequence::{self, Does, Sequence},
    sysreg::dbgwvr,
    vector::Faulting,
};
use dfr0_runner::case::{Case, Context, Stop};

pub fn cases() -> [Case; 3] {
    let case = |name: &str, rule, faulting| Case::new(name, rule, move |cx| watched(cx, faulting));
    [
        case("sve_contiguous", &rule::WATCHPOINT_SVE, Faulting::All).and(&[&rule::WATCHPOINT_SVE_RELAXED]),
        case("sve_non_fault", &rule::WATCHPOINT_SVE_NON_FAULT, Faulting::None),
        case("sve_first_fault", &rule::WATCHPOINT_SVE_FIRST_FAULT, Faulting::First),
    ]
}

/// The pieces of code whose load or store is of this kind.
fn pieces(faulting: Faulting) -> impl Iterator<Item = &'static Sequence> {
    sequence::TABLE.iter().filter(move |piece| {
        piece.instructions.iter().any(|(_, does)| matches!(does, Does::Vector(v) if v.faulting == faulting))
    })
}

/// Each byte in and around a vector is watched, which starts at a multiple of 16 and between two; the watchpoints take
/// turns. Then the vector's doubleword is, by each watchpoint, for each kind of access.
fn watched(cx: &mut Context<'_>, faulting: Faulting) -> Result<(), Stop> {
    cx.with(Feature::Sve)?;
    let bytes = [WATCHED, WATCHED + 3, WATCHED + 8]
        .into_iter()
        .flat_map(|base| (base - 16..base + 40).flat_map(move |byte| LEVELS.map(|el| (base, byte, el))));
    let sweep = bytes.flat_map(|(base, byte, el)| pieces(faulting).map(move |piece| (base, byte, el, piece)));
    let sweep = sweep.zip(numbers(cx).cycle()).map(|((base, byte, el, piece), n)| {
        let set = watching_with(n, DOUBLEWORD.with_bas(1 << (byte % 8))).write(dbgwvr(n), byte & !7);
        enter(set, el).run(piece, base)
    });
    let each = numbers(cx).flat_map(|n| {
        pieces(faulting).flat_map(move |piece| {
            [LSC_LOAD, LSC_STORE, LSC_BOTH].into_iter().flat_map(move |lsc| {
                let set = watching_with(n, DOUBLEWORD.with_lsc(lsc));
                LEVELS.map(|el| enter(set.clone(), el).run(piece, WATCHED).run(piece, WATCHED - 8))
            })
        })
    });
    cx.check_each(each.chain(sweep))
}

fn enter(scenario: Scenario, el: El) -> Scenario {
    scenario.at(el).entered(BY_RETURN)
}
