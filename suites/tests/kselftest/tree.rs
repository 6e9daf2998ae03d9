// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A kernel tree of Debian in a git repository, with a directory for builds and one for installed tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use libtest_mimic::Failed;
use tempfile::TempDir;

use crate::shell::{self, Make, command, make, run, variable};

/// Where an arm64 build goes.
#[derive(Clone, Copy)]
pub enum Build {
    /// O=, outside of the tree.
    Cross,
    /// In the tree, next to the sources.
    CrossInTree,
}

/// A tree. It is removed when this is dropped.
pub struct Tree(TempDir);

/// The names of dfr0's test programs, sorted.
pub fn suites() -> Vec<String> {
    let mut names: Vec<String> =
        dfr0_suites::ALL.iter().map(|suite| format!("dfr0_{}", suite.name)).collect();
    names.sort();
    names
}

/// The path of a file of this repository.
pub fn repository_file(path: &str) -> String {
    format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))
}

/// `make kselftest-COMMAND KSRC=TREE`
pub fn in_tree(command: &str, tree: &str) -> Make {
    make(&[&format!("kselftest-{command}")]).directory(Path::new(&repository_file(""))).set("KSRC", tree)
}

impl Tree {
    /// Unpacks the part of a Debian kernel's source that the selftests need.
    pub fn unpack(kernel: &str) -> Result<Self, Failed> {
        let archive =
            run(command(variable("DFR0_LAB")?).args(["source", kernel]).stderr(std::process::Stdio::null()))?;
        let tree = Self(shell::directory()?);
        fs::create_dir(tree.root())?;
        run(command("tar")
            .args(["--extract", "--file", archive.trim_end(), "--directory"])
            .arg(tree.root()))?;
        // Removes a line of Debian's that makes git ignore the whole tree.
        let ignored = tree.root().join(".gitignore");
        fs::write(&ignored, fs::read_to_string(&ignored)?.replace("\n/*\n", "\n"))?;
        tree.git(&["init", "--quiet"])?;
        tree.git(&["add", "tools/testing/selftests"])?;
        tree.git(&["commit", "--quiet", "--message", "as Debian has it"])?;
        Ok(tree)
    }

    pub fn root(&self) -> PathBuf {
        self.0.path().join("linux")
    }

    pub fn selftests(&self) -> PathBuf {
        self.root().join("tools/testing/selftests")
    }

    /// kvm's name for arm64: of its directory and in the names of make's variables.
    pub fn kvms_directory(&self) -> &'static str {
        if self.selftests().join("kvm/arm64").is_dir() { "arm64" } else { "aarch64" }
    }

    pub fn build(&self) -> PathBuf {
        self.0.path().join("build")
    }

    pub fn installed(&self) -> PathBuf {
        self.0.path().join("installed")
    }

    pub fn git(&self, arguments: &[&str]) -> Result<String, Failed> {
        let mut git = command("git");
        git.arg("-C").arg(self.root()).args(["-c", "user.name=x", "-c", "user.email=x@example.org"]);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        run(git.args(arguments))
    }

    /// The files of the selftests that differ from git's, including those that git ignores.
    pub fn status(&self) -> Result<String, Failed> {
        self.git(&["status", "--porcelain", "--ignored", "--untracked-files=all", "tools/testing/selftests"])
    }

    /// Runs `make kselftest-COMMAND` with this tree.
    pub fn in_tree(&self, command: &str) -> Result<String, Failed> {
        in_tree(command, &self.root().display().to_string()).run()
    }

    /// The time at which each of the programs was built for `target`. A missing program is an error.
    pub fn built(&self, target: &str, programs: &[String]) -> Result<Vec<SystemTime>, Failed> {
        let built = self.build().join("kselftest").join(target);
        let arm64 = ["arm64", "aarch64"].map(|name| built.join(name)).into_iter().find(|path| path.is_dir());
        let directory = arm64.unwrap_or(built);
        let time = |name: &String| {
            let path = directory.join(name);
            let built = path.metadata().and_then(|metadata| metadata.modified());
            built.map_err(|error| format!("{}: {error}", path.display()).into())
        };
        programs.iter().map(time).collect()
    }

    fn list_file(&self) -> PathBuf {
        self.installed().join("kselftest-list.txt")
    }

    /// The installed tests of a collection, from kselftest's list.
    pub fn listed(&self, collection: &str) -> Result<Vec<String>, Failed> {
        let list = fs::read_to_string(self.list_file())?;
        let of = |line: &str| Some(line.strip_prefix(collection)?.strip_prefix(':')?.to_owned());
        Ok(list.lines().filter_map(of).collect())
    }

    /// Replaces kselftest's list by these tests.
    pub fn list(&self, collection: &str, tests: &[&str]) -> Result<(), Failed> {
        let lines: String = tests.iter().map(|test| format!("{collection}:{test}\n")).collect();
        Ok(fs::write(self.list_file(), lines)?)
    }

    /// Links the dependencies that this test's cargo has built into the target directory of the tree's cargo, but nothing
    /// of dfr0 itself.
    pub fn seed_cargo(&self) -> Result<(), Failed> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("target/tmp has a parent")?;
        for profile in ["release", "aarch64-unknown-linux-gnu/release"] {
            let to = self.build().join("kselftest/kvm/dfr0-cargo").join(profile);
            fs::create_dir_all(&to)?;
            for part in ["deps", "build", ".fingerprint"].map(|part| target.join(profile).join(part)) {
                if part.is_dir() {
                    run(command("cp").args(["--archive", "--link"]).arg(&part).arg(&to))?;
                }
            }
            run(command("find")
                .arg(&to)
                .args(["-depth", "-name", "*dfr0*", "-exec", "rm", "-r", "{}", "+"]))?;
        }
        Ok(())
    }
}
