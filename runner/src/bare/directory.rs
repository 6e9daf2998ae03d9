// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The directory that describes a machine, as in docs/bare.md. It comes from outside: nothing in it is
//! trusted.

use super::boot::PAGE;
use crate::{bounded, guest::Error};
use dfr0_model::wire::{RAM, RAM_SIZE};
use nix::{
    fcntl::OFlag,
    sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket},
};
use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read},
    num::NonZeroUsize,
    os::{
        fd::AsRawFd,
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// The upper limit of the machine's memory, in bytes.
const LARGEST: u64 = 1 << 30;
/// The upper limit of a platform's name, in bytes.
const LONGEST_NAME: u64 = 64;
/// The time between two attempts to connect to a busy machine.
const TICK: Duration = Duration::from_millis(10);

/// What is in the directory.
#[derive(Debug)]
pub struct Directory {
    /// The machine's memory.
    pub ram: File,
    /// Its length in bytes.
    pub len: NonZeroUsize,
    /// The PL011.
    pub serial: UnixStream,
    /// The monitor.
    pub qmp: UnixStream,
    /// The machine's name.
    pub platform: String,
}

impl Directory {
    /// Opens the files of a directory, and connects to its sockets. The machine accepts the connections
    /// before `end`.
    pub fn open(path: &Path, end: Instant) -> Result<Self, Error> {
        let failed = |name: &str| {
            let what = format!(
                "DFR0_BARE does not name a bare CPU (`lab exec --bare` sets it): {}",
                path.join(name).display()
            );
            move |source: io::Error| Error::System { what, source }
        };
        // A FIFO is refused later; opening it must not wait for a writer.
        let open = |name: &str, write: bool| {
            let flags = OFlag::O_NONBLOCK.bits();
            OpenOptions::new().read(true).write(write).custom_flags(flags).open(path.join(name))
        };
        let ram = open("ram", true).map_err(failed("ram"))?;
        let metadata = ram.metadata().map_err(failed("ram"))?;
        let len = memory_len(metadata.is_file(), metadata.len())
            .map_err(|why| failed("ram")(io::Error::other(why)))?;
        let platform = open("platform", false).and_then(name).map_err(failed("platform"))?;
        let stream = |name: &str| stream(&path.join(name), end).map_err(failed(name));
        Ok(Self { ram, len, serial: stream("serial")?, qmp: stream("qmp")?, platform })
    }
}

/// A connection to a socket. Without O_NONBLOCK it would wait forever for a machine that does not accept it.
fn stream(path: &Path, end: Instant) -> io::Result<UnixStream> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    loop {
        match connect(socket.as_raw_fd(), &address).map_err(io::Error::from) {
            Ok(()) => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                thread::sleep(TICK)
            }
            Err(error) => return Err(error),
        }
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The length of the memory, if the payload, stage 2 and the page at which the CPU starts fit into it.
fn memory_len(is_file: bool, len: u64) -> Result<NonZeroUsize, String> {
    let needed = RAM_SIZE as u64 + 2 * PAGE;
    if !is_file {
        return Err("the memory is not a regular file".into());
    }
    if !len.is_multiple_of(PAGE) || !(needed..=LARGEST).contains(&len) {
        return Err(format!(
            "the memory at {RAM:#x} has {len:#x} bytes, and must be pages of {PAGE:#x} from {needed:#x} to {LARGEST:#x}"
        ));
    }
    usize::try_from(len)
        .ok()
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| format!("{len:#x} bytes are too many for this machine"))
}

/// A platform's name: one line of printable ASCII.
fn name(file: impl Read) -> io::Result<String> {
    let text = bounded::read_text(file, LONGEST_NAME)?;
    let name = text.trim_end_matches('\n');
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_graphic()) {
        return Err(io::Error::other(format!("{text:?} is not a platform's name")));
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{Backlog, listen};
    use std::{fs, os::unix::net::UnixListener};

    fn open(path: &Path) -> Result<Directory, Error> {
        Directory::open(path, Instant::now())
    }

    #[test]
    fn memory_must_hold_the_payload_and_the_page_where_the_cpu_starts() {
        let least = RAM_SIZE as u64 + 2 * PAGE;
        assert_eq!(memory_len(true, least).map(|len| len.get() as u64), Ok(least));
        assert!(memory_len(true, LARGEST).is_ok());
        for len in [0, least - PAGE, least - 1, least + 1, LARGEST + PAGE, u64::MAX] {
            assert!(memory_len(true, len).is_err(), "{len:#x}");
        }
        assert!(memory_len(false, least).is_err());
    }

    #[test]
    fn a_name_is_one_short_line() {
        assert_eq!(name(&b"linux,dummy-virt\n"[..]).expect("a name"), "linux,dummy-virt");
        for wrong in [&b""[..], b"\n", b"two\nlines", b"\xff", b"a\0b", &[b'a'; 65], &[b'a'; 1 << 12]] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let message = || open(directory.path()).expect_err("not whole").to_string();
        assert!(message().contains(at("ram").to_str().expect("UTF-8")), "{}", message());
        let ram = File::create(at("ram")).expect("a file");
        assert!(message().contains("has 0x0 bytes"), "{}", message());
        ram.set_len(4 << 20).expect("space");
        assert!(message().contains("/platform"), "{}", message());
        fs::write(at("platform"), "p\n").expect("a file");
        assert!(message().contains("/serial"), "{}", message());
        let _serial = UnixListener::bind(at("serial")).expect("a socket");
        assert!(message().contains("/qmp") && message().contains("lab exec --bare"), "{}", message());
        let _qmp = UnixListener::bind(at("qmp")).expect("a socket");
        assert_eq!(open(directory.path()).expect("whole").platform, "p");
    }

    #[test]
    fn a_machine_that_accepts_no_connection_is_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a socket");
        // The queue of std's listener may be longer than this process may have files.
        listen(&listener, Backlog::new(1).expect("a backlog")).expect("a shorter queue");
        let mut waiting = Vec::new();
        let error = loop {
            match stream(&path, Instant::now()) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}
