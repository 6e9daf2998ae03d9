// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What happened: the events that the payload and the runner log.

use core::fmt;

/// ESR_EL1.EC of an instruction that is UNDEFINED, among others: "Unknown reason".
pub const EC_UNKNOWN: u8 = 0x00;
/// ESR_EL1.EC of a WFI or WFE that is trapped.
pub const EC_WFX: u8 = 0x01;
/// ESR_EL1.EC of an instruction executed with PSTATE.IL set.
pub const EC_ILLEGAL_STATE: u8 = 0x0e;
/// ESR_EL1.EC of an MSR, MRS or System instruction in AArch64 state that is trapped.
pub const EC_SYSTEM: u8 = 0x18;
/// ESR_EL1.EC of a Data Abort taken from a lower Exception level.
pub const EC_DATA_ABORT_LOWER_EL: u8 = 0x24;
/// ESR_EL1.EC of a Data Abort taken from the Exception level that takes it.
pub const EC_DATA_ABORT_CURRENT_EL: u8 = 0x25;
/// ESR_EL1.EC of an SVC executed in AArch64 state.
pub const EC_SVC: u8 = 0x15;
/// ESR_EL1.EC of a Breakpoint exception taken from a lower Exception level.
pub const EC_BREAKPOINT_LOWER_EL: u8 = 0x30;
/// ESR_EL1.EC of a Software Step exception taken from a lower Exception level.
pub const EC_STEP_LOWER_EL: u8 = 0x32;
/// ESR_EL1.EC of a Software Step exception taken from the Exception level that takes it.
pub const EC_STEP_CURRENT_EL: u8 = 0x33;
/// ESR_EL1.EC of a Watchpoint exception taken from a lower Exception level.
pub const EC_WATCHPOINT_LOWER_EL: u8 = 0x34;
/// ESR_EL1.EC of a Watchpoint exception taken from the Exception level that takes it.
pub const EC_WATCHPOINT_CURRENT_EL: u8 = 0x35;
/// ESR_EL1.EC of a Breakpoint exception taken from the Exception level that takes it.
pub const EC_BREAKPOINT_CURRENT_EL: u8 = 0x31;
/// ESR_EL1.EC of a BRK instruction executed in AArch64 state.
pub const EC_BRK: u8 = 0x3c;

/// The vector of a synchronous exception from the current Exception level with SP_ELx.
pub const VECTOR_CURRENT_EL_SYNCHRONOUS: u64 = 4;
/// The vector of a synchronous exception from a lower Exception level in AArch64 state.
pub const VECTOR_LOWER_EL_SYNCHRONOUS: u64 = 8;

/// An exception as its handler found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Which of the 16 vectors was entered; 4 is "current EL with SP_ELx, synchronous".
    pub vector: u64,
    /// ESR_EL1.
    pub esr: u64,
    /// ELR_EL1.
    pub elr: u64,
    /// SPSR_EL1.
    pub spsr: u64,
    /// FAR_EL1.
    pub far: u64,
}

impl Exception {
    /// ESR_EL1.EC, the exception class.
    pub const fn ec(&self) -> u8 {
        (self.esr >> 26 & 0x3f) as u8
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_without_far(f)?;
        write!(f, " FAR {:#x}", self.far)
    }
}

impl Exception {
    /// Prints all registers except FAR_EL1, which is UNKNOWN for most exceptions.
    pub(crate) fn fmt_without_far(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vector, esr, elr, spsr, .. } = self;
        let class = match self.ec() {
            EC_UNKNOWN => "UNDEFINED instruction",
            EC_BREAKPOINT_LOWER_EL | EC_BREAKPOINT_CURRENT_EL => "Breakpoint exception",
            EC_STEP_LOWER_EL | EC_STEP_CURRENT_EL => "Software Step exception",
            EC_WATCHPOINT_LOWER_EL | EC_WATCHPOINT_CURRENT_EL => "Watchpoint exception",
            EC_BRK => "BRK exception",
            EC_DATA_ABORT_LOWER_EL | EC_DATA_ABORT_CURRENT_EL => "Data Abort exception",
            EC_ILLEGAL_STATE => "Illegal Execution state exception",
            EC_WFX | EC_SYSTEM => "trap",
            _ => "exception",
        };
        write!(
            f,
            "{class}: EC {:#04x} ESR {esr:#x} ELR {elr:#x} SPSR {spsr:#x} vector {:#x}",
            self.ec(),
            vector * 0x80
        )
    }
}

