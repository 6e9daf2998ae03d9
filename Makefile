# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help check compare defects bare bench matrix pairs test test-fleet test-kselftest test-report test-contrib coverage mutants \
    bundle release tools install clean kselftest-install kselftest-remove

# Variables for users: HOST and KERNEL select a lab host, HOSTS and KERNELS several, MACHINE a bare machine, PATTERNS the
# cases, RESULTS where a run leaves its results, KSRC a kernel tree, PATCH patches for it or for KERNEL's source, BASE and HEAD two kernels, DEFECTS names in
# lab/kernels/defects.toml, PREFIX and DESTDIR where `make install` puts files, ENGINE what runs the cells of a matrix. The
# variables of each target:
OF_check := HOST KERNEL KSRC PATCH PATTERNS RESULTS
OF_compare := BASE HEAD KERNEL KSRC PATCH HOST HOSTS PATTERNS EVERY
OF_defects := DEFECTS HOSTS UPSTREAM PAGE
OF_bare := HOST MACHINE PATTERNS
OF_bench := HOST KERNEL KSRC PATTERNS
OF_matrix := HOSTS KERNELS PATTERNS RESUME EVERY ENGINE SBATCH DETACH
OF_pairs := HOSTS
OF_install := PREFIX DESTDIR
OF_kselftest-install := KSRC
OF_kselftest-remove := KSRC
OF_ALL := DFR0_% CARGO_% RUST%

# A variable on the command line that a target does not have is a mistake, such as PATTERN= or HOSTS=.
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
ifndef DFR0_TOOLCHAIN
$(foreach goal,$(or $(MAKECMDGOALS),help),$(foreach name,$(filter-out $(OF_$(goal)) $(OF_ALL),$(filter-out -%,$(GIVEN))), \
    $(error dfr0: `make $(goal)` has no variable $(name)$(if $(OF_$(goal)),; it has $(OF_$(goal))))))
endif

HOST ?=
HOSTS ?=
MACHINE ?=
KERNEL ?=
KERNELS ?=
RESUME ?=
ENGINE ?=
SBATCH ?=
DETACH ?=
KSRC ?=
PATCH ?=
BASE ?=
HEAD ?=
DEFECTS ?=
UPSTREAM ?=
PAGE ?=
PATTERNS ?=
RESULTS ?=
PREFIX ?= /usr/local
# The kernel of docs/remap.md.
ifneq ($(and $(filter remap,$(KERNEL)),$(filter check compare,$(MAKECMDGOALS))),)
override KERNEL := newest
override PATCH := lab/kernels/remap.patch $(PATCH)
endif
DESTDIR ?=

