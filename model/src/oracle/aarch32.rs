// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Self-hosted debug as a guest in AArch32 sees it: the debug registers of coproc 14, the operations of a
//! scenario, and the events that they cause.
//!
//! The language is smaller than [`scenario`](crate::scenario). The guest does not run the payload: it
//! executes everything in Supervisor mode with translation off. [`pe::Pe`] models what an operation may
//! cause.

use crate::{guest_debug::GuestDebug, sysreg::SysReg};
use alloc::vec::Vec;
use core::fmt;

pub mod pe;

/// The number of markers, and of doublewords that can be watched.
pub const PLACES: u8 = 16;
/// The first marker, a NOP. Markers are 8 bytes apart.
pub const MARKERS: u32 = 0x4000_0800;
/// The LDR that [`Op::Load`] executes.
pub const LOAD: u32 = 0x4000_0900;
/// The STR that [`Op::Store`] executes.
pub const STORE: u32 = 0x4000_0908;
/// The BKPT that [`Op::Bkpt`] executes.
pub const BKPT: u32 = 0x4000_0910;
/// The first doubleword that can be watched.
pub const WATCHED: u32 = 0x401f_0000;

/// The address of marker `k`.
pub const fn marker(k: u8) -> u32 {
    MARKERS + 8 * k as u32
}

/// The address of doubleword `k`.
pub const fn watched(k: u8) -> u32 {
    WATCHED + 8 * k as u32
}

/// A register that MRC and MCR access, named by its `coproc, opc1, CRn, CRm, opc2` (DDI 0487 G8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    coproc: u8,
    opc1: u8,
    crn: u8,
    crm: u8,
    opc2: u8,
}

impl Register {
    const fn new(coproc: u8, opc1: u8, crn: u8, crm: u8, opc2: u8) -> Self {
        Self { coproc, opc1, crn, crm, opc2 }
    }

    /// A debug register of coproc 14.
    const fn debug(crn: u8, crm: u8, opc2: u8) -> Self {
        Self::new(14, 0, crn, crm, opc2)
    }

    /// The instruction `MRC <coproc>, <opc1>, R0, <CRn>, <CRm>, <opc2>`.
    pub const fn mrc_r0(self) -> u32 {
        self.mcr_r0() | 1 << 20
    }

    /// The instruction `MCR <coproc>, <opc1>, R0, <CRn>, <CRm>, <opc2>`.
    pub const fn mcr_r0(self) -> u32 {
        0xee00_0010
            | (self.opc1 as u32) << 21
            | (self.crn as u32) << 16
            | (self.coproc as u32) << 8
            | (self.opc2 as u32) << 5
            | self.crm as u32
    }

    /// The kind and the number of a numbered register; `None` for any other.
    pub const fn numbered(self) -> Option<(Numbered, u8)> {
        if self.coproc != 14 || self.opc1 != 0 {
            return None;
        }
        match (self.crn, self.opc2) {
            (0, 4) => Some((Numbered::Bvr, self.crm)),
            (0, 5) => Some((Numbered::Bcr, self.crm)),
            (0, 6) => Some((Numbered::Wvr, self.crm)),
            (0, 7) => Some((Numbered::Wcr, self.crm)),
            (1, 1) => Some((Numbered::Bxvr, self.crm)),
            _ => None,
        }
    }
}

/// The registers of a breakpoint and of a watchpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbered {
    /// DBGBVR<n>.
    Bvr,
    /// DBGBCR<n>.
    Bcr,
    /// DBGWVR<n>.
    Wvr,
    /// DBGWCR<n>.
    Wcr,
    /// DBGBXVR<n>, the upper half of a breakpoint's value.
    Bxvr,
}

/// DBGBVR<n>, Debug Breakpoint Value Register n (0 to 15).
pub const fn dbgbvr(n: u8) -> Register {
    Register::debug(0, n & 0xf, 4)
}

/// DBGBCR<n>, Debug Breakpoint Control Register n (0 to 15).
pub const fn dbgbcr(n: u8) -> Register {
    Register::debug(0, n & 0xf, 5)
}

