#include "check.h"
#include "temp.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/half.h"
#include "base/map.h"
#include "base/utf8.h"

#include <errno.h>
#include <math.h>

/* ---- err ---------------------------------------------------------------------------------------------- */

static void fail_fills_code_and_words(void **state)
{
    (void)state;
    loam_err e;
    CHECK_FAILS(loami_fail(&e, LOAM_E_FORMAT, "%s: want %d dims", "w", 2), e, LOAM_E_FORMAT, "w: want 2 dims");
    assert_int_equal(loami_fail(NULL, LOAM_E_ARG, "nobody listens"), LOAM_E_ARG);
}

static void fail_cuts_long_words_at_a_character(void **state)
{
    (void)state;
    loam_err e;
    char text[1200];
    for (int shift = 0; shift < 4; shift++) { /* the cut falls on every byte of a four-byte character */
        memset(text, 'x', (size_t)shift);
        for (size_t i = (size_t)shift; i + 4 < sizeof text; i += 4) memcpy(text + i, "\xf0\x9f\x8c\xb1", 5);
        loami_fail(&e, LOAM_E_ARG, "%s", text);
        assert_true(strlen(e.msg) >= sizeof e.msg - 4);
        assert_true(loami_utf8_valid(e.msg, strlen(e.msg)));
    }
}

static void fail_errno_names_the_cause(void **state)
{
    (void)state;
    loam_err e;
    errno = ENOENT;
    CHECK_FAILS(loami_fail_errno(&e, "%s", "a.bin"), e, LOAM_E_NOT_FOUND, "a.bin: No such file");
    errno = ENOMEM;
    CHECK_FAILS(loami_fail_errno(&e, "x"), e, LOAM_E_NOMEM, "x: ");
    errno = EACCES;
    CHECK_FAILS(loami_fail_errno(&e, "x"), e, LOAM_E_IO, "ermission denied");
}

static void fail_in_keeps_the_code_and_puts_the_place_first(void **state)
{
    (void)state;
    loam_err e = { .code = LOAM_E_UNSUPPORTED, .msg = "no such type" };
    assert_int_equal(loami_fail_in(&e, "layer %d", 3), LOAM_E_UNSUPPORTED);
    assert_string_equal(e.msg, "layer 3: no such type");
    for (int i = 0; i < 200; i++) loami_fail_in(&e, "deeper"); /* stays a bounded, terminated line */
    assert_non_null(memchr(e.msg, 0, sizeof e.msg));
    CHECK_FAILS(loami_fail(&e, LOAM_E_ARG, "again: %.30s", e.msg), e, LOAM_E_ARG, "again: ");
}

/* ---- utf8 --------------------------------------------------------------------------------------------- */

static void utf8_reads_back_every_character_it_writes(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp <= 0x10ffff; cp++) {
        char s[4];
        uint32_t back;
        if (cp == 0xd800) cp = 0xe000;
        size_t n = loami_utf8_put(s, cp);
        assert_int_equal(n, cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4);
        assert_int_equal(loami_utf8_next(s, n, &back), n);
        assert_int_equal(back, cp);
        assert_int_equal(loami_utf8_cut(s, n), n);
        for (size_t part = 1; part < n; part++) {
            assert_int_equal(loami_utf8_next(s, part, &back), 0);
            assert_int_equal(back, 0xfffd);
            assert_int_equal(loami_utf8_cut(s, part), 0);
        }
    }
}

static void utf8_refuses_what_rfc_3629_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x80\x80\x80",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfe", "\xff", "\xc3(", "\xe2\x82(",
        "\xe2(\xa1", "\xf0\x9f\x8c(", "\xf0\x9f(\xb1",
    };
    uint32_t cp;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(loami_utf8_next(bad[i], strlen(bad[i]), &cp), 0);
        assert_false(loami_utf8_valid(bad[i], strlen(bad[i])));
    }
    assert_true(loami_utf8_valid("", 0));
    assert_true(loami_utf8_valid("a\0\xc3\xa9", 4));
}

static void utf8_cut_leaves_other_bytes_alone(void **state)
{
    (void)state;
    assert_int_equal(loami_utf8_cut("", 0), 0);
    assert_int_equal(loami_utf8_cut("abc\xe6\x9d", 5), 3);
    assert_int_equal(loami_utf8_cut("abc\xf0", 4), 3);
    assert_int_equal(loami_utf8_cut("abc\xff", 4), 4);             /* never the start of a character */
    assert_int_equal(loami_utf8_cut("\x80\x80\x80\x80", 4), 4);    /* no start in reach */
    assert_int_equal(loami_utf8_cut("a\xc3\xa9\x80", 4), 4);
}

/* ---- buf ---------------------------------------------------------------------------------------------- */

