// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Facts of this machine that matter to a guest's debug hardware.

use crate::{
    capabilities::Capabilities,
    cpu_model::{cpu, cpu_name},
    fingerprint::Hex,
    mode::Mode,
    visible::one_line,
};
use dfr0_model::{dfr0::FIELDS, id_write::Writable, shape::Shape};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use std::fmt;

/// Facts of a host with KVM/arm64, or of a bare CPU.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "Read", into = "Written")]
pub struct Host {
    /// The kernel's release, as `uname -r` prints it; `None` on a bare CPU.
    pub kernel: Option<String>,
    /// Which build of that release it is.
    pub build: Build,
    /// The machine: the first name in the device tree's `compatible`, or else the vendor that the firmware names.
    pub platform: String,
    /// MIDR_EL1 as a guest reads it.
    pub midr: u64,
    /// ID_AA64DFR0_EL1 as KVM gives it to a new VM, or as the bare CPU has it.
    pub id_aa64dfr0: u64,
    /// Which bits of ID_AA64DFR0_EL1 userspace may write, if the kernel says.
    pub writable: Writable,
    /// FEAT_LSE: a guest has atomic instructions.
    pub lse: bool,
    /// How KVM runs, if the kernel lets this process know; `None` on a bare CPU.
    pub mode: Option<Mode>,
    /// What KVM_CHECK_EXTENSION answers; empty on a bare CPU.
    pub capabilities: Capabilities,
}

impl Host {
    /// A host that is not there. Userspace may write what it may since Linux 6.12.
    pub fn imagined(id_aa64dfr0: u64) -> Self {
        const WRITABLE: u64 = 0xf0_00f0_0f0f;
        Self {
            kernel: Some("of no version".into()),
            build: Build::default(),
            platform: "imagined".into(),
            midr: 0,
            id_aa64dfr0,
            writable: Writable::Mask(WRITABLE),
            lse: true,
            mode: None,
            capabilities: Capabilities::default(),
        }
    }
}

/// What distinguishes a kernel from others of the same release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// What `uname -v` prints.
    pub version: Option<String>,
    /// The SHA-256 of the image that was booted, if the lab booted it.
    pub sha256: Option<String>,
    /// What it was built of, if the lab built it.
    pub source: Option<String>,
}

impl Build {
    /// The running kernel of this `uname -v`. The lab passes on what it knows of the image.
    pub fn of_this_machine(version: String) -> Self {
        let of_lab = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            version: Some(version),
            sha256: of_lab("DFR0_LAB_KERNEL_SHA256"),
            source: of_lab("DFR0_LAB_KERNEL_SOURCE"),
        }
    }

    /// The start of what distinguishes it, for names; empty if nothing is known.
    pub fn short(&self) -> String {
        const LETTERS: usize = 8;
        let plain = |letter: &char| letter.is_ascii_hexdigit();
        self.sha256.iter().flat_map(|sha256| sha256.chars()).filter(plain).take(LETTERS).collect()
    }
}

/// Why no guest can run here. This is not a failure: the run is skipped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    /// The machine has another architecture.
    #[error(
        "dfr0 tests KVM/arm64 and this machine is {arch}; `make check` boots an arm64 host in QEMU instead"
    )]
    Architecture {
        /// The architecture, as Rust names it.
        arch: &'static str,
    },
    /// `/dev/kvm` does not exist.
    #[error("/dev/kvm is missing: KVM is not built into this kernel, or the CPU did not enter it at EL2")]
    NoKvm,
    /// `/dev/kvm` exists, but cannot be opened.
    #[error("no permission to open /dev/kvm; run as root or as a member of its group (usually kvm)")]
    NoPermission,
}

/// A host as it is written to a file.
#[derive(Serialize)]
struct Written {
    kernel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_source: Option<String>,
    platform: String,
    cpu: &'static str,
    midr: Hex,
    shape: String,
    id_aa64dfr0: Hex,
    writable: Option<Hex>,
    lse: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    capabilities: Capabilities,
}

/// A host as it is read from a file. `cpu` and `shape` are for people, and are ignored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    kernel: Option<String>,
    #[serde(default)]
    kernel_version: Option<String>,
    #[serde(default)]
    kernel_sha256: Option<String>,
    #[serde(default)]
    kernel_source: Option<String>,
    platform: String,
    #[serde(rename = "cpu")]
    _cpu: IgnoredAny,
    midr: Hex,
    #[serde(rename = "shape")]
    _shape: IgnoredAny,
    id_aa64dfr0: Hex,
    writable: Option<Hex>,
    lse: bool,
    #[serde(default)]
    mode: Option<Mode>,
    capabilities: Capabilities,
}

impl From<Host> for Written {
    fn from(host: Host) -> Self {
        Self {
            cpu: cpu_name(host.midr),
            midr: Hex(host.midr),
            shape: host.shape().to_string(),
            id_aa64dfr0: Hex(host.id_aa64dfr0),
            writable: match host.writable {
                Writable::Mask(mask) => Some(Hex(mask)),
                Writable::Unknown => None,
            },
            kernel: host.kernel,
            kernel_version: host.build.version,
            kernel_sha256: host.build.sha256,
            kernel_source: host.build.source,
            platform: host.platform,
            lse: host.lse,
            mode: host.mode,
            capabilities: host.capabilities,
        }
    }
}

