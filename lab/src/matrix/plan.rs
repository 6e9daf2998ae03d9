// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A run as it was when it started: the command, its files, the hosts and the kernels. What changes afterwards does not
//! change a cell that runs later, maybe on another machine.
//!
//! ```text
//!   DIR/plan/plan.json         the command, the hosts, and the digests of the files
//!            files             what each host gets: of --with, the command and lab-init
//!            kernels/SHA256    the images
//!            jobs.json         what was submitted
//!            lab  dfr0  job    the programs of the jobs, and the script that starts them
//!            log/JOB_INDEX     what the job of a cell printed
//! ```

use std::fs::{self, File};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::cache::write_whole;
use crate::digest::sha256;
use crate::errand::{Command, Errand};
use crate::hosts::Host;
use crate::matrix::kernels::Kernel;
use crate::matrix::record::{Cell, read_json, write_json};

/// The plan's directory in that of the run.
pub const DIRECTORY: &str = "plan";
const FILE: &str = "plan.json";
const FILES: &str = "files";
const KERNELS: &str = "kernels";
/// The value of [`Plan::version`]. Increment it when the meaning of a key changes.
const VERSION: u32 = 1;

/// What is in plan.json.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    version: u32,
    /// The lab's version.
    lab: String,
    /// QEMU's version, as it prints it.
    pub qemu: String,
    command: Command,
    files_sha256: String,
    hosts: Vec<Host>,
    kernels: Vec<Kernel>,
    /// The number of seconds after which a cell is stopped.
    pub deadline: u64,
}

/// A plan and its files.
#[derive(Debug)]
pub struct Frozen {
    plan: Plan,
    errand: Errand,
    images: PathBuf,
}

/// What boots in a cell.
#[derive(Debug)]
pub struct Boot<'a> {
    /// The host.
    pub host: &'a Host,
    /// Its kernel.
    pub kernel: &'a Kernel,
    /// The kernel's image.
    pub image: PathBuf,
}

impl Frozen {
    /// A run of `errand`. The directory `images` has the images of the kernels, whose names are their digests.
    pub fn new(
        errand: Errand,
        qemu: &str,
        hosts: &[&Host],
        kernels: &[Kernel],
        images: &Path,
        deadline: u64,
    ) -> Result<Self> {
        let plan = Plan {
            version: VERSION,
            lab: env!("CARGO_PKG_VERSION").into(),
            qemu: qemu.into(),
            command: errand.command().clone(),
            files_sha256: errand.sha256()?,
            hosts: hosts.iter().copied().cloned().collect(),
            kernels: kernels.to_vec(),
            deadline,
        };
        Ok(Self { plan, errand, images: images.to_owned() })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The command and its files.
    pub fn errand(&self) -> &Errand {
        &self.errand
    }

    /// What boots in the cell with this index, in the order of the record.
    pub fn boot(&self, index: usize) -> Result<Boot<'_>> {
        let Plan { hosts, kernels, .. } = &self.plan;
        let found = index.checked_div(kernels.len()).and_then(|host| hosts.get(host));
        let Some(host) = found else {
            bail!("the plan has {} cells, and there is no number {index}", hosts.len() * kernels.len())
        };
        let kernel = &kernels[index % kernels.len()];
        Ok(Boot { host, kernel, image: self.images.join(&kernel.sha256) })
    }

    /// Whether the plan in `place` is another one.
    pub fn differs(&self, place: &Path) -> bool {
        read_json::<Plan>(&place.join(FILE)).is_ok_and(|plan| plan != self.plan)
    }

    /// Writes the plan and its files into `place`. A job that reads them meanwhile finds the old or the new ones.
    pub fn write(&self, place: &Path) -> Result<()> {
        let kernels = place.join(KERNELS);
        fs::create_dir_all(&kernels).with_context(|| format!("cannot create {}", kernels.display()))?;
        copy(&mut self.errand.files()?, &place.join(FILES), 0o644)?;
        for kernel in &self.plan.kernels {
            let image = self.images.join(&kernel.sha256);
            let mut image = File::open(&image).with_context(|| format!("cannot read {}", image.display()))?;
            copy(&mut image, &kernels.join(&kernel.sha256), 0o644)?;
        }
        write_json(&place.join(FILE), &self.plan)
    }

    /// Reads the plan in `place` to run the cell with this index. The files that it needs must be those that were planned.
    pub fn load(place: &Path, index: usize) -> Result<Self> {
        let path = place.join(FILE);
        let plan: Plan = read_json(&path)?;
        if plan.version != VERSION || plan.lab != env!("CARGO_PKG_VERSION") {
            bail!("{} is of lab {}, and this is lab {}", path.display(), plan.lab, env!("CARGO_PKG_VERSION"));
        }
        let kernels = plan.kernels.iter().flat_map(|kernel| [&kernel.name, &kernel.sha256]);
        if let Some(name) =
            plan.hosts.iter().map(|host| &host.name).chain(kernels).find(|name| !is_plain(name))
        {
            bail!("{}: {name:?} cannot be part of a file's name", path.display());
        }
        let files = checked(&place.join(FILES), &plan.files_sha256)?;
        let errand = Errand::again(plan.command.clone(), files);
        let frozen = Self { plan, errand, images: place.join(KERNELS) };
        let Boot { kernel, image, .. } = frozen.boot(index)?;
        checked(&image, &kernel.sha256)?;
        Ok(frozen)
    }
}

