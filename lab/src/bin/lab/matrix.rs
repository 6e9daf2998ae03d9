// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `lab matrix`: its arguments, and the run that they describe.

use std::collections::HashMap;
use std::env;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use dfr0_lab::cache::Cache;
use dfr0_lab::console::Console;
use dfr0_lab::errand::Errand;
use dfr0_lab::exit::Exit;
use dfr0_lab::hosts::Hosts;
use dfr0_lab::interrupt::{Interrupted, Signals};
use dfr0_lab::kernel::Choice;
use dfr0_lab::matrix::cell_folder::{CellFolder, ended};
use dfr0_lab::matrix::jobs::{Jobs, Settings, reporter};
use dfr0_lab::matrix::kernels::Kernel;
use dfr0_lab::matrix::plan::{self, Boot, Frozen};
use dfr0_lab::matrix::record::{Cell, FILE, Record, Status};
use dfr0_lab::matrix::reports;
use dfr0_lab::matrix::run::{self, Run};
use dfr0_lab::outcome::Outcome;
use dfr0_lab::progress::Progress;
use dfr0_lab::virtual_machine::VirtualMachine;
use dfr0_lab::{qemu, slurm};

use crate::{print, qemu_of};

pub const EXAMPLES: &str = "\
Examples:
  lab matrix --out run1 --with target/bundle -- ./dfr0 run
      Run everything in each default host with each default kernel.
  lab matrix --out run2 --host neoverse-n1 --host shape-4-2-1 \\
          --kernel trixie --with target/bundle -- ./dfr0 run
      Run two cells.
  lab matrix --out run3 --kernel newest \\
          --kernel ~/linux/arch/arm64/boot/Image \\
          --with target/bundle -- ./dfr0 run
      Use your own kernel in addition to Debian's newest.
  lab matrix --out run1 --resume --with target/bundle -- ./dfr0 run
      Continue the first run after Ctrl-C. Cells that have ended are kept.
  lab matrix --out /shared/run4 --executor slurm --sbatch=--partition=metal \\
          --with target/bundle -- ./dfr0 run --results -
      Run each cell as a job of Slurm (docs/fleets.md).

DIR contains matrix.json, which says what was run where and how each cell
ended, and for each cell HOST@KERNEL/ with stdout, stderr, kernel.log and
status.json. Each file and each HOST@KERNEL/ is complete or does not exist.
Two kernels with the same image count as one. --resume needs the same command,
files, hosts and kernels. A cell whose directory was deleted runs again.
Ctrl-C stops the running cells, and matrix.json says which cells have ended.
A second Ctrl-C ends lab immediately.

With Slurm, DIR must be on a file system that all nodes have. DIR/plan/ gets
all that the jobs need, so that the files may change meanwhile. One array of
jobs has the cells without a result, and a job after it collects them. --detach
prints the ids of the jobs and ends; --resume waits for them, and submits the
cells that have no result and no job. A cell that got no result is `lost`, with
Slurm's reason, and --resume runs it again. Ctrl-C cancels the jobs.

Exit status: 4 if CMD exited with 4 in each cell (kselftest: all skipped);
0 if it exited with 0 or 4 in each cell; 1 if not, or if a cell did not
report; 128 + N if signal N stopped lab; 125 if lab or the arguments failed.
With --detach, 0 if the jobs were submitted.";

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Matrix {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    whole: Option<Whole>,
}

