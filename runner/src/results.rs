// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The results of a run: one stream of records. Each writer takes them as they come; [`read`] takes them from
//! a file.
//!
//! A file of results is JSON lines: a [`Begin`], a [`Case`] for each case in the order in which they ran, an
//! [`End`]; or only an [`Unavailable`]. docs/results.md describes each key, docs/results.schema.json does the
//! same for a validator.

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

/// A consumer of the records of a run.
pub trait Writer {
    /// Takes the next record.
    fn write(&mut self, record: &Record) -> io::Result<()>;
}

#[cfg(test)]
pub(crate) mod tests;
