// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Runs Debian's tools. Their messages are shown only if they fail, and they are stopped when `lab` is.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Seek, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use nix::poll::{PollFlags, PollTimeout};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::interrupt::Signals;
use crate::protocol::printable;

/// The number of bytes at the end of a failed tool's stderr that are shown.
const SHOWN: usize = 4096;

/// The spinners of notices, of which there may be several at a time.
static SPINNERS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// The time after which a notice is printed again if it is not shown on a terminal.
const AGAIN: Duration = Duration::from_secs(8);

/// Says on stderr what `lab` is doing, until this is dropped: on a terminal with a spinner, otherwise with a line every
/// few seconds.
#[must_use]
#[derive(Debug)]
pub enum Notice {
    /// On a terminal.
    Spinner(ProgressBar),
    /// Lines are printed until this is dropped.
    Lines(Sender<()>),
}

impl Notice {
    /// Shows `text`, which must be one line.
    pub fn new(text: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            eprintln!("lab: {text}");
            return Self::Lines(repeat(text.to_owned()));
        }
        let style = ProgressStyle::with_template("lab: {msg} {spinner}").expect("a valid template");
        let bar = SPINNERS.add(ProgressBar::new_spinner().with_style(style).with_message(text.to_owned()));
        bar.enable_steady_tick(Duration::from_millis(120));
        Self::Spinner(bar)
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        if let Self::Spinner(bar) = self {
            bar.abandon();
        }
    }
}

/// Prints `text` and the time every few seconds, until the sender is dropped.
fn repeat(text: String) -> Sender<()> {
    let (sender, ended) = mpsc::channel();
    let start = Instant::now();
    thread::spawn(move || {
        while ended.recv_timeout(AGAIN) == Err(RecvTimeoutError::Timeout) {
            eprintln!("lab: {text} ({} s)", start.elapsed().as_secs());
        }
    });
    sender
}

/// Runs `command` until it ends and returns its stdout.
pub fn run(command: &mut Command, signals: &Signals) -> Result<String> {
    let mut stdout = tempfile::tempfile().context("cannot make a temporary file")?;
    let handle = stdout.try_clone().context("cannot duplicate a file descriptor")?;
    run_into(handle, command, signals)?;
    let mut text = String::new();
    stdout
        .rewind()
        .and_then(|()| stdout.read_to_string(&mut text))
        .with_context(|| format!("cannot read the output of `{}`", line(command)))?;
    Ok(text)
}

/// Runs `command` until it ends and writes its stdout to `stdout`.
pub fn run_into(stdout: File, command: &mut Command, signals: &Signals) -> Result<()> {
    command.stdout(stdout).stderr(Stdio::piped());
    let mut child = spawn(command)?;
    let stderr = child.stderr.take().expect("stderr is piped");
    watch(child, stderr, command, None, signals)
}

/// Runs `command` until it ends and writes all that it prints to `log`.
pub fn run_logged(log: &mut File, command: &mut Command, signals: &Signals) -> Result<()> {
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    let other = writer.try_clone().context("cannot duplicate a file descriptor")?;
    command.stdin(Stdio::null()).stdout(other).stderr(writer);
    let child = spawn(command)?;
    // The pipe ends when nobody can write to it any more.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    watch(child, reader, command, Some(log), signals)
}

fn spawn(command: &mut Command) -> Result<Child> {
    match command.spawn() {
        Ok(child) => Ok(child),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "`{}` is not installed, and the lab uses Debian's own tools (apt, dpkg, tar). If this machine is not Debian, \
             install QEMU 10 or later yourself and name a kernel with `--kernel PATH`",
            command.get_program().display()
        ),
        Err(error) => Err(error).with_context(|| format!("cannot run `{}`", line(command))),
    }
}

/// Waits for the end of `child`, and reads what it prints.
fn watch(
    mut child: Child,
    mut printed: impl Read + AsFd,
    command: &Command,
    mut log: Option<&mut File>,
    signals: &Signals,
) -> Result<()> {
    let mut said = Vec::new();
    let mut stopped = Ok(());
    loop {
        if stopped.is_ok() {
            stopped = signals.wait(&[(printed.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).map(drop);
            if stopped.is_err() {
                // SIGTERM and not SIGKILL, because the tool may be dpkg. If this fails, the tool has already ended.
                let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
            }
        }
        let mut buffer = [0; 4096];
        match printed.read(&mut buffer) {
            Ok(0) => break,
            Ok(size) => {
                said.extend_from_slice(&buffer[..size]);
                if let Some(log) = &mut log {
                    log.write_all(&buffer[..size]).context("cannot write a log")?;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read from `{}`", line(command))),
        }
        said.drain(..said.len().saturating_sub(SHOWN));
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{}`", line(command)))?;
    stopped?;
    if !status.success() {
        let said: Vec<_> = said.split(|&byte| byte == b'\n').map(printable).collect();
        bail!("`{}` failed ({status}):\n{}", line(command), said.join("\n").trim_end());
    }
    Ok(())
}

/// The command as a user would type it, without the options that only tell apt where its files are.
fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().display().to_string()];
    let mut arguments = command.get_args();
    while let Some(argument) = arguments.next() {
        if argument == "-o" || argument == "-c" && command.get_program().to_string_lossy().starts_with("apt")
        {
            arguments.next();
        } else {
            words.push(argument.display().to_string());
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether this is a machine without tools. These tests also run in lab hosts, which have none.
    fn no_tools() -> bool {
        !std::path::Path::new("/bin/sh").exists()
    }

    #[test]
    fn an_error_shows_the_command_and_its_messages() {
        if no_tools() {
            return;
        }
        let signals = Signals::hold().unwrap();
        let mut command = Command::new("sh");
        command.args(["-o", "errexit", "-c", "echo out; echo no such suite >&2; exit 100"]);
        let error = run(&mut command, &signals).unwrap_err().to_string();
        assert!(error.starts_with("`sh -c echo out") && error.contains("100"), "{error}");
        assert!(error.ends_with("no such suite"), "{error}");
    }

    #[test]
    fn all_that_a_logged_command_prints_is_in_the_log() {
        if no_tools() {
            return;
        }
        let (signals, mut log) = (Signals::hold().unwrap(), tempfile::tempfile().unwrap());
        let mut command = Command::new("sh");
        command.args(["-c", "echo first; seq 2000 >&2; echo last >&2; exit 2"]);
        let error = run_logged(&mut log, &mut command, &signals).unwrap_err().to_string();
        assert!(error.contains("(exit status: 2)") && error.ends_with("2000\nlast"), "{error}");
        assert!(!error.contains("\n1\n"), "only the end: {error}");
        log.rewind().unwrap();
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("first\n1\n2\n") && text.ends_with("2000\nlast\n"));
    }

    #[test]
    fn stdout_is_returned_and_the_error_of_a_missing_tool_says_what_to_do() {
        let signals = Signals::hold().unwrap();
        if !no_tools() {
            assert_eq!(run(Command::new("echo").arg("yes"), &signals).unwrap(), "yes\n");
        }
        let error = run(&mut Command::new("dfr0-no-such-tool"), &signals).unwrap_err().to_string();
        assert!(error.contains("dfr0-no-such-tool") && error.contains("--kernel PATH"), "{error}");
    }
}
