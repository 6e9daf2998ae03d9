// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What guests run on: KVM, or a bare CPU if the environment names one.

use crate::{
    bare::{self, Bare},
    fingerprint::Fingerprint,
    guest::{Config, Error, Guest},
    host::Host,
    image::Words,
    kvm::Kvm,
    paper::Paper,
    snapshot::{RestoreError, Restored, Scope, State},
};
use dfr0_model::scenario::Op;
use std::{env, path::Path, time::Duration};

/// Names the directory of a bare CPU, as `lab exec --bare` makes it.
const BARE: &str = "DFR0_BARE";

/// Guests run on a bare CPU.
pub(crate) fn is_bare() -> bool {
    env::var_os(BARE).is_some()
}

/// What guests run on.
#[derive(Debug)]
pub enum Machine {
    /// A vCPU of a VM.
    Kvm(Kvm),
    /// A CPU that a machine gives to the payload alone.
    Bare(Bare),
    /// Nothing runs: cases only list the scenarios that they would run on this host.
    Paper(Host),
}

impl Machine {
    /// The bare CPU that DFR0_BARE names, whose machine answers within `deadline`, or else this host's KVM.
    pub fn open(deadline: Duration) -> Result<Self, Error> {
        match env::var_os(BARE) {
            Some(directory) => Ok(Self::Bare(Bare::open(Path::new(&directory), deadline)?)),
            None => Ok(Self::Kvm(Kvm::open()?)),
        }
    }

    /// Which operations can be done: a bare CPU has no userspace.
    pub fn can(&self) -> fn(Op) -> bool {
        match self {
            Self::Bare(_) => bare::can,
            Self::Paper(host) if host.is_bare() => bare::can,
            Self::Kvm(_) | Self::Paper(_) => |_| true,
        }
    }

    /// The facts of the host, or of the bare CPU.
    pub fn host(&self) -> Result<Host, Error> {
        match self {
            Self::Kvm(kvm) => kvm.host(),
            Self::Bare(bare) => bare.host(),
            Self::Paper(host) => Ok(host.clone()),
        }
    }

    /// The host's fingerprint. A bare CPU has none.
    pub fn fingerprint(&self) -> Result<Fingerprint, Error> {
        match self {
            Self::Kvm(kvm) => kvm.fingerprint(),
            Self::Bare(_) => Err(Error::NoVcpu("a fingerprint is of what KVM gives to a guest".into())),
            Self::Paper(_) => Err(Error::NothingRuns),
        }
    }

    /// A guest in this state, whose payload has its words at these addresses. If this fails, nothing is left
    /// of the guest.
    pub fn restore(
        &self,
        state: &State,
        words: Words,
        scope: Scope,
        deadline: Duration,
    ) -> Result<(Guest, Restored), RestoreError> {
        match self {
            Self::Kvm(kvm) => kvm.restore(state, words, scope, deadline),
            Self::Bare(_) => Err(RestoreError::Host(Error::NoVcpu("a snapshot is of a vCPU".into()))),
            Self::Paper(_) => Err(RestoreError::Host(Error::NothingRuns)),
        }
    }

    /// A guest; it may run for `deadline` at a time.
    pub fn guest(&self, config: Config, deadline: Duration) -> Result<Guest, Error> {
        match self {
            Self::Kvm(kvm) => kvm.guest(config, deadline),
            Self::Bare(bare) => bare.guest(config, deadline),
            Self::Paper(_) => Ok(Guest::on(Paper)),
        }
    }
}
