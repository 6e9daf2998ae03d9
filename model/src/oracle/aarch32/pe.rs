// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The PE: what its debug registers hold, and what an operation may cause.
//!
//! What the architecture leaves open is not compared: bits that are RES0 or UNKNOWN, and what belongs to EL2,
//! EL3 and Security states. MOE is compared only in the handler of the exception that set it: a hypervisor in
//! AArch64 saves DBGDSCRext as MDSCR_EL1, which does not have this field.

use super::{
    BKPT, DBGAUTHSTATUS, DBGCLAIMCLR, DBGCLAIMSET, DBGDCCINT, DBGDEVID, DBGDEVID1, DBGDEVID2, DBGDIDR,
    DBGDRAR, DBGDSAR, DBGDSCREXT, DBGDSCRINT, DBGOSDLR, DBGOSLAR, DBGOSLSR, DBGPRCR, DBGVCR, Event, ID_DFR0,
    LOAD, Long, Numbered, Op, Register, STORE, TTBCR, marker,
};
use crate::{
    dfr0::{BRPS, CTX_CMPS, DEBUGVER, WRPS},
    guest_debug::{GuestDebug, USE_SW_BP},
    outcome::Unknown,
    shape::Shape,
    sysreg::{DBGVCR32_EL2, DebugRegister, MDCCINT_EL1, MDSCR_EL1, OSLSR_EL1, SysReg},
};
use alloc::{vec, vec::Vec};
use core::{fmt, ops::RangeInclusive};

/// The value of DBGOSLAR that locks the OS Lock.
pub const OS_LOCK_KEY: u32 = 0xc5ac_ce55;
/// DBGDSCRext.MDBGen, which is MDSCR_EL1.MDE.
pub const MDBGEN: u32 = 1 << 15;
/// DBGDSCRext.UDCCdis, which is MDSCR_EL1.TDCC.
pub const UDCCDIS: u32 = 1 << 12;
/// TTBCR.EAE: the long descriptor format.
pub const EAE: u32 = 1 << 31;

/// DBGOSLSR.OSLK.
const OSLK: u64 = 1 << 1;
/// DBGOSLSR.OSLM with the value 0b10.
const OSLM: u64 = 1 << 3;
/// U, S, P, D, I and F of DBGVCR without EL3. With EL3 the Secure ones are at the same bits.
const VECTORS: u64 = 0b1101_1110;
/// RX and TX of DBGDCCINT.
const DCC_INTERRUPTS: u64 = 0b11 << 29;
/// E, PMC, BAS, HMC, SSC and BT of DBGBCR<n>; LBN is UNKNOWN unless the breakpoint is linked.
const BCR: u64 = 0x00f0_e1e7;
const BCR_BAS: u64 = 0b1111 << 5;
/// E, PAC, LSC, BAS, HMC, SSC, WT and MASK of DBGWCR<n>, without LBN.
const WCR: u64 = 0x1f10_ffff;
const WCR_BAS: u64 = 0b1111_1111 << 5;
const WCR_UPPER_BAS: u64 = 0b1111 << 9;
/// DBGBCR<n>.E and DBGWCR<n>.E.
const E: u64 = 1;
/// DBGBCR<n>.PMC and DBGWCR<n>.PAC, and the values of either that select PL1.
const PRIVILEGES: u64 = 0b11 << 1;
const PL1: u64 = 0b01 << 1;
const PL1_AND_PL0: u64 = 0b11 << 1;
const VA: u64 = 0xffff_fffc;
const LOWER: u64 = 0xffff_ffff;
/// ESR_EL2 of a BKPT with the immediate 0: EC 0x38, and IL.
const ESR_BKPT: u64 = 0x38 << 26 | 1 << 25;

/// DBGDSCRext.MOE of a breakpoint, BKPT and a watchpoint.
const MOE_BREAKPOINT: u32 = 0b0001;
const MOE_BKPT: u32 = 0b0011;
const MOE_WATCHPOINT: u32 = 0b1010;

/// An allowed outcome of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The operation completes.
    Done,
    /// The operation reads this value in the defined bits.
    Value {
        /// The bits that are defined.
        defined: u64,
        /// The value of these bits.
        value: u64,
    },
    /// An Undefined Instruction exception.
    Undefined,
    /// A Prefetch Abort exception, of a breakpoint or of BKPT.
    PrefetchAbort(Debug),
    /// A Data Abort exception, of a watchpoint.
    DataAbort {
        /// What the exception reports.
        debug: Debug,
        /// The range of DFAR.
        far: RangeInclusive<u32>,
    },
}

/// What a debug exception reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debug {
    /// LR_abt.
    pub lr: u32,
    /// The bits of the fault status register that are defined.
    pub defined: u32,
    /// The value of these bits.
    pub fsr: u32,
    /// DBGDSCRext.MOE.
    pub moe: u32,
}

impl Debug {
    /// M and T of SPSR_abt.
    const SPSR_DEFINED: u32 = 0b11_1111;
    /// Their value: Supervisor mode, in A32.
    const SPSR: u32 = 0b01_0011;

    /// What an exception reports wrongly, apart from FAR.
    fn departures(&self, abort: &super::Abort) -> Vec<Departure> {
        let (fsr, moe) = (abort.fsr & self.defined, abort.dbgdscr >> 2 & 0b1111);
        let wrong = [
            (abort.lr != self.lr).then_some(Departure::Lr),
            (abort.spsr & Self::SPSR_DEFINED != Self::SPSR).then_some(Departure::Spsr),
            (fsr != self.fsr).then_some(Departure::Fsr(fsr)),
            (moe != self.moe).then_some(Departure::Moe(moe)),
        ];
        wrong.into_iter().flatten().collect()
    }
}

