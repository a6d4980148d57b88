#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "file/safetensors.h"
#include "temp.h"

#include <unistd.h>

/* Writes name with this header and n bytes of data 0, 1, 2... */
static void put(const char *dir, const char *name, const char *header, size_t n)
{
    size_t h = strlen(header);
    unsigned char *p = calloc(1, 8 + h + n);
    assert_non_null(p);
    for (int i = 0; i < 8; i++) p[i] = (unsigned char)((uint64_t)h >> 8 * i);
    memcpy(p + 8, header, h);
    for (size_t i = 0; i < n; i++) p[8 + h + i] = (unsigned char)i;
    temp_write(dir, name, p, 8 + h + n);
    free(p);
}

static void reads_tensors_in_file_order(void **state)
{
    char *dir = temp_make();
    loami_weights *w;
    loam_err err;
    (void)state;
    put(dir, "model.safetensors",
        "{\"b\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[4,12]},\"__metadata__\":{\"format\":"
        "\"mlx\"},"
        "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"e\":{\"dtype\":\"BF16\",\"shape\":["
        "0,7],\"data_offsets\":[4,4]},"
        "\"s\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[12,14]}}   ",
        14);
    assert_int_equal(loami_weights_open(&w, dir, &err), 0);
    assert_int_equal(loami_weights_count(w), 4);
    assert_string_equal(loami_weights_at(w, 0)->name, "a");
    assert_string_equal(loami_weights_at(w, 1)->name, "e");
    assert_null(loami_weights_at(w, 4));
    const loami_tensor_view *b = loami_weights_find(w, "b");
    assert_int_equal(b->type, LOAM_F32);
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(b->shape[0], 2);
    assert_int_equal(b->bytes, 8);
    assert_int_equal(*(const unsigned char *)b->data, 4);
    assert_int_equal(loami_weights_find(w, "s")->bytes, 2);
    assert_null(loami_weights_find(w, "c"));
    assert_string_equal(loami_weights_metadata(w, "format"), "mlx");
    assert_null(loami_weights_metadata(w, "other"));
    loami_weights_close(w);

    put(dir, "model.safetensors",
        "{\"__metadata__\":null,\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
        1); /* MLX's way */
    assert_int_equal(loami_weights_open(&w, dir, &err), 0);
    assert_null(loami_weights_metadata(w, "format"));
    loami_weights_close(w);
    temp_remove(dir);
}

#define T(type, shape, a, b) "{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" a "," b "]}"

/* Each is one mistake in a file of 8 data bytes, and a word that the message must have. */
static const struct {
    const char *header, *word;
    int code;
} bad[] = {
    { "[]", "object", LOAM_E_FORMAT },
    { "{", "line 1", LOAM_E_FORMAT },
    { "{\"a\":3}", "object", LOAM_E_FORMAT },
    { "{\"a\":" T("F32", "[2]", "0", "8") "} x", "line 1", LOAM_E_FORMAT },
    { "{\"a\":" T("F32", "[2]", "0", "8") ",\"a\":" T("F32", "[2]", "0", "8") "}", "duplicate",
      LOAM_E_FORMAT },
    { "{\"a\":" T("F9", "[2]", "0", "8") "}", "F9", LOAM_E_UNSUPPORTED },
    { "{\"a\":" T("F32", "[3]", "0", "8") "}", "need 12", LOAM_E_FORMAT },
    { "{\"a\":" T("F32", "[-2]", "0", "8") "}", "dimension 0", LOAM_E_FORMAT },
    { "{\"a\":" T("F32", "[2.0]", "0", "8") "}", "dimension 0", LOAM_E_FORMAT },
    { "{\"a\":" T("F32", "2", "0", "8") "}", "list", LOAM_E_FORMAT },
    { "{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,2]", "0", "8") "}", "dimensions", LOAM_E_FORMAT },
    { "{\"a\":" T("F32", "[4294967296,4294967296]", "0", "8") "}", "too large", LOAM_E_FORMAT },
    { "{\"a\":" T("F32", "[4611686018427387906]", "0", "8") "}", "too large", LOAM_E_FORMAT },
    { "{\"a\":" T("F32", "[2]", "-8", "0") "}", "offsets", LOAM_E_FORMAT },
    { "{\"a\":" T("F32", "[2]", "8", "0") "}", "outside", LOAM_E_FORMAT },
    { "{\"a\":" T("F32", "[2]", "4", "12") "}", "outside", LOAM_E_FORMAT },
    { "{\"a\":" T("F32", "[2]", "9223372036854775800", "9223372036854775807") "}", "outside", LOAM_E_FORMAT },
    { "{\"a\":" T("F32", "[2]", "0", "99999999999999999999") "}", "line 1", LOAM_E_FORMAT },
    { "{\"a\":" T("F32", "[2]", "0", "8") ",\"b\":" T("F32", "[1]", "4", "8") "}", "overlaps",
      LOAM_E_FORMAT },
    { "{\"a\":" T("U8", "[3]", "0", "3") ",\"b\":" T("U8", "[4]", "4", "8") "}", "gap", LOAM_E_FORMAT },
    { "{\"a\":" T("U8", "[3]", "0", "3") "}", "after the last", LOAM_E_FORMAT },
    { "{\"a\":" T("U8", "[8]", "0", "8") ",\"__metadata__\":{\"x\":1}}", "metadata", LOAM_E_FORMAT },
    { "{\"a\":" T("U8", "[8]", "0", "8") ",\"__metadata__\":[]}", "metadata", LOAM_E_FORMAT },
};

