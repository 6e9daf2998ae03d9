// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What a case says must happen at an operation. The model says it too: the two are held against each other, so that a
//! mistake in one of them is seen.

use crate::{
    event::{
        EC_BREAKPOINT_CURRENT_EL, EC_BREAKPOINT_LOWER_EL, EC_BRK, EC_DATA_ABORT_CURRENT_EL,
        EC_DATA_ABORT_LOWER_EL, EC_STEP_CURRENT_EL, EC_STEP_LOWER_EL, EC_UNKNOWN, EC_WATCHPOINT_CURRENT_EL,
        EC_WATCHPOINT_LOWER_EL, Exception,
    },
    outcome::{Expected, Outcome, Unknown},
    scenario::{Op, Scenario},
    vm::Model,
};
use alloc::{vec, vec::Vec};
use core::fmt;

/// What happens at an operation. Several claims about one operation are its events in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// There is no event.
    Nothing,
    /// A Breakpoint exception is taken.
    Breakpoint,
    /// A Watchpoint exception is taken.
    Watchpoint,
    /// A Software Step exception is taken.
    Step,
    /// A BRK exception is taken.
    Brk,
    /// A Data Abort exception is taken.
    Abort,
    /// The instruction is UNDEFINED.
    Undefined,
    /// A register is read, and this is what its defined bits hold.
    Reads(
        /// Its value.
        u64,
    ),
    /// KVM refuses userspace's call.
    Refused(
        /// The errno.
        i32,
    ),
    /// KVM_RUN ends with KVM_EXIT_DEBUG.
    Exit,
    /// This happens or nothing does: the architecture leaves the choice.
    May(
        /// What may happen.
        &'static Self,
    ),
}

impl Claim {
    /// The event is the one that is claimed.
    fn is(&self, event: &Expected) -> bool {
        if let (Self::Reads(claimed), Expected::Value { value, mask }) = (self, event) {
            return *mask != 0 && (claimed ^ value) & mask == 0;
        }
        *self
            == match *event {
                Expected::Value { value, .. } => Self::Reads(value),
                Expected::Within { lowest, highest } if lowest == highest => Self::Reads(lowest),
                Expected::Within { .. } | Expected::RefusedExcept(_) => return false,
                Expected::Undefined => Self::Undefined,
                Expected::Refused(errno) => Self::Refused(errno),
                Expected::DebugExit { .. } => Self::Exit,
                Expected::Exception { vector, esr, elr, spsr, far, .. } => {
                    match (Exception { vector, esr, elr, spsr, far: far.0 }).ec() {
                        EC_BREAKPOINT_LOWER_EL | EC_BREAKPOINT_CURRENT_EL => Self::Breakpoint,
                        EC_WATCHPOINT_LOWER_EL | EC_WATCHPOINT_CURRENT_EL => Self::Watchpoint,
                        EC_STEP_LOWER_EL | EC_STEP_CURRENT_EL => Self::Step,
                        EC_BRK => Self::Brk,
                        EC_DATA_ABORT_LOWER_EL | EC_DATA_ABORT_CURRENT_EL => Self::Abort,
                        EC_UNKNOWN => Self::Undefined,
                        _ => return false,
                    }
                }
            }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Breakpoint => f.write_str("a Breakpoint exception"),
            Self::Watchpoint => f.write_str("a Watchpoint exception"),
            Self::Step => f.write_str("a Software Step exception"),
            Self::Brk => f.write_str("a BRK exception"),
            Self::Abort => f.write_str("a Data Abort exception"),
            Self::Undefined => f.write_str("UNDEFINED"),
            Self::Reads(value) => write!(f, "{value:#x}"),
            Self::Refused(errno) => write!(f, "refused with errno {errno}"),
            Self::Exit => f.write_str("KVM_EXIT_DEBUG"),
            Self::May(claim) => write!(f, "{claim} or nothing"),
        }
    }
}

