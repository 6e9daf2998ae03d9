// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The file system of a booted host, an uncompressed newc archive that the kernel unpacks.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cpio::newc;

use crate::job::{COMMAND_DIRECTORY, JOB, Job, WORKING_DIRECTORY};

/// Upper limit for the files of `--with`, which are unpacked into the host's memory.
const LARGEST_MIB: u64 = 512;

const DIRECTORY: u32 = 0o040000;
const REGULAR: u32 = 0o100000;
const SYMLINK: u32 = 0o120000;
const CHARACTER_DEVICE: u32 = 0o020000;

/// The files of a host, without its job.
#[derive(Debug)]
pub struct Contents<'a> {
    /// `lab-init`, process 1.
    pub init: &'a Path,
    /// A directory to copy to [`WORKING_DIRECTORY`].
    pub with: Option<&'a Path>,
    /// A program to put into [`COMMAND_DIRECTORY`].
    pub added: Option<&'a Path>,
}

impl Contents<'_> {
    /// Writes the start of the archive; [`finish`] writes its end. The same contents give the same bytes.
    pub fn write(&self, out: impl Write) -> Result<()> {
        let mut archive = Archive(BufWriter::new(out));
        for directory in ["proc", "sys", "dev", "tmp", "out"] {
            archive.directory(Path::new(directory), 0o755)?;
        }
        archive.device("dev/console", 5, 1)?;
        archive.device("dev/null", 1, 3)?;
        archive.copy(Path::new("init"), 0o755, self.init)?;
        archive.directory(Path::new(WORKING_DIRECTORY), 0o755)?;
        if let Some(with) = self.with {
            let mut left = LARGEST_MIB << 20;
            archive
                .tree(with, Path::new(WORKING_DIRECTORY), &mut left)
                .with_context(|| format!("cannot copy {} into the host", with.display()))?;
        }
        if let Some(added) = self.added {
            let directory = Path::new(WORKING_DIRECTORY).join(COMMAND_DIRECTORY);
            archive.directory(&directory, 0o755)?;
            archive.copy(&directory.join(added.file_name().unwrap_or_default()), 0o755, added)?;
        }
        archive.0.flush().context("cannot write the initramfs")
    }
}

/// Appends the job of `lab-init` to the contents, and ends the archive.
pub fn finish(out: impl Write, job: &Job) -> Result<()> {
    let job = toml::to_string(job).context("cannot write the job as TOML")?;
    let mut archive = Archive(BufWriter::new(out));
    archive.entry(Path::new(JOB), REGULAR | 0o644, job.len() as u64, &mut job.as_bytes())?;
    let mut out = newc::trailer(archive.0).context("cannot write the initramfs")?;
    out.flush().context("cannot write the initramfs")
}

struct Archive<W: Write>(BufWriter<W>);

impl<W: Write> Archive<W> {
    fn entry(&mut self, path: &Path, mode: u32, size: u64, contents: &mut dyn Read) -> Result<()> {
        self.write(newc::Builder::new(name(path)?).mode(mode), path, size, contents)
    }

    fn write(&mut self, entry: newc::Builder, path: &Path, size: u64, contents: &mut dyn Read) -> Result<()> {
        let failed = || format!("cannot put {} into the initramfs", path.display());
        let size = u32::try_from(size).with_context(failed)?;
        let mut writer = entry.write(&mut self.0, size);
        let copied = io::copy(&mut contents.take(size.into()), &mut writer).with_context(failed)?;
        writer.finish().with_context(failed)?;
        if copied != u64::from(size) {
            bail!("{} became shorter while it was read", path.display());
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path, mode: u32) -> Result<()> {
        self.entry(path, DIRECTORY | mode, 0, &mut io::empty())
    }

    fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        let entry =
            newc::Builder::new(path).mode(CHARACTER_DEVICE | 0o600).rdev_major(major).rdev_minor(minor);
        self.write(entry, Path::new(path), 0, &mut io::empty())
    }

    fn copy(&mut self, path: &Path, mode: u32, source: &Path) -> Result<()> {
        let failed = || format!("cannot read {}", source.display());
        let mut file = File::open(source).with_context(failed)?;
        let size = file.metadata().with_context(failed)?.len();
        self.entry(path, REGULAR | mode, size, &mut file)
    }

