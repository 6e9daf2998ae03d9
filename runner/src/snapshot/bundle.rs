// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A snapshot as a bundle.

use super::{
    Pages, Snapshot, State,
    manifest::{self, Manifest},
    records,
};
use crate::{
    archive::{self, Kind},
    fingerprint::{self, printable},
};
use dfr0_model::{
    outcome::Unknown,
    scenario::{Migrate, Op, Scenario},
    text, wire,
};
use std::io;

const MANIFEST: &str = "manifest.json";
const FINGERPRINT: &str = "fingerprint.json";
const VCPUS: [&str; 2] = ["vcpu0.json", "vcpu1.json"];
const MEMORY: &str = "memory.bin";
const SCENARIO: &str = "scenario.txt";
const SEEN: &str = "seen.json";
const EXPECTED: &str = "expected.txt";

const MAKE_ONE: &str = "`dfr0 snapshot save` writes a bundle";

/// The container of a bundle.
pub(super) const KIND: Kind = Kind {
    name: "dfr0snapshot",
    version: manifest::VERSION,
    parts: &[MANIFEST, FINGERPRINT, VCPUS[0], VCPUS[1], MEMORY, SCENARIO, SEEN, EXPECTED],
    longest: 8 << 20,
    longest_parts: 25,
};

/// What is wrong with a bundle.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Its container is invalid.
    #[error("not a dfr0 bundle: {0}; {MAKE_ONE}")]
    Archive(#[from] archive::Problem),
    /// A part is missing, or is not what the manifest says.
    #[error("{part}: {what}")]
    Part {
        /// The part.
        part: &'static str,
        /// What is wrong.
        what: String,
    },
}

impl Problem {
    pub(super) fn part(part: &'static str) -> impl FnOnce(String) -> Self {
        move |what| Self::Part { part, what: printable(&what) }
    }
}

impl Snapshot {
    /// Writes the bundle.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let expected = self.expected().map_err(io::Error::other)?;
        let mut parts = vec![(FINGERPRINT, self.fingerprint.to_json().into_bytes())];
        for (name, registers) in VCPUS.into_iter().zip(&self.state.vcpus) {
            parts.push((name, records::write_registers(registers)?));
        }
        parts.extend([
            (MEMORY, self.state.memory.0.values().flatten().copied().collect()),
            (SCENARIO, self.scenario.to_string().into_bytes()),
            (SEEN, records::write_events(&self.seen)?),
            (EXPECTED, expected.into_bytes()),
        ]);
        let manifest = Manifest::of(self, &parts).to_json()?;
        parts.insert(0, (MANIFEST, manifest));
        KIND.write(&parts)
    }

    /// Reads the snapshot in a bundle.
    pub fn from_bytes(bundle: &[u8]) -> Result<Self, Problem> {
        let parts = KIND.read(bundle)?;
        let part = |name| {
            let found = parts.iter().find(|(part, _)| *part == name);
            found
                .map(|(_, bytes)| bytes.as_slice())
                .ok_or_else(|| Problem::part(name)("it is missing".into()))
        };
        let manifest = Manifest::read(part(MANIFEST)?, MANIFEST)?;
        manifest.check_parts(&parts[1..])?;
        let fingerprint = fingerprint::parse(part(FINGERPRINT)?)
            .map_err(|problem| Problem::part(FINGERPRINT)(problem.to_string()))?;
        let vcpus = VCPUS[..manifest.vcpus()]
            .iter()
            .map(|name| records::read_registers(part(name)?).map_err(Problem::part(name)))
            .collect::<Result<_, _>>()?;
        let memory = Pages(manifest.pages(part(MEMORY)?).map_err(Problem::part(MEMORY))?);
        let scenario = scenario(part(SCENARIO)?).map_err(Problem::part(SCENARIO))?;
        let seen = records::read_events(part(SEEN)?).map_err(Problem::part(SEEN))?;
        // This part is for people. It must be present, and the digests cover it.
        part(EXPECTED)?;
        let snapshot = Self {
            dfr0: manifest.dfr0().into(),
            fingerprint,
            words: manifest.words(),
            zva_block: manifest.zva_block(),
            scenario,
            done: manifest.done(),
            seen,
            state: State { vcpus, memory },
        };
        snapshot.check(&manifest).map_err(Problem::part(MANIFEST))?;
        Ok(snapshot)
    }

    /// Checks that the parts agree with each other.
    fn check(&self, manifest: &Manifest) -> Result<(), String> {
        if !self.fingerprint.lists_all() {
            return Err(format!("{FINGERPRINT} was written by another program"));
        }
        if manifest.vcpus() != self.state.vcpus.len() || self.state.vcpus.is_empty() {
            return Err("it has another number of vCPUs than the bundle".into());
        }
        if self.state.get(dfr0_model::sysreg::ID_AA64DFR0_EL1) != Some(manifest.id_aa64dfr0()) {
            return Err(format!(
                "it says ID_AA64DFR0_EL1 {:#x}, but {} has another value or none",
                manifest.id_aa64dfr0(),
                VCPUS[0]
            ));
        }
        let last = self.done.checked_sub(1).and_then(|last| self.scenario.ops().get(last));
        if last != Some(&Op::Migrate(Migrate::FreshVm)) {
            return Err(format!(
                "it says that {} operations are done, but the last of them is not `{}`",
                self.done,
                Op::Migrate(Migrate::FreshVm)
            ));
        }
        if let Some(logged) = self.seen.iter().find(|logged| logged.op >= self.done) {
            return Err(format!("there is an event of operation {}, which is not done", logged.op));
        }
        if manifest.words_in_order().into_iter().any(|word| !manifest::is_word(word)) {
            return Err("the payload's words are outside of its memory".into());
        }
        Ok(())
    }

    /// What the rules allow for each operation that is left, in words.
    pub(super) fn expected(&self) -> Result<String, Unknown> {
        let mut pe = self.pe();
        let mut text = String::new();
        for (place, op) in self.scenario.ops().iter().enumerate() {
            let outcome = pe.step(*op)?;
            if place < self.done {
                continue;
            }
            text.push_str(&format!("{place:4}  {op}\n"));
            for (number, allowed) in outcome.alternatives().enumerate() {
                let what = if number == 0 { "allowed:" } else { "or:" };
                let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
                let allowed = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", then ") };
                text.push_str(&format!("        {what} {allowed}\n"));
            }
            text.push_str(&format!("        rule: {}\n", outcome.rule));
        }
        Ok(text)
    }
}

fn scenario(bytes: &[u8]) -> Result<Scenario, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let scenario: Scenario = text.parse().map_err(|error: text::Error| error.to_string())?;
    // The payload cannot do such an operation, so dfr0 did not save it.
    match scenario.ops().iter().find(|op| wire::encode(**op).is_none()) {
        Some(op) => Err(format!("the payload cannot do `{op}`")),
        None => Ok(scenario),
    }
}
