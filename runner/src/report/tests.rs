// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

use super::*;
use crate::{
    ktap::Ktap,
    results::{Case, Lines, Outcome, Record, Run, Totals, Unavailable, Writer, tests::run},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

fn lines(run: &Run) -> Vec<u8> {
    let mut out = Vec::new();
    run.records().try_for_each(|record| Lines(&mut out).write(&record)).expect("a vector");
    out
}

/// The run of the tests, on this host and kernel, with these outcomes of the named cases.
fn run_of(host: &str, release: &str, outcomes: &[(&str, Outcome)]) -> Run {
    let Run { mut begin, mut cases, mut end } = run();
    begin.lab_host = Some(host.into());
    begin.id = None;
    begin.host.kernel = Some(release.into());
    for (name, outcome) in outcomes {
        match cases.iter_mut().find(|case| case.name == *name) {
            Some(case) => case.outcome = *outcome,
            None => cases.push(Case { name: (*name).into(), outcome: *outcome, ..cases[0].clone() }),
        }
    }
    begin.cases = cases.len();
    begin.plan = cases.iter().map(|case| case.name.clone()).collect();
    end.totals = Totals::default();
    cases.iter().for_each(|case| end.totals.count(case.outcome));
    end.checks = cases.iter().map(|case| case.checks).sum();
    Run { begin, cases, end }
}

/// A folder that holds these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, bytes) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, bytes).expect("written");
    }
    directory
}

fn load_one(path: &Path) -> Result<Vec<Cell>, Error> {
    load(&[path.to_owned()])
}

fn cells_of(runs: &[Run]) -> Vec<Cell> {
    let names: Vec<String> = (0..runs.len()).map(|number| format!("{number}.jsonl")).collect();
    let bytes: Vec<Vec<u8>> = runs.iter().map(lines).collect();
    let files: Vec<(&str, &[u8])> =
        names.iter().map(String::as_str).zip(bytes.iter().map(Vec::as_slice)).collect();
    load_one(folder(&files).path()).expect("results")
}

/// matrix.json of cells of one host with the kernels newest, trixie and so on.
fn matrix_json(cells: &[(&str, &str, Value)]) -> Vec<u8> {
    let cells: Vec<Value> = cells
        .iter()
        .map(|(host, kernel, status)| json!({ "host": host, "kernel": kernel, "status": status, "facts": null }))
        .collect();
    json!({ "version": 1, "lab": "0.1.0", "kernels": [{ "name": "newest", "release": "7.3.4", "sha256": "5f3a90c1" }], "cells": cells })
        .to_string()
        .into_bytes()
}

/// A matrix of four cells, of which two reported.
fn matrix() -> Vec<Cell> {
    let exited = |status: u8| json!({ "exited": status });
    let cells = [
        ("one", "newest", exited(1)),
        ("one", "trixie", json!({ "deadline": 600 })),
        ("two", "newest", exited(4)),
        ("two", "trixie", json!("not-run")),
    ];
    let unavailable = Record::Unavailable(Unavailable::because("no KVM".into()));
    let mut none = Vec::new();
    Lines(&mut none).write(&unavailable).expect("a vector");
    let directory = folder(&[
        ("matrix.json", &matrix_json(&cells)),
        ("one@newest/stdout", &lines(&run_of("one", "7.3.4", &[]))),
        ("two@newest/stdout", &none),
    ]);
    load_one(directory.path()).expect("a matrix")
}

fn junit_of(cells: &[Cell]) -> String {
    junit(cells).expect("XML")
}

fn kcidb_of(cells: &[Cell]) -> Value {
    kcidb(cells, &Ids { origin: "ci".into(), silent: "f00d".into(), build: None }).expect("a document")
}

fn tap_of(cells: &[Cell]) -> String {
    let mut out = Vec::new();
    tap(cells, &mut out).expect("a vector");
    String::from_utf8(out).expect("text")
}

#[test]
fn ktap_of_a_file_is_what_the_run_printed() {
    let mut printed = Vec::new();
    let mut ktap = Ktap::new(&mut printed, false);
    run().records().try_for_each(|record| ktap.write(&record)).expect("a vector");
    assert_eq!(tap_of(&cells_of(&[run()])), String::from_utf8(printed).expect("text"));
}

#[test]
fn ktap_of_several_runs_is_one_subtest_per_run() {
    let text = tap_of(&matrix());
    let outer: Vec<&str> = text.lines().filter(|line| !line.starts_with("  ")).collect();
    assert_eq!(
        outer,
        [
            "KTAP version 1",
            "1..4",
            "not ok 1 one@newest",
            "# its command did not end within 600 s",
            "not ok 2 one@trixie",
            "ok 3 two@newest # SKIP",
            "# not run",
            "not ok 4 two@trixie"
        ]
    );
    assert!(text.contains("\n  1..5\n") && text.contains("\n  1..0 # SKIP no KVM\n"), "{text}");
}

