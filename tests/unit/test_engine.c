/* The engine with a real, tiny model: what a request may rely on, whoever else is there. */
#include "ask.h"
#include "gate.h"

#include <math.h>
#include <stdatomic.h>

static loam_engine *open_engine(uint32_t max_running, uint32_t max_queued)
{
    return open_with((loam_options){ .max_running = max_running, .max_queued = max_queued });
}

/* ---- answers -------------------------------------------------------------------------------------------- */

static void an_answer_is_counted_and_repeats(void **unused)
{
    (void)unused;
    loam_engine *e = open_engine(1, 0);
    answer a, b;
    run(e, "once upon", (loam_request){ .max_new = 20, .ignore_eos = true }, &a);
    run(e, "once upon", (loam_request){ .max_new = 20, .ignore_eos = true }, &b);
    assert_int_equal(a.n, 20);
    assert_memory_equal(a.ids, b.ids, sizeof a.ids);
    assert_int_equal(a.result.finish, LOAM_FINISH_LENGTH);
    assert_int_equal(a.result.prompt_tokens, 9);
    assert_int_equal(a.result.new_tokens, 20);
    loami_buf_free(&a.text);
    loami_buf_free(&b.text);
    expect_all_pages_back(e);
    loam_engine_close(e);
}

/* Prompts of every length together give what each gives alone, greedy and sampled. */
static void company_changes_nothing(void **unused)
{
    (void)unused;
    enum { N = 6 };
    static const char *const prompts[N] = { "a", "bc", "the quick brown fox jumps over the lazy dog", "\xc3\xa4h", "zzzzzzzzzzzzzzzzz",
                                            "0123456789abcdef0123456789abcdef" };
    loam_engine *e = open_engine(N, 0);
    for (int sampled = 0; sampled < 2; sampled++) {
        loam_request r = { .max_new = 30, .ignore_eos = true };
        if (sampled) r.how = (loam_sampling){ .temperature = 0.9f, .top_p = 0.9f, .seed = 99, .has_seed = true };
        answer alone[N], together[N];
        loam_stream *s[N];
        for (int i = 0; i < N; i++) run(e, prompts[i], r, &alone[i]);
        for (int i = 0; i < N; i++) s[i] = submit(e, prompts[i], r);
        for (int i = 0; i < N; i++) {
            read_all(s[i], &together[i]);
            loam_stream_close(s[i]);
            assert_int_equal(together[i].n, 30);
            assert_memory_equal(together[i].ids, alone[i].ids, sizeof alone[i].ids);
            loami_buf_free(&alone[i].text);
            loami_buf_free(&together[i].text);
        }
    }
    expect_all_pages_back(e);
    loam_engine_close(e);
}

static void a_stop_string_ends_the_text_before_it(void **unused)
{
    (void)unused;
    loam_engine *e = open_engine(1, 0);
    loam_request r = { .max_new = 60, .ignore_eos = true, .how = { .temperature = 1.5f, .top_k = 90, .seed = 5, .has_seed = true } };
    r.how.bias = (loam_logit_bias[]){ { 'a', 40 }, { 'b', 40 }, { 'c', 40 } }; /* plain letters, so that stops can be cut from them */
    r.how.n_bias = 3;
    answer whole, cut;
    run(e, "say", r, &whole);
    assert_true(whole.text.len > 20);
    for (uint32_t at = 1; at + 4 < whole.text.len && at < 20; at++) {
        for (uint32_t n = 1; n <= 4; n++) { /* one token, and across token borders */
            char stop[8] = "";
            memcpy(stop, whole.text.data + at, n);
            const char *stops[] = { "never there", stop };
            r.stop = stops;
            r.n_stop = 2;
            run(e, "say", r, &cut);
            size_t first = (size_t)(strstr(whole.text.data, stop) - whole.text.data);
            assert_int_equal(cut.text.len, first);
            if (first) assert_memory_equal(cut.text.data, whole.text.data, first);
            assert_int_equal(cut.result.finish, LOAM_FINISH_STOP);
            assert_int_equal(cut.result.new_tokens, first + n);
            loami_buf_free(&cut.text);
        }
    }
    loami_buf_free(&whole.text);
    expect_all_pages_back(e);
    loam_engine_close(e);
}