/// What an expected debug exception reports wrongly, in words that hold on any host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The return address.
    Lr,
    /// The mode that it was taken from.
    Spsr,
    /// The fault status, in the bits that are defined.
    Fsr(u32),
    /// The fault address.
    Far,
    /// DBGDSCRext.MOE.
    Moe(u32),
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lr => f.write_str("LR"),
            Self::Spsr => f.write_str("SPSR"),
            Self::Fsr(fsr) => write!(f, "FSR {fsr:#x}"),
            Self::Far => f.write_str("FAR"),
            Self::Moe(moe) => write!(f, "MOE {moe:#06b}"),
        }
    }
}

impl fmt::Display for Debug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lr, defined, fsr, moe } = self;
        write!(f, "LR {lr:#x} SPSR.M 0x13 FSR {fsr:#x} (of {defined:#x}) MOE {moe:#06b}")
    }
}

impl Outcome {
    const fn exactly(value: u64) -> Self {
        Self::Value { defined: !0, value }
    }

    const fn bits(defined: u64, value: u64) -> Self {
        Self::Value { defined, value: value & defined }
    }

    /// The operation may cause this event.
    pub fn allows(&self, event: &Event) -> bool {
        match (self, event) {
            (Self::Done, Event::Done) | (Self::Undefined, Event::Undefined) => true,
            (Self::Value { defined, value }, Event::Value(seen)) => seen & defined == *value,
            _ => self.departures(event).is_some_and(|departures| departures.is_empty()),
        }
    }

    /// What the event reports wrongly; `None` if it is not an exception of this kind.
    pub fn departures(&self, event: &Event) -> Option<Vec<Departure>> {
        match (self, event) {
            (Self::PrefetchAbort(debug), Event::PrefetchAbort(abort)) => Some(debug.departures(abort)),
            (Self::DataAbort { debug, far }, Event::DataAbort(abort)) => {
                let mut departures = debug.departures(abort);
                departures.extend((!far.contains(&abort.far)).then_some(Departure::Far));
                Some(departures)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("no exception"),
            Self::Value { defined: u64::MAX, value } => write!(f, "{value:#x}"),
            Self::Value { defined: 0, .. } => f.write_str("any value"),
            Self::Value { defined, value } => write!(f, "{value:#x} in the bits {defined:#x}"),
            Self::Undefined => f.write_str("UNDEFINED"),
            Self::PrefetchAbort(debug) => write!(f, "Prefetch Abort: {debug}"),
            Self::DataAbort { debug, far } => {
                write!(f, "Data Abort: {debug} DFAR {:#x} to {:#x}", far.start(), far.end())
            }
        }
    }
}

/// Whether a debug event is generated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hit {
    Never,
    May,
    Must,
}

/// A PE in AArch32, at EL1 in Supervisor mode.
#[derive(Clone, Debug)]
pub struct Pe {
    id_aa64dfr0: u64,
    id_dfr0: u64,
    shape: Shape,
    /// DBGBXVR<n> in bits \[63:32\] and DBGBVR<n> in bits \[31:0\], as in DBGBVR<n>_EL1.
    bvr: [u64; 16],
    bcr: [u64; 16],
    wvr: [u64; 16],
    wcr: [u64; 16],
    dscr: u64,
    vcr: u64,
    dccint: u64,
    claim_tags: u64,
    os_lock: bool,
    double_lock: bool,
    long_descriptors: bool,
    /// A register was written after the last context synchronization event.
    unsynchronised: bool,
    /// It has taken an abort.
    aborted: bool,
    /// What userspace debugs, if it does.
    debug: Option<GuestDebug>,
    /// The syndrome of a KVM_EXIT_DEBUG that userspace has not read, or zero.
    debug_exit: u64,
}

impl Pe {
    /// A vCPU after KVM_ARM_VCPU_INIT, in a VM where userspace reads these values of ID_AA64DFR0_EL1 and
    /// ID_DFR0_EL1.
    pub fn new(id_aa64dfr0: u64, id_dfr0: u64) -> Self {
        Self {
            id_aa64dfr0,
            id_dfr0,
            shape: Shape::from_id_aa64dfr0(id_aa64dfr0),
            bvr: [0; 16],
            bcr: [0; 16],
            wvr: [0; 16],
            wcr: [0; 16],
            dscr: 0,
            vcr: 0,
            dccint: 0,
            claim_tags: 0,
            os_lock: false,
            double_lock: false,
            long_descriptors: false,
            unsynchronised: false,
            aborted: false,
            debug: None,
            debug_exit: 0,
        }
    }

    /// The allowed outcomes of an operation.
    pub fn allowed(&self, op: Op) -> Result<Vec<Outcome>, Unknown> {
        Ok(match op {
            Op::Read(register) => self.reads(register)?,
            Op::ReadLong(Long::Dbgdrar) => rom_address(0xffff_0000_0000_0ffc),
            Op::ReadLong(Long::Dbgdsar) => vec![Outcome::exactly(0)],
            Op::Write(register, _) => self.writes(register)?,
            Op::Isb | Op::Exit | Op::Set(..) | Op::Debug(_) => vec![Outcome::Done],
            Op::GetDebugExit => vec![Outcome::exactly(self.debug_exit)],
            Op::Get(register) => vec![self.userspace_reads(register)?],
            Op::GetSpsrAbt if self.aborted => {
                vec![Outcome::Value { defined: Debug::SPSR_DEFINED.into(), value: Debug::SPSR.into() }]
            }
            Op::GetSpsrAbt => return Err(Unknown("SPSR_abt before an abort")),
            Op::Execute(k) => self.caught(
                self.breakpoints_hit(marker(k)),
                Outcome::PrefetchAbort(self.prefetch_abort(marker(k), MOE_BREAKPOINT)),
            )?,
            Op::Load(address) => self.accessed(address, false)?,
            Op::Store(address) => self.accessed(address, true)?,
            // Userspace continues after it.
            Op::Bkpt if self.debug.is_some_and(|debug| debug.has(USE_SW_BP)) => vec![Outcome::Done],
            // Neither MDBGen nor the OS Lock masks it (DDI 0487 G2.7).
            Op::Bkpt => {
                self.caught(Hit::Must, Outcome::PrefetchAbort(self.prefetch_abort(BKPT, MOE_BKPT)))?
            }
        })
    }

