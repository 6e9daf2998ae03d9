// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The language of scenarios: what the guest, and userspace beside it, is told to do.

use crate::{
    access,
    control::{Dbgbcr, Dbgwcr, Mdscr},
    feature::Feature,
    guest_debug::GuestDebug,
    sequence,
    sysreg::{self, DebugRegister, SysReg},
    vmm::Vmm,
};
use core::fmt;

/// The Exception level at which a marker or an access is executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum El {
    /// EL0, in AArch64 state.
    El0,
    /// EL1.
    #[default]
    El1,
}

/// How a marker, an access or BRK is entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Entry {
    /// By a call at EL1, which is not a context synchronization event; at EL0 by an exception return.
    #[default]
    Call,
    /// By an exception return. The handler of a Software Step exception sets SPSR_EL1.SS and returns until `steps`
    /// exceptions were taken; at the last it clears MDSCR_EL1.SS.
    Return {
        /// SPSR_EL1.SS of the exception return.
        ss: bool,
        /// How many Software Step exceptions are wanted.
        steps: u8,
    },
}

impl Entry {
    /// Entered to be stepped, until this many Software Step exceptions were taken.
    pub const fn stepped(steps: u8) -> Self {
        Self::Return { ss: true, steps }
    }
}

/// What another vCPU does with its debug registers while it runs on this one's CPU. It arms each breakpoint and
/// watchpoint that the host has, at addresses where this one has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Other {
    /// Nothing, ever.
    Untouched,
    /// They are armed and debug exceptions enabled.
    Enabled,
    /// They are armed and debug exceptions disabled.
    Disabled,
    /// They are armed and enabled, and it holds the OS Lock.
    Locked,
    /// They are armed and enabled, and userspace debugs it with hardware breakpoints and watchpoints.
    Debugged,
}

impl Other {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Untouched, Self::Enabled, Self::Disabled, Self::Locked, Self::Debugged];
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untouched => "untouched",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Locked => "locked",
            Self::Debugged => "debugged",
        })
    }
}

/// Where userspace moves a vCPU's state. It reads the registers that KVM_GET_REG_LIST lists and writes them there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrate {
    /// The vCPU of a VM that has not run: every register, the ID registers first; the memory goes along.
    FreshVm,
    /// A vCPU of the same VM that has not run.
    Fresh,
    /// Such a vCPU; the registers are written in the reverse order.
    Reversed,
    /// Such a vCPU, and at once another one.
    Twice,
    /// Such a vCPU, whose debug registers hold other values, each breakpoint and watchpoint enabled and the OS Lock
    /// locked.
    Used,
    /// The vCPU on which it ran before, with the state that it had then; a fresh one if there is none.
    Back,
}

impl Migrate {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::FreshVm, Self::Used, Self::Back, Self::Fresh, Self::Reversed, Self::Twice];
}

impl fmt::Display for Migrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FreshVm => "to a fresh VM",
            Self::Fresh => "to a fresh vCPU",
            Self::Reversed => "to a fresh vCPU, the last register first",
            Self::Twice => "to a fresh vCPU, and to another",
            Self::Used => "to a vCPU whose debug registers hold other values",
            Self::Back => "back to the vCPU where it was",
        })
    }
}

