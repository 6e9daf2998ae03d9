// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The outside of a bundle: a digest, and the parts as a tar archive in a zstd frame.
//!
//! ```text
//!   0x184d2a5d         a skippable zstd frame (RFC 8878, 3.1.2): `zstd` and `tar --zstd` pass over it
//!   45                 how many bytes follow in it
//!   "dfr0snapshot"     what it is
//!   version            one byte
//!   SHA-256            of all that follows
//!   a zstd frame       a tar archive of the parts, each an ordinary file
//! ```

use super::Problem;
use crate::fingerprint::printable;
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};

/// A bundle longer than this is none, in bytes.
pub const LONGEST: u64 = 8 << 20;
/// The parts and their headers are not longer, in bytes, whatever they were compressed to.
const LONGEST_ARCHIVE: u64 = 24 << 20;
/// A vCPU's registers are a part, and two vCPUs are the most that a VM has here.
const MOST_PARTS: usize = 8;
/// The version of the bundle, and of what is in its parts.
pub const VERSION: u8 = 1;

const SKIPPABLE: u32 = 0x184d_2a5d;
const NAME: &[u8] = b"dfr0snapshot";
const DIGEST: usize = 32;
const BEFORE_DIGEST: usize = 8 + NAME.len() + 1;
const HEADER: usize = BEFORE_DIGEST + DIGEST;
/// zstd's own default.
const LEVEL: i32 = 3;
/// The window of a frame that the archive's length fits into, as a power of two.
const WINDOW: u32 = 25;

/// A part: its name, which is one of a fixed list, and its bytes.
pub type Part = (&'static str, Vec<u8>);

/// The bundle of these parts.
pub fn write(parts: &[Part]) -> io::Result<Vec<u8>> {
    Ok(seal(&zstd::bulk::compress(&tar(parts)?, LEVEL)?))
}

/// The bundle of this frame.
pub(super) fn seal(frame: &[u8]) -> Vec<u8> {
    let mut bundle = header();
    bundle.extend_from_slice(&Sha256::digest(frame));
    bundle.extend_from_slice(frame);
    bundle
}

/// What stands before the digest.
fn header() -> Vec<u8> {
    let len = (HEADER - 8) as u32;
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(&SKIPPABLE.to_le_bytes());
    header.extend_from_slice(&len.to_le_bytes());
    header.extend_from_slice(NAME);
    header.push(VERSION);
    header
}

/// The parts of a bundle, in the order in which they stand; `names` are those that there may be, each once.
pub fn read(bundle: &[u8], names: &[&'static str]) -> Result<Vec<Part>, Problem> {
    if bundle.len() as u64 > LONGEST {
        return Err(Problem::Long);
    }
    let expected = header();
    let (before, rest) = bundle.split_at_checked(BEFORE_DIGEST).ok_or(Problem::Stranger)?;
    let (version, name) = (before[BEFORE_DIGEST - 1], &before[..BEFORE_DIGEST - 1]);
    if name != &expected[..BEFORE_DIGEST - 1] {
        return Err(Problem::Stranger);
    }
    if version != VERSION {
        return Err(Problem::Version { version: version.into() });
    }
    let (digest, frame) = rest.split_at_checked(DIGEST).ok_or(Problem::Digest)?;
    if Sha256::digest(frame).as_slice() != digest {
        return Err(Problem::Digest);
    }
    let archive = decompress(frame)?;
    let parts = parts(&archive, names)?;
    // Whatever tar allows besides, in headers, between files and behind them: nothing stands in a bundle that is not read.
    match tar(&parts) {
        Ok(canonical) if canonical == archive => Ok(parts),
        _ => Err(Problem::Archive("it is no archive as dfr0 writes it".into())),
    }
}

fn decompress(frame: &[u8]) -> Result<Vec<u8>, Problem> {
    let failed = |error: io::Error| Problem::Archive(error.to_string());
    let mut decoder = zstd::Decoder::with_buffer(frame).map_err(failed)?.single_frame();
    decoder.window_log_max(WINDOW).map_err(failed)?;
    let mut archive = Vec::new();
    let len = decoder.by_ref().take(LONGEST_ARCHIVE + 1).read_to_end(&mut archive).map_err(failed)?;
    if len as u64 > LONGEST_ARCHIVE {
        return Err(Problem::Archive(format!("it decompresses to more than {LONGEST_ARCHIVE} bytes")));
    }
    if !decoder.finish().is_empty() {
        return Err(Problem::Archive("something stands behind its zstd frame".into()));
    }
    Ok(archive)
}

fn parts(archive: &[u8], names: &[&'static str]) -> Result<Vec<Part>, Problem> {
    // tar's messages quote what they could not read.
    let failed = |error: io::Error| Problem::Archive(printable(&error.to_string()));
    let mut archive = tar::Archive::new(archive);
    let mut parts: Vec<Part> = Vec::new();
    // Raw: a header that would give the next file a long name is a file of that name, which is none of ours.
    for entry in archive.entries().map_err(failed)?.raw(true) {
        let mut entry = entry.map_err(failed)?;
        let name = names.iter().find(|name| *entry.path_bytes() == *name.as_bytes()).copied();
        let Some(name) = name.filter(|name| parts.iter().all(|(other, _)| other != name)) else {
            return Err(Problem::Archive("a file in it has a name that no part has, or stands twice".into()));
        };
        if parts.len() >= MOST_PARTS {
            return Err(Problem::Archive(format!("it has more than {MOST_PARTS} parts")));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(failed)?;
        parts.push((name, bytes));
    }
    Ok(parts)
}

pub(super) fn tar(parts: &[Part]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in parts {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, bytes.as_slice())?;
    }
    let mut archive = archive.into_inner()?;
    archive.flush()?;
    Ok(archive)
}
