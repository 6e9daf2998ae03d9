// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A scenario from a file, run again.
//!
//! The file may be the scenario's text, what `dfr0 run` printed of a failed case or of a whole run, or a file of results.
//! The line `in a VM of …:` above a scenario says the shape of its VM.

use crate::{
    bounded,
    case::{Case, Context, Stop},
    guest::Config,
    results::{self, Departed, Detail, Results},
    visible::visible,
};
use dfr0_model::{
    dfr0::{BRPS, CTX_CMPS, DEBUGVER, DOUBLELOCK, DOUBLELOCK_IMP, DOUBLELOCK_NI, WRPS},
    feature::Feature,
    rule::Rule,
    scenario::Scenario,
    shape::Shape,
    text,
};
use std::{collections::BTreeSet, io, path::PathBuf};

/// The upper limit of a file, in bytes; anything longer is rejected.
const LONGEST: u64 = 32 << 20;

/// The name of the case that runs the scenario.
pub(crate) const NAME: &str = "replay.scenario";

/// A file does not say which rule its scenario tests; the operation that departs names its own.
const ANY: Rule =
    Rule { name: "ANY", says: "Each operation causes what the rules allow", section: "docs/coverage.md" };

/// A scenario, and the shape of its VM if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The shape.
    pub shape: Option<Shape>,
    /// The scenario.
    pub scenario: Scenario,
}

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
    /// The file contains results, but not a scenario of this case.
    #[error("{path}: {message}", path = .path.display())]
    Results {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
}

/// Reads the scenario in a file; `-` is standard input. Of several in results, it is the first, or the first of `case`.
pub fn read(name: &str, case: Option<&str>) -> Result<Found, Error> {
    let path = PathBuf::from(name);
    let bytes = match bounded::load(&path, LONGEST) {
        Ok(bytes) => bytes,
        Err(source) => return Err(Error::Read { path, source }),
    };
    if bytes.starts_with(b"{") {
        return of_results(&bytes, case).map_err(|message| Error::Results { path, message });
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let source = io::Error::new(io::ErrorKind::InvalidData, error);
            return Err(Error::Read { path, source });
        }
    };
    let lines = match diagnostics(&text, case) {
        Ok(lines) => lines,
        Err(message) => return Err(Error::Results { path, message }),
    };
    let scenario = lines.operations.parse().map_err(|source| Error::Text { path, source })?;
    Ok(Found { shape: lines.shape, scenario })
}

/// The first scenario of a failed case that can be replayed; new departures are first.
pub(crate) fn first(case: &results::Case) -> Option<Found> {
    case.findings.iter().find_map(|finding| match &finding.detail {
        Some(Detail::Scenario(departed)) => of_departed(departed),
        Some(Detail::Text(_)) | None => None,
    })
}

/// The scenario, unless it is another vCPU's, which does not run alone.
fn of_departed(departed: &Departed) -> Option<Found> {
    let is_others = departed.how.as_ref().is_some_and(|how| how.starts_with("another vCPU"));
    let scenario = departed.operations.join("\n").parse().ok().filter(|_| !is_others)?;
    Some(Found { shape: shape(&departed.shape), scenario })
}

fn of_results(bytes: &[u8], case: Option<&str>) -> Result<Found, String> {
    let run = match results::read(bytes).map_err(|problem| problem.to_string())? {
        Results::Run(run) => run,
        Results::Part(part) => part.run,
        Results::Unavailable(_) => return Err("no case could run".into()),
    };
    let cases: Vec<_> =
        run.cases.iter().filter(|result| case.is_none_or(|case| result.name == case)).collect();
    if let (Some(case), []) = (case, &cases[..]) {
        return Err(format!("there is no result of {}", visible(case)));
    }
    cases.into_iter().find_map(first).ok_or_else(|| none(case))
}

fn none(case: Option<&str>) -> String {
    let case = visible(case.unwrap_or("the case"));
    format!("there is no scenario of {case} that can be replayed; `dfr0 run` runs a case again")
}

/// What is between the line `in a VM of …:` and the operation that departed, at its own line numbers.
struct Lines {
    shape: Option<Shape>,
    operations: String,
}