/// One operation. The payload in the guest does the first group at EL1, the runner the second while the vCPU is
/// out of KVM_RUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `MSR reg, value`.
    Write {
        /// The register.
        reg: SysReg,
        /// The value.
        value: u64,
    },
    /// `MRS reg`; logs the value.
    Read {
        /// The register.
        reg: SysReg,
    },
    /// `ISB`.
    Isb,
    /// PSTATE.D for the markers that follow: set, debug exceptions are masked. Between markers D is set.
    MaskDebug(
        /// The value of D.
        bool,
    ),
    /// Markers and accesses that follow are executed at this Exception level; a scenario starts at EL1.
    Level(
        /// The Exception level.
        El,
    ),
    /// Markers, accesses and BRK that follow are entered in this way; a scenario starts with calls.
    Enter(
        /// The way.
        Entry,
    ),
    /// One memory access.
    Access {
        /// Which, by its place in [`access::TABLE`].
        access: u8,
        /// The address.
        address: u64,
    },
    /// A piece of code, entered by an exception return; logs X0 as it leaves it.
    Run {
        /// Which, by its place in [`sequence::TABLE`].
        sequence: u8,
        /// X0 as it finds it.
        x0: u64,
    },
    /// Calls marker k: a NOP at [`crate::wire::marker`]`(k)` and a RET after it.
    Exec {
        /// The marker's number.
        marker: u8,
    },
    /// Calls the marker that is a `BRK #0xdf` at [`crate::wire::BRK`] and a RET after it.
    Brk,
    /// Userspace gets the vCPU back and enters it again.
    Exit,
    /// Another vCPU runs on this CPU in between.
    Other(
        /// With its debug registers in this state.
        Other,
    ),
    /// Userspace's thread moves to another CPU, so that the vCPU is entered there.
    Move,
    /// Userspace moves the vCPU to another VM.
    Migrate(
        /// Which.
        Migrate,
    ),
    /// Userspace writes a register with KVM_SET_ONE_REG.
    KvmSet {
        /// The register.
        reg: SysReg,
        /// The value.
        value: u64,
    },
    /// Userspace reads a register with KVM_GET_ONE_REG; logs the value.
    KvmGet {
        /// The register.
        reg: SysReg,
    },
    /// Userspace writes an ID register with KVM_SET_ONE_REG, and KVM may answer as it likes.
    KvmTry {
        /// The register.
        reg: SysReg,
        /// The value.
        value: u64,
    },
    /// Userspace does something to the VM or the vCPU. A scenario with such an operation starts with a VM without vCPUs.
    Vmm(
        /// What.
        Vmm,
    ),
    /// Userspace calls KVM_SET_GUEST_DEBUG; from then on the runner logs each KVM_EXIT_DEBUG, steps outside of the
    /// markers excepted.
    Debug(
        /// What it asks for.
        GuestDebug,
    ),
}

impl Op {
    /// The feature that its instructions need.
    pub fn needs(self) -> Option<Feature> {
        match self {
            Self::Access { access, .. } => access::TABLE.get(usize::from(access))?.needs,
            Self::Run { sequence, .. } => sequence::TABLE.get(usize::from(sequence))?.needs,
            _ => None,
        }
    }

    /// The runner does it, not the payload.
    pub const fn is_hosts(self) -> bool {
        matches!(
            self,
            Self::Exit
                | Self::Other(_)
                | Self::Move
                | Self::Migrate(_)
                | Self::KvmSet { .. }
                | Self::KvmGet { .. }
                | Self::KvmTry { .. }
                | Self::Vmm(_)
                | Self::Debug(_)
        )
    }
}

struct Assignment(SysReg, u64);

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(reg, value) = *self;
        write!(f, "{reg}, {value:#x}")?;
        match reg.debug_number() {
            Some((DebugRegister::Bcr, _)) => write!(f, "  ({})", Dbgbcr::new_with_raw_value(value)),
            Some((DebugRegister::Wcr, _)) => write!(f, "  ({})", Dbgwcr::new_with_raw_value(value)),
            _ if reg == sysreg::MDSCR_EL1 => write!(f, "  ({})", Mdscr::new_with_raw_value(value)),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Write { reg, value } => write!(f, "msr {}", Assignment(reg, value)),
            Self::Read { reg } => write!(f, "mrs {reg}"),
            Self::Isb => f.write_str("isb"),
            Self::MaskDebug(mask) => write!(f, "PSTATE.D = {}", u8::from(mask)),
            Self::Level(El::El0) => f.write_str("at EL0:"),
            Self::Level(El::El1) => f.write_str("at EL1:"),
            Self::Enter(Entry::Call) => f.write_str("by calls:"),
            Self::Enter(Entry::Return { ss, steps }) => {
                write!(f, "by exception returns with SS = {}, up to {steps} steps:", u8::from(ss))
            }
            Self::Access { access, address } => match access::TABLE.get(usize::from(access)) {
                Some(access) => write!(f, "{access}, [{address:#x}]"),
                None => write!(f, "access {access}, which does not exist, [{address:#x}]"),
            },
            Self::Run { sequence, x0 } => match sequence::TABLE.get(usize::from(sequence)) {
                Some(sequence) => write!(f, "run `{sequence}` with X0 = {x0:#x}"),
                None => write!(f, "run piece {sequence}, which does not exist, with X0 = {x0:#x}"),
            },
            Self::Exec { marker } => write!(f, "exec marker {marker}"),
            Self::Brk => f.write_str("exec brk"),
            Self::Exit => f.write_str("exit to userspace and back"),
            Self::Other(other) => write!(f, "another vCPU, its debug registers {other}, runs on this CPU"),
            Self::Move => f.write_str("to another CPU"),
            Self::Migrate(to) => write!(f, "migrates {to}"),
            Self::KvmSet { reg, value } => write!(f, "KVM_SET_ONE_REG {}", Assignment(reg, value)),
            Self::KvmGet { reg } => write!(f, "KVM_GET_ONE_REG {reg}"),
            Self::KvmTry { reg, value } => {
                write!(f, "try KVM_SET_ONE_REG {}", Assignment(reg, value))
            }
            Self::Vmm(vmm) => vmm.fmt(f),
            Self::Debug(debug) => debug.fmt(f),
        }
    }
}

