// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Files that are written whole or not at all.

use std::{
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};
use tempfile::{Builder, NamedTempFile};

/// Creates a temporary file next to `path`, with a name that is not mistaken for the file itself.
pub fn begin(path: &Path) -> io::Result<NamedTempFile> {
    // The permissions of any new file. By default only its owner may read a temporary file.
    Builder::new().prefix(".dfr0-").permissions(Permissions::from_mode(0o666)).tempfile_in(directory(path))
}

/// Moves a file to `path` once all of it is on the disk, and returns it. An existing file is replaced.
pub fn end(file: NamedTempFile, path: &Path) -> io::Result<fs::File> {
    file.as_file().sync_all()?;
    let file = file.persist(path).map_err(|error| error.error)?;
    fs::File::open(directory(path))?.sync_all()?;
    Ok(file)
}

/// Moves a file to `path` once all of it is on the disk. An existing file is an error,
/// [`io::ErrorKind::AlreadyExists`].
pub fn end_new(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    fs::File::open(directory(path))?.sync_all()
}

/// Writes a file, whole or not at all.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = begin(path)?;
    file.write_all(bytes)?;
    end(file, path).map(drop)
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
