// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

use super::*;
use crate::{
    capabilities::Capabilities,
    diagnostic::{Diagnostic, Source},
    fingerprint::{self, Fingerprint, Masks},
};
use dfr0_model::sysreg::MIDR_EL1;

const NEOVERSE_N1: u64 = 0x413f_d0c1;

const ENTRY: &str = r#"[[host]]
name = "n"
about = "a"
cpu = "Neoverse N1"
source = "s"

[[host.kernel]]
since = "6.1"
until = "6.2"
ID_AA64DFR0_EL1 = 0x1030_5006
writable = "not said"
ID_AA64DFR1_EL1 = 0
ID_DFR0_EL1 = 0x1_0088
KVM_CAP_GUEST_DEBUG_HW_BPS = 6
KVM_CAP_GUEST_DEBUG_HW_WPS = 4

[[host.kernel]]
since = "6.12"
ID_AA64DFR0_EL1 = 0x1030_5008
writable = 0xf0_00f0_0f0f
ID_AA64DFR1_EL1 = 0
ID_DFR0_EL1 = 0x1_0088
KVM_CAP_GUEST_DEBUG_HW_BPS = 6
KVM_CAP_GUEST_DEBUG_HW_WPS = 4
"#;

fn parse(text: &str) -> Result<Profiles, Diagnostic> {
    let source = Source { name: "h.toml".into(), text: text.into() };
    let placed = file::read(source)?;
    for (place, profile) in placed.iter().enumerate() {
        placed[..place].iter().try_for_each(|earlier| profile.check_beside(earlier))?;
    }
    Ok(Profiles(placed.into_iter().map(|placed| placed.profile).collect()))
}

/// A second profile for the same CPU, with fewer breakpoints.
fn with_shape() -> String {
    let shape = ENTRY.replace("\"n\"", "\"fewer\"").replace("_5006", "_3006").replace("_5008", "_3008");
    format!("{ENTRY}{}", shape.replace("HW_BPS = 6", "HW_BPS = 4"))
}

fn host(kernel: &str, id_aa64dfr0: u64) -> Fingerprint {
    let [dfr0, dfr1, id_dfr0] = REGISTERS;
    let breakpoints = (id_aa64dfr0 >> 12 & 0xf) as i32 + 1;
    Fingerprint {
        source: fingerprint::Source::Dfr0("0".into()),
        kernel: kernel.into(),
        platform: Some("p".into()),
        mode: None,
        capabilities: Some(Capabilities {
            kvm_cap_guest_debug_hw_bps: breakpoints,
            kvm_cap_guest_debug_hw_wps: 4,
            ..Capabilities::default()
        }),
        id_registers: [(MIDR_EL1, NEOVERSE_N1), (dfr0, id_aa64dfr0), (dfr1, 0), (id_dfr0, 0x1_0088)].into(),
        masks: Masks::Known([(dfr0, 0xf0_00f0_0f0f)].into()),
        registers: [].into(),
    }
}

fn said(text: &str, host: &Fingerprint, named: Option<&str>) -> String {
    let profiles = parse(text).expect("valid");
    let named = named.map(|name| profiles.get(name).expect("a profile"));
    profiles.check(host, named).to_string()
}

#[test]
fn a_host_that_is_as_its_profile_says_is_the_same() {
    assert_eq!(
        said(ENTRY, &host("6.12.117+deb13-arm64", 0x1030_5008), None),
        "host: Neoverse N1 (MIDR_EL1 0x413fd0c1), Linux 6.12.117+deb13-arm64, p\nsame as profile n: a\n"
    );
    let older = Fingerprint { masks: Masks::Absent, ..host("6.1.0-32", 0x1030_5006) };
    assert!(said(ENTRY, &older, None).ends_with("\nsame as profile n: a\n"));
}

#[test]
fn facts_that_a_fingerprint_does_not_have_are_not_compared_and_are_listed() {
    let partly = Fingerprint { masks: Masks::Unsaid, capabilities: None, ..host("6.18", 0x1030_5008) };
    let said = said(ENTRY, &partly, None);
    assert!(
        said.ends_with(
            "\nsame as profile n: a\n  not compared, because the fingerprint does not have it: what userspace may write, \
             KVM_CAP_GUEST_DEBUG_HW_BPS, KVM_CAP_GUEST_DEBUG_HW_WPS\n"
        ),
        "{said}"
    );
}