/// The scenario in what `dfr0 run` printed; without a line `in a VM of …:` the whole text is the scenario.
fn diagnostics(text: &str, case: Option<&str>) -> Result<Lines, String> {
    let bare = |line: &str| line.trim_start_matches(['#', ' ', '\t']).trim_end().to_owned();
    let lines: Vec<String> = text.lines().map(bare).collect();
    let of_case = match case {
        None => 0..lines.len(),
        Some(case) => {
            let end = lines.iter().position(|line| result_of(line) == Some(case));
            let end = end.ok_or_else(|| format!("there is no result of {}", visible(case)))?;
            let before = lines[..end].iter().rposition(|line| result_of(line).is_some());
            before.map_or(0, |before| before + 1)..end
        }
    };
    let vm = of_case.clone().find_map(|place| Some((place, lines[place].strip_prefix("in a VM of ")?)));
    let Some((place, vm)) = vm else {
        return match case {
            Some(_) => Err(none(case)),
            None => Ok(Lines { shape: None, operations: text.to_owned() }),
        };
    };
    let vm = vm.trim_end_matches(':');
    let shape = shape(vm.split_once(", while ").map_or(vm, |(shape, _)| shape));
    let shape = shape.ok_or_else(|| format!("line {}: `{}` is not a shape", place + 1, visible(vm)))?;
    let operations = lines[place + 1..of_case.end].iter().map_while(|line| operation(line));
    let operations = operations.fold("\n".repeat(place + 1), |text, line| text + line + "\n");
    Ok(Lines { shape: Some(shape), operations })
}

/// The operation in a line of a list, empty for what `dfr0 explain` prints below it; `None` after the list. A line that says
/// that operations were left out is not the end.
fn operation(line: &str) -> Option<&str> {
    let is_below = ["allowed: ", "or: ", "claimed: "].iter().any(|word| line.starts_with(word));
    let is_listed = line.starts_with(|first: char| first.is_ascii_digit() || first == '…');
    if is_below { Some("") } else { is_listed.then_some(line) }
}

/// The name of the case whose result this line is.
fn result_of(line: &str) -> Option<&str> {
    let (number, rest) = line.strip_prefix("not ").unwrap_or(line).strip_prefix("ok ")?.split_once(' ')?;
    let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    rest.split(' ').next().filter(|_| is_number)
}

/// The shape that prints as this text.
fn shape(text: &str) -> Option<Shape> {
    let mut parts = text.split(", ");
    let mut number = |after: &str| parts.next()?.strip_suffix(after)?.parse().ok();
    let (breakpoints, watchpoints) = (number(" breakpoints")?, number(" watchpoints")?);
    let context_aware = number(" context-aware")?;
    let debug_ver = u8::from_str_radix(parts.next()?.strip_prefix("DebugVer 0x")?, 16).ok()?;
    let double_lock = parts.next()? == "DoubleLock implemented";
    let shape = Shape { debug_ver, breakpoints, watchpoints, context_aware, double_lock };
    let is_count = |count: u8| (1..=16).contains(&count);
    let all = [breakpoints, watchpoints, context_aware].into_iter().all(is_count);
    (all && debug_ver < 16 && shape.to_string() == text).then_some(shape)
}

impl Found {
    /// ID_AA64DFR0_EL1 of its VM on a host that gives `host` to a new VM; `None` if that has this shape already.
    pub fn id_aa64dfr0(&self, host: u64) -> Option<u64> {
        let shape = self.shape.filter(|shape| *shape != Shape::from_id_aa64dfr0(host))?;
        let double_lock = if shape.double_lock { DOUBLELOCK_IMP } else { DOUBLELOCK_NI };
        let fields = [
            (BRPS, shape.breakpoints - 1),
            (WRPS, shape.watchpoints - 1),
            (CTX_CMPS, shape.context_aware - 1),
            (DEBUGVER, shape.debug_ver),
            (DOUBLELOCK, double_lock),
        ];
        let changed = fields.iter().filter(|(field, value)| field.get(host) != *value);
        Some(changed.fold(host, |register, (field, value)| field.with(register, *value)))
    }
}

/// The case that runs a scenario in a VM of its own, and shows each operation with its events.
pub fn case(found: Found) -> Case {
    Case::new(NAME, &ANY, move |cx| match found.id_aa64dfr0(cx.host().id_aa64dfr0) {
        // Such a scenario sets the shape itself.
        _ if found.scenario.features().is_some() => cx.show_vm(&found.scenario),
        None => show(cx, &found.scenario),
        id_aa64dfr0 => {
            let scenario = found.scenario.clone();
            let shaped = Case::new(NAME, &ANY, move |cx| show(cx, &scenario)).large();
            cx.run_again(&[Config { id_aa64dfr0, ..Config::default() }], &shaped).map(drop)
        }
    })
}

