#include "substrate/cpu/cpu.h"
#include "base/err.h"
#include "substrate/dequant.h"
#include "substrate/groups.h"
#include "substrate/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- open, close ----------------------------------------------------------------------------------------------- */

static void cpu_close(loam_sub *s)
{
    if (!s) return;
    loami_pool_close(s->pool);
    for (loam_weight *w = s->weights, *next; w; w = next) {
        next = w->next;
        for (uint32_t i = 0; i < w->n_parts; i++) free(w->part[i].bias);
        free(w->vector);
        free(w->vector_bias);
        free(w);
    }
    for (uint32_t i = 0; s->scratch && i < s->threads; i++) free(s->scratch[i].raw);
    loami_store_free(s);
    loami_arena_free(&s->notes);
    free(s->scratch);
    free(s->cache);
    free(s->layer);
    free(s->node);
    free(s->phase);
    free(s);
}

static int cpu_open(loam_sub **out, const loam_sub_options *options, loam_err *err)
{
    loam_sub *s = calloc(1, sizeof *s);
    if (!s) return loami_fail_nomem(err);
    s->k = loami_kern_pick(NULL);
    s->threads = options->threads ? options->threads : loami_physical_cores();
    s->exact = options->exact;
    s->scratch = calloc(s->threads, sizeof *s->scratch);
    int rc = s->scratch ? loami_pool_open(&s->pool, s->threads, err) : loami_fail_nomem(err);
    if (rc < 0) {
        cpu_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

static void cpu_info(const loam_sub *s, loam_sub_info *out)
{
    *out = (loam_sub_info){ .page_tokens = LOAMI_PAGE, .threads = s->threads, .rows = 512, .steady = true, .tolerance = s->exact ? 2e-3 : 5e-2 };
    out->scratch_bytes = loami_store_bytes(s) + s->notes_bytes + s->cap_nodes * sizeof *s->node + s->cap_phases * sizeof *s->phase;
    for (uint32_t i = 0; i < s->threads; i++) out->scratch_bytes += s->scratch[i].raw_size;
    snprintf(out->device, sizeof out->device, "cpu (%s)", s->k->name);
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

static loami_mat mat_of(const loam_matrix *m)
{
    static const loami_code plain[] = { [LOAM_F32] = LOAMI_CODE_F32, [LOAM_F16] = LOAMI_CODE_F16, [LOAM_BF16] = LOAMI_CODE_BF16 };
    static const loami_scale scales[] = { [LOAM_F32] = LOAMI_SCALE_F32, [LOAM_F16] = LOAMI_SCALE_F16, [LOAM_BF16] = LOAMI_SCALE_BF16 };
    loami_mat out = { .data = m->data, .scales = m->scales, .rows = m->rows, .cols = m->cols, .bits = m->bits, .group = m->group };
    out.row_bytes = loami_row_bytes(m);
    out.scale_bytes = loami_scale_row_bytes(m);
    switch (m->quant) {
    case LOAM_Q_NONE:
        out.code = plain[m->type];
        out.group = 0;
        out.bits = out.code == LOAMI_CODE_F32 ? 32 : 16;
        break;
    case LOAM_Q_AFFINE:
        out.code = LOAMI_CODE_INT;
        out.scale = scales[m->type];
        out.biases = m->biases;
        break;
    case LOAM_Q_MXFP4: out.code = LOAMI_CODE_FP4, out.scale = LOAMI_SCALE_E8M0; break;
    case LOAM_Q_MXFP8: out.code = LOAMI_CODE_FP8, out.scale = LOAMI_SCALE_E8M0; break;
    case LOAM_Q_NVFP4: out.code = LOAMI_CODE_FP4, out.scale = LOAMI_SCALE_E4M3; break;
    }
    return out;
}

loami_mat loami_part_mat(const loami_part *p, uint32_t expert)
{
    loami_mat m = p->mat;
    size_t rows = (size_t)expert * m.rows;
    m.data += rows * m.row_bytes;
    if (m.scales) m.scales += rows * m.scale_bytes;
    if (m.biases) m.biases += rows * m.scale_bytes;
    return m;
}

bool loami_weight_vector(const loam_weight *w)
{
    if (!w || w->vector) return true;
    const loam_matrix *m = &w->part[0].matrix;
    loam_weight *own = (loam_weight *)w; /* the substrate made it */
    float *v = malloc(w->cols * sizeof *v), *b = m->bias ? malloc(w->cols * sizeof *b) : NULL;
    if (!v || (m->bias && !b)) {
        free(v);
        free(b);
        return false;
    }
    loami_dequant_row(m, 0, 0, v);
    for (uint32_t i = 0; b && i < w->cols; i++) b[i] = loami_number_at(m->bias, m->bias_type, i);
    own->vector = v;
    own->vector_bias = b;
    return true;
}

static int add_part(loam_weight *w, const loam_matrix *m, loam_err *err)
{
    loami_part *part = &w->part[w->n_parts];
    *part = (loami_part){ .matrix = *m, .mat = mat_of(m) };
    part->matrix.name = NULL;
    w->n_parts++;
    w->rows += m->rows;
    if (!m->bias) return 0;
    size_t n = (size_t)m->n_experts * m->rows;
    part->bias = n <= SIZE_MAX / 8 ? malloc(n * sizeof *part->bias) : NULL;
    if (!part->bias) return loami_fail_nomem(err);
    for (size_t i = 0; i < n; i++) part->bias[i] = loami_number_at(m->bias, m->bias_type, i);
    return 0;
}

static int check_parts(const loam_sub *s, const loam_matrix *parts, uint32_t n_parts, loam_err *err)
{
    uint32_t rows = 0;
    if (!n_parts) return loami_fail(err, LOAM_E_ARG, "a weight of no matrices");
    for (uint32_t i = 0; i < n_parts; i++) {
        const loam_matrix *m = &parts[i];
        int rc = loami_matrix_check(m, err);
        if (rc < 0) return rc;
        if (m->cols != parts[0].cols || m->n_experts != parts[0].n_experts || m->rows > UINT32_MAX - rows)
            return loami_fail(err, LOAM_E_FORMAT, "%s: its shape does not go with %s", m->name, parts[0].name);
        rows += m->rows;
    }
    (void)s;
    return 0;
}

static int cpu_weight(loam_sub *s, loam_weight **out, const loam_matrix *parts, uint32_t n_parts, loam_err *err)
{
    int rc = check_parts(s, parts, n_parts, err);
    if (rc < 0) return rc;
    loam_weight *w = calloc(1, sizeof *w + n_parts * sizeof w->part[0]);
    if (!w) return loami_fail_nomem(err);
    w->next = s->weights;
    w->cols = parts[0].cols;
    w->n_experts = parts[0].n_experts;
    s->weights = w;             /* close frees it, whatever happens below */
    loami_ready formats = { 0 };
    for (uint32_t i = 0; i < n_parts; i++) {
        if ((rc = add_part(w, &parts[i], err)) < 0) return rc;
        if (formats.n_formats == LOAMI_FORMATS)
            return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: too many kinds of quantisation joined in one weight", parts[i].name);
        loami_ready_want(s, &formats, w);
    }
    *out = w;
    return 0;
}

/* ---- pages -------------------------------------------------------------------------------------------------------- */

/* Of one kv head: see attend.c. */
static size_t head_bytes(const loam_kv_config *c, uint32_t pad)
{
    return 2 * LOAMI_PAGE * (pad * (c->type == LOAM_KV_INT8 ? sizeof(int8_t) : sizeof(int16_t)) + sizeof(float));
}

static uint32_t pad16(uint32_t head_dim)
{
    return (head_dim + 15) / 16 * 16;
}

static uint64_t cpu_kv_page_bytes(const loam_sub *s, const loam_kv_config *c, uint32_t group)
{
    (void)s;
    return (uint64_t)loami_kv_layers(c, group) * c->n_kv * head_bytes(c, pad16(c->head_dim));
}

static size_t page_bytes(const loam_sub *s) /* of one layer */
{
    return s->head_bytes * s->kv.n_kv;
}

static int cpu_kv_open(loam_sub *s, const loam_kv_config *config, uint64_t *bytes, loam_err *err)
{
    if (!config->n_layers || !config->n_kv || !config->head_dim || config->head_dim > 4096 || config->n_kv > 65536 || !loami_kv_grouped(config))
        return loami_fail(err, LOAM_E_UNSUPPORTED, "a KV cache of %u layers, %u heads of %u, %u groups", config->n_layers, config->n_kv,
                          config->head_dim, config->n_groups);
    s->kv = *config;
    s->head_pad = pad16(config->head_dim);
    s->head_bytes = head_bytes(config, s->head_pad);
    s->k_top = loami_k_top(s->head_pad);
    size_t page = page_bytes(s), n = loami_kv_pages(config);
    if (n > SIZE_MAX / 4 / page) return loami_fail_nomem(err);
    free(s->cache);
    free(s->layer);
    s->cache = calloc(n, page);
    s->layer = calloc(config->n_layers, sizeof *s->layer);
    if (!s->cache || !s->layer) return loami_fail_nomem(err);
    char *at = s->cache;
    for (uint32_t i = 0; i < config->n_layers; at += page * loami_kv_pages_of(config, i++)) s->layer[i] = at;
    *bytes = n * page;
    return 0;
}

static bool cpu_kv_read(loam_sub *s, uint32_t group, uint32_t page, void *bytes)
{
    size_t n = page_bytes(s);
    char *out = bytes;
    for (uint32_t i = 0; i < s->kv.n_layers; i++) {
        if (loami_kv_group_of(&s->kv, i) != group) continue;
        memcpy(out, s->layer[i] + page * n, n);
        out += n;
    }
    return true;
}

static bool cpu_kv_write(loam_sub *s, uint32_t group, uint32_t page, const void *bytes)
{
    size_t n = page_bytes(s);
    const char *in = bytes;
    for (uint32_t i = 0; i < s->kv.n_layers; i++) {
        if (loami_kv_group_of(&s->kv, i) != group) continue;
        memcpy(s->layer[i] + page * n, in, n);
        in += n;
    }
    return true;
}

static void cpu_kv_copy(loam_sub *s, uint32_t group, uint32_t dst, uint32_t src, uint32_t n_tokens)
{
    size_t page = page_bytes(s);
    for (uint32_t i = 0; n_tokens && i < s->kv.n_layers; i++) /* whole pages: keys are turned */
        if (loami_kv_group_of(&s->kv, i) == group) memmove(s->layer[i] + dst * page, s->layer[i] + src * page, page);
}

/* ---- recording ---------------------------------------------------------------------------------------------------- */

static void cpu_begin(loam_sub *s, const loam_batch *b)
{
    loami_store_reset(s);
    loami_arena_restore(&s->notes, (loami_arena_mark){ 0 });
    s->batch = b;
    s->step++;
    s->n_nodes = s->n_phases = s->n_angles = 0;
    s->notes_now = 0;
    s->need_floats = s->need_ready = 0;
    s->failed = NULL;
}

/* Adds a node; its inputs must be good. */
static loam_tensor record(loam_sub *s, loami_node n)
{
    bool lost = s->failed || (n.x != LOAM_NO_TENSOR && n.x >= s->n_nodes) || (n.y != LOAM_NO_TENSOR && n.y >= s->n_nodes);
    if (!lost && s->n_nodes == s->cap_nodes) {
        uint32_t cap = s->cap_nodes ? 2 * s->cap_nodes : 1024;
        loami_node *node = cap <= LOAMI_NODES_MAX ? realloc(s->node, cap * sizeof *node) : NULL;
        if (node) s->node = node, s->cap_nodes = cap;
        lost = !node;
    }
    if (lost) {
        if (!s->failed) s->failed = "an operation on a tensor that is not there, or out of memory in a step";
        return LOAM_NO_TENSOR;
    }
    s->node[s->n_nodes] = n;
    return s->n_nodes++;
}

/* The shape of an input, or of nothing. */
static loami_node shape(const loam_sub *s, loam_tensor x)
{
    return x < s->n_nodes ? s->node[x] : (loami_node){ 0 };
}

static void need_vector(loam_sub *s, const loam_weight *w)
{
    if (!loami_weight_vector(w)) s->failed = "out of memory in a step";
}

static void need_norm(loam_sub *s, const loam_norm *norm)
{
    if (norm) need_vector(s, norm->weight);
}

static loam_tensor cpu_embed(loam_sub *s, const loam_weight *table, float scale)
{
    return record(s, (loami_node){ .op = LOAMI_EMBED, .rows = s->batch->n_rows, .cols = table->cols, .x = LOAM_NO_TENSOR, .y = LOAM_NO_TENSOR,
                                   .w = table, .scale = scale });
}

static loam_tensor cpu_norm(loam_sub *s, loam_tensor x, const loam_norm *norm)
{
    loami_node in = shape(s, x);
    need_norm(s, norm);
    return record(s, (loami_node){ .op = LOAMI_NORM, .rows = in.rows, .cols = in.cols, .x = x, .y = LOAM_NO_TENSOR, .norm = norm });
}

static loam_tensor cpu_linear(loam_sub *s, loam_tensor x, const loam_weight *w)
{
    return record(s, (loami_node){ .op = LOAMI_LINEAR, .rows = shape(s, x).rows, .cols = w->rows, .x = x, .y = LOAM_NO_TENSOR, .w = w });
}

static loam_tensor cpu_glu(loam_sub *s, loam_tensor x, const loam_weight *gate_up, loam_act act)
{
    return record(s, (loami_node){ .op = LOAMI_GLU, .rows = shape(s, x).rows, .cols = gate_up->rows / 2, .x = x, .y = LOAM_NO_TENSOR,
                                   .w = gate_up, .act = act });
}

static loam_tensor cpu_add(loam_sub *s, loam_tensor x, loam_tensor y, float y_scale)
{
    loami_node in = shape(s, x);
    return record(s, (loami_node){ .op = LOAMI_ADD, .rows = in.rows, .cols = in.cols, .x = x, .y = y, .scale = y_scale });
}

static loam_tensor cpu_cap(loam_sub *s, loam_tensor x, float scale, float cap)
{
    loami_node in = shape(s, x);
    return record(s, (loami_node){ .op = LOAMI_CAP, .rows = in.rows, .cols = in.cols, .x = x, .y = LOAM_NO_TENSOR, .scale = scale, .cap = cap });
}

static loam_tensor cpu_store(loam_sub *s, loam_tensor qkv, uint32_t layer, const loam_heads *heads)
{
    need_norm(s, heads->q_norm);
    need_norm(s, heads->k_norm);
    return record(s, (loami_node){ .op = LOAMI_STORE, .rows = shape(s, qkv).rows, .cols = heads->n_q * heads->head_dim, .x = qkv,
                                   .y = LOAM_NO_TENSOR, .layer = layer, .heads = heads });
}

static loam_tensor cpu_attend(loam_sub *s, loam_tensor q, uint32_t layer, const loam_heads *heads, const loam_attn *attn)
{
    loami_node in = shape(s, q);
    need_vector(s, attn->sinks);
    return record(s, (loami_node){ .op = LOAMI_ATTEND, .rows = in.rows, .cols = in.cols, .x = q, .y = LOAM_NO_TENSOR, .layer = layer,
                                   .heads = heads, .attn = attn });
}

static loam_tensor cpu_moe(loam_sub *s, loam_tensor x, const loam_moe *moe)
{
    loami_node in = shape(s, x);
    return record(s, (loami_node){ .op = LOAMI_MOE, .rows = in.rows, .cols = moe->down->rows, .x = x, .y = LOAM_NO_TENSOR, .moe = moe });
}

static loam_tensor cpu_gather(loam_sub *s, loam_tensor x)
{
    return record(s, (loami_node){ .op = LOAMI_GATHER, .rows = s->batch->n_wanted, .cols = shape(s, x).cols, .x = x, .y = LOAM_NO_TENSOR });
}

static int cpu_end(loam_sub *s, loam_err *err)
{
    if (!s->failed) loami_plan(s);
    if (!s->failed && loami_scratch_fit(s)) loami_phases_run(s);
    s->batch = NULL;
    return s->failed ? loami_fail(err, LOAM_E_NOMEM, "%s", s->failed) : 0;
}

static int cpu_rehearse(loam_sub *s, loam_err *err)
{
    if (!s->failed) loami_plan(s);
    if (!s->failed) loami_scratch_fit(s);
    s->batch = NULL;
    return s->failed ? loami_fail(err, LOAM_E_NOMEM, "%s", s->failed) : 0;
}

static const float *cpu_read(loam_sub *s, loam_tensor x, uint32_t *rows, uint32_t *cols)
{
    if (s->failed || x >= s->n_nodes || !s->node[x].data || s->node[x].gone) return NULL;
    if (rows) *rows = s->node[x].rows;
    if (cols) *cols = s->node[x].cols;
    return s->node[x].data;
}

const loam_substrate loami_cpu = {
    .abi = LOAM_SUBSTRATE_ABI,
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .info = cpu_info,
    .weight = cpu_weight,
    .kv_page_bytes = cpu_kv_page_bytes,
    .kv_open = cpu_kv_open,
    .kv_copy = cpu_kv_copy,
    .kv_read = cpu_kv_read,
    .kv_write = cpu_kv_write,
    .begin = cpu_begin,
    .embed = cpu_embed,
    .norm = cpu_norm,
    .linear = cpu_linear,
    .glu = cpu_glu,
    .add = cpu_add,
    .cap = cpu_cap,
    .store = cpu_store,
    .attend = cpu_attend,
    .moe = cpu_moe,
    .gather = cpu_gather,
    .end = cpu_end,
    .rehearse = cpu_rehearse,
    .read = cpu_read,
};
