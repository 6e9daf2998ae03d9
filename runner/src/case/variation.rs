// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A case that runs again as a part of another one: in other shapes, or while its vCPU moves.

use super::{Case, Context, Stop};
use crate::{
    effort::{Moving, Which},
    guest::Config,
};
use std::time::Instant;

/// How a case runs as a part of another one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Variation {
    /// The configuration of its VMs.
    pub(super) config: Config,
    /// Which of its scenarios run.
    pub(super) which: Which,
    /// Userspace moves the vCPU's state elsewhere in the middle of each scenario.
    pub(super) migrating: Option<Moves>,
    /// No scenario is started after this time.
    pub(super) until: Option<Instant>,
}

/// When and how a scenario migrates, as [`Scenario::migrating`] takes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moves {
    /// The way to migrate, as a place in [`dfr0_model::scenario::Migrate::ALL`], that comes first in the first scenario.
    pub(super) from: usize,
    /// The upper limit of migrations in a scenario.
    pub(super) most: usize,
}

impl Variation {
    /// The vCPU moves, first in the way `from`.
    fn moving(Moving { which, most, time }: Moving, from: usize) -> Self {
        let until = time.map(|time| Instant::now() + time);
        Self { which, migrating: Some(Moves { from, most }), until, ..Self::default() }
    }
}

impl Context<'_> {
    /// Runs another case again, as a part of this case: in VMs of these configurations, or of some of them. The case is
    /// skipped if it skips in each. False if it ran no scenario.
    pub fn run_again(&mut self, configs: &[Config], case: &Case) -> Result<bool, Stop> {
        let (mut ran, mut skipped) = (false, None);
        for (place, which) in self.session.common.effort.shapes(case, configs.len()) {
            match self.run_in(Variation { config: configs[place], which, ..Variation::default() }, case) {
                Err(Stop::Skip(why)) => skipped = Some(why),
                result => ran |= result?,
            }
        }
        skipped.filter(|_| !ran).map_or(Ok(ran), Stop::skip)
    }

    /// Runs another case while its vCPU moves, as a part of this case. False if it ran no scenario.
    pub fn run_moving(&mut self, case: &Case) -> Result<bool, Stop> {
        let moving = self.session.common.effort.moving(case.turn()).map_err(Stop::Skip)?;
        self.run_in(Variation::moving(moving, case.turn()), case)
    }

    /// The vCPU of the case with this turn moves in this run: a sample leaves most of them out.
    pub fn moves(&self, turn: usize) -> bool {
        self.session.common.effort.moving(turn).is_ok()
    }

    /// Runs a few scenarios of another case in a VM of this configuration, as a part of this case. The vCPU moves, first
    /// into a new VM.
    pub fn run_moving_into(&mut self, config: Config, case: &Case) -> Result<(), Stop> {
        let moving = self.session.common.effort.moving_a_little();
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
}
