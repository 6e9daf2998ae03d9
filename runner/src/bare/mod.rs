// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A CPU without KVM: an emulator that runs the payload and nothing else. What departs from the rules here too is the
//! platform's, and not KVM's.
//!
//! The emulator is QEMU's machine `virt`, which `lab exec --bare` starts and describes by a directory:
//!
//! ```text
//!   ram        the memory at 0x4000_0000, a file that the emulator shares
//!   serial     a Unix socket: the PL011 at 0x0900_0000
//!   qmp        a Unix socket: the emulator's monitor, QMP
//!   platform   the machine's name, as a device tree's `compatible` has it
//! ```
//!
//! At reset the CPU starts at EL2 on the last page of that memory.

mod boot;
mod cpu;
mod directory;
mod qmp;

pub use cpu::Bare;
