// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `lab fleet`: dfr0 on the arm64 nodes of a Slurm cluster, with their own KVM. No lab host is booted.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use dfr0_lab::exit::Exit;
use dfr0_lab::fleet::{Choice, Fleet, Place, Settings, Work};
use dfr0_lab::interrupt::Signals;
use dfr0_lab::matrix::jobs::last_line;
use dfr0_lab::progress::Progress;
use dfr0_lab::slurm::{self, Task, watch};

pub const EXAMPLES: &str = "\
Examples:
  lab fleet certify --out /shared/run1 --bundle target/bundle \\
          --report target/release/dfr0 --feature kvm
      Certify each node that has the feature kvm.
  lab fleet certify --out /shared/run2 --bundle target/bundle --node g1 \\
          --kernel kernel_6_12 --kernel kernel_7_3
      Certify the node g1 with each of two kernels, which Slurm boots.
  lab fleet pairs --out /shared/run3 --bundle target/bundle \\
          --report target/release/dfr0 --feature kvm
      Move scenarios between each ordered pair of classes of nodes. Nodes with
      the same features are one class, and the first of them is used.

The same command again continues a run: what has a file in DIR is not run again.
DIR must be on a file system that all nodes have. This machine needs Slurm's
commands and neither an arm64 CPU nor KVM (docs/fleets.md).

certify writes DIR/NODE.dfr0, or NODE@KERNEL.dfr0, for `dfr0 certify verify` and
`dfr0 report`. pairs writes what the nodes exchange into DIR/work/pairs, for
`dfr0 pairs table`. DIR/log has what each job printed. Ctrl-C cancels the jobs.

Exit status: 0 if each node has its file and DFR0 finds nothing wrong in them;
1 if not; 128 + N if signal N stopped lab; 125 if lab or the arguments failed.";

#[derive(Args)]
pub struct FleetCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Certify nodes
    #[command(after_help = EXAMPLES)]
    Certify(Arguments),
    /// Move scenarios between each ordered pair of nodes
    #[command(after_help = EXAMPLES)]
    Pairs(Arguments),
}

#[derive(Args)]
struct Arguments {
    /// Write everything into DIR, which is created
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The directory of the static arm64 program dfr0
    #[arg(long, value_name = "BUNDLE")]
    bundle: PathBuf,
    /// A node; may be repeated [default: all for certify, one of each class for pairs]
    #[arg(long, value_name = "NAME")]
    node: Vec<String>,
    /// Use only nodes with this feature; may be repeated
    #[arg(long, value_name = "FEATURE", conflicts_with = "node")]
    feature: Vec<String>,
    /// A feature that stands for a kernel, which Slurm boots; may be repeated [default: the kernel that runs]
    #[arg(long, value_name = "FEATURE")]
    kernel: Vec<String>,
    /// The line of the shell that runs dfr0 on a node, in a copy of BUNDLE
    #[arg(long, value_name = "LINE", default_value = "./dfr0")]
    dfr0: String,
    /// An option of sbatch, such as --exclusive; may be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    sbatch: Vec<String>,
    /// The time that a job may take
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// Have Slurm cancel the jobs that cannot end within this number of seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    within: u64,
    /// Check the certificates, or print the table of the pairs, with the program DFR0 of this machine
    #[arg(long, value_name = "DFR0")]
    report: Option<PathBuf>,
}

/// A file that is wanted, and the job that writes it, if it was not there.
struct Wanted {
    what: String,
    file: PathBuf,
    job: Option<u64>,
}

/// What is run on each node for pairs: the words for it, the end of the name of the file with its output, and dfr0's arguments.
const PASSES: [(&str, &str, &[&str]); 3] = [
    ("its fingerprint", "host.json", &["host", "show", "--json"]),
    ("saving", "snapshots", &["pairs", "save", "--host", "NAME", "pairs"]),
    ("restoring", "outcomes.json", &["pairs", "restore", "--host", "NAME", "pairs"]),
];

impl FleetCommand {
    pub fn run(&self) -> Result<Exit> {
        match &self.what {
            What::Certify(arguments) => arguments.certify(),
            What::Pairs(arguments) => arguments.pairs(),
        }
    }
}

impl Arguments {
    fn places(&self, one_of_a_class: bool) -> Result<Vec<Place>> {
        let choice =
            Choice { nodes: &self.node, features: &self.feature, kernels: &self.kernel, one_of_a_class };
        choice.places(&slurm::nodes()?)
    }

