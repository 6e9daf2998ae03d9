// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A matrix whose cells are jobs.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use dfr0_lab::facts::Facts;
use dfr0_lab::matrix::record::{Record, Status};
use dfr0_lab::protocol::{Encoder, Kind};
use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::cluster::{Cluster, NODES, until};

/// Hosts whose CPU is QEMU's own.
const HOSTS: [&str; 4] = ["cortex-a57", "max", "neoverse-n1", "neoverse-v1"];

/// What runs of a case need: a script in QEMU's place, a kernel and a program that only look like one, and a directory.
pub struct Bench {
    directory: TempDir,
    slurm_conf: PathBuf,
}

impl Bench {
    pub fn new(cluster: &Cluster) -> Result<Self, Failed> {
        let bench = Self { directory: tempfile::tempdir()?, slurm_conf: cluster.slurm_conf() };
        let mut console = Encoder::default();
        let facts = Facts { release: "7.3".into(), midr: None, mode: None, id_aa64dfr0: None, no_kvm: None };
        let mut frames = console.encode(Kind::Facts, toml::to_string(&facts)?.as_bytes());
        frames.extend(console.encode(Kind::Stdout, b"ok 1 a.case\n"));
        fs::write(bench.at("booted"), frames)?;
        fs::write(bench.at("ended"), console.encode(Kind::Outcome, b"exited 0"))?;
        let at = bench.directory.path().display();
        bench.program(
            "qemu",
            &format!(
                "case $* in *--version*) echo 'QEMU emulator version 10.0.2 (a script)'; exit;; esac
echo \"$SLURM_JOB_ID $SLURM_ARRAY_JOB_ID $SLURM_ARRAY_TASK_ID ${{SLURM_RESTART_COUNT:-0}} $SLURMD_NODENAME $PPID\" >> {at}/starts
cat {at}/booted
until [ -e {at}/go ]; do sleep 0.1; done
cat {at}/ended"
            ),
        )?;
        bench.program("init", "exit")?;
        bench.program("test", "exit")?;
        let mut image = [0; 64];
        image[56..60].copy_from_slice(b"ARM\x64");
        fs::write(bench.at("Image"), image)?;
        Ok(bench)
    }

    /// Writes a shell script.
    pub fn program(&self, name: &str, text: &str) -> Result<(), Failed> {
        let mut file =
            File::options().create(true).truncate(true).write(true).mode(0o755).open(self.at(name))?;
        write!(file, "#!/bin/sh\n{text}\n")?;
        Ok(())
    }

    /// A file of the bench.
    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The slurm.conf of the cluster.
    pub fn slurm_conf(&self) -> &Path {
        &self.slurm_conf
    }

    fn out(&self) -> PathBuf {
        self.at("run")
    }

    /// All hosts end as soon as they have booted.
    fn go(&self) -> Result<(), Failed> {
        Ok(fs::write(self.at("go"), "")?)
    }

    /// Each start of a host: the ids of job and array, the index, how often the job was started before, the node,
    /// the process of the job.
    fn starts(&self) -> Vec<Vec<String>> {
        let text = fs::read_to_string(self.at("starts")).unwrap_or_default();
        text.lines().map(|line| line.split(' ').map(ToOwned::to_owned).collect()).collect()
    }

    fn lab(&self, hosts: &[&str], more: &[&str]) -> Result<Command, Failed> {
        let lab = env::var("DFR0_LAB").map_err(|_| "DFR0_LAB is not set; `make test-fleet` sets it")?;
        let mut lab = Command::new(lab);
        lab.args(["matrix", "--executor", "slurm", "--out"]).arg(self.out());
        lab.args(hosts.iter().flat_map(|host| ["--host", host])).args(more);
        lab.arg("--kernel").arg(self.at("Image")).arg("--").arg(self.at("test"));
        lab.env("SLURM_CONF", &self.slurm_conf).env("DFR0_CACHE", self.at("cache"));
        lab.env("DFR0_QEMU", self.at("qemu")).env("DFR0_LAB_INIT", self.at("init"));
        Ok(lab)
    }

    /// Starts it; what it says is in the file `said`.
    fn start(&self, hosts: &[&str], more: &[&str]) -> Result<Child, Failed> {
        let said = File::create(self.at("said"))?;
        Ok(self.lab(hosts, more)?.stdout(said.try_clone()?).stderr(said).spawn()?)
    }

    fn said(&self) -> String {
        fs::read_to_string(self.at("said")).unwrap_or_default()
    }

    fn record(&self) -> Result<Record, Failed> {
        Ok(Record::load(&self.out())?)
    }

