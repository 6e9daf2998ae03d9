// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A guest in AArch32: the debug registers of coproc 14, ID_DFR0, and debug exceptions taken to Abort mode.
//!
//! A hypervisor may keep a register's value in memory or give the guest the CPU's register. KVM does both: it
//! traps the first access after an exit and every access under the OS Lock, and gives the guest the CPU's
//! registers while the guest has debug exceptions enabled. Hence the [`Way`]s.

use dfr0_model::{
    aarch32::{
        DBGAUTHSTATUS, DBGCLAIMCLR, DBGCLAIMSET, DBGDCCINT, DBGDEVID, DBGDEVID1, DBGDEVID2, DBGDIDR, DBGDRAR,
        DBGDSAR, DBGDSCREXT, DBGDSCRINT, DBGOSDLR, DBGOSLAR, DBGOSLSR, DBGPRCR, DBGVCR, Event, ID_DFR0, Long,
        Op, Register, TTBCR, dbgbcr, dbgbvr, dbgbxvr, dbgwcr, dbgwvr, marker,
        pe::{EAE, MDBGEN, OS_LOCK_KEY, Outcome, Pe, UDCCDIS},
        watched,
    },
    dfr0,
    guest_debug::{ENABLE, GuestDebug, USE_SW_BP},
    id_dfr0,
    id_write::Answer,
    rule::{self, Rule},
    shape::Shape,
    sysreg::{self, DBGVCR32_EL2, ID_AA64DFR0_EL1, ID_DFR0_EL1, MDCCINT_EL1, MDSCR_EL1, OSLSR_EL1, SysReg},
};
use dfr0_runner::{
    a32_vm::A32Vm,
    case::{Case, Context, Stop},
};
use std::fmt::{Display, Write};

/// A breakpoint on an A32 instruction in PL1 modes: E, PMC 0b01, BAS 0b1111.
const ARMED: u32 = 0x1e3;
/// DBGBCR<n>.BT of a breakpoint that compares a VMID in DBGBXVR<n> and a context in DBGBVR<n>.
const VMID_AND_CONTEXT: u32 = 0b1010 << 20;
/// A watchpoint on loads and stores of a doubleword in PL1 modes: E, PAC 0b01, LSC 0b11, BAS 0b11111111.
const WATCHING: u32 = 0x1ffb;

pub fn cases() -> Vec<Case> {
    let mut cases = id_registers();
    cases.extend(registers());
    cases.extend(locks());
    cases.extend(others());
    cases.extend(exceptions());
    // QEMU (seen in 10.0) keeps the SPSR of the current AArch32 mode outside of its bank while something else runs, and a second
    // guest in AArch32 overwrites it.
    cases.into_iter().map(Case::alone).collect()
}

/// A case with one list of operations.
fn case(name: &str, rule: &'static Rule, ops: fn(Shape) -> Vec<Op>) -> Case {
    Case::new(name, rule, move |cx| {
        let ops = ops(cx.shape());
        check(cx, &ops)
    })
}

fn id_registers() -> Vec<Case> {
    vec![
        case("id_registers", &rule::AARCH32_ID_REGISTERS, |_| ID_REGISTERS.map(Op::Read).to_vec())
            .and(&[&rule::DBGDIDR_IS_DFR0]),
        Case::new("id_registers_rewritten", &rule::AARCH32_ID_REGISTERS, rewritten)
            .and(&[&rule::DBGDIDR_IS_DFR0]),
        case("dbgdevid", &rule::AARCH32_DEVICE_ID, |_| vec![Op::Read(DBGDEVID)]),
        case("dbgdevid_others", &rule::AARCH32_DEVICE_ID_RESERVED, |_| {
            vec![Op::Read(DBGDEVID1), Op::Read(DBGDEVID2)]
        }),
    ]
}

const ID_REGISTERS: [Register; 2] = [ID_DFR0, DBGDIDR];

