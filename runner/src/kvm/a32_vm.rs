// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A VM whose guest is in AArch32: it does not run the payload, but the operations of a scenario in AArch32 as code.
//! All of it is written before the first entry: userspace cannot change code that a guest without caches has already
//! fetched.

use super::{deadline::Deadline, device::Kvm, features, memslot, one_reg};
use crate::{
    a32,
    guest::{Death, Error},
    memory::GuestMemory,
};
use dfr0_model::{
    aarch32::{self, Event, Op},
    id_write::Answer,
    sysreg::{SysReg, VBAR_EL1},
    vmm::Features,
    wire::RAM,
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use std::time::Duration;

/// A VM with one vCPU.
#[derive(Debug)]
pub struct A32Vm {
    // The vCPU and the VM are closed before the memory is unmapped: fields drop in this order.
    vcpu: VcpuFd,
    vm: VmFd,
    memory: Option<GuestMemory>,
    ops: Vec<Op>,
    deadline: Duration,
}

impl Kvm {
    /// A VM whose guest executes these operations; it may run for `deadline` at a time.
    pub fn a32_vm(&self, ops: &[Op], deadline: Duration) -> Result<A32Vm, Error> {
        let vm = self.create_vm(Features::AArch32)?;
        let vcpu = vm
            .create_vcpu(0)
            .map_err(|error| Error::System { what: "KVM_CREATE_VCPU".into(), source: error.into() })?;
        features::init(&vm, &vcpu, Features::AArch32)?;
        Ok(A32Vm { vcpu, vm, memory: None, ops: ops.to_vec(), deadline })
    }
}

impl A32Vm {
    /// KVM_GET_ONE_REG of a system register that must exist.
    pub fn read(&self, reg: SysReg) -> Result<u64, Error> {
        self.get_id(one_reg::system(reg)).map_err(|errno| Error::System {
            what: format!("KVM_GET_ONE_REG {reg}"),
            source: std::io::Error::from_raw_os_error(errno),
        })
    }

    /// KVM_SET_ONE_REG of a system register.
    pub fn set(&self, reg: SysReg, value: u64) -> Answer {
        self.set_id(one_reg::system(reg), value)
    }

    /// Lets the guest execute its operations. Returns the event of each, including userspace's.
    pub fn executes(&mut self) -> Result<Vec<Event>, Error> {
        let ops = self.ops.clone();
        self.start()?;
        let mut deadline = self.started()?;
        let (mut userspaces, mut words) = (Vec::new(), Vec::new());
        let mut rest = ops.as_slice();
        loop {
            let (now, later) = rest.split_at(a32::userspaces(rest));
            for op in now {
                userspaces.push(self.act(*op)?);
            }
            rest = &later[later.iter().take_while(|op| !op.is_userspaces()).count()..];
            loop {
                match self.next_store(&mut deadline)? {
                    (a32::WORD, word) => words.push(word as u32),
                    (a32::EXIT | a32::END, _) => break,
                    (a32::UNEXPECTED, _) => {
                        return Err(self.died("an exception that no operation may cause".into()));
                    }
                    (address, _) => return Err(self.died(format!("a store to {address:#x}"))),
                }
            }
            if rest.is_empty() {
                break;
            }
        }
        // The store completes only when the vCPU is entered again (KVM API 5, The kvm_run structure).
        self.vcpu.set_kvm_immediate_exit(1);
        let _interrupted = self.vcpu.run();
        self.vcpu.set_kvm_immediate_exit(0);
        let mut guests =
            aarch32::decode(&words).ok_or_else(|| self.died("its log makes no sense".into()))?.into_iter();
        let mut userspaces = userspaces.into_iter();
        let events: Option<Vec<Event>> =
            ops.iter().map(|op| if op.is_userspaces() { userspaces.next() } else { guests.next() }).collect();
        match events {
            Some(events) if guests.next().is_none() => Ok(events),
            _ => Err(self.died("it did not log one event per operation".into())),
        }
    }

    fn get_id(&self, id: u64) -> Result<u64, i32> {
        let mut bytes = [0; size_of::<u64>()];
        let got = self.vcpu.get_one_reg(id, &mut bytes);
        got.map(|_| u64::from_le_bytes(bytes)).map_err(|error| error.errno())
    }

    fn set_id(&self, id: u64, value: u64) -> Answer {
        match self.vcpu.set_one_reg(id, &value.to_le_bytes()) {
            Ok(_) => Answer::Accepted,
            Err(error) => Answer::Refused(error.errno()),
        }
    }

    /// Does an operation of userspace in AArch32.
    fn act(&self, op: Op) -> Result<Event, Error> {
        Ok(match op {
            Op::Get(register) => {
                self.get_id(one_reg::system(register)).map_or_else(Event::Refused, Event::Value)
            }
            Op::Set(register, value) => match self.set(register, value) {
                Answer::Accepted => Event::Done,
                Answer::Refused(errno) => Event::Refused(errno),
            },
            _ => Event::Done,
        })
    }

    /// Prepares the vCPU to execute from the start.
    fn start(&mut self) -> Result<(), Error> {
        self.load()?;
        for (id, value) in [(one_reg::system(VBAR_EL1), RAM), (one_reg::PC, a32::CODE)] {
            if let Answer::Refused(errno) = self.set_id(id, value) {
                return Err(Error::Refused { register: one_reg::name(id), value, errno });
            }
        }
        Ok(())
    }

    fn started(&self) -> Result<Deadline, Error> {
        let mut deadline = Deadline::new(self.deadline)?;
        deadline.start()?;
        Ok(deadline)
    }

    /// Lets the guest execute until it stores to an address without memory. Returns the address and the
    /// value.
    fn next_store(&mut self, deadline: &mut Deadline) -> Result<(u64, u64), Error> {
        let reason = loop {
            match self.vcpu.run() {
                Ok(VcpuExit::MmioWrite(address, data)) => {
                    let mut bytes = [0; size_of::<u64>()];
                    bytes.iter_mut().zip(data).for_each(|(byte, data)| *byte = *data);
                    return Ok((address, u64::from_le_bytes(bytes)));
                }
                Ok(exit) => break format!("KVM_RUN ended with {exit:?}"),
                Err(error) if error.errno() == nix::libc::EINTR => {
                    if deadline.is_over()? {
                        break format!("the guest did not come back within {:?}", deadline.length());
                    }
                }
                Err(error) => break format!("KVM_RUN failed: {error}"),
            }
        };
        Err(self.died(reason))
    }

    /// Gives the VM its memory, with vectors and code, if it does not have it yet.
    fn load(&mut self) -> Result<(), Error> {
        if self.memory.is_some() {
            return Ok(());
        }
        let mut memory = GuestMemory::anonymous()?;
        let fits = a32::compose(&self.ops).is_some_and(|pieces| {
            pieces.iter().all(|(address, words)| {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                memory.write(*address, &bytes)
            })
        });
        if !fits {
            return Err(Error::Unfit("the guest's code does not fit into its memory".into()));
        }
        memslot::register(&memory, &self.vm)?;
        self.memory = Some(memory);
        Ok(())
    }

    fn died(&self, reason: String) -> Error {
        let pc = self.get_id(one_reg::PC).ok().map(|pc| ("PC".to_owned(), pc));
        Error::Died(Box::new(Death { reason, registers: pc.into_iter().collect() }))
    }
}
