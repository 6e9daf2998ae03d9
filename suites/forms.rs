// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The forms that most cases have, and groups of cases. The runner puts the suite's name before a case's name.

use dfr0_model::{rule::Rule, scenario::Scenario};
use dfr0_runner::case::{Case, Context, Stop};

/// A case of one scenario.
pub fn one(name: &str, rule: &'static Rule, scenario: fn() -> Scenario) -> Case {
    Case::new(name, rule, move |cx| cx.check(&scenario()))
}

/// A case of one scenario for each breakpoint.
pub fn each_breakpoint(name: &str, rule: &'static Rule, scenario: fn(u8) -> Scenario) -> Case {
    Case::new(name, rule, move |cx| cx.shape().breakpoint_numbers().try_for_each(|n| cx.check(&scenario(n))))
}

/// A case of one scenario for each watchpoint.
pub fn each_watchpoint(name: &str, rule: &'static Rule, scenario: fn(u8) -> Scenario) -> Case {
    Case::new(name, rule, move |cx| (0..cx.shape().watchpoints).try_for_each(|n| cx.check(&scenario(n))))
}

/// A case that does what `test` does.
pub fn whole(name: &str, rule: &'static Rule, test: fn(&mut Context<'_>) -> Result<(), Stop>) -> Case {
    Case::new(name, rule, test)
}

/// Cases whose names begin with the name of a group.
pub fn within(group: &str, cases: impl IntoIterator<Item = Case>) -> impl Iterator<Item = Case> {
    cases.into_iter().map(move |case| case.within(group))
}
