/* Grammars on a vocabulary of bytes and a few longer tokens: what they take, what they refuse, what is
 * remembered. */
#include "check.h"
#include "fuzz/grammar_walk.h"

#include <stdio.h>

static loam_grammar *compile(loam_grammar_kind kind, const char *source)
{
    loam_grammar *g;
    loam_err err;
    if (loami_grammar_open(&g, walk_vocab(), kind, source, strlen(source), &err) < 0)
        fail_msg("%s: %s", source, err.msg);
    return g;
}

/* Byte by byte. */
static bool takes(loam_grammar *g, const char *text)
{
    loami_matcher *m;
    bool ok = true;
    assert_int_equal(loami_matcher_open(&m, g, NULL), 0);
    for (const char *s = text; *s && ok; s++) ok = loami_matcher_accept(m, (unsigned char)*s);
    ok = ok && loami_matcher_may_end(m);
    loami_matcher_close(m);
    return ok;
}

typedef struct example {
    loam_grammar_kind kind;
    const char *source, *yes[6], *no[8];
} example;

static const example examples[] = {
    { LOAM_GRAMMAR_REGEX, "a{2,3}", { "aa", "aaa" }, { "", "a", "aaaa" } },
    { LOAM_GRAMMAR_REGEX, "x{300,302}y", { NULL }, { "xy", "y" } },
    { LOAM_GRAMMAR_REGEX, "^(?:ab|a)*[^a-z\\n]$", { "1", "aba1", "abé" }, { "", "b1", "a\n", "ab" } },
    { LOAM_GRAMMAR_REGEX, "(?P<y>\\d{4})-\\x41\\u00e9", { "2024-Aé" }, { "2024-A" } },
    { LOAM_GRAMMAR_REGEX, "a{,2}|{x}|[]a]", { "", "aa", "{x}", "]" }, { "aaa" } },
    { LOAM_GRAMMAR_CHOICE, "[\"yes\",\"yesterday\",\"\"]", { "yes", "yesterday", "" }, { "yest", "no" } },
    { LOAM_GRAMMAR_JSON_OBJECT,
      "",
      { "{}", "{\"a\": [1, -2.5e+3, {\"b\":null}]}", "{\n  \"\\u00e9\": \"\\n\"\n}" },
      { "[]", "{\"a\"}", "{\"a\":01}", "{\"a\":\"\n\"}", "{,}", "{}{}" } },
    { LOAM_GRAMMAR_JSON_SCHEMA,
      "{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
      { "\"ab\"", "\"é\\n\\u0041\"" },
      { "\"a\"", "\"abcd\"", "\"\\ud83d\"" } },
    { LOAM_GRAMMAR_JSON_SCHEMA,
      "{\"type\":\"integer\",\"minimum\":-12,\"maximum\":305}",
      { "-12", "0", "305", "99", "-1" },
      { "-13", "306", "-0", "007", "1.0", "" } },
    { LOAM_GRAMMAR_JSON_SCHEMA,
      "{\"type\":\"number\",\"exclusiveMinimum\":0.5,\"maximum\":2}",
      { "0.51", "2", "2.0", "1.999", "0.500001" },
      { "0.5", "0.50", "2.01", "-1", "0" } },
    { LOAM_GRAMMAR_JSON_SCHEMA,
      "{\"type\":\"integer\",\"multipleOf\":7}",
      { "0", "7", "-14", "1001" },
      { "1", "8", "07" } },
    { LOAM_GRAMMAR_JSON_SCHEMA,
      "{\"type\":\"string\",\"pattern\":\"^[a-z]+$\",\"minLength\":2,\"maxLength\":4}",
      { "\"ab\"", "\"abcd\"" },
      { "\"a\"", "\"abcde\"", "\"A\"" } },
    { LOAM_GRAMMAR_JSON_SCHEMA,
      "{\"type\":\"string\",\"format\":\"date\"}",
      { "\"2024-02-29\"", "\"2000-02-29\"", "\"1999-12-31\"" },
      { "\"2023-02-29\"", "\"1900-02-29\"", "\"2024-04-31\"", "\"0000-01-01\"" } },
    { LOAM_GRAMMAR_JSON_SCHEMA,
      "{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"minItems\":1,\"maxItems\":2}",
      { "[true]", "[ true, false ]" },
      { "[]", "[true,true,true]", "[true,]" } },
    { LOAM_GRAMMAR_JSON_SCHEMA,
      "{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":{\"const\":3},"
      "\"minItems\":1}",
      { "[1]", "[1,2]", "[1,2,3,3]" },
      { "[]", "[2]", "[1,3]" } },
    { LOAM_GRAMMAR_JSON_SCHEMA,
      "{\"type\":\"object\",\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":2},\"c\":{\"const\":3}},"
      "\"required\":[\"b\"]}",
      { "{\"b\":2}", "{\"a\":1,\"b\":2,\"c\":3}", "{\"b\": 2, \"c\": 3}" },
      { "{}", "{\"a\":1}", "{\"b\":2,\"a\":1}", "{\"b\":2,}", "{\"b\":2,\"d\":1}" } },
    { LOAM_GRAMMAR_JSON_SCHEMA,
      "{\"properties\":{\"ab\":{\"const\":1}},\"additionalProperties\":{\"const\":2}}",
      { "{\"ab\":1}", "{\"a\":2}", "{\"abc\":2,\"\":2,\"é\":2}" },
      { "{\"ab\":2}", "{\"a\":1}", "{\"ab\":1,\"ab\":2}" } },
    { LOAM_GRAMMAR_JSON_SCHEMA,
      "{\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{\"n\":{\"anyOf\":[{\"$ref\":\"#/$defs/"
      "t\"},{\"type\":\"null\"}]}},\"required\":[\"n\"]}},\"$ref\":\"#/$defs/t\"}",
      { "{\"n\":null}", "{\"n\":{\"n\":{\"n\":null}}}" },
      { "{}", "{\"n\":{}}", "{\"n\":{\"n\":null}" } },
    { LOAM_GRAMMAR_JSON_SCHEMA,
      "{\"allOf\":[{\"properties\":{\"a\":{\"type\":[\"string\",\"null\"]}}},{\"properties\":{\"a\":{"
      "\"minLength\":2}},\"required\":[\"a\"]}],\"type\":\"object\"}",
      {
          "{\"a\":\"xy\"}",
      },
      { "{}", "{\"a\":\"x\"}", "{\"a\":1}" } },
    { LOAM_GRAMMAR_JSON_SCHEMA,
      "{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"string\",\"enum\":[\"é\",\"x\"]}]}",
      { "5", "\"é\"" },
      { "\"y\"", "5.5" } },
    { LOAM_GRAMMAR_EBNF,
      "root ::= item+ # one or more\nitem ::= \"(\" item* \")\" | [0-9] | 'x'",
      { "1", "(1(x))", "()2" },
      { "", "(", "a", "1)" } },
    { LOAM_GRAMMAR_EBNF,
      "root ::= %text(\"END\", \"ENx\") \"END\"",
      { "END", "EEEND", "ENEND", "a\nEND" },
      { "", "ENDEND", "ENxEND", "EN" } },
    { LOAM_GRAMMAR_EBNF, "root ::= <[97]> <[262]>", { "atrue" }, { "a", "true" } },
    { LOAM_GRAMMAR_EBNF,
      "root ::= %json {\"type\":\"null\"} ( \",\" %regex /a\\/b|c/ )?",
      { "null", "null,a/b", "null,c" },
      { "null,", "null,a" } },
};

