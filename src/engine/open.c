/* Opening an engine, on its own thread: substrate, model, text, and the memory that all later work lives in. */
#include "base/err.h"
#include "base/file.h"
#include "base/system.h"
#include "engine/tier.h"
#include "file/windows.h"
#include "substrate/registry.h"

#include <string.h>

enum {
    CONTEXT_MAX = 1 << 20,
    CONTEXT_LEAST = 256,        /* below, a memory limit is too small to be meant */
    RUNNING_MAX = 256,          /* with prompts beside, they still fit into a step */
    STEP_MS_DEFAULT = 150,      /* six tokens a second while somebody else's prompt is being read: still as fast as one reads */
};

static int open_text(loam_engine *e, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    int rc = loami_path_join(path, e->options.model, "tokenizer.json", err);
    if (rc < 0 || !loami_file_exists(path)) return rc;
    rc = loami_text_open_path(&e->text, e->options.model, err);
    return rc < 0 ? rc : loami_compiler_open(&e->compiler, e->text, e->model->config.vocab, err);
}

/* ---- memory --------------------------------------------------------------------------------------------- */

/* Windows of the layers, and which of them share pages. */
static int look_at_windows(loam_engine *e, loam_err *err)
{
    const loami_model *m = e->model;
    uint32_t n = m->config.n_layers, widest = 0;
    bool all = false;
    e->group_of = loami_arena_array(&e->arena, n, sizeof *e->group_of);
    if (!e->group_of) return loami_fail_nomem(err);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t window = m->layers[i].attn.window;
        e->group_of[i] = window > 0;
        all |= window == 0;
        if (window > widest) widest = window;
    }
    if (all) e->near_window = widest;
    else e->window = widest;
    if (loami_near_at_once(e, e->info.context_tokens) == loami_pages_at_once(e, e->info.context_tokens)) e->near_window = 0; /* nothing to gain */
    return 0;
}

static int choose_context(loam_engine *e, loam_err *err)
{
    uint32_t most = e->model->config.context, asked = e->options.context_tokens;
    e->info.context_tokens = asked ? asked : most < CONTEXT_DEFAULT ? most : CONTEXT_DEFAULT;
    if (asked > most) return loami_fail(err, LOAM_E_ARG, "a context of %u tokens was asked for, the model has %u", asked, most);
    if (asked > CONTEXT_MAX) return loami_fail(err, LOAM_E_ARG, "a context of %u tokens: at most %d", asked, CONTEXT_MAX);
    return look_at_windows(e, err);
}

static int kv_config(const loam_engine *e, loam_kv_config *kv, loam_err *err)
{
    const loami_config *c = &e->model->config;
    const char *type = e->options.kv_type ? e->options.kv_type : "f16";
    *kv = (loam_kv_config){ .n_layers = c->n_layers, .n_kv = c->n_kv_heads, .head_dim = c->head_dim, .n_groups = 1, .group = { { 1, e->window } } };
    if (e->near_window) {
        kv->n_groups = 2;
        kv->group[1] = (loam_kv_group){ 1, e->near_window };
        kv->group_of = e->group_of;
    }
    if (strcmp(type, "int8") == 0) kv->type = LOAM_KV_INT8;
    else if (strcmp(type, "f16") != 0) return loami_fail(err, LOAM_E_ARG, "\"%s\" is no type of KV cache: f16 or int8", type);
    return 0;
}

/* Rehearses one step of n_seqs sequences, n_rows in all, those but the last one row each, at the end of their context. */
static int rehearse(loam_engine *e, uint32_t n_seqs, uint32_t n_rows, uint32_t n_wanted, const uint32_t *pages, bool steady,
                    loam_err *err)
{
    const loami_machine *m = &e->machine;
    uint32_t context = e->info.context_tokens, last = n_rows - (n_seqs - 1);
    if (last > context) last = context;
    loam_batch b = { n_seqs - 1 + last, e->row_tokens, n_seqs, e->row_seqs, n_wanted, e->row_wanted, steady };
    for (uint32_t i = 0; i < n_seqs; i++) {
        uint32_t rows = i + 1 < n_seqs ? 1 : last;
        e->row_seqs[i] = (loam_seq_rows){ i, rows, context - rows, { pages, pages } };
    }
    if (b.n_wanted > b.n_rows) b.n_wanted = b.n_rows;
    for (uint32_t i = 0; i < b.n_wanted; i++) e->row_wanted[i] = i;
    m->api->begin(m->sub, &b);
    e->model->family->forward(e->model);
    return m->api->rehearse(m->sub, err);
}

/* Lets the substrate take now what its largest steps need, so that no step has to ask for memory. Needs a KV cache, of
 * any size. */
