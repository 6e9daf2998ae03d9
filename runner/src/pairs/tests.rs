// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Directories that hosts filled, or somebody else.

use super::{Error, FINGERPRINT, Hosts, OUTCOMES, SNAPSHOTS, Table, set};
use crate::{
    fingerprint::{Fingerprint, Masks},
    snapshot::tests::{bundle, small},
};
use dfr0_model::sysreg::ID_AA64DFR0_EL1;
use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path};
use tempfile::TempDir;

/// ID_AA64DFR0_EL1 with 6 breakpoints, and with 4.
const SIX: u64 = 0xf0_1030_5009;
const FOUR: u64 = 0xf0_1030_3009;
/// The writable mask of Linux 6.12 to 7.3, and the same with BRPs.
const MASK: u64 = 0xf0_00f0_0f0f;
const WITH_BRPS: u64 = MASK | 0xf000;

fn host(dfr0: u64, mask: u64) -> Fingerprint {
    let mut fingerprint = small().fingerprint().clone();
    fingerprint.id_registers.insert(ID_AA64DFR0_EL1, dfr0);
    fingerprint.masks = Masks::Known(BTreeMap::from([(ID_AA64DFR0_EL1, mask)]));
    fingerprint
}

fn same() -> Value {
    json!({"verdict": "same"})
}

fn refused(register: &str, field: &str) -> Value {
    json!({"verdict": "refused", "register": register, "fields": [field]})
}

fn lost() -> Value {
    json!({"verdict": "silent_loss", "detail": "no event", "changed": ["\u{1b}[2J"]})
}

fn pair(from: &str, to: &str, debug: &[Value], whole: Value) -> Value {
    let scenarios = debug.iter().map(|debug| json!({"scenario": "s", "debug": debug}));
    json!({"from": from, "to": to, "id_aa64dfr0": "0x0", "scenarios": scenarios.collect::<Vec<_>>(), "whole": whole})
}

/// The hosts `a`, with six breakpoints, and `b`. Both have this writable mask; the move from `b` to `a` lost
/// nothing.
fn directory(b: u64, mask: u64, from_a: &Value) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: String, text: &[u8]| fs::write(directory.path().join(name), text).expect("written");
    write(format!("a{FINGERPRINT}"), host(SIX, mask).to_json().as_bytes());
    write(format!("b{FINGERPRINT}"), host(b, mask).to_json().as_bytes());
    write(format!("a{OUTCOMES}"), json!([pair("b", "a", &[same()], same())]).to_string().as_bytes());
    write(format!("b{OUTCOMES}"), from_a.to_string().as_bytes());
    directory
}

fn table(directory: &Path) -> Result<Table, String> {
    Table::load(directory).map_err(|error| error.to_string())
}

/// Whether the move from `a` to `b` is as planned, and the table.
fn judged(b: u64, mask: u64, debug: &[Value], whole: Value) -> (bool, String) {
    let table = table(directory(b, mask, &json!([pair("a", "b", debug, whole)])).path()).expect("a table");
    let text = table.to_string();
    assert_eq!(table.agrees(), !text.contains("DISAGREES"));
    (!text.contains("DISAGREES: a → b"), text)
}

#[test]
fn a_plan_is_compared_with_the_outcome() {
    let equal = || (SIX, MASK);
    let fewer = || (FOUR, MASK);
    let unknown = || (FOUR, WITH_BRPS);
    let brps = || refused("ID_AA64DFR0_EL1", "BRPs");
    let failed = || json!({"verdict": "failed", "why": "no memory"});
    for (agrees, (b, mask), debug, whole) in [
        (true, equal(), vec![same(), same()], same()),
        (false, equal(), vec![same(), brps()], same()),
        (false, equal(), vec![brps()], same()),
        (false, equal(), vec![same()], brps()),
        (false, equal(), vec![same()], failed()),
        (true, fewer(), vec![brps()], brps()),
        (false, fewer(), vec![same()], brps()),
        (false, fewer(), vec![refused("ID_AA64DFR0_EL1", "WRPs")], brps()),
        (false, fewer(), vec![refused("MIDR_EL1", "Revision")], brps()),
        // GIC is the VM's; a plan that says that the guest moves is wrong nevertheless.
        (true, fewer(), vec![brps()], refused("ID_PFR1_EL1", "GIC")),
        (false, fewer(), vec![brps()], refused("ID_PFR1_EL1", "Security")),
        (false, equal(), vec![same()], refused("ID_PFR1_EL1", "GIC")),
        (true, unknown(), vec![same()], same()),
        (true, unknown(), vec![brps()], brps()),
        // A loss is wrong, whatever was planned.
        (false, equal(), vec![same(), lost()], same()),
        (false, fewer(), vec![lost()], brps()),
        (false, unknown(), vec![lost()], same()),
        (false, unknown(), vec![same()], lost()),
    ] {
        let (agreed, text) = judged(b, mask, &debug, whole.clone());
        assert_eq!(agreed, agrees, "{debug:?} {whole}\n{text}");
    }
}

