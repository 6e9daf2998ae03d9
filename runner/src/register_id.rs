// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The ids of KVM_GET_REG_LIST (KVM API, 4.68 KVM_SET_ONE_REG, arm64), on any machine.

use dfr0_model::{
    id_register,
    sysreg::{SCTLR_EL1, SysReg, VBAR_EL1},
};
use std::fmt;

const ARCHITECTURE: u64 = 0xff << 56;
const ARM64: u64 = 0x60 << 56;
const WIDTH_SHIFT: u32 = 52;
const SYSTEM: u64 = ARM64 | 3 << WIDTH_SHIFT | 0x13 << 16;
/// KVM_REG_SIZE_U2048, as the logarithm of bytes.
const WIDEST: u64 = 8;

/// The id of a register of an arm64 vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegisterId(u64);

impl RegisterId {
    /// The register with this id, if it belongs to arm64 and has a width that KVM knows.
    pub const fn new(id: u64) -> Option<Self> {
        let is_arm64 = id & ARCHITECTURE == ARM64;
        if is_arm64 && id >> WIDTH_SHIFT & 0xf <= WIDEST { Some(Self(id)) } else { None }
    }

    /// A system register.
    pub const fn system(reg: SysReg) -> Self {
        Self(SYSTEM | reg.encoding() as u64)
    }

    /// The system register with this id; `None` if it is not a system register.
    pub const fn system_register(self) -> Option<SysReg> {
        if self.0 & !0xffff == SYSTEM { Some(SysReg::from_encoding(self.0 as u16)) } else { None }
    }

    /// The id in KVM's ABI.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The register's width, in bits.
    pub const fn width(self) -> u32 {
        8 << (self.0 >> WIDTH_SHIFT & 0xf)
    }

    /// Whether the register is in `struct kvm_regs`.
    pub const fn is_core(self) -> bool {
        self.0 >> 16 & 0xfff == 0x10
    }

    /// The register's name, or what kind of register it is.
    pub fn name(self) -> String {
        if let Some(reg) = self.system_register() {
            return id_register::name(reg).map_or_else(|| system(reg), str::to_owned);
        }
        let low = self.0 & 0xffff;
        match self.0 >> 16 & 0xfff {
            0x10 => core(low),
            0x11 => format!("CCSIDR_EL1 of CSSELR_EL1 {:#x}", low & 0xff),
            0x14 => firmware(
                low,
                &[
                    "KVM_REG_ARM_PSCI_VERSION",
                    "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1",
                    "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2",
                    "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_3",
                ],
            ),
            0x15 => "an SVE register".into(),
            0x16 => firmware(
                low,
                &[
                    "KVM_REG_ARM_STD_BMAP",
                    "KVM_REG_ARM_STD_HYP_BMAP",
                    "KVM_REG_ARM_VENDOR_HYP_BMAP",
                    "KVM_REG_ARM_VENDOR_HYP_BMAP_2",
                ],
            ),
            _ => "a register of an unknown kind".into(),
        }
    }
}

/// The name of a system register that is not an ID register.
fn system(reg: SysReg) -> String {
    if let Some((_, name)) = SYSTEM_NAMES.iter().find(|(named, _)| *named == reg) {
        return (*name).to_owned();
    }
    let counter = reg.encoding() & 0x1f;
    match reg.encoding() & !0x1f {
        PMEVCNTR => format!("PMEVCNTR{counter}_EL0"),
        PMEVTYPER => format!("PMEVTYPER{counter}_EL0"),
        _ => reg.to_string(),
    }
}

const PMEVCNTR: u16 = SysReg::new(3, 3, 14, 8, 0).encoding();
const PMEVTYPER: u16 = SysReg::new(3, 3, 14, 12, 0).encoding();

