// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Rewriting the debug feature registers, above all ID_AA64DFR0_EL1: what KVM answers, what userspace reads
//! back, and what the guest reads, before the VM runs and afterwards.
//!
//! This file has each of the 16 values of each field of ID_AA64DFR0_EL1, in a VM with KVM's own value. The
//! modules have other moments, vCPUs, features and registers. Each case is scenarios that make their VM; the
//! model (`vm`) says what KVM may answer.

use crate::forms::whole;
use dfr0_model::{
    dfr0::{FIELDS, Field},
    id_write::Writable,
    rule,
    scenario::Scenario,
    sysreg::{ID_AA64DFR0_EL1, MDSCR_EL1, SysReg},
    vm::{DEBUG_FEATURES, Facts},
    vmm::Features,
};
use dfr0_runner::case::{Case, Context, Stop};
use values::{is_accepted, is_legal, is_refused, surely};

mod aarch32;
mod features;
mod masks;
mod moments;
mod neighbours;
mod promises;
mod together;
mod values;

const DFR0: SysReg = ID_AA64DFR0_EL1;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        whole("same_value_accepted", &rule::ID_DEFAULT_ACCEPTED, |cx| {
            let default = cx.facts(Features::None)?.default(DFR0);
            cx.check_vm(&vm().sets(DFR0, default).nothing().gets(DFR0).reads(default))
        }),
        whole("default_guest_reads", &rule::ID_GUEST_READS, |cx| {
            let default = cx.facts(Features::None)?.default(DFR0);
            cx.check_vm(&vm().gets(DFR0).reads(default).read(DFR0).reads(default))
        }),
        whole("raised_again", &rule::ID_SAFE_ACCEPTED, raised_again),
        whole("frozen_by_run", &rule::ID_FROZEN_BY_RUN, frozen_by_run),
    ];
    FIELDS.into_iter().for_each(|field| cases.extend(of_field(field)));
    cases.extend(moments::cases());
    cases.extend(features::cases());
    cases.extend(together::cases());
    cases.extend(neighbours::cases());
    cases.extend(masks::cases());
    cases.extend(promises::cases());
    cases.extend(aarch32::cases());
    cases
}

/// A VM without features, whose vCPU has not run.
fn vm() -> Scenario {
    Scenario::vm(Features::None)
}

/// Userspace and the guest read each debug feature register.
fn all_read(scenario: Scenario) -> Scenario {
    DEBUG_FEATURES.into_iter().fold(scenario, |scenario, reg| scenario.gets(reg).read(reg))
}

/// The cases of one field.
fn of_field(field: &'static Field) -> [Case; 5] {
    type Test = fn(&mut Context<'_>, &'static Field) -> Result<(), Stop>;
    let case =
        |name: &str, rule, test: Test| Case::new(name, rule, move |cx| test(cx, field)).within(field.slug);
    let (either, reads_otherwise): (&[_], &[_]) = match field.slug {
        "brps" => (&[&rule::ID_IMPOSSIBLE_SHAPE], &[]),
        "pmuver" => (&[&rule::ID_PMUVER_IMP_DEF], &[&rule::ID_PMUVER_IMP_DEF]),
        _ => (&[], &[]),
    };
    [
        case("accepted", &rule::ID_SAFE_ACCEPTED, |cx, field| written(cx, field, is_accepted)).and(either),
        case("refused", &rule::ID_UNSAFE_REFUSED, |cx, field| written(cx, field, is_refused))
            .and(&[&rule::ID_RESERVED_REFUSED, &rule::ID_READ_ONLY_REFUSED]),
        case("reads_back", &rule::ID_READS_BACK, |cx, field| {
            let facts = cx.facts(Features::None)?;
            cx.check_after(&vm(), values::of(&facts, field).map(|value| tried(Scenario::new(), value)))
        })
        .and(reads_otherwise),
        case("guest_reads", &rule::ID_GUEST_READS, |cx, field| {
            let facts = cx.facts(Features::None)?;
            let accepted = (0..16).filter(|value| is_accepted(&facts, field, *value));
            let values = accepted.map(|value| field.with(facts.default(DFR0), value));
            cx.check_vms(values.map(|value| tried(vm(), value).read(DFR0)))
        }),
        case("mask", &rule::ID_MASK_COVERS_FIELDS, mask_agrees),
    ]
}

fn tried(scenario: Scenario, value: u64) -> Scenario {
    scenario.tries(DFR0, value).gets(DFR0)
}

/// The values of a field for which `which` is true, one after another in one VM.
fn written(
    cx: &mut Context<'_>,
    field: &'static Field,
    which: fn(&Facts, &'static Field, u8) -> bool,
) -> Result<(), Stop> {
    let facts = cx.facts(Features::None)?;
    let values = (0..16).filter(|value| which(&facts, field, *value));
    cx.check_after(
        &vm(),
        values.map(|value| Scenario::new().sets(DFR0, field.with(facts.default(DFR0), value))),
    )
}

/// A field in the mask accepts each legal value. A field that is not in the mask accepts none.
fn mask_agrees(cx: &mut Context<'_>, field: &'static Field) -> Result<(), Stop> {
    let facts = cx.facts(Features::None)?;
    let default = facts.default(DFR0);
    if facts.writable(DFR0) == Writable::Unknown {
        return Stop::skip("this kernel has no KVM_ARM_GET_REG_WRITABLE_MASKS");
    }
    let legal = (0..16).filter(|value| is_legal(field, *value, default));
    let set = |value| Scenario::new().sets(DFR0, field.with(default, value));
    cx.check_after(&vm(), legal.map(set))
}

/// A register that was lowered may be raised to KVM's default again, as long as nothing has run.
fn raised_again(cx: &mut Context<'_>) -> Result<(), Stop> {
    let facts = cx.facts(Features::None)?;
    let raised = legal_others(&facts).into_iter().map(|lowered| {
        let (raised, default) = (Scenario::new().tries(DFR0, lowered), facts.default(DFR0));
        raised.sets(DFR0, default).nothing().gets(DFR0).reads(default)
    });
    cx.check_after(&vm(), raised)
}

/// After a run the register keeps the value that it was given before, and userspace and the guest read it.
fn frozen_by_run(cx: &mut Context<'_>) -> Result<(), Stop> {
    let facts = cx.facts(Features::None)?;
    let others = legal_others(&facts);
    let given = others.iter().copied().filter(|value| surely(&facts, *value));
    let given: Vec<u64> = std::iter::once(facts.default(DFR0)).chain(given).collect();
    cx.each(given, |cx, given| {
        let late = others.iter().copied().filter(|other| *other != given).chain([given]);
        let late = late.map(|value| {
            let set = Scenario::new().sets(DFR0, value);
            let set = if value == given { set.nothing() } else { set };
            set.gets(DFR0).reads(given).read(DFR0).reads(given)
        });
        cx.check_after(&vm().sets(DFR0, given).read(MDSCR_EL1), late)
    })
}

/// The register with one field at another value that the architecture allows, for each such value.
fn legal_others(facts: &Facts) -> Vec<u64> {
    let default = facts.default(DFR0);
    let of = |field: &'static Field| {
        let legal = (0..16).filter(move |value| is_legal(field, *value, default));
        legal.map(move |value| field.with(default, value))
    };
    FIELDS.into_iter().flat_map(of).collect()
}
