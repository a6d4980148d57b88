#include "store/quantize.h"

#include "base/half.h"
#include "file/safetensors.h"
#include "store/hash.h"
#include "store/pack.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_ROWS_BYTES = 1 << 20, COPY_BYTES_MAX = 64 << 20, NAME_MAX_BYTES = 256, MAX_EXPERTS = 4096 };

static const uint64_t shard_bytes = 5ull << 30; /* as mlx-lm */

/* One tensor of the new model: one of the old, or the experts' stacked. */
typedef struct part {
    char name[NAME_MAX_BYTES];
    char path[NAME_MAX_BYTES];      /* the module, for "quantization" */
    const loami_tensor_view **from; /* [n_from] */
    uint32_t n_from;
    const loami_tensor_view *scales, *biases; /* of a source that is quantised itself, by old; or NULL */
    loami_quant_config old;
    uint32_t n_dims;
    uint64_t shape[LOAMI_MAX_DIMS];
    loam_dtype type;          /* of floats in the result */
    loami_quant_config quant; /* LOAM_Q_NONE: kept */
} part;

typedef struct job {
    const loami_quantize_options *o;
    const char *source;
    loami_config config;
    loami_weights *weights;
    loami_quant_config quant; /* of most */
    uint32_t low, high;       /* the recipe's bits; 0 = no recipe */
    json_t *quantization;
    bool cast;
    loam_dtype type; /* when cast */
    char dir[LOAMI_PATH_MAX];
    part *parts; /* [n_parts] */
    uint32_t n_parts;
    loami_writer *writer;
    uint64_t done, total;
} job;

/* ---- which tensors, how -------------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static bool is_float(loam_dtype t)
{
    return t == LOAM_F32 || t == LOAM_F16 || t == LOAM_BF16;
}

/* What belongs to the module of a tensor that ends with `end`: "up_proj.weight" -> "up_proj.scales"; or NULL.
 */
static const loami_tensor_view *sibling(const job *j, const char *name, const char *end, const char *other)
{
    char path[NAME_MAX_BYTES + 16];
    if (!ends_with(name, end) || strlen(name) >= NAME_MAX_BYTES) return NULL;
    snprintf(path, sizeof path, "%.*s%s", (int)(strlen(name) - strlen(end)), name, other);
    return loami_weights_find(j->weights, path);
}

/* What mlx-lm's models throw away: leftovers, the copy of a tied matrix, the eyes of a model that sees. */
static bool unwanted(const job *j, const char *name)
{
    return ends_with(name, "rotary_emb.inv_freq") || strstr(name, "vision_tower") ||
           strstr(name, "multi_modal_projector") || (j->config.tied && strncmp(name, "lm_head.", 8) == 0) ||
           sibling(j, name, ".scales", ".weight") || sibling(j, name, ".biases", ".scales");
}

static const struct {
    const char *name;
    uint8_t low, high;
} recipes[] = { { "mixed_2_6", 2, 6 }, { "mixed_3_4", 3, 4 }, { "mixed_3_6", 3, 6 }, { "mixed_4_6", 4, 6 } };

/* The layer's number in "model.layers.7.mlp.down_proj"; 0 for what is in no layer. */
static uint32_t layer_of(const char *path)
{
    const char *at = strstr(path, "layers.");
    return at ? (uint32_t)strtoul(at + 7, NULL, 10) : 0;
}

/* mlx_lm's mixed recipes: first and last eighth of the layers and every third between have more bits for
 * values and down. */
static uint32_t recipe_bits(const job *j, const char *path)
{
    uint32_t n = j->config.n_layers, i = layer_of(path);
    bool more = i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    if (strstr(path, "lm_head")) return j->high;
    return more && (strstr(path, "v_proj") || strstr(path, "v_a_proj") || strstr(path, "v_b_proj") ||
                    strstr(path, "down_proj"))
               ? j->high
               : j->low;
}

