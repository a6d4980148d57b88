/* Every fast kernel against its slow twin, on numbers meant to break it, and timed by the same call. */
#include "base/clock.h"
#include "kern/random_matrix.h"
#include "substrate/cpu/cpu.h"
#include "substrate/dequant.h"
#include "substrate/registry.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *const levels[] = { "avx2", "avx512", "neon", "dotprod", "i8mm" };
enum { N_LEVELS = sizeof levels / sizeof levels[0], COLS = 640, ROWS = 40, MAX_M = 33 };

static const loami_kern *slow;
static rnd r;

typedef struct fill {
    const char *name;
    float (*next)(uint32_t i);
} fill;

static float normal(uint32_t i)
{
    (void)i;
    return rnd_float(&r);
}

static float constant(uint32_t i)
{
    (void)i;
    return 3;
}

static float alternate(uint32_t i)
{
    return i % 2 ? -1.0f : 1.0f;
}

static float zero(uint32_t i)
{
    (void)i;
    return 0;
}

static float denormal(uint32_t i)
{
    return (float)(i % 7) * 1e-42f;
}

static float huge(uint32_t i)
{
    return (i % 3 ? 1e30f : -1e30f) * (1 + rnd_float(&r) / 10);
}

static float spike(uint32_t i)
{
    return i % 61 == 5 ? -1000.0f : rnd_float(&r);
}

static const fill fills[] = {
    { "normal", normal }, { "constant", constant }, { "alternate", alternate }, { "zero", zero },
    { "denormal", denormal }, { "huge", huge }, { "spike", spike },
};
enum { N_FILLS = 7 };

static void fill_with(float *x, uint32_t n, const fill *f)
{
    for (uint32_t i = 0; i < n; i++) x[i] = f->next(i);
}

/* Largest difference over the largest number there is, which must not be above limit. */
static void same(const char *what, const float *want, const float *got, uint32_t n, float limit)
{
    float size = 1e-37f, diff = 0;
    uint32_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(want[i])) continue;
        size = fmaxf(size, fabsf(want[i]));
        if (!(fabsf(want[i] - got[i]) <= diff)) diff = fabsf(want[i] - got[i]), at = i;
    }
    if (diff <= limit * size) return;
    print_error("%s: %g for %g at %u (size %g)\n", what, (double)got[at], (double)want[at], at, (double)size);
    fail();
}

static const loami_kern *table(const char *name)
{
    const loami_kern *k = loami_kern_pick(name);
    return strcmp(k->name, name) == 0 ? k : NULL;
}

/* Runs body for each table faster than the scalar one that this machine has. */
#define EACH_TABLE(k)                                                                                                    \
    slow = loami_kern_pick("scalar");                                                                                    \
    r.state = 7;                                                                                                         \
    for (int level_ = 0; level_ < N_LEVELS; level_++)                                                                    \
        for (const loami_kern *k = table(levels[level_]); k; k = NULL)

static void report(const loami_kern *k, const char *what, double seconds, double bytes)
{
    print_message("  %-8s %-28s %8.2f us %7.2f GB/s\n", k->name, what, seconds * 1e6, bytes / seconds * 1e-9);
}

/* ---- matrices ----------------------------------------------------------------------------------------------------- */

typedef struct acts_memory {
    loami_acts acts;
    int8_t codes[MAX_M * COLS];
    float scale[MAX_M * (COLS / 16 + 16)], sum[MAX_M * (COLS / 16 + 16)];
} acts_memory;

static void make_acts(const loami_kern *k, acts_memory *a, const float *x, uint32_t m, uint32_t cols, const loami_mat *mat)
{
    a->acts = (loami_acts){ a->codes, a->scale, a->sum, (cols + 127) / 128 * 128, (cols / mat->group + 15) / 16 * 16 };
    for (uint32_t i = 0; i < m; i++)
        k->quantise(a->codes + (size_t)i * a->acts.code_stride, a->scale + (size_t)i * a->acts.group_stride,
                    a->sum + (size_t)i * a->acts.group_stride, x + (size_t)i * cols, cols, mat->group, loami_mat_order(mat));
}

