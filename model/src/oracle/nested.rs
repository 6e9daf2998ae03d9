// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Self-hosted debug as a hypervisor at EL2 controls it for what it runs, and as it sees it itself.
//!
//! The language is smaller than [`scenario`](crate::scenario): a hypervisor sets its controls, executes one instruction
//! at some Exception level by an exception return, and sees what comes back. That is a [`Visit`]. [`pe::Pe`] models what
//! a visit may cause. Translation is off at every level, there is no stage 2, and exceptions that are not the
//! hypervisor's are taken by vectors at EL1 that do nothing but call it.

use crate::{
    control::{Dbgbcr, Dbgwcr, Mdscr},
    event::{EC_SVC, Exception},
    sysreg::SysReg,
};
use arbitrary_int::u4;
use bitbybit::bitfield;
use core::fmt;

pub mod pe;
pub mod trap;

/// The doubleword that loads and stores access.
pub const WATCHED: u64 = 0x401f_0000;
/// The immediate of the BRK.
pub const BRK_IMMEDIATE: u16 = 0xdf;

/// Where the instruction of a visit is executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// EL0 of the hypervisor's guest: HCR_EL2.TGE is 0.
    El0,
    /// EL1 of its guest.
    #[default]
    El1,
    /// EL0 of its host: HCR_EL2.TGE is 1.
    HostEl0,
    /// EL2, the hypervisor itself.
    El2,
}

impl Level {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::El1, Self::El0, Self::HostEl0, Self::El2];

    /// The Exception level.
    pub const fn el(self) -> u8 {
        match self {
            Self::El0 | Self::HostEl0 => 0,
            Self::El1 => 1,
            Self::El2 => 2,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::El0 => "EL0",
            Self::El1 => "EL1",
            Self::HostEl0 => "EL0 with TGE",
            Self::El2 => "EL2",
        })
    }
}

/// MDCR_EL2, the bits that concern self-hosted debug (DDI 0487 MDCR_EL2).
#[bitfield(u64, default = 0)]
#[derive(Debug, PartialEq, Eq)]
pub struct Mdcr {
    /// TDCC, bit \[27\]: with FEAT_FGT, accesses to the Debug Communications Channel are trapped.
    #[bit(27, rw)]
    tdcc: bool,
    /// TDRA, bit \[11\]: accesses to the Debug ROM Address register are trapped.
    #[bit(11, rw)]
    tdra: bool,
    /// TDOSA, bit \[10\]: accesses to the registers of the OS Lock and of power-down are trapped.
    #[bit(10, rw)]
    tdosa: bool,
    /// TDA, bit \[9\]: accesses to the other debug registers are trapped.
    #[bit(9, rw)]
    tda: bool,
    /// TDE, bit \[8\]: debug exceptions from EL1 and EL0 are taken to EL2, and every access above is trapped.
    #[bit(8, rw)]
    tde: bool,
}

impl fmt::Display for Mdcr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = [
            (self.tde(), "TDE"),
            (self.tda(), "TDA"),
            (self.tdosa(), "TDOSA"),
            (self.tdra(), "TDRA"),
            (self.tdcc(), "TDCC"),
        ];
        let mut set = bits.into_iter().filter(|(set, _)| *set).map(|(_, name)| name);
        f.write_str(set.next().unwrap_or("0"))?;
        set.try_for_each(|name| write!(f, " {name}"))
    }
}

/// An instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instruction {
    /// NOP.
    #[default]
    Nop,
    /// `LDR X0` of [`WATCHED`].
    Load,
    /// `STR X0` to [`WATCHED`].
    Store,
    /// `BRK #0xdf`.
    Brk,
    /// `MRS X<t>, reg`, with t as [`Self::rt`] has it.
    Read(
        /// The register.
        SysReg,
    ),
    /// `MSR reg, X<t>`.
    Write(
        /// The register.
        SysReg,
        /// The value.
        u64,
    ),
}

impl Instruction {
    /// The number of its general-purpose register: X0 for a load, a store and an ID register, and for a debug register one of X2
    /// to X8, so that each number is in the syndrome of some trap.
    pub const fn rt(self) -> u32 {
        match self {
            Self::Read(reg) | Self::Write(reg, _) if !reg.is_id_register() => 2 + reg.encoding() as u32 % 7,
            _ => 0,
        }
    }

