// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A guest whose payload runs scenarios, on a vCPU or on a bare CPU: its configuration, and how it runs a program.

use crate::{
    image::Words,
    payload::Payload,
    program::{Left, Program},
    snapshot::State,
};
use dfr0_model::{
    event::{Event, Logged},
    id_write::Answer,
    scenario::{Op, Other, Scenario},
    sysreg::SysReg,
    vmm::Features,
    wire::Bell,
};
use std::{fmt, time::Duration};

pub use crate::error::{Death, Error};

/// How long a guest may run before it counts as hung. A program needs milliseconds; this leaves room for a
/// loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// After a guest has died on this host, others may run for a tenth of their time, but for at least this long:
/// a run still ends if every guest hangs.
pub const LEAST_AFTER_DEATH: Duration = Duration::from_secs(2);

/// The configuration of a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// ID_AA64DFR0_EL1, written before the first run; `None` keeps KVM's value.
    pub id_aa64dfr0: Option<u64>,
    /// ID_AA64DFR0_EL1 of a VM to which the vCPU migrates, before its own is written there.
    pub migrates_into: Option<u64>,
    /// The features that userspace requests.
    pub features: Features,
    /// The scenario creates and initialises the vCPUs.
    pub without_vcpus: bool,
}

/// What the payload executes on, and what userspace can do with it while the payload waits.
pub(crate) trait Cpu: fmt::Debug {
    /// Whether userspace can do this operation, which is one of userspace's.
    fn can(&self, op: Op) -> bool;
    /// Makes the payload ready to run a program. Returns the registers that may not hold their reset values.
    fn prepare(&mut self) -> Result<Vec<SysReg>, Error>;
    /// Makes what these operations will need and what cannot be made after the guest has run.
    fn provide(&mut self, _ops: &[Op]) -> Result<(), Error> {
        Ok(())
    }
    /// The payload, after [`Self::prepare`].
    fn payload(&self) -> Result<&Payload, Error>;
    /// The payload waits on the current vCPU, or will start there with the program's first operation.
    fn is_live(&self) -> bool {
        true
    }
    /// Makes the payload start with the operation at this place when it is entered next.
    fn start_at(&mut self, _place: usize) -> Result<(), Error> {
        Ok(())
    }
    /// Lets the payload execute until it rings. Logs what userspace sees meanwhile, after the guest's events.
    fn enter(&mut self, log: &mut Log) -> Result<Bell, Error>;
    /// Makes the CPU continue at this address, with this X0.
    fn jump(&mut self, _address: u64, _x0: u64) -> Result<(), Error> {
        Err(Error::NoVcpu("KVM_SET_ONE_REG PC".into()))
    }
    /// Does an operation of userspace.
    fn act(&mut self, op: Op) -> Result<Option<Event>, Error>;
    /// KVM_GET_ONE_REG of a system register.
    fn get(&self, reg: SysReg) -> Result<u64, Error>;
    /// KVM_SET_ONE_REG of a system register.
    fn set(&self, reg: SysReg, value: u64) -> Result<Answer, Error>;
    /// The system registers that KVM_GET_REG_LIST lists.
    fn listed(&self) -> Result<Vec<SysReg>, Error> {
        Err(Error::NoVcpu("KVM_GET_REG_LIST".into()))
    }
    /// What other vCPUs did in [`Op::Other`] since the last call.
    fn take_others(&mut self) -> Vec<OfOther> {
        Vec::new()
    }
    /// The registers and the memory, between two operations.
    fn save(&mut self) -> Result<State, Error> {
        Err(Error::NoVcpu("a snapshot".into()))
    }
    /// The error of a guest that cannot be used any more.
    fn died(&self, reason: String) -> Error;
}

/// What another vCPU did: its program, and the events.
#[derive(Debug)]
pub(crate) struct OfOther {
    pub other: Other,
    pub program: Program,
    pub log: Vec<Logged>,
}

