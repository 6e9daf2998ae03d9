// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The manifest: what a certificate says, and the list of its parts.

use super::Evidence;
use crate::{
    archive::Entry,
    results::{Run, Totals},
};
use serde::{Deserialize, Serialize};
use std::fmt;

pub const FORMAT: &str = "dfr0-certificate";
pub const VERSION: u8 = 2;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: String,
    pub version: u8,
    /// The version of the dfr0 that ran, and the SHA-256 of its program.
    pub dfr0: String,
    pub program_sha256: String,
    pub verdict: Verdict,
    /// For people; not read.
    host: Host,
    /// For people; not read.
    totals: Totals,
    pub parts: Vec<Entry>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Host {
    cpu: String,
    kernel: Option<String>,
    platform: String,
    shape: String,
    lab_host: Option<String>,
}

/// The verdict on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No case departed from the rules.
    Conforms,
    /// Every departure from the rules is known.
    ConformsWithWaivers,
    /// A departure from the rules is not known, or nothing ran.
    DoesNotConform,
}

impl Verdict {
    /// The verdict on these results.
    pub const fn of(totals: &Totals) -> Self {
        match totals {
            Totals { fail: 1.., .. } | Totals { pass: 0, xfail: 0, xpass: 0, .. } => Self::DoesNotConform,
            Totals { xfail: 0, .. } => Self::Conforms,
            _ => Self::ConformsWithWaivers,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Conforms => "conforms",
            Self::ConformsWithWaivers => "conforms, with waivers",
            Self::DoesNotConform => "does not conform",
        })
    }
}

impl Manifest {
    pub fn of(Evidence { run, program_sha256, .. }: &Evidence, parts: Vec<Entry>) -> Self {
        let Run { begin, end, .. } = run;
        Self {
            format: FORMAT.into(),
            version: VERSION,
            dfr0: begin.dfr0.clone(),
            program_sha256: program_sha256.clone(),
            verdict: Verdict::of(&end.totals),
            host: Host {
                cpu: begin.host.cpu(),
                kernel: begin.host.kernel.clone(),
                platform: begin.host.platform.clone(),
                shape: begin.host.shape().to_string(),
                lab_host: begin.lab_host.clone(),
            },
            totals: end.totals,
            parts,
        }
    }
}
