# loam's build. README.md has the two commands that matter, `make help` has all of them.
BUILD      ?= build
PREFIX     ?= /usr/local
CC         ?= cc
AR         ?= ar
OPT        ?= -O3 -g
WARN       := -Wall -Wextra -Wpedantic $(if $(WERROR),-Werror)
VENV       ?= .venv
PYTHON     ?= $(VENV)/bin/python
MODEL      ?= smollm2-135m-instruct
PORT       ?= 8000
SYSTEM     := $(shell uname -s)
MAKEFLAGS  += --no-print-directory

# Homebrew keeps these out of pkg-config's way.
KEGS       := $(wildcard $(foreach k,openssl@3 curl libedit sqlite,/opt/homebrew/opt/$(k)/lib/pkgconfig /usr/local/opt/$(k)/lib/pkgconfig))
EMPTY      :=
PKG_CONFIG ?= $(if $(KEGS),PKG_CONFIG_PATH=$(subst $(EMPTY) ,:,$(KEGS)):$$PKG_CONFIG_PATH )pkg-config
LIBS       := libevent libevent_pthreads libevent_openssl libssl libcrypto libcurl jansson sqlite3 libpcre2-8 libutf8proc libedit

# A bare machine: what the build needs is installed before anything else is looked at.
SETUP := NO_INSTALL=$(NO_INSTALL) VENV=$(VENV) tools/setup
ifeq ($(filter help clean,$(MAKECMDGOALS)),)
ifneq ($(shell command -v $(firstword $(CC)) >/dev/null && $(PKG_CONFIG) --exists $(LIBS) 2>/dev/null && echo yes),yes)
ifneq ($(shell $(SETUP) build >&2 && echo yes),yes)
$(error what is said above is missing)
endif
endif
endif

FLAGS = -std=c11 -D_GNU_SOURCE -D_DARWIN_C_SOURCE -Iinclude -Isrc $(WARN) $(OPT) $(SANITIZE) $(LIB_FLAGS)
LINK  = $(SANITIZE) $(LIB_LINK) -lpthread -lm $(if $(filter Linux,$(SYSTEM)),-ldl)
LIB_FLAGS := $(shell $(PKG_CONFIG) --cflags $(LIBS) 2>/dev/null)
LIB_LINK  := $(shell $(PKG_CONFIG) --libs $(LIBS) 2>/dev/null)

# SIMD kernels: the folder of this machine's architecture; each file names its own instruction set.
MACHINE := $(shell $(CC) -dumpmachine 2>/dev/null)
ARCH    := $(if $(filter x86_64%,$(MACHINE)),x86,$(if $(filter aarch64% arm64%,$(MACHINE)),arm))
$(BUILD)/obj/src/substrate/cpu/x86/avx2%.o:   ISA := -mavx2 -mfma -mf16c
$(BUILD)/obj/src/substrate/cpu/x86/avx512%.o: ISA := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512bf16 -mavx2 -mfma -mf16c
$(BUILD)/obj/src/substrate/cpu/arm/dot%.o:    ISA := -march=armv8.2-a+dotprod

