// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! matrix.json: what a run consists of, and how each of its cells ended.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::cache::write_whole;
use crate::exit::{Exit, SKIPPED};
use crate::facts::Facts;
use crate::hosts;
use crate::matrix::kernels::Kernel;
use crate::mode::Mode;
use crate::outcome::Outcome;
use crate::shape::Shape;

/// The file's name in a run's directory.
pub const FILE: &str = "matrix.json";
/// The value of [`Record::version`]. Increment it when the meaning of a key changes.
pub const VERSION: u32 = 1;
/// An upper limit in bytes. A record of several thousand cells is smaller; a larger file is rejected.
const LARGEST: u64 = 16 << 20;

/// A run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of the file format: [`VERSION`].
    pub version: u32,
    /// The lab's version.
    pub lab: String,
    /// QEMU's version, as it prints it.
    pub qemu: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// The digest of all files that a host gets: of `--with`, the command and `lab-init`.
    pub files_sha256: String,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The kernels.
    pub kernels: Vec<Kernel>,
    /// Each host with each kernel, in the order in which they are run.
    pub cells: Vec<Cell>,
}

/// A host as defined in hosts.toml. The facts that it reports with each kernel are in its cells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// A description in one line.
    pub about: String,
    /// QEMU's `-cpu` argument.
    pub cpu: String,
    /// Number of CPUs.
    pub vcpus: u32,
    /// Memory in MiB, without that for the files of `--with`.
    pub memory_mib: u32,
    /// The CPU's shape, if it is not that of QEMU's model.
    pub shape: Option<Shape>,
    /// How KVM runs there; `None` if it chooses.
    #[serde(default, alias = "nvhe", deserialize_with = "mode")]
    pub mode: Option<Mode>,
    /// The machine has memory for Allocation Tags.
    #[serde(default)]
    pub mte: bool,
}

/// A mode, or `nvhe` of an older record: whether the mode is nVHE.
fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mode>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Mode(Option<Mode>),
        IsNvhe(bool),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::Mode(mode) => mode,
        Written::IsNvhe(is) => is.then_some(Mode::Nvhe),
    })
}

impl From<&hosts::Host> for Host {
    fn from(host: &hosts::Host) -> Self {
        Self {
            name: host.name.clone(),
            about: host.about.clone(),
            cpu: host.cpu.clone(),
            vcpus: host.vcpus,
            memory_mib: host.memory_mib,
            shape: host.shaped.as_ref().map(|cpu| cpu.shape),
            mode: host.mode,
            mte: host.mte,
        }
    }
}

/// A host with a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// The host's name.
    pub host: String,
    /// The kernel's name.
    pub kernel: String,
    /// How the command ended there.
    pub status: Status,
    /// The facts that the host reported, if it did.
    pub facts: Option<Facts>,
    /// How long the cell ran. This is only for users, because it depends on the load of the machine.
    pub milliseconds: Option<u64>,
}

impl Cell {
    /// A cell that has not run yet.
    pub fn new(host: &str, kernel: &str) -> Self {
        Self {
            host: host.into(),
            kernel: kernel.into(),
            status: Status::NotRun,
            facts: None,
            milliseconds: None,
        }
    }

    /// The name of its directory.
    pub fn name(&self) -> String {
        format!("{}@{}", self.host, self.kernel)
    }
}

/// The status of a cell. Only the first two mean that the command ended by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The command exited with this status.
    Exited(u8),
    /// The command was killed by this signal.
    Killed(u8),
    /// The host does not have the expected shape, or could not run the command.
    Refused(String),
    /// The command had not ended after this number of seconds.
    Deadline(u64),
    /// The host did not report how the command ended, or some of its output was lost.
    NoReport(String),
    /// The cell's job ended without a result, for this reason.
    Lost(String),
    /// The run was stopped while the cell ran.
    Interrupted,
    /// The cell has not run yet.
    NotRun,
}

impl Status {
    /// Whether the cell has ended and need not run again.
    pub fn has_ended(&self) -> bool {
        !matches!(self, Self::Lost(_) | Self::Interrupted | Self::NotRun)
    }

