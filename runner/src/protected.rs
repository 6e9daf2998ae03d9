// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The code of a protected VM's guest, which executes the operations of [`dfr0_model::protected`] one after the other.
//!
//! ```text
//!   RAM           vectors: they log the exception and continue with the next operation, with PSTATE.D set
//!   MARKERS …     the instructions for breakpoints and watchpoints, each at an address that the model knows
//!   CODE          the operations
//!   LOG           what the operations caused, as [`dfr0_model::protected::decode`] reads it
//! ```
//!
//! X10 is the address of the next operation and X11 the end of the log.

use crate::{
    a64::{branch, log},
    composed::{END, EXIT, UNEXPECTED, WORD, guests},
    memory::Piece,
};
use dfr0_model::{
    event::VECTOR_CURRENT_EL_SYNCHRONOUS,
    layout::{BRK, BRK_IMMEDIATE, TARGET, marker},
    protected::{Event, LOAD, Op, STEPPED, STORE},
    pstate,
    wire::{RAM, RAM_SIZE},
};

/// Where the guest starts.
pub(crate) const CODE: u64 = RAM + 0x2_0000;
/// The guest's VBAR_EL1.
pub(crate) const VECTORS: u64 = RAM;
const LOG: u64 = RAM + 0x12_0000;
const LOG_END: u64 = RAM + RAM_SIZE as u64;
/// The largest record in the log, in bytes.
const RECORD: u64 = 24;
const _: () = assert!(CODE > STEPPED && TARGET + 8 < LOG && LOG < LOG_END);

const VECTOR_SIZE: u64 = 0x80;
const DONE: u64 = RAM + 0xa00;
const VALUE: u64 = RAM + 0xa20;
const LOST: u64 = RAM + 0xa40;

/// The value of X0 before a register is read into it: it shows whether the read changed it.
const UNREAD: u64 = 0xdead_beef;

const ISB: u32 = 0xd503_3fdf;
const NOP: u32 = 0xd503_201f;
const ERET: u32 = 0xd69f_03e0;
const BR_X10: u32 = 0xd61f_0140;
const LDR_X0_X1: u32 = 0xf940_0020;
const STR_X0_X1: u32 = 0xf900_0020;
const LDR_X0_X2_POST: u32 = 0xf840_8440;
const CMP_X2_X11: u32 = 0xeb0b_005f;
const MSR_DAIFCLR_D: u32 = 0xd503_48ff;
const MSR_DAIFSET_D: u32 = 0xd503_48df;
const MRS_X0_ESR: u32 = 0xd538_5200;
const MRS_X9_ESR: u32 = 0xd538_5209;
const MRS_X9_ELR: u32 = 0xd538_4029;
const MRS_X9_SPSR: u32 = 0xd538_4009;
const ORR_X9_X9_D: u32 = 0xb277_0129;
const MSR_ELR_X10: u32 = 0xd518_402a;
const MSR_ELR_X1: u32 = 0xd518_4021;
const MSR_SPSR_X9: u32 = 0xd518_4009;
const MSR_SPSR_X2: u32 = 0xd518_4002;
const B_EQ: u32 = 0x5400_0000;

/// PSTATE of [`Op::Step`]'s target: EL1h, only PSTATE.D clear.
const STEPS: u64 = pstate::AIF | pstate::EL1H | pstate::SS;

/// `MOVZ X9, #<kind>; STR X9, [X11], #8`.
const fn log_kind(kind: u64) -> [u32; 2] {
    [0xd280_0009 | (kind as u32) << 5, log(9)]
}

/// `MOVZ X<d>, …`, then three `MOVK`.
const fn mov(d: u32, value: u64) -> [u32; 4] {
    const fn halfword(value: u64, place: u32) -> u32 {
        place << 21 | ((value >> (16 * place) & 0xffff) as u32) << 5
    }
    const MOVZ: u32 = 0xd280_0000;
    const MOVK: u32 = 0xf280_0000;
    [
        MOVZ | halfword(value, 0) | d,
        MOVK | halfword(value, 1) | d,
        MOVK | halfword(value, 2) | d,
        MOVK | halfword(value, 3) | d,
    ]
}

/// The contents of the guest's memory for these operations; `None` if they do not fit.
pub(crate) fn compose(ops: &[Op]) -> Option<Vec<Piece>> {
    let code = code(ops);
    let fits = CODE + 4 * code.len() as u64 <= TARGET && LOG + RECORD * ops.len() as u64 <= LOG_END;
    fits.then(|| fixed().into_iter().chain([(CODE, code)]).collect())
}

