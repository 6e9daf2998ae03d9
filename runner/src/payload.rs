// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The payload in its memory: the program that it interprets and the log that it writes.

use crate::{guest::Error, image::Image, memory::GuestMemory, stage1};
use dfr0_model::{
    event::Logged,
    scenario::Op,
    wire::{self, OP_WORDS, PROGRAM_LEN, code},
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
    /// Where things are in it.
    pub image: Image,
    /// The end of the stage 1 tables.
    pub tables_end: u64,
}

impl Payload {
    /// Loads the payload into zeroed memory; `doorbell` is the address that a bell is stored to.
    pub fn load(mut memory: GuestMemory, doorbell: u64) -> Result<Self, Error> {
        let image = Image::load(&mut memory)?;
        let tables_end = stage1::write(&image, &mut memory, doorbell)?;
        Ok(Self { memory, image, tables_end })
    }

    /// Writes the program that the payload interprets next.
    pub fn write_program(&self, ops: &[Op]) -> Result<(), Error> {
        if ops.len() >= PROGRAM_LEN {
            return Err(Error::Unfit(format!(
                "a program of {} operations; {PROGRAM_LEN} are too many",
                ops.len()
            )));
        }
        let end = [code::END, 0, 0];
        let records = ops.iter().map(|op| {
            wire::encode(*op).ok_or_else(|| Error::Unfit(format!("the payload has no way to do `{op}`")))
        });
        for (place, record) in records.chain([Ok(end)]).enumerate() {
            for (word, value) in record?.into_iter().enumerate() {
                let address = self.image.program + 8 * (place * OP_WORDS + word) as u64;
                self.word(address)?.store(value, Relaxed);
            }
        }
        Ok(())
    }

    /// The events that the payload has logged of this program.
    pub fn read_log(&self) -> Result<Vec<Logged>, Error> {
        let outside = || Error::Unfit("the payload's log lies outside of its memory".into());
        let logged = self.word(self.image.logged)?.load(Relaxed) as usize;
        let records = self.memory.records(self.image.log, logged.min(wire::LOG_LEN)).ok_or_else(outside)?;
        records
            .into_iter()
            .map(|record| {
                wire::decode_event(record)
                    .ok_or_else(|| Error::Unfit(format!("the payload logged {record:x?}, which is no event")))
            })
            .collect()
    }

    /// The operation that the payload does.
    pub fn place(&self) -> Result<usize, Error> {
        Ok(self.word(self.image.place)?.load(Relaxed) as usize)
    }

    /// Lets a payload that has rung go on, as soon as it executes.
    pub fn turn(&self) -> Result<(), Error> {
        // Release: what userspace wrote before is seen by a payload on another thread that sees this.
        self.word(self.image.turn)?.fetch_add(1, Release);
        Ok(())
    }

    fn word(&self, address: u64) -> Result<&AtomicU64, Error> {
        self.memory.word(address).ok_or_else(|| {
            Error::Unfit(format!("the payload's data at {address:#x} lies outside of its memory"))
        })
    }
}
