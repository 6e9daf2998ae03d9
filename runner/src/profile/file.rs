// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A file of profiles: its keys, and the errors in it.

use super::{Facts, Kernel, Profile};
use crate::{
    cpu_model::CpuModel,
    diagnostic::{Diagnostic, Source},
    kernel_version::KernelVersion,
};
use serde::{Deserialize, Deserializer, de};
use std::{ops::Range, rc::Rc};
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    host: Vec<Host>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    name: Spanned<String>,
    about: String,
    cpu: CpuModel,
    platform: Option<String>,
    source: Spanned<String>,
    kernel: Vec<Facted>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Facted {
    since: Spanned<KernelVersion>,
    until: Option<Spanned<KernelVersion>>,
    #[serde(rename = "ID_AA64DFR0_EL1")]
    id_aa64dfr0: u64,
    #[serde(deserialize_with = "mask")]
    writable: Option<u64>,
    #[serde(rename = "ID_AA64DFR1_EL1")]
    id_aa64dfr1: u64,
    #[serde(rename = "ID_DFR0_EL1")]
    id_dfr0: u64,
    #[serde(rename = "KVM_CAP_GUEST_DEBUG_HW_BPS")]
    guest_debug_breakpoints: i32,
    #[serde(rename = "KVM_CAP_GUEST_DEBUG_HW_WPS")]
    guest_debug_watchpoints: i32,
}

/// The mask, or `None` for a kernel that does not say it.
fn mask<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Mask {
        Is(u64),
        Word(String),
    }
    match Mask::deserialize(deserializer) {
        Ok(Mask::Is(mask)) => Ok(Some(mask)),
        Ok(Mask::Word(word)) if word == "not said" => Ok(None),
        _ => Err(de::Error::custom(
            "a mask is a number, or \"not said\" if the kernel has no KVM_ARM_GET_REG_WRITABLE_MASKS",
        )),
    }
}

/// A profile, and its place in a file.
pub struct Placed {
    pub profile: Profile,
    source: Rc<Source>,
    name: Range<usize>,
}

/// Reads the profiles in a file, and checks each by itself.
pub fn read(source: Source) -> Result<Vec<Placed>, Diagnostic> {
    let source = Rc::new(source);
    let file: File = toml::from_str(&source.text).map_err(|error| Diagnostic::toml(&source, &error))?;
    file.host.into_iter().map(|host| host.place(&source)).collect()
}

impl Host {
    fn place(self, source: &Rc<Source>) -> Result<Placed, Diagnostic> {
        for (text, what) in [
            (&self.name, "a profile must have a name"),
            (&self.source, "a profile must say where it comes from"),
        ] {
            if text.get_ref().trim().is_empty() {
                return Err(Diagnostic::new(source, text.span(), what));
            }
        }
        let mut before: Option<(Range<usize>, Option<KernelVersion>)> = None;
        for kernel in &self.kernel {
            let (since, until) =
                (*kernel.since.get_ref(), kernel.until.as_ref().map(|until| *until.get_ref()));
            if until.is_some_and(|until| since >= until) {
                let title = format!(
                    "no kernel is in a range since {since} that ends at the same or an earlier version"
                );
                return Err(Diagnostic::new(source, kernel.since.span(), title));
            }
            if let Some((span, ended)) = before.filter(|(_, ended)| ended.is_none_or(|ended| since < ended)) {
                let ended = ended.map_or("has no end".into(), |ended| format!("ends before {ended}"));
                let title = format!("a range since {since} follows one that {ended}");
                return Err(
                    Diagnostic::new(source, kernel.since.span(), title).beside(source, span, "that one")
                );
            }
            before = Some((kernel.since.span(), until));
        }
        Ok(Placed {
            source: Rc::clone(source),
            name: self.name.span(),
            profile: Profile {
                name: self.name.into_inner(),
                about: self.about,
                cpu: self.cpu,
                platform: self.platform,
                source: self.source.into_inner(),
                kernels: self.kernel.into_iter().map(Facted::kernel).collect(),
            },
        })
    }
}

impl Facted {
    fn kernel(self) -> Kernel {
        let Self { id_aa64dfr0, writable, id_aa64dfr1, id_dfr0, .. } = self;
        let Self { guest_debug_breakpoints, guest_debug_watchpoints, .. } = self;
        Kernel {
            since: self.since.into_inner(),
            until: self.until.map(Spanned::into_inner),
            facts: Facts {
                id_aa64dfr0,
                writable,
                id_aa64dfr1,
                id_dfr0,
                guest_debug_breakpoints,
                guest_debug_watchpoints,
            },
        }
    }
}

impl Placed {
    /// Two profiles with the same name are an error.
    pub fn check_beside(&self, earlier: &Self) -> Result<(), Diagnostic> {
        let name = &self.profile.name;
        if *name != earlier.profile.name {
            return Ok(());
        }
        Err(Diagnostic::new(&self.source, self.name.clone(), format!("profile \"{name}\" appears twice"))
            .beside(&earlier.source, earlier.name.clone(), "the first"))
    }
}
