// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A session: the cases that run one after the other on a host.

use super::LISTED;
use crate::{
    cpus,
    effort::Effort,
    guest::{Config, Error, Guest, LEAST_AFTER_DEATH},
    host::Host,
    machine::Machine,
};
use dfr0_model::{sysreg::SysReg, vm::Facts, vmm::Features};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// What guests run on, and the guests that cases share there.
#[derive(Debug)]
pub struct Session {
    pub(super) machine: Machine,
    pub(super) common: Common,
    /// The guest that was used last is last.
    pub(super) guests: Vec<(Config, Guest)>,
}

/// What the sessions of all threads have in common.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(super) host: Host,
    deadline: Duration,
    pub(super) effort: Effort,
    /// The upper limit of guests that a session keeps.
    pub(super) kept: usize,
    /// Where nothing runs: the upper limit of scenarios that a case lists.
    pub(super) listed: usize,
    known: Arc<Known>,
}

/// What cases have learned of a host.
#[derive(Debug, Default)]
struct Known {
    /// A guest has died.
    died: AtomicBool,
    /// The size in bytes of the block that DC ZVA zeroes, if it is permitted.
    zva_block: OnceLock<Option<u64>>,
    /// What guests read in ID registers.
    id_registers: Mutex<BTreeMap<SysReg, u64>>,
    /// What is known of VMs with these features.
    facts: Mutex<BTreeMap<Features, Arc<Facts>>>,
}

/// The upper limit of VMs that a session keeps for the scenarios of the next case: one per configuration.
const KEPT: usize = 64;
/// The upper limit of VMs that all sessions keep, unless there are so many that one has fewer than a few.
const KEPT_BY_ALL: usize = 256;
const FEW: usize = 4;

impl Common {
    /// A session on this host for the calling thread.
    pub fn open(&self) -> Result<Session, Error> {
        let machine = Machine::open(self.deadline)?;
        Ok(Session { machine, common: self.clone(), guests: Vec::new() })
    }
}

impl Session {
    /// Opens this host. A guest may run for `deadline` at a time.
    pub fn open(deadline: Duration) -> Result<Self, Error> {
        let machine = Machine::open(deadline)?;
        Ok(Self::on(machine.host()?, machine, deadline))
    }

    /// What other threads need for sessions beside this one, if they are this many.
    pub(crate) fn common(&self, sessions: usize) -> Common {
        Common { kept: (KEPT_BY_ALL / sessions.max(1)).clamp(FEW, KEPT), ..self.common.clone() }
    }

    /// A session where nothing runs: cases list the scenarios that they would run on `host`.
    pub(crate) fn on_paper(host: Host) -> Self {
        /// The size on most CPUs.
        const ZVA_BLOCK: u64 = 64;
        let machine = Machine::Paper(host.clone());
        let session = Self::on(host, machine, Duration::ZERO);
        session.learn_zva_block(Some(ZVA_BLOCK));
        session
    }

    fn on(host: Host, machine: Machine, deadline: Duration) -> Self {
        let common = Common {
            host,
            deadline,
            effort: Effort::default(),
            kept: KEPT,
            listed: LISTED,
            known: Arc::default(),
        };
        Self { machine, common, guests: Vec::new() }
    }

    /// Sets how much cases do.
    pub fn with_effort(mut self, effort: Effort) -> Self {
        self.common.effort = effort;
        self
    }

    /// Where nothing runs, makes cases list all of their scenarios.
    pub(crate) fn listing_all(mut self) -> Self {
        self.common.listed = usize::MAX;
        self
    }

    /// How many sessions run at the same time: as many as wanted, or one for each CPU. There is only one bare CPU.
    pub(crate) fn jobs(&self, wanted: Option<usize>) -> Result<usize, Error> {
        match self.machine {
            Machine::Bare(_) => Ok(1),
            Machine::Kvm(_) | Machine::Paper(_) => {
                wanted.map_or_else(|| Ok(cpus::allowed()?.len().max(1)), Ok)
            }
        }
    }

    /// How much cases do.
    pub(crate) fn effort(&self) -> Effort {
        self.common.effort
    }

    /// Sets how long a guest may run at a time.
    pub fn allowing(mut self, deadline: Duration) -> Self {
        self.common.deadline = deadline;
        self
    }

    /// The host's facts.
    pub fn host(&self) -> &Host {
        &self.common.host
    }

    /// What guests run on.
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// How long a guest may run at a time.
    pub(crate) fn deadline(&self) -> Duration {
        let Common { deadline, ref known, .. } = self.common;
        let after_death = (deadline / 10).max(LEAST_AFTER_DEATH);
        if known.died.load(Relaxed) { deadline.min(after_death) } else { deadline }
    }

    /// A guest has died on this host.
    pub(super) fn guest_died(&self) {
        self.common.known.died.store(true, Relaxed);
    }

    /// The size in bytes of the block that DC ZVA zeroes, if it is permitted; `None` until a case asks.
    pub(super) fn zva_block(&self) -> Option<Option<u64>> {
        self.common.known.zva_block.get().copied()
    }

    pub(super) fn learn_zva_block(&self, block: Option<u64>) {
        self.common.known.zva_block.get_or_init(|| block);
    }

    /// The size in bytes of the block that DC ZVA zeroes, if a case has asked for it.
    pub(crate) fn known_zva_block(&self) -> Option<u64> {
        self.zva_block().flatten()
    }

    /// What guests read in this ID register, if a case has asked for it.
    pub(super) fn id_register(&self, reg: SysReg) -> Option<u64> {
        locked(&self.common.known.id_registers).get(&reg).copied()
    }

    pub(super) fn learn_id_register(&self, reg: SysReg, value: u64) {
        locked(&self.common.known.id_registers).insert(reg, value);
    }

    /// What is known of VMs with these features, if a case has asked for it.
    pub(crate) fn facts(&self, features: Features) -> Option<Arc<Facts>> {
        locked(&self.common.known.facts).get(&features).cloned()
    }

    pub(crate) fn learn_facts(&self, facts: Facts) -> Arc<Facts> {
        let mut known = locked(&self.common.known.facts);
        Arc::clone(known.entry(facts.features).or_insert_with(|| Arc::new(facts)))
    }

    /// A new VM, which has not run.
    pub(crate) fn guest(&self, config: Config) -> Result<Guest, Error> {
        self.machine.guest(config, self.deadline())
    }
}

/// What is known stays true when a case panics.
fn locked<T>(known: &Mutex<T>) -> MutexGuard<'_, T> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
