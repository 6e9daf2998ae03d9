// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What is known about the running kernel.

use super::CONFIGS;
use crate::{archive::Part, bounded};
use std::{io, path::Path};

/// The upper limit of each file, in bytes: a configuration is a few 100 KiB, a command line at most 2 KiB on
/// arm64.
const LONGEST: u64 = 4 << 20;

/// How the running kernel was built and started.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// Its command line.
    pub command_line: Vec<u8>,
    /// Its configuration as it was found: the part, and its bytes. `None` if it was not found.
    pub config: Option<Part>,
}

impl Kernel {
    /// The kernel that runs here, which has this release.
    pub fn here(release: &str) -> io::Result<Self> {
        let places = [
            (CONFIGS[1], "/proc/config.gz".to_owned()),
            (CONFIGS[0], format!("/boot/config-{release}")),
            (CONFIGS[0], format!("/lib/modules/{release}/config")),
        ];
        let read = |path: &str| bounded::load(Path::new(path), LONGEST);
        let found = |(part, path): &(&'static str, String)| Some((*part, read(path).ok()?));
        Ok(Self { command_line: read("/proc/cmdline")?, config: places.iter().find_map(found) })
    }
}
