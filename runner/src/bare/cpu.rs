// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The bare CPU. There is only one: a new guest takes it from the previous guest, which boots it again when
//! it runs again.

use super::{
    boot::{self, PAGE, UARTDR},
    directory::Directory,
    qmp::Qmp,
};
use crate::{
    capabilities::Capabilities,
    guest::{Config, Cpu, Death, Error, Guest, Log},
    host::{Build, Host},
    memory::GuestMemory,
    payload::Payload,
};
use dfr0_model::{
    event::Event,
    feature::Feature,
    id_write::{Answer, Writable},
    pstate,
    scenario::{Op, Scenario},
    shape::Shape,
    sysreg::{
        CONTEXTIDR_EL1, ID_AA64DFR0_EL1, ID_AA64ISAR0_EL1, MDSCR_EL1, MIDR_EL1, OSDLR_EL1, OSLSR_EL1, SysReg,
        dbgbcr, dbgbvr, dbgwcr, dbgwvr,
    },
    wire::{Bell, RAM},
};
use std::{
    cell::RefCell,
    fs::File,
    io::{ErrorKind, Read},
    num::NonZeroUsize,
    os::unix::net::UnixStream,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

/// A payload waits after each bell, so few bells are left when its CPU is stopped. More than this are not a
/// payload's.
const MOST_BELLS: usize = 1 << 12;

/// A machine with a bare CPU.
#[derive(Debug)]
pub struct Bare {
    pub(super) emulator: Rc<RefCell<Emulator>>,
    platform: String,
    /// How long the machine may take to identify itself.
    deadline: Duration,
}

#[derive(Debug)]
pub(super) struct Emulator {
    ram: File,
    len: NonZeroUsize,
    serial: UnixStream,
    pub(super) qmp: Qmp,
    /// How often the CPU was reset: it belongs to the guest that reset it last.
    resets: u64,
    /// The CPU's shape, once the payload has read it.
    shape: Option<Shape>,
}

impl Bare {
    /// Opens the machine that a directory describes. It answers each command within `deadline`.
    pub fn open(path: &Path, deadline: Duration) -> Result<Self, Error> {
        let Directory { ram, len, serial, qmp, platform } = Directory::open(path, Instant::now() + deadline)?;
        let emulator = Emulator { ram, len, serial, qmp: Qmp::new(qmp, deadline)?, resets: 0, shape: None };
        Ok(Self { emulator: Rc::new(RefCell::new(emulator)), platform, deadline })
    }

    /// The CPU's facts, as the payload reads them.
    pub fn host(&self) -> Result<Host, Error> {
        let registers = [MIDR_EL1, ID_AA64DFR0_EL1, ID_AA64ISAR0_EL1];
        let scenario = registers.into_iter().fold(Scenario::new(), Scenario::read);
        let events = Guest::on(self.cpu(self.deadline)).events(&scenario)?;
        let &[Event::Value(midr), Event::Value(id_aa64dfr0), Event::Value(id_aa64isar0)] = events.as_slice()
        else {
            return Err(Error::Unfit(format!("the bare CPU does not identify itself: {events:?}")));
        };
        self.emulator.borrow_mut().shape = Some(Shape::from_id_aa64dfr0(id_aa64dfr0));
        Ok(Host {
            kernel: None,
            build: Build::default(),
            platform: self.platform.clone(),
            midr,
            id_aa64dfr0,
            writable: Writable::Unknown,
            lse: Feature::Lse.is_in(id_aa64isar0),
            mode: None,
            capabilities: Capabilities::default(),
        })
    }

    /// The CPU in the state after a reset.
    pub fn guest(&self, config: Config, deadline: Duration) -> Result<Guest, Error> {
        match config.id_aa64dfr0 {
            Some(_) => Err(Error::NoVcpu("another ID_AA64DFR0_EL1".into())),
            None => Ok(Guest::on(self.cpu(deadline))),
        }
    }

    fn cpu(&self, deadline: Duration) -> BareCpu {
        BareCpu { emulator: Rc::clone(&self.emulator), deadline, booted: None }
    }
}

/// Whether a bare CPU can do an operation. There is no userspace; an exit is only a bell.
pub fn can(op: Op) -> bool {
    !op.is_hosts() || op == Op::Exit
}

/// The CPU as one guest sees it.
#[derive(Debug)]
struct BareCpu {
    emulator: Rc<RefCell<Emulator>>,
    deadline: Duration,
    booted: Option<Booted>,
}

#[derive(Debug)]
struct Booted {
    payload: Payload,
    /// Which reset this boot began with.
    reset: u64,
    running: bool,
}

impl Cpu for BareCpu {
    fn can(&self, op: Op) -> bool {
        can(op)
    }

    fn prepare(&mut self) -> Result<Vec<SysReg>, Error> {
        let resets = self.emulator.borrow().resets;
        if self.booted.as_ref().is_some_and(|booted| booted.reset == resets) {
            return Ok(Vec::new());
        }
        self.booted = None;
        let mut emulator = self.emulator.borrow_mut();
        self.booted = Some(emulator.boot()?);
        Ok(emulator.shape.into_iter().flat_map(unknown_at_reset).collect())
    }

    fn payload(&self) -> Result<&Payload, Error> {
        self.booted.as_ref().map(|booted| &booted.payload).ok_or_else(unbooted)
    }

    fn enter(&mut self, _: &mut Log) -> Result<Bell, Error> {
        let booted = self.booted.as_mut().ok_or_else(unbooted)?;
        if !booted.running {
            self.emulator.borrow_mut().qmp.cont()?;
            booted.running = true;
        }
        let heard = self.emulator.borrow_mut().hear(self.deadline)?;
        match heard {
            Some(number) => Bell::from_number(number.into())
                .ok_or_else(|| self.died(format!("the payload rang with {number}, which is not a bell"))),
            None => {
                let (deadline, place) = (self.deadline, self.payload()?.place()?);
                Err(self
                    .died(format!("the guest did not come back within {deadline:?} from operation {place}")))
            }
        }
    }

    fn act(&mut self, op: Op) -> Result<Option<Event>, Error> {
        if op == Op::Exit { Ok(None) } else { Err(Error::NoVcpu(op.to_string())) }
    }

    fn get(&self, reg: SysReg) -> Result<u64, Error> {
        Err(Error::NoVcpu(format!("KVM_GET_ONE_REG {reg}")))
    }

    fn set(&self, reg: SysReg, _: u64) -> Result<Answer, Error> {
        Err(Error::NoVcpu(format!("KVM_SET_ONE_REG {reg}")))
    }

    fn died(&self, reason: String) -> Error {
        let registers = self.emulator.borrow_mut().qmp.registers().unwrap_or_default();
        Error::Died(Box::new(Death { reason, registers }))
    }
}

impl Emulator {
    /// Resets the machine, and loads the payload and the code that starts it into its memory. The CPU is
    /// stopped.
    fn boot(&mut self) -> Result<Booted, Error> {
        let (mut payload, start) = Payload::load(self.reset()?, UARTDR)?;
        let last_page = RAM + payload.memory.len() as u64 - PAGE;
        let stage2 = last_page - PAGE;
        let code = boot::code(start.entry, pstate::EL1H_MASKED, start.tables_end, stage2);
        if !payload.memory.write(stage2, &boot::stage2()) || !payload.memory.write(last_page, &code) {
            return Err(Error::Unfit(
                "the bare CPU's memory has no room for the code that it starts with".into(),
            ));
        }
        Ok(Booted { payload, reset: self.resets, running: false })
    }

    /// Resets the machine, whose CPU is then stopped. Returns its memory, zeroed.
    pub(super) fn reset(&mut self) -> Result<GuestMemory, Error> {
        self.qmp.reset()?;
        self.resets += 1;
        self.drain()?;
        // The file comes from outside: an access to a page that it no longer has would end this process.
        let len = self.ram.metadata().map_err(lost_memory)?.len();
        if len < self.len.get() as u64 {
            return Err(lost_memory(std::io::Error::other(format!("it has {len:#x} bytes left"))));
        }
        // After the reset, at which QEMU writes a device tree into the memory.
        GuestMemory::of_file(&self.ram, self.len)
    }

    /// The next byte on the serial port; `None` if none comes within this time.
    pub(super) fn hear(&mut self, deadline: Duration) -> Result<Option<u8>, Error> {
        let end = Instant::now() + deadline;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.serial.set_read_timeout(Some(left)).map_err(silent)?;
            let mut byte = [0];
            match self.serial.read(&mut byte) {
                Ok(0) => return Err(silent(ErrorKind::UnexpectedEof.into())),
                Ok(_) => return Ok(Some(byte[0])),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(silent(error)),
            }
        }
    }

    /// Discards the bells of a payload that no longer runs.
    fn drain(&mut self) -> Result<(), Error> {
        self.serial.set_nonblocking(true).map_err(silent)?;
        let mut bytes = [0; 256];
        let mut left = MOST_BELLS;
        let drained = loop {
            match self.serial.read(&mut bytes) {
                Ok(0) => break Err(silent(ErrorKind::UnexpectedEof.into())),
                Ok(count) if count > left => {
                    let why = format!("more than {MOST_BELLS} bells that nothing waits for");
                    break Err(silent(std::io::Error::other(why)));
                }
                Ok(count) => left -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(silent(error)),
            }
        };
        self.serial.set_nonblocking(false).map_err(silent)?;
        drained
    }
}

/// The registers that a CPU's reset leaves UNKNOWN, or sets to another value than KVM does: the OS Lock is
/// locked.
fn unknown_at_reset(shape: Shape) -> impl Iterator<Item = SysReg> {
    let breakpoints = shape.breakpoint_numbers().flat_map(|n| [dbgbcr(n), dbgbvr(n)]);
    let watchpoints = (0..shape.watchpoints).flat_map(|n| [dbgwcr(n), dbgwvr(n)]);
    let double_lock = shape.double_lock.then_some(OSDLR_EL1);
    [MDSCR_EL1, OSLSR_EL1, CONTEXTIDR_EL1]
        .into_iter()
        .chain(double_lock)
        .chain(breakpoints)
        .chain(watchpoints)
}

fn silent(source: std::io::Error) -> Error {
    Error::System { what: "the bare CPU's serial port".into(), source }
}

fn lost_memory(source: std::io::Error) -> Error {
    Error::System { what: "the bare CPU's memory".into(), source }
}

fn unbooted() -> Error {
    Error::Unfit("the bare CPU runs before its payload is loaded".into())
}