    fn settings(&self) -> Settings<'_> {
        let Self { dfr0, sbatch, minutes, within, .. } = self;
        Settings { dfr0, sbatch, minutes: *minutes, within: *within }
    }

    fn certify(&self) -> Result<Exit> {
        let signals = Signals::hold()?;
        let places = self.places(false)?;
        let fleet = Fleet::open(&self.out, &self.bundle)?;
        let out = self.out.canonicalize().context("cannot find the directory of the run")?;
        let mut wanted = Vec::new();
        let submitted = places.iter().try_for_each(|place| {
            let file = out.join(format!("{}.dfr0", place.name()));
            // A host that does not conform, or where all is skipped, has a certificate too.
            let work = Work { out: &file, statuses: "0 1 4", arguments: &["certify", "--out", "-"] };
            self.want(&fleet, place, "certifying", &[], &work, &mut wanted)
        });
        self.wait(submitted, &fleet, &wanted, &signals)?;
        let there: Vec<&Path> =
            wanted.iter().map(|wanted| wanted.file.as_path()).filter(|file| file.exists()).collect();
        let mut good = there.len() == wanted.len();
        if let Some(dfr0) = &self.report {
            for file in &there {
                good &= self.run_dfr0(dfr0, Command::new(dfr0).args(["certify", "verify"]).arg(file))?;
            }
            if !there.is_empty() {
                self.run_dfr0(dfr0, Command::new(dfr0).args(["report", "text"]).args(&there))?;
            }
        }
        Ok(if good { Exit::Good } else { Exit::Failed })
    }

    fn pairs(&self) -> Result<Exit> {
        let signals = Signals::hold()?;
        let places = self.places(true)?;
        let fleet = Fleet::open(&self.out, &self.bundle)?;
        let pairs = fleet.work().join("pairs");
        let mut wanted = Vec::new();
        let mut after = Vec::new();
        let submitted = PASSES.iter().try_for_each(|(what, kind, arguments)| {
            let first = wanted.len();
            for place in &places {
                let name = place.name();
                let file = pairs.join(format!("{name}.{kind}"));
                let arguments: Vec<&str> =
                    arguments.iter().map(|word| if *word == "NAME" { name.as_str() } else { word }).collect();
                let work = Work { out: &file, statuses: "0", arguments: &arguments };
                self.want(&fleet, place, what, &after, &work, &mut wanted)?;
            }
            after = wanted[first..].iter().filter_map(|wanted: &Wanted| wanted.job).collect();
            Ok(())
        });
        self.wait(submitted, &fleet, &wanted, &signals)?;
        let mut good = wanted.iter().all(|wanted| wanted.file.exists());
        if let Some(dfr0) = &self.report {
            good &= self.run_dfr0(dfr0, Command::new(dfr0).args(["pairs", "table"]).arg(&pairs))?;
        }
        Ok(if good { Exit::Good } else { Exit::Failed })
    }

    /// Submits what is missing.
    fn want(
        &self,
        fleet: &Fleet,
        place: &Place,
        what: &str,
        after: &[u64],
        work: &Work<'_>,
        wanted: &mut Vec<Wanted>,
    ) -> Result<()> {
        let job = match work.out.exists() {
            true => None,
            false => Some(fleet.submit(place, after, work, &self.settings())?),
        };
        let what = format!("{}: {what}", place.name());
        wanted.push(Wanted { what, file: work.out.to_owned(), job });
        Ok(())
    }

    /// Waits for the jobs, and says which files are there and why others are not. Cancels them if not all could be submitted, or
    /// after a signal.
    fn wait(&self, submitted: Result<()>, fleet: &Fleet, wanted: &[Wanted], signals: &Signals) -> Result<()> {
        let jobs: Vec<u64> = wanted.iter().filter_map(|wanted| wanted.job).collect();
        eprintln!(
            "lab: {} of {} files are there; {} jobs",
            wanted.len() - jobs.len(),
            wanted.len(),
            jobs.len()
        );
        let ended = submitted.and_then(|()| {
            let progress = Progress::new(jobs.len());
            let name = |task: &Task| {
                let of =
                    wanted.iter().find(|wanted| wanted.job == Some(task.job) && !wanted.file.exists())?;
                Some(of.what.clone())
            };
            let said = std::cell::RefCell::new(Vec::new());
            let look = || {
                let missing = wanted.iter().filter(|wanted| wanted.job.is_some());
                let mut left = 0;
                for Wanted { what, file, job } in missing {
                    if !file.exists() {
                        left += 1;
                    } else if !said.borrow().contains(job) {
                        said.borrow_mut().push(*job);
                        progress.say(format!("lab: {what}: {}\n", file.display()));
                        progress.ended();
                    }
                }
                left
            };
            watch(&jobs, signals, &name, &|text| progress.say(format!("lab: {text}\n")), &look)
        });
        if ended.is_err() {
            slurm::cancel(&jobs)?;
        }
        let tasks = slurm::queue().unwrap_or_default();
        for Wanted { what, file, job } in wanted {
            let Some(job) = job.filter(|_| !file.exists()) else { continue };
            let task = tasks.iter().find(|task| task.job == job);
            let state = task.map_or_else(|| "Slurm does not know it any more".to_owned(), Task::described);
            let printed = last_line(&fleet.log(job));
            let printed = printed.map_or_else(String::new, |line| format!("; it printed `{line}`"));
            eprintln!("lab: {what}: no file: its job {job}: {state}{printed}");
        }
        ended
    }

    /// Runs dfr0 on this machine, and returns whether it found nothing wrong.
    fn run_dfr0(&self, dfr0: &Path, command: &mut Command) -> Result<bool> {
        let status = command.status().with_context(|| format!("cannot run {}", dfr0.display()))?;
        Ok(status.success())
    }
}
