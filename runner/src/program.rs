// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Scenarios, one after the other, as one program for the payload. Each is preceded by the operations that
//! undo the one before, and by no others: a scenario's first access to a register is the guest's first since
//! it was undone.

use dfr0_model::{
    event::Logged,
    guest_debug::GuestDebug,
    judge::{Mismatch, judge},
    outcome::Unknown,
    scenario::{El, Entry, Op, Scenario},
    sysreg::{DBGCLAIMCLR_EL1, DBGCLAIMSET_EL1, OSLAR_EL1, OSLSR_EL1, SysReg},
    vm::{Model, Vm},
    vmm::Vmm,
};

/// The upper limit of operations in a program of several scenarios: each may log three events.
const FULL: usize = dfr0_model::wire::LOG_LEN / 3;

/// What a scenario leaves that the next one must not find.
#[derive(Clone, Debug, Default)]
pub struct Left {
    registers: Vec<SysReg>,
    masks: bool,
    levels: bool,
    entries: bool,
    debugged: bool,
    /// The ID registers that userspace wrote.
    ids: Vec<SysReg>,
    /// Another vCPU is the current one.
    elsewhere: bool,
}

impl Left {
    /// These registers may contain anything.
    pub fn unknown(registers: impl IntoIterator<Item = SysReg>) -> Self {
        Self { registers: registers.into_iter().collect(), ..Self::default() }
    }

    fn of(ops: &[Op]) -> Self {
        let mut left = Self::default();
        for op in ops {
            match *op {
                Op::KvmSet { reg, .. } | Op::KvmTry { reg, .. } if reg.is_id_register() => {
                    if !left.ids.contains(&reg) {
                        left.ids.push(reg);
                    }
                }
                Op::Vmm(Vmm::Use(_)) => left.elsewhere = true,
                Op::Write { reg, .. } | Op::KvmSet { reg, .. } if !left.registers.contains(&reg) => {
                    left.registers.push(reg);
                }
                Op::MaskDebug(_) => left.masks = true,
                Op::Level(_) => left.levels = true,
                Op::Enter(_) => left.entries = true,
                Op::Debug(_) => left.debugged = true,
                _ => {}
            }
        }
        left
    }

    /// What a scenario sets before it executes or reads anything, if an ISB follows.
    fn overwritten(scenario: &Scenario) -> Self {
        let sets = |op: &&Op| {
            matches!(op, Op::Write { .. } | Op::MaskDebug(_) | Op::Level(_) | Op::Enter(_) | Op::Isb)
        };
        let first: Vec<Op> = scenario.ops().iter().take_while(sets).copied().collect();
        match first.iter().rposition(|op| *op == Op::Isb) {
            Some(isb) => Self::of(&first[..isb]),
            None => Self::default(),
        }
    }

    /// What is left after the program has ended, when the payload has forgotten its modes.
    fn after_program(self) -> Self {
        Self { masks: false, levels: false, entries: false, ..self }
    }

    /// Adds the operations by which userspace sets everything to what this VM holds.
    fn undo_in(&self, vm: &Vm, ops: &mut Vec<Op>) {
        ops.extend(self.elsewhere.then_some(Op::Vmm(Vmm::Use(vm.current()))));
        ops.extend(self.ids.iter().map(|reg| Op::KvmSet { reg: *reg, value: vm.holds(*reg) }));
        let registers = self.registers.iter().map(|reg| match undo(*reg) {
            Op::Write { reg: OSLAR_EL1, .. } => Op::KvmSet { reg: OSLSR_EL1, value: 0b1000 },
            Op::Write { reg, value } => Op::KvmSet { reg, value },
            op => op,
        });
        ops.extend(registers);
        ops.extend(self.masks.then_some(Op::MaskDebug(true)));
        ops.extend(self.levels.then_some(Op::Level(El::El1)));
        ops.extend(self.entries.then_some(Op::Enter(Entry::Call)));
    }

    /// Adds the operations that set everything to what a vCPU resets to and a program starts with, except
    /// what `next` sets before it can have an effect.
    fn undo(&self, next: &Scenario, ops: &mut Vec<Op>) {
        let start = ops.len();
        let overwritten = Self::overwritten(next);
        if self.debugged {
            ops.push(Op::Debug(GuestDebug::OFF));
        }
        let left = self.registers.iter().filter(|reg| !overwritten.registers.contains(reg));
        ops.extend(left.map(|reg| undo(*reg)));
        ops.extend((self.masks && !overwritten.masks).then_some(Op::MaskDebug(true)));
        ops.extend((self.levels && !overwritten.levels).then_some(Op::Level(El::El1)));
        ops.extend((self.entries && !overwritten.entries).then_some(Op::Enter(Entry::Call)));
        if ops.len() > start {
            ops.push(Op::Isb);
        }
    }
}

