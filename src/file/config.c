#include "file/config.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>

/* Bounds that leave room for anything published, and let products of two fit 32 bits where both are used. */
enum {
    CONFIG_BYTES_MAX = 16 << 20,
    MAX_DIM = 1 << 17,
    MAX_FFN = 1 << 20,
    MAX_LAYERS = 1 << 12,
    MAX_HEADS = 1 << 12,
    MAX_HEAD_DIM = 1 << 12,
    MAX_VOCAB = 1 << 24,
    MAX_CONTEXT = 1 << 30,
};

static const struct {
    const char *name;
    loami_quant_config defaults;
} modes[] = {
    { "affine", { LOAM_Q_AFFINE, 4, 64 } },
    { "mxfp4", { LOAM_Q_MXFP4, 4, 32 } },
    { "mxfp8", { LOAM_Q_MXFP8, 8, 32 } },
    { "nvfp4", { LOAM_Q_NVFP4, 4, 16 } },
};

enum { N_MODES = sizeof modes / sizeof *modes };

const char *loami_quant_name(loam_quant mode)
{
    for (unsigned i = 0; i < N_MODES; i++)
        if (modes[i].defaults.mode == mode) return modes[i].name;
    return NULL;
}

bool loami_quant_find(loami_quant_config *out, const char *name)
{
    for (unsigned i = 0; i < N_MODES; i++) {
        if (strcmp(modes[i].name, name) == 0) {
            *out = modes[i].defaults;
            return true;
        }
    }
    return false;
}

int loami_quant_check(const loami_quant_config *q, const char *what, loam_err *err)
{
    uint32_t b = q->bits, g = q->group;
    for (unsigned i = 0; i < N_MODES; i++) {
        const loami_quant_config *d = &modes[i].defaults;
        if (d->mode != q->mode) continue;
        if (q->mode == LOAM_Q_AFFINE) {
            if (((b >= 2 && b <= 6) || b == 8) && (g == 32 || g == 64 || g == 128)) return 0;
            return loami_fail(err, LOAM_E_UNSUPPORTED,
                              "%s: %u bits in groups of %u: affine weights have 2, 3, 4, 5, 6 or 8 bits in "
                              "groups of 32, 64 or 128",
                              what, b, g);
        }
        if (b == d->bits && g == d->group) return 0;
        return loami_fail(err, LOAM_E_UNSUPPORTED,
                          "%s: %u bits in groups of %u: %s weights have %u bits in groups of %u", what, b, g,
                          modes[i].name, d->bits, d->group);
    }
    return 0;
}

/* One {"group_size", "bits", "mode"}; what is absent has its mode's default. */
static int read_quant(const json_t *o, const char *what, loami_quant_config *out, loam_err *err)
{
    const char *mode = "affine";
    int rc = loami_json_string(o, what, "mode", &mode, err);
    if (rc < 0) return rc;
    if (!loami_quant_find(out, mode))
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: quantisation mode \"%.32s\" is not supported", what,
                          mode);
    if ((rc = loami_json_u32(o, what, "bits", 1, 64, &out->bits, err)) < 0) return rc;
    if ((rc = loami_json_u32(o, what, "group_size", 1, 1 << 20, &out->group, err)) < 0) return rc;
    return loami_quant_check(out, what, err);
}

/* The object that says how weights are packed, or NULL: mlx-lm writes it twice, under both names. */
static const json_t *quant_object(const loami_config *c)
{
    static const char *const names[] = { "quantization", "quantization_config" };
    for (int i = 0; i < 2; i++) {
        const json_t *q = json_object_get(c->root, names[i]);
        if (!q) q = json_object_get(c->json, names[i]);
        if (q && !json_is_null(q)) return q;
    }
    return NULL;
}

static int read_quantization(loami_config *c, const char *what, loam_err *err)
{
    const json_t *q = quant_object(c);
    if (!q || json_is_false(q)) return 0;
    if (!json_is_object(q))
        return loami_fail(err, LOAM_E_FORMAT, "%s: \"quantization\" must be an object", what);

    /* Other tools' formats use the second name; their packing is not MLX's. */
    const char *method = json_string_value(json_object_get(q, "quant_method"));
    if (method && q != json_object_get(c->root, "quantization"))
        return loami_fail(err, LOAM_E_UNSUPPORTED,
                          "%s: weights are quantised with \"%.32s\"; convert them to MLX format first", what,
                          method);
    return read_quant(q, what, &c->quant, err);
}

int loami_config_quant(const loami_config *c, const char *path, loami_quant_config *out, loam_err *err)
{
    const json_t *o = json_object_get(quant_object(c), path);
    if (!json_is_object(o)) {
        *out = json_is_false(o) ? (loami_quant_config){ 0 } : c->quant;
        return 0;
    }
    char what[256] = "config.json: quantization: ";
    strncat(what, path, sizeof what - strlen(what) - 1);
    return read_quant(o, what, out, err);
}

typedef struct u32_field {
    const char *key;
    uint32_t lo, hi;
    uint32_t *out;
    bool needed;
} u32_field;

