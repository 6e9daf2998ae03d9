// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The machine's monitor: QMP (QEMU Machine Protocol Specification), as far as docs/bare.md asks for it. The
//! machine is not trusted: it may answer anything, or nothing.

use crate::guest::Error;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// The upper limit of a message, in bytes; anything longer is rejected.
const LONGEST: usize = 1 << 20;
/// How many characters are shown of a line that is not a message.
const SHOWN: usize = 80;
/// The upper limit of registers that are shown.
const MOST_REGISTERS: usize = 256;

/// A connection to the monitor.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    /// The bytes that were received but not yet read as a message.
    received: Vec<u8>,
    /// How long the machine may take to answer.
    patience: Duration,
    /// The command that was not answered: a late answer would be taken for the answer to another command.
    lost: Option<&'static str>,
}

/// What the machine sends.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Message {
    Greeting {
        #[serde(rename = "QMP")]
        _version: IgnoredAny,
    },
    Return {
        #[serde(rename = "return")]
        result: Value,
    },
    Error {
        error: Value,
    },
    Event {
        event: String,
    },
}

impl Qmp {
    /// Takes the greeting, and enables no capabilities. Every answer comes within `patience`.
    pub fn new(stream: UnixStream, patience: Duration) -> Result<Self, Error> {
        let mut qmp = Self { stream, received: Vec::new(), patience, lost: None };
        match qmp.message(Instant::now() + patience) {
            Ok(Message::Greeting { .. }) => {}
            Ok(other) => return Err(failed("the greeting", unexpected(&format!("{other:?}")))),
            Err(error) => return Err(failed("the greeting", error)),
        }
        qmp.execute("qmp_capabilities")?;
        Ok(qmp)
    }

