// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Runs scenarios in KVM guests or on a bare CPU, judges them with [`dfr0_model`] and reports the results.
//!
//! | module | subject |
//! |---|---|
//! | [`host`] | what this machine is: kernel, CPU, shape, capabilities |
//! | [`fingerprint`], [`register_id`] | what decides whether a guest may move, as a file |
//! | [`plan`] | whether a guest may move from one host to another |
//! | [`profile`] | what is known of CPUs' debug hardware, and whether a host agrees with it |
//! | [`guest`] | a guest whose payload runs scenarios |
//! | [`error`] | what may go wrong while a guest is made or runs |
//! | `machine` | what a guest runs on: `kvm`, or `bare`, a CPU without KVM; or [`paper`], where nothing runs |
//! | `payload`, `image`, `stage1`, `memory` | the payload, its translation, and the memory that both sides share |
//! | [`case`] | suites and cases, and what a case may ask for |
//! | `program` | scenarios, one after the other, as one program of the payload |
//! | [`a32_vm`] | a VM whose guest is in AArch32, which has scenarios of its own |
//! | [`protected_vm`] | a protected VM, which has scenarios of its own |
//! | [`nested_vm`] | a hypervisor at EL2 that makes visits |
//! | `composed`, `a32`, `protected`, `nested` | the code of such guests |
//! | `a64` | instructions of A64 that such code has in common |
//! | [`vm`] | scenarios that make their VM |
//! | [`cpus`] | on which CPU a thread runs |
//! | [`cpu_types`] | which of a host's CPUs are of one type |
//! | [`other`] | what another vCPU does while it runs beside the guest |
//! | [`host_debug`] | breakpoints and watchpoints of this thread's own |
//! | [`together`] | vCPUs that run at the same time |
//! | `jobs` | cases that run at the same time |
//! | [`effort`] | how much a run does |
//! | [`turn`] | the turn of a case, which follows from its name |
//! | [`random`] | random scenarios, drawn and shrunk |
//! | [`replay`] | a scenario from a file, run again |
//! | [`snapshot`] | a vCPU in the middle of a scenario, saved and restored elsewhere |
//! | `archive` | the archive that holds a snapshot or a certificate |
//! | [`pairs`] | moves between hosts, and whether the plans were right |
//! | [`expected`] | known deviations |
//! | [`bless`] | drafts of deviations, from what a run found |
//! | [`explain`] | what a case tests, and what is known of it |
//! | [`pattern`] | patterns that name cases |
//! | [`diagnostic`] | what is wrong in a file, and where |
//! | [`kernel_version`] | kernel versions, also those of distributors' releases |
//! | [`known_fields`] | the fields that KVM is known to let userspace write, by kernel |
//! | [`run`] | runs cases and compares them with the deviations |
//! | [`certificate`] | everything that was found on a host, as an archive |
//! | [`bench`] | what the suites cost on this host |
//! | [`results`] | the results of a run, as a stream of records and as a file |
//! | [`slurm_features`] | a host as features of a Slurm node |
//! | [`ktap`] | results as KTAP |
//! | [`lava`] | results as signals of LAVA |
//! | [`report`] | results of one or many runs in other forms, and the difference between two sides |
//! | [`mimic`] | the cases as tests of `cargo test` |
//! | `visible` | text from outside, as it may be shown |
//! | [`cli`] | the commands |

pub mod a32_vm;
pub mod bench;
pub mod bless;
pub mod capabilities;
pub mod case;
pub mod certificate;
pub mod cli;
pub mod cpu_model;
pub mod cpu_types;
pub mod cpus;
pub mod diagnostic;
pub mod effort;
pub mod error;
pub mod exit;
pub mod expected;
pub mod explain;
pub mod fingerprint;
pub mod guest;
pub mod host;
pub mod host_debug;
pub mod kernel_version;
pub mod known_fields;
pub mod ktap;
pub mod lava;
pub mod mimic;
pub mod nested_vm;
pub mod other;
pub mod pairs;
pub mod paper;
pub mod pattern;
pub mod plan;
pub mod profile;
mod program;
pub mod protected_vm;
pub mod random;
pub mod register_id;
pub mod renamed;
pub mod replay;
pub mod report;
pub mod results;
pub mod run;
pub mod slurm_features;
pub mod snapshot;
pub mod together;
pub mod turn;
pub mod vm;

pub use image::PAYLOAD;

#[cfg(any(target_arch = "aarch64", test))]
mod a32;
mod a64;
mod archive;
mod bare;
mod bounded;
#[cfg(any(target_arch = "aarch64", test))]
mod composed;
mod image;
mod jobs;
#[cfg(any(target_arch = "aarch64", test))]
mod kernel_log;
mod machine;
mod memory;
pub mod mode;
mod nested;
mod payload;
#[cfg(any(target_arch = "aarch64", test))]
mod protected;
mod stage1;
mod visible;
mod whole;

#[cfg(target_arch = "aarch64")]
mod kvm;
#[cfg(not(target_arch = "aarch64"))]
#[path = "no_kvm.rs"]
mod kvm;
