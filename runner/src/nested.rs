// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The code of a hypervisor at EL2 that makes the visits of [`dfr0_model::nested`] one after the other.
//!
//! ```text
//!   base          EL2's vectors: they go to HANDLER
//!   EL1_VECTORS   EL1's vectors: they keep what EL1's registers hold and call EL2
//!   HANDLER       logs the exception and continues with the next visit
//!   START         copies the next visits from STAGE to CODE, makes them, and rings the bell
//!   CODE          the visits, and what each executes
//!   STAGE         the number of bytes of the next visits, and their code
//!   LOG = STAGE   a record for each visit, as [`dfr0_model::nested::decode`] reads it
//! ```
//!
//! X10 is the address where a visit ends, X11 the end of the log, and X12 MDCR_EL2 without the controls of a visit.
//!
//! Translation is off everywhere, so the hypervisor does not share a cache with userspace: it cleans and invalidates what
//! userspace wrote before it reads it, and its log after it wrote it, by address. What it executes it has written itself: a
//! CPU may have fetched, and an emulator may have translated, what was there before.

use crate::{
    a64::{branch, log},
    guest::Error,
    memory::{GuestMemory, Piece},
};
use dfr0_model::{
    nested::{
        self, Breakpoint, DONE, Event, FROM_EL1, Instruction, Level, Linked, RECORD_WORDS, Visit, WATCHED,
        pe::Pe,
    },
    pstate,
    sequence::{ERET, ISB},
    sysreg::{
        CONTEXTIDR_EL1, MDSCR_EL1, OSLAR_EL1, SCTLR_EL1, SysReg, VBAR_EL1, dbgbcr, dbgbvr, dbgwcr, dbgwvr,
    },
};
use std::sync::atomic::Ordering;

/// From the start of the hypervisor's memory on: EL1's vectors, where it starts, the code of the next visits, the first
/// record, and the end.
pub(crate) const EL1_VECTORS: u64 = 0x800;
pub(crate) const START: u64 = 0x1800;
const HANDLER: u64 = 0x1000;
const CODE: u64 = 0x2000;
const STAGE: u64 = 0x10_0000;
const LOG: u64 = STAGE;
pub(crate) const SIZE: u64 = 0x1f_0000;
/// The staged code follows a block of this size, which holds its number of bytes.
const HEADER: u64 = 16;
const RECORD: u64 = 8 * RECORD_WORDS as u64;
const VECTOR_SIZE: u64 = 0x80;

const HCR_EL2: SysReg = SysReg::new(3, 4, 1, 1, 0);
pub(crate) const MDCR_EL2: SysReg = SysReg::new(3, 4, 1, 1, 1);
const SCTLR_EL2: SysReg = SysReg::new(3, 4, 1, 0, 0);
pub(crate) const HDFGRTR_EL2: SysReg = SysReg::new(3, 4, 3, 1, 4);
pub(crate) const HDFGWTR_EL2: SysReg = SysReg::new(3, 4, 3, 1, 5);
const SPSR_EL2: SysReg = SysReg::new(3, 4, 4, 0, 0);
const ELR_EL2: SysReg = SysReg::new(3, 4, 4, 0, 1);
const ESR_EL2: SysReg = SysReg::new(3, 4, 5, 2, 0);
const FAR_EL2: SysReg = SysReg::new(3, 4, 6, 0, 0);
const VBAR_EL2: SysReg = SysReg::new(3, 4, 12, 0, 0);
const CONTEXTIDR_EL2: SysReg = SysReg::new(3, 4, 13, 0, 1);
const SPSR_EL1: SysReg = SysReg::new(3, 0, 4, 0, 0);
const ELR_EL1: SysReg = SysReg::new(3, 0, 4, 0, 1);
const ESR_EL1: SysReg = SysReg::new(3, 0, 5, 2, 0);
const FAR_EL1: SysReg = SysReg::new(3, 0, 6, 0, 0);

/// HCR_EL2.{E2H, RW, TGE, TID3}.
const E2H: u64 = 1 << 34;
const RW: u64 = 1 << 31;
const TGE: u64 = 1 << 27;
const TID3: u64 = 1 << 18;
/// SCTLR_EL2's RES1 bits with E2H clear; with E2H set it has the layout of SCTLR_EL1.
const SCTLR_EL2_OFF: u64 = 0x30c5_0830;
/// FAR_EL2 before each visit: no watchpoint reports it.
const NO_ADDRESS: u64 = 0xbad0;
/// MDSCR_EL1.TDCC.
const TDCC: u64 = 1 << 12;

