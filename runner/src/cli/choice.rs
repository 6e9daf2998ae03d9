// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Which cases `dfr0 run` runs, and `dfr0 list` lists.

use super::select;
use crate::{
    case::Case,
    pattern, renamed,
    results::{self, Results},
    turn,
};
use clap::Args;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Which cases.
#[derive(Args, Clone, Debug, Default)]
pub struct Choice {
    /// Cases to choose; without a pattern all.
    patterns: Vec<String>,
    /// Leave out the cases that this pattern matches. May be given several times.
    #[arg(long, value_name = "PATTERN")]
    skip: Vec<String>,
    /// Choose only cases that failed in the run that wrote the results FILE, or that have no result there because that run did
    /// not end; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    failed: Option<PathBuf>,
    /// Divide the cases into N parts and choose part K, from 1. A case's name alone decides its part, so the parts are the
    /// same on each host, and no other case changes them. They are not of equal size.
    #[arg(long, value_name = "K/N")]
    shard: Option<Shard>,
}

/// A part of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shard {
    /// From 0.
    this: usize,
    of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok().filter(|number| (1..=10_000).contains(number));
        let numbers = text.split_once('/').map(|(this, of)| (number(this), number(of)));
        match numbers {
            Some((Some(this), Some(of))) if this <= of => Ok(Self { this: this - 1, of }),
            _ => Err("this is K/N, such as 2/3, where K is from 1 to N and N at most 10000".into()),
        }
    }
}

impl Shard {
    fn has(self, name: &str) -> bool {
        turn::of(name) % self.of == self.this
    }
}

impl Choice {
    /// The chosen cases of those that the patterns may name; `known` are the names of all cases. There may be none: then
    /// [`Self::why_nothing`] applies.
    pub fn of(&self, cases: Vec<Case>, known: &[String]) -> Result<Vec<Case>, String> {
        let mut cases = select(cases, &self.patterns)?;
        let mut left_out = BTreeSet::new();
        for skipped in &self.skip {
            let names = cases.iter().map(|case| case.name.as_str());
            let places = pattern::places(skipped, names)
                .map_err(|_| format!("--skip \"{skipped}\": none of the chosen cases matches"))?;
            left_out.extend(places.into_iter().map(|place| cases[place].name.clone()));
        }
        cases.retain(|case| !left_out.contains(&case.name));
        if cases.is_empty() {
            return Err("--skip leaves out every chosen case".into());
        }
        if let Some(path) = &self.failed {
            let failed = failed(path, known)?;
            cases.retain(|case| failed.contains(&case.name));
        }
        if let Some(shard) = self.shard {
            cases.retain(|case| shard.has(&case.name));
        }
        Ok(cases)
    }

    /// Why no case is chosen.
    pub fn why_nothing(&self) -> String {
        let failed = self.failed.as_ref().map(|path| format!("failed in {}", path.display()));
        let shard = self.shard.map(|Shard { this, of }| format!("is in shard {}/{of}", this + 1));
        let both: Vec<String> = failed.into_iter().chain(shard).collect();
        format!("no chosen case {}", both.join(" and "))
    }
}

