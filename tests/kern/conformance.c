#include "kern/conformance_world.h"
#include "substrate/registry.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void keep(side *d, loam_tensor t)
{
    uint32_t rows = 0, cols = 0;
    if (!good(d)) return;
    const float *p = d->f->read(d->s, t, &rows, &cols);
    float *out = realloc(d->out, (d->n_out + (size_t)rows * cols + 1) * sizeof *out);
    if (!out || !p) {
        d->rc = LOAM_E_MACHINE;
        snprintf(d->err.msg, sizeof d->err.msg, "read gave nothing");
        if (out) d->out = out;
        return;
    }
    memcpy(out + d->n_out, p, (size_t)rows * cols * sizeof *out);
    d->out = out;
    d->n_out += (size_t)rows * cols;
}

/* One step of one sequence without attention: rows tokens from 0. */
static loam_batch plain_batch(uint32_t rows, int32_t *tokens, loam_seq_rows *seq, uint32_t *wanted, uint32_t vocab)
{
    for (uint32_t i = 0; i < rows; i++) {
        tokens[i] = (int32_t)(i % vocab);
        wanted[i] = i;
    }
    *seq = (loam_seq_rows){ .n_rows = rows };
    return (loam_batch){ .n_rows = rows, .tokens = tokens, .n_seqs = 1, .seqs = seq, .n_wanted = rows, .wanted = wanted };
}

/* Pages of each sequence in an order of their own: all that its tokens need, or as many as a window and a step do, over and over. */
static void deal_pages(side *d, const world *w, uint32_t group)
{
    uint32_t page = d->page_tokens, each = (w->max_tokens + page - 1) / page, n = d->kv.group[group].n_pages, own = n / w->n_seqs;
    uint32_t *all = malloc(n * sizeof *all);
    rnd r = { w->page_seed + page + group };
    for (uint32_t i = 0; i < n; i++) all[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = rnd_below(&r, i), t = all[i - 1];
        all[i - 1] = all[j];
        all[j] = t;
    }
    for (uint32_t i = 0; i < w->n_seqs; i++) {
        d->pages[group][i] = malloc(each * sizeof *all);
        for (uint32_t p = 0; p < each; p++) d->pages[group][i][p] = all[i * own + p % own];
    }
    free(all);
}

static int open_side(side *d, const world *w, const loam_substrate *f, const loam_sub_options *options)
{
    loam_sub_info info;
    uint64_t bytes;
    *d = (side){ .f = f };
    if ((d->rc = f->open(&d->s, options, &d->err)) < 0) return d->rc;
    f->info(d->s, &info);
    d->page_tokens = info.page_tokens;
    for (uint32_t i = 0; i < w->n_w; i++)
        if ((d->rc = f->weight(d->s, &d->w[i], w->w[i].part, w->w[i].n_parts, &d->err)) < 0) return d->rc;
    if (!w->kv.n_layers) return 0;
    uint32_t page = d->page_tokens;
    d->kv = w->kv;
    if (!d->kv.n_groups) d->kv.n_groups = 1;
    for (uint32_t g = 0; g < d->kv.n_groups; g++) {
        uint32_t window = d->kv.group[g].window, tokens = window ? window + w->max_rows + 2 * page : w->max_tokens;
        d->kv.group[g].n_pages = (tokens < w->max_tokens ? tokens + page - 1 : w->max_tokens + page - 1) / page * w->n_seqs;
    }
    if ((d->rc = f->kv_open(d->s, &d->kv, &bytes, &d->err)) < 0) return d->rc;
    for (uint32_t g = 0; g < d->kv.n_groups; g++) deal_pages(d, w, g);
    return 0;
}

static void close_side(side *d)
{
    if (d->s) d->f->close(d->s);
    for (uint32_t i = 0; i < LOAM_KV_GROUPS * MAX_SEQS; i++) free(d->pages[i / MAX_SEQS][i % MAX_SEQS]);
    free(d->out);
}