/* Modules that a family keeps at 8 bits, group 64, as mlx_lm's models say themselves. */
static bool kept_at_8(const job *j, const char *path)
{
    static const struct {
        const char *family, *end;
    } kept[] = { { "qwen3_moe", "mlp.gate" },
                 { "gpt_oss", "router" },
                 { "granite", "self_attn.o_proj" },
                 { "granite", "mlp.down_proj" },
                 { "granite", "lm_head" } };
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (strcmp(kept[i].family, j->config.family) == 0 && ends_with(path, kept[i].end)) return true;
    return false;
}

static json_t *entry(const loami_quant_config *q, bool with_mode)
{
    json_t *o = json_pack("{s:i,s:i}", "group_size", (int)q->group, "bits", (int)q->bits);
    if (o && with_mode) json_object_set_new(o, "mode", json_string(loami_quant_name(q->mode)));
    return o;
}

/* Decides on a matrix; an entry of its own goes into "quantization" where mlx_lm writes one. */
static int decide(job *j, part *p, loam_err *err)
{
    uint64_t cols = p->shape[p->n_dims - 1];
    bool matrix = p->n_dims >= 2 && ends_with(p->name, ".weight") && is_float(p->type);
    if (!matrix || cols % j->quant.group) return 0;
    p->quant = j->quant;
    if (j->low)
        p->quant.bits = recipe_bits(j, p->path);
    else if (kept_at_8(j, p->path))
        p->quant = (loami_quant_config){ LOAM_Q_AFFINE, 8, 64 };
    else
        return 0;
    if (cols % p->quant.group)
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: %llu columns are no groups of %u", p->name,
                          (unsigned long long)cols, p->quant.group);
    return json_object_set_new(j->quantization, p->path, entry(&p->quant, j->low != 0)) < 0
               ? loami_fail_nomem(err)
               : 0;
}

/* ---- experts: one tensor each becomes one for all ------------------------------------------------------ */

/* "...mlp.experts.3.up_proj.weight": the place of the number, or NULL. */
static const char *expert_number(const char *name)
{
    const char *at = strstr(name, ".mlp.experts.");
    if (!at) return NULL;
    at += strlen(".mlp.experts.");
    return *at >= '0' && *at <= '9' ? at : NULL;
}

/* Collects experts 0, 1, 2... of the tensor that is expert 0's; others' names are skipped when they
 * come up. */
static int collect_experts(job *j, part *p, const loami_tensor_view *t, const char *number, loam_err *err)
{
    const char *rest = strchr(number, '.');
    int head = (int)(number - t->name);
    p->from = calloc(MAX_EXPERTS, sizeof *p->from);
    if (!p->from) return loami_fail_nomem(err);
    for (uint32_t e = 0; e < MAX_EXPERTS; e++) {
        char name[NAME_MAX_BYTES];
        snprintf(name, sizeof name, "%.*s%u%s", head, t->name, e, rest);
        const loami_tensor_view *v = loami_weights_find(j->weights, name);
        if (!v) break;
        if (v->type != t->type || v->n_dims != t->n_dims ||
            memcmp(v->shape, t->shape, sizeof v->shape[0] * v->n_dims) != 0)
            return loami_fail(err, LOAM_E_FORMAT, "%s: is not of the shape and type of expert 0's", name);
        p->from[p->n_from++] = v;
    }
    p->n_dims = t->n_dims + 1;
    p->shape[0] = p->n_from;
    memcpy(p->shape + 1, t->shape, sizeof t->shape[0] * t->n_dims);
    snprintf(p->name, sizeof p->name, "%.*sswitch_mlp%s", head - (int)strlen("experts."), t->name, rest);
    return 0;
}

static bool fits(const loami_tensor_view *t, const part *p, uint64_t last, loam_dtype type)
{
    uint32_t n = p->n_dims - 1;
    return t && t->n_dims == p->n_dims && t->shape[n] == last && t->type == type &&
           memcmp(t->shape, p->shape, sizeof t->shape[0] * n) == 0;
}