help:
	@echo "make check             run every suite, on this machine if it is arm64 with"
	@echo "                       /dev/kvm, else in a lab host"
	@echo "make check HOST=NAME   run every suite in this lab host;"
	@echo "                       KERNEL=bookworm|trixie|sid|newest|PATH is its kernel,"
	@echo "                       PATTERNS='breakpoints id_regs.wrps' selects cases"
	@echo "make check RESULTS=DIR leave results, KTAP, a page for a browser and the"
	@echo "                       kernel's log in DIR"
	@echo "make check KSRC=DIR    build a small kernel from this tree and run every"
	@echo "                       suite on it; PATCH='series.mbox' (or patches, or a range"
	@echo "                       of commits) is applied to a copy, of Debian's source"
	@echo "                       without KSRC; KERNEL=remap is docs/remap.md's kernel"
	@echo "make compare PATCH=…   run every suite without and with the patches, and print"
	@echo "                       what changed; BASE=… HEAD=… name two kernels"
	@echo "                       (docs/series.md)"
	@echo "make bare              run every suite on a lab host's CPU without KVM (the"
	@echo "                       control); HOST and PATTERNS as above"
	@echo "make bare MACHINE=DIR  the same on a machine that the lab does not start, such"
	@echo "                       as a model of a CPU (docs/bare.md)"
	@echo "make defects           build Linux with each known defect and say which cases"
	@echo "                       see it (docs/defects.md); takes hours, continues where"
	@echo "                       it ended; DEFECTS='a b' and HOSTS='c d' select,"
	@echo "                       UPSTREAM=1 runs upstream's own tests beside, PAGE=FILE"
	@echo "                       is where the table goes"
	@echo "make bench [KSRC=DIR]  measure how fast the suites run, compared with a loop"
	@echo "                       that only takes exceptions, and with KVM's own test"
	@echo "                       debug-exceptions of the kernel tree KSRC"
	@echo "make matrix            run a sample of every suite in each of nine lab hosts"
	@echo "                       with each of four kernels; HOSTS='NAME …',"
	@echo "                       KERNELS='bookworm …' and PATTERNS select others,"
	@echo "                       RESUME=1 continues the last run (with the same settings)"
	@echo "make matrix ENGINE=slurm"
	@echo "                       the same on Slurm's nodes; SBATCH='--partition=metal …'"
	@echo "                       are options of sbatch, DETACH=1 does not wait"
	@echo "                       (docs/fleets.md)"
	@echo "make pairs             move scenarios between lab hosts and compare the outcomes"
	@echo "                       with the plans; HOSTS='NAME@KERNEL …' selects the hosts"
	@echo "make hosts             list the lab hosts"
	@echo "make test              run dfr0's own tests, including those in lab hosts"
	@echo "make test-fleet        test ENGINE=slurm with Slurm's daemons on this machine"
	@echo "make test-kselftest    run all tests of dfr0 in kernel trees (takes minutes)"
	@echo "make test-report       test the page of \`dfr0 report html\` in a browser"
	@echo "make test-contrib      test contrib/ with ReFrame and tmt from PyPI, in lab hosts"
	@echo "make kselftest-install KSRC=/path/to/linux"
	@echo "                       add dfr0 to a kernel tree, as TARGETS=dfr0 and among the"
	@echo "                       tests of TARGETS=kvm"
	@echo "make kselftest-remove KSRC=/path/to/linux"
	@echo "                       remove it from the tree"
	@echo "make coverage          write docs/coverage.md: each rule of the model and the"
	@echo "                       cases that test it"
	@echo "make mutants           make small changes to the model and check that each"
	@echo "                       makes a test fail (cargo-mutants, takes minutes)"
	@echo "make bundle            build target/bundle/: a static arm64 program to copy to"
	@echo "                       any arm64 Linux"
	@echo "make release           pack the bundle, README and the licences into one archive"
	@echo "                       in target/, with its SHA-256"
	@echo "make tools             build dfr0 and lab for this machine, in target/release/:"
	@echo "                       they plan moves, make reports, and boot lab hosts"
	@echo "make install           install dfr0 and lab in /usr/local, with manual pages and"
	@echo "                       shell completions; PREFIX=DIR selects another directory"
	@echo "make clean             remove target/ (what the lab fetched stays in its cache)"
	@echo "DFR0_NO_INSTALL=1      do not install packages; list the missing ones instead"

clean:
	@echo "dfr0: clean: removing target/"
	@rm -rf target

kselftest-install kselftest-remove:
	@suites/kselftest/in-tree $(@:kselftest-%=%) '$(KSRC)'

ifndef DFR0_TOOLCHAIN

# What a kernel's build needs.
check compare: export DFR0_NEEDS := $(if $(strip $(KSRC) $(PATCH) $(BASE) $(HEAD)),make=make gcc=gcc flex=flex bison=bison \
    bc=bc perl=perl git=git)
defects: export DFR0_NEEDS := make=make gcc=gcc flex=flex bison=bison bc=bc perl=perl git=git rsync=rsync
# Slurm's daemons. `make test` leaves their test out where they cannot be installed.
SLURM := /usr/sbin/munged=munge /usr/sbin/slurmctld=slurmctld /usr/sbin/slurmd=slurmd sbatch=slurm-client
test: export DFR0_WANTS := $(SLURM)
# What the tests in kernel trees need and Debian does not install by default.
test-fleet: export DFR0_NEEDS := $(SLURM)
test test-kselftest: export DFR0_NEEDS := rsync=rsync xz=xz-utils git=git prove=perl python3=python3 \
    /usr/lib/python3/dist-packages/tap/parser.py=python3-tap \
    /usr/lib/python3/dist-packages/jsonschema/__init__.py=python3-jsonschema
# What opens a report in a browser.
test-report: export DFR0_NEEDS := chromium=chromium chromedriver=chromium-driver \
    /usr/lib/python3/dist-packages/selenium/__init__.py=python3-selenium

# What makes a Python with programs from PyPI.
test-contrib: export DFR0_NEEDS := python3=python3 /usr/share/doc/python3-venv=python3-venv

