/* The tokenizer's own promises: errors that say where, streams that never break a character, bounded work,
 * threads. That ids and texts are the reference's is tests/golden/test_tokenizer.py. */
#include "check.h"
#include "base/clock.h"
#include "tokenizer_make.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static loami_tokenizer *open_text(char *json)
{
    loam_err err;
    loami_tokenizer *t = NULL;
    CHECK_OK(loami_tokenizer_parse(&t, json, strlen(json), "test", &err), err, 0);
    free(json);
    return t;
}

/* The ids of a text as "1 2 3". */
static const char *encode(const loami_tokenizer *t, const char *text, size_t n, bool special)
{
    static char out[1024];
    loam_err err;
    loami_ids ids = { 0 };
    size_t k = 0;
    CHECK_OK(loami_tokenizer_encode(t, &ids, text, n, special, &err), err, 0);
    out[0] = 0;
    for (size_t i = 0; i < ids.len && k < sizeof out - 16; i++)
        k += (size_t)snprintf(out + k, sizeof out - k, i ? " %d" : "%d", ids.data[i]);
    free(ids.data);
    return out;
}

#define CHECK_IDS(t, text, special, want) assert_string_equal(encode(t, text, strlen(text), special), want)

static void check_text(const loami_tokenizer *t, const int32_t *ids, size_t n, bool skip, const char *want)
{
    loam_err err;
    loami_buf b = { 0 };
    loami_buf_puts(&b, "");
    CHECK_OK(loami_tokenizer_decode(t, &b, ids, n, skip, &err), err, 0);
    assert_string_equal(b.data, want);
    loami_buf_free(&b);
}

/* ---- encoding ---- */

static void byte_level_merges_the_best_pair_first(void **state)
{
    (void)state;
    loami_tokenizer *t = open_text(
        make_byte_level("\"ab\":256,\"bc\":257,\"abc\":258", "\"b c\",\"a b\",[\"a\",\"bc\"]", ""));
    CHECK_IDS(t, "abc", true, "258");      /* b c is better than a b */
    CHECK_IDS(t, "abcab", true, "258 256");
    CHECK_IDS(t, "ab bc", true, "256 32 257");
    CHECK_IDS(t, "\xc3\xa9", true, "195 169");
    CHECK_IDS(t, "", true, "");
    assert_string_equal(encode(t, "a\0b", 3, true), "97 0 98");
    assert_string_equal(encode(t, "a\xff\xe2\x82", 4, true),
                        "97 239 191 189 239 191 189"); /* ill-formed: U+FFFD */
    loami_tokenizer_close(t);
}

static void added_tokens_are_cut_out_first(void **state)
{
    (void)state;
    loami_tokenizer *t = open_text(make_byte_level(
        "\"ab\":256", "\"a b\"",
        ",\"added_tokens\":[{\"id\":257,\"content\":\"<s>\",\"special\":true,\"normalized\":false},"
        "{\"id\":258,\"content\":\"<s>x\",\"normalized\":false},{\"id\":259,\"content\":\"~\",\"lstrip\":"
        "true,\"rstrip\":true,\"normalized\":false},"
        "{\"id\":256,\"content\":\"ab\",\"single_word\":true,\"normalized\":false}],"
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"B\","
        "\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],"
        "\"pair\":[],\"special_tokens\":{\"B\":{\"id\":\"B\",\"ids\":[257],\"tokens\":[\"<s>\"]}}}"));
    CHECK_IDS(t, "a<s>b", false, "97 257 98");
    CHECK_IDS(t, "a<s>x<s", true, "257 97 258 60 115"); /* the longest */
    CHECK_IDS(t, "a  ~  b", false, "97 126 98");           /* the id it has already, whatever the file says */
    CHECK_IDS(t, "ab xab", false, "256 32 120 256");    /* in a word only the model's own merge makes it */
    assert_int_equal(loami_tokenizer_id(t, "<s>", 3), 257);
    assert_int_equal(loami_tokenizer_id(t, "<t>", 3), -1);
    assert_true(loami_tokenizer_is_special(t, 257) && !loami_tokenizer_is_special(t, 258) &&
                !loami_tokenizer_is_special(t, -1));
    assert_int_equal(loami_tokenizer_size(t), 259);
    check_text(t, (int32_t[]){ 257, 97, 258, 5000, -7 }, 5, false,
               "<s>a<s>x"); /* what is no id is left out */
    check_text(t, (int32_t[]){ 257, 97, 258 }, 3, true, "a<s>x");
    loami_tokenizer_close(t);
}