    /// Updates the state after an operation that caused `event`.
    pub fn follow(&mut self, op: Op, event: &Event) {
        match (op, event) {
            (Op::Write(register, value), Event::Done) => {
                self.unsynchronised = true;
                self.write(register, value.into());
            }
            (Op::Set(register, value), Event::Done) => {
                self.unsynchronised = false;
                self.userspace_writes(register, value);
            }
            (Op::Debug(debug), Event::Done) => {
                self.unsynchronised = false;
                self.debug = debug.is_on().then_some(debug);
            }
            (Op::GetDebugExit, _) => {
                self.unsynchronised = false;
                self.debug_exit = 0;
            }
            (Op::Bkpt, Event::Done) => {
                self.unsynchronised = false;
                self.debug_exit = ESR_BKPT;
            }
            (Op::Isb | Op::Exit | Op::Get(_) | Op::GetSpsrAbt, _) | (_, Event::Undefined) => {
                self.unsynchronised = false;
            }
            (_, Event::PrefetchAbort(_) | Event::DataAbort(_)) => {
                self.unsynchronised = false;
                self.aborted = true;
            }
            _ => {}
        }
    }

    /// Whether a numbered register is present: `None` if an access is UNDEFINED, `Some(true)` if it may be
    /// UNDEFINED.
    fn presence(&self, kind: Numbered, n: u8) -> Option<bool> {
        match kind {
            Numbered::Bvr | Numbered::Bcr => (n < self.shape.breakpoints).then_some(false),
            Numbered::Wvr | Numbered::Wcr => (n < self.shape.watchpoints).then_some(false),
            // The text says that it is UNDEFINED without EL2, which the guest's ID registers do not show, and
            // if breakpoint n is not context-aware. The PE has EL2, and the access function tests only
            // whether there is a breakpoint n (DDI 0487 DBGBXVR<n>).
            Numbered::Bxvr => (n < self.shape.breakpoints).then_some(true),
        }
    }

    fn writes(&self, register: Register) -> Result<Vec<Outcome>, Unknown> {
        Ok(match register.numbered() {
            Some((kind, n)) => match self.presence(kind, n) {
                None => vec![Outcome::Undefined],
                Some(false) => vec![Outcome::Done],
                Some(true) => vec![Outcome::Done, Outcome::Undefined],
            },
            None => match register {
                DBGDSCREXT | DBGVCR | DBGDCCINT | DBGOSLAR | DBGOSDLR | DBGPRCR | DBGCLAIMSET
                | DBGCLAIMCLR | TTBCR => vec![Outcome::Done],
                _ => return Err(Unknown("a write of a read-only register in AArch32")),
            },
        })
    }

    fn reads(&self, register: Register) -> Result<Vec<Outcome>, Unknown> {
        if let Some((kind, n)) = register.numbered() {
            let Some(may_be_undefined) = self.presence(kind, n) else { return Ok(vec![Outcome::Undefined]) };
            let mut allowed = vec![self.numbered(kind, n)];
            if may_be_undefined {
                allowed.push(Outcome::Undefined);
            }
            return Ok(allowed);
        }
        Ok(match register {
            ID_DFR0 => vec![Outcome::exactly(self.id_dfr0 & LOWER)],
            DBGDIDR => self.dbgdidr(),
            DBGDSCREXT | DBGDSCRINT => vec![Outcome::bits((MDBGEN | UDCCDIS).into(), self.dscr)],
            DBGVCR => vec![Outcome::bits(VECTORS, self.vcr)],
            DBGDCCINT => vec![Outcome::bits(DCC_INTERRUPTS, self.dccint)],
            DBGOSLSR => vec![Outcome::exactly(self.oslsr())],
            DBGOSDLR => vec![Outcome::exactly(self.double_lock.into())],
            DBGDEVID => vec![self.dbgdevid()],
            DBGDEVID1 => vec![Outcome::bits(!0xf, 0)],
            DBGDEVID2 | DBGDSAR => vec![Outcome::exactly(0)],
            DBGDRAR => rom_address(0x0000_0ffc),
            DBGCLAIMSET => vec![Outcome::exactly(0xff)],
            DBGCLAIMCLR => vec![Outcome::exactly(self.claim_tags)],
            DBGAUTHSTATUS => vec![Outcome::bits(!0xff, 0)],
            DBGPRCR => vec![Outcome::bits(!1, 0)],
            _ => return Err(Unknown("a read of this register in AArch32")),
        })
    }

    fn write(&mut self, register: Register, value: u64) {
        if let Some((kind, n)) = register.numbered() {
            let n = usize::from(n);
            match kind {
                Numbered::Bvr => self.bvr[n] = self.bvr[n] & !LOWER | value,
                Numbered::Bcr => self.bcr[n] = value,
                Numbered::Wvr => self.wvr[n] = value,
                Numbered::Wcr => self.wcr[n] = value,
                Numbered::Bxvr => self.bvr[n] = self.bvr[n] & LOWER | value << 32,
            }
            return;
        }
        match register {
            DBGDSCREXT => self.dscr = value,
            DBGVCR => self.vcr = value,
            DBGDCCINT => self.dccint = value,
            DBGOSLAR => self.os_lock = value == u64::from(OS_LOCK_KEY),
            DBGOSDLR => self.double_lock = self.shape.double_lock && value & 1 == 1,
            DBGCLAIMSET => self.claim_tags |= value & 0xff,
            DBGCLAIMCLR => self.claim_tags &= !value,
            TTBCR => self.long_descriptors = value & u64::from(EAE) != 0,
            _ => {}
        }
    }

