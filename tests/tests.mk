# What the Makefile includes for its tests: programs, fuzz targets, sanitizers, the cross build, lint.
TESTS    := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c $(if $(QUICK),,tests/kern/test_*.c)))
HELPERS  := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/golden/*.c tests/e2e/*.c tests/gateway/*.c)) $(BUILD)/tests/loam-fake
FUZZERS  := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: test check-c check-py lint asan tsan fuzz fuzz-smoke fuzz-run aarch64 aarch64-ci
# Each step is a make of its own: in this order, whatever -j says, and pytest's summary at the end.
test: ## the same set-up, then every test
	@$(SETUP) build test
	@$(MAKE) model
	@$(MAKE) mlx
	@$(MAKE) check-c
	@$(MAKE) fuzz-smoke
	@$(MAKE) check-py

JOBS ?= 2
check-c: $(TESTS) ## the C tests alone
	@failed=; for t in $(TESTS); do echo "== $$t"; LOAM_MLX=$(MLX) $(RUN) $$t || failed="$$failed $$t"; done; \
	  test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

check-py: all $(HELPERS) ## the Python tests alone (PYTEST="tests/golden -k llama" to choose)
	@LOAM="$(RUN) $(BUILD)/loam" $(PYTHON) -m pytest -n $(JOBS) --dist loadgroup $(if $(PYTEST),$(PYTEST),tests)

# A test program links everything but main; a fuzz target brings libFuzzer's main. Kernel tests share a suite.
KERN_OBJ := $(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out tests/kern/test_%,$(wildcard tests/kern/*.c)))
$(KERN_OBJ): ISA := -Itests
KERN     := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/kern/test_*.c))
$(KERN): $(BUILD)/tests/kern/%: tests/kern/%.c $(KERN_OBJ) $(NO_MAIN)
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -Itests -MMD -MP -o $@ $< $(KERN_OBJ) $(NO_MAIN) $(LINK) $(shell $(PKG_CONFIG) --libs cmocka)

$(BUILD)/tests/%: tests/%.c $(NO_MAIN)
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -Itests -MMD -MP -o $@ $< $(NO_MAIN) $(LINK) $(shell $(PKG_CONFIG) --libs cmocka)

# These stand in for functions of others; Apple's linker has no --wrap, so there they are not built.
$(BUILD)/tests/unit/test_steps: LINK += $(foreach f,malloc calloc realloc posix_memalign,-Wl,--wrap=$f)
$(BUILD)/tests/unit/test_lost: LINK += $(foreach f,loami_ref_launch loami_ref_collect,-Wl,--wrap=$f)
ifeq ($(shell uname),Darwin)
TESTS := $(filter-out %/test_steps %/test_lost,$(TESTS))
endif

# The program with an engine whose pace and faults the server tests command; it comes before the library's.
$(BUILD)/tests/loam-fake: tests/server/fake_engine.c $(PROG_OBJ) $(BUILD)/libloam.a
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -MMD -MP -o $@ $< $(PROG_OBJ) $(BUILD)/libloam.a $(LINK)

$(BUILD)/fuzz/%: tests/fuzz/%.c $(NO_MAIN)
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -Itests -MMD -MP -fsanitize=fuzzer -o $@ $< $(NO_MAIN) $(LINK)

# Benchmarks of kernels and whole geometries, without an engine: make build/bench/kernels build/bench/geometry.
$(BUILD)/bench/%: bench/%.c $(BUILD)/libloam.a
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -MMD -MP -o $@ $< $(BUILD)/libloam.a $(LINK)

lint: ## warnings of gcc and clang, include arrows, global names, cppcheck; counts long functions and files
	@$(SETUP) lint
	@$(MAKE) BUILD=build-lint/gcc CC=gcc OPT=-O2 WERROR=1 all
	@$(MAKE) BUILD=build-lint/clang CC=clang OPT=-O2 WERROR=1 all
	@tools/lint.py --library build-lint/gcc/libloam.a

asan: ## address and undefined-behaviour sanitizers: build in build-asan, C and Python tests (QUICK=1: no kernels)
	@$(SETUP) test
	@$(MAKE) BUILD=build-asan OPT="-O1 -g -fno-omit-frame-pointer" \
	  SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=undefined" check-c check-py

tsan: ## thread sanitizer: build in build-tsan, C and end-to-end tests
	@$(SETUP) test
	@$(MAKE) BUILD=build-tsan OPT="-O1 -g" SANITIZE=-fsanitize=thread PYTEST="$(or $(PYTEST),tests/e2e)" check-c check-py

FUZZ_CC      ?= $(firstword $(wildcard /opt/homebrew/opt/llvm/bin/clang /usr/local/opt/llvm/bin/clang) clang)
FUZZ_SECONDS ?= 60
fuzz: ## every parser under libFuzzer (FUZZ_SECONDS=60 each, ONLY=name)
	@$(SETUP) test
	@$(MAKE) BUILD=build-fuzz CC=$(FUZZ_CC) OPT="-O1 -g" \
	  SANITIZE="-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined" fuzz-run
fuzz-run: $(FUZZERS)
	@tools/fuzz $(BUILD) $(FUZZ_SECONDS) $(filter %$(ONLY),$(FUZZERS))
fuzz-smoke:
	@$(MAKE) fuzz FUZZ_SECONDS=5

ARM_PC := PKG_CONFIG_LIBDIR=$(CURDIR)/.arm64/usr/lib/aarch64-linux-gnu/pkgconfig:/usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig
aarch64: ## cross-build for aarch64; C tests and whole models under qemu (Debian)
	@$(SETUP) aarch64 test
	@$(ARM_PC) $(MAKE) BUILD=build-aarch64 CC=aarch64-linux-gnu-gcc AR=aarch64-linux-gnu-ar RUN=qemu-aarch64 \
	  PYTEST="$(or $(PYTEST),tests/golden/test_families.py)" check-c check-py
aarch64-ci: ## the same with the conformance run at one level only: minutes instead of a quarter of an hour
	@LEVEL=i8mm $(MAKE) aarch64

-include $(KERN_OBJ:.o=.d) $(addsuffix .d,$(TESTS) $(HELPERS) $(FUZZERS))
