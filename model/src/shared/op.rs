// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The operations of scenarios: what the guest, and userspace beside it, is told to do, and how it prints.

use crate::{
    access::Access,
    control::{Dbgbcr, Dbgwcr, Mdscr},
    feature::Feature,
    guest_debug::GuestDebug,
    layout,
    sequence::Sequence,
    sysreg::{self, DebugRegister, SysReg},
    vmm::Vmm,
};
use core::fmt;

/// The Exception level at which a marker or an access is executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum El {
    /// EL0, in AArch64 state.
    El0,
    /// EL1.
    #[default]
    El1,
}

/// How a marker, an access or BRK is entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Entry {
    /// By a call at EL1, which is not a context synchronization event; at EL0 by an exception return.
    #[default]
    Call,
    /// By an exception return. The handler of a Software Step exception sets SPSR_EL1.SS and returns until `steps`
    /// exceptions were taken; at the last it clears MDSCR_EL1.SS.
    Return {
        /// SPSR_EL1.SS of the exception return.
        ss: bool,
        /// How many Software Step exceptions are wanted.
        steps: u8,
    },
}

impl Entry {
    /// Entered to be stepped, until this many Software Step exceptions were taken.
    pub const fn stepped(steps: u8) -> Self {
        Self::Return { ss: true, steps }
    }
}

/// What another vCPU does with its debug registers while it runs on this one's CPU. It arms each breakpoint and
/// watchpoint that the host has, at addresses where this one has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Other {
    /// Nothing, ever.
    Untouched,
    /// They are armed and debug exceptions enabled.
    Enabled,
    /// They are armed and debug exceptions disabled.
    Disabled,
    /// They are armed and enabled, and it holds the OS Lock.
    Locked,
    /// They are armed and enabled, and userspace debugs it with hardware breakpoints and watchpoints.
    Debugged,
}

impl Other {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Untouched, Self::Enabled, Self::Disabled, Self::Locked, Self::Debugged];
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untouched => "untouched",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Locked => "locked",
            Self::Debugged => "debugged",
        })
    }
}

/// Where userspace moves a vCPU's state. It reads the registers that KVM_GET_REG_LIST lists and writes them there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrate {
    /// The vCPU of a VM that has not run: every register, the ID registers first; the memory goes along.
    FreshVm,
    /// A vCPU of the same VM that has not run.
    Fresh,
    /// Such a vCPU; the registers are written in the reverse order.
    Reversed,
    /// Such a vCPU, and at once another one.
    Twice,
    /// Such a vCPU, whose debug registers hold other values, each breakpoint and watchpoint enabled and the OS Lock
    /// locked.
    Used,
    /// The vCPU on which it ran before, with the state that it had then; a fresh one if there is none.
    Back,
}

impl Migrate {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::FreshVm, Self::Used, Self::Back, Self::Fresh, Self::Reversed, Self::Twice];
}

impl fmt::Display for Migrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FreshVm => "to a fresh VM",
            Self::Fresh => "to a fresh vCPU",
            Self::Reversed => "to a fresh vCPU, the last register first",
            Self::Twice => "to a fresh vCPU, and to another",
            Self::Used => "to a vCPU whose debug registers hold other values",
            Self::Back => "back to the vCPU where it was",
        })
    }
}

/// What userspace does when a store of the guest has ended KVM_RUN in the middle of code, before it enters the vCPU again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It moves the vCPU's state.
    Migrate(Migrate),
    /// It completes the store: KVM_RUN with `immediate_exit` executes nothing more.
    Complete,
    /// It completes the store and switches guest debugging off.
    DebugOff,
    /// It completes the store and debugs the guest, without steps.
    DebugOn,
    /// It completes the store and steps the guest from there on.
    Steps,
    /// It completes the store, asks for steps, enters the vCPU with `immediate_exit`, so that nothing is stepped, and
    /// switches guest debugging off.
    StepsNothing,
    /// It completes the store, steps one instruction, and switches guest debugging off.
    StepsOne,
}

impl Passage {
    /// Every one.
    pub const ALL: [Self; 12] = [
        Self::Migrate(Migrate::FreshVm),
        Self::Migrate(Migrate::Used),
        Self::Migrate(Migrate::Back),
        Self::Migrate(Migrate::Fresh),
        Self::Migrate(Migrate::Reversed),
        Self::Migrate(Migrate::Twice),
        Self::Complete,
        Self::DebugOff,
        Self::DebugOn,
        Self::Steps,
        Self::StepsNothing,
        Self::StepsOne,
    ];
}

