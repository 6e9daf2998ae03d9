// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

use super::*;
use crate::plan::{Named, common, compare, plan};
use proptest::{collection::vec, prelude::*, sample::Index};
use std::io::Write;

/// A vCPU with three registers on a kernel with masks.
fn small() -> Fingerprint {
    let midr = RegisterId::system(MIDR_EL1);
    let dfr0 = RegisterId::system(ID_AA64DFR0_EL1);
    let v0 = RegisterId::new(0x6040_0000_0010_0054).expect("V0");
    Fingerprint {
        source: Source::Dfr0("0.1.0".into()),
        kernel: "7.3.4".into(),
        platform: Some("linux,dummy-virt".into()),
        mode: None,
        capabilities: Some(Capabilities { kvm_cap_guest_debug_hw_bps: 6, ..Capabilities::default() }),
        id_registers: BTreeMap::from([(MIDR_EL1, 0x411f_d402), (ID_AA64DFR0_EL1, 0xf0_1030_5009)]),
        masks: Masks::Known(BTreeMap::from([(ID_AA64DFR0_EL1, 0xf0_00f0_0f0f)])),
        registers: BTreeSet::from([midr, dfr0, v0]),
    }
}

/// The file without the digest, so that an edited value itself is checked.
fn edited() -> String {
    let json = small().to_json();
    let (head, _) = json.split_once(",\n  \"sha256\"").expect("the digest is last");
    format!("{head}\n}}")
}

fn firecracker(kernel: &str, dfr0: &str) -> String {
    format!(
        r#"{{"firecracker_version": "1.16.0", "kernel_version": "{kernel}", "microcode_version": "0x1",
        "guest_cpu_config": {{"kvm_capabilities": [], "vcpu_features": [], "reg_modifiers": [
        {{"addr": "0x603000000013c000", "bitmap": "0b{midr:0128b}"}},
        {{"addr": "0x60200000001000d4", "bitmap": "0b{zero:0128b}"}},
        {{"addr": "0x603000000013c028", "bitmap": "{dfr0}"}}]}}}}"#,
        midr = 0x413f_d0c1,
        zero = 0,
    )
}

fn dfr0_bits(value: u64) -> String {
    format!("0b{value:0128b}")
}

fn problem(text: &str) -> String {
    parse(text.as_bytes()).expect_err("not a fingerprint").to_string()
}

#[test]
fn what_is_written_reads_back() {
    let absent = Fingerprint { masks: Masks::Absent, ..small() };
    let protected = Fingerprint { mode: Some(Mode::Protected), ..small() };
    assert!(protected.to_json().contains("\"mode\": \"protected\""));
    for fingerprint in [small(), absent, protected] {
        let json = fingerprint.to_json();
        let read = parse(json.as_bytes()).expect("its own");
        assert_eq!((&read, read.to_json()), (&fingerprint, json));
    }
    assert_eq!(parse(edited().as_bytes()).expect("the digest may be missing"), small());
}

#[test]
fn a_fingerprint_can_be_read_by_people() {
    let json = small().to_json();
    for line in [
        "\"format\": \"dfr0-fingerprint\"",
        "\"version\": 2",
        "\"cpu\": \"Neoverse V1\"",
        "\"midr\": \"0x00000000411fd402\"",
        "\"KVM_CAP_GUEST_DEBUG_HW_BPS\": 6",
        "\"name\": \"ID_AA64DFR0_EL1\"",
        "\"value\": \"0x000000f010305009\"",
        "\"mask\": \"0x000000f000f00f0f\"",
        "\"0x6040000000100054\"",
    ] {
        assert!(json.contains(line), "{line} in {json}");
    }
}

