#include "engine/sample.h"
#include "base/err.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- what was seen -------------------------------------------------------------------------------------- */

static bool penalises(const loam_sampling *h)
{
    return (h->repetition_penalty > 0 && h->repetition_penalty != 1) || h->presence_penalty != 0 || h->frequency_penalty != 0;
}

int loami_sampler_open(loami_sampler *s, const loam_sampling *how, uint32_t vocab, loam_err *err)
{
    *s = (loami_sampler){ .how = *how, .seed = how->seed, .vocab = vocab };
    if (!penalises(how)) return 0;
    s->seen = malloc(vocab * sizeof *s->seen);
    s->count = calloc(vocab, sizeof *s->count);
    if (s->seen && s->count) return 0;
    loami_sampler_close(s);
    return loami_fail_nomem(err);
}

void loami_sampler_close(loami_sampler *s)
{
    free(s->seen);
    free(s->count);
    free(s->mask);
    loami_matcher_close(s->matcher);
    *s = (loami_sampler){ 0 };
}

static void see(loami_sampler *s, int32_t id, uint32_t times)
{
    if (!s->count || id < 0 || (uint32_t)id >= s->vocab) return;
    if (s->count[id] == 0) {
        s->count[id] = 1;
        s->seen[s->n_seen++] = (uint32_t)id;
    }
    s->count[id] += times;
}

void loami_sampler_prompt(loami_sampler *s, const int32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) see(s, ids[i], 0);
}

void loami_sampler_accept(loami_sampler *s, int32_t id)
{
    see(s, id, 1);
    if (s->matcher) loami_matcher_accept(s->matcher, id);
}

int loami_sampler_keep_to(loami_sampler *s, loam_grammar *g, loam_err *err)
{
    int rc = loami_matcher_open(&s->matcher, g, err);
    if (rc < 0) return rc;
    s->mask = malloc(loami_matcher_words(s->matcher) * sizeof *s->mask);
    return s->mask ? 0 : loami_fail_nomem(err);
}

bool loami_sampler_over(const loami_sampler *s)
{
    return s->matcher && loami_matcher_must_end(s->matcher);
}

/* Takes what the grammar forbids out of the logits. False: that is all. */
static bool forbid(const loami_sampler *s, float *logits)
{
    if (!loami_matcher_mask(s->matcher, s->mask)) return false;
    for (uint32_t i = 0; i < s->vocab; i += 64) {
        uint64_t bits = s->mask[i / 64];
        uint32_t n = s->vocab - i < 64 ? s->vocab - i : 64;
        if (bits == UINT64_MAX) continue;
        for (uint32_t k = 0; k < n; k++) logits[i + k] = bits >> k & 1 ? logits[i + k] : -INFINITY;
    }
    return true;
}

static void penalise(const loami_sampler *s, float *logits)
{
    const loam_sampling *h = &s->how;
    float repetition = h->repetition_penalty > 0 ? h->repetition_penalty : 1;
    for (uint32_t i = 0; i < h->n_bias; i++)
        if (h->bias[i].id >= 0 && (uint32_t)h->bias[i].id < s->vocab) logits[h->bias[i].id] += h->bias[i].bias;
    for (uint32_t i = 0; i < s->n_seen; i++) {
        float *x = &logits[s->seen[i]];
        uint32_t times = s->count[s->seen[i]] - 1;
        *x = *x > 0 ? *x / repetition : *x * repetition;
        if (times) *x -= h->presence_penalty + (float)times * h->frequency_penalty;
    }
}

/* ---- choosing ------------------------------------------------------------------------------------------- */

/* The largest of a block. Maxima side by side: of a single one compilers make no vector loop, since they may not reorder it. */
static float largest(const float *x, uint32_t n)
{
    enum { LANES = 16 };
    float top[LANES], best = -INFINITY;
    uint32_t i = 0;
    for (uint32_t k = 0; k < LANES; k++) top[k] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (uint32_t k = 0; k < LANES; k++) top[k] = x[i + k] > top[k] ? x[i + k] : top[k];
    for (uint32_t k = 0; k < LANES; k++) best = top[k] > best ? top[k] : best;
    for (; i < n; i++) best = x[i] > best ? x[i] : best;
    return best;
}

