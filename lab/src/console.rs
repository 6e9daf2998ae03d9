// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Reads a host's console: the command's output is passed on immediately, and the kernel's last lines are kept in case
//! the host dies.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result, anyhow, bail};

use crate::facts::Facts;
use crate::outcome::Outcome;
use crate::protocol::{Decoder, Event, Kind, printable};

/// The number of lines that are kept.
const KEPT: usize = 60;
/// The upper limit of the part of the command's last line that is kept, in bytes.
const LONGEST: usize = 400;

/// Where the command's output goes.
pub trait Output {
    /// Takes bytes of the command's stdout.
    fn stdout(&mut self, bytes: &[u8]) -> Result<()>;
    /// Takes bytes of the command's stderr.
    fn stderr(&mut self, bytes: &[u8]) -> Result<()>;
    /// Takes a line for users.
    fn note(&mut self, line: &str) -> Result<()>;
    /// Takes a piece of a file that the command wrote ([`Brought`](crate::brought::Brought)).
    fn file(&mut self, _piece: &[u8]) -> Result<()> {
        Ok(())
    }
    /// Takes the facts that the host reports.
    fn facts(&mut self, _facts: Facts) -> Result<()> {
        Ok(())
    }
}

/// A host's console, and what was read from it.
#[derive(Debug)]
pub struct Console<O> {
    output: O,
    decoder: Decoder,
    kept: VecDeque<String>,
    log: Option<File>,
    verbose: bool,
    booted: bool,
    only_boots: bool,
    last: Vec<u8>,
    line: Vec<u8>,
    lost: u32,
    outcome: Option<Outcome>,
}

impl<O: Output> Console<O> {
    /// A new console. With `verbose`, each of the kernel's lines is passed on when it arrives.
    pub fn new(output: O, verbose: bool) -> Self {
        let (decoder, kept) = (Decoder::default(), VecDeque::with_capacity(KEPT));
        Self {
            output,
            decoder,
            kept,
            log: None,
            verbose,
            booted: false,
            only_boots: false,
            last: Vec::new(),
            line: Vec::new(),
            lost: 0,
            outcome: None,
        }
    }

    /// The same console, whose lines are all written to `log` too.
    pub fn logged(self, log: File) -> Self {
        Self { log: Some(log), ..self }
    }

    /// The host boots once more, only for the kernel's messages: what its command prints is dropped.
    pub fn boot_again(&mut self) {
        self.decoder = Decoder::default();
        self.only_boots = true;
    }

    /// Whether the host has booted: whether it has reported its facts.
    pub fn has_booted(&self) -> bool {
        self.booted
    }

    /// Takes the next bytes of the serial console.
    pub fn read(&mut self, bytes: &[u8]) -> Result<()> {
        let events = self.decoder.push(bytes);
        events.into_iter().try_for_each(|event| self.take(event))
    }

    /// The serial console is closed.
    pub fn finish(&mut self) -> Result<()> {
        let events = self.decoder.finish();
        events.into_iter().try_for_each(|event| self.take(event))
    }