static void test_what_is_taken(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        loam_grammar *g = compile(examples[i].kind, examples[i].source);
        for (int k = 0; k < 6 && examples[i].yes[k]; k++)
            if (!takes(g, examples[i].yes[k]))
                fail_msg("%s does not take %s", examples[i].source, examples[i].yes[k]);
        for (int k = 0; k < 8 && examples[i].no[k]; k++)
            if (takes(g, examples[i].no[k])) fail_msg("%s takes %s", examples[i].source, examples[i].no[k]);
        loami_grammar_unref(g);
    }
}

static const struct {
    loam_grammar_kind kind;
    const char *source, *words;
    int code;
} refused[] = {
    { LOAM_GRAMMAR_REGEX, "(a", "character 1: '(' is not closed", LOAM_E_ARG },
    { LOAM_GRAMMAR_REGEX, "a(?=b)", "character 2", LOAM_E_UNSUPPORTED },
    { LOAM_GRAMMAR_REGEX, "(a)\\1", "reference back", LOAM_E_UNSUPPORTED },
    { LOAM_GRAMMAR_REGEX, "a^b", "'^'", LOAM_E_UNSUPPORTED },
    { LOAM_GRAMMAR_REGEX, "[b-a]", "backwards", LOAM_E_ARG },
    { LOAM_GRAMMAR_REGEX, "(a|b)*a(a|b){24}", "", LOAM_E_UNSUPPORTED },
    { LOAM_GRAMMAR_REGEX, "(a*){3,4000}", "empty", LOAM_E_UNSUPPORTED },
    { LOAM_GRAMMAR_CHOICE, "[]", "at least one", LOAM_E_ARG },
    { LOAM_GRAMMAR_EBNF, "root ::= a", "the rule a", LOAM_E_ARG },
    { LOAM_GRAMMAR_EBNF, "a ::= \"x\"", "no rule root", LOAM_E_ARG },
    { LOAM_GRAMMAR_EBNF, "root ::= root \"x\" | \"y\"", "left recursion", LOAM_E_UNSUPPORTED },
    { LOAM_GRAMMAR_EBNF, "root ::= e root \"x\" | \"y\"\ne ::= \"\"", "left recursion", LOAM_E_UNSUPPORTED },
    { LOAM_GRAMMAR_EBNF, "root ::= \"x\" root", "no text at all", LOAM_E_ARG },
    { LOAM_GRAMMAR_EBNF, "root ::= \"x\n", "line 1, column 10", LOAM_E_ARG },
    { LOAM_GRAMMAR_JSON_SCHEMA, "{\"properties\":{\"a\":{\"not\":{}}}}", "\"/properties/a/not\"",
      LOAM_E_UNSUPPORTED },
    { LOAM_GRAMMAR_JSON_SCHEMA, "{\"items\":{\"uniqueItems\":true}}", "\"/items/uniqueItems\"",
      LOAM_E_UNSUPPORTED },
    { LOAM_GRAMMAR_JSON_SCHEMA, "{\"oneOf\":[{\"type\":\"number\"},{\"type\":\"integer\"}]}", "\"/oneOf\"",
      LOAM_E_UNSUPPORTED },
    { LOAM_GRAMMAR_JSON_SCHEMA, "{\"allOf\":[true,{\"oneOf\":[{\"const\":1},{\"const\":1}]}]}", "oneOf",
      LOAM_E_UNSUPPORTED },
    { LOAM_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"format\":\"colour\"}", "\"/format\"",
      LOAM_E_UNSUPPORTED },
    { LOAM_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"pattern\":\"^(ab)*$\",\"minLength\":3}", "length",
      LOAM_E_UNSUPPORTED },
    { LOAM_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"pattern\":\"(\"}", "\"/pattern\"", LOAM_E_ARG },
    { LOAM_GRAMMAR_JSON_SCHEMA, "{\"$ref\":\"#\"}", "no text at all", LOAM_E_ARG },
    { LOAM_GRAMMAR_JSON_SCHEMA, "{\"$ref\":\"http://x/y\"}", "\"/$ref\"", LOAM_E_UNSUPPORTED },
    { LOAM_GRAMMAR_JSON_SCHEMA,
      "{\"$defs\":{\"a\":{\"allOf\":[{\"$ref\":\"#/$defs/a\"},{\"minimum\":1}]}},\"$ref\":\"#/$defs/a\"}",
      "deep", LOAM_E_UNSUPPORTED },
    { LOAM_GRAMMAR_JSON_SCHEMA, "{\"pattern\":\"^\",\"minLength\":1}", "no text at all", LOAM_E_ARG },
    { LOAM_GRAMMAR_EBNF, "root ::= ( \"a\" none ){3,600}\nnone ::= \"b\" none", "no text at all", LOAM_E_ARG },
    { LOAM_GRAMMAR_EBNF, "root ::= <[280]>", "no token of this number", LOAM_E_ARG },
    { LOAM_GRAMMAR_EBNF, "root ::= <[99999999999]>", "no token of this number", LOAM_E_ARG },
    { LOAM_GRAMMAR_EBNF, "root ::= <|x|>", "spelling", LOAM_E_ARG },
    { LOAM_GRAMMAR_JSON_SCHEMA, "[1", "line 1", LOAM_E_FORMAT },
};

