// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Kernels that are not built yet: a tree, what is changed on top of it, and the image that both make.
//!
//! A [`Tree`] is only read. Each has a folder in the cache, with a copy of its files, the objects that were built of the
//! copy, and the newest images:
//!
//! ```text
//! builds/NAME-KEY/   NAME is that of the tree's folder, KEY comes from its path
//!   files.json       what the tree's files contained, and what the copy contains
//!   source/          the copy, with the changes
//!   objects/         what `make O=` wrote
//!   build.log        what it printed
//!   images/DIGEST    an image, by the digest of all that it was made of
//! ```
//!
//! A build changes only those files of the copy whose contents differ, so that make compiles only what depends on them. That
//! is also true of changes that are taken back.

mod build;
mod changes;
mod copy;
mod patches;
mod tree;

pub use build::build;
pub use changes::{Change, Changes};
pub use patches::changes_of;
pub use tree::Tree;