static int rehearse_all(loam_engine *e, loam_err *err)
{
    uint32_t page = e->sub_info.page_tokens, n_pages = (e->info.context_tokens + page - 1) / page, most = e->max_running, rows = e->sub_info.rows;
    uint32_t *pages = loami_arena_array(&e->arena, n_pages, sizeof *pages);
    if (!pages) return loami_fail_nomem(err);
    int rc = rehearse(e, 1, rows, 1, pages, true, err);
    if (rc == 0) rc = rehearse(e, 1, ROWS_SCORED, ROWS_SCORED, pages, true, err);
    if (rc == 0) rc = rehearse(e, most, rows, most, pages, true, err);
    if (rc == 0 && e->options.speculate_tokens) rc = rehearse(e, 1, ROWS_DRAFTED, ROWS_DRAFTED, pages, e->options.batch_invariant, err);
    for (uint32_t n = 1; rc == 0 && n < most; n *= 2) rc = rehearse(e, n, n, n, pages, e->options.batch_invariant, err);
    if (rc == 0) rc = rehearse(e, most, most, most, pages, e->options.batch_invariant, err);
    e->machine.api->info(e->machine.sub, &e->sub_info);
    return rc;
}

static double gb(uint64_t bytes)
{
    return (double)bytes / 1e9;
}

/* What a cache of a given size is made of. */
typedef struct cache_plan {
    uint64_t bytes[LOAM_KV_GROUPS]; /* of a page */
    loami_near_room room;
} cache_plan;

static uint64_t bytes_for(const cache_plan *p, uint64_t n)
{
    return n * p->bytes[0] + loami_near_pages(&p->room, n) * p->bytes[1];
}

/* The largest n that takes no more than so many bytes. */
static uint64_t pages_in(const cache_plan *p, uint64_t bytes)
{
    uint64_t low = 0, high = bytes / p->bytes[0] + 1;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (bytes_for(p, middle) <= bytes) low = middle;
        else high = middle;
    }
    return low;
}

static cache_plan plan_cache(const loam_engine *e, const loam_kv_config *kv)
{
    uint32_t page = e->sub_info.page_tokens, context = e->info.context_tokens;
    cache_plan p = { .room = { .each = loami_pages_at_once(e, context), .near_each = loami_near_at_once(e, context), .n_running = e->max_running } };
    for (uint32_t g = 0; g < kv->n_groups; g++) p.bytes[g] = e->machine.api->kv_page_bytes(e->machine.sub, kv, g);
    p.room.contexts = loam_kv_tokens(context, e->max_running) / context;
    if (e->near_window) p.room.spare = (e->sub_info.rows + page - 1) / page;
    return p;
}

/* How many pages: as many as were asked for, or as fit under the limit beside weights and scratch. */
static int choose_pages(loam_engine *e, loam_kv_config *kv, loam_err *err)
{
    const loam_options *o = &e->options;
    uint64_t limit = o->memory_bytes ? o->memory_bytes : loami_memory_share_bytes(), taken = e->info.weight_bytes + e->sub_info.scratch_bytes;
    if (e->disk) taken += loami_disk_memory(e->disk);
    const cache_plan p = plan_cache(e, kv);
    uint64_t left = limit > taken ? limit - taken : 0, page = e->sub_info.page_tokens, least = bytes_for(&p, p.room.each);
    uint64_t n = o->kv_bytes ? pages_in(&p, o->kv_bytes) : p.room.each * p.room.contexts;

    e->stat.limit_bytes = limit;
    if (!o->memory_bytes && left < least) left = least; /* the system's memory is its own affair */
    if (o->kv_bytes && n > pages_in(&p, left))
        return loami_fail(err, LOAM_E_NOMEM, "a KV cache of %.2f GB does not fit: weights and steps take %.2f GB, the memory limit is %.2f GB",
                          gb(o->kv_bytes), gb(taken), gb(limit));
    if (n > pages_in(&p, left)) n = pages_in(&p, left);
    if (n > UINT32_MAX / 2) n = UINT32_MAX / 2;
    if (n < p.room.each && !o->context_tokens && n * page >= CONTEXT_LEAST) e->info.context_tokens = (uint32_t)(n * page);
    else if (n < p.room.each)
        return loami_fail(err, LOAM_E_NOMEM,
                          "weights and steps take %.3f GB, a context of %u tokens takes %.3f GB more, and the %s %.3f GB: ask for a smaller "
                          "context, or for --kv-type int8", gb(taken), e->info.context_tokens, gb(least),
                          o->kv_bytes ? "KV cache may have" : "memory limit is", gb(o->kv_bytes ? o->kv_bytes : limit));
    kv->group[0].n_pages = (uint32_t)n;
    kv->group[1].n_pages = (uint32_t)loami_near_pages(&p.room, n);
    return 0;
}

static int open_pages(loam_engine *e, const loam_kv_config *kv, loam_err *err)
{
    uint64_t bytes = 0, kept = kv->group[0].n_pages;
    for (uint32_t g = 0; g < kv->n_groups; g++) bytes += e->machine.api->kv_page_bytes(e->machine.sub, kv, g);
    if (e->options.prefix_bytes && e->options.prefix_bytes / bytes < kept) kept = e->options.prefix_bytes / bytes;
    loami_pages_config c = { .n_pages = kv->group[0].n_pages, .page_tokens = e->sub_info.page_tokens, .kept_most = (uint32_t)kept };
    if (e->near_window) {
        c.n_near = kv->group[1].n_pages;
        c.window = e->near_window;
        c.n_spare = (e->sub_info.rows + c.page_tokens - 1) / c.page_tokens;
    }
    return loami_pages_open(&e->pages, &c, err);
}

