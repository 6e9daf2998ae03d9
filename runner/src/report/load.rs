// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Where cells come from: files of results, and folders.

use super::{Cell, cell::distinguish, matrix};
use crate::{
    bounded, certificate,
    results::{self, Results},
};
use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// The end of the name of a file of results in a folder.
const EXTENSION: &str = "jsonl";
/// The upper limit of a file, in bytes; anything longer is rejected.
const LONGEST: u64 = 32 << 20;

/// A path from which no report can be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {message}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A folder does not contain results.
    #[error(
        "{} has neither {} nor a file *.{EXTENSION}: it is not a folder of `lab matrix` or of results", .0.display(),
        matrix::FILE
    )]
    Empty(PathBuf),
}

/// The cells at these paths: one for a file of results or a certificate, those of the plan for the folder of a matrix, and one
/// for each file `*.jsonl` for any other folder.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Cell>, Error> {
    let mut cells = Vec::new();
    for path in paths {
        if !path.is_dir() {
            cells.push(file(path)?);
        } else if path.join(matrix::FILE).exists() {
            cells.extend(matrix::load(path)?);
        } else {
            for file_in in files(path)? {
                cells.push(file(&file_in)?);
            }
        }
    }
    distinguish(&mut cells);
    Ok(cells)
}

fn file(path: &Path) -> Result<Cell, Error> {
    let name = if path == Path::new("-") {
        "standard input".into()
    } else {
        path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy()
    };
    let silent = |problem: String| Ok(Cell::silent(&name, format!("{}: {problem}", path.display())));
    let bytes = match bounded::load(path, LONGEST) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == bounded::TOO_LONG => return silent(error.to_string()),
        Err(source) => return Err(Error::File { path: path.to_owned(), source }),
    };
    let results = match certificate::is_one(&bytes) {
        true => certificate::run(&bytes).map(Results::Run).map_err(|problem| problem.to_string()),
        false => results::read(bytes.as_slice()).map_err(|problem| problem.to_string()),
    };
    let mut cell = results.map_or_else(silent, |results| Ok(Cell::of_file(&name, results)))?;
    // `lab exec --out` leaves the log beside the results, and a folder may have those of several hosts.
    if path.file_name().is_some_and(|name| name == "results.jsonl") {
        cell.log = log_in(path.parent().unwrap_or(Path::new("")));
    }
    Ok(cell)
}

/// The last lines of the kernel's log in this folder, if it is there.
pub(super) fn log_in(directory: &Path) -> Option<String> {
    const MOST: u64 = 32 << 10;
    let path = directory.join("kernel.log");
    let len = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?.len();
    let mut file = fs::File::open(&path).ok()?;
    file.seek(SeekFrom::Start(len.saturating_sub(MOST))).ok()?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = if len > MOST { text.split_once('\n')?.1 } else { &text };
    (!whole.is_empty()).then(|| whole.to_owned())
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::File { path: directory.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Error::Empty(directory.to_owned()));
    }
    files.sort();
    Ok(files)
}
