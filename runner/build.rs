// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Builds the guest's payload, which the runner carries inside, for arm64 without std and at the addresses of
//! `guest-payloads/payload.ld`. A runner for another architecture has it too, for a bare CPU.

use std::{
    env,
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
    build_payload(&root);
}

fn build_payload(root: &Path) {
    let script =
        root.join("guest-payloads/payload.ld").canonicalize().expect("guest-payloads/payload.ld exists");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("payload");
    let target = match env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("aarch64") => env::var("TARGET").expect("cargo sets TARGET"),
        _ => ARM64.into(),
    };
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
        .args(["--features", "guest", "--target", &target, "--target-dir"])
        .arg(&out)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    let status = cargo.status().unwrap_or_else(|error| panic!("cannot start cargo for the payload: {error}"));
    assert!(
        status.success(),
        "building the payload for {target} failed ({status}); cargo's message is above, and lab/with-toolchain finds a \
         toolchain that has the target"
    );
    let payload = out.join(target).join("payload/payload");
    println!("cargo::rustc-env=DFR0_PAYLOAD={}", payload.display());
}
