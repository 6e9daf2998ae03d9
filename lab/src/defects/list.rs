// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! defects.toml: the defects as data. The whole file is checked before any defect is used. It has parts of the kernel's source,
//! so it is no part of `lab`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::digest::sha256;
use crate::kernel_source::{Change, Changes, Tree};

/// An upper limit of the file in bytes.
const LARGEST: u64 = 4 << 20;

/// A defect of KVM: one change of a kernel tree.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defect {
    /// Its name: lower-case letters, digits and hyphens.
    pub name: String,
    /// What is broken, in a sentence.
    pub breaks: String,
    /// The file that is changed, by its path in the tree.
    pub file: String,
    /// The text that is replaced. The file contains it once.
    pub find: String,
    /// What replaces it.
    pub replace: String,
    /// The patterns of the cases that can see it.
    pub cases: Vec<String>,
    /// The host on which it can show itself; the default host, if there is none.
    pub host: Option<String>,
    /// The commit or report that it stands for.
    pub real: Option<String>,
    /// Why nobody can see it, if that is so.
    pub survives: Option<String>,
}

/// All defects of a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The defects, in the file's order.
    #[serde(rename = "defect")]
    pub defects: Vec<Defect>,
}

impl List {
    /// The defects in a file.
    pub fn load(path: &Path) -> Result<Self> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text));
        read.with_context(|| format!("cannot read {}", path.display()))?;
        if text.len() as u64 > LARGEST {
            bail!("{} has more than {LARGEST} bytes", path.display());
        }
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let list: Self = toml::from_str(text)?;
        let mut names = BTreeSet::new();
        for defect in &list.defects {
            defect.check().with_context(|| format!("the defect `{}`", defect.name))?;
            if !names.insert(&defect.name) {
                bail!("the defect `{}` is there twice", defect.name);
            }
        }
        Ok(list)
    }

    /// Those with these names, or all of them if there are none.
    pub fn several(&self, names: &[String]) -> Result<Vec<&Defect>> {
        if let Some(name) = names.iter().find(|name| self.defects.iter().all(|defect| defect.name != **name))
        {
            bail!("there is no defect `{name}`");
        }
        Ok(self.defects.iter().filter(|defect| names.is_empty() || names.contains(&defect.name)).collect())
    }
}

impl Defect {
    fn check(&self) -> Result<()> {
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        if self.name.is_empty() || self.name.len() > 60 || !self.name.chars().all(plain) {
            bail!("its name must have lower-case letters, digits and hyphens");
        }
        for (what, text) in [("breaks", &self.breaks), ("find", &self.find), ("file", &self.file)] {
            if text.trim().is_empty() {
                bail!("`{what}` is empty");
            }
        }
        let one_line = [Some(&self.breaks), self.real.as_ref(), self.survives.as_ref()];
        if one_line.into_iter().flatten().any(|text| text.contains(char::is_control)) {
            bail!("`breaks`, `real` and `survives` are one line each");
        }
        if self.find == self.replace {
            bail!("`find` and `replace` are the same");
        }
        if self.cases.is_empty() {
            bail!("`cases` names no pattern");
        }
        if !Path::new(&self.file).components().all(|part| matches!(part, Component::Normal(_))) {
            bail!("{} is not a path in a tree", self.file);
        }
        Ok(())
    }

    /// The digest of what is changed, of the cases, and of the host.
    pub fn digest(&self) -> Result<String> {
        let Self { file, find, replace, cases, host, .. } = self;
        Ok(sha256(format!("{:?}", (file, find, replace, cases, host)).as_bytes())?)
    }

    /// The change of `tree` that makes the defect.
    pub fn changes(&self, tree: &Tree) -> Result<Changes> {
        let path = tree.directory().join(&self.file);
        let failed = || format!("the defect `{}`: cannot read {}", self.name, path.display());
        let real = path.canonicalize().with_context(failed)?;
        if !real.starts_with(tree.directory()) {
            bail!("the defect `{}`: {} is a link out of the tree", self.name, path.display());
        }
        let text = fs::read_to_string(&real).with_context(failed)?;
        let bytes = self.applied(&text)?.into_bytes();
        Ok(Changes([(self.file.clone(), Some(Change { bytes, is_program: false }))].into()))
    }

    /// The text of the file with the defect.
    fn applied(&self, text: &str) -> Result<String> {
        match text.matches(&self.find).count() {
            1 => Ok(text.replacen(&self.find, &self.replace, 1)),
            count => bail!(
                "the defect `{}` does not apply to this source: {} has the text that it replaces {count} times, not once",
                self.name,
                self.file
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[[defect]]\nname = \"a-1\"\nbreaks = \"It.\"\nfile = \"a/b.c\"\nfind = 'x = 1'\nreplace = 'x = 2'\n\
                       cases = ['os_lock']\n";

    #[test]
    fn the_file_of_this_repository_is_right() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/defects.toml");
        assert!(List::load(&path).unwrap().defects.len() > 100);
    }

    #[test]
    fn a_defect_applies_once() {
        let list = List::parse(ONE).unwrap();
        let [defect] = &list.defects[..] else { panic!("{list:?}") };
        assert_eq!(defect.applied("if (x = 1) y = 1;").unwrap(), "if (x = 2) y = 1;");
        for text in ["", "x = 1; x = 1;"] {
            let error = defect.applied(text).unwrap_err().to_string();
            assert!(error.contains("`a-1` does not apply to this source: a/b.c"), "{error}");
        }
    }

    #[test]
    fn another_change_and_other_cases_have_another_digest_and_another_sentence_has_not() {
        let digest = |from: &str, to: &str| {
            let list = List::parse(&ONE.replacen(from, to, 1)).unwrap();
            list.defects[0].digest().unwrap()
        };
        let same = digest("", "");
        assert_eq!(digest("It.", "It is."), same);
        for (from, to) in
            [("x = 2", "x = 3"), ("x = 1", "x = 0"), ("b.c", "c.c"), ("'os_lock'", "'os_lock.*'")]
        {
            assert_ne!(digest(from, to), same, "{to}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, named) in [
            ("a-1", "A 1", "its name"),
            ("'os_lock'", "", "`cases`"),
            ("a/b.c", "../b.c", "is not a path in a tree"),
            ("a/b.c", "/b.c", "is not a path in a tree"),
            ("x = 2", "x = 1", "the same"),
            ("It.", "It\\nis.", "one line"),
            ("breaks", "brakes", "brakes"),
        ] {
            let error = format!("{:#}", List::parse(&ONE.replacen(from, to, 1)).unwrap_err());
            assert!(error.contains(named), "{error}");
        }
        let twice = format!("{ONE}{ONE}");
        assert!(List::parse(&twice).unwrap_err().to_string().contains("twice"));
    }

    #[test]
    fn defects_are_chosen_by_their_names() {
        let list = List::parse(&format!("{ONE}{}", ONE.replace("a-1", "b"))).unwrap();
        let names = |chosen: &[&str]| -> Result<Vec<&str>> {
            let chosen: Vec<String> = chosen.iter().map(|&name| name.into()).collect();
            Ok(list.several(&chosen)?.into_iter().map(|defect| &*defect.name).collect())
        };
        assert_eq!(names(&[]).unwrap(), ["a-1", "b"]);
        assert_eq!(names(&["b"]).unwrap(), ["b"]);
        assert_eq!(names(&["c"]).unwrap_err().to_string(), "there is no defect `c`");
    }
}
