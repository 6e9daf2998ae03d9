// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! System registers: one 16-bit encoding that MRS, MSR and KVM's one_reg ids share.

use core::fmt;

/// A system register, named by its `op0:op1:CRn:CRm:op2` (DDI 0487 C5.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SysReg(u16);

impl SysReg {
    /// The register with this encoding; `op0` is 2 or 3.
    pub const fn new(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> Self {
        Self(op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2)
    }

    /// The register with these low 16 bits of a `KVM_REG_ARM64_SYSREG` id.
    pub const fn from_encoding(encoding: u16) -> Self {
        Self(encoding)
    }

    /// The register's op0: 2 for debug registers, 3 for the others.
    pub const fn op0(self) -> u16 {
        self.0 >> 14
    }

    /// The register is in the feature ID space, for which KVM_ARM_GET_REG_WRITABLE_MASKS has masks (KVM API,
    /// 4.139): op0 = 3, op1 one of 0, 1 and 3, CRn = 0, CRm = 0 to 7.
    pub const fn is_id(self) -> bool {
        let (op1, crn, crm) = (self.0 >> 11 & 7, self.0 >> 7 & 0xf, self.0 >> 3 & 0xf);
        self.op0() == 3 && matches!(op1, 0 | 1 | 3) && crn == 0 && crm < 8
    }

    /// The register is an ID register: op0 = 3, op1 = 0, CRn = 0, CRm = 1 to 7 (DDI 0487 D23, the space that
    /// HCR_EL2.TID3 traps).
    pub const fn is_id_register(self) -> bool {
        const FIRST: u16 = SysReg::new(3, 0, 0, 1, 0).0;
        const LAST: u16 = SysReg::new(3, 0, 0, 7, 7).0;
        FIRST <= self.0 && self.0 <= LAST
    }

    /// The encoding as the low 16 bits of a `KVM_REG_ARM64_SYSREG` id (KVM API, 4.68).
    pub const fn encoding(self) -> u16 {
        self.0
    }

    /// The instruction `MRS X0, <self>`.
    pub const fn mrs_x0(self) -> u32 {
        0xd520_0000 | (self.0 as u32) << 5
    }

    /// The instruction `MSR <self>, X0`.
    pub const fn msr_x0(self) -> u32 {
        0xd500_0000 | (self.0 as u32) << 5
    }

    /// The register's place in [`TABLE`], if the payload knows it.
    pub fn index(self) -> Option<usize> {
        match self.debug_number() {
            Some((DebugRegister::Bvr, n)) => Some(usize::from(n)),
            Some((DebugRegister::Bcr, n)) => Some(16 + usize::from(n)),
            Some((DebugRegister::Wvr, n)) => Some(32 + usize::from(n)),
            Some((DebugRegister::Wcr, n)) => Some(48 + usize::from(n)),
            None => NAMED.iter().position(|(reg, _)| *reg == self).map(|place| 64 + place),
        }
    }

    /// The number n of a DBG{B,W}{V,C}R<n>_EL1 and its kind, for a register of that family.
    pub const fn debug_number(self) -> Option<(DebugRegister, u8)> {
        const FIXED: u16 = SysReg::new(3, 7, 15, 0, 0).0;
        if self.0 & FIXED != SysReg::new(2, 0, 0, 0, 0).0 {
            return None;
        }
        let number = (self.0 >> 3 & 0xf) as u8;
        match self.0 & 0b111 {
            4 => Some((DebugRegister::Bvr, number)),
            5 => Some((DebugRegister::Bcr, number)),
            6 => Some((DebugRegister::Wvr, number)),
            7 => Some((DebugRegister::Wcr, number)),
            _ => None,
        }
    }
}

/// The four registers of a breakpoint and of a watchpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugRegister {
    /// DBGBVR<n>_EL1, a breakpoint's value.
    Bvr,
    /// DBGBCR<n>_EL1, a breakpoint's control.
    Bcr,
    /// DBGWVR<n>_EL1, a watchpoint's value.
    Wvr,
    /// DBGWCR<n>_EL1, a watchpoint's control.
    Wcr,
}

