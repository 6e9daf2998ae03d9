// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The guest of a protected VM: what it may see of debug, the operations of a scenario, and the events that they cause.
//!
//! The hypervisor hides debug from such a guest: its ID_AA64DFR0_EL1 shows no debug feature, and no debug register holds
//! a value. The language is smaller than [`scenario`](crate::scenario): the host cannot reach the guest's memory once it
//! runs, so the guest does not run the payload, but executes everything at EL1 with translation off.
//!
//! What decides how a hidden register behaves:
//!
//! - numbers: BRPs and WRPs hold the numbers of breakpoints and watchpoints minus 1, so that a guest that is shown zero
//!   accesses the registers of number 0, as Linux does when it resets them. A number beyond is UNDEFINED;
//! - MDSCR_EL1, OSLAR_EL1, OSLSR_EL1 and OSDLR_EL1 are present on every PE, and Linux accesses them whatever the ID
//!   registers say: they are RAZ/WI. A zero OSLSR_EL1.OSLM says that there is no OS Lock;
//! - the hypervisor may make any other one UNDEFINED or RAZ/WI. [`present_on_every_pe`] are those that the architecture has
//!   whatever the ID registers say.

use crate::{
    dfr0::{BRPS, DOUBLELOCK, DOUBLELOCK_NI, MTPMU, WRPS},
    event::{EC_BREAKPOINT_LOWER_EL, EC_BRK, EC_STEP_LOWER_EL, EC_UNKNOWN, EC_WATCHPOINT_LOWER_EL},
    guest_debug::{GuestDebug, SINGLESTEP},
    layout, promise,
    sysreg::{
        DBGAUTHSTATUS_EL1, DBGVCR32_EL2, DebugRegister, ID_AA64DFR0_EL1, MDCCSR_EL0, MDRAR_EL1, MDSCR_EL1,
        OSDLR_EL1, OSLAR_EL1, OSLSR_EL1, SysReg, debug_registers,
    },
};
use alloc::{vec, vec::Vec};
use core::fmt;

/// The ID_AA64DFR0_EL1 of a guest that has no debug feature. Two fields say so with a value other than zero.
pub const NO_DEBUG_FEATURE: u64 = MTPMU.with(DOUBLELOCK.with(0, DOUBLELOCK_NI), 0b1111);

/// ESR_EL1.IL.
const IL: u64 = 1 << 25;
/// ESR_EL1 of an UNDEFINED instruction.
const UNDEFINED: u64 = (EC_UNKNOWN as u64) << 26 | IL;

/// One operation of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// MRS.
    Read(SysReg),
    /// MSR.
    Write(SysReg, u64),
    /// ISB.
    Isb,
    /// Executes the NOP at marker 0, with PSTATE.D clear.
    Execute,
    /// LDR of the doubleword at [`layout::TARGET`], with PSTATE.D clear.
    Load,
    /// STR of this doubleword, with PSTATE.D clear.
    Store,
    /// BRK.
    Brk,
    /// ERET with SPSR_EL1.{SS, D} = {1, 0} from where PSTATE.D is 1, to a NOP.
    Step,
    /// Userspace's KVM_GET_ONE_REG; the guest exits for it unless the operation before was userspace's too.
    Get(SysReg),
    /// Userspace's KVM_SET_ONE_REG; the guest exits for it as for [`Self::Get`].
    Set(SysReg, u64),
    /// Userspace's KVM_SET_GUEST_DEBUG; the guest exits for it as for [`Self::Get`]. At the first exit that is not that of a
    /// BRK, userspace switches guest debugging off; it moves PC past a BRK.
    Debug(GuestDebug),
}

impl Op {
    /// Userspace does it.
    pub const fn is_userspaces(self) -> bool {
        matches!(self, Self::Get(_) | Self::Set(..) | Self::Debug(_))
    }

    /// KVM_EXIT_DEBUG with this exception class, and with PC at this address, belongs to the operation.
    pub fn owns(self, ec: u8, pc: u64) -> bool {
        match self {
            Self::Debug(debug) => debug.has(SINGLESTEP) && ec == EC_STEP_LOWER_EL,
            Self::Execute => pc == layout::marker(0),
            Self::Load => pc == LOAD,
            Self::Store => pc == STORE,
            Self::Brk => pc == layout::BRK,
            _ => false,
        }
    }
}

