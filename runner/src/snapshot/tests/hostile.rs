// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Bundles that dfr0 did not save.

use super::{bundle, small};
use crate::{
    archive::{self, Part},
    snapshot::{Difference, Shown, Snapshot, bundle::KIND},
};
use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn problem(bundle: &[u8]) -> String {
    Snapshot::from_bytes(bundle).expect_err("not a bundle").to_string()
}

fn parts() -> Vec<Part> {
    KIND.read(&bundle()).expect("its own")
}

/// A bundle with other parts, and a manifest that lists them.
fn forged(edit: impl FnOnce(&mut Vec<Part>, &mut Value)) -> Vec<u8> {
    let mut parts = parts();
    let (name, manifest) = parts.remove(0);
    let mut manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    edit(&mut parts, &mut manifest);
    let list = parts.iter().map(|(name, bytes)| {
        let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        json!({ "name": name, "size": bytes.len(), "sha256": sha256 })
    });
    manifest["parts"] = list.collect();
    parts.insert(0, (name, manifest.to_string().into_bytes()));
    KIND.write(&parts).expect("a bundle")
}

fn part<'a>(parts: &'a mut [Part], name: &str) -> &'a mut Vec<u8> {
    &mut parts.iter_mut().find(|(part, _)| *part == name).expect("a part").1
}

fn replaced(name: &str, from: &str, to: &str) -> String {
    problem(&forged(|parts, _| {
        let bytes = part(parts, name);
        let text = String::from_utf8(bytes.clone()).expect("text");
        assert!(text.contains(from), "{from}");
        *bytes = text.replacen(from, to, 1).into_bytes();
    }))
}

#[test]
fn a_bundle_that_was_packed_again_is_read() {
    assert_eq!(Snapshot::from_bytes(&forged(|_, _| {})).expect("the same parts"), small());
}

#[test]
fn a_bundle_with_the_address_that_older_ones_have_is_read() {
    let older = forged(|_, manifest| manifest["words"]["tight"] = json!("0x40040028"));
    assert_eq!(Snapshot::from_bytes(&older).expect("an older bundle"), small());
}

#[test]
fn a_bundle_that_is_truncated_at_any_byte_is_rejected() {
    let bundle = bundle();
    for len in 0..bundle.len() {
        assert!(Snapshot::from_bytes(&bundle[..len]).is_err(), "{len} bytes");
    }
    let longer = [bundle.as_slice(), &[0]].concat();
    assert!(problem(&longer).contains("SHA-256"));
}

