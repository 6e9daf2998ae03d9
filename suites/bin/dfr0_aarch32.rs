// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The suite `aarch32` as a program of its own, for kselftest.

use std::process::ExitCode;

fn main() -> ExitCode {
    dfr0_runner::cli::suite_main(&dfr0_suites::ALL, "aarch32")
}
