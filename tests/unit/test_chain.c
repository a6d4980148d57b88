/* Steps that begin before the one before them is done: the answers are those of steps one by one, whatever ends them. Log-probabilities
 * need logits, so a request that wants them makes every step wait. */
#include "ask.h"

static uint64_t steps_ahead(const loam_engine *e)
{
    loam_engine_state st;
    loam_engine_stat(e, &st);
    return st.steps_ahead;
}

static loam_engine *open_engine(uint32_t max_running)
{
    return open_with((loam_options){ .max_running = max_running });
}

static const loam_sampling ways[] = {
    { .temperature = 0 },
    { .temperature = 1, .seed = 1, .has_seed = true },
    { .temperature = 0.7f, .top_p = 0.9f, .seed = 2, .has_seed = true },
    { .temperature = 1.3f, .top_k = 7, .seed = 3, .has_seed = true },
    { .temperature = 1, .min_p = 0.05f, .seed = 4, .has_seed = true },
    { .temperature = 2, .top_k = 40, .top_p = 0.5f, .min_p = 0.01f, .seed = 5, .has_seed = true },
    { .temperature = 1, .top_p = 1e-6f, .seed = 6, .has_seed = true },
};
enum { N_WAYS = sizeof ways / sizeof ways[0] };

static void choices_are_those_of_steps_one_by_one(void **unused)
{
    (void)unused;
    loam_engine *e = open_engine(1);
    for (int i = 0; i < N_WAYS; i++) {
        answer ahead, alone;
        loam_request r = { .max_new = 60, .ignore_eos = true, .how = ways[i] };
        uint64_t before = steps_ahead(e);
        run(e, "once upon a time", r, &ahead);
        assert_true(steps_ahead(e) >= before + 58);
        r.want_logprobs = true;
        before = steps_ahead(e);
        run(e, "once upon a time", r, &alone);
        assert_int_equal(steps_ahead(e), before);
        assert_int_equal(ahead.n, 60);
        assert_memory_equal(ahead.ids, alone.ids, sizeof alone.ids);
        loami_buf_free(&ahead.text);
        loami_buf_free(&alone.text);
    }
    expect_all_pages_back(e);
    loam_engine_close(e);
}

/* Some end by their length, some by a token, some are left; each has what it has alone. */
static void each_ends_by_itself(void **unused)
{
    (void)unused;
    loam_engine *e = open_engine(N_WAYS);
    answer alone[N_WAYS], got;
    loam_stream *s[N_WAYS];
    loam_request r[N_WAYS];
    for (uint32_t i = 0; i < N_WAYS; i++) {
        r[i] = (loam_request){ .max_new = 20 + 11 * i, .ignore_eos = true, .how = ways[i], .want_logprobs = true };
        run(e, "the same beginning", r[i], &alone[i]);
    }
    for (uint32_t i = 0; i < N_WAYS; i++) {
        r[i].want_logprobs = false;
        if (i % 3 == 1) {
            r[i].stop_tokens = &alone[i].ids[15];
            r[i].n_stop_tokens = 1;
        }
        s[i] = submit(e, "the same beginning", r[i]);
    }
    for (uint32_t i = 0; i < N_WAYS; i++) {
        bool leaves = i % 3 == 2;
        if (leaves) loam_stream_cancel(s[i]);
        read_all(s[i], &got);
        loam_stream_close(s[i]);
        uint32_t n = got.n;
        if (i % 3 == 0) assert_int_equal(n, 20 + 11 * i);
        if (i % 3 == 1) assert_true(n <= 15 && got.result.finish == LOAM_FINISH_STOP);
        assert_memory_equal(got.ids, alone[i].ids, n * sizeof *got.ids);
        loami_buf_free(&got.text);
        loami_buf_free(&alone[i].text);
    }
    assert_true(steps_ahead(e) > 0);
    expect_all_pages_back(e);
    loam_engine_close(e);
}

/* Who comes while others decode is served, and changes nothing for them. */
static void who_comes_is_let_in(void **unused)
{
    (void)unused;
    loam_engine *e = open_engine(2);
    answer alone, got, guest;
    loam_token t;
    loam_request r = { .max_new = 400, .ignore_eos = true, .how = ways[1] };
    run(e, "long", r, &alone);
    loam_stream *s = submit(e, "long", r);
    for (int i = 0; i < 10; i++) assert_int_equal(loam_stream_next(s, &t, UINT32_MAX), 1);
    run(e, "guest", (loam_request){ .max_new = 3, .ignore_eos = true }, &guest);
    assert_int_equal(guest.n, 3);
    read_all(s, &got);
    assert_int_equal(got.n, 390);
    assert_memory_equal(got.ids, alone.ids + 10, 390 * sizeof *got.ids);
    loami_buf_free(&alone.text);
    loami_buf_free(&got.text);
    loami_buf_free(&guest.text);
    loam_stream_close(s);
    expect_all_pages_back(e);
    loam_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choices_are_those_of_steps_one_by_one),
        cmocka_unit_test(each_ends_by_itself),
        cmocka_unit_test(who_comes_is_let_in),
    };
    folder = temp_make();
    tiny_make(folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove(folder);
    return failed;
}
