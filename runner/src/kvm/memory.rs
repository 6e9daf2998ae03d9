// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The guest's memory: one anonymous mapping that is one memslot.

use crate::guest::Error;
use dfr0_model::wire::{RAM, RAM_SIZE};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::{
    ffi::c_void,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// [`RAM_SIZE`] bytes that the guest sees at [`RAM`], zeroed.
#[derive(Debug)]
pub struct GuestMemory {
    base: NonNull<c_void>,
}

// SAFETY: the mapping belongs to this value alone and is accessed through atomics or `&mut self`.
unsafe impl Send for GuestMemory {}

impl GuestMemory {
    /// Maps zeroed memory.
    pub fn new() -> Result<Self, Error> {
        let len = const { NonZeroUsize::new(RAM_SIZE).expect("a guest has memory") };
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other memory.
        let base = unsafe {
            mmap_anonymous(None, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE)
        };
        let base = base.map_err(|errno| Error::System {
            what: format!("mmap of {RAM_SIZE} bytes for the guest"),
            source: errno.into(),
        })?;
        Ok(Self { base })
    }

    /// Makes this the VM's memslot 0. The VM must not outlive the memory.
    pub fn register(&self, vm: &VmFd) -> Result<(), Error> {
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: RAM,
            memory_size: RAM_SIZE as u64,
            userspace_addr: self.base.as_ptr() as u64,
        };
        // SAFETY: the region is this mapping, which `Guest` keeps until its VM is closed.
        let registered = unsafe { vm.set_user_memory_region(region) };
        registered.map_err(|error| Error::System {
            what: format!("KVM_SET_USER_MEMORY_REGION of {RAM_SIZE} bytes at {RAM:#x}"),
            source: error.into(),
        })
    }

    /// Copies bytes to a guest address; false if they do not fit.
    #[must_use]
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        let Some(offset) = offset(address, bytes.len()) else { return false };
        // SAFETY: the offset lies in the mapping.
        let place = unsafe { self.base.cast::<u8>().add(offset) };
        // SAFETY: all bytes lie in the mapping, which nobody else uses while the vCPU does not run.
        unsafe { place.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        true
    }

    /// The word at a guest address, shared with the guest; none if it is not in memory or not aligned.
    pub fn word(&self, address: u64) -> Option<&AtomicU64> {
        let offset = offset(address, size_of::<u64>())?;
        if offset % size_of::<u64>() != 0 {
            return None;
        }
        // SAFETY: the offset lies in the mapping.
        let word = unsafe { self.base.cast::<AtomicU64>().byte_add(offset) };
        // SAFETY: it is aligned, mapped as long as `self` is, and the guest's accesses are those of another thread.
        Some(unsafe { word.as_ref() })
    }

    /// Reads an array of records; none if it does not lie in memory.
    pub fn records<const N: usize>(&self, address: u64, count: usize) -> Option<Vec<[u64; N]>> {
        (0..count as u64)
            .map(|record| {
                let mut words = [0; N];
                for (place, word) in words.iter_mut().enumerate() {
                    let offset = 8 * (record * N as u64 + place as u64);
                    *word = self.word(address.checked_add(offset)?)?.load(Relaxed);
                }
                Some(words)
            })
            .collect()
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it is left.
        let unmapped = unsafe { munmap(self.base, RAM_SIZE) };
        debug_assert!(unmapped.is_ok(), "unmapping one's own mapping does not fail");
    }
}

fn offset(address: u64, len: usize) -> Option<usize> {
    let offset = usize::try_from(address.checked_sub(RAM)?).ok()?;
    (offset.checked_add(len)? <= RAM_SIZE).then_some(offset)
}