    fn numbered(&self, kind: Numbered, n: u8) -> Outcome {
        let k = usize::from(n);
        match kind {
            Numbered::Bvr => Outcome::bits(self.defined_of_bvr(n), self.bvr[k]),
            Numbered::Bxvr => {
                let vmid = if self.has_vmid(n) { 0xff } else { 0 };
                Outcome::bits(vmid, self.bvr[k] >> 32)
            }
            Numbered::Bcr => Outcome::bits(self.defined_of_bcr(n), self.bcr[k]),
            Numbered::Wvr => Outcome::bits(VA, self.wvr[k]),
            Numbered::Wcr => Outcome::bits(self.defined_of_wcr(n), self.wcr[k]),
        }
    }

    /// Breakpoint `n` has a type that compares a VMID.
    fn has_vmid(&self, n: u8) -> bool {
        self.shape.is_context_aware(n) && matches!(self.breakpoint_type(n), 0b1000..=0b1011)
    }

    fn breakpoint_type(&self, n: u8) -> u64 {
        self.bcr[usize::from(n)] >> 20 & 0xf
    }

    fn defined_of_bvr(&self, n: u8) -> u64 {
        match self.breakpoint_type(n) {
            0b0000 | 0b0001 | 0b0100 | 0b0101 => VA,
            0b0010 | 0b0011 if self.shape.is_context_aware(n) => LOWER,
            _ => 0,
        }
    }

    fn defined_of_bcr(&self, n: u8) -> u64 {
        match self.breakpoint_type(n) {
            0b0000 | 0b0001 | 0b0100 | 0b0101 => BCR,
            _ if self.shape.is_context_aware(n) => BCR & !BCR_BAS,
            _ => 1,
        }
    }

    fn defined_of_wcr(&self, n: u8) -> u64 {
        let k = usize::from(n);
        let bas = (self.wcr[k] & WCR_BAS) >> 5;
        let is_one_run = bas != 0 && (bas >> bas.trailing_zeros()) & ((bas >> bas.trailing_zeros()) + 1) == 0;
        let of_a_word = if self.wvr[k] & 4 == 0 { WCR } else { WCR & !WCR_UPPER_BAS };
        if is_one_run || bas == 0 { of_a_word } else { WCR & !WCR_BAS }
    }

    fn dbgdidr(&self) -> Vec<Outcome> {
        let field = |field: &crate::dfr0::Field| u64::from(field.get(self.id_aa64dfr0));
        let told = field(&WRPS) << 28 | field(&BRPS) << 24 | field(&CTX_CMPS) << 20 | field(&DEBUGVER) << 16;
        // Bit 15 is RES1; nSUHD_imp and SE_imp say whether EL3 is implemented, and agree.
        const EL3: u64 = 1 << 14 | 1 << 12;
        [0, EL3].map(|el3| Outcome::exactly(told | 1 << 15 | el3)).to_vec()
    }

    /// CIDMask 0b0000, DoubleLock as the VM has it, BPAddrMask 0b1111 and WPAddrMask 0b0001.
    fn dbgdevid(&self) -> Outcome {
        let double_lock = u64::from(self.shape.double_lock);
        Outcome::bits(0xf0f0_0ff0, double_lock << 20 | 0b1111 << 8 | 0b0001 << 4)
    }

    fn oslsr(&self) -> u64 {
        if self.os_lock { OSLM | OSLK } else { OSLM }
    }

    fn userspace_reads(&self, register: SysReg) -> Result<Outcome, Unknown> {
        if let Some((kind, n)) = register.debug_number() {
            let k = usize::from(n);
            return Ok(match kind {
                DebugRegister::Bvr => {
                    // The architecture does not say what AArch32 does to the upper half of an address.
                    let vmid = if self.has_vmid(n) { 0xff << 32 } else { 0 };
                    Outcome::bits(vmid | self.defined_of_bvr(n), self.bvr[k])
                }
                DebugRegister::Bcr => Outcome::bits(self.defined_of_bcr(n), self.bcr[k]),
                DebugRegister::Wvr => Outcome::bits(VA, self.wvr[k]),
                DebugRegister::Wcr => Outcome::bits(self.defined_of_wcr(n), self.wcr[k]),
            });
        }
        Ok(match register {
            MDSCR_EL1 => Outcome::bits((MDBGEN | UDCCDIS).into(), self.dscr),
            MDCCINT_EL1 => Outcome::bits(DCC_INTERRUPTS, self.dccint),
            DBGVCR32_EL2 => Outcome::bits(VECTORS, self.vcr),
            OSLSR_EL1 => Outcome::exactly(self.oslsr()),
            _ => return Err(Unknown("a read by userspace of this register of a guest in AArch32")),
        })
    }

    fn userspace_writes(&mut self, register: SysReg, value: u64) {
        if let Some((kind, n)) = register.debug_number() {
            let n = usize::from(n);
            match kind {
                DebugRegister::Bvr => self.bvr[n] = value,
                DebugRegister::Bcr => self.bcr[n] = value,
                DebugRegister::Wvr => self.wvr[n] = value,
                DebugRegister::Wcr => self.wcr[n] = value,
            }
            return;
        }
        match register {
            MDSCR_EL1 => self.dscr = value,
            MDCCINT_EL1 => self.dccint = value,
            DBGVCR32_EL2 => self.vcr = value,
            OSLSR_EL1 => self.os_lock = value & OSLK != 0,
            _ => {}
        }
    }

    /// Breakpoints, watchpoints and Vector Catch are enabled, and nothing masks them: PSTATE has no mask in AArch32
    /// (DDI 0487 G2.4, AArch32.GenerateDebugExceptionsFrom).
    fn generates(&self) -> bool {
        self.dscr & u64::from(MDBGEN) != 0 && !self.os_lock && !self.double_lock
    }

