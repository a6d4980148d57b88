/* Embeddings and scores beside other requests: begun, polled, cancelled, late, in order of priority and of clients' shares. */
#include "gate.h"

#include "base/clock.h"

#include <stdatomic.h>

enum { MOST = 24, LONG = 500 };

/* Texts of n[i] tokens, each another one. */
typedef struct texts {
    int32_t ids[TINY_CONTEXT + MOST];
    loam_tokens list[MOST];
    uint32_t n;
} texts;

static const loam_tokens *make_texts(texts *t, const uint32_t *n_tokens, uint32_t n)
{
    for (int i = 0; i < TINY_CONTEXT + MOST; i++) t->ids[i] = (i * 37 + i / 5) % 256;
    for (uint32_t i = 0; i < n; i++) t->list[i] = (loam_tokens){ t->ids + i, n_tokens[i] };
    t->n = n;
    return t->list;
}

static loam_job *begin(loam_engine *e, const texts *t, loam_job_request r)
{
    loam_job *j;
    loam_err err;
    r.texts = t->list;
    r.n_texts = t->n;
    if (loam_job_begin(e, &j, &r, NULL, &err) < 0) fail_msg("%s", err.msg);
    return j;
}

static loam_outcome end(loam_job *j)
{
    loam_outcome r;
    loam_job_result(j, &r);
    assert_int_equal(r.finish, LOAM_FINISH_NONE);
    assert_int_equal(loam_job_poll(j, UINT32_MAX), 0);
    loam_job_result(j, &r);
    return r;
}

/* ---- what comes out -------------------------------------------------------------------------------------- */

static void many_texts_are_what_each_is_alone(void **unused)
{
    (void)unused;
    uint32_t n[MOST];
    texts t;
    loam_err err;
    loam_engine *e = open_with((loam_options){ .batch_invariant = true });
    uint32_t dims = loam_engine_info(e)->embed_dims;
    float alone[TINY_DIM], scores[TINY_CONTEXT];
    for (uint32_t i = 0; i < MOST; i++) n[i] = i % 7 == 3 ? 300 : 1 + i * 5 % 40;
    make_texts(&t, n, MOST);
    loam_job *j = begin(e, &t, (loam_job_request){ .kind = LOAM_JOB_EMBED });
    loam_outcome r = end(j);
    assert_int_equal(r.finish, LOAM_FINISH_STOP);
    assert_true(r.queue_s >= 0 && r.run_s > 0 && !r.ranks && !r.top);
    for (uint32_t i = 0; i < MOST; i++) {
        CHECK_OK(loam_embed(e, &t.list[i], 1, LOAM_POOL_MODEL, alone, NULL, &err), err, 0);
        assert_memory_equal(alone, r.floats + (size_t)i * dims, sizeof alone);
    }
    loam_job_close(j);
    j = begin(e, &t, (loam_job_request){ .kind = LOAM_JOB_SCORE, .want_ranks = true, .n_top = 2 });
    r = end(j);
    uint32_t place = 0, ranks[TINY_CONTEXT];
    loam_logprob top[TINY_CONTEXT * 2];
    for (uint32_t i = 0; i < MOST; i++, place += n[i - 1] - 1) {
        if (n[i] < 2) continue; /* nothing to say of one token */
        CHECK_OK(loam_score_top(e, t.list[i].ids, n[i], 2, scores, ranks, top, &err), err, 0);
        assert_memory_equal(scores, r.floats + place, (n[i] - 1) * sizeof *scores);
        assert_memory_equal(ranks, r.ranks + place, (n[i] - 1) * sizeof *ranks);
        assert_memory_equal(top, r.top + (size_t)place * 2, (n[i] - 1) * 2 * sizeof *top);
    }
    loam_job_close(j);
    expect_all_pages_back(e);
    loam_engine_close(e);
}

static void short_texts_share_steps(void **unused)
{
    (void)unused;
    uint32_t n[MOST];
    texts t;
    loam_engine_state st;
    loam_engine *e = open_with((loam_options){ 0 });
    for (uint32_t i = 0; i < MOST; i++) n[i] = 3;
    make_texts(&t, n, MOST);
    loam_job *j = begin(e, &t, (loam_job_request){ .kind = LOAM_JOB_EMBED });
    assert_int_equal(end(j).finish, LOAM_FINISH_STOP);
    loam_job_close(j);
    expect_all_pages_back(e);
    loam_engine_stat(e, &st);
    assert_true(st.steps <= MOST / 2);
    assert_int_equal(st.prompt_tokens, MOST * 3);
    loam_engine_close(e);
}

