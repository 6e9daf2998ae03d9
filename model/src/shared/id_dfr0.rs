// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The fields of ID_DFR0_EL1, which describes AArch32 debug. [`dfr0`](crate::dfr0) has those of
//! ID_AA64DFR0_EL1.
//!
//! An encoding that the register page does not permit in Armv8 counts as reserved.

use crate::{
    dfr0::{Field, Order, PMUVER_NI},
    sysreg::ID_DFR0_EL1,
};

const fn field(name: &'static str, slug: &'static str, lsb: u8, order: Order, encodings: u16) -> Field {
    Field { reg: ID_DFR0_EL1, name, slug, lsb, order, encodings }
}

/// TraceFilt: AArch32 self-hosted trace extension.
pub const TRACEFILT: Field = field("TraceFilt", "tracefilt", 28, Order::Unsigned, 0b11);
/// PerfMon: AArch32 Performance Monitors Extension; 0b1111 is an IMPLEMENTATION DEFINED form, PMUv1 and PMUv2 are not
/// permitted.
pub const PERFMON: Field = field("PerfMon", "perfmon", 24, Order::UnsignedOrImpDef, 0x83f9);
/// MProfDbg: M-profile debug; an A-profile PE does not have it.
pub const MPROFDBG: Field = field("MProfDbg", "mprofdbg", 20, Order::Unsigned, 0b1);
/// MMapTrc: memory-mapped trace.
pub const MMAPTRC: Field = field("MMapTrc", "mmaptrc", 16, Order::Unsigned, 0b11);
/// CopTrc: trace by System registers.
pub const COPTRC: Field = field("CopTrc", "coptrc", 12, Order::Unsigned, 0b11);
/// MMapDbg: memory-mapped debug; in Armv8 it is always zero.
pub const MMAPDBG: Field = field("MMapDbg", "mmapdbg", 8, Order::Unsigned, 0b1);
/// CopSDbg: the Secure debug model; zero, or the encodings of CopDbg.
pub const COPSDBG: Field = field("CopSDbg", "copsdbg", 4, Order::Unsigned, 0x0fc1);
/// CopDbg: the debug architecture; Armv8 starts at 6.
pub const COPDBG: Field = field("CopDbg", "copdbg", 0, Order::Unsigned, 0x0fc0);

/// Every field, highest first; bits [63:32] are RES0.
pub const FIELDS: [&Field; 8] =
    [&TRACEFILT, &PERFMON, &MPROFDBG, &MMAPTRC, &COPTRC, &MMAPDBG, &COPSDBG, &COPDBG];

/// PerfMon: PMUv3.
const PERFMON_PMUV3: u8 = 0b0011;
/// PMUVer: PMUv3.
const PMUVER_PMUV3: u8 = 0b0001;

/// The value of PerfMon for this PMUVer: both fields encode the forms of PMUv3 alike, except for the first.
pub const fn perfmon_of(pmuver: u8) -> u8 {
    match pmuver {
        PMUVER_NI => 0,
        PMUVER_PMUV3 => PERFMON_PMUV3,
        form => form,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dfr0;

    #[test]
    fn the_fields_cover_the_lower_word_once() {
        assert_eq!(FIELDS.iter().fold(0, |seen, field| seen | field.mask()), u32::MAX.into());
        for pair in FIELDS.windows(2) {
            assert_eq!(pair[0].lsb, pair[1].lsb + 4, "{} is above {}", pair[0].name, pair[1].name);
        }
        assert!(FIELDS.iter().all(|field| field.reg == ID_DFR0_EL1));
    }

    #[test]
    fn what_armv8_does_not_permit_is_reserved() {
        let architected = |field: &Field| -> alloc::vec::Vec<u8> {
            (0..16).filter(|value| field.is_architected(*value)).collect()
        };
        assert_eq!(architected(&PERFMON), [0, 3, 4, 5, 6, 7, 8, 9, 15]);
        assert_eq!(architected(&COPDBG), [6, 7, 8, 9, 10, 11]);
        assert_eq!(architected(&COPSDBG), [0, 6, 7, 8, 9, 10, 11]);
        for absent in [&MPROFDBG, &MMAPDBG] {
            assert_eq!(architected(absent), [0], "{}", absent.name);
        }
        for flag in [&TRACEFILT, &MMAPTRC, &COPTRC] {
            assert_eq!(architected(flag), [0, 1], "{}", flag.name);
        }
    }

    #[test]
    fn perfmon_and_pmuver_encode_the_forms_of_pmuv3_alike_except_for_the_first() {
        assert_eq!([0, 1, 4, 5, 6, 7, 8, 9].map(perfmon_of), [0, 3, 4, 5, 6, 7, 8, 9]);
        for pmuver in (0..15).filter(|pmuver| dfr0::PMUVER.is_architected(*pmuver)) {
            assert!(PERFMON.is_architected(perfmon_of(pmuver)), "PMUVer {pmuver}");
        }
    }
}
