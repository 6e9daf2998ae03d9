// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Which debug registers exist for a guest, what they hold, and what an access to a register that does not
//! exist does.

use crate::{
    forms::whole,
    stage::{BY_RETURN, LEVELS},
};
use arbitrary_int::{u2, u4, u5};
use dfr0_model::{
    control::{Dbgbcr, Dbgwcr, LSC_BOTH, LSC_LOAD, LSC_STORE, Mdscr, PMC_EL0, PMC_EL1, PMC_EL1_EL0},
    dfr0::{BRPS, WRPS},
    pstate::{D, EL0T, EL1H, EL1H_MASKED, SS},
    rule,
    scenario::{Op, Scenario, Value},
    sequence::Sequence,
    shape::Shape,
    sysreg::{
        CONTEXTIDR_EL1, DBGAUTHSTATUS_EL1, DBGCLAIMCLR_EL1, DBGCLAIMSET_EL1, DBGVCR32_EL2, DebugRegister,
        ID_AA64DFR0_EL1, MDCCINT_EL1, MDCCSR_EL0, MDRAR_EL1, MDSCR_EL1, OSECCR_EL1, OSLAR_EL1, OSLSR_EL1,
        SysReg, dbgbcr, dbgbvr, dbgwcr, dbgwvr,
    },
    vm::DEBUG_FEATURES,
    vmm::{Features, StepState},
};
use dfr0_runner::case::{Case, Context, Stop};

/// Why a vCPU that uses such a register does not move.
const NOT_KEPT: &str = "KVM does not keep the register for a guest, and does not list it for a VMM";

/// MDCCINT_EL1.{RX, TX}: each of them, both, and none.
const MDCCINT: [u64; 4] = [1 << 30, 1 << 29, 0b11 << 29, 0];

