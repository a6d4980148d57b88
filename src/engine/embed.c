/* How the final hidden states of a text become its embedding. */
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "engine/engine.h"

#include <math.h>

enum { POOLING_BYTES = 1 << 16 }; /* of 1_Pooling/config.json */

int loami_embed_pooling(loam_pooling *out, const char *dir, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    json_t *config = NULL;
    bool mean = false, last = false;
    int rc = loami_path_join(path, dir, "1_Pooling/config.json", err);
    if (rc < 0 || !loami_file_exists(path)) return rc;
    rc = loami_json_load(&config, path, POOLING_BYTES, err);
    if (rc == 0) rc = loami_json_bool(config, path, "pooling_mode_mean_tokens", &mean, err);
    if (rc >= 0) rc = loami_json_bool(config, path, "pooling_mode_lasttoken", &last, err);
    json_decref(config);
    if (rc < 0) return rc;
    *out = last ? LOAM_POOL_LAST : mean ? LOAM_POOL_MEAN : LOAM_POOL_MODEL;
    return 0;
}

/* The mean is the sum but for its length, which goes here in any case. */
void loami_embed_normalise(float *v, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)v[i] * v[i];
    if (!(sum > 0)) return;
    float scale = (float)(1 / sqrt(sum));
    for (uint32_t i = 0; i < n; i++) v[i] *= scale;
}
