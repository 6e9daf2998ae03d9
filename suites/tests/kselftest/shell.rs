// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Runs make and other programs as a user would, without the environment of the make and the cargo that run these tests.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use libtest_mimic::Failed;
use tempfile::TempDir;

use crate::tree::{Build, Tree};

/// Variables of the make and the cargo around this test, which those inside must not inherit.
const NOT_INHERITED: [&str; 6] =
    ["MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CARGO_BUILD_TARGET", "CARGO_MAKEFLAGS", "CARGO_TARGET_DIR"];

/// The programs by which dfr0 finds a toolchain.
const TOOLCHAIN: [&str; 3] = ["cargo", "rustc", "cc"];

pub fn ensure(holds: bool, what: &str, output: &str) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(format!("{what}\n--- it printed\n{output}").into()) }
}

pub fn variable(name: &str) -> Result<String, Failed> {
    env::var(name).map_err(|_| format!("{name} is not set; `make test-kselftest` sets it").into())
}

/// A command that does not inherit the variables of the make and the cargo around this test.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    command
}

/// Runs a command and returns whether it succeeded, and what it printed.
pub fn output_of(command: &mut Command) -> Result<(bool, String), Failed> {
    let output = command.output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
}

/// Runs a command, which must succeed, and returns what it printed.
pub fn run(command: &mut Command) -> Result<String, Failed> {
    let (succeeded, text) = output_of(command)?;
    ensure(succeeded, &format!("{command:?} failed"), &text)?;
    Ok(text)
}

/// A new directory on the file system of target/, so that files can be linked from there.
pub fn directory() -> Result<TempDir, Failed> {
    Ok(tempfile::Builder::new().prefix("kselftest-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

/// Where dfr0's programs come from.
pub enum Programs {
    /// The tree's own make calls cargo.
    Cargo,
    /// The bundle, by PREBUILT=.
    Ready,
}

/// A call of make.
#[derive(Clone, Debug, Default)]
pub struct Make {
    directory: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    /// A directory of programs to use as PATH, which has no toolchain.
    path: Option<Arc<TempDir>>,
}

/// `make GOAL…`
pub fn make(goals: &[&str]) -> Make {
    Make { arguments: goals.iter().map(|&goal| goal.into()).collect(), ..Make::default() }
}

impl Make {
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = directory.into();
        self
    }

    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.arguments.push(format!("{name}={value}"));
        self
    }

    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Selects these targets of the selftests in `tree`.
    pub fn target(self, targets: &str, tree: &Tree) -> Self {
        let installed = tree.installed().display().to_string();
        self.directory(&tree.selftests()).set("TARGETS", targets).set("KSFT_INSTALL_PATH", &installed)
    }

    /// Selects kvm's own Makefile, called as the selftests' Makefile calls it.
    pub fn of_kvm(self, tree: &Tree) -> Self {
        let output = tree.build().join("kselftest/kvm").display().to_string();
        self.directory(&tree.selftests().join("kvm")).set("OUTPUT", &output).set("COLLECTION", "kvm")
    }

    /// Makes make only print the commands that it would run.
    pub fn dry(mut self) -> Self {
        self.arguments.push("--dry-run".into());
        self
    }

    /// Builds for arm64, into the tree's build directory or into the tree.
    pub fn build(mut self, tree: &Tree, build: Build) -> Self {
        if self.directory.as_os_str().is_empty() {
            self.directory = tree.root();
        }
        self.arguments.push("-j2".into());
        let mut made = self.set("ARCH", "arm64");
        if cfg!(not(target_arch = "aarch64")) {
            made = made.set("CROSS_COMPILE", "aarch64-linux-gnu-");
        }
        match build {
            Build::Cross => made.set("O", &tree.build().display().to_string()),
            Build::CrossInTree => made,
        }
    }

    pub fn programs(self, programs: &Programs, tree: &Tree) -> Result<Self, Failed> {
        match programs {
            Programs::Cargo => {
                tree.seed_cargo()?;
                Ok(self)
            }
            Programs::Ready => Ok(self.set("PREBUILT", &variable("DFR0_BUNDLE")?)),
        }
    }

    /// Removes the toolchain: PATH gets links to all programs except those of a toolchain.
    pub fn without_toolchain(mut self) -> Result<Self, Failed> {
        let links = directory()?;
        for directory in env::split_paths(&env::var_os("PATH").unwrap_or_default()) {
            for entry in directory.read_dir().into_iter().flatten().flatten() {
                let name = entry.file_name();
                if !TOOLCHAIN.iter().any(|tool| name == *tool) {
                    // The first directory of PATH wins.
                    let _ = symlink(entry.path(), links.path().join(name));
                }
            }
        }
        self.arguments.retain(|argument| !argument.starts_with("PREBUILT="));
        self.path = Some(Arc::new(links));
        Ok(self)
    }

    fn command(&self) -> Command {
        let mut make = command("make");
        make.arg("-C").arg(&self.directory).args(&self.arguments);
        make.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(path) = &self.path {
            make.env("PATH", path.path());
        }
        make
    }

    pub fn run(&self) -> Result<String, Failed> {
        run(&mut self.command())
    }

    /// Runs make, which must fail and print `message`.
    pub fn fails(&self, message: &str) -> Result<String, Failed> {
        let (succeeded, text) = output_of(&mut self.command())?;
        ensure(!succeeded, &format!("{:?} succeeded", self.command()), &text)?;
        ensure(text.contains(message), &format!("{:?} does not print \"{message}\"", self.command()), &text)?;
        Ok(text)
    }
}
