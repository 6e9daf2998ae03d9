// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The guest's stage 1 translation: an identity map of the payload's segments and the target memory of
//! accesses, which is mapped a second time, and the doorbell, mapped to the address where the machine has it.

use crate::{error::Error, image::Image, memory::GuestMemory};
use aarch64_paging::{
    descriptor::{El1Attributes, PhysicalAddress},
    paging::{Constraints, El1And0, MemoryRegion, RootTable, VaRange},
    target::TargetAllocator,
};
use dfr0_model::{
    sysreg::SysReg,
    wire::{self, DOORBELL, HIGH_TARGET, MARKERS, PRIVILEGED, READ_ONLY, TABLES, TARGET, TARGET_SIZE},
};

/// A root table at level 1 translates 39 bits.
const ROOT_LEVEL: usize = 1;
const PAGE: usize = 0x1000;

/// MAIR_EL1: attribute 0 is Normal Write-Back, attribute 1 Device-nGnRnE.
const MAIR: u64 = 0x00ff;
/// TCR_EL1: T0SZ = 64 - 39, Inner Shareable Write-Back walks, 4 KiB granule, no TTBR1 walks, 32-bit PA, TBI0.
const TCR: u64 = 25 | 1 << 8 | 1 << 10 | 0b11 << 12 | 1 << 23 | 1 << 37;
/// SCTLR_EL1's RES1 bits, EOS and EIS among them: exception entry and return synchronise.
pub const SCTLR_OFF: u64 = 0x30d0_0800;
/// SCTLR_EL1 with this translation: M, C, SA, I, DZE.
pub const SCTLR: u64 = SCTLR_OFF | 1 | 1 << 2 | 1 << 3 | 1 << 12 | 1 << 14;

/// MAIR_EL1, TCR_EL1 and TTBR0_EL1, which this translation needs before it is turned on.
pub const REGISTERS: [(SysReg, u64); 3] = [
    (SysReg::new(3, 0, 10, 2, 0), MAIR),
    (SysReg::new(3, 0, 2, 0, 2), TCR),
    (SysReg::new(3, 0, 2, 0, 0), TABLES),
];

/// Writes the tables for `image` into the guest's memory; a store to [`DOORBELL`] reaches the address `doorbell`.
/// Returns the address after the tables.
pub fn write(image: &Image, memory: &mut GuestMemory, doorbell: u64) -> Result<u64, Error> {
    let mut root =
        RootTable::with_va_range(TargetAllocator::new(TABLES), ROOT_LEVEL, El1And0, VaRange::Lower);
    let valid = El1Attributes::VALID | El1Attributes::ACCESSED;
    let normal =
        valid | El1Attributes::ATTRIBUTE_INDEX_0 | El1Attributes::INNER_SHAREABLE | El1Attributes::UXN;
    let mut map = |start: u64, len: u64, physical: u64, attributes| {
        let start = start as usize;
        let region = MemoryRegion::new(start, (start + len as usize).next_multiple_of(PAGE));
        root.map_range(&region, PhysicalAddress(physical as usize), attributes, Constraints::empty())
            .map_err(|error| Error::Unfit(format!("stage 1 of {region}: {error}")))
    };
    let user = El1Attributes::USER;
    for segment in &image.segments {
        let attributes = match (segment.writable, segment.executable) {
            // What EL0 executes, EL1 executes too.
            (false, true) if segment.address == MARKERS => {
                (normal | El1Attributes::READ_ONLY | user) - El1Attributes::UXN
            }
            (false, true) => normal | El1Attributes::READ_ONLY,
            (false, false) => normal | El1Attributes::READ_ONLY | El1Attributes::PXN,
            (true, _) => normal | El1Attributes::PXN,
        };
        map(segment.address, segment.len, segment.address, attributes)?;
    }
    let data = normal | El1Attributes::PXN;
    map(TARGET, TARGET_SIZE, TARGET, data | user)?;
    map(HIGH_TARGET, TARGET_SIZE, TARGET, data | user)?;
    map(READ_ONLY, wire::PAGE, READ_ONLY, data | user | El1Attributes::READ_ONLY)?;
    map(PRIVILEGED, wire::PAGE, PRIVILEGED, data)?;
    let device = valid | El1Attributes::ATTRIBUTE_INDEX_1 | El1Attributes::UXN | El1Attributes::PXN;
    map(DOORBELL, PAGE as u64, doorbell, device)?;
    let tables = root.translation().as_bytes();
    if memory.write(TABLES, &tables) {
        Ok(TABLES + tables.len() as u64)
    } else {
        Err(Error::Unfit("the stage 1 tables do not fit into the guest's memory".into()))
    }
}