/* A source that is quantised: its numbers are those that its codes stand for. */
static int plan_packed(job *j, part *p, const loami_tensor_view *scales, loam_err *err)
{
    const loami_tensor_view *t = p->from[0];
    int rc = loami_config_quant(&j->config, p->path, &p->old, err);
    if (rc < 0) return rc;
    bool affine = p->old.mode == LOAM_Q_AFFINE;
    uint64_t cols = p->old.bits ? t->bytes * 8 / p->old.bits : 0;
    for (uint32_t i = 0; i + 1 < p->n_dims; i++) cols /= p->shape[i] ? p->shape[i] : 1;
    p->scales = scales;
    p->biases = affine ? sibling(j, t->name, ".weight", ".biases") : NULL;
    if (p->old.mode == LOAM_Q_NONE || t->type != LOAM_U32 || p->n_dims < 2 || cols % p->old.group ||
        cols * p->old.bits != t->shape[p->n_dims - 1] * 32 || (affine && !is_float(scales->type)) ||
        !fits(scales, p, cols / p->old.group, affine ? scales->type : LOAM_U8) ||
        (affine && !fits(p->biases, p, cols / p->old.group, scales->type)))
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s: codes, scales and config.json do not fit together",
                          t->file, t->name);
    p->shape[p->n_dims - 1] = cols;
    p->type = j->cast ? j->type : affine ? scales->type : LOAM_BF16;
    return 0;
}

static int plan_part(job *j, part *p, const loami_tensor_view *t, loam_err *err)
{
    const char *number = expert_number(t->name), *rest = number ? strchr(number, '.') : NULL;
    int rc = 0;
    if (strlen(t->name) >= NAME_MAX_BYTES - 16 || t->n_dims + 1 > LOAMI_MAX_DIMS)
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: %.64s: name or shape is beyond what models have",
                          t->file, t->name);
    if (rest) {
        if (strncmp(number, "0.", 2) != 0) return 1; /* comes with expert 0 */
        rc = collect_experts(j, p, t, number, err);
    } else {
        p->from = calloc(1, sizeof *p->from);
        if (!p->from) return loami_fail_nomem(err);
        p->from[0] = t;
        p->n_from = 1;
        p->n_dims = t->n_dims;
        memcpy(p->shape, t->shape, sizeof t->shape);
        snprintf(p->name, sizeof p->name, "%s", t->name);
    }
    p->type = j->cast && is_float(t->type) ? j->type : t->type;
    const loami_tensor_view *scales = sibling(j, t->name, ".weight", ".scales");
    if (ends_with(p->name, ".weight"))
        snprintf(p->path, sizeof p->path, "%.*s", (int)(strlen(p->name) - strlen(".weight")), p->name);
    if (rc == 0 && scales) rc = plan_packed(j, p, scales, err);
    return rc < 0 ? rc : decide(j, p, err);
}

static int add_part(job *j, const part *p, loam_err *err)
{
    uint64_t shape[LOAMI_MAX_DIMS], cols = p->n_dims ? p->shape[p->n_dims - 1] : 1;
    char name[NAME_MAX_BYTES + 16];
    const loami_quant_config *q = &p->quant;
    if (q->mode == LOAM_Q_NONE)
        return loami_writer_add(j->writer, p->name, p->type, p->n_dims, p->shape, err);
    memcpy(shape, p->shape, sizeof shape);
    shape[p->n_dims - 1] = cols * q->bits / 32;
    int rc = loami_writer_add(j->writer, p->name, LOAM_U32, p->n_dims, shape, err);
    shape[p->n_dims - 1] = cols / q->group;
    snprintf(name, sizeof name, "%s.scales", p->path);
    if (rc == 0)
        rc = loami_writer_add(j->writer, name, q->mode == LOAM_Q_AFFINE ? p->type : LOAM_U8, p->n_dims, shape,
                              err);
    snprintf(name, sizeof name, "%s.biases", p->path);
    if (rc == 0 && q->mode == LOAM_Q_AFFINE)
        rc = loami_writer_add(j->writer, name, p->type, p->n_dims, shape, err);
    return rc;
}

