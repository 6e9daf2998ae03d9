// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What KVM may answer when userspace rewrites one field of ID_AA64DFR0_EL1 before the VM runs.
//!
//! The rule knows no kernel version: which fields are writable is the kernel's own word (the writable mask), and
//! which values are legal follows from the ID scheme and from what KVM gave the VM.

use crate::{
    dfr0::{self, Field},
    rule::{self, Rule},
    shape::Shape,
};
use core::fmt;

/// What the kernel says of its writable fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writable {
    /// KVM_ARM_GET_REG_WRITABLE_MASKS gave this mask.
    Mask(u64),
    /// The kernel has no such ioctl: a legal value may be accepted or refused.
    Unknown,
}

/// What KVM answered to a KVM_SET_ONE_REG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It returned 0.
    Accepted,
    /// It failed with this errno.
    Refused(i32),
}

/// The errno of a refused value: EINVAL.
pub const EINVAL: i32 = 22;
/// The errno of a change that comes too late: EBUSY.
pub const EBUSY: i32 = 16;

/// The answers that are allowed for a value, and the rule that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// KVM may accept the value.
    pub accepted: bool,
    /// KVM may refuse the value, with EINVAL.
    pub refused: bool,
    /// What the field reads as once the value was accepted.
    pub reads_back: u8,
    /// Why.
    pub rule: &'static Rule,
}

impl Allowed {
    /// The rule allows this answer.
    pub const fn allows(&self, answer: Answer) -> bool {
        match answer {
            Answer::Accepted => self.accepted,
            Answer::Refused(errno) => self.refused && errno == EINVAL,
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.accepted, self.refused) {
            (true, true) => "accepted or refused with EINVAL",
            (true, false) => "accepted",
            _ => "refused with EINVAL",
        })
    }
}

/// The answers allowed when `field` alone is set to `value` in a VM whose register KVM set to `default`.
pub fn allowed(field: &Field, value: u8, default: u64, writable: Writable) -> Allowed {
    let limit = field.get(default);
    let answer = |accepted, refused, rule| Allowed { accepted, refused, reads_back: value, rule };

    if value == limit {
        return answer(true, false, &rule::ID_DEFAULT_ACCEPTED);
    }
    if field.lsb == dfr0::PMUVER.lsb && value == dfr0::PMUVER_IMP_DEF {
        return Allowed { reads_back: dfr0::PMUVER_NI, ..answer(true, true, &rule::ID_PMUVER_IMP_DEF) };
    }
    if !field.promises_no_more(value, limit) {
        return answer(false, true, &rule::ID_UNSAFE_REFUSED);
    }
    if !field.is_architected(value) {
        return answer(false, true, &rule::ID_RESERVED_REFUSED);
    }
    match writable {
        Writable::Mask(mask) if mask & field.mask() != field.mask() => {
            answer(false, true, &rule::ID_READ_ONLY_REFUSED)
        }
        _ if is_impossible(field.with(default, value)) => answer(true, true, &rule::ID_IMPOSSIBLE_SHAPE),
        Writable::Mask(_) => answer(true, false, &rule::ID_SAFE_ACCEPTED),
        Writable::Unknown => answer(true, true, &rule::ID_SAFE_ACCEPTED),
    }
}

/// The answers allowed when the whole register is set to `value` after a vCPU of the VM has run with `frozen`.
///
/// Kernels without the writable masks answer EINVAL as to any other refused value, those with them EBUSY.
pub const fn allowed_after_run(value: u64, frozen: u64, writable: Writable) -> &'static [Answer] {
    match writable {
        _ if value == frozen => &[Answer::Accepted],
        Writable::Mask(_) => &[Answer::Refused(EBUSY)],
        Writable::Unknown => &[Answer::Refused(EBUSY), Answer::Refused(EINVAL)],
    }
}

