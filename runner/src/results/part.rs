// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A run that did not come to its end.

use super::Run;
use crate::visible::one_line;

/// A run that did not come to its end: its host died or hung, it was killed, or it was to stop at a failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The cases that ended, and their totals.
    pub run: Run,
    /// The case whose result was written last.
    pub(super) last: Option<String>,
}

impl Part {
    /// How the run ended, and how far it came, in words.
    pub fn why(&self) -> String {
        let Run { begin, cases, end } = &self.run;
        let why = end.stopped.as_ref().map_or_else(String::new, |why| format!(" ({})", one_line(why)));
        let (are, planned) = (cases.len(), begin.cases);
        let last = self.last.as_deref().unwrap_or("none");
        let missing = match self.run.missing().next() {
            Some(first) => format!("; {} are missing, the first of them {first}", planned - are),
            None => String::new(),
        };
        format!("the run did not end{why}: there are {are} of {planned} results, the last of {last}{missing}")
    }
}
