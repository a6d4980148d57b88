/* The scanners of words against the regular expressions they stand for; the translation of those; Unicode. */
#include "check.h"
#include "base/utf8.h"
#include "text/tok/regex.h"
#include "text/tok/unicode.h"
#include "text/tok/words.h"

#include <stdio.h>
#include <stdlib.h>

static uint64_t seed = 88172645463325252u;

static uint32_t below(uint32_t n)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 33) % n;
}

/* A text of n characters, of the kinds that the expressions tell apart. */
static size_t random_text(char *s, size_t chars)
{
    static const char *const bits[] = {
        "'s", "'S", "'re", "'LL", "'l", "'\xc5\xbf", "''", " ", "  ", "\n", "\r\n", "\t", "\xc2\xa0",
        "\xe3\x80\x80", "\xe1\xa0\x8e", "\x0b", "\xc2\x85", "1", "12", "\xd9\xa3", "\xc2\xbd", "a", "Z",
        "\xc3\xa9", "\xe6\x97\xa5", "!", "...", "\xe2\x82\xac", "\xcc\x81", "\xf0\x9f\x91\x8d",
        "\xe2\x80\x8d", "-", "_", "\xf0\xb1\x8d\x90", "\xea\x9f\x8b",
    };
    size_t n = 0;
    for (size_t i = 0; i < chars; i++) {
        if (below(4)) {
            const char *b = bits[below(sizeof bits / sizeof *bits)];
            memcpy(s + n, b, strlen(b));
            n += strlen(b);
        } else {
            uint32_t cp = below(8) ? below(0x3000) : below(0x110000);
            n += loami_utf8_put(s + n, cp >= 0xd800 && cp < 0xe000 ? 'x' : cp);
        }
    }
    return n;
}

static void check_twins(const char *regex)
{
    loam_err err;
    loami_pattern *p;
    void *matches = loami_matches_state();
    char text[400];
    loami_words kind = loami_words_of(regex, strlen(regex));
    assert_int_not_equal(kind, LOAMI_WORDS_NONE);
    CHECK_OK(loami_pattern_regex(&p, regex, strlen(regex), "test", &err), err, 0);
    for (int round = 0; round < 20000; round++) {
        size_t n = random_text(text, 1 + below(30)), at = 0;
        loami_matches m = { .pattern = p, .text = text, .n = n, .state = matches };
        while (loami_matches_next(&m, &err) > 0) {
            size_t end = loami_words_end(kind, text, n, at);
            if (m.start != at || m.end != end)
                fail_msg("%s\non \"%.*s\": the scanner has %zu-%zu, the expression %zu-%zu", regex, (int)n,
                         text, at, end, m.start, m.end);
            at = end;
        }
        assert_int_equal(at, n);
    }
    loami_matches_state_free(matches);
    loami_pattern_free(p);
}

static void scanners_are_their_expressions(void **state)
{
    (void)state;
    check_twins(loami_words_gpt2);
    check_twins("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+");
    check_twins("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
                "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+");
    check_twins("'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| "
                "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+");
    assert_int_equal(loami_words_of("\\w+", 3), LOAMI_WORDS_NONE);
}

/* The matches of an Oniguruma pattern in text, as "start-end " each. */
static const char *find(const char *pattern, const char *text)
{
    static char out[256];
    loam_err err = { 0 };
    loami_pattern *p = NULL;
    void *matches = loami_matches_state();
    size_t n = 0;
    if (loami_pattern_regex(&p, pattern, strlen(pattern), "test", &err) < 0) {
        snprintf(out, sizeof out, "%.200s", err.msg);
    } else {
        loami_matches m = { .pattern = p, .text = text, .n = strlen(text), .state = matches };
        out[0] = 0;
        while (n < sizeof out - 32 && loami_matches_next(&m, &err) > 0)
            n += (size_t)snprintf(out + n, sizeof out - n, "%zu-%zu ", m.start, m.end);
    }
    loami_matches_state_free(matches);
    loami_pattern_free(p);
    return out;
}

