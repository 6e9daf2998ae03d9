// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

use super::*;
use crate::{capabilities::Capabilities, fingerprint::Masks};
use dfr0_model::sysreg::{
    ID_AA64DFR0_EL1, ID_AA64MMFR2_EL1, ID_AA64PFR0_EL1, ID_AA64PFR1_EL1, ID_DFR0_EL1, MIDR_EL1, OSLSR_EL1,
    SysReg,
};
use std::collections::BTreeMap;

/// The writable mask of Linux 6.12 to 7.3.
const MASK: u64 = 0xf0_00f0_0f0f;
/// 6/4/2, Armv8.2, DoubleLock; and 6/4/2, Armv8.4, no DoubleLock.
const N1: u64 = 0x1030_5008;
const V1: u64 = 0xf0_1030_5009;
/// 16/16/4 and 4/2/1, otherwise like V1.
const LARGE: u64 = 0xf0_30f0_f009;
const SMALL: u64 = 0xf0_0010_3009;

fn host(dfr0: u64, masks: Masks) -> Fingerprint {
    let id_registers = BTreeMap::from([(ID_AA64DFR0_EL1, dfr0), (MIDR_EL1, 0x411f_d402)]);
    Fingerprint {
        source: Source::Dfr0("0.1.0".into()),
        kernel: "7.3.4".into(),
        platform: None,
        mode: None,
        capabilities: Some(Capabilities::default()),
        registers: id_registers.keys().map(|reg| RegisterId::system(*reg)).collect(),
        id_registers,
        masks,
    }
}

fn writable(mask: u64) -> Masks {
    Masks::Known(BTreeMap::from([(ID_AA64DFR0_EL1, mask)]))
}

fn with(mut host: Fingerprint, reg: SysReg, value: u64, mask: u64) -> Fingerprint {
    host.id_registers.insert(reg, value);
    host.registers.insert(RegisterId::system(reg));
    if let Masks::Known(masks) = &mut host.masks {
        masks.insert(reg, mask);
    }
    host
}

fn between(a: &Fingerprint, b: &Fingerprint) -> Plan {
    plan(Named { name: "a", fingerprint: a }, Named { name: "b", fingerprint: b })
}

fn guest(plan: &Plan) -> Option<&str> {
    plan.guest.as_ref().map(|guest| guest.id_aa64dfr0.as_str())
}

fn stops(part: &Part) -> Vec<&str> {
    let stopping = part.reasons.iter().filter(|reason| reason.verdict == Verdict::Cannot);
    stopping.map(|reason| reason.field.as_deref().unwrap_or(&reason.register)).collect()
}

#[test]
fn the_same_host_moves_as_is() {
    for masks in [writable(MASK), Masks::Absent, Masks::Unsaid] {
        let plan = between(&host(N1, masks.clone()), &host(N1, masks));
        assert_eq!((plan.verdict, plan.losses.len(), plan.writes.len()), (Verdict::AsIs, 0, 1));
    }
}

#[test]
fn what_b_lacks_is_lowered_on_a_and_what_a_lacks_on_b() {
    let (n1, v1) = (host(N1, writable(MASK)), host(V1, writable(MASK)));
    for (a, b, loss) in [(&n1, &v1, "no OS Double Lock"), (&v1, &n1, "DebugVer 0x8")] {
        let plan = between(a, b);
        assert_eq!((plan.debug.verdict, guest(&plan)), (Verdict::WithShape, Some("0xf010305008")));
        let on: Vec<Side> = plan.writes.iter().map(|write| write.on).collect();
        assert_eq!(on, [Side::A, Side::B]);
        assert!(plan.losses.len() == 1 && plan.losses[0].starts_with(loss), "{:?}", plan.losses);
    }
}

#[test]
fn a_kernel_without_masks_takes_only_its_own_value() {
    let (n1, v1) = (host(N1, Masks::Absent), host(V1, Masks::Absent));
    assert_eq!(stops(&between(&n1, &v1).debug), ["DebugVer", "DoubleLock"]);
    assert_eq!(stops(&between(&v1, &n1).debug), ["DebugVer", "DoubleLock"]);
    let plan = between(&host(V1, writable(MASK)), &host(V1 - 3, Masks::Absent));
    assert_eq!((plan.debug.verdict, guest(&plan)), (Verdict::WithShape, Some("0xf010305006")));
}