#[test]
fn a_matrix_has_all_its_cells_whatever_their_status() {
    let cells = matrix();
    let names: Vec<String> = cells.iter().map(Cell::name).collect();
    assert_eq!(names, ["one@newest", "one@trixie", "two@newest", "two@trixie"]);
    assert_eq!(cells[0].run(), Some(&run_of("one", "7.3.4", &[])));
    let silence: Vec<Option<&str>> = cells.iter().map(Cell::silence).collect();
    assert_eq!(silence, [None, Some("its command did not end within 600 s"), None, Some("not run")]);
    assert_eq!(cells[0].release.as_deref(), Some("7.3.4"));
}

#[test]
fn a_cell_that_ended_well_without_whole_results_did_not_report() {
    let all = lines(&run_of("one", "7.3.4", &[]));
    let why = |stdout: Option<&[u8]>| {
        let cells = matrix_json(&[("one", "newest", json!({ "exited": 0 }))]);
        let mut files: Vec<(&str, &[u8])> = vec![("matrix.json", &cells)];
        files.extend(stdout.map(|stdout| ("one@newest/stdout", stdout)));
        load_one(folder(&files).path()).expect("a matrix")[0].silence().map(ToOwned::to_owned)
    };
    assert_eq!(why(Some(&all)), None);
    assert_eq!(why(None).as_deref(), Some("its folder has no file stdout"));
    assert!(why(Some(b"")).expect("a reason").contains("not results of dfr0"));
    assert!(why(Some(&all[..all.len() / 2])).is_some());
    assert!(
        why(Some(&lines(&run_of("two", "7.3.4", &[])))).expect("a reason").contains("of the host \"two\"")
    );
}

#[test]
fn a_matrix_does_not_name_paths_outside_of_its_folder() {
    let of =
        |json: Vec<u8>| load_one(folder(&[("matrix.json", &json)]).path()).expect_err("refused").to_string();
    let named = |host: &str, kernel: &str| of(matrix_json(&[(host, kernel, json!({ "exited": 0 }))]));
    for bad in ["..", "../x", "a/b", "", ".a", "a b", "é"] {
        assert!(named(bad, "newest").contains("is not the name"), "{bad}");
        assert!(named("one", bad).contains("is not the name"), "{bad}");
    }
    let twice = ("one", "newest", json!("not-run"));
    assert!(of(matrix_json(&[twice.clone(), twice])).contains("a second cell of one@newest"));
    assert!(of(matrix_json(&[])).contains("no cell"));
    assert!(of(b"{\"version\":2}".to_vec()).contains("has version 2"));
    assert!(of(b"{\"version\":1}".to_vec()).contains("missing field"));
}

#[test]
fn a_torn_file_is_a_cell_that_did_not_report_and_a_missing_one_is_an_error() {
    let all = lines(&run());
    let directory = folder(&[("a.jsonl", &all), ("b.jsonl", &all[..100]), ("c.txt", b"")]);
    let cells = load_one(directory.path()).expect("results");
    let silence: Vec<Option<&str>> = cells.iter().map(Cell::silence).collect();
    assert!(matches!(silence[..], [None, Some(_)]), "{silence:?}");
    assert_eq!(cells[1].name(), "b");
    assert!(matches!(load_one(&directory.path().join("d.jsonl")), Err(Error::File { .. })));
    assert!(matches!(load_one(folder(&[]).path()), Err(Error::Empty(_))));
}

/// A matrix of a host that died with the third of five cases, and one that is as it should be.
fn dead() -> Vec<Cell> {
    let all = String::from_utf8(lines(&run_of("one", "7.3.4", &[]))).expect("JSON");
    let begun: String = all.split_inclusive('\n').take(3).collect();
    let directory = folder(&[
        (
            "matrix.json",
            &matrix_json(&[
                ("one", "newest", json!({ "kernel-panic": "Oops" })),
                ("two", "newest", json!({ "exited": 1 })),
            ]),
        ),
        ("one@newest/stdout", format!("{begun}{{\"record\":\"ca").as_bytes()),
        ("two@newest/stdout", &lines(&run_of("two", "7.3.4", &[]))),
    ]);
    load_one(directory.path()).expect("a matrix")
}

#[test]
fn a_host_that_died_has_what_ended_in_each_form_and_an_error() {
    let cells = dead();
    let why = "kernel panic: Oops; the run did not end: there are 2 of 5 results, the last of s.b; \
               3 are missing, the first of them s.c";
    assert_eq!(cells.iter().map(Cell::silence).collect::<Vec<_>>(), [Some(why), None]);
    let text = text(&cells);
    assert!(text.contains("one@newest      1     1     0     0     0\n"), "{text}");
    assert!(text.contains(&format!("one@newest  DID NOT END: {why}\n")), "{text}");
    let tap = tap_of(&cells);
    assert!(
        tap.contains(&format!("\n  Bail out! {why}\n")) && tap.contains("\nnot ok 1 one@newest\n"),
        "{tap}"
    );
    let junit = junit_of(&cells);
    let parsed = quick_junit::Report::deserialize_from_str(&junit).expect("its own");
    assert_eq!((parsed.tests, parsed.failures, parsed.errors, parsed.skipped), (2 + 1 + 5, 2, 1, 2));
    assert!(junit.contains(&format!("<error message=\"{why}\" type=\"no results\"/>")), "{junit}");
    let document = kcidb_of(&cells);
    let statuses: Vec<_> =
        document["tests"].as_array().expect("a list").iter().map(|test| &test["status"]).collect();
    assert_eq!(statuses[..3], ["PASS", "FAIL", "MISS"]);
    let page = page(&cells, None);
    assert!(page.contains("did not end") && page.contains(why), "{page}");
    let old = cells_of(&[run_of("one", "7.3.4", &[])]);
    let diff = Diff::new(&old, &cells[..1]);
    assert!(!diff.is_good() && diff.lost[0].why == why, "{diff}");
    assert!(diff.newly_failing.is_empty(), "{diff}");
}

