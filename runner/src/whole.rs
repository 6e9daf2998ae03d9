// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Files that are written whole or not at all.

use std::{
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};
use tempfile::{Builder, NamedTempFile};

/// A file beside its place, which nobody takes for it.
pub fn begin(path: &Path) -> io::Result<NamedTempFile> {
    // Whoever may read any new file may read this: without it the owner alone may.
    Builder::new().prefix(".dfr0-").permissions(Permissions::from_mode(0o666)).tempfile_in(directory(path))
}

/// Puts a file in its place when all of it is on the disk, in that of another if there is one.
pub fn end(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(directory(path))?.sync_all()
}

/// The same where no other may be: else [`io::ErrorKind::AlreadyExists`].
pub fn end_new(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    fs::File::open(directory(path))?.sync_all()
}

/// Writes a file.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = begin(path)?;
    file.write_all(bytes)?;
    end(file, path)
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
