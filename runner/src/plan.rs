// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Whether a guest may move from one host to another, from their fingerprints alone.
//!
//! A guest can move when the target accepts every register of the source's VM, written with KVM_SET_ONE_REG.
//! What KVM may answer follows from the registers of a new VM on the target and from the target's writable
//! masks ([`dfr0_model::id_write`]), so a plan needs no VM. It is a prediction, and it says what it does not
//! know.

mod common;
mod compare;
mod debug_fields;
mod firecracker;
mod least;
mod other_registers;
mod text;

pub use common::{Common, common};
pub use compare::compare;
pub(crate) use debug_fields::{in_order, value};
pub use firecracker::Template;
pub use least::{OfHost, Register};
pub(crate) use other_registers::fields as field_names;

use crate::{
    fingerprint::{Fingerprint, Source},
    register_id::RegisterId,
};
use dfr0_model::{
    rule::Rule,
    shape::Shape,
    sysreg::{ID_AA64DFR1_EL1, ID_AA64DFR2_EL1},
};
use serde::{Serialize, Serializer};

/// The source of a move, or its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Side {
    /// The source.
    A,
    /// The target.
    B,
}

/// The verdict on a part of a move, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The target accepts the values of the source's VM.
    AsIs,
    /// The target accepts the VM if it was created with other values, which the source accepts.
    WithShape,
    /// The target may accept it: the fingerprints or the rules do not say.
    NotKnown,
    /// The target refuses it.
    Cannot,
}

/// Why a register or a field does not simply move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The verdict on this register or field.
    pub verdict: Verdict,
    /// The register, by name.
    pub register: String,
    /// The fields, if the reason is about fields.
    pub field: Option<String>,
    /// The value in A's VM, and the value in a new VM on B.
    pub values: Option<[String; 2]>,
    /// The explanation, in sentences.
    pub why: Vec<String>,
    /// The rules that it follows from.
    #[serde(serialize_with = "rules")]
    pub rules: Vec<&'static Rule>,
}

fn rules<S: Serializer>(rules: &[&'static Rule], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(rules.iter().map(ToString::to_string))
}

/// A call of KVM_SET_ONE_REG.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Write {
    /// The host on which it is made.
    pub on: Side,
    /// The register's name.
    pub register: String,
    /// The register's id.
    pub id: String,
    /// The value.
    pub value: String,
    /// When it is made.
    pub when: &'static str,
}

/// One part of a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The worst of its reasons.
    pub verdict: Verdict,
    /// Why the part cannot move as is, or may not.
    pub reasons: Vec<Reason>,
    /// The differences that do not matter.
    pub fine: Vec<Reason>,
}

impl Part {
    fn of(all: Vec<Reason>) -> Self {
        let (fine, reasons): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|reason| reason.verdict == Verdict::AsIs);
        let verdict = reasons.iter().map(|reason| reason.verdict).max().unwrap_or(Verdict::AsIs);
        Self { verdict, reasons, fine }
    }
}

/// One of the two hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct End {
    /// Its fingerprint's file.
    pub file: String,
    /// Its kernel's release.
    pub kernel: String,
    /// Its CPU.
    pub cpu: String,
    /// The shape that its KVM gives to a new VM.
    pub shape: String,
    /// What is assumed about it.
    pub assumed: Vec<String>,
}

/// What the guest has on both hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guest {
    /// Its ID_AA64DFR0_EL1.
    pub id_aa64dfr0: String,
    /// The shape that this value advertises.
    pub shape: String,
}

/// Whether a guest may move from A to B.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The worse of the two parts' verdicts.
    pub verdict: Verdict,
    /// The source.
    pub a: End,
    /// The target.
    pub b: End,
    /// ID_AA64DFR0_EL1, and the debug registers.
    pub debug: Part,
    /// What the guest has on both, if the debug hardware does not stop the move.
    pub guest: Option<Guest>,
    /// The writes that give the guest these values, in order.
    pub writes: Vec<Write>,
    /// What the guest loses compared to a new VM on A.
    pub losses: Vec<String>,
    /// Every other register.
    pub others: Part,
}

/// A host and the name of its fingerprint's file.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The file's name.
    pub name: &'a str,
    /// The fingerprint in the file.
    pub fingerprint: &'a Fingerprint,
}

impl Named<'_> {
    fn end(&self) -> End {
        let fingerprint = self.fingerprint;
        End {
            file: self.name.to_owned(),
            kernel: fingerprint.kernel.clone(),
            cpu: fingerprint.cpu(),
            shape: fingerprint.shape().to_string(),
            assumed: fingerprint.assumed(),
        }
    }
}

/// Whether a guest may move from `a` to `b`.
pub fn plan(a: Named<'_>, b: Named<'_>) -> Plan {
    let (from, to) = (a.fingerprint, b.fingerprint);
    let fields = debug_fields::fields(from, to);
    let (missing_debug, missing): (Vec<_>, Vec<_>) =
        missing(from, to).into_iter().partition(|(id, _)| is_debug(*id));
    let (mut debug_registers, other_registers): (Vec<_>, Vec<_>) =
        other_registers::judge(from, to).into_iter().partition(|(id, _)| is_debug(*id));
    debug_registers.extend(missing_debug);

    let mut reasons = fields.reasons;
    reasons.extend(debug_registers.into_iter().map(|(_, reason)| reason));
    let debug = Part::of(reasons);
    let mut others: Vec<Reason> = other_registers.into_iter().map(|(_, reason)| reason).collect();
    others.extend(missing.into_iter().map(|(_, reason)| reason));

    let others = Part::of(others);
    let movable = debug.verdict != Verdict::Cannot;
    Plan {
        verdict: debug.verdict.max(others.verdict),
        a: a.end(),
        b: b.end(),
        guest: movable.then(|| Guest {
            id_aa64dfr0: format!("{:#x}", fields.guest),
            shape: Shape::from_id_aa64dfr0(fields.guest).to_string(),
        }),
        writes: if movable { debug_fields::writes(fields.guest, from) } else { Vec::new() },
        losses: if movable { fields.losses } else { Vec::new() },
        debug,
        others,
    }
}

fn is_debug(id: RegisterId) -> bool {
    id.system_register()
        .is_some_and(|reg| reg.op0() == 2 || [ID_AA64DFR1_EL1, ID_AA64DFR2_EL1].contains(&reg))
}

/// The registers that A's VM has and B's VM does not have.
fn missing(a: &Fingerprint, b: &Fingerprint) -> Vec<(RegisterId, Reason)> {
    let same_tool = matches!((&a.source, &b.source), (Source::Firecracker(_), Source::Firecracker(_)));
    let (verdict, why) = if b.lists_all() || same_tool {
        (Verdict::Cannot, "A lists it and B does not: on B, KVM_SET_ONE_REG fails with ENOENT")
    } else {
        (
            Verdict::NotKnown,
            "B's file does not have it, but the file does not have every register that B's KVM lists",
        )
    };
    let reason = |id: &RegisterId| Reason {
        verdict,
        register: id.name(),
        field: None,
        values: None,
        why: vec![why.into()],
        rules: Vec::new(),
    };
    a.registers.difference(&b.registers).map(|id| (*id, reason(id))).collect()
}

#[cfg(test)]
mod tests;