/// The names of the cases that failed, or have no result because the run did not end.
fn failed(path: &Path, known: &[String]) -> Result<BTreeSet<String>, String> {
    let (run, is_part) = match results::load(path).map_err(|error| error.to_string())? {
        Results::Run(run) => (run, false),
        Results::Part(part) => (part.run, true),
        Results::Unavailable(none) => {
            return Err(format!("{}: no case could run: {}", path.display(), none.reason));
        }
    };
    if is_part && run.begin.plan.is_empty() {
        return Err(format!(
            "{}: the run did not end, and does not name the cases that are missing",
            path.display()
        ));
    }
    let failed = run.cases.iter().filter(|case| run.fails(case.outcome)).map(|case| case.name.as_str());
    let names: BTreeSet<String> =
        failed.chain(run.missing()).map(|name| renamed::case(name).into_owned()).collect();
    match names.iter().find(|name| !known.contains(name)) {
        Some(stranger) => Err(format!("{}: this dfr0 has no case {stranger}", path.display())),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Lines, Record, Writer, tests::run};
    use dfr0_model::rule;
    use std::fs;

    const NAMES: [&str; 6] = ["s.a", "s.b", "s.c", "s.d", "s.e", "t.a"];

    fn names(choice: &Choice) -> Result<Vec<String>, String> {
        let known = NAMES.map(String::from);
        let cases = known.iter().map(|name| Case::new(name.clone(), &rule::MDE, |_| Ok(()))).collect();
        Ok(choice.of(cases, &known)?.into_iter().map(|case| case.name).collect())
    }

    fn skipping(patterns: &[&str]) -> Choice {
        Choice { skip: patterns.iter().map(ToString::to_string).collect(), ..Choice::default() }
    }

    #[test]
    fn what_is_skipped_is_left_out_and_must_exist() {
        assert_eq!(names(&skipping(&["s.b", "*.a"])), Ok(["s.c", "s.d", "s.e"].map(String::from).to_vec()));
        assert_eq!(names(&skipping(&["u"])), Err("--skip \"u\": none of the chosen cases matches".into()));
        let other = Choice { patterns: vec!["t".into()], ..skipping(&["s"]) };
        assert!(names(&other).is_err(), "it is not among the chosen");
        assert_eq!(names(&skipping(&["s", "t"])), Err("--skip leaves out every chosen case".into()));
    }

    #[test]
    fn each_case_is_in_one_shard_which_its_name_alone_decides() {
        let shards = |of: usize| -> Vec<Vec<String>> {
            let shard = |this| Choice { shard: Some(Shard { this, of }), ..Choice::default() };
            (0..of).map(|this| names(&shard(this)).expect("a shard")).collect()
        };
        for of in 1..9 {
            let mut all = shards(of).concat();
            all.sort();
            assert_eq!(all, NAMES);
        }
        let second = Choice { shard: Some(Shard { this: 1, of: 3 }), ..Choice::default() };
        let without = Choice { skip: vec!["s.c".into()], ..second.clone() };
        let expected: Vec<String> =
            names(&second).expect("a shard").into_iter().filter(|name| name != "s.c").collect();
        assert_eq!(names(&without), Ok(expected));
        assert_eq!("2/3".parse(), Ok(Shard { this: 1, of: 3 }));
        for bad in ["0/3", "4/3", "1/0", "1", "a/b", "1/2/3", "-1/2", "1/10001"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
        let none = Choice { shard: Some(Shard { this: 6, of: 9999 }), ..Choice::default() };
        assert_eq!(names(&none), Ok(vec![]));
        assert_eq!(none.why_nothing(), "no chosen case is in shard 7/9999");
    }

    #[test]
    fn what_failed_and_what_is_missing_runs_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("r.jsonl");
        let of = |records: &[Record]| {
            let mut text = Lines(Vec::new());
            records.iter().try_for_each(|record| text.write(record)).expect("a vector");
            fs::write(&path, text.0).expect("written");
            names(&Choice { failed: Some(path.clone()), ..Choice::default() })
        };
        let mut records: Vec<Record> = run().records().collect();
        assert_eq!(of(&records), Ok(vec!["s.b".into()]));
        assert_eq!(of(&records[..4]), Ok(["s.b", "s.d", "s.e"].map(String::from).to_vec()), "it did not end");
        let Record::Begin(begin) = &mut records[0] else { panic!("{records:?}") };
        begin.strict = true;
        assert_eq!(
            of(&records),
            Ok(["s.b", "s.e"].map(String::from).to_vec()),
            "an XPASS fails a strict run"
        );
        let Record::Begin(begin) = &mut records[0] else { panic!("{records:?}") };
        begin.plan.clear();
        assert!(of(&records[..4]).expect_err("refused").contains("does not name"));
        let Record::Case(case) = &mut records[2] else { panic!("{records:?}") };
        case.name = "s.x".into();
        assert!(of(&records).expect_err("refused").contains("this dfr0 has no case s.x"));
    }
}
