/* Judging a rollout: bets, gates, and simulated rollouts with a fixed seed. */
#include "check.h"

#include "rollout/rollout.h"
#include "rollout/split.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

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

static const engine usual = { .errors = 0.002,
                              .ttft_s = 0.4,
                              .spread = 0.7,
                              .itl_s = 0.03,
                              .length = 0.2,
                              .empty = 0.001,
                              .invalid = 0.02 };

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
    loami_split_drawn(&s->split, loami_rollout_part(&s->r), side);
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
    loami_plan p = { .from = { .n = 1 },
                     .to = { .n = 1 },
                     .steps = { 10, 50, 100 },
                     .n_steps = 3,
                     .min_requests = min_requests };
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

static void test_a_slower_end_of_a_long_step_is_noticed(void **state)
{
    loami_gate gate;
    loami_judge j;
    engine bad = usual;
    (void)state;
    salt = 5;
    loami_gate_default(&gate);
    loami_judge_init(&j, &gate);
    bad.errors += 0.05;
    for (int i = 0; i < 100000; i++) {
        loami_outcome o = outcome(&usual, 0);
        o.on_new = uniform() < 0.5;
        o.share = 0.5;
        loami_judge_add(&j, &o);
    }
    assert_int_not_equal(loami_judge_verdict(&j, NULL), LOAMI_WORSE);
    int n = 0;
    for (; n < 20000 && loami_judge_verdict(&j, NULL) != LOAMI_WORSE; n++) {
        bool on_new = uniform() < 0.5;
        loami_outcome o = outcome(on_new ? &bad : &usual, 0);
        o.on_new = on_new;
        o.share = 0.5;
        loami_judge_add(&j, &o);
    }
    print_message("an engine that turns bad after 100,000 requests is found after %d more\n", n);
    assert_true(n < 5000);
}

static void test_drift_of_both_sides_is_nobodys_fault(void **state)
{
    loami_gate gate;
    loami_judge j;
    (void)state;
    salt = 6;
    loami_gate_default(&gate);
    loami_judge_init(&j, &gate);
    for (int i = 0; i < 20000;
         i++) { /* the share grows while both get worse: pooled rates would blame the new side */
        engine now = usual;
        double share = i < 10000 ? 0.1 : 0.5;
        now.errors = i < 10000 ? 0.001 : 0.1;
        now.ttft_s = i < 10000 ? 0.2 : 2;
        loami_outcome o = outcome(&now, 0);
        o.on_new = uniform() < share;
        o.share = share;
        loami_judge_add(&j, &o);
    }
    assert_int_not_equal(loami_judge_verdict(&j, NULL), LOAMI_WORSE);
}

static void test_one_client_in_a_loop_decides_nothing(void **state)
{
    loami_gate gate;
    loami_judge j;
    (void)state;
    loami_gate_default(&gate);
    loami_judge_init(&j, &gate);
    loami_outcome o = { .on_new = true, .share = 0.1, .failed = true };
    loami_judge_add(&j, &o); /* its first request and its second: the others are not judged */
    o.second = true;
    loami_judge_add(&j, &o);
    assert_int_not_equal(loami_judge_verdict(&j, NULL), LOAMI_WORSE);
}

static void test_what_is_no_worse_is_proven_and_what_is_worse_is_not(void **state)
{
    loami_gate gate;
    loami_judge good, bad_one;
    engine bad = usual;
    (void)state;
    salt = 7;
    bad.ttft_s *= 1.6;
    loami_gate_default(&gate);
    loami_judge_init(&good, &gate);
    loami_judge_init(&bad_one, &gate);
    for (int i = 0; i < 6000; i++) {
        bool on_new = uniform() < 0.5;
        loami_outcome o = outcome(&usual, 0);
        o.on_new = on_new;
        o.share = 0.5;
        loami_judge_add(&good, &o);
        o = outcome(on_new ? &bad : &usual, 0);
        o.on_new = on_new;
        o.share = 0.5;
        loami_judge_add(&bad_one, &o);
    }
    assert_true(loami_judge_proven(&good, LOAMI_M_TTFT) && loami_judge_proven(&good, LOAMI_M_ERRORS));
    assert_true(loami_judge_all_proven(&good));
    assert_false(loami_judge_proven(&bad_one, LOAMI_M_TTFT));
}

/* ---- bets ---------------------------------------------------------------------------------------- */