const ORR_X0_X0_X12: u32 = 0xaa0c_0000;
const AND_X12_X0_1F: u32 = 0x9240_100c;
const BR_X10: u32 = 0xd61f_0140;
const DC_CIVAC_X2: u32 = 0xd50b_7e22;
const ADD_X2_X2_16: u32 = 0x9100_4042;
const CMP_X2_X11: u32 = 0xeb0b_005f;
/// `B.LO`, to the third instruction before it.
const B_LO_BACK_3: u32 = 0x54ff_ffa3;
const DSB_SY: u32 = 0xd503_3f9f;
const IC_IALLU: u32 = 0xd508_751f;
const LDR_X4_X2: u32 = 0xf940_0044;
const ADD_X4_X4_X2: u32 = 0x8b02_0084;
const LDR_X3_X2_POST: u32 = 0xf840_8443;
const STR_X3_X1_POST: u32 = 0xf800_8423;
const CMP_X2_X4: u32 = 0xeb04_005f;
const BR_X0: u32 = 0xd61f_0000;
const STR_W0_X1: u32 = 0xb900_0020;

/// `HVC #immediate`.
const fn hvc(immediate: u16) -> u32 {
    0xd400_0002 | (immediate as u32) << 5
}

/// `SVC #immediate`.
const fn svc(immediate: u16) -> u32 {
    0xd400_0001 | (immediate as u32) << 5
}

/// `MOVZ X<d>, …` and as many `MOVK` as the value needs.
fn mov(d: u32, value: u64) -> Vec<u32> {
    const MOVZ: u32 = 0xd280_0000;
    const MOVK: u32 = 0xf280_0000;
    let halfword = |place: u32| (value >> (16 * place) & 0xffff) as u32;
    let mut words = vec![MOVZ | halfword(0) << 5 | d];
    let upper = (1..4).filter(|place| halfword(*place) != 0);
    words.extend(upper.map(|place| MOVK | place << 21 | halfword(place) << 5 | d));
    words
}

/// Visits as the hypervisor finds them.
pub(crate) struct Composed {
    /// What belongs into its memory before it goes on.
    pub staged: Piece,
    /// The address of each visit's instruction.
    pub instructions: Vec<u64>,
}

/// Where a hypervisor is, and how it says that it has made all visits.
#[derive(Clone, Copy)]
pub(crate) struct Home {
    /// The address of its memory.
    pub base: u64,
    /// The word that it stores after the last visit.
    pub word: u32,
    /// The address of that word.
    pub bell: u64,
    /// When it exits to userspace during each visit, if it does, and where it stores a word for that.
    pub exit: Option<(Moment, u64)>,
}

/// A moment of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// At EL2, before the controls are set.
    Start,
    /// At EL2, with the controls set, before the exception return.
    Leaving,
    /// At the visit's Exception level, before its instruction.
    Arrived,
}

/// Code that is written from its start to its end.
struct Writer {
    start: u64,
    words: Vec<u32>,
}

impl Writer {
    fn address(&self) -> u64 {
        self.start + 4 * self.words.len() as u64
    }

    fn write(&mut self, reg: SysReg, value: u64) {
        self.words.extend(mov(0, value));
        self.words.push(reg.msr_x0());
    }
}

