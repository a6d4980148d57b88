/* Speed of a substrate on a model's geometry with random weights: no files, no engine. Prefill, decode, decode of
 * several streams, at any context length.
 *
 *     make build/bench/geometry && build/bench/geometry -g qwen2.5-1.5b -p 512 -n 64 */
#include "base/clock.h"
#include "base/half.h"
#include "substrate/dequant.h"
#include "substrate/registry.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct geometry {
    const char *name;
    uint32_t dim, layers, n_q, n_kv, head_dim, ffn, vocab, bits, group, head_bits, head_group;
} geometry;

static const geometry geometries[] = {
    { "smollm2-135m", 576, 30, 9, 3, 64, 1536, 49152, 4, 32, 8, 32 },
    { "qwen2.5-0.5b", 896, 24, 14, 2, 64, 4864, 151936, 4, 64, 4, 64 },
    { "qwen2.5-1.5b", 1536, 28, 12, 2, 128, 8960, 151936, 4, 64, 4, 64 },
    { "llama3.2-1b", 2048, 16, 32, 8, 64, 8192, 128256, 4, 64, 4, 64 },
    { "tiny", 256, 2, 4, 2, 64, 512, 1024, 4, 64, 4, 64 },
};

typedef struct layer {
    loam_weight *norm1, *qkv, *o, *norm2, *up, *down;
    loam_norm n1, n2;
} layer;

typedef struct model {
    geometry g;
    const loam_substrate *f;
    loam_sub *s;
    loam_weight *embed, *norm;
    loam_norm n;
    layer *layer;
    loam_rope rope;
    loam_heads heads;
    loam_attn attn;
    uint64_t weight_bytes;      /* read for one token */
    uint32_t page_tokens;
} model;

static uint64_t state = 88172645463325252ull;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void die(const char *what)
{
    fprintf(stderr, "geometry: %s\n", what);
    exit(1);
}

static void *bytes(size_t n)
{
    void *p = NULL;
    if (posix_memalign(&p, 4096, n + 4096) != 0) die("out of memory");
    return p;
}

/* Memory is never freed: it is the model's, for the life of the program. */
static loam_matrix matrix(model *m, uint32_t rows, uint32_t cols, uint32_t bits, uint32_t group)
{
    loam_matrix x = { .name = "w", .n_experts = 1, .rows = rows, .cols = cols, .quant = LOAM_Q_AFFINE, .bits = bits, .group = group, .type = LOAM_F16 };
    size_t n = rows * loami_row_bytes(&x), groups = (size_t)rows * (cols / group);
    uint64_t *data = bytes(n);
    uint16_t *scales = bytes(groups * 2), *biases = bytes(groups * 2);
    for (size_t i = 0; i < n / 8 + 1; i++) data[i] = next();
    float size = 1 / sqrtf((float)cols), top = (float)((1 << bits) - 1);
    for (size_t i = 0; i < groups; i++) {
        float scale = size * (0.5f + (float)(next() % 1000) / 1000) * 4 / top;
        scales[i] = loami_to_f16(scale);
        biases[i] = loami_to_f16(-scale * top / 2);
    }
    x.data = data;
    x.scales = scales;
    x.biases = biases;
    m->weight_bytes += n + 4 * groups;
    return x;
}

static loam_weight *weight(model *m, const loam_matrix *parts, uint32_t n)
{
    loam_weight *w;
    loam_err err;
    if (m->f->weight(m->s, &w, parts, n, &err) < 0) die(err.msg);
    return w;
}

static loam_weight *vector(model *m, uint32_t n)
{
    uint16_t *data = bytes(2 * n);
    for (uint32_t i = 0; i < n; i++) data[i] = loami_to_bf16(1);
    return weight(m, &(loam_matrix){ .name = "norm", .n_experts = 1, .rows = 1, .cols = n, .type = LOAM_BF16, .data = data }, 1);
}

