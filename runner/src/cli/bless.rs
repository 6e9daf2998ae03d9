// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 bless`.

use super::{
    Outcome, all,
    output::{Out, note},
};
use crate::{bless::Drafts, case::Suite, exit::Exit, expected::Deviations, results};
use clap::Args;
use std::{io::Write, path::PathBuf};

const BLESSED: &str = "\
Example:
  dfr0 run --results run.jsonl
  dfr0 bless run.jsonl expected/drafts.toml
  $EDITOR expected/drafts.toml

dfr0 refuses the file, and names the line, until all drafts are filled in. A
case that did not run to its end is never forgiven, so it has no draft.";

/// Draft an entry of expected/ for each deviation that a run found and no entry lists.
///
/// A draft contains the cases and what they observed, but no citation: FILE does not load until a person
/// has read the rule again, cited it in `why` and named in `source` what departs from it.
/// docs/expected.md describes the keys.
#[derive(Args)]
#[command(after_help = BLESSED)]
pub struct Bless {
    /// The results, as `dfr0 run --results` writes them; `-` is standard input.
    results: PathBuf,
    /// The file to write, in expected/ or to be moved there later.
    file: PathBuf,
    /// Overwrite FILE if it exists.
    #[arg(long)]
    force: bool,
    /// Read deviations from DIR instead of expected/ next to this program.
    #[arg(long, value_name = "DIR")]
    expected: Option<PathBuf>,
}

impl Bless {
    pub fn run(self, suites: &[Suite]) -> Outcome {
        let Self { results, file, force, expected } = self;
        let run = results::load(&results)?
            .whole()
            .map_err(|problem| format!("{}: {problem}", results.display()))?;
        let (cases, names) = all(suites);
        let drafts = Drafts::new(&run, &cases, &Deviations::load(expected.as_deref(), &names)?)?;
        drafts.left.iter().for_each(|left| note(&format!("dfr0: no draft: {left}\n")));
        let mut out = Out;
        match drafts.count() {
            (0, _) => writeln!(
                out,
                "nothing to draft: no case that ran to its end failed with an unlisted observation"
            )?,
            (drafted, cases) => {
                drafts.write(&file, force)?;
                writeln!(
                    out,
                    "{}: {drafted} drafts of {cases} cases; fill in why and source of each",
                    file.display()
                )?;
            }
        }
        Ok(Exit::Good)
    }
}
