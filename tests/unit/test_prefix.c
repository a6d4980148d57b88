/* What was read before is not read again, and nobody can tell from the answer: to the last bit, on both substrates that
 * are built in, whoever else is there. */
#include "ask.h"

#include "engine/sample.h"
#include "model/model.h"
#include "substrate/registry.h"

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

/* ---- windows ----------------------------------------------------------------------------------------------------- */

enum { WINDOW = 40 };

/* The tiny model as a Mistral whose layers all look back WINDOW tokens; or the first alone. */
static char *window_make(bool mixed)
{
    char *dir = temp_make(), path[4200], *text;
    size_t n;
    loam_err err;
    tiny_make(dir);
    snprintf(path, sizeof path, "%s/config.json", dir);
    CHECK_OK(loami_file_read(&text, &n, path, 1 << 16, &err), err, 0);
    char *changed = malloc(n + 200), *family = strstr(text, "\"llama\"");
    snprintf(changed, n + 200, "%.*s\"mistral\",\"sliding_window\":%d%s%s", (int)(family - text), text, WINDOW,
             mixed ? ",\"layer_types\":[\"sliding_attention\",\"full_attention\"]" : "", family + 7);
    CHECK_OK(loami_file_write(path, changed, strlen(changed), &err), err, 0);
    free(text);
    free(changed);
    return dir;
}

/* The likeliest token after each of ids[n], with the model alone and pages for everything: nothing is ever given up. */
static void without_engine(const char *dir, const char *substrate, const int32_t *ids, uint32_t n, int32_t *next)
{
    loami_machine m;
    loami_model *model;
    loam_sub_info info;
    loam_err err;
    uint64_t bytes;
    uint32_t pages[TINY_CONTEXT], wanted = 0;
    CHECK_OK(loami_substrate_find(&m.api, substrate, &err), err, 0);
    CHECK_OK(m.api->open(&m.sub, &(loam_sub_options){ .threads = 2 }, &err), err, 0);
    m.api->info(m.sub, &info);
    CHECK_OK(loami_model_open(&model, dir, m, &err), err, 0);
    const loami_config *c = &model->config;
    loam_kv_config kv = { .n_layers = c->n_layers, .n_kv = c->n_kv_heads, .head_dim = c->head_dim, .n_groups = 1 };
    kv.group[0].n_pages = TINY_CONTEXT / info.page_tokens;
    CHECK_OK(m.api->kv_open(m.sub, &kv, &bytes, &err), err, 0);
    for (uint32_t i = 0; i < kv.group[0].n_pages; i++) pages[i] = i;
    for (uint32_t i = 0; i < n; i++) {
        loam_seq_rows seq = { 0, 1, i, { pages } };
        m.api->begin(m.sub, &(loam_batch){ .n_rows = 1, .tokens = ids + i, .n_seqs = 1, .seqs = &seq, .n_wanted = 1, .wanted = &wanted, .steady = true });
        loam_tensor logits = model->family->forward(model);
        CHECK_OK(m.api->end(m.sub, &err), err, 0);
        next[i] = loami_argmax(m.api->read(m.sub, logits, NULL, NULL), c->vocab);
    }
    loami_model_close(model);
    m.api->close(m.sub);
}

/* Long answers hold the window's pages and no more, all of them come back, and the text is what it is with pages for all. */
static void keep_the_window(bool mixed)
{
    static const char *const subs[] = { "reference", "cpu" };
    enum { N = 3, LENGTH = 480 };
    char *dir = window_make(mixed);
    for (uint32_t k = 0; k < 2; k++) {
        loam_options o = { .model = dir, .substrate = subs[k], .threads = 2, .max_running = N, .batch_invariant = true };
        loam_engine *e;
        loam_engine_state st;
        loam_stream *s[N];
        loam_token t;
        loam_err err;
        uint32_t most = 0;
        CHECK_OK(loam_engine_open(&e, &o, &err), err, 0);
        for (uint32_t i = 0; i < N; i++) {
            int32_t prompt[LENGTH], n_prompt = (int32_t)(5 + 60 * i);
            for (int32_t p = 0; p < n_prompt; p++) prompt[p] = (p * 13 + (int32_t)i) % 256;
            s[i] = ask(e, prompt, (uint32_t)n_prompt, LENGTH - (uint32_t)n_prompt, 0, 0);
        }
        int32_t ids[N][LENGTH], next[LENGTH];
        uint32_t n[N] = { 0 };
        for (uint32_t left = N; left;) {
            for (uint32_t i = 0; i < N; i++) {
                if (!s[i]) continue;
                int rc = loam_stream_next(s[i], &t, UINT32_MAX);
                if (rc > 0 && t.id >= 0) ids[i][5 + 60 * i + n[i]++] = t.id;
                if (rc > 0) continue;
                loam_stream_close(s[i]);
                s[i] = NULL;
                left--;
            }
            loam_engine_stat(e, &st);
            uint32_t used = mixed ? st.near_pages_used : st.pages_used;
            if (used > most) most = used;
        }
        assert_true(most <= N * (2 * ((WINDOW + st.page_tokens - 1) / st.page_tokens) + 2 + 512 / st.page_tokens));
        if (k == 0) assert_true(most < N * 12); /* of the 30 that whole texts have */
        if (k == 0 && mixed) assert_true(st.near_pages < st.pages);
        expect_all_pages_back(e);
        loam_engine_stat(e, &st);
        assert_int_equal(st.near_pages_used, 0);
        loam_engine_close(e);
        for (uint32_t i = 0; i < N; i++) {
            for (uint32_t p = 0; p < 5 + 60 * i; p++) ids[i][p] = (int32_t)(p * 13 + i) % 256;
            without_engine(dir, subs[k], ids[i], LENGTH - 1, next);
            assert_int_equal(n[i], LENGTH - 5 - 60 * i);
            for (uint32_t p = 4 + 60 * i; p + 1 < LENGTH; p++) assert_int_equal(ids[i][p + 1], next[p]);
        }
    }
    temp_remove(dir);
}