impl fmt::Display for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Migrate(to) => return write!(f, "the vCPU migrates {to}"),
            Self::Complete => "userspace completes the exit",
            Self::DebugOff => "userspace completes the exit and debugs no longer",
            Self::DebugOn => "userspace completes the exit and debugs without steps",
            Self::Steps => "userspace completes the exit and steps from there on",
            Self::StepsNothing => {
                "userspace completes the exit, asks for steps, executes nothing and debugs no longer"
            }
            Self::StepsOne => "userspace completes the exit, steps one instruction and debugs no longer",
        })
    }
}

/// One operation. The payload in the guest does the first group at EL1, the runner the second while the vCPU is
/// out of KVM_RUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `MSR reg, value`.
    Write {
        /// The register.
        reg: SysReg,
        /// The value.
        value: u64,
    },
    /// `MRS reg`; logs the value.
    Read {
        /// The register.
        reg: SysReg,
    },
    /// `ISB`.
    Isb,
    /// PSTATE.D for the markers that follow: set, debug exceptions are masked. Between markers D is set.
    MaskDebug(
        /// The value of D.
        bool,
    ),
    /// Markers and accesses that follow are executed at this Exception level; a scenario starts at EL1.
    Level(
        /// The Exception level.
        El,
    ),
    /// Markers, accesses and BRK that follow are entered in this way; a scenario starts with calls.
    Enter(
        /// The way.
        Entry,
    ),
    /// One memory access.
    Access {
        /// Which.
        access: &'static Access,
        /// The address.
        address: u64,
    },
    /// A piece of code, entered by an exception return; logs X0 as it leaves it.
    Run {
        /// Which.
        sequence: &'static Sequence,
        /// X0 as it finds it.
        x0: u64,
    },
    /// Calls marker k: a NOP at [`crate::layout::marker`]`(k)` and a RET after it.
    Exec {
        /// The marker's number.
        marker: u8,
    },
    /// Calls the marker that is a `BRK #0xdf` at [`crate::layout::BRK`] and a RET after it.
    Brk,
    /// Userspace gets the vCPU back and enters it again.
    Exit,
    /// Another vCPU runs on this CPU in between.
    Other(
        /// With its debug registers in this state.
        Other,
    ),
    /// Userspace's thread moves to another CPU, so that the vCPU is entered there.
    Move,
    /// Userspace moves the vCPU to another VM.
    Migrate(
        /// Which.
        Migrate,
    ),
    /// Userspace writes a register with KVM_SET_ONE_REG.
    KvmSet {
        /// The register.
        reg: SysReg,
        /// The value.
        value: u64,
    },
    /// Userspace reads a register with KVM_GET_ONE_REG; logs the value.
    KvmGet {
        /// The register.
        reg: SysReg,
    },
    /// Userspace writes an ID register with KVM_SET_ONE_REG, and KVM may answer as it likes.
    KvmTry {
        /// The register.
        reg: SysReg,
        /// The value.
        value: u64,
    },
    /// Userspace does something to the VM or the vCPU. A scenario with such an operation starts with a VM without vCPUs.
    Vmm(
        /// What.
        Vmm,
    ),
    /// Userspace calls KVM_SET_GUEST_DEBUG; from then on the runner logs each KVM_EXIT_DEBUG, steps outside of the
    /// markers excepted.
    Debug(
        /// What it asks for.
        GuestDebug,
    ),
}

impl Op {
    /// The feature that its instructions need.
    pub fn needs(self) -> Option<Feature> {
        match self {
            Self::Access { access, .. } => access.needs,
            Self::Run { sequence, .. } => sequence.needs,
            _ => None,
        }
    }

    /// The runner does it, not the payload.
    pub const fn is_hosts(self) -> bool {
        matches!(
            self,
            Self::Exit
                | Self::Other(_)
                | Self::Move
                | Self::Migrate(_)
                | Self::KvmSet { .. }
                | Self::KvmGet { .. }
                | Self::KvmTry { .. }
                | Self::Vmm(_)
                | Self::Debug(_)
        )
    }
}

impl Op {
    /// Userspace does it right after the operation before it, without a KVM_RUN between the two.
    pub const fn follows(self, before: Self) -> bool {
        const fn leaves_the_guest_alone(op: Op) -> bool {
            matches!(op, Op::KvmSet { .. } | Op::KvmGet { .. } | Op::KvmTry { .. } | Op::Vmm(_))
        }
        leaves_the_guest_alone(self) && leaves_the_guest_alone(before)
    }
}

