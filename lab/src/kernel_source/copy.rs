// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The copy of a tree, from which its kernel is built. A file is written only if its contents differ, and gets the present
//! time, so that make finds what it must compile again; also where the tree went back to an older file.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::changes::Changes;
use super::tree::{Files, Kind, Tree};
use crate::interrupt::Signals;

/// The copy of a tree.
#[derive(Debug)]
pub struct Copy<'a> {
    /// The tree.
    pub tree: &'a Tree,
    /// What is changed on top of it.
    pub changes: &'a Changes,
    /// The directory of the copy.
    pub directory: &'a Path,
}

impl Copy<'_> {
    /// The files in which the copy, as it is, differs from what is wanted.
    pub fn outdated(copied: &Files, wanted: &Files) -> Vec<String> {
        let written = wanted.iter().filter(|(path, content)| copied.get(*path) != Some(content));
        let removed = copied.keys().filter(|path| !wanted.contains_key(*path));
        removed.chain(written.map(|(path, _)| path)).cloned().collect()
    }

    /// Removes these files, or writes them, as they are wanted.
    pub fn update(&self, paths: &[String], wanted: &Files, signals: &Signals) -> Result<()> {
        let failed = |path: &String| format!("cannot write {}", self.directory.join(path).display());
        let (written, removed): (Vec<_>, Vec<_>) = paths.iter().partition(|path| wanted.contains_key(*path));
        // A directory of what is removed may be a file or a link in the end.
        for path in removed {
            if self.has_directory_of(path) {
                remove(&self.directory.join(path)).with_context(|| failed(path))?;
            }
        }
        let mut made = PathBuf::new();
        for path in written {
            signals.check()?;
            let place = self.directory.join(path);
            let directory = place.parent().unwrap_or(self.directory);
            if made != directory {
                self.make_directory(directory).with_context(|| failed(path))?;
                made = directory.to_owned();
            }
            self.write(path, &place, wanted[path].kind).with_context(|| failed(path))?;
        }
        Ok(())
    }

    fn write(&self, path: &str, place: &Path, kind: Kind) -> io::Result<()> {
        remove(place)?;
        let original = self.tree.directory().join(path);
        if kind == Kind::Link {
            return symlink(fs::read_link(original)?, place);
        }
        let mode = if kind == Kind::Program { 0o755 } else { 0o644 };
        let mut new = File::options().write(true).create_new(true).mode(mode).open(place)?;
        match self.changes.0.get(path) {
            Some(Some(change)) => new.write_all(&change.bytes),
            _ => io::copy(&mut File::open(original)?, &mut new).map(drop),
        }
    }

    /// Whether all parents of a file are directories, and not links.
    fn has_directory_of(&self, path: &str) -> bool {
        let parents = Path::new(path).ancestors().skip(1).map(|parent| self.directory.join(parent));
        let is_directory = |parent: PathBuf| fs::symlink_metadata(parent).is_ok_and(|data| data.is_dir());
        parents.into_iter().all(is_directory)
    }

    /// Makes a directory of the copy. What was a link or a file before and is a directory now is replaced.
    fn make_directory(&self, directory: &Path) -> io::Result<()> {
        let inside = directory.strip_prefix(self.directory).unwrap_or(Path::new(""));
        let mut place = PathBuf::from(self.directory);
        for part in inside.components() {
            place.push(part);
            match fs::symlink_metadata(&place) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => {
                    fs::remove_file(&place)?;
                    fs::create_dir(&place)?;
                }
                Err(_) => fs::create_dir(&place)?,
            }
        }
        Ok(())
    }
}

