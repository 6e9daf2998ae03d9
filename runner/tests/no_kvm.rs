// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Where `/dev/kvm` is missing or closed to this user nothing runs, and the reason is said.
//!
//! Each test takes something from its own thread alone; that takes root, which the lab's hosts give.

#![cfg(target_arch = "aarch64")]

use dfr0_runner::{case::Session, guest::DEADLINE, host::Unavailable};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::{Uid, chroot, geteuid, setfsuid},
};

fn unavailable() -> Unavailable {
    Session::open(DEADLINE).expect("no error of KVM's").expect_err("no guest can run")
}

#[test]
fn no_dev_kvm_is_said() {
    if !geteuid().is_root() {
        return;
    }
    let empty = tempfile::tempdir().expect("a directory");
    unshare(CloneFlags::CLONE_FS).expect("a root directory of this thread's own");
    chroot(empty.path()).expect("root may chroot");
    let unavailable = unavailable();
    assert!(matches!(unavailable, Unavailable::NoKvm));
    assert!(unavailable.to_string().starts_with("/dev/kvm is missing"));
}

#[test]
fn no_permission_is_said() {
    if !geteuid().is_root() {
        return;
    }
    setfsuid(Uid::from_raw(65534));
    let unavailable = unavailable();
    assert!(matches!(unavailable, Unavailable::NoPermission));
    assert!(unavailable.to_string().contains("group"));
}