static int plan_all(job *j, loam_err *err)
{
    uint32_t n = loami_weights_count(j->weights);
    j->parts = calloc(n + 1, sizeof *j->parts);
    if (!j->parts) return loami_fail_nomem(err);
    for (uint32_t i = 0; i < n; i++) {
        const loami_tensor_view *t = loami_weights_at(j->weights, i);
        part *p = &j->parts[j->n_parts];
        if (unwanted(j, t->name)) continue;
        j->n_parts++;
        int rc = plan_part(j, p, t, err);
        if (rc == 0)
            rc = add_part(j, p, err);
        else if (rc > 0)
            j->n_parts--;
        if (rc < 0) return rc;
        if (rc == 0) j->total += t->bytes * p->n_from;
    }
    return 0;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

/* Row `row` of cols numbers of the part, as its type holds them. each: rows of one of the tensors it is made
 * of. */
static void load(const part *p, uint64_t row, uint64_t each, uint64_t cols, float *out)
{
    const loami_tensor_view *t = p->from[row / each];
    loam_dtype type = t->type;
    row %= each;
    if (p->scales) {
        const loami_quant_config *q = &p->old;
        uint64_t scale = loami_pack_scale_bytes(q, p->scales->type, cols);
        type = LOAM_F32;
        loami_unpack_row(q, p->scales->type,
                         (const unsigned char *)t->data + row * loami_pack_code_bytes(q, cols),
                         (const unsigned char *)p->scales->data + row * scale,
                         p->biases ? (const unsigned char *)p->biases->data + row * scale : NULL, cols, out);
    } else {
        for (uint64_t i = 0; i < cols; i++) out[i] = loami_number_of(type, t->data, row * cols + i);
    }
    if (p->type == type) return;
    for (uint64_t i = 0; i < cols; i++) out[i] = loami_round_to(p->type, out[i]);
}

static void store(loam_dtype type, const float *in, uint64_t n, unsigned char *out)
{
    for (uint64_t i = 0; i < n; i++) {
        uint16_t h = type == LOAM_F16 ? loami_to_f16(in[i]) : loami_to_bf16(in[i]);
        if (type == LOAM_F32)
            memcpy(out + 4 * i, in + i, 4);
        else
            memcpy(out + 2 * i, &h, 2);
    }
}

static int step(job *j, uint64_t bytes, loam_err *err)
{
    j->done += bytes;
    if (!j->o->progress.step || j->o->progress.step(j->o->progress.arg, j->done, j->total) >= 0) return 0;
    return loami_fail(err, LOAM_E_CANCELLED, "stopped");
}

static uint64_t rows_of(const part *p)
{
    uint64_t rows = 1;
    for (uint32_t i = 0; i + 1 < p->n_dims; i++) rows *= p->shape[i];
    return rows;
}

/* Kept as it is, or in another type of float. */
static int write_kept(job *j, const part *p, loam_err *err)
{
    const loami_tensor_view *t = p->from[0];
    uint64_t cols = p->n_dims ? p->shape[p->n_dims - 1] : 1, rows = rows_of(p), each = rows / p->n_from;
    if (p->type == t->type && p->n_from == 1 && !p->scales) {
        int rc = loami_writer_data(j->writer, t->data, t->bytes, err);
        return rc < 0 ? rc : step(j, t->bytes, err);
    }
    float *row = malloc((size_t)cols * sizeof *row + 1);
    unsigned char *out = malloc((size_t)cols * 4 + 1);
    int rc = row && out ? 0 : loami_fail_nomem(err);
    for (uint64_t r = 0; rc == 0 && r < rows; r++) {
        load(p, r, each, cols, row);
        store(p->type, row, cols, out);
        rc = loami_writer_data(j->writer, out, cols * loami_dtype_bytes(p->type), err);
        if (rc == 0 && r % each == each - 1) rc = step(j, t->bytes, err);
    }
    free(row);
    free(out);
    return rc;
}

static int write_packed(job *j, const part *p, loam_err *err)
{
    const loami_quant_config *q = &p->quant;
    uint64_t cols = p->shape[p->n_dims - 1], rows = rows_of(p), code = loami_pack_code_bytes(q, cols),
             scale = loami_pack_scale_bytes(q, p->type, cols);
    uint64_t each = rows / p->n_from, at_once = CHUNK_ROWS_BYTES / code + 1;
    float *row = malloc((size_t)cols * sizeof *row);
    unsigned char *codes = malloc((size_t)(at_once * code)), *scales = malloc((size_t)(rows * scale) + 1),
                  *biases = malloc((size_t)(rows * scale) + 1);
    int rc = row && codes && scales && biases ? 0 : loami_fail_nomem(err);
    for (uint64_t r = 0; rc == 0 && r < rows; r += at_once) {
        uint64_t n = rows - r < at_once ? rows - r : at_once;
        for (uint64_t i = 0; i < n; i++) {
            load(p, r + i, each, cols, row);
            loami_pack_row(q, p->type, row, cols, codes + i * code, scales + (r + i) * scale,
                           biases + (r + i) * scale);
        }
        rc = loami_writer_data(j->writer, codes, n * code, err);
        if (rc == 0) rc = step(j, p->from[0]->bytes / each * n, err);
    }
    if (rc == 0) rc = loami_writer_data(j->writer, scales, rows * scale, err);
    if (rc == 0 && q->mode == LOAM_Q_AFFINE) rc = loami_writer_data(j->writer, biases, rows * scale, err);
    free(row);
    free(codes);
    free(scales);
    free(biases);
    return rc;
}

static int write_weights(job *j, loam_err *err)
{
    int rc = loami_writer_open(&j->writer, j->dir, shard_bytes, err);
    if (rc == 0) rc = plan_all(j, err);
    if (rc == 0) rc = loami_writer_begin(j->writer, err);
    for (uint32_t i = 0; rc == 0 && i < j->n_parts; i++) {
        const part *p = &j->parts[i];
        rc = p->quant.mode == LOAM_Q_NONE ? write_kept(j, p, err) : write_packed(j, p, err);
    }
    if (rc == 0) return loami_writer_close(j->writer, err);
    loami_writer_abort(j->writer);
    return rc;
}

/* ---- the rest of the folder ---------------------------------------------------------------------------- */

struct copy_arg {
    const job *j;
    loam_err *err;
};

/* Tokenizer, templates, generation_config.json and the like. */
static int copy_file(void *arg, const char *name)
{
    static const char *const ends[] = { ".json", ".jinja", ".txt", ".model", ".tiktoken" };
    static const char *const others[] = { "config.json", "model.safetensors.index.json", "loam.json" };
    struct copy_arg *a = arg;
    char from[LOAMI_PATH_MAX], to[LOAMI_PATH_MAX], *data = NULL;
    size_t n;
    bool wanted = false;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) wanted |= ends_with(name, ends[i]);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) wanted &= strcmp(name, others[i]) != 0;
    int rc = loami_path_join(from, a->j->source, name, a->err);
    if (rc == 0) rc = loami_path_join(to, a->j->dir, name, a->err);
    if (rc < 0 || !wanted || !loami_file_exists(from)) return rc;
    rc = loami_file_read(&data, &n, from, COPY_BYTES_MAX, a->err);
    if (rc == 0) rc = loami_file_write(to, data, n, a->err);
    free(data);
    return rc;
}

