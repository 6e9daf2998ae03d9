// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! KVM/arm64: the VM and its vCPUs.

mod deadline;
mod debug;
mod device;
mod fingerprint;
mod memslot;
mod one_reg;
mod others;
mod plain;
mod registers;
mod snapshot;
mod tables;
mod vm;
mod writable_masks;

pub use device::Kvm;
pub use plain::PlainVm;
