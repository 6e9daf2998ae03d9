// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Results in words, for people.

use super::{Begin, Case, Departed, Detail, Elsewhere, Finding, Outcome, Why};
use crate::replay;
use std::fmt;

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.iter().try_for_each(|name| write!(f, "{name}: "))?;
        write!(f, "{} ({})", self.says, self.section)
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Scenario(departed) => departed.fmt(f),
        }
    }
}

impl fmt::Display for Departed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(how) = &self.how {
            writeln!(f, "{how}:")?;
        }
        let what = if self.undoing { ", while the scenario before was undone" } else { "" };
        writeln!(f, "in a VM of {}{what}:", self.shape)?;
        f.write_str(&listing(&self.operations))?;
        self.mismatch.fmt(f)
    }
}

/// Operations, one per line, as `dfr0 replay` reads them.
pub fn listing(operations: &[impl fmt::Display]) -> String {
    operations.iter().enumerate().map(|(place, operation)| format!("{place:4}  {operation}\n")).collect()
}

impl Begin {
    /// What runs and where, for the head of its results.
    pub fn heading(&self) -> String {
        let taints = if self.taints {
            "taints the kernel (TAINT_USER): this run creates protected VMs, if KVM has them\n"
        } else {
            ""
        };
        let cpus = self.cpus.iter().map(|cpus| format!("cpus: {cpus}\n")).collect::<String>();
        format!("{}{cpus}{taints}", self.host)
    }
}

impl Case {
    /// The explanation of a case's result; empty if it passed.
    pub fn explained(&self) -> String {
        let mut text = String::new();
        let mut say = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        self.shown.lines().for_each(&mut say);
        match self.outcome {
            Outcome::Pass | Outcome::Skip => {}
            Outcome::Xpass => {
                let names: Vec<&str> =
                    self.deviations.iter().map(|deviation| deviation.name.as_str()).collect();
                say(&format!("{}: no longer seen: {}", self.name, names.join(", ")));
            }
            Outcome::Xfail => {
                for deviation in &self.deviations {
                    say(&format!("{}: known deviation {} of {}", self.name, deviation.name, deviation.whose));
                    say(&format!("  why: {}", deviation.why));
                    say(&format!("  source: {}", deviation.source));
                }
                for finding in &self.findings {
                    say(&format!("  observed: {}", finding.observed));
                }
            }
            Outcome::Fail => {
                say(&format!("{}: {}", self.name, self.rule));
                for finding in self.unlisted() {
                    say(&format!(
                        "observed: {} ({} of {} checks)",
                        finding.observed, finding.times, self.checks
                    ));
                    let detail = finding.detail.iter().map(Detail::to_string).collect::<String>();
                    detail.lines().for_each(|line| say(&format!("  {line}")));
                }
                for deviation in &self.deviations {
                    say(&format!("also seen: known deviation {} of {}", deviation.name, deviation.whose));
                    let known = |finding: &&Finding| finding.known.as_ref() == Some(&deviation.name);
                    for finding in self.findings.iter().filter(known) {
                        say(&format!(
                            "  known: {} ({} of {} checks)",
                            finding.observed, finding.times, self.checks
                        ));
                    }
                }
                for Elsewhere { name, why } in &self.elsewhere {
                    say(&format!("known deviation {name} does not apply here: {why}"));
                }
            }
        }
        if let Some(stopped) = &self.stopped {
            say(&format!("{}: {}", self.name, stopped.why));
        }
        for (what, command) in self.commands("FILE") {
            say(&format!("{what}: {command}"));
        }
        text
    }

    /// Why a case failed, in one line.
    pub fn in_short(&self) -> String {
        match (self.unlisted().next(), &self.stopped) {
            (Some(finding), _) => format!("observed {}", finding.observed),
            (None, Some(stopped)) => stopped.why.lines().next().unwrap_or_default().to_owned(),
            (None, None) => String::new(),
        }
    }

    /// What a failed case found that no known deviation lists.
    pub fn unlisted(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.known.is_none())
    }

    /// The commands that run a failed case again, each with what it does. `results` names a file that contains this result.
    pub fn commands(&self, results: &str) -> Vec<(&'static str, String)> {
        let mut commands = Vec::new();
        if self.outcome == Outcome::Fail && self.name != replay::NAME {
            commands.push(("run the case again", format!("dfr0 run {}", self.name)));
            if replay::first(self).is_some() {
                let command = format!("dfr0 replay {results} {}", self.name);
                commands.push(("replay its first scenario", command));
            }
        }
        commands
    }
}