static void a_stop_token_and_end_of_text_end_it_silently(void **unused)
{
    (void)unused;
    loam_engine *e = open_engine(1, 0);
    answer a;
    const loam_logit_bias only_eos = { TINY_EOS, 1000 }, only_x = { 'x', 1000 };
    run(e, "hi", (loam_request){ .max_new = 9, .how = { .bias = &only_eos, .n_bias = 1 } }, &a);
    assert_int_equal(a.n, 0);
    assert_int_equal(a.result.finish, LOAM_FINISH_STOP);
    assert_int_equal(a.result.new_tokens, 1);
    run(e, "hi", (loam_request){ .max_new = 9, .how = { .bias = &only_eos, .n_bias = 1 }, .min_new = 4 }, &a);
    assert_int_equal(a.n, 4);
    loami_buf_free(&a.text);
    run(e, "hi", (loam_request){ .max_new = 9, .how = { .bias = &only_x, .n_bias = 1 }, .stop_tokens = (int32_t[]){ 'x' }, .n_stop_tokens = 1 }, &a);
    assert_int_equal(a.n, 0);
    assert_int_equal(a.result.finish, LOAM_FINISH_STOP);
    loam_engine_close(e);
}

static void scores_are_the_logits_log_softmax(void **unused)
{
    (void)unused;
    enum { N = 150, TOP = 3 }; /* more than one slice of scored rows */
    loam_engine *e = open_engine(1, 0);
    int32_t ids[N];
    float logits[TINY_VOCAB], logprobs[N - 1], again[N - 1];
    uint32_t ranks[N - 1];
    loam_logprob top[(N - 1) * TOP];
    loam_err err;
    for (int i = 0; i < N; i++) ids[i] = (i * 37 + 11) % 256;
    CHECK_OK(loam_score(e, ids, N, logprobs, &err), err, 0);
    CHECK_OK(loam_score_top(e, ids, N, TOP, again, ranks, top, &err), err, 0);
    assert_memory_equal(again, logprobs, sizeof logprobs);
    for (uint32_t n = 1; n < N; n += 13) {
        double sum = 0;
        uint32_t better = 0;
        CHECK_OK(loam_logits(e, ids, n, logits, &err), err, 0);
        for (int i = 0; i < TINY_VOCAB; i++) sum += exp(logits[i]);
        for (int i = 0; i < TINY_VOCAB; i++) better += logits[i] > logits[ids[n]];
        assert_float_equal(logprobs[n - 1], logits[ids[n]] - log(sum), 1e-4);
        assert_int_equal(ranks[n - 1], better + 1);
        const loam_logprob *t = top + (n - 1) * TOP;
        for (int k = 0; k < TOP; k++) assert_float_equal(t[k].logprob, logits[t[k].id] - log(sum), 1e-4);
        assert_true(t[0].logprob >= t[1].logprob && t[1].logprob >= t[2].logprob && t[0].logprob >= logprobs[n - 1]);
    }
    CHECK_FAILS(loam_score_top(e, ids, N, LOAM_MAX_LOGPROBS + 1, again, ranks, top, &err), err, LOAM_E_ARG, "at most 20");
    expect_all_pages_back(e);
    loam_engine_close(e);
}

static void embeddings_say_which_text_failed(void **unused)
{
    (void)unused;
    loam_engine *e = open_engine(1, 1); /* a queue of one: it waits for its own texts */
    uint32_t dims = loam_engine_info(e)->embed_dims, failed = 99;
    int32_t good[] = { 1, 2, 3 }, bad[] = { 1, TINY_VOCAB };
    loam_tokens texts[] = { { good, 3 }, { good, 3 }, { good, 2 }, { good, 1 }, { bad, 2 } };
    float *out = calloc(5 * (size_t)dims, sizeof *out);
    loam_err err;
    CHECK_OK(loam_embed(e, texts, 4, LOAM_POOL_MODEL, out, &failed, &err), err, 0);
    assert_int_equal(failed, 99);
    for (int i = 0; i < 4; i++) {
        double sum = 0;
        for (uint32_t k = 0; k < dims; k++) sum += (double)out[i * dims + k] * out[i * dims + k];
        assert_float_equal(sum, 1, 1e-5);
    }
    assert_memory_equal(out, out + dims, dims * sizeof *out);
    CHECK_FAILS(loam_embed(e, texts, 5, LOAM_POOL_LAST, out, &failed, &err), err, LOAM_E_ARG, "token 1 of the prompt");
    assert_int_equal(failed, 4);
    expect_all_pages_back(e);
    free(out);
    loam_engine_close(e);
}

