// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What the payload and the runner share, without an allocator: the tables of the Arm ARM, the operations of a scenario,
//! and how they and what they cause cross the guest's memory. Nothing here says what must happen.
//!
//! | module | subject |
//! |---|---|
//! | [`sysreg`] | system registers: encodings, names, the instructions that access them |
//! | [`control`] | layouts of DBGBCR<n>_EL1, DBGWCR<n>_EL1 and MDSCR_EL1 |
//! | [`pstate`] | PSTATE, as SPSR_EL1 holds it |
//! | [`dfr0`] | the fields of ID_AA64DFR0_EL1 and which values promise more than others |
//! | [`id_dfr0`] | the fields of ID_DFR0_EL1 |
//! | [`id_register`] | the names of the identification registers and of their fields |
//! | [`feature`] | optional features of a guest, and the ID registers that advertise them |
//! | [`shape`] | what a PE or a VM advertises about self-hosted debug |
//! | [`access`] | the memory accesses that the payload can do |
//! | [`sequence`] | short pieces of code that the payload executes, besides accesses and markers |
//! | [`vector`] | the SVE loads and stores in them |
//! | [`op`] | the operations of scenarios and how they print |
//! | [`guest_debug`] | the arguments of KVM_SET_GUEST_DEBUG |
//! | [`vmm`] | what userspace does to a VM and its vCPUs |
//! | [`event`] | what the payload and the runner log |
//! | [`layout`] | where everything lies in the guest's memory |
//! | [`wire`] | how operations and events are encoded there |

pub mod access;
pub mod control;
pub mod dfr0;
pub mod event;
pub mod feature;
pub mod guest_debug;
pub mod id_dfr0;
pub mod id_register;
pub mod layout;
pub mod op;
pub mod pstate;
pub mod sequence;
pub mod shape;
pub mod sysreg;
pub mod vector;
pub mod vmm;
pub mod wire;
