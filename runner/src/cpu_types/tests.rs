// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

use super::*;

const A55: u64 = 0x412f_d050;
const A76: u64 = 0x414f_d0b1;

fn list(text: &str) -> List {
    text.parse().expect("a list")
}

/// A machine whose online CPUs have these values of MIDR_EL1.
fn machine(online: &str, midrs: &[(usize, u64)], log: &[&str]) -> Vec<Type> {
    let sysfs = tempfile::tempdir().expect("a directory");
    fs::write(sysfs.path().join("online"), format!("{online}\n")).expect("written");
    for (cpu, midr) in midrs {
        let folder = sysfs.path().join(format!("cpu{cpu}/regs/identification"));
        fs::create_dir_all(&folder).expect("a directory");
        fs::write(folder.join("midr_el1"), format!("{midr:#018x}\n")).expect("written");
    }
    let log = log.iter().map(ToString::to_string).collect();
    Source { sysfs: sysfs.path().into(), log }.types()
}

fn mixed() -> Vec<Type> {
    let midrs: Vec<_> = (0..6).map(|cpu| (cpu, if cpu < 4 { A55 } else { A76 })).collect();
    machine("0-5", &midrs, &[])
}

#[test]
fn a_list_is_written_as_the_kernel_writes_it() {
    for text in ["0", "0-3", "0-3,8", "1,3,5-7"] {
        assert_eq!(list(text).to_string(), text);
    }
    for bad in ["", "3-1", "1,1", "2,1", "a", "0-", "-1", "0-65536", "0-1-2", "1 "] {
        assert!(bad.parse::<List>().is_err(), "{bad}");
    }
}

#[test]
fn a_host_of_one_type_runs_anywhere_and_says_nothing() {
    let types = machine("0-1", &[(0, A76), (1, A76)], &[]);
    assert_eq!(types.len(), 1);
    assert_eq!(choose(types, &[0, 1], None), Ok(None));
    let unknown = machine("0-1", &[(0, A76)], &[]);
    assert_eq!(choose(unknown, &[0, 1], None), Ok(None), "what the kernel does not say is not known");
}

#[test]
fn a_mixed_host_runs_on_its_larger_type_and_says_so() {
    let all: Vec<usize> = (0..6).collect();
    let cpus = choose(mixed(), &all, None).expect("a choice").expect("a note");
    assert_eq!(cpus.ran, list("0-3"));
    assert_eq!(
        cpus.to_string(),
        "ran on 0-3; the host has CPUs of 2 types: 0-3: Cortex-A55 (MIDR_EL1 0x412fd050); 4-5: Cortex-A76 (MIDR_EL1 0x414fd0b1)"
    );
    // Where the process may run counts, and of two types with as many CPUs the first does.
    let ran = |allowed: &[usize]| choose(mixed(), allowed, None).expect("a choice").expect("a note").ran;
    assert_eq!([ran(&[3, 4, 5]), ran(&[2, 3, 4, 5]), ran(&[5])], [list("4-5"), list("2-3"), list("5")]);
}

#[test]
fn the_wanted_cpus_are_of_one_type_and_there() {
    let wanted = |text: &str| choose(mixed(), &[0, 1, 2, 3, 4, 5], Some(list(text)));
    assert_eq!(wanted("4-5").expect("a choice").expect("a note").ran, list("4-5"));
    assert!(wanted("3-4").expect_err("two types").contains("CPUs 3-4 are not of one type"));
    assert!(wanted("6").expect_err("it is not there").contains("CPU 6"));
    let same = machine("0-1", &[(0, A76), (1, A76)], &[]);
    assert_eq!(
        choose(same, &[0, 1], Some(list("1"))).expect("a choice").expect("a note").to_string(),
        "ran on 1"
    );
    assert_eq!(choose(vec![], &[0], Some(list("0"))).expect("a choice").expect("a note").ran, list("0"));
}

#[test]
fn cpus_whose_debug_registers_the_kernel_found_to_differ_are_of_two_types() {
    const LOG: &str = "CPU features: SANITY CHECK: Unexpected variation in SYS_ID_AA64DFR0_EL1. Boot CPU: 0x0000000010305106, CPU2: 0x0000000020507109";
    let midrs = [(0, A76), (1, A76), (2, A76)];
    let types = machine("0-2", &midrs, &[&LOG.replace("DFR0", "PFR0"), LOG]);
    let said: Vec<String> = types.iter().map(Type::to_string).collect();
    assert_eq!(
        said,
        [
            "0-1: Cortex-A76 (MIDR_EL1 0x414fd0b1) with ID_AA64DFR0_EL1 0x10305106",
            "2: Cortex-A76 (MIDR_EL1 0x414fd0b1) with ID_AA64DFR0_EL1 0x20507109"
        ]
    );
    assert_eq!(machine("0-2", &midrs, &[&LOG.replace("DFR0", "PFR0"), "CPU features: x"]).len(), 1);
}