static void test_what_is_refused(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        loam_grammar *g = NULL;
        loam_err err;
        CHECK_FAILS(loami_grammar_open(&g, walk_vocab(), refused[i].kind, refused[i].source,
                                       strlen(refused[i].source), &err),
                    err, refused[i].code, refused[i].words);
    }
}

static bool allowed(const uint64_t *mask, int32_t id)
{
    return mask[id / 64] >> (id % 64) & 1;
}

/* Tokens that end one rule and begin others, part of a character, and the end of text. */
static void test_masks(void **unused)
{
    (void)unused;
    loam_grammar *g = compile(
        LOAM_GRAMMAR_JSON_SCHEMA,
        "{\"type\":\"object\",\"properties\":{\"é\":{\"type\":\"string\"}},\"required\":[\"é\"]}");
    loami_matcher *m;
    uint64_t mask[(WALK_TOKENS + 63) / 64];
    assert_int_equal(loami_matcher_open(&m, g, NULL), 0);
    loami_matcher_mask(m, mask);
    assert_true(allowed(mask, '{') && allowed(mask, 260)); /* {" */
    assert_false(allowed(mask, '[') || allowed(mask, WALK_END) || allowed(mask, WALK_SPECIAL));
    assert_true(loami_matcher_accept(m, 260));
    loami_matcher_mask(m, mask);
    assert_true(allowed(mask, 270));  /* half of é */
    assert_false(allowed(mask, 271)); /* its other half with an x */
    for (const char *s = "é\":\"abc"; *s; s++) assert_true(loami_matcher_accept(m, (unsigned char)*s));
    loami_matcher_mask(m, mask);
    assert_true(allowed(mask, 261) && allowed(mask, 272));  /* "} and \u */
    assert_false(allowed(mask, 258) || allowed(mask, 259)); /* ", and ": */
    assert_true(loami_matcher_accept(m, 261));
    assert_true(loami_matcher_must_end(m) && loami_matcher_allows(m, WALK_END) &&
                !loami_matcher_allows(m, '}'));
    assert_true(loami_matcher_rollback(m, 1) && !loami_matcher_may_end(m));
    assert_false(loami_matcher_rollback(m, LOAMI_MATCHER_TRAIL));
    assert_false(loami_matcher_accept(m, WALK_END) || loami_matcher_accept(m, -1) ||
                 loami_matcher_accept(m, WALK_TOKENS));
    loami_matcher_close(m);
    loami_grammar_unref(g);
}

