// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The OS Double Lock: what OSDLR_EL1 holds and masks where the VM's ID_AA64DFR0_EL1 says that the lock is
//! implemented, and where it says that it is not.

use crate::{
    forms::within,
    stage::{HERE, LOCKED, UNLOCKED, armed},
};
use dfr0_model::{
    dfr0::DOUBLELOCK,
    rule::{self, Rule},
    scenario::Scenario,
    sysreg::{OSDLR_EL1, OSLSR_EL1},
};
use dfr0_runner::case::{Case, Context, Stop};

/// What the VM's ID_AA64DFR0_EL1.DoubleLock says.
#[derive(Clone, Copy)]
enum DoubleLock {
    Implemented,
    Absent,
}

impl DoubleLock {
    /// Skips a case that does not apply to this VM.
    fn expect(self, cx: &Context<'_>) -> Result<(), Stop> {
        match (self, cx.shape().double_lock) {
            (Self::Implemented, false) => Stop::skip("FEAT_DoubleLock is not implemented"),
            (Self::Absent, true) => Stop::skip("FEAT_DoubleLock is implemented"),
            _ => Ok(()),
        }
    }
}

pub fn cases() -> Vec<Case> {
    let implemented = within("implemented", cases_of(DoubleLock::Implemented));
    let absent = within("absent", cases_of(DoubleLock::Absent));
    implemented.chain(absent.map(|case| case.of_field(&DOUBLELOCK))).collect()
}

fn cases_of(lock: DoubleLock) -> Vec<Case> {
    let case = |name: &str, rule: &'static Rule, scenarios: fn(u8) -> Scenario| {
        Case::new(name, rule, move |cx| {
            lock.expect(cx)?;
            cx.shape().breakpoint_numbers().try_for_each(|n| cx.check(&scenarios(n)))
        })
    };
    let resets = Case::new("resets_unlocked", &rule::DOUBLE_LOCK_RESET, move |cx| {
        lock.expect(cx)?;
        let mut guest = cx.new_guest()?;
        cx.check_on(&mut guest, &armed(0).read(OSDLR_EL1).reads(0).exec(HERE).takes_breakpoint())?;
        Ok(())
    });
    let (access, effect) = match lock {
        DoubleLock::Implemented => (
            case("reads_back", &rule::DOUBLE_LOCK_ACCESS, |_| written_and_read(|value| value & 1)),
            case("masks_breakpoints", &rule::DOUBLE_LOCK, |n| {
                armed(n).write(OSDLR_EL1, 1).exec(HERE).nothing()
            }),
        ),
        DoubleLock::Absent => (
            case("raz_wi", &rule::DOUBLE_LOCK_ABSENT, |_| written_and_read(|_| 0)),
            case("masks_nothing", &rule::DOUBLE_LOCK_ABSENT, |n| {
                let written = armed(n).write(OSDLR_EL1, 1).exec(HERE).takes_breakpoint();
                written.exit().exec(HERE).takes_breakpoint()
            }),
        ),
    };
    vec![
        resets,
        access,
        effect,
        case("released", &rule::DOUBLE_LOCK, |n| {
            let released = armed(n).write(OSDLR_EL1, 1).write(OSDLR_EL1, 0).exec(HERE).takes_breakpoint();
            released.exit().exec(HERE).takes_breakpoint()
        }),
        case("brk_is_taken", &rule::BRK_UNMASKED, |n| armed(n).write(OSDLR_EL1, 1).brk().takes_brk()),
        case("is_not_the_os_lock", &rule::OS_LOCK_ACCESS, |n| {
            let double_lock = armed(n).write(OSDLR_EL1, 1).read(OSLSR_EL1).reads(UNLOCKED);
            let os_lock = double_lock.write(OSDLR_EL1, 0).lock();
            os_lock.read(OSDLR_EL1).reads(0).read(OSLSR_EL1).reads(LOCKED).exec(HERE).nothing()
        }),
    ]
}

/// DLK set and cleared, with the bits above it, which are RES0. It reads as `read` of what was written.
fn written_and_read(read: fn(u64) -> u64) -> Scenario {
    Scenario::new().each([0, 1, 0, u64::MAX, 1, !1], |scenario, value: u64| {
        scenario.write(OSDLR_EL1, value).isb().read(OSDLR_EL1).reads(read(value))
    })
}