/// DBGBVR<n>_EL1, Debug Breakpoint Value Register n (0 to 15).
pub const fn dbgbvr(n: u8) -> SysReg {
    SysReg::new(2, 0, 0, n as u16 & 0xf, 4)
}

/// DBGBCR<n>_EL1, Debug Breakpoint Control Register n (0 to 15).
pub const fn dbgbcr(n: u8) -> SysReg {
    SysReg::new(2, 0, 0, n as u16 & 0xf, 5)
}

/// DBGWVR<n>_EL1, Debug Watchpoint Value Register n (0 to 15).
pub const fn dbgwvr(n: u8) -> SysReg {
    SysReg::new(2, 0, 0, n as u16 & 0xf, 6)
}

/// DBGWCR<n>_EL1, Debug Watchpoint Control Register n (0 to 15).
pub const fn dbgwcr(n: u8) -> SysReg {
    SysReg::new(2, 0, 0, n as u16 & 0xf, 7)
}

/// MDSCR_EL1, Monitor Debug System Control Register.
pub const MDSCR_EL1: SysReg = SysReg::new(2, 0, 0, 2, 2);
/// OSLAR_EL1, OS Lock Access Register (write-only).
pub const OSLAR_EL1: SysReg = SysReg::new(2, 0, 1, 0, 4);
/// OSLSR_EL1, OS Lock Status Register (read-only).
pub const OSLSR_EL1: SysReg = SysReg::new(2, 0, 1, 1, 4);
/// OSDLR_EL1, OS Double Lock Register.
pub const OSDLR_EL1: SysReg = SysReg::new(2, 0, 1, 3, 4);
/// DBGVCR32_EL2, Debug Vector Catch Register: DBGVCR of a guest in AArch32.
pub const DBGVCR32_EL2: SysReg = SysReg::new(2, 4, 0, 7, 0);
/// MDCCINT_EL1, Monitor DCC Interrupt Enable Register.
pub const MDCCINT_EL1: SysReg = SysReg::new(2, 0, 0, 2, 0);
/// OSECCR_EL1, OS Lock Exception Catch Control Register.
pub const OSECCR_EL1: SysReg = SysReg::new(2, 0, 0, 6, 2);
/// DBGCLAIMSET_EL1, Debug CLAIM Tag Set register.
pub const DBGCLAIMSET_EL1: SysReg = SysReg::new(2, 0, 7, 8, 6);
/// DBGCLAIMCLR_EL1, Debug CLAIM Tag Clear register.
pub const DBGCLAIMCLR_EL1: SysReg = SysReg::new(2, 0, 7, 9, 6);
/// DBGAUTHSTATUS_EL1, Debug Authentication Status register (read-only).
pub const DBGAUTHSTATUS_EL1: SysReg = SysReg::new(2, 0, 7, 14, 6);
/// MDRAR_EL1, Monitor Debug ROM Address Register (read-only).
pub const MDRAR_EL1: SysReg = SysReg::new(2, 0, 1, 0, 0);
/// MDCCSR_EL0, Monitor DCC Status Register (read-only).
pub const MDCCSR_EL0: SysReg = SysReg::new(2, 3, 0, 1, 0);
/// SCTLR_EL1, System Control Register.
pub const SCTLR_EL1: SysReg = SysReg::new(3, 0, 1, 0, 0);
/// VBAR_EL1, Vector Base Address Register.
pub const VBAR_EL1: SysReg = SysReg::new(3, 0, 12, 0, 0);
/// CONTEXTIDR_EL1, Context ID Register.
pub const CONTEXTIDR_EL1: SysReg = SysReg::new(3, 0, 13, 0, 1);
/// ID_AA64DFR0_EL1, AArch64 Debug Feature Register 0.
pub const ID_AA64DFR0_EL1: SysReg = SysReg::new(3, 0, 0, 5, 0);
/// ID_AA64DFR1_EL1, AArch64 Debug Feature Register 1.
pub const ID_AA64DFR1_EL1: SysReg = SysReg::new(3, 0, 0, 5, 1);
/// ID_AA64DFR2_EL1, AArch64 Debug Feature Register 2.
pub const ID_AA64DFR2_EL1: SysReg = SysReg::new(3, 0, 0, 5, 2);
/// ID_DFR0_EL1, AArch32 Debug Feature Register 0.
pub const ID_DFR0_EL1: SysReg = SysReg::new(3, 0, 0, 1, 2);
/// ID_DFR1_EL1, AArch32 Debug Feature Register 1.
pub const ID_DFR1_EL1: SysReg = SysReg::new(3, 0, 0, 3, 5);
/// ID_AA64PFR0_EL1, AArch64 Processor Feature Register 0.
pub const ID_AA64PFR0_EL1: SysReg = SysReg::new(3, 0, 0, 4, 0);
/// ID_AA64PFR1_EL1, AArch64 Processor Feature Register 1.
pub const ID_AA64PFR1_EL1: SysReg = SysReg::new(3, 0, 0, 4, 1);
/// ID_AA64MMFR2_EL1, AArch64 Memory Model Feature Register 2.
pub const ID_AA64MMFR2_EL1: SysReg = SysReg::new(3, 0, 0, 7, 2);
/// ID_AA64ISAR2_EL1, AArch64 Instruction Set Attribute Register 2.
pub const ID_AA64ISAR2_EL1: SysReg = SysReg::new(3, 0, 0, 6, 2);
/// ID_AA64ISAR0_EL1, AArch64 Instruction Set Attribute Register 0.
pub const ID_AA64ISAR0_EL1: SysReg = SysReg::new(3, 0, 0, 6, 0);
/// MIDR_EL1, Main ID Register.
pub const MIDR_EL1: SysReg = SysReg::new(3, 0, 0, 0, 0);

