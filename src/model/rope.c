#include "base/err.h"
#include "model/model.h"

#include <math.h>
#include <string.h>

#define PI 3.14159265358979323846

/* What a scaling rule works on: wavelength factors freq[i] = theta^(2i/dims), to be changed in place. */
typedef struct rope_job {
    const json_t *scaling;
    uint32_t dims, half;
    uint32_t context, old_context; /* max_position_embeddings, and before the stretching where the config says so beside */
    double theta;
    double *freq;
    float scale;
} rope_job;

static int get(const rope_job *j, const char *key, float *out, loam_err *err)
{
    return loami_json_float(j->scaling, "config.json: rope_scaling", key, -1e9, 1e9, out, err);
}

static int need(const rope_job *j, const char *key, float *out, loam_err *err)
{
    int rc = get(j, key, out, err);
    if (rc == 0) return loami_fail(err, LOAM_E_FORMAT, "config.json: rope_scaling has no \"%s\"", key);
    if (rc > 0 && *out <= 0) return loami_fail(err, LOAM_E_FORMAT, "config.json: rope_scaling: \"%s\" must be positive", key);
    return rc;
}

static int scale_default(rope_job *j, loam_err *err)
{
    (void)j;
    (void)err;
    return 0;
}

static int scale_linear(rope_job *j, loam_err *err)
{
    float factor;
    int rc = need(j, "factor", &factor, err);
    for (uint32_t i = 0; rc > 0 && i < j->half; i++) j->freq[i] *= factor;
    return rc;
}

/* Llama 3.1: long waves are stretched by factor, short ones kept, those between blended. */
static int scale_llama3(rope_job *j, loam_err *err)
{
    float factor, low = 1, high = 4, old_context = 8192;
    int rc = need(j, "factor", &factor, err);
    if (rc >= 0) rc = get(j, "low_freq_factor", &low, err);
    if (rc >= 0) rc = get(j, "high_freq_factor", &high, err);
    if (rc >= 0) rc = get(j, "original_max_position_embeddings", &old_context, err);
    if (rc < 0) return rc;
    if (!(low > 0 && high > low)) return loami_fail(err, LOAM_E_FORMAT, "config.json: rope_scaling: high_freq_factor must exceed low_freq_factor");
    for (uint32_t i = 0; i < j->half; i++) {
        double wave = 2 * PI * j->freq[i];
        if (wave > old_context / low) {
            j->freq[i] *= factor;
        } else if (wave > old_context / high) {
            double smooth = (old_context / wave - low) / (high - low);
            j->freq[i] /= (1 - smooth) / factor + smooth;
        }
    }
    return 0;
}

static double yarn_mscale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

/* YaRN (Peng et al. 2023). */
static int scale_yarn(rope_job *j, loam_err *err)
{
    float factor, old_context = 4096, fast = 32, slow = 1, mscale = 1, mscale_all = 0;
    const struct {
        const char *key;
        float *out;
    } fields[] = { { "original_max_position_embeddings", &old_context }, { "beta_fast", &fast }, { "beta_slow", &slow },
                   { "mscale", &mscale }, { "mscale_all_dim", &mscale_all } };
    int rc = need(j, "factor", &factor, err);
    for (size_t i = 0; rc >= 0 && i < sizeof fields / sizeof fields[0]; i++) rc = get(j, fields[i].key, fields[i].out, err);
    if (rc < 0) return rc;
    double low = floor(j->dims * log(old_context / (fast * 2 * PI)) / (2 * log(j->theta)));
    double high = ceil(j->dims * log(old_context / (slow * 2 * PI)) / (2 * log(j->theta)));
    low = fmax(low, 0);
    high = fmin(high, j->dims - 1);
    if (low == high) high += 0.001;
    for (uint32_t i = 0; i < j->half; i++) {
        double ramp = fmin(1, fmax(0, (i - low) / (high - low)));
        double extra = j->freq[i], inter = factor * extra, mask = 1 - ramp;
        j->freq[i] = inter * extra / (inter * mask + extra * (1 - mask));
    }
    j->scale = (float)(yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all));
    return 0;
}