struct Assignment(SysReg, u64);

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(reg, value) = *self;
        write!(f, "{reg}, {value:#x}")?;
        match reg.debug_number() {
            Some((DebugRegister::Bcr, _)) => write!(f, "  ({})", Dbgbcr::new_with_raw_value(value)),
            Some((DebugRegister::Wcr, _)) => write!(f, "  ({})", Dbgwcr::new_with_raw_value(value)),
            _ if reg == sysreg::MDSCR_EL1 => write!(f, "  ({})", Mdscr::new_with_raw_value(value)),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Write { reg, value } => write!(f, "msr {}", Assignment(reg, value)),
            Self::Read { reg } => write!(f, "mrs {reg}"),
            Self::Isb => f.write_str("isb"),
            Self::MaskDebug(mask) => write!(f, "PSTATE.D = {}", u8::from(mask)),
            Self::Level(El::El0) => f.write_str("at EL0:"),
            Self::Level(El::El1) => f.write_str("at EL1:"),
            Self::Enter(Entry::Call) => f.write_str("by calls:"),
            Self::Enter(Entry::Return { ss, steps }) => {
                write!(f, "by exception returns with SS = {}, up to {steps} steps:", u8::from(ss))
            }
            Self::Access { access, address } => {
                write!(f, "{access}, [{address:#x}]")?;
                layout::passage_at(address).map_or(Ok(()), |passage| write!(f, "  ({passage})"))
            }
            Self::Run { sequence, x0 } => write!(f, "run `{sequence}` with X0 = {x0:#x}"),
            Self::Exec { marker } => write!(f, "exec marker {marker}"),
            Self::Brk => f.write_str("exec brk"),
            Self::Exit => f.write_str("exit to userspace and back"),
            Self::Other(other) => write!(f, "another vCPU, its debug registers {other}, runs on this CPU"),
            Self::Move => f.write_str("to another CPU"),
            Self::Migrate(to) => write!(f, "migrates {to}"),
            Self::KvmSet { reg, value } => write!(f, "KVM_SET_ONE_REG {}", Assignment(reg, value)),
            Self::KvmGet { reg } => write!(f, "KVM_GET_ONE_REG {reg}"),
            Self::KvmTry { reg, value } => {
                write!(f, "try KVM_SET_ONE_REG {}", Assignment(reg, value))
            }
            Self::Vmm(vmm) => vmm.fmt(f),
            Self::Debug(debug) => debug.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn the_runner_does_exits_and_userspaces_accesses_and_nothing_else() {
        let reg = sysreg::MDSCR_EL1;
        for op in [
            Op::Exit,
            Op::Other(Other::Enabled),
            Op::Move,
            Op::Migrate(Migrate::Fresh),
            Op::KvmGet { reg },
            Op::KvmSet { reg, value: 0 },
        ] {
            assert!(op.is_hosts(), "{op}");
        }
        for op in [
            Op::Write { reg, value: 0 },
            Op::Read { reg },
            Op::Isb,
            Op::MaskDebug(true),
            Op::Level(El::El0),
            Op::Enter(Entry::Call),
            Op::Access { access: Access::named("ldr x1"), address: 0 },
            Op::Run { sequence: Sequence::named("isb"), x0: 0 },
            Op::Exec { marker: 0 },
            Op::Brk,
        ] {
            assert!(!op.is_hosts(), "{op}");
        }
    }

    #[test]
    fn every_operation_prints_as_its_instruction_or_call() {
        let (wcr, control) = (sysreg::dbgwcr(2), Dbgwcr::linked_to(arbitrary_int::u4::new(5)));
        for (op, printed) in [
            (Op::Write { reg: sysreg::OSLAR_EL1, value: 1 }, "msr OSLAR_EL1, 0x1"),
            (
                Op::KvmSet { reg: wcr, value: control.raw_value() },
                "KVM_SET_ONE_REG DBGWCR2_EL1, 0x151fff  (E=1 PAC=0b11 LSC=0b11 BAS=0b11111111 HMC=0 SSC=0b00 \
                 LBN=5 WT=1 MASK=0)",
            ),
            (Op::Read { reg: wcr }, "mrs DBGWCR2_EL1"),
            (Op::MaskDebug(true), "PSTATE.D = 1"),
            (Op::Level(El::El0), "at EL0:"),
            (Op::Level(El::El1), "at EL1:"),
            (Op::Enter(Entry::Call), "by calls:"),
            (Op::Enter(Entry::stepped(2)), "by exception returns with SS = 1, up to 2 steps:"),
            (Op::Access { access: Access::named("ldr x1"), address: 0x40 }, "ldr x1, [0x40]"),
            (
                Op::Access { access: Access::named("str x1"), address: layout::passage(Passage::Complete) },
                "str x1, [0x10000130]  (userspace completes the exit)",
            ),
            (Op::Run { sequence: Sequence::named("isb"), x0: 0x40 }, "run `isb` with X0 = 0x40"),
            (Op::Brk, "exec brk"),
            (Op::Exit, "exit to userspace and back"),
            (Op::Other(Other::Locked), "another vCPU, its debug registers locked, runs on this CPU"),
            (Op::Move, "to another CPU"),
            (Op::Migrate(Migrate::Back), "migrates back to the vCPU where it was"),
        ] {
            assert_eq!(op.to_string(), printed);
        }
    }
}
