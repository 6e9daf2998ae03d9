# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#
# Shared by dfr0's own Makefile and kvm's. DFR0 is this directory.

# The names of the test programs.
DFR0_TESTS := $(sort $(patsubst %.rs,%,$(notdir $(wildcard $(DFR0)/source/suites/bin/dfr0_*.rs))))

# PREBUILT is a directory of programs that dfr0's `make bundle` built. With it nothing is compiled.
ifneq ($(PREBUILT),)
ifeq ($(wildcard $(PREBUILT)/dfr0),)
$(error dfr0: PREBUILT=$(PREBUILT): it contains no program dfr0; it must be the absolute path of dfr0's target/bundle)
endif
endif

# $(call DFR0_BUILD,DIRECTORY,TARGET,PROGRAMS). The jobserver in MAKEFLAGS is only open to make.
DFR0_BUILD = env -u MAKEFLAGS -u MFLAGS CROSS_COMPILE="$(CROSS_COMPILE)" PREBUILT="$(PREBUILT)" \
	$(DFR0)/build "$(1)" "$(2)" $(3)
