// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Watchpoints: each watchpoint of the host watches the bytes, kinds of access and privileges that it is programmed
//! for, and keeps its value on every path through KVM to the hardware.

mod sve;

use crate::{
    forms::{each_watchpoint as each, whole},
    stage::{ADDRESS, BY_RETURN, DOUBLEWORD, LDR, LEVELS, ON, STR, WATCHED, watching, watching_with},
};
use arbitrary_int::{u2, u5};
use dfr0_model::{
    access::{self, Access, Kind},
    claim::Claim,
    control::{Dbgwcr, LSC_BOTH, LSC_LOAD, LSC_STORE, PMC_EL0, PMC_EL1, PMC_EL1_EL0},
    feature::Feature,
    rule,
    scenario::{El, Migrate, Op, Passage, Scenario},
    sequence::{self, Sequence},
    sysreg::{MDSCR_EL1, dbgbcr, dbgwcr, dbgwvr},
    wire::{
        MARKERS, PRIVILEGED, READ_ONLY, TARGET, TARGET_SIZE, UNMAPPED, access_code, passage, sequence_code,
    },
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    effort::share_of,
};
use std::ops::RangeInclusive;

/// An address on the same page that is not watched. QEMU 10 reports a load as a store if the previous hit was by a store
/// and no access to the page missed in between.
const ELSEWHERE: u64 = WATCHED + 0x200;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        each("fires", &rule::WATCHPOINT_MATCHES, |n| fires(watching(n))),
        each("disabled", &rule::WATCHPOINT_ENABLED, |n| {
            silent(watching(n).write(dbgwcr(n), DOUBLEWORD.with_e(false)))
        }),
        whole("each_access", &rule::WATCHPOINT_LSC, |cx| each_lsc(cx, is_plain)),
        whole("atomic_accesses", &rule::WATCHPOINT_LSC, |cx| each_lsc(cx, is_atomic)),
        whole("each_privilege", &rule::WATCHPOINT_PRIVILEGE, |cx| each_privilege(cx, is_plain)),
        whole("unprivileged_accesses", &rule::WATCHPOINT_PRIVILEGE, |cx| {
            each_privilege(cx, |access| access.unprivileged)
        }),
        whole("each_mask", &rule::WATCHPOINT_ADDRESS, each_mask),
        whole("sweep", &rule::WATCHPOINT_MATCHES, sweep).large(),
        whole("sweep_bytes", &rule::WATCHPOINT_ADDRESS, sweep_bytes).large(),
        whole("sweep_masks", &rule::WATCHPOINT_ADDRESS, sweep_masks).large(),
        whole("every_byte_select", &rule::WATCHPOINT_BAS_UNPREDICTABLE, every_byte_select),
        whole("words", &rule::WATCHPOINT_ADDRESS, words),
        whole("odd_masks", &rule::WATCHPOINT_MASK_UNPREDICTABLE, odd_masks),
        whole("each_state", &rule::STATE_UNPREDICTABLE, each_state),
        whole("bits_above_the_address", &rule::RESS, |cx| {
            let bits = |n| (48..64).map(move |bit| both(watching(n).write(dbgwvr(n), WATCHED ^ 1 << bit)));
            cx.check_each(numbers(cx).flat_map(bits))
        }),
        whole("each_control_over_exit", &rule::EXIT_KEEPS_STATE, each_control_over_exit),
        whole("fields_of_later_features", &rule::RES0_WITHOUT_FEATURE, fields_of_later_features),
        whole("reserved_lsc", &rule::WATCHPOINT_LSC, |cx| {
            cx.check_each(numbers(cx).map(|n| silent(watching_with(n, DOUBLEWORD.with_lsc(u2::new(0))))))
        }),
        whole("conditional_stores", &rule::WATCHPOINT_CONDITIONAL_STORE, |cx| {
            each_lsc(cx, |access| access.kind == Kind::StoreExclusive)
        }),
        whole("invalidate", &rule::WATCHPOINT_INVALIDATE, invalidate),
        whole("allocation_tags", &rule::WATCHPOINT_ALLOCATION_TAGS, |cx| {
            of_tags(cx, |access| access.is_of_tags() && access.kind != Kind::Block, 48)
        }),
        whole("allocation_tags_of_blocks", &rule::WATCHPOINT_ALLOCATION_TAGS, |cx| match cx.zva_block()? {
            Some(size) => of_tags(cx, |access| access.is_of_tags() && access.kind == Kind::Block, size),
            None => Stop::skip("DC GVA and DC GZVA are prohibited (DCZID_EL0.DZP)"),
        }),
        whole("store_exclusive_pair", &rule::WATCHPOINT_STORE_EXCLUSIVE, |cx| {
            // An exception of the load would lose the monitor each time.
            each_pair(cx, &["ldxr; stxr, until it is done"], &[LSC_STORE])
        }),
        whole("store_exclusive_lost", &rule::WATCHPOINT_CONDITIONAL_STORE, store_exclusive_lost),
        whole("unprivileged_with_uao", &rule::WATCHPOINT_UAO, with_uao),
        whole("memory_set", &rule::WATCHPOINT_MOVE, memory_set),
        whole("memory_set_of_pages", &rule::WATCHPOINT_MOVE, memory_set_of_pages),
        whole("memory_copy", &rule::WATCHPOINT_MOVE, memory_copy),
        whole("memory_copy_watched_on_both_sides", &rule::WATCHPOINT_MOVE, memory_copy_watched_on_both_sides),
        whole("tagged_addresses", &rule::WATCHPOINT_TAG, tagged_addresses),
        whole("after_a_fault", &rule::ABORT_FIRST, after_a_fault),
        whole("after_an_alignment_fault", &rule::ABORT_FIRST, after_an_alignment_fault),
        whole("after_a_stage_2_abort", &rule::WATCHPOINT_AFTER_TRANSLATION, after_a_stage_2_abort),
        whole("several_on_one_access", &rule::WATCHPOINT_SYNDROME, several_on_one_access),
        whole("not_synchronised", &rule::CONTEXT_SYNCHRONIZATION, not_synchronised),
        whole("after_a_breakpoint", &rule::PRIORITY, after_a_breakpoint),
        whole("each_address_bit", &rule::WATCHPOINT_ADDRESS, each_address_bit),
        whole("reads_back_all", &rule::REGISTERS_READ_BACK, |cx| all(cx, |scenario| scenario)),
        whole("reads_back_all_after_exit", &rule::EXIT_KEEPS_STATE, |cx| all(cx, Scenario::exit)),
        whole("reads_back_all_enabled_after_exit", &rule::EXIT_KEEPS_STATE, |cx| {
            all(cx, |scenario| scenario.enable(ON).exit())
        }),
        whole("all_armed", &rule::WATCHPOINT_MATCHES, |cx| all_armed(cx, |scenario| scenario)),
        whole("all_armed_after_exit", &rule::EXIT_KEEPS_STATE, |cx| all_armed(cx, Scenario::exit)),
        each("fires_after_exit", &rule::EXIT_KEEPS_STATE, |n| {
            let once = fires(watching(n).exit());
            fires(once.exit())
        }),
        each("enabled_after_exit", &rule::EXIT_KEEPS_STATE, |n| {
            fires(watching(n).disable().exit().enable(ON))
        }),
        each("enabled_last_after_exit", &rule::EXIT_KEEPS_STATE, |n| {
            let off = watching(n).write(dbgwcr(n), 0).exit();
            fires(off.write(dbgwcr(n), DOUBLEWORD))
        }),
        each("armed_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, |n| {
            let value = fires(watching(n).by_userspace()).read(dbgwvr(n)).reads(WATCHED);
            value.read(dbgwcr(n)).reads(DOUBLEWORD).read(MDSCR_EL1).reads(ON)
        }),
        each("seen_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, |n| {
            let value = fires(watching(n)).userspace_reads(dbgwvr(n)).reads(WATCHED);
            value.userspace_reads(dbgwcr(n)).reads(DOUBLEWORD).userspace_reads(MDSCR_EL1).reads(ON)
        }),
        whole("written_by_userspace", &rule::ONE_REG_IS_THE_REGISTER, written_by_userspace),
    ];
    cases.extend(sve::cases());
    cases
}

