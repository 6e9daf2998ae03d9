// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The oracle: what may happen, by which rule, and whether what did happen is a part of it.
//!
//! | module | subject |
//! |---|---|
//! | [`rule`] | the rules by name, each with its section |
//! | [`outcome`] | what the rules allow an operation to cause |
//! | [`pe`] | the PE: state, and which events an operation may cause |
//! | `execution` | code, instruction by instruction, and each alternative that it may take |
//! | [`matching`] | whether a breakpoint matches an instruction and a watchpoint an access |
//! | `registers` | the debug and context registers, and which of their bits read as written |
//! | `fault` | which accesses fault at stage 1 |
//! | `debugger` | userspace debugs the guest: the exits that it may cause |
//! | [`vm`] | the VM: vCPUs and ID registers, and what KVM may answer |
//! | [`id_write`] | what KVM may answer when userspace rewrites a debug feature register, and when |
//! | [`promise`] | which registers the debug feature registers promise to a guest |
//! | [`scenario`] | scenarios: operations in order, with what a case claims of them |
//! | [`claim`] | what a case says must happen, held against the model |
//! | [`judge`] | compares a log with what the rules allow |
//! | [`text`] | parses scenarios in the form in which they are printed |
//! | [`protected`] | scenarios, in a smaller language, and the PE of a protected VM's guest |
//! | [`aarch32`] | scenarios, in a smaller language, and the PE of a guest in AArch32 |

pub mod aarch32;
pub mod claim;
pub(crate) mod debugger;
pub(crate) mod execution;
pub(crate) mod fault;
pub mod id_write;
pub mod judge;
pub mod matching;
pub mod nested;
pub mod outcome;
pub mod pe;
pub mod promise;
pub mod protected;
pub(crate) mod registers;
pub mod rule;
pub mod scenario;
pub mod text;
pub mod vm;
