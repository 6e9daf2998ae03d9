// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `pages DIR` writes the manual pages and the shell completions of `dfr0` to DIR, from what `--help` prints.

use clap::Command;
use clap_complete::{Shell, generate_to};
use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let directory = env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.ok_or_else(|| io::Error::other("the directory is missing"))?;
    fs::create_dir_all(&directory)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut dfr0_runner::cli::command(), "dfr0", &directory)?;
    }
    clap_mangen::generate_to(without_help(dfr0_runner::cli::command()), &directory)
}

/// The command without `help` and its subcommands, which need no pages.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}
