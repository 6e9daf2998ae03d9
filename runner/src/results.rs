// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The results of a run: one stream of records. Each writer takes them as they come; [`read`] takes them from
//! a file.
//!
//! A file of results is JSON lines: a [`Begin`], a [`Case`] for each case when it ends, an [`End`]; or only an
//! [`Unavailable`]. docs/results.md describes each key, docs/results.schema.json does the
//! same for a validator.

mod file;
mod part;
mod read;
mod record;
mod text;

pub use file::{File, Lines};
pub use part::Part;
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

/// The consumers of a run.
#[derive(Default)]
pub struct Writers {
    /// They take a case as soon as it has ended, so that nothing is lost if the host dies.
    pub at_once: Vec<Box<dyn Writer>>,
    /// They take the cases in the order of the list.
    pub in_order: Vec<Box<dyn Writer>>,
}

#[cfg(test)]
pub(crate) mod tests;
