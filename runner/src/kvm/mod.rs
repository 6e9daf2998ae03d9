// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! KVM/arm64: the VM and its vCPUs.

mod a32_vm;
mod composed_vm;
mod deadline;
mod debug;
mod device;
mod features;
mod fingerprint;
mod gic;
mod memslot;
mod nested_vm;
mod one_reg;
mod others;
mod protected_vm;
mod registers;
mod snapshot;
mod tables;
mod vcpus;
mod vm;
mod writable_masks;

pub use a32_vm::A32Vm;
pub use device::Kvm;
pub use nested_vm::NestedVm;
pub use protected_vm::ProtectedVm;
