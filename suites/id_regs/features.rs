// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The values of ID_AA64DFR0_EL1 in VMs with a PMU, with SVE, with pointer authentication and with EL2.

use super::{
    DFR0, all_read,
    values::{self, Moment, late, own_and_least},
    whole,
};
use dfr0_model::{
    rule,
    scenario::Scenario,
    sysreg::ID_DFR0_EL1,
    vm::DEBUG_FEATURES,
    vmm::Features::{self, El2, Pmu, PointerAuthentication, Sve},
};
use dfr0_runner::case::{Case, Context, Stop};

pub fn cases() -> Vec<Case> {
    let mut cases = values::cases(
        "with_pmu",
        &rule::ID_PMUVER_OF_VCPU,
        Moment { features: Pmu, before: |_| Scenario::vm(Pmu), through: &[(0, 0)] },
    );
    cases.extend([
        whole("with_pmu.guest_reads", &rule::ID_GUEST_READS, |cx| runs(cx, Pmu)).and(&[
            &rule::ID_FROZEN_BY_RUN,
            &rule::ID_LATE_AND_ILLEGAL,
            &rule::ID_PMUVER_IMP_DEF,
        ]),
        whole("with_pmu.pmuver", &rule::ID_PMUVER_OF_VCPU, |cx| cx.check_vm(&Scenario::vm(Pmu).gets(DFR0))),
        whole("with_pmu.perfmon", &rule::ID_PERFMON_IS_PMUVER, |cx| perfmon(cx, Pmu)),
        whole("without_pmu.pmuver", &rule::ID_PMUVER_OF_VCPU, |cx| cx.check_vm(&super::vm().gets(DFR0))),
        whole("without_pmu.perfmon", &rule::ID_PERFMON_IS_PMUVER, |cx| perfmon(cx, Features::None)),
    ]);
    cases.extend(values::cases(
        "with_sve",
        &rule::ID_FEATURES_APART,
        Moment { features: Sve, before: |_| Scenario::vm(Sve), through: &[(0, 0)] },
    ));
    cases.extend([
        whole("with_sve.guest_reads", &rule::ID_GUEST_READS, |cx| runs(cx, Sve))
            .and(&[&rule::ID_FROZEN_BY_RUN, &rule::ID_LATE_AND_ILLEGAL]),
        whole("with_sve.as_without", &rule::ID_FEATURES_APART, |cx| as_without(cx, Sve)),
    ]);
    cases.extend(values::cases(
        "with_pauth",
        &rule::ID_FEATURES_APART,
        Moment {
            features: PointerAuthentication,
            before: |_| Scenario::vm(PointerAuthentication),
            through: &[(0, 0)],
        },
    ));
    cases.extend([
        whole("with_pauth.guest_reads", &rule::ID_GUEST_READS, |cx| runs(cx, PointerAuthentication))
            .and(&[&rule::ID_FROZEN_BY_RUN, &rule::ID_LATE_AND_ILLEGAL]),
        whole("with_pauth.as_without", &rule::ID_FEATURES_APART, |cx| as_without(cx, PointerAuthentication)),
    ]);
    cases.extend(values::cases(
        "with_el2",
        &rule::ID_EL2_SHOWS_NO_MORE,
        Moment { features: El2, before: |_| Scenario::vm(El2), through: &[(0, 0)] },
    ));
    cases.extend([
        whole("with_el2.guest_reads", &rule::ID_GUEST_READS, |cx| runs(cx, El2))
            .and(&[&rule::ID_FROZEN_BY_RUN, &rule::ID_LATE_AND_ILLEGAL]),
        whole("with_el2.shows_no_more", &rule::ID_EL2_SHOWS_NO_MORE, |cx| {
            cx.check_vm(&Scenario::vm(El2).gets(DFR0))
        }),
    ]);
    cases
}

/// The guest reads what userspace reads, with KVM's own value and with the least, and a run freezes the
/// register.
fn runs(cx: &mut Context<'_>, features: Features) -> Result<(), Stop> {
    let facts = cx.facts(features)?;
    for frozen in own_and_least(&facts) {
        cx.check_after(&all_read(Scenario::vm(features).sets(DFR0, frozen)), late(frozen, 0))?;
    }
    Ok(())
}

fn perfmon(cx: &mut Context<'_>, features: Features) -> Result<(), Stop> {
    if !cx.facts(features)?.has_aarch32() {
        return Stop::skip("the VM has no AArch32");
    }
    cx.check_vm(&Scenario::vm(features).gets(ID_DFR0_EL1))
}

/// A feature that does not concern debug changes no debug feature register.
fn as_without(cx: &mut Context<'_>, features: Features) -> Result<(), Stop> {
    cx.check_vm(&Scenario::vm(features).gets_each(DEBUG_FEATURES))
}
