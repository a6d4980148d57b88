/* Guesses at what comes next: what is guessed, how many, and that they change nothing but the time it takes. */
#include "check.h"
#include "tiny.h"

#include "engine/draft.h"

static char *folder;

static void what_followed_before_is_guessed(void **unused)
{
    (void)unused;
    int32_t t[32] = { 1, 2, 3, 4, 9, 8, 7, 2, 3, 4 };
    assert_int_equal(loami_draft_guess(t, 10, 3), 3);
    assert_int_equal(t[10], 9);
    assert_int_equal(t[11], 8);
    assert_int_equal(t[12], 7);
}

static void the_longer_and_the_later_place_wins(void **unused)
{
    (void)unused;
    int32_t longer[32] = { 5, 1, 2, 3, 10, 6, 2, 3, 20, 5, 1, 2, 3 };
    assert_int_equal(loami_draft_guess(longer, 13, 1), 1);
    assert_int_equal(longer[13], 10);
    int32_t later[32] = { 2, 3, 10, 2, 3, 20, 2, 3 };
    assert_int_equal(loami_draft_guess(later, 8, 1), 1);
    assert_int_equal(later[8], 20);
}

static void a_loop_goes_on_and_what_is_new_is_not_guessed(void **unused)
{
    (void)unused;
    int32_t loop[16] = { 1, 2, 1, 2, 1, 2 };
    assert_int_equal(loami_draft_guess(loop, 6, 6), 6);
    for (int i = 0; i < 6; i++) assert_int_equal(loop[6 + i], 1 + i % 2);
    int32_t fresh[16] = { 1, 2, 3, 4, 5 };
    for (uint32_t n = 1; n <= 5; n++) assert_int_equal(loami_draft_guess(fresh, n, 4), 0);
}

static void guesses_that_fail_become_rare_and_those_that_hold_more(void **unused)
{
    (void)unused;
    loami_draft d = { 0 };
    uint32_t tried = 0, n = loami_draft_length(&d, 100);
    assert_int_equal(n, 4);
    for (uint32_t was = n; was < LOAMI_DRAFT_MAX; was = n) {
        loami_draft_learn(&d, n, n);
        n = loami_draft_length(&d, 100);
        assert_true(n > was);
    }
    assert_int_equal(loami_draft_length(&d, 7), 7);
    for (int step = 0; step < 1000; step++) {
        n = loami_draft_length(&d, 100);
        tried += n;
        loami_draft_learn(&d, n, 0);
    }
    assert_true(tried < 200);
    do n = loami_draft_length(&d, 100);
    while (n == 0);
    loami_draft_learn(&d, n, n);
    assert_true(loami_draft_length(&d, 100) > 0);
}

/* ---- in the engine -------------------------------------------------------------------------------------- */

enum { STREAMS = 3, NEW = 300 };

typedef struct answers {
    int32_t ids[STREAMS][NEW + 1];
    uint32_t n[STREAMS];
    loam_finish finish[STREAMS];
    loam_engine_state state;
} answers;

static void ask(answers *a, uint32_t n_streams, uint32_t speculate, const loam_request *how)
{
    static const char *const prompts[STREAMS] = { "abcabcabcabcabc", "the cat and the dog and the cat and", "xyz" };
    loam_options o = { .model = folder, .substrate = "reference", .max_running = STREAMS, .speculate_tokens = speculate };
    loam_stream *s[STREAMS];
    loam_engine *e;
    loam_token t;
    loam_err err;
    *a = (answers){ 0 };
    if (loam_engine_open(&e, &o, &err) < 0) fail_msg("%s", err.msg);
    for (uint32_t i = 0; i < n_streams; i++) {
        loam_request r = *how;
        int32_t ids[64];
        for (r.n_tokens = 0; prompts[i][r.n_tokens]; r.n_tokens++) ids[r.n_tokens] = (unsigned char)prompts[i][r.n_tokens];
        r.tokens = ids;
        r.max_new = NEW;
        if (loam_submit(e, &s[i], &r, &err) < 0) fail_msg("%s", err.msg);
    }
    for (uint32_t i = 0; i < n_streams; i++) {
        loam_result end;
        while (loam_stream_next(s[i], &t, UINT32_MAX) > 0)
            if (t.id >= 0) a->ids[i][a->n[i]++] = t.id;
        loam_stream_result(s[i], &end);
        a->finish[i] = end.finish;
        loam_stream_close(s[i]);
    }
    do loam_engine_stat(e, &a->state);
    while (a->state.running); /* the readers may be told first */
    loam_engine_close(e);
}

static void the_same_text_with_and_without(void **unused)
{
    (void)unused;
    static const char *const stop[] = { "e" };
    const loam_request ways[] = {
        { .ignore_eos = true },
        { .how = { .temperature = 0.8f, .top_p = 0.9f, .seed = 7, .has_seed = true }, .ignore_eos = true },
        { .how = { .repetition_penalty = 1.2f, .frequency_penalty = 0.3f }, .ignore_eos = true },
        { .stop = stop, .n_stop = 1 },
    };
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        answers without, with;
        ask(&without, STREAMS, 0, &ways[w]);
        ask(&with, STREAMS, 8, &ways[w]);
        assert_int_equal(without.state.speculated, 0);
        assert_memory_equal(with.n, without.n, sizeof with.n);
        assert_memory_equal(with.ids, without.ids, sizeof with.ids);
        assert_memory_equal(with.finish, without.finish, sizeof with.finish);
        assert_int_equal(with.state.pages_used, 0);
    }
}

static void fewer_steps_where_the_text_repeats_itself(void **unused)
{
    (void)unused;
    answers without, with; /* greedy text of a tiny model runs in circles */
    ask(&without, 1, 0, &(loam_request){ .ignore_eos = true });
    ask(&with, 1, 8, &(loam_request){ .ignore_eos = true });
    assert_int_equal(with.n[0], NEW);
    assert_true(with.state.speculated_right > 0);
    assert_int_equal(with.state.steps, without.state.steps - with.state.speculated_right);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_followed_before_is_guessed),
        cmocka_unit_test(the_longer_and_the_later_place_wins),
        cmocka_unit_test(a_loop_goes_on_and_what_is_new_is_not_guessed),
        cmocka_unit_test(guesses_that_fail_become_rare_and_those_that_hold_more),
        cmocka_unit_test(the_same_text_with_and_without),
        cmocka_unit_test(fewer_steps_where_the_text_repeats_itself),
    };
    folder = temp_make();
    tiny_make(folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove(folder);
    return failed;
}
