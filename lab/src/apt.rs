// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Packages of any Debian suite, through a private apt root that the system's apt does not see.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::cache::Cache;
use crate::interrupt::Signals;
use crate::tools::run;

/// What a private root takes back of the machine's configuration, which may have proxies that are needed: hooks, and indexes
/// other than that of packages, which an archive need not have.
const CONFIGURATION: &str = r#"#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets;
Acquire::IndexTargets::deb::Packages {
    MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
    flatMetaKey "Packages";
    ShortDescription "Packages";
    Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages";
    Optional "no";
};
"#;
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The Debian archive that this machine uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    main: String,
    security: Option<String>,
    release: Option<String>,
}

impl Archive {
    /// Takes the archive's URI from `$DFR0_DEBIAN_ARCHIVE`, or reads its URIs from the machine's own apt sources.
    pub fn of_this_machine(cache: &Cache, signals: &Signals) -> Result<Self> {
        if !Path::new(KEYRING).is_file() {
            bail!(
                "{KEYRING} is missing: install debian-archive-keyring, or name a kernel with `--kernel PATH`"
            );
        }
        if let Ok(main) = std::env::var("DFR0_DEBIAN_ARCHIVE") {
            return Ok(Self { main, security: None, release: None });
        }
        if let Some(archive) = Self::parse(&run(&mut index_targets(), signals)?) {
            return Ok(archive);
        }
        // A fresh container has sources but no lists, and apt reads an archive's origin from its lists.
        let scratch = cache.scratch()?;
        let mut private = options(&[("Dir::State::Lists", scratch.path()), ("Dir::Cache", scratch.path())]);
        private.extend(configuration(scratch.path())?);
        run(Command::new("apt-get").args(["update", "-q"]).args(&private), signals)?;
        Self::parse(&run(index_targets().args(&private), signals)?).context(
            "this machine's apt sources contain no Debian archive (`apt-get indextargets` shows none with Origin \
             and Label Debian): set DFR0_DEBIAN_ARCHIVE to the URI of one, or name a kernel with `--kernel PATH`",
        )
    }

    fn parse(targets: &str) -> Option<Self> {
        let of = |label: &str| -> Vec<(&str, &str)> {
            let origin = format!("|Debian|{label}");
            targets.lines().filter_map(|line| line.strip_suffix(&origin)?.split_once('|')).collect()
        };
        let uri = |targets: &[(&str, &str)]| Some(targets.first()?.0.trim_end_matches('/').to_owned());
        let (main, security) = (of("Debian"), of("Debian-Security"));
        let release = main.iter().map(|(_, codename)| *codename).find(|codename| !codename.contains('-'));
        Some(Self { main: uri(&main)?, security: uri(&security), release: release.map(str::to_owned) })
    }

    /// The codename of the release that this machine's apt installs from, if it is known.
    pub fn release(&self) -> Option<&str> {
        self.release.as_deref()
    }

    /// The lines of sources.list for `suite`, including its updates if it is a release.
    pub fn sources(&self, suite: &str, release: bool) -> String {
        let line = |uri: &str, suite: &str| format!("deb [signed-by={KEYRING}] {uri} {suite} main\n");
        let mut lines = line(&self.main, suite);
        if release {
            lines += &line(&self.main, &format!("{suite}-updates"));
            if let Some(security) = &self.security {
                lines += &line(security, &format!("{suite}-security"));
            }
        }
        lines
    }
}

fn index_targets() -> Command {
    let mut command = Command::new("apt-get");
    command.args([
        "indextargets",
        "--format",
        "$(REPO_URI)|$(CODENAME)|$(ORIGIN)|$(LABEL)",
        "Created-By: Packages",
    ]);
    command
}

/// The purpose of a private root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Reading about and downloading arm64 packages.
    Arm64,
    /// Installing packages on this machine.
    ThisMachine,
}

/// An apt with its own sources, lists and cache.
#[derive(Debug)]
pub struct Root<'a> {
    directory: TempDir,
    scope: Scope,
    signals: &'a Signals,
}

