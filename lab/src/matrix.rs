// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Kernels × hosts: how one command ends in each, in one directory.
//!
//! ```text
//!   DIR/matrix.json          what was run where, and each cell's end; written anew after each
//!   DIR/HOST@KERNEL/         a cell; it appears whole, when it has ended
//!       stdout  stderr       the command's
//!       kernel.log           what else came from the host, its kernel's messages above all
//!       status.json          the cell as it stands in matrix.json
//! ```

pub mod cell_folder;
pub mod kernels;
pub mod progress;
pub mod record;
pub mod run;
