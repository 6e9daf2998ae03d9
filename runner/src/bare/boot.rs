// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The first instructions of a bare CPU: what KVM_SET_ONE_REG does for a vCPU.

use crate::stage1;
use dfr0_model::wire::TABLES;

/// The CPU starts on the last page of its memory, which has this size.
pub const PAGE: u64 = 0x1000;
/// PL011: its data register, in which a byte is sent (PrimeCell UART PL011 TRM, UARTDR).
pub const UARTDR: u64 = 0x0900_0000;
/// PL011: its control register, UARTCR.
const UARTCR: u64 = UARTDR + 0x30;
/// UARTCR.{UARTEN, TXE}.
const SEND: u64 = 1 | 1 << 8;

const ISB: u32 = 0xd503_3fdf;
const NOP: u32 = 0xd503_201f;
/// `STR W0, [X1]`.
const STR_W0_X1: u32 = 0xb900_0020;
/// `BR X3`.
const BR_X3: u32 = 0xd61f_0060;

/// Code and the literals behind it.
#[derive(Default)]
struct Code {
    instructions: Vec<u32>,
    /// Which instruction loads which register with what.
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

/// `LDR X<t>, <label>`, the label that many words ahead.
const fn ldr_literal(t: u32, words: usize) -> u32 {
    0x5800_0000 | (words as u32 & 0x7_ffff) << 5 | t
}

/// The code that starts the payload at `entry`, with tables that end at `tables_end`; it can stand at any multiple of 8.
pub fn code(entry: u64, tables_end: u64) -> Vec<u8> {
    let mut code = Code::default();
    code.load(0, SEND);
    code.load(1, UARTCR);
    code.push(STR_W0_X1);
    for (reg, value) in stage1::REGISTERS {
        code.load(0, value);
        code.push(reg.msr_x0());
    }
    code.push(ISB);
    code.load(0, TABLES);
    code.load(1, tables_end);
    code.load(2, stage1::SCTLR);
    code.load(3, entry);
    code.push(BR_X3);
    code.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As GNU as has them, for `entry` 0x4000_0000 and tables that end at 0x4010_5000.
    const ASSEMBLED: [u32; 16] = [
        0x5800_0200, // ldr x0, =0x101
        0x5800_0221, // ldr x1, =0x9000030
        0xb900_0020, // str w0, [x1]
        0x5800_0220, // ldr x0, =0xff
        0xd518_a200, // msr mair_el1, x0
        0x5800_0220, // ldr x0, =0x803519
        0xd518_2040, // msr tcr_el1, x0
        0x5800_0220, // ldr x0, =0x40100000
        0xd518_2000, // msr ttbr0_el1, x0
        0xd503_3fdf, // isb
        0x5800_0200, // ldr x0, =0x40100000
        0x5800_0221, // ldr x1, =0x40105000
        0x5800_0242, // ldr x2, =0x30d0180d
        0x5800_0263, // ldr x3, =0x40000000
        0xd61f_0060, // br x3
        0xd503_201f, // nop
    ];

    #[test]
    fn the_code_is_what_an_assembler_makes_of_it() {
        let bytes = code(0x4000_0000, 0x4010_5000);
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
            0xff,
            0x80_3519,
            0x4010_0000,
            0x4010_0000,
            0x4010_5000,
            0x30d0_180d,
            0x4000_0000,
        ];
        assert_eq!(values, expected);
        assert!(bytes.len() as u64 <= PAGE);
    }

    #[test]
    fn a_literal_is_loaded_from_where_it_stands() {
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
