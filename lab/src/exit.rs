// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The exit statuses of `lab`.

use std::process::ExitCode;

/// The exit status of a test program that skipped all tests, in kselftest.
pub const SKIPPED: u8 = 4;

/// How `lab` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is as it should be.
    Good,
    /// A cell of a matrix did not succeed.
    Failed,
    /// Each cell of a matrix skipped all tests.
    Skipped,
    /// `lab`, the host or the arguments failed. `git bisect run` skips a commit with this status. It cannot be 1, 2 or 4,
    /// which test programs use.
    LabFailed,
    /// The command exited with this status.
    Command(u8),
    /// This signal killed the command or stopped `lab`.
    Signal(u8),
}

impl Exit {
    /// The number, which for a signal is the one that a shell shows.
    pub const fn status(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Failed => 1,
            Self::Skipped => SKIPPED,
            Self::LabFailed => 125,
            Self::Command(status) => status,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.status().into()
    }
}
