// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! `/dev/kvm`, and what it says about the host.

use super::{vm::Vcpu, writable_masks};
use crate::{
    capabilities::Capabilities,
    guest::{Config, Cpu, Error, Guest},
    host::{Build, Host, Unavailable},
    mode::Mode,
};
use dfr0_model::{
    feature::Feature,
    sysreg::{ID_AA64DFR0_EL1, ID_AA64ISAR0_EL1, MIDR_EL1},
    vm::{Facts, IdRegister},
    vmm::Features,
};
use kvm_bindings::{
    KVM_CAP_ARM_EL1_32BIT, KVM_CAP_ARM_MTE, KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES, KVM_CAP_ARM_VM_IPA_SIZE,
    KVM_CAP_ARM_WRITABLE_IMP_ID_REGS, KVM_CAP_GUEST_DEBUG_HW_BPS, KVM_CAP_GUEST_DEBUG_HW_WPS,
    KVM_CAP_SET_GUEST_DEBUG, KVM_CAP_SET_GUEST_DEBUG2, kvm_enable_cap,
};
use kvm_ioctls::Cap;
use std::{collections::BTreeMap, io, time::Duration};

/// The IPA space of a VM, in bits: the smallest that KVM accepts, because the time to free a VM grows with
/// it.
const IPA_BITS: u32 = 32;
/// KVM_VM_TYPE_ARM_PROTECTED.
const PROTECTED: u64 = 1 << 31;

/// `/dev/kvm`, open.
#[derive(Debug)]
pub struct Kvm(pub(super) kvm_ioctls::Kvm);

impl Kvm {
    /// Opens `/dev/kvm`; where that cannot work at all, says why.
    pub fn open() -> Result<Self, Error> {
        let source = match kvm_ioctls::Kvm::new() {
            Ok(kvm) => return Ok(Self(kvm)),
            Err(error) => io::Error::from(error),
        };
        match source.kind() {
            io::ErrorKind::NotFound => Err(Unavailable::NoKvm.into()),
            io::ErrorKind::PermissionDenied => Err(Unavailable::NoPermission.into()),
            _ => Err(Error::System { what: "open /dev/kvm".into(), source }),
        }
    }

    /// The host's facts, some of them from a VM that never runs.
    pub fn host(&self) -> Result<Host, Error> {
        let vcpu = Vcpu::new(self, Config::default(), Duration::ZERO)?;
        let capability = |number: u32| vcpu.vm().check_extension_raw(number.into());
        let uname = nix::sys::utsname::uname()
            .map_err(|errno| Error::System { what: "uname".into(), source: errno.into() })?;
        Ok(Host {
            kernel: Some(uname.release().to_string_lossy().into_owned()),
            build: Build::of_this_machine(uname.version().to_string_lossy().into_owned()),
            platform: platform(),
            midr: vcpu.get(MIDR_EL1)?,
            id_aa64dfr0: vcpu.get(ID_AA64DFR0_EL1)?,
            writable: writable_masks::of(vcpu.vm(), ID_AA64DFR0_EL1),
            lse: Feature::Lse.is_in(vcpu.get(ID_AA64ISAR0_EL1)?),
            mode: Mode::of_this_machine(),
            capabilities: Capabilities {
                kvm_cap_guest_debug_hw_bps: capability(KVM_CAP_GUEST_DEBUG_HW_BPS),
                kvm_cap_guest_debug_hw_wps: capability(KVM_CAP_GUEST_DEBUG_HW_WPS),
                kvm_cap_set_guest_debug: capability(KVM_CAP_SET_GUEST_DEBUG),
                kvm_cap_set_guest_debug2: capability(KVM_CAP_SET_GUEST_DEBUG2),
                kvm_cap_arm_vm_ipa_size: capability(KVM_CAP_ARM_VM_IPA_SIZE),
                kvm_cap_arm_el1_32bit: capability(KVM_CAP_ARM_EL1_32BIT),
                kvm_cap_arm_supported_reg_mask_ranges: capability(KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES),
                kvm_cap_arm_writable_imp_id_regs: capability(KVM_CAP_ARM_WRITABLE_IMP_ID_REGS),
            },
        })
    }

