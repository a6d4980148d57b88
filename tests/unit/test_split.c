/* A rollout's split, and what is written of it: sides, plans, states. */
#include "check.h"

#include "base/file.h"
#include "rollout/rollout.h"
#include "rollout/split.h"
#include "temp.h"

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

/* ---- the split ----------------------------------------------------------------------------------- */

/* Conversations of every length, many at a time: the share is met to half a per cent over ten thousand
 * requests. */
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
            salt = 100 + (uint64_t)k +
                   (getenv("ROLLOUT_SALT") ? strtoul(getenv("ROLLOUT_SALT"), NULL, 10) : 0);
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
            if (fabs(got - parts[k]) > 0.005)
                fail_msg("wanted %g, got %g with conversations of up to %d", parts[k], got, lengths);
        }
}

static void test_a_growing_share_moves_only_to_the_new_side(void **state)
{
    (void)state;
    for (double u = 0; u < 1; u += 0.001)
        for (double share = 0; share < 1; share += 0.05)
            if (loami_split_draw(share, u) == LOAMI_SIDE_NEW)
                assert_int_equal(loami_split_draw(share + 0.05, u), LOAMI_SIDE_NEW);
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
        seat = (loami_seat){
            .side = i % 3 ? LOAMI_SIDE_OLD : LOAMI_SIDE_NEW, .requests = 1, .used_s = i, .share = 0.25F
        };
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

static void test_two_processes_share_the_file(void **state)
{
    char *dir = temp_make(), path[LOAMI_PATH_MAX];
    loami_sides *old, *new;
    loami_seat seat = { .side = LOAMI_SIDE_NEW, .used_s = 1 };
    loam_err err;
    (void)state;
    CHECK_OK(loami_path_join(path, dir, "sides", &err), err, 0);
    CHECK_OK(loami_sides_open(&old, path, &err), err, 0);
    loami_sides_put(old, 1, &seat);
    CHECK_OK(loami_sides_open(&new, path, &err), err, 0);
    loami_sides_put(old, 2, &seat);
    loami_sides_put(new, 3, &seat);
    for (uint64_t i = 1; i <= 3; i++)
        assert_true(loami_sides_get(new, i, &seat) && loami_sides_get(old, i, &seat));
    loami_sides_close(old);
    loami_sides_close(new);
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
    CHECK_OK(read_gate(&g,
                       "{\"false_alarms\":0.01,\"prove\":true,\"gates\":{\"ttft\":{\"factor\":1.5,\"slack_"
                       "ms\":20},\"errors\":{\"increase\":0.005},\"shorter\":false}}",
                       &err),
             err, 0);
    assert_true(g.false_alarms == 0.01 && g.prove && g.doubt == 5 && g.of[LOAMI_M_TTFT].limit == 1.5 &&
                g.of[LOAMI_M_TTFT].slack_ms == 20);
    assert_true(g.of[LOAMI_M_SHORTER].off && !g.of[LOAMI_M_LONGER].off &&
                g.of[LOAMI_M_ERRORS].limit == 0.005);
    loami_gate_write(&g, &b);
    CHECK_OK(read_gate(&again, b.data, &err), err, 0);
    loami_buf_free(&b);
    assert_true(again.of[LOAMI_M_TTFT].slack_ms == 20 && again.of[LOAMI_M_SHORTER].off && again.prove);
    CHECK_FAILS(read_gate(&g, "[]", &err), err, LOAM_E_FORMAT, "object");
    CHECK_FAILS(read_gate(&g, "{\"false_alarm\":1}", &err), err, LOAM_E_FORMAT, "false_alarms, doubt");
    CHECK_FAILS(read_gate(&g, "{\"false_alarms\":0.9}", &err), err, LOAM_E_FORMAT, "false_alarms");
    CHECK_FAILS(read_gate(&g, "{\"gates\":{\"ttft\":{\"increase\":1}}}", &err), err, LOAM_E_FORMAT, "factor");
    CHECK_FAILS(read_gate(&g, "{\"gates\":{\"ttft\":{\"factor\":0.5}}}", &err), err, LOAM_E_FORMAT,
                "gates.ttft.factor");
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
    loami_plan p = plan_of("{\"from\":[\"a\",\"b\"],\"to\":\"c\",\"steps\":[0,2.5,100],\"sticky\":\"key\","
                           "\"shadow\":0.25,\"min_time_s\":7}");
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
    assert_true(now.state == LOAMI_R_PAUSED && now.paused_in == LOAMI_R_WARMING && now.step == 1 &&
                now.id == r.id);
    assert_true(now.plan.steps[1] == 2.5 && now.plan.from.n == 2 && now.plan.sticky == LOAMI_STICKY_KEY &&
                now.plan.shadow == 0.25);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_share_is_met),
        cmocka_unit_test(test_a_growing_share_moves_only_to_the_new_side),
        cmocka_unit_test(test_sides_are_remembered_by_the_file),
        cmocka_unit_test(test_two_processes_share_the_file),
        cmocka_unit_test(test_a_damaged_record_is_nothing),
        cmocka_unit_test(test_the_longest_silent_are_forgotten_first),
        cmocka_unit_test(test_gate_files),
        cmocka_unit_test(test_the_parts_of_the_false_alarms_are_one),
        cmocka_unit_test(test_a_state_is_read_back_as_it_was),
        cmocka_unit_test(test_changes_that_make_no_sense_are_refused),
        cmocka_unit_test(test_the_history_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
