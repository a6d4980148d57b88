/* Who runs when, and what they share: priorities, clients, time limits, the same prompt twice, pages that run out. */
#include "ask.h"
#include "gate.h"

#include "base/clock.h"

#include <stdatomic.h>

/* ---- order -------------------------------------------------------------------------------------------------- */

static atomic_int turn;

static void take_turn(void *arg)
{
    int none = 0;
    atomic_compare_exchange_strong((atomic_int *)arg, &none, atomic_load(&turn) + 1);
    if (none == 0) atomic_fetch_add(&turn, 1);
}

/* Runs n requests one at a time, all there before the first may start; rank[i]: as which one i came to its first token. */
static void in_order(const loam_request *r, int n, atomic_int *rank)
{
    loam_engine *e = open_with((loam_options){ .max_running = 1 });
    loam_stream *s[16];
    gate g;
    answer a;
    atomic_store(&turn, 0);
    gate_close(&g, e);
    for (int i = 0; i < n; i++) {
        loam_request each = r[i];
        char prompt[] = "prompt 0";
        prompt[7] = (char)('a' + i);
        atomic_init(&rank[i], 0);
        each.max_new = 4;
        each.ignore_eos = true;
        each.on_ready = take_turn;
        each.on_ready_arg = &rank[i];
        s[i] = submit(e, prompt, each);
    }
    gate_open(&g);
    for (int i = 0; i < n; i++) {
        read_all(s[i], &a);
        loami_buf_free(&a.text);
        loam_stream_close(s[i]);
    }
    expect_all_pages_back(e);
    gate_free(&g);
    loam_engine_close(e);
}

static void the_urgent_come_first(void **unused)
{
    (void)unused;
    atomic_int rank[4];
    in_order((loam_request[]){ { .priority = 5 }, { .priority = 0 }, { .priority = -5 }, { .priority = 0 } }, 4, rank);
    assert_int_equal(rank[2], 1);
    assert_int_equal(rank[1], 2);
    assert_int_equal(rank[3], 3);
    assert_int_equal(rank[0], 4);
}

static void the_urgent_cannot_keep_others_away(void **unused)
{
    (void)unused;
    enum { N = 16 };
    loam_request r[N] = { { .priority = 1000000 }, { .priority = 7 } };
    atomic_int rank[N];
    for (int i = 2; i < N; i++) r[i].priority = -5;
    in_order(r, N, rank);
    assert_int_equal(rank[0], 8); /* who came first, by far the least urgent: one start in eight */
    assert_int_equal(rank[1], 16);
    for (int i = 3; i < N; i++) assert_true(rank[i] > rank[i - 1]);
}

static void long_prompt(char *to, size_t n);

/* Steps are full of urgent prompts: one that is not urgent is read all the same. */
static void urgent_prompts_leave_steps_to_others(void **unused)
{
    (void)unused;
    enum { N = 33 };
    loam_engine *e = open_with((loam_options){ .max_running = N + 1, .step_ms = 60000 });
    loam_stream *s[N];
    atomic_int rank[N];
    char prompt[480];
    gate g;
    answer a;
    atomic_store(&turn, 0);
    gate_close(&g, e);
    for (int i = 0; i < N; i++) {
        long_prompt(prompt, i == 0 ? 100 : 450);
        prompt[0] = (char)('A' + i);
        atomic_init(&rank[i], 0);
        s[i] = submit(e, prompt, (loam_request){ .max_new = 1, .ignore_eos = true, .priority = i == 0 ? 5 : -5,
                                                 .on_ready = take_turn, .on_ready_arg = &rank[i] });
    }
    gate_open(&g);
    for (int i = 0; i < N; i++) {
        read_all(s[i], &a);
        loami_buf_free(&a.text);
        loam_stream_close(s[i]);
    }
    assert_true(rank[0] < N / 2);
    gate_free(&g);
    loam_engine_close(e);
}

static void one_client_cannot_keep_another_away(void **unused)
{
    (void)unused;
    atomic_int rank[8];
    in_order((loam_request[]){ { .client = 1 }, { .client = 1 }, { .client = 1 }, { .client = 1 }, { .client = 1 }, { .client = 1 },
                               { .client = 2 }, { .client = 2 } }, 8, rank);
    assert_true(rank[6] <= 2);  /* although six came before it */
    assert_true(rank[7] <= 4);
    for (int i = 1; i < 6; i++) assert_true(rank[i] > rank[i - 1]); /* a client's own stay in order */
}

/* ---- time limits --------------------------------------------------------------------------------------------- */