#[test]
fn runs_of_the_same_host_and_kernel_are_told_apart() {
    let cells = cells_of(&[run_of("one", "7", &[]), run_of("one", "6", &[]), run_of("one", "7", &[])]);
    let names: Vec<String> = cells.iter().map(Cell::name).collect();
    assert_eq!(names, ["one@7", "one@6", "one@7 #2"]);
}

#[test]
fn two_builds_of_one_release_are_two_kernels() {
    let build = |sha256: &str| {
        let mut run = run_of("one", "7", &[]);
        run.begin.host.build.sha256 = Some(sha256.repeat(8));
        run
    };
    let cells = cells_of(&[build("0123abcd"), build("4567abcd"), run_of("two", "6", &[])]);
    let names: Vec<String> = cells.iter().map(Cell::name).collect();
    assert_eq!(names, ["one@7-0123abcd", "one@7-4567abcd", "two@6"]);
    let document = kcidb_of(&cells);
    let of = |kind: &str, place: usize| document[kind][place]["id"].as_str().expect("an id").to_owned();
    assert_eq!(
        (of("builds", 1), of("builds", 2)),
        ("ci:kernel:7:0123abcd".into(), "ci:kernel:7:4567abcd".into())
    );
    assert_eq!(of("tests", 0), "ci:one@7-0123abcd:0123abcd:1800000000:s.a");
    let diff = diff_of(&[build("0123abcd")], &[build("4567abcd")]).to_string();
    let compared =
        "compared: one@7 (7, linux v7.3-2-g0123456789ab with series.mbox, image 0123abcd → 7, linux";
    assert!(diff.starts_with(compared), "{diff}");
}

#[test]
fn a_cell_with_whole_results_whose_command_did_not_end_well_is_an_error() {
    let cells = matrix_json(&[("one", "newest", json!({ "deadline": 600 }))]);
    let all = lines(&run_of("one", "7.3.4", &[]));
    let cells =
        load_one(folder(&[("matrix.json", &cells), ("one@newest/stdout", &all)]).path()).expect("a matrix");
    assert_eq!(cells[0].silence(), Some("its command did not end within 600 s"));
    assert_eq!(cells[0].run().map(|run| run.cases.len()), Some(5));
}

#[test]
fn no_two_runs_share_an_id_in_kcidb() {
    let with = |id: char| {
        let mut run = run_of("one", "7", &[]);
        run.begin.id = Some(id.to_string().repeat(32));
        run
    };
    let ids = |document: &Value| -> Vec<String> {
        let tests = document["tests"].as_array().expect("a list");
        tests.iter().map(|test| test["id"].as_str().expect("an id").to_owned()).collect()
    };
    let of = |run: Run| ids(&kcidb_of(&cells_of(&[run])));
    let (one, other) = (of(with('a')), of(with('b')));
    assert!(one.iter().all(|id| !other.contains(id)), "on two hosts of one kind, in the same second");
    assert_eq!(one[0], format!("ci:{}:s.a", "a".repeat(32)));
    assert_eq!(one, of(with('a')), "the same results are the same tests");
    let silent = |silent: &str| {
        ids(&kcidb(&matrix()[3..], &Ids { origin: "ci".into(), silent: silent.into(), build: None })
            .expect("a document"))
    };
    assert_eq!((silent("1"), silent("2")), (vec!["ci:two@trixie:1".into()], vec!["ci:two@trixie:2".into()]));
}

#[test]
fn a_lab_posts_nested_tests_to_kernelci() {
    let document = pull_labs(&cells_of(&[run()])).expect("JSON");
    assert_eq!(document["summary"], json!({ "total": 5, "failed": 1 }));
    assert_eq!(document["metadata"]["system"], "neoverse-v1@7.3.4");
    let suite = &document["tests"]["dfr0"]["subtests"]["s"];
    assert_eq!((&document["tests"]["dfr0"]["status"], &suite["status"]), (&json!("fail"), &json!("fail")));
    let statuses = ["a", "b", "c", "d", "e"].map(|case| suite["subtests"][case]["status"].clone());
    assert_eq!(statuses, ["pass", "fail", "skip", "pass", "pass"]);
    assert_eq!(suite["subtests"]["a"]["duration_ms"], 7);
    assert!(document["artifacts"]["log"].as_str().expect("a log").contains("\nnot ok 2 s.b # observed exec"));
    let status = |cells: &[Cell]| {
        let tests = pull_labs(cells).expect("JSON")["tests"]["dfr0"].clone();
        (tests["status"].clone(), tests["subtests"]["all_reported"]["status"].clone())
    };
    assert_eq!(
        status(&dead()[..1]),
        (json!("fail"), json!("error")),
        "a host that died is not the lab's error"
    );
    assert_eq!(status(&matrix()[1..2]), (json!("error"), json!("error")));
    assert_eq!(status(&matrix()[2..3]), (json!("skip"), json!("skip")));
    let mut broken = run_of("one", "7", &[("s.d", Outcome::Pass)]);
    broken.cases[1].findings.clear();
    broken.cases[1].stopped =
        Some(crate::results::Stopped { how: crate::results::How::Broken, why: "no memory".into() });
    let tests = pull_labs(&cells_of(&[broken])).expect("JSON")["tests"]["dfr0"].clone();
    let suite = &tests["subtests"]["s"];
    assert_eq!((&suite["subtests"]["b"]["status"], &suite["status"]), (&json!("error"), &json!("fail")));
    assert_eq!(tests["status"], "fail", "KernelCI takes a job of errors alone for its lab's");
    let several = pull_labs(&matrix()).expect("JSON");
    assert_eq!(several["tests"]["dfr0"]["subtests"]["one_newest"]["subtests"]["s"]["status"], "fail");
}

