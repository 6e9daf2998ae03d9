// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Cells as a table for a terminal.

use super::{Cell, Reported};
use crate::{
    results::{Outcome, Totals},
    visible::one_line,
};
use std::{collections::BTreeMap, fmt::Write};

/// Each cell with its totals, followed by the cases that fail and where.
pub fn text(cells: &[Cell]) -> String {
    let width = cells.iter().map(|cell| cell.name().chars().count()).max().unwrap_or_default().max(4);
    let mut text = format!("{:width$}   pass  fail xfail xpass  skip\n", "host");
    let mut failing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for cell in cells {
        let name = one_line(&cell.name());
        // Writing to a string does not fail.
        if let Some(run) = cell.run() {
            let Totals { pass, fail, xfail, xpass, skip } = run.end.totals;
            for case in run.cases.iter().filter(|case| run.fails(case.outcome)) {
                let xpass = if case.outcome == Outcome::Xpass { " (XPASS, strict)" } else { "" };
                failing.entry(&case.name).or_default().push(format!("{name}{xpass}"));
            }
            let _ = writeln!(text, "{name:width$}  {pass:5} {fail:5} {xfail:5} {xpass:5} {skip:5}");
        }
        let _ = match &cell.reported {
            Reported::Run(_) => Ok(()),
            Reported::Part(_, why) => writeln!(text, "{name:width$}  DID NOT END: {}", one_line(why)),
            Reported::Unavailable(unavailable) => {
                writeln!(text, "{name:width$}  skipped: {}", one_line(&unavailable.reason))
            }
            Reported::Nothing(why) => writeln!(text, "{name:width$}  DID NOT REPORT: {}", one_line(why)),
        };
    }
    for (case, hosts) in failing {
        let _ = writeln!(text, "FAIL {case}: {}", hosts.join(", "));
    }
    text
}

/// `1 case`, `2 cases`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
