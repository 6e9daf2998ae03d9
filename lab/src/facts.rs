// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The facts that a booted host reports before it runs the command.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{mode::Mode, shape::Shape};

/// A 64-bit register. It is written as hexadecimal text, because TOML's integers are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Register(pub u64);

impl TryFrom<String> for Register {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits =
            text.trim().strip_prefix("0x").ok_or_else(|| format!("`{text}` does not start with 0x"))?;
        u64::from_str_radix(digits, 16).map(Self).map_err(|error| format!("`{text}`: {error}"))
    }
}

impl From<Register> for String {
    fn from(register: Register) -> Self {
        register.to_string()
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A host's kernel, CPU and KVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The kernel's release, as `uname -r` prints it.
    pub release: String,
    /// MIDR_EL1 of CPU 0, if sysfs shows it.
    pub midr: Option<Register>,
    /// ID_AA64DFR0_EL1 of a fresh vCPU, if KVM works.
    pub id_aa64dfr0: Option<Register>,
    /// How KVM runs, if it says so.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Why ID_AA64DFR0_EL1 could not be read from KVM.
    pub no_kvm: Option<String>,
}

impl Facts {
    /// Checks that the host has the expected shape, and that KVM runs in the expected mode.
    pub fn check(&self, expected: Option<Shape>, mode: Option<Mode>) -> Result<(), String> {
        if let Some(mode) = mode.filter(|mode| self.mode != Some(*mode)) {
            let found = self.mode.map_or("does not say how it runs".into(), |found| format!("runs {found}"));
            return Err(format!("KVM should run {mode}, but {found} (Linux {})", self.release));
        }
        let Some(expected) = expected else { return Ok(()) };
        let Some(value) = self.id_aa64dfr0 else {
            let reason = self.no_kvm.as_deref().unwrap_or("no reason given");
            return Err(format!(
                "the host should have {expected}, but KVM did not provide ID_AA64DFR0_EL1: {reason}"
            ));
        };
        let found = Shape::of(value.0);
        if found == expected {
            return Ok(());
        }
        Err(format!("the host should have {expected}, but has {found} (ID_AA64DFR0_EL1 is {value})"))
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}", self.release)?;
        if let Some(midr) = self.midr {
            write!(f, ", MIDR_EL1 {midr}")?;
        }
        if let Some(mode) = self.mode {
            write!(f, ", KVM {mode}")?;
        }
        match (self.id_aa64dfr0, &self.no_kvm) {
            (Some(value), _) => write!(f, ", ID_AA64DFR0_EL1 {value} ({})", Shape::of(value.0)),
            (None, Some(reason)) => write!(f, ", no KVM ({reason})"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(value: Option<u64>) -> Facts {
        Facts {
            release: "7.3.4".into(),
            midr: Some(Register(0x410fd401)),
            mode: Some(Mode::Nvhe),
            id_aa64dfr0: value.map(Register),
            no_kvm: value.is_none().then(|| "open /dev/kvm: ENOENT".into()),
        }
    }

    #[test]
    fn facts_can_be_written_and_read_again() {
        for value in [None, Some(0xf000_0000_1030_5009)] {
            let text = toml::to_string(&facts(value)).unwrap();
            assert_eq!(toml::from_str::<Facts>(&text).unwrap(), facts(value));
        }
    }

    #[test]
    fn another_shape_and_a_missing_kvm_are_refused() {
        let stock = Shape { breakpoints: 6, watchpoints: 4, context_aware: 2 };
        let large = Shape { breakpoints: 16, watchpoints: 16, context_aware: 4 };
        assert_eq!(facts(Some(0x10305009)).check(Some(stock), None), Ok(()));
        assert_eq!(facts(None).check(None, Some(Mode::Nvhe)), Ok(()));
        let error = facts(None).check(None, Some(Mode::Protected)).unwrap_err();
        assert!(error.contains("KVM should run protected, but runs nVHE"), "{error}");
        let error = facts(Some(0x10305009)).check(Some(large), None).unwrap_err();
        assert!(error.contains("16 breakpoints") && error.contains("but has 6 breakpoints"), "{error}");
        assert!(facts(None).check(Some(stock), None).unwrap_err().contains("ENOENT"));
    }
}
