// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A kernel tree: which files are its source, and what they contain.
//!
//! A tree may have been built in place. Its source is what git calls so: tracked files, and others that no .gitignore
//! lists. Nothing is written to a tree, not even to git's index.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::digest::sha256;
use crate::interrupt::Signals;
use crate::tools::run;

/// The options of `git ls-files` in a tree without git. Debian's .gitignore ignores all at the top, which the first pattern
/// takes back; the others list what a build leaves there.
const WITHOUT_GIT: [&str; 15] = [
    "--others",
    "--exclude-per-directory=.gitignore",
    "--exclude=!/*",
    "--exclude=/.*",
    "--exclude=!/.gitignore",
    "--exclude=/vmlinux*",
    "--exclude=/System.map",
    "--exclude=/Module.*",
    "--exclude=/modules.*",
    "--exclude=/built-in*",
    "--exclude=/debian",
    "--exclude=*.o",
    "--exclude=*.rej",
    "--exclude=*.orig",
    "-z",
];

/// A file that was changed less than this time ago, in seconds, is read again the next time: a change in the same moment
/// would not show in its times.
const SETTLED: i64 = 2;

/// What a file of a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A file.
    Text,
    /// A file that may be executed.
    Program,
    /// A symbolic link.
    Link,
}

/// What a file contains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// What it is.
    pub kind: Kind,
    /// The digest of its bytes, or of a link's target.
    pub sha256: String,
}

/// The files of a tree, by their paths in it.
pub type Files = BTreeMap<String, Content>;

/// What tells that a file was not changed: its size, times and inode.
type Stamp = [i64; 6];

/// What files contained when they were read last.
pub type Seen = BTreeMap<String, (Stamp, Content)>;

/// A kernel tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    directory: PathBuf,
    has_git: bool,
    described: Option<String>,
}

impl Tree {
    /// The tree in this directory.
    pub fn open(directory: &Path) -> Result<Self> {
        let shown = directory.display();
        let directory = directory.canonicalize().with_context(|| format!("cannot find {shown}"))?;
        for file in ["Kconfig", "Makefile", "arch/arm64/kvm/Kconfig"] {
            if !directory.join(file).is_file() {
                bail!("{shown} is not a kernel tree: it has no {file}");
            }
        }
        let has_git = directory.join(".git").exists();
        Ok(Self { directory, has_git, described: None })
    }

    /// The same tree, described by these words.
    pub fn called(self, words: String) -> Self {
        Self { described: Some(words), ..self }
    }

    /// Its directory, as an absolute path.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Which commit it is, as `git describe` says, or what it is called.
    pub fn described(&self, signals: &Signals) -> Result<String> {
        if let Some(words) = &self.described {
            return Ok(words.clone());
        }
        let name = self.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !self.has_git {
            return Ok(format!("{name} (no git)"));
        }
        let describe = ["describe", "--always", "--tags", "--match=v*", "--abbrev=12", "--dirty"];
        let commit = run(self.git().args(describe), signals)?;
        Ok(format!("{name} {}", commit.trim()))
    }

    /// git, which reads this tree and does not write to it.
    pub(super) fn git(&self) -> Command {
        let mut git = git();
        git.current_dir(&self.directory);
        git
    }

    /// What its files contain. Those that did not change since `seen` are not read.
    pub(super) fn files(&self, seen: &mut Seen, scratch: &Path, signals: &Signals) -> Result<Files> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64);
        let mut still = Seen::new();
        let mut files = Files::new();
        for path in self.paths(scratch, signals)? {
            let place = self.directory.join(&path);
            let failed = || format!("cannot read {}", place.display());
            // git also lists tracked files that are not there any more.
            let Ok(metadata) = fs::symlink_metadata(&place) else { continue };
            let stamp = stamp(&metadata);
            let content = match seen.remove(&path) {
                Some((then, content)) if then == stamp => content,
                _ => {
                    signals.check()?;
                    match content(&place, &metadata).with_context(failed)? {
                        Some(content) => content,
                        None => continue,
                    }
                }
            };
            if metadata.ctime() < now - SETTLED {
                still.insert(path.clone(), (stamp, content.clone()));
            }
            files.insert(path, content);
        }
        *seen = still;
        if files.is_empty() {
            bail!("git finds no source in {}", self.directory.display());
        }
        Ok(files)
    }

    fn paths(&self, scratch: &Path, signals: &Signals) -> Result<Vec<String>> {
        let mut list = self.git();
        list.arg("ls-files");
        if self.has_git {
            list.args(["--cached", "--others", "--exclude-standard", "-z"]);
        } else {
            // git needs a repository, so this is an empty one.
            let empty = scratch.join("empty");
            run(plain_git().args(["init", "--quiet"]).arg(&empty), signals)?;
            list.env("GIT_DIR", empty.join(".git")).env("GIT_WORK_TREE", &self.directory).args(WITHOUT_GIT);
        }
        let listed = run(&mut list, signals)
            .with_context(|| format!("cannot list the source in {}", self.directory.display()))?;
        let mut paths: Vec<String> =
            listed.split('\0').filter(|path| !path.is_empty()).map(ToOwned::to_owned).collect();
        // A file with a conflict is listed several times.
        paths.dedup();
        Ok(paths)
    }
}

/// git, which does not update an index by itself.
fn git() -> Command {
    let mut git = Command::new("git");
    git.env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C");
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"] {
        git.env_remove(variable);
    }
    git
}

/// git without a repository and without the configuration of the user and the machine.
pub(super) fn plain_git() -> Command {
    let mut git = git();
    git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    git
}

fn stamp(metadata: &Metadata) -> Stamp {
    [
        metadata.size() as i64,
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
        metadata.ino() as i64,
    ]
}

/// What the file at `place` contains; nothing if it is neither a file nor a link, such as another repository.
fn content(place: &Path, metadata: &Metadata) -> std::io::Result<Option<Content>> {
    let content = |kind, sha256| Ok(Some(Content { kind, sha256 }));
    if metadata.is_symlink() {
        content(Kind::Link, sha256(fs::read_link(place)?.as_os_str().as_bytes())?)
    } else if metadata.is_file() {
        let is_program = metadata.permissions().mode() & 0o100 != 0;
        content(if is_program { Kind::Program } else { Kind::Text }, sha256(File::open(place)?)?)
    } else {
        Ok(None)
    }
}
