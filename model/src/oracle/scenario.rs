// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A scenario: a list of operations, and what a case claims of them.

pub use crate::op::{El, Entry, Migrate, Op, Other, Passage};
use crate::{
    access::Access,
    claim::Claim,
    control::{Dbgbcr, Dbgwcr, Mdscr},
    guest_debug::{ENABLE, GuestDebug, SINGLESTEP},
    layout,
    sequence::Sequence,
    sysreg::{self, SysReg},
};
use alloc::vec::Vec;
use core::fmt;

const LDR: &Access = Access::named("ldr x1");
const STR: &Access = Access::named("str x1");

/// What may be written to a register: a number, or the register's own type.
pub trait Value {
    /// The register's bits.
    fn bits(self) -> u64;
}

impl Value for u64 {
    fn bits(self) -> u64 {
        self
    }
}

impl Value for Dbgbcr {
    fn bits(self) -> u64 {
        self.raw_value()
    }
}

impl Value for Dbgwcr {
    fn bits(self) -> u64 {
        self.raw_value()
    }
}

impl Value for Mdscr {
    fn bits(self) -> u64 {
        self.raw_value()
    }
}

/// A list of operations, from the state that a PE or a vCPU resets to, and what must happen at some of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scenario {
    ops: Vec<Op>,
    /// Claims, each with the place of its operation, in the order of the operations.
    claims: Vec<(usize, Claim)>,
}

impl Scenario {
    /// No operation.
    pub fn new() -> Self {
        Self::default()
    }

    /// The operations.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// What is claimed about the operation at this place.
    pub fn claims_at(&self, place: usize) -> impl Iterator<Item = Claim> {
        let start = self.claims.partition_point(|(of, _)| *of < place);
        self.claims[start..].iter().take_while(move |(of, _)| *of == place).map(|(_, claim)| *claim)
    }

    /// Something is claimed.
    pub fn has_claims(&self) -> bool {
        !self.claims.is_empty()
    }

