// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Builds an image of a tree with changes.

use std::env;
use std::fs::{self, File};
use std::io::{Write, copy};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::changes::Changes;
use super::copy::Copy;
use super::tree::{Content, Files, Kind, Seen, Tree};
use crate::cache::{self, Cache, write_whole};
use crate::digest::sha256;
use crate::interrupt::Signals;
use crate::tools::{Notice, run, run_logged};

/// What a lab host's kernel needs, in addition to `allnoconfig`.
const CONFIG: &str = include_str!("../../kernel.config");
/// The options without which a host of the lab does not boot or has no KVM.
const NEEDED: [&str; 8] = [
    "BINFMT_ELF",
    "BLK_DEV_INITRD",
    "DEVTMPFS",
    "KVM",
    "PERF_EVENTS",
    "PROC_FS",
    "SERIAL_AMBA_PL011_CONSOLE",
    "SYSFS",
];
/// The programs that a build runs, and Debian's packages that have them. The cross compiler is asked for by its name.
const TOOLS: [(&str, &str); 7] = [
    ("make", "make"),
    ("gcc", "gcc"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("perl", "perl"),
    ("git", "git"),
];
/// The number of images that are kept of a tree.
const KEPT: usize = 160;
/// The date in `uname -v`. It is always the same, so that the same source makes the same image.
const DATE: &str = "Sat Jan  1 00:00:00 UTC 2000";

/// What is known of a tree and its copy.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    seen: Seen,
    copied: Files,
}

/// The image of `tree` with `changes`. Only what differs from the last build of the tree is compiled; nothing is, if there is
/// an image of the same source.
pub fn build(tree: &Tree, changes: &Changes, cache: &Cache, signals: &Signals) -> Result<PathBuf> {
    let compiler = Compiler::find(signals)?;
    let place = Workshop::of(tree, cache)?;
    let _lock = cache.lock(&format!("{}/build", place.name), signals)?;
    let mut known = place.known();
    let scratch = cache.scratch()?;
    let wanted = {
        let _notice = Notice::new(&format!("reading the tree {}", tree.directory().display()));
        changes.on(&tree.files(&mut known.seen, scratch.path(), signals)?)
    };
    let digest = digest_of(&wanted, &compiler)?;
    let image = place.directory.join("images").join(&digest);
    if cache::has(&image)? {
        place.note(&known)?;
        // The time says which images were used last.
        File::open(&image)
            .and_then(|image| image.set_modified(std::time::SystemTime::now()))
            .with_context(|| format!("cannot open {}", image.display()))?;
        return Ok(image);
    }
    let outdated = Copy::outdated(&known.copied, &wanted);
    // If this ends in the middle, these files are written, or removed, again.
    let unknown = Content { kind: Kind::Text, sha256: String::new() };
    known.copied.extend(outdated.iter().map(|path| (path.clone(), unknown.clone())));
    place.note(&known)?;
    {
        let _notice = Notice::new(&format!("copying {} files of the tree", outdated.len()));
        let source = place.directory.join("source");
        fs::create_dir_all(&source).with_context(|| format!("cannot create {}", source.display()))?;
        Copy { tree, changes, directory: &source }.update(&outdated, &wanted, signals)?;
    }
    known.copied = wanted;
    place.note(&known)?;
    let log = place.directory.join("build.log");
    let _notice = Notice::new(&format!("building the kernel of {}", tree.described(signals)?));
    place.make(&known.copied, &digest, &compiler, signals).with_context(|| {
        format!("the kernel cannot be built; all that was printed is in {}", log.display())
    })?;
    place.keep(&image)?;
    Ok(image)
}

/// The digest of all that an image is made of.
fn digest_of(files: &Files, compiler: &Compiler) -> Result<String> {
    let mut all = serde_json::to_vec(files).context("cannot write a list of files")?;
    for part in [CONFIG, &compiler.version, DATE] {
        all.extend(part.as_bytes());
        all.push(0);
    }
    Ok(sha256(&all[..])?[..16].to_owned())
}

