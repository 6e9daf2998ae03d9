// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Layouts of the control registers of self-hosted debug (DDI 0487, the register pages).

use arbitrary_int::{u2, u4, u5};
use bitbybit::bitfield;
use core::fmt;

/// DBGBCR<n>_EL1, Debug Breakpoint Control Register.
#[bitfield(u64, default = 0)]
#[derive(Debug, PartialEq, Eq)]
pub struct Dbgbcr {
    /// LBNX, bits \[31:30\]: with FEAT_Debugv8p9 the upper bits of LBN, otherwise RES0.
    #[bits(30..=31, rw)]
    lbnx: u2,
    /// SSCE, bit \[29\]: with FEAT_RME Security state control extended, otherwise RES0.
    #[bit(29, rw)]
    ssce: bool,
    /// MASK, bits \[28:24\]: with FEAT_BWE the number of low address bits that are not compared, otherwise
    /// RES0.
    #[bits(24..=28, rw)]
    mask: u5,
    /// BT, bits \[23:20\]: the breakpoint's type.
    #[bits(20..=23, rw)]
    bt: u4,
    /// LBN, bits \[19:16\]: the number of the breakpoint that this one is linked to.
    #[bits(16..=19, rw)]
    lbn: u4,
    /// SSC, bits \[15:14\]: Security state control.
    #[bits(14..=15, rw)]
    ssc: u2,
    /// HMC, bit \[13\]: Higher mode control.
    #[bit(13, rw)]
    hmc: bool,
    /// BAS, bits \[8:5\]: byte address select.
    #[bits(5..=8, rw)]
    bas: u4,
    /// BT2, bit \[3\]: with FEAT_ABLE an address match that watchpoints link to, otherwise RES0.
    #[bit(3, rw)]
    bt2: bool,
    /// PMC, bits \[2:1\]: Privilege mode control.
    #[bits(1..=2, rw)]
    pmc: u2,
    /// E, bit \[0\]: enabled.
    #[bit(0, rw)]
    e: bool,
}

/// DBGBCR<n>_EL1.BT: unlinked instruction address match.
pub const BT_ADDRESS: u4 = u4::new(0b0000);
/// DBGBCR<n>_EL1.BT: instruction address match, linked to a context-aware breakpoint.
pub const BT_ADDRESS_LINKED: u4 = u4::new(0b0001);
/// DBGBCR<n>_EL1.BT: Context ID match.
pub const BT_CONTEXT: u4 = u4::new(0b0010);
/// DBGBCR<n>_EL1.BT with FEAT_VHE: CONTEXTIDR_EL1 match.
pub const BT_CONTEXTIDR_EL1: u4 = u4::new(0b0110);
/// DBGBCR<n>_EL1.BT with FEAT_VHE: CONTEXTIDR_EL1 match, linked to by other breakpoints and watchpoints.
pub const BT_CONTEXTIDR_EL1_LINKED: u4 = u4::new(0b0111);
/// DBGBCR<n>_EL1.BT: Context ID match, linked to by other breakpoints and watchpoints.
pub const BT_CONTEXT_LINKED: u4 = u4::new(0b0011);
/// DBGBCR<n>_EL1.PMC with HMC and SSC zero: EL1.
pub const PMC_EL1: u2 = u2::new(0b01);
/// DBGBCR<n>_EL1.PMC with HMC and SSC zero: EL0.
pub const PMC_EL0: u2 = u2::new(0b10);
/// DBGBCR<n>_EL1.PMC with HMC and SSC zero: EL1 and EL0.
pub const PMC_EL1_EL0: u2 = u2::new(0b11);
/// DBGBCR<n>_EL1.BAS of a breakpoint on an A64 instruction.
pub const BAS_A64: u4 = u4::new(0b1111);

impl Dbgbcr {
    /// BT is a type with linking enabled (0b0011, 0b0111, 0b1xx1): the breakpoint generates no event by
    /// itself.
    pub fn has_linking_enabled(self) -> bool {
        let bt = self.bt().value();
        bt & 0b0001 != 0 && bt & 0b1010 != 0
    }

