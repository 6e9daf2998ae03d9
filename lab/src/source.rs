// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The part of a Debian kernel's source that the build of its selftests needs. It is fetched once.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::{Archive, Package, Root, Scope};
use crate::cache::{self, Cache};
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

/// The source of a Debian kernel, as an uncompressed tar archive in the cache.
pub fn archive(kernel: &Choice, cache: &Cache, signals: &Signals) -> Result<PathBuf> {
    let name = match kernel {
        Choice::Path(path) => bail!("{} is an image, and the lab does not have its source", path.display()),
        Choice::Suite(suite) => suite.name(),
        Choice::Newest => "newest",
    };
    let _lock = cache.lock(&format!("sources/{name}"), signals)?;
    let tar = cache.path(format!("sources/{name}.tar"))?;
    if !cache::has(&tar)? {
        fetch(kernel, &tar, cache, signals)
            .with_context(|| format!("cannot fetch the source of the kernel `{name}`"))?;
    }
    Ok(tar)
}

fn fetch(kernel: &Choice, tar: &Path, cache: &Cache, signals: &Signals) -> Result<()> {
    let archive = Archive::of_this_machine(cache, signals)?;
    let look = |suite| find(suite, &archive, cache, signals);
    let (package, root) = match kernel {
        Choice::Suite(suite) => look(*suite)?,
        Choice::Newest | Choice::Path(_) => {
            let (sid, backports) = both(|| look(Suite::Sid), || look(Suite::TrixieBackports))?;
            if backports.0.is_newer_than(&sid.0)? { backports } else { sid }
        }
    };
    let _notice = Notice::new(&format!("fetching {}", package.described()));
    let scratch = cache.scratch()?;
    let (unpacked, tree) = (scratch.path().join("package"), scratch.path().join("tree"));
    let file = root.download(&package)?;
    run(Command::new("dpkg-deb").arg("--extract").args([&file, &unpacked]), signals)?;
    let source = unpacked.join(format!("usr/src/{}.tar.xz", package.name));
    fs::create_dir(&tree).with_context(|| format!("cannot create {}", tree.display()))?;
    let mut extract = Command::new("tar");
    extract.args([
        "--extract",
        "--strip-components=1",
        "--wildcards",
        "--no-wildcards-match-slash",
        "--file",
    ]);
    extract
        .arg(&source)
        .arg("--directory")
        .arg(&tree)
        .args(PARTS.map(|part| format!("linux-source-*/{part}")));
    run(&mut extract, signals)?;
    cache::keep(tar, 0o644, |file| {
        let mut pack = Command::new("tar");
        pack.args(["--create", "--directory"]).arg(&tree).arg(".");
        run_into(file.try_clone().context("cannot duplicate a file descriptor")?, &mut pack, signals)
    })?;
    cache::keep(&tar.with_extension("version"), 0o644, |file| Ok(writeln!(file, "{}", package.version)?))
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
