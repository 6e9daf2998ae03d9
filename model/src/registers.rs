// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The debug and context registers of a PE, and which of their bits read as written.

use crate::{
    control::{
        BT_ADDRESS, BT_ADDRESS_LINKED, BT_CONTEXT, BT_CONTEXT_LINKED, BT_CONTEXTIDR_EL1,
        BT_CONTEXTIDR_EL1_LINKED, Dbgbcr, Dbgwcr, Mdscr,
    },
    shape::Shape,
    sysreg::{self, DebugRegister, SysReg},
};

/// MDSCR_EL1's bits that read as written in any state: MDE, KDE, TDCC and SS.
const MDSCR_DEFINED: u64 = 1 << 15 | 1 << 13 | 1 << 12 | 1;
/// MDSCR_EL1's views of EDSCR: RXfull, TXfull, RXO, TXU, TDA, HDE and ERR. INTdis, SC2, TFO, TTA and EHBWE are left out:
/// whether they exist, or how wide they are, depends on features that a guest is not told of.
const MDSCR_OF_EDSCR: u64 = 1 << 30 | 1 << 29 | 1 << 27 | 1 << 26 | 1 << 21 | 1 << 14 | 1 << 6;
/// MDCCINT_EL1.{RX, TX}; all other bits are RES0.
const MDCCINT_DEFINED: u64 = 1 << 30 | 1 << 29;
/// DBGCLAIMSET_EL1.CLAIM and DBGCLAIMCLR_EL1.CLAIM.
const CLAIM: u64 = 0xff;
/// Bits \[31:0\] of a register that has no others.
const LOW_HALF: u64 = 0xffff_ffff;

/// The registers' values. A number is below 16.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    dbgbvr: [u64; 16],
    dbgbcr: [u64; 16],
    dbgwvr: [u64; 16],
    dbgwcr: [u64; 16],
    mdscr: u64,
    contextidr: u64,
    mdccint: u64,
    claim_tags: u64,
    oslk: bool,
    /// MDSCR_EL1 was written while the OS Lock was locked, and it has not been unlocked since.
    edscr_written: bool,
    dlk: bool,
}

impl Registers {
    /// As KVM_ARM_VCPU_INIT leaves them.
    ///
    /// The Arm ARM leaves most of these registers UNKNOWN at a reset and locks the OS Lock at a Cold reset; KVM
    /// sets the registers to zero and the OS Lock to unlocked, and this is where a scenario starts.
    pub const RESET: Self = Self {
        dbgbvr: [0; 16],
        dbgbcr: [0; 16],
        dbgwvr: [0; 16],
        dbgwcr: [0; 16],
        mdscr: 0,
        contextidr: 0,
        mdccint: 0,
        claim_tags: 0,
        oslk: false,
        edscr_written: false,
        dlk: false,
    };

    /// DBGBVR<n>_EL1.
    pub fn dbgbvr(&self, n: u8) -> u64 {
        self.dbgbvr[usize::from(n)]
    }

    /// DBGBCR<n>_EL1.
    pub fn dbgbcr(&self, n: u8) -> Dbgbcr {
        Dbgbcr::new_with_raw_value(self.dbgbcr[usize::from(n)])
    }

    /// DBGWVR<n>_EL1.
    pub fn dbgwvr(&self, n: u8) -> u64 {
        self.dbgwvr[usize::from(n)]
    }

    /// DBGWCR<n>_EL1.
    pub fn dbgwcr(&self, n: u8) -> Dbgwcr {
        Dbgwcr::new_with_raw_value(self.dbgwcr[usize::from(n)])
    }

    /// MDSCR_EL1.
    pub fn mdscr(&self) -> Mdscr {
        Mdscr::new_with_raw_value(self.mdscr)
    }

    /// CONTEXTIDR_EL1.
    pub fn contextidr(&self) -> u64 {
        self.contextidr
    }

    /// The OS Lock is locked.
    pub fn oslk(&self) -> bool {
        self.oslk
    }

