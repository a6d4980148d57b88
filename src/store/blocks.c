#include "store/blocks.h"

#include "base/half.h"

#include <math.h>
#include <string.h>

enum {
    GROUP = 32,     /* weights in a group */
    GROUPS_MAX = 8, /* groups in the largest block */
    LANES = 8,      /* sums side by side, so that the compiler can use vectors */
};

/* 32 weights: scale * code + bias. Parts of 16 have a scale and bias each. */
typedef struct group {
    uint8_t code[GROUP];
    float scale[2], bias[2];
} group;

static float f16_at(const unsigned char *p)
{
    return loami_from_f16((uint16_t)(p[0] | p[1] << 8));
}

static void set(group *g, float scale, float bias)
{
    g->scale[0] = g->scale[1] = scale;
    g->bias[0] = g->bias[1] = bias;
}

/* Low nibbles are the first half, high nibbles the second. */
static void nibbles(group *g, const unsigned char *q)
{
    for (int i = 0; i < 16; i++) {
        g->code[i] = q[i] & 15;
        g->code[i + 16] = q[i] >> 4;
    }
}

/* The fifth bits: bit i of 32 belongs to weight i. */
static void fifth_bits(group *g, const unsigned char *h)
{
    for (int i = 0; i < GROUP; i++) g->code[i] |= (uint8_t)((h[i / 8] >> i % 8 & 1) << 4);
}

/* ---- blocks of 32 -------------------------------------------------------------------------------------- */

static void read_q4_0(group *g, const unsigned char *p)
{
    float d = f16_at(p);
    set(g, d, -8 * d);
    nibbles(g, p + 2);
}

static void read_q4_1(group *g, const unsigned char *p)
{
    set(g, f16_at(p), f16_at(p + 2));
    nibbles(g, p + 4);
}

static void read_q5_0(group *g, const unsigned char *p)
{
    float d = f16_at(p);
    set(g, d, -16 * d);
    nibbles(g, p + 6);
    fifth_bits(g, p + 2);
}

static void read_q5_1(group *g, const unsigned char *p)
{
    set(g, f16_at(p), f16_at(p + 2));
    nibbles(g, p + 8);
    fifth_bits(g, p + 4);
}

static void read_q8_0(group *g, const unsigned char *p)
{
    float d = f16_at(p);
    set(g, d, -128 * d);
    for (int i = 0; i < GROUP; i++) g->code[i] = (uint8_t)(p[2 + i] ^ 0x80); /* int8 + 128 */
}

/* The sixteen levels of IQ4, plus 128. */
static void levels(group *g, const unsigned char *q)
{
    static const uint8_t level[16] = {
        1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241
    };
    nibbles(g, q);
    for (int i = 0; i < GROUP; i++) g->code[i] = level[g->code[i]];
}

static void read_iq4_nl(group *g, const unsigned char *p)
{
    float d = f16_at(p);
    set(g, d, -128 * d);
    levels(g, p + 2);
}

/* ---- blocks of 256 ------------------------------------------------------------------------------------- */

/* Scale and min of part j of 8, 6 bits each in 12 bytes. */
static void scale_min(const unsigned char *s, int j, float *scale, float *min)
{
    *scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
    *min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
}

/* Q4_K, and Q5_K when there are fifth bits. */
static void read_k45(group *g, const unsigned char *p, const unsigned char *fifth, const unsigned char *q)
{
    float d = f16_at(p), dmin = f16_at(p + 2), scale, min;
    for (int j = 0; j < 8; j++) {
        scale_min(p + 4, j, &scale, &min);
        set(&g[j], d * scale, -(dmin * min));
        for (int i = 0; i < GROUP; i++) {
            unsigned b = q[j / 2 * 32 + i];
            g[j].code[i] = (uint8_t)((j & 1 ? b >> 4 : b & 15) | (fifth ? (fifth[i] >> j & 1) << 4 : 0));
        }
    }
}

static void read_q4_k(group *g, const unsigned char *p)
{
    read_k45(g, p, NULL, p + 16);
}

static void read_q5_k(group *g, const unsigned char *p)
{
    read_k45(g, p, p + 16, p + 48);
}

static void read_iq4_xs(group *g, const unsigned char *p)
{
    float d = f16_at(p);
    unsigned high = p[2] | (unsigned)p[3] << 8;
    for (int j = 0; j < 8; j++) {
        int scale = (int)((p[4 + j / 2] >> j % 2 * 4 & 15) | (high >> 2 * j & 3) << 4) - 32;
        set(&g[j], d * (float)scale, -128 * (d * (float)scale));
        levels(&g[j], p + 8 + 16 * j);
    }
}

