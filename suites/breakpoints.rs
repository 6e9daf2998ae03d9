// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Breakpoints: each breakpoint of the host fires when it must and only then, and keeps the values that were
//! written to it, on every path by which they reach the hardware.

use crate::{
    forms::{each_breakpoint as each, whole},
    stage::{ADDRESS, BY_RETURN, CONTEXT, HERE, LEVELS, ON, armed, armed_at},
};
use arbitrary_int::{u2, u4, u5};
use dfr0_model::{
    claim::Claim,
    control::{BT_CONTEXT, BT_CONTEXTIDR_EL1, Dbgbcr, PMC_EL0, PMC_EL1, PMC_EL1_EL0},
    feature::Feature,
    rule,
    scenario::{El, Op, Scenario},
    sequence::{self, Does, Sequence},
    sysreg::{CONTEXTIDR_EL1, MDSCR_EL1, OSLSR_EL1, dbgbcr, dbgbvr},
    wire::{BRK, TARGET, marker, sequence_code},
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    effort::share_of,
};

pub fn cases() -> Vec<Case> {
    vec![
        each("fires", &rule::BREAKPOINT_MATCHES, |n| armed(n).exec(HERE).takes_breakpoint()),
        each("fires_each_time", &rule::BREAKPOINT_SYNDROME, |n| {
            armed(n).each(0..3, |scenario, _| scenario.exec(HERE).takes_breakpoint())
        }),
        each("disabled", &rule::BREAKPOINT_ENABLED, |n| {
            armed(n).write(dbgbcr(n), ADDRESS.with_e(false)).exec(HERE).nothing()
        }),
        each("one_instruction_before", &rule::BREAKPOINT_ADDRESS, |n| {
            armed_at(n, marker(HERE) - 4).exec(HERE).nothing()
        }),
        each("one_instruction_after", &rule::BREAKPOINT_ADDRESS, |n| {
            // The marker's RET.
            armed_at(n, marker(HERE) + 4).exec(HERE).takes_breakpoint()
        }),
        each("next_marker", &rule::BREAKPOINT_ADDRESS, |n| {
            armed(n).exec(HERE + 1).nothing().exec(HERE - 1).nothing()
        }),
        whole("each_address_bit", &rule::BREAKPOINT_ADDRESS, each_address_bit),
        whole("bits_above_the_address", &rule::RESS, |cx| {
            let bits = |n| (48..64).map(move |bit| armed_at(n, marker(HERE) ^ 1 << bit).exec(HERE));
            cx.check_each(cx.shape().breakpoint_numbers().flat_map(bits))
        }),
        whole("sweep", &rule::BREAKPOINT_MATCHES, sweep).large(),
        whole("sweep_pairs", &rule::BREAKPOINT_MATCHES, sweep_pairs).large(),
        whole("each_byte_select", &rule::BREAKPOINT_BAS, each_byte_select),
        whole("each_state", &rule::STATE_UNPREDICTABLE, each_state),
        whole("each_type", &rule::BREAKPOINT_TYPE_UNPREDICTABLE, each_type),
        whole("each_control_over_exit", &rule::EXIT_KEEPS_STATE, each_control_over_exit),
        whole("fields_of_later_features", &rule::RES0_WITHOUT_FEATURE, fields_of_later_features),
        whole("unlinked_context", &rule::BREAKPOINT_CONTEXT, unlinked_context),
        whole(
            "unlinked_context_not_supported",
            &rule::BREAKPOINT_TYPE_UNPREDICTABLE,
            unlinked_context_not_supported,
        )
        .in_each_shape(),
        whole("not_synchronised", &rule::CONTEXT_SYNCHRONIZATION, not_synchronised),
        whole("on_brk", &rule::PRIORITY, on_brk),
        whole("in_memory_set_and_copy", &rule::MOVE_GOES_ON, in_memory_set_and_copy),
        each("el0_only", &rule::BREAKPOINT_PRIVILEGE, |n| {
            armed(n).write(dbgbcr(n), ADDRESS.with_pmc(PMC_EL0)).exec(HERE).nothing()
        }),
        whole("each_privilege", &rule::BREAKPOINT_PRIVILEGE, each_privilege),
        each("reads_back", &rule::REGISTERS_READ_BACK, reads_back),
        whole("reads_back_all", &rule::REGISTERS_READ_BACK, |cx| all(cx, |scenario| scenario)),
        whole("reads_back_all_after_exit", &rule::EXIT_KEEPS_STATE, |cx| all(cx, Scenario::exit)),
        whole("reads_back_all_enabled_after_exit", &rule::EXIT_KEEPS_STATE, |cx| {
            all(cx, |scenario| scenario.enable(ON).exit())
        }),
        whole("all_armed", &rule::BREAKPOINT_MATCHES, |cx| all_armed(cx, |scenario| scenario)),
        whole("all_armed_after_exit", &rule::EXIT_KEEPS_STATE, |cx| all_armed(cx, Scenario::exit)),
        each("fires_after_exit", &rule::EXIT_KEEPS_STATE, |n| {
            let once = armed(n).exit().exec(HERE).takes_breakpoint();
            once.exit().exit().exec(HERE).takes_breakpoint()
        }),
        each("enabled_after_exit", &rule::EXIT_KEEPS_STATE, |n| {
            armed(n).disable().exit().enable(ON).exec(HERE).takes_breakpoint()
        }),
        each("enabled_last_after_exit", &rule::EXIT_KEEPS_STATE, |n| {
            let off = armed(n).write(dbgbcr(n), 0).exit();
            off.write(dbgbcr(n), ADDRESS).exec(HERE).takes_breakpoint()
        }),
        each("disabled_after_exit", &rule::EXIT_KEEPS_STATE, |n| {
            armed(n).exit().disable().exec(HERE).nothing().exit().exec(HERE).nothing()
        }),
        each("armed_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, |n| {
            let fires = armed(n).by_userspace().exec(HERE).takes_breakpoint();
            let value = fires.read(dbgbvr(n)).reads(marker(HERE));
            value.read(dbgbcr(n)).reads(ADDRESS).read(MDSCR_EL1).reads(ON)
        }),
        each("seen_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, |n| {
            let fires = armed(n).exec(HERE).takes_breakpoint();
            let value = fires.userspace_reads(dbgbvr(n)).reads(marker(HERE));
            value.userspace_reads(dbgbcr(n)).reads(ADDRESS).userspace_reads(MDSCR_EL1).reads(ON)
        }),
        whole("written_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, written_by_userspace),
        whole("all_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, all_by_userspace),
    ]
}

