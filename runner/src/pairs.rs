// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Moves between hosts: scenarios are saved on each host and restored on every other host, and the outcome is
//! compared with the plan.
//!
//! A directory has the files that the hosts exchange. For each host these are `HOST.host.json`, its
//! fingerprint; `HOST.snapshots`, the snapshots that were saved on it; and `HOST.outcomes.json`, the outcomes
//! of the restores on it.

mod outcome;
mod set;
mod table;
#[cfg(test)]
mod tests;

pub use outcome::restore;
pub use set::save;
pub use table::{How, Move, MovePart, Table};

use crate::{
    case::Stop,
    fingerprint::{self, Fingerprint},
    guest,
    plan::{self, Named, Plan},
    snapshot::Problem,
};
use dfr0_model::{scenario::Scenario, shape::Shape};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// A scenario that is saved on one host and restored on another.
#[derive(Clone, Debug)]
pub struct Moved {
    /// A short name.
    pub name: String,
    /// What the guest does.
    pub scenario: Scenario,
    /// The operation after which it is saved.
    pub place: usize,
}

/// The scenarios for a guest of this shape.
pub type Scenarios = fn(Shape) -> Vec<Moved>;

const FINGERPRINT: &str = ".host.json";
const SNAPSHOTS: &str = ".snapshots";
const OUTCOMES: &str = ".outcomes.json";

/// Why a host's part could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The results cannot be written.
    #[error("cannot write the results: {0}")]
    Write(#[from] io::Error),
    /// The content of a file is invalid.
    #[error("{}: {message}", .path.display())]
    Content {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A snapshot of another host is not a bundle.
    #[error("{}, line {line}: {problem}", .path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: Problem,
    },
    /// A fingerprint cannot be used.
    #[error("{0}")]
    Fingerprint(#[from] fingerprint::Error),
    /// The directory does not have the fingerprint of a host.
    #[error("{} has no {name}; first save the fingerprint of each host there: `dfr0 host show --json > {name}`", .directory.display())]
    NoHost {
        /// The directory.
        directory: PathBuf,
        /// The missing file.
        name: String,
    },
    /// The directory has fewer than two hosts.
    #[error("{} has the fingerprints of {count} hosts; a move needs two", .directory.display())]
    TooFew {
        /// The directory.
        directory: PathBuf,
        /// How many there are.
        count: usize,
    },
    /// A host saved no snapshot for another host.
    #[error("{} has no snapshot for the move to {to}", .path.display())]
    NoSnapshot {
        /// The file.
        path: PathBuf,
        /// The target.
        to: String,
    },
    /// KVM is present, but it does not work.
    #[error(transparent)]
    Guest(#[from] guest::Error),
    /// A scenario could not be saved.
    #[error("the scenario `{scenario}` was not saved: {stop}")]
    Save {
        /// Its name.
        scenario: String,
        /// Why.
        stop: Stop,
    },
}

/// The fingerprints in a directory, by the names of the hosts.
struct Hosts {
    directory: PathBuf,
    all: BTreeMap<String, Fingerprint>,
}

impl Hosts {
    fn load(directory: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { path: directory.to_owned(), source };
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_suffix(FINGERPRINT));
            if let Some(name) = name {
                all.insert(name.to_owned(), fingerprint::load(&path)?);
            }
        }
        if all.len() < 2 {
            return Err(Error::TooFew { directory: directory.to_owned(), count: all.len() });
        }
        Ok(Self { directory: directory.to_owned(), all })
    }

    fn get(&self, name: &str) -> Result<&Fingerprint, Error> {
        self.all.get(name).ok_or_else(|| Error::NoHost {
            directory: self.directory.clone(),
            name: format!("{name}{FINGERPRINT}"),
        })
    }

    fn others(&self, name: &str) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str).filter(move |other| *other != name)
    }

    fn path(&self, name: &str, kind: &str) -> PathBuf {
        self.directory.join(format!("{name}{kind}"))
    }

    fn plan(&self, from: &str, to: &str) -> Result<Plan, Error> {
        let named = |name| Ok::<_, Error>(Named { name, fingerprint: self.get(name)? });
        Ok(plan::plan(named(from)?, named(to)?))
    }

    /// ID_AA64DFR0_EL1 of a guest that moves: the value in the plan, or else the value that its host gives to
    /// a new VM.
    fn guest_of(&self, from: &str, plan: &Plan) -> Result<u64, Error> {
        let planned = plan
            .guest
            .as_ref()
            .and_then(|guest| u64::from_str_radix(guest.id_aa64dfr0.trim_start_matches("0x"), 16).ok());
        Ok(planned.unwrap_or(self.get(from)?.id_aa64dfr0()))
    }
}
