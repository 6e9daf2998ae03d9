// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What is changed on top of a tree.

use std::collections::BTreeMap;

use super::tree::{Content, Files, Kind};
use crate::digest::sha256;

/// A file as it is after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// All that it contains.
    pub bytes: Vec<u8>,
    /// Whether it may be executed.
    pub is_program: bool,
}

/// The files that are changed, by their paths in the tree; `None` for a file that is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(pub BTreeMap<String, Option<Change>>);

impl Changes {
    /// The files of a tree after the changes.
    pub(super) fn on(&self, files: &Files) -> Files {
        let mut files = files.clone();
        for (path, change) in &self.0 {
            match change {
                Some(change) => files.insert(path.clone(), change.content()),
                None => files.remove(path),
            };
        }
        files
    }
}

impl Change {
    fn content(&self) -> Content {
        let kind = if self.is_program { Kind::Program } else { Kind::Text };
        Content { kind, sha256: sha256(&self.bytes[..]).expect("memory can be read") }
    }
}
