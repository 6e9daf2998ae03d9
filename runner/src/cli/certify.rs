// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 certify`.

use super::{
    Outcome, all,
    output::{Out, note, print_json, show},
    run::ktap,
};
use crate::{
    archive,
    case::{Case, Suite},
    certificate::{self, Evidence, Kernel, Verdict},
    cpu_types,
    effort::Effort,
    exit::Exit,
    expected::Deviations,
    guest::DEADLINE,
    machine::Machine,
    results::{self, Writer, Writers},
    run::{self, Options},
    whole,
};
use clap::{Args, Subcommand};
use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
The archive has the results, the known deviations, the deviations that were seen
(the waivers), the host's fingerprint, the kernel's configuration and command
line, and the SHA-256 of each part and of the dfr0 that ran. `dfr0 report` makes
every form of the results of it; `tar --zstd -xf FILE` unpacks it. A change of
the archive is detected. To show who made it, sign it, for example with
`ssh-keygen -Y sign -n dfr0 -f KEY FILE`.

Exit status:
  0  the host conforms, perhaps with waivers
  1  the host does not conform, or the certificate is invalid or was changed"
)]
pub struct Certify {
    #[command(subcommand)]
    verify: Option<Verify>,
    /// The archive to write, whole or not at all; `-` is standard output, without KTAP.
    #[arg(long, value_name = "FILE", required = true)]
    out: Option<PathBuf>,
    /// Read deviations from DIR instead of expected/ next to this program.
    #[arg(long, value_name = "DIR")]
    expected: Option<PathBuf>,
    /// Draw other random scenarios.
    #[arg(long, default_value_t = Effort::default().seed)]
    seed: u64,
    /// Also run what is left out by default, for this many minutes per case, as `dfr0 run --thorough` does.
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    thorough: Option<u32>,
}

#[derive(Subcommand)]
enum Verify {
    /// Check a certificate on any machine, and compute its verdict again from the raw results.
    Verify {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// The archive; `-` is standard input.
        file: PathBuf,
    },
}

pub fn run(suites: &[Suite], certify: Certify) -> Outcome {
    let (cases, names) = all(suites);
    let (is_check, json) = match certify.verify {
        Some(Verify::Verify { json, .. }) => (true, json),
        None => (false, false),
    };
    let (bytes, file) = match (certify.verify, certify.out) {
        (Some(Verify::Verify { file, .. }), _) => (read(&file)?, file),
        (None, Some(out)) => {
            let effort = Effort {
                seed: certify.seed,
                thorough: certify.thorough.map(|minutes| Duration::from_secs(60 * u64::from(minutes))),
                ..Effort::default()
            };
            let own = if out == Path::new("-") { None } else { Some(ktap()) };
            let bytes = evidence(&cases, &names, certify.expected.as_deref(), effort, own)?.to_bytes()?;
            match out == Path::new("-") {
                true => Out.write_all(&bytes),
                false => whole::write(&out, &bytes),
            }
            .map_err(|error| format!("cannot write {}: {error}; nothing was written", out.display()))?;
            (bytes, out)
        }
        (None, None) => return Err("--out is missing".into()),
    };
    // A new certificate is verified too: another machine will say the same.
    let certificate =
        certificate::verify(&bytes, &names).map_err(|problem| format!("{}: {problem}", file.display()))?;
    let text = format!("{}: a valid certificate\n{certificate}", file.display());
    match (is_check, json) {
        (true, true) => print_json(&certificate)?,
        (true, false) => show(&text)?,
        // Standard output has the archive or KTAP.
        (false, _) => note(&text),
    }
    Ok(match certificate.verdict {
        Verdict::Conforms | Verdict::ConformsWithWaivers => Exit::Good,
        Verdict::DoesNotConform => Exit::Failed,
    })
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    certificate::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}

/// Runs every case here.
fn evidence(
    cases: &[Case],
    names: &[String],
    expected: Option<&Path>,
    effort: Effort,
    own: Option<Box<dyn Writer>>,
) -> Result<Evidence, Box<dyn std::error::Error>> {
    let deviations = Deviations::load(expected, names)?;
    let cpus = cpu_types::settle(None)?;
    let fingerprint = Machine::open(DEADLINE)?.fingerprint()?;
    let kernel = Kernel::here(&fingerprint.kernel)?;
    let program = fs::read(env::current_exe()?)?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("results.jsonl");
    let options = Options { strict: false, deadline: DEADLINE, effort, jobs: None, fail_fast: false, cpus };
    let file: Box<dyn Writer> = Box::new(results::File::create(&path)?);
    let mut writers = Writers { at_once: vec![file], in_order: own.into_iter().collect() };
    run::run(cases, &deviations, options, &mut writers)?;
    let run = results::load(&path)?.whole()?;
    Ok(Evidence {
        run,
        expected: Deviations::text(expected)?,
        fingerprint,
        program_sha256: archive::sha256(&program),
        kernel,
    })
}
