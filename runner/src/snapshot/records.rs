// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Lists in a bundle: a vCPU's registers, and events.

use super::{Register, state::hexadecimal};
use crate::fingerprint::{Hex, Id};
use dfr0_model::{
    event::{Event, Exception, Logged},
    wire::{LOG_LEN, PROGRAM_LEN},
};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use std::{collections::BTreeSet, io};

/// The upper limit of a list, in bytes.
const LONGEST: usize = 4 << 20;
/// The upper limit of registers; a vCPU with all features has some 900.
const MOST_REGISTERS: usize = 4096;
/// The upper limit of events: the guest's log, and as many events of userspace.
const MOST_EVENTS: usize = 2 * LOG_LEN;

#[derive(Serialize)]
struct WrittenRegister {
    name: String,
    id: Id,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadRegister {
    #[serde(rename = "name")]
    _name: IgnoredAny,
    id: Id,
    value: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    operation: usize,
    event: Kind,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Kind {
    Value(Hex),
    Exception { vector: Hex, esr: Hex, elr: Hex, spsr: Hex, far: Hex },
    Refused { errno: i32 },
    DebugExit { hsr: Hex, pc: Hex, far: Hex },
}

pub fn write_registers(registers: &[Register]) -> io::Result<Vec<u8>> {
    let registers = registers.iter().map(|register| WrittenRegister {
        name: register.id.name(),
        id: Id(register.id),
        value: hexadecimal(&register.value),
    });
    write(&registers.collect::<Vec<_>>())
}

pub fn read_registers(bytes: &[u8]) -> Result<Vec<Register>, String> {
    let read: Vec<ReadRegister> = read(bytes)?;
    if read.len() > MOST_REGISTERS {
        return Err(format!("{} registers, but no vCPU has more than {MOST_REGISTERS}", read.len()));
    }
    let mut seen = BTreeSet::new();
    read.into_iter()
        .map(|ReadRegister { id: Id(id), value, .. }| {
            if !seen.insert(id) {
                return Err(format!("{id} ({}) appears twice", id.name()));
            }
            let value = bytes_of(&value, id.width() as usize / 8).ok_or_else(|| {
                format!("{id} ({}) does not have a value of {} bits in hexadecimal", id.name(), id.width())
            })?;
            Ok(Register { id, value })
        })
        .collect()
}

/// Reads `0x` and two digits for each byte, the lowest byte last.
fn bytes_of(text: &str, len: usize) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?.as_bytes();
    if digits.len() != 2 * len {
        return None;
    }
    let digit = |digit: u8| Some(char::from(digit).to_digit(16)? as u8);
    digits.chunks_exact(2).rev().map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

pub fn write_events(events: &[Logged]) -> io::Result<Vec<u8>> {
    let records = events.iter().map(|Logged { op, event }| Record {
        operation: *op,
        event: match *event {
            Event::Value(value) => Kind::Value(Hex(value)),
            Event::Exception(Exception { vector, esr, elr, spsr, far }) => Kind::Exception {
                vector: Hex(vector),
                esr: Hex(esr),
                elr: Hex(elr),
                spsr: Hex(spsr),
                far: Hex(far),
            },
            Event::Refused(errno) => Kind::Refused { errno },
            Event::DebugExit { hsr, pc, far } => {
                Kind::DebugExit { hsr: Hex(hsr), pc: Hex(pc), far: Hex(far) }
            }
        },
    });
    write(&records.collect::<Vec<_>>())
}

pub fn read_events(bytes: &[u8]) -> Result<Vec<Logged>, String> {
    let records: Vec<Record> = read(bytes)?;
    if records.len() > MOST_EVENTS || records.iter().any(|record| record.operation >= PROGRAM_LEN) {
        return Err(format!("more than {MOST_EVENTS} events, or one of an operation beyond {PROGRAM_LEN}"));
    }
    if !records.is_sorted_by_key(|record| record.operation) {
        return Err("its events are not in the order of the operations".into());
    }
    let events = records.into_iter().map(|Record { operation: op, event }| {
        let event = match event {
            Kind::Value(Hex(value)) => Event::Value(value),
            Kind::Exception { vector, esr, elr, spsr, far } => Event::Exception(Exception {
                vector: vector.0,
                esr: esr.0,
                elr: elr.0,
                spsr: spsr.0,
                far: far.0,
            }),
            Kind::Refused { errno } => Event::Refused(errno),
            Kind::DebugExit { hsr, pc, far } => Event::DebugExit { hsr: hsr.0, pc: pc.0, far: far.0 },
        };
        Logged { op, event }
    });
    Ok(events.collect())
}

fn write(list: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(list)?;
    text.push(b'\n');
    Ok(text)
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    if bytes.len() > LONGEST {
        return Err(format!("longer than {LONGEST} bytes"));
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}
