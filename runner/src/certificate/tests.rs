// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

use super::*;
use crate::{
    fingerprint::{Masks, Source},
    register_id::RegisterId,
    report,
    results::{Begin, Case, tests::run},
};
use dfr0_model::{
    id_write::Writable,
    sysreg::{ID_AA64DFR0_EL1, MIDR_EL1},
};
use std::collections::BTreeSet;

const EXPECTED_TEXT: &str = "[[deviation]]\nname = \"n\"\ncases = [\"s.d\", \"s.e\"]\nobserved = [\"exec marker 1: no event\"]\nwhy = \"w (DDI 0487K.a OSDLR_EL1)\"\nsource = \"sys_regs.c\"\n";

/// A host that conforms except for a known deviation, and the names of its cases.
fn evidence() -> (Evidence, Vec<String>) {
    let mut run = run();
    run.begin.dfr0 = env!("CARGO_PKG_VERSION").into();
    for deviation in run.cases.iter_mut().flat_map(|case| &mut case.deviations) {
        deviation.why = "w (DDI 0487K.a OSDLR_EL1)".into();
    }
    let failed = run.cases[1].outcome;
    run.cases[1].outcome = Outcome::Pass;
    run.cases[1].findings.clear();
    run.cases[1].deviations.clear();
    assert_eq!(failed, Outcome::Fail);
    (run.end.totals.pass, run.end.totals.fail) = (2, 0);
    let names = run.cases.iter().map(|case| case.name.clone()).collect();
    let host = &run.begin.host;
    let Writable::Mask(mask) = host.writable else { panic!("{host:?}") };
    let fingerprint = Fingerprint {
        source: Source::Dfr0("0.1.0".into()),
        kernel: host.kernel.clone().expect("a kernel"),
        platform: Some(host.platform.clone()),
        mode: None,
        capabilities: Some(host.capabilities.clone()),
        id_registers: BTreeMap::from([(MIDR_EL1, host.midr), (ID_AA64DFR0_EL1, host.id_aa64dfr0)]),
        masks: Masks::Known(BTreeMap::from([(ID_AA64DFR0_EL1, mask)])),
        registers: BTreeSet::from([MIDR_EL1, ID_AA64DFR0_EL1].map(RegisterId::system)),
    };
    let kernel =
        Kernel { command_line: b"quiet\n".into(), config: Some((CONFIGS[0], b"CONFIG_KVM=y\n".into())) };
    let expected = EXPECTED_TEXT.into();
    (Evidence { run, expected, fingerprint, program_sha256: "00".into(), kernel }, names)
}

fn bytes(evidence: &Evidence) -> Vec<u8> {
    evidence.to_bytes().expect("an archive")
}

/// What is wrong with changed evidence, if each digest is right.
fn problem(change: impl FnOnce(&mut Evidence)) -> String {
    let (mut evidence, names) = evidence();
    change(&mut evidence);
    verify(&bytes(&evidence), &names).expect_err("wrong").to_string()
}

/// What is wrong with a certificate, if a part was changed and all digests were computed again.
fn forged(part: &str, from: &str, to: &str) -> String {
    let (evidence, names) = evidence();
    let mut parts = KIND.read(&bytes(&evidence)).expect("its own");
    let text = &mut parts.iter_mut().find(|(name, _)| *name == part).expect("a part").1;
    let changed = String::from_utf8(text.clone()).expect("text").replacen(from, to, 1).into_bytes();
    assert_ne!(*text, changed, "{from}");
    *text = changed;
    let mut manifest: serde_json::Value = serde_json::from_slice(&parts[0].1).expect("JSON");
    manifest["parts"] =
        parts[1..].iter().map(|part| serde_json::to_value(Entry::of(part)).expect("JSON")).collect();
    parts[0].1 = manifest.to_string().into_bytes();
    verify(&KIND.write(&parts).expect("an archive"), &names).expect_err("wrong").to_string()
}

