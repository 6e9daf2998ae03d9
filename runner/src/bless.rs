// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Drafts of deviations, for what a run found and no deviation lists. A draft has no citation: it does not
//! load until a person has read the rule and filled it in.

use crate::{
    case::{Case, varied},
    expected::Deviations,
    results::{self, How, Outcome, Run},
    visible::one_line,
    whole,
};
use dfr0_model::rule::Rule;
use std::{
    collections::BTreeSet,
    fmt,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Drafts, which print as a file, and messages about the rest.
#[derive(Debug)]
pub struct Drafts {
    /// Where the deviations were seen.
    seen: String,
    /// The platform, if they were seen without KVM: there the platform departs.
    platform: Option<String>,
    drafts: Vec<Draft>,
    /// What was found and is not a draft, and why.
    pub left: Vec<String>,
}

/// What several cases of one rule observed alike.
#[derive(Debug)]
struct Draft {
    name: String,
    rule: &'static Rule,
    cases: Vec<String>,
    observed: Vec<String>,
}

/// A file of drafts that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file exists.
    #[error("{} exists already; --force overwrites it", .0.display())]
    Exists(PathBuf),
    /// The file cannot be written. Nothing was written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Drafts {
    /// A draft for each case of the run that observed what no deviation lists. `all` are the cases of this
    /// dfr0: a result of any other case is an error.
    pub fn new(run: &Run, all: &[Case], deviations: &Deviations) -> Result<Self, String> {
        let host = &run.begin.host;
        let failed: Vec<&results::Case> =
            run.cases.iter().filter(|case| case.outcome == Outcome::Fail).collect();
        let observed_by = |name: &str| -> BTreeSet<&str> {
            let of = failed.iter().filter(|case| case.name == name).flat_map(|case| &case.findings);
            of.map(|finding| finding.observed.as_str()).collect()
        };
        let mut left = Vec::new();
        let mut grouped: Vec<Draft> = Vec::new();
        for result in &failed {
            let name = &result.name;
            let case = all.iter().find(|case| case.name == *name).ok_or_else(|| {
                format!("the results are from another dfr0: this one has no case \"{}\"", one_line(name))
            })?;
            if let Some(stopped) = result.stopped.as_ref().filter(|stopped| stopped.how != How::Skipped) {
                let why = stopped.why.lines().next().unwrap_or_default();
                left.push(format!(
                    "{name}: it did not run to its end, which is never forgiven: {}",
                    one_line(why)
                ));
                continue;
            }
            // A case that varies another one is forgiven what that one shows.
            let varied = varied(name).map(observed_by).unwrap_or_default();
            let mut new = Vec::new();
            for finding in &result.findings {
                let observed = &finding.observed;
                let listing = deviations.of(name).find(|deviation| deviation.observed.contains(observed));
                match listing.map(|deviation| (deviation, deviation.condition.fails_on(host))) {
                    None if varied.contains(observed.as_str()) => {}
                    None => new.push(observed.clone()),
                    Some((_, None)) => {}
                    Some((deviation, Some(why))) => left.push(format!(
                        "{name}: \"{}\" is listed by {}, which does not apply: {why}; its condition may be wrong",
                        one_line(observed),
                        deviation.name
                    )),
                }
            }
            new.sort();
            if new.is_empty() {
                continue;
            }
            match grouped.iter_mut().find(|draft| draft.rule == case.rule && draft.observed == new) {
                Some(draft) => draft.cases.push(name.clone()),
                None => grouped.push(Draft {
                    name: name.replace(['.', '_'], "-"),
                    rule: case.rule,
                    cases: vec![name.clone()],
                    observed: new,
                }),
            }
        }
        for draft in &mut grouped {
            while deviations.get(&draft.name).is_some() {
                draft.name.push_str("-new");
            }
        }
        let kernel = host.kernel.as_ref().map_or("a bare CPU".into(), |release| format!("Linux {release}"));
        Ok(Self {
            seen: one_line(&format!("{kernel}, {}, {}, {}", host.platform, host.cpu(), host.shape())),
            platform: host.is_bare().then(|| host.platform.clone()),
            drafts: grouped,
            left,
        })
    }

    /// The number of new deviations, and of cases that show them.
    pub fn count(&self) -> (usize, usize) {
        (self.drafts.len(), self.drafts.iter().map(|draft| draft.cases.len()).sum())
    }

    /// Writes the file, whole or not at all. It overwrites an existing file only with `force`.
    pub fn write(&self, path: &Path, force: bool) -> Result<(), Error> {
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let mut file = whole::begin(path).map_err(failed)?;
        file.write_all(self.to_string().as_bytes()).map_err(failed)?;
        let placed = if force { whole::end(file, path).map(drop) } else { whole::end_new(file, path) };
        placed.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists(path.to_owned()),
            _ => failed(error),
        })
    }
}

const HEAD: &str = "\
# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
# Drafts by `dfr0 bless`: what a run found and no deviation lists. This file does not load until a person has read the rule
# of each draft again, cited it in `why` and named in `source` what departs from it. docs/expected.md describes the keys,
# and the conditions that restrict a deviation to the hosts that show it.
";

impl fmt::Display for Drafts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}#\n# Seen on {}.", self.seen)?;
        for draft in &self.drafts {
            writeln!(f, "\n# The rule that was tested: {}", draft.rule)?;
            writeln!(f, "[[deviation]]\nname = {}", quoted(&draft.name))?;
            list(f, "cases", &draft.cases)?;
            list(f, "observed", &draft.observed)?;
            writeln!(f, "why = \"\"\nsource = \"\"")?;
            if let Some(platform) = &self.platform {
                writeln!(f, "platform = {}", quoted(platform))?;
                writeln!(f, "# bare = true  # if KVM hides it from these cases")?;
            }
        }
        Ok(())
    }
}

fn list(f: &mut fmt::Formatter<'_>, key: &str, values: &[String]) -> fmt::Result {
    match values {
        [one] => writeln!(f, "{key} = [{}]", quoted(one)),
        _ => {
            writeln!(f, "{key} = [")?;
            values.iter().try_for_each(|value| writeln!(f, "    {},", quoted(value)))?;
            writeln!(f, "]")
        }
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
