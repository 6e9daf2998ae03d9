// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Two fields of ID_AA64DFR0_EL1 written at once, for each pair of fields.

use super::{
    describe, named,
    values::{is_legal, new_vm},
};
use dfr0_model::{
    dfr0::{FIELDS, Field},
    id_write::{Answer, allowed, allowed_together},
    rule,
    sysreg::ID_AA64DFR0_EL1,
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    plain::{Features, PlainVm},
};

/// A field and a value for it.
type Change = (&'static Field, u8);

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("together.two_legal", &rule::ID_FIELDS_TOGETHER, |cx| pairs(cx, |changes| &changes.legal))
            .and(&[&rule::ID_SAFE_ACCEPTED, &rule::ID_IMPOSSIBLE_SHAPE]),
        Case::new("together.legal_and_illegal", &rule::ID_FIELDS_TOGETHER, |cx| {
            pairs(cx, |changes| &changes.illegal)
        })
        .and(&[&rule::ID_UNSAFE_REFUSED, &rule::ID_RESERVED_REFUSED, &rule::ID_READ_ONLY_REFUSED]),
    ]
}

/// Changes of one field: those that the model allows and this kernel accepts, and those that both refuse.
struct Changes {
    legal: Vec<Change>,
    illegal: Vec<Change>,
}

fn pairs(cx: &mut Context<'_>, others: fn(&Changes) -> &[Change]) -> Result<(), Stop> {
    let vm = new_vm(cx, 1, Features::None)?;
    let default = vm.read(0, ID_AA64DFR0_EL1)?;
    let changes = alone(&vm, default)?;
    if changes.legal.is_empty() {
        return Stop::skip("this kernel lets userspace change no field of ID_AA64DFR0_EL1");
    }
    let others = others(&changes);
    let with_each = |first: Change| others.iter().map(move |other| [first, *other]);
    let of_two_fields = |[first, other]: &[Change; 2]| first.0.lsb != other.0.lsb;
    let mut pairs = changes.legal.iter().copied().flat_map(with_each).filter(of_two_fields).peekable();
    if pairs.peek().is_none() {
        return Stop::skip("this kernel lets userspace change only one field of ID_AA64DFR0_EL1");
    }
    cx.each(pairs, |cx, pair| check(cx, &vm, default, pair))
}

/// A change that this kernel accepts although it need not, such as a reserved encoding, is in neither list:
/// other cases report it.
fn alone(vm: &PlainVm, default: u64) -> Result<Changes, Stop> {
    let writable = vm.writable(ID_AA64DFR0_EL1);
    let mut changes = Changes { legal: Vec::new(), illegal: Vec::new() };
    for field in FIELDS {
        for value in (0..16).filter(|value| *value != field.get(default)) {
            let accepted = vm.set(0, ID_AA64DFR0_EL1, field.with(default, value))? == Answer::Accepted;
            vm.set(0, ID_AA64DFR0_EL1, default)?;
            if accepted && is_legal(field, value, default) {
                changes.legal.push((field, value));
            }
            if !accepted && !allowed(field, value, default, writable).accepted {
                changes.illegal.push((field, value));
            }
        }
    }
    Ok(changes)
}

fn check(cx: &mut Context<'_>, vm: &PlainVm, default: u64, changes: [Change; 2]) -> Result<(), Stop> {
    let value = changes.iter().fold(default, |register, (field, value)| field.with(register, *value));
    let allowed = allowed_together(&changes, default, vm.writable(ID_AA64DFR0_EL1));
    cx.count();
    let answer = vm.set(0, ID_AA64DFR0_EL1, value)?;
    let reads = vm.read(0, ID_AA64DFR0_EL1)?;
    let taken_back = vm.set(0, ID_AA64DFR0_EL1, default)?;
    let [first, second] = changes.map(|(field, value)| named(field, value));
    let full = format!("{first} and {second}: {value:#x} into {default:#x}, reads {reads:#x}");
    let names = format!("{} and {}", changes[0].0.name, changes[1].0.name);
    if !allowed.allows(answer) {
        cx.find(format!("{names} at once {}", describe(answer)), full.clone());
    }
    let expected = if answer == Answer::Accepted { allowed.reads_back } else { default };
    if reads != expected {
        let short = format!("{names} at once {}, then the register reads otherwise", describe(answer));
        cx.find(short, format!("{full}, allowed: {expected:#x}"));
    }
    if taken_back != Answer::Accepted {
        cx.find(format!("the value before {}", describe(taken_back)), full);
    }
    Ok(())
}
