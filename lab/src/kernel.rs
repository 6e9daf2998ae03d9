// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Debian's arm64 kernels: choosing one, and fetching its image once.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::apt::{Archive, Package, Root, Scope};
use crate::cache::{self, Cache, write_whole};
use crate::interrupt::Signals;
use crate::pool::both;
use crate::tools::{Notice, run_into};

/// A Debian suite whose kernel the lab can boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
    /// Debian unstable.
    Sid,
    /// The newest kernels, built for Debian 13.
    TrixieBackports,
}

impl Suite {
    const ALL: [Self; 4] = [Self::Bookworm, Self::Trixie, Self::Sid, Self::TrixieBackports];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
            Self::TrixieBackports => "trixie-backports",
        }
    }

    pub(crate) fn sources(self, archive: &Archive) -> String {
        archive.sources(self.name(), matches!(self, Self::Bookworm | Self::Trixie))
    }
}

/// Which kernel a host boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The kernel of a suite.
    Suite(Suite),
    /// The newer one of the kernels of sid and trixie-backports.
    Newest,
    /// The image at this path.
    Path(PathBuf),
}

/// The name of [`Choice::Newest`], in hosts.toml and in the cache.
const NEWEST: &str = "newest";

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == NEWEST {
            Ok(Self::Newest)
        } else if let Some(suite) = Suite::ALL.into_iter().find(|suite| suite.name() == text) {
            Ok(Self::Suite(suite))
        } else if text.contains('/') {
            Ok(Self::Path(text.into()))
        } else {
            let suites = Suite::ALL.map(Suite::name).join(", ");
            Err(format!(
                "`{text}` is not a kernel: use {suites}, {NEWEST} or a path (with a `/`, as in ./Image)"
            ))
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suite(suite) => f.write_str(suite.name()),
            Self::Newest => f.write_str(NEWEST),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

impl Choice {
    /// The kernel's image. It comes from the cache, or from the network if it is not in the cache or if `refresh` is set
    /// and there is a newer one.
    pub fn image(&self, refresh: bool, cache: &Cache, signals: &Signals) -> Result<PathBuf> {
        let name = match self {
            Self::Path(path) => {
                check_path(path).with_context(|| format!("cannot boot the kernel {}", path.display()))?;
                return Ok(path.clone());
            }
            Self::Suite(suite) => suite.name(),
            Self::Newest => NEWEST,
        };
        let _lock = cache.lock(&format!("kernels/{name}"), signals)?;
        let image = cache.path(format!("kernels/{name}"))?.join("Image");
        if !cache::has(&image)? || refresh {
            self.fetch(cache, signals).with_context(|| format!("cannot fetch the kernel `{name}`"))?;
        }
        Ok(image)
    }

    fn fetch(&self, cache: &Cache, signals: &Signals) -> Result<()> {
        let archive = Archive::of_this_machine(cache, signals)?;
        let look = |suite| Candidate::find(suite, &archive, cache, signals);
        match self {
            Self::Path(_) => Ok(()),
            Self::Suite(suite) => look(*suite)?.fetch(cache, signals),
            Self::Newest => {
                let (sid, backports) = both(|| look(Suite::Sid), || look(Suite::TrixieBackports))?;
                let newer = if backports.package.is_newer_than(&sid.package)? { backports } else { sid };
                // The two locks are always taken in this order: first `newest`, then the suite's.
                let _lock = cache.lock(&format!("kernels/{}", newer.suite.name()), signals)?;
                newer.fetch(cache, signals)?;
                point(&cache.path(format!("kernels/{NEWEST}"))?, newer.suite.name(), cache)
            }
        }
    }
}

/// Creates the symbolic link `link`, or changes its target in a single step.
fn point(link: &Path, target: &str, cache: &Cache) -> Result<()> {
    let scratch = cache.scratch()?;
    let new = scratch.path().join("link");
    symlink(target, &new)
        .and_then(|()| fs::rename(&new, link))
        .with_context(|| format!("cannot create the link {}", link.display()))
}

/// The package that contains a suite's newest image.
struct Candidate<'a> {
    suite: Suite,
    package: Package,
    root: Root<'a>,
}

