// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The program in the guest: an interpreter of scenarios that logs every exception and every value read.
//!
//! [`interpreter`] is the logic, tested on any machine against a register file of its own; `main.rs` is the rest:
//! entry, vectors, register table and memory, for the guest alone.

#![no_std]
#![forbid(unsafe_code)]

pub mod interpreter;