    fn tree(&mut self, source: &Path, target: &Path, left: &mut u64) -> Result<()> {
        let failed = |path: &Path| format!("cannot read {}", path.display());
        let entries = fs::read_dir(source).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let mut names: Vec<_> =
            entries.with_context(|| failed(source))?.into_iter().map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names {
            let (from, to) = (source.join(&name), target.join(&name));
            let metadata = from.symlink_metadata().with_context(|| failed(&from))?;
            let mode = metadata.mode() & 0o7777;
            if metadata.is_dir() {
                self.directory(&to, mode)?;
                self.tree(&from, &to, left)?;
            } else if metadata.is_symlink() {
                let link: PathBuf = fs::read_link(&from).with_context(|| failed(&from))?;
                let link = link.as_os_str().as_bytes();
                self.entry(&to, SYMLINK | 0o777, link.len() as u64, &mut { link })?;
            } else if metadata.is_file() {
                let Some(rest) = left.checked_sub(metadata.len()) else {
                    bail!("it contains more than {LARGEST_MIB} MiB, and a host keeps its files in memory");
                };
                *left = rest;
                self.copy(&to, mode, &from)?;
            } else {
                bail!("{} is not a file, a directory or a symbolic link", from.display());
            }
        }
        Ok(())
    }
}

/// A path in the archive, which has no leading slash.
fn name(path: &Path) -> Result<&str> {
    let path = path.strip_prefix("/").unwrap_or(path);
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// The mode, device numbers and contents of each entry.
    type Entries = BTreeMap<String, (u32, (u32, u32), Vec<u8>)>;

    fn entries(archive: &[u8]) -> Entries {
        let mut entries = Entries::new();
        let mut rest = archive;
        loop {
            let mut reader = newc::Reader::new(rest).unwrap();
            let entry = reader.entry();
            if entry.is_trailer() {
                return entries;
            }
            let name = entry.name().to_owned();
            let numbers = (entry.mode(), (entry.rdev_major(), entry.rdev_minor()));
            let mut contents = Vec::new();
            reader.read_to_end(&mut contents).unwrap();
            rest = reader.finish().unwrap();
            assert!(entries.insert(name.clone(), (numbers.0, numbers.1, contents)).is_none(), "{name} twice");
        }
    }

    fn job() -> Job {
        Job {
            program: "/host/.cmd/test".into(),
            arguments: vec!["-v".into()],
            environment: BTreeMap::new(),
            expected_shape: None,
            expected_mode: None,
            now: 0,
        }
    }

    #[test]
    fn a_host_has_init_its_job_the_command_and_the_directory() {
        let here = tempfile::tempdir().unwrap();
        let init = here.path().join("lab-init");
        let added = here.path().join("test");
        let with = here.path().join("with");
        fs::write(&init, "init!").unwrap();
        fs::write(&added, "test").unwrap();
        fs::create_dir_all(with.join("sub")).unwrap();
        fs::write(with.join("sub/tool"), "tool").unwrap();
        fs::set_permissions(with.join("sub/tool"), fs::Permissions::from_mode(0o4750)).unwrap();
        symlink("sub/tool", with.join("link")).unwrap();

        let job = job();
        let contents = Contents { init: &init, with: Some(&with), added: Some(&added) };
        let mut archive = Vec::new();
        contents.write(&mut archive).unwrap();
        finish(&mut archive, &job).unwrap();
        let entries = entries(&archive);

        for directory in ["proc", "sys", "dev", "tmp", "host", "host/sub", "host/.cmd"] {
            assert_eq!(entries[directory].0 & 0o170000, DIRECTORY, "{directory}");
        }
        assert_eq!(entries["dev/console"], (0o020600, (5, 1), vec![]));
        assert_eq!(entries["dev/null"], (0o020600, (1, 3), vec![]));
        assert_eq!(entries["init"], (0o100755, (0, 0), b"init!".to_vec()));
        assert_eq!(entries["host/.cmd/test"], (0o100755, (0, 0), b"test".to_vec()));
        assert_eq!(entries["host/sub/tool"], (0o104750, (0, 0), b"tool".to_vec()));
        assert_eq!(entries["host/link"], (0o120777, (0, 0), b"sub/tool".to_vec()));
        let text = String::from_utf8(entries["job.toml"].2.clone()).unwrap();
        assert_eq!(toml::from_str::<Job>(&text).unwrap(), job);
    }

    #[test]
    fn too_large_directories_and_special_files_are_refused() {
        let here = tempfile::tempdir().unwrap();
        let init = here.path().join("lab-init");
        fs::write(&init, "").unwrap();
        let with = here.path().join("with");
        fs::create_dir(&with).unwrap();
        let error = || {
            let contents = Contents { init: &init, with: Some(&with), added: None };
            format!("{:#}", contents.write(io::sink()).unwrap_err())
        };

        let large = with.join("large");
        File::create(&large).unwrap().set_len((LARGEST_MIB << 20) + 1).unwrap();
        assert!(error().contains("more than 512 MiB"), "{}", error());
        fs::remove_file(large).unwrap();

        let _socket = std::os::unix::net::UnixListener::bind(with.join("socket")).unwrap();
        assert!(error().contains("socket is not a file"), "{}", error());
    }
}