static void time_runs_out_in_queue_and_answer(void **unused)
{
    (void)unused;
    loam_engine *e = open_with((loam_options){ .max_running = 1 });
    loam_engine_state st;
    answer a;
    gate g;
    gate_close(&g, e);
    loam_stream *slow = submit(e, "go", (loam_request){ .max_new = 400, .ignore_eos = true, .timeout_ms = 400 }); /* read by nobody: its ring fills */
    loam_stream *queued = submit(e, "wait", (loam_request){ .max_new = 5, .timeout_ms = 1 });
    for (double from = loami_now_s(); loami_now_s() < from + 2e-3;) continue;
    gate_open(&g);
    read_all(queued, &a);
    assert_int_equal(a.result.finish, LOAM_FINISH_ERROR);
    assert_int_equal(a.result.code, LOAM_E_TIMEOUT);
    assert_non_null(strstr(a.result.msg, "in the queue"));
    assert_int_equal(a.n, 0);
    expect_all_pages_back(e); /* of the slow one, without anybody reading it */
    read_all(slow, &a);
    assert_int_equal(a.result.code, LOAM_E_TIMEOUT);
    assert_true(a.n >= 1 && a.n < 400);
    loami_buf_free(&a.text);
    loam_engine_stat(e, &st);
    assert_int_equal(st.timeouts, 2);
    assert_int_equal(st.finished[LOAM_FINISH_ERROR], 2);
    assert_int_equal(st.phase, LOAM_PHASE_IDLE);
    assert_true(st.steps > 0 && st.retry_s >= 1 && st.step_max_s > 0 && st.tokens_per_s > 0);
    loam_stream_close(slow);
    loam_stream_close(queued);
    gate_free(&g);
    loam_engine_close(e);
}

/* ---- sharing --------------------------------------------------------------------------------------------------- */

static void long_prompt(char *to, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = (char)('a' + (i * i + i / 7) % 26);
    to[n] = 0;
}

/* Four answers to one prompt: it is run once, and each answer is what it would be alone. */
static void the_same_prompt_is_run_once(void **unused)
{
    (void)unused;
    enum { N = 4, LENGTH = 205 }; /* not a whole number of pages: the last one is copied */
    static const char *const subs[] = { "reference", "cpu" };
    char prompt[LENGTH + 1];
    long_prompt(prompt, LENGTH);
    for (int k = 0; k < 2; k++) {
        answer alone[N], together[N];
        loam_stream *s[N];
        loam_engine_state after;
        gate g;
        loam_options o = { .substrate = subs[k], .max_running = 8, .threads = 2, .batch_invariant = true };
        loam_request r = { .max_new = 40, .ignore_eos = true, .how = { .temperature = 1, .has_seed = true } };
        for (int i = 0; i < N; i++) {
            loam_engine *fresh = open_with(o);
            r.how.seed = (uint64_t)i;
            run(fresh, prompt, r, &alone[i]);
            loam_engine_close(fresh);
        }
        loam_engine *e = open_with(o);
        gate_close(&g, e);
        for (int i = 0; i < N; i++) {
            r.how.seed = (uint64_t)i;
            s[i] = submit(e, prompt, r);
        }
        gate_open(&g);
        for (int i = 0; i < N; i++) {
            read_all(s[i], &together[i]);
            assert_int_equal(together[i].n, alone[i].n);
            assert_memory_equal(together[i].ids, alone[i].ids, sizeof alone[i].ids);
            assert_int_equal(together[i].result.cached_tokens, i ? LENGTH : 0);
            loami_buf_free(&alone[i].text);
            loami_buf_free(&together[i].text);
            loam_stream_close(s[i]);
        }
        expect_all_pages_back(e);
        loam_engine_stat(e, &after);
        assert_int_equal(after.prompt_tokens, 1 + LENGTH); /* the gate's, and one of the four's */
        assert_int_equal(after.prefix_hits, (N - 1) * LENGTH);
        assert_int_equal(after.prefix_queries, N * LENGTH + 1);
        gate_free(&g);
        loam_engine_close(e);
    }
}

/* Prompts that begin alike and come together: the beginning is run once, whoever of them leaves. */
static void a_common_beginning_is_run_once(void **unused)
{
    (void)unused;
    enum { N = 5, COMMON = 200, PAGE = 16 };
    char prompt[COMMON + 8];
    for (int first_leaves = 0; first_leaves < 2; first_leaves++) {
        loam_engine *e = open_with((loam_options){ .max_running = 8 });
        loam_stream *s[N];
        loam_engine_state st;
        gate g;
        gate_close(&g, e);
        for (int i = 0; i < N; i++) {
            long_prompt(prompt, COMMON);
            snprintf(prompt + COMMON, 8, "tail %d", i);
            s[i] = submit(e, prompt, (loam_request){ .max_new = 3, .ignore_eos = true });
        }
        if (first_leaves) loam_stream_cancel(s[0]);
        gate_open(&g);
        for (int i = 0; i < N; i++) {
            answer a;
            read_all(s[i], &a);
            loami_buf_free(&a.text);
            uint32_t hit = COMMON / PAGE * PAGE;
            if (!first_leaves || i > 1) assert_int_equal(a.result.cached_tokens, i ? hit : 0);
            loam_stream_close(s[i]);
        }
        expect_all_pages_back(e);
        loam_engine_stat(e, &st);
        assert_true(st.prompt_tokens <= 1 + COMMON + N * (6 + PAGE) + (first_leaves ? 64 : 0));
        gate_free(&g);
        loam_engine_close(e);
    }
}

