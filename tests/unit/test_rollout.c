/* The rollout without sockets: bets, gates, splits, states, files. Simulations have a fixed seed. */
#include "check.h"

#include "base/file.h"
#include "rollout/rollout.h"
#include "rollout/split.h"
#include "temp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static uint64_t salt;

static double uniform(void)
{
    uint64_t z = salt += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static double normal(void)
{
    return sqrt(-2 * log(uniform() + 1e-18)) * cos(6.283185307179586 * uniform());
}

/* ---- simulated rollouts -------------------------------------------------------------------------- */

/* How an engine behaves. */
typedef struct engine {
    double errors, ttft_s, spread, itl_s, length, empty, invalid;
} engine;

static const engine usual = { .errors = 0.002, .ttft_s = 0.4, .spread = 0.7, .itl_s = 0.03, .length = 0.2, .empty = 0.001, .invalid = 0.02 };

typedef struct run {
    loami_rollout r;
    loami_judge j;
    loami_split split;
    uint64_t requests; /* of the new side in this step */
} run;

static loami_outcome outcome(const engine *e, double hour)
{
    double busy = 1 + 0.5 * sin(hour); /* both sides are slower at times */
    loami_outcome o = { .failed = uniform() < e->errors * busy,
                        .ttft_s = e->ttft_s * busy * exp(e->spread * normal()),
                        .itl_s = e->itl_s * busy * exp(0.2 * normal()),
                        .finish = uniform() < e->length ? LOAMI_END_LENGTH : LOAMI_END_STOP,
                        .whole = true,
                        .empty = uniform() < e->empty,
                        .checked = uniform() < 0.1 };
    o.invalid = o.checked && uniform() < e->invalid;
    o.token_s = o.itl_s + o.ttft_s / 200;
    return o;
}

/* One request; true when the rollout ended. */
static bool one(run *s, const engine *old, const engine *new, int64_t now)
{
    char why[300];
    loam_err err;
    double share = loami_split_share(&s->split, loami_rollout_part(&s->r));
    loami_side side = loami_split_draw(share, uniform());
    loami_outcome o = outcome(side == LOAMI_SIDE_NEW ? new : old, (double)now / 3000);
    loami_split_count(&s->split, side);
    o.on_new = side == LOAMI_SIDE_NEW;
    o.share = share;
    s->requests += o.on_new;
    loami_judge_add(&s->j, &o);
    loami_outcome later = o;
    later.second = true;
    later.failed = uniform() < (o.on_new ? new : old)->errors;
    if (uniform() < 0.5) loami_judge_add(&s->j, &later);
    switch (loami_rollout_advise(&s->r, &s->j, s->requests, 1e9, why, sizeof why)) {
    case LOAMI_GO_BACK: loami_rollout_back(&s->r, now, "gate", why, NULL, &err); return true;
    case LOAMI_GO_ON:
        loami_rollout_promote(&s->r, now, "plan", NULL, &err);
        if (s->r.state == LOAMI_R_DONE) return true;
        loami_rollout_warmed(&s->r, now, &err);
        s->requests = 0;
        s->split = (loami_split){ 0 };
        return false;
    default: return false;
    }
}

/* The step in which it was rolled back, or -1 when it went through. */
static int simulate(const engine *old, const engine *new, uint32_t min_requests)
{
    loam_err err;
    loami_plan p = { .from = { .n = 1 }, .to = { .n = 1 }, .steps = { 10, 50, 100 }, .n_steps = 3, .min_requests = min_requests };
    run s = { .requests = 0 };
    loami_gate_default(&p.gate);
    loami_rollout_start(&s.r, &p, 1, 0, &err);
    loami_rollout_warmed(&s.r, 0, &err);
    loami_judge_init(&s.j, &p.gate);
    for (int64_t t = 0; t < 200000; t++)
        if (one(&s, old, new, t)) break;
    int step = s.r.state == LOAMI_R_ROLLED_BACK ? (int)s.r.step : -1;
    if (step < 0 && s.r.state != LOAMI_R_DONE) step = 99; /* it hangs */
    if (getenv("ROLLOUT_TELL") && step >= 0) printf("step %d: %s\n", step, s.r.why);
    loami_rollout_free(&s.r);
    return step;
}

static int caught_in_first_step(const engine *new, int runs)
{
    int n = 0;
    for (int i = 0; i < runs; i++) n += simulate(&usual, new, 500) == 0;
    return n;
}

static int scale(void)
{
    const char *s = getenv("ROLLOUT_RUNS");
    return s ? atoi(s) : 100;
}

static void test_errors_are_rolled_back_before_half_of_the_requests_are_there(void **state)
{
    (void)state;
    salt = 1;
    engine bad = usual;
    bad.errors += 0.05;
    int n = caught_in_first_step(&bad, scale());
    print_message("5 %% errors: %d of %d rolled back in the first step\n", n, scale());
    assert_true(n * 100 >= 99 * scale());
}

static void test_a_doubled_ttft_is_rolled_back_before_half_of_the_requests_are_there(void **state)
{
    (void)state;
    salt = 2;
    engine bad = usual;
    bad.ttft_s *= 2;
    int n = caught_in_first_step(&bad, scale());
    print_message("doubled TTFT: %d of %d rolled back in the first step\n", n, scale());
    assert_true(n * 100 >= 99 * scale());
}

static void test_an_engine_that_is_as_good_goes_through(void **state)
{
    int runs = 3 * scale(), back = 0;
    (void)state;
    salt = 3;
    for (int i = 0; i < runs; i++) {
        int step = simulate(&usual, &usual, 500);
        assert_int_not_equal(step, 99);
        back += step >= 0;
    }
    print_message("A/A: %d of %d rolled back\n", back, runs);
    assert_true(back * 100 < runs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_are_rolled_back_before_half_of_the_requests_are_there),
        cmocka_unit_test(test_a_doubled_ttft_is_rolled_back_before_half_of_the_requests_are_there),
        cmocka_unit_test(test_an_engine_that_is_as_good_goes_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
