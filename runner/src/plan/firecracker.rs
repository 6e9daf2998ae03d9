// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What hosts share as a CPU template of Firecracker: each register that a host must change, and for each of its bits the
//! value that a VM gets, or `x` if KVM's own value stays.

use super::{Common, Verdict, least::Bits};
use crate::register_id::RegisterId;
use dfr0_model::sysreg::ID_AA64DFR0_EL1;
use serde::Serialize;

/// A CPU template, which Firecracker reads (`PUT /cpu-config`), as does its `cpu-template-helper`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Template {
    reg_modifiers: Vec<Modifier>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Modifier {
    addr: String,
    bitmap: String,
}

impl Template {
    /// The template of what these hosts share; the hosts that prevent it, if some do.
    pub fn of(common: &Common) -> Result<Self, String> {
        if common.debug == Verdict::Cannot {
            return Err("the hosts share no shape of debug hardware; without --format it is said why".into());
        }
        let dfr0 = Bits { id: RegisterId::system(ID_AA64DFR0_EL1).bits(), ..common.bits };
        let all = std::iter::once(dfr0).chain(common.registers.iter().map(|register| register.bits));
        let reg_modifiers = all.filter_map(|Bits { id, value, changed }| {
            let value = value.filter(|_| changed != 0)?;
            let bit = |bit: u32| match (changed >> bit & 1, value >> bit & 1) {
                (0, _) => 'x',
                (_, 0) => '0',
                _ => '1',
            };
            let bitmap = (0..64).rev().map(bit).collect::<String>();
            Some(Modifier { addr: format!("{id:#x}"), bitmap: format!("0b{bitmap}") })
        });
        Ok(Self { reg_modifiers: reg_modifiers.collect() })
    }
}
