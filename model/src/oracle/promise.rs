// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Which registers the debug feature registers promise to a guest at EL1.
//!
//! The Configuration section of a register's page says with which feature the register is present, and that
//! an access is UNDEFINED without the feature. The table has one register for each feature. A read of it has
//! no side effect, and does not depend on a control that the guest cannot see. For the Trace Buffer Extension
//! it is TRBLIMITR_EL1 and not TRBIDR_EL1, because MDCR_EL2.E2TB does not trap the latter: KVM cannot hide it
//! without FEAT_FGT.
//!
//! These fields promise no register to EL1:
//!
//! - HPMN0: a value of MDCR_EL2, which is EL2's;
//! - ExtTrcBuff: registers that a debugger outside of the PE accesses; TRBMPAM_EL1 is FEAT_TRBE_MPAM's;
//! - MTPMU: PMEVTYPER<n>_EL0.MT, a field of registers that are present without it;
//! - DoubleLock: OSDLR_EL1 is present without it, as RAZ/WI;
//! - BRPs, WRPs, CTX_CMPs and ABL_CMPs: numbers of registers; see [`Shape`](crate::shape::Shape);
//! - ABLE and BWE: fields of DBGBCR<n>_EL1 and DBGWCR<n>_EL1;
//! - DPFZS: a behaviour of PMCCNTR_EL0;
//! - SYSPMUID: values of SPMSELR_EL0;
//! - SPE_nVM, SPE_EXC and TRBE_EXC: fields of registers that are present without them, and registers of EL2.

use crate::{
    dfr0::{
        BRBE, DEBUGVER, Field, PMSS, PMSVER, PMUVER, PMUVER_IMP_DEF, SEBEP, TRACEBUFFER, TRACEFILT, TRACEVER,
    },
    outcome::ESR_UNDEFINED,
    sysreg::{
        BRBIDR0_EL1, MDSELR_EL1, MDSTEPOP_EL1, PMCR_EL0, PMECR_EL1, PMIAR_EL1, PMICNTR_EL0, PMMIR_EL1,
        PMSIDR_EL1, PMSSCR_EL1, PMUACR_EL1, SPMSELR_EL0, SysReg, TRBLIMITR_EL1, TRCIDR1, TRCITECR_EL1,
        TRFCR_EL1,
    },
};

/// The debug feature registers of a guest in AArch64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugFeatures {
    /// ID_AA64DFR0_EL1.
    pub id_aa64dfr0: u64,
    /// ID_AA64DFR1_EL1.
    pub id_aa64dfr1: u64,
    /// ID_AA64DFR2_EL1.
    pub id_aa64dfr2: u64,
}

/// A register that is present exactly if the debug feature registers say so.
#[derive(Debug)]
pub struct Promise {
    /// The register.
    pub reg: SysReg,
    /// Its name in the names of cases.
    pub slug: &'static str,
    /// The fields that promise it.
    pub fields: &'static str,
    /// If it is not promised it may read as zero, because a CPU that has it as RAZ/WI need not let a
    /// hypervisor trap it.
    pub may_be_raz: bool,
    is_made: fn(DebugFeatures) -> bool,
}

/// FEAT_Debugv8p9.
const DEBUGVER_V8P9: u8 = 0b1011;
/// FEAT_PMUv3p4.
const PMUVER_V3P4: u8 = 0b0101;
/// FEAT_PMUv3p9.
const PMUVER_V3P9: u8 = 0b1001;

/// ID_AA64DFR1_EL1.EBEP.
const EBEP: u32 = 48;
/// ID_AA64DFR1_EL1.ITE.
const ITE: u32 = 44;
/// ID_AA64DFR1_EL1.PMICNTR.
const PMICNTR: u32 = 36;
/// ID_AA64DFR1_EL1.SPMU.
const SPMU: u32 = 32;
/// ID_AA64DFR2_EL1.STEP.
const STEP: u32 = 0;

const fn promise(
    reg: SysReg,
    slug: &'static str,
    fields: &'static str,
    is_made: fn(DebugFeatures) -> bool,
) -> Promise {
    Promise { reg, slug, fields, may_be_raz: false, is_made }
}

