// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Short pieces of code that the payload executes with X0 as it is told, and of which it logs X0 as they leave it:
//! what no marker and no single access can do.

use crate::{access, feature::Feature};
use core::fmt;

/// What an instruction does, as far as a debugger sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// It changes general-purpose registers that no other instruction of the piece reads, or none.
    Nothing,
    /// It is UNDEFINED at EL0, and does nothing else that is seen.
    Privileged,
    /// `ISB`.
    Isb,
    /// PSTATE.D is written with an immediate; from EL0 that is trapped to EL1.
    MaskDebug(
        /// The value of D.
        bool,
    ),
    /// X0 is written to SPSR_EL1; UNDEFINED at EL0.
    SetSpsr,
    /// `ERET` to the instruction after it. What returned to the code last wrote SPSR_EL1, or else [`Self::SetSpsr`];
    /// UNDEFINED at EL0.
    ExceptionReturn,
    /// `ERET` to itself, as what returned to it did; UNDEFINED at EL0.
    ReturnToItself,
    /// `HVC`; UNDEFINED at EL0.
    HypervisorCall,
    /// `SMC`; UNDEFINED at EL0.
    SecureMonitorCall,
    /// `WFI` or `WFE`; from EL0 it may be trapped to EL1.
    Wait(
        /// ESR_ELx.TI of the trap.
        u8,
    ),
    /// What this access of [`access::TABLE`] does, at the address in X0.
    Access(u8),
    /// The exclusive monitor is cleared.
    ClearExclusive,
    /// A Store-Exclusive of eight bytes at the address in X0, with its status in W3, which was zero.
    StoreExclusive,
    /// If W3 is not zero the piece begins anew.
    Retry,
    /// X0 is what W3 was.
    Status,
}

/// A piece of code; a RET follows.
#[derive(Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Its name in a scenario.
    pub name: &'static str,
    /// Its instructions, and what each does.
    pub instructions: &'static [(u32, Does)],
    /// What it needs.
    pub needs: Option<Feature>,
}

/// How many instructions a piece may have, its RET included.
pub const SEQUENCE_LEN: usize = 8;
/// How many pieces there are.
pub const SEQUENCES: usize = 15;
/// `ERET`.
pub const ERET: u32 = 0xd69f_03e0;

const LDR: Does = Does::Access(access::place("ldr x1"));
const STR: Does = Does::Access(access::place("str x1"));
const LDXR: (u32, Does) = (0xc85f_7c01, Does::Access(access::place("ldxr x1")));
/// `STXR W3, X2, [X0]`.
const STXR: (u32, Does) = (0xc803_7c02, Does::StoreExclusive);
/// `MOV W3, WZR`.
const CLEAR_STATUS: (u32, Does) = (0x2a1f_03e3, Does::Nothing);
/// `MOV X0, X3`.
const STATUS: (u32, Does) = (0xaa03_03e0, Does::Status);

const fn sequence(name: &'static str, instructions: &'static [(u32, Does)]) -> Sequence {
    Sequence { name, instructions, needs: None }
}

const fn needs(feature: Feature, sequence: Sequence) -> Sequence {
    Sequence { needs: Some(feature), ..sequence }
}

/// Every piece; an operation names one by its place here.
pub const TABLE: [Sequence; SEQUENCES] = [
    sequence("isb", &[(0xd503_3fdf, Does::Isb)]),
    sequence("msr daifset, #8", &[(0xd503_48df, Does::MaskDebug(true))]),
    sequence("msr daifclr, #8", &[(0xd503_48ff, Does::MaskDebug(false))]),
    sequence(
        "msr daifset, #8; msr daifclr, #8",
        &[(0xd503_48df, Does::MaskDebug(true)), (0xd503_48ff, Does::MaskDebug(false))],
    ),
    sequence(
        "msr spsr_el1, x0; eret",
        &[
            (0xd518_4000, Does::SetSpsr),    // msr spsr_el1, x0
            (0x1000_0061, Does::Nothing),    // adr x1, the RET
            (0xd518_4021, Does::Privileged), // msr elr_el1, x1
            (ERET, Does::ExceptionReturn),
        ],
    ),
    sequence("eret", &[(ERET, Does::ReturnToItself)]),
    sequence("hvc #0", &[(0xd400_0002, Does::HypervisorCall)]),
    sequence("smc #0", &[(0xd400_0003, Does::SecureMonitorCall)]),
    sequence("wfi", &[(0xd503_207f, Does::Wait(0b00))]),
    // SEVL, so that there is an event to wait for.
    sequence("sevl; wfe", &[(0xd503_20bf, Does::Nothing), (0xd503_205f, Does::Wait(0b01))]),
    sequence("ldxr; stxr, until it is done", &[CLEAR_STATUS, LDXR, STXR, (0x35ff_ffa3, Does::Retry), STATUS]),
    sequence("ldxr; nop; stxr", &[CLEAR_STATUS, LDXR, (0xd503_201f, Does::Nothing), STXR, STATUS]),
    sequence("ldxr; clrex; stxr", &[CLEAR_STATUS, LDXR, (0xd503_3f5f, Does::ClearExclusive), STXR, STATUS]),
    // With PSTATE.UAO set, what is otherwise an unprivileged access is one of EL1.
    needs(
        Feature::Uao,
        sequence(
            "msr uao, #1; ldtr x1",
            &[(0xd500_417f, Does::Privileged), (0xf840_0801, LDR), (0xd500_407f, Does::Privileged)],
        ),
    ),
    needs(
        Feature::Uao,
        sequence(
            "msr uao, #1; sttr x1",
            &[(0xd500_417f, Does::Privileged), (0xf800_0801, STR), (0xd500_407f, Does::Privileged)],
        ),
    ),
];

