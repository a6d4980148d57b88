#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gguf_make.h"
#include "store/import.h"
#include "store/store.h"
#include "temp.h"

/* The smallest llama that can be imported: an embedding of 32 by 4 in Q4_1. */
static void put_model(const char *dir)
{
    static const char *const words[] = { "<s>", "a", "b", "ab" };
    loami_buf b = { 0 };
    put_header(&b, 3, 1, 12);
    put_string(&b, "general.architecture", "llama");
    put_u32(&b, "llama.block_count", 1);
    put_u32(&b, "llama.context_length", 64);
    put_u32(&b, "llama.embedding_length", 32);
    put_u32(&b, "llama.feed_forward_length", 32);
    put_u32(&b, "llama.attention.head_count", 1);
    put_key(&b, "llama.attention.layer_norm_rms_epsilon", LOAMI_GGUF_F32);
    put_uint(&b, 0x3727c5ac, 4); /* 1e-5 */
    put_string(&b, "tokenizer.ggml.model", "gpt2");
    put_string(&b, "tokenizer.ggml.pre", "smollm");
    put_key(&b, "tokenizer.ggml.tokens", LOAMI_GGUF_ARRAY);
    put_uint(&b, LOAMI_GGUF_STRING, 4);
    put_uint(&b, 4, 8);
    for (int i = 0; i < 4; i++) put_text(&b, words[i]);
    put_key(&b, "tokenizer.ggml.merges", LOAMI_GGUF_ARRAY);
    put_uint(&b, LOAMI_GGUF_STRING, 4);
    put_uint(&b, 1, 8);
    put_text(&b, "a b");
    put_u32(&b, "tokenizer.ggml.eos_token_id", 0);
    put_tensor(&b, "token_embd.weight", LOAMI_GGUF_T_Q4_1, 32, 4, 0);
    put_data(&b, 32, 80);
    temp_write(dir, "m.gguf", b.data, b.len);
    loami_buf_free(&b);
}

static int count(void *arg, const char *name)
{
    (void)name;
    ++*(int *)arg;
    return 0;
}

static int entries(const char *dir)
{
    char path[LOAMI_PATH_MAX];
    int n = 0;
    snprintf(path, sizeof path, "%s/models", dir);
    if (loami_dir_exists(path)) assert_int_equal(loami_dir_each(path, count, &n, NULL), 0);
    return n;
}

struct heard {
    int steps, lines, stop_at;
    uint64_t done, total;
};

static int step(void *arg, uint64_t done, uint64_t total)
{
    struct heard *h = arg;
    h->done = done;
    h->total = total;
    return ++h->steps == h->stop_at ? -1 : 0;
}

static void say(void *arg, const char *line)
{
    struct heard *h = arg;
    assert_non_null(line);
    h->lines++;
}

static void reports_and_stops(void **state)
{
    char *dir = temp_make(), file[LOAMI_PATH_MAX];
    struct heard h = { .stop_at = 1 };
    loami_import_options o = { .name = "m", .progress = { &h, step, say } };
    loam_err err;
    (void)state;
    setenv("LOAM_HOME", dir, 1);
    put_model(dir);
    snprintf(file, sizeof file, "%s/m.gguf", dir);
    assert_int_equal(loami_import_gguf(file, &o, &err), LOAM_E_CANCELLED);
    assert_int_equal(entries(dir), 0);

    h = (struct heard){ 0 };
    assert_int_equal(loami_import_gguf(file, &o, &err), 0);
    assert_int_equal(entries(dir), 1);
    assert_int_equal(h.done, 80);
    assert_int_equal(h.total, 80);
    assert_true(h.lines >= 1);
    temp_remove(dir);
}

/* Files beside the model belong to it: when they fail, all does. */
static int refuse(void *arg, const char *dir, loam_err *err)
{
    (void)arg;
    return loami_fail(err, LOAM_E_IO, "%s: no", dir);
}

static void leaves_nothing_on_failure(void **state)
{
    char *dir = temp_make(), file[LOAMI_PATH_MAX];
    loami_import_options o = { .name = "m", .beside = refuse };
    loam_err err;
    (void)state;
    setenv("LOAM_HOME", dir, 1);
    put_model(dir);
    snprintf(file, sizeof file, "%s/m.gguf", dir);
    assert_int_equal(loami_import_gguf(file, &o, &err), LOAM_E_IO);
    assert_int_equal(entries(dir), 0);
    temp_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(reports_and_stops),
                                        cmocka_unit_test(leaves_nothing_on_failure) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