static void load(model *m)
{
    const geometry *g = &m->g;
    uint32_t nq = g->n_q * g->head_dim, nkv = g->n_kv * g->head_dim;
    loam_matrix table = matrix(m, g->vocab, g->dim, g->head_bits, g->head_group);
    float *inv = bytes(g->head_dim * sizeof *inv);
    for (uint32_t i = 0; i < g->head_dim / 2; i++) inv[i] = powf(10000, -2.0f * (float)i / (float)g->head_dim);
    m->rope = (loam_rope){ .dims = g->head_dim, .inv_freq = inv, .scale = 1 };
    m->heads = (loam_heads){ .n_q = g->n_q, .n_kv = g->n_kv, .head_dim = g->head_dim, .rope = &m->rope };
    m->attn = (loam_attn){ .scale = 1 / sqrtf((float)g->head_dim) };
    m->embed = weight(m, &table, 1);
    m->norm = vector(m, g->dim);
    m->n = (loam_norm){ .weight = m->norm, .eps = 1e-5f };
    m->layer = calloc(g->layers, sizeof *m->layer);
    for (uint32_t i = 0; i < g->layers; i++) {
        layer *l = &m->layer[i];
        loam_matrix qkv[3] = { matrix(m, nq, g->dim, g->bits, g->group), matrix(m, nkv, g->dim, g->bits, g->group),
                               matrix(m, nkv, g->dim, g->bits, g->group) };
        loam_matrix up[2] = { matrix(m, g->ffn, g->dim, g->bits, g->group), matrix(m, g->ffn, g->dim, g->bits, g->group) };
        loam_matrix o = matrix(m, g->dim, nq, g->bits, g->group), down = matrix(m, g->dim, g->ffn, g->bits, g->group);
        l->norm1 = vector(m, g->dim);
        l->norm2 = vector(m, g->dim);
        l->qkv = weight(m, qkv, 3);
        l->o = weight(m, &o, 1);
        l->up = weight(m, up, 2);
        l->down = weight(m, &down, 1);
        l->n1 = (loam_norm){ .weight = l->norm1, .eps = 1e-5f };
        l->n2 = (loam_norm){ .weight = l->norm2, .eps = 1e-5f };
    }
}

static void step(model *m, const loam_batch *b)
{
    const loam_substrate *f = m->f;
    loam_sub *s = m->s;
    loam_err err;
    f->begin(s, b);
    loam_tensor x = f->embed(s, m->embed, 1);
    for (uint32_t i = 0; i < m->g.layers; i++) {
        layer *l = &m->layer[i];
        loam_tensor q = f->store(s, f->linear(s, f->norm(s, x, &l->n1), l->qkv), i, &m->heads);
        x = f->add(s, x, f->linear(s, f->attend(s, q, i, &m->heads, &m->attn), l->o), 1);
        x = f->add(s, x, f->linear(s, f->glu(s, f->norm(s, x, &l->n2), l->up, LOAM_ACT_SILU), l->down), 1);
    }
    x = f->linear(s, f->norm(s, f->gather(s, x), &m->n), m->embed);
    if (f->end(s, &err) < 0) die(err.msg);
    volatile float use = f->read(s, x, NULL, NULL)[0];
    (void)use;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *t, uint32_t n)
{
    qsort(t, n, sizeof *t, by_value);
    return t[n / 2];
}

static double cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Seconds of a step of `streams` sequences with `rows` new tokens each after `past`. */
static double time_step(model *m, uint32_t streams, uint32_t rows, uint32_t past, uint32_t batch_max, uint32_t pages)
{
    loam_seq_rows *seqs = calloc(streams, sizeof *seqs);
    uint32_t *page = calloc((size_t)streams * pages, sizeof *page), *wanted = calloc(streams, sizeof *wanted);
    int32_t *tokens = calloc((size_t)streams * rows, sizeof *tokens);
    double total = 0;
    for (uint32_t i = 0; i < streams * rows; i++) tokens[i] = (int32_t)(next() % m->g.vocab);
    for (uint32_t i = 0; i < streams * pages; i++) page[i] = i;
    for (uint32_t at = 0; at < rows; at += batch_max) {
        uint32_t n = rows - at < batch_max ? rows - at : batch_max;
        for (uint32_t i = 0; i < streams; i++) {
            seqs[i] = (loam_seq_rows){ i * n, n, past + at, { page + (size_t)i * pages } };
            wanted[i] = i * n + n - 1;
        }
        loam_batch b = { streams * n, tokens, streams, seqs, at + n == rows ? streams : 0, wanted };
        if (!b.n_wanted) b.n_wanted = 1;
        double t = loami_now_s();
        step(m, &b);
        total += loami_now_s() - t;
    }
    free(seqs);
    free(page);
    free(wanted);
    free(tokens);
    return total;
}

