// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

// Entry and vectors. The handler is in Rust; this code saves the caller-saved registers around it.

    .section .text.entry, "ax"
    .global _start

// Starts with stage 1 off. X0: the start of its tables, X1: their end, X2: the SCTLR_EL1 that turns it on, X3: the place of
// the program's operation with which it starts.
//
// The tables are touched first, so that a table walk is never the first access to their memory: on CPUs with
// erratum 834220 KVM (seen in 7.2 and 7.3) does not resolve a stage 2 fault of a walk, and the guest would
// never execute anything.
_start:
    ldr     xzr, [x0]
    add     x0, x0, #0x1000
    cmp     x0, x1
    b.lo    _start
    mrs     x0, s3_0_c0_c6_2        // ID_AA64ISAR2_EL1
    ubfx    x0, x0, #16, #4         // MOPS
    cmp     x0, #0
    cset    x0, ne
    orr     x2, x2, x0, lsl #33     // SCTLR_EL1.MSCEn: EL0 has Memory Copy and Memory Set instructions
    mrs     x0, id_aa64pfr1_el1
    ubfx    x0, x0, #9, #3          // MTE is 2 or more
    cbz     x0, 1f
    mov     x0, #0xf0               // MAIR_EL1: attribute 0 is Tagged Normal memory
    msr     mair_el1, x0
    orr     x2, x2, #3 << 42        // SCTLR_EL1.ATA and ATA0: Allocation Tags can be accessed, and are not checked
1:  msr     sctlr_el1, x2
    isb
    ldr     x0, =stack_top
    mov     sp, x0
    ldr     x0, =vectors
    msr     vbar_el1, x0
    mov     x0, #0x330000           // CPACR_EL1.FPEN and ZEN: the compiler may use SIMD registers, and pieces of code SVE
    msr     cpacr_el1, x0
    isb
    mov     x0, x3
    bl      payload
    .ltorg

    .macro  vector number
    .balign 0x80
    sub     sp, sp, #0xb0
    stp     x0, x1, [sp, #0x00]
    mov     x0, #\number
    b       taken
    .endm

    .balign 0x800
    .global vectors
vectors:
    .irp    number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vector  \number
    .endr

taken:
    stp     x2, x3, [sp, #0x10]
    stp     x4, x5, [sp, #0x20]
    stp     x6, x7, [sp, #0x30]
    stp     x8, x9, [sp, #0x40]
    stp     x10, x11, [sp, #0x50]
    stp     x12, x13, [sp, #0x60]
    stp     x14, x15, [sp, #0x70]
    stp     x16, x17, [sp, #0x80]
    stp     x18, x29, [sp, #0x90]
    str     x30, [sp, #0xa0]
    mov     x1, x30
    bl      exception
    msr     elr_el1, x0
    ldr     x30, [sp, #0xa0]
    ldp     x18, x29, [sp, #0x90]
    ldp     x16, x17, [sp, #0x80]
    ldp     x14, x15, [sp, #0x70]
    ldp     x12, x13, [sp, #0x60]
    ldp     x10, x11, [sp, #0x50]
    ldp     x8, x9, [sp, #0x40]
    ldp     x6, x7, [sp, #0x30]
    ldp     x4, x5, [sp, #0x20]
    ldp     x2, x3, [sp, #0x10]
    ldp     x0, x1, [sp, #0x00]
    add     sp, sp, #0xb0
    eret

// The reference of `dfr0 bench`: a loop that only takes Breakpoint exceptions. X0: how many. Userspace moves
// PC here from the payload's own code, so translation is on. The loop never returns.
    .section .text.tight, "ax"
    .balign 0x800
tight_vectors:
    .space  0x200                   // current EL with SP_ELx, synchronous
    mrs     x2, elr_el1
    add     x2, x2, #4
    msr     elr_el1, x2
    eret
    .global TIGHT
TIGHT:
    nop                             // KVM completes the store that rang the last bell by moving PC
    adr     x1, tight_vectors
    msr     vbar_el1, x1
    adr     x1, 1f
    msr     dbgbvr0_el1, x1
    mov     x1, #0x1e3              // E, PMC = EL1, BAS = 0b1111
    msr     dbgbcr0_el1, x1
    mov     x1, #0xa000             // MDE, KDE
    msr     mdscr_el1, x1
    isb
    msr     daifclr, #8
1:  nop
    subs    x0, x0, #1
    b.ne    1b
    msr     daifset, #8
    mov     w1, #1                  // Bell::End
    mov     x2, #0x10000000         // the doorbell
    str     w1, [x2]
2:  b       2b
