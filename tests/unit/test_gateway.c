/* The gateway's parts that need no network: looking into JSON, cutting events, reading gateway.json,
 * choosing. */
#include "check.h"

#include "gateway/config.h"
#include "gateway/peek.h"
#include "gateway/policy.h"
#include "gateway/sse.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- peek ---------------------------------------------------------------------------------------- */

static loami_span value_of(const char *text)
{
    return loami_peek_value(text, strlen(text));
}

static void test_values_are_found_where_any_parser_finds_them(void **state)
{
    static const char text[] =
        " {\"a\" : 1, \"b\\u0062\":\"x\\\"}\", \"c\":{\"a\":[1,{\"d\":\"]\"}]} ,\"a\":2}\n";
    (void)state;
    loami_span o = value_of(text);
    assert_true(
        loami_span_is(loami_peek_get(o, "a"), "2")); /* the last one, as in Python and in JavaScript */
    assert_true(loami_span_is(loami_peek_get(o, "bb"), "\"x\\\"}\""));
    assert_true(loami_span_is(loami_peek_get(loami_peek_get(o, "c"), "a"), "[1,{\"d\":\"]\"}]"));
    assert_true(loami_span_is(loami_peek_first(loami_peek_get(loami_peek_get(o, "c"), "a")), "1"));
    assert_null(loami_peek_get(o, "d").at);
    char *s = loami_span_string(loami_peek_get(o, "bb"), 10, NULL);
    assert_string_equal(s, "x\"}");
    free(s);
}

static void test_what_does_not_close_is_nothing(void **state)
{
    static const char *const bad[] = { "",    "  ",          "1",    "\"x\"",      "{",     "{\"a\":\"}",
                                       "[1}", "{\"a\":[1}]", "{} x", "{\"a\":1}}", "[[[[[[" };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_null(value_of(bad[i]).at);
    char deep[5000];
    memset(deep, '[', sizeof deep);
    memset(deep + 2500, ']', 2500);
    assert_null(loami_peek_value(deep, sizeof deep).at);
}

static void test_broken_members_are_noticed(void **state)
{
    static const char *const bad[] = { "{\"a\" 1}",  "{a:1}",    "{\"a\":1 \"b\":2}",
                                       "{\"a\":1,}", "{\"a\":}", "{,}" };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        loami_peek p = { .in = value_of(bad[i]) };
        loami_span k, v;
        assert_non_null(p.in.at);
        while (loami_peek_next(&p, &k, &v)) {}
        assert_true(p.bad);
    }
}

static void check_edit(const char *text, const char *key, const char *pair, size_t n_value, const char *want)
{
    loami_edits e = { .n = 0 };
    loami_buf out = { 0 };
    loami_span o = value_of(text);
    if (pair)
        loami_edit_member(&e, text, o, loami_peek_get(o, key), pair, n_value);
    else
        loami_edit_remove(&e, text, o, loami_peek_get(o, key));
    loami_edits_apply(&e, text, strlen(text), &out);
    assert_string_equal(out.data, want);
    loami_buf_free(&out);
}

static void test_members_are_set_and_removed(void **state)
{
    (void)state;
    check_edit("{\"a\":1,\"m\":\"x\",\"c\":3}", "m", "\"m\":\"yy\"", 4, "{\"a\":1,\"m\":\"yy\",\"c\":3}");
    check_edit("{ \"a\":1}", "m", "\"m\":2", 1, "{\"m\":2, \"a\":1}");
    check_edit("{}", "m", "\"m\":2", 1, "{\"m\":2}");
    check_edit("{\"a\":1, \"b\":[2] ,\"c\":3}", "b", NULL, 0, "{\"a\":1,\"c\":3}");
    check_edit("{\"b\":2 , \"c\":3}", "b", NULL, 0, "{ \"c\":3}");
    check_edit("{\"a\":1,\"b\":2}", "b", NULL, 0, "{\"a\":1}");
    check_edit("{\"b\":2}", "b", NULL, 0, "{}");
    check_edit("{\"b\":2}", "x", NULL, 0, "{\"b\":2}");

    static const char text[] = "{}";
    loami_edits e = { .n = 0 };
    loami_buf out = { 0 };
    loami_span o = value_of(text), none = { 0 };
    loami_edit_member(&e, text, o, none, "\"a\":1", 1);
    loami_edit_member(&e, text, o, none, "\"b\":2", 1);
    loami_edits_apply(&e, text, 2, &out);
    assert_string_equal(out.data, "{\"a\":1,\"b\":2}");
    loami_buf_free(&out);
}

