# The MLX substrate: $(BUILD)/mlx.so, loaded at run time by build/loam beside it. `make mlx` calls this with what
# tools/mlx found: MLX_INCLUDE, MLX_LIB, and MLX_RPATH, where the object will look for libmlx. tools/macos/build calls it too.
, := ,
CXX      ?= c++
BUILD    ?= build
MLX_OPT  ?= -O2 -g
SYSTEM   ?= $(shell uname -s)
LD       := $(if $(filter default,$(origin LD)),$(CXX),$(LD))
MLX_SO   := $(BUILD)/mlx.$(if $(filter Darwin,$(SYSTEM)),dylib,so)
C_FLAGS  := $(MLX_FLAGS) -fPIC -fvisibility=hidden -Wall -Wextra -Wpedantic -Iinclude -Isrc
QUOTED   := $(patsubst src/substrate/mlx/cuda/%.cu,$(BUILD)/mlx/%.inc,$(wildcard src/substrate/mlx/cuda/*.cu))
MLX_OBJ  := $(patsubst %,$(BUILD)/mlx/%.o,$(wildcard src/substrate/mlx/*.cpp) src/substrate/dequant.c src/base/err.c src/base/utf8.c)

$(MLX_SO): $(MLX_OBJ)
	$(LD) $(SANITIZE) -shared $(if $(filter Linux,$(SYSTEM)),-Wl$(,)-z$(,)defs,-Wl$(,)-install_name$(,)@rpath/$(@F)) -o $@ $^ -L$(MLX_LIB) -lmlx $(MLX_LINK) $(addprefix -Wl$(,)-rpath$(,),$(MLX_RPATH))

# The text of a CUDA kernel as a C++ string, without comments and indentation: MLX hashes it at each call.
$(BUILD)/mlx/%.inc: src/substrate/mlx/cuda/%.cu
	@mkdir -p $(@D)
	(echo 'R"cuda('; tr '\n' '\001' < $< | sed 's|/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/||g' | tr '\001' '\n' | sed 's/^ *//;/^$$/d'; echo ')cuda"') > $@

$(BUILD)/mlx/src/substrate/mlx/cuda.cpp.o: $(QUOTED)
$(BUILD)/mlx/%.cpp.o: %.cpp
	@mkdir -p $(@D)
	$(CXX) -std=c++20 $(C_FLAGS) $(MLX_OPT) $(SANITIZE) -isystem $(MLX_INCLUDE) -I$(BUILD)/mlx -MMD -MP -c -o $@ $<

$(BUILD)/mlx/%.c.o: %.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE -D_DARWIN_C_SOURCE $(C_FLAGS) $(MLX_OPT) $(SANITIZE) -MMD -MP -c -o $@ $<

-include $(MLX_OBJ:.o=.d)