    /// The outcomes of an operation that a debug event may catch.
    fn caught(&self, hit: Hit, exception: Outcome) -> Result<Vec<Outcome>, Unknown> {
        if self.vcr != 0 && self.generates() {
            return Err(Unknown("Vector Catch exceptions"));
        }
        if self.debug.is_some() && hit != Hit::Never {
            return Err(Unknown("a debug exception of the guest's own while userspace debugs"));
        }
        Ok(match hit {
            Hit::Never => vec![Outcome::Done],
            Hit::May => vec![Outcome::Done, exception],
            Hit::Must => vec![exception],
        })
    }

    /// AArch32.BreakpointMatch, for an instruction of A32 in Supervisor mode.
    fn breakpoints_hit(&self, address: u32) -> Hit {
        if !self.generates() {
            return Hit::Never;
        }
        let numbers = 0..usize::from(self.shape.breakpoints);
        let hit = numbers.map(|n| breakpoint_hits(self.bvr[n], self.bcr[n], address)).max();
        self.certain(hit.unwrap_or(Hit::Never))
    }

    /// A write that is not synchronised may not have taken effect yet.
    fn certain(&self, hit: Hit) -> Hit {
        if self.unsynchronised { hit.min(Hit::May) } else { hit }
    }

    fn accessed(&self, address: u32, writes: bool) -> Result<Vec<Outcome>, Unknown> {
        let numbers = 0..usize::from(self.shape.watchpoints);
        let hits = numbers.map(|n| watchpoint_hits(self.wvr[n], self.wcr[n], address, writes));
        let (hit, highest) = hits
            .filter(|_| self.generates())
            .filter(|(hit, _)| *hit != Hit::Never)
            .fold((Hit::Never, address), |(hit, highest), (this, last)| (hit.max(this), highest.max(last)));
        // From the lowest byte accessed to the highest that is watched and accessed (DDI 0487 G2.9.7).
        let far = address..=if hit == Hit::Must { highest } else { address + 3 };
        let at = if writes { STORE } else { LOAD };
        let debug = self.data_abort(at, writes);
        self.caught(self.certain(hit), Outcome::DataAbort { debug, far })
    }

    /// IFSR: ExT 0, and the status of a debug exception in either format.
    fn prefetch_abort(&self, at: u32, moe: u32) -> Debug {
        let (defined, fsr) = if self.long_descriptors {
            (1 << 12 | 1 << 9 | 0b11_1111, 1 << 9 | 0b10_0010)
        } else {
            (1 << 12 | 1 << 10 | 1 << 9 | 0b1111, 0b0010)
        };
        Debug { lr: at + 4, defined, fsr, moe }
    }

    /// DFSR: CM and ExT 0, WnR, and the status of a debug exception; Domain is UNKNOWN.
    fn data_abort(&self, at: u32, writes: bool) -> Debug {
        let Debug { defined, fsr, .. } = self.prefetch_abort(at, MOE_WATCHPOINT);
        Debug {
            lr: at + 8,
            defined: defined | 1 << 13 | 1 << 11,
            fsr: fsr | u32::from(writes) << 11,
            moe: MOE_WATCHPOINT,
        }
    }
}

/// DBGDRAR: Valid is 0b00 or 0b11, and these bits are RES0 in both cases.
fn rom_address(res0: u64) -> Vec<Outcome> {
    [0b00, 0b11].map(|valid| Outcome::bits(res0 | 0b11, valid)).to_vec()
}

fn breakpoint_hits(bvr: u64, bcr: u64, address: u32) -> Hit {
    const ALL_BUT_LBN: u64 = 0x00f0_e1e0;
    if bcr & E == 0 {
        return Hit::Never;
    }
    let is_address_match = bcr & ALL_BUT_LBN == BCR_BAS;
    if !is_address_match || !matches!(bcr & PRIVILEGES, PL1 | PL1_AND_PL0) {
        return Hit::May;
    }
    if bvr & VA == u64::from(address) { Hit::Must } else { Hit::Never }
}

/// Whether the watchpoint matches an access of a word, and the last byte that is watched and accessed.
fn watchpoint_hits(wvr: u64, wcr: u64, address: u32, writes: bool) -> (Hit, u32) {
    /// MASK, WT, SSC and HMC.
    const REST: u64 = 0x1f10_e000;
    if wcr & E == 0 {
        return (Hit::Never, address);
    }
    let bas = wcr >> 5 & 0xff;
    let is_doubleword = bas == 0xff && wvr & 4 == 0;
    if !is_doubleword || wcr & REST != 0 || !matches!(wcr & PRIVILEGES, PL1 | PL1_AND_PL0) {
        return (Hit::May, address);
    }
    let lsc = if writes { 0b10 << 3 } else { 0b01 << 3 };
    let first = wvr & VA;
    let overlaps = first < u64::from(address) + 4 && u64::from(address) < first + 8;
    if !overlaps || wcr & lsc == 0 {
        return (Hit::Never, address);
    }
    (Hit::Must, (first + 7).min(u64::from(address) + 3) as u32)
}

#[cfg(test)]
mod tests {
    use super::super::{Abort, WATCHED, dbgbcr, dbgbvr, dbgbxvr, dbgwcr, dbgwvr, watched};
    use super::*;
    use crate::guest_debug::ENABLE;

    /// 6 breakpoints, 4 watchpoints, 2 context-aware, DebugVer 0x6, OS Double Lock.
    const DFR0: u64 = 0x1030_5006;
    const ID: u64 = 0x0001_0066;
    const ARMED: u32 = 0x1e3;
    const WATCHING: u32 = 0x1ffb;

    fn pe() -> Pe {
        Pe::new(DFR0, ID)
    }