#[test]
fn each_fact_that_differs_is_named_with_both_values() {
    let [_, dfr1, id_dfr0] = REGISTERS;
    let mut other = host("7.3.4", 0xf0_1020_3009);
    other.masks = Masks::Known([(REGISTERS[0], 0xff_0000)].into());
    other.id_registers.insert(dfr1, 0x10);
    other.id_registers.remove(&id_dfr0);
    let said = said(ENTRY, &other, None);
    let (_, differences) = said.split_once('\n').expect("lines");
    assert_eq!(
        differences,
        "differs from profile n: a; Linux 6.12 and later\n\
         \x20 ID_AA64DFR0_EL1.BRPs: profile 6, host 4\n\
         \x20 ID_AA64DFR0_EL1.WRPs: profile 4, host 3\n\
         \x20 ID_AA64DFR0_EL1.DebugVer: profile 0x8 (Armv8.2), host 0x9 (Armv8.4)\n\
         \x20 ID_AA64DFR0_EL1.DoubleLock: profile implemented, host not implemented\n\
         \x20 writable in ID_AA64DFR0_EL1: profile DoubleLock, WRPs, PMUVer, DebugVer, host WRPs, PMSS\n\
         \x20 ID_AA64DFR1_EL1: profile 0x0, host 0x10\n\
         \x20 ID_DFR0_EL1: profile 0x10088, host not listed\n\
         \x20 KVM_CAP_GUEST_DEBUG_HW_BPS: profile 6, host 4\n\
         \x20 the profile is from: s\n"
    );
    let silent = Fingerprint { masks: Masks::Absent, ..host("7.3.4", 0x1030_5008) };
    let profiles = parse(ENTRY).expect("valid");
    let Outcome::Differs { differences, .. } = profiles.check(&silent, None).outcome else {
        panic!("a kernel without masks differs from one with masks");
    };
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].host, "not said by the kernel");
}

#[test]
fn shapes_of_one_cpu_are_told_apart_by_their_facts() {
    let text = with_shape();
    let four = said(&text, &host("7.3", 0x1030_3008), None);
    assert!(
        four.contains("\nsame as profile fewer: a\n  other profiles for this CPU, platform and kernel: 1;"),
        "{four}"
    );
    let pinned = said(&text, &host("7.3", 0x1030_3008), Some("n"));
    assert!(pinned.contains("\ndiffers from profile n: a; Linux 6.12 and later\n"), "{pinned}");
    assert!(pinned.contains("  ID_AA64DFR0_EL1.BRPs: profile 6, host 4\n"), "{pinned}");
    let neither = said(&text, &host("7.3", 0x1030_4008), None);
    assert!(
        neither.contains("differs from profile n: a") && neither.contains("more from fewer\n"),
        "{neither}"
    );
}

#[test]
fn a_profile_for_the_platform_is_preferred_to_one_for_any_platform() {
    let own = with_shape().replacen("cpu =", "platform = \"p\"\ncpu =", 1);
    let here = said(&own, &host("7.3", 0x1030_5008), None);
    assert!(here.ends_with("\nsame as profile n: a\n"), "{here}");
    let elsewhere = Fingerprint { platform: Some("q".into()), ..host("7.3", 0x1030_3008) };
    assert!(said(&own, &elsewhere, None).ends_with("\nsame as profile fewer: a\n"));
    let unsaid = Fingerprint { platform: None, ..elsewhere };
    assert!(said(&own, &unsaid, None).ends_with("\nsame as profile fewer: a\n"));
}

#[test]
fn a_host_without_a_profile_does_not_count_as_one_that_differs() {
    let none = |host: &Fingerprint| {
        let profiles = parse(ENTRY).expect("valid");
        match profiles.check(host, None).outcome {
            Outcome::None(why) => why,
            outcome => panic!("{outcome:?}"),
        }
    };
    assert_eq!(none(&host("6.8.0-45-generic", 0x1030_5008)), "n has no facts about Linux 6.8");
    assert_eq!(none(&host("mine", 0x1030_5008)), "the release \"mine\" has no version");
    let mut other = host("7.3", 0x1030_5008);
    other.id_registers.insert(MIDR_EL1, 0x410f_d4f1);
    let why = none(&other);
    assert!(why.starts_with("none is for Neoverse V2 on this platform; `dfr0 host show --json`"), "{why}");
    other.id_registers.remove(&MIDR_EL1);
    assert_eq!(none(&other), "the fingerprint has no MIDR_EL1, so its CPU is not known");
    let pinned = said(ENTRY, &other, Some("n"));
    assert!(pinned.contains("  CPU: profile Neoverse N1, host not known\n"), "{pinned}");
    let unknown = parse(ENTRY).expect("valid").get("m").expect_err("no such profile");
    assert_eq!(unknown, "there is no profile \"m\"; there are n");
}