#[test]
fn signals_of_several_hosts_have_the_names_of_the_hosts() {
    let signals = |cells: &[Cell]| {
        let mut out = Vec::new();
        lava(cells, &mut out).expect("a vector");
        let text = String::from_utf8(out).expect("text");
        let signals = text.lines().filter(|line| !line.starts_with("# "));
        signals.map(|line| line.trim_start_matches("<LAVA_SIGNAL_").to_owned()).collect::<Vec<_>>()
    };
    let several = signals(&dead());
    assert_eq!(
        several[..2],
        ["TESTSET START one_newest.s>", "TESTCASE TEST_CASE_ID=one_newest.s.a RESULT=pass>"]
    );
    assert!(several.contains(&"TESTCASE TEST_CASE_ID=two_newest.s.e RESULT=pass>".into()), "{several:?}");
    assert_eq!(several.last().expect("a test"), "TESTCASE TEST_CASE_ID=all-reported RESULT=fail>");
    let mut printed = Vec::new();
    let mut writer = crate::lava::Lava::new(&mut printed);
    run().records().try_for_each(|record| writer.write(&record)).expect("a vector");
    let mut one = Vec::new();
    lava(&cells_of(&[run()]), &mut one).expect("a vector");
    assert_eq!(one, printed, "one run is as it was printed");
    assert_eq!(signals(&matrix()[2..3]), ["TESTCASE TEST_CASE_ID=all-reported RESULT=skip>"]);
}

#[test]
fn a_case_that_fails_on_both_sides_may_fail_otherwise() {
    let mut new = run_of("one", "7", &[]);
    let failing = new.cases.iter_mut().find(|case| case.name == "s.b").expect("a case");
    failing.findings[0].observed = "exec marker 2: no event".into();
    failing.deviations.clear();
    let diff = diff_of(&[run_of("one", "7", &[])], std::slice::from_ref(&new));
    assert_eq!((names(&diff.failing_anew), diff.is_good()), (vec!["one@7 s.b".into()], false));
    assert_eq!(diff.failing_anew[0].observed, ["exec marker 2: no event"]);
    let text = diff.to_string();
    assert!(
        text.contains("fails otherwise: s.b\n  one@7: fail → fail\n    observed: exec marker 2: no event\n"),
        "{text}"
    );
    assert!(text.contains("other known deviations: s.b\n  one@7:\n    no longer seen: n\n"), "{text}");
    assert!(diff_of(std::slice::from_ref(&new), &[new.clone()]).is_good(), "nothing changed");
}

