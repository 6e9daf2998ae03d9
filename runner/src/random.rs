// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Random scenarios: drawn from a seed, run many at a time, and the first that departs from the rules shrunk.

use crate::{
    case::{Context, Stop},
    guest::Error,
    program::Departure,
};
use dfr0_model::{
    judge::Mismatch,
    pe::Pe,
    scenario::{Op, Scenario},
    vm::{Facts, Model, Vm},
    vmm::Features,
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{self, RngAlgorithm, TestRng, TestRunner},
};
use std::{collections::BTreeMap, sync::Arc, time::Instant};

/// How many scenarios are tried to make one smaller.
const SHRINKS: usize = 2000;
/// How many scenarios in a row may be drawn for which the model has no rule.
const UNFIT_IN_A_ROW: usize = 1000;

/// How many scenarios that share a VM cost as much as one in a VM of its own.
const SHARED: u32 = 40;
/// What is observed of a scenario that breaks its guest.
const BROKEN: &str = "a scenario that could not be run to its end";

/// Scenarios from one seed.
struct Drawing<'a, S, M> {
    strategy: &'a S,
    runner: TestRunner,
    /// The model before a scenario.
    model: &'a dyn Fn(&Scenario) -> Result<M, Stop>,
    /// Whether an operation can be done here: others are left out, and the same seed draws the rest of the
    /// scenario.
    can: fn(Op) -> bool,
    left: u32,
    /// When drawing ends, however many scenarios there are.
    ends: Option<Instant>,
}

impl<S: Strategy<Value = Scenario>, M: Model> Drawing<'_, S, M> {
    /// The next scenario that the model has rules for.
    fn next(&mut self) -> Result<Option<S::Tree>, Stop> {
        match self.ends {
            Some(ends) if Instant::now() < ends => {}
            None if self.left > 0 => self.left -= 1,
            _ => return Ok(None),
        }
        let unfit = |reason: String| Stop::from(Error::Unfit(format!("no scenario was drawn: {reason}")));
        for _ in 0..UNFIT_IN_A_ROW {
            let tree =
                self.strategy.new_tree(&mut self.runner).map_err(|reason| unfit(reason.to_string()))?;
            if self.is_modelled(&self.scenario(&tree))? {
                return Ok(Some(tree));
            }
        }
        Err(unfit("the model has no rule for any of them".into()))
    }

    /// The drawn scenario without the operations that cannot be done here.
    fn scenario(&self, tree: &S::Tree) -> Scenario {
        possible(tree.current(), self.can)
    }

    fn is_modelled(&self, scenario: &Scenario) -> Result<bool, Stop> {
        let mut model = (self.model)(scenario)?;
        Ok(scenario.ops().iter().all(|op| model.step(*op).is_ok()))
    }
}

/// The scenario without the operations that cannot be done.
fn possible(scenario: Scenario, can: fn(Op) -> bool) -> Scenario {
    scenario.ops().iter().filter(|op| can(**op)).fold(Scenario::new(), |scenario, op| scenario.then(*op))
}

