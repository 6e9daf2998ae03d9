// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Sends the files in /out, while the command writes them and when it has ended.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use dfr0_lab::brought::{OUT, pieces};
use dfr0_lab::protocol::Kind;

use crate::console::Console;

/// What was written is sent this often.
const PAUSE: Duration = Duration::from_millis(500);

/// What was sent of each file: its inode and its size. A program that writes a file as a whole gives the name to a new inode.
#[derive(Default)]
struct Sent(BTreeMap<PathBuf, (u64, u64)>);

/// Sends the files until the sender of `ended` is dropped, and then once more.
pub fn forward(console: &Console, ended: &Receiver<()>) {
    let mut sent = Sent::default();
    while ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
        sent.send(Path::new(OUT), console);
    }
    sent.send(Path::new(OUT), console);
}

impl Sent {
    fn send(&mut self, directory: &Path, console: &Console) {
        // What cannot be read was removed meanwhile.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            match kind {
                Ok(kind) if kind.is_dir() => self.send(&path, console),
                Ok(kind) if kind.is_file() => {
                    let _ = self.send_file(&path, console);
                }
                _ => {}
            }
        }
    }

    fn send_file(&mut self, path: &Path, console: &Console) -> std::io::Result<()> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let (inode, size) = (metadata.ino(), metadata.len());
        let sent = self.0.get(path).filter(|(of, sent)| *of == inode && *sent <= size).map(|(_, sent)| *sent);
        if sent == Some(size) {
            return Ok(());
        }
        let start = sent.unwrap_or_default();
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let name = path.strip_prefix(OUT).unwrap_or(path);
        for piece in pieces(name, start, &bytes) {
            console.send(Kind::File, &piece);
        }
        self.0.insert(path.to_owned(), (inode, start + bytes.len() as u64));
        Ok(())
    }
}