/// A CPU with 16 or fewer breakpoints and watchpoints may have MDSELR_EL1 as RAZ/WI, and then it is IMPLEMENTATION DEFINED
/// whether the traps to EL2 have an effect (DDI 0487K.a MDSELR_EL1, Accessing MDSELR_EL1).
const MDSELR: Promise = Promise {
    may_be_raz: true,
    ..promise(MDSELR_EL1, "mdselr", "DebugVer", |id| DEBUGVER.get(id.id_aa64dfr0) >= DEBUGVER_V8P9)
};

/// Every promise, in the order of the fields.
pub static TABLE: [Promise; 16] = [
    promise(BRBIDR0_EL1, "brbidr0", "BRBE", |id| id.has(&BRBE)),
    promise(TRBLIMITR_EL1, "trblimitr", "TraceBuffer", |id| id.has(&TRACEBUFFER)),
    promise(TRFCR_EL1, "trfcr", "TraceFilt", |id| id.has(&TRACEFILT)),
    promise(PMSIDR_EL1, "pmsidr", "PMSVer", |id| id.has(&PMSVER)),
    promise(PMIAR_EL1, "pmiar", "SEBEP", |id| id.has(&SEBEP)),
    promise(PMSSCR_EL1, "pmsscr", "PMSS", |id| id.has(&PMSS)),
    promise(PMCR_EL0, "pmcr", "PMUVer", |id| id.has_pmu()),
    promise(PMMIR_EL1, "pmmir", "PMUVer", |id| id.pmuv3() >= PMUVER_V3P4),
    promise(PMUACR_EL1, "pmuacr", "PMUVer", |id| id.pmuv3() >= PMUVER_V3P9),
    promise(TRCIDR1, "trcidr1", "TraceVer", |id| id.has(&TRACEVER)),
    MDSELR,
    promise(PMECR_EL1, "pmecr", "EBEP or PMSS", |id| id.has1(EBEP) || id.has(&PMSS)),
    promise(TRCITECR_EL1, "trcitecr", "ITE with TraceVer", |id| id.has1(ITE) && id.has(&TRACEVER)),
    promise(PMICNTR_EL0, "pmicntr", "PMICNTR", |id| id.has1(PMICNTR)),
    promise(SPMSELR_EL0, "spmselr", "SPMU", |id| id.has1(SPMU)),
    promise(MDSTEPOP_EL1, "mdstepop", "STEP", |id| id.id_aa64dfr2 >> STEP & 0xf != 0),
];

impl Promise {
    /// The debug feature registers say that this register is present; otherwise they say that it is not.
    pub fn is_made_by(&self, id: DebugFeatures) -> bool {
        (self.is_made)(id)
    }

    /// A guest with these feature registers may read this value, or take an exception with this ESR_EL1.
    pub fn allows(&self, id: DebugFeatures, read: Result<u64, u64>) -> bool {
        match read {
            Ok(value) => self.is_made_by(id) || self.may_be_raz && value == 0,
            Err(esr) => !self.is_made_by(id) && esr == ESR_UNDEFINED,
        }
    }
}

/// The promise of a register, if it is in the table.
pub fn of(reg: SysReg) -> Option<&'static Promise> {
    TABLE.iter().find(|promise| promise.reg == reg)
}

/// This ESR_EL1 has the exception class of an UNDEFINED instruction, which is zero.
pub const fn is_undefined(esr: u64) -> bool {
    const EC: u32 = 26;
    esr >> EC == 0
}

impl DebugFeatures {
    fn has(self, field: &Field) -> bool {
        field.get(self.id_aa64dfr0) != 0
    }

    fn has1(self, lsb: u32) -> bool {
        self.id_aa64dfr1 >> lsb & 0xf != 0
    }

    /// The VM has PMUv3.
    pub(crate) fn has_pmu(self) -> bool {
        self.pmuv3() > 0
    }

    /// PMUVer, or zero without PMUv3: an IMPLEMENTATION DEFINED form of performance monitors is not PMUv3.
    fn pmuv3(self) -> u8 {
        match PMUVER.get(self.id_aa64dfr0) {
            PMUVER_IMP_DEF => 0,
            form => form,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Armv8.0 debug and nothing else.
    const NONE: DebugFeatures = DebugFeatures { id_aa64dfr0: 6, id_aa64dfr1: 0, id_aa64dfr2: 0 };

    fn promised(id: DebugFeatures) -> Vec<&'static str> {
        TABLE.iter().filter(|promise| promise.is_made_by(id)).map(|promise| promise.slug).collect()
    }

    fn dfr0(field: &Field, value: u8) -> Vec<&'static str> {
        promised(DebugFeatures { id_aa64dfr0: field.with(NONE.id_aa64dfr0, value), ..NONE })
    }

