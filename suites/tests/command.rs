// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What every verb of the command `dfr0` has in common, as far as it needs no KVM: a reader that goes away is no error, and
//! `-` is standard input.

use std::{
    fs,
    io::{self, Write},
    process::{Command, Output, Stdio},
};

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/results.example.jsonl");
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

/// A fingerprint as Firecracker writes it, of a host with this MIDR_EL1.
fn fingerprint(midr: u32) -> String {
    let register =
        |address: u64, value: u64| format!(r#"{{"addr":"{address:#x}","bitmap":"0b{value:064b}"}}"#);
    let registers =
        [register(0x6030_0000_0013_c000, midr.into()), register(0x6030_0000_0013_c028, 0xf0_1030_5009)];
    format!(
        r#"{{"firecracker_version":"1.0","kernel_version":"6.18.0","microcode_version":"","bios_version":"","bios_revision":"",
        "guest_cpu_config":{{"kvm_capabilities":[],"vcpu_features":[],"reg_modifiers":[{}]}}}}"#,
        registers.join(",")
    )
}

fn dfr0(arguments: &[&str]) -> Command {
    let mut dfr0 = Command::new(env!("CARGO_BIN_EXE_dfr0"));
    dfr0.args(arguments).env_remove("DFR0_BARE").stdin(Stdio::null());
    dfr0
}

fn output(arguments: &[&str]) -> Output {
    dfr0(arguments).output().expect("dfr0 runs")
}

/// The output of a command that reads `input`.
fn reading(input: &[u8], arguments: &[&str]) -> Output {
    let mut command = dfr0(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("dfr0 runs");
    child.stdin.take().expect("a pipe").write_all(input).expect("dfr0 reads");
    child.wait_with_output().expect("dfr0 ends")
}

/// A pipe without a reader.
fn closed() -> Stdio {
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_changes_no_exit_status() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("a path").to_owned();
    let (a, b) = (path("a.json"), path("b.json"));
    fs::write(&a, fingerprint(0x411f_d402)).expect("written");
    fs::write(&b, fingerprint(0x414f_d0c1)).expect("written");
    let verbs: [&[&str]; 18] = [
        &["--help"],
        &["run", "--help"],
        &["run", "breakpoints.fires"],
        &["list", "--rules"],
        &["explain", "breakpoints.fires"],
        &["host", "check", &a],
        &["host", "compare", &a, &b],
        &["plan", &a, &b],
        &["plan", "--json", &a, &b],
        &["common", &a, &b],
        &["report", "ktap", RESULTS],
        &["report", "junit", RESULTS],
        &["report", "html", RESULTS],
        &["report", "kcidb", RESULTS],
        &["report", "text", RESULTS],
        &["report", "lava", RESULTS],
        &["report", "pull-labs", RESULTS],
        &["report", "diff", RESULTS, RESULTS],
    ];
    for verb in verbs {
        let whole = output(verb);
        assert!(!whole.stdout.is_empty(), "{verb:?}: {}", String::from_utf8_lossy(&whole.stderr));
        let cut = dfr0(verb).stdout(closed()).output().expect("dfr0 runs");
        let said = String::from_utf8_lossy(&cut.stderr).into_owned();
        assert_eq!(
            (cut.status.code(), &cut.stderr),
            (whole.status.code(), &whole.stderr),
            "{verb:?}: {said}"
        );
        let silent = dfr0(verb).stdout(closed()).stderr(closed()).status().expect("dfr0 runs");
        assert_eq!(silent.code(), whole.status.code(), "{verb:?}, also without standard error");
    }
    let wrong = dfr0(&["report", "text", "/no/such/file"]).stdout(closed()).stderr(closed()).status();
    assert_eq!(wrong.expect("dfr0 runs").code(), Some(1));
}

#[test]
fn standard_input_is_read_wherever_a_file_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let b = directory.path().join("b.json");
    fs::write(&b, fingerprint(0x414f_d0c1)).expect("written");
    let b = b.to_str().expect("a path");
    let results = fs::read(RESULTS).expect("the example");
    let host = fingerprint(0x411f_d402).into_bytes();
    let readme = fs::read(README).expect("README.md");
    let says = |input: &[u8], arguments: &[&str], said: &str| {
        let Output { stdout, stderr, .. } = reading(input, arguments);
        let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        assert!(text.contains(said), "{arguments:?}: {text}");
    };
    says(&results, &["report", "text", "-"], "FAIL s.b: neoverse-v1@7.3.4");
    says(&results, &["report", "diff", "-", RESULTS], "no regression");
    says(&results, &["list", "--failed", "-"], "-: this dfr0 has no case s.b");
    says(&host, &["plan", "-", b], "A: -: Neoverse V1");
    says(&host, &["common", "-", b], "-: gives it as is");
    says(&host, &["host", "check", "-"], "Neoverse V1");
    says(&host, &["host", "compare", "-", b], "Neoverse V1");
    says(b"x", &["certify", "verify", "-"], "-: not a dfr0 certificate");
    says(b"x", &["snapshot", "show", "-"], "-: ");
    says(b"x", &["snapshot", "verify", "-"], "-: ");
    says(b"nop", &["replay", "-"], "-, line 1: `nop` is not an operation");
    says(&readme, &["replay", "-", "no.such.case"], "-: there is no result of no.such.case");
}

#[test]
fn what_chooses_cases_chooses_the_same_for_a_list_and_a_run_and_says_what_makes_no_sense() {
    let says = |arguments: &[&str], status: i32, said: &str| {
        let Output { stdout, stderr, status: ended } = output(arguments);
        let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        assert!(ended.code() == Some(status) && text.contains(said), "{arguments:?}: {text}");
    };
    says(&["list", "--format", "json", "breakpoints.fires"], 0, "\"suite\": \"breakpoints\"");
    for verb in ["list", "run"] {
        says(
            &[verb, "breakpoints", "--skip", "watchpoints"],
            1,
            "--skip \"watchpoints\": none of the chosen cases matches",
        );
        says(&[verb, "breakpoints", "--skip", "breakpoints"], 1, "--skip leaves out every chosen case");
        says(&[verb, "--shard", "3/2"], 1, "where K is from 1 to N");
        says(&[verb, "--failed", "/no/such/file"], 1, "cannot read /no/such/file");
    }
    says(
        &["run", "breakpoints.fires", "--shard", "1/9999"],
        4,
        "1..0 # SKIP no chosen case is in shard 1/9999\n",
    );
    says(&["run", "--results", "-", "--format", "lava"], 1, "--format has no effect");
    says(&["host", "show", "--json", "--slurm-features"], 1, "cannot be used with");
}
