// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Two fields of ID_AA64DFR0_EL1 written at once, for each pair of fields.

use super::{
    DFR0,
    values::{is_refused, surely},
    vm, whole,
};
use dfr0_model::{
    dfr0::{FIELDS, Field},
    rule,
    scenario::Scenario,
    vm::Facts,
    vmm::Features,
};
use dfr0_runner::case::{Case, Context, Stop};

/// A field and a value for it.
type Change = (&'static Field, u8);

pub fn cases() -> Vec<Case> {
    vec![
        whole("together.two_legal", &rule::ID_FIELDS_TOGETHER, |cx| pairs(cx, is_surely_accepted))
            .and(&[&rule::ID_SAFE_ACCEPTED, &rule::ID_IMPOSSIBLE_SHAPE]),
        whole("together.legal_and_illegal", &rule::ID_FIELDS_TOGETHER, |cx| pairs(cx, is_refused)).and(&[
            &rule::ID_UNSAFE_REFUSED,
            &rule::ID_RESERVED_REFUSED,
            &rule::ID_READ_ONLY_REFUSED,
        ]),
    ]
}

fn is_surely_accepted(facts: &Facts, field: &'static Field, value: u8) -> bool {
    let default = facts.default(DFR0);
    value != field.get(default) && surely(facts, field.with(default, value))
}

fn changes(facts: &Facts, which: fn(&Facts, &'static Field, u8) -> bool) -> Vec<Change> {
    let all = FIELDS.into_iter().flat_map(|field| (0..16).map(move |value| (field, value)));
    all.filter(|(field, value)| which(facts, field, *value)).collect()
}

/// Each change that KVM must accept with each other change. The other is tried alone before: what KVM
/// accepts there, though it should not, another case reports.
fn pairs(cx: &mut Context<'_>, which: fn(&Facts, &'static Field, u8) -> bool) -> Result<(), Stop> {
    let facts = cx.facts(Features::None)?;
    let default = facts.default(DFR0);
    let (legal, others) = (changes(&facts, is_surely_accepted), changes(&facts, which));
    if legal.is_empty() {
        return Stop::skip("this kernel lets userspace change no field of ID_AA64DFR0_EL1");
    }
    let with_each = |first: Change| others.iter().map(move |other| [first, *other]);
    let of_two_fields = |[first, other]: &[Change; 2]| first.0.lsb != other.0.lsb;
    let mut pairs = legal.into_iter().flat_map(with_each).filter(of_two_fields).peekable();
    if pairs.peek().is_none() {
        return Stop::skip("this kernel lets userspace change only one field of ID_AA64DFR0_EL1");
    }
    let scenarios = pairs.map(|[(one, value), (other, of_other)]| {
        let alone = Scenario::new().tries(DFR0, other.with(default, of_other)).sets(DFR0, default);
        alone.sets(DFR0, other.with(one.with(default, value), of_other)).gets(DFR0).sets(DFR0, default)
    });
    cx.check_after(&vm(), scenarios)
}