#[test]
fn firecrackers_file_has_values_and_neither_masks_nor_all_registers() {
    let read =
        |kernel| parse(firecracker(kernel, &dfr0_bits(0x1030_5006)).as_bytes()).expect("a fingerprint");
    let old = read("6.1.172-216.329.amzn2023.aarch64");
    assert_eq!(old.source, Source::Firecracker("1.16.0".into()));
    assert_eq!((old.id_aa64dfr0(), old.midr(), old.registers.len()), (0x1030_5006, Some(0x413f_d0c1), 3));
    assert_eq!((old.accepts(ID_AA64DFR0_EL1), old.lists_all()), (Accepts::Own, false));
    assert!(old.assumed()[0].contains("takes only the ID register values that it gave"));
    for new in ["6.2.0", "6.18.30-61.116.amzn2023.aarch64", "of one's own"] {
        assert_eq!(read(new).accepts(ID_AA64DFR0_EL1), Accepts::Unsaid, "{new}");
        assert!(read(new).assumed()[0].starts_with("not known"), "{new}");
    }
    assert_eq!(small().assumed(), Vec::<String>::new());
}

#[test]
fn a_changed_file_is_detected() {
    let json = small().to_json();
    let changed = json.replace("0x000000f010305009", "0x000000f010305008");
    let protected = Fingerprint { mode: Some(Mode::Protected), ..small() }.to_json();
    assert!(problem(&protected.replace("\"protected\"", "\"vhe\"")).contains("was changed"));
    assert!(problem(&changed).contains("was changed since it was written"));
    for (from, to) in
        [("7.3.4", "7.3.5"), ("dummy", "dumb"), ("_BPS\": 6", "_BPS\": 5"), ("f00f0f", "f00f0e")]
    {
        assert!(parse(json.replace(from, to).as_bytes()).is_err(), "{from} {to}");
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let edit = |from: &str, to: &str| {
        assert!(edited().contains(from), "{from}");
        problem(&edited().replacen(from, to, 1))
    };
    let says = |message: String, part: &str| assert!(message.contains(part), "\"{part}\" in: {message}");
    says(problem("{}"), "neither dfr0's fingerprint");
    says(problem("not JSON"), "line 1 column");
    says(problem("{\"format\": \"other\"}"), "format \"other\", version none");
    says(
        edit("\"version\": 2", "\"version\": 1"),
        "version 1; this dfr0 reads \"dfr0-fingerprint\", version 2",
    );
    says(edit("\"version\": 2", "\"version\": 2.5"), "version 2.5");
    says(edit("\"kernel\"", "\"kernels\""), "unknown field `kernels`");
    says(edit("\"kernel\": \"7.3.4\",", ""), "missing field `kernel`");
    says(edit("\"kernel\": \"7.3.4\",", "\"kernel\": \"7\", \"kernel\": \"8\","), "duplicate field `kernel`");
    says(edit("7.3.4", "7\\u001b[2J"), "\"kernel\" must be printable");
    says(edit("7.3.4", &"7".repeat(257)), "text of 1 to 256 bytes");
    says(edit("\"0x000000f010305009\"", "\"f010305009\""), "is not a hexadecimal number of at most 64 bits");
    says(
        edit("\"0x000000f010305009\"", "\"0x1000000f010305009a\""),
        "is not a hexadecimal number of at most 64 bits",
    );
    says(edit("\"0x000000f010305009\"", "5"), "invalid type: integer");
    says(edit("0x6040000000100054", "0x60f0000000100054"), "is not a register of an arm64 vCPU");
    says(edit("0x6040000000100054", "0x603000000013c028"), "(ID_AA64DFR0_EL1) appears twice");
    says(edit("0x603000000013c028", "0x603000000013c000"), "MIDR_EL1 appears twice in \"id_registers\"");
    says(
        edit("0x603000000013c028", "0x6030000000138005"),
        "(DBGBCR0_EL1) in \"id_registers\" is not a feature ID register",
    );
    says(edit("0x603000000013c028", "0x603000000013c030"), "but 0x603000000013c030 is not in \"registers\"");
    says(
        edit("\"midr\": \"0x00000000411fd402\"", "\"midr\": \"0x0\""),
        "MIDR_EL1 in \"id_registers\" is 0x411fd402",
    );
    let (head, rest) =
        edited().split_once("\"writable_masks\"").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("masks");
    let (_, tail) = rest.split_once("],").expect("an end");
    says(problem(&format!("{head}{tail}")), "missing field `writable_masks`");
    let many: Vec<String> = (0..4097).map(|n| format!("\"{:#x}\"", 0x6030_0000_0013_0000_u64 + n)).collect();
    says(edit("\"0x6040000000100054\"", &many.join(",")), "no vCPU has more than 4096 registers");
}

#[test]
fn errors_of_firecrackers_file_say_what_is_wrong() {
    let says = |bits: &str, part: &str| {
        let message = problem(&firecracker("6.1", bits));
        assert!(message.contains(part), "\"{part}\" in: {message}");
    };
    says(&format!("0b{}", "x".repeat(128)), "a bit x is left open");
    says("0x1030", "is not 0b and binary digits");
    says(&format!("0b1{}", "0".repeat(64)), "has 64 bits, but its \"bitmap\" has bit 64 set");
    let whole = firecracker("6.1", &dfr0_bits(6));
    assert!(problem(&whole.replace("13c028", "13c000")).contains("(MIDR_EL1) appears twice"));
    assert!(problem(&whole.replace("13c028", "13c029")).contains("does not have ID_AA64DFR0_EL1"));
    assert!(problem(&whole.replace("reg_modifiers", "modifiers")).contains("does not have ID_AA64DFR0_EL1"));
}

#[test]
fn nothing_of_a_file_reaches_the_terminal_raw_or_at_length() {
    let message = problem(&edited().replace("\"kernel\"", &format!("\"\\u001b{}\"", "k".repeat(5000))));
    assert!(!message.contains('\u{1b}') && message.len() < 1000, "{message}");
}

#[test]
fn a_file_is_bounded_before_it_is_read() {
    let of = |bytes: &[u8]| {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("written");
        load(file.path()).map_err(|error| error.to_string())
    };
    assert_eq!(of(small().to_json().as_bytes()), Ok(small()));
    assert!(
        of(&vec![b' '; LONGEST as usize + 1]).is_err_and(|error| error.contains("longer than 1048576 bytes"))
    );
    assert!(of(&vec![b' '; LONGEST as usize]).is_err_and(|error| error.contains("EOF")));
    assert!(
        load(Path::new("/dev/zero")).is_err_and(|error| error.to_string().starts_with("/dev/zero: longer"))
    );
    assert!(
        load(Path::new("/no/such")).is_err_and(|error| error.to_string().starts_with("cannot read /no/such"))
    );
}

#[test]
fn depth_does_no_harm() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{{\"guest_cpu_config\": {}0{}}}", open.repeat(50_000), close.repeat(50_000));
        assert!(matches!(parse(deep.as_bytes()), Err(Problem::Json(_))), "the stack does not overflow");
    }
}

