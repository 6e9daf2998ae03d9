// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The directory for files that were fetched or built. Its files appear complete or not at all, and it may be deleted at
//! any time.

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

/// The cache directory: `$DFR0_CACHE`, or else `dfr0` in the user's cache directory.
#[derive(Clone, Debug)]
pub struct Cache(PathBuf);

impl Cache {
    /// Finds the cache, and creates it if it does not exist.
    pub fn open() -> Result<Self> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory = set("DFR0_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("dfr0")))
            .or_else(|| set("HOME").map(|home| home.join(".cache/dfr0")));
        let Some(directory) = directory else {
            bail!(
                "there is no directory for the cache: set DFR0_CACHE (DFR0_CACHE, XDG_CACHE_HOME and HOME are not set)"
            );
        };
        Self::at(&directory)
    }

    /// The cache in `directory`.
    pub fn at(directory: &Path) -> Result<Self> {
        let what_to_do =
            || format!("cannot create the cache {} (DFR0_CACHE selects another)", directory.display());
        fs::create_dir_all(directory).with_context(what_to_do)?;
        // apt does not accept relative directories.
        Ok(Self(directory.canonicalize().with_context(what_to_do)?))
    }

    /// The path of `name` in the cache. The directory of the path exists.
    pub fn path(&self, name: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.0.join(name);
        let directory = path.parent().unwrap_or(&self.0);
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(path)
    }

    /// A directory for work in progress. It is on the cache's file system, so that results can be renamed into the cache.
    pub fn scratch(&self) -> Result<TempDir> {
        tempfile::Builder::new()
            .prefix(".tmp-")
            .tempdir_in(&self.0)
            .with_context(|| format!("cannot create a directory in {}", self.0.display()))
    }

    /// Locks `name` against other labs until the lock is dropped.
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
                eprintln!("lab: waiting for another lab that has locked {}", path.display());
                waiting = true;
            }
            signals.wait(&[], PollTimeout::from(200u16))?;
        }
    }
}

/// Creates `path` with the contents that `write` writes, or replaces it in a single step.
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
            bail!("the network is down")
        })
        .unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        write_whole(&path, 0o755, put(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
    }
}
