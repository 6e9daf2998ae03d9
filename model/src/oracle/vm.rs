// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A VM as userspace sees it: its vCPUs, its ID registers, and what KVM may answer.
//!
//! The rules do not depend on the kernel's version. What a VM is given at its start, and what userspace may write, is
//! known from another VM of the same kind ([`Facts`]). Where KVM may accept or refuse a value, the answer decides the
//! state ([`Model::saw`]).

use crate::{
    dfr0::{self, Field},
    event::Event,
    guest_debug::{ENABLE, SINGLESTEP},
    id_dfr0, id_register,
    id_write::{
        self, AllowedWhole, Answer, EBUSY, EFAULT, EINTR, EINVAL, ENOEXEC, Writable, allowed,
        allowed_after_run, allowed_late, allowed_together,
    },
    outcome::{ESR_UNDEFINED, Expected, Outcome, SPSR_COMPARED, Unknown},
    pe::Pe,
    promise::{self, DebugFeatures, Promise},
    pstate,
    rule::{self, Rule},
    scenario::{Migrate, Op, Scenario},
    shape::Shape,
    sysreg::{
        DBGVCR32_EL2, DebugRegister, ID_AA64DFR0_EL1, ID_AA64DFR1_EL1, ID_AA64DFR2_EL1, ID_AA64PFR0_EL1,
        ID_DFR0_EL1, MDSCR_EL1, OSLSR_EL1, SysReg,
    },
    vmm::{Features, MaskRequest, RunField, StepState, Vmm},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    sync::Arc,
    vec::Vec,
};

/// What an operation may cause, and what follows from what it did cause.
pub trait Model: Clone {
    /// What `op` may cause; the model is then in the state after `op`.
    fn step(&mut self, op: Op) -> Result<Outcome, Unknown>;

    /// What the operation of the last [`Self::step`] did cause, which its outcome allows. Without this call it caused
    /// the first of what it may.
    fn saw(&mut self, _: &[Event]) {}

    /// The operation of the last [`Self::step`] and these events in words that hold on any host, if the model has
    /// words of its own.
    fn words(&self, _: Op, _: &[Event]) -> Option<String> {
        None
    }
}

impl Model for Pe {
    fn step(&mut self, op: Op) -> Result<Outcome, Unknown> {
        Self::step(self, op)
    }
}

/// An ID register of a new VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRegister {
    /// The value that KVM gives to the VM.
    pub default: u64,
    /// What userspace may write.
    pub writable: Writable,
}

/// What is known of each VM with the same features on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The features.
    pub features: Features,
    /// The ID registers that KVM_GET_REG_LIST lists.
    pub registers: BTreeMap<SysReg, IdRegister>,
    /// KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES.
    pub mask_ranges: u64,
    /// The writable masks that are not zero, of all feature ID registers.
    pub masks: BTreeMap<SysReg, u64>,
    /// Of some registers, bits that earlier kernels let userspace write.
    pub known: BTreeMap<SysReg, u64>,
    /// The other system registers that KVM_GET_REG_LIST lists, and their values in a vCPU that has not run.
    pub listed: BTreeMap<SysReg, u64>,
    /// The number of bytes in the block that DC ZVA zeroes, if it is known.
    pub zva_block: Option<u64>,
    /// VMs without features, if these have some.
    pub without: Option<Arc<Facts>>,
}

impl Facts {
    /// An ID register. The debug feature registers are there although KVM does not list them, and hold zero then.
    fn register(&self, reg: SysReg) -> Option<IdRegister> {
        let unlisted = IdRegister { default: 0, writable: Writable::Mask(0) };
        self.registers.get(&reg).copied().or_else(|| DEBUG_FEATURES.contains(&reg).then_some(unlisted))
    }

    /// The value that KVM gives to a register.
    pub fn default(&self, reg: SysReg) -> u64 {
        self.register(reg).map_or(0, |register| register.default)
    }

    /// What userspace may write to a register.
    pub fn writable(&self, reg: SysReg) -> Writable {
        self.register(reg).map_or(Writable::Unknown, |register| register.writable)
    }

    /// EL0 can use AArch32.
    pub fn has_aarch32(&self) -> bool {
        match (self.features, &self.without) {
            // ID_AA64PFR0_EL1 of a VM with EL2 does not show it, and KVM does not change the registers of AArch32.
            (Features::El2, Some(without)) => without.has_aarch32(),
            _ => id_register::has_aarch32(self.default(ID_AA64PFR0_EL1)),
        }
    }

    /// The shape of a VM with KVM's own values.
    pub fn shape(&self) -> Shape {
        Shape::from_id_aa64dfr0(self.default(ID_AA64DFR0_EL1))
    }

    /// What a VM with KVM's own values promises.
    pub fn promises(&self) -> DebugFeatures {
        self.promises_with(self.default(ID_AA64DFR0_EL1))
    }

    /// What a VM with this ID_AA64DFR0_EL1 promises.
    pub fn promises_with(&self, id_aa64dfr0: u64) -> DebugFeatures {
        let (id_aa64dfr1, id_aa64dfr2) = (self.default(ID_AA64DFR1_EL1), self.default(ID_AA64DFR2_EL1));
        DebugFeatures { id_aa64dfr0, id_aa64dfr1, id_aa64dfr2 }
    }

    /// Why the value that KVM gives to a register is wrong, and the values that it may give; `None` if it is right.
    fn wrong(&self, reg: SysReg) -> Option<(&'static Rule, Vec<u64>)> {
        let default = self.default(reg);
        let pmuver = dfr0::PMUVER.get(self.default(ID_AA64DFR0_EL1));
        let right: (&'static Rule, Vec<u64>) = match (reg, self.features, &self.without) {
            (ID_AA64DFR0_EL1, Features::Pmu, Some(without)) => {
                let forms = (0..16).filter(|form| {
                    ![dfr0::PMUVER_NI, dfr0::PMUVER_IMP_DEF].contains(form)
                        && dfr0::PMUVER.is_architected(*form)
                });
                let values = forms.map(|form| dfr0::PMUVER.with(without.default(reg), form)).collect();
                (&rule::ID_PMUVER_OF_VCPU, values)
            }
            (ID_AA64DFR0_EL1, Features::None, _) => {
                (&rule::ID_PMUVER_OF_VCPU, Vec::from([dfr0::PMUVER.with(default, dfr0::PMUVER_NI)]))
            }
            (ID_DFR0_EL1, ..) if !self.has_aarch32() => (&rule::ID_AARCH32_ABSENT, Vec::from([0])),
            (ID_DFR0_EL1, Features::None | Features::Pmu, _) => {
                let form = id_dfr0::perfmon_of(pmuver);
                (&rule::ID_PERFMON_IS_PMUVER, Vec::from([id_dfr0::PERFMON.with(default, form)]))
            }
            (reg, Features::Sve | Features::PointerAuthentication, Some(without))
                if DEBUG_FEATURES.contains(&reg) =>
            {
                (&rule::ID_FEATURES_APART, Vec::from([without.default(reg)]))
            }
            (ID_AA64DFR0_EL1, Features::El2, Some(without)) => {
                let kept = dfr0::FIELDS.into_iter().fold(default, |kept, field| {
                    let limit = field.get(without.default(reg));
                    if field.promises_no_more(field.get(default), limit) {
                        kept
                    } else {
                        field.with(kept, limit)
                    }
                });
                (&rule::ID_EL2_SHOWS_NO_MORE, Vec::from([kept]))
            }
            _ => return None,
        };
        if right.1.contains(&default) { None } else { Some(right) }
    }

