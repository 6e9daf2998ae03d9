// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! How a program and its log are passed in the guest's memory.
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

pub use crate::layout::*;
use crate::{
    access,
    event::{Event, Exception, Logged},
    op::{El, Entry, Op},
    sequence, sysreg,
};

/// The most operations that a program may have.
pub const PROGRAM_LEN: usize = 4096;
/// The most events that a log holds.
pub const LOG_LEN: usize = 4096;
/// Words in an operation's record.
pub const OP_WORDS: usize = 3;
/// Words in an event's record.
pub const EVENT_WORDS: usize = 7;
/// The words of it that an [`Event::Value`] has; the others have no meaning.
pub const VALUE_WORDS: usize = 3;

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
    /// An operation that the runner does at the bell of the one before.
    pub const FOLLOWS: u64 = 12;
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

/// A program's operations as records, without its end; for each, `None` as [`encode`] has it.
pub fn encode_program(ops: &[Op]) -> impl Iterator<Item = (Op, Option<[u64; OP_WORDS]>)> {
    let befores = core::iter::once(None).chain(ops.iter().copied().map(Some));
    ops.iter().zip(befores).map(|(op, before)| match before {
        Some(before) if op.follows(before) => (*op, Some([code::FOLLOWS, 0, 0])),
        _ => (*op, encode(*op)),
    })
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
        Op::Access { access, address } => [code::ACCESS, access.place as u64, address],
        Op::Run { sequence, x0 } => [code::RUN, sequence.place as u64, x0],
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
    /// An operation that the runner has done at the bell of the one before.
    Done,
    /// The program's end.
    End,
}

/// The meaning of a record; `None` if it is not a record.
// The payload's loop is short if the compiler sees both: userspace steps through each of its instructions.
#[inline(always)]
pub fn decode(record: [u64; OP_WORDS]) -> Option<Step> {
    let [op, place, value] = record;
    let index = usize::try_from(place).ok();
    let reg = || sysreg::TABLE.get(index?).copied();
    Some(Step::Op(match op {
        code::END => return Some(Step::End),
        code::HOST => return Some(Step::Host),
        code::FOLLOWS => return Some(Step::Done),
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
        code::ACCESS => Op::Access { access: access::TABLE.get(index?)?, address: value },
        code::RUN => Op::Run { sequence: sequence::TABLE.get(index?)?, x0: value },
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
    use crate::{access::ACCESSES, guest_debug::GuestDebug, sequence::SEQUENCES};
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
            Op::Access { access: &access::TABLE[ACCESSES - 1], address: TARGET + 3 },
            Op::Run { sequence: &sequence::TABLE[SEQUENCES - 1], x0: u64::MAX },
        ];
        for op in ops {
            assert_eq!(encode(op).and_then(decode), Some(Step::Op(op)));
        }
    }

    #[test]
    fn what_the_payload_cannot_do_is_refused_before_it_is_sent() {
        assert_eq!(encode(Op::Exec { marker: MARKER_COUNT }), None);
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
    fn userspaces_operations_in_a_row_are_one_bell_and_an_exit_between_two_is_another() {
        let get = Op::KvmGet { reg: sysreg::OSLSR_EL1 };
        let set = Op::KvmSet { reg: sysreg::OSLSR_EL1, value: 0 };
        let debug = Op::Debug(GuestDebug::OFF);
        let ops = [get, set, get, Op::Exit, get, debug, get, Op::Isb, set];
        let steps: alloc::vec::Vec<_> =
            encode_program(&ops).map(|(_, record)| record.and_then(decode)).collect();
        let (host, done) = (Some(Step::Host), Some(Step::Done));
        assert_eq!(steps, [host, done, done, host, host, host, host, Some(Step::Op(Op::Isb)), host]);
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
