// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

use super::*;
use crate::case::Stop;
use crate::{capabilities::Capabilities, case::Finding, mode::Mode};
use dfr0_model::id_write::Writable;
use proptest::{collection::vec, prelude::*, sample::Index};

const ENTRY: &str = r#"[[deviation]]
name = "n"
cases = ["s.a"]
observed = ["x", "y"]
why = "w (DDI 0487K.a OSDLR_EL1)"
source = "k"
"#;

fn cases() -> Vec<String> {
    ["s.a", "s.b", "v.s.a"].map(String::from).into()
}

fn parse_all(files: &[(&str, &str)]) -> Result<Deviations, Diagnostic> {
    let source = |(name, text): &(&str, &str)| Source { name: name.to_string(), text: text.to_string() };
    Deviations::parse(files.iter().map(source), &cases())
}

fn parse(text: &str) -> Result<Deviations, Diagnostic> {
    parse_all(&[("f.toml", text)])
}

fn host(writable: Writable) -> Host {
    Host {
        kernel: Some("7".into()),
        build: crate::host::Build::default(),
        platform: "p".into(),
        midr: 0,
        id_aa64dfr0: 0,
        writable,
        lse: true,
        mode: None,
        capabilities: Capabilities::default(),
    }
}

fn found(observed: &[&str]) -> Report {
    let findings =
        observed.iter().map(|seen| (seen.to_string(), Finding { times: 1, detail: String::new().into() }));
    Report { findings: findings.collect(), ..Report::default() }
}

/// An outcome, and the names of the deviations that decided it.
type Named = (Outcome, Vec<String>);

const PASS: Named = (Outcome::Pass, vec![]);
const FAIL: Named = (Outcome::Fail, vec![]);
/// Fails, and shows the deviation too.
fn fail_beside() -> Named {
    (Outcome::Fail, vec!["n".into()])
}

const SKIP: Named = (Outcome::Skip, vec![]);

fn xfail() -> Named {
    (Outcome::Xfail, vec!["n".into()])
}

fn xpass() -> Named {
    (Outcome::Xpass, vec!["n".into()])
}

fn named((outcome, deviations): Judged<'_>) -> Named {
    (outcome, deviations.iter().map(|deviation| deviation.name.clone()).collect())
}

fn judged(deviations: &Deviations, case: &str, host: &Host, report: &Report) -> Named {
    named(deviations.outcome(case, host, report))
}

#[test]
fn what_is_listed_is_forgiven_and_nothing_else() {
    let deviations = parse(ENTRY).expect("valid");
    let host = host(Writable::Unknown);
    let verdict = |case, observed: &[&str]| judged(&deviations, case, &host, &found(observed));
    assert_eq!(verdict("s.a", &["x"]), xfail());
    assert_eq!(verdict("s.a", &["x", "z"]), fail_beside());
    assert_eq!(verdict("s.b", &["x"]), FAIL);
    assert_eq!(verdict("s.b", &[]), PASS);
    assert_eq!(verdict("s.a", &[]), xpass());
    let sampled =
        |case, observed: &[&str]| named(of_a_sample(deviations.outcome(case, &host, &found(observed))));
    assert_eq!(sampled("s.a", &[]), PASS);
    assert_eq!(sampled("s.a", &["x"]), xfail());
    assert_eq!(sampled("s.b", &["x"]), FAIL);
}

#[test]
fn a_deviation_that_is_seen_sometimes_is_not_an_xpass_when_it_is_not_seen() {
    let deviations = parse(&format!("{ENTRY}sometimes = \"of the moon\"\n")).expect("valid");
    let verdict = |observed: &[&str]| judged(&deviations, "s.a", &host(Writable::Unknown), &found(observed));
    assert_eq!(verdict(&["x"]), xfail());
    assert_eq!(verdict(&["z"]), FAIL);
    assert_eq!(verdict(&[]), PASS);
    let nothing = parse(&format!("{ENTRY}sometimes = \" \"\n")).expect_err("it does not say when");
    assert!(nothing.to_string().contains("does not say when"), "{nothing}");
}