    /// Each field of ID_AA64DFR0_EL1 at the least value that userspace may surely write.
    pub fn least(&self) -> u64 {
        let (default, writable) = (self.default(ID_AA64DFR0_EL1), self.writable(ID_AA64DFR0_EL1));
        if writable == Writable::Unknown {
            return default;
        }
        dfr0::FIELDS.into_iter().fold(default, |register, field| {
            let promises = |value: u8| (0..16).filter(|other| field.promises_no_more(*other, value)).count();
            let surely = |value: &u8| {
                let allowed = allowed(field, *value, default, writable);
                let shape = Shape::from_id_aa64dfr0(field.with(register, *value));
                allowed.rule == &rule::ID_SAFE_ACCEPTED && shape.context_aware <= shape.breakpoints
            };
            let least = (0..16).filter(surely).min_by_key(|value| promises(*value));
            least.map_or(register, |value| field.with(register, value))
        })
    }
}

/// The fields of a debug feature register whose values the model knows.
fn fields(reg: SysReg) -> &'static [&'static Field] {
    match reg {
        ID_AA64DFR0_EL1 => &dfr0::FIELDS,
        ID_DFR0_EL1 => &id_dfr0::FIELDS,
        _ => &[],
    }
}

/// The debug feature registers, whose bits outside of the mask KVM refuses; other registers may ignore such bits.
pub const DEBUG_FEATURES: [SysReg; 5] =
    [ID_AA64DFR0_EL1, ID_AA64DFR1_EL1, ID_AA64DFR2_EL1, ID_DFR0_EL1, crate::sysreg::ID_DFR1_EL1];

/// The bits of DBGBCR<n>_EL1 that a guest without FEAT_Debugv8p9 and later features has.
const BCR: u64 = 0x00ff_e1e7;
/// Those of DBGWCR<n>_EL1.
const WCR: u64 = 0x1f1f_ffff;

/// The field that says which GIC the VM has. KVM clears it at the first KVM_RUN of a VM for which userspace has not
/// created one, as none here has (arch/arm64/kvm/sys_regs.c, kvm_finalize_sys_regs).
const fn gic(reg: SysReg) -> u64 {
    const ID_PFR1_EL1: SysReg = SysReg::new(3, 0, 0, 1, 1);
    match reg {
        ID_AA64PFR0_EL1 => 0xf << 24,
        ID_PFR1_EL1 => 0xf << 28,
        _ => 0,
    }
}

/// A vCPU.
#[derive(Clone, Debug)]
struct Vcpu {
    pe: Pe,
    /// KVM_ARM_VCPU_INIT was called.
    initialised: bool,
    /// What its features need after that was done.
    complete: bool,
    /// The debug registers that userspace has written since the guest ran last.
    stored: BTreeMap<SysReg, u64>,
    /// The states that userspace has written since then.
    states: BTreeMap<StepState, u64>,
    /// The guest's store to the doorbell has ended the last KVM_RUN.
    waits: bool,
    /// A KVM_RUN has ended with KVM_EXIT_DEBUG.
    has_exited: bool,
    /// Userspace has asked for steps.
    was_stepped: bool,
}

impl Vcpu {
    fn new(pe: Pe) -> Self {
        let (stored, states) = (BTreeMap::new(), BTreeMap::new());
        Self {
            pe,
            initialised: false,
            complete: false,
            stored,
            states,
            waits: false,
            has_exited: false,
            was_stepped: false,
        }
    }

    /// PSTATE or SPSR_EL1.
    fn state(&self, state: StepState) -> Result<Outcome, Unknown> {
        let rule =
            if self.was_stepped { &rule::GUEST_DEBUG_KEEPS_STEP } else { &rule::ONE_REG_IS_THE_REGISTER };
        match (self.states.get(&state), state) {
            (Some(value), _) => Ok(Outcome::value(*value, u64::MAX, rule)),
            (None, StepState::Pstate) if self.waits => {
                Ok(Outcome::value(pstate::EL1H_MASKED, SPSR_COMPARED, rule))
            }
            _ => Err(Unknown("a state that userspace has not written")),
        }
    }

    /// What the last KVM_RUN told userspace.
    fn run_field(&self, field: RunField) -> Result<Outcome, Unknown> {
        const FLAG: u64 = RunField::HSR_HIGH_VALID;
        let (value, mask) = match field {
            RunField::Flags if self.waits => (0, FLAG),
            RunField::DebugFlags if self.has_exited => (FLAG, FLAG),
            RunField::HsrHigh if self.has_exited => (0, u64::MAX),
            _ => return Err(Unknown("a field of an exit that has not happened")),
        };
        Ok(Outcome::value(value, mask, &rule::GUEST_DEBUG_EXIT_FIELDS))
    }
}

/// A write of an ID register whose answer decides what it holds.
#[derive(Clone, Debug)]
struct Pending {
    reg: SysReg,
    before: u64,
    accepted: u64,
}

/// The last write of an ID register, for the words of a mismatch.
#[derive(Clone, Copy, Debug)]
struct Last {
    reg: SysReg,
    value: u64,
    /// The errno of a refusal.
    refused: Option<i32>,
    /// What the register held, if a vCPU had run.
    frozen: Option<u64>,
}

/// A VM.
#[derive(Clone, Debug)]
pub struct Vm {
    facts: Arc<Facts>,
    vcpus: Vec<Vcpu>,
    current: u8,
    /// The ID registers that do not hold what KVM gave.
    written: BTreeMap<SysReg, u64>,
    /// The last of each operation that says how code is called: the payload's program has these, not a vCPU.
    modes: Vec<Op>,
    /// The rule by which the ID registers keep their values, if a vCPU has run.
    started: Option<&'static Rule>,
    /// Values of fields that KVM accepted though it should not: the register, the field's lowest bit and the value.
    learned: BTreeSet<(SysReg, u8, u8)>,
    pending: Option<Pending>,
    last: Option<Last>,
}

impl Vm {
    /// A VM without vCPUs.
    pub fn new(facts: Arc<Facts>) -> Self {
        Self {
            facts,
            vcpus: Vec::new(),
            current: 0,
            written: BTreeMap::new(),
            modes: Vec::new(),
            started: None,
            learned: BTreeSet::new(),
            pending: None,
            last: None,
        }
    }

    /// The number of the current vCPU.
    pub const fn current(&self) -> u8 {
        self.current
    }

    /// What an ID register holds.
    pub fn holds(&self, reg: SysReg) -> u64 {
        self.written.get(&reg).copied().unwrap_or_else(|| self.facts.default(reg))
    }

    /// The shape that the guest is shown.
    pub fn shape(&self) -> Shape {
        Shape::from_id_aa64dfr0(self.holds(ID_AA64DFR0_EL1))
    }

    fn new_pe(&self) -> Result<Pe, Unknown> {
        let pe = Pe::new(self.shape()).with_host(self.facts.shape());
        let mut pe = self.facts.zva_block.map_or(pe.clone(), |bytes| pe.with_zva_block(bytes));
        self.modes.iter().try_for_each(|op| pe.step(*op).map(drop))?;
        Ok(pe)
    }

    /// Code is called in another way from here on, on each vCPU.
    fn mode(&mut self, op: Op) -> Result<Outcome, Unknown> {
        self.modes.retain(|other| core::mem::discriminant(other) != core::mem::discriminant(&op));
        self.modes.push(op);
        let current = self.vcpu()?.pe.clone().step(op);
        self.vcpus.iter_mut().try_for_each(|vcpu| vcpu.pe.step(op).map(drop))?;
        current
    }

    fn vcpu(&mut self) -> Result<&mut Vcpu, Unknown> {
        self.vcpus
            .get_mut(usize::from(self.current))
            .ok_or(Unknown("an operation of a vCPU that was not created"))
    }

    fn is_initialised(&self) -> Result<bool, Unknown> {
        let vcpu = self.vcpus.get(usize::from(self.current));
        vcpu.map(|vcpu| vcpu.initialised).ok_or(Unknown("an operation of a vCPU that was not created"))
    }

