// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The turn of a case. It follows from the case's name alone, so that a case that is added, removed or moved in a list
//! changes nothing for the others.

/// A number of 32 bits: FNV-1a of 64 bits, its halves combined, because its low bits alone depend on few bits of the
/// name.
pub fn of(name: &str) -> usize {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = name.bytes().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    ((hash ^ hash >> 32) & 0xffff_ffff) as usize
}

/// The `count` of `all` places that have this turn, as far from one another as they can be; all places if there are
/// no more.
pub fn places(turn: usize, count: usize, all: usize) -> impl Iterator<Item = usize> {
    let count = count.min(all);
    (0..count).map(move |nth| (turn % all + nth * all / count) % all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// FNV-1a of the first three is 0xcbf29ce484222325, 0xaf63dc4c8601ec8c and 0x85944171f73967e8, as its authors list
    /// them.
    #[test]
    fn the_turn_of_a_name_is_the_same_in_every_build() {
        assert_eq!(of(""), 0x4fd0_bfc1);
        assert_eq!(of("a"), 0x2962_30c0);
        assert_eq!(of("foobar"), 0x72ad_2699);
        assert_eq!(of("breakpoints.fires"), 0xb544_7ac7);
    }

    #[test]
    fn places_are_different_and_far_from_one_another() {
        let of = |turn, count, all| places(turn, count, all).collect::<Vec<_>>();
        assert_eq!(of(3, 4, 20), [3, 8, 13, 18]);
        assert_eq!(of(38, 4, 20), [18, 3, 8, 13]);
        assert_eq!(of(1, 8, 3), [1, 2, 0]);
        assert_eq!(of(7, 8, 0), [0; 0]);
        for (count, all) in (1..10).flat_map(|count| (1..40).map(move |all| (count, all))) {
            for turn in 0..all {
                assert_eq!(places(turn, count, all).collect::<BTreeSet<_>>().len(), count.min(all));
            }
        }
    }
}
