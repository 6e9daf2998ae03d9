// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A VM with one vCPU that runs the payload.

use super::{
    deadline::Deadline,
    debug::{Debugger, Resume, far_of},
    device::Kvm,
    image::Image,
    memory::GuestMemory,
    one_reg,
    others::Others,
    stage1,
};
use crate::{
    cpus::Pinned,
    guest::{Config, Death, Error},
};
use dfr0_model::{
    event::{Event, Logged},
    id_write::Answer,
    scenario::{Op, Other, Scenario},
    sysreg::{ID_AA64DFR0_EL1, OSLAR_EL1, OSLSR_EL1, SysReg},
    wire::{self, Bell, DOORBELL, LOG_LEN, OP_WORDS, PROGRAM_LEN, code},
};
use kvm_bindings::kvm_vcpu_init;
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use std::{collections::BTreeSet, io, sync::atomic::Ordering::Relaxed, time::Duration};

/// EL1h with D, A, I and F set.
const PSTATE_EL1H_MASKED: u64 = 0x3c5;

/// A VM. The payload is loaded when the first scenario runs, until then only its registers can be used.
#[derive(Debug)]
pub struct Guest {
    // The vCPU and the VM are closed before the memory is unmapped: fields drop in this order.
    vcpu: VcpuFd,
    vm: VmFd,
    payload: Option<Payload>,
    deadline: Duration,
    /// Registers that earlier scenarios wrote.
    touched: BTreeSet<SysReg>,
    debugger: Debugger,
    others: Others,
    /// The CPU of a scenario to which it matters.
    pinned: Option<Pinned>,
}

/// The events of one program, the runner's and the guest's.
#[derive(Default)]
struct Log {
    events: Vec<Logged>,
    /// How many of the guest's are in it.
    from_guest: usize,
}

#[derive(Debug)]
struct Payload {
    memory: GuestMemory,
    image: Image,
    deadline: Deadline,
}

impl Guest {
    pub(super) fn new(kvm: &Kvm, config: Config, deadline: Duration) -> Result<Self, Error> {
        let vm = kvm.create_vm()?;
        let system = |what: &str| {
            let what = what.to_owned();
            move |error: kvm_ioctls::Error| Error::System { what, source: error.into() }
        };
        let vcpu = vm.create_vcpu(0).map_err(system("KVM_CREATE_VCPU"))?;
        let mut target = kvm_vcpu_init::default();
        vm.get_preferred_target(&mut target).map_err(system("KVM_ARM_PREFERRED_TARGET"))?;
        vcpu.vcpu_init(&target).map_err(system("KVM_ARM_VCPU_INIT"))?;
        let (touched, debugger) = (BTreeSet::new(), Debugger::default());
        let (others, pinned) = (Others::default(), None);
        let guest = Self { vcpu, vm, payload: None, deadline, touched, debugger, others, pinned };
        if let Some(value) = config.id_aa64dfr0 {
            guest.must_set(ID_AA64DFR0_EL1, value)?;
        }
        Ok(guest)
    }

    pub(super) fn vm(&self) -> &VmFd {
        &self.vm
    }

    /// KVM_GET_ONE_REG of a system register.
    pub fn get(&self, reg: SysReg) -> Result<u64, Error> {
        self.get_id(one_reg::system(reg))
            .map_err(|source| Error::System { what: format!("KVM_GET_ONE_REG {reg}"), source })
    }

    /// KVM_SET_ONE_REG of a system register.
    pub fn set(&self, reg: SysReg, value: u64) -> Answer {
        self.set_id(one_reg::system(reg), value)
    }

    fn must_set(&self, reg: SysReg, value: u64) -> Result<(), Error> {
        accepted(self.set(reg, value), reg.to_string(), value)
    }

