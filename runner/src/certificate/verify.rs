// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The check of a certificate on another machine: whatever can be computed again is not trusted.

use super::{
    EXPECTED, FINGERPRINT, KIND, MANIFEST, RESULTS, Verdict, WAIVERS, Waiver,
    bsa::{self, Kept},
    manifest::{FORMAT, Manifest, VERSION},
    waivers,
};
use crate::{
    archive::{self, Entry, Part},
    bounded,
    diagnostic::Source,
    expected::Deviations,
    fingerprint,
    host::Host,
    report::count,
    results::{self, Case, Outcome, Run},
};
use serde::Serialize;
use std::{collections::BTreeSet, fmt, io, path::Path};

const MAKE_ONE: &str = "`dfr0 certify --out FILE` writes one";

/// A certificate that was checked.
#[derive(Debug)]
pub struct Certificate {
    /// The verdict, computed again.
    pub verdict: Verdict,
    run: Run,
    program_sha256: String,
    waivers: Vec<Waiver>,
    /// What could not be checked, or is worth knowing.
    notes: Vec<String>,
}

/// What is wrong with a certificate.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Its container is invalid, or it was changed.
    #[error("not a dfr0 certificate: {0}; {MAKE_ONE}")]
    Archive(archive::Problem),
    /// Its format has another version.
    #[error(
        "a certificate of version {0}, but this dfr0 reads version {VERSION}: certify the host again with \
         `dfr0 certify --out FILE`, or verify this one with the dfr0 that wrote it"
    )]
    Version(u64),
    /// A part is missing, or its content is invalid.
    #[error("{part}: {what}")]
    Part {
        /// The part.
        part: &'static str,
        /// What is wrong.
        what: String,
    },
}

impl From<archive::Problem> for Problem {
    fn from(problem: archive::Problem) -> Self {
        match problem {
            archive::Problem::Version { version, .. } => Self::Version(version),
            problem => Self::Archive(problem),
        }
    }
}

impl Problem {
    fn of<E: ToString>(part: &'static str) -> impl FnOnce(E) -> Self {
        move |what| Self::Part { part, what: what.to_string() }
    }
}

/// The bytes of a file that is no longer than a certificate may be; `-` is standard input.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    bounded::load(path, KIND.longest)
}

/// Whether these bytes begin as a certificate does, of any version.
pub fn is_one(bytes: &[u8]) -> bool {
    KIND.begins(bytes)
}

/// The results in a certificate. Whether they are right is not checked.
pub fn run(bytes: &[u8]) -> Result<Run, Problem> {
    Parts::of(bytes)?.run()
}

/// The parts of a certificate, which are those that its manifest lists.
struct Parts {
    manifest: Manifest,
    parts: Vec<Part>,
}

impl Parts {
    fn of(bytes: &[u8]) -> Result<Self, Problem> {
        let parts = KIND.read(bytes)?;
        let manifest: Manifest =
            serde_json::from_slice(find(&parts, MANIFEST)?).map_err(Problem::of(MANIFEST))?;
        if (manifest.format.as_str(), manifest.version) != (FORMAT, VERSION) {
            return Err(Problem::of(MANIFEST)("it has another format"));
        }
        Entry::check(&manifest.parts, &parts[1..])?;
        Ok(Self { manifest, parts })
    }

    fn get(&self, name: &'static str) -> Result<&[u8], Problem> {
        find(&self.parts, name)
    }

    fn run(&self) -> Result<Run, Problem> {
        let results = results::read(self.get(RESULTS)?).map_err(Problem::of(RESULTS))?;
        results.whole().map_err(Problem::of(RESULTS))
    }
}

fn find<'a>(parts: &'a [Part], name: &'static str) -> Result<&'a [u8], Problem> {
    let found = parts.iter().find(|(part, _)| *part == name);
    found.map(|(_, bytes)| bytes.as_slice()).ok_or_else(|| Problem::of(name)("it is missing"))
}

