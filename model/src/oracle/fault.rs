// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Which accesses fault at stage 1, before any watchpoint is looked at.

use crate::{
    access::{Access, Kind},
    layout::{HIGH_TARGET, MARKERS, PAGE, PRIVILEGED, READ_ONLY, TARGET, TARGET_SIZE, UNMAPPED},
    outcome::Unknown,
    scenario::El,
};
use core::ops::Range;

/// Bits [63:56] of an address are a tag, as TCR_EL1.TBI0 is set.
pub(crate) const TAG: u64 = 0xff << 56;

/// ESR_EL1.DFSC: a Translation fault at level 3.
const TRANSLATION: u64 = 0b00_0111;
/// A Permission fault at level 3.
const PERMISSION: u64 = 0b00_1111;
/// An Alignment fault.
const ALIGNMENT: u64 = 0b10_0001;

/// A fault of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// ESR_EL1.DFSC.
    pub dfsc: u64,
    /// ESR_EL1.WnR.
    pub wnr: bool,
}

/// The fault of an access to these bytes with the privilege of `el`, if there is one.
pub(crate) fn of(access: &Access, el: El, bytes: &Range<u64>) -> Result<Option<Fault>, Unknown> {
    if access.kind == Kind::Invalidate && el == El::El0 {
        return Err(Unknown("DC IVAC at EL0, where it is UNDEFINED"));
    }
    let within = |start: u64, size: u64| start <= bytes.start && bytes.end <= start + size;
    let el = if access.unprivileged { El::El0 } else { el };
    let aligned = bytes.start.is_multiple_of(access.alignment());
    let dfsc = if within(TARGET, TARGET_SIZE) || within(HIGH_TARGET, TARGET_SIZE) {
        if aligned {
            return Ok(None);
        }
        // FEAT_LSE2 allows what lies in an aligned block of 16 bytes (AArch64.UnalignedAccessFaults).
        if access.aligned && bytes.start / 16 == (bytes.end - 1) / 16 {
            return Err(Unknown("an access that faults on its alignment, or not"));
        }
        ALIGNMENT
    } else if !aligned {
        return Err(Unknown("an access with a fault of its alignment and perhaps another"));
    } else if within(UNMAPPED, PAGE) {
        TRANSLATION
    } else if within(READ_ONLY, PAGE) {
        if !access.writes() {
            return Ok(None);
        }
        PERMISSION
    } else if within(PRIVILEGED, PAGE) {
        if el == El::El1 {
            return Ok(None);
        }
        PERMISSION
    } else if within(MARKERS, PAGE) && !access.writes() {
        return Ok(None);
    } else {
        return Err(Unknown("an access outside of the target memory"));
    };
    if access.is_of_tags() && dfsc != ALIGNMENT {
        return Err(Unknown("a fault of an access to Allocation Tags"));
    }
    match access.kind {
        Kind::Prefetch => Ok(None),
        Kind::Load | Kind::LoadTag => Ok(Some(Fault { dfsc, wnr: false })),
        Kind::Store | Kind::StoreTag | Kind::Block => Ok(Some(Fault { dfsc, wnr: true })),
        // Whether the monitor or the comparison is looked at first is IMPLEMENTATION DEFINED.
        Kind::StoreExclusive | Kind::CompareAndSwap | Kind::Atomic | Kind::Invalidate => {
            Err(Unknown("a fault of an access that reads and writes, or may not write"))
        }
        Kind::MoveLoad | Kind::MoveStore => Err(Unknown("a fault of a Memory Copy or Memory Set")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(name: &str, el: El, address: u64) -> Option<(u64, bool)> {
        let access = Access::named(name);
        let bytes = access.bytes(address, 64).expect("bytes");
        of(access, el, &bytes).expect("modelled").map(|fault| (fault.dfsc, fault.wnr))
    }

    #[test]
    fn each_page_faults_as_stage_1_has_it() {
        for el in [El::El0, El::El1] {
            assert_eq!(fault("str x1", el, TARGET + TARGET_SIZE - 8), None);
            assert_eq!(fault("ldr x1", el, READ_ONLY), None);
            assert_eq!(fault("str x1", el, READ_ONLY), Some((PERMISSION, true)));
            assert_eq!(fault("dc zva", el, READ_ONLY + 0x7f), Some((PERMISSION, true)));
            assert_eq!(fault("ldr x1", el, UNMAPPED + PAGE - 8), Some((TRANSLATION, false)));
            assert_eq!(fault("strb w1", el, UNMAPPED), Some((TRANSLATION, true)));
            assert_eq!(fault("prfm pldl1keep", el, UNMAPPED), None, "a hint");
            assert_eq!(fault("ldtr x1", el, PRIVILEGED), Some((PERMISSION, false)), "as one of EL0");
        }
        assert_eq!(fault("ldr x1", El::El0, HIGH_TARGET), None);
        assert_eq!(fault("ldr x1", El::El1, PRIVILEGED), None);
        assert_eq!(fault("ldr x1", El::El0, MARKERS), None, "code of EL0");
        assert_eq!(fault("ldr x1", El::El0, PRIVILEGED), Some((PERMISSION, false)));
    }

    #[test]
    fn what_is_not_aligned_faults_where_no_feature_allows_it() {
        assert_eq!(fault("ldr x1", El::El1, TARGET + 9), None);
        assert_eq!(fault("ldxr x1", El::El1, TARGET + 12), Some((ALIGNMENT, false)));
        assert_eq!(fault("stlr x1", El::El0, TARGET + 9), Some((ALIGNMENT, true)));
        assert_eq!(fault("stg x1", El::El0, TARGET + 8), Some((ALIGNMENT, true)));
        assert_eq!(fault("st2g x1", El::El1, TARGET + 0x30), None, "of the granule");
        assert_eq!(fault("ldg x1", El::El1, TARGET + 8), None, "around the address");
    }

    #[test]
    fn what_may_fault_or_not_is_not_modelled() {
        for (name, address) in [
            ("ldxr x1", TARGET + 4),
            ("ldxr x1", UNMAPPED + 4),
            ("ldr x1", UNMAPPED + PAGE),
            ("ldr x1", READ_ONLY - 4),
            ("str x1", MARKERS),
            ("stxr w1, x2", UNMAPPED),
            ("swp x1, x2", UNMAPPED),
            ("ldg x1", UNMAPPED),
            ("stg x1", READ_ONLY),
        ] {
            let access = Access::named(name);
            let bytes = access.bytes(address, 64).expect("bytes");
            assert!(of(access, El::El1, &bytes).is_err(), "{name} {address:#x}");
        }
    }
}
