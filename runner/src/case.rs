// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Suites and cases, and the context that a case works with.

use crate::{
    cpus,
    effort::{Effort, Moving, Which},
    guest::{Config, Error, Guest, LEAST_AFTER_DEATH, OfOther},
    host::{Host, Unavailable},
    machine::Machine,
    plain::Features,
    program::{Departure, Program},
    results::{Departed, Detail},
    turn,
};
use dfr0_model::{
    dfr0::Field,
    event::Event,
    feature::Feature,
    outcome::Unknown,
    pe::Pe,
    rule::Rule,
    scenario::Scenario,
    shape::Shape,
    sysreg::{DCZID_EL0, SysReg},
};
use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

/// One subject: a test program, and its cases.
#[derive(Clone, Copy)]
pub struct Suite {
    /// The subject, and the first part of each case's name.
    pub name: &'static str,
    cases: fn() -> Vec<Case>,
}

impl Suite {
    /// A suite of these cases, which are the same on every host.
    pub const fn new(name: &'static str, cases: fn() -> Vec<Case>) -> Self {
        Self { name, cases }
    }

    /// Its cases, whose names begin with its name.
    pub fn cases(&self) -> Vec<Case> {
        (self.cases)().into_iter().map(|case| case.within(self.name)).collect()
    }
}

/// Where nothing runs, a case lists at most this many scenarios: a few to show, and one to know that there
/// are more.
pub(crate) const LISTED: usize = 3;

/// The upper limit of VMs that are kept for the scenarios of the next case: one per configuration.
const SHARED_GUESTS: usize = 64;

/// What a case does.
type Test = Box<dyn Fn(&mut Context<'_>) -> Result<(), Stop> + Send>;

/// One test point.
pub struct Case {
    /// Dotted, lower case, the same on every host and kernel. It begins with the name of its suite.
    pub name: String,
    /// The rule that it tests.
    pub rule: &'static Rule,
    /// Other rules that decide some of its values or scenarios.
    pub also: &'static [&'static Rule],
    again: Again,
    field: Option<&'static Field>,
    stays: Option<&'static str>,
    drawn: bool,
    test: Test,
}

/// In which other shapes a case runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// In none.
    Never,
    /// In some of them, and its scenarios take turns in these.
    InTurn,
    /// In each, with all its scenarios.
    Whole,
}

impl Case {
    /// A case that passes when `test` finds nothing. It runs again in some other shapes and while its vCPU moves, unless
    /// what follows says otherwise.
    pub fn new(
        name: impl Into<String>,
        rule: &'static Rule,
        test: impl Fn(&mut Context<'_>) -> Result<(), Stop> + Send + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            rule,
            also: &[],
            again: Again::InTurn,
            field: None,
            stays: None,
            drawn: false,
            test: Box::new(test),
        }
    }

    /// Its name begins with the name of this group, which may be that of its suite.
    pub fn within(self, group: &str) -> Self {
        Self { name: format!("{group}.{}", self.name), ..self }
    }

    /// Adds other rules that the case tests.
    pub fn and(self, also: &'static [&'static Rule]) -> Self {
        Self { also, ..self }
    }

    /// It has too many scenarios to run again in other shapes.
    pub fn large(self) -> Self {
        Self { again: Again::Never, ..self }
    }

    /// It makes its own VMs, which have KVM's default shape and are not moved.
    pub fn with_own_vms(self) -> Self {
        Self { again: Again::Never, ..self.stays("it makes its own VMs") }
    }

    /// What it tests may be wrong in any shape and right in all others.
    pub fn in_each_shape(self) -> Self {
        Self { again: Again::Whole, ..self }
    }

    /// It tests what this field of ID_AA64DFR0_EL1 promises, and runs again only in shapes that differ in it.
    pub fn of_field(self, field: &'static Field) -> Self {
        Self { again: Again::Whole, field: Some(field), ..self }
    }

    /// Its vCPU cannot move, because `why`.
    pub fn stays(self, why: &'static str) -> Self {
        Self { stays: Some(why), ..self }
    }

    /// Its scenarios are drawn: there is no end of them, and no run has them all.
    pub fn drawn(self) -> Self {
        Self { drawn: true, ..self }
    }

    /// Its turn among the cases: which of the shapes and moves are its own.
    pub fn turn(&self) -> usize {
        turn::of(&self.name)
    }

    /// In which other shapes it runs again.
    pub fn again(&self) -> Again {
        self.again
    }

    /// The field of ID_AA64DFR0_EL1 whose promise it tests, if it is one.
    pub fn field(&self) -> Option<&'static Field> {
        self.field
    }

    /// Why its vCPU cannot move, if it cannot.
    pub fn why_it_stays(&self) -> Option<&'static str> {
        self.stays
    }

    /// Its scenarios are drawn.
    pub fn is_drawn(&self) -> bool {
        self.drawn
    }

    /// All rules that the case tests, its main rule first.
    pub fn rules(&self) -> impl Iterator<Item = &'static Rule> + use<> {
        std::iter::once(self.rule).chain(self.also.iter().copied())
    }

    /// Runs the case.
    pub fn run(&self, session: &mut Session) -> Report {
        let mut context = Context::new(session);
        let stopped = (self.test)(&mut context).err();
        let Context { session, mut report, .. } = context;
        report.stopped = stopped;
        if matches!(report.stopped, Some(Stop::Broken(Error::Died(_)))) {
            session.died = true;
        }
        report
    }
}