    /// The names in the run's directory, without what was there before the cells.
    fn cells(&self) -> Result<Vec<String>, Failed> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.out())? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.retain(|name| name != "plan" && name != "matrix.json" && !name.starts_with("report"));
        names.sort();
        Ok(names)
    }

    /// Each cell has exactly one result, and nothing is left of other copies.
    fn all_have_one_result(&self, hosts: &[&str]) -> Result<(), Failed> {
        let record = self.record()?;
        let bad = record.cells.iter().find(|cell| cell.status != Status::Exited(0));
        ensure(bad.is_none(), || format!("{bad:?}\n{}", self.said()))?;
        let cells = self.cells()?;
        let expected: Vec<String> = record.cells.iter().map(|cell| cell.name()).collect();
        ensure(cells == expected && cells.len() == hosts.len(), || format!("{cells:?}"))?;
        for cell in cells {
            let files: BTreeMap<String, u64> = fs::read_dir(self.out().join(&cell))?
                .map(|entry| {
                    let entry = entry?;
                    Ok((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()))
                })
                .collect::<Result<_, std::io::Error>>()?;
            let names: Vec<_> = files.keys().map(String::as_str).collect();
            ensure(names == ["kernel.log", "status.json", "stderr", "stdout"], || {
                format!("{cell}: {names:?}")
            })?;
            let stdout = fs::read(self.out().join(&cell).join("stdout"))?;
            ensure(stdout == b"ok 1 a.case\n", || format!("{cell}: {stdout:?}"))?;
        }
        Ok(())
    }

    /// How a cell was lost.
    fn lost(&self, index: usize) -> Result<String, Failed> {
        match &self.record()?.cells[index].status {
            Status::Lost(reason) => Ok(reason.clone()),
            other => Err(format!("the cell {index} is not lost: {other}\n{}", self.said()).into()),
        }
    }

    /// Waits until this number of hosts have started.
    fn wait_for_starts(&self, count: usize) -> Result<(), Failed> {
        until(&format!("{count} hosts start"), || Ok(self.starts().len() >= count))
    }
}

pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(what().into()) }
}

fn ends(mut child: Child, status: i32, bench: &Bench) -> Result<(), Failed> {
    let ended = child.wait()?;
    ensure(ended.code() == Some(status), || format!("lab: {ended}, not {status}\n{}", bench.said()))
}

fn path(path: &Path) -> Result<&str, Failed> {
    Ok(path.to_str().ok_or("the path is not UTF-8")?)
}

/// The daemon of a node is killed while its job runs: the job goes on and reports its end itself. Then a cell that has lost its
/// directory runs again, and no other.
pub fn killed_daemon_and_resumed(cluster: &mut Cluster, bench: &Bench) -> Result<(), Failed> {
    let lab = bench.start(&HOSTS, &[])?;
    bench.wait_for_starts(NODES.len())?;
    cluster.kill("n1")?;
    bench.go()?;
    ends(lab, 0, bench)?;
    bench.all_have_one_result(&HOSTS)?;
    ensure(bench.starts().len() == HOSTS.len(), || format!("{:?}", bench.starts()))?;

    fs::remove_dir_all(bench.out().join("max@Image-".to_owned() + &bench.record()?.kernels[0].sha256[..8]))?;
    ends(bench.start(&HOSTS, &["--resume"])?, 0, bench)?;
    bench.all_have_one_result(&HOSTS)?;
    let starts = bench.starts();
    ensure(starts.len() == HOSTS.len() + 1 && starts[HOSTS.len()][2] == "1", || format!("{starts:?}"))
}

/// The daemon is killed under a job that goes on for longer than Slurm waits: a second copy starts on another node, and both come
/// to their end.
pub fn two_copies(cluster: &mut Cluster, bench: &Bench) -> Result<(), Failed> {
    let hosts = &HOSTS[..1];
    let lab = bench.start(hosts, &[])?;
    bench.wait_for_starts(1)?;
    let first = bench.starts().remove(0);
    cluster.kill(&first[4])?;
    let job = format!("{}_{}", first[1], first[2]);
    until("the job waits again", || Ok(cluster.queue()?.contains(&format!("{job} PENDING"))))?;
    until("lab says so", || Ok(bench.said().contains("Slurm starts it again")))?;
    // Slurm would wait for two minutes.
    cluster.slurm("scontrol", &["update", &format!("jobid={job}"), "starttime=now"])?;
    bench.wait_for_starts(2)?;
    let second = bench.starts().remove(1);
    ensure(second[3] == "1" && second[4] != first[4], || format!("{first:?} {second:?}"))?;
    let copies = bench.cells()?;
    let names = [&first, &second].map(|start| format!(".{}.{}", start[0], start[3]));
    let are_there =
        copies.iter().zip(&names).all(|(copy, name)| copy.starts_with('.') && copy.ends_with(name));
    ensure(copies.len() == 2 && are_there, || format!("{copies:?}, not {names:?}"))?;
    bench.go()?;
    ends(lab, 0, bench)?;
    bench.all_have_one_result(hosts)
}