/// TRCIDR1, Trace ID Register 1 (read-only).
pub const TRCIDR1: SysReg = SysReg::new(2, 1, 0, 9, 7);
/// TRFCR_EL1, Trace Filter Control Register.
pub const TRFCR_EL1: SysReg = SysReg::new(3, 0, 1, 2, 1);
/// TRBLIMITR_EL1, Trace Buffer Limit Address Register.
pub const TRBLIMITR_EL1: SysReg = SysReg::new(3, 0, 9, 11, 0);
/// TRCITECR_EL1, Instrumentation Trace Control Register.
pub const TRCITECR_EL1: SysReg = SysReg::new(3, 0, 1, 2, 3);
/// PMSIDR_EL1, Sampling Profiling ID Register (read-only).
pub const PMSIDR_EL1: SysReg = SysReg::new(3, 0, 9, 9, 7);
/// BRBIDR0_EL1, Branch Record Buffer ID0 Register (read-only).
pub const BRBIDR0_EL1: SysReg = SysReg::new(2, 1, 9, 2, 0);
/// PMCR_EL0, Performance Monitors Control Register.
pub const PMCR_EL0: SysReg = SysReg::new(3, 3, 9, 12, 0);
/// PMMIR_EL1, Performance Monitors Machine Identification Register (read-only).
pub const PMMIR_EL1: SysReg = SysReg::new(3, 0, 9, 14, 6);
/// PMUACR_EL1, Performance Monitors User Access Control Register.
pub const PMUACR_EL1: SysReg = SysReg::new(3, 0, 9, 14, 4);
/// PMSSCR_EL1, Performance Monitors Snapshot Status and Capture Register.
pub const PMSSCR_EL1: SysReg = SysReg::new(3, 0, 9, 13, 3);
/// PMIAR_EL1, Performance Monitors Instruction Address Register.
pub const PMIAR_EL1: SysReg = SysReg::new(3, 0, 9, 14, 7);
/// PMECR_EL1, Performance Monitors Extended Control Register.
pub const PMECR_EL1: SysReg = SysReg::new(3, 0, 9, 14, 5);
/// PMICNTR_EL0, Performance Monitors Instruction Counter Register.
pub const PMICNTR_EL0: SysReg = SysReg::new(3, 3, 9, 4, 0);
/// SPMSELR_EL0, System Performance Monitors Select Register.
pub const SPMSELR_EL0: SysReg = SysReg::new(2, 3, 9, 12, 5);
/// MDSELR_EL1, Breakpoint and Watchpoint Selection Register.
pub const MDSELR_EL1: SysReg = SysReg::new(2, 0, 0, 4, 2);
/// MDSTEPOP_EL1, Monitor Debug Step Opcode Register.
pub const MDSTEPOP_EL1: SysReg = SysReg::new(2, 0, 0, 5, 2);

