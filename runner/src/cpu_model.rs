// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The names of CPUs.

use serde::{Deserialize, Deserializer, de};
use std::fmt;

/// The name of the CPU with this MIDR_EL1, and the MIDR_EL1.
pub(crate) fn cpu(midr: u64) -> String {
    format!("{} (MIDR_EL1 {midr:#010x})", cpu_name(midr))
}

/// The name of the CPU with this MIDR_EL1.
pub(crate) fn cpu_name(midr: u64) -> &'static str {
    CpuModel::of(midr).name().unwrap_or("unnamed")
}

/// A CPU model: MIDR_EL1's implementer and part number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuModel {
    implementer: u64,
    part: u64,
}

impl CpuModel {
    /// The model of the CPU with this MIDR_EL1.
    pub fn of(midr: u64) -> Self {
        Self { implementer: midr >> 24 & 0xff, part: midr >> 4 & 0xfff }
    }

    fn name(self) -> Option<&'static str> {
        CPUS.iter().find(|cpu| (cpu.0, cpu.1) == (self.implementer, self.part)).map(|cpu| cpu.2)
    }

    /// Parses a name, or an implementer and a part number: 0x61:0x0ff.
    fn parse(text: &str) -> Option<Self> {
        if let Some((implementer, part, _)) = CPUS.iter().find(|cpu| cpu.2 == text) {
            return Some(Self { implementer: *implementer, part: *part });
        }
        let number = |text: &str, limit: u64| {
            let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'))?;
            u64::from_str_radix(digits, 16).ok().filter(|number| *number <= limit)
        };
        let (implementer, part) = text.split_once(':')?;
        Some(Self { implementer: number(implementer, 0xff)?, part: number(part, 0xfff)? })
    }
}

impl fmt::Display for CpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#04x}:{:#05x}", self.implementer, self.part),
        }
    }
}

impl<'de> Deserialize<'de> for CpuModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format!(
                "\"{text}\" is not the name of a CPU that dfr0 knows; `dfr0 host show` prints such a name, or write the \
                 implementer and part number in MIDR_EL1: \"0x61:0x0ff\""
            ))
        })
    }
}

/// Implementer, part number and name, from the CPUs' technical reference manuals and from Linux's
/// arch/arm64/include/asm/cputype.h. Machines that are sold under other names have these CPUs: Altra is Neoverse N1,
/// Graviton5 is Neoverse V3, and Graviton4, Grace and Axion are Neoverse V2.
const CPUS: &[(u64, u64, &str)] = &[
    (0x41, 0xd03, "Cortex-A53"),
    (0x41, 0xd05, "Cortex-A55"),
    (0x41, 0xd07, "Cortex-A57"),
    (0x41, 0xd08, "Cortex-A72"),
    (0x41, 0xd09, "Cortex-A73"),
    (0x41, 0xd0a, "Cortex-A75"),
    (0x41, 0xd0b, "Cortex-A76"),
    (0x41, 0xd0c, "Neoverse N1"),
    (0x41, 0xd0d, "Cortex-A77"),
    (0x41, 0xd40, "Neoverse V1"),
    (0x41, 0xd41, "Cortex-A78"),
    (0x41, 0xd44, "Cortex-X1"),
    (0x41, 0xd46, "Cortex-A510"),
    (0x41, 0xd47, "Cortex-A710"),
    (0x41, 0xd48, "Cortex-X2"),
    (0x41, 0xd49, "Neoverse N2"),
    (0x41, 0xd4d, "Cortex-A715"),
    (0x41, 0xd4e, "Cortex-X3"),
    (0x41, 0xd4f, "Neoverse V2"),
    (0x41, 0xd80, "Cortex-A520"),
    (0x41, 0xd81, "Cortex-A720"),
    (0x41, 0xd82, "Cortex-X4"),
    (0x41, 0xd83, "Neoverse V3AE"),
    (0x41, 0xd84, "Neoverse V3"),
    (0x41, 0xd85, "Cortex-X925"),
    (0x41, 0xd87, "Cortex-A725"),
    (0x41, 0xd8e, "Neoverse N3"),
    (0x43, 0x0af, "ThunderX2"),
    (0x46, 0x001, "A64FX"),
    (0x48, 0xd01, "TSV110"),
    (0x48, 0xd02, "HIP09"),
    (0x4e, 0x004, "Carmel"),
    (0x4e, 0x010, "Olympus"),
    (0x51, 0x001, "Oryon X1"),
    (0x61, 0x022, "Apple M1 Icestorm"),
    (0x61, 0x023, "Apple M1 Firestorm"),
    (0x61, 0x024, "Apple M1 Pro Icestorm"),
    (0x61, 0x025, "Apple M1 Pro Firestorm"),
    (0x61, 0x028, "Apple M1 Max Icestorm"),
    (0x61, 0x029, "Apple M1 Max Firestorm"),
    (0x61, 0x032, "Apple M2 Blizzard"),
    (0x61, 0x033, "Apple M2 Avalanche"),
    (0x61, 0x034, "Apple M2 Pro Blizzard"),
    (0x61, 0x035, "Apple M2 Pro Avalanche"),
    (0x61, 0x038, "Apple M2 Max Blizzard"),
    (0x61, 0x039, "Apple M2 Max Avalanche"),
    (0x6d, 0xd49, "Azure Cobalt 100"),
    (0xc0, 0xac3, "AmpereOne"),
    (0xc0, 0xac4, "AmpereOne A"),
    (0x00, 0x051, "QEMU max"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_named_or_numbered() {
        assert_eq!(CpuModel::parse("Neoverse V1"), Some(CpuModel::of(0x411f_d401)));
        assert_eq!(CpuModel::parse("0x41:0xd40"), Some(CpuModel::of(0x411f_d401)));
        assert_eq!(CpuModel::parse("0x61:0x0ff").expect("numbers").to_string(), "0x61:0x0ff");
        assert_eq!(CpuModel::parse("0x41:0xd40").expect("numbers").to_string(), "Neoverse V1");
        for text in ["", "Neoverse", "0x41", "41:d40", "0x141:0xd40", "0x41:0x1d40", "0x+1:0x1"] {
            assert_eq!(CpuModel::parse(text), None, "{text}");
        }
    }

    #[test]
    fn each_name_is_of_one_cpu_and_each_cpu_has_one_name() {
        for (n, (implementer, part, name)) in CPUS.iter().enumerate() {
            let own =
                |other: &&(u64, u64, &str)| (other.0, other.1) == (*implementer, *part) || other.2 == *name;
            assert_eq!(CPUS[..n].iter().find(own), None, "{name}");
        }
        assert_eq!(cpu_name(0x410f_d840), "Neoverse V3");
        assert_eq!(cpu_name(0x6d0f_d490), "Azure Cobalt 100", "not Arm's Neoverse N2");
    }
}
