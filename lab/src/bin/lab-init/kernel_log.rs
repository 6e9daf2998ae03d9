// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Sends the kernel's messages in frames. If the kernel printed them itself, they would split other frames.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::thread;

use dfr0_lab::protocol::Kind;
use nix::fcntl::OFlag;

use crate::console::Console;

/// Makes the kernel print only emergencies, and sends everything that it logs from now on. Does nothing if the kernel has
/// no log.
pub fn forward(console: &'static Console) {
    let _ = fs::write("/proc/sys/kernel/printk", "1");
    let Ok(mut log) = File::open("/dev/kmsg") else { return };
    if log.seek(SeekFrom::End(0)).is_err() {
        return;
    }
    thread::spawn(move || {
        let mut record = [0; 8192];
        loop {
            match log.read(&mut record) {
                Ok(0) => return,
                Ok(size) => console.send(Kind::Kernel, message(&record[..size])),
                // The kernel overwrote records before they were read.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(_) => return,
            }
        }
    });
}

/// What the kernel has logged so far.
pub fn messages() -> Vec<String> {
    let log = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open("/dev/kmsg");
    let Ok(mut log) = log else { return Vec::new() };
    let mut record = [0; 8192];
    std::iter::from_fn(|| match log.read(&mut record) {
        Ok(size @ 1..) => Some(String::from_utf8_lossy(message(&record[..size])).into_owned()),
        _ => None,
    })
    .collect()
}

/// The first line of the message in a record `priority,sequence,time,flags;message`. The other lines are for programs.
fn message(record: &[u8]) -> &[u8] {
    let text =
        record.iter().position(|&byte| byte == b';').map_or(record, |position| &record[position + 1..]);
    text.split(|&byte| byte == b'\n').next().unwrap_or_default()
}
