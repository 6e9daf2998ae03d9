// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Known deviations: what kernels do otherwise than the architecture says, with its citation.
//!
//! A deviation forgives what it lists and nothing else: each thing that a case observed must be listed for that
//! case, word for word, or for the case that it runs in a variation.

use crate::{
    case::{Report, Stop},
    host::Host,
};
use dfr0_model::{dfr0::FIELDS, id_write::Writable};
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The files of `expected/`, as they were when this program was built.
const BUILT_IN: [(&str, &str); 6] = [
    ("breakpoints.toml", include_str!("../../expected/breakpoints.toml")),
    ("double_lock.toml", include_str!("../../expected/double_lock.toml")),
    ("id_regs.toml", include_str!("../../expected/id_regs.toml")),
    ("register_access.toml", include_str!("../../expected/register_access.toml")),
    ("os_lock.toml", include_str!("../../expected/os_lock.toml")),
    ("watchpoints.toml", include_str!("../../expected/watchpoints.toml")),
];

/// A file of deviations.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    deviation: Vec<Deviation>,
}

/// A known departure from a rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// A short name.
    pub name: String,
    /// The cases that show it.
    pub cases: Vec<String>,
    /// What these cases observe, word for word.
    pub observed: Vec<String>,
    /// What the architecture says instead, with the section.
    pub why: String,
    /// Where the kernel does it.
    pub source: String,
    /// The deviation can be seen only where userspace may write this field of ID_AA64DFR0_EL1.
    pub writable: Option<String>,
    /// The deviation is the platform's and not KVM's: it is seen only on a host of this platform.
    pub platform: Option<String>,
    /// The platform's deviation is seen only on a bare CPU: KVM hides it from these cases.
    #[serde(default)]
    pub bare: bool,
}

/// All deviations of a run.
#[derive(Clone, Debug, Default)]
pub struct Deviations(Vec<Deviation>);

/// A file of deviations that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or its directory cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML, or its keys are not those of a deviation; the message has line and column.
    #[error("{file}: {message}")]
    Parse {
        /// Which file.
        file: String,
        /// The parser's message.
        message: String,
    },
    /// An entry says what cannot be.
    #[error("{file}: deviation \"{name}\": {problem}")]
    Entry {
        /// Which file.
        file: String,
        /// Which entry.
        name: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The directory holds no deviations.
    #[error("{} holds no .toml file", .0.display())]
    Empty(PathBuf),
}

/// The outcome of a case, its deviations taken into account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was found.
    Pass,
    /// Something was found that is not listed, or the case could not be run to its end.
    Fail,
    /// The case does not apply.
    Skip,
    /// All that was found is listed under these names.
    XFail(Vec<String>),
    /// Nothing was found, though this is listed.
    XPass(Vec<String>),
}