/// The LDR that [`Op::Load`] executes.
pub const LOAD: u64 = layout::ACCESS_CODE;
/// The STR that [`Op::Store`] executes.
pub const STORE: u64 = LOAD + 8;
/// The NOP that [`Op::Step`] returns to.
pub const STEPPED: u64 = STORE + 8;

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(reg) => write!(f, "mrs {reg}"),
            Self::Write(reg, value) => write!(f, "msr {reg}, {value:#x}"),
            Self::Isb => f.write_str("isb"),
            Self::Execute => f.write_str("nop at marker 0"),
            Self::Load => f.write_str("ldr"),
            Self::Store => f.write_str("str"),
            Self::Brk => f.write_str("brk"),
            Self::Step => f.write_str("eret with SPSR_EL1.SS to a nop"),
            Self::Get(reg) => write!(f, "KVM_GET_ONE_REG {reg}"),
            Self::Set(reg, value) => write!(f, "KVM_SET_ONE_REG {reg}, {value:#x}"),
            Self::Debug(debug) => debug.fmt(f),
        }
    }
}

/// What an operation caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The operation completed.
    Done,
    /// The operation read this value.
    Value(u64),
    /// The guest took a synchronous exception.
    Exception {
        /// ESR_EL1.
        esr: u64,
        /// ELR_EL1.
        elr: u64,
    },
    /// KVM_RUN ended with KVM_EXIT_DEBUG.
    DebugExit {
        /// The exception class in `hsr`.
        ec: u8,
    },
    /// The ioctl was refused with this errno.
    Refused(i32),
}

impl Event {
    /// [`decode`]'s word for [`Self::Done`]; nothing follows.
    pub const DONE: u64 = 1;
    /// [`decode`]'s word for [`Self::Value`]; the value follows.
    pub const VALUE: u64 = 2;
    /// [`decode`]'s word for [`Self::Exception`]; ESR_EL1 and ELR_EL1 follow.
    pub const EXCEPTION: u64 = 3;
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("no exception"),
            Self::Value(value) => write!(f, "{value:#x}"),
            Self::Exception { esr: UNDEFINED, .. } => f.write_str("UNDEFINED"),
            Self::Exception { esr, .. } if promise::is_undefined(*esr) => {
                write!(f, "UNDEFINED with ESR {esr:#x}")
            }
            Self::Exception { esr, .. } => write!(f, "exception of EC {:#04x}", esr >> 26 & 0x3f),
            Self::DebugExit { ec } => write!(f, "KVM_EXIT_DEBUG of EC {ec:#04x}"),
            Self::Refused(errno) => write!(f, "errno {errno}"),
        }
    }
}

/// Decodes the words that the guest logged; `None` if they are not a sequence of events.
pub fn decode(words: &[u64]) -> Option<Vec<Event>> {
    let mut events = Vec::new();
    let mut words = words.iter().copied();
    while let Some(kind) = words.next() {
        events.push(match kind {
            Event::DONE => Event::Done,
            Event::VALUE => Event::Value(words.next()?),
            Event::EXCEPTION => Event::Exception { esr: words.next()?, elr: words.next()? },
            _ => return None,
        });
    }
    Some(events)
}

/// An allowed outcome of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The operation completes.
    Done,
    /// The operation reads this value.
    Value(u64),
    /// The operation reads a value.
    AnyValue,
    /// An exception of an UNDEFINED instruction.
    Undefined,
    /// The exception of the BRK.
    Brk,
    /// KVM_RUN ends with KVM_EXIT_DEBUG.
    DebugExit {
        /// The exception class in `hsr`.
        ec: u8,
    },
    /// The ioctl is refused.
    Refused,
}