/// On each of the three instructions that set or copy memory, after which the rest is done.
fn in_memory_set_and_copy(cx: &mut Context<'_>) -> Result<(), Stop> {
    cx.needs(Feature::Mops)?;
    let control = ADDRESS.with_pmc(PMC_EL1_EL0);
    cx.check_each(cx.shape().breakpoint_numbers().flat_map(|n| {
        sequence::TABLE.iter().filter(|piece| piece.moves.is_some()).flat_map(move |piece| {
            let parts = piece.instructions.iter().enumerate();
            let parts = parts.filter(|(_, (_, does))| matches!(does, Does::Move { .. }));
            parts.flat_map(move |(place, _)| {
                [El::El0, El::El1].map(|el| {
                    let set = Scenario::new().unmask().entered(BY_RETURN).at(el);
                    let cleared = set.run(Sequence::named("set 64 bytes to zeros"), TARGET);
                    let address = sequence_code(piece) + 4 * place as u64;
                    cleared.breakpoint_at(n, address, control).enable(ON).run(piece, TARGET)
                })
            })
        })
    }))
}

const PRIVILEGES: [u2; 3] = [PMC_EL1, PMC_EL0, PMC_EL1_EL0];

/// Breakpoint `n` on marker [`HERE`] with this control. The guest executes the marker and the next one at
/// both Exception levels.
fn at_both(n: u8, control: Dbgbcr) -> Scenario {
    with_value(n, marker(HERE), control)
}

/// Breakpoint `n` with this value and this control. The guest executes marker [`HERE`] and the next one at
/// both Exception levels.
fn with_value(n: u8, value: u64, control: Dbgbcr) -> Scenario {
    let set = armed_at(n, value).write(dbgbcr(n), control).entered(BY_RETURN);
    set.each(LEVELS, |scenario, el| scenario.at(el).exec(HERE).exec(HERE + 1))
}

