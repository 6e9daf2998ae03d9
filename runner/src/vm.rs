// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Scenarios whose VM starts without vCPUs: userspace creates and initialises them.

use crate::{
    case::{Context, Stop},
    effort::Which,
    guest::{Config, Guest},
    kernel_version::KernelVersion,
    known_fields::writable_under,
    machine::Machine,
    paper,
    program::{Left, Program},
    results::Departed,
};
use dfr0_model::{
    judge::{Mismatch, judge_on},
    scenario::{Op, Scenario},
    sysreg::ID_AA64DFR0_EL1,
    vm::{Facts, Vm},
    vmm::{Features, Vmm},
};
use std::{collections::BTreeMap, iter, sync::Arc};

impl Context<'_> {
    /// What is known of VMs with these features. Skips the case if this host has no such VMs.
    pub fn facts(&mut self, features: Features) -> Result<Arc<Facts>, Stop> {
        if let Some(facts) = self.session().facts(features) {
            return Ok(facts);
        }
        let without = match features {
            Features::None => None,
            _ => Some(self.facts(Features::None)?),
        };
        let facts = match self.machine() {
            Machine::Kvm(kvm) if !kvm.can(features) => {
                let capabilities = features.capabilities().join(" and ");
                return Stop::skip(format!("this host does not have {capabilities}"));
            }
            Machine::Kvm(kvm) => {
                let zva_block = self.session().known_zva_block();
                let release = self.host().kernel.as_deref();
                let fields = release.and_then(KernelVersion::of_release).into_iter().flat_map(writable_under);
                let known = fields.fold(BTreeMap::new(), |mut known, field| {
                    *known.entry(field.reg).or_insert(0) |= field.mask();
                    known
                });
                Facts { known, zva_block, without, ..kvm.facts(features)? }
            }
            Machine::Bare(_) => return Stop::skip("needs KVM, and this is a bare CPU: a VM"),
            Machine::Paper(host) => paper::facts(host, features),
        };
        Ok(self.session().learn_facts(facts))
    }

    /// Runs a scenario that makes its VM, and judges it.
    pub fn check_vm(&mut self, scenario: &Scenario) -> Result<(), Stop> {
        self.check_after(scenario, [])
    }

    /// The scenario in the case's variation: the VM has another ID_AA64DFR0_EL1, and the vCPU moves.
    fn varied(&self, scenario: &Scenario) -> Scenario {
        if !self.is_varied() {
            return scenario.clone();
        }
        let is_made = |op: &Op| matches!(op, Op::Vmm(Vmm::Create | Vmm::Init(_) | Vmm::Complete(_)));
        let made = scenario.ops().iter().take_while(|op| is_made(op)).count();
        let (make, rest) = scenario.ops().split_at(made);
        let of = |ops: &[Op]| ops.iter().copied().fold(Scenario::new(), Scenario::then);
        let shaped = self.config().id_aa64dfr0.map(|value| Op::KvmSet { reg: ID_AA64DFR0_EL1, value });
        let make = shaped.into_iter().fold(of(make), Scenario::then);
        make.append(self.moved(of(rest)))
    }

    /// Runs scenarios, each of which makes its VM, and judges each.
    pub fn check_vms(&mut self, scenarios: impl IntoIterator<Item = Scenario>) -> Result<(), Stop> {
        scenarios.into_iter().try_for_each(|scenario| self.check_vm(&scenario))
    }

    /// Runs a scenario that makes its VM, and then, in the state in which it leaves the VM, others. Each is judged, and
    /// undone before the next. If the first departs from the rules, the others do not run.
    pub fn check_after(
        &mut self,
        first: &Scenario,
        scenarios: impl IntoIterator<Item = Scenario>,
    ) -> Result<(), Stop> {
        let mut scenarios = scenarios.into_iter();
        self.check_all_after(first, &mut || scenarios.next())
    }

    /// Compiled once, and not for each kind of iterator.
    fn check_all_after(
        &mut self,
        first: &Scenario,
        next: &mut dyn FnMut() -> Option<Scenario>,
    ) -> Result<(), Stop> {
        let mut scenarios = iter::from_fn(next);
        let features = first.features().unwrap_or_default();
        if ![Features::None, features].contains(&self.features()) {
            return Stop::skip(format!("its VMs have {features} and not {}", self.features()));
        }
        let facts = self.facts(features)?;
        let first = &self.varied(first);
        if self.is_on_paper() {
            self.list(first.clone())?;
            return scenarios.try_for_each(|scenario| self.list(first.clone().append(scenario)));
        }
        let mut guest = self.new_vm(&facts)?;
        let mut model = Vm::new(facts);
        let log = guest.run_ops(first.ops())?;
        self.report.checks += 1;
        if let Some(mismatch) = judge_on(&mut model, first.ops(), &log)? {
            self.report_vm(first.ops()[..=mismatch.place].to_vec(), false, mismatch, None);
            return Ok(());
        }
        let effort = self.session().effort();
        let some = (0..).zip(scenarios).filter(|(place, _)| effort.includes(Which::All, *place));
        let mut scenarios = some.map(|(_, scenario)| scenario).peekable();
        let mut left = Left::default();
        while scenarios.peek().is_some() {
            left = self.check_some(&mut guest, first, (&model, left), &mut scenarios)?;
        }
        Ok(())
    }

    /// Runs a scenario that makes its VM, shows each operation with its events, and judges it.
    pub(crate) fn show_vm(&mut self, scenario: &Scenario) -> Result<(), Stop> {
        let facts = self.facts(scenario.features().unwrap_or_default())?;
        let mut guest = self.new_vm(&facts)?;
        let log = guest.run_ops(scenario.ops())?;
        self.show_log(scenario.ops(), &log);
        self.report.checks += 1;
        if let Some(mismatch) = judge_on(&mut Vm::new(facts), scenario.ops(), &log)? {
            self.report_vm(scenario.ops()[..=mismatch.place].to_vec(), false, mismatch, None);
        }
        Ok(())
    }

    /// Runs a scenario that makes its VM, which is of this kind, and judges it without reporting.
    pub(crate) fn run_vm(
        &mut self,
        scenario: &Scenario,
        facts: &Arc<Facts>,
    ) -> Result<Option<Mismatch>, Stop> {
        let log = self.new_vm(facts)?.run_ops(scenario.ops())?;
        Ok(judge_on(&mut Vm::new(Arc::clone(facts)), scenario.ops(), &log)?)
    }

    /// A VM without vCPUs.
    fn new_vm(&self, facts: &Facts) -> Result<Guest, Stop> {
        let features = facts.features;
        self.new_guest_of(Config { features, without_vcpus: true, ..Config::default() })
    }

    /// Runs as many of the scenarios as one program takes, after one that has left something; returns what it leaves.
    fn check_some(
        &mut self,
        guest: &mut Guest,
        first: &Scenario,
        (model, left): (&Vm, Left),
        scenarios: &mut iter::Peekable<impl Iterator<Item = Scenario>>,
    ) -> Result<Left, Stop> {
        let mut program = Program::in_vm(model.clone(), left);
        while scenarios.next_if(|scenario| program.add(scenario)).is_some() {}
        let log = guest.run_ops(program.ops())?;
        self.report.checks += program.len();
        for departure in program.judge(model, &log)? {
            let mut mismatch = departure.mismatch;
            mismatch.place += first.ops().len();
            let ops = first.ops().iter().copied().chain(departure.ops);
            self.report_vm(ops.collect(), departure.undoing, mismatch, None);
        }
        Ok(program.left().clone())
    }

    /// Reports a scenario that departed from the rules.
    pub(crate) fn report_vm(&mut self, ops: Vec<Op>, undoing: bool, mismatch: Mismatch, how: Option<String>) {
        let detail = Departed {
            how,
            shape: self.host().shape().to_string(),
            undoing,
            operations: ops.iter().map(ToString::to_string).collect(),
            mismatch: mismatch.words(),
        };
        self.find(mismatch.observed, detail);
    }
}