int32_t loami_argmax(const float *logits, uint32_t n)
{
    /* Only a block that beats the best is searched. */
    enum { BLOCK = 1024 };
    float best = -INFINITY;
    uint32_t at = 0;
    for (uint32_t b = 0; b < n; b += BLOCK) {
        float top = largest(logits + b, n - b < BLOCK ? n - b : BLOCK);
        if (!(top > best)) continue;
        best = top;
        for (at = b; logits[at] != top;) at++;
    }
    return (int32_t)at;
}

/* e^x for x <= 0, relative error below 3e-7: 2^n times a polynomial on [-0.5, 0.5] * ln 2. Written so that
 * compilers make a vector loop of it; results are the same with or without one. */
static inline float exp_negative(float x)
{
    x = x > -87 ? x : -87; /* NaN too */
    float n = x * 1.44269504f;
    n = (n + 12582912.0f) - 12582912.0f; /* to the nearest integer: 1.5 * 2^23 leaves no bits for a fraction */
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1;
    union {
        int32_t i;
        float f;
    } two = { .i = ((int32_t)n + 127) * (1 << 23) };
    return p * two.f;
}

static bool before(loami_candidate a, loami_candidate b)
{
    return a.weight > b.weight || (a.weight == b.weight && a.id < b.id);
}

static void swap(loami_candidate *a, loami_candidate *b)
{
    loami_candidate t = *a;
    *a = *b;
    *b = t;
}

/* Puts a middle element of c[lo, hi) where it belongs, those before it in front; returns its place. */
static uint32_t partition(loami_candidate *c, uint32_t lo, uint32_t hi)
{
    uint32_t mid = lo + (hi - lo) / 2, last = hi - 1, at = lo;
    if (before(c[mid], c[lo])) swap(&c[mid], &c[lo]);
    if (before(c[last], c[lo])) swap(&c[last], &c[lo]);
    if (before(c[last], c[mid])) swap(&c[last], &c[mid]);
    swap(&c[mid], &c[last]);
    for (uint32_t i = lo; i < last; i++)
        if (before(c[i], c[last])) swap(&c[i], &c[at++]);
    swap(&c[at], &c[last]);
    return at;
}

/* Moves the k first (in order of `before`) of n candidates to the front, in any order. */
static void keep_top(loami_candidate *c, uint32_t n, uint32_t k)
{
    uint32_t lo = 0, hi = n;
    while (lo < k && hi - lo > 1) {
        uint32_t at = partition(c, lo, hi);
        if (at < k) lo = at + 1;
        else hi = at;
    }
}

/* Moves the shortest run of first candidates whose weights reach `mass` to the front; returns its length. */
static uint32_t keep_mass(loami_candidate *c, uint32_t n, double mass)
{
    uint32_t lo = 0, hi = n;
    while (hi - lo > 1) {
        uint32_t at = partition(c, lo, hi);
        double left = 0;
        for (uint32_t i = lo; i <= at; i++) left += c[i].weight;
        if (left < mass) {
            mass -= left;
            lo = at + 1;
        } else if (left - c[at].weight >= mass && at > lo) {
            hi = at;
        } else {
            return at + 1;
        }
    }
    return hi > 0 ? hi : 1;
}

static double sum_of(const loami_candidate *c, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += c[i].weight;
    return sum;
}

/* Uniform in [0, 1): splitmix64 (Steele et al. 2014) of seed and the number of the draw. */
static double drawn(const loami_sampler *s, uint64_t nth)
{
    uint64_t z = s->seed + nth * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* Candidates in order of id; of those after `last` (in order of `before`) none. */
static uint32_t weigh(const loami_sampler *s, const float *logits, loami_candidate *c, loami_candidate last)
{
    float top = logits[loami_argmax(logits, s->vocab)], scale = 1 / s->how.temperature;
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->vocab; i++) c[i].weight = exp_negative((logits[i] - top) * scale);
    for (uint32_t i = 0; i < s->vocab; i++) {
        loami_candidate it = { c[i].weight, (int32_t)i };
        if (!before(last, it) && logits[i] > -INFINITY) c[n++] = it;
    }
    return n;
}

