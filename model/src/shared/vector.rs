// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! SVE contiguous loads and stores of bytes, with X0 as their base.

use crate::access::Access;
use core::ops::Range;

/// The most bytes that a piece of code accesses: the number of elements of the shortest vector.
pub const ELEMENTS: u8 = 16;
/// The size of the blocks to which SVE accesses are rounded, in bytes.
const GRANULE: u64 = 16;

/// Which elements of an access report by an exception that they cannot be accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faulting {
    /// Each Active element.
    All,
    /// The First active element; the FFR says what became of the others.
    First,
    /// None; the FFR says what became of them.
    None,
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vector {
    /// It writes memory.
    pub stores: bool,
    /// Which elements report with an exception.
    pub faulting: Faulting,
    /// The first Active element.
    pub first: u8,
    /// The element after the last Active one; between the two all are Active.
    pub end: u8,
}

impl Vector {
    /// A load or a store, as a watchpoint's LSC sees it.
    pub const fn access(&self) -> &'static Access {
        const LOAD: &Access = Access::named("ldr q0");
        const STORE: &Access = Access::named("str q0");
        if self.stores { STORE } else { LOAD }
    }

    /// The bytes of its Active elements.
    pub fn bytes(&self, base: u64) -> Range<u64> {
        base + u64::from(self.first)..base + u64::from(self.end)
    }

    /// The bytes of its Active elements, rounded to the blocks that a relaxed watchpoint access may be taken for.
    pub fn rounded(&self, base: u64) -> Range<u64> {
        let Range { start, end } = self.bytes(base);
        start - start % GRANULE..end.next_multiple_of(GRANULE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_active_elements_and_are_rounded_to_sixteen() {
        let vector = Vector { stores: false, faulting: Faulting::All, first: 4, end: 16 };
        assert_eq!(vector.bytes(0x100), 0x104..0x110);
        assert_eq!(vector.rounded(0x100), 0x100..0x110);
        assert_eq!(vector.rounded(0x10c), 0x110..0x120, "no Active element lies in the block before");
        assert_eq!(vector.rounded(0x108), 0x100..0x120);
    }

    #[test]
    fn for_a_watchpoint_it_is_a_load_or_a_store() {
        for stores in [false, true] {
            let access = Vector { stores, faulting: Faulting::All, first: 0, end: 16 }.access();
            assert_eq!((access.reads(), access.writes()), (!stores, stores));
        }
    }
}