/// Each value of each field that KVM accepts in ID_DFR0_EL1 and in ID_AA64DFR0_EL1.
fn rewritten(cx: &mut Context<'_>) -> Result<(), Stop> {
    let mut any = false;
    let in_aarch32 = id_dfr0::FIELDS.map(|field| (ID_DFR0_EL1, field));
    let in_aarch64 = dfr0::FIELDS.map(|field| (ID_AA64DFR0_EL1, field));
    for (register, field) in in_aarch32.into_iter().chain(in_aarch64) {
        for value in (0..16).filter(|value| field.is_architected(*value)) {
            let mut vm = cx.a32_vm(&ID_REGISTERS.map(Op::Read))?;
            let default = vm.read(register)?;
            let other = field.with(default, value);
            if other != default && vm.set(register, other) == Answer::Accepted {
                any = true;
                judge(cx, &mut vm, &ID_REGISTERS.map(Op::Read))?;
            }
        }
    }
    if any {
        Ok(())
    } else {
        Stop::skip("this kernel lets userspace change neither ID_DFR0_EL1 nor ID_AA64DFR0_EL1")
    }
}

/// The state of the vCPU when the guest accesses the registers.
#[derive(Clone, Copy)]
enum Way {
    /// The guest exits before each access.
    Cold,
    /// The guest does not exit before an access, except for interrupts of the host.
    Warm,
    /// The same as `Warm`, and the guest has debug exceptions enabled.
    Enabled,
    /// The guest has locked the OS Lock.
    Locked,
}

/// Userspace writes the first value of each register; the guest writes the second and then the first again.
/// Userspace and the guest read the values.
fn accessed(way: Way, registers: &[Known]) -> Vec<Op> {
    let mut ops: Vec<Op> = registers.iter().map(|known| Op::Set(known.userspaces, known.first)).collect();
    match way {
        Way::Cold | Way::Warm => {}
        Way::Enabled => ops.extend([Op::Write(DBGDSCREXT, MDBGEN), Op::Isb]),
        Way::Locked => ops.push(Op::Write(DBGOSLAR, OS_LOCK_KEY)),
    }
    let read = registers.iter().rev().map(|known| Op::Read(known.register));
    let get = registers.iter().map(|known| Op::Get(known.userspaces));
    let write = registers.iter().map(|known| Op::Write(known.register, known.second));
    ops.extend(read.clone().chain(write).chain(read.clone()).chain(get).chain(read.clone()));
    let back = registers.iter().map(|known| Op::Write(known.register, known.first as u32));
    ops.extend(back.chain([Op::Exit]).chain(read));
    if let Way::Cold = way {
        let exits = |op: Op| if op.is_userspaces() { vec![op] } else { vec![Op::Exit, op] };
        ops = ops.into_iter().flat_map(exits).collect();
    }
    ops
}

/// A register, the name by which userspace accesses it, and two values for it.
struct Known {
    register: Register,
    userspaces: SysReg,
    first: u64,
    second: u32,
}

/// The registers of each breakpoint. No two breakpoints share an address, and no address matches an
/// instruction.
fn breakpoint_registers(shape: Shape) -> Vec<Known> {
    let each = |n: u8| {
        let place = u32::from(n) << 8;
        [
            Known {
                register: dbgbvr(n),
                userspaces: sysreg::dbgbvr(n),
                first: 0x5670_0040 | u64::from(place),
                second: 0xedcb_0084 | place,
            },
            Known {
                register: dbgbcr(n),
                userspaces: sysreg::dbgbcr(n),
                first: [0x1e4, 0x1e6][usize::from(n % 2)],
                second: [ARMED, 0x1e7][usize::from(n % 2)],
            },
        ]
    };
    shape.breakpoint_numbers().flat_map(each).collect()
}

/// The registers of each watchpoint. No two watchpoints share an address, and no address matches an access.
fn watchpoint_registers(shape: Shape) -> Vec<Known> {
    let each = |n: u8| {
        let place = u32::from(n) << 8;
        [
            Known {
                register: dbgwvr(n),
                userspaces: sysreg::dbgwvr(n),
                first: 0x5670_0048 | u64::from(place),
                second: 0xedcb_0090 | place,
            },
            Known {
                register: dbgwcr(n),
                userspaces: sysreg::dbgwcr(n),
                first: [0x1ffa, 0x01ec][usize::from(n % 2)],
                second: [WATCHING, 0x1ff7][usize::from(n % 2)],
            },
        ]
    };
    (0..shape.watchpoints).flat_map(each).collect()
}

