// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A VM with one vCPU that runs the payload.

use super::{
    deadline::Deadline,
    debug::{Debugger, Resume, far_of},
    device::Kvm,
    features, memslot, one_reg,
    others::Others,
    registers::{self, Order, Part, Registers},
    snapshot, tables,
    vcpus::Vcpus,
    writable_masks,
};
use crate::{
    cpus::Pinned,
    guest::{Config, Cpu, Error, Log, OfOther},
    memory::GuestMemory,
    other,
    payload::{Payload, Start},
    snapshot::State,
    stage1,
};
use dfr0_model::{
    event::{Event, Logged},
    guest_debug::{ENABLE, GuestDebug, SINGLESTEP},
    id_write::{Answer, Writable},
    pstate,
    scenario::{Migrate, Op, Passage},
    shape::Shape,
    sysreg::{ID_AA64DFR0_EL1, SCTLR_EL1, SysReg},
    vmm::{Features, Vmm},
    wire::{self, Bell, DOORBELL, LOG_LEN},
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use std::{collections::BTreeMap, io, time::Duration};

/// CPTR_EL2 with HCR_EL2.E2H set: FPEN and ZEN do not trap SIMD and SVE instructions.
const CPTR_EL2: SysReg = SysReg::new(3, 4, 1, 1, 2);
const CPTR_EL2_NO_TRAPS: u64 = 0x33_0000;
/// HCRX_EL2.MSCEn: EL1 and EL0 have Memory Copy and Memory Set instructions, if the CPU has them.
const HCRX_EL2: SysReg = SysReg::new(3, 4, 1, 2, 2);
const HCRX_EL2_MSCEN: u64 = 1 << 11;

/// A VM's vCPU. The payload is loaded when the first scenario runs; until then only the vCPU's registers can
/// be used.
#[derive(Debug)]
pub struct Vcpu {
    // The vCPUs and the VM are closed before the memory is unmapped: fields drop in this order.
    vcpu: VcpuFd,
    /// The vCPU of the same VM where this state was before it migrated.
    before: Option<VcpuFd>,
    vm: VmFd,
    vcpus: Vcpus,
    /// How many vCPUs the moves of the program take.
    moves: usize,
    /// The vCPUs of the scenario, by their numbers there, if it creates them.
    scenarios: Scenarios,
    config: Config,
    loaded: Option<Loaded>,
    deadline: Duration,
    debugger: Debugger,
    others: Others,
    /// Its tables are not mapped at stage 2 yet.
    untouched: bool,
    /// Pins the thread to its CPU, from the first operation for which that matters to the program's end.
    pinned: Option<Pinned>,
}

#[derive(Debug)]
struct Loaded {
    payload: Payload,
    start: Start,
    deadline: Deadline,
}

/// The vCPUs that a scenario creates.
#[derive(Debug, Default)]
struct Scenarios {
    /// How many it has created.
    created: u8,
    /// The number of the current one.
    current: u8,
    /// The others.
    aside: BTreeMap<u8, Aside>,
    /// The current one's number in KVM.
    id: u64,
    /// The payload has run on the current one.
    ran: bool,
    /// The payload waits on the current one.
    is_live: bool,
}

/// A vCPU that is not the current one.
#[derive(Debug)]
struct Aside {
    vcpu: VcpuFd,
    id: u64,
    ran: bool,
}

impl Cpu for Vcpu {
    fn can(&self, _: Op) -> bool {
        true
    }

    fn prepare(&mut self) -> Result<Vec<SysReg>, Error> {
        if self.loaded.is_none() {
            self.loaded = Some(self.load()?);
            if !self.config.without_vcpus {
                self.start_at(0)?;
            }
        }
        self.debugger.switch_off(&self.vcpu)?;
        Ok(Vec::new())
    }

    /// A VM that has run and has too few vCPUs left gives way to another, unless the scenario made it.
    fn provide(&mut self, ops: &[Op]) -> Result<(), Error> {
        let moves = ops.iter().map(|op| taken(*op)).sum();
        if self.vcpus.lack(moves) && !self.config.without_vcpus {
            *self = Self::new(&Kvm::open()?, self.config, self.deadline)?;
            self.prepare()?;
        }
        self.moves = moves;
        self.vcpus.provide(&self.vm, moves, (!self.config.without_vcpus).then_some(self.config.features))?;
        if std::mem::take(&mut self.untouched) { self.touch_tables() } else { Ok(()) }
    }

    fn payload(&self) -> Result<&Payload, Error> {
        self.loaded.as_ref().map(|loaded| &loaded.payload).ok_or_else(unloaded)
    }

    fn is_live(&self) -> bool {
        self.scenarios.is_live
    }

    /// The payload's memory stays as it is.
    fn start_at(&mut self, place: usize) -> Result<(), Error> {
        self.settle()?;
        for (reg, value) in stage1::REGISTERS {
            self.must_set(reg, value)?;
        }
        let start = self.loaded.as_ref().ok_or_else(unloaded)?.start;
        let registers = [
            ("PC", one_reg::PC, start.entry),
            ("PSTATE", one_reg::PSTATE, pstate::EL1H_MASKED),
            ("X0", one_reg::x(0), wire::TABLES),
            ("X1", one_reg::x(1), start.tables_end),
            ("X2", one_reg::x(2), stage1::SCTLR),
            ("X3", one_reg::x(3), place as u64),
        ];
        for (name, id, value) in registers {
            accepted(self.set_id(id, value), name.into(), value)?;
        }
        if self.config.features == Features::El2 {
            // As a hypervisor does that lets EL1 use what the CPU has.
            self.must_set(CPTR_EL2, CPTR_EL2_NO_TRAPS)?;
            if let Ok(hcrx) = self.get_id(one_reg::system(HCRX_EL2)) {
                self.must_set(HCRX_EL2, hcrx | HCRX_EL2_MSCEN)?;
            }
        }
        // Translation is off until the payload turns it on again.
        self.must_set(SCTLR_EL1, stage1::SCTLR_OFF)?;
        self.scenarios.is_live = true;
        Ok(())
    }

    /// The deadline does not start again at a KVM_EXIT_DEBUG, because a guest that hangs while it is stepped
    /// never stays in KVM_RUN.
    fn enter(&mut self, log: &mut Log) -> Result<Bell, Error> {
        self.deadline()?.start()?;
        self.scenarios.ran = true;
        self.vcpus.run()?;
        let bell = self.run_to_bell(log);
        if !matches!(bell, Ok(Bell::Host)) {
            self.pinned = None;
        }
        bell
    }

    fn jump(&mut self, address: u64, x0: u64) -> Result<(), Error> {
        for (name, id, value) in [("PC", one_reg::PC, address), ("X0", one_reg::x(0), x0)] {
            accepted(self.set_id(id, value), name.into(), value)?;
        }
        Ok(())
    }

    fn act(&mut self, op: Op) -> Result<Option<Event>, Error> {
        Ok(match op {
            Op::Vmm(op) => self.vmm(op)?,
            Op::KvmSet { reg, value } | Op::KvmTry { reg, value } => match self.set(reg, value)? {
                Answer::Accepted => None,
                Answer::Refused(errno) => Some(Event::Refused(errno)),
            },
            Op::KvmGet { reg } => Some(match self.get_id(one_reg::system(reg)) {
                Ok(value) => Event::Value(value),
                Err(error) => match error.raw_os_error() {
                    Some(errno) if self.config.without_vcpus => Event::Refused(errno),
                    _ => return Err(Error::System { what: format!("KVM_GET_ONE_REG {reg}"), source: error }),
                },
            }),
            Op::Other(other) => {
                self.pin()?;
                self.others.run(other, self.deadline)?;
                None
            }
            Op::Move => {
                self.pin()?.advance()?;
                None
            }
            Op::Migrate(to) => {
                self.migrate(to)?;
                None
            }
            Op::Debug(debug) => match self.debugger.set(&self.vcpu, debug) {
                Answer::Accepted => None,
                Answer::Refused(errno) => Some(Event::Refused(errno)),
            },
            _ => None,
        })
    }

    fn get(&self, reg: SysReg) -> Result<u64, Error> {
        self.get_id(one_reg::system(reg))
            .map_err(|source| Error::System { what: format!("KVM_GET_ONE_REG {reg}"), source })
    }

    fn listed(&self) -> Result<Vec<SysReg>, Error> {
        Ok(registers::listed(&self.vcpu)?.into_iter().filter_map(one_reg::system_of).collect())
    }

    fn set(&self, reg: SysReg, value: u64) -> Result<Answer, Error> {
        Ok(self.set_id(one_reg::system(reg), value))
    }

    fn take_others(&mut self) -> Vec<OfOther> {
        self.others.take()
    }

    fn save(&mut self) -> Result<State, Error> {
        self.complete_exit()?;
        let vcpus = std::iter::once(&self.vcpu).chain(&self.before);
        let vcpus = vcpus.map(|vcpu| Registers::save(vcpu, Part::Whole)?.all()).collect::<Result<_, _>>()?;
        Ok(State { vcpus, memory: snapshot::pages(&self.payload()?.memory) })
    }

    fn died(&self, reason: String) -> Error {
        one_reg::died(reason, |id| self.get_id(id).ok())
    }
}

impl Vcpu {
    pub(super) fn new(kvm: &Kvm, config: Config, deadline: Duration) -> Result<Self, Error> {
        let vm = kvm.create_vm(config.features)?;
        let mut vcpus = Vcpus::of(&vm, config.features)?;
        let (_, vcpu) = match config.without_vcpus {
            // The scenario initialises it.
            true => vcpus.create(&vm)?,
            false => vcpus.take(&vm, config.features)?,
        };
        let guest = Self {
            vcpu,
            scenarios: Scenarios::default(),
            before: None,
            vm,
            vcpus,
            moves: 0,
            untouched: false,
            config,
            loaded: None,
            deadline,
            debugger: Debugger::default(),
            others: Others::default(),
            pinned: None,
        };
        if let Some(value) = config.id_aa64dfr0 {
            guest.must_set(ID_AA64DFR0_EL1, value)?;
        }
        Ok(guest)
    }

    /// A restored vCPU with this payload, and perhaps the vCPU where its state was before.
    pub(super) fn restored(
        vm: VmFd,
        vcpus: Vcpus,
        vcpu: VcpuFd,
        before: Option<VcpuFd>,
        payload: Payload,
        deadline: Duration,
    ) -> Result<Self, Error> {
        let guest = Self {
            vcpus,
            moves: 0,
            untouched: true,
            vcpu,
            before,
            vm,
            scenarios: Scenarios { is_live: true, ..Scenarios::default() },
            config: Config::default(),
            loaded: Some(Loaded { payload, start: Start::default(), deadline: Deadline::new(deadline)? }),
            deadline,
            debugger: Debugger::default(),
            others: Others::default(),
            pinned: None,
        };
        memslot::register(&guest.payload()?.memory, &guest.vm)?;
        Ok(guest)
    }

    /// All ids that KVM_GET_REG_LIST lists, of any kind and width.
    pub(super) fn register_ids(&self) -> Result<Vec<u64>, Error> {
        registers::listed(&self.vcpu)
    }

    pub(super) fn vm(&self) -> &VmFd {
        &self.vm
    }

    /// Pins the thread to its CPU, if it is not pinned already.
    fn pin(&mut self) -> Result<&mut Pinned, Error> {
        let pinned = match self.pinned.take() {
            Some(pinned) => pinned,
            None => Pinned::here()?,
        };
        Ok(self.pinned.insert(pinned))
    }

    fn must_set(&self, reg: SysReg, value: u64) -> Result<(), Error> {
        accepted(self.set_id(one_reg::system(reg), value), reg.to_string(), value)
    }

    fn get_id(&self, id: u64) -> Result<u64, io::Error> {
        let mut bytes = [0; size_of::<u64>()];
        self.vcpu.get_one_reg(id, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn set_id(&self, id: u64, value: u64) -> Answer {
        set_id(&self.vcpu, id, value)
    }

    fn load(&self) -> Result<Loaded, Error> {
        let (payload, start) = Payload::load(GuestMemory::anonymous()?, DOORBELL)?;
        memslot::register(&payload.memory, &self.vm)?;
        Ok(Loaded { payload, start, deadline: Deadline::new(self.deadline)? })
    }

    fn deadline(&mut self) -> Result<&mut Deadline, Error> {
        self.loaded.as_mut().map(|loaded| &mut loaded.deadline).ok_or_else(unloaded)
    }

    /// Does an operation on the VM or on the current vCPU.
    fn vmm(&mut self, op: Vmm) -> Result<Option<Event>, Error> {
        match op {
            Vmm::Create => {
                // The VM already has the first.
                if self.scenarios.created > 0 {
                    let (id, vcpu) = self.vcpus.create(&self.vm)?;
                    self.scenarios.aside.insert(self.scenarios.created, Aside { vcpu, id, ran: false });
                }
                self.scenarios.created += 1;
                Ok(None)
            }
            Vmm::Use(n) if n == self.scenarios.current => Ok(None),
            Vmm::Use(n) => {
                let Scenarios { current, id, ran, ref mut aside, .. } = self.scenarios;
                let there = aside.remove(&n).ok_or_else(|| Error::Unfit(format!("there is no vCPU {n}")))?;
                let vcpu = std::mem::replace(&mut self.vcpu, there.vcpu);
                aside.insert(current, Aside { vcpu, id, ran });
                let scenarios = &mut self.scenarios;
                (scenarios.current, scenarios.id, scenarios.ran) = (n, there.id, there.ran);
                scenarios.is_live = false;
                Ok(None)
            }
            Vmm::Init(features) => {
                self.settle()?;
                self.scenarios.is_live = false;
                features::init(&self.vm, &self.vcpu, features::bits(features))?;
                self.vcpus.pend_interrupt(&self.vm, self.scenarios.id).map(|()| None)
            }
            Vmm::Complete(features) => features::complete(&self.vcpu, features).map(|()| None),
            Vmm::Run => {
                self.vcpus.run()?;
                self.vcpu.set_kvm_immediate_exit(1);
                let answer = self.vcpu.run().err();
                self.vcpu.set_kvm_immediate_exit(0);
                Ok(answer.map(|error| Event::Refused(error.errno())))
            }
            Vmm::Masks(request) => Ok(writable_masks::read(&self.vm, request).err().map(Event::Refused)),
            Vmm::Mask(reg) => Ok(match writable_masks::of(&self.vm, reg) {
                Writable::Mask(mask) => Some(Event::Value(mask)),
                Writable::Unknown => None,
            }),
            Vmm::Lists(reg) => Ok(Some(Event::Value(self.listed()?.contains(&reg).into()))),
            Vmm::SetState(state, value) => {
                self.settle()?;
                self.scenarios.is_live = false;
                Ok(match self.set_id(one_reg::state(state), value) {
                    Answer::Accepted => None,
                    Answer::Refused(errno) => Some(Event::Refused(errno)),
                })
            }
            Vmm::GetState(state) => Ok(Some(match self.get_id(one_reg::state(state)) {
                Ok(value) => Event::Value(value),
                Err(error) => Event::Refused(error.raw_os_error().unwrap_or_default()),
            })),
            Vmm::RunField(field) => {
                let flags = self.vcpu.get_kvm_run().flags;
                Ok(self.debugger.run_field(field, flags).map(Event::Value))
            }
            Vmm::MaskRanges => Ok(Some(Event::Value(writable_masks::ranges(&self.vm)))),
        }
    }

    /// The store that rang the last bell completes, if there was one.
    fn settle(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.scenarios.ran) { self.complete_exit() } else { Ok(()) }
    }

    /// Does what userspace does after a store in the middle of code.
    fn pass(&mut self, passage: Passage) -> Result<(), Error> {
        const STEPS: GuestDebug = GuestDebug::new(ENABLE | SINGLESTEP);
        if let Passage::Migrate(to) = passage {
            return self.migrate(to);
        }
        self.complete_exit()?;
        match passage {
            Passage::Migrate(_) | Passage::Complete => Ok(()),
            Passage::DebugOff => self.debugger.must_set(&self.vcpu, GuestDebug::OFF),
            Passage::DebugOn => self.debugger.must_set(&self.vcpu, GuestDebug::new(ENABLE)),
            Passage::Steps => self.debugger.must_set(&self.vcpu, STEPS),
            Passage::StepsNothing => {
                self.debugger.must_set(&self.vcpu, STEPS)?;
                self.complete_exit()?;
                self.debugger.switch_off(&self.vcpu)
            }
            Passage::StepsOne => {
                self.debugger.must_set(&self.vcpu, STEPS)?;
                self.debugger.step_once();
                Ok(())
            }
        }
    }

    /// Moves the vCPU's state elsewhere.
    fn migrate(&mut self, to: Migrate) -> Result<(), Error> {
        match self.config.without_vcpus {
            true => self.settle()?,
            false => self.complete_exit()?,
        }
        let shape = Shape::from_id_aa64dfr0(self.get(ID_AA64DFR0_EL1)?);
        let order = if to == Migrate::Reversed { Order::Reversed } else { Order::Listed };
        let Shape { breakpoints, watchpoints, .. } = shape;
        let part = match to {
            Migrate::FreshVm => Part::Whole,
            _ if self.config.features == Features::El2 => Part::Whole,
            _ => Part::Observed { breakpoints, watchpoints },
        };
        let there = match to {
            Migrate::FreshVm => self.vm_beside()?,
            Migrate::Back => match self.before.take() {
                Some(before) => before,
                None => self.vcpu_beside()?,
            },
            _ => self.vcpu_beside()?,
        };
        if to == Migrate::Used {
            for (reg, value) in other::registers(shape) {
                accepted(set_id(&there, one_reg::system(reg), value), reg.to_string(), value)?;
            }
        }
        Registers::save(&self.vcpu, part)?.restore(&there, order)?;
        if to == Migrate::FreshVm {
            self.touch_tables()?;
        }
        self.debugger.set_again(&there)?;
        let here = std::mem::replace(&mut self.vcpu, there);
        self.before = (to != Migrate::FreshVm).then_some(here);
        if to == Migrate::Twice { self.migrate(Migrate::Fresh) } else { Ok(()) }
    }

    /// Must come after the restore: after a vCPU has run, the VM's ID registers cannot change.
    fn touch_tables(&mut self) -> Result<(), Error> {
        let (_, vcpu) = self.vcpus.take(&self.vm, self.config.features)?;
        self.vcpus.run()?;
        tables::touch(vcpu, &self.payload()?.memory)
    }

    /// A new vCPU of the VM, which has not run.
    fn vcpu_beside(&mut self) -> Result<VcpuFd, Error> {
        let (id, vcpu) = self.vcpus.take(&self.vm, self.config.features)?;
        self.scenarios.id = id;
        Ok(vcpu)
    }

    /// The vCPU of a new VM with the guest's memory, which has not run. The guest then belongs to the new VM.
    fn vm_beside(&mut self) -> Result<VcpuFd, Error> {
        let kvm = Kvm::open()?;
        let vm = kvm.create_vm(self.config.features)?;
        let mut vcpus = Vcpus::of(&vm, self.config.features)?;
        let (_, vcpu) = vcpus.take(&vm, self.config.features)?;
        // One touches the tables.
        vcpus.provide(&vm, self.moves + 1, Some(self.config.features))?;
        if let Some(value) = self.config.migrates_into {
            let reg = ID_AA64DFR0_EL1;
            accepted(set_id(&vcpu, one_reg::system(reg), value), reg.to_string(), value)?;
        }
        memslot::register(&self.payload()?.memory, &vm)?;
        // The scenario's other vCPUs belong to the old VM.
        self.scenarios.aside.clear();
        (self.scenarios.created, self.scenarios.current, self.scenarios.id) = (1, 0, 0);
        (self.vm, self.vcpus) = (vm, vcpus);
        Ok(vcpu)
    }

    /// Makes KVM complete the exit: until the vCPU is entered again, PC is at the store to the doorbell (KVM
    /// API, 5 The kvm_run structure, immediate_exit).
    fn complete_exit(&mut self) -> Result<(), Error> {
        self.vcpu.set_kvm_immediate_exit(1);
        let ran = self.vcpu.run().map(|exit| format!("{exit:?}"));
        self.vcpu.set_kvm_immediate_exit(0);
        match ran {
            Err(error) if error.errno() == nix::libc::EINTR => Ok(()),
            Ok(exit) => Err(self.died(format!("KVM_RUN with immediate_exit ended with {exit}"))),
            Err(error) => Err(self.died(format!("KVM_RUN with immediate_exit failed: {error}"))),
        }
    }

    /// Logs KVM_EXIT_DEBUG, after what the guest has logged so far, and does what userspace does at it.
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
        log.take_guests(self.payload()?)?;
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

    fn run_to_bell(&mut self, log: &mut Log) -> Result<Bell, Error> {
        let reason = loop {
            match self.vcpu.run() {
                Ok(VcpuExit::MmioWrite(DOORBELL, &[number, 0, 0, 0])) => {
                    match Bell::from_number(number.into()) {
                        Some(bell) => return Ok(bell),
                        None => break format!("the payload rang with {number}, which means nothing"),
                    }
                }
                Ok(VcpuExit::MmioWrite(address, _)) if wire::passage_at(address).is_some() => {
                    wire::passage_at(address).map_or(Ok(()), |passage| self.pass(passage))?;
                }
                Ok(VcpuExit::Debug(debug)) => {
                    let (hsr, far) = (debug.hsr, far_of(debug.hsr, debug.far));
                    self.debugger.saw(self.vcpu.get_kvm_run().flags, debug.hsr_high);
                    self.debug_exit(hsr, far, log)?;
                }
                Ok(exit) => break format!("KVM_RUN ended with {exit:?}"),
                Err(error) if error.errno() == nix::libc::EINTR => {
                    let deadline = self.deadline()?;
                    if deadline.is_over()? {
                        break format!("the guest did not come back within {:?}", deadline.length());
                    }
                }
                Err(error) => break format!("KVM_RUN failed: {error}"),
            }
        };
        Err(self.died(reason))
    }
}

/// How many vCPUs an operation takes that have not run.
fn taken(op: Op) -> usize {
    match op {
        Op::Migrate(to) => Some(to),
        Op::Access { address, .. } => match wire::passage_at(address) {
            Some(Passage::Migrate(to)) => Some(to),
            _ => None,
        },
        _ => None,
    }
    .map_or(0, |to| if to == Migrate::Twice { 2 } else { 1 })
}

fn set_id(vcpu: &VcpuFd, id: u64, value: u64) -> Answer {
    match vcpu.set_one_reg(id, &value.to_le_bytes()) {
        Ok(_) => Answer::Accepted,
        Err(error) => Answer::Refused(error.errno()),
    }
}

fn unloaded() -> Error {
    Error::Unfit("the guest runs before its payload is loaded".into())
}

fn accepted(answer: Answer, register: String, value: u64) -> Result<(), Error> {
    match answer {
        Answer::Accepted => Ok(()),
        Answer::Refused(errno) => Err(Error::Refused { register, value, errno }),
    }
}
