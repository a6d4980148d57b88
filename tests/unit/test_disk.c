/* Pages in files: what was put comes back, nothing else ever does, and a restart finds it. */
#include "ask.h"

#include "base/clock.h"
#include "engine/engine.h"

#include <glob.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE_TOKENS = 4, PAGE_BYTES = 1000, LIMIT_PAGES = 10 };

static loami_disk_config config(const char *dir)
{
    return (loami_disk_config){ .dir = dir, .identity = 0xabc, .limit_bytes = LIMIT_PAGES * (PAGE_BYTES + 200), .page_bytes = PAGE_BYTES,
                                .page_tokens = PAGE_TOKENS, .context_tokens = 64 };
}

static loami_disk *open_disk(const loami_disk_config *c)
{
    loami_disk *d;
    loam_err err;
    CHECK_OK(loami_disk_open(&d, c, &err), err, 0);
    return d;
}

/* Page number k: one page deep, its tokens and bytes made from k. */
static void make(uint32_t k, int32_t *tokens, char *bytes)
{
    for (int i = 0; i < PAGE_TOKENS; i++) tokens[i] = (int32_t)(k * 10) + i;
    memset(bytes, (int)(k % 251) + 1, PAGE_BYTES);
}

static void put(loami_disk *d, uint32_t k)
{
    int32_t tokens[PAGE_TOKENS];
    make(k, tokens, loami_disk_room(d, true));
    loami_disk_put(d, k + 1, 7, tokens, PAGE_TOKENS);
}

static bool got(loami_disk *d, uint32_t k)
{
    int32_t tokens[PAGE_TOKENS];
    char want[PAGE_BYTES];
    make(k, tokens, want);
    const void *bytes = loami_disk_get(d, k + 1, 7, tokens, PAGE_TOKENS);
    if (bytes) assert_memory_equal(bytes, want, PAGE_BYTES);
    return bytes != NULL;
}

static char *path_of(char *out, const char *dir, uint32_t k)
{
    snprintf(out, 4200, "%s/0000000000000abc/%016x.page", dir, k + 1);
    return out;
}

static void what_was_put_comes_back(void **unused)
{
    (void)unused;
    char *dir = temp_make();
    loami_disk_config c = config(dir), other = c;
    loami_disk *d = open_disk(&c);
    for (uint32_t k = 0; k < 5; k++) put(d, k);
    loami_disk_close(d); /* writes what is left */
    d = open_disk(&c);
    for (uint32_t k = 0; k < 5; k++) assert_true(got(d, k));
    assert_false(got(d, 5));
    int32_t tokens[PAGE_TOKENS];
    char bytes[PAGE_BYTES];
    make(0, tokens, bytes);
    assert_null(loami_disk_get(d, 1, 8, tokens, PAGE_TOKENS)); /* another salt; and what lies is gone */
    assert_false(got(d, 0));
    make(1, tokens, bytes);
    tokens[2]++;
    assert_null(loami_disk_get(d, 2, 7, tokens, PAGE_TOKENS)); /* another text with the same hash */
    loami_disk_close(d);
    other.identity = 0xdef; /* another model */
    d = open_disk(&other);
    assert_false(got(d, 3));
    loami_disk_close(d);
    temp_remove(dir);
}

/* A file cut off anywhere, or with any byte changed, is not there; and then really not. */
static void damage_is_noticed(void **unused)
{
    (void)unused;
    char *dir = temp_make(), path[4200], *whole;
    size_t n;
    loam_err err;
    loami_disk_config c = config(dir);
    loami_disk *d = open_disk(&c);
    put(d, 3);
    loami_disk_close(d);
    path_of(path, dir, 3);
    CHECK_OK(loami_file_read(&whole, &n, path, 1 << 20, &err), err, 0);
    for (size_t at = 0; at < n; at += at < 90 ? 1 : 37) {
        for (int cut = 0; cut < 2; cut++) {
            char was = whole[at];
            whole[at] ^= 0x40;
            CHECK_OK(loami_file_write(path, whole, cut ? at : n, &err), err, 0);
            whole[at] = was;
            d = open_disk(&c);
            assert_false(got(d, 3));
            assert_false(loami_disk_has(d, 4));
            assert_int_equal(access(path, F_OK), -1);
            loami_disk_close(d);
        }
    }
    CHECK_OK(loami_file_write(path, whole, n, &err), err, 0);
    d = open_disk(&c);
    assert_true(got(d, 3));
    loami_disk_close(d);
    free(whole);
    temp_remove(dir);
}

