// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Userspace debugs the guest: what KVM_SET_GUEST_DEBUG is called with.

use crate::{
    control::{Dbgbcr, Dbgwcr},
    layout,
};
use core::fmt;

/// KVM_GUESTDBG_ENABLE: guest debugging is enabled.
pub const ENABLE: u32 = 1 << 0;
/// KVM_GUESTDBG_SINGLESTEP: each KVM_RUN executes one instruction.
pub const SINGLESTEP: u32 = 1 << 1;
/// KVM_GUESTDBG_USE_SW_BP: BRK instructions of the guest exit to userspace.
pub const USE_SW_BP: u32 = 1 << 16;
/// KVM_GUESTDBG_USE_HW: userspace supplies the breakpoint and watchpoint registers.
pub const USE_HW: u32 = 1 << 17;
/// All control bits that arm64 has.
pub const VALID: u32 = ENABLE | SINGLESTEP | USE_SW_BP | USE_HW;

const NAMES: [(u32, &str); 4] =
    [(ENABLE, "ENABLE"), (SINGLESTEP, "SINGLESTEP"), (USE_SW_BP, "USE_SW_BP"), (USE_HW, "USE_HW")];

/// What userspace does when KVM_RUN ends because of its breakpoint, its watchpoint or BRK. After a step it
/// always enters the vCPU again without a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// Moves PC past the instruction, which is not executed.
    Skip,
    /// Steps over the instruction as a debugger does: KVM_GUESTDBG_SINGLESTEP alone for one KVM_RUN, then the
    /// earlier request again.
    StepOver,
    /// Switches guest debugging off: the guest executes the instruction.
    SwitchOff,
}

/// What KVM_SET_GUEST_DEBUG is called with, and what userspace does at an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestDebug {
    /// The control bits.
    pub control: u32,
    /// Which breakpoints userspace supplies, bit n for number n; the others are zero.
    pub breakpoints: u16,
    /// The marker of the lowest numbered of these breakpoints; each following one has the next marker.
    pub marker: u8,
    /// DBGBCR of each of these breakpoints.
    pub dbgbcr: Dbgbcr,
    /// Which watchpoints userspace supplies, bit n for number n; the others are zero.
    pub watchpoints: u16,
    /// The doubleword of the lowest numbered of these watchpoints; each following one has the next
    /// doubleword.
    pub watched: u64,
    /// DBGWCR of each of these watchpoints.
    pub dbgwcr: Dbgwcr,
    /// What userspace does at an exit.
    pub on_exit: OnExit,
}

impl GuestDebug {
    /// Guest debugging switched off.
    pub const OFF: Self = Self::new(0);

    /// These control bits, without breakpoints and watchpoints.
    pub const fn new(control: u32) -> Self {
        Self {
            control,
            breakpoints: 0,
            marker: 0,
            dbgbcr: Dbgbcr::address_at_el1(),
            watchpoints: 0,
            watched: layout::TARGET,
            dbgwcr: Dbgwcr::doubleword(),
            on_exit: OnExit::Skip,
        }
    }

    /// Hardware breakpoint `n` on a marker.
    pub const fn breakpoint(n: u8, marker: u8) -> Self {
        Self { breakpoints: 1 << n, marker, ..Self::new(ENABLE | USE_HW) }
    }

    /// The `count` lowest numbered hardware breakpoints, on consecutive markers starting with marker 0.
    pub const fn first_breakpoints(count: u8) -> Self {
        Self { breakpoints: ((1_u32 << count) - 1) as u16, ..Self::new(ENABLE | USE_HW) }
    }

    /// Hardware watchpoint `n` on the doubleword at an address.
    pub const fn watchpoint(n: u8, watched: u64) -> Self {
        Self::new(ENABLE | USE_HW).and_watchpoint(n, watched)
    }

    /// The `count` lowest numbered hardware watchpoints, on consecutive doublewords starting at an address.
    pub const fn first_watchpoints(count: u8, watched: u64) -> Self {
        Self { watchpoints: ((1_u32 << count) - 1) as u16, watched, ..Self::new(ENABLE | USE_HW) }
    }

    /// Sets the watchpoints: hardware watchpoint `n` alone, on the doubleword at an address.
    pub const fn and_watchpoint(self, n: u8, watched: u64) -> Self {
        Self { watchpoints: 1 << n, watched, ..self }
    }

    /// Sets DBGWCR of the watchpoints.
    pub const fn with_dbgwcr(self, dbgwcr: Dbgwcr) -> Self {
        Self { dbgwcr, ..self }
    }

    /// Adds control bits.
    pub const fn and(self, control: u32) -> Self {
        Self { control: self.control | control, ..self }
    }

    /// Sets what userspace does at an exit.
    pub const fn on_exit(self, on_exit: OnExit) -> Self {
        Self { on_exit, ..self }
    }

    /// Sets DBGBCR of the breakpoints.
    pub const fn with_dbgbcr(self, dbgbcr: Dbgbcr) -> Self {
        Self { dbgbcr, ..self }
    }

