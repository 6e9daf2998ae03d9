// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

use super::*;
use crate::{
    capabilities::Capabilities,
    host::{Build, Host},
};
use dfr0_model::{id_write::Writable, judge::Words};
use proptest::prelude::*;
use std::path::Path;

fn case(name: &str, outcome: Outcome) -> Case {
    Case {
        name: name.into(),
        rule: Why {
            name: Some("IT_DOES".into()),
            says: "It does".into(),
            section: "DDI 0487K.a D2.8".into(),
        },
        outcome,
        checks: 3,
        milliseconds: 7,
        findings: vec![],
        deviations: vec![],
        elsewhere: vec![],
        stopped: None,
        shown: String::new(),
    }
}

fn finding(detail: Option<Detail>) -> Finding {
    Finding { observed: "exec marker 1: no event".into(), times: 2, known: None, detail }
}

/// A case that failed with a scenario of these operations in a VM of this shape.
pub(crate) fn failed_in(shape: &str, operations: &[&str]) -> Case {
    let operations = operations.iter().map(ToString::to_string).collect();
    let departed = Departed { shape: shape.into(), operations, ..departed(0) };
    Case { findings: vec![finding(Some(departed.into()))], ..case("s.b", Outcome::Fail) }
}

fn departed(operations: usize) -> Departed {
    Departed {
        how: None,
        shape: "6 breakpoints".into(),
        undoing: false,
        operations: vec!["isb".into(); operations],
        mismatch: Words {
            place: 1,
            observed: "exec marker 1: no event".into(),
            seen: vec![],
            allowed: vec![vec!["Breakpoint exception".into()], vec![]],
            rule: "IT_DOES: It does (DDI 0487K.a D2.8)".into(),
        },
    }
}

/// A run of five cases, one of each outcome.
pub(crate) fn run() -> Run {
    let deviation = Deviation {
        name: "n".into(),
        whose: "KVM".into(),
        why: "w (DDI 0487K.a)".into(),
        source: "sys_regs.c".into(),
    };
    let cases = vec![
        case("s.a", Outcome::Pass),
        Case {
            findings: vec![
                finding(Some(departed(2).into())),
                finding(None),
                Finding {
                    observed: "isb: no event".into(),
                    known: Some("n".into()),
                    ..finding(Some(departed(2).into()))
                },
            ],
            deviations: vec![deviation.clone()],
            elsewhere: vec![Elsewhere { name: "m".into(), why: "since 7.4".into() }],
            ..case("s.b", Outcome::Fail)
        },
        Case {
            stopped: Some(Stopped { how: How::Skipped, why: "no watchpoint".into() }),
            ..case("s.c", Outcome::Skip)
        },
        Case {
            findings: vec![Finding {
                known: Some("n".into()),
                ..finding(Some(String::from("a value in full").into()))
            }],
            deviations: vec![deviation.clone()],
            ..case("s.d", Outcome::Xfail)
        },
        Case { deviations: vec![deviation], shown: "seed 7\n".into(), ..case("s.e", Outcome::Xpass) },
    ];
    let host = Host {
        kernel: Some("7.3.4".into()),
        build: Build {
            version: Some("#1 SMP PREEMPT".into()),
            sha256: Some("5f3a90c1".repeat(8)),
            source: Some("linux v7.3-2-g0123456789ab with series.mbox".into()),
        },
        platform: "linux,dummy-virt".into(),
        midr: 0x411f_d402,
        id_aa64dfr0: 0xf0_1030_5009,
        writable: Writable::Mask(0xf0_00f0_0f0f),
        lse: true,
        mode: None,
        capabilities: Capabilities { kvm_cap_guest_debug_hw_bps: 6, ..Capabilities::default() },
    };
    let begin = Begin {
        format: FORMAT.into(),
        version: VERSION,
        dfr0: "0.1.0".into(),
        started: 1_800_000_000,
        id: Some("0123456789abcdef".repeat(2)),
        command: ["./dfr0", "run", "--results", "-", "s"].map(ToOwned::to_owned).to_vec(),
        cases: cases.len(),
        plan: cases.iter().map(|case| case.name.clone()).collect(),
        strict: false,
        seed: u64::MAX,
        draws: 100,
        every: 1,
        thorough_minutes: None,
        lab_host: Some("neoverse-v1".into()),
        taints: false,
        cpus: None,
        host,
    };
    let totals = Totals { pass: 1, fail: 1, xfail: 1, xpass: 1, skip: 1 };
    Run { begin, cases, end: End { totals, checks: 15, stopped: None } }
}

fn lines(records: impl IntoIterator<Item = Record>) -> String {
    let mut out = Vec::new();
    records.into_iter().try_for_each(|record| Lines(&mut out).write(&record)).expect("a vector");
    String::from_utf8(out).expect("JSON")
}