static void sentencepiece_falls_back_to_bytes(void **state)
{
    (void)state;
    loami_tokenizer *t = open_text(make_sentencepiece(""));
    CHECK_IDS(t, "a ab", true, "260 260 259"); /* both merges have their place: ▁a first, then no ab */
    CHECK_IDS(t, "\xc3\xa9", true, "257 196 170");
    check_text(t, (int32_t[]){ 260, 257, 196, 170 }, 4, false, "a \xc3\xa9");
    check_text(t, (int32_t[]){ 260, 196, 170, 256 }, 4, false,
               "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"); /* one bad byte spoils its run */
    loami_tokenizer_close(t);
}

static void a_long_word_takes_no_quadratic_time(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    loam_err err;
    loami_ids ids = { 0 };
    char *text = malloc(N);
    loami_tokenizer *t = open_text(
        make_byte_level("\"aa\":256,\"aaaa\":257,\"ab\":258", "\"a b\",\"a a\",\"aa aa\"", ""));
    memset(text, 'a', N);
    double start = loami_now_s();
    CHECK_OK(loami_tokenizer_encode(t, &ids, text, N, true, &err), err, 0);
    assert_int_equal(ids.len, N / 4);
    assert_true(loami_now_s() - start < 20); /* a quadratic one would need minutes */
    free(ids.data);
    free(text);
    loami_tokenizer_close(t);
}

/* ---- streams ---- */

/* Puts ids one by one; each piece must be whole characters. */
static void check_stream(const loami_tokenizer *t, const int32_t *ids, size_t n, bool skip, const char *want)
{
    loam_err err;
    loami_detok *d;
    loami_buf all = { 0 }, piece = { 0 };
    loami_buf_puts(&all, "");
    CHECK_OK(loami_detok_open(&d, t, skip, &err), err, 0);
    for (size_t i = 0; i <= n; i++) {
        loami_buf_clear(&piece);
        if (i < n) CHECK_OK(loami_detok_put(d, &piece, ids[i], &err), err, 0);
        else CHECK_OK(loami_detok_flush(d, &piece, &err), err, 0);
        if (piece.len && !loami_utf8_valid(piece.data, piece.len))
            fail_msg("token %zu of \"%s\": half a character", i, want);
        if (piece.len) loami_buf_put(&all, piece.data, piece.len);
    }
    assert_string_equal(all.data, want);
    loami_detok_close(d);
    loami_buf_free(&all);
    loami_buf_free(&piece);
}

static void streams_never_break_a_character(void **state)
{
    (void)state;
    loami_tokenizer *t = open_text(make_byte_level("", "", ""));
    check_stream(t, (int32_t[]){ 0xf0, 0x9f, 0x91, 0x8d, 'a' }, 5, false, "\xf0\x9f\x91\x8d""a");
    check_stream(t, (int32_t[]){ 0xf0, 0x9f, 'a', 0x91 }, 4, false, "\xef\xbf\xbd""a\xef\xbf\xbd");
    check_stream(t, (int32_t[]){ 0xe2, 0x82 }, 2, false, "\xef\xbf\xbd");
    check_stream(t, NULL, 0, false, "");
    loami_tokenizer_close(t);
    t = open_text(make_sentencepiece(""));
    check_stream(t, (int32_t[]){ 257, 260, 0xc3 + 1, 0xa9 + 1, 258 }, 5, false,
                 " a\xc3\xa9"
                 "a"); /* one space off the start */
    check_stream(t, (int32_t[]){ 0xc3 + 1, 258 }, 2, false, "\xef\xbf\xbd""a");
    check_stream(t, (int32_t[]){ 258, 0x0a + 1 }, 2, false, "a\n");
    loami_tokenizer_close(t);
}

/* A reader sees a character of byte tokens at once, not at the end of the run. */
static void streams_do_not_wait_for_the_next_token(void **state)
{
    (void)state;
    loam_err err;
    loami_detok *d;
    loami_buf piece = { 0 };
    loami_tokenizer *t = open_text(make_sentencepiece(""));
    CHECK_OK(loami_detok_open(&d, t, false, &err), err, 0);
    CHECK_OK(loami_detok_put(d, &piece, 0x0a + 1, &err), err, 0);
    assert_string_equal(piece.data, "\n");
    CHECK_OK(loami_detok_put(d, &piece, 0xc3 + 1, &err), err, 0);
    CHECK_OK(loami_detok_put(d, &piece, 0xa9 + 1, &err), err, 0);
    assert_string_equal(piece.data, "\n\xc3\xa9");
    loami_detok_close(d);
    loami_buf_free(&piece);
    loami_tokenizer_close(t);
}

