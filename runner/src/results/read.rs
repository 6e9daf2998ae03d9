// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Reads results. They come from outside, so nothing in them is trusted.

use super::{Begin, Case, End, FORMAT, Part, Record, Unavailable, VERSION};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// The upper limit of a file of results, in bytes; anything longer is rejected.
const LONGEST: u64 = 32 << 20;
/// The upper limit of a line, in bytes; anything longer is rejected.
const LONGEST_LINE: u64 = 4 << 20;

const MAKE_ONE: &str = "`dfr0 run --results FILE` writes one";

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all are runs")]
pub enum Results {
    /// A run, from its beginning to its end.
    Run(Run),
    /// A run that did not come to its end.
    Part(Part),
    /// No case could run.
    Unavailable(Unavailable),
}

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// What ran, and where.
    pub begin: Begin,
    /// The results, in the order in which the cases ran.
    pub cases: Vec<Case>,
    /// The last record.
    pub end: End,
}

impl Run {
    /// The records of the run.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let begin = std::iter::once(Record::Begin(self.begin.clone()));
        begin.chain(self.cases.iter().cloned().map(Record::Case)).chain([Record::End(self.end.clone())])
    }
}

/// A file that cannot be read, or does not contain results.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file can be read, but does not contain the results of a whole run.
    #[error("{}: {problem}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: Problem,
    },
}

/// What is wrong with results.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// They do not begin like results.
    #[error("these are not results of dfr0; {MAKE_ONE}")]
    Stranger,
    /// They have another version.
    #[error("the results have version {0}; this dfr0 reads version {VERSION}")]
    Version(u32),
    /// They are too long.
    #[error("too long: the upper limit is {LONGEST} bytes, and {LONGEST_LINE} bytes per line")]
    Long,
    /// A line is not a record.
    #[error("line {line}: {message}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The run did not come to its end.
    #[error("{0}")]
    Unfinished(String),
    /// No case could run.
    #[error("no case could run: {0}")]
    Unavailable(String),
    /// The parts contradict each other.
    #[error("{0}")]
    Contradiction(String),
    /// Reading failed.
    #[error("{0}")]
    Read(#[from] io::Error),
}

/// The keys of the first line that identify the format.
#[derive(Deserialize)]
struct Kind {
    format: String,
    version: u32,
}

/// The results in a file; `-` is standard input.
pub fn load(path: &Path) -> Result<Results, Error> {
    if path == Path::new("-") {
        let content = |problem| Error::Content { path: "standard input".into(), problem };
        return read(io::stdin().lock()).map_err(content);
    }
    let failed = |source| Error::File { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(failed)?;
    read(BufReader::new(file)).map_err(|problem| match problem {
        Problem::Read(source) => failed(source),
        problem => Error::Content { path: path.to_owned(), problem },
    })
}

/// The results that `from` holds.
pub fn read(from: impl BufRead) -> Result<Results, Problem> {
    let mut lines = Lines { from: from.take(LONGEST + 1), number: 0, read: 0 };
    let first = lines.next()?.ok_or(Problem::Stranger)?;
    let kind: Kind = serde_json::from_slice(&first).map_err(|_| Problem::Stranger)?;
    if kind.format != FORMAT {
        return Err(Problem::Stranger);
    }
    if kind.version != VERSION {
        return Err(Problem::Version(kind.version));
    }
    let begin = match lines.record(&first)? {
        Record::Begin(begin) => begin,
        Record::Unavailable(unavailable) => {
            return match lines.next()? {
                None => Ok(Results::Unavailable(unavailable)),
                Some(_) => Err(lines.wrong("there is a line after the end")),
            };
        }
        Record::Case(_) | Record::End(_) => return Err(Problem::Stranger),
    };
    if let Some(id) = begin.id.as_ref().filter(|id| !is_id(id)) {
        return Err(lines.wrong(format!("{id:?} is not 32 hexadecimal digits")));
    }
    let planned = places(&begin).map_err(|problem| lines.wrong(problem))?;
    let mut run = Run { begin, cases: Vec::new(), end: End::default() };
    let mut names = BTreeSet::new();
    let mut said = None;
    while let Some(line) = lines.next()? {
        let record = match lines.record(&line) {
            // A host that dies may leave the start of a line.
            Err(_) if !line.ends_with(b"\n") => break,
            record => record?,
        };
        match record {
            Record::Case(case) => {
                if !is_name(&case.name) {
                    return Err(lines.wrong(format!("{:?} is not the name of a case", case.name)));
                }
                if !planned.is_empty() && !planned.contains_key(&case.name) {
                    return Err(lines.wrong(format!("{} was not planned", case.name)));
                }
                if !names.insert(case.name.clone()) {
                    return Err(lines.wrong(format!("a second result of {}", case.name)));
                }
                run.end.count(&case);
                run.cases.push(case);
            }
            Record::End(end) => {
                if lines.next()?.is_some() {
                    return Err(lines.wrong("there is a line after the end"));
                }
                said = Some(end);
            }
            Record::Begin(_) | Record::Unavailable(_) => {
                return Err(lines.wrong("a second beginning"));
            }
        }
    }
    run.check(said.as_ref())?;
    let last = run.cases.last().map(|case| case.name.clone());
    // A case is written when it ends, whatever its place.
    run.cases.sort_by_key(|case| planned.get(&case.name));
    let is_whole = said.as_ref().is_some_and(|end| end.stopped.is_none());
    run.end.stopped = said.and_then(|end| end.stopped);
    Ok(if is_whole { Results::Run(run) } else { Results::Part(Part { run, last }) })
}

/// Whether this may be what distinguishes a run from others.
fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|letter| letter.is_ascii_hexdigit())
}