/// Each breakpoint with each privilege, enabled or not, on an instruction or beside it, at each Exception
/// level, with each of the bits that mask it. The OS Lock is locked only for breakpoint 0, because writes to
/// OSLAR_EL1 trap.
fn sweep(cx: &mut Context<'_>) -> Result<(), Stop> {
    let numbers = cx.shape().breakpoint_numbers();
    let addresses = [marker(HERE) - 4, marker(HERE), marker(HERE) + 4, marker(HERE) ^ 1 << 40];
    cx.check_each(numbers.flat_map(|n| {
        addresses.into_iter().flat_map(move |address| {
            PRIVILEGES.into_iter().flat_map(move |pmc| {
                (0..if n == 0 { 64 } else { 32 }).map(move |bits: u8| {
                    let bit = |k: u8| bits >> k & 1 == 1;
                    let control = ADDRESS.with_pmc(pmc).with_e(bit(0));
                    let set = Scenario::new().pstate_d(bit(1)).breakpoint_at(n, address, control);
                    let set = set.enable(ON.with_mde(bit(2)).with_kde(bit(3)));
                    let set = if bit(5) { set.lock() } else { set };
                    set.at(LEVELS[usize::from(bit(4))]).exec(HERE)
                })
            })
        })
    }))
}

/// Two breakpoints, each with each privilege, enabled or not, on an instruction or beside it, at each
/// Exception level, entered in each way, with each of the bits that mask them except the OS Lock. The pairs
/// of breakpoints take turns.
fn sweep_pairs(cx: &mut Context<'_>) -> Result<(), Stop> {
    let numbers = cx.shape().breakpoint_numbers();
    let others = |one| numbers.clone().filter(move |other| *other != one).map(move |other| (one, other));
    let pairs: Vec<(u8, u8)> = numbers.clone().flat_map(others).collect();
    let places = [marker(HERE) - 4, marker(HERE), marker(HERE) + 4, marker(HERE + 1), marker(HERE) ^ 1 << 40];
    let places = places.into_iter().flat_map(|one| places.map(|other| (one, other)));
    let privileges = PRIVILEGES.into_iter().flat_map(|one| PRIVILEGES.map(|other| (one, other)));
    let combinations = places.flat_map(|places| {
        privileges
            .clone()
            .flat_map(move |privileges| (0..=u8::MAX).map(move |bits| (places, privileges, bits)))
    });
    cx.check_each(combinations.zip(pairs.iter().cycle()).map(|((places, privileges, bits), (one, other))| {
        let bit = |k: u8| bits >> k & 1 == 1;
        let set = Scenario::new()
            .pstate_d(bit(0))
            .enable(ON.with_mde(bit(1)).with_kde(bit(2)))
            .breakpoint_at(*one, places.0, ADDRESS.with_e(bit(3)).with_pmc(privileges.0))
            .breakpoint_at(*other, places.1, ADDRESS.with_e(bit(4)).with_pmc(privileges.1))
            .at(LEVELS[usize::from(bit(5))]);
        let set = if bit(6) { set.entered(BY_RETURN) } else { set };
        (if bit(7) { set.exec(HERE + 1) } else { set }).exec(HERE)
    }))
}

/// Each BAS with each privilege.
fn each_byte_select(cx: &mut Context<'_>) -> Result<(), Stop> {
    cx.check_each(cx.shape().breakpoint_numbers().flat_map(|n| {
        (0..16).flat_map(move |bas| {
            PRIVILEGES.map(|pmc| at_both(n, ADDRESS.with_pmc(pmc).with_bas(u4::new(bas))))
        })
    }))
}

/// Each HMC, SSC and PMC.
fn each_state(cx: &mut Context<'_>) -> Result<(), Stop> {
    cx.check_each(cx.shape().breakpoint_numbers().flat_map(|n| {
        (0..32).map(move |bits: u8| {
            let control = ADDRESS.with_hmc(bits & 16 != 0).with_ssc(u2::new(bits >> 2 & 3));
            at_both(n, control.with_pmc(u2::new(bits & 3))).read(dbgbcr(n))
        })
    }))
}

