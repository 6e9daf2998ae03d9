// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! How a program and its log are passed in the guest's memory, and the layout of that memory.
//!
//! ```text
//!   DOORBELL     0x1000_0000   no memory: a store exits to userspace; from 0x100 on it asks to be migrated
//!   RAM          0x4000_0000   the payload, linked here, data and stack included
//!   MARKERS      0x4001_0000   NOP, RET; NOP, RET; …: one pair per marker   executable at EL0 and EL1
//!   SEQUENCES    0x4001_0400   pieces of code of up to seven instructions, and RET
//!   BRK          0x4001_0800   BRK #0xdf, RET
//!   RETURN       0x4001_0808   SVC #0, which ends code that an exception return entered
//!   ACCESSES     0x4001_0900   an access, RET; …: one pair per access
//!   TARGET       0x400f_0000   what accesses access                      readable and writable at EL0 and EL1
//!   READ_ONLY    0x400f_2000   memory that no store reaches              readable at EL0 and EL1
//!   PRIVILEGED   0x400f_3000   memory that EL0 does not reach            readable and writable at EL1
//!   UNMAPPED     0x400f_4000   a page that stage 1 does not map
//!   TABLES       0x4010_0000   stage 1 tables, written by the runner
//! ```
//!
//! A program is an array of records of [`OP_WORDS`] words, a log one of [`EVENT_WORDS`] words; both are arrays in
//! the payload that the runner finds by their symbols `PROGRAM` and `LOG`. The payload rings the doorbell with a
//! [`Bell`] when userspace is to act, with the number of events logged so far in the word `LOGGED`.
//! The word `PLACE` holds the place of the operation that is being done. Userspace changes the word `TURN` when it has
//! acted, and the payload goes on.
//!
//! ```text
//!   op:     code | place in sysreg::TABLE, access::TABLE or sequence::TABLE, marker, level or way | value, X0, address or steps
//!   event:  op's place | kind | value, or vector | esr | elr | spsr | far
//! ```

use crate::{
    access::ACCESSES,
    event::{Event, Exception, Logged},
    op::{El, Entry, Migrate, Op},
    sequence::{self, SEQUENCE_LEN, SEQUENCES},
    sysreg,
};

/// A store here exits to userspace; the value is a [`Bell`].
pub const DOORBELL: u64 = 0x1000_0000;
/// A store here exits to userspace in the middle of code, and the vCPU migrates.
const PASSAGE: u64 = DOORBELL + 0x100;
/// Where the guest's memory starts.
pub const RAM: u64 = 0x4000_0000;
/// How much memory the guest has, in bytes.
pub const RAM_SIZE: usize = 0x20_0000;
/// Where the markers start.
pub const MARKERS: u64 = 0x4001_0000;
/// The number of markers.
pub const MARKER_COUNT: u8 = 32;
/// Where the BRK marker is.
pub const BRK: u64 = 0x4001_0800;
/// Where the SVC is that ends code which an exception return entered.
pub const RETURN: u64 = BRK + 8;
/// Where the memory accesses are, in the order of [`crate::access::TABLE`].
pub const ACCESS_CODE: u64 = 0x4001_0900;
/// Where the pieces of code are, in the order of [`crate::sequence::TABLE`].
pub const SEQUENCE_CODE: u64 = 0x4001_0400;
/// The memory that accesses access.
pub const TARGET: u64 = 0x400f_0000;
/// Its size in bytes.
pub const TARGET_SIZE: u64 = 0x2000;
/// The size of a page in bytes.
pub const PAGE: u64 = 0x1000;
/// A page that stage 1 maps read-only.
pub const READ_ONLY: u64 = TARGET + TARGET_SIZE;
/// A page that stage 1 maps for EL1 alone.
pub const PRIVILEGED: u64 = READ_ONLY + PAGE;
/// A page that stage 1 does not map.
pub const UNMAPPED: u64 = PRIVILEGED + PAGE;
/// The immediate of the BRK marker.
pub const BRK_IMMEDIATE: u16 = 0xdf;
/// Where the runner writes the stage 1 tables.
pub const TABLES: u64 = 0x4010_0000;

