// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The one_reg ids of 64-bit registers (KVM API, 4.68 KVM_SET_ONE_REG, arm64).

use crate::{
    guest::{Death, Error},
    register_id::RegisterId,
};
use dfr0_model::sysreg::{SysReg, VBAR_EL1};
use dfr0_model::vmm::StepState;

const ARM64_U64: u64 = 0x6030_0000_0000_0000;
const CORE: u64 = 0x0010_0000;
const SYSREG: u64 = 0x0013_0000;

/// A system register.
pub const fn system(reg: SysReg) -> u64 {
    ARM64_U64 | SYSREG | reg.encoding() as u64
}

/// The system register with this id; `None` if it is another register, or does not have 64 bits.
pub const fn system_of(id: u64) -> Option<SysReg> {
    if id & !0xffff == ARM64_U64 | SYSREG { Some(SysReg::from_encoding(id as u16)) } else { None }
}

/// The register is in the feature ID space.
pub fn is_id(id: u64) -> bool {
    system_of(id).is_some_and(SysReg::is_id)
}

/// The size of the register in bytes.
pub const fn len(id: u64) -> usize {
    1 << (id >> 52 & 0xf)
}

/// The register's name, or else its id.
pub fn name(id: u64) -> String {
    RegisterId::new(id).map_or_else(|| format!("{id:#018x}"), RegisterId::name)
}

/// PC.
pub const PC: u64 = core_word(64);
/// PSTATE.
pub const PSTATE: u64 = core_word(66);
/// SPSR_EL1.
pub const SPSR_EL1: u64 = core_word(72);
/// SPSR_abt.
pub const SPSR_ABT: u64 = core_word(74);

/// KVM_REG_ARM64_SVE_VLS, of 512 bits.
pub const SVE_VLS: u64 = 0x6060_0000_0015_ffff;

/// The id of a state.
pub const fn state(state: StepState) -> u64 {
    match state {
        StepState::Pstate => PSTATE,
        StepState::SpsrEl1 => SPSR_EL1,
    }
}

/// X0 to X30.
pub const fn x(n: u64) -> u64 {
    core_word(2 * n)
}

/// A register of `struct kvm_regs`, by its offset in 32-bit words.
const fn core_word(offset: u64) -> u64 {
    ARM64_U64 | CORE | offset
}

/// The registers that describe a dead guest, besides X0 to X30.
const STATE: [(&str, u64); 8] = [
    ("PC", PC),
    ("PSTATE", PSTATE),
    ("SP_EL1", core_word(68)),
    ("ELR_EL1", core_word(70)),
    ("SPSR_EL1", SPSR_EL1),
    ("ESR_EL1", system(SysReg::new(3, 0, 5, 2, 0))),
    ("FAR_EL1", system(SysReg::new(3, 0, 6, 0, 0))),
    ("VBAR_EL1", system(VBAR_EL1)),
];

/// The error of a dead guest whose registers `get` reads.
pub fn died(reason: String, get: impl Fn(u64) -> Option<u64>) -> Error {
    let general = (0..=30).map(|n| (format!("X{n}"), x(n)));
    let names = STATE.map(|(name, id)| (name.to_owned(), id)).into_iter().chain(general);
    let registers = names.filter_map(|(name, id)| Some((name, get(id)?))).collect();
    Error::Died(Box::new(Death { reason, registers }))
}
