// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The interpreter: one pass over a program.

use dfr0_model::{
    event::Event,
    layout,
    op::{El, Entry, Op},
    wire::{self, Bell, OP_WORDS, PROGRAM_LEN, Step},
};

/// The PE that the interpreter runs on, and the memory that it shares with userspace.
pub trait Guest {
    /// The program's record at `place`, which is below [`PROGRAM_LEN`].
    fn record(&self, place: usize) -> [u64; OP_WORDS];
    /// The events that follow belong to the operation at `place`.
    fn begin(&self, place: usize);
    /// Logs an event of the current operation.
    fn log(&self, event: Event);
    /// The number of events in the log.
    fn logged(&self) -> u64;
    /// `MRS` of the register at `place` in [`sysreg::TABLE`](dfr0_model::sysreg::TABLE); after an exception the returned
    /// value has no meaning.
    fn read(&self, place: usize) -> u64;
    /// `MSR` of the register at `place`.
    fn write(&self, place: usize, value: u64);
    /// `ISB`.
    fn isb(&self);
    /// Calls the code at `address` with `x0`; returns X0 after the call.
    fn call(&self, address: u64, how: How, x0: u64) -> u64;
    /// Hands the vCPU to userspace; returns when userspace enters it again.
    fn ring(&self, bell: Bell);
}

/// How code is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// The Exception level.
    pub el: El,
    /// PSTATE.D.
    pub masked: bool,
    /// Whether it is called, or entered by an exception return.
    pub entry: Entry,
}

/// How a program starts.
const START: How = How { el: El::El1, masked: true, entry: Entry::Call };

/// Interprets the program once, from its record at `start` to its end, and then rings [`Bell::End`]. Of the records before
/// it, those that say how code is called count.
pub fn run(guest: &impl Guest, start: usize) {
    let mut how = START;
    for place in 0..start.min(PROGRAM_LEN) {
        let record = guest.record(place);
        if let Some(Step::Op(op @ (Op::MaskDebug(_) | Op::Level(_) | Op::Enter(_)))) = wire::decode(record) {
            interpret(guest, op, record, &mut how);
        }
    }
    for place in start..PROGRAM_LEN {
        guest.begin(place);
        let record = guest.record(place);
        match wire::decode(record) {
            Some(Step::Op(op)) => interpret(guest, op, record, &mut how),
            Some(Step::Host) => guest.ring(Bell::Host),
            Some(Step::Done) => {}
            Some(Step::End) => return guest.ring(Bell::End),
            None => return guest.ring(Bell::BadProgram),
        }
    }
    guest.ring(Bell::BadProgram);
}

