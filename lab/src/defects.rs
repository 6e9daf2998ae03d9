// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Defects of KVM that a suite is measured with: what they are, what was seen of each, and the table of both.

mod list;
mod table;
mod verdict;

pub use list::{Defect, List};
pub use table::table;
pub use verdict::{Seen, Verdict, failed_cases};
