// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The memory accesses that the payload can do: one instruction each, at the address in X0.

use crate::feature::Feature;
use core::{fmt, ops::Range};

/// What an instruction does with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads.
    Load,
    /// Writes.
    Store,
    /// Reads and writes, atomically.
    Atomic,
    /// Reads, and writes if what was read is what it was given.
    CompareAndSwap,
    /// Writes if the exclusive monitor is still held.
    StoreExclusive,
    /// Writes to the block of DCZID_EL0.BS bytes around its address: zeros, Allocation Tags, or both.
    Block,
    /// Reads the Allocation Tag of the granule around its address.
    LoadTag,
    /// Writes the Allocation Tags of granules from its address upwards, and perhaps their bytes.
    StoreTag,
    /// Invalidates the cache line of IMPLEMENTATION DEFINED size around its address; at EL1 alone.
    Invalidate,
    /// Neither: a hint.
    Prefetch,
    /// Reads, as a part of a Memory Copy.
    MoveLoad,
    /// Writes, as a part of a Memory Copy or Memory Set.
    MoveStore,
}

/// One instruction that accesses memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Access {
    /// Its place in [`TABLE`].
    pub(crate) place: u8,
    /// Its mnemonic and transfer registers.
    pub name: &'static str,
    /// The instruction, with X0 as its base.
    pub instruction: u32,
    /// What it does.
    pub kind: Kind,
    /// The number of bytes that it accesses, from the address in X0 upwards; unused for a [`Kind::Block`].
    pub size: u8,
    /// It faults unless its address is a multiple of its size.
    pub aligned: bool,
    /// At EL1 it accesses memory as EL0 would.
    pub unprivileged: bool,
    /// The feature that it needs.
    pub needs: Option<Feature>,
    /// It is a Load-Exclusive instruction, as ESR_EL1.EX of a Software Step exception understands it.
    pub load_exclusive: bool,
}

pub(crate) const fn access(name: &'static str, instruction: u32, kind: Kind, size: u8) -> Access {
    Access {
        place: u8::MAX,
        name,
        instruction,
        kind,
        size,
        aligned: false,
        unprivileged: false,
        needs: None,
        load_exclusive: false,
    }
}

const fn aligned(access: Access) -> Access {
    Access { aligned: true, ..access }
}

const fn load_exclusive(access: Access) -> Access {
    Access { load_exclusive: true, ..aligned(access) }
}

const fn unprivileged(access: Access) -> Access {
    Access { unprivileged: true, ..access }
}

const fn tags(name: &'static str, instruction: u32, kind: Kind, size: u8) -> Access {
    Access { needs: Some(Feature::Mte2), ..access(name, instruction, kind, size) }
}

const fn lse(access: Access) -> Access {
    Access { needs: Some(Feature::Lse), ..aligned(access) }
}

/// The number of accesses.
pub const ACCESSES: usize = 41;
/// The most bytes that DC IVAC accesses, a block that is aligned (DDI 0487 D2.9.5.1, Size of the data access).
const LARGEST_LINE: u64 = 2048;

/// The bytes that one Allocation Tag is for (DDI 0487 D10.2, Tag Granule).
const GRANULE: u64 = 16;

