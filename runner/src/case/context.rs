// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What a case works with: it makes VMs, checks scenarios and reports what departs from the rules.

use super::{
    Finding, Report, Session, Stop,
    variation::{Moves, Variation},
};
use crate::{
    cpus,
    effort::Which,
    guest::{Config, Error, Guest, OfOther},
    host::Host,
    machine::Machine,
    program::{Departure, Program},
    results::{Departed, Detail},
};
use dfr0_model::{
    event::{Event, Logged},
    feature::Feature,
    pe::Pe,
    scenario::{Op, Scenario},
    shape::Shape,
    sysreg::DCZID_EL0,
    vmm::Features,
};
use std::{
    iter,
    time::{Duration, Instant},
};

/// What a case works with.
#[derive(Debug)]
pub struct Context<'a> {
    pub(super) session: &'a mut Session,
    pub(super) variation: Variation,
    /// How many scenarios it was given.
    pub(super) given: usize,
    pub(crate) report: Report,
}

impl<'a> Context<'a> {
    /// The context of a case in this session.
    pub(crate) fn new(session: &'a mut Session) -> Self {
        Self { session, variation: Variation::default(), given: 0, report: Report::default() }
    }
}

impl Context<'_> {
    /// The host's facts.
    pub fn host(&self) -> &Host {
        &self.session.common.host
    }

    /// The session that the case runs in.
    pub(crate) fn session(&self) -> &Session {
        self.session
    }

    /// The configuration of the case's VMs.
    pub(crate) fn config(&self) -> Config {
        self.variation.config
    }

    /// The features of the case's VMs.
    pub fn features(&self) -> Features {
        self.config().features
    }

    /// A VM with these features, whose vCPU has not run.
    pub fn vm(&self) -> Scenario {
        Scenario::vm(self.features())
    }

    /// The shape of the case's VMs: what KVM gives to a new VM, unless the case runs in a variation.
    pub fn shape(&self) -> Shape {
        self.variation.config.id_aa64dfr0.map_or(self.host().shape(), Shape::from_id_aa64dfr0)
    }

    /// Does the same with each of these; in a sample, with some of them.
    pub fn each<T>(
        &mut self,
        all: impl IntoIterator<Item = T>,
        mut check: impl FnMut(&mut Self, T) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let effort = self.session.common.effort;
        let mut all = (0..).zip(all).filter(|(place, _)| effort.includes(Which::All, *place));
        all.try_for_each(|(_, one)| check(self, one))
    }

    /// How many CPUs this thread may run on.
    pub fn cpus(&self) -> Result<usize, Stop> {
        Ok(cpus::allowed()?.len())
    }

    /// The guest has this feature, as its ID register says. Where nothing runs, it has every feature.
    pub fn has(&mut self, feature: Feature) -> Result<bool, Stop> {
        let reg = feature.register();
        let requested = self.variation.config.features;
        if self.is_on_paper() || requested != Features::None && requested == Features::for_guest(feature) {
            return Ok(true);
        }
        if let Some(value) = self.session.id_register(reg) {
            return Ok(feature.is_in(value));
        }
        let events = self.new_guest_of(Config::default())?.events(&Scenario::new().read(reg))?;
        let &[Event::Value(value)] = events.as_slice() else {
            return Err(Error::Unfit(format!("the guest cannot read {reg}: {events:?}")).into());
        };
        self.session.learn_id_register(reg, value);
        Ok(feature.is_in(value))
    }

    /// Skips the case if the guest does not have this feature.
    pub fn needs(&mut self, feature: Feature) -> Result<(), Stop> {
        match self.has(feature)? {
            true => Ok(()),
            false => Stop::skip(format!("the guest does not have {feature}")),
        }
    }

    /// Gives the case's VMs a feature from here on, which may have to be requested. Skips the case where they cannot
    /// have it.
    pub fn with(&mut self, feature: Feature) -> Result<(), Stop> {
        let features = Features::for_guest(feature);
        match &self.session.machine {
            Machine::Kvm(kvm) if !kvm.can(features) => {
                return Stop::skip(format!("this host has no {}", features.capabilities().join(" and ")));
            }
            Machine::Kvm(_) if features != Features::None => {
                let config = &mut self.variation.config;
                if config.features == Features::El2 {
                    return Stop::skip(format!("the VM has EL2 and not {features}"));
                }
                if ![Features::None, features].contains(&config.features) {
                    let both = format!("a VM with both {:?} and {features:?}", config.features);
                    return Err(Error::Unfit(format!("no case has {both}")).into());
                }
                config.features = features;
            }
            _ => self.needs(feature)?,
        }
        Ok(())
    }

    /// The size in bytes of the block that DC ZVA zeroes; `None` if DC ZVA is prohibited.
    pub fn zva_block(&mut self) -> Result<Option<u64>, Stop> {
        const DZP: u64 = 1 << 4;
        if let Some(known) = self.session.zva_block() {
            return Ok(known);
        }
        let mut guest = self.new_guest()?;
        let events = guest.events(&Scenario::new().read(DCZID_EL0))?;
        let block = match events.as_slice() {
            [Event::Value(dczid)] if dczid & DZP == 0 => Some(4 << (dczid & 0xf)),
            _ => None,
        };
        self.session.learn_zva_block(block);
        Ok(block)
    }

    /// A new VM, which has not run. A bare CPU is reset instead, which ends whatever ran there before.
    pub fn new_guest(&self) -> Result<Guest, Stop> {
        self.new_guest_of(self.variation.config)
    }

    /// A new VM as [`Self::new_guest`] makes it, with this configuration instead of the case's.
    pub fn new_guest_of(&self, config: Config) -> Result<Guest, Stop> {
        Ok(self.session.guest(config)?)
    }

    /// Runs a scenario in a VM that is shared with other scenarios, and judges it. Userspace has the vCPU before it and
    /// after it.
    pub fn check(&mut self, scenario: &Scenario) -> Result<(), Stop> {
        self.check_each([scenario.clone()])
    }

    /// Runs scenarios in the VM of [`Self::check`], many in one entry of the vCPU, and judges each.
    pub fn check_each(&mut self, scenarios: impl IntoIterator<Item = Scenario>) -> Result<(), Stop> {
        let mut scenarios = scenarios.into_iter();
        self.check_all(&mut || scenarios.next())
    }

    /// Compiled once, and not for each kind of iterator.
    fn check_all(&mut self, next: &mut dyn FnMut() -> Option<Scenario>) -> Result<(), Stop> {
        let Variation { which, migrating, until, .. } = self.variation;
        let effort = self.session.common.effort;
        let mut given = self.given;
        let mut scenarios = iter::from_fn(next)
            .filter_map(|scenario| {
                let place = given;
                given += 1;
                let migrated = |scenario: Scenario| match migrating {
                    Some(Moves { from, most }) => scenario.migrating(from + place, most),
                    None => scenario,
                };
                let in_time = until.is_none_or(|until| Instant::now() < until);
                let is_included = match scenario.is_stepped() {
                    true => effort.includes_stepped(which, place),
                    false => effort.includes(which, place),
                };
                (in_time && is_included).then(|| migrated(scenario))
            })
            .peekable();
        if self.is_on_paper() {
            return scenarios.try_for_each(|scenario| self.list(scenario));
        }
        while scenarios.peek().is_some() {
            let mut guest = self.shared_guest()?;
            let mut program = guest.program()?;
            while scenarios.peek().is_some_and(|scenario| program.add(scenario)) {
                scenarios.next();
            }
            if self.run_and_report(&mut guest, &program)? {
                self.keep(guest);
            }
        }
        drop(scenarios);
        self.given = given;
        Ok(())
    }

    /// Runs a scenario in this VM, which [`Self::new_guest`] made, and judges it. False if it departed from the rules:
    /// the VM is then in a state that the model does not know.
    pub fn check_on(&mut self, guest: &mut Guest, scenario: &Scenario) -> Result<bool, Stop> {
        let migrated = &self.moved(scenario.clone());
        if self.is_on_paper() {
            return self.list(migrated.clone()).map(|()| true);
        }
        let mut program = guest.program()?;
        program.add(migrated);
        self.run_and_report(guest, &program)
    }

    /// The case's VMs have another ID_AA64DFR0_EL1, or its vCPUs move.
    pub(crate) fn is_varied(&self) -> bool {
        self.variation.config.id_aa64dfr0.is_some() || self.variation.migrating.is_some()
    }

    /// The scenario as it moves in the case's variation.
    pub(crate) fn moved(&self, scenario: Scenario) -> Scenario {
        match self.variation.migrating {
            Some(Moves { from, most }) => scenario.migrating(from, most),
            None => scenario,
        }
    }

    /// Nothing runs here.
    pub(crate) fn is_on_paper(&self) -> bool {
        matches!(self.session.machine, Machine::Paper(_))
    }

    /// Lists a scenario instead of running it; ends the case when enough are listed.
    pub(crate) fn list(&mut self, scenario: Scenario) -> Result<(), Stop> {
        let shape = self.shape();
        self.report.listed.push((shape, scenario));
        self.report.checks += 1;
        if self.report.listed.len() < self.session.common.listed {
            Ok(())
        } else {
            Stop::skip("enough is listed")
        }
    }

    /// The VM that scenarios share. The caller gives it back with [`Self::keep`] if its state is known.
    pub(crate) fn shared_guest(&mut self) -> Result<Guest, Stop> {
        let config = self.variation.config;
        match self.session.guests.iter().position(|(of, _)| *of == config) {
            Some(place) => Ok(self.session.guests.remove(place).1),
            None => self.new_guest(),
        }
    }

    /// Gives a shared VM back.
    pub(crate) fn keep(&mut self, guest: Guest) {
        let guests = &mut self.session.guests;
        if guests.len() >= self.session.common.kept {
            guests.remove(0);
        }
        guests.push((self.variation.config, guest));
    }

    /// How many random scenarios the case draws, or for how long instead, and from which seed.
    pub(crate) fn draws(&self) -> (u64, u32, Option<Duration>) {
        let effort = self.session.common.effort;
        let (scenarios, time) = effort.draws(self.variation.which);
        (effort.seed, scenarios, time)
    }

    /// The model of the case's vCPUs.
    pub(crate) fn pe(&self) -> Pe {
        self.pe_of(self.shape())
    }

    fn pe_of(&self, shape: Shape) -> Pe {
        let pe = Pe::new(shape).with_host(self.host().shape());
        match self.session.known_zva_block() {
            Some(bytes) => pe.with_zva_block(bytes),
            None => pe,
        }
    }

    /// Runs a program and judges each of its scenarios.
    pub(crate) fn run(&mut self, guest: &mut Guest, program: &Program) -> Result<Vec<Departure>, Stop> {
        let start = Instant::now();
        let log = guest.run(program)?;
        let ran = Instant::now();
        let departures = program.judge(&self.pe(), &log)?;
        let cost = &mut self.report.cost;
        cost.exceptions += log.iter().filter(|logged| matches!(logged.event, Event::Exception(_))).count();
        cost.running += ran - start;
        cost.judging += ran.elapsed();
        self.report.checks += program.len();
        Ok(departures)
    }

    /// Runs a scenario in a new VM, and judges it without reporting.
    pub(crate) fn run_alone(&mut self, scenario: &Scenario) -> Result<Option<Departure>, Stop> {
        let mut guest = self.new_guest()?;
        let mut program = guest.program()?;
        program.add(scenario);
        Ok(self.run(&mut guest, &program)?.pop())
    }

    /// Runs a program and reports each of its scenarios that departed from the rules, and what other vCPUs
    /// did meanwhile; true if nothing departed.
    fn run_and_report(&mut self, guest: &mut Guest, program: &Program) -> Result<bool, Stop> {
        let departures = self.run(guest, program)?;
        for departure in &departures {
            self.report(departure, "");
        }
        Ok(self.judge_others(guest)? && departures.is_empty())
    }

    /// Judges and reports what other vCPUs did meanwhile; true if nothing departed from the rules.
    fn judge_others(&mut self, guest: &mut Guest) -> Result<bool, Stop> {
        let mut agree = true;
        for OfOther { other, program, log } in guest.take_others() {
            self.report.checks += program.len();
            let shape = self.host().shape();
            for departure in program.judge(&self.pe_of(shape), &log)? {
                agree = false;
                let who = format!("another vCPU, its debug registers {other}");
                let detail = describe(shape, &departure, &who);
                self.find(format!("of {who}: {}", departure.mismatch.observed), detail);
            }
        }
        Ok(agree)
    }

    /// Reports a scenario that departed from the rules, with a few words on how it was found.
    pub(crate) fn report(&mut self, departure: &Departure, how: &str) {
        let detail = describe(self.shape(), departure, how);
        self.find(departure.mismatch.observed.clone(), detail);
    }

    /// How long a guest may run at a time.
    pub(crate) fn deadline(&self) -> Duration {
        self.session.deadline()
    }

    /// What guests run on.
    pub(crate) fn machine(&self) -> &Machine {
        &self.session.machine
    }

    /// Guests are vCPUs of KVM.
    pub(crate) fn is_kvm(&self) -> bool {
        matches!(self.session.machine, Machine::Kvm(_))
    }

    /// Runs a scenario in a new VM, shows each operation with its events, and judges it.
    pub(crate) fn show(&mut self, scenario: &Scenario) -> Result<(), Stop> {
        let mut guest = self.new_guest()?;
        let mut program = guest.program()?;
        program.add(scenario);
        let log = guest.run(&program)?;
        self.show_log(program.ops(), &log);
        self.report.checks += 1;
        for departure in program.judge(&self.pe(), &log)? {
            self.report(&departure, "");
        }
        self.judge_others(&mut guest).map(drop)
    }

    /// Shows each operation with its events.
    pub(crate) fn show_log(&mut self, ops: &[Op], log: &[Logged]) {
        for (place, op) in ops.iter().enumerate() {
            self.report.shown.push_str(&format!("{place:4}  {op}\n"));
            for logged in log.iter().filter(|logged| logged.op == place) {
                self.report.shown.push_str(&format!("        {}\n", logged.event));
            }
        }
    }

    /// Counts a check that is not a scenario.
    pub fn count(&mut self) {
        self.report.checks += 1;
    }

    /// Reports a departure from the rules. `observed` says it in words that hold on any host; `detail` in full.
    pub fn find(&mut self, observed: String, detail: impl Into<Detail>) {
        let finding = self.report.findings.entry(observed).or_insert_with(|| Finding::first(detail));
        finding.times += 1;
    }
}

/// A scenario that departed from the rules in a VM of this shape, with a few words on how it was found.
fn describe(shape: Shape, departure: &Departure, how: &str) -> Departed {
    let Departure { ops, undoing, mismatch, .. } = departure;
    Departed {
        how: (!how.is_empty()).then(|| how.to_owned()),
        shape: shape.to_string(),
        undoing: *undoing,
        operations: ops.iter().map(ToString::to_string).collect(),
        mismatch: mismatch.words(),
    }
}