/// DCZID_EL0, Data Cache Zero ID Register (read-only).
pub const DCZID_EL0: SysReg = SysReg::new(3, 3, 0, 0, 7);

/// OSDTRRX_EL1, OS Lock Data Transfer Register, Receive.
pub const OSDTRRX_EL1: SysReg = SysReg::new(2, 0, 0, 0, 2);
/// OSDTRTX_EL1, OS Lock Data Transfer Register, Transmit.
pub const OSDTRTX_EL1: SysReg = SysReg::new(2, 0, 0, 3, 2);
/// DBGPRCR_EL1, Debug Power Control Register.
pub const DBGPRCR_EL1: SysReg = SysReg::new(2, 0, 1, 4, 4);
/// DBGDTR_EL0, Debug Data Transfer Register, half-duplex.
pub const DBGDTR_EL0: SysReg = SysReg::new(2, 3, 0, 4, 0);
/// DBGDTRRX_EL0, Debug Data Transfer Register, Receive, which is DBGDTRTX_EL0 for a write.
pub const DBGDTRRX_EL0: SysReg = SysReg::new(2, 3, 0, 5, 0);

/// Registers that the payload does not access.
const OTHERS: [(SysReg, &str); 6] = [
    (DBGVCR32_EL2, "DBGVCR32_EL2"),
    (OSDTRRX_EL1, "OSDTRRX_EL1"),
    (OSDTRTX_EL1, "OSDTRTX_EL1"),
    (DBGPRCR_EL1, "DBGPRCR_EL1"),
    (DBGDTR_EL0, "DBGDTR_EL0"),
    (DBGDTRRX_EL0, "DBGDTRRX_EL0"),
];

/// New registers go at the end, because snapshots hold places in the table.
const NAMED: [(SysReg, &str); 40] = [
    (MDSCR_EL1, "MDSCR_EL1"),
    (OSLAR_EL1, "OSLAR_EL1"),
    (OSLSR_EL1, "OSLSR_EL1"),
    (OSDLR_EL1, "OSDLR_EL1"),
    (MDCCINT_EL1, "MDCCINT_EL1"),
    (OSECCR_EL1, "OSECCR_EL1"),
    (DBGCLAIMSET_EL1, "DBGCLAIMSET_EL1"),
    (DBGCLAIMCLR_EL1, "DBGCLAIMCLR_EL1"),
    (DBGAUTHSTATUS_EL1, "DBGAUTHSTATUS_EL1"),
    (MDRAR_EL1, "MDRAR_EL1"),
    (MDCCSR_EL0, "MDCCSR_EL0"),
    (CONTEXTIDR_EL1, "CONTEXTIDR_EL1"),
    (ID_AA64DFR0_EL1, "ID_AA64DFR0_EL1"),
    (DCZID_EL0, "DCZID_EL0"),
    (ID_AA64ISAR0_EL1, "ID_AA64ISAR0_EL1"),
    (MIDR_EL1, "MIDR_EL1"),
    (ID_AA64PFR0_EL1, "ID_AA64PFR0_EL1"),
    (ID_AA64PFR1_EL1, "ID_AA64PFR1_EL1"),
    (ID_AA64MMFR2_EL1, "ID_AA64MMFR2_EL1"),
    (ID_AA64ISAR2_EL1, "ID_AA64ISAR2_EL1"),
    (ID_AA64DFR1_EL1, "ID_AA64DFR1_EL1"),
    (ID_AA64DFR2_EL1, "ID_AA64DFR2_EL1"),
    (ID_DFR0_EL1, "ID_DFR0_EL1"),
    (ID_DFR1_EL1, "ID_DFR1_EL1"),
    (TRCIDR1, "TRCIDR1"),
    (TRFCR_EL1, "TRFCR_EL1"),
    (TRBLIMITR_EL1, "TRBLIMITR_EL1"),
    (TRCITECR_EL1, "TRCITECR_EL1"),
    (PMSIDR_EL1, "PMSIDR_EL1"),
    (BRBIDR0_EL1, "BRBIDR0_EL1"),
    (PMCR_EL0, "PMCR_EL0"),
    (PMMIR_EL1, "PMMIR_EL1"),
    (PMUACR_EL1, "PMUACR_EL1"),
    (PMSSCR_EL1, "PMSSCR_EL1"),
    (PMIAR_EL1, "PMIAR_EL1"),
    (PMECR_EL1, "PMECR_EL1"),
    (PMICNTR_EL0, "PMICNTR_EL0"),
    (SPMSELR_EL0, "SPMSELR_EL0"),
    (MDSELR_EL1, "MDSELR_EL1"),
    (MDSTEPOP_EL1, "MDSTEPOP_EL1"),
];