    /// Takes a line that the command did not write.
    pub fn line(&mut self, line: String) -> Result<()> {
        if let Some(log) = &mut self.log {
            writeln!(log, "{line}").context("cannot write the host's log")?;
        }
        if self.verbose {
            return self.output.note(&line);
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(line);
        Ok(())
    }

    /// Whether the command has ended.
    pub fn has_outcome(&self) -> bool {
        self.outcome.is_some()
    }

    /// How the command ended. If it did not end, the error is that of `died`, with the last line of the command. It is also an
    /// error if some of the command's output was lost. Both errors first show the last lines of the console.
    pub fn outcome(mut self, died: impl FnOnce() -> anyhow::Error) -> Result<Outcome> {
        let error = match self.outcome {
            Some(outcome) if self.lost == 0 => return Ok(outcome),
            Some(_) => {
                anyhow!("{} lines of the command's output were lost between kernel messages", self.lost)
            }
            None if self.last.is_empty() => died(),
            None => {
                died().context(format!("the last that the command printed was `{}`", printable(&self.last)))
            }
        };
        for line in self.kept {
            self.output.note(&line)?;
        }
        Err(error)
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Frame(Kind::Facts, _) if self.only_boots => {
                self.booted = true;
                Ok(())
            }
            Event::Frame(Kind::Stdout | Kind::Stderr | Kind::File | Kind::Outcome, _) if self.only_boots => {
                Ok(())
            }
            Event::Frame(Kind::Stdout, bytes) => {
                self.printed(&bytes);
                self.output.stdout(&bytes)
            }
            Event::Frame(Kind::Stderr, bytes) => self.output.stderr(&bytes),
            Event::Frame(Kind::File, piece) => self.output.file(&piece),
            Event::Frame(Kind::Kernel, line) => self.line(format!("host: {}", printable(&line))),
            Event::Frame(Kind::Facts, text) => {
                let text = String::from_utf8_lossy(&text);
                let facts: Facts =
                    toml::from_str(&text).with_context(|| format!("invalid facts: {text:?}"))?;
                self.booted = true;
                self.line(format!("lab: the host runs {}", printable(facts.to_string().as_bytes())))?;
                self.output.facts(facts)
            }
            Event::Frame(Kind::Outcome, text) => {
                let text = printable(&text);
                match text.parse() {
                    Ok(outcome) => self.outcome = Some(outcome),
                    Err(error) => bail!("invalid outcome: {error}"),
                }
                Ok(())
            }
            Event::Kernel(line) => self.line(format!("host: {line}")),
            Event::Damaged(line) => self.line(format!("host: (damaged) {line}")),
            Event::Missing(count) => {
                self.lost = self.lost.saturating_add(count);
                self.line(format!("lab: {count} lines of the console are missing here"))
            }
        }
    }

