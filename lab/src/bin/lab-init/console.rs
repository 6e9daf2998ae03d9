// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The serial console, shared by threads.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use dfr0_lab::protocol::{Encoder, Kind};
use nix::sys::termios::{SetArg, cfmakeraw, tcdrain, tcgetattr, tcsetattr};

/// /dev/console, which stays open as long as the host runs.
pub struct Console {
    file: File,
    encoder: Mutex<Encoder>,
}

impl Console {
    /// Opens the console in raw mode, so that bytes are not changed.
    pub fn open() -> io::Result<&'static Self> {
        let file = File::options().read(true).write(true).open("/dev/console")?;
        if let Ok(mut termios) = tcgetattr(&file) {
            cfmakeraw(&mut termios);
            tcsetattr(&file, SetArg::TCSANOW, &termios)?;
        }
        Ok(Box::leak(Box::new(Self { file, encoder: Mutex::default() })))
    }

    /// Sends frames. A failure cannot be reported, but `lab` notices that frames are missing.
    pub fn send(&self, kind: Kind, payload: &[u8]) {
        let mut encoder = self.encoder.lock().unwrap_or_else(PoisonError::into_inner);
        let frames = encoder.encode(kind, payload);
        let _ = (&self.file).write_all(&frames);
    }

    /// Waits until everything was sent.
    pub fn drain(&self) {
        let _ = tcdrain(&self.file);
    }
}
