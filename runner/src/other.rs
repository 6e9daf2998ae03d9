// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What another vCPU does when it runs on a guest's CPU in between: it has debug registers of its own, and
//! finds them as it wrote them.
//!
//! Its breakpoints are on the markers from [`MARKER`] upwards and its watchpoints on the doublewords from
//! [`WATCHED`] upwards, where the guest beside it has none: an event that one takes at a place of the other
//! is seen.

use arbitrary_int::u4;
use dfr0_model::{
    control::{Dbgbcr, Dbgwcr, Mdscr},
    guest_debug::GuestDebug,
    scenario::{Op, Other, Scenario},
    shape::Shape,
    sysreg::{CONTEXTIDR_EL1, MDSCR_EL1, OSLAR_EL1, OSLSR_EL1, SysReg, dbgbcr, dbgbvr, dbgwcr, dbgwvr},
    wire::{MARKER_COUNT, TARGET, TARGET_SIZE},
};

/// The marker of its breakpoint 0; each other one has the next.
pub const MARKER: u8 = MARKER_COUNT / 2;
/// The doubleword of its watchpoint 0; each other one has the next.
pub const WATCHED: u64 = TARGET + TARGET_SIZE / 4 * 3;
/// Its CONTEXTIDR_EL1.
pub const CONTEXT: u64 = 0xa5a5_4321;

/// The program of the other vCPU.
pub fn scenario(other: Other, shape: Shape) -> Scenario {
    let start = Scenario::new().then(Op::MaskDebug(false));
    match other {
        Other::Untouched => everywhere(start, shape),
        Other::Enabled => seen(everywhere(armed(start, shape), shape), shape),
        Other::Disabled => seen(everywhere(armed(start, shape).write(MDSCR_EL1, 0), shape), shape),
        Other::Locked => {
            let locked = armed(start, shape).write(OSLAR_EL1, 1);
            seen(everywhere(locked, shape).read(OSLSR_EL1), shape)
        }
        Other::Debugged => {
            let debug = GuestDebug { marker: MARKER / 2, ..GuestDebug::first_breakpoints(shape.breakpoints) };
            let watchpoints = GuestDebug::first_watchpoints(shape.watchpoints, WATCHED + 0x100);
            let GuestDebug { watchpoints, watched, .. } = watchpoints;
            let debugged = armed(start, shape).then(Op::Debug(GuestDebug { watchpoints, watched, ..debug }));
            seen(everywhere(debugged, shape), shape)
        }
    }
}

/// The values that userspace writes to a vCPU to arm its debug registers like this.
pub fn registers(shape: Shape) -> Vec<(SysReg, u64)> {
    let written = armed(Scenario::new(), shape).write(OSLSR_EL1, 0b1010);
    let values = written.ops().iter().filter_map(|op| match *op {
        Op::Write { reg, value } => Some((reg, value)),
        _ => None,
    });
    values.collect()
}

/// Every breakpoint and watchpoint armed; breakpoint 0 is linked to the highest numbered, which matches
/// [`CONTEXT`].
fn armed(scenario: Scenario, shape: Shape) -> Scenario {
    let partner = shape.breakpoints.saturating_sub(1);
    let scenario = (0..partner).fold(scenario, |scenario, n| {
        let control = match n {
            0 => Dbgbcr::address_linked_to(u4::new(partner)),
            _ => Dbgbcr::address_at_el1(),
        };
        scenario.breakpoint(n, MARKER + n, control)
    });
    let scenario = scenario.breakpoint_at(partner, CONTEXT, Dbgbcr::linked_context());
    let scenario = (0..shape.watchpoints).fold(scenario, |scenario, n| {
        scenario.watchpoint(n, WATCHED + 8 * u64::from(n), Dbgwcr::doubleword())
    });
    scenario.write(CONTEXTIDR_EL1, CONTEXT).enable(Mdscr::breakpoints_at_el1())
}

/// Executes every marker and accesses every doubleword that it or the guest beside it may have armed.
pub fn everywhere(scenario: Scenario, shape: Shape) -> Scenario {
    let scenario = (0..MARKER_COUNT).fold(scenario, Scenario::exec);
    (0..shape.watchpoints).map(|n| 8 * u64::from(n)).fold(scenario, |scenario, offset| {
        [TARGET, WATCHED, WATCHED + 0x100]
            .into_iter()
            .fold(scenario, |scenario, start| scenario.store(start + offset))
    })
}

/// Reads every debug register, CONTEXTIDR_EL1 and OSLSR_EL1.
pub fn seen(scenario: Scenario, shape: Shape) -> Scenario {
    let breakpoints = shape.breakpoint_numbers().flat_map(|n| [dbgbvr(n), dbgbcr(n)]);
    let watchpoints = (0..shape.watchpoints).flat_map(|n| [dbgwvr(n), dbgwcr(n)]);
    let others = [MDSCR_EL1, CONTEXTIDR_EL1, OSLSR_EL1];
    breakpoints.chain(watchpoints).chain(others).fold(scenario.isb(), Scenario::read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfr0_model::{outcome::Expected, pe::Pe};

    /// How many exceptions and exits the model expects of a state.
    fn events(other: Other, shape: Shape) -> usize {
        let mut pe = Pe::new(shape);
        let outcomes =
            scenario(other, shape).ops().iter().map(|op| pe.step(*op).expect("modelled")).collect::<Vec<_>>();
        let events = outcomes.iter().flat_map(|outcome| &outcome.events);
        events
            .filter(|event| matches!(event, Expected::Exception { .. } | Expected::DebugExit { .. }))
            .count()
    }

    #[test]
    fn every_state_is_modelled_in_every_shape_and_fires_where_it_should() {
        for (breakpoints, watchpoints, context_aware) in [(2, 2, 1), (6, 4, 2), (16, 16, 16)] {
            let shape = Shape { debug_ver: 6, breakpoints, watchpoints, context_aware, double_lock: false };
            let (b, w) = (usize::from(breakpoints), usize::from(watchpoints));
            assert_eq!(events(Other::Untouched, shape), 0);
            assert_eq!(events(Other::Enabled, shape), b - 1 + w);
            assert_eq!(events(Other::Disabled, shape), 0);
            assert_eq!(events(Other::Locked, shape), 0);
            assert_eq!(events(Other::Debugged, shape), b + w);
        }
    }
}