/// The most operations that a program may have.
pub const PROGRAM_LEN: usize = 4096;
/// The most events that a log holds.
pub const LOG_LEN: usize = 4096;
/// Words in an operation's record.
pub const OP_WORDS: usize = 3;
/// Words in an event's record.
pub const EVENT_WORDS: usize = 7;

/// The address of marker `k`'s NOP; its RET is the next instruction.
pub const fn marker(k: u8) -> u64 {
    MARKERS + 8 * k as u64
}

/// The address to which EL1 stores to migrate.
pub const fn passage(to: Migrate) -> u64 {
    PASSAGE + 8 * to as u64
}

/// How a vCPU migrates after a store to this address.
pub fn passage_at(address: u64) -> Option<Migrate> {
    Migrate::ALL.into_iter().find(|to| passage(*to) == address)
}

/// The address of an access's instruction; its RET is the next one.
pub const fn access_code(access: u8) -> u64 {
    ACCESS_CODE + 8 * access as u64
}

/// The address of a piece of code.
pub const fn sequence_code(sequence: u8) -> u64 {
    SEQUENCE_CODE + SEQUENCE_SIZE * sequence as u64
}

/// The address of its RET.
pub const fn sequence_ret(sequence: u8) -> u64 {
    sequence_code(sequence) + 4 * sequence::TABLE[sequence as usize].instructions.len() as u64
}

/// The number of bytes of a piece of code.
const SEQUENCE_SIZE: u64 = 4 * SEQUENCE_LEN as u64;

// Nothing of the layout overlaps, and all of it lies in memory.
const _: () = {
    assert!(marker(MARKER_COUNT - 1) + 8 <= SEQUENCE_CODE);
    assert!(sequence_code(SEQUENCES as u8) <= BRK && RETURN + 4 <= ACCESS_CODE);
    assert!(access_code(ACCESSES as u8 - 1) + 8 <= MARKERS + 0x1000);
    assert!(RAM < MARKERS && MARKERS + 0x1000 <= TARGET);
    assert!(UNMAPPED + PAGE <= TABLES && TABLES < RAM + RAM_SIZE as u64);
};

/// The operation codes.
pub mod code {
    /// The program's end.
    pub const END: u64 = 0;
    /// [`Op::Write`](crate::op::Op::Write).
    pub const WRITE: u64 = 1;
    /// [`Op::Read`](crate::op::Op::Read).
    pub const READ: u64 = 2;
    /// [`Op::Isb`](crate::op::Op::Isb).
    pub const ISB: u64 = 3;
    /// [`Op::MaskDebug`](crate::op::Op::MaskDebug).
    pub const MASK_DEBUG: u64 = 4;
    /// [`Op::Exec`](crate::op::Op::Exec).
    pub const EXEC: u64 = 5;
    /// [`Op::Brk`](crate::op::Op::Brk).
    pub const BRK: u64 = 6;
    /// An operation for the runner.
    pub const HOST: u64 = 7;
    /// [`Op::Level`](crate::op::Op::Level).
    pub const LEVEL: u64 = 8;
    /// [`Op::Access`](crate::op::Op::Access).
    pub const ACCESS: u64 = 9;
    /// [`Op::Enter`](crate::op::Op::Enter).
    pub const ENTER: u64 = 10;
    /// [`Op::Run`](crate::op::Op::Run).
    pub const RUN: u64 = 11;
}

/// [`code::ENTER`]'s ways.
const CALL: u64 = 0;
const RETURN_PLAIN: u64 = 1;
const RETURN_STEPPED: u64 = 2;

/// Why the payload rings the doorbell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bell {
    /// The program has ended.
    End = 1,
    /// The runner is to do an operation of its own.
    Host = 2,
    /// An exception came from outside of the markers and of the register accesses; it is the log's last event.
    Lost = 3,
    /// The program holds something that is not a record.
    BadProgram = 4,
    /// The log is full.
    LogFull = 5,
}

impl Bell {
    /// The bell with this number.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::End),
            2 => Some(Self::Host),
            3 => Some(Self::Lost),
            4 => Some(Self::BadProgram),
            5 => Some(Self::LogFull),
            _ => None,
        }
    }
}

