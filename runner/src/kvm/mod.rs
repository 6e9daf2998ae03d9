// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! KVM/arm64: the VM, its memory and its payload.

mod deadline;
mod debug;
mod device;
mod image;
mod memory;
mod one_reg;
mod others;
mod stage1;
mod vm;
mod writable_masks;

pub use device::Kvm;
pub use vm::Guest;