/// The number of registers that the payload can access.
pub const TABLE_LEN: usize = 64 + NAMED.len();

/// Every register that the payload can access; an operation names one by its place here.
pub const TABLE: [SysReg; TABLE_LEN] = {
    let mut table = [MDSCR_EL1; TABLE_LEN];
    let mut n = 0;
    while n < 16 {
        table[n] = dbgbvr(n as u8);
        table[16 + n] = dbgbcr(n as u8);
        table[32 + n] = dbgwvr(n as u8);
        table[48 + n] = dbgwcr(n as u8);
        n += 1;
    }
    let mut k = 0;
    while k < NAMED.len() {
        table[64 + k] = NAMED[k].0;
        k += 1;
    }
    table
};

/// Every register with a name here whose op0 is 2, those of debug and trace.
pub fn debug_registers() -> impl Iterator<Item = SysReg> {
    TABLE.into_iter().chain(OTHERS.map(|(reg, _)| reg)).filter(|reg| reg.op0() == 2)
}

impl fmt::Display for SysReg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((_, name)) = NAMED.iter().chain(&OTHERS).find(|(reg, _)| reg == self) {
            return f.write_str(name);
        }
        if let Some((kind, n)) = self.debug_number() {
            let kind = match kind {
                DebugRegister::Bvr => "BVR",
                DebugRegister::Bcr => "BCR",
                DebugRegister::Wvr => "WVR",
                DebugRegister::Wcr => "WCR",
            };
            return write!(f, "DBG{kind}{n}_EL1");
        }
        let e = self.0;
        write!(f, "S{}_{}_C{}_C{}_{}", e >> 14, e >> 11 & 7, e >> 7 & 15, e >> 3 & 15, e & 7)
    }
}

