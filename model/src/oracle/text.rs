// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Parses scenarios from text, in the form in which they are printed.

mod guest_debug;

use crate::{
    access::Access,
    scenario::{El, Entry, Migrate, Op, Other, Scenario},
    sequence::Sequence,
    sysreg::{SysReg, TABLE},
    vmm::{Features, MaskRequest, RunField, StepState, Vmm},
};
use alloc::{
    format,
    string::{String, ToString},
};
use core::{fmt, str::FromStr};

/// Text that is not a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The line's number, starting with 1.
    pub line: usize,
    /// What is wrong with it, and what it should be.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl core::error::Error for Error {}

/// An upper limit of operations: more than any payload can run.
const MOST: usize = crate::wire::PROGRAM_LEN;

impl FromStr for Scenario {
    type Err = Error;

    /// One operation per line, as `dfr0 run` prints them. `#`, blanks and the operation's place before it are
    /// ignored.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut scenario = Self::new();
        for (line, text) in (1..).zip(text.lines()) {
            let bare = text.trim_start_matches(['#', ' ', '\t']).trim_end();
            if bare.is_empty() {
                continue;
            }
            let failed = |message| Error { line, message };
            let op = without_place(bare).parse().map_err(failed)?;
            if scenario.ops().len() >= MOST {
                return Err(failed(format!("more than {MOST} operations")));
            }
            scenario = scenario.then(op);
        }
        if scenario.ops().is_empty() {
            return Err(Error { line: 1, message: "there is no operation in the text".into() });
        }
        Ok(scenario)
    }
}

/// The operation without its place in a list.
fn without_place(line: &str) -> &str {
    line.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix(' ').map_or(line, str::trim_start)
}

impl FromStr for Op {
    type Err = String;

    /// An operation in the form in which it is printed; text in parentheses after a value is ignored.
    fn from_str(text: &str) -> Result<Self, String> {
        let fixed = [
            Self::Isb,
            Self::MaskDebug(false),
            Self::MaskDebug(true),
            Self::Level(El::El0),
            Self::Level(El::El1),
            Self::Enter(Entry::Call),
            Self::Brk,
            Self::Exit,
            Self::Move,
        ];
        let others = Other::ALL.map(Self::Other).into_iter().chain(Migrate::ALL.map(Self::Migrate));
        if let Some(op) = fixed.into_iter().chain(others).find(|op| op.to_string() == text) {
            return Ok(op);
        }
        if let Some(rest) = text.strip_prefix("msr ") {
            return assignment(rest).map(|(reg, value)| Self::Write { reg, value });
        }
        if let Some(debug) = guest_debug::parse(text) {
            return Ok(Self::Debug(debug));
        }
        if let Some(vmm) = vmm(text)? {
            return Ok(Self::Vmm(vmm));
        }
        if let Some(rest) = text.strip_prefix("try KVM_SET_ONE_REG ") {
            return assignment(rest).map(|(reg, value)| Self::KvmTry { reg, value });
        }
        if let Some(rest) = text.strip_prefix("KVM_SET_ONE_REG ") {
            return assignment(rest).map(|(reg, value)| Self::KvmSet { reg, value });
        }
        if let Some(rest) = text.strip_prefix("mrs ") {
            return register(rest).map(|reg| Self::Read { reg });
        }
        if let Some(rest) = text.strip_prefix("KVM_GET_ONE_REG ") {
            return register(rest).map(|reg| Self::KvmGet { reg });
        }
        if let Some(rest) = text.strip_prefix("exec marker ") {
            let marker = rest.parse().map_err(|_| format!("`{rest}` is not the number of a marker"))?;
            return Ok(Self::Exec { marker });
        }
        if let Some(rest) = text.strip_prefix("run `") {
            let (name, x0) = rest
                .split_once("` with X0 = ")
                .ok_or_else(|| format!("`{text}` is not `run `PIECE` with X0 = 0xVALUE`"))?;
            let sequence =
                Sequence::find(name).ok_or_else(|| format!("there is no piece of code `{name}`"))?;
            return Ok(Self::Run { sequence, x0: number(x0)? });
        }
        if let Some(rest) = text.strip_prefix("by exception returns with SS = ") {
            return entry(rest).ok_or_else(|| format!("`{rest}` is not `0|1, up to N steps:`"));
        }
        if let Some((name, address)) = text.split_once(", [") {
            let access = Access::find(name).ok_or_else(|| format!("there is no access `{name}`"))?;
            let (address, rest) = address.split_once(']').ok_or("an address ends with `]`")?;
            if !rest.is_empty() && !rest.starts_with("  (") {
                return Err(format!("`{rest}` is not text in parentheses after an address"));
            }
            return Ok(Self::Access { access, address: number(address)? });
        }
        if text.starts_with('…') {
            return Err("operations were left out here; the whole scenario is needed".into());
        }
        Err(format!(
            "`{text}` is not an operation that can be parsed; examples are `msr REGISTER, 0xVALUE` and `isb`"
        ))
    }
}

