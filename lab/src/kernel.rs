// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Kernels for hosts: Debian's, whose images are fetched once, images of one's own, and trees, which are built.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::apt::{Archive, Package, Root, Scope};
use crate::cache::{self, Cache, write_whole};
use crate::digest;
use crate::interrupt::Signals;
use crate::kernel_source::{self, Tree};
use crate::pool::both;
use crate::protocol::printable;
use crate::source;
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Choice {
    /// The kernel of a suite.
    Suite(Suite),
    /// The newer one of the kernels of sid and trixie-backports.
    Newest,
    /// The image, or the kernel tree, at this path.
    Path(PathBuf),
    /// The source of a Debian kernel, or a kernel tree, with patches.
    Changed {
        /// The kernel.
        base: Box<Choice>,
        /// The patches, as [`kernel_source::changes_of`] takes them. There may be none: then the lab builds what Debian did.
        patches: Vec<String>,
    },
}

/// A kernel that a host can boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The image.
    pub path: PathBuf,
    /// What it was built of, if the lab built it.
    pub source: Option<String>,
}

impl Image {
    /// What distinguishes it from other kernels.
    pub fn identity(&self) -> Result<Identity> {
        let failed = || format!("cannot read {}", self.path.display());
        let sha256 = digest::sha256(File::open(&self.path).with_context(failed)?).with_context(failed)?;
        Ok(Identity { sha256, source: self.source.clone() })
    }
}

/// What distinguishes a kernel from others, also from those of the same version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The image's digest.
    pub sha256: String,
    /// What it was built of, if the lab built it.
    pub source: Option<String>,
}

/// What comes before each patch in the text of a choice.
const PATCH: char = ',';

/// The name of [`Choice::Newest`], in hosts.toml and in the cache.
const NEWEST: &str = "newest";

impl From<Choice> for String {
    fn from(choice: Choice) -> Self {
        choice.to_string()
    }
}

impl TryFrom<String> for Choice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((base, patches)) = text.split_once(PATCH) {
            let patches = patches.split(PATCH).filter(|patch| !patch.is_empty()).map(ToOwned::to_owned);
            Ok(Self::Changed { base: Box::new(base.parse()?), patches: patches.collect() })
        } else if text == NEWEST {
            Ok(Self::Newest)
        } else if let Some(suite) = Suite::ALL.into_iter().find(|suite| suite.name() == text) {
            Ok(Self::Suite(suite))
        } else if text.contains('/') {
            Ok(Self::Path(text.into()))
        } else {
            let suites = Suite::ALL.map(Suite::name).join(", ");
            Err(format!(
                "`{text}` is not a kernel: use {suites}, {NEWEST} or the path of an image or a tree (with a `/`, as in ./Image)"
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
            Self::Changed { base, patches } => write!(f, "{base}{PATCH}{}", patches.join(&PATCH.to_string())),
        }
    }
}

impl Choice {
    /// The kernel's image. Debian's comes from the cache, or from the network if it is not in the cache or if `refresh` is
    /// set and there is a newer one; that of a tree, or with patches, is built if the source differs from the last build.
    pub fn image(&self, refresh: bool, cache: &Cache, signals: &Signals) -> Result<Image> {
        let failed = || format!("cannot boot the kernel {self}");
        let name = match self {
            Self::Path(path) if path.is_dir() => {
                return built(&Tree::open(path).with_context(failed)?, &[], cache, signals)
                    .with_context(failed);
            }
            Self::Path(path) => {
                check_path(path).with_context(failed)?;
                return Ok(Image { path: path.clone(), source: None });
            }
            Self::Changed { base, patches } => {
                let tree = base.tree(cache, signals).with_context(failed)?;
                return built(&tree, patches, cache, signals).with_context(failed);
            }
            Self::Suite(suite) => suite.name(),
            Self::Newest => NEWEST,
        };
        let _lock = cache.lock(&format!("kernels/{name}"), signals)?;
        let image = cache.path(format!("kernels/{name}"))?.join("Image");
        if !cache::has(&image)? || refresh {
            self.fetch(cache, signals).with_context(|| format!("cannot fetch the kernel `{name}`"))?;
        }
        Ok(Image { path: image, source: None })
    }

    /// The tree to which patches are applied.
    pub fn tree(&self, cache: &Cache, signals: &Signals) -> Result<Tree> {
        match self {
            Self::Path(path) if path.is_file() => {
                bail!("{} is an image, to which no patch can be applied: name the tree", path.display())
            }
            Self::Path(path) => Tree::open(path),
            Self::Changed { .. } => bail!("{self} is changed already"),
            Self::Suite(_) | Self::Newest => {
                let (tree, version) = source::tree(self, cache, signals)?;
                Ok(Tree::open(&tree)?.called(format!("Debian's linux-source {version}")))
            }
        }
    }

    fn fetch(&self, cache: &Cache, signals: &Signals) -> Result<()> {
        let archive = Archive::of_this_machine(cache, signals)?;
        let look = |suite| Candidate::find(suite, &archive, cache, signals);
        match self {
            Self::Path(_) | Self::Changed { .. } => Ok(()),
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

/// The image of a tree with patches.
fn built(tree: &Tree, patches: &[String], cache: &Cache, signals: &Signals) -> Result<Image> {
    let scratch = cache.scratch()?;
    let changes = kernel_source::changes_of(patches, tree, scratch.path(), signals)?;
    let mut source = tree.described(signals)?;
    if !patches.is_empty() {
        let name = |patch: &String| patch.rsplit('/').next().unwrap_or_default().to_owned();
        source = format!("{source} with {}", patches.iter().map(name).collect::<Vec<_>>().join(", "));
    }
    let path = kernel_source::build(tree, &changes, cache, signals)?;
    Ok(Image { path, source: Some(printable(source.as_bytes())) })
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
        let changed = |base: Choice, patches: &[&str]| {
            let patches = patches.iter().map(ToString::to_string).collect();
            Choice::Changed { base: Box::new(base), patches }
        };
        assert_eq!("newest,".parse(), Ok(changed(Choice::Newest, &[])));
        let series = changed(Choice::Path("../linux".into()), &["a.mbox", "v7.3..x"]);
        assert_eq!(series.to_string().parse(), Ok(series));
        assert!("buster,a.patch".parse::<Choice>().unwrap_err().contains("`buster`"));
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
        assert_eq!(choice.image(false, &cache, &signals).unwrap().path, path);

        let wrapped = |machine: &[u8]| {
            let mut image = b"MZ\0\0zimg".to_vec();
            image.resize(60, 0);
            image.extend(64_u32.to_le_bytes());
            [&image, &b"PE\0\0"[..], machine].concat()
        };
        fs::write(&path, wrapped(b"\x64\xaa")).unwrap();
        assert_eq!(choice.image(false, &cache, &signals).unwrap().path, path);
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