static void buf_grows_and_hands_over(void **state)
{
    (void)state;
    loami_buf b = { 0 };
    size_t n;
    for (int i = 0; i < 10000; i++) loami_buf_printf(&b, "%d,", i % 10);
    loami_buf_put(&b, "\0x", 2);
    loami_buf_putc(&b, '!');
    loami_buf_puts(&b, "");
    assert_int_equal(b.len, 20003);
    char *s = loami_buf_take(&b, &n);
    assert_int_equal(n, 20003);
    assert_memory_equal(s + 19998, "9,\0x!", 6); /* its NUL too */
    assert_null(b.data);
    free(s);
    s = loami_buf_take(&b, NULL);                /* of nothing: an empty string, not NULL */
    assert_string_equal(s, "");
    free(s);
}

static void buf_stops_at_its_limit_and_stays_stopped(void **state)
{
    (void)state;
    loami_buf b = { .limit = 10 };
    loami_buf_puts(&b, "12345");
    loami_buf_put(&b, "1234567890", 10);
    assert_true(b.failed);
    assert_int_equal(b.len, 5);
    loami_buf_putc(&b, 'x');
    assert_int_equal(b.len, 5);
    assert_null(loami_buf_take(&b, NULL));
    assert_int_equal(b.limit, 10);
    loami_buf_puts(&b, "1234567890");
    assert_false(b.failed);
    loami_buf_printf(&b, "%s", "y");
    assert_true(b.failed);
    loami_buf_clear(&b);
    loami_buf_printf(&b, "%d", 42);
    assert_string_equal(b.data, "42");
    loami_buf_free(&b);
}

static void buf_refuses_sizes_that_overflow(void **state)
{
    (void)state;
    loami_buf b = { 0 };
    loami_buf_puts(&b, "a");
    assert_false(loami_buf_reserve(&b, SIZE_MAX));
    assert_true(b.failed);
    loami_buf_clear(&b);
    assert_false(loami_buf_reserve(&b, SIZE_MAX - 1));
    loami_buf_free(&b);
}

/* ---- arena -------------------------------------------------------------------------------------------- */

static void arena_gives_zeroed_aligned_memory_again_after_restore(void **state)
{
    (void)state;
    loami_arena a = { 0 };
    loami_arena_mark empty = loami_arena_save(&a);
    for (int round = 0; round < 3; round++) {
        char *first = NULL;
        for (size_t n = 0; n < 300000; n = n * 2 + 1) {
            char *p = loami_arena_alloc(&a, n);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % 64, 0);
            for (size_t i = 0; i < n; i++) assert_int_equal(p[i], 0);
            memset(p, 0xee, n);
            if (!first) first = p;
        }
        loami_arena_mark m = loami_arena_save(&a);
        char *s = loami_arena_strndup(&a, "loam\0y", 4);
        assert_string_equal(s, "loam");
        loami_arena_restore(&a, m);
        assert_ptr_equal(loami_arena_alloc(&a, 1), s);
        loami_arena_restore(&a, empty);
        assert_ptr_equal(loami_arena_alloc(&a, 0), first);
        loami_arena_restore(&a, empty);
    }
    loami_arena_free(&a);
    assert_null(a.first);
}

static void arena_refuses_sizes_that_overflow(void **state)
{
    (void)state;
    loami_arena a = { 0 };
    assert_null(loami_arena_alloc(&a, SIZE_MAX));
    assert_null(loami_arena_array(&a, SIZE_MAX / 4, 8));
    assert_null(loami_arena_array(&a, (size_t)1 << 33, (size_t)1 << 33));
    assert_null(loami_arena_strndup(&a, "x", SIZE_MAX));
    assert_non_null(loami_arena_array(&a, 0, 8));
    loami_arena_free(&a);
}

/* ---- map ---------------------------------------------------------------------------------------------- */

static void map_finds_what_was_put(void **state)
{
    (void)state;
    enum { N = 50000 };
    static char keys[N][8];
    loami_map m = { 0 };
    assert_int_equal(loami_map_get(&m, "x", 1), LOAMI_MAP_NONE);
    for (uint32_t i = 0; i < N; i++) {
        int n = snprintf(keys[i], sizeof keys[i], "k%u", i);
        assert_true(loami_map_put(&m, keys[i], (size_t)n, i));
    }
    assert_true(loami_map_put(&m, "", 0, 7));
    assert_true(loami_map_put(&m, "k1\0z", 4, 8)); /* bytes, not strings */
    assert_int_equal(m.count, N + 2);
    for (uint32_t i = 0; i < N; i++) assert_int_equal(loami_map_get(&m, keys[i], strlen(keys[i])), i);
    assert_int_equal(loami_map_get(&m, "", 0), 7);
    assert_int_equal(loami_map_get(&m, "k1\0z", 4), 8);
    assert_int_equal(loami_map_get(&m, "k1\0", 3), LOAMI_MAP_NONE);
    assert_true(loami_map_put(&m, "k1", 2, 9));
    assert_int_equal(loami_map_get(&m, "k1", 2), 9);
    assert_int_equal(m.count, N + 2);
    loami_map_free(&m);
    assert_int_equal(loami_map_get(&m, "k1", 2), LOAMI_MAP_NONE);
}

