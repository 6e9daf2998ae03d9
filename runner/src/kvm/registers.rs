// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! All registers of a vCPU, as a VMM saves them and restores them elsewhere.

use super::one_reg;
use crate::{guest::Error, register_id::RegisterId, snapshot::Register};
use dfr0_model::sysreg::DebugRegister;
use kvm_bindings::RegList;
use kvm_ioctls::VcpuFd;
use std::io;

/// The upper limit of kvm-bindings; a vCPU without SVE has some 300.
const MOST: usize = 500;
/// The longest register, in bytes: KVM_REG_SIZE_U2048.
const LONGEST: usize = 256;

/// In which order registers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As KVM_GET_REG_LIST lists them.
    Listed,
    /// In the reverse of that order.
    Reversed,
}

/// Which registers are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All that are listed.
    Whole,
    /// All but those that cannot differ between vCPUs of one VM, or that nothing here observes: the ID
    /// registers, the SIMD registers, and breakpoints and watchpoints beyond these counts.
    Observed {
        /// The breakpoints.
        breakpoints: u8,
        /// The watchpoints.
        watchpoints: u8,
    },
}

impl Part {
    fn includes(self, id: u64) -> bool {
        let Self::Observed { breakpoints, watchpoints } = self else { return true };
        match one_reg::system_of(id) {
            Some(reg) => match reg.debug_number() {
                Some((DebugRegister::Bvr | DebugRegister::Bcr, n)) => n < breakpoints,
                Some((DebugRegister::Wvr | DebugRegister::Wcr, n)) => n < watchpoints,
                None => !reg.is_id(),
            },
            None => one_reg::len(id) == size_of::<u64>(),
        }
    }
}

/// Ids of registers and their values.
#[derive(Debug, Default)]
pub struct Registers {
    ids: Vec<u64>,
    /// The values, one after the other, each as long as its id says.
    bytes: Vec<u8>,
}

/// The ids that KVM_GET_REG_LIST lists.
pub fn listed(vcpu: &VcpuFd) -> Result<Vec<u64>, Error> {
    let failed =
        |source: io::Error| Error::System { what: format!("KVM_GET_REG_LIST of up to {MOST}"), source };
    let mut list = RegList::new(MOST).map_err(|error| failed(io::Error::other(format!("{error:?}"))))?;
    vcpu.get_reg_list(&mut list).map_err(|error| failed(error.into()))?;
    Ok(list.as_slice().to_vec())
}

impl Registers {
    /// Reads the registers that the vCPU lists.
    pub fn save(vcpu: &VcpuFd, part: Part) -> Result<Self, Error> {
        let ids: Vec<u64> = listed(vcpu)?.into_iter().filter(|id| part.includes(*id)).collect();
        let mut bytes = Vec::with_capacity(ids.len() * size_of::<u128>());
        for id in &ids {
            let mut value = [0; LONGEST];
            let value = &mut value[..one_reg::len(*id).min(LONGEST)];
            vcpu.get_one_reg(*id, value).map_err(|error| Error::System {
                what: format!("KVM_GET_ONE_REG {}", one_reg::name(*id)),
                source: error.into(),
            })?;
            bytes.extend_from_slice(value);
        }
        Ok(Self { ids, bytes })
    }

    /// Writes each register except KVM_REG_ARM64_SVE_VLS, which KVM accepts only before KVM_ARM_VCPU_FINALIZE. The ID
    /// registers are written first, because the values that the others may have depend on them.
    pub fn restore(&self, vcpu: &VcpuFd, order: Order) -> Result<(), Error> {
        let (first, mut others): (Vec<_>, Vec<_>) = self.values().partition(|(id, _)| one_reg::is_id(*id));
        if order == Order::Reversed {
            others.reverse();
        }
        for (id, value) in first.into_iter().chain(others).filter(|(id, _)| *id != one_reg::SVE_VLS) {
            vcpu.set_one_reg(id, value).map_err(|error| {
                let mut low = [0; size_of::<u64>()];
                let len = value.len().min(low.len());
                low[..len].copy_from_slice(&value[..len]);
                let value = u64::from_le_bytes(low);
                Error::Refused { register: one_reg::name(id), value, errno: error.errno() }
            })?;
        }
        Ok(())
    }

    /// Each register with its value.
    pub fn all(&self) -> Result<Vec<Register>, Error> {
        self.values()
            .map(|(id, value)| {
                let id = RegisterId::new(id).ok_or_else(|| {
                    Error::Unfit(format!("KVM_GET_REG_LIST lists {id:#x}, which is not a register"))
                })?;
                Ok(Register { id, value: value.to_vec() })
            })
            .collect()
    }

    fn values(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.ids.iter().scan(self.bytes.as_slice(), |left, id| {
            let (value, after) = left.split_at_checked(one_reg::len(*id).min(LONGEST))?;
            *left = after;
            Some((*id, value))
        })
    }
}
