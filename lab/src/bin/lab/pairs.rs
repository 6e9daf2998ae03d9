// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `lab pairs`: moves scenarios between each ordered pair of hosts. Each host is booted three times: for its fingerprint,
//! to save, and to restore.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use dfr0_lab::cache::{Cache, write_whole};
use dfr0_lab::console::{Console, Output};
use dfr0_lab::errand::Errand;
use dfr0_lab::exit::Exit;
use dfr0_lab::hosts::{Host, Hosts};
use dfr0_lab::interrupt::Signals;
use dfr0_lab::kernel::{Choice, Identity};
use dfr0_lab::matrix::kernels;
use dfr0_lab::outcome::Outcome;
use dfr0_lab::pool;
use dfr0_lab::progress::{Progress, Running};
use dfr0_lab::virtual_machine::VirtualMachine;

use crate::qemu_of;

/// What is run in each host: the words for it, the end of the name of the file with its output, and dfr0's arguments.
const PASSES: [(&str, &str, &str); 3] = [
    ("its fingerprint", ".host.json", "host show --json"),
    ("saving", ".snapshots", "pairs save --host HOST pairs"),
    ("restoring", ".outcomes.json", "pairs restore --host HOST pairs"),
];
/// The number of hosts that run at a time.
const JOBS: usize = 2;
const DEADLINE: Duration = Duration::from_secs(600);

const STATUS: &str = "\
Each file in DIR is complete or does not exist. Ctrl-C stops the running hosts.

Exit status: 0 if dfr0 succeeded in each host; 128 + N if signal N stopped lab;
125 if lab, a host or the arguments failed.";

#[derive(Args)]
#[command(after_help = STATUS)]
pub struct Pairs {
    /// Write fingerprints, snapshots and outcomes into DIR, which must be empty or is created
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The directory of the static arm64 program dfr0
    #[arg(long, value_name = "BUNDLE")]
    bundle: PathBuf,
    /// The hosts and their kernels
    #[arg(
        value_name = "HOST@KERNEL",
        default_values = [
            "neoverse-v1@newest", "neoverse-v1@trixie", "neoverse-n1@newest", "n1-shape-4-2-1@newest",
            "shape-16-16-4@newest", "shape-4-2-1@newest", "shape-8-4-6@trixie",
        ],
    )]
    places: Vec<Place>,
}

/// A host and its kernel.
#[derive(Clone, Debug)]
struct Place {
    host: String,
    kernel: Choice,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, kernel) =
            text.split_once('@').ok_or_else(|| format!("`{text}` is not HOST@KERNEL, as in max@trixie"))?;
        Ok(Self { host: host.into(), kernel: kernel.parse()? })
    }
}

/// A host that can be booted, and its name in the names of files.
struct Machine<'a> {
    name: String,
    host: &'a Host,
    qemu: PathBuf,
    kernel: PathBuf,
    identity: Identity,
}

impl Pairs {
    pub fn run(&self, hosts: &Hosts) -> Result<Exit> {
        let (signals, cache) = (Signals::hold()?, Cache::open()?);
        let machine = |Place { host: name, kernel }: &Place| {
            let host = hosts.get(Some(name))?;
            let (qemu, image) = (qemu_of(host, &cache, &signals)?, kernel.image(false, &cache, &signals)?);
            let identity = image.identity()?;
            let name = format!("{name}@{}", kernels::name(kernel, &identity.sha256));
            Ok(Machine { name, host, qemu, kernel: image.path, identity })
        };
        let machines = self.places.iter().map(machine).collect::<Result<Vec<_>>>()?;
        let out = self.out.display();
        fs::create_dir_all(&self.out).with_context(|| format!("cannot create {out}"))?;
        if fs::read_dir(&self.out).with_context(|| format!("cannot read {out}"))?.next().is_some() {
            bail!("{out} is not empty");
        }
        let with = tempfile::tempdir().context("cannot make a temporary directory")?;
        copy(&self.bundle.join("dfr0"), &with.path().join("dfr0"))?;
        let shared = with.path().join("pairs");
        fs::create_dir(&shared).with_context(|| format!("cannot create {}", shared.display()))?;
        for (what, kind, arguments) in PASSES {
            let progress = Progress::new(machines.len());
            let file = |machine: &Machine<'_>| format!("{}{kind}", machine.name);
            let work = |machine: &&Machine<'_>| {
                progress.say(format!("dfr0: pairs: {}: {what}\n", machine.name));
                let arguments = arguments.replace("HOST", &machine.name);
                write_whole(&self.out.join(file(machine)), 0o644, |file| {
                    let output =
                        Printed { file, running: progress.begin(machine.name.clone()), progress: &progress };
                    match machine.dfr0(&arguments, with.path(), output, &signals)? {
                        Outcome::Exited(0) => Ok(()),
                        outcome => bail!("`dfr0 {arguments}`: {outcome}"),
                    }
                })
                .with_context(|| machine.name.clone())
            };
            pool::run(machines.iter().collect(), JOBS, &signals, &work, |_, _| {
                progress.ended();
                Ok(())
            })?;
            for name in machines.iter().map(file) {
                copy(&self.out.join(&name), &shared.join(&name))?;
            }
        }
        Ok(Exit::Good)
    }
}

impl Machine<'_> {
    fn dfr0(&self, arguments: &str, with: &Path, output: Printed<'_>, signals: &Signals) -> Result<Outcome> {
        let command: Vec<String> =
            ["./dfr0"].into_iter().chain(arguments.split(' ')).map(Into::into).collect();
        let initramfs = Errand::new(&command, Some(with))?.initramfs(self.host, &self.identity)?;
        let Self { host, qemu, kernel, .. } = self;
        let machine = VirtualMachine { qemu, host, kernel, initramfs, verbose: false };
        machine.run(DEADLINE, signals, Console::new(output, false))
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// The output of dfr0 in a host: stdout goes to a file, and the rest to the stderr of `lab`.
struct Printed<'a> {
    file: &'a mut File,
    running: Running,
    progress: &'a Progress,
}

impl Output for Printed<'_> {
    fn stdout(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).context("cannot write the host's output")
    }

    fn stderr(&mut self, bytes: &[u8]) -> Result<()> {
        self.running.printed(bytes);
        self.progress.say(bytes);
        Ok(())
    }

    fn note(&mut self, line: &str) -> Result<()> {
        self.progress.say(format!("{line}\n"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_host_and_a_kernel() {
        let place: Place = "max@a/b@c/Image".parse().unwrap();
        assert_eq!((place.host.as_str(), place.kernel), ("max", Choice::Path("a/b@c/Image".into())));
        assert!("max".parse::<Place>().unwrap_err().contains("`max` is not HOST@KERNEL"));
        assert!("max@potato".parse::<Place>().unwrap_err().contains("`potato` is not a kernel"));
    }
}
