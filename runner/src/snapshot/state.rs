// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What a VM consists of: the registers of its vCPUs and its memory.

use crate::register_id::RegisterId;
use dfr0_model::{
    sysreg::SysReg,
    wire::{RAM, RAM_SIZE},
};
use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

/// A register and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Its id.
    pub id: RegisterId,
    /// Its value, the lowest byte first; as many bytes as the id says.
    pub value: Vec<u8>,
}

impl Register {
    /// The value's low 64 bits.
    pub fn low(&self) -> u64 {
        self.value.iter().take(size_of::<u64>()).rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    /// Whether all its bits are zero.
    pub fn is_zero(&self) -> bool {
        self.value.iter().all(|byte| *byte == 0)
    }
}

/// The name and the value, as a hexadecimal number.
impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.id.name(), hexadecimal(&self.value))
    }
}

/// The value as a hexadecimal number with all its digits.
pub fn hexadecimal(value: &[u8]) -> String {
    value.iter().rev().fold("0x".to_owned(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A VM between two operations.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    /// Each vCPU's registers, as KVM_GET_REG_LIST lists them. The first vCPU is the one that runs; the state
    /// was in the second one before it migrated.
    pub vcpus: Vec<Vec<Register>>,
    pub memory: Pages,
}

impl State {
    /// A 64-bit system register of the vCPU that runs.
    pub fn get(&self, reg: SysReg) -> Option<u64> {
        let id = RegisterId::system(reg);
        self.vcpus.first()?.iter().find(|register| register.id == id).map(Register::low)
    }
}

/// The pages of the guest's memory that are not zero, by their addresses.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Pages(pub BTreeMap<u64, Vec<u8>>);

impl Pages {
    /// The size of a page, in bytes.
    pub const SIZE: usize = 4096;
    /// The number of pages in the guest's memory.
    pub const COUNT: usize = RAM_SIZE / Self::SIZE;

    /// Whether a page of the guest's memory begins at this address.
    pub fn is_page(address: u64) -> bool {
        (RAM..RAM + RAM_SIZE as u64).contains(&address) && address.is_multiple_of(Self::SIZE as u64)
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pages", self.0.len())
    }
}
