// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A Slurm cluster on this machine: munged, slurmctld and a slurmd for each node, in a directory of their own, with this
//! user's rights and only on the loopback interface.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use libtest_mimic::Failed;
use nix::unistd::{User, getuid};

/// What must be installed, and Debian's package with it.
const PROGRAMS: [(&str, &str); 5] = [
    ("munged", "munge"),
    ("slurmctld", "slurmctld"),
    ("slurmd", "slurmd"),
    ("sbatch", "slurm-client"),
    ("squeue", "slurm-client"),
];
/// The nodes.
pub const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// A cluster that runs. Its daemons end when this is dropped.
pub struct Cluster {
    directory: PathBuf,
    daemons: BTreeMap<String, Child>,
}

/// The packages that are missing.
pub fn missing() -> Vec<&'static str> {
    let mut missing: Vec<_> =
        PROGRAMS.iter().filter(|(name, _)| find(name).is_none()).map(|(_, package)| *package).collect();
    missing.dedup();
    missing
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A user's PATH may be without the directories of daemons.
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    directories.map(|directory| directory.join(name)).find(|path| path.is_file())
}

impl Cluster {
    /// Starts it in `directory`, and waits until all nodes are idle.
    pub fn start(directory: &Path) -> Result<Self, Failed> {
        let mut cluster = Self { directory: directory.to_owned(), daemons: BTreeMap::new() };
        for name in ["state", "log"].into_iter().chain(NODES) {
            fs::create_dir(cluster.at(name))?;
        }
        let key = cluster.at("munge.key");
        let mut bytes = [0; 128];
        std::io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
        fs::write(&key, bytes)?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        fs::write(cluster.at("slurm.conf"), cluster.configuration()?)?;
        let file = |option: &str, name: &str| format!("--{option}={}", cluster.at(name).display());
        let munged = [
            "--foreground".into(),
            "--force".into(),
            file("socket", "munge.sock"),
            file("key-file", "munge.key"),
            file("pid-file", "munge.pid"),
            file("log-file", "log/munge"),
            file("seed-file", "munge.seed"),
        ];
        cluster.daemon("munged", "munged", &munged)?;
        let socket = cluster.at("munge.sock");
        until("munged listens", || Ok(socket.exists()))?;
        cluster.start_controller()?;
        for node in NODES {
            cluster.start_node(node)?;
        }
        let idle = |cluster: &Self| {
            let states = cluster.slurm("sinfo", &["--noheader", "--Node", "--format=%T"]).unwrap_or_default();
            states.lines().filter(|state| *state == "idle").count() == NODES.len()
        };
        until("all nodes are idle", || Ok(idle(&cluster)))?;
        Ok(cluster)
    }

    /// A file of the cluster.
    fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Its slurm.conf.
    pub fn slurm_conf(&self) -> PathBuf {
        self.at("slurm.conf")
    }

    fn configuration(&self) -> Result<String, Failed> {
        let user = User::from_uid(getuid())?.ok_or("this user has no name")?.name;
        let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
        let host = host.trim().split('.').next().unwrap_or_default();
        // Ports that are free now. They stay open until all are known, so that they differ.
        let listeners = (0..=NODES.len()).map(|_| TcpListener::bind("127.0.0.1:0"));
        let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
        let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port()));
        let ports = ports.collect::<Result<Vec<_>, std::io::Error>>()?;
        let directory = self.directory.display();
        let mut text = format!(
            "ClusterName=dfr0
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={directory}/munge.sock
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/%n.pid
SlurmctldLogFile={directory}/log/slurmctld
SlurmdLogFile={directory}/log/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdTimeout=10
KillWait=3
JobRequeue=1
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
",
            ports[0]
        );
        for (node, port) in NODES.iter().zip(&ports[1..]) {
            text += &format!(
                "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 Feature=on_{node},kernel_7_3\n"
            );
        }
        Ok(text + "PartitionName=metal Nodes=ALL Default=YES MaxTime=60 State=UP\n")
    }

    fn daemon(&mut self, key: &str, program: &str, arguments: &[String]) -> Result<(), Failed> {
        let output = File::create(self.at(&format!("log/{key}.out")))?;
        let program = find(program).ok_or_else(|| format!("{program} is not installed"))?;
        let mut command = Command::new(program);
        command.args(arguments).env("SLURM_CONF", self.slurm_conf());
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        self.daemons.insert(key.into(), command.spawn()?);
        Ok(())
    }

    /// Starts the slurmd of a node.
    pub fn start_node(&mut self, node: &str) -> Result<(), Failed> {
        self.daemon(node, "slurmd", &["-D".into(), "-N".into(), node.into()])
    }

    /// Starts slurmctld.
    pub fn start_controller(&mut self) -> Result<(), Failed> {
        self.daemon("slurmctld", "slurmctld", &["-D".into()])
    }

    /// Kills slurmctld, or the slurmd of a node, with SIGKILL. The jobs go on.
    pub fn kill(&mut self, daemon: &str) -> Result<(), Failed> {
        let mut daemon = self.daemons.remove(daemon).ok_or("this daemon does not run")?;
        daemon.kill()?;
        daemon.wait()?;
        Ok(())
    }

    /// What a command of Slurm prints.
    pub fn slurm(&self, program: &str, arguments: &[&str]) -> Result<String, Failed> {
        let output = Command::new(program).args(arguments).env("SLURM_CONF", self.slurm_conf()).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{program} {arguments:?}: {}: {said}", output.status).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The jobs that wait or run, as `ID STATE NODE`.
    pub fn queue(&self) -> Result<String, Failed> {
        self.slurm("squeue", &["--noheader", "--array", "--format=%i %T %N"])
    }

    /// The state of a node.
    pub fn state(&self, node: &str) -> Result<String, Failed> {
        Ok(self.slurm("sinfo", &["--noheader", "--nodes", node, "--format=%T"])?.trim().to_owned())
    }

    /// Makes all nodes idle again.
    pub fn mend(&mut self) -> Result<(), Failed> {
        for node in NODES {
            if !self.daemons.contains_key(node) {
                self.start_node(node)?;
            }
            until("the node is idle", || {
                // Slurm refuses this for a node that is not drained or down.
                let _ = self.slurm("scontrol", &["update", &format!("nodename={node}"), "state=resume"]);
                Ok(self.state(node)? == "idle")
            })?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for daemon in self.daemons.values_mut() {
            // These fail only if it has ended.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Waits until something holds, and fails after some minutes. It counts how often it looked, so that a machine that sleeps
/// meanwhile changes nothing.
pub fn until(what: &str, holds: impl Fn() -> Result<bool, Failed>) -> Result<(), Failed> {
    for _ in 0..1200 {
        if holds()? {
            return Ok(());
        }
        sleep(Duration::from_millis(100));
    }
    Err(format!("after some minutes it is not so that {what}").into())
}
