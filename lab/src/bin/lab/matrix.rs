// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `lab matrix`: its arguments, and the run that they describe.

use std::collections::HashMap;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use dfr0_lab::cache::Cache;
use dfr0_lab::console::Console;
use dfr0_lab::errand::Errand;
use dfr0_lab::exit::Exit;
use dfr0_lab::hosts::Hosts;
use dfr0_lab::interrupt::{Interrupted, Signals};
use dfr0_lab::kernel::Choice;
use dfr0_lab::matrix::cell_folder::CellFolder;
use dfr0_lab::matrix::kernels::Kernel;
use dfr0_lab::matrix::record::{Cell, FILE, Record};
use dfr0_lab::matrix::run::Run;
use dfr0_lab::qemu;
use dfr0_lab::virtual_machine::VirtualMachine;

use crate::qemu_of;

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

DIR contains matrix.json, which says what was run where and how each cell
ended, and for each cell HOST@KERNEL/ with stdout, stderr, kernel.log and
status.json. Each file and each HOST@KERNEL/ is complete or does not exist.
Two kernels with the same image count as one. --resume needs the same command,
files, hosts and kernels. A cell whose directory was deleted runs again.
Ctrl-C stops the running cells, and matrix.json says which cells have ended.
A second Ctrl-C ends lab immediately.

Exit status: 4 if CMD exited with 4 in each cell (kselftest: all skipped);
0 if it exited with 0 or 4 in each cell; 1 if not, or if a cell did not
report; 128 + N if signal N stopped lab; 125 if lab or the arguments failed.";

#[derive(Args)]
pub struct Matrix {
    /// Write everything into DIR, which must be empty or is created
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A host; may be repeated [default: those that `lab list` marks]
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// A kernel, as for `lab exec`; may be repeated
    #[arg(
        long,
        value_name = "SUITE|PATH",
        default_values = ["bookworm", "trixie", "sid", "newest"],
    )]
    kernel: Vec<Choice>,
    /// Copy WITH into each host, as CMD's working directory
    #[arg(long, value_name = "WITH")]
    with: Option<PathBuf>,
    /// Run N cells at a time [default: the number of this machine's CPUs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Stop a cell after this number of seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    deadline: u64,
    /// Continue the run in DIR
    #[arg(long)]
    resume: bool,
    /// A static arm64 program of this machine (with a `/` in its name) or of WITH, and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Matrix {
    pub fn run(&self, hosts: &Hosts) -> Result<Exit> {
        let signals = Signals::hold()?;
        let hosts = hosts.several(&self.host)?;
        let errand = Errand::new(&self.command, self.with.as_deref())?;
        let cache = Cache::open()?;
        let images =
            self.kernel.iter().map(|choice| Ok((choice.clone(), choice.image(false, &cache, &signals)?)));
        let images = images.collect::<Result<Vec<_>>>()?;
        let scratch = cache.scratch()?;
        let kernels = Kernel::take(&images, scratch.path())?;
        let mut machines = HashMap::new();
        for host in &hosts {
            let qemu = qemu_of(host, &cache, &signals).with_context(|| format!("host {}", host.name))?;
            for (kernel, image) in &kernels {
                machines.insert(
                    Cell::new(&host.name, &kernel.name).name(),
                    (*host, qemu.clone(), image.as_path(), kernel.identity()),
                );
            }
        }
        for (kernel, _) in &kernels {
            if let [_, others @ ..] = &kernel.asked_for[..]
                && !others.is_empty()
            {
                eprintln!("lab: the same image: {}", kernel.asked_for.join(", "));
            }
        }
        let jobs = match self.jobs {
            Some(jobs) => jobs.into(),
            None => thread::available_parallelism().context("cannot count the CPUs (use --jobs)")?.get(),
        };
        let record = Record::new(
            &qemu::version_text(&qemu::find(&cache, &signals)?, &signals)?,
            &self.command,
            &errand.sha256()?,
            &hosts,
            kernels.iter().map(|(kernel, _)| kernel.clone()).collect(),
        );
        let mut run = Run::open(&self.out, record, self.resume)?;
        let all = run.record().cells.len();
        let kept = run.record().cells.iter().filter(|cell| cell.status.has_ended()).count();
        eprintln!(
            "lab: {} hosts × {} kernels: {all} cells, {kept} of them kept; {jobs} at a time, into {}",
            hosts.len(),
            kernels.len(),
            self.out.display()
        );

        let deadline = Duration::from_secs(self.deadline);
        let run_cell = |cell: &Cell, folder: &mut CellFolder| {
            let (host, qemu, kernel, identity) = &machines[&cell.name()];
            let initramfs = errand.initramfs(host, identity)?;
            let machine = VirtualMachine { qemu, host, kernel, initramfs, verbose: false };
            machine.run(deadline, &signals, Console::new(folder, true))
        };
        let ended = run.go(jobs, &signals, &run_cell);
        eprintln!("lab: {}; {}", run.record().summary(), self.out.join(FILE).display());
        if ended.as_ref().is_err_and(|error| error.is::<Interrupted>()) {
            eprintln!("lab: --resume continues this run");
        }
        ended?;
        Ok(run.record().exit())
    }
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
            matrix
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
        assert_eq!((matrix.host.len(), matrix.kernel.len(), matrix.jobs), (0, 4, None));
    }
}