    /// Whether the command succeeded: it exited with 0, or with 4 because it skipped all tests.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Exited(0 | SKIPPED))
    }
}

impl From<Outcome> for Status {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Exited(status) => Self::Exited(status),
            Outcome::Killed(signal) => Self::Killed(signal),
            Outcome::Refused(reason) => Self::Refused(reason),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(SKIPPED) => write!(f, "exited {SKIPPED} (all skipped)"),
            Self::Exited(status) => write!(f, "exited {status}"),
            Self::Killed(signal) => write!(f, "killed by signal {signal}"),
            Self::Refused(reason) => write!(f, "did not run: {reason}"),
            Self::Deadline(seconds) => {
                write!(f, "did not end within {seconds} s and was stopped (--deadline sets a longer limit)")
            }
            Self::NoReport(reason) => write!(f, "did not report: {reason}"),
            Self::Lost(reason) => write!(f, "lost: {reason}"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::NotRun => f.write_str("not run"),
        }
    }
}

impl Record {
    /// A run of which no cell has run yet. The cells are in the order of the hosts.
    pub fn new(
        qemu: &str,
        command: &[String],
        files_sha256: &str,
        hosts: &[&hosts::Host],
        kernels: Vec<Kernel>,
    ) -> Self {
        let cell = |host: &&hosts::Host| {
            kernels.iter().map(|kernel| Cell::new(&host.name, &kernel.name)).collect::<Vec<_>>()
        };
        Self {
            version: VERSION,
            lab: env!("CARGO_PKG_VERSION").into(),
            qemu: qemu.into(),
            command: command.to_vec(),
            files_sha256: files_sha256.into(),
            cells: hosts.iter().flat_map(cell).collect(),
            hosts: hosts.iter().map(|&host| host.into()).collect(),
            kernels,
        }
    }

    /// Reads the record in a run's directory. The file may contain anything.
    pub fn load(directory: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let path = directory.join(FILE);
        let Head { version } = read_json(&path)?;
        if version != VERSION {
            bail!("{} has version {version}, and this lab reads version {VERSION}", path.display());
        }
        read_json(&path)
    }

    /// Writes the record into the run's directory, complete or not at all.
    pub fn save(&self, directory: &Path) -> Result<()> {
        write_json(&directory.join(FILE), self)
    }

    /// Replaces a cell by one that has ended.
    pub fn set(&mut self, index: usize, cell: Cell) {
        let kernel = self.kernels.iter_mut().find(|kernel| kernel.name == cell.kernel);
        if let (Some(kernel), Some(facts)) = (kernel, &cell.facts) {
            kernel.release = Some(facts.release.clone());
        }
        self.cells[index] = cell;
    }

    /// Takes over the cells of `earlier`, a record of the same run, as `ended` finds them.
    pub fn resume(&mut self, earlier: Self, ended: impl Fn(&Cell) -> Option<Cell>) -> Result<()> {
        let differences = earlier.differences(self);
        if !differences.is_empty() {
            bail!("it is a different run:\n  {}", differences.join("\n  "));
        }
        if earlier.cells.len() != self.cells.len() {
            bail!("{FILE} has {} of {} cells", earlier.cells.len(), self.cells.len());
        }
        let mut cells: BTreeMap<_, _> = earlier.cells.into_iter().map(|cell| (cell.name(), cell)).collect();
        for index in 0..self.cells.len() {
            let name = self.cells[index].name();
            let Some(cell) = cells.remove(&name) else { bail!("{FILE} does not have the cell {name}") };
            if let Some(cell) = ended(&cell) {
                self.set(index, cell);
            }
        }
        Ok(())
    }