static loami_candidate last_of(const loami_candidate *c, uint32_t n)
{
    loami_candidate last = c[0];
    for (uint32_t i = 1; i < n; i++) last = before(last, c[i]) ? c[i] : last;
    return last;
}

/* Most of the time the likeliest token is allowed, and no mask is needed. With a matcher logits are spare. */
static int32_t greedy(const loami_sampler *s, const float *logits, float *spare)
{
    int32_t id = loami_argmax(logits, s->vocab);
    if (!s->matcher || (logits[id] > -INFINITY && loami_matcher_allows(s->matcher, id))) return id;
    if (!forbid(s, spare)) return -1;
    id = loami_argmax(logits, s->vocab);
    return logits[id] > -INFINITY ? id : -1;
}

int32_t loami_sample(loami_sampler *s, const float *logits, float *spare, const int32_t *banned, uint32_t n_banned, loami_candidate *c)
{
    const loam_sampling *h = &s->how;
    if (!loami_sampler_plain(s) || n_banned) {
        memcpy(spare, logits, s->vocab * sizeof *spare);
        penalise(s, spare);
        for (uint32_t i = 0; i < n_banned; i++)
            if (banned[i] >= 0 && (uint32_t)banned[i] < s->vocab) spare[banned[i]] = -INFINITY;
        logits = spare;
    }
    if (!(h->temperature > 0)) return greedy(s, logits, spare);
    if (s->matcher && !forbid(s, spare)) return -1;

    uint32_t all = weigh(s, logits, c, (loami_candidate){ h->min_p > 0 ? h->min_p : 0, INT32_MAX }), n = all;
    if (n == 0) return greedy(s, logits, spare);
    if (h->top_k && h->top_k < n) {
        keep_top(c, n, h->top_k);
        n = h->top_k;
    }
    if (h->top_p > 0 && h->top_p < 1) n = keep_mass(c, n, h->top_p * sum_of(c, n));
    if (n < all) n = weigh(s, logits, c, last_of(c, n));
    double r = drawn(s, ++s->n_draws) * sum_of(c, n);
    for (uint32_t i = 0; i + 1 < n; i++) {
        r -= c[i].weight;
        if (r < 0) return c[i].id;
    }
    return c[n - 1].id;
}

/* ---- elsewhere ------------------------------------------------------------------------------------------ */

bool loami_sampler_plain(const loami_sampler *s)
{
    return !s->count && s->how.n_bias == 0 && !s->matcher;
}

loam_pick loami_sampler_pick(const loami_sampler *s, uint32_t ahead)
{
    const loam_sampling *h = &s->how;
    const float below_one = 0x1.fffffep-1f;
    if (!(h->temperature > 0)) return (loam_pick){ 0 };
    double r = drawn(s, s->n_draws + 1 + ahead);
    return (loam_pick){ h->temperature, h->min_p, h->top_p, h->top_k, r < (double)below_one ? (float)r : below_one };
}

void loami_sampler_drew(loami_sampler *s)
{
    if (s->how.temperature > 0) s->n_draws++;
}

/* ---- log-probabilities ---------------------------------------------------------------------------------- */

double loami_log_sum_exp(const float *logits, uint32_t n)
{
    float top = logits[loami_argmax(logits, n)];
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += exp_negative(logits[i] - top);
    return top + log(sum);
}

static int by_weight(const void *a, const void *b)
{
    return before(*(const loami_candidate *)a, *(const loami_candidate *)b) ? -1 : 1;
}

uint32_t loami_rank(const float *logits, uint32_t vocab, int32_t id)
{
    uint32_t rank = 1;
    for (uint32_t i = 0; i < vocab; i++) rank += logits[i] > logits[id];
    return rank;
}

void loami_top_logprobs(const float *logits, uint32_t vocab, loam_logprob *out, uint32_t k, loami_candidate *c)
{
    double lse = loami_log_sum_exp(logits, vocab);
    for (uint32_t i = 0; i < vocab; i++) c[i] = (loami_candidate){ logits[i], (int32_t)i };
    keep_top(c, vocab, k);
    qsort(c, k, sizeof *c, by_weight);
    for (uint32_t i = 0; i < k; i++) out[i] = (loam_logprob){ c[i].id, (float)(c[i].weight - lse) };
}