/* ---- pages that run out ------------------------------------------------------------------------------------------ */

/* Answers together need more pages than there are. Reserving: they take turns. Overcommitting: some start over. The
 * text is the same. */
static void too_few_pages_change_nothing_but_the_time(void **unused)
{
    (void)unused;
    enum { N = 5, NEW = 62 }; /* their rings never fill, whoever is read first */
    static const char *const prompts[N] = { "one", "and two", "three of them", "four", "the fifth" };
    static const char *const subs[] = { "reference", "cpu" };
    for (int k = 0; k < 2; k++) {
        answer alone[N], a;
        loam_options o = { .substrate = subs[k], .threads = 2, .max_running = N, .context_tokens = 256, .batch_invariant = true };
        loam_request r = { .max_new = NEW, .ignore_eos = true, .how = { .temperature = 0.7f, .has_seed = true, .seed = 3, .repetition_penalty = 1.2f } };
        loam_engine *e = open_with(o);
        loam_engine_state st;
        for (int i = 0; i < N; i++) run(e, prompts[i], r, &alone[i]);
        loam_engine_stat(e, &st);
        o.kv_bytes = st.kv_bytes / st.pages * (256 / st.page_tokens); /* one whole context */
        loam_engine_close(e);
        for (int over = 0; over < 2; over++) {
            loam_stream *s[N];
            uint32_t preempted = 0;
            gate g;
            o.overcommit = over;
            e = open_with(o);
            gate_close(&g, e);
            for (int i = 0; i < N; i++) s[i] = submit(e, prompts[i], r);
            gate_open(&g);
            for (int i = 0; i < N; i++) {
                read_all(s[i], &a);
                assert_int_equal(a.n, NEW);
                assert_memory_equal(a.ids, alone[i].ids, sizeof a.ids);
                preempted += a.result.preemptions;
                loami_buf_free(&a.text);
                loam_stream_close(s[i]);
            }
            loam_engine_stat(e, &st);
            assert_int_equal(st.preemptions, preempted);
            assert_int_equal(preempted > 0, over);
            expect_all_pages_back(e);
            gate_free(&g);
            loam_engine_close(e);
        }
        for (int i = 0; i < N; i++) loami_buf_free(&alone[i].text);
    }
}

static void short_contexts_all_run_at_once(void **unused)
{
    (void)unused;
    enum { N = 12, NEW = 200, LONG_MS = 20000 };
    loam_request r = { .max_new = NEW, .ignore_eos = true };
    loam_engine *e = open_with((loam_options){ .substrate = "cpu", .threads = 2, .max_running = N, .context_tokens = 256 });
    loam_stream *s[N];
    gate g;
    gate_close(&g, e);
    for (int i = 0; i < N; i++) s[i] = submit(e, "a prompt like any other", r);
    gate_open(&g);
    loam_token t;
    for (int i = 0; i < N; i++) assert_int_equal(loam_stream_next(s[i], &t, LONG_MS), 1); /* nobody reads on: who waited for an end would wait for ever */
    for (int i = 0; i < N; i++) loam_stream_close(s[i]);
    gate_free(&g);
    loam_engine_close(e);
    assert_int_equal(loam_kv_tokens(576, 0), 32 * 576);
    assert_int_equal(loam_kv_tokens(8192, 32), 8 * 8192);
    assert_int_equal(loam_kv_tokens(4096, 32), 8 * 8192);
    assert_int_equal(loam_kv_tokens(100000, 4), 4 * 100000);
    assert_int_equal(loam_kv_tokens(100000, 32), 8 * 100000);
}

