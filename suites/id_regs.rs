// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Rewriting the debug feature registers, above all ID_AA64DFR0_EL1: what KVM answers, what userspace reads
//! back, and what the guest reads, before the VM runs and afterwards.
//!
//! This file has each of the 16 values of each field of ID_AA64DFR0_EL1, in a VM with KVM's own value. The
//! modules have other moments, vCPUs, features and registers.

use dfr0_model::{
    dfr0::{FIELDS, Field},
    event::Event,
    id_write::{Allowed, Answer, Writable, allowed, allowed_after_run},
    rule::{self, Rule},
    scenario::Scenario,
    sysreg::ID_AA64DFR0_EL1,
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    guest::Guest,
};
use std::sync::{Arc, OnceLock};
use values::is_legal;

mod aarch32;
mod features;
mod masks;
mod moments;
mod neighbours;
mod promises;
mod together;
mod values;

/// The result of writing one value to one field.
#[derive(Clone, Copy)]
struct Observed {
    answer: Answer,
    /// The whole register, as userspace reads it afterwards.
    userspace: u64,
    /// The whole register, as the guest reads it, if the value was accepted.
    guest: Option<u64>,
}

/// The results for the 16 values of a field, made when the first case needs them.
type Values = Arc<OnceLock<[Observed; 16]>>;

/// What a case checks for one value. It returns the short and the full text of a finding.
type Check = fn(&Field, u8, Observed, Allowed, u64) -> Option<(String, String)>;

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = vec![
        Case::new("same_value_accepted", &rule::ID_DEFAULT_ACCEPTED, same_value_accepted),
        Case::new("default_guest_reads", &rule::ID_GUEST_READS, default_guest_reads),
        Case::new("raised_again", &rule::ID_SAFE_ACCEPTED, raised_again),
        Case::new("frozen_by_run", &rule::ID_FROZEN_BY_RUN, frozen_by_run),
    ];
    for field in FIELDS {
        let values = Values::default();
        let case = |name: &str, rule: &'static Rule, check: Check| {
            let values = Arc::clone(&values);
            Case::new(format!("{}.{name}", field.slug), rule, move |cx| each_value(cx, field, &values, check))
        };
        let (either, reads_otherwise): (&[_], &[_]) = match field.slug {
            "brps" => (&[&rule::ID_IMPOSSIBLE_SHAPE], &[]),
            "pmuver" => (&[&rule::ID_PMUVER_IMP_DEF], &[&rule::ID_PMUVER_IMP_DEF]),
            _ => (&[], &[]),
        };
        cases.extend([
            case("accepted", &rule::ID_SAFE_ACCEPTED, accepted).and(either),
            case("refused", &rule::ID_UNSAFE_REFUSED, refused)
                .and(&[&rule::ID_RESERVED_REFUSED, &rule::ID_READ_ONLY_REFUSED]),
            case("reads_back", &rule::ID_READS_BACK, reads_back).and(reads_otherwise),
            case("guest_reads", &rule::ID_GUEST_READS, guest_reads),
        ]);
        let values = Arc::clone(&values);
        cases.push(Case::new(format!("{}.mask", field.slug), &rule::ID_MASK_COVERS_FIELDS, move |cx| {
            mask_agrees(cx, field, &values)
        }));
    }
    cases.extend(moments::cases());
    cases.extend(features::cases());
    cases.extend(together::cases());
    cases.extend(neighbours::cases());
    cases.extend(masks::cases());
    cases.extend(promises::cases());
    cases.extend(aarch32::cases());
    cases
}

fn each_value(cx: &mut Context<'_>, field: &Field, values: &Values, check: Check) -> Result<(), Stop> {
    let (default, writable) = (cx.host().id_aa64dfr0, cx.host().writable);
    for (value, observed) in (0..).zip(observe(cx, field, values)?) {
        cx.count();
        let allowed = allowed(field, value, default, writable);
        if let Some((short, full)) = check(field, value, observed, allowed, default) {
            cx.find(short, format!("{full}\n  rule: {}", allowed.rule));
        }
    }
    Ok(())
}

