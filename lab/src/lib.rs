// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! KVM/arm64 hosts on demand: QEMU boots Debian's own arm64 kernels with their real KVM, and the host runs a command. The
//! lab can also provide a host's CPU without a kernel.
//!
//! `lab` runs on this machine and `lab-init` is process 1 of the booted host. They share [`brought`], [`job`],
//! [`protocol`], [`facts`] and [`shape`].

pub mod apt;
pub mod bare_machine;
pub mod brought;
pub mod cache;
pub mod console;
pub mod defects;
pub mod digest;
pub mod errand;
pub mod exit;
pub mod facts;
pub mod fleet;
pub mod hosts;
pub mod initramfs;
pub mod interrupt;
pub mod job;
pub mod kernel;
pub mod kernel_source;
pub mod matrix;
pub mod mode;
pub mod outcome;
pub mod pool;
pub mod program;
pub mod progress;
pub mod protocol;
pub mod qemu;
pub mod running;
pub mod shape;
pub mod shaped_cpu;
pub mod slurm;
pub mod source;
pub mod streams;
pub mod tools;
pub mod userland;
pub mod virtual_machine;