impl Boot<'_> {
    /// The cell, which has not run yet.
    pub fn cell(&self) -> Cell {
        Cell::new(&self.host.name, &self.kernel.name)
    }
}

/// Whether a name is one component of a path.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

/// Copies an open file to `path`.
pub fn copy(from: &mut File, path: &Path, mode: u32) -> Result<()> {
    write_whole(path, mode, |file| {
        io::copy(from, file).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(())
    })
}

/// Opens a file that must have this digest.
fn checked(path: &Path, planned: &str) -> Result<File> {
    let failed = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(failed)?;
    let found = sha256(&mut file).with_context(failed)?;
    if found != planned {
        bail!("{} has changed: its sha256 was {planned} and is {found}", path.display());
    }
    file.rewind().with_context(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::hosts::Hosts;
    use crate::kernel::{Choice, Image};

    /// Writes a plan of two hosts and two kernels into `place`.
    fn write(place: &Path) -> Frozen {
        let images = tempfile::tempdir().unwrap();
        let image = |name: &str, bytes: &str| {
            let path = images.path().join(name);
            fs::write(&path, bytes).unwrap();
            (name.parse::<Choice>().unwrap(), Image { path, source: None })
        };
        let images_ = [image("trixie", "6.12"), image("sid", "7.3")];
        let kernels = Kernel::take(&images_, images.path()).unwrap();
        let mut files = tempfile::tempfile().unwrap();
        files.write_all(b"an archive").unwrap();
        let command = Command {
            program: "/host/t".into(),
            arguments: vec!["a b".into()],
            inherited: [("DFR0_SEED".into(), "7".into())].into(),
        };
        let hosts = Hosts::load(None).unwrap();
        let hosts = hosts.several(&["shape-4-2-1".into(), "max".into()]).unwrap();
        let errand = Errand::again(command, files);
        let frozen = Frozen::new(errand, "10.0.2", &hosts, &kernels, images.path(), 9).unwrap();
        frozen.write(place).unwrap();
        frozen
    }

    #[test]
    fn a_plan_can_be_written_and_read_again() {
        let place = tempfile::tempdir().unwrap();
        let written = write(place.path());
        for (index, name, image) in
            [(0, "shape-4-2-1@trixie", "6.12"), (1, "shape-4-2-1@sid", "7.3"), (3, "max@sid", "7.3")]
        {
            let read = Frozen::load(place.path(), index).unwrap();
            assert_eq!(read.plan(), written.plan());
            assert_eq!(read.errand().command(), written.errand().command());
            assert_eq!(read.errand().sha256().unwrap(), written.errand().sha256().unwrap());
            let boot = read.boot(index).unwrap();
            assert_eq!(boot.cell().name(), name);
            assert_eq!(fs::read_to_string(&boot.image).unwrap(), image);
        }
        assert!(!written.differs(place.path()));
        let error = Frozen::load(place.path(), 4).unwrap_err().to_string();
        assert_eq!(error, "the plan has 4 cells, and there is no number 4");
    }

    #[test]
    fn a_file_that_has_changed_is_refused_by_each_cell_that_needs_it() {
        let place = tempfile::tempdir().unwrap();
        let frozen = write(place.path());
        let error = |index| Frozen::load(place.path(), index).map(drop).map_err(|error| format!("{error:#}"));
        fs::write(place.path().join(KERNELS).join(&frozen.plan.kernels[1].sha256), "7.4").unwrap();
        assert_eq!(error(0), Ok(()));
        assert!(error(1).unwrap_err().contains("has changed: its sha256 was"));
        fs::write(place.path().join(FILES), "another").unwrap();
        assert!(error(0).unwrap_err().contains("files has changed"));
        fs::remove_file(place.path().join(FILES)).unwrap();
        assert!(error(0).unwrap_err().contains("files: No such file"));
    }

    #[test]
    fn what_is_not_a_plan_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        write(place.path());
        let path = place.path().join(FILE);
        let good = fs::read_to_string(&path).unwrap();
        for (old, new, reason) in [
            ("\"version\": 1", "\"version\": 2", "is of lab"),
            ("\"name\": \"max\"", "\"name\": \"../max\"", "\"../max\" cannot be part of a file's name"),
            ("\"name\": \"sid\"", "\"name\": \".\"", "\".\" cannot be part of a file's name"),
            ("\"kernel\": \"newest\"", "\"kernel\": \"potato\"", "`potato` is not a kernel"),
            ("\"deadline\"", "\"dead\"", "unknown field `dead`"),
            ("{", "", "does not have the format"),
        ] {
            assert!(good.contains(old), "{old}");
            fs::write(&path, good.replacen(old, new, 1)).unwrap();
            let error = format!("{:#}", Frozen::load(place.path(), 0).unwrap_err());
            assert!(error.contains(reason), "{new}: {error}");
        }
        fs::write(&path, good.replacen("\"max\"", "\"min\"", 1)).unwrap();
        let hosts = Frozen::load(place.path(), 2).unwrap();
        assert_eq!(hosts.boot(2).unwrap().cell().name(), "min@trixie");
        let mut none: Plan = serde_json::from_str(&good).unwrap();
        none.kernels.clear();
        write_json(&path, &none).unwrap();
        assert!(Frozen::load(place.path(), 0).unwrap_err().to_string().contains("has 0 cells"));
    }
}