    /// An enabled address match on an A64 instruction that EL1 executes.
    pub const fn address_at_el1() -> Self {
        Self::DEFAULT.with_e(true).with_pmc(PMC_EL1).with_bas(BAS_A64).with_bt(BT_ADDRESS)
    }

    /// An enabled address match at EL1, linked to context-aware breakpoint `lbn`.
    pub const fn address_linked_to(lbn: u4) -> Self {
        Self::address_at_el1().with_bt(BT_ADDRESS_LINKED).with_lbn(lbn)
    }

    /// An enabled Context ID match that other breakpoints and watchpoints link to.
    pub const fn linked_context() -> Self {
        Self::DEFAULT.with_e(true).with_pmc(PMC_EL1_EL0).with_bas(BAS_A64).with_bt(BT_CONTEXT_LINKED)
    }
}

impl fmt::Display for Dbgbcr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "E={} PMC={:#04b} BAS={:#06b} HMC={} SSC={:#04b} LBN={} BT={:#06b}",
            u8::from(self.e()),
            self.pmc().value(),
            self.bas().value(),
            u8::from(self.hmc()),
            self.ssc().value(),
            self.lbn().value(),
            self.bt().value()
        )?;
        if_set(f, "MASK", self.mask().value())?;
        if_set(f, "LBNX", self.lbnx().value())?;
        if_set(f, "SSCE", self.ssce().into())?;
        if_set(f, "BT2", self.bt2().into())
    }
}

/// DBGWCR<n>_EL1, Debug Watchpoint Control Register.
#[bitfield(u64, default = 0)]
#[derive(Debug, PartialEq, Eq)]
pub struct Dbgwcr {
    /// LBNX, bits \[31:30\]: with FEAT_Debugv8p9 the upper bits of LBN, otherwise RES0.
    #[bits(30..=31, rw)]
    lbnx: u2,
    /// SSCE, bit \[29\]: with FEAT_RME Security state control extended, otherwise RES0.
    #[bit(29, rw)]
    ssce: bool,
    /// MASK, bits \[28:24\]: the number of low address bits that are not compared.
    #[bits(24..=28, rw)]
    mask: u5,
    /// WT2, bit \[21\]: with FEAT_BWE2 an address mismatch, otherwise RES0.
    #[bit(21, rw)]
    wt2: bool,
    /// WT, bit \[20\]: linked to a context-aware breakpoint.
    #[bit(20, rw)]
    wt: bool,
    /// LBN, bits \[19:16\]: the number of the breakpoint that this one is linked to.
    #[bits(16..=19, rw)]
    lbn: u4,
    /// SSC, bits \[15:14\]: Security state control.
    #[bits(14..=15, rw)]
    ssc: u2,
    /// HMC, bit \[13\]: Higher mode control.
    #[bit(13, rw)]
    hmc: bool,
    /// BAS, bits \[12:5\]: which bytes of the doubleword are watched.
    #[bits(5..=12, rw)]
    bas: u8,
    /// LSC, bits \[4:3\]: loads (bit 0) and stores (bit 1).
    #[bits(3..=4, rw)]
    lsc: u2,
    /// PAC, bits \[2:1\]: Privilege of access control.
    #[bits(1..=2, rw)]
    pac: u2,
    /// E, bit \[0\]: enabled.
    #[bit(0, rw)]
    e: bool,
}

/// DBGWCR<n>_EL1.LSC: loads.
pub const LSC_LOAD: u2 = u2::new(0b01);
/// DBGWCR<n>_EL1.LSC: stores.
pub const LSC_STORE: u2 = u2::new(0b10);
/// DBGWCR<n>_EL1.LSC: loads and stores.
pub const LSC_BOTH: u2 = u2::new(0b11);

