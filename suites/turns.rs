// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! How the breakpoints or watchpoints of a host share a sweep that takes too long to run for each of them.

/// How many numbers share a sweep.
const TURNS: usize = 4;

/// Number 0, and a register without a number, has every turn. The others have every fourth turn each, so that
/// four neighbours together have all turns.
pub fn takes_turn(n: Option<u8>, turn: usize) -> bool {
    n.is_none_or(|n| n == 0 || turn % TURNS == usize::from(n) % TURNS)
}

#[test]
fn number_0_has_every_turn_and_four_neighbours_share_each() {
    for turn in 0..100 {
        assert!(takes_turn(None, turn) && takes_turn(Some(0), turn));
        assert_eq!((1..5).filter(|n| takes_turn(Some(*n), turn)).count(), 1);
    }
}