/* What is no plain file is not read, and nobody waits for it. */
static void only_plain_files_are_read(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < 3; kind++) {
        char *dir = temp_make(), path[4200], aside[4300];
        loami_disk_config c = config(dir);
        loami_disk *d = open_disk(&c);
        put(d, 3);
        while (!loami_disk_has(d, 4)) sched_yield();
        assert_true(got(d, 3));
        path_of(path, dir, 3);
        snprintf(aside, sizeof aside, "%s.aside", path);
        assert_int_equal(rename(path, aside), 0);
        assert_int_equal(kind == 0 ? symlink(aside, path) : kind == 1 ? mkfifo(path, 0600) : mkdir(path, 0700), 0);
        alarm(60);                 /* who waits for the pipe's writer is ended */
        assert_false(got(d, 3));
        alarm(0);
        assert_false(loami_disk_has(d, 4));
        loami_disk_close(d);
        temp_remove(dir);
    }
}

static void the_limit_holds_and_the_oldest_go(void **unused)
{
    (void)unused;
    char *dir = temp_make();
    loami_disk_config c = config(dir);
    loami_disk *d = open_disk(&c);
    for (uint32_t k = 0; k < 100; k++) {
        put(d, k);
        while (!loami_disk_has(d, k + 1)) sched_yield();
        assert_true(loami_disk_bytes(d) <= c.limit_bytes);
        if (k >= 3) assert_true(got(d, 3)); /* used again and again */
    }
    uint32_t there = 0;
    for (uint32_t k = 0; k < 100; k++) there += loami_disk_has(d, k + 1);
    assert_int_equal(there, loami_disk_bytes(d) / (PAGE_BYTES + sizeof(loami_disk_head) + PAGE_TOKENS * 4));
    assert_true(there >= LIMIT_PAGES && got(d, 3) && got(d, 99) && !got(d, 50));
    loami_disk_close(d);
    c.limit_bytes /= 2; /* a smaller one next time */
    d = open_disk(&c);
    assert_true(loami_disk_bytes(d) <= c.limit_bytes && loami_disk_bytes(d) > 0);
    loami_disk_close(d);
    temp_remove(dir);
}

/* A file where the folder should be. */
static void a_folder_that_cannot_be_is_refused(void **unused)
{
    (void)unused;
    char *dir = temp_make(), path[4200];
    loami_disk *d;
    loam_err err;
    snprintf(path, sizeof path, "%s/file", dir);
    CHECK_OK(loami_file_write(path, "x", 1, &err), err, 0);
    loami_disk_config c = config(path);
    CHECK_FAILS(loami_disk_open(&d, &c, &err), err, LOAM_E_IO, "file");
    temp_remove(dir);
}

/* ---- with an engine ------------------------------------------------------------------------------------------------ */

typedef struct bits {
    int32_t id[32];
    float logprob[32];
    uint32_t n, cached;
} bits;

static void ask(loam_engine *e, uint32_t n_tokens, uint64_t salt, bits *b)
{
    int32_t ids[TINY_CONTEXT];
    loam_stream *s;
    loam_token t;
    loam_result r;
    loam_err err;
    for (uint32_t i = 0; i < n_tokens; i++) ids[i] = (int32_t)((i * i * 7 + i) % 256);
    *b = (bits){ 0 };
    CHECK_OK(loam_submit(e, &s, &(loam_request){ .tokens = ids, .n_tokens = n_tokens, .max_new = 20, .ignore_eos = true,
                                                 .want_logprobs = true, .cache_salt = salt }, &err), err, 0);
    while (loam_stream_next(s, &t, UINT32_MAX) > 0) {
        if (t.id < 0) continue;
        b->id[b->n] = t.id;
        b->logprob[b->n++] = t.logprob;
    }
    loam_stream_result(s, &r);
    b->cached = r.cached_tokens;
    loam_stream_close(s);
}