/* ---- events -------------------------------------------------------------------------------------- */

static void collect(void *arg, loami_span whole, loami_span data)
{
    loami_buf *out = arg;
    (void)whole;
    loami_buf_putc(out, '<');
    if (data.at) loami_buf_put(out, data.at, data.n);
    loami_buf_putc(out, '>');
}

static void test_events_are_cut_alike_however_they_arrive(void **state)
{
    static const char stream[] = ": hello\n\ndata: {\"a\":1}\n\ndata:2\r\n\r\nevent: x\ndata: 3\nid: "
                                 "7\n\ndata: 4\ndata: 5\n\ndata: [DONE]\n\ndata: cut";
    (void)state;
    for (size_t step = 1; step < sizeof stream; step++) {
        loami_sse s = { .looked = 0 };
        loami_buf out = { 0 };
        for (size_t at = 0; at < sizeof stream - 1; at += step) {
            size_t n = sizeof stream - 1 - at < step ? sizeof stream - 1 - at : step;
            assert_int_equal(loami_sse_feed(&s, stream + at, n, collect, &out), 0);
        }
        assert_string_equal(out.data, "<><{\"a\":1}><2><3><><[DONE]>");
        loami_buf_free(&out);
        loami_sse_free(&s);
    }
}

static void test_an_event_without_end_is_refused(void **state)
{
    loami_sse s = { .looked = 0 };
    char line[4096];
    size_t fed = 0;
    (void)state;
    memset(line, 'x', sizeof line);
    while (loami_sse_feed(&s, line, sizeof line, collect, NULL) == 0) {
        fed += sizeof line;
        assert_true(fed <= LOAMI_SSE_EVENT_MAX + sizeof line);
    }
    loami_sse_free(&s);
}

/* ---- configuration ------------------------------------------------------------------------------- */

static int parse(loami_gw_config **out, const char *text, loam_err *err)
{
    return loami_gw_config_parse(out, text, strlen(text), "g.json", err);
}

#define A "{\"name\":\"a\",\"url\":\"http://127.0.0.1:8001\"}"
#define B "{\"name\":\"b\",\"url\":\"https://b.lan/v1/\",\"weight\":3}"

static void test_the_smallest_configuration(void **state)
{
    loami_gw_config *c;
    loam_err err;
    (void)state;
    CHECK_OK(
        parse(&c, "{\"listen\":\"127.0.0.1:8080\",\"policy\":\"round_robin\",\"backends\":[" A "]}", &err),
        err, 0);
    assert_string_equal(c->host, "127.0.0.1");
    assert_int_equal(c->port, 8080);
    assert_string_equal(c->policy->name, "round_robin");
    assert_int_equal(c->n_pools, 1);
    assert_string_equal(c->pools[0].name, "default");
    assert_int_equal(c->backends[0].weight, 1);
    loami_gw_config_unref(c);
}

static void test_pools_refer_to_backends_by_name(void **state)
{
    loami_gw_config *c;
    loam_err err;
    (void)state;
    CHECK_OK(
        parse(&c,
              "{\"listen\":\"[::1]:9\",\"backends\":[" A "," B
              "],\"pools\":[{\"name\":\"p\",\"backends\":[\"b\"],\"fallback\":[\"q\"],"
              "\"queue\":{\"limit\":7}},{\"name\":\"q\",\"backends\":[\"a\",\"b\"],\"policy\":\"session\"}]}",
              &err),
        err, 0);
    assert_string_equal(c->host, "::1");
    assert_string_equal(c->backends[1].url, "https://b.lan");
    assert_int_equal(c->pools[0].backends[0], 1);
    assert_int_equal(c->pools[0].fallback[0], 1);
    assert_int_equal(c->pools[0].queue_limit, 7);
    assert_string_equal(c->pools[1].policy->name, "session");
    assert_string_equal(c->pools[0].policy->name, "least_outstanding_tokens");
    loami_gw_config_unref(c);
}

