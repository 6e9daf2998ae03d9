# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#
# Shared by dfr0's own Makefile and kvm's, in which DFR0 is this directory, and by the Makefile outside of kernel trees.

# The test programs, one per suite: symbolic links to the program dfr0, which runs the suite that the link's name contains.
DFR0_SUITES := aarch32 below_el2 breakpoints double_lock exception_masking guest_debug id_regs linked_context migration nested os_lock \
	preemption protected random register_access shapes software_step watchpoints
DFR0_TESTS := $(DFR0_SUITES:%=dfr0_%)

# PREBUILT is a directory of programs that dfr0's `make bundle` built. With it nothing is compiled.
ifneq ($(PREBUILT),)
ifeq ($(wildcard $(PREBUILT)/dfr0),)
$(error dfr0: PREBUILT=$(PREBUILT): it contains no program dfr0; it must be the absolute path of dfr0's target/bundle)
endif
endif

# $(call DFR0_BUILD,DIRECTORY,TARGET). The jobserver in MAKEFLAGS is only open to make.
DFR0_BUILD = env -u MAKEFLAGS -u MFLAGS CROSS_COMPILE="$(CROSS_COMPILE)" PREBUILT="$(PREBUILT)" \
	$(DFR0)/build "$(1)" "$(2)" $(DFR0_TESTS)