impl From<Read> for Host {
    fn from(read: Read) -> Self {
        Self {
            kernel: read.kernel,
            build: Build {
                version: read.kernel_version,
                sha256: read.kernel_sha256,
                source: read.kernel_source,
            },
            platform: read.platform,
            midr: read.midr.0,
            id_aa64dfr0: read.id_aa64dfr0.0,
            writable: read.writable.map_or(Writable::Unknown, |mask| Writable::Mask(mask.0)),
            lse: read.lse,
            mode: read.mode,
            capabilities: read.capabilities,
        }
    }
}

impl Host {
    /// The payload runs on the CPU without KVM.
    pub fn is_bare(&self) -> bool {
        self.kernel.is_none()
    }

    /// The shape that KVM gives to a new VM, or that the bare CPU has.
    pub fn shape(&self) -> Shape {
        Shape::from_id_aa64dfr0(self.id_aa64dfr0)
    }

    /// The CPU's name, if dfr0 knows it, and its MIDR_EL1.
    pub fn cpu(&self) -> String {
        cpu(self.midr)
    }

    /// The names of the fields that userspace may write, or why they are not known.
    pub fn writable_fields(&self) -> String {
        if self.is_bare() {
            return "none (there is no KVM)".into();
        }
        let Writable::Mask(mask) = self.writable else {
            return "not said (the kernel has no KVM_ARM_GET_REG_WRITABLE_MASKS)".into();
        };
        let fields: Vec<&str> =
            FIELDS.iter().filter(|field| mask & field.mask() != 0).map(|field| field.name).collect();
        if fields.is_empty() { "none".into() } else { fields.join(", ") }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kernel {
            Some(release) => writeln!(f, "kernel: Linux {release}")?,
            None => writeln!(f, "kernel: none, bare CPU")?,
        }
        let Build { version, sha256, source } = &self.build;
        for (what, value) in [("version:", version), ("image: SHA-256", sha256), ("source:", source)] {
            if let Some(value) = value {
                writeln!(f, "kernel {what} {}", one_line(value))?;
            }
        }
        if let Some(mode) = self.mode {
            writeln!(f, "kvm mode: {mode}")?;
        }
        writeln!(f, "platform: {}", self.platform)?;
        writeln!(f, "cpu: {}", self.cpu())?;
        writeln!(f, "shape: {}", self.shape())?;
        writeln!(f, "writable in ID_AA64DFR0_EL1: {}", self.writable_fields())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            kernel: Some("7.3.4".into()),
            build: Build {
                version: Some("#1 SMP PREEMPT".into()),
                sha256: Some("f00d".into()),
                source: Some("linux v7.3".into()),
            },
            platform: "linux,dummy-virt".into(),
            midr: 0x411f_d401,
            id_aa64dfr0: 0xf0_1030_5009,
            writable: Writable::Mask(0xf0_00f0_0f0f),
            lse: true,
            mode: Some(Mode::Vhe),
            capabilities: Capabilities::default(),
        }
    }

    #[test]
    fn a_host_is_named_in_words() {
        assert_eq!(
            host().to_string(),
            "kernel: Linux 7.3.4\n\
             kernel version: #1 SMP PREEMPT\n\
             kernel image: SHA-256 f00d\n\
             kernel source: linux v7.3\n\
             kvm mode: vhe\n\
             platform: linux,dummy-virt\n\
             cpu: Neoverse V1 (MIDR_EL1 0x411fd401)\n\
             shape: 6 breakpoints, 4 watchpoints, 2 context-aware, DebugVer 0x9, DoubleLock not implemented\n\
             writable in ID_AA64DFR0_EL1: DoubleLock, WRPs, PMUVer, DebugVer\n"
        );
    }

    #[test]
    fn a_kernel_without_masks_may_have_writable_fields() {
        let unknown = Host { writable: Writable::Unknown, ..host() };
        assert!(unknown.writable_fields().contains("KVM_ARM_GET_REG_WRITABLE_MASKS"));
        assert_eq!(Host { writable: Writable::Mask(0), ..host() }.writable_fields(), "none");
    }

    #[test]
    fn a_bare_cpu_has_no_kernel_and_says_so() {
        let bare =
            Host { kernel: None, build: Build::default(), mode: None, writable: Writable::Unknown, ..host() }
                .to_string();
        assert!(bare.starts_with("kernel: none, bare CPU\nplatform: linux,dummy-virt\n"), "{bare}");
        assert!(bare.ends_with("writable in ID_AA64DFR0_EL1: none (there is no KVM)\n"), "{bare}");
    }

    #[test]
    fn an_unknown_cpu_keeps_its_midr() {
        assert_eq!(Host { midr: 0x610f_0000, ..host() }.cpu(), "unnamed (MIDR_EL1 0x610f0000)");
    }
}