    /// The PE after operations that each have their first allowed outcome.
    fn after(ops: &[Op]) -> Pe {
        ops.iter().fold(pe(), |mut pe, op| {
            let event = match &pe.allowed(*op).unwrap()[0] {
                Outcome::Value { value, .. } => Event::Value(*value),
                Outcome::Undefined => Event::Undefined,
                Outcome::Done => Event::Done,
                other => panic!("{op}: {other}"),
            };
            pe.follow(*op, &event);
            pe
        })
    }

    fn allowed(before: &[Op], op: Op) -> Vec<Outcome> {
        after(before).allowed(op).unwrap()
    }

    fn value(before: &[Op], op: Op) -> (u64, u64) {
        match allowed(before, op).as_slice() {
            [Outcome::Value { defined, value }] => (*defined, *value),
            other => panic!("{other:?}"),
        }
    }

    fn armed(n: u8, k: u8) -> Vec<Op> {
        vec![
            Op::Write(dbgbvr(n), marker(k)),
            Op::Write(dbgbcr(n), ARMED),
            Op::Write(DBGDSCREXT, MDBGEN),
            Op::Isb,
        ]
    }

    fn watching(n: u8, k: u8) -> Vec<Op> {
        vec![
            Op::Write(dbgwvr(n), watched(k)),
            Op::Write(dbgwcr(n), WATCHING),
            Op::Write(DBGDSCREXT, MDBGEN),
            Op::Isb,
        ]
    }

    fn and(mut ops: Vec<Op>, more: &[Op]) -> Vec<Op> {
        ops.extend_from_slice(more);
        ops
    }

    #[test]
    fn id_registers_are_the_vms() {
        assert_eq!(value(&[], Op::Read(ID_DFR0)), (!0, ID));
        let dbgdidr = allowed(&[], Op::Read(DBGDIDR));
        assert!(dbgdidr.contains(&Outcome::exactly(0x3516_8000)));
        assert!(dbgdidr.contains(&Outcome::exactly(0x3516_d000)));
        assert_eq!(dbgdidr.len(), 2, "nSUHD_imp and SE_imp agree");
        let no_double_lock = Pe::new(DFR0 | 0xf << 36, ID);
        assert_eq!(value(&[], Op::Read(DBGDEVID)), (0xf0f0_0ff0, 0x0010_0f10));
        assert_eq!(no_double_lock.dbgdevid(), Outcome::bits(0xf0f0_0ff0, 0x0000_0f10));
    }

    #[test]
    fn registers_read_back_in_their_defined_bits() {
        let written =
            |register, read, value| super::tests::value(&[Op::Write(register, value)], Op::Read(read));
        assert_eq!(written(dbgbvr(5), dbgbvr(5), !0), (VA, VA));
        assert_eq!(written(dbgbvr(5), dbgbvr(4), !0), (VA, 0));
        assert_eq!(written(dbgbcr(0), dbgbcr(0), 0x000f_01e4), (BCR, 0x1e4), "LBN is not compared");
        assert_eq!(written(dbgwvr(3), dbgwvr(3), 0x1237), (VA, 0x1234));
        assert_eq!(written(dbgwcr(3), dbgwcr(3), 0x1ffa), (WCR, 0x1ffa));
        assert_eq!(written(dbgwcr(3), dbgwcr(3), 0b101 << 5), (WCR & !WCR_BAS, 0), "two runs are reserved");
        assert_eq!(written(DBGDSCREXT, DBGDSCREXT, MDBGEN), (0x9000, 0x8000));
        assert_eq!(written(DBGDSCREXT, DBGDSCRINT, UDCCDIS), (0x9000, 0x1000));
        assert_eq!(written(DBGVCR, DBGVCR, 0xff), (0xde, 0xde));
        assert_eq!(written(DBGDCCINT, DBGDCCINT, !0), (3 << 29, 3 << 29));
        assert_eq!(written(DBGCLAIMSET, DBGCLAIMCLR, 0x1a5), (!0, 0xa5));
        assert_eq!(written(DBGCLAIMSET, DBGCLAIMSET, 0xa5), (!0, 0xff));
    }

    #[test]
    fn a_context_is_compared_whole_and_only_where_it_can_be() {
        let context = 0b0010 << 20;
        let read = |n| value(&[Op::Write(dbgbcr(n), context), Op::Write(dbgbvr(n), !0)], Op::Read(dbgbvr(n)));
        assert_eq!(read(4), (LOWER, LOWER));
        assert_eq!(read(3), (0, 0));
    }

    #[test]
    fn registers_beyond_the_counts_are_undefined() {
        for register in [dbgbvr(6), dbgbcr(15), dbgbxvr(6), dbgwvr(4), dbgwcr(15)] {
            assert_eq!(allowed(&[], Op::Read(register)), [Outcome::Undefined], "{register}");
            assert_eq!(allowed(&[], Op::Write(register, 0)), [Outcome::Undefined], "{register}");
        }
        for register in [dbgbvr(5), dbgbcr(5), dbgwvr(3), dbgwcr(3)] {
            assert_eq!(allowed(&[], Op::Write(register, 0)), [Outcome::Done], "{register}");
        }
    }

    #[test]
    fn bkpt_exits_while_userspace_debugs_with_software_breakpoints_and_not_otherwise() {
        let on = Op::Debug(GuestDebug::new(ENABLE | USE_SW_BP));
        assert_eq!(allowed(&[on], Op::Bkpt), [Outcome::Done]);
        assert_eq!(allowed(&[on, Op::Bkpt], Op::GetDebugExit), [Outcome::exactly(0xe200_0000)]);
        assert_eq!(allowed(&[on, Op::Bkpt, Op::GetDebugExit], Op::GetDebugExit), [Outcome::exactly(0)]);
        let off = Op::Debug(GuestDebug::OFF);
        assert!(matches!(allowed(&[on, off], Op::Bkpt)[..], [Outcome::PrefetchAbort(_)]));
        let mut pe = Pe::new(0, 0);
        pe.follow(Op::Debug(GuestDebug::new(ENABLE)), &Event::Done);
        assert!(pe.allowed(Op::Bkpt).is_err(), "without software breakpoints");
    }

