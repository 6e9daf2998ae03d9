// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! OS Double Lock: what OSDLR_EL1 holds and masks where the VM's ID_AA64DFR0_EL1 says that it is implemented, where
//! it says that it is not, and where userspace has hidden it.

use dfr0_model::{
    control::{Dbgbcr, Mdscr},
    dfr0::{DOUBLELOCK, DOUBLELOCK_NI},
    id_write::Writable,
    rule::{self, Rule},
    scenario::{Op, Scenario},
    sysreg::{OSDLR_EL1, OSLAR_EL1, OSLSR_EL1},
};
use dfr0_runner::{
    case::{Case, Context, Stop, Suite},
    guest::Config,
};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "double_lock",
    about: "OSDLR_EL1 locks where FEAT_DoubleLock is implemented and is RAZ/WI where it is not",
    cases,
};

const HERE: u8 = 1;

/// How the VM came to its ID_AA64DFR0_EL1.DoubleLock.
#[derive(Clone, Copy)]
enum Vm {
    /// The host implements the Double Lock, and KVM shows it.
    Implemented,
    /// The host does not implement it.
    Absent,
    /// The host implements it, and userspace has written DoubleLock to not implemented.
    Hidden,
}

impl Vm {
    const ALL: [(&'static str, Self); 3] =
        [("implemented", Self::Implemented), ("absent", Self::Absent), ("hidden", Self::Hidden)];

    fn config(self, cx: &Context<'_>) -> Result<Config, Stop> {
        let host = cx.host();
        match (self, cx.shape().double_lock) {
            (Self::Implemented, true) | (Self::Absent, false) => Ok(Config::default()),
            (Self::Implemented | Self::Hidden, false) => {
                Stop::skip("the host does not implement FEAT_DoubleLock")
            }
            (Self::Absent, true) => Stop::skip("the host implements FEAT_DoubleLock"),
            (Self::Hidden, true) => match host.writable {
                Writable::Mask(mask) if mask & DOUBLELOCK.mask() == DOUBLELOCK.mask() => {
                    let hidden = DOUBLELOCK.with(host.id_aa64dfr0, DOUBLELOCK_NI);
                    Ok(Config { id_aa64dfr0: Some(hidden) })
                }
                _ => Stop::skip("this kernel does not let userspace write DoubleLock"),
            },
        }
    }
}

fn cases() -> Vec<Case> {
    Vm::ALL.into_iter().flat_map(|(name, vm)| cases_of(name, vm)).collect()
}

fn cases_of(vm_name: &str, vm: Vm) -> Vec<Case> {
    let case = |name: &str, rule: &'static Rule, scenarios: fn(u8) -> Scenario| {
        Case::new(format!("double_lock.{vm_name}.{name}"), rule, move |cx| {
            let config = vm.config(cx)?;
            cx.shape().breakpoint_numbers().try_for_each(|n| cx.check_in(config, &scenarios(n)))
        })
    };
    let resets =
        Case::new(format!("double_lock.{vm_name}.resets_unlocked"), &rule::DOUBLE_LOCK_RESET, move |cx| {
            let config = vm.config(cx)?;
            let mut guest = cx.new_guest(config)?;
            cx.check_on(&mut guest, config, &armed(0).read(OSDLR_EL1).exec(HERE))?;
            Ok(())
        });
    let (access, effect) = match vm {
        Vm::Implemented => (
            case("reads_back", &rule::DOUBLE_LOCK_ACCESS, |_| written_and_read()),
            case("masks_breakpoints", &rule::DOUBLE_LOCK, |n| armed(n).write(OSDLR_EL1, 1).exec(HERE)),
        ),
        Vm::Absent | Vm::Hidden => (
            case("raz_wi", &rule::DOUBLE_LOCK_ABSENT, |_| written_and_read()),
            case("masks_nothing", &rule::DOUBLE_LOCK_ABSENT, |n| {
                armed(n).write(OSDLR_EL1, 1).exec(HERE).then(Op::Exit).exec(HERE)
            }),
        ),
    };
    vec![
        resets,
        access,
        effect,
        case("released", &rule::DOUBLE_LOCK, |n| {
            armed(n).write(OSDLR_EL1, 1).write(OSDLR_EL1, 0).exec(HERE).then(Op::Exit).exec(HERE)
        }),
        case("brk_is_taken", &rule::BRK_UNMASKED, |n| armed(n).write(OSDLR_EL1, 1).isb().then(Op::Brk)),
        case("is_not_the_os_lock", &rule::OS_LOCK_ACCESS, |n| {
            armed(n)
                .write(OSDLR_EL1, 1)
                .read(OSLSR_EL1)
                .write(OSDLR_EL1, 0)
                .write(OSLAR_EL1, 1)
                .read(OSDLR_EL1)
                .read(OSLSR_EL1)
                .exec(HERE)
        }),
    ]
}

fn armed(n: u8) -> Scenario {
    Scenario::new()
        .then(Op::MaskDebug(false))
        .breakpoint(n, HERE, Dbgbcr::address_at_el1())
        .enable(Mdscr::breakpoints_at_el1())
}

/// DLK set and cleared, with the bits above it, which are RES0.
fn written_and_read() -> Scenario {
    [0, 1, 0, u64::MAX, 1, !1]
        .into_iter()
        .fold(Scenario::new(), |scenario, value| scenario.write(OSDLR_EL1, value).isb().read(OSDLR_EL1))
}