#[test]
fn a_deviation_may_need_a_mode_of_kvm() {
    let deviations = parse(&format!("{ENTRY}mode = \"protected\"\n")).expect("valid");
    let verdict = |mode, observed: &[&str]| {
        judged(&deviations, "s.a", &Host { mode, ..host(Writable::Unknown) }, &found(observed))
    };
    assert_eq!(verdict(Some(Mode::Protected), &["x"]), xfail());
    assert_eq!(verdict(Some(Mode::Protected), &[]), xpass());
    assert_eq!(verdict(Some(Mode::Vhe), &["x"]), FAIL);
    assert_eq!(verdict(None, &["x"]), FAIL);
    assert_eq!(verdict(None, &[]), PASS);
    assert!(parse(&format!("{ENTRY}mode = \"hvhe\"\n")).is_err());
}

#[test]
fn a_deviation_may_need_a_number_of_watchpoints() {
    let deviations = parse(&format!("{ENTRY}watchpoints = 2\n")).expect("valid");
    let verdict = |wrps: u64, observed: &[&str]| {
        let host = Host { id_aa64dfr0: wrps << 20, ..host(Writable::Unknown) };
        judged(&deviations, "s.a", &host, &found(observed))
    };
    assert_eq!(verdict(1, &["x"]), xfail());
    assert_eq!(verdict(1, &[]), xpass());
    assert_eq!(verdict(0, &["x"]), FAIL);
    assert_eq!(verdict(0, &[]), PASS);
    for count in ["0", "17"] {
        assert!(parse(&format!("{ENTRY}watchpoints = {count}\n")).is_err(), "{count}");
    }
}

#[test]
fn a_variation_of_a_case_is_forgiven_what_the_case_is_and_need_not_show_it() {
    let deviations = parse(ENTRY).expect("valid");
    let host = host(Writable::Unknown);
    let verdict = |case, observed: &[&str]| judged(&deviations, case, &host, &found(observed));
    assert_eq!(verdict("v.s.a", &["x"]), xfail());
    assert_eq!(verdict("v.s.a", &["x", "z"]), fail_beside());
    assert_eq!(verdict("v.s.b", &["x"]), FAIL);
    assert_eq!(verdict("v.s.a", &[]), PASS);
}

#[test]
fn a_case_that_could_not_be_run_is_never_forgiven() {
    let deviations = parse(ENTRY).expect("valid");
    let host = host(Writable::Unknown);
    let stopped = |stop| Report { stopped: Some(stop), ..found(&[]) };
    let broken = Stop::Broken(crate::guest::Error::Unfit("x".into()));
    assert_eq!(judged(&deviations, "s.a", &host, &stopped(broken)), FAIL);
    assert_eq!(judged(&deviations, "s.a", &host, &stopped(Stop::Skip("no".into()))), SKIP);
    let late = |observed: &[&str]| Report { stopped: Some(Stop::Skip("no".into())), ..found(observed) };
    let verdict = |observed: &[&str]| judged(&deviations, "s.a", &host, &late(observed));
    assert_eq!(verdict(&["z"]), FAIL, "a skip does not hide a finding");
    assert_eq!(verdict(&["x"]), xfail());
}

#[test]
fn a_condition_restricts_a_deviation_to_the_kernels_that_can_show_it() {
    let deviations = parse(&format!("{ENTRY}writable = \"WRPs\"\n")).expect("valid");
    let verdict = |writable, observed: &[&str]| judged(&deviations, "s.a", &host(writable), &found(observed));
    assert_eq!(verdict(Writable::Mask(0xf0_0000), &["x"]), xfail());
    assert_eq!(verdict(Writable::Mask(0), &["x"]), FAIL);
    assert_eq!(verdict(Writable::Unknown, &[]), PASS, "not an XPASS: it could not be seen");
}

#[test]
fn a_platforms_deviation_is_not_forgiven_elsewhere() {
    let verdict = |platform: &str| {
        let deviations = parse(&format!("{ENTRY}platform = \"{platform}\"\n")).expect("valid");
        judged(&deviations, "s.a", &host(Writable::Unknown), &found(&["x"]))
    };
    assert_eq!(verdict("p"), xfail());
    assert_eq!(verdict("q"), FAIL);
}

