// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The interrupt controller of a VM with EL2, without which KVM does not run it.

use crate::guest::Error;
use kvm_bindings::{
    KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CTRL,
    KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST, kvm_create_device, kvm_device_attr,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
};
use kvm_ioctls::{DeviceFd, VmFd};

/// Where it is. Between the redistributors and the doorbell there is room for those of a thousand vCPUs.
const DISTRIBUTOR: u64 = 0x0800_0000;
const REDISTRIBUTORS: u64 = 0x080a_0000;

/// A GICv3.
#[derive(Debug)]
pub struct Gic {
    device: DeviceFd,
    is_initialised: bool,
}

impl Gic {
    /// The VM's, which is not yet initialised.
    pub fn new(vm: &VmFd) -> Result<Self, Error> {
        let mut device =
            kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3, fd: 0, flags: 0 };
        let device = vm.create_device(&mut device).map_err(failed("KVM_CREATE_DEVICE of a GICv3"))?;
        let gic = Self { device, is_initialised: false };
        for (frame, address) in
            [(KVM_VGIC_V3_ADDR_TYPE_DIST, DISTRIBUTOR), (KVM_VGIC_V3_ADDR_TYPE_REDIST, REDISTRIBUTORS)]
        {
            gic.set(KVM_DEV_ARM_VGIC_GRP_ADDR, frame, Some(&address))?;
        }
        Ok(gic)
    }

    /// Makes it ready, if it is not. No vCPU can be created later.
    pub fn initialise(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.is_initialised, true) {
            true => Ok(()),
            false => self.set(KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, None),
        }
    }

    /// KVM_SET_DEVICE_ATTR.
    fn set(&self, group: u32, attribute: u32, value: Option<&u64>) -> Result<(), Error> {
        let attribute = kvm_device_attr {
            group,
            attr: attribute.into(),
            addr: value.map_or(0, |value| std::ptr::from_ref(value) as u64),
            flags: 0,
        };
        self.device.set_device_attr(&attribute).map_err(failed("KVM_SET_DEVICE_ATTR of the GICv3"))
    }
}

fn failed(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |error| Error::System { what: what.into(), source: error.into() }
}
