// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The results of a run: one stream of records, which each writer takes as they come and [`read`] takes from a file.
//!
//! A file of results is JSON lines: a [`Begin`], a [`Case`] for each case in the order in which they ran, an [`End`]; or
//! only an [`Unavailable`]. docs/results.md has each key, docs/results.schema.json the same for a validator.

mod file;
mod read;
mod record;
mod text;

pub use file::{File, Lines};
pub use read::{Error, Problem, Results, Run, load, read};
pub use record::{
    Begin, Case, Departed, Detail, Deviation, Elsewhere, End, FORMAT, Finding, How, Outcome, Record, Stopped,
    Totals, Unavailable, VERSION, Why,
};
pub(crate) use text::listing;

use std::io;

/// What takes the records of a run: a face of the results.
pub trait Writer {
    /// Takes the next record.
    fn write(&mut self, record: &Record) -> io::Result<()>;
}

#[cfg(test)]
pub(crate) mod tests;