pub fn cases() -> Vec<Case> {
    vec![
        whole("beyond_breakpoints", &rule::REGISTERS_BEYOND_COUNT, |cx| {
            let count = cx.shape().breakpoints;
            beyond(cx, count, [dbgbvr, dbgbcr])
        })
        .of_field(&BRPS),
        whole("beyond_watchpoints", &rule::REGISTERS_BEYOND_COUNT, |cx| {
            let count = cx.shape().watchpoints;
            beyond(cx, count, [dbgwvr, dbgwcr])
        })
        .of_field(&WRPS),
        whole("id_aa64dfr0_is_read_only", &rule::REGISTERS_ONE_WAY, |cx| {
            cx.check(&Scenario::new().write(ID_AA64DFR0_EL1, 0))
        }),
        whole("mdscr_reads_back", &rule::REGISTERS_READ_BACK, mdscr_reads_back),
        whole("mdscr_tdcc_reads_back", &rule::REGISTERS_READ_BACK, |cx| {
            let tdcc = Scenario::new().write(MDSCR_EL1, 1 << 12).isb().read(MDSCR_EL1).then(Op::Exit);
            cx.check(
                &tdcc
                    .read(MDSCR_EL1)
                    .then(Op::KvmGet { reg: MDSCR_EL1 })
                    .write(MDSCR_EL1, 0)
                    .isb()
                    .read(MDSCR_EL1),
            )
        }),
        whole("tdcc_traps_el0", &rule::DCC_TRAPPED, |cx| tdcc_traps_el0(cx, Scenario::enable)),
        whole("tdcc_by_userspace_traps_el0", &rule::DCC_TRAPPED, |cx| {
            tdcc_traps_el0(cx, |scenario, mdscr| scenario.userspace_writes(MDSCR_EL1, mdscr).accepted())
        }),
        whole("addresses_read_back", &rule::REGISTERS_READ_BACK, addresses_read_back),
        whole("mdccint_reads_back", &rule::REGISTERS_READ_BACK, |cx| {
            MDCCINT.into_iter().try_for_each(|value| {
                let written = Scenario::new().write(MDCCINT_EL1, value).isb().read(MDCCINT_EL1);
                cx.check(&written.then(Op::Exit).read(MDCCINT_EL1).then(Op::KvmGet { reg: MDCCINT_EL1 }))
            })
        }),
        whole("mdccint_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, |cx| {
            MDCCINT.into_iter().try_for_each(|value| {
                // The bits of one register are no bits of the other.
                let set = Scenario::new().userspace_writes(MDCCINT_EL1, value).accepted();
                let both = set.userspace_writes(MDSCR_EL1, Mdscr::DEFAULT.with_tdcc(true)).accepted();
                let seen = both.then(Op::KvmGet { reg: MDCCINT_EL1 }).then(Op::KvmGet { reg: MDSCR_EL1 });
                cx.check(&seen.read(MDCCINT_EL1).read(MDSCR_EL1))
            })
        }),
        whole("one_reg_keeps_each_bit", &rule::ONE_REG_IS_THE_REGISTER, one_reg_keeps_each_bit)
            .stays("its guest does not run"),
        whole("step_state_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, step_state_by_userspace)
            .with_own_vms(),
        whole("vector_catch_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, vector_catch_by_userspace)
            .with_own_vms(),
        whole("claim_tags", &rule::CLAIM_TAGS, |cx| {
            cx.check(&claim_tags(Scenario::new().then(Op::Exit)))?;
            cx.check(&claim_tags(Scenario::new().enable(Mdscr::breakpoints_at_el1())))
        })
        .stays(NOT_KEPT),
        whole("oseccr", &rule::EXCEPTION_CATCH_ACCESS, |cx| {
            cx.check(&Scenario::new().then(Op::Exit).read(OSECCR_EL1))?;
            cx.check(&Scenario::new().enable(Mdscr::breakpoints_at_el1()).read(OSECCR_EL1))?;
            // Written only where it is RES0 or saves EDECCR, and only with zero.
            let locked = Scenario::new().write(OSLAR_EL1, 1).isb().read(OSECCR_EL1);
            cx.check(&locked.write(OSECCR_EL1, 0).isb().read(OSECCR_EL1))
        })
        .stays(NOT_KEPT),
        whole("dbgauthstatus", &rule::AUTHENTICATION_STATUS, |cx| {
            cx.check(&Scenario::new().then(Op::Exit).read(DBGAUTHSTATUS_EL1).write(DBGAUTHSTATUS_EL1, 0))?;
            let on = Scenario::new().enable(Mdscr::breakpoints_at_el1());
            cx.check(&on.read(DBGAUTHSTATUS_EL1).write(DBGAUTHSTATUS_EL1, 0))
        })
        .stays(NOT_KEPT),
        whole("external_debug_status", &rule::EXTERNAL_DEBUG_STATUS, |cx| {
            let read = |scenario: Scenario| scenario.read(MDRAR_EL1).read(MDCCSR_EL0);
            cx.check(&read(read(Scenario::new()).then(Op::Exit)))?;
            cx.check(&read(Scenario::new().enable(Mdscr::breakpoints_at_el1())))?;
            cx.check(&read(Scenario::new().write(OSLAR_EL1, 1).isb()))
        })
        .stays(NOT_KEPT),
        whole("reset_values", &rule::REGISTERS_RESET, reset_values),
        whole("reset_by_second_init", &rule::REGISTERS_RESET, reset_by_second_init).with_own_vms(),
        whole("contextidr_reads_back", &rule::REGISTERS_READ_BACK, |cx| {
            let values = (0..32).map(|bit| 1 << bit).chain([0, 0xffff_ffff]);
            cx.check(&values.fold(Scenario::new(), |scenario, value| {
                scenario
                    .write(CONTEXTIDR_EL1, value)
                    .isb()
                    .read(CONTEXTIDR_EL1)
                    .then(Op::Exit)
                    .read(CONTEXTIDR_EL1)
            }))
        }),
        whole("listed_registers_write_back", &rule::ONE_REG_LISTED, listed_registers_write_back),
        whole("a_read_comes_first", &rule::REGISTERS_READ_BACK, a_read_comes_first),
    ]
}

/// Every number from `count` to 15, while debug exceptions are off and while they are on, and after an exit:
/// KVM traps the accesses in some of these states and not in others.
fn beyond(cx: &mut Context<'_>, count: u8, registers: [fn(u8) -> SysReg; 2]) -> Result<(), Stop> {
    if count == 16 {
        return Stop::skip("the VM has all 16 of them");
    }
    let accesses = |scenario: Scenario| {
        (count..16)
            .flat_map(|n| registers.map(|register| register(n)))
            .fold(scenario, |scenario, reg| scenario.read(reg).write(reg, 0).read(reg))
    };
    cx.check(&accesses(Scenario::new()))?;
    let on =
        Scenario::new().breakpoint(0, 1, Dbgbcr::address_at_el1()).enable(Mdscr::breakpoints_at_el1()).isb();
    cx.check(&accesses(accesses(on).then(Op::Exit)))?;
    cx.check(&accesses(Scenario::new().write(OSLAR_EL1, 1)))
}

/// MDSCR_EL1's bits that enable debug exceptions, in each combination, as the guest and userspace read them.
fn mdscr_reads_back(cx: &mut Context<'_>) -> Result<(), Stop> {
    for bits in 0..8 {
        let mdscr = Mdscr::DEFAULT.with_mde(bits & 1 != 0).with_kde(bits & 2 != 0).with_ss(bits & 4 != 0);
        let written = Scenario::new().enable(mdscr).isb();
        for scenario in [written.clone(), written.by_userspace()] {
            let read =
                scenario.read(MDSCR_EL1).then(Op::KvmGet { reg: MDSCR_EL1 }).then(Op::Exit).read(MDSCR_EL1);
            cx.check(&read)?;
        }
    }
    Ok(())
}

/// EL0 and EL1 read MDCCSR_EL0 while MDSCR_EL1.TDCC is set and clear: where nobody owns the debug registers, where the
/// guest does, and under the OS Lock, where KVM gives the CPU another MDSCR_EL1 than the guest's.
fn tdcc_traps_el0(cx: &mut Context<'_>, write: fn(Scenario, Mdscr) -> Scenario) -> Result<(), Stop> {
    let read = Sequence::named("mrs x1, mdccsr_el0");
    let seen = |scenario: Scenario| scenario.isb().each(LEVELS, |scenario, el| scenario.at(el).run(read, 0));
    [Mdscr::DEFAULT, Mdscr::breakpoints_at_el1()].into_iter().try_for_each(|mdscr| {
        cx.check(&Scenario::new().entered(BY_RETURN).each([true, false], |scenario, tdcc| {
            let free = seen(seen(write(scenario, mdscr.with_tdcc(tdcc))).exit());
            let locked = seen(seen(free.write(OSLAR_EL1, 1)).exit());
            seen(locked.write(OSLAR_EL1, 0))
        }))
    })
}

/// The guest's first access to its debug registers is a read. It writes afterwards.
fn a_read_comes_first(cx: &mut Context<'_>) -> Result<(), Stop> {
    let shape = cx.shape();
    let control = Dbgbcr::address_at_el1().bits();
    for n in shape.breakpoint_numbers() {
        let set = Scenario::new()
            .then(Op::KvmSet { reg: dbgbvr(n), value: 0x1234_5678 })
            .then(Op::KvmSet { reg: dbgbcr(n), value: control });
        cx.check(
            &set.read(dbgbcr(n)).read(dbgbvr(n)).write(dbgbvr(n), 0x4000).read(dbgbvr(n)).read(dbgbcr(n)),
        )?;
    }
    Ok(())
}

/// The guest's breakpoints and watchpoints.
fn numbered(shape: Shape) -> Vec<SysReg> {
    let breakpoints = shape.breakpoint_numbers().flat_map(|n| [dbgbvr(n), dbgbcr(n)]);
    breakpoints.chain((0..shape.watchpoints).flat_map(|n| [dbgwvr(n), dbgwcr(n)])).collect()
}

/// Every debug register of a new vCPU that KVM lists. Userspace reads them before the vCPU has run. The guest
/// reads them starting with the first in one VM and with the last in another.
fn reset_values(cx: &mut Context<'_>) -> Result<(), Stop> {
    let registers: Vec<SysReg> =
        numbered(cx.shape()).into_iter().chain([MDSCR_EL1, MDCCINT_EL1, OSLSR_EL1]).collect();
    let first = cx.vm().gets_each(registers.iter().copied());
    let forwards = registers.iter().fold(first, |scenario, reg| scenario.read(*reg));
    let backwards = registers.iter().rev().fold(cx.vm(), |scenario, reg| scenario.read(*reg));
    cx.check_vms([forwards, backwards.gets_each(registers)])
}

/// A vCPU is initialised again after userspace wrote its debug registers, before and after it has run, with
/// and without the OS Lock held. Then userspace and the guest read what a new vCPU has.
fn reset_by_second_init(cx: &mut Context<'_>) -> Result<(), Stop> {
    let value = |reg: SysReg| match reg.debug_number() {
        Some((DebugRegister::Bvr, _)) => 0x4000,
        Some((DebugRegister::Bcr, _)) => 0x1e6,
        Some((DebugRegister::Wvr, _)) => 0x8000,
        Some((DebugRegister::Wcr, _)) => 0x1ffa,
        None if reg == MDSCR_EL1 => Mdscr::breakpoints_at_el1().bits(),
        None => 1 << 30,
    };
    let registers: Vec<SysReg> = numbered(cx.shape()).into_iter().chain([MDSCR_EL1, MDCCINT_EL1]).collect();
    let all = || registers.iter().copied().chain([OSLSR_EL1]);
    let read = |scenario| all().fold(scenario, Scenario::read);
    cx.check_vms([(false, false), (false, true), (true, false), (true, true)].map(|(ran, locked)| {
        let numbered = || numbered(cx.shape()).into_iter().filter(|_| ran);
        let runs = |scenario| numbered().fold(scenario, Scenario::read);
        let written = registers.iter().fold(runs(cx.vm()), |scenario, reg| scenario.sets(*reg, value(*reg)));
        let written = written.sets(OSLSR_EL1, if locked { 0b1010 } else { 0b1000 });
        read(runs(written).inits(Features::None).gets_each(all()))
    }))
}

/// Each bit that DBGBVR, DBGBCR, DBGWVR and DBGWCR have for a guest, set and clear, before the guest has run.
/// Multiples of eight in both halves of the address space; each other bit is set in one and clear in another.
const ADDRESSES: [u64; 4] =
    [0x0000_5555_5555_5550, 0xffff_aaaa_aaaa_aaa8, 0x0000_3333_cccc_6660, 0xffff_cccc_3333_9998];

/// After an exit the CPU has what KVM gave it. No breakpoint or watchpoint is enabled.
fn addresses_read_back(cx: &mut Context<'_>) -> Result<(), Stop> {
    let shape = cx.shape();
    let registers: Vec<SysReg> =
        shape.breakpoint_numbers().map(dbgbvr).chain((0..shape.watchpoints).map(dbgwvr)).collect();
    cx.check_each((0..ADDRESSES.len()).map(|round| {
        let values = registers.iter().zip(ADDRESSES.into_iter().cycle().skip(round));
        let written = values.fold(Scenario::new(), |scenario, (reg, value)| scenario.write(*reg, value));
        let on = written.enable(Mdscr::breakpoints_at_el1()).then(Op::Exit);
        registers.iter().fold(on, |scenario, reg| scenario.read(*reg))
    }))
}

/// Userspace reads what it wrote, also where a guest that is not told about EL3 does not use it. No
/// breakpoint or watchpoint is enabled.
fn one_reg_keeps_each_bit(cx: &mut Context<'_>) -> Result<(), Stop> {
    /// HMC, SSC, and PMC or PAC. None of these combinations is reserved where there is EL3.
    const STATES: [(bool, u8, u2); 4] =
        [(false, 0b01, PMC_EL0), (true, 0b00, PMC_EL1), (false, 0b10, PMC_EL1_EL0), (true, 0b01, PMC_EL1)];
    /// Types of a context-aware breakpoint: each bit is set in one and clear in another.
    const TYPES: [u4; 4] = [u4::new(0b1101), u4::new(0b0010), u4::new(0b1110), u4::new(0b0111)];
    let shape = cx.shape();
    let context = u4::new(shape.breakpoints - 1);
    for (round, context_type) in TYPES.into_iter().enumerate() {
        let nth = |n: u8| (usize::from(n) + round) % STATES.len();
        let breakpoints = shape.breakpoint_numbers().flat_map(|n| {
            let (hmc, ssc, pmc) = STATES[nth(n)];
            let linked = nth(n) % 2 == 1;
            let kind = match linked {
                true => Dbgbcr::address_linked_to(context),
                false if shape.is_context_aware(n) => Dbgbcr::address_at_el1().with_bt(context_type),
                false => Dbgbcr::address_at_el1(),
            };
            let control = kind.with_e(false).with_hmc(hmc).with_ssc(u2::new(ssc)).with_pmc(pmc);
            [(dbgbvr(n), ADDRESSES[nth(n)]), (dbgbcr(n), control.bits())]
        });
        let watchpoints = (0..shape.watchpoints).flat_map(|n| {
            let (hmc, ssc, pac) = STATES[nth(n)];
            let linked = nth(n) % 2 == 0;
            let control = Dbgwcr::doubleword()
                .with_e(false)
                .with_bas([0x55, 0xaa, 0x0f, 0xf0][nth(n)])
                .with_lsc([LSC_LOAD, LSC_STORE, LSC_BOTH, LSC_LOAD][nth(n)])
                .with_mask(u5::new([0b10101, 0b01010, 0b11111, 0][nth(n)]))
                .with_wt(linked)
                .with_lbn(if linked { context } else { u4::new(0) })
                .with_hmc(hmc)
                .with_ssc(u2::new(ssc))
                .with_pac(pac);
            [(dbgwvr(n), ADDRESSES[nth(n)]), (dbgwcr(n), control.bits())]
        });
        let registers: Vec<(SysReg, u64)> = breakpoints.chain(watchpoints).collect();
        let set = registers.iter().fold(cx.vm(), |scenario, (reg, value)| scenario.sets(*reg, *value));
        let read = |scenario: Scenario, (reg, value)| scenario.gets(reg).reads(value);
        cx.check_vm(&registers.into_iter().fold(set, read))?;
    }
    Ok(())
}

/// SS and D in PSTATE, and in SPSR_EL1, from which an exception return takes them, at EL1 and at EL0.
fn step_state_by_userspace(cx: &mut Context<'_>) -> Result<(), Stop> {
    let each = |scenario| {
        StepState::ALL.into_iter().fold(scenario, |scenario, state| {
            [SS | D | EL1H, SS | EL1H, D | EL1H, EL1H, SS | EL0T, EL0T, EL1H_MASKED]
                .into_iter()
                .fold(scenario, |scenario: Scenario, value| {
                    scenario.sets_state(state, value).gets_state(state).reads(value)
                })
        })
    };
    cx.check_vm(&each(each(cx.vm()).read(MDSCR_EL1)))
}

/// DBGVCR of a guest in AArch32, which a snapshot contains as DBGVCR32_EL2. Other guests do not have it.
fn vector_catch_by_userspace(cx: &mut Context<'_>) -> Result<(), Stop> {
    /// SF, SI, SD, SP, SS and SU, which exist with and without EL3.
    const CAUGHT: [u64; 3] = [0b1101_1110, 1 << 7, 0];
    let each = |scenario| {
        CAUGHT.into_iter().fold(scenario, |scenario: Scenario, value| {
            scenario.sets(DBGVCR32_EL2, value).gets(DBGVCR32_EL2).reads(value)
        })
    };
    cx.check_vm(&each(each(Scenario::vm(Features::AArch32)).enters_and_leaves()))
}

/// Sets and clears claim tags one by one and together, and leaves none set.
fn claim_tags(scenario: Scenario) -> Scenario {
    let seen = |scenario: Scenario| scenario.isb().read(DBGCLAIMSET_EL1).read(DBGCLAIMCLR_EL1);
    let values = (0..8).map(|tag| 1 << tag).chain([0xa5, 0]);
    let set = values.clone().fold(seen(scenario.write(DBGCLAIMCLR_EL1, 0xff)), |scenario, value| {
        seen(scenario.write(DBGCLAIMSET_EL1, value))
    });
    let cleared = values.fold(set, |scenario, value| seen(scenario.write(DBGCLAIMCLR_EL1, value)));
    seen(cleared.write(DBGCLAIMCLR_EL1, 0xff))
}

/// The guest's debug registers are listed, and each listed debug register accepts its own value, before the
/// first run and after it, as a VMM saves and restores them.
fn listed_registers_write_back(cx: &mut Context<'_>) -> Result<(), Stop> {
    const DEBUG: u16 = 2;
    let facts = cx.facts(cx.features())?;
    let others = [MDSCR_EL1, OSLSR_EL1].into_iter().chain(DEBUG_FEATURES);
    let guests: Vec<SysReg> = numbered(cx.shape()).into_iter().chain(others).collect();
    let listed = |scenario| guests.iter().fold(scenario, |scenario: Scenario, reg| scenario.lists(*reg));
    let written = |scenario| {
        let debug = facts.listed.iter().filter(|(reg, _)| reg.op0() == DEBUG);
        debug.fold(scenario, |scenario: Scenario, (reg, value)| scenario.sets(*reg, *value))
    };
    cx.check_vm(&written(listed(written(listed(cx.vm())).isb())))
}