static void refuses_bad_headers(void **state)
{
    char *dir = temp_make();
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        loami_weights *w = NULL;
        loam_err err = { 0 };
        put(dir, "model.safetensors", bad[i].header, 8);
        if (loami_weights_open(&w, dir, &err) != bad[i].code || w || !strstr(err.msg, bad[i].word))
            fail_msg("%s: got %d %s", bad[i].header, err.code, err.msg);
    }
    temp_remove(dir);
}

static void refuses_bad_files(void **state)
{
    static const unsigned char huge[9] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{' };
    char *dir = temp_make();
    loami_weights *w = NULL;
    loam_err err;
    (void)state;
    assert_int_equal(loami_weights_open(&w, dir, &err), LOAM_E_NOT_FOUND);
    temp_write(dir, "model.safetensors", "", 0);
    assert_int_equal(loami_weights_open(&w, dir, &err), LOAM_E_FORMAT);
    temp_write(dir, "model.safetensors", huge, sizeof huge);
    assert_int_equal(loami_weights_open(&w, dir, &err), LOAM_E_FORMAT);
    assert_non_null(strstr(err.msg, "18446744073709551615"));

    size_t n = 1 << 20; /* deep nesting must not use up the stack */
    char *deep = malloc(n + 1);
    assert_non_null(deep);
    memset(deep, '[', n);
    deep[n] = 0;
    put(dir, "model.safetensors", deep, 0);
    assert_int_equal(loami_weights_open(&w, dir, &err), LOAM_E_FORMAT);
    free(deep);
    temp_remove(dir);
}

static void index_file(const char *dir, const char *text)
{
    temp_write(dir, "model.safetensors.index.json", text, strlen(text));
}

static void reads_shards(void **state)
{
    char *dir = temp_make();
    loami_weights *w = NULL;
    loam_err err;
    (void)state;
    put(dir, "model-1.safetensors", "{\"a\":" T("U8", "[8]", "0", "8") "}", 8);
    put(dir, "model-2.safetensors", "{\"b\":" T("U8", "[2]", "0", "2") "}", 2);
    assert_int_equal(loami_weights_open(&w, dir, &err), 0); /* without an index, as mlx-lm does */
    assert_int_equal(loami_weights_count(w), 2);
    loami_weights_close(w);

    index_file(dir, "{\"weight_map\":{\"b\":\"model-2.safetensors\",\"a\":\"model-1.safetensors\"}}");
    assert_int_equal(loami_weights_open(&w, dir, &err), 0);
    assert_string_equal(loami_weights_find(w, "b")->file, "model-2.safetensors");
    loami_weights_close(w);

    static const struct {
        const char *map, *word;
    } wrong[] = {
        { "{\"a\":\"../model-1.safetensors\"}", "same folder" },
        { "{\"a\":\"/etc/passwd\"}", "same folder" },
        { "{\"a\":1}", "same folder" },
        { "[]", "object" },
        { "{\"a\":\"model-2.safetensors\"}", "not in" },
        { "{\"c\":\"model-2.safetensors\"}", "not in" },
        { "{\"a\":\"model-3.safetensors\"}", "model-3" },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[256];
        w = NULL;
        snprintf(text, sizeof text, "{\"weight_map\":%s}", wrong[i].map);
        index_file(dir, text);
        assert_true(loami_weights_open(&w, dir, &err) < 0);
        if (!strstr(err.msg, wrong[i].word)) fail_msg("%s: got %s", text, err.msg);
    }
    put(dir, "model-2.safetensors", "{\"a\":" T("U8", "[2]", "0", "2") "}", 2);
    index_file(dir, "{\"weight_map\":{\"a\":\"model-1.safetensors\",\"x\":\"model-2.safetensors\"}}");
    assert_int_equal(loami_weights_open(&w, dir, &err), LOAM_E_FORMAT);
    assert_non_null(strstr(err.msg, "already"));
    temp_remove(dir);
}

static void write_three(const char *dir, uint64_t shard_bytes)
{
    unsigned char bytes[24];
    loami_writer *out;
    loam_err err;
    for (int i = 0; i < 24; i++) bytes[i] = (unsigned char)(7 * i);
    assert_int_equal(loami_writer_open(&out, dir, shard_bytes, &err), 0);
    assert_int_equal(loami_writer_add(out, "x\"y", LOAM_F32, 2, (uint64_t[]){ 2, 2 }, &err), 0);
    assert_int_equal(loami_writer_add(out, "x\"y", LOAM_F32, 2, (uint64_t[]){ 2, 2 }, &err), LOAM_E_FORMAT);
    assert_int_equal(loami_writer_add(out, "none", LOAM_U8, 1, (uint64_t[]){ 0 }, &err), 0);
    assert_int_equal(loami_writer_add(out, "z", LOAM_BF16, 1, (uint64_t[]){ 4 }, &err), 0);
    assert_int_equal(loami_writer_begin(out, &err), 0);
    assert_int_equal(loami_writer_data(out, bytes, 5, &err), 0);
    assert_int_equal(loami_writer_data(out, bytes + 5, 19, &err), 0);
    assert_int_equal(loami_writer_data(out, bytes, 1, &err), LOAM_E_ARG);
    assert_int_equal(loami_writer_close(out, &err), 0);
}

static void writes_what_it_reads(void **state)
{
    (void)state;
    for (uint64_t shard = 0; shard <= 16; shard += 16) {
        char *dir = temp_make();
        loami_weights *w;
        loam_err err;
        write_three(dir, shard);
        assert_int_equal(loami_weights_open(&w, dir, &err), 0);
        assert_int_equal(loami_weights_count(w), 3);
        const loami_tensor_view *z = loami_weights_find(w, "z");
        assert_int_equal(z->type, LOAM_BF16);
        assert_int_equal(*(const unsigned char *)z->data, 7 * 16);
        assert_string_equal(z->file, shard ? "model-00002-of-00002.safetensors" : "model.safetensors");
        assert_int_equal((uintptr_t)loami_weights_find(w, "x\"y")->data % 64, 0);
        loami_weights_close(w);
        temp_remove(dir);
    }
}

static int count_entry(void *arg, const char *name)
{
    (void)name;
    ++*(int *)arg;
    return 0;
}

static void leaves_nothing_half_written(void **state)
{
    char *dir = temp_make();
    loami_writer *out;
    loam_err err;
    int n = 0;
    (void)state;
    assert_int_equal(loami_writer_open(&out, dir, 0, &err), 0);
    assert_int_equal(loami_writer_add(out, "a", LOAM_F32, 1, (uint64_t[]){ 4 }, &err), 0);
    assert_int_equal(loami_writer_begin(out, &err), 0);
    assert_int_equal(loami_writer_data(out, "12345678", 8, &err), 0);
    assert_int_equal(loami_writer_close(out, &err), LOAM_E_ARG);
    assert_non_null(strstr(err.msg, "missing"));
    assert_int_equal(loami_dir_each(dir, count_entry, &n, &err), 0);
    assert_int_equal(n, 0);
    temp_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_tensors_in_file_order), cmocka_unit_test(refuses_bad_headers),
        cmocka_unit_test(refuses_bad_files),           cmocka_unit_test(reads_shards),
        cmocka_unit_test(writes_what_it_reads),        cmocka_unit_test(leaves_nothing_half_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