/// Removes a file, a link or a directory, if there is one.
fn remove(place: &Path) -> io::Result<()> {
    match fs::remove_file(place) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::IsADirectory => fs::remove_dir_all(place),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, SystemTime};

    use super::super::changes::Change;
    use super::super::tree::Seen;
    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        /// A tree with a .gitignore as Debian's, which was built in place.
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            for (path, text) in [
                (".gitignore", "*.o\n/include/config/\n/*\n"),
                (".config", "CONFIG_KVM=y\n"),
                ("Kconfig", "a\n"),
                ("Makefile", "all:\n"),
                ("arch/arm64/kvm/Kconfig", "k\n"),
                ("arch/arm64/kvm/debug.c", "one\n"),
                ("arch/arm64/kvm/debug.o", "\0"),
                ("include/config/auto.conf", "\n"),
                ("vmlinux", "\0"),
            ] {
                place.write(path, text);
            }
            symlink("../kvm", place.tree().join("arch/arm64/link")).unwrap();
            fs::create_dir_all(place.0.path().join("copy")).unwrap();
            place
        }

        fn tree(&self) -> PathBuf {
            self.0.path().join("linux")
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.tree().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// Updates the copy, and returns which of its files changed.
        fn update(&self, changes: &Changes, seen: &mut Seen, copied: &mut Files) -> Vec<String> {
            let (signals, scratch) = (Signals::hold().unwrap(), tempfile::tempdir().unwrap());
            let tree = Tree::open(&self.tree()).unwrap();
            let wanted = changes.on(&tree.files(seen, scratch.path(), &signals).unwrap());
            let outdated = Copy::outdated(copied, &wanted);
            let copy = Copy { tree: &tree, changes, directory: &self.0.path().join("copy") };
            copy.update(&outdated, &wanted, &signals).unwrap();
            *copied = wanted;
            outdated
        }
    }

    fn has_git() -> bool {
        super::super::tree::plain_git().arg("--version").output().is_ok()
    }

    #[test]
    fn a_copy_has_the_source_alone_and_only_what_changed_is_written() {
        if !has_git() {
            return;
        }
        let (place, none) = (Place::new(), Changes::default());
        let (mut seen, mut copied) = (Seen::new(), Files::new());
        let first = place.update(&none, &mut seen, &mut copied);
        let source = [
            ".gitignore",
            "Kconfig",
            "Makefile",
            "arch/arm64/kvm/Kconfig",
            "arch/arm64/kvm/debug.c",
            "arch/arm64/link",
        ];
        assert_eq!(first, source);
        assert_eq!(place.update(&none, &mut seen, &mut copied), [""; 0]);

        // Other contents of the same size and an older time.
        place.write("arch/arm64/kvm/debug.c", "two\n");
        let debug = fs::File::open(place.tree().join("arch/arm64/kvm/debug.c")).unwrap();
        debug.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        let before = SystemTime::now() - Duration::from_secs(1);
        assert_eq!(place.update(&none, &mut seen, &mut copied), ["arch/arm64/kvm/debug.c"]);
        let copy = place.0.path().join("copy/arch/arm64/kvm/debug.c");
        assert_eq!(fs::read(&copy).unwrap(), b"two\n");
        assert!(fs::metadata(&copy).unwrap().modified().unwrap() > before, "make compiles it again");

        // A directory becomes a file, and a link a directory.
        fs::remove_dir_all(place.tree().join("arch/arm64/kvm")).unwrap();
        fs::remove_file(place.tree().join("arch/arm64/link")).unwrap();
        place.write("arch/arm64/kvm/Kconfig", "k\n");
        place.write("arch/arm64/link/Kconfig", "k\n");
        let changed = place.update(&none, &mut seen, &mut copied);
        assert_eq!(changed, ["arch/arm64/kvm/debug.c", "arch/arm64/link", "arch/arm64/link/Kconfig"]);
        assert!(place.0.path().join("copy/arch/arm64/link").is_dir());
        assert!(!copy.exists());
    }

    #[test]
    fn a_copy_that_was_interrupted_is_completed() {
        if !has_git() {
            return;
        }
        let (place, none) = (Place::new(), Changes::default());
        let (mut seen, mut copied) = (Seen::new(), Files::new());
        place.update(&none, &mut seen, &mut copied);
        let (gone, half) = ("arch/arm64/kvm/debug.c", "Kconfig");
        let copy = place.0.path().join("copy");
        fs::write(copy.join(half), "").unwrap();
        for path in [gone, half] {
            copied.get_mut(path).unwrap().sha256.clear();
        }
        fs::remove_file(place.tree().join(gone)).unwrap();
        assert_eq!(place.update(&none, &mut seen, &mut copied), [gone, half]);
        assert_eq!(fs::read(copy.join(half)).unwrap(), b"a\n");
        assert!(!copy.join(gone).exists());
    }

    #[test]
    fn changes_are_made_in_the_copy_and_taken_back() {
        if !has_git() {
            return;
        }
        let place = Place::new();
        let (mut seen, mut copied) = (Seen::new(), Files::new());
        place.update(&Changes::default(), &mut seen, &mut copied);
        let change = Change { bytes: b"patched\n".to_vec(), is_program: true };
        let changes = Changes(BTreeMap::from([
            ("arch/arm64/kvm/debug.c".into(), Some(change)),
            ("Kconfig".into(), None),
        ]));
        assert_eq!(place.update(&changes, &mut seen, &mut copied), ["Kconfig", "arch/arm64/kvm/debug.c"]);
        let copy = place.0.path().join("copy");
        let debug = copy.join("arch/arm64/kvm/debug.c");
        assert_eq!(fs::read(&debug).unwrap(), b"patched\n");
        assert_ne!(fs::metadata(&debug).unwrap().permissions().mode() & 0o100, 0);
        assert!(!copy.join("Kconfig").exists());
        assert_eq!(fs::read(place.tree().join("arch/arm64/kvm/debug.c")).unwrap(), b"one\n");
        assert_eq!(place.update(&Changes::default(), &mut seen, &mut copied).len(), 2);
        assert_eq!(fs::read(&debug).unwrap(), b"one\n");
    }
}