    fn vmm(&mut self, op: Vmm) -> Result<Outcome, Unknown> {
        match op {
            Vmm::Create => {
                let pe = self.new_pe()?;
                self.vcpus.push(Vcpu::new(pe));
                Ok(Outcome::silent(&rule::ID_NEEDS_INIT))
            }
            Vmm::Use(n) => {
                self.current = n;
                self.vcpu().map(|_| Outcome::silent(&rule::ID_VM_SCOPED))
            }
            Vmm::Init(features) if features != self.facts.features => {
                Err(Unknown("a vCPU with other features than its VM's"))
            }
            Vmm::Init(features) => {
                let pe = self.new_pe()?;
                let vcpu = self.vcpu()?;
                let complete = vcpu.complete || features.completion().is_none();
                *vcpu = Vcpu { initialised: true, complete, ..Vcpu::new(pe) };
                Ok(Outcome::silent(&rule::ID_KEPT_BY_INIT))
            }
            Vmm::Complete(features) => {
                let vcpu = self.vcpu()?;
                if !vcpu.initialised || vcpu.complete || features.completion().is_none() {
                    return Err(Unknown("a completion of a vCPU that does not need one"));
                }
                vcpu.complete = true;
                Ok(Outcome::silent(&rule::ID_KEPT_BY_INIT))
            }
            Vmm::Run if !self.is_initialised()? => Ok(refused(&[ENOEXEC], &rule::ID_NEEDS_INIT)),
            Vmm::Run if !self.vcpu()?.complete => {
                self.started.get_or_insert(&rule::ID_FROZEN_BY_FAILED_RUN);
                let events = Vec::from([Expected::RefusedExcept(EINTR)]);
                Ok(Outcome::certain(events, &rule::ID_FROZEN_BY_FAILED_RUN))
            }
            Vmm::Run => {
                self.vcpu()?.waits = false;
                self.started.get_or_insert(&rule::ID_FROZEN_BY_IMMEDIATE_EXIT);
                Ok(refused(&[EINTR], &rule::ID_FROZEN_BY_IMMEDIATE_EXIT))
            }
            Vmm::MaskRanges => Ok(Outcome::value(self.facts.mask_ranges, u64::MAX, &rule::MASKS_ARGUMENTS)),
            Vmm::Masks(request) => Ok(self.masks(request)),
            Vmm::Mask(reg) => self.mask(reg),
            Vmm::Lists(reg) => {
                let is_guests =
                    reg.debug_number().is_some_and(|_| !Pe::new(self.shape()).is_beyond_count(reg));
                match is_guests || [MDSCR_EL1, OSLSR_EL1].contains(&reg) || DEBUG_FEATURES.contains(&reg) {
                    true => Ok(Outcome::value(1, u64::MAX, &rule::ONE_REG_LISTED)),
                    false => Err(Unknown("whether KVM lists this register")),
                }
            }
            Vmm::SetState(state, value) => {
                let vcpu = self.vcpu()?;
                vcpu.waits = false;
                vcpu.states.insert(state, value);
                Ok(Outcome::silent(&rule::ONE_REG_IS_THE_REGISTER))
            }
            Vmm::GetState(state) => self.vcpu()?.state(state),
            Vmm::RunField(field) => self.vcpu()?.run_field(field),
        }
    }

    fn masks(&self, MaskRequest { range, reserved, unmapped }: MaskRequest) -> Outcome {
        let rule = &rule::MASKS_ARGUMENTS;
        let ranges = self.facts.mask_ranges;
        let supported = range < u64::BITS && ranges >> range & 1 == 1;
        if ranges == 0 {
            // An ioctl that does not exist: what it is refused with is not said.
            let events = Vec::from([Expected::RefusedExcept(0)]);
            return Outcome::certain(events, rule);
        }
        match reserved.is_none_or(|(_, word)| word == 0) && supported {
            false => refused(&[EINVAL], rule),
            true if unmapped => refused(&[EFAULT], rule),
            true => Outcome::silent(rule),
        }
    }

    /// What the writable mask of an ID register may be: it covers whole fields, and those that it covered once.
    fn mask(&self, reg: SysReg) -> Result<Outcome, Unknown> {
        let known = self.facts.known.get(&reg).copied().unwrap_or(0);
        let mask = match self.facts.writable(reg) {
            Writable::Mask(mask) => mask,
            Writable::Unknown if known != 0 => 0,
            Writable::Unknown => return Err(Unknown("a writable mask under a kernel that has none")),
        };
        if id_register::is_aarch32(reg) && !self.facts.has_aarch32() {
            return Ok(Outcome::value(0, u64::MAX, &rule::MASKS_ARE_NO_MORE));
        }
        let in_mask = fields(reg).iter().filter(|field| mask & field.mask() != 0);
        let whole = in_mask.fold(mask, |mask, field| mask | field.mask());
        let rule = if known & !mask == 0 { &rule::ID_MASK_COVERS_FIELDS } else { &rule::MASKS_KEEP_FIELDS };
        Ok(Outcome::value(whole | known, u64::MAX, rule))
    }

    /// A write of a register that is not an ID register.
    fn set_other(&mut self, reg: SysReg, value: u64) -> Result<Outcome, Unknown> {
        let own = self.facts.listed.get(&reg) == Some(&value);
        let is_aarch32 = reg == DBGVCR32_EL2 && self.facts.features == Features::AArch32;
        let vcpu = self.vcpu()?;
        vcpu.stored.insert(reg, value);
        match vcpu.pe.step(Op::KvmSet { reg, value }) {
            Err(_) if own => Ok(Outcome::silent(&rule::ONE_REG_LISTED)),
            Err(_) if is_aarch32 => Ok(Outcome::silent(&rule::ONE_REG_IS_THE_REGISTER)),
            outcome => outcome,
        }
    }

    /// A read of a register that is not an ID register. What userspace wrote is there until the guest runs.
    fn get_other(&mut self, reg: SysReg) -> Result<Outcome, Unknown> {
        let vcpu = self.vcpu()?;
        let bits = match reg.debug_number() {
            Some((DebugRegister::Bvr | DebugRegister::Wvr, _)) => !0b11,
            Some((DebugRegister::Bcr, _)) => BCR,
            Some((DebugRegister::Wcr, _)) => WCR,
            None if reg == DBGVCR32_EL2 => u64::MAX,
            None => 0,
        };
        match vcpu.stored.get(&reg) {
            Some(value) if bits != 0 => Ok(Outcome::value(*value, bits, &rule::ONE_REG_IS_THE_REGISTER)),
            _ => vcpu.pe.step(Op::KvmGet { reg }),
        }
    }

    fn set(&mut self, reg: SysReg, value: u64, any_answer: bool) -> Result<Outcome, Unknown> {
        if !self.is_initialised()? {
            return Ok(refused(&[ENOEXEC], &rule::ID_NEEDS_INIT));
        }
        if self.facts.register(reg).is_none() {
            return Err(Unknown("an ID register that KVM does not list"));
        }
        let before = self.holds(reg);
        self.last = Some(Last { reg, value, refused: None, frozen: self.started.map(|_| before) });
        let allowed = match self.started {
            Some(_) => self.late(reg, value)?,
            None => self.early(reg, value)?,
        };
        let Answers { accepted, refused, reads_back, rule } = allowed;
        let after = if self.started.is_some() { before } else { reads_back };
        self.pending = Some(Pending { reg, before, accepted: after });
        let mut ways: Vec<Vec<Expected>> = Vec::new();
        if accepted {
            ways.push(Vec::new());
        }
        ways.extend(refused.iter().map(|errno| Vec::from([Expected::Refused(*errno)])));
        if any_answer {
            ways = Vec::from([Vec::new(), Vec::from([Expected::RefusedExcept(0)])]);
        }
        let mut ways = ways.into_iter();
        let events = ways.next().ok_or(Unknown("a write without an answer"))?;
        self.take(events.is_empty());
        Ok(Outcome { events, or: ways.collect(), rule })
    }