    #[test]
    fn dbgbxvr_may_be_undefined_and_holds_a_vmid() {
        assert_eq!(allowed(&[], Op::Write(dbgbxvr(5), 0)), [Outcome::Done, Outcome::Undefined]);
        let vmid = [Op::Write(dbgbcr(5), 0b1000 << 20), Op::Write(dbgbxvr(5), 0x1a5)];
        assert_eq!(allowed(&vmid, Op::Read(dbgbxvr(5)))[0], Outcome::bits(0xff, 0xa5));
        let lower = and(vmid.to_vec(), &[Op::Write(dbgbvr(5), 0x80)]);
        assert_eq!(value(&lower, Op::Get(crate::sysreg::dbgbvr(5))), (0xff << 32, 0xa5 << 32));
        let mut refused = after(&vmid[..1]);
        refused.follow(vmid[1], &Event::Undefined);
        assert_eq!(refused.allowed(Op::Read(dbgbxvr(5))).unwrap()[0], Outcome::bits(0xff, 0));
    }

    #[test]
    fn userspace_and_the_guest_have_the_same_registers() {
        let set = [Op::Set(crate::sysreg::dbgbvr(5), 0x1234_0000_0040), Op::Write(dbgbvr(5), 0x80)];
        assert_eq!(value(&set, Op::Get(crate::sysreg::dbgbvr(5))), (VA, 0x80));
        assert_eq!(value(&set[..1], Op::Read(dbgbvr(5))), (VA, 0x40));
        let dscr = [Op::Write(DBGDSCREXT, MDBGEN)];
        assert_eq!(value(&dscr, Op::Get(MDSCR_EL1)), (0x9000, 0x8000));
        let vcr = [Op::Set(DBGVCR32_EL2, 0x82)];
        assert_eq!(value(&vcr, Op::Read(DBGVCR)), (0xde, 0x82));
        let dccint = [Op::Write(DBGDCCINT, 1 << 30)];
        assert_eq!(value(&dccint, Op::Get(MDCCINT_EL1)), (3 << 29, 1 << 30));
        assert_eq!(value(&[Op::Set(OSLSR_EL1, 0xa)], Op::Read(DBGOSLSR)), (!0, 0xa));
    }

    #[test]
    fn only_the_key_locks() {
        let read = |writes: &[u32]| {
            let writes: Vec<Op> = writes.iter().map(|value| Op::Write(DBGOSLAR, *value)).collect();
            value(&writes, Op::Read(DBGOSLSR))
        };
        assert_eq!(read(&[]), (!0, 0x8));
        assert_eq!(read(&[OS_LOCK_KEY]), (!0, 0xa));
        for other in [0, 1, OS_LOCK_KEY ^ 1, OS_LOCK_KEY ^ 1 << 31, !0] {
            assert_eq!(read(&[other]), (!0, 0x8), "{other:#x}");
            assert_eq!(read(&[OS_LOCK_KEY, other]), (!0, 0x8), "{other:#x}");
        }
    }

    #[test]
    fn the_double_lock_reads_as_written_where_it_is_implemented() {
        assert_eq!(value(&[Op::Write(DBGOSDLR, !0)], Op::Read(DBGOSDLR)), (!0, 1));
        let mut absent = Pe::new(DFR0 | 0xf << 36, ID);
        absent.follow(Op::Write(DBGOSDLR, !0), &Event::Done);
        assert_eq!(absent.allowed(Op::Read(DBGOSDLR)).unwrap(), [Outcome::exactly(0)]);
    }

    #[test]
    fn a_breakpoint_fires_only_at_its_address_and_if_nothing_masks_it() {
        let fired = allowed(&armed(3, 7), Op::Execute(7));
        let debug = Debug { lr: marker(7) + 4, defined: 0x160f, fsr: 0b0010, moe: 0b0001 };
        assert_eq!(fired, [Outcome::PrefetchAbort(debug)]);
        assert_eq!(allowed(&armed(3, 7), Op::Execute(6)), [Outcome::Done]);
        for masked in [
            and(armed(3, 7), &[Op::Write(DBGDSCREXT, 0), Op::Isb]),
            and(armed(3, 7), &[Op::Write(dbgbcr(3), ARMED & !1), Op::Isb]),
            and(armed(3, 7), &[Op::Write(DBGOSLAR, OS_LOCK_KEY), Op::Isb]),
            and(armed(3, 7), &[Op::Set(OSLSR_EL1, 0xa)]),
        ] {
            assert_eq!(allowed(&masked, Op::Execute(7)), [Outcome::Done], "{masked:?}");
        }
        let released = and(armed(3, 7), &[Op::Write(DBGOSLAR, OS_LOCK_KEY), Op::Write(DBGOSLAR, 1), Op::Isb]);
        assert_eq!(allowed(&released, Op::Execute(7)), fired);
    }

    #[test]
    fn before_a_synchronization_a_breakpoint_may_fire_or_not() {
        let mut armed = armed(3, 7);
        assert_eq!(armed.pop(), Some(Op::Isb));
        let allowed = allowed(&armed, Op::Execute(7));
        assert!(matches!(allowed.as_slice(), [Outcome::Done, Outcome::PrefetchAbort(_)]), "{allowed:?}");
    }

    #[test]
    fn a_breakpoint_with_a_reserved_value_or_another_type_may_fire_or_not() {
        for control in [ARMED | 0b0010 << 20, ARMED & !0x1e0 | 0b0011 << 5, ARMED & !0b110, ARMED | 1 << 13] {
            let ops = and(armed(5, 7), &[Op::Write(dbgbcr(5), control), Op::Isb]);
            assert_eq!(allowed(&ops, Op::Execute(6)).len(), 2, "{control:#x}");
        }
    }