fn show(cx: &mut Context<'_>, scenario: &Scenario) -> Result<(), Stop> {
    let needed: BTreeSet<Feature> = scenario.ops().iter().filter_map(|op| op.needs()).collect();
    needed.into_iter().try_for_each(|feature| cx.with(feature))?;
    cx.show(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const SHAPE: &str =
        "2 breakpoints, 4 watchpoints, 1 context-aware, DebugVer 0x9, DoubleLock not implemented";

    fn read_as(bytes: &[u8], case: Option<&str>) -> Result<Found, String> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("written");
        read(file.path().to_str().expect("a name"), case).map_err(|error| error.to_string())
    }

    fn of(bytes: &[u8]) -> Result<Scenario, String> {
        read_as(bytes, None).map(|found| found.scenario)
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
        assert!(of(&[b' '; (32 << 20) + 1]).is_err_and(|error| error.contains("longer than")));
        assert!(read("/no/such/file", None).is_err_and(|error| error.to_string().contains("/no/such/file")));
        let text = format!("# in a VM of {SHAPE}:\n#   0  isb\n#   1  nop\n#   operation 1: no event\n");
        assert!(of(text.as_bytes()).is_err_and(|error| error.contains(", line 3: `nop`")));
    }

    #[test]
    fn the_example_in_the_readme_is_replayed_in_its_shape() {
        let readme = include_str!("../../README.md");
        let case = "shapes.linked_context.breakpoint.fires_in_its_context";
        let found =
            read_as(readme.replace("not ok N", "not ok 7").as_bytes(), Some(case)).expect("a scenario");
        assert_eq!(found.shape.expect("a shape").to_string(), SHAPE);
        assert_eq!(
            (found.scenario.ops().len(), found.id_aa64dfr0(0xf0_1030_5009)),
            (9, Some(0xf0_0030_1009))
        );
        assert_eq!(found.id_aa64dfr0(0xf0_0030_1009), None, "such a host has the shape");
        let other = "shapes.register_access.beyond_breakpoints";
        let none = read_as(readme.replace("not ok N", "not ok 7").as_bytes(), Some(other));
        assert!(none.is_err_and(|error| error.contains("there is no scenario of shapes.register_access")));
    }

    #[test]
    fn each_failure_that_is_printed_names_a_command_that_reads_it_back() {
        let case = results::tests::failed_in(SHAPE, &["isb", "exec brk"]);
        let printed = format!("{}not ok 3 {}\n", case.explained(), case.name);
        let command = "replay its first scenario: dfr0 replay FILE s.b\n";
        assert!(
            printed.contains("run the case again: dfr0 run s.b\n") && printed.contains(command),
            "{printed}"
        );
        let found =
            read_as(format!("ok 2 s.a\n{printed}ok 4 s.c\n").as_bytes(), Some("s.b")).expect("a scenario");
        assert_eq!(found.scenario, Scenario::new().brk());
        assert_eq!(Some(&found), first(&case).as_ref());
        let nested: String = printed.lines().map(|line| format!("  # {line}\n")).collect();
        assert_eq!(read_as(nested.as_bytes(), None), Ok(found));
        assert!(
            read_as(printed.as_bytes(), Some("s.x")).is_err_and(|error| error.contains("no result of s.x"))
        );
    }

    #[test]
    fn what_explain_prints_is_replayed() {
        let vm = format!("    in a VM of {SHAPE}:\n");
        let text = format!(
            "s.b\n{vm}       0  isb\n            allowed: nothing\n       1  exec brk\n            allowed: nothing\n            or:      nothing\n{vm}       0  isb\n  known deviation n\n"
        );
        assert_eq!(of(text.as_bytes()), Ok(Scenario::new().brk()));
        let left_out = format!("{vm}   0  isb\n       …\n  99  exec brk\n");
        assert!(of(left_out.as_bytes()).is_err_and(|error| error.contains("left out")));
    }

    #[test]
    fn results_are_replayed_too() {
        let mut run = results::tests::run();
        run.cases[1] = results::tests::failed_in(SHAPE, &["isb", "exec brk"]);
        let mut lines = results::Lines(Vec::new());
        run.records().try_for_each(|record| results::Writer::write(&mut lines, &record)).expect("a vector");
        for case in [None, Some("s.b")] {
            let found = read_as(&lines.0, case).expect("a scenario");
            assert_eq!(found.scenario, Scenario::new().brk());
        }
        assert!(read_as(&lines.0, Some("s.a")).is_err_and(|error| error.contains("no scenario of s.a")));
        assert!(read_as(&lines.0, Some("s.x")).is_err_and(|error| error.contains("no result of s.x")));
        assert!(read_as(b"{\n", None).is_err_and(|error| error.contains("not results of dfr0")));
    }

    #[test]
    fn a_shape_is_parsed_as_it_is_printed_or_not_at_all() {
        assert_eq!(shape(SHAPE).map(|shape| shape.to_string()).as_deref(), Some(SHAPE));
        for wrong in [
            "",
            "6 breakpoints",
            &SHAPE.replace('2', "17"),
            &SHAPE.replace("0x9", "0x10"),
            &format!("{SHAPE}, x"),
        ] {
            assert_eq!(shape(wrong), None, "{wrong}");
        }
    }
}