# Finds or installs the toolchain and calls make again with it.
check compare defects bare bench matrix pairs test test-fleet test-kselftest test-report test-contrib coverage mutants bundle release tools install hosts:
	@lab/with-toolchain $(MAKE) --no-print-directory DFR0_TOOLCHAIN=1 $@

else

ARM64 := aarch64-unknown-linux-gnu
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
BUNDLE := $(TARGET)/bundle
LAB := $(TARGET)/release/lab
include suites/kselftest/programs.mk

# A kernel in the lab's notation (docs/series.md): a name or a path, and after each comma a patch.
comma := ,
space := $(subst ,, )
commas = $(subst $(space),$(comma),$(strip $1))
ifeq ($(strip $(filter check compare,$(MAKECMDGOALS))),)
UNDER_TEST := $(KERNEL)
else
$(if $(and $(KSRC),$(KERNEL)),$(error dfr0: KSRC and KERNEL both name the kernel: use one of them))
UNDER_TEST := $(call commas,$(or $(if $(KSRC),$(abspath $(KSRC))),$(KERNEL),$(if $(PATCH),newest)) $(PATCH))
endif
HERE := $(if $(HOST)$(UNDER_TEST),,$(and $(filter aarch64,$(shell uname -m)),$(wildcard /dev/kvm)))
EXEC := $(LAB) exec $(HOST:%=--host %) $(UNDER_TEST:%=--kernel %) $(RESULTS:%=--out %)
RUN := $(if $(HERE),$(BUNDLE)/dfr0,$(EXEC) --with $(BUNDLE) -- ./dfr0)

# A bundle that is the same stays: another make in this tree may be running it.
bundle:
	@echo "dfr0: bundle: building a static arm64 program into target/bundle"
	@lab/compile bundle build --release --target $(ARM64) --package dfr0-suites --bin dfr0
	@new=$$(mktemp -d $(BUNDLE).XXXXXX) && trap 'rm -rf "$$new"' EXIT && chmod 755 $$new && \
	    cp -r $(TARGET)/$(ARM64)/release/dfr0 suites/kselftest/settings expected $$new && \
	    for test in $(DFR0_TESTS); do ln -s dfr0 $$new/$$test; done && \
	    { diff -r --no-dereference $$new $(BUNDLE) &> /dev/null || { rm -rf $(BUNDLE) && mv -T $$new $(BUNDLE); }; }

# The same commit and program give the same archive.
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
RELEASE := dfr0-$(VERSION)-linux-arm64
release: bundle
	@rm -rf $(TARGET)/$(RELEASE)* && mkdir $(TARGET)/$(RELEASE)
	@cp -r $(BUNDLE)/. README.md LICENSES $(TARGET)/$(RELEASE)
	@tar --directory $(TARGET) --sort=name --owner=0 --group=0 --numeric-owner --mtime=@$$(git log -1 --format=%ct) \
	    --create $(RELEASE) | gzip -n > $(TARGET)/$(RELEASE).tar.gz
	@rm -rf $(TARGET)/$(RELEASE)
	@cd $(TARGET) && sha256sum $(RELEASE).tar.gz > $(RELEASE).sha256
	@echo "dfr0: release: target/$(RELEASE).tar.gz and target/$(RELEASE).sha256"

.PHONY: lab hosts
lab:
	@lab/compile lab build --release --package dfr0-lab --bin lab
	@lab/compile lab build --release --target $(ARM64) --package dfr0-lab --bin lab-init

tools: lab
	@lab/compile dfr0 build --release --package dfr0-suites --bin dfr0
	@echo "dfr0: tools: target/release/dfr0 and target/release/lab"