    /// OSDLR_EL1.DLK.
    pub fn dlk(&self) -> bool {
        self.dlk
    }

    /// The register's value; of OSLAR_EL1 the state of the lock. None of a register that is not here.
    pub fn get(&self, reg: SysReg) -> Option<u64> {
        if let Some((kind, n)) = reg.debug_number() {
            let n = usize::from(n);
            return Some(match kind {
                DebugRegister::Bvr => self.dbgbvr[n],
                DebugRegister::Bcr => self.dbgbcr[n],
                DebugRegister::Wvr => self.dbgwvr[n],
                DebugRegister::Wcr => self.dbgwcr[n],
            });
        }
        Some(match reg {
            sysreg::MDSCR_EL1 => self.mdscr,
            sysreg::CONTEXTIDR_EL1 => self.contextidr,
            sysreg::MDCCINT_EL1 => self.mdccint,
            sysreg::DBGCLAIMSET_EL1 => CLAIM,
            sysreg::DBGCLAIMCLR_EL1 => self.claim_tags,
            // EDECCR's bits depend on the Security states that are implemented; what is permitted to an external debugger
            // is the platform's, and so is what an external debugger finds and sends.
            sysreg::OSECCR_EL1 | sysreg::DBGAUTHSTATUS_EL1 | sysreg::MDRAR_EL1 | sysreg::MDCCSR_EL0 => 0,
            sysreg::OSLAR_EL1 => self.oslk.into(),
            sysreg::OSDLR_EL1 => self.dlk.into(),
            _ => return None,
        })
    }

    /// Writes the register, if it is one of those that hold what software writes.
    pub fn set(&mut self, reg: SysReg, value: u64) {
        if let Some((kind, n)) = reg.debug_number() {
            let registers = match kind {
                DebugRegister::Bvr => &mut self.dbgbvr,
                DebugRegister::Bcr => &mut self.dbgbcr,
                DebugRegister::Wvr => &mut self.dbgwvr,
                DebugRegister::Wcr => &mut self.dbgwcr,
            };
            registers[usize::from(n)] = value;
            return;
        }
        match reg {
            sysreg::MDSCR_EL1 => {
                self.mdscr = value;
                self.edscr_written = self.oslk;
            }
            sysreg::MDCCINT_EL1 => self.mdccint = value,
            sysreg::DBGCLAIMSET_EL1 => self.claim_tags |= value & CLAIM,
            sysreg::DBGCLAIMCLR_EL1 => self.claim_tags &= !value,
            sysreg::CONTEXTIDR_EL1 => self.contextidr = value & 0xffff_ffff,
            sysreg::OSLAR_EL1 => {
                self.oslk = value & 1 == 1;
                self.edscr_written &= self.oslk;
            }
            sysreg::OSDLR_EL1 => self.dlk = value & 1 == 1,
            _ => {}
        }
    }

    /// MDSCR_EL1 shows what was saved of EDSCR.
    pub fn shows_edscr(&self) -> bool {
        self.edscr_written
    }

    /// The bits of a register that read as written on a PE of this shape; none of a register that is not here.
    pub fn defined(&self, reg: SysReg, shape: &Shape) -> Option<u64> {
        if let Some((kind, n)) = reg.debug_number() {
            return Some(match kind {
                DebugRegister::Bvr => self.dbgbvr_defined(n, shape),
                DebugRegister::Bcr => self.dbgbcr_defined(n, shape),
                DebugRegister::Wvr => address_defined(self.dbgwvr(n)),
                DebugRegister::Wcr => self.dbgwcr_defined(n),
            });
        }
        Some(match reg {
            sysreg::MDSCR_EL1 if self.edscr_written => MDSCR_DEFINED | MDSCR_OF_EDSCR,
            sysreg::MDSCR_EL1 => MDSCR_DEFINED,
            sysreg::CONTEXTIDR_EL1 | sysreg::OSDLR_EL1 => u64::MAX,
            sysreg::MDCCINT_EL1 => MDCCINT_DEFINED,
            sysreg::DBGCLAIMSET_EL1 | sysreg::DBGCLAIMCLR_EL1 => LOW_HALF,
            sysreg::OSECCR_EL1 | sysreg::DBGAUTHSTATUS_EL1 | sysreg::MDCCSR_EL0 => !LOW_HALF,
            sysreg::MDRAR_EL1 => 0,
            _ => return None,
        })
    }

