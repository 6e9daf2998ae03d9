// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The folder of `lab matrix`: matrix.json lists the cells, and each cell has a folder with its output.
//!
//! It comes from outside, as all results do. Only what a report needs is read.

use super::{Cell, Error, Reported, load::log_in};
use crate::{bounded, host::Build, results};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeSet, io::ErrorKind, path::Path};

/// The file by which the folder of a matrix is known.
pub const FILE: &str = "matrix.json";
/// The version of the file that is read.
const VERSION: u32 = 1;
/// The upper limit of the file, in bytes; anything longer is rejected.
const LONGEST: u64 = 16 << 20;
/// The file in a cell's folder with what its command printed.
const STDOUT: &str = "stdout";

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Deserialize)]
struct Matrix {
    kernels: Vec<Kernel>,
    cells: Vec<Planned>,
}

#[derive(Deserialize)]
struct Kernel {
    name: String,
    release: Option<String>,
    sha256: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Planned {
    host: String,
    kernel: String,
    status: Value,
}

/// All cells of the matrix in `directory`, whatever their status.
pub fn load(directory: &Path) -> Result<Vec<Cell>, Error> {
    let path = directory.join(FILE);
    let content = |message: String| Error::Content { path: path.clone(), message };
    let text = bounded::load(&path, LONGEST).map_err(|source| Error::File { path: path.clone(), source })?;
    let Version { version } = serde_json::from_slice(&text).map_err(|error| content(error.to_string()))?;
    if version != VERSION {
        return Err(content(format!("it has version {version}; this dfr0 reads version {VERSION}")));
    }
    let Matrix { kernels, cells } =
        serde_json::from_slice(&text).map_err(|error| content(error.to_string()))?;
    let mut names = BTreeSet::new();
    for Planned { host, kernel, .. } in &cells {
        if let Some(name) = [host, kernel].into_iter().find(|name| !is_plain(name)) {
            return Err(content(format!("{name:?} is not the name of a host or kernel")));
        }
        if !names.insert((host, kernel)) {
            return Err(content(format!("a second cell of {host}@{kernel}")));
        }
    }
    if cells.is_empty() {
        return Err(content("it has no cell".into()));
    }
    let kernel = |name: &str| kernels.iter().find(|kernel| kernel.name == name);
    Ok(cells.iter().map(|planned| planned.cell(directory, kernel(&planned.kernel))).collect())
}

/// Whether a name is one component of a path.
fn is_plain(name: &str) -> bool {
    let plain = |letter: u8| letter.is_ascii_alphanumeric() || b"._+~-".contains(&letter);
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.bytes().all(plain)
}

impl Planned {
    fn cell(&self, directory: &Path, of_record: Option<&Kernel>) -> Cell {
        let Self { host, kernel, .. } = self;
        let reported = self.reported(directory);
        let of_run = reported.run().map(|run| &run.begin.host);
        let release = of_run.and_then(|host| host.kernel.clone());
        let mut build = of_run.map_or_else(Build::default, |host| host.build.clone());
        if let Some(Kernel { sha256: Some(sha256), source, .. }) = of_record {
            build = Build { sha256: Some(sha256.clone()), source: source.clone(), ..build };
        }
        Cell {
            host: host.clone(),
            kernel: Some(kernel.clone()),
            release: release.or(of_record.and_then(|kernel| kernel.release.clone())),
            build,
            turn: 1,
            log: log_in(&directory.join(format!("{host}@{}", self.kernel))),
            reported,
        }
    }

    fn reported(&self, directory: &Path) -> Reported {
        let Self { host, kernel, status } = self;
        let reported = match results::load(&directory.join(format!("{host}@{kernel}")).join(STDOUT)) {
            Ok(results) => Reported::from(results),
            Err(results::Error::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Reported::Nothing(format!("its folder has no file {STDOUT}"))
            }
            Err(error) => Reported::Nothing(error.to_string()),
        };
        let of = reported.run().and_then(|run| run.begin.lab_host.clone());
        if let Some(other) = of.filter(|name| name != host) {
            return Reported::Nothing(format!("its results are of the host {other:?}"));
        }
        // A run of dfr0 that came to its end exits with 0, 1 or 4.
        if matches!(status.get("exited").and_then(Value::as_u64), Some(0 | 1 | 4)) {
            return reported;
        }
        match reported {
            Reported::Run(run) => Reported::Part(run, ended(status)),
            Reported::Part(run, why) => Reported::Part(run, format!("{}; {why}", ended(status))),
            Reported::Unavailable(_) | Reported::Nothing(_) => Reported::Nothing(ended(status)),
        }
    }
}

/// The status of a command that left no results, in words.
fn ended(status: &Value) -> String {
    let number = |key: &str| status.get(key).and_then(Value::as_u64);
    if let Some(status) = number("exited") {
        return format!("its command exited with {status}");
    } else if let Some(signal) = number("killed") {
        return format!("its command was killed by signal {signal}");
    } else if let Some(seconds) = number("deadline") {
        return format!("its command did not end within {seconds} s");
    }
    match status {
        Value::String(status) => status.replace('-', " "),
        Value::Object(status) => {
            let part = |(how, what): (&String, &Value)| {
                let what = what.as_str().map_or_else(|| what.to_string(), ToOwned::to_owned);
                format!("{}: {what}", how.replace('-', " "))
            };
            status.iter().map(part).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}
