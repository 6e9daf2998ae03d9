// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `lab matrix --executor slurm` and `lab fleet` with Slurm's own daemons, on one machine: nodes die, are drained and come back, and
//! each cell has exactly one result.
//!
//! `make test-fleet` runs all of this, and `make test` the first case, both with DFR0_LAB and DFR0_BUNDLE set. In most cases a
//! host is a script in QEMU's place, which ends when the test says so.

mod cluster;
mod matrix;
mod nodes;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::cluster::Cluster;
use crate::matrix::Bench;

type Case = fn(&mut Cluster, &Bench) -> Result<(), Failed>;

const CASES: [(&str, Case); 13] = [
    ("array.killed_daemon_and_resumed", matrix::killed_daemon_and_resumed),
    ("array.two_copies", matrix::two_copies),
    ("array.power_lost", matrix::power_lost),
    ("array.node_down", matrix::node_down),
    ("array.controller_restarted", matrix::controller_restarted),
    ("array.drained", matrix::drained),
    ("array.time_limit", matrix::time_limit),
    ("array.cancelled", matrix::cancelled),
    ("array.detached", matrix::detached),
    ("array.a_lab_host", matrix::a_lab_host),
    ("nodes.certify", nodes::certify),
    ("nodes.pairs_without_a_node", nodes::pairs_without_a_node),
    ("nodes.pairs_of_lab_hosts", nodes::pairs_of_lab_hosts),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // There is one cluster.
    arguments.test_threads = Some(1);
    let missing = cluster::missing();
    if !missing.is_empty() {
        println!("SKIP: Slurm is not installed (by the names of Debian's packages: {})", missing.join(", "));
        return ExitCode::SUCCESS;
    }
    // The daemons start with the first case, and end after the last one.
    let directory = match tempfile::tempdir() {
        Ok(directory) => directory,
        Err(error) => {
            eprintln!("cannot make a temporary directory: {error}");
            return ExitCode::FAILURE;
        }
    };
    let place = directory.path().to_owned();
    let shared: Arc<Mutex<Option<Cluster>>> = Arc::default();
    let trial = |(name, case): (&str, Case)| {
        let (shared, place) = (Arc::clone(&shared), place.clone());
        Trial::test(name, move || {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let cluster = match &mut *shared {
                Some(cluster) => {
                    cluster.mend()?;
                    cluster
                }
                none => none.insert(Cluster::start(&place)?),
            };
            case(cluster, &Bench::new(cluster)?)
        })
    };
    let conclusion = libtest_mimic::run(&arguments, CASES.into_iter().map(trial).collect());
    drop(shared.lock().unwrap_or_else(PoisonError::into_inner).take());
    conclusion.exit_code()
}