impl Outcome {
    /// The operation may cause this event.
    pub fn allows(&self, event: &Event) -> bool {
        match (self, event) {
            (Self::Done, Event::Done)
            | (Self::AnyValue, Event::Value(_))
            | (Self::Refused, Event::Refused(_)) => true,
            (Self::Value(value), Event::Value(seen)) => value == seen,
            (Self::Undefined, Event::Exception { esr, .. }) => *esr == UNDEFINED,
            (Self::Brk, Event::Exception { esr, elr }) => {
                *esr == u64::from(EC_BRK) << 26 | IL | u64::from(layout::BRK_IMMEDIATE) && *elr == layout::BRK
            }
            (Self::DebugExit { ec }, Event::DebugExit { ec: seen }) => ec == seen,
            _ => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("no exception"),
            Self::Value(value) => write!(f, "{value:#x}"),
            Self::AnyValue => f.write_str("any value"),
            Self::Undefined => f.write_str("UNDEFINED"),
            Self::Brk => write!(f, "exception of EC {EC_BRK:#04x} at {:#x}", layout::BRK),
            Self::DebugExit { ec } => write!(f, "KVM_EXIT_DEBUG of EC {ec:#04x}"),
            Self::Refused => f.write_str("a refusal"),
        }
    }
}

/// Debug registers that an AArch64 PE has at EL1 whatever its ID registers say, and that hold no value of a hidden
/// feature. DBGPRCR_EL1 and the registers of the Debug Communications Channel are among them.
pub fn present_on_every_pe() -> impl Iterator<Item = SysReg> {
    debug_registers().filter(|reg| is_other(*reg) && *reg != DBGVCR32_EL2)
}

/// Neither numbered nor RAZ/WI, nor a register of a feature that the debug feature registers promise.
pub fn is_other(reg: SysReg) -> bool {
    let is_raz_wi = matches!(reg, MDSCR_EL1 | OSLAR_EL1 | OSLSR_EL1 | OSDLR_EL1);
    reg.debug_number().is_none() && !is_raz_wi && promise::of(reg).is_none()
}

/// The PE that the guest of a protected VM sees.
#[derive(Clone, Debug)]
pub struct Pe {
    /// ID_AA64DFR0_EL1 as the guest reads it.
    id_aa64dfr0: u64,
    /// What userspace has written.
    set: Vec<(SysReg, u64)>,
    debug: Option<GuestDebug>,
}

impl Pe {
    /// A vCPU after KVM_ARM_VCPU_INIT, whose guest reads this ID_AA64DFR0_EL1.
    pub const fn new(id_aa64dfr0: u64) -> Self {
        Self { id_aa64dfr0, set: Vec::new(), debug: None }
    }

    /// The allowed outcomes of an operation.
    pub fn allowed(&self, op: Op) -> Vec<Outcome> {
        let debugged = |bits: bool, ec| if bits { Outcome::DebugExit { ec } } else { Outcome::Done };
        let debug = self.debug.unwrap_or(GuestDebug::OFF);
        match op {
            Op::Read(reg) => self.accessed(reg, Direction::Read),
            Op::Write(reg, _) => self.accessed(reg, Direction::Write),
            Op::Isb | Op::Step => vec![Outcome::Done],
            Op::Execute => vec![debugged(debug.breakpoints != 0, EC_BREAKPOINT_LOWER_EL)],
            Op::Load | Op::Store => vec![debugged(debug.watchpoints != 0, EC_WATCHPOINT_LOWER_EL)],
            Op::Brk if debug.is_on() => vec![Outcome::DebugExit { ec: EC_BRK }],
            Op::Brk => vec![Outcome::Brk],
            Op::Get(ID_AA64DFR0_EL1) => vec![Outcome::Value(self.id_aa64dfr0)],
            Op::Get(reg) => {
                let last = self.set.iter().rev().find(|(set, _)| *set == reg);
                vec![last.map_or(Outcome::AnyValue, |(_, value)| Outcome::Value(*value))]
            }
            Op::Set(..) => vec![Outcome::Done, Outcome::Refused],
            Op::Debug(debug) => {
                vec![debugged(debug.has(SINGLESTEP), EC_STEP_LOWER_EL), Outcome::Refused]
            }
        }
    }

    /// Updates the state after an operation that caused `event`.
    pub fn follow(&mut self, op: Op, event: &Event) {
        match (op, event) {
            (Op::Set(reg, value), Event::Done) => self.set.push((reg, value)),
            (Op::Debug(debug), Event::Done) => self.debug = debug.is_on().then_some(debug),
            (_, Event::DebugExit { ec }) if *ec != EC_BRK => self.debug = None,
            _ => {}
        }
    }