static int write_config(job *j, loam_err *err)
{
    static const char *const unused[] = { "_name_or_path", "vision_config", "quantization_config" };
    json_t *c = json_copy(j->config.root);
    for (size_t i = 0; i < sizeof unused / sizeof *unused; i++) json_object_del(c, unused[i]);
    int bad = json_object_set(c, "quantization", j->quantization) |
              json_object_set(c, "quantization_config", j->quantization);
    int rc = bad ? loami_fail_nomem(err) : loami_import_json(j->dir, "config.json", c, err);
    json_decref(c);
    return rc;
}

static int read_recipe(job *j, loam_err *err)
{
    if (!j->o->recipe) return 0;
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        if (strcmp(recipes[i].name, j->o->recipe) != 0) continue;
        j->low = recipes[i].low;
        j->high = recipes[i].high;
        if (j->quant.mode == LOAM_Q_AFFINE) return 0;
        return loami_fail(err, LOAM_E_ARG, "recipes are for mode affine, not %s",
                          loami_quant_name(j->quant.mode));
    }
    return loami_fail(err, LOAM_E_ARG,
                      "recipe %.32s is not known; there are mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6",
                      j->o->recipe);
}

static int read_type(job *j, loam_err *err)
{
    static const struct {
        const char *name;
        loam_dtype type;
    } types[] = { { "float16", LOAM_F16 }, { "bfloat16", LOAM_BF16 }, { "float32", LOAM_F32 } };
    const char *own = json_string_value(json_object_get(j->config.root, "torch_dtype"));
    if (!own)
        own = json_string_value(json_object_get(json_object_get(j->config.root, "text_config"), "dtype"));
    const char *name = j->o->type ? j->o->type : own;
    for (size_t i = 0; name && i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i].name, name) != 0) continue;
        j->cast = true;
        j->type = types[i].type;
    }
    return !j->o->type || j->cast
               ? 0
               : loami_fail(err, LOAM_E_ARG, "type %.32s is not known; there are float16, bfloat16, float32",
                            j->o->type);
}

