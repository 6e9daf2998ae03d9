// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The executable architecture: what a guest may see of AArch64 self-hosted debug.
//!
//! This crate is the only place in dfr0 that knows the Arm ARM (DDI 0487). It has no unsafe code and does no
//! I/O, and it is tested without KVM. Its folders are its two halves: the payload in the guest is built with `shared`
//! alone, the runner on the host has the `oracle` too.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "oracle")]
extern crate alloc;

#[cfg(feature = "oracle")]
mod oracle;
mod shared;

#[cfg(feature = "oracle")]
pub use oracle::*;
pub use shared::*;
