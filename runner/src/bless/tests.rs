// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

use super::*;
use crate::{
    case::Stop,
    diagnostic::{Diagnostic, Source},
    host::Host,
    results::{Finding, How, Stopped, tests::run},
};
use dfr0_model::rule;

/// A failed case that observed this.
fn failed(name: &str, observed: &[&str]) -> results::Case {
    let like = run().cases.swap_remove(1);
    assert_eq!(like.outcome, Outcome::Fail);
    let finding =
        |observed: &&str| Finding { observed: observed.to_string(), times: 1, known: None, detail: None };
    results::Case { name: name.into(), findings: observed.iter().map(finding).collect(), ..like }
}

fn with(cases: Vec<results::Case>) -> Run {
    Run { cases, ..run() }
}

fn all() -> Vec<Case> {
    let case = |name: &str| {
        let rule = if name.ends_with('d') { &rule::PRIORITY } else { &rule::BREAKPOINT_MATCHES };
        Case::new(name, rule, |_| Ok::<_, Stop>(()))
    };
    ["s.a", "s.b_c", "s.d", "v.s.a"].map(case).into()
}

fn known(text: &str) -> Result<Deviations, Diagnostic> {
    let names: Vec<String> = all().iter().map(|case| case.name.clone()).collect();
    Deviations::parse([Source { name: "f.toml".into(), text: text.into() }], &names)
}

fn drafts(cases: Vec<results::Case>, deviations: &Deviations) -> Drafts {
    Drafts::new(&with(cases), &all(), deviations).expect("known cases")
}

/// The text after the head.
fn entries(drafts: &Drafts) -> String {
    let text = drafts.to_string();
    text.split_once("\n\n").map_or(String::new(), |(_, entries)| entries.to_owned())
}

#[test]
fn a_draft_has_all_but_the_citation_and_does_not_load_without_it() {
    let new = drafts(vec![failed("s.a", &["x", "\"y\"\n"])], &Deviations::none());
    assert_eq!(
        entries(&new),
        format!(
            "# The rule that was tested: {}\n[[deviation]]\nname = \"s-a\"\ncases = [\"s.a\"]\nobserved = [\n    \
             \"\"\"\n\"y\"\n\"\"\",\n    \"x\",\n]\nwhy = \"\"\nsource = \"\"\n",
            rule::BREAKPOINT_MATCHES
        )
    );
    let text = new.to_string();
    assert!(text.contains(
        "\n# Seen on Linux 7.3.4, linux,dummy-virt, Neoverse V1 (MIDR_EL1 0x411fd402), 6 breakpoints"
    ));
    let refused = known(&text).expect_err("a draft").to_string();
    let line = text.lines().position(|line| line == "why = \"\"").expect("an empty citation") + 1;
    assert!(
        refused.starts_with("deviation \"s-a\" is a draft: a person has to read the rule and cite it here\n")
    );
    assert!(
        refused.contains(&format!(" --> f.toml:{line}:7\n")) && refused.contains("| why = \"\"\n"),
        "{refused}"
    );
    let cited = text.replace("why = \"\"", "why = \"It does (DDI 0487K.a D2.8)\"");
    let refused = known(&cited).expect_err("without a source").to_string();
    assert!(refused.starts_with("deviation \"s-a\" names no source\n"), "{refused}");
    let whole = known(&cited.replace("source = \"\"", "source = \"sys_regs.c\"")).expect("a whole entry");
    let found = |observed: &str| {
        let finding = crate::case::Finding { times: 1, detail: String::new().into() };
        let findings = [(observed.to_owned(), finding)].into();
        let report = crate::case::Report { findings, ..Default::default() };
        whole.outcome("s.a", &run().begin.host, &report).0
    };
    assert_eq!(found("\"y\"\n"), Outcome::Xfail);
    assert_eq!(found("z"), Outcome::Fail);
}

#[test]
fn cases_of_one_rule_that_observe_the_same_are_one_draft() {
    let cases = ["s.a", "s.b_c", "s.d"].map(|name| failed(name, &["x"]));
    let new = drafts(cases.into(), &Deviations::none());
    assert_eq!(new.count(), (2, 3));
    let text = entries(&new);
    assert!(text.contains("name = \"s-a\"\ncases = [\n    \"s.a\",\n    \"s.b_c\",\n]\n"), "{text}");
    assert!(text.contains("name = \"s-d\"\ncases = [\"s.d\"]\n"), "{text}");
    let apart = drafts(vec![failed("s.a", &["x"]), failed("s.b_c", &["x", "y"])], &Deviations::none());
    assert_eq!(apart.count(), (2, 2));
}

