# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#
# dfr0 among the tests of TARGETS=kvm: kvm's Makefile includes this where the tests are arm64's.

DFR0 := $(selfdir)/dfr0
include $(DFR0)/programs.mk

DFR0_OUT := $(OUTPUT)/$(patsubst %/,%,$(dir $(lastword $(filter %/rust.mk,$(MAKEFILE_LIST)))))
DFR0_CARGO := $(OUTPUT)/dfr0-cargo
EXTRA_CLEAN += $(addprefix $(DFR0_OUT)/,$(DFR0_TESTS)) $(DFR0_CARGO)

# Those that were built. The shell is asked when a recipe runs: make remembers a directory as it was before.
TEST_CUSTOM_PROGS += $(shell for test in $(DFR0_TESTS); do [ ! -x $(DFR0_OUT)/$$test ] || echo $(DFR0_OUT)/$$test; done)

# As everywhere in kselftest, what cannot be built keeps nothing else from being built unless FORCE_TARGETS says so.
all: dfr0_programs
.PHONY: dfr0_programs
dfr0_programs:
	@$(call DFR0_BUILD,$(DFR0_OUT),$(DFR0_CARGO),$(DFR0_TESTS)) || \
		{ echo "dfr0: the other tests of kvm go on without dfr0's" >&2; [ -z "$(FORCE_TARGETS)" ]; }