/* Compares, reports, counts. */
static void judge(conformance *c, const world *w, const side *want, const side *got)
{
    double diff = 0, norm = 0;
    size_t odd = 0;
    c->run++;
    if (want->rc < 0 || got->rc < 0) {
        if (got->rc == LOAM_E_UNSUPPORTED || want->rc == LOAM_E_UNSUPPORTED) {
            c->refused++;
            return;
        }
        c->failed++;
        fprintf(stderr, "%s %s: %s\n", c->sub->name, w->name, got->rc < 0 ? got->err.msg : want->err.msg);
        return;
    }
    for (size_t i = 0; i < want->n_out && i < got->n_out; i++) {
        double a = want->out[i], b = got->out[i];
        if (!isfinite(a)) continue;
        odd += !isfinite(b);
        diff += (a - b) * (a - b);
        norm += a * a;
    }
    double error = norm > 0 ? sqrt(diff / norm) : sqrt(diff), limit = c->tolerance * (w->slack > 0 ? w->slack : 1);
    if (c->verbose) fprintf(stderr, "%-90s %.2e\n", w->name, error);
    if (error / limit > c->worst && !w->lenient) {
        c->worst = error / limit;
        snprintf(c->worst_name, sizeof c->worst_name, "%s", w->name);
    }
    if (want->n_out == got->n_out && !odd && (w->lenient || error <= limit)) return;
    c->failed++;
    fprintf(stderr, "%s %s: error %.3g over %.3g, %zu not finite, %zu of %zu numbers\n", c->sub->name, w->name, error, limit, odd, got->n_out,
            want->n_out);
}

void free_weights(world *w)
{
    for (uint32_t i = 0; i < w->n_w; i++)
        for (uint32_t p = 0; p < w->w[i].n_parts; p++) random_matrix_free(&w->w[i].part[p]);
}

void compare(conformance *c, world *w, steps_fn *steps)
{
    side want, got;
    if (!c->only || strstr(w->name, c->only)) {
        world twin = *w;       /* keeps everything */
        twin.kv.n_groups = 1;
        twin.kv.group_of = NULL;
        twin.kv.group[0].window = 0;
        if (w->whole_twin) twin.kv.type = LOAM_KV_FULL;
        open_side(&want, &twin, &loami_reference, &(loam_sub_options){ .threads = 0 });
        if (good(&want)) steps(w, &want);
        open_side(&got, w, c->sub, &c->options);
        if (good(&got)) steps(w, &got);
        judge(c, w, &want, &got);
        close_side(&want);
        close_side(&got);
    }
    free_weights(w);
}

uint32_t add_weight(world *w, const matrix_kind *k, uint32_t experts, uint32_t rows, uint32_t cols, bool bias)
{
    weight_plan *p = &w->w[w->n_w];
    random_matrix(&w->r, &p->part[0], k, experts, rows, cols, bias);
    p->n_parts = 1;
    return w->n_w++;
}

void add_part(world *w, uint32_t weight, const matrix_kind *k, uint32_t experts, uint32_t rows, uint32_t cols, bool bias)
{
    weight_plan *p = &w->w[weight];
    random_matrix(&w->r, &p->part[p->n_parts++], k, experts, rows, cols, bias);
}

const matrix_kind plain_f32 = { .quant = LOAM_Q_NONE, .type = LOAM_F32, .spread = 1 };

world table_world(const conformance *c, uint32_t vocab, uint32_t dim)
{
    world w = { .r = { c->seed }, .vocab = vocab, .dim = dim };
    add_weight(&w, &plain_f32, 1, vocab, dim, false);
    return w;
}

static void same_bits(conformance *c, const world *w, const side *a, size_t at, const side *b, size_t n)
{
    c->run++;
    bool same = good(a) && good(b) && a->n_out >= at && b->n_out >= n &&
                memcmp(a->out + a->n_out - at, b->out + b->n_out - n, n * sizeof *a->out) == 0;
    if (same) return;
    c->failed++;
    fprintf(stderr, "%s %s: other bits in other company\n", c->sub->name, w->name);
}

void open_and_run(side *d, conformance *c, world *w, steps_fn *steps)
{
    if (open_side(d, w, c->sub, &c->options) == 0) steps(w, d);
}

void compare_bits(conformance *c, world *w, side *a, size_t at, side *b, size_t n)
{
    if (a->rc == LOAM_E_UNSUPPORTED) c->refused++;
    else same_bits(c, w, a, at, b, n);
    close_side(a);
    close_side(b);
    free_weights(w);
}

/* ---- one operation ------------------------------------------------------------------------------------------------ */