/// The events of one program, userspace's and the guest's.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// In the order in which they happened.
    pub events: Vec<Logged>,
    /// The number of the guest's events in it.
    from_guest: usize,
}

impl Log {
    /// The log of a guest whose events so far are known.
    fn after(events: Vec<Logged>, payload: &Payload) -> Result<Self, Error> {
        Ok(Self { events, from_guest: payload.read_log()?.len() })
    }

    /// Adds what the payload has logged since the last time.
    pub fn take_guests(&mut self, payload: &Payload) -> Result<(), Error> {
        let events = payload.read_log()?;
        self.events.extend(events.iter().skip(self.from_guest));
        self.from_guest = events.len();
        Ok(())
    }
}

/// A CPU with a payload that runs one scenario after the other.
#[derive(Debug)]
pub struct Guest {
    cpu: Box<dyn Cpu>,
    /// The state that the last program left.
    left: Left,
}

impl Guest {
    pub(crate) fn on(cpu: impl Cpu + 'static) -> Self {
        Self { cpu: Box::new(cpu), left: Left::default() }
    }

    /// KVM_GET_ONE_REG of a system register.
    pub fn get(&self, reg: SysReg) -> Result<u64, Error> {
        self.cpu.get(reg)
    }

    /// The 64-bit system registers that KVM_GET_REG_LIST lists.
    pub fn listed(&self) -> Result<Vec<SysReg>, Error> {
        self.cpu.listed()
    }

    /// KVM_SET_ONE_REG of a system register; a refusal is an answer, not an error.
    pub fn set(&self, reg: SysReg, value: u64) -> Result<Answer, Error> {
        self.cpu.set(reg, value)
    }

    /// Takes this many Breakpoint exceptions in a loop that does nothing else. The guest cannot be used afterwards.
    pub(crate) fn take_exceptions(&mut self, count: u64) -> Result<(), Error> {
        self.events(&Scenario::new().isb())?;
        let tight = crate::image::tight_loop()?;
        self.cpu.jump(tight, count)?;
        match self.cpu.enter(&mut Log::default())? {
            Bell::End => Ok(()),
            bell => Err(self.cpu.died(format!("the loop rang {bell:?}"))),
        }
    }

    /// A program without scenarios, to be run next.
    pub fn program(&mut self) -> Result<Program, Error> {
        let unknown = self.cpu.prepare()?;
        if !unknown.is_empty() {
            self.left = Left::unknown(unknown);
        }
        Ok(Program::after(self.left.clone()))
    }

    /// Runs one scenario without judging it; returns its events.
    pub fn events(&mut self, scenario: &Scenario) -> Result<Vec<Event>, Error> {
        let mut program = self.program()?;
        program.add(scenario);
        Ok(self.run(&program)?.into_iter().map(|logged| logged.event).collect())
    }

    /// Runs a program that [`Self::program`] has started; returns the events.
    pub fn run(&mut self, program: &Program) -> Result<Vec<Logged>, Error> {
        if let Some(op) = program.ops().iter().find(|op| op.is_hosts() && !self.cpu.can(**op)) {
            return Err(Error::NoVcpu(op.to_string()));
        }
        let log = self.run_program(program.ops())?;
        self.left = program.left().clone();
        Ok(log)
    }

    /// Runs operations as one program; returns the events.
    pub(crate) fn run_ops(&mut self, ops: &[Op]) -> Result<Vec<Logged>, Error> {
        if let Some(op) = ops.iter().find(|op| op.is_hosts() && !self.cpu.can(**op)) {
            return Err(Error::NoVcpu(op.to_string()));
        }
        self.cpu.prepare()?;
        self.run_program(ops)
    }

    /// What other vCPUs did beside this one since the last call.
    pub(crate) fn take_others(&mut self) -> Vec<OfOther> {
        self.cpu.take_others()
    }