    /// The register holds what follows from the answer.
    fn take(&mut self, accepted: bool) {
        let Some(Pending { reg, before, accepted: after }) = &self.pending else { return };
        let value = if accepted { *after } else { *before };
        match value == self.facts.default(*reg) {
            true => self.written.remove(reg),
            false => self.written.insert(*reg, value),
        };
        let shape = self.shape();
        self.vcpus.iter_mut().for_each(|vcpu| vcpu.pe.show(shape));
    }

    /// KVM did accept the last write: if it should have refused the value of a field alone, this is learned.
    fn learn(&mut self) {
        let Some(Last { reg, value, frozen: None, .. }) = self.last else { return };
        let (default, writable) = (self.facts.default(reg), self.facts.writable(reg));
        if let [(field, value)] = changes(reg, value, default)[..]
            && !allowed(field, value, default, writable).accepted
        {
            self.learned.insert((reg, field.lsb, value));
        }
    }

    /// The answers to a write before any vCPU has run.
    fn early(&self, reg: SysReg, value: u64) -> Result<Answers, Unknown> {
        let (default, writable) = (self.facts.default(reg), self.facts.writable(reg));
        let before = self.holds(reg);
        if id_register::is_aarch32(reg) && !self.facts.has_aarch32() {
            let refused: &[i32] = if reg == ID_DFR0_EL1 { &[] } else { &[EINVAL] };
            return Ok(Answers {
                accepted: true,
                refused,
                reads_back: before,
                rule: &rule::ID_AARCH32_ABSENT,
            });
        }
        let changes = changes(reg, value, default);
        let known = fields(reg).iter().fold(0, |bits, field| bits | field.mask());
        let flipped = value ^ default;
        if flipped == 0 {
            return Ok(Answers::accepted(value, &rule::ID_DEFAULT_ACCEPTED));
        }
        if flipped & !known == 0 {
            let AllowedWhole { mut accepted, mut refused, reads_back } =
                allowed_together(&changes, default, writable);
            // What KVM accepts alone, though it should not, it may accept together with others.
            if changes.iter().any(|(field, value)| self.learned.contains(&(reg, field.lsb, *value))) {
                (accepted, refused) = (true, true);
            }
            let of = |(field, value): &(&Field, u8)| allowed(field, *value, default, writable);
            let rules = || changes.iter().map(of);
            let rule = match rules().find(|allowed| !allowed.accepted).or_else(|| rules().next()) {
                Some(allowed) if changes.len() == 1 => allowed.rule,
                _ => &rule::ID_FIELDS_TOGETHER,
            };
            return Ok(Answers {
                accepted,
                refused: if refused { &[EINVAL] } else { &[] },
                reads_back,
                rule,
            });
        }
        match writable {
            Writable::Mask(mask) if flipped & mask == 0 && DEBUG_FEATURES.contains(&reg) => {
                Ok(Answers::refused(&[EINVAL], before, &rule::ID_READ_ONLY_REFUSED))
            }
            Writable::Mask(mask) if flipped & mask == 0 => {
                let rule = &rule::MASKS_TELL_WHAT_CHANGES;
                Ok(Answers { accepted: true, refused: &[EINVAL], reads_back: before, rule })
            }
            Writable::Mask(mask) if flipped & !mask != 0 && DEBUG_FEATURES.contains(&reg) => {
                Ok(Answers::refused(&[EINVAL], before, &rule::ID_READ_ONLY_REFUSED))
            }
            Writable::Mask(mask) if flipped & !mask != 0 => {
                let inside = before & !mask | value & mask;
                let rule = &rule::MASKS_TELL_WHAT_CHANGES;
                Ok(Answers { accepted: true, refused: &[EINVAL], reads_back: inside, rule })
            }
            _ => Ok(Answers {
                accepted: true,
                refused: &[EINVAL],
                reads_back: value,
                rule: &rule::ID_READS_BACK,
            }),
        }
    }

    /// The answers to a write after a vCPU has run, which changes nothing.
    fn late(&self, reg: SysReg, value: u64) -> Result<Answers, Unknown> {
        const ANY: &[i32] = &[EBUSY, EINVAL];
        let (default, writable) = (self.facts.default(reg), self.facts.writable(reg));
        let frozen = self.holds(reg);
        let started = self.started.unwrap_or(&rule::ID_FROZEN_BY_RUN);
        if id_register::is_aarch32(reg) && !self.facts.has_aarch32() {
            let refused: &[i32] = if reg == ID_DFR0_EL1 { &[] } else { ANY };
            return Ok(Answers {
                accepted: true,
                refused,
                reads_back: frozen,
                rule: &rule::ID_AARCH32_ABSENT,
            });
        }
        if value == frozen && gic(reg) != 0 {
            return Ok(Answers { accepted: true, refused: &[EBUSY], reads_back: frozen, rule: started });
        }
        if value == frozen {
            return Ok(Answers::accepted(frozen, started));
        }
        if writable == Writable::Unknown && !DEBUG_FEATURES.contains(&reg) {
            return Err(Unknown("a late write of an ID register under a kernel without masks"));
        }
        let changes = changes(reg, value, frozen);
        let known = fields(reg).iter().fold(0, |bits, field| bits | field.mask());
        if known == 0 || (value ^ frozen) & !known != 0 {
            return Ok(Answers { accepted: true, refused: ANY, reads_back: frozen, rule: started });
        }
        if let [(field, value)] = changes[..] {
            let (answers, rule) = allowed_late(field, value, frozen, default, writable);
            let accepted = answers.contains(&Answer::Accepted);
            let busy: &[i32] = if answers.contains(&Answer::Refused(EINVAL)) { ANY } else { &[EBUSY] };
            let refused = if answers.contains(&Answer::Refused(EBUSY)) { busy } else { &[] };
            let rule = if rule == &rule::ID_FROZEN_BY_RUN { started } else { rule };
            return Ok(Answers { accepted, refused, reads_back: frozen, rule });
        }
        let legal = |(field, value): &(&Field, u8)| allowed(field, *value, default, writable).accepted;
        let imp_def = |(field, value): &(&Field, u8)| id_write::is_imp_def_pmu(field, *value);
        let certain =
            changes.iter().all(legal) && !changes.iter().any(imp_def) && !id_write::is_impossible(reg, value);
        let busy = allowed_after_run(value, frozen, writable).len() == 1;
        let refused: &[i32] = if certain && busy { &[EBUSY] } else { ANY };
        let rule = if certain { started } else { &rule::ID_LATE_AND_ILLEGAL };
        Ok(Answers::refused(refused, frozen, rule))
    }

    fn get(&self, reg: SysReg) -> Result<Outcome, Unknown> {
        if !self.is_initialised()? {
            return Ok(refused(&[ENOEXEC], &rule::ID_NEEDS_INIT));
        }
        let rule = self.started.unwrap_or(&rule::ID_READS_BACK);
        self.value(reg, rule)
    }

    fn value(&self, reg: SysReg, rule: &'static Rule) -> Result<Outcome, Unknown> {
        if self.facts.register(reg).is_none() {
            return Err(Unknown("an ID register that KVM does not list"));
        }
        // Kernels without the masks keep one version of the PMU for both registers.
        let of_pmu = match reg {
            ID_AA64DFR0_EL1 => dfr0::PMUVER.mask(),
            ID_DFR0_EL1 => id_dfr0::PERFMON.mask(),
            _ => 0,
        };
        let other = if reg == ID_DFR0_EL1 { ID_AA64DFR0_EL1 } else { ID_DFR0_EL1 };
        if !self.written.contains_key(&reg)
            && let Some((rule, right)) = self.facts.wrong(reg)
        {
            let mut right =
                right.into_iter().map(|value| Vec::from([Expected::Value { value, mask: u64::MAX }]));
            return Ok(Outcome { events: right.next().unwrap_or_default(), or: right.collect(), rule });
        }
        let moved = self.facts.writable(reg) == Writable::Unknown && self.written.contains_key(&other);
        let of_gic = if self.started.is_some() { gic(reg) } else { 0 };
        Ok(Outcome::value(self.holds(reg), !of_gic & if moved { !of_pmu } else { u64::MAX }, rule))
    }

