// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The values of ID_AA64DFR0_EL1 in VMs with a PMU, with SVE and with pointer authentication.

use super::values::{self, guest_agrees, late, lower, new_vm, sweep};
use dfr0_model::{
    dfr0::{FIELDS, PMUVER, PMUVER_IMP_DEF, PMUVER_NI},
    id_dfr0::{PERFMON, perfmon_of},
    rule::{self, Rule},
    sysreg::{ID_AA64DFR0_EL1, ID_DFR0_EL1},
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    plain::Features::{self, Pmu, PointerAuthentication, Sve},
};

pub fn cases() -> Vec<Case> {
    let case = |name: &str, rule: &'static Rule, test: fn(&mut Context<'_>) -> Result<(), Stop>| {
        Case::new(name, rule, test)
    };
    let mut cases = values::cases("with_pmu", &rule::ID_PMUVER_OF_VCPU, |cx| sweeps(cx, Pmu));
    cases.extend([
        case("with_pmu.guest_reads", &rule::ID_GUEST_READS, |cx| runs(cx, Pmu)).and(&[
            &rule::ID_FROZEN_BY_RUN,
            &rule::ID_LATE_AND_ILLEGAL,
            &rule::ID_PMUVER_IMP_DEF,
        ]),
        case("with_pmu.pmuver", &rule::ID_PMUVER_OF_VCPU, with_pmu),
        case("with_pmu.perfmon", &rule::ID_PERFMON_IS_PMUVER, |cx| perfmon(cx, Pmu)),
        case("without_pmu.pmuver", &rule::ID_PMUVER_OF_VCPU, without_pmu),
        case("without_pmu.perfmon", &rule::ID_PERFMON_IS_PMUVER, |cx| perfmon(cx, Features::None)),
    ]);
    cases.extend(values::cases("with_sve", &rule::ID_FEATURES_APART, |cx| sweeps(cx, Sve)));
    cases.extend([
        case("with_sve.guest_reads", &rule::ID_GUEST_READS, |cx| runs(cx, Sve))
            .and(&[&rule::ID_FROZEN_BY_RUN, &rule::ID_LATE_AND_ILLEGAL]),
        case("with_sve.as_without", &rule::ID_FEATURES_APART, |cx| as_without(cx, Sve)),
    ]);
    cases.extend(values::cases("with_pauth", &rule::ID_FEATURES_APART, |cx| {
        sweeps(cx, PointerAuthentication)
    }));
    cases.extend([
        case("with_pauth.guest_reads", &rule::ID_GUEST_READS, |cx| runs(cx, PointerAuthentication))
            .and(&[&rule::ID_FROZEN_BY_RUN, &rule::ID_LATE_AND_ILLEGAL]),
        case("with_pauth.as_without", &rule::ID_FEATURES_APART, |cx| as_without(cx, PointerAuthentication)),
    ]);
    cases
}

fn sweeps(cx: &Context<'_>, features: Features) -> Result<Vec<values::Sweep>, Stop> {
    let vm = new_vm(cx, 1, features)?;
    Ok(vec![sweep(&vm, &FIELDS, 0, 0)?])
}

/// The guest reads what userspace reads, with KVM's own value and with the least, and a run freezes the
/// register.
fn runs(cx: &mut Context<'_>, features: Features) -> Result<(), Stop> {
    for lowered in [false, true] {
        let mut vm = new_vm(cx, 1, features)?;
        let default = vm.read(0, ID_AA64DFR0_EL1)?;
        if lowered {
            lower(&vm, 0)?;
        }
        guest_agrees(cx, &mut vm, 0)?;
        late(cx, &vm, 0, default)?;
    }
    Ok(())
}

fn with_pmu(cx: &mut Context<'_>) -> Result<(), Stop> {
    let vm = new_vm(cx, 1, Pmu)?;
    let register = vm.read(0, ID_AA64DFR0_EL1)?;
    let pmuver = PMUVER.get(register);
    cx.count();
    if pmuver == PMUVER_NI || pmuver == PMUVER_IMP_DEF || !PMUVER.is_architected(pmuver) {
        cx.find("PMUVer names no version of PMUv3".into(), format!("{pmuver:#06b} in {register:#x}"));
    }
    let without = cx.host().id_aa64dfr0;
    cx.count();
    if PMUVER.with(register, 0) != PMUVER.with(without, 0) {
        let full = format!("{register:#x}, without the PMU {without:#x}");
        cx.find("a field besides PMUVer differs from a VM without a PMU".into(), full);
    }
    Ok(())
}

fn without_pmu(cx: &mut Context<'_>) -> Result<(), Stop> {
    let vm = new_vm(cx, 1, Features::None)?;
    let register = vm.read(0, ID_AA64DFR0_EL1)?;
    cx.count();
    if PMUVER.get(register) != PMUVER_NI {
        cx.find("PMUVer is not zero".into(), format!("{register:#x}"));
    }
    Ok(())
}

fn perfmon(cx: &mut Context<'_>, features: Features) -> Result<(), Stop> {
    let vm = new_vm(cx, 1, features)?;
    if !super::neighbours::has_aarch32(&vm)? {
        return Stop::skip("the VM has no AArch32");
    }
    let (pmuver, perfmon) = (PMUVER.get(vm.read(0, ID_AA64DFR0_EL1)?), PERFMON.get(vm.read(0, ID_DFR0_EL1)?));
    cx.count();
    if perfmon != perfmon_of(pmuver) {
        let full = format!("PerfMon {perfmon:#06b}, PMUVer {pmuver:#06b}");
        cx.find("PerfMon is another form than PMUVer".into(), full);
    }
    Ok(())
}

/// A feature that does not concern debug changes no debug feature register.
fn as_without(cx: &mut Context<'_>, features: Features) -> Result<(), Stop> {
    let (vm, without) = (new_vm(cx, 1, features)?, new_vm(cx, 1, Features::None)?);
    for reg in values::DEBUG_FEATURES {
        cx.count();
        let (with, without) = (vm.read(0, reg)?, without.read(0, reg)?);
        if with != without {
            cx.find(format!("{reg} differs"), format!("{with:#x}, without {features:?} {without:#x}"));
        }
    }
    Ok(())
}
