// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What the rules allow an operation to cause: sets of events, and the rule that decides.

use crate::{
    event::{Event, Exception, VECTOR_CURRENT_EL_SYNCHRONOUS},
    pstate,
    rule::Rule,
};
use alloc::vec::Vec;
use core::fmt;

/// ESR_EL1.IL, which is set for each exception that the model knows.
pub(crate) const ESR_IL: u64 = 1 << 25;
/// ESR_EL1's bits except those that FEAT_Debugv8p9 defines for a Watchpoint exception: WPT, WPTV, WPF, FnP
/// and FnV. Hardware may set them whatever ID_AA64DFR0_EL1 says.
const ESR_WATCHPOINT_COMPARED: u64 = !(0x3f << 18 | 1 << 17 | 1 << 16 | 1 << 15 | 1 << 10);
/// ESR_ELx.WnR.
pub(crate) const ESR_WNR: u64 = 1 << 6;
/// ESR_ELx.IFSC and DFSC of a debug exception.
pub(crate) const IFSC_DEBUG: u64 = 0b10_0010;

/// ESR_ELx.FnV of a Watchpoint exception: FAR_ELx is not valid.
pub(crate) const ESR_FNV: u64 = 1 << 10;
/// ESR_ELx.FnP of a Watchpoint exception: FAR_ELx is not precise.
pub(crate) const ESR_FNP: u64 = 1 << 15;

/// WnR at its place in ESR_ELx, and the bits of ESR_ELx that are compared for a Watchpoint exception.
pub(crate) const fn esr_of_watchpoint(wnr: Option<bool>) -> (u64, u64) {
    match wnr {
        Some(true) => (ESR_WNR, ESR_WATCHPOINT_COMPARED),
        Some(false) => (0, ESR_WATCHPOINT_COMPARED),
        None => (0, ESR_WATCHPOINT_COMPARED & !ESR_WNR),
    }
}
/// SPSR_EL1's bits that are compared. The condition flags and the bits of later features depend on the payload.
pub(crate) const SPSR_COMPARED: u64 = pstate::D | pstate::AIF | pstate::IL | pstate::SS | pstate::MODE;

/// An event that the rules allow; bits outside of a mask may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A register reads as `value` where `mask` is set.
    Value {
        /// The defined bits.
        value: u64,
        /// Which bits are defined.
        mask: u64,
    },
    /// A register reads as one of these values.
    Within {
        /// The lowest.
        lowest: u64,
        /// The highest.
        highest: u64,
    },
    /// A synchronous exception to EL1.
    Exception {
        /// The vector.
        vector: u64,
        /// ESR_EL1's compared bits.
        esr: u64,
        /// Which bits of ESR_EL1 are compared.
        esr_mask: u64,
        /// ELR_EL1.
        elr: u64,
        /// SPSR_EL1's compared bits.
        spsr: u64,
        /// The lowest and the highest value of FAR_EL1.
        far: (u64, u64),
    },
    /// The instruction that accesses a register is UNDEFINED. Its address is private to the payload.
    Undefined,
    /// KVM refuses userspace's access with this errno.
    Refused(i32),
    /// KVM refuses userspace's access with another errno than this one.
    RefusedExcept(i32),
    /// KVM_RUN ends with KVM_EXIT_DEBUG.
    DebugExit {
        /// `kvm_debug_exit_arch.hsr`.
        hsr: u64,
        /// Which of its bits are defined.
        mask: u64,
        /// The vCPU's PC.
        pc: u64,
        /// The lowest and the highest value of `kvm_debug_exit_arch.far`.
        far: (u64, u64),
        /// The exit may also not happen.
        optional: bool,
    },
}

/// ESR_EL1 of an UNDEFINED instruction: EC 0 and IL.
pub(crate) const ESR_UNDEFINED: u64 = ESR_IL;

/// FAR_EL1 of an exception that leaves it UNKNOWN.
pub(crate) const FAR_UNKNOWN: (u64, u64) = (0, u64::MAX);

