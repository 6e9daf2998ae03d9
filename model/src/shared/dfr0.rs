// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The fields of ID_AA64DFR0_EL1, their architected encodings, and which value promises more than another.
//!
//! The order of values is the ID scheme's (DDI 0487, "Principles of the ID scheme for fields in ID registers"):
//! a greater value promises at least what a smaller one does, with values read as unsigned or, for some
//! fields, as signed. The encodings are the register page's.

use crate::sysreg::{ID_AA64DFR0_EL1, SysReg};

/// How a field's values are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Unsigned: a smaller value promises less.
    Unsigned,
    /// Signed: 0b1111 is -1 and promises less than 0.
    Signed,
    /// Unsigned, except that 0b1111 is outside of the order: it is an IMPLEMENTATION DEFINED form.
    UnsignedOrImpDef,
}

/// A four-bit field of a debug feature register.
#[derive(Debug)]
pub struct Field {
    /// The register that it is in.
    pub reg: SysReg,
    /// The Arm ARM's name.
    pub name: &'static str,
    /// Its name in the names of cases.
    pub slug: &'static str,
    /// The lowest bit.
    pub lsb: u8,
    /// How its values are ordered.
    pub order: Order,
    /// Bit v is set when the encoding v is architected; the others are reserved.
    pub(crate) encodings: u16,
}

/// All encodings of a field that holds a count minus one and reserves zero.
const COUNT_FROM_TWO: u16 = 0xfffe;

const fn field(name: &'static str, slug: &'static str, lsb: u8, order: Order, encodings: u16) -> Field {
    Field { reg: ID_AA64DFR0_EL1, name, slug, lsb, order, encodings }
}

/// HPMN0: setting MDCR_EL2.HPMN to zero.
pub const HPMN0: Field = field("HPMN0", "hpmn0", 60, Order::Unsigned, 0b11);
/// ExtTrcBuff: trace buffer external mode.
pub const EXTTRCBUFF: Field = field("ExtTrcBuff", "exttrcbuff", 56, Order::Unsigned, 0b11);
/// BRBE: Branch Record Buffer Extension.
pub const BRBE: Field = field("BRBE", "brbe", 52, Order::Unsigned, 0b111);
/// MTPMU: multi-threaded PMU extension.
pub const MTPMU: Field = field("MTPMU", "mtpmu", 48, Order::Signed, 0x8003);
/// TraceBuffer: Trace Buffer Extension.
pub const TRACEBUFFER: Field = field("TraceBuffer", "tracebuffer", 44, Order::Unsigned, 0b111);
/// TraceFilt: self-hosted trace extension.
pub const TRACEFILT: Field = field("TraceFilt", "tracefilt", 40, Order::Unsigned, 0b11);
/// DoubleLock: OS Double Lock.
pub const DOUBLELOCK: Field = field("DoubleLock", "doublelock", 36, Order::Signed, 0x8001);
/// PMSVer: Statistical Profiling Extension.
pub const PMSVER: Field = field("PMSVer", "pmsver", 32, Order::Unsigned, 0b111_1111);
/// CTX_CMPs: context-aware breakpoints, minus one.
pub const CTX_CMPS: Field = field("CTX_CMPs", "ctx_cmps", 28, Order::Unsigned, 0xffff);
/// SEBEP: Synchronous-exception-based event profiling.
pub const SEBEP: Field = field("SEBEP", "sebep", 24, Order::Unsigned, 0b11);
/// WRPs: watchpoints, minus one; zero is reserved.
pub const WRPS: Field = field("WRPs", "wrps", 20, Order::Unsigned, COUNT_FROM_TWO);
/// PMSS: PMU Snapshot extension.
pub const PMSS: Field = field("PMSS", "pmss", 16, Order::Unsigned, 0b11);
/// BRPs: breakpoints, minus one; zero is reserved.
pub const BRPS: Field = field("BRPs", "brps", 12, Order::Unsigned, COUNT_FROM_TWO);
/// PMUVer: Performance Monitors Extension; 0b1111 is an IMPLEMENTATION DEFINED form.
pub const PMUVER: Field = field("PMUVer", "pmuver", 8, Order::UnsignedOrImpDef, 0x83f3);
/// TraceVer: trace unit's System registers.
pub const TRACEVER: Field = field("TraceVer", "tracever", 4, Order::Unsigned, 0b11);
/// DebugVer: the debug architecture; Armv8 starts at 6.
pub const DEBUGVER: Field = field("DebugVer", "debugver", 0, Order::Unsigned, 0x0fc0);