static void same(const bits *a, const bits *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->id, b->id, sizeof a->id);
    assert_memory_equal(a->logprob, b->logprob, sizeof a->logprob);
}

static void a_restart_finds_what_was_read(void **unused)
{
    (void)unused;
    static const char *const subs[] = { "reference", "cpu", "cpu" };
    for (int k = 0; k < 3; k++) {
        char *dir = temp_make();
        loam_options o = { .substrate = subs[k], .threads = 2, .kv_dir = dir, .kv_type = k == 2 ? "int8" : NULL };
        bits cold, warm;
        loam_engine_state st;
        loam_engine *e = open_with(o);
        ask(e, 400, 1, &cold);
        assert_int_equal(cold.cached, 0);
        loam_engine_close(e);
        e = open_with(o);
        ask(e, 400, 2, &warm); /* not for another salt */
        assert_int_equal(warm.cached, 0);
        same(&cold, &warm);
        ask(e, 400, 1, &warm);
        assert_int_equal(warm.cached, 384);
        same(&cold, &warm);
        expect_all_pages_back(e);
        loam_engine_stat(e, &st);
        assert_int_equal(st.disk_hits, warm.cached);
        loam_engine_close(e);
        o.exact = true; /* other arithmetic: other pages */
        e = open_with(o);
        ask(e, 400, 1, &warm);
        assert_int_equal(warm.cached, 0);
        loam_engine_close(e);
        o.exact = false;
        o.batch_invariant = true; /* pages of answers would not be what they promise */
        e = open_with(o);
        ask(e, 400, 1, &warm);
        assert_int_equal(warm.cached, 0);
        loam_engine_close(e);
        temp_remove(dir);
    }
}

/* Waits for so many pages in files: writing goes on after the answer is there, and what memory needs before is not waited for. */
static void expect_files(const char *dir, size_t n)
{
    char pattern[4200];
    size_t have = 0;
    snprintf(pattern, sizeof pattern, "%s/*/*.page", dir);
    for (double until = loami_now_s() + 60; have < n && loami_now_s() < until; sched_yield()) {
        glob_t found;
        have = glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
        globfree(&found);
    }
    assert_true(have >= n);
}

/* Memory for one context, a folder for many: what memory forgot comes back. */
static void what_memory_forgot_comes_back(void **unused)
{
    (void)unused;
    char *dir = temp_make();
    loam_options o = { .max_running = 1, .kv_dir = dir };
    bits first, other, again;
    loam_engine *e = open_with(o);
    ask(e, 300, 0, &first);
    expect_files(dir, 288 / e->sub_info.page_tokens);
    for (uint64_t salt = 1; salt < 6; salt++) ask(e, 480, salt, &other);
    ask(e, 300, 0, &again);
    assert_int_equal(again.cached, 288);
    same(&first, &again);
    loam_engine_close(e);
    temp_remove(dir);
}

static atomic_bool hangs, hung;

/* Stands in for the library's, which is called for every page that is read: a disk that does not answer. */
int futimens(int fd, const struct timespec times[2])
{
    (void)fd;
    (void)times;
    if (!atomic_load(&hangs)) return 0;
    atomic_store(&hung, true);
    while (atomic_load(&hangs)) sched_yield();
    return 0;
}

