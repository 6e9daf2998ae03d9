// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Kernel versions, in the release strings of distributors and in files.

use serde::{Deserialize, Deserializer, de};
use std::fmt;

/// A version; a later version compares as greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// 6 in 6.12.117.
    pub major: u32,
    /// 12 in 6.12.117.
    pub minor: u32,
    /// 117 in 6.12.117; 0 if there is none.
    pub patch: u32,
}

impl KernelVersion {
    /// A version without a patch level.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor, patch: 0 }
    }

    /// The version at the beginning of a release, which is what `uname -r` prints: 6.12.117 for
    /// 6.12.117+deb13-arm64. A release candidate counts as the release. `None` if the release does not begin
    /// with two numbers.
    pub fn of_release(release: &str) -> Option<Self> {
        let (major, rest) = number(release)?;
        let (minor, rest) = number(rest.strip_prefix('.')?)?;
        let patch = rest.strip_prefix('.').and_then(number).map_or(0, |(patch, _)| patch);
        Some(Self { major, minor, patch })
    }
}

/// The number at the beginning of the text, and the rest of the text.
fn number(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    Some((digits.parse().ok()?, rest))
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.patch > 0 { write!(f, ".{}", self.patch) } else { Ok(()) }
    }
}

/// In a file a version is two or three numbers and nothing else.
impl<'de> Deserialize<'de> for KernelVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_bare = text.split('.').count() <= 3 && text.chars().all(|c| c.is_ascii_digit() || c == '.');
        Self::of_release(&text).filter(|_| is_bare && !text.ends_with('.')).ok_or_else(|| {
            de::Error::custom(format!("\"{text}\" is not a kernel version, such as \"6.12\" or \"6.12.5\""))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(release: &str) -> Option<(u32, u32, u32)> {
        KernelVersion::of_release(release).map(|version| (version.major, version.minor, version.patch))
    }

    #[test]
    fn a_distributors_release_begins_with_the_version() {
        assert_eq!(of("6.12.117+deb13-arm64"), Some((6, 12, 117)));
        assert_eq!(of("6.1.172-216.329.amzn2023.aarch64"), Some((6, 1, 172)));
        assert_eq!(of("5.10.0-30-arm64"), Some((5, 10, 0)));
        assert_eq!(of("7.3.4"), Some((7, 3, 4)));
        assert_eq!(of("7.3"), Some((7, 3, 0)));
        assert_eq!(of("7.3-mine"), Some((7, 3, 0)));
    }

    #[test]
    fn a_candidate_counts_as_its_release() {
        assert_eq!(of("7.4.0-rc1"), Some((7, 4, 0)));
        assert_eq!(of("7.4-rc1+"), Some((7, 4, 0)));
    }

    #[test]
    fn a_release_without_a_version_has_none() {
        for release in ["", "linux", "7", "7-rc1", "v7.3", "7.x", ".7.3", "99999999999.1"] {
            assert_eq!(of(release), None, "{release}");
        }
    }

    #[test]
    fn versions_are_ordered_as_numbers() {
        let version = |release| KernelVersion::of_release(release).expect(release);
        assert!(version("6.9") < version("6.12") && version("6.12") < version("6.12.1"));
        assert!(version("6.12.117") < version("6.13") && version("6.13") < version("7.0"));
        assert_eq!(version("6.12.0").to_string(), "6.12");
        assert_eq!(version("6.12.5-x").to_string(), "6.12.5");
    }

    #[test]
    fn a_file_has_a_version_and_nothing_else() {
        let read = |text: &str| serde_json::from_str::<KernelVersion>(&format!("\"{text}\""));
        assert_eq!(read("6.12").ok(), Some(KernelVersion::new(6, 12)));
        assert_eq!(read("6.12.5").ok(), Some(KernelVersion { patch: 5, ..KernelVersion::new(6, 12) }));
        for text in ["6", "6.12-rc1", "6.12+", "6.12.", "6.12.1.2", "6..12", "v6.12", ""] {
            let message = read(text).expect_err(text).to_string();
            assert_eq!(
                message,
                format!("\"{text}\" is not a kernel version, such as \"6.12\" or \"6.12.5\"")
            );
        }
    }
}
