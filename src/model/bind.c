#include "base/err.h"
#include "base/file.h"
#include "model/families.h"
#include "model/model.h"
#include "substrate/dequant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PARTS = 4, NAME_MAX_BYTES = 256 };

static void full_name(char *out, uint32_t layer, const char *path, const char *suffix)
{
    if (layer == LOAMI_NO_LAYER) snprintf(out, NAME_MAX_BYTES, "%s%s", path, suffix);
    else snprintf(out, NAME_MAX_BYTES, "model.layers.%u.%s%s", layer, path, suffix);
}

static const loami_tensor_view *find(const loami_model *m, uint32_t layer, const char *path, const char *suffix)
{
    char name[NAME_MAX_BYTES];
    full_name(name, layer, path, suffix);
    return loami_weights_find(m->weights, name);
}

/* Shape [n_experts][rows][cols], or without the leading dimensions that are 1. */
static int want_shape(const loami_tensor_view *t, uint32_t n_experts, uint32_t rows, uint64_t cols, loam_err *err)
{
    uint64_t want[3] = { n_experts, rows, cols };
    uint32_t skip = n_experts > 1 ? 0 : t->n_dims == 1 && rows == 1 ? 2 : 1;
    bool ok = t->n_dims == 3 - skip;
    for (uint32_t i = 0; ok && i < t->n_dims; i++) ok = t->shape[i] == want[skip + i];
    if (ok) return 0;
    char have[128] = "";
    for (uint32_t i = 0; i < t->n_dims; i++)
        snprintf(have + strlen(have), sizeof have - strlen(have), "%s%llu", i ? " x " : "", (unsigned long long)t->shape[i]);
    return loami_fail(err, LOAM_E_FORMAT, "%s: %s has shape %s, config.json says %u x %u x %llu", t->file, t->name, have, n_experts,
                      rows, (unsigned long long)cols);
}

static int fill_quantised(loami_model *m, loam_matrix *x, uint32_t layer, const char *path, uint32_t of, const loami_tensor_view *scales,
                          loam_err *err)
{
    char name[NAME_MAX_BYTES];
    loami_quant_config q;
    full_name(name, layer, path, "");
    int rc = loami_config_quant(&m->config, name, &q, err);
    if (rc < 0) return rc;
    if (q.mode == LOAM_Q_NONE)
        return loami_fail(err, LOAM_E_FORMAT, "%s: has scales, but config.json has no \"quantization\" for it", x->name);
    if (q.group == 0 || x->cols % q.group) return loami_fail(err, LOAM_E_FORMAT, "%s: %u inputs are no multiple of group %u", x->name, x->cols, q.group);
    const loami_tensor_view *w = find(m, layer, path, ".weight"), *biases = find(m, layer, path, ".biases");
    if (w->type != LOAM_U32) return loami_fail(err, LOAM_E_FORMAT, "%s: quantised codes must be U32", x->name);
    rc = want_shape(w, x->n_experts, of, (uint64_t)x->cols * q.bits / 32, err);
    if (rc == 0) rc = want_shape(scales, x->n_experts, of, x->cols / q.group, err);
    if (rc == 0 && biases) rc = want_shape(biases, x->n_experts, of, x->cols / q.group, err);
    if (rc < 0) return rc;
    if (biases && biases->type != scales->type) return loami_fail(err, LOAM_E_FORMAT, "%s: scales and biases differ in type", x->name);
    x->quant = q.mode;
    x->bits = q.bits;
    x->group = q.group;
    x->type = scales->type;
    x->scales = scales->data;
    x->biases = biases ? biases->data : NULL;
    return 0;
}

/* Moves a view to rows [first, ...) of an ordinary matrix. */
static void slice(loam_matrix *x, uint32_t first)
{
    uint64_t scale_row = loami_scale_row_bytes(x);
    x->data = (const char *)x->data + first * loami_row_bytes(x);
    if (x->scales) x->scales = (const char *)x->scales + first * scale_row;
    if (x->biases) x->biases = (const char *)x->biases + first * scale_row;
    if (x->bias) x->bias = (const char *)x->bias + (uint64_t)first * loami_dtype_bytes(x->bias_type);
}

