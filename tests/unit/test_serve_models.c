/* What several models of a server may take: together they stay under the limit, whoever is loaded first. */
#include "ask.h"

#include "cmd/serve_models.h"

enum { N = 2, CONTEXT = 8192, KV_TOKEN = 2 * 2 * (16 * 2 + 4), ONE = CONTEXT * KV_TOKEN, FULL = 8 * ONE }; /* 2 layers, a head padded to 16 */

/* The tiny model with a long context, so that its KV cache counts. */
static void make_model(const char *dir)
{
    char path[4200], *text;
    size_t n;
    tiny_make(dir);
    snprintf(path, sizeof path, "%s/config.json", dir);
    assert_int_equal(loami_file_read(&text, &n, path, 1 << 16, NULL), 0);
    loami_buf b = { 0 };
    const char *at = strstr(text, "embeddings\":512"), *rest = at + strlen("embeddings\":512");
    loami_buf_printf(&b, "%.*sembeddings\":%d%s", (int)(at - text), text, CONTEXT, rest);
    assert_int_equal(loami_file_write(path, b.data, b.len, NULL), 0);
    loami_buf_free(&b);
    free(text);
}

static void find(loami_serve_models *m, const char *const dirs[N], loam_options o, bool pinned)
{
    loam_err err;
    loami_serve_wish w = { .models = { .n = N }, .options = o };
    for (uint32_t i = 0; i < N; i++) w.models.item[i] = dirs[i];
    if (pinned) w.pinned = (loami_opt_list){ { dirs[0] }, 1 };
    CHECK_OK(loami_serve_models_find(m, &w, &err), err, 0);
}

static void none_takes_what_another_needs(void **unused)
{
    (void)unused;
    const char *const dirs[N] = { temp_make(), temp_make() };
    loam_options o = { .memory_bytes = (uint64_t)1 << 40, .substrate = "cpu", .threads = 2 };
    loami_serve_models m;
    loam_err err;
    for (int i = 0; i < N; i++) make_model(dirs[i]);

    find(&m, dirs, o, true); /* there is enough */
    uint64_t alone = m.list[0].bytes;
    for (int i = 0; i < N; i++) assert_int_equal(m.list[i].options.kv_bytes, 0);
    loami_serve_models_free(&m);
    o.memory_bytes = N * alone;

    uint64_t taken = 0;
    find(&m, dirs, o, true); /* the steps may need more than is guessed: caches are cut */
    loam_engine *e[N];
    for (int i = 0; i < N; i++) {
        loam_options each = m.list[i].options;
        loam_engine_state st;
        assert_true(each.kv_bytes > ONE && each.kv_bytes < FULL);
        each.memory_bytes = o.memory_bytes - taken;
        CHECK_OK(loam_engine_open(&e[i], &each, &err), err, 0);
        assert_int_equal(loam_engine_info(e[i])->context_tokens, CONTEXT);
        loam_engine_stat(e[i], &st);
        assert_true(st.weight_bytes + st.kv_bytes + st.scratch_bytes <= m.list[i].bytes + (alone - FULL) / 4);
        taken += st.weight_bytes + st.kv_bytes + st.scratch_bytes;
    }
    assert_true(taken <= o.memory_bytes);
    for (int i = 0; i < N; i++) loam_engine_close(e[i]);
    loami_serve_models_free(&m);

    o.memory_bytes = N * (alone - FULL); /* room for one of them beside the pinned one, hardly */
    find(&m, dirs, o, true);
    assert_int_equal(m.list[0].options.kv_bytes, ONE);
    assert_int_equal(m.list[1].options.kv_bytes, 0);
    loami_serve_models_free(&m);
    find(&m, dirs, o, false); /* they take turns */
    for (int i = 0; i < N; i++) assert_int_equal(m.list[i].options.kv_bytes, 0);
    loami_serve_models_free(&m);
    o.kv_bytes = 12345678; /* whoever says how much gets it */
    find(&m, dirs, o, true);
    for (int i = 0; i < N; i++) assert_int_equal(m.list[i].options.kv_bytes, 12345678);
    loami_serve_models_free(&m);
    for (int i = 0; i < N; i++) temp_remove((char *)(uintptr_t)dirs[i]);
}

static void eight_bits_are_counted_as_such(void **unused)
{
    (void)unused;
    const char *const dirs[N] = { temp_make(), temp_make() };
    loami_serve_models whole, half;
    for (int i = 0; i < N; i++) make_model(dirs[i]);
    find(&whole, dirs, (loam_options){ .memory_bytes = (uint64_t)1 << 40 }, false);
    find(&half, dirs, (loam_options){ .memory_bytes = (uint64_t)1 << 40, .kv_type = "int8" }, false);
    assert_int_equal(whole.list[0].bytes - half.list[0].bytes, FULL - (uint64_t)8 * CONTEXT * 2 * 2 * (16 + 4));
    loami_serve_models_free(&whole);
    loami_serve_models_free(&half);
    for (int i = 0; i < N; i++) temp_remove((char *)(uintptr_t)dirs[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(none_takes_what_another_needs),
        cmocka_unit_test(eight_bits_are_counted_as_such),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
