// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What Arm's Base System Architecture (DEN0094, BSA 1.2) requires of a PE's self-hosted debug, and whether the host keeps it
//! for a guest. SystemReady and SBSA include these rules.
//!
//! These rules are about a PE, and the certificate about what KVM shows to a guest: they do not decide its verdict. Rule
//! B_PE_22 is left out, because it is about matching a VMID, which is for a hypervisor.

use dfr0_model::shape::Shape;
use serde::Serialize;

/// A rule, and whether it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Its number.
    pub rule: &'static str,
    /// What it requires.
    pub requires: &'static str,
    /// What KVM shows to a guest.
    pub has: String,
    /// Whether that keeps the rule.
    pub kept: bool,
}

/// Each rule, for a guest of this shape.
pub fn rules(shape: Shape) -> [Kept; 2] {
    let Shape { breakpoints, watchpoints, context_aware, .. } = shape;
    [
        Kept {
            rule: "B_PE_11",
            requires: "at least 6 breakpoints, at least 2 of them context-aware",
            has: format!("{breakpoints}, {context_aware} of them context-aware"),
            kept: breakpoints >= 6 && context_aware >= 2,
        },
        Kept {
            rule: "B_PE_12",
            requires: "at least 4 watchpoints",
            has: watchpoints.to_string(),
            kept: watchpoints >= 4,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_is_compared_with_its_own_limit() {
        let shape = Shape::from_id_aa64dfr0(0xf0_1030_5009);
        let kept = |shape| rules(shape).map(|rule| rule.kept);
        assert_eq!(kept(shape), [true, true], "6/4/2");
        assert_eq!(kept(Shape { breakpoints: 5, ..shape }), [false, true]);
        assert_eq!(kept(Shape { context_aware: 1, ..shape }), [false, true]);
        assert_eq!(kept(Shape { watchpoints: 3, ..shape }), [true, false]);
    }
}