#[test]
fn a_bare_cpu_is_forgiven_the_platforms_deviations_but_not_kvms() {
    let bare = Host { kernel: None, ..host(Writable::Unknown) };
    let kvms = parse(ENTRY).expect("valid");
    assert_eq!(judged(&kvms, "s.a", &bare, &found(&["x"])), FAIL);
    assert_eq!(judged(&kvms, "s.a", &bare, &found(&[])), PASS, "not an XPASS: it could not be seen");
    let platforms = parse(&format!("{ENTRY}platform = \"p\"\n")).expect("valid");
    assert_eq!(judged(&platforms, "s.a", &bare, &found(&["x"])), xfail());
    let bares = parse(&format!("{ENTRY}platform = \"p\"\nbare = true\n")).expect("valid");
    assert_eq!(judged(&bares, "s.a", &bare, &found(&["x"])), xfail());
    assert_eq!(judged(&bares, "s.a", &host(Writable::Unknown), &found(&["x"])), FAIL);
    assert_eq!(judged(&bares, "s.a", &host(Writable::Unknown), &found(&[])), PASS);
    let whose = |deviations: &Deviations| deviations.get("n").map(Deviation::whose);
    assert_eq!([whose(&kvms), whose(&platforms)], [Some("KVM"), Some("the platform")]);
}

/// The verdicts of an entry with these keys if `x` is observed, and if nothing is observed.
fn verdicts(keys: &str, host: &Host) -> (Named, Named) {
    let deviations = parse(&format!("{ENTRY}{keys}")).expect("valid");
    let verdict = |observed: &[&str]| judged(&deviations, "s.a", host, &found(observed));
    (verdict(&["x"]), verdict(&[]))
}

fn forgiven() -> (Named, Named) {
    (xfail(), xpass())
}

const NOT_FORGIVEN: (Named, Named) = (FAIL, PASS);

#[test]
fn a_kernel_range_includes_its_first_kernel_and_excludes_its_last() {
    let on = |kernel: &str| {
        let host = Host { kernel: Some(kernel.into()), ..host(Writable::Unknown) };
        verdicts("since = \"6.12\"\nuntil = \"7.3\"\n", &host)
    };
    for kernel in ["6.12.0", "6.12.117+deb13-arm64", "6.12-rc1", "6.18.30-61.amzn2023", "7.2.13"] {
        assert_eq!(on(kernel), forgiven(), "{kernel}");
    }
    for kernel in ["6.1.172", "6.11.99", "7.3.0-rc1", "7.3.4", "8.0"] {
        assert_eq!(on(kernel), NOT_FORGIVEN, "{kernel}");
    }
}

#[test]
fn a_release_without_a_version_is_outside_of_every_range() {
    let odd = Host { kernel: Some("mine".into()), ..host(Writable::Unknown) };
    assert_eq!(verdicts("since = \"6.12\"\n", &odd), NOT_FORGIVEN);
    assert_eq!(verdicts("until = \"6.12\"\n", &odd), NOT_FORGIVEN);
    assert_eq!(verdicts("", &odd), forgiven(), "what holds for every kernel holds for this one");
}

#[test]
fn a_capability_is_present_or_absent() {
    let host = |value| Host {
        capabilities: Capabilities { kvm_cap_arm_el1_32bit: value, ..Capabilities::default() },
        ..host(Writable::Unknown)
    };
    let with = "capability = \"KVM_CAP_ARM_EL1_32BIT\"\n";
    let without = "without_capability = \"KVM_CAP_ARM_EL1_32BIT\"\n";
    assert_eq!((verdicts(with, &host(1)), verdicts(with, &host(0))), (forgiven(), NOT_FORGIVEN));
    assert_eq!((verdicts(without, &host(0)), verdicts(without, &host(1))), (forgiven(), NOT_FORGIVEN));
}

#[test]
fn a_cpu_is_its_implementer_and_part_whatever_its_revision() {
    let on = |midr| verdicts("cpu = \"Neoverse V1\"\n", &Host { midr, ..host(Writable::Unknown) });
    assert_eq!((on(0x411f_d401), on(0x410f_d400)), (forgiven(), forgiven()));
    assert_eq!((on(0x411f_d4f1), on(0x461f_d401)), (NOT_FORGIVEN, NOT_FORGIVEN));
}

