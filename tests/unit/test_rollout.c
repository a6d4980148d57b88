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
    for (int i = 0; i < 20000; i++) { /* the share grows while both get worse: pooled rates would blame the new side */
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
    static const char loop[] = "It is. The cat sat on the mat. The cat sat on the mat. The cat sat on the mat. The cat sat on the mat. The cat sat on the mat.",
                      list[] = "1. one\n2. two\n3. three\n4. four\n5. five\n6. six\n7. seven\n8. eight\n9. nine\n10. ten\n11. eleven\n12. twelve\n";
    char dots[100];
    (void)state;
    memset(dots, '.', sizeof dots);
    assert_true(loami_repeats(loop, sizeof loop - 1));
    assert_true(loami_repeats(dots, sizeof dots));
    assert_false(loami_repeats(list, sizeof list - 1));
    assert_false(loami_repeats("hahaha", 6));
    assert_false(loami_repeats("", 0));
}

/* ---- the split ----------------------------------------------------------------------------------- */

/* Conversations of every length, many at a time: the share is met to half a per cent over ten thousand requests. */
static void test_the_share_is_met(void **state)
{
    static const double parts[] = { 0.01, 0.1, 0.5, 0.9 };
    (void)state;
    for (int lengths = 1; lengths <= 30; lengths += 29)
        for (int k = 0; k < 4; k++) {
            loami_split s = { .draws = 0 };
            struct {
                loami_side side;
                int left;
            } open[40] = { { 0, 0 } };
            salt = 100 + (uint64_t)k + (getenv("ROLLOUT_SALT") ? strtoul(getenv("ROLLOUT_SALT"), NULL, 10) : 0);
            for (int i = 0; i < 10000; i++) {
                int at = (int)(uniform() * 40);
                if (!open[at].left) {
                    open[at].side = loami_split_draw(loami_split_share(&s, parts[k]), uniform());
                    loami_split_drawn(&s, parts[k], open[at].side);
                    open[at].left = 1 + (int)(uniform() * lengths);
                }
                open[at].left--;
                loami_split_count(&s, open[at].side);
            }
            double got = (double)s.n[1] / 10000;
            if (getenv("ROLLOUT_TELL")) printf("SHARE %g %d %g\n", parts[k], lengths, got);
            if (fabs(got - parts[k]) > 0.005) fail_msg("wanted %g, got %g with conversations of up to %d", parts[k], got, lengths);
        }
}

static void test_a_growing_share_moves_only_to_the_new_side(void **state)
{
    (void)state;
    for (double u = 0; u < 1; u += 0.001)
        for (double share = 0; share < 1; share += 0.05)
            if (loami_split_draw(share, u) == LOAMI_SIDE_NEW) assert_int_equal(loami_split_draw(share + 0.05, u), LOAMI_SIDE_NEW);
    loami_split none = { .draws = 0 };
    assert_true(loami_split_share(&none, 0) == 0 && loami_split_share(&none, 1) == 1);
}

static void test_sides_are_remembered_by_the_file(void **state)
{
    char *dir = temp_make(), path[LOAMI_PATH_MAX];
    loami_sides *s;
    loami_seat seat;
    loam_err err;
    (void)state;
    CHECK_OK(loami_path_join(path, dir, "sides", &err), err, 0);
    CHECK_OK(loami_sides_open(&s, path, &err), err, 0);
    for (uint32_t i = 1; i <= 5000; i++) {
        seat = (loami_seat){ .side = i % 3 ? LOAMI_SIDE_OLD : LOAMI_SIDE_NEW, .requests = 1, .used_s = i, .share = 0.25F };
        loami_sides_put(s, i, &seat);
    }
    loami_sides_close(s); /* the same as a kill: every record was written at once */
    FILE *f = fopen(path, "ab");
    assert_non_null(f);
    fputs("torn", f);
    fclose(f);
    CHECK_OK(loami_sides_open(&s, path, &err), err, 0);
    assert_int_equal(loami_sides_count(s), 5000);
    for (uint32_t i = 1; i <= 5000; i++) {
        assert_true(loami_sides_get(s, i, &seat));
        assert_int_equal(seat.side, i % 3 ? LOAMI_SIDE_OLD : LOAMI_SIDE_NEW);
        assert_true(seat.share == 0.25F && seat.used_s == i);
    }
    assert_false(loami_sides_get(s, 6000, &seat));
    assert_int_equal(loami_sides_alive(s, LOAMI_SIDE_NEW, 4000), 333);
    CHECK_OK(loami_sides_clear(s, &err), err, 0);
    assert_false(loami_sides_get(s, 1, &seat));
    loami_sides_close(s);
    temp_remove(dir);
}

