// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Debian's programs for a host, which has no programs of its own: arm64 packages that are fetched once and unpacked.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::{Archive, Root, Scope};
use crate::cache::{self, Cache};
use crate::interrupt::Signals;
use crate::kernel::Suite;
use crate::tools::{Notice, run, run_into};

/// Directories that are left out, because no program reads them.
const LEFT_OUT: [&str; 4] = ["usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man"];

/// The files of these packages of Debian 13 and of their dependencies, as an uncompressed tar archive in the cache. The
/// packages are not configured: none of their scripts was run.
pub fn archive(packages: &[String], cache: &Cache, signals: &Signals) -> Result<PathBuf> {
    let mut packages = packages.to_vec();
    packages.sort();
    packages.dedup();
    let is_name = |name: &String| {
        name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
    };
    if let Some(name) = packages.iter().find(|name| !is_name(name)) {
        bail!("`{name}` is not the name of a package");
    }
    let name = format!("userlands/{}", packages.join("_"));
    let _lock = cache.lock(&name, signals)?;
    let tar = cache.path(format!("{name}.tar"))?;
    if !cache::has(&tar)? {
        fetch(&packages, &tar, cache, signals)
            .with_context(|| format!("cannot fetch the arm64 packages {}", packages.join(", ")))?;
    }
    Ok(tar)
}

fn fetch(packages: &[String], tar: &Path, cache: &Cache, signals: &Signals) -> Result<()> {
    let archive = Archive::of_this_machine(cache, signals)?;
    let _notice = Notice::new(&format!("fetching {} for arm64", packages.join(", ")));
    let root = Root::new(&Suite::Trixie.sources(&archive), Scope::Arm64, cache, signals)?;
    let scratch = cache.scratch()?;
    let tree = scratch.path();
    for directory in ["bin", "lib", "sbin"] {
        fs::create_dir_all(tree.join("usr").join(directory))
            .and_then(|()| symlink(format!("usr/{directory}"), tree.join(directory)))
            .with_context(|| format!("cannot create {}", tree.join(directory).display()))?;
    }
    for file in root.download_with_dependencies(packages)? {
        run(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(tree), signals)?;
    }
    cache::keep(tar, 0o644, |file| {
        let mut pack = Command::new("tar");
        pack.arg("--create").args(LEFT_OUT.map(|directory| format!("--exclude=./{directory}")));
        pack.arg("--directory").arg(tree).arg(".");
        run_into(file.try_clone().context("cannot duplicate a file descriptor")?, &mut pack, signals)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_packages_are_passed_to_apt() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path()).unwrap();
        let signals = Signals::hold().unwrap();
        for name in ["--yes", "a/b", "../x", "", "bash=1"] {
            let error = archive(&[name.into()], &cache, &signals).unwrap_err().to_string();
            assert_eq!(error, format!("`{name}` is not the name of a package"));
        }
    }

    #[test]
    fn the_archive_does_not_depend_on_the_order_of_the_names() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path()).unwrap();
        let signals = Signals::hold().unwrap();
        let tar = cache.path("userlands/bash_make.tar").unwrap();
        fs::write(&tar, "").unwrap();
        assert_eq!(archive(&["make".into(), "bash".into(), "make".into()], &cache, &signals).unwrap(), tar);
    }
}