    fn dfr1(lsb: u32) -> Vec<&'static str> {
        promised(DebugFeatures { id_aa64dfr1: 1 << lsb, ..NONE })
    }

    #[test]
    fn each_field_promises_its_register_and_no_other() {
        assert_eq!(dfr0(&DEBUGVER, 6), [""; 0]);
        for (field, slug) in [
            (&BRBE, "brbidr0"),
            (&TRACEBUFFER, "trblimitr"),
            (&TRACEFILT, "trfcr"),
            (&PMSVER, "pmsidr"),
            (&SEBEP, "pmiar"),
            (&TRACEVER, "trcidr1"),
        ] {
            assert_eq!((dfr0(field, 1), dfr0(field, 0)), ([slug].into(), [""; 0].into()), "{}", field.name);
        }
        assert_eq!(dfr0(&PMSS, 1), ["pmsscr", "pmecr"]);
        assert_eq!(dfr1(EBEP), ["pmecr"]);
        assert_eq!((dfr1(PMICNTR), dfr1(SPMU)), (["pmicntr"].into(), ["spmselr"].into()));
    }

    #[test]
    fn each_form_of_pmuv3_promises_what_the_previous_one_does() {
        assert_eq!(dfr0(&PMUVER, 0), [""; 0]);
        assert_eq!((dfr0(&PMUVER, 1), dfr0(&PMUVER, 4)), (["pmcr"].into(), ["pmcr"].into()));
        assert_eq!(
            (dfr0(&PMUVER, 5), dfr0(&PMUVER, 8)),
            (["pmcr", "pmmir"].into(), ["pmcr", "pmmir"].into())
        );
        assert_eq!(dfr0(&PMUVER, 9), ["pmcr", "pmmir", "pmuacr"]);
        assert_eq!(dfr0(&PMUVER, PMUVER_IMP_DEF), [""; 0], "another kind of performance monitors");
    }

    #[test]
    fn mdselr_comes_with_debugv8p9_and_mdstepop_with_its_own_field() {
        assert_eq!(dfr0(&DEBUGVER, 10), [""; 0]);
        assert_eq!((dfr0(&DEBUGVER, 11), dfr0(&DEBUGVER, 12)), (["mdselr"].into(), ["mdselr"].into()));
        assert_eq!(promised(DebugFeatures { id_aa64dfr2: 1, ..NONE }), ["mdstepop"]);
    }

    #[test]
    fn instrumentation_trace_needs_the_trace_units_registers() {
        assert_eq!(dfr1(ITE), [""; 0]);
        let both = DebugFeatures { id_aa64dfr0: TRACEVER.with(6, 1), id_aa64dfr1: 1 << ITE, ..NONE };
        assert_eq!(promised(both), ["trcidr1", "trcitecr"]);
    }

    #[test]
    fn what_is_promised_can_be_read_and_what_is_not_is_undefined() {
        const UNDEFINED: u64 = 1 << 25;
        const TRAPPED: u64 = 0x18 << 26 | 1 << 25;
        let v8p9 = DebugFeatures { id_aa64dfr0: 11, ..NONE };
        let traced = DebugFeatures { id_aa64dfr0: TRACEVER.with(6, 1), ..NONE };
        for promise in &TABLE {
            let kept = match promise.slug {
                "mdselr" => v8p9,
                "trcidr1" => traced,
                _ => continue,
            };
            assert!(promise.allows(kept, Ok(1)) && promise.allows(kept, Ok(0)));
            assert!(!promise.allows(kept, Err(UNDEFINED)) && !promise.allows(kept, Err(TRAPPED)));
            assert!(promise.allows(NONE, Err(UNDEFINED)) && !promise.allows(NONE, Err(TRAPPED)));
            assert!(!promise.allows(NONE, Ok(1)) && !promise.allows(NONE, Err(0)));
            assert_eq!(promise.allows(NONE, Ok(0)), promise.slug == "mdselr");
        }
    }

    #[test]
    fn each_register_is_listed_once() {
        for (place, promise) in TABLE.iter().enumerate() {
            let mut before = TABLE[..place].iter();
            assert!(before.all(|other| other.reg != promise.reg && other.slug != promise.slug));
        }
    }
}