static void test_a_damaged_record_is_nothing(void **state)
{
    char *dir = temp_make(), path[LOAMI_PATH_MAX];
    unsigned char bytes[24 * 3];
    loami_sides *s;
    loami_seat seat = { .side = LOAMI_SIDE_NEW, .used_s = 1 };
    loam_err err;
    (void)state;
    CHECK_OK(loami_path_join(path, dir, "sides", &err), err, 0);
    CHECK_OK(loami_sides_open(&s, path, &err), err, 0);
    for (uint64_t i = 1; i <= 3; i++) loami_sides_put(s, i, &seat);
    loami_sides_close(s);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fread(bytes, 1, sizeof bytes, f), sizeof bytes);
    bytes[24 + 8] ^= 4; /* of the second one's time */
    rewind(f);
    assert_int_equal(fwrite(bytes, 1, sizeof bytes, f), sizeof bytes);
    fclose(f);
    CHECK_OK(loami_sides_open(&s, path, &err), err, 0);
    assert_int_equal(loami_sides_count(s), 2);
    loami_sides_close(s);
    temp_remove(dir);
}

static void test_the_longest_silent_are_forgotten_first(void **state)
{
    loami_sides *s;
    loami_seat seat = { .side = LOAMI_SIDE_NEW };
    loam_err err;
    (void)state;
    CHECK_OK(loami_sides_open(&s, NULL, &err), err, 0);
    for (uint64_t i = 1; i <= 2000000; i++) {
        seat.used_s = (uint32_t)(i / 100);
        loami_sides_put(s, i, &seat);
    }
    assert_true(loami_sides_count(s) < 2 * LOAMI_SIDES_MAX);
    assert_true(loami_sides_get(s, 2000000, &seat));
    assert_false(loami_sides_get(s, 1, &seat));
    loami_sides_close(s);
}

/* ---- plan, gate, file ---------------------------------------------------------------------------- */

static int read_gate(loami_gate *g, const char *text, loam_err *err)
{
    return loami_gate_parse(g, text, strlen(text), "gate.json", err);
}

static void test_gate_files(void **state)
{
    loami_gate g, again;
    loami_buf b = { 0 };
    loam_err err;
    (void)state;
    CHECK_OK(read_gate(&g, "{\"false_alarms\":0.01,\"prove\":true,\"gates\":{\"ttft\":{\"factor\":1.5,\"slack_ms\":20},\"errors\":{\"increase\":0.005},\"shorter\":false}}", &err), err, 0);
    assert_true(g.false_alarms == 0.01 && g.prove && g.doubt == 5 && g.of[LOAMI_M_TTFT].limit == 1.5 && g.of[LOAMI_M_TTFT].slack_ms == 20);
    assert_true(g.of[LOAMI_M_SHORTER].off && !g.of[LOAMI_M_LONGER].off && g.of[LOAMI_M_ERRORS].limit == 0.005);
    loami_gate_write(&g, &b);
    CHECK_OK(read_gate(&again, b.data, &err), err, 0);
    loami_buf_free(&b);
    assert_true(again.of[LOAMI_M_TTFT].slack_ms == 20 && again.of[LOAMI_M_SHORTER].off && again.prove);
    CHECK_FAILS(read_gate(&g, "[]", &err), err, LOAM_E_FORMAT, "object");
    CHECK_FAILS(read_gate(&g, "{\"false_alarm\":1}", &err), err, LOAM_E_FORMAT, "false_alarms, doubt");
    CHECK_FAILS(read_gate(&g, "{\"false_alarms\":0.9}", &err), err, LOAM_E_FORMAT, "false_alarms");
    CHECK_FAILS(read_gate(&g, "{\"gates\":{\"ttft\":{\"increase\":1}}}", &err), err, LOAM_E_FORMAT, "factor");
    CHECK_FAILS(read_gate(&g, "{\"gates\":{\"ttft\":{\"factor\":0.5}}}", &err), err, LOAM_E_FORMAT, "gates.ttft.factor");
    CHECK_FAILS(read_gate(&g, "{\"gates\":{\"ttfb\":{}}}", &err), err, LOAM_E_FORMAT, "later_errors");
    CHECK_FAILS(read_gate(&g, "{", &err), err, LOAM_E_FORMAT, "gate.json");
}

static void test_the_parts_of_the_false_alarms_are_one(void **state)
{
    double sum = 0;
    (void)state;
    for (int m = 0; m < LOAMI_METRICS; m++) sum += loami_gate_metrics[m].part;
    assert_true(fabs(sum - 1) < 1e-12);
}

static loami_plan plan_of(const char *text)
{
    loami_plan p;
    json_t *v = NULL;
    loam_err err;
    assert_int_equal(loami_json_parse(&v, text, strlen(text), "plan", &err), 0);
    if (loami_plan_read(&p, v, "plan", &err) < 0) fail_msg("%s", err.msg);
    json_decref(v);
    return p;
}

