// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Userspace debugs the guest: the exits that it may cause.
//!
//! The API promises an exit for what userspace asked to debug. It promises nothing about the breakpoints and
//! watchpoints that the guest has set, and kernels differ: up to 6.13 a match of one of them ends KVM_RUN if
//! userspace does not use the registers itself; later kernels ignore the match. Both are allowed, but the
//! guest must not take the exception.

use crate::{
    control::{BAS_A64, BT_ADDRESS, PMC_EL1, PMC_EL1_EL0},
    event::{EC_BREAKPOINT_LOWER_EL, EC_BRK, EC_STEP_CURRENT_EL, EC_STEP_LOWER_EL, EC_WATCHPOINT_LOWER_EL},
    guest_debug::{ENABLE, GuestDebug, OnExit, SINGLESTEP, USE_HW, USE_SW_BP, VALID},
    id_write::EINVAL,
    layout,
    matching::{Hit, Match},
    op::{Entry, Passage},
    outcome::{ESR_IL, Expected, IFSC_DEBUG, Outcome, Unknown, esr_of_watchpoint},
    registers::Registers,
    rule::{self, Rule},
    sysreg::{dbgwcr, dbgwvr},
};
use alloc::vec::Vec;

/// ESR_EL2.{ISV, EX} of a Software Step exception, which are not compared: ISV is 0 if KVM emulated the
/// instruction.
const STEP_UNKNOWN: u64 = 1 << 24 | 1 << 6;

const fn exit(ec: u8, iss: u64, mask: u64, pc: u64) -> Expected {
    Expected::DebugExit { hsr: (ec as u64) << 26 | ESR_IL | iss, mask, pc, far: (0, 0), optional: false }
}

/// The exit of a watchpoint that matches an access by the instruction at `pc`.
const fn watchpoint(pc: u64, hit: &Hit) -> Expected {
    let (wnr, compared) = esr_of_watchpoint(hit.wnr);
    Expected::DebugExit {
        hsr: (EC_WATCHPOINT_LOWER_EL as u64) << 26 | ESR_IL | IFSC_DEBUG | wnr,
        mask: u32::MAX as u64 & compared,
        pc,
        far: hit.far,
        optional: false,
    }
}

const fn breakpoint(pc: u64) -> Expected {
    exit(EC_BREAKPOINT_LOWER_EL, IFSC_DEBUG, u32::MAX as u64, pc)
}

const fn step(pc: u64) -> Expected {
    exit(EC_STEP_LOWER_EL, IFSC_DEBUG, u32::MAX as u64 & !STEP_UNKNOWN, pc)
}

/// Userspace steps the RET of code that an exception return entered, and debugs no longer. The guest takes its own step
/// afterwards, if it would have taken one before the RET. `outcome`: without userspace's step.
pub(crate) fn step_over_ret(entry: Entry, outcome: &Outcome) -> Result<Outcome, Unknown> {
    let mut events = Vec::from([step(layout::RETURN)]);
    match (entry, outcome.events.as_slice()) {
        (Entry::Return { steps: 0, .. }, []) => {}
        (Entry::Return { ss: true, steps: 1 }, [Expected::Exception { esr, .. }])
            if esr >> 26 == EC_STEP_CURRENT_EL.into() =>
        {
            events.extend(outcome.events.iter().map(|event| event.at(layout::RETURN)));
        }
        _ => {
            return Err(Unknown(
                "other debug exceptions of the guest's where userspace steps one instruction",
            ));
        }
    }
    match outcome.or.is_empty() {
        true => Ok(Outcome::certain(events, &rule::GUEST_DEBUG_KEEPS_STEP)),
        false => Err(Unknown("several outcomes where userspace steps one instruction")),
    }
}

/// Userspace as the guest's debugger; `None` while guest debugging is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Debugger(Option<GuestDebug>);

impl Debugger {
    /// Guest debugging is on.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The outcome of KVM_SET_GUEST_DEBUG.
    pub fn set(&mut self, debug: GuestDebug) -> Outcome {
        if debug.control & !VALID != 0 {
            let events = Vec::from([Expected::Refused(EINVAL)]);
            return Outcome::certain(events, &rule::GUEST_DEBUG_INVALID);
        }
        self.0 = debug.is_on().then_some(debug);
        Outcome::silent(&rule::GUEST_DEBUG_OFF)
    }

