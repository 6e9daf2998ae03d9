// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What is known about the running kernel.

use super::CONFIGS;
use crate::archive::Part;
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

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
        let found = |(part, path): &(&'static str, String)| Some((*part, read(Path::new(path)).ok()?));
        Ok(Self { command_line: read(Path::new("/proc/cmdline"))?, config: places.iter().find_map(found) })
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)? as u64 > LONGEST {
        return Err(io::Error::other(format!("{} is longer than {LONGEST} bytes", path.display())));
    }
    Ok(bytes)
}