static void test_mistakes_are_named_with_their_place(void **state)
{
    static const struct {
        const char *text, *words;
    } bad[] = {
        { "{}", "\"backends\" is missing" },
        { "[]", "must be an object" },
        { "{\"backends\":[]}", "backends: must be an array of at least one" },
        { "{\"backends\":[{\"url\":\"http://x\"}]}", "backends[0]: \"name\" is missing" },
        { "{\"backends\":[{\"name\":\"a\"}]}", "backends[0]: \"url\" is missing" },
        { "{\"backends\":[{\"name\":\"a b\",\"url\":\"http://x\"}]}", "backends[0].name" },
        { "{\"backends\":[{\"name\":\"a\",\"url\":\"ftp://x\"}]}", "backends[0].url: must look like" },
        { "{\"backends\":[{\"name\":\"a\",\"url\":\"http://x?q\"}]}", "backends[0].url" },
        { "{\"backends\":[{\"name\":\"a\",\"url\":\"http://x\",\"wieght\":1}]}",
          "backends[0]: unknown field \"wieght\"" },
        { "{\"backends\":[{\"name\":\"a\",\"url\":\"http://x\",\"weight\":0}]}",
          "backends[0].weight: must be a whole number" },
        { "{\"backends\":[{\"name\":\"a\",\"url\":\"http://x\",\"kind\":\"tgi\"}]}", "backends[0].kind" },
        { "{\"backends\":[{\"name\":\"a\",\"url\":\"http://x\",\"api_key_env\":\"LOAM_NO_SUCH_VARIABLE\"}]}",
          "LOAM_NO_SUCH_VARIABLE is not set" },
        { "{\"backends\":[{\"name\":\"a\",\"url\":\"http://x\",\"models\":[1]}]}",
          "backends[0].models[0]: must be a string" },
        { "{\"backends\":[" A "," A "]}", "name of another backend" },
        { "{\"policy\":\"best\",\"backends\":[" A "]}",
          "policy: \"best\" is unknown: least_outstanding_tokens, round_robin" },
        { "{\"listen\":\"8080\",\"backends\":[" A "]}", "listen: must be address:port" },
        { "{\"listen\":\":\",\"backends\":[" A "]}", "listen: must be address:port" },
        { "{\"health\":{\"rise\":0},\"backends\":[" A "]}", "health.rise" },
        { "{\"health\":{\"raise\":1},\"backends\":[" A "]}",
          "health: unknown field \"raise\"; known are interval_s" },
        { "{\"backends\":[" A "],\"pools\":[{\"name\":\"p\",\"backends\":[\"z\"]}]}",
          "pools[0].backends[0]: there is no backend named \"z\"" },
        { "{\"backends\":[" A "],\"pools\":[{\"name\":\"p\",\"backends\":[\"a\"],\"fallback\":[\"p\"]}]}",
          "cannot fall back to itself" },
        { "{\"backends\":[" A "],\"keys\":[{\"name\":\"k\",\"key\":\"short\"}]}",
          "keys[0]: needs a \"key\" of at least 8" },
        { "{\"backends\":[" A "],\"comment\":\"x\"}", "unknown field \"comment\"" },
        { "{\"backends\":[" A "],\"backends\":[" A "]}", "duplicate" },
        { "// no\n{}", "line 1" },
    };
    loami_gw_config *c;
    loam_err err;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_FAILS(parse(&c, bad[i].text, &err), err, LOAM_E_FORMAT, bad[i].words);
}

/* ---- policies ------------------------------------------------------------------------------------ */

enum { N = 4, ROUNDS = 12000 };

typedef struct field {
    loami_bid bid[N];
    double current[N];
    uint64_t last[N];
} field;

static void make_field(field *f)
{
    memset(f, 0, sizeof *f);
    for (int i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof name, "b%d", i);
        f->bid[i] = (loami_bid){ .name_hash = loami_hash(name, strlen(name), 0),
                                 .weight = 1,
                                 .ramp = 1,
                                 .current = &f->current[i],
                                 .last_turn = &f->last[i] };
    }
}

