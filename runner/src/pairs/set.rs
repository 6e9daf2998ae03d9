// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The snapshots that a host saves for the others: one line of JSON per scenario and shape that a plan asks
//! for.

use super::{Error, Hosts, Moved, SNAPSHOTS, Scenarios};
use crate::{
    bounded::Bounded,
    case::Session,
    fingerprint::printable,
    guest::{Config, DEADLINE},
    snapshot::Snapshot,
};
use dfr0_model::shape::Shape;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

/// The upper limit of a file, in bytes; anything longer is rejected. A file has hundreds of snapshots of tens of thousands
/// of bytes.
const LONGEST: u64 = 256 << 20;
/// The upper limit of snapshots of one shape: each may decompress to all of a guest's memory.
const MOST: usize = 256;

/// A line of the file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    scenario: String,
    id_aa64dfr0: String,
    /// The bundle, in hexadecimal digits.
    bundle: String,
}

/// A snapshot that a host saved.
#[derive(Debug)]
pub struct Saved {
    pub scenario: String,
    pub snapshot: Snapshot,
}

/// Saves each scenario in each shape that a plan from `host` to one of the others in `directory` asks for.
pub fn save(host: &str, directory: &Path, scenarios: Scenarios, mut out: impl Write) -> Result<(), Error> {
    let hosts = Hosts::load(directory)?;
    let own = hosts.get(host)?.id_aa64dfr0();
    let mut values = BTreeSet::new();
    for to in hosts.others(host) {
        values.insert(hosts.guest_of(host, &hosts.plan(host, to)?)?);
    }
    let session = Session::open(DEADLINE)?;
    for value in values {
        let config = Config { id_aa64dfr0: (value != own).then_some(value), ..Config::default() };
        for Moved { name, scenario, place } in scenarios(Shape::from_id_aa64dfr0(value)) {
            let snapshot = session
                .snapshot(config, &scenario, place)
                .map_err(|stop| Error::Save { scenario: name.clone(), stop })?;
            let digits = snapshot.to_bytes()?.iter().map(|byte| format!("{byte:02x}")).collect();
            let line = Line { scenario: name, id_aa64dfr0: format!("{value:#x}"), bundle: digits };
            serde_json::to_writer(&mut out, &line).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(out.flush()?)
}

/// The snapshots of `from` for guests with this ID_AA64DFR0_EL1.
pub fn load(hosts: &Hosts, from: &str, to: &str, value: u64) -> Result<Vec<Saved>, Error> {
    let path = hosts.path(from, SNAPSHOTS);
    let failed = |source| Error::File { path: path.clone(), source };
    let file = File::open(&path).map_err(failed)?;
    let mut saved = Vec::new();
    for (line, text) in (1..).zip(BufReader::new(Bounded::new(file, LONGEST)).lines()) {
        let text = text.map_err(failed)?;
        let content = |message: String| Error::Content {
            path: path.clone(),
            message: format!("line {line}: {message}"),
        };
        let parsed: Line =
            serde_json::from_str(&text).map_err(|error| content(printable(&error.to_string())))?;
        if parsed.id_aa64dfr0 != format!("{value:#x}") {
            continue;
        }
        if saved.len() == MOST {
            return Err(content(format!(
                "more than {MOST} snapshots for a guest with ID_AA64DFR0_EL1 {}",
                parsed.id_aa64dfr0
            )));
        }
        let bundle =
            bytes(&parsed.bundle).ok_or_else(|| content("the bundle is not in hexadecimal digits".into()))?;
        let snapshot = Snapshot::from_bytes(&bundle).map_err(|problem| Error::Bundle {
            path: PathBuf::clone(&path),
            line,
            problem,
        })?;
        saved.push(Saved { scenario: parsed.scenario, snapshot });
    }
    if saved.is_empty() {
        return Err(Error::NoSnapshot { path, to: to.to_owned() });
    }
    Ok(saved)
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks_exact(2);
    let whole = pairs.remainder().is_empty();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect::<Option<Vec<u8>>>().filter(|_| whole)
}