/// The system registers that KVM lists and dfr0 does not use. Where KVM's ABI has another encoding than the
/// architecture, the name is KVM's (arch/arm64/include/uapi/asm/kvm.h, KVM_REG_ARM_TIMER_CNT).
#[rustfmt::skip]
const SYSTEM_NAMES: [(SysReg, &str); 43] = [
    (SCTLR_EL1, "SCTLR_EL1"),
    (SysReg::new(3, 0, 1, 0, 1), "ACTLR_EL1"),
    (SysReg::new(3, 0, 1, 0, 2), "CPACR_EL1"),
    (SysReg::new(3, 0, 1, 0, 3), "SCTLR2_EL1"),
    (SysReg::new(3, 0, 2, 0, 0), "TTBR0_EL1"),
    (SysReg::new(3, 0, 2, 0, 1), "TTBR1_EL1"),
    (SysReg::new(3, 0, 2, 0, 2), "TCR_EL1"),
    (SysReg::new(3, 0, 2, 0, 3), "TCR2_EL1"),
    (SysReg::new(3, 0, 5, 1, 0), "AFSR0_EL1"),
    (SysReg::new(3, 0, 5, 1, 1), "AFSR1_EL1"),
    (SysReg::new(3, 0, 5, 2, 0), "ESR_EL1"),
    (SysReg::new(3, 0, 6, 0, 0), "FAR_EL1"),
    (SysReg::new(3, 0, 7, 4, 0), "PAR_EL1"),
    (SysReg::new(3, 0, 9, 14, 1), "PMINTENSET_EL1"),
    (SysReg::new(3, 0, 9, 14, 2), "PMINTENCLR_EL1"),
    (SysReg::new(3, 0, 10, 2, 0), "MAIR_EL1"),
    (SysReg::new(3, 0, 10, 2, 2), "PIRE0_EL1"),
    (SysReg::new(3, 0, 10, 2, 3), "PIR_EL1"),
    (SysReg::new(3, 0, 10, 2, 4), "POR_EL1"),
    (SysReg::new(3, 0, 10, 3, 0), "AMAIR_EL1"),
    (VBAR_EL1, "VBAR_EL1"),
    (SysReg::new(3, 0, 12, 1, 1), "DISR_EL1"),
    (SysReg::new(3, 0, 13, 0, 4), "TPIDR_EL1"),
    (SysReg::new(3, 0, 14, 1, 0), "CNTKCTL_EL1"),
    (SysReg::new(3, 2, 0, 0, 0), "CSSELR_EL1"),
    (SysReg::new(3, 3, 9, 12, 1), "PMCNTENSET_EL0"),
    (SysReg::new(3, 3, 9, 12, 2), "PMCNTENCLR_EL0"),
    (SysReg::new(3, 3, 9, 12, 3), "PMOVSCLR_EL0"),
    (SysReg::new(3, 3, 9, 12, 4), "PMSWINC_EL0"),
    (SysReg::new(3, 3, 9, 12, 5), "PMSELR_EL0"),
    (SysReg::new(3, 3, 9, 13, 0), "PMCCNTR_EL0"),
    (SysReg::new(3, 3, 9, 14, 0), "PMUSERENR_EL0"),
    (SysReg::new(3, 3, 9, 14, 3), "PMOVSSET_EL0"),
    (SysReg::new(3, 3, 13, 0, 2), "TPIDR_EL0"),
    (SysReg::new(3, 3, 13, 0, 3), "TPIDRRO_EL0"),
    (SysReg::new(3, 3, 14, 0, 1), "KVM_REG_ARM_PTIMER_CNT"),
    (SysReg::new(3, 3, 14, 0, 2), "KVM_REG_ARM_TIMER_CVAL"),
    (SysReg::new(3, 3, 14, 2, 1), "KVM_REG_ARM_PTIMER_CTL"),
    (SysReg::new(3, 3, 14, 2, 2), "KVM_REG_ARM_PTIMER_CVAL"),
    (SysReg::new(3, 3, 14, 3, 1), "KVM_REG_ARM_TIMER_CTL"),
    (SysReg::new(3, 3, 14, 3, 2), "KVM_REG_ARM_TIMER_CNT"),
    (SysReg::new(3, 3, 14, 15, 7), "PMCCFILTR_EL0"),
    (SysReg::new(3, 4, 5, 3, 0), "FPEXC32_EL2"),
];

