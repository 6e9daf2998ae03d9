// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The numbers of a CPU's debug registers, and their fields in ID_AA64DFR0_EL1.

use std::fmt;

use dfr0_model::dfr0::{BRPS, CTX_CMPS, Field, WRPS};
use serde::{Deserialize, Serialize};

/// Numbers of registers (not the fields' values, which are one less). A deserialised shape is one that Armv8-A allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Counts")]
pub struct Shape {
    /// Breakpoints, 2 to 16.
    pub breakpoints: u8,
    /// Watchpoints, 2 to 16.
    pub watchpoints: u8,
    /// Breakpoints that are context-aware: the highest numbered ones.
    pub context_aware: u8,
}

/// A [`Shape`] as it was written, before its counts are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    breakpoints: u8,
    watchpoints: u8,
    context_aware: u8,
}

impl TryFrom<Counts> for Shape {
    type Error = String;

    fn try_from(counts: Counts) -> Result<Self, String> {
        let Counts { breakpoints, watchpoints, context_aware } = counts;
        for (key, count) in [("breakpoints", breakpoints), ("watchpoints", watchpoints)] {
            if !(2..=16).contains(&count) {
                return Err(format!(
                    "shape: {key} = {count}, but a CPU has 2 to 16 (DDI 0487, ID_AA64DFR0_EL1)"
                ));
            }
        }
        if !(1..=breakpoints).contains(&context_aware) {
            return Err(format!(
                "shape: context_aware = {context_aware}, but of {breakpoints} breakpoints 1 to {breakpoints} can be \
                 context-aware"
            ));
        }
        Ok(Self { breakpoints, watchpoints, context_aware })
    }
}

impl Shape {
    /// The shape in a value of ID_AA64DFR0_EL1.
    pub fn of(id_aa64dfr0: u64) -> Self {
        let count = |field: Field| field.get(id_aa64dfr0) + 1;
        Self { breakpoints: count(BRPS), watchpoints: count(WRPS), context_aware: count(CTX_CMPS) }
    }

    /// `id_aa64dfr0` with the BRPs, WRPs and CTX_CMPs of this shape.
    pub fn in_place_of(self, id_aa64dfr0: u64) -> u64 {
        [(BRPS, self.breakpoints), (WRPS, self.watchpoints), (CTX_CMPS, self.context_aware)]
            .into_iter()
            .fold(id_aa64dfr0, |value, (field, count)| field.with(value, count.wrapping_sub(1)))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} breakpoints, {} watchpoints, {} context-aware",
            self.breakpoints, self.watchpoints, self.context_aware
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stock_cpu_of_qemu_has_the_same_shape() {
        for value in [0x1f210305519, 0x110305408, 0x11f010305619] {
            let Shape { breakpoints, watchpoints, context_aware } = Shape::of(value);
            assert_eq!((breakpoints, watchpoints, context_aware), (6, 4, 2));
        }
    }

    #[test]
    fn other_fields_do_not_change() {
        let shape = Shape { breakpoints: 16, watchpoints: 8, context_aware: 4 };
        let value = shape.in_place_of(0x1f210305519);
        assert_eq!(value, 0x1f23070f519);
        assert_eq!(Shape::of(value), shape);
    }
}