/// DoubleLock: FEAT_DoubleLock is implemented.
pub const DOUBLELOCK_IMP: u8 = 0b0000;
/// DoubleLock: FEAT_DoubleLock is not implemented, OSDLR_EL1 is RAZ/WI.
pub const DOUBLELOCK_NI: u8 = 0b1111;
/// PMUVer: an IMPLEMENTATION DEFINED form of performance monitors.
pub const PMUVER_IMP_DEF: u8 = 0b1111;
/// PMUVer: no Performance Monitors Extension.
pub const PMUVER_NI: u8 = 0b0000;

/// Every field, highest first, as the register page lists them.
pub const FIELDS: [&Field; 16] = [
    &HPMN0,
    &EXTTRCBUFF,
    &BRBE,
    &MTPMU,
    &TRACEBUFFER,
    &TRACEFILT,
    &DOUBLELOCK,
    &PMSVER,
    &CTX_CMPS,
    &SEBEP,
    &WRPS,
    &PMSS,
    &BRPS,
    &PMUVER,
    &TRACEVER,
    &DEBUGVER,
];

impl Field {
    /// The field's bits in the register.
    pub const fn mask(&self) -> u64 {
        0xf << self.lsb
    }

    /// The field's value in a value of the register.
    pub const fn get(&self, register: u64) -> u8 {
        (register >> self.lsb & 0xf) as u8
    }

    /// The register with this field set to the low four bits of `value`.
    pub const fn with(&self, register: u64, value: u8) -> u64 {
        register & !self.mask() | (value as u64 & 0xf) << self.lsb
    }

    /// The architecture gives `value` a meaning; otherwise it is reserved.
    pub const fn is_architected(&self, value: u8) -> bool {
        self.encodings >> (value & 0xf) & 1 == 1
    }

    /// `value` promises no more than `limit` does. An IMPLEMENTATION DEFINED form is comparable only with
    /// itself.
    pub const fn promises_no_more(&self, value: u8, limit: u8) -> bool {
        match self.order {
            Order::Unsigned => value <= limit,
            Order::Signed => signed(value) <= signed(limit),
            Order::UnsignedOrImpDef => value == limit || (limit != 0xf && value <= limit),
        }
    }
}

const fn signed(value: u8) -> i8 {
    ((value << 4) as i8) >> 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_cover_the_register_once() {
        assert_eq!(FIELDS.iter().fold(0, |seen, field| seen | field.mask()), u64::MAX);
        for pair in FIELDS.windows(2) {
            assert_eq!(pair[0].lsb, pair[1].lsb + 4, "{} is above {}", pair[0].name, pair[1].name);
        }
    }

    #[test]
    fn a_field_reads_back_what_was_put_in_and_leaves_the_rest() {
        for field in FIELDS {
            for value in 0..16 {
                let register = field.with(0x0123_4567_89ab_cdef, value);
                assert_eq!(field.get(register), value);
                assert_eq!(register & !field.mask(), 0x0123_4567_89ab_cdef & !field.mask());
            }
        }
    }

    #[test]
    fn not_implementing_the_double_lock_promises_less_than_implementing_it() {
        assert!(DOUBLELOCK.promises_no_more(DOUBLELOCK_NI, DOUBLELOCK_IMP));
        assert!(!DOUBLELOCK.promises_no_more(DOUBLELOCK_IMP, DOUBLELOCK_NI));
    }

    #[test]
    fn fewer_registers_promise_less() {
        for field in [&BRPS, &WRPS, &CTX_CMPS] {
            assert!(field.promises_no_more(3, 5));
            assert!(!field.promises_no_more(5, 3));
        }
    }

    #[test]
    fn an_impdef_pmu_is_not_a_lesser_form_of_pmuv3() {
        assert!(!PMUVER.promises_no_more(PMUVER_IMP_DEF, 4));
        assert!(!PMUVER.promises_no_more(4, PMUVER_IMP_DEF));
        assert!(PMUVER.promises_no_more(PMUVER_NI, 4));
    }

    #[test]
    fn reserved_encodings_are_those_that_the_register_page_does_not_list() {
        let architected = |field: &Field| -> alloc::vec::Vec<u8> {
            (0..16).filter(|value| field.is_architected(*value)).collect()
        };
        assert_eq!(architected(&DOUBLELOCK), [0, 15]);
        assert_eq!(architected(&MTPMU), [0, 1, 15]);
        assert_eq!(architected(&DEBUGVER), [6, 7, 8, 9, 10, 11]);
        assert_eq!(architected(&PMUVER), [0, 1, 4, 5, 6, 7, 8, 9, 15]);
        assert!(
            !BRPS.is_architected(0) && !WRPS.is_architected(0),
            "one breakpoint or watchpoint is reserved"
        );
        assert!(CTX_CMPS.is_architected(0), "one context-aware breakpoint is not reserved");
    }
}
