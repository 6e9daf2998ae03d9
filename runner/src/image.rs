// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The payload's executable: its segments and the addresses that the runner needs.

use crate::{error::Error, memory::GuestMemory};
use dfr0_model::wire::TARGET;
use elf::{
    ElfBytes,
    abi::{PF_W, PF_X, PT_LOAD},
    endian::LittleEndian,
    symbol::Symbol,
};

/// The payload's executable; empty if dfr0 was built without a toolchain for arm64. Its symbols `PROGRAM`, `LOG`, `LOGGED`, `PLACE` and `TURN` are what
/// dfr0_model::wire describes.
pub static PAYLOAD: &[u8] = include_bytes!(env!("DFR0_PAYLOAD"));

/// A part of the payload in the guest's memory.
#[derive(Debug)]
pub struct Segment {
    /// Its address.
    pub address: u64,
    /// Its length in memory, in bytes.
    pub len: u64,
    /// Whether the guest writes it.
    pub writable: bool,
    /// Whether the guest executes it.
    pub executable: bool,
}

/// The payload, in the guest's memory.
#[derive(Debug)]
pub struct Image {
    /// Where it starts to execute.
    pub entry: u64,
    /// Its segments.
    pub segments: Vec<Segment>,
    /// The addresses of the words that both sides share.
    pub words: Words,
}

/// The addresses of what the runner reads and writes in the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// `PROGRAM`.
    pub program: u64,
    /// `LOG`.
    pub log: u64,
    /// `LOGGED`.
    pub logged: u64,
    /// `PLACE`.
    pub place: u64,
    /// `TURN`.
    pub turn: u64,
}

impl Image {
    /// Copies the payload into the guest's memory.
    pub fn load(memory: &mut GuestMemory) -> Result<Self, Error> {
        let elf = executable()?;
        let mut segments = Vec::new();
        for header in elf.segments().into_iter().flatten().filter(|header| header.p_type == PT_LOAD) {
            let bytes = elf.segment_data(&header).map_err(invalid)?;
            let end = header.p_vaddr.saturating_add(header.p_memsz);
            if end > TARGET || !memory.write(header.p_vaddr, bytes) {
                let start = header.p_vaddr;
                return Err(Error::Unfit(format!(
                    "the payload's segment {start:#x} to {end:#x} does not fit"
                )));
            }
            segments.push(Segment {
                address: header.p_vaddr,
                len: header.p_memsz,
                writable: header.p_flags & PF_W != 0,
                executable: header.p_flags & PF_X != 0,
            });
        }
        let symbol = |name| symbol(&elf, name);
        Ok(Self {
            entry: elf.ehdr.e_entry,
            segments,
            words: Words {
                program: symbol("PROGRAM")?,
                log: symbol("LOG")?,
                logged: symbol("LOGGED")?,
                place: symbol("PLACE")?,
                turn: symbol("TURN")?,
            },
        })
    }
}

/// The address of `TIGHT`, the loop that suites are compared with.
pub fn tight_loop() -> Result<u64, Error> {
    symbol(&executable()?, "TIGHT")
}

fn executable() -> Result<ElfBytes<'static, LittleEndian>, Error> {
    if PAYLOAD.is_empty() {
        let problem =
            "this dfr0 was built without the guest's payload, because there was no toolchain for arm64";
        return Err(Error::Unfit(problem.into()));
    }
    ElfBytes::minimal_parse(PAYLOAD).map_err(invalid)
}

fn invalid(error: elf::ParseError) -> Error {
    Error::Unfit(format!("the payload is not an ELF executable: {error}"))
}

fn symbol(elf: &ElfBytes<'_, LittleEndian>, name: &str) -> Result<u64, Error> {
    let unfit = || Error::Unfit(format!("the payload has no symbol {name}"));
    let (symbols, names) = elf.symbol_table().map_err(invalid)?.ok_or_else(unfit)?;
    let is_it = |symbol: &Symbol| names.get(symbol.st_name as usize).is_ok_and(|found| found == name);
    symbols.iter().find(is_it).map(|symbol| symbol.st_value).ok_or_else(unfit)
}
