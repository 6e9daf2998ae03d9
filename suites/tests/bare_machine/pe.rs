// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What the payload does, without its code: it reads the program from the memory, has the model's PE do each
//! operation, writes the events into the log, and rings.

use dfr0_model::{
    control::Dbgbcr,
    event::{Event, Exception, Logged, VECTOR_CURRENT_EL_SYNCHRONOUS},
    outcome::Expected,
    pe::Pe,
    scenario::{El, Entry, Op},
    shape::Shape,
    sysreg::{
        DCZID_EL0, ID_AA64DFR0_EL1, ID_AA64ISAR0_EL1, MIDR_EL1, OSLAR_EL1, OSLSR_EL1, SysReg, dbgbcr, dbgbvr,
    },
    wire::{self, Bell, EVENT_WORDS, LOG_LEN, OP_WORDS, PROGRAM_LEN, RAM, Step},
};
use elf::{ElfBytes, endian::LittleEndian};
use std::{
    fs::File,
    io::Write,
    os::unix::{fs::FileExt, net::UnixStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

/// An implementer code that Arm has not assigned, 6 breakpoints, 2 of them context-aware, 4 watchpoints,
/// FEAT_LSE, DC ZVA of 64 bytes.
const ID_VALUES: [(SysReg, u64); 4] =
    [(MIDR_EL1, 0x7f0f_0001), (ID_AA64DFR0_EL1, 0xf0_1030_5009), (ID_AA64ISAR0_EL1, 2 << 20), (DCZID_EL0, 4)];

/// The value of an ID register: other ID registers than those above are zero.
fn id_value(reg: SysReg) -> Option<u64> {
    let known = ID_VALUES.iter().find(|(of, _)| *of == reg).map(|(_, value)| *value);
    known.or(reg.is_id_register().then_some(0))
}

/// ESR_EL1 of an UNDEFINED instruction.
const ESR_UNDEFINED: u64 = 1 << 25;
/// The CPU starts on the last page, whose first instruction is an `LDR` of a literal.
const PAGE: u64 = 0x1000;
const LDR_LITERAL: u32 = 0x58;

/// What is wrong with the PE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeFault {
    /// Nothing.
    None,
    /// Breakpoint number 3 never fires.
    LosesBreakpoint3,
    /// The OS Lock masks nothing.
    OsLockMasksNothing,
    /// It never rings.
    NeverRings,
    /// It hangs in the program of this number, from 0.
    HangsIn(usize),
    /// It rings with this byte.
    RingsWith(u8),
    /// It rings as often as the other side takes bells, instead of running the program of this number, from
    /// 0.
    FloodsIn(usize),
    /// It claims that it has logged this many events, but the log contains none.
    LogsGarbage(u64),
}

/// The PE, its memory and its doorbell.
pub struct PlayedPe {
    ram: File,
    serial: UnixStream,
    fault: PeFault,
    stopped: Arc<AtomicBool>,
    pe: Pe,
    words: Words,
    logged: u64,
    /// OSLSR_EL1.OSLK if the OS Lock masks nothing.
    oslk: bool,
}

/// The addresses of the payload's words.
struct Words {
    program: u64,
    log: u64,
    logged: u64,
    place: u64,
    turn: u64,
}

impl Words {
    fn of_payload() -> Self {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(dfr0_runner::PAYLOAD).expect("an executable");
        let (symbols, names) = elf.symbol_table().expect("a table").expect("symbols");
        let address = |name: &str| {
            let is_it = |at: u32| names.get(at as usize).is_ok_and(|found| found == name);
            symbols.iter().find(|symbol| is_it(symbol.st_name)).expect("the symbol").st_value
        };
        Self {
            program: address("PROGRAM"),
            log: address("LOG"),
            logged: address("LOGGED"),
            place: address("PLACE"),
            turn: address("TURN"),
        }
    }
}

impl PlayedPe {
    /// The PE after a reset: the OS Lock is locked, and registers that the architecture leaves UNKNOWN have
    /// values that disturb.
    pub fn reset(ram: File, serial: UnixStream, fault: PeFault, stopped: Arc<AtomicBool>) -> Self {
        let shape = Shape::from_id_aa64dfr0(0xf0_1030_5009);
        let mut pe = Pe::new(shape);
        let armed = shape.breakpoint_numbers().flat_map(|n| {
            let control = Dbgbcr::address_at_el1().raw_value();
            [(dbgbvr(n), wire::marker(1)), (dbgbcr(n), control)]
        });
        for (reg, value) in armed.chain([(OSLAR_EL1, 1)]) {
            pe.step(Op::Write { reg, value }).expect("a rule");
        }
        pe.step(Op::Isb).expect("a rule");
        Self { ram, serial, fault, stopped, pe, words: Words::of_payload(), logged: 0, oslk: true }
    }

    /// Executes until it is stopped.
    pub fn execute(mut self) {
        let start = self.word(RAM + self.len() - PAGE) as u32;
        if start >> 24 != LDR_LITERAL || self.fault == PeFault::NeverRings {
            return;
        }
        for program in 0.. {
            let goes_on = match self.fault {
                PeFault::HangsIn(hangs) if hangs == program => return,
                PeFault::RingsWith(byte) => self.ring(byte),
                PeFault::FloodsIn(floods) if floods == program => self.flood(),
                _ => self.interpret(),
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Runs the program once; false if it was stopped.
    fn interpret(&mut self) -> bool {
        self.logged = 0;
        self.store(self.words.logged, 0);
        for op in [Op::MaskDebug(true), Op::Level(El::El1), Op::Enter(Entry::Call)] {
            self.pe.step(op).expect("a rule");
        }
        for place in 0..PROGRAM_LEN {
            self.store(self.words.place, place as u64);
            let record = self.words::<OP_WORDS>(self.words.program + (8 * OP_WORDS * place) as u64);
            let goes_on = match wire::decode(record) {
                Some(Step::Op(op)) => self.act(op, place),
                Some(Step::Host) => self.pe.step(Op::Exit).is_ok() && self.ring(Bell::Host as u8),
                Some(Step::Done) => true,
                Some(Step::End) => return self.ring(Bell::End as u8),
                None => self.ring(Bell::BadProgram as u8),
            };
            if !goes_on {
                return false;
            }
        }
        self.ring(Bell::BadProgram as u8)
    }

    fn act(&mut self, op: Op, place: usize) -> bool {
        if let PeFault::LogsGarbage(count) = self.fault {
            self.store(self.words.logged, count);
            return true;
        }
        let op = match (self.fault, op) {
            (PeFault::OsLockMasksNothing, Op::Write { reg: OSLAR_EL1, value }) => {
                self.oslk = value & 1 != 0;
                Op::Write { reg: OSLAR_EL1, value: 0 }
            }
            (PeFault::OsLockMasksNothing, Op::Read { reg: OSLSR_EL1 }) => {
                return self.log(place, Event::Value(0b1000 | u64::from(self.oslk) << 1));
            }
            (PeFault::LosesBreakpoint3, Op::Write { reg, .. }) if reg == dbgbcr(3) => {
                Op::Write { reg, value: 0 }
            }
            (_, op) => op,
        };
        if let Op::Read { reg } = op
            && let Some(value) = id_value(reg)
        {
            return self.log(place, Event::Value(value));
        }
        let Ok(outcome) = self.pe.step(op) else { return self.ring(Bell::BadProgram as u8) };
        outcome.events.iter().all(|expected| self.log(place, happens(expected)))
    }

    fn log(&mut self, op: usize, event: Event) -> bool {
        let record = wire::encode_event(Logged { op, event }).expect("an event of the payload");
        if self.logged >= LOG_LEN as u64 {
            return self.ring(Bell::LogFull as u8);
        }
        for (word, value) in (0..).zip(record) {
            self.store(self.words.log + 8 * (EVENT_WORDS as u64 * self.logged + word), value);
        }
        self.logged += 1;
        self.store(self.words.logged, self.logged);
        true
    }

    /// Rings, and waits until the word `TURN` has changed; false if it was stopped before.
    fn ring(&mut self, byte: u8) -> bool {
        let turn = self.word(self.words.turn);
        if self.serial.write_all(&[byte]).is_err() {
            return false;
        }
        while self.word(self.words.turn) == turn {
            if self.stopped.load(SeqCst) {
                return false;
            }
            thread::sleep(Duration::from_micros(50));
        }
        true
    }

    /// Rings without waiting.
    fn flood(&mut self) -> bool {
        self.serial.set_write_timeout(Some(Duration::from_millis(10))).expect("a socket");
        while self.serial.write_all(&[Bell::End as u8; 1 << 12]).is_ok() {}
        false
    }

    fn len(&self) -> u64 {
        self.ram.metadata().expect("a file").len()
    }

    fn word(&self, address: u64) -> u64 {
        self.words::<1>(address)[0]
    }

    fn words<const N: usize>(&self, address: u64) -> [u64; N] {
        let mut bytes = vec![0; 8 * N];
        self.ram.read_exact_at(&mut bytes, address - RAM).expect("in memory");
        std::array::from_fn(|n| u64::from_le_bytes(bytes[8 * n..8 * n + 8].try_into().expect("eight bytes")))
    }

    fn store(&self, address: u64, value: u64) {
        self.ram.write_all_at(&value.to_le_bytes(), address - RAM).expect("in memory");
    }
}

/// One of the allowed events.
fn happens(expected: &Expected) -> Event {
    match *expected {
        Expected::Value { value, mask } => Event::Value(value & mask),
        Expected::Within { lowest, .. } => Event::Value(lowest),
        Expected::Exception { vector, esr, elr, spsr, far, .. } => {
            Event::Exception(Exception { vector, esr, elr, spsr, far: far.0 })
        }
        Expected::Undefined => Event::Exception(Exception {
            vector: VECTOR_CURRENT_EL_SYNCHRONOUS,
            esr: ESR_UNDEFINED,
            elr: 0,
            spsr: 0,
            far: 0,
        }),
        Expected::Refused(_) | Expected::RefusedExcept(_) | Expected::DebugExit { .. } => {
            unreachable!("userspace's events")
        }
    }
}
