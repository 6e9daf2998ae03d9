// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The first instructions of a bare CPU, which do what KVM does for a vCPU before it enters it. The payload
//! runs at EL1 under a stage 2 translation as a guest's does, because an emulator's walk of stage 2 is a part
//! of the platform.

use crate::stage1;
use dfr0_model::{
    sequence::{ERET, ISB, NOP},
    sysreg::{ID_AA64ISAR2_EL1, ID_AA64PFR1_EL1, SCTLR_EL1, SysReg},
    wire::{RAM, TABLES},
};

/// The CPU starts on the last page of its memory, which has this size.
pub const PAGE: u64 = 0x1000;
/// PL011: its data register, to which a byte is written to send it (PrimeCell UART PL011 TRM, UARTDR).
pub const UARTDR: u64 = 0x0900_0000;
/// PL011: its control register, UARTCR.
const UARTCR: u64 = UARTDR + 0x30;
/// UARTCR.{UARTEN, TXE}.
const SEND: u64 = 1 | 1 << 8;

/// HCR_EL2.{RW, VI, IMO, VM}: EL1 is AArch64, and has a stage 2. A virtual interrupt is pending, which the payload masks:
/// its WFI does not wait.
const HCR: u64 = 1 << 31 | 1 << 7 | 1 << 4 | 1;
/// HCR_EL2.ATA.
const HCR_ATA: u64 = 1 << 56;
/// CPTR_EL2 with E2H clear: its RES1 bits but TZ, which is one of them without FEAT_SVE; nothing of SIMD and SVE is trapped.
const CPTR: u64 = 0x32ff;
/// VTCR_EL2: T0SZ = 64 - 39 from level 1, Inner Shareable Write-Back walks, 4 KiB granule, 40-bit PA.
const VTCR: u64 = 25 | 1 << 6 | 1 << 8 | 1 << 10 | 0b11 << 12 | 0b010 << 16 | 1 << 31;
/// HCRX_EL2.MSCEn.
const HCRX_MSCEN: u64 = 1 << 11;
/// A level 1 block of stage 2 that is read and written: AF, S2AP.
const BLOCK: u64 = 1 | 1 << 10 | 0b11 << 6;
/// Its memory is Normal Write-Back, Inner Shareable.
const NORMAL: u64 = 0b1111 << 2 | 0b11 << 8;
/// It is Device-nGnRnE, and is not executed.
const DEVICE: u64 = 1 << 54;

const HCR_EL2: SysReg = SysReg::new(3, 4, 1, 1, 0);
const MDCR_EL2: SysReg = SysReg::new(3, 4, 1, 1, 1);
const HCRX_EL2: SysReg = SysReg::new(3, 4, 1, 2, 2);
const CPTR_EL2: SysReg = SysReg::new(3, 4, 1, 1, 2);
const VTTBR_EL2: SysReg = SysReg::new(3, 4, 2, 1, 0);
const VTCR_EL2: SysReg = SysReg::new(3, 4, 2, 1, 2);
const SPSR_EL2: SysReg = SysReg::new(3, 4, 4, 0, 0);
const ELR_EL2: SysReg = SysReg::new(3, 4, 4, 0, 1);

/// `MOV X3, #0`.
const MOV_X3_0: u32 = 0xd280_0003;
/// `STR W0, [X1]`.
const STR_W0_X1: u32 = 0xb900_0020;
/// `AND X0, X0, #0x1f`.
const AND_X0_1F: u32 = 0x9240_1000;
/// `UBFX X0, X0, #16, #4`: ID_AA64ISAR2_EL1.MOPS.
const UBFX_X0_MOPS: u32 = 0xd350_4c00;
/// `UBFX X0, X0, #9, #3`: ID_AA64PFR1_EL1.MTE is 2 or more.
const UBFX_X0_MTE2: u32 = 0xd349_2c00;
/// `CBZ X0`, to the third instruction from it.
const CBZ_X0_OVER_TWO: u32 = 0xb400_0060;

/// Stage 2: IPA = PA, for the devices below the memory and for the memory.
pub fn stage2() -> Vec<u8> {
    [BLOCK | DEVICE, RAM | BLOCK | NORMAL].into_iter().flat_map(u64::to_le_bytes).collect()
}

