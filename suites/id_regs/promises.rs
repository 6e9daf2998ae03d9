// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The registers that the debug feature registers promise. The guest can read each register that they say is
//! implemented, and an access to each that they say is not implemented is UNDEFINED. The model has the table
//! of these registers.

use super::values::is_legal;
use dfr0_model::{
    dfr0::PMUVER,
    id_write::Answer,
    promise::{DebugFeatures, Promise, TABLE, is_undefined},
    rule,
    sysreg::{ID_AA64DFR0_EL1, ID_AA64DFR1_EL1, ID_AA64DFR2_EL1, MDSCR_EL1, SysReg},
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    plain::{
        Features::{self, Pmu},
        PlainVm, Reads,
    },
};
use std::sync::{Arc, OnceLock};

/// What a guest found for each register of the table.
#[derive(Debug)]
struct Found {
    /// The guest's VM.
    vm: &'static str,
    /// What the guest's ID registers say.
    features: DebugFeatures,
    /// The value, or ESR_EL1 of the exception, before the guest has accessed a debug register and afterwards.
    reads: Vec<[Result<u64, u64>; 2]>,
}

/// What guests found in VMs with KVM's own ID registers.
#[derive(Debug)]
struct Guests {
    without_pmu: Found,
    /// `None` where the host has no PMU for guests.
    with_pmu: Option<Found>,
}

pub fn cases() -> Vec<Case> {
    let guests = Arc::new(OnceLock::new());
    let mut cases = Vec::new();
    for (place, promise) in TABLE.iter().enumerate() {
        let name = format!("promises.{}", promise.slug);
        let shared = Arc::clone(&guests);
        cases.push(Case::new(name.clone(), &rule::ID_FIELDS_ARE_PROMISES, move |cx| {
            let guests = look(cx, &shared)?;
            let without_pmu = Some(&guests.without_pmu).filter(|_| !guests.hide(promise));
            let mut found = without_pmu.into_iter().chain(&guests.with_pmu).peekable();
            if found.peek().is_none() {
                return Stop::skip("this host has no PMU for guests");
            }
            found.for_each(|found| is_kept(cx, promise, place, found));
            Ok(())
        }));
        if promise.fields == PMUVER.name {
            let shared = Arc::clone(&guests);
            cases.push(Case::new(format!("{name}_hidden"), &rule::ID_FIELDS_ARE_PROMISES, move |cx| {
                hidden(cx, look(cx, &shared)?, promise, place)
            }));
        }
    }
    cases
}

impl Guests {
    /// Whether KVM hides the register from a guest without a PMU: either a guest with a PMU has the register,
    /// or the host has no PMU for guests.
    fn hide(&self, promise: &Promise) -> bool {
        let is_the_pmus = promise.fields == PMUVER.name && !promise.is_made_by(self.without_pmu.features);
        is_the_pmus && self.with_pmu.as_ref().is_none_or(|found| promise.is_made_by(found.features))
    }
}

fn look<'a>(cx: &Context<'_>, guests: &'a OnceLock<Guests>) -> Result<&'a Guests, Stop> {
    if let Some(guests) = guests.get() {
        return Ok(guests);
    }
    let without_pmu = find(&mut new_vm(cx, Features::None)?, "a VM without a PMU")?;
    let with_pmu = match new_vm(cx, Pmu) {
        Ok(mut vm) => Some(find(&mut vm, "a VM with a PMU")?),
        Err(Stop::Skip(_)) => None,
        Err(stop) => return Err(stop),
    };
    Ok(guests.get_or_init(|| Guests { without_pmu, with_pmu }))
}

/// A VM whose guest reads each register twice, and accesses its first debug register in between, because KVM
/// may write MDCR_EL2 again when the guest gets the debug registers.
fn new_vm(cx: &Context<'_>, features: Features) -> Result<PlainVm, Stop> {
    let registers = || TABLE.iter().map(|promise| promise.reg);
    let reads: Vec<SysReg> = registers().chain([MDSCR_EL1]).chain(registers()).collect();
    let mut vm = cx.plain_vm(1, features, Reads::Registers(reads))?;
    vm.init(0)?;
    Ok(vm)
}

fn find(vm: &mut PlainVm, name: &'static str) -> Result<Found, Stop> {
    let accesses = vm.guest_accesses(0)?;
    let (before, after) = accesses.split_at(TABLE.len());
    let reads = before.iter().copied().zip(after.iter().copied().skip(1)).map(<[_; 2]>::from).collect();
    let features = DebugFeatures {
        id_aa64dfr0: vm.read(0, ID_AA64DFR0_EL1)?,
        id_aa64dfr1: vm.read(0, ID_AA64DFR1_EL1)?,
        id_aa64dfr2: vm.read(0, ID_AA64DFR2_EL1)?,
    };
    Ok(Found { vm: name, features, reads })
}

fn is_kept(cx: &mut Context<'_>, promise: &Promise, place: usize, found: &Found) {
    let (Promise { reg, fields, .. }, vm) = (promise, found.vm);
    for read in found.reads.get(place).into_iter().flatten().copied() {
        cx.count();
        if promise.allows(found.features, read) {
            continue;
        }
        let what = match read {
            Ok(_) => format!("{reg} can be read in {vm}, where {fields} does not promise it"),
            Err(esr) if is_undefined(esr) => {
                format!("{reg} is UNDEFINED in {vm}, where {fields} promises it")
            }
            Err(_) => format!("{reg} causes another exception in {vm} than an UNDEFINED instruction does"),
        };
        let DebugFeatures { id_aa64dfr0, id_aa64dfr1, id_aa64dfr2 } = found.features;
        let read = match read {
            Ok(value) => format!("it reads {value:#x}"),
            Err(esr) => format!("ESR_EL1 is {esr:#x}"),
        };
        cx.find(
            what,
            format!(
                "{read}; ID_AA64DFR0_EL1 is {id_aa64dfr0:#x}, ID_AA64DFR1_EL1 {id_aa64dfr1:#x}, ID_AA64DFR2_EL1 \
                 {id_aa64dfr2:#x}"
            ),
        );
    }
}

/// The guest without a PMU, and a guest with a PMU for each lesser PMUVer that userspace may write and that
/// does not promise the register.
fn hidden(cx: &mut Context<'_>, guests: &Guests, promise: &Promise, place: usize) -> Result<(), Stop> {
    if !guests.hide(promise) {
        return Stop::skip(format!("no guest has {}, so it is not hidden", promise.reg));
    }
    is_kept(cx, promise, place, &guests.without_pmu);
    let Some(Found { features: default, .. }) = guests.with_pmu else {
        return Ok(());
    };
    for value in (0..16).filter(|value| is_legal(&PMUVER, *value, default.id_aa64dfr0)) {
        let id_aa64dfr0 = PMUVER.with(default.id_aa64dfr0, value);
        if promise.is_made_by(DebugFeatures { id_aa64dfr0, ..default }) {
            continue;
        }
        let mut vm = new_vm(cx, Pmu)?;
        if vm.set(0, ID_AA64DFR0_EL1, id_aa64dfr0)? == Answer::Accepted {
            is_kept(cx, promise, place, &find(&mut vm, "a VM with a lesser PMUVer")?);
        }
    }
    Ok(())
}