    /// The guest executes on the current vCPU.
    fn guest(&mut self, op: Op) -> Result<Outcome, Unknown> {
        if !self.is_initialised()? || !self.vcpu()?.complete {
            return Err(Unknown("a guest on a vCPU that cannot run"));
        }
        self.started.get_or_insert(&rule::ID_FROZEN_BY_RUN);
        let vcpu = self.vcpu()?;
        vcpu.stored.clear();
        vcpu.states.clear();
        vcpu.waits = true;
        let outcome = self.executed(op)?;
        let is_exit = |event: &Expected| matches!(event, Expected::DebugExit { optional: false, .. });
        self.vcpu()?.has_exited |= outcome.or.is_empty() && outcome.events.iter().any(is_exit);
        Ok(outcome)
    }

    /// What the guest executes.
    fn executed(&mut self, op: Op) -> Result<Outcome, Unknown> {
        match op {
            Op::Read { reg } if reg.is_id_register() && self.facts.register(reg).is_some() => {
                self.value(reg, &rule::ID_GUEST_READS)
            }
            Op::Read { reg } => match promise::of(reg) {
                Some(promise) => Ok(self.promised(promise)),
                None => self.vcpu()?.pe.step(op),
            },
            Op::MaskDebug(_) | Op::Level(_) | Op::Enter(_) => self.mode(op),
            Op::Run { sequence, .. } if sequence.reads_pmcr() && self.features().has_pmu() => {
                Err(Unknown("a piece of code that needs a VM without a PMU"))
            }
            _ => self.vcpu()?.pe.step(op),
        }
    }

    fn features(&self) -> DebugFeatures {
        DebugFeatures {
            id_aa64dfr0: self.holds(ID_AA64DFR0_EL1),
            id_aa64dfr1: self.holds(ID_AA64DFR1_EL1),
            id_aa64dfr2: self.holds(ID_AA64DFR2_EL1),
        }
    }

    fn promised(&self, promise: &Promise) -> Outcome {
        let rule = &rule::ID_FIELDS_ARE_PROMISES;
        let value = |mask| Expected::Value { value: 0, mask };
        if promise.is_made_by(self.features()) {
            return Outcome::certain(Vec::from([value(0)]), rule);
        }
        let or = if promise.may_be_raz { Vec::from([Vec::from([value(u64::MAX)])]) } else { Vec::new() };
        Outcome { events: Vec::from([Expected::Undefined]), or, rule }
    }

    /// The VM in the words of what it promises.
    fn kind(&self) -> &'static str {
        let pmuver = |register| dfr0::PMUVER.get(register);
        match self.facts.features {
            Features::Pmu
                if pmuver(self.holds(ID_AA64DFR0_EL1)) != pmuver(self.facts.default(ID_AA64DFR0_EL1)) =>
            {
                "a VM with a lesser PMUVer"
            }
            Features::Pmu => "a VM with a PMU",
            _ => "a VM without a PMU",
        }
    }

    /// A mask that is not as it must be, in words that hold on any host.
    fn mask_in_words(&self, reg: SysReg, events: &[Event]) -> String {
        let &[Event::Value(mask)] = events else { return format!("{reg} has no writable mask") };
        if id_register::is_aarch32(reg) && !self.facts.has_aarch32() {
            return "a register of AArch32 has a writable mask".into();
        }
        let known = self.facts.known.get(&reg).copied().unwrap_or(0);
        let lost = fields(reg).iter().filter(|field| known & !mask & field.mask() != 0);
        let lost: Vec<&str> = lost.map(|field| field.name).collect();
        if !lost.is_empty() {
            return format!("{reg}.{} cannot be written any more", lost.join(", "));
        }
        let part = fields(reg).iter().filter(|field| ![0, field.mask()].contains(&(mask & field.mask())));
        let part: Vec<&str> = part.map(|field| field.name).collect();
        format!("{} is in the mask in part", part.join(", "))
    }

    /// A write and its answer, in words that hold on any host.
    fn write_in_words(&self, Last { reg, value, refused, frozen }: Last) -> String {
        let default = self.facts.default(reg);
        let what = match (frozen, &changes(reg, value, default)[..]) {
            (Some(frozen), _) if value == frozen => "the same value".into(),
            (Some(_), _) => "another value".into(),
            _ if value == default => format!("the value that KVM gave to {reg}"),
            (_, [(field, value)]) => format!("{} {value:#06b}", field.name),
            (_, [(one, _), (other, _)]) => format!("{} and {} at once", one.name, other.name),
            _ => format!("a value of {reg}"),
        };
        match refused {
            None => format!("{what} accepted"),
            Some(errno) => format!("{what} refused with errno {errno}"),
        }
    }
}

impl Model for Vm {
    fn step(&mut self, op: Op) -> Result<Outcome, Unknown> {
        self.pending = None;
        if op.is_hosts()
            && let Ok(vcpu) = self.vcpu()
        {
            // Userspace has the vCPU.
            vcpu.pe.step(Op::Exit)?;
        }
        match op {
            Op::Vmm(op) => self.vmm(op),
            Op::KvmSet { reg, value } if reg.is_id_register() => self.set(reg, value, false),
            Op::KvmTry { reg, value } if reg.is_id_register() => self.set(reg, value, true),
            Op::KvmTry { .. } => {
                Err(Unknown("any answer to a write of a register that is not an ID register"))
            }
            Op::KvmGet { reg } if reg.is_id_register() => self.get(reg),
            Op::KvmSet { .. } | Op::KvmGet { .. } if !self.is_initialised()? => {
                Ok(refused(&[ENOEXEC], &rule::ID_NEEDS_INIT))
            }
            Op::KvmSet { reg, value } => self.set_other(reg, value),
            Op::KvmGet { reg } => self.get_other(reg),
            Op::Migrate(to) => {
                if !self.is_initialised()? || !self.vcpu()?.complete {
                    return Err(Unknown("a move of a vCPU that cannot run"));
                }
                if to == Migrate::FreshVm {
                    // The runner lets another vCPU of the new VM run, and the other vCPUs stay behind.
                    self.started.get_or_insert(&rule::ID_FROZEN_BY_RUN);
                    self.vcpus = Vec::from([self.vcpu()?.clone()]);
                    self.current = 0;
                }
                let vcpu = self.vcpu()?;
                vcpu.waits = false;
                vcpu.pe.step(op)
            }
            Op::Debug(debug) => {
                let vcpu = self.vcpu()?;
                vcpu.was_stepped |= debug.has(ENABLE | SINGLESTEP);
                vcpu.pe.step(op)
            }
            op if op.is_hosts() && op != Op::Exit => self.vcpu()?.pe.step(op),
            op => self.guest(op),
        }
    }

    fn saw(&mut self, events: &[Event]) {
        if self.pending.is_none() {
            return;
        }
        self.take(events.is_empty());
        if events.is_empty() {
            self.learn();
        }
        if let (Some(last), [Event::Refused(errno)]) = (&mut self.last, events) {
            last.refused = Some(*errno);
        }
    }