/// A register and a value.
fn assignment(text: &str) -> Result<(SysReg, u64), String> {
    let (name, value) =
        text.split_once(", ").ok_or_else(|| format!("`{text}` is not `REGISTER, 0xVALUE`"))?;
    let value = value.split_once(' ').map_or(value, |(value, _)| value);
    Ok((register(name)?, number(value)?))
}

/// A register by its name, or by its encoding as `S3_0_C0_C4_0`.
fn register(name: &str) -> Result<SysReg, String> {
    let unknown = || format!("there is no register `{name}`");
    if let Some(reg) = TABLE.into_iter().find(|reg| reg.to_string() == name) {
        return Ok(reg);
    }
    let mut parts = name.strip_prefix('S').ok_or_else(unknown)?.split('_');
    let mut part = |prefix: &str, most: u16| {
        let number =
            parts.next().and_then(|part| part.strip_prefix(prefix)).and_then(|part| part.parse().ok());
        number.filter(|number| *number <= most).ok_or_else(unknown)
    };
    let reg = SysReg::new(part("", 3)?, part("", 7)?, part("C", 15)?, part("C", 15)?, part("", 7)?);
    if reg.op0() < 2 || reg.to_string() != name { Err(unknown()) } else { Ok(reg) }
}

/// An operation on a VM, if the text is one.
fn vmm(text: &str) -> Result<Option<Vmm>, String> {
    let fixed = [Vmm::Create, Vmm::Run, Vmm::MaskRanges];
    let fields = RunField::ALL.map(Vmm::RunField);
    let inits = Features::ALL.map(Vmm::Init);
    let completions = Features::ALL.into_iter().filter(|features| features.completion().is_some());
    let mut all = fixed.into_iter().chain(fields).chain(inits).chain(completions.map(Vmm::Complete));
    if let Some(vmm) = all.find(|vmm| vmm.to_string() == text) {
        return Ok(Some(vmm));
    }
    for state in StepState::ALL {
        if text == Vmm::GetState(state).to_string() {
            return Ok(Some(Vmm::GetState(state)));
        }
        let value = text.strip_prefix("KVM_SET_ONE_REG ").and_then(|rest| rest.strip_prefix(state.name()));
        if let Some(value) = value.and_then(|rest| rest.strip_prefix(", ")) {
            return Ok(Some(Vmm::SetState(state, number(value)?)));
        }
    }
    if let Some(name) = text.strip_prefix("the writable mask of ") {
        return Ok(Some(Vmm::Mask(register(name)?)));
    }
    if let Some(name) = text.strip_prefix("KVM_GET_REG_LIST lists ") {
        return Ok(Some(Vmm::Lists(register(name)?)));
    }
    if let Some(number) = text.strip_prefix("vCPU ").and_then(|rest| rest.strip_suffix(':')) {
        let number = number.parse().map_err(|_| format!("`{number}` is not the number of a vCPU"))?;
        return Ok(Some(Vmm::Use(number)));
    }
    text.strip_prefix("KVM_ARM_GET_REG_WRITABLE_MASKS of range ").map(masks).transpose()
}

