// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The program in the guest: an interpreter of scenarios that logs every exception and every value read.
//!
//! [`interpreter`] is the logic; its tests simulate the registers and run on any machine. `main.rs` is the
//! rest: entry, vectors, register table and memory. It is built only for the guest.

#![no_std]
#![forbid(unsafe_code)]

pub mod interpreter;
