# loam's build. README.md has the two commands that matter, `make help` has all of them. Tests are in tests/tests.mk.
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
LIBS       := libevent libevent_pthreads libevent_openssl libssl libcrypto libcurl jansson sqlite3 libpcre2-8 libutf8proc libedit $(if $(filter Linux,$(SYSTEM)),libseccomp)

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
DOTPROD ?= -march=armv8.2-a+dotprod
I8MM    ?= -march=armv8.2-a+dotprod+i8mm
$(BUILD)/obj/src/substrate/cpu/arm/dot%.o:    ISA := $(DOTPROD)
$(BUILD)/obj/src/substrate/cpu/arm/i8mm%.o:   ISA := $(I8MM)

sources = $(wildcard $(addsuffix /*.c,$(addprefix src/,$(1))))
LIB_SRC  := $(call sources,base file text text/* grammar substrate substrate/reference substrate/cpu model engine) $(if $(ARCH),$(call sources,substrate/cpu/$(ARCH)))
PROG_SRC := $(call sources,net api rollout gateway store web sandbox cmd)
LIB_OBJ  := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
PROG_OBJ := $(PROG_SRC:%.c=$(BUILD)/obj/%.o)
NO_MAIN  := $(filter-out %/cmd/main.o,$(PROG_OBJ)) $(BUILD)/libloam.a
.PHONY: all mlx macos model serve bench install deb clean help
all: $(BUILD)/loam ## build build/loam and build/libloam.a (the default)

$(BUILD)/libloam.a: $(LIB_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/loam: $(PROG_OBJ) $(BUILD)/libloam.a
	$(CC) -o $@ $^ $(LINK)

# The pages' files, and the API's description, as bytes of C.
WEB      := $(wildcard src/web/*.html src/web/*.css src/web/*.js src/web/*.svg)
AS_BYTES = mkdir -p $(@D); od -An -v -tx1 $< | sed 's/[0-9a-f][0-9a-f]/0x&,/g' > $@
$(BUILD)/web/%.inc: src/web/%
	@$(AS_BYTES)
$(BUILD)/web/%.inc: docs/%
	@$(AS_BYTES)
$(BUILD)/obj/src/web/web.o $(BUILD)/obj/src/web/gateway.o: $(WEB:src/web/%=$(BUILD)/web/%.inc) $(BUILD)/web/openapi.yaml.inc
$(BUILD)/obj/src/web/web.o $(BUILD)/obj/src/web/gateway.o: FLAGS += -I$(BUILD)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(FLAGS) $(ISA) -MMD -MP -c -o $@ $<

model: all ## get the default model into the store, once (MODEL=)
	@$(SETUP) model
	@LOAM=$(BUILD)/loam tools/fetch_model.sh $(MODEL)

serve: model ## everything from a bare machine to a server on 127.0.0.1 (PORT=8000, MODEL=)
	@exec $(BUILD)/loam serve --model $(MODEL) --host 127.0.0.1 --port $(PORT)

mlx: all ## the substrate over MLX (a Mac's GPU, NVIDIA's): build/mlx.so or mlx.dylib, loaded when it suits the machine
	@BUILD=$(BUILD) PYTHON=$(PYTHON) tools/mlx

macos: ## the same for Macs with Apple silicon, cross-built on Debian: build/macos and a tarball to unpack there
	@$(SETUP) build macos
	@BUILD=$(BUILD)/macos PYTHON=$(PYTHON) MAKE="$(MAKE)" tools/macos/build

bench: model ## speed beside llama.cpp, interleaved on this machine: bench/results.json and a plot
	@bench/compare_llama_cpp --loam $(BUILD)/loam --model $(MODEL)

MLX = $(abspath $(firstword $(wildcard $(BUILD)/mlx.so $(BUILD)/mlx.dylib)))
install: all ## to $(DESTDIR)$(PREFIX): the program, the library, its headers, manual pages, completion
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include
	install -m 755 $(BUILD)/loam $(DESTDIR)$(PREFIX)/bin/
	$(if $(MLX),install -d $(DESTDIR)$(PREFIX)/lib/loam && install -m 755 $(MLX) $(DESTDIR)$(PREFIX)/lib/loam/)
	install -m 644 $(BUILD)/libloam.a $(DESTDIR)$(PREFIX)/lib/
	install -m 644 include/loam.h include/loam_substrate.h $(DESTDIR)$(PREFIX)/include/
	@tools/install_pages $(BUILD)/loam $(DESTDIR)$(PREFIX)/share
	sed -e 's|@PREFIX@|$(PREFIX)|' -e "s|@VERSION@|$$($(BUILD)/loam --version | cut -d' ' -f2)|" tools/loam.pc.in \
	  > $(DESTDIR)$(PREFIX)/lib/pkgconfig/loam.pc

DEB_OUT ?= $(BUILD)/deb
deb: all ## Debian packages for this machine's release, in build/deb
	@BUILD=$(BUILD) tools/deb $(BUILD)/loam $(DEB_OUT)

clean: ## remove what was built; the tests' Python in .venv stays
	rm -rf build build-*

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile tests/tests.mk | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

include tests/tests.mk
-include $(LIB_OBJ:.o=.d) $(PROG_OBJ:.o=.d)