/// The contents that are the same for all operations.
fn fixed() -> Vec<Piece> {
    let mut taken = log_kind(Event::EXCEPTION).to_vec();
    let state = [MRS_X9_ESR, log(9), MRS_X9_ELR, log(9), MRS_X9_SPSR, ORR_X9_X9_D, MSR_SPSR_X9, MSR_ELR_X10];
    taken.extend(state.into_iter().chain([ERET]));
    let vector = |k: u64| {
        let at = VECTORS + k * VECTOR_SIZE;
        (at, if k == VECTOR_CURRENT_EL_SYNCHRONOUS { taken.clone() } else { vec![branch(at, LOST)] })
    };
    let mut tell = mov(1, UNEXPECTED).to_vec();
    tell.extend([MRS_X0_ESR, STR_X0_X1, branch(LOST + 24, LOST + 24)]);
    let done = |at: u64, instruction| (at, vec![instruction, branch(at + 4, DONE)]);
    let logged = |at, kind, registers: &[u32]| {
        let mut words = log_kind(kind).to_vec();
        words.extend(registers.iter().map(|register| log(*register)).chain([BR_X10]));
        (at, words)
    };
    let mut pieces: Vec<Piece> = (0..16).map(vector).collect();
    pieces.extend([
        logged(DONE, Event::DONE, &[]),
        logged(VALUE, Event::VALUE, &[0]),
        (LOST, tell),
        done(marker(0), NOP),
        done(LOAD, LDR_X0_X1),
        done(STORE, STR_X0_X1),
        done(STEPPED, NOP),
        done(BRK, 0xd420_0000 | u32::from(BRK_IMMEDIATE) << 5),
    ]);
    pieces
}

fn code(ops: &[Op]) -> Vec<u32> {
    let mut code = mov(11, LOG).to_vec();
    for op in guests(ops) {
        let at = CODE + 4 * code.len() as u64;
        let mut words = vec![0; 4];
        match op {
            Op::Read(register) => words.extend(mov(0, UNREAD).into_iter().chain([register.mrs_x0()])),
            Op::Write(register, value) => {
                words.extend(mov(0, value).into_iter().chain([register.msr_x0()]));
            }
            Op::Isb => words.push(ISB),
            Op::Execute => words.push(MSR_DAIFCLR_D),
            Op::Load | Op::Store => words.extend(mov(1, TARGET).into_iter().chain([MSR_DAIFCLR_D])),
            Op::Step => {
                words.extend(mov(1, STEPPED).into_iter().chain(mov(2, STEPS)));
                words.extend([MSR_DAIFSET_D, MSR_ELR_X1, MSR_SPSR_X2, ERET]);
            }
            Op::Brk => {}
            Op::Get(_) | Op::Set(..) | Op::Debug(_) => {
                words.extend(mov(1, EXIT).into_iter().chain([STR_X0_X1]));
            }
        }
        let then = match op {
            Op::Read(_) => Some(VALUE),
            Op::Write(..) | Op::Isb => Some(DONE),
            Op::Execute => Some(marker(0)),
            Op::Load => Some(LOAD),
            Op::Store => Some(STORE),
            Op::Brk => Some(BRK),
            Op::Step | Op::Get(_) | Op::Set(..) | Op::Debug(_) => None,
        };
        words.extend(then.map(|then| branch(at + 4 * words.len() as u64, then)));
        let next = mov(10, at + 4 * words.len() as u64);
        words[..4].copy_from_slice(&next);
        code.extend(words);
    }
    code.extend(mov(2, LOG).into_iter().chain(mov(1, WORD)));
    let from = CODE + 4 * code.len() as u64;
    code.extend([CMP_X2_X11, B_EQ | 4 << 5, LDR_X0_X2_POST, STR_X0_X1, branch(from + 16, from)]);
    code.extend(mov(1, END));
    let end = CODE + 4 * code.len() as u64;
    code.extend([STR_X0_X1, branch(end + 4, end + 4)]);
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfr0_model::sysreg::{ID_AA64DFR0_EL1, OSLAR_EL1};

    #[test]
    fn constants_and_branches_are_those_of_the_assembler() {
        // GNU as: movz x10, #0xabcd; movk x10, #0x1234, lsl #16 and lsl #48; str x9, [x11], #8; movz x9, #5.
        assert_eq!(mov(10, 0x1234_0000_1234_abcd), [0xd295_79aa, 0xf2a2_468a, 0xf2c0_000a, 0xf2e2_468a]);
        assert_eq!(log(9), 0xf800_8569);
        assert_eq!(log_kind(5)[0], 0xd280_00a9);
        assert_eq!(branch(0x1000, 0x1000), 0x1400_0000);
        assert_eq!(branch(0x1000, 0xffc), 0x17ff_ffff);
    }

    #[test]
    fn no_two_pieces_overlap_and_all_lie_in_memory() {
        let mut pieces = compose(&[Op::Read(ID_AA64DFR0_EL1), Op::Step, Op::Brk]).unwrap();
        pieces.sort();
        for pair in pieces.windows(2) {
            let [(at, words), (next, _)] = pair else { unreachable!() };
            assert!(at + 4 * words.len() as u64 <= *next, "{at:#x} reaches {next:#x}");
        }
    }

    #[test]
    fn an_operation_ends_where_x10_points() {
        let code = code(&[Op::Write(OSLAR_EL1, 1), Op::Isb]);
        let first = CODE + 16;
        let second = first + 40;
        let written = [OSLAR_EL1.msr_x0(), branch(first + 36, DONE)];
        assert_eq!(code[4..14], [&mov(10, second)[..], &mov(0, 1), &written].concat());
        assert_eq!(code[14..18], mov(10, second + 24));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(compose(&vec![Op::Isb; 1000]).is_some());
        assert!(compose(&vec![Op::Read(ID_AA64DFR0_EL1); 50_000]).is_none());
    }
}
