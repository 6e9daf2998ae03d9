// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A command for hosts and its files. The files are read once, and each host gets them as they were then.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::digest;
use crate::hosts::Host;
use crate::initramfs::{self, Contents};
use crate::job::{Job, environment, inherited};
use crate::kernel::Identity;
use crate::program::{self, Program};

/// A command as a host runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program's path in the host.
    pub program: PathBuf,
    /// The program's arguments, without its own name.
    pub arguments: Vec<String>,
    /// The variables that it inherits.
    pub inherited: BTreeMap<String, String>,
}

/// A command, and everything that a host needs to run it.
#[derive(Debug)]
pub struct Errand {
    command: Command,
    /// A file without a name, so that it is always removed, or one of a plan.
    files: File,
}

impl Errand {
    /// Reads the files of `command`, a program and its arguments, and of the directory `with`.
    pub fn new(command: &[String], with: Option<&Path>) -> Result<Self> {
        let with = match with {
            Some(with) if with.is_dir() => {
                Some(with.canonicalize().with_context(|| format!("cannot find {}", with.display()))?)
            }
            Some(with) => bail!("--with {}: there is no such directory", with.display()),
            None => None,
        };
        let [name, arguments @ ..] = command else { bail!("CMD is missing") };
        let Program { in_host, added } = Program::find(name, with.as_deref())?;
        let mut files = tempfile::tempfile().context("cannot make a temporary file")?;
        Contents { init: &init()?, with: with.as_deref(), added: added.as_deref() }.write(&mut files)?;
        let variables = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let inherited = inherited(variables);
        Ok(Self { command: Command { program: in_host, arguments: arguments.to_vec(), inherited }, files })
    }

    /// The errand of a command whose files were written before.
    pub fn again(command: Command, files: File) -> Self {
        Self { command, files }
    }

    /// The command.
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// The digest of the files: of the program, the directory and `lab-init`.
    pub fn sha256(&self) -> Result<String> {
        digest::sha256(self.files()?).context("cannot read a temporary file")
    }

    /// The initramfs that `host` boots with `kernel`.
    pub fn initramfs(&self, host: &Host, kernel: &Identity) -> Result<File> {
        let job = Job {
            program: self.command.program.clone(),
            arguments: self.command.arguments.clone(),
            environment: environment(&host.name, kernel, self.command.inherited.clone()),
            expected_shape: host.shaped.as_ref().map(|cpu| cpu.shape),
            expected_mode: host.mode,
            now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()),
        };
        let mut initramfs = tempfile::tempfile().context("cannot make a temporary file")?;
        io::copy(&mut self.files()?, &mut initramfs).context("cannot copy a temporary file")?;
        initramfs::finish(&mut initramfs, &job)?;
        Ok(initramfs)
    }

    /// Opens the files again, so that each thread reads at its own position.
    pub fn files(&self) -> Result<File> {
        let path = format!("/proc/self/fd/{}", self.files.as_raw_fd());
        File::open(&path).with_context(|| format!("cannot open {path}"))
    }
}

/// The `lab-init` that belongs to this `lab`.
fn init() -> Result<PathBuf> {
    if let Some(init) = env::var_os("DFR0_LAB_INIT").map(PathBuf::from) {
        program::check(&init).context("DFR0_LAB_INIT must name a lab-init")?;
        return Ok(init);
    }
    let lab = env::current_exe().context("cannot find this program's own path")?;
    let profile = lab.parent().unwrap_or(Path::new("/"));
    let target = profile.parent().unwrap_or(profile).join("aarch64-unknown-linux-gnu");
    let beside = |directory: &Path| directory.join("lab-init");
    let places = [
        // The same profile for arm64, the release profile for arm64, and, for an arm64 `lab`, the directory of `lab`.
        beside(&target.join(profile.file_name().unwrap_or_default())),
        beside(&target.join("release")),
        beside(profile),
    ];
    places.iter().find(|place| program::check(place).is_ok()).cloned().with_context(|| {
        format!(
            "there is no lab-init for arm64 at {}: build it with `cargo build --release -p dfr0-lab --bin lab-init \
             --target aarch64-unknown-linux-gnu`, or set DFR0_LAB_INIT to its path",
            places[0].display()
        )
    })
}