#[test]
fn a_bundle_with_any_bit_flipped_is_rejected() {
    let mut bundle = bundle();
    for bit in 0..8 * bundle.len() {
        bundle[bit / 8] ^= 1 << (bit % 8);
        assert!(Snapshot::from_bytes(&bundle).is_err(), "bit {bit}");
        bundle[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_bundle_has_a_format_and_a_version() {
    let mut bundle = bundle();
    assert!(problem(b"").contains("not a dfr0 bundle"));
    assert!(problem(&bundle[4..]).contains("not a dfr0 bundle"));
    bundle[20] = 2;
    assert!(problem(&bundle).contains("it has version 2, but this dfr0 reads version 1"));
    let other = |key: &str, value: Value| problem(&forged(|_, manifest| manifest[key] = value));
    assert!(other("version", json!(7)).contains("version 7"));
    assert!(other("format", json!("\u{1b}[31mred")).contains(r#"format "\u{1b}[31mred""#));
}

#[test]
fn a_part_is_what_the_manifest_says() {
    let mut parts = parts();
    part(&mut parts, "seen.json").push(b'\n');
    assert!(problem(&KIND.write(&parts).expect("a bundle")).contains("seen.json: its name, size or SHA-256"));
    parts.pop();
    assert!(problem(&KIND.write(&parts).expect("a bundle")).contains("lists 6 parts, but there are 5"));
    for name in &KIND.parts[1..] {
        if *name != "vcpu1.json" {
            let without = forged(|parts, _| parts.retain(|(part, _)| part != name));
            assert_eq!(problem(&without), format!("{name}: it is missing"));
        }
    }
    assert!(problem(&KIND.write(&[]).expect("a bundle")).contains("manifest.json: it is missing"));
}

#[test]
fn registers_have_known_kinds_and_their_widths() {
    let vcpu = |from: &str, to: &str| replaced("vcpu0.json", from, to);
    assert!(vcpu("0x603000000013c028", "0x303000000013c028").contains("is not a register of an arm64 vCPU"));
    assert!(vcpu("0x603000000013c028", "0x609000000013c028").contains("unknown width"));
    assert!(vcpu("0x00000000000001e3", "0x1e3").contains("(DBGBCR0_EL1) does not have a value of 64 bits"));
    assert!(vcpu("0x00000000000001e3", "0x00000000000001eg").contains("does not have a value of 64 bits"));
    assert!(vcpu("0x00000000000001e3", "0x+0000000000001e3").contains("does not have a value of 64 bits"));
    assert!(vcpu("0x603000000013c028", "0x603000000013c000").contains("appears twice"));
    assert!(vcpu("0x603000000013c028", "0x603000000013c029").contains("another value or none"));
    assert!(vcpu("\"value\"", "\"worth\"").contains("vcpu0.json: unknown field"));
    let many = problem(&forged(|parts, _| {
        let one = r#"{"name":0,"id":"0x6030000000100000","value":""}"#;
        *part(parts, "vcpu0.json") = format!("[{}]", vec![one; 5000].join(",")).into_bytes();
    }));
    assert!(many.contains("5000 registers"), "{many}");
}

#[test]
fn sizes_are_those_of_the_guests_memory() {
    let memory = |edit: fn(&mut Value)| problem(&forged(|_, manifest| edit(&mut manifest["memory"])));
    assert!(memory(|memory| memory["size"] = json!(u64::MAX)).contains("the memory is not 2097152 bytes"));
    assert!(memory(|memory| memory["page_size"] = json!(0)).contains("in pages of 4096"));
    assert!(memory(|memory| memory["pages"] = json!([])).contains("8192 bytes for 0 pages"));
    assert!(memory(|memory| memory["pages"] = json!(["0x40000000", "0x40000000"])).contains("not in order"));
    assert!(memory(|memory| memory["pages"] = json!(["0x40000000", "0x40200000"])).contains("not pages"));
    assert!(memory(|memory| memory["pages"] = json!(["0x3ffff000", "0x40000000"])).contains("not pages"));
    assert!(memory(|memory| memory["pages"] = json!(["0x40000000", "0x40000008"])).contains("not pages"));
    let of = |key: &str, value: Value| problem(&forged(|_, manifest| manifest[key] = value));
    assert!(of("vcpus", json!(0)).contains("0 vCPUs"));
    assert!(of("vcpus", json!(3)).contains("3 vCPUs"));
    assert!(of("vcpus", json!(2)).contains("vcpu1.json: it is missing"));
    assert!(of("operations_done", json!(0)).contains("0 operations are done"));
    assert!(of("operations_done", json!(11)).contains("11 operations are done"));
    assert!(
        of("operations_done", json!(7)).contains("7 operations are done"),
        "the last of them is not a migration"
    );
    assert!(of("dc_zva_bytes", json!(3)).contains("DC ZVA"));
    assert!(of("kernel", json!("a\nb")).contains("\"kernel\" must be printable"));
    assert!(of("id_aa64dfr0", json!("0x0")).contains("ID_AA64DFR0_EL1 0x0"));
    let words = problem(&forged(|_, manifest| manifest["words"]["turn"] = json!("0x10000000")));
    assert!(words.contains("outside of its memory"), "{words}");
    let of_another = forged(|parts, _| {
        *part(parts, "fingerprint.json") = br#"{"guest_cpu_config": {}}"#.to_vec();
    });
    assert!(problem(&of_another).starts_with("fingerprint.json: "));
}

#[test]
fn a_scenario_is_one_that_the_payload_can_do_and_events_are_in_order() {
    assert!(replaced("scenario.txt", "exec marker 1", "exec marker 200").contains("the payload cannot do"));
    assert!(replaced("scenario.txt", "exec marker 1", "rm -rf /").contains("scenario.txt: line 8"));
    assert!(replaced("seen.json", "\"operation\": 4", "\"operation\": 4096").contains("beyond"));
    assert!(
        replaced("seen.json", "\"operation\": 4", "\"operation\": 6")
            .contains("there is an event of operation 6")
    );
    assert!(replaced("seen.json", "value", "worth").contains("seen.json: unknown variant"));
    let text = problem(&forged(|parts, _| part(parts, "scenario.txt").push(0xff)));
    assert!(text.contains("scenario.txt: invalid utf-8"), "{text}");
    let deep = problem(&forged(|parts, _| *part(parts, "seen.json") = vec![b'['; 100_000]));
    assert!(deep.contains("seen.json: "), "{deep}");
}

/// An archive of one file with this name and kind.
fn archive_of(name: &[u8], kind: tar::EntryType, size: u64, bytes: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    [header.as_bytes().as_slice(), bytes].concat()
}

fn sealed(archive: &[u8]) -> Vec<u8> {
    KIND.seal(&zstd::bulk::compress(archive, 3).expect("compressed"))
}

#[test]
fn no_name_is_used_as_a_file_name() {
    use tar::EntryType;
    for name in
        ["../../etc/passwd", "/etc/passwd", "manifest.json/..", "./manifest.json", "manifest.jsom", ""]
    {
        let archive = archive_of(name.as_bytes(), EntryType::Regular, 0, &[0; 1024]);
        assert!(problem(&sealed(&archive)).contains("does not have the name of a part"), "{name}");
    }
    for kind in
        [EntryType::Symlink, EntryType::Link, EntryType::Directory, EntryType::Char, EntryType::GNULongName]
    {
        let archive = archive_of(b"manifest.json", kind, 0, &[0; 1024]);
        assert!(problem(&sealed(&archive)).contains("not an archive as dfr0 writes it"), "{kind:?}");
    }
    let [first, second] = [b"manifest.json".as_slice(), b"manifest.json"]
        .map(|name| archive_of(name, EntryType::Regular, 0, &[]));
    assert!(problem(&sealed(&[first, second, vec![0; 1024]].concat())).contains("appears twice"));
}

#[test]
fn an_archive_with_data_that_is_not_read_is_refused() {
    let archive = archive::tar(&parts()).expect("an archive");
    assert!(Snapshot::from_bytes(&sealed(&archive)).is_ok());
    let mut other = archive.clone();
    other.extend_from_slice(&[0; 512]);
    assert!(problem(&sealed(&other)).contains("not an archive as dfr0 writes it"), "after its end");
    other.truncate(archive.len());
    *other.last_mut().expect("bytes") = 1;
    assert!(problem(&sealed(&other)).contains("not an archive as dfr0 writes it"), "in its end");
    let frame = zstd::bulk::compress(&archive, 3).expect("compressed");
    let followed = KIND.seal(&[frame.as_slice(), b"more"].concat());
    assert!(problem(&followed).contains("after its zstd frame"));
    let two = KIND.seal(&[frame.as_slice(), frame.as_slice()].concat());
    assert!(problem(&two).contains("after its zstd frame"));
    for len in 0..frame.len() {
        assert!(Snapshot::from_bytes(&KIND.seal(&frame[..len])).is_err(), "{len} bytes of the frame");
    }
}

#[test]
fn what_is_absurdly_large_is_refused_before_it_is_stored() {
    assert!(problem(&vec![0; (8 << 20) + 1]).contains("longer than 8388608 bytes"));
    let zeros = vec![0; 64 << 20];
    let bomb = sealed(&zeros);
    assert!(bomb.len() < 64 << 10, "it is a bomb: {} bytes", bomb.len());
    assert!(problem(&bomb).contains("decompresses to more than"));
    let claims = archive_of(b"manifest.json", tar::EntryType::Regular, 1 << 40, &[0; 1024]);
    assert!(Snapshot::from_bytes(&sealed(&claims)).is_err());
    let long = problem(&forged(|parts, _| *part(parts, "seen.json") = vec![b' '; (4 << 20) + 1]));
    assert!(long.contains("seen.json: longer than"), "{long}");
    let manifest = problem(&forged(|_, manifest| manifest["dfr0"] = json!("x".repeat(300 << 10))));
    assert!(manifest.contains("manifest.json: longer than"), "{manifest}");
}

/// Bytes, each with the place where it is put.
type Edits = Vec<(Index, u8)>;

fn edit(bytes: &mut [u8], edits: &Edits) {
    let len = bytes.len();
    for (place, byte) in edits.iter().filter(|_| len > 0) {
        bytes[place.index(len)] = *byte;
    }
}

fn edits() -> impl Strategy<Value = Edits> {
    vec((any::<Index>(), any::<u8>()), 1..8)
}

/// Whatever is read can be written again and shown, and no output has control characters.
fn is_read_or_refused(bundle: &[u8]) -> Result<(), TestCaseError> {
    let said = match Snapshot::from_bytes(bundle) {
        Ok(read) => {
            if let Ok(bytes) = read.to_bytes() {
                prop_assert_eq!(&Snapshot::from_bytes(&bytes).expect("its own"), &read);
            }
            format!("{}{}{}", Shown(&read), Shown(&read).to_json(), Difference(&small(), &read))
        }
        Err(problem) => problem.to_string(),
    };
    prop_assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{}", said);
    Ok(())
}

// PROPTEST_CASES sets the number of runs.
proptest! {
    #[test]
    fn any_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..2000)) {
        is_read_or_refused(&bytes)?;
        is_read_or_refused(&KIND.seal(&bytes))?;
        is_read_or_refused(&sealed(&bytes))?;
    }

    #[test]
    fn a_frame_that_was_changed_does_no_harm(edits in edits()) {
        let mut frame = zstd::bulk::compress(&archive::tar(&parts()).expect("an archive"), 3).expect("compressed");
        edit(&mut frame, &edits);
        is_read_or_refused(&KIND.seal(&frame))?;
    }

    #[test]
    fn an_archive_that_was_changed_does_no_harm(edits in edits()) {
        let mut archive = archive::tar(&parts()).expect("an archive");
        edit(&mut archive, &edits);
        is_read_or_refused(&sealed(&archive))?;
    }

    #[test]
    fn a_part_that_was_changed_and_signed_does_no_harm(which in 0..6_usize, edits in edits(), len: Index) {
        is_read_or_refused(&forged(|parts, _| {
            let bytes = &mut parts[which].1;
            edit(bytes, &edits);
            if which % 2 == 0 {
                let len = len.index(bytes.len() + 1);
                bytes.truncate(len);
            }
        }))?;
    }

    #[test]
    fn a_manifest_that_was_changed_does_no_harm(edits in edits()) {
        let mut parts = parts();
        edit(&mut parts[0].1, &edits);
        is_read_or_refused(&KIND.write(&parts).expect("a bundle"))?;
    }
}
