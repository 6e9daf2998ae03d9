// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! dfr0 on Slurm's nodes: a job for each node, whose output becomes a file.
//!
//! ```text
//!   DIR/work/            the working directory of all jobs: a copy of the bundle
//!   DIR/work/pairs/      what the nodes exchange, and `dfr0 pairs table` reads
//!   DIR/NAME.dfr0        certificates
//!   DIR/job              the script of the jobs
//!   DIR/log/JOB          what a job printed to stderr
//! ```
//!
//! NAME is that of a node, or NODE@FEATURE if a kernel was chosen. A file is complete or does not exist. It is not written again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cache::write_whole;
use crate::digest::sha256;
use crate::slurm::{Node, Submission};

/// `job OUT STATUSES DFR0 ARGUMENT…`: DFR0 is a line of the shell. Of two copies of a job the first that ends counts: `ln` does
/// not replace a file.
const SCRIPT: &str = r#"#!/bin/sh
out=$1 statuses=$2 dfr0=$3
shift 3
[ ! -e "$out" ] || exit 0
new=../log/$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}.out
eval "$dfr0 \"\$@\"" > "$new"
status=$?
case " $statuses " in
*" $status "*) ln "$new" "$out" || [ -e "$out" ] && rm "$new" ;;
*) exit $status ;;
esac
"#;

/// A node, maybe with one of its kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The node's name.
    pub node: String,
    /// The feature that names the kernel.
    pub kernel: Option<String>,
}

impl Place {
    /// The name in files.
    pub fn name(&self) -> String {
        match &self.kernel {
            Some(kernel) => format!("{}@{kernel}", self.node),
            None => self.node.clone(),
        }
    }
}

/// Which nodes are meant.
#[derive(Debug)]
pub struct Choice<'a> {
    /// These; if there are none, those that have all of `features`.
    pub nodes: &'a [String],
    /// Features of the nodes.
    pub features: &'a [String],
    /// Each node with each of these kernels, which are features.
    pub kernels: &'a [String],
    /// Only the first of those that have the same features.
    pub one_of_a_class: bool,
}

impl Choice<'_> {
    /// The places, in the order of the nodes' names.
    pub fn places(&self, nodes: &[Node]) -> Result<Vec<Place>> {
        if let Some(name) = self.nodes.iter().find(|name| !nodes.iter().any(|node| node.name == **name)) {
            bail!("Slurm has no node `{name}` (`sinfo -N` lists them)");
        }
        let mut classes = BTreeSet::new();
        let chosen = nodes.iter().filter(|node| match self.nodes {
            [] => {
                self.features.iter().all(|feature| node.features.contains(feature))
                    && (!self.one_of_a_class || classes.insert(&node.features))
            }
            names => names.contains(&node.name),
        });
        let mut places = Vec::new();
        for node in chosen {
            if let Some(kernel) = self.kernels.iter().find(|kernel| !node.features.contains(kernel)) {
                bail!(
                    "the node {} has no feature `{kernel}` (docs/fleets.md says how kernels are features)",
                    node.name
                );
            }
            let place = |kernel| Place { node: node.name.clone(), kernel };
            match self.kernels {
                [] => places.push(place(None)),
                kernels => places.extend(kernels.iter().cloned().map(Some).map(place)),
            }
        }
        if places.is_empty() {
            bail!("Slurm has no node with the features {}", self.features.join(", "));
        }
        Ok(places)
    }
}

/// The directory of a run, which may have been started before.
#[derive(Debug)]
pub struct Fleet {
    directory: PathBuf,
}

/// What the jobs of a run have in common.
#[derive(Debug)]
pub struct Settings<'a> {
    /// The line of the shell that runs dfr0 in [`Fleet::work`].
    pub dfr0: &'a str,
    /// Options of sbatch.
    pub sbatch: &'a [String],
    /// The time that a job may take, in minutes.
    pub minutes: u64,
    /// Slurm cancels a job that cannot end within this number of seconds.
    pub within: u64,
}

/// What a job does.
#[derive(Debug)]
pub struct Work<'a> {
    /// The file with its output.
    pub out: &'a Path,
    /// The exit statuses with which there is an output.
    pub statuses: &'a str,
    /// dfr0's arguments.
    pub arguments: &'a [&'a str],
}

