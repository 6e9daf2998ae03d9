// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A CPU on which nothing runs: a case only lists the scenarios that it would run there.

use crate::{
    case::{Case, Session},
    explain::imagined,
    guest::{Cpu, Error, Log},
    payload::Payload,
};
use dfr0_model::{
    event::Event,
    id_write::Answer,
    scenario::{Op, Scenario},
    shape::Shape,
    sysreg::SysReg,
    wire::Bell,
};

/// All scenarios that a case would run on a host with this ID_AA64DFR0_EL1, as far as that does not depend on what KVM
/// and guests answer; and the shapes of their VMs.
pub fn scenarios(case: &Case, id_aa64dfr0: u64) -> Vec<(Shape, Scenario)> {
    case.run(&mut Session::on_paper(imagined(id_aa64dfr0)).listing_all()).listed
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
