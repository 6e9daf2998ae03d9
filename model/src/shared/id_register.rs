// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The names of the identification registers and of their fields (DDI 0487, each register's page).

use crate::{
    dfr0,
    sysreg::{ID_AA64DFR0_EL1, SysReg},
};

/// MIDR_EL1, REVIDR_EL1 and AIDR_EL1 name the implementation and promise no feature.
pub const IMPLEMENTATION: [SysReg; 3] =
    [crate::sysreg::MIDR_EL1, SysReg::new(3, 0, 0, 0, 6), SysReg::new(3, 1, 0, 0, 7)];

/// The register describes AArch32 state: op1 = 0, CRm = 1 to 3.
pub const fn is_aarch32(reg: SysReg) -> bool {
    reg.is_id() && matches!((reg.encoding() >> 11 & 7, reg.encoding() >> 3 & 15), (0, 1..=3))
}

/// This value of ID_AA64PFR0_EL1 says that EL0 supports AArch32 state.
pub const fn has_aarch32(id_aa64pfr0: u64) -> bool {
    id_aa64pfr0 & 0xf == 2
}

/// The register's name; `None` if it is not a feature ID register, or is unallocated.
pub fn name(reg: SysReg) -> Option<&'static str> {
    ROWS.iter().find(|row| row.reg == reg).map(|row| row.name)
}

/// The field that holds bit `bit`: its name and its lowest bit. `None` if the bit is reserved, or dfr0 does
/// not have names for the register's fields.
pub fn field(reg: SysReg, bit: u8) -> Option<(&'static str, u8)> {
    if reg == ID_AA64DFR0_EL1 {
        return dfr0::FIELDS
            .iter()
            .find(|field| bit >> 2 == field.lsb >> 2)
            .map(|field| (field.name, field.lsb));
    }
    let row = ROWS.iter().find(|row| row.reg == reg)?;
    let from_top = usize::from(15_u8.checked_sub(bit >> 2)?);
    row.fields.get(from_top).filter(|name| !name.is_empty()).map(|name| (*name, bit & !3))
}

/// A register and the names of its sixteen four-bit fields, highest first; empty for other layouts.
struct Row {
    reg: SysReg,
    name: &'static str,
    fields: &'static [&'static str],
}

