// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `pages DIR` writes the manual pages and the shell completions of `dfr0` to DIR, from what `--help` prints.

use clap_complete::{Shell, generate_to};
use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let directory = env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.ok_or_else(|| io::Error::other("the directory is missing"))?;
    fs::create_dir_all(&directory)?;
    let mut command = dfr0_runner::cli::command();
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut command, "dfr0", &directory)?;
    }
    clap_mangen::generate_to(command, &directory)
}