static int open_cache(loam_engine *e, loam_err *err)
{
    const loam_substrate *api = e->machine.api;
    loam_kv_config kv;
    int rc = choose_context(e, err);
    if (rc == 0) rc = kv_config(e, &kv, err);
    if (rc == 0 && api->rehearse) rc = api->kv_open(e->machine.sub, &kv, &e->info.kv_bytes, err);
    if (rc == 0 && api->rehearse) rc = rehearse_all(e, err);
    if (rc == 0) rc = loami_tier_open(e, &kv, err);
    if (rc == 0) rc = choose_pages(e, &kv, err);
    if (rc == 0) rc = api->kv_open(e->machine.sub, &kv, &e->info.kv_bytes, err);
    return rc < 0 ? rc : open_pages(e, &kv, err);
}

static int open_step(loam_engine *e, loam_err *err)
{
    uint32_t vocab = e->model->config.vocab;
    e->running = loami_arena_array(&e->arena, e->max_running, sizeof *e->running);
    e->by_due = loami_arena_array(&e->arena, e->max_running, sizeof *e->by_due);
    e->row_tokens = loami_arena_array(&e->arena, e->sub_info.rows, sizeof *e->row_tokens);
    e->row_wanted = loami_arena_array(&e->arena, e->sub_info.rows, sizeof *e->row_wanted);
    e->row_seqs = loami_arena_array(&e->arena, e->max_running, sizeof *e->row_seqs);
    e->step_seqs = loami_arena_array(&e->arena, e->max_running, sizeof *e->step_seqs);
    e->picks = loami_arena_array(&e->arena, e->max_running, sizeof *e->picks);
    e->picked = loami_arena_array(&e->arena, e->max_running, sizeof *e->picked);
    e->scratch = loami_arena_array(&e->arena, vocab, sizeof *e->scratch);
    e->logits = loami_arena_array(&e->arena, vocab, sizeof *e->logits);
    bool ok = e->running && e->by_due && e->row_tokens && e->row_wanted && e->row_seqs && e->step_seqs && e->picks && e->picked && e->scratch &&
              e->logits;
    uint32_t ms = e->options.step_ms ? e->options.step_ms : STEP_MS_DEFAULT;
    e->pace.step_s = ms * 1e-3;
    return ok ? loami_shares_open(&e->shares, e->max_queued + e->max_running, err) : loami_fail_nomem(err);
}

/* ---- all of it ------------------------------------------------------------------------------------------ */

static void describe(loam_engine *e)
{
    const loami_model *m = e->model;
    const char *slash = strrchr(e->options.model, '/');
    e->info.path = e->options.model;
    e->info.name = e->options.name ? e->options.name : slash && slash[1] ? slash + 1 : e->options.model;
    e->info.family = m->config.family;
    e->info.substrate = e->machine.api->name;
    e->info.device = e->sub_info.device;
    e->info.threads = e->sub_info.threads;
    e->info.vocab_tokens = m->config.vocab;
    e->info.embed_dims = m->config.dim;
    e->info.quant_mode = loami_quant_name(m->config.quant.mode);
    e->info.quant_bits = m->config.quant.bits;
    e->info.quant_group = m->config.quant.group;
    e->info.parameters = m->parameters;
    e->info.weight_bytes = m->weight_bytes;
    e->info.active_bytes = m->active_bytes;
}

int loami_engine_load(loam_engine *e, loam_err *err)
{
    const loam_options *o = &e->options;
    loam_sub_options so = { .threads = o->threads, .exact = o->exact };
    int rc = loami_substrate_find(&e->machine.api, o->substrate, err);
    if (rc == 0) rc = e->machine.api->open(&e->machine.sub, &so, err);
    if (rc < 0) return rc;
    e->machine.api->info(e->machine.sub, &e->sub_info);
    if (o->batch_invariant && !e->sub_info.steady)
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: its results depend on what is computed together: --batch-invariant is not offered there",
                          e->machine.api->name);
    e->max_running = o->max_running ? o->max_running : RUNNING_DEFAULT;
    if (e->max_running > RUNNING_MAX) return loami_fail(err, LOAM_E_ARG, "%u requests at once: at most %d", e->max_running, RUNNING_MAX);
    rc = loami_model_open(&e->model, o->model, e->machine, err);
    if (rc == 0) describe(e);
    if (rc == 0) rc = open_step(e, err);
    if (rc == 0) rc = open_cache(e, err);
    if (rc == 0) rc = open_text(e, err);
    if (rc == 0) rc = loami_embed_pooling(&e->pooling, o->model, err);
    return rc;
}