#[test]
fn a_part_of_a_file_is_an_error() {
    for whole in [small().to_json().trim_end().to_owned(), firecracker("6.1", &dfr0_bits(0x1030_5006))] {
        assert!(parse(whole.as_bytes()).is_ok());
        for length in 0..whole.len() {
            assert!(parse(&whole.as_bytes()[..length]).is_err(), "the first {length} bytes");
        }
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_in_what_is_not_read() {
    let whole = small().to_json();
    for place in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone().into_bytes();
            bytes[place] ^= 1 << bit;
            if let Ok(read) = parse(&bytes) {
                assert_eq!(read, small(), "bit {bit} of byte {place}");
            }
        }
    }
}

#[test]
fn a_bit_flipped_in_firecrackers_file_is_an_error_or_another_fingerprint() {
    let whole = firecracker("6.1", &dfr0_bits(0x1030_5006));
    for place in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone().into_bytes();
            bytes[place] ^= 1 << bit;
            if let Ok(read) = parse(&bytes) {
                assert!(read.id_registers.contains_key(&ID_AA64DFR0_EL1) && !read.kernel.is_empty());
            }
        }
    }
}

/// A place, and the bytes that replace as many bytes there.
type Edit = (Index, Vec<u8>);

fn edit() -> impl Strategy<Value = Edit> {
    let digits = vec(prop::sample::select(b"0123456789abcdefx".to_vec()), 1..20);
    (any::<Index>(), prop_oneof![digits, vec(any::<u8>(), 1..40)])
}