const DSCR: Known =
    Known { register: DBGDSCREXT, userspaces: MDSCR_EL1, first: (MDBGEN | UDCCDIS) as u64, second: UDCCDIS };
/// The vectors of Undefined Instruction and FIQ, then the others.
const VECTOR_CATCH: Known =
    Known { register: DBGVCR, userspaces: DBGVCR32_EL2, first: 0b1000_0010, second: 0b0101_1100 };
const DCC_INTERRUPTS: Known =
    Known { register: DBGDCCINT, userspaces: MDCCINT_EL1, first: 1 << 30, second: 1 << 29 };

fn registers() -> Vec<Case> {
    let also: &[&Rule] = &[&rule::AARCH32_MAPPED];
    let case = |name: &str, ops| case(name, &rule::AARCH32_READ_BACK, ops).and(also);
    let mut cases = vec![
        case("breakpoint_registers.cold", |shape| accessed(Way::Cold, &breakpoint_registers(shape))),
        case("breakpoint_registers.warm", |shape| accessed(Way::Warm, &breakpoint_registers(shape))),
        case("breakpoint_registers.enabled", |shape| accessed(Way::Enabled, &breakpoint_registers(shape))),
        case("breakpoint_registers.locked", |shape| accessed(Way::Locked, &breakpoint_registers(shape))),
        case("watchpoint_registers.cold", |shape| accessed(Way::Cold, &watchpoint_registers(shape))),
        case("watchpoint_registers.warm", |shape| accessed(Way::Warm, &watchpoint_registers(shape))),
        case("watchpoint_registers.enabled", |shape| accessed(Way::Enabled, &watchpoint_registers(shape))),
        case("watchpoint_registers.locked", |shape| accessed(Way::Locked, &watchpoint_registers(shape))),
        case("dbgdscrext.cold", |_| accessed(Way::Cold, &[DSCR])),
        case("dbgdscrext.warm", |_| accessed(Way::Warm, &[DSCR])),
        case("dbgdscrext.locked", |_| accessed(Way::Locked, &[DSCR])),
        case("dbgvcr.set_by_userspace", |_| {
            // A separate case: it finds a CPU whose DBGVCR32_EL2 does not hold a value.
            vec![Op::Set(DBGVCR32_EL2, VECTOR_CATCH.first), Op::Read(DBGVCR)]
        }),
        case("dbgvcr.cold", |_| accessed(Way::Cold, &[VECTOR_CATCH])),
        case("dbgvcr.warm", |_| accessed(Way::Warm, &[VECTOR_CATCH])),
        case("dbgvcr.locked", |_| accessed(Way::Locked, &[VECTOR_CATCH])),
        case("dbgdccint.set_by_userspace", |_| {
            vec![Op::Set(MDCCINT_EL1, DCC_INTERRUPTS.first), Op::Read(DBGDCCINT)]
        }),
        case("dbgdccint.cold", |_| accessed(Way::Cold, &[DCC_INTERRUPTS])),
        case("dbgdccint.warm", |_| accessed(Way::Warm, &[DCC_INTERRUPTS])),
        case("dbgdccint.locked", |_| accessed(Way::Locked, &[DCC_INTERRUPTS])),
    ];
    cases.extend([
        self::case("dbgdscrint.cold", &rule::AARCH32_INTERNAL_VIEW, |_| internal_view(Op::Exit)),
        self::case("dbgdscrint.locked", &rule::AARCH32_INTERNAL_VIEW, |_| {
            internal_view(Op::Write(DBGOSLAR, OS_LOCK_KEY))
        }),
        self::case("extended_values.held", &rule::AARCH32_EXTENDED_VALUE, extended_values),
        self::case("extended_values.apart", &rule::AARCH32_EXTENDED_VALUE, |shape| {
            let each = |n| {
                let (value, control) = (0x5a_5670_0040, VMID_AND_CONTEXT.into());
                let set = [Op::Set(sysreg::dbgbcr(n), control), Op::Set(sysreg::dbgbvr(n), value)];
                set.into_iter().chain([Op::Write(dbgbvr(n), 0xedcb_0084), Op::Get(sysreg::dbgbvr(n))])
            };
            let written = shape.breakpoint_numbers().flat_map(each);
            let lock = [Op::Write(DBGOSLAR, OS_LOCK_KEY)];
            written.clone().chain(lock).chain(written).collect()
        }),
        self::case("beyond_the_counts", &rule::AARCH32_BEYOND_COUNT, |shape| {
            let breakpoints = (shape.breakpoints..16).flat_map(|n| [dbgbvr(n), dbgbcr(n), dbgbxvr(n)]);
            let watchpoints = (shape.watchpoints..16).flat_map(|n| [dbgwvr(n), dbgwcr(n)]);
            let access = |register| [Op::Exit, Op::Read(register), Op::Exit, Op::Write(register, 0)];
            breakpoints.chain(watchpoints).flat_map(access).collect()
        }),
    ]);
    cases
}