/// The claims about an operation say what the rules allow: each of its outcomes is claimed, and each that is claimed
/// is one of them.
pub fn agree(claims: &[Claim], outcome: &Outcome) -> bool {
    let mut claimed: Vec<Vec<Claim>> = vec![Vec::new()];
    for claim in claims {
        match *claim {
            Claim::Nothing => {}
            Claim::May(claim) => {
                let without = claimed.clone();
                claimed.iter_mut().for_each(|events| events.push(*claim));
                claimed.extend(without);
            }
            claim => claimed.iter_mut().for_each(|events| events.push(claim)),
        }
    }
    let mut allowed: Vec<Vec<Expected>> = Vec::new();
    for events in outcome.alternatives() {
        let mut ways: Vec<Vec<Expected>> = vec![Vec::new()];
        for event in events {
            let without = if event.is_optional() { ways.clone() } else { Vec::new() };
            ways.iter_mut().for_each(|way| way.push(*event));
            ways.extend(without);
        }
        allowed.extend(ways);
    }
    let is = |claimed: &Vec<Claim>, allowed: &Vec<Expected>| {
        claimed.len() == allowed.len() && claimed.iter().zip(allowed).all(|(claim, event)| claim.is(event))
    };
    allowed.iter().all(|allowed| claimed.iter().any(|claimed| is(claimed, allowed)))
        && claimed.iter().all(|claimed| allowed.iter().any(|allowed| is(claimed, allowed)))
}

/// An operation about which a scenario claims what the model does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// Its place in the scenario.
    pub place: usize,
    /// The operation.
    pub op: Op,
    /// What the scenario claims.
    pub claims: Vec<Claim>,
    /// What the model says.
    pub allowed: Outcome,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, op, claims, allowed } = self;
        write!(f, "operation {place}: {op}\n  claimed:")?;
        claims.iter().try_for_each(|claim| write!(f, " {claim};"))?;
        for (number, events) in allowed.alternatives().enumerate() {
            f.write_str(if number == 0 { "\n  model:  " } else { "\n  or:     " })?;
            if events.is_empty() {
                f.write_str(" nothing")?;
            }
            events.iter().try_for_each(|event| write!(f, " {event};"))?;
        }
        write!(f, "\n  rule:    {}", allowed.rule)
    }
}