static int read_sizes(loami_config *c, const char *what, loam_err *err)
{
    const u32_field fields[] = {
        { "hidden_size", 1, MAX_DIM, &c->dim, true },
        { "num_hidden_layers", 1, MAX_LAYERS, &c->n_layers, true },
        { "intermediate_size", 1, MAX_FFN, &c->ffn_dim, false },
        { "num_attention_heads", 1, MAX_HEADS, &c->n_heads, true },
        { "num_key_value_heads", 1, MAX_HEADS, &c->n_kv_heads, false },
        { "head_dim", 1, MAX_HEAD_DIM, &c->head_dim, false },
        { "vocab_size", 1, MAX_VOCAB, &c->vocab, true },
        { "max_position_embeddings", 1, MAX_CONTEXT, &c->context, false },
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const u32_field *f = &fields[i];
        int rc = loami_json_u32(c->json, what, f->key, f->lo, f->hi, f->out, err);
        if (rc < 0) return rc;
        if (f->needed && *f->out == 0)
            return loami_fail(err, LOAM_E_FORMAT, "%s: \"%s\" is missing", what, f->key);
    }
    if (c->n_kv_heads == 0) c->n_kv_heads = c->n_heads;
    if (c->n_heads % c->n_kv_heads)
        return loami_fail(err, LOAM_E_FORMAT, "%s: %u attention heads cannot share %u key and value heads",
                          what, c->n_heads, c->n_kv_heads);
    if (c->head_dim == 0) {
        if (c->dim % c->n_heads)
            return loami_fail(
                err, LOAM_E_FORMAT,
                "%s: \"hidden_size\" %u is no multiple of %u heads, and \"head_dim\" is missing", what,
                c->dim, c->n_heads);
        c->head_dim = c->dim / c->n_heads;
    }
    return 0;
}

static int read_numbers(loami_config *c, const char *what, loam_err *err)
{
    const json_t *j = c->json, *rope = json_object_get(j, "rope_parameters");
    int rc;
    c->norm_eps = 1e-5f;
    c->rope_theta = 10000;
    c->tied = true;
    if ((rc = loami_json_float(j, what, "layer_norm_eps", 0, 1, &c->norm_eps, err)) < 0) return rc;
    if ((rc = loami_json_float(j, what, "rms_norm_eps", 0, 1, &c->norm_eps, err)) < 0) return rc;
    if ((rc = loami_json_float(j, what, "rope_theta", 1e-3, 1e12, &c->rope_theta, err)) < 0) return rc;
    if (rc == 0 && (rc = loami_json_float(rope, what, "rope_theta", 1e-3, 1e12, &c->rope_theta, err)) < 0)
        return rc;
    if ((rc = loami_json_bool(c->root, what, "tie_word_embeddings", &c->tied, err)) < 0) return rc;
    if ((rc = loami_json_bool(j, what, "tie_word_embeddings", &c->tied, err)) < 0) return rc;
    if ((rc = loami_json_bool(j, what, "attention_bias", &c->attn_bias, err)) < 0) return rc;
    return loami_json_bool(j, what, "mlp_bias", &c->mlp_bias, err);
}

/* What nested configs of Gemma 3 leave out, because it is transformers' default: mlx-lm fills in the same. */
static int fill_gemma3(loami_config *c, loam_err *err)
{
    static const struct {
        const char *key;
        double value;
    } defaults[] = {
        { "num_attention_heads", 8 }, { "num_key_value_heads", 4 },          { "head_dim", 256 },
        { "vocab_size", 262208 },     { "max_position_embeddings", 131072 }, { "rms_norm_eps", 1e-6 },
        { "rope_theta", 1e6 },
    };
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) {
        double d = defaults[i].value;
        if (json_object_get(c->json, defaults[i].key)) continue;
        json_t *v = d >= 1 ? json_integer((json_int_t)d) : json_real(d);
        if (json_object_set_new(c->json, defaults[i].key, v) < 0) return loami_fail_nomem(err);
    }
    return 0;
}

static int read_all(loami_config *c, const char *what, loam_err *err)
{
    const char *family = NULL;
    if (!json_is_object(c->root)) return loami_fail(err, LOAM_E_FORMAT, "%s: not a JSON object", what);
    json_t *text = json_object_get(c->root, "text_config");
    bool nested = json_is_object(text) && !json_object_get(c->root, "hidden_size");
    c->json = nested ? text : c->root;

    int rc = loami_json_string(c->json, what, "model_type", &family, err);
    if (rc < 0) return rc;
    if (!family || !*family) return loami_fail(err, LOAM_E_FORMAT, "%s: \"model_type\" is missing", what);
    if (strlen(family) >= sizeof c->family)
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: \"model_type\" is too long", what);
    memcpy(c->family, family, strlen(family) + 1);
    if (nested && strcmp(family, "gemma3_text") == 0 && (rc = fill_gemma3(c, err)) < 0) return rc;

    if ((rc = read_sizes(c, what, err)) < 0) return rc;
    if ((rc = read_numbers(c, what, err)) < 0) return rc;
    return read_quantization(c, what, err);
}

int loami_config_parse(loami_config *out, const char *text, size_t n, const char *what, loam_err *err)
{
    loami_config c = { 0 };
    int rc = loami_json_parse(&c.root, text, n, what, err);
    if (rc < 0) return rc;
    rc = read_all(&c, what, err);
    if (rc < 0)
        loami_config_close(&c);
    else
        *out = c;
    return rc;
}

int loami_config_open(loami_config *out, const char *dir, loam_err *err)
{
    char path[LOAMI_PATH_MAX], *text = NULL;
    size_t n;
    int rc = loami_path_join(path, dir, "config.json", err);
    if (rc < 0 || (rc = loami_file_read(&text, &n, path, CONFIG_BYTES_MAX, err)) < 0) return rc;
    rc = loami_config_parse(out, text, n, path, err);
    free(text);
    return rc;
}

void loami_config_close(loami_config *c)
{
    json_decref(c->root);
    *c = (loami_config){ 0 };
}
