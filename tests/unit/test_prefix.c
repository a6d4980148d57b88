/* What was read before is not read again, and nobody can tell from the answer: to the last bit, on both substrates that
 * are built in, whoever else is there. */
#include "ask.h"

typedef struct bits {
    int32_t id[64];
    float logprob[64];
    uint32_t n, cached;
} bits;

static void read_bits(loam_stream *s, bits *b)
{
    loam_token t;
    loam_result r;
    *b = (bits){ 0 };
    while (loam_stream_next(s, &t, UINT32_MAX) > 0) {
        if (t.id < 0) continue;
        b->id[b->n] = t.id;
        b->logprob[b->n++] = t.logprob;
    }
    loam_stream_result(s, &r);
    assert_int_equal(r.code, LOAM_OK);
    b->cached = r.cached_tokens;
    loam_stream_close(s);
}

static loam_stream *ask(loam_engine *e, const int32_t *ids, uint32_t n, uint32_t max_new, float temperature, uint64_t salt)
{
    loam_request r = { .tokens = ids, .n_tokens = n, .max_new = max_new, .ignore_eos = true, .want_logprobs = true, .cache_salt = salt,
                       .how = { .temperature = temperature, .seed = n, .has_seed = true } };
    loam_stream *s;
    loam_err err;
    CHECK_OK(loam_submit(e, &s, &r, &err), err, 0);
    return s;
}

static uint32_t state = 5;

static uint32_t below(uint32_t n)
{
    state = state * 1664525 + 1013904223;
    return (state >> 8) % n;
}

static void same_bits(const bits *a, const bits *b, uint32_t n)
{
    assert_true(a->n >= n && b->n >= n);
    assert_memory_equal(a->id, b->id, n * sizeof a->id[0]);
    assert_memory_equal(a->logprob, b->logprob, n * sizeof a->logprob[0]);
}

static loam_options options(const char *substrate)
{
    return (loam_options){ .substrate = substrate, .threads = 2, .max_running = 6 };
}

/* Greedy: cold, and after prompts that share ever more of it, read alone and in pieces beside others. */
static void a_hit_is_a_miss_bit_by_bit(void **unused)
{
    (void)unused;
    static const char *const subs[] = { "reference", "cpu" };
    static const uint32_t lengths[] = { 65, 129, 200, 257, 449 }; /* one token after a page, too */
    int32_t ids[TINY_CONTEXT];
    for (uint32_t i = 0; i < TINY_CONTEXT; i++) ids[i] = (int32_t)below(256);
    for (uint32_t k = 0; k < 2; k++) {
        loam_engine *warm = open_with(options(subs[k]));
        for (uint32_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            loam_engine *cold = open_with(options(subs[k]));
            bits miss, hit, busy;
            read_bits(ask(cold, ids, lengths[i], 20, 0, 0), &miss);
            read_bits(ask(warm, ids, lengths[i], 20, 0, 0), &hit);
            assert_int_equal(miss.cached, 0);
            if (i) assert_true(hit.cached > 0);
            same_bits(&miss, &hit, 20);
            loam_stream *other = ask(warm, ids + 3, 50 + below(100), 40, 1, below(100)), *more = ask(warm, ids + 9, 300, 5, 1, below(100));
            read_bits(ask(warm, ids, lengths[i], 1, 0, 0), &busy);
            same_bits(&miss, &busy, 1); /* beside others, answers are the same to rounding only */
            loam_stream_close(other);
            loam_stream_close(more);
            loam_engine_close(cold);
        }
        loam_engine_close(warm);
    }
}

/* With batch_invariant, whole answers too, whoever the neighbours are; and those of the next turn, which finds pages that were
 * written while answering. */
static void neighbours_do_not_matter(void **unused)
{
    (void)unused;
    static const char *const subs[] = { "reference", "cpu" };
    static const char *const kv[] = { "f16", "int8" };
    enum { N = 5, NEW = 30 };
    for (uint32_t k = 0; k < 4; k++) {
        loam_options o = options(subs[k % 2]);
        int32_t ids[N][TINY_CONTEXT];
        uint32_t n[N];
        bits alone[N], together;
        o.batch_invariant = true;
        o.kv_type = kv[k / 2];
        loam_engine *e = open_with(o);
        for (uint32_t i = 0; i < N; i++) {
            n[i] = 1 + below(i % 2 ? 300 : 40);
            for (uint32_t t = 0; t < n[i]; t++) ids[i][t] = (int32_t)below(256);
            read_bits(ask(e, ids[i], n[i], NEW, 0.8f, 0), &alone[i]);
        }
        for (uint32_t round = 0; round < 6; round++) {
            loam_stream *s[N];
            for (uint32_t i = 0; i < N; i++) s[i] = ask(e, ids[i], n[i], NEW - below(3), 0.8f, below(2) * round); /* cold and warm */
            for (uint32_t i = 0; i < N; i++) {
                read_bits(s[i], &together);
                same_bits(&alone[i], &together, together.n);
            }
        }
        for (uint32_t i = 0; i < N; i++) { /* the conversation goes on */
            memcpy(ids[i] + n[i], alone[i].id, NEW * sizeof **ids);
            bits hit, miss;
            read_bits(ask(e, ids[i], n[i] + NEW, 10, 0, 0), &hit);
            read_bits(ask(e, ids[i], n[i] + NEW, 10, 0, 77), &miss);
            assert_int_equal(miss.cached, 0);
            same_bits(&hit, &miss, 10);
        }
        loam_engine_close(e);
    }
}

/* Kept pages have a limit of their own, in bytes. */
static void what_is_kept_has_a_limit(void **unused)
{
    (void)unused;
    loam_options o = options("reference");
    loam_engine_state st;
    int32_t ids[200];
    bits b;
    loam_engine *e = open_with(o);
    loam_engine_stat(e, &st);
    o.prefix_bytes = st.kv_bytes / st.pages * 5;
    loam_engine_close(e);
    e = open_with(o);
    for (uint32_t i = 0; i < 8; i++) {
        for (uint32_t t = 0; t < 200; t++) ids[t] = (int32_t)below(256);
        read_bits(ask(e, ids, 200, 2, 0, 0), &b);
        do loam_engine_stat(e, &st);
        while (st.running);
        assert_int_equal(st.pages_kept, 5);
    }
    read_bits(ask(e, ids, 200, 2, 0, 0), &b);
    assert_int_equal(b.cached, 5 * 16); /* beginnings outlive continuations */
    loam_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hit_is_a_miss_bit_by_bit),
        cmocka_unit_test(neighbours_do_not_matter),
        cmocka_unit_test(what_is_kept_has_a_limit),
    };
    folder = temp_make();
    tiny_make(folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove(folder);
    return failed;
}