/// There is no case without exits: each interrupt of the host is an exit, and whether KVM traps the accesses
/// after it differs from kernel to kernel.
fn internal_view(before: Op) -> Vec<Op> {
    let values = [MDBGEN, UDCCDIS, MDBGEN | UDCCDIS, 0];
    let seen = |value| [Op::Write(DBGDSCREXT, value), Op::Isb, before, Op::Read(DBGDSCRINT)];
    values.into_iter().flat_map(seen).collect()
}

/// The VMID of each breakpoint that may have one. The breakpoint compares it together with a context.
fn extended_values(shape: Shape) -> Vec<Op> {
    let each = |n: u8| {
        let vmid = 0x5a ^ u32::from(n);
        let read = [Op::Read(dbgbxvr(n)), Op::Get(sysreg::dbgbvr(n)), Op::Exit, Op::Read(dbgbxvr(n))];
        [Op::Write(dbgbcr(n), VMID_AND_CONTEXT), Op::Write(dbgbxvr(n), vmid)].into_iter().chain(read)
    };
    let written = shape.breakpoint_numbers().flat_map(each);
    written.clone().chain([Op::Write(DBGOSLAR, OS_LOCK_KEY)]).chain(written).collect()
}

fn locks() -> Vec<Case> {
    vec![
        case("os_lock.key", &rule::AARCH32_OS_LOCK_KEY, |_| {
            let seen = |value| [Op::Write(DBGOSLAR, value), Op::Read(DBGOSLSR), Op::Get(OSLSR_EL1)];
            [OS_LOCK_KEY, 0, OS_LOCK_KEY, OS_LOCK_KEY ^ 1, OS_LOCK_KEY, 0xffff_fffe]
                .into_iter()
                .flat_map(seen)
                .collect()
        })
        .and(&[&rule::AARCH32_MAPPED]),
        case("os_lock.other_values", &rule::AARCH32_OS_LOCK_KEY, |_| {
            let seen = |value| [Op::Write(DBGOSLAR, value), Op::Read(DBGOSLSR)];
            [1, OS_LOCK_KEY ^ 1 << 31, !0].into_iter().flat_map(seen).collect()
        }),
        case("os_lock.by_userspace", &rule::AARCH32_MAPPED, |_| {
            let seen = |value| [Op::Set(OSLSR_EL1, value), Op::Read(DBGOSLSR), Op::Exit, Op::Read(DBGOSLSR)];
            [0xa, 0x8, 0xa].into_iter().flat_map(seen).collect()
        }),
        case("os_lock.masks_breakpoints", &rule::AARCH32_OS_LOCK, |shape| {
            masked(&breakpoints_armed(shape), &markers_executed(shape))
        }),
        case("os_lock.masks_watchpoints", &rule::AARCH32_OS_LOCK, |shape| {
            masked(&watchpoints_armed(shape), &doublewords_accessed(shape))
        }),
        Case::new("double_lock.implemented", &rule::AARCH32_DOUBLE_LOCK, |cx| double_lock(cx, true)),
        Case::new("double_lock.absent", &rule::AARCH32_DOUBLE_LOCK, |cx| double_lock(cx, false)),
    ]
}

