// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The fields of ID_AA64DFR0_EL1: which value of each a guest can have on both hosts.

use super::{Reason, Side, Verdict, Write};
use crate::{
    fingerprint::{Accepts, Fingerprint},
    register_id::RegisterId,
};
use dfr0_model::{
    dfr0::{self, Field},
    id_write,
    rule::{self, Rule},
    shape::Shape,
    sysreg::ID_AA64DFR0_EL1,
};

/// The fields that userspace may write on Linux 6.12, 7.2 and 7.3, as KVM of each reports them.
const WRITABLE_SINCE_6_12: u64 =
    dfr0::DOUBLELOCK.mask() | dfr0::WRPS.mask() | dfr0::PMUVER.mask() | dfr0::DEBUGVER.mask();

/// The fields in the order in which they are printed: those of the shape first.
pub fn in_order() -> impl Iterator<Item = &'static Field> {
    let first = [&dfr0::BRPS, &dfr0::CTX_CMPS, &dfr0::WRPS, &dfr0::DEBUGVER, &dfr0::DOUBLELOCK];
    let rest = dfr0::FIELDS.into_iter().filter(move |field| first.iter().all(|other| other.lsb != field.lsb));
    first.into_iter().chain(rest)
}

/// How the fields move.
pub struct Fields {
    /// The guest's ID_AA64DFR0_EL1; meaningless if a field stops the move.
    pub guest: u64,
    /// A reason for each field that differs, and for each host whose breakpoints have other numbers.
    pub reasons: Vec<Reason>,
    /// What the guest loses.
    pub losses: Vec<String>,
}

