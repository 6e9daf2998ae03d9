// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What may go wrong while a guest is made or runs.

use crate::host::Unavailable;
use std::{fmt, io};

/// Something that no case expects: the case has failed and the VM is not used again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No guest can run here.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// An ioctl or another system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried, with its arguments.
        what: String,
        /// The error.
        source: io::Error,
    },
    /// KVM refused a value of a register that it should accept.
    #[error("KVM_SET_ONE_REG {register} = {value:#x} was refused with errno {errno}")]
    Refused {
        /// The register.
        register: String,
        /// The value.
        value: u64,
        /// The errno.
        errno: i32,
    },
    /// The guest did not come back to userspace, or came back in an unexpected way.
    #[error("{0}")]
    Died(Box<Death>),
    /// Only a vCPU can do it, and this is a bare CPU.
    #[error("needs KVM, and this is a bare CPU: {0}")]
    NoVcpu(String),
    /// A guest would have to run, but cases only list their scenarios.
    #[error("what it does depends on the answers of KVM and a guest, and nothing runs")]
    NothingRuns,
    /// The payload does not fit the model's layout, or a scenario does not fit the payload.
    #[error("{0}")]
    Unfit(String),
}

/// A guest that cannot be used any more, and its registers.
#[derive(Debug)]
pub struct Death {
    /// What happened.
    pub reason: String,
    /// The CPU's registers, by name.
    pub registers: Vec<(String, u64)>,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        for row in self.registers.chunks(4) {
            write!(f, "\n ")?;
            for (name, value) in row {
                write!(f, " {name:>9} {value:#018x}")?;
            }
        }
        Ok(())
    }
}
