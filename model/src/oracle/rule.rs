// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The rules by name. A case names the rule that it tests; a failure names the rule that was broken.
//!
//! Sections are those of DDI 0487K.a, named by the title or pseudocode function where a later issue may number
//! them anew.

use core::fmt;

/// One rule, and its section.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name in this file.
    pub name: &'static str,
    /// The rule, in one sentence.
    pub says: &'static str,
    /// Where it is written.
    pub section: &'static str,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.name, self.says, self.section)
    }
}

macro_rules! rules {
    ($($name:ident: $says:literal, $section:literal;)*) => {
        $(
            #[doc = concat!($says, " (", $section, ")")]
            pub const $name: Rule = Rule { name: stringify!($name), says: $says, section: $section };
        )*

        /// Every rule, in the order of this file.
        pub const ALL: &[&Rule] = &[$(&$name),*];
    };
}

rules! {
    BREAKPOINT_MATCHES:
        "An enabled address-matching breakpoint generates a Breakpoint exception when the instruction at the address in DBGBVR<n>_EL1 is committed for execution, before it executes",
        "DDI 0487K.a D2.8 Breakpoint exceptions, AArch64.BreakpointMatch";
    BREAKPOINT_SYNDROME:
        "A Breakpoint exception from EL1 to EL1 reports EC 0x31 and IFSC 0b100010, with the address of the instruction as return address",
        "DDI 0487K.a D2.8 Breakpoint exceptions, ESR_EL1";
    BREAKPOINT_ENABLED:
        "A breakpoint whose DBGBCR<n>_EL1.E is 0 generates no event",
        "DDI 0487K.a DBGBCR<n>_EL1.E, AArch64.BreakpointMatch";
    BREAKPOINT_ADDRESS:
        "An address match compares all of DBGBVR<n>_EL1 with the address of the instruction",
        "DDI 0487K.a D2.8 Breakpoint exceptions, AArch64.BreakpointValueMatch";
    BREAKPOINT_PRIVILEGE:
        "DBGBCR<n>_EL1.{HMC, SSC, PMC} select the Exception levels at which the breakpoint matches",
        "DDI 0487K.a D2.8 Breakpoint exceptions, AArch64.StateMatch";
    BREAKPOINT_EL0:
        "A Breakpoint exception from EL0 to EL1 needs neither MDSCR_EL1.KDE nor PSTATE.D clear, and reports EC 0x30",
        "DDI 0487K.a D2.4 Enabling debug exceptions from the current Exception level, D2.8 Breakpoint exceptions";
    BREAKPOINT_CONTEXT:
        "An enabled, context-aware breakpoint for unlinked Context ID match generates an event at every instruction while CONTEXTIDR_EL1 equals its value",
        "DDI 0487K.a D2.8.3 Breakpoint types and linking of breakpoints, AArch64.BreakpointValueMatch";
    BREAKPOINT_TYPE_UNPREDICTABLE:
        "A breakpoint of a reserved type generates no event, or the events of another type that the breakpoint supports: only an address match if it is not context-aware. A guest cannot know whether a VMID or CONTEXTIDR_EL2 matches",
        "DDI 0487K.a DBGBCR<n>_EL1.BT, AArch64.BreakpointValueMatch (CONSTRAINED UNPREDICTABLE: RESBPTYPE)";
    BREAKPOINT_BAS:
        "A breakpoint on an A64 instruction has BAS 0b1111; with another value it matches at its address if BAS[0] is 1, may match there if it is 0, and matches nowhere else",
        "DDI 0487K.a D2.8 Breakpoint exceptions, DBGBCR<n>_EL1.BAS, AArch64.BreakpointMatch (CONSTRAINED UNPREDICTABLE: BPMATCHHALF)";
    STATE_UNPREDICTABLE:
        "{HMC, SSC} = {0, 0b00} with PMC or PAC other than 0b00, and {1, 0b00} with PMC or PAC 0b01 or 0b11, select EL1 and EL0 as PMC or PAC says. Encodings that are reserved, or whose meaning depends on EL3, Secure EL2 or the Security state, may match or not",
        "DDI 0487K.a D2.8 and D2.9, execution conditions, CheckValidStateMatch (CONSTRAINED UNPREDICTABLE: RESBPWPCTRL)";
    LINK_UNPREDICTABLE:
        "A link to a breakpoint that is not context-aware or not implemented may never match, may match as if there were no link, or may match as a link to another breakpoint",
        "DDI 0487K.a D2.8.3 Breakpoint types and linking of breakpoints, AArch64.StateMatch (CONSTRAINED UNPREDICTABLE: BPNOTCTXCMP)";
    RESS:
        "Address bits above the PE's virtual address size may be compared or not; bits [48:2] are always compared",
        "DDI 0487K.a DBGBVR<n>_EL1.RESS, DBGWVR<n>_EL1.RESS (CONSTRAINED UNPREDICTABLE: DBGxVR_RESS)";
    WATCHPOINT_BAS_UNPREDICTABLE:
        "A watchpoint whose BAS is not contiguous may watch any byte of the doubleword, and watches nothing else; if DBGWVR<n>_EL1[2] is 1, BAS[7:4] select nothing",
        "DDI 0487K.a DBGWCR<n>_EL1.BAS, AArch64.WatchpointByteMatch (CONSTRAINED UNPREDICTABLE: WPBASCONTIGUOUS)";
    WATCHPOINT_MASK_UNPREDICTABLE:
        "A watchpoint whose MASK is 1 or 2, is combined with a BAS other than 0b11111111, or masks address bits that are not zero, may watch the block or not",
        "DDI 0487K.a DBGWCR<n>_EL1.MASK, AArch64.WatchpointByteMatch (CONSTRAINED UNPREDICTABLE: RESWPMASK, WPMASKANDBAS, WPMASKEDBITS)";
    WATCHPOINT_CONDITIONAL_STORE:
        "A Store-Exclusive that an Exclusives monitor does not permit may generate a Watchpoint exception or not",
        "DDI 0487K.a D2.9 Watchpoint exceptions, Watchpoint behavior on accesses by Store-Exclusive instructions";
    RES0_WITHOUT_FEATURE:
        "SSCE, LBNX and WT2, and MASK and BT2 of a breakpoint, have an effect on a PE with FEAT_RME, FEAT_Debugv8p9, FEAT_BWE2, FEAT_BWE or FEAT_ABLE, whatever the guest's ID registers say, and are ignored on any other PE: a breakpoint or watchpoint that sets one of them may behave as on either",
        "DDI 0487K.a DBGBCR<n>_EL1, DBGWCR<n>_EL1";
    WATCHPOINT_AFTER_TRANSLATION:
        "An access is translated before watchpoints are tested: an access that stage 2 does not map, and that userspace performs for the guest, need not generate a Watchpoint exception",
        "DDI 0487K.a D1.4 Prioritization of Synchronous exceptions taken to AArch64 state";
    WATCHPOINT_INVALIDATE:
        "DC IVAC, which a PE may treat as a NOP, may generate the Watchpoint exception of a store to the line of up to 2 KiB around its address, and no other",
        "DDI 0487K.a D2.9 Watchpoint exceptions, Size of the data access, Watchpoint behavior on accesses by the DC IVAC instruction";
    WATCHPOINT_ALLOCATION_TAGS:
        "An instruction that loads or stores an Allocation Tag counts as a load or store of each byte of the granule of 16 bytes, and DC GVA and DC GZVA as stores to each byte of their block",
        "DDI 0487K.a D2.9 Watchpoint exceptions, Watchpoint behavior on accesses by Allocation tag load and store instructions, Watchpoint behavior on accesses by the DC IVAC instruction and the DC ZVA, DC GVA, and DC GZVA instructions";
    WATCHPOINT_STORE_EXCLUSIVE:
        "A Store-Exclusive that is performed generates the Watchpoint exception of a store to its bytes",
        "DDI 0487K.a D2.9 Watchpoint exceptions, Watchpoint behavior on accesses by Store-Exclusive instructions";
    WATCHPOINT_UAO:
        "With PSTATE.UAO set, an unprivileged access at EL1 counts as an access of EL1",
        "DDI 0487K.a PSTATE.UAO; D2.9 Watchpoint exceptions, AArch64.StateMatch";
    WATCHPOINT_MOVE:
        "A Memory Set or Memory Copy generates a Watchpoint exception at whichever of its three instructions accesses a watched byte: WnR is 1 for a write and 0 for a read of a Memory Copy, FAR_EL1 holds an address from the lowest that is written or read to the highest of these that is watched, in the page of the watched address",
        "DDI 0487K.a D2.9 Watchpoint exceptions, Address recorded for Watchpoint exceptions generated by Memory Copy and Memory Set instructions";
    MOVE_GOES_ON:
        "A Memory Set or Memory Copy that an exception has interrupted goes on when the instruction is executed again; for software step each of the three is one instruction, and was not executed where it was interrupted",
        "DDI 0487K.a C3.2 Memory Copy and Memory Set instructions";
    WATCHPOINT_TAG:
        "With TCR_EL1.TBI0 set, bits [63:56] of an address are a tag: no watchpoint compares it, and FAR_EL1 holds it",
        "DDI 0487K.a D2.9.5 Watchpoint data address comparisons, FAR_EL1";
    WATCHPOINT_SVE:
        "An SVE contiguous load or store that is neither First-fault nor Non-fault generates a Watchpoint exception when the bytes of an Active element are watched; without Active elements it generates none. ESR_EL1.FnV may say that FAR_EL1 is not valid",
        "DDI 0487K.a D2.9 Watchpoint exceptions, Watchpoint behavior on accesses by SVE and SME instructions (R_ZRWTZ), Exception syndrome information (R_KSSHC), Address recorded for Watchpoint exceptions generated by SVE and SME instructions (R_GVKYZ)";
    WATCHPOINT_SVE_RELAXED:
        "An SVE contiguous load or store may generate a Watchpoint exception where no Active element is watched, but a byte between the lowest accessed address rounded down and the highest rounded up to multiples of 16",
        "DDI 0487K.a D2.9 Watchpoint exceptions, Watchpoint behavior on accesses by SVE and SME instructions (R_LVLYV; CONSTRAINED UNPREDICTABLE)";
    WATCHPOINT_SVE_NON_FAULT:
        "An SVE Non-fault load of a watched Active element generates no Watchpoint exception: the FFR says that it was not loaded",
        "DDI 0487K.a D2.9 Watchpoint exceptions, Watchpoint behavior on accesses by SVE and SME instructions (R_DYGMS, R_LKKQG); LDNF1B";
    WATCHPOINT_SVE_FIRST_FAULT:
        "An SVE First-fault load generates a Watchpoint exception when its First active element is watched; of another Active element that is watched the FFR says that it was not loaded",
        "DDI 0487K.a D2.9 Watchpoint exceptions, Watchpoint behavior on accesses by SVE and SME instructions (R_TLSCX, R_XBBLW); LDFF1B";
    ABORT_FIRST:
        "An access that faults at stage 1 takes a Data Abort exception, and its watchpoint generates nothing",
        "DDI 0487K.a D1.3.5 Exception prioritization, synchronous exceptions taken to AArch64 state; AArch64.UnalignedAccessFaults, AArch64.TranslateAddress";
    PRIORITY:
        "Exceptions on one instruction have this priority: Software Step, Breakpoint, BRK, Watchpoint; only the first is taken",
        "DDI 0487K.a D1.3.5 Exception prioritization, synchronous exceptions taken to AArch64 state";
    CONTEXT_SYNCHRONIZATION:
        "A write to a debug register takes effect at the latest at the next context synchronization event; until then it may have taken effect or not",
        "DDI 0487K.a D2.12 Synchronization and debug exceptions, K1 Context synchronization event";
    WATCHPOINT_MATCHES:
        "An enabled watchpoint generates a Watchpoint exception when an instruction accesses a watched byte, before the access is done",
        "DDI 0487K.a D2.9 Watchpoint exceptions, AArch64.WatchpointMatch";
    WATCHPOINT_SYNDROME:
        "A Watchpoint exception reports EC 0x35 from EL1 and 0x34 from EL0, DFSC 0b100010 and WnR. FAR_EL1 holds an address between the lowest accessed and the highest accessed and watched address, in a naturally aligned block that is not larger than that of DC ZVA and contains an accessed and watched address; for DC ZVA, DC GVA and DC GZVA, any address in their block",
        "DDI 0487K.a D2.9 Watchpoint exceptions, ESR_EL1, FAR_EL1";
    WATCHPOINT_ENABLED:
        "A watchpoint whose DBGWCR<n>_EL1.E is 0 generates no event",
        "DDI 0487K.a DBGWCR<n>_EL1.E, AArch64.WatchpointMatch";
    WATCHPOINT_ADDRESS:
        "DBGWVR<n>_EL1, BAS and MASK select the watched bytes; an access to other bytes generates no event",
        "DDI 0487K.a D2.9 Watchpoint exceptions, AArch64.WatchpointByteMatch";
    WATCHPOINT_LSC:
        "DBGWCR<n>_EL1.LSC selects loads, stores or both; an atomic access is both, a prefetch neither",
        "DDI 0487K.a DBGWCR<n>_EL1.LSC, AArch64.WatchpointMatch";
    WATCHPOINT_PRIVILEGE:
        "DBGWCR<n>_EL1.{HMC, SSC, PAC} select the Exception levels at which the watchpoint matches; an unprivileged access at EL1 counts as an access at EL0",
        "DDI 0487K.a D2.9 Watchpoint exceptions, AArch64.StateMatch";
    STEP:
        "With MDSCR_EL1.SS set, an exception return with SPSR_EL1.SS set executes one instruction and then takes a Software Step exception",
        "DDI 0487K.a D2.11 Software Step exceptions, the software step state machine";
    STEP_SYNDROME:
        "A Software Step exception reports EC 0x32 from a lower Exception level and 0x33 from the same, ISV 1, EX 0, and the next instruction as return address",
        "DDI 0487K.a D2.11 Software Step exceptions, ESR_EL1";
    STEP_PENDING:
        "With MDSCR_EL1.SS set, an exception return with SPSR_EL1.SS clear takes a Software Step exception before it executes an instruction, with ISV 0",
        "DDI 0487K.a D2.11 Software Step exceptions, the active-pending state";
    STEP_EXCEPTION:
        "If the stepped instruction takes another exception instead of completing, SPSR_EL1.SS is set, so that the return steps the instruction again",
        "DDI 0487K.a D2.11 Software Step exceptions, Behavior in the active-not-pending state, SSAdvance";
    STEP_UNDEFINED:
        "An access that the hypervisor makes UNDEFINED takes the exception as one that the PE makes UNDEFINED: ESR_EL1 has IL alone, SPSR_EL1.SS is set if the access was stepped, and the handler is not stepped, because PSTATE.D is set",
        "DDI 0487K.a AArch64.TakeException, AArch64.UndefinedFault, ESR_EL1.IL; D2.11 Software Step exceptions, Behavior in the active-not-pending state";
    DCC_TRAPPED:
        "While MDSCR_EL1.TDCC is 1, a read of MDCCSR_EL0 at EL0 is trapped to EL1; at EL1, and at EL0 while it is 0, the read is not",
        "DDI 0487K.a MDSCR_EL1.TDCC, MDCCSR_EL0";
    STEP_LOAD_EXCLUSIVE:
        "ESR_EL1.EX of a Software Step exception is set when a Load-Exclusive instruction was stepped, and only then",
        "DDI 0487K.a D2.11 Software Step exceptions, Stepping code that uses exclusive monitors, ESR_EL1";
    STEP_SYNCHRONIZES:
        "For a stepped ISB or exception return, ESR_EL1.ISV is 0 or 1 and EX is 0",
        "DDI 0487K.a D2.11 Software Step exceptions, Exception syndrome information";
    STEP_RETURN:
        "An exception return from where debug exceptions are disabled to where they are enabled copies SPSR_EL1.SS to PSTATE.SS; any other clears PSTATE.SS, so that a Software Step exception is taken at its target if they are enabled there",
        "DDI 0487K.a D2.11 Software Step exceptions, Entering the active-not-pending state, DebugExceptionReturnSS";
    STEP_ILLEGAL_RETURN:
        "An illegal exception return stays at its Exception level and sets PSTATE.IL: a Software Step exception comes first, with SPSR_EL1.IL set, then the Illegal Execution state exception in place of each instruction",
        "DDI 0487K.a D2.11 Software Step exceptions, Behavior when an Exception return instruction is an illegal exception return";
    STEP_UNMASKED:
        "An instruction that clears PSTATE.D makes a Software Step exception pending at EL1, with ISV 0",
        "DDI 0487K.a D2.11 Software Step exceptions, Entering the active-pending state";
    STEP_MASKED:
        "An instruction that sets PSTATE.D makes software step at EL1 inactive",
        "DDI 0487K.a D2.11 Software Step exceptions, Behavior in the active-not-pending state";
    STEP_CALL:
        "An HVC is stepped when the hypervisor returns from it, and a trapped SMC when the hypervisor has moved PC past it: the Software Step exception is taken at the next instruction, with ISV 0",
        "DDI 0487K.a D2.11 Software Step exceptions, Categorization of exceptions for setting SPSR_ELx.SS; Linux arch/arm64/kvm/handle_exit.c, handle_smc; DEN0028 SMC Calling Convention, Unknown Function Identifier";
    STEP_WAIT:
        "A WFI or WFE that has nothing to wait for is stepped like any other instruction, by the PE with ISV 1 or by the hypervisor with ISV 0; at EL0 it may be trapped",
        "DDI 0487K.a D2.11 Software Step exceptions, SCTLR_EL1.nTWI and nTWE; Linux arch/arm64/kvm/handle_exit.c, kvm_handle_wfx";
    STEP_NEEDS_SS:
        "Without MDSCR_EL1.SS an exception return takes no Software Step exception, whatever SPSR_EL1.SS is",
        "DDI 0487K.a D2.11 Software Step exceptions, MDSCR_EL1.SS";
    REGISTERS_BEYOND_COUNT:
        "An access to a breakpoint's or watchpoint's register that is not implemented is UNDEFINED",
        "DDI 0487K.a DBGBVR<n>_EL1, DBGBCR<n>_EL1, DBGWVR<n>_EL1, DBGWCR<n>_EL1";
    REGISTERS_ONE_WAY:
        "A read of a write-only register and a write of a read-only register are UNDEFINED",
        "DDI 0487K.a OSLAR_EL1, OSLSR_EL1, C5.1 System instruction class encoding";
    MDE:
        "Breakpoint exceptions are generated only when MDSCR_EL1.MDE is 1",
        "DDI 0487K.a D2.2 The debug exception enable controls";
    KDE:
        "Debug exceptions other than BRK are generated from EL1 to EL1 only when MDSCR_EL1.KDE is 1",
        "DDI 0487K.a D2.4 Enabling debug exceptions from the current Exception level";
    PSTATE_D:
        "Debug exceptions other than BRK are generated from EL1 to EL1 only when PSTATE.D is 0",
        "DDI 0487K.a D2.4 Enabling debug exceptions from the current Exception level";
    BRK_UNMASKED:
        "A BRK exception is taken whatever masks the other debug exceptions, and reports EC 0x3c with BRK's immediate",
        "DDI 0487K.a D2.7 Breakpoint Instruction exceptions";
    OS_LOCK:
        "While the OS Lock is locked no debug exception other than BRK is generated",
        "DDI 0487K.a H6 Debug Reset and Powerdown Support, AArch64.GenerateDebugExceptionsFrom";
    OS_LOCK_ACCESS:
        "OSLAR_EL1.OSLK sets the OS Lock, and OSLSR_EL1.OSLK shows it",
        "DDI 0487K.a OSLAR_EL1, OSLSR_EL1";
    OSLSR_FROM_USERSPACE:
        "Userspace may change only OSLSR_EL1.OSLK; a value that differs in another bit is refused with EINVAL and changes nothing",
        "Linux arch/arm64/kvm/sys_regs.c, set_oslsr_el1; DDI 0487K.a OSLSR_EL1.OSLM";
    DOUBLE_LOCK:
        "While OSDLR_EL1.DLK is 1 and DBGPRCR_EL1.CORENPDRQ is 0 no debug exception other than BRK is generated",
        "DDI 0487K.a H6 Debug Reset and Powerdown Support, DoubleLockStatus";
    DOUBLE_LOCK_ACCESS:
        "OSDLR_EL1.DLK reads as written where FEAT_DoubleLock is implemented",
        "DDI 0487K.a OSDLR_EL1";
    DOUBLE_LOCK_RESET:
        "OSDLR_EL1.DLK resets to 0",
        "DDI 0487K.a OSDLR_EL1";
    DOUBLE_LOCK_ABSENT:
        "OSDLR_EL1 is RAZ/WI and locks nothing where FEAT_DoubleLock is not implemented",
        "DDI 0487K.a OSDLR_EL1, DoubleLockStatus";
    CONTEXT_AWARE_HIGHEST:
        "The context-aware breakpoints are the highest numbered CTX_CMPs + 1 of the BRPs + 1 breakpoints",
        "DDI 0487K.a D2.8.3 Breakpoint types and linking of breakpoints, ID_AA64DFR0_EL1.CTX_CMPs";
    LINKED_CONTEXT:
        "A linked address match generates an event only when the context-aware breakpoint that LBN names is enabled for linked Context ID match and CONTEXTIDR_EL1 equals its value",
        "DDI 0487K.a D2.8.3 Breakpoint types and linking of breakpoints, AArch64.StateMatch";
    REGISTERS_READ_BACK:
        "The defined bits of a debug register read as they were written",
        "DDI 0487K.a DBGBVR<n>_EL1, DBGBCR<n>_EL1, MDSCR_EL1, MDCCINT_EL1, CONTEXTIDR_EL1";
    REGISTERS_RESET:
        "KVM_ARM_VCPU_INIT leaves the debug registers zero and the OS Lock unlocked",
        "Linux arch/arm64/kvm/sys_regs.c, sys_reg_descs: reset_val, reset_dbg_wb_reg (reset_bvr and its like to 6.13)";
    CLAIM_TAGS:
        "Ones written to DBGCLAIMSET_EL1 set claim tags, ones written to DBGCLAIMCLR_EL1 clear them; the first reads as eight ones, the second as the tags that are set",
        "DDI 0487K.a DBGCLAIMSET_EL1, DBGCLAIMCLR_EL1";
    EXCEPTION_CATCH_ACCESS:
        "OSECCR_EL1 can be read and written at EL1; its bits [63:32] are RES0",
        "DDI 0487K.a OSECCR_EL1";
    EXTERNAL_DEBUG_STATUS:
        "MDRAR_EL1 and MDCCSR_EL0 can be read at EL1; bits [63:32] of MDCCSR_EL0 are RES0",
        "DDI 0487K.a MDRAR_EL1, MDCCSR_EL0";
    AUTHENTICATION_STATUS:
        "DBGAUTHSTATUS_EL1 can be read at EL1; its bits [63:32] are RES0",
        "DDI 0487K.a DBGAUTHSTATUS_EL1";
    SAVED_UNDER_OS_LOCK:
        "While the OS Lock is locked MDSCR_EL1's views of EDSCR (HDE, ERR, TDA, TXU, RXO, TXfull, RXfull) are read/write",
        "DDI 0487K.a MDSCR_EL1: access to these fields is RW when OSLSR_EL1.OSLK is 1";
    ONE_REG_IS_THE_REGISTER:
        "KVM_GET_ONE_REG and KVM_SET_ONE_REG reach the register that the guest reads and writes",
        "Linux Documentation/virt/kvm/api.rst 4.68 and 4.69";
    ONE_REG_LISTED:
        "Every debug register that KVM_GET_REG_LIST lists can be read, and written with the value that was read; the registers of all of the guest's breakpoints and watchpoints are listed",
        "Linux Documentation/virt/kvm/api.rst 4.68, 4.69 and 4.84 KVM_GET_REG_LIST";
    EXIT_KEEPS_STATE:
        "An exit to userspace changes nothing that the guest can observe of its debug registers",
        "Linux Documentation/virt/kvm/api.rst 4.10 KVM_RUN";
    OTHER_VCPU:
        "A vCPU's debug registers, its locks and its CONTEXTIDR_EL1 are its own: another vCPU that runs on its CPU neither sees nor changes them",
        "Linux Documentation/virt/kvm/api.rst 4.10 KVM_RUN, 4.68 and 4.69; DDI 0487K.a D2.8, D2.9, H6";
    OTHER_CPU:
        "A vCPU's debug registers move with it when its thread moves to another CPU",
        "Linux Documentation/virt/kvm/api.rst 4.10 KVM_RUN, 4.68 and 4.69";
    PREEMPTION:
        "A vCPU that another vCPU preempts in the guest resumes with its own debug registers",
        "Linux Documentation/virt/kvm/api.rst 4.10 KVM_RUN; arch/arm64/kvm/arm.c, kvm_arch_vcpu_load and kvm_arch_vcpu_put";
    HOST_DEBUG_KEPT:
        "Hardware breakpoints and watchpoints of the thread that runs a vCPU are hit as before when KVM_RUN has ended, whatever debug registers the guest or its debugger has used",
        "Linux arch/arm64/kvm/hyp/include/hyp/debug-sr.h, __debug_switch_to_guest_common and __debug_switch_to_host_common; perf_event_open(2), PERF_TYPE_BREAKPOINT";
    HOST_DEBUG_HIDDEN:
        "A guest takes no exception and ends no KVM_RUN because of hardware breakpoints and watchpoints of the thread that runs its vCPU, at the same addresses",
        "Linux arch/arm64/kvm/hyp/include/hyp/debug-sr.h, __debug_switch_to_guest_common; DDI 0487K.a D2.8, D2.9";
    MIGRATION:
        "A vCPU whose registers are read by KVM_GET_ONE_REG and written to a vCPU of another VM by KVM_SET_ONE_REG, the ID registers first, continues there as if it had not moved",
        "Linux Documentation/virt/kvm/api.rst 4.68, 4.69 and 4.84 KVM_GET_REG_LIST; Documentation/virt/kvm/arm/vcpu-features.rst, The ID Registers";
    GUEST_DEBUG_COUNTS:
        "KVM_CAP_GUEST_DEBUG_HW_BPS and KVM_CAP_GUEST_DEBUG_HW_WPS are the numbers of the host's breakpoints and watchpoints",
        "Linux Documentation/virt/kvm/api.rst 4.87 KVM_SET_GUEST_DEBUG";
    GUEST_DEBUG_BITS:
        "KVM_CAP_SET_GUEST_DEBUG2 is the set of control bits that KVM_SET_GUEST_DEBUG accepts, in each combination",
        "Linux Documentation/virt/kvm/api.rst 4.87 KVM_SET_GUEST_DEBUG";
    GUEST_DEBUG_INVALID:
        "A control bit that arm64 does not have is refused with EINVAL, and changes nothing",
        "Linux Documentation/virt/kvm/api.rst 4.87 KVM_SET_GUEST_DEBUG; arch/arm64/kvm/guest.c, KVM_GUESTDBG_VALID_MASK";
    GUEST_DEBUG_OFF:
        "Without KVM_GUESTDBG_ENABLE guest debugging is off, whatever the other bits are: the guest takes its own debug exceptions",
        "Linux Documentation/virt/kvm/api.rst 4.87 KVM_SET_GUEST_DEBUG; arch/arm64/kvm/guest.c, kvm_arch_vcpu_ioctl_set_guest_debug";
    GUEST_DEBUG_HW_EXITS:
        "With KVM_GUESTDBG_USE_HW the breakpoints are those that userspace supplied: a match ends KVM_RUN with KVM_EXIT_DEBUG, EC 0x30 and PC at the instruction, whatever the guest masks",
        "Linux Documentation/virt/kvm/api.rst 4.87 KVM_SET_GUEST_DEBUG; DDI 0487K.a MDCR_EL2.TDE, AArch64.GenerateDebugExceptionsFrom";
    GUEST_DEBUG_WATCHPOINT_EXITS:
        "With KVM_GUESTDBG_USE_HW the watchpoints are those that userspace supplied: a match ends KVM_RUN with KVM_EXIT_DEBUG, EC 0x34, PC at the instruction and in far an address between the lowest accessed and the highest watched and accessed, whatever the guest masks",
        "Linux Documentation/virt/kvm/api.rst 4.87 KVM_SET_GUEST_DEBUG, arch/arm64/include/uapi/asm/kvm.h, kvm_debug_exit_arch; DDI 0487K.a MDCR_EL2.TDE, D2.9 Watchpoint exceptions";
    GUEST_DEBUG_SW_EXITS:
        "With KVM_GUESTDBG_USE_SW_BP the guest's BRK ends KVM_RUN with KVM_EXIT_DEBUG, EC 0x3c and PC at the BRK, and the guest takes no exception",
        "Linux Documentation/virt/kvm/api.rst 4.87 KVM_SET_GUEST_DEBUG";
    GUEST_DEBUG_GUESTS_BRK:
        "While userspace debugs without KVM_GUESTDBG_USE_SW_BP, the guest's BRK ends KVM_RUN with KVM_EXIT_DEBUG, EC 0x3c and PC at the BRK, or the guest takes its own exception",
        "Linux Documentation/virt/kvm/api.rst 4.87 KVM_SET_GUEST_DEBUG; arch/arm64/kvm/handle_exit.c, kvm_handle_guest_debug: it is up to userspace to inject it; DDI 0487K.a D2.7 Breakpoint Instruction exceptions";
    GUEST_DEBUG_STEPS:
        "With KVM_GUESTDBG_SINGLESTEP each KVM_RUN executes one instruction and ends with KVM_EXIT_DEBUG, EC 0x32",
        "Linux Documentation/virt/kvm/api.rst 4.87 KVM_SET_GUEST_DEBUG; DDI 0487K.a D2.11 Software Step exceptions";
    GUEST_DEBUG_STEPS_INTO_HANDLER:
        "When the instruction that userspace steps is UNDEFINED, the step ends at the first instruction of the guest's handler, because PSTATE.SS is clear after an exception",
        "Linux Documentation/virt/kvm/api.rst 4.87 KVM_SET_GUEST_DEBUG; DDI 0487K.a D2.11 Software Step exceptions, AArch64.TakeException";
    GUEST_DEBUG_STEP_PENDING:
        "When userspace steps an instruction that KVM_RUN with immediate_exit completes, the next KVM_RUN ends with KVM_EXIT_DEBUG before another instruction is executed",
        "Linux Documentation/virt/kvm/api.rst 4.87 KVM_SET_GUEST_DEBUG, 5 The kvm_run structure; DDI 0487K.a D2.11 Software Step exceptions, Behavior in the active-pending state";
    GUEST_DEBUG_STEP_FORGOTTEN:
        "A step that is pending when userspace asks for no more steps is not reported later: when userspace asks for steps again, the next KVM_RUN executes an instruction",
        "Linux Documentation/virt/kvm/api.rst 4.87 KVM_SET_GUEST_DEBUG: the next run should single-step; arch/arm64/kvm/guest.c, kvm_arch_vcpu_ioctl_set_guest_debug";
    GUEST_DEBUG_KEEPS_STEP:
        "Userspace's steps keep the guest's own software step state: KVM_GET_ONE_REG reads the guest's PSTATE.SS, and the guest takes its own Software Step exception afterwards",
        "Linux Documentation/virt/kvm/api.rst 4.87 KVM_SET_GUEST_DEBUG, 4.68 and 4.69; arch/arm64/kvm/debug.c, kvm_vcpu_load_debug and kvm_vcpu_put_debug; DDI 0487K.a D2.11 Software Step exceptions";
    GUEST_DEBUG_EXIT_FIELDS:
        "At KVM_EXIT_DEBUG, flags have KVM_DEBUG_ARCH_HSR_HIGH_VALID and hsr_high is ESR_EL2's upper half, which is zero; at other exits this flag is clear",
        "Linux Documentation/virt/kvm/api.rst 5 The kvm_run structure; arch/arm64/include/uapi/asm/kvm.h, kvm_debug_exit_arch";
    GUEST_DEBUG_KEEPS_REGISTERS:
        "Guest debugging changes no debug register that the guest or KVM_GET_ONE_REG reads: userspace's values are kept apart from the guest's",
        "Linux Documentation/virt/kvm/api.rst 4.87 KVM_SET_GUEST_DEBUG, 4.68 and 4.69";
    GUEST_DEBUG_GUESTS_OWN:
        "While userspace debugs without KVM_GUESTDBG_USE_HW, a match of the guest's own breakpoint or watchpoint ends KVM_RUN or does nothing; the guest does not take it",
        "Linux arch/arm64/kvm/handle_exit.c, kvm_handle_guest_debug: it is up to userspace to inject it; debug.c, kvm_debug_set_guest_ownership";
    ID_DEFAULT_ACCEPTED:
        "A field may always be written with the value that KVM gave it",
        "Linux Documentation/virt/kvm/arm/vcpu-features.rst, The ID Registers";
    ID_SAFE_ACCEPTED:
        "A field in the writable mask accepts each architected value that promises no more than KVM's default",
        "Linux Documentation/virt/kvm/api.rst 4.139 KVM_ARM_GET_REG_WRITABLE_MASKS; DDI 0487K.a Principles of the ID scheme for fields in ID registers";
    ID_UNSAFE_REFUSED:
        "A value that promises more than KVM's default is refused with EINVAL",
        "Linux Documentation/virt/kvm/arm/vcpu-features.rst, The ID Registers; DDI 0487K.a Principles of the ID scheme for fields in ID registers";
    ID_RESERVED_REFUSED:
        "A reserved encoding is refused with EINVAL: the guest would read a value that the architecture gives no meaning",
        "DDI 0487K.a ID_AA64DFR0_EL1; Linux Documentation/virt/kvm/api.rst 4.68";
    ID_READ_ONLY_REFUSED:
        "A field outside the writable mask refuses any other value with EINVAL",
        "Linux Documentation/virt/kvm/api.rst 4.139 KVM_ARM_GET_REG_WRITABLE_MASKS";
    ID_READS_BACK:
        "What was accepted reads back and what was refused changed nothing",
        "Linux Documentation/virt/kvm/api.rst 4.68 and 4.69";
    ID_PMUVER_IMP_DEF:
        "Where userspace may write PMUVer or PerfMon, 0b1111, which older kernels gave to VMs, is accepted and means no PMU, so that such a VM can be restored; elsewhere it is accepted with that meaning or refused",
        "Linux arch/arm64/kvm/sys_regs.c, set_id_aa64dfr0_el1 and set_id_dfr0_el1: KVM is on the hook to allow values that it gave to userspace";
    ID_IMPOSSIBLE_SHAPE:
        "A value with more context-aware breakpoints than breakpoints describes no PE; KVM does not check fields against each other and may accept or refuse it",
        "DDI 0487K.a ID_AA64DFR0_EL1.CTX_CMPs";
    ID_MASK_COVERS_FIELDS:
        "The writable mask covers whole fields, and a field in it accepts a value other than the default if there is a legal one",
        "Linux Documentation/virt/kvm/api.rst 4.139 KVM_ARM_GET_REG_WRITABLE_MASKS";
    ID_GUEST_READS:
        "The guest's MRS of ID_AA64DFR0_EL1 reads what KVM_GET_ONE_REG reads",
        "Linux Documentation/virt/kvm/arm/vcpu-features.rst, The ID Registers";
    ID_FROZEN_BY_RUN:
        "Once a vCPU of the VM has run, an ID register keeps its value: writing the same value is accepted, another value is refused with EBUSY",
        "Linux Documentation/virt/kvm/arm/vcpu-features.rst, The ID Registers; arch/arm64/kvm/sys_regs.c, set_id_reg";
    ID_LATE_AND_ILLEGAL:
        "A value that is refused at any time is refused after a run too, with EINVAL or with the error of a late write",
        "Linux Documentation/virt/kvm/arm/vcpu-features.rst, The ID Registers; arch/arm64/kvm/sys_regs.c, set_id_aa64dfr0_el1, set_id_reg";
    ID_FROZEN_BY_IMMEDIATE_EXIT:
        "KVM_RUN with immediate_exit returns EINTR, and starts the VM as any other KVM_RUN does",
        "Linux Documentation/virt/kvm/api.rst 5 The kvm_run structure, immediate_exit; arm/vcpu-features.rst, The ID Registers; arch/arm64/kvm/arm.c, kvm_arch_vcpu_run_pid_change";
    ID_FROZEN_BY_FAILED_RUN:
        "A KVM_RUN that fails starts the VM too: an ID register is mutable until userspace has called KVM_RUN on an initialised vCPU, whatever the call returns",
        "Linux Documentation/virt/kvm/arm/vcpu-features.rst, The ID Registers; api.rst 4.10 KVM_RUN";
    VCPU_RUNS:
        "A vCPU that KVM_CREATE_VCPU and KVM_ARM_VCPU_INIT accepted can run, also if others of its VM have run before",
        "Linux Documentation/virt/kvm/api.rst 4.7 KVM_CREATE_VCPU, 4.82 KVM_ARM_VCPU_INIT, 4.10 KVM_RUN";
    ID_NEEDS_INIT:
        "Before KVM_ARM_VCPU_INIT, reading or writing an ID register fails with ENOEXEC and changes nothing",
        "Linux Documentation/virt/kvm/api.rst 4.82 KVM_ARM_VCPU_INIT; arch/arm64/kvm/arm.c, kvm_arch_vcpu_ioctl";
    ID_KEPT_BY_INIT:
        "A second KVM_ARM_VCPU_INIT of a vCPU, or that of another vCPU of the VM, keeps the ID registers and the values that may be written to them",
        "Linux Documentation/virt/kvm/arm/vcpu-features.rst, The ID Registers; arch/arm64/kvm/sys_regs.c, reset_vm_ftr_id_reg";
    ID_VM_SCOPED:
        "The debug feature registers belong to the VM: what is written through one vCPU is read through each, and by the guest on each; a run of one freezes them for all",
        "Linux Documentation/virt/kvm/arm/vcpu-features.rst, The ID Registers; arch/arm64/kvm/sys_regs.c, is_vm_ftr_id_reg";
    ID_FIELDS_TOGETHER:
        "A value is accepted when each of its fields is, and refused whole when one is refused",
        "Linux Documentation/virt/kvm/arm/vcpu-features.rst, The ID Registers; DDI 0487K.a Principles of the ID scheme for fields in ID registers";
    ID_PMUVER_OF_VCPU:
        "PMUVer is zero in a VM without KVM_ARM_VCPU_PMU_V3, and a form of PMUv3 in one with it",
        "Linux Documentation/virt/kvm/api.rst 4.82 KVM_ARM_VCPU_INIT, KVM_ARM_VCPU_PMU_V3; DDI 0487K.a ID_AA64DFR0_EL1.PMUVer";
    ID_PERFMON_IS_PMUVER:
        "Where AArch32 is implemented, ID_DFR0_EL1.PerfMon is by default the same form of PMUv3 as ID_AA64DFR0_EL1.PMUVer",
        "DDI 0487K.a ID_DFR0_EL1.PerfMon, ID_AA64DFR0_EL1.PMUVer; Linux arch/arm64/kvm/sys_regs.c, pmuver_to_perfmon";
    ID_FEATURES_APART:
        "A KVM_ARM_VCPU_INIT feature that does not concern debug changes no debug feature register",
        "Linux Documentation/virt/kvm/api.rst 4.82 KVM_ARM_VCPU_INIT; DDI 0487K.a ID_AA64DFR0_EL1";
    ID_EL2_SHOWS_NO_MORE:
        "No field of ID_AA64DFR0_EL1 promises more in a VM with EL2 than in another VM of the same host",
        "Linux Documentation/virt/kvm/api.rst 4.82 KVM_ARM_VCPU_INIT; DDI 0487K.a D24.1.3 Principles of the ID scheme";
    ID_AARCH32_ABSENT:
        "Where AArch32 is not implemented, ID_DFR0_EL1 reads as zero, and KVM_SET_ONE_REG ignores the value",
        "Linux arch/arm64/kvm/sys_regs.c, aa32_id_visibility; DDI 0487K.a ID_DFR0_EL1";
    ID_FIELDS_ARE_PROMISES:
        "The guest can read a register of a debug, trace, profiling or performance monitors feature where its debug feature registers say that the feature is implemented, and an access is UNDEFINED where they say that it is not; MDSELR_EL1 may read as zero instead, because a CPU that implements it as RAZ/WI need not trap it",
        "DDI 0487K.a ID_AA64DFR0_EL1, ID_AA64DFR1_EL1, ID_AA64DFR2_EL1, and Configuration of BRBIDR0_EL1, TRBLIMITR_EL1, TRFCR_EL1, PMSIDR_EL1, PMIAR_EL1, PMSSCR_EL1, PMCR_EL0, PMMIR_EL1, PMUACR_EL1, TRCIDR1, MDSELR_EL1, PMECR_EL1, TRCITECR_EL1, PMICNTR_EL0, SPMSELR_EL0, MDSTEPOP_EL1";
    MASKS_ARGUMENTS:
        "KVM_ARM_GET_REG_WRITABLE_MASKS is available when KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES reports a range; an unsupported range and a reserved word that is not zero are refused with EINVAL, an address that cannot be written with EFAULT",
        "Linux Documentation/virt/kvm/api.rst 4.139 KVM_ARM_GET_REG_WRITABLE_MASKS; arch/arm64/kvm/sys_regs.c, kvm_vm_ioctl_get_reg_writable_masks";
    MASKS_ARE_OF_REGISTERS:
        "A writable mask that is not zero is that of a register that KVM_GET_REG_LIST lists",
        "Linux Documentation/virt/kvm/api.rst 4.139 KVM_ARM_GET_REG_WRITABLE_MASKS, KVM_ARM_FEATURE_ID_RANGE; arch/arm64/kvm/sys_regs.c, kvm_vm_ioctl_get_reg_writable_masks";
    MASKS_ARE_NO_MORE:
        "Where AArch32 is not implemented, the writable masks of its ID registers are zero, because KVM ignores what is written to them",
        "Linux Documentation/virt/kvm/api.rst 4.139 KVM_ARM_GET_REG_WRITABLE_MASKS; arch/arm64/kvm/sys_regs.c, kvm_vm_ioctl_get_reg_writable_masks";
    MASKS_KEEP_FIELDS:
        "A field that an older kernel let userspace write stays writable: otherwise a VM that was given a lower value on that kernel cannot be restored",
        "Linux Documentation/virt/kvm/api.rst 4.139 KVM_ARM_GET_REG_WRITABLE_MASKS; Documentation/virt/kvm/arm/vcpu-features.rst, The ID Registers; arch/arm64/kvm/sys_regs.c, sys_reg_descs of 6.12 to 7.3";
    MASKS_TELL_WHAT_CHANGES:
        "A bit outside an ID register's writable mask never changes: a value that differs in it is refused with EINVAL, or accepted and ignored",
        "Linux Documentation/virt/kvm/api.rst 4.139 KVM_ARM_GET_REG_WRITABLE_MASKS; arch/arm64/kvm/sys_regs.c, arm64_check_features, set_id_aa64pfr0_el1";
    ID_VALUES_PERMITTED:
        "No field of the ID_AA64DFR0_EL1 that a guest reads holds a reserved value, and OSLSR_EL1.OSLM is 0b10",
        "DDI 0487K.a ID_AA64DFR0_EL1, OSLSR_EL1.OSLM (in an Armv8 implementation 0b00 is not permitted)";
    PRESENT_ON_EVERY_PE:
        "OSDTRRX_EL1, OSDTRTX_EL1, MDCCINT_EL1, OSECCR_EL1, MDRAR_EL1, DBGPRCR_EL1, DBGCLAIMSET_EL1, DBGCLAIMCLR_EL1, DBGAUTHSTATUS_EL1, MDCCSR_EL0, DBGDTR_EL0 and DBGDTRRX_EL0 can be read at EL1, whatever the ID registers say",
        "DDI 0487K.a, the sections Configuration and Accessing of these registers";
    ONE_REG_READS_BACK:
        "A debug register whose KVM_SET_ONE_REG was accepted reads back by KVM_GET_ONE_REG as it was written",
        "Linux Documentation/virt/kvm/api.rst 4.68 and 4.69";
    PROTECTED_NO_FEATURE:
        "The guest of a protected VM reads in ID_AA64DFR0_EL1 that no feature is implemented, MTPMU and DoubleLock 0b1111 and all other fields zero, and zero in the other debug feature registers",
        "Linux arch/arm64/kvm/hyp/nvhe/sys_regs.c: none of the features in ID_AA64DFR0_EL1 are supported, ID_AA64DFR0_EL1_NONZERO_NI, pvm_calc_id_reg, pvm_access_id_aarch32; DDI 0487K.a ID_AA64DFR0_EL1, ID_AA64DFR1_EL1";
    PROTECTED_REGISTERS_HIDDEN:
        "No debug register holds a value for the guest of a protected VM: those of the breakpoints and watchpoints that BRPs and WRPs count, MDSCR_EL1, OSLAR_EL1, OSLSR_EL1 and OSDLR_EL1 are RAZ/WI, and any other is UNDEFINED or RAZ/WI",
        "Linux arch/arm64/kvm/hyp/nvhe/sys_regs.c, pvm_sys_reg_descs: debug and trace registers are restricted; DDI 0487K.a ID_AA64DFR0_EL1.{BRPs, WRPs}, OSLSR_EL1.OSLM";
    PROTECTED_NO_EVENTS:
        "No breakpoint, watchpoint or software step generates a debug exception in the guest of a protected VM, which has no debug feature",
        "Linux arch/arm64/kvm/hyp/nvhe/sys_regs.c: none of the features in ID_AA64DFR0_EL1 are supported; DDI 0487K.a ID_AA64DFR0_EL1";
    DBGDIDR_IS_DFR0:
        "DBGDIDR.{WRPs, BRPs, CTX_CMPs, Version} are the VM's ID_AA64DFR0_EL1.{WRPs, BRPs, CTX_CMPs, DebugVer}",
        "DDI 0487K.a DBGDIDR, ID_AA64DFR0_EL1";
    AARCH32_ID_REGISTERS:
        "In AArch32 the guest reads in ID_DFR0 what KVM_GET_ONE_REG reads in ID_DFR0_EL1, and in DBGDIDR what the VM's ID_AA64DFR0_EL1 says",
        "DDI 0487K.a ID_DFR0, DBGDIDR; Linux Documentation/virt/kvm/arm/vcpu-features.rst, The ID Registers";
    AARCH32_DEVICE_ID:
        "DBGDEVID has CIDMask 0b0000, BPAddrMask 0b1111, WPAddrMask 0b0001, and DoubleLock says whether the VM has the OS Double Lock",
        "DDI 0487K.a DBGDEVID";
    AARCH32_DEVICE_ID_RESERVED:
        "DBGDEVID1 and DBGDEVID2 can be read at EL1; DBGDEVID1[31:4] and DBGDEVID2 are RES0",
        "DDI 0487K.a DBGDEVID1, DBGDEVID2";
    AARCH32_READ_BACK:
        "In AArch32 the defined bits of a debug register read as they were written, by the guest or by userspace",
        "DDI 0487K.a DBGBVR<n>, DBGBCR<n>, DBGWVR<n>, DBGWCR<n>, DBGDSCRext, DBGVCR, DBGDCCINT";
    AARCH32_MAPPED:
        "A debug register in AArch32 is bits [31:0] of the AArch64 register that userspace reads: DBGDSCRext of MDSCR_EL1, DBGDCCINT of MDCCINT_EL1, DBGVCR of DBGVCR32_EL2, DBGOSLSR of OSLSR_EL1, the others of their namesakes",
        "DDI 0487K.a architectural mapping in DBGBVR<n>, DBGBCR<n>, DBGWVR<n>, DBGWCR<n>, DBGDSCRext, DBGDCCINT, DBGVCR, DBGOSLSR";
    AARCH32_EXTENDED_VALUE:
        "DBGBXVR<n> is DBGBVR<n>_EL1[63:32] and holds a VMID, or is UNDEFINED",
        "DDI 0487K.a DBGBXVR<n>";
    AARCH32_BEYOND_COUNT:
        "In AArch32 an access to a breakpoint's or watchpoint's register that is not implemented is UNDEFINED",
        "DDI 0487K.a DBGBVR<n>, DBGBCR<n>, DBGBXVR<n>, DBGWVR<n>, DBGWCR<n>";
    AARCH32_INTERNAL_VIEW:
        "DBGDSCRint.{MDBGen, UDCCdis} read as the same fields of DBGDSCRext",
        "DDI 0487K.a DBGDSCRint";
    AARCH32_OS_LOCK_KEY:
        "A write of 0xC5ACCE55 to DBGOSLAR locks the OS Lock, one of any other value unlocks it, and DBGOSLSR.OSLK shows it",
        "DDI 0487K.a DBGOSLAR, DBGOSLSR";
    AARCH32_OS_LOCK:
        "In AArch32, too, the OS Lock masks every debug exception except that of BKPT",
        "DDI 0487K.a H6 Debug Reset and Powerdown Support, AArch32.GenerateDebugExceptionsFrom";
    AARCH32_DOUBLE_LOCK:
        "DBGOSDLR.DLK reads as written where the VM has the OS Double Lock, and DBGOSDLR is RAZ/WI where it does not",
        "DDI 0487K.a DBGOSDLR";
    AARCH32_CLAIM_TAGS:
        "Ones written to DBGCLAIMSET set claim tags, ones written to DBGCLAIMCLR clear them; the first reads as eight ones, the second as the tags",
        "DDI 0487K.a DBGCLAIMSET, DBGCLAIMCLR";
    AARCH32_AUTHENTICATION_STATUS:
        "DBGAUTHSTATUS can be read at EL1; its bits [31:8] are RES0",
        "DDI 0487K.a DBGAUTHSTATUS";
    AARCH32_DEBUG_ADDRESSES:
        "DBGDRAR and DBGDSAR can be read by MRC and MRRC; DBGDRAR.Valid is 0b00 or 0b11, its other bits below the address are RES0, and so is DBGDSAR",
        "DDI 0487K.a DBGDRAR, DBGDSAR";
    AARCH32_POWER_CONTROL:
        "DBGPRCR can be read at EL1; its bits [31:1] are RES0",
        "DDI 0487K.a DBGPRCR";
    AARCH32_BREAKPOINT:
        "In AArch32 an enabled breakpoint generates a Prefetch Abort exception at its address while DBGDSCRext.MDBGen is 1, with the status of a debug exception in IFSR, MOE 0b0001, and the instruction as return address",
        "DDI 0487K.a G2.8 Breakpoint exceptions, AArch32.BreakpointMatch, IFSR, DBGDSCRext.MOE";
    AARCH32_WATCHPOINT:
        "In AArch32 an enabled watchpoint generates a Data Abort exception at an access of a watched byte while DBGDSCRext.MDBGen is 1, with the status of a debug exception and WnR in DFSR, MOE 0b1010, and the address in DFAR",
        "DDI 0487K.a G2.9 Watchpoint exceptions, AArch32.WatchpointMatch, DFSR, DBGDSCRext.MOE";
    AARCH32_MDBGEN:
        "In AArch32 breakpoints and watchpoints generate nothing while DBGDSCRext.MDBGen is 0",
        "DDI 0487K.a G2.2 The debug exception enable controls, DBGDSCRext.MDBGen";
    AARCH32_SPSR_ABT:
        "After an abort in AArch32 KVM_GET_ONE_REG reads in SPSR_abt the mode and the instruction set state that it was taken from",
        "Linux Documentation/virt/kvm/api.rst 4.68 KVM_SET_ONE_REG, 4.69, spsr of the arm64 core registers; DDI 0487K.a SPSR_abt, AArch32.EnterMode";
    AARCH32_BKPT:
        "BKPT generates a Prefetch Abort exception whatever masks the others, with the status of a debug exception in IFSR and MOE 0b0011",
        "DDI 0487K.a G2.7 Breakpoint Instruction exceptions, DBGDSCRext.MOE";
    AARCH32_BKPT_EXITS:
        "With KVM_GUESTDBG_USE_SW_BP the guest's BKPT ends KVM_RUN with KVM_EXIT_DEBUG, EC 0x38 and PC at the BKPT, and the guest takes no exception",
        "Linux Documentation/virt/kvm/api.rst 4.87 KVM_SET_GUEST_DEBUG; DDI 0487K.a G2.7 Breakpoint Instruction exceptions";
    NESTED_UNTRAPPED:
        "At EL1 and EL0 an access to a debug register that no control of EL2 traps completes; one that does not exist or is not of that Exception level is UNDEFINED, whatever the controls",
        "DDI 0487K.a D24.3 Debug registers, the pseudocode of each access";
    NESTED_REGISTERS:
        "At EL2 every debug register can be accessed, whatever MDCR_EL2 and the fine-grained traps; a breakpoint's or watchpoint's that does not exist is UNDEFINED",
        "DDI 0487K.a D24.3 Debug registers, the pseudocode of each access";
    NESTED_HOSTS_EL0:
        "While HCR_EL2.TGE is 1 every access to the Debug Communications Channel from EL0 is trapped to EL2, with EC 0x18, and one to any other debug register is UNDEFINED there",
        "DDI 0487K.a MDCCSR_EL0, DBGDTR_EL0, DBGDTRRX_EL0";
    NESTED_TRAPS:
        "MDCR_EL2.{TDE, TDA, TDOSA, TDRA, TDCC} and HCR_EL2.TID3 each trap the accesses to their registers from EL1 and EL0 to EL2, with EC 0x18 and the access in ISS, and no other access",
        "DDI 0487K.a MDCR_EL2, HCR_EL2, D24.3 Debug registers, the pseudocode of each access";
    NESTED_CHANNEL:
        "MDSCR_EL1.TDCC traps accesses to the Debug Communications Channel from EL0 to EL1, before a control of EL2 does, and to EL2 while HCR_EL2.TGE is 1",
        "DDI 0487K.a MDSCR_EL1.TDCC, MDCCSR_EL0, DBGDTR_EL0";
    NESTED_FINE_GRAINED:
        "With FEAT_FGT each bit of HDFGRTR_EL2 and HDFGWTR_EL2 traps the reads or the writes of its debug registers from EL1 to EL2, and no other access",
        "DDI 0487K.a HDFGRTR_EL2, HDFGWTR_EL2";
    NESTED_ROUTES:
        "While MDCR_EL2.TDE or HCR_EL2.TGE is 1, debug exceptions from EL1 and EL0 are taken to EL2, whatever MDSCR_EL1.KDE and PSTATE.D, with what they report in ESR_EL2, ELR_EL2, SPSR_EL2 and FAR_EL2",
        "DDI 0487K.a D2.3 Routing debug exceptions, AArch64.GenerateDebugExceptionsFrom";
    NESTED_ABOVE_ELD:
        "At EL2 no debug exception but that of BRK is generated unless MDCR_EL2.TDE and MDSCR_EL1.KDE are 1 and PSTATE.D is 0",
        "DDI 0487K.a D2.4 Enabling debug exceptions from the current Exception level, AArch64.GenerateDebugExceptionsFrom";
    NESTED_STATE_MATCH:
        "HMC, SSC and PMC or PAC select EL2 as they select EL1 and EL0",
        "DDI 0487K.a D2.8 Breakpoint exceptions, AArch64.StateMatch";
    NESTED_CONTEXT:
        "A breakpoint for Context ID match compares CONTEXTIDR_EL2 at EL2 with HCR_EL2.E2H 1 and at EL0 with HCR_EL2.TGE 1 besides, and matches nothing at EL2 with E2H 0; one for CONTEXTIDR_EL1 match matches nothing there",
        "DDI 0487K.a D2.8.3 Breakpoint types and linking of breakpoints, AArch64.BreakpointValueMatch";
    NESTED_OS_LOCK:
        "While the OS Lock is locked no debug exception but that of BRK is generated at EL2 or below it",
        "DDI 0487K.a H6 Debug Reset and Powerdown Support, AArch64.GenerateDebugExceptionsFrom";
    NESTED_RESET:
        "After KVM_ARM_VCPU_INIT MDCR_EL2.{TDE, TDA, TDOSA, TDRA, TDCC} and the fine-grained traps of debug registers are 0, because EL2 is the highest Exception level",
        "DDI 0487K.a MDCR_EL2, HDFGRTR_EL2, HDFGWTR_EL2; Linux Documentation/virt/kvm/api.rst 4.82 KVM_ARM_VCPU_INIT";
    NESTED_MOVES:
        "A guest at EL2, or its own guest, whose registers are read by KVM_GET_ONE_REG and written by KVM_SET_ONE_REG to another vCPU after KVM_ARM_VCPU_INIT, continues there with everything that was set at EL2, as if it had not moved",
        "Linux Documentation/virt/kvm/api.rst 4.68, 4.69 and 4.84 KVM_GET_REG_LIST";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rules_say_the_same() {
        for (place, rule) in ALL.iter().enumerate() {
            for other in &ALL[..place] {
                assert_ne!(rule.says, other.says, "{} and {}", rule.name, other.name);
            }
        }
    }

    #[test]
    fn a_rule_prints_with_its_name_and_its_section() {
        let rule = Rule { name: "A_IS_B", says: "A is B", section: "DDI 0487K.a D2" };
        assert_eq!(alloc::string::ToString::to_string(&rule), "A_IS_B: A is B (DDI 0487K.a D2)");
    }
}
