// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What userspace does to a VM and its vCPUs, besides reading and writing registers.

use crate::{feature::Feature, sysreg::SysReg};
use core::fmt;

/// The features that userspace requests for a VM and its vCPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Features {
    /// Nothing.
    #[default]
    None,
    /// KVM_ARM_VCPU_PMU_V3, and KVM_ARM_VCPU_PMU_V3_INIT after it.
    Pmu,
    /// KVM_ARM_VCPU_SVE, and KVM_ARM_VCPU_FINALIZE after it.
    Sve,
    /// KVM_ARM_VCPU_PTRAUTH_ADDRESS and KVM_ARM_VCPU_PTRAUTH_GENERIC.
    PointerAuthentication,
    /// KVM_ARM_VCPU_EL1_32BIT: the guest is in AArch32.
    AArch32,
    /// KVM_CAP_ARM_MTE, before the first vCPU is created.
    MemoryTagging,
    /// KVM_ARM_VCPU_HAS_EL2, and a GICv3 that is initialised before the first KVM_RUN.
    El2,
}

impl Features {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Pmu,
        Self::Sve,
        Self::PointerAuthentication,
        Self::AArch32,
        Self::MemoryTagging,
        Self::El2,
    ];

    /// The capabilities that a host must have for these features.
    pub const fn capabilities(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Pmu => &["KVM_CAP_ARM_PMU_V3"],
            Self::Sve => &["KVM_CAP_ARM_SVE"],
            Self::PointerAuthentication => &["KVM_CAP_ARM_PTRAUTH_ADDRESS", "KVM_CAP_ARM_PTRAUTH_GENERIC"],
            Self::AArch32 => &["KVM_CAP_ARM_EL1_32BIT"],
            Self::MemoryTagging => &["KVM_CAP_ARM_MTE"],
            Self::El2 => &["KVM_CAP_ARM_EL2"],
        }
    }

    /// What a vCPU with these features needs after KVM_ARM_VCPU_INIT, if it needs anything.
    pub const fn completion(self) -> Option<&'static str> {
        match self {
            Self::Pmu => Some("KVM_ARM_VCPU_PMU_V3_INIT"),
            Self::Sve => Some("KVM_ARM_VCPU_FINALIZE"),
            Self::None | Self::PointerAuthentication | Self::AArch32 | Self::MemoryTagging | Self::El2 => {
                None
            }
        }
    }

    /// The features of a VM whose guest must have this feature, if it has to be requested.
    pub const fn for_guest(feature: Feature) -> Self {
        match feature {
            Feature::Sve => Self::Sve,
            Feature::Mte2 => Self::MemoryTagging,
            Feature::Lse | Feature::Uao | Feature::Mops => Self::None,
        }
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no feature",
            Self::Pmu => "a PMU",
            Self::Sve => "SVE",
            Self::PointerAuthentication => "pointer authentication",
            Self::AArch32 => "AArch32",
            Self::MemoryTagging => "memory tagging",
            Self::El2 => "EL2",
        })
    }
}

/// The argument of a KVM_ARM_GET_REG_WRITABLE_MASKS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaskRequest {
    /// `range`.
    pub range: u32,
    /// The place in `reserved` of a word that is not zero, and the word.
    pub reserved: Option<(u8, u32)>,
    /// `addr` is not mapped.
    pub unmapped: bool,
}

impl MaskRequest {
    /// The number of words in `reserved`.
    pub const RESERVED: u8 = 13;
}

impl fmt::Display for MaskRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KVM_ARM_GET_REG_WRITABLE_MASKS of range {}", self.range)?;
        if let Some((place, word)) = self.reserved {
            write!(f, ", reserved[{place}] = {word:#x}")?;
        }
        f.write_str(if self.unmapped { ", to an address that is not mapped" } else { "" })
    }
}

/// The parts of a vCPU's step state that are not system registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepState {
    /// PSTATE.
    Pstate,
    /// SPSR_EL1, from which an exception return takes PSTATE.
    SpsrEl1,
}

impl StepState {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Pstate, Self::SpsrEl1];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pstate => "PSTATE",
            Self::SpsrEl1 => "SPSR_EL1",
        }
    }
}

impl fmt::Display for StepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A field of `struct kvm_run` that says something about the exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunField {
    /// `flags` when KVM_RUN ended last, which was not with KVM_EXIT_DEBUG.
    Flags,
    /// `flags` at the last KVM_EXIT_DEBUG.
    DebugFlags,
    /// `debug.arch.hsr_high` at the last KVM_EXIT_DEBUG.
    HsrHigh,
}

impl RunField {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Flags, Self::DebugFlags, Self::HsrHigh];
    /// KVM_DEBUG_ARCH_HSR_HIGH_VALID in `flags`: `hsr_high` is ESR_EL2's upper half.
    pub const HSR_HIGH_VALID: u64 = 1 << 0;
}

impl fmt::Display for RunField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flags => "kvm_run.flags",
            Self::DebugFlags => "kvm_run.flags at the last KVM_EXIT_DEBUG",
            Self::HsrHigh => "hsr_high at the last KVM_EXIT_DEBUG",
        })
    }
}

/// One operation on a VM or on its current vCPU, which is its first at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vmm {
    /// KVM_CREATE_VCPU.
    Create,
    /// From here on, operations are this vCPU's.
    Use(
        /// Its number, from 0 in the order of creation.
        u8,
    ),
    /// KVM_ARM_VCPU_INIT.
    Init(
        /// With these features.
        Features,
    ),
    /// What the features of the vCPU need after it.
    Complete(
        /// The features.
        Features,
    ),
    /// KVM_RUN with `immediate_exit`; logs its errno.
    Run,
    /// KVM_ARM_GET_REG_WRITABLE_MASKS; logs the errno of a refusal.
    Masks(
        /// Its argument.
        MaskRequest,
    ),
    /// KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES; logs the ranges.
    MaskRanges,
    /// The writable mask of an ID register; logs it.
    Mask(
        /// The register.
        SysReg,
    ),
    /// Whether KVM_GET_REG_LIST lists a register; logs 1 or 0.
    Lists(
        /// The register.
        SysReg,
    ),
    /// KVM_SET_ONE_REG of a state. The payload starts again when the vCPU is entered next.
    SetState(
        /// Which.
        StepState,
        /// The value.
        u64,
    ),
    /// KVM_GET_ONE_REG of a state; logs the value.
    GetState(
        /// Which.
        StepState,
    ),
    /// What KVM_RUN has told userspace; logs the value.
    RunField(
        /// Which.
        RunField,
    ),
}

impl fmt::Display for Vmm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create => f.write_str("KVM_CREATE_VCPU"),
            Self::Use(n) => write!(f, "vCPU {n}:"),
            Self::Init(Features::None) => f.write_str("KVM_ARM_VCPU_INIT"),
            Self::Init(features) => write!(f, "KVM_ARM_VCPU_INIT with {features}"),
            Self::Complete(features) => f.write_str(features.completion().unwrap_or("nothing to complete")),
            Self::Run => f.write_str("KVM_RUN with immediate_exit"),
            Self::Masks(request) => request.fmt(f),
            Self::MaskRanges => f.write_str("KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES"),
            Self::Mask(reg) => write!(f, "the writable mask of {reg}"),
            Self::Lists(reg) => write!(f, "KVM_GET_REG_LIST lists {reg}"),
            Self::SetState(state, value) => write!(f, "KVM_SET_ONE_REG {state}, {value:#x}"),
            Self::GetState(state) => write!(f, "KVM_GET_ONE_REG {state}"),
            Self::RunField(field) => field.fmt(f),
        }
    }
}