static void read_q6_k(group *g, const unsigned char *p)
{
    const unsigned char *low = p, *high = p + 128;
    const int8_t *scales = (const int8_t *)p + 192;
    float d = f16_at(p + 208);
    for (int j = 0; j < 8; j++) { /* 4 groups in each half of 128 */
        int half = j / 4, k = j % 4;
        for (int i = 0; i < GROUP; i++) {
            unsigned b = low[64 * half + k % 2 * 32 + i], h = high[32 * half + i];
            g[j].code[i] = (uint8_t)((k < 2 ? b & 15 : b >> 4) | (h >> 2 * k & 3) << 4);
        }
        for (int s = 0; s < 2; s++) {
            g[j].scale[s] = d * scales[8 * half + 2 * k + s];
            g[j].bias[s] = -32 * g[j].scale[s];
        }
    }
}

static void read_q2_k(group *g, const unsigned char *p)
{
    float d = f16_at(p + 80), dmin = f16_at(p + 82);
    for (int j = 0; j < 8; j++) {
        for (int i = 0; i < GROUP; i++) g[j].code[i] = p[16 + j / 4 * 32 + i] >> j % 4 * 2 & 3;
        for (int s = 0; s < 2; s++) {
            g[j].scale[s] = d * (float)(p[2 * j + s] & 15);
            g[j].bias[s] = -(dmin * (float)(p[2 * j + s] >> 4));
        }
    }
}

static void read_q3_k(group *g, const unsigned char *p)
{
    const unsigned char *high = p, *low = p + 32, *sc = p + 96;
    float d = f16_at(p + 108);
    for (int j = 0; j < 8; j++) {
        for (int i = 0; i < GROUP; i++)
            g[j].code[i] = (uint8_t)((low[j / 4 * 32 + i] >> j % 4 * 2 & 3) | (high[i] >> j & 1) << 2);
        for (int s = 0; s < 2; s++) {
            int n = 2 * j + s,
                scale = ((n < 8 ? sc[n] & 15 : sc[n - 8] >> 4) | (sc[8 + n % 4] >> n / 4 * 2 & 3) << 4) - 32;
            g[j].scale[s] = d * (float)scale;
            g[j].bias[s] = -4 * g[j].scale[s];
        }
    }
}

/* ---- the table ----------------------------------------------------------------------------------------- */

typedef struct kind {
    void (*read)(group *g, const unsigned char *block); /* NULL: plain numbers, or MXFP4 */
    loam_quant mode;
    uint8_t bits;          /* of MLX's codes */
    loam_dtype type;       /* of plain numbers */
    bool direct;           /* codes as they are */
    bool f16_scales;       /* scale and bias are float16 numbers unless the bias overflows */
    uint8_t float16_at[2]; /* where the block's float16 numbers are; 255 = none */
    float reach;           /* largest |scale or bias| / largest of those numbers */
} kind;

static const kind kinds[] = {
    [LOAMI_GGUF_T_F32] = { .type = LOAM_F32 },
    [LOAMI_GGUF_T_F16] = { .type = LOAM_F16 },
    [LOAMI_GGUF_T_BF16] = { .type = LOAM_BF16 },
    [LOAMI_GGUF_T_MXFP4] = { .mode = LOAM_Q_MXFP4, .bits = 4, .type = LOAM_U8 },
    [LOAMI_GGUF_T_Q4_0] = { read_q4_0, LOAM_Q_AFFINE, 4, 0, true, true, { 0, 255 }, 8 },
    [LOAMI_GGUF_T_Q4_1] = { read_q4_1, LOAM_Q_AFFINE, 4, 0, true, true, { 0, 2 }, 1 },
    [LOAMI_GGUF_T_Q5_0] = { read_q5_0, LOAM_Q_AFFINE, 5, 0, true, true, { 0, 255 }, 16 },
    [LOAMI_GGUF_T_Q5_1] = { read_q5_1, LOAM_Q_AFFINE, 5, 0, true, true, { 0, 2 }, 1 },
    [LOAMI_GGUF_T_Q8_0] = { read_q8_0, LOAM_Q_AFFINE, 8, 0, true, true, { 0, 255 }, 128 },
    [LOAMI_GGUF_T_IQ4_NL] = { read_iq4_nl, LOAM_Q_AFFINE, 8, 0, true, true, { 0, 255 }, 128 },
    [LOAMI_GGUF_T_IQ4_XS] = { read_iq4_xs, LOAM_Q_AFFINE, 8, 0, true, false, { 0, 255 }, 32 * 128 },
    [LOAMI_GGUF_T_Q4_K] = { read_q4_k, LOAM_Q_AFFINE, 4, 0, true, false, { 0, 2 }, 63 },
    [LOAMI_GGUF_T_Q5_K] = { read_q5_k, LOAM_Q_AFFINE, 5, 0, true, false, { 0, 2 }, 63 },
    [LOAMI_GGUF_T_Q6_K] = { read_q6_k, LOAM_Q_AFFINE, 8, 0, false, false, { 208, 255 }, 32 * 128 },
    [LOAMI_GGUF_T_Q3_K] = { read_q3_k, LOAM_Q_AFFINE, 6, 0, false, false, { 108, 255 }, 32 * 4 },
    [LOAMI_GGUF_T_Q2_K] = { read_q2_k, LOAM_Q_AFFINE, 6, 0, false, false, { 80, 82 }, 60 },
};

