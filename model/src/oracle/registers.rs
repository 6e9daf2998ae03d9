// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The debug and context registers of a PE, and which of their bits read as written.

use crate::{
    control::{BT_ADDRESS, BT_ADDRESS_LINKED, BT_CONTEXT, BT_CONTEXT_LINKED, Dbgbcr, Dbgwcr, Mdscr},
    shape::Shape,
    sysreg::{self, DebugRegister, SysReg},
};

/// MDSCR_EL1's bits that read as written in any state: MDE, KDE, TDCC and SS.
const MDSCR_DEFINED: u64 = 1 << 15 | 1 << 13 | 1 << 12 | 1;
/// MDSCR_EL1's views of EDSCR: RXfull, TXfull, RXO, TXU, TDA, HDE and ERR. INTdis, SC2, TFO, TTA and EHBWE are left out:
/// whether they exist, or how wide they are, depends on features that a guest cannot discover.
const MDSCR_OF_EDSCR: u64 = 1 << 30 | 1 << 29 | 1 << 27 | 1 << 26 | 1 << 21 | 1 << 14 | 1 << 6;
/// MDCCINT_EL1.{RX, TX}; all other bits are RES0.
const MDCCINT_DEFINED: u64 = 1 << 30 | 1 << 29;
/// DBGCLAIMSET_EL1.CLAIM and DBGCLAIMCLR_EL1.CLAIM.
const CLAIM: u64 = 0xff;
/// Bits \[31:0\], all bits of a 32-bit register.
const LOW_HALF: u64 = 0xffff_ffff;