/* The mean of the wealth over all that can happen is what it was: a fair game, at the edge of the claim. */
static void test_bets_are_fair(void **state)
{
    static const double shares[] = { 0.01, 0.1, 0.5, 0.9, 1 }, centres[] = { 0, 0.1, 0.5, 0.9 };
    (void)state;
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 4; k++)
            for (int worse = 0; worse < 2; worse++) {
                double s = shares[i], rate = 0.2, allowed = 0.05, mean = 0;
                if (s == 1) rate = centres[k]; /* against the rate that was */
                if (rate + allowed > 1) continue;
                for (int what = 0; what < 4; what++) {
                    loami_bet b;
                    bool on_new = what & 1, bad = what & 2;
                    double p_bad = on_new ? rate + allowed : rate;
                    double p = (on_new ? s : 1 - s) * (bad ? p_bad : 1 - p_bad);
                    loami_trial t = { .on_new = on_new, .bad = bad, .share = s, .centre = centres[k] };
                    if (p == 0) continue;
                    loami_bet_init(&b);
                    if (worse)
                        loami_bet_worse(&b, &t, allowed);
                    else
                        loami_bet_no_worse(&b, &t, allowed);
                    assert_true(loami_bet_wealth(&b) > 0);
                    mean += p * loami_bet_wealth(&b);
                }
                assert_true(fabs(mean - 1) < 1e-9);
            }
}

static void test_quantiles_are_of_the_last_times(void **state)
{
    loami_window w = { .n = 0 };
    (void)state;
    for (int i = 0; i < 1000; i++) loami_window_add(&w, i % 500);
    assert_int_equal(w.n, LOAMI_WINDOW);
    assert_true(fabs(loami_window_quantile(&w, 0.5) - 371.5) < 1.5); /* of 244 to 499 */
    assert_true(loami_window_quantile(&w, 0) == 244 && loami_window_quantile(&w, 1) == 499);
}

static void test_repetition_is_seen(void **state)
{
    static const char loop[] = "It is. The cat sat on the mat. The cat sat on the mat. The cat sat on the "
                               "mat. The cat sat on the mat. The cat sat on the mat.",
                      list[] = "1. one\n2. two\n3. three\n4. four\n5. five\n6. six\n7. seven\n8. eight\n9. "
                               "nine\n10. ten\n11. eleven\n12. twelve\n";
    char dots[100];
    (void)state;
    memset(dots, '.', sizeof dots);
    assert_true(loami_repeats(loop, sizeof loop - 1));
    assert_true(loami_repeats(dots, sizeof dots));
    assert_false(loami_repeats(list, sizeof list - 1));
    assert_false(loami_repeats("hahaha", 6));
    assert_false(loami_repeats("", 0));
}

/* ---- its memory ---------------------------------------------------------------------------------- */

static void test_a_judge_is_read_back_as_it_was(void **state)
{
    loami_gate gate;
    loami_judge j, now;
    loami_buf b = { 0 };
    json_t *v = NULL;
    loam_err err;
    (void)state;
    salt = 9;
    loami_gate_default(&gate);
    loami_judge_init(&j, &gate);
    for (int i = 0; i < 1000; i++) {
        loami_outcome o = outcome(&usual, 0);
        o.on_new = uniform() < 0.3;
        o.share = 0.3;
        loami_judge_add(&j, &o);
    }
    loami_judge_write(&j, &b);
    loami_judge_init(&now, &gate);
    CHECK_OK(loami_json_parse(&v, b.data, b.len, "judge", &err), err, 0);
    CHECK_OK(loami_judge_read(&now, v, "judge", &err), err, 0);
    for (int m = 0; m < LOAMI_METRICS; m++) {
        assert_true(now.of[m].n[0] == j.of[m].n[0] && now.of[m].bad[1] == j.of[m].bad[1]);
        assert_true(loami_bet_wealth(&now.of[m].worse) == loami_bet_wealth(&j.of[m].worse));
        assert_int_equal(now.times[m].n, j.times[m].n);
    }
    json_array_append_new(json_object_get(json_object_get(v, "ttft"), "worse"), json_real(1));
    CHECK_FAILS(loami_judge_read(&now, v, "judge", &err), err, LOAM_E_FORMAT, "judge.ttft");
    json_decref(v);
    loami_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_are_rolled_back_before_half_of_the_requests_are_there),
        cmocka_unit_test(test_a_doubled_ttft_is_rolled_back_before_half_of_the_requests_are_there),
        cmocka_unit_test(test_an_engine_that_is_as_good_goes_through),
        cmocka_unit_test(test_a_slower_end_of_a_long_step_is_noticed),
        cmocka_unit_test(test_drift_of_both_sides_is_nobodys_fault),
        cmocka_unit_test(test_one_client_in_a_loop_decides_nothing),
        cmocka_unit_test(test_what_is_no_worse_is_proven_and_what_is_worse_is_not),
        cmocka_unit_test(test_bets_are_fair),
        cmocka_unit_test(test_quantiles_are_of_the_last_times),
        cmocka_unit_test(test_repetition_is_seen),
        cmocka_unit_test(test_a_judge_is_read_back_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
