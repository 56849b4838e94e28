# SPDX-License-Identifier: Apache-2.0
# The commands of the project, one each; the work is done by meson and the scripts they name.

BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 60
# More options for `meson setup`, e.g. SETUP="-Doptimization=3"
SETUP ?=

# One ONNX Runtime for tests and measurements, whatever the system has. Debian 13's also works, but
# it writes a thousand lines about schemas registered twice when a session is made.
export TIDEMILL_ONNXRUNTIME ?= $(CURDIR)/.deps/lib/libonnxruntime.so

PYTHON := .deps/venv/bin/python
sources = $(shell find include src tests bench -name '*.[ch]' 2>/dev/null | LC_ALL=C sort)

# $(call configure,folder,options,environment): makes the build folder unless it is there.
configure = test -f $(1)/build.ninja || \
	$(3) meson setup $(1) -Dpkg_config_path=$(CURDIR)/.deps/pkgconfig $(2) $(SETUP)

# Leaks inside other people's libraries are not ours; shims are preloaded before the sanitizer.
sanitizer_environment = ASAN_OPTIONS=verify_asan_link_order=0:abort_on_error=1 \
	UBSAN_OPTIONS=print_stacktrace=1 LSAN_OPTIONS=suppressions=$(CURDIR)/tools/leaks.supp

.PHONY: all bootstrap configure demo serve test test-unit bench bench-peers format format-check lint sanitize \
	sanitize-build sanitize-threads fuzz fuzz-build install clean help

all: configure ## build the library and the command into build/
	@ninja -C $(BUILD)

# Only says and does something when something is missing.
bootstrap:
	@tools/bootstrap --check || tools/bootstrap

configure: bootstrap
	@$(call configure,$(BUILD))

demo: all ## run the example job on real data
	@TIDEMILL=$(CURDIR)/$(BUILD)/tidemill examples/digits/demo.sh

serve: all ## serve the examples' models on 127.0.0.1:8080, until Ctrl-C
	@$(BUILD)/tidemill serve examples/serve/tidemill.yaml

test: all ## unit tests and end-to-end tests
	@$(PYTHON) tools/test.py $(BUILD) $(TEST_OPTIONS)

test-unit: all ## unit tests only
	@$(PYTHON) tools/test.py $(BUILD) --e2e none $(TEST_OPTIONS)

bench: all ## measure against peers and the machine's limits
	@TIDEMILL=$(CURDIR)/$(BUILD)/tidemill bench/run

bench-peers: all ## beside Ray, Spark, Beam, Triton and others, which it installs
	@TIDEMILL=$(CURDIR)/$(BUILD)/tidemill bench/peers/run

format: bootstrap ## lay out the C sources
	@.deps/venv/bin/clang-format -i $(sources)

format-check: bootstrap ## fail if `make format` would change something
	@.deps/venv/bin/clang-format --dry-run -Werror $(sources)

lint: bootstrap ## the rules that a compiler does not know
	@$(PYTHON) tools/lint.py

sanitize-build: bootstrap
	@$(call configure,build-asan,-Db_sanitize=address$(,)undefined)
	@ninja -C build-asan

sanitize: sanitize-build ## all tests under the address and undefined-behaviour sanitizers
	@$(sanitizer_environment) $(PYTHON) tools/test.py build-asan $(TEST_OPTIONS)

sanitize-threads: bootstrap ## the unit tests that have threads, under the thread sanitizer
	@$(call configure,build-tsan,-Db_sanitize=thread)
	@ninja -C build-tsan
	@TSAN_OPTIONS=halt_on_error=1 $(PYTHON) tools/test.py build-tsan --suite threads --e2e none \
		$(TEST_OPTIONS)

fuzz-build: bootstrap
	@$(call configure,build-fuzz,-Dfuzz=true -Db_sanitize=address$(,)undefined -Db_lundef=false,CC=clang)
	@ninja -C build-fuzz

fuzz: fuzz-build ## each fuzzer for FUZZ_SECONDS (60)
	@tools/fuzz build-fuzz $(FUZZ_SECONDS)

# A build of its own: the installed files know nothing of the source tree. They bring along those
# libraries that came from .deps and not from the system.
install: bootstrap ## install below PREFIX (/usr/local); DESTDIR for packagers
	@$(call configure,build-install,-Dtests=false -Dbundle=true --prefix=$(PREFIX))
	@meson configure build-install -Dprefix=$(PREFIX)
	@ninja -C build-install
	@DESTDIR=$(DESTDIR) meson install -C build-install --no-rebuild

clean: ## remove the build folders; .deps stays
	@rm -rf $(BUILD) build-*

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-24s %s\n", $$1, $$2 }'

, := ,
