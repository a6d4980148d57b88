/* A roofline line for every kernel, on one thread: what it must read and multiply, what it takes, and which limit of
 * the machine (bandwidth and peaks measured here, in this run) it comes near. Each time is the best of many short
 * runs, so that a busy machine disturbs little.
 *
 *     make build/bench/kernels && build/bench/kernels [avx512|avx2|neon|scalar] [ONLY] */
#include "base/clock.h"
#include "base/half.h"
#include "substrate/cpu/kern.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BIG = 512 << 20, PIECE = 8 << 20, RUNS = 60 };

static const char *only;
static double read_gbs, int8_gops, f32_gops;

static void *memory(size_t n)
{
    void *p = NULL;
    if (posix_memalign(&p, 4096, n + 4096) != 0) exit(1);
    memset(p, 1, n + 4096);
    return p;
}

static uint64_t next(void)
{
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void floats(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)(next() % 2001) / 1000 - 1;
}

typedef void work_fn(void *arg);

/* Best seconds of one call; each run is at least a tenth of a millisecond. */
static double best(work_fn *work, void *arg)
{
    double t0 = loami_now_s(), low = 1e9;
    work(arg);
    double once = loami_now_s() - t0;
    unsigned n = once > 1e-4 ? 1 : (unsigned)(1e-4 / (once + 1e-9)) + 1;
    for (int r = 0; r < RUNS; r++) {
        t0 = loami_now_s();
        for (unsigned i = 0; i < n; i++) work(arg);
        double t = (loami_now_s() - t0) / n;
        if (t < low) low = t;
    }
    return low;
}

/* ---- limits ------------------------------------------------------------------------------------------------------ */

static char *big;

static void read_piece(void *arg)
{
    (void)arg;
    uint64_t sum[8] = { 0 };
    static size_t at;
    const uint64_t *p = (uint64_t *)(big + at);
    for (size_t i = 0; i < PIECE / 8; i += 8)
        for (int j = 0; j < 8; j++) sum[j] ^= p[i + j];
    at = (at + PIECE) % BIG;
    volatile uint64_t use = sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
    (void)use;
}

#if defined(__x86_64__)
/* 16 chains of INSTRUCTION in named registers: the compiler has no say. */
#define CHAIN(op, n) #op " %%zmm31,%%zmm31,%%zmm" #n "\n"
#define SIXTEEN(op)                                                                                                      \
    CHAIN(op, 0) CHAIN(op, 1) CHAIN(op, 2) CHAIN(op, 3) CHAIN(op, 4) CHAIN(op, 5) CHAIN(op, 6) CHAIN(op, 7)              \
    CHAIN(op, 8) CHAIN(op, 9) CHAIN(op, 10) CHAIN(op, 11) CHAIN(op, 12) CHAIN(op, 13) CHAIN(op, 14) CHAIN(op, 15)