static void what_makes_no_sense_is_refused_at_once(void **unused)
{
    (void)unused;
    loam_engine *e = open_with((loam_options){ 0 });
    int32_t ids[] = { 1, 2, TINY_VOCAB };
    loam_tokens list[] = { { ids, 2 }, { ids, 3 }, { ids, 0 }, { ids, TINY_CONTEXT + 1 } };
    loam_job *j;
    loam_err err;
    uint32_t failed = 9;
    CHECK_FAILS(loam_job_begin(e, &j, &(loam_job_request){ .texts = list }, &failed, &err), err, LOAM_E_ARG, "no text");
    CHECK_FAILS(loam_job_begin(e, &j, &(loam_job_request){ .texts = list, .n_texts = 2 }, &failed, &err), err, LOAM_E_ARG, "token 2");
    assert_int_equal(failed, 1);
    CHECK_FAILS(loam_job_begin(e, &j, &(loam_job_request){ .texts = list + 2, .n_texts = 1 }, &failed, &err), err, LOAM_E_ARG, "empty");
    CHECK_FAILS(loam_job_begin(e, &j, &(loam_job_request){ .texts = list + 3, .n_texts = 1 }, &failed, &err), err, LOAM_E_TOO_LONG, "512");
    CHECK_FAILS(loam_job_begin(e, &j, &(loam_job_request){ .kind = LOAM_JOB_SCORE, .texts = list, .n_texts = 1, .n_top = 21 }, &failed, &err), err,
                LOAM_E_ARG, "at most 20");
    loam_engine_close(e);
}

/* ---- ends that come early --------------------------------------------------------------------------------- */

/* An engine that stands still in a step with the end of t's first text and a piece of its second one, both of one job, or of a job
 * each. */
static loam_engine *open_half_way(gate *g, texts *t, loam_job **first, loam_job **second)
{
    gate before;
    loam_err err;
    loam_engine *e = open_with((loam_options){ 0 });
    make_texts(t, (uint32_t[]){ 400, LONG }, 2);
    loam_job_request r = { .kind = LOAM_JOB_EMBED, .client = 1, .texts = t->list, .n_texts = second ? 1 : 2, .on_ready = at_gate, .on_ready_arg = g };
    gate_make(g);
    gate_close(&before, e);
    CHECK_OK(loam_job_begin(e, first, &r, NULL, &err), err, 0);
    r = (loam_job_request){ .kind = LOAM_JOB_EMBED, .client = 1, .texts = t->list + 1, .n_texts = 1 };
    if (second) CHECK_OK(loam_job_begin(e, second, &r, NULL, &err), err, 0);
    gate_open(&before);
    gate_wait(g);
    gate_free(&before);
    return e;
}

/* The step that ran by then is the last: of a second text, no more than a piece is run. */
static void expect_no_step_more(loam_engine *e, const loam_engine_state *then)
{
    loam_engine_state st;
    expect_all_pages_back(e);
    loam_engine_stat(e, &st);
    assert_int_equal(st.steps, then->steps + 1);
    assert_true(st.prompt_tokens > 400 && st.prompt_tokens < 400 + LONG);
}

static void cancelled_half_way(void **unused)
{
    (void)unused;
    gate g;
    texts t;
    loam_job *j;
    loam_engine_state then;
    loam_engine *e = open_half_way(&g, &t, &j, NULL);
    loam_engine_stat(e, &then);
    loam_job_cancel(j);
    gate_open(&g);
    loam_outcome r = end(j);
    assert_int_equal(r.finish, LOAM_FINISH_CANCELLED);
    assert_int_equal(r.code, LOAM_E_CANCELLED);
    assert_int_equal(r.failed, 1);
    assert_null(r.floats);
    expect_no_step_more(e, &then);
    loam_job_close(j);
    gate_free(&g);
    loam_engine_close(e);
}

/* Nobody waits for the engine, which still writes there. */
static void closed_while_the_engine_writes(void **unused)
{
    (void)unused;
    gate g;
    texts t;
    loam_job *first, *second;
    loam_engine_state then;
    loam_engine *e = open_half_way(&g, &t, &first, &second);
    loam_engine_stat(e, &then);
    loam_job_close(second);
    gate_open(&g);
    assert_int_equal(end(first).finish, LOAM_FINISH_STOP);
    expect_no_step_more(e, &then);
    loam_job_close(first);
    gate_free(&g);
    loam_engine_close(e);
}

