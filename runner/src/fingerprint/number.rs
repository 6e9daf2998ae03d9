// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Numbers in fingerprints. They are text, because JSON's own numbers lose bits above 53.

use crate::register_id::RegisterId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::borrow::Cow;

/// `0x` and 1 to 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex(pub u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#018x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        hexadecimal(&text).map(Self).ok_or_else(|| {
            D::Error::custom(format_args!(
                "\"{text}\" is not a hexadecimal number of at most 64 bits, such as \"0x1f\""
            ))
        })
    }
}

fn hexadecimal(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    let plain = digits.len() <= 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if plain { u64::from_str_radix(digits, 16).ok() } else { None }
}

/// A register's id, written like [`Hex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(pub RegisterId);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Hex(self.0.bits()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Hex(id) = Hex::deserialize(deserializer)?;
        RegisterId::new(id).map(Self).ok_or_else(|| {
            D::Error::custom(format_args!(
                "{id:#x} is not a register of an arm64 vCPU, or has an unknown width"
            ))
        })
    }
}

/// Reads `0b` and 1 to 2048 binary digits, the highest first. Returns the lowest 64 bits, and the number of
/// bits up to the highest bit that is set.
pub fn binary(text: &str) -> Option<(u64, u32)> {
    let digits = text.strip_prefix("0b")?.as_bytes();
    if !(1..=2048).contains(&digits.len()) || !digits.iter().all(|digit| matches!(digit, b'0' | b'1')) {
        return None;
    }
    let significant = digits.iter().skip_while(|digit| **digit == b'0').count();
    let low =
        digits.iter().rev().take(64).rev().fold(0, |value, digit| value << 1 | u64::from(*digit == b'1'));
    Some((low, significant as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_numbers_have_a_prefix_and_at_most_64_bits() {
        assert_eq!(hexadecimal("0x1f"), Some(0x1f));
        assert_eq!(hexadecimal("0xFFFFffffFFFFffff"), Some(u64::MAX));
        for wrong in [
            "",
            "0x",
            "1f",
            "0X1f",
            "0x1g",
            "0x+1",
            "0x-1",
            "0x 1",
            "0x10000000000000000",
            "0x00000000000000001",
        ] {
            assert_eq!(hexadecimal(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn binary_numbers_may_be_wider_than_64_bits() {
        assert_eq!(binary("0b101"), Some((5, 3)));
        assert_eq!(binary("0b000"), Some((0, 0)));
        assert_eq!(binary(&format!("0b1{}", "0".repeat(64))), Some((0, 65)));
        assert_eq!(binary(&format!("0b{}", "1".repeat(64))), Some((u64::MAX, 64)));
        for wrong in ["", "0b", "101", "0b102", "0bx01", "0b1_0"] {
            assert_eq!(binary(wrong), None, "{wrong}");
        }
        assert_eq!(binary(&format!("0b{}", "0".repeat(2049))), None);
    }
}