#[test]
fn masks_that_are_not_known_are_not_invented() {
    let plan = between(&host(N1, Masks::Unsaid), &host(V1, Masks::Unsaid));
    assert_eq!((plan.debug.verdict, guest(&plan)), (Verdict::NotKnown, Some("0xf010305008")));
    let text = plan.to_string();
    assert!(text.contains("B takes DebugVer 0x8 (Armv8.2) only if its KVM lets userspace write DebugVer (Linux 6.12 to 7.3 does)"));
    let text = between(&host(SMALL, Masks::Unsaid), &host(LARGE, Masks::Unsaid)).to_string();
    assert!(text.contains("lets userspace write BRPs (no Linux up to 7.3 does)"), "{text}");
}

#[test]
fn other_numbers_of_breakpoints_stop_a_move_both_ways() {
    let (large, small) = (host(LARGE, writable(MASK)), host(SMALL, writable(MASK)));
    for (a, b, whose) in [(&large, &small, "A"), (&small, &large, "B")] {
        let plan = between(a, b);
        assert_eq!(
            (stops(&plan.debug), plan.guest.is_none(), plan.writes.len()),
            (vec!["BRPs", "CTX_CMPs"], true, 0)
        );
        let text = plan.to_string();
        let numbers = format!("would be number 3 of 4, but are numbers 12 to 15 of 16 on {whose}");
        assert!(text.contains(&numbers) && text.contains("highest numbered CTX_CMPs + 1"), "{text}");
    }
}

#[test]
fn writable_breakpoints_do_not_promise_that_they_are_renumbered() {
    let (large, small) = (host(LARGE, writable(u64::MAX)), host(SMALL, writable(u64::MAX)));
    for (a, b, losses) in [(&large, &small, 4), (&small, &large, 0)] {
        let plan = between(a, b);
        assert_eq!(
            (plan.debug.verdict, plan.losses.len(), guest(&plan)),
            (Verdict::NotKnown, losses, Some("0xf000103009"))
        );
        assert!(plan.to_string().contains("`dfr0 run shapes` there tells whether it does"));
    }
    let fewer = host(0xf0_10f0_d009, writable(u64::MAX));
    let plan = between(&host(LARGE, writable(u64::MAX)), &fewer);
    assert!(plan.to_string().contains("numbers 12 to 13 instead of numbers 12 to 15"), "{plan}");
    assert_eq!(
        plan.debug.verdict,
        Verdict::WithShape,
        "breakpoints that keep their numbers need no renumbering"
    );
}

#[test]
fn the_other_id_registers_are_judged_by_their_masks() {
    let of = |a: (u64, u64), b: (u64, u64)| {
        let a = with(host(V1, writable(MASK)), ID_AA64MMFR2_EL1, a.0, a.1);
        let b = with(host(V1, writable(MASK)), ID_AA64MMFR2_EL1, b.0, b.1);
        let plan = between(&a, &b);
        assert_eq!(plan.debug.verdict, Verdict::AsIs);
        plan.others.verdict
    };
    assert_eq!(of((0x11, 0), (0x11, 0)), Verdict::AsIs);
    assert_eq!(of((0x11, 0), (0x12, 0xf)), Verdict::NotKnown);
    assert_eq!(of((0x11, 0), (0x12, 0xf0)), Verdict::Cannot);
    assert_eq!(of((0x11, 0xf), (0x12, 0)), Verdict::NotKnown, "A's VM may be created with B's");
    assert_eq!(of((2 << 24, 0), (0, 0)), Verdict::AsIs, "NV is forgiven");
}

