// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The guest's suites at EL1 and EL0 of VMs with EL2. Nothing runs at EL2, and no control of EL2 traps or routes anything
//! there: EL1 sees what it sees in any VM. Userspace moves the vCPU of some cases with all of its registers, those of EL2
//! among them.

use crate::{RANDOM, migration};
use dfr0_model::{sysreg::ID_AA64DFR0_EL1, vmm::Features};
use dfr0_runner::{
    case::{Again, Case, Context, Stop},
    guest::Config,
};

/// Cases that need an EL2 that answers HVC, or an interrupt that ends WFI.
const NEEDING_MORE: [&str; 2] = ["software_step.over_hypervisor_call", "software_step.over_wait"];

/// One of this many cases moves, and fewer in a sample. KVM takes long to free a VM with EL2, and longer the more vCPUs it
/// has had.
const MOVING: usize = 12;

pub fn cases() -> Vec<Case> {
    let suites = migration::SUITES.into_iter().chain([RANDOM]);
    let runs = |case: &Case| case.again() != Again::Never && !NEEDING_MORE.contains(&case.name.as_str());
    suites.flat_map(|suite| suite.cases()).filter(runs).map(below).collect()
}

/// The case in VMs with EL2.
fn below(case: Case) -> Case {
    let (rule, also) = (case.rule, case.also);
    Case::new(case.name.clone(), rule, move |cx| {
        let configs = configs(cx)?;
        let ran = cx.run_again(&configs, &case)?;
        let turn = case.turn();
        let moves = case.why_it_stays().is_none() && turn.is_multiple_of(MOVING) && cx.moves(turn / MOVING);
        if let Some(first) = configs.first().filter(|_| moves) {
            cx.run_moving_into(*first, &case)?;
        }
        if ran { Ok(()) } else { Stop::skip("it runs no scenario there") }
    })
    .and(also)
}

/// A VM as KVM makes it, and one whose shape userspace has reduced as far as it may.
fn configs(cx: &mut Context<'_>) -> Result<Vec<Config>, Stop> {
    let facts = cx.facts(Features::El2)?;
    let mut shapes = vec![facts.default(ID_AA64DFR0_EL1), facts.least()];
    shapes.dedup();
    let config = |value| Config { id_aa64dfr0: Some(value), features: Features::El2, ..Config::default() };
    Ok(shapes.into_iter().map(config).collect())
}