/// DBGWVR<n>, Debug Watchpoint Value Register n (0 to 15).
pub const fn dbgwvr(n: u8) -> Register {
    Register::debug(0, n & 0xf, 6)
}

/// DBGWCR<n>, Debug Watchpoint Control Register n (0 to 15).
pub const fn dbgwcr(n: u8) -> Register {
    Register::debug(0, n & 0xf, 7)
}

/// DBGBXVR<n>, Debug Breakpoint Extended Value Register n (0 to 15).
pub const fn dbgbxvr(n: u8) -> Register {
    Register::debug(1, n & 0xf, 1)
}

macro_rules! registers {
    ($($name:ident = $register:expr, $what:literal;)*) => {
        $(
            #[doc = concat!(stringify!($name), ", ", $what, ".")]
            pub const $name: Register = $register;
        )*

        const NAMED: &[(Register, &str)] = &[$(($name, stringify!($name))),*];
    };
}

registers! {
    DBGDIDR = Register::debug(0, 0, 0), "Debug ID Register";
    DBGDSCRINT = Register::debug(0, 1, 0), "Debug Status and Control Register, Internal View: DBGDSCRint";
    DBGDCCINT = Register::debug(0, 2, 0), "DCC Interrupt Enable Register";
    DBGDSCREXT = Register::debug(0, 2, 2), "Debug Status and Control Register, External View: DBGDSCRext";
    DBGVCR = Register::debug(0, 7, 0), "Debug Vector Catch Register";
    DBGDRAR = Register::debug(1, 0, 0), "Debug ROM Address Register";
    DBGOSLAR = Register::debug(1, 0, 4), "Debug OS Lock Access Register";
    DBGOSLSR = Register::debug(1, 1, 4), "Debug OS Lock Status Register";
    DBGOSDLR = Register::debug(1, 3, 4), "Debug OS Double Lock Register";
    DBGPRCR = Register::debug(1, 4, 4), "Debug Power Control Register";
    DBGDSAR = Register::debug(2, 0, 0), "Debug Self Address Register";
    DBGDEVID2 = Register::debug(7, 0, 7), "Debug Device ID register 2";
    DBGDEVID1 = Register::debug(7, 1, 7), "Debug Device ID register 1";
    DBGDEVID = Register::debug(7, 2, 7), "Debug Device ID register 0";
    DBGCLAIMSET = Register::debug(7, 8, 6), "Debug CLAIM Tag Set register";
    DBGCLAIMCLR = Register::debug(7, 9, 6), "Debug CLAIM Tag Clear register";
    DBGAUTHSTATUS = Register::debug(7, 14, 6), "Debug Authentication Status register";
    ID_DFR0 = Register::new(15, 0, 0, 1, 2), "Debug Feature Register 0";
    TTBCR = Register::new(15, 0, 2, 0, 2), "Translation Table Base Control Register";
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((kind, n)) = self.numbered() {
            let name = match kind {
                Numbered::Bvr => "DBGBVR",
                Numbered::Bcr => "DBGBCR",
                Numbered::Wvr => "DBGWVR",
                Numbered::Wcr => "DBGWCR",
                Numbered::Bxvr => "DBGBXVR",
            };
            return write!(f, "{name}{n}");
        }
        match *self {
            DBGDSCRINT => f.write_str("DBGDSCRint"),
            DBGDSCREXT => f.write_str("DBGDSCRext"),
            _ => match NAMED.iter().find(|(register, _)| register == self) {
                Some((_, name)) => f.write_str(name),
                None => {
                    let Self { coproc, opc1, crn, crm, opc2 } = self;
                    write!(f, "p{coproc}, {opc1}, c{crn}, c{crm}, {opc2}")
                }
            },
        }
    }
}

/// A 64-bit register that MRRC reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Long {
    /// DBGDRAR.
    Dbgdrar,
    /// DBGDSAR.
    Dbgdsar,
}

impl Long {
    /// The instruction `MRRC p14, 0, R0, R1, <CRm>`.
    pub const fn mrrc_r0_r1(self) -> u32 {
        let crm = match self {
            Self::Dbgdrar => 1,
            Self::Dbgdsar => 2,
        };
        0xec51_0e00 | crm
    }
}