# What `--help` prints, as manual pages and shell completions.
install: tools
	@rm -rf $(TARGET)/pages
	@cargo run --quiet --release --package dfr0-runner --example pages -- $(TARGET)/pages
	@install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
	    $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	@install $(TARGET)/release/dfr0 $(LAB) $(DESTDIR)$(PREFIX)/bin
	@install -m 644 $(TARGET)/pages/*.1 $(DESTDIR)$(PREFIX)/share/man/man1
	@install -m 644 $(TARGET)/pages/dfr0.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/dfr0
	@install -m 644 $(TARGET)/pages/_dfr0 $(DESTDIR)$(PREFIX)/share/zsh/site-functions
	@install -m 644 $(TARGET)/pages/dfr0.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	@echo "dfr0: install: dfr0 and lab are in $(DESTDIR)$(PREFIX)/bin"

# QEMU and kernels are fetched while the bundle is built.
.PHONY: fetch bundle-and-host
fetch:
	@$(LAB) fetch $(UNDER_TEST:%=--kernel %) > /dev/null
bundle-and-host: lab
	@$(MAKE) --no-print-directory -j2 UNDER_TEST='$(UNDER_TEST)' fetch bundle

hosts: lab
	@$(LAB) list

# With RESULTS, the report is made of what there is, also if the host died. check.tap is that of the run that ended last.
KEPT := $(if $(RESULTS),--results $(if $(HERE),$(abspath $(RESULTS)),/out)/results.jsonl)
check: $(if $(HERE),bundle,bundle-and-host)
	@echo "dfr0: check: running $(or $(PATTERNS),every suite) $(if $(HERE),on this machine,in $(if $(HOST),the lab host $(HOST),the default lab host))"
	@$(if $(RESULTS),mkdir -p $(RESULTS) && cargo build --quiet --release --package dfr0-suites --bin dfr0)
	@tap=$$(mktemp $(TARGET)/check.XXXXXX); trap 'rm -f "$$tap"' EXIT; chmod 644 $$tap; \
	    failed=0; $(RUN) run $(KEPT) $(PATTERNS) | tee $$tap || failed=1; \
	    $(if $(RESULTS),cp $$tap $(RESULTS)/results.tap; \
	    $(TARGET)/release/dfr0 report html --out $(RESULTS)/report.html $(RESULTS)/results.jsonl || true;) \
	    how=$$([ $$failed = 0 ] && echo passed || echo failed); \
	    sed -n "s/^# Totals: /dfr0: check $$how: /p" $$tap; mv $$tap $(TARGET)/check.tap; exit $$failed

# BASE is what HEAD is without its patches, unless it is named. If one of them is built, so is a kernel of Debian's that it is
# compared with, because a difference should not come from the configuration.
NEW := $(or $(HEAD),$(UNDER_TEST))
OLD := $(or $(BASE),$(firstword $(subst $(comma), ,$(NEW))))
is_built = $(or $(findstring $(comma),$1),$(wildcard $(addsuffix /Kconfig,$1)))
built = $(if $(or $(findstring /,$1),$(findstring $(comma),$1)),$1,$1$(comma))
beside = $(if $(or $(call is_built,$(OLD)),$(call is_built,$(NEW))),$(call built,$1),$1)
COMPARED := $(TARGET)/compare
compare: EVERY := 1
compare: bundle lab
	@[ -n '$(NEW)' ] || { echo "dfr0: compare: name what is compared: PATCH=…, or HEAD=… and BASE=… (docs/series.md)"; exit 2; }
	@rm -rf $(COMPARED) && mkdir -p $(COMPARED)
	@cargo build --quiet --release --package dfr0-suites --bin dfr0
	@$(LAB) fetch --kernel '$(call beside,$(OLD))' --kernel '$(call beside,$(NEW))' > /dev/null
	@host=$$($(LAB) list | sed -n 's/ .*(default).*//p'); \
	run() { echo "dfr0: compare: running $(or $(PATTERNS),every suite) on $$2" >&2; \
	    $(LAB) matrix --out $(COMPARED)/$$1 $(or $(patsubst %,--host %,$(HOSTS) $(HOST)),--host "$$host") --kernel "$$2" -- \
	        $(BUNDLE)/dfr0 run --every $(EVERY) --results - $(PATTERNS) || case $$? in 1|4) ;; *) exit $$?; esac; }; \
	    run base '$(call beside,$(OLD))' && run head '$(call beside,$(NEW))'
	@$(TARGET)/release/dfr0 report diff $(COMPARED)/base $(COMPARED)/head --html $(COMPARED)/compare.html | \
	    tee $(COMPARED)/compare.txt || { echo "dfr0: compare: worse; open target/compare/compare.html in a browser"; exit 1; }
	@echo "dfr0: compare: not worse; open target/compare/compare.html in a browser"

bare: lab
	@echo "dfr0: bare: running $(or $(PATTERNS),every suite) on the bare CPU of $(if $(MACHINE),the machine in $(MACHINE),$(if $(HOST),the lab host $(HOST),the default lab host))"
	@cargo build --quiet --release --package dfr0-suites --bin dfr0
	@$(LAB) exec --bare $(HOST:%=--host %) $(MACHINE:%=--machine %) -- $(TARGET)/release/dfr0 run $(PATTERNS) | tee $(TARGET)/bare.tap && \
	    sed -n 's/^# Totals: /dfr0: bare passed: /p' $(TARGET)/bare.tap || \
	    { sed -n 's/^# Totals: /dfr0: bare failed: /p' $(TARGET)/bare.tap; exit 1; }