#[test]
fn what_older_kernels_gave_is_taken_on_the_same_cpu() {
    const CLIDR_EL1: SysReg = SysReg::new(3, 1, 0, 0, 1);
    const CTR_EL0: SysReg = SysReg::new(3, 3, 0, 0, 1);
    let old = |reg, value| with(with(host(V1, Masks::Unsaid), MIDR_EL1, 1, 0), reg, value, 0);
    let ctr = |idc: bool| if idc { 1 << 28 } else { 0 };
    let new = |release: &str, reg, value, midr| {
        let new = with(with(host(V1, Masks::Unsaid), MIDR_EL1, midr, 0), CTR_EL0, ctr(midr != 3), 0);
        Fingerprint { kernel: release.into(), masks: Masks::Unsaid, ..with(new, reg, value, 0) }
    };
    let of = |reg, has, gives, release, midr| {
        between(&Fingerprint { masks: Masks::Unsaid, ..old(reg, has) }, &new(release, reg, gives, midr))
            .others
            .verdict
    };
    assert_eq!(of(ID_AA64MMFR2_EL1, 2 << 24 | 1, 1, "6.18.30", 1), Verdict::AsIs);
    assert_eq!(of(ID_AA64PFR0_EL1, 1 << 40 | 1, 1, "6.18.30", 1), Verdict::AsIs);
    assert_eq!(
        of(ID_AA64MMFR2_EL1, 2 << 24 | 1, 1, "6.17.1", 1),
        Verdict::NotKnown,
        "not known of older ones"
    );
    assert_eq!(of(ID_AA64MMFR2_EL1, 2 << 24 | 1, 1, "6.18.30", 2), Verdict::NotKnown, "another CPU");
    assert_eq!(of(ID_AA64MMFR2_EL1, 1, 2 << 24 | 1, "6.18.30", 1), Verdict::NotKnown, "B gives more");
    assert_eq!(
        of(ID_AA64MMFR2_EL1, 2 << 24 | 1, 2, "6.18.30", 1),
        Verdict::NotKnown,
        "another field differs"
    );
    assert_eq!(of(CLIDR_EL1, 0x8200_0023, 0x300_0123, "6.18.30", 1), Verdict::AsIs);
    assert_eq!(of(CLIDR_EL1, 0x8200_0023, 0x300_0123, "6.18.30", 3), Verdict::NotKnown, "IDC is 0");
    let (mpam, mte) = (1 << 16, 1 << 40);
    assert_eq!(of(ID_AA64PFR1_EL1, mpam | 1, 1, "6.18.30", 1), Verdict::AsIs);
    assert_eq!(
        of(ID_AA64PFR1_EL1, mte | 1, 1, "6.18.30", 1),
        Verdict::NotKnown,
        "MTE_frac is taken as 0 alone"
    );
    assert_eq!(of(CLIDR_EL1, 1 << 47, 0x300_0123, "6.18.30", 1), Verdict::NotKnown, "RES0");
}

#[test]
fn the_cpus_identity_moves_only_with_a_capability() {
    let of = |mask| {
        between(
            &with(host(V1, writable(MASK)), MIDR_EL1, 1, 0),
            &with(host(V1, writable(MASK)), MIDR_EL1, 2, mask),
        )
    };
    assert_eq!(stops(&of(0).others), ["MIDR_EL1"]);
    let plan = of(0xffff_ffff);
    assert_eq!(plan.others.verdict, Verdict::NotKnown);
    assert!(plan.to_string().contains("KVM_CAP_ARM_WRITABLE_IMP_ID_REGS"));
}

#[test]
fn aarch32s_registers_are_ignored_where_there_is_no_aarch32() {
    let pfr0 = ID_AA64PFR0_EL1;
    let of = |el0| {
        let b = with(with(host(V1, writable(MASK)), pfr0, el0, 0xf), ID_DFR0_EL1, 0, u64::MAX);
        between(&with(with(host(V1, writable(MASK)), pfr0, el0, 0xf), ID_DFR0_EL1, 8, 0), &b).others.verdict
    };
    assert_eq!(of(1), Verdict::AsIs);
    assert_eq!(of(2), Verdict::NotKnown);
    let a = with(with(host(V1, writable(MASK)), pfr0, 2, 0xf), ID_DFR0_EL1, 0, 0);
    let b = with(with(host(V1, writable(MASK)), pfr0, 2, 0xf), ID_DFR0_EL1, 8, u64::MAX);
    assert_eq!(stops(&between(&a, &b).others), ["CopDbg"], "KVM refuses values below Armv8");
    let unsaid = |host| Fingerprint { masks: Masks::Unsaid, ..host };
    assert_eq!(stops(&between(&unsaid(a), &unsaid(b)).others), ["CopDbg"], "whatever the mask is");
}

#[test]
fn a_register_that_b_does_not_list_stops_a_move_and_one_that_a_does_not_list_does_not() {
    let plain = host(V1, writable(MASK));
    let mut more = plain.clone();
    more.registers.insert(RegisterId::system(OSLSR_EL1));
    more.registers.insert(RegisterId::new(0x6030_0000_0016_0000).expect("a firmware register"));
    let plan = between(&more, &plain);
    assert_eq!((stops(&plan.debug), stops(&plan.others)), (vec!["OSLSR_EL1"], vec!["KVM_REG_ARM_STD_BMAP"]));
    assert_eq!(between(&plain, &more).verdict, Verdict::AsIs);
    let partly = Fingerprint { source: Source::Firecracker("1".into()), ..plain };
    assert_eq!(between(&more, &partly).verdict, Verdict::NotKnown);
    let both = Fingerprint { source: Source::Firecracker("1".into()), ..more };
    assert_eq!(between(&both, &partly).verdict, Verdict::Cannot);
}