    fn accessed(&self, reg: SysReg, direction: Direction) -> Vec<Outcome> {
        let undefined = vec![Outcome::Undefined];
        let nothing = match direction {
            Direction::Read => Outcome::Value(0),
            Direction::Write => Outcome::Done,
        };
        if let Some((kind, n)) = reg.debug_number() {
            let last = match kind {
                DebugRegister::Bvr | DebugRegister::Bcr => BRPS.get(self.id_aa64dfr0),
                DebugRegister::Wvr | DebugRegister::Wcr => WRPS.get(self.id_aa64dfr0),
            };
            return if n <= last { vec![nothing] } else { undefined };
        }
        if promise::of(reg).is_some_and(|promise| !promise.may_be_raz) {
            return undefined;
        }
        match (reg, direction) {
            (ID_AA64DFR0_EL1, Direction::Read) => vec![Outcome::Value(NO_DEBUG_FEATURE)],
            _ if reg.is_id_register() && direction == Direction::Read => vec![Outcome::Value(0)],
            _ if reg.is_id_register() => undefined,
            (OSLAR_EL1, Direction::Read) => undefined,
            (OSLSR_EL1 | MDRAR_EL1 | MDCCSR_EL0 | DBGAUTHSTATUS_EL1, Direction::Write) => undefined,
            (MDSCR_EL1 | OSLAR_EL1 | OSLSR_EL1 | OSDLR_EL1, _) => vec![nothing],
            _ => vec![nothing, Outcome::Undefined],
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        guest_debug::{ENABLE, USE_SW_BP},
        sysreg::{DBGCLAIMSET_EL1, ID_DFR0_EL1, MDCCINT_EL1, TRCIDR1, dbgbvr, dbgwcr},
    };
    use alloc::string::ToString;

    const UNDEFINED: Event = Event::Exception { esr: super::UNDEFINED, elr: 0 };

    fn allows(pe: &Pe, op: Op, event: Event) -> bool {
        pe.allowed(op).iter().any(|outcome| outcome.allows(&event))
    }

    #[test]
    fn no_debug_feature_is_kvms_value() {
        assert_eq!(NO_DEBUG_FEATURE, 0x000f_00f0_0000_0000);
        let pe = Pe::new(NO_DEBUG_FEATURE);
        assert!(allows(&pe, Op::Read(ID_AA64DFR0_EL1), Event::Value(NO_DEBUG_FEATURE)));
        assert!(!allows(&pe, Op::Read(ID_AA64DFR0_EL1), Event::Value(BRPS.with(NO_DEBUG_FEATURE, 5))));
        assert!(!allows(&pe, Op::Read(ID_DFR0_EL1), Event::Value(6)));
        assert!(!allows(&pe, Op::Write(ID_DFR0_EL1, 0), Event::Done));
    }

    #[test]
    fn a_hidden_register_holds_no_value_and_the_others_have_one_outcome() {
        let pe = Pe::new(NO_DEBUG_FEATURE);
        for reg in debug_registers() {
            assert!(!allows(&pe, Op::Read(reg), Event::Value(1)), "{reg}");
            assert!(
                pe.allowed(Op::Read(reg)).len() == 1 || is_other(reg) || promise::of(reg).is_some(),
                "{reg}"
            );
        }
        for (reg, undefined) in [
            (dbgbvr(0), false),
            (dbgbvr(1), true),
            (dbgwcr(15), true),
            (MDSCR_EL1, false),
            (OSLSR_EL1, false),
            (OSLAR_EL1, true),
            (TRCIDR1, true),
        ] {
            assert_eq!(allows(&pe, Op::Read(reg), UNDEFINED), undefined, "{reg}");
            assert_eq!(allows(&pe, Op::Read(reg), Event::Value(0)), !undefined, "{reg}");
        }
        assert!(allows(&pe, Op::Write(OSLAR_EL1, 1), Event::Done));
        assert!(!allows(&pe, Op::Write(OSLSR_EL1, 1), Event::Done));
        for event in [Event::Done, UNDEFINED] {
            assert!(allows(&pe, Op::Write(MDCCINT_EL1, 1), event), "{event}");
        }
    }

    #[test]
    fn a_guest_that_is_shown_more_breakpoints_has_their_registers() {
        let pe = Pe::new(BRPS.with(NO_DEBUG_FEATURE, 5));
        assert!(allows(&pe, Op::Read(dbgbvr(5)), Event::Value(0)));
        assert!(!allows(&pe, Op::Read(dbgbvr(5)), UNDEFINED));
        assert!(allows(&pe, Op::Read(dbgbvr(6)), UNDEFINED));
        assert!(allows(&pe, Op::Read(dbgwcr(1)), UNDEFINED));
    }

    #[test]
    fn only_brk_is_taken_and_only_userspace_debugs() {
        let mut pe = Pe::new(NO_DEBUG_FEATURE);
        let brk = Event::Exception { esr: 0xf200_00df, elr: layout::BRK };
        assert!(allows(&pe, Op::Brk, brk) && !allows(&pe, Op::Brk, Event::Done));
        let fired = Event::Exception { esr: 0xc600_0022, elr: layout::marker(0) };
        assert!(!allows(&pe, Op::Execute, fired) && !allows(&pe, Op::Step, fired));
        assert_eq!(fired.to_string(), "exception of EC 0x31");
        assert_eq!(Event::Exception { esr: 0, elr: 0 }.to_string(), "UNDEFINED with ESR 0x0");
        assert!(!Outcome::Undefined.allows(&Event::Exception { esr: 0, elr: 0 }));
        let debug = GuestDebug::new(ENABLE | USE_SW_BP);
        pe.follow(Op::Debug(debug), &Event::Done);
        assert!(allows(&pe, Op::Brk, Event::DebugExit { ec: EC_BRK }) && !allows(&pe, Op::Brk, brk));
        pe.follow(Op::Debug(GuestDebug::breakpoint(0, 0)), &Event::Done);
        let exit = Event::DebugExit { ec: EC_BREAKPOINT_LOWER_EL };
        assert!(allows(&pe, Op::Execute, exit) && !allows(&pe, Op::Load, exit));
        pe.follow(Op::Execute, &exit);
        assert!(allows(&pe, Op::Execute, Event::Done), "userspace has switched it off");
        let step = GuestDebug::new(ENABLE | SINGLESTEP);
        assert!(allows(&pe, Op::Debug(step), Event::DebugExit { ec: EC_STEP_LOWER_EL }));
        assert!(!allows(&pe, Op::Debug(step), Event::Done));
    }

    #[test]
    fn userspace_reads_what_it_wrote_and_the_guests_id_register() {
        let mut pe = Pe::new(NO_DEBUG_FEATURE);
        assert!(allows(&pe, Op::Get(MDSCR_EL1), Event::Value(7)));
        pe.follow(Op::Set(MDSCR_EL1, 8), &Event::Done);
        assert!(!allows(&pe, Op::Get(MDSCR_EL1), Event::Value(7)));
        assert!(allows(&pe, Op::Get(MDSCR_EL1), Event::Value(8)));
        assert!(!allows(&pe, Op::Get(ID_AA64DFR0_EL1), Event::Value(0xf0_1030_5009)));
    }

    #[test]
    fn an_exit_belongs_to_the_operation_at_its_pc() {
        assert!(Op::Execute.owns(EC_BREAKPOINT_LOWER_EL, layout::marker(0)) && !Op::Execute.owns(0x30, LOAD));
        assert!(Op::Load.owns(EC_WATCHPOINT_LOWER_EL, LOAD) && Op::Store.owns(EC_WATCHPOINT_LOWER_EL, STORE));
        assert!(Op::Debug(GuestDebug::new(ENABLE | SINGLESTEP)).owns(EC_STEP_LOWER_EL, 0));
        assert!(!Op::Debug(GuestDebug::OFF).owns(EC_STEP_LOWER_EL, 0));
    }

    #[test]
    fn what_the_guest_logs_is_decoded_and_anything_else_is_refused() {
        let events = vec![Event::Done, Event::Value(7), Event::Exception { esr: 8, elr: 9 }];
        assert_eq!(decode(&[1, 2, 7, 3, 8, 9]), Some(events));
        assert_eq!(decode(&[3, 8]), None, "an event is cut off");
        assert_eq!(decode(&[4]), None, "no event has this number");
    }

    #[test]
    fn registers_of_every_pe_include_the_communications_channel() {
        let all: Vec<SysReg> = present_on_every_pe().collect();
        assert!(all.contains(&DBGCLAIMSET_EL1) && all.contains(&MDCCSR_EL0));
        assert!(!all.contains(&dbgbvr(0)) && !all.contains(&MDSCR_EL1) && !all.contains(&TRCIDR1));
    }
}