#[test]
fn a_pattern_lists_every_case_that_it_matches() {
    let deviations = parse(&ENTRY.replace("\"s.a\"", "\"s.*\"")).expect("valid");
    let verdict = |case| judged(&deviations, case, &host(Writable::Unknown), &found(&[]));
    assert_eq!(verdict("s.a"), xpass());
    assert_eq!(verdict("s.b"), xpass());
    assert_eq!(verdict("v.s.a"), PASS);
}

#[test]
fn a_deviation_says_why_it_does_not_apply() {
    let why = |keys: &str, host: &Host| {
        let deviations = parse(&format!("{ENTRY}{keys}")).expect("valid");
        deviations.get("n").and_then(|deviation| deviation.condition.fails_on(host)).unwrap_or_default()
    };
    let host = Host { midr: 0x411f_d401, kernel: Some("6.1.0-x".into()), ..host(Writable::Mask(0)) };
    let bare = Host { kernel: None, ..host.clone() };
    let odd = Host { kernel: Some("mine".into()), ..host.clone() };
    assert_eq!(why("", &host), "");
    assert_eq!(why("", &bare), "it belongs to KVM, and this is a bare CPU");
    assert_eq!(why("since = \"6.12\"", &host), "it is seen since Linux 6.12, and this is 6.1.0-x");
    assert_eq!(why("until = \"6.1\"", &host), "it is seen until Linux 6.1, and this is 6.1.0-x");
    assert_eq!(
        why("since = \"6.12\"", &odd),
        "it depends on the kernel, and the release \"mine\" has no version"
    );
    assert_eq!(why("platform = \"q\"", &host), "it belongs to the platform q, and this is p");
    assert_eq!(why("platform = \"p\"\nbare = true", &host), "it is seen only on a bare CPU");
    assert_eq!(
        why("cpu = \"Cortex-A57\"", &host),
        "it belongs to the CPU Cortex-A57, and this is Neoverse V1 (MIDR_EL1 0x411fd401)"
    );
    assert_eq!(
        why("capability = \"KVM_CAP_SET_GUEST_DEBUG2\"", &host),
        "KVM does not have KVM_CAP_SET_GUEST_DEBUG2 here"
    );
    assert_eq!(
        why("writable = \"WRPs\"", &host),
        "userspace may not write WRPs here, as far as the kernel says"
    );
}

#[test]
fn conditions_are_printed_in_words() {
    let said = |keys: &str| {
        let deviations = parse(&format!("{ENTRY}{keys}")).expect("valid");
        deviations.get("n").map(|deviation| deviation.condition.to_string()).unwrap_or_default()
    };
    assert_eq!(said(""), "on every kernel");
    assert_eq!(
        said("since = \"6.12\"\nuntil = \"7.3.1\"\nwritable = \"WRPs\"\ncpu = \"0x61:0x0ff\""),
        "on 0x61:0x0ff, since Linux 6.12, until Linux 7.3.1, which no longer shows it, where userspace may write WRPs"
    );
    assert_eq!(said("platform = \"p\"\nbare = true"), "on a bare CPU of the platform p");
}

/// A file of this text is refused with this message.
fn assert_says(text: &str, message: &str) {
    let error = parse(text).expect_err("invalid");
    assert_eq!(error.to_string(), message.trim_start_matches('\n').trim_end_matches('\n'), "\n{error}");
}

/// An entry with these additional keys is refused with this message.
fn with_keys(keys: &str, message: &str) {
    assert_says(&format!("{ENTRY}{keys}\n"), message);
}

/// An entry that has `is` instead of `of` is refused with this message.
fn instead(of: &str, is: &str, message: &str) {
    assert!(ENTRY.contains(of));
    assert_says(&ENTRY.replace(of, is), message);
}

