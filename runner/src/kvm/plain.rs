// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A VM without a payload: a case decides when its vCPUs are initialised, read, written and entered.
//!
//! ```text
//!   RAM           the exception vectors: they store ESR_EL1 to EXCEPTION and continue with the next register
//!   CODE          for register k:  MRS X0, register;  STR X0, [X1, #8 * k]     X1 = DOORBELL
//!                 in AArch32:      see a32
//!                 at the end:      B .
//! ```
//!
//! Translation is off, and all code is written before the first entry: userspace cannot change code that a
//! guest without caches has already fetched.

use super::{deadline::Deadline, device::Kvm, memslot, one_reg, registers, writable_masks};
use crate::{
    a32,
    guest::{Death, Error},
    memory::GuestMemory,
    plain::{Features, MaskRequest, Reads, StepState},
};
use dfr0_model::{
    aarch32::{self, Event, Op},
    id_write::{Answer, Writable},
    sysreg::SysReg,
    wire::{DOORBELL, RAM},
};
use kvm_bindings::{
    KVM_ARM_VCPU_EL1_32BIT, KVM_ARM_VCPU_PMU_V3, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT,
    KVM_ARM_VCPU_PTRAUTH_ADDRESS, KVM_ARM_VCPU_PTRAUTH_GENERIC, KVM_ARM_VCPU_SVE, KVM_CAP_ARM_EL1_32BIT,
    KVM_CAP_ARM_MTE, KVM_CAP_ARM_PMU_V3, KVM_CAP_ARM_PTRAUTH_ADDRESS, KVM_CAP_ARM_PTRAUTH_GENERIC,
    KVM_CAP_ARM_SVE, kvm_device_attr, kvm_vcpu_init,
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use std::time::Duration;

const CODE: u64 = RAM + 0x1000;
/// A store here reports an exception.
const EXCEPTION: u64 = DOORBELL + 0x8000;
const VECTORS_SIZE: usize = 0x800;
/// The distance between two of AArch64's sixteen vectors, in instructions.
const VECTOR: usize = 0x80 / 4;
const VBAR_EL1: SysReg = SysReg::new(3, 0, 12, 0, 0);
const ESR_EL1: SysReg = SysReg::new(3, 0, 5, 2, 0);
const ELR_EL1: SysReg = SysReg::new(3, 0, 4, 0, 1);

/// `STR X0, [X1, #0]`; the offset in doublewords is at bit 10.
const STR_X0_X1: u32 = 0xf900_0020;
/// Makes an MRS or MSR of X0 one of X3.
const X3: u32 = 3;
/// `STR X3, [X2]`.
const STR_X3_X2: u32 = 0xf900_0043;
/// `ADD X3, X3, #8`: past the MRS and the STR.
const ADD_X3_8: u32 = 0x9100_2063;
/// `ERET`.
const ERET: u32 = 0xd69f_03e0;
/// `B .`
const B: u32 = 0x1400_0000;

/// A VM and its vCPUs, which are numbered from 0.
#[derive(Debug)]
pub struct PlainVm {
    // The vCPUs and the VM are closed before the memory is unmapped: fields drop in this order.
    vcpus: Vec<Vcpu>,
    vm: VmFd,
    memory: Option<GuestMemory>,
    features: Features,
    reads: Reads,
    deadline: Duration,
}

#[derive(Debug)]
struct Vcpu {
    fd: VcpuFd,
    /// [`PlainVm::complete`] was called.
    complete: bool,
}

impl Kvm {
    /// The host has what these features need.
    pub fn can(&self, features: Features) -> bool {
        let capabilities: &[u32] = match features {
            Features::None => &[],
            Features::Pmu => &[KVM_CAP_ARM_PMU_V3],
            Features::Sve => &[KVM_CAP_ARM_SVE],
            Features::PointerAuthentication => &[KVM_CAP_ARM_PTRAUTH_ADDRESS, KVM_CAP_ARM_PTRAUTH_GENERIC],
            Features::AArch32 => &[KVM_CAP_ARM_EL1_32BIT],
            Features::MemoryTagging => &[KVM_CAP_ARM_MTE],
        };
        capabilities.iter().all(|capability| self.0.check_extension_raw((*capability).into()) > 0)
    }

    /// A VM with vCPUs that are not initialised.
    pub fn plain_vm(
        &self,
        vcpus: usize,
        features: Features,
        reads: Reads,
        deadline: Duration,
    ) -> Result<PlainVm, Error> {
        let vm = self.create_vm(features)?;
        let vcpus = (0..vcpus)
            .map(|n| {
                let fd = vm.create_vcpu(n as u64).map_err(failed(&format!("KVM_CREATE_VCPU {n}")))?;
                Ok(Vcpu { fd, complete: false })
            })
            .collect::<Result<_, Error>>()?;
        Ok(PlainVm { vcpus, vm, memory: None, features, reads, deadline })
    }
}

/// KVM_ARM_VCPU_INIT with these features.
pub(super) fn init(vm: &VmFd, vcpu: &VcpuFd, features: Features) -> Result<(), Error> {
    let bits: &[u32] = match features {
        Features::None | Features::MemoryTagging => &[],
        Features::Pmu => &[KVM_ARM_VCPU_PMU_V3],
        Features::Sve => &[KVM_ARM_VCPU_SVE],
        Features::PointerAuthentication => &[KVM_ARM_VCPU_PTRAUTH_ADDRESS, KVM_ARM_VCPU_PTRAUTH_GENERIC],
        Features::AArch32 => &[KVM_ARM_VCPU_EL1_32BIT],
    };
    let mut target = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut target).map_err(failed("KVM_ARM_PREFERRED_TARGET"))?;
    target.features[0] |= bits.iter().fold(0, |bits, feature| bits | 1 << feature);
    vcpu.vcpu_init(&target).map_err(failed(&format!("KVM_ARM_VCPU_INIT for {features:?}")))
}