static void test_quantise(void **state)
{
    (void)state;
    static float x[COLS];
    static acts_memory want, got;
    EACH_TABLE(k) {
        for (uint32_t f = 0; f < N_FILLS; f++) {
            for (uint32_t cols = 32; cols <= COLS; cols += 32) {
                for (uint32_t group = 16; group <= 128; group *= 2) {
                    for (uint32_t bits = 4; bits <= 8 && cols % group == 0; bits += 4) {
                        loami_mat mat = { .group = group, .bits = bits };
                        fill_with(x, cols, &fills[f]);
                        memset(&want, 0x55, sizeof want);
                        memset(&got, 0x55, sizeof got);
                        make_acts(slow, &want, x, 1, cols, &mat);
                        make_acts(k, &got, x, 1, cols, &mat);
                        for (uint32_t i = 0; i < want.acts.code_stride; i++) /* a product at .5 may round either way */
                            assert_true(abs(want.codes[i] - got.codes[i]) <= 1);
                        same("quantise: scale", want.scale, got.scale, want.acts.group_stride, 1e-6f);
                        for (uint32_t g = 0; g < cols / group; g++)
                            assert_true(!(fabsf(want.sum[g] - got.sum[g]) > 2.01f * (want.scale[g] + 1e-37f)));
                        for (uint32_t g = cols / group; g < got.acts.group_stride; g++) assert_true(got.scale[g] == 0 && got.sum[g] == 0);
                    }
                }
            }
        }
    }
}

typedef struct bench_panel {
    loami_panel p;
    void *raw;
} bench_panel;

static loami_panel new_panel(void **raw)
{
    enum { FLOATS = LOAMI_PANEL_K * LOAMI_PANEL_ROWS_MAX, SCALES = LOAMI_PANEL_K / LOAMI_GROUP_MIN * LOAMI_PANEL_ROWS_MAX };
    float *f = NULL;
    assert_int_equal(posix_memalign(raw, 64, (FLOATS + 2 * SCALES) * sizeof *f), 0);
    f = *raw;
    for (uint32_t i = 0; i < FLOATS + 2 * SCALES; i++) f[i] = NAN;
    return (loami_panel){ .codes = (uint8_t *)f, .floats = f, .scale = f + FLOATS, .bias = f + FLOATS + SCALES };
}

/* y[m][n] by panels, as the substrate does it. */
static void by_panels(const loami_kern *k, float *y, const loami_mat *w, uint32_t n, const loami_acts *x, const float *fx, uint32_t m, const float *base)
{
    void *raw;
    loami_panel p = new_panel(&raw);
    for (uint32_t row = 0; row < n; row += k->panel_rows) {
        uint32_t rows = n - row < k->panel_rows ? n - row : k->panel_rows;
        for (uint32_t at = 0; at < w->cols; at += LOAMI_PANEL_K) {
            const float *from = at ? y + row : base ? base + row : NULL;
            if (x) {
                loami_acts a = { x->codes + at, x->scale + at / w->group, x->sum + at / w->group, x->code_stride, x->group_stride };
                k->unpack(&p, w, row, rows, at, LOAMI_PANEL_K);
                k->tile(y + row, from, n, &p, rows, &a, m);
            } else {
                k->unpack_f(&p, w, row, rows, at, LOAMI_PANEL_K);
                k->tile_f(y + row, from, n, &p, rows, fx + at, w->cols, m);
            }
        }
    }
    free(raw);
}

