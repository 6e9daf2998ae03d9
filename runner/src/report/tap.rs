// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Cells as KTAP: one as `dfr0 run` printed it, several as subtests.

use super::{Cell, Reported};
use crate::{
    ktap::Ktap,
    results::{End, Record, Run, Writer},
    visible::visible,
};
use std::io::{self, Write};

/// Writes the cells.
pub fn tap(cells: &[Cell], out: &mut impl Write) -> io::Result<()> {
    if let [cell] = cells
        && write(cell, &mut *out)?
    {
        return Ok(());
    }
    writeln!(out, "KTAP version 1\n1..{}", cells.len())?;
    for (number, cell) in (1..).zip(cells) {
        let mut text = Vec::new();
        write(cell, &mut text)?;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            out.write_all(b"  ")?;
            out.write_all(line)?;
        }
        for line in visible(cell.silence().unwrap_or_default()).lines() {
            writeln!(out, "# {line}")?;
        }
        let (ok, directive) = match &cell.reported {
            Reported::Run(run) if run.cases.iter().any(|case| run.fails(case.outcome)) => ("not ok", ""),
            Reported::Run(_) => ("ok", ""),
            Reported::Unavailable(_) => ("ok", " # SKIP"),
            Reported::Part(..) | Reported::Nothing(_) => ("not ok", ""),
        };
        writeln!(out, "{ok} {number} {}{directive}", name(cell))?;
    }
    out.flush()
}

/// Writes what a cell reported; false if it reported nothing.
fn write(cell: &Cell, out: &mut impl Write) -> io::Result<bool> {
    let mut ktap = Ktap::new(out, false);
    match &cell.reported {
        Reported::Run(run) => run.records().try_for_each(|record| ktap.write(&record))?,
        Reported::Part(run, why) => {
            let end = End { stopped: Some(why.clone()), ..run.end.clone() };
            let run = Run { end, ..run.clone() };
            run.records().try_for_each(|record| ktap.write(&record))?;
        }
        Reported::Unavailable(unavailable) => ktap.write(&Record::Unavailable(unavailable.clone()))?,
        Reported::Nothing(_) => return Ok(false),
    }
    Ok(true)
}

/// A cell's name without the characters that have a meaning in KTAP.
fn name(cell: &Cell) -> String {
    let plain =
        |letter: char| if letter.is_alphanumeric() || "._@+-".contains(letter) { letter } else { '_' };
    cell.name().chars().map(plain).collect()
}
