// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The code of a guest in AArch32, which executes the operations of [`dfr0_model::aarch32`] one after the other.
//!
//! ```text
//!   RAM           vectors and their handlers: they log the exception and continue with the next operation
//!   MARKERS …     the instructions for breakpoints and watchpoints, each at an address that the model knows
//!   CODE          the operations
//!   LOG           what the operations caused, as [`dfr0_model::aarch32::decode`] reads it
//! ```
//!
//! R10 is the address of the next operation and R11 the end of the log. The guest has translation off, so it
//! does not share a cache with userspace: at the end it stores each word of its log to an address that exits
//! to userspace.

use crate::{
    composed::{END, EXIT, UNEXPECTED, WORD, guests},
    memory::Piece,
};
use dfr0_model::{
    aarch32::{BKPT, Event, LOAD, Op, PLACES, STORE, marker},
    wire::{RAM, RAM_SIZE},
};

/// Where the guest starts.
pub(crate) const CODE: u64 = RAM + 0x1000;
const LOG: u64 = RAM + 0x10_0000;
const LOG_END: u64 = RAM + 0x1f_0000;
const _: () = assert!(LOG_END < RAM + RAM_SIZE as u64);

const HANDLERS: u64 = RAM + 0x100;
const HANDLER_SIZE: u64 = 0x40;
const DONE: u64 = RAM + 0xa00;
const VALUE: u64 = RAM + 0xa20;
const LONG: u64 = RAM + 0xa40;

/// The value of R0 and R1 before a register is read into them: it shows whether the read changed them.
const UNREAD: u64 = 0xdead_beef;

const ISB: u32 = 0xf57f_f06f;
const NOP: u32 = 0xe320_f000;
const BKPT_0: u32 = 0xe120_0070;
const LDR_R0_R1: u32 = 0xe591_0000;
const STR_R0_R1: u32 = 0xe581_0000;
const LDR_R0_R2_POST: u32 = 0xe492_0004;
const CMP_R2_R11: u32 = 0xe152_000b;
const BX_R10: u32 = 0xe12f_ff1a;
const MOV_LR_R10: u32 = 0xe1a0_e00a;
/// Returns from the exception to LR.
const MOVS_PC_LR: u32 = 0xe1b0_f00e;
const MRS_R9_SPSR: u32 = 0xe14f_9000;
const MRC_R9_DFSR: u32 = 0xee15_9f10;
const MRC_R9_IFSR: u32 = 0xee15_9f30;
const MRC_R9_DFAR: u32 = 0xee16_9f10;
const MRC_R9_IFAR: u32 = 0xee16_9f50;
const MRC_R9_DBGDSCREXT: u32 = 0xee10_9e52;

const ALWAYS: u32 = 0xe << 28;
const EQUAL: u32 = 0;

/// `STR <Rt>, [R11], #4`.
const fn log(rt: u32) -> u32 {
    0xe48b_0004 | rt << 12
}

/// `MOV R9, #<kind>; STR R9, [R11], #4`.
const fn log_kind(kind: u32) -> [u32; 2] {
    [0xe3a0_9000 | kind, log(9)]
}

/// `MOVW <Rd>, #<lower half>; MOVT <Rd>, #<upper half>`.
const fn mov(rd: u32, value: u64) -> [u32; 2] {
    const fn halfword(value: u64) -> u32 {
        (value as u32 >> 12 & 0xf) << 16 | value as u32 & 0xfff
    }
    [0xe300_0000 | rd << 12 | halfword(value), 0xe340_0000 | rd << 12 | halfword(value >> 16)]
}

/// `B<cond> <to>`, at `from`.
const fn branch(condition: u32, from: u64, to: u64) -> u32 {
    condition | 0x0a00_0000 | (to.wrapping_sub(from + 8) >> 2) as u32 & 0x00ff_ffff
}

/// The contents of the guest's memory for these operations; `None` if they do not fit.
pub(crate) fn compose(ops: &[Op]) -> Option<Vec<Piece>> {
    let code = code(ops);
    let fits = CODE + 4 * code.len() as u64 <= LOG && LOG + 24 * ops.len() as u64 <= LOG_END;
    fits.then(|| fixed().into_iter().chain([(CODE, code)]).collect())
}

/// The contents that are the same for all operations.
fn fixed() -> Vec<Piece> {
    let handler = |k: u64| HANDLERS + k * HANDLER_SIZE;
    let vector = |(k, handler): (u64, u64)| branch(ALWAYS, RAM + 4 * k, handler);
    let [unexpected, undefined, prefetch_abort, data_abort] = [0, 1, 2, 3].map(handler);
    let vectors =
        [unexpected, undefined, unexpected, prefetch_abort, data_abort, unexpected, unexpected, unexpected];
    let mut tell = mov(1, UNEXPECTED).to_vec();
    tell.extend([STR_R0_R1, branch(ALWAYS, unexpected + 12, unexpected + 12)]);
    let mut skip = log_kind(Event::UNDEFINED).to_vec();
    skip.extend([MOV_LR_R10, MOVS_PC_LR]);
    let abort = |kind, fsr, far| {
        let state = [log(14), MRS_R9_SPSR, log(9), fsr, log(9), far, log(9), MRC_R9_DBGDSCREXT, log(9)];
        let mut words = log_kind(kind).to_vec();
        words.extend(state.into_iter().chain([MOV_LR_R10, MOVS_PC_LR]));
        words
    };
    let done = |at: u64, instruction| (at, vec![instruction, branch(ALWAYS, at + 4, DONE)]);
    let logged = |at, kind, registers: &[u32]| {
        let mut words = log_kind(kind).to_vec();
        words.extend(registers.iter().map(|register| log(*register)).chain([BX_R10]));
        (at, words)
    };
    let mut pieces = vec![
        (RAM, (0..).zip(vectors).map(vector).collect()),
        (unexpected, tell),
        (undefined, skip),
        (prefetch_abort, abort(Event::PREFETCH_ABORT, MRC_R9_IFSR, MRC_R9_IFAR)),
        (data_abort, abort(Event::DATA_ABORT, MRC_R9_DFSR, MRC_R9_DFAR)),
        logged(DONE, Event::DONE, &[]),
        logged(VALUE, Event::VALUE, &[0]),
        logged(LONG, Event::LONG, &[0, 1]),
        done(LOAD.into(), LDR_R0_R1),
        done(STORE.into(), STR_R0_R1),
        done(BKPT.into(), BKPT_0),
    ];
    pieces.extend((0..PLACES).map(|k| done(marker(k).into(), NOP)));
    pieces
}