static int fill(loami_model *m, loam_matrix *x, uint32_t layer, uint32_t cols, uint32_t n_experts, const loami_part *p, loam_err *err)
{
    char name[NAME_MAX_BYTES];
    uint32_t of = p->of ? p->of : p->rows;
    const loami_tensor_view *w = find(m, layer, p->path, "");
    full_name(name, layer, p->path, ".weight");
    if (!w) w = loami_weights_find(m->weights, name);
    if (!w) return loami_fail(err, LOAM_E_FORMAT, "the tensor %s is missing from the model", name);
    const loami_tensor_view *scales = find(m, layer, p->path, ".scales"), *bias = find(m, layer, p->path, ".bias");

    *x = (loam_matrix){ .name = w->name, .n_experts = n_experts, .rows = of, .cols = cols, .type = w->type, .data = w->data };
    int rc = scales ? fill_quantised(m, x, layer, p->path, of, scales, err) : want_shape(w, n_experts, of, cols, err);
    if (rc < 0) return rc;
    if (bias) {
        rc = want_shape(bias, 1, n_experts, of, err);
        if (rc < 0 && n_experts == 1) rc = want_shape(bias, 1, 1, of, err);
        if (rc < 0) return rc;
        x->bias = bias->data;
        x->bias_type = bias->type;
    }
    rc = loami_matrix_check(x, err);
    if (rc < 0) return rc;
    if (p->of) slice(x, p->first);
    x->rows = p->rows;
    return 0;
}

/* Bytes of the matrices, for show and for the bandwidth limit: of all experts, and of one token's. */
static void count(loami_model *m, const loam_matrix *x, uint32_t layer)
{
    uint64_t each = loami_row_bytes(x) + 2 * loami_scale_row_bytes(x), rows = (uint64_t)x->rows * x->n_experts;
    uint32_t active = x->n_experts > 1 && layer != LOAMI_NO_LAYER ? m->layers[layer].moe.top_k : x->n_experts;
    m->weight_bytes += rows * each;
    m->active_bytes += (uint64_t)x->rows * active * each;
    m->parameters += rows * x->cols + (x->bias ? rows : 0);
}

int loami_bind(loami_model *m, loam_weight **out, uint32_t layer, uint32_t cols, uint32_t n_experts, const loami_part *parts,
               uint32_t n_parts, loam_err *err)
{
    loam_matrix x[MAX_PARTS];
    for (uint32_t i = 0; i < n_parts; i++) {
        int rc = fill(m, &x[i], layer, cols, n_experts, &parts[i], err);
        if (rc < 0) return rc;
        count(m, &x[i], layer);
    }
    return m->machine.api->weight(m->machine.sub, out, x, n_parts, err);
}

int loami_bind_norm(loami_model *m, loam_norm *out, uint32_t layer, const char *path, uint32_t n, float offset, loam_err *err)
{
    loam_weight *w;
    int rc = loami_bind(m, &w, layer, n, 1, &(loami_part){ path, 1, 0, 0 }, 1, err);
    if (rc < 0) return rc;
    *out = (loam_norm){ .weight = w, .kind = LOAM_NORM_RMS, .eps = m->config.norm_eps, .offset = offset };
    return 0;
}

int loami_bind_ends(loami_model *m, float norm_offset, loam_err *err)
{
    const loami_config *c = &m->config;
    int rc = loami_bind(m, &m->embed, LOAMI_NO_LAYER, c->dim, 1, &(loami_part){ "model.embed_tokens", c->vocab, 0, 0 }, 1, err);
    if (rc == 0) rc = loami_bind_norm(m, &m->final_norm, LOAMI_NO_LAYER, "model.norm", c->dim, norm_offset, err);
    if (rc < 0) return rc;
    m->head = m->embed;
    if (c->tied || !find(m, LOAMI_NO_LAYER, "lm_head", ".weight")) return 0;
    m->active_bytes = 0; /* of the embedding one token reads one row */
    return loami_bind(m, &m->head, LOAMI_NO_LAYER, c->dim, 1, &(loami_part){ "lm_head", c->vocab, 0, 0 }, 1, err);
}

static const loami_family *family_of(const char *model_type)
{
    for (uint32_t i = 0; loami_families[i]; i++)
        if (strcmp(loami_families[i]->model_type, model_type) == 0) return loami_families[i];
    return NULL;
}

int loami_model_open(loami_model **out, const char *dir, loami_machine machine, loam_err *err)
{
    loami_model *m = calloc(1, sizeof *m);
    if (!m) return loami_fail_nomem(err);
    m->machine = machine;
    m->embed_scale = m->residual_scale = m->logit_scale = 1;
    int rc = loami_config_open(&m->config, dir, err);
    if (rc < 0) goto out;
    m->family = family_of(m->config.family);
    if (!m->family) {
        rc = loami_fail(err, LOAM_E_UNSUPPORTED, "%s: models of type \"%s\" are not supported", dir, m->config.family);
        goto out;
    }
    m->layers = loami_arena_array(&m->arena, m->config.n_layers, sizeof *m->layers);
    rc = m->layers ? loami_weights_open(&m->weights, dir, err) : loami_fail_nomem(err);
    if (rc == 0) rc = m->family->bind(m, err);
    if (rc == 0) *out = m;
out:
    if (rc < 0) loami_model_close(m);
    return rc;
}

void loami_model_close(loami_model *m)
{
    if (!m) return;
    loami_weights_close(m->weights);
    loami_config_close(&m->config);
    loami_arena_free(&m->arena);
    free(m);
}