#[test]
fn a_certificate_says_what_was_found_and_what_was_waived() {
    let (evidence, names) = evidence();
    let certificate = verify(&bytes(&evidence), &names).expect("its own");
    assert_eq!(certificate.verdict, Verdict::ConformsWithWaivers);
    let text = certificate.to_string();
    for line in [
        "kernel: Linux 7.3.4",
        "dfr0: 0.1.0 (sha256 00)",
        "totals: pass:2 fail:0 xfail:1 xpass:1 skip:1",
        "waiver n of KVM, in 1 case: w (DDI 0487K.a OSDLR_EL1)",
        "note: the host is a lab host: its KVM is real, its CPU is emulated",
        "verdict: this host conforms, with waivers",
    ] {
        assert!(text.lines().any(|is| is == line), "{line}\n{text}");
    }
}

#[test]
fn one_byte_of_any_part_is_noticed() {
    let (evidence, names) = evidence();
    let bytes = bytes(&evidence);
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        assert!(verify(&changed, &names).is_err(), "byte {place}");
        assert!(place % 16 != 0 || verify(&bytes[..place], &names).is_err(), "{place} bytes");
    }
    let parts = KIND.read(&bytes).expect("its own");
    for (place, (name, part)) in parts.iter().enumerate() {
        let mut parts = parts.clone();
        let middle = part.len() / 2;
        parts[place].1[middle] ^= 1;
        assert!(verify(&KIND.write(&parts).expect("an archive"), &names).is_err(), "{name}");
    }
}

#[test]
fn the_verdict_is_computed_again_and_not_trusted() {
    let failing = |evidence: &mut Evidence| {
        let case = &mut evidence.run.cases[1];
        *case = Case { findings: run().cases[1].findings.clone(), ..case.clone() };
    };
    assert!(
        problem(failing).contains("results.jsonl: s.b is Fail by its findings, but the results say Pass")
    );
    let other = |evidence: &mut Evidence| evidence.expected = EXPECTED_TEXT.replace("\"n\"", "\"m\"");
    assert!(problem(other).contains("s.d names other deviations than expected.toml"));
    let none = |evidence: &mut Evidence| evidence.expected = EXPECTED_TEXT.replace("exec", "step");
    assert!(problem(none).contains("s.d is Fail by its findings"));
    let uncited = |evidence: &mut Evidence| evidence.expected = EXPECTED_TEXT.replace("DDI 0487K.a", "");
    assert!(problem(uncited).contains("expected.toml: deviation \"n\" cites no section"));
    assert!(
        forged(MANIFEST, "conforms_with_waivers", "conforms")
            .contains("it says that the host conforms, but by")
    );
}

#[test]
fn a_certificate_needs_every_case_and_one_host() {
    let missing = |evidence: &mut Evidence| {
        evidence.run.cases.remove(0);
        evidence.run.begin.cases -= 1;
        evidence.run.begin.plan.remove(0);
        evidence.run.end.totals.pass -= 1;
        evidence.run.end.checks -= 3;
    };
    assert!(problem(missing).contains("s.a did not run, but a certificate needs every case"));
    let stranger = |evidence: &mut Evidence| {
        evidence.run.cases[0].name = "s.z".into();
        evidence.run.begin.plan[0] = "s.z".into();
    };
    assert!(problem(stranger).contains("s.a did not run"));
    assert!(problem(|evidence| evidence.run.begin.every = 2).contains("a sample"));
    assert!(
        problem(|evidence| evidence.run.begin.host.midr ^= 1)
            .contains("fingerprint.json: it is that of another host")
    );
    assert!(problem(|evidence| evidence.fingerprint.kernel = "6.1".into()).contains("another host"));
}

#[test]
fn waivers_that_do_not_say_the_same_as_the_results_are_refused() {
    assert_eq!(
        forged(WAIVERS, "sys_regs.c", "sys_regs.d"),
        "waivers.json: it does not say the same as results.jsonl"
    );
}

