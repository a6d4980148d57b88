/* loam_embed: texts through the model, their final hidden states pooled. */
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "engine/engine.h"

#include <math.h>

enum {
    AHEAD = 16,              /* texts in the queue at once: short ones share steps */
    POOLING_BYTES = 1 << 16, /* of 1_Pooling/config.json */
};

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
static void normalise(float *v, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)v[i] * v[i];
    if (!(sum > 0)) return;
    float scale = (float)(1 / sqrt(sum));
    for (uint32_t i = 0; i < n; i++) v[i] *= scale;
}

static int begin(loam_engine *e, loam_stream **s, const loam_tokens *text, const loami_job_out *out, loam_err *err)
{
    loam_request request = { .tokens = text->ids, .n_tokens = text->n };
    int rc = loami_stream_new(s, e, &request, LOAMI_JOB_EMBED, out, err);
    if (rc < 0) return rc;
    rc = loami_engine_enqueue(e, *s, err);
    if (rc == 0) return 0;
    loam_stream_close(*s);
    *s = NULL;
    return rc;
}

/* Waits until the engine has let go, so that it writes no more. */
static int finish(loam_stream *s, loam_err *err)
{
    loam_token t;
    loam_result r;
    while (loam_stream_next(s, &t, UINT32_MAX) > 0) continue;
    loam_stream_result(s, &r);
    loam_stream_close(s);
    return r.code < 0 ? loami_fail(err, r.code, "%s", r.msg) : 0;
}

int loam_embed(loam_engine *e, const loam_tokens *texts, uint32_t n_texts, loam_pooling pooling, float *out,
               uint32_t *failed, loam_err *err)
{
    loam_stream *ahead[AHEAD] = { 0 };
    uint32_t dims = e->info.embed_dims, begun = 0, done = 0;
    bool last_only = (pooling ? pooling : e->pooling) == LOAM_POOL_LAST;
    int rc = 0;

    while (done < begun || (rc == 0 && done < n_texts)) {
        float *to = out + (size_t)begun * dims;
        if (rc == 0 && begun < n_texts && begun - done < AHEAD) {
            loam_err why;
            int got = begin(e, &ahead[begun % AHEAD], &texts[begun], &(loami_job_out){ .floats = to, .last_only = last_only }, &why);
            if (got == 0) {
                begun++;
                continue;
            }
            if (got != LOAM_E_BUSY || done == begun) { /* a full queue waits for those of ours that are in it */
                rc = got;
                if (failed) *failed = begun;
                if (err) *err = why;
                continue;
            }
        }
        int got = finish(ahead[done % AHEAD], rc == 0 ? err : NULL);
        if (got < 0 && rc == 0) {
            rc = got;
            if (failed) *failed = done;
        }
        normalise(out + (size_t)done++ * dims, dims);
    }
    return rc;
}
