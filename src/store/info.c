#include "store/info.h"

#include <stdio.h>
#include <string.h>

/* Whether name ends with suffix, and the tensor with other in its place is there. */
static const loami_tensor_view *beside(const loami_weights *w, const char *name, const char *suffix,
                                       const char *other)
{
    char path[512];
    size_t n = strlen(name), m = strlen(suffix);
    if (n < m || strcmp(name + n - m, suffix) != 0 || n - m + strlen(other) >= sizeof path) return NULL;
    memcpy(path, name, n - m);
    strcpy(path + n - m, other);
    return loami_weights_find(w, path);
}

static uint64_t numbers(const loami_tensor_view *t)
{
    return t->bytes / loami_dtype_bytes(t->type);
}

static int count_tensor(loami_info *i, const loami_tensor_view *t, loam_err *err)
{
    char path[512];
    loami_quant_config q;
    i->tensor_bytes += t->bytes;
    i->tensors++;
    if (beside(i->weights, t->name, ".scales", ".weight") ||
        beside(i->weights, t->name, ".biases", ".scales"))
        return 0;
    if (!beside(i->weights, t->name, ".weight", ".scales")) {
        i->parameters += numbers(t);
        return 0;
    }
    snprintf(path, sizeof path, "%.*s", (int)(strlen(t->name) - strlen(".weight")), t->name);
    int rc = loami_config_quant(&i->config, path, &q, err);
    if (rc == 0 && q.mode == LOAM_Q_NONE)
        rc = loami_fail(err, LOAM_E_FORMAT,
                        "%s: has scales, but config.json does not say how it is quantised", t->name);
    if (rc == 0) i->parameters += t->bytes * 8 / q.bits;
    return rc;
}

int loami_info_open(loami_info *out, const char *dir, loam_err *err)
{
    loami_info i = { 0 };
    int rc = loami_config_open(&i.config, dir, err);
    if (rc == 0) rc = loami_weights_open(&i.weights, dir, err);
    for (uint32_t k = 0; rc == 0 && k < loami_weights_count(i.weights); k++)
        rc = count_tensor(&i, loami_weights_at(i.weights, k), err);
    if (rc < 0)
        loami_info_close(&i);
    else
        *out = i;
    return rc;
}

void loami_info_close(loami_info *i)
{
    loami_config_close(&i->config);
    loami_weights_close(i->weights);
    i->weights = NULL;
}

void loami_info_quant(const loami_info *i, char out[64])
{
    const loami_quant_config *q = &i->config.quant;
    uint64_t most = 0;
    const char *type = "?";
    if (q->mode != LOAM_Q_NONE) {
        snprintf(out, 64, "%u-bit %s, group %u", q->bits, loami_quant_name(q->mode), q->group);
        return;
    }
    for (uint32_t k = 0; k < loami_weights_count(i->weights); k++) {
        const loami_tensor_view *t = loami_weights_at(i->weights, k);
        if (t->bytes <= most) continue;
        most = t->bytes;
        type = loami_dtype_name(t->type);
    }
    snprintf(out, 64, "none (%s)", type);
}