/// Whether KVM accepts a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Yes,
    /// It depends on a mask that is not known, or the rules leave it open.
    Perhaps(&'static Rule),
    No(&'static Rule),
}

/// Whether `host` accepts `value` in a VM whose other fields have KVM's own values.
pub fn taken(field: &Field, value: u8, host: &Fingerprint) -> Taken {
    let default = host.id_aa64dfr0();
    let writable = match host.accepts(ID_AA64DFR0_EL1) {
        Accepts::Mask(mask) => id_write::Writable::Mask(mask),
        Accepts::Own => id_write::Writable::Mask(0),
        Accepts::Unsaid => id_write::Writable::Unknown,
    };
    let allowed = id_write::allowed(field, value, default, writable);
    match (allowed.accepted, allowed.refused) {
        (true, false) => Taken::Yes,
        (true, true) => Taken::Perhaps(allowed.rule),
        (false, _) => Taken::No(allowed.rule),
    }
}

/// How the fields of A's VM move to B.
pub fn fields(a: &Fingerprint, b: &Fingerprint) -> Fields {
    let mut guest = a.id_aa64dfr0();
    let (mut reasons, mut losses) = (Vec::new(), Vec::new());
    for field in in_order() {
        let (has, gives) = (field.get(a.id_aa64dfr0()), field.get(b.id_aa64dfr0()));
        if has == gives {
            continue;
        }
        let (lowered, verdict, mut why, mut rules) = move_field(field, has, gives, a, b);
        if let Some(lowered) = lowered {
            guest = field.with(guest, lowered);
            losses.push(loss(field, has, lowered));
        }
        if is_numbering(field) {
            let said = reasons.iter().any(|reason: &Reason| reason.field.as_deref() == Some(dfr0::BRPS.name));
            why.extend(if verdict == Verdict::Cannot && !said { why_fixed(field, a, b) } else { None });
            rules.push(&rule::CONTEXT_AWARE_HIGHEST);
        }
        reasons.push(Reason {
            verdict,
            register: "ID_AA64DFR0_EL1".into(),
            field: Some(field.name.into()),
            values: Some([value(field, has), value(field, gives)]),
            why,
            rules,
        });
    }
    if reasons.iter().all(|reason| reason.verdict != Verdict::Cannot) {
        reasons.extend(renumbered(guest, a, b));
        losses.extend(renumbering_loss(guest, a));
    }
    Fields { guest, reasons, losses }
}

type Way = (Option<u8>, Verdict, Vec<String>, Vec<&'static Rule>);

/// How a field moves to B: first the value with which A's VM must be created, if that is not A's own.
fn move_field(field: &'static Field, has: u8, gives: u8, a: &Fingerprint, b: &Fingerprint) -> Way {
    let refused = match taken(field, has, b) {
        Taken::Yes => {
            let why = format!("B takes {}: {} is in its writable mask", words(field, has), field.name);
            return (None, Verdict::AsIs, vec![why], vec![&rule::ID_SAFE_ACCEPTED]);
        }
        Taken::Perhaps(rule) => {
            return (None, Verdict::NotKnown, vec![perhaps(field, has, "B", b, rule)], vec![rule]);
        }
        Taken::No(refused) => refused,
    };
    let refuses = refusal(field, has, "B", b, refused);
    if !field.promises_no_more(gives, has) {
        return (None, Verdict::Cannot, vec![refuses], vec![refused]);
    }
    match taken(field, gives, a) {
        Taken::Yes => {
            let why = format!(
                "A can create the VM with {}: {} is in its writable mask",
                words(field, gives),
                field.name
            );
            (Some(gives), Verdict::WithShape, vec![refuses, why], vec![refused, &rule::ID_SAFE_ACCEPTED])
        }
        Taken::Perhaps(rule) => {
            let why = vec![refuses, perhaps(field, gives, "A", a, rule)];
            (Some(gives), Verdict::NotKnown, why, vec![refused, rule])
        }
        Taken::No(fixed) => {
            let why = format!("the VM cannot be created with less: {}", refusal(field, gives, "A", a, fixed));
            (None, Verdict::Cannot, vec![refuses, why], vec![refused, fixed])
        }
    }
}

pub fn refusal(field: &Field, value: u8, who: &str, host: &Fingerprint, rule: &'static Rule) -> String {
    let why = if *rule == rule::ID_UNSAFE_REFUSED {
        "more than it has".to_owned()
    } else if *rule == rule::ID_READ_ONLY_REFUSED {
        match host.accepts(ID_AA64DFR0_EL1) {
            Accepts::Own => "its KVM takes only the value that it gave".into(),
            _ => format!("{} is not in its writable mask", field.name),
        }
    } else {
        format!("{:#x} is a reserved encoding", value)
    };
    format!("{who} refuses {}: {why}", words(field, value))
}

pub fn perhaps(field: &Field, value: u8, who: &str, host: &Fingerprint, rule: &'static Rule) -> String {
    if host.accepts(ID_AA64DFR0_EL1) != Accepts::Unsaid {
        return format!("{who} may take {} or refuse it: {}", words(field, value), rule.says);
    }
    let known = if field.mask() & WRITABLE_SINCE_6_12 != 0 {
        "Linux 6.12 to 7.3 does"
    } else {
        "no Linux up to 7.3 does"
    };
    format!(
        "{who} takes {} only if its KVM lets userspace write {} ({known})",
        words(field, value),
        field.name
    )
}

/// The field decides which numbers the context-aware breakpoints have.
fn is_numbering(field: &Field) -> bool {
    [dfr0::BRPS.lsb, dfr0::CTX_CMPS.lsb].contains(&field.lsb)
}

/// What would happen if the kernel let the field be lowered.
fn why_fixed(field: &Field, a: &Fingerprint, b: &Fingerprint) -> Option<String> {
    let least = |register, field: &Field| {
        let least = field.get(a.id_aa64dfr0()).min(field.get(b.id_aa64dfr0()));
        field.with(register, least)
    };
    let guest = [&dfr0::BRPS, &dfr0::CTX_CMPS, &dfr0::WRPS].into_iter().fold(a.id_aa64dfr0(), least);
    let side =
        if field.get(a.id_aa64dfr0()) > field.get(b.id_aa64dfr0()) { (Side::A, a) } else { (Side::B, b) };
    let differs = numbering(&Shape::from_id_aa64dfr0(guest), &side.1.shape())?;
    Some(format!("{} cannot simply be lowered: {differs} on {:?}", field.name, side.0))
}

/// The hosts whose breakpoints do not have the guest's numbers.
fn renumbered(guest: u64, a: &Fingerprint, b: &Fingerprint) -> Vec<Reason> {
    let guest = Shape::from_id_aa64dfr0(guest);
    let on = |(side, host): (Side, &Fingerprint)| {
        numbering(&guest, &host.shape()).map(|differs| Reason {
            verdict: Verdict::NotKnown,
            register: "the numbering of the context-aware breakpoints".into(),
            field: None,
            values: None,
            why: vec![format!(
                "{differs} on {side:?}, whose KVM must then trap these registers and renumber them; `dfr0 run shapes` there tells whether it does"
            )],
            rules: vec![&rule::CONTEXT_AWARE_HIGHEST],
        })
    };
    [(Side::A, a), (Side::B, b)].into_iter().filter_map(on).collect()
}

/// How a guest's numbers differ from those of the hardware, if they do.
pub fn numbering(guest: &Shape, hardware: &Shape) -> Option<String> {
    if guest.keeps_numbers_on(hardware) {
        return None;
    }
    Some(format!(
        "the guest's context-aware breakpoints would be {} of {}, but are {} of {}",
        numbers(guest),
        guest.breakpoints,
        numbers(hardware),
        hardware.breakpoints
    ))
}

fn numbers(shape: &Shape) -> String {
    let numbers = shape.context_aware_numbers();
    match numbers.len() {
        0 | 1 => format!("number {}", numbers.start),
        _ => format!("numbers {} to {}", numbers.start, numbers.end - 1),
    }
}

/// What the guest loses by another numbering, compared to a new VM on A.
fn renumbering_loss(guest: u64, a: &Fingerprint) -> Option<String> {
    let (guest, given) = (Shape::from_id_aa64dfr0(guest), a.shape());
    (guest.context_aware_numbers() != given.context_aware_numbers()).then(|| {
        format!(
            "its context-aware breakpoints, which links name by LBN, are {} instead of {}",
            numbers(&guest),
            numbers(&given)
        )
    })
}

/// The writes that a move needs: one in A's VM, if the guest does not have KVM's own value there, and one in
/// B's VM.
pub fn writes(guest: u64, a: &Fingerprint) -> Vec<Write> {
    let write = |on, when| Write {
        on,
        register: "ID_AA64DFR0_EL1".into(),
        id: RegisterId::system(ID_AA64DFR0_EL1).to_string(),
        value: format!("{guest:#x}"),
        when,
    };
    let created = (guest != a.id_aa64dfr0()).then(|| write(Side::A, "before its first KVM_RUN"));
    created.into_iter().chain([write(Side::B, "before the other registers")]).collect()
}

/// A value of a field, as it is printed after the field's name.
pub fn value(field: &Field, value: u8) -> String {
    match field.lsb {
        lsb if is_count(lsb) => format!("{}", value + 1),
        lsb if lsb == dfr0::DEBUGVER.lsb => match debug_architecture(value) {
            Some(name) => format!("{value:#x} ({name})"),
            None => format!("{value:#x}"),
        },
        lsb if lsb == dfr0::DOUBLELOCK.lsb && value == dfr0::DOUBLELOCK_IMP => "implemented".into(),
        lsb if lsb == dfr0::DOUBLELOCK.lsb && value == dfr0::DOUBLELOCK_NI => "not implemented".into(),
        _ => format!("{value:#x}"),
    }
}

/// A field and its value, in words.
pub fn words(field: &Field, of: u8) -> String {
    let registers = match field.lsb {
        lsb if lsb == dfr0::BRPS.lsb => "breakpoint",
        lsb if lsb == dfr0::WRPS.lsb => "watchpoint",
        lsb if lsb == dfr0::CTX_CMPS.lsb => "context-aware breakpoint",
        _ => return format!("{} {}", field.name, value(field, of)),
    };
    format!("{} {registers}{}", of + 1, if of == 0 { "" } else { "s" })
}

fn is_count(lsb: u8) -> bool {
    [dfr0::BRPS.lsb, dfr0::WRPS.lsb, dfr0::CTX_CMPS.lsb].contains(&lsb)
}

/// The debug architecture of a value of DebugVer (DDI 0487, ID_AA64DFR0_EL1.DebugVer).
fn debug_architecture(value: u8) -> Option<&'static str> {
    Some(match value {
        6 => "Armv8",
        7 => "Armv8 with VHE",
        8 => "Armv8.2",
        9 => "Armv8.4",
        10 => "Armv8.8",
        11 => "Armv8.9",
        _ => return None,
    })
}

fn loss(field: &Field, from: u8, to: u8) -> String {
    let instead = format!("{} instead of {}", words(field, to), value(field, from));
    match field.lsb {
        lsb if [dfr0::BRPS.lsb, dfr0::WRPS.lsb].contains(&lsb) => {
            format!("{instead}: {} no longer available", beyond(to, from))
        }
        lsb if lsb == dfr0::DOUBLELOCK.lsb => "no OS Double Lock: OSDLR_EL1 is RAZ/WI".into(),
        _ => instead,
    }
}

/// The registers beyond a count, with their verb; both are values of fields, and `from` is the greater one.
fn beyond(to: u8, from: u8) -> String {
    if to + 1 == from { format!("register {from} is") } else { format!("registers {} to {from} are", to + 1) }
}
