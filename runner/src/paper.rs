// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A CPU on which nothing runs: a case only lists the scenarios that it would run there.

use crate::{
    guest::{Cpu, Error, Log},
    host::Host,
    payload::Payload,
};
use dfr0_model::{
    dfr0::{PMUVER, PMUVER_NI},
    event::Event,
    id_dfr0::{PERFMON, perfmon_of},
    id_write::{Answer, Writable},
    outcome::{Outcome, Unknown},
    pe::Pe,
    scenario::{Op, Scenario},
    shape::Shape,
    sysreg::{
        ID_AA64DFR0_EL1, ID_AA64DFR1_EL1, ID_AA64DFR2_EL1, ID_AA64PFR0_EL1, ID_DFR0_EL1, ID_DFR1_EL1, SysReg,
    },
    vm::{Facts, IdRegister, Model, Vm},
    vmm::Features,
    wire::Bell,
};
use std::{collections::BTreeMap, sync::Arc};

/// What is known of VMs with these features on a host where nothing runs: what the host says, and AArch32 at EL0.
pub fn facts(host: &Host, features: Features) -> Facts {
    const AARCH32: u64 = 0x12;
    const COPDBG: u64 = 6;
    /// PMUVer: PMUv3 for Armv8.4.
    const PMUV3: u8 = 5;
    let has_pmu = features == Features::Pmu;
    let pmuver = if has_pmu { PMUV3 } else { PMUVER_NI };
    let perfmon = perfmon_of(pmuver);
    let register = |default, writable| IdRegister { default, writable };
    let none = Writable::Mask(0);
    let registers = BTreeMap::from([
        (ID_AA64DFR0_EL1, register(PMUVER.with(host.id_aa64dfr0, pmuver), host.writable)),
        (ID_AA64DFR1_EL1, register(0, none)),
        (ID_AA64DFR2_EL1, register(0, none)),
        (ID_AA64PFR0_EL1, register(AARCH32, none)),
        (ID_DFR0_EL1, register(PERFMON.with(COPDBG, perfmon), none)),
        (ID_DFR1_EL1, register(0, none)),
    ]);
    let without = (features != Features::None).then(|| Arc::new(facts(host, Features::None)));
    let (masks, known, listed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    Facts { features, registers, mask_ranges: 1, masks, known, listed, zva_block: None, without }
}

/// What each operation of a scenario may cause on such a host, in a VM of this shape.
pub fn outcomes(host: &Host, shape: Shape, scenario: &Scenario) -> Result<Vec<Outcome>, Unknown> {
    fn of(mut model: impl Model, scenario: &Scenario) -> Result<Vec<Outcome>, Unknown> {
        scenario.ops().iter().map(|op| model.step(*op)).collect()
    }
    match scenario.features() {
        Some(features) => of(Vm::new(Arc::new(facts(host, features))), scenario),
        None => of(Pe::new(shape).with_host(host.shape()), scenario),
    }
}

/// A CPU on which nothing runs.
#[derive(Debug)]
pub struct Paper;

impl Cpu for Paper {
    fn can(&self, _: Op) -> bool {
        false
    }

    fn prepare(&mut self) -> Result<Vec<SysReg>, Error> {
        Err(Error::NothingRuns)
    }

    fn payload(&self) -> Result<&Payload, Error> {
        Err(Error::NothingRuns)
    }

    fn enter(&mut self, _: &mut Log) -> Result<Bell, Error> {
        Err(Error::NothingRuns)
    }

    fn act(&mut self, _: Op) -> Result<Option<Event>, Error> {
        Err(Error::NothingRuns)
    }

    fn get(&self, _: SysReg) -> Result<u64, Error> {
        Err(Error::NothingRuns)
    }

    fn set(&self, _: SysReg, _: u64) -> Result<Answer, Error> {
        Err(Error::NothingRuns)
    }

    fn listed(&self) -> Result<Vec<SysReg>, Error> {
        Err(Error::NothingRuns)
    }

    fn died(&self, _: String) -> Error {
        Error::NothingRuns
    }
}
