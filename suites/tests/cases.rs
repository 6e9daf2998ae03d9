// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! All cases as tests of `cargo test`, with this host's KVM.

use std::process::ExitCode;

fn main() -> ExitCode {
    dfr0_runner::mimic::main(&dfr0_suites::ALL)
}
