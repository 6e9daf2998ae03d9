// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The ID registers besides ID_AA64DFR0_EL1: a VMM restores all of them, and any of them can stop a move.
//!
//! The model does not know which values of their fields promise more. So a plan says only that a field in the
//! writable mask may be accepted. Where a plan says that a value is refused, the order of the values does not
//! matter: bits outside of an ID register's writable mask keep KVM's value.

use super::{Reason, Verdict};
use crate::{
    fingerprint::{Accepts, Fingerprint},
    kernel_version::KernelVersion,
    register_id::RegisterId,
};
use dfr0_model::{
    id_register,
    rule::{self, Rule},
    sysreg::{ID_AA64DFR0_EL1, ID_AA64MMFR2_EL1, ID_AA64PFR0_EL1, ID_AA64PFR1_EL1, ID_DFR0_EL1, SysReg},
};

pub const MPIDR_EL1: SysReg = SysReg::new(3, 0, 0, 0, 5);
/// ID_DFR0_EL1.CopDbg: Armv8 debug, the lowest value that KVM accepts.
const COPDBG_ARMV8: u64 = 6;
/// CSV3 and CSV2 of ID_AA64PFR0_EL1: kernels without masks let userspace lower them.
const CSV: u64 = 0xff << 56;
/// Fields that older kernels gave to VMs by mistake: later kernels accept the CPU's own value of them and
/// ignore it (MPAM, MPAM_frac, MTE_frac and NV; arch/arm64/kvm/sys_regs.c, set_id_aa64pfr0_el1,
/// set_id_aa64pfr1_el1, set_id_aa64mmfr2_el1).
const FORGIVEN: [(SysReg, u64); 3] =
    [(ID_AA64PFR0_EL1, 0xf << 40), (ID_AA64PFR1_EL1, 0xf << 40 | 0xf << 16), (ID_AA64MMFR2_EL1, 0xf << 24)];
/// Since this version at the latest, kernels that no file has to describe forgive these fields, and take a CLIDR_EL1 that
/// describes other caches than the CPU's (arch/arm64/kvm/sys_regs.c, set_clidr).
const TAKEN_SINCE: KernelVersion = KernelVersion::new(6, 18);
/// ID_AA64PFR1_EL1.MTE_frac.
const MTE_FRAC: u64 = 0xf << 40;
const CLIDR_EL1: SysReg = SysReg::new(3, 1, 0, 0, 1);
const CTR_EL0: SysReg = SysReg::new(3, 3, 0, 0, 1);
/// Since this version, the AArch32 ID registers ignore writes if EL0 has no AArch32 state (tested on 6.1).
pub const AARCH32_IGNORED_SINCE: KernelVersion = KernelVersion::new(6, 1);

/// A reason for each ID register that differs.
pub fn judge(a: &Fingerprint, b: &Fingerprint) -> Vec<(RegisterId, Reason)> {
    let differing = a.id_registers.iter().filter_map(|(reg, has)| {
        let gives = b.id_registers.get(reg)?;
        // MPIDR_EL1 is the vCPU's place in its VM, which the VMM chooses.
        let of_vm = *reg != ID_AA64DFR0_EL1 && *reg != MPIDR_EL1;
        (of_vm && has != gives).then_some((*reg, *has, *gives))
    });
    differing
        .map(|(reg, has, gives)| {
            let (verdict, why, rules) = register(reg, has, gives, a, b);
            let values = Some([format!("{has:#x}"), format!("{gives:#x}")]);
            let id = RegisterId::system(reg);
            let field = (!id_register::IMPLEMENTATION.contains(&reg)).then(|| fields(reg, has ^ gives));
            (id, Reason { verdict, register: id.name(), field, values, why: vec![why], rules })
        })
        .collect()
}

