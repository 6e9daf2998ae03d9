// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The payload: entry, vectors, register table and memory around the interpreter.
//!
//! It runs at EL1 with SP_EL1, interrupts and debug exceptions masked, and VA = IPA; `entry.s` says what must
//! be set up before it starts. Exceptions are expected in the markers, the memory accesses and the register
//! table; there the handler logs the exception and skips the instruction. A Memory Copy or Memory Set
//! instruction, which continues where it was interrupted, is not skipped: the handler clears MDSCR_EL1.MDE and
//! returns to it. After an exception anywhere else the guest is lost, and rings the bell for it.

#![no_std]
#![no_main]

use core::{
    arch::{asm, global_asm},
    hint::spin_loop,
    panic::PanicInfo,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed},
    },
};
use dfr0_model::{
    access::{self, ACCESSES},
    control::Mdscr,
    event::{
        EC_BREAKPOINT_CURRENT_EL, EC_BREAKPOINT_LOWER_EL, EC_STEP_CURRENT_EL, EC_STEP_LOWER_EL, EC_SVC,
        EC_WATCHPOINT_CURRENT_EL, EC_WATCHPOINT_LOWER_EL, Event, Exception, Logged,
    },
    layout::{self, BRK, BRK_IMMEDIATE, DOORBELL, MARKER_COUNT, SEQUENCE_PLACES, sequence_place},
    op::{El, Entry},
    pstate,
    sequence::{self, ERET, NOP, RET, SEQUENCE_LEN, SEQUENCES, is_move},
    sysreg::{TABLE, TABLE_LEN},
    wire::{self, Bell, EVENT_WORDS, LOG_LEN, OP_WORDS, PROGRAM_LEN, VALUE_WORDS},
};
use dfr0_payload::interpreter::{self, Guest, How};

global_asm!(include_str!("entry.s"));
/// Makes cargo link again when the linker script has changed.
const _: &str = include_str!("../payload.ld");

const SVC: u32 = 0xd400_0001;
const INSTRUCTION: u64 = 4;

/// The instructions that access one register: `MRS X0; RET; MSR X0; RET`.
type Accessor = [u32; 4];

#[used]
#[unsafe(link_section = ".access")]
static ACCESS: [Accessor; TABLE_LEN] = {
    let mut access = [[RET; 4]; TABLE_LEN];
    let mut place = 0;
    while place < TABLE_LEN {
        access[place] = [TABLE[place].mrs_x0(), RET, TABLE[place].msr_x0(), RET];
        place += 1;
    }
    access
};

#[used]
#[unsafe(link_section = ".markers")]
static MARKERS: [[u32; 2]; MARKER_COUNT as usize] = [[NOP, RET]; MARKER_COUNT as usize];

#[used]
#[unsafe(link_section = ".brk")]
static BRK_MARKER: [u32; 2] = [0xd420_0000 | (BRK_IMMEDIATE as u32) << 5, RET];

#[used]
#[unsafe(link_section = ".return")]
static RETURN_STUB: u32 = SVC;

#[used]
#[unsafe(link_section = ".accesses")]
static ACCESS_STUBS: [[u32; 2]; ACCESSES] = {
    let mut stubs = [[RET; 2]; ACCESSES];
    let mut place = 0;
    while place < ACCESSES {
        stubs[place][0] = access::TABLE[place].instruction;
        place += 1;
    }
    stubs
};

#[used]
#[unsafe(link_section = ".sequences")]
static SEQUENCE_STUBS: [[u32; SEQUENCE_LEN]; SEQUENCE_PLACES] = {
    let mut stubs = [[RET; SEQUENCE_LEN]; SEQUENCE_PLACES];
    let mut place = 0;
    while place < SEQUENCES {
        let mut k = 0;
        while k < sequence::TABLE[place].instructions.len() {
            stubs[sequence_place(place)][k] = sequence::TABLE[place].instructions[k].0;
            k += 1;
        }
        place += 1;
    }
    stubs
};

#[unsafe(no_mangle)]
static PROGRAM: [[AtomicU64; OP_WORDS]; PROGRAM_LEN] =
    [const { [const { AtomicU64::new(0) }; OP_WORDS] }; PROGRAM_LEN];
#[unsafe(no_mangle)]
static LOG: [[AtomicU64; EVENT_WORDS]; LOG_LEN] =
    [const { [const { AtomicU64::new(0) }; EVENT_WORDS] }; LOG_LEN];
#[unsafe(no_mangle)]
static LOGGED: AtomicU64 = AtomicU64::new(0);
#[unsafe(no_mangle)]
static PLACE: AtomicU64 = AtomicU64::new(0);
#[unsafe(no_mangle)]
static TURN: AtomicU64 = AtomicU64::new(0);
/// Where the interpreter continues after code that an exception return entered.
static CONTINUE: AtomicU64 = AtomicU64::new(0);
/// The number of Software Step exceptions that are still to be taken.
static STEPS: AtomicU64 = AtomicU64::new(0);