    fn words(&self, op: Op, events: &[Event]) -> Option<String> {
        match op {
            Op::KvmSet { reg, .. } | Op::KvmTry { reg, .. } if reg.is_id_register() => {
                let refused = match events {
                    [Event::Refused(errno)] => Some(*errno),
                    _ => None,
                };
                self.last.map(|last| self.write_in_words(Last { refused, ..last }))
            }
            Op::KvmGet { reg } | Op::Read { reg } if reg.is_id_register() => {
                if !self.written.contains_key(&reg) && self.facts.wrong(reg).is_some() {
                    return Some(format!(
                        "KVM gave {reg} a value that no VM with {} should have",
                        self.facts.features
                    ));
                }
                let who = if matches!(op, Op::Read { .. }) { "the guest" } else { "userspace" };
                let after = self.last.map_or_else(String::new, |last| self.write_in_words(last) + ", then ");
                let what = match events {
                    [Event::Refused(errno)] => format!("is refused {reg} with errno {errno}"),
                    _ => format!("reads {reg} otherwise"),
                };
                Some(format!("{after}{who} {what}"))
            }
            Op::Vmm(Vmm::Mask(reg)) => Some(self.mask_in_words(reg, events)),
            Op::Vmm(Vmm::GetState(state)) => Some(format!("userspace reads {state} otherwise")),
            Op::Vmm(Vmm::Lists(_)) => Some("a register of the guest's is not listed".into()),
            Op::Vmm(Vmm::Masks(request)) => Some(match events {
                [] => format!("{request}: accepted"),
                [Event::Refused(errno)] => format!("{request}: refused with errno {errno}"),
                _ => format!("{request}: another answer"),
            }),
            Op::Read { reg } => {
                let Promise { fields, .. } = promise::of(reg)?;
                let kind = self.kind();
                Some(match events {
                    [Event::Value(_)] => {
                        format!("{reg} can be read in {kind}, where {fields} does not promise it")
                    }
                    [Event::Exception(taken)] if taken.esr == ESR_UNDEFINED => {
                        format!("{reg} is UNDEFINED in {kind}, where {fields} promises it")
                    }
                    _ => {
                        format!("{reg} causes another exception in {kind} than an UNDEFINED instruction does")
                    }
                })
            }
            _ => None,
        }
    }
}

/// What KVM may answer to a write.
struct Answers {
    accepted: bool,
    /// The errnos of a refusal.
    refused: &'static [i32],
    /// What the register reads as after the value was accepted.
    reads_back: u64,
    rule: &'static Rule,
}

impl Answers {
    fn accepted(reads_back: u64, rule: &'static Rule) -> Self {
        Self { accepted: true, refused: &[], reads_back, rule }
    }

    fn refused(refused: &'static [i32], reads_back: u64, rule: &'static Rule) -> Self {
        Self { accepted: false, refused, reads_back, rule }
    }
}

/// Refused with one of these errnos.
fn refused(errnos: &[i32], rule: &'static Rule) -> Outcome {
    let mut ways = errnos.iter().map(|errno| Vec::from([Expected::Refused(*errno)]));
    Outcome { events: ways.next().unwrap_or_default(), or: ways.collect(), rule }
}

/// The fields in which `value` differs from `from`, and their values.
fn changes(reg: SysReg, value: u64, from: u64) -> Vec<(&'static Field, u8)> {
    let fields = fields(reg).iter().filter(|field| field.get(value) != field.get(from));
    fields.map(|field| (*field, field.get(value))).collect()
}

impl Scenario {
    /// A VM with one initialised vCPU that can run.
    pub fn vm(features: Features) -> Self {
        Self::new().creates_vcpu().initialises(features)
    }

    /// KVM_CREATE_VCPU.
    pub fn creates_vcpu(self) -> Self {
        self.then(Op::Vmm(Vmm::Create))
    }

    /// KVM_ARM_VCPU_INIT.
    pub fn inits(self, features: Features) -> Self {
        self.then(Op::Vmm(Vmm::Init(features)))
    }

    /// What the features need after the first KVM_ARM_VCPU_INIT.
    pub fn completes(self, features: Features) -> Self {
        match features.completion() {
            Some(_) => self.then(Op::Vmm(Vmm::Complete(features))),
            None => self,
        }
    }

    /// The first KVM_ARM_VCPU_INIT, and what the features need after it.
    pub fn initialises(self, features: Features) -> Self {
        self.inits(features).completes(features)
    }

    /// From here on operations are this vCPU's.
    pub fn on_vcpu(self, n: u8) -> Self {
        self.then(Op::Vmm(Vmm::Use(n)))
    }

    /// KVM_RUN with `immediate_exit`.
    pub fn enters_and_leaves(self) -> Self {
        self.then(Op::Vmm(Vmm::Run))
    }

    /// KVM_SET_ONE_REG.
    pub fn sets(self, reg: SysReg, value: u64) -> Self {
        self.then(Op::KvmSet { reg, value })
    }

    /// KVM_SET_ONE_REG of an ID register, whatever it answers.
    pub fn tries(self, reg: SysReg, value: u64) -> Self {
        self.then(Op::KvmTry { reg, value })
    }

    /// KVM_GET_ONE_REG.
    pub fn gets(self, reg: SysReg) -> Self {
        self.then(Op::KvmGet { reg })
    }

    /// The writable mask of an ID register.
    pub fn mask_of(self, reg: SysReg) -> Self {
        self.then(Op::Vmm(Vmm::Mask(reg)))
    }

    /// Whether KVM_GET_REG_LIST lists a register.
    pub fn lists(self, reg: SysReg) -> Self {
        self.then(Op::Vmm(Vmm::Lists(reg)))
    }

    /// KVM_SET_ONE_REG of a state.
    pub fn sets_state(self, state: StepState, value: u64) -> Self {
        self.then(Op::Vmm(Vmm::SetState(state, value)))
    }

    /// KVM_GET_ONE_REG of a state.
    pub fn gets_state(self, state: StepState) -> Self {
        self.then(Op::Vmm(Vmm::GetState(state)))
    }

    /// What KVM_RUN has told userspace.
    pub fn run_field(self, field: RunField) -> Self {
        self.then(Op::Vmm(Vmm::RunField(field)))
    }

    /// KVM_GET_ONE_REG of each.
    pub fn gets_each(self, registers: impl IntoIterator<Item = SysReg>) -> Self {
        registers.into_iter().fold(self, Self::gets)
    }

