// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Reads the facts of this host.

use std::fs;

use anyhow::{Context, Result};
use dfr0_lab::facts::{Facts, Register};
use dfr0_lab::mode::Mode;
use kvm_bindings::kvm_vcpu_init;
use kvm_ioctls::Kvm;
use nix::sys::utsname::uname;

use crate::kernel_log;

/// KVM's id of ID_AA64DFR0_EL1: `ARM64_SYS_REG(3, 0, 0, 5, 0)`.
const ID_AA64DFR0_EL1: u64 = 0x6030_0000_0013_c028;

const MIDR: &str = "/sys/devices/system/cpu/cpu0/regs/identification/midr_el1";

/// Reads the facts.
pub fn read() -> Facts {
    let register = |text: String| Register::try_from(text).ok();
    let id_aa64dfr0 = id_aa64dfr0();
    Facts {
        release: uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default(),
        midr: fs::read_to_string(MIDR).ok().and_then(register),
        mode: kernel_log::messages().into_iter().rev().find_map(|message| Mode::of_message(&message)),
        no_kvm: id_aa64dfr0.as_ref().err().map(|error| format!("{error:#}")),
        id_aa64dfr0: id_aa64dfr0.ok().map(Register),
    }
}

/// The ID_AA64DFR0_EL1 of a new vCPU.
fn id_aa64dfr0() -> Result<u64> {
    let kvm = Kvm::new().context("open /dev/kvm")?;
    let vm = kvm.create_vm().context("KVM_CREATE_VM")?;
    let vcpu = vm.create_vcpu(0).context("KVM_CREATE_VCPU")?;
    let mut init = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut init).context("KVM_ARM_PREFERRED_TARGET")?;
    vcpu.vcpu_init(&init).context("KVM_ARM_VCPU_INIT")?;
    let mut value = [0; 8];
    vcpu.get_one_reg(ID_AA64DFR0_EL1, &mut value).context("KVM_GET_ONE_REG of ID_AA64DFR0_EL1")?;
    Ok(u64::from_le_bytes(value))
}
