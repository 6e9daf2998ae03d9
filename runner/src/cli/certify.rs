// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `dfr0 certify`.

use super::{FAILED, Outcome, ktap};
use crate::{
    archive,
    case::{Case, Suite},
    certificate::{self, Certificate, Evidence, Kernel, Verdict},
    expected::Deviations,
    guest::DEADLINE,
    machine::Machine,
    random::Draw,
    results::{self, Results},
    run::{self, Options},
    whole,
};
use clap::{Args, Subcommand};
use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
The archive holds the results in every form, the deviations that were known and those that were seen (the waivers), the
host's fingerprint, the kernel's configuration and command line, and the SHA-256 of each part and of the dfr0 that ran.
`tar --zstd -xf FILE` unpacks it. It says whether something in it was changed; who made it, a signature says, for example
one by `ssh-keygen -Y sign -n dfr0 -f KEY FILE`.

Exit status: 0 the host conforms, or does with waivers; 1 it does not, or the certificate is none or was changed."
)]
pub struct Certify {
    #[command(subcommand)]
    verify: Option<Verify>,
    /// The archive to write, whole or not at all.
    #[arg(long, value_name = "FILE", required = true)]
    out: Option<PathBuf>,
    /// Read deviations from DIR instead of expected/ beside this program.
    #[arg(long, value_name = "DIR")]
    expected: Option<PathBuf>,
    /// Draw other random scenarios.
    #[arg(long, default_value_t = Draw::default().seed)]
    seed: u64,
    /// As in `dfr0 run`: try for so many minutes what is otherwise left out.
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    thorough: Option<u32>,
}

#[derive(Subcommand)]
enum Verify {
    /// Check a certificate, on any machine, and find its verdict again from the raw results.
    Verify {
        /// The archive.
        file: PathBuf,
    },
}

pub fn run(suites: &[Suite], certify: Certify) -> Outcome {
    let cases: Vec<Case> = suites.iter().flat_map(|suite| (suite.cases)()).collect();
    let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
    let (certificate, file) = match (certify.verify, certify.out) {
        (Some(Verify::Verify { file }), _) => (load(&file, &names)?, file),
        (None, Some(out)) => {
            let draw = Draw {
                seed: certify.seed,
                time: certify.thorough.map(|minutes| Duration::from_secs(60 * u64::from(minutes))),
                ..Draw::default()
            };
            let evidence = evidence(&cases, &names, certify.expected.as_deref(), draw)?;
            whole::write(&out, &evidence.to_bytes()?)
                .map_err(|error| format!("cannot write {}: {error}; nothing was written", out.display()))?;
            // What another machine will say of it.
            (load(&out, &names)?, out)
        }
        (None, None) => return Err("--out is missing".into()),
    };
    // Standard output is KTAP's while cases run.
    write!(io::stderr().lock(), "{}: a whole certificate\n{certificate}", file.display())?;
    Ok(match certificate.verdict {
        Verdict::Conforms | Verdict::ConformsWithWaivers => ExitCode::SUCCESS,
        Verdict::DoesNotConform => ExitCode::from(FAILED),
    })
}

fn load(file: &Path, names: &[String]) -> Result<Certificate, String> {
    certificate::load(file, names).map_err(|problem| format!("{}: {problem}", file.display()))
}

/// Runs every case here.
fn evidence(
    cases: &[Case],
    names: &[String],
    expected: Option<&Path>,
    draw: Draw,
) -> Result<Evidence, Box<dyn std::error::Error>> {
    let deviations = Deviations::load(expected, names)?;
    let fingerprint = Machine::open()??.fingerprint()?;
    let kernel = Kernel::here(&fingerprint.kernel)?;
    let program = fs::read(env::current_exe()?)?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("results.jsonl");
    let options = Options { strict: false, deadline: DEADLINE, draw, every: 1 };
    let mut writers = [ktap(), Box::new(results::File::create(&path)?)];
    run::run(cases, &deviations, options, &mut writers)?;
    let Results::Run(run) = results::load(&path)? else {
        return Err("no case could run".into());
    };
    Ok(Evidence {
        run,
        expected: Deviations::text(expected)?,
        fingerprint,
        program_sha256: archive::sha256(&program),
        kernel,
    })
}