    /// Keeps the last line that the command printed.
    fn printed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                self.last = std::mem::take(&mut self.line);
            } else if self.line.len() < LONGEST {
                self.line.push(byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;
    use crate::protocol::Encoder;

    #[derive(Debug, Default)]
    struct Heard {
        stdout: Vec<u8>,
        stderr: Vec<u8>,
        notes: Vec<String>,
    }

    impl Output for &mut Heard {
        fn stdout(&mut self, bytes: &[u8]) -> Result<()> {
            self.stdout.extend(bytes);
            Ok(())
        }

        fn stderr(&mut self, bytes: &[u8]) -> Result<()> {
            self.stderr.extend(bytes);
            Ok(())
        }

        fn note(&mut self, line: &str) -> Result<()> {
            self.notes.push(line.into());
            Ok(())
        }
    }

    fn died() -> anyhow::Error {
        anyhow!("QEMU exited")
    }

    #[test]
    fn streams_stay_separate_and_kernel_messages_are_not_shown_after_success() {
        let mut heard = Heard::default();
        let mut console = Console::new(&mut heard, false);
        let mut encoder = Encoder::default();
        console.read(&encoder.encode(Kind::Stdout, b"ok 1 x\nok 2 un")).unwrap();
        console.read(b"[    1.0] a kernel message\r\n").unwrap();
        console.read(&encoder.encode(Kind::Stderr, b"warning\n")).unwrap();
        console.read(&encoder.encode(Kind::Stdout, b"finished")).unwrap();
        console.read(&encoder.encode(Kind::Outcome, b"exited 7")).unwrap();
        assert!(console.has_outcome());
        assert_eq!(console.outcome(died).unwrap(), Outcome::Exited(7));
        assert_eq!(heard.stdout, b"ok 1 x\nok 2 unfinished");
        assert_eq!(heard.stderr, b"warning\n");
        assert_eq!(heard.notes, [""; 0]);
    }

    #[test]
    fn a_dead_host_shows_its_last_lines() {
        let mut heard = Heard::default();
        let mut console = Console::new(&mut heard, false);
        for number in 0..1000 {
            console.read(format!("[ {number}] line\r\n").as_bytes()).unwrap();
        }
        console.read(b"Kernel panic - not syncing").unwrap();
        console.finish().unwrap();
        assert!(!console.has_booted());
        assert_eq!(console.outcome(died).unwrap_err().to_string(), "QEMU exited");
        assert_eq!(heard.notes.len(), KEPT);
        assert_eq!(heard.notes[0], "host: [ 941] line");
        assert_eq!(heard.notes[KEPT - 1], "host: Kernel panic - not syncing");
    }

    #[test]
    fn a_host_that_dies_in_the_middle_says_what_its_command_printed_last_and_leaves_a_log() {
        let (mut heard, log) = (Heard::default(), tempfile::tempfile().unwrap());
        let mut console = Console::new(&mut heard, false).logged(log.try_clone().unwrap());
        let mut encoder = Encoder::default();
        console.read(&encoder.encode(Kind::Facts, b"release = \"7\"")).unwrap();
        console.read(&encoder.encode(Kind::Stdout, b"ok 1 a\nok 2 b\nok 3 un")).unwrap();
        console.read(b"[ 1] line\r\n[ 2] Kernel panic\r\n").unwrap();
        assert!(console.has_booted());
        let error = format!("{:#}", console.outcome(died).unwrap_err());
        assert_eq!(error, "the last that the command printed was `ok 2 b`: QEMU exited");
        let mut text = String::new();
        let mut log = log;
        log.rewind().and_then(|()| log.read_to_string(&mut text)).unwrap();
        assert_eq!(text, "lab: the host runs Linux 7\nhost: [ 1] line\nhost: [ 2] Kernel panic\n");
    }

    #[test]
    fn a_host_that_boots_again_shows_only_its_messages() {
        let mut heard = Heard::default();
        let mut console = Console::new(&mut heard, false);
        console.read(&Encoder::default().encode(Kind::Kernel, b"half of the first boot")).unwrap();
        console.boot_again();
        let mut encoder = Encoder::default();
        console.read(b"[ 0] Booting Linux\r\n").unwrap();
        for kind in [Kind::Facts, Kind::Stdout, Kind::Outcome] {
            console.read(&encoder.encode(kind, b"not looked at\n")).unwrap();
        }
        assert!(console.has_booted() && !console.has_outcome());
        console.outcome(died).unwrap_err();
        assert_eq!(heard.stdout, b"");
        assert_eq!(heard.notes, ["host: half of the first boot", "host: [ 0] Booting Linux"]);
    }

    #[test]
    fn a_run_that_lost_output_is_an_error() {
        let mut heard = Heard::default();
        let mut console = Console::new(&mut heard, true);
        let mut encoder = Encoder::default();
        let cut = encoder.encode(Kind::Stdout, b"not ok 1 x\n");
        console.read(&cut[..20]).unwrap();
        console.read(b"[    1.0] BUG\r\n").unwrap();
        console.read(&encoder.encode(Kind::Outcome, b"exited 0")).unwrap();
        let error = console.outcome(died).unwrap_err().to_string();
        assert!(error.contains("1 lines of the command's output were lost"), "{error}");
        assert!(heard.notes[0].starts_with("host: (damaged)"), "{:?}", heard.notes);
    }

    #[test]
    fn invalid_frames_from_a_host_are_an_error() {
        for (kind, text) in [(Kind::Facts, "release = 1"), (Kind::Outcome, "exited 300")] {
            let mut heard = Heard::default();
            let mut console = Console::new(&mut heard, false);
            assert!(console.read(&Encoder::default().encode(kind, text.as_bytes())).is_err(), "{text}");
        }
    }

    #[test]
    fn facts_with_control_characters_are_made_printable() {
        let mut heard = Heard::default();
        let mut console = Console::new(&mut heard, true);
        console.read(&Encoder::default().encode(Kind::Facts, b"release = \"7\\u001b[2J\"")).unwrap();
        assert_eq!(heard.notes, ["lab: the host runs Linux 7\u{fffd}[2J"]);
    }
}
