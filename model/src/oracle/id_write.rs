// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What KVM may answer when userspace rewrites one or more fields of a debug feature register, before or
//! after the VM has run.
//!
//! The rules do not depend on the kernel version: the kernel itself reports which fields are writable (the
//! writable mask), and which values are legal follows from the ID scheme and from the value that KVM gave to
//! the VM.

use crate::{
    dfr0::{self, Field, Order},
    rule::{self, Rule},
    shape::Shape,
    sysreg::{ID_AA64DFR0_EL1, SysReg},
};
use core::fmt;

/// What the kernel reports about writable fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writable {
    /// KVM_ARM_GET_REG_WRITABLE_MASKS returned this mask.
    Mask(u64),
    /// The kernel does not have this ioctl: it may accept or refuse a legal value.
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
/// The errno of a register access before KVM_ARM_VCPU_INIT: ENOEXEC.
pub const ENOEXEC: i32 = 8;
/// The errno of a KVM_RUN with `immediate_exit`: EINTR.
pub const EINTR: i32 = 4;
/// The errno of an address that is not mapped: EFAULT.
pub const EFAULT: i32 = 14;

/// The answers that are allowed for a value, and the rule that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// KVM may accept the value.
    pub accepted: bool,
    /// KVM may refuse the value, with EINVAL.
    pub refused: bool,
    /// What the field reads as after the value was accepted.
    pub reads_back: u8,
    /// The rule that decides.
    pub rule: &'static Rule,
}

impl Allowed {
    /// This answer is allowed.
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
    let allowed = allowed_in_a_shape(field, value, default, writable);
    let written = field.with(default, value);
    match allowed.accepted && written != default && is_impossible(field.reg, written) {
        true => Allowed { refused: true, rule: &rule::ID_IMPOSSIBLE_SHAPE, ..allowed },
        false => allowed,
    }
}

/// The same if the register's value is a shape.
fn allowed_in_a_shape(field: &Field, value: u8, default: u64, writable: Writable) -> Allowed {
    let limit = field.get(default);
    let answer = |accepted, refused, rule| Allowed { accepted, refused, reads_back: value, rule };

    if value == limit {
        return answer(true, false, &rule::ID_DEFAULT_ACCEPTED);
    }
    if is_imp_def_pmu(field, value) {
        let may_refuse = !matches!(writable, Writable::Mask(mask) if mask & field.mask() == field.mask());
        return Allowed { reads_back: dfr0::PMUVER_NI, ..answer(true, may_refuse, &rule::ID_PMUVER_IMP_DEF) };
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
        Writable::Mask(_) => answer(true, false, &rule::ID_SAFE_ACCEPTED),
        Writable::Unknown => answer(true, true, &rule::ID_SAFE_ACCEPTED),
    }
}

/// What is allowed for a value of the whole register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedWhole {
    /// KVM may accept the value.
    pub accepted: bool,
    /// KVM may refuse the value, with EINVAL.
    pub refused: bool,
    /// What the register reads as after the value was accepted.
    pub reads_back: u64,
}

impl AllowedWhole {
    /// This answer is allowed.
    pub const fn allows(&self, answer: Answer) -> bool {
        match answer {
            Answer::Accepted => self.accepted,
            Answer::Refused(errno) => self.refused && errno == EINVAL,
        }
    }
}

/// The answers allowed when several fields of one register change at once, each to its own value, in a VM
/// whose register KVM set to `default`.
pub fn allowed_together(changes: &[(&Field, u8)], default: u64, writable: Writable) -> AllowedWhole {
    let value = changes.iter().fold(default, |register, (field, value)| field.with(register, *value));
    let refused = changes.iter().any(|(field, _)| is_impossible(field.reg, value));
    let start = AllowedWhole { accepted: true, refused, reads_back: value };
    changes.iter().fold(start, |whole, (field, value)| {
        let one = allowed_in_a_shape(field, *value, default, writable);
        AllowedWhole {
            accepted: whole.accepted && one.accepted,
            refused: whole.refused || one.refused,
            reads_back: field.with(whole.reads_back, one.reads_back),
        }
    })
}

/// The answers allowed when the whole register is set to `value` after a vCPU of the VM has run with `frozen`.
///
/// Kernels with writable masks answer EBUSY. Kernels without them may answer EINVAL, as for any other refused
/// value.
pub const fn allowed_after_run(value: u64, frozen: u64, writable: Writable) -> &'static [Answer] {
    match writable {
        _ if value == frozen => &[Answer::Accepted],
        Writable::Mask(_) => &[Answer::Refused(EBUSY)],
        Writable::Unknown => &[Answer::Refused(EBUSY), Answer::Refused(EINVAL)],
    }
}