impl Fleet {
    /// Copies the bundle into `directory`, or continues a run of the same dfr0 there.
    pub fn open(directory: &Path, bundle: &Path) -> Result<Self> {
        let work = directory.join("work");
        for directory in [work.join("pairs"), directory.join("log")] {
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        let fleet =
            Self { directory: directory.canonicalize().context("cannot find the directory of the run")? };
        let program = work.join("dfr0");
        let digest = |path: &Path| {
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            sha256(file).with_context(|| format!("cannot read {}", path.display()))
        };
        let new = digest(&bundle.join("dfr0"))?;
        if program.exists() && digest(&program)? != new {
            bail!("{} has the results of another dfr0: another --out starts a new run", directory.display());
        }
        copy_all(&bundle.join("expected"), &work.join("expected"))?;
        copy(&bundle.join("dfr0"), &program)?;
        write_whole(&fleet.directory.join("job"), 0o755, |file| Ok(file.write_all(SCRIPT.as_bytes())?))?;
        Ok(fleet)
    }

    /// The working directory of the jobs.
    pub fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// Where a job writes what is not its output.
    pub fn log(&self, job: u64) -> PathBuf {
        self.directory.join(format!("log/{job}"))
    }

    /// Submits a job that starts when those of `after` have succeeded, and is cancelled if one of them has not.
    pub fn submit(
        &self,
        place: &Place,
        after: &[u64],
        work: &Work<'_>,
        settings: &Settings<'_>,
    ) -> Result<u64> {
        let text = |path: &Path| {
            path.to_str().map(ToOwned::to_owned).with_context(|| format!("{} is not UTF-8", path.display()))
        };
        let Settings { dfr0, sbatch, minutes, within } = settings;
        let mut options = vec![
            "--export=ALL".into(),
            "--requeue".into(),
            format!("--chdir={}", text(&self.work())?),
            format!("--nodelist={}", place.node),
            format!("--time={minutes}"),
            format!("--deadline=now+{}seconds", (*within).max(minutes * 60 + 60)),
        ];
        options.extend(place.kernel.iter().map(|kernel| format!("--constraint={kernel}")));
        if !after.is_empty() {
            let ids: String = after.iter().map(|id| format!(":{id}")).collect();
            options.extend([format!("--dependency=afterok{ids}"), "--kill-on-invalid-dep=yes".into()]);
        }
        options.extend(sbatch.iter().cloned());
        let log = format!("{}/log/%j", text(&self.directory)?.replace('%', "%%"));
        let out = text(work.out)?;
        Submission {
            name: &format!("dfr0-{}", place.name()),
            script: &self.directory.join("job"),
            arguments: &[&[out.as_str(), work.statuses, dfr0], work.arguments].concat(),
            log: log.as_ref(),
            options: &options,
        }
        .submit()
    }
}

/// Copies a program, complete or not at all.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("cannot read {}", from.display());
    let mut file = File::open(from).with_context(failed)?;
    let mode = file.metadata().with_context(failed)?.permissions().mode();
    crate::matrix::plan::copy(&mut file, to, mode)
}

/// Copies a directory and those in it.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("cannot copy {}", from.display());
    fs::create_dir_all(to).with_context(failed)?;
    for entry in fs::read_dir(from).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() { copy_all(&from, &to)? } else { copy(&from, &to)? }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Vec<Node> {
        let node = |name: &str, features: &[&str]| Node {
            name: name.into(),
            features: features.iter().map(ToString::to_string).collect(),
        };
        vec![
            node("g1", &["kvm", "bp6", "kernel_a", "kernel_b"]),
            node("g2", &["kvm", "bp6", "kernel_a", "kernel_b"]),
            node("s1", &["kvm", "bp16", "kernel_a"]),
            node("x1", &["x86"]),
        ]
    }

    fn places(
        names: &[&str],
        features: &[&str],
        kernels: &[&str],
        one_of_a_class: bool,
    ) -> Result<String, String> {
        let [nodes_, features, kernels] =
            [names, features, kernels].map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>());
        let choice = Choice { nodes: &nodes_, features: &features, kernels: &kernels, one_of_a_class };
        let places = choice.places(&nodes()).map_err(|error| error.to_string())?;
        Ok(places.iter().map(Place::name).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn nodes_are_chosen_by_name_by_feature_or_by_class() {
        assert_eq!(places(&[], &[], &[], false).unwrap(), "g1 g2 s1 x1");
        assert_eq!(places(&[], &["kvm"], &[], false).unwrap(), "g1 g2 s1");
        assert_eq!(places(&[], &["kvm"], &[], true).unwrap(), "g1 s1");
        assert_eq!(places(&["g2", "g1"], &[], &[], true).unwrap(), "g1 g2");
        assert_eq!(
            places(&[], &["bp6"], &["kernel_b", "kernel_a"], true).unwrap(),
            "g1@kernel_b g1@kernel_a"
        );
        assert!(places(&["g9"], &[], &[], true).unwrap_err().contains("no node `g9`"));
        assert!(
            places(&[], &["kvm"], &["kernel_b"], true).unwrap_err().contains("s1 has no feature `kernel_b`")
        );
        assert!(places(&[], &["sve"], &[], true).unwrap_err().contains("no node with the features sve"));
    }

    #[test]
    fn a_run_is_continued_only_with_the_same_dfr0() {
        let directory = tempfile::tempdir().unwrap();
        let (bundle, out) = (directory.path().join("bundle"), directory.path().join("out"));
        fs::create_dir_all(bundle.join("expected/hosts")).unwrap();
        fs::write(bundle.join("expected/hosts/a.toml"), "a").unwrap();
        fs::write(bundle.join("dfr0"), "1").unwrap();
        fs::set_permissions(bundle.join("dfr0"), fs::Permissions::from_mode(0o755)).unwrap();
        for _ in 0..2 {
            let fleet = Fleet::open(&out, &bundle).unwrap();
            assert_eq!(fs::read(fleet.work().join("expected/hosts/a.toml")).unwrap(), b"a");
            let mode = fs::metadata(fleet.work().join("dfr0")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o755);
        }
        fs::write(bundle.join("dfr0"), "2").unwrap();
        let error = Fleet::open(&out, &bundle).unwrap_err().to_string();
        assert!(error.contains("another dfr0"), "{error}");
    }
}