#[test]
fn what_a_case_shows_its_variations_are_forgiven_and_have_no_draft() {
    let both = drafts(vec![failed("s.a", &["x"]), failed("v.s.a", &["x"])], &Deviations::none());
    assert_eq!(both.count(), (1, 1));
    let more = drafts(vec![failed("s.a", &["x"]), failed("v.s.a", &["x", "y"])], &Deviations::none());
    assert!(entries(&more).contains("cases = [\"v.s.a\"]\nobserved = [\"y\"]\n"), "{more}");
    let alone = drafts(vec![failed("v.s.a", &["x"])], &Deviations::none());
    assert!(entries(&alone).contains("cases = [\"v.s.a\"]\n"));
}

#[test]
fn what_is_listed_is_not_drafted_and_what_is_listed_for_other_hosts_is_named() {
    const LISTED: &str = "[[deviation]]\nname = \"s-a\"\ncases = [\"s.a\"]\nobserved = [\"x\"]\nwhy = \"w (DDI 0487K.a D2.8)\"\nsource = \"k\"\n";
    let deviations = known(LISTED).expect("valid");
    let new = drafts(vec![failed("s.a", &["x", "y"])], &deviations);
    let text = entries(&new);
    assert!(text.contains("name = \"s-a-new\"\ncases = [\"s.a\"]\nobserved = [\"y\"]\n"), "{text}");
    let filled = new.to_string().replace("why = \"\"", "why = \"DDI 0487K.a D2.8\"");
    assert!(
        known(&format!("{LISTED}{}", filled.replace("source = \"\"", "source = \"k\""))).is_ok(),
        "they do not overlap"
    );
    let elsewhere = known(&format!("{LISTED}until = \"7.3\"\n")).expect("valid");
    let new = drafts(vec![failed("s.a", &["x"])], &elsewhere);
    assert_eq!(new.count(), (0, 0));
    assert_eq!(
        new.left,
        [
            "s.a: \"x\" is listed by s-a, which does not apply: it is seen until Linux 7.3, and this is 7.3.4; its \
             condition may be wrong"
        ]
    );
}

#[test]
fn a_case_that_did_not_run_to_its_end_has_no_draft_and_an_unknown_one_is_an_error() {
    let stopped = |how| Some(Stopped { how, why: "the guest is lost\nPC 0".into() });
    let died = results::Case { stopped: stopped(How::Died), ..failed("s.a", &["x"]) };
    let new = drafts(vec![died.clone()], &Deviations::none());
    assert_eq!(
        (new.count(), new.left),
        ((0, 0), vec!["s.a: it did not run to its end, which is never forgiven: the guest is lost".into()])
    );
    let skipped = results::Case { stopped: stopped(How::Skipped), ..died };
    assert_eq!(drafts(vec![skipped], &Deviations::none()).count(), (1, 1));
    let unknown = Drafts::new(&with(vec![failed("s.z\x1b", &["x"])]), &all(), &Deviations::none());
    assert_eq!(
        unknown.expect_err("unknown"),
        "the results are from another dfr0: this one has no case \"s.z\\u{1b}\""
    );
}

#[test]
fn on_a_bare_cpu_the_platform_departs() {
    let mut bare = with(vec![failed("s.a", &["x"])]);
    bare.begin.host = Host { kernel: None, platform: "q\n[x]".into(), ..bare.begin.host };
    let new = Drafts::new(&bare, &all(), &Deviations::none()).expect("a draft");
    assert!(new.to_string().contains("\n# Seen on a bare CPU, q [x], "), "{new}");
    assert!(entries(&new).contains("source = \"\"\nplatform = "), "{new}");
    let refused = known(&new.to_string()).expect_err("a draft").to_string();
    assert!(refused.contains(" is a draft: "), "{refused}");
}

#[test]
fn a_file_is_overwritten_only_with_force() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("d.toml");
    let new = drafts(vec![failed("s.a", &["x"])], &Deviations::none());
    std::fs::write(&path, "mine").expect("written");
    let refused = new.write(&path, false).expect_err("it exists").to_string();
    assert_eq!(refused, format!("{} exists already; --force overwrites it", path.display()));
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "mine");
    new.write(&path, true).expect("forced");
    assert_eq!(std::fs::read_to_string(&path).expect("read"), new.to_string());
    let files = std::fs::read_dir(directory.path()).expect("read").count();
    assert_eq!(files, 1, "nothing is left beside it");
    assert!(
        new.write(&directory.path().join("no/d.toml"), false)
            .is_err_and(|error| error.to_string().contains("cannot write"))
    );
}