static void test_a_state_is_read_back_as_it_was(void **state)
{
    char *dir = temp_make(), path[LOAMI_PATH_MAX];
    loami_plan p = plan_of("{\"from\":[\"a\",\"b\"],\"to\":\"c\",\"steps\":[0,2.5,100],\"sticky\":\"key\",\"shadow\":0.25,\"min_time_s\":7}");
    loami_rollout r = { .step = 0 }, now;
    loam_err err;
    (void)state;
    CHECK_OK(loami_path_join(path, dir, "r.json", &err), err, 0);
    CHECK_OK(loami_rollout_load(&now, path, &err), err, 0);
    assert_int_equal(now.state, LOAMI_R_NONE);
    CHECK_OK(loami_rollout_start(&r, &p, 0xfedcba9876543210u, 100, &err), err, 0);
    CHECK_OK(loami_rollout_warmed(&r, 101, &err), err, 0);
    CHECK_OK(loami_rollout_promote(&r, 102, "operator", "{\"x\":1}", &err), err, 0);
    CHECK_OK(loami_rollout_pause(&r, 103, &err), err, 0);
    CHECK_OK(loami_rollout_save(&r, path, &err), err, 0);
    CHECK_OK(loami_rollout_load(&now, path, &err), err, 0);
    assert_true(now.state == LOAMI_R_PAUSED && now.paused_in == LOAMI_R_WARMING && now.step == 1 && now.id == r.id);
    assert_true(now.plan.steps[1] == 2.5 && now.plan.from.n == 2 && now.plan.sticky == LOAMI_STICKY_KEY && now.plan.shadow == 0.25);
    assert_int_equal(json_array_size(now.history), 4);
    assert_true(json_equal(now.history, r.history));
    assert_true(loami_rollout_part(&now) == 0); /* it was at 0 % before */
    loami_rollout_free(&r);
    loami_rollout_free(&now);
    temp_remove(dir);
}

static void test_changes_that_make_no_sense_are_refused(void **state)
{
    loami_plan p = plan_of("{\"from\":\"a\",\"to\":\"c\"}");
    loami_rollout r = { .step = 0 };
    loam_err err;
    (void)state;
    CHECK_FAILS(loami_rollout_back(&r, 1, "operator", "", NULL, &err), err, LOAM_E_ARG, "no rollout");
    CHECK_FAILS(loami_rollout_promote(&r, 1, "operator", NULL, &err), err, LOAM_E_ARG, "running");
    CHECK_OK(loami_rollout_start(&r, &p, 1, 1, &err), err, 0);
    CHECK_FAILS(loami_rollout_start(&r, &p, 1, 1, &err), err, LOAM_E_ARG, "roll it back first");
    CHECK_FAILS(loami_rollout_promote(&r, 1, "operator", NULL, &err), err, LOAM_E_ARG, "warming");
    CHECK_FAILS(loami_rollout_forget(&r, 1, &err), err, LOAM_E_ARG, "ended");
    CHECK_FAILS(loami_rollout_resume(&r, 1, &err), err, LOAM_E_ARG, "paused");
    CHECK_OK(loami_rollout_back(&r, 2, "operator", "why", NULL, &err), err, 0);
    CHECK_FAILS(loami_rollout_back(&r, 2, "operator", "why", NULL, &err), err, LOAM_E_ARG, "rolled back");
    assert_true(loami_rollout_part(&r) == 0);
    CHECK_OK(loami_rollout_forget(&r, 3, &err), err, 0);
    loami_rollout_free(&r);
}

static void test_the_history_has_an_end(void **state)
{
    loami_plan p = plan_of("{\"from\":\"a\",\"to\":\"c\"}");
    loami_rollout r = { .step = 0 };
    loam_err err;
    (void)state;
    for (int i = 0; i < LOAMI_HISTORY_MAX; i++) {
        loami_rollout_start(&r, &p, 1, i, &err);
        loami_rollout_back(&r, i, "operator", "", NULL, &err);
    }
    assert_int_equal(json_array_size(r.history), LOAMI_HISTORY_MAX);
    loami_rollout_free(&r);
}

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
        cmocka_unit_test(test_the_share_is_met),
        cmocka_unit_test(test_a_growing_share_moves_only_to_the_new_side),
        cmocka_unit_test(test_sides_are_remembered_by_the_file),
        cmocka_unit_test(test_a_damaged_record_is_nothing),
        cmocka_unit_test(test_the_longest_silent_are_forgotten_first),
        cmocka_unit_test(test_gate_files),
        cmocka_unit_test(test_the_parts_of_the_false_alarms_are_one),
        cmocka_unit_test(test_a_state_is_read_back_as_it_was),
        cmocka_unit_test(test_changes_that_make_no_sense_are_refused),
        cmocka_unit_test(test_the_history_has_an_end),
        cmocka_unit_test(test_a_judge_is_read_back_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
