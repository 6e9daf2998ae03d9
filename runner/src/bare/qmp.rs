// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The emulator's monitor: QMP (QEMU Machine Protocol Specification), as far as a reset needs it.

use crate::guest::Error;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

/// How long the emulator may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A message is not longer.
const LONGEST: u64 = 1 << 20;

/// A connection to the monitor.
#[derive(Debug)]
pub struct Qmp(BufReader<UnixStream>);

/// What the emulator sends.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    #[serde(rename = "return")]
    result: Option<Value>,
    error: Option<Value>,
    event: Option<String>,
}

impl Qmp {
    /// Takes the greeting, and says which capabilities are wanted: none.
    pub fn new(stream: UnixStream) -> Result<Self, Error> {
        let failed = failed("the greeting");
        stream.set_read_timeout(Some(PATIENCE)).map_err(&failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(&failed)?;
        let mut qmp = Self(BufReader::new(stream));
        qmp.message().map_err(&failed)?;
        qmp.execute("qmp_capabilities")?;
        Ok(qmp)
    }

    /// Stops the CPU, resets the machine and leaves the CPU stopped.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.execute("stop")?;
        self.send("system_reset", &json!({ "execute": "system_reset" }))?;
        // The answer may come before the reset or after it.
        let (mut answered, mut reset) = (false, false);
        while !(answered && reset) {
            let message = self.answer("system_reset")?;
            answered |= message.result.is_some();
            reset |= message.event.as_deref() == Some("RESET");
        }
        Ok(())
    }

    /// Lets the CPU execute.
    pub fn cont(&mut self) -> Result<(), Error> {
        self.execute("cont").map(drop)
    }

    /// The CPU's registers, by the emulator's names.
    pub fn registers(&mut self) -> Result<Vec<(String, u64)>, Error> {
        let command = "human-monitor-command";
        let arguments = json!({ "command-line": "info registers" });
        self.send(command, &json!({ "execute": command, "arguments": arguments }))?;
        let text = self.result(command)?;
        Ok(registers(text.as_str().unwrap_or_default()))
    }

    fn execute(&mut self, command: &str) -> Result<Value, Error> {
        self.send(command, &json!({ "execute": command }))?;
        self.result(command)
    }

    fn send(&mut self, command: &str, message: &Value) -> Result<(), Error> {
        self.0.get_mut().write_all(format!("{message}\n").as_bytes()).map_err(failed(command))
    }

    fn result(&mut self, command: &str) -> Result<Value, Error> {
        loop {
            if let Some(result) = self.answer(command)?.result {
                return Ok(result);
            }
        }
    }

    /// The next message, which is no error.
    fn answer(&mut self, command: &str) -> Result<Message, Error> {
        let message = self.message().map_err(failed(command))?;
        match message.error {
            Some(error) => Err(failed(command)(io::Error::other(error.to_string()))),
            None => Ok(message),
        }
    }

    fn message(&mut self) -> io::Result<Message> {
        let mut line = Vec::new();
        self.0.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }
}

fn failed(command: &str) -> impl Fn(io::Error) -> Error + use<> {
    let what = format!("QMP {command}");
    move |source| Error::System { what: what.clone(), source }
}

/// The `NAME=value` of a text, values in hexadecimal.
fn registers(text: &str) -> Vec<(String, u64)> {
    let register = |word: &str| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), u64::from_str_radix(value, 16).ok()?))
    };
    text.split_whitespace().filter_map(register).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#;
    const RETURN: &str = r#"{"return": {}}"#;
    const RESET: &str = r#"{"timestamp": {"seconds": 1}, "event": "RESET", "data": {"guest": false}}"#;
    const OTHER: &str = r#"{"timestamp": {"seconds": 1}, "event": "STOP"}"#;

    /// A monitor that says these lines and hears the rest; returns what it heard.
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
        let result = with(Qmp::new(ours));
        (result, hearing.join().expect("no panic"))
    }

    #[test]
    fn a_reset_is_over_when_the_event_has_come_before_the_answer_or_behind_it() {
        for [first, second] in [[RETURN, RESET], [RESET, RETURN]] {
            let lines = [GREETING, RETURN, OTHER, RETURN, first, OTHER, second];
            let (reset, heard) = monitor(&lines, |qmp| qmp?.reset());
            reset.expect("a reset");
            let commands = ["qmp_capabilities", "stop", "system_reset"];
            assert_eq!(heard, commands.map(|name| format!("{{\"execute\":\"{name}\"}}\n")).concat());
        }
        let (reset, _) = monitor(&[GREETING, RETURN, RETURN, RETURN], |qmp| qmp?.reset());
        assert!(reset.is_err(), "an answer alone is no reset");
    }

    #[test]
    fn a_refusal_garbage_and_silence_are_errors_that_name_the_command() {
        for line in [r#"{"error": {"class": "GenericError", "desc": "no"}}"#, "hello", "[]", ""] {
            let (result, _) = monitor(&[GREETING, RETURN, line], |qmp| qmp?.cont());
            let message = result.expect_err("an error").to_string();
            assert!(message.starts_with("QMP cont: "), "{message}");
        }
    }

    #[test]
    fn registers_are_read_out_of_the_monitors_text() {
        let text = "\r\nCPU#0\r\n PC=00000000403ff000 X00=0000000000000007 X01=12\r\nPSTATE=400003c5 -Z-- EL1h  FPU=?\r\n";
        let expected = [("PC", 0x403f_f000), ("X00", 7), ("X01", 0x12), ("PSTATE", 0x4000_03c5)];
        assert_eq!(registers(text), expected.map(|(name, value)| (name.to_owned(), value)));
    }
}
