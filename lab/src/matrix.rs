// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Kernels × hosts: how one command ends in each cell, in one directory.
//!
//! ```text
//!   DIR/matrix.json          what was run where, and how each cell ended; rewritten after each cell
//!   DIR/plan/                what a job needs to run a cell, if Slurm runs them
//!   DIR/HOST@KERNEL/         a cell; the directory appears, complete, when the cell has ended
//!       stdout  stderr       the command's output
//!       kernel.log           the rest of the host's output, mainly its kernel's messages
//!       status.json          the cell's part of matrix.json
//! ```

pub mod cell_folder;
pub mod jobs;
pub mod kernels;
pub mod plan;
pub mod record;
pub mod reports;
pub mod run;
