// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Patches as changes of a tree: files of patches, mailboxes as `b4 am` writes them, and ranges of commits.
//!
//! They are applied to copies of the files that they name, in a directory of their own. So either all of them apply or
//! nothing has changed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::changes::{Change, Changes};
use super::tree::{Tree, plain_git};
use crate::interrupt::Signals;
use crate::protocol::printable;
use crate::tools::run;

/// The upper limit of a file of patches, in bytes.
const LARGEST: u64 = 64 << 20;

/// One patch.
#[derive(Debug)]
struct Patch {
    /// Its file, and which one of the file it is.
    name: String,
    /// The patch alone.
    file: PathBuf,
}

/// What the patches in `named` change in `tree`. Each is a file, or a range of commits (`A..B`) of the tree or of another
/// repository (`path/to/linux:A..B`).
pub fn changes_of(named: &[String], tree: &Tree, scratch: &Path, signals: &Signals) -> Result<Changes> {
    let mut patches = Vec::new();
    for (number, name) in named.iter().enumerate() {
        let directory = scratch.join(format!("patches-{number}"));
        fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let of_one = read(name, tree, &directory, signals).with_context(|| format!("cannot read {name}"))?;
        if of_one.is_empty() {
            bail!("{name} contains no patch (a diff with lines that start with `---` and `+++`)");
        }
        patches.extend(of_one);
    }
    Applied::new(tree, &scratch.join("files"))?.all(&patches, signals)
}

/// The patches of a file or of a range.
fn read(name: &str, tree: &Tree, directory: &Path, signals: &Signals) -> Result<Vec<Patch>> {
    let path = Path::new(name);
    let whole = directory.join("whole");
    let shown = match path.file_name() {
        Some(file) if path.exists() => {
            if !path.is_file() {
                bail!("it is not a file");
            }
            let mut bytes = Vec::new();
            File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > LARGEST {
                bail!("it is longer than {} MB", LARGEST >> 20);
            }
            fs::write(&whole, bytes)?;
            file.to_string_lossy().into_owned()
        }
        _ => {
            let Some((repository, range)) = range(name) else { bail!("there is no such file") };
            let of_range = mails_of(repository, range, tree, signals)?;
            fs::write(&whole, of_range)?;
            range.to_owned()
        }
    };
    let bytes = fs::read(&whole)?;
    let text = String::from_utf8_lossy(&bytes);
    if !is_mail(&text) {
        return Ok(if has_diff(&text) { vec![Patch { name: shown, file: whole }] } else { Vec::new() });
    }
    let mails = directory.join("mails");
    fs::create_dir(&mails)?;
    let mut split = plain_git();
    split.current_dir(directory).args(["mailsplit", "-b"]).arg(format!("-o{}", mails.display())).arg(&whole);
    run(&mut split, signals)?;
    let mut files = fs::read_dir(&mails)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    let mut patches = Vec::new();
    for mail in files {
        let (message, file) = (mail.with_extension("message"), mail.with_extension("patch"));
        let mut info = plain_git();
        info.current_dir(directory).arg("mailinfo").args([&message, &file]).stdin(File::open(&mail)?);
        let headers = run(&mut info, signals)?;
        if has_diff(&String::from_utf8_lossy(&fs::read(&file)?)) {
            let subject =
                headers.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or("no subject");
            let subject = printable(subject.as_bytes());
            patches.push(Patch { name: format!("{shown}, \"{subject}\""), file });
        }
    }
    Ok(patches)
}

/// The repository, if one is named, and the range of commits in `A..B` or `path/to/linux:A..B`.
fn range(name: &str) -> Option<(Option<&str>, &str)> {
    let (repository, range) = match name.rsplit_once(':') {
        Some((repository, range)) => (Some(repository), range),
        None => (None, name),
    };
    let (first, last) = range.split_once("..")?;
    // Such a word would be an option, and three dots mean something else.
    (!first.starts_with('-') && !first.is_empty() && !last.starts_with('.')).then_some((repository, range))
}

/// The commits of a range as a mailbox.
fn mails_of(repository: Option<&str>, range: &str, tree: &Tree, signals: &Signals) -> Result<String> {
    let directory = repository.map_or_else(|| tree.directory(), Path::new);
    let git = |arguments: &[&str]| {
        let mut git = tree.git();
        git.current_dir(directory).args(arguments).arg(range).arg("--");
        run(&mut git, signals)
    };
    let merges = git(&["rev-list", "--merges", "--count"])?;
    if merges.trim() != "0" {
        bail!("it contains {} merges, which are not patches", merges.trim());
    }
    git(&[
        "format-patch",
        "--stdout",
        "--no-signature",
        "--no-cover-letter",
        "--no-attach",
        "--no-ext-diff",
        "--no-color",
        "--full-index",
        "--binary",
        "--src-prefix=a/",
        "--dst-prefix=b/",
    ])
}