    /// KVM_GUESTDBG_ENABLE is set.
    pub const fn is_on(&self) -> bool {
        self.control & ENABLE != 0
    }

    /// All of these control bits are set.
    pub const fn has(&self, control: u32) -> bool {
        self.control & control == control
    }

    /// The numbers of the breakpoints that userspace supplies, and their addresses.
    pub fn addresses(&self) -> impl Iterator<Item = (u8, u64)> {
        let numbers = self.breakpoints;
        (0..16).filter(move |n| numbers & 1 << n != 0).zip((self.marker..).map(layout::marker))
    }

    /// The numbers of the watchpoints that userspace supplies, and their addresses.
    pub fn watched_addresses(&self) -> impl Iterator<Item = (u8, u64)> {
        let (numbers, watched) = (self.watchpoints, self.watched);
        let addresses = (0..).map(move |place| watched.wrapping_add(8 * place));
        (0..16).filter(move |n| numbers & 1 << n != 0).zip(addresses)
    }

    /// The control bits by name.
    pub fn control_names(&self) -> impl fmt::Display {
        ControlNames(self.control)
    }
}

struct ControlNames(u32);

impl fmt::Display for ControlNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (_, name) in NAMES.into_iter().filter(|(bit, _)| self.0 & bit != 0) {
            write!(f, "{between}{name}")?;
            between = "|";
        }
        match self.0 & !VALID {
            0 if between.is_empty() => f.write_str("0"),
            0 => Ok(()),
            invalid => write!(f, "{between}{invalid:#x}"),
        }
    }
}

impl fmt::Display for GuestDebug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KVM_SET_GUEST_DEBUG {}", self.control_names())?;
        if self.breakpoints != 0 {
            for (place, (n, _)) in (self.marker..).zip(self.addresses()) {
                write!(f, ", breakpoint {n} on marker {place}")?;
            }
            write!(f, "  ({})", self.dbgbcr)?;
        }
        if self.watchpoints != 0 {
            for (n, address) in self.watched_addresses() {
                write!(f, ", watchpoint {n} on {address:#x}")?;
            }
            write!(f, "  ({})", self.dbgwcr)?;
        }
        match self.on_exit {
            OnExit::Skip => Ok(()),
            OnExit::StepOver => f.write_str("; at an exit userspace steps over the instruction"),
            OnExit::SwitchOff => f.write_str("; at an exit userspace switches debugging off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_request_prints_its_bits_by_name_and_its_breakpoints_by_number() {
        assert_eq!(GuestDebug::OFF.to_string(), "KVM_SET_GUEST_DEBUG 0");
        assert_eq!(GuestDebug::new(ENABLE | 4).to_string(), "KVM_SET_GUEST_DEBUG ENABLE|0x4");
        assert_eq!(
            GuestDebug { breakpoints: 0b101, marker: 7, ..GuestDebug::breakpoint(0, 0) }.to_string(),
            "KVM_SET_GUEST_DEBUG ENABLE|USE_HW, breakpoint 0 on marker 7, breakpoint 2 on marker 8  \
             (E=1 PMC=0b01 BAS=0b1111 HMC=0 SSC=0b00 LBN=0 BT=0b0000)"
        );
        assert_eq!(GuestDebug::first_breakpoints(16).addresses().last(), Some((15, layout::marker(15))));
        assert_eq!(
            GuestDebug { watchpoints: 0b101, ..GuestDebug::watchpoint(0, 0x40) }.to_string(),
            "KVM_SET_GUEST_DEBUG ENABLE|USE_HW, watchpoint 0 on 0x40, watchpoint 2 on 0x48  \
             (E=1 PAC=0b11 LSC=0b11 BAS=0b11111111 HMC=0 SSC=0b00 LBN=0 WT=0 MASK=0)"
        );
        assert_eq!(GuestDebug::first_watchpoints(16, 0x40).watched_addresses().last(), Some((15, 0xb8)));
    }

    #[test]
    fn control_bits_are_those_of_kvms_header() {
        assert_eq!([ENABLE, SINGLESTEP, USE_SW_BP, USE_HW], [0x1, 0x2, 0x1_0000, 0x2_0000]);
        assert_eq!(VALID, 0x3_0003);
    }

    #[test]
    fn a_request_for_breakpoints_or_watchpoints_enables_guest_debugging() {
        let first = GuestDebug::first_breakpoints(3);
        assert_eq!((first.control, first.breakpoints), (ENABLE | USE_HW, 0b111));
        let watching = GuestDebug::first_watchpoints(3, layout::TARGET);
        assert_eq!((watching.control, watching.watchpoints), (ENABLE | USE_HW, 0b111));
        assert_eq!(GuestDebug::new(ENABLE).and(SINGLESTEP).control, ENABLE | SINGLESTEP);
        assert!(first.is_on() && !GuestDebug::OFF.is_on());
        assert!(first.has(ENABLE | USE_HW) && !first.has(ENABLE | SINGLESTEP));
    }
}
