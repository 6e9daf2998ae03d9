// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The types of a host's CPUs. A vCPU is what the CPU is on which it runs, so a run stays on CPUs of one type.
//!
//! A type is what MIDR_EL1 says, which the kernel shows for each CPU. ID_AA64DFR0_EL1 of a single CPU cannot be read: the kernel
//! gives userspace, and KVM a vCPU, the value that is safe on all of them. But it logs a CPU whose debug registers differ
//! from those of the CPU that booted (arch/arm64/kernel/cpufeature.c, `SANITY CHECK`), and what it logs is used.

use crate::{cpu_model::cpu, cpus, fingerprint::Hex, guest::Error, machine};
use serde::{Deserialize, Serialize};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A list of CPUs, as the kernel writes it: `0-3,8`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct List(Vec<usize>);

/// The CPUs on which a run ran, where that was not any of the host's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cpus {
    /// Those on which it ran.
    pub ran: List,
    /// The types of all online CPUs; empty if the kernel does not say.
    pub types: Vec<Type>,
}

/// CPUs of one type.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Type {
    /// The CPUs.
    pub cpus: List,
    /// MIDR_EL1.
    pub midr: Hex,
    /// ID_AA64DFR0_EL1, if the kernel logged that it is not the same on all CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_aa64dfr0: Option<Hex>,
}

/// What the kernel says of its CPUs.
#[derive(Debug)]
pub struct Source {
    /// The folder of the CPUs in sysfs.
    pub sysfs: PathBuf,
    /// What the kernel has logged of CPUs' features.
    pub log: Vec<String>,
}

impl Source {
    /// What this machine's kernel says.
    pub fn of_this_machine() -> Self {
        #[cfg(target_arch = "aarch64")]
        let log = crate::kernel_log::messages("CPU features: ");
        #[cfg(not(target_arch = "aarch64"))]
        let log = Vec::new();
        Self { sysfs: "/sys/devices/system/cpu".into(), log }
    }

    /// The types of the online CPUs, in the order of their first CPUs; none if the kernel does not say.
    pub fn types(&self) -> Vec<Type> {
        let online = fs::read_to_string(self.sysfs.join("online")).ok();
        let Some(List(online)) = online.and_then(|text| text.trim().parse().ok()) else { return Vec::new() };
        let variations: Vec<Variation> = self.log.iter().filter_map(|line| Variation::of(line)).collect();
        let mut types: Vec<Type> = Vec::new();
        for number in online {
            let Some(midr) = midr(&self.sysfs, number) else { return Vec::new() };
            let here = variations.iter().find(|variation| variation.number == number);
            let id_aa64dfr0 = here.map(|here| here.value).or(variations.first().map(|first| first.booted));
            match types.iter_mut().find(|one| (one.midr, one.id_aa64dfr0) == (midr, id_aa64dfr0)) {
                Some(one) => one.cpus.0.push(number),
                None => types.push(Type { cpus: List(vec![number]), midr, id_aa64dfr0 }),
            }
        }
        types
    }
}

fn midr(sysfs: &Path, number: usize) -> Option<Hex> {
    let text = fs::read_to_string(sysfs.join(format!("cpu{number}/regs/identification/midr_el1"))).ok()?;
    hexadecimal(text.trim()).map(Hex)
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// A CPU whose ID_AA64DFR0_EL1 is not that of the CPU that booted.
struct Variation {
    booted: Hex,
    number: usize,
    value: Hex,
}

impl Variation {
    /// `None` if the message is not of this register.
    fn of(message: &str) -> Option<Self> {
        let (_, values) = message.split_once("Unexpected variation in SYS_ID_AA64DFR0_EL1. Boot CPU: ")?;
        let (booted, other) = values.trim().split_once(", CPU")?;
        let (number, value) = other.split_once(": ")?;
        let [booted, value] = [booted, value].map(|value| hexadecimal(value).map(Hex));
        Some(Self { booted: booted?, number: number.parse().ok()?, value: value? })
    }
}

/// Keeps this process, and the threads that it makes from now on, on CPUs of one type, or on those that are wanted. Says which,
/// unless all are of one type and none are wanted.
pub fn settle(wanted: Option<List>) -> Result<Option<Cpus>, Error> {
    if machine::is_bare() {
        return match wanted {
            Some(_) => Err(Error::Unfit("a bare CPU is the machine's, so --cpus has no effect".into())),
            None => Ok(None),
        };
    }
    let cpus = choose(Source::of_this_machine().types(), &cpus::allowed()?, wanted).map_err(Error::Unfit)?;
    if let Some(cpus) = &cpus {
        cpus::keep_to(&cpus.ran.0)?;
    }
    Ok(cpus)
}

/// On which of the `allowed` CPUs a run runs, if not on any.
fn choose(types: Vec<Type>, allowed: &[usize], wanted: Option<List>) -> Result<Option<Cpus>, String> {
    let Some(wanted) = wanted else {
        let of_type =
            |one: &Type| one.cpus.0.iter().copied().filter(|cpu| allowed.contains(cpu)).collect::<Vec<_>>();
        // Of types with as many CPUs the first.
        let ran = types.iter().rev().map(of_type).max_by_key(Vec::len).unwrap_or_default();
        return Ok((types.len() > 1 && !ran.is_empty()).then_some(Cpus { ran: List(ran), types }));
    };
    if let Some(cpu) = wanted.0.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(format!("--cpus: this process may not run on CPU {cpu}, or it is offline"));
    }
    let has_all = |one: &Type| wanted.0.iter().all(|cpu| one.cpus.0.contains(cpu));
    if !types.is_empty() && !types.iter().any(has_all) {
        let types: Vec<String> = types.iter().map(Type::to_string).collect();
        return Err(format!(
            "--cpus: CPUs {wanted} are not of one type, and a run is of one type; there are {}",
            types.join("; ")
        ));
    }
    Ok(Some(Cpus { ran: wanted, types }))
}

/// The upper limit of a CPU's number.
const MOST: usize = 65_535;

impl FromStr for List {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a list of CPUs such as 0-3,8");
        let number = |text: &str| text.parse::<usize>().ok().filter(|number| *number <= MOST);
        let mut list = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Some(first), Some(last)) = (number(first), number(last)) else { return Err(wrong()) };
            if first > last || list.last().is_some_and(|before| first <= *before) {
                return Err(wrong());
            }
            list.extend(first..=last);
        }
        Ok(Self(list))
    }
}

impl TryFrom<String> for List {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<List> for String {
    fn from(list: List) -> Self {
        list.to_string()
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|before, after| before + 1 == *after).map(|run| match run {
            [one] => one.to_string(),
            many => format!("{}-{}", many[0], many[many.len() - 1]),
        });
        f.write_str(&runs.collect::<Vec<_>>().join(","))
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cpus, cpu(self.midr.0))?;
        match self.id_aa64dfr0 {
            Some(Hex(value)) => write!(f, " with ID_AA64DFR0_EL1 {value:#x}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ran on {}", self.ran)?;
        if self.types.len() > 1 {
            let types: Vec<String> = self.types.iter().map(Type::to_string).collect();
            write!(f, "; the host has CPUs of {} types: {}", types.len(), types.join("; "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