/// The name of the case that the case `name` runs in a variation, if it runs one.
pub(crate) fn varied(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, varied)| varied).filter(|varied| varied.contains('.'))
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("rule", self.rule).finish_non_exhaustive()
    }
}

/// Why a case ended early.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The case does not apply to this host.
    #[error("{0}")]
    Skip(String),
    /// Something failed that no case expects.
    #[error("{0}")]
    Broken(Error),
    /// The model has no rule for a scenario of the case: a defect of the suite.
    #[error("{0}")]
    NotModelled(#[from] Unknown),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::NoVcpu(_) | Error::NothingRuns => Self::Skip(error.to_string()),
            _ => Self::Broken(error),
        }
    }
}

impl Stop {
    /// The case does not apply, because `why`.
    pub fn skip<T>(why: impl Into<String>) -> Result<T, Self> {
        Err(Self::Skip(why.into()))
    }
}

/// What a case found.
#[derive(Debug, Default)]
pub struct Report {
    /// How many scenarios were judged, or values written.
    pub checks: usize,
    /// How many exceptions the guests took, and where the time went.
    pub cost: Cost,
    /// Departures from the rules, by observation: words that hold on any host.
    pub findings: BTreeMap<String, Finding>,
    /// Text that is shown whatever the case found.
    pub shown: String,
    /// Where nothing runs: scenarios that the case would have run, and the shapes of their VMs.
    pub listed: Vec<(Shape, Scenario)>,
    /// Why the case ended early, if it did.
    pub stopped: Option<Stop>,
}

impl Report {
    /// Adds what another thread of the same case found.
    pub(crate) fn add(&mut self, other: Self) {
        self.checks += other.checks;
        self.cost.exceptions += other.cost.exceptions;
        self.cost.running += other.cost.running;
        self.cost.judging += other.cost.judging;
        for (observed, finding) in other.findings {
            let times = finding.times;
            self.findings.entry(observed).or_insert(Finding { times: 0, ..finding }).times += times;
        }
    }
}

/// What a case costs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// The exceptions that guests took.
    pub exceptions: usize,
    /// The time to write and run programs, and to read their logs.
    pub running: Duration,
    /// The time to judge logs.
    pub judging: Duration,
}

/// A departure from a rule.
#[derive(Debug)]
pub struct Finding {
    /// How often it was seen.
    pub times: usize,
    /// The first occurrence, in full.
    pub detail: Detail,
}

impl Finding {
    fn first(detail: impl Into<Detail>) -> Self {
        Self { times: 0, detail: detail.into() }
    }
}

/// A host, what guests run on there, and the guests that cases share.
#[derive(Debug)]
pub struct Session {
    machine: Machine,
    host: Host,
    deadline: Duration,
    /// A guest has died on this host.
    died: bool,
    effort: Effort,
    /// The guest that was used last is last.
    guests: Vec<(Config, Guest)>,
    /// The size in bytes of the block that DC ZVA zeroes, if it is permitted; `None` until a case asks.
    zva_block: Option<Option<u64>>,
    /// What guests read in the ID registers that cases have asked for.
    id_registers: BTreeMap<SysReg, u64>,
}

impl Session {
    /// Opens this host; where no guest can run at all, says why. A guest may run for `deadline` at a time.
    pub fn open(deadline: Duration) -> Result<Result<Self, Unavailable>, Error> {
        Ok(match Machine::open(deadline)? {
            Ok(machine) => Ok(Self {
                host: machine.host()?,
                machine,
                deadline,
                died: false,
                effort: Effort::default(),
                guests: Vec::new(),
                zva_block: None,
                id_registers: BTreeMap::new(),
            }),
            Err(unavailable) => Err(unavailable),
        })
    }