/* Components that hold text back on the whole text must give the same as all at once. */
static void streams_equal_decode(void **state)
{
    (void)state;
    static const char *const decoders[] = {
        "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\"a\","
        "\"start\":2,\"stop\":2}]}",
        "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteLevel\"},{\"type\":\"Replace\",\"pattern\":{"
        "\"String\":\"aba\"},\"content\":\"\xc3\xa9\"}]}",
        "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Replace\",\"pattern\":{"
        "\"Regex\":\"a+b\"},\"content\":\"!\"}]}",
        "{\"type\":\"Metaspace\",\"replacement\":\"a\",\"prepend_scheme\":\"always\"}",
        "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Metaspace\",\"replacement\":"
        "\"a\",\"prepend_scheme\":\"never\"}]}",
        "{\"type\":\"WordPiece\",\"prefix\":\"b\",\"cleanup\":true}",
        "{\"type\":\"BPEDecoder\",\"suffix\":\"b\"}",
        "null",
        "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"WordPiece\",\"prefix\":\"b\","
        "\"cleanup\":true}]}",
    };
    static const int32_t ids[] = { 'a', 'a', 'a', 'b', 'a', 'b', 'a', 'a',
                                   'b', 'b', 'a', 'c', 'a', 'a', 'a', 'a' };
    enum { N = sizeof ids / sizeof *ids };
    for (size_t k = 0; k < sizeof decoders / sizeof *decoders; k++) {
        loami_buf b = { 0 };
        loami_buf_puts(&b, "{\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"a\",\"vocab\":{\"a\":97,\"b\":"
                           "98,\"c\":99}},\"decoder\":");
        loami_buf_printf(&b, "%s}", decoders[k]);
        loami_tokenizer *t = open_text(loami_buf_take(&b, NULL));
        for (size_t n = 0; n <= N; n++) {
            loam_err err;
            loami_buf want = { 0 };
            loami_buf_puts(&want, "");
            CHECK_OK(loami_tokenizer_decode(t, &want, ids, n, false, &err), err, 0);
            check_stream(t, ids, n, false, want.data);
            loami_buf_free(&want);
        }
        loami_tokenizer_close(t);
    }
}

static void check_bytes(const loami_tokenizer *t, int32_t id, const char *want)
{
    loam_err err;
    loami_buf b = { 0 };
    CHECK_OK(loami_tokenizer_bytes(t, &b, id, &err), err, 0);
    assert_string_equal(b.data, want);
    loami_buf_free(&b);
}

static void bytes_are_those_in_the_middle_of_a_text(void **state)
{
    (void)state;
    loam_err err;
    loami_buf b = { 0 };
    loami_tokenizer *t = open_text(make_sentencepiece(""));
    check_bytes(t, 260, " a");
    check_bytes(t, 0xc3 + 1, "\xc3");
    CHECK_FAILS(loami_tokenizer_bytes(t, &b, 262, &err), err, LOAM_E_ARG, "262");
    loami_tokenizer_close(t);
    t = open_text(make_byte_level("", "", ""));
    check_bytes(t, ' ', " ");
    check_bytes(t, 0xf0, "\xf0");
    loami_tokenizer_close(t);
    loami_buf_free(&b);
}

/* ---- files that are wrong ---- */

static void wrong_files_are_refused_with_the_place(void **state)
{
    (void)state;
    static const struct { const char *json; int code; const char *words; } cases[] = {
        { "", LOAM_E_FORMAT, "test: byte 0" },
        { "{", LOAM_E_FORMAT, "byte 1" },
        { "{}", LOAM_E_FORMAT, "\"model\" is missing" },
        { "{\"model\":{\"vocab\":{\"a\":-1}}}", LOAM_E_FORMAT, "byte 23: a token's id" },
        { "{\"model\":{\"vocab\":{\"a\":1.5}}}", LOAM_E_FORMAT, "a token's id" },
        { "{\"model\":{\"vocab\":{\"a\":99999999999}}}", LOAM_E_FORMAT, "a token's id" },
        { "{\"model\":{\"vocab\":{\"a\":2000000000},\"merges\":[]}}", LOAM_E_FORMAT,
          "token id 2000000000 in a vocabulary of 1" },
        { "{\"model\":{\"vocab\":{\"a\":0},\"vocab\":{},\"merges\":[]}}", LOAM_E_FORMAT,
          "a second \"vocab\"" },
        { "{\"model\":{\"vocab\":{\"a\":0,},\"merges\":[]}}", LOAM_E_FORMAT, "a string was expected" },
        { "{\"model\":{\"vocab\":{\"\\ud800\":0},\"merges\":[]}}", LOAM_E_FORMAT, "invalid \\u escape" },
        { "{\"model\":{\"vocab\":{\"\xff\":0},\"merges\":[]}}", LOAM_E_FORMAT, "invalid UTF-8" },
        { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}", LOAM_E_FORMAT, "two tokens" },
        { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a  a\"]}}", LOAM_E_FORMAT, "two tokens" },
        { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", LOAM_E_FORMAT,
          "merge 0 needs token \"aa\"" },
        { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", LOAM_E_FORMAT, "two tokens" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}", LOAM_E_FORMAT, "needs \"vocab\"" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}",
          LOAM_E_UNSUPPORTED, "dropout" },
        { "{\"model\":{\"type\":\"GPT\",\"vocab\":{\"a\":0}}}", LOAM_E_UNSUPPORTED, "model \"GPT\"" },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":1}}", LOAM_E_FORMAT, "unk_id" },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",\"b\"]]}}", LOAM_E_FORMAT,
          "a score must be a number" },
        { "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", LOAM_E_FORMAT, "unk_token" },