/// The place in [`TABLE`] of the piece of this name.
pub fn named(name: &str) -> Option<u8> {
    TABLE.iter().position(|sequence| sequence.name == name).map(|place| place as u8)
}

/// The pieces that `which` is true for, by their places.
pub fn places(which: impl Fn(&Sequence) -> bool) -> impl Iterator<Item = u8> {
    (0..).zip(&TABLE).filter(move |(_, sequence)| which(sequence)).map(|(place, _)| place)
}

// Each piece fits, with its RET.
const _: () = {
    let mut place = 0;
    while place < SEQUENCES {
        assert!(TABLE[place].instructions.len() < SEQUENCE_LEN);
        place += 1;
    }
};

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_found_by_its_name() {
        for (place, sequence) in TABLE.iter().enumerate() {
            assert_eq!(named(sequence.name), Some(place as u8), "{sequence}");
        }
        assert_eq!(named("nop"), None);
    }

    /// As GNU as has it.
    const ASSEMBLED: [(&str, u32); 18] = [
        ("isb", 0xd503_3fdf),
        ("msr daifset, #8", 0xd503_48df),
        ("msr daifclr, #8", 0xd503_48ff),
        ("msr spsr_el1, x0", 0xd518_4000),
        ("msr elr_el1, x1", 0xd518_4021),
        ("eret", 0xd69f_03e0),
        ("hvc #0", 0xd400_0002),
        ("smc #0", 0xd400_0003),
        ("wfi", 0xd503_207f),
        ("sevl", 0xd503_20bf),
        ("wfe", 0xd503_205f),
        ("mov w3, wzr", 0x2a1f_03e3),
        ("ldxr x1, [x0]", 0xc85f_7c01),
        ("stxr w3, x2, [x0]", 0xc803_7c02),
        ("mov x0, x3", 0xaa03_03e0),
        ("clrex", 0xd503_3f5f),
        ("msr uao, #1", 0xd500_417f),
        ("msr uao, #0", 0xd500_407f),
    ];

    fn does(instruction: u32, alone: bool) -> Does {
        let name = ASSEMBLED.iter().find(|(_, word)| *word == instruction).map(|(name, _)| *name);
        match name {
            Some("isb") => Does::Isb,
            Some("msr daifset, #8") => Does::MaskDebug(true),
            Some("msr daifclr, #8") => Does::MaskDebug(false),
            Some("eret") if alone => Does::ReturnToItself,
            Some("eret") => Does::ExceptionReturn,
            Some("msr spsr_el1, x0") => Does::SetSpsr,
            Some("hvc #0") => Does::HypervisorCall,
            Some("smc #0") => Does::SecureMonitorCall,
            Some("wfi") => Does::Wait(0),
            Some("wfe") => Does::Wait(1),
            Some("ldxr x1, [x0]") => Does::Access(access::place("ldxr x1")),
            Some("stxr w3, x2, [x0]") => Does::StoreExclusive,
            Some("mov x0, x3") => Does::Status,
            Some("clrex") => Does::ClearExclusive,
            Some(name) if name.starts_with("msr ") => Does::Privileged,
            _ => Does::Nothing,
        }
    }

    #[test]
    fn what_an_instruction_does_is_what_its_encoding_says() {
        for sequence in &TABLE {
            for (place, (instruction, says)) in sequence.instructions.iter().enumerate() {
                let back = |words: usize| 0x3500_0003 | (words as u32).wrapping_neg() << 5 & 0xff_ffe0;
                match *says {
                    // CBNZ W3, to the first instruction.
                    Does::Retry => assert_eq!(*instruction, back(place), "{sequence}"),
                    // LDTR and STTR while PSTATE.UAO is set.
                    Does::Access(access) if sequence.needs == Some(Feature::Uao) => {
                        let name = match access::TABLE[usize::from(access)].name {
                            "ldr x1" => "ldtr x1",
                            _ => "sttr x1",
                        };
                        assert_eq!(*instruction, named_instruction(name), "{sequence}");
                    }
                    says => assert_eq!(
                        does(*instruction, sequence.instructions.len() == 1),
                        says,
                        "{sequence}: {instruction:#x}"
                    ),
                }
            }
        }
    }

    fn named_instruction(name: &str) -> u32 {
        let place = access::named(name).expect("an access");
        access::TABLE[usize::from(place)].instruction
    }
}
