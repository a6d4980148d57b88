/* store/quantize.h: a model folder of floating-point weights, made smaller: what `mlx_lm.convert -q` does. */
#ifndef LOAMI_QUANTIZE_H
#define LOAMI_QUANTIZE_H

#include "file/config.h"
#include "store/import.h"

typedef struct loami_quantize_options {
    const char *name; /* in the store */
    bool force;
    loami_quant_config quant; /* mode; bits and group 0 = the mode's own */
    const char *
        recipe; /* "mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6": more bits where they matter; or NULL */
    const char *type; /* "float16", "bfloat16", "float32": what stays float, and scales; NULL = config.json's
                         torch_dtype, or as it is */
    loami_progress progress;
} loami_quantize_options;

/* Reads dir (safetensors in f32, f16 or bf16, as transformers or mlx-lm wrote it; or quantised already, which
 * is unpacked first), writes the store's name. Codes, scales and "quantization" are those of mlx_lm.convert;
 * tokenizer and templates are copied. Nothing is left behind on failure. */
int loami_quantize(const char *dir, const loami_quantize_options *o, loam_err *err);

#endif
