// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Results in words, for people.

use super::{Case, Departed, Detail, Elsewhere, Outcome, Why};
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

/// Operations, one per line. Of many operations, only the first and the last are listed.
pub fn listing(operations: &[impl fmt::Display]) -> String {
    const ENDS: usize = 16;
    let mut text = String::new();
    for (place, operation) in operations.iter().enumerate() {
        if place < ENDS || place + ENDS >= operations.len() {
            text.push_str(&format!("{place:4}  {operation}\n"));
        } else if place == ENDS {
            text.push_str("       …\n");
        }
    }
    text
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
                for finding in &self.findings {
                    let Some(detail) = &finding.detail else {
                        say(&format!("observed: {}", finding.observed));
                        continue;
                    };
                    say(&format!(
                        "observed: {} ({} of {} checks)",
                        finding.observed, finding.times, self.checks
                    ));
                    detail.to_string().lines().for_each(|line| say(&format!("  {line}")));
                }
                for Elsewhere { name, why } in &self.elsewhere {
                    say(&format!("known deviation {name} does not apply here: {why}"));
                }
            }
        }
        if let Some(stopped) = &self.stopped {
            say(&format!("{}: {}", self.name, stopped.why));
        }
        text
    }
}
