# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#
# What dfr0's own Makefile and kvm's share. DFR0 is this directory.

# Each test program, by its name.
DFR0_TESTS := $(sort $(patsubst %.rs,%,$(notdir $(wildcard $(DFR0)/source/suites/bin/dfr0_*.rs))))

# A directory of ready programs, as dfr0's `make bundle` makes it. With it nothing is compiled.
ifneq ($(PREBUILT),)
ifeq ($(wildcard $(PREBUILT)/dfr0),)
$(error dfr0: PREBUILT=$(PREBUILT): no program dfr0 is there; it takes the absolute path of dfr0's target/bundle)
endif
endif

# $(call DFR0_BUILD,DIRECTORY,CARGO'S,PROGRAMS). The jobserver in MAKEFLAGS is not open to what is no make.
DFR0_BUILD = env -u MAKEFLAGS -u MFLAGS CROSS_COMPILE="$(CROSS_COMPILE)" PREBUILT="$(PREBUILT)" \
	$(DFR0)/build "$(1)" "$(2)" $(3)