    /// Adds one operation.
    pub fn then(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// Adds all of `other`'s operations, with its claims.
    pub fn append(mut self, other: Self) -> Self {
        let before = self.ops.len();
        self.ops.extend(other.ops);
        self.claims.extend(other.claims.into_iter().map(|(place, claim)| (before + place, claim)));
        self
    }

    /// The same, with userspace doing all writes of registers.
    pub fn by_userspace(&self) -> Self {
        let by_userspace = |op: &Op| match *op {
            Op::Write { reg, value } => Op::KvmSet { reg, value },
            other => other,
        };
        Self { ops: self.ops.iter().map(by_userspace).collect(), claims: self.claims.clone() }
    }

    /// The same, with the vCPU's state moved after each operation that may change it, in each way in turn from this
    /// one of [`Migrate::ALL`] on; of more than `most` operations after some of them.
    pub fn migrating(self, from: usize, most: usize) -> Self {
        // What is a mode of the payload's lies in its memory.
        let changes = |op: &Op| !matches!(op, Op::Isb | Op::MaskDebug(_) | Op::Level(_) | Op::Enter(_));
        let count = self.ops.iter().filter(|op| changes(op)).count();
        let each = count.div_ceil(most.max(1)).max(1);
        let mut ways = (from..).map(|way| Migrate::ALL[way % Migrate::ALL.len()]);
        let mut turn = from;
        let mut moved =
            Self { ops: Vec::with_capacity(self.ops.len() + count.min(most)), claims: Vec::new() };
        for (place, op) in self.ops.iter().enumerate() {
            let moves = changes(op) && {
                turn += 1;
                turn.is_multiple_of(each)
            };
            // A move synchronises: what may happen and may not is then certain.
            let open = self.claims_at(place).any(|claim| matches!(claim, Claim::May(_)));
            let (now, claims) = (moved.ops.len(), self.claims_at(place).filter(|_| !open));
            moved.claims.extend(claims.map(|claim| (now, claim)));
            moved.ops.push(*op);
            moved.ops.extend(moves.then(|| ways.next()).flatten().map(Op::Migrate));
        }
        moved
    }

    /// `MSR reg, value`.
    pub fn write(self, reg: SysReg, value: impl Value) -> Self {
        self.then(Op::Write { reg, value: value.bits() })
    }

    /// `MRS reg`.
    pub fn read(self, reg: SysReg) -> Self {
        self.then(Op::Read { reg })
    }

    /// Breakpoint `n` on marker `marker`, with `control` as DBGBCR.
    pub fn breakpoint(self, n: u8, marker: u8, control: Dbgbcr) -> Self {
        self.breakpoint_at(n, layout::marker(marker), control)
    }

    /// Breakpoint `n` on an address, with `control` as DBGBCR.
    pub fn breakpoint_at(self, n: u8, address: u64, control: Dbgbcr) -> Self {
        self.write(sysreg::dbgbvr(n), address).write(sysreg::dbgbcr(n), control)
    }

    /// Watchpoint `n` on the doubleword at `address`, with `control` as DBGWCR.
    pub fn watchpoint(self, n: u8, address: u64, control: Dbgwcr) -> Self {
        self.write(sysreg::dbgwvr(n), address).write(sysreg::dbgwcr(n), control)
    }

    /// What follows is executed with this PSTATE.D.
    pub fn pstate_d(self, d: bool) -> Self {
        self.then(Op::MaskDebug(d))
    }

    /// What follows is executed with PSTATE.D set, which masks debug exceptions at EL1.
    pub fn mask(self) -> Self {
        self.pstate_d(true)
    }

    /// What follows is executed with PSTATE.D clear.
    pub fn unmask(self) -> Self {
        self.pstate_d(false)
    }

    /// What follows is executed at this Exception level.
    pub fn at(self, el: El) -> Self {
        self.then(Op::Level(el))
    }

    /// What follows is entered in this way.
    pub fn entered(self, entry: Entry) -> Self {
        self.then(Op::Enter(entry))
    }

    /// `ISB`, and the BRK marker.
    pub fn brk(self) -> Self {
        self.isb().then(Op::Brk)
    }

    /// `ISB`, and a piece of code, with X0.
    pub fn run(self, sequence: &'static Sequence, x0: u64) -> Self {
        self.isb().then(Op::Run { sequence, x0 })
    }

    /// `ISB`, and one memory access at the Exception level as it stands.
    pub fn access(self, access: &'static Access, address: u64) -> Self {
        self.isb().then(Op::Access { access, address })
    }

    /// `ISB`, and a load of a doubleword.
    pub fn load(self, address: u64) -> Self {
        self.access(LDR, address)
    }

    /// `ISB`, and a store of a doubleword.
    pub fn store(self, address: u64) -> Self {
        self.access(STR, address)
    }

    /// `ISB`, and a store that ends KVM_RUN, at which userspace does this.
    pub fn passes(self, passage: Passage) -> Self {
        self.store(layout::passage(passage))
    }

    /// A load and a store of a doubleword, at each of which this happens.
    pub fn load_and_store(self, address: u64, claim: Claim) -> Self {
        self.load(address).claim(claim).store(address).claim(claim)
    }

    /// The same for each of `items` in turn.
    pub fn each<T>(self, items: impl IntoIterator<Item = T>, what: impl FnMut(Self, T) -> Self) -> Self {
        items.into_iter().fold(self, what)
    }

    /// MDSCR_EL1.
    pub fn enable(self, mdscr: Mdscr) -> Self {
        self.write(sysreg::MDSCR_EL1, mdscr)
    }

    /// MDSCR_EL1 is zero: no breakpoint, watchpoint or step is enabled.
    pub fn disable(self) -> Self {
        self.enable(Mdscr::DEFAULT)
    }

    /// The guest locks the OS Lock.
    pub fn lock(self) -> Self {
        self.write(sysreg::OSLAR_EL1, 1)
    }

    /// The guest unlocks the OS Lock.
    pub fn unlock(self) -> Self {
        self.write(sysreg::OSLAR_EL1, 0)
    }

    /// `ISB`.
    pub fn isb(self) -> Self {
        self.then(Op::Isb)
    }

    /// `ISB`, and calls marker `marker` with PSTATE.D as it stands.
    pub fn exec(self, marker: u8) -> Self {
        self.isb().then(Op::Exec { marker })
    }

    /// Userspace gets the vCPU back and enters it again.
    pub fn exit(self) -> Self {
        self.then(Op::Exit)
    }

    /// Another vCPU runs on this CPU, with its debug registers in this state.
    pub fn other(self, other: Other) -> Self {
        self.then(Op::Other(other))
    }

    /// Userspace reads a register.
    pub fn userspace_reads(self, reg: SysReg) -> Self {
        self.then(Op::KvmGet { reg })
    }

    /// Userspace writes a register.
    pub fn userspace_writes(self, reg: SysReg, value: impl Value) -> Self {
        self.then(Op::KvmSet { reg, value: value.bits() })
    }

    /// Userspace debugs the guest, as it asks for with KVM_SET_GUEST_DEBUG.
    pub fn userspace_debugs(self, debug: GuestDebug) -> Self {
        self.then(Op::Debug(debug))
    }

    /// Userspace steps through a part of it.
    pub fn is_stepped(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, Op::Debug(debug) if debug.has(ENABLE | SINGLESTEP)))
    }

    /// Userspace debugs the guest no longer.
    pub fn userspace_stops(self) -> Self {
        self.userspace_debugs(GuestDebug::OFF)
    }

    /// Claims something about the last operation. Several claims about it are its events in order.
    pub fn claim(mut self, claim: Claim) -> Self {
        debug_assert!(!self.ops.is_empty(), "a claim about no operation");
        self.claims.push((self.ops.len().saturating_sub(1), claim));
        self
    }

    /// At the last operation, nothing happens.
    pub fn nothing(self) -> Self {
        self.claim(Claim::Nothing)
    }

    /// At the last operation, the guest takes a Breakpoint exception.
    pub fn takes_breakpoint(self) -> Self {
        self.claim(Claim::Breakpoint)
    }

    /// At the last operation, the guest takes a Watchpoint exception.
    pub fn takes_watchpoint(self) -> Self {
        self.claim(Claim::Watchpoint)
    }

    /// At the last operation, the guest takes this many Software Step exceptions.
    pub fn takes_steps(self, count: usize) -> Self {
        let any = if count == 0 { self.nothing() } else { self };
        (0..count).fold(any, |scenario, _| scenario.claim(Claim::Step))
    }

    /// At the last operation, the guest takes a BRK exception.
    pub fn takes_brk(self) -> Self {
        self.claim(Claim::Brk)
    }

    /// The last operation's instruction is UNDEFINED.
    pub fn undefined(self) -> Self {
        self.claim(Claim::Undefined)
    }

    /// The last operation reads this value.
    pub fn reads(self, value: impl Value) -> Self {
        self.claim(Claim::Reads(value.bits()))
    }

    /// KVM accepts the last operation, which is a call of userspace.
    pub fn accepted(self) -> Self {
        self.nothing()
    }

    /// KVM refuses the last operation, which is a call of userspace, with this errno.
    pub fn refused(self, errno: i32) -> Self {
        self.claim(Claim::Refused(errno))
    }

    /// At the last operation, KVM_RUN ends with KVM_EXIT_DEBUG.
    pub fn exits(self) -> Self {
        self.claim(Claim::Exit)
    }

    /// At the last operation, this may happen, or nothing.
    pub fn may(self, claim: &'static Claim) -> Self {
        self.claim(Claim::May(claim))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, op) in self.ops.iter().enumerate() {
            writeln!(f, "{place:3}  {op}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_scenario_prints_as_a_reader_of_the_arm_arm_would_write_it() {
        let scenario = Scenario::new()
            .breakpoint(5, 1, Dbgbcr::address_at_el1())
            .enable(Mdscr::breakpoints_at_el1())
            .exec(1)
            .then(Op::KvmGet { reg: sysreg::dbgbcr(5) });
        assert_eq!(
            scenario.to_string(),
            "  0  msr DBGBVR5_EL1, 0x40010008\n\
             \x20 1  msr DBGBCR5_EL1, 0x1e3  (E=1 PMC=0b01 BAS=0b1111 HMC=0 SSC=0b00 LBN=0 BT=0b0000)\n\
             \x20 2  msr MDSCR_EL1, 0xa000  (MDE=1 KDE=1 SS=0)\n\
             \x20 3  isb\n\
             \x20 4  exec marker 1\n\
             \x20 5  KVM_GET_ONE_REG DBGBCR5_EL1\n"
        );
    }

    #[test]
    fn by_userspace_turns_writes_into_userspaces_and_leaves_the_rest() {
        let reg = sysreg::MDSCR_EL1;
        let scenario = Scenario::new().write(reg, 5).exec(1).read(reg).by_userspace();
        assert_eq!(
            scenario.ops(),
            [Op::KvmSet { reg, value: 5 }, Op::Isb, Op::Exec { marker: 1 }, Op::Read { reg }]
        );
    }

    #[test]
    fn a_migrating_scenario_moves_after_each_operation_that_changes_the_vcpu() {
        let reg = sysreg::MDSCR_EL1;
        let scenario = Scenario::new().write(reg, 1).at(El::El0).isb().then(Op::Brk).read(reg);
        let [used, back, fresh] = [Migrate::Used, Migrate::Back, Migrate::Fresh].map(Op::Migrate);
        let (level, write) = (Op::Level(El::El0), Op::Write { reg, value: 1 });
        let read = Op::Read { reg };
        assert_eq!(
            scenario.clone().migrating(1, 3).ops(),
            [write, used, level, Op::Isb, Op::Brk, back, read, fresh]
        );
        assert_eq!(
            scenario.clone().migrating(1, 2).ops(),
            [write, used, level, Op::Isb, Op::Brk, read, back]
        );
        assert_eq!(
            scenario.migrating(0, 1).ops(),
            [write, level, Op::Isb, Op::Brk, read, Op::Migrate(Migrate::FreshVm)]
        );
    }

    #[test]
    fn append_adds_what_the_other_scenario_does() {
        let both = Scenario::new().exec(1).append(Scenario::new().then(Op::Brk));
        assert_eq!(both.ops(), [Op::Isb, Op::Exec { marker: 1 }, Op::Brk]);
    }
}
