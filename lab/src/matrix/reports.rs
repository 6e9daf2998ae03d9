// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The reports of a run whose command is dfr0, made by `dfr0 report`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::matrix::record::{Cell, Record};

/// Each form of a report of the whole run, and its file.
const FORMS: [(&str, &str); 5] = [
    ("text", "report.txt"),
    ("html", "report.html"),
    ("junit", "report.xml"),
    ("ktap", "report.tap"),
    ("kcidb", "report.kcidb.json"),
];

/// Writes the reports of the run in `directory`, and report.tap of each cell. `dfr0` is the program. Its exit status is
/// that of the results, and so is not looked at; what it complains about is on stderr.
pub fn write(dfr0: &Path, directory: &Path, record: &Record) -> Result<()> {
    let report = |form: &str, out: &str, results: &str| {
        let mut command = Command::new(dfr0);
        command.args(["report", form, "--out", out, results]).current_dir(directory);
        command.status().map(drop).with_context(|| format!("cannot run {}", dfr0.display()))
    };
    FORMS.iter().try_for_each(|(form, out)| report(form, out, "."))?;
    for cell in record.cells.iter().filter(|cell| cell.status.has_ended()).map(Cell::name) {
        report("ktap", &format!("{cell}/report.tap"), &format!("{cell}/stdout"))?;
    }
    Ok(())
}
