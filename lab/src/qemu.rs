// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Finding QEMU, or installing it.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use crate::apt::{Archive, Root, Scope};
use crate::cache::Cache;
use crate::interrupt::Signals;
use crate::tools::{Notice, run};

const PROGRAM: &str = "qemu-system-aarch64";
/// Debian's package with the program.
const PACKAGE: &str = "qemu-system-arm";
/// The first version whose CPUs and debug exceptions the lab was tested with. Older versions do not have neoverse-v1.
const NEEDED: Version = Version { major: 10, minor: 0 };

/// The part of a version that the lab compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// Reads a version in the form `10.0.2 (Debian 1:10.0.2+ds-2)` or `1:10.0.2+ds-2`.
    fn parse(text: &str) -> Option<Self> {
        let text = text
            .split_once(':')
            .filter(|(epoch, _)| epoch.parse::<u32>().is_ok())
            .map_or(text, |(_, rest)| rest);
        let mut numbers = text.split(|character: char| !character.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Finds a QEMU that is new enough: `$DFR0_QEMU`, or the one on PATH. If there is none, installs it.
pub fn find(cache: &Cache, signals: &Signals) -> Result<PathBuf> {
    if let Some(path) = env::var_os("DFR0_QEMU").map(PathBuf::from) {
        let version = version_of(&path, signals).context("DFR0_QEMU must name a qemu-system-aarch64")?;
        if version < NEEDED {
            bail!("DFR0_QEMU={} is QEMU {version}, and the lab needs {NEEDED} or later", path.display());
        }
        return Ok(path);
    }
    let too_old = match on_path() {
        Some(path) => match version_of(&path, signals)? {
            version if version >= NEEDED => return Ok(path),
            version => Some((path, version)),
        },
        None => None,
    };
    let found = match &too_old {
        Some((path, version)) => format!("{} is QEMU {version}", path.display()),
        None => format!("{PROGRAM} is not on PATH"),
    };
    if env::var_os("DFR0_NO_INSTALL").is_some_and(|value| !value.is_empty()) {
        bail!(
            "{found}, and with DFR0_NO_INSTALL the lab does not install Debian's {PACKAGE}: install QEMU {NEEDED} or \
             later, or set DFR0_QEMU to its path"
        );
    }
    install(cache, signals).with_context(|| {
        format!("{found}, and the installation failed (set DFR0_QEMU to the path of another QEMU)")
    })?;
    let path = on_path().with_context(|| format!("{PACKAGE} is installed, but {PROGRAM} is not on PATH"))?;
    match version_of(&path, signals)? {
        version if version >= NEEDED => Ok(path),
        version => bail!("{PACKAGE} was installed, but {} is still QEMU {version}", path.display()),
    }
}

fn on_path() -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|directory| directory.join(PROGRAM))
        .find(|path| path.is_file())
}

/// QEMU's version as QEMU prints it, for example `10.0.2 (Debian 1:10.0.2+ds-2)`.
pub fn version_text(path: &Path, signals: &Signals) -> Result<String> {
    let text = run(Command::new(path).arg("--version"), signals)?;
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("QEMU emulator version ")
        .map(ToOwned::to_owned)
        .with_context(|| format!("`{} --version` printed no QEMU version: {line:?}", path.display()))
}

fn version_of(path: &Path, signals: &Signals) -> Result<Version> {
    let text = version_text(path, signals)?;
    Version::parse(&text)
        .with_context(|| format!("`{} --version` printed no version number: {text:?}", path.display()))
}

fn install(cache: &Cache, signals: &Signals) -> Result<()> {
    let _lock = cache.lock("install", signals)?;
    let newest = run(Command::new("apt-cache").args(["policy", PACKAGE]), signals)?;
    let mut arguments: Vec<OsString> =
        vec!["install".into(), "--yes".into(), "--no-install-recommends".into(), "--quiet".into()];
    let (root, origin);
    match candidate(&newest) {
        Some((text, version)) if version >= NEEDED => {
            origin = format!("{PACKAGE} {text} from this machine's apt sources");
            arguments.push(PACKAGE.into());
        }
        _ => {
            let archive = Archive::of_this_machine(cache, signals)?;
            let release = archive.release().with_context(|| {
                format!(
                    "this machine's apt sources contain no release of Debian: install QEMU {NEEDED} or later"
                )
            })?;
            let backports = format!("{release}-backports");
            let sources = archive.sources(release, true) + &archive.sources(&backports, false);
            root = Root::new(&sources, Scope::ThisMachine, cache, signals)?;
            origin = format!("{PACKAGE} from {backports}");
            arguments.extend(root.options());
            arguments.extend(["--target-release".into(), backports.into(), PACKAGE.into()]);
        }
    }
    let _notice = Notice::new(&format!("installing {origin}"));
    let mut command = if Uid::effective().is_root() {
        Command::new("apt-get")
    } else {
        let mut command = Command::new("sudo");
        command.args(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    };
    run(command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments), signals)?;
    Ok(())
}

/// The candidate version in the output of `apt-cache policy`.
fn candidate(policy: &str) -> Option<(&str, Version)> {
    let text = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    Some((text, Version::parse(text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_qemu_and_of_debian_are_read() {
        let version = |major, minor| Some(Version { major, minor });
        assert_eq!(Version::parse("10.0.2 (Debian 1:10.0.2+ds-2~bpo12+1)"), version(10, 0));
        assert_eq!(Version::parse("1:7.2+dfsg-7+deb12u15"), version(7, 2));
        assert_eq!(Version::parse("11.1.0-rc1"), version(11, 1));
        assert_eq!(Version::parse("9.2.50 (v9.2.0-1: x)"), version(9, 2));
        for text in ["", "(none)", "ten", "10", "1:", "99999999999.0"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
        assert!(
            version(9, 2) < Some(NEEDED) && version(10, 0) >= Some(NEEDED) && version(11, 0) > Some(NEEDED)
        );
    }

    #[test]
    fn the_candidate_is_read() {
        let policy = "qemu-system-arm:\n  Installed: (none)\n  Candidate: 1:7.2+dfsg-7\n  Version table:\n";
        assert_eq!(candidate(policy), Some(("1:7.2+dfsg-7", Version { major: 7, minor: 2 })));
        assert_eq!(candidate("qemu-system-arm:\n  Candidate: (none)\n"), None);
        assert_eq!(candidate(""), None);
    }
}