/// A node loses its power: all that runs there ends at once. What it leaves of the cell is removed when the cell has ended elsewhere.
pub fn power_lost(cluster: &mut Cluster, bench: &Bench) -> Result<(), Failed> {
    let hosts = &HOSTS[..1];
    let lab = bench.start(hosts, &[])?;
    bench.wait_for_starts(1)?;
    let first = bench.starts().remove(0);
    cluster.kill(&first[4])?;
    // The script in QEMU's place is a child of the job's lab, which is one of slurmstepd.
    let job = first[5].parse()?;
    let stat = fs::read_to_string(format!("/proc/{job}/stat"))?;
    let step =
        stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).ok_or("no parent")?.parse()?;
    for process in [step, job] {
        kill(Pid::from_raw(process), Signal::SIGKILL)?;
    }
    let array = format!("{}_{}", first[1], first[2]);
    until("the job waits again", || Ok(cluster.queue()?.contains(&format!("{array} PENDING"))))?;
    let left = bench.cells()?;
    ensure(left.len() == 1 && left[0].starts_with('.'), || format!("{left:?}"))?;
    cluster.slurm("scontrol", &["update", &format!("jobid={array}"), "starttime=now"])?;
    bench.go()?;
    ends(lab, 0, bench)?;
    bench.all_have_one_result(hosts)
}

/// A node is set down: Slurm stops its job and starts it again elsewhere.
pub fn node_down(cluster: &mut Cluster, bench: &Bench) -> Result<(), Failed> {
    let hosts = &HOSTS[..1];
    let lab = bench.start(hosts, &[])?;
    bench.wait_for_starts(1)?;
    let first = bench.starts().remove(0);
    cluster.slurm("scontrol", &["update", &format!("nodename={}", first[4]), "state=down", "reason=test"])?;
    let job = format!("{}_{}", first[1], first[2]);
    until("the job waits again", || Ok(cluster.queue()?.contains(&format!("{job} PENDING"))))?;
    until("the first copy leaves nothing", || Ok(bench.cells()?.is_empty()))?;
    bench.go()?;
    cluster.slurm("scontrol", &["update", &format!("jobid={job}"), "starttime=now"])?;
    ends(lab, 0, bench)?;
    ensure(bench.starts().len() == 2, || format!("{:?}", bench.starts()))?;
    bench.all_have_one_result(hosts)
}

/// Slurm's controller ends and starts again: lab says so, and goes on.
pub fn controller_restarted(cluster: &mut Cluster, bench: &Bench) -> Result<(), Failed> {
    let hosts = &HOSTS[..2];
    let lab = bench.start(hosts, &[])?;
    bench.wait_for_starts(hosts.len())?;
    cluster.kill("slurmctld")?;
    until("lab says so", || Ok(bench.said().contains("Slurm does not answer")))?;
    cluster.start_controller()?;
    bench.go()?;
    ends(lab, 0, bench)?;
    ensure(bench.starts().len() == hosts.len(), || format!("{:?}", bench.starts()))?;
    bench.all_have_one_result(hosts)
}

/// No node may be used: lab says so, and the cells run when one is back. A cell that cannot end in time does not wait for ever.
pub fn drained(cluster: &mut Cluster, bench: &Bench) -> Result<(), Failed> {
    bench.go()?;
    for node in NODES {
        cluster.slurm("scontrol", &["update", &format!("nodename={node}"), "state=drain", "reason=test"])?;
    }
    let hosts = &HOSTS[..2];
    let lab = bench.start(hosts, &[])?;
    until("lab says what the cells wait for", || Ok(bench.said().contains("`sinfo -R` says why")))?;
    ensure(bench.starts().is_empty(), || format!("{:?}", bench.starts()))?;
    cluster.mend()?;
    ends(lab, 0, bench)?;
    bench.all_have_one_result(hosts)?;

    for node in NODES {
        cluster.slurm("scontrol", &["update", &format!("nodename={node}"), "state=drain", "reason=test"])?;
    }
    fs::remove_dir_all(bench.out())?;
    let limits = ["--sbatch=--time=1", "--sbatch=--deadline=now+65seconds"];
    ends(bench.start(hosts, &limits)?, 1, bench)?;
    for index in [0, 1] {
        let reason = bench.lost(index)?;
        ensure(reason.contains("DEADLINE"), || reason)?;
    }
    cluster.mend()?;
    ends(bench.start(hosts, &["--resume"])?, 0, bench)?;
    bench.all_have_one_result(hosts)
}

