// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A machine as docs/bare.md describes it, played: instead of a CPU it has the model's PE, which does what
//! the payload would do with the program in the machine's memory.

use crate::pe::{PeFault, PlayedPe};
use serde_json::{Value, json};
use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
};
use tempfile::TempDir;

/// The size of the machine's memory, in bytes.
const RAM_SIZE: u64 = 4 << 20;

const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": []}}"#;

/// What is wrong with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It sends the second text instead of executing the first command; the greeting counts as a command.
    Says(&'static str, &'static str),
    /// It closes its connections instead of executing this command.
    Closes(&'static str),
    /// Its PE or its doorbell is faulty.
    Pe(PeFault),
}

/// The machine. Its directory is removed when it is dropped.
pub struct Machine(TempDir);

impl Machine {
    /// A machine of this platform, which waits for connections.
    pub fn start(platform: &str, fault: Fault) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let ram = OpenOptions::new().read(true).write(true).create_new(true).open(at("ram")).expect("a file");
        ram.set_len(RAM_SIZE).expect("space");
        fs::write(at("platform"), format!("{platform}\n")).expect("a file");
        let [serial, qmp] = ["serial", "qmp"].map(|name| UnixListener::bind(at(name)).expect("a socket"));
        // The thread ends with the test.
        thread::spawn(move || {
            loop {
                let (serial, _) = serial.accept().expect("a connection");
                let (qmp, _) = qmp.accept().expect("a connection");
                let ram = ram.try_clone().expect("a file descriptor");
                Monitor { serial, qmp, ram, fault, cpu: None }.serve();
            }
        });
        Self(directory)
    }

    /// The directory that describes it.
    pub fn directory(&self) -> &Path {
        self.0.path()
    }
}

/// The CPU's thread, and the flag that stops it.
struct Running(JoinHandle<()>, Arc<AtomicBool>);

/// A connection to the machine's monitor.
struct Monitor {
    serial: UnixStream,
    qmp: UnixStream,
    ram: File,
    fault: Fault,
    cpu: Option<Running>,
}

impl Monitor {
    /// Answers until the other side closes the connection, or the machine's fault ends it.
    fn serve(mut self) {
        let requests = BufReader::new(self.qmp.try_clone().expect("a file descriptor"));
        if self.answer("greeting") {
            for request in requests.lines() {
                let Ok(request) = request else { break };
                let request: Value = serde_json::from_str(&request).expect("JSON");
                let command = request["execute"].as_str().expect("a command");
                if !self.answer(command) {
                    break;
                }
            }
        }
        self.stop();
    }

    /// Executes a command; false if the connection has ended.
    fn answer(&mut self, command: &str) -> bool {
        match self.fault {
            Fault::Says(of, text) if of == command => return self.qmp.write_all(text.as_bytes()).is_ok(),
            Fault::Closes(of) if of == command => return false,
            _ => {}
        }
        let answer = match command {
            "greeting" => GREETING.into(),
            "qmp_capabilities" => json!({ "return": {} }).to_string(),
            "stop" => {
                self.stop();
                json!({ "return": {} }).to_string()
            }
            // A machine need not keep anything over a reset. The CPU starts from its reset state at the next
            // `cont`.
            "system_reset" => format!("{}\n{}", json!({ "event": "RESET" }), json!({ "return": {} })),
            "cont" => {
                self.go_on();
                json!({ "return": {} }).to_string()
            }
            _ => json!({ "error": { "class": "CommandNotFound", "desc": "no" } }).to_string(),
        };
        writeln!(self.qmp, "{answer}").is_ok()
    }

    fn stop(&mut self) {
        if let Some(Running(thread, stopped)) = self.cpu.take() {
            stopped.store(true, SeqCst);
            thread.join().expect("no panic of the CPU");
        }
    }

    fn go_on(&mut self) {
        let fault = match self.fault {
            Fault::Pe(fault) => fault,
            _ => PeFault::None,
        };
        let stopped = Arc::new(AtomicBool::new(false));
        let serial = self.serial.try_clone().expect("a file descriptor");
        let ram = self.ram.try_clone().expect("a file descriptor");
        let pe = PlayedPe::reset(ram, serial, fault, Arc::clone(&stopped));
        self.cpu = Some(Running(thread::spawn(|| pe.execute()), stopped));
    }
}