static void memory_has_a_limit(void **unused)
{
    (void)unused;
    loam_engine *e, *none;
    loam_engine_state st;
    loam_stream *s;
    loam_err err;
    int32_t ids[TINY_CONTEXT] = { 0 };
    loam_options o = { .model = folder, .substrate = "cpu", .threads = 2, .max_running = 4 };
    e = open_with(o);
    loam_engine_stat(e, &st);
    uint64_t page = st.kv_bytes / st.pages, fixed = st.weight_bytes + st.scratch_bytes;
    assert_true(st.scratch_bytes > 0 && page > 0);
    loam_engine_close(e);

    o.memory_bytes = fixed + 5 * page + page / 2; /* 320 tokens: less than the model's context */
    CHECK_OK(loam_engine_open(&e, &o, &err), err, 0);
    loam_engine_stat(e, &st);
    assert_int_equal(st.pages, 5);
    assert_int_equal(st.limit_bytes, o.memory_bytes);
    assert_true(st.weight_bytes + st.kv_bytes + st.scratch_bytes <= o.memory_bytes);
    assert_int_equal(loam_engine_info(e)->context_tokens, 5 * st.page_tokens);
    CHECK_FAILS(loam_submit(e, &s, &(loam_request){ .tokens = ids, .n_tokens = 400 }, &err), err, LOAM_E_TOO_LONG, "400");
    loam_engine_close(e);

    o.context_tokens = 512; /* asked for: then it must fit */
    CHECK_FAILS(loam_engine_open(&none, &o, &err), err, LOAM_E_NOMEM, "512");
    o.context_tokens = 0;
    o.memory_bytes = fixed / 2;
    CHECK_FAILS(loam_engine_open(&none, &o, &err), err, LOAM_E_NOMEM, "limit");
    o.memory_bytes = fixed + 5 * page;
    o.kv_bytes = 6 * page;
    CHECK_FAILS(loam_engine_open(&none, &o, &err), err, LOAM_E_NOMEM, "does not fit");
    o = (loam_options){ .model = folder, .substrate = "cpu", .kv_type = "int3" };
    CHECK_FAILS(loam_engine_open(&none, &o, &err), err, LOAM_E_ARG, "int3");
}

/* ---- leaving ----------------------------------------------------------------------------------------------------- */

/* A thousand clients that leave at any moment: in the queue, in the prompt, in the answer. */
static void a_thousand_leave(void **unused)
{
    (void)unused;
    enum { CLIENTS = 1000, OPEN = 24 };
    for (int over = 0; over < 2; over++) {
        loam_options o = { .max_running = 8, .max_queued = CLIENTS, .context_tokens = 256, .overcommit = over };
        loam_engine *e = open_with(o);
        loam_engine_state st;
        loam_stream *s[OPEN] = { NULL };
        uint32_t seed = 11;
        char prompt[200];
        for (uint32_t i = 0; i < CLIENTS; i++) {
            loam_token t;
            uint32_t at = i % OPEN, read;
            seed = seed * 1664525 + 1013904223;
            read = (seed >> 20) % 6;
            for (uint32_t k = 0; s[at] && k < read && loam_stream_next(s[at], &t, k ? UINT32_MAX : 0) > 0; k++) continue;
            loam_stream_close(s[at]);
            long_prompt(prompt, 1 + (seed >> 8) % 150);
            if (seed >> 31) prompt[(seed >> 10) % 30] = 'Z';
            s[at] = submit(e, prompt, (loam_request){ .max_new = 1 + (seed >> 5) % 60, .ignore_eos = true, .client = seed >> 3,
                                                      .priority = (int32_t)(seed >> 7) % 2, .cache_salt = (seed >> 9) % 2 });
        }
        for (uint32_t i = 0; i < OPEN; i++) loam_stream_close(s[i]);
        do {
            sched_yield();
            loam_engine_stat(e, &st);
        } while (st.finished[LOAM_FINISH_CANCELLED] + st.finished[LOAM_FINISH_LENGTH] < CLIENTS);
        expect_all_pages_back(e);
        assert_int_equal(st.finished[LOAM_FINISH_CANCELLED] + st.finished[LOAM_FINISH_LENGTH], CLIENTS);
        assert_true(st.finished[LOAM_FINISH_CANCELLED] > 100);
        loam_engine_close(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_urgent_come_first),
        cmocka_unit_test(the_urgent_cannot_keep_others_away),
        cmocka_unit_test(urgent_prompts_leave_steps_to_others),
        cmocka_unit_test(one_client_cannot_keep_another_away),
        cmocka_unit_test(time_runs_out_in_queue_and_answer),
        cmocka_unit_test(the_same_prompt_is_run_once),
        cmocka_unit_test(a_common_beginning_is_run_once),
        cmocka_unit_test(too_few_pages_change_nothing_but_the_time),
        cmocka_unit_test(short_contexts_all_run_at_once),
        cmocka_unit_test(memory_has_a_limit),
        cmocka_unit_test(a_thousand_leave),
    };
    folder = temp_make();
    tiny_make(folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove(folder);
    return failed;
}