fn problem(text: &str) -> String {
    read(text.as_bytes()).expect_err("wrong").to_string()
}

#[test]
fn what_is_written_is_read_back() {
    assert_eq!(read(lines(run().records()).as_bytes()).expect("its own"), Results::Run(run()));
    let none = Unavailable::because("no KVM".into());
    let text = lines([Record::Unavailable(none.clone())]);
    assert_eq!(read(text.as_bytes()).expect("its own"), Results::Unavailable(none));
    let bare = Host { kernel: None, writable: Writable::Unknown, ..run().begin.host };
    let bare = Run { begin: Begin { host: bare, ..run().begin }, ..run() };
    assert_eq!(read(lines(bare.records()).as_bytes()).expect("its own"), Results::Run(bare));
}

#[test]
fn a_failed_case_is_explained_by_its_rule_its_scenario_and_the_events() {
    let Run { cases, .. } = run();
    assert_eq!(
        cases[1].explained(),
        "s.b: IT_DOES: It does (DDI 0487K.a D2.8)\n\
         observed: exec marker 1: no event (2 of 3 checks)\n  \
           in a VM of 6 breakpoints:\n     0  isb\n     1  isb\n  \
           operation 1: exec marker 1: no event\n    \
             seen:    nothing\n    allowed: Breakpoint exception\n    or:      nothing\n    \
             rule:    IT_DOES: It does (DDI 0487K.a D2.8)\n\
         observed: exec marker 1: no event (2 of 3 checks)\n\
         also seen: known deviation n of KVM\n  known: isb: no event (2 of 3 checks)\n\
         known deviation m does not apply here: since 7.4\n\
         run the case again: dfr0 run s.b\n\
         replay its first scenario: dfr0 replay FILE s.b\n"
    );
    assert_eq!(cases[0].explained(), "");
    assert_eq!(cases[2].explained(), "s.c: no watchpoint\n");
    assert_eq!(
        cases[3].explained(),
        "s.d: known deviation n of KVM\n  why: w (DDI 0487K.a)\n  source: sys_regs.c\n  observed: exec marker 1: no event\n"
    );
    assert_eq!(cases[4].explained(), "seed 7\ns.e: no longer seen: n\n");
}

#[test]
fn a_long_scenario_is_listed_whole() {
    let listed = |operations| {
        departed(operations).to_string().lines().count() - departed(0).to_string().lines().count()
    };
    assert_eq!([listed(2), listed(100)], [2, 100], "`dfr0 replay` reads it");
}