/// Each BT except those that match a context without a link, while CONTEXTIDR_EL1 is the marker's address and
/// while it is 0.
fn each_type(cx: &mut Context<'_>) -> Result<(), Stop> {
    let shape = cx.shape();
    let types = (0..16).map(u4::new).filter(|bt| ![BT_CONTEXT, BT_CONTEXTIDR_EL1].contains(bt));
    let of = move |n: u8| {
        types.clone().flat_map(move |bt| {
            PRIVILEGES.into_iter().flat_map(move |pmc| {
                [marker(HERE), 0].map(|context| {
                    let set = Scenario::new().write(CONTEXTIDR_EL1, context & 0xffff_ffff);
                    let control = ADDRESS.with_bt(bt).with_pmc(pmc).with_lbn(u4::new(shape.breakpoints - 1));
                    set.append(at_both(n, control))
                })
            })
        })
    };
    cx.check_each(shape.breakpoint_numbers().flat_map(of))
}

/// Fields that are RES0 without a later feature. A breakpoint that sets one may behave as on a PE with the
/// feature or as on a PE without it. An address that differs in a bit that MASK does not cover does not
/// match.
fn fields_of_later_features(cx: &mut Context<'_>) -> Result<(), Stop> {
    let masks = (1..32).map(|mask| ADDRESS.with_mask(u5::new(mask)));
    let links = (1..4).map(|lbnx| ADDRESS.with_lbnx(u2::new(lbnx)));
    let controls = masks.chain(links).chain([ADDRESS.with_ssce(true), ADDRESS.with_bt2(true)]);
    cx.check_each(cx.shape().breakpoint_numbers().flat_map(|n| {
        controls.clone().flat_map(move |control| {
            [marker(HERE), marker(HERE) ^ 1 << 40]
                .map(|address| armed_at(n, address).write(dbgbcr(n), control).entered(BY_RETURN).exec(HERE))
        })
    }))
}

/// Each BT, each BAS and each HMC, SSC and PMC, loaded by KVM after an exit. KVM must load what the guest
/// wrote, even values that no debugger would write.
fn each_control_over_exit(cx: &mut Context<'_>) -> Result<(), Stop> {
    let types = (0..16).map(u4::new).filter(|bt| ![BT_CONTEXT, BT_CONTEXTIDR_EL1].contains(bt));
    let types = types.map(|bt| ADDRESS.with_bt(bt));
    let selects = (0..16).map(|bas| ADDRESS.with_bas(u4::new(bas)));
    let states = (0..32).map(|bits: u8| {
        let control = ADDRESS.with_hmc(bits & 16 != 0).with_ssc(u2::new(bits >> 2 & 3));
        control.with_pmc(u2::new(bits & 3))
    });
    let controls: Vec<_> = types.chain(selects).chain(states).collect();
    cx.check_each(cx.shape().breakpoint_numbers().flat_map(|n| {
        share_of(n, &controls).map(move |control| {
            let set = armed(n).write(dbgbcr(n), *control).exit().entered(BY_RETURN);
            set.each(LEVELS, |scenario, el| scenario.at(el).exec(HERE).exec(HERE + 1))
        })
    }))
}

/// A context-aware breakpoint that is linked to nothing fires at every instruction in its context.
fn unlinked_context(cx: &mut Context<'_>) -> Result<(), Stop> {
    cx.check_each(cx.shape().context_aware_numbers().flat_map(in_and_out_of_context))
}

/// A breakpoint that is not context-aware compares no context: it fires nowhere, or at an address, where the guest is not.
fn unlinked_context_not_supported(cx: &mut Context<'_>) -> Result<(), Stop> {
    let others = 0..cx.shape().context_aware_numbers().start;
    if others.is_empty() {
        return Stop::skip("each breakpoint is context-aware");
    }
    cx.check_each(others.flat_map(|n| in_and_out_of_context(n).map(|scenario| scenario.exec(HERE).nothing())))
}

/// Breakpoint `n` compares a context without a link, at each privilege, in its context and in two others.
fn in_and_out_of_context(n: u8) -> impl Iterator<Item = Scenario> {
    [BT_CONTEXT, BT_CONTEXTIDR_EL1].into_iter().flat_map(move |bt| {
        PRIVILEGES.into_iter().flat_map(move |pmc| {
            [CONTEXT, CONTEXT ^ 1, CONTEXT ^ 1 << 31].map(|context| {
                let set = Scenario::new().write(CONTEXTIDR_EL1, context);
                set.append(with_value(n, CONTEXT, ADDRESS.with_bt(bt).with_pmc(pmc)))
            })
        })
    })
}