static void count(const char *policy, field *f, uint32_t *n, uint64_t prefixes, uint64_t sessions)
{
    const loami_policy *p = loami_policy_find(policy);
    assert_non_null(p);
    memset(n, 0, N * sizeof *n);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        loami_wish w = { .prefix = prefixes ? loami_hash(&(uint64_t){ i % prefixes }, 8, 3) : 0,
                         .session = sessions ? loami_hash(&(uint64_t){ i % sessions }, 8, 4) : 0,
                         .cost = 100,
                         .most_load = 1.25 };
        uint32_t k = p->pick(f->bid, N, &w);
        assert_true(k < N);
        f->last[k] = i + 1;
        n[k]++;
    }
}

static void test_turns_are_exact(void **state)
{
    field f;
    uint32_t n[N];
    (void)state;
    make_field(&f);
    count("round_robin", &f, n, 0, 0);
    for (int i = 0; i < N; i++) assert_int_equal(n[i], ROUNDS / N);
    make_field(&f);
    f.bid[0].weight = 5;
    f.bid[1].weight = 2;
    f.bid[2].weight = 3;
    f.bid[3].weight = 2;
    count("weighted", &f, n, 0, 0);
    assert_int_equal(n[0], 5000);
    assert_int_equal(n[1], 2000);
    assert_int_equal(n[2], 3000);
    make_field(&f);
    f.bid[3].ramp = 0.1; /* just back from a failure */
    count("round_robin", &f, n, 0, 0);
    assert_in_range(n[3], 380, 392);
}

static void test_tokens_go_where_fewest_are_owed(void **state)
{
    field f;
    uint32_t n[N];
    loami_wish w = { .cost = 10 };
    (void)state;
    make_field(&f);
    count("least_outstanding_tokens", &f, n, 0, 0);
    for (int i = 0; i < N; i++) assert_int_equal(n[i], ROUNDS / N); /* all alike: in turn */
    for (int i = 0; i < N; i++) f.bid[i].load = 1000 - 100 * i;
    assert_int_equal(loami_policy_tokens.pick(f.bid, N, &w), 3);
    f.bid[0].weight = 10;
    assert_int_equal(loami_policy_tokens.pick(f.bid, N, &w), 0);
}

static void test_a_prefix_has_a_home_until_that_is_full(void **state)
{
    field f;
    uint32_t n[N];
    (void)state;
    make_field(&f);
    count("prefix_affinity", &f, n, 1, 0);
    int home = 0;
    for (int i = 0; i < N; i++)
        if (n[i] == ROUNDS) home = i;
    assert_int_equal(n[home], ROUNDS);
    f.bid[home].load = 5000; /* more than 1.25 times its part of 8000 + cost */
    for (int i = 0; i < N; i++)
        if (i != home) f.bid[i].load = 1000;
    count("prefix_affinity", &f, n, 1, 0);
    assert_int_equal(n[home], 0);
    make_field(&f);
    count("prefix_affinity", &f, n, 4000, 0);
    for (int i = 0; i < N; i++) assert_in_range(n[i], ROUNDS / N * 9 / 10, ROUNDS / N * 11 / 10);
}

static void test_sessions_stay_when_others_come_and_go(void **state)
{
    field f;
    (void)state;
    make_field(&f);
    uint32_t moved = 0, gone = 0;
    for (uint64_t s = 1; s <= 2000; s++) {
        loami_wish w = { .session = loami_hash(&s, 8, 9) };
        uint32_t all = loami_policy_session.pick(f.bid, N, &w),
                 without = loami_policy_session.pick(f.bid, N - 1, &w);
        if (all == N - 1)
            gone++;
        else if (all != without)
            moved++;
    }
    assert_int_equal(moved, 0);
    assert_in_range(gone, 400, 600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_are_found_where_any_parser_finds_them),
        cmocka_unit_test(test_what_does_not_close_is_nothing),
        cmocka_unit_test(test_broken_members_are_noticed),
        cmocka_unit_test(test_members_are_set_and_removed),
        cmocka_unit_test(test_events_are_cut_alike_however_they_arrive),
        cmocka_unit_test(test_an_event_without_end_is_refused),
        cmocka_unit_test(test_the_smallest_configuration),
        cmocka_unit_test(test_pools_refer_to_backends_by_name),
        cmocka_unit_test(test_mistakes_are_named_with_their_place),
        cmocka_unit_test(test_turns_are_exact),
        cmocka_unit_test(test_tokens_go_where_fewest_are_owed),
        cmocka_unit_test(test_a_prefix_has_a_home_until_that_is_full),
        cmocka_unit_test(test_sessions_stay_when_others_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