#[test]
fn an_invalid_profile_is_shown_with_its_line() {
    let message = |text: &str| parse(text).expect_err("invalid").to_string();
    assert_eq!(
        message(&ENTRY.replace("until = \"6.2\"", "until = \"6.1\"")),
        "no kernel is in a range since 6.1 that ends at the same or an earlier version\n --> h.toml:8:9\n  |\n8 | since = \"6.1\"\n  |         ^^^^^"
    );
    assert!(message(&ENTRY.replace("until = \"6.2\"\n", "")).starts_with(
        "a range since 6.12 follows one that has no end\n  --> h.toml:17:9\n   |\n 8 | since = \"6.1\"\n"
    ));
    assert!(
        message(&format!("{ENTRY}{ENTRY}")).starts_with("profile \"n\" appears twice\n  --> h.toml:26:8\n")
    );
    assert!(
        message(&ENTRY.replace("\"s\"", "\" \""))
            .starts_with("a profile must say where it comes from\n --> h.toml:5:10\n")
    );
    assert!(
        message(&ENTRY.replace("\"n\"", "\"\"")).starts_with("a profile must have a name\n --> h.toml:2:8\n")
    );
    assert!(message(&ENTRY.replace("\"not said\"", "\"none\"")).starts_with(
        "a mask is a number, or \"not said\" if the kernel has no KVM_ARM_GET_REG_WRITABLE_MASKS\n  --> h.toml:11:12\n"
    ));
    assert!(message(&ENTRY.replace("cpu =", "cpus =")).starts_with("unknown field `cpus`"));
    assert!(
        message(&ENTRY.replace("ID_DFR0_EL1 = 0x1_0088\n", "")).starts_with("missing field `ID_DFR0_EL1`\n")
    );
}

#[test]
fn the_built_in_profiles_can_be_used_and_their_counts_are_those_of_the_capabilities() {
    let profiles = Profiles::load(None).expect("valid");
    for profile in &profiles.0 {
        for Kernel { facts, .. } in &profile.kernels {
            let shape = dfr0_model::shape::Shape::from_id_aa64dfr0(facts.id_aa64dfr0);
            let counts = [shape.breakpoints, shape.watchpoints].map(i32::from);
            assert_eq!(
                counts,
                [facts.guest_debug_breakpoints, facts.guest_debug_watchpoints],
                "{}",
                profile.name
            );
        }
    }
}

#[test]
fn a_profile_says_what_userspace_may_write_where_the_file_of_its_host_does_not() {
    let profiles = parse(ENTRY).expect("valid");
    let completed = |masks: Masks, kernel: &str, id_aa64dfr0| {
        let mut host = Fingerprint { masks, platform: None, ..host(kernel, id_aa64dfr0) };
        profiles.complete(&mut host);
        host.masks
    };
    let known = Masks::OfProfile { id_aa64dfr0: 0xf0_00f0_0f0f, profile: "n".into() };
    assert_eq!(completed(Masks::Unsaid, "6.18.30", 0x1030_5008), known);
    assert_eq!(completed(Masks::Unsaid, "6.18.30", 0x1030_3008), Masks::Unsaid, "another shape");
    assert_eq!(completed(Masks::Unsaid, "6.8.0", 0x1030_5008), Masks::Unsaid, "no facts of this kernel");
    assert_eq!(completed(Masks::Unsaid, "6.1.9", 0x1030_5006), Masks::Unsaid, "the kernel has no masks");
    let own = Masks::Known([(dfr0(), 0xf)].into());
    assert_eq!(completed(own.clone(), "6.18.30", 0x1030_5008), own, "the file's own masks decide");
}

fn dfr0() -> SysReg {
    REGISTERS[0]
}

#[test]
fn a_move_between_kernels_on_a_known_cpu_is_known_to_work() {
    use crate::plan::{Named, Verdict, plan};
    let profiles = Profiles::load(None).expect("valid");
    // As Firecracker's files have them: without masks, capabilities and platform.
    let file = |kernel: &str, id_aa64dfr0, masks| {
        let source = fingerprint::Source::Firecracker("1".into());
        Fingerprint { source, masks, platform: None, capabilities: None, ..host(kernel, id_aa64dfr0) }
    };
    let old = file("6.1.172", 0x1030_5006, Masks::Absent);
    let mut new = file("6.18.30", 0x1030_5008, Masks::Unsaid);
    let to =
        |b: &Fingerprint| plan(Named { name: "a", fingerprint: &old }, Named { name: "b", fingerprint: b });
    assert_eq!(to(&new).debug.verdict, Verdict::NotKnown);
    profiles.complete(&mut new);
    let plan = to(&new);
    assert_eq!(plan.debug.verdict, Verdict::AsIs);
    assert!(plan.to_string().contains("is known from the profile graviton2"), "{plan}");
}
