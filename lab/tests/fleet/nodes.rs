// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `lab fleet`: dfr0 on the nodes themselves.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use libtest_mimic::Failed;

use crate::cluster::{Cluster, NODES};
use crate::matrix::{Bench, ensure, text};

/// Runs `lab fleet WHAT` with the bundle of this bench.
fn lab(bench: &Bench, bundle: &Path, what: &str, more: &[&str]) -> Result<Output, Failed> {
    let lab = env::var("DFR0_LAB").map_err(|_| "DFR0_LAB is not set; `make test-fleet` sets it")?;
    let mut lab = Command::new(lab);
    lab.args(["fleet", what, "--out"]).arg(bench.at("run")).arg("--bundle").arg(bundle).args(more);
    Ok(lab.env("SLURM_CONF", bench.slurm_conf()).output()?)
}

/// A bundle whose dfr0 is this script.
fn bundle(bench: &Bench, dfr0: &str) -> Result<(), Failed> {
    fs::create_dir_all(bench.at("bundle/expected"))?;
    bench.program("bundle/dfr0", dfr0)
}

/// Each node has its certificate. A node where dfr0 fails is named, and is run again, and no other one is.
pub fn certify(_: &mut Cluster, bench: &Bench) -> Result<(), Failed> {
    let at = bench.at("");
    let at = at.display();
    // The certificate of a host that does not conform has status 1.
    let script = format!(
        "[ $SLURMD_NODENAME != n2 ] || [ -e {at}mended ] || {{ echo half; echo no KVM >&2; exit 2; }}
echo $SLURMD_NODENAME >> {at}starts; echo \"$*\" of $SLURMD_NODENAME
[ $SLURMD_NODENAME != n3 ]"
    );
    bundle(bench, &script)?;
    bench.program("verify", &format!("echo \"$*\" >> {at}verified"))?;
    let verify = bench.at("verify");
    let more = ["--report", verify.to_str().ok_or("not UTF-8")?, "--kernel", "kernel_7_3"];
    let first = lab(bench, &bench.at("bundle"), "certify", &more)?;
    let said = text(&first);
    ensure(
        first.status.code() == Some(1) && said.contains("n2@kernel_7_3: certifying: no file: its job"),
        || said.clone(),
    )?;
    ensure(said.contains("FAILED (NonZeroExitCode) on n2; it printed `no KVM`"), || said)?;
    ensure(!bench.at("run/n2@kernel_7_3.dfr0").exists(), || "half a certificate".into())?;
    fs::write(bench.at("mended"), "")?;
    let second = lab(bench, &bench.at("bundle"), "certify", &more)?;
    ensure(second.status.success(), || text(&second))?;
    for node in NODES {
        let certificate = fs::read_to_string(bench.at(&format!("run/{node}@kernel_7_3.dfr0")))?;
        ensure(certificate == format!("certify --out - of {node}\n"), || certificate)?;
    }
    let mut starts: Vec<_> = fs::read_to_string(bench.at("starts"))?.lines().map(ToOwned::to_owned).collect();
    starts.sort();
    ensure(starts == NODES, || format!("{starts:?}"))?;
    let verified = fs::read_to_string(bench.at("verified"))?;
    ensure(verified.matches("certify verify ").count() == 5, || verified.clone())?;
    ensure(verified.matches("report text ").count() == 2, || verified)?;
    bench.program("bundle/dfr0", "exit")?;
    let other = lab(bench, &bench.at("bundle"), "certify", &more)?;
    ensure(other.status.code() == Some(125) && text(&other).contains("another dfr0"), || text(&other))
}

/// A node fails in the first pass: the jobs that need it are cancelled, and do not wait for ever.
pub fn pairs_without_a_node(cluster: &mut Cluster, bench: &Bench) -> Result<(), Failed> {
    bundle(bench, "[ $SLURMD_NODENAME != n2 ] && echo \"$*\"")?;
    let output = lab(bench, &bench.at("bundle"), "pairs", &[])?;
    let said = text(&output);
    ensure(output.status.code() == Some(1), || said.clone())?;
    ensure(said.matches(": no file: its job").count() == 7, || said.clone())?;
    ensure(said.matches("CANCELLED").count() == 6, || said)?;
    let fingerprint = fs::read_to_string(bench.at("run/work/pairs/n1.host.json"))?;
    ensure(fingerprint == "host show --json\n", || fingerprint)?;
    let queue = cluster.queue()?;
    ensure(queue.is_empty(), || queue)
}

/// Two lab hosts stand for nodes, and scenarios move between them.
pub fn pairs_of_lab_hosts(_: &mut Cluster, bench: &Bench) -> Result<(), Failed> {
    let variable = |name| env::var(name).map_err(|_| format!("{name} is not set; `make test-fleet` sets it"));
    let on_node = format!(
        "case $SLURMD_NODENAME in n1) host=neoverse-n1 ;; *) host=neoverse-v1 ;; esac
exec {} exec --host $host --kernel newest --with . -- ./dfr0 \"$@\"",
        variable("DFR0_LAB")?
    );
    bench.program("on-node", &on_node)?;
    let on_node = bench.at("on-node");
    let bundle = variable("DFR0_BUNDLE")?;
    let more = ["--node", "n1", "--node", "n2", "--dfr0", on_node.to_str().ok_or("not UTF-8")?];
    let output = lab(bench, Path::new(&bundle), "pairs", &more)?;
    ensure(output.status.success(), || text(&output))?;
    for node in ["n1", "n2"] {
        let outcomes = fs::read_to_string(bench.at(&format!("run/work/pairs/{node}.outcomes.json")))?;
        ensure(outcomes.len() > 100 && serde_json::from_str::<serde_json::Value>(&outcomes).is_ok(), || {
            outcomes
        })?;
    }
    Ok(())
}
