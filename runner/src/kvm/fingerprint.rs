// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! This host's fingerprint, from a VM that never runs.

use super::{device::Kvm, vm::Vcpu, writable_masks};
use crate::{
    fingerprint::{Fingerprint, Masks, Source},
    guest::{Config, Cpu, Error},
    register_id::RegisterId,
};
use dfr0_model::sysreg::SysReg;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

impl Kvm {
    /// The host's fingerprint.
    pub fn fingerprint(&self) -> Result<Fingerprint, Error> {
        let host = self.host()?;
        let vcpu = Vcpu::new(self, Config::default(), Duration::ZERO)?;
        let registers = vcpu
            .register_ids()?
            .into_iter()
            .map(|id| {
                RegisterId::new(id).ok_or_else(|| {
                    Error::Unfit(format!("KVM_GET_REG_LIST lists {id:#x}, which is not a register"))
                })
            })
            .collect::<Result<BTreeSet<_>, _>>()?;
        let id_registers: BTreeMap<SysReg, u64> = registers
            .iter()
            .filter_map(|id| id.system_register())
            .filter(|reg| reg.is_id())
            .map(|reg| Ok((reg, vcpu.get(reg)?)))
            .collect::<Result<_, Error>>()?;
        Ok(Fingerprint {
            source: Source::Dfr0(env!("CARGO_PKG_VERSION").into()),
            kernel: host.kernel.unwrap_or_default(),
            platform: Some(host.platform),
            mode: host.mode,
            capabilities: Some(host.capabilities),
            id_registers,
            masks: writable_masks::of_all(vcpu.vm()).map_or(Masks::Absent, Masks::Known),
            registers,
        })
    }
}
