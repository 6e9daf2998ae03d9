// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! If `/dev/kvm` is missing or this user may not open it, nothing runs, and the reason is given.
//!
//! Each test restricts only its own thread. This needs root, which tests have on lab hosts.

#![cfg(target_arch = "aarch64")]

use dfr0_runner::{
    case::Session,
    guest::{DEADLINE, Error},
    host::Unavailable,
};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::{Uid, chroot, geteuid, setfsuid},
};

fn unavailable() -> Unavailable {
    match Session::open(DEADLINE).expect_err("no guest can run") {
        Error::Unavailable(unavailable) => unavailable,
        error => panic!("another error: {error}"),
    }
}

#[test]
fn a_missing_dev_kvm_is_named() {
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
fn a_missing_permission_is_named() {
    if !geteuid().is_root() {
        return;
    }
    setfsuid(Uid::from_raw(65534));
    let unavailable = unavailable();
    assert!(matches!(unavailable, Unavailable::NoPermission));
    assert!(unavailable.to_string().contains("group"));
}