typedef struct one {
    world w;
    uint32_t rows;
    enum { EMBED, NORM, LINEAR, GLU, ADD, CAP, GATHER, NORM_LINEAR, LINEAR_ADD, MOE } op;
    loam_norm norm;
    bool weighted;
    loam_act act;
    float scale, cap;
    loam_moe moe;
    bool steady;
} one;

static loam_tensor build(const one *o, side *d, loam_tensor x)
{
    loam_sub *s = d->s;
    loam_norm *norm = (loam_norm *)&o->norm;
    loam_moe *moe = (loam_moe *)&o->moe;
    norm->weight = o->weighted ? d->w[1] : NULL;
    switch (o->op) {
    case EMBED: return d->f->embed(s, d->w[1], o->scale);
    case NORM: return d->f->norm(s, x, &o->norm);
    case LINEAR: return d->f->linear(s, x, d->w[1]);
    case GLU: return d->f->glu(s, x, d->w[1], o->act);
    case ADD: return d->f->add(s, x, d->f->cap(s, x, 0.25f, 0), o->scale);
    case CAP: return d->f->cap(s, x, o->scale, o->cap);
    case GATHER: return d->f->gather(s, x);
    case NORM_LINEAR: return d->f->linear(s, d->f->norm(s, x, &o->norm), d->w[2]);
    case LINEAR_ADD: return d->f->add(s, x, d->f->linear(s, x, d->w[1]), o->scale);
    case MOE:
        moe->router = d->w[1];
        moe->gate_up = d->w[2];
        moe->down = d->w[3];
        return d->f->moe(s, x, moe);
    }
    return LOAM_NO_TENSOR;
}

static void run_one(world *w, side *d)
{
    one *o = (one *)w;
    int32_t tokens[64];
    uint32_t wanted[64];
    loam_seq_rows seq;
    loam_batch b = plain_batch(o->rows, tokens, &seq, wanted, w->vocab);
    if (o->op == GATHER)
        for (b.n_wanted = 0; 2 * b.n_wanted + 1 < o->rows; b.n_wanted++) wanted[b.n_wanted] = 2 * b.n_wanted + 1;
    b.steady = o->steady;
    d->f->begin(d->s, &b);
    loam_tensor x = d->f->embed(d->s, d->w[0], 1);
    loam_tensor y = build(o, d, x);
    d->rc = d->f->end(d->s, &d->err);
    keep(d, y);
}

static const uint32_t some_rows[] = { 1, 2, 3, 4, 5, 7, 8, 13, 16, 33 };
enum { N_ROWS = sizeof some_rows / sizeof some_rows[0] };

static void linear_cases(conformance *c)
{
    static const uint32_t shapes[][2] = { { 1, 128 }, { 33, 256 }, { 96, 640 }, { 70, 1408 }, { 17, 2304 } };
    for (uint32_t k = 0; k < n_matrix_kinds; k++) {
        for (uint32_t i = 0; i < N_ROWS; i++) {
            const uint32_t *shape = shapes[(k + i) % 5];
            one o = { .w = table_world(c, 33, shape[1]), .rows = some_rows[i], .op = LINEAR };
            uint32_t w = add_weight(&o.w, &matrix_kinds[k], 1, shape[0], shape[1], i % 2);
            if (i % 3 == 0) add_part(&o.w, w, &matrix_kinds[(k + 1) % n_matrix_kinds], 1, 24, shape[1], false);
            if (i % 3 == 0) add_part(&o.w, w, &matrix_kinds[(k + 5) % n_matrix_kinds], 1, 7, shape[1], true);
            snprintf(o.w.name, sizeof o.w.name, "linear %s %ux%u, %u rows, %u parts", matrix_kinds[k].name, shape[0], shape[1], o.rows,
                     o.w.w[w].n_parts);
            compare(c, &o.w, run_one);
        }
    }
}

/* cols that are a multiple of 32 only. */
static void odd_cases(conformance *c)
{
    static const uint32_t cols[] = { 32, 96, 160, 288, 576, 1056, 1120 };
    for (uint32_t k = 0; k < n_matrix_kinds; k++) {
        if (matrix_kinds[k].group > 32) continue;
        for (uint32_t i = 0; i < 7; i++) {
            one o = { .w = table_world(c, 9, cols[i]), .rows = i % 2 ? 1 : 6, .op = LINEAR };
            add_weight(&o.w, &matrix_kinds[k], 1, 5 + 31 * (i % 3), cols[i], false);
            snprintf(o.w.name, sizeof o.w.name, "linear %s of %u inputs, %u rows", matrix_kinds[k].name, cols[i], o.rows);
            compare(c, &o.w, run_one);
        }
    }
}

