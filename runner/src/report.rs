// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Results of one or many runs, in the forms that people and machines read.
//!
//! A report is made of [`Cell`]s, which [`load`] finds in files of results and in folders. A cell without
//! whole results is an error in every form.

mod cell;
mod diff;
mod junit;
mod kcidb;
mod lava;
mod load;
mod matrix;
mod page;
mod pull_labs;
mod tap;
mod text;

pub use cell::{Cell, Reported};
pub use diff::Diff;
pub use junit::junit;
pub use kcidb::{Ids, kcidb};
pub use lava::lava;
pub use load::{Error, load};
pub use page::{beside, page};
pub use pull_labs::pull_labs;
pub use tap::tap;
pub use text::{count, text};

#[cfg(test)]
mod tests;