impl fmt::Debug for SysReg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn encodings_are_those_of_kvm_and_of_the_instructions() {
        assert_eq!(ID_AA64DFR0_EL1.encoding(), 0xc028);
        assert_eq!(ID_AA64DFR0_EL1.mrs_x0(), 0xd538_0500, "mrs x0, id_aa64dfr0_el1");
        assert_eq!(OSLAR_EL1.msr_x0(), 0xd510_1080, "msr oslar_el1, x0");
        assert_eq!(dbgbcr(5).msr_x0(), 0xd510_05a0, "msr dbgbcr5_el1, x0");
        assert_eq!(MDSCR_EL1.mrs_x0(), 0xd530_0240, "mrs x0, mdscr_el1");
        assert_eq!(MDCCINT_EL1.mrs_x0(), 0xd530_0200, "mrs x0, mdccint_el1");
        assert_eq!(OSECCR_EL1.mrs_x0(), 0xd530_0640, "mrs x0, oseccr_el1");
        assert_eq!(DBGCLAIMSET_EL1.mrs_x0(), 0xd530_78c0, "mrs x0, dbgclaimset_el1");
        assert_eq!(DBGCLAIMCLR_EL1.mrs_x0(), 0xd530_79c0, "mrs x0, dbgclaimclr_el1");
        assert_eq!(DBGAUTHSTATUS_EL1.mrs_x0(), 0xd530_7ec0, "mrs x0, dbgauthstatus_el1");
        assert_eq!(MDRAR_EL1.mrs_x0(), 0xd530_1000, "mrs x0, mdrar_el1");
        assert_eq!(MDCCSR_EL0.mrs_x0(), 0xd533_0100, "mrs x0, mdccsr_el0");
        assert_eq!(OSDTRRX_EL1.mrs_x0(), 0xd530_0040, "mrs x0, osdtrrx_el1");
        assert_eq!(OSDTRTX_EL1.mrs_x0(), 0xd530_0340, "mrs x0, osdtrtx_el1");
        assert_eq!(DBGPRCR_EL1.mrs_x0(), 0xd530_1480, "mrs x0, dbgprcr_el1");
        assert_eq!(DBGDTR_EL0.mrs_x0(), 0xd533_0400, "mrs x0, dbgdtr_el0");
        assert_eq!(DBGDTRRX_EL0.mrs_x0(), 0xd533_0500, "mrs x0, dbgdtrrx_el0");
    }

    #[test]
    fn a_register_is_found_by_its_encoding() {
        assert_eq!(SysReg::from_encoding(0xc028), ID_AA64DFR0_EL1);
        assert_eq!((ID_AA64DFR0_EL1.op0(), MDSCR_EL1.op0()), (3, 2));
    }

    #[test]
    fn names_are_those_of_the_architecture() {
        assert_eq!(dbgbvr(0).to_string(), "DBGBVR0_EL1");
        assert_eq!(dbgwcr(15).to_string(), "DBGWCR15_EL1");
        assert_eq!(OSDLR_EL1.to_string(), "OSDLR_EL1");
        assert_eq!(SysReg::new(3, 3, 14, 0, 2).to_string(), "S3_3_C14_C0_2");
        assert_eq!(ID_DFR1_EL1.to_string(), "ID_DFR1_EL1");
    }

    #[test]
    fn the_id_registers_are_those_that_tid3_traps() {
        for reg in [ID_DFR0_EL1, ID_DFR1_EL1, ID_AA64DFR0_EL1, ID_AA64DFR1_EL1, ID_AA64DFR2_EL1] {
            assert!(reg.is_id_register(), "{reg}");
        }
        assert!(SysReg::new(3, 0, 0, 1, 0).is_id_register() && SysReg::new(3, 0, 0, 7, 7).is_id_register());
        let mpidr = SysReg::new(3, 0, 0, 0, 5);
        let clidr = SysReg::new(3, 1, 0, 0, 1);
        for reg in [MIDR_EL1, mpidr, clidr, DCZID_EL0, MDSCR_EL1, SysReg::new(3, 0, 1, 0, 0)] {
            assert!(!reg.is_id_register(), "{reg}");
        }
    }

    #[test]
    fn only_the_four_families_have_a_number() {
        assert_eq!(dbgwvr(7).debug_number(), Some((DebugRegister::Wvr, 7)));
        for (reg, _) in NAMED {
            assert_eq!(reg.debug_number(), None, "{reg}");
        }
    }

    #[test]
    fn the_id_space_ends_where_kvms_masks_do() {
        assert!(ID_AA64DFR0_EL1.is_id() && MIDR_EL1.is_id() && SysReg::new(3, 3, 0, 0, 1).is_id());
        assert!(SysReg::new(3, 3, 0, 7, 7).is_id());
        for other in [
            MDSCR_EL1,
            CONTEXTIDR_EL1,
            SysReg::new(2, 0, 0, 5, 0),
            SysReg::new(3, 2, 0, 0, 0),
            SysReg::new(3, 4, 0, 0, 0),
            SysReg::new(3, 0, 0, 8, 0),
            SysReg::new(3, 0, 1, 0, 0),
        ] {
            assert!(!other.is_id(), "{other}");
        }
    }

    #[test]
    fn the_debug_registers_are_those_of_the_table_and_the_others_each_once() {
        let all: alloc::vec::Vec<SysReg> = debug_registers().collect();
        for (place, reg) in all.iter().enumerate() {
            assert!(!all[..place].contains(reg), "{reg}");
        }
        for reg in [dbgwcr(15), MDSCR_EL1, TRCIDR1, DBGVCR32_EL2, DBGDTRRX_EL0] {
            assert!(all.contains(&reg), "{reg}");
        }
        assert!(!all.contains(&TRFCR_EL1));
    }

    #[test]
    fn the_table_holds_each_register_once() {
        for (place, reg) in TABLE.iter().enumerate() {
            assert_eq!(reg.index(), Some(place), "{reg}");
        }
    }
}