    /// The features of the VM that the scenario makes; `None` if it does not make one.
    pub fn features(&self) -> Option<Features> {
        let makes = self.ops().iter().any(|op| matches!(op, Op::Vmm(_)));
        let init = self.ops().iter().find_map(|op| match op {
            Op::Vmm(Vmm::Init(features)) => Some(*features),
            _ => None,
        });
        makes.then(|| init.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dfr0::{CTX_CMPS, DOUBLELOCK, PMUVER, WRPS},
        event::Logged,
        guest_debug::GuestDebug,
        judge::judge,
    };
    use alloc::{string::ToString, vec};

    /// Six breakpoints, four watchpoints, two context-aware, DebugVer 8, no Double Lock, no PMU.
    const DFR0: u64 = 0xf0_1030_5008;
    const MASK: u64 = 0xf0_00f0_0f0f;
    const OTHER: SysReg = SysReg::new(3, 0, 0, 6, 0);

    fn facts(features: Features) -> Arc<Facts> {
        let register = |default, mask| IdRegister { default, writable: Writable::Mask(mask) };
        let dfr0 = if features == Features::Pmu { PMUVER.with(DFR0, 5) } else { DFR0 };
        Arc::new(Facts {
            features,
            registers: BTreeMap::from([
                (ID_AA64DFR0_EL1, register(dfr0, MASK)),
                (ID_AA64PFR0_EL1, register(0x12, 0)),
                (ID_DFR0_EL1, register(0x6, u64::MAX)),
                (OTHER, register(0x10, 0xf0)),
            ]),
            mask_ranges: 1,
            masks: BTreeMap::new(),
            known: BTreeMap::from([(ID_AA64DFR0_EL1, WRPS.mask())]),
            listed: BTreeMap::from([(OSLSR_EL1, 0b1000)]),
            zva_block: None,
            without: (features != Features::None).then(|| facts(Features::None)),
        })
    }

    /// The answers that are allowed to the last operation.
    fn allowed_of(kind: &Arc<Facts>, scenario: &Scenario) -> Vec<String> {
        let mut vm = Vm::new(Arc::clone(kind));
        let mut last = None;
        for op in scenario.ops() {
            last = Some(vm.step(*op).expect("modelled"));
        }
        let last = last.expect("an operation");
        last.alternatives()
            .map(|events| events.first().map_or_else(|| "accepted".to_string(), ToString::to_string))
            .collect()
    }

    fn allowed(scenario: Scenario) -> Vec<String> {
        allowed_of(&facts(Features::None), &scenario)
    }

    fn vm() -> Scenario {
        Scenario::vm(Features::None)
    }

    fn set(scenario: Scenario, field: &Field, value: u8) -> Scenario {
        scenario.sets(ID_AA64DFR0_EL1, field.with(DFR0, value))
    }

    #[test]
    fn before_its_initialisation_a_vcpu_refuses_every_access() {
        let created = Scenario::new().creates_vcpu();
        let refused = ["refused with errno 8"];
        assert_eq!(allowed(created.clone().gets(ID_AA64DFR0_EL1)), refused);
        assert_eq!(allowed(set(created.clone(), &WRPS, 2)), refused);
        assert_eq!(allowed(created.clone().gets(MDSCR_EL1)), refused);
        assert_eq!(allowed(created.enters_and_leaves()), refused);
        assert_eq!(allowed(vm().creates_vcpu().on_vcpu(1).gets(ID_AA64DFR0_EL1)), refused);
    }

    #[test]
    fn a_value_is_answered_by_its_fields_and_what_was_accepted_reads_back() {
        assert_eq!(allowed(set(vm(), &WRPS, 2)), ["accepted"]);
        assert_eq!(allowed(set(vm(), &WRPS, 4)), ["refused with errno 22"]);
        assert_eq!(allowed(set(vm(), &dfr0::BRPS, 2)), ["refused with errno 22"], "outside of the mask");
        assert_eq!(allowed(set(vm(), &WRPS, 2).gets(ID_AA64DFR0_EL1)), ["0xf010205008"]);
        assert_eq!(allowed(set(vm(), &WRPS, 2).read(ID_AA64DFR0_EL1)), ["0xf010205008"], "by the guest");
        let both = DOUBLELOCK.with(WRPS.with(DFR0, 2), 0);
        assert_eq!(allowed(vm().sets(ID_AA64DFR0_EL1, both)), ["refused with errno 22"], "one of two");
    }

    #[test]
    fn a_run_of_any_vcpu_freezes_the_registers_and_an_initialisation_does_not_thaw_them() {
        let busy = ["refused with errno 16"];
        assert_eq!(allowed(set(vm().isb(), &WRPS, 2)), busy);
        assert_eq!(allowed(set(vm().enters_and_leaves(), &WRPS, 2)), busy);
        assert_eq!(allowed(set(vm().isb().inits(Features::None), &WRPS, 2)), busy);
        let two = vm().creates_vcpu().on_vcpu(1).inits(Features::None);
        assert_eq!(allowed(set(two.isb().on_vcpu(0), &WRPS, 2)), busy);
        assert_eq!(allowed(vm().isb().sets(ID_AA64DFR0_EL1, DFR0)), ["accepted"], "the same value");
        let late = allowed(set(vm().isb(), &WRPS, 4));
        assert_eq!(late, ["refused with errno 16", "refused with errno 22"], "illegal at any time");
    }

    #[test]
    fn userspace_reads_the_state_that_it_wrote_or_that_the_payload_waits_in() {
        let written = vm().sets_state(StepState::Pstate, 0x20_03c5);
        let stepped = written.userspace_debugs(GuestDebug::new(ENABLE | SINGLESTEP)).enters_and_leaves();
        assert_eq!(allowed(stepped.gets_state(StepState::Pstate)), ["0x2003c5"]);
        let waits = vm().isb().gets_state(StepState::Pstate);
        assert_eq!(allowed(waits), ["0x3c5 in the bits 0x3003df"]);
        let last = |scenario: Scenario| {
            let mut model = Vm::new(facts(Features::None));
            scenario.ops().iter().map(|op| model.step(*op)).last().expect("an operation")
        };
        assert!(last(vm().gets_state(StepState::Pstate)).is_err());
        assert!(last(vm().isb().enters_and_leaves().gets_state(StepState::Pstate)).is_err());
        assert!(last(vm().isb().gets_state(StepState::SpsrEl1)).is_err());
    }

    #[test]
    fn an_exit_has_told_userspace_something_when_it_has_happened() {
        let last = |scenario: Scenario| {
            let mut model = Vm::new(facts(Features::None));
            let outcome = scenario.ops().iter().map(|op| model.step(*op)).last().expect("an operation");
            outcome.map(|outcome| outcome.events)
        };
        let ran = vm().userspace_debugs(GuestDebug::breakpoint(0, 1)).exec(2);
        let exited = ran.clone().exec(1);
        let value = |value, mask| Ok(vec![Expected::Value { value, mask }]);
        assert_eq!(last(exited.clone().run_field(RunField::DebugFlags)), value(1, 1));
        assert_eq!(last(exited.clone().run_field(RunField::HsrHigh)), value(0, u64::MAX));
        assert_eq!(last(exited.clone().run_field(RunField::Flags)), value(0, 1));
        assert!(last(exited.enters_and_leaves().run_field(RunField::Flags)).is_err());
        assert_eq!(last(ran.clone().run_field(RunField::Flags)), value(0, 1));
        assert!(last(ran.run_field(RunField::DebugFlags)).is_err());
    }

    #[test]
    fn a_run_that_fails_freezes_too_and_needs_another_errno_than_that_of_an_exit() {
        let kind = facts(Features::Pmu);
        let failed = Scenario::new().creates_vcpu().inits(Features::Pmu).enters_and_leaves();
        assert_eq!(allowed_of(&kind, &failed), ["refused with an errno other than 4"]);
        let late = failed.sets(ID_AA64DFR0_EL1, WRPS.with(PMUVER.with(DFR0, 5), 2));
        assert_eq!(allowed_of(&kind, &late), ["refused with errno 16"]);
    }

    #[test]
    fn the_answer_to_an_attempt_decides_what_the_register_holds() {
        let scenario = vm().tries(ID_AA64DFR0_EL1, DOUBLELOCK.with(DFR0, 8)).gets(ID_AA64DFR0_EL1);
        let tried = scenario.ops().len() - 2;
        let judged = |answer: Option<i32>, read| {
            let refusal = answer.map(|errno| Logged { op: tried, event: Event::Refused(errno) });
            let value = Logged { op: tried + 1, event: Event::Value(read) };
            let log: Vec<_> = refusal.into_iter().chain([value]).collect();
            let mismatch = judge(Vm::new(facts(Features::None)), scenario.ops(), &log).expect("modelled");
            mismatch.map(|mismatch| mismatch.observed)
        };
        let accepted = DOUBLELOCK.with(DFR0, 8);
        assert_eq!(judged(Some(22), DFR0), None);
        assert_eq!(judged(None, accepted), None);
        let words = |answer: &str| {
            Some(["DoubleLock 0b1000 ", answer, ", then userspace reads ID_AA64DFR0_EL1 otherwise"].concat())
        };
        assert_eq!(judged(None, DFR0), words("accepted"));
        assert_eq!(judged(Some(22), accepted), words("refused with errno 22"));
    }

    #[test]
    fn what_was_accepted_alone_though_it_should_not_may_be_accepted_with_others_and_nothing_else() {
        let alone = vm().tries(ID_AA64DFR0_EL1, DOUBLELOCK.with(DFR0, 8)).sets(ID_AA64DFR0_EL1, DFR0);
        let both = alone.sets(ID_AA64DFR0_EL1, WRPS.with(DOUBLELOCK.with(DFR0, 8), 2));
        let accepts = |alone: bool, both_too: bool| {
            let refused = |op| Logged { op, event: Event::Refused(EINVAL) };
            let log: Vec<_> = [(2, alone), (4, both_too)]
                .into_iter()
                .filter(|(_, accepted)| !accepted)
                .map(|(op, _)| refused(op))
                .collect();
            let mismatch = judge(Vm::new(facts(Features::None)), both.ops(), &log).expect("modelled");
            mismatch.map(|mismatch| mismatch.observed)
        };
        assert_eq!(accepts(true, true), None);
        assert_eq!(accepts(true, false), None);
        assert_eq!(accepts(false, false), None);
        let wrong = "DoubleLock and WRPs at once accepted";
        assert_eq!(accepts(false, true), Some(wrong.into()), "it was refused alone");
    }

    #[test]
    fn a_vm_with_el2_shows_no_more_than_another_and_keeps_the_registers_of_aarch32() {
        let with = |dfr0| {
            let mut kind = (*facts(Features::El2)).clone();
            kind.registers.insert(ID_AA64DFR0_EL1, IdRegister { default: dfr0, writable: Writable::Mask(0) });
            // EL0 in AArch64 alone.
            kind.registers.insert(ID_AA64PFR0_EL1, IdRegister { default: 0x11, writable: Writable::Mask(0) });
            Arc::new(kind)
        };
        let reads = |dfr0, reg| allowed_of(&with(dfr0), &Scenario::vm(Features::El2).gets(reg));
        let less = CTX_CMPS.with(DFR0, 0);
        assert_eq!(reads(less, ID_AA64DFR0_EL1), ["0xf000305008"]);
        assert_eq!(reads(DOUBLELOCK.with(WRPS.with(less, 9), 0), ID_AA64DFR0_EL1), ["0xf000305008"]);
        assert_eq!(reads(less, ID_DFR0_EL1), ["0x6"]);
    }

    #[test]
    fn what_kvm_gives_follows_from_the_features() {
        let reads = |features| {
            let kind = facts(features);
            allowed_of(&kind, &Scenario::vm(features).gets(ID_AA64DFR0_EL1))
        };
        assert_eq!(reads(Features::None), ["0xf010305008"]);
        assert_eq!(reads(Features::Pmu), ["0xf010305508"]);
        let wrong = Facts {
            registers: BTreeMap::from([(
                ID_AA64DFR0_EL1,
                IdRegister { default: PMUVER.with(DFR0, 5), writable: Writable::Unknown },
            )]),
            ..(*facts(Features::None)).clone()
        };
        assert_eq!(allowed_of(&Arc::new(wrong), &vm().gets(ID_AA64DFR0_EL1)), ["0xf010305008"], "no PMU");
        let perfmon = allowed_of(&facts(Features::Pmu), &Scenario::vm(Features::Pmu).gets(ID_DFR0_EL1));
        assert_eq!(perfmon, ["0x5000006"], "the form of PMUVer");
    }

    #[test]
    fn a_mask_covers_whole_fields_and_what_it_covered_once() {
        assert_eq!(allowed(vm().mask_of(ID_AA64DFR0_EL1)), ["0xf000f00f0f"]);
        let partial = |mask| {
            let mut changed = (*facts(Features::None)).clone();
            let register = IdRegister { default: DFR0, writable: Writable::Mask(mask) };
            changed.registers.insert(ID_AA64DFR0_EL1, register);
            let scenario = vm().mask_of(ID_AA64DFR0_EL1);
            let log = [Logged { op: 2, event: Event::Value(mask) }];
            let mismatch = judge(Vm::new(Arc::new(changed)), scenario.ops(), &log).expect("modelled");
            mismatch.map(|mismatch| mismatch.observed)
        };
        assert_eq!(partial(MASK), None);
        let mut gone = (*facts(Features::None)).clone();
        gone.registers.insert(ID_AA64DFR0_EL1, IdRegister { default: DFR0, writable: Writable::Unknown });
        let scenario = vm().mask_of(ID_AA64DFR0_EL1);
        let mismatch = judge(Vm::new(Arc::new(gone)), scenario.ops(), &[]).expect("modelled");
        let words = mismatch.map(|mismatch| mismatch.observed);
        assert_eq!(words, Some("ID_AA64DFR0_EL1 has no writable mask".into()));
        assert_eq!(partial(MASK & !0x1), Some("DebugVer is in the mask in part".into()));
        let lost = "ID_AA64DFR0_EL1.WRPs cannot be written any more";
        assert_eq!(partial(MASK & !WRPS.mask()), Some(lost.into()));
    }

    #[test]
    fn a_bit_outside_of_the_mask_is_refused_or_ignored_and_one_of_a_debug_feature_refused() {
        assert_eq!(allowed(vm().sets(OTHER, 0x11)), ["accepted", "refused with errno 22"]);
        assert_eq!(allowed(vm().sets(OTHER, 0x11).gets(OTHER)), ["0x10"]);
        assert_eq!(allowed(vm().sets(ID_AA64DFR1_EL1, 1)), ["refused with errno 22"]);
    }

    #[test]
    fn userspace_reads_what_it_wrote_until_the_guest_runs_and_a_second_initialisation_resets() {
        let reg = crate::sysreg::dbgbcr(0);
        let odd = vm().sets(reg, 0x4000_0000_0000);
        assert_eq!(allowed(vm().sets(reg, 0x1e7).gets(reg)), ["0x1e7 in the bits 0xffe1e7"]);
        assert_eq!(allowed(odd.inits(Features::None).gets(reg))[0].split(' ').next(), Some("0x0"));
    }

    #[test]
    fn how_code_is_called_is_the_programs_and_not_a_vcpus() {
        let made = vm().then(Op::MaskDebug(false)).creates_vcpu().on_vcpu(1).inits(Features::None);
        let armed = made.breakpoint(0, 1, crate::control::Dbgbcr::address_at_el1());
        let armed = armed.enable(crate::control::Mdscr::breakpoints_at_el1()).isb().exec(1);
        assert!(allowed(armed)[0].starts_with("Breakpoint exception"), "PSTATE.D is clear here too");
    }

    #[test]
    fn a_move_to_another_vm_takes_the_registers_along_and_leaves_the_other_vcpus() {
        let moved = set(vm(), &WRPS, 2).creates_vcpu().then(Op::Migrate(Migrate::FreshVm));
        assert_eq!(allowed(moved.clone().gets(ID_AA64DFR0_EL1)), ["0xf010205008"]);
        assert_eq!(allowed(set(moved.clone(), &WRPS, 3)), ["refused with errno 16"]);
        let mut vm = Vm::new(facts(Features::None));
        let gone = moved.on_vcpu(1);
        let unknown = gone.ops().iter().find_map(|op| vm.step(*op).err());
        assert_eq!(unknown, Some(Unknown("an operation of a vCPU that was not created")));
    }

    #[test]
    fn the_arguments_of_the_masks_are_checked() {
        let of = |request| allowed(vm().then(Op::Vmm(Vmm::Masks(request))));
        let plain = MaskRequest::default();
        assert_eq!(of(plain), ["accepted"]);
        assert_eq!(of(MaskRequest { range: 1, ..plain }), ["refused with errno 22"]);
        assert_eq!(of(MaskRequest { reserved: Some((12, 1)), ..plain }), ["refused with errno 22"]);
        assert_eq!(of(MaskRequest { unmapped: true, ..plain }), ["refused with errno 14"]);
    }

    #[test]
    fn the_least_value_is_one_that_must_be_accepted() {
        let facts = facts(Features::None);
        assert_eq!(facts.least(), 0xf0_1010_5006);
        let set = Scenario::vm(Features::None).sets(ID_AA64DFR0_EL1, facts.least());
        assert_eq!(allowed_of(&facts, &set), ["accepted"]);
        assert_eq!(vec![facts.shape().watchpoints], [4]);
    }
}