#[test]
fn invalid_toml_and_unknown_keys_are_shown_in_their_line() {
    assert_says(
        "[[deviation]\nname = \"n\"\n",
        r#"
unclosed array table, expected `]`
 --> f.toml:1:13
  |
1 | [[deviation]
  |             ^
"#,
    );
    assert_says(
        "[[deviation]]\nname = 3\n",
        r#"
invalid type: integer `3`, expected a string
 --> f.toml:2:8
  |
2 | name = 3
  |        ^
"#,
    );
    with_keys(
        "whose = \"KVM\"",
        r#"
unknown field `whose`, expected one of `name`, `cases`, `observed`, `why`, `source`, `since`, `until`, `capability`, `without_capability`, `writable`, `watchpoints`, `mode`, `cpu`, `platform`, `bare`, `sometimes`
 --> f.toml:7:1
  |
7 | whose = "KVM"
  | ^^^^^
"#,
    );
    instead(
        "why = \"w (DDI 0487K.a OSDLR_EL1)\"\n",
        "",
        r#"
missing field `why`
 --> f.toml:1:1
  |
1 | [[deviation]]
  | ^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn an_entry_without_a_citation_is_refused_and_a_draft_is_named_as_one() {
    const HELP: &str = "
  |
  = help: what the rule says, followed by its document and section: (DDI 0487K.a OSDLR_EL1) or (Linux Documentation/virt/kvm/api.rst 4.68)";
    instead(
        "w (DDI 0487K.a OSDLR_EL1)",
        "",
        &format!(
            r#"
deviation "n" is a draft: a person has to read the rule and cite it here
 --> f.toml:5:7
  |
5 | why = ""
  |       ^^{HELP}"#
        ),
    );
    for why in
        ["it should not", "it should not (DDI 0487K.a)", "(DDI 0487K.a )", "Documentation/virt/kvm/api.rst"]
    {
        let underlined = "^".repeat(why.len() + 2);
        instead(
            "w (DDI 0487K.a OSDLR_EL1)",
            why,
            &format!(
                r#"
deviation "n" cites no section
 --> f.toml:5:7
  |
5 | why = "{why}"
  |       {underlined}{HELP}"#
            ),
        );
    }
    let api = ENTRY.replace("DDI 0487K.a OSDLR_EL1", "Linux Documentation/virt/kvm/api.rst 4.68");
    assert!(parse(&api).is_ok(), "KVM's documents are cited too");
}

#[test]
fn no_key_of_an_entry_may_be_empty() {
    instead(
        "\"k\"",
        "\" \"",
        r#"
deviation "n" names no source
 --> f.toml:6:10
  |
6 | source = " "
  |          ^^^
  |
  = help: the kernel's or the platform's file and function that do it, and the commit if it is known
"#,
    );
    instead(
        "\"n\"",
        "\" \"",
        r#"
a deviation needs a name
 --> f.toml:2:8
  |
2 | name = " "
  |        ^^^
"#,
    );
    instead(
        "[\"x\", \"y\"]",
        "[]",
        r#"
deviation "n" lists no observed
 --> f.toml:4:12
  |
4 | observed = []
  |            ^^
"#,
    );
    instead(
        "[\"s.a\"]",
        "[]",
        r#"
deviation "n" lists no cases
 --> f.toml:3:9
  |
3 | cases = []
  |         ^^
"#,
    );
}

#[test]
fn a_pattern_matches_some_case() {
    instead(
        "[\"s.a\"]",
        "[\"s.a\", \"s.z\"]",
        r#"
no case matches "s.z"; `dfr0 list` prints all
 --> f.toml:3:17
  |
3 | cases = ["s.a", "s.z"]
  |                 ^^^^^
"#,
    );
    instead(
        "s.a",
        "***",
        r#"
"***" is not a pattern: Pattern syntax error near position 2: wildcards are either regular `*` or recursive `**`
 --> f.toml:3:10
  |
3 | cases = ["***"]
  |          ^^^^^
"#,
    );
}

#[test]
fn a_condition_refuses_unknown_names() {
    with_keys(
        "since = \"6\"",
        r#"
"6" is not a kernel version, such as "6.12" or "6.12.5"
 --> f.toml:7:9
  |
7 | since = "6"
  |         ^^^
"#,
    );
    with_keys(
        "capability = \"EL1_32BIT\"",
        r#"
dfr0 does not ask KVM for "EL1_32BIT"; it asks for KVM_CAP_GUEST_DEBUG_HW_BPS, KVM_CAP_GUEST_DEBUG_HW_WPS, KVM_CAP_SET_GUEST_DEBUG, KVM_CAP_SET_GUEST_DEBUG2, KVM_CAP_ARM_VM_IPA_SIZE, KVM_CAP_ARM_EL1_32BIT, KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES, KVM_CAP_ARM_WRITABLE_IMP_ID_REGS
 --> f.toml:7:14
  |
7 | capability = "EL1_32BIT"
  |              ^^^^^^^^^^^
"#,
    );
    with_keys(
        "writable = \"WRP\"",
        r#"
ID_AA64DFR0_EL1 has no field "WRP"; it has HPMN0, ExtTrcBuff, BRBE, MTPMU, TraceBuffer, TraceFilt, DoubleLock, PMSVer, CTX_CMPs, SEBEP, WRPs, PMSS, BRPs, PMUVer, TraceVer, DebugVer
 --> f.toml:7:12
  |
7 | writable = "WRP"
  |            ^^^^^
"#,
    );
    with_keys(
        "cpu = \"A57\"",
        r#"
"A57" is not the name of a CPU that dfr0 knows; `dfr0 host show` prints such a name, or write the implementer and part number in MIDR_EL1: "0x61:0x0ff"
 --> f.toml:7:7
  |
7 | cpu = "A57"
  |       ^^^^^
"#,
    );
    with_keys(
        "platform = \"\"",
        r#"
deviation "n" applies to no host: every platform has a name
 --> f.toml:7:12
  |
7 | platform = ""
  |            ^^
  |
  = help: `dfr0 host show` prints the platform of a host
"#,
    );
}

#[test]
fn a_condition_that_no_host_meets_is_an_error() {
    with_keys(
        "since = \"6.12\"\nuntil = \"6.12.0\"",
        r#"
deviation "n" applies to no host: it is seen since 6.12, and no longer in 6.12
 --> f.toml:8:9
  |
7 | since = "6.12"
  |         ------
8 | until = "6.12.0"
  |         ^^^^^^^^
"#,
    );
    with_keys(
        "capability = \"KVM_CAP_ARM_EL1_32BIT\"\nwithout_capability = \"KVM_CAP_ARM_EL1_32BIT\"",
        r#"
deviation "n" applies to no host: KVM_CAP_ARM_EL1_32BIT cannot be both present and absent
 --> f.toml:8:22
  |
7 | capability = "KVM_CAP_ARM_EL1_32BIT"
  |              -----------------------
8 | without_capability = "KVM_CAP_ARM_EL1_32BIT"
  |                      ^^^^^^^^^^^^^^^^^^^^^^^
"#,
    );
    with_keys(
        "bare = true",
        r#"
deviation "n" applies to no host: a bare CPU's deviation is its platform's, and no platform is given
 --> f.toml:7:8
  |
7 | bare = true
  |        ^^^^
"#,
    );
    for (key, value) in [
        ("since", "6.12"),
        ("until", "6.12"),
        ("capability", "KVM_CAP_ARM_EL1_32BIT"),
        ("without_capability", "KVM_CAP_ARM_EL1_32BIT"),
        ("writable", "WRPs"),
    ] {
        let (column, underlined) = (key.len() + 4, "^".repeat(value.len() + 2));
        let indent = " ".repeat(key.len() + 3);
        with_keys(
            &format!("bare = true\nplatform = \"p\"\n{key} = \"{value}\""),
            &format!(
                r#"
deviation "n" applies to no host: "{key}" is about the kernel, and a bare CPU has no kernel
 --> f.toml:9:{column}
  |
7 | bare = true
  |        ----
8 | platform = "p"
9 | {key} = "{value}"
  | {indent}{underlined}
"#
            ),
        );
    }
    assert!(parse(&format!("{ENTRY}bare = false\nwritable = \"WRPs\"\n")).is_ok());
}

#[test]
fn a_name_is_used_once() {
    with_keys(
        ENTRY,
        r#"
deviation "n" is listed twice
 --> f.toml:8:8
  |
2 | name = "n"
  |        --- the first
...
8 | name = "n"
  |        ^^^
"#,
    );
}

#[test]
fn an_observation_has_one_citation() {
    let other = ENTRY.replace("\"n\"", "\"m\"").replace("[\"x\", \"y\"]", "[\"y\", \"z\"]");
    let error = parse_all(&[("a.toml", ENTRY), ("b.toml", &other)]).expect_err("both list y");
    assert_eq!(
        error.to_string(),
        r#"deviations "m" and "n" both list "y" of s.a
 --> b.toml:4:13
  |
4 | observed = ["y", "z"]
  |             ^^^
  |
 ::: a.toml:4:18
  |
4 | observed = ["x", "y"]
  |                  --- "n" lists it for hosts that may be the same
  |
  = help: an observation has one citation: list it in only one of them, or give them conditions that exclude each other"#
    );
    let overlap = |one: &str, two: &str| parse(&format!("{ENTRY}{one}\n{other}{two}\n")).is_err();
    for (one, two) in [
        ("", "since = \"6.12\""),
        ("until = \"6.13\"", "since = \"6.12\""),
        ("until = \"6.13\"", "until = \"6.12\""),
        ("platform = \"p\"", ""),
        ("platform = \"p\"\nbare = true", "platform = \"p\""),
        ("cpu = \"A64FX\"", "platform = \"p\""),
        ("capability = \"KVM_CAP_ARM_EL1_32BIT\"", "capability = \"KVM_CAP_SET_GUEST_DEBUG\""),
        ("writable = \"WRPs\"", "writable = \"BRPs\""),
    ] {
        assert!(overlap(one, two) && overlap(two, one), "{one} and {two} hold on one host");
    }
    for (one, two) in [
        ("until = \"6.12\"", "since = \"6.12\""),
        ("platform = \"p\"", "platform = \"q\""),
        ("platform = \"p\"\nbare = true", ""),
        ("cpu = \"A64FX\"", "cpu = \"Cortex-A57\""),
        ("capability = \"KVM_CAP_ARM_EL1_32BIT\"", "without_capability = \"KVM_CAP_ARM_EL1_32BIT\""),
    ] {
        assert!(!overlap(one, two) && !overlap(two, one), "{one} and {two} hold on no host");
    }
    let beside = ENTRY.replace("\"n\"", "\"m\"");
    assert!(parse(&format!("{ENTRY}{}", beside.replace("s.a", "s.b"))).is_ok(), "of another case");
    assert!(parse(&format!("{ENTRY}{}", beside.replace("\"s.a\"", "\"*.b\", \"s.*\""))).is_err());
    let varied = parse(&format!("{ENTRY}{}", beside.replace("s.a", "v.s.a")));
    assert!(varied.is_err(), "a variation is forgiven it already");
}

#[test]
fn a_message_has_colours_only_on_request() {
    let error = Error::from(parse("[[deviation]").expect_err("invalid TOML"));
    assert!(!error.to_string().contains('\x1b'));
    assert!(format!("{error:#}").contains('\x1b'));
}

#[test]
fn wherever_a_file_ends_the_message_shows_it() {
    let text = format!("# Ä\t…\r\n{ENTRY}").replace("source = \"k\"", "source = \"k\u{301}\t\"\r");
    let whole = text.trim_end().len();
    for end in (0..whole).filter(|end| text.is_char_boundary(*end)) {
        let error = parse(&text[..end]).expect_err("it is not whole").to_string();
        assert!(error.contains(" --> f.toml:"), "{error}");
    }
    assert!(parse(&text).is_ok());
}

#[test]
fn a_directory_without_deviations_is_an_error_and_not_an_empty_list() {
    let empty = tempfile::tempdir().expect("a directory");
    assert!(matches!(read(empty.path()), Err(Error::Empty(_))));
    assert!(matches!(read(&empty.path().join("no")), Err(Error::Read { .. })));
}

proptest! {
    #[test]
    fn an_entry_that_was_changed_does_no_harm(edits in vec((any::<Index>(), any::<char>()), 1..6)) {
        let mut text: Vec<char> = ENTRY.chars().chain("writable = \"WRPs\"\n".chars()).collect();
        for (place, new) in edits {
            let place = place.index(text.len());
            text[place] = new;
        }
        if let Err(diagnostic) = parse(&text.into_iter().collect::<String>()) {
            prop_assert!(!diagnostic.to_string().is_empty());
        }
    }
}

#[test]
fn each_file_of_expected_is_built_in() {
    // Lab hosts do not have it.
    let Ok(files) = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../expected")) else { return };
    let names = files.map(|file| file.expect("it can be listed").file_name().into_string().expect("UTF-8"));
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".toml")).collect();
    let mut built_in = BUILT_IN.map(|(name, _)| name.to_owned());
    names.sort();
    built_in.sort();
    assert_eq!(names, built_in);
}