static void glu_cases(conformance *c)
{
    for (uint32_t act = 0; act < 4; act++) {
        for (uint32_t i = 0; i < N_ROWS; i++) {
            const matrix_kind *k = &matrix_kinds[(act + 3 * i) % n_matrix_kinds];
            one o = { .w = table_world(c, 33, 256), .rows = some_rows[i], .op = GLU, .act = (loam_act)act };
            uint32_t w = add_weight(&o.w, k, 1, i % 2 ? 2 * 72 : 72, 256, i % 4 == 1);
            if (i % 2 == 0) add_part(&o.w, w, &matrix_kinds[i % n_matrix_kinds], 1, 72, 256, false);
            o.w.slack = 2;
            snprintf(o.w.name, sizeof o.w.name, "glu %u %s, %u rows", act, k->name, o.rows);
            compare(c, &o.w, run_one);
        }
    }
}

static void row_cases(conformance *c)
{
    static const uint32_t dims[] = { 32, 33, 64, 100, 576, 1536 };
    for (uint32_t i = 0; i < 6 * 4; i++) {
        uint32_t dim = dims[i % 6], rows = some_rows[i % N_ROWS];
        one o = { .w = table_world(c, 40, dim), .rows = rows, .op = NORM, .weighted = i % 4 != 3 };
        o.norm = (loam_norm){ .kind = i % 2 ? LOAM_NORM_LAYER : LOAM_NORM_RMS, .eps = 1e-5f, .offset = i % 3 ? 0 : 1 };
        add_weight(&o.w, &matrix_kinds[i % 3], 1, 1, dim, false);
        if (i % 4 == 1) random_bias(&o.w.r, &o.w.w[1].part[0], dim);
        snprintf(o.w.name, sizeof o.w.name, "norm kind %u of %u, %u rows", o.norm.kind, dim, rows);
        compare(c, &o.w, run_one);
        if (dim % 64) continue;
        o = (one){ .w = table_world(c, 40, dim), .rows = rows, .op = NORM_LINEAR, .weighted = true, .norm = o.norm };
        add_weight(&o.w, &plain_f32, 1, 1, dim, false);
        add_weight(&o.w, &matrix_kinds[3], 1, 40, dim, false);
        snprintf(o.w.name, sizeof o.w.name, "norm, linear of %u, %u rows", dim, rows);
        o.w.slack = 2;
        compare(c, &o.w, run_one);
    }
    for (uint32_t i = 0; i < N_ROWS; i++) {
        one o = { .w = table_world(c, 40, 256), .rows = some_rows[i], .op = i % 2 ? ADD : CAP, .scale = 0.5f, .cap = i % 4 ? 30 : 0 };
        snprintf(o.w.name, sizeof o.w.name, "%s, %u rows", i % 2 ? "add" : "cap", o.rows);
        compare(c, &o.w, run_one);
        o = (one){ .w = table_world(c, 40, 256), .rows = some_rows[i], .op = LINEAR_ADD, .scale = 1.5f };
        add_weight(&o.w, &matrix_kinds[3], 1, 256, 256, false);
        snprintf(o.w.name, sizeof o.w.name, "linear, add, %u rows", o.rows);
        compare(c, &o.w, run_one);
        if (o.rows < 2) continue;
        o = (one){ .w = table_world(c, 40, 96), .rows = some_rows[i], .op = GATHER };
        snprintf(o.w.name, sizeof o.w.name, "gather, %u rows", o.rows);
        compare(c, &o.w, run_one);
    }
    for (uint32_t k = 0; k < n_matrix_kinds; k++) {
        one o = { .w = table_world(c, 20, 256), .rows = 9, .op = EMBED, .scale = k % 2 ? 16 : 1 };
        add_weight(&o.w, &matrix_kinds[k], 1, 20, 256, false);
        snprintf(o.w.name, sizeof o.w.name, "embed %s", matrix_kinds[k].name);
        compare(c, &o.w, run_one);
    }
}