/// The guest and then userspace lock and unlock the OS Lock, before and after an exit.
fn masked(armed: &[Op], attempt: &[Op]) -> Vec<Op> {
    let lock = [Op::Write(DBGOSLAR, OS_LOCK_KEY), Op::Isb];
    let unlock = [Op::Write(DBGOSLAR, 0), Op::Isb];
    let [locked, unlocked] = [[Op::Set(OSLSR_EL1, 0xa)], [Op::Set(OSLSR_EL1, 0x8)]];
    let exit = [Op::Exit];
    [
        armed, attempt, &lock, attempt, &exit, attempt, &unlock, attempt, &locked, attempt, &unlocked,
        attempt, &lock, armed, attempt, &unlock, attempt,
    ]
    .concat()
}

fn double_lock(cx: &mut Context<'_>, implemented: bool) -> Result<(), Stop> {
    let ops = [Op::Write(DBGOSDLR, 1), Op::Read(DBGOSDLR), Op::Write(DBGOSDLR, 0), Op::Read(DBGOSDLR)];
    // Skips with its own reason if the host does not have AArch32.
    let mut vm = cx.a32_vm(&ops)?;
    if Shape::from_id_aa64dfr0(vm.read(ID_AA64DFR0_EL1)?).double_lock != implemented {
        return Stop::skip(if implemented {
            "the VM has no OS Double Lock"
        } else {
            "the VM has the OS Double Lock"
        });
    }
    judge(cx, &mut vm, &ops)
}

fn others() -> Vec<Case> {
    vec![
        case("claim_tags", &rule::AARCH32_CLAIM_TAGS, |_| {
            let seen = [Op::Read(DBGCLAIMSET), Op::Read(DBGCLAIMCLR)];
            let writes = [(DBGCLAIMCLR, 0xff), (DBGCLAIMSET, 0xa5), (DBGCLAIMSET, 0x18), (DBGCLAIMCLR, 0xff)];
            let written = |(register, value)| [Op::Write(register, value), Op::Isb].into_iter().chain(seen);
            writes.into_iter().flat_map(written).collect()
        }),
        case("dbgauthstatus", &rule::AARCH32_AUTHENTICATION_STATUS, |_| vec![Op::Read(DBGAUTHSTATUS)]),
        case("debug_addresses", &rule::AARCH32_DEBUG_ADDRESSES, |_| {
            let long = [Op::ReadLong(Long::Dbgdrar), Op::ReadLong(Long::Dbgdsar)];
            [Op::Read(DBGDRAR), Op::Read(DBGDSAR)].into_iter().chain(long).collect()
        }),
        case("dbgprcr", &rule::AARCH32_POWER_CONTROL, |_| vec![Op::Read(DBGPRCR)]),
    ]
}

/// Each breakpoint on the marker of its number.
fn breakpoints_armed(shape: Shape) -> Vec<Op> {
    let each = |n| [Op::Write(dbgbvr(n), marker(n)), Op::Write(dbgbcr(n), ARMED)];
    shape.breakpoint_numbers().flat_map(each).chain(ENABLED).collect()
}

/// Each watchpoint on the doubleword of its number.
fn watchpoints_armed(shape: Shape) -> Vec<Op> {
    let each = |n| [Op::Write(dbgwvr(n), watched(n)), Op::Write(dbgwcr(n), WATCHING)];
    (0..shape.watchpoints).flat_map(each).chain(ENABLED).collect()
}

const ENABLED: [Op; 2] = [Op::Write(DBGDSCREXT, MDBGEN), Op::Isb];
const DISABLED: [Op; 2] = [Op::Write(DBGDSCREXT, 0), Op::Isb];

/// The markers of all breakpoints, and one more that no breakpoint is set on, if there are fewer than 16.
fn markers_executed(shape: Shape) -> Vec<Op> {
    (0..16.min(shape.breakpoints + 1)).map(Op::Execute).collect()
}