/// Whether this is a mail or a mailbox and not only a patch.
fn is_mail(text: &str) -> bool {
    text.lines().take_while(|line| !starts_diff(line)).any(|line| line.starts_with("Subject: "))
}

fn has_diff(text: &str) -> bool {
    text.lines().any(starts_diff)
}

fn starts_diff(line: &str) -> bool {
    line.starts_with("diff --git ") || line.starts_with("--- a/") || line.starts_with("--- /dev/null")
}

/// A directory with the files that patches name, in which they are applied.
struct Applied<'a> {
    tree: &'a Tree,
    directory: &'a Path,
    touched: BTreeSet<String>,
}

impl<'a> Applied<'a> {
    fn new(tree: &'a Tree, directory: &'a Path) -> Result<Self> {
        fs::create_dir(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self { tree, directory, touched: BTreeSet::new() })
    }

    fn all(mut self, patches: &[Patch], signals: &Signals) -> Result<Changes> {
        for patch in patches {
            self.apply(patch, signals).with_context(|| format!("cannot apply {}", patch.name))?;
        }
        let changes = self.touched.iter().map(|path| {
            let place = self.directory.join(path);
            let change = match fs::symlink_metadata(&place) {
                Ok(metadata) => {
                    let is_program = metadata.permissions().mode() & 0o100 != 0;
                    let bytes =
                        fs::read(&place).with_context(|| format!("cannot read {}", place.display()))?;
                    Some(Change { bytes, is_program })
                }
                Err(_) => None,
            };
            Ok((path.clone(), change))
        });
        Ok(Changes(changes.collect::<Result<_>>()?))
    }

    fn apply(&mut self, patch: &Patch, signals: &Signals) -> Result<()> {
        let git = |option: &[&str]| {
            let mut git = plain_git();
            git.current_dir(self.directory).env("GIT_CEILING_DIRECTORIES", self.directory);
            git.args(["apply", "--whitespace=nowarn"]).args(option).arg(&patch.file);
            run(&mut git, signals)
        };
        let paths = paths(&git(&["--numstat", "-z"])?, &String::from_utf8_lossy(&fs::read(&patch.file)?));
        for path in &paths {
            check(path)?;
            if !self.touched.contains(path) {
                self.bring(path)?;
            }
        }
        git(&["--verbose"])
            .with_context(|| format!("it does not fit {}", self.tree.directory().display()))?;
        for path in &paths {
            if fs::symlink_metadata(self.directory.join(path)).is_ok_and(|metadata| metadata.is_symlink()) {
                bail!("it makes {path} a symbolic link, and patches with links are refused");
            }
        }
        self.touched.extend(paths);
        Ok(())
    }

    /// Copies a file of the tree, if there is one.
    fn bring(&self, path: &str) -> Result<()> {
        let mut place = self.tree.directory().to_owned();
        for part in Path::new(path).components() {
            place.push(part);
            match fs::symlink_metadata(&place) {
                Ok(metadata) if metadata.is_symlink() => {
                    bail!("it changes {path}, which is a symbolic link in the tree, or below one");
                }
                Ok(_) => {}
                Err(_) => return Ok(()),
            }
        }
        let copy = self.directory.join(path);
        let directory = copy.parent().unwrap_or(self.directory);
        fs::create_dir_all(directory)
            .and_then(|()| fs::copy(&place, &copy))
            .with_context(|| format!("cannot copy {}", place.display()))?;
        Ok(())
    }
}

/// The paths that a patch names: what `git apply --numstat -z` printed of it, and the sources of its renames and copies.
fn paths(numstat: &str, patch: &str) -> Vec<String> {
    let changed = numstat.split('\0').filter_map(|line| line.splitn(3, '\t').nth(2));
    let renamed = patch
        .lines()
        .filter_map(|line| line.strip_prefix("rename from ").or_else(|| line.strip_prefix("copy from ")));
    changed.chain(renamed).map(ToOwned::to_owned).collect()
}