/// Holds the claims of a scenario against the model.
pub fn disagreements(mut model: impl Model, scenario: &Scenario) -> Result<Vec<Disagreement>, Unknown> {
    let mut found = Vec::new();
    for (place, op) in scenario.ops().iter().enumerate() {
        let allowed = model.step(*op)?;
        let claims: Vec<Claim> = scenario.claims_at(place).collect();
        if !claims.is_empty() && !agree(&claims, &allowed) {
            found.push(Disagreement { place, op: *op, claims, allowed });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::Access,
        control::{Dbgbcr, Dbgwcr, Mdscr},
        guest_debug::{ENABLE, GuestDebug},
        layout::{PRIVILEGED, TARGET},
        pe::Pe,
        scenario::El,
        shape::Shape,
        sysreg::{DBGAUTHSTATUS_EL1, MDSCR_EL1, OSLAR_EL1, OSLSR_EL1, dbgbcr, dbgbvr},
    };
    use alloc::string::ToString;

    const SHAPE: Shape =
        Shape { debug_ver: 8, breakpoints: 6, watchpoints: 4, context_aware: 2, double_lock: true };
    const LDR: &Access = Access::named("ldr x1");

    fn armed() -> Scenario {
        Scenario::new()
            .unmask()
            .breakpoint(0, 1, Dbgbcr::address_at_el1())
            .enable(Mdscr::breakpoints_at_el1())
    }

    /// The model says of the last operation just what one of these claims says, and none of the others.
    fn only(scenario: &Scenario, is: Claim) {
        const ALL: [Claim; 9] = [
            Claim::Nothing,
            Claim::Breakpoint,
            Claim::Watchpoint,
            Claim::Step,
            Claim::Brk,
            Claim::Abort,
            Claim::Undefined,
            Claim::Exit,
            Claim::May(&Claim::Breakpoint),
        ];
        for claim in ALL.into_iter().chain([Claim::Reads(0), Claim::Reads(8), Claim::Refused(22), is]) {
            let found = disagreements(Pe::new(SHAPE), &scenario.clone().claim(claim)).expect("modelled");
            assert_eq!(found.is_empty(), claim == is, "{claim}: {found:?}");
        }
    }

    #[test]
    fn of_each_kind_of_event_one_claim_alone_is_right() {
        let stepping = Mdscr::DEFAULT.with_kde(true).with_ss(true);
        let watching = Scenario::new().unmask().watchpoint(0, TARGET, Dbgwcr::doubleword());
        only(&armed().exec(2), Claim::Nothing);
        only(&armed().exec(1), Claim::Breakpoint);
        only(&watching.enable(Mdscr::breakpoints_at_el1()).access(LDR, TARGET), Claim::Watchpoint);
        only(
            &Scenario::new().unmask().enable(stepping).entered(crate::scenario::Entry::stepped(1)).exec(1),
            Claim::Step,
        );
        only(&armed().brk(), Claim::Brk);
        only(&armed().at(El::El0).access(LDR, PRIVILEGED), Claim::Abort);
        only(&Scenario::new().read(OSLAR_EL1), Claim::Undefined);
        only(&Scenario::new().read(OSLSR_EL1), Claim::Reads(8));
        only(&Scenario::new().userspace_writes(OSLSR_EL1, 0), Claim::Refused(22));
        only(&Scenario::new().userspace_debugs(GuestDebug::breakpoint(0, 1)).exec(1), Claim::Exit);
        only(&armed().write(dbgbcr(0), 0).then(Op::Exec { marker: 1 }), Claim::May(&Claim::Breakpoint));
    }

    #[test]
    fn an_exit_that_may_not_happen_is_claimed_as_that() {
        let scenario = armed().userspace_debugs(GuestDebug::new(ENABLE)).exec(1);
        only(&scenario, Claim::May(&Claim::Exit));
    }

    #[test]
    fn several_claims_about_an_operation_are_its_events_in_order() {
        let steps = Mdscr::DEFAULT.with_kde(true).with_ss(true);
        let stepped =
            Scenario::new().unmask().enable(steps).entered(crate::scenario::Entry::stepped(2)).exec(1);
        let count =
            |n| disagreements(Pe::new(SHAPE), &stepped.clone().takes_steps(n)).expect("modelled").len();
        assert_eq!([count(0), count(1), count(2), count(3)], [1, 1, 0, 1]);
    }

    #[test]
    fn a_value_of_which_no_bit_is_defined_is_not_claimed() {
        let written = Scenario::new().write(dbgbcr(0), Dbgbcr::DEFAULT.with_bt(arbitrary_int::u4::new(4)));
        let read = written.isb().read(dbgbvr(0)).reads(0);
        assert_eq!(disagreements(Pe::new(SHAPE), &read).expect("modelled").len(), 1);
        let high = Scenario::new().read(DBGAUTHSTATUS_EL1).reads(5);
        assert!(disagreements(Pe::new(SHAPE), &high).expect("modelled").is_empty(), "its low half is not");
    }

    #[test]
    fn claims_stay_with_their_operations() {
        let claims = |scenario: &Scenario| {
            let places = 0..scenario.ops().len();
            let at = |place| scenario.claims_at(place).map(move |claim| (scenario.ops()[place], claim));
            places.flat_map(at).collect::<Vec<_>>()
        };
        let reg = MDSCR_EL1;
        let (read, exec) = (Op::Read { reg }, Op::Exec { marker: 1 });
        let scenario =
            Scenario::new().write(reg, 5).read(reg).reads(5).append(Scenario::new().exec(1).nothing());
        let both = [(read, Claim::Reads(5)), (exec, Claim::Nothing)];
        assert_eq!(claims(&scenario), both);
        assert_eq!(claims(&scenario.by_userspace()), both);
        assert_eq!(claims(&scenario.clone().migrating(0, 9)), both);
        assert_eq!(claims(&scenario.append(Scenario::new())), both);
    }

    #[test]
    fn a_disagreement_prints_what_is_claimed_and_what_the_model_says() {
        let found = disagreements(Pe::new(SHAPE), &armed().exec(1).nothing()).expect("modelled");
        let text = found[0].to_string();
        assert!(
            text.starts_with(
                "operation 5: exec marker 1\n  claimed: nothing;\n  model:   Breakpoint exception: EC 0x31"
            ),
            "{text}"
        );
    }
}
