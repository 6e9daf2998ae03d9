// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The differences between two snapshots.

use super::{
    Register, Snapshot,
    show::{facts, in_words},
};
use crate::register_id::RegisterId;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Two snapshots, printed as their differences.
#[derive(Clone, Copy, Debug)]
pub struct Difference<'a>(pub &'a Snapshot, pub &'a Snapshot);

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(a, b) = self;
        for ((name, of_a), (_, of_b)) in facts(a).into_iter().zip(facts(b)).filter(|(a, b)| a != b) {
            writeln!(f, "{name}:\n  A: {of_a}\n  B: {of_b}")?;
        }
        let none: &[Register] = &[];
        for number in 0..a.vcpus().count().max(b.vcpus().count()) {
            let of = |snapshot: &'_ Snapshot| -> BTreeMap<RegisterId, Register> {
                let registers = snapshot.vcpus().nth(number).unwrap_or(none);
                registers.iter().map(|register| (register.id, register.clone())).collect()
            };
            registers(f, number, &of(a), &of(b))?;
        }
        let (of_a, of_b) = (&a.state.memory.0, &b.state.memory.0);
        let pages: BTreeSet<&u64> = of_a.keys().chain(of_b.keys()).collect();
        for page in pages.into_iter().filter(|page| of_a.get(page) != of_b.get(page)) {
            writeln!(f, "memory: the page at {page:#x} differs")?;
        }
        if a.scenario != b.scenario {
            writeln!(f, "scenario:\n  A:\n{}  B:\n{}", a.scenario, b.scenario)?;
        }
        if a.seen != b.seen {
            writeln!(f, "the events that were seen differ")?;
        }
        Ok(())
    }
}

fn registers(
    f: &mut fmt::Formatter<'_>,
    vcpu: usize,
    a: &BTreeMap<RegisterId, Register>,
    b: &BTreeMap<RegisterId, Register>,
) -> fmt::Result {
    let ids: BTreeSet<&RegisterId> = a.keys().chain(b.keys()).collect();
    for id in ids {
        match (a.get(id), b.get(id)) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => writeln!(f, "vCPU {vcpu}:\n  A: {}\n  B: {}", in_words(a), in_words(b))?,
            (Some(a), None) => writeln!(f, "vCPU {vcpu}, only in A: {}", in_words(a))?,
            (None, Some(b)) => writeln!(f, "vCPU {vcpu}, only in B: {}", in_words(b))?,
            (None, None) => {}
        }
    }
    Ok(())
}
