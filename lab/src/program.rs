// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The program to run in a host: its path on this machine, its path in the host, and whether it can run there.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use elf::ElfStream;
use elf::abi::{EM_AARCH64, PT_INTERP};
use elf::endian::AnyEndian;

use crate::job::{COMMAND_DIRECTORY, WORKING_DIRECTORY};

/// The program of a command, after it was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// Its path in the host.
    pub in_host: PathBuf,
    /// The file to add to the host, if the program is not part of `--with`.
    pub added: Option<PathBuf>,
}

impl Program {
    /// Finds `name`, which is a file of this machine if it contains a slash, or a file in the directory of `--with`.
    pub fn find(name: &str, with: Option<&Path>) -> Result<Self> {
        let working = Path::new(WORKING_DIRECTORY);
        let here = Path::new(name);
        if name.contains('/') && here.is_file() {
            let directory = here.parent().unwrap_or(here);
            let directory = directory.canonicalize().with_context(|| format!("cannot find {name}"))?;
            // A symbolic link is not followed, because a program may depend on the name of the link, as busybox does.
            let file = directory
                .join(here.file_name().with_context(|| format!("{name} is not the name of a file"))?);
            check(&file)?;
            if let Some(inside) = with.and_then(|with| file.strip_prefix(with).ok()) {
                return Ok(Self { in_host: working.join(inside), added: None });
            }
            let in_host = working.join(COMMAND_DIRECTORY).join(file.file_name().unwrap_or_default());
            return Ok(Self { in_host, added: Some(file) });
        }
        let inside = here.strip_prefix(working).unwrap_or(here);
        match with {
            Some(with) if inside.is_relative() && with.join(inside).is_file() => {
                check(&with.join(inside))?;
                Ok(Self { in_host: working.join(inside), added: None })
            }
            Some(with) => bail!("there is no program `{name}` here or in {}", with.display()),
            None if name.contains('/') => bail!("there is no program `{name}`"),
            None => bail!(
                "a host has no programs of its own: use the path of a static arm64 program (./{name}), or --with and a \
                 directory that contains `{name}`"
            ),
        }
    }
}

/// Checks that the file can run in a host, which has no dynamic linker: it must be a static arm64 program or a script.
pub fn check(path: &Path) -> Result<()> {
    let failed = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(failed)?;
    let mut magic = Vec::new();
    file.by_ref().take(4).read_to_end(&mut magic).with_context(failed)?;
    if magic.starts_with(b"#!") {
        return Ok(());
    }
    let build = "build it with `--target aarch64-unknown-linux-gnu` and `-Ctarget-feature=+crt-static`, or with \
                 `aarch64-linux-gnu-gcc -static`";
    let Ok(elf) = ElfStream::<AnyEndian, _>::open_stream(file) else {
        bail!("{} is not a program (an ELF file or a script): {build}", path.display());
    };
    if elf.ehdr.e_machine != EM_AARCH64 {
        bail!("{} is a program for a machine that is not arm64: {build}", path.display());
    }
    if elf.segments().iter().any(|segment| segment.p_type == PT_INTERP) {
        bail!("{} is dynamically linked, and a host has no libraries: {build}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn directory_with(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "#!/host/sh\n").unwrap();
        }
        directory
    }

    #[test]
    fn a_program_is_added_or_is_part_of_the_directory() {
        let with = directory_with(&["tool", "sub/tool"]);
        let other = directory_with(&["test-1"]);
        let with = with.path().canonicalize().unwrap();
        let other = other.path().canonicalize().unwrap().join("test-1");

        let found = Program::find(other.to_str().unwrap(), Some(&with)).unwrap();
        assert_eq!(found, Program { in_host: "/host/.cmd/test-1".into(), added: Some(other) });
        let inside = with.join("sub/tool");
        for name in [inside.to_str().unwrap(), "sub/tool", "./sub/tool", "/host/sub/tool"] {
            let found = Program::find(name, Some(&with)).unwrap();
            assert_eq!(found, Program { in_host: "/host/sub/tool".into(), added: None });
        }
        assert_eq!(Program::find("tool", Some(&with)).unwrap().in_host, Path::new("/host/tool"));
    }

    #[test]
    fn a_missing_program_is_an_error_before_a_host_boots() {
        let with = directory_with(&[]);
        let error = |name, with| Program::find(name, with).unwrap_err().to_string();
        assert!(error("sh", None).contains("./sh"));
        assert!(error("./sh", None).contains("no program `./sh`"));
        assert!(error("sh", Some(with.path())).contains("here or in"));
        assert!(error("/etc", None).contains("no program `/etc`"));
    }

    #[test]
    fn this_test_cannot_run_in_a_host() {
        let this = std::env::current_exe().unwrap();
        if cfg!(not(target_arch = "aarch64")) {
            let error = check(&this).unwrap_err().to_string();
            assert!(error.contains("a machine that is not arm64"), "{error}");
        }
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().join("text");
        fs::write(&text, "hello").unwrap();
        assert!(check(&text).unwrap_err().to_string().contains("not a program"));
    }
}