fn part(text: &str) -> Part {
    match read(text.as_bytes()).expect("the start of a run") {
        Results::Part(part) => part,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_run_without_its_end_has_what_ended_and_says_how_far_it_came() {
    let text = lines(run().records());
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    assert!(problem("").contains("these are not results of dfr0"));
    for kept in 1..lines.len() {
        // The host may have died in the middle of a line, unless that is whole.
        for torn in [0, lines[kept].len() / 2] {
            let part = part(&format!("{}{}", lines[..kept].concat(), &lines[kept][..torn]));
            let Run { cases, end, .. } = &part.run;
            assert_eq!(cases[..], run().cases[..kept - 1]);
            assert_eq!((end.totals.ran() + end.totals.skip, end.checks), (kept - 1, 3 * (kept - 1)));
            let missing: Vec<String> = part.run.missing().map(ToOwned::to_owned).collect();
            assert_eq!(missing, run().begin.plan[kept - 1..]);
        }
    }
    assert_eq!(
        part(&lines[..3].concat()).why(),
        "the run did not end: there are 2 of 5 results, the last of s.b; 3 are missing, the first of them s.c"
    );
    assert_eq!(
        part(lines[0]).why(),
        "the run did not end: there are 0 of 5 results, the last of none; 5 are missing, the first of them s.a"
    );
    assert!(problem(&format!("{}{}\n{}", lines[0], &lines[1][..30], lines[2])).starts_with("line 2: "));
}

#[test]
fn a_run_that_was_to_stop_at_a_failure_says_so() {
    let mut run = run();
    run.cases.truncate(2);
    run.end = End { stopped: Some("s.b failed".into()), ..End::default() };
    run.cases.iter().for_each(|case| run.end.count(case));
    let part = part(&lines(run.records()));
    assert!(
        part.why().starts_with("the run did not end (s.b failed): there are 2 of 5 results"),
        "{}",
        part.why()
    );
    assert_eq!(part.run, run);
    let refused = Results::Part(part).whole().expect_err("it is not whole").to_string();
    assert!(refused.contains("did not end"), "{refused}");
}

#[test]
fn cases_are_written_when_they_end_and_read_in_the_order_of_the_plan() {
    let mut records: Vec<Record> = run().records().collect();
    records[1..6].rotate_left(2);
    assert_eq!(read(lines(records.clone()).as_bytes()).expect("a run"), Results::Run(run()));
    let part = part(&lines(records[..3].to_vec()));
    assert!(part.why().contains("the last of s.d; 3 are missing, the first of them s.a"), "{}", part.why());
}

#[test]
fn a_plan_is_not_trusted_either() {
    let of = |change: fn(&mut Begin)| {
        let mut run = run();
        change(&mut run.begin);
        read(lines(run.records()).as_bytes()).map_err(|problem| problem.to_string())
    };
    assert!(of(|begin| begin.plan[0] = "s.x".into()).expect_err("wrong").contains("s.a was not planned"));
    assert!(of(|begin| begin.plan[0] = "s.b".into()).expect_err("wrong").contains("s.b is planned twice"));
    assert!(of(|begin| begin.plan[0] = "../x".into()).expect_err("wrong").contains("is not the name"));
    assert!(of(|begin| drop(begin.plan.pop())).expect_err("wrong").contains("4 names of 5 planned cases"));
    assert!(of(|begin| begin.id = Some("x".repeat(32))).expect_err("wrong").contains("hexadecimal"));
    assert!(of(|begin| begin.id = None).is_ok(), "older results have no id");
    assert!(of(|begin| begin.plan.clear()).is_ok(), "older results have no plan");
}

#[test]
fn results_that_contradict_themselves_are_refused() {
    let Run { begin, mut cases, end } = run();
    let of = |run: Run| problem(&lines(run.records()));
    let totals = End { totals: Totals { pass: 2, fail: 0, ..end.totals }, ..end.clone() };
    assert!(of(Run { end: totals, ..run() }).contains("totals"));
    assert!(of(Run { end: End { checks: 14, ..end.clone() }, ..run() }).contains("checks"));
    assert!(of(Run { begin: Begin { cases: 6, plan: vec![], ..begin }, ..run() }).contains("5 results of 6"));
    cases[1].name = "s.a".into();
    assert!(of(Run { cases, ..run() }).contains("line 3: a second result of s.a"));
}

#[test]
fn strangers_other_versions_and_unknown_keys_are_named() {
    let text = lines(run().records());
    assert!(problem("TAP version 13\n1..5\n").contains("not results of dfr0"));
    assert!(problem(&text.replace("dfr0-results", "dfr1-results")).contains("not results of dfr0"));
    assert_eq!(
        problem(&text.replacen("\"version\":1", "\"version\":2", 1)),
        "the results have version 2; this dfr0 reads version 1"
    );
    assert!(problem(&text.replace("\"strict\"", "\"strikt\"")).starts_with("line 1: unknown field `strikt`"));
    assert!(
        problem(&text.replace("\"outcome\":\"fail\"", "\"outcome\":\"good\""))
            .starts_with("line 3: unknown variant `good`")
    );
    let end = text.lines().last().expect("an end");
    assert!(problem(&format!("{text}{end}\n")).contains("after the end"));
    let begin = text.lines().next().expect("a beginning");
    assert!(problem(&format!("{begin}\n{begin}\n")).contains("line 2: a second beginning"));
    assert!(matches!(read(vec![b' '; 5 << 20].as_slice()), Err(Problem::Long)));
}

#[test]
fn a_file_appears_with_the_first_record_and_has_each_that_was_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("r.jsonl");
    std::fs::write(&path, "as it was").expect("written");
    let entries = || std::fs::read_dir(directory.path()).expect("a directory").count();
    let text = lines(run().records());
    let mut written = File::create(&path).expect("a file");
    assert_eq!(std::fs::read(&path).expect("a file"), b"as it was");
    for (place, record) in run().records().enumerate() {
        written.write(&record).expect("written");
        let kept: String = text.split_inclusive('\n').take(place + 1).collect();
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), kept);
    }
    assert_eq!((load(&path).expect("its own"), entries()), (Results::Run(run()), 1));
    drop(File::create(&path));
    assert_eq!((load(&path).expect("as it was"), entries()), (Results::Run(run()), 1));
    assert!(File::create(Path::new("/nowhere/r.jsonl")).is_err());
}

proptest! {
    #[test]
    fn results_do_no_harm(bytes: Vec<u8>) {
        let _ = read(bytes.as_slice());
    }

    #[test]
    fn changed_results_do_no_harm(place: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut text = lines(run().records()).into_bytes();
        let place = place.index(text.len());
        text[place] = byte;
        let _ = read(text.as_slice());
        let _ = read(&text[..cut.index(text.len())]);
    }
}
