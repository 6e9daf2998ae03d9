// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! How the numbers of a host's registers share a sweep that costs too much for each of them.

/// How many numbers share it.
const TURNS: usize = 4;

/// Number 0, and what has no number, has every turn; the others have each fourth, so that four neighbours have all.
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