    /// A session for another thread on the same host.
    pub(crate) fn beside(host: &Host, deadline: Duration) -> Result<Self, Stop> {
        let machine =
            Machine::open(deadline)?.map_err(|unavailable| Error::Unfit(unavailable.to_string()))?;
        Ok(Self {
            machine,
            host: host.clone(),
            deadline,
            died: false,
            effort: Effort::default(),
            guests: Vec::new(),
            zva_block: None,
            id_registers: BTreeMap::new(),
        })
    }

    /// A session where nothing runs: cases list the scenarios that they would run on `host`.
    pub(crate) fn on_paper(host: Host) -> Self {
        /// The size on most CPUs.
        const ZVA_BLOCK: u64 = 64;
        Self {
            machine: Machine::Paper(host.clone()),
            host,
            deadline: Duration::ZERO,
            died: false,
            effort: Effort::default(),
            guests: Vec::new(),
            zva_block: Some(Some(ZVA_BLOCK)),
            id_registers: BTreeMap::new(),
        }
    }

    /// Sets how much cases do.
    pub fn with_effort(self, effort: Effort) -> Self {
        Self { effort, ..self }
    }

    /// How much cases do.
    pub(crate) fn effort(&self) -> Effort {
        self.effort
    }

    /// Sets how long a guest may run at a time.
    pub fn allowing(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The host's facts.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What guests run on.
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// How long a guest may run at a time.
    pub(crate) fn deadline(&self) -> Duration {
        let after_death = (self.deadline / 10).max(LEAST_AFTER_DEATH);
        if self.died { self.deadline.min(after_death) } else { self.deadline }
    }

    /// The size in bytes of the block that DC ZVA zeroes, if a case has asked for it.
    pub(crate) fn known_zva_block(&self) -> Option<u64> {
        self.zva_block.flatten()
    }

    /// A new VM, which has not run.
    pub(crate) fn guest(&self, config: Config) -> Result<Guest, Error> {
        self.machine.guest(config, self.deadline())
    }
}

/// How a case runs as a part of another one.
#[derive(Clone, Copy, Debug, Default)]
struct Variation {
    /// The configuration of its VMs.
    config: Config,
    /// Which of its scenarios run.
    which: Which,
    /// Userspace moves the vCPU's state elsewhere in the middle of each scenario.
    migrating: Option<Moves>,
    /// No scenario is started after this time.
    until: Option<Instant>,
}

/// When and how a scenario migrates, as [`Scenario::migrating`] takes it.
#[derive(Clone, Copy, Debug)]
struct Moves {
    /// The way to migrate, as a place in [`dfr0_model::scenario::Migrate::ALL`], that comes first in the first scenario.
    from: usize,
    /// The upper limit of migrations in a scenario.
    most: usize,
}

impl Variation {
    /// The vCPU moves, first in the way `from`.
    fn moving(Moving { which, most, time }: Moving, from: usize) -> Self {
        let until = time.map(|time| Instant::now() + time);
        Self { which, migrating: Some(Moves { from, most }), until, ..Self::default() }
    }
}

/// What a case works with.
#[derive(Debug)]
pub struct Context<'a> {
    session: &'a mut Session,
    variation: Variation,
    /// How many scenarios it was given.
    given: usize,
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
        &self.session.host
    }

    /// The session that the case runs in.
    pub(crate) fn session(&self) -> &Session {
        self.session
    }

    /// The configuration of the case's VMs.
    pub(crate) fn config(&self) -> Config {
        self.variation.config
    }

    /// The shape of the case's VMs: what KVM gives to a new VM, unless the case runs in a variation.
    pub fn shape(&self) -> Shape {
        self.variation.config.id_aa64dfr0.map_or(self.host().shape(), Shape::from_id_aa64dfr0)
    }

    /// Runs another case again, as a part of this case: in VMs of these configurations, or of some of them. The case is
    /// skipped if it skips in each. False if it ran no scenario.
    pub fn run_again(&mut self, configs: &[Config], case: &Case) -> Result<bool, Stop> {
        let (mut ran, mut skipped) = (false, None);
        for (place, which) in self.session.effort.shapes(case, configs.len()) {
            match self.run_in(Variation { config: configs[place], which, ..Variation::default() }, case) {
                Err(Stop::Skip(why)) => skipped = Some(why),
                result => ran |= result?,
            }
        }
        skipped.filter(|_| !ran).map_or(Ok(ran), Stop::skip)
    }

    /// Runs another case while its vCPU moves, as a part of this case. False if it ran no scenario.
    pub fn run_moving(&mut self, case: &Case) -> Result<bool, Stop> {
        let moving = self.session.effort.moving(case.turn()).map_err(Stop::Skip)?;
        self.run_in(Variation::moving(moving, case.turn()), case)
    }

    /// Runs a few scenarios of another case in a VM of this configuration, as a part of this case. The vCPU moves, first
    /// into a new VM.
    pub fn run_moving_into(&mut self, config: Config, case: &Case) -> Result<(), Stop> {
        let moving = self.session.effort.moving_a_little();
        self.run_in(Variation { config, ..Variation::moving(moving, 0) }, case).map(drop)
    }

    /// Runs another case in this variation. False if it ran no scenario.
    fn run_in(&mut self, variation: Variation, case: &Case) -> Result<bool, Stop> {
        let own = std::mem::replace(&mut self.variation, variation);
        let (given, checks) = (std::mem::take(&mut self.given), self.report.checks);
        let result = (case.test)(self);
        (self.variation, self.given) = (own, given);
        result.map(|()| self.report.checks > checks)
    }

    /// Does the same with each of these; in a sample, with some of them.
    pub fn each<T>(
        &mut self,
        all: impl IntoIterator<Item = T>,
        mut check: impl FnMut(&mut Self, T) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let effort = self.session.effort;
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
        if let Some(value) = self.session.id_registers.get(&reg) {
            return Ok(feature.is_in(*value));
        }
        let events = self.new_guest_of(Config::default())?.events(&Scenario::new().read(reg))?;
        let &[Event::Value(value)] = events.as_slice() else {
            return Err(Error::Unfit(format!("the guest cannot read {reg}: {events:?}")).into());
        };
        self.session.id_registers.insert(reg, value);
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
        if let Some(known) = self.session.zva_block {
            return Ok(known);
        }
        let mut guest = self.new_guest()?;
        let events = guest.events(&Scenario::new().read(DCZID_EL0))?;
        let block = match events.as_slice() {
            [Event::Value(dczid)] if dczid & DZP == 0 => Some(4 << (dczid & 0xf)),
            _ => None,
        };
        self.session.zva_block = Some(block);
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
        let Variation { which, migrating, until, .. } = self.variation;
        let effort = self.session.effort;
        let mut given = self.given;
        let mut scenarios = scenarios
            .into_iter()
            .filter_map(|scenario| {
                let place = given;
                given += 1;
                let migrated = |scenario: Scenario| match migrating {
                    Some(Moves { from, most }) => scenario.migrating(from + place, most),
                    None => scenario,
                };
                let in_time = until.is_none_or(|until| Instant::now() < until);
                (in_time && effort.includes(which, place)).then(|| migrated(scenario))
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
        let migrated = match self.variation.migrating {
            Some(Moves { from, most }) => &scenario.clone().migrating(from, most),
            None => scenario,
        };
        if self.is_on_paper() {
            return self.list(migrated.clone()).map(|()| true);
        }
        let mut program = guest.program()?;
        program.add(migrated);
        self.run_and_report(guest, &program)
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
        if self.report.listed.len() < LISTED { Ok(()) } else { Stop::skip("enough is listed") }
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
        if guests.len() >= SHARED_GUESTS {
            guests.remove(0);
        }
        guests.push((self.variation.config, guest));
    }

    /// How many random scenarios the case draws, or for how long instead, and from which seed.
    pub(crate) fn draws(&self) -> (u64, u32, Option<Duration>) {
        let effort = self.session.effort;
        let (scenarios, time) = effort.draws(self.variation.which);
        (effort.seed, scenarios, time)
    }

    /// The model of the case's vCPUs.
    pub(crate) fn pe(&self) -> Pe {
        self.pe_of(self.shape())
    }

    fn pe_of(&self, shape: Shape) -> Pe {
        let pe = Pe::new(shape);
        match self.session.zva_block {
            Some(Some(bytes)) => pe.with_zva_block(bytes),
            _ => pe,
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
        for (place, op) in program.ops().iter().enumerate() {
            self.report.shown.push_str(&format!("{place:4}  {op}\n"));
            for logged in log.iter().filter(|logged| logged.op == place) {
                self.report.shown.push_str(&format!("        {}\n", logged.event));
            }
        }
        self.report.checks += 1;
        for departure in program.judge(&self.pe(), &log)? {
            self.report(&departure, "");
        }
        self.judge_others(&mut guest).map(drop)
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