/// A write just before a marker may or may not have an effect at the marker. After an ISB it has.
fn not_synchronised(cx: &mut Context<'_>) -> Result<(), Stop> {
    const MAY: Claim = Claim::May(&Claim::Breakpoint);
    let of = |n: u8| {
        let fires = |scenario: Scenario| scenario.exec(HERE).takes_breakpoint();
        let silent = |scenario: Scenario| scenario.exec(HERE).nothing();
        // At the marker, without an ISB before it.
        let early = |scenario: Scenario| scenario.then(Op::Exec { marker: HERE }).claim(MAY);
        let (on, off) = (ADDRESS, 0);
        let disabled = silent(armed(n).write(dbgbcr(n), off));
        // A Breakpoint exception, if it is taken, is a context synchronization event.
        let status = |scenario: Scenario| scenario.read(OSLSR_EL1);
        let moved = marker(HERE + 1);
        [
            silent(early(fires(armed(n)).write(dbgbcr(n), off))),
            fires(early(disabled.write(dbgbcr(n), on))),
            silent(early(fires(armed(n)).disable())),
            fires(early(silent(armed(n).disable()).enable(ON))),
            silent(status(early(fires(armed(n)).lock()))),
            fires(status(early(silent(armed(n).lock()).unlock()))),
            silent(early(fires(armed(n)).write(dbgbvr(n), moved))).exec(HERE + 1).takes_breakpoint(),
            // Two writes: one may have an effect without the other.
            silent(early(fires(armed(n)).write(dbgbvr(n), moved).write(dbgbcr(n), off))),
        ]
    };
    cx.check_each(cx.shape().breakpoint_numbers().flat_map(of))
}

/// A breakpoint on BRK is taken first. Its handler returns to the instruction after BRK, so that BRK is not
/// executed.
fn on_brk(cx: &mut Context<'_>) -> Result<(), Stop> {
    cx.check_each(cx.shape().breakpoint_numbers().flat_map(|n| {
        LEVELS.into_iter().flat_map(move |el| {
            let brk =
                |address| armed_at(n, address).write(dbgbcr(n), ADDRESS.with_pmc(PMC_EL1_EL0)).at(el).brk();
            [
                brk(BRK - 4).takes_brk(),
                brk(BRK).takes_breakpoint(),
                // On the RET.
                brk(BRK + 4).takes_brk().takes_breakpoint(),
            ]
        })
    }))
}

/// Each value of PMC at EL1, at EL0, and at EL1 again.
fn each_privilege(cx: &mut Context<'_>) -> Result<(), Stop> {
    for n in cx.shape().breakpoint_numbers() {
        for pmc in PRIVILEGES {
            let set = armed(n).write(dbgbcr(n), ADDRESS.with_pmc(pmc));
            cx.check(&set.exec(HERE).at(El::El0).exec(HERE).at(El::El1).exec(HERE))?;
        }
    }
    Ok(())
}

/// A breakpoint whose address differs in one bit from the marker's does not match there; with bit 2 it is on the
/// marker's RET. With a bit above 31 set it is an address that the guest does not map, which makes no difference to the
/// comparison.
fn each_address_bit(cx: &mut Context<'_>) -> Result<(), Stop> {
    let mut scenarios = Vec::new();
    for n in cx.shape().breakpoint_numbers() {
        scenarios.push(armed_at(n, marker(HERE) ^ 1 << 2).exec(HERE).takes_breakpoint());
        for bit in 3..49 {
            scenarios.push(armed_at(n, marker(HERE) ^ 1 << bit).exec(HERE).nothing());
        }
    }
    cx.check_each(scenarios)
}

/// Values of DBGBVR and DBGBCR that together set and clear each bit of an address.
const VALUES: [(u64, Dbgbcr); 4] = [
    (0, Dbgbcr::DEFAULT),
    (0x4001_0008, ADDRESS),
    (0x0000_5555_5555_5554, ADDRESS.with_e(false)),
    (0xffff_aaaa_aaaa_aaa8, ADDRESS.with_pmc(PMC_EL0)),
];