/// The values of the registers. A breakpoint's or watchpoint's number is below 16.
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
    /// The registers after KVM_ARM_VCPU_INIT.
    ///
    /// The Arm ARM leaves most of these registers UNKNOWN at a reset and locks the OS Lock at a Cold reset; KVM
    /// sets the registers to zero and the OS Lock to unlocked. A scenario starts in this state.
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

    /// The register's value; for OSLAR_EL1 the state of the OS Lock. `None` for a register that is not
    /// modelled.
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
            // EDECCR's bits depend on the Security states that are implemented. The platform decides what an
            // external debugger may do, finds and sends.
            sysreg::OSECCR_EL1 | sysreg::DBGAUTHSTATUS_EL1 | sysreg::MDRAR_EL1 | sysreg::MDCCSR_EL0 => 0,
            sysreg::OSLAR_EL1 => self.oslk.into(),
            sysreg::OSDLR_EL1 => self.dlk.into(),
            _ => return None,
        })
    }

    /// Writes the register, if it holds what software writes.
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

    /// MDSCR_EL1 shows bits of EDSCR that were written under the OS Lock.
    pub fn shows_edscr(&self) -> bool {
        self.edscr_written
    }

    /// The bits of a register that read as written on a PE of this shape; `None` for a register that is not
    /// modelled.
    pub fn defined(&self, reg: SysReg, shape: &Shape) -> Option<u64> {
        if let Some((kind, n)) = reg.debug_number() {
            return Some(match kind {
                DebugRegister::Bvr => self.dbgbvr_defined(n, shape),
                DebugRegister::Bcr => self.dbgbcr_defined(n, shape),
                DebugRegister::Wvr => address_defined(self.dbgwvr(n)),
                DebugRegister::Wcr => self.dbgwcr_defined(n, shape),
            });
        }
        Some(match reg {
            sysreg::MDSCR_EL1 if self.edscr_written => MDSCR_DEFINED | self.edscr_defined(),
            sysreg::MDSCR_EL1 => MDSCR_DEFINED,
            sysreg::CONTEXTIDR_EL1 | sysreg::OSDLR_EL1 => u64::MAX,
            sysreg::MDCCINT_EL1 => MDCCINT_DEFINED,
            sysreg::DBGCLAIMSET_EL1 | sysreg::DBGCLAIMCLR_EL1 => LOW_HALF,
            sysreg::OSECCR_EL1 | sysreg::DBGAUTHSTATUS_EL1 | sysreg::MDCCSR_EL0 => !LOW_HALF,
            sysreg::MDRAR_EL1 => 0,
            _ => return None,
        })
    }

    /// The defined bits of DBGBVR<n>_EL1, by the breakpoint's type: an address, or a Context ID in the lower
    /// half, CONTEXTIDR_EL2 in the upper half, or both. No bits for a type that may be reserved, or that
    /// compares a VMID, because a guest does not know the VMID's size.
    fn dbgbvr_defined(&self, n: u8, shape: &Shape) -> u64 {
        const LOW: u64 = LOW_HALF;
        const HIGH: u64 = !LOW_HALF;
        let bt = self.dbgbcr(n).bt();
        match bt.value() {
            _ if matches!(bt, BT_ADDRESS | BT_ADDRESS_LINKED) => address_defined(self.dbgbvr(n)),
            _ if !shape.is_context_aware(n) => 0,
            _ if matches!(bt, BT_CONTEXT | BT_CONTEXT_LINKED) => LOW,
            0b0110 | 0b0111 if shape.has_vhe() => LOW,
            0b1100 | 0b1101 if shape.has_vhe() => HIGH,
            0b1110 | 0b1111 if shape.has_vhe() => LOW | HIGH,
            _ => 0,
        }
    }

    /// The defined bits of DBGBCR<n>_EL1. E always. BT, unless its value is reserved on some PE: for this
    /// breakpoint, or without EL2. LBN, if the breakpoint is linked to a context-aware one. The set bits of
    /// BAS, if it selects halfwords: BAS is RES1 if no address is compared, and on a PE without AArch32. HMC,
    /// SSC and PMC, unless their value is reserved on some PE, or ignored because linking is enabled.
    fn dbgbcr_defined(&self, n: u8, shape: &Shape) -> u64 {
        const E: u64 = 1;
        const BT: u64 = 0xf << 20;
        const LBN: u64 = 0xf << 16;
        let control = self.dbgbcr(n);
        let kind = match control.bt().value() {
            0b0000 | 0b0001 => BT,
            0b0010 | 0b0011 if shape.is_context_aware(n) => BT,
            0b0110 | 0b0111 | 0b1100..=0b1111 if shape.is_context_aware(n) && shape.has_vhe() => BT,
            _ => 0,
        };
        let links = control.bt() == BT_ADDRESS_LINKED && control.lbnx().value() == 0;
        let lbn = if links && shape.is_context_aware(control.lbn().value()) { LBN } else { 0 };
        let bas = match control.bas().value() {
            bas @ (0b0011 | 0b1100 | 0b1111) => u64::from(bas) << 5,
            _ => 0,
        };
        let state = match control.has_linking_enabled() || control.ssce() {
            true => 0,
            false => state_defined(control.hmc(), control.ssc().value(), control.pmc().value()),
        };
        E | kind | lbn | bas | state
    }

    /// The defined bits of DBGWCR<n>_EL1. E, WT and LSC always. MASK, unless its value is reserved. LBN, if
    /// the watchpoint is linked to a context-aware breakpoint. BAS, if its set bits are contiguous;
    /// BAS\[7:4\] are RES0 if DBGWVR\[2\] is 1. HMC, SSC and PAC, unless their value is reserved on some PE.
    fn dbgwcr_defined(&self, n: u8, shape: &Shape) -> u64 {
        const E: u64 = 1;
        const MASK: u64 = 0x1f << 24;
        const WT: u64 = 1 << 20;
        const LBN: u64 = 0xf << 16;
        const LSC: u64 = 0b11 << 3;
        let control = self.dbgwcr(n);
        let mask = if matches!(control.mask().value(), 1 | 2) { 0 } else { MASK };
        let links = control.wt() && control.lbnx().value() == 0;
        let lbn = if links && shape.is_context_aware(control.lbn().value()) { LBN } else { 0 };
        let selectable = if self.dbgwvr(n) & 0b100 == 0 { 0xff } else { 0x0f };
        let bas = control.bas();
        let bas =
            if control.bas_is_one_run() && bas & selectable != 0 { u64::from(selectable) << 5 } else { 0 };
        let state = match control.ssce() {
            true => 0,
            false => state_defined(control.hmc(), control.ssc().value(), control.pac().value()),
        };
        E | WT | LSC | mask | lbn | bas | state
    }

    /// The bits of EDSCR that MDSCR_EL1 shows. Writing RXO or TXU as 1 with ERR as 0 makes that bit and ERR
    /// UNKNOWN.
    fn edscr_defined(&self) -> u64 {
        const ERR: u64 = 1 << 6;
        const OVERRUNS: u64 = 1 << 27 | 1 << 26;
        let unknown = match (self.mdscr & ERR, self.mdscr & OVERRUNS) {
            (0, overruns @ 1..) => overruns | ERR,
            _ => 0,
        };
        MDSCR_OF_EDSCR & !unknown
    }
}

/// The bits of an address in DBGBVR or DBGWVR: bits \[1:0\] are RES0, and those above bit 48 may belong to the address
/// or be copies of its top bit (RESS).
const fn address_defined(address: u64) -> u64 {
    const RESS: u64 = 0x7fff << 49;
    let ress = address & RESS;
    let top = address >> 48 & 1 == 1;
    let extended = if top { ress == RESS } else { ress == 0 };
    if extended { !0b11 } else { !RESS & !0b11 }
}

/// HMC, SSC and PMC or PAC, unless their value is reserved on some PE: in every version of the architecture, without EL2,
/// EL3, Secure EL2 or Secure state, or without AArch32 at EL1 (DDI 0487 `CheckValidStateMatch`).
const fn state_defined(hmc: bool, ssc: u8, privilege: u8) -> u64 {
    if !hmc && ssc == 0 && privilege != 0 { 0b111 << 13 | 0b11 << 1 } else { 0 }
}
