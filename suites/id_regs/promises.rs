// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The registers that the debug feature registers promise. The guest can read each register that they say is
//! implemented, and an access to each that they say is not implemented is UNDEFINED. The model has the table
//! of these registers.

use super::{DFR0, values::is_legal, vm};
use dfr0_model::{
    dfr0::PMUVER,
    promise::{Promise, TABLE},
    rule,
    scenario::Scenario,
    sysreg::MDSCR_EL1,
    vm::Facts,
    vmm::Features::{self, Pmu},
};
use dfr0_runner::case::{Case, Context, Stop};
use std::sync::Arc;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for promise in &TABLE {
        let name = ["promises", promise.slug].join(".");
        cases.push(Case::new(name.clone(), &rule::ID_FIELDS_ARE_PROMISES, |cx| {
            let kinds = Kinds::of(cx)?;
            let without_pmu = if kinds.hide(promise) { None } else { Some(vm()) };
            let with_pmu = kinds.with_pmu.as_ref().map(|_| Scenario::vm(Pmu));
            let mut vms = without_pmu.into_iter().chain(with_pmu).peekable();
            if vms.peek().is_none() {
                return Stop::skip("this host has no PMU for guests");
            }
            cx.check_vms(vms.map(|vm| reads(vm, promise)))
        }));
        if promise.fields == PMUVER.name {
            let name = [name, "hidden".into()].join("_");
            cases.push(Case::new(name, &rule::ID_FIELDS_ARE_PROMISES, |cx| hidden(cx, promise)));
        }
    }
    cases
}

/// VMs without a PMU, and with one where the host has a PMU for guests.
struct Kinds {
    without_pmu: Arc<Facts>,
    with_pmu: Option<Arc<Facts>>,
}

impl Kinds {
    fn of(cx: &mut Context<'_>) -> Result<Self, Stop> {
        let without_pmu = cx.facts(Features::None)?;
        let with_pmu = match cx.facts(Pmu) {
            Ok(facts) => Some(facts),
            Err(Stop::Skip(_)) => None,
            Err(stop) => return Err(stop),
        };
        Ok(Self { without_pmu, with_pmu })
    }

    /// Whether KVM hides the register from a guest without a PMU: either a guest with a PMU has the register,
    /// or the host has no PMU for guests.
    fn hide(&self, promise: &Promise) -> bool {
        let is_the_pmus = promise.fields == PMUVER.name && !promise.is_made_by(self.without_pmu.promises());
        is_the_pmus && self.with_pmu.as_ref().is_none_or(|facts| promise.is_made_by(facts.promises()))
    }
}

/// The guest reads the register twice, and accesses its first debug register in between, because KVM may
/// write MDCR_EL2 again when the guest gets the debug registers.
fn reads(vm: Scenario, promise: &Promise) -> Scenario {
    vm.read(promise.reg).read(MDSCR_EL1).read(promise.reg)
}

/// The guest without a PMU, and a guest with a PMU for each lesser PMUVer that userspace may write and that
/// does not promise the register.
fn hidden(cx: &mut Context<'_>, promise: &Promise) -> Result<(), Stop> {
    let kinds = Kinds::of(cx)?;
    if !kinds.hide(promise) {
        return Stop::skip("no guest has the register, so it is not hidden");
    }
    let lesser = kinds.with_pmu.iter().flat_map(|facts| {
        let default = facts.default(DFR0);
        let legal = (0..16).filter(move |value| is_legal(&PMUVER, *value, default));
        let values = legal.map(move |value| PMUVER.with(default, value));
        values.filter(|value| !promise.is_made_by(facts.promises_with(*value)))
    });
    let lesser = lesser.map(|value| reads(Scenario::vm(Pmu).tries(DFR0, value), promise));
    cx.check_vms(std::iter::once(reads(vm(), promise)).chain(lesser))
}
