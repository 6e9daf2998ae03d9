// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The executable architecture: what a guest may see of AArch64 self-hosted debug.
//!
//! This crate is the only place in dfr0 that knows the Arm ARM (DDI 0487). It has no unsafe code and does no
//! I/O; the payload in the guest and the runner on the host share it, and it is tested without KVM.
//!
//! | module | subject |
//! |---|---|
//! | [`sysreg`] | system registers: encodings, names, the instructions that access them |
//! | [`control`] | layouts of DBGBCR<n>_EL1, DBGWCR<n>_EL1 and MDSCR_EL1 |
//! | [`access`] | the memory accesses that the payload can do |
//! | [`sequence`] | short pieces of code that the payload executes, besides accesses and markers |
//! | [`feature`] | optional features of a guest, and the ID registers that advertise them |
//! | [`dfr0`] | the fields of ID_AA64DFR0_EL1 and which values promise more than others |
//! | [`id_dfr0`] | the fields of ID_DFR0_EL1 |
//! | [`shape`] | what a PE or a VM advertises about self-hosted debug |
//! | [`scenario`] | the language of scenarios: operations and how they print |
//! | [`guest_debug`] | userspace debugs the guest: KVM_SET_GUEST_DEBUG and the exits that it may cause |
//! | [`claim`] | what a case says must happen, held against the model |
//! | [`text`] | parses scenarios in the form in which they are printed |
//! | [`event`] | what the payload and the runner log |
//! | [`wire`] | how operations and events are encoded in the guest's memory, and its layout |
//! | [`rule`] | the rules by name, each with its section |
//! | [`id_register`] | the names of the identification registers and of their fields |
//! | [`id_write`] | what KVM may answer when userspace rewrites a debug feature register, and when |
//! | [`vmm`] | what userspace does to a VM and its vCPUs |
//! | [`vm`] | the VM: vCPUs and ID registers, and what KVM may answer |
//! | [`promise`] | which registers the debug feature registers promise to a guest |
//! | [`pe`] | the PE: state, and which events an operation may cause |
//! | [`outcome`] | what the rules allow an operation to cause |
//! | [`matching`] | whether a breakpoint matches an instruction and a watchpoint an access |
//! | [`aarch32`] | scenarios, in a smaller language, and the PE of a guest in AArch32 |
//! | [`judge`] | compares a log with what the rules allow |

#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "oracle"))]
extern crate alloc;

#[cfg(feature = "oracle")]
pub mod aarch32;
pub mod access;
#[cfg(feature = "oracle")]
pub mod claim;
pub mod control;
pub mod dfr0;
pub mod event;
#[cfg(feature = "oracle")]
mod execution;
#[cfg(feature = "oracle")]
mod fault;
pub mod feature;
pub mod guest_debug;
pub mod id_dfr0;
#[cfg(feature = "oracle")]
pub mod id_register;
#[cfg(feature = "oracle")]
pub mod id_write;
#[cfg(feature = "oracle")]
pub mod judge;
#[cfg(feature = "oracle")]
pub mod matching;
#[cfg(feature = "oracle")]
pub mod outcome;
#[cfg(feature = "oracle")]
pub mod pe;
#[cfg(feature = "oracle")]
pub mod promise;
#[cfg(feature = "oracle")]
mod registers;
pub mod rule;
pub mod scenario;
pub mod sequence;
pub mod shape;
pub mod sysreg;
#[cfg(feature = "oracle")]
pub mod text;
pub mod vector;
#[cfg(feature = "oracle")]
pub mod vm;
pub mod vmm;
pub mod wire;