/// Checks a certificate; `cases` are the names of all cases of this dfr0.
pub fn verify(bytes: &[u8], cases: &[String]) -> Result<Certificate, Problem> {
    let parts = Parts::of(bytes)?;
    let run = parts.run()?;
    let waivers = waivers(&run);
    let listed: Vec<Waiver> = serde_json::from_slice(parts.get(WAIVERS)?).map_err(Problem::of(WAIVERS))?;
    if listed != waivers {
        return Err(Problem::of(WAIVERS)(format!("it does not say the same as {RESULTS}")));
    }
    let manifest = &parts.manifest;
    if manifest.dfr0 != run.begin.dfr0 {
        return Err(Problem::of(MANIFEST)("it names another version of dfr0 than the results"));
    }
    check_host(&run, parts.get(FINGERPRINT)?).map_err(Problem::of(FINGERPRINT))?;
    check_outcomes(&run, parts.get(EXPECTED)?)?;
    let verdict = Verdict::of(&run.end.totals);
    if verdict != manifest.verdict {
        let (says, is) = (manifest.verdict, verdict);
        return Err(Problem::of(MANIFEST)(format!(
            "it says that the host {says}, but by the results it {is}"
        )));
    }
    let is_same = manifest.dfr0 == env!("CARGO_PKG_VERSION");
    let mut notes = Vec::new();
    if is_same {
        check_cases(&run, cases).map_err(Problem::of(RESULTS))?;
    } else {
        notes.push(format!(
            "it was made by dfr0 {}: only that version can check whether these are all of its cases",
            run.begin.dfr0
        ));
    }
    if run.begin.every > 1 {
        return Err(Problem::of(RESULTS)("only a sample of the scenarios ran"));
    }
    notes.extend(strange(&waivers, cases, is_same));
    if run.begin.lab_host.is_some() {
        notes.push("the host is a lab host: its KVM is real, its CPU is emulated".into());
    }
    Ok(Certificate { verdict, run, program_sha256: parts.manifest.program_sha256, waivers, notes })
}

/// Checks that the fingerprint is that of the host that ran.
fn check_host(run: &Run, bytes: &[u8]) -> Result<(), String> {
    let fingerprint = fingerprint::parse(bytes).map_err(|problem| problem.to_string())?;
    let host = &run.begin.host;
    let dfr0 = fingerprint.id_registers.get(&dfr0_model::sysreg::ID_AA64DFR0_EL1).copied();
    let same = host.kernel.as_ref() == Some(&fingerprint.kernel)
        && fingerprint.midr() == Some(host.midr)
        && dfr0 == Some(host.id_aa64dfr0)
        && fingerprint.platform.as_ref() == Some(&host.platform);
    if same { Ok(()) } else { Err("it is that of another host than the results".into()) }
}

/// Checks that each case's outcome follows from its findings and the deviations.
fn check_outcomes(run: &Run, expected: &[u8]) -> Result<(), Problem> {
    let text = String::from_utf8(expected.to_vec()).map_err(Problem::of(EXPECTED))?;
    let names: Vec<String> = run.cases.iter().map(|case| case.name.clone()).collect();
    let source = Source { name: EXPECTED.into(), text };
    let deviations = Deviations::parse([source], &names).map_err(Problem::of(EXPECTED))?;
    for case in &run.cases {
        let observed: BTreeSet<&str> =
            case.findings.iter().map(|finding| finding.observed.as_str()).collect();
        let stopped = case.stopped.as_ref().map(|stopped| stopped.how);
        let (outcome, known) = deviations.judge(&case.name, &run.begin.host, &observed, stopped);
        if outcome != case.outcome {
            let problem = format!(
                "{} is {:?} by its findings, but the results say {:?}",
                case.name, outcome, case.outcome
            );
            return Err(Problem::of(RESULTS)(problem));
        }
        if !known.into_iter().map(results::Deviation::from).eq(case.deviations.iter().cloned()) {
            return Err(Problem::of(RESULTS)(format!(
                "{} names other deviations than {EXPECTED}",
                case.name
            )));
        }
    }
    Ok(())
}