    /// Stops the CPU, resets the machine and leaves the CPU stopped.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.execute("stop")?;
        // The answer may come before the reset or after it.
        self.command("system_reset", &json!({ "execute": "system_reset" }), Some("RESET")).map(drop)
    }

    /// Lets the CPU execute.
    pub fn cont(&mut self) -> Result<(), Error> {
        self.execute("cont").map(drop)
    }

    /// The CPU's registers, by the machine's names.
    pub fn registers(&mut self) -> Result<Vec<(String, u64)>, Error> {
        let command = "human-monitor-command";
        let arguments = json!({ "command-line": "info registers" });
        let text = self.command(command, &json!({ "execute": command, "arguments": arguments }), None)?;
        Ok(registers(text.as_str().unwrap_or_default()))
    }

    fn execute(&mut self, command: &'static str) -> Result<Value, Error> {
        self.command(command, &json!({ "execute": command }), None)
    }

    /// Executes a command; returns the machine's answer after `event` has come too.
    fn command(
        &mut self,
        command: &'static str,
        message: &Value,
        event: Option<&str>,
    ) -> Result<Value, Error> {
        if let Some(lost) = self.lost {
            let why = format!("not sent, because the machine did not answer {lost}");
            return Err(failed(command, io::Error::other(why)));
        }
        self.lost = Some(command);
        self.exchange(message, event).map_err(|error| failed(command, error))
    }

    /// The machine's answer; a refusal is an error. After either, nothing is lost.
    fn exchange(&mut self, message: &Value, event: Option<&str>) -> io::Result<Value> {
        self.stream.set_write_timeout(Some(self.patience))?;
        self.stream.write_all(format!("{message}\n").as_bytes())?;
        let end = Instant::now() + self.patience;
        let (mut answer, mut happened) = (None, event.is_none());
        loop {
            match self.message(end)? {
                Message::Return { result } if answer.is_none() => answer = Some(result),
                Message::Error { error } if answer.is_none() => {
                    self.lost = None;
                    return Err(io::Error::other(error.to_string()));
                }
                Message::Event { event: name } => happened |= event == Some(&name),
                other => return Err(unexpected(&format!("{other:?}"))),
            }
            if happened && let Some(answer) = answer.take() {
                self.lost = None;
                return Ok(answer);
            }
        }
    }

    /// The next message, if it comes before `end`.
    fn message(&mut self, end: Instant) -> io::Result<Message> {
        loop {
            if let Some(length) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=length).collect();
                return serde_json::from_slice(&line)
                    .map_err(|_| unexpected(&String::from_utf8_lossy(&line[..length])));
            }
            if self.received.len() > LONGEST {
                return Err(io::Error::other(format!("a line of more than {LONGEST} bytes")));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(
                    ErrorKind::TimedOut,
                    format!("no answer within {:?}", self.patience),
                ));
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut bytes = [0; 1 << 12];
            match self.stream.read(&mut bytes) {
                Ok(0) => {
                    let why = "the machine has closed the connection";
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, why));
                }
                Ok(count) => self.received.extend(&bytes[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn unexpected(what: &str) -> io::Error {
    let start: String = what.chars().take(SHOWN).collect();
    io::Error::new(ErrorKind::InvalidData, format!("{start:?} is not what docs/bare.md expects here"))
}

fn failed(command: &str, source: io::Error) -> Error {
    Error::System { what: format!("QMP {command}"), source }
}

/// The `NAME=value` of a text, values in hexadecimal.
fn registers(text: &str) -> Vec<(String, u64)> {
    let register = |word: &str| {
        let (name, value) = word.split_once('=')?;
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        is_name.then_some((name.to_owned(), u64::from_str_radix(value, 16).ok()?))
    };
    text.split_whitespace().filter_map(register).take(MOST_REGISTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{iter::repeat_n, thread};

    const PATIENCE: Duration = Duration::from_secs(10);
    const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#;
    const RETURN: &str = r#"{"return": {}}"#;
    const RESET: &str = r#"{"timestamp": {"seconds": 1}, "event": "RESET", "data": {"guest": false}}"#;
    const OTHER: &str = r#"{"timestamp": {"seconds": 1}, "event": "STOP"}"#;

    /// Calls `with` on a monitor that sends these lines; also returns what the monitor received.
    fn monitor<R>(lines: &[&str], with: impl FnOnce(Result<Qmp, Error>) -> R) -> (R, String) {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        theirs.write_all(lines.join("\n").as_bytes()).expect("room");
        theirs.write_all(b"\n").expect("room");
        theirs.shutdown(std::net::Shutdown::Write).expect("open");
        let hearing = thread::spawn(move || {
            let mut heard = String::new();
            theirs.read_to_string(&mut heard).expect("text");
            heard
        });
        let result = with(Qmp::new(ours, PATIENCE));
        (result, hearing.join().expect("no panic"))
    }

    #[test]
    fn a_reset_is_over_when_the_event_has_come_before_the_answer_or_after_it() {
        for [first, second] in [[RETURN, RESET], [RESET, RETURN]] {
            let lines = [GREETING, RETURN, OTHER, RETURN, first, OTHER, second];
            let (reset, heard) = monitor(&lines, |qmp| qmp?.reset());
            reset.expect("a reset");
            let commands = ["qmp_capabilities", "stop", "system_reset"];
            assert_eq!(heard, commands.map(|name| format!("{{\"execute\":\"{name}\"}}\n")).concat());
        }
        let (reset, _) = monitor(&[GREETING, RETURN, RETURN, RETURN], |qmp| qmp?.reset());
        assert!(reset.is_err(), "an answer alone is not a reset");
    }

    #[test]
    fn a_refusal_garbage_and_silence_are_errors_that_name_the_command() {
        for line in
            [r#"{"error": {"class": "GenericError", "desc": "no"}}"#, "hello", "[]", "{}", "7", GREETING, ""]
        {
            let (result, _) = monitor(&[GREETING, RETURN, line], |qmp| qmp?.cont());
            let message = result.expect_err("an error").to_string();
            assert!(message.starts_with("QMP cont: "), "{message}");
        }
        for greeting in [RETURN, OTHER, "\u{1b}[2Jhello", r#"{"qmp": 1}"#] {
            let (result, heard) = monitor(&[greeting, RETURN], |qmp| qmp.map(drop));
            let message = result.expect_err("an error").to_string();
            assert!(message.starts_with("QMP the greeting: "), "{message}");
            assert!(!message.contains('\u{1b}'), "{message}");
            assert_eq!(heard, "");
        }
    }

    #[test]
    fn what_is_not_answered_in_time_is_an_error_and_nothing_is_sent_after_it() {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        writeln!(theirs, "{GREETING}\n{RETURN}").expect("room");
        let mut qmp = Qmp::new(ours, PATIENCE).expect("a machine");
        qmp.patience = Duration::from_millis(20);
        // Events alone are not an answer, however many there are.
        writeln!(theirs, "{OTHER}\n{OTHER}").expect("room");
        let message = qmp.cont().expect_err("no answer").to_string();
        assert_eq!(message, "QMP cont: no answer within 20ms");
        writeln!(theirs, "{RETURN}").expect("room");
        let message = qmp.reset().expect_err("the answer is that to cont").to_string();
        assert_eq!(message, "QMP stop: not sent, because the machine did not answer cont");
    }

    #[test]
    fn a_refused_command_is_answered_and_the_next_one_is_sent() {
        let refused = r#"{"error": {"class": "CommandNotFound", "desc": "no"}}"#;
        let (registers, heard) = monitor(&[GREETING, RETURN, refused, RETURN], |qmp| {
            let mut qmp = qmp?;
            let registers = qmp.registers();
            qmp.cont().map(|()| registers)
        });
        let message = registers.expect("a machine").expect_err("refused").to_string();
        assert!(message.starts_with("QMP human-monitor-command: {"), "{message}");
        assert!(heard.ends_with("{\"execute\":\"cont\"}\n"), "{heard}");
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        let flood = thread::spawn(move || {
            writeln!(theirs, "{GREETING}\n{RETURN}").expect("room");
            let spaces: Vec<u8> = repeat_n(b' ', 2 * LONGEST).collect();
            // It ends with an error when the other side is gone.
            theirs.write_all(&spaces).is_ok()
        });
        let mut qmp = Qmp::new(ours, PATIENCE).expect("a machine");
        let message = qmp.cont().expect_err("no message").to_string();
        assert_eq!(message, format!("QMP cont: a line of more than {LONGEST} bytes"));
        assert!(qmp.received.len() < LONGEST + (1 << 13));
        drop(qmp);
        assert!(!flood.join().expect("no panic"));
    }

    #[test]
    fn registers_are_read_out_of_the_monitors_text() {
        let text = "\r\nCPU#0\r\n PC=00000000403ff000 X00=0000000000000007 X01=12\r\nPSTATE=400003c5 -Z-- EL1h  FPU=?\r\n";
        let expected = [("PC", 0x403f_f000), ("X00", 7), ("X01", 0x12), ("PSTATE", 0x4000_03c5)];
        assert_eq!(registers(text), expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(registers("\u{1b}[2J=1 =g X0=0x1"), []);
        assert_eq!(registers(&"X=1 ".repeat(1000)).len(), MOST_REGISTERS);
    }
}
