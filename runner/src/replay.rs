// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A scenario from a file, run again.

use crate::{bounded, case::Case};
use dfr0_model::{feature::Feature, rule::Rule, scenario::Scenario, text};
use std::{collections::BTreeSet, fs::File, io, path::PathBuf};

/// The upper limit of a scenario's file, in bytes; anything longer is rejected.
const LONGEST: u64 = 1 << 20;

/// A file does not say which rule its scenario tests; the operation that departs names its own.
const ANY: Rule =
    Rule { name: "ANY", says: "Each operation causes what the rules allow", section: "docs/coverage.md" };

/// A file that cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}; replay takes a seed, which is a number, or the file of a scenario", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not contain a scenario.
    #[error("{path}, {source}", path = .path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Why.
        source: text::Error,
    },
}

/// Reads the scenario in a file; `-` is standard input.
pub fn read(name: &str) -> Result<Scenario, Error> {
    let path = PathBuf::from(name);
    let text = match name {
        "-" => bounded::read_text(io::stdin(), LONGEST),
        _ => File::open(&path).and_then(|file| bounded::read_text(file, LONGEST)),
    };
    match text {
        Ok(text) => text.parse().map_err(|source| Error::Text { path, source }),
        Err(source) => Err(Error::Read { path, source }),
    }
}

/// The case that runs a scenario in a VM of its own, and shows each operation with its events.
pub fn case(scenario: Scenario) -> Case {
    Case::new("replay.scenario", &ANY, move |cx| {
        if scenario.features().is_some() {
            return cx.show_vm(&scenario);
        }
        let needed: BTreeSet<Feature> = scenario.ops().iter().filter_map(|op| op.needs()).collect();
        needed.into_iter().try_for_each(|feature| cx.with(feature))?;
        cx.show(&scenario)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn of(bytes: &[u8]) -> Result<Scenario, String> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("written");
        read(file.path().to_str().expect("a name")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_holds_one_scenario() {
        assert_eq!(of(b"# isb\n#  1  exec brk\n"), Ok(Scenario::new().brk()));
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_place() {
        assert!(of(b"isb\nnop\n").is_err_and(|error| error.contains(", line 2: `nop`")));
        assert!(of(b"\xff\xfe").is_err_and(|error| error.contains("cannot read")));
        assert!(of(&[b' '; 1 << 20]).is_err_and(|error| error.contains("no operation")));
        assert!(of(&[b' '; (1 << 20) + 1]).is_err_and(|error| error.contains("longer than")));
        assert!(read("/no/such/file").is_err_and(|error| error.to_string().contains("/no/such/file")));
    }
}
