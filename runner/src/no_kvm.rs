// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The place of `kvm` where there is no KVM/arm64: no value of this type exists, so nothing of it can run.

use crate::{
    fingerprint::Fingerprint,
    guest::{Config, Error, Guest},
    host::{Host, Unavailable},
    image::Words,
    snapshot::{RestoreError, Restored, Scope, State},
};
use std::time::Duration;

/// `/dev/kvm` of an arm64 host.
#[derive(Debug)]
pub enum Kvm {}

impl Kvm {
    /// There is no KVM/arm64 on this architecture.
    pub fn open() -> Result<Result<Self, Unavailable>, Error> {
        Ok(Err(Unavailable::Architecture { arch: std::env::consts::ARCH }))
    }

    /// The host's facts.
    pub fn host(&self) -> Result<Host, Error> {
        match *self {}
    }

    /// The host's fingerprint.
    pub fn fingerprint(&self) -> Result<Fingerprint, Error> {
        match *self {}
    }

    /// A VM in this state.
    pub fn restore(
        &self,
        _: &State,
        _: Words,
        _: Scope,
        _: Duration,
    ) -> Result<(Guest, Restored), RestoreError> {
        match *self {}
    }

    /// A VM.
    pub fn guest(&self, _: Config, _: Duration) -> Result<Guest, Error> {
        match *self {}
    }
}