impl<'a> Candidate<'a> {
    fn find(suite: Suite, archive: &Archive, cache: &Cache, signals: &'a Signals) -> Result<Self> {
        let _notice = Notice::new(&format!("looking for the newest kernel in {}", suite.name()));
        let root = Root::new(&suite.sources(archive), Scope::Arm64, cache, signals)?;
        // linux-image-arm64 depends on linux-image-VERSION-arm64, which contains the image up to 6.12. Since 7.x that
        // depends on linux-binary-VERSION-arm64, which contains it.
        let mut package = root.show("linux-image-arm64")?;
        for beginning in ["linux-image-", "linux-binary-"] {
            let versioned = |name: &&String| {
                name.strip_prefix(beginning)
                    .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
            };
            match package.depends.iter().find(versioned) {
                Some(name) => package = root.show(name)?,
                None if beginning == "linux-binary-" => {}
                None => bail!("{} {} does not depend on {beginning}VERSION", package.name, package.version),
            }
        }
        Ok(Self { suite, package, root })
    }

    /// Puts the image and its version into the cache, unless the cache has that version.
    fn fetch(&self, cache: &Cache, signals: &Signals) -> Result<()> {
        let Package { name, version, .. } = &self.package;
        let image = cache.path(format!("kernels/{}/Image", self.suite.name()))?;
        let noted = image.with_file_name("version");
        if image.is_file() && fs::read_to_string(&noted).is_ok_and(|noted| noted.trim_end() == version) {
            return Ok(());
        }
        let _notice =
            Notice::new(&format!("fetching {} from {}", self.package.described(), self.suite.name()));
        let package = self.root.download(&self.package)?;
        cache::keep(&image, 0o644, |file| {
            extract(&package, file, signals)?;
            check_image(file).with_context(|| format!("cannot find the image in {name} {version}"))
        })?;
        write_whole(&noted, 0o644, |file| Ok(writeln!(file, "{version}")?))
    }
}

/// Copies the image from a package: boot/vmlinuz-VERSION, or usr/lib/modules/VERSION/vmlinuz since 7.x.
fn extract(package: &Path, image: &File, signals: &Signals) -> Result<()> {
    let mut files = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let archive = files.stdout.take().expect("stdout is piped");
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--to-stdout", "--wildcards", "*/vmlinuz*"]).stdin(archive);
    let unpacked =
        run_into(image.try_clone().context("cannot duplicate a file descriptor")?, &mut tar, signals);
    // tar's end of the pipe must be closed before this waits for dpkg-deb.
    drop(tar);
    let status = files.wait().context("cannot wait for dpkg-deb")?;
    unpacked?;
    if !status.success() {
        bail!("`dpkg-deb --fsys-tarfile {}` failed ({status})", package.display());
    }
    Ok(())
}

/// Checks that QEMU can boot the file at `path`. Opening a FIFO would wait for a writer.
fn check_path(path: &Path) -> Result<()> {
    if !fs::metadata(path)?.is_file() {
        bail!("it is not a file (a kernel build makes one at arch/arm64/boot/Image)");
    }
    check_image(&File::open(path)?)
}

/// Checks that QEMU can boot a file: an arm64 Image, plain, gzipped or wrapped for EFI.
fn check_image(file: &File) -> Result<()> {
    let mut head = [0; 64];
    let read = file.read_at(&mut head, 0).context("cannot read it")?;
    let is_arm64 = match &head {
        _ if read < head.len() => false,
        [b'M', b'Z', _, _, b'z', b'i', b'm', b'g', ..] => is_for_arm64(file, &head)?,
        [0x1f, 0x8b, ..] => is_plain(&unpacked_head(file)?),
        head => is_plain(head),
    };
    if !is_arm64 {
        bail!(
            "it is not an arm64 kernel Image (a kernel build makes it at arch/arm64/boot/Image, not vmlinux)"
        );
    }
    Ok(())
}

/// The header of an arm64 Image (Documentation/arch/arm64/booting.rst).
fn is_plain(head: &[u8]) -> bool {
    head.get(56..60) == Some(b"ARM\x64")
}

