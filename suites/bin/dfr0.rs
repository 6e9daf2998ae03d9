// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The command `dfr0`, and under the names of the suites their programs.

use std::process::ExitCode;

fn main() -> ExitCode {
    dfr0_runner::cli::main(&dfr0_suites::ALL, dfr0_suites::migration_hosts::scenarios)
}
