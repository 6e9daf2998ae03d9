// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Short pieces of code for what no marker and no single access can do. The payload executes one with X0 as it is told,
//! and logs X0 as the piece leaves it.

use crate::{
    access::{Access, is_same},
    feature::Feature,
    layout,
    vector::{ELEMENTS, Faulting, Vector},
};
use core::fmt;

/// What an instruction does, as far as a debugger sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// Nothing, or it changes general-purpose registers that no other instruction of the piece reads.
    Nothing,
    /// It is UNDEFINED at EL0, and has no other visible effect.
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
    /// A read of PMCR_EL0, which is UNDEFINED in a VM without a PMU. The CPU may have the register, and then it is the
    /// hypervisor that takes the exception for the guest.
    ReadPmcr,
    /// A read of MDCCSR_EL0; from EL0 it is trapped to EL1 while MDSCR_EL1.TDCC is 1.
    ReadMdccsr,
    /// `WFI` or `WFE`; from EL0 it may be trapped to EL1.
    Wait(
        /// ESR_ELx.TI of the trap.
        u8,
    ),
    /// What this access does, at the address in X0.
    Access(&'static Access),
    /// The exclusive monitor is cleared.
    ClearExclusive,
    /// A Store-Exclusive of eight bytes at the address in X0, with its status in W3, which was zero.
    StoreExclusive,
    /// If W3 is not zero, the piece starts again.
    Retry,
    /// X0 is set to W3.
    Status,
    /// An SVE contiguous load or store at the address in X0.
    Vector(Vector),
    /// Each element of the FFR is TRUE.
    SetFirstFault,
    /// X0 is set to the number of Active elements that the FFR says were loaded.
    CountLoaded(
        /// The number of Active elements.
        u8,
    ),
    /// A part of what the piece's [`Moves`] says, which may be all of it or nothing. After a Breakpoint or Watchpoint
    /// exception of it, the payload clears MDSCR_EL1.MDE and goes on with this instruction.
    Move {
        /// It does all of the rest.
        last: bool,
    },
    /// The doubleword [`Moves::READ_BACK`] bytes below the end of what was written is loaded into X0.
    ReadBack,
}

/// What the Memory Set or Memory Copy of a piece does with the bytes from the address in X0 upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moves {
    /// The number of bytes.
    pub size: u64,
    /// The address that they are copied from.
    pub from: Option<u64>,
    /// The value that each doubleword has then.
    pub value: u64,
}

impl Moves {
    /// The distance from their end down to the doubleword that is read back, in bytes.
    pub const READ_BACK: u64 = 40;
}

/// A Memory Copy or Memory Set instruction (DDI 0487 C4.1, Memory Copy and Memory Set).
pub const fn is_move(instruction: u32) -> bool {
    instruction & 0xfb20_0c00 == 0x1900_0400
}

/// A piece of code; a RET follows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Its place in [`TABLE`].
    pub(crate) place: u8,
    /// Its name in a scenario.
    pub name: &'static str,
    /// Its instructions, and what each does.
    pub instructions: &'static [(u32, Does)],
    /// The feature that it needs.
    pub needs: Option<Feature>,
    /// What its [`Does::Move`] do together.
    pub moves: Option<Moves>,
}

/// The most instructions that a piece may have, its RET included.
pub const SEQUENCE_LEN: usize = 8;
/// The number of pieces.
pub const SEQUENCES: usize = 33;
/// `NOP`.
pub const NOP: u32 = 0xd503_201f;
/// `RET`.
pub const RET: u32 = 0xd65f_03c0;
/// `ISB`.
pub const ISB: u32 = 0xd503_3fdf;
/// `ERET`.
pub const ERET: u32 = 0xd69f_03e0;

const LDR: Does = Does::Access(Access::named("ldr x1"));
const STR: Does = Does::Access(Access::named("str x1"));
const LDXR: (u32, Does) = (0xc85f_7c01, Does::Access(Access::named("ldxr x1")));
/// `STXR W3, X2, [X0]`.
const STXR: (u32, Does) = (0xc803_7c02, Does::StoreExclusive);
/// `MOV W3, WZR`.
const CLEAR_STATUS: (u32, Does) = (0x2a1f_03e3, Does::Nothing);
/// `MOV X0, X3`.
const STATUS: (u32, Does) = (0xaa03_03e0, Does::Status);

