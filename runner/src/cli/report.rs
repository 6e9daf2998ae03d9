// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 report`.

use super::{
    Outcome,
    output::{Out, note, print},
};
use crate::{
    exit::Exit,
    pairs::Table,
    report::{self, Cell, Diff, Ids},
    run,
    visible::one_line,
    whole,
};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

const PATHS: &str = "\
PATH is a file that `dfr0 run --results FILE` wrote, a certificate of `dfr0
certify`, the folder of a run of `lab matrix`, or a folder of files of results
(*.jsonl). This machine needs no KVM. A file is written whole or not at all.

Exit status:
  0  all hosts reported, whatever their results are
  1  a host did not report, or its run did not end (the report says which and
     why), or a path or the command line is wrong";

const DIFF: &str = "\
OLD and NEW are each a file of results, a certificate, the folder of a run of
`lab matrix`, or a folder of files of results (*.jsonl). Several files of one
host and kernel are runs of the same; a case is flaky where they disagree.

Hosts are compared by the lab's name, or else by CPU and platform. The kernel is
what changes between OLD and NEW, so it decides only where a side has several
kernels for a host: then the same kernel is compared, or one of the same series.

Exit status:
  0  nothing is worse
  1  a case fails that did not fail before, or shows what it did not show when
     it failed before, a host does not report any more, there is nothing to
     compare, or a path or the command line is wrong";

#[derive(Subcommand)]
pub enum Command {
    /// KTAP: what `dfr0 run` printed, or a subtest for each of several runs.
    #[command(after_help = PATHS)]
    Ktap(Of),
    /// JUnit XML: a test suite for each host and suite; a known deviation is a skipped test.
    #[command(after_help = PATHS)]
    Junit(Of),
    /// KernelCI's KCIDB, I/O schema version 5.
    ///
    /// A known deviation is a failed test with an incident of a known issue. A host that did not report is a
    /// test with the status MISS.
    #[command(after_help = PATHS)]
    Kcidb {
        #[command(flatten)]
        of: Of,
        /// The name of the CI system that submits: lower-case letters, digits and underscores.
        #[arg(long, value_name = "NAME", default_value = "dfr0", value_parser = origin)]
        origin: String,
        /// KCIDB's id of the build that was tested; without it each kernel release is a build of NAME's own.
        #[arg(long, value_name = "ID", value_parser = build)]
        build_id: Option<String>,
    },
    /// The signals of LAVA's test shell, as `dfr0 run --format lava` prints them.
    ///
    /// A known deviation passes. The last test, all-reported, fails if a host did not report.
    #[command(after_help = PATHS)]
    Lava(Of),
    /// What a lab posts to KernelCI that pulls its jobs (PULL_LABS).
    ///
    /// A known deviation passes.
    #[command(after_help = PATHS)]
    PullLabs(Of),
    /// One self-contained HTML page.
    #[command(after_help = PATHS)]
    Html {
        #[command(flatten)]
        of: Of,
        /// Also show the moves between hosts that are in DIR; `make pairs` writes them to target/pairs.
        #[arg(long, value_name = "DIR")]
        pairs: Option<PathBuf>,
    },
    /// A table for a terminal: the totals of each host, and what fails.
    #[command(after_help = PATHS)]
    Text(Of),
    /// Print what differs between two runs or two matrices, for CI.
    #[command(after_help = DIFF)]
    Diff {
        /// The earlier results.
        old: PathBuf,
        /// The later results.
        new: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Also write a page for a browser to FILE, with OLD and NEW beside each other.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

#[derive(Args)]
pub struct Of {
    /// Write to FILE instead of standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Files or folders of results.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

fn origin(name: &str) -> Result<String, String> {
    let plain = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'_';
    if !name.is_empty() && name.bytes().all(plain) {
        return Ok(name.to_owned());
    }
    Err("KCIDB accepts only lower-case letters, digits and underscores".into())
}

fn build(id: &str) -> Result<String, String> {
    let Some((name, _)) = id.split_once(':') else {
        return Err("an id is the name of a CI system, a colon, and that system's name for the build".into());
    };
    origin(name).map(|_| id.to_owned())
}

pub fn run(command: Command) -> Outcome {
    match command {
        Command::Ktap(of) => of.write(|cells| {
            let mut text = Vec::new();
            report::tap(cells, &mut text)?;
            Ok(text)
        }),
        Command::Junit(of) => of.write(|cells| Ok(report::junit(cells)?.into_bytes())),
        Command::Kcidb { of, origin, build_id } => of.write(|cells| {
            json(&report::kcidb(cells, &Ids { origin, silent: run::id()?, build: build_id })?)
        }),
        Command::Lava(of) => of.write(|cells| {
            let mut text = Vec::new();
            report::lava(cells, &mut text)?;
            Ok(text)
        }),
        Command::PullLabs(of) => of.write(|cells| json(&report::pull_labs(cells)?)),
        Command::Html { of, pairs } => {
            let moves = pairs.map(|directory| Table::load(&directory)).transpose()?;
            of.write(|cells| Ok(report::page(cells, moves.as_ref()).into_bytes()))
        }
        Command::Text(of) => of.write(|cells| Ok(report::text(cells).into_bytes())),
        Command::Diff { old, new, json, html } => {
            let (old, new) = (report::load(&[old])?, report::load(&[new])?);
            let diff = Diff::new(&old, &new);
            if let Some(path) = html {
                written(&path, report::beside(&diff, &old, &new).as_bytes())?;
            }
            print(&diff, json)?;
            Ok(Exit::good_if(diff.is_good()))
        }
    }
}

fn json(document: &Value) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut text = serde_json::to_vec_pretty(document)?;
    text.push(b'\n');
    Ok(text)
}

fn written(path: &Path, text: &[u8]) -> Result<(), String> {
    whole::write(path, text)
        .map_err(|error| format!("cannot write {}: {error}; nothing was written", path.display()))
}

impl Of {
    fn write(&self, form: impl FnOnce(&[Cell]) -> Result<Vec<u8>, Box<dyn std::error::Error>>) -> Outcome {
        let cells = report::load(&self.paths)?;
        let text = form(&cells)?;
        match &self.out {
            Some(path) => written(path, &text)?,
            None => Out.write_all(&text)?,
        }
        let silent: Vec<&Cell> = cells.iter().filter(|cell| cell.silence().is_some()).collect();
        for cell in &silent {
            let why = cell.silence().unwrap_or_default();
            note(&format!("error: {} did not report: {}\n", cell.name(), one_line(why)));
        }
        Ok(Exit::good_if(silent.is_empty()))
    }
}
