/* Choosing tokens: against a sort, against probabilities, and on logits nobody would wish for. */
#include "check.h"
#include "engine/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { V = 1000 };

static uint32_t state = 1;

static float uniform(void)
{
    state = state * 1664525 + 1013904223;
    return (float)(state >> 8) / 16777216.0f;
}

static void fill(float *x, float spread)
{
    for (int i = 0; i < V; i++) x[i] = (uniform() - 0.5f) * spread;
}

static int32_t choose(const loam_sampling *how, const float *logits, uint32_t n_before)
{
    static loami_candidate scratch[V];
    float spare[V];
    loami_sampler s;
    assert_int_equal(loami_sampler_open(&s, how, V, NULL), 0);
    s.n_draws = n_before;
    int32_t id = loami_sample(&s, logits, spare, NULL, 0, scratch);
    loami_sampler_close(&s);
    return id;
}

static int rank_of(const float *x, int32_t id)
{
    int rank = 0;
    for (int i = 0; i < V; i++) rank += x[i] > x[id] || (x[i] == x[id] && i < id);
    return rank;
}

static void test_argmax(void **unused)
{
    (void)unused;
    float x[V];
    for (int round = 0; round < 200; round++) {
        fill(x, 10);
        x[(round * 7) % V] = x[(round * 13) % V]; /* ties go to the smaller id */
        assert_int_equal(rank_of(x, loami_argmax(x, V)), 0);
    }
    for (int i = 0; i < V; i++) x[i] = NAN;
    assert_int_equal(loami_argmax(x, V), 0);
    x[17] = -5;
    assert_int_equal(loami_argmax(x, V), 17);
}

static void test_greedy_and_seed(void **unused)
{
    (void)unused;
    float x[V];
    fill(x, 8);
    assert_int_equal(rank_of(x, choose(&(loam_sampling){ 0 }, x, 0)), 0);
    loam_sampling how = { .temperature = 1, .seed = 7, .has_seed = true };
    int differ = 0;
    for (uint32_t i = 0; i < 50; i++) {
        assert_int_equal(choose(&how, x, i), choose(&how, x, i));
        differ += choose(&how, x, i) != choose(&(loam_sampling){ .temperature = 1, .seed = 8 }, x, i);
    }
    assert_true(differ > 40);
}

/* The shortest run of likeliest tokens that reaches p, by sorting. */
static int nucleus(const float *x, double p, double temperature)
{
    double total = 0, sum = 0, top = x[loami_argmax(x, V)], w[V];
    int n = 0;
    for (int i = 0; i < V; i++) total += w[i] = exp((x[i] - top) / temperature);
    bool used[V] = { false };
    while (sum < p * total) {
        int best = -1;
        for (int i = 0; i < V; i++)
            if (!used[i] && (best < 0 || w[i] > w[best])) best = i;
        used[best] = true;
        sum += w[best];
        n++;
    }
    return n;
}

static void test_cuts(void **unused)
{
    (void)unused;
    float x[V];
    for (int round = 0; round < 20; round++) {
        fill(x, 12);
        int keep = nucleus(x, 0.6, 0.8), deepest = 0;
        for (uint32_t i = 0; i < 2000; i++) {
            int top_p = rank_of(x, choose(&(loam_sampling){ .temperature = 0.8f, .top_p = 0.6f, .seed = 1 }, x, i));
            assert_in_range(top_p, 0, keep - 1);
            deepest = top_p > deepest ? top_p : deepest;
            assert_in_range(rank_of(x, choose(&(loam_sampling){ .temperature = 5, .top_k = 3, .seed = 2 }, x, i)), 0, 2);
            int32_t id = choose(&(loam_sampling){ .temperature = 1, .min_p = 0.3f, .seed = 3 }, x, i);
            assert_true(exp(x[id] - x[loami_argmax(x, V)]) >= 0.2999);
        }
        assert_true(deepest >= keep / 2); /* and the cut is not tighter than asked */
    }
}