/// Sets a register to what a vCPU resets to; the OS Lock is unlocked through OSLAR_EL1, and ones clear the
/// claim tags.
fn undo(reg: SysReg) -> Op {
    let (reg, value) = match reg {
        OSLSR_EL1 => (OSLAR_EL1, 0),
        DBGCLAIMSET_EL1 | DBGCLAIMCLR_EL1 => (DBGCLAIMCLR_EL1, 0xff),
        other => (other, 0),
    };
    Op::Write { reg, value }
}

/// A scenario's place in a program.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Its first operation, which may be one that undoes the scenario before.
    start: usize,
    /// Its first operation of its own.
    own: usize,
    end: usize,
}

/// Scenarios as one program.
#[derive(Debug)]
pub struct Program {
    ops: Vec<Op>,
    parts: Vec<Part>,
    left: Left,
    /// The VM that the scenarios find, if it is not one with a vCPU after its reset.
    vm: Option<Vm>,
}

/// A scenario that departed from the rules.
#[derive(Debug)]
pub struct Departure {
    /// Its number in the program, from 0.
    pub scenario: usize,
    /// The operations up to the one that departed.
    pub ops: Vec<Op>,
    /// It departed while the scenario before was undone.
    pub undoing: bool,
    /// How it departed.
    pub mismatch: Mismatch,
}

impl Program {
    /// A program without scenarios, which runs after a program that has left this.
    pub fn after(left: Left) -> Self {
        Self { ops: Vec::new(), parts: Vec::new(), left: left.after_program(), vm: None }
    }

    /// A program without scenarios, each of which finds this VM, after a program that has left this.
    pub fn in_vm(vm: Vm, left: Left) -> Self {
        Self { ops: Vec::new(), parts: Vec::new(), left: left.after_program(), vm: Some(vm) }
    }

    /// Adds a scenario, unless the program is full; an empty program takes any.
    pub fn add(&mut self, scenario: &Scenario) -> bool {
        let start = self.ops.len();
        match &self.vm {
            Some(vm) => self.left.undo_in(vm, &mut self.ops),
            None => self.left.undo(scenario, &mut self.ops),
        }
        let own = self.ops.len();
        self.ops.extend(scenario.ops());
        if start > 0 && self.ops.len() > FULL {
            self.ops.truncate(start);
            return false;
        }
        self.left = Left::of(scenario.ops());
        self.parts.push(Part { start, own, end: self.ops.len() });
        true
    }

    /// The operations.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The number of scenarios.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether it has no scenario.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What it leaves when it has run.
    pub fn left(&self) -> &Left {
        &self.left
    }