    #[test]
    fn a_watchpoint_reports_the_access() {
        let debug = Debug { lr: LOAD + 8, defined: 0x3e0f, fsr: 0b0010, moe: 0b1010 };
        let (first, far) = (watched(2), watched(2)..=watched(2) + 3);
        let load = allowed(&watching(1, 2), Op::Load(first));
        assert_eq!(load, [Outcome::DataAbort { debug, far: far.clone() }]);
        let debug = Debug { lr: STORE + 8, fsr: 1 << 11 | 0b0010, ..debug };
        let store = allowed(&watching(1, 2), Op::Store(first));
        assert_eq!(store, [Outcome::DataAbort { debug, far }]);
        for beside in [first - 4, first + 8] {
            assert_eq!(allowed(&watching(1, 2), Op::Load(beside)), [Outcome::Done], "{beside:#x}");
        }
        let straddles = allowed(&watching(1, 2), Op::Store(first + 6));
        assert_eq!(straddles, [Outcome::DataAbort { debug, far: first + 6..=first + 7 }]);
        let loads = and(watching(1, 2), &[Op::Write(dbgwcr(1), WATCHING & !(0b10 << 3)), Op::Isb]);
        assert_eq!(allowed(&loads, Op::Store(first)), [Outcome::Done]);
        assert_eq!(allowed(&loads, Op::Load(first)), load);
        let locked = and(watching(1, 2), &[Op::Write(DBGOSLAR, OS_LOCK_KEY), Op::Isb]);
        assert_eq!(allowed(&locked, Op::Load(first)), [Outcome::Done]);
    }

    #[test]
    fn the_long_descriptor_format_has_its_own_status() {
        let long = |ops| and(ops, &[Op::Write(TTBCR, EAE), Op::Isb]);
        let debug = Debug { lr: marker(0) + 4, defined: 0x123f, fsr: 0x222, moe: 0b0001 };
        assert_eq!(allowed(&long(armed(0, 0)), Op::Execute(0)), [Outcome::PrefetchAbort(debug)]);
        let debug = Debug { lr: STORE + 8, defined: 0x3a3f, fsr: 0xa22, moe: 0b1010 };
        let far = WATCHED..=WATCHED + 3;
        assert_eq!(allowed(&long(watching(0, 0)), Op::Store(WATCHED)), [Outcome::DataAbort { debug, far }]);
    }

    #[test]
    fn userspace_reads_the_mode_of_the_last_abort() {
        let mut pe = Pe::new(DFR0, ID);
        assert!(pe.allowed(Op::GetSpsrAbt).is_err(), "no abort yet");
        let abort = crate::aarch32::Abort { lr: 0, spsr: 0x6000_01d3, fsr: 2, far: 0, dbgdscr: 0xc };
        pe.follow(Op::Bkpt, &Event::PrefetchAbort(abort));
        let allowed = pe.allowed(Op::GetSpsrAbt).unwrap();
        let reads = |value| allowed.iter().any(|outcome| outcome.allows(&Event::Value(value)));
        assert_eq!([reads(0x6000_01d3), reads(0x13), reads(0), reads(0x17)], [true, true, false, false]);
    }

    #[test]
    fn bkpt_is_taken_under_every_mask() {
        let debug = Debug { lr: BKPT + 4, defined: 0x160f, fsr: 0b0010, moe: 0b0011 };
        for masked in [vec![], vec![Op::Write(DBGOSLAR, OS_LOCK_KEY)], vec![Op::Write(DBGDSCREXT, 0)]] {
            assert_eq!(allowed(&masked, Op::Bkpt), [Outcome::PrefetchAbort(debug)], "{masked:?}");
        }
    }

    #[test]
    fn vector_catch_is_not_modelled() {
        let ops = and(vec![Op::Write(DBGVCR, 2)], &armed(0, 0));
        assert!(after(&ops).allowed(Op::Execute(1)).is_err());
        assert!(after(&ops).allowed(Op::Bkpt).is_err());
    }

    #[test]
    fn an_abort_is_compared_in_all_that_it_reports() {
        let debug = Debug { lr: STORE + 8, defined: 0x3e0f, fsr: 0x802, moe: 0b1010 };
        let outcome = Outcome::DataAbort { debug, far: WATCHED..=WATCHED + 3 };
        let abort =
            Abort { lr: STORE + 8, spsr: 0x1d3, fsr: 0x8f2, far: WATCHED + 2, dbgdscr: MDBGEN | 0b1010 << 2 };
        assert!(outcome.allows(&Event::DataAbort(abort)), "Domain is UNKNOWN");
        for (wrong, departure) in [
            (Abort { lr: STORE + 4, ..abort }, Departure::Lr),
            (Abort { spsr: 0x1d7, ..abort }, Departure::Spsr),
            (Abort { spsr: 0x1f3, ..abort }, Departure::Spsr),
            (Abort { fsr: 0x0f2, ..abort }, Departure::Fsr(0x002)),
            (Abort { fsr: 0xc02, ..abort }, Departure::Fsr(0xc02)),
            (Abort { far: WATCHED + 4, ..abort }, Departure::Far),
            (Abort { far: WATCHED - 1, ..abort }, Departure::Far),
            (Abort { dbgdscr: MDBGEN | 0b0001 << 2, ..abort }, Departure::Moe(1)),
        ] {
            assert!(!outcome.allows(&Event::DataAbort(wrong)), "{wrong}");
            assert_eq!(outcome.departures(&Event::DataAbort(wrong)), Some(vec![departure]), "{wrong}");
        }
        assert_eq!(outcome.departures(&Event::Done), None);
        assert!(!outcome.allows(&Event::PrefetchAbort(abort)));
        assert!(!Outcome::Done.allows(&Event::Undefined));
        assert!(!Outcome::bits(0xf0, 0x50).allows(&Event::Value(0x60)));
        assert!(Outcome::bits(0xf0, 0x50).allows(&Event::Value(0xff5f)));
    }
}