#define WITH(rest) "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}," rest "}"
        { WITH("\"normalizer\":{\"type\":\"Shout\"}"), LOAM_E_UNSUPPORTED, "normalizer \"Shout\"" },
        { WITH("\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"UnicodeScripts\"}]}"),
          LOAM_E_UNSUPPORTED, "\"UnicodeScripts\"" },
        { WITH("\"decoder\":{\"type\":\"CTC\"}"), LOAM_E_UNSUPPORTED, "decoder \"CTC\"" },
        { WITH("\"post_processor\":{\"type\":\"Sign\"}"), LOAM_E_UNSUPPORTED, "post_processor \"Sign\"" },
        { WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":"
               "\"Isolated\",\"invert\":false}"),
          LOAM_E_UNSUPPORTED, "( without )" },
        { WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Odd\","
               "\"invert\":false}"),
          LOAM_E_UNSUPPORTED, "behavior \"Odd\"" },
        { WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"!!\"}"), LOAM_E_FORMAT,
          "character map" },
        { WITH("\"added_tokens\":[{\"content\":7}]"), LOAM_E_FORMAT, "\"content\" must be a string" },
        { WITH("\"added_tokens\":{}"), LOAM_E_FORMAT, "\"added_tokens\" must be an array" },
        { WITH("\"decoder\":{\"type\":\"Strip\",\"content\":\"ab\",\"start\":1,\"stop\":0}"), LOAM_E_FORMAT,
          "one character" },
        { WITH("\"a\":[}]"), LOAM_E_FORMAT, "test: " },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        loam_err err;
        loami_tokenizer *t;
        CHECK_FAILS(loami_tokenizer_parse(&t, cases[i].json, strlen(cases[i].json), "test", &err), err,
                    cases[i].code, cases[i].words);
    }
}

static void a_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    char *json = make_sentencepiece(",\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true}]");
    size_t n = strlen(json);
    for (size_t cut = 0; cut < n; cut++) {
        loam_err err;
        loami_tokenizer *t;
        char *part = malloc(cut + 1); /* its own block, so that a sanitizer sees a byte too far */
        memcpy(part, json, cut);
        int rc = loami_tokenizer_parse(&t, part, cut, "test", &err);
        if (rc != LOAM_E_FORMAT) fail_msg("%zu of %zu bytes: %d", cut, n, rc);
        free(part);
    }
    free(json);
}

/* ---- threads ---- */

static void *encode_often(void *arg)
{
    for (int i = 0; i < 2000; i++) {
        loami_ids ids = { 0 };
        loam_err err;
        char text[64];
        int n = snprintf(text, sizeof text, "abc ab%d bc abcabc", i % 50);
        if (loami_tokenizer_encode(arg, &ids, text, (size_t)n, true, &err) < 0 || ids.len < 9 ||
            ids.data[0] != 258)
            return "wrong";
        free(ids.data);
    }
    return NULL;
}

static void threads_share_a_tokenizer(void **state)
{
    (void)state;
    loami_tokenizer *t = open_text(
        make_byte_level("\"ab\":256,\"bc\":257,\"abc\":258", "\"b c\",\"a b\",\"a bc\"", ""));
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, encode_often, t);
    for (int i = 0; i < 4; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    loami_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level_merges_the_best_pair_first),
        cmocka_unit_test(added_tokens_are_cut_out_first),
        cmocka_unit_test(sentencepiece_falls_back_to_bytes),
        cmocka_unit_test(a_long_word_takes_no_quadratic_time),
        cmocka_unit_test(streams_never_break_a_character),
        cmocka_unit_test(streams_do_not_wait_for_the_next_token),
        cmocka_unit_test(streams_equal_decode),
        cmocka_unit_test(bytes_are_those_in_the_middle_of_a_text),
        cmocka_unit_test(wrong_files_are_refused_with_the_place),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
