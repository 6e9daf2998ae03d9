// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A host as features of a Slurm node, by which jobs select nodes.

use crate::{cpu_types::Type, host::Host};
use std::collections::BTreeSet;

/// The features of a host with CPUs of these types, for the key `Feature` of slurm.conf. Some versions of Slurm accept only
/// lower-case letters, digits and underscores in them.
pub fn features(host: &Host, types: &[Type]) -> String {
    let shape = host.shape();
    let mut midrs: BTreeSet<u64> = types.iter().map(|one| one.midr.0).collect();
    midrs.insert(host.midr);
    let mut features = vec!["kvm".into()];
    features.extend(midrs.into_iter().map(|midr| format!("midr_{midr:08x}")));
    features.extend((types.len() > 1).then(|| "mixed_cpus".into()));
    features.push(format!("bp{}", shape.breakpoints));
    features.push(format!("wp{}", shape.watchpoints));
    features.push(format!("ctx{}", shape.context_aware));
    features.push(format!("dv{}", shape.debug_ver));
    features.extend(shape.double_lock.then(|| "doublelock".into()));
    features.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Hex;

    #[test]
    fn a_node_has_the_features_that_its_host_has() {
        let host = |id_aa64dfr0| Host { midr: 0x414f_d0c1, ..Host::imagined(id_aa64dfr0) };
        let of = |midr: u64, cpus: &str| Type {
            cpus: cpus.parse().expect("a list"),
            midr: Hex(midr),
            id_aa64dfr0: None,
        };
        assert_eq!(
            features(&host(0x1030_5008), &[of(0x414f_d0c1, "0-3")]),
            "kvm,midr_414fd0c1,bp6,wp4,ctx2,dv8,doublelock"
        );
        let mixed = [of(0x412f_d050, "0-3"), of(0x414f_d0c1, "4-5")];
        assert_eq!(
            features(&host(0xf0_1030_500b), &mixed),
            "kvm,midr_412fd050,midr_414fd0c1,mixed_cpus,bp6,wp4,ctx2,dv11"
        );
    }
}
