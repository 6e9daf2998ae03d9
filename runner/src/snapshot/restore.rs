// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The outcomes of a restore.

use super::{
    show::named,
    state::{Register, hexadecimal},
};
use crate::{guest, register_id::RegisterId};
use dfr0_model::{
    dfr0::FIELDS,
    event::Logged,
    id_write::{self, Answer, Writable},
    judge::Mismatch,
    outcome::Unknown,
    rule::Rule,
    scenario::Scenario,
    sysreg::{ID_AA64DFR0_EL1, SysReg},
};
use nix::errno::Errno;
use std::fmt;

/// Which registers a restore writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All registers; the target must accept each of them.
    #[default]
    All,
    /// The target must accept the general-purpose registers, the registers that scenarios use, and
    /// ID_AA64DFR0_EL1. Other ID registers are not written; all other registers are written if the target
    /// accepts them.
    Debug,
}

impl Scope {
    /// Whether the restore fails if the target does not accept this register.
    pub fn needs(self, id: RegisterId) -> bool {
        match (self, id.system_register()) {
            (Self::All, _) => true,
            (Self::Debug, Some(reg)) => reg == ID_AA64DFR0_EL1 || !reg.is_id() && reg.index().is_some(),
            (Self::Debug, None) => id.is_core(),
        }
    }

    /// Whether the restore tries to write this register.
    pub fn writes(self, id: RegisterId) -> bool {
        self.needs(id) || id.system_register().is_none_or(|reg| !reg.is_id())
    }
}

/// Why a snapshot was not restored, or the rest of its scenario could not run.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The target's KVM_GET_REG_LIST does not list a register of the snapshot.
    #[error(
        "this host's KVM does not have {register}, so a guest that has it cannot move here: KVM_GET_REG_LIST does not list {}",
        .register.id
    )]
    Missing {
        /// The register, as it was saved.
        register: Register,
    },
    /// KVM_SET_ONE_REG of a register was refused.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// Something failed before anything ran.
    #[error("the snapshot was not restored: {0}")]
    Host(guest::Error),
    /// The guest was restored and ran, but did not end as it should.
    #[error("the snapshot was restored without an error, but then: {0}")]
    Ran(guest::Error),
    /// The model has no rule for the scenario.
    #[error("{0}")]
    NotModelled(#[from] Unknown),
}

impl RestoreError {
    /// Whether the target refused the snapshot, before anything ran.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Refused(_))
    }

    /// The register that the target does not have or refuses.
    pub fn register(&self) -> Option<&Register> {
        match self {
            Self::Missing { register } => Some(register),
            Self::Refused(refused) => Some(&refused.register),
            _ => None,
        }
    }
}

/// A register that the target refused.
#[derive(Debug)]
pub struct Refused {
    /// The register, as it was saved.
    pub register: Register,
    /// The errno of KVM_SET_ONE_REG.
    pub errno: i32,
    /// Its value in the target's VM, if it can be read.
    pub here: Option<u64>,
    /// The fields that differ. The fields that the target may refuse come first.
    pub fields: Vec<RefusedField>,
}

/// A field of a register that the target refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedField {
    /// The Arm ARM's name.
    pub name: &'static str,
    /// Its value in the snapshot.
    pub saved: u64,
    /// Its value in the target's VM.
    pub here: u64,
    /// The rule that lets the target refuse it; `None` if the target must accept it or dfr0 has no rule.
    pub rule: Option<&'static Rule>,
}

impl Refused {
    /// Why the target refused a register, whose value in the target's VM is `here` and whose writable bits
    /// are `writable`.
    pub fn new(register: Register, errno: i32, here: Option<u64>, writable: Writable) -> Self {
        let reg = register.id.system_register();
        let mut fields = match (reg, here) {
            (Some(reg), Some(here)) => fields(reg, register.low(), here, writable),
            _ => Vec::new(),
        };
        fields.sort_by_key(|field| field.rule.is_none());
        Self { register, errno, here, fields }
    }
}

/// The fields in which two values of a register differ.
fn fields(reg: SysReg, saved: u64, here: u64, writable: Writable) -> Vec<RefusedField> {
    if reg == ID_AA64DFR0_EL1 {
        let differing = FIELDS.into_iter().filter(|field| field.get(saved) != field.get(here));
        return differing
            .map(|field| {
                let allowed = id_write::allowed(field, field.get(saved), here, writable);
                let may_refuse = allowed.allows(Answer::Refused(id_write::EINVAL));
                RefusedField {
                    name: field.name,
                    saved: field.get(saved).into(),
                    here: field.get(here).into(),
                    rule: may_refuse.then_some(allowed.rule),
                }
            })
            .collect();
    }
    named(reg, saved ^ here, saved)
        .into_iter()
        .zip(named(reg, saved ^ here, here))
        .map(|((name, saved), (_, here))| RefusedField { name, saved, here, rule: None })
        .collect()
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { register, errno, here, fields } = self;
        write!(f, "this host's KVM refuses {register} with {:?} ({errno})", Errno::from_raw(*errno))?;
        if let Some(here) = here {
            write!(f, "; a new VM has {here:#x} here")?;
        }
        for RefusedField { name, saved, here, rule } in fields {
            write!(f, "\n  {name}: {saved:#x} in the snapshot, {here:#x} here")?;
            if let Some(rule) = rule {
                write!(f, "\n    rule: {rule}")?;
            }
        }
        Ok(())
    }
}

/// A register that the target accepted and that then read as another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The register, as it was saved.
    pub saved: Register,
    /// What it read as after the restore.
    pub here: Vec<u8>,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} reads as {} after the restore", self.saved, hexadecimal(&self.here))
    }
}

/// The details of a restore that succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The registers that the target accepted and that then read as another value. The cause of a silent loss
    /// is one of them, or state that KVM does not show.
    pub changed: Vec<Changed>,
    /// The registers that [`Scope::Debug`] left out: the target does not have them, refuses them, or keeps
    /// its own value.
    pub left_out: Vec<Register>,
}

/// A snapshot that was restored, and how its scenario continued.
#[derive(Debug)]
pub struct Resumed {
    /// The scenario.
    pub scenario: Scenario,
    /// The number of its operations that were done before the restore.
    pub done: usize,
    /// The events, including those from before the restore.
    pub events: Vec<Logged>,
    /// How they depart from the rules; a silent loss, if the operation ran after the restore.
    pub departure: Option<Mismatch>,
    /// How the restore went.
    pub restored: Restored,
}

impl Resumed {
    /// Whether events were lost or added after the restore.
    pub fn is_silent_loss(&self) -> bool {
        self.departure.as_ref().is_some_and(|departure| departure.place >= self.done)
    }
}

/// Each operation with its events, and how they depart from the rules.
impl fmt::Display for Resumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Restored { changed, left_out } = &self.restored;
        for (place, op) in self.scenario.ops().iter().enumerate() {
            writeln!(f, "{place:4}  {op}")?;
            for logged in self.events.iter().filter(|logged| logged.op == place) {
                writeln!(f, "        {}", logged.event)?;
            }
        }
        for register in left_out {
            writeln!(f, "left out: {register}")?;
        }
        for changed in changed {
            writeln!(f, "changed: {changed}")?;
        }
        match &self.departure {
            None => writeln!(f, "same events: what the rules allow, before and after the restore"),
            Some(departure) if self.is_silent_loss() => {
                writeln!(f, "silent loss: restored without an error, but then\n{departure}")
            }
            Some(departure) => writeln!(f, "departed from the rules before it was saved:\n{departure}"),
        }
    }
}