/// The answers allowed when one field of the register is set to `value` after a vCPU of the VM has run with `frozen`;
/// `default` is what KVM gave to the VM. The rule returned is the one that decides.
///
/// Whatever the answer, the register keeps its value: KVM may accept an IMPLEMENTATION DEFINED PMU, which
/// means no PMU, only if the VM already has no PMU.
pub fn allowed_late(
    field: &Field,
    value: u8,
    frozen: u64,
    default: u64,
    writable: Writable,
) -> (&'static [Answer], &'static Rule) {
    const REFUSED: &[Answer] = &[Answer::Refused(EBUSY), Answer::Refused(EINVAL)];
    const ANY: &[Answer] = &[Answer::Accepted, Answer::Refused(EBUSY), Answer::Refused(EINVAL)];
    let is_same = field.get(frozen) == value;
    if !is_same && is_imp_def_pmu(field, value) {
        let is_none = field.get(frozen) == dfr0::PMUVER_NI;
        return (if is_none { ANY } else { REFUSED }, &rule::ID_PMUVER_IMP_DEF);
    }
    let written = field.with(frozen, value);
    let legal = allowed(field, value, default, writable).accepted && !is_impossible(field.reg, written);
    if !is_same && !legal {
        return (REFUSED, &rule::ID_LATE_AND_ILLEGAL);
    }
    (allowed_after_run(written, frozen, writable), &rule::ID_FROZEN_BY_RUN)
}

/// PMUVer's or PerfMon's IMPLEMENTATION DEFINED form.
pub(crate) fn is_imp_def_pmu(field: &Field, value: u8) -> bool {
    field.order == Order::UnsignedOrImpDef && value == dfr0::PMUVER_IMP_DEF
}

