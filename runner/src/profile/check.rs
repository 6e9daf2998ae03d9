// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Compares the fingerprint of a host with the profiles that fit it.

use super::{Facts, Kernel, Profile, Profiles, REGISTERS};
use crate::{
    cpu_model::CpuModel,
    fingerprint::{Accepts, Fingerprint, Masks},
    plan::{field_names, in_order, value},
    register_id::RegisterId,
};
use dfr0_model::sysreg::{ID_AA64DFR0_EL1, SysReg};
use std::fmt;

/// The result of a check.
#[derive(Debug)]
pub struct Check<'a> {
    /// The host, in words.
    host: String,
    /// The outcome.
    pub outcome: Outcome<'a>,
}

/// Whether a host is as a profile says.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// It is as these profiles say.
    Same {
        /// The profiles.
        profiles: Vec<&'a Profile>,
        /// The number of other profiles for this CPU, platform and kernel.
        others: usize,
        /// The facts that were not compared because the fingerprint does not have them.
        unsaid: Vec<&'static str>,
    },
    /// It is not as any profile says; this is the nearest profile.
    Differs {
        /// The profile.
        profile: &'a Profile,
        /// The range of kernels that have these facts.
        kernels: String,
        /// What differs.
        differences: Vec<Difference>,
        /// The other profiles for this CPU, platform and kernel, from which it differs too.
        others: Vec<&'a str>,
    },
    /// No profile fits, and why.
    None(String),
}

/// One fact that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field, register or capability.
    pub name: String,
    /// What the profile says.
    pub profile: String,
    /// What the host says.
    pub host: String,
}

impl Profiles {
    /// Compares the fingerprint with the named profile, or else with the profiles that fit it.
    pub fn check<'a>(&'a self, fingerprint: &Fingerprint, named: Option<&'a Profile>) -> Check<'a> {
        let platform = fingerprint.platform.as_deref().unwrap_or("unknown platform");
        let host = format!("{}, Linux {}, {platform}", fingerprint.cpu(), fingerprint.kernel);
        let outcome = match named {
            Some(profile) => against(fingerprint, vec![profile]),
            None => match self.fitting(fingerprint) {
                Ok(profiles) => against(fingerprint, profiles),
                Err(why) => Outcome::None(why),
            },
        };
        Check { host, outcome }
    }

    /// Adds what the profiles know to a fingerprint without masks, if its host is as one of them says: the bits of
    /// ID_AA64DFR0_EL1 that userspace may write.
    pub fn complete(&self, fingerprint: &mut Fingerprint) {
        if fingerprint.masks != Masks::Unsaid {
            return;
        }
        let (Outcome::Same { profiles, .. }, Some(version)) =
            (self.check(fingerprint, None).outcome, fingerprint.kernel_version())
        else {
            return;
        };
        let known = |profile: &Profile| {
            let kernel = profile.kernels.iter().find(|kernel| kernel.includes(version))?;
            Some((kernel.facts.writable?, profile.name.clone()))
        };
        let mut known = profiles.iter().map(|profile| known(profile));
        if let Some(Some((id_aa64dfr0, profile))) = known.next()
            && known.all(|other| other.is_some_and(|(mask, _)| mask == id_aa64dfr0))
        {
            fingerprint.masks = Masks::OfProfile { id_aa64dfr0, profile };
        }
    }

    /// The profiles for its CPU and platform: those that name the platform, or else those that name none.
    fn fitting(&self, fingerprint: &Fingerprint) -> Result<Vec<&Profile>, String> {
        let Some(midr) = fingerprint.midr() else {
            return Err("the fingerprint has no MIDR_EL1, so its CPU is not known".into());
        };
        let cpu = CpuModel::of(midr);
        let of_platform = |platform: Option<&str>| -> Vec<&Profile> {
            self.0
                .iter()
                .filter(|profile| profile.cpu == cpu && profile.platform.as_deref() == platform)
                .collect()
        };
        let own =
            fingerprint.platform.as_deref().map(|platform| of_platform(Some(platform))).unwrap_or_default();
        let fitting = if own.is_empty() { of_platform(None) } else { own };
        if fitting.is_empty() {
            // What is missing, and where it would come from.
            Err(format!(
                "none is for {cpu} on this platform; `dfr0 host show --json` on such a host has the facts for an entry of \
                 expected/hosts/ (docs/expected.md)"
            ))
        } else {
            Ok(fitting)
        }
    }
}

