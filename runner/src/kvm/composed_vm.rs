// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A VM whose guest does not run the payload, but the operations of a scenario as code.

use super::{
    deadline::Deadline,
    features, memslot, one_reg,
    registers::{Order, Part, Registers},
};
use crate::{
    composed::{self, Operation},
    guest::Error,
    memory::{GuestMemory, Piece},
};
use dfr0_model::{
    event::debug_exit_class,
    id_write::Answer,
    sysreg::{SysReg, VBAR_EL1},
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use std::{mem, time::Duration};

/// A VM whose guest is in one vCPU.
#[derive(Debug)]
pub struct ComposedVm {
    // The vCPU and the VM are closed before the memory is unmapped: fields drop in this order.
    pub vcpu: VcpuFd,
    pub vm: VmFd,
    memory: Option<GuestMemory>,
    deadline: Duration,
}

/// What userspace does while the guest executes.
pub trait Userspace {
    /// An operation of a scenario.
    type Op: Operation;
    /// What an operation caused.
    type Event;
    /// Does an operation of userspace.
    fn act(&mut self, vm: &mut ComposedVm, op: Self::Op) -> Self::Event;
    /// KVM_RUN ended with KVM_EXIT_DEBUG of this syndrome. False if that ends the scenario.
    fn debug_exit(&mut self, vm: &ComposedVm, hsr: u32) -> bool;
}

/// What the guest's code is and where it starts.
pub struct Code {
    pub pieces: Option<Vec<Piece>>,
    pub start: u64,
    pub vectors: u64,
}

impl ComposedVm {
    /// A VM whose vCPU has these features of KVM_ARM_VCPU_INIT; it may run for `deadline` at a time.
    pub fn new(vm: VmFd, features: &[u32], deadline: Duration) -> Result<Self, Error> {
        let vcpu = create_vcpu(&vm, 0, features)?;
        Ok(Self { vcpu, vm, memory: None, deadline })
    }

    /// Another vCPU with these features, to which the guest can move. The VM must not have run.
    pub fn another_vcpu(&self, features: &[u32]) -> Result<VcpuFd, Error> {
        create_vcpu(&self.vm, 1, features)
    }

    /// KVM_GET_ONE_REG of a system register that must exist.
    pub fn read(&self, reg: SysReg) -> Result<u64, Error> {
        self.get(one_reg::system(reg)).map_err(|errno| Error::System {
            what: format!("KVM_GET_ONE_REG {reg}"),
            source: std::io::Error::from_raw_os_error(errno),
        })
    }

    /// KVM_GET_ONE_REG; the errno of a refusal.
    pub fn get(&self, id: u64) -> Result<u64, i32> {
        let mut bytes = [0; size_of::<u64>()];
        let got = self.vcpu.get_one_reg(id, &mut bytes);
        got.map(|_| u64::from_le_bytes(bytes)).map_err(|error| error.errno())
    }

    /// KVM_SET_ONE_REG.
    pub fn set(&self, id: u64, value: u64) -> Answer {
        match self.vcpu.set_one_reg(id, &value.to_le_bytes()) {
            Ok(_) => Answer::Accepted,
            Err(error) => Answer::Refused(error.errno()),
        }
    }

    /// Lets the guest execute the operations that its code was composed of. Returns the events of userspace's operations
    /// and the words of the guest's log.
    pub fn executes<U: Userspace>(
        &mut self,
        code: Code,
        ops: &[U::Op],
        userspace: &mut U,
    ) -> Result<(Vec<U::Event>, Vec<u64>), Error> {
        self.start(code)?;
        self.goes_on(ops, userspace)
    }

    /// The same without a start: the guest goes on where it ended.
    pub fn goes_on<U: Userspace>(
        &mut self,
        ops: &[U::Op],
        userspace: &mut U,
    ) -> Result<(Vec<U::Event>, Vec<u64>), Error> {
        let mut deadline = Deadline::new(self.deadline)?;
        deadline.start()?;
        let (mut userspaces, mut words) = (Vec::new(), Vec::new());
        let mut rest = ops;
        loop {
            let (now, later) = rest.split_at(composed::userspaces(rest));
            userspaces.extend(now.iter().map(|op| userspace.act(self, *op)));
            rest = &later[later.iter().take_while(|op| !op.is_userspaces()).count()..];
            loop {
                match self.next_store(&mut deadline, userspace)? {
                    (composed::WORD, word) => words.push(word),
                    (composed::EXIT | composed::END, _) => break,
                    (composed::UNEXPECTED, _) => {
                        return Err(self.died("an exception that no operation may cause".into()));
                    }
                    (address, _) => return Err(self.died(format!("a store to {address:#x}"))),
                }
            }
            if rest.is_empty() {
                break;
            }
        }
        self.completes();
        Ok((userspaces, words))
    }

    /// Completes the store of the last exit, which the next KVM_RUN would (KVM API 5, The kvm_run structure).
    fn completes(&mut self) {
        self.vcpu.set_kvm_immediate_exit(1);
        let _interrupted = self.vcpu.run();
        self.vcpu.set_kvm_immediate_exit(0);
    }

    /// The guest goes on in this vCPU of the VM after KVM_ARM_VCPU_INIT with these features. The other is left in its place.
    pub fn moves(&mut self, to: &mut VcpuFd, features: &[u32]) -> Result<(), Error> {
        self.completes();
        let registers = Registers::save(&self.vcpu, Part::Whole)?;
        features::init(&self.vm, to, features)?;
        registers.restore(to, Order::Listed)?;
        mem::swap(&mut self.vcpu, to);
        Ok(())
    }

    /// The guest's memory, once it has been started.
    pub fn memory(&mut self) -> Option<&mut GuestMemory> {
        self.memory.as_mut()
    }

    /// The error of a guest that cannot be used any more.
    pub fn died(&self, reason: String) -> Error {
        one_reg::died(reason, |id| self.get(id).ok())
    }

    /// Prepares the vCPU to execute from the start.
    pub fn start(&mut self, code: Code) -> Result<(), Error> {
        self.load(code.pieces)?;
        for (id, value) in [(one_reg::system(VBAR_EL1), code.vectors), (one_reg::PC, code.start)] {
            if let Answer::Refused(errno) = self.set(id, value) {
                return Err(Error::Refused { register: one_reg::name(id), value, errno });
            }
        }
        Ok(())
    }

    /// Gives the VM its memory, with vectors and code, if it does not have it yet.
    fn load(&mut self, pieces: Option<Vec<Piece>>) -> Result<(), Error> {
        if self.memory.is_some() {
            return Ok(());
        }
        let mut memory = GuestMemory::anonymous()?;
        if !pieces.is_some_and(|pieces| memory.write_code(&pieces)) {
            return Err(Error::Unfit("the guest's code does not fit into its memory".into()));
        }
        memslot::register(&memory, &self.vm)?;
        self.memory = Some(memory);
        Ok(())
    }

    /// Lets the guest execute until it stores to an address without memory. Returns the address and the
    /// value.
    fn next_store<U: Userspace>(
        &mut self,
        deadline: &mut Deadline,
        userspace: &mut U,
    ) -> Result<(u64, u64), Error> {
        let reason = loop {
            match self.vcpu.run() {
                Ok(VcpuExit::MmioWrite(address, data)) => {
                    let mut bytes = [0; size_of::<u64>()];
                    bytes.iter_mut().zip(data).for_each(|(byte, data)| *byte = *data);
                    return Ok((address, u64::from_le_bytes(bytes)));
                }
                Ok(VcpuExit::Debug(debug)) => {
                    if !userspace.debug_exit(self, debug.hsr) {
                        let ec = debug_exit_class(debug.hsr.into());
                        break format!("KVM_RUN ended with KVM_EXIT_DEBUG of EC {ec:#04x}");
                    }
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
}

fn create_vcpu(vm: &VmFd, id: u64, features: &[u32]) -> Result<VcpuFd, Error> {
    let failed =
        |error: kvm_ioctls::Error| Error::System { what: "KVM_CREATE_VCPU".into(), source: error.into() };
    let vcpu = vm.create_vcpu(id).map_err(failed)?;
    features::init(vm, &vcpu, features)?;
    Ok(vcpu)
}