static void time_runs_out_in_the_queue_and_half_way(void **unused)
{
    (void)unused;
    gate g;
    texts t;
    loam_engine_state st;
    loam_engine *e = open_with((loam_options){ .max_running = 1 });
    loam_job_request r = { .kind = LOAM_JOB_SCORE, .timeout_ms = 1 };
    make_texts(&t, (uint32_t[]){ LONG, LONG }, 2);
    gate_close(&g, e);
    loam_job *queued = begin(e, &t, r);
    for (double until = loami_now_s() + 0.002; loami_now_s() < until;) continue;
    gate_open(&g);
    loam_outcome o = end(queued);
    assert_int_equal(o.finish, LOAM_FINISH_ERROR);
    assert_int_equal(o.code, LOAM_E_TIMEOUT);
    assert_non_null(strstr(o.msg, "1 ms were over in the queue"));
    loam_job_close(queued);
    gate_free(&g);

    /* Its first text has run, and the job's time is over before the second one's turn comes. */
    gate_make(&g);
    t.list[0].n = 3;
    r = (loam_job_request){ .kind = LOAM_JOB_EMBED, .timeout_ms = 200, .on_ready = at_gate, .on_ready_arg = &g };
    loam_job *half = begin(e, &t, r);
    double began_s = loami_now_s();
    gate_wait(&g);
    while (loami_now_s() < began_s + 0.2) continue;
    gate_open(&g);
    o = end(half);
    assert_int_equal(o.code, LOAM_E_TIMEOUT);
    assert_int_equal(o.failed, 1);
    expect_all_pages_back(e);
    loam_engine_stat(e, &st);
    assert_true(st.timeouts >= 2 && st.timeouts <= 3 && st.prompt_tokens <= 1 + 3 + LONG); /* when one text is late, the others are cancelled */
    loam_job_close(half);
    gate_free(&g);
    loam_engine_close(e);
}

/* ---- order ------------------------------------------------------------------------------------------------ */

static atomic_int turn;

typedef struct turns {
    atomic_int first, last; /* among all texts that ended */
} turns;

static void take_turn(void *arg)
{
    turns *t = arg;
    int now = atomic_fetch_add(&turn, 1) + 1;
    if (!atomic_load(&t->first)) atomic_store(&t->first, now);
    atomic_store(&t->last, now);
}

/* Two jobs of n texts each, one text at a time; both are there before either may start. */
static void two_jobs(loam_job_request a, loam_job_request b, const uint32_t n[2], turns t[2])
{
    gate g;
    texts in[2];
    uint32_t tokens[MOST];
    loam_job *j[2];
    loam_job_request *r[] = { &a, &b };
    loam_engine *e = open_with((loam_options){ .max_running = 1 });
    for (int i = 0; i < MOST; i++) tokens[i] = 5;
    atomic_store(&turn, 0);
    memset(t, 0, 2 * sizeof *t);
    gate_close(&g, e);
    for (int i = 0; i < 2; i++) {
        r[i]->on_ready = take_turn;
        r[i]->on_ready_arg = &t[i];
        make_texts(&in[i], tokens, n[i]);
        j[i] = begin(e, &in[i], *r[i]);
    }
    gate_open(&g);
    for (int i = 0; i < 2; i++) assert_int_equal(end(j[i]).finish, LOAM_FINISH_STOP);
    for (int i = 0; i < 2; i++) loam_job_close(j[i]);
    expect_all_pages_back(e);
    gate_free(&g);
    loam_engine_close(e);
}

static void the_urgent_come_first(void **unused)
{
    (void)unused;
    turns t[2];
    two_jobs((loam_job_request){ .priority = 5 }, (loam_job_request){ .kind = LOAM_JOB_SCORE, .priority = -5 }, (uint32_t[]){ 12, 3 }, t);
    assert_int_equal(atomic_load(&t[1].last), 3);
    assert_int_equal(atomic_load(&t[0].first), 4);
}

static void one_client_cannot_keep_another_away(void **unused)
{
    (void)unused;
    turns t[2];
    two_jobs((loam_job_request){ .client = 1 }, (loam_job_request){ .client = 2 }, (uint32_t[]){ MOST, 3 }, t);
    assert_true(atomic_load(&t[1].first) <= 2); /* although 16 came before it */
    assert_true(atomic_load(&t[1].last) <= 6);
    assert_int_equal(atomic_load(&t[0].last), MOST + 3);
}

/* Long ones are not all ahead: they would hold pages that others need. */
static void long_texts_leave_room_for_others(void **unused)
{
    (void)unused;
    gate g;
    texts t;
    uint32_t n[MOST];
    loam_engine_state st;
    loam_engine *e = open_with((loam_options){ 0 });
    for (int i = 0; i < MOST; i++) n[i] = LONG;
    make_texts(&t, n, MOST);
    gate_close(&g, e);
    loam_job *j = begin(e, &t, (loam_job_request){ .kind = LOAM_JOB_EMBED });
    loam_engine_stat(e, &st);
    assert_int_equal(st.waiting, 4); /* four steps' worth, as job.c says */
    gate_open(&g);
    assert_int_equal(end(j).finish, LOAM_FINISH_STOP);
    loam_job_close(j);
    gate_free(&g);
    loam_engine_close(e);
}