#define PEAK(name, op)                                                                                                   \
    __attribute__((target("avx512f"))) static void name(void *arg)                                                       \
    {                                                                                                                    \
        (void)arg;                                                                                                       \
        for (int k = 0; k < 6250; k++)                                                                                   \
            __asm__ volatile(SIXTEEN(op)::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",      \
                             "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                              \
    }
PEAK(int8_512, vpdpbusd)
PEAK(fma_512, vfmadd231ps)

static void peaks(const char *level)
{
    if (strcmp(level, "avx512") != 0) return;
    int8_gops = 100000 * 128 / best(int8_512, NULL) * 1e-9;
    f32_gops = 100000 * 32 / best(fma_512, NULL) * 1e-9;
}
#else
static void peaks(const char *level)
{
    (void)level;
}
#endif

/* bytes: from memory; gops: additions and multiplications, counted apart. */
static void line(const char *name, double seconds, double bytes, double ops, double peak)
{
    double gbs = bytes / seconds * 1e-9, gops = ops / seconds * 1e-9;
    printf("%-44s %10.2f us", name, seconds * 1e6);
    if (bytes > 0) printf("  %7.2f GB/s", gbs);
    if (ops > 0) printf("  %8.1f Gop/s", gops);
    if (ops > 0 && peak > 0) printf("  %5.1f %% of %.0f", 100 * gops / peak, peak);
    else if (bytes > 0) printf("  %5.1f %% of %.1f GB/s", 100 * gbs / read_gbs, read_gbs);
    printf("\n");
    fflush(stdout);
}

/* ---- kernels ------------------------------------------------------------------------------------------------------ */

typedef struct job {
    const loami_kern *k;
    loami_mat mat;
    loami_acts acts;
    loami_panel panel;
    float *x, *y, *z, ones[128];
    uint32_t m, n, at, rows_each, bits;
} job;

static void fill_mat(loami_mat *m, uint32_t rows, uint32_t cols, uint32_t bits, uint32_t group)
{
    *m = (loami_mat){ .rows = rows, .cols = cols, .bits = bits, .group = group, .code = LOAMI_CODE_INT, .scale = LOAMI_SCALE_F16 };
    m->row_bytes = (size_t)cols * bits / 8;
    m->scale_bytes = (size_t)cols / group * 2;
    uint8_t *data = memory(m->row_bytes * rows);
    uint16_t *s = memory(m->scale_bytes * rows), *b = memory(m->scale_bytes * rows);
    for (size_t i = 0; i < m->row_bytes * rows; i++) data[i] = (uint8_t)next();
    for (size_t i = 0; i < m->scale_bytes / 2 * rows; i++) s[i] = loami_to_f16(0.01f), b[i] = loami_to_f16(-0.07f);
    m->data = data;
    m->scales = (uint8_t *)s;
    m->biases = (uint8_t *)b;
}

static void free_mat(loami_mat *m)
{
    free((void *)m->data);
    free((void *)m->scales);
    free((void *)m->biases);
}

static void fill_acts(job *j, uint32_t rows, uint32_t cols, uint32_t group, loami_order order)
{
    loami_acts *a = &j->acts;
    a->code_stride = (cols + 127) / 128 * 128;
    a->group_stride = (cols / group + 15) / 16 * 16;
    a->codes = memory((size_t)rows * a->code_stride);
    a->scale = memory((size_t)rows * a->group_stride * 4);
    a->sum = memory((size_t)rows * a->group_stride * 4);
    for (uint32_t r = 0; r < rows; r++)
        j->k->quantise(a->codes + (size_t)r * a->code_stride, a->scale + (size_t)r * a->group_stride, a->sum + (size_t)r * a->group_stride,
                       j->x + (size_t)r * cols, cols, group, order);
}

static void do_dot(void *arg)
{
    job *j = arg;
    (j->mat.bits == 4 ? j->k->dot4 : j->k->dot8)(j->y, &j->mat, j->at, j->rows_each, j->acts.codes, j->acts.scale, j->acts.sum);
    j->at += j->rows_each;
    if (j->at + j->rows_each > j->mat.rows) j->at = 0;
}

static void do_dots(void *arg)
{
    job *j = arg;
    j->k->dots(j->y, j->mat.rows, &j->mat, j->at, j->rows_each, &j->acts, j->m);
    j->at += j->rows_each;
    if (j->at + j->rows_each > j->mat.rows) j->at = 0;
}

static void some_dots(job *j, const char *name, double bytes)
{
    static const uint32_t ms[] = { 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32 };
    for (size_t i = 0; j->k->dots_max && i < sizeof ms / sizeof ms[0]; i++) {
        char what[128];
        j->m = ms[i];
        snprintf(what, sizeof what, "%s, %u rows", name, j->m);
        line(what, best(do_dots, j), bytes, 2.0 * j->mat.cols * j->rows_each * j->m, int8_gops);
    }
}

static void dots(const loami_kern *k)
{
    static const uint32_t cases[][3] = { { 4, 32, 576 }, { 4, 64, 1536 }, { 4, 64, 8960 }, { 4, 128, 4096 }, { 8, 32, 576 }, { 8, 64, 1536 } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t bits = cases[i][0], group = cases[i][1], cols = cases[i][2];
        for (int cached = 1; cached >= 0; cached--) {
            char name[96];
            job j = { .k = k, .rows_each = 256 * 1024 / (cols * bits / 8) / 16 * 16 };
            fill_mat(&j.mat, cached ? j.rows_each : 200u * 1000 * 1000 / (cols * bits / 8), cols, bits, group);
            j.x = memory((size_t)32 * cols * 4);
            j.y = memory((size_t)32 * j.mat.rows * 4);
            floats(j.x, (size_t)32 * cols);
            fill_acts(&j, 32, cols, group, loami_mat_order(&j.mat));
            snprintf(name, sizeof name, "dot %u-bit/%u, %u inputs, from %s", bits, group, cols, cached ? "L2" : "memory");
            double bytes = (double)j.rows_each * (j.mat.row_bytes + 2 * j.mat.scale_bytes);
            line(name, best(do_dot, &j), bytes, 0, 0);
            some_dots(&j, name, bytes);
            free_mat(&j.mat);
        }
    }
}

static void do_unpack(void *arg)
{
    job *j = arg;
    j->k->unpack(&j->panel, &j->mat, j->at, j->k->panel_rows, 0, LOAMI_PANEL_K);
    j->at = (j->at + j->k->panel_rows) % j->mat.rows;
}

static void do_tile(void *arg)
{
    job *j = arg;
    j->k->tile(j->y, NULL, j->k->panel_rows, &j->panel, j->k->panel_rows, &j->acts, j->m);
}

static void do_both(void *arg)
{
    do_unpack(arg);
    do_tile(arg);
}

static void panels(const loami_kern *k)
{
    static const uint32_t cases[][2] = { { 4, 64 }, { 4, 32 }, { 8, 64 }, { 3, 64 } }, ms[] = { 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32, 64, 512 };
    for (size_t i = 0; i < 4; i++) {
        uint32_t bits = cases[i][0], group = cases[i][1], cols = LOAMI_PANEL_K;
        char name[96];
        job j = { .k = k };
        fill_mat(&j.mat, k->panel_rows * 8, cols, bits, group);
        j.x = memory((size_t)512 * cols * 4);
        j.y = memory((size_t)512 * k->panel_rows * 4);
        floats(j.x, (size_t)512 * cols);
        fill_acts(&j, 512, cols, group, loami_mat_order(&j.mat));
        j.panel.floats = memory(cols * k->panel_rows * 4);
        j.panel.codes = (uint8_t *)j.panel.floats;
        j.panel.scale = memory(cols / 16 * k->panel_rows * 4);
        j.panel.bias = memory(cols / 16 * k->panel_rows * 4);
        snprintf(name, sizeof name, "unpack %u-bit/%u", bits, group);
        line(name, best(do_unpack, &j), (double)k->panel_rows * (j.mat.row_bytes + 2 * j.mat.scale_bytes), 0, 0);
        for (size_t n = 0; n < sizeof ms / sizeof ms[0]; n++) {
            double ops = 2.0 * cols * k->panel_rows * (j.m = ms[n]);
            snprintf(name, sizeof name, "tile %u-bit/%u, %u rows", bits, group, j.m);
            line(name, best(do_tile, &j), 0, ops, int8_gops);
            if (j.m > 16) continue;
            snprintf(name, sizeof name, "unpack and tile %u-bit/%u, %u rows", bits, group, j.m);
            line(name, best(do_both, &j), 0, ops, int8_gops);
        }
    }
}

static void do_quantise(void *arg)
{
    job *j = arg;
    j->k->quantise(j->acts.codes, j->acts.scale, j->acts.sum, j->x, j->n, 64, LOAMI_SPLIT);
}

static void do_norm(void *arg)
{
    job *j = arg;
    j->k->norm(j->y, j->x, j->z, NULL, j->n, &(loam_norm){ .eps = 1e-5f });
}

static void do_act(void *arg)
{
    job *j = arg;
    j->k->act(j->y, j->x, j->z, j->n, LOAM_ACT_SILU);
}

static void do_scores(void *arg)
{
    job *j = arg;
    j->k->scores(j->y, (int16_t *)j->x, j->ones, (int16_t *)j->z, j->ones, j->m, j->n);
}

static void do_values(void *arg)
{
    job *j = arg;
    j->k->values(j->y, j->ones, (int16_t *)j->x, j->ones, (int16_t *)j->z, j->m, LOAMI_PAGE, j->n);
}

static void do_softmax(void *arg)
{
    job *j = arg;
    float max = 0, scale, sum[LOAMI_SUMS] = { 0 };
    j->k->softmax((int16_t *)j->x, &scale, j->y, 0, LOAMI_PAGE, 0, j->ones, 1, &max, sum);
}

static void rows(const loami_kern *k)
{
    job j = { .k = k, .n = 1536 };
    j.x = memory(96 * 256 * 4);
    j.y = memory(96 * 256 * 4);
    j.z = memory(96 * 256 * 4);
    floats(j.x, 96 * 256);
    floats(j.z, 96 * 256);
    for (int i = 0; i < 128; i++) j.ones[i] = 1;
    fill_acts(&j, 1, 1536, 64, LOAMI_SPLIT);
    line("quantise 1536", best(do_quantise, &j), 0, 1536, 0);
    line("norm 1536", best(do_norm, &j), 0, 1536, 0);
    line("silu * up 1536", best(do_act, &j), 0, 1536, 0);
    line("softmax 64", best(do_softmax, &j), 0, 64, 0);
    memset(j.x, 1, 96 * 256);
    memset(j.z, 1, 96 * 256);
    for (j.n = 64; j.n <= 128; j.n += 64) {
        for (j.m = 3; j.m <= 96; j.m += 93) {
            char name[96];
            snprintf(name, sizeof name, "scores, %u queries of %u", j.m, j.n);
            line(name, best(do_scores, &j), 0, 2.0 * j.m * j.n * LOAMI_PAGE, int8_gops / 2);
            snprintf(name, sizeof name, "values, %u queries of %u", j.m, j.n);
            line(name, best(do_values, &j), 0, 2.0 * j.m * j.n * LOAMI_PAGE, int8_gops / 2);
        }
    }
}

int main(int argc, char **argv)
{
    const loami_kern *k = loami_kern_pick(argc > 1 ? argv[1] : NULL);
    only = argc > 2 ? argv[2] : "";
    big = memory(BIG);
    read_gbs = PIECE / best(read_piece, NULL) * 1e-9;
    peaks(k->name);
    printf("%s: reads %.1f GB/s, int8 %.0f Gop/s, f32 %.0f Gop/s, one thread\n", k->name, read_gbs, int8_gops, f32_gops);
    if (strstr("dots", only)) dots(k);
    if (strstr("panels", only)) panels(k);
    if (strstr("rows", only)) rows(k);
    return 0;
}