fn shared(hosts: &[&Fingerprint]) -> Common {
    let names = ["a", "b", "c"];
    let hosts: Vec<Named<'_>> =
        hosts.iter().zip(names).map(|(fingerprint, name)| Named { name, fingerprint }).collect();
    common(&hosts)
}

#[test]
fn hosts_share_the_least_of_each_field() {
    let (n1, v1) = (host(N1, writable(MASK)), host(V1, writable(MASK)));
    let old = host(0xf0_1030_5006, Masks::Absent);
    let all = shared(&[&n1, &v1, &old]);
    assert_eq!((all.verdict, all.id_aa64dfr0.as_str()), (Verdict::WithShape, "0xf010305006"));
    assert_eq!(all.hosts.iter().map(|host| host.lowers.len()).collect::<Vec<_>>(), [2, 1, 0]);
    assert_eq!(shared(&[&v1, &v1]).verdict, Verdict::AsIs);
    assert_eq!(shared(&[&host(N1, Masks::Unsaid), &v1]).verdict, Verdict::NotKnown);
}

#[test]
fn hosts_share_the_least_of_each_other_register_and_how_each_comes_to_it_is_said() {
    let mmfr2 = |value, mask| with(host(V1, writable(MASK)), ID_AA64MMFR2_EL1, value, mask);
    let of = |hosts: &[&Fingerprint]| {
        let all = shared(hosts);
        let register = &all.registers[0];
        let verdicts: Vec<Verdict> = register.hosts.iter().map(|host| host.verdict).collect();
        (all.verdict, register.value.clone().unwrap_or_default(), verdicts)
    };
    let (more, less) = (mmfr2(0x12, 0xff), mmfr2(0x21, 0xff));
    use Verdict::{AsIs, Cannot, NotKnown, WithShape};
    assert_eq!(of(&[&more, &less]), (WithShape, "0x11".into(), vec![WithShape, WithShape]));
    assert_eq!(of(&[&mmfr2(0x12, 0xf0), &mmfr2(0x11, 0)]), (Cannot, "0x11".into(), vec![Cannot, AsIs]));
    let unsaid = Fingerprint { masks: Masks::Unsaid, ..more.clone() };
    assert_eq!(of(&[&unsaid, &mmfr2(0x11, 0)]), (NotKnown, "0x11".into(), vec![NotKnown, AsIs]));
    assert_eq!(shared(&[&more, &more]).registers, []);
    assert_eq!(shared(&[&more, &less]).debug, AsIs);
    let text = shared(&[&more, &less]).to_string();
    assert!(text.contains("  ID_AA64MMFR2_EL1  0x11                UAO, CnP\n"), "{text}");
    let id = RegisterId::system(ID_AA64MMFR2_EL1);
    assert!(text.contains(&format!("    ID_AA64MMFR2_EL1 ({id}) = 0x11\n")), "{text}");
    let text = shared(&[&mmfr2(0x12, 0xf0), &mmfr2(0x11, 0)]).to_string();
    assert!(
        text.contains("a: prevents it\n  its writable mask is without CnP:\n    ID_AA64MMFR2_EL1\n"),
        "{text}"
    );
}

#[test]
fn aarch32s_registers_matter_only_where_there_is_aarch32() {
    let pfr0 = |el0| with(host(V1, writable(MASK)), ID_AA64PFR0_EL1, el0, 0xf);
    let id_pfr0 = SysReg::new(3, 0, 0, 1, 0);
    let (with32, without) = (with(pfr0(2), id_pfr0, 8, 0), with(pfr0(1), id_pfr0, 0, 0));
    let names =
        |all: &Common| all.registers.iter().map(|register| register.register.clone()).collect::<Vec<_>>();
    let all = shared(&[&with32, &without]);
    assert_eq!((all.verdict, names(&all)), (Verdict::WithShape, vec!["ID_AA64PFR0_EL1".into()]));
    let dfr0 = |host, value| with(host, ID_DFR0_EL1, value, u64::MAX);
    let all = shared(&[&dfr0(with32, 8), &dfr0(without, 0)]);
    assert_eq!((all.others, names(&all)[0].as_str()), (Verdict::Cannot, "ID_DFR0_EL1"));
    assert!(all.to_string().contains("a: prevents it\n  it refuses the CopDbg below 0x6"), "{all}");
}