static loami_matcher *after(loam_grammar *g, const char *text)
{
    loami_matcher *m;
    assert_int_equal(loami_matcher_open(&m, g, NULL), 0);
    for (const char *s = text; *s; s++) assert_true(loami_matcher_accept(m, (unsigned char)*s));
    return m;
}

/* What is begun can be ended: no way is taken that a length forbids to finish. */
static void test_no_dead_ends(void **unused)
{
    (void)unused;
    loam_grammar *g = compile(LOAM_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"pattern\":\"^(abc|x)+$\",\"maxLength\":4}");
    loami_matcher *m = after(g, "\"xx");
    assert_true(loami_matcher_allows(m, 'x'));
    assert_false(loami_matcher_allows(m, 'a'));
    loami_matcher_close(m);
    loami_grammar_unref(g);
}

/* A token that ends several rules at once. */
static void test_many_ends_in_a_token(void **unused)
{
    (void)unused;
    loam_grammar *g = compile(LOAM_GRAMMAR_JSON_SCHEMA,
                              "{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}}");
    uint64_t mask[(WALK_TOKENS + 63) / 64];
    loami_matcher *m = after(g, "[[12");
    loami_matcher_mask(m, mask);
    assert_true(allowed(mask, 265) && allowed(mask, 273) && allowed(mask, 278)); /* ]], 00 and 0] */
    assert_false(allowed(mask, 279) || allowed(mask, 274)); /* }} and 1.5 */
    assert_true(loami_matcher_rollback(m, 3) && loami_matcher_rollback(m, 1));
    assert_false(loami_matcher_rollback(m, 1));
    assert_true(loami_matcher_accept(m, 264)); /* [[ */
    loami_matcher_close(m);
    loami_grammar_unref(g);
}

