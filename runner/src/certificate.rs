// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Certificates: everything that dfr0 found on a host, in one archive that another machine can check.
//!
//! The raw results and the deviations that were known to the run decide: [`verify`] judges the results again
//! and trusts no verdict in the archive, neither that on a case nor that on the host. The waivers are derived
//! from the results again and compared. Reports are not in the archive: `dfr0 report` makes them of its
//! results. A certificate shows that nothing in it was changed since, by accident or by carelessness; only a
//! signature of the file shows who made it.

mod bsa;
mod kernel;
mod manifest;
#[cfg(test)]
mod tests;
mod verify;

pub use kernel::Kernel;
pub use manifest::Verdict;
pub use verify::{Certificate, Problem, is_one, read, run, verify};

use crate::{
    archive::{Entry, Kind},
    fingerprint::Fingerprint,
    results::{Lines, Outcome, Run, Writer},
};
use manifest::{Manifest, VERSION};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io};

const MANIFEST: &str = "manifest.json";
const RESULTS: &str = "results.jsonl";
const EXPECTED: &str = "expected.toml";
const FINGERPRINT: &str = "fingerprint.json";
const WAIVERS: &str = "waivers.json";
const COMMAND_LINE: &str = "kernel-cmdline.txt";
/// The kernel's configuration as it was found, text or gzip.
const CONFIGS: [&str; 2] = ["kernel-config.txt", "kernel-config.gz"];

/// The container of a certificate.
const KIND: Kind = Kind {
    name: "dfr0certificate",
    version: VERSION,
    parts: &[MANIFEST, RESULTS, EXPECTED, FINGERPRINT, WAIVERS, COMMAND_LINE, CONFIGS[0], CONFIGS[1]],
    longest: 32 << 20,
    longest_parts: 27,
};

/// What a certificate is made of.
#[derive(Debug)]
pub struct Evidence {
    /// The results of every case.
    pub run: Run,
    /// The text of the deviations that were known to the run.
    pub expected: String,
    /// The host.
    pub fingerprint: Fingerprint,
    /// The SHA-256 of the program that ran, in hexadecimal digits.
    pub program_sha256: String,
    /// The host's kernel.
    pub kernel: Kernel,
}

impl Evidence {
    /// Writes the certificate.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut parts = vec![
            (RESULTS, lines(&self.run)?),
            (EXPECTED, self.expected.clone().into_bytes()),
            (FINGERPRINT, self.fingerprint.to_json().into_bytes()),
            (WAIVERS, json(&waivers(&self.run))?),
            (COMMAND_LINE, self.kernel.command_line.clone()),
        ];
        parts.extend(self.kernel.config.clone());
        let manifest = Manifest::of(self, parts.iter().map(Entry::of).collect());
        parts.insert(0, (MANIFEST, json(&manifest)?));
        KIND.write(&parts)
    }
}

fn lines(run: &Run) -> io::Result<Vec<u8>> {
    let mut lines = Lines(Vec::new());
    run.records().try_for_each(|record| lines.write(&record))?;
    Ok(lines.0)
}

fn json(what: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(what)?;
    text.push(b'\n');
    Ok(text)
}

/// A deviation that was seen, and what it excuses.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// Its name.
    pub name: String,
    /// Who departs from the architecture.
    pub whose: String,
    /// What the architecture says instead.
    pub why: String,
    /// Where the kernel or platform does it.
    pub source: String,
    /// The cases that showed it.
    pub cases: Vec<String>,
}

/// The deviations that were seen, by name.
fn waivers(run: &Run) -> Vec<Waiver> {
    let mut waivers: BTreeMap<&str, Waiver> = BTreeMap::new();
    for case in run.cases.iter().filter(|case| case.outcome == Outcome::Xfail) {
        for deviation in &case.deviations {
            let waiver = waivers.entry(&deviation.name).or_insert_with(|| Waiver {
                name: deviation.name.clone(),
                whose: deviation.whose.clone(),
                why: deviation.why.clone(),
                source: deviation.source.clone(),
                cases: Vec::new(),
            });
            waiver.cases.push(case.name.clone());
        }
    }
    waivers.into_values().collect()
}
