// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Reads a host's console: the command's output is passed on immediately, and the kernel's last lines are kept in case
//! the host dies.

use std::collections::VecDeque;

use anyhow::{Context, Result, anyhow, bail};

use crate::facts::Facts;
use crate::outcome::Outcome;
use crate::protocol::{Decoder, Event, Kind, printable};

/// The number of lines that are kept.
const KEPT: usize = 200;

/// Where the command's output goes.
pub trait Output {
    /// Takes bytes of the command's stdout.
    fn stdout(&mut self, bytes: &[u8]) -> Result<()>;
    /// Takes bytes of the command's stderr.
    fn stderr(&mut self, bytes: &[u8]) -> Result<()>;
    /// Takes a line for users.
    fn note(&mut self, line: &str) -> Result<()>;
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
    verbose: bool,
    lost: u32,
    outcome: Option<Outcome>,
}

impl<O: Output> Console<O> {
    /// A new console. With `verbose`, each of the kernel's lines is passed on when it arrives.
    pub fn new(output: O, verbose: bool) -> Self {
        let (decoder, kept) = (Decoder::default(), VecDeque::with_capacity(KEPT));
        Self { output, decoder, kept, verbose, lost: 0, outcome: None }
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

    /// How the command ended. If it did not end, the error is that of `died`. It is also an error if some of the
    /// command's output was lost. Both errors first show the last lines.
    pub fn outcome(mut self, died: impl FnOnce() -> anyhow::Error) -> Result<Outcome> {
        let error = match self.outcome {
            Some(outcome) if self.lost == 0 => return Ok(outcome),
            Some(_) => {
                anyhow!("{} lines of the command's output were lost between kernel messages", self.lost)
            }
            None => died(),
        };
        for line in self.kept {
            self.output.note(&line)?;
        }
        Err(error)
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Frame(Kind::Stdout, bytes) => self.output.stdout(&bytes),
            Event::Frame(Kind::Stderr, bytes) => self.output.stderr(&bytes),
            Event::Frame(Kind::Kernel, line) => self.line(format!("host: {}", printable(&line))),
            Event::Frame(Kind::Facts, text) => {
                let text = String::from_utf8_lossy(&text);
                let facts: Facts =
                    toml::from_str(&text).with_context(|| format!("invalid facts: {text:?}"))?;
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
}

#[cfg(test)]
mod tests {
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
        assert_eq!(console.outcome(died).unwrap_err().to_string(), "QEMU exited");
        assert_eq!(heard.notes.len(), KEPT);
        assert_eq!(heard.notes[0], "host: [ 801] line");
        assert_eq!(heard.notes[KEPT - 1], "host: Kernel panic - not syncing");
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
