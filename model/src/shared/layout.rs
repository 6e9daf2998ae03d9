// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The layout of the guest's memory.
//!
//! ```text
//!   DOORBELL     0x1000_0000   no memory: a store exits to userspace; from 0x100 on in the middle of code
//!   RAM          0x4000_0000   the payload, linked here, data and stack included
//!   VECTORS      0x4000_0800   its exception vectors
//!   MARKERS      0x4001_0000   NOP, RET; NOP, RET; …: one pair per marker   executable at EL0 and EL1
//!   SEQUENCES    0x4001_0100   pieces of code of up to seven instructions, and RET; the first is at 0x4001_0400
//!   BRK          0x4001_0800   BRK #0xdf, RET
//!   RETURN       0x4001_0808   SVC #0, which ends code that an exception return entered
//!   ACCESSES     0x4001_0900   an access, RET; …: one pair per access
//!   TARGET       0x400f_0000   what accesses access                      readable and writable at EL0 and EL1
//!   READ_ONLY    0x400f_2000   memory that no store reaches              readable at EL0 and EL1
//!   PRIVILEGED   0x400f_3000   memory that EL0 does not reach            readable and writable at EL1
//!   UNMAPPED     0x400f_4000   a page that stage 1 does not map
//!   TABLES       0x4010_0000   stage 1 tables, written by the runner
//! ```

use crate::{
    access::{ACCESSES, Access},
    event::VECTOR_CURRENT_EL_SYNCHRONOUS,
    op::Passage,
    sequence::{SEQUENCE_LEN, SEQUENCES, Sequence},
};

/// A store here exits to userspace; the value is a [`Bell`](crate::wire::Bell).
pub const DOORBELL: u64 = 0x1000_0000;
/// Stores from here on exit to userspace in the middle of code; each [`Passage`] has a doubleword.
const PASSAGES: u64 = DOORBELL + 0x100;
/// Where the guest's memory starts.
pub const RAM: u64 = 0x4000_0000;
/// How much memory the guest has, in bytes.
pub const RAM_SIZE: usize = 0x20_0000;
/// Where the markers start.
pub const MARKERS: u64 = 0x4001_0000;
/// The number of markers.
pub const MARKER_COUNT: u8 = 32;
/// Where the BRK marker is.
pub const BRK: u64 = 0x4001_0800;
/// Where the SVC is that ends code which an exception return entered.
pub const RETURN: u64 = BRK + 8;
/// Where the memory accesses are, in the order of [`crate::access::TABLE`].
pub const ACCESS_CODE: u64 = 0x4001_0900;
/// Where they end.
pub const ACCESS_CODE_END: u64 = ACCESS_CODE + 8 * ACCESSES as u64;
/// Where the pieces of code are.
pub const SEQUENCE_CODE: u64 = 0x4001_0100;
/// The number of places for them. What follows the last place is at the first.
pub const SEQUENCE_PLACES: usize = 56;
/// The place of the first piece of [`crate::sequence::TABLE`]; the others follow.
const FIRST_SEQUENCE: usize = 24;
/// Where the payload's handler of a synchronous exception from EL1 starts.
pub const VECTOR: u64 = RAM + 0x800 + 0x80 * VECTOR_CURRENT_EL_SYNCHRONOUS;
/// The memory that accesses access.
pub const TARGET: u64 = 0x400f_0000;
/// Its size in bytes.
pub const TARGET_SIZE: u64 = 0x2000;
/// The same memory at another address, which has bits above [31:0].
pub const HIGH_TARGET: u64 = TARGET | 1 << 38;
/// The size of a page in bytes.
pub const PAGE: u64 = 0x1000;
/// A page that stage 1 maps read-only.
pub const READ_ONLY: u64 = TARGET + TARGET_SIZE;
/// A page that stage 1 maps for EL1 alone.
pub const PRIVILEGED: u64 = READ_ONLY + PAGE;
/// A page that stage 1 does not map.
pub const UNMAPPED: u64 = PRIVILEGED + PAGE;
/// The immediate of the BRK marker.
pub const BRK_IMMEDIATE: u16 = 0xdf;
/// Where the runner writes the stage 1 tables.
pub const TABLES: u64 = 0x4010_0000;

/// The address of marker `k`'s NOP; its RET is the next instruction.
pub const fn marker(k: u8) -> u64 {
    MARKERS + 8 * k as u64
}

/// The address to which EL1 stores for userspace to do this.
pub const fn passage(passage: Passage) -> u64 {
    let place = match passage {
        Passage::Migrate(to) => to as u64,
        Passage::Complete => 6,
        Passage::DebugOff => 7,
        Passage::DebugOn => 8,
        Passage::Steps => 9,
        Passage::StepsNothing => 10,
        Passage::StepsOne => 11,
    };
    PASSAGES + 8 * place
}

/// What userspace does after a store to this address.
pub fn passage_at(address: u64) -> Option<Passage> {
    Passage::ALL.into_iter().find(|one| passage(*one) == address)
}

/// The address of an access's instruction; its RET is the next one.
pub const fn access_code(access: &Access) -> u64 {
    ACCESS_CODE + 8 * access.place as u64
}

/// Among the places for pieces of code, that of the piece at this place in [`crate::sequence::TABLE`].
pub const fn sequence_place(place: usize) -> usize {
    (FIRST_SEQUENCE + place) % SEQUENCE_PLACES
}

/// The address of a piece of code.
pub const fn sequence_code(sequence: &Sequence) -> u64 {
    SEQUENCE_CODE + SEQUENCE_SIZE * sequence_place(sequence.place as usize) as u64
}

/// The address of its RET.
pub const fn sequence_ret(sequence: &Sequence) -> u64 {
    sequence_code(sequence) + 4 * sequence.instructions.len() as u64
}

/// The number of bytes of a piece of code.
const SEQUENCE_SIZE: u64 = 4 * SEQUENCE_LEN as u64;

// Nothing of the layout overlaps, and all of it lies in memory.
const _: () = {
    assert!(marker(MARKER_COUNT - 1) + 8 <= SEQUENCE_CODE);
    assert!(SEQUENCES <= SEQUENCE_PLACES);
    assert!(SEQUENCE_CODE + SEQUENCE_SIZE * SEQUENCE_PLACES as u64 <= BRK && RETURN + 4 <= ACCESS_CODE);
    assert!(ACCESS_CODE_END <= MARKERS + 0x1000);
    assert!(RAM < MARKERS && MARKERS + 0x1000 <= TARGET);
    assert!(UNMAPPED + PAGE <= TABLES && TABLES < RAM + RAM_SIZE as u64);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access, sequence};

    #[test]
    fn each_passage_has_an_address_of_its_own() {
        for one in Passage::ALL {
            assert_eq!(passage_at(passage(one)), Some(one));
        }
        assert_eq!(passage_at(DOORBELL), None);
    }

    #[test]
    fn code_lies_where_the_map_of_this_module_has_it() {
        assert_eq!([marker(0), marker(1), marker(31)], [0x4001_0000, 0x4001_0008, 0x4001_00f8]);
        assert_eq!([BRK, RETURN], [0x4001_0800, 0x4001_0808]);
        assert_eq!(
            [0, 1, 31, 32].map(|place| sequence_code(&sequence::TABLE[place])),
            [0x4001_0400, 0x4001_0420, 0x4001_07e0, 0x4001_0100]
        );
        assert_eq!(VECTOR, 0x4000_0a00);
        assert_eq!(
            [0, 1, 26].map(|place| access_code(&access::TABLE[place])),
            [0x4001_0900, 0x4001_0908, 0x4001_09d0]
        );
    }
}