static void logprobs_come_with_the_tokens(void **unused)
{
    (void)unused;
    loam_engine *e = open_engine(1, 0);
    loam_stream *s = submit(e, "abc", (loam_request){ .max_new = 5, .ignore_eos = true, .n_logprobs = 3, .want_logprobs = true });
    loam_token t;
    for (int i = 0; i < 5; i++) {
        do assert_int_equal(loam_stream_next(s, &t, UINT32_MAX), 1);
        while (t.id < 0);
        assert_int_equal(t.n_top, 3);
        assert_int_equal(t.top[0].id, t.id); /* greedy: the likeliest */
        assert_float_equal(t.top[0].logprob, t.logprob, 1e-5);
        assert_true(t.top[0].logprob >= t.top[1].logprob && t.top[1].logprob >= t.top[2].logprob && t.logprob <= 0);
    }
    loam_stream_close(s);
    loam_engine_close(e);
}

/* A conversation that grows finds what it said before; another salt does not; the text is the same as without. */
static void a_prefix_seen_before_is_not_run_again(void **unused)
{
    (void)unused;
    char prompt[200];
    loam_engine *e = open_engine(2, 0), *fresh;
    answer first, again, cold;
    memset(prompt, 'q', sizeof prompt);
    prompt[150] = 0;
    run(e, prompt, (loam_request){ .max_new = 40, .ignore_eos = true }, &first);
    assert_int_equal(first.result.cached_tokens, 0);
    memcpy(prompt + 150, "and more", 9);
    run(e, prompt, (loam_request){ .max_new = 40, .ignore_eos = true }, &again);
    assert_int_equal(again.result.cached_tokens, 144); /* nine pages of 16 */
    loam_engine_state st;
    do loam_engine_stat(e, &st);
    while (st.phase != LOAM_PHASE_IDLE); /* the last step is counted, too */
    assert_int_equal(st.prompt_tokens, 150 + 158 - 144);
    assert_int_equal(st.prompt_tokens_read, 150 + 158);
    uint64_t n_steps = 0;
    for (int i = 0; i < LOAM_STEP_SIZES; i++) n_steps += st.step_tokens[i];
    assert_int_equal(n_steps, st.steps);
    assert_int_equal(st.tokens_run, 150 + 158 - 144 + 2 * 39); /* a prompt's last row gives the first token */
    fresh = open_engine(1, 0);
    run(fresh, prompt, (loam_request){ .max_new = 40, .ignore_eos = true }, &cold);
    assert_int_equal(cold.result.cached_tokens, 0);
    assert_memory_equal(again.ids, cold.ids, sizeof cold.ids);
    loami_buf_free(&first.text);
    run(e, prompt, (loam_request){ .max_new = 1, .cache_salt = 5 }, &first);
    assert_int_equal(first.result.cached_tokens, 0);
    expect_all_pages_back(e);
    loami_buf_free(&first.text);
    loami_buf_free(&again.text);
    loami_buf_free(&cold.text);
    loam_engine_close(fresh);
    loam_engine_close(e);
}

/* ---- ends that come early ------------------------------------------------------------------------------- */

/* In prefill: test_disk.c, which can halt an engine there. */
static void cancelled_in_decode_and_in_the_queue(void **unused)
{
    (void)unused;
    char prompt[TINY_CONTEXT];
    loam_engine *e = open_engine(1, 0);
    loam_token t;
    answer a;
    memset(prompt, 'p', sizeof prompt);
    prompt[450] = 0;

    loam_stream *decoding = submit(e, "go", (loam_request){ .max_new = 500, .ignore_eos = true });
    loam_stream *queued = submit(e, "wait", (loam_request){ .max_new = 5 });
    assert_int_equal(loam_stream_next(decoding, &t, UINT32_MAX), 1);
    loam_stream_cancel(queued);
    read_all(queued, &a); /* ends although the one before it still runs */
    assert_int_equal(a.result.finish, LOAM_FINISH_CANCELLED);
    assert_int_equal(a.result.code, LOAM_E_CANCELLED);
    loam_stream_cancel(decoding);
    read_all(decoding, &a);
    loami_buf_free(&a.text);
    assert_int_equal(a.result.finish, LOAM_FINISH_CANCELLED);
    loam_stream *gone = submit(e, prompt, (loam_request){ .max_new = 5 });
    loam_stream_close(gone); /* its reader leaves at once, wherever it is by then */
    expect_all_pages_back(e);
    loam_stream_close(decoding);
    loam_stream_close(queued);
    loam_engine_close(e);
}

