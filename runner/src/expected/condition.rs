// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The hosts that can show a deviation.

use crate::{
    capabilities::Capabilities, cpu_model::CpuModel, host::Host, kernel_version::KernelVersion, mode::Mode,
};
use dfr0_model::{
    dfr0::{FIELDS, Field},
    id_write::Writable,
};
use serde::{Deserialize, Deserializer, de};
use std::fmt;

/// What a host must be for a deviation to be seen: all of what is given.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// The first kernel that shows it.
    pub since: Option<KernelVersion>,
    /// The first kernel that does not show it any more.
    pub until: Option<KernelVersion>,
    /// The host's KVM has this capability.
    pub capability: Option<Capability>,
    /// The host's KVM does not have this capability.
    pub without_capability: Option<Capability>,
    /// Userspace may write this field of ID_AA64DFR0_EL1.
    pub writable: Option<WritableField>,
    /// The host has this many watchpoints, or more.
    pub watchpoints: Option<u8>,
    /// KVM runs like this.
    pub mode: Option<Mode>,
    /// The host has this CPU.
    pub cpu: Option<CpuModel>,
    /// The deviation is this platform's and not KVM's.
    pub platform: Option<String>,
    /// The platform's deviation is seen only on a bare CPU: KVM hides it from these cases.
    pub bare: bool,
}

/// A KVM capability that dfr0 asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability(&'static str);

/// A field of ID_AA64DFR0_EL1.
#[derive(Clone, Copy, Debug)]
pub struct WritableField(&'static Field);

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = Capabilities::default().all().map(|(name, _)| name);
        known.into_iter().find(|name| *name == text).map(Self).ok_or_else(|| {
            let known = known.join(", ");
            de::Error::custom(format!("dfr0 does not ask KVM for \"{text}\"; it asks for {known}"))
        })
    }
}

impl<'de> Deserialize<'de> for WritableField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        FIELDS.into_iter().find(|field| field.name == text).map(Self).ok_or_else(|| {
            let known = FIELDS.map(|field| field.name).join(", ");
            de::Error::custom(format!("ID_AA64DFR0_EL1 has no field \"{text}\"; it has {known}"))
        })
    }
}

impl Capability {
    /// KVM's name for it.
    pub fn name(self) -> &'static str {
        self.0
    }

    fn is_on(self, host: &Host) -> bool {
        host.capabilities.all().iter().any(|(name, value)| *name == self.0 && *value > 0)
    }
}

impl WritableField {
    fn is_on(self, host: &Host) -> bool {
        let mask = self.0.mask();
        matches!(host.writable, Writable::Mask(writable) if writable & mask == mask)
    }
}

impl Condition {
    /// Why the deviation cannot be seen on this host; `None` if it can.
    ///
    /// A kernel whose release has no version is outside of every range: what is forgiven by mistake would
    /// never be seen, while a case that fails by mistake gives this reason. Deviations without a range apply
    /// there as everywhere.
    pub fn fails_on(&self, host: &Host) -> Option<String> {
        if self.bare && !host.is_bare() {
            return Some("it is seen only on a bare CPU".into());
        }
        match &self.platform {
            Some(platform) if *platform != host.platform => {
                return Some(format!("it belongs to the platform {platform}, and this is {}", host.platform));
            }
            None if host.is_bare() => return Some("it belongs to KVM, and this is a bare CPU".into()),
            _ => {}
        }
        if let Some(cpu) = self.cpu.filter(|cpu| *cpu != CpuModel::of(host.midr)) {
            return Some(format!("it belongs to the CPU {cpu}, and this is {}", host.cpu()));
        }
        if let Some(why) = self.kernel_fails(host) {
            return Some(why);
        }
        if let Some(Capability(name)) = self.capability.filter(|capability| !capability.is_on(host)) {
            return Some(format!("KVM does not have {name} here"));
        }
        if let Some(Capability(name)) = self.without_capability.filter(|capability| capability.is_on(host)) {
            return Some(format!("KVM has {name} here"));
        }
        let has = host.shape().watchpoints;
        if let Some(wanted) = self.watchpoints.filter(|wanted| has < *wanted) {
            return Some(format!("it needs {wanted} watchpoints, and this host has {has}"));
        }
        if let Some(wanted) = self.mode.filter(|wanted| host.mode != Some(*wanted)) {
            let here = host.mode.map_or("is not known how".into(), |mode| format!("is {mode}"));
            return Some(format!("it is seen where KVM's mode is {wanted}, and here it {here}"));
        }
        let field = self.writable.filter(|field| !field.is_on(host))?.0.name;
        Some(format!("userspace may not write {field} here, as far as the kernel says"))
    }

    fn kernel_fails(&self, host: &Host) -> Option<String> {
        self.since.or(self.until)?;
        let Some(release) = &host.kernel else {
            return Some("it depends on the kernel, and this is a bare CPU".into());
        };
        let Some(version) = KernelVersion::of_release(release) else {
            return Some(format!("it depends on the kernel, and the release \"{release}\" has no version"));
        };
        if let Some(since) = self.since.filter(|since| version < *since) {
            return Some(format!("it is seen since Linux {since}, and this is {release}"));
        }
        let until = self.until.filter(|until| version >= *until)?;
        Some(format!("it is seen until Linux {until}, and this is {release}"))
    }

    /// Whether no host can show both.
    pub fn excludes(&self, other: &Self) -> bool {
        fn differ<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            matches!((one, other), (Some(one), Some(other)) if one != other)
        }
        let before = |one: &Self, other: &Self| matches!((one.until, other.since), (Some(until), Some(since)) if until <= since);
        let without =
            |one: &Self, other: &Self| one.capability.is_some() && one.capability == other.without_capability;
        let bare = |one: &Self, other: &Self| one.bare && other.platform.is_none();
        differ(self.platform.as_ref(), other.platform.as_ref())
            || differ(self.cpu, other.cpu)
            || differ(self.mode, other.mode)
            || before(self, other)
            || before(other, self)
            || without(self, other)
            || without(other, self)
            || bare(self, other)
            || bare(other, self)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match (&self.platform, self.bare) {
            (Some(platform), true) => parts.push(format!("on a bare CPU of the platform {platform}")),
            (Some(platform), false) => parts.push(format!("on the platform {platform}")),
            (None, _) => {}
        }
        parts.extend(self.cpu.map(|cpu| format!("on {cpu}")));
        parts.extend(self.mode.map(|mode| format!("where KVM's mode is {mode}")));
        parts.extend(self.since.map(|since| format!("since Linux {since}")));
        parts.extend(self.until.map(|until| format!("until Linux {until}, which no longer shows it")));
        parts.extend(self.capability.map(|Capability(name)| format!("where KVM has {name}")));
        parts.extend(
            self.without_capability.map(|Capability(name)| format!("where KVM does not have {name}")),
        );
        parts.extend(self.writable.map(|field| format!("where userspace may write {}", field.0.name)));
        parts.extend(self.watchpoints.map(|wanted| format!("where there are {wanted} watchpoints or more")));
        if parts.is_empty() {
            parts.push("on every kernel".into());
        }
        f.write_str(&parts.join(", "))
    }
}