/// What [`MaskRequest`] prints after the range's name.
fn masks(text: &str) -> Result<Vmm, String> {
    let wrong = || {
        format!("`{text}` is not `RANGE`, `, reserved[N] = 0xVALUE` and `, to an address that is not mapped`")
    };
    let (rest, unmapped) = match text.strip_suffix(", to an address that is not mapped") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (range, reserved) = match rest.split_once(", reserved[") {
        Some((range, word)) => {
            let (place, word) = word.split_once("] = ").ok_or_else(wrong)?;
            let place =
                place.parse().ok().filter(|place| *place < MaskRequest::RESERVED).ok_or_else(wrong)?;
            (range, Some((place, u32::try_from(number(word)?).map_err(|_| wrong())?)))
        }
        None => (rest, None),
    };
    let range = range.parse().map_err(|_| wrong())?;
    Ok(Vmm::Masks(MaskRequest { range, reserved, unmapped }))
}

fn number(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").ok_or_else(|| format!("`{text}` does not begin with 0x"))?;
    u64::from_str_radix(digits, 16).map_err(|_| format!("`{text}` is not a 64-bit hexadecimal number"))
}

fn entry(text: &str) -> Option<Op> {
    let (ss, rest) = text.split_once(", up to ")?;
    let steps = rest.strip_suffix(" steps:")?.parse().ok()?;
    let ss = match ss {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    Some(Op::Enter(Entry::Return { ss, steps }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Passage;
    use crate::{
        control::{Dbgbcr, Dbgwcr, Mdscr},
        guest_debug::GuestDebug,
        sysreg,
    };
    use alloc::vec::Vec;
    use proptest::{collection::vec, prelude::*, sample::Index};

    fn scenario() -> Scenario {
        Scenario::new()
            .then(Op::MaskDebug(false))
            .breakpoint(5, 1, Dbgbcr::address_at_el1())
            .watchpoint(3, 0x400f_0000, Dbgwcr::doubleword())
            .enable(Mdscr::breakpoints_at_el1())
            .at(El::El0)
            .entered(Entry::stepped(2))
            .exec(1)
            .access(Access::named("ldr x1"), 0x400f_0001)
            .run(Sequence::named("msr spsr_el1, x0; eret"), 0x2003c5)
            .brk()
            .then(Op::Exit)
            .then(Op::Other(Other::Locked))
            .then(Op::Debug(GuestDebug::first_breakpoints(2).and_watchpoint(3, 0x400f_0000)))
            .then(Op::Debug(GuestDebug::OFF))
            .then(Op::Move)
            .then(Op::Migrate(Migrate::Used))
            .then(Op::KvmSet { reg: sysreg::OSLSR_EL1, value: 0b1010 })
            .then(Op::KvmGet { reg: sysreg::dbgwcr(3) })
            .read(sysreg::CONTEXTIDR_EL1)
            .then(Op::KvmTry { reg: SysReg::new(3, 0, 0, 7, 5), value: 5 })
            .then(Op::Vmm(Vmm::Create))
            .then(Op::Vmm(Vmm::Use(1)))
            .then(Op::Vmm(Vmm::Init(Features::Pmu)))
            .then(Op::Vmm(Vmm::Complete(Features::Pmu)))
            .then(Op::Vmm(Vmm::Run))
            .then(Op::Vmm(Vmm::MaskRanges))
            .then(Op::Vmm(Vmm::Mask(SysReg::new(3, 0, 0, 7, 5))))
            .then(Op::Vmm(Vmm::Lists(sysreg::dbgbvr(1))))
            .then(Op::Vmm(Vmm::SetState(StepState::SpsrEl1, 0x2001c5)))
            .then(Op::Vmm(Vmm::GetState(StepState::Pstate)))
            .then(Op::Vmm(Vmm::RunField(RunField::DebugFlags)))
            .passes(Passage::StepsNothing)
            .then(Op::Vmm(Vmm::Masks(MaskRequest {
                range: 7,
                reserved: Some((12, 1 << 31)),
                unmapped: true,
            })))
            .at(El::El1)
            .entered(Entry::Call)
    }

    #[test]
    fn a_printed_scenario_is_parsed() {
        let printed = scenario().to_string();
        assert_eq!(printed.parse(), Ok(scenario()));
        let commented: String = printed.lines().map(|line| format!("#   {line}\n")).collect();
        assert_eq!(commented.parse(), Ok(scenario()), "from a TAP stream");
        let bare: String = scenario().ops().iter().map(|op| format!("{op}\n\n")).collect();
        assert_eq!(bare.parse(), Ok(scenario()), "without places, with empty lines");
    }

    #[test]
    fn an_error_names_the_line_and_the_text() {
        let error = |text: &str| match text.parse::<Scenario>() {
            Err(error) => error.to_string(),
            Ok(scenario) => panic!("{scenario}"),
        };
        assert_eq!(error(""), "line 1: there is no operation in the text");
        assert!(error("isb\nmsr DBGBVR99_EL1, 0x1").starts_with("line 2: there is no register"));
        assert!(error("msr DBGBVR1_EL1, 12").contains("does not begin with 0x"));
        assert!(error("msr DBGBVR1_EL1, 0x11112222333344445").contains("not a 64-bit"));
        assert!(error("msr DBGBVR1_EL1").contains("is not `REGISTER, 0xVALUE`"));
        assert!(error("exec marker 256").contains("not the number of a marker"));
        assert!(
            error("1isb").contains("`1isb` is not an operation"),
            "a blank separates place and operation"
        );
        assert!(error("ldr x9, [0x0]").contains("no access `ldr x9`"));
        assert!(error("run `isb` with 7").contains("is not"));
        assert!(error("run `isb;` with X0 = 0x0").contains("no piece of code `isb;`"));
        assert!(error("run `isb` with X0 = 7").contains("does not begin with 0x"));
        assert!(error("ldr x1, [0x0").contains("ends with `]`"));
        assert!(error("ldr x1, [0x0] and more").contains("is not text in parentheses"));
        assert!(error("by exception returns with SS = 2, up to 1 steps:").contains("is not"));
        assert!(error("   …").contains("left out"));
        assert!(error("KVM_SET_GUEST_DEBUG enable").contains("can be parsed"));
        assert!(error(&"isb\n".repeat(MOST + 1)).starts_with(&format!("line {}: more than", MOST + 1)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            let _ = text.parse::<Scenario>();
        }

        #[test]
        fn a_changed_text_is_parsed_as_it_is_printed_or_refused(
            edits in vec((any::<Index>(), 0..4_usize, "[0-9a-fx]{0,3}|[A-Zx, \\[\\]#\n…]{0,3}|\\PC{0,3}"), 1..4),
        ) {
            let mut text: Vec<char> = scenario().to_string().chars().collect();
            for (place, removed, new) in edits {
                let place = place.index(text.len());
                let end = (place + removed).min(text.len());
                text.splice(place..end, new.chars());
            }
            if let Ok(read) = text.into_iter().collect::<String>().parse::<Scenario>() {
                prop_assert_eq!(read.to_string().parse(), Ok(read));
            }
        }

        #[test]
        fn any_value_survives(reg in 0..TABLE.len(), value: u64, steps: u8, ss: bool) {
            let reg = TABLE[reg];
            let scenario = Scenario::new().write(reg, value).entered(Entry::Return { ss, steps });
            prop_assert_eq!(scenario.to_string().parse::<Scenario>(), Ok(scenario));
        }
    }
}
