// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! SIGKILL in the middle of a save.

use super::small;
use crate::snapshot::{Pages, Snapshot, load, save};
use dfr0_model::wire::{RAM, RAM_SIZE};
use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

/// How often a process is killed, each time a little later.
const KILLS: u64 = 30;
/// Names the file that the process saves to until it is killed.
const SAVES_TO: &str = "DFR0_TEST_SAVES_TO";

/// A snapshot that does not compress, so that it takes long to write; each seed gives another one.
fn large(seed: u64) -> Snapshot {
    let mut state = seed | 1;
    let mut byte = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let mut snapshot = small();
    let pages = (RAM..RAM + RAM_SIZE as u64).step_by(Pages::SIZE);
    snapshot.state.memory =
        Pages(pages.map(|page| (page, (0..Pages::SIZE).map(|_| byte()).collect())).collect());
    snapshot
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// The process that is killed.
#[test]
fn saves_until_it_is_killed() {
    let Some(path) = env::var_os(SAVES_TO) else { return };
    let snapshots = [large(1), large(2)];
    for snapshot in snapshots.iter().cycle() {
        save(snapshot, Path::new(&path)).expect("saved");
    }
}

#[test]
fn a_save_that_is_killed_leaves_the_whole_bundle_of_before_or_the_whole_new_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.snapshot");
    let program = env::current_exe().expect("this program");
    let (mut absent, mut unfinished) = (0, 0);
    let whole = [large(1), large(2)];
    for time in 0..KILLS {
        let mut saver = Command::new(&program)
            .args(["--exact", "snapshot::tests::killed::saves_until_it_is_killed"])
            .env(SAVES_TO, &path)
            .stdout(Stdio::null())
            .spawn()
            .expect("started");
        // From now on it is always in the middle of a save.
        while entries(directory.path()).is_empty() {
            assert!(saver.try_wait().expect("a child").is_none(), "it saves for ever");
            sleep(Duration::from_micros(100));
        }
        sleep(Duration::from_micros(1_400 * time));
        saver.kill().expect("it saves for ever");
        saver.wait().expect("killed");
        unfinished += entries(directory.path()).iter().filter(|entry| **entry != path).count();
        match load(&path) {
            Ok(snapshot) => assert!(whole.contains(&snapshot)),
            Err(_) if !path.exists() => absent += 1,
            Err(error) => panic!("killed after {time} steps: {error}"),
        }
        for entry in entries(directory.path()) {
            std::fs::remove_file(entry).expect("removed");
        }
    }
    assert!(absent > 0, "the first save was never killed");
    assert!(absent < KILLS, "nothing was ever saved before the kill");
    assert!(unfinished > 0, "no save was ever killed in its middle");
}
