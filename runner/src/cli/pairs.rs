// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 pairs`.

use super::{
    Outcome,
    output::{Out, show},
};
use crate::{
    exit::Exit,
    pairs::{self, Scenarios, Table},
};
use clap::Subcommand;
use std::{io::BufWriter, path::PathBuf};

#[derive(Subcommand)]
pub enum Command {
    /// Save scenarios on this host in each shape that a plan to another host asks for, and print the
    /// snapshots.
    Save {
        /// This host's name. NAME.host.json in DIR is its fingerprint.
        #[arg(long, value_name = "NAME")]
        host: String,
        /// The directory with each host's fingerprint in NAME.host.json, as `dfr0 host show --json` prints
        /// it.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Restore on this host what each other host saved, and print the outcomes.
    Restore {
        /// This host's name.
        #[arg(long, value_name = "NAME")]
        host: String,
        /// The directory with each host's fingerprint, and its snapshots in NAME.snapshots.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print the plan and the outcome for each ordered pair of hosts. This needs no KVM.
    #[command(after_help = "\
Exit status:
  0  every plan was right
  1  a plan was wrong, an event was lost silently, or a pair is missing")]
    Table {
        /// The directory with each host's fingerprint, and the outcomes on it in NAME.outcomes.json.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

pub fn run(command: Command, scenarios: Scenarios) -> Outcome {
    let out = BufWriter::new(Out);
    match command {
        Command::Save { host, directory } => pairs::save(&host, &directory, scenarios, out)?,
        Command::Restore { host, directory } => pairs::restore(&host, &directory, out)?,
        Command::Table { directory } => {
            let table = Table::load(&directory)?;
            show(&table)?;
            return Ok(Exit::good_if(table.agrees()));
        }
    }
    Ok(Exit::Good)
}
