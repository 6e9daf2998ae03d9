// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The payload in its memory: the program that it interprets and the log that it writes.

use crate::{
    error::Error,
    image::{Image, Words},
    memory::GuestMemory,
    stage1,
};
use dfr0_model::{
    event::Logged,
    scenario::Op,
    wire::{self, EVENT_WORDS, OP_WORDS, PROGRAM_LEN, code},
};
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, Release},
};

/// A payload, loaded.
#[derive(Debug)]
pub struct Payload {
    /// The guest's memory.
    pub memory: GuestMemory,
    /// The addresses of the words that both sides share.
    pub words: Words,
}

/// How to start a payload that was loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start {
    /// Where it starts to execute.
    pub entry: u64,
    /// The end of the stage 1 tables.
    pub tables_end: u64,
}

impl Payload {
    /// Loads the payload into zeroed memory; `doorbell` is the address that a bell is stored to.
    pub fn load(mut memory: GuestMemory, doorbell: u64) -> Result<(Self, Start), Error> {
        let image = Image::load(&mut memory)?;
        let tables_end = stage1::write(&image, &mut memory, doorbell)?;
        Ok((Self { memory, words: image.words }, Start { entry: image.entry, tables_end }))
    }

    /// Writes the program that the payload interprets next.
    pub fn write_program(&self, ops: &[Op]) -> Result<(), Error> {
        if ops.len() >= PROGRAM_LEN {
            return Err(Error::Unfit(format!(
                "a program of {} operations; {PROGRAM_LEN} are too many",
                ops.len()
            )));
        }
        // A payload that starts in the middle of the program does not do this.
        self.word(self.words.logged)?.store(0, Relaxed);
        let end = [code::END, 0, 0];
        let records = wire::encode_program(ops)
            .map(|(op, record)| record.ok_or_else(|| Error::Unfit(format!("the payload cannot do `{op}`"))));
        let words = self.words(self.words.program, (ops.len() + 1) * OP_WORDS)?;
        for (slot, record) in words.chunks_exact(OP_WORDS).zip(records.chain([Ok(end)])) {
            for (word, value) in slot.iter().zip(record?) {
                word.store(value, Relaxed);
            }
        }
        Ok(())
    }

    /// The events that the payload has logged in this program.
    pub fn read_log(&self) -> Result<Vec<Logged>, Error> {
        let logged = self.word(self.words.logged)?.load(Relaxed) as usize;
        let words = self.words(self.words.log, logged.min(wire::LOG_LEN) * EVENT_WORDS)?;
        words
            .chunks_exact(EVENT_WORDS)
            .map(|slot| {
                let record: [u64; EVENT_WORDS] = std::array::from_fn(|word| slot[word].load(Relaxed));
                wire::decode_event(record).ok_or_else(|| {
                    Error::Unfit(format!("the payload logged {record:x?}, which is not an event"))
                })
            })
            .collect()
    }

    /// The number of the operation that the payload is doing.
    pub fn place(&self) -> Result<usize, Error> {
        Ok(self.word(self.words.place)?.load(Relaxed) as usize)
    }

    /// Lets a payload that has rung continue as soon as it executes.
    pub fn turn(&self) -> Result<(), Error> {
        // Release: what userspace wrote before is seen by a payload on another thread that sees this.
        self.word(self.words.turn)?.fetch_add(1, Release);
        Ok(())
    }

    fn word(&self, address: u64) -> Result<&AtomicU64, Error> {
        self.memory.word(address).ok_or_else(|| outside(address))
    }

    fn words(&self, address: u64, count: usize) -> Result<&[AtomicU64], Error> {
        self.memory.words(address, count).ok_or_else(|| outside(address))
    }
}

fn outside(address: u64) -> Error {
    Error::Unfit(format!("the payload's data at {address:#x} is outside of its memory"))
}
