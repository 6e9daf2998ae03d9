// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Userspace debugs the guest: what KVM_SET_GUEST_DEBUG is asked for, and which exits it may then cause.
//!
//! The API promises an exit for what userspace asked to debug. Of a breakpoint that the guest armed itself it
//! promises nothing, and kernels differ: up to 6.13 KVM_RUN ends with it when userspace does not use the registers
//! itself, since then it is silent. Both are allowed; that the guest takes it is not.

use crate::{control::Dbgbcr, wire};
use core::fmt;

/// KVM_GUESTDBG_ENABLE: guest debugging is enabled.
pub const ENABLE: u32 = 1 << 0;
/// KVM_GUESTDBG_SINGLESTEP: each KVM_RUN executes one instruction.
pub const SINGLESTEP: u32 = 1 << 1;
/// KVM_GUESTDBG_USE_SW_BP: the guest's BRK instructions are userspace's.
pub const USE_SW_BP: u32 = 1 << 16;
/// KVM_GUESTDBG_USE_HW: the breakpoint and watchpoint registers are userspace's.
pub const USE_HW: u32 = 1 << 17;
/// Every control bit that arm64 has.
pub const VALID: u32 = ENABLE | SINGLESTEP | USE_SW_BP | USE_HW;

const NAMES: [(u32, &str); 4] =
    [(ENABLE, "ENABLE"), (SINGLESTEP, "SINGLESTEP"), (USE_SW_BP, "USE_SW_BP"), (USE_HW, "USE_HW")];

/// What userspace does when KVM_RUN ends with its breakpoint or with BRK. After a step it always enters the vCPU
/// again as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// Moves PC behind the instruction: it is not executed.
    Skip,
    /// Steps over the instruction as a debugger does: KVM_GUESTDBG_SINGLESTEP alone for one KVM_RUN, then what was
    /// asked for before.
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
    /// The marker of the lowest numbered of them; each of the others has the next.
    pub marker: u8,
    /// DBGBCR of each.
    pub dbgbcr: Dbgbcr,
    /// What userspace does at an exit.
    pub on_exit: OnExit,
}

impl GuestDebug {
    /// Guest debugging switched off.
    pub const OFF: Self = Self::new(0);

    /// These control bits, and no breakpoint.
    pub const fn new(control: u32) -> Self {
        Self { control, breakpoints: 0, marker: 0, dbgbcr: Dbgbcr::address_at_el1(), on_exit: OnExit::Skip }
    }

    /// Hardware breakpoint `n` on a marker.
    pub const fn breakpoint(n: u8, marker: u8) -> Self {
        Self { breakpoints: 1 << n, marker, ..Self::new(ENABLE | USE_HW) }
    }

    /// The `count` lowest numbered hardware breakpoints, each on a marker of its own from marker 0.
    pub const fn first_breakpoints(count: u8) -> Self {
        Self { breakpoints: ((1_u32 << count) - 1) as u16, ..Self::new(ENABLE | USE_HW) }
    }

    /// The same with more control bits.
    pub const fn and(self, control: u32) -> Self {
        Self { control: self.control | control, ..self }
    }

    /// The same, and userspace does this at an exit.
    pub const fn on_exit(self, on_exit: OnExit) -> Self {
        Self { on_exit, ..self }
    }

    /// The same with this DBGBCR.
    pub const fn with_dbgbcr(self, dbgbcr: Dbgbcr) -> Self {
        Self { dbgbcr, ..self }
    }

    /// Guest debugging is on with these bits.
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
        (0..16).filter(move |n| numbers & 1 << n != 0).zip((self.marker..).map(wire::marker))
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
        match self.on_exit {
            OnExit::Skip => Ok(()),
            OnExit::StepOver => f.write_str("; at an exit it steps over the instruction"),
            OnExit::SwitchOff => f.write_str("; at an exit it switches off"),
        }
    }
}

#[cfg(feature = "oracle")]
pub use oracle::Debugger;