/// Slurm stops a job whose time is over. Its exit status does not say so.
pub fn time_limit(_: &mut Cluster, bench: &Bench) -> Result<(), Failed> {
    let hosts = &HOSTS[..1];
    ends(bench.start(hosts, &["--sbatch=--time=1"])?, 1, bench)?;
    let reason = bench.lost(0)?;
    ensure(reason.contains("TIMEOUT") && reason.contains("stopped by SIGTERM"), || reason)?;
    ensure(bench.cells()?.is_empty(), || "the cell left something".into())?;
    bench.go()?;
    ends(bench.start(hosts, &["--resume"])?, 0, bench)?;
    bench.all_have_one_result(hosts)
}

/// A job is cancelled by somebody, and then all are by Ctrl-C.
pub fn cancelled(cluster: &mut Cluster, bench: &Bench) -> Result<(), Failed> {
    let hosts = &HOSTS[..2];
    let lab = bench.start(hosts, &[])?;
    bench.wait_for_starts(2)?;
    let array = bench.starts()[0][1].clone();
    cluster.slurm("scancel", &[&format!("{array}_0")])?;
    until("the job has ended", || Ok(!cluster.queue()?.contains(&format!("{array}_0 "))))?;
    ensure(cluster.queue()?.contains(&format!("{array}_1 RUNNING")), || "the other one has ended".into())?;
    kill(Pid::from_raw(lab.id().try_into()?), Signal::SIGINT)?;
    ends(lab, 130, bench)?;
    let queue = cluster.queue()?;
    ensure(queue.is_empty(), || queue)?;
    for index in [0, 1] {
        let reason = bench.lost(index)?;
        ensure(reason.contains("CANCELLED"), || reason)?;
    }
    ensure(bench.cells()?.is_empty(), || "the cells left something".into())?;
    bench.go()?;
    ends(bench.start(hosts, &["--resume"])?, 0, bench)?;
    bench.all_have_one_result(hosts)
}

/// Nobody waits: the last job collects the cells and writes the reports. A run in the queue is not submitted twice.
pub fn detached(cluster: &mut Cluster, bench: &Bench) -> Result<(), Failed> {
    let hosts = &HOSTS[..2];
    bench.program("dfr0", "echo \"$*\" > \"$4\"")?;
    let dfr0 = bench.at("dfr0");
    let more = ["--detach", "--report", path(&dfr0)?];
    ends(bench.start(hosts, &more)?, 0, bench)?;
    // What was built meanwhile changes nothing.
    bench.program("dfr0", "exit 1")?;
    bench.wait_for_starts(2)?;
    let again = bench.lab(hosts, &["--detach", "--resume"])?.output()?;
    ensure(again.status.success(), || text(&again))?;
    let ids = String::from_utf8_lossy(&again.stdout).trim().to_owned();
    let (array, collector) = ids.split_once(' ').ok_or("not two ids")?;
    let after = cluster.slurm("squeue", &["--noheader", "--jobs", collector, "--format=%E"])?;
    ensure(after.contains(&format!("afterany:{array}_")), || after)?;
    let differs = bench.lab(hosts, &["--detach", "--resume", "--deadline", "7"])?.output()?;
    ensure(differs.status.code() == Some(125) && text(&differs).contains("scancel"), || text(&differs))?;
    bench.go()?;
    until("all jobs have ended", || Ok(cluster.queue()?.is_empty()))?;
    ensure(bench.starts().len() == 2, || format!("{:?} {ids}", bench.starts()))?;
    let report = fs::read_to_string(bench.out().join("report.txt"))?;
    ensure(report == "report text --out report.txt .\n", || report)?;
    let of_cell = fs::read_to_string(bench.out().join(&bench.cells()?[0]).join("report.tap"))?;
    ensure(of_cell.starts_with("report ktap --out "), || of_cell)?;
    let record = bench.record()?;
    ensure(record.cells.iter().all(|cell| cell.status == Status::Exited(0)), || record.summary())
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A lab host boots in a job.
pub fn a_lab_host(_: &mut Cluster, bench: &Bench) -> Result<(), Failed> {
    let variable = |name| env::var(name).map_err(|_| format!("{name} is not set; `make test-fleet` sets it"));
    let bundle = variable("DFR0_BUNDLE")?;
    let mut lab = Command::new(variable("DFR0_LAB")?);
    lab.args(["matrix", "--executor", "slurm", "--host", "neoverse-v1", "--kernel", "newest", "--out"]);
    lab.arg(bench.out()).args(["--with", &bundle, "--", "./dfr0", "run", "id_regs.wrps", "--results", "-"]);
    let output = lab.env("SLURM_CONF", &bench.slurm_conf).output()?;
    ensure(output.status.success(), || text(&output))?;
    let stdout = fs::read_to_string(bench.out().join("neoverse-v1@newest/stdout"))?;
    ensure(stdout.contains("\"record\":\"end\""), || stdout)
}
