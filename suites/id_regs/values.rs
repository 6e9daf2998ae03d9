// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Each value of each field of a register, written one after another in one VM and taken back. The checks are
//! the same at each moment at which a value can be taken back.

use super::DFR0;
use dfr0_model::{
    dfr0::{FIELDS, Field},
    id_write::{Writable, allowed},
    rule::{self, Rule},
    scenario::Scenario,
    sysreg::SysReg,
    vm::Facts,
    vmm::Features,
};
use dfr0_runner::case::{Case, Context, Stop};

/// The register of a field with each of its 16 values, the other fields as KVM gave them.
pub fn of(facts: &Facts, field: &'static Field) -> impl Iterator<Item = u64> + use<> {
    let default = facts.default(field.reg);
    (0..16).map(move |value| field.with(default, value))
}

/// KVM may accept the value.
pub fn is_accepted(facts: &Facts, field: &'static Field, value: u8) -> bool {
    allowed(field, value, facts.default(field.reg), facts.writable(field.reg)).accepted
}

/// KVM must refuse the value.
pub fn is_refused(facts: &Facts, field: &'static Field, value: u8) -> bool {
    !is_accepted(facts, field, value)
}

/// Whether a value of a field is legal, whatever the writable mask says, and not the default.
pub fn is_legal(field: &Field, value: u8, default: u64) -> bool {
    allowed(field, value, default, Writable::Mask(u64::MAX)).rule == &rule::ID_SAFE_ACCEPTED
}

/// KVM must accept this value of ID_AA64DFR0_EL1, which differs in one field from KVM's own.
pub fn surely(facts: &Facts, register: u64) -> bool {
    let (default, writable) = (facts.default(DFR0), facts.writable(DFR0));
    let changed = FIELDS.into_iter().find(|field| field.get(register) != field.get(default));
    changed.is_none_or(|field| {
        let allowed = allowed(field, field.get(register), default, writable);
        allowed.accepted && !allowed.refused
    })
}

/// A moment at which a value can be taken back: what happened before it, and the vCPUs through which values
/// are written and then read besides.
#[derive(Clone, Copy)]
pub struct Moment {
    pub features: Features,
    pub before: fn(&Facts) -> Scenario,
    /// Through which vCPU values are written, and through which other they are read besides.
    pub through: &'static [(u8, u8)],
}

/// The cases of a moment. The first rule of each is the rule of the moment.
pub fn cases(name: &str, rule: &'static Rule, moment: Moment) -> Vec<Case> {
    let case = |of: &str, test: fn(&mut Context<'_>, Moment) -> Result<(), Stop>| {
        Case::new(of, rule, move |cx| test(cx, moment)).within(name)
    };
    vec![
        case("accepted", |cx, moment| answered(cx, moment, is_accepted)).and(&[
            &rule::ID_SAFE_ACCEPTED,
            &rule::ID_DEFAULT_ACCEPTED,
            &rule::ID_PMUVER_IMP_DEF,
            &rule::ID_IMPOSSIBLE_SHAPE,
        ]),
        case("refused", |cx, moment| answered(cx, moment, is_refused)).and(&[
            &rule::ID_UNSAFE_REFUSED,
            &rule::ID_RESERVED_REFUSED,
            &rule::ID_READ_ONLY_REFUSED,
        ]),
        case("reads_back", reads_back).and(&[&rule::ID_READS_BACK]),
    ]
}

fn answered(
    cx: &mut Context<'_>,
    moment: Moment,
    which: fn(&Facts, &'static Field, u8) -> bool,
) -> Result<(), Stop> {
    let facts = cx.facts(moment.features)?;
    for (by, _) in moment.through {
        let values = FIELDS.into_iter().flat_map(|field| (0..16).map(move |value| (field, value)));
        let values = values.filter(|(field, value)| which(&facts, field, *value));
        let set = values.map(|(field, value)| {
            Scenario::new().on_vcpu(*by).sets(DFR0, field.with(facts.default(DFR0), value))
        });
        cx.check_after(&(moment.before)(&facts), set)?;
    }
    Ok(())
}

/// A value that was accepted reads back through each vCPU and can be taken back. A value that was refused
/// changed nothing. Afterwards every ID register is as before.
fn reads_back(cx: &mut Context<'_>, moment: Moment) -> Result<(), Stop> {
    let facts = cx.facts(moment.features)?;
    for (by, beside) in moment.through {
        let values = FIELDS.into_iter().flat_map(|field| of(&facts, field));
        let tried = values.map(|value| {
            let tried = Scenario::new().on_vcpu(*by).tries(DFR0, value).gets(DFR0);
            tried.on_vcpu(*beside).gets(DFR0).on_vcpu(*by).sets(DFR0, facts.default(DFR0)).gets(DFR0)
        });
        let all = Scenario::new().gets_each(id_registers(&facts));
        cx.check_after(&(moment.before)(&facts), tried.chain([all]))?;
    }
    Ok(())
}

/// The ID registers that KVM lists.
pub fn id_registers(facts: &Facts) -> Vec<SysReg> {
    facts.registers.keys().copied().collect()
}

/// Each value of each field, written to a register that a run has frozen and that holds `frozen`.
pub fn late(frozen: u64, by: u8) -> impl Iterator<Item = Scenario> {
    let values =
        FIELDS.into_iter().flat_map(move |field| (0..16).map(move |value| field.with(frozen, value)));
    values.map(move |value| Scenario::new().on_vcpu(by).sets(DFR0, value).gets(DFR0))
}

/// The value that KVM gives to ID_AA64DFR0_EL1, and the least that may be written.
pub fn own_and_least(facts: &Facts) -> [u64; 2] {
    [facts.default(DFR0), facts.least()]
}