fn observe(cx: &Context<'_>, field: &Field, values: &Values) -> Result<[Observed; 16], Stop> {
    if let Some(observed) = values.get() {
        return Ok(*observed);
    }
    let default = cx.host().id_aa64dfr0;
    let mut observed = [Observed { answer: Answer::Accepted, userspace: 0, guest: None }; 16];
    let mut untouched = None;
    for (value, observed) in (0..).zip(&mut observed) {
        let mut guest = match untouched.take() {
            Some(guest) => guest,
            None => cx.new_guest()?,
        };
        let answer = guest.set(ID_AA64DFR0_EL1, field.with(default, value))?;
        let userspace = guest.get(ID_AA64DFR0_EL1)?;
        let read = if answer == Answer::Accepted { guest_mrs(&mut guest)? } else { None };
        *observed = Observed { answer, userspace, guest: read };
        if answer != Answer::Accepted && userspace == default {
            untouched = Some(guest);
        }
    }
    Ok(*values.get_or_init(|| observed))
}

/// What the guest's `MRS` of the register reads, or `None` if it took an exception instead.
fn guest_mrs(guest: &mut Guest) -> Result<Option<u64>, Stop> {
    let events = guest.events(&Scenario::new().read(ID_AA64DFR0_EL1))?;
    Ok(match events.as_slice() {
        [Event::Value(value)] => Some(*value),
        _ => None,
    })
}

/// A field and its value, as a finding names them.
fn named(field: &Field, value: u8) -> String {
    format!("{} {value:#06b}", field.name)
}

fn describe(answer: Answer) -> String {
    match answer {
        Answer::Accepted => "accepted".into(),
        Answer::Refused(errno) => format!("refused with errno {errno}"),
    }
}

fn answered(field: &Field, value: u8, answer: Answer, allowed: Allowed) -> Option<(String, String)> {
    if allowed.allows(answer) {
        return None;
    }
    let short = format!("{} {}", named(field, value), describe(answer));
    let full = format!("{short}, allowed: {allowed}");
    Some((short, full))
}

fn accepted(
    field: &Field,
    value: u8,
    observed: Observed,
    allowed: Allowed,
    _: u64,
) -> Option<(String, String)> {
    if allowed.accepted { answered(field, value, observed.answer, allowed) } else { None }
}

fn refused(
    field: &Field,
    value: u8,
    observed: Observed,
    allowed: Allowed,
    _: u64,
) -> Option<(String, String)> {
    if allowed.accepted { None } else { answered(field, value, observed.answer, allowed) }
}

fn reads_back(
    field: &Field,
    value: u8,
    observed: Observed,
    allowed: Allowed,
    default: u64,
) -> Option<(String, String)> {
    let expected = match observed.answer {
        Answer::Accepted => field.with(default, allowed.reads_back),
        Answer::Refused(_) => default,
    };
    let answer = describe(observed.answer);
    (observed.userspace != expected).then(|| {
        let short = format!("{} {answer}, then the register reads otherwise", named(field, value));
        let full = format!("{short}: {:#x}, allowed: {expected:#x}", observed.userspace);
        (short, full)
    })
}

fn guest_reads(field: &Field, value: u8, observed: Observed, _: Allowed, _: u64) -> Option<(String, String)> {
    let differs = observed.answer == Answer::Accepted && observed.guest != Some(observed.userspace);
    differs.then(|| {
        let short = format!("{} accepted, then the guest reads otherwise", named(field, value));
        let guest = observed.guest.map_or("an exception".into(), |value| format!("{value:#x}"));
        let full = format!("{short}: {guest}, userspace reads {:#x}", observed.userspace);
        (short, full)
    })
}