/// Calls an accessor. It and the handler keep all registers except these, so that the interpreter need not load its own
/// again: userspace may step through it.
macro_rules! call_accessor {
    ($address:expr, $($x0:tt)*) => {
        asm!(
            "blr {0}", in(reg) $address, $($x0)*, out("x30") _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _, out("v15") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
        )
    };
}

struct Payload;

impl Guest for Payload {
    fn record(&self, place: usize) -> [u64; OP_WORDS] {
        // SAFETY: the place is in the array.
        let record = unsafe { PROGRAM.as_ptr().add(place) }.cast::<[u64; OP_WORDS]>();
        // SAFETY: as above, and userspace writes a program only while it holds the vCPU.
        unsafe { record.read() }
    }

    fn begin(&self, place: usize) {
        PLACE.store(place as u64, Relaxed);
    }

    fn log(&self, event: Event) {
        let op = PLACE.load(Relaxed) as usize;
        let logged = self.logged();
        let (Some(slot), Some(record)) = (LOG.get(logged as usize), wire::encode_event(Logged { op, event }))
        else {
            return self.ring(Bell::LogFull);
        };
        let used = if matches!(event, Event::Value(_)) { VALUE_WORDS } else { EVENT_WORDS };
        for (word, value) in slot.iter().zip(record).take(used) {
            word.store(value, Relaxed);
        }
        LOGGED.store(logged + 1, Relaxed);
    }

    fn logged(&self) -> u64 {
        LOGGED.load(Relaxed)
    }

    fn read(&self, place: usize) -> u64 {
        let value;
        // SAFETY: the accessor is `MRS X0, <reg>; RET`: it changes only X0, and an exception is logged and
        // skipped.
        unsafe { call_accessor!(accessor(place), lateout("x0") value) };
        value
    }

    fn write(&self, place: usize, value: u64) {
        // SAFETY: the accessor is `MSR <reg>, X0; RET`. Every register in the table is a debug or context register,
        // whose value does not change what this code computes: debug exceptions are masked here.
        unsafe { call_accessor!(accessor(place) + 2 * INSTRUCTION, in("x0") value) };
    }

    fn isb(&self) {
        // SAFETY: ISB has no effect on memory or registers that Rust knows of.
        unsafe { asm!("isb") };
    }

    fn call(&self, address: u64, how: How, mut x0: u64) -> u64 {
        match how {
            How { el: El::El1, masked: true, entry: Entry::Call } => {
                // SAFETY: the code there is a few instructions and a RET; it has no effect but on the target memory and on
                // registers that a call may change. Exceptions are logged and skipped.
                unsafe { asm!("blr {0}", in(reg) address, inout("x0") x0, clobber_abi("C")) };
            }
            How { el: El::El1, masked: false, entry: Entry::Call } => {
                // SAFETY: as above; PSTATE.D is clear only between the two MSR instructions, around the
                // called code.
                unsafe {
                    asm!(
                        "msr daifclr, #8", "blr {0}", "msr daifset, #8",
                        in(reg) address, inout("x0") x0, clobber_abi("C")
                    )
                };
            }
            How { el, masked, entry } => {
                let (ss, steps) = match entry {
                    Entry::Call => (false, 0),
                    Entry::Return { ss, steps } => (ss, steps),
                };
                let mode = match el {
                    El::El0 => pstate::EL0T,
                    El::El1 => pstate::EL1H,
                };
                let flags = if masked { pstate::D } else { 0 } | if ss { pstate::SS } else { 0 };
                let spsr = pstate::AIF | mode | flags;
                STEPS.store(steps.into(), Relaxed);
                // SAFETY: as above, entered by an exception return; its RET goes to the SVC, whose handler
                // returns to the instruction after the ERET, with the same stack.
                unsafe {
                    asm!(
                        "adr x1, 2f", "str x1, [{0}]", "msr elr_el1, {1}", "msr spsr_el1, {2}", "mov x30, {3}", "eret",
                        "2:",
                        in(reg) CONTINUE.as_ptr(), in(reg) address, in(reg) spsr, in(reg) layout::RETURN,
                        inout("x0") x0, out("x1") _, clobber_abi("C")
                    )
                };
            }
        }
        x0
    }

    fn ring(&self, bell: Bell) {
        let turn = TURN.load(Relaxed);
        // SAFETY: the store reaches no memory of this program: userspace handles it and returns.
        unsafe { asm!("str {0:w}, [{1}]", in(reg) bell as u32, in(reg) DOORBELL) };
        // On a vCPU the store completes when userspace has acted; on a bare CPU it completes at once.
        while TURN.load(Acquire) == turn {
            spin_loop();
        }
    }
}