bench: $(if $(HERE),bundle,bundle-and-host)
	@$(if $(KSRC),suites/kselftest/upstream $(abspath $(KSRC)) $(TARGET)/upstream arm64/debug-exceptions && cp $(TARGET)/upstream/arm64/debug-exceptions $(BUNDLE))
	@$(RUN) bench $(if $(KSRC),--beside $(if $(HERE),$(BUNDLE),.)/debug-exceptions) $(PATTERNS)

# Upstream's tests of debug and ID registers. The source is that of the kernels.
UPSTREAMS := arm64/debug-exceptions arm64/set_id_regs arm64/aarch32_id_regs arm64/idreg-idst get-reg-list
defects: bundle lab
	@$(if $(UPSTREAM),mkdir -p $(TARGET)/upstream-source && tar -xf "$$($(LAB) source newest)" -C $(TARGET)/upstream-source && \
	    suites/kselftest/upstream $(TARGET)/upstream-source $(TARGET)/upstream $(UPSTREAMS) && \
	    mkdir -p $(TARGET)/upstream/tests && cp $(UPSTREAMS:%=$(TARGET)/upstream/%) $(TARGET)/upstream/tests)
	@echo "dfr0: defects: building and testing $(or $(DEFECTS),every defect), into target/defects"
	@$(LAB) defects --bundle $(BUNDLE) --out $(TARGET)/defects $(if $(UPSTREAM),--upstream $(TARGET)/upstream/tests) \
	    $(HOSTS:%=--host %) $(if $(PAGE),--page $(PAGE)) $(DEFECTS)

# `latest` is the last run; RESUME=1 continues it. EVERY=1 runs all scenarios, which takes three times as long. A cell that
# did not report fails the run, and the reports show it.
EVERY ?= 16
matrix: bundle lab
	@[ -n '$(RESUME)' ] || { run=$$(date +%Y-%m-%d-%H%M%S) && mkdir -p $(TARGET)/matrix/$$run && \
	    ln -sfn $$run $(TARGET)/matrix/latest; }
	@cargo build --quiet --release --package dfr0-suites --bin dfr0
	@echo "dfr0: matrix: running a sample of every suite in each lab host with each kernel, into target/matrix/latest"
	@$(LAB) matrix --out $(TARGET)/matrix/latest $(if $(RESUME),--resume) $(HOSTS:%=--host %) \
	    $(KERNELS:%=--kernel %) $(ENGINE:%=--executor %) $(SBATCH:%=--sbatch=%) $(if $(DETACH),--detach) \
	    --report $(TARGET)/release/dfr0 -- $(BUNDLE)/dfr0 run --every $(EVERY) --results - $(PATTERNS) && \
	    failed=0 || failed=$$?; case $$failed in 0|1|4) ;; *) exit $$failed; esac; $(if $(DETACH),exit $$failed;) \
	    cat $(TARGET)/matrix/latest/report.txt; \
	    echo "dfr0: matrix: open target/matrix/latest/report.html in a browser"; exit $$failed

# These tests take minutes each. Only `make test-kselftest` runs them.
SLOW := tree.with_cargo host.native

pairs: bundle lab
	@echo "dfr0: pairs: saving on each lab host and restoring on every other one"
	@rm -rf $(TARGET)/pairs
	@$(LAB) pairs --out $(TARGET)/pairs --bundle $(BUNDLE) $(HOSTS)
	@cargo run --quiet --release --package dfr0-suites --bin dfr0 -- pairs table $(TARGET)/pairs

# The parts of `make test`. The first two run side by side: hosts leave one core idle, which meanwhile does what needs no
# host, and builds what comes next. The jobserver in MAKEFLAGS is only open to make.
.PHONY: test-in-host test-here test-hosts
ALONE := env -u MAKEFLAGS -u MFLAGS cargo
TEST := $(ALONE) test --quiet
FOR_HOSTS := --release --target $(ARM64) --package dfr0-runner --package dfr0-suites \
    --test dying_guests --test no_kvm --test snapshots --test cases