/// Something that an operation caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A register was read.
    Value(u64),
    /// An exception was taken to EL1.
    Exception(Exception),
    /// KVM refused userspace's access with this errno.
    Refused(i32),
    /// KVM_RUN ended with KVM_EXIT_DEBUG.
    DebugExit {
        /// `kvm_debug_exit_arch.hsr`: ESR_EL2's low word.
        hsr: u64,
        /// The vCPU's PC.
        pc: u64,
        /// `kvm_debug_exit_arch.far` of a watchpoint; for other exits it is zero.
        far: u64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "{value:#x}"),
            Self::Exception(exception) => exception.fmt(f),
            Self::Refused(errno) => write!(f, "refused with errno {errno}"),
            Self::DebugExit { hsr, pc, far } => {
                let ec = debug_exit_class(*hsr);
                write!(f, "KVM_EXIT_DEBUG: EC {ec:#04x} HSR {hsr:#x} PC {pc:#x}")?;
                if ec == EC_WATCHPOINT_LOWER_EL { write!(f, " FAR {far:#x}") } else { Ok(()) }
            }
        }
    }
}

/// `kvm_debug_exit_arch.hsr`'s exception class.
pub const fn debug_exit_class(hsr: u64) -> u8 {
    (hsr >> 26 & 0x3f) as u8
}

/// An event, and the place in the program of the operation that caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    /// The operation's place in the program.
    pub op: usize,
    /// What it caused.
    pub event: Event,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    const WATCHPOINT: Exception =
        Exception { vector: 4, esr: 0xd600_0062, elr: 0x10, spsr: 0x1c5, far: 0x20 };

    #[test]
    fn the_class_is_bits_31_to_26_of_the_syndrome() {
        assert_eq!(Exception { esr: 0xc600_0022, ..WATCHPOINT }.ec(), EC_BREAKPOINT_CURRENT_EL);
        assert_eq!(Exception { esr: 0x1f_f200_00df, ..WATCHPOINT }.ec(), EC_BRK);
    }

    #[test]
    fn an_exception_prints_its_class_and_every_register() {
        assert_eq!(
            WATCHPOINT.to_string(),
            "Watchpoint exception: EC 0x35 ESR 0xd6000062 ELR 0x10 SPSR 0x1c5 vector 0x200 FAR 0x20"
        );
        for (ec, class) in [
            (EC_UNKNOWN, "UNDEFINED instruction: EC 0x00 "),
            (EC_SVC, "exception: EC 0x15 "),
            (EC_BREAKPOINT_LOWER_EL, "Breakpoint exception: EC 0x30 "),
            (EC_BREAKPOINT_CURRENT_EL, "Breakpoint exception: EC 0x31 "),
            (EC_STEP_LOWER_EL, "Software Step exception: EC 0x32 "),
            (EC_STEP_CURRENT_EL, "Software Step exception: EC 0x33 "),
            (EC_WATCHPOINT_LOWER_EL, "Watchpoint exception: EC 0x34 "),
            (EC_BRK, "BRK exception: EC 0x3c "),
        ] {
            let exception = Exception { esr: u64::from(ec) << 26, ..WATCHPOINT };
            assert!(exception.to_string().starts_with(class), "{exception}");
        }
    }

    #[test]
    fn an_event_prints_its_kind_and_its_values() {
        assert_eq!(Event::Value(0x1f).to_string(), "0x1f");
        assert_eq!(Event::Refused(22).to_string(), "refused with errno 22");
        assert_eq!(Event::Exception(WATCHPOINT).to_string(), WATCHPOINT.to_string());
        let exit = |hsr| Event::DebugExit { hsr, pc: 0x10, far: 0x20 }.to_string();
        assert_eq!(exit(0xc200_0022), "KVM_EXIT_DEBUG: EC 0x30 HSR 0xc2000022 PC 0x10");
        assert_eq!(exit(0xd200_0062), "KVM_EXIT_DEBUG: EC 0x34 HSR 0xd2000062 PC 0x10 FAR 0x20");
    }
}