#[cfg(feature = "oracle")]
pub use owned::{Scenario, Value};

#[cfg(feature = "oracle")]
mod owned {
    use super::{El, Entry, Migrate, Op, Other, SysReg};
    use crate::{
        access,
        claim::Claim,
        control::{Dbgbcr, Dbgwcr, Mdscr},
        guest_debug::GuestDebug,
        sysreg, wire,
    };
    use alloc::vec::Vec;
    use core::fmt;

    const LDR: u8 = access::place("ldr x1");
    const STR: u8 = access::place("str x1");

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
            self.breakpoint_at(n, wire::marker(marker), control)
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
        pub fn run(self, sequence: u8, x0: u64) -> Self {
            self.isb().then(Op::Run { sequence, x0 })
        }

        /// `ISB`, and one memory access at the Exception level as it stands.
        pub fn access(self, access: u8, address: u64) -> Self {
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

        /// At the last operation, the guest takes a Data Abort exception.
        pub fn takes_abort(self) -> Self {
            self.claim(Claim::Abort)
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
    fn the_runner_does_exits_and_userspaces_accesses_and_nothing_else() {
        let reg = sysreg::MDSCR_EL1;
        for op in [
            Op::Exit,
            Op::Other(Other::Enabled),
            Op::Move,
            Op::Migrate(Migrate::Fresh),
            Op::KvmGet { reg },
            Op::KvmSet { reg, value: 0 },
        ] {
            assert!(op.is_hosts(), "{op}");
        }
        for op in [
            Op::Write { reg, value: 0 },
            Op::Read { reg },
            Op::Isb,
            Op::MaskDebug(true),
            Op::Level(El::El0),
            Op::Enter(Entry::Call),
            Op::Access { access: 0, address: 0 },
            Op::Run { sequence: 0, x0: 0 },
            Op::Exec { marker: 0 },
            Op::Brk,
        ] {
            assert!(!op.is_hosts(), "{op}");
        }
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

    #[test]
    fn every_operation_prints_as_its_instruction_or_call() {
        let (wcr, control) = (sysreg::dbgwcr(2), Dbgwcr::linked_to(arbitrary_int::u4::new(5)));
        for (op, printed) in [
            (Op::Write { reg: sysreg::OSLAR_EL1, value: 1 }, "msr OSLAR_EL1, 0x1"),
            (
                Op::KvmSet { reg: wcr, value: control.raw_value() },
                "KVM_SET_ONE_REG DBGWCR2_EL1, 0x151fff  (E=1 PAC=0b11 LSC=0b11 BAS=0b11111111 HMC=0 SSC=0b00 \
                 LBN=5 WT=1 MASK=0)",
            ),
            (Op::Read { reg: wcr }, "mrs DBGWCR2_EL1"),
            (Op::MaskDebug(true), "PSTATE.D = 1"),
            (Op::Level(El::El0), "at EL0:"),
            (Op::Level(El::El1), "at EL1:"),
            (Op::Enter(Entry::Call), "by calls:"),
            (Op::Enter(Entry::stepped(2)), "by exception returns with SS = 1, up to 2 steps:"),
            (Op::Access { access: 3, address: 0x40 }, "ldr x1, [0x40]"),
            (Op::Access { access: 255, address: 0x40 }, "access 255, which does not exist, [0x40]"),
            (Op::Run { sequence: 0, x0: 0x40 }, "run `isb` with X0 = 0x40"),
            (Op::Run { sequence: 255, x0: 0x40 }, "run piece 255, which does not exist, with X0 = 0x40"),
            (Op::Brk, "exec brk"),
            (Op::Exit, "exit to userspace and back"),
            (Op::Other(Other::Locked), "another vCPU, its debug registers locked, runs on this CPU"),
            (Op::Move, "to another CPU"),
            (Op::Migrate(Migrate::Back), "migrates back to the vCPU where it was"),
        ] {
            assert_eq!(op.to_string(), printed);
        }
    }
}