static void a_slow_reader_stops_only_itself(void **unused)
{
    (void)unused;
    loam_engine *e = open_engine(2, 0);
    answer a;
    loam_stream *slow = submit(e, "slow", (loam_request){ .max_new = 300, .ignore_eos = true });
    wait_for_tokens(e, 64); /* its ring is full */
    run(e, "fast", (loam_request){ .max_new = 100, .ignore_eos = true }, &a);
    assert_int_equal(a.n, 100);
    loami_buf_free(&a.text);
    loam_engine_state st;
    wait_for_tokens(e, 164);
    loam_engine_stat(e, &st);
    assert_int_equal(st.new_tokens, 164);
    read_all(slow, &a);
    assert_int_equal(a.n, 300);
    loami_buf_free(&a.text);
    loam_stream_close(slow);
    loam_engine_close(e);
}

/* A place, or the pages, of one that nobody reads is for those who wait; its text is what it would have been. */
static void who_does_not_read_gives_up_its_place(void **unused)
{
    (void)unused;
    static const loam_options ways[] = {
        { .max_running = 1 },                        /* places are short */
        { .max_running = 4, .context_tokens = 320, .kv_bytes = 1 }, /* pages are */
    };
    for (int way = 0; way < 2; way++) {
        loam_options o = ways[way];
        if (o.kv_bytes) { /* of one such context */
            loam_engine *e = open_with((loam_options){ .max_running = 1, .context_tokens = 320 });
            o.kv_bytes = loam_engine_info(e)->kv_bytes;
            loam_engine_close(e);
        }
        loam_engine *e = open_with(o);
        loam_request r = { .max_new = 300, .ignore_eos = true, .how = { .temperature = 0.9f, .seed = 7, .has_seed = true } };
        loam_engine_state st;
        loam_token t;
        answer alone, a;
        run(e, "slow", r, &alone);
        loam_stream *slow = submit(e, "slow", r);
        wait_for_tokens(e, 364);    /* its ring is full */
        for (int i = 0; i < 3; i++) {
            run(e, "another", (loam_request){ .max_new = 250, .ignore_eos = true }, &a);
            assert_int_equal(a.n, 250);
            loami_buf_free(&a.text);
        }
        wait_for_tokens(e, 300 + 64 + 3 * 250);
        loam_engine_stat(e, &st);
        assert_int_equal(st.new_tokens, 300 + 64 + 3 * 250);
        assert_int_equal(st.preemptions, 1);
        for (int i = 0; i < 31; i++) { /* less than half the ring: it would come back for next to nothing */
            assert_int_equal(loam_stream_next(slow, &t, 0), 1);
            assert_int_equal(t.id, alone.ids[i]);
        }
        run(e, "another", (loam_request){ .max_new = 1, .ignore_eos = true }, &a);
        loami_buf_free(&a.text);
        do loam_engine_stat(e, &st);
        while (st.phase != LOAM_PHASE_IDLE);
        assert_int_equal(st.running, 0);
        assert_int_equal(st.waiting, 1);
        read_all(slow, &a);
        assert_int_equal(a.n, 300 - 31);
        assert_memory_equal(a.ids, alone.ids + 31, a.n * sizeof *a.ids);
        assert_int_equal(a.result.preemptions, 1);
        loami_buf_free(&a.text);
        loami_buf_free(&alone.text);
        loam_stream_close(slow);
        expect_all_pages_back(e);
        loam_engine_close(e);
    }
}

