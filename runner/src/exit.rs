// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The exit statuses of dfr0's programs.

use crate::plan::Verdict;
use std::process::ExitCode;

/// How a command ended. 0, 1 and 4 are those of kselftest's `ksft_finished`; kselftest's runners take 2 and 3 for
/// results too, so these are not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is as it should be, or a guest moves as it is.
    Good,
    /// Something is not as it should be, or the command line, an input or this machine is wrong.
    Failed,
    /// Nothing could be tested: all cases were skipped, or no profile fits the host.
    Skipped,
    /// A guest moves if its VM is created with the shape that is printed.
    WithShape,
    /// The target of a snapshot does not have a register, or refuses it.
    Refused,
    /// A guest may move, depending on what is not known.
    NotKnown,
    /// A guest cannot move.
    Cannot,
}

impl Exit {
    /// [`Self::Good`] or [`Self::Failed`].
    pub const fn good_if(good: bool) -> Self {
        if good { Self::Good } else { Self::Failed }
    }

    /// The number.
    pub const fn status(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Failed => 1,
            Self::Skipped => 4,
            Self::WithShape | Self::Refused => 10,
            Self::NotKnown => 11,
            Self::Cannot => 12,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.status().into()
    }
}

impl From<Verdict> for Exit {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::AsIs => Self::Good,
            Verdict::WithShape => Self::WithShape,
            Verdict::NotKnown => Self::NotKnown,
            Verdict::Cannot => Self::Cannot,
        }
    }
}