/// What the features need after the first KVM_ARM_VCPU_INIT.
pub(super) fn complete(vcpu: &VcpuFd, features: Features) -> Result<(), Error> {
    match features {
        Features::Pmu => {
            let attribute = kvm_device_attr {
                group: KVM_ARM_VCPU_PMU_V3_CTRL,
                attr: KVM_ARM_VCPU_PMU_V3_INIT.into(),
                ..Default::default()
            };
            vcpu.set_device_attr(&attribute).map_err(failed("KVM_ARM_VCPU_PMU_V3_INIT"))
        }
        Features::Sve => {
            let finalized = vcpu.vcpu_finalize(&(KVM_ARM_VCPU_SVE as i32));
            finalized.map_err(failed("KVM_ARM_VCPU_FINALIZE of SVE"))
        }
        _ => Ok(()),
    }
}

impl PlainVm {
    /// KVM_ARM_VCPU_INIT, and the first time also what the features need after it.
    pub fn init(&mut self, n: usize) -> Result<(), Error> {
        self.init_alone(n)?;
        self.complete(n)
    }

    /// KVM_ARM_VCPU_INIT and nothing after it: a vCPU with features that need more cannot be run.
    pub fn init_alone(&mut self, n: usize) -> Result<(), Error> {
        init(&self.vm, &self.vcpu(n)?.fd, self.features)
    }

    /// What the features need after the first KVM_ARM_VCPU_INIT, if it has not been done yet.
    pub fn complete(&mut self, n: usize) -> Result<(), Error> {
        let kind = self.features;
        let vcpu = self.vcpu_mut(n)?;
        if std::mem::replace(&mut vcpu.complete, true) {
            return Ok(());
        }
        complete(&vcpu.fd, kind)
    }

    /// KVM_GET_ONE_REG of a system register, or the errno of its refusal.
    pub fn get(&self, n: usize, reg: SysReg) -> Result<Result<u64, i32>, Error> {
        self.get_id(n, one_reg::system(reg))
    }

    /// KVM_GET_ONE_REG of a system register that must exist.
    pub fn read(&self, n: usize, reg: SysReg) -> Result<u64, Error> {
        self.get(n, reg)?.map_err(|errno| unreadable(&reg, n, errno))
    }

    /// KVM_SET_ONE_REG of a system register.
    pub fn set(&self, n: usize, reg: SysReg, value: u64) -> Result<Answer, Error> {
        self.set_id(n, one_reg::system(reg), value)
    }

    /// KVM_SET_ONE_REG of a state, and what KVM_GET_ONE_REG reads afterwards.
    pub fn set_state(&self, n: usize, state: StepState, value: u64) -> Result<(Answer, u64), Error> {
        let id = one_reg::state(state);
        let answer = self.set_id(n, id, value)?;
        let read = self.get_id(n, id)?.map_err(|errno| unreadable(&state, n, errno))?;
        Ok((answer, read))
    }

    /// The system registers that KVM_GET_REG_LIST lists.
    pub fn listed(&self, n: usize) -> Result<Vec<SysReg>, Error> {
        Ok(registers::listed(&self.vcpu(n)?.fd)?.into_iter().filter_map(one_reg::system_of).collect())
    }