fn reads_back(n: u8) -> Scenario {
    Scenario::new().each(VALUES, |scenario, (value, control)| {
        let written = scenario.write(dbgbvr(n), value).write(dbgbcr(n), control).isb();
        written.read(dbgbvr(n)).reads(value).read(dbgbcr(n)).reads(control)
    })
}

/// Userspace and the guest read what userspace wrote: addresses, privileges, and a link to a context-aware
/// breakpoint.
fn written_by_userspace(cx: &mut Context<'_>) -> Result<(), Stop> {
    let shape = cx.shape();
    let linked = Dbgbcr::address_linked_to(u4::new(shape.breakpoints - 1)).with_e(false);
    for n in shape.breakpoint_numbers() {
        for (value, control) in VALUES.into_iter().chain([(0x4001_0008, linked)]) {
            let written = Scenario::new().breakpoint_at(n, value, control).by_userspace();
            let value_seen = written.userspace_reads(dbgbvr(n)).reads(value);
            let seen = value_seen.userspace_reads(dbgbcr(n)).reads(control);
            cx.check(&seen.read(dbgbvr(n)).reads(value).read(dbgbcr(n)).reads(control))?;
        }
    }
    Ok(())
}

/// A value that no other breakpoint has, and a control. Breakpoints with even numbers are enabled, at an
/// address that is not executed.
fn distinct(n: u8) -> (u64, Dbgbcr) {
    let control = ADDRESS.with_e(n.is_multiple_of(2)).with_pmc(if n.is_multiple_of(3) {
        PMC_EL0
    } else {
        ADDRESS.pmc()
    });
    (0x1234_5670_0000 + 0x1_0040 * u64::from(n), control)
}

/// Every breakpoint keeps its own value, whatever happens in between.
fn all(cx: &mut Context<'_>, between: fn(Scenario) -> Scenario) -> Result<(), Stop> {
    let numbers = || cx.shape().breakpoint_numbers();
    let written = Scenario::new().each(numbers(), |scenario, n| {
        let (value, control) = distinct(n);
        scenario.write(dbgbvr(n), value).write(dbgbcr(n), control)
    });
    let after = between(written.isb()).isb();
    let read = after.each(numbers().rev(), |scenario, n| {
        let (value, control) = distinct(n);
        scenario.read(dbgbvr(n)).reads(value).read(dbgbcr(n)).reads(control)
    });
    cx.check(&read.each(numbers(), |scenario, n| {
        let (value, control) = distinct(n);
        scenario.userspace_reads(dbgbvr(n)).reads(value).userspace_reads(dbgbcr(n)).reads(control)
    }))
}

/// Every breakpoint is set on its own marker and fires once there.
fn all_armed(cx: &mut Context<'_>, between: fn(Scenario) -> Scenario) -> Result<(), Stop> {
    let numbers = || cx.shape().breakpoint_numbers();
    let armed =
        Scenario::new().unmask().each(numbers(), |scenario, n| scenario.breakpoint(n, 2 * n, ADDRESS));
    let after = between(armed.enable(ON));
    cx.check(&after.each(numbers(), own_and_next))
}

/// Breakpoint `n`, which is on marker 2 * `n`, fires there and not at the next marker.
fn own_and_next(scenario: Scenario, n: u8) -> Scenario {
    scenario.exec(2 * n).takes_breakpoint().exec(2 * n + 1).nothing()
}

/// Userspace writes every breakpoint before the VM has run. Userspace and then the guest read them, and they
/// fire.
fn all_by_userspace(cx: &mut Context<'_>) -> Result<(), Stop> {
    let numbers = cx.shape().breakpoint_numbers();
    let armed =
        Scenario::new().unmask().each(numbers.clone(), |scenario, n| scenario.breakpoint(n, 2 * n, ADDRESS));
    let seen = armed.enable(ON).by_userspace().each(numbers.clone(), |scenario, n| {
        let value = scenario.userspace_reads(dbgbvr(n)).reads(marker(2 * n));
        value.userspace_reads(dbgbcr(n)).reads(ADDRESS)
    });
    let scenario = seen.each(numbers, |scenario, n| {
        let value = scenario.read(dbgbvr(n)).reads(marker(2 * n));
        own_and_next(value.read(dbgbcr(n)).reads(ADDRESS), n)
    });
    let mut guest = cx.new_guest()?;
    cx.check_on(&mut guest, &scenario)?;
    Ok(())
}
