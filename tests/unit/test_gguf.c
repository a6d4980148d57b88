#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gguf_make.h"

#include <stdlib.h>

/* A file with a value of every kind and two tensors. */
static void put_good(loami_buf *b, uint32_t version)
{
    static const struct {
        uint32_t kind, bytes;
        uint64_t bits;
    } numbers[] = { { LOAMI_GGUF_U8, 1, 0xff },        { LOAMI_GGUF_I8, 1, 0xff },
                    { LOAMI_GGUF_U16, 2, 0xffff },     { LOAMI_GGUF_I16, 2, 0xffff },
                    { LOAMI_GGUF_U32, 4, 0xffffffff }, { LOAMI_GGUF_I32, 4, 0xffffffff },
                    { LOAMI_GGUF_F32, 4, 0x3fc00000 }, { LOAMI_GGUF_U64, 8, 1ull << 40 },
                    { LOAMI_GGUF_I64, 8, UINT64_MAX }, { LOAMI_GGUF_F64, 8, 0x3ff8000000000000 } };
    char key[8] = "n0";
    put_header(b, version, 2, 14);
    for (size_t i = 0; i < 10; i++) {
        key[1] = (char)('0' + i);
        put_key(b, key, numbers[i].kind);
        put_uint(b, numbers[i].bits, (int)numbers[i].bytes);
    }
    put_key(b, "yes", LOAMI_GGUF_BOOL);
    put_uint(b, 1, 1);
    put_string(b, "text", "caf\xc3\xa9");
    put_key(b, "words", LOAMI_GGUF_ARRAY);
    put_uint(b, LOAMI_GGUF_STRING, 4);
    put_uint(b, 2, 8);
    put_text(b, "");
    put_text(b, "two");
    put_key(b, "lists", LOAMI_GGUF_ARRAY);
    put_uint(b, LOAMI_GGUF_ARRAY, 4);
    put_uint(b, 1, 8);
    put_uint(b, LOAMI_GGUF_I16, 4);
    put_uint(b, 3, 8);
    put_uint(b, 0, 6);
    put_tensor(b, "a", LOAMI_GGUF_T_Q4_1, 64, 2, 32);
    put_tensor(b, "b", LOAMI_GGUF_T_F16, 3, 0, 0);
    put_data(b, 32, 32 + 80);
}

static void reads_all_kinds(void **state)
{
    static const double want[] = { 255, -1, 65535, -1, 4294967295.0, -1, 1.5, 1099511627776.0, -1, 1.5 };
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        loami_buf b = { 0 };
        loami_gguf *g;
        loam_err err;
        char key[3] = "n0";
        double d;
        bool yes = false;
        const char *s;
        uint32_t u;
        put_good(&b, version);
        assert_int_equal(loami_gguf_parse(&g, b.data, b.len, "f", &err), 0);
        for (int i = 0; i < 10; i++) {
            key[1] = (char)('0' + i);
            assert_int_equal(loami_gguf_double(g, key, -1e300, 1e300, &d, &err), 1);
            assert_true(d == want[i]);
        }
        assert_int_equal(loami_gguf_bool(g, "yes", &yes, &err), 1);
        assert_true(yes);
        assert_int_equal(loami_gguf_string(g, "text", &s, &err), 1);
        assert_string_equal(s, "caf\xc3\xa9");
        assert_int_equal(loami_gguf_string(g, "none", &s, &err), 0);
        assert_int_equal(loami_gguf_string(g, "yes", &s, &err), LOAM_E_FORMAT);
        assert_int_equal(loami_gguf_u32(g, "n6", 0, 9, &u, &err), LOAM_E_FORMAT); /* 1.5 */
        assert_int_equal(loami_gguf_u32(g, "n1", 0, 9, &u, &err), LOAM_E_FORMAT); /* -1 */
        assert_int_equal(loami_gguf_u32(g, "words", 0, 9, &u, &err), LOAM_E_FORMAT);

        const loami_gguf_value *words = loami_gguf_get(g, "words");
        const unsigned char *at = words->data;
        uint64_t n;
        loami_gguf_next(&at, &n);
        assert_int_equal(n, 0);
        assert_memory_equal(loami_gguf_next(&at, &n), "two", 3);
        assert_int_equal(n, 3);

        const loami_gguf_tensor *t = loami_gguf_find(g, "a");
        assert_int_equal(t->bytes, 80);
        assert_int_equal(t->shape[0], 64);
        assert_int_equal(t->shape[1], 2);
        assert_int_equal(t->data[0], 32);
        assert_int_equal(loami_gguf_find(g, "b")->bytes, 6);
        assert_int_equal(loami_gguf_find(g, "b")->shape[1], 1);
        loami_gguf_close(g);
        loami_buf_free(&b);
    }
}

/* Every prefix of a good file is refused, whatever it cuts. */
static void refuses_every_prefix(void **state)
{
    loami_buf b = { 0 };
    (void)state;
    put_good(&b, 3);
    for (size_t n = 0; n < b.len; n++) {
        loami_gguf *g = NULL;
        loam_err err;
        void *copy = malloc(n + 1); /* of its own, so that a sanitizer sees a read beyond it */
        memcpy(copy, b.data, n);
        assert_true(loami_gguf_parse(&g, copy, n, "f", &err) < 0);
        assert_null(g);
        free(copy);
    }
    loami_buf_free(&b);
}

static int parse(loami_buf *b, loam_err *err)
{
    loami_gguf *g = NULL;
    int rc = loami_gguf_parse(&g, b->data, b->len, "f", err);
    loami_gguf_close(g);
    loami_buf_clear(b);
    return rc;
}

