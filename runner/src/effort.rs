// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! How much a run does. The command line makes this value and the runner applies it: a suite says what there is, and
//! never asks how much of it runs.
//!
//! | | a sample, `--every N` | by default | `--thorough MINUTES` |
//! |---|---|---|---|
//! | scenarios of a case, and rounds of [`Context::each`] | the first and every Nth | all | all |
//! | scenarios that a case draws | `--draws`, divided by N | `--draws` | as many as the time allows |
//! | other shapes in which a case runs again | 2, which take turns | 8, which take turns | all, the case whole in each |
//! | of its scenarios, those that userspace steps through | each in one shape | each in one shape | each in all |
//! | scenarios that a case draws there | a quarter, divided by N | a quarter of `--draws` | those of a quarter of the time |
//! | cases of which a vCPU moves | one of 4 | all | all |
//! | their scenarios | the first and a few of many | the first and a few of many | all, as the time allows |
//! | moves in a scenario | 2, divided by N | 2 | one after each operation |
//!
//! `--seed` decides what is drawn. Which shapes and moves a case has follows from its name ([`turn`]). A sweep that takes
//! too long to run for each number of a register is shared by the numbers, whatever the effort is ([`share_of`]).
//!
//! [`Context::each`]: crate::case::Context::each

use crate::{
    case::{Again, Case},
    turn,
};
use dfr0_model::scenario::Migrate;
use std::time::Duration;

/// How much a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// The same seed draws the same scenarios on hosts of the same shape.
    pub seed: u64,
    /// How many scenarios a case draws.
    pub draws: u32,
    /// The first and every Nth scenario runs: 1 is all, more is a sample.
    pub every: usize,
    /// A thorough run: how long a case draws scenarios, or moves its vCPU.
    pub thorough: Option<Duration>,
}

impl Default for Effort {
    fn default() -> Self {
        Self { seed: 1, draws: 1200, every: 1, thorough: None }
    }
}

/// In how many shapes the scenarios of a case take turns.
const SHAPES: usize = 8;
const SHAPES_OF_A_SAMPLE: usize = 2;
/// In a sample, one of this many cases moves. The moves would take most of the time of the sample.
const CASES_OF_A_SAMPLE: usize = 4;
/// How often a scenario moves. It takes milliseconds to read and write the registers of a vCPU.
const MOVES: usize = 2;
/// In other shapes a case draws one of this many scenarios.
const DRAWN_AGAIN: u32 = 4;
/// How many numbers share a sweep.
const NUMBERS: usize = 4;

/// Which of a case's scenarios run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// All.
    #[default]
    All,
    /// Of a case that runs in several variations: the first in each variation, and each other in one of them.
    Turn {
        /// The variation, from 0.
        this: usize,
        /// The number of variations.
        of: usize,
    },
    /// A few of many: the first, and those at the places 256, 4096 and 65536.
    Few,
}

impl Which {
    const fn includes(self, place: usize) -> bool {
        match self {
            Self::All => true,
            Self::Turn { this, of } => place == 0 || place % of == this,
            Self::Few => {
                place == 0 || place.is_power_of_two() && place.ilog2().is_multiple_of(4) && place > 16
            }
        }
    }
}

/// Which of a case's scenarios move, how often, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moving {
    /// Which of its scenarios run.
    pub which: Which,
    /// The upper limit of moves in a scenario.
    pub most: usize,
    /// No scenario is started later.
    pub time: Option<Duration>,
}

impl Effort {
    /// Cases run only a sample of their scenarios.
    pub const fn is_sample(self) -> bool {
        self.every > 1
    }

    /// The scenario at this place of a case runs.
    pub(crate) const fn includes(self, which: Which, place: usize) -> bool {
        which.includes(place) && place.is_multiple_of(self.every)
    }

    /// The same for a scenario that userspace steps through. Each of its instructions is an exit, so it has its turn in one
    /// variation even if it is the first.
    pub(crate) const fn includes_stepped(self, which: Which, place: usize) -> bool {
        match which {
            Which::Turn { this, of } if place % of != this => false,
            _ => self.includes(which, place),
        }
    }

    /// How many scenarios a case draws, or for how long instead.
    pub(crate) fn draws(self, which: Which) -> (u32, Option<Duration>) {
        let variations = match which {
            Which::Turn { of, .. } => DRAWN_AGAIN * of as u32,
            _ => 1,
        };
        let share = variations * self.every as u32;
        (self.draws.div_ceil(share), self.thorough.map(|time| time / share))
    }

    /// The places, among all `shapes`, of those in which a case runs again, and which of its scenarios run there.
    pub fn shapes(self, case: &Case, shapes: usize) -> Vec<(usize, Which)> {
        let takes_turns = self.thorough.is_none() || case.is_drawn();
        if case.again() == Again::InTurn && takes_turns {
            let most = if self.is_sample() { SHAPES_OF_A_SAMPLE } else { SHAPES };
            let of = most.min(shapes);
            let places = turn::places(case.turn(), of, shapes).enumerate();
            places.map(|(this, place)| (place, Which::Turn { this, of })).collect()
        } else {
            (0..shapes).map(|place| (place, Which::All)).collect()
        }
    }