sources = $(wildcard $(addsuffix /*.c,$(addprefix src/,$(1))))
LIB_SRC  := $(call sources,base file text text/* substrate substrate/reference substrate/cpu model engine) $(if $(ARCH),$(call sources,substrate/cpu/$(ARCH)))
PROG_SRC := $(call sources,net api gateway store web cmd)
LIB_OBJ  := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
PROG_OBJ := $(PROG_SRC:%.c=$(BUILD)/obj/%.o)
NO_MAIN  := $(filter-out %/cmd/main.o,$(PROG_OBJ)) $(BUILD)/libloam.a
TESTS    := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c tests/kern/test_*.c))
HELPERS  := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/golden/*.c tests/e2e/*.c tests/gateway/*.c)) $(BUILD)/tests/loam-fake
FUZZERS  := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: all mlx model serve test check-c check-py lint bench asan tsan fuzz fuzz-smoke fuzz-run aarch64 install clean help
all: $(BUILD)/loam ## build build/loam and build/libloam.a (the default)

$(BUILD)/libloam.a: $(LIB_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/loam: $(PROG_OBJ) $(BUILD)/libloam.a
	$(CC) -o $@ $^ $(LINK)

# The web page's files as bytes of C.
WEB := $(wildcard src/web/*.html src/web/*.css src/web/*.js src/web/*.svg)
$(BUILD)/web/%.inc: src/web/%
	@mkdir -p $(@D)
	@od -An -v -tx1 $< | sed 's/[0-9a-f][0-9a-f]/0x&,/g' > $@
$(BUILD)/obj/src/web/web.o $(BUILD)/obj/src/web/gateway.o: $(WEB:src/web/%=$(BUILD)/web/%.inc)
$(BUILD)/obj/src/web/web.o $(BUILD)/obj/src/web/gateway.o: FLAGS += -I$(BUILD)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(FLAGS) $(ISA) -MMD -MP -c -o $@ $<

# A test program links everything but main; a fuzz target brings libFuzzer's main. Kernel tests share a suite.
KERN_OBJ := $(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out tests/kern/test_%,$(wildcard tests/kern/*.c)))
$(KERN_OBJ): ISA := -Itests
$(BUILD)/tests/kern/%: tests/kern/%.c $(KERN_OBJ) $(NO_MAIN)
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -Itests -MMD -MP -o $@ $< $(KERN_OBJ) $(NO_MAIN) $(LINK) $(shell $(PKG_CONFIG) --libs cmocka)

$(BUILD)/tests/%: tests/%.c $(NO_MAIN)
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -Itests -MMD -MP -o $@ $< $(NO_MAIN) $(LINK) $(shell $(PKG_CONFIG) --libs cmocka)

# The program with an engine whose pace and faults the server tests command; it comes before the library's.
$(BUILD)/tests/loam-fake: tests/server/fake_engine.c $(PROG_OBJ) $(BUILD)/libloam.a
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -MMD -MP -o $@ $< $(PROG_OBJ) $(BUILD)/libloam.a $(LINK)

# Benchmarks of kernels and whole geometries, without an engine: make build/bench/kernels build/bench/geometry.
$(BUILD)/bench/%: bench/%.c $(BUILD)/libloam.a
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -MMD -MP -o $@ $< $(BUILD)/libloam.a $(LINK)

$(BUILD)/fuzz/%: tests/fuzz/%.c $(NO_MAIN)
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -Itests -MMD -MP -fsanitize=fuzzer -o $@ $< $(NO_MAIN) $(LINK)

model: all ## get the default model into the store, once (MODEL=)
	@$(SETUP) model
	@LOAM=$(BUILD)/loam tools/fetch_model.sh $(MODEL)

serve: model ## everything from a bare machine to a server on 127.0.0.1 (PORT=8000, MODEL=)
	@exec $(BUILD)/loam serve --model $(MODEL) --host 127.0.0.1 --port $(PORT)

# Each step is a make of its own: in this order, whatever -j says, and pytest's summary at the end.
test: ## the same set-up, then every test
	@$(SETUP) build test
	@$(MAKE) model
	@$(MAKE) mlx
	@$(MAKE) check-c
	@$(MAKE) fuzz-smoke
	@$(MAKE) check-py

mlx: all ## the substrate over MLX (a Mac's GPU, NVIDIA's): build/mlx.so or mlx.dylib, loaded when it suits the machine
	@BUILD=$(BUILD) PYTHON=$(PYTHON) tools/mlx

MLX = $(abspath $(firstword $(wildcard $(BUILD)/mlx.so $(BUILD)/mlx.dylib)))
check-c: $(TESTS) ## the C tests alone
	@failed=; for t in $(TESTS); do echo "== $$t"; LOAM_MLX=$(MLX) $(RUN) $$t || failed="$$failed $$t"; done; \
	  test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

check-py: all $(HELPERS) ## the Python tests alone (PYTEST="tests/golden -k llama" to choose)
	@LOAM="$(RUN) $(BUILD)/loam" $(PYTHON) -m pytest $(if $(PYTEST),$(PYTEST),tests)

lint: ## warnings of gcc and clang, include arrows, global names, cppcheck; counts long functions and files
	@$(SETUP) lint
	@$(MAKE) BUILD=build-lint/gcc CC=gcc OPT=-O2 WERROR=1 all
	@$(MAKE) BUILD=build-lint/clang CC=clang OPT=-O2 WERROR=1 all
	@tools/lint.py --library build-lint/gcc/libloam.a

bench: model ## speed beside llama.cpp, interleaved on this machine: bench/results.json and a plot
	@bench/compare_llama_cpp --loam $(BUILD)/loam --model $(MODEL)

asan: ## address and undefined-behaviour sanitizers: build in build-asan, C and Python tests
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
aarch64: ## cross-build for aarch64; C and golden tests under qemu (Debian)
	@$(SETUP) aarch64 test
	@$(ARM_PC) $(MAKE) BUILD=build-aarch64 CC=aarch64-linux-gnu-gcc AR=aarch64-linux-gnu-ar RUN=qemu-aarch64 \
	  PYTEST="$(or $(PYTEST),tests/golden)" check-c check-py

install: all ## to $(DESTDIR)$(PREFIX): the program, the library, its headers
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include
	install -m 755 $(BUILD)/loam $(DESTDIR)$(PREFIX)/bin/
	$(if $(MLX),install -d $(DESTDIR)$(PREFIX)/lib/loam && install -m 755 $(MLX) $(DESTDIR)$(PREFIX)/lib/loam/)
	install -m 644 $(BUILD)/libloam.a $(DESTDIR)$(PREFIX)/lib/
	install -m 644 include/loam.h include/loam_substrate.h $(DESTDIR)$(PREFIX)/include/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e "s|@VERSION@|$$($(BUILD)/loam --version | cut -d' ' -f2)|" tools/loam.pc.in \
	  > $(DESTDIR)$(PREFIX)/lib/pkgconfig/loam.pc

clean: ## remove what was built; the tests' Python in .venv stays
	rm -rf build build-*

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

-include $(LIB_OBJ:.o=.d) $(PROG_OBJ:.o=.d) $(KERN_OBJ:.o=.d) $(addsuffix .d,$(TESTS) $(HELPERS) $(FUZZERS))