impl Deviations {
    /// The deviations of `directory`; without one those in `expected/` beside this executable, or else those that
    /// were built in. `cases` are the names of all cases there are.
    pub fn load(directory: Option<&Path>, cases: &[String]) -> Result<Self, Error> {
        let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("expected")));
        match directory.map(Path::to_owned).or(beside.filter(|path| path.is_dir())) {
            Some(directory) => Self::read(&directory, cases),
            None => {
                let files = BUILT_IN.map(|(name, text)| (name.to_owned(), text.to_owned()));
                Self::parse(files, cases)
            }
        }
    }

    /// No deviation is known.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    fn read(directory: &Path, cases: &[String]) -> Result<Self, Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Read { path, source }
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed(directory))? {
            let path = entry.map_err(failed(directory))?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let text = fs::read_to_string(&path).map_err(failed(&path))?;
                files.push((path.display().to_string(), text));
            }
        }
        if files.is_empty() {
            return Err(Error::Empty(directory.to_owned()));
        }
        files.sort();
        Self::parse(files, cases)
    }

    fn parse(files: impl IntoIterator<Item = (String, String)>, cases: &[String]) -> Result<Self, Error> {
        let mut all: Vec<Deviation> = Vec::new();
        for (file, text) in files {
            let parsed: File = toml::from_str(&text)
                .map_err(|error| Error::Parse { file: file.clone(), message: error.to_string() })?;
            for deviation in parsed.deviation {
                let problem = deviation.problem(cases).or_else(|| {
                    all.iter()
                        .any(|other| other.name == deviation.name)
                        .then(|| "its name stands twice".into())
                });
                if let Some(problem) = problem {
                    return Err(Error::Entry { file, name: deviation.name, problem });
                }
                all.push(deviation);
            }
        }
        Ok(Self(all))
    }

    /// The verdict on a case that reported `report` on `host`.
    pub fn verdict(&self, case: &str, host: &Host, report: &Report) -> Verdict {
        match &report.stopped {
            Some(Stop::Skip(_)) if report.findings.is_empty() => return Verdict::Skip,
            Some(Stop::Skip(_)) | None => {}
            Some(_) => return Verdict::Fail,
        }
        let of = |name: &str| -> Vec<&Deviation> {
            let is_listed = |deviation: &&Deviation| deviation.cases.iter().any(|listed| listed == name);
            self.0.iter().filter(is_listed).filter(|deviation| deviation.applies_to(host)).collect()
        };
        let mut listed = of(case);
        if report.findings.is_empty() {
            let names: Vec<String> = listed.iter().map(|deviation| deviation.name.clone()).collect();
            return if names.is_empty() { Verdict::Pass } else { Verdict::XPass(names) };
        }
        // A case that runs another one in a variation is forgiven the same, and need not show it.
        listed.extend(case.split_once('.').map(|(_, varied)| of(varied)).unwrap_or_default());
        let seen = |deviation: &&&Deviation| {
            deviation.observed.iter().any(|observed| report.findings.contains_key(observed))
        };
        let covered = report
            .findings
            .keys()
            .all(|observed| listed.iter().any(|deviation| deviation.observed.contains(observed)));
        if covered {
            Verdict::XFail(listed.iter().filter(seen).map(|deviation| deviation.name.clone()).collect())
        } else {
            Verdict::Fail
        }
    }

    /// The deviation of this name.
    pub fn get(&self, name: &str) -> Option<&Deviation> {
        self.0.iter().find(|deviation| deviation.name == name)
    }
}

impl Deviation {
    fn problem(&self, cases: &[String]) -> Option<String> {
        let blank = |text: &str| text.trim().is_empty();
        if blank(&self.name) || blank(&self.why) || blank(&self.source) {
            return Some("name, why and source must say something".into());
        }
        if self.cases.is_empty() || self.observed.is_empty() {
            return Some("cases and observed must not be empty".into());
        }
        if let Some(unknown) = self.cases.iter().find(|name| !cases.contains(name)) {
            return Some(format!("there is no case \"{unknown}\"; `dfr0 list` prints all"));
        }
        if self.bare && (self.platform.is_none() || self.writable.is_some()) {
            return Some("a deviation of a bare CPU is a platform's, and nothing is writable there".into());
        }
        let field = self.writable.as_deref()?;
        let known = FIELDS.iter().any(|known| known.name == field);
        (!known).then(|| format!("ID_AA64DFR0_EL1 has no field \"{field}\""))
    }

