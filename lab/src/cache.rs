// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The directory for files that were fetched or built. Its files appear complete or not at all, and it may be deleted at
//! any time.

use std::env;
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::PollTimeout;
use tempfile::{NamedTempFile, TempDir};

use crate::digest::sha256;
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

    /// A file in `directory` that is removed unless it gets a name.
    pub fn scratch_file(&self, directory: &str) -> Result<NamedTempFile> {
        let place = self.path(format!("{directory}/file"))?.with_file_name("");
        NamedTempFile::new_in(&place).with_context(|| format!("cannot create a file in {}", place.display()))
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

/// Writes a file of the cache with [`write_whole`], and its digest next to it.
pub fn keep(path: &Path, mode: u32, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let mut digest = String::new();
    write_whole(path, mode, |file| {
        write(file)?;
        digest = digest_of(file)?;
        Ok(())
    })?;
    note(path, &digest)
}

/// Whether the cache has this file as [`keep`] wrote it. One that is damaged is removed.
pub fn has(path: &Path) -> Result<bool> {
    if !path.is_file() {
        return Ok(false);
    }
    let failed = || format!("cannot read {}", path.display());
    let digest = digest_of(&mut File::open(path).with_context(failed)?).with_context(failed)?;
    match fs::read_to_string(noted(path)) {
        Ok(noted) if noted.trim_end() == digest => Ok(true),
        // Older labs noted no digest.
        Err(error) if error.kind() == ErrorKind::NotFound => note(path, &digest).map(|()| true),
        _ => {
            eprintln!("lab: {} is damaged: it is removed from the cache", path.display());
            fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
            Ok(false)
        }
    }
}

fn digest_of(file: &mut File) -> Result<String> {
    file.rewind().context("cannot read it again")?;
    sha256(&mut *file).context("cannot read it again")
}

/// The file with the digest of `path`.
fn noted(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}

fn note(path: &Path, digest: &str) -> Result<()> {
    write_whole(&noted(path), 0o644, |file| Ok(writeln!(file, "{digest}")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_noticed_and_removed_and_one_without_a_digest_is_adopted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Image");
        let put = || keep(&path, 0o755, |file| Ok(file.write_all(b"an image")?)).unwrap();
        assert!(!has(&path).unwrap());
        put();
        assert!(has(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        for damaged in [&b"an im"[..], b"", b"an\0image", &[0; 8]] {
            fs::write(&path, damaged).unwrap();
            assert!(!has(&path).unwrap() && !path.exists(), "{damaged:?}");
            put();
        }
        fs::remove_file(noted(&path)).unwrap();
        assert!(has(&path).unwrap(), "an older lab wrote it");
        fs::write(&path, b"").unwrap();
        assert!(!has(&path).unwrap());
    }

    #[test]
    fn a_relative_directory_is_made_absolute() {
        let here = env::current_dir().unwrap();
        let directory = tempfile::tempdir_in(&here).unwrap();
        let relative = directory.path().strip_prefix(&here).unwrap();
        let path = Cache::at(relative).unwrap().path("a").unwrap();
        assert!(path.is_absolute() && path.starts_with(directory.path().canonicalize().unwrap()), "{path:?}");
    }

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