static void moe_cases(conformance *c)
{
    for (uint32_t i = 0; i < N_ROWS * 2; i++) {
        const matrix_kind *k = &matrix_kinds[(5 * i) % n_matrix_kinds];
        uint32_t experts = i % 2 ? 8 : 5, dim = 256, ffn = 128;
        one o = { .w = table_world(c, 40, dim), .rows = some_rows[i % N_ROWS], .op = MOE };
        o.moe = (loam_moe){ .top_k = 1 + i % 4, .how = i % 3 ? LOAM_ROUTE_SOFTMAX_TOPK : LOAM_ROUTE_TOPK_SOFTMAX, .renormalise = i % 2,
                            .act = i % 4 == 3 ? LOAM_ACT_SWIGLU_OAI : LOAM_ACT_SILU };
        add_weight(&o.w, &plain_f32, 1, experts, dim, i % 4 == 3); /* plain: a coarser router may choose otherwise */
        uint32_t w = add_weight(&o.w, k, experts, ffn, dim, i % 5 == 0);
        add_part(&o.w, w, k, experts, ffn, dim, false);
        add_weight(&o.w, k, experts, dim, ffn, i % 5 == 1);
        o.w.slack = 3;
        snprintf(o.w.name, sizeof o.w.name, "moe %s, %u of %u, %u rows", k->name, o.moe.top_k, experts, o.rows);
        compare(c, &o.w, run_one);
    }
}

/* Numbers that break arithmetic: nothing may crash, and what is finite in the reference must be so here. */
static void extreme_cases(conformance *c)
{
    static const float spreads[] = { 0, 1e-42f, 1e-30f, 1e-8f, 1e8f, 1e15f };
    for (uint32_t i = 0; i < 6 * n_matrix_kinds; i++) {
        matrix_kind table = plain_f32, k = matrix_kinds[i / 6];
        table.spread = spreads[i % 6];
        k.spread = k.type == LOAM_F16 || k.quant != LOAM_Q_AFFINE ? 1 : spreads[(i + 3) % 6];
        one o = { .w = { .r = { c->seed }, .vocab = 9, .dim = 256, .lenient = true }, .rows = i % 2 ? 1 : 5, .op = LINEAR };
        add_weight(&o.w, &table, 1, 9, 256, false);
        add_weight(&o.w, &k, 1, 40, 256, false);
        snprintf(o.w.name, sizeof o.w.name, "extreme %g linear %s", spreads[i % 6], k.name);
        compare(c, &o.w, run_one);
    }
}

static void steady_experts(conformance *c)
{
    for (uint32_t i = 0; i < n_matrix_kinds; i++) {
        const matrix_kind *k = &matrix_kinds[i];
        one o = { .w = table_world(c, 40, 256), .op = MOE, .steady = true };
        side many, first;
        o.moe = (loam_moe){ .top_k = 1 + i % 4, .how = LOAM_ROUTE_SOFTMAX_TOPK, .renormalise = i % 2, .act = LOAM_ACT_SILU };
        add_weight(&o.w, &plain_f32, 1, 8, 256, false);
        uint32_t w = add_weight(&o.w, k, 8, 128, 256, i % 5 == 0);
        add_part(&o.w, w, k, 8, 128, 256, false);
        add_weight(&o.w, k, 8, 256, 128, false);
        snprintf(o.w.name, sizeof o.w.name, "steady moe %s, %u of 8", k->name, o.moe.top_k);
        o.rows = 29;
        open_and_run(&many, c, &o.w, run_one);
        o.rows = 1;
        open_and_run(&first, c, &o.w, run_one);
        compare_bits(c, &o.w, &many, many.n_out, &first, first.n_out);
    }
}

static bool is_steady(const conformance *c)
{
    loam_sub *s = NULL;
    loam_sub_info info = { .page_tokens = 0 };
    if (c->sub->open(&s, &c->options, NULL) < 0) return false;
    c->sub->info(s, &info);
    c->sub->close(s);
    return info.steady && !c->only;
}

unsigned conformance_run(conformance *c)
{
    c->run = c->refused = c->failed = 0;
    c->worst = 0;
    row_cases(c);
    linear_cases(c);
    odd_cases(c);
    glu_cases(c);
    moe_cases(c);
    extreme_cases(c);
    attend_cases(c);
    model_cases(c);
    pick_cases(c);
    if (is_steady(c)) {
        steady_models(c);
        steady_groups(c);
        steady_experts(c);
    }
    return c->failed;
}