/// An operation as a record; `None` if the payload cannot do it: a register that is not in its table, or a marker
/// that does not exist.
pub fn encode(op: Op) -> Option<[u64; OP_WORDS]> {
    Some(match op {
        Op::Write { reg, value } => [code::WRITE, reg.index()? as u64, value],
        Op::Read { reg } => [code::READ, reg.index()? as u64, 0],
        Op::Isb => [code::ISB, 0, 0],
        Op::MaskDebug(mask) => [code::MASK_DEBUG, 0, mask as u64],
        Op::Exec { marker } if marker < MARKER_COUNT => [code::EXEC, marker as u64, 0],
        Op::Exec { .. } => return None,
        Op::Brk => [code::BRK, 0, 0],
        Op::Level(El::El0) => [code::LEVEL, 0, 0],
        Op::Level(El::El1) => [code::LEVEL, 1, 0],
        Op::Access { access, address } if usize::from(access) < ACCESSES => {
            [code::ACCESS, access as u64, address]
        }
        Op::Access { .. } => return None,
        Op::Run { sequence, x0 } if usize::from(sequence) < SEQUENCES => [code::RUN, sequence as u64, x0],
        Op::Run { .. } => return None,
        Op::Enter(Entry::Call) => [code::ENTER, CALL, 0],
        Op::Enter(Entry::Return { ss, steps }) => {
            [code::ENTER, if ss { RETURN_STEPPED } else { RETURN_PLAIN }, steps as u64]
        }
        op if op.is_hosts() => [code::HOST, 0, 0],
        _ => return None,
    })
}

/// What a record tells the payload to do; the program's end is not an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An operation for the payload.
    Op(Op),
    /// An operation for the runner.
    Host,
    /// The program's end.
    End,
}

/// The meaning of a record; `None` if it is not a record.
pub fn decode(record: [u64; OP_WORDS]) -> Option<Step> {
    let [op, place, value] = record;
    let reg = || sysreg::TABLE.get(usize::try_from(place).ok()?).copied();
    Some(Step::Op(match op {
        code::END => return Some(Step::End),
        code::HOST => return Some(Step::Host),
        code::WRITE => Op::Write { reg: reg()?, value },
        code::READ => Op::Read { reg: reg()? },
        code::ISB => Op::Isb,
        code::MASK_DEBUG => Op::MaskDebug(value != 0),
        code::EXEC if place < MARKER_COUNT as u64 => Op::Exec { marker: place as u8 },
        code::BRK => Op::Brk,
        code::LEVEL if place == 0 => Op::Level(El::El0),
        code::LEVEL if place == 1 => Op::Level(El::El1),
        code::ENTER if place == CALL => Op::Enter(Entry::Call),
        code::ENTER if matches!(place, RETURN_PLAIN | RETURN_STEPPED) => {
            Op::Enter(Entry::Return { ss: place == RETURN_STEPPED, steps: u8::try_from(value).ok()? })
        }
        code::ACCESS if place < ACCESSES as u64 => Op::Access { access: place as u8, address: value },
        code::RUN if place < SEQUENCES as u64 => Op::Run { sequence: place as u8, x0: value },
        _ => return None,
    }))
}

const VALUE: u64 = 1;
const EXCEPTION: u64 = 2;

/// An event of the payload's as a record; what userspace logs never crosses the guest's memory.
pub fn encode_event(logged: Logged) -> Option<[u64; EVENT_WORDS]> {
    let op = logged.op as u64;
    match logged.event {
        Event::Value(value) => Some([op, VALUE, value, 0, 0, 0, 0]),
        Event::Exception(Exception { vector, esr, elr, spsr, far }) => {
            Some([op, EXCEPTION, vector, esr, elr, spsr, far])
        }
        Event::Refused(_) | Event::DebugExit { .. } => None,
    }
}

