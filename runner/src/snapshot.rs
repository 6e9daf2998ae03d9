// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A vCPU and its memory in the middle of a scenario, saved on one host and restored on another.
//!
//! [`Session::snapshot`](crate::case::Session::snapshot) runs a scenario up to a place and saves;
//! [`Session::resume`](crate::case::Session::resume) restores, runs the rest and judges all of it. Between
//! the two, a snapshot is a bundle ([`Snapshot::to_bytes`]), which comes from another machine: its size is
//! limited before it is read, no name in it is used as a file name, and a digest covers all of it.

mod bundle;
mod difference;
mod file;
mod manifest;
mod records;
mod restore;
mod session;
mod show;
mod state;

pub use bundle::Problem;
pub use difference::Difference;
pub use file::{Error, load, save};
pub use restore::{Changed, Refused, RefusedField, RestoreError, Restored, Resumed, Scope};
pub use session::default_place;
pub use show::Shown;
pub use state::Register;
pub(crate) use state::{Pages, State};

use crate::{fingerprint::Fingerprint, image::Words};
use dfr0_model::{
    event::Logged,
    scenario::Scenario,
    shape::Shape,
    sysreg::{ID_AA64DFR0_EL1, SysReg},
};

/// A vCPU and its memory in the middle of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The version of the dfr0 that saved it.
    dfr0: String,
    /// The host where it was saved.
    fingerprint: Fingerprint,
    /// The addresses of the payload's words; the payload may be that of another build.
    words: Words,
    /// The number of bytes that DC ZVA zeroes, if the scenario depends on it.
    zva_block: Option<u64>,
    /// The whole scenario, including the migration to a fresh VM that the restore performs.
    scenario: Scenario,
    /// The number of its operations that are done, including that migration.
    done: usize,
    /// The events so far.
    seen: Vec<Logged>,
    state: State,
}

impl Snapshot {
    /// The version of the dfr0 that saved it.
    pub fn dfr0(&self) -> &str {
        &self.dfr0
    }

    /// The host where it was saved.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The whole scenario, including the migration to a fresh VM that a restore performs.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The number of its operations that are done, including that migration.
    pub fn done(&self) -> usize {
        self.done
    }

    /// The events so far.
    pub fn seen(&self) -> &[Logged] {
        &self.seen
    }

    /// The registers of each vCPU; the first is the one that runs.
    pub fn vcpus(&self) -> impl Iterator<Item = &[Register]> {
        self.state.vcpus.iter().map(Vec::as_slice)
    }

    /// The registers of the vCPU that runs. A restore judges what it runs with, whoever changed them.
    pub fn registers_mut(&mut self) -> &mut Vec<Register> {
        &mut self.state.vcpus[0]
    }

    /// A 64-bit system register of the vCPU that runs; `None` if the snapshot does not have it.
    pub fn get(&self, reg: SysReg) -> Option<u64> {
        self.state.get(reg)
    }

    /// ID_AA64DFR0_EL1. Every snapshot has it: a bundle without it is rejected.
    pub fn id_aa64dfr0(&self) -> u64 {
        self.get(ID_AA64DFR0_EL1).unwrap_or_default()
    }

    /// The shape of the vCPU.
    pub fn shape(&self) -> Shape {
        Shape::from_id_aa64dfr0(self.id_aa64dfr0())
    }
}

#[cfg(test)]
pub(crate) mod tests;