static void what_cannot_be_done_is_refused(void **unused)
{
    (void)unused;
    int32_t ids[TINY_CONTEXT] = { 1 };
    loam_engine *e = open_engine(1, 1), *none;
    loam_stream *s, *more;
    loam_err err;
    CHECK_FAILS(loam_submit(e, &s, &(loam_request){ .tokens = ids }, &err), err, LOAM_E_ARG, "empty");
    CHECK_FAILS(loam_submit(e, &s, &(loam_request){ .tokens = ids, .n_tokens = TINY_CONTEXT }, &err), err, LOAM_E_TOO_LONG, "511");
    CHECK_FAILS(loam_submit(e, &s, &(loam_request){ .tokens = (int32_t[]){ 3, TINY_VOCAB }, .n_tokens = 2 }, &err), err, LOAM_E_ARG, "token 1");
    CHECK_FAILS(loam_submit(e, &s, &(loam_request){ .tokens = (int32_t[]){ -1 }, .n_tokens = 1 }, &err), err, LOAM_E_ARG, "token 0");
    gate g;
    gate_close(&g, e); /* it runs, the next one waits */
    more = submit(e, "second", (loam_request){ .max_new = 1 });
    CHECK_FAILS(loam_submit(e, &s, &(loam_request){ .tokens = ids, .n_tokens = 1 }, &err), err, LOAM_E_BUSY, "waiting");
    gate_open(&g);
    loam_stream_close(more);
    gate_free(&g);
    loam_engine_close(e);
    CHECK_FAILS(loam_engine_open(&none, &(loam_options){ .model = "/no/such/model" }, &err), err, LOAM_E_NOT_FOUND, "/no/such/model");
    CHECK_FAILS(loam_engine_open(&none, &(loam_options){ .model = folder, .substrate = "abacus" }, &err), err, LOAM_E_NOT_FOUND, "abacus");
    CHECK_FAILS(loam_engine_open(&none, &(loam_options){ .model = folder, .context_tokens = 100000 }, &err), err, LOAM_E_ARG, "100000");
}

/* Those of one request come all at once, before the engine looks: free places count. */
static void as_many_at_once_as_there_are_places(void **unused)
{
    (void)unused;
    enum { RUN = 3, WAIT = 2 };
    loam_engine *e = open_engine(RUN, WAIT);
    loam_stream *s[RUN + WAIT], *none;
    loam_engine_state st;
    loam_err err;
    int32_t id = 'a';
    loam_request r = { .tokens = &id, .n_tokens = 1, .max_new = 400, .ignore_eos = true, .more = true };
    loam_engine_stat(e, &st);
    assert_int_equal(st.requests_max, RUN + WAIT);
    for (int i = 0; i < RUN + WAIT; i++) CHECK_OK(loam_submit(e, &s[i], &r, &err), err, 0);
    CHECK_FAILS(loam_submit(e, &none, &r, &err), err, LOAM_E_BUSY, "waiting");
    for (int i = 0; i < RUN + WAIT; i++) loam_stream_close(s[i]);
    expect_all_pages_back(e);
    loam_engine_close(e);
}

static void ready(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void a_reader_that_polls_is_told(void **unused)
{
    (void)unused;
    loam_engine *e = open_engine(1, 0);
    atomic_int told = 0;
    loam_token t;
    uint32_t n = 0;
    loam_stream *s = submit(e, "poll", (loam_request){ .max_new = 50, .ignore_eos = true, .on_ready = ready, .on_ready_arg = &told });
    for (int rc = LOAM_E_TIMEOUT; rc != 0;) {
        while (atomic_load(&told) == 0) sched_yield(); /* would hang if it were not told */
        atomic_store(&told, 0);
        while ((rc = loam_stream_next(s, &t, 0)) > 0) n += t.id >= 0;
    }
    assert_int_equal(n, 50);
    loam_stream_close(s);
    loam_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_counted_and_repeats),
        cmocka_unit_test(company_changes_nothing),
        cmocka_unit_test(a_stop_string_ends_the_text_before_it),
        cmocka_unit_test(a_stop_token_and_end_of_text_end_it_silently),
        cmocka_unit_test(scores_are_the_logits_log_softmax),
        cmocka_unit_test(a_prefix_seen_before_is_not_run_again),
        cmocka_unit_test(embeddings_say_which_text_failed),
        cmocka_unit_test(logprobs_come_with_the_tokens),
        cmocka_unit_test(cancelled_in_decode_and_in_the_queue),
        cmocka_unit_test(a_slow_reader_stops_only_itself),
        cmocka_unit_test(who_does_not_read_gives_up_its_place),
        cmocka_unit_test(what_cannot_be_done_is_refused),
        cmocka_unit_test(as_many_at_once_as_there_are_places),
        cmocka_unit_test(a_reader_that_polls_is_told),
    };
    folder = temp_make();
    tiny_make(folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove(folder);
    return failed;
}