    /// Who departs: the platform, or KVM.
    pub fn whose(&self) -> &'static str {
        if self.platform.is_some() { "the platform" } else { "KVM" }
    }

    fn applies_to(&self, host: &Host) -> bool {
        let writable = self.writable.as_ref().is_none_or(|name| {
            let field = FIELDS.iter().find(|field| field.name == name);
            match (host.writable, field) {
                (Writable::Mask(mask), Some(field)) => mask & field.mask() == field.mask(),
                _ => false,
            }
        });
        let whose = match &self.platform {
            Some(platform) => *platform == host.platform,
            None => !host.is_bare(),
        };
        writable && whose && (host.is_bare() || !self.bare)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Finding;
    use proptest::{collection::vec, prelude::*, sample::Index};

    const ENTRY: &str = "[[deviation]]\nname = \"n\"\ncases = [\"s.a\"]\nobserved = [\"x\", \"y\"]\nwhy = \"w\"\nsource = \"k\"\n";

    fn parse(text: &str) -> Result<Deviations, Error> {
        Deviations::parse([("f.toml".into(), text.into())], &["s.a".into(), "s.b".into()])
    }

    fn host(writable: Writable) -> Host {
        Host {
            kernel: Some("7".into()),
            platform: "p".into(),
            midr: 0,
            id_aa64dfr0: 0,
            writable,
            lse: true,
            guest_debug_breakpoints: 6,
            guest_debug_watchpoints: 4,
            ipa_bits: 40,
        }
    }

    fn found(observed: &[&str]) -> Report {
        let findings =
            observed.iter().map(|seen| (seen.to_string(), Finding { times: 1, detail: "".into() }));
        Report { findings: findings.collect(), ..Report::default() }
    }

    #[test]
    fn what_is_listed_is_forgiven_and_nothing_else() {
        let deviations = parse(ENTRY).expect("valid");
        let host = host(Writable::Unknown);
        let verdict = |case, observed: &[&str]| deviations.verdict(case, &host, &found(observed));
        assert_eq!(verdict("s.a", &["x"]), Verdict::XFail(vec!["n".into()]));
        assert_eq!(verdict("s.a", &["x", "z"]), Verdict::Fail);
        assert_eq!(verdict("s.b", &["x"]), Verdict::Fail);
        assert_eq!(verdict("s.b", &[]), Verdict::Pass);
        assert_eq!(verdict("s.a", &[]), Verdict::XPass(vec!["n".into()]));
    }

    #[test]
    fn a_variation_of_a_case_is_forgiven_what_the_case_is_and_need_not_show_it() {
        let deviations = parse(ENTRY).expect("valid");
        let host = host(Writable::Unknown);
        let verdict = |case, observed: &[&str]| deviations.verdict(case, &host, &found(observed));
        assert_eq!(verdict("v.s.a", &["x"]), Verdict::XFail(vec!["n".into()]));
        assert_eq!(verdict("v.s.a", &["x", "z"]), Verdict::Fail);
        assert_eq!(verdict("v.s.b", &["x"]), Verdict::Fail);
        assert_eq!(verdict("v.s.a", &[]), Verdict::Pass);
    }

    #[test]
    fn a_case_that_could_not_be_run_is_never_forgiven() {
        let deviations = parse(ENTRY).expect("valid");
        let host = host(Writable::Unknown);
        let stopped = |stop| Report { stopped: Some(stop), ..found(&[]) };
        let broken = Stop::Broken(crate::guest::Error::Unfit("x".into()));
        assert_eq!(deviations.verdict("s.a", &host, &stopped(broken)), Verdict::Fail);
        assert_eq!(deviations.verdict("s.a", &host, &stopped(Stop::Skip("no".into()))), Verdict::Skip);
        let late = |observed: &[&str]| Report { stopped: Some(Stop::Skip("no".into())), ..found(observed) };
        let verdict = |observed: &[&str]| deviations.verdict("s.a", &host, &late(observed));
        assert_eq!(verdict(&["z"]), Verdict::Fail, "a skip does not hide a finding");
        assert_eq!(verdict(&["x"]), Verdict::XFail(vec!["n".into()]));
    }

    #[test]
    fn a_condition_keeps_a_deviation_to_the_kernels_that_can_show_it() {
        let deviations = parse(&format!("{ENTRY}writable = \"WRPs\"\n")).expect("valid");
        let verdict =
            |writable, observed: &[&str]| deviations.verdict("s.a", &host(writable), &found(observed));
        assert_eq!(verdict(Writable::Mask(0xf0_0000), &["x"]), Verdict::XFail(vec!["n".into()]));
        assert_eq!(verdict(Writable::Mask(0), &["x"]), Verdict::Fail);
        assert_eq!(verdict(Writable::Unknown, &[]), Verdict::Pass, "not an XPASS: it could not be seen");
    }

    #[test]
    fn a_platforms_deviation_is_not_forgiven_elsewhere() {
        let verdict = |platform: &str| {
            let deviations = parse(&format!("{ENTRY}platform = \"{platform}\"\n")).expect("valid");
            deviations.verdict("s.a", &host(Writable::Unknown), &found(&["x"]))
        };
        assert_eq!(verdict("p"), Verdict::XFail(vec!["n".into()]));
        assert_eq!(verdict("q"), Verdict::Fail);
    }

    #[test]
    fn a_bare_cpu_is_forgiven_the_platforms_deviations_and_none_of_kvms() {
        let bare = Host { kernel: None, ..host(Writable::Unknown) };
        let kvms = parse(ENTRY).expect("valid");
        assert_eq!(kvms.verdict("s.a", &bare, &found(&["x"])), Verdict::Fail);
        assert_eq!(
            kvms.verdict("s.a", &bare, &found(&[])),
            Verdict::Pass,
            "not an XPASS: it could not be seen"
        );
        let platforms = parse(&format!("{ENTRY}platform = \"p\"\n")).expect("valid");
        assert_eq!(platforms.verdict("s.a", &bare, &found(&["x"])), Verdict::XFail(vec!["n".into()]));
        let bares = parse(&format!("{ENTRY}platform = \"p\"\nbare = true\n")).expect("valid");
        assert_eq!(bares.verdict("s.a", &bare, &found(&["x"])), Verdict::XFail(vec!["n".into()]));
        assert_eq!(bares.verdict("s.a", &host(Writable::Unknown), &found(&["x"])), Verdict::Fail);
        assert_eq!(bares.verdict("s.a", &host(Writable::Unknown), &found(&[])), Verdict::Pass);
        let whose = |deviations: &Deviations| deviations.get("n").map(Deviation::whose);
        assert_eq!([whose(&kvms), whose(&platforms)], [Some("KVM"), Some("the platform")]);
    }

    #[test]
    fn errors_name_the_file_and_what_is_wrong() {
        let message = |text: &str| parse(text).expect_err("invalid").to_string();
        assert!(message("[[deviation]]\nnames = \"n\"").contains("f.toml"));
        assert!(message("[[deviation]]\nnames = \"n\"").contains("line 2"));
        assert!(message(&ENTRY.replace("s.a", "s.z")).contains("no case \"s.z\""));
        assert!(message(&ENTRY.replace("\"k\"", "\" \"")).contains("must say something"));
        assert!(message(&ENTRY.replace("[\"x\", \"y\"]", "[]")).contains("must not be empty"));
        assert!(message(&format!("{ENTRY}{ENTRY}")).contains("stands twice"));
        assert!(message(&format!("{ENTRY}bare = true\n")).contains("is a platform's"));
        assert!(message(&format!("{ENTRY}writable = \"WRP\"\n")).contains("no field \"WRP\""));
    }

    #[test]
    fn a_directory_without_deviations_is_an_error_and_not_an_empty_list() {
        let empty = tempfile::tempdir().expect("a directory");
        assert!(matches!(Deviations::read(empty.path(), &[]), Err(Error::Empty(_))));
        assert!(matches!(Deviations::read(&empty.path().join("no"), &[]), Err(Error::Read { .. })));
    }

    proptest! {
        #[test]
        fn an_entry_that_was_changed_is_read_or_refused(edits in vec((any::<Index>(), any::<char>()), 1..6)) {
            let mut text: Vec<char> = ENTRY.chars().chain("writable = \"WRPs\"\n".chars()).collect();
            for (place, new) in edits {
                let place = place.index(text.len());
                text[place] = new;
            }
            if let Ok(deviations) = parse(&text.into_iter().collect::<String>()) {
                prop_assert_eq!(deviations.0[0].problem(&["s.a".into(), "s.b".into()]), None);
            }
        }
    }
}