impl fmt::Display for Long {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dbgdrar => "DBGDRAR",
            Self::Dbgdsar => "DBGDSAR",
        })
    }
}

/// One operation of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// MRC.
    Read(Register),
    /// MRRC.
    ReadLong(Long),
    /// MCR.
    Write(Register, u32),
    /// ISB.
    Isb,
    /// Executes the NOP at marker k.
    Execute(u8),
    /// LDR of the word at this address.
    Load(u32),
    /// STR of the word at this address.
    Store(u32),
    /// BKPT.
    Bkpt,
    /// The guest exits to userspace, which does nothing.
    Exit,
    /// Userspace's KVM_GET_ONE_REG; the guest exits for it unless the operation before was userspace's too.
    Get(SysReg),
    /// Userspace's KVM_GET_ONE_REG of SPSR_abt; the guest exits for it as for [`Self::Get`].
    GetSpsrAbt,
    /// Userspace's KVM_SET_ONE_REG; the guest exits for it as for [`Self::Get`].
    Set(SysReg, u64),
    /// Userspace's KVM_SET_GUEST_DEBUG; the guest exits for it as for [`Self::Get`].
    Debug(GuestDebug),
    /// Userspace looks for a KVM_EXIT_DEBUG since the last time, and reads `kvm_debug_exit_arch.hsr` of the last one, or zero
    /// if there was none; the guest exits for it as for [`Self::Get`].
    GetDebugExit,
}

impl Op {
    /// Userspace does it, or the guest exits to userspace.
    pub const fn is_userspaces(self) -> bool {
        matches!(
            self,
            Self::Exit
                | Self::Get(_)
                | Self::GetSpsrAbt
                | Self::Set(..)
                | Self::Debug(_)
                | Self::GetDebugExit
        )
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(register) => write!(f, "mrc {register}"),
            Self::ReadLong(register) => write!(f, "mrrc {register}"),
            Self::Write(register, value) => write!(f, "mcr {register}, {value:#x}"),
            Self::Isb => f.write_str("isb"),
            Self::Execute(k) => write!(f, "nop at marker {k}"),
            Self::Load(address) => write!(f, "ldr {address:#x}"),
            Self::Store(address) => write!(f, "str {address:#x}"),
            Self::Bkpt => f.write_str("bkpt"),
            Self::Exit => f.write_str("exit"),
            Self::Get(register) => write!(f, "KVM_GET_ONE_REG {register}"),
            Self::GetSpsrAbt => f.write_str("KVM_GET_ONE_REG SPSR_abt"),
            Self::Set(register, value) => write!(f, "KVM_SET_ONE_REG {register}, {value:#x}"),
            Self::Debug(debug) => debug.fmt(f),
            Self::GetDebugExit => f.write_str("KVM_EXIT_DEBUG's syndrome"),
        }
    }
}

/// What the guest saw of an exception that it took to Abort mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// LR_abt.
    pub lr: u32,
    /// SPSR_abt.
    pub spsr: u32,
    /// IFSR of a Prefetch Abort, DFSR of a Data Abort.
    pub fsr: u32,
    /// IFAR, DFAR.
    pub far: u32,
    /// DBGDSCRext.
    pub dbgdscr: u32,
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lr, spsr, fsr, far, dbgdscr } = self;
        write!(f, "LR {lr:#x} SPSR {spsr:#x} FSR {fsr:#x} FAR {far:#x} DBGDSCRext {dbgdscr:#x}")
    }
}

/// What an operation caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The operation completed.
    Done,
    /// The operation read this value.
    Value(u64),
    /// An Undefined Instruction exception.
    Undefined,
    /// A Prefetch Abort exception.
    PrefetchAbort(Abort),
    /// A Data Abort exception.
    DataAbort(Abort),
    /// The ioctl was refused with this errno.
    Refused(i32),
}

