// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The kernels of a matrix. Each image is one kernel, even if it was requested under several names.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::digest;
use crate::kernel::{Choice, Identity, Image};

/// A kernel in matrix.json.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Its name in cells, which can be part of a file name: that of a suite, or the file name of an image and the start of
    /// its digest.
    pub name: String,
    /// The names under which it was requested.
    pub asked_for: Vec<String>,
    /// The image's digest.
    pub sha256: String,
    /// What it was built of, if the lab built it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `uname -r`, once a host has reported it.
    pub release: Option<String>,
}

impl Kernel {
    /// Copies the images to `directory`, because they may change while cells run. The name of a copy is its digest.
    pub fn take(images: &[(Choice, Image)], directory: &Path) -> Result<Vec<Self>> {
        let mut kernels: Vec<Self> = Vec::new();
        for (index, (choice, image)) in images.iter().enumerate() {
            let copy = directory.join(index.to_string());
            let copied = || {
                fs::copy(&image.path, &copy)?;
                let sha256 = digest::sha256(File::open(&copy)?)?;
                fs::rename(&copy, directory.join(&sha256))?;
                Ok::<_, io::Error>(sha256)
            };
            let sha256 = copied().with_context(|| format!("cannot copy {}", image.path.display()))?;
            let asked_for = choice.to_string();
            match kernels.iter_mut().find(|kernel| kernel.sha256 == sha256) {
                Some(kernel) if kernel.asked_for.contains(&asked_for) => {}
                Some(kernel) => kernel.asked_for.push(asked_for),
                None => {
                    let name = name(choice, &sha256);
                    let (asked_for, source) = (vec![asked_for], image.source.clone());
                    kernels.push(Self { name, asked_for, sha256, source, release: None });
                }
            }
        }
        Ok(kernels)
    }

    /// What distinguishes it from other kernels.
    pub fn identity(&self) -> Identity {
        Identity { sha256: self.sha256.clone(), source: self.source.clone() }
    }
}

/// The name of the kernel with this digest, which matrices and pairs use. Different images have different names, and no name
/// needs quoting.
pub fn name(choice: &Choice, sha256: &str) -> String {
    const LONGEST: usize = 40;
    let file = |path: &Path| {
        // `.` has no name of its own.
        let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let path = if path.file_name().is_some() { path } else { &whole };
        path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    };
    let file = match choice {
        Choice::Suite(_) | Choice::Newest => return choice.to_string(),
        Choice::Path(path) => file(path),
        Choice::Changed { base, patches } => {
            let base = if let Choice::Path(path) = &**base { file(path) } else { base.to_string() };
            patches.iter().fold(base, |name, patch| format!("{name}+{}", file(Path::new(patch))))
        }
    };
    let safe =
        |letter: char| if letter.is_ascii_alphanumeric() || "._+-".contains(letter) { letter } else { '_' };
    let file: String = file.chars().map(safe).take(LONGEST).collect();
    format!("{file}-{}", &sha256[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_named_after_its_tree_and_its_patches() {
        let named = |text: &str| name(&text.parse().unwrap(), "0123456789");
        assert_eq!(named("newest,../a.mbox,v7.3..topic"), "newest+a.mbox+v7.3..topic-01234567");
        assert_eq!(named("/src/linux,"), "linux-01234567");
        let here = std::env::current_dir().unwrap();
        assert_eq!(named("./"), format!("{}-01234567", here.file_name().unwrap().to_string_lossy()));
    }

    #[test]
    fn an_image_with_several_names_is_one_kernel() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let image = |name: &str| Image { path: at(name), source: None };
        for (name, bytes) in [("sid", "7.3"), ("newest", "7.3"), ("Image", "own")] {
            fs::write(at(name), bytes).unwrap();
        }
        let choice = |text: &str| text.parse::<Choice>().unwrap();
        let own = Choice::Path(at("Image"));
        let images = [
            (choice("sid"), image("sid")),
            (own.clone(), image("Image")),
            (choice("newest"), image("newest")),
            (own, image("Image")),
        ];
        let copies = tempfile::tempdir().unwrap();
        let kernels = Kernel::take(&images, copies.path()).unwrap();
        fs::write(at("sid"), "7.4").unwrap();

        let [sid, own] = &kernels[..] else { panic!("{kernels:?}") };
        assert_eq!(
            (sid.name.as_str(), &sid.asked_for[..]),
            ("sid", &["sid".to_owned(), "newest".to_owned()][..])
        );
        let copy = |kernel: &Kernel| fs::read(copies.path().join(&kernel.sha256)).unwrap();
        assert_eq!(copy(sid), b"7.3", "the image as it was");
        assert_eq!(own.name, format!("Image-{}", &own.sha256[..8]));
        assert_eq!((own.asked_for.len(), copy(own)), (1, b"own".to_vec()));
    }

    #[test]
    fn a_name_can_be_a_file_name() {
        let named = |path: &str| name(&Choice::Path(path.into()), "0123456789");
        assert_eq!(named("../a b/Image 7.3*\n@é"), "Image_7.3____-01234567");
        assert_eq!(named("/"), "-01234567");
        assert_eq!(named(&format!("/{}", "x".repeat(300))).len(), 49);
    }

    #[test]
    fn a_missing_image_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = Image { path: directory.path().join("gone"), source: None };
        let error = Kernel::take(&[(Choice::Newest, missing)], directory.path()).unwrap_err();
        assert!(format!("{error:#}").contains("gone: No such file"), "{error:#}");
    }
}