impl Expected {
    /// `event` is as expected.
    pub fn admits(&self, event: &Event) -> bool {
        match (*self, *event) {
            (Self::Value { value, mask }, Event::Value(read)) => read & mask == value & mask,
            (Self::Within { lowest, highest }, Event::Value(read)) => (lowest..=highest).contains(&read),
            (Self::Exception { vector, esr, esr_mask, elr, spsr, far }, Event::Exception(taken)) => {
                taken.vector == vector
                    && taken.esr & esr_mask == esr & esr_mask
                    && taken.elr == elr
                    && taken.spsr & SPSR_COMPARED == spsr
                    && (far.0..=far.1).contains(&taken.far)
            }
            (Self::Undefined, Event::Exception(taken)) => {
                taken.vector == VECTOR_CURRENT_EL_SYNCHRONOUS && taken.esr == ESR_UNDEFINED
            }
            (Self::Refused(errno), Event::Refused(was)) => was == errno,
            (Self::RefusedExcept(errno), Event::Refused(was)) => was != errno,
            (Self::DebugExit { hsr, mask, pc, far, .. }, Event::DebugExit { hsr: was, pc: at, far: of }) => {
                was & mask == hsr & mask && at == pc && (far.0..=far.1).contains(&of)
            }
            _ => false,
        }
    }

    /// The event may also not happen.
    pub const fn is_optional(&self) -> bool {
        matches!(self, Self::DebugExit { optional: true, .. })
    }

    /// An exception is taken at this instruction instead; other events are unchanged.
    pub(crate) const fn at(self, elr: u64) -> Self {
        match self {
            Self::Exception { vector, esr, esr_mask, spsr, far, .. } => {
                Self::Exception { vector, esr, esr_mask, elr, spsr, far }
            }
            other => other,
        }
    }

    /// Makes a debug exit optional; other events are unchanged.
    pub const fn or_nothing(self) -> Self {
        match self {
            Self::DebugExit { hsr, mask, pc, far, .. } => {
                Self::DebugExit { hsr, mask, pc, far, optional: true }
            }
            other => other,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Undefined => f.write_str("UNDEFINED instruction"),
            Self::Value { value, mask } if mask == u64::MAX => write!(f, "{value:#x}"),
            Self::Value { value, mask } => write!(f, "{:#x} in the bits {mask:#x}", value & mask),
            Self::Within { lowest, highest } => write!(f, "{lowest:#x} to {highest:#x}"),
            Self::Exception { vector, esr, elr, spsr, far, .. } => {
                Exception { vector, esr, elr, spsr, far: far.0 }.fmt_without_far(f)?;
                if far == FAR_UNKNOWN { Ok(()) } else { write!(f, " FAR {:#x} to {:#x}", far.0, far.1) }
            }
            Self::Refused(errno) => Event::Refused(errno).fmt(f),
            Self::RefusedExcept(0) => f.write_str("refused"),
            Self::RefusedExcept(errno) => write!(f, "refused with an errno other than {errno}"),
            Self::DebugExit { hsr, pc, far, optional, .. } => {
                Event::DebugExit { hsr, pc, far: far.0 }.fmt(f)?;
                if far.0 != far.1 {
                    write!(f, " to {:#x}", far.1)?;
                }
                f.write_str(if optional { ", or nothing" } else { "" })
            }
        }
    }
}

/// What one operation may cause, and the rule that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The events, in order.
    pub events: Vec<Expected>,
    /// Where the architecture leaves a choice: what may happen instead.
    pub or: Vec<Vec<Expected>>,
    /// The rule.
    pub rule: &'static Rule,
}

impl Outcome {
    /// These events and no others.
    pub(crate) const fn certain(events: Vec<Expected>, rule: &'static Rule) -> Self {
        Self { events, or: Vec::new(), rule }
    }

    pub(crate) const fn silent(rule: &'static Rule) -> Self {
        Self::certain(Vec::new(), rule)
    }

    pub(crate) fn undefined(rule: &'static Rule) -> Self {
        Self::certain(Vec::from([Expected::Undefined]), rule)
    }

    pub(crate) fn value(value: u64, mask: u64, rule: &'static Rule) -> Self {
        Self::certain(Vec::from([Expected::Value { value, mask }]), rule)
    }

    /// The allowed sequences of events.
    pub fn alternatives(&self) -> impl Iterator<Item = &[Expected]> {
        core::iter::once(self.events.as_slice()).chain(self.or.iter().map(Vec::as_slice))
    }

    /// The rules allow exactly these events, in this order.
    pub fn admits(&self, events: &[Event]) -> bool {
        self.alternatives().any(|allowed| all_admitted(allowed, events))
    }
}

/// `events` are those of `allowed`, in this order; optional ones may be missing.
fn all_admitted(allowed: &[Expected], events: &[Event]) -> bool {
    let Some((first, rest)) = allowed.split_first() else { return events.is_empty() };
    let here =
        events.split_first().is_some_and(|(event, more)| first.admits(event) && all_admitted(rest, more));
    here || first.is_optional() && all_admitted(rest, events)
}

/// The model has no rule for this operation in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown(
    /// What is not modelled.
    pub &'static str,
);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the model has no rule for {}", self.0)
    }
}

impl core::error::Error for Unknown {}