/// The name of a register in `struct kvm_regs`, by its offset in 32-bit words.
fn core(offset: u64) -> String {
    match offset {
        0..=60 if offset.is_multiple_of(2) => format!("X{}", offset / 2),
        62 => "SP_EL0".into(),
        64 => "PC".into(),
        66 => "PSTATE".into(),
        68 => "SP_EL1".into(),
        70 => "ELR_EL1".into(),
        72 => "SPSR_EL1".into(),
        84..=208 if offset.is_multiple_of(4) => format!("V{}", (offset - 84) / 4),
        212 => "FPSR".into(),
        213 => "FPCR".into(),
        _ => format!("word {offset} of struct kvm_regs"),
    }
}

fn firmware(number: u64, names: &[&str]) -> String {
    let name = usize::try_from(number).ok().and_then(|number| names.get(number));
    name.map_or_else(|| format!("firmware register {number}"), |name| (*name).to_owned())
}

impl fmt::Display for RegisterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfr0_model::sysreg::{ID_AA64DFR0_EL1, dbgbcr};

    fn id(id: u64) -> RegisterId {
        RegisterId::new(id).expect("an id of arm64")
    }

    #[test]
    fn an_id_has_a_width_and_a_name() {
        for (bits, width, name) in [
            (0x6030_0000_0013_c028, 64, "ID_AA64DFR0_EL1"),
            (0x6030_0000_0013_8005, 64, "DBGBCR0_EL1"),
            (0x6030_0000_0013_df1a, 64, "KVM_REG_ARM_TIMER_CNT"),
            (0x6030_0000_0013_df5e, 64, "PMEVCNTR30_EL0"),
            (0x6030_0000_0013_df60, 64, "PMEVTYPER0_EL0"),
            (0x6030_0000_0013_df7f, 64, "PMCCFILTR_EL0"),
            (0x6030_0000_0013_c102, 64, "TCR_EL1"),
            (0x6030_0000_0013_e180, 64, "S3_4_C3_C0_0"),
            (0x6030_0000_0010_0000, 64, "X0"),
            (0x6030_0000_0010_003c, 64, "X30"),
            (0x6030_0000_0010_0040, 64, "PC"),
            (0x6040_0000_0010_0054, 128, "V0"),
            (0x6040_0000_0010_00d0, 128, "V31"),
            (0x6020_0000_0010_00d5, 32, "FPCR"),
            (0x6020_0000_0011_0003, 32, "CCSIDR_EL1 of CSSELR_EL1 0x3"),
            (0x6030_0000_0014_0000, 64, "KVM_REG_ARM_PSCI_VERSION"),
            (0x6030_0000_0014_0009, 64, "firmware register 9"),
            (0x6030_0000_0016_0003, 64, "KVM_REG_ARM_VENDOR_HYP_BMAP_2"),
            (0x6080_0000_0015_0000, 2048, "an SVE register"),
            (0x6030_0000_0777_0000, 64, "a register of an unknown kind"),
        ] {
            assert_eq!((id(bits).width(), id(bits).name().as_str()), (width, name), "{bits:#x}");
            assert_eq!(id(bits).to_string(), format!("{bits:#x}"));
        }
    }

    #[test]
    fn other_architectures_and_widths_are_not_ids() {
        assert_eq!(RegisterId::new(0x4030_0000_0010_0000), None, "32-bit Arm");
        assert_eq!(RegisterId::new(0x2030_0000_0000_0000), None, "x86");
        assert_eq!(RegisterId::new(0x6090_0000_0015_0000), None, "4096 bits");
    }

    #[test]
    fn a_system_register_keeps_its_encoding() {
        for reg in [ID_AA64DFR0_EL1, dbgbcr(15)] {
            assert_eq!(RegisterId::system(reg).system_register(), Some(reg));
            assert_eq!(RegisterId::new(RegisterId::system(reg).bits()), Some(RegisterId::system(reg)));
        }
        assert_eq!(id(0x6030_0000_0014_0000).system_register(), None);
        assert_eq!(id(0x6020_0000_0013_c028).system_register(), None, "system registers have 64 bits");
    }
}
