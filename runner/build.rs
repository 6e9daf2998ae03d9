// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Builds the guest's payload, which the runner carries inside, for arm64 without std and at the addresses of
//! `guest-payloads/payload.ld`. A runner for another architecture has it too, for a bare CPU; without a toolchain for
//! arm64 such a runner is built without it, because most of dfr0 does not need it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The payload's target if the runner is not built for arm64.
const ARM64: &str = "aarch64-unknown-linux-gnu";

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("..");
    for part in ["guest-payloads", "model/src", "model/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(part).display());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let payload = match env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("aarch64") => build_payload(&root, out, &env::var("TARGET").expect("cargo sets TARGET")),
        _ if has_toolchain() => build_payload(&root, out, ARM64),
        _ => {
            println!("cargo::warning=there is no toolchain for {ARM64}: building without the payload");
            // A file that does not exist: cargo runs this again, and a toolchain may be there then.
            println!("cargo::rerun-if-changed={}", out.join("toolchain").display());
            let none = out.join("no-payload");
            fs::write(&none, "").expect("OUT_DIR can be written");
            none
        }
    };
    println!("cargo::rustc-env=DFR0_PAYLOAD={}", payload.display());
}

/// Whether rustc has the standard library of [`ARM64`], and there is the linker of `.cargo/config.toml`.
fn has_toolchain() -> bool {
    let mut rustc = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    let libraries = rustc.args(["--print", "target-libdir", "--target", ARM64]).output();
    let libraries = libraries.is_ok_and(|output| {
        let directory = String::from_utf8_lossy(&output.stdout);
        fs::read_dir(directory.trim_end()).is_ok_and(|mut files| files.next().is_some())
    });
    const LINKER: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER";
    println!("cargo::rerun-if-env-changed={LINKER}");
    let linker = env::var_os(LINKER);
    let linker = Command::new(linker.unwrap_or("aarch64-linux-gnu-gcc".into())).arg("--version").output();
    libraries && linker.is_ok()
}

fn build_payload(root: &Path, out: PathBuf, target: &str) -> PathBuf {
    let script =
        root.join("guest-payloads/payload.ld").canonicalize().expect("guest-payloads/payload.ld exists");
    let out = out.join("payload");
    let flags = [
        "-Crelocation-model=static".into(),
        "-Clink-arg=-nostartfiles".into(),
        "-Clink-arg=-nostdlib".into(),
        "-Clink-arg=-static".into(),
        "-Clink-arg=-Wl,--build-id=none,--strip-debug".into(),
        format!("-Clink-arg=-T{}", script.display()),
    ];
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo
        .current_dir(root)
        .args(["build", "--quiet", "--profile", "payload", "--package", "dfr0-payload", "--bin", "payload"])
        .args(["--features", "guest", "--target", target, "--target-dir"])
        .arg(&out)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    let status = cargo.status().unwrap_or_else(|error| panic!("cannot start cargo for the payload: {error}"));
    assert!(
        status.success(),
        "building the payload for {target} failed ({status}); cargo's message is above, and lab/with-toolchain finds a \
         toolchain that has the target"
    );
    out.join(target).join("payload/payload")
}
