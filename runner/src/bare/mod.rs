// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A CPU without KVM: a machine that runs the payload and nothing else. What departs from the rules here too is the
//! platform's, and not KVM's.
//!
//! docs/bare.md says what such a machine offers. QEMU's machine `virt` does, which `lab exec --bare` starts, and so may a
//! model, an FPGA or a simulation of a CPU that is no silicon yet.

mod boot;
mod cpu;
mod directory;
mod qmp;

pub use cpu::{Bare, can};