/// Checks that a path is one inside a tree.
fn check(path: &str) -> Result<()> {
    let parts: Vec<_> = Path::new(path).components().collect();
    let is_inside = parts.iter().all(|part| matches!(part, Component::Normal(name) if *name != ".git"));
    if parts.is_empty() || !is_inside || path.contains('\\') {
        bail!("it changes {path:?}, which is not a file of a kernel tree");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: [(&str, &str); 5] = [
        ("up", "--- a/../outside\n+++ b/../outside\n@@ -0,0 +1 @@\n+x\n"),
        (
            "absolute",
            "diff --git a//etc/x b//etc/x\nnew file mode 100644\n--- /dev/null\n+++ b//etc/x\n@@ -0,0 +1 @@\n+x\n",
        ),
        (
            "git",
            "diff --git a/.git/hooks/x b/.git/hooks/x\nnew file mode 100755\n--- /dev/null\n+++ b/.git/hooks/x\n@@ -0,0 +1 @@\n+x\n",
        ),
        (
            "link",
            "diff --git a/link b/link\nnew file mode 120000\n--- /dev/null\n+++ b/link\n@@ -0,0 +1 @@\n+/etc/passwd\n\\ No newline at end of file\n",
        ),
        ("through", "--- a/out/x\n+++ b/out/x\n@@ -0,0 +1 @@\n+x\n"),
    ];

    /// Lab hosts have no git.
    fn has_git() -> bool {
        plain_git().arg("--version").output().is_ok()
    }

    fn kernel_tree(directory: &Path) -> Tree {
        for (path, text) in [
            ("Kconfig", "a\n"),
            ("Makefile", "all:\n"),
            ("arch/arm64/kvm/Kconfig", "k\n"),
            ("old", "1\n2\n3\n"),
        ] {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        std::os::unix::fs::symlink("/tmp", directory.join("out")).unwrap();
        Tree::open(directory).unwrap()
    }

    fn applied(patch: &str) -> Result<Changes> {
        let directory = tempfile::tempdir().unwrap();
        let (tree, scratch) = (directory.path().join("linux"), directory.path().join("scratch"));
        fs::create_dir(&tree).unwrap();
        fs::create_dir(&scratch).unwrap();
        let file = directory.path().join("a.patch");
        fs::write(&file, patch).unwrap();
        let signals = Signals::hold().unwrap();
        let changes = changes_of(&[file.display().to_string()], &kernel_tree(&tree), &scratch, &signals);
        assert_eq!(fs::read(tree.join("old")).unwrap(), b"1\n2\n3\n", "the tree is as it was");
        assert!(!directory.path().join("outside").exists());
        changes
    }

    #[test]
    fn a_patch_becomes_the_contents_of_files() {
        if !has_git() {
            return;
        }
        let changes = applied(
            "diff --git a/old b/new\nsimilarity index 60%\nrename from old\nrename to new\n--- a/old\n+++ b/new\n\
             @@ -1,3 +1,3 @@\n 1\n-2\n+two\n 3\n",
        )
        .unwrap();
        let new = Change { bytes: b"1\ntwo\n3\n".to_vec(), is_program: false };
        assert_eq!(
            changes.0.into_iter().collect::<Vec<_>>(),
            [("new".into(), Some(new)), ("old".into(), None)]
        );
    }

    #[test]
    fn a_mailbox_is_applied_in_order_and_a_failure_names_the_mail_the_file_and_the_line() {
        if !has_git() {
            return;
        }
        let mail = |subject: &str, diff: &str| {
            format!(
                "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nFrom: A <a@b>\n\
                 Subject: [PATCH] {subject}\n\nWhy.\n---\n{diff}\n"
            )
        };
        let first = "diff --git a/old b/old\n--- a/old\n+++ b/old\n@@ -1,3 +1,3 @@\n 1\n-2\n+two\n 3\n";
        let second = "diff --git a/old b/old\n--- a/old\n+++ b/old\n@@ -1,3 +1,3 @@\n 1\n-two\n+zwei\n 3\n";
        let cover = mail("what it is", "");
        let changes = applied(&[cover, mail("one", first), mail("two", second)].concat()).unwrap();
        assert_eq!(changes.0["old"].as_ref().unwrap().bytes, b"1\nzwei\n3\n");

        let error =
            format!("{:#}", applied(&[mail("one", first), mail("twice", first)].concat()).unwrap_err());
        for part in ["a.patch, \"twice\"", "patch failed: old:1", "while searching for:"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = applied("no diff").unwrap_err().to_string();
        assert!(error.contains("contains no patch"), "{error}");
    }

    #[test]
    fn a_patch_that_leaves_the_tree_is_refused() {
        if !has_git() {
            return;
        }
        for (name, patch) in HOSTILE {
            let error = format!("{:#}", applied(patch).expect_err(name));
            assert!(error.contains("cannot apply a.patch"), "{name}: {error}");
        }
    }

    #[test]
    fn a_path_outside_of_a_tree_is_no_file_of_it() {
        for path in ["../x", "/etc/x", "a/../../x", "", ".", ".git/config", "a/.git/x", "a\\b"] {
            assert!(check(path).is_err(), "{path}");
        }
        for path in ["Makefile", "arch/arm64/kvm/debug.c", ".gitignore"] {
            check(path).unwrap();
        }
    }

    #[test]
    fn ranges_are_recognised() {
        assert_eq!(range("v7.3..topic"), Some((None, "v7.3..topic")));
        assert_eq!(range("~/linux:origin/master..x"), Some((Some("~/linux"), "origin/master..x")));
        assert_eq!(range("v7.3.."), Some((None, "v7.3..")));
        for other in ["series.mbox", "../series.mbox", "--output=x..y", "a...b"] {
            assert_eq!(range(other), None, "{other}");
        }
    }
}