/// The event in a record; `None` if it holds no event.
pub fn decode_event(record: [u64; EVENT_WORDS]) -> Option<Logged> {
    let [op, kind, a, esr, elr, spsr, far] = record;
    let event = match kind {
        VALUE => Event::Value(a),
        EXCEPTION => Event::Exception(Exception { vector: a, esr, elr, spsr, far }),
        _ => return None,
    };
    Some(Logged { op: usize::try_from(op).ok()?, event })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest_debug::GuestDebug;
    use proptest::prelude::*;

    #[test]
    fn an_operation_survives_the_way_into_the_guest() {
        let ops = [
            Op::Write { reg: sysreg::dbgbcr(15), value: u64::MAX },
            Op::Read { reg: sysreg::ID_AA64DFR0_EL1 },
            Op::Isb,
            Op::MaskDebug(true),
            Op::MaskDebug(false),
            Op::Exec { marker: MARKER_COUNT - 1 },
            Op::Brk,
            Op::Enter(Entry::Call),
            Op::Enter(Entry::stepped(2)),
            Op::Enter(Entry::Return { ss: false, steps: 255 }),
            Op::Level(El::El0),
            Op::Level(El::El1),
            Op::Access { access: ACCESSES as u8 - 1, address: TARGET + 3 },
            Op::Run { sequence: SEQUENCES as u8 - 1, x0: u64::MAX },
        ];
        for op in ops {
            assert_eq!(encode(op).and_then(decode), Some(Step::Op(op)));
        }
    }

    #[test]
    fn what_the_payload_cannot_do_is_refused_before_it_is_sent() {
        assert_eq!(encode(Op::Exec { marker: MARKER_COUNT }), None);
        assert_eq!(encode(Op::Access { access: ACCESSES as u8, address: TARGET }), None);
        assert_eq!(encode(Op::Run { sequence: SEQUENCES as u8, x0: 0 }), None);
        assert_eq!(encode(Op::Read { reg: sysreg::SysReg::new(3, 3, 14, 0, 2) }), None);
    }

    #[test]
    fn the_runners_operations_are_a_bell_to_the_payload() {
        for op in [Op::Exit, Op::KvmGet { reg: sysreg::OSLSR_EL1 }, Op::Debug(GuestDebug::OFF)] {
            assert!(op.is_hosts());
            assert_eq!(encode(op).and_then(decode), Some(Step::Host));
        }
    }

    #[test]
    fn code_lies_where_the_map_of_this_module_has_it() {
        assert_eq!([marker(0), marker(1), marker(31)], [0x4001_0000, 0x4001_0008, 0x4001_00f8]);
        assert_eq!([BRK, RETURN], [0x4001_0800, 0x4001_0808]);
        assert_eq!([sequence_code(0), sequence_code(1)], [0x4001_0400, 0x4001_0420]);
        assert_eq!(
            [access_code(0), access_code(1), access_code(26)],
            [0x4001_0900, 0x4001_0908, 0x4001_09d0]
        );
    }

    #[test]
    fn a_bell_is_found_by_its_number() {
        for bell in [Bell::End, Bell::Host, Bell::Lost, Bell::BadProgram, Bell::LogFull] {
            assert_eq!(Bell::from_number(bell as u64), Some(bell));
        }
        assert_eq!([Bell::from_number(0), Bell::from_number(6)], [None, None]);
    }

    #[test]
    fn a_record_beyond_the_tables_has_no_meaning_and_the_end_is_none_of_the_operations() {
        assert_eq!(decode([code::END, 0, 0]), Some(Step::End));
        assert_eq!(decode([code::EXEC, MARKER_COUNT.into(), 0]), None);
        assert_eq!(decode([code::ACCESS, ACCESSES as u64, TARGET]), None);
        assert_eq!(decode([code::RUN, SEQUENCES as u64, 0]), None);
        assert_eq!(decode([code::READ, sysreg::TABLE_LEN as u64, 0]), None);
        assert_eq!(decode([code::LEVEL, 2, 0]), None);
        assert_eq!(decode([code::ENTER, 3, 1]), None);
        assert_eq!(decode([code::ENTER, 2, 256]), None);
    }

    #[test]
    fn an_event_survives_the_way_out_of_the_guest_and_userspaces_own_has_none() {
        let exception = Exception { vector: 1, esr: 2, elr: 3, spsr: 4, far: 5 };
        for event in [Event::Value(6), Event::Exception(exception)] {
            let logged = Logged { op: 7, event };
            assert_eq!(encode_event(logged).and_then(decode_event), Some(logged));
        }
        assert_eq!(encode_event(Logged { op: 7, event: Event::Refused(22) }), None);
    }

    proptest! {
        #[test]
        fn no_record_makes_the_decoders_panic(record: [u64; OP_WORDS], event: [u64; EVENT_WORDS]) {
            let _ = decode(record);
            if let Some(logged) = decode_event(event) {
                prop_assert_eq!(encode_event(logged).and_then(decode_event), Some(logged));
            }
        }
    }
}