fn against<'a>(fingerprint: &Fingerprint, profiles: Vec<&'a Profile>) -> Outcome<'a> {
    let Some(version) = fingerprint.kernel_version() else {
        return Outcome::None(format!("the release \"{}\" has no version", fingerprint.kernel));
    };
    let kernels =
        |profile: &'a Profile| Some((profile, profile.kernels.iter().find(|one| one.includes(version))?));
    let fitting: Vec<(&Profile, &Kernel)> = profiles.iter().copied().filter_map(kernels).collect();
    let compared = fitting
        .iter()
        .map(|(profile, kernel)| (*profile, kernel, differences(fingerprint, profile, &kernel.facts)));
    let Some((profile, kernel, differences)) =
        compared.clone().min_by_key(|(.., differences)| differences.len())
    else {
        let names: Vec<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
        return Outcome::None(format!("{} has no facts about Linux {version}", names.join(" or ")));
    };
    if differences.is_empty() {
        let same: Vec<&Profile> = compared
            .filter(|(.., differences)| differences.is_empty())
            .map(|(profile, ..)| profile)
            .collect();
        return Outcome::Same {
            others: fitting.len() - same.len(),
            profiles: same,
            unsaid: unsaid(fingerprint),
        };
    }
    let others = fitting.iter().map(|(other, _)| other.name.as_str()).filter(|name| *name != profile.name);
    Outcome::Differs { profile, kernels: kernel.range(), differences, others: others.collect() }
}

/// The facts that the fingerprint does not have.
fn unsaid(fingerprint: &Fingerprint) -> Vec<&'static str> {
    let mut unsaid = Vec::new();
    if fingerprint.accepts(ID_AA64DFR0_EL1) == Accepts::Unsaid {
        unsaid.push("what userspace may write");
    }
    if fingerprint.capabilities.is_none() {
        unsaid.extend(["KVM_CAP_GUEST_DEBUG_HW_BPS", "KVM_CAP_GUEST_DEBUG_HW_WPS"]);
    }
    unsaid
}

fn differences(fingerprint: &Fingerprint, profile: &Profile, facts: &Facts) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut differ = |name: &str, profile: String, host: String| {
        if profile != host {
            all.push(Difference { name: name.into(), profile, host });
        }
    };
    let cpu = fingerprint.midr().map_or("not known".into(), |midr| CpuModel::of(midr).to_string());
    differ("CPU", profile.cpu.to_string(), cpu);
    if let (Some(platform), Some(own)) = (&profile.platform, &fingerprint.platform) {
        differ("platform", platform.clone(), own.clone());
    }
    let [dfr0, dfr1, id_dfr0] = REGISTERS;
    let of = |reg: SysReg| fingerprint.id_registers.get(&reg).copied();
    for field in in_order() {
        let [profile, host] = [facts.id_aa64dfr0, fingerprint.id_aa64dfr0()].map(|value| field.get(value));
        differ(&format!("ID_AA64DFR0_EL1.{}", field.name), value(field, profile), value(field, host));
    }
    let fields = |mask: u64| if mask == 0 { "nothing".into() } else { field_names(dfr0, mask) };
    let writable = match (&fingerprint.masks, fingerprint.accepts(dfr0)) {
        (Masks::Absent, _) => Some("not said by the kernel".into()),
        (_, Accepts::Mask(mask)) => Some(fields(mask)),
        _ => None,
    };
    if let Some(writable) = writable {
        differ(
            "writable in ID_AA64DFR0_EL1",
            facts.writable.map_or("not said by the kernel".into(), fields),
            writable,
        );
    }
    for (reg, value) in [(dfr1, facts.id_aa64dfr1), (id_dfr0, facts.id_dfr0)] {
        let host = of(reg).map_or("not listed".into(), |value| format!("{value:#x}"));
        differ(&RegisterId::system(reg).name(), format!("{value:#x}"), host);
    }
    if let Some(capabilities) = &fingerprint.capabilities {
        let pairs = [
            (
                "KVM_CAP_GUEST_DEBUG_HW_BPS",
                facts.guest_debug_breakpoints,
                capabilities.kvm_cap_guest_debug_hw_bps,
            ),
            (
                "KVM_CAP_GUEST_DEBUG_HW_WPS",
                facts.guest_debug_watchpoints,
                capabilities.kvm_cap_guest_debug_hw_wps,
            ),
        ];
        for (name, profile, host) in pairs {
            differ(name, profile.to_string(), host.to_string());
        }
    }
    all
}

impl fmt::Display for Check<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "host: {}", self.host)?;
        match &self.outcome {
            Outcome::Same { profiles, others, unsaid } => {
                for profile in profiles {
                    writeln!(f, "same as profile {}: {}", profile.name, profile.about)?;
                }
                if *others > 0 {
                    writeln!(
                        f,
                        "  other profiles for this CPU, platform and kernel: {others}; --profile chooses one of them"
                    )?;
                }
                if !unsaid.is_empty() {
                    writeln!(
                        f,
                        "  not compared, because the fingerprint does not have it: {}",
                        unsaid.join(", ")
                    )?;
                }
                Ok(())
            }
            Outcome::Differs { profile, kernels, differences, others } => {
                writeln!(f, "differs from profile {}: {}; {kernels}", profile.name, profile.about)?;
                for Difference { name, profile, host } in differences {
                    writeln!(f, "  {name}: profile {profile}, host {host}")?;
                }
                writeln!(f, "  the profile is from: {}", profile.source)?;
                if others.is_empty() {
                    return Ok(());
                }
                writeln!(f, "  it differs as much or more from {}", others.join(", "))
            }
            Outcome::None(why) => writeln!(f, "no profile: {why}"),
        }
    }
}