static const kind *kind_of(uint32_t type)
{
    if (type >= sizeof kinds / sizeof *kinds) return NULL;
    const kind *k = &kinds[type];
    return k->read || k->mode != LOAM_Q_NONE || k->type != LOAM_F32 || type == LOAMI_GGUF_T_F32 ? k : NULL;
}

/* The largest of the blocks' float16 numbers, infinite when one is not finite. */
static float largest(const kind *k, const loami_gguf_tensor *t)
{
    uint32_t size = loami_gguf_block_bytes(t->type);
    float most = 0;
    for (const unsigned char *p = t->data, *end = p + t->bytes; p < end; p += size) {
        for (int i = 0; i < 2 && k->float16_at[i] != 255; i++) {
            float f = fabsf(f16_at(p + k->float16_at[i]));
            if (!isfinite(f)) return INFINITY;
            if (f > most) most = f;
        }
    }
    return most;
}

int loami_block_decide(loami_block_plan *out, const loami_gguf_tensor *t, bool float_scales, const char *file,
                       loam_err *err)
{
    const kind *k = kind_of(t->type);
    if (!k)
        return loami_fail(
            err, LOAM_E_UNSUPPORTED,
            "%s: %s: weights of type %s have no MLX form; get the model in Q4_0, Q4_K, Q8_0 or another "
            "common type",
            file, t->name, loami_gguf_type_name(t->type));
    *out = (loami_block_plan){ .source = t->type,
                               .quant = { k->mode, k->bits, k->mode == LOAM_Q_NONE ? 0 : GROUP },
                               .type = k->type,
                               .exact = true };
    if (!k->read) return 0;
    float most = largest(k, t);
    if (!isfinite(most))
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s: has a scale that is not a finite number", file,
                          t->name);
    bool fits = most * k->reach <= 65504;
    out->type = fits && (k->f16_scales || !(float_scales && k->direct)) ? LOAM_F16 : LOAM_F32;
    out->exact = k->direct && (k->f16_scales || out->type == LOAM_F32);
    return 0;
}

uint64_t loami_block_code_bytes(const loami_block_plan *p, uint64_t cols)
{
    return p->quant.mode == LOAM_Q_NONE ? cols * (p->type == LOAM_F32 ? 4 : 2)
                                        : cols / GROUP * p->quant.bits * 4;
}

uint64_t loami_block_scale_bytes(const loami_block_plan *p, uint64_t cols)
{
    uint64_t each = p->type == LOAM_U8 ? 1 : p->type == LOAM_F32 ? 4 : 2;
    return p->quant.mode == LOAM_Q_NONE ? 0 : cols / GROUP * each;
}

/* ---- two parts of 16 under one scale ------------------------------------------------------------------- */

static float value(const group *g, int i)
{
    return g->scale[i / 16] * (float)g->code[i] + g->bias[i / 16];
}

static float total(const float sum[LANES])
{
    float s = 0;
    for (int k = 0; k < LANES; k++) s += sum[k];
    return s;
}

/* Codes nearest to x for this scale and bias, both already as they will be stored; returns the squared
 * error. */
static float try_scale(const float *x, float scale, float bias, int top, uint8_t *code)
{
    float sum[LANES] = { 0 }, per_step = scale != 0 ? 1 / scale : 0;
    for (int i = 0; i < GROUP; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            float c = (x[i + k] - bias) * per_step;
            c = c < 0 ? 0 : c;
            c = c > (float)top ? (float)top : c;
            int n = (int)(c + 0.5f);
            float d = scale * (float)n + bias - x[i + k];
            code[i + k] = (uint8_t)n;
            sum[k] += d * d;
        }
    }
    return total(sum);
}

/* The best of: the range cut into equal steps, and steps that divide the step of either part, so that this
 * part keeps its values. */