fn numbers(cx: &Context<'_>) -> std::ops::Range<u8> {
    0..cx.shape().watchpoints
}

/// A load and a store of what is watched.
fn both(scenario: Scenario) -> Scenario {
    scenario.load(ELSEWHERE).load(WATCHED).store(WATCHED)
}

/// The watchpoint fires at a load and at a store.
fn fires(scenario: Scenario) -> Scenario {
    scenario.load(ELSEWHERE).load_and_store(WATCHED, Claim::Watchpoint)
}

/// The watchpoint fires neither at a load nor at a store.
fn silent(scenario: Scenario) -> Scenario {
    scenario.load(ELSEWHERE).load_and_store(WATCHED, Claim::Nothing)
}

/// Accesses that are neither atomic nor unprivileged nor DC IVAC nor of Allocation Tags, which have their own rules.
fn is_plain(access: &Access) -> bool {
    !is_atomic(access) && !access.unprivileged && access.kind != Kind::Invalidate && !access.is_of_tags()
}

/// Accesses that both read and write.
fn is_atomic(access: &Access) -> bool {
    matches!(access.kind, Kind::Atomic | Kind::CompareAndSwap)
}

/// The accesses of some kind that this host's guests can do.
fn accesses(cx: &mut Context<'_>, which: fn(&Access) -> bool) -> Result<Vec<&'static Access>, Stop> {
    let zva = cx.zva_block()?.is_some();
    let (mut accesses, mut missing) = (Vec::new(), None);
    for access in access::TABLE.iter().filter(|access| which(access)) {
        match access.needs {
            Some(feature) if !cx.has(feature)? => missing = Some(feature),
            _ if access.kind == Kind::Block && !zva => {}
            _ => accesses.push(access),
        }
    }
    match missing {
        Some(feature) if accesses.is_empty() => Stop::skip(format!("the guest does not have {feature}")),
        _ => Ok(accesses),
    }
}

/// Each access with each LSC.
fn each_lsc(cx: &mut Context<'_>, which: fn(&Access) -> bool) -> Result<(), Stop> {
    let mut scenarios = Vec::new();
    for access in accesses(cx, which)? {
        for n in numbers(cx) {
            for lsc in [LSC_LOAD, LSC_STORE, LSC_BOTH] {
                scenarios.push(watching_with(n, DOUBLEWORD.with_lsc(lsc)).access(access, WATCHED));
            }
        }
    }
    cx.check_each(scenarios)
}

/// Each PAC at each Exception level.
fn each_privilege(cx: &mut Context<'_>, which: fn(&Access) -> bool) -> Result<(), Stop> {
    let mut scenarios = Vec::new();
    for access in accesses(cx, which)? {
        for n in numbers(cx) {
            for pac in [PMC_EL1, PMC_EL0, PMC_EL1_EL0] {
                let set = watching_with(n, DOUBLEWORD.with_pac(pac)).access(access, WATCHED);
                scenarios.push(set.at(El::El0).access(access, WATCHED).at(El::El1).access(access, WATCHED));
            }
        }
    }
    cx.check_each(scenarios)
}

/// Each watchpoint with each privilege and direction, enabled or not, at each Exception level, with each of the bits that
/// mask it; the OS Lock, whose writes trap, with number 0 alone.
fn sweep(cx: &mut Context<'_>) -> Result<(), Stop> {
    let accesses = [LDR, STR, Access::named("ldrb w1"), Access::named("stp x1, x2")];
    let privileges = [PMC_EL1, PMC_EL0, PMC_EL1_EL0];
    cx.check_each(numbers(cx).flat_map(|n| {
        privileges.into_iter().flat_map(move |pac| {
            [LSC_LOAD, LSC_STORE, LSC_BOTH].into_iter().flat_map(move |lsc| {
                accesses.into_iter().flat_map(move |access| {
                    (0..if n == 0 { 64 } else { 32 }).map(move |bits: u8| {
                        let bit = |k: u8| bits >> k & 1 == 1;
                        let control = DOUBLEWORD.with_pac(pac).with_lsc(lsc).with_e(bit(0));
                        let set = Scenario::new().pstate_d(bit(1)).watchpoint(n, WATCHED, control);
                        let set = set.enable(ON.with_mde(bit(2)).with_kde(bit(3)));
                        let set = if bit(5) { set.lock() } else { set };
                        set.at(if bit(4) { El::El0 } else { El::El1 }).access(access, WATCHED)
                    })
                })
            })
        })
    }))
}

/// Each access, at both Exception levels, at each byte before, in and after each run of watched bytes, for loads, stores
/// and both; the watchpoints take turns.
fn sweep_bytes(cx: &mut Context<'_>) -> Result<(), Stop> {
    let accesses = accesses(cx, |access| is_plain(access) && access.kind != Kind::Prefetch)?;
    let mut turns = numbers(cx).cycle();
    let runs = (0..8).flat_map(|first| (1..=8 - first).map(move |len| (((1_u16 << len) - 1) << first) as u8));
    let controls = runs
        .flat_map(|bas| [LSC_LOAD, LSC_STORE, LSC_BOTH].map(|lsc| DOUBLEWORD.with_bas(bas).with_lsc(lsc)));
    cx.check_each(
        controls
            .flat_map(|control| {
                accesses.iter().flat_map(move |access| {
                    addresses_around(access)
                        .flat_map(move |address| LEVELS.map(|el| (control, *access, address, el)))
                })
            })
            .zip(&mut turns)
            .map(|((control, access, address, el), n)| {
                watching_with(n, control).at(el).access(access, address)
            }),
    )
}

/// Each access, at both Exception levels, around both ends of each block of up to 128 bytes and of each run of bytes in a
/// word; the watchpoints take turns.
fn sweep_masks(cx: &mut Context<'_>) -> Result<(), Stop> {
    let accesses = accesses(cx, |access| is_plain(access) && access.kind != Kind::Prefetch)?;
    let mut turns = numbers(cx).cycle();
    let blocks = (3..8).map(|mask| (WATCHED, 1 << mask, DOUBLEWORD.with_mask(u5::new(mask))));
    let runs = (0..4).flat_map(|first| (1..=4 - first).map(move |len| ((1_u8 << len) - 1) << first));
    let words = runs.map(|bas| (WATCHED + 4, 4, DOUBLEWORD.with_bas(bas)));
    let controls = blocks.chain(words).flat_map(|(start, size, control)| {
        [LSC_LOAD, LSC_STORE, LSC_BOTH].map(|lsc| (start, size, control.with_lsc(lsc)))
    });
    cx.check_each(
        controls
            .flat_map(|(start, size, control)| {
                accesses.iter().flat_map(move |access| {
                    let step = if access.aligned { u64::from(access.size) } else { 1 };
                    let ends = [start & !(step - 1), start + size];
                    let around = ends.into_iter().flat_map(move |end| {
                        let before = end.saturating_sub(u64::from(access.size.max(1)).next_multiple_of(step));
                        [before, before + step, end.saturating_sub(step), end, end + step]
                    });
                    around
                        .filter(move |address| address.is_multiple_of(step))
                        .flat_map(move |address| LEVELS.map(|el| (start, control, *access, address, el)))
                })
            })
            .zip(&mut turns)
            .map(|((start, control, access, address, el), n)| {
                watching_with(n, control).write(dbgwvr(n), start).at(el).access(access, address)
            }),
    )
}

/// The addresses at which an access touches the doubleword [`WATCHED`], and one step beyond on both sides.
fn addresses_around(access: &Access) -> impl Iterator<Item = u64> + use<> {
    let size = u64::from(access.size.max(1));
    let step = if access.aligned { size } else { 1 };
    (WATCHED - size.max(step)..=WATCHED + 8).step_by(step as usize)
}

/// Each block that MASK can watch, with accesses around its ends where these lie in the target memory.
///
/// Each access is a scenario of its own: QEMU 10 keeps the direction of a hit that spans two pages for the next hit,
/// until the watchpoint is written again.
fn each_mask(cx: &mut Context<'_>) -> Result<(), Stop> {
    let mut scenarios = Vec::new();
    let target = TARGET..TARGET + TARGET_SIZE;
    let inside = |address: &u64| target.contains(address) && target.contains(&(address + 15));
    for n in numbers(cx) {
        for mask in 3..=31 {
            let size = 1_u64 << mask;
            let start = WATCHED & !(size - 1);
            let set =
                Scenario::new().unmask().watchpoint(n, start, DOUBLEWORD.with_mask(u5::new(mask))).enable(ON);
            let edges = [start.wrapping_sub(8), start.wrapping_sub(4), start, start + size - 8, start + size];
            let around =
                edges.into_iter().filter(inside).flat_map(|address| [(LDR, address), (STR, address + 1)]);
            let fixed =
                [(Access::named("ldrb w1"), WATCHED), (Access::named("st1 {v0.16b-v3.16b}"), WATCHED - 64)];
            for (access, address) in around.chain(fixed) {
                scenarios.push(set.clone().access(access, address));
            }
        }
    }
    cx.check_each(scenarios)
}

/// Every BAS for number 0; the others take turns.
fn every_bas(n: u8) -> impl Iterator<Item = u8> {
    share_of(n, 0..=u8::MAX)
}

/// Every BAS, with an access of each byte of the doubleword and of its neighbours, and of all. One run of set bits watches
/// just its bytes.
fn every_byte_select(cx: &mut Context<'_>) -> Result<(), Stop> {
    let byte = Access::named("ldrb w1");
    cx.check_each(numbers(cx).flat_map(|n| {
        every_bas(n).map(move |bas| {
            let control = DOUBLEWORD.with_bas(bas);
            let set = watching_with(n, control).load(WATCHED);
            let bytes = set.each(WATCHED - 1..=WATCHED + 8, |scenario, address| {
                let accessed = scenario.access(byte, address);
                let is_selected = (WATCHED..WATCHED + 8).contains(&address) && bas >> (address % 8) & 1 == 1;
                if !control.bas_is_one_run() {
                    accessed
                } else if is_selected {
                    accessed.takes_watchpoint()
                } else {
                    accessed.nothing()
                }
            });
            bytes.store(WATCHED - 4)
        })
    }))
}

/// DBGWVR names the upper word of a doubleword: BAS[3:0] are its bytes.
fn words(cx: &mut Context<'_>) -> Result<(), Stop> {
    let byte = Access::named("ldrb w1");
    cx.check_each(numbers(cx).flat_map(|n| {
        every_bas(n).map(move |bas| {
            let set = watching_with(n, DOUBLEWORD.with_bas(bas)).write(dbgwvr(n), WATCHED + 4).load(WATCHED);
            (WATCHED - 1..=WATCHED + 8).fold(set, |scenario, address| scenario.access(byte, address))
        })
    }))
}

/// MASK in reserved combinations: the watchpoint may watch its block or not, and watches nothing else.
fn odd_masks(cx: &mut Context<'_>) -> Result<(), Stop> {
    let byte = Access::named("strb w1");
    cx.check_each(numbers(cx).flat_map(|n| {
        let reserved = [1, 2].map(|mask| (WATCHED, DOUBLEWORD.with_mask(u5::new(mask))));
        let selected = (3..8).flat_map(|mask| {
            [0, 1, 0x0f, 0xaa].map(|bas| (WATCHED, DOUBLEWORD.with_mask(u5::new(mask)).with_bas(bas)))
        });
        let masked = (4..8).map(|mask| (WATCHED + 8, DOUBLEWORD.with_mask(u5::new(mask))));
        let all: Vec<_> = reserved.into_iter().chain(selected).chain(masked).collect();
        all.into_iter().map(move |(address, control)| {
            let set = watching_with(n, control).write(dbgwvr(n), address);
            let at =
                [WATCHED - 1, WATCHED, WATCHED + 7, WATCHED + 8, WATCHED + 127, WATCHED + 128, WATCHED + 256];
            at.into_iter().fold(set, |scenario, address| scenario.access(byte, address)).read(dbgwcr(n))
        })
    }))
}

/// Each HMC, SSC and PAC, at both Exception levels.
fn each_state(cx: &mut Context<'_>) -> Result<(), Stop> {
    cx.check_each(numbers(cx).flat_map(|n| {
        (0..32).map(move |bits: u8| {
            let control = DOUBLEWORD.with_hmc(bits & 16 != 0).with_ssc(u2::new(bits >> 2 & 3));
            let set = watching_with(n, control.with_pac(u2::new(bits & 3)));
            both(both(set).at(El::El0)).read(dbgwcr(n))
        })
    }))
}

/// Fields that are RES0 without a later feature: hardware without the feature ignores them, hardware with it may not.
fn fields_of_later_features(cx: &mut Context<'_>) -> Result<(), Stop> {
    let links = (1..4).map(|lbnx| DOUBLEWORD.with_lbnx(u2::new(lbnx)));
    let controls = links.chain([DOUBLEWORD.with_ssce(true), DOUBLEWORD.with_wt2(true)]);
    cx.check_each(
        numbers(cx).flat_map(|n| controls.clone().map(move |control| both(watching_with(n, control)))),
    )
}

/// Each BAS of a doubleword and of its upper word, each MASK and each HMC, SSC and PAC, loaded by KVM after an exit: KVM
/// loads what the guest wrote, also values that no debugger would write.
fn each_control_over_exit(cx: &mut Context<'_>) -> Result<(), Stop> {
    let selects =
        (0..=u8::MAX).flat_map(|bas| [WATCHED, WATCHED + 4].map(|at| (at, DOUBLEWORD.with_bas(bas))));
    let masks = (0..32).map(|mask| (WATCHED & u64::MAX << mask, DOUBLEWORD.with_mask(u5::new(mask))));
    let states = (0..32).map(|bits: u8| {
        let control = DOUBLEWORD.with_hmc(bits & 16 != 0).with_ssc(u2::new(bits >> 2 & 3));
        (WATCHED, control.with_pac(u2::new(bits & 3)))
    });
    let controls: Vec<_> = selects.chain(masks).chain(states).collect();
    let byte = Access::named("ldrb w1");
    cx.check_each(numbers(cx).flat_map(|n| {
        share_of(n, &controls).map(move |(at, control)| {
            let set = watching_with(n, *control).write(dbgwvr(n), *at).exit();
            // The last is watched if MASK says so.
            let bytes = (WATCHED..=WATCHED + 8).fold(set, |scenario, address| scenario.access(byte, address));
            bytes.at(El::El0).store(WATCHED)
        })
    }))
}

/// Pieces of code with a Load-Exclusive and a Store-Exclusive, with each of these LSC, at both Exception levels.
fn pairs(
    n: u8,
    names: &'static [&str],
    lscs: &'static [u2],
) -> impl Iterator<Item = (&'static Sequence, Scenario)> {
    sequence::TABLE.iter().filter(|piece| names.contains(&piece.name)).flat_map(move |piece| {
        lscs.iter().flat_map(move |lsc| {
            let set = watching_with(n, DOUBLEWORD.with_lsc(*lsc)).entered(BY_RETURN);
            LEVELS.map(|el| (piece, set.clone().at(el)))
        })
    })
}

fn each_pair(cx: &mut Context<'_>, names: &'static [&str], lscs: &'static [u2]) -> Result<(), Stop> {
    cx.check_each(numbers(cx).flat_map(|n| {
        pairs(n, names, lscs)
            .flat_map(|(piece, set)| [set.clone().run(piece, WATCHED), set.run(piece, WATCHED + 8)])
    }))
}

/// The monitor is cleared by CLREX, or by the return from an exception between the two.
fn store_exclusive_lost(cx: &mut Context<'_>) -> Result<(), Stop> {
    /// Of `ldxr; nop; stxr`, which starts with a MOV.
    const NOP: u64 = 8;
    const LSCS: &[u2] = &[LSC_LOAD, LSC_STORE, LSC_BOTH];
    each_pair(cx, &["ldxr; nop; stxr", "ldxr; clrex; stxr"], LSCS)?;
    let between = ADDRESS.with_pmc(PMC_EL1_EL0);
    let breakpoints = cx.shape().breakpoints;
    cx.check_each(numbers(cx).flat_map(|n| {
        pairs(n, &["ldxr; nop; stxr"], LSCS).map(move |(piece, set)| {
            set.breakpoint_at(n % breakpoints, sequence_code(piece) + NOP, between).run(piece, WATCHED)
        })
    }))
}

/// DC IVAC of the watched line and of others.
fn invalidate(cx: &mut Context<'_>) -> Result<(), Stop> {
    let invalidate = Access::named("dc ivac");
    cx.check_each(numbers(cx).flat_map(|n| {
        [LSC_LOAD, LSC_STORE, LSC_BOTH].map(|lsc| {
            let around = [WATCHED, WATCHED + 7, WATCHED + 0x7ff, WATCHED - 1, WATCHED + 0x800];
            around.into_iter().fold(watching_with(n, DOUBLEWORD.with_lsc(lsc)), |set, address| {
                set.access(invalidate, address)
            })
        })
    }))
}

/// Accesses to Allocation Tags, with each byte watched from 32 bytes before them to `size` after them, for each kind of
/// access; the watchpoints take turns.
fn of_tags(cx: &mut Context<'_>, which: fn(&Access) -> bool, size: u64) -> Result<(), Stop> {
    cx.with(Feature::Mte2)?;
    let accesses = accesses(cx, which)?;
    let bytes = (WATCHED - 32..WATCHED + size + 16).flat_map(|byte| LEVELS.map(|el| (byte, el)));
    let sweep = bytes.flat_map(|(byte, el)| {
        accesses
            .iter()
            .flat_map(move |access| [LSC_LOAD, LSC_STORE, LSC_BOTH].map(|lsc| (byte, el, *access, lsc)))
    });
    cx.check_each(sweep.zip(numbers(cx).cycle()).map(|((byte, el, access, lsc), n)| {
        let control = DOUBLEWORD.with_bas(1 << (byte % 8)).with_lsc(lsc);
        // The second address is in the granule and does not start it: a store is not aligned.
        let set = watching_with(n, control).write(dbgwvr(n), byte & !7).at(el);
        set.access(access, WATCHED).access(access, WATCHED + 8)
    }))
}

/// An unprivileged access with each PAC, at both Exception levels.
fn with_uao(cx: &mut Context<'_>) -> Result<(), Stop> {
    cx.needs(Feature::Uao)?;
    cx.check_each(numbers(cx).flat_map(|n| {
        sequence::TABLE.iter().filter(|piece| piece.needs == Some(Feature::Uao)).flat_map(move |piece| {
            [PMC_EL1, PMC_EL0, PMC_EL1_EL0].into_iter().flat_map(move |pac| {
                LEVELS.map(|el| {
                    let set = watching_with(n, DOUBLEWORD.with_pac(pac)).at(el).entered(BY_RETURN);
                    set.run(piece, WATCHED).run(piece, WATCHED + 8)
                })
            })
        })
    }))
}

/// The 64 bytes that a piece of code sets or copies: in one page, and with the page's end in its middle.
const MOVED: [u64; 2] = [TARGET + 0x100, WATCHED - 32];
/// Each doubleword of it, and its neighbours.
const OFFSETS: RangeInclusive<i64> = -8..=64;
const CLEAR: &Sequence = Sequence::named("set 64 bytes to zeros");
const FILL: &Sequence = Sequence::named("set 64 bytes to ones");
const FILL_PAGES: &Sequence = Sequence::named("set 8 KiB to ones");
const COPIES: [&Sequence; 2] = [Sequence::named("copy 64 bytes"), Sequence::named("copy 64 bytes forwards")];

/// Each LSC at each Exception level, and at the other one, which PAC does not select.
fn each_watch() -> impl Iterator<Item = (El, Dbgwcr)> {
    let watched = LEVELS.into_iter().flat_map(|el| {
        let pac = if el == El::El0 { PMC_EL0 } else { PMC_EL1 };
        [LSC_LOAD, LSC_STORE, LSC_BOTH].map(|lsc| (el, DOUBLEWORD.with_lsc(lsc).with_pac(pac)))
    });
    watched.chain([(El::El0, DOUBLEWORD.with_pac(PMC_EL1)), (El::El1, DOUBLEWORD.with_pac(PMC_EL0))])
}

/// Watchpoint `n` at `el`, with pieces of code that an exception return enters, and nothing enabled.
fn set_aside(n: u8, el: El, address: u64, control: Dbgwcr) -> Scenario {
    Scenario::new().unmask().watchpoint(n, address, control).entered(BY_RETURN).at(el)
}

/// Memory is set to zeros, and then to ones, with each doubleword watched; the watchpoints take turns.
fn memory_set(cx: &mut Context<'_>) -> Result<(), Stop> {
    cx.needs(Feature::Mops)?;
    let mut turns = numbers(cx).cycle();
    let all = MOVED.into_iter().flat_map(|start| {
        each_watch().flat_map(move |watch| {
            OFFSETS.step_by(8).map(move |offset| (start, start.wrapping_add_signed(offset), watch))
        })
    });
    cx.check_each(all.zip(&mut turns).map(|((start, watched, (el, control)), n)| {
        let zeros = set_aside(n, el, watched, control).enable(ON).run(CLEAR, start);
        zeros.enable(ON).run(FILL, start).read(MDSCR_EL1)
    }))
}

/// Two pages are set, of which the second must be set by the second or third of the three instructions.
fn memory_set_of_pages(cx: &mut Context<'_>) -> Result<(), Stop> {
    cx.needs(Feature::Mops)?;
    let offsets = [0, 0x800, 0xff8, 0x1000, 0x1800, 0x1ff8];
    cx.check_each(numbers(cx).flat_map(|n| {
        each_watch().flat_map(move |(el, control)| {
            offsets.map(|offset| {
                let cleared = set_aside(n, el, TARGET + offset, control).run(CLEAR, TARGET + 0x1fc0);
                cleared.enable(ON).run(FILL_PAGES, TARGET)
            })
        })
    }))
}

/// Memory that was cleared is copied over, with each doubleword of the source and of the destination watched; the
/// watchpoints take turns.
fn memory_copy(cx: &mut Context<'_>) -> Result<(), Stop> {
    cx.needs(Feature::Mops)?;
    let mut turns = numbers(cx).cycle();
    let all = MOVED.into_iter().flat_map(|start| {
        COPIES.into_iter().flat_map(move |copy| {
            each_watch().flat_map(move |watch| {
                OFFSETS.step_by(8).flat_map(move |offset| {
                    [start, MARKERS].map(|side| (copy, start, side.wrapping_add_signed(offset), watch))
                })
            })
        })
    });
    cx.check_each(all.zip(&mut turns).map(|((copy, start, watched, (el, control)), n)| {
        set_aside(n, el, watched, control).run(CLEAR, start).enable(ON).run(copy, start)
    }))
}

/// The source is watched for loads and the destination for stores: either may be met first, and of both kinds of
/// watchpoint, reading and writing, each reports its own side.
fn memory_copy_watched_on_both_sides(cx: &mut Context<'_>) -> Result<(), Stop> {
    cx.needs(Feature::Mops)?;
    let all = numbers(cx);
    cx.check_each(all.clone().flat_map(|n| {
        let other = (n + 1) % all.end;
        COPIES.into_iter().flat_map(move |copy| {
            [(El::El0, MOVED[0]), (El::El1, MOVED[0]), (El::El0, MOVED[1]), (El::El1, MOVED[1])].map(
                |(el, start)| {
                    let source = set_aside(n, el, MARKERS + 24, DOUBLEWORD.with_lsc(LSC_LOAD));
                    let both = source.watchpoint(other, start + 40, DOUBLEWORD.with_lsc(LSC_STORE));
                    both.run(CLEAR, start).enable(ON).run(copy, start)
                },
            )
        })
    }))
}

/// The tag of an address is not compared, but is reported.
fn tagged_addresses(cx: &mut Context<'_>) -> Result<(), Stop> {
    const TAGS: [u64; 4] = [0x01 << 56, 0x80 << 56, 0x5a << 56, 0xff << 56];
    let accesses = accesses(cx, |access| is_plain(access) && access.kind != Kind::Prefetch)?;
    cx.check_each(numbers(cx).flat_map(|n| {
        accesses.iter().flat_map(move |access| {
            LEVELS.into_iter().flat_map(move |el| {
                let tagged = TAGS.map(|tag| watching(n).at(el).access(access, tag | WATCHED));
                tagged.into_iter().chain([watching(n).at(el).access(access, TAGS[2] | ELSEWHERE)])
            })
        })
    }))
}

/// The watched bytes lie in a page that stage 1 does not map, maps read-only, or maps for EL1 alone.
fn after_a_fault(cx: &mut Context<'_>) -> Result<(), Stop> {
    let accesses = accesses(cx, |access| {
        is_plain(access) && access.kind != Kind::StoreExclusive || access.unprivileged
    })?;
    let mut scenarios = Vec::new();
    for n in numbers(cx) {
        for page in [UNMAPPED, READ_ONLY, PRIVILEGED] {
            // Unprivileged accesses that do not fault have their own case.
            let faults = |access: &Access| {
                !access.unprivileged || page == UNMAPPED || page == READ_ONLY && access.writes()
            };
            for access in accesses.iter().filter(|access| faults(access)) {
                for el in LEVELS {
                    let set = watching(n).write(dbgwvr(n), page + 0x40).at(el);
                    scenarios.push(set.access(access, page + 0x40).access(access, page + 0x80));
                }
            }
        }
    }
    cx.check_each(scenarios)
}

/// An ordered access that is not aligned, and crosses a block of sixteen bytes, so that it faults with every feature.
fn after_an_alignment_fault(cx: &mut Context<'_>) -> Result<(), Stop> {
    let is_ordered = |access: &Access| {
        access.aligned && !access.load_exclusive && matches!(access.kind, Kind::Load | Kind::Store)
    };
    let accesses = accesses(cx, is_ordered)?;
    cx.check_each(numbers(cx).flat_map(|n| {
        accesses.iter().flat_map(move |access| {
            LEVELS.map(|el| {
                let set = watching(n).write(dbgwvr(n), WATCHED + 0x10).at(el);
                set.access(access, WATCHED + 0xc).access(access, WATCHED + 0x10)
            })
        })
    }))
}

/// A store to an address without memory, during which userspace moves the vCPU.
fn after_a_stage_2_abort(cx: &mut Context<'_>) -> Result<(), Stop> {
    if cx.host().is_bare() {
        return Stop::skip("needs KVM, and this is a bare CPU");
    }
    cx.check_each(numbers(cx).map(|n| {
        let address = passage(Passage::Migrate(Migrate::Fresh));
        let moved = watching(n).write(dbgwvr(n), address).store(address).may(&Claim::Watchpoint);
        fires(moved.write(dbgwvr(n), WATCHED))
    }))
}

/// Two watchpoints on the bytes of one access: either may be the one that is reported.
fn several_on_one_access(cx: &mut Context<'_>) -> Result<(), Stop> {
    let store = Access::named("stp x1, x2");
    let all = numbers(cx);
    cx.check_each(all.clone().flat_map(|n| {
        all.clone().filter(move |other| *other != n).flat_map(move |other| {
            [LSC_LOAD, LSC_STORE, LSC_BOTH].map(|lsc| {
                let low = watching_with(n, DOUBLEWORD.with_bas(0x0c));
                let set = low.watchpoint(other, WATCHED + 8, DOUBLEWORD.with_bas(0x30).with_lsc(lsc));
                set.access(Access::named("ldp x1, x2"), WATCHED).load(WATCHED + 8).access(store, WATCHED)
            })
        })
    }))
}

/// A register write just before an access may take effect there or not; after an ISB it does.
fn not_synchronised(cx: &mut Context<'_>) -> Result<(), Stop> {
    const MAY: Claim = Claim::May(&Claim::Watchpoint);
    cx.check_each(numbers(cx).flat_map(|n| {
        let fires = |scenario: Scenario| scenario.load(WATCHED).takes_watchpoint();
        let silent = |scenario: Scenario| scenario.load(WATCHED).nothing();
        // An access without an ISB before it.
        let early =
            |scenario: Scenario| scenario.then(Op::Access { access: LDR, address: WATCHED }).claim(MAY);
        [
            silent(early(fires(watching(n)).write(dbgwcr(n), 0))),
            fires(early(watching(n).write(dbgwcr(n), 0).write(dbgwcr(n), DOUBLEWORD))),
            silent(early(fires(watching(n)).disable())),
            silent(early(fires(watching(n)).lock())),
            silent(early(fires(watching(n)).write(dbgwvr(n), WATCHED + 8)))
                .load(WATCHED + 8)
                .takes_watchpoint(),
        ]
    }))
}

/// A breakpoint on the instruction that does a watched access: its exception is taken, and the access is not done.
fn after_a_breakpoint(cx: &mut Context<'_>) -> Result<(), Stop> {
    let control = ADDRESS.with_pmc(PMC_EL1_EL0);
    let breakpoints = cx.shape().breakpoints;
    cx.check_each(numbers(cx).flat_map(|n| {
        LEVELS.into_iter().flat_map(move |el| {
            [access_code(STR), access_code(STR) + 4, access_code(LDR)].map(|address| {
                let set = watching(n).at(el).breakpoint_at(n % breakpoints, address, control);
                both(both(set).write(dbgbcr(n % breakpoints), 0))
            })
        })
    }))
}

/// An address that differs from the watched one in one bit is another address.
fn each_address_bit(cx: &mut Context<'_>) -> Result<(), Stop> {
    let mut scenarios = Vec::new();
    for n in numbers(cx) {
        for bit in 3..49 {
            scenarios.push(silent(watching(n).write(dbgwvr(n), WATCHED ^ 1 << bit)));
        }
    }
    cx.check_each(scenarios)
}

/// A value and a control that no other watchpoint has; even ones are enabled, at an address that nobody accesses.
fn distinct(n: u8) -> (u64, Dbgwcr) {
    let control = DOUBLEWORD
        .with_e(n.is_multiple_of(2))
        .with_bas(1 << (n % 8))
        .with_lsc(if n.is_multiple_of(3) { LSC_LOAD } else { LSC_STORE })
        .with_pac(if n.is_multiple_of(5) { PMC_EL0 } else { PMC_EL1 });
    (0x1234_5670_0000 + 0x1_0040 * u64::from(n), control)
}

/// Every watchpoint keeps its own value, whatever happens in between.
fn all(cx: &mut Context<'_>, between: fn(Scenario) -> Scenario) -> Result<(), Stop> {
    let written = Scenario::new().each(numbers(cx), |scenario, n| {
        let (value, control) = distinct(n);
        scenario.write(dbgwvr(n), value).write(dbgwcr(n), control)
    });
    let after = between(written.isb()).isb();
    let read = after.each(numbers(cx).rev(), |scenario, n| {
        let (value, control) = distinct(n);
        scenario.read(dbgwvr(n)).reads(value).read(dbgwcr(n)).reads(control)
    });
    cx.check(&read.each(numbers(cx), |scenario, n| {
        let (value, control) = distinct(n);
        scenario.userspace_reads(dbgwvr(n)).reads(value).userspace_reads(dbgwcr(n)).reads(control)
    }))
}

/// Every watchpoint has its own doubleword; each fires, and accesses between them do not.
fn all_armed(cx: &mut Context<'_>, between: fn(Scenario) -> Scenario) -> Result<(), Stop> {
    let place = |n: u8| TARGET + 64 * u64::from(n);
    let armed = Scenario::new()
        .unmask()
        .each(numbers(cx), |scenario, n| scenario.watchpoint(n, place(n), DOUBLEWORD));
    let after = between(armed.enable(ON));
    cx.check(&after.each(numbers(cx), |scenario, n| {
        scenario.load_and_store(place(n), Claim::Watchpoint).store(place(n) + 8).nothing()
    }))
}

/// Userspace and the guest read what userspace wrote.
fn written_by_userspace(cx: &mut Context<'_>) -> Result<(), Stop> {
    let values = [
        (0x0000_5555_5555_5550, DOUBLEWORD.with_e(false).with_mask(u5::new(0b10101))),
        (0xffff_aaaa_aaaa_aaa8, DOUBLEWORD.with_bas(0xf0)),
        (WATCHED, DOUBLEWORD.with_lsc(LSC_LOAD).with_pac(PMC_EL0)),
    ];
    for n in numbers(cx) {
        for (value, control) in values {
            let written = Scenario::new().watchpoint(n, value, control).by_userspace();
            let value_seen = written.userspace_reads(dbgwvr(n)).reads(value);
            let seen = value_seen.userspace_reads(dbgwcr(n)).reads(control);
            cx.check(&seen.read(dbgwvr(n)).reads(value).read(dbgwcr(n)).reads(control))?;
        }
    }
    Ok(())
}