/* An engine that stands still outside any step, while it reads the first pages of s's prompt, n tokens long: 200 are in files. */
static loam_engine *open_hung(const char *dir, uint32_t n, loam_stream **s)
{
    loam_options o = { .kv_dir = dir };
    loam_request r = { .max_new = 4, .ignore_eos = true };
    char prompt[TINY_CONTEXT] = "";
    answer a;
    memset(prompt, 'h', 200);
    loam_engine *e = open_with(o);
    run(e, prompt, r, &a);
    loami_buf_free(&a.text);
    loam_engine_close(e);
    e = open_with(o);
    memset(prompt, 'h', n);
    atomic_store(&hung, false);
    atomic_store(&hangs, true);
    *s = submit(e, prompt, r);
    while (!atomic_load(&hung)) sched_yield();
    return e;
}

/* No step runs while pages are read: that the engine is stuck shows all the same, and no longer than it is. */
static void a_disk_that_hangs_shows(void **unused)
{
    (void)unused;
    char *dir = temp_make();
    loam_engine_state first, later;
    loam_stream *s;
    answer a;
    loam_engine *e = open_hung(dir, 200, &s);
    loam_engine_stat(e, &first);
    for (double now = loami_now_s(); loami_now_s() <= now;) continue;
    loam_engine_stat(e, &later);
    atomic_store(&hangs, false);
    read_all(s, &a);
    loam_stream_close(s);
    assert_int_equal(first.steps, 0);
    assert_true(first.step_s > 0 && later.step_s > first.step_s);
    assert_int_equal(a.n, 4);
    assert_int_equal(a.result.cached_tokens, 192);
    loami_buf_free(&a.text);
    do loam_engine_stat(e, &later);
    while (later.running || later.phase != LOAM_PHASE_IDLE);
    assert_true(later.step_s == 0);
    loam_engine_close(e);
    temp_remove(dir);
}

/* Cancelled while its prompt is being read: the step that was planned by then is the last. */
static void cancelled_in_prefill(void **unused)
{
    (void)unused;
    char *dir = temp_make();
    loam_engine_state st;
    loam_stream *s;
    answer a;
    loam_engine *e = open_hung(dir, 450, &s);
    loam_stream_cancel(s);
    atomic_store(&hangs, false);
    read_all(s, &a);
    loam_stream_close(s);
    assert_int_equal(a.result.finish, LOAM_FINISH_CANCELLED);
    assert_int_equal(a.result.code, LOAM_E_CANCELLED);
    assert_int_equal(a.n, 0);
    expect_all_pages_back(e);
    loam_engine_stat(e, &st);
    assert_true(st.steps <= 1 && st.prompt_tokens < 450 - 192); /* a fresh engine takes several for the rest */
    loam_engine_close(e);
    temp_remove(dir);
}

/* Where some layers have a window, a file has what both kinds keep of a page. */
static void windows_survive_too(void **unused)
{
    char *was = folder, path[4200], *text;
    size_t n;
    folder = temp_make();
    tiny_make(folder);
    snprintf(path, sizeof path, "%s/config.json", folder);
    assert_int_equal(loami_file_read(&text, &n, path, 1 << 16, NULL), 0);
    char *changed = malloc(n + 200), *family = strstr(text, "\"llama\"");
    snprintf(changed, n + 200, "%.*s\"mistral\",\"sliding_window\":40,\"layer_types\":[\"full_attention\",\"sliding_attention\"]%s",
             (int)(family - text), text, family + 7);
    assert_int_equal(loami_file_write(path, changed, strlen(changed), NULL), 0);
    free(text);
    free(changed);
    a_restart_finds_what_was_read(unused);
    what_memory_forgot_comes_back(unused);
    temp_remove(folder);
    folder = was;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_comes_back),
        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(only_plain_files_are_read),
        cmocka_unit_test(the_limit_holds_and_the_oldest_go),
        cmocka_unit_test(a_folder_that_cannot_be_is_refused),
        cmocka_unit_test(a_restart_finds_what_was_read),
        cmocka_unit_test(what_memory_forgot_comes_back),
        cmocka_unit_test(a_disk_that_hangs_shows),
        cmocka_unit_test(cancelled_in_prefill),
        cmocka_unit_test(windows_survive_too),
    };
    folder = temp_make();
    tiny_make(folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove(folder);
    return failed;
}
