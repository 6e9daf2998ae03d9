// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What hosts share: a VM that is created with the same ID registers on one of them can move to all others.

use super::{
    Named, Verdict,
    debug_fields::{Taken, in_order, numbering, perhaps, refusal, taken, value, words},
    least::{self, Bits, Register},
    rules,
};
use dfr0_model::{
    dfr0::Field,
    rule::{self, Rule},
    shape::Shape,
};
use serde::Serialize;

/// Whether and how one host gives the shared shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its fingerprint's file.
    pub file: String,
    /// The shape that its KVM gives to a new VM.
    pub shape: String,
    /// Whether a VM on this host can have the shared shape.
    pub verdict: Verdict,
    /// The fields that must be lowered, in words; empty if KVM gives the shape to a new VM.
    pub lowers: Vec<String>,
    /// What prevents the shape, or is not known.
    pub obstacles: Vec<Obstacle>,
    /// What is assumed about the host.
    pub assumed: Vec<String>,
}

/// Why a host cannot give the shape, or may not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// The field.
    pub field: String,
    /// The explanation, in a sentence.
    pub why: String,
    /// The rule that it follows from.
    #[serde(serialize_with = "rules")]
    pub rules: Vec<&'static Rule>,
}

/// What hosts share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Common {
    /// The worse of the two verdicts.
    pub verdict: Verdict,
    /// The worst of the hosts' verdicts on the debug hardware.
    pub debug: Verdict,
    /// The worst of the hosts' verdicts on the other ID registers.
    pub others: Verdict,
    /// ID_AA64DFR0_EL1 with the least that any of them promises, field by field.
    pub id_aa64dfr0: String,
    /// The shape, in words.
    pub shape: String,
    /// The hosts, as given.
    pub hosts: Vec<Member>,
    /// The other ID registers that are not the same on all hosts.
    pub registers: Vec<Register>,
    #[serde(skip)]
    pub(super) bits: Bits,
}

/// The largest shape that `hosts` share, and what each must do for it.
pub fn common(hosts: &[Named<'_>]) -> Common {
    let values: Vec<u64> = hosts.iter().map(|host| host.fingerprint.id_aa64dfr0()).collect();
    let shared = in_order().fold(values.first().copied().unwrap_or_default(), |shared, field| {
        let least = values
            .iter()
            .map(|value| field.get(*value))
            .reduce(|least, value| if field.promises_no_more(value, least) { value } else { least });
        field.with(shared, least.unwrap_or_default())
    });
    let registers = least::registers(hosts);
    let hosts: Vec<Member> = hosts.iter().map(|host| member(*host, shared)).collect();
    let debug = hosts.iter().map(|host| host.verdict).max().unwrap_or(Verdict::AsIs);
    let of_hosts = registers.iter().flat_map(|register| &register.hosts);
    let others = of_hosts.map(|host| host.verdict).max().unwrap_or(Verdict::AsIs);
    let changed = values.iter().fold(0, |changed, value| changed | (value ^ shared));
    Common {
        verdict: debug.max(others),
        debug,
        others,
        bits: Bits { id: 0, value: Some(shared), changed },
        id_aa64dfr0: format!("{shared:#x}"),
        shape: Shape::from_id_aa64dfr0(shared).to_string(),
        hosts,
        registers,
    }
}

fn member(host: Named<'_>, shared: u64) -> Member {
    let fingerprint = host.fingerprint;
    let mut verdict = Verdict::AsIs;
    let (mut lowers, mut obstacles) = (Vec::new(), Vec::new());
    for field in in_order().filter(|field| field.get(shared) != field.get(fingerprint.id_aa64dfr0())) {
        let to = field.get(shared);
        let (comes_to, obstacle) = lower(field, to, host);
        verdict = verdict.max(comes_to);
        match obstacle {
            Some((why, rule)) => {
                obstacles.push(Obstacle { field: field.name.into(), why, rules: vec![rule] })
            }
            None => lowers.push(format!(
                "{} instead of {}",
                words(field, to),
                value(field, field.get(fingerprint.id_aa64dfr0()))
            )),
        }
    }
    let numbers = numbering(&Shape::from_id_aa64dfr0(shared), &fingerprint.shape());
    if let Some(differs) = numbers.filter(|_| verdict != Verdict::Cannot) {
        verdict = verdict.max(Verdict::NotKnown);
        obstacles.push(Obstacle {
            field: "BRPs".into(),
            why: format!("{differs} on this host: KVM must trap these registers and renumber them; `dfr0 run shapes` on this host tells whether it does"),
            rules: vec![&rule::CONTEXT_AWARE_HIGHEST],
        });
    }
    Member {
        file: host.name.to_owned(),
        shape: fingerprint.shape().to_string(),
        verdict,
        lowers,
        obstacles,
        assumed: fingerprint.assumed(),
    }
}

fn lower(field: &'static Field, to: u8, host: Named<'_>) -> (Verdict, Option<(String, &'static Rule)>) {
    match taken(field, to, host.fingerprint) {
        Taken::Yes => (Verdict::WithShape, None),
        Taken::Perhaps(rule) => {
            (Verdict::NotKnown, Some((perhaps(field, to, "it", host.fingerprint, rule), rule)))
        }
        Taken::No(rule) => (Verdict::Cannot, Some((refusal(field, to, "it", host.fingerprint, rule), rule))),
    }
}