    /// The differences from `now`, one per line.
    fn differences(&self, now: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |what: &str, then: Option<String>, now: Option<String>| match (then, now) {
            (then, now) if then == now => {}
            (Some(then), Some(now)) => differences.push(format!("{what}: was {then}, is {now}")),
            (Some(_), None) => differences.push(format!("{what}: was part of it, is not now")),
            (None, _) => differences.push(format!("{what}: was not part of it, is now")),
        };
        compare("lab", Some(self.lab.clone()), Some(now.lab.clone()));
        compare("QEMU", Some(self.qemu.clone()), Some(now.qemu.clone()));
        compare("command", Some(format!("{:?}", self.command)), Some(format!("{:?}", now.command)));
        let files = |record: &Self| Some(format!("files with sha256 {}", record.files_sha256));
        compare("--with, CMD's file or lab-init", files(self), files(now));
        let images = |record: &Self| -> BTreeMap<String, String> {
            let named =
                |kernel: &Kernel| (kernel.name.clone(), format!("an image with sha256 {}", kernel.sha256));
            record.kernels.iter().map(named).collect()
        };
        compare_each("kernel", &images(self), &images(now), &mut compare);
        let hosts = |record: &Self| -> BTreeMap<String, String> {
            record.hosts.iter().map(|host| (host.name.clone(), format!("{host:?}"))).collect()
        };
        compare_each("host", &hosts(self), &hosts(now), &mut compare);
        differences
    }

    /// How `lab` ends after this run.
    pub fn exit(&self) -> Exit {
        if !self.cells.iter().all(|cell| cell.status.is_good()) {
            Exit::Failed
        } else if self.cells.iter().all(|cell| cell.status == Status::Exited(SKIPPED)) {
            Exit::Skipped
        } else {
            Exit::Good
        }
    }

    /// The number of cells with each status, in one line.
    pub fn summary(&self) -> String {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for cell in &self.cells {
            let kind = match &cell.status {
                Status::Refused(_) => "did not run".into(),
                Status::Deadline(_) => "did not end in time".into(),
                Status::NoReport(_) => "did not report".into(),
                Status::Lost(_) => "lost".into(),
                status => status.to_string(),
            };
            *counts.entry(kind).or_default() += 1;
        }
        let counts: Vec<_> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        format!("{} cells: {}", self.cells.len(), counts.join(", "))
    }
}

fn compare_each(
    what: &str,
    then: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
    compare: &mut impl FnMut(&str, Option<String>, Option<String>),
) {
    for name in then.keys().chain(now.keys().filter(|name| !then.contains_key(*name))) {
        compare(&format!("{what} {name}"), then.get(name).cloned(), now.get(name).cloned());
    }
}

/// Reads a file that `lab matrix` should have written.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    if text.len() as u64 > LARGEST {
        bail!("{} has more than {LARGEST} bytes and was not written by `lab matrix`", path.display());
    }
    serde_json::from_str(&text)
        .with_context(|| format!("{} does not have the format of `lab matrix`", path.display()))
}

