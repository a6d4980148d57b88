# loam's build. `make help` tells the targets; README.md the two that matter.
BUILD      ?= build
PREFIX     ?= /usr/local
CC         ?= cc
CXX        ?= c++
AR         ?= ar
PKG_CONFIG ?= pkg-config
OPT        ?= -O3 -g
WARN       := -Wall -Wextra -Wpedantic
SYSTEM     := $(shell uname -s)
MACHINE    := $(shell $(CC) -dumpmachine 2>/dev/null)

LIBS  := libevent libevent_pthreads libevent_openssl libcurl jansson libpcre2-8 libutf8proc libedit
FLAGS := -std=c11 -D_GNU_SOURCE -D_DARWIN_C_SOURCE -Iinclude -Isrc $(WARN) $(OPT) $(SANITIZE) $(shell $(PKG_CONFIG) --cflags $(LIBS))
LINK  := $(SANITIZE) $(shell $(PKG_CONFIG) --libs $(LIBS)) -lpthread -lm $(if $(filter Linux,$(SYSTEM)),-ldl)

# SIMD kernels: the folder of this machine's architecture; each file names its own instruction set.
ARCH := $(if $(filter x86_64%,$(MACHINE)),x86,$(if $(filter aarch64% arm64%,$(MACHINE)),arm))
$(BUILD)/obj/src/substrate/cpu/x86/avx2%.o:   ISA := -mavx2 -mfma -mf16c
$(BUILD)/obj/src/substrate/cpu/x86/avx512%.o: ISA := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512bf16 -mavx2 -mfma -mf16c
$(BUILD)/obj/src/substrate/cpu/arm/dot%.o:    ISA := -march=armv8.2-a+dotprod

sources = $(wildcard $(addsuffix /*.c,$(addprefix src/,$(1))))
LIB_SRC  := $(call sources,base file text text/* substrate substrate/reference substrate/cpu model engine) $(if $(ARCH),$(call sources,substrate/cpu/$(ARCH)))
PROG_SRC := $(call sources,net api gateway store web cmd)
LIB_OBJ  := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
PROG_OBJ := $(PROG_SRC:%.c=$(BUILD)/obj/%.o)
TESTS    := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c tests/kern/test_*.c))

.PHONY: all clean help
all: $(BUILD)/loam

$(BUILD)/libloam.a: $(LIB_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/loam: $(PROG_OBJ) $(BUILD)/libloam.a
	$(CC) -o $@ $^ $(LINK)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(FLAGS) $(ISA) -MMD -MP -c -o $@ $<

# A test program links everything but main.
$(BUILD)/tests/%: tests/%.c $(PROG_OBJ) $(BUILD)/libloam.a
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -Itests -MMD -MP -o $@ $< $(filter-out %/cmd/main.o,$(PROG_OBJ)) $(BUILD)/libloam.a $(LINK) -lcmocka

.PHONY: check-c
check-c: $(TESTS)
	@for t in $(TESTS); do echo "== $$t"; $$t || exit 1; done

clean:
	rm -rf $(BUILD)

help:
	@echo "make            build build/loam and build/libloam.a"
	@echo "make check-c    build and run the C tests"

-include $(LIB_OBJ:.o=.d) $(PROG_OBJ:.o=.d) $(addsuffix .d,$(TESTS))