/* LongRoPE (Ding et al. 2024) with the long factors throughout, as mlx-lm applies it. */
static int scale_longrope(rope_job *j, loam_err *err)
{
    const json_t *longs = json_object_get(j->scaling, "long_factor");
    float old_context = (float)j->old_context;
    int rc = get(j, "original_max_position_embeddings", &old_context, err);
    if (rc < 0) return rc;
    if (json_array_size(longs) != j->half)
        return loami_fail(err, LOAM_E_FORMAT, "config.json: rope_scaling: \"long_factor\" must have %u numbers", j->half);
    for (uint32_t i = 0; i < j->half; i++) {
        double f = json_number_value(json_array_get(longs, i));
        if (!(f > 0)) return loami_fail(err, LOAM_E_FORMAT, "config.json: rope_scaling: \"long_factor\" must hold positive numbers");
        j->freq[i] *= f;
    }
    double ratio = j->context / (double)old_context;
    j->scale = ratio <= 1 ? 1 : (float)sqrt(1 + log(ratio) / log(old_context));
    return 0;
}

static const struct {
    const char *type;
    int (*apply)(rope_job *j, loam_err *err);
} rules[] = {
    { "default", scale_default }, { "linear", scale_linear },      { "llama3", scale_llama3 },
    { "yarn", scale_yarn },       { "deepseek_yarn", scale_yarn }, { "longrope", scale_longrope },
    { "su", scale_longrope },     { "mrope", scale_default },
};

const json_t *loami_rope_scaling(const loami_config *c)
{
    const json_t *s = json_object_get(c->json, "rope_scaling");
    if (!json_is_object(s)) s = json_object_get(c->json, "rope_parameters");
    return json_is_object(s) ? s : NULL;
}

static int apply_scaling(rope_job *j, loam_err *err)
{
    const char *type = "default";
    if (!j->scaling) return 0;
    int rc = loami_json_string(j->scaling, "config.json: rope_scaling", "rope_type", &type, err);
    if (rc == 0) rc = loami_json_string(j->scaling, "config.json: rope_scaling", "type", &type, err);
    if (rc < 0) return rc;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (strcmp(rules[i].type, type) != 0) continue;
        rc = rules[i].apply(j, err);
        return rc < 0 ? rc : 0;
    }
    return loami_fail(err, LOAM_E_UNSUPPORTED, "config.json: rope_scaling of type \"%s\" is not supported", type);
}

int loami_rope_make(loami_model *m, loam_rope **out, uint32_t dims, float theta, const json_t *scaling, loam_err *err)
{
    uint32_t half = dims / 2;
    loam_rope *rope = loami_arena_alloc(&m->arena, sizeof *rope);
    float *inv = loami_arena_array(&m->arena, half, sizeof *inv);
    double *freq = loami_arena_array(&m->arena, half, sizeof *freq);
    if (!rope || !inv || !freq) return loami_fail_nomem(err);
    if (dims == 0 || dims % 2) return loami_fail(err, LOAM_E_UNSUPPORTED, "config.json: a rotary embedding of %u dimensions", dims);
    rope_job j = { scaling, dims, half, m->config.context, 4096, theta, freq, 1 };
    for (uint32_t i = 0; i < half; i++) freq[i] = pow(theta, 2.0 * i / dims);
    int rc = loami_json_u32(m->config.json, "config.json", "original_max_position_embeddings", 1, 1u << 30, &j.old_context, err);
    if (rc >= 0) rc = apply_scaling(&j, err);
    if (rc < 0) return rc;
    for (uint32_t i = 0; i < half; i++) inv[i] = (float)(1 / freq[i]);
    *rope = (loam_rope){ .dims = dims, .inv_freq = inv, .scale = j.scale };
    *out = rope;
    return 0;
}