    /// Judges each scenario by its events, in the order of the operations, from the state of this model.
    pub fn judge(&self, model: &impl Model, log: &[Logged]) -> Result<Vec<Departure>, Unknown> {
        let mut departures = Vec::new();
        let mut left = log;
        let mut events = Vec::new();
        for (scenario, part) in self.parts.iter().enumerate() {
            let is_last = scenario + 1 == self.parts.len();
            let count = if is_last {
                left.len()
            } else {
                left.iter().take_while(|logged| logged.op < part.end).count()
            };
            let (of_this, rest) = left.split_at(count);
            left = rest;
            events.clear();
            events.extend(
                of_this.iter().map(|logged| Logged { op: logged.op.wrapping_sub(part.start), ..*logged }),
            );
            let ops = &self.ops[part.start..part.end];
            if let Some(mut mismatch) = judge(model.clone(), ops, &events)? {
                let own = part.own - part.start;
                let undoing = mismatch.place < own;
                let first = if undoing { 0 } else { own };
                let ops = ops[first..=mismatch.place].to_vec();
                mismatch.place -= first;
                departures.push(Departure { scenario, ops, undoing, mismatch });
            }
        }
        Ok(departures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfr0_model::{
        control::{Dbgbcr, Mdscr},
        event::Event,
        pe::Pe,
        shape::Shape,
        sysreg::{MDSCR_EL1, OSDLR_EL1},
    };

    const SHAPE: Shape =
        Shape { debug_ver: 9, breakpoints: 6, watchpoints: 4, context_aware: 2, double_lock: true };

    fn scenario() -> Scenario {
        let set = Scenario::new().then(Op::MaskDebug(false)).breakpoint(0, 1, Dbgbcr::address_at_el1());
        set.enable(Mdscr::breakpoints_at_el1())
    }

    #[test]
    fn a_scenario_is_undone_before_the_next_one_and_only_what_it_did() {
        let mut program = Program::after(Left::default());
        assert!(program.add(&scenario()) && program.add(&Scenario::new().read(MDSCR_EL1)));
        let after = &program.ops()[scenario().ops().len()..];
        assert_eq!(after.len(), 6, "{after:?}");
        assert!(
            after.contains(&Op::MaskDebug(true)) && after.contains(&Op::Write { reg: MDSCR_EL1, value: 0 })
        );
        let mut next = Program::after(program.left().clone());
        assert!(next.add(&Scenario::new().read(MDSCR_EL1)));
        assert_eq!(next.ops().len(), 1, "a read leaves nothing to undo");
    }

    #[test]
    fn what_the_next_scenario_sets_itself_is_not_undone() {
        let undone = |next: Scenario| {
            let mut program = Program::after(Left::default());
            assert!(program.add(&scenario()) && program.add(&next));
            program.ops().len() - scenario().ops().len() - next.ops().len()
        };
        assert_eq!(undone(scenario().exec(1)), 0);
        assert_eq!(undone(scenario()), 5, "no ISB of its own");
        assert_eq!(undone(Scenario::new().read(MDSCR_EL1).append(scenario()).exec(1)), 5, "it reads first");
        assert_eq!(undone(Scenario::new().enable(Mdscr::DEFAULT).exec(1)), 4, "all but MDSCR_EL1");
    }

    #[test]
    fn a_program_forgets_its_modes_at_its_end_and_keeps_its_registers() {
        let mut program = Program::after(Left::default());
        assert!(program.add(&scenario()));
        let mut next = Program::after(program.left().clone());
        assert!(next.add(&Scenario::new()));
        assert_eq!(next.ops().len(), 4, "three registers and an ISB");
    }

    #[test]
    fn a_full_program_takes_no_more_and_an_empty_one_takes_any() {
        let long = (0..FULL).fold(Scenario::new(), |scenario, _| scenario.isb());
        let mut program = Program::after(Left::default());
        assert!(program.add(&long.clone().isb()), "longer than a program of several may be");
        assert!(!program.add(&Scenario::new().isb()));
        assert_eq!((program.len(), program.ops().len()), (1, FULL + 1));
    }

    #[test]
    fn each_scenario_is_judged_by_its_own_events() {
        let read = |value| Scenario::new().write(OSDLR_EL1, value).isb().read(OSDLR_EL1);
        let mut program = Program::after(Left::default());
        for value in [1, 0, 1] {
            assert!(program.add(&read(value)));
        }
        let places: Vec<usize> =
            (0..program.ops().len()).filter(|op| matches!(program.ops()[*op], Op::Read { .. })).collect();
        let log = |values: [u64; 3]| -> Vec<Logged> {
            places
                .iter()
                .zip(values)
                .map(|(op, value)| Logged { op: *op, event: Event::Value(value) })
                .collect()
        };
        let departed = |values| -> Vec<usize> {
            let departures = program.judge(&Pe::new(SHAPE), &log(values)).expect("modelled");
            departures.iter().map(|departure| departure.scenario).collect()
        };
        assert_eq!(departed([1, 0, 1]), [0; 0]);
        assert_eq!(departed([1, 1, 1]), [1]);
        assert_eq!(departed([0, 0, 0]), [0, 2]);
        let departures = program.judge(&Pe::new(SHAPE), &log([1, 0, 0])).expect("modelled");
        assert_eq!(
            (departures[0].ops.len(), departures[0].mismatch.place, departures[0].undoing),
            (3, 2, false)
        );
    }

    #[test]
    fn an_event_while_a_scenario_is_undone_or_after_the_end_is_a_departure() {
        let mut program = Program::after(Left::default());
        assert!(program.add(&scenario()) && program.add(&Scenario::new().isb()));
        let at =
            |op| program.judge(&Pe::new(SHAPE), &[Logged { op, event: Event::Value(0) }]).expect("modelled");
        let undoing = at(scenario().ops().len());
        assert!(matches!(undoing[..], [Departure { scenario: 1, undoing: true, .. }]));
        assert_eq!(at(program.ops().len() + 5).len(), 1);
    }
}
