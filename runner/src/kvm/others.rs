// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Other vCPUs, each in a VM of its own, that run on a guest's CPU between two of its KVM_RUNs.

use super::device::Kvm;
use crate::{
    guest::{Config, Death, Error, Guest, OfOther},
    other,
};
use dfr0_model::{scenario::Other, shape::Shape, sysreg::ID_AA64DFR0_EL1};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

/// The other vCPUs of one guest, each of which is created when it first runs, and keeps its debug registers.
#[derive(Debug, Default)]
pub struct Others {
    guests: BTreeMap<Other, Guest>,
    ran: Vec<OfOther>,
}

impl Others {
    /// Runs the other vCPU once.
    pub fn run(&mut self, other: Other, deadline: Duration) -> Result<(), Error> {
        let guest = match self.guests.entry(other) {
            Entry::Occupied(guest) => guest.into_mut(),
            Entry::Vacant(place) => {
                let kvm = Kvm::open()?;
                place.insert(kvm.guest(Config::default(), deadline)?)
            }
        };
        let shape = Shape::from_id_aa64dfr0(guest.get(ID_AA64DFR0_EL1)?);
        let mut program = guest.program()?;
        program.add(&other::scenario(other, shape));
        let log = guest.run(&program).map_err(|error| match error {
            Error::Died(death) => {
                let reason = format!("another vCPU, its debug registers {other}: {}", death.reason);
                Error::Died(Box::new(Death { reason, ..*death }))
            }
            error => error,
        })?;
        self.ran.push(OfOther { other, program, log });
        Ok(())
    }

    /// What they did since the last call.
    pub fn take(&mut self) -> Vec<OfOther> {
        std::mem::take(&mut self.ran)
    }
}