impl<'a> Root<'a> {
    /// Makes a root with these lines of sources.list and fetches their package lists.
    pub fn new(sources: &str, scope: Scope, cache: &Cache, signals: &'a Signals) -> Result<Self> {
        let root = Self { directory: cache.scratch()?, scope, signals };
        let directory = root.directory.path();
        let failed = || format!("cannot fill {}", directory.display());
        fs::write(directory.join("sources.list"), sources).with_context(failed)?;
        fs::write(directory.join("status"), "").with_context(failed)?;
        configuration(directory)?;
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(part)).with_context(failed)?;
        }
        run(root.command("apt-get").args(["update", "-q"]), signals)
            .context("cannot fetch the package lists")?;
        Ok(root)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(self.options());
        command
    }

    /// The options that make an apt command use this root.
    pub fn options(&self) -> Vec<OsString> {
        let directory = self.directory.path();
        let mut options = options(&[
            ("Dir::Etc::SourceList", &directory.join("sources.list")),
            ("Dir::Etc::SourceParts", Path::new("/dev/null")),
            ("Dir::State::Lists", &directory.join("lists")),
            ("Dir::Cache", &directory.join("cache")),
        ]);
        options.extend(["-c".into(), directory.join("apt.conf").into()]);
        if self.scope == Scope::Arm64 {
            options.extend(self::options(&[
                ("Dir::State::status", &directory.join("status")),
                ("APT::Architecture", Path::new("arm64")),
                ("APT::Architectures", Path::new("arm64")),
            ]));
        }
        options
    }

    /// The newest version of `package`.
    pub fn show(&self, package: &str) -> Result<Package> {
        let text = run(self.command("apt-cache").args(["show", "--no-all-versions", package]), self.signals)?;
        Package::parse(&text)
            .with_context(|| format!("`apt-cache show {package}` printed no complete package"))
    }

    /// Downloads packages and everything that they depend on, and returns the files, which exist as long as the root.
    pub fn download_with_dependencies(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        let mut command = self.command("apt-get");
        command.args(["install", "-q", "--yes", "--download-only", "--no-install-recommends"]).args(packages);
        run(&mut command, self.signals)?;
        let directory = self.directory.path().join("cache/archives");
        let mut files: Vec<_> = fs::read_dir(&directory)
            .with_context(|| format!("cannot read {}", directory.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect();
        files.sort();
        Ok(files)
    }

    /// Downloads a package and returns its file, which exists as long as the root.
    pub fn download(&self, package: &Package) -> Result<PathBuf> {
        let directory = self.directory.path();
        let exact = format!("{}={}", package.name, package.version);
        let mut command = self.command("apt-get");
        run(command.args(["download", "-q", &exact]).current_dir(directory), self.signals)?;
        fs::read_dir(directory)
            .with_context(|| format!("cannot read {}", directory.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .with_context(|| format!("`apt-get download {exact}` left no .deb in {}", directory.display()))
    }
}

/// Writes [`CONFIGURATION`] to a directory and returns the arguments that make apt read it.
fn configuration(directory: &Path) -> Result<[OsString; 2]> {
    let file = directory.join("apt.conf");
    fs::write(&file, CONFIGURATION).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(["-c".into(), file.into()])
}

fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push("=");
    option.push(value);
    option
}

/// The given options, followed by those of every private root.
fn options(own: &[(&str, &Path)]) -> Vec<OsString> {
    let always = [
        ("Acquire::Languages", "none"),
        ("Acquire::Retries", "3"),
        // Without this, `apt-get update` succeeds even if it reached no server.
        ("APT::Update::Error-Mode", "any"),
        // apt's own user cannot enter a cache in root's home.
        ("APT::Sandbox::User", "root"),
    ];
    let always = always.map(|(name, value)| (name, Path::new(value)));
    own.iter().chain(&always).flat_map(|(name, value)| ["-o".into(), option(name, value)]).collect()
}

/// The fields of a package that the lab reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its Debian version.
    pub version: String,
    /// The size of its file in bytes.
    pub size: u64,
    /// The names of the packages that it depends on; of several alternatives, the first.
    pub depends: Vec<String>,
}

impl Package {
    /// What is fetched, for a notice.
    pub fn described(&self) -> String {
        format!("{} {} ({} MB)", self.name, self.version, self.size.div_ceil(1_000_000))
    }

    /// Whether its version is higher than that of `other`, as dpkg compares versions.
    pub fn is_newer_than(&self, other: &Self) -> Result<bool> {
        let versions = [&self.version, "gt", &other.version];
        let status = Command::new("dpkg").arg("--compare-versions").args(versions).status();
        Ok(status.context("cannot run dpkg")?.success())
    }

    fn parse(text: &str) -> Option<Self> {
        let stanza = text.split("\n\n").next()?;
        let fields: BTreeMap<_, _> = stanza.lines().filter_map(|line| line.split_once(": ")).collect();
        let depends = fields.get("Depends").copied().unwrap_or_default().split(',');
        Some(Self {
            name: (*fields.get("Package")?).into(),
            version: (*fields.get("Version")?).into(),
            size: fields.get("Size")?.parse().ok()?,
            depends: depends.filter_map(|one| one.split_whitespace().next().map(str::to_owned)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_found_by_origin_and_label() {
        let targets = "https://a.example/node/|nodistro|. nodistro|. nodistro\n\
                       http://b.example/debian-security/|trixie-security|Debian|Debian-Security\n\
                       http://b.example/debian/|trixie-updates|Debian|Debian\n\
                       http://b.example/debian/|trixie|Debian|Debian\n\
                       http://c.example/debian/|sid|Debian|Debian\n";
        let archive = Archive::parse(targets).unwrap();
        assert_eq!(archive.release(), Some("trixie"));
        assert_eq!(
            archive.sources("trixie", true),
            format!(
                "deb [signed-by={KEYRING}] http://b.example/debian trixie main\n\
                 deb [signed-by={KEYRING}] http://b.example/debian trixie-updates main\n\
                 deb [signed-by={KEYRING}] http://b.example/debian-security trixie-security main\n"
            )
        );
        assert_eq!(
            archive.sources("sid", false),
            format!("deb [signed-by={KEYRING}] http://b.example/debian sid main\n")
        );
        assert_eq!(Archive::parse("http://u.example/ubuntu/|noble|Ubuntu|Ubuntu\n"), None);
        assert_eq!(Archive::parse(""), None);
    }

    #[test]
    fn a_private_root_has_no_hooks_and_no_indexes_of_the_machine() {
        // Lab hosts have no tools.
        if !Path::new("/usr/bin/apt-config").exists() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let machine = directory.path().join("machine.conf");
        let of_machine = "APT::Update::Post-Invoke { \"dfr0-hook\"; }; Acquire::http::Proxy \"http://proxy:1\";\n\
                          Acquire::IndexTargets::deb::Contents-deb { MetaKey \"x\"; };\n";
        fs::write(&machine, of_machine).unwrap();
        let dump = |arguments: &[OsString]| {
            let mut command = Command::new("apt-config");
            let output = command.arg("dump").args(arguments).env("APT_CONFIG", &machine).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let (before, after) = (dump(&[]), dump(&configuration(directory.path()).unwrap()));
        for own in ["dfr0-hook", "Contents-deb"] {
            assert!(before.contains(own) && !after.contains(own), "{own}: {after}");
        }
        for kept in ["http://proxy:1", "Acquire::IndexTargets::deb::Packages::Optional \"no\""] {
            assert!(after.contains(kept), "{kept}: {after}");
        }
    }

    #[test]
    fn packages_are_read() {
        let text = "Package: linux-image-arm64\nSource: linux\nVersion: 7.3.4-1~bpo13+1\nSize: 1500001\n\
                    Depends: linux-base-arm64 (= 7.3.4-1~bpo13+1), a | b (>= 2), c\nDescription: x\n more: y\n\n\
                    Package: other\nVersion: 1\n";
        let package = Package::parse(text).unwrap();
        assert_eq!(package.name, "linux-image-arm64");
        assert_eq!(package.version, "7.3.4-1~bpo13+1");
        assert_eq!(package.described(), "linux-image-arm64 7.3.4-1~bpo13+1 (2 MB)");
        assert_eq!(package.depends, ["linux-base-arm64", "a", "c"]);
        assert_eq!(Package::parse("N: Unable to locate package"), None);
    }
}
