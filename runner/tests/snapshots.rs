// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Snapshots that are saved and restored on this host.

#![cfg(target_arch = "aarch64")]

use dfr0_model::{
    control::{Dbgbcr, Mdscr},
    guest_debug::GuestDebug,
    scenario::{Migrate, Op, Scenario},
    sequence::Sequence,
    sysreg::{ID_AA64DFR0_EL1, OSLSR_EL1, SysReg, dbgbcr},
    wire,
};
use dfr0_runner::{
    case::{Session, Stop},
    guest::{Config, DEADLINE, Error},
    register_id::RegisterId,
    snapshot::{Register, RestoreError, Restored, Scope, Snapshot, default_place},
};

fn system(reg: SysReg, value: u64) -> Register {
    Register { id: RegisterId::system(reg), value: value.to_le_bytes().to_vec() }
}

fn session() -> Session {
    Session::open(DEADLINE).expect("a host with KVM")
}

fn armed() -> Scenario {
    Scenario::new().then(Op::MaskDebug(false)).breakpoint(0, 1, Dbgbcr::address_at_el1())
}

fn scenario() -> Scenario {
    let moved = armed().enable(Mdscr::breakpoints_at_el1()).exec(1).then(Op::Migrate(Migrate::Fresh));
    moved.read(OSLSR_EL1).exec(1).then(Op::Migrate(Migrate::Back)).read(dbgbcr(0)).exec(1)
}

fn resaved(snapshot: &Snapshot) -> Snapshot {
    Snapshot::from_bytes(&snapshot.to_bytes().expect("a bundle")).expect("its own")
}

fn saved(session: &Session, scenario: &Scenario, place: usize) -> Snapshot {
    resaved(&session.snapshot(Config::default(), scenario, place).expect("saved"))
}

fn register(snapshot: &mut Snapshot, reg: SysReg) -> &mut Register {
    let id = RegisterId::system(reg);
    let mut registers = snapshot.registers_mut().iter_mut();
    registers.find(|register| register.id == id).expect("a register of the snapshot")
}

#[test]
fn a_vcpu_that_is_saved_after_any_operation_continues_as_without_a_save() {
    let session = session();
    for place in 0..scenario().ops().len() {
        let snapshot = saved(&session, &scenario(), place);
        let resumed = session.resume(&snapshot, Scope::All).expect("restored on the same host");
        assert!(resumed.departure.is_none(), "after {place}:\n{resumed}");
        assert_eq!(resumed.events.len(), 5, "{resumed}");
        assert_eq!(resumed.restored, Restored::default(), "after {place}");
        let again = session.resume(&snapshot, Scope::Debug).expect("a snapshot may be restored again");
        assert_eq!(again.events, resumed.events);
    }
    assert_eq!(saved(&session, &scenario(), 7).vcpus().count(), 2, "the vCPU where it was is saved too");
}

#[test]
fn a_register_that_is_lost_is_a_silent_loss() {
    let session = session();
    let scenario = armed().enable(Mdscr::breakpoints_at_el1()).exec(1);
    let mut snapshot = saved(&session, &scenario, default_place(&scenario));
    *register(&mut snapshot, dbgbcr(0)) = system(dbgbcr(0), 0x1e2);
    let resumed = session.resume(&resaved(&snapshot), Scope::All).expect("KVM takes it");
    assert!(resumed.is_silent_loss() && resumed.to_string().contains("exec marker 1: no event"), "{resumed}");
}

#[test]
fn what_the_host_lacks_or_refuses_is_named() {
    let session = session();
    let snapshot = saved(&session, &armed().exec(1), 1);
    let mut more = snapshot.clone();
    let value = snapshot.id_aa64dfr0();
    *register(&mut more, ID_AA64DFR0_EL1) = system(ID_AA64DFR0_EL1, value & !0xf | 0xb);
    let error = session.resume(&resaved(&more), Scope::All).expect_err("more than the host has");
    let RestoreError::Refused(refused) = &error else { panic!("{error}") };
    assert_eq!((refused.errno, refused.here), (22, Some(value)));
    assert_eq!(refused.fields.iter().map(|field| field.name).collect::<Vec<_>>(), ["DebugVer"]);
    assert!(refused.fields[0].rule.is_some(), "{error}");

    let mut unknown = snapshot.clone();
    let register = Register { id: RegisterId::new(0x6030_0000_0016_00ff).expect("an id"), value: vec![0; 8] };
    unknown.registers_mut().push(register.clone());
    let error = session.resume(&resaved(&unknown), Scope::All).expect_err("no KVM has it");
    assert!(matches!(&error, RestoreError::Missing { register: missing } if *missing == register), "{error}");
    let resumed = session.resume(&resaved(&unknown), Scope::Debug).expect("not of the debug hardware");
    // Others may be ID registers that KVM changed when the VM first ran: ID_AA64PFR0_EL1.GIC, where no GIC
    // was made.
    assert!(resumed.restored.left_out.contains(&register), "{resumed}");
}

#[test]
fn a_guest_that_does_not_come_back_is_an_error() {
    let session = session();
    let mut snapshot = saved(&session, &armed().exec(1), 1);
    let pc = RegisterId::new(0x6030_0000_0010_0040).expect("PC");
    let mut registers = snapshot.registers_mut().iter_mut();
    registers.find(|register| register.id == pc).expect("PC").value = vec![0; 8];
    let error = session.resume(&resaved(&snapshot), Scope::All).expect_err("no code is there");
    assert!(matches!(error, RestoreError::Ran(_)), "{error}");
}

#[test]
fn what_cannot_be_saved_is_said() {
    let session = session();
    let refused = |scenario: Scenario, place| match session.snapshot(Config::default(), &scenario, place) {
        Err(Stop::Broken(Error::Unfit(why))) => why,
        other => panic!("{other:?}"),
    };
    assert!(refused(armed(), 99).contains("there is no operation 99"));
    let debugged = Scenario::new().then(Op::Debug(GuestDebug::OFF)).isb();
    assert!(refused(debugged, 0).contains("KVM_SET_GUEST_DEBUG"));
    let sve = Sequence::named("ld1b");
    assert!(refused(Scenario::new().run(sve, wire::TARGET), 0).contains("without FEAT_SVE"));
}
