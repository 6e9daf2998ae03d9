// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The directory of what was fetched or made. Its files appear whole or not at all, and it may be deleted any time.

use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::PollTimeout;
use tempfile::{NamedTempFile, TempDir};

use crate::interrupt::Signals;

/// `$DFR0_CACHE`, else `dfr0` in the user's cache directory.
#[derive(Clone, Debug)]
pub struct Cache(PathBuf);

impl Cache {
    /// Finds the cache and makes it if need be.
    pub fn open() -> Result<Self> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory = set("DFR0_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("dfr0")))
            .or_else(|| set("HOME").map(|home| home.join(".cache/dfr0")));
        let Some(directory) = directory else {
            bail!(
                "no place for a cache: set DFR0_CACHE to a directory (neither it, XDG_CACHE_HOME nor HOME is set)"
            );
        };
        Self::at(&directory)
    }

    /// The cache in `directory`.
    pub fn at(directory: &Path) -> Result<Self> {
        let what_to_do =
            || format!("cannot make the cache {} (DFR0_CACHE chooses another)", directory.display());
        fs::create_dir_all(directory).with_context(what_to_do)?;
        // apt takes no relative directories.
        Ok(Self(directory.canonicalize().with_context(what_to_do)?))
    }

    /// The path of `name` in the cache; its directory exists.
    pub fn path(&self, name: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.0.join(name);
        let directory = path.parent().unwrap_or(&self.0);
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(path)
    }

    /// A directory for work in progress. It is on the cache's file system, so that results can be renamed.
    pub fn scratch(&self) -> Result<TempDir> {
        tempfile::Builder::new()
            .prefix(".tmp-")
            .tempdir_in(&self.0)
            .with_context(|| format!("cannot make a directory in {}", self.0.display()))
    }

    /// Keeps other labs out of `name` until the lock is dropped.
    pub fn lock(&self, name: &str, signals: &Signals) -> Result<Flock<File>> {
        let path = self.path(format!("{name}.lock"))?;
        let failed = || format!("cannot lock {}", path.display());
        let mut file = File::options().create(true).append(true).open(&path).with_context(failed)?;
        let mut waiting = false;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((returned, Errno::EWOULDBLOCK)) => file = returned,
                Err((_, error)) => return Err(error).with_context(failed),
            }
            if !waiting {
                eprintln!("lab: waiting for another lab that holds {}", path.display());
                waiting = true;
            }
            signals.wait(&[], PollTimeout::from(200u16))?;
        }
    }
}

/// Makes `path` with these contents, replacing an older one in a single step.
pub fn write_whole(path: &Path, mode: u32, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let directory = path.parent().context("a file in the cache has a directory")?;
    let mut file = NamedTempFile::new_in(directory).with_context(failed)?;
    write(file.as_file_mut())?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_failed_write_leaves_the_older_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Image");
        let put = |bytes: &'static [u8]| move |file: &mut File| Ok(file.write_all(bytes)?);
        write_whole(&path, 0o644, put(b"old")).unwrap();
        write_whole(&path, 0o644, |file| {
            file.write_all(b"ne")?;
            bail!("the network went away")
        })
        .unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        write_whole(&path, 0o755, put(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
    }
}
