// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What was seen of a defect.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::list::Defect;

/// What tests saw of a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The cases that failed.
    pub failed: Vec<String>,
    /// Why the host ended before its tests did, if so.
    pub died: Option<String>,
}

impl Seen {
    /// Whether they saw anything.
    pub fn something(&self) -> bool {
        !self.failed.is_empty() || self.died.is_some()
    }
}

/// A defect and what was seen of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The digest of all that `dfr0` depends on. If it differs, dfr0 runs again.
    pub key: String,
    /// [`Defect::digest`]; none of a kernel without a defect.
    pub digest: Option<String>,
    /// The kernel's source.
    pub source: String,
    /// The host.
    pub host: String,
    /// What dfr0 saw.
    pub dfr0: Seen,
    /// The digest of all that `upstream` depends on; none, if upstream's tests were not run.
    pub upstream_key: Option<String>,
    /// Which of upstream's own tests failed, of those that were run.
    pub upstream: BTreeMap<String, bool>,
}

impl Verdict {
    /// Whether one of upstream's tests failed where dfr0 saw nothing.
    pub fn only_upstream(&self) -> bool {
        !self.dfr0.something() && self.upstream.values().any(|failed| *failed)
    }

    /// Whether it survives without a reason.
    pub fn is_gap(&self, defect: &Defect) -> bool {
        !self.dfr0.something() && defect.survives.is_none()
    }
}

/// The names of the cases that failed, in a stream of dfr0's results. Lines that are none of its records are left out: the
/// stream ends anywhere if its host dies.
pub fn failed_cases(stream: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Case {
        record: String,
        name: String,
        outcome: String,
    }
    let cases = stream.lines().filter_map(|line| serde_json::from_str::<Case>(line).ok());
    cases.filter(|case| case.record == "case" && case.outcome == "fail").map(|case| case.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_cases_are_found_in_a_stream_that_ends_anywhere() {
        let stream = "{\"record\":\"begin\",\"cases\":3}\n\
                      {\"record\":\"case\",\"name\":\"a.b\",\"outcome\":\"fail\",\"checks\":1}\n\
                      {\"record\":\"case\",\"name\":\"a.c\",\"outcome\":\"xfail\",\"checks\":1}\n\
                      {\"record\":\"case\",\"name\":\"a.d\",\"outc";
        assert_eq!(failed_cases(stream), ["a.b"]);
    }
}