static void test_special_tokens(void **unused)
{
    (void)unused;
    loam_grammar *g = compile(LOAM_GRAMMAR_EBNF, "root ::= %text() ( <|call|> [0-9]+ )?");
    loami_matcher *m;
    assert_int_equal(loami_matcher_open(&m, g, NULL), 0);
    assert_true(loami_matcher_accept(m, 'a') && loami_matcher_accept(m, WALK_SPECIAL));
    assert_false(loami_matcher_accept(m, 'a') || loami_matcher_accept(m, WALK_SPECIAL) ||
                 loami_matcher_allows(m, WALK_END));
    assert_true(loami_matcher_accept(m, '7') && loami_matcher_allows(m, WALK_END));
    loami_matcher_close(m);
    loami_grammar_unref(g);
}

/* What is remembered stays bounded, and cleaning changes nothing: brackets opened and closed by the thousand,
 * over and over, and a string that counts down from far away. */
static void test_memory_is_bounded(void **unused)
{
    (void)unused;
    loam_grammar *g = compile(
        LOAM_GRAMMAR_EBNF, "root ::= list*\nlist ::= \"[\" list* \"]\" | \"\\\"\" [a-z]{0,60000} \"\\\"\"");
    loami_matcher *m;
    uint64_t mask[(WALK_TOKENS + 63) / 64];
    assert_int_equal(loami_matcher_open(&m, g, NULL), 0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 400; i++) assert_true(loami_matcher_accept(m, '['));
        assert_true(loami_matcher_accept(m, '"'));
        for (int i = 0; i < 50000; i++) {
            assert_true(loami_matcher_accept(m, 'a' + i % 26));
            if (i % 100 == 0) loami_matcher_mask(m, mask);
        }
        assert_true(loami_matcher_rollback(m, 60) && loami_matcher_accept(m, '"'));
        for (int i = 0; i < 400; i++)
            assert_true(loami_matcher_accept(m, ']') && !loami_matcher_allows(m, 'a'));
        assert_true(loami_matcher_may_end(m) && !loami_matcher_allows(m, ']'));
    }
    assert_true(loami_grammar_bytes(g) < 64u << 20);
    loami_matcher_close(m);
    loami_grammar_unref(g);
}

static void test_cache(void **unused)
{
    (void)unused;
    loami_grammar_cache *c;
    loam_grammar *first, *again, *other;
    loam_err err;
    char source[32];
    assert_int_equal(loami_grammar_cache_open(&c, NULL), 0);
    CHECK_OK(loami_grammar_cache_get(c, &first, walk_vocab(), LOAM_GRAMMAR_REGEX, "[a-z]+", 6, &err), err, 0);
    CHECK_OK(loami_grammar_cache_get(c, &again, walk_vocab(), LOAM_GRAMMAR_REGEX, "[a-z]+", 6, &err), err, 0);
    CHECK_OK(loami_grammar_cache_get(c, &other, walk_vocab(), LOAM_GRAMMAR_EBNF, "root ::= [a-z]+", 15, &err),
             err, 0);
    assert_ptr_equal(first, again);
    assert_ptr_not_equal(first, other);
    for (int i = 0; i < 100; i++) { /* the first one goes; who holds it still has it */
        loam_grammar *g;
        int n = snprintf(source, sizeof source, "a{%d}", i + 1);
        CHECK_OK(loami_grammar_cache_get(c, &g, walk_vocab(), LOAM_GRAMMAR_REGEX, source, (size_t)n, &err),
                 err, 0);
        loami_grammar_unref(g);
    }
    assert_true(takes(first, "abc"));
    loami_grammar_unref(again);
    CHECK_OK(loami_grammar_cache_get(c, &again, walk_vocab(), LOAM_GRAMMAR_REGEX, "[a-z]+", 6, &err), err, 0);
    assert_ptr_not_equal(first, again);
    CHECK_FAILS(loami_grammar_cache_get(c, &other, walk_vocab(), LOAM_GRAMMAR_REGEX, "(", 1, &err), err,
                LOAM_E_ARG, "'('");
    loami_grammar_unref(first);
    loami_grammar_unref(again);
    loami_grammar_unref(other);
    loami_grammar_cache_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_taken),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_memory_is_bounded),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_no_dead_ends),
        cmocka_unit_test(test_many_ends_in_a_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
