// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The shape: what a PE or a VM advertises about self-hosted debug.

use crate::dfr0;
use core::{fmt, ops::Range};

/// What ID_AA64DFR0_EL1 says about self-hosted debug. Counts are the actual numbers; the register's fields
/// hold them minus one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// DebugVer, as encoded: 6 is Armv8 debug.
    pub debug_ver: u8,
    /// Breakpoints, 1 to 16.
    pub breakpoints: u8,
    /// Watchpoints, 1 to 16.
    pub watchpoints: u8,
    /// Context-aware breakpoints, 1 to 16.
    pub context_aware: u8,
    /// FEAT_DoubleLock is implemented.
    pub double_lock: bool,
}

impl Shape {
    /// The shape that this value of ID_AA64DFR0_EL1 advertises.
    pub const fn from_id_aa64dfr0(value: u64) -> Self {
        Self {
            debug_ver: dfr0::DEBUGVER.get(value),
            breakpoints: dfr0::BRPS.get(value) + 1,
            watchpoints: dfr0::WRPS.get(value) + 1,
            context_aware: dfr0::CTX_CMPS.get(value) + 1,
            double_lock: dfr0::DOUBLELOCK.get(value) == dfr0::DOUBLELOCK_IMP,
        }
    }

    /// Every PE of this shape traps an SMC at EL1 to EL2, as KVM requests. Before Armv8.3 the SMC may be
    /// UNDEFINED on a PE without EL3 (DDI 0487 HCR_EL2.TSC). ID_AA64DFR0_EL1 identifies Armv8.4, but not
    /// Armv8.3.
    pub const fn traps_smc(&self) -> bool {
        const ARMV8_4: u8 = 9;
        self.debug_ver >= ARMV8_4
    }

    /// The PE has FEAT_VHE, and with it the breakpoint types that compare CONTEXTIDR_EL1 alone, and
    /// CONTEXTIDR_EL2. If this is false the PE may have them or not, because a VM may see a lower DebugVer
    /// than its PE has.
    pub const fn has_vhe(&self) -> bool {
        const ARMV8_1_WITH_VHE: u8 = 7;
        self.debug_ver >= ARMV8_1_WITH_VHE
    }

    /// The numbers of the breakpoints.
    pub const fn breakpoint_numbers(&self) -> Range<u8> {
        0..self.breakpoints
    }

    /// The numbers of the context-aware breakpoints: the highest (DDI 0487 D2.8.3).
    pub const fn context_aware_numbers(&self) -> Range<u8> {
        self.breakpoints.saturating_sub(self.context_aware)..self.breakpoints
    }

    /// Breakpoint `n` is context-aware.
    pub fn is_context_aware(&self, n: u8) -> bool {
        self.context_aware_numbers().contains(&n)
    }

    /// A guest of this shape can use the registers of `hardware` under the same numbers: `hardware` has each
    /// of its breakpoints, watchpoints and context-aware breakpoints at the same number.
    ///
    /// A shape with as many context-aware breakpoints but fewer others cannot: the context-aware ones have
    /// the highest numbers, so some of them would use registers that can match only addresses.
    pub fn keeps_numbers_on(&self, hardware: &Self) -> bool {
        self.breakpoints <= hardware.breakpoints
            && self.watchpoints <= hardware.watchpoints
            && self.context_aware_numbers().all(|n| hardware.is_context_aware(n))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} breakpoints, {} watchpoints, {} context-aware, DebugVer {:#x}, DoubleLock {}",
            self.breakpoints,
            self.watchpoints,
            self.context_aware,
            self.debug_ver,
            if self.double_lock { "implemented" } else { "not implemented" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_one_more_than_the_fields() {
        let shape = Shape::from_id_aa64dfr0(0xf0_1030_5009);
        assert_eq!((shape.breakpoints, shape.watchpoints, shape.context_aware), (6, 4, 2));
        assert_eq!(shape.debug_ver, 9);
        assert!(!shape.double_lock);
    }

    #[test]
    fn double_lock_is_implemented_when_its_field_is_zero() {
        assert!(Shape::from_id_aa64dfr0(0x1030_5006).double_lock);
    }

    #[test]
    fn context_aware_breakpoints_are_the_highest_numbered() {
        let shape = Shape::from_id_aa64dfr0(0x1030_5006);
        assert_eq!(shape.context_aware_numbers(), 4..6);
        assert!(!shape.is_context_aware(3));
        assert!(shape.is_context_aware(4));
        assert!(!shape.is_context_aware(6), "beyond the count there is no breakpoint");
    }

    #[test]
    fn fewer_breakpoints_keep_their_numbers_only_where_the_context_aware_ones_do() {
        let hardware = Shape { breakpoints: 16, context_aware: 4, ..Shape::from_id_aa64dfr0(0x1030_5006) };
        let keeps = |breakpoints, context_aware| {
            Shape { breakpoints, context_aware, ..hardware }.keeps_numbers_on(&hardware)
        };
        assert!(keeps(16, 4) && keeps(16, 2));
        assert!(keeps(14, 2), "12 and 13 are context-aware in hardware");
        assert!(!keeps(14, 4), "10 and 11 are not");
        assert!(!keeps(6, 2));
        assert!(!hardware.keeps_numbers_on(&Shape { breakpoints: 15, ..hardware }));
        assert!(!Shape { watchpoints: 5, ..hardware }.keeps_numbers_on(&hardware));
    }

    #[test]
    fn every_breakpoint_may_be_context_aware() {
        let all = Shape { context_aware: 6, ..Shape::from_id_aa64dfr0(0x1030_5006) };
        assert_eq!(all.context_aware_numbers(), 0..6);
    }
}