#[test]
fn an_older_certificate_is_an_error_that_says_what_to_do() {
    let (evidence, names) = evidence();
    let older = Kind { version: 1, ..KIND }.write(&KIND.read(&bytes(&evidence)).expect("its own"));
    let problem = verify(&older.expect("an archive"), &names).expect_err("older").to_string();
    assert!(
        problem
            .starts_with("a certificate of version 1, but this dfr0 reads version 2: certify the host again"),
        "{problem}"
    );
}

#[test]
fn a_report_is_made_of_the_results_in_a_certificate() {
    let (evidence, _) = evidence();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let load = |bytes: &[u8]| {
        std::fs::write(&file, bytes).expect("a file");
        report::load(&[file.path().to_owned()]).expect("a file")[0].clone()
    };
    let mut bytes = bytes(&evidence);
    assert_eq!(load(&bytes).run(), Some(&evidence.run));
    *bytes.last_mut().expect("a byte") ^= 1;
    let cell = load(&bytes);
    let why = cell.silence().expect("no results");
    assert!(why.contains("not a dfr0 certificate: it was changed"), "{why}");
}

#[test]
fn what_cannot_be_checked_of_another_dfr0_is_said() {
    let (mut evidence, _) = evidence();
    evidence.run.begin = Begin { dfr0: "0.0.9".into(), ..evidence.run.begin };
    let text = verify(&bytes(&evidence), &[]).expect("valid").to_string();
    assert!(
        text.contains(
            "note: it was made by dfr0 0.0.9: only that version can check whether these are all of its cases"
        ),
        "{text}"
    );
}

#[test]
fn a_host_where_something_fails_or_nothing_ran_does_not_conform() {
    use crate::results::Totals;
    let of = |pass, fail, xfail| Verdict::of(&Totals { pass, fail, xfail, skip: 7, xpass: 0 });
    assert_eq!(of(3, 0, 0), Verdict::Conforms);
    assert_eq!(of(3, 0, 1), Verdict::ConformsWithWaivers);
    assert_eq!(of(0, 0, 1), Verdict::ConformsWithWaivers);
    assert_eq!(of(3, 1, 1), Verdict::DoesNotConform);
    assert_eq!(of(0, 0, 0), Verdict::DoesNotConform);
}

#[test]
fn json_says_what_the_text_says() {
    let (evidence, names) = evidence();
    let certificate = verify(&bytes(&evidence), &names).expect("its own");
    let json = serde_json::to_value(&certificate).expect("JSON");
    assert_eq!(
        (&json["format"], &json["verdict"]),
        (&"dfr0-verified".into(), &"conforms_with_waivers".into())
    );
    assert_eq!((&json["waivers"][0]["name"], &json["failed"]), (&"n".into(), &serde_json::json!([])));
    assert_eq!((&json["bsa"][0]["rule"], &json["bsa"][0]["kept"]), (&"B_PE_11".into(), &true.into()));
    assert_eq!(json["host"]["kernel"], "7.3.4");
}

#[test]
fn a_signature_is_made_and_verified_as_the_readme_says() {
    use std::{fs, path::Path, process::Command};
    // Lab hosts have no tools.
    if !Path::new("/usr/bin/ssh-keygen").exists() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let succeeds = |line: &str| {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", line]).current_dir(directory.path()).output().expect("a shell").status.success()
    };
    let readme = include_str!("../../../README.md");
    let lines: Vec<&str> = readme.lines().filter(|line| line.starts_with("ssh-keygen -Y ")).collect();
    let [sign, check] = lines[..] else { panic!("{lines:?}") };
    assert!(succeeds("ssh-keygen -q -t ed25519 -N '' -f KEY"));
    let key = fs::read_to_string(path("KEY.pub")).expect("a key");
    fs::write(path("SIGNERS"), format!("NAME {key}")).expect("written");
    let mut certificate = bytes(&evidence().0);
    fs::write(path("host.dfr0"), &certificate).expect("written");
    assert!(succeeds(sign) && succeeds(check));
    certificate[40] ^= 1;
    fs::write(path("host.dfr0"), &certificate).expect("written");
    assert!(!succeeds(check), "a changed certificate");
}
