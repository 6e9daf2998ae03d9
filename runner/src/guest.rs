// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A VM whose payload runs scenarios: what may go wrong with it, and what it is made with.

use std::{fmt, io, time::Duration};

pub use crate::kvm::{Guest, Kvm};

/// How long a guest may run before it is taken for hung. A program needs milliseconds; this leaves room for a
/// loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How long it may run once a guest has died on this host: where every guest hangs, a run still ends.
pub const DEADLINE_AFTER_DEATH: Duration = Duration::from_secs(2);

/// What a VM is made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// ID_AA64DFR0_EL1, written before the first run; KVM's own value if none.
    pub id_aa64dfr0: Option<u64>,
}

/// Something that no case expects: the case has failed and the VM is not used again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An ioctl or another system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried, with its arguments.
        what: String,
        /// What came back.
        source: io::Error,
    },
    /// KVM refused a value of a register that it should take.
    #[error("KVM_SET_ONE_REG {register} = {value:#x} was refused with errno {errno}")]
    Refused {
        /// The register.
        register: String,
        /// The value.
        value: u64,
        /// The errno.
        errno: i32,
    },
    /// The guest did not come back, or came back in a way that it should not.
    #[error("{0}")]
    Died(Box<Death>),
    /// The payload does not fit the model's layout, or a scenario does not fit the payload.
    #[error("{0}")]
    Unfit(String),
}

/// A guest that is of no use any more, and its registers.
#[derive(Debug)]
pub struct Death {
    /// What happened.
    pub reason: String,
    /// The vCPU's registers, by name.
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