    /// Runs a program up to userspace's operation at `place`, and saves the guest instead of doing the
    /// operation. Returns the events so far, and the addresses of the payload's words.
    pub(crate) fn run_and_save(
        &mut self,
        ops: &[Op],
        place: usize,
    ) -> Result<(Vec<Logged>, Words, State), Error> {
        self.cpu.prepare()?;
        self.cpu.provide(&ops[..place.min(ops.len())])?;
        self.cpu.payload()?.write_program(ops)?;
        let mut log = Log::default();
        self.proceed(ops, 0, Some(place), &mut log)?;
        let events = self.end(log)?;
        let words = self.cpu.payload()?.words;
        Ok((events, words, self.cpu.save()?))
    }

    /// Runs the rest of a program that was saved when `done` operations were done; returns all events.
    pub(crate) fn run_rest(
        &mut self,
        ops: &[Op],
        done: usize,
        seen: Vec<Logged>,
    ) -> Result<Vec<Logged>, Error> {
        self.cpu.provide(&ops[done.min(ops.len())..])?;
        let mut log = Log::after(seen, self.cpu.payload()?)?;
        self.proceed(ops, done, None, &mut log)?;
        self.end(log)
    }

    fn run_program(&mut self, ops: &[Op]) -> Result<Vec<Logged>, Error> {
        self.cpu.provide(ops)?;
        self.cpu.payload()?.write_program(ops)?;
        let mut log = Log::default();
        self.proceed(ops, 0, None, &mut log)?;
        self.end(log)
    }

    /// Lets the payload continue a program of which `done` operations are done, to its end or to userspace's
    /// operation at `until`.
    fn proceed(&mut self, ops: &[Op], done: usize, until: Option<usize>, log: &mut Log) -> Result<(), Error> {
        // The first operation that is not done, as far as the payload does not do it by itself.
        let mut next = done;
        let next_of_hosts = |next: usize| (next..ops.len()).find(|place| ops[*place].is_hosts());
        let follows = |next: usize| next > 0 && ops[next].follows(ops[next - 1]);
        // An exit needs a guest that runs.
        let needs_no_guest = |next: usize| ops[next].is_hosts() && ops[next] != Op::Exit;
        loop {
            while next < ops.len() && (follows(next) || !self.cpu.is_live() && needs_no_guest(next)) {
                if Some(next) == until {
                    return Ok(());
                }
                self.act(ops, next, log)?;
                next += 1;
            }
            if !self.cpu.is_live() {
                if next == ops.len() {
                    return Ok(());
                }
                self.cpu.start_at(next)?;
            }
            self.cpu.payload()?.turn()?;
            let bell = self.cpu.enter(log)?;
            match (bell, next_of_hosts(next)) {
                (Bell::Host, place @ Some(_)) if place == until => return Ok(()),
                (Bell::Host, Some(place)) => {
                    self.act(ops, place, log)?;
                    next = place + 1;
                }
                (Bell::End, None) => return Ok(()),
                (Bell::Lost, _) => {
                    let last = self.cpu.payload()?.read_log()?.pop();
                    let what = last.map_or("a panic".into(), |logged| {
                        format!("operation {}: {}", logged.op, logged.event)
                    });
                    return Err(self.cpu.died(format!("the guest is lost after {what}")));
                }
                (bell, _) => return Err(self.cpu.died(format!("the payload rang {bell:?} out of turn"))),
            }
        }
    }

    /// Does an operation of userspace.
    fn act(&mut self, ops: &[Op], place: usize, log: &mut Log) -> Result<(), Error> {
        if let Some(event) = self.cpu.act(ops[place])? {
            log.events.push(Logged { op: place, event });
        }
        Ok(())
    }

    /// The events, in the order of the operations.
    fn end(&self, mut log: Log) -> Result<Vec<Logged>, Error> {
        log.take_guests(self.cpu.payload()?)?;
        // Userspace's events are logged before the guest's are read; within an operation the order is right.
        log.events.sort_by_key(|logged| logged.op);
        Ok(log.events)
    }
}