/// Writes a file, complete or not at all.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    write_whole(path, 0o644, |file| {
        writeln!(file, "{text}").with_context(|| format!("cannot write {}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::facts::Register;
    use crate::hosts::Hosts;

    fn kernel(name: &str, sha256: &str) -> Kernel {
        Kernel {
            name: name.into(),
            asked_for: vec![name.into()],
            sha256: sha256.into(),
            source: None,
            release: None,
        }
    }

    fn record(hosts: &[&str], kernels: Vec<Kernel>) -> Record {
        let names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let hosts = Hosts::load(None).unwrap();
        Record::new("10.0.2", &["./t".into()], "f00d", &hosts.several(&names).unwrap(), kernels)
    }

    fn planned() -> Record {
        record(&["shape-4-2-1", "max"], vec![kernel("trixie", "12"), kernel("sid", "13")])
    }

    fn names(record: &Record) -> Vec<String> {
        record.cells.iter().map(Cell::name).collect()
    }

    fn facts(release: &str) -> Facts {
        let id_aa64dfr0 = Some(Register(0xf000_0000_1030_5009));
        Facts { release: release.into(), midr: None, mode: None, id_aa64dfr0, no_kvm: None }
    }

    /// The run of [`planned`], after some of its cells.
    fn earlier() -> Record {
        let mut record = planned();
        for (index, status) in
            [(0, Status::Exited(1)), (1, Status::NoReport("the host died".into())), (2, Status::Interrupted)]
        {
            let cell = record.cells[index].clone();
            record.set(index, Cell { status, facts: Some(facts("6.12")), milliseconds: Some(7), ..cell });
        }
        record
    }

    #[test]
    fn there_is_a_cell_for_each_host_with_each_kernel() {
        let record = planned();
        assert_eq!(names(&record), ["shape-4-2-1@trixie", "shape-4-2-1@sid", "max@trixie", "max@sid"]);
        assert!(record.cells.iter().all(|cell| cell.status == Status::NotRun));
        assert_eq!(record.hosts[0].shape.unwrap().watchpoints, 2);
    }

    #[test]
    fn a_record_can_be_written_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut record = earlier();
        for (index, status) in
            [Status::Killed(9), Status::Refused("no \"shape\"".into()), Status::Deadline(60)]
                .into_iter()
                .enumerate()
        {
            record.cells[index].status = status;
        }
        record.save(directory.path()).unwrap();
        assert_eq!(Record::load(directory.path()).unwrap(), record);
        assert_eq!(record.kernels[0].release.as_deref(), Some("6.12"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn cells_that_have_ended_are_kept_and_others_run_again() {
        let mut record = planned();
        record.resume(earlier(), |cell| Some(cell.clone())).unwrap();
        let ended: Vec<bool> = record.cells.iter().map(|cell| cell.status.has_ended()).collect();
        assert_eq!(ended, [true, true, false, false]);
        assert_eq!(record.cells[..2], earlier().cells[..2]);
        assert_eq!(record.kernels[1].release.as_deref(), Some("6.12"));

        let mut record = planned();
        record.resume(earlier(), |cell| (cell.kernel == "sid").then(|| cell.clone())).unwrap();
        assert_eq!(record.cells[0].status, Status::NotRun, "its directory is gone");
        assert!(record.cells[1].status.has_ended());
    }

    #[test]
    fn hosts_and_kernels_may_be_in_another_order() {
        let mut record = record(&["max", "shape-4-2-1"], vec![kernel("sid", "13"), kernel("trixie", "12")]);
        record.resume(earlier(), |cell| Some(cell.clone())).unwrap();
        assert_eq!(names(&record), ["max@sid", "max@trixie", "shape-4-2-1@sid", "shape-4-2-1@trixie"]);
        assert_eq!(record.cells[3].status, Status::Exited(1));
    }

    #[test]
    fn the_differences_of_another_run_are_listed() {
        let error = |mut record: Record| {
            format!("{:#}", record.resume(earlier(), |cell| Some(cell.clone())).unwrap_err())
        };
        let kernels = || vec![kernel("trixie", "12"), kernel("sid", "13")];
        for (other, difference) in [
            (Record { lab: "9".into(), ..planned() }, "lab: was 0."),
            (Record { qemu: "11".into(), ..planned() }, "QEMU: was 10.0.2, is 11"),
            (Record { command: vec!["./u".into()], ..planned() }, "command: was [\"./t\"], is [\"./u\"]"),
            (Record { files_sha256: "beef".into(), ..planned() }, "sha256 f00d, is files with sha256 beef"),
            (record(&["max"], kernels()), "host shape-4-2-1: was part of it, is not now"),
            (record(&["shape-4-2-1", "max", "cortex-a57"], kernels()), "host cortex-a57: was not part of it"),
            (
                record(&["shape-4-2-1", "max"], vec![kernel("trixie", "12"), kernel("sid", "14")]),
                "kernel sid: was an image with sha256 13, is an image with sha256 14",
            ),
        ] {
            let error = error(other);
            assert!(error.contains(difference) && error.lines().count() == 2, "{error}");
        }
        let mut other_shape = planned();
        other_shape.hosts[0].mode = Some(Mode::Nvhe);
        assert!(error(other_shape).contains("host shape-4-2-1: was "));
    }

    #[test]
    fn an_older_record_says_nvhe() {
        let text = serde_json::to_string(&planned()).unwrap();
        assert!(text.contains("\"mode\":null"), "{text}");
        for (old, mode) in [("\"nvhe\":true", Some(Mode::Nvhe)), ("\"nvhe\":false", None)] {
            let record: Record = serde_json::from_str(&text.replace("\"mode\":null", old)).unwrap();
            assert!(record.hosts.iter().all(|host| host.mode == mode), "{old}");
        }
    }

    #[test]
    fn a_broken_record_is_a_clear_error() {
        let directory = tempfile::tempdir().unwrap();
        let load = || format!("{:#}", Record::load(directory.path()).unwrap_err());
        assert!(load().contains("matrix.json: No such file"), "{}", load());
        let good = serde_json::to_string_pretty(&earlier()).unwrap();
        for (old, new, expected) in [
            ("{", "", "does not have the format of `lab matrix`: "),
            ("\"version\": 1", "\"version\": 2", "has version 2, and this lab reads version 1"),
            ("\"version\": 1", "\"version\": -1", "line 2"),
            ("\"version\": 1,", "", "missing field `version`"),
            ("\"lab\"", "\"lap\"", "unknown field `lap`"),
            ("\"exited\": 1", "\"exited\": 256", "expected u8"),
            ("\"exited\"", "\"left\"", "unknown variant `left`"),
            ("\"breakpoints\": 4", "\"breakpoints\": 44", "breakpoints = 44"),
        ] {
            assert!(good.contains(old), "{old}");
            fs::write(directory.path().join(FILE), good.replacen(old, new, 1)).unwrap();
            assert!(load().contains(expected) && load().contains(FILE), "{new}: {}", load());
        }
        fs::write(directory.path().join(FILE), b"\xff").unwrap();
        assert!(load().contains("UTF-8"), "{}", load());
        File::create(directory.path().join(FILE)).unwrap().set_len(LARGEST + 1).unwrap();
        assert!(load().contains("more than"), "{}", load());
        fs::write(directory.path().join(FILE), "[".repeat(100_000)).unwrap();
        assert!(load().contains(FILE), "{}", load());
    }

    #[test]
    fn missing_and_foreign_cells_are_an_error() {
        let error =
            |earlier: Record| planned().resume(earlier, |cell| Some(cell.clone())).unwrap_err().to_string();
        let mut missing = earlier();
        missing.cells.pop();
        assert_eq!(error(missing), "matrix.json has 3 of 4 cells");
        for other in [Cell::new("max", "trixie"), Cell::new("../max", "sid")] {
            let mut twice = earlier();
            twice.cells[3] = other;
            assert_eq!(error(twice), "matrix.json does not have the cell max@sid");
        }
    }

    #[test]
    fn the_exit_status_is_good_only_if_each_cell_is() {
        let exit_status = |statuses: &[Status]| {
            let mut record = planned();
            record.cells.truncate(statuses.len());
            for (cell, status) in record.cells.iter_mut().zip(statuses) {
                cell.status = status.clone();
            }
            record.exit().status()
        };
        assert_eq!(exit_status(&[Status::Exited(0), Status::Exited(0)]), 0);
        assert_eq!(exit_status(&[Status::Exited(0), Status::Exited(4)]), 0);
        assert_eq!(exit_status(&[Status::Exited(4), Status::Exited(4)]), 4);
        for bad in [
            Status::Exited(1),
            Status::Exited(125),
            Status::Killed(11),
            Status::Refused("no".into()),
            Status::Deadline(1),
            Status::NoReport("no".into()),
            Status::Interrupted,
            Status::NotRun,
        ] {
            assert_eq!(exit_status(&[Status::Exited(0), bad.clone()]), 1, "{bad}");
            assert_eq!(exit_status(&[bad.clone(), Status::Exited(4)]), 1, "{bad}");
        }
    }

    #[test]
    fn the_summary_counts_each_kind_of_status() {
        let mut record = earlier();
        record.cells[3].status = Status::NoReport("another reason".into());
        assert_eq!(record.summary(), "4 cells: 2 did not report, 1 exited 1, 1 interrupted");
    }
}
