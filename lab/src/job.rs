// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The job of a booted host: a file that `lab` puts into the initramfs and `lab-init` reads.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{kernel::Identity, mode::Mode, shape::Shape};

/// The path of the job in the initramfs.
pub const JOB: &str = "/job.toml";
/// The command's working directory, a copy of the directory that `lab exec --with` names.
pub const WORKING_DIRECTORY: &str = "/host";
/// The directory of a command that is not part of `--with`, relative to [`WORKING_DIRECTORY`].
pub const COMMAND_DIRECTORY: &str = ".cmd";

/// A command in a host inherits the variables whose names start with one of these.
const INHERITED: [&str; 8] =
    ["CARGO_PKG_", "DFR0_", "KSELFTEST_", "KSFT_", "NEXTEST", "NO_COLOR", "PROPTEST_", "RUST_"];

/// A command and the host that it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The program's path in the host.
    pub program: PathBuf,
    /// The program's arguments, without its own name.
    pub arguments: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// The host does not run the command if it has another shape.
    pub expected_shape: Option<Shape>,
    /// The host does not run the command if KVM runs otherwise there.
    pub expected_mode: Option<Mode>,
    /// The time that the host's clock shows then, in seconds since 1970-01-01 UTC: a small kernel has no driver of the
    /// machine's clock.
    pub now: u64,
}

/// Those of the variables of this process that a command in a host inherits.
pub fn inherited(variables: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let is_inherited = |name: &str| INHERITED.iter().any(|beginning| name.starts_with(beginning));
    variables.into_iter().filter(|(name, _)| is_inherited(name) && name != "DFR0_LAB_KERNEL_SOURCE").collect()
}

/// The environment of a command in `host`: what it inherits, and the lab's own variables.
pub fn environment(
    host: &str,
    kernel: &Identity,
    mut environment: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    if let Some(source) = &kernel.source {
        environment.insert("DFR0_LAB_KERNEL_SOURCE".into(), source.clone());
    }
    let own = [
        ("DFR0_LAB_HOST", host),
        ("DFR0_LAB_KERNEL_SHA256", &kernel.sha256),
        ("HOME", "/"),
        ("PATH", "/host:/bin"),
        ("PWD", WORKING_DIRECTORY),
        ("TMPDIR", "/tmp"),
    ];
    environment.extend(own.map(|(name, value)| (name.into(), value.into())));
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Identity {
        Identity { sha256: "f00d".into(), source: Some("linux v7.3".into()) }
    }

    #[test]
    fn a_job_can_be_written_and_read_again() {
        let job = Job {
            program: "/host/.cmd/t".into(),
            arguments: vec!["--".into(), "a \"b\"\n\\x".into(), String::new(), "\u{7f}\u{1}ü".into()],
            environment: environment("max", &kernel(), [("RUST_LOG".into(), "a='b'\n".into())].into()),
            expected_shape: Some(Shape { breakpoints: 4, watchpoints: 2, context_aware: 1 }),
            expected_mode: Some(Mode::Nested),
            now: 1_800_000_000,
        };
        assert_eq!(toml::from_str::<Job>(&toml::to_string(&job).unwrap()).unwrap(), job);
    }

    #[test]
    fn only_variables_that_tests_read_are_inherited() {
        let variables = [
            "DFR0_SEED",
            "SSH_AUTH_SOCK",
            "PATH",
            "RUSTC",
            "NEXTEST_RUN_ID",
            "NO_COLOR",
            "DFR0_LAB_KERNEL_SOURCE",
        ];
        let variables = variables.map(|name| (name.to_owned(), "here".to_owned()));
        let environment = environment("max", &kernel(), inherited(variables));
        assert_eq!(environment["PATH"], "/host:/bin");
        assert_eq!(environment["DFR0_LAB_HOST"], "max");
        assert_eq!(environment["DFR0_LAB_KERNEL_SHA256"], "f00d");
        assert_eq!(environment["DFR0_LAB_KERNEL_SOURCE"], "linux v7.3");
        let mut inherited: Vec<_> =
            environment.iter().filter(|(_, value)| *value == "here").map(|(name, _)| name.as_str()).collect();
        inherited.sort_unstable();
        assert_eq!(inherited, ["DFR0_SEED", "NEXTEST_RUN_ID", "NO_COLOR"]);
    }
}
