// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A session: the cases that run one after the other on a host.

use super::{LISTED, Stop};
use crate::{
    effort::Effort,
    guest::{Config, Error, Guest, LEAST_AFTER_DEATH},
    host::{Host, Unavailable},
    machine::Machine,
};
use dfr0_model::{sysreg::SysReg, vm::Facts, vmm::Features};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// A host, what guests run on there, and the guests that cases share.
#[derive(Debug)]
pub struct Session {
    pub(super) machine: Machine,
    pub(super) host: Host,
    pub(super) deadline: Duration,
    /// A guest has died on this host.
    pub(super) died: bool,
    pub(super) effort: Effort,
    /// Where nothing runs: the upper limit of scenarios that a case lists.
    pub(super) listed: usize,
    /// The guest that was used last is last.
    pub(super) guests: Vec<(Config, Guest)>,
    /// The size in bytes of the block that DC ZVA zeroes, if it is permitted; `None` until a case asks.
    pub(super) zva_block: Option<Option<u64>>,
    /// What guests read in the ID registers that cases have asked for.
    pub(super) id_registers: BTreeMap<SysReg, u64>,
    /// What is known of VMs with these features.
    pub(super) facts: BTreeMap<Features, Arc<Facts>>,
}

impl Session {
    /// Opens this host; where no guest can run at all, says why. A guest may run for `deadline` at a time.
    pub fn open(deadline: Duration) -> Result<Result<Self, Unavailable>, Error> {
        Ok(match Machine::open(deadline)? {
            Ok(machine) => Ok(Self::on(machine.host()?, machine, deadline)),
            Err(unavailable) => Err(unavailable),
        })
    }

    /// A session for another thread on the same host.
    pub(crate) fn beside(host: &Host, deadline: Duration) -> Result<Self, Stop> {
        let machine =
            Machine::open(deadline)?.map_err(|unavailable| Error::Unfit(unavailable.to_string()))?;
        Ok(Self::on(host.clone(), machine, deadline))
    }

    /// A session where nothing runs: cases list the scenarios that they would run on `host`.
    pub(crate) fn on_paper(host: Host) -> Self {
        /// The size on most CPUs.
        const ZVA_BLOCK: u64 = 64;
        let machine = Machine::Paper(host.clone());
        Self { zva_block: Some(Some(ZVA_BLOCK)), ..Self::on(host, machine, Duration::ZERO) }
    }

    fn on(host: Host, machine: Machine, deadline: Duration) -> Self {
        Self {
            machine,
            host,
            deadline,
            died: false,
            effort: Effort::default(),
            listed: LISTED,
            guests: Vec::new(),
            zva_block: None,
            id_registers: BTreeMap::new(),
            facts: BTreeMap::new(),
        }
    }

    /// Sets how much cases do.
    pub fn with_effort(self, effort: Effort) -> Self {
        Self { effort, ..self }
    }

    /// Where nothing runs, makes cases list all of their scenarios.
    pub(crate) fn listing_all(self) -> Self {
        Self { listed: usize::MAX, ..self }
    }

    /// How much cases do.
    pub(crate) fn effort(&self) -> Effort {
        self.effort
    }

    /// Sets how long a guest may run at a time.
    pub fn allowing(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The host's facts.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What guests run on.
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// How long a guest may run at a time.
    pub(crate) fn deadline(&self) -> Duration {
        let after_death = (self.deadline / 10).max(LEAST_AFTER_DEATH);
        if self.died { self.deadline.min(after_death) } else { self.deadline }
    }

    /// The size in bytes of the block that DC ZVA zeroes, if a case has asked for it.
    pub(crate) fn known_zva_block(&self) -> Option<u64> {
        self.zva_block.flatten()
    }

    /// What is known of VMs with these features, if a case has asked for it.
    pub(crate) fn facts(&self, features: Features) -> Option<Arc<Facts>> {
        self.facts.get(&features).cloned()
    }

    /// A new VM, which has not run.
    pub(crate) fn guest(&self, config: Config) -> Result<Guest, Error> {
        self.machine.guest(config, self.deadline())
    }
}