/// A compiler for arm64.
struct Compiler {
    /// What comes before `gcc` in its name.
    prefix: String,
    version: String,
}

impl Compiler {
    /// Finds the compiler and the other tools.
    fn find(signals: &Signals) -> Result<Self> {
        let native = cfg!(target_arch = "aarch64");
        let prefix = env::var("CROSS_COMPILE")
            .unwrap_or_else(|_| if native { String::new() } else { "aarch64-linux-gnu-".into() });
        let gcc = format!("{prefix}gcc");
        let cross = (gcc.as_str(), if native { "gcc" } else { "gcc-aarch64-linux-gnu" });
        let missing: Vec<_> =
            TOOLS.into_iter().chain([cross]).filter(|(program, _)| !is_on_path(program)).collect();
        if !missing.is_empty() {
            let of = |part: fn(&(&str, &str)) -> String| missing.iter().map(part).collect::<Vec<_>>();
            bail!(
                "a kernel's build needs {}: run `apt-get install {}`",
                of(|(program, _)| (*program).to_owned()).join(", "),
                of(|(_, package)| (*package).to_owned()).join(" ")
            );
        }
        let version = run(Command::new(&gcc).arg("--version"), signals)?;
        let version = version.lines().next().unwrap_or_default().to_owned();
        Ok(Self { prefix, version })
    }
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// A tree's folder in the cache.
struct Workshop {
    name: String,
    directory: PathBuf,
}

impl Workshop {
    fn of(tree: &Tree, cache: &Cache) -> Result<Self> {
        let path = tree.directory();
        let key = sha256(path.as_os_str().as_encoded_bytes())?;
        let plain = |letter: char| {
            if letter.is_ascii_alphanumeric() || "._+~-".contains(letter) { letter } else { '_' }
        };
        let folder = path.file_name().unwrap_or_default().to_string_lossy();
        let folder: String = folder.chars().map(plain).take(40).collect();
        let name = format!("builds/{folder}-{}", &key[..8]);
        // The directory of the path exists.
        let directory = cache.path(format!("{name}/build"))?.with_file_name("");
        Ok(Self { name, directory })
    }

    /// What is known; nothing, if the file is not there or is damaged. Then all files are copied again.
    fn known(&self) -> Known {
        let read = || serde_json::from_slice(&fs::read(self.directory.join("files.json")).ok()?).ok();
        read().unwrap_or_else(|| {
            // What is in a copy that nobody knows may be anything.
            let _ = fs::remove_dir_all(self.directory.join("source"));
            Known::default()
        })
    }

    fn note(&self, known: &Known) -> Result<()> {
        let text = serde_json::to_vec(known).context("cannot write a list of files")?;
        write_whole(&self.directory.join("files.json"), 0o644, |file| Ok(file.write_all(&text)?))
    }

