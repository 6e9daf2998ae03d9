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
        cases: cases.len(),
        strict: false,
        seed: u64::MAX,
        draws: 100,
        every: 1,
        thorough_minutes: None,
        lab_host: Some("neoverse-v1".into()),
        taints: false,
        host,
    };
    let totals = Totals { pass: 1, fail: 1, xfail: 1, xpass: 1, skip: 1 };
    Run { begin, cases, end: End { totals, checks: 15 } }
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

#[test]
fn a_run_without_its_end_is_refused_and_says_how_far_it_came() {
    let text = lines(run().records());
    let whole = text.lines().count();
    for kept in 0..whole {
        let part: String = text.lines().take(kept).map(|line| format!("{line}\n")).collect();
        let expected = match kept {
            0 => "these are not results of dfr0".into(),
            1 => "there are 0 of 5 results, the last of none".into(),
            _ => format!(
                "there are {} of 5 results, the last of s.{}",
                kept - 1,
                ["a", "b", "c", "d", "e"][kept - 2]
            ),
        };
        assert!(problem(&part).contains(&expected), "{kept}: {}", problem(&part));
    }
}

#[test]
fn results_that_contradict_themselves_are_refused() {
    let Run { begin, mut cases, end } = run();
    let of = |run: Run| problem(&lines(run.records()));
    let totals = End { totals: Totals { pass: 2, fail: 0, ..end.totals }, ..end };
    assert!(of(Run { end: totals, ..run() }).contains("totals"));
    assert!(of(Run { end: End { checks: 14, ..end }, ..run() }).contains("checks"));
    assert!(of(Run { begin: Begin { cases: 6, ..begin }, ..run() }).contains("5 results of 6"));
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
fn a_file_appears_when_the_run_has_ended_and_not_before() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("r.jsonl");
    let mut file = File::create(&path).expect("a file");
    for record in run().records() {
        assert!(!path.exists());
        file.write(&record).expect("written");
    }
    assert_eq!(load(&path).expect("its own"), Results::Run(run()));
    let left = std::fs::read_dir(directory.path()).expect("a directory").count();
    assert_eq!(left, 1);
    drop(File::create(&path));
    assert_eq!(load(&path).expect("as it was"), Results::Run(run()));
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
