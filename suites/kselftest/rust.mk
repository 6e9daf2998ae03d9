# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#
# dfr0 among the tests of TARGETS=kvm. kvm's Makefile includes this file if it builds the tests for arm64.

DFR0 := $(selfdir)/dfr0
include $(DFR0)/programs.mk

DFR0_OUT := $(OUTPUT)/$(patsubst %/,%,$(dir $(lastword $(filter %/rust.mk,$(MAKEFILE_LIST)))))
DFR0_CARGO := $(OUTPUT)/dfr0-cargo
EXTRA_CLEAN += $(addprefix $(DFR0_OUT)/,dfr0 $(DFR0_TESTS)) $(DFR0_CARGO)

# The programs that were built. This uses the shell, when a recipe runs, because make caches the contents of directories.
DFR0_BUILT = $(shell for program in $(1); do [ ! -x $(DFR0_OUT)/$$program ] || echo $(DFR0_OUT)/$$program; done)
TEST_CUSTOM_PROGS += $(call DFR0_BUILT,$(DFR0_TESTS))
# What the tests are links to is installed with them, but is not a test.
install: TEST_CUSTOM_PROGS += $(call DFR0_BUILT,dfr0)

# As everywhere in kselftest, a test that cannot be built does not stop the build of the others, except with FORCE_TARGETS.
all: dfr0_programs
.PHONY: dfr0_programs
dfr0_programs:
	@$(call DFR0_BUILD,$(DFR0_OUT),$(DFR0_CARGO)) || \
		{ echo "dfr0: kvm's other tests are built without dfr0's" >&2; [ -z "$(FORCE_TARGETS)" ]; }