/// The place of each case that was planned.
fn places(begin: &Begin) -> Result<BTreeMap<String, usize>, String> {
    let mut places = BTreeMap::new();
    for (place, name) in begin.plan.iter().enumerate() {
        if !is_name(name) {
            return Err(format!("{name:?} is not the name of a case"));
        }
        if places.insert(name.clone(), place).is_some() {
            return Err(format!("{name} is planned twice"));
        }
    }
    match places.len() {
        0 => Ok(places),
        planned if planned == begin.cases => Ok(places),
        planned => Err(format!("{planned} names of {} planned cases", begin.cases)),
    }
}

/// Whether a name has only dots, letters, digits and underscores, so that no writer has to quote it.
fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
    };
    name.split('.').all(part)
}

impl Results {
    /// The run, if it came to its end.
    pub fn whole(self) -> Result<Run, Problem> {
        match self {
            Self::Run(run) => Ok(run),
            Self::Part(part) => Err(Problem::Unfinished(part.why())),
            Self::Unavailable(unavailable) => Err(Problem::Unavailable(unavailable.reason)),
        }
    }
}

impl Run {
    /// The planned cases without a result, if the run knows their names.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        let ended: BTreeSet<&str> = self.cases.iter().map(|case| case.name.as_str()).collect();
        self.begin.plan.iter().map(String::as_str).filter(move |name| !ended.contains(name))
    }

    /// Compares what is there with what was planned, and with what the last record says.
    fn check(&self, said: Option<&End>) -> Result<(), Problem> {
        let (are, planned) = (self.cases.len(), self.begin.cases);
        let is_whole = said.is_some_and(|end| end.stopped.is_none());
        let problem = if are > planned || (is_whole && are != planned) {
            format!("{are} results of {planned} planned cases")
        } else if said.is_some_and(|end| end.totals != self.end.totals) {
            "the totals are not those of the results".into()
        } else if said.is_some_and(|end| end.checks != self.end.checks) {
            "the number of checks is not that of the results".into()
        } else {
            return Ok(());
        };
        Err(Problem::Contradiction(problem))
    }
}

struct Lines<R> {
    from: io::Take<R>,
    number: usize,
    read: u64,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        let mut line = Vec::new();
        let read = (&mut self.from).take(LONGEST_LINE + 1).read_until(b'\n', &mut line)? as u64;
        self.read += read;
        self.number += 1;
        if read > LONGEST_LINE || self.read > LONGEST {
            return Err(Problem::Long);
        }
        Ok((read > 0).then_some(line))
    }

    fn record(&self, line: &[u8]) -> Result<Record, Problem> {
        serde_json::from_slice(line).map_err(|error| self.wrong(error.to_string()))
    }

    fn wrong(&self, message: impl Into<String>) -> Problem {
        Problem::Line { line: self.number, message: message.into() }
    }
}
