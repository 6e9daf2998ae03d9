// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The place of `kvm` where there is no KVM/arm64: no value of these types exists, so nothing of them can run.

use crate::{
    guest::{Config, Error},
    host::{Host, Unavailable},
};
use dfr0_model::{
    event::Logged,
    id_write::Answer,
    scenario::{Op, Other, Scenario},
    sysreg::SysReg,
};
use std::time::Duration;

/// `/dev/kvm` of an arm64 host.
#[derive(Debug)]
pub enum Kvm {}

/// A VM with one vCPU.
#[derive(Debug)]
pub enum Guest {}

impl Kvm {
    /// There is no KVM/arm64 on this architecture.
    pub fn open() -> Result<Result<Self, Unavailable>, Error> {
        Ok(Err(Unavailable::Architecture { arch: std::env::consts::ARCH }))
    }

    /// The host's facts.
    pub fn host(&self) -> Result<Host, Error> {
        match *self {}
    }

    /// A VM.
    pub fn guest(&self, _: Config, _: Duration) -> Result<Guest, Error> {
        match *self {}
    }
}

impl Guest {
    /// Runs a scenario.
    pub fn run(&mut self, _: &Scenario) -> Result<(Vec<Op>, Vec<Logged>), Error> {
        match *self {}
    }

    /// What other vCPUs did.
    pub fn take_others(&mut self) -> Vec<(Other, Vec<Op>, Vec<Logged>)> {
        match *self {}
    }

    /// KVM_GET_ONE_REG.
    pub fn get(&self, _: SysReg) -> Result<u64, Error> {
        match *self {}
    }

    /// KVM_SET_ONE_REG.
    pub fn set(&self, _: SysReg, _: u64) -> Answer {
        match *self {}
    }
}