/// These visits of a hypervisor on this PE; `None` if they do not fit.
pub(crate) fn compose(pe: &Pe, visits: &[Visit], home: Home) -> Option<Composed> {
    let base = home.base;
    let hcr = RW | if pe.e2h { E2H } else { 0 };
    let mut code = Writer { start: base + CODE, words: Vec::new() };
    code.write(HCR_EL2, hcr);
    code.words.push(ISB);
    let sctlr = crate::stage1::SCTLR_OFF;
    code.write(SCTLR_EL2, if pe.e2h { sctlr } else { SCTLR_EL2_OFF });
    code.write(below(pe, SCTLR_EL1), sctlr);
    code.write(VBAR_EL2, base);
    code.write(below(pe, VBAR_EL1), base + EL1_VECTORS);
    if pe.fgt {
        code.write(HDFGRTR_EL2, 0);
        code.write(HDFGWTR_EL2, 0);
    }
    // HPMN, a number of event counters, keeps its value, because zero may be reserved.
    code.words.extend([MDCR_EL2.mrs_x0(), AND_X12_X0_1F]);
    code.write(OSLAR_EL1, 0);
    code.write(MDSCR_EL1, 0);
    (0..pe.shape.breakpoints).for_each(|n| code.write(dbgbcr(n), 0));
    (0..pe.shape.watchpoints).for_each(|n| code.write(dbgwcr(n), 0));
    code.words.extend(mov(11, base + LOG));
    let instructions = visits.iter().map(|visit| add(&mut code, pe, hcr, visit, home.exit)).collect();
    code.words.extend(mov(2, base + LOG));
    code.words.extend([DC_CIVAC_X2, ADD_X2_X2_16, CMP_X2_X11, B_LO_BACK_3, DSB_SY]);
    code.words.push(branch(code.address(), base + START));
    if !code.words.len().is_multiple_of(2) {
        code.words.push(0);
    }
    let bytes = 4 * code.words.len() as u64;
    let fits =
        HEADER + bytes <= SIZE - STAGE && CODE + bytes <= STAGE && LOG + RECORD * visits.len() as u64 <= SIZE;
    let mut staged = vec![(HEADER + bytes) as u32, 0, 0, 0];
    staged.extend(code.words);
    fits.then(|| Composed { staged: (base + STAGE, staged), instructions })
}

/// The name by which EL2 accesses a register of EL1.
fn below(pe: &Pe, reg: SysReg) -> SysReg {
    // REG_EL12 is REG_EL1 with op1 = 5.
    if pe.e2h { SysReg::from_encoding(reg.encoding() | 5 << 11) } else { reg }
}

/// Adds a visit. Returns the address of its instruction.
fn add(code: &mut Writer, pe: &Pe, hcr: u64, visit: &Visit, exit: Option<(Moment, u64)>) -> u64 {
    let exit_at = |moment| match exit {
        Some((at, bell)) if at == moment => [mov(0, 1), mov(1, bell), vec![STR_W0_X1]].concat(),
        _ => Vec::new(),
    };
    code.words.extend(exit_at(Moment::Start));
    let tge = if visit.level == Level::HostEl0 { TGE } else { 0 };
    code.write(HCR_EL2, hcr | tge | if visit.tid3 { TID3 } else { 0 });
    code.words.extend(mov(0, visit.mdcr.raw_value()));
    code.words.extend([ORR_X0_X0_X12, MDCR_EL2.msr_x0()]);
    code.write(FAR_EL2, NO_ADDRESS);
    let mut undo = vec![(HCR_EL2, hcr)];
    let mut set = |code: &mut Writer, reg, value| {
        if value != 0 {
            code.write(reg, value);
            undo.push((reg, 0));
        }
    };
    set(code, HDFGRTR_EL2, visit.hdfgrtr);
    set(code, HDFGWTR_EL2, visit.hdfgwtr);
    set(code, below(pe, CONTEXTIDR_EL1), visit.contextidr_el1.into());
    if pe.e2h {
        set(code, CONTEXTIDR_EL2, visit.contextidr_el2.into());
    }
    set(code, MDSCR_EL1, visit.mdscr.raw_value() | if visit.tdcc_el1 { TDCC } else { 0 });
    if let Some((n, control)) = visit.watchpoint {
        set(code, dbgwvr(n), WATCHED);
        set(code, dbgwcr(n), control.raw_value());
    }
    if let Some(Breakpoint { linked: Some(Linked { n, control, value }), .. }) = visit.breakpoint {
        set(code, dbgbvr(n), value);
        set(code, dbgbcr(n), control.raw_value());
    }
    let value = match visit.instruction {
        Instruction::Write(_, value) => value,
        _ => 0,
    };
    let mode = match visit.level {
        Level::El0 | Level::HostEl0 => pstate::EL0T,
        Level::El1 => pstate::EL1H,
        Level::El2 => pstate::EL2H,
    };
    let flags = if visit.unmasked { 0 } else { pstate::D } | if visit.ss { pstate::SS } else { 0 };
    let spsr = pstate::AIF | mode | flags;
    let lock = u64::from(visit.os_lock);

    // The addresses that follow depend on the length of the code that holds them; each takes two words.
    let address = |code: &mut Writer, d, value| {
        let words = mov(d, value);
        debug_assert_eq!(words.len(), 2, "an address in RAM");
        code.words.extend(words);
    };
    let operands = [mov(visit.instruction.rt(), value), mov(1, WATCHED), mov(19, 0)].concat();
    let leaving = exit_at(Moment::Leaving);
    let arrived = match exit_at(Moment::Arrived) {
        exit if exit.is_empty() => exit,
        exit => [exit, operands.clone()].concat(),
    };
    let armed = visit.breakpoint.map_or(0, |_| 3 + mov(0, armed_control(visit)).len() + 1);
    let rest = armed
        + (mov(0, spsr).len() + 1)
        + (2 + 1)
        + (mov(0, lock).len() + 1)
        + leaving.len()
        + operands.len()
        + 2
        + 1
        + arrived.len();
    let instruction = code.address() + 4 * rest as u64;
    if let Some(Breakpoint { n, .. }) = visit.breakpoint {
        address(code, 0, instruction);
        code.words.push(dbgbvr(n).msr_x0());
        code.write(dbgbcr(n), armed_control(visit));
        undo.push((dbgbcr(n), 0));
    }
    code.write(SPSR_EL2, spsr);
    address(code, 0, instruction - 4 * arrived.len() as u64);
    code.words.push(ELR_EL2.msr_x0());
    code.write(OSLAR_EL1, lock);
    code.words.extend([leaving, operands].concat());
    address(code, 10, instruction + 8);
    code.words.push(ERET);
    code.words.extend(arrived);
    debug_assert_eq!(code.address(), instruction);
    let call = if visit.level.el() == 0 { svc(DONE) } else { hvc(DONE) };
    code.words.extend([visit.instruction.encoding(), call]);
    // Here the visit ends, at EL2.
    undo.push((OSLAR_EL1, 0));
    for (reg, value) in undo.into_iter().rev() {
        code.write(reg, value);
    }
    instruction
}