static void each_matrix(void (*check)(const loami_kern *k, const loami_mat *mat, const char *name))
{
    loam_sub *s = NULL;
    loam_err err;
    assert_int_equal(loami_cpu.open(&s, &(loam_sub_options){ .threads = 1 }, &err), 0);
    EACH_TABLE(k) {
        for (uint32_t i = 0; i < n_matrix_kinds; i++) {
            for (uint32_t cols = 32; cols <= COLS; cols = cols == 32 ? 96 : cols == 96 ? 128 : cols == 128 ? 576 : cols + 64) {
                const matrix_kind *kind = &matrix_kinds[i];
                for (int full = 0; full < 2 && (!kind->group || cols % kind->group == 0); full++) {
                    loam_matrix m;
                    loam_weight *w;
                    random_matrix(&r, &m, kind, 1, ROWS, cols, false);
                    if (full && kind->group && kind->quant != LOAM_Q_MXFP8) /* the largest codes there are */
                        memset((void *)m.data, kind->quant == LOAM_Q_AFFINE ? 0xff : 0x77, ROWS * loami_row_bytes(&m));
                    assert_int_equal(loami_cpu.weight(s, &w, &m, 1, &err), 0);
                    loami_mat mat = loami_part_mat(&w->part[0], 0);
                    check(k, &mat, kind->name);
                    random_matrix_free(&m);
                }
            }
        }
    }
    loami_cpu.close(s);
}

static void check_dequant(const loami_kern *k, const loami_mat *mat, const char *name)
{
    float want[COLS], got[COLS];
    for (uint32_t row = 0; row < ROWS; row += 7) {
        slow->dequant(want, mat, row, 0, mat->cols);
        k->dequant(got, mat, row, 0, mat->cols);
        same(name, want, got, mat->cols, 1e-6f);
        uint32_t from = mat->cols / 64 * 32;
        k->dequant(got, mat, row, from, mat->cols - from);
        same(name, want + from, got, mat->cols - from, 1e-6f);
    }
}

static void test_dequant(void **state)
{
    (void)state;
    each_matrix(check_dequant);
}

static bool can_dot(const loami_mat *mat)
{
    return mat->code == LOAMI_CODE_INT && (mat->bits == 4 || mat->bits == 8);
}

static void check_products(const loami_kern *k, const loami_mat *mat, const char *name)
{
    static float x[MAX_M * COLS], want[MAX_M * ROWS], got[MAX_M * ROWS], base[MAX_M * ROWS];
    static acts_memory acts;
    uint32_t m = 1 + rnd_below(&r, MAX_M), n = 1 + rnd_below(&r, ROWS);
    char what[96];
    for (uint32_t f = 0; f < N_FILLS; f++) {
        const float *from = f % 2 ? base : NULL;
        float limit = mat->cols > 300 ? 2e-5f : 1e-5f;
        snprintf(what, sizeof what, "%s, %s, %u inputs, %u by %u", k->name, name, mat->cols, m, n);
        fill_with(x, m * mat->cols, &fills[f]);
        fill_with(base, m * n, &fills[0]);
        if (f == 5) limit = 2e-4f; /* huge: sums cancel */
        by_panels(slow, want, mat, n, NULL, x, m, from);
        by_panels(k, got, mat, n, NULL, x, m, from);
        same(what, want, got, m * n, limit);
        if (!mat->group) {
            slow->dot_f(want, mat, 0, n, x);
            k->dot_f(got, mat, 0, n, x);
            same(what, want, got, n, limit);
        }
        if (!loami_mat_is_int(mat)) continue;
        make_acts(slow, &acts, x, m, mat->cols, mat);
        by_panels(slow, want, mat, n, &acts.acts, NULL, m, from);
        by_panels(k, got, mat, n, &acts.acts, NULL, m, from);
        same(what, want, got, m * n, limit);
        if (!can_dot(mat)) continue;
        (mat->bits == 4 ? slow->dot4 : slow->dot8)(want, mat, ROWS - n, n, acts.codes, acts.scale, acts.sum);
        (mat->bits == 4 ? k->dot4 : k->dot8)(got, mat, ROWS - n, n, acts.codes, acts.scale, acts.sum);
        same(what, want, got, n, limit);
        slow->dots(want, n, mat, ROWS - n, n, &acts.acts, m);
        k->dots(got, n, mat, ROWS - n, n, &acts.acts, m);
        same(what, want, got, m * n, limit);
    }
}

static void test_products(void **state)
{
    (void)state;
    each_matrix(check_products);
}

