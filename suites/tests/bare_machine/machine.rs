// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A machine as docs/bare.md has it, played: no CPU, but the model's PE, which does what the payload would do with the
//! program in the machine's memory.

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

/// How large the machine's memory is.
const RAM_SIZE: u64 = 4 << 20;

const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": []}}"#;

/// What is wrong with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It says this instead of doing this command; the greeting counts as one.
    Says(&'static str, &'static str),
    /// It closes its connections instead.
    Closes(&'static str),
    /// Its PE or its doorbell is.
    Pe(PeFault),
}

/// The machine; its directory is gone when it is dropped.
pub struct Machine(TempDir);

impl Machine {
    /// A machine of this platform, which waits for whoever connects.
    pub fn start(platform: &str, fault: Fault) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let ram = OpenOptions::new().read(true).write(true).create_new(true).open(at("ram")).expect("a file");
        ram.set_len(RAM_SIZE).expect("space");
        fs::write(at("platform"), format!("{platform}\n")).expect("a file");
        let [serial, qmp] = ["serial", "qmp"].map(|name| UnixListener::bind(at(name)).expect("a socket"));
        // It ends with the test.
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

/// The CPU's thread, and the word to stop it.
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
    /// Answers until the other side goes, or the machine's fault ends it.
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

    /// Does a command; false if the connection is over.
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
            // A machine need not keep anything over a reset, and the CPU begins anew when it goes on.
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
            thread.join().expect("no panic of the CPU's");
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