    /// KVM_RUN with `immediate_exit`.
    pub fn enter_and_leave(&mut self, n: usize) -> Result<Answer, Error> {
        let fd = &mut self.vcpu_mut(n)?.fd;
        fd.set_kvm_immediate_exit(1);
        let answer = match fd.run() {
            Ok(_) => Answer::Accepted,
            Err(error) => Answer::Refused(error.errno()),
        };
        fd.set_kvm_immediate_exit(0);
        Ok(answer)
    }

    /// Lets the guest read its registers on this vCPU, from the start. Returns what it reads, in their order;
    /// an exception is an error.
    pub fn guest_reads(&mut self, n: usize) -> Result<Vec<u64>, Error> {
        let accesses = self.guest_accesses(n)?.into_iter().enumerate();
        accesses.map(|(place, read)| read.map_err(|_| Error::Exception(place))).collect()
    }

    /// Lets the guest read its registers on this vCPU, from the start. Returns what it reads, in their order,
    /// or ESR_EL1 of the exception that it took instead.
    pub fn guest_accesses(&mut self, n: usize) -> Result<Vec<Result<u64, u64>>, Error> {
        let Reads::Registers(registers) = &self.reads else {
            return Err(Error::Unfit("the guest is in AArch32".into()));
        };
        let count = registers.len();
        self.start(n, CODE)?;
        self.put(n, one_reg::x(1), DOORBELL)?;
        self.put(n, one_reg::x(2), EXCEPTION)?;
        let mut values = Vec::with_capacity(count);
        let mut deadline = self.started()?;
        while values.len() < count {
            match self.next_store(n, &mut deadline)? {
                (EXCEPTION, esr) => values.push(Err(esr)),
                (address, value) if address == DOORBELL + 8 * values.len() as u64 => values.push(Ok(value)),
                (address, _) => return Err(self.died(n, format!("a store to {address:#x}"))),
            }
        }
        // The store completes only when the vCPU is entered again (KVM API 5, The kvm_run structure).
        self.enter_and_leave(n)?;
        Ok(values)
    }

    /// Lets the guest in AArch32 execute its operations on this vCPU, from the start. Returns the event of
    /// each operation, including userspace's.
    pub fn executes(&mut self, n: usize) -> Result<Vec<Event>, Error> {
        let Reads::A32(ops) = &self.reads else {
            return Err(Error::Unfit("the guest is in AArch64".into()));
        };
        let ops = ops.clone();
        self.start(n, a32::CODE)?;
        let mut deadline = self.started()?;
        let (mut userspaces, mut words) = (Vec::new(), Vec::new());
        let mut rest = ops.as_slice();
        loop {
            let (now, later) = rest.split_at(a32::userspaces(rest));
            for op in now {
                userspaces.push(self.act(n, *op)?);
            }
            rest = &later[later.iter().take_while(|op| !op.is_userspaces()).count()..];
            loop {
                match self.next_store(n, &mut deadline)? {
                    (a32::WORD, word) => words.push(word as u32),
                    (a32::EXIT | a32::END, _) => break,
                    (a32::UNEXPECTED, _) => {
                        return Err(self.died(n, "an exception that no operation may cause".into()));
                    }
                    (address, _) => return Err(self.died(n, format!("a store to {address:#x}"))),
                }
            }
            if rest.is_empty() {
                break;
            }
        }
        self.enter_and_leave(n)?;
        let mut guests =
            aarch32::decode(&words).ok_or_else(|| self.died(n, "its log makes no sense".into()))?.into_iter();
        let mut userspaces = userspaces.into_iter();
        let events: Option<Vec<Event>> =
            ops.iter().map(|op| if op.is_userspaces() { userspaces.next() } else { guests.next() }).collect();
        match events {
            Some(events) if guests.next().is_none() => Ok(events),
            _ => Err(self.died(n, "it did not log one event per operation".into())),
        }
    }

    /// The ranges that KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES reports, one bit each.
    pub fn mask_ranges(&self) -> u64 {
        writable_masks::ranges(&self.vm)
    }

    /// KVM_ARM_GET_REG_WRITABLE_MASKS, or the errno of its refusal.
    pub fn writable_masks(&self, request: MaskRequest) -> Result<Vec<u64>, i32> {
        writable_masks::read(&self.vm, request)
    }

    /// Which bits of an ID register userspace may write.
    pub fn writable(&self, reg: SysReg) -> Writable {
        writable_masks::of(&self.vm, reg)
    }

    fn vcpu(&self, n: usize) -> Result<&Vcpu, Error> {
        self.vcpus.get(n).ok_or_else(|| no_vcpu(n))
    }