static void join(group *g, int bits)
{
    int top = (1 << bits) - 1;
    float x[GROUP], lo = INFINITY, hi = -INFINITY;
    group best = { 0 }, try;
    float least = INFINITY;
    for (int i = 0; i < GROUP; i++) {
        x[i] = value(g, i);
        if (x[i] < lo) lo = x[i];
        if (x[i] > hi) hi = x[i];
    }
    for (int part = -1; part < 2; part++) {
        float step = part < 0 ? (hi - lo) / (float)top : fabsf(g->scale[part]);
        float cuts = part < 0 || hi == lo || step == 0 ? 1 : (float)top * step / (hi - lo);
        int most = cuts < 65536 ? (int)cuts : 65536;
        for (int k = most; k >= 1 && k > most - 2; k--) {
            float scale = loami_from_f16(loami_to_f16(step / (float)k));
            float origin = part < 0 ? lo : g->bias[part]; /* a value of this part on the grid */
            float bias = part < 0 || scale == 0 ? lo : origin + scale * floorf((lo - origin) / scale + 0.5f);
            bias = loami_from_f16(loami_to_f16(bias));
            float e = try_scale(x, scale, bias, top, try.code);
            if (e >= least) continue;
            least = e;
            best = try;
            set(&best, scale, bias);
        }
    }
    *g = best;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

/* Little end first, as MLX packs: code i takes bits i * bits up to (i + 1) * bits. */
static void pack(const uint8_t *code, unsigned bits, unsigned char *out)
{
    uint64_t held = 0;
    unsigned n = 0;
    if (bits == 4) {
        for (int i = 0; i < GROUP / 2; i++) out[i] = (unsigned char)(code[2 * i] | code[2 * i + 1] << 4);
        return;
    }
    for (int i = 0; i < GROUP; i++) {
        held |= (uint64_t)code[i] << n;
        for (n += bits; n >= 8; n -= 8, held >>= 8) *out++ = (unsigned char)held;
    }
}

/* Stores f as p->type and returns what was stored. */
static float put(const loami_block_plan *p, unsigned char *out, uint64_t i, float f)
{
    uint32_t u = p->type == LOAM_F32 ? loami_to_bits(f) : loami_to_f16(f);
    for (int b = 0, n = p->type == LOAM_F32 ? 4 : 2; b < n; b++)
        out[i * (uint64_t)n + (uint64_t)b] = (unsigned char)(u >> 8 * b);
    return p->type == LOAM_F32 ? f : loami_from_f16((uint16_t)u);
}

static void measure(const group *from, const group *to, loami_block_error *e)
{
    float squared[LANES] = { 0 }, squared_error[LANES] = { 0 }, most[LANES] = { 0 };
    for (int i = 0; i < GROUP; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            float x = value(from, i + k), d = fabsf(value(to, i + k) - x);
            squared[k] += x * x;
            squared_error[k] += d * d;
            most[k] = d > most[k] ? d : most[k];
        }
    }
    e->squared += total(squared);
    e->squared_error += total(squared_error);
    for (int k = 0; k < LANES; k++)
        if (most[k] > e->largest) e->largest = most[k];
    e->weights += GROUP;
}

static void put_group(const loami_block_plan *p, const kind *k, group *g, uint64_t i, unsigned char *codes,
                      unsigned char *scales, unsigned char *biases, loami_block_error *e)
{
    group from = *g;
    if (!k->direct) join(g, (int)p->quant.bits);
    set(g, put(p, scales, i, g->scale[0]), put(p, biases, i, g->bias[0]));
    pack(g->code, p->quant.bits, codes + i * p->quant.bits * 4);
    if (!p->exact) measure(&from, g, e);
}

/* Scale byte and codes of 32 weights, first half in the low nibbles, to MLX's order. */
static void put_mxfp4(const unsigned char *block, uint64_t i, unsigned char *codes, unsigned char *scales)
{
    group g;
    nibbles(&g, block + 1);
    pack(g.code, 4, codes + i * 16);
    scales[i] = block[0];
}

void loami_block_row(const loami_block_plan *p, const unsigned char *row, uint64_t cols, unsigned char *codes,
                     unsigned char *scales, unsigned char *biases, loami_block_error *e)
{
    const kind *k = &kinds[p->source];
    uint32_t size = loami_gguf_block_bytes(p->source), weights = loami_gguf_block_weights(p->source);
    group g[GROUPS_MAX];
    if (p->quant.mode == LOAM_Q_NONE) {
        memcpy(codes, row, (size_t)loami_block_code_bytes(p, cols));
        return;
    }
    for (uint64_t b = 0; b < cols / weights; b++, row += size) {
        uint64_t first = b * (weights / GROUP);
        if (!k->read) {
            put_mxfp4(row, b, codes, scales);
            continue;
        }
        k->read(g, row);
        for (uint32_t j = 0; j < weights / GROUP; j++)
            put_group(p, k, &g[j], first + j, codes, scales, biases, e);
    }
}