/* Drawn as often as its probability says: chi-squared over ten tokens, 9 degrees of freedom, 1 in 10^6. */
static void test_frequencies(void **unused)
{
    (void)unused;
    enum { N = 20000 };
    float x[V];
    double p[10], total = 0, chi = 0;
    int count[10] = { 0 };
    for (int i = 0; i < V; i++) x[i] = -INFINITY;
    for (int i = 0; i < 10; i++) total += p[i] = exp(x[i * 99] = 0.3f * (float)i);
    for (uint32_t i = 0; i < N; i++) {
        int32_t id = choose(&(loam_sampling){ .temperature = 1, .seed = 42 }, x, i);
        assert_int_equal(id % 99, 0);
        count[id / 99]++;
    }
    for (int i = 0; i < 10; i++) chi += pow(count[i] - N * p[i] / total, 2) / (N * p[i] / total);
    assert_true(chi < 45);
}

static void test_penalties(void **unused)
{
    (void)unused;
    static loami_candidate scratch[V];
    const loam_logit_bias bias[] = { { 5, 100 }, { -1, 100 }, { V, 100 } }; /* ids outside are nobody's */
    float x[V] = { 0 }, y[V];
    loami_sampler s;
    assert_int_equal(choose(&(loam_sampling){ .bias = bias, .n_bias = 3 }, x, 0), 5);

    loam_sampling how = { .repetition_penalty = 2, .presence_penalty = 0.5f, .frequency_penalty = 0.25f };
    assert_int_equal(loami_sampler_open(&s, &how, V, NULL), 0);
    loami_sampler_prompt(&s, (const int32_t[]){ 1, 2, 1 }, 3);
    loami_sampler_accept(&s, 2);
    loami_sampler_accept(&s, 3);
    loami_sampler_accept(&s, 3);
    x[0] = x[1] = x[2] = x[3] = 4;
    x[4] = -4;
    loami_sampler_accept(&s, 4);
    loami_sample(&s, x, y, (const int32_t[]){ 0 }, 1, scratch);
    assert_true(isinf(y[0]));                                    /* banned */
    assert_float_equal(y[1], 2, 1e-6);                           /* seen in the prompt: repetition only */
    assert_float_equal(y[2], 2 - 0.5 - 0.25, 1e-6);
    assert_float_equal(y[3], 2 - 0.5 - 2 * 0.25, 1e-6);
    assert_float_equal(y[4], -8 - 0.75, 1e-6);
    assert_float_equal(x[1], 4, 0);                              /* the logits stay */
    loami_sampler_close(&s);
}

static void test_logprobs(void **unused)
{
    (void)unused;
    static loami_candidate scratch[V];
    float x[V];
    loam_logprob top[20];
    double sum = 0;
    fill(x, 15);
    for (int i = 0; i < V; i++) sum += exp(x[i]);
    assert_float_equal(loami_log_sum_exp(x, V), log(sum), 1e-5);
    loami_top_logprobs(x, V, top, 20, scratch);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(rank_of(x, top[i].id), i);
        assert_float_equal(top[i].logprob, x[top[i].id] - log(sum), 1e-4);
    }
}

/* Infinities, NaN and enormous numbers: some id, no crash, never a forbidden one. */
static void test_hostile(void **unused)
{
    (void)unused;
    float x[V];
    const float bad[] = { NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 0, 1e-45f };
    for (int round = 0; round < 300; round++) {
        for (int i = 0; i < V; i++) x[i] = bad[(uint32_t)(uniform() * 7) % 7];
        loam_sampling how = { .temperature = round % 3 ? 1e-6f + uniform() * 100 : 0, .top_p = uniform(), .min_p = uniform() * 0.1f,
                              .top_k = (uint32_t)(uniform() * 20), .seed = (uint64_t)round };
        assert_in_range(choose(&how, x, 0), 0, V - 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_argmax),    cmocka_unit_test(test_greedy_and_seed), cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_frequencies), cmocka_unit_test(test_penalties),     cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
