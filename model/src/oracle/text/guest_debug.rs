// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Parses calls of KVM_SET_GUEST_DEBUG, in the form in which [`GuestDebug`] prints.

use crate::{
    control::{Dbgbcr, Dbgwcr},
    guest_debug::{ENABLE, GuestDebug, OnExit, SINGLESTEP, USE_HW, USE_SW_BP},
};
use alloc::string::ToString;

const CONTROL: [(&str, u32); 5] =
    [("0", 0), ("ENABLE", ENABLE), ("SINGLESTEP", SINGLESTEP), ("USE_SW_BP", USE_SW_BP), ("USE_HW", USE_HW)];
const ON_EXIT: [(&str, OnExit); 2] = [
    ("; at an exit userspace steps over the instruction", OnExit::StepOver),
    ("; at an exit userspace switches debugging off", OnExit::SwitchOff),
];
/// The fields of DBGBCR and their lowest bits.
const DBGBCR: [(&str, u32); 11] = [
    ("E", 0),
    ("PMC", 1),
    ("BT2", 3),
    ("BAS", 5),
    ("HMC", 13),
    ("SSC", 14),
    ("LBN", 16),
    ("BT", 20),
    ("MASK", 24),
    ("SSCE", 29),
    ("LBNX", 30),
];
/// The fields of DBGWCR and their lowest bits.
const DBGWCR: [(&str, u32); 12] = [
    ("E", 0),
    ("PAC", 1),
    ("LSC", 3),
    ("BAS", 5),
    ("HMC", 13),
    ("SSC", 14),
    ("LBN", 16),
    ("WT", 20),
    ("WT2", 21),
    ("MASK", 24),
    ("SSCE", 29),
    ("LBNX", 30),
];

/// The call that prints as this text.
pub fn parse(text: &str) -> Option<GuestDebug> {
    let rest = text.strip_prefix("KVM_SET_GUEST_DEBUG ")?;
    let ended = ON_EXIT.iter().find_map(|(end, way)| Some((rest.strip_suffix(end)?, *way)));
    let (rest, on_exit) = ended.unwrap_or((rest, OnExit::Skip));
    let mut parts = rest.split(", ");
    let mut debug = GuestDebug::new(control(parts.next()?)?).on_exit(on_exit);
    for part in parts {
        let (what, fields) = part.split_once("  (").unwrap_or((part, ""));
        let fields = fields.trim_end_matches(')');
        if let Some((n, marker)) = numbered(what, "breakpoint ", " on marker ") {
            let marker: u8 = marker.parse().ok()?;
            if debug.breakpoints == 0 {
                // There are 16 breakpoints, each on the next marker.
                debug.marker = marker.checked_add(16).map(|_| marker)?;
            }
            debug.breakpoints |= 1_u16.checked_shl(n)?;
            debug.dbgbcr = Dbgbcr::new_with_raw_value(value(fields, &DBGBCR)?);
        } else {
            let (n, address) = numbered(what, "watchpoint ", " on 0x")?;
            let address = u64::from_str_radix(address, 16).ok()?;
            if debug.watchpoints == 0 {
                debug.watched = address;
            }
            debug.watchpoints |= 1_u16.checked_shl(n)?;
            debug.dbgwcr = Dbgwcr::new_with_raw_value(value(fields, &DBGWCR)?);
        }
    }
    (debug.to_string() == text).then_some(debug)
}

/// The control bits with these names; bits without a name are a number.
fn control(names: &str) -> Option<u32> {
    names.split('|').try_fold(0, |bits, name| {
        let named = CONTROL.iter().find(|(other, _)| *other == name).map(|(_, bit)| *bit);
        let number = || u32::from_str_radix(name.strip_prefix("0x")?, 16).ok();
        Some(bits | named.or_else(number)?)
    })
}

/// The number after `before`, and the text after `between`.
fn numbered<'a>(text: &'a str, before: &str, between: &str) -> Option<(u32, &'a str)> {
    let (number, rest) = text.strip_prefix(before)?.split_once(between)?;
    Some((number.parse().ok()?, rest))
}

/// The value of a register with these fields.
fn value(fields: &str, layout: &[(&str, u32)]) -> Option<u64> {
    fields.split(' ').filter(|field| !field.is_empty()).try_fold(0, |value, field| {
        let (name, digits) = field.split_once('=')?;
        let (_, lsb) = layout.iter().find(|(other, _)| *other == name)?;
        let number: u8 = match digits.strip_prefix("0b") {
            Some(binary) => u8::from_str_radix(binary, 2),
            None => digits.parse(),
        }
        .ok()?;
        Some(value | u64::from(number) << lsb)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;

    fn on_exit() -> impl Strategy<Value = OnExit> {
        prop_oneof![Just(OnExit::Skip), Just(OnExit::StepOver), Just(OnExit::SwitchOff)]
    }

    proptest! {
        #[test]
        fn what_is_printed_is_parsed(
            control: u32, breakpoints: u16, watchpoints: u16, marker in 0..200_u8, watched: u64,
            bits in (any::<u32>(), any::<u32>()), on_exit in on_exit(),
        ) {
            // Bits that are RES0 are not printed.
            let dbgbcr = Dbgbcr::new_with_raw_value(u64::from(bits.0 & !(1 << 4 | 0b1111 << 9)));
            let dbgwcr = Dbgwcr::new_with_raw_value(u64::from(bits.1 & !(0b11 << 22)));
            let debug = GuestDebug { control, breakpoints, marker, dbgbcr, watchpoints, watched, dbgwcr, on_exit };
            let text = debug.to_string();
            let parsed = parse(&text);
            prop_assert_eq!(parsed.map(|debug| debug.to_string()), Some(text));
            if breakpoints != 0 && watchpoints != 0 {
                prop_assert_eq!(parsed, Some(debug));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "(, |breakpoint |watchpoint | on marker | on 0x|[0-9]{1,3}|ENABLE|  \\(E=|\\)){0,12}") {
            let _ = parse(&(String::from("KVM_SET_GUEST_DEBUG ") + &text));
        }
    }

    #[test]
    fn other_text_is_not_a_call() {
        for text in [
            "",
            "KVM_SET_GUEST_DEBUG",
            "KVM_SET_GUEST_DEBUG enable",
            "KVM_SET_GUEST_DEBUG 0, x",
            "KVM_SET_GUEST_DEBUG 0 ",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        let marker = "KVM_SET_GUEST_DEBUG 0, breakpoint 0 on marker 255  (E=1 PMC=0b01 BAS=0b1111 HMC=0 SSC=0b00 LBN=0 BT=0b0000)";
        assert_eq!(parse(marker), None, "the other breakpoints would have no markers");
    }
}