#[cfg(feature = "oracle")]
mod oracle {
    use super::{GuestDebug, OnExit, SINGLESTEP, USE_HW, USE_SW_BP, VALID};
    use crate::{
        control::{BAS_A64, BT_ADDRESS, PMC_EL1, PMC_EL1_EL0},
        event::{EC_BREAKPOINT_LOWER_EL, EC_BRK, EC_STEP_LOWER_EL},
        id_write::EINVAL,
        outcome::{Expected, Outcome, Unknown},
        rule::{self, Rule},
        wire,
    };
    use alloc::vec::Vec;

    /// ESR_EL2.IL: set for each of these exceptions.
    const IL: u64 = 1 << 25;
    /// ESR_EL2.IFSC of a debug exception.
    const IFSC_DEBUG: u64 = 0b10_0010;
    /// ESR_EL2.{ISV, EX} of a Software Step exception: KVM may have emulated the instruction, then ISV is 0.
    const STEP_UNKNOWN: u64 = 1 << 24 | 1 << 6;

    const fn exit(ec: u8, iss: u64, mask: u64, pc: u64) -> Expected {
        Expected::DebugExit { hsr: (ec as u64) << 26 | IL | iss, mask, pc, optional: false }
    }

    const fn breakpoint(pc: u64) -> Expected {
        exit(EC_BREAKPOINT_LOWER_EL, IFSC_DEBUG, u32::MAX as u64, pc)
    }

    const fn step(pc: u64) -> Expected {
        exit(EC_STEP_LOWER_EL, IFSC_DEBUG, u32::MAX as u64 & !STEP_UNKNOWN, pc)
    }

    /// A userspace that debugs the guest, or does not.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Debugger(Option<GuestDebug>);

    impl Debugger {
        /// Guest debugging is on.
        pub fn is_on(&self) -> bool {
            self.0.is_some()
        }

        /// KVM_SET_GUEST_DEBUG.
        pub fn set(&mut self, debug: GuestDebug) -> Outcome {
            if debug.control & !VALID != 0 {
                let events = Vec::from([Expected::Refused(EINVAL)]);
                return Outcome::certain(events, &rule::GUEST_DEBUG_INVALID);
            }
            self.0 = debug.is_on().then_some(debug);
            Outcome::silent(&rule::GUEST_DEBUG_OFF)
        }

        /// The exits when the guest calls the marker at this address. `guests_own`: a breakpoint of the guest's
        /// matches there, were it the guest's turn. Of `breakpoints` breakpoints that the host has.
        pub fn exits_at_marker(
            &mut self,
            marker: u64,
            breakpoints: u8,
            guests_own: bool,
        ) -> Result<Outcome, Unknown> {
            let Some(debug) = self.0 else {
                return Ok(Outcome::silent(&rule::GUEST_DEBUG_OFF));
            };
            let (hit, rule) = hit(&debug, marker, breakpoints)?;
            let may_exit = guests_own && !debug.has(USE_HW);
            if debug.has(SINGLESTEP) {
                if hit || may_exit {
                    return Err(Unknown("a breakpoint where userspace steps"));
                }
                let events = Vec::from([step(marker), step(marker + 4)]);
                return Ok(Outcome::certain(events, &rule::GUEST_DEBUG_STEPS));
            }
            if may_exit {
                if debug.on_exit != OnExit::Skip {
                    return Err(Unknown("an exit that may be or not, and what userspace does at it"));
                }
                let events = Vec::from([breakpoint(marker).or_nothing()]);
                return Ok(Outcome::certain(events, &rule::GUEST_DEBUG_GUESTS_OWN));
            }
            if !hit {
                return Ok(Outcome::silent(rule));
            }
            let mut events = Vec::from([breakpoint(marker)]);
            match debug.on_exit {
                OnExit::Skip => {}
                OnExit::StepOver => events.push(step(marker + 4)),
                OnExit::SwitchOff => self.0 = None,
            }
            Ok(Outcome::certain(events, rule))
        }