/* Every number of rows, so that each height of tile is met with each remainder. */
static void test_heights(void **state)
{
    (void)state;
    static float x[MAX_M * COLS], want[MAX_M * ROWS], got[MAX_M * ROWS];
    static acts_memory acts;
    loam_sub *s = NULL;
    loam_err err;
    assert_int_equal(loami_cpu.open(&s, &(loam_sub_options){ .threads = 1 }, &err), 0);
    EACH_TABLE(k) {
        for (uint32_t i = 0; i < n_matrix_kinds; i++) {
            loam_matrix m;
            loam_weight *w;
            random_matrix(&r, &m, &matrix_kinds[i], 1, ROWS, 128, false);
            assert_int_equal(loami_cpu.weight(s, &w, &m, 1, &err), 0);
            loami_mat mat = loami_part_mat(&w->part[0], 0);
            fill_with(x, MAX_M * 128, &fills[0]);
            if (loami_mat_is_int(&mat)) make_acts(slow, &acts, x, MAX_M, 128, &mat);
            by_panels(slow, want, &mat, ROWS, loami_mat_is_int(&mat) ? &acts.acts : NULL, x, MAX_M, NULL);
            for (uint32_t rows = 1; rows <= MAX_M; rows++) {
                for (uint32_t j = 0; j < MAX_M * ROWS; j++) got[j] = -12345;
                by_panels(k, got, &mat, ROWS, loami_mat_is_int(&mat) ? &acts.acts : NULL, x, rows, NULL);
                same(matrix_kinds[i].name, want, got, rows * ROWS, 1e-5f);
                for (uint32_t j = rows * ROWS; j < MAX_M * ROWS; j++) assert_true(got[j] == -12345);
                if (!can_dot(&mat)) continue;
                for (uint32_t j = 0; j < MAX_M * ROWS; j++) got[j] = -12345;
                k->dots(got, ROWS, &mat, 0, ROWS, &acts.acts, rows);
                same(matrix_kinds[i].name, want, got, rows * ROWS, 1e-5f);
                for (uint32_t j = rows * ROWS; j < MAX_M * ROWS; j++) assert_true(got[j] == -12345);
            }
            random_matrix_free(&m);
        }
    }
    loami_cpu.close(s);
}

/* ---- rows --------------------------------------------------------------------------------------------------------- */

static void test_rows(void **state)
{
    (void)state;
    static float x[COLS], y[COLS], w[COLS], b[COLS], want[COLS], got[COLS];
    EACH_TABLE(k) {
        for (uint32_t f = 0; f < N_FILLS; f++) {
            for (uint32_t n = 1; n < 200; n += n < 40 ? 1 : 23) {
                loam_norm how = { .kind = n % 2 ? LOAM_NORM_RMS : LOAM_NORM_LAYER, .eps = 1e-5f, .offset = n % 3 ? 0 : 1 };
                fill_with(x, n, &fills[f]);
                fill_with(y, n, &fills[0]);
                fill_with(w, n, &fills[0]);
                fill_with(b, n, &fills[0]);
                const float *wp = n % 4 ? w : NULL, *bp = n % 5 == 1 ? b : NULL;
                bool lost = f == 5 || (f == 1 && how.kind == LOAM_NORM_LAYER); /* squares leave float32; nothing is left but rounding */
                if (!lost) {
                    slow->norm(want, x, wp, bp, n, &how);
                    k->norm(got, x, wp, bp, n, &how);
                    same("norm", want, got, n, how.kind == LOAM_NORM_LAYER ? 1e-4f : 1e-5f); /* LAYER: the mean cancels */
                }
                for (uint32_t act = 0; act < 4; act++) {
                    slow->act(want, x, y, n, (loam_act)act);
                    k->act(got, x, y, n, (loam_act)act);
                    got[n] = want[n] = 1; /* what is next to nothing need not be nothing */
                    same("act", want, got, n + 1, 2e-6f);
                }
                slow->axpy(want, x, y, 0.7f, n);
                k->axpy(got, x, y, 0.7f, n);
                same("axpy", want, got, n, 1e-6f);
                slow->cap(want, x, 0.3f, n % 2 ? 30.0f : 0.0f, n);
                k->cap(got, x, 0.3f, n % 2 ? 30.0f : 0.0f, n);
                same("cap", want, got, n, 2e-6f);
            }
        }
    }
}

