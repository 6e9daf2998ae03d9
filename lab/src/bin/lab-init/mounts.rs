// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! File systems and devices, if the kernel has them.

use std::fs;

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

/// Mounts the file systems that a command may need. Failures are ignored: a small kernel may not have all of them, and
/// only the command depends on them.
pub fn mount_all() {
    let nothing = None::<&str>;
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/tmp")] {
        let _ = mount(Some(kind), target, Some(kind), MsFlags::empty(), nothing);
    }
    if mount(Some("devtmpfs"), "/dev", Some("devtmpfs"), MsFlags::empty(), nothing).is_err() {
        make_devices();
    }
}

fn make_devices() {
    let misc = fs::read_to_string("/proc/misc").unwrap_or_default();
    let kvm = misc.lines().find_map(|line| line.trim().strip_suffix(" kvm")?.parse().ok());
    let devices = [
        ("/dev/null", Some((1, 3))),
        ("/dev/zero", Some((1, 5))),
        ("/dev/urandom", Some((1, 9))),
        ("/dev/kmsg", Some((1, 11))),
        ("/dev/kvm", kvm.map(|minor| (10, minor))),
    ];
    for (path, numbers) in devices {
        if let Some((major, minor)) = numbers {
            let mode = Mode::from_bits_truncate(0o666);
            let _ = mknod(path, SFlag::S_IFCHR, mode, makedev(major, minor));
        }
    }
}