    /// Its encoding. X1 holds [`WATCHED`], X<t> the value that is written.
    pub const fn encoding(self) -> u32 {
        match self {
            Self::Nop => 0xd503_201f,
            Self::Load => 0xf940_0020,
            Self::Store => 0xf900_0020,
            Self::Brk => 0xd420_0000 | (BRK_IMMEDIATE as u32) << 5,
            Self::Read(reg) => reg.mrs_x0() | self.rt(),
            Self::Write(reg, _) => reg.msr_x0() | self.rt(),
        }
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nop => f.write_str("nop"),
            Self::Load => f.write_str("ldr"),
            Self::Store => f.write_str("str"),
            Self::Brk => f.write_str("brk"),
            Self::Read(reg) => write!(f, "mrs {}", reg),
            Self::Write(reg, value) => write!(f, "msr {}, {value:#x}", reg),
        }
    }
}

/// A breakpoint on the instruction of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breakpoint {
    /// Its number.
    pub n: u8,
    /// DBGBCR<n>_EL1.
    pub control: Dbgbcr,
    /// A context-aware breakpoint that it is linked to.
    pub linked: Option<Linked>,
}

/// A context-aware breakpoint that another is linked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linked {
    /// Its number.
    pub n: u8,
    /// DBGBCR<n>_EL1.
    pub control: Dbgbcr,
    /// DBGBVR<n>_EL1.
    pub value: u64,
}

impl Linked {
    /// LBN of the breakpoint that is linked to it.
    pub const fn lbn(self) -> u4 {
        u4::new(self.n & 0xf)
    }
}

/// What a hypervisor sets, the instruction that it executes then, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visit {
    /// Where.
    pub level: Level,
    /// PSTATE.D is 0.
    pub unmasked: bool,
    /// PSTATE.SS as the exception return sets it.
    pub ss: bool,
    /// MDCR_EL2.
    pub mdcr: Mdcr,
    /// HDFGRTR_EL2; the register is written only if it is not zero.
    pub hdfgrtr: u64,
    /// HDFGWTR_EL2; the register is written only if it is not zero.
    pub hdfgwtr: u64,
    /// HCR_EL2.TID3.
    pub tid3: bool,
    /// MDSCR_EL1.
    pub mdscr: Mdscr,
    /// MDSCR_EL1.TDCC.
    pub tdcc_el1: bool,
    /// The OS Lock is locked.
    pub os_lock: bool,
    /// A breakpoint.
    pub breakpoint: Option<Breakpoint>,
    /// A watchpoint on [`WATCHED`]: its number and DBGWCR<n>_EL1.
    pub watchpoint: Option<(u8, Dbgwcr)>,
    /// CONTEXTIDR_EL1.
    pub contextidr_el1: u32,
    /// CONTEXTIDR_EL2, with HCR_EL2.E2H.
    pub contextidr_el2: u32,
    /// The instruction.
    pub instruction: Instruction,
}

impl Visit {
    /// This instruction at this level, with nothing set.
    pub fn new(level: Level, instruction: Instruction) -> Self {
        Self { level, instruction, ..Self::default() }
    }
}

impl fmt::Display for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: MDCR_EL2 {}, {}", self.instruction, self.level, self.mdcr, self.mdscr)?;
        write!(f, " D={} SS={}", u8::from(!self.unmasked), u8::from(self.ss))?;
        let mut also = |name: &str, value: u64| match value {
            0 => Ok(()),
            value => write!(f, ", {name} {value:#x}"),
        };
        also("HDFGRTR_EL2", self.hdfgrtr)?;
        also("HDFGWTR_EL2", self.hdfgwtr)?;
        also("HCR_EL2.TID3", self.tid3.into())?;
        also("MDSCR_EL1.TDCC", self.tdcc_el1.into())?;
        also("OS Lock", self.os_lock.into())?;
        also("CONTEXTIDR_EL1", self.contextidr_el1.into())?;
        also("CONTEXTIDR_EL2", self.contextidr_el2.into())?;
        if let Some(Breakpoint { n, control, linked }) = self.breakpoint {
            write!(f, ", breakpoint {n} ({control})")?;
            if let Some(Linked { n, control, value }) = linked {
                write!(f, " linked to {n} ({control}) of {value:#x}")?;
            }
        }
        self.watchpoint.map_or(Ok(()), |(n, control)| write!(f, ", watchpoint {n} ({control})"))
    }
}

/// The Exception level that took an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// EL1.
    El1,
    /// EL2.
    El2,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::El1 => "EL1",
            Self::El2 => "EL2",
        })
    }
}