type Way = (Verdict, String, Vec<&'static Rule>);

fn register(reg: SysReg, has: u64, gives: u64, a: &Fingerprint, b: &Fingerprint) -> Way {
    let differing = has ^ gives;
    if id_register::IMPLEMENTATION.contains(&reg) {
        return implementation([has, gives], [a.accepts(reg), b.accepts(reg)]);
    }
    if id_register::is_aarch32(reg)
        && b.has_aarch32() == Some(false)
        && b.kernel_version() >= Some(AARCH32_IGNORED_SINCE)
    {
        let why =
            "B ignores the write: EL0 has no AArch32 state there, and the register reads as zero".into();
        return (Verdict::AsIs, why, Vec::new());
    }
    if let Some(why) = taken(reg, [has, gives], a, b) {
        return (Verdict::AsIs, why, Vec::new());
    }
    // Whatever its mask is: a kernel either lets userspace write CopDbg and refuses such values, or keeps its own value.
    if reg == ID_DFR0_EL1 && has & 0xf < COPDBG_ARMV8 && has & 0xf != gives & 0xf {
        return (
            Verdict::Cannot,
            "B refuses a CopDbg below 0x6 (Armv8 debug)".into(),
            vec![&rule::ID_RESERVED_REFUSED],
        );
    }
    let fixed = match b.accepts(reg) {
        Accepts::Unsaid => return (Verdict::NotKnown, unsaid(), Vec::new()),
        Accepts::Own if reg == ID_AA64PFR0_EL1 && differing & !CSV == 0 => {
            return (
                Verdict::NotKnown,
                "B may take CSV2 and CSV3 that promise no more than its own".into(),
                Vec::new(),
            );
        }
        Accepts::Own => differing,
        Accepts::Mask(mask) => differing & !mask,
    };
    if fixed == 0 {
        return (
            Verdict::NotKnown,
            "B may take it: all that differs is in its writable mask".into(),
            Vec::new(),
        );
    }
    if b.accepts(reg) != Accepts::Own && fixed & !forgiven(reg) == 0 {
        let why =
            format!("B may take it and ignore {}, which older kernels gave by mistake", fields(reg, fixed));
        return (Verdict::NotKnown, why, Vec::new());
    }
    let refuses = match b.accepts(reg) {
        Accepts::Own => "B refuses it: its KVM takes only the value that it gave".into(),
        _ => format!("B refuses it: its writable mask is without {}", fields(reg, fixed)),
    };
    let lowered = match a.accepts(reg) {
        Accepts::Mask(mask) if differing & !mask == 0 => {
            Some("the VM may be created on A with B's value: all that differs is in A's writable mask")
        }
        Accepts::Unsaid => {
            Some("whether the VM can be created on A with B's value is not known: A's file has no masks")
        }
        Accepts::Mask(_) | Accepts::Own => None,
    };
    match lowered {
        Some(lowered) => {
            (Verdict::NotKnown, format!("{refuses}; {lowered}"), vec![&rule::ID_READ_ONLY_REFUSED])
        }
        None => (Verdict::Cannot, refuses, vec![&rule::ID_READ_ONLY_REFUSED]),
    }
}

/// Why B takes A's value of a register in which something differs that B's KVM does not hold against it, whatever its mask.
fn taken(reg: SysReg, [has, gives]: [u64; 2], a: &Fingerprint, b: &Fingerprint) -> Option<String> {
    if b.kernel_version() < Some(TAKEN_SINCE) {
        return None;
    }
    // Of MTE_frac KVM takes 0, which older kernels gave, and not the CPU's own value.
    let own = forgiven(reg) & !if reg == ID_AA64PFR1_EL1 { MTE_FRAC } else { 0 };
    let differing = has ^ gives;
    let same_cpu = a.midr().is_some() && a.midr() == b.midr();
    if same_cpu && differing & !own == 0 && differing & gives == 0 {
        let fields = fields(reg, differing);
        return Some(format!(
            "B takes the CPU's own {fields}, which older kernels gave by mistake, and ignores it"
        ));
    }
    let ctr = *b.id_registers.get(&CTR_EL0)?;
    (reg == CLIDR_EL1 && caches_are_taken(has, ctr))
        .then(|| "B takes the caches that an older kernel gave, whatever its CPU's are".into())
}

/// KVM takes this CLIDR_EL1 on a CPU with this CTR_EL0: without RES0 bits, and only on a CPU with CTR_EL0.IDC 1 one that says
/// the same, that data caches need no clean for instruction fetches (LoC 0, or LoUIS and LoUU 0).
fn caches_are_taken(clidr: u64, ctr: u64) -> bool {
    const RES0: u64 = u64::MAX << 47;
    const IDC: u64 = 1 << 28;
    let level = |lsb: u32| clidr >> lsb & 0b111;
    let (louis, loc, louu) = (level(21), level(24), level(27));
    let needs_no_clean = loc == 0 || (louis == 0 && louu == 0);
    clidr & RES0 == 0 && (ctr & IDC != 0 || !needs_no_clean)
}

/// The fields of a register that older kernels gave to VMs by mistake.
pub fn forgiven(reg: SysReg) -> u64 {
    FORGIVEN.iter().find(|(forgiven, _)| *forgiven == reg).map_or(0, |(_, mask)| *mask)
}

fn unsaid() -> String {
    "not known: B's file does not say which fields its KVM lets userspace write".into()
}

/// MIDR_EL1, REVIDR_EL1 and AIDR_EL1: KVM accepts any value in the mask, once the VM has the capability.
fn implementation([has, gives]: [u64; 2], [a, b]: [Accepts; 2]) -> Way {
    const CAPABILITY: &str = "the VMM enables KVM_CAP_ARM_WRITABLE_IMP_ID_REGS before it creates vCPUs";
    let may_have = |writable, value: u64| match writable {
        Accepts::Mask(mask) => mask != 0 && value & !mask == 0,
        Accepts::Own => false,
        Accepts::Unsaid => true,
    };
    match (may_have(b, has), may_have(a, gives)) {
        (true, _) if b == Accepts::Unsaid => {
            (Verdict::NotKnown, format!("B takes it if {CAPABILITY}, which its KVM may lack"), Vec::new())
        }
        (true, _) => (Verdict::NotKnown, format!("B takes it if {CAPABILITY}"), Vec::new()),
        (false, true) => {
            let why = format!(
                "B refuses it: its KVM takes only its own CPU's value, which A's VM may have if {CAPABILITY}"
            );
            (Verdict::NotKnown, why, vec![&rule::ID_READ_ONLY_REFUSED])
        }
        (false, false) => (
            Verdict::Cannot,
            "B refuses it: its KVM takes only its own CPU's value".into(),
            vec![&rule::ID_READ_ONLY_REFUSED],
        ),
    }
}

/// The fields that contain these bits: by name, or as ranges of bits where no name is known.
pub fn fields(reg: SysReg, bits: u64) -> String {
    let mut names: Vec<String> = Vec::new();
    let mut unnamed: Option<(u8, u8)> = None;
    let range = |(high, low): (u8, u8)| format!("[{high}:{low}]");
    for lsb in (0..64_u8).step_by(4).rev().filter(|lsb| bits >> lsb & 0xf != 0) {
        let name = id_register::field(reg, lsb);
        unnamed = match (name, unnamed) {
            (None, Some((high, low))) if low == lsb + 4 => Some((high, lsb)),
            (_, before) => {
                names.extend(before.map(range));
                names.extend(name.map(|(name, _)| name.to_owned()));
                if name.is_none() { Some((lsb + 3, lsb)) } else { None }
            }
        };
    }
    names.extend(unnamed.map(range));
    names.join(", ")
}