/// `PTRUE P0.B, VL16`: as many elements as any vector has, so that the vector length does not matter.
const ALL: (u32, Does) = (0x2518_e120, Does::Nothing);
/// `PTRUE P0.B, VL8`.
const LOW: (u32, Does) = (0x2518_e100, Does::Nothing);
/// `PFALSE P0.B`.
const NONE: (u32, Does) = (0x2518_e400, Does::Nothing);
/// `PTRUE P1.B, VL4`.
const FIRST_FOUR: (u32, Does) = (0x2518_e081, Does::Nothing);
/// `BIC P0.B, P0/Z, P0.B, P1.B`.
const CLEAR_FIRST_FOUR: (u32, Does) = (0x2501_4010, Does::Nothing);
/// `SETFFR`.
const SETFFR: (u32, Does) = (0x252c_9000, Does::SetFirstFault);
/// `RDFFR P1.B`.
const RDFFR: (u32, Does) = (0x2519_f001, Does::Nothing);
/// `CNTP X0, P0, P1.B`.
const fn count(active: u8) -> (u32, Does) {
    (0x2520_8020, Does::CountLoaded(active))
}

const fn vector(instruction: u32, stores: bool, faulting: Faulting, first: u8, end: u8) -> (u32, Does) {
    (instruction, Does::Vector(Vector { stores, faulting, first, end }))
}

/// `LD1B {Z0.B}, P0/Z, [X0]`.
const fn ld1b(first: u8, end: u8) -> (u32, Does) {
    vector(0xa400_a000, false, Faulting::All, first, end)
}

/// `ST1B {Z0.B}, P0, [X0]`.
const fn st1b(first: u8, end: u8) -> (u32, Does) {
    vector(0xe400_e000, true, Faulting::All, first, end)
}

/// `LDFF1B {Z0.B}, P0/Z, [X0]`.
const fn ldff1b(first: u8) -> (u32, Does) {
    vector(0xa41f_6000, false, Faulting::First, first, ELEMENTS)
}

/// `LDNF1B {Z0.B}, P0/Z, [X0]`.
const LDNF1B: (u32, Does) = vector(0xa410_a000, false, Faulting::None, 0, ELEMENTS);

const fn sequence(name: &'static str, instructions: &'static [(u32, Does)]) -> Sequence {
    Sequence { place: u8::MAX, name, instructions, needs: None, moves: None }
}

const fn needs(feature: Feature, sequence: Sequence) -> Sequence {
    Sequence { needs: Some(feature), ..sequence }
}

const fn sve(name: &'static str, instructions: &'static [(u32, Does)]) -> Sequence {
    needs(Feature::Sve, sequence(name, instructions))
}

/// A Memory Set or Memory Copy.
const fn moves(moves: Moves, sequence: Sequence) -> Sequence {
    Sequence { moves: Some(moves), ..needs(Feature::Mops, sequence) }
}

const MOVE: Does = Does::Move { last: false };
const LAST_MOVE: Does = Does::Move { last: true };
/// `LDUR X0, [X0, #-40]`: X0 is the end of what was written.
const READ_BACK: (u32, Does) = (0xf85d_8000, Does::ReadBack);
/// `ADD X0, X0, X1` and `ADD X0, X0, X2`: how much is left to do, which is nothing.
const ADD_REST_OF_SET: (u32, Does) = (0x8b01_0000, Does::Nothing);
const ADD_REST_OF_COPY: (u32, Does) = (0x8b02_0000, Does::Nothing);
/// What the first markers are, a NOP and a RET each. ADRP finds them at the start of the page that the piece is in.
const MARKERS: Moves =
    Moves { size: 64, from: Some(layout::MARKERS), value: (RET as u64) << 32 | NOP as u64 };
/// `CPYP [X0]!, [X1]!, X2!` and `CPYFP [X0]!, [X1]!, X2!`.
const CPYP: u32 = 0x1d01_0440;
const CPYFP: u32 = 0x1901_0440;