static void onigurumas_syntax_keeps_its_meaning(void **state)
{
    (void)state;
    static const struct { const char *pattern, *text, *want; } cases[] = {
        { "\\h+", "xyz1aFg", "3-6 " },                       /* hexadecimal digits, not blanks */
        { "\\v", "a\vb\n", "1-2 " },                         /* one character */
        { "a{2}+", "aaaaa", "0-4 " },                        /* (a{2})+, not possessive */
        { "a{,2}b", "aaab", "1-4 " },
        { "a{2}?b", "baab", "0-1 1-4 " },                    /* (a{2})? */
        { "a{b", "a{b", "0-3 " },
        { "x(?i)y|z", "xY xZ Z", "0-2 3-5 " },               /* x(?i:y|z) */
        { "(?m)a.b", "a\nb", "0-3 " },                       /* dotall */
        { "a.b", "a\nb", "" },
        { "^b$", "a\nb\nc", "2-3 " },                        /* always multi-line */
        { "[a-z&&[^m-p]]+", "alphanumeric", "0-2 3-5 6-7 8-12 " },
        { "[a-c[x-z]]+", "abxy-z", "0-4 5-6 " },
        { "[^a[bc]]+", "abcd", "3-4 " },
        { "[^\\S\\n]+", "a \t\nb", "1-3 " },
        { "[\\]\\-a]+", "]-ab", "0-3 " },
        { "\\s", "\xe1\xa0\x8e \xc2\x85", "3-4 4-6 " },      /* U+180E is no space any more */
        { "\\bab\\b", "ab \xc3\xa9""ab ab", "0-2 8-10 " },
        { "\\w+", "a\xcc\x81_1\xc2\xb2!", "0-7 " },
        { "[\\w]+", "1\xc2\xb2", "0-1 " },
        { "[[:punct:]]+", "a+!", "1-3 " },
        { "\\p{Punct}+", "a+!", "2-3 " },
        { "\\p{^Lu}+", "aBc", "0-1 2-3 " },
        { "\\P{Uppercase_Letter}+", "aBc", "0-1 2-3 " },
        { "\\p{Han}+", "\xe3\x80\x81\xe6\x97\xa5", "3-6 " }, /* the script, not its extensions */
        { "a?", "bab", "0-0 1-2 3-3 " },
        { "\\x{e9}\\u0061", "\xc3\xa9""a", "0-3 " },
        { "a(?#comment)b", "ab", "0-2 " },
        { "a++b|\\Qc", "aab Qc", "0-3 4-6 " },               /* \Q is a letter */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *got = find(cases[i].pattern, cases[i].text);
        if (strcmp(got, cases[i].want) != 0)
            fail_msg("%s: \"%s\", want \"%s\"", cases[i].pattern, got, cases[i].want);
    }
}

static void what_has_no_counterpart_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "(?<n>a)", "(?x)a b",     "\\pL", "\\p{Nonesuch}", "[a",
                                       "(a",      "a)",          "*a",   "a|*",           "[b-a]",
                                       "\\xff",   "\\C-a",       "[]",   "a\\",           "[[:nonesuch:]]",
                                       "(?~a)",   "\\x{110000}", "\\u12" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!strstr(find(bad[i], "a"), "regular expression"))
            fail_msg("%s: taken: %s", bad[i], find(bad[i], "a"));
}

static void a_pattern_that_backtracks_for_ever_ends_in_an_error(void **state)
{
    (void)state;
    loam_err err;
    loami_pattern *p;
    void *matches = loami_matches_state();
    char text[41] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
    CHECK_OK(loami_pattern_regex(&p, "^(a|a|a)*[cd]$", 14, "test", &err), err, 0);
    loami_matches m = { .pattern = p, .text = text, .n = 40, .state = matches };
    CHECK_FAILS(loami_matches_next(&m, &err), err, LOAM_E_UNSUPPORTED, "match limit");
    loami_matches_state_free(matches);
    loami_pattern_free(p);
}

static void check_form(loami_uni_form form, const char *text, const char *want)
{
    loam_err err;
    loami_buf b = { 0 };
    CHECK_OK(loami_uni_normalize(&b, text, strlen(text), form, &err), err, 0);
    assert_string_equal(b.data, want);
    loami_buf_free(&b);
}