    fn get_id(&self, id: u64) -> Result<u64, io::Error> {
        let mut bytes = [0; size_of::<u64>()];
        self.vcpu.get_one_reg(id, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn set_id(&self, id: u64, value: u64) -> Answer {
        match self.vcpu.set_one_reg(id, &value.to_le_bytes()) {
            Ok(_) => Answer::Accepted,
            Err(error) => Answer::Refused(error.errno()),
        }
    }

    /// Runs a scenario from the state that a vCPU resets to; returns the operations as they were run, with those
    /// that undo earlier scenarios before them, and the events.
    pub fn run(&mut self, scenario: &Scenario) -> Result<(Vec<Op>, Vec<Logged>), Error> {
        let mut ops: Vec<Op> = self.touched.iter().map(|reg| undo(*reg)).collect();
        if !ops.is_empty() {
            ops.push(Op::Isb);
        }
        ops.extend(scenario.ops());
        for op in scenario.ops() {
            if let Op::Write { reg, .. } | Op::KvmSet { reg, .. } = *op {
                self.touched.insert(reg);
            }
        }
        if self.payload.is_none() {
            self.payload = Some(self.boot()?);
        }
        self.debugger.switch_off(&self.vcpu)?;
        self.pinned = match ops.iter().any(|op| matches!(op, Op::Other(_) | Op::Move)) {
            true => Some(Pinned::here()?),
            false => None,
        };
        let log = self.run_program(&ops);
        self.pinned = None;
        Ok((ops, log?))
    }

    /// What other vCPUs did, in [`Op::Other`], since it was last asked.
    pub fn take_others(&mut self) -> Vec<(Other, Vec<Op>, Vec<Logged>)> {
        self.others.take()
    }

    fn boot(&self) -> Result<Payload, Error> {
        let mut memory = GuestMemory::new()?;
        let image = Image::load(&mut memory)?;
        let tables_end = stage1::write(&image, &mut memory)?;
        memory.register(&self.vm)?;
        for (reg, value) in stage1::REGISTERS {
            self.must_set(reg, value)?;
        }
        let start = [
            ("PC", one_reg::PC, image.entry),
            ("PSTATE", one_reg::PSTATE, PSTATE_EL1H_MASKED),
            ("X0", one_reg::x(0), wire::TABLES),
            ("X1", one_reg::x(1), tables_end),
            ("X2", one_reg::x(2), stage1::SCTLR),
        ];
        for (name, id, value) in start {
            accepted(self.set_id(id, value), name.into(), value)?;
        }
        Ok(Payload { memory, image, deadline: Deadline::new(self.deadline)? })
    }

    fn run_program(&mut self, ops: &[Op]) -> Result<Vec<Logged>, Error> {
        self.payload()?.write_program(ops)?;
        let mut log = Log::default();
        let hosts: Vec<usize> = (0..ops.len()).filter(|place| ops[*place].is_hosts()).collect();
        let mut hosts = hosts.into_iter();
        loop {
            let bell = self.enter(&mut log)?;
            match (bell, hosts.next()) {
                (Bell::Host, Some(place)) => {
                    if let Some(event) = self.act(ops[place])? {
                        log.events.push(Logged { op: place, event });
                    }
                }
                (Bell::End, None) => break,
                (Bell::Lost, _) => {
                    let last = self.payload()?.read_log()?.pop();
                    let what = last.map_or("a panic".into(), |logged| {
                        format!("operation {}: {}", logged.op, logged.event)
                    });
                    return Err(self.died(format!("the guest is lost after {what}")));
                }
                (bell, _) => return Err(self.died(format!("the payload rang {bell:?} out of turn"))),
            }
        }
        self.take_guests_events(&mut log)?;
        Ok(log.events)
    }

    /// Adds what the payload has logged since the last time.
    fn take_guests_events(&mut self, log: &mut Log) -> Result<(), Error> {
        let events = self.payload()?.read_log()?;
        log.events.extend(events.iter().skip(log.from_guest));
        log.from_guest = events.len();
        Ok(())
    }

    /// Logs KVM_EXIT_DEBUG, behind what the guest has logged so far, and does what userspace does at it.
    fn debug_exit(&mut self, hsr: u32, far: u64, log: &mut Log) -> Result<(), Error> {
        let pc = self
            .get_id(one_reg::PC)
            .map_err(|source| Error::System { what: "KVM_GET_ONE_REG PC".into(), source })?;
        if self.debugger.is_passing(hsr, pc) {
            return Ok(());
        }
        if log.events.len() >= LOG_LEN {
            return Err(self.died(format!("KVM_RUN ended with KVM_EXIT_DEBUG more than {LOG_LEN} times")));
        }
        self.take_guests_events(log)?;
        let op = self.payload()?.place()?;
        log.events.push(Logged { op, event: Event::DebugExit { hsr: hsr.into(), pc, far } });
        match self.debugger.resume(&self.vcpu, hsr, pc)? {
            Resume::Here => Ok(()),
            Resume::At(pc) => accepted(self.set_id(one_reg::PC, pc), "PC".into(), pc),
            Resume::Never => {
                Err(self.died(format!("KVM_EXIT_DEBUG with HSR {hsr:#x} outside of the markers, at {pc:#x}")))
            }
        }
    }

    fn act(&mut self, op: Op) -> Result<Option<Event>, Error> {
        Ok(match op {
            Op::KvmSet { reg, value } => match self.set(reg, value) {
                Answer::Accepted => None,
                Answer::Refused(errno) => Some(Event::Refused(errno)),
            },
            Op::KvmGet { reg } => Some(Event::Value(self.get(reg)?)),
            Op::Other(other) => {
                self.others.run(other, self.deadline)?;
                None
            }
            Op::Move => {
                if let Some(pinned) = &mut self.pinned {
                    pinned.advance()?;
                }
                None
            }
            Op::Debug(debug) => match self.debugger.set(&self.vcpu, debug) {
                Answer::Accepted => None,
                Answer::Refused(errno) => Some(Event::Refused(errno)),
            },
            _ => None,
        })
    }

    /// KVM_RUN until the payload rings; the time for it does not start anew at a KVM_EXIT_DEBUG, for a guest that
    /// hangs while it is stepped never stays in KVM_RUN.
    fn enter(&mut self, log: &mut Log) -> Result<Bell, Error> {
        self.payload()?.deadline.start()?;
        let bell = self.run_to_bell(log);
        self.payload()?.deadline.stop()?;
        bell
    }

    fn run_to_bell(&mut self, log: &mut Log) -> Result<Bell, Error> {
        let reason = loop {
            match self.vcpu.run() {
                Ok(VcpuExit::MmioWrite(DOORBELL, &[number, 0, 0, 0])) => {
                    match Bell::from_number(number.into()) {
                        Some(bell) => return Ok(bell),
                        None => break format!("the payload rang with {number}, which means nothing"),
                    }
                }
                Ok(VcpuExit::Debug(debug)) => {
                    let (hsr, far) = (debug.hsr, far_of(debug.hsr, debug.far));
                    self.debug_exit(hsr, far, log)?;
                }
                Ok(exit) => break format!("KVM_RUN ended with {exit:?}"),
                Err(error) if error.errno() == nix::libc::EINTR => {
                    let deadline = &self.payload()?.deadline;
                    if deadline.is_over() {
                        break format!("the guest did not come back within {:?}", deadline.length());
                    }
                }
                Err(error) => break format!("KVM_RUN failed: {error}"),
            }
        };
        Err(self.died(reason))
    }

    fn payload(&mut self) -> Result<&mut Payload, Error> {
        self.payload
            .as_mut()
            .ok_or_else(|| Error::Unfit("the guest runs before its payload is loaded".into()))
    }

    fn died(&self, reason: String) -> Error {
        let general = (0..=30).map(|n| (format!("X{n}"), one_reg::x(n)));
        let names = one_reg::STATE.map(|(name, id)| (name.to_owned(), id)).into_iter().chain(general);
        let registers = names.filter_map(|(name, id)| Some((name, self.get_id(id).ok()?))).collect();
        Error::Died(Box::new(Death { reason, registers }))
    }
}

impl Payload {
    fn write_program(&self, ops: &[Op]) -> Result<(), Error> {
        if ops.len() >= PROGRAM_LEN {
            return Err(Error::Unfit(format!(
                "a program of {} operations; {PROGRAM_LEN} are too many",
                ops.len()
            )));
        }
        let end = [code::END, 0, 0];
        let records = ops.iter().map(|op| {
            wire::encode(*op).ok_or_else(|| Error::Unfit(format!("the payload has no way to do `{op}`")))
        });
        for (place, record) in records.chain([Ok(end)]).enumerate() {
            for (word, value) in record?.into_iter().enumerate() {
                let address = self.image.program + 8 * (place * OP_WORDS + word) as u64;
                self.word(address)?.store(value, Relaxed);
            }
        }
        Ok(())
    }

    fn read_log(&self) -> Result<Vec<Logged>, Error> {
        let outside = || Error::Unfit("the payload's log lies outside of its memory".into());
        let logged = self.word(self.image.logged)?.load(Relaxed) as usize;
        let records = self.memory.records(self.image.log, logged.min(wire::LOG_LEN)).ok_or_else(outside)?;
        records
            .into_iter()
            .map(|record| {
                wire::decode_event(record)
                    .ok_or_else(|| Error::Unfit(format!("the payload logged {record:x?}, which is no event")))
            })
            .collect()
    }

    /// The operation that the payload does.
    fn place(&self) -> Result<usize, Error> {
        Ok(self.word(self.image.place)?.load(Relaxed) as usize)
    }

    fn word(&self, address: u64) -> Result<&std::sync::atomic::AtomicU64, Error> {
        self.memory.word(address).ok_or_else(|| {
            Error::Unfit(format!("the payload's data at {address:#x} lies outside of its memory"))
        })
    }
}

/// Sets a register to what a vCPU resets to; the OS Lock is unlocked through OSLAR_EL1.
fn undo(reg: SysReg) -> Op {
    let reg = if reg == OSLSR_EL1 { OSLAR_EL1 } else { reg };
    Op::Write { reg, value: 0 }
}

fn accepted(answer: Answer, register: String, value: u64) -> Result<(), Error> {
    match answer {
        Answer::Accepted => Ok(()),
        Answer::Refused(errno) => Err(Error::Refused { register, value, errno }),
    }
}