    /// What is known of VMs with these features.
    pub fn facts(&self, features: Features) -> Result<Facts, Error> {
        let config = Config { features, ..Config::default() };
        let vcpu = Vcpu::new(self, config, Duration::ZERO)?;
        let (mut registers, mut listed) = (BTreeMap::new(), BTreeMap::new());
        for reg in vcpu.listed()? {
            let default = vcpu.get(reg)?;
            if reg.is_id_register() {
                let writable = writable_masks::of(vcpu.vm(), reg);
                registers.insert(reg, IdRegister { default, writable });
            } else {
                listed.insert(reg, default);
            }
        }
        let mask_ranges = writable_masks::ranges(vcpu.vm());
        let masks = writable_masks::of_all(vcpu.vm()).unwrap_or_default();
        let known = BTreeMap::new();
        Ok(Facts { features, registers, mask_ranges, masks, known, listed, zva_block: None, without: None })
    }

    /// A VM with one vCPU; it may run for `deadline` at a time.
    pub fn guest(&self, config: Config, deadline: Duration) -> Result<Guest, Error> {
        Ok(Guest::on(Vcpu::new(self, config, deadline)?))
    }

    /// A VM with the smallest IPA space, in which vCPUs with these features can be created.
    pub(super) fn create_vm(&self, features: Features) -> Result<kvm_ioctls::VmFd, Error> {
        let vm = self.create_plain_vm()?;
        if features == Features::MemoryTagging {
            let capability = kvm_enable_cap { cap: KVM_CAP_ARM_MTE, ..Default::default() };
            vm.enable_cap(&capability).map_err(|error| Error::System {
                what: "KVM_ENABLE_CAP of KVM_CAP_ARM_MTE".into(),
                source: error.into(),
            })?;
        }
        Ok(vm)
    }

    /// A protected VM with the smallest IPA space; `None` if KVM does not know that type of VM.
    pub(super) fn create_protected_vm(&self) -> Result<Option<kvm_ioctls::VmFd>, Error> {
        match self.create_vm_of_type(PROTECTED) {
            Ok(vm) => Ok(Some(vm)),
            Err(error) if error.errno() == nix::libc::EINVAL => Ok(None),
            Err(error) => {
                Err(Error::System { what: "KVM_CREATE_VM of a protected VM".into(), source: error.into() })
            }
        }
    }

    fn create_plain_vm(&self) -> Result<kvm_ioctls::VmFd, Error> {
        self.create_vm_of_type(0).map_err(|error| Error::System {
            what: format!("KVM_CREATE_VM with an IPA space of {} bits", self.ipa_bits()),
            source: error.into(),
        })
    }

    /// A VM whose type has these bits besides the smallest IPA space.
    fn create_vm_of_type(&self, bits: u64) -> Result<kvm_ioctls::VmFd, kvm_ioctls::Error> {
        loop {
            match self.0.create_vm_with_type(bits | u64::from(self.ipa_bits())) {
                // The signal of an earlier deadline.
                Err(error) if error.errno() == nix::libc::EINTR => {}
                created => return created,
            }
        }
    }

    fn ipa_bits(&self) -> u32 {
        if self.0.check_extension_int(Cap::ArmVmIPASize) > 0 { IPA_BITS } else { 0 }
    }
}

/// The machine's name, as the device tree or the firmware has it.
fn platform() -> String {
    let first = |path: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        let name = text.split(['\0', '\n']).next()?.trim();
        (!name.is_empty()).then(|| name.to_owned())
    };
    first("/sys/firmware/devicetree/base/compatible")
        .or_else(|| first("/sys/class/dmi/id/sys_vendor"))
        .unwrap_or_else(|| "unknown".into())
}
