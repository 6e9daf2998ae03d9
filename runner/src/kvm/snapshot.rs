// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A VM in the state of a snapshot.

use super::{device::Kvm, one_reg, registers, vcpus::Vcpus, vm::Vcpu, writable_masks};
use crate::{
    guest::{Error, Guest},
    image::Words,
    memory::GuestMemory,
    payload::Payload,
    register_id::RegisterId,
    snapshot::{Changed, Pages, Refused, Register, RestoreError, Restored, Scope, State},
};
use dfr0_model::vmm::Features;
use dfr0_model::{id_write::Writable, sysreg::SysReg, wire::RAM};
use kvm_ioctls::{VcpuFd, VmFd};
use std::{collections::BTreeSet, sync::atomic::Ordering::Relaxed, time::Duration};

/// The timers' counts, and their controls with ISTATUS, change while nothing runs: KVM_REG_ARM_TIMER_CNT, _PTIMER_CNT,
/// _TIMER_CTL and _PTIMER_CTL.
const TIMERS: [RegisterId; 4] = [
    RegisterId::system(SysReg::new(3, 3, 14, 3, 2)),
    RegisterId::system(SysReg::new(3, 3, 14, 0, 1)),
    RegisterId::system(SysReg::new(3, 3, 14, 3, 1)),
    RegisterId::system(SysReg::new(3, 3, 14, 2, 1)),
];

impl Kvm {
    /// A VM in this state, with the payload's words at these addresses. Registers are written in the order of
    /// the state, the ID registers first. A register that the scope needs and KVM does not accept ends the
    /// restore.
    pub fn restore(
        &self,
        state: &State,
        words: Words,
        scope: Scope,
        deadline: Duration,
    ) -> Result<(Guest, Restored), RestoreError> {
        let vm = self.create_vm(Features::None).map_err(RestoreError::Host)?;
        let mut restored = Restored::default();
        let mut vcpus = Vcpus::default();
        let mut saved = Vec::with_capacity(state.vcpus.len());
        for registers in &state.vcpus {
            let (_, vcpu) = vcpus.take(&vm, Features::None).map_err(RestoreError::Host)?;
            write(&vm, &vcpu, registers, scope, &mut restored)?;
            saved.push(vcpu);
        }
        let mut saved = saved.into_iter();
        let vcpu = saved
            .next()
            .ok_or_else(|| RestoreError::Host(Error::Unfit("the snapshot has no vCPU".into())))?;
        let guest = || {
            let mut memory = GuestMemory::anonymous()?;
            fill(&mut memory, &state.memory)?;
            Vcpu::restored(vm, vcpus, vcpu, saved.next(), Payload { memory, words }, deadline)
        };
        let guest = guest().map_err(RestoreError::Host)?;
        Ok((Guest::on(guest), restored))
    }
}

/// The pages of a guest's memory that are not zero.
pub fn pages(memory: &GuestMemory) -> Pages {
    let addresses = (RAM..).step_by(Pages::SIZE).take(memory.len() / Pages::SIZE);
    let pages = addresses.filter_map(|address| {
        let words = memory.words(address, Pages::SIZE / size_of::<u64>())?;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.load(Relaxed).to_le_bytes()).collect();
        bytes.iter().any(|byte| *byte != 0).then_some((address, bytes))
    });
    Pages(pages.collect())
}

/// Copies pages into memory that is zero.
fn fill(memory: &mut GuestMemory, pages: &Pages) -> Result<(), Error> {
    pages.0.iter().try_for_each(|(address, page)| {
        let written = memory.write(*address, page);
        written.then_some(()).ok_or_else(|| Error::Unfit(format!("the guest has no memory at {address:#x}")))
    })
}

/// Writes a vCPU's registers, and reads them back.
fn write(
    vm: &VmFd,
    vcpu: &VcpuFd,
    registers: &[Register],
    scope: Scope,
    restored: &mut Restored,
) -> Result<(), RestoreError> {
    let (ids, others): (Vec<_>, Vec<_>) =
        registers.iter().partition(|register| one_reg::is_id(register.id.bits()));
    // The ID registers decide which other registers exist.
    for group in [&ids, &others] {
        let listed = listed(vcpu)?;
        for register in group {
            write_one(vm, vcpu, &listed, register, scope, restored)?;
        }
    }
    for register in ids.into_iter().chain(others) {
        let left_out = restored.left_out.contains(register);
        if let Some(here) = read(vcpu, register.id)
            && !left_out
            && here != register.value
            && !TIMERS.contains(&register.id)
        {
            restored.changed.push(Changed { saved: register.clone(), here });
        }
    }
    Ok(())
}

fn listed(vcpu: &VcpuFd) -> Result<BTreeSet<u64>, RestoreError> {
    Ok(registers::listed(vcpu).map_err(RestoreError::Host)?.into_iter().collect())
}

fn write_one(
    vm: &VmFd,
    vcpu: &VcpuFd,
    listed: &BTreeSet<u64>,
    register: &Register,
    scope: Scope,
    restored: &mut Restored,
) -> Result<(), RestoreError> {
    let id = register.id;
    let error = if !scope.writes(id) {
        // An ID register outside of the scope keeps the target's value.
        if read(vcpu, id).as_ref() != Some(&register.value) {
            restored.left_out.push(register.clone());
        }
        return Ok(());
    } else if !listed.contains(&id.bits()) {
        RestoreError::Missing { register: register.clone() }
    } else {
        match vcpu.set_one_reg(id.bits(), &register.value) {
            Ok(_) => return Ok(()),
            Err(error) => {
                let here = read(vcpu, id).map(|value| Register { id, value }.low());
                let writable =
                    id.system_register().map_or(Writable::Unknown, |reg| writable_masks::of(vm, reg));
                RestoreError::Refused(Box::new(Refused::new(register.clone(), error.errno(), here, writable)))
            }
        }
    };
    if scope.needs(id) {
        return Err(error);
    }
    restored.left_out.push(register.clone());
    Ok(())
}

/// KVM_GET_ONE_REG, if it works.
fn read(vcpu: &VcpuFd, id: RegisterId) -> Option<Vec<u8>> {
    let mut value = vec![0; id.width() as usize / 8];
    vcpu.get_one_reg(id.bits(), &mut value).ok()?;
    Some(value)
}