static void normalization_forms(void **state)
{
    (void)state;
    check_form(LOAMI_NFC, "ae\xcc\x81 z", "a\xc3\xa9 z");
    check_form(LOAMI_NFD, "\xc3\xa9", "e\xcc\x81");
    check_form(LOAMI_NFC, "q\xcc\x87\xcc\xa3", "q\xcc\xa3\xcc\x87"); /* marks in order of class */
    check_form(LOAMI_NFKC, "\xef\xac\x81\xc2\xbd", "fi1\xe2\x81\x84""2");
    check_form(LOAMI_NFC, "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x81");   /* Hangul */
    check_form(LOAMI_NFC, "\xe2\x84\xab", "\xc3\x85");
    check_form(LOAMI_NFKD, "\xe3\x8b\xbf", "\xe3\x8b\xbf"); /* U+32FF came after the reference's tables */
}

/* What needs no work must be its own NFC, also next to others. */
static void inert_characters_are_left_alone(void **state)
{
    (void)state;
    for (uint32_t cp = 0xa0; cp < 0x110000; cp++) {
        char text[16], u[4];
        loami_buf whole = { 0 }, apart = { 0 };
        loam_err err;
        if (cp == 0xd800) cp = 0xe000;
        size_t n = loami_utf8_put(text, cp);
        memcpy(u, text, n);
        loami_uni_normalize(&apart, text, n, LOAMI_NFC, &err);
        memcpy(text + n, "\xcc\xb4", 2); /* an overlay, which composes with nothing: forces the work */
        loami_uni_normalize(&whole, text, n + 2, LOAMI_NFC, &err);
        bool mark = loami_uni_major(cp) == 'M';
        bool own = apart.len == n && memcmp(apart.data, u, n) == 0;
        if (!mark && own && (whole.len != apart.len + 2 || memcmp(whole.data, apart.data, apart.len) != 0))
            fail_msg("U+%04X", cp);
        loami_buf_free(&whole);
        loami_buf_free(&apart);
    }
}

static void marks_without_end_are_sorted_in_linear_time(void **state)
{
    (void)state;
    enum { N = 400000 };
    loam_err err;
    loami_buf in = { 0 }, out = { 0 };
    loami_buf_putc(&in, 'a');
    for (int i = 0; i < N; i++)
        loami_buf_put(&in, i % 2 ? "\xcc\xa3" : "\xcc\x87", 2); /* classes 220 and 230 in turn */
    CHECK_OK(loami_uni_normalize(&out, in.data, in.len, LOAMI_NFD, &err), err, 0);
    assert_int_equal(out.len, in.len);
    assert_memory_equal(out.data, "a\xcc\xa3\xcc\xa3", 5);
    assert_memory_equal(out.data + out.len - 4, "\xcc\x87\xcc\x87", 4);
    loami_buf_free(&in);
    loami_buf_free(&out);
}

static void ill_formed_text_becomes_replacement_characters(void **state)
{
    (void)state;
    static const struct { const char *in, *want; } cases[] = {
        /* Unicode 15, tables 3-8 to 3-11 */
        { "\xc0\xaf\xe0\x80\xbf\xf0\x81\x82"
          "A",
          "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
          "A" },
        { "\xed\xa0\x80\xed\xbf\xbf\xed\xaf"
          "A",
          "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
          "A" },
        { "\xf4\x91\x92\x93\xff"
          "A\x80\xbf"
          "B",
          "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
          "A\xef\xbf\xbd\xef\xbf\xbd"
          "B" },
        { "\xe1\x80\xe2\xf0\x91\x92\xf1\xbf"
          "A",
          "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
          "A" },
        { "\xc3\xa9", "\xc3\xa9" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        loami_buf b = { 0 };
        loami_uni_lossy(&b, cases[i].in, strlen(cases[i].in));
        assert_string_equal(b.data, cases[i].want);
        loami_buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scanners_are_their_expressions),
        cmocka_unit_test(onigurumas_syntax_keeps_its_meaning),
        cmocka_unit_test(what_has_no_counterpart_is_refused),
        cmocka_unit_test(a_pattern_that_backtracks_for_ever_ends_in_an_error),
        cmocka_unit_test(normalization_forms),
        cmocka_unit_test(inert_characters_are_left_alone),
        cmocka_unit_test(marks_without_end_are_sorted_in_linear_time),
        cmocka_unit_test(ill_formed_text_becomes_replacement_characters),
    };
    return cmocka_run_group_tests_name("words", tests, NULL, NULL);
}