/// What a visit caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The instruction completed, with this value of X0.
    Completed(
        /// X0.
        u64,
    ),
    /// An exception. Its `elr` is relative to the instruction.
    Taken(
        /// Where to.
        Target,
        /// What the registers of that level hold.
        Exception,
    ),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed(x0) => write!(f, "completed, X0 {x0:#x}"),
            Self::Taken(target, Exception { vector, esr, elr, spsr, far }) => {
                let ec = Exception { vector: *vector, esr: *esr, elr: *elr, spsr: *spsr, far: *far }.ec();
                write!(f, "taken to {target}: EC {ec:#04x} ESR {esr:#x} ELR +{:#x} ", *elr as i64)?;
                write!(f, "SPSR {spsr:#x} FAR {far:#x} vector {:#x}", vector << 7)
            }
        }
    }
}

/// The words of a visit's record: number of the vector at EL2, ESR, ELR, FAR and SPSR; X0; number of the vector at EL1
/// plus one, ESR, ELR, FAR and SPSR, if that is not zero.
pub const RECORD_WORDS: usize = 11;
/// The immediate of the HVC after the instruction.
pub const DONE: u16 = 0;
/// The immediate of the HVC that EL1's vectors execute.
pub const FROM_EL1: u16 = 1;
/// ESR_EL2.EC of an HVC.
const EC_HVC: u8 = 0x16;

/// The event in a record of a visit whose instruction is at this address.
pub fn decode(record: [u64; RECORD_WORDS], instruction: u64) -> Event {
    let [vector, esr, elr, far, spsr, x0, below, esr_el1, elr_el1, far_el1, spsr_el1] = record;
    let relative = |elr: u64| elr.wrapping_sub(instruction);
    let el2 = Exception { vector, esr, elr: relative(elr), spsr, far };
    let called =
        |taken: Exception, ec, immediate: u16| taken.ec() == ec && taken.esr & 0xffff == u64::from(immediate);
    // An HVC or SVC right after the instruction ends the visit.
    let after = |taken: Exception| taken.elr == 8;
    if below != 0 && called(el2, EC_HVC, FROM_EL1) {
        let el1 = Exception {
            vector: below - 1,
            esr: esr_el1,
            elr: relative(elr_el1),
            spsr: spsr_el1,
            far: far_el1,
        };
        return if called(el1, EC_SVC, DONE) && after(el1) {
            Event::Completed(x0)
        } else {
            Event::Taken(Target::El1, el1)
        };
    }
    if (called(el2, EC_HVC, DONE) || called(el2, EC_SVC, DONE)) && after(el2) {
        Event::Completed(x0)
    } else {
        Event::Taken(Target::El2, el2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn instructions_are_those_of_the_assembler() {
        // As GNU as assembles `ldr x0, [x1]`, `str x0, [x1]`, `brk #0xdf` and `mrs x0, id_aa64dfr0_el1`.
        let mrs = Instruction::Read(crate::sysreg::ID_AA64DFR0_EL1);
        let all = [Instruction::Load, Instruction::Store, Instruction::Brk, mrs];
        assert_eq!(all.map(Instruction::encoding), [0xf940_0020, 0xf900_0020, 0xd420_1be0, 0xd538_0500]);
    }

    #[test]
    fn mdcr_has_the_bits_of_the_register_page() {
        let mdcr = Mdcr::DEFAULT.with_tde(true).with_tdcc(true);
        assert_eq!(mdcr.raw_value(), 1 << 27 | 1 << 8);
        assert_eq!(mdcr.to_string(), "TDE TDCC");
        assert_eq!(Mdcr::DEFAULT.to_string(), "0");
    }

    #[test]
    fn a_record_is_a_completed_instruction_or_an_exception_of_its_level() {
        const AT: u64 = 0x4000_2000;
        let hvc = |immediate: u64| [8, 0x5a00_0000 | immediate, AT + 8, 0, 0x3c5, 7];
        let below = |words: [u64; 5]| {
            let mut record = [0; RECORD_WORDS];
            record[..6].copy_from_slice(&hvc(1));
            record[6..].copy_from_slice(&words);
            record
        };
        let mut done = [0; RECORD_WORDS];
        done[..6].copy_from_slice(&hvc(0));
        assert_eq!(decode(done, AT), Event::Completed(7));
        assert_eq!(decode(below([9, 0x5600_0000, AT + 8, 0, 0]), AT), Event::Completed(7), "SVC at EL0");
        let undefined = decode(below([5, 0x200_0000, AT, 0, 0x3c5]), AT);
        let exception = Exception { vector: 4, esr: 0x200_0000, elr: 0, spsr: 0x3c5, far: 0 };
        assert_eq!(undefined, Event::Taken(Target::El1, exception));
        done[2] = AT + 12;
        assert!(matches!(decode(done, AT), Event::Taken(Target::El2, _)), "an HVC of something else");
    }
}