    /// An address, or a Context ID, above which the register is RES0; nothing for the other types.
    fn dbgbvr_defined(&self, n: u8, shape: &Shape) -> u64 {
        match self.dbgbcr(n).bt() {
            BT_ADDRESS | BT_ADDRESS_LINKED => address_defined(self.dbgbvr(n)),
            _ if !shape.is_context_aware(n) => 0,
            BT_CONTEXT | BT_CONTEXT_LINKED | BT_CONTEXTIDR_EL1 | BT_CONTEXTIDR_EL1_LINKED => 0xffff_ffff,
            _ => 0,
        }
    }

    /// LBN is UNKNOWN where nothing is linked, BAS where no address is compared; BAS selects halfwords, other values are
    /// reserved, and it is RES1 on a PE without AArch32, which may then read a zero as one. A field with a reserved value may read as another one; a type is
    /// reserved for a breakpoint that is not context-aware if it matches contexts.
    fn dbgbcr_defined(&self, n: u8, shape: &Shape) -> u64 {
        const E: u64 = 1;
        const BT: u64 = 0xf << 20;
        const LBN: u64 = 0xf << 16;
        let control = self.dbgbcr(n);
        let bas = match control.bas().value() {
            bas @ (0b0011 | 0b1100 | 0b1111) => u64::from(bas) << 5,
            _ => 0,
        };
        let state = state_defined(control.hmc(), control.ssc().value(), control.pmc().value());
        match control.bt() {
            BT_ADDRESS => E | BT | state | bas,
            BT_ADDRESS_LINKED => E | BT | state | bas | LBN,
            _ if !shape.is_context_aware(n) => E,
            BT_CONTEXT => E | BT | state,
            BT_CONTEXT_LINKED => E | BT,
            _ => E,
        }
    }

    /// LBN is UNKNOWN where nothing is linked; a field with a reserved value may read as another one.
    fn dbgwcr_defined(&self, n: u8) -> u64 {
        const E: u64 = 1;
        const MASK: u64 = 0x1f << 24;
        const WT: u64 = 1 << 20;
        const LBN: u64 = 0xf << 16;
        const BAS: u64 = 0xff << 5;
        const LSC: u64 = 0b11 << 3;
        let control = self.dbgwcr(n);
        let mask = if matches!(control.mask().value(), 1 | 2) { 0 } else { MASK };
        let lbn = if control.wt() { LBN } else { 0 };
        let state = state_defined(control.hmc(), control.ssc().value(), control.pac().value());
        E | WT | BAS | LSC | mask | lbn | state
    }
}

/// The bits of an address in DBGBVR or DBGWVR: bits \[1:0\] are RES0, and those above the virtual address (RESS) may be
/// copies of its top bit.
const fn address_defined(address: u64) -> u64 {
    const RESS: u64 = 0xffff << 48;
    let ress = address & RESS;
    let top = address >> 47 & 1 == 1;
    let extended = if top { ress == RESS } else { ress == 0 };
    if extended { !0b11 } else { !RESS & !0b11 }
}

/// HMC, SSC and PMC or PAC, unless their value is reserved in every version of the architecture or where Secure EL2 is
/// not implemented (DDI 0487 `CheckValidStateMatch`).
const fn state_defined(hmc: bool, ssc: u8, privilege: u8) -> u64 {
    let reserved = matches!(
        (hmc, ssc, privilege),
        (false, 0b11, _) | (true, 0b00, 0b00 | 0b10) | (true, 0b01, 0b00 | 0b10) | (true, 0b10 | 0b11, _)
    );
    if reserved { 0 } else { 0b111 << 13 | 0b11 << 1 }
}
