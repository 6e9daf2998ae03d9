// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Runs scenarios in KVM guests, judges them with [`dfr0_model`] and reports the results.
//!
//! | module | subject |
//! |---|---|
//! | [`host`] | what this machine is: kernel, CPU, shape, capabilities |
//! | [`guest`] | a VM whose payload runs scenarios |
//! | [`cpus`] | on which CPU a thread runs |
//! | [`other`] | what another vCPU does that runs beside |
//! | [`case`] | suites and cases, and what a case may ask for |
//! | [`expected`] | known deviations |
//! | [`run`] | runs cases and compares them with the deviations |
//! | [`ktap`] | results as KTAP |
//! | [`mimic`] | the same cases for `cargo test` |
//! | [`cli`] | the commands |

pub mod case;
pub mod cli;
pub mod cpus;
pub mod expected;
pub mod guest;
pub mod host;
pub mod ktap;
pub mod mimic;
pub mod other;
pub mod run;

#[cfg(target_arch = "aarch64")]
mod kvm;
#[cfg(not(target_arch = "aarch64"))]
#[path = "no_kvm.rs"]
mod kvm;