impl Dbgwcr {
    /// The set bits of BAS are contiguous, or BAS is zero.
    pub fn bas_is_one_run(self) -> bool {
        let bas = self.bas();
        let lowest = bas & bas.wrapping_neg();
        let above = bas.wrapping_add(lowest);
        above & above.wrapping_sub(1) == 0
    }

    /// An enabled watchpoint on all bytes of a doubleword, for loads and stores of EL1 and EL0.
    pub const fn doubleword() -> Self {
        Self::DEFAULT.with_e(true).with_pac(PMC_EL1_EL0).with_lsc(LSC_BOTH).with_bas(0xff)
    }

    /// An enabled watchpoint on a doubleword, linked to context-aware breakpoint `lbn`.
    pub const fn linked_to(lbn: u4) -> Self {
        Self::doubleword().with_wt(true).with_lbn(lbn)
    }
}

impl fmt::Display for Dbgwcr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "E={} PAC={:#04b} LSC={:#04b} BAS={:#010b} HMC={} SSC={:#04b} LBN={} WT={} MASK={}",
            u8::from(self.e()),
            self.pac().value(),
            self.lsc().value(),
            self.bas(),
            u8::from(self.hmc()),
            self.ssc().value(),
            self.lbn().value(),
            u8::from(self.wt()),
            self.mask().value()
        )?;
        if_set(f, "LBNX", self.lbnx().value())?;
        if_set(f, "SSCE", self.ssce().into())?;
        if_set(f, "WT2", self.wt2().into())
    }
}

/// A field that is RES0 on most PEs is printed only if it is not zero.
fn if_set(f: &mut fmt::Formatter<'_>, name: &str, value: u8) -> fmt::Result {
    if value == 0 { Ok(()) } else { write!(f, " {name}={value}") }
}

/// MDSCR_EL1, the bits that enable debug exceptions and a trap.
#[bitfield(u64, default = 0)]
#[derive(Debug, PartialEq, Eq)]
pub struct Mdscr {
    /// MDE, bit \[15\]: breakpoint, watchpoint and vector catch exceptions are enabled.
    #[bit(15, rw)]
    mde: bool,
    /// KDE, bit \[13\]: debug exceptions are enabled from the Exception level that takes them.
    #[bit(13, rw)]
    kde: bool,
    /// TDCC, bit \[12\]: accesses to the Debug Communication Channel from EL0 are trapped to EL1.
    #[bit(12, rw)]
    tdcc: bool,
    /// SS, bit \[0\]: software step.
    #[bit(0, rw)]
    ss: bool,
}

impl Mdscr {
    /// Breakpoint exceptions enabled at EL1: MDE and KDE.
    pub const fn breakpoints_at_el1() -> Self {
        Self::DEFAULT.with_mde(true).with_kde(true)
    }
}

impl fmt::Display for Mdscr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MDE={} KDE={} SS={}", u8::from(self.mde()), u8::from(self.kde()), u8::from(self.ss()))?;
        if_set(f, "TDCC", self.tdcc().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_match_at_el1_is_the_value_that_debuggers_write() {
        assert_eq!(Dbgbcr::address_at_el1().raw_value(), 0x1e3);
    }

    #[test]
    fn a_link_names_its_partner_in_lbn() {
        assert_eq!(Dbgbcr::address_linked_to(u4::new(5)).raw_value(), 0x15_01e3);
        assert_eq!(Dbgbcr::linked_context().raw_value(), 0x30_01e7);
    }

    #[test]
    fn a_watchpoint_on_a_doubleword_is_the_value_that_debuggers_write() {
        assert_eq!(Dbgwcr::doubleword().raw_value(), 0x1fff);
        assert_eq!(Dbgwcr::linked_to(u4::new(5)).with_mask(u5::new(3)).raw_value(), 0x315_1fff);
    }

    #[test]
    fn mde_and_kde_are_the_bits_of_the_register_page() {
        assert_eq!(Mdscr::breakpoints_at_el1().raw_value(), 1 << 15 | 1 << 13);
    }
}
