// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 pairs`.

use super::{FAILED, Outcome};
use crate::pairs::{self, Scenarios, Table};
use clap::Subcommand;
use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

#[derive(Subcommand)]
pub enum Command {
    /// Save scenarios on this host, in each shape that a plan to another host asks for; standard output takes them.
    Save {
        /// This host's name: DIR holds NAME.host.json, its fingerprint.
        #[arg(long, value_name = "NAME")]
        host: String,
        /// A fingerprint of each host, as `dfr0 host show --json` prints it, in NAME.host.json.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Restore on this host what each other one has saved; standard output takes the outcomes.
    Restore {
        /// This host's name.
        #[arg(long, value_name = "NAME")]
        host: String,
        /// What the hosts have saved, in NAME.snapshots, beside their fingerprints.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print each ordered pair of hosts: what the plan says, and what came of it. This machine needs no KVM.
    #[command(after_help = "\
Exit status: 0 each plan was right; 1 one was not, an event was lost silently, or a pair is missing.")]
    Table {
        /// What came of the restores, in NAME.outcomes.json, beside the fingerprints.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

pub fn run(command: Command, scenarios: Scenarios) -> Outcome {
    let out = BufWriter::new(io::stdout().lock());
    match command {
        Command::Save { host, directory } => pairs::save(&host, &directory, scenarios, out)?,
        Command::Restore { host, directory } => pairs::restore(&host, &directory, out)?,
        Command::Table { directory } => {
            let table = Table::load(&directory)?;
            io::stdout().lock().write_all(table.to_string().as_bytes())?;
            return Ok(if table.agrees() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) });
        }
    }
    Ok(ExitCode::SUCCESS)
}
