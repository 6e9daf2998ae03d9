// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 snapshot`.

use super::{
    Outcome,
    output::{self, Out},
};
use crate::{
    case::Session,
    exit::Exit,
    guest::{Config, DEADLINE},
    replay,
    snapshot::{self, Difference, Scope, Shown},
};
use clap::Subcommand;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

#[derive(Subcommand)]
pub enum Command {
    /// Run a scenario up to a place, and save the vCPU and its memory there.
    ///
    /// The scenario is text as `dfr0 run` prints it and `dfr0 replay` reads it. It runs in its own VM, which
    /// ends when the bundle is saved.
    Save {
        /// The bundle to write; `-` is standard output.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Save after the operation with this number, counted from 0. The default is the operation before the
        /// last one that executes something.
        #[arg(long, value_name = "OP")]
        at: Option<usize>,
        /// Create the VM with this ID_AA64DFR0_EL1 (0x and hexadecimal digits) instead of KVM's own value, or that of the
        /// shape that the scenario's file names.
        #[arg(long, value_name = "VALUE", value_parser = hexadecimal)]
        id_aa64dfr0: Option<u64>,
        /// The scenario's file; `-` is standard input.
        scenario: String,
    },
    /// Print what a bundle contains, or how two bundles differ.
    ///
    /// This needs no KVM.
    Show {
        /// A bundle; `-` is standard input.
        a: PathBuf,
        /// Another bundle; only the differences are printed.
        b: Option<PathBuf>,
        /// Print JSON.
        #[arg(long, conflicts_with = "b")]
        json: bool,
    },
    /// Restore a bundle, run the rest of its scenario, and judge all events.
    #[command(after_help = "\
Exit status:
   0  the rules allow all events, before and after the restore
   1  a silent loss (the restore succeeded, but then events were lost or added),
      the guest died, or the bundle or the command line is wrong
  10  this host does not have a register or refuses it; the VM is deleted")]
    Restore {
        /// Require only the debug registers, the general-purpose registers and ID_AA64DFR0_EL1. Other
        /// registers that this host does not have or refuses are left out and listed.
        #[arg(long)]
        debug_only: bool,
        /// A bundle; `-` is standard input.
        file: PathBuf,
    },
    /// Check that a bundle is whole: its digests, its sizes, and that its parts agree.
    ///
    /// This needs no KVM. Exit status: 0 the bundle is whole; 1 it is not.
    Verify {
        /// A bundle; `-` is standard input.
        file: PathBuf,
    },
}

pub fn run(command: Command) -> Outcome {
    match command {
        Command::Save { out, at, id_aa64dfr0, scenario } => save(&out, at, id_aa64dfr0, &scenario),
        Command::Show { a, b, json } => show(&a, b.as_deref(), json),
        Command::Restore { debug_only, file } => restore(&file, debug_only),
        Command::Verify { file } => verify(&file),
    }
}

fn save(out: &Path, at: Option<usize>, id_aa64dfr0: Option<u64>, scenario: &str) -> Outcome {
    let found = replay::read(scenario, None)?;
    let session = Session::open(DEADLINE)?;
    let id_aa64dfr0 = id_aa64dfr0.or(found.id_aa64dfr0(session.host().id_aa64dfr0));
    let scenario = found.scenario;
    let place = at.unwrap_or_else(|| snapshot::default_place(&scenario));
    let snapshot = session.snapshot(Config { id_aa64dfr0, ..Config::default() }, &scenario, place)?;
    if out == Path::new("-") {
        Out.write_all(&snapshot.to_bytes()?)?;
    } else {
        snapshot::save(&snapshot, out)?;
    }
    Ok(Exit::Good)
}

fn show(a: &Path, b: Option<&Path>, json: bool) -> Outcome {
    let a = snapshot::load(a)?;
    match b {
        Some(b) => output::show(&Difference(&a, &snapshot::load(b)?))?,
        None if json => output::print_json(&Shown(&a).to_json())?,
        None => output::show(&Shown(&a))?,
    }
    Ok(Exit::Good)
}

fn restore(file: &Path, debug_only: bool) -> Outcome {
    let snapshot = snapshot::load(file)?;
    let session = Session::open(DEADLINE)?;
    let scope = if debug_only { Scope::Debug } else { Scope::All };
    let resumed = match session.resume(&snapshot, scope) {
        Ok(resumed) => resumed,
        Err(error) => {
            output::note(&format!("error: {error}\n"));
            return Ok(if error.is_refusal() { Exit::Refused } else { Exit::Failed });
        }
    };
    output::show(&resumed)?;
    Ok(Exit::good_if(resumed.departure.is_none()))
}

fn verify(file: &Path) -> Outcome {
    let snapshot = snapshot::load(file)?;
    let (done, all) = (snapshot.done(), snapshot.scenario().ops().len());
    output::show(&format!("{}: whole, {done} of {all} operations are done\n", file.display()))?;
    Ok(Exit::Good)
}

fn hexadecimal(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").ok_or("a value begins with 0x")?;
    u64::from_str_radix(digits, 16).map_err(|error| error.to_string())
}