impl Event {
    /// [`decode`]'s word for [`Self::Done`]; nothing follows.
    pub const DONE: u32 = 1;
    /// [`decode`]'s word for a 32-bit value; one word follows.
    pub const VALUE: u32 = 2;
    /// [`decode`]'s word for a 64-bit value; two words follow, the lower first.
    pub const LONG: u32 = 3;
    /// [`decode`]'s word for [`Self::Undefined`]; nothing follows.
    pub const UNDEFINED: u32 = 4;
    /// [`decode`]'s word for [`Self::PrefetchAbort`]; an [`Abort`] follows.
    pub const PREFETCH_ABORT: u32 = 5;
    /// [`decode`]'s word for [`Self::DataAbort`]; an [`Abort`] follows.
    pub const DATA_ABORT: u32 = 6;
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("no exception"),
            Self::Value(value) => write!(f, "{value:#x}"),
            Self::Undefined => f.write_str("UNDEFINED"),
            Self::PrefetchAbort(abort) => write!(f, "Prefetch Abort: {abort}"),
            Self::DataAbort(abort) => write!(f, "Data Abort: {abort}"),
            Self::Refused(errno) => write!(f, "errno {errno}"),
        }
    }
}

/// Decodes the words that the guest logged; `None` if they are not a sequence of events.
pub fn decode(words: &[u32]) -> Option<Vec<Event>> {
    let mut events = Vec::new();
    let mut words = words.iter().copied();
    while let Some(kind) = words.next() {
        let mut next = || words.next();
        let mut abort =
            || Some(Abort { lr: next()?, spsr: next()?, fsr: next()?, far: next()?, dbgdscr: next()? });
        events.push(match kind {
            Event::DONE => Event::Done,
            Event::UNDEFINED => Event::Undefined,
            Event::PREFETCH_ABORT => Event::PrefetchAbort(abort()?),
            Event::DATA_ABORT => Event::DataAbort(abort()?),
            Event::VALUE => Event::Value(next()?.into()),
            Event::LONG => {
                let low = u64::from(next()?);
                Event::Value(low | u64::from(next()?) << 32)
            }
            _ => return None,
        });
    }
    Some(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::ToString, vec};

    #[test]
    fn instructions_are_those_of_the_assembler() {
        // As GNU as assembles `mrc p14, 0, r0, c0, c0, 0`, `mcr p14, 0, r0, c1, c0, 4`, `mrc p15, 0, r0, c0, c1, 2` and
        // `mrrc p14, 0, r0, r1, c1`.
        assert_eq!(DBGDIDR.mrc_r0(), 0xee10_0e10);
        assert_eq!(DBGOSLAR.mcr_r0(), 0xee01_0e90);
        assert_eq!(ID_DFR0.mrc_r0(), 0xee10_0f51);
        assert_eq!(Long::Dbgdrar.mrrc_r0_r1(), 0xec51_0e01);
        assert_eq!(dbgwcr(3).mrc_r0(), 0xee10_0ef3);
    }

    #[test]
    fn registers_have_their_names() {
        assert_eq!(dbgbxvr(5).to_string(), "DBGBXVR5");
        assert_eq!(DBGDSCREXT.to_string(), "DBGDSCRext");
        assert_eq!(DBGOSLSR.to_string(), "DBGOSLSR");
        for (place, (register, name)) in NAMED.iter().enumerate() {
            assert!(register.numbered().is_none(), "{name}");
            assert!(NAMED[..place].iter().all(|(other, _)| other != register), "{name}");
        }
    }

    #[test]
    fn what_the_guest_logs_is_decoded_and_anything_else_is_refused() {
        let abort = Abort { lr: 4, spsr: 0x13, fsr: 2, far: 0, dbgdscr: 0x8004 };
        let words = [1, 2, 0xc5, 3, 1, 2, 4, 5, 4, 0x13, 2, 0, 0x8004];
        let events = vec![
            Event::Done,
            Event::Value(0xc5),
            Event::Value(0x2_0000_0001),
            Event::Undefined,
            Event::PrefetchAbort(abort),
        ];
        assert_eq!(decode(&words), Some(events));
        assert_eq!(decode(&words[..12]), None, "an event is cut off");
        assert_eq!(decode(&[7]), None, "no event has this number");
        assert_eq!(decode(&[]), Some(vec![]));
    }
}
