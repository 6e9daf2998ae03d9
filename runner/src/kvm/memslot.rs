// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The guest's memory as the VM's one memslot.

use crate::{guest::Error, memory::GuestMemory};
use dfr0_model::wire::RAM;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;

/// Makes the memory the VM's memslot 0. The VM must not outlive the memory.
pub fn register(memory: &GuestMemory, vm: &VmFd) -> Result<(), Error> {
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: RAM,
        memory_size: memory.len() as u64,
        userspace_addr: memory.base().as_ptr() as u64,
    };
    // SAFETY: the region is this mapping, which `Vcpu` keeps until its VM is closed.
    let registered = unsafe { vm.set_user_memory_region(region) };
    registered.map_err(|error| Error::System {
        what: format!("KVM_SET_USER_MEMORY_REGION of {} bytes at {RAM:#x}", memory.len()),
        source: error.into(),
    })
}