fn code(ops: &[Op]) -> Vec<u32> {
    let mut code = mov(11, LOG).to_vec();
    for op in guests(ops) {
        let at = CODE + 4 * code.len() as u64;
        let mut words = vec![0; 2];
        match op {
            Op::Read(register) => words.extend(mov(0, UNREAD).into_iter().chain([register.mrc_r0()])),
            Op::ReadLong(register) => {
                words.extend([mov(0, UNREAD), mov(1, UNREAD)].concat());
                words.push(register.mrrc_r0_r1());
            }
            Op::Write(register, value) => {
                words.extend(mov(0, value.into()).into_iter().chain([register.mcr_r0()]));
            }
            Op::Isb => words.push(ISB),
            Op::Load(address) | Op::Store(address) => words.extend(mov(1, address.into())),
            Op::Exit | Op::Get(_) | Op::GetSpsrAbt | Op::Set(..) | Op::Debug(_) | Op::GetDebugExit => {
                words.extend(mov(1, EXIT).into_iter().chain([STR_R0_R1]));
            }
            Op::Execute(_) | Op::Bkpt => {}
        }
        let then = match op {
            Op::Read(_) => Some(VALUE),
            Op::ReadLong(_) => Some(LONG),
            Op::Write(..) | Op::Isb => Some(DONE),
            Op::Execute(k) => Some(marker(k).into()),
            Op::Load(_) => Some(LOAD.into()),
            Op::Store(_) => Some(STORE.into()),
            Op::Bkpt => Some(BKPT.into()),
            Op::Exit | Op::Get(_) | Op::GetSpsrAbt | Op::Set(..) | Op::Debug(_) | Op::GetDebugExit => None,
        };
        words.extend(then.map(|then| branch(ALWAYS, at + 4 * words.len() as u64, then)));
        let next = mov(10, at + 4 * words.len() as u64);
        words[..2].copy_from_slice(&next);
        code.extend(words);
    }
    code.extend(mov(2, LOG).into_iter().chain(mov(1, WORD)));
    let from = CODE + 4 * code.len() as u64;
    code.extend([
        CMP_R2_R11,
        branch(EQUAL, from + 4, from + 20),
        LDR_R0_R2_POST,
        STR_R0_R1,
        branch(ALWAYS, from + 16, from),
    ]);
    code.extend(mov(1, END).into_iter().chain([STR_R0_R1, branch(ALWAYS, from + 32, from + 32)]));
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfr0_model::aarch32::{DBGDIDR, DBGOSLAR};

    #[test]
    fn constants_and_branches_are_those_of_the_assembler() {
        // llvm-mc -triple=armv8a: movw r10, #0xabcd; movt r10, #0xabcd; str lr, [r11], #4; mov r9, #5.
        assert_eq!(mov(10, 0xabcd_abcd), [0xe30a_abcd, 0xe34a_abcd]);
        assert_eq!(log(14), 0xe48b_e004);
        assert_eq!(log_kind(5)[0], 0xe3a0_9005);
        assert_eq!(branch(ALWAYS, 0x1000, 0x1000), 0xeaff_fffe);
        assert_eq!(branch(ALWAYS, 0x1000, 0x1010), 0xea00_0002);
        assert_eq!(branch(EQUAL, 0x1000, 0x1008), 0x0a00_0000);
    }

    #[test]
    fn no_two_pieces_overlap_and_all_lie_in_memory() {
        let mut pieces = compose(&[Op::Read(DBGDIDR), Op::Execute(15), Op::Bkpt]).unwrap();
        pieces.sort();
        for pair in pieces.windows(2) {
            let [(at, words), (next, _)] = pair else { unreachable!() };
            assert!(at + 4 * words.len() as u64 <= *next, "{at:#x} reaches {next:#x}");
        }
    }

    #[test]
    fn an_operation_ends_where_r10_points() {
        let code = code(&[Op::Write(DBGOSLAR, 1), Op::Isb]);
        let first = CODE + 8;
        let second = first + 24;
        assert_eq!(
            code[2..8],
            [mov(10, second), mov(0, 1), [DBGOSLAR.mcr_r0(), branch(ALWAYS, first + 20, DONE)]].concat()
        );
        assert_eq!(code[8..10], mov(10, second + 16));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(compose(&vec![Op::Isb; 1000]).is_some());
        assert!(compose(&vec![Op::Read(DBGDIDR); 50_000]).is_none());
    }
}