fn spoiled(whole: String, (place, new): Edit) -> Vec<u8> {
    let mut bytes = whole.into_bytes();
    let place = place.index(bytes.len());
    let end = (place + new.len()).min(bytes.len());
    bytes.splice(place..end, new);
    bytes
}

/// Whatever is read can be planned with, and no output has control characters.
fn does_no_harm(bytes: &[u8]) -> Result<(), TestCaseError> {
    let said = match parse(bytes) {
        Ok(read) => planned(&read),
        Err(problem) => problem.to_string(),
    };
    prop_assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{}", said);
    Ok(())
}

/// Everything that is printed about a host and another one.
fn planned(host: &Fingerprint) -> String {
    let small = small();
    let [host, other] =
        [("host", host), ("other", &small)].map(|(name, fingerprint)| Named { name, fingerprint });
    let plans = [plan(host, other), plan(other, host), plan(host, host)].map(|plan| plan.to_string());
    format!("{}{}{}", plans.concat(), compare(host, other), common(&[host, other]))
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(parse(&bytes).is_err());
    }

    #[test]
    fn dfr0s_file_with_arbitrary_bytes_in_it_is_unchanged_or_an_error(edit in edit()) {
        if let Ok(read) = parse(&spoiled(small().to_json(), edit)) {
            prop_assert_eq!(read, small());
        }
    }

    #[test]
    fn dfr0s_file_without_a_digest_does_no_harm(edit in edit()) {
        does_no_harm(&spoiled(edited(), edit))?;
    }

    #[test]
    fn firecrackers_file_with_arbitrary_bytes_in_it_does_no_harm(edit in edit()) {
        does_no_harm(&spoiled(firecracker("6.18", &dfr0_bits(0x1030_5006)), edit))?;
    }

    #[test]
    fn any_fingerprint_reads_back(values in proptest::collection::btree_map(0..192_u16, any::<u64>(), 0..80), masks in any::<bool>()) {
        let register = |n: u16| SysReg::new(3, [0, 1, 3][usize::from(n >> 6)], 0, n >> 3 & 7, n & 7);
        let mut id_registers: BTreeMap<SysReg, u64> = values.into_iter().map(|(n, value)| (register(n), value)).collect();
        id_registers.entry(MIDR_EL1).or_insert(0);
        id_registers.entry(ID_AA64DFR0_EL1).or_insert(0);
        let masks = if masks { Masks::Known(id_registers.clone()) } else { Masks::Absent };
        let registers = id_registers.keys().map(|reg| RegisterId::system(*reg)).collect();
        let fingerprint = Fingerprint { id_registers, masks, registers, ..small() };
        planned(&fingerprint);
        prop_assert_eq!(parse(fingerprint.to_json().as_bytes()).map_err(|problem| problem.to_string()), Ok(fingerprint));
    }
}

#[test]
fn the_digest_covers_the_names_of_registers_and_of_the_cpu() {
    let json = small().to_json();
    for (from, to) in [
        ("\"name\": \"ID_AA64DFR0_EL1\"", "\"name\": \"ID_AA64DFR1_EL1\""),
        ("\"cpu\": \"Neoverse V1\"", "\"cpu\": \"Neoverse V2\""),
    ] {
        assert!(json.contains(from), "{from}");
        for place in 0..json.matches(from).count() {
            let (at, _) = json.match_indices(from).nth(place).expect("a match");
            let changed = format!("{}{to}{}", &json[..at], &json[at + from.len()..]);
            assert!(problem(&changed).contains("it was changed since it was written"), "{to} {place}");
        }
    }
}

#[test]
fn the_file_of_an_x86_host_is_called_that() {
    let file = r#"{"firecracker_version":"1","kernel_version":"6.1","guest_cpu_config":{"cpuid_modifiers":[],"msr_modifiers":[]}}"#;
    assert!(problem(file).starts_with("the fingerprint of an x86 host"), "{}", problem(file));
}