/// A field in the mask accepts another value if one is legal. A field that is not in the mask accepts none.
fn mask_agrees(cx: &mut Context<'_>, field: &Field, values: &Values) -> Result<(), Stop> {
    let (default, Writable::Mask(mask)) = (cx.host().id_aa64dfr0, cx.host().writable) else {
        return Stop::skip("this kernel has no KVM_ARM_GET_REG_WRITABLE_MASKS");
    };
    cx.count();
    let in_mask = mask & field.mask();
    if in_mask != 0 && in_mask != field.mask() {
        cx.find(format!("{} is in the mask in part", field.name), format!("mask {mask:#x}"));
    }
    let (mut any_legal, mut any_accepted) = (false, false);
    for (value, observed) in (0..).zip(observe(cx, field, values)?) {
        any_legal |= is_legal(field, value, default);
        any_accepted |= is_legal(field, value, default) && observed.answer == Answer::Accepted;
    }
    if in_mask == 0 && any_accepted {
        cx.find(format!("{} is not in the mask and is writable", field.name), format!("mask {mask:#x}"));
    }
    if in_mask != 0 && any_legal && !any_accepted {
        cx.find(format!("{} is in the mask and not writable", field.name), format!("mask {mask:#x}"));
    }
    Ok(())
}

fn same_value_accepted(cx: &mut Context<'_>) -> Result<(), Stop> {
    let default = cx.host().id_aa64dfr0;
    let guest = cx.new_guest()?;
    cx.count();
    let answer = guest.set(ID_AA64DFR0_EL1, default)?;
    if answer != Answer::Accepted {
        cx.find(format!("the default {}", describe(answer)), format!("KVM_SET_ONE_REG {default:#x}"));
    }
    Ok(())
}

fn default_guest_reads(cx: &mut Context<'_>) -> Result<(), Stop> {
    let mut guest = cx.new_guest()?;
    let default = guest.get(ID_AA64DFR0_EL1)?;
    cx.count();
    let read = guest_mrs(&mut guest)?;
    if read != Some(default) {
        cx.find("the guest reads otherwise".into(), format!("{read:#x?}, userspace reads {default:#x}"));
    }
    Ok(())
}

/// A register that was lowered may be raised to KVM's default again, as long as nothing has run.
fn raised_again(cx: &mut Context<'_>) -> Result<(), Stop> {
    let default = cx.host().id_aa64dfr0;
    for lowered in legal_others(cx) {
        let guest = cx.new_guest()?;
        if guest.set(ID_AA64DFR0_EL1, lowered)? != Answer::Accepted {
            continue;
        }
        cx.count();
        let answer = guest.set(ID_AA64DFR0_EL1, default)?;
        let read = guest.get(ID_AA64DFR0_EL1)?;
        if answer != Answer::Accepted || read != default {
            let short = format!("the default after another value {}", describe(answer));
            cx.find(short, format!("{lowered:#x}, then {default:#x}; the register reads {read:#x}"));
        }
    }
    Ok(())
}

/// After a run the register keeps the value that it was given before, and userspace and the guest read it.
fn frozen_by_run(cx: &mut Context<'_>) -> Result<(), Stop> {
    let (default, writable) = (cx.host().id_aa64dfr0, cx.host().writable);
    let others = legal_others(cx);
    cx.each([default].into_iter().chain(others.iter().copied()), |cx, given| {
        let mut guest = cx.new_guest()?;
        if guest.set(ID_AA64DFR0_EL1, given)? != Answer::Accepted {
            return Ok(());
        }
        guest_mrs(&mut guest)?;
        for value in others.iter().copied().chain([given]) {
            cx.count();
            let answer = guest.set(ID_AA64DFR0_EL1, value)?;
            let (userspace, read) = (guest.get(ID_AA64DFR0_EL1)?, guest_mrs(&mut guest)?);
            let kept = userspace == given && read == Some(given);
            if !kept || !allowed_after_run(value, given, writable).contains(&answer) {
                let which = if value == given { "the same value" } else { "another value" };
                let short = format!("after a run {which} {}", describe(answer));
                let full =
                    format!("given {given:#x}, then {value:#x}: reads {userspace:#x}, the guest {read:#x?}");
                cx.find(short, full);
            }
        }
        Ok(())
    })
}

/// The register with one field at another value that the architecture allows, for each such value.
fn legal_others(cx: &Context<'_>) -> Vec<u64> {
    let default = cx.host().id_aa64dfr0;
    FIELDS
        .into_iter()
        .flat_map(|field| {
            let legal = (0..16).filter(move |value| is_legal(field, *value, default));
            legal.map(|value| field.with(default, value))
        })
        .collect()
}