static void expect(loami_buf *b, int code, const char *word)
{
    loam_err err = { 0 };
    int rc = parse(b, &err);
    if (rc != code || !strstr(err.msg, word)) fail_msg("want %d \"%s\", got %d %s", code, word, rc, err.msg);
}

static void refuses_bad_headers(void **state)
{
    loami_buf b = { 0 };
    (void)state;
    loami_buf_puts(&b, "GGML and more of it, at least as long as a header");
    expect(&b, LOAM_E_FORMAT, "not a GGUF");
    put_header(&b, 1, 0, 0);
    expect(&b, LOAM_E_UNSUPPORTED, "version 1");
    put_header(&b, 0x03000000, 0, 0);
    expect(&b, LOAM_E_UNSUPPORTED, "big-endian");
    put_header(&b, 3, 0, UINT64_MAX);
    expect(&b, LOAM_E_FORMAT, "metadata values");
    put_header(&b, 3, 1ull << 60, 0);
    expect(&b, LOAM_E_FORMAT, "tensors");

    put_header(&b, 3, 0, 1);
    put_key(&b, "k", 77);
    put_uint(&b, 0, 8);
    expect(&b, LOAM_E_FORMAT, "unknown type of value 77");
    put_header(&b, 3, 0, 1);
    put_key(&b, "k\n", LOAMI_GGUF_U8);
    put_uint(&b, 0, 8);
    expect(&b, LOAM_E_FORMAT, "printable");
    put_header(&b, 3, 0, 2);
    put_u32(&b, "k", 1);
    put_u32(&b, "k", 1);
    expect(&b, LOAM_E_FORMAT, "twice");
    put_header(&b, 3, 0, 1);
    put_key(&b, "k", LOAMI_GGUF_STRING);
    put_uint(&b, UINT64_MAX, 8);
    expect(&b, LOAM_E_FORMAT, "ends at");
    put_header(&b, 3, 0, 1);
    put_key(&b, "k", LOAMI_GGUF_ARRAY);
    put_uint(&b, LOAMI_GGUF_U64, 4);
    put_uint(&b, 1ull << 61, 8); /* times 8 is 0 */
    expect(&b, LOAM_E_FORMAT, "ends at");
    put_header(&b, 3, 0, 1);
    put_key(&b, "k", LOAMI_GGUF_ARRAY);
    for (int i = 0; i < 100; i++) {
        put_uint(&b, LOAMI_GGUF_ARRAY, 4);
        put_uint(&b, 1, 8);
    }
    expect(&b, LOAM_E_FORMAT, "nested");
    put_header(&b, 3, 0, 1);
    put_string(&b, "k", "cut short");
    b.len--;
    expect(&b, LOAM_E_FORMAT, "ends at");
    put_header(&b, 3, 0, 1);
    put_u32(&b, "general.alignment", 24);
    expect(&b, LOAM_E_FORMAT, "power of two");
    put_header(&b, 3, 0, 1);
    put_u32(&b, "general.alignment", 0);
    expect(&b, LOAM_E_FORMAT, "general.alignment");
    loami_buf_free(&b);
}

static void refuses_bad_tensors(void **state)
{
    static const struct {
        uint32_t type;
        uint64_t cols, rows, offset;
        int code;
        const char *word;
    } bad[] = {
        { LOAMI_GGUF_T_F32, 4, 0, 16, LOAM_E_FORMAT, "multiple of 32" },
        { LOAMI_GGUF_T_F32, 4, 0, 1ull << 40, LOAM_E_FORMAT, "beyond the end" },
        { LOAMI_GGUF_T_F32, 4, 0, UINT64_MAX - 31, LOAM_E_FORMAT, "beyond the end" },
        { LOAMI_GGUF_T_F32, 1000, 0, 0, LOAM_E_FORMAT, "beyond the end" },
        { LOAMI_GGUF_T_F32, 1ull << 32, 1ull << 32, 0, LOAM_E_FORMAT, "dimension 1" },
        { LOAMI_GGUF_T_F32, 0, 0, 0, LOAM_E_FORMAT, "dimension 0" },
        { LOAMI_GGUF_T_Q4_1, 33, 0, 0, LOAM_E_FORMAT, "whole blocks" },
        { 4, 32, 0, 0, LOAM_E_UNSUPPORTED, "type 4" },
        { 1000, 32, 0, 0, LOAM_E_UNSUPPORTED, "type 1000" },
    };
    loami_buf b = { 0 };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_header(&b, 3, 1, 0);
        put_tensor(&b, "t", bad[i].type, bad[i].cols, bad[i].rows, bad[i].offset);
        put_data(&b, 32, 128);
        expect(&b, bad[i].code, bad[i].word);
    }
    put_header(&b, 3, 2, 0);
    put_tensor(&b, "t", LOAMI_GGUF_T_F32, 16, 0, 0);
    put_tensor(&b, "t", LOAMI_GGUF_T_F32, 16, 0, 64);
    put_data(&b, 32, 128);
    expect(&b, LOAM_E_FORMAT, "two tensors");
    put_header(&b, 3, 2, 0);
    put_tensor(&b, "t", LOAMI_GGUF_T_F32, 16, 0, 0);
    put_tensor(&b, "u", LOAMI_GGUF_T_F32, 16, 0, 32);
    put_data(&b, 32, 128);
    expect(&b, LOAM_E_FORMAT, "overlap");
    put_header(&b, 3, 1, 0);
    put_text(&b, "t");
    put_uint(&b, 5, 4);
    put_data(&b, 32, 128);
    expect(&b, LOAM_E_FORMAT, "5 dimensions");
    loami_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_all_kinds),
        cmocka_unit_test(refuses_every_prefix),
        cmocka_unit_test(refuses_bad_headers),
        cmocka_unit_test(refuses_bad_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
