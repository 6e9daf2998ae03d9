// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A CPU without KVM: a machine that runs the payload and nothing else. A departure from the rules that is
//! seen here too is the platform's, and not KVM's.
//!
//! docs/bare.md describes such a machine. QEMU's machine `virt`, which `lab exec --bare` starts, is one. A
//! model, an FPGA or a simulation of a CPU that is not silicon yet may be another.

mod boot;
mod cpu;
mod directory;
mod hypervisor;
mod qmp;

pub use cpu::{Bare, can};