/// Every access. New ones go last, because snapshots hold places.
pub static TABLE: [Access; ACCESSES] = placed([
    access("ldrb w1", 0x3940_0001, Kind::Load, 1),
    access("ldrh w1", 0x7940_0001, Kind::Load, 2),
    access("ldr w1", 0xb940_0001, Kind::Load, 4),
    access("ldr x1", 0xf940_0001, Kind::Load, 8),
    access("ldp w1, w2", 0x2940_0801, Kind::Load, 8),
    access("ldp x1, x2", 0xa940_0801, Kind::Load, 16),
    access("ldr q0", 0x3dc0_0000, Kind::Load, 16),
    access("ldp q0, q1", 0xad40_0400, Kind::Load, 32),
    access("ld1 {v0.16b-v3.16b}", 0x4c40_2000, Kind::Load, 64),
    aligned(access("ldar x1", 0xc8df_fc01, Kind::Load, 8)),
    load_exclusive(access("ldxr x1", 0xc85f_7c01, Kind::Load, 8)),
    load_exclusive(access("ldxp x1, x2", 0xc87f_0801, Kind::Load, 16)),
    unprivileged(access("ldtr x1", 0xf840_0801, Kind::Load, 8)),
    unprivileged(access("ldtrb w1", 0x3840_0801, Kind::Load, 1)),
    access("strb w1", 0x3900_0001, Kind::Store, 1),
    access("strh w1", 0x7900_0001, Kind::Store, 2),
    access("str w1", 0xb900_0001, Kind::Store, 4),
    access("str x1", 0xf900_0001, Kind::Store, 8),
    access("stp w1, w2", 0x2900_0801, Kind::Store, 8),
    access("stp x1, x2", 0xa900_0801, Kind::Store, 16),
    access("str q0", 0x3d80_0000, Kind::Store, 16),
    access("stp q0, q1", 0xad00_0400, Kind::Store, 32),
    access("st1 {v0.16b-v3.16b}", 0x4c00_2000, Kind::Store, 64),
    aligned(access("stlr x1", 0xc89f_fc01, Kind::Store, 8)),
    aligned(access("stxr w1, x2", 0xc801_7c02, Kind::StoreExclusive, 8)),
    unprivileged(access("sttr x1", 0xf800_0801, Kind::Store, 8)),
    access("dc zva", 0xd50b_7420, Kind::Block, 0),
    lse(access("ldadd x1, x2", 0xf821_0002, Kind::Atomic, 8)),
    lse(access("swp x1, x2", 0xf821_8002, Kind::Atomic, 8)),
    lse(access("cas x1, x2", 0xc8a1_7c02, Kind::CompareAndSwap, 8)),
    lse(access("casp x2, x3, x4, x5", 0x4822_7c04, Kind::CompareAndSwap, 16)),
    access("prfm pldl1keep", 0xf980_0000, Kind::Prefetch, 8),
    access("dc ivac", 0xd508_7620, Kind::Invalidate, 0),
    tags("ldg x1", 0xd960_0001, Kind::LoadTag, 16),
    tags("stg x1", 0xd920_0801, Kind::StoreTag, 16),
    tags("stzg x1", 0xd960_0801, Kind::StoreTag, 16),
    tags("st2g x1", 0xd9a0_0801, Kind::StoreTag, 32),
    tags("stz2g x1", 0xd9e0_0801, Kind::StoreTag, 32),
    tags("stgp x1, x2", 0x6900_0801, Kind::StoreTag, 16),
    tags("dc gva", 0xd50b_7460, Kind::Block, 0),
    tags("dc gzva", 0xd50b_7480, Kind::Block, 0),
]);

const fn placed(mut table: [Access; ACCESSES]) -> [Access; ACCESSES] {
    let mut place = 0;
    while place < ACCESSES {
        table[place].place = place as u8;
        place += 1;
    }
    table
}

/// Whether two names are equal, in constants.
pub(crate) const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut same = one.len() == other.len();
    let mut k = 0;
    while same && k < one.len() {
        same = one[k] == other[k];
        k += 1;
    }
    same
}