/// Whether an image that is wrapped for EFI is for arm64: the machine in its PE header.
fn is_for_arm64(file: &File, head: &[u8; 64]) -> Result<bool> {
    let place = u32::from_le_bytes([head[60], head[61], head[62], head[63]]);
    let mut header = [0; 6];
    let read = file.read_at(&mut header, place.into()).context("cannot read it")?;
    Ok(read == header.len() && header == *b"PE\0\0\x64\xaa")
}

/// The first bytes that a gzipped file contains.
fn unpacked_head(file: &File) -> Result<Vec<u8>> {
    let input = file.try_clone().context("cannot duplicate a file descriptor")?;
    let mut gzip = Command::new("gzip")
        .args(["--decompress", "--stdout"])
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run gzip")?;
    let mut head = Vec::new();
    let output = gzip.stdout.take().expect("stdout is piped");
    let read = output.take(64).read_to_end(&mut head);
    // The rest is not wanted.
    let _ = gzip.kill();
    gzip.wait().context("cannot wait for gzip")?;
    read.context("cannot unpack it")?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_suites_newest_or_paths() {
        for suite in Suite::ALL {
            assert_eq!(suite.name().parse(), Ok(Choice::Suite(suite)));
        }
        assert_eq!("newest".parse(), Ok(Choice::Newest));
        assert_eq!("./Image".parse(), Ok(Choice::Path("./Image".into())));
        let error = "buster".parse::<Choice>().unwrap_err();
        assert!(error.contains("bookworm, trixie, sid, trixie-backports, newest"), "{error}");
    }

    #[test]
    fn a_kernel_given_by_path_is_checked_before_it_is_booted() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path()).unwrap();
        let signals = Signals::hold().unwrap();
        let path = directory.path().join("Image");
        let choice = Choice::Path(path.clone());
        let error = format!("{:#}", choice.image(false, &cache, &signals).unwrap_err());
        assert!(error.contains("Image: No such file"), "{error}");

        fs::write(&path, b"\x7fELF").unwrap();
        let error = format!("{:#}", choice.image(false, &cache, &signals).unwrap_err());
        assert!(error.contains("arch/arm64/boot/Image"), "{error}");

        let mut image = [0; 64];
        image[56..60].copy_from_slice(b"ARM\x64");
        fs::write(&path, image).unwrap();
        assert_eq!(choice.image(false, &cache, &signals).unwrap(), path);

        let wrapped = |machine: &[u8]| {
            let mut image = b"MZ\0\0zimg".to_vec();
            image.resize(60, 0);
            image.extend(64_u32.to_le_bytes());
            [&image, &b"PE\0\0"[..], machine].concat()
        };
        fs::write(&path, wrapped(b"\x64\xaa")).unwrap();
        assert_eq!(choice.image(false, &cache, &signals).unwrap(), path);
        fs::write(&path, wrapped(b"\x64\x86")).unwrap();
        let error = format!("{:#}", choice.image(false, &cache, &signals).unwrap_err());
        assert!(error.contains("not an arm64 kernel Image"), "x86: {error}");
    }

    #[test]
    fn a_kernel_that_is_not_a_file_is_an_error_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [&fifo, directory.path()] {
            let error = format!("{:#}", check_path(path).unwrap_err());
            assert!(error.contains("it is not a file"), "{error}");
        }
    }

    #[test]
    fn a_gzipped_image_is_checked_too() {
        // Lab hosts have no tools.
        if !Path::new("/bin/gzip").exists() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let gzipped = |bytes: &[u8]| {
            let path = directory.path().join("Image");
            fs::write(&path, bytes).unwrap();
            assert!(Command::new("gzip").arg("--force").arg(&path).status().unwrap().success());
            check_path(&path.with_extension("gz"))
        };
        let mut image = [0; 1 << 20];
        assert!(gzipped(&image).is_err());
        image[56..60].copy_from_slice(b"ARM\x64");
        gzipped(&image).unwrap();
    }

    #[test]
    fn a_link_changes_its_target_in_one_step() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path()).unwrap();
        let link = cache.path("kernels/newest").unwrap();
        for target in ["sid", "trixie-backports"] {
            point(&link, target, &cache).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