    /// How the vCPU of the case with this turn moves; why it does not in this run.
    pub fn moving(self, turn: usize) -> Result<Moving, String> {
        // Each way to migrate comes first in some of the cases of a sample.
        if self.is_sample() && !(turn / Migrate::ALL.len()).is_multiple_of(CASES_OF_A_SAMPLE) {
            return Err(format!("a sample runs one of {CASES_OF_A_SAMPLE} of these cases"));
        }
        Ok(match self.thorough {
            Some(_) => Moving { which: Which::All, most: usize::MAX, time: self.thorough },
            None => self.moving_a_little(),
        })
    }

    /// How a vCPU moves where no run moves it thoroughly.
    pub(crate) const fn moving_a_little(self) -> Moving {
        Moving { which: Which::Few, most: MOVES.div_ceil(self.every), time: None }
    }
}

/// What number `n` does of a sweep that takes too long to do for each number. Number 0, and a register without a
/// number, does everything. Each of the others does every fourth, so that four neighbours together do everything.
pub fn share_of<T>(n: impl Into<Option<u8>>, sweep: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    let (first, step) = match n.into() {
        None | Some(0) => (0, 1),
        Some(n) => (usize::from(n) % NUMBERS, NUMBERS),
    };
    sweep.into_iter().skip(first).step_by(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfr0_model::rule;

    #[test]
    fn each_scenario_has_its_turn_in_one_variation_and_the_first_in_each() {
        let ran =
            |this| (0..8).filter(|place| Which::Turn { this, of: 3 }.includes(*place)).collect::<Vec<_>>();
        assert_eq!([ran(0), ran(1), ran(2)], [vec![0, 3, 6], vec![0, 1, 4, 7], vec![0, 2, 5]]);
    }

    #[test]
    fn a_scenario_that_userspace_steps_through_has_its_turn_in_one_variation() {
        let ran = |this| {
            let turn = Which::Turn { this, of: 3 };
            (0..8).filter(|place| DEFAULT.includes_stepped(turn, *place)).collect::<Vec<_>>()
        };
        assert_eq!([ran(0), ran(1), ran(2)], [vec![0, 3, 6], vec![1, 4, 7], vec![2, 5]]);
        assert!((0..8).all(|place| DEFAULT.includes_stepped(Which::All, place)));
    }

    #[test]
    fn few_of_many_scenarios_run() {
        let ran: Vec<usize> = (0..70_000).filter(|place| Which::Few.includes(*place)).collect();
        assert_eq!(ran, [0, 256, 4096, 65536]);
    }

    #[test]
    fn number_0_does_everything_and_four_neighbours_share_it() {
        let share = |n: Option<u8>| share_of(n, 0..100).collect::<Vec<_>>();
        let all: Vec<i32> = (0..100).collect();
        assert_eq!([share(None), share(Some(0))], [all.clone(), all.clone()]);
        for first in 1..13 {
            let mut shared: Vec<i32> = (first..first + 4).flat_map(|n| share(Some(n))).collect();
            shared.sort_unstable();
            assert_eq!(shared, all, "from number {first} on");
        }
    }

    const SAMPLE: Effort = Effort { seed: 1, draws: 1000, every: 16, thorough: None };
    const DEFAULT: Effort = Effort { every: 1, ..SAMPLE };
    const THOROUGH: Effort = Effort { thorough: Some(Duration::from_secs(320)), ..DEFAULT };

    fn case() -> Case {
        Case::new("s.a", &rule::MDE, |_| Ok(()))
    }

    #[test]
    fn a_sample_runs_less_and_a_thorough_run_more() {
        let turn = Which::Turn { this: 0, of: 8 };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!([SAMPLE, DEFAULT].map(|effort| effort.draws(Which::All).0), [63, 1000]);
        assert_eq!([SAMPLE, DEFAULT].map(|effort| effort.draws(turn).0), [2, 32]);
        assert_eq!([Which::All, turn].map(|which| THOROUGH.draws(which).1), [seconds(320), seconds(10)]);
        let ran = |effort: Effort| (0..40).filter(|place| effort.includes(Which::All, *place)).count();
        assert_eq!([SAMPLE, DEFAULT, THOROUGH].map(ran), [3, 40, 40]);
        let shapes = |effort: Effort| effort.shapes(&case(), 20).len();
        assert_eq!([SAMPLE, DEFAULT, THOROUGH].map(shapes), [2, 8, 20]);
        let moved = |effort: Effort| (0..24).filter_map(|turn| effort.moving(turn).ok()).collect::<Vec<_>>();
        let few = |most| Moving { which: Which::Few, most, time: None };
        assert_eq!(moved(SAMPLE), [few(1); 6]);
        assert_eq!(moved(DEFAULT), [few(2); 24]);
        let all = Moving { which: Which::All, most: usize::MAX, time: seconds(320) };
        assert_eq!(moved(THOROUGH), [all; 24]);
    }

    #[test]
    fn a_case_runs_whole_in_each_shape_if_it_says_so_and_draws_a_share_in_every_run() {
        let whole: Vec<_> = (0..3).map(|place| (place, Which::All)).collect();
        assert_eq!(SAMPLE.shapes(&case().in_each_shape(), 3), whole);
        assert_eq!(THOROUGH.shapes(&case(), 3), whole);
        assert_eq!(THOROUGH.shapes(&case().drawn(), 20), DEFAULT.shapes(&case(), 20));
        let mut places: Vec<_> = DEFAULT.shapes(&case(), 3).into_iter().map(|(place, _)| place).collect();
        places.sort_unstable();
        assert_eq!((places, DEFAULT.shapes(&case(), 0)), (vec![0, 1, 2], vec![]));
    }
}