    /// The exits when the guest calls the marker at this address. `breakpoints`: the number of the host's
    /// breakpoints. `guests_own`: a breakpoint of the guest would match there if userspace did not debug.
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
                return Err(Unknown("a breakpoint while userspace steps"));
            }
            let events = Vec::from([step(marker), step(marker + 4)]);
            return Ok(Outcome::certain(events, &rule::GUEST_DEBUG_STEPS));
        }
        if may_exit {
            if debug.on_exit != OnExit::Skip {
                return Err(Unknown("what userspace does at an exit that may not happen"));
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

    /// Registers with only the watchpoints that userspace supplied; without KVM_GUESTDBG_USE_HW there are
    /// none.
    pub(crate) fn watchpoints(&self) -> Registers {
        let mut registers = Registers::RESET;
        if let Some(debug) = self.0.filter(|debug| debug.has(USE_HW)) {
            for (n, address) in debug.watched_addresses() {
                registers.set(dbgwvr(n), address);
                registers.set(dbgwcr(n), debug.dbgwcr.raw_value());
            }
        }
        registers
    }

    /// The exits when the guest executes the access at `code`. `userspaces`: whether userspace's
    /// watchpoints match it. `guests_own`: the guest's watchpoints, if they would match when userspace
    /// did not debug.
    pub(crate) fn exits_at_access(
        &mut self,
        code: u64,
        userspaces: &Hit,
        guests_own: Option<&Hit>,
    ) -> Result<Outcome, Unknown> {
        let Some(debug) = self.0 else {
            return Ok(Outcome::silent(&rule::GUEST_DEBUG_OFF));
        };
        if debug.watchpoints != 0 && debug.dbgwcr.wt() {
            return Err(Unknown("a linked watchpoint of userspace"));
        }
        let guests_own = guests_own.filter(|_| !debug.has(USE_HW));
        let matches = userspaces.verdict.matches;
        if debug.has(SINGLESTEP) {
            if matches > Match::No || guests_own.is_some() {
                return Err(Unknown("a watchpoint while userspace steps"));
            }
            let events = Vec::from([step(code), step(code + 4)]);
            return Ok(Outcome::certain(events, &rule::GUEST_DEBUG_STEPS));
        }
        if (guests_own.is_some() || matches == Match::May) && debug.on_exit != OnExit::Skip {
            return Err(Unknown("what userspace does at an exit that may not happen"));
        }
        if let Some(hit) = guests_own {
            let events = Vec::from([watchpoint(code, hit).or_nothing()]);
            return Ok(Outcome::certain(events, &rule::GUEST_DEBUG_GUESTS_OWN));
        }
        let exit = watchpoint(code, userspaces);
        let mut events = match matches {
            Match::No => return Ok(Outcome::silent(userspaces.verdict.rule)),
            Match::May => Vec::from([exit.or_nothing()]),
            Match::Yes => Vec::from([exit]),
        };
        match debug.on_exit {
            OnExit::Skip => {}
            OnExit::StepOver => events.push(step(code + 4)),
            OnExit::SwitchOff => self.0 = None,
        }
        Ok(Outcome::certain(events, &rule::GUEST_DEBUG_WATCHPOINT_EXITS))
    }

    /// What happens when the guest executes an UNDEFINED instruction at `code`: besides the exits, its handler logs it.
    pub(crate) fn exits_at_undefined(&self, code: u64) -> Result<Outcome, Unknown> {
        if !self.0.is_some_and(|debug| debug.has(SINGLESTEP)) {
            return Err(Unknown("an UNDEFINED instruction while userspace debugs without steps"));
        }
        let events = Vec::from([step(code), step(layout::VECTOR), Expected::Undefined, step(code + 4)]);
        Ok(Outcome::certain(events, &rule::GUEST_DEBUG_STEPS_INTO_HANDLER))
    }

    /// The exits when the guest's store at `code` ends KVM_RUN and userspace then does this.
    pub(crate) fn exits_at_passage(&mut self, code: u64, passage: Passage) -> Result<Outcome, Unknown> {
        if self.0.is_some_and(|debug| debug.has(USE_HW)) {
            return Err(Unknown(
                "a store that ends KVM_RUN while userspace uses the breakpoints and watchpoints",
            ));
        }
        let stepped = self.0.is_some_and(|debug| debug.has(SINGLESTEP));
        let (events, rule) = match passage {
            Passage::Migrate(_) if stepped => {
                return Err(Unknown("a vCPU that moves in the middle of userspace's step"));
            }
            Passage::StepsNothing | Passage::StepsOne if stepped => {
                return Err(Unknown("an entry for steps while one is pending"));
            }
            Passage::StepsOne => {
                return Err(Unknown("userspace's step of an instruction of the payload's own"));
            }
            // The same request again changes nothing.
            Passage::Complete | Passage::Steps if stepped => {
                (Vec::from([step(code), step(code + 4)]), &rule::GUEST_DEBUG_STEP_PENDING)
            }
            Passage::DebugOff | Passage::DebugOn if stepped => {
                (Vec::from([step(code)]), &rule::GUEST_DEBUG_STEP_FORGOTTEN)
            }
            Passage::Steps => (Vec::new(), &rule::GUEST_DEBUG_STEP_FORGOTTEN),
            _ => (Vec::new(), &rule::GUEST_DEBUG_OFF),
        };
        match passage {
            Passage::Migrate(_) | Passage::Complete => {}
            Passage::DebugOff | Passage::StepsNothing | Passage::StepsOne => self.0 = None,
            Passage::DebugOn => self.0 = Some(GuestDebug::new(ENABLE)),
            Passage::Steps => self.0 = Some(GuestDebug::new(ENABLE | SINGLESTEP)),
        }
        Ok(Outcome::certain(events, rule))
    }

    /// The exits when the guest calls the BRK marker. If userspace skips the BRK, the guest takes no
    /// exception. `guests`: what the guest takes if userspace does not debug.
    pub fn exits_at_brk(&mut self, guests: Vec<Expected>) -> Result<Outcome, Unknown> {
        let Some(debug) = self.0 else {
            return Ok(Outcome::silent(&rule::GUEST_DEBUG_OFF));
        };
        if debug.has(SINGLESTEP) {
            return Err(Unknown("BRK while userspace steps"));
        }
        let brk = exit(EC_BRK, layout::BRK_IMMEDIATE as u64, u32::MAX as u64, layout::BRK);
        let mut events = Vec::from([brk]);
        if !debug.has(USE_SW_BP) {
            return match debug.on_exit {
                OnExit::Skip => {
                    Ok(Outcome { events, or: Vec::from([guests]), rule: &rule::GUEST_DEBUG_GUESTS_BRK })
                }
                _ => Err(Unknown("what userspace does at an exit that may not happen")),
            };
        }
        match debug.on_exit {
            OnExit::Skip => {}
            OnExit::StepOver => return Err(Unknown("a step over BRK, which would exit again")),
            OnExit::SwitchOff => {
                self.0 = None;
                events.extend(guests);
            }
        }
        Ok(Outcome::certain(events, &rule::GUEST_DEBUG_SW_EXITS))
    }
}

/// Whether a breakpoint of userspace matches at this address, and the rule that decides. The exception is
/// taken to EL2, so neither MDSCR_EL1.KDE nor PSTATE.D masks it.
fn hit(debug: &GuestDebug, marker: u64, breakpoints: u8) -> Result<(bool, &'static Rule), Unknown> {
    let here = debug.addresses().any(|(n, address)| n < breakpoints && address == marker);
    if !debug.has(USE_HW) || !here {
        return Ok((false, &rule::GUEST_DEBUG_HW_EXITS));
    }
    let control = debug.dbgbcr;
    if !control.e() {
        return Ok((false, &rule::BREAKPOINT_ENABLED));
    }
    if control.bt() != BT_ADDRESS || control.bas() != BAS_A64 || control.hmc() || control.ssc().value() != 0 {
        return Err(Unknown("this DBGBCR of userspace"));
    }
    if control.pmc() != PMC_EL1 && control.pmc() != PMC_EL1_EL0 {
        return Ok((false, &rule::BREAKPOINT_PRIVILEGE));
    }
    Ok((true, &rule::GUEST_DEBUG_HW_EXITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::Access,
        control::{BT_ADDRESS_LINKED, Dbgbcr, Dbgwcr, LSC_LOAD, LSC_STORE, Mdscr, PMC_EL0},
        event::{Event, Exception, Logged},
        guest_debug::ENABLE,
        judge::judge,
        pe::Pe,
        scenario::{Migrate, Op, Scenario},
        sequence::Sequence,
        shape::Shape,
        sysreg,
    };
    use arbitrary_int::{u2, u4};

    const SHAPE: Shape =
        Shape { debug_ver: 8, breakpoints: 6, watchpoints: 4, context_aware: 2, double_lock: false };

    fn exit(hsr: u64, pc: u64) -> Event {
        Event::DebugExit { hsr, pc, far: 0 }
    }

    const WATCHED: u64 = layout::TARGET + 0x40;
    const STR: &Access = Access::named("str x1");
    const LDR: &Access = Access::named("ldr x1");

    fn watchpoint(hsr: u64, access: &Access, far: u64) -> Event {
        Event::DebugExit { hsr, pc: layout::access_code(access), far }
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
        elr: layout::marker(1),
        spsr: 0x1c5,
        far: 0,
    });

    #[test]
    fn userspaces_breakpoint_exits_and_is_not_the_guests() {
        let scenario = debugged(GuestDebug::breakpoint(5, 1)).exec(1);
        assert_eq!(judged(&scenario, &[exit(0xc200_0022, layout::marker(1))]), None);
        assert_eq!(judged(&scenario, &[]).as_deref(), Some("exec marker 1: no event"));
        assert_eq!(
            judged(&scenario, &[exit(0xc200_0022, layout::marker(1) + 4)]).as_deref(),
            Some("exec marker 1: KVM_EXIT_DEBUG with EC 0x30 after marker 1")
        );
        assert!(judged(&scenario, &[TAKEN]).is_some());
        assert_eq!(
            judged(&scenario, &[exit(0xca00_0022, layout::RAM); 7]).as_deref(),
            Some("exec marker 1: KVM_EXIT_DEBUG with EC 0x32 again and again")
        );
    }

    #[test]
    fn userspaces_watchpoint_exits_with_a_byte_of_the_access_and_is_not_the_guests() {
        let scenario = debugged(GuestDebug::watchpoint(3, WATCHED));
        let store = scenario.clone().access(STR, WATCHED + 3);
        for far in [WATCHED + 3, WATCHED + 7] {
            assert_eq!(judged(&store, &[watchpoint(0xd200_0062, STR, far)]), None);
            let v8p9 = 0xd200_0062 | 0x3f << 18 | 0b111 << 15 | 1 << 10;
            assert_eq!(judged(&store, &[watchpoint(v8p9, STR, far)]), None);
        }
        assert!(judged(&store, &[watchpoint(0xd200_0062, STR, WATCHED + 2)]).is_some());
        assert!(judged(&store, &[watchpoint(0xd200_0062, STR, WATCHED + 8)]).is_some());
        assert!(judged(&store, &[watchpoint(0xd200_0022, STR, WATCHED + 3)]).is_some(), "WnR");
        assert!(judged(&store, &[watchpoint(0xd200_0062, LDR, WATCHED + 3)]).is_some(), "PC");
        assert_eq!(judged(&store, &[]).as_deref(), Some("str x1: no event"));
        let load = scenario.access(LDR, WATCHED);
        assert_eq!(judged(&load, &[watchpoint(0xd200_0022, LDR, WATCHED)]), None);
    }

    #[test]
    fn userspaces_watchpoint_watches_what_its_control_says() {
        let exits = |n: u8, control: Dbgwcr, access| {
            let debug = GuestDebug::watchpoint(n, WATCHED).with_dbgwcr(control);
            let hsr = if access == STR { 0xd200_0062 } else { 0xd200_0022 };
            judged(&debugged(debug).access(access, WATCHED), &[watchpoint(hsr, access, WATCHED)]).is_none()
        };
        let control = Dbgwcr::doubleword();
        assert!(exits(3, control, STR) && exits(3, control.with_pac(PMC_EL1), STR));
        assert!(!exits(4, control, STR), "beyond the host's count");
        assert!(!exits(3, control.with_e(false), STR) && !exits(3, control.with_pac(PMC_EL0), STR));
        assert!(exits(3, control.with_lsc(LSC_STORE), STR) && !exits(3, control.with_lsc(LSC_STORE), LDR));
        assert!(exits(3, control.with_lsc(LSC_LOAD), LDR) && !exits(3, control.with_lsc(LSC_LOAD), STR));
        let linked = debugged(GuestDebug::watchpoint(3, WATCHED).with_dbgwcr(control.with_wt(true)));
        let mut pe = Pe::new(SHAPE);
        let linked = linked.access(STR, WATCHED + 8);
        let outcome = linked.ops().iter().try_for_each(|op| pe.step(*op).map(drop));
        assert!(outcome.is_err(), "a link");
    }

    #[test]
    fn userspace_has_the_hosts_breakpoints_and_watchpoints_where_the_guest_is_shown_fewer() {
        let exits = |host, debug, op| {
            let small = Shape { breakpoints: 2, watchpoints: 2, context_aware: 1, ..SHAPE };
            let mut pe = Pe::new(small).with_host(host);
            let ops = [Op::Debug(debug), op];
            let outcomes: Vec<_> = ops.into_iter().map(|op| pe.step(op).expect("modelled")).collect();
            !outcomes[1].events.is_empty()
        };
        let marker = Op::Exec { marker: 1 };
        let store = Op::Access { access: STR, address: WATCHED };
        for (n, of) in [(1, SHAPE), (5, SHAPE), (6, Shape { breakpoints: 7, ..SHAPE })] {
            assert!(exits(of, GuestDebug::breakpoint(n, 1), marker), "breakpoint {n}");
        }
        assert!(!exits(SHAPE, GuestDebug::breakpoint(6, 1), marker), "beyond the host's count");
        assert!(exits(SHAPE, GuestDebug::watchpoint(3, WATCHED), store));
        assert!(!exits(SHAPE, GuestDebug::watchpoint(4, WATCHED), store), "beyond the host's count");
    }

    const STEPS: GuestDebug = GuestDebug::new(ENABLE | SINGLESTEP);

    /// Userspace's step ends at the store's RET, or at the store itself.
    fn step_at(offset: u64) -> Event {
        exit(0xca00_0022, layout::access_code(STR) + offset)
    }

    #[test]
    fn a_step_that_was_pending_is_reported_until_userspace_asks_for_no_more_steps() {
        let stepped = |passage| debugged(STEPS).passes(passage);
        for passage in [Passage::Complete, Passage::Steps] {
            let kept = stepped(passage);
            assert_eq!(judged(&kept, &[step_at(0), step_at(4)]), None);
            assert_eq!(judged(&kept, &[step_at(0)]).as_deref(), Some("str x1: KVM_EXIT_DEBUG with EC 0x32"));
            assert!(judged(&kept, &[step_at(0), step_at(4), step_at(4)]).is_some(), "once");
        }
        for passage in [Passage::DebugOff, Passage::DebugOn] {
            assert_eq!(judged(&stepped(passage), &[step_at(0)]), None);
            assert!(judged(&stepped(passage), &[step_at(0), step_at(4)]).is_some(), "{passage}");
        }
    }

    #[test]
    fn a_step_of_an_undefined_access_ends_in_the_handler() {
        let read = Sequence::named("mrs x1, pmcr_el0");
        let scenario = debugged(STEPS).run(read, 7);
        let at = |pc| exit(0xca00_0022, pc);
        let code = layout::sequence_code(read);
        let undefined =
            |esr| Event::Exception(Exception { vector: 4, esr, elr: code, spsr: 0x2001c5, far: 0 });
        let seen = |vector, esr| {
            let events =
                [at(code), at(layout::VECTOR + vector), undefined(esr), at(code + 4), Event::Value(7)];
            judged(&scenario, &events)
        };
        assert_eq!(seen(0, 1 << 25), None);
        assert!(seen(4, 1 << 25).is_some(), "an instruction of the handler");
        assert!(seen(0, 0).is_some(), "IL");
        for not_stepped in [GuestDebug::breakpoint(0, 9), GuestDebug::new(ENABLE)] {
            let mut pe = Pe::new(SHAPE);
            let run = debugged(not_stepped).run(read, 7);
            assert!(run.ops().iter().try_for_each(|op| pe.step(*op).map(drop)).is_err());
        }
    }

    #[test]
    fn steps_that_begin_in_the_middle_of_code_begin_with_an_instruction() {
        for debug in [GuestDebug::OFF, GuestDebug::new(ENABLE)] {
            let begun = Scenario::new().userspace_debugs(debug).passes(Passage::Steps);
            assert_eq!(judged(&begun, &[]), None);
            assert!(judged(&begun, &[step_at(4)]).is_some());
            let marker = layout::marker(1);
            let steps = [exit(0xca00_0022, marker), exit(0xca00_0022, marker + 4)];
            assert_eq!(judged(&begun.exec(1), &steps), None);
        }
        let software = Scenario::new().userspace_debugs(GuestDebug::new(ENABLE | USE_SW_BP));
        let brk = Exception { vector: 4, esr: 0xf200_00df, elr: layout::BRK, spsr: 0x3c5, far: 0 };
        let off = software.passes(Passage::DebugOff).then(Op::Brk);
        assert_eq!(judged(&off, &[Event::Exception(brk)]), None);
    }

    #[test]
    fn the_guest_takes_its_own_step_after_userspaces() {
        let step = Mdscr::DEFAULT.with_ss(true).with_kde(true);
        let entered = |entry| Scenario::new().then(Op::MaskDebug(false)).enable(step).entered(entry);
        let taken =
            |elr| Event::Exception(Exception { vector: 4, esr: 0xce00_0022, elr, spsr: 0x1c5, far: 0 });
        let ret = layout::access_code(STR) + 4;
        let nothing = entered(Entry::stepped(1)).passes(Passage::StepsNothing);
        assert_eq!(judged(&nothing, &[taken(ret)]), None);
        assert!(judged(&nothing, &[taken(layout::RETURN)]).is_some(), "one instruction too late");
        assert!(judged(&nothing, &[]).is_some());
        let one = entered(Entry::stepped(1)).passes(Passage::StepsOne);
        let userspaces = exit(0xca00_0022, layout::RETURN);
        assert_eq!(judged(&one, &[userspaces, taken(layout::RETURN)]), None);
        assert!(judged(&one, &[userspaces]).is_some(), "lost");
        assert!(judged(&one, &[userspaces, taken(ret)]).is_some());
        let not_stepped = entered(Entry::Return { ss: false, steps: 0 });
        let off = not_stepped.enable(Mdscr::DEFAULT).passes(Passage::StepsOne);
        assert_eq!(judged(&off, &[userspaces]), None);
        assert!(judged(&off, &[]).is_some());
    }

    #[test]
    fn nothing_is_said_of_other_stores_that_end_kvm_run_while_userspace_debugs() {
        let is_unknown = |scenario: Scenario| {
            let mut pe = Pe::new(SHAPE);
            scenario.ops().iter().any(|op| pe.step(*op).is_err())
        };
        for passage in [Passage::StepsOne, Passage::StepsNothing, Passage::Migrate(Migrate::Fresh)] {
            assert!(is_unknown(debugged(STEPS).passes(passage)), "{passage}");
        }
        for passage in Passage::ALL {
            assert!(is_unknown(debugged(GuestDebug::breakpoint(5, 1)).passes(passage)), "{passage}");
        }
        assert!(is_unknown(Scenario::new().passes(Passage::StepsOne)), "it ends in the payload");
        let at_ret = Scenario::new()
            .then(Op::MaskDebug(false))
            .breakpoint_at(0, layout::access_code(STR) + 4, Dbgbcr::address_at_el1())
            .enable(Mdscr::breakpoints_at_el1());
        assert!(is_unknown(at_ret.clone().passes(Passage::Steps)));
        assert!(is_unknown(at_ret.userspace_debugs(STEPS).passes(Passage::Complete)));
    }

    #[test]
    fn a_watchpoint_is_stepped_over_or_given_back() {
        let watchpoint = watchpoint(0xd200_0062, STR, WATCHED);
        let over =
            debugged(GuestDebug::watchpoint(3, WATCHED).on_exit(OnExit::StepOver)).access(STR, WATCHED);
        let step = exit(0xca00_0022, layout::access_code(STR) + 4);
        assert_eq!(judged(&over, &[watchpoint, step]), None);
        assert!(judged(&over, &[watchpoint]).is_some());
        let off = debugged(GuestDebug::watchpoint(3, WATCHED).on_exit(OnExit::SwitchOff));
        let off = off.watchpoint(0, WATCHED, Dbgwcr::doubleword()).access(STR, WATCHED);
        let taken = Event::Exception(Exception {
            vector: 4,
            esr: 0xd600_0062,
            elr: layout::access_code(STR),
            spsr: 0x1c5,
            far: WATCHED,
        });
        assert_eq!(judged(&off, &[watchpoint, taken]), None);
        assert!(judged(&off, &[watchpoint]).is_some());
    }

    #[test]
    fn the_guests_own_watchpoint_may_exit_or_not_without_use_hw_and_does_not_with_it() {
        let own = |debug, address| {
            debugged(debug).watchpoint(0, WATCHED, Dbgwcr::doubleword()).access(STR, address)
        };
        let watchpoint = watchpoint(0xd200_0062, STR, WATCHED);
        let enabled = own(GuestDebug::new(ENABLE), WATCHED);
        assert_eq!(judged(&enabled, &[]), None);
        assert_eq!(judged(&enabled, &[watchpoint]), None);
        let used = own(GuestDebug::watchpoint(3, WATCHED + 8), WATCHED);
        assert_eq!(judged(&used, &[]), None);
        assert!(judged(&used, &[watchpoint]).is_some());
        let locked = own(GuestDebug::new(ENABLE), WATCHED).write(sysreg::OSLAR_EL1, 1).access(STR, WATCHED);
        assert!(judged(&locked, &[watchpoint]).is_some(), "the OS Lock masks it on any kernel");
    }

    #[test]
    fn an_access_is_stepped_as_a_marker_is() {
        let stepped = debugged(GuestDebug::new(ENABLE | SINGLESTEP)).access(STR, WATCHED);
        let code = layout::access_code(STR);
        assert_eq!(judged(&stepped, &[exit(0xca00_0022, code), exit(0xca00_0022, code + 4)]), None);
    }

    #[test]
    fn steps_and_what_userspace_does_at_an_exit_are_not_modelled_where_a_watchpoint_matches_or_may_match() {
        let modelled = |debug: GuestDebug, guests_watchpoint| {
            let scenario = debugged(debug).watchpoint(0, guests_watchpoint, Dbgwcr::doubleword());
            let mut pe = Pe::new(SHAPE);
            scenario.access(STR, WATCHED).ops().iter().try_for_each(|op| pe.step(*op).map(drop)).is_ok()
        };
        let userspaces =
            |address, bas| GuestDebug::watchpoint(3, address).with_dbgwcr(Dbgwcr::doubleword().with_bas(bas));
        let (here, elsewhere, certain, uncertain) = (WATCHED, WATCHED + 8, 0xff, 0b101);
        let stepped = |address, bas| userspaces(address, bas).and(SINGLESTEP);
        assert!(modelled(stepped(elsewhere, certain), elsewhere));
        assert!(modelled(stepped(elsewhere, certain), here), "the registers are not the guest's");
        assert!(!modelled(stepped(here, certain), elsewhere));
        assert!(!modelled(stepped(here, uncertain), elsewhere));
        assert!(modelled(GuestDebug::new(ENABLE | SINGLESTEP), elsewhere));
        assert!(!modelled(GuestDebug::new(ENABLE | SINGLESTEP), here), "the guest's own");
        for on_exit in [OnExit::Skip, OnExit::StepOver, OnExit::SwitchOff] {
            let skips = on_exit == OnExit::Skip;
            assert!(modelled(userspaces(here, certain).on_exit(on_exit), elsewhere), "{on_exit:?}");
            assert_eq!(modelled(userspaces(here, uncertain).on_exit(on_exit), elsewhere), skips);
            assert_eq!(modelled(GuestDebug::new(ENABLE).on_exit(on_exit), here), skips, "the guest's own");
        }
    }

    #[test]
    fn a_breakpoint_beyond_the_hosts_count_does_not_exit() {
        assert_eq!(judged(&debugged(GuestDebug::breakpoint(6, 2)).exec(2), &[]), None);
    }

    #[test]
    fn after_userspace_switches_off_at_the_exit_the_guest_takes_its_own_breakpoint() {
        let debug = GuestDebug::breakpoint(5, 1).on_exit(OnExit::SwitchOff);
        let scenario = debugged(debug).exec(1);
        assert_eq!(judged(&scenario, &[exit(0xc200_0022, layout::marker(1)), TAKEN]), None);
        assert!(judged(&scenario, &[exit(0xc200_0022, layout::marker(1))]).is_some());
    }

    #[test]
    fn a_step_over_ends_after_the_instruction() {
        let scenario = debugged(GuestDebug::breakpoint(5, 1).on_exit(OnExit::StepOver)).exec(1);
        let breakpoint = exit(0xc200_0022, layout::marker(1));
        for isv_and_ex in [0, 1 << 24, 1 << 24 | 1 << 6] {
            let step = exit(0xca00_0022 | isv_and_ex, layout::marker(1) + 4);
            assert_eq!(judged(&scenario, &[breakpoint, step]), None);
        }
        assert!(judged(&scenario, &[breakpoint]).is_some());
    }

    #[test]
    fn the_guests_own_breakpoint_may_exit_or_not_and_is_never_taken() {
        let scenario = debugged(GuestDebug::new(ENABLE)).exec(1);
        let breakpoint = exit(0xc200_0022, layout::marker(1));
        assert_eq!(judged(&scenario, &[]), None);
        assert_eq!(judged(&scenario, &[breakpoint]), None);
        assert!(judged(&scenario, &[breakpoint, breakpoint]).is_some());
        assert!(judged(&scenario, &[TAKEN]).is_some());
        let locked = debugged(GuestDebug::new(ENABLE)).write(sysreg::OSLAR_EL1, 1).exec(1);
        assert!(judged(&locked, &[breakpoint]).is_some(), "the OS Lock masks it on any kernel");
    }

    #[test]
    fn brk_exits_only_with_software_breakpoints() {
        let brk = debugged(GuestDebug::new(ENABLE | USE_SW_BP)).isb().then(Op::Brk);
        assert_eq!(judged(&brk, &[exit(0xf200_00df, layout::BRK)]), None);
        assert!(judged(&brk, &[exit(0xf200_009f, layout::BRK)]).is_some(), "another immediate");
        let off = debugged(GuestDebug::new(USE_SW_BP)).isb().then(Op::Brk);
        assert!(judged(&off, &[exit(0xf200_00df, layout::BRK)]).is_some(), "without ENABLE it is off");
    }

    #[test]
    fn invalid_bits_are_refused_and_change_nothing() {
        let refused = debugged(GuestDebug::breakpoint(5, 1)).then(Op::Debug(GuestDebug::new(1 << 2)));
        assert_eq!(judged(&refused, &[Event::Refused(22)]), None);
        assert_eq!(judged(&refused, &[]).as_deref(), Some("KVM_SET_GUEST_DEBUG 0x4: no event"));
    }

    #[test]
    fn a_step_exits_after_each_instruction_and_is_not_modelled_on_a_breakpoint() {
        let mut steps = Debugger::default();
        steps.set(GuestDebug::new(ENABLE | SINGLESTEP));
        let marker = layout::marker(1);
        let outcome = steps.exits_at_marker(marker, 6, false).expect("modelled");
        assert_eq!(outcome.events.len(), 2);
        for (expected, pc) in outcome.events.iter().zip([marker, marker + 4]) {
            assert!(expected.admits(&exit(0xca00_0022, pc)), "{expected}");
        }
        assert!(steps.exits_at_marker(marker, 6, true).is_err(), "the guest's breakpoint");
        steps.set(GuestDebug::breakpoint(5, 1).and(SINGLESTEP));
        assert!(steps.exits_at_marker(marker, 6, false).is_err(), "userspace's breakpoint");
        assert!(steps.exits_at_brk(Vec::new()).is_err(), "BRK");
    }

    #[test]
    fn brk_without_software_breakpoints_exits_or_is_the_guests_and_nothing_else() {
        let taken = Exception { vector: 4, esr: 0xf200_00df, elr: layout::BRK, spsr: 0x1c5, far: 0 };
        for control in [ENABLE, ENABLE | USE_HW] {
            let brk = debugged(GuestDebug::new(control)).isb().then(Op::Brk);
            assert_eq!(judged(&brk, &[exit(0xf200_00df, layout::BRK)]), None);
            assert_eq!(judged(&brk, &[Event::Exception(taken)]), None);
            assert!(judged(&brk, &[]).is_some(), "neither");
            assert!(
                judged(&brk, &[exit(0xf200_00df, layout::BRK), Event::Exception(taken)]).is_some(),
                "both"
            );
            let undefined = Exception { esr: 0x0200_0000, ..taken };
            assert!(judged(&brk, &[Event::Exception(undefined)]).is_some());
        }
        let may_not_exit = GuestDebug::new(ENABLE).on_exit(OnExit::SwitchOff);
        assert!(Pe::new(SHAPE).step(Op::Debug(may_not_exit)).is_ok());
        let mut debugger = Debugger::default();
        debugger.set(may_not_exit);
        assert!(debugger.exits_at_brk(Vec::new()).is_err());
    }

    #[test]
    fn brk_with_steps_is_not_modelled() {
        for control in [ENABLE | SINGLESTEP, ENABLE | SINGLESTEP | USE_SW_BP] {
            let mut debugger = Debugger::default();
            debugger.set(GuestDebug::new(control));
            assert!(debugger.exits_at_brk(Vec::new()).is_err());
        }
    }

    #[test]
    fn userspaces_breakpoint_exits_at_el1_and_odd_controls_are_not_modelled() {
        let exits = |dbgbcr: Dbgbcr| {
            let mut debugger = Debugger::default();
            debugger.set(GuestDebug::breakpoint(5, 1).with_dbgbcr(dbgbcr));
            let outcome = debugger.exits_at_marker(layout::marker(1), 6, false);
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