static void a_full_queue_refuses_new_ones_only(void **unused)
{
    (void)unused;
    gate g;
    texts t;
    loam_job *none;
    loam_err err;
    loam_engine_state st;
    loam_engine *e = open_with((loam_options){ .max_running = 1, .max_queued = 2 });
    make_texts(&t, (uint32_t[]){ 3, 4, 5, 6, 7 }, 5);
    gate_close(&g, e);
    loam_job *j = begin(e, &t, (loam_job_request){ .kind = LOAM_JOB_EMBED }); /* two of its texts fill the queue */
    loam_job_request other = { .kind = LOAM_JOB_SCORE, .texts = t.list, .n_texts = 1 };
    CHECK_FAILS(loam_job_begin(e, &none, &other, NULL, &err), err, LOAM_E_BUSY, "waiting");
    loam_engine_stat(e, &st);
    assert_int_equal(st.waiting, 2);
    assert_int_equal(st.refused, 1);
    gate_open(&g);
    assert_int_equal(end(j).finish, LOAM_FINISH_STOP);
    loam_job_close(j);
    expect_all_pages_back(e);
    gate_free(&g);
    loam_engine_close(e);
}

/* Who was let in goes on however full the queue is by then. */
static void a_job_that_was_let_in_is_not_turned_away(void **unused)
{
    (void)unused;
    loam_engine *e = open_with((loam_options){ .max_running = 1, .max_queued = 1 });
    loam_request one = { .max_new = 3, .ignore_eos = true };
    loam_engine_state st;
    loam_stream *refused;
    answer a;
    loam_err err;
    gate first, second;
    texts t;
    make_texts(&t, (const uint32_t[]){ 20, 20, 20 }, 3);
    gate_close(&first, e);
    loam_job *j = begin(e, &t, (loam_job_request){ .kind = LOAM_JOB_EMBED }); /* one text fills the queue */
    gate_open(&first);
    do loam_engine_stat(e, &st);
    while (st.finished[LOAM_FINISH_STOP] < 1 || st.running || st.waiting);
    gate_close(&second, e);
    loam_stream *waits = submit(e, "w", one);
    loam_request r = one;
    r.tokens = t.ids;
    r.n_tokens = 4;
    assert_int_equal(loam_submit(e, &refused, &r, &err), LOAM_E_BUSY);
    assert_int_equal(loam_job_poll(j, 0), LOAM_E_TIMEOUT);
    gate_open(&second);
    assert_int_equal(end(j).finish, LOAM_FINISH_STOP);
    read_all(waits, &a);
    assert_int_equal(a.n, 3);
    loami_buf_free(&a.text);
    loam_job_close(j);
    loam_stream_close(waits);
    gate_free(&first);
    gate_free(&second);
    loam_engine_close(e);
}

static void ready(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void who_polls_is_told(void **unused)
{
    (void)unused;
    texts t;
    uint32_t n[MOST];
    atomic_int told = 0;
    loam_engine *e = open_with((loam_options){ .max_running = 2 });
    for (uint32_t i = 0; i < MOST; i++) n[i] = 1 + i * 31 % 200;
    make_texts(&t, n, MOST);
    loam_job *j = begin(e, &t, (loam_job_request){ .kind = LOAM_JOB_EMBED, .on_ready = ready, .on_ready_arg = &told });
    do {
        while (atomic_load(&told) == 0) sched_yield(); /* would hang if it were not told */
        atomic_store(&told, 0);
    } while (loam_job_poll(j, 0) < 0);
    loam_job_close(j);
    expect_all_pages_back(e);
    loam_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_texts_are_what_each_is_alone),
        cmocka_unit_test(short_texts_share_steps),
        cmocka_unit_test(what_makes_no_sense_is_refused_at_once),
        cmocka_unit_test(cancelled_half_way),
        cmocka_unit_test(closed_while_the_engine_writes),
        cmocka_unit_test(time_runs_out_in_the_queue_and_half_way),
        cmocka_unit_test(the_urgent_come_first),
        cmocka_unit_test(one_client_cannot_keep_another_away),
        cmocka_unit_test(long_texts_leave_room_for_others),
        cmocka_unit_test(a_full_queue_refuses_new_ones_only),
        cmocka_unit_test(a_job_that_was_let_in_is_not_turned_away),
        cmocka_unit_test(who_polls_is_told),
    };
    folder = temp_make();
    tiny_make(folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove(folder);
    return failed;
}