fn doublewords_accessed(shape: Shape) -> Vec<Op> {
    let each = |k| [Op::Load(watched(k)), Op::Store(watched(k) + 4)];
    (0..16.min(shape.watchpoints + 1)).flat_map(each).collect()
}

fn exceptions() -> Vec<Case> {
    vec![
        case("breakpoint.fires", &rule::AARCH32_BREAKPOINT, |shape| {
            let attempt = markers_executed(shape);
            [breakpoints_armed(shape), attempt.clone(), vec![Op::Exit], attempt].concat()
        }),
        case("breakpoint.fires_with_long_descriptors", &rule::AARCH32_BREAKPOINT, |shape| {
            let long = vec![Op::Write(TTBCR, EAE), Op::Isb];
            [long, breakpoints_armed(shape), markers_executed(shape)].concat()
        }),
        case("breakpoint.armed_by_userspace", &rule::AARCH32_BREAKPOINT, |shape| {
            let each = |n| {
                let (value, control) = (marker(n).into(), ARMED.into());
                [Op::Set(sysreg::dbgbvr(n), value), Op::Set(sysreg::dbgbcr(n), control)]
            };
            let armed: Vec<Op> = shape.breakpoint_numbers().flat_map(each).collect();
            [armed, vec![Op::Set(MDSCR_EL1, MDBGEN.into())], markers_executed(shape)].concat()
        })
        .and(&[&rule::AARCH32_MAPPED]),
        case("breakpoint.disabled", &rule::AARCH32_MDBGEN, |shape| {
            let attempt = markers_executed(shape);
            let (off, on) = (DISABLED.to_vec(), ENABLED.to_vec());
            let exit = vec![Op::Exit];
            let armed = breakpoints_armed(shape);
            [armed, off, attempt.clone(), exit, attempt.clone(), on, attempt].concat()
        }),
        case("watchpoint.fires", &rule::AARCH32_WATCHPOINT, |shape| {
            let attempt = doublewords_accessed(shape);
            [watchpoints_armed(shape), attempt.clone(), vec![Op::Exit], attempt].concat()
        }),
        case("watchpoint.fires_with_long_descriptors", &rule::AARCH32_WATCHPOINT, |shape| {
            let long = vec![Op::Write(TTBCR, EAE), Op::Isb];
            [long, watchpoints_armed(shape), doublewords_accessed(shape)].concat()
        }),
        case("watchpoint.armed_by_userspace", &rule::AARCH32_WATCHPOINT, |shape| {
            let each = |n| {
                let (value, control) = (watched(n).into(), WATCHING.into());
                [Op::Set(sysreg::dbgwvr(n), value), Op::Set(sysreg::dbgwcr(n), control)]
            };
            let armed: Vec<Op> = (0..shape.watchpoints).flat_map(each).collect();
            [armed, vec![Op::Set(MDSCR_EL1, MDBGEN.into())], doublewords_accessed(shape)].concat()
        })
        .and(&[&rule::AARCH32_MAPPED]),
        case("watchpoint.disabled", &rule::AARCH32_MDBGEN, |shape| {
            let attempt = doublewords_accessed(shape);
            let (off, on) = (DISABLED.to_vec(), ENABLED.to_vec());
            let exit = vec![Op::Exit];
            let armed = watchpoints_armed(shape);
            [armed, off, attempt.clone(), exit, attempt.clone(), on, attempt].concat()
        }),
        case("bkpt.taken", &rule::AARCH32_BKPT, |_| {
            let long = [Op::Write(TTBCR, EAE), Op::Isb, Op::Bkpt];
            [Op::Bkpt].into_iter().chain(ENABLED).chain([Op::Bkpt]).chain(long).collect()
        }),
        case("bkpt.spsr_by_userspace", &rule::AARCH32_SPSR_ABT, |_| {
            let aborted = [Op::Bkpt, Op::GetSpsrAbt];
            [aborted.as_slice(), &[Op::Exit, Op::GetSpsrAbt], &ENABLED, &aborted].concat()
        }),
        case("bkpt.exits", &rule::AARCH32_BKPT_EXITS, |_| {
            let [on, off] = [ENABLE | USE_SW_BP, 0].map(|control| Op::Debug(GuestDebug::new(control)));
            let exits = [Op::Bkpt, Op::GetDebugExit];
            let locked = [Op::Write(DBGOSLAR, OS_LOCK_KEY), Op::Isb];
            let unlocked = [Op::Write(DBGOSLAR, 0), Op::Isb];
            let under = [&[on], exits.as_slice(), &exits, &ENABLED, &exits, &locked, &exits, &unlocked];
            [&exits, under.concat().as_slice(), &[off], &exits].concat()
        }),
        case("bkpt.taken_under_os_lock", &rule::AARCH32_BKPT, |_| {
            vec![Op::Write(DBGOSLAR, OS_LOCK_KEY), Op::Isb, Op::Bkpt]
        }),
    ]
}

