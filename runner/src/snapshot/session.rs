// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Saving and restoring in a session.

use super::{RestoreError, Resumed, Scope, Snapshot};
use crate::{
    case::{Context, Session, Stop},
    guest::{Config, Error},
};
use dfr0_model::{
    judge::judge,
    pe::Pe,
    scenario::{Migrate, Op, Scenario},
    vmm::Features,
};

/// The operation after which a scenario is saved by default: the one before the last operation that executes
/// something.
pub fn default_place(scenario: &Scenario) -> usize {
    let executes = |op: &Op| matches!(op, Op::Exec { .. } | Op::Access { .. } | Op::Run { .. } | Op::Brk);
    let last = scenario.ops().iter().rposition(executes);
    last.unwrap_or(scenario.ops().len().saturating_sub(1)).saturating_sub(1)
}

impl Session {
    /// Runs a scenario in its own VM up to and including the operation at `place`, and saves it. The VM ends
    /// there.
    pub fn snapshot(&self, config: Config, scenario: &Scenario, place: usize) -> Result<Snapshot, Stop> {
        let fingerprint = self.machine().fingerprint()?;
        let ops = scenario.ops();
        if place >= ops.len() {
            return Err(Error::Unfit(format!(
                "there is no operation {place} to save after: the scenario's last is {}",
                ops.len().saturating_sub(1)
            ))
            .into());
        }
        if let Some(op) = ops.iter().find(|op| matches!(op, Op::Debug(_))) {
            return Err(Error::Unfit(format!(
                "a bundle cannot contain `{op}`, because its text cannot be read back"
            ))
            .into());
        }
        let requested = |feature| Features::for_guest(feature) != Features::None;
        if let Some((op, feature)) =
            ops.iter().find_map(|op| Some((op, op.needs().filter(|feature| requested(*feature))?)))
        {
            let why =
                format!("a bundle cannot contain `{op}`, because it is restored in a VM without {feature}");
            return Err(Error::Unfit(why).into());
        }
        let (first, rest) = ops.split_at(place + 1);
        let all = first.iter().copied().chain([Op::Migrate(Migrate::FreshVm)]).chain(rest.iter().copied());
        let scenario = all.fold(Scenario::new(), Scenario::then);
        let mut guest = self.guest(config)?;
        let (seen, words, state) = guest.run_and_save(scenario.ops(), place + 1)?;
        let dfr0 = env!("CARGO_PKG_VERSION").to_owned();
        let zva_block = self.known_zva_block();
        let snapshot =
            Snapshot { dfr0, fingerprint, words, zva_block, scenario, done: place + 2, seen, state };
        // A scenario that cannot be judged after a restore is not saved.
        snapshot.expected()?;
        Ok(snapshot)
    }

    /// Restores a snapshot in its own VM, runs the rest of its scenario, and judges all events.
    pub fn resume(&self, snapshot: &Snapshot, scope: Scope) -> Result<Resumed, RestoreError> {
        let Snapshot { words, scenario, done, seen, state, .. } = snapshot;
        let (mut guest, restored) = self.machine().restore(state, *words, scope, self.deadline())?;
        let events = guest.run_rest(scenario.ops(), *done, seen.clone()).map_err(RestoreError::Ran)?;
        let departure = judge(snapshot.pe(), scenario.ops(), &events)?;
        Ok(Resumed { scenario: scenario.clone(), done: *done, events, departure, restored })
    }
}

impl Context<'_> {
    /// [`Session::snapshot`] with the case's configuration of the VM.
    pub fn snapshot(&self, scenario: &Scenario, place: usize) -> Result<Snapshot, Stop> {
        self.session().snapshot(self.config(), scenario, place)
    }

    /// [`Session::resume`] in the case's session.
    pub fn resume(&self, snapshot: &Snapshot, scope: Scope) -> Result<Resumed, RestoreError> {
        self.session().resume(snapshot, scope)
    }
}

impl Snapshot {
    /// The model of the vCPU, before its first operation.
    pub(super) fn pe(&self) -> Pe {
        let pe = Pe::new(self.shape());
        match self.zva_block {
            Some(bytes) => pe.with_zva_block(bytes),
            None => pe,
        }
    }
}
