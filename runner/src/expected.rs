// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Known deviations: where kernels depart from the architecture, with the citation of what it says.
//!
//! A deviation forgives what it lists and nothing else: each thing that a case observed must be listed for
//! that case, word for word, or for the case that it runs in a variation.

mod condition;
mod entry;

pub use condition::Condition;

use crate::{
    case::{Report, varied},
    diagnostic::{Diagnostic, Source},
    host::Host,
    results::{How, Outcome},
};
use entry::Placed;
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// The files of `expected/`, as they were when this program was built.
const BUILT_IN: [(&str, &str); 12] = [
    ("aarch32.toml", include_str!("../../expected/aarch32.toml")),
    ("breakpoints.toml", include_str!("../../expected/breakpoints.toml")),
    ("double_lock.toml", include_str!("../../expected/double_lock.toml")),
    ("guest_debug.toml", include_str!("../../expected/guest_debug.toml")),
    ("id_regs.toml", include_str!("../../expected/id_regs.toml")),
    ("nested.toml", include_str!("../../expected/nested.toml")),
    ("protected.toml", include_str!("../../expected/protected.toml")),
    ("protected_vms.toml", include_str!("../../expected/protected_vms.toml")),
    ("register_access.toml", include_str!("../../expected/register_access.toml")),
    ("os_lock.toml", include_str!("../../expected/os_lock.toml")),
    ("software_step.toml", include_str!("../../expected/software_step.toml")),
    ("watchpoints.toml", include_str!("../../expected/watchpoints.toml")),
];

/// A known departure from a rule.
#[derive(Clone, Debug)]
pub struct Deviation {
    /// A short name.
    pub name: String,
    /// The cases that show it, by their whole names.
    pub cases: BTreeSet<String>,
    /// What these cases observe, word for word.
    pub observed: Vec<String>,
    /// What the architecture says instead, with the section.
    pub why: String,
    /// Where the kernel or the platform does it.
    pub source: String,
    /// dfr0 cannot ask the host for what decides whether it is seen: a case that does not show it is not an
    /// XPASS.
    pub sometimes: bool,
    /// The hosts that can show it.
    pub condition: Condition,
}

/// All deviations of a run.
#[derive(Clone, Debug, Default)]
pub struct Deviations(Vec<Deviation>);

/// A file of `expected/` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or its directory cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML, has an unknown key, or has a value that cannot be right.
    #[error(transparent)]
    Content(#[from] Diagnostic),
    /// The directory does not contain a .toml file.
    #[error("{} holds no .toml file", .0.display())]
    Empty(PathBuf),
}

/// The outcome of a case, and the deviations that decided it.
pub type Judged<'a> = (Outcome, Vec<&'a Deviation>);

/// The outcome if only a sample of the case's scenarios ran: what the sample does not show need not be gone.
pub fn of_a_sample(judged: Judged<'_>) -> Judged<'_> {
    if judged.0 == Outcome::Xpass { (Outcome::Pass, vec![]) } else { judged }
}

/// The files in `folder` of `directory`. Without a directory, those of `expected/` next to this executable,
/// or else those that were built in.
pub(crate) fn files(
    directory: Option<&Path>,
    folder: &str,
    built_in: &[(&str, &str)],
) -> Result<Vec<Source>, Error> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("expected")));
    match directory.map(Path::to_owned).or(beside.filter(|path| path.is_dir())) {
        Some(directory) => read(&directory.join(folder)),
        None => Ok(built_in.iter().map(Source::built_in).collect()),
    }
}

fn read(directory: &Path) -> Result<Vec<Source>, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(Error::Empty(directory.to_owned()));
    }
    paths.sort();
    let text = |path: PathBuf| {
        let text = fs::read_to_string(&path).map_err(failed(&path))?;
        Ok(Source { name: path.display().to_string(), text })
    };
    paths.into_iter().map(text).collect()
}

