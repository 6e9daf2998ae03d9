// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! PSTATE as SPSR_EL1 holds it (DDI 0487 SPSR_EL1).

/// SPSR_EL1.{A, I, F}: SErrors and interrupts are masked.
pub const AIF: u64 = 0b111 << 6;
/// SPSR_EL1.D: debug exceptions from the current Exception level are masked.
pub const D: u64 = 1 << 9;
/// SPSR_EL1.IL: the Execution state is illegal.
pub const IL: u64 = 1 << 20;
/// SPSR_EL1.SS: software step.
pub const SS: u64 = 1 << 21;
/// SPSR_EL1.M: the Exception level and its stack pointer.
pub const MODE: u64 = 0x1f;
/// SPSR_EL1.M of EL0.
pub const EL0T: u64 = 0b0_0000;
/// SPSR_EL1.M of EL1 with SP_EL1.
pub const EL1H: u64 = 0b0_0101;
/// SPSR_EL1.M of EL2 with SP_EL2.
pub const EL2H: u64 = 0b0_1001;
/// EL1 with SP_EL1, where nothing is taken that can be masked: how the payload starts.
pub const EL1H_MASKED: u64 = EL1H | AIF | D;
