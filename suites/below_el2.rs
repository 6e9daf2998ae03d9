// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The guest's suites at EL1 and EL0 of VMs with EL2. Nothing runs at EL2, and no control of EL2 traps or routes anything
//! there: EL1 sees what it sees in any VM. Userspace moves the vCPU of some cases with all of its registers, those of EL2
//! among them.

use crate::{
    BREAKPOINTS, DOUBLE_LOCK, EXCEPTION_MASKING, GUEST_DEBUG, LINKED_CONTEXT, OS_LOCK, RANDOM,
    REGISTER_ACCESS, SOFTWARE_STEP, WATCHPOINTS,
};
use dfr0_model::{sysreg::ID_AA64DFR0_EL1, vmm::Features};
use dfr0_runner::{
    case::{Again, Case, Context, Stop, Suite},
    guest::Config,
};
use std::sync::{Arc, OnceLock};

/// The suites that run there.
const SUITES: [Suite; 10] = [
    REGISTER_ACCESS,
    BREAKPOINTS,
    WATCHPOINTS,
    LINKED_CONTEXT,
    SOFTWARE_STEP,
    EXCEPTION_MASKING,
    OS_LOCK,
    DOUBLE_LOCK,
    GUEST_DEBUG,
    RANDOM,
];

/// Cases that need an EL2 that answers HVC, or an interrupt that ends WFI.
const NEEDING_MORE: [&str; 2] = ["software_step.over_hypervisor_call", "software_step.over_wait"];

/// One of this many cases moves. KVM takes long to free a VM with EL2, and longer the more vCPUs it has had.
const MOVING: usize = 12;

/// The configurations of the VMs, asked for when the first case needs them.
type Configs = Arc<OnceLock<Vec<Config>>>;

pub fn cases() -> Vec<Case> {
    let configs = Configs::default();
    let below = |case: Case| {
        let configs = Arc::clone(&configs);
        let (rule, also) = (case.rule, case.also);
        Case::new(case.name.clone(), rule, move |cx| {
            let configs = ask_once(cx, &configs)?;
            let ran = cx.run_again(configs, &case)?;
            let moves = case.why_it_stays().is_none() && case.turn().is_multiple_of(MOVING);
            if let Some(first) = configs.first().filter(|_| moves) {
                cx.run_moving_into(*first, &case)?;
            }
            if ran { Ok(()) } else { Stop::skip("it makes its own VMs") }
        })
        .and(also)
    };
    let cases = SUITES.into_iter().flat_map(|suite| suite.cases());
    let runs = |case: &Case| case.again() != Again::Never && !NEEDING_MORE.contains(&case.name.as_str());
    cases.filter(runs).map(below).collect()
}

fn ask_once<'a>(cx: &mut Context<'_>, configs: &'a Configs) -> Result<&'a [Config], Stop> {
    if let Some(configs) = configs.get() {
        return Ok(configs);
    }
    let asked = ask(cx)?;
    Ok(configs.get_or_init(|| asked))
}

/// A VM as KVM makes it, and one whose shape userspace has reduced as far as it may.
fn ask(cx: &mut Context<'_>) -> Result<Vec<Config>, Stop> {
    let facts = cx.facts(Features::El2)?;
    let mut shapes = vec![facts.default(ID_AA64DFR0_EL1), facts.least()];
    shapes.dedup();
    let config = |value| Config { id_aa64dfr0: Some(value), features: Features::El2, ..Config::default() };
    Ok(shapes.into_iter().map(config).collect())
}