# Those that use hosts. Cargo builds the same crates again for another choice of packages, so the choice is always all.
OF_HOSTS := bare_cpu bare_machine command hosts kselftest fleet
test-in-host:
	@DFR0_LAB=$(LAB) $(TEST) $(FOR_HOSTS)

test-here:
	@$(ALONE) fmt --all --check
	@$(TEST) --workspace --lib
	@$(TEST) --workspace $(OF_HOSTS:%=--test %) --no-run
	@$(ALONE) clippy --quiet --release --workspace --all-targets $(OF_HOSTS:%=--test %) --target $(ARM64)
	@$(ALONE) clippy --quiet --profile payload --package dfr0-payload --features guest --target $(ARM64)

test-hosts: export DFR0_LAB := $(LAB)
test-hosts: export DFR0_BUNDLE := $(BUNDLE)
test-hosts:
	@$(LAB) exec --bare -- $(TEST) --workspace --test bare_cpu
	@$(TEST) --workspace --test bare_machine --test command --test hosts
	@$(TEST) --workspace --test fleet -- array.killed_daemon_and_resumed
	@$(TEST) --workspace --test kselftest -- $(SLOW:%=--skip %)

# Each part prints cargo's own "test result" lines; the last line is their sum. The first build makes the tests for hosts and
# the bundle at once.
test:
	@echo "dfr0: test: building the tests for arm64"
	@lab/compile test test $(FOR_HOSTS) --no-run
	@$(MAKE) --no-print-directory bundle-and-host
	@echo "dfr0: test: format, lints, tests on this machine, tests in lab hosts"
	@{ $(MAKE) --no-print-directory -j2 --output-sync=line test-in-host test-here && \
	   $(MAKE) --no-print-directory test-hosts; \
	 } 2>&1 | tee $(TARGET)/test.log || failed=1; \
	 awk '/^test result:/ { passed += $$4; failed += $$6; skipped += $$8 } \
	      END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped; exit failed > 0 || passed == 0 }' \
	     $(TARGET)/test.log && [ -z "$${failed:-}" ]

test-fleet: bundle-and-host
	@echo "dfr0: test-fleet: running jobs on three of Slurm's nodes on this machine"
	@DFR0_LAB=$(LAB) DFR0_BUNDLE=$(BUNDLE) cargo test --quiet --package dfr0-lab --test fleet

test-kselftest: bundle lab
	@echo "dfr0: test-kselftest: testing dfr0 in Debian's kernel sources"
	@DFR0_LAB=$(LAB) DFR0_BUNDLE=$(BUNDLE) \
	    cargo test --quiet --release --package dfr0-suites --test kselftest

# Not part of `make test`, because installing the browser takes longer than running everything else.
test-report:
	@echo "dfr0: test-report: testing a page in headless Chromium"
	@cargo build --quiet --release --package dfr0-suites --bin dfr0
	@/usr/bin/python3 suites/tests/report/page.py $(TARGET)/release/dfr0 docs/results.example.jsonl

# Not part of `make test`, because PyPI cannot always be reached.
test-contrib: bundle lab
	@echo "dfr0: test-contrib: testing contrib/ with ReFrame, tmt, meson and tap.py from PyPI"
	@[ -x $(TARGET)/contrib/bin/reframe ] || { rm -rf $(TARGET)/contrib && python3 -m venv $(TARGET)/contrib && \
	    $(TARGET)/contrib/bin/pip install --quiet reframe-hpc==4.10.4 tmt==1.78.0 meson tap.py pyyaml; }
	@cargo build --quiet --release --package dfr0-suites --bin dfr0
	@$(TARGET)/contrib/bin/python suites/tests/contrib/run.py $(TARGET)/release/dfr0

coverage:
	@echo "dfr0: coverage: writing docs/coverage.md"
	@DFR0_BLESS=1 cargo test --quiet --package dfr0-suites --lib coverage

# cargo-mutants works in a copy of this tree. .cargo/mutants.toml lists what is left out.
mutants:
	@command -v cargo-mutants > /dev/null || \
	    { echo "dfr0: mutants: cargo-mutants is not installed: run \`cargo install cargo-mutants --locked\`"; exit 1; }
	@echo "dfr0: mutants: changing the model and the payload, testing each change"
	@env -u CARGO_TARGET_DIR cargo mutants --package dfr0-model --package dfr0-payload --jobs 2 --output $(TARGET) || \
	    [ $$? = 3 ]  # a mutant timed out, and none survived

endif