/// Runs the operations in a VM, and checks the result of each against the rules.
pub fn check(cx: &mut Context<'_>, ops: &[Op]) -> Result<(), Stop> {
    check_with(cx, &[], ops)
}

/// The same in a VM for which userspace has written registers.
pub fn check_with(cx: &mut Context<'_>, written: &[(SysReg, u64)], ops: &[Op]) -> Result<(), Stop> {
    let mut vm = cx.a32_vm(ops)?;
    for (reg, value) in written {
        vm.set(*reg, *value);
    }
    judge(cx, &mut vm, ops)
}

/// Runs the operations in a VM that was made for them, and checks the result of each against the rules.
fn judge(cx: &mut Context<'_>, vm: &mut A32Vm, ops: &[Op]) -> Result<(), Stop> {
    let mut pe = Pe::new(vm.read(ID_AA64DFR0_EL1)?, vm.read(ID_DFR0_EL1)?);
    let events = vm.executes()?;
    for (k, (op, event)) in ops.iter().zip(&events).enumerate() {
        cx.count();
        let allowed = pe.allowed(*op)?;
        pe.follow(*op, event);
        if !allowed.iter().any(|outcome| outcome.allows(event)) {
            cx.find(observed(*op, event, &allowed), described(&ops[..=k], event, &allowed));
        }
    }
    Ok(())
}

/// An operation and its result, in words that do not depend on the host.
fn observed(op: Op, event: &Event, allowed: &[Outcome]) -> String {
    let op = match op {
        Op::Execute(_) => "nop at a marker".into(),
        Op::Load(_) => "ldr".into(),
        Op::Store(_) => "str".into(),
        Op::Write(register, _) => format!("mcr {register}"),
        Op::Set(register, _) => format!("KVM_SET_ONE_REG {register}"),
        Op::Read(_)
        | Op::ReadLong(_)
        | Op::Get(_)
        | Op::GetSpsrAbt
        | Op::Isb
        | Op::Exit
        | Op::Bkpt
        | Op::Debug(_)
        | Op::GetDebugExit => op.to_string(),
    };
    let exception = match event {
        Event::PrefetchAbort(_) => "Prefetch Abort",
        Event::DataAbort(_) => "Data Abort",
        _ => return format!("{op}: {event}"),
    };
    match allowed.iter().find_map(|outcome| outcome.departures(event)) {
        None => format!("{op}: {exception}"),
        Some(departures) => {
            let departures: Vec<String> = departures.iter().map(ToString::to_string).collect();
            format!("{op}: {exception} with {}", departures.join(" and "))
        }
    }
}

/// The operations up to one that departed from the rules, what it caused and what it may cause.
pub fn described(ops: &[impl Display], event: &impl Display, allowed: &[impl Display]) -> String {
    /// How many of the last operations are shown.
    const SHOWN: usize = 24;
    let mut text = String::new();
    let first = ops.len().saturating_sub(SHOWN);
    if first > 0 {
        _ = writeln!(text, "… {first} operations");
    }
    for (k, op) in ops.iter().enumerate().skip(first) {
        _ = writeln!(text, "{k:4}  {op}");
    }
    let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    _ = write!(text, "  seen:    {event}\n  allowed: {}", allowed.join("\n           "));
    text
}
