// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The progress of a run in several hosts: on a terminal one line for each running cell, otherwise only what is said of
//! cells.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::protocol::printable;

/// The progress of the whole run, on stderr.
#[derive(Debug)]
pub struct Progress {
    bars: MultiProgress,
    total: ProgressBar,
}

impl Progress {
    /// The start of a run with this number of cells.
    pub fn new(cells: usize) -> Self {
        let shown = std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let total =
            bars.add(ProgressBar::new(cells as u64).with_style(style("lab: {pos} of {len} cells {elapsed}")));
        if shown {
            total.enable_steady_tick(Duration::from_secs(1));
        }
        Self { bars, total }
    }

    /// A cell starts.
    pub fn begin(&self, cell: String) -> Running {
        let bar = ProgressBar::new_spinner()
            .with_style(style("lab: {prefix} {elapsed} {wide_msg}"))
            .with_prefix(cell);
        let bar = self.bars.insert_before(&self.total, bar);
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_secs(1));
        }
        Running { bar, line: Vec::new() }
    }

    /// Prints a line, or bytes that a command has printed.
    pub fn say(&self, bytes: impl AsRef<[u8]>) {
        // If stderr is closed, nothing can be shown.
        let _ = self.bars.suspend(|| std::io::stderr().write_all(bytes.as_ref()));
    }

    /// A cell has ended.
    pub fn ended(&self) {
        self.total.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.total.finish_and_clear();
    }
}

/// A running cell. It is shown until this is dropped.
#[derive(Debug)]
pub struct Running {
    bar: ProgressBar,
    line: Vec<u8>,
}

impl Running {
    /// The command has printed these bytes. Their last line is shown.
    pub fn printed(&mut self, bytes: &[u8]) {
        const LONGEST: usize = 200;
        if self.bar.is_hidden() {
            return;
        }
        for &byte in bytes {
            if byte == b'\n' {
                self.bar.set_message(printable(&self.line));
                self.line.clear();
            } else if self.line.len() < LONGEST {
                self.line.push(byte);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a valid template")
}