#[test]
fn a_page_of_a_difference_has_old_and_new_beside_each_other() {
    let (old, new) =
        ([run_of("one", "7", &[("s.b", Outcome::Pass)])], [run_of("one", "7", &[("s.a", Outcome::Xfail)])]);
    let (old, new) = (cells_of(&old), cells_of(&new));
    let page = beside(&Diff::new(&old, &new), &old, &new);
    for part in [
        "Worse",
        "1 case newly failing",
        "OLD: pass",
        "NEW: fail",
        "exec marker 1: no event",
        "image 5f3a90c1",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let same = beside(&Diff::new(&old, &old), &old, &old);
    assert!(same.contains("The same"), "{same}");
}

#[test]
fn a_host_without_a_name_is_its_cpu_and_platform() {
    let mut real = run();
    real.begin.lab_host = None;
    assert_eq!(cells_of(&[real.clone()])[0].name(), "Neoverse V1 on linux,dummy-virt@7.3.4");
    real.begin.host.midr = 0x610f_0000;
    real.begin.host.kernel = None;
    assert_eq!(cells_of(&[real])[0].name(), "MIDR_EL1 0x610f0000 on linux,dummy-virt@bare");
}

#[test]
fn a_terminal_gets_totals_and_what_fails() {
    let text = text(&matrix());
    assert!(text.contains("one@newest      1     1     1     1     1\n"), "{text}");
    assert!(text.contains("one@trixie  DID NOT REPORT: its command did not end within 600 s\n"), "{text}");
    assert!(text.contains("two@newest  skipped: no KVM\n"), "{text}");
    assert!(text.contains("FAIL s.b: one@newest\n"), "{text}");
    let evil = Cell { host: "\x1b[2J\n".into(), ..matrix().remove(0) };
    assert!(!super::text(&[evil]).contains('\x1b'));
}

#[test]
fn junit_has_each_result_and_each_silence() {
    let xml = junit_of(&matrix());
    let parsed = quick_junit::Report::deserialize_from_str(&xml).expect("its own");
    assert_eq!((parsed.tests, parsed.failures, parsed.errors, parsed.skipped), (8, 1, 2, 3));
    let suites: Vec<&str> = parsed.test_suites.iter().map(|suite| suite.name.as_str()).collect();
    assert_eq!(suites, ["one@newest.s", "one@trixie.dfr0", "two@newest.dfr0", "two@trixie.dfr0"]);
    for part in [
        "<failure message=\"exec marker 1: no event\" type=\"fail\">s.b: IT_DOES: It does (DDI 0487K.a D2.8)\n",
        "  operation 1: exec marker 1: no event\n",
        "<skipped message=\"no watchpoint\" type=\"skip\">",
        "<skipped message=\"known deviation: n\" type=\"xfail\">",
        "<error message=\"its command did not end within 600 s\" type=\"no results\"/>",
        "<property name=\"kernel\" value=\"Linux 7.3.4\"/>",
    ] {
        assert!(xml.contains(part), "{part}\n{xml}");
    }
    let mut strict = run();
    strict.begin.strict = true;
    assert!(junit_of(&cells_of(&[strict])).contains("message=\"no longer seen: n\" type=\"xpass\""));
}

#[test]
fn a_case_that_says_nothing_of_the_host_is_an_error_and_a_dead_guest_a_failure() {
    use crate::results::{How, Stopped};
    let with = |how| {
        let mut run = run();
        run.cases[1].findings.clear();
        run.cases[1].stopped = Some(Stopped { how, why: "it hung".into() });
        cells_of(&[run])
    };
    assert!(junit_of(&with(How::Broken)).contains("<error message=\"it hung\" type=\"broken\">"));
    assert!(junit_of(&with(How::Died)).contains("<failure message=\"it hung\" type=\"fail\">"));
    let status = |cells: &[Cell]| kcidb_of(cells)["tests"][1]["status"].clone();
    assert_eq!([status(&with(How::Broken)), status(&with(How::Died))], ["ERROR", "FAIL"]);
}

#[test]
fn kcidb_has_a_test_for_each_result_and_an_incident_for_each_deviation() {
    let document = kcidb_of(&matrix());
    let all = |kind: &str, key: &str| -> Vec<String> {
        let all = document[kind].as_array().expect("a list");
        all.iter().map(|one| one[key].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(all("tests", "status"), ["PASS", "FAIL", "SKIP", "FAIL", "PASS", "MISS", "SKIP", "MISS"]);
    assert_eq!(all("tests", "path")[..2], ["dfr0.s.a", "dfr0.s.b"]);
    assert_eq!(all("builds", "id"), ["ci:kernel:7.3.4:5f3a90c1", "ci:kernel:trixie"]);
    assert_eq!(all("issues", "id"), ["ci:deviation:n"]);
    assert_eq!(document["issues"][0]["version"], 100, "0.1.0");
    let present: Vec<&Value> =
        document["incidents"].as_array().expect("a list").iter().map(|one| &one["present"]).collect();
    assert_eq!(present, [true, true, false], "a known deviation beside a new one is an incident too");
    let mut ids = all("tests", "id");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 8);
    assert_eq!(document["tests"][0]["start_time"], "2027-01-15T08:00:00Z");
    assert_eq!(document["tests"][0]["environment"]["compatible"], json!(["linux,dummy-virt"]));
}

#[test]
fn a_build_that_kcidb_has_is_one_kernel() {
    let ids = Ids { origin: "ci".into(), silent: "f00d".into(), build: Some("maestro:1".into()) };
    let one = kcidb(&cells_of(&[run()]), &ids).expect("a document");
    assert_eq!((&one["tests"][0]["build_id"], &one["builds"]), (&json!("maestro:1"), &Value::Null));
    let two = kcidb(&cells_of(&[run_of("a", "6", &[]), run_of("a", "7", &[])]), &ids);
    assert!(two.expect_err("two kernels").contains("of 6:5f3a90c1, 7:5f3a90c1"));
}

#[test]
fn a_page_shows_the_verdict_each_cell_and_each_case() {
    let page = page(&matrix(), None);
    for part in [
        "<title>Failed: 1 case fails in 1 of 4 runs; 2 of 4 runs did not report – dfr0</title>",
        "the CPU of every host that reported is QEMU's and not silicon",
        "did not report</strong>: <bdi>its command did not end within 600 s</bdi>",
        "id=\"case-s.b\"",
        "<li class=\"departs\" value=\"1\">",
        "id=\"deviation-n\"",
        "sys_regs.c",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let good = run_of("one", "7", &[("s.b", Outcome::Pass)]);
    assert!(
        super::page(&cells_of(&[good]), None)
            .contains("<title>Passed: nothing but 1 known deviation on 1 host")
    );
}

#[test]
fn a_page_has_the_command_and_the_end_of_the_kernels_log() {
    let whole = lines(&run_of("one", "7.3.4", &[]));
    let long = format!("old\n{}\n<b>panic</b>\u{1b}[2J\n", "x".repeat(40 << 10));
    let log = |files: &[(&str, &[u8])]| {
        let directory = folder(files);
        let cells = load_one(&directory.path().join(files[0].0)).expect("results");
        (page(&cells, None), cells[0].log.clone())
    };
    let (page, kept) = log(&[("results.jsonl", &whole), ("kernel.log", long.as_bytes())]);
    assert_eq!(kept.as_deref(), Some("<b>panic</b>\u{1b}[2J\n"), "whole lines of its end");
    assert!(page.contains("The end of the kernel&#39;s log") || page.contains("The end of the kernel's log"));
    assert!(page.contains("&lt;b&gt;panic&lt;/b&gt;") && !page.contains('\u{1b}'));
    assert!(page.contains("<bdi>./dfr0 run --results - s</bdi>"), "{page}");
    assert_eq!(log(&[("results.jsonl", &whole), ("kernel.log", b"")]).1, None);
    assert_eq!(log(&[("another.jsonl", &whole), ("kernel.log", b"of another")]).1, None);
    let cell = [("one", "newest", json!({ "exited": 0 }))];
    let matrix = [
        ("matrix.json", &matrix_json(&cell)[..]),
        ("one@newest/stdout", &whole),
        ("one@newest/kernel.log", b"booted\n"),
    ];
    let cells = load_one(folder(&matrix).path()).expect("a matrix");
    assert_eq!(cells[0].log.as_deref(), Some("booted\n"));
}

#[test]
fn text_from_outside_stays_text_on_the_page() {
    const EVIL: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&lt;";
    let mut value: Vec<Value> = String::from_utf8(lines(&run()))
        .expect("JSON")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    fn poison(value: &mut Value, key: &str) {
        const KEPT: [&str; 11] = [
            "record",
            "format",
            "id",
            "plan",
            "name",
            "outcome",
            "midr",
            "id_aa64dfr0",
            "writable",
            "seed",
            "how",
        ];
        match value {
            Value::String(text) if !KEPT.contains(&key) => *text = EVIL.into(),
            Value::Array(all) => all.iter_mut().for_each(|one| poison(one, key)),
            Value::Object(all) => all.iter_mut().for_each(|(key, one)| {
                poison(one, key);
                if key == "deviations" {
                    one.as_array_mut().into_iter().flatten().for_each(|one| one["name"] = EVIL.into());
                }
            }),
            _ => {}
        }
    }
    value.iter_mut().for_each(|line| poison(line, ""));
    let text: String = value.iter().map(|line| format!("{line}\n")).collect();
    let directory = folder(&[("a.jsonl", text.as_bytes()), ("<script>alert(2)</script>.jsonl", b"torn")]);
    let cells = load_one(directory.path()).expect("results");
    assert!(cells.iter().any(|cell| cell.run().is_some_and(|run| run.cases[1].rule.says == EVIL)));
    let page = page(&cells, None);
    assert_eq!(page.matches("<script").count(), 1, "its own");
    assert!(!page.contains("<img") && page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(!page.contains("\"'>") && !page.contains("=\"'"), "no attribute is left");
    let xml = junit_of(&cells);
    assert!(!xml.contains("<script") && quick_junit::Report::deserialize_from_str(&xml).is_ok());
}

fn diff_of(old: &[Run], new: &[Run]) -> Diff {
    Diff::new(&cells_of(old), &cells_of(new))
}

fn names(changes: &[diff::Change]) -> Vec<String> {
    changes.iter().map(|change| format!("{} {}", change.cell, change.case)).collect()
}

#[test]
fn a_difference_names_each_case_by_its_change() {
    use Outcome::{Fail, Pass, Skip, Xfail, Xpass};
    let all = ["s.a", "s.b", "s.c", "s.d", "s.e"];
    let with = |outcomes: [Outcome; 5], more: &str| {
        let mut outcomes: Vec<(&str, Outcome)> = all.into_iter().zip(outcomes).collect();
        outcomes.push((more, Pass));
        run_of("one", "7", &outcomes)
    };
    let diff = diff_of(
        &[with([Pass, Fail, Pass, Pass, Xfail], "s.old")],
        &[with([Fail, Pass, Skip, Xfail, Xpass], "s.new")],
    );
    assert_eq!(names(&diff.newly_failing), ["one@7 s.a"]);
    assert_eq!(names(&diff.newly_passing), ["one@7 s.b"]);
    assert_eq!(names(&diff.newly_skipped), ["one@7 s.c"]);
    assert_eq!(names(&diff.newly_xfail), ["one@7 s.d"]);
    assert_eq!(names(&diff.newly_xpass), ["one@7 s.e"]);
    assert_eq!(
        (names(&diff.gone), names(&diff.added)),
        (vec!["one@7 s.old".into()], vec!["one@7 s.new".into()])
    );
    assert!(!diff.is_good() && diff.flaky.is_empty());
    assert!(diff.to_string().contains("newly failing: s.a\n  one@7: pass → fail\n"), "{diff}");
    assert!(
        diff.to_string().ends_with(
            "REGRESSION: 1 host compared, 1 case newly failing, 1 case newly passing, 1 case newly a known \
                 deviation, 1 case whose known deviation is gone\n"
        ),
        "{diff}"
    );
    let same = diff_of(&[with([Fail; 5], "s.f")], &[with([Fail; 5], "s.f")]);
    assert!(same.is_good(), "what failed before may still fail: {same}");
    let kernel = "7, linux v7.3-2-g0123456789ab with series.mbox, image 5f3a90c1";
    assert_eq!(same.to_string(), format!("compared: one@7 ({kernel})\nno regression: 1 host compared\n"));
}

#[test]
fn a_new_case_that_fails_is_newly_failing() {
    let diff = diff_of(&[run_of("one", "7", &[])], &[run_of("one", "7", &[("s.new", Outcome::Fail)])]);
    assert_eq!(
        (names(&diff.newly_failing), names(&diff.added)),
        (vec!["one@7 s.new".into()], vec!["one@7 s.new".into()])
    );
    assert!(!diff.is_good());
}

#[test]
fn runs_that_disagree_are_flaky_and_fail_if_one_does() {
    let of = |outcome| run_of("one", "7", &[("s.a", outcome)]);
    let (pass, fail) = (of(Outcome::Pass), of(Outcome::Fail));
    let new = diff_of(std::slice::from_ref(&pass), &[pass.clone(), fail.clone()]);
    assert_eq!(
        (names(&new.flaky), names(&new.newly_failing)),
        (vec!["one@7 s.a".into()], vec!["one@7 s.a".into()])
    );
    let old = diff_of(&[pass.clone(), fail.clone()], &[fail]);
    assert_eq!((names(&old.flaky), names(&old.newly_failing)), (vec!["one@7 s.a".into()], vec![]));
    assert!(diff_of(std::slice::from_ref(&pass), &[pass.clone(), pass.clone()]).flaky.is_empty());
}

#[test]
fn a_strict_run_fails_for_a_deviation_that_is_gone() {
    let mut strict = run_of("one", "7", &[]);
    strict.begin.strict = true;
    let diff = diff_of(&[run_of("one", "7", &[])], &[strict]);
    assert_eq!(names(&diff.newly_failing), ["one@7 s.e"]);
}

#[test]
fn hosts_are_compared_and_kernels_only_where_there_are_several() {
    let pairs = |old: &[(&str, &str)], new: &[(&str, &str)]| {
        let runs = |all: &[(&str, &str)]| -> Vec<Run> {
            all.iter().map(|(host, release)| run_of(host, release, &[])).collect()
        };
        let diff = diff_of(&runs(old), &runs(new));
        let pairs: Vec<String> =
            diff.compared.iter().map(|pair| format!("{} {}", pair.old, pair.new)).collect();
        let lost: Vec<String> = diff.lost.iter().map(|lost| lost.cell.clone()).collect();
        (pairs.join(", "), lost.join(", "), diff.only_new.join(", "))
    };
    let is = |pairs: &str, lost: &str, new: &str| (pairs.to_owned(), lost.to_owned(), new.to_owned());
    assert_eq!(pairs(&[("a", "6.12.1")], &[("a", "7.3.4")]), is("a@6.12.1 a@7.3.4", "", ""));
    assert_eq!(
        pairs(&[("a", "6.12.1"), ("a", "7.3.4")], &[("a", "7.3.5"), ("a", "6.12.2")]),
        is("a@6.12.1 a@6.12.2, a@7.3.4 a@7.3.5", "", "")
    );
    assert_eq!(
        pairs(&[("a", "6.1.1"), ("a", "6.12.1")], &[("a", "6.12.1"), ("a", "7.3.4")]),
        is("a@6.1.1 a@7.3.4, a@6.12.1 a@6.12.1", "", "")
    );
    assert_eq!(
        pairs(&[("a", "6.1.1"), ("a", "6.12.1")], &[("a", "6.12.1")]),
        is("a@6.12.1 a@6.12.1", "a@6.1.1", "")
    );
    assert_eq!(
        pairs(&[("a", "7.1"), ("b", "7.1")], &[("a", "7.1"), ("c", "7.1")]),
        is("a@7.1 a@7.1", "b@7.1", "c@7.1")
    );
    assert_eq!(
        pairs(&[("a", "6.1.1"), ("a", "6.2.1")], &[("a", "7.1.1"), ("a", "7.2.1")]),
        is("", "a@6.1.1, a@6.2.1", "a@7.1.1, a@7.2.1"),
        "the kernels cannot be paired"
    );
}

#[test]
fn a_host_that_no_longer_reports_is_a_regression() {
    let cells = |torn: bool| {
        let (one, two) = (lines(&run_of("one", "7.3.4", &[])), lines(&run_of("two", "7.3.4", &[])));
        let exited = json!({ "exited": 1 });
        let json = matrix_json(&[("one", "newest", exited.clone()), ("two", "newest", exited)]);
        let two = if torn { &two[..100] } else { &two };
        let files: [(&str, &[u8]); 3] =
            [("matrix.json", &json), ("one@newest/stdout", &one), ("two@newest/stdout", two)];
        load_one(folder(&files).path()).expect("a matrix")
    };
    let diff = Diff::new(&cells(false), &cells(true));
    assert!(!diff.is_good() && diff.newly_failing.is_empty());
    assert_eq!(diff.lost[0].cell, "two@newest");
    assert!(diff.to_string().contains("DID NOT REPORT in NEW: two@newest: "), "{diff}");
    assert!(Diff::new(&cells(true), &cells(true)).is_good(), "it did not report before either");
    let again = Diff::new(&cells(true), &cells(false));
    assert_eq!(
        (again.only_new.clone(), names(&again.newly_failing)),
        (vec!["two@newest".into()], vec!["two@newest s.b".into()])
    );
    assert!(!Diff::new(&[], &[]).is_good(), "nothing was compared");
}

#[test]
fn the_example_is_what_is_written() {
    const EXAMPLE: &str = include_str!("../../../docs/results.example.jsonl");
    let written = String::from_utf8(lines(&run())).expect("JSON");
    if std::env::var_os("DFR0_BLESS").is_some_and(|bless| bless == "1") {
        let path: PathBuf = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/results.example.jsonl").into();
        return fs::write(path, written).expect("docs/results.example.jsonl can be written");
    }
    assert_eq!(
        EXAMPLE, written,
        "docs/results.example.jsonl is not what is written: DFR0_BLESS=1 cargo test -p dfr0-runner --lib the_example rewrites it; \
         then bring docs/results.schema.json and docs/results.md up to date"
    );
}

/// The run of the tests, with this text wherever a host or a case says something.
fn saying(text: &str) -> Run {
    let mut run = run();
    run.begin.lab_host = None;
    run.begin.host.platform = text.into();
    for case in &mut run.cases {
        case.shown = text.into();
        case.findings.iter_mut().for_each(|finding| finding.observed = text.into());
        case.stopped.iter_mut().for_each(|stopped| stopped.why = text.into());
    }
    run
}

#[test]
fn no_form_passes_on_what_commands_a_terminal_or_turns_text_around() {
    let cells = cells_of(&[saying("\u{1b}[2J\u{9b}\u{202e}a\u{0}")]);
    let diff = Diff::new(&cells_of(&[run()]), &cells).to_string();
    let mut signals = Vec::new();
    lava(&cells, &mut signals).expect("a vector");
    let signals = String::from_utf8(signals).expect("text");
    let forms = [
        tap_of(&cells),
        junit_of(&cells),
        page(&cells, None),
        text(&cells),
        diff,
        kcidb_of(&cells).to_string().replace(r"\\u{", r"\u{"),
        pull_labs(&cells).expect("JSON").to_string().replace(r"\\u{", r"\u{"),
        signals,
    ];
    for form in forms {
        assert!(form.contains(r"\u{1b}[2J\u{9b}\u{202e}a\u{0}"), "{form}");
        assert!(!form.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{0}']), "{form}");
    }
}

#[test]
fn what_is_new_is_first_in_each_form_and_what_is_known_is_marked() {
    let cells = cells_of(&[run()]);
    let first = |form: &str, new: &str, known: &str| {
        let place = |part: &str| form.find(part).unwrap_or_else(|| panic!("{part}\n{form}"));
        assert!(place(new) < place(known), "{form}");
    };
    let (new, known) = ("observed: exec marker 1: no event", "  known: isb: no event (2 of 3 checks)");
    first(&tap_of(&cells), new, known);
    first(&junit_of(&cells), new, known);
    assert!(junit_of(&cells).contains("<failure message=\"exec marker 1: no event\""));
    let badge = "<bdi>isb: no event</bdi> <a class=\"badge\" href=\"#deviation-n\">known: n</a>";
    first(&page(&cells, None), "<h4>Observed: <bdi>exec marker 1: no event</bdi></h4>", badge);
    let diff = diff_of(&[run_of("one", "7", &[("s.b", Outcome::Pass)])], &[run_of("one", "7", &[])]);
    assert_eq!(diff.newly_failing[0].known, ["isb: no event"]);
    first(
        &diff.to_string(),
        "    observed: exec marker 1: no event\n",
        "    also seen, known: isb: no event\n",
    );
}

#[test]
fn a_page_says_a_rule_once_and_how_to_run_a_failed_case_again() {
    let page = page(&cells_of(&[run()]), None);
    let case = page
        .split_once("id=\"case-s.b\"")
        .and_then(|(_, rest)| rest.split_once("</details>"))
        .expect("a case")
        .0;
    assert_eq!(case.matches("DDI 0487K.a D2.8").count(), 1, "{case}");
    for command in ["<code>dfr0 run s.b</code>", "<code>dfr0 replay RESULTS s.b</code>"] {
        assert!(case.contains(command), "{case}");
    }
    let mut other = run();
    if let Some(crate::results::Detail::Scenario(departed)) = &mut other.cases[1].findings[0].detail {
        departed.mismatch.rule = "OTHER: It does not (DDI 0487K.a D1)".into();
    }
    assert!(super::page(&cells_of(&[other]), None).contains("OTHER: It does not"));
}
