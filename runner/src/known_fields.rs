// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The fields of debug feature registers that KVM is known to let userspace write, by kernel.
//!
//! A mask says what this kernel accepts, not what an earlier one accepted: a VM with a lower value from an
//! earlier kernel cannot be restored if the field has become read-only. The masks of the host profiles in
//! `expected/hosts/` must include these fields.

use crate::kernel_version::KernelVersion;
use dfr0_model::{
    dfr0::{DEBUGVER, DOUBLELOCK, Field, PMUVER, WRPS},
    id_dfr0,
};

/// The first kernel that was seen with these fields in its masks. Earlier kernels may have some of them, and
/// a distributor's older kernel may have all of them. Each later kernel has them.
const SINCE_6_12: (KernelVersion, [&[&Field]; 2]) =
    (KernelVersion::new(6, 12), [&[&DOUBLELOCK, &WRPS, &PMUVER, &DEBUGVER], &id_dfr0::FIELDS]);

/// The fields that userspace can write under this kernel; those of ID_DFR0_EL1 where the VM has AArch32.
pub fn writable_under(version: KernelVersion) -> impl Iterator<Item = &'static Field> {
    let (since, fields) = SINCE_6_12;
    fields.into_iter().flatten().copied().filter(move |_| version >= since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profiles;
    use dfr0_model::sysreg::ID_AA64DFR0_EL1;

    fn under(release: &str) -> Vec<&'static str> {
        let version = KernelVersion::of_release(release).expect("a version");
        let fields = writable_under(version).filter(|field| field.reg == ID_AA64DFR0_EL1);
        fields.map(|field| field.name).collect()
    }

    #[test]
    fn a_later_kernel_has_what_an_earlier_one_had() {
        for release in ["6.12.0-rc1", "6.12.117+deb13-arm64", "6.13", "7.3.4", "10.0"] {
            assert_eq!(under(release), ["DoubleLock", "WRPs", "PMUVer", "DebugVer"], "{release}");
        }
    }

    #[test]
    fn an_earlier_kernel_need_not_have_anything() {
        for release in ["5.14.0-570.el9", "6.1.0-32-arm64", "6.11.12"] {
            assert_eq!(under(release), [""; 0], "{release}");
        }
    }

    #[test]
    fn the_masks_of_host_profiles_include_these_fields() {
        let profiles = Profiles::load(None).expect("valid");
        let kernels = profiles.all().flat_map(|profile| &profile.kernels);
        let known = |version| {
            let fields = writable_under(version).filter(|field| field.reg == ID_AA64DFR0_EL1);
            fields.fold(0, |mask, field| mask | field.mask())
        };
        let mut any = false;
        for kernel in kernels {
            let (mask, writable) = (known(kernel.since), kernel.facts.writable.unwrap_or(0));
            assert_eq!(writable & mask, mask, "{kernel:x?}");
            any |= mask != 0;
        }
        assert!(any);
    }
}
