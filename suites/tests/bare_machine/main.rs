// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The suites on a machine that the lab did not start, as docs/bare.md describes it. The machine is played.
//! The tests show that a machine that conforms to that page passes, that a departure from the rules fails,
//! and that a machine that does not conform ends in an error and in time.
//!
//! `make test` runs this with DFR0_LAB set.

mod machine;
mod pe;

use machine::{Fault, Machine};
use pe::PeFault;
use std::{
    env, fs,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

/// A platform without known deviations.
const PLATFORM: &str = "example,model";
/// QEMU's platform, which has known deviations.
const QEMU: &str = "linux,dummy-virt";
/// A deadline in seconds, for answers that come.
const DEADLINE: &str = "30";
/// A deadline in seconds, for answers that do not come.
const SHORT: &str = "1";

fn run(machine: &Machine, arguments: &[&str]) -> Output {
    let mut dfr0 = Command::new(env!("CARGO_BIN_EXE_dfr0"));
    dfr0.arg("run").args(arguments).env("DFR0_BARE", machine.directory()).output().expect("dfr0 runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// The message of a run that could not begin.
fn refused(fault: Fault) -> String {
    let output = run(&Machine::start(PLATFORM, fault), &["--deadline", SHORT, "breakpoints.fires"]);
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{fault:?}: {stderr}");
    assert!(output.stdout.is_empty() && !stderr.contains("panicked"), "{fault:?}: {stderr}");
    stderr
}

/// The lines of the cases, without numbers.
fn results(output: &Output) -> Vec<String> {
    let text = stdout(output);
    let of_case = |line: &str| {
        let (result, rest) = line.split_once("ok ")?;
        let case = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        // What was observed follows the name of a case that failed.
        let case = if result.is_empty() { case } else { case.split(" # ").next().unwrap_or(case) };
        (result.is_empty() || result == "not ").then(|| format!("{result}ok{case}"))
    };
    text.lines().filter_map(of_case).collect()
}

#[test]
fn a_machine_that_conforms_to_the_page_passes() {
    let machine = Machine::start(PLATFORM, Fault::None);
    let suites = ["breakpoints", "watchpoints", "linked_context", "software_step", "os_lock", "double_lock"];
    let others = ["exception_masking", "register_access", "random"];
    let sample = ["--deadline", DEADLINE, "--every", "64", "--draws", "6400"];
    let output = run(&machine, &[&sample[..], &suites, &others].concat());
    let text = stdout(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("\n# platform: example,model\n"), "{text}");
    let results = results(&output);
    let passed = |case: &str| results.contains(&format!("ok {case}"));
    for case in ["breakpoints.fires", "os_lock.breakpoint.held", "random.short", "random.long"] {
        assert!(passed(case), "{case} in {text}");
    }
    let count = results.iter().filter(|result| !result.contains('#')).count();
    assert!(count > 80, "{count} passed: {text}");
    assert!(!results.iter().any(|result| result.contains("# X")), "{text}");
}

#[test]
fn a_lost_event_fails_a_case_and_a_random_scenario_shrinks_to_it() {
    let machine = Machine::start(PLATFORM, Fault::Pe(PeFault::LosesBreakpoint3));
    let output = run(&machine, &["--deadline", DEADLINE, "breakpoints.all_armed", "random.long"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let failed = ["not ok breakpoints.all_armed", "not ok random.long"];
    assert_eq!(results(&output), failed, "{text}");
    assert!(text.contains("seed 1, shrunk"), "{text}");
}

#[test]
fn the_platforms_name_decides_which_deviations_apply() {
    let held = |platform| {
        let machine = Machine::start(platform, Fault::Pe(PeFault::OsLockMasksNothing));
        run(&machine, &["--deadline", DEADLINE, "os_lock.breakpoint.held"])
    };
    let output = held(QEMU);
    assert_eq!(results(&output), ["ok os_lock.breakpoint.held # XFAIL"], "{}", stdout(&output));
    let output = held(PLATFORM);
    let text = stdout(&output);
    assert_eq!(results(&output), ["not ok os_lock.breakpoint.held"], "{text}");
    assert!(
        text.contains("it belongs to the platform linux,dummy-virt, and this is example,model"),
        "{text}"
    );
}

#[test]
fn random_scenarios_leave_out_an_os_lock_that_masks_nothing_and_keep_the_rest() {
    let machine = Machine::start(PLATFORM, Fault::Pe(PeFault::OsLockMasksNothing));
    let output =
        run(&machine, &["--deadline", DEADLINE, "--draws", "200", "random", "os_lock.breakpoint.held"]);
    let expected =
        ["not ok os_lock.breakpoint.held", "ok random.short", "ok random.long", "ok random.vms # SKIP"];
    assert_eq!(results(&output), expected, "{}", stdout(&output));
}

#[test]
fn a_machine_that_answers_wrongly_is_an_error_that_names_the_command() {
    let garbage = "\u{1b}]0;garbage\n";
    let refusal = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no reset today\"}}\n";
    let told = [
        (Fault::Says("greeting", garbage), "QMP the greeting: "),
        (Fault::Says("greeting", ""), "QMP the greeting: no answer within 1s"),
        (Fault::Says("greeting", "{\"return\": {}}\n"), "QMP the greeting: "),
        (Fault::Says("stop", "{}\n"), "QMP stop: "),
        (Fault::Says("system_reset", refusal), "no reset today"),
        (Fault::Says("system_reset", "{\"return\": {}}\n"), "QMP system_reset: no answer within 1s"),
        (Fault::Says("cont", ""), "QMP cont: no answer within 1s"),
        (Fault::Closes("greeting"), "QMP the greeting: the machine has closed the connection"),
        (Fault::Closes("system_reset"), "QMP system_reset: the machine has closed the connection"),
        (Fault::Closes("cont"), "QMP cont: the machine has closed the connection"),
    ];
    for (fault, message) in told {
        let said = refused(fault);
        assert!(said.contains("no guest can run here: ") && said.contains(message), "{fault:?}: {said}");
        assert!(!said.contains("\u{1b}]0;"), "{said:?}");
    }
}

#[test]
fn a_guest_that_rings_wrongly_or_never_is_an_error() {
    let told = [
        (PeFault::NeverRings, "the guest did not come back within 1s from operation 0"),
        (PeFault::RingsWith(0x55), "the payload rang with 85, which is not a bell"),
        (PeFault::RingsWith(2), "out of turn"),
        (PeFault::LogsGarbage(1), "which is not an event"),
        (PeFault::LogsGarbage(u64::MAX), "which is not an event"),
    ];
    for (fault, message) in told {
        let said = refused(Fault::Pe(fault));
        assert!(said.contains(message), "{fault:?}: {said}");
    }
}

#[test]
fn bells_that_nothing_waits_for_are_an_error() {
    let machine = Machine::start(PLATFORM, Fault::Pe(PeFault::FloodsIn(3)));
    let output = run(&machine, &["--deadline", DEADLINE, "--every", "64", "breakpoints"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("bells that nothing waits for"), "{text}");
}

/// What `dfr0 report text` says of a file of results, and its exit status.
fn report(results: &Path) -> (String, Option<i32>) {
    let mut dfr0 = Command::new(env!("CARGO_BIN_EXE_dfr0"));
    let output = dfr0.args(["report", "text"]).arg(results).output().expect("dfr0 runs");
    (stdout(&output), output.status.code())
}

#[test]
fn a_run_that_is_killed_leaves_what_ended() {
    let machine = Machine::start(PLATFORM, Fault::None);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("r.jsonl");
    // The last case would run for hours.
    let arguments = [
        "run",
        "--deadline",
        DEADLINE,
        "--draws",
        "100000000",
        "breakpoints.fires",
        "random.long",
        "--results",
    ];
    let mut dfr0 = Command::new(env!("CARGO_BIN_EXE_dfr0"));
    dfr0.args(arguments).arg(&path).env("DFR0_BARE", machine.directory()).stdout(Stdio::null());
    let mut run = dfr0.spawn().expect("dfr0 runs");
    let ended =
        || fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n') && text.lines().count() == 2);
    while !ended() {
        assert_eq!(run.try_wait().expect("it runs"), None, "it runs until it is killed");
        thread::sleep(Duration::from_millis(10));
    }
    run.kill().expect("killed");
    run.wait().expect("it ended");
    let (text, status) = report(&path);
    assert!(text.contains("DID NOT END: the run did not end: there are 1 of 2 results, the last of breakpoints.fires; 1 are missing, the first of them random.long"), "{text}");
    assert_eq!(status, Some(1), "{text}");
}

#[test]
fn no_case_begins_after_one_has_failed() {
    let machine = Machine::start(PLATFORM, Fault::Pe(PeFault::LosesBreakpoint3));
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("r.jsonl");
    let file = path.to_str().expect("a path");
    let cases = ["breakpoints.all_armed", "watchpoints.fires"];
    let common = ["--deadline", DEADLINE, "--fail-fast", "--results", file];
    let output = run(&machine, &[&cases[..], &common].concat());
    let text = stdout(&output);
    assert_eq!(
        (results(&output), output.status.code()),
        (vec!["not ok breakpoints.all_armed".into()], Some(1))
    );
    assert!(text.contains("\nBail out! breakpoints.all_armed failed, and --fail-fast was given\n"), "{text}");
    let (said, status) = report(&path);
    assert!(said.contains("the run did not end (breakpoints.all_armed failed, "), "{said}");
    assert_eq!(status, Some(1), "{said}");
    // What failed and what is missing runs again.
    let again = run(&machine, &["--deadline", DEADLINE, "--failed", file]);
    assert_eq!(
        results(&again),
        ["not ok breakpoints.all_armed", "ok watchpoints.fires"],
        "{}",
        stdout(&again)
    );
}

#[test]
fn a_guest_that_hangs_is_one_failed_case_and_the_next_one_gets_a_reset_cpu() {
    // The program that reads the CPU's facts is the first after a reset; so is the next program after a
    // death.
    let machine = Machine::start(PLATFORM, Fault::Pe(PeFault::HangsIn(3)));
    let output = run(&machine, &["--deadline", SHORT, "--every", "64", "breakpoints"]);
    let text = stdout(&output);
    assert!(text.contains("the guest did not come back within 1s"), "{text}");
    let results = results(&output);
    let failed = results.iter().position(|result| result.starts_with("not ok")).expect("one that hangs");
    assert!(results[failed + 1..].iter().any(|result| result.ends_with("each_address_bit")), "{text}");
}

#[test]
fn the_lab_runs_a_command_beside_a_machine_that_it_did_not_start() {
    let machine = Machine::start(PLATFORM, Fault::None);
    let lab = env::var("DFR0_LAB").expect("`make test` sets it");
    let mut lab = Command::new(lab);
    lab.args(["exec", "--bare", "--deadline", "100", "--machine"]).arg(machine.directory());
    lab.args(["--", env!("CARGO_BIN_EXE_dfr0"), "run", "breakpoints.fires"]);
    let output = lab.output().expect("lab runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(results(&output), ["ok breakpoints.fires"]);
    assert!(!stdout(&output).contains("neoverse"), "no lab host is involved");
}
