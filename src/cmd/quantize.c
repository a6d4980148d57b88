#include "cmd/cmd.h"

#include "cmd/work.h"
#include "store/quantize.h"
#include "store/store.h"

#include <stdio.h>

int loami_cmd_quantize(int argc, char **argv)
{
    const char *from = NULL, *name = NULL, *mode = "affine";
    loami_quantize_options o = { 0 };
    char path[LOAMI_PATH_MAX];
    const loami_opt table[] = {
        { NULL, 0, "MODEL",
          "a model with floating-point weights: a folder, a name in the store, a Hugging Face id in the "
          "cache",
          LOAMI_OPT_STRING, &from, NULL, 0, 0 },
        { "--name", 'n', "NAME", "what to call the result in the store", LOAMI_OPT_STRING, &name, NULL, 0,
          0 },
        { "--bits", 0, "N", "bits a weight: 2, 3, 4, 5, 6 or 8 (default 4; mxfp8: 8)", LOAMI_OPT_U32,
          &o.quant.bits, NULL, 2, 8 },
        { "--group-size", 0, "N",
          "weights that share a scale: 32, 64 or 128 (default 64; mxfp4, mxfp8: 32; nvfp4: 16)",
          LOAMI_OPT_U32, &o.quant.group, NULL, 16, 128 },
        { "--mode", 0, "MODE", "affine (default), mxfp4, mxfp8 or nvfp4", LOAMI_OPT_STRING, &mode, NULL, 0,
          0 },
        { "--recipe", 0, "R", "mixed_2_6, mixed_3_4, mixed_3_6 or mixed_4_6: more bits where they matter",
          LOAMI_OPT_STRING, &o.recipe, NULL, 0, 0 },
        { "--dtype", 0, "T",
          "float16, bfloat16 or float32 for scales and what stays float (default: the model's)",
          LOAMI_OPT_STRING, &o.type, NULL, 0, 0 },
        { "--force", 'f', NULL, "replace a model of that name", LOAMI_OPT_FLAG, &o.force, NULL, 0, 0 },
        { 0 },
    };
    loam_err err;
    loami_quant_config q;
    int rc = loami_opt_parse(argc, argv, table, "make a model smaller, as mlx_lm.convert -q does");
    if (rc) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (!from || !name || !loami_quant_find(&q, mode)) {
        fprintf(stderr, !from   ? "loam quantize: which MODEL? (see loam quantize --help)\n"
                        : !name ? "loam quantize: --name is missing (see loam quantize --help)\n"
                                : "loam quantize: --mode must be affine, mxfp4, mxfp8 or nvfp4\n");
        return LOAMI_EXIT_USAGE;
    }
    o.quant.mode = q.mode;
    o.name = name;
    o.progress = loami_work_begin("quantising");
    rc = loami_store_find(path, from, &err);
    if (rc == 0) rc = loami_quantize(path, &o, &err);
    loami_work_end();
    return rc < 0 ? loami_cmd_fail("quantize", &err) : LOAMI_EXIT_OK;
}
