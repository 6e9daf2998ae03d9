// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Bundles as files: written whole or not at all.

use super::{Problem, Snapshot, bundle::KIND};
use crate::{bounded, whole};
use std::{
    io,
    path::{Path, PathBuf},
};

/// A bundle that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; `dfr0 snapshot save` writes a bundle", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written; nothing was written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file was read, but it is not a bundle.
    #[error("{}: {problem}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: Problem,
    },
}

/// Writes a bundle.
pub fn save(snapshot: &Snapshot, path: &Path) -> Result<(), Error> {
    let write = || whole::write(path, &snapshot.to_bytes()?);
    write().map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Reads the snapshot in a file; `-` is standard input.
pub fn load(path: &Path) -> Result<Snapshot, Error> {
    let bundle =
        bounded::load(path, KIND.longest).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Snapshot::from_bytes(&bundle).map_err(|problem| Error::Content { path: path.to_owned(), problem })
}
