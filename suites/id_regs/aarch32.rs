// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! DBGDIDR, which tells a guest in AArch32 about the VM's debug registers.

use super::{DFR0, values::surely, whole};
use crate::aarch32::{check, check_with};
use dfr0_model::{
    aarch32::{DBGDIDR, Op},
    dfr0::{BRPS, CTX_CMPS, DEBUGVER, WRPS},
    rule,
    vmm::Features::AArch32,
};
use dfr0_runner::case::{Case, Context, Stop};

pub fn cases() -> Vec<Case> {
    vec![
        whole("aarch32.dbgdidr", &rule::DBGDIDR_IS_DFR0, |cx| check(cx, &[Op::Read(DBGDIDR)])),
        whole("aarch32.dbgdidr_rewritten", &rule::DBGDIDR_IS_DFR0, rewritten),
    ]
}

/// Each value that KVM must accept of each field that DBGDIDR shows, and all fields at their least values.
fn rewritten(cx: &mut Context<'_>) -> Result<(), Stop> {
    let facts = cx.facts(AArch32)?;
    let default = facts.default(DFR0);
    let values = [&WRPS, &DEBUGVER, &BRPS, &CTX_CMPS]
        .into_iter()
        .flat_map(|field| (0..16).map(|value| field.with(default, value)));
    let values: Vec<u64> = values.filter(|value| *value != default && surely(&facts, *value)).collect();
    if values.is_empty() {
        return Stop::skip("this kernel does not let userspace change a field that DBGDIDR shows");
    }
    values
        .into_iter()
        .chain([facts.least()])
        .try_for_each(|value| check_with(cx, &[(DFR0, value)], &[Op::Read(DBGDIDR)]))
}