/// DBGBCR<n>_EL1 of a visit's breakpoint.
fn armed_control(visit: &Visit) -> u64 {
    visit.breakpoint.map_or(0, |Breakpoint { control, linked, .. }| {
        linked.map_or(control, |linked| control.with_lbn(linked.lbn())).raw_value()
    })
}

/// The error of visits that do not fit into a hypervisor's memory.
pub(crate) fn too_many() -> Error {
    Error::Unfit("the visits do not fit into the hypervisor's memory".into())
}

/// The event of each visit of a hypervisor at `base`, whose instruction is at this address; `None` if the log is not in this
/// memory.
pub(crate) fn events(memory: &GuestMemory, base: u64, instructions: &[u64]) -> Option<Vec<Event>> {
    let words = memory.words(base + LOG, RECORD_WORDS * instructions.len())?;
    let (records, _) = words.as_chunks::<RECORD_WORDS>();
    let loaded = records.iter().map(|record| record.each_ref().map(|word| word.load(Ordering::Acquire)));
    Some(loaded.zip(instructions).map(|(record, at)| nested::decode(record, *at)).collect())
}

/// The code that is there before the hypervisor starts, which starts with the bell.
pub(crate) fn fixed(home: Home) -> Vec<Piece> {
    let Home { base, word, bell, .. } = home;
    let el2 = |k: u64| {
        let at = base + k * VECTOR_SIZE;
        (at, vec![mov(9, k)[0], branch(at + 4, base + HANDLER)])
    };
    let el1 = |k: u64| {
        let mut words = mov(19, k + 1);
        let kept = (20..).zip([ESR_EL1, ELR_EL1, FAR_EL1, SPSR_EL1]);
        words.extend(kept.map(|(t, reg)| reg.mrs_x0() | t).chain([hvc(FROM_EL1)]));
        (base + EL1_VECTORS + k * VECTOR_SIZE, words)
    };
    // The bell; userspace writes the next visits before it lets the store complete.
    let mut starts = [mov(0, word.into()), mov(1, bell), vec![STR_W0_X1]].concat();
    starts.extend([mov(2, base + STAGE), mov(11, base + SIZE)].concat());
    starts.extend([DC_CIVAC_X2, ADD_X2_X2_16, CMP_X2_X11, B_LO_BACK_3, DSB_SY]);
    starts.extend([mov(2, base + STAGE), vec![LDR_X4_X2, ADD_X4_X4_X2]].concat());
    starts.extend([mov(2, base + STAGE + HEADER), mov(1, base + CODE)].concat());
    starts.extend([LDR_X3_X2_POST, STR_X3_X1_POST, CMP_X2_X4, B_LO_BACK_3]);
    starts.extend([mov(0, base + CODE), vec![DSB_SY, IC_IALLU, DSB_SY, ISB, BR_X0]].concat());
    let registers = [ESR_EL2, ELR_EL2, FAR_EL2, SPSR_EL2];
    let mut handler = vec![log(9)];
    handler.extend(registers.into_iter().flat_map(|reg| [reg.mrs_x0() | 9, log(9)]));
    handler.push(log(0));
    handler.extend((19..24).map(log));
    handler.push(BR_X10);
    (0..16)
        .map(el2)
        .chain((0..16).map(el1))
        .chain([(base + HANDLER, handler), (base + START, starts)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfr0_model::{shape::Shape, wire::RAM};

    const PE: Pe = Pe::new(Shape::from_id_aa64dfr0(0xf0_0030_5009), true, true);
    const HOME: Home = Home { base: RAM, word: 1, bell: 0x1000_0010, exit: None };

    #[test]
    fn instructions_are_those_of_the_assembler() {
        assert_eq!(mov(3, 0x4000_0000), [0xd280_0003, 0xf2a8_0003], "movz x3, #0; movk x3, #0x4000, lsl #16");
        assert_eq!(mov(0, 0), [0xd280_0000]);
        assert_eq!([hvc(1), svc(0)], [0xd400_0022, 0xd400_0001]);
        assert_eq!(below(&PE, VBAR_EL1), SysReg::new(3, 5, 12, 0, 0));
    }

    #[test]
    fn no_two_pieces_overlap() {
        let mut pieces = fixed(HOME);
        pieces.sort();
        pieces.push((RAM + CODE, Vec::new()));
        for pair in pieces.windows(2) {
            let [(at, words), (next, _)] = pair else { unreachable!() };
            assert!(at + 4 * words.len() as u64 <= *next, "{at:#x} reaches {next:#x}");
        }
    }

    #[test]
    fn each_visit_has_its_instruction_where_it_says() {
        let visits =
            [Visit::new(Level::El1, Instruction::Brk), Visit::new(Level::HostEl0, Instruction::Store)];
        let composed = compose(&PE, &visits, HOME).expect("it fits");
        let (at, staged) = composed.staged;
        assert_eq!((at, staged[0] as usize), (RAM + STAGE, 4 * staged.len()));
        for (visit, at) in visits.iter().zip(&composed.instructions) {
            assert_eq!(staged[(HEADER + at - RAM - CODE) as usize / 4], visit.instruction.encoding());
        }
    }

    #[test]
    fn an_exit_leaves_the_visit_as_it_is() {
        let visit = Visit::new(Level::El1, Instruction::Store);
        for moment in [Moment::Start, Moment::Leaving, Moment::Arrived] {
            let home = Home { exit: Some((moment, 0x1000_0000)), ..HOME };
            let composed = compose(&PE, &[visit], home).expect("it fits");
            let words = &composed.staged.1;
            let place = |at: u64| (HEADER + at - RAM - CODE) as usize / 4;
            let at = place(composed.instructions[0]);
            assert_eq!(words[at], visit.instruction.encoding(), "{moment:?}");
            let exit = words.iter().position(|word| *word == STR_W0_X1).expect("an exit");
            let eret = words.iter().position(|word| *word == ERET).expect("an ERET");
            assert_eq!(exit < eret, moment != Moment::Arrived, "{moment:?}");
            let spsr = words.iter().position(|word| *word == SPSR_EL2.msr_x0()).expect("an SPSR_EL2");
            assert_eq!(exit < spsr, moment == Moment::Start, "{moment:?}");
            assert!(exit < at, "{moment:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(compose(&PE, &vec![Visit::default(); 1000], HOME).is_some());
        assert!(compose(&PE, &vec![Visit::default(); 100_000], HOME).is_none());
    }
}