static void only_the_window_is_kept(void **unused)
{
    (void)unused;
    keep_the_window(false);
    keep_the_window(true);
}

/* ---- some layers with a window, some without ---------------------------------------------------------------------- */

static void in_mixed(void (*test)(void **unused))
{
    char *was = folder;
    folder = window_make(true);
    test(NULL);
    temp_remove(folder);
    folder = was;
}

static void a_mixed_hit_is_a_miss(void **unused)
{
    (void)unused;
    in_mixed(a_hit_is_a_miss_bit_by_bit);
    in_mixed(neighbours_do_not_matter);
}

/* Few near pages for many texts that begin alike and part anywhere: whichever are gone, the answer is the same; so it is when pages
 * run out and sequences start over, and when a prompt is asked for several times at once. */
static void whatever_is_gone_the_answer_is_the_same(void **unused)
{
    (void)unused;
    enum { N = 12, LONGEST = 300, NEW = 60, AT_ONCE = 4 };
    static const char *const kv[] = { "f16", "int8" };
    char *was = folder;
    folder = window_make(true);
    int32_t ids[N][LONGEST + NEW];
    uint32_t n[N];
    for (uint32_t i = 0; i < N; i++) {
        uint32_t same = i ? below(LONGEST - 60) : 0;
        n[i] = i % 4 == 3 ? n[i - 1] : same + 1 + below(LONGEST - same);
        for (uint32_t t = 0; t < LONGEST; t++) ids[i][t] = i % 4 == 3 ? ids[i - 1][t] : t < same ? ids[0][t] : (int32_t)below(256);
    }
    for (uint32_t k = 0; k < 4; k++) {
        loam_options o = { .substrate = k % 2 ? "cpu" : "reference", .threads = 2, .kv_type = kv[k / 2], .batch_invariant = true, .max_running = 2 };
        bits alone[N], got;
        loam_engine_state st;
        loam_engine *e = open_with(o);
        for (uint32_t i = 0; i < N; i++) read_bits(ask(e, ids[i], n[i], NEW, 0.8f, 100 + i), &alone[i]);
        loam_engine_close(e);
        o.max_running = AT_ONCE;
        o.overcommit = true;
        e = open_with(o);
        loam_engine_stat(e, &st);
        o.kv_bytes = st.kv_bytes * (k % 2 ? 40 : 37) / 100; /* little more than one context */
        loam_engine_close(e);
        e = open_with(o);
        for (uint32_t round = 0; round < 4; round++) {
            for (uint32_t i = 0; i < N; i += AT_ONCE) {
                loam_stream *s[AT_ONCE];
                for (uint32_t j = 0; j < AT_ONCE; j++) s[j] = ask(e, ids[i + j], n[i + j], NEW, 0.8f, 0);
                for (uint32_t j = 0; j < AT_ONCE; j++) {
                    read_bits(s[j], &got);
                    same_bits(&alone[i + j], &got, got.n);
                }
            }
        }
        for (uint32_t i = 0; i < 2 * N; i++) { /* the conversations go on, behind answers longer than the window, or part within them */
            uint32_t more = i % 2 ? NEW : NEW / 3, at = i / 2;
            bits miss;
            memcpy(ids[at] + n[at], alone[at].id, more * sizeof **ids);
            read_bits(ask(e, ids[at], n[at] + more, 10, 0, 0), &got);
            read_bits(ask(e, ids[at], n[at] + more, 10, 0, 500 + i), &miss);
            assert_int_equal(miss.cached, 0);
            same_bits(&got, &miss, 10);
        }
        expect_all_pages_back(e);
        loam_engine_stat(e, &st);
        assert_int_equal(st.near_pages_used, 0);
        assert_true(st.prefix_hits > 0 && st.preemptions > 0);
        loam_engine_close(e);
    }
    temp_remove(folder);
    folder = was;
}

/* Nobody's pages are lost when readers leave in the middle. */
static void mixed_pages_come_back_from_who_leaves(void **unused)
{
    (void)unused;
    char *was = folder;
    loam_engine_state st;
    folder = window_make(true);
    loam_engine *e = open_with(options("reference"));
    for (uint32_t i = 0; i < 40; i++) {
        int32_t ids[300];
        for (uint32_t t = 0; t < 300; t++) ids[t] = (int32_t)(t < 150 ? t : below(256));
        loam_stream *s = ask(e, ids, 1 + below(300), 150, 0, 0);
        loam_token t;
        for (uint32_t k = below(60); k > 0 && loam_stream_next(s, &t, UINT32_MAX) > 0; k--) continue;
        loam_stream_close(s);
    }
    expect_all_pages_back(e);
    loam_engine_stat(e, &st);
    assert_int_equal(st.near_pages_used, 0);
    loam_engine_close(e);
    temp_remove(folder);
    folder = was;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hit_is_a_miss_bit_by_bit),
        cmocka_unit_test(neighbours_do_not_matter),
        cmocka_unit_test(what_is_kept_has_a_limit),
        cmocka_unit_test(only_the_window_is_kept),
        cmocka_unit_test(a_mixed_hit_is_a_miss),
        cmocka_unit_test(whatever_is_gone_the_answer_is_the_same),
        cmocka_unit_test(mixed_pages_come_back_from_who_leaves),
    };
    folder = temp_make();
    tiny_make(folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove(folder);
    return failed;
}
