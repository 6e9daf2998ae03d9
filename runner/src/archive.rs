// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The container of a snapshot and of a certificate: a digest, followed by named parts as a tar archive in a
//! zstd frame.
//!
//! ```text
//!   0x184d2a5d         a skippable zstd frame (RFC 8878, 3.1.2): `zstd` and `tar --zstd` pass over it
//!   length             the number of bytes that follow in this frame
//!   name               the kind of archive
//!   version            one byte
//!   SHA-256            of all that follows
//!   a zstd frame       a tar archive of the parts, each an ordinary file
//! ```

use crate::{bounded, fingerprint::printable};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};

const SKIPPABLE: u32 = 0x184d_2a5d;
const DIGEST: usize = 32;
/// zstd's own default level.
const LEVEL: i32 = 3;

/// A part: its name, which is one of a fixed list, and its bytes.
pub type Part = (&'static str, Vec<u8>);

/// What archives of one kind have in common.
#[derive(Debug)]
pub struct Kind {
    /// The name of the kind.
    pub name: &'static str,
    /// The version of the archive and of the content of its parts.
    pub version: u8,
    /// The names that parts may have; each may appear once.
    pub parts: &'static [&'static str],
    /// The upper limit of an archive, in bytes; anything longer is rejected.
    pub longest: u64,
    /// The upper limit of the decompressed parts and their headers, in bytes, as an exponent of 2.
    pub longest_parts: u32,
}

/// A part as the manifest, which is the first part, lists it.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    name: String,
    size: usize,
    sha256: String,
}

impl Entry {
    /// The entry of a part.
    pub fn of((name, bytes): &Part) -> Self {
        Self { name: (*name).to_owned(), size: bytes.len(), sha256: sha256(bytes) }
    }

    /// Checks that the parts after the manifest are those that it lists.
    pub fn check(listed: &[Self], parts: &[Part]) -> Result<(), Problem> {
        if listed.len() != parts.len() {
            let (listed, parts) = (listed.len(), parts.len());
            let problem = format!("the manifest lists {listed} parts, but there are {parts}");
            return Err(Problem::Content(problem));
        }
        match parts.iter().zip(listed).find(|(part, entry)| Self::of(part) != **entry) {
            Some(((name, _), _)) => Err(Problem::Content(format!(
                "{name}: its name, size or SHA-256 is not that of the manifest"
            ))),
            None => Ok(()),
        }
    }
}

/// The SHA-256 of these bytes, in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It is too long.
    #[error("longer than {0} bytes")]
    Long(u64),
    /// It does not begin with the header of its kind.
    #[error("it does not begin with the header of one")]
    Stranger,
    /// It has another version.
    #[error("it has version {version}, but this dfr0 reads version {reads}")]
    Version {
        /// Its version.
        version: u64,
        /// The version that this dfr0 reads.
        reads: u8,
    },
    /// Its digest does not match its bytes.
    #[error("it was changed since it was written, or is not whole: its SHA-256 does not match")]
    Digest,
    /// Its content is not an archive of parts.
    #[error("{0}")]
    Content(String),
}

impl Kind {
    /// An archive of these parts.
    pub fn write(&self, parts: &[Part]) -> io::Result<Vec<u8>> {
        Ok(self.seal(&zstd::bulk::compress(&tar(parts)?, LEVEL)?))
    }

    /// The archive of this frame.
    pub(crate) fn seal(&self, frame: &[u8]) -> Vec<u8> {
        let mut archive = self.header();
        archive.extend_from_slice(&Sha256::digest(frame));
        archive.extend_from_slice(frame);
        archive
    }

    /// The bytes before the digest.
    fn header(&self) -> Vec<u8> {
        let len = (self.name.len() + 1 + DIGEST) as u32;
        let mut header = Vec::new();
        header.extend_from_slice(&SKIPPABLE.to_le_bytes());
        header.extend_from_slice(&len.to_le_bytes());
        header.extend_from_slice(self.name.as_bytes());
        header.push(self.version);
        header
    }

    /// Whether these bytes begin as an archive of this kind does, of any version.
    pub fn begins(&self, bytes: &[u8]) -> bool {
        let mut header = self.header();
        header.pop();
        bytes.starts_with(&header)
    }

    /// Reads the parts of an archive, in their order.
    pub fn read(&self, archive: &[u8]) -> Result<Vec<Part>, Problem> {
        if archive.len() as u64 > self.longest {
            return Err(Problem::Long(self.longest));
        }
        let expected = self.header();
        let (before, rest) = archive.split_at_checked(expected.len()).ok_or(Problem::Stranger)?;
        let (name, version) = before.split_at(before.len() - 1);
        if name != &expected[..name.len()] {
            return Err(Problem::Stranger);
        }
        if version != [self.version] {
            return Err(Problem::Version { version: version[0].into(), reads: self.version });
        }
        let (digest, frame) = rest.split_at_checked(DIGEST).ok_or(Problem::Digest)?;
        if Sha256::digest(frame).as_slice() != digest {
            return Err(Problem::Digest);
        }
        let archive = self.decompress(frame)?;
        let parts = self.split(&archive)?;
        // tar allows other data in headers, between files and after them. Such data would not be read, so it
        // is refused.
        match tar(&parts) {
            Ok(canonical) if canonical == archive => Ok(parts),
            _ => Err(Problem::Content("it is not an archive as dfr0 writes it".into())),
        }
    }

    fn decompress(&self, frame: &[u8]) -> Result<Vec<u8>, Problem> {
        let failed = |error: io::Error| Problem::Content(error.to_string());
        let longest = 1 << self.longest_parts;
        let mut decoder = zstd::Decoder::with_buffer(frame).map_err(failed)?.single_frame();
        decoder.window_log_max(self.longest_parts).map_err(failed)?;
        let archive = bounded::read(decoder.by_ref(), longest).map_err(|error| match error.kind() {
            bounded::TOO_LONG => Problem::Content(format!("it decompresses to more than {longest} bytes")),
            _ => failed(error),
        })?;
        if !decoder.finish().is_empty() {
            return Err(Problem::Content("there is data after its zstd frame".into()));
        }
        Ok(archive)
    }

    fn split(&self, archive: &[u8]) -> Result<Vec<Part>, Problem> {
        // tar's messages quote what they could not read.
        let failed = |error: io::Error| Problem::Content(printable(&error.to_string()));
        let mut archive = tar::Archive::new(archive);
        let mut parts: Vec<Part> = Vec::new();
        // Raw: a header that gives the next file a long name is read as a file, whose name is not that of a
        // part.
        for entry in archive.entries().map_err(failed)?.raw(true) {
            let mut entry = entry.map_err(failed)?;
            let name = self.parts.iter().find(|name| *entry.path_bytes() == *name.as_bytes()).copied();
            let Some(name) = name.filter(|name| parts.iter().all(|(other, _)| other != name)) else {
                let problem = "a file in it does not have the name of a part, or appears twice";
                return Err(Problem::Content(problem.into()));
            };
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(failed)?;
            parts.push((name, bytes));
        }
        Ok(parts)
    }
}

pub(crate) fn tar(parts: &[Part]) -> io::Result<Vec<u8>> {
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