static void measure(model *m, const char *what, uint32_t streams, uint32_t rows, uint32_t past, uint32_t batch, uint32_t pages, uint32_t reps)
{
    double t[1000], cpu[1000];
    if (reps > 1000) reps = 1000;
    time_step(m, streams, rows, past, batch, pages);
    for (uint32_t i = 0; i < reps; i++) {
        cpu[i] = cpu_now();
        t[i] = time_step(m, streams, rows, past, batch, pages);
        cpu[i] = cpu_now() - cpu[i];
    }
    double cpu_mid = median(cpu, reps), mid = median(t, reps), gb = (double)m->weight_bytes / mid * 1e-9;
    printf("%-14s %-8s %2u x %5u rows at %5u: %9.1f tok/s  %8.3f ms (best %.3f, cpu %.3f)", m->g.name, what, streams, rows, past, streams * rows / mid, mid * 1e3, t[0] * 1e3, cpu_mid * 1e3);
    if (rows == 1) printf("  %.1f GB/s of weights", gb);
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const char *name = "smollm2-135m", *sub = "cpu";
    uint32_t prefill = 512, decode = 64, streams = 1, past = 0, threads = 0, batch = 512, reps = 5;
    bool exact = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--exact")) exact = true;
        else if (i + 1 == argc) die("usage: geometry [-g NAME] [-p PREFILL] [-n DECODE STEPS] [-s STREAMS] [-d PAST] [-t THREADS] [-b BATCH] [-r REPS] [--sub NAME] [--exact]");
        else if (!strcmp(argv[i], "-g")) name = argv[++i];
        else if (!strcmp(argv[i], "--sub")) sub = argv[++i];
        else if (!strcmp(argv[i], "-p")) prefill = (uint32_t)atoi(argv[++i]);
        else if (!strcmp(argv[i], "-n")) decode = (uint32_t)atoi(argv[++i]);
        else if (!strcmp(argv[i], "-s")) streams = (uint32_t)atoi(argv[++i]);
        else if (!strcmp(argv[i], "-d")) past = (uint32_t)atoi(argv[++i]);
        else if (!strcmp(argv[i], "-t")) threads = (uint32_t)atoi(argv[++i]);
        else if (!strcmp(argv[i], "-b")) batch = (uint32_t)atoi(argv[++i]);
        else if (!strcmp(argv[i], "-r")) reps = (uint32_t)atoi(argv[++i]);
        else die("unknown option");
    }
    model m = { 0 };
    loam_err err;
    loam_sub_info info;
    uint64_t kv_bytes;
    for (size_t i = 0; i < sizeof geometries / sizeof geometries[0]; i++)
        if (!strcmp(geometries[i].name, name)) m.g = geometries[i];
    if (!m.g.dim) die("no such geometry");
    if (loami_substrate_find(&m.f, sub, &err) < 0 || m.f->open(&m.s, &(loam_sub_options){ .threads = threads, .exact = exact }, &err) < 0)
        die(err.msg);
    load(&m);
    m.f->info(m.s, &info);
    uint32_t tokens = past + (prefill > 1 ? prefill : 1), pages = (tokens + info.page_tokens) / info.page_tokens;
    loam_kv_config kv = { .n_layers = m.g.layers, .n_kv = m.g.n_kv, .head_dim = m.g.head_dim, .n_groups = 1, .group = { { .n_pages = pages * streams } } };
    if (m.f->kv_open(m.s, &kv, &kv_bytes, &err) < 0) die(err.msg);
    printf("%s, %u threads, weights %.3f GB\n", info.device, info.threads, (double)m.weight_bytes * 1e-9);
    if (prefill) measure(&m, "prefill", 1, prefill, past, batch, pages, reps);
    if (decode) measure(&m, "decode", streams, 1, past, batch, pages, decode);
    m.f->close(m.s);
    return 0;
}
