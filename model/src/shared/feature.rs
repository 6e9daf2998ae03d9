// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Optional features of the architecture, each with the ID register that says whether the guest has it.

use crate::sysreg::{
    ID_AA64ISAR0_EL1, ID_AA64ISAR2_EL1, ID_AA64MMFR2_EL1, ID_AA64PFR0_EL1, ID_AA64PFR1_EL1, SysReg,
};
use core::fmt;

/// A feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Atomic instructions.
    Lse,
    /// PSTATE.UAO.
    Uao,
    /// Memory tagging, with Allocation Tags in memory.
    Mte2,
    /// Memory Copy and Memory Set instructions.
    Mops,
    /// The Scalable Vector Extension.
    Sve,
}

impl Feature {
    /// The ID register that holds its field.
    pub const fn register(self) -> SysReg {
        self.field().0
    }

    /// The register, the field's lowest bit in it, and the least value that has the feature.
    const fn field(self) -> (SysReg, u8, u64) {
        match self {
            Self::Lse => (ID_AA64ISAR0_EL1, 20, 2),
            Self::Uao => (ID_AA64MMFR2_EL1, 4, 1),
            Self::Mte2 => (ID_AA64PFR1_EL1, 8, 2),
            Self::Mops => (ID_AA64ISAR2_EL1, 16, 1),
            Self::Sve => (ID_AA64PFR0_EL1, 32, 1),
        }
    }

    /// Whether a guest that reads `value` in [`Self::register`] has the feature.
    pub const fn is_in(self, value: u64) -> bool {
        let (_, lowest, least) = self.field();
        value >> lowest & 0xf >= least
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lse => "FEAT_LSE",
            Self::Uao => "FEAT_UAO",
            Self::Mte2 => "FEAT_MTE2",
            Self::Mops => "FEAT_MOPS",
            Self::Sve => "FEAT_SVE",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_there_from_its_least_value_on() {
        for (feature, least) in [
            (Feature::Lse, 2 << 20),
            (Feature::Uao, 1 << 4),
            (Feature::Mte2, 2 << 8),
            (Feature::Mops, 1 << 16),
            (Feature::Sve, 1 << 32),
        ] {
            assert!(feature.is_in(least) && !feature.is_in(0), "{feature}");
            assert!(
                !feature.is_in(!(0xf << (least.ilog2() / 4 * 4))),
                "{feature}: other fields say nothing of it"
            );
        }
        assert!(!Feature::Mte2.is_in(1 << 8), "FEAT_MTE has no tags in memory");
    }
}