/// Code, followed by its literals.
#[derive(Default)]
struct Code {
    instructions: Vec<u32>,
    /// The instructions that load a literal: place, register and value.
    loads: Vec<(usize, u32, u64)>,
}

impl Code {
    fn push(&mut self, instruction: u32) {
        self.instructions.push(instruction);
    }

    /// `LDR X<t>, =value`.
    fn load(&mut self, t: u32, value: u64) {
        self.loads.push((self.instructions.len(), t, value));
        self.push(NOP);
    }

    fn bytes(mut self) -> Vec<u8> {
        if !self.instructions.len().is_multiple_of(2) {
            self.push(NOP);
        }
        let literals = self.instructions.len();
        for (place, (at, t, _)) in self.loads.iter().enumerate() {
            self.instructions[*at] = ldr_literal(*t, literals + 2 * place - at);
        }
        let code = self.instructions.iter().flat_map(|word| word.to_le_bytes());
        code.chain(self.loads.iter().flat_map(|(_, _, value)| value.to_le_bytes())).collect()
    }
}

/// `LDR X<t>, <label>`, where the label is this many words ahead.
const fn ldr_literal(t: u32, words: usize) -> u32 {
    0x5800_0000 | (words as u32 & 0x7_ffff) << 5 | t
}

/// The code that enters `entry` with this SPSR_EL2: the payload, with tables that end at `tables_end`, under the stage 2 at
/// `stage2`; it can be at any address that is a multiple of 8.
pub fn code(entry: u64, spsr: u64, tables_end: u64, stage2: u64) -> Vec<u8> {
    let mut code = Code::default();
    code.load(0, SEND);
    code.load(1, UARTCR);
    code.push(STR_W0_X1);
    // No debug access is trapped to EL2. HPMN, a number of event counters, keeps its value, because zero may
    // be reserved.
    code.push(MDCR_EL2.mrs_x0());
    code.push(AND_X0_1F);
    code.push(MDCR_EL2.msr_x0());
    // Memory Copy and Memory Set instructions, where there are any, are not UNDEFINED below EL2.
    code.push(ID_AA64ISAR2_EL1.mrs_x0());
    code.push(UBFX_X0_MOPS);
    code.push(CBZ_X0_OVER_TWO);
    code.load(0, HCRX_MSCEN);
    code.push(HCRX_EL2.msr_x0());
    let registers = [
        (HCR_EL2, HCR),
        (CPTR_EL2, CPTR),
        (VTCR_EL2, VTCR),
        (VTTBR_EL2, stage2),
        (SCTLR_EL1, stage1::SCTLR_OFF),
        (SPSR_EL2, spsr),
        (ELR_EL2, entry),
    ];
    for (reg, value) in registers.into_iter().chain(stage1::REGISTERS) {
        code.load(0, value);
        code.push(reg.msr_x0());
    }
    // Where there are Allocation Tags, they can be accessed below EL2.
    code.push(ID_AA64PFR1_EL1.mrs_x0());
    code.push(UBFX_X0_MTE2);
    code.push(CBZ_X0_OVER_TWO);
    code.load(0, HCR | HCR_ATA);
    code.push(HCR_EL2.msr_x0());
    code.push(ISB);
    code.load(0, TABLES);
    code.load(1, tables_end);
    code.load(2, stage1::SCTLR);
    code.push(MOV_X3_0);
    code.push(ERET);
    code.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfr0_model::pstate;

    /// As GNU as assembles them, for `entry` 0x4000_0000, tables that end at 0x4010_5000 and a stage 2 at
    /// 0x403f_e000.
    const ASSEMBLED: [u32; 42] = [
        0x5800_0540, // ldr x0, =0x101
        0x5800_0561, // ldr x1, =0x9000030
        0xb900_0020, // str w0, [x1]
        0xd53c_1120, // mrs x0, mdcr_el2
        0x9240_1000, // and x0, x0, #0x1f
        0xd51c_1120, // msr mdcr_el2, x0
        0xd538_0640, // mrs x0, id_aa64isar2_el1
        0xd350_4c00, // ubfx x0, x0, #16, #4
        0xb400_0060, // cbz x0, .+12
        0x5800_04a0, // ldr x0, =0x800
        0xd51c_1240, // msr hcrx_el2, x0
        0x5800_04a0, // ldr x0, =0x80000091
        0xd51c_1100, // msr hcr_el2, x0
        0x5800_04a0, // ldr x0, =0x32ff
        0xd51c_1140, // msr cptr_el2, x0
        0x5800_04a0, // ldr x0, =0x80023559
        0xd51c_2140, // msr vtcr_el2, x0
        0x5800_04a0, // ldr x0, =0x403fe000
        0xd51c_2100, // msr vttbr_el2, x0
        0x5800_04a0, // ldr x0, =0x30d00800
        0xd518_1000, // msr sctlr_el1, x0
        0x5800_04a0, // ldr x0, =0x3c5
        0xd51c_4000, // msr spsr_el2, x0
        0x5800_04a0, // ldr x0, =0x40000000
        0xd51c_4020, // msr elr_el2, x0
        0x5800_04a0, // ldr x0, =0xff
        0xd518_a200, // msr mair_el1, x0
        0x5800_04a0, // ldr x0, =0x2000803519
        0xd518_2040, // msr tcr_el1, x0
        0x5800_04a0, // ldr x0, =0x40100000
        0xd518_2000, // msr ttbr0_el1, x0
        0xd538_0420, // mrs x0, id_aa64pfr1_el1
        0xd349_2c00, // ubfx x0, x0, #9, #3
        0xb400_0060, // cbz x0, .+12
        0x5800_0440, // ldr x0, =0x100000080000091
        0xd51c_1100, // msr hcr_el2, x0
        0xd503_3fdf, // isb
        0x5800_0420, // ldr x0, =0x40100000
        0x5800_0441, // ldr x1, =0x40105000
        0x5800_0462, // ldr x2, =0x30d0180d
        0xd280_0003, // mov x3, #0
        0xd69f_03e0, // eret
    ];

    #[test]
    fn the_code_is_the_same_as_an_assemblers() {
        let bytes = code(0x4000_0000, pstate::EL1H_MASKED, 0x4010_5000, 0x403f_e000);
        let (instructions, literals) = bytes.split_at(4 * ASSEMBLED.len());
        let words: Vec<u32> = instructions
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
            .collect();
        assert_eq!(words, ASSEMBLED);
        let values: Vec<u64> = literals
            .chunks_exact(8)
            .map(|value| u64::from_le_bytes(value.try_into().expect("eight bytes")))
            .collect();
        let expected = [
            0x101,
            0x0900_0030,
            0x800,
            0x8000_0091,
            0x32ff,
            0x8002_3559,
            0x403f_e000,
            0x30d0_0800,
            0x3c5,
            0x4000_0000,
            0xff,
            0x20_0080_3519,
            0x4010_0000,
            0x0100_0000_8000_0091,
            0x4010_0000,
            0x4010_5000,
            0x30d0_580d,
        ];
        assert_eq!(values, expected);
        assert!(bytes.len() as u64 <= PAGE);
    }

    #[test]
    fn stage2_maps_the_devices_and_the_memory_where_they_are() {
        let expected = [0x0040_0000_0000_04c1_u64, 0x4000_07fd].map(u64::to_le_bytes).concat();
        assert_eq!(stage2(), expected);
    }

    #[test]
    fn a_literal_is_loaded_from_its_address() {
        for odd in [0, 1] {
            let mut code = Code::default();
            (0..odd).for_each(|_| code.push(ISB));
            code.load(7, 0x1122_3344_5566_7788);
            let bytes = code.bytes();
            assert_eq!(bytes.len(), 16, "the literal is aligned");
            let at = 4 * odd;
            let load = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
            let literal = at + 4 * (load >> 5 & 0x7_ffff) as usize;
            assert_eq!(bytes[literal..], 0x1122_3344_5566_7788_u64.to_le_bytes());
            assert_eq!(load & 0xff00_001f, 0x5800_0007);
        }
    }
}