static void map_reserve_refuses_the_impossible(void **state)
{
    (void)state;
    loami_map m = { 0 };
    assert_false(loami_map_reserve(&m, UINT32_MAX));
    assert_true(loami_map_reserve(&m, 1000));
    uint32_t cap = m.cap;
    for (uint32_t i = 0; i < 1000; i++) {
        static char keys[1000][8];
        snprintf(keys[i], sizeof keys[i], "%u", i);
        assert_true(loami_map_put(&m, keys[i], strlen(keys[i]), i));
    }
    assert_int_equal(m.cap, cap);
    loami_map_free(&m);
}

/* ---- half --------------------------------------------------------------------------------------------- */

static void halves_go_there_and_back(void **state)
{
    (void)state;
    for (uint32_t h = 0; h <= 0xffff; h++) {
        float f = loami_from_f16((uint16_t)h), b = loami_from_bf16((uint16_t)h);
        if (isnan(f)) assert_true(isnan(loami_from_f16(loami_to_f16(f))));
        else assert_int_equal(loami_to_f16(f), h);
        if (isnan(b)) assert_true(isnan(loami_from_bf16(loami_to_bf16(b))));
        else assert_int_equal(loami_to_bf16(b), h);
    }
}

/* The nearest of all halves, ties to the even one: by trying the two neighbours. */
static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        double low = loami_from_f16((uint16_t)h), high = loami_from_f16((uint16_t)(h + 1));
        float middle = (float)((low + high) / 2);
        assert_int_equal(loami_to_f16(middle), h % 2 ? h + 1 : h);
        assert_int_equal(loami_to_f16(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(loami_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(loami_to_f16(-middle), 0x8000 | (h % 2 ? h + 1 : h));
    }
    assert_int_equal(loami_to_f16(65519.0f), 0x7bff);
    assert_int_equal(loami_to_f16(65520.0f), 0x7c00);
    assert_int_equal(loami_to_f16(1e30f), 0x7c00);
    assert_int_equal(loami_to_bf16(loami_from_bits(0x3f808000)), 0x3f80);
    assert_int_equal(loami_to_bf16(loami_from_bits(0x3f818000)), 0x3f82);
    assert_int_equal(loami_to_bf16(loami_from_bits(0x7f7fffff)), 0x7f80);
}

static void small_floats_have_their_tables_values(void **state)
{
    (void)state;
    /* OCP OFP8 1.0 table 4 and MX 1.0 tables 3, 6: largest, smallest normal, smallest subnormal */
    assert_true(loami_from_e4m3(0x7e) == 448.0f && loami_from_e4m3(0x08) == 0.015625f && loami_from_e4m3(0x01) == 0.001953125f);
    assert_true(isnan(loami_from_e4m3(0x7f)) && isnan(loami_from_e4m3(0xff)) && loami_from_e4m3(0xb8) == -1.0f);
    assert_true(loami_from_e8m0(127) == 1.0f && loami_from_e8m0(0) == ldexpf(1, -127) && loami_from_e8m0(254) == ldexpf(1, 127));
    assert_true(isnan(loami_from_e8m0(255)));
    assert_true(loami_from_e2m1(7) == 6.0f && loami_from_e2m1(9) == -0.5f && loami_from_e2m1(1) == 0.5f && loami_from_e2m1(3) == 1.5f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fail_fills_code_and_words),
        cmocka_unit_test(fail_cuts_long_words_at_a_character),
        cmocka_unit_test(fail_errno_names_the_cause),
        cmocka_unit_test(fail_in_keeps_the_code_and_puts_the_place_first),
        cmocka_unit_test(utf8_reads_back_every_character_it_writes),
        cmocka_unit_test(utf8_refuses_what_rfc_3629_refuses),
        cmocka_unit_test(utf8_cut_leaves_other_bytes_alone),
        cmocka_unit_test(buf_grows_and_hands_over),
        cmocka_unit_test(buf_stops_at_its_limit_and_stays_stopped),
        cmocka_unit_test(buf_refuses_sizes_that_overflow),
        cmocka_unit_test(arena_gives_zeroed_aligned_memory_again_after_restore),
        cmocka_unit_test(arena_refuses_sizes_that_overflow),
        cmocka_unit_test(map_finds_what_was_put),
        cmocka_unit_test(map_reserve_refuses_the_impossible),
        cmocka_unit_test(halves_go_there_and_back),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(small_floats_have_their_tables_values),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
