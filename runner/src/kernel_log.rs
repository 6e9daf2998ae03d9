// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What this machine's kernel says in its log.

use crate::mode::Mode;
use std::{
    fs::File,
    io::{ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
};

impl Mode {
    /// The mode of this machine's KVM: what it logged when it was initialised, or else, if the log is not readable or does not
    /// reach back so far, what the kernel's command line selects.
    pub fn of_this_machine() -> Option<Self> {
        let selected = || {
            let line = std::fs::read_to_string("/proc/cmdline").ok()?;
            Self::selected(&line)
        };
        messages("kvm [").iter().rev().find_map(|message| Self::of_message(message)).or_else(selected)
    }

    /// The mode that a message such as `kvm [1]: VHE+NV2 mode initialized successfully` names; `None` if it is another message.
    fn of_message(message: &str) -> Option<Self> {
        let (_, message) = message.strip_prefix("kvm [")?.split_once("]: ")?;
        let name = message.split_once("mode initialized")?.0;
        Some(if name.contains("Protected") {
            Self::Protected
        } else if name.contains("NV2") {
            Self::Nested
        } else if name.contains("nVHE") || !name.contains("VHE") {
            Self::Nvhe
        } else {
            Self::Vhe
        })
    }

    /// The mode that `kvm-arm.mode` selects on a kernel's command line.
    fn selected(line: &str) -> Option<Self> {
        match line.split_whitespace().filter_map(|word| word.strip_prefix("kvm-arm.mode=")).next_back()? {
            "nvhe" => Some(Self::Nvhe),
            "nested" => Some(Self::Nested),
            "protected" => Some(Self::Protected),
            _ => None,
        }
    }
}

/// What the kernel has logged that begins with `prefix`, if this process may read it. A record is `priority,sequence,time,flags;message`.
pub fn messages(prefix: &str) -> Vec<String> {
    /// The longest record, in bytes.
    const RECORD: usize = 8192;
    /// The upper limit of records that are read: more than the largest log of a distribution has.
    const MOST: usize = 100_000;
    let log = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open("/dev/kmsg");
    let Ok(mut log) = log else { return Vec::new() };
    let mut messages = Vec::new();
    let mut record = vec![0; RECORD];
    for _ in 0..MOST {
        match log.read(&mut record) {
            Ok(size @ 1..) => {
                let text = String::from_utf8_lossy(&record[..size]);
                let message = text.split_once(';').map_or("", |(_, message)| message);
                messages.extend(message.starts_with(prefix).then(|| message.to_owned()));
            }
            // The kernel overwrote records before they were read.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            _ => break,
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_says_how_it_runs() {
        for (message, mode) in [
            ("kvm [1]: VHE mode initialized successfully\n SUBSYSTEM=x", Some(Mode::Vhe)),
            ("kvm [1]: VHE+NV2 mode initialized successfully", Some(Mode::Nested)),
            ("kvm [1]: Protected hVHE mode initialized successfully", Some(Mode::Protected)),
            ("kvm [1]: Hyp nVHE mode initialized successfully", Some(Mode::Nvhe)),
            ("kvm [1]: Hyp mode initialized successfully", Some(Mode::Nvhe)),
            ("kvm [1]: nv: 568 coarse grained trap handlers", None),
            ("", None),
        ] {
            assert_eq!(Mode::of_message(message), mode, "{message}");
        }
    }

    #[test]
    fn a_log_that_cannot_be_read_is_no_reason_to_stop() {
        let _: Option<Mode> = Mode::of_this_machine();
    }

    #[test]
    fn the_last_parameter_of_the_command_line_counts() {
        let line = "quiet kvm-arm.mode=nvhe kvm-arm.mode=protected";
        assert_eq!(Mode::selected(line), Some(Mode::Protected));
        assert_eq!(Mode::selected("quiet"), None);
        assert_eq!(Mode::selected("kvm-arm.mode=none"), None);
    }
}
