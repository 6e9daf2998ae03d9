// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The guest's memory: one mapping, of this process alone or of a file that an emulator shares.

use crate::error::Error;
use dfr0_model::wire::RAM;
#[cfg(target_arch = "aarch64")]
use dfr0_model::wire::RAM_SIZE;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
#[cfg(target_arch = "aarch64")]
use nix::sys::mman::{MmapAdvise, madvise, mmap_anonymous};
use std::{ffi::c_void, fs::File, num::NonZeroUsize, ptr::NonNull, sync::atomic::AtomicU64};

/// Instructions, after the address of the first.
pub type Piece = (u64, Vec<u32>);

/// Memory that the guest sees at [`RAM`].
#[derive(Debug)]
pub struct GuestMemory {
    base: NonNull<c_void>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and is accessed through atomics or `&mut self`.
unsafe impl Send for GuestMemory {}

impl GuestMemory {
    /// Maps [`RAM_SIZE`] bytes, zeroed.
    #[cfg(target_arch = "aarch64")]
    pub fn anonymous() -> Result<Self, Error> {
        let len = const { NonZeroUsize::new(RAM_SIZE).expect("a guest has memory") };
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other memory.
        let base = unsafe {
            mmap_anonymous(None, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE)
        };
        let base = base.map_err(|errno| Error::System {
            what: format!("mmap of {RAM_SIZE} bytes for the guest"),
            source: errno.into(),
        })?;
        // With huge pages it would depend on the host's free memory which accesses take a stage 2 fault. A kernel that
        // refuses this has no huge pages.
        // SAFETY: the advice changes nothing of the mapping's content.
        _ = unsafe { madvise(base, RAM_SIZE, MmapAdvise::MADV_NOHUGEPAGE) };
        Ok(Self { base, len: RAM_SIZE })
    }

    /// Maps the first `len` bytes of a file and zeroes them.
    pub fn of_file(file: &File, len: NonZeroUsize) -> Result<Self, Error> {
        let (access, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory of this process.
        let base = unsafe { mmap(None, len, access, flags, file, 0) };
        let base = base.map_err(|errno| Error::System {
            what: format!("mmap of {len} bytes of the guest's memory"),
            source: errno.into(),
        })?;
        // SAFETY: all bytes are in the mapping, which nothing else in this process refers to.
        unsafe { base.cast::<u8>().write_bytes(0, len.get()) };
        Ok(Self { base, len: len.get() })
    }

    /// Its address in this process.
    #[cfg(target_arch = "aarch64")]
    pub fn base(&self) -> NonNull<c_void> {
        self.base
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Copies bytes to a guest address; false if they do not fit.
    #[must_use]
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        let Some(offset) = self.offset(address, bytes.len()) else { return false };
        // SAFETY: the offset is in the mapping.
        let place = unsafe { self.base.cast::<u8>().add(offset) };
        // SAFETY: all bytes are in the mapping, which has no other user while the CPU does not run.
        unsafe { place.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        true
    }

    /// Writes code; false if a piece of it does not fit.
    #[must_use]
    pub fn write_code(&mut self, pieces: &[Piece]) -> bool {
        pieces.iter().all(|(address, words)| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            self.write(*address, &bytes)
        })
    }

    /// The word at a guest address, shared with the guest; `None` if it is not in memory or not aligned.
    pub fn word(&self, address: u64) -> Option<&AtomicU64> {
        self.words(address, 1)?.first()
    }

    /// The words starting at a guest address, shared with the guest; `None` if they are not in memory or not
    /// aligned.
    pub fn words(&self, address: u64, count: usize) -> Option<&[AtomicU64]> {
        let offset = self.offset(address, count.checked_mul(size_of::<u64>())?)?;
        if offset % size_of::<u64>() != 0 {
            return None;
        }
        // SAFETY: the offset is in the mapping.
        let words = unsafe { self.base.cast::<AtomicU64>().byte_add(offset) };
        // SAFETY: they are aligned, mapped as long as `self` is, and the guest's accesses are those of
        // another thread.
        Some(unsafe { NonNull::slice_from_raw_parts(words, count).as_ref() })
    }

    fn offset(&self, address: u64, len: usize) -> Option<usize> {
        let offset = usize::try_from(address.checked_sub(RAM)?).ok()?;
        (offset.checked_add(len)? <= self.len).then_some(offset)
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it is left.
        let unmapped = unsafe { munmap(self.base, self.len) };
        debug_assert!(unmapped.is_ok(), "unmapping one's own mapping does not fail");
    }
}