    /// Builds the image in `objects`.
    fn make(&self, files: &Files, digest: &str, compiler: &Compiler, signals: &Signals) -> Result<()> {
        let objects = self.directory.join("objects");
        fs::create_dir_all(&objects).with_context(|| format!("cannot create {}", objects.display()))?;
        let log = self.directory.join("build.log");
        let mut log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        let mut make = |arguments: &[&str]| {
            let mut make = Command::new("make");
            make.env_clear();
            for name in ["PATH", "HOME", "TMPDIR", "CCACHE_DIR"] {
                make.envs(env::var_os(name).map(|value| (name, value)));
            }
            make.env("LC_ALL", "C")
                .env("KBUILD_BUILD_USER", "dfr0")
                .env("KBUILD_BUILD_HOST", "lab")
                .env("KBUILD_BUILD_TIMESTAMP", DATE)
                // This is the number in `uname -v`.
                .env("KBUILD_BUILD_VERSION", format!("dfr0-{digest}"))
                .args(["--silent", "ARCH=arm64", "LOCALVERSION=", &format!("-j{jobs}")])
                .arg(format!("CROSS_COMPILE={}", compiler.prefix))
                .arg(format!("O={}", objects.display()))
                .arg("-C")
                .arg(self.directory.join("source"))
                .args(arguments);
            run_logged(&mut log, &mut make, signals)
        };
        let noted = objects.join("dfr0.config");
        let basis = basis(files, compiler)?;
        if fs::read_to_string(&noted).ok().as_ref() != Some(&basis) || !objects.join(".config").is_file() {
            let _ = fs::remove_file(&noted);
            let fragment = objects.join("dfr0.fragment");
            write_whole(&fragment, 0o644, |file| Ok(file.write_all(CONFIG.as_bytes())?))?;
            make(&[&format!("KCONFIG_ALLCONFIG={}", fragment.display()), "allnoconfig"])?;
            check(&fs::read_to_string(objects.join(".config")).context("cannot read its .config")?)?;
            write_whole(&noted, 0o644, |file| Ok(file.write_all(basis.as_bytes())?))?;
        }
        make(&["Image"])
    }

    /// Puts the image that was built into `images`, of which the newest are kept.
    fn keep(&self, image: &Path) -> Result<()> {
        let directory = image.parent().unwrap_or(&self.directory);
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let built = self.directory.join("objects/arch/arm64/boot/Image");
        cache::keep(image, 0o644, |file| {
            let mut built = File::open(&built).with_context(|| format!("cannot open {}", built.display()))?;
            copy(&mut built, file)?;
            Ok(())
        })?;
        let failed = || format!("cannot read {}", directory.display());
        let mut images = Vec::new();
        for entry in fs::read_dir(directory).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            if !entry.file_name().to_string_lossy().contains('.') {
                images.push((
                    entry.metadata().and_then(|data| data.modified()).with_context(failed)?,
                    entry.path(),
                ));
            }
        }
        images.sort();
        let old = images.len().saturating_sub(KEPT);
        for (_, image) in images.drain(..old) {
            let failed = || format!("cannot remove {}", image.display());
            fs::remove_file(&image).with_context(failed)?;
            let _ = fs::remove_file(image.with_extension("sha256"));
        }
        Ok(())
    }
}

/// What a configuration is made of: if it changes, the kernel is configured again.
fn basis(files: &Files, compiler: &Compiler) -> Result<String> {
    let is_kconfig = |path: &&String| path.rsplit('/').next().is_some_and(|name| name.starts_with("Kconfig"));
    let kconfig: Files = files
        .iter()
        .filter(|(path, _)| is_kconfig(path) || path.starts_with("scripts/"))
        .map(|(path, content)| (path.clone(), content.clone()))
        .collect();
    digest_of(&kconfig, compiler)
}

/// Checks that a configuration has what the lab needs.
fn check(config: &str) -> Result<()> {
    let has = |option: &&str| config.lines().any(|line| line == format!("CONFIG_{option}=y"));
    let missing: Vec<_> = NEEDED.into_iter().filter(|option| !has(option)).collect();
    if !missing.is_empty() {
        bail!("the tree's configuration does not get CONFIG_{}", missing.join(", CONFIG_"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_without_kvm_is_an_error() {
        let whole: String = NEEDED.iter().map(|option| format!("CONFIG_{option}=y\n")).collect();
        check(&whole).unwrap();
        let error = check(&whole.replace("CONFIG_KVM=y", "# CONFIG_KVM is not set")).unwrap_err().to_string();
        assert_eq!(error, "the tree's configuration does not get CONFIG_KVM");
    }

    #[test]
    fn what_is_needed_is_asked_for() {
        for option in NEEDED {
            assert!(CONFIG.lines().any(|line| line == format!("CONFIG_{option}=y")), "{option}");
        }
    }
}