        /// The exits when the guest calls the BRK marker; the guest takes no exception of those that are skipped.
        pub fn exits_at_brk(&mut self) -> Result<Outcome, Unknown> {
            let Some(debug) = self.0 else {
                return Ok(Outcome::silent(&rule::GUEST_DEBUG_OFF));
            };
            if !debug.has(USE_SW_BP) || debug.has(SINGLESTEP) {
                return Err(Unknown("BRK while userspace debugs without software breakpoints or steps"));
            }
            match debug.on_exit {
                OnExit::Skip => {}
                OnExit::StepOver => return Err(Unknown("a step over BRK, which would exit again")),
                OnExit::SwitchOff => self.0 = None,
            }
            let brk = exit(EC_BRK, wire::BRK_IMMEDIATE as u64, u32::MAX as u64, wire::BRK);
            Ok(Outcome::certain(Vec::from([brk]), &rule::GUEST_DEBUG_SW_EXITS))
        }
    }

    /// A breakpoint of userspace's matches at this address, and the rule by which it does or does not. It is taken
    /// to EL2, so that neither MDSCR_EL1.KDE nor PSTATE.D masks it.
    fn hit(debug: &GuestDebug, marker: u64, breakpoints: u8) -> Result<(bool, &'static Rule), Unknown> {
        let here = debug.addresses().any(|(n, address)| n < breakpoints && address == marker);
        if !debug.has(USE_HW) || !here {
            return Ok((false, &rule::GUEST_DEBUG_HW_EXITS));
        }
        let control = debug.dbgbcr;
        if !control.e() {
            return Ok((false, &rule::BREAKPOINT_ENABLED));
        }
        if control.bt() != BT_ADDRESS
            || control.bas() != BAS_A64
            || control.hmc()
            || control.ssc().value() != 0
        {
            return Err(Unknown("this DBGBCR of userspace's"));
        }
        if control.pmc() != PMC_EL1 && control.pmc() != PMC_EL1_EL0 {
            return Ok((false, &rule::BREAKPOINT_PRIVILEGE));
        }
        Ok((true, &rule::GUEST_DEBUG_HW_EXITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::{BT_ADDRESS_LINKED, Mdscr, PMC_EL0, PMC_EL1_EL0},
        event::{Event, Exception, Logged},
        judge::judge,
        pe::Pe,
        rule,
        scenario::{Op, Scenario},
        shape::Shape,
        sysreg,
    };
    use alloc::{string::ToString, vec::Vec};
    use arbitrary_int::{u2, u4};

    const SHAPE: Shape =
        Shape { debug_ver: 8, breakpoints: 6, watchpoints: 4, context_aware: 2, double_lock: false };

    fn exit(hsr: u64, pc: u64) -> Event {
        Event::DebugExit { hsr, pc }
    }

    /// What is observed when the last operation causes these events.
    fn judged(scenario: &Scenario, events: &[Event]) -> Option<alloc::string::String> {
        let op = scenario.ops().len() - 1;
        let log: Vec<Logged> = events.iter().map(|event| Logged { op, event: *event }).collect();
        judge(Pe::new(SHAPE), scenario.ops(), &log).expect("modelled").map(|mismatch| mismatch.observed)
    }

    fn debugged(debug: GuestDebug) -> Scenario {
        Scenario::new()
            .then(Op::MaskDebug(false))
            .breakpoint(0, 1, Dbgbcr::address_at_el1())
            .enable(Mdscr::breakpoints_at_el1())
            .then(Op::Debug(debug))
    }

    const TAKEN: Event = Event::Exception(Exception {
        vector: 4,
        esr: 0xc600_0022,
        elr: wire::marker(1),
        spsr: 0x1c5,
        far: 0,
    });

    #[test]
    fn userspaces_breakpoint_exits_and_is_not_the_guests() {
        let scenario = debugged(GuestDebug::breakpoint(5, 1)).exec(1);
        assert_eq!(judged(&scenario, &[exit(0xc200_0022, wire::marker(1))]), None);
        assert_eq!(judged(&scenario, &[]).as_deref(), Some("exec marker 1: no event"));
        assert_eq!(
            judged(&scenario, &[exit(0xc200_0022, wire::marker(1) + 4)]).as_deref(),
            Some("exec marker 1: KVM_EXIT_DEBUG with EC 0x30 behind marker 1")
        );
        assert!(judged(&scenario, &[TAKEN]).is_some());
        assert_eq!(
            judged(&scenario, &[exit(0xca00_0022, wire::RAM); 7]).as_deref(),
            Some("exec marker 1: KVM_EXIT_DEBUG with EC 0x32 again and again")
        );
    }

    #[test]
    fn a_breakpoint_beyond_the_hosts_count_is_none() {
        assert_eq!(judged(&debugged(GuestDebug::breakpoint(6, 2)).exec(2), &[]), None);
    }

    #[test]
    fn switched_off_at_the_exit_the_guest_takes_its_own() {
        let debug = GuestDebug::breakpoint(5, 1).on_exit(OnExit::SwitchOff);
        let scenario = debugged(debug).exec(1);
        assert_eq!(judged(&scenario, &[exit(0xc200_0022, wire::marker(1)), TAKEN]), None);
        assert!(judged(&scenario, &[exit(0xc200_0022, wire::marker(1))]).is_some());
    }

    #[test]
    fn a_step_over_ends_behind_the_instruction() {
        let scenario = debugged(GuestDebug::breakpoint(5, 1).on_exit(OnExit::StepOver)).exec(1);
        let breakpoint = exit(0xc200_0022, wire::marker(1));
        for isv_and_ex in [0, 1 << 24, 1 << 24 | 1 << 6] {
            let step = exit(0xca00_0022 | isv_and_ex, wire::marker(1) + 4);
            assert_eq!(judged(&scenario, &[breakpoint, step]), None);
        }
        assert!(judged(&scenario, &[breakpoint]).is_some());
    }

    #[test]
    fn the_guests_own_breakpoint_may_exit_or_not_and_is_never_taken() {
        let scenario = debugged(GuestDebug::new(ENABLE)).exec(1);
        let breakpoint = exit(0xc200_0022, wire::marker(1));
        assert_eq!(judged(&scenario, &[]), None);
        assert_eq!(judged(&scenario, &[breakpoint]), None);
        assert!(judged(&scenario, &[breakpoint, breakpoint]).is_some());
        assert!(judged(&scenario, &[TAKEN]).is_some());
        let locked = debugged(GuestDebug::new(ENABLE)).write(sysreg::OSLAR_EL1, 1).exec(1);
        assert!(judged(&locked, &[breakpoint]).is_some(), "the OS Lock masks it on any kernel");
    }

    #[test]
    fn brk_exits_with_software_breakpoints_alone() {
        let brk = debugged(GuestDebug::new(ENABLE | USE_SW_BP)).isb().then(Op::Brk);
        assert_eq!(judged(&brk, &[exit(0xf200_00df, wire::BRK)]), None);
        assert!(judged(&brk, &[exit(0xf200_009f, wire::BRK)]).is_some(), "another immediate");
        let off = debugged(GuestDebug::new(USE_SW_BP)).isb().then(Op::Brk);
        assert!(judged(&off, &[exit(0xf200_00df, wire::BRK)]).is_some(), "without ENABLE it is off");
    }

    #[test]
    fn invalid_bits_are_refused_and_change_nothing() {
        let refused = debugged(GuestDebug::breakpoint(5, 1)).then(Op::Debug(GuestDebug::new(1 << 2)));
        assert_eq!(judged(&refused, &[Event::Refused(22)]), None);
        assert_eq!(judged(&refused, &[]).as_deref(), Some("KVM_SET_GUEST_DEBUG 0x4: no event"));
    }

    #[test]
    fn a_request_prints_its_bits_by_name_and_its_breakpoints_by_number() {
        assert_eq!(GuestDebug::OFF.to_string(), "KVM_SET_GUEST_DEBUG 0");
        assert_eq!(GuestDebug::new(ENABLE | 4).to_string(), "KVM_SET_GUEST_DEBUG ENABLE|0x4");
        assert_eq!(
            GuestDebug { breakpoints: 0b101, marker: 7, ..GuestDebug::breakpoint(0, 0) }.to_string(),
            "KVM_SET_GUEST_DEBUG ENABLE|USE_HW, breakpoint 0 on marker 7, breakpoint 2 on marker 8  \
             (E=1 PMC=0b01 BAS=0b1111 HMC=0 SSC=0b00 LBN=0 BT=0b0000)"
        );
        assert_eq!(GuestDebug::first_breakpoints(16).addresses().last(), Some((15, wire::marker(15))));
    }

    #[test]
    fn control_bits_are_those_of_kvms_header() {
        assert_eq!([ENABLE, SINGLESTEP, USE_SW_BP, USE_HW], [0x1, 0x2, 0x1_0000, 0x2_0000]);
        assert_eq!(VALID, 0x3_0003);
    }

    #[test]
    fn breakpoints_are_asked_for_with_guest_debugging_on() {
        let first = GuestDebug::first_breakpoints(3);
        assert_eq!((first.control, first.breakpoints), (ENABLE | USE_HW, 0b111));
        assert_eq!(GuestDebug::new(ENABLE).and(SINGLESTEP).control, ENABLE | SINGLESTEP);
        assert!(first.is_on() && !GuestDebug::OFF.is_on());
        assert!(first.has(ENABLE | USE_HW) && !first.has(ENABLE | SINGLESTEP));
    }

    #[test]
    fn a_step_ends_behind_each_instruction_and_on_no_breakpoint() {
        let mut steps = Debugger::default();
        steps.set(GuestDebug::new(ENABLE | SINGLESTEP));
        let marker = wire::marker(1);
        let outcome = steps.exits_at_marker(marker, 6, false).expect("modelled");
        assert_eq!(outcome.events.len(), 2);
        for (expected, pc) in outcome.events.iter().zip([marker, marker + 4]) {
            assert!(expected.admits(&exit(0xca00_0022, pc)), "{expected}");
        }
        assert!(steps.exits_at_marker(marker, 6, true).is_err(), "the guest's breakpoint");
        steps.set(GuestDebug::breakpoint(5, 1).and(SINGLESTEP));
        assert!(steps.exits_at_marker(marker, 6, false).is_err(), "userspace's breakpoint");
        assert!(steps.exits_at_brk().is_err(), "BRK");
    }

    #[test]
    fn brk_without_software_breakpoints_or_with_steps_is_not_modelled() {
        let at_brk = |control| {
            let mut debugger = Debugger::default();
            debugger.set(GuestDebug::new(control));
            debugger.exits_at_brk().is_ok()
        };
        assert!(at_brk(ENABLE | USE_SW_BP));
        assert!(!at_brk(ENABLE) && !at_brk(ENABLE | SINGLESTEP) && !at_brk(ENABLE | SINGLESTEP | USE_SW_BP));
    }

    #[test]
    fn userspaces_breakpoint_exits_at_el1_and_odd_controls_are_not_modelled() {
        let exits = |dbgbcr: Dbgbcr| {
            let mut debugger = Debugger::default();
            debugger.set(GuestDebug::breakpoint(5, 1).with_dbgbcr(dbgbcr));
            let outcome = debugger.exits_at_marker(wire::marker(1), 6, false);
            outcome.ok().map(|outcome| (outcome.events.len(), outcome.rule))
        };
        let control = Dbgbcr::address_at_el1();
        let fires = Some((1, &rule::GUEST_DEBUG_HW_EXITS));
        assert_eq!(exits(control), fires);
        assert_eq!(exits(control.with_pmc(PMC_EL1_EL0)), fires);
        assert_eq!(exits(control.with_pmc(PMC_EL0)), Some((0, &rule::BREAKPOINT_PRIVILEGE)));
        assert_eq!(exits(control.with_e(false)), Some((0, &rule::BREAKPOINT_ENABLED)));
        assert_eq!(exits(control.with_bt(BT_ADDRESS_LINKED)), None);
        assert_eq!(exits(control.with_bas(u4::new(0b0011))), None);
        assert_eq!(exits(control.with_hmc(true)), None);
        assert_eq!(exits(control.with_ssc(u2::new(1))), None);
    }
}