    fn vcpu_mut(&mut self, n: usize) -> Result<&mut Vcpu, Error> {
        self.vcpus.get_mut(n).ok_or_else(|| no_vcpu(n))
    }

    fn get_id(&self, n: usize, id: u64) -> Result<Result<u64, i32>, Error> {
        let mut bytes = [0; size_of::<u64>()];
        let got = self.vcpu(n)?.fd.get_one_reg(id, &mut bytes);
        Ok(got.map(|_| u64::from_le_bytes(bytes)).map_err(|error| error.errno()))
    }

    fn set_id(&self, n: usize, id: u64, value: u64) -> Result<Answer, Error> {
        Ok(match self.vcpu(n)?.fd.set_one_reg(id, &value.to_le_bytes()) {
            Ok(_) => Answer::Accepted,
            Err(error) => Answer::Refused(error.errno()),
        })
    }

    /// Does an operation of userspace in AArch32.
    fn act(&self, n: usize, op: Op) -> Result<Event, Error> {
        Ok(match op {
            Op::Get(register) => self.get(n, register)?.map_or_else(Event::Refused, Event::Value),
            Op::Set(register, value) => match self.set(n, register, value)? {
                Answer::Accepted => Event::Done,
                Answer::Refused(errno) => Event::Refused(errno),
            },
            _ => Event::Done,
        })
    }

    /// KVM_SET_ONE_REG that must be accepted.
    fn put(&self, n: usize, id: u64, value: u64) -> Result<(), Error> {
        match self.set_id(n, id, value)? {
            Answer::Accepted => Ok(()),
            Answer::Refused(errno) => Err(Error::Refused { register: format!("{id:#x}"), value, errno }),
        }
    }

    /// Prepares the vCPU to continue at this address.
    fn start(&mut self, n: usize, code: u64) -> Result<(), Error> {
        self.load()?;
        self.put(n, one_reg::system(VBAR_EL1), RAM)?;
        self.put(n, one_reg::PC, code)
    }

    fn started(&self) -> Result<Deadline, Error> {
        let mut deadline = Deadline::new(self.deadline)?;
        deadline.start()?;
        Ok(deadline)
    }

    /// Lets the guest execute until it stores to an address without memory. Returns the address and the
    /// value.
    fn next_store(&mut self, n: usize, deadline: &mut Deadline) -> Result<(u64, u64), Error> {
        let reason = loop {
            match self.vcpu_mut(n)?.fd.run() {
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
        Err(self.died(n, reason))
    }

    /// Gives the VM its memory, with vectors and code, if it does not have it yet.
    fn load(&mut self) -> Result<(), Error> {
        if self.memory.is_some() {
            return Ok(());
        }
        let pieces = match &self.reads {
            Reads::Registers(registers) => {
                let read = |(k, reg): (usize, &SysReg)| [reg.mrs_x0(), STR_X0_X1 | (k as u32) << 10];
                let mut vector = [B; VECTOR];
                let handler = [
                    ESR_EL1.mrs_x0() | X3,
                    STR_X3_X2,
                    ELR_EL1.mrs_x0() | X3,
                    ADD_X3_8,
                    ELR_EL1.msr_x0() | X3,
                    ERET,
                ];
                vector[..handler.len()].copy_from_slice(&handler);
                let code = registers.iter().enumerate().flat_map(read).chain([B]).collect();
                Some(vec![(RAM, vector.repeat(VECTORS_SIZE / 4 / VECTOR)), (CODE, code)])
            }
            Reads::A32(ops) => a32::compose(ops),
        };
        let mut memory = GuestMemory::anonymous()?;
        let fits = pieces.is_some_and(|pieces| {
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

    fn died(&self, n: usize, reason: String) -> Error {
        let pc = self.vcpu(n).ok().and_then(|vcpu| {
            let mut bytes = [0; size_of::<u64>()];
            vcpu.fd.get_one_reg(one_reg::PC, &mut bytes).ok()?;
            Some(("PC".to_owned(), u64::from_le_bytes(bytes)))
        });
        Error::Died(Box::new(Death { reason, registers: pc.into_iter().collect() }))
    }
}

fn unreadable(register: &dyn std::fmt::Display, n: usize, errno: i32) -> Error {
    Error::System {
        what: format!("KVM_GET_ONE_REG {register} of vCPU {n}"),
        source: std::io::Error::from_raw_os_error(errno),
    }
}

fn no_vcpu(n: usize) -> Error {
    Error::Unfit(format!("the VM has no vCPU {n}"))
}

fn failed(what: &str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    let what = what.to_owned();
    move |error| Error::System { what, source: error.into() }
}