/* ---- attention ---------------------------------------------------------------------------------------------------- */

enum { QUERIES = 13, DIM = 256 };

static void test_quantise16(void **state)
{
    (void)state;
    EACH_TABLE(k) {
        for (uint32_t f = 0; f < N_FILLS; f++) {
            for (uint32_t n = 1; n <= 130; n++) {
                float x[130], want, got;
                int16_t a[130], b[131];
                fill_with(x, n, &fills[f]);
                b[n] = 77;
                slow->quantise16(a, &want, x, n, 4095);
                k->quantise16(b, &got, x, n, 4095);
                same("quantise16", &want, &got, 1, 1e-6f);
                for (uint32_t i = 0; i < n; i++) assert_true(abs(a[i] - b[i]) <= 1);
                assert_int_equal(b[n], 77);
                x[n / 2] = n % 2 ? NAN : -INFINITY;
                k->quantise16(b, &got, x, n, 4095);
                assert_true(got == 0);
                for (uint32_t i = 0; i < n; i++) assert_int_equal(b[i], 0);
            }
        }
    }
}

static void fill_codes(int16_t *x, uint32_t n, uint32_t top, bool full)
{
    for (uint32_t i = 0; i < n; i++) x[i] = full ? (int16_t)top : (int16_t)((int32_t)rnd_below(&r, 2 * top + 1) - (int32_t)top);
}

static void test_attend(void **state)
{
    (void)state;
    static int16_t q[QUERIES * DIM], kv[LOAMI_PAGE * DIM], p[QUERIES * LOAMI_PAGE];
    static float want[QUERIES * DIM], got[QUERIES * DIM], scale[LOAMI_PAGE], q_scale[LOAMI_PAGE];
    EACH_TABLE(k) {
        for (uint32_t dim = 16; dim <= DIM; dim += 16) {
            for (uint32_t nq = 1; nq <= QUERIES; nq++) {
                bool full = nq % 4 == 3;
                uint32_t top = loami_k_top(dim), n = 1 + rnd_below(&r, LOAMI_PAGE);
                fill_codes(q, nq * dim, top, full);
                fill_codes(kv, LOAMI_PAGE * dim, top, full);
                for (uint32_t i = 0; i < LOAMI_PAGE; i++) scale[i] = 1 + 0.1f * rnd_float(&r), q_scale[i] = 0.01f * rnd_float(&r);
                slow->scores(want, q, q_scale, kv, scale, nq, dim);
                k->scores(got, q, q_scale, kv, scale, nq, dim);
                same("scores", want, got, nq * LOAMI_PAGE, 1e-6f);
                fill_codes(kv, LOAMI_PAGE * dim, LOAMI_V_TOP, full);
                for (uint32_t i = 0; i < nq; i++) {
                    fill_codes(p + i * LOAMI_PAGE, LOAMI_PAGE, LOAMI_P_TOP, full);
                    memset(p + i * LOAMI_PAGE + n, 0, (LOAMI_PAGE - n) * sizeof *p);
                }
                for (uint32_t i = 0; i < nq * dim; i++) want[i] = got[i] = rnd_float(&r);
                slow->values(want, scale, p, q_scale, kv, nq, n, dim);
                k->values(got, scale, p, q_scale, kv, nq, n, dim);
                same("values", want, got, nq * dim, 1e-6f);
            }
        }
    }
}

