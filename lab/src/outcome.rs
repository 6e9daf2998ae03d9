// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! How the command in a host ended: what the host reports, and the exit status of `lab`.

use std::fmt;
use std::str::FromStr;

use crate::exit::Exit;

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command exited with this status.
    Exited(u8),
    /// The command was killed by this signal.
    Killed(u8),
    /// The command was not run, or was stopped, for this reason.
    Refused(String),
}

impl Outcome {
    /// How `lab` ends after it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Exited(status) => Exit::Command(*status),
            Self::Killed(signal) => Exit::Signal(*signal),
            Self::Refused(_) => Exit::LabFailed,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exited {status}"),
            Self::Killed(signal) => write!(f, "killed {signal}"),
            Self::Refused(reason) => write!(f, "refused {reason}"),
        }
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("`{text}` is not the end of a command");
        match text.split_once(' ').ok_or_else(unknown)? {
            ("exited", status) => status.parse().map(Self::Exited).map_err(|_| unknown()),
            ("killed", signal) => match signal.parse() {
                Ok(signal @ 1..=64) => Ok(Self::Killed(signal)),
                _ => Err(unknown()),
            },
            ("refused", reason) => Ok(Self::Refused(reason.into())),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_that_a_shell_shows() {
        assert_eq!(Outcome::Exited(7).exit().status(), 7);
        assert_eq!(Outcome::Killed(2).exit().status(), 130);
        assert_eq!(Outcome::Killed(9).exit().status(), 137);
        assert_eq!(Outcome::Killed(64).exit().status(), 192);
        assert_eq!(Outcome::Refused("no".into()).exit().status(), 125);
    }

    #[test]
    fn text_round_trips_and_garbage_is_an_error() {
        for outcome in [Outcome::Exited(255), Outcome::Killed(11), Outcome::Refused("a b: c".into())] {
            assert_eq!(outcome.to_string().parse(), Ok(outcome));
        }
        for garbage in ["", "exited", "exited 256", "exited -1", "killed 0", "killed 65", "left 3"] {
            assert!(garbage.parse::<Outcome>().is_err(), "{garbage}");
        }
    }
}