/// What Firecracker makes of a register's value with a bitmap: `0` and `1` are set, and `x` stays.
fn applied(bitmap: &str, value: u64) -> u64 {
    let digits = bitmap.strip_prefix("0b").expect("a prefix");
    assert_eq!(digits.len(), 64);
    digits.chars().zip((0..64).rev()).fold(value, |value, (digit, bit)| match digit {
        'x' => value,
        '0' => value & !(1 << bit),
        '1' => value | 1 << bit,
        other => panic!("{other} in a bitmap"),
    })
}

#[test]
fn a_cpu_template_gives_each_host_what_all_share() {
    let mmfr2 = |dfr0, value| with(host(dfr0, writable(MASK)), ID_AA64MMFR2_EL1, value, 0xff);
    let hosts = [mmfr2(N1, 0x12), mmfr2(V1, 0x21)];
    let all = shared(&[&hosts[0], &hosts[1]]);
    let template = serde_json::to_value(Template::of(&all).expect("a template")).expect("JSON");
    let modifiers = template["reg_modifiers"].as_array().expect("a list");
    let addresses: Vec<&str> = modifiers.iter().filter_map(|one| one["addr"].as_str()).collect();
    assert_eq!(addresses, ["0x603000000013c028", "0x603000000013c03a"]);
    for host in &hosts {
        for (modifier, (reg, shared)) in
            modifiers.iter().zip([(ID_AA64DFR0_EL1, 0xf0_1030_5008), (ID_AA64MMFR2_EL1, 0x11)])
        {
            let bitmap = modifier["bitmap"].as_str().expect("a bitmap");
            assert_eq!(applied(bitmap, host.id_registers[&reg]), shared);
            assert!(bitmap.contains('x'), "what no host changes stays KVM's own");
        }
    }
    let same = Template::of(&shared(&[&hosts[0], &hosts[0]])).expect("a template");
    assert_eq!(serde_json::to_string(&same).expect("JSON"), r#"{"reg_modifiers":[]}"#);
    let (large, small) = (host(LARGE, writable(MASK)), host(SMALL, writable(MASK)));
    assert!(Template::of(&shared(&[&large, &small])).is_err());
}

#[test]
fn the_host_that_prevents_a_shared_shape_is_named_with_the_field() {
    let (large, small) = (host(LARGE, writable(MASK)), host(SMALL, writable(MASK)));
    let text = shared(&[&small, &large]).to_string();
    assert!(text.starts_with("the hosts share no shape: prevented by b\n"), "{text}");
    assert!(text.contains("BRPs: it refuses 4 breakpoints: BRPs is not in its writable mask"), "{text}");
    let all = u64::MAX;
    assert_eq!(
        shared(&[&host(SMALL, writable(all)), &host(LARGE, writable(all))]).verdict,
        Verdict::NotKnown
    );
}

#[test]
fn differences_are_printed_by_name() {
    let a = with(host(N1, writable(MASK)), ID_AA64MMFR2_EL1, 0x11, 0);
    let mut b = with(host(V1, writable(0)), ID_AA64MMFR2_EL1, 0x21, 0);
    b.registers.insert(RegisterId::system(OSLSR_EL1));
    let text = compare(Named { name: "a", fingerprint: &a }, Named { name: "b", fingerprint: &b });
    for line in [
        "  DebugVer    A 0x8 (Armv8.2), B 0x9 (Armv8.4)\n",
        "  DoubleLock  A implemented, B not implemented\n",
        "  UAO         A 0x1, B 0x2\n",
        "  ID_AA64DFR0_EL1: only A's userspace may write DoubleLock, WRPs, PMUVer, DebugVer\n",
        "registers that B lists and A does not: 1\n",
        "  a guest that has them cannot move from B to A",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let same = compare(Named { name: "a", fingerprint: &a }, Named { name: "a", fingerprint: &a });
    assert!(
        same.ends_with("no difference in ID registers, writable masks, capabilities or register lists\n")
    );
}

#[test]
fn bits_without_a_name_are_printed_as_ranges() {
    assert_eq!(other_registers::fields(MIDR_EL1, u64::MAX), "[63:0]");
    assert_eq!(other_registers::fields(MIDR_EL1, 0xff0f), "[15:8], [3:0]");
    assert_eq!(other_registers::fields(ID_AA64MMFR2_EL1, 0xf00_0000_00f1), "FWB, UAO, CnP");
}