/// Does an operation, which has this record: to look for a register's place again would take hundreds of instructions, and
/// userspace may step through each.
#[inline(always)]
fn interpret(guest: &impl Guest, op: Op, record: [u64; OP_WORDS], how: &mut How) {
    let place = record[1] as usize;
    match op {
        Op::Write { value, .. } => guest.write(place, value),
        Op::Read { .. } => {
            let before = guest.logged();
            let value = guest.read(place);
            if guest.logged() == before {
                guest.log(Event::Value(value));
            }
        }
        Op::Isb => guest.isb(),
        Op::MaskDebug(mask) => how.masked = mask,
        Op::Level(el) => how.el = el,
        Op::Exec { marker } => _ = guest.call(layout::marker(marker), *how, 0),
        Op::Brk => _ = guest.call(layout::BRK, *how, 0),
        Op::Enter(entry) => how.entry = entry,
        Op::Access { access, address } => _ = guest.call(layout::access_code(access), *how, address),
        Op::Run { sequence, x0 } => {
            let x0 = guest.call(layout::sequence_code(sequence), *how, x0);
            guest.log(Event::Value(x0));
        }
        _ => guest.ring(Bell::BadProgram),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use dfr0_model::{
        access::Access,
        event::Exception,
        sequence::Sequence,
        sysreg::{self, MDSCR_EL1, OSDLR_EL1, SysReg},
    };
    use std::{cell::RefCell, vec, vec::Vec};

    #[derive(Debug, PartialEq, Eq)]
    enum Did {
        Begin(usize),
        Wrote(SysReg, u64),
        Synchronised,
        Called(u64, How, u64),
        Rang(Bell),
        Logged(Event),
    }

    /// A register file where OSDLR_EL1 is UNDEFINED and any other register reads as 7.
    struct Fake {
        program: Vec<[u64; OP_WORDS]>,
        did: RefCell<Vec<Did>>,
    }

    const UNDEFINED: Exception = Exception { vector: 4, esr: 0x200_0000, elr: 0, spsr: 0, far: 0 };

    impl Fake {
        fn push(&self, did: Did) {
            self.did.borrow_mut().push(did);
        }
    }

    impl Guest for Fake {
        fn record(&self, place: usize) -> [u64; OP_WORDS] {
            self.program.get(place).copied().unwrap_or([wire::code::END, 0, 0])
        }
        fn begin(&self, place: usize) {
            self.push(Did::Begin(place));
        }
        fn log(&self, event: Event) {
            self.push(Did::Logged(event));
        }
        fn logged(&self) -> u64 {
            self.did.borrow().iter().filter(|did| matches!(did, Did::Logged(_))).count() as u64
        }
        fn read(&self, place: usize) -> u64 {
            if sysreg::TABLE[place] == OSDLR_EL1 {
                self.log(Event::Exception(UNDEFINED));
            }
            7
        }
        fn write(&self, place: usize, value: u64) {
            self.push(Did::Wrote(sysreg::TABLE[place], value));
        }
        fn isb(&self) {
            self.push(Did::Synchronised);
        }
        fn call(&self, address: u64, how: How, x0: u64) -> u64 {
            self.push(Did::Called(address, how, x0));
            x0 + 1
        }
        fn ring(&self, bell: Bell) {
            self.push(Did::Rang(bell));
        }
    }

    fn run_program(program: Vec<[u64; OP_WORDS]>) -> Vec<Did> {
        let fake = Fake { program, did: RefCell::default() };
        run(&fake, 0);
        fake.did.into_inner().into_iter().filter(|did| !matches!(did, Did::Begin(_))).collect()
    }

    fn encode(ops: &[Op]) -> Vec<[u64; OP_WORDS]> {
        ops.iter().map(|op| wire::encode(*op).expect("in the table")).collect()
    }

    #[test]
    fn operations_are_done_in_order_and_then_the_end_is_rung() {
        let ops = [
            Op::Write { reg: sysreg::dbgbcr(3), value: 0x1e3 },
            Op::Isb,
            Op::Exec { marker: 2 },
            Op::MaskDebug(false),
            Op::Brk,
            Op::Level(El::El0),
            Op::Access { access: Access::named("ldr x1"), address: layout::TARGET },
            Op::Enter(Entry::stepped(2)),
            Op::Exec { marker: 5 },
            Op::Run { sequence: Sequence::named("isb"), x0: 7 },
            Op::Exit,
        ];
        let unmasked = How { masked: false, ..START };
        assert_eq!(
            run_program(encode(&ops)),
            [
                Did::Wrote(sysreg::dbgbcr(3), 0x1e3),
                Did::Synchronised,
                Did::Called(layout::marker(2), START, 0),
                Did::Called(layout::BRK, unmasked, 0),
                Did::Called(
                    layout::access_code(Access::named("ldr x1")),
                    How { el: El::El0, ..unmasked },
                    layout::TARGET
                ),
                Did::Called(layout::marker(5), How { el: El::El0, entry: Entry::stepped(2), ..unmasked }, 0),
                Did::Called(
                    layout::sequence_code(Sequence::named("isb")),
                    How { el: El::El0, entry: Entry::stepped(2), ..unmasked },
                    7
                ),
                Did::Logged(Event::Value(8)),
                Did::Rang(Bell::Host),
                Did::Rang(Bell::End),
            ]
        );
    }

    #[test]
    fn what_userspace_has_done_at_a_bell_rings_no_other() {
        let gets = [Op::KvmGet { reg: MDSCR_EL1 }; 3];
        let ops = [&gets[..], &[Op::Isb]].concat();
        let records = wire::encode_program(&ops).map(|(_, record)| record.expect("in the table")).collect();
        assert_eq!(run_program(records), [Did::Rang(Bell::Host), Did::Synchronised, Did::Rang(Bell::End)]);
    }

    #[test]
    fn a_value_is_logged_when_the_read_took_no_exception() {
        let ops = [Op::Read { reg: MDSCR_EL1 }, Op::Read { reg: OSDLR_EL1 }];
        assert_eq!(
            run_program(encode(&ops)),
            [Did::Logged(Event::Value(7)), Did::Logged(Event::Exception(UNDEFINED)), Did::Rang(Bell::End),]
        );
    }

    #[test]
    fn every_program_starts_at_el1_with_debug_exceptions_masked() {
        let unmasked = encode(&[Op::MaskDebug(false), Op::Level(El::El0), Op::Exec { marker: 0 }]);
        let fake = Fake { program: unmasked, did: RefCell::default() };
        run(&fake, 0);
        let fake = Fake { program: encode(&[Op::Exec { marker: 0 }]), ..fake };
        run(&fake, 0);
        assert!(fake.did.into_inner().contains(&Did::Called(layout::marker(0), START, 0)));
    }

    #[test]
    fn events_belong_to_the_operation_that_was_begun_last() {
        let fake = Fake { program: encode(&[Op::Isb, Op::Isb]), did: RefCell::default() };
        run(&fake, 0);
        let did = fake.did.into_inner();
        assert_eq!(did[0], Did::Begin(0));
        assert_eq!(did[2], Did::Begin(1));
    }

    #[test]
    fn a_record_without_a_meaning_ends_the_program() {
        assert_eq!(run_program(vec![[99, 0, 0], [wire::code::ISB, 0, 0]]), [Did::Rang(Bell::BadProgram)]);
        assert_eq!(
            run_program(vec![[wire::code::ISB, 0, 0]; PROGRAM_LEN]).last(),
            Some(&Did::Rang(Bell::BadProgram))
        );
    }
}