/// What jobs of Slurm do.
#[derive(Subcommand)]
enum Part {
    /// Run a cell of the run in DIR, as its job does
    Cell {
        /// The run's directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// The number of the cell in matrix.json, from 0
        #[arg(value_name = "INDEX")]
        index: usize,
    },
    /// Collect the cells of the run in DIR and write its reports, as the last job does
    Collect {
        /// The run's directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// What runs the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Executor {
    /// This machine
    Local,
    /// Slurm's nodes
    Slurm,
}

#[derive(Args)]
struct Whole {
    /// Write everything into DIR, which must be empty or is created
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A host; may be repeated [default: those that `lab list` marks]
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// A kernel, as for `lab exec`; may be repeated [default: bookworm, trixie, sid and newest]
    #[arg(long, value_name = "SUITE|PATH")]
    kernel: Vec<Choice>,
    /// Copy WITH into each host, as CMD's working directory
    #[arg(long, value_name = "WITH")]
    with: Option<PathBuf>,
    /// Run N cells at a time [default: the number of this machine's CPUs; with Slurm, as many as it starts]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Stop a cell after this number of seconds [default: 600]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    deadline: Option<u64>,
    /// Continue the run in DIR
    #[arg(long)]
    resume: bool,
    /// What runs the cells [default: local]
    #[arg(long, value_name = "EXECUTOR")]
    executor: Option<Executor>,
    /// An option of sbatch for Slurm's jobs, such as --partition=metal; may be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    sbatch: Vec<String>,
    /// Have Slurm cancel the cells that cannot end within this number of seconds [default: 86400]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    within: Option<u64>,
    /// Do not wait for Slurm: print the ids of the jobs
    #[arg(long)]
    detach: bool,
    /// Write the reports of the run into DIR with the program DFR0, if CMD is `dfr0 run --results -`
    #[arg(long, value_name = "DFR0")]
    report: Option<PathBuf>,
    /// A static arm64 program of this machine (with a `/` in its name) or of WITH, and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// The kernels of a run that names none.
const KERNELS: [&str; 4] = ["bookworm", "trixie", "sid", "newest"];
const DEADLINE: u64 = 600;
/// A day.
const WITHIN: u64 = 86_400;

impl Matrix {
    pub fn run(&self, hosts: &Hosts) -> Result<Exit> {
        match (&self.part, &self.whole) {
            (Some(Part::Cell { directory, index }), _) => cell(directory, *index),
            (Some(Part::Collect { directory }), _) => collect(directory),
            (None, Some(whole)) => whole.run(hosts),
            (None, None) => unreachable!("clap requires --out"),
        }
    }
}

impl Whole {
    fn run(&self, hosts: &Hosts) -> Result<Exit> {
        if self.executor != Some(Executor::Slurm)
            && (self.detach || self.within.is_some() || !self.sbatch.is_empty())
        {
            bail!("--detach, --within and --sbatch need --executor slurm");
        }
        let signals = Signals::hold()?;
        let hosts = hosts.several(&self.host)?;
        let errand = Errand::new(&self.command, self.with.as_deref())?;
        let cache = Cache::open()?;
        let mut choices = self.kernel.clone();
        if choices.is_empty() {
            choices = KERNELS.iter().filter_map(|name| name.parse().ok()).collect();
        }
        let images =
            choices.iter().map(|choice| Ok((choice.clone(), choice.image(false, &cache, &signals)?)));
        let images = images.collect::<Result<Vec<_>>>()?;
        let scratch = cache.scratch()?;
        let kernels = Kernel::take(&images, scratch.path())?;
        for host in &hosts {
            // A host whose CPU cannot be made is said before any cell runs.
            qemu_of(host, &cache, &signals).with_context(|| format!("host {}", host.name))?;
        }
        for kernel in &kernels {
            if kernel.asked_for.len() > 1 {
                eprintln!("lab: the same image: {}", kernel.asked_for.join(", "));
            }
        }
        let qemu = qemu::version_text(&qemu::find(&cache, &signals)?, &signals)?;
        let record = Record::new(&qemu, &self.command, &errand.sha256()?, &hosts, kernels.clone());
        let deadline = self.deadline.unwrap_or(DEADLINE);
        let frozen = Frozen::new(errand, &qemu, &hosts, &kernels, scratch.path(), deadline)?;
        let run = Run::open(&self.out, record, self.resume)?;
        let all = run.record().cells.len();
        eprintln!(
            "lab: {} hosts × {} kernels: {all} cells, {} of them kept, into {}",
            hosts.len(),
            kernels.len(),
            all - run.left().len(),
            self.out.display()
        );
        match self.executor {
            Some(Executor::Slurm) => self.by_slurm(run, &frozen, &signals),
            Some(Executor::Local) | None => self.here(run, &frozen, &cache, &signals),
        }
    }

    fn here(&self, mut run: Run, frozen: &Frozen, cache: &Cache, signals: &Signals) -> Result<Exit> {
        let jobs = match self.jobs {
            Some(jobs) => jobs.into(),
            None => thread::available_parallelism()
                .map(NonZero::get)
                .context("cannot count the CPUs (use --jobs)")?,
        };
        let indices = run.record().cells.iter().enumerate().map(|(index, cell)| (cell.name(), index));
        let indices: HashMap<String, usize> = indices.collect();
        let ended = run
            .go(jobs, signals, &|cell, folder| boot(frozen, indices[&cell.name()], folder, cache, signals));
        finish(&run, &self.out, self.report.as_deref(), ended)
    }

