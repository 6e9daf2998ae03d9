// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Reads results. They come from outside, so nothing in them is trusted.

use super::{Begin, Case, End, FORMAT, Record, Totals, Unavailable, VERSION};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
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
    /// No case could run.
    Unavailable(Unavailable),
}

/// A whole run.
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
        begin.chain(self.cases.iter().cloned().map(Record::Case)).chain([Record::End(self.end)])
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
    #[error("the run did not end: there are {are} of {planned} results, the last of {last}")]
    Unfinished {
        /// How many results there are.
        are: usize,
        /// How many there should be.
        planned: usize,
        /// The last case, in words.
        last: String,
    },
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
    let mut cases: Vec<Case> = Vec::new();
    let mut names = BTreeSet::new();
    while let Some(line) = lines.next()? {
        match lines.record(&line)? {
            Record::Case(case) => {
                if !is_name(&case.name) {
                    return Err(lines.wrong(format!("{:?} is not the name of a case", case.name)));
                }
                if !names.insert(case.name.clone()) {
                    return Err(lines.wrong(format!("a second result of {}", case.name)));
                }
                cases.push(case);
            }
            Record::End(end) => {
                if lines.next()?.is_some() {
                    return Err(lines.wrong("there is a line after the end"));
                }
                let run = Run { begin, cases, end };
                run.check()?;
                return Ok(Results::Run(run));
            }
            Record::Begin(_) | Record::Unavailable(_) => {
                return Err(lines.wrong("a second beginning"));
            }
        }
    }
    let last = cases.last().map_or("none".into(), |case| case.name.clone());
    Err(Problem::Unfinished { are: cases.len(), planned: begin.cases, last })
}

/// Whether a name has only dots, letters, digits and underscores, so that no writer has to quote it.
fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
    };
    name.split('.').all(part)
}

impl Run {
    fn check(&self) -> Result<(), Problem> {
        let mut totals = Totals::default();
        self.cases.iter().for_each(|case| totals.count(case.outcome));
        let checks = self.cases.iter().fold(0usize, |sum, case| sum.saturating_add(case.checks));
        let problem = if self.cases.len() != self.begin.cases {
            format!("{} results of {} planned cases", self.cases.len(), self.begin.cases)
        } else if totals != self.end.totals {
            "the totals are not those of the results".into()
        } else if checks != self.end.checks {
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