static void test_softmax(void **state)
{
    (void)state;
    EACH_TABLE(k) {
        float max[2] = { -INFINITY, -INFINITY }, sum[2][LOAMI_SUMS] = { { 0 } };
        for (uint32_t turn = 0; turn < 2000; turn++) {
            float s[2][LOAMI_PAGE], v[LOAMI_PAGE], v_top = 0, scale[2], rescale[2], want[LOAMI_PAGE], got[LOAMI_PAGE], total[2] = { 0 };
            int16_t p[2][LOAMI_PAGE];
            uint32_t lo = turn % 3 ? 0 : rnd_below(&r, 65), hi = turn % 4 ? 64 : lo + rnd_below(&r, 65 - lo);
            float softcap = turn % 5 ? 0 : 20, size = turn % 7 ? 10 : 300;
            for (uint32_t i = 0; i < LOAMI_PAGE; i++) {
                s[0][i] = i >= lo && i < hi ? size * rnd_float(&r) : NAN;
                v[i] = i < hi ? fabsf(rnd_float(&r)) : 1e30f; /* left by another sequence: finite, anything */
                if (i < hi) v_top = fmaxf(v_top, v[i]);
            }
            memcpy(s[1], s[0], sizeof s[0]);
            if (turn % 50 == 0) {
                max[0] = max[1] = -INFINITY;
                memset(sum, 0, sizeof sum);
            }
            rescale[0] = slow->softmax(p[0], &scale[0], s[0], lo, hi, softcap, v, v_top, &max[0], sum[0]);
            rescale[1] = k->softmax(p[1], &scale[1], s[1], lo, hi, softcap, v, v_top, &max[1], sum[1]);
            for (uint32_t i = 0; i < LOAMI_PAGE; i++) {
                want[i] = (float)p[0][i] * scale[0];
                got[i] = (float)p[1][i] * scale[1];
                if (i < lo || i >= hi) assert_int_equal(p[1][i], 0);
            }
            for (uint32_t i = 0; i < LOAMI_SUMS; i++) total[0] += sum[0][i], total[1] += sum[1][i];
            assert_true(fabsf(max[0] - max[1]) <= 1e-5f * fabsf(max[0]) || max[0] == max[1]);
            assert_true(fabsf(rescale[0] - rescale[1]) <= 1e-4f);
            assert_true(fabsf(total[0] - total[1]) <= 1e-4f * total[0]);
            for (uint32_t i = 0; i < LOAMI_PAGE; i++) assert_true(fabsf(want[i] - got[i]) <= 1.5f * fmaxf(scale[0], scale[1]) + 1e-4f * v_top);
        }
    }
}

/* ---- speed: information, no claim ----------------------------------------------------------------------------------- */

static void test_speed(void **state)
{
    (void)state;
    enum { N = 256, K = 1536, TIMES = 20 };
    loam_sub *s = NULL;
    loam_err err;
    assert_int_equal(loami_cpu.open(&s, &(loam_sub_options){ .threads = 1 }, &err), 0);
    EACH_TABLE(k) {
        static const int kinds[] = { 3, 9 };
        for (int i = 0; i < 2; i++) {
            static float x[K], y[N];
            static int8_t codes[K];
            static float scale[64], sum[64];
            loam_matrix m;
            loam_weight *w;
            double low = 1;
            random_matrix(&r, &m, &matrix_kinds[kinds[i]], 1, N, K, false);
            assert_int_equal(loami_cpu.weight(s, &w, &m, 1, &err), 0);
            loami_mat mat = loami_part_mat(&w->part[0], 0);
            fill_with(x, K, &fills[0]);
            k->quantise(codes, scale, sum, x, K, mat.group, loami_mat_order(&mat));
            for (int t = 0; t < TIMES; t++) {
                double t0 = loami_now_s();
                (mat.bits == 4 ? k->dot4 : k->dot8)(y, &mat, 0, N, codes, scale, sum);
                t0 = loami_now_s() - t0;
                low = t0 < low ? t0 : low;
            }
            report(k, matrix_kinds[kinds[i]].name, low, N * (double)(mat.row_bytes + 2 * mat.scale_bytes));
            random_matrix_free(&m);
        }
    }
    loami_cpu.close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantise), cmocka_unit_test(test_dequant), cmocka_unit_test(test_products), cmocka_unit_test(test_heights),
        cmocka_unit_test(test_rows), cmocka_unit_test(test_quantise16), cmocka_unit_test(test_attend), cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_speed),
    };
    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