/// The value of this register has more context-aware breakpoints than breakpoints, which KVM may refuse or not.
pub(crate) fn is_impossible(reg: SysReg, value: u64) -> bool {
    let shape = Shape::from_id_aa64dfr0(value);
    reg == ID_AA64DFR0_EL1 && shape.context_aware > shape.breakpoints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dfr0::{
        BRPS, CTX_CMPS, DEBUGVER, DOUBLELOCK, FIELDS, PMUVER, PMUVER_IMP_DEF, PMUVER_NI, TRACEVER, WRPS,
    };
    use crate::id_dfr0::{COPDBG, COPSDBG, PERFMON};
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
    fn fewer_breakpoints_together_with_fewer_context_aware_ones_are_accepted() {
        let default = CTX_CMPS.with(DEFAULT, 3);
        let together = |brps, ctx_cmps| {
            let changes = [(&BRPS, brps), (&CTX_CMPS, ctx_cmps)];
            let whole = allowed_together(&changes, default, Writable::Mask(u64::MAX));
            (whole.accepted, whole.refused)
        };
        assert_eq!([together(2, 2), together(1, 2)], [ACCEPTED, EITHER]);
    }

    #[test]
    fn as_many_context_aware_breakpoints_as_breakpoints_are_accepted() {
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
    fn an_impdef_pmu_is_accepted_as_no_pmu_where_the_field_can_be_written() {
        let imp_def = |default, writable| allowed(&PMUVER, PMUVER_IMP_DEF, default, writable);
        for default in [DEFAULT, PMUVER.with(DEFAULT, 4)] {
            assert_eq!(imp_def(default, MASK).reads_back, PMUVER_NI);
            assert!(imp_def(default, MASK).accepted && !imp_def(default, MASK).refused);
        }
        let handed_out = PMUVER.with(DEFAULT, PMUVER_IMP_DEF);
        assert_eq!(imp_def(handed_out, MASK).reads_back, PMUVER_IMP_DEF, "what KVM gave to the VM stays");
    }

    #[test]
    fn a_kernel_on_which_pmuver_cannot_be_written_may_refuse_an_impdef_pmu() {
        for writable in [Writable::Unknown, Writable::Mask(0), Writable::Mask(!PMUVER.mask())] {
            let allowed = allowed(&PMUVER, PMUVER_IMP_DEF, DEFAULT, writable);
            assert_eq!((allowed.accepted, allowed.refused, allowed.reads_back), (true, true, PMUVER_NI));
        }
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
    fn a_late_legal_value_is_refused_with_ebusy_and_a_late_illegal_one_with_ebusy_or_einval() {
        let late = |field, value| allowed_late(field, value, DEFAULT, DEFAULT, MASK);
        assert_eq!(late(&WRPS, 3), (&[Answer::Accepted][..], &rule::ID_FROZEN_BY_RUN));
        assert_eq!(late(&WRPS, 2), (&[Answer::Refused(EBUSY)][..], &rule::ID_FROZEN_BY_RUN));
        let refused = &[Answer::Refused(EBUSY), Answer::Refused(EINVAL)][..];
        for (field, value) in [(&WRPS, 4), (&WRPS, 0), (&BRPS, 4), (&DEBUGVER, 5), (&DOUBLELOCK, 8)] {
            assert_eq!(late(field, value), (refused, &rule::ID_LATE_AND_ILLEGAL), "{} {value}", field.name);
        }
    }

    #[test]
    fn a_late_value_that_is_not_a_shape_may_be_refused_as_an_illegal_one() {
        const ALL: Writable = Writable::Mask(u64::MAX);
        let refused = &[Answer::Refused(EBUSY), Answer::Refused(EINVAL)][..];
        let late =
            |field, value, frozen| allowed_late(field, value, frozen, CTX_CMPS.with(DEFAULT, 3), ALL).0;
        let frozen = CTX_CMPS.with(DEFAULT, 3);
        assert_eq!([late(&BRPS, 2, frozen), late(&BRPS, 3, frozen)], [refused, &[Answer::Refused(EBUSY)]]);
        let lowered = BRPS.with(CTX_CMPS.with(DEFAULT, 1), 1);
        assert_eq!(late(&CTX_CMPS, 2, lowered), refused, "with the number of breakpoints that the VM has");
        assert_eq!(late(&CTX_CMPS, 0, lowered), [Answer::Refused(EBUSY)]);
    }

    #[test]
    fn what_was_lowered_before_a_run_cannot_be_raised_again_after_it() {
        let frozen = WRPS.with(DEFAULT, 1);
        let late = |value| allowed_late(&WRPS, value, frozen, DEFAULT, MASK).0;
        assert_eq!(
            [late(1), late(2), late(3)],
            [&[Answer::Accepted][..], &[Answer::Refused(EBUSY)][..], &[Answer::Refused(EBUSY)][..]]
        );
    }

    #[test]
    fn after_a_run_an_impdef_pmu_may_be_accepted_only_where_there_is_no_pmu() {
        let late = |frozen| allowed_late(&PMUVER, 15, PMUVER.with(DEFAULT, frozen), DEFAULT, MASK).0;
        assert!(late(0).contains(&Answer::Accepted) && late(0).contains(&Answer::Refused(EBUSY)));
        assert!(!late(4).contains(&Answer::Accepted));
        assert_eq!(late(15), [Answer::Accepted], "the same is always accepted");
    }

    #[test]
    fn a_kernel_without_masks_may_refuse_a_late_value_with_einval() {
        let late = allowed_late(&WRPS, 2, DEFAULT, DEFAULT, Writable::Unknown).0;
        assert_eq!(late, [Answer::Refused(EBUSY), Answer::Refused(EINVAL)]);
    }

    #[test]
    fn one_illegal_field_refuses_the_whole_value() {
        let legal = allowed_together(&[(&WRPS, 2), (&DOUBLELOCK, 15)], DEFAULT, MASK);
        let reads_back = WRPS.with(DOUBLELOCK.with(DEFAULT, 15), 2);
        assert_eq!(legal, AllowedWhole { accepted: true, refused: false, reads_back });
        assert!(legal.allows(Answer::Accepted) && !legal.allows(Answer::Refused(EINVAL)));
        let illegal = allowed_together(&[(&WRPS, 2), (&DEBUGVER, 9)], DEFAULT, MASK);
        assert!(illegal.allows(Answer::Refused(EINVAL)) && !illegal.allows(Answer::Refused(EBUSY)));
        assert!(!illegal.allows(Answer::Accepted));
    }

    #[test]
    fn an_impdef_pmu_beside_another_field_reads_as_no_pmu() {
        let whole = allowed_together(&[(&WRPS, 2), (&PMUVER, 15)], DEFAULT, MASK);
        assert_eq!((whole.accepted, whole.refused), ACCEPTED);
        assert_eq!(whole.reads_back, WRPS.with(DEFAULT, 2));
    }

    #[test]
    fn an_impossible_shape_may_be_refused_together_with_another_field() {
        let all = Writable::Mask(u64::MAX);
        let default = CTX_CMPS.with(DEFAULT, 5);
        let whole = allowed_together(&[(&BRPS, 3), (&WRPS, 2)], default, all);
        assert_eq!((whole.accepted, whole.refused), EITHER);
        let shape = allowed_together(&[(&BRPS, 3), (&CTX_CMPS, 3)], default, all);
        assert!(shape.accepted, "as many context-aware breakpoints as breakpoints");
    }

    #[test]
    fn a_field_of_the_aarch32_register_is_not_a_count_of_the_shape() {
        let default = COPDBG.with(COPSDBG.with(0, 8), 8);
        let lower = allowed(&COPSDBG, 6, default, Writable::Mask(u32::MAX.into()));
        assert_eq!((lower.accepted, lower.refused, lower.rule), (true, false, &rule::ID_SAFE_ACCEPTED));
        let floor = allowed(&COPDBG, 5, default, Writable::Mask(u32::MAX.into()));
        assert_eq!((floor.accepted, floor.refused), REFUSED);
        let imp_def = allowed(&PERFMON, 15, default, Writable::Mask(u32::MAX.into()));
        assert_eq!((imp_def.accepted, imp_def.refused, imp_def.reads_back), (true, false, 0));
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
