// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The source of a Debian kernel: all of it, or the part that the build of its selftests needs. It is fetched once.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::{Archive, Package, Root, Scope};
use crate::cache::{self, Cache, write_whole};
use crate::interrupt::Signals;
use crate::kernel::{Choice, Suite};
use crate::pool::both;
use crate::tools::{Notice, run, run_into};

/// The files that `make headers` and `make -C tools/testing/selftests` read.
const PARTS: [&str; 12] = [
    ".gitignore",
    "Kbuild",
    "MAINTAINERS",
    "Makefile",
    "arch/arm64/Makefile",
    "arch/arm64/include",
    "arch/arm64/tools",
    "include/asm-generic",
    "include/uapi",
    "scripts",
    "tools",
    "usr",
];

/// The source of a Debian kernel's selftests, as an uncompressed tar archive in the cache.
pub fn archive(kernel: &Choice, cache: &Cache, signals: &Signals) -> Result<PathBuf> {
    let name = name(kernel)?;
    let _lock = cache.lock(&format!("sources/{name}"), signals)?;
    let tar = cache.path(format!("sources/{name}.tar"))?;
    if !cache::has(&tar)? {
        let (source, _) = fetched(kernel, &name, cache, signals)?;
        let scratch = cache.scratch()?;
        unpack(&source, scratch.path(), &PARTS, signals)?;
        cache::keep(&tar, 0o644, |file| {
            let mut pack = Command::new("tar");
            pack.args(["--create", "--directory"]).arg(scratch.path()).arg(".");
            run_into(file.try_clone().context("cannot duplicate a file descriptor")?, &mut pack, signals)
        })?;
    }
    Ok(tar)
}

/// The whole source of a Debian kernel, as a tree in the cache, and its version.
pub fn tree(kernel: &Choice, cache: &Cache, signals: &Signals) -> Result<(PathBuf, String)> {
    let name = name(kernel)?;
    let _lock = cache.lock(&format!("sources/{name}"), signals)?;
    let tree = cache.path(format!("sources/{name}"))?;
    let (source, version) = fetched(kernel, &name, cache, signals)?;
    let unpacked = tree.join(".version");
    if fs::read_to_string(&unpacked).ok().as_ref() != Some(&version) {
        let _notice = Notice::new(&format!("unpacking linux-source {version}"));
        let scratch = cache.scratch()?;
        let new = scratch.path().join("tree");
        fs::create_dir(&new).with_context(|| format!("cannot create {}", new.display()))?;
        unpack(&source, &new, &[], signals)?;
        let failed = || format!("cannot replace {}", tree.display());
        fs::write(new.join(".version"), &version).with_context(failed)?;
        match fs::remove_dir_all(&tree) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.with_context(failed)?,
        }
        fs::rename(&new, &tree).with_context(failed)?;
    }
    Ok((tree, version))
}

fn name(kernel: &Choice) -> Result<String> {
    match kernel {
        Choice::Suite(_) | Choice::Newest => Ok(kernel.to_string()),
        Choice::Path(_) | Choice::Changed { .. } => bail!("{kernel} is not a kernel of Debian's"),
    }
}

/// The archive in the package with a kernel's source, and the package's version.
fn fetched(kernel: &Choice, name: &str, cache: &Cache, signals: &Signals) -> Result<(PathBuf, String)> {
    let (source, version) = (format!("sources/{name}.tar.xz"), format!("sources/{name}.tar.xz.version"));
    let (source, version) = (cache.path(source)?, cache.path(version)?);
    if !cache::has(&source)? || !version.is_file() {
        fetch(kernel, &source, &version, cache, signals)
            .with_context(|| format!("cannot fetch the source of the kernel `{name}`"))?;
    }
    let version =
        fs::read_to_string(&version).with_context(|| format!("cannot read {}", version.display()))?;
    Ok((source, version.trim_end().to_owned()))
}

fn fetch(kernel: &Choice, source: &Path, version: &Path, cache: &Cache, signals: &Signals) -> Result<()> {
    let archive = Archive::of_this_machine(cache, signals)?;
    let look = |suite| find(suite, &archive, cache, signals);
    let (package, root) = if let Choice::Suite(suite) = kernel {
        look(*suite)?
    } else {
        let (sid, backports) = both(|| look(Suite::Sid), || look(Suite::TrixieBackports))?;
        if backports.0.is_newer_than(&sid.0)? { backports } else { sid }
    };
    let _notice = Notice::new(&format!("fetching {}", package.described()));
    let scratch = cache.scratch()?;
    let file = root.download(&package)?;
    run(Command::new("dpkg-deb").arg("--extract").args([&file, scratch.path()]), signals)?;
    let inside = scratch.path().join(format!("usr/src/{}.tar.xz", package.name));
    cache::keep(source, 0o644, |file| {
        let mut inside = File::open(&inside).with_context(|| format!("cannot open {}", inside.display()))?;
        io::copy(&mut inside, file).context("cannot copy it")?;
        Ok(())
    })?;
    write_whole(version, 0o644, |file| Ok(writeln!(file, "{}", package.version)?))
}

/// Unpacks these parts of a kernel's source, or all if none is named.
fn unpack(source: &Path, directory: &Path, parts: &[&str], signals: &Signals) -> Result<()> {
    let mut extract = Command::new("tar");
    extract.args([
        "--extract",
        "--strip-components=1",
        "--wildcards",
        "--no-wildcards-match-slash",
        "--no-same-owner",
        "--file",
    ]);
    extract.arg(source).arg("--directory").arg(directory);
    extract.args(parts.iter().map(|part| format!("linux-source-*/{part}")));
    run(&mut extract, signals)?;
    Ok(())
}

/// The package with a suite's newest source, and the root from which it can be downloaded.
fn find<'a>(
    suite: Suite,
    archive: &Archive,
    cache: &Cache,
    signals: &'a Signals,
) -> Result<(Package, Root<'a>)> {
    let _notice = Notice::new(&format!("looking for the newest source in {}", suite.name()));
    let root = Root::new(&suite.sources(archive), Scope::Arm64, cache, signals)?;
    let newest = root.show("linux-source")?;
    let versioned = newest.depends.iter().find(|name| name.starts_with("linux-source-"));
    let versioned =
        versioned.with_context(|| format!("linux-source {} depends on no source", newest.version))?;
    let package = root.show(versioned)?;
    Ok((package, root))
}