/// A Memory Set of `SIZE` bytes to ones.
const fn set_to_ones<const SIZE: u16>(name: &'static str) -> Sequence {
    moves(
        Moves { size: SIZE as u64, from: None, value: u64::MAX },
        sequence(
            name,
            const {
                &[
                    (0xd280_0001 | (SIZE as u32) << 5, Does::Nothing), // mov x1, #SIZE
                    (0x9280_0002, Does::Nothing),                      // mov x2, #-1
                    (0x19c2_0420, MOVE),                               // setp [x0]!, x1!, x2
                    (0x19c2_4420, MOVE),                               // setm [x0]!, x1!, x2
                    (0x19c2_8420, LAST_MOVE),                          // sete [x0]!, x1!, x2
                    READ_BACK,
                    ADD_REST_OF_SET,
                ]
            },
        ),
    )
}

/// A Memory Copy of the markers, of which `PROLOGUE` is the first of the three instructions.
const fn copy<const PROLOGUE: u32>(name: &'static str) -> Sequence {
    moves(
        MARKERS,
        sequence(
            name,
            const {
                &[
                    (0x9000_0001, Does::Nothing), // adrp x1, the markers
                    (0xd280_0802, Does::Nothing), // mov x2, #64
                    (PROLOGUE, MOVE),
                    (PROLOGUE | 1 << 22, MOVE),
                    (PROLOGUE | 1 << 23, LAST_MOVE),
                    READ_BACK,
                    ADD_REST_OF_COPY,
                ]
            },
        ),
    )
}

/// Every piece. New ones go last, because snapshots hold places.
pub static TABLE: [Sequence; SEQUENCES] = placed([
    sequence("isb", &[(ISB, Does::Isb)]),
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
    sequence("ldxr; nop; stxr", &[CLEAR_STATUS, LDXR, (NOP, Does::Nothing), STXR, STATUS]),
    sequence("ldxr; clrex; stxr", &[CLEAR_STATUS, LDXR, (0xd503_3f5f, Does::ClearExclusive), STXR, STATUS]),
    // With PSTATE.UAO set, what is otherwise an unprivileged access has EL1's privilege.
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
    sve("ld1b", &[ALL, ld1b(0, ELEMENTS)]),
    sve("st1b", &[ALL, st1b(0, ELEMENTS)]),
    sve("ld1b of the first 8", &[LOW, ld1b(0, 8)]),
    sve("st1b of the first 8", &[LOW, st1b(0, 8)]),
    sve("ld1b of the last 12", &[ALL, FIRST_FOUR, CLEAR_FIRST_FOUR, ld1b(4, ELEMENTS)]),
    sve("st1b of the last 12", &[ALL, FIRST_FOUR, CLEAR_FIRST_FOUR, st1b(4, ELEMENTS)]),
    sve("ld1b of none", &[NONE, ld1b(0, 0)]),
    sve("st1b of none", &[NONE, st1b(0, 0)]),
    sve("ldnf1b", &[ALL, SETFFR, LDNF1B, RDFFR, count(ELEMENTS)]),
    sve("ldff1b", &[ALL, SETFFR, ldff1b(0), RDFFR, count(ELEMENTS)]),
    sve("ldff1b of the last 12", &[ALL, FIRST_FOUR, CLEAR_FIRST_FOUR, SETFFR, ldff1b(4), RDFFR, count(12)]),
    moves(
        Moves { size: 64, from: None, value: 0 },
        sequence(
            "set 64 bytes to zeros",
            &[
                (0xd280_0801, Does::Nothing), // mov x1, #64
                (0x19df_0420, MOVE),          // setp [x0]!, x1!, xzr
                (0x19df_4420, MOVE),          // setm [x0]!, x1!, xzr
                (0x19df_8420, LAST_MOVE),     // sete [x0]!, x1!, xzr
                READ_BACK,
                ADD_REST_OF_SET,
            ],
        ),
    ),
    set_to_ones::<64>("set 64 bytes to ones"),
    set_to_ones::<0x2000>("set 8 KiB to ones"),
    copy::<CPYP>("copy 64 bytes"),
    copy::<CPYFP>("copy 64 bytes forwards"),
    sequence("mrs x1, pmcr_el0", &[(0xd53b_9c01, Does::ReadPmcr)]),
    sequence("mrs x1, mdccsr_el0", &[(0xd533_0101, Does::ReadMdccsr)]),
]);