/// Checks that every case ran, and no other.
fn check_cases(run: &Run, cases: &[String]) -> Result<(), String> {
    let ran: BTreeSet<&str> = run.cases.iter().map(|case| case.name.as_str()).collect();
    let all: BTreeSet<&str> = cases.iter().map(String::as_str).collect();
    match (all.difference(&ran).next(), ran.difference(&all).next()) {
        (Some(missing), _) => Err(format!("{missing} did not run, but a certificate needs every case")),
        (None, Some(stranger)) => Err(format!("there is no case {stranger}")),
        (None, None) => Ok(()),
    }
}

/// Names the waivers that this dfr0 does not know, or knows with another reason or source.
fn strange(waivers: &[Waiver], cases: &[String], is_same: bool) -> Option<String> {
    let known = is_same.then(|| Deviations::built_in(cases).ok()).flatten()?;
    let is_known = |waiver: &&Waiver| {
        let known = known.get(&waiver.name).map(results::Deviation::from);
        known.is_some_and(|known| (&known.why, &known.source) == (&waiver.why, &waiver.source))
    };
    let own: Vec<&str> =
        waivers.iter().filter(|waiver| !is_known(waiver)).map(|waiver| waiver.name.as_str()).collect();
    (!own.is_empty())
        .then(|| format!("these waivers are not among the deviations of dfr0 itself: {}", own.join(", ")))
}

/// What a certificate says, as JSON.
#[derive(Serialize)]
struct Said<'a> {
    format: &'static str,
    version: u32,
    verdict: Verdict,
    host: &'a Host,
    lab_host: Option<&'a str>,
    dfr0: &'a str,
    program_sha256: &'a str,
    totals: results::Totals,
    waivers: &'a [Waiver],
    bsa: [bsa::Kept; 2],
    failed: Vec<&'a str>,
    notes: &'a [String],
}

impl Serialize for Certificate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Run { begin, cases, end } = &self.run;
        let failed = cases.iter().filter(|case| case.outcome == Outcome::Fail);
        let said = Said {
            format: "dfr0-verified",
            version: 1,
            verdict: self.verdict,
            host: &begin.host,
            lab_host: begin.lab_host.as_deref(),
            dfr0: &begin.dfr0,
            program_sha256: &self.program_sha256,
            totals: end.totals,
            waivers: &self.waivers,
            bsa: bsa::rules(begin.host.shape()),
            failed: failed.map(|case| case.name.as_str()).collect(),
            notes: &self.notes,
        };
        said.serialize(serializer)
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { begin, end, .. } = &self.run;
        writeln!(f, "{}dfr0: {} (sha256 {})", begin.host, begin.dfr0, self.program_sha256)?;
        let results::Totals { pass, fail, xfail, xpass, skip } = end.totals;
        writeln!(f, "totals: pass:{pass} fail:{fail} xfail:{xfail} xpass:{xpass} skip:{skip}")?;
        for waiver in &self.waivers {
            writeln!(
                f,
                "waiver {} of {}, in {}: {}",
                waiver.name,
                waiver.whose,
                count(waiver.cases.len(), "case"),
                waiver.why
            )?;
        }
        for Case { name, rule, .. } in self.run.cases.iter().filter(|case| case.outcome == Outcome::Fail) {
            writeln!(f, "failed {name}: {rule}")?;
        }
        for Kept { rule, requires, has, kept } in bsa::rules(begin.host.shape()) {
            let kept = if kept { "kept" } else { "not kept" };
            writeln!(f, "BSA {rule} ({requires}): {kept} for a guest, which has {has}")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        writeln!(f, "verdict: this host {}", self.verdict)
    }
}