impl Deviations {
    /// The deviations of `directory`. Without a directory, those of `expected/` next to this executable, or
    /// else those that were built in. `cases` are the names of all cases.
    pub fn load(directory: Option<&Path>, cases: &[String]) -> Result<Self, Error> {
        Ok(Self::parse(files(directory, "", &BUILT_IN)?, cases)?)
    }

    /// The deviations that were built in.
    pub(crate) fn built_in(cases: &[String]) -> Result<Self, Diagnostic> {
        Self::parse(BUILT_IN.iter().map(Source::built_in), cases)
    }

    /// The text of the files that [`Self::load`] reads, as one file.
    pub fn text(directory: Option<&Path>) -> Result<String, Error> {
        Ok(files(directory, "", &BUILT_IN)?.into_iter().map(|file| file.text + "\n").collect())
    }

    /// No known deviations.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn parse(
        files: impl IntoIterator<Item = Source>,
        cases: &[String],
    ) -> Result<Self, Diagnostic> {
        let mut all: Vec<Placed> = Vec::new();
        for file in files {
            for entry in entry::read(file, cases)? {
                all.iter().try_for_each(|earlier| entry.check_beside(earlier, cases))?;
                all.push(entry);
            }
        }
        Ok(Self(all.into_iter().map(|entry| entry.deviation).collect()))
    }

    /// The outcome of a case that reported `report` on `host`.
    pub fn outcome(&self, case: &str, host: &Host, report: &Report) -> Judged<'_> {
        let observed = report.findings.keys().map(String::as_str).collect();
        self.judge(case, host, &observed, report.stopped.as_ref().map(How::from))
    }

    /// The outcome of a case that observed this on `host`, and the deviations that list some of it. `stopped` says how
    /// it ended early, if it did.
    pub fn judge(
        &self,
        case: &str,
        host: &Host,
        observed: &BTreeSet<&str>,
        stopped: Option<How>,
    ) -> Judged<'_> {
        let applying = || self.of(case).filter(|deviation| deviation.condition.fails_on(host).is_none());
        let died = matches!(stopped, Some(How::Died | How::Broken));
        if observed.is_empty() && stopped.is_some() {
            return (if died { Outcome::Fail } else { Outcome::Skip }, vec![]);
        }
        if observed.is_empty() {
            // A case that varies another one is forgiven the same, but need not show it.
            let known: Vec<&Deviation> = applying()
                .filter(|deviation| deviation.cases.contains(case) && !deviation.sometimes)
                .collect();
            return (if known.is_empty() { Outcome::Pass } else { Outcome::Xpass }, known);
        }
        let is_seen = |deviation: &&Deviation| observed.iter().any(|seen| deviation.lists(seen));
        let known: Vec<&Deviation> = applying().filter(is_seen).collect();
        let is_known = |seen: &str| known.iter().any(|deviation| deviation.lists(seen));
        let fails = died || observed.iter().any(|seen| !is_known(seen));
        (if fails { Outcome::Fail } else { Outcome::Xfail }, known)
    }

    /// The deviation of this name.
    pub fn get(&self, name: &str) -> Option<&Deviation> {
        self.0.iter().find(|deviation| deviation.name == name)
    }

    /// The deviations that a case is forgiven where they apply, its own and those of the case that it varies.
    pub fn of(&self, case: &str) -> impl Iterator<Item = &Deviation> {
        self.0.iter().filter(move |deviation| deviation.forgives(case))
    }
}

impl Deviation {
    /// Who departs: the platform, or KVM.
    pub fn whose(&self) -> &'static str {
        if self.condition.platform.is_some() { "the platform" } else { "KVM" }
    }

    /// Whether it lists this observation.
    pub fn lists(&self, observed: &str) -> bool {
        self.observed.iter().any(|listed| listed == observed)
    }

    /// Whether it is listed for the case, or for the one that the case varies.
    fn forgives(&self, case: &str) -> bool {
        self.cases.contains(case) || varied(case).is_some_and(|varied| self.cases.contains(varied))
    }
}

#[cfg(test)]
mod tests;