const fn placed(mut table: [Sequence; SEQUENCES]) -> [Sequence; SEQUENCES] {
    let mut place = 0;
    while place < SEQUENCES {
        // Its RET is one more.
        assert!(table[place].instructions.len() < SEQUENCE_LEN);
        table[place].place = place as u8;
        place += 1;
    }
    table
}

impl Sequence {
    /// The piece of this name, if there is one.
    pub const fn find(name: &str) -> Option<&'static Self> {
        let mut place = 0;
        while place < SEQUENCES {
            if is_same(TABLE[place].name, name) {
                return Some(&TABLE[place]);
            }
            place += 1;
        }
        None
    }

    /// It needs a VM without a PMU.
    pub fn reads_pmcr(&self) -> bool {
        self.instructions.iter().any(|(_, does)| *does == Does::ReadPmcr)
    }

    /// The piece of this name, which exists.
    pub const fn named(name: &str) -> &'static Self {
        Self::find(name).expect("no piece of code has this name")
    }
}

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
            assert_eq!(usize::from(Sequence::named(sequence.name).place), place, "{sequence}");
        }
        assert_eq!(Sequence::find("nop"), None);
    }

    /// As GNU as has it.
    const ASSEMBLED: [(&str, u32); 52] = [
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
        ("ptrue p0.b, vl16", 0x2518_e120),
        ("ptrue p0.b, vl8", 0x2518_e100),
        ("ptrue p1.b, vl4", 0x2518_e081),
        ("bic p0.b, p0/z, p0.b, p1.b", 0x2501_4010),
        ("pfalse p0.b", 0x2518_e400),
        ("setffr", 0x252c_9000),
        ("ld1b {z0.b}, p0/z, [x0]", 0xa400_a000),
        ("st1b {z0.b}, p0, [x0]", 0xe400_e000),
        ("ldnf1b {z0.b}, p0/z, [x0]", 0xa410_a000),
        ("ldff1b {z0.b}, p0/z, [x0]", 0xa41f_6000),
        ("rdffr p1.b", 0x2519_f001),
        ("cntp x0, p0, p1.b", 0x2520_8020),
        ("mov x1, #64", 0xd280_0801),
        ("mov x1, #0x2000", 0xd284_0001),
        ("mov x2, #64", 0xd280_0802),
        ("mov x2, #-1", 0x9280_0002),
        ("setp [x0]!, x1!, xzr", 0x19df_0420),
        ("setm [x0]!, x1!, xzr", 0x19df_4420),
        ("sete [x0]!, x1!, xzr", 0x19df_8420),
        ("setp [x0]!, x1!, x2", 0x19c2_0420),
        ("setm [x0]!, x1!, x2", 0x19c2_4420),
        ("sete [x0]!, x1!, x2", 0x19c2_8420),
        ("adrp x1, .", 0x9000_0001),
        ("cpyp [x0]!, [x1]!, x2!", 0x1d01_0440),
        ("cpym [x0]!, [x1]!, x2!", 0x1d41_0440),
        ("cpye [x0]!, [x1]!, x2!", 0x1d81_0440),
        ("cpyfp [x0]!, [x1]!, x2!", 0x1901_0440),
        ("cpyfm [x0]!, [x1]!, x2!", 0x1941_0440),
        ("cpyfe [x0]!, [x1]!, x2!", 0x1981_0440),
        ("ldur x0, [x0, #-40]", 0xf85d_8000),
        ("add x0, x0, x1", 0x8b01_0000),
        ("add x0, x0, x2", 0x8b02_0000),
        ("mrs x1, pmcr_el0", 0xd53b_9c01),
        ("mrs x1, mdccsr_el0", 0xd533_0101),
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
            Some("ldxr x1, [x0]") => Does::Access(Access::named("ldxr x1")),
            Some("stxr w3, x2, [x0]") => Does::StoreExclusive,
            Some("mov x0, x3") => Does::Status,
            Some("clrex") => Does::ClearExclusive,
            Some("mrs x1, pmcr_el0") => Does::ReadPmcr,
            Some("mrs x1, mdccsr_el0") => Does::ReadMdccsr,
            Some("setffr") => Does::SetFirstFault,
            Some("ldur x0, [x0, #-40]") => Does::ReadBack,
            Some(name) if name.starts_with("set") || name.starts_with("cpy") => {
                let (mnemonic, _) = name.split_once(' ').expect("a mnemonic");
                Does::Move { last: mnemonic.ends_with('e') }
            }
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
                        let name = match access.name {
                            "ldr x1" => "ldtr x1",
                            _ => "sttr x1",
                        };
                        assert_eq!(*instruction, Access::named(name).instruction, "{sequence}");
                    }
                    Does::Vector(vector) => {
                        let before = &sequence.instructions[..place];
                        assert_eq!(decoded(*instruction, before), vector, "{sequence}");
                    }
                    Does::CountLoaded(active) => {
                        assert_eq!(*instruction, 0x2520_8020, "{sequence}");
                        let vectors = sequence.instructions.iter().filter_map(|(_, does)| match does {
                            Does::Vector(vector) => Some(vector.end - vector.first),
                            _ => None,
                        });
                        assert_eq!(vectors.collect::<alloc::vec::Vec<_>>(), [active], "{sequence}");
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

    /// The vector instruction, with P0 as the instructions before leave it.
    fn decoded(instruction: u32, before: &[(u32, Does)]) -> Vector {
        let name = |word| ASSEMBLED.iter().find(|(_, of)| *of == word).map_or("?", |(name, _)| *name);
        let (mut first, mut end) = (0, 0);
        for (word, _) in before {
            match name(*word) {
                "ptrue p0.b, vl16" => end = ELEMENTS,
                "ptrue p0.b, vl8" => end = 8,
                "bic p0.b, p0/z, p0.b, p1.b" => first = 4,
                _ => {}
            }
        }
        let (stores, faulting) = match name(instruction) {
            "ld1b {z0.b}, p0/z, [x0]" => (false, Faulting::All),
            "st1b {z0.b}, p0, [x0]" => (true, Faulting::All),
            "ldff1b {z0.b}, p0/z, [x0]" => (false, Faulting::First),
            "ldnf1b {z0.b}, p0/z, [x0]" => (false, Faulting::None),
            other => panic!("{other}: {instruction:#x}"),
        };
        Vector { stores, faulting, first, end }
    }

    #[test]
    fn memory_copy_and_set_instructions_are_told_from_all_others() {
        for (instruction, does) in TABLE.iter().flat_map(|sequence| sequence.instructions) {
            assert_eq!(is_move(*instruction), matches!(does, Does::Move { .. }), "{instruction:#x}");
        }
        for access in &crate::access::TABLE {
            assert!(!is_move(access.instruction), "{access}");
        }
    }

    /// Each piece that moves something has the three instructions of it, and the size and the value that it says.
    #[test]
    fn a_memory_copy_or_set_is_what_its_instructions_say() {
        for sequence in &TABLE {
            let has = |name| {
                let (_, word) = ASSEMBLED.iter().find(|(other, _)| *other == name).expect("an instruction");
                sequence.instructions.iter().any(|(instruction, _)| instruction == word)
            };
            let parts = sequence.instructions.iter().filter(|(_, does)| matches!(does, Does::Move { .. }));
            let Some(moves) = sequence.moves else {
                assert_eq!(parts.count(), 0, "{sequence}");
                continue;
            };
            assert_eq!(sequence.needs, Some(Feature::Mops), "{sequence}");
            assert_eq!(parts.count(), 3, "{sequence}");
            match moves.from {
                Some(from) => {
                    assert!(
                        has("adrp x1, .") && from == layout::MARKERS && has("add x0, x0, x2"),
                        "{sequence}"
                    );
                    assert!(has("mov x2, #64") && moves.size == 64, "{sequence}");
                    assert_eq!(moves.value, 0xd65f_03c0_d503_201f, "RET after NOP: {sequence}");
                }
                None => {
                    assert!(has("add x0, x0, x1"), "{sequence}");
                    assert_eq!(has("mov x1, #64"), moves.size == 64, "{sequence}");
                    assert_eq!(has("mov x1, #0x2000"), moves.size == 0x2000, "{sequence}");
                    assert_eq!(has("mov x2, #-1"), moves.value == u64::MAX, "{sequence}");
                    assert_eq!(has("setp [x0]!, x1!, xzr"), moves.value == 0, "{sequence}");
                }
            }
        }
    }
}