#[test]
fn a_silent_loss_is_named_and_does_not_control_the_terminal() {
    let (_, text) = judged(SIX, MASK, &[same(), lost()], same());
    assert!(text.contains("SILENT LOSS") && text.contains("a silent loss: s: no event"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_missing_pair_is_an_error() {
    let problem = |from_a: Value| table(directory(SIX, MASK, &from_a).path()).expect_err("no table");
    assert!(problem(json!([])).contains("there is no move from a in it"));
    assert!(problem(json!([pair("a", "a", &[same()], same())])).contains("there is no move from a in it"));
    assert!(problem(json!([pair("b", "b", &[same()], same())])).contains("there is no move from a in it"));
    assert!(problem(json!([pair("a", "b", &[], same())])).contains("the move from a has no scenario"));
    assert!(problem(json!({})).contains("b.outcomes.json: "));
    let directory = directory(SIX, MASK, &json!([]));
    fs::remove_file(directory.path().join("b.outcomes.json")).expect("removed");
    assert!(table(directory.path()).expect_err("no table").contains("b.outcomes.json: No such file"));
    fs::remove_file(directory.path().join("b.host.json")).expect("removed");
    assert!(table(directory.path()).expect_err("no table").contains("of 1 hosts; a move needs two"));
}

fn line(id_aa64dfr0: &str, bundle: &[u8]) -> String {
    let digits: String = bundle.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"scenario": "s", "id_aa64dfr0": id_aa64dfr0, "bundle": digits}).to_string() + "\n"
}

/// What `b` loads from this file of `a`.
fn loaded(directory: &Path, snapshots: &[u8]) -> Result<Vec<set::Saved>, Error> {
    fs::write(directory.join(format!("a{SNAPSHOTS}")), snapshots).expect("written");
    set::load(&Hosts::load(directory).expect("hosts"), "a", "b", SIX)
}

#[test]
fn snapshots_of_the_planned_shape_are_loaded_and_their_absence_is_an_error() {
    let directory = directory(SIX, MASK, &json!([]));
    let load = |text: String| loaded(directory.path(), text.as_bytes());
    let problem = |text: String| load(text).expect_err("no snapshots").to_string();
    let good = || line("0xf010305009", &bundle());
    let saved = load(line("0x1", b"not a bundle") + &good() + &good()).expect("two");
    assert_eq!(saved.iter().map(|saved| &saved.snapshot).collect::<Vec<_>>(), [&small(), &small()]);
    for none in ["".into(), line("0x1", &bundle())] {
        assert!(problem(none).contains("a.snapshots has no snapshot for the move to b"));
    }
    assert!(problem(good() + &line("0xf010305009", &bundle()[1..])).contains("line 2: not a dfr0 bundle"));
    assert!(problem(good() + "{}").contains("line 2: missing field"));
    for (from, to) in [("5d2a", "5d2"), ("5d2a", "5g2a")] {
        let odd = good().replacen(from, to, 1);
        assert!(problem(odd).contains("line 1: the bundle is not in hexadecimal digits"));
    }
    assert!(problem(good().repeat(257)).contains("line 257: more than 256 snapshots"));
    fs::remove_file(directory.path().join("a.snapshots")).expect("removed");
    assert!(set::load(&Hosts::load(directory.path()).expect("hosts"), "a", "b", SIX).is_err());
}

proptest! {
    #[test]
    fn outcomes_that_were_changed_do_no_harm(edits in vec((any::<Index>(), any::<u8>()), 1..8), which in 0..4_usize) {
        let outcome = [same(), refused("ID_AA64DFR0_EL1", "BRPs"), lost(), json!({"verdict": "failed", "why": "w"})];
        let mut text = json!([pair("a", "b", &outcome[which..], outcome[which].clone())]).to_string().into_bytes();
        for (place, byte) in edits {
            let place = place.index(text.len());
            text[place] = byte;
        }
        let directory = directory(FOUR, MASK, &json!([]));
        fs::write(directory.path().join("b.outcomes.json"), text).expect("written");
        match table(directory.path()) {
            Ok(table) => prop_assert!(!table.to_string().chars().any(|c| c.is_control() && c != '\n')),
            Err(problem) => prop_assert!(!problem.chars().any(char::is_control), "{}", problem),
        }
    }

    #[test]
    fn snapshots_that_were_changed_do_no_harm(edits in vec((any::<Index>(), any::<u8>()), 1..8), len: Index) {
        let mut text = (line("0xf010305009", &bundle()) + &line("0x1", &bundle())).into_bytes();
        for (place, byte) in edits {
            let place = place.index(text.len());
            text[place] = byte;
        }
        text.truncate(len.index(2 * text.len()));
        let directory = directory(SIX, MASK, &json!([]));
        if let Err(problem) = loaded(directory.path(), &text) {
            prop_assert!(!problem.to_string().chars().any(char::is_control), "{}", problem);
        }
    }
}
