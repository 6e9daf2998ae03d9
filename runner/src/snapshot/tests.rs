// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

mod hostile;
mod killed;

use super::*;
use crate::{
    capabilities::Capabilities,
    fingerprint::{Masks, Source},
    register_id::RegisterId,
};
use dfr0_model::{
    control::{Dbgbcr, Mdscr},
    event::{Event, Exception},
    id_write::Writable,
    judge::Mismatch,
    scenario::{Migrate, Op},
    sysreg::{MDSCR_EL1, MIDR_EL1, OSLSR_EL1, dbgbcr},
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const ID_AA64DFR0: u64 = 0xf0_1030_5009;

fn system(reg: SysReg, value: u64) -> Register {
    Register { id: RegisterId::system(reg), value: value.to_le_bytes().to_vec() }
}

fn v0() -> Register {
    let id = RegisterId::new(0x6040_0000_0010_0054).expect("V0");
    Register { id, value: (1..=16).collect() }
}

fn scenario() -> Scenario {
    let armed = Scenario::new().then(Op::MaskDebug(false)).breakpoint(0, 1, Dbgbcr::address_at_el1());
    let saved = armed.enable(Mdscr::breakpoints_at_el1()).read(OSLSR_EL1);
    saved.then(Op::Migrate(Migrate::FreshVm)).exec(1).brk()
}

/// A snapshot of five registers and two pages, saved after the read of OSLSR_EL1.
pub fn small() -> Snapshot {
    let registers = vec![
        system(MIDR_EL1, 0x411f_d402),
        system(ID_AA64DFR0_EL1, ID_AA64DFR0),
        system(dbgbcr(0), 0x1e3),
        system(MDSCR_EL1, 0xa000),
        v0(),
    ];
    let fingerprint = Fingerprint {
        source: Source::Dfr0("0.1.0".into()),
        kernel: "7.3.4".into(),
        platform: Some("linux,dummy-virt".into()),
        mode: None,
        capabilities: Some(Capabilities::default()),
        id_registers: BTreeMap::from([(MIDR_EL1, 0x411f_d402), (ID_AA64DFR0_EL1, ID_AA64DFR0)]),
        masks: Masks::Known(BTreeMap::from([(ID_AA64DFR0_EL1, 0xf0_00f0_0f0f)])),
        registers: registers.iter().map(|register| register.id).collect::<BTreeSet<_>>(),
    };
    let scenario = scenario();
    let done = 1 + scenario.ops().iter().position(|op| matches!(op, Op::Migrate(_))).expect("it migrates");
    let word = |n: u64| 0x4004_0000 + 8 * n;
    Snapshot {
        dfr0: "0.1.0".into(),
        fingerprint,
        words: Words { program: word(0), log: word(1), logged: word(2), place: word(3), turn: word(4) },
        zva_block: Some(64),
        scenario,
        done,
        seen: vec![Logged { op: done - 2, event: Event::Value(8) }],
        state: State {
            vcpus: vec![registers],
            memory: Pages(BTreeMap::from([(0x4000_0000, vec![1; 4096]), (0x401f_f000, vec![2; 4096])])),
        },
    }
}

pub fn bundle() -> Vec<u8> {
    small().to_bytes().expect("a bundle")
}

#[test]
fn what_is_saved_is_read_back() {
    let exception = Exception { vector: 4, esr: u64::MAX, elr: 1, spsr: 2, far: 3 };
    let events =
        [Event::Exception(exception), Event::Refused(22), Event::DebugExit { hsr: 1, pc: 2, far: 3 }];
    let seen = events.map(|event| Logged { op: 1, event }).to_vec();
    let mut two = small();
    two.state.vcpus.push(vec![v0()]);
    for snapshot in [small(), Snapshot { seen, ..small() }, two, Snapshot { zva_block: None, ..small() }] {
        let bytes = snapshot.to_bytes().expect("a bundle");
        let read = Snapshot::from_bytes(&bytes).expect("its own");
        assert_eq!((&read, read.to_bytes().expect("a bundle")), (&snapshot, bytes));
    }
}

#[test]
fn a_snapshot_is_shown_by_its_fields() {
    let shown = Shown(&small()).to_string();
    for line in [
        "kernel: Linux 7.3.4",
        "shape: 6 breakpoints, 4 watchpoints, 2 context-aware, DebugVer 0x9, DoubleLock not implemented",
        "operations done: 6 of 10",
        "memory: 2 of 512 pages are not zero",
        "vCPU 0: 5 registers, 0 of them zero; the others:",
        "  DBGBCR0_EL1 = 0x00000000000001e3  (E=1 PMC=0b01 BAS=0b1111 HMC=0 SSC=0b00 LBN=0 BT=0b0000)",
        "  MDSCR_EL1 = 0x000000000000a000  (MDE=1 KDE=1 SS=0)",
        "  V0 = 0x100f0e0d0c0b0a090807060504030201",
        "   9  exec brk",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    assert!(shown.contains("DoubleLock 0xf, CTX_CMPs 0x1, WRPs 0x3, BRPs 0x5, DebugVer 0x9"), "{shown}");
    assert!(shown.contains("allowed: Breakpoint exception"), "{shown}");
    let json = Shown(&small()).to_json();
    assert_eq!(json["vcpus"][0][2]["name"], "DBGBCR0_EL1");
    assert_eq!(json["operations_done"], 6);
}

#[test]
fn only_the_differences_of_two_snapshots_are_shown() {
    assert_eq!(Difference(&small(), &small()).to_string(), "");
    let mut other = small();
    other.state.vcpus[0][2] = system(dbgbcr(0), 0x1e2);
    other.state.vcpus[0].pop();
    other.state.memory.0.remove(&0x401f_f000);
    let text = Difference(&small(), &other).to_string();
    assert!(text.contains("A: DBGBCR0_EL1 = 0x00000000000001e3  (E=1"), "{text}");
    assert!(text.contains("B: DBGBCR0_EL1 = 0x00000000000001e2  (E=0"), "{text}");
    assert!(text.contains("only in A: V0 = "), "{text}");
    assert!(text.contains("the page at 0x401ff000 differs"), "{text}");
    assert!(!text.contains("MDSCR") && !text.contains("kernel"), "{text}");
}

#[test]
fn a_refusal_names_register_field_value_errno_and_rule() {
    let saved = system(ID_AA64DFR0_EL1, ID_AA64DFR0);
    let here = 0x103f_5008;
    let refused = Refused::new(saved.clone(), 22, Some(here), Writable::Mask(0xf0_00f0_0f0f));
    let error = RestoreError::Refused(Box::new(refused));
    let text = error.to_string();
    assert!(error.is_refusal() && error.register() == Some(&saved));
    for part in [
        "ID_AA64DFR0_EL1 = 0x000000f010305009 with EINVAL (22)",
        "DebugVer: 0x9 in the snapshot, 0x8 here\n    rule: ID_UNSAFE_REFUSED: A value that promises more",
        "PMSS: 0x0 in the snapshot, 0xf here\n    rule: ID_READ_ONLY_REFUSED: A field outside the writable mask",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let (may, must) = (text.find("DebugVer"), text.find("DoubleLock"));
    assert!(may < must, "what the target may refuse comes first:\n{text}");
    let missing = RestoreError::Missing { register: v0() };
    assert!(missing.is_refusal() && missing.to_string().contains("does not have V0 = 0x100f"), "{missing}");
}

#[test]
fn an_event_that_was_lost_after_the_restore_is_a_silent_loss() {
    let snapshot = small();
    let departure = |events: &[Logged]| -> Option<Mismatch> {
        dfr0_model::judge::judge(snapshot.pe(), snapshot.scenario.ops(), events).expect("modelled")
    };
    let resumed = |events: Vec<Logged>| Resumed {
        scenario: scenario(),
        done: snapshot.done,
        departure: departure(&events),
        events,
        restored: Restored::default(),
    };
    let lost = resumed(snapshot.seen.clone());
    assert!(lost.is_silent_loss() && lost.to_string().contains("silent loss: "), "{lost}");
    assert!(lost.to_string().contains("operation 7: exec marker 1: no event"), "{lost}");
    let before = resumed(Vec::new());
    assert!(before.departure.is_some() && !before.is_silent_loss(), "{before}");
}

#[test]
fn a_scenario_is_saved_before_the_last_operation_that_executes() {
    let place = |scenario: &Scenario| default_place(scenario);
    assert_eq!(place(&Scenario::new().isb().exec(1).isb().exec(2).read(OSLSR_EL1)), 4, "after its ISB");
    assert_eq!(place(&Scenario::new().isb().isb().read(OSLSR_EL1)), 1);
    assert_eq!(place(&Scenario::new().brk()), 0, "there is nothing before it");
}

#[test]
fn with_only_the_debug_registers_others_may_be_left_out() {
    let core = RegisterId::new(0x6030_0000_0010_0040).expect("PC");
    let firmware = RegisterId::new(0x6030_0000_0016_0003).expect("a firmware register");
    let of = |id| (Scope::Debug.needs(id), Scope::Debug.writes(id));
    assert_eq!([of(core), of(RegisterId::system(dbgbcr(15)))], [(true, true); 2]);
    assert_eq!(of(RegisterId::system(ID_AA64DFR0_EL1)), (true, true));
    assert_eq!(of(RegisterId::system(MIDR_EL1)), (false, false), "the target's own stays");
    assert_eq!(of(firmware), (false, true), "if the target takes it");
    assert!(Scope::All.needs(firmware) && Scope::All.needs(RegisterId::system(MIDR_EL1)));
}

#[test]
fn a_file_is_read_as_it_was_saved_and_an_error_names_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.snapshot");
    save(&small(), &path).expect("saved");
    assert_eq!(load(&path).expect("whole"), small());
    assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 1, "nothing else is left");
    std::fs::write(&path, "dfr0").expect("written");
    let error = load(&path).expect_err("not a bundle").to_string();
    assert!(
        error.contains(
            "a.snapshot: not a dfr0 bundle: it does not begin with the header of one; `dfr0 snapshot save`"
        ),
        "{error}"
    );
    let nowhere = directory.path().join("none").join("b");
    assert!(save(&small(), &nowhere).is_err_and(|error| error.to_string().contains("cannot write")));
    assert!(load(&nowhere).is_err_and(|error| error.to_string().contains("cannot read")));
}

proptest! {
    #[test]
    fn any_registers_and_pages_are_read_back(
        values in proptest::collection::vec(any::<u64>(), 1..50),
        pages in proptest::collection::btree_map(0..512_u64, any::<u8>(), 0..8),
    ) {
        let mut snapshot = small();
        let general = values.iter().zip(0..).map(|(value, n): (&u64, u64)| Register {
            id: RegisterId::new(0x6030_0000_0010_0000 + 2 * n).expect("an id"),
            value: value.to_le_bytes().to_vec(),
        });
        snapshot.state.vcpus[0].extend(general);
        snapshot.state.memory =
            Pages(pages.into_iter().map(|(n, byte)| (0x4000_0000 + 4096 * n, vec![byte; 4096])).collect());
        let read = Snapshot::from_bytes(&snapshot.to_bytes().expect("a bundle")).expect("its own");
        prop_assert_eq!(read, snapshot);
    }
}
