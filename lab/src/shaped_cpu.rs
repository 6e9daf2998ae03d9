// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! CPUs with another shape.
//!
//! Every CPU model of QEMU has 6 breakpoints, 4 watchpoints and 2 context-aware breakpoints, and no option changes
//! these numbers. QEMU takes them from the model's reset value of ID_AA64DFR0_EL1, which an amd64 build contains as one
//! 8-byte constant. A copy of the program with another constant has a CPU with another shape.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cache::{self, Cache};
use crate::hosts::ShapedCpu;

/// A copy of `qemu` whose CPU has the requested shape. It is made once for each build of QEMU.
pub fn qemu_with(cpu: &ShapedCpu, qemu: &Path, cache: &Cache) -> Result<PathBuf> {
    let failed = || format!("cannot read {}", qemu.display());
    let metadata = fs::metadata(qemu).with_context(failed)?;
    let ShapedCpu { model, id_aa64dfr0, shape } = cpu;
    let value = shape.in_place_of(*id_aa64dfr0);
    let build = format!("{}-{}.{:09}", metadata.size(), metadata.mtime(), metadata.mtime_nsec());
    let copy = cache.path(format!("qemu/{build}/{model}-{id_aa64dfr0:x}-{value:x}"))?;
    if cache::has(&copy)? {
        return Ok(copy);
    }
    let mut program = fs::read(qemu).with_context(failed)?;
    if let Err(found) = rewrite(&mut program, *id_aa64dfr0, value) {
        bail!(
            "{model}'s ID_AA64DFR0_EL1 {id_aa64dfr0:#x} was found {found} times in {}, and can only be rewritten if it \
             occurs once. Hosts with another shape need an amd64 build of QEMU (other builds split the constant over \
             several instructions) with the value that hosts.toml gives in [cpu.{model}]",
            qemu.display()
        );
    }
    cache::keep(&copy, 0o755, |file| file.write_all(&program).context("cannot write"))?;
    Ok(copy)
}

/// Replaces `old`, which must occur exactly once. The error is how often it occurs.
fn rewrite(program: &mut [u8], old: u64, new: u64) -> Result<(), usize> {
    let old = old.to_le_bytes();
    let places: Vec<_> =
        program.windows(8).enumerate().filter(|(_, window)| *window == old).map(|(place, _)| place).collect();
    let [place] = places[..] else { return Err(places.len()) };
    program[place..place + 8].copy_from_slice(&new.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;

    const OLD: u64 = 0x1f210305519;
    const NEW: u64 = 0x1f23070f519;

    fn program(constants: usize) -> Vec<u8> {
        let mut program = b"\x7fELF odd".to_vec();
        program.push(0);
        for _ in 0..constants {
            program.extend(OLD.to_le_bytes());
            program.extend(b"code");
        }
        program
    }

    #[test]
    fn the_constant_must_occur_once() {
        let mut once = program(1);
        assert_eq!(rewrite(&mut once, OLD, NEW), Ok(()));
        assert_eq!(once[9..17], NEW.to_le_bytes());
        assert_eq!(rewrite(&mut once, NEW, OLD), Ok(()));
        assert_eq!(once, program(1), "nothing else changed");
        for count in [0, 2] {
            let mut other = program(count);
            assert_eq!(rewrite(&mut other, OLD, NEW), Err(count));
            assert_eq!(other, program(count));
        }
        assert_eq!(rewrite(&mut [0; 3], OLD, NEW), Err(0));
    }

    #[test]
    fn the_copy_is_made_once_and_an_error_says_what_is_needed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(&directory.path().join("cache")).unwrap();
        let qemu = directory.path().join("qemu");
        let shape = Shape { breakpoints: 16, watchpoints: 8, context_aware: 4 };
        let cpu = ShapedCpu { model: "neoverse-v1".into(), id_aa64dfr0: OLD, shape };

        fs::write(&qemu, program(2)).unwrap();
        let error = qemu_with(&cpu, &qemu, &cache).unwrap_err().to_string();
        assert!(error.contains("found 2 times") && error.contains("amd64 build of QEMU"), "{error}");

        fs::write(&qemu, program(1)).unwrap();
        let copy = qemu_with(&cpu, &qemu, &cache).unwrap();
        assert_eq!(fs::read(&copy).unwrap()[9..17], NEW.to_le_bytes());
        assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, 0o755);
        let made = fs::metadata(&copy).unwrap().ino();
        assert_eq!(fs::metadata(qemu_with(&cpu, &qemu, &cache).unwrap()).unwrap().ino(), made);
        fs::write(&copy, b"").unwrap();
        assert_eq!(fs::read(qemu_with(&cpu, &qemu, &cache).unwrap()).unwrap()[9..17], NEW.to_le_bytes());
    }
}