impl Context<'_> {
    /// Draws scenarios from `strategy`, and runs and judges each. The first that departs from the rules is
    /// shrunk to a smallest one that still departs, and reported with its seed. Operations that only
    /// userspace can do are left out where there is no userspace.
    pub fn check_random<S: Strategy<Value = Scenario>>(&mut self, strategy: &S) -> Result<(), Stop> {
        let (seed, scenarios, time) = self.draws();
        let runner = runner_of(seed);
        let pe = self.pe();
        let model = &|_: &Scenario| Ok(pe.clone());
        let ends = time.map(|time| Instant::now() + time);
        let mut drawing =
            Drawing { strategy, runner, model, can: self.machine().can(), left: scenarios, ends };
        if self.is_on_paper() {
            while let Some(tree) = drawing.next()? {
                self.list(drawing.scenario(&tree))?;
            }
            return Ok(());
        }
        let mut next = drawing.next()?;
        while next.is_some() {
            let mut guest = self.shared_guest()?;
            let mut program = guest.program()?;
            let mut trees = Vec::new();
            while let Some(tree) = next.take() {
                if !program.add(&drawing.scenario(&tree)) {
                    next = Some(tree);
                    break;
                }
                trees.push(tree);
                next = drawing.next()?;
            }
            match self.run(&mut guest, &program) {
                Ok(departures) => match departures.into_iter().next() {
                    None => self.keep(guest),
                    Some(departure) => {
                        let tree = trees.swap_remove(departure.scenario);
                        let known = match self.shrink(&drawing, tree)? {
                            Some(smallest) => (smallest, format!("seed {seed}, shrunk")),
                            None => (departure, format!("seed {seed}, departs only after other scenarios")),
                        };
                        self.report(&known.0, &known.1);
                        return Ok(());
                    }
                },
                Err(Stop::Broken(error)) => {
                    let scenarios = trees.iter().map(|tree| drawing.scenario(tree));
                    return self.find_broken(scenarios, error, seed);
                }
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }

    /// Shrinks a scenario that departed while it still departs, each time in a VM of its own; `None` if it
    /// never departs there.
    fn shrink<S: Strategy<Value = Scenario>>(
        &mut self,
        drawing: &Drawing<'_, S, Pe>,
        mut tree: S::Tree,
    ) -> Result<Option<Departure>, Stop> {
        let mut smallest = None;
        for _ in 0..SHRINKS {
            let scenario = drawing.scenario(&tree);
            let departure = if drawing.is_modelled(&scenario)? { self.run_alone(&scenario)? } else { None };
            let go_on = if departure.is_some() {
                smallest = departure;
                tree.simplify()
            } else {
                tree.complicate()
            };
            if !go_on {
                break;
            }
        }
        Ok(smallest)
    }

    /// Runs each scenario alone, and reports the one that breaks the guest. If none does, reports that only
    /// all of them do.
    fn find_broken(
        &mut self,
        scenarios: impl Iterator<Item = Scenario>,
        error: Error,
        seed: u64,
    ) -> Result<(), Stop> {
        for scenario in scenarios {
            if let Err(stop) = self.run_alone(&scenario) {
                self.find(BROKEN.into(), format!("seed {seed}, not shrunk:\n{scenario}"));
                return Err(stop);
            }
        }
        self.find(BROKEN.into(), format!("seed {seed}: it breaks the guest only after other scenarios"));
        Err(error.into())
    }
}

/// How a scenario that makes its VM went wrong.
enum Wrong {
    /// It departed from the rules.
    Departed(Vec<Op>, Mismatch),
    /// It could not be run to its end.
    Broken(Error),
}

impl Context<'_> {
    /// Draws scenarios that make their VMs, each in a VM of its own, from VMs of the given kinds. As one costs as much as
    /// many that share a VM, one is drawn for each [`SHARED`].
    pub fn check_random_vms<S: Strategy<Value = Scenario>>(
        &mut self,
        strategy: &S,
        kinds: &BTreeMap<Features, Arc<Facts>>,
    ) -> Result<(), Stop> {
        let (seed, scenarios, time) = self.draws();
        let model = &|scenario: &Scenario| {
            let facts = kinds.get(&scenario.features().unwrap_or_default());
            let facts = facts.ok_or_else(|| Error::Unfit("a VM of another kind was drawn".into()))?;
            Ok(Vm::new(Arc::clone(facts)))
        };
        let ends = time.map(|time| Instant::now() + time);
        let (runner, can, left) = (runner_of(seed), self.machine().can(), scenarios.div_ceil(SHARED));
        let mut drawing = Drawing { strategy, runner, model, can, left, ends };
        while let Some(mut tree) = drawing.next()? {
            let scenario = drawing.scenario(&tree);
            if self.is_on_paper() {
                self.list(scenario)?;
                continue;
            }
            self.count();
            let Some(mut wrong) = self.go_wrong(&scenario, kinds)? else { continue };
            let mut go_on = tree.simplify();
            for _ in 0..SHRINKS {
                if !go_on {
                    break;
                }
                let scenario = drawing.scenario(&tree);
                let smaller = match drawing.is_modelled(&scenario)? {
                    true => self.go_wrong(&scenario, kinds)?,
                    false => None,
                };
                go_on = match smaller {
                    Some(smaller) => {
                        wrong = smaller;
                        tree.simplify()
                    }
                    None => tree.complicate(),
                };
            }
            return match wrong {
                Wrong::Departed(ops, mismatch) => {
                    self.report_vm(ops, false, mismatch, Some(format!("seed {seed}, shrunk")));
                    Ok(())
                }
                Wrong::Broken(error) => {
                    let scenario = drawing.scenario(&tree);
                    self.find(BROKEN.into(), format!("seed {seed}, shrunk:\n{scenario}"));
                    Err(error.into())
                }
            };
        }
        Ok(())
    }

    /// How a scenario goes wrong in its VM, if it does.
    fn go_wrong(
        &mut self,
        scenario: &Scenario,
        kinds: &BTreeMap<Features, Arc<Facts>>,
    ) -> Result<Option<Wrong>, Stop> {
        let facts = kinds.get(&scenario.features().unwrap_or_default());
        let facts = facts.ok_or_else(|| Error::Unfit("a VM of another kind was drawn".into()))?;
        match self.run_vm(scenario, facts) {
            Ok(None) => Ok(None),
            Ok(Some(mismatch)) => {
                Ok(Some(Wrong::Departed(scenario.ops()[..=mismatch.place].to_vec(), mismatch)))
            }
            Err(Stop::Broken(error)) => Ok(Some(Wrong::Broken(error))),
            Err(stop) => Err(stop),
        }
    }
}

/// Draws from this seed.
fn runner_of(seed: u64) -> TestRunner {
    // Proptest makes a generator for each choice of a scenario, which takes longer with its own default, ChaCha, than all
    // else that draws it. A seed of XorShift must not be mostly zeros: splitmix64 spreads the bits.
    let mut bytes = [0; 16];
    let mut state = seed;
    for half in bytes.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        half.copy_from_slice(&(word ^ word >> 31).to_le_bytes());
    }
    let rng = TestRng::from_seed(RngAlgorithm::XorShift, &bytes);
    TestRunner::new_with_rng(test_runner::Config::default(), rng)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfr0_model::sysreg::MDSCR_EL1;

    #[test]
    fn what_cannot_be_done_is_left_out_and_the_rest_stays_in_order() {
        let read = Scenario::new().read(MDSCR_EL1);
        let drawn = read.clone().then(Op::KvmGet { reg: MDSCR_EL1 }).exec(1).then(Op::Exit);
        assert_eq!(possible(drawn.clone(), |op| !op.is_hosts()), read.exec(1));
        assert_eq!(possible(drawn.clone(), |_| true), drawn);
    }
}