impl Access {
    /// The access of this name, if there is one.
    pub const fn find(name: &str) -> Option<&'static Self> {
        let mut place = 0;
        while place < ACCESSES {
            if is_same(TABLE[place].name, name) {
                return Some(&TABLE[place]);
            }
            place += 1;
        }
        None
    }

    /// The access of this name, which exists.
    pub const fn named(name: &str) -> &'static Self {
        Self::find(name).expect("no access has this name")
    }

    /// It reads memory.
    pub fn reads(&self) -> bool {
        matches!(self.kind, Kind::Load | Kind::LoadTag | Kind::Atomic | Kind::CompareAndSwap | Kind::MoveLoad)
    }

    /// It writes memory, or may find that it does not have to. For watchpoints a compare and swap always does: Atomic
    /// instructions are treated as performing both a load and a store (DDI 0487 C3.2, Atomic memory operations).
    pub fn writes(&self) -> bool {
        !matches!(self.kind, Kind::Load | Kind::LoadTag | Kind::Prefetch | Kind::MoveLoad)
    }

    /// It loads or stores Allocation Tags.
    pub fn is_of_tags(&self) -> bool {
        self.needs == Some(Feature::Mte2)
    }

    /// Its address must be a multiple of this number of bytes.
    pub fn alignment(&self) -> u64 {
        match self.kind {
            Kind::StoreTag => GRANULE,
            _ if self.aligned => self.size.into(),
            _ => 1,
        }
    }

    /// The bytes that it accesses, where DC ZVA zeroes blocks of `zva_block` bytes, and of DC IVAC those that it may
    /// access; none if they wrap around. One that loads or stores an Allocation Tag counts as a load or store of each
    /// byte of the granule (DDI 0487 D2.9.6.4).
    pub fn bytes(&self, address: u64, zva_block: u64) -> Option<Range<u64>> {
        let (start, size) = match self.kind {
            Kind::Block => (address - address % zva_block.max(1), zva_block),
            Kind::LoadTag => (address - address % GRANULE, GRANULE),
            Kind::Invalidate => (address - address % LARGEST_LINE, LARGEST_LINE),
            _ => (address, self.size.into()),
        };
        Some(start..start.checked_add(size)?)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_access_is_found_by_its_name() {
        for (place, access) in TABLE.iter().enumerate() {
            assert_eq!(usize::from(Access::named(access.name).place), place, "{access}");
        }
        assert_eq!(Access::find("ldr"), None);
    }

    #[test]
    fn the_base_is_x0_and_no_transfer_register_is_the_base() {
        for access in &TABLE {
            let base = if matches!(access.kind, Kind::Block | Kind::Invalidate) { 0 } else { 5 };
            assert_eq!(access.instruction >> base & 0x1f, 0, "{access}");
        }
    }

    /// What an instruction of the classes in [`TABLE`] accesses, by its encoding (DDI 0487 C4.1 Loads and Stores).
    fn decode(instruction: u32) -> Access {
        let bits = |low: u32, count: u32| instruction >> low & ((1 << count) - 1);
        let kind = if bits(22, 1) == 1 { Kind::Load } else { Kind::Store };
        let size = 1 << bits(30, 2);
        match bits(24, 6) {
            // Compare and swap, a register and a pair.
            0b00_1000 if bits(23, 1) == 1 && bits(21, 1) == 1 => {
                lse(access("", instruction, Kind::CompareAndSwap, size))
            }
            0b00_1000 if bits(21, 1) == 1 && bits(31, 1) == 0 => {
                lse(access("", instruction, Kind::CompareAndSwap, 8 << bits(30, 1)))
            }
            // Exclusive, of a register and of a pair.
            0b00_1000 if bits(23, 1) == 0 && bits(22, 1) == 0 => {
                aligned(access("", instruction, Kind::StoreExclusive, size))
            }
            0b00_1000 if bits(23, 1) == 0 => {
                load_exclusive(access("", instruction, kind, size << bits(21, 1)))
            }
            // Ordered.
            0b00_1000 => aligned(access("", instruction, kind, size)),
            // System: DC ZVA, DC GVA, DC GZVA and DC IVAC.
            0b01_0101 if instruction & !0x1f == 0xd50b_7420 => access("", instruction, Kind::Block, 0),
            0b01_0101 if [0xd50b_7460, 0xd50b_7480].contains(&(instruction & !0x1f)) => {
                tags("", instruction, Kind::Block, 0)
            }
            0b01_0101 if instruction & !0x1f == 0xd508_7620 => access("", instruction, Kind::Invalidate, 0),
            // Allocation Tags: by bits [23:22] a store of one, a load of one or a store of one with zeros, and two.
            0b01_1001 if bits(10, 2) == 0 && bits(22, 2) == 1 => tags("", instruction, Kind::LoadTag, 16),
            0b01_1001 if bits(10, 2) == 2 => tags("", instruction, Kind::StoreTag, 16 << bits(23, 1)),
            // A pair, and its Allocation Tag.
            0b10_1001 if bits(30, 2) == 1 => tags("", instruction, Kind::StoreTag, 16),
            // Pairs, of general-purpose and of SIMD&FP registers.
            0b10_1001 => access("", instruction, kind, 8 << bits(31, 1)),
            0b10_1101 => access("", instruction, kind, 8 << bits(30, 2)),
            // Multiple structures of four 128-bit registers.
            0b00_1100 if bits(30, 1) == 1 && bits(12, 4) == 0b0010 => access("", instruction, kind, 64),
            // Unsigned offset; a 64-bit one with opc 0b10 is PRFM.
            0b11_1001 if bits(30, 2) == 3 && bits(22, 2) == 2 => access("", instruction, Kind::Prefetch, 8),
            0b11_1001 => access("", instruction, kind, size),
            0b11_1101 if bits(23, 1) == 1 => access("", instruction, kind, 16),
            0b11_1000 if bits(21, 1) == 1 && bits(10, 2) == 0 => {
                lse(access("", instruction, Kind::Atomic, size))
            }
            0b11_1000 if bits(21, 1) == 0 && bits(10, 2) == 2 => {
                unprivileged(access("", instruction, kind, size))
            }
            _ => panic!("{instruction:#x} is of another class"),
        }
    }

    #[test]
    fn what_an_access_does_is_what_its_encoding_says() {
        for access in &TABLE {
            let Access { place, name, .. } = *access;
            assert_eq!(*access, Access { place, name, ..decode(access.instruction) });
        }
    }

    #[test]
    fn acquire_release_and_atomic_accesses_are_aligned_and_atomics_need_lse() {
        let which = |has: fn(&Access) -> bool| -> alloc::vec::Vec<&str> {
            TABLE.iter().filter(|access| has(access)).map(|access| access.name).collect()
        };
        assert_eq!(
            which(|access| access.aligned),
            [
                "ldar x1",
                "ldxr x1",
                "ldxp x1, x2",
                "stlr x1",
                "stxr w1, x2",
                "ldadd x1, x2",
                "swp x1, x2",
                "cas x1, x2",
                "casp x2, x3, x4, x5"
            ]
        );
        assert_eq!(
            which(|access| access.needs == Some(Feature::Lse)),
            ["ldadd x1, x2", "swp x1, x2", "cas x1, x2", "casp x2, x3, x4, x5"]
        );
        assert_eq!(which(|access| access.load_exclusive), ["ldxr x1", "ldxp x1, x2"]);
        assert_eq!(which(|access| access.unprivileged), ["ldtr x1", "ldtrb w1", "sttr x1"]);
    }

    #[test]
    fn an_atomic_access_reads_and_writes_and_a_prefetch_does_neither() {
        let does = |name| {
            let access = Access::named(name);
            (access.reads(), access.writes())
        };
        assert_eq!(does("ldr x1"), (true, false));
        assert_eq!(does("str x1"), (false, true));
        assert_eq!(does("swp x1, x2"), (true, true));
        assert_eq!(does("cas x1, x2"), (true, true));
        assert_eq!(does("stxr w1, x2"), (false, true));
        assert_eq!(does("dc zva"), (false, true));
        assert_eq!(does("dc gva"), (false, true));
        assert_eq!(does("ldg x1"), (true, false));
        assert_eq!(does("st2g x1"), (false, true));
        assert_eq!(does("prfm pldl1keep"), (false, false));
    }

    #[test]
    fn the_bytes_of_an_access_start_at_its_address_and_those_of_dc_zva_are_its_block() {
        let bytes = |name, address| {
            let access = Access::named(name);
            access.bytes(address, 64)
        };
        assert_eq!(bytes("ldr x1", 0x103), Some(0x103..0x10b));
        assert_eq!(bytes("dc zva", 0x17f), Some(0x140..0x180));
        assert_eq!(bytes("dc zva", 0x180), Some(0x180..0x1c0));
        assert_eq!(bytes("dc gzva", 0x17f), Some(0x140..0x180));
        assert_eq!(bytes("ldg x1", 0x17f), Some(0x170..0x180), "the granule");
        assert_eq!(bytes("stz2g x1", 0x170), Some(0x170..0x190));
        assert_eq!(bytes("dc ivac", 0x1805), Some(0x1800..0x2000));
        assert_eq!(bytes("ldr x1", u64::MAX - 8), Some(u64::MAX - 8..u64::MAX));
        assert_eq!(bytes("ldr x1", u64::MAX - 7), None);
    }

    #[test]
    fn an_access_prints_as_its_mnemonic() {
        assert_eq!(alloc::string::ToString::to_string(&TABLE[0]), "ldrb w1");
    }
}