/// The address of the `MRS` of the register at `place`.
fn accessor(place: usize) -> u64 {
    &raw const ACCESS[place] as u64
}

/// Interprets one program after the other, the first from the operation at `start`; userspace writes the next one while
/// it holds the vCPU.
#[unsafe(no_mangle)]
extern "C" fn payload(start: u64) -> ! {
    interpreter::run(&Payload, start as usize);
    loop {
        LOGGED.store(0, Relaxed);
        interpreter::run(&Payload, 0);
    }
}

/// Logs an exception and returns where to continue: after the instruction, or at it. `x30` is that of the
/// interrupted code.
#[unsafe(no_mangle)]
extern "C" fn exception(vector: u64, x30: u64) -> u64 {
    let (esr, elr, spsr, far);
    // SAFETY: the four registers are readable at EL1 and reading them has no side effect.
    unsafe {
        asm!(
            "mrs {0}, esr_el1", "mrs {1}, elr_el1", "mrs {2}, spsr_el1", "mrs {3}, far_el1",
            out(reg) esr, out(reg) elr, out(reg) spsr, out(reg) far,
            options(nomem, nostack, preserves_flags)
        )
    };
    let taken = Exception { vector, esr, elr, spsr, far };
    if taken.ec() == EC_SVC && elr == layout::RETURN + INSTRUCTION {
        return leave();
    }
    Payload.log(Event::Exception(taken));
    if matches!(taken.ec(), EC_STEP_LOWER_EL | EC_STEP_CURRENT_EL) {
        step_on(spsr);
        // This handler overwrites the ELR_EL1 and SPSR_EL1 that an ERET would use: the ERET is skipped.
        return if instruction(elr) == ERET { elr + INSTRUCTION } else { elr };
    }
    if elr == layout::RETURN {
        return leave();
    }
    let within = |base: u64, len: u64| elr.checked_sub(base).is_some_and(|offset| offset < len);
    let skippable = [
        (layout::MARKERS, 8 * u64::from(MARKER_COUNT)),
        (BRK, 8),
        (layout::ACCESS_CODE, 8 * ACCESSES as u64),
        (layout::SEQUENCE_CODE, size_of_val(&SEQUENCE_STUBS) as u64),
        (&raw const ACCESS as u64, size_of_val(&ACCESS) as u64),
    ];
    if !skippable.into_iter().any(|(base, len)| within(base, len)) {
        loop {
            Payload.ring(Bell::Lost);
        }
    }
    match instruction(elr) {
        RET => x30,
        instruction if is_move(instruction) && is_masked_by_mde(taken) => {
            change_mdscr(|mdscr| mdscr.with_mde(false));
            elr
        }
        _ => elr + INSTRUCTION,
    }
}

/// A Breakpoint or Watchpoint exception.
fn is_masked_by_mde(taken: Exception) -> bool {
    matches!(
        taken.ec(),
        EC_BREAKPOINT_CURRENT_EL | EC_BREAKPOINT_LOWER_EL | EC_WATCHPOINT_CURRENT_EL | EC_WATCHPOINT_LOWER_EL
    )
}

/// The instruction at an address that was executed.
fn instruction(address: u64) -> u32 {
    let instruction;
    // SAFETY: EL1 can read the code that was executed, and nothing writes it.
    unsafe {
        asm!(
            "ldr {0:w}, [{1}]",
            out(reg) instruction, in(reg) address,
            options(readonly, nostack, preserves_flags)
        )
    };
    instruction
}

/// Ends code that an exception return entered: the interpreter continues where it entered the code.
fn leave() -> u64 {
    // SAFETY: the ERET after the handler returns to EL1h, from where the code was entered.
    unsafe { asm!("msr spsr_el1, {0}", in(reg) pstate::EL1H_MASKED) };
    CONTINUE.load(Relaxed)
}

/// Lets the interrupted code execute one more instruction or, after enough steps, all the rest.
fn step_on(spsr: u64) {
    let left = STEPS.load(Relaxed).saturating_sub(1);
    STEPS.store(left, Relaxed);
    if left > 0 {
        // SAFETY: PSTATE.SS of the interrupted code concerns software step alone.
        unsafe { asm!("msr spsr_el1, {0}", in(reg) spsr | pstate::SS) };
    } else {
        change_mdscr(|mdscr| mdscr.with_ss(false));
    }
}

fn change_mdscr(change: fn(Mdscr) -> Mdscr) {
    let value: u64;
    // SAFETY: debug exceptions are masked here.
    unsafe { asm!("mrs {0}, mdscr_el1", out(reg) value) };
    let value = change(Mdscr::new_with_raw_value(value)).raw_value();
    // SAFETY: as above.
    unsafe { asm!("msr mdscr_el1, {0}", in(reg) value) };
    Payload.isb();
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        Payload.ring(Bell::Lost);
    }
}
