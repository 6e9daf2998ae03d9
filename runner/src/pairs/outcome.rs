// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The outcomes of the other hosts' snapshots on a host.

use super::{
    Error, Hosts,
    set::{self, Saved},
};
use crate::{
    case::Session,
    guest::DEADLINE,
    snapshot::{RestoreError, Scope, Snapshot},
};
use serde::{Deserialize, Serialize};
use std::{io::Write, path::Path};

/// The outcome of one restore.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// The events are those that the rules allow.
    Same,
    /// The host does not have a register, or refuses it.
    Refused {
        /// Its name.
        register: String,
        /// The fields that may be the reason.
        fields: Vec<String>,
    },
    /// It was restored without an error, but then events were lost or added, or the guest died.
    SilentLoss {
        /// The operation, what was seen and what is allowed.
        detail: String,
        /// The registers that read as another value after the restore.
        changed: Vec<String>,
    },
    /// It failed for another reason, so nothing is known about the move.
    Failed {
        /// Why.
        why: String,
    },
}

/// The outcome of one scenario.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OfScenario {
    /// Its name.
    pub scenario: String,
    /// The outcome with [`Scope::Debug`].
    pub debug: Outcome,
}

/// The outcomes of the moves from one host to another.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The host where it was saved.
    pub from: String,
    /// The host where it was restored.
    pub to: String,
    /// ID_AA64DFR0_EL1 of the guest.
    pub id_aa64dfr0: String,
    /// The outcome of each scenario with [`Scope::Debug`].
    pub scenarios: Vec<OfScenario>,
    /// The outcome of the first scenario with every register.
    pub whole: Outcome,
}

/// Restores the snapshots that each other host in `directory` saved for `host`, which is this host.
pub fn restore(host: &str, directory: &Path, mut out: impl Write) -> Result<(), Error> {
    let hosts = Hosts::load(directory)?;
    hosts.get(host)?;
    let session = Session::open(DEADLINE)?;
    let mut pairs = Vec::new();
    for from in hosts.others(host) {
        let value = hosts.guest_of(from, &hosts.plan(from, host)?)?;
        let saved = set::load(&hosts, from, host, value)?;
        let resume = |snapshot: &Snapshot, scope| outcome(&session, snapshot, scope);
        let debug = |Saved { scenario, snapshot }: &Saved| OfScenario {
            scenario: scenario.clone(),
            debug: resume(snapshot, Scope::Debug),
        };
        pairs.push(Pair {
            from: from.to_owned(),
            to: host.to_owned(),
            id_aa64dfr0: format!("{value:#x}"),
            scenarios: saved.iter().map(debug).collect(),
            whole: resume(&saved[0].snapshot, Scope::All),
        });
    }
    serde_json::to_writer_pretty(&mut out, &pairs).map_err(std::io::Error::from)?;
    Ok(writeln!(out)?)
}

fn outcome(session: &Session, snapshot: &Snapshot, scope: Scope) -> Outcome {
    match session.resume(snapshot, scope) {
        Ok(resumed) => match &resumed.departure {
            None => Outcome::Same,
            Some(departure) if resumed.is_silent_loss() => Outcome::SilentLoss {
                detail: departure.to_string(),
                changed: resumed.restored.changed.iter().map(ToString::to_string).collect(),
            },
            Some(departure) => Outcome::Failed {
                why: format!("it departed from the rules before it was saved: {departure}"),
            },
        },
        Err(RestoreError::Refused(refused)) => {
            let may = |rule: bool| refused.fields.iter().filter(move |field| field.rule.is_some() == rule);
            let named = if may(true).next().is_some() { may(true) } else { may(false) };
            Outcome::Refused {
                register: refused.register.id.name(),
                fields: named.map(|field| field.name.to_owned()).collect(),
            }
        }
        Err(RestoreError::Missing { register }) => {
            Outcome::Refused { register: register.id.name(), fields: Vec::new() }
        }
        Err(RestoreError::Ran(error)) => {
            Outcome::SilentLoss { detail: error.to_string(), changed: Vec::new() }
        }
        Err(error) => Outcome::Failed { why: error.to_string() },
    }
}