static int prepare(job *j, loam_err *err)
{
    loami_quant_config q;
    int rc = loami_config_open(&j->config, j->source, err);
    if (rc < 0) return rc;
    if (j->config.quant.mode != LOAM_Q_NONE && j->o->progress.say)
        j->o->progress.say(j->o->progress.arg, "the model is quantised already: what it lost stays lost");
    loami_quant_find(&q, loami_quant_name(j->o->quant.mode));
    if (j->o->quant.bits) q.bits = j->o->quant.bits;
    if (j->o->quant.group) q.group = j->o->quant.group;
    if ((rc = loami_quant_check(&q, "quantisation", err)) < 0) {
        if (err) err->code = LOAM_E_ARG;
        return LOAM_E_ARG;
    }
    j->quant = q;
    j->quantization = entry(&q, true);
    if (!j->quantization) return loami_fail_nomem(err);
    if ((rc = read_recipe(j, err)) < 0 || (rc = read_type(j, err)) < 0) return rc;
    return loami_weights_open(&j->weights, j->source, err);
}

static int fill(job *j, loam_err *err)
{
    struct copy_arg copy = { j, err };
    const char *base = strrchr(j->source, '/');
    int rc = write_weights(j, err);
    if (rc == 0) rc = write_config(j, err);
    if (rc == 0) rc = loami_dir_each(j->source, copy_file, &copy, err);
    return rc < 0 ? rc : loami_hash_write(j->dir, base && base[1] ? base + 1 : j->source, err);
}

int loami_quantize(const char *dir, const loami_quantize_options *o, loam_err *err)
{
    job j = { .o = o, .source = dir };
    int rc = prepare(&j, err);
    if (rc == 0) rc = loami_store_begin(j.dir, o->name, o->force, err);
    if (rc == 0) {
        rc = fill(&j, err);
        if (rc == 0) rc = loami_store_keep(j.dir, o->name, o->force, err);
        if (rc < 0) loami_store_drop(j.dir);
    }
    for (uint32_t i = 0; i < j.n_parts; i++) free((void *)j.parts[i].from);
    free(j.parts);
    json_decref(j.quantization);
    loami_weights_close(j.weights);
    loami_config_close(&j.config);
    return rc;
}