fn is_impossible(register: u64) -> bool {
    let shape = Shape::from_id_aa64dfr0(register);
    shape.context_aware > shape.breakpoints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dfr0::{BRPS, CTX_CMPS, DEBUGVER, DOUBLELOCK, FIELDS, PMUVER, TRACEVER, WRPS};
    use proptest::prelude::*;

    /// Six breakpoints, four watchpoints, two context-aware, Armv8.2 debug, DoubleLock implemented, no PMU.
    const DEFAULT: u64 = 0x1030_5008;
    const MASK: Writable = Writable::Mask(0xf0_00f0_0f0f);

    fn answers(field: &Field, value: u8, writable: Writable) -> (bool, bool) {
        let allowed = allowed(field, value, DEFAULT, writable);
        (allowed.accepted, allowed.refused)
    }

    const ACCEPTED: (bool, bool) = (true, false);
    const REFUSED: (bool, bool) = (false, true);
    const EITHER: (bool, bool) = (true, true);

    #[test]
    fn fewer_watchpoints_are_accepted_and_more_are_not() {
        assert_eq!(answers(&WRPS, 2, MASK), ACCEPTED);
        assert_eq!(answers(&WRPS, 4, MASK), REFUSED);
    }

    #[test]
    fn a_single_watchpoint_is_a_reserved_encoding() {
        assert_eq!(answers(&WRPS, 0, MASK), REFUSED);
        assert_eq!(allowed(&WRPS, 0, DEFAULT, MASK).rule, &rule::ID_RESERVED_REFUSED);
    }

    #[test]
    fn a_field_outside_of_the_mask_keeps_its_value() {
        assert_eq!(answers(&BRPS, 4, MASK), REFUSED);
        assert_eq!(answers(&BRPS, 5, MASK), ACCEPTED);
        assert_eq!(answers(&BRPS, 4, Writable::Mask(u64::MAX)), ACCEPTED);
    }

    #[test]
    fn more_context_aware_breakpoints_than_breakpoints_may_be_refused_or_not() {
        let default = CTX_CMPS.with(DEFAULT, 5);
        let allowed = allowed(&BRPS, 3, default, Writable::Mask(u64::MAX));
        assert_eq!((allowed.accepted, allowed.refused), EITHER);
    }

    #[test]
    fn as_many_context_aware_breakpoints_as_breakpoints_are_a_shape() {
        let default = CTX_CMPS.with(DEFAULT, 3);
        let allowed = allowed(&BRPS, 3, default, Writable::Mask(u64::MAX));
        assert_eq!((allowed.accepted, allowed.refused, allowed.rule), (true, false, &rule::ID_SAFE_ACCEPTED));
    }

    #[test]
    fn what_is_allowed_prints_as_the_answers() {
        let print = |accepted, refused| {
            let allowed = Allowed { accepted, refused, reads_back: 0, rule: &rule::ID_SAFE_ACCEPTED };
            alloc::string::ToString::to_string(&allowed)
        };
        assert_eq!(print(true, true), "accepted or refused with EINVAL");
        assert_eq!(print(true, false), "accepted");
        assert_eq!(print(false, true), "refused with EINVAL");
    }

    #[test]
    fn hiding_the_double_lock_is_safe_and_showing_it_is_not() {
        assert_eq!(answers(&DOUBLELOCK, 15, MASK), ACCEPTED);
        let hidden = DOUBLELOCK.with(DEFAULT, 15);
        assert!(!allowed(&DOUBLELOCK, 0, hidden, MASK).accepted);
        for reserved in 8..15 {
            assert_eq!(answers(&DOUBLELOCK, reserved, MASK), REFUSED);
        }
    }

    #[test]
    fn debugver_has_a_floor() {
        assert_eq!(answers(&DEBUGVER, 6, MASK), ACCEPTED);
        assert_eq!(answers(&DEBUGVER, 5, MASK), REFUSED);
        assert_eq!(answers(&DEBUGVER, 9, MASK), REFUSED);
    }

    #[test]
    fn an_impdef_pmu_may_be_accepted_and_then_reads_as_none() {
        let allowed = allowed(&PMUVER, 15, DEFAULT, MASK);
        assert_eq!((allowed.accepted, allowed.refused, allowed.reads_back), (true, true, 0));
    }

    #[test]
    fn a_feature_that_kvm_does_not_have_cannot_be_claimed() {
        assert_eq!(answers(&TRACEVER, 1, Writable::Mask(u64::MAX)), REFUSED);
        assert_eq!(answers(&TRACEVER, 1, Writable::Unknown), REFUSED);
    }

    #[test]
    fn a_kernel_without_masks_may_accept_or_refuse_a_legal_value() {
        assert_eq!(answers(&WRPS, 2, Writable::Unknown), EITHER);
        assert_eq!(answers(&WRPS, 0, Writable::Unknown), REFUSED);
    }

    #[test]
    fn a_vm_that_has_run_keeps_its_register() {
        assert_eq!(allowed_after_run(DEFAULT, DEFAULT, MASK), [Answer::Accepted]);
        assert_eq!(allowed_after_run(0, DEFAULT, MASK), [Answer::Refused(EBUSY)]);
        assert!(!allowed_after_run(0, DEFAULT, Writable::Unknown).contains(&Answer::Accepted));
    }

    #[test]
    fn only_einval_refuses() {
        let refused = allowed(&BRPS, 6, DEFAULT, MASK);
        assert!(refused.allows(Answer::Refused(EINVAL)));
        assert!(!refused.allows(Answer::Refused(7)));
        assert!(!refused.allows(Answer::Accepted));
    }

    proptest! {
        #[test]
        fn the_default_is_accepted_and_something_is_always_allowed(default: u64, mask: u64, place in 0_usize..16, value in 0_u8..16) {
            let field = FIELDS[place];
            let verdict = allowed(field, value, default, Writable::Mask(mask));
            prop_assert!(verdict.accepted || verdict.refused);
            if value == field.get(default) {
                prop_assert!(!verdict.refused);
            }
        }

        #[test]
        fn a_wider_mask_only_ever_allows_more_to_be_accepted(default: u64, mask: u64, more: u64, place in 0_usize..16, value in 0_u8..16) {
            let field = FIELDS[place];
            let narrow = allowed(field, value, default, Writable::Mask(mask));
            let wide = allowed(field, value, default, Writable::Mask(mask | more));
            prop_assert!(!narrow.accepted || wide.accepted);
        }
    }
}
