// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Cells as LAVA's signals: one as `dfr0 run --format lava` printed it, several with their names before those of the tests.

use super::{Cell, Reported};
use crate::{
    lava::{Lava, Result},
    results::{Record, Writer},
};
use std::io::{self, Write};

/// Writes the cells. The last test says whether all of them reported.
pub fn lava(cells: &[Cell], out: impl Write) -> io::Result<()> {
    let mut lava = Lava::new(out);
    for cell in cells {
        if cells.len() > 1 {
            lava.host(&cell.name());
        }
        let records = cell.run().into_iter().flat_map(|run| run.records());
        for record in records.filter(|record| !matches!(record, Record::End(_))) {
            lava.write(&record)?;
        }
        if let Reported::Unavailable(unavailable) = &cell.reported {
            lava.comment(&format!("{}: {}", cell.name(), unavailable.reason))?;
        }
        if let Some(why) = cell.silence() {
            lava.comment(&format!("{}: {why}", cell.name()))?;
        }
    }
    let is_unavailable = |cell: &Cell| matches!(cell.reported, Reported::Unavailable(_));
    lava.all_reported(if cells.iter().any(|cell| cell.silence().is_some()) {
        Result::Fail
    } else if cells.iter().all(is_unavailable) {
        Result::Skip
    } else {
        Result::Pass
    })
}