    fn by_slurm(&self, run: Run, frozen: &Frozen, signals: &Signals) -> Result<Exit> {
        let out = self.out.canonicalize().with_context(|| format!("cannot find {}", self.out.display()))?;
        let settings = Settings {
            sbatch: &self.sbatch,
            within: self.within.unwrap_or(WITHIN),
            at_a_time: self.jobs,
            dfr0: self.report.as_deref(),
        };
        let jobs = Jobs::submit(&run, &out, frozen, &settings)?;
        let left = run.left();
        // Jobs collect too.
        drop(run);
        if self.detach {
            eprintln!("lab: Slurm has the jobs {}; --resume waits for them", jobs.ids());
            print(&jobs.ids())?;
            return Ok(Exit::Good);
        }
        let mut ended = Ok(());
        if !left.is_empty() {
            eprintln!("lab: Slurm has the jobs {}; Ctrl-C cancels them", jobs.ids());
            ended = jobs.wait(&out, &left, signals);
            // What still waits or runs is a second copy of a cell that has ended, or was stopped.
            jobs.cancel()?;
            if ended.is_err() {
                // A second signal ends this process without waiting.
                signals.let_go()?;
                jobs.wait_for_end()?;
            }
        }
        let mut run = Run::reopen(&out)?;
        gather(&mut run, &jobs, &out)?;
        finish(&run, &self.out, self.report.as_deref(), ended)
    }
}

/// Says how the run has ended, and writes its reports.
fn finish(run: &Run, out: &Path, dfr0: Option<&Path>, ended: Result<()>) -> Result<Exit> {
    for cell in run.record().cells.iter().filter(|cell| matches!(cell.status, Status::Lost(_))) {
        eprintln!("lab: {}: {}", cell.name(), cell.status);
    }
    eprintln!("lab: {}; {}", run.record().summary(), out.join(FILE).display());
    if ended.as_ref().is_err_and(|error| error.is::<Interrupted>()) || !run.left().is_empty() {
        eprintln!("lab: --resume continues this run");
    }
    ended?;
    if let Some(dfr0) = dfr0 {
        let dfr0 = dfr0.canonicalize().with_context(|| format!("cannot find {}", dfr0.display()))?;
        reports::write(&dfr0, out, run.record())?;
    }
    Ok(run.record().exit())
}

/// Runs the command in the cell with this index.
fn boot(
    frozen: &Frozen,
    index: usize,
    folder: &mut CellFolder,
    cache: &Cache,
    signals: &Signals,
) -> Result<Outcome> {
    let Boot { host, kernel, image } = &frozen.boot(index)?;
    let initramfs = frozen.errand().initramfs(host, &kernel.identity())?;
    let qemu = &qemu_of(host, cache, signals)?;
    let machine = VirtualMachine { qemu, host, kernel: image, initramfs, verbose: false };
    machine.run(Duration::from_secs(frozen.plan().deadline), signals, Console::new(folder, true))
}

/// What the job of a cell does. It succeeds if the cell has a result, whatever that is.
fn cell(directory: &Path, index: usize) -> Result<Exit> {
    let signals = Signals::hold()?;
    let frozen = Frozen::load(&directory.join(plan::DIRECTORY), index)?;
    let cell = frozen.boot(index)?.cell();
    let cell = match ended(directory, &cell) {
        // Slurm started the job again after the result was there.
        Some(cell) => cell,
        None => run_cell(directory, &frozen, index, &cell, &signals)?,
    };
    eprintln!("lab: {}", run::line(directory, &cell));
    Ok(Exit::Good)
}

fn run_cell(directory: &Path, frozen: &Frozen, index: usize, cell: &Cell, signals: &Signals) -> Result<Cell> {
    let cache = Cache::open()?;
    let (planned, found) = (&frozen.plan().qemu, qemu::version_text(&qemu::find(&cache, signals)?, signals)?);
    if found != *planned {
        bail!("this node has QEMU {found}, and the run was started with QEMU {planned}");
    }
    let running = Progress::new(1).begin(cell.name());
    let copy =
        format!("{}.{}", number("SLURM_JOB_ID").unwrap_or(0), number("SLURM_RESTART_COUNT").unwrap_or(0));
    run::one(directory, cell, &copy, running, &|_, folder| boot(frozen, index, folder, &cache, signals))
}

/// A number that Slurm gives to a job.
fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// What the job after the cells does.
fn collect(directory: &Path) -> Result<Exit> {
    let mut run = Run::reopen(directory)?;
    gather(&mut run, &Jobs::load(directory)?, directory)?;
    let dfr0 = reporter(&directory.join(plan::DIRECTORY));
    finish(&run, directory, dfr0.exists().then_some(dfr0.as_path()), Ok(()))
}

/// Takes over the cells that have ended, and finds out why others have not.
fn gather(run: &mut Run, jobs: &Jobs, directory: &Path) -> Result<()> {
    let tasks = slurm::queue().unwrap_or_else(|error| {
        eprintln!("lab: {error:#}");
        Vec::new()
    });
    run.collect(|index| jobs.lost(&tasks, index, directory))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::{Cli, Subcommands};

    #[test]
    fn hosts_and_kernels_may_be_repeated_and_the_rest_belongs_to_the_command() {
        let parse = |arguments: &[&str]| {
            let cli = Cli::try_parse_from([&["lab", "matrix", "--out", "o"], arguments].concat()).unwrap();
            let Subcommands::Matrix(matrix) = cli.command else { panic!("another command") };
            matrix.whole.unwrap()
        };
        let matrix = parse(&["--host", "a", "--host", "b", "--kernel", "sid", "--", "./t", "--host", "c"]);
        assert_eq!(
            (&matrix.host[..], &matrix.command[..]),
            (
                &["a".to_owned(), "b".to_owned()][..],
                &["./t".to_owned(), "--host".to_owned(), "c".to_owned()][..]
            )
        );
        assert_eq!(matrix.kernel.len(), 1);
        let matrix = parse(&["./t"]);
        assert_eq!((matrix.host.len(), matrix.kernel.len(), matrix.jobs), (0, 0, None));
    }
}
