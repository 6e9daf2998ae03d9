// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A cell: one run on one host.

use crate::{
    cpu_model,
    host::{Build, Host},
    results::{Begin, Case, Outcome, Results, Run, Unavailable},
};
use std::collections::{BTreeMap, BTreeSet};

/// One run on one host, or why it has no results.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The lab's name for the host, or its CPU and platform. If neither is known, the name of the file.
    pub host: String,
    /// The matrix's name for the kernel, or its release; `bare` if there is no kernel.
    pub kernel: Option<String>,
    /// The kernel's release, if it is known.
    pub release: Option<String>,
    /// What distinguishes the kernel from others of the same release.
    pub build: Build,
    /// Its number among the cells of the same host and kernel, from 1.
    pub turn: usize,
    /// The end of its kernel's log, if the lab left one.
    pub log: Option<String>,
    /// What it reported.
    pub reported: Reported,
}

/// What a cell reported.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all are runs")]
pub enum Reported {
    /// Whole results.
    Run(Run),
    /// The results of the cases that ended, and why there are no others.
    Part(Run, String),
    /// That no case can run there.
    Unavailable(Unavailable),
    /// No whole results, for this reason.
    Nothing(String),
}

/// What a bare CPU has in place of a kernel's name.
const BARE: &str = "bare";

impl Cell {
    /// The cell of the results in a file of this name, which is not part of a matrix.
    pub(crate) fn of_file(file: &str, results: Results) -> Self {
        let reported = Reported::from(results);
        match reported.run() {
            Some(run) => {
                let release = run.begin.host.kernel.clone();
                let kernel = Some(release.clone().unwrap_or(BARE.into()));
                let build = run.begin.host.build.clone();
                let host = host_name(&run.begin);
                Self { host, kernel, release, build, turn: 1, log: None, reported }
            }
            None => Self { reported, ..Self::silent(file, String::new()) },
        }
    }

    /// The cell of a file without whole results.
    pub(super) fn silent(file: &str, why: String) -> Self {
        let reported = Reported::Nothing(why);
        Self {
            host: file.to_owned(),
            kernel: None,
            release: None,
            build: Build::default(),
            turn: 1,
            log: None,
            reported,
        }
    }

    /// Its name, for people: `neoverse-v1@newest`. No two cells of a report share one.
    pub fn name(&self) -> String {
        let kernel = self.kernel.as_ref().map(|kernel| format!("@{kernel}")).unwrap_or_default();
        let turn = if self.turn > 1 { format!(" #{}", self.turn) } else { String::new() };
        format!("{}{kernel}{turn}", self.host)
    }

    /// Its run, whether it came to its end or not.
    pub fn run(&self) -> Option<&Run> {
        self.reported.run()
    }

    /// Why there are no results where there should be some.
    pub fn silence(&self) -> Option<&str> {
        match &self.reported {
            Reported::Part(_, why) | Reported::Nothing(why) => Some(why),
            Reported::Run(_) | Reported::Unavailable(_) => None,
        }
    }
}

impl Reported {
    pub(super) fn run(&self) -> Option<&Run> {
        match self {
            Self::Run(run) | Self::Part(run, _) => Some(run),
            Self::Unavailable(_) | Self::Nothing(_) => None,
        }
    }
}

impl From<Results> for Reported {
    fn from(results: Results) -> Self {
        match results {
            Results::Run(run) => Self::Run(run),
            Results::Part(part) => {
                let why = part.why();
                Self::Part(part.run, why)
            }
            Results::Unavailable(unavailable) => Self::Unavailable(unavailable),
        }
    }
}

impl Run {
    /// Whether the run calls this outcome a failure.
    pub(crate) fn fails(&self, outcome: Outcome) -> bool {
        outcome == Outcome::Fail || (self.begin.strict && outcome == Outcome::Xpass)
    }

    /// The cases by suite, the suites in the order in which they ran.
    pub(super) fn suites(&self) -> Vec<(&str, Vec<&Case>)> {
        let mut suites: Vec<(&str, Vec<&Case>)> = Vec::new();
        let mut places = BTreeMap::new();
        for case in &self.cases {
            let place = *places.entry(case.suite()).or_insert_with(|| {
                suites.push((case.suite(), Vec::new()));
                suites.len() - 1
            });
            suites[place].1.push(case);
        }
        suites
    }
}

/// Gives the kernels of one name that are different builds names of their own: the start of the image's digest is appended.
/// Numbers the cells that then share a host and a kernel.
pub(super) fn distinguish(cells: &mut [Cell]) {
    let build = |cell: &Cell| Some(cell.build.short()).filter(|short| !short.is_empty());
    let mut builds: BTreeMap<Option<String>, BTreeSet<String>> = BTreeMap::new();
    for cell in cells.iter() {
        builds.entry(cell.kernel.clone()).or_default().extend(build(cell));
    }
    for cell in cells.iter_mut() {
        if let (Some(kernel), Some(build)) = (&cell.kernel, build(cell))
            && builds[&cell.kernel].len() > 1
        {
            cell.kernel = Some(format!("{kernel}-{build}"));
        }
    }
    let mut turns = BTreeMap::new();
    for cell in cells {
        let turn = turns.entry((cell.host.clone(), cell.kernel.clone())).or_insert(0);
        *turn += 1;
        cell.turn = *turn;
    }
}

fn host_name(begin: &Begin) -> String {
    let Host { midr, platform, .. } = &begin.host;
    begin.lab_host.clone().unwrap_or_else(|| match cpu_model::cpu_name(*midr) {
        "unnamed" => format!("MIDR_EL1 {midr:#010x} on {platform}"),
        cpu => format!("{cpu} on {platform}"),
    })
}
