// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Which controls of EL2 trap the accesses to each debug register (DDI 0487 D24.3, the pseudocode of each register).

use super::Mdcr;
use crate::sysreg::{
    DBGAUTHSTATUS_EL1, DBGCLAIMCLR_EL1, DBGCLAIMSET_EL1, DBGDTR_EL0, DBGDTRRX_EL0, DBGPRCR_EL1,
    DebugRegister, ID_AA64DFR0_EL1, MDCCINT_EL1, MDCCSR_EL0, MDRAR_EL1, MDSCR_EL1, OSDLR_EL1, OSDTRRX_EL1,
    OSDTRTX_EL1, OSECCR_EL1, OSLAR_EL1, OSLSR_EL1, SysReg,
};

/// The registers without a number.
pub const NAMED: [SysReg; 17] = [
    MDSCR_EL1,
    MDCCINT_EL1,
    OSLAR_EL1,
    OSLSR_EL1,
    OSDLR_EL1,
    OSECCR_EL1,
    DBGPRCR_EL1,
    MDRAR_EL1,
    DBGCLAIMSET_EL1,
    DBGCLAIMCLR_EL1,
    DBGAUTHSTATUS_EL1,
    OSDTRRX_EL1,
    OSDTRTX_EL1,
    MDCCSR_EL0,
    DBGDTR_EL0,
    DBGDTRRX_EL0,
    ID_AA64DFR0_EL1,
];

/// What can be done with a register, and which bits trap it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// It can be read.
    pub read: bool,
    /// It can be written.
    pub write: bool,
    /// EL0 can access it.
    pub el0: bool,
    /// Each of these bits of MDCR_EL2 traps both from EL1, and from EL0 where it can be accessed there.
    pub mdcr: Mdcr,
    /// The bit of HDFGRTR_EL2 that traps a read from EL1.
    pub hdfgrtr: Option<u8>,
    /// The bit of HDFGWTR_EL2 that traps a write from EL1.
    pub hdfgwtr: Option<u8>,
}

impl Trap {
    /// The traps of a debug register, or of an ID register; `None` if this module does not know the register.
    pub fn of(reg: SysReg) -> Option<Self> {
        let tda = Mdcr::DEFAULT.with_tde(true).with_tda(true);
        let tdosa = Mdcr::DEFAULT.with_tde(true).with_tdosa(true);
        let both = |mdcr, bit| Self {
            read: true,
            write: true,
            el0: false,
            mdcr,
            hdfgrtr: Some(bit),
            hdfgwtr: Some(bit),
        };
        let unfiltered = |mdcr| Self { hdfgrtr: None, hdfgwtr: None, ..both(mdcr, 0) };
        let channel = unfiltered(tda.with_tdcc(true));
        let read = |trap| Self { write: false, hdfgwtr: None, ..trap };
        if let Some((kind, _)) = reg.debug_number() {
            return Some(match kind {
                DebugRegister::Bcr => both(tda, 0),
                DebugRegister::Bvr => both(tda, 1),
                DebugRegister::Wcr => both(tda, 2),
                DebugRegister::Wvr => both(tda, 3),
            });
        }
        Some(match reg {
            MDSCR_EL1 => both(tda, 4),
            DBGCLAIMSET_EL1 | DBGCLAIMCLR_EL1 => both(tda, 5),
            DBGAUTHSTATUS_EL1 => read(both(tda, 6)),
            DBGPRCR_EL1 => both(tdosa, 7),
            OSLAR_EL1 => Self { read: false, hdfgrtr: None, ..both(tdosa, 8) },
            OSLSR_EL1 => read(both(tdosa, 9)),
            OSECCR_EL1 => both(tda, 10),
            OSDLR_EL1 => both(tdosa, 11),
            MDRAR_EL1 => read(unfiltered(Mdcr::DEFAULT.with_tde(true).with_tdra(true))),
            MDCCINT_EL1 | OSDTRRX_EL1 | OSDTRTX_EL1 => channel,
            DBGDTR_EL0 | DBGDTRRX_EL0 => Self { el0: true, ..channel },
            MDCCSR_EL0 => Self { el0: true, ..read(channel) },
            ID_AA64DFR0_EL1 => read(unfiltered(Mdcr::DEFAULT)),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysreg;

    #[test]
    fn each_register_can_be_read_or_written() {
        for reg in NAMED.into_iter().chain([sysreg::dbgbcr(3), sysreg::dbgwvr(15)]) {
            let trap = Trap::of(reg).expect("known");
            assert!(trap.read || trap.write, "{reg}");
        }
        assert_eq!(Trap::of(sysreg::SCTLR_EL1), None);
    }
}