const fn row(crm: u16, op2: u16, name: &'static str, fields: &'static [&'static str]) -> Row {
    Row { reg: SysReg::new(3, 0, 0, crm, op2), name, fields }
}

const fn row1(op1: u16, op2: u16, name: &'static str) -> Row {
    Row { reg: SysReg::new(3, op1, 0, 0, op2), name, fields: &[] }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row(0, 0, "MIDR_EL1", &[]),
    row(0, 5, "MPIDR_EL1", &[]),
    row(0, 6, "REVIDR_EL1", &[]),
    row(1, 0, "ID_PFR0_EL1", &["", "", "", "", "", "", "", "",
        "RAS", "DIT", "AMU", "CSV2", "State3", "State2", "State1", "State0"]),
    row(1, 1, "ID_PFR1_EL1", &["", "", "", "", "", "", "", "",
        "GIC", "Virt_frac", "Sec_frac", "GenTimer", "Virtualization", "MProgMod", "Security", "ProgMod"]),
    row(1, 2, "ID_DFR0_EL1", &["", "", "", "", "", "", "", "",
        "TraceFilt", "PerfMon", "MProfDbg", "MMapTrc", "CopTrc", "MMapDbg", "CopSDbg", "CopDbg"]),
    row(1, 3, "ID_AFR0_EL1", &[]),
    row(1, 4, "ID_MMFR0_EL1", &["", "", "", "", "", "", "", "",
        "InnerShr", "FCSE", "AuxReg", "TCM", "ShareLvl", "OuterShr", "PMSA", "VMSA"]),
    row(1, 5, "ID_MMFR1_EL1", &["", "", "", "", "", "", "", "",
        "BPred", "L1TstCln", "L1Uni", "L1Hvd", "L1UniSW", "L1HvdSW", "L1UniVA", "L1HvdVA"]),
    row(1, 6, "ID_MMFR2_EL1", &["", "", "", "", "", "", "", "",
        "HWAccFlg", "WFIStall", "MemBarr", "UniTLB", "HvdTLB", "L1HvdRng", "L1HvdBG", "L1HvdFG"]),
    row(1, 7, "ID_MMFR3_EL1", &["", "", "", "", "", "", "", "",
        "Supersec", "CMemSz", "CohWalk", "PAN", "MaintBcst", "BPMaint", "CMaintSW", "CMaintVA"]),
    row(2, 0, "ID_ISAR0_EL1", &["", "", "", "", "", "", "", "",
        "", "Divide", "Debug", "Coproc", "CmpBranch", "BitField", "BitCount", "Swap"]),
    row(2, 1, "ID_ISAR1_EL1", &["", "", "", "", "", "", "", "",
        "Jazelle", "Interwork", "Immediate", "IfThen", "Extend", "Except_AR", "Except", "Endian"]),
    row(2, 2, "ID_ISAR2_EL1", &["", "", "", "", "", "", "", "",
        "Reversal", "PSR_AR", "MultU", "MultS", "Mult", "MultiAccessInt", "MemHint", "LoadStore"]),
    row(2, 3, "ID_ISAR3_EL1", &["", "", "", "", "", "", "", "",
        "T32EE", "TrueNOP", "T32Copy", "TabBranch", "SynchPrim", "SVC", "SIMD", "Saturate"]),
    row(2, 4, "ID_ISAR4_EL1", &["", "", "", "", "", "", "", "",
        "SWP_frac", "PSR_M", "SynchPrim_frac", "Barrier", "SMC", "Writeback", "WithShifts", "Unpriv"]),
    row(2, 5, "ID_ISAR5_EL1", &["", "", "", "", "", "", "", "",
        "VCMA", "RDM", "", "CRC32", "SHA2", "SHA1", "AES", "SEVL"]),
    row(2, 6, "ID_MMFR4_EL1", &["", "", "", "", "", "", "", "",
        "EVT", "CCIDX", "LSM", "HPDS", "CnP", "XNX", "AC2", "SpecSEI"]),
    row(2, 7, "ID_ISAR6_EL1", &["", "", "", "", "", "", "", "",
        "CLRBHB", "I8MM", "BF16", "SPECRES", "SB", "FHM", "DP", "JSCVT"]),
    row(3, 0, "MVFR0_EL1", &["", "", "", "", "", "", "", "",
        "FPRound", "FPShVec", "FPSqrt", "FPDivide", "FPTrap", "FPDP", "FPSP", "SIMDReg"]),
    row(3, 1, "MVFR1_EL1", &["", "", "", "", "", "", "", "",
        "SIMDFMAC", "FPHP", "SIMDHP", "SIMDSP", "SIMDInt", "SIMDLS", "FPDNaN", "FPFtZ"]),
    row(3, 2, "MVFR2_EL1", &["", "", "", "", "", "", "", "",
        "", "", "", "", "", "", "FPMisc", "SIMDMisc"]),
    row(3, 4, "ID_PFR2_EL1", &["", "", "", "", "", "", "", "",
        "", "", "", "", "", "RAS_frac", "SSBS", "CSV3"]),
    row(3, 5, "ID_DFR1_EL1", &["", "", "", "", "", "", "", "",
        "", "", "", "", "", "", "HPMN0", "MTPMU"]),
    row(3, 6, "ID_MMFR5_EL1", &["", "", "", "", "", "", "", "",
        "", "", "", "", "", "", "nTLBPA", "ETS"]),
    row(4, 0, "ID_AA64PFR0_EL1", &["CSV3", "CSV2", "RME", "DIT", "AMU", "MPAM", "SEL2", "SVE",
        "RAS", "GIC", "AdvSIMD", "FP", "EL3", "EL2", "EL1", "EL0"]),
    row(4, 1, "ID_AA64PFR1_EL1", &["PFAR", "DF2", "MTEX", "THE", "GCS", "MTE_frac", "NMI", "CSV2_frac",
        "RNDR_trap", "SME", "", "MPAM_frac", "RAS_frac", "MTE", "SSBS", "BT"]),
    row(4, 2, "ID_AA64PFR2_EL1", &["", "", "", "", "", "", "", "FPMR",
        "", "", "", "UINJ", "GCIE", "MTEFAR", "MTESTOREONLY", "MTEPERM"]),
    row(4, 4, "ID_AA64ZFR0_EL1", &["", "F64MM", "F32MM", "F16MM", "I8MM", "SM4", "", "SHA3",
        "", "B16B16", "BF16", "BitPerm", "EltPerm", "", "AES", "SVEver"]),
    row(4, 5, "ID_AA64SMFR0_EL1", &[]),
    row(4, 7, "ID_AA64FPFR0_EL1", &[]),
    row(5, 0, "ID_AA64DFR0_EL1", &[]),
    row(5, 1, "ID_AA64DFR1_EL1", &[]),
    row(5, 2, "ID_AA64DFR2_EL1", &["", "", "", "", "", "", "", "",
        "", "TRBE_EXC", "SPE_nVM", "SPE_EXC", "", "", "BWE", "STEP"]),
    row(5, 4, "ID_AA64AFR0_EL1", &[]),
    row(5, 5, "ID_AA64AFR1_EL1", &[]),
    row(6, 0, "ID_AA64ISAR0_EL1", &["RNDR", "TLB", "TS", "FHM", "DP", "SM4", "SM3", "SHA3",
        "RDM", "TME", "Atomic", "CRC32", "SHA2", "SHA1", "AES", ""]),
    row(6, 1, "ID_AA64ISAR1_EL1", &["LS64", "XS", "I8MM", "DGH", "BF16", "SPECRES", "SB", "FRINTTS",
        "GPI", "GPA", "LRCPC", "FCMA", "JSCVT", "API", "APA", "DPB"]),
    row(6, 2, "ID_AA64ISAR2_EL1", &["ATS1A", "LUT", "CSSC", "RPRFM", "PCDPHINT", "PRFMSLC", "SYSINSTR_128", "SYSREG_128",
        "CLRBHB", "PAC_frac", "BC", "MOPS", "APA3", "GPA3", "RPRES", "WFxT"]),
    row(6, 3, "ID_AA64ISAR3_EL1", &["", "", "", "", "", "", "", "",
        "FPRCVT", "LSUI", "OCCMO", "LSFE", "PACM", "TLBIW", "FAMINMAX", "CPA"]),
    row(7, 0, "ID_AA64MMFR0_EL1", &["ECV", "FGT", "", "", "ExS", "TGran4_2", "TGran64_2", "TGran16_2",
        "TGran4", "TGran64", "TGran16", "BigEndEL0", "SNSMem", "BigEnd", "ASIDBits", "PARange"]),
    row(7, 1, "ID_AA64MMFR1_EL1", &["ECBHB", "CMOW", "TIDCP1", "nTLBPA", "AFP", "HCX", "ETS", "TWED",
        "XNX", "SpecSEI", "PAN", "LO", "HPDS", "VH", "VMIDBits", "HAFDBS"]),
    row(7, 2, "ID_AA64MMFR2_EL1", &["E0PD", "EVT", "BBM", "TTL", "", "FWB", "IDS", "AT",
        "ST", "NV", "CCIDX", "VARange", "IESB", "LSM", "UAO", "CnP"]),
    row(7, 3, "ID_AA64MMFR3_EL1", &["Spec_FPACC", "ADERR", "SDERR", "", "ANERR", "SNERR", "D128_2", "D128",
        "MEC", "AIE", "S2POE", "S1POE", "S2PIE", "S1PIE", "SCTLRX", "TCRX"]),
    row(7, 4, "ID_AA64MMFR4_EL1", &["MTEFGT", "SCRX", "TEV", "TPS", "SRMASK", "TLBID", "E3DSE", "EAESR",
        "RMEGDI", "E2H0", "NV_frac", "FGWTE3", "HACDBS", "ASID2", "EIESB", "PoPS"]),
    row1(1, 0, "CCSIDR_EL1"),
    row1(1, 1, "CLIDR_EL1"),
    row1(1, 2, "CCSIDR2_EL1"),
    row1(1, 4, "GMID_EL1"),
    row1(1, 6, "SMIDR_EL1"),
    row1(1, 7, "AIDR_EL1"),
    row1(3, 1, "CTR_EL0"),
    row1(3, 7, "DCZID_EL0"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysreg::ID_AA64PFR0_EL1;

    #[test]
    fn each_register_is_listed_once_and_is_in_the_feature_id_space() {
        for (n, row) in ROWS.iter().enumerate() {
            assert!(row.reg.is_id(), "{}", row.name);
            assert!(matches!(row.fields.len(), 0 | 16), "{}", row.name);
            assert!(
                ROWS[..n].iter().all(|other| other.reg != row.reg && other.name != row.name),
                "{}",
                row.name
            );
        }
    }

    #[test]
    fn registers_and_fields_have_the_architectures_names() {
        assert_eq!(name(ID_AA64DFR0_EL1), Some("ID_AA64DFR0_EL1"));
        assert_eq!(name(SysReg::new(3, 0, 0, 4, 3)), None);
        assert_eq!(field(ID_AA64PFR0_EL1, 63), Some(("CSV3", 60)));
        assert_eq!(field(ID_AA64PFR0_EL1, 0), Some(("EL0", 0)));
        assert_eq!(field(ID_AA64DFR0_EL1, 29), Some(("CTX_CMPs", 28)));
        assert_eq!(field(SysReg::new(3, 0, 0, 1, 2), 3), Some(("CopDbg", 0)));
        assert_eq!(field(SysReg::new(3, 0, 0, 1, 2), 32), None, "AArch32 registers have 32 bits");
        assert_eq!(field(ID_AA64PFR0_EL1, 64), None);
        assert_eq!(field(SysReg::new(3, 3, 0, 0, 1), 0), None, "another layout");
    }

    #[test]
    fn the_registers_of_aarch32_have_crm_1_to_3() {
        assert!(is_aarch32(SysReg::new(3, 0, 0, 1, 0)) && is_aarch32(SysReg::new(3, 0, 0, 3, 7)));
        assert!(!is_aarch32(SysReg::new(3, 0, 0, 0, 0)) && !is_aarch32(ID_AA64PFR0_EL1));
        assert!(!is_aarch32(SysReg::new(3, 3, 0, 1, 0)));
        assert!(has_aarch32(0x1100_0000_1111_1112) && !has_aarch32(0x1101_0110_2111_1111));
    }
}
