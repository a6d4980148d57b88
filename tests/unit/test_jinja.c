/* What the comparison with Jinja2 (tests/golden/test_jinja.py) can't show: limits, messages, threads. */
#include "check.h"

#include "text/jinja.h"

#include <pthread.h>
#include <stdlib.h>

enum { STACK_BYTES = 512 << 10 };

static int render(const char *template, const char *vars, loami_buf *out, loam_err *err)
{
    loami_jinja *j;
    json_t *v;
    int rc = loami_jinja_open(&j, template, strlen(template), err);
    if (rc < 0) return rc;
    if (loami_json_parse(&v, vars, strlen(vars), "vars", err) < 0) fail_msg("%s", err->msg);
    rc = loami_jinja_render_how(j, out, v, &(loami_jinja_how){ .now = 1 }, err);
    json_decref(v);
    loami_jinja_close(j);
    return rc;
}

static void fails(const char *template, int code, const char *words)
{
    loam_err err;
    loami_buf out = { 0 };
    CHECK_FAILS(render(template, "{\"a\": 1}", &out, &err), err, code, words);
    loami_buf_free(&out);
}

static void test_syntax_errors_have_their_line(void **state)
{
    (void)state;
    fails("a\nb\n{% if a %}", LOAM_E_FORMAT, "line 3");
    fails("a\n{{ a b }}", LOAM_E_FORMAT, "line 2: expected }}, found 'b'");
    fails("\n\n{% frobnicate %}", LOAM_E_FORMAT, "line 3: unknown tag 'frobnicate'");
    fails("{{ a|frobnicate }}", LOAM_E_FORMAT, "No filter named 'frobnicate'");
    fails("{{ a is frobnicated }}", LOAM_E_FORMAT, "No test named 'frobnicated'");
    fails("{% include 'x' %}", LOAM_E_FORMAT, "the tag include is not supported");
    fails("{% extends 'x' %}", LOAM_E_FORMAT, "the tag extends is not supported");
    fails("{{ \xff }}", LOAM_E_FORMAT, "UTF-8");
    fails("{{ 'a", LOAM_E_FORMAT, "not closed");
}

static void test_render_errors_have_their_line(void **state)
{
    (void)state;
    fails("\n{{ a }}\n{{ nope.x }}", LOAM_E_TEMPLATE, "line 3: 'nope' is undefined");
    fails("{{ a.b.c }}", LOAM_E_TEMPLATE, "'int object' has no attribute 'b'");
    fails("{{ [].append(1) }}", LOAM_E_TEMPLATE, "unsafe");
    fails("{{ 9223372036854775807 + a }}", LOAM_E_TEMPLATE, "beyond 64 bits");
    fails("{{ raise_exception('Its own\nwords') }}", LOAM_E_TEMPLATE, "Its own\nwords");
}

/* Whatever a template says, it ends. */
static void test_limits(void **state)
{
    (void)state;
    fails("{% for i in range(100000) %}{% for k in range(100000) %}{% endfor %}{% endfor %}", LOAM_E_TEMPLATE,
          "steps");
    fails("{% for i in range(200000) %}{% endfor %}", LOAM_E_TEMPLATE, "Range too big");
    fails("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", LOAM_E_TEMPLATE, "levels deep");
    fails("{% macro m(x) %}{{ [x]|map('upper')|list }}{{ m([x]) }}{% endmacro %}{{ m(1) }}", LOAM_E_TEMPLATE,
          "levels deep");
    fails("{{ 'x' * 1000000000000 }}", LOAM_E_TEMPLATE, "MB");
    fails("{{ ('x' * 1000000 * 100)|length }}{{ ('y' * 1000000 * 200)|length }}", LOAM_E_TEMPLATE, "memory");
    fails("{{ [0] * 1000000000 }}", LOAM_E_TEMPLATE, "");
    fails("{% set s = 'x' * 1000000 %}{% for i in range(100) %}{{ s }}{% endfor %}", LOAM_E_TEMPLATE,
          "output");
    fails("{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
          LOAM_E_TEMPLATE, "memory");
    fails("{% set ns = namespace(s='ab' * 100000) %}{% for i in range(100000) %}{{ 'zz' in ns.s }}{% endfor %}", LOAM_E_TEMPLATE, "steps");
    fails("{{ '%1000000000d' % 1 }}", LOAM_E_TEMPLATE, "width");
    fails("{{ '{:1000000000}'.format(1) }}", LOAM_E_TEMPLATE, "width");
    fails("{{ 'x'.center(100000000000) }}", LOAM_E_TEMPLATE, "MB");
    fails("{{ 2 ** 100000 }}", LOAM_E_TEMPLATE, "beyond 64 bits");
}

/* n times open, then middle, then n times close. */
static char *nested(const char *open, const char *middle, const char *close, size_t n)
{
    loami_buf b = { 0 };
    for (size_t i = 0; i < n; i++) loami_buf_puts(&b, open);
    loami_buf_puts(&b, middle);
    for (size_t i = 0; i < n; i++) loami_buf_puts(&b, close);
    return loami_buf_take(&b, NULL);
}

static void test_nesting(void **state)
{
    static const struct { const char *open, *middle, *close; } kinds[] = {
        { "{% if a %}", "x", "{% endif %}" }, { "{{", "a", "}}" },
        { "{% for i in [1] %}", "x", "{% endfor %}" }, { "{{ a", "", "" }, { "{# ", "", " #}" },
    };
    static const struct { const char *start, *open, *middle, *close, *end; } exprs[] = {
        { "{{ ", "(", "a", ")", " }}" }, { "{{ ", "[", "a", "]", " }}" },
        { "{{ ", "{'k': ", "a", "}", " }}" }, { "{{ ", "-", "a", "", " }}" },
        { "{{ ", "not ", "a", "", " }}" }, { "{{ a", "", "", " + a", " }}" }, { "{{ a", "", "", ".b", " }}" },
        { "{{ a", "", "", "|abs", " }}" },
        { "{{ a", "", "", " if a else a", " }}" }, { "{{ a", "", "", "(a", " }}" },
        { "{{ a", "", "", " ~ a", " }}" }, { "{{ a", "", "", " and a", " }}" },
        { "{% set ", "(", "x,", "),", " = a %}" },
    };
    loam_err err;
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char *t = nested(kinds[i].open, kinds[i].middle, kinds[i].close, 20000);
        loami_buf out = { 0 };
        render(t, "{\"a\": 1}", &out, &err);
        loami_buf_free(&out);
        free(t);
    }
    for (size_t i = 0; i < sizeof exprs / sizeof *exprs; i++) {
        char *inner = nested(exprs[i].open, exprs[i].middle, exprs[i].close, 20000);
        loami_buf b = { 0 }, out = { 0 };
        loami_buf_printf(&b, "%s%s%s", exprs[i].start, inner, exprs[i].end);
        int rc = render(b.data, "{\"a\": 1}", &out, &err);
        if (rc >= 0 && !strchr("~", exprs[i].close[1]))
            fail_msg("20000 times %s%s was accepted", exprs[i].open, exprs[i].close);
        loami_buf_free(&b);
        loami_buf_free(&out);
        free(inner);
    }
}

/* Nesting that the limits allow fits into the smallest stack that a thread gets (512 kB on macOS). */
static void *deepest(void *arg)
{
    static const char *const templates[] = {
        "{% macro m(n) %}{% if n %}{% for x in [n] if x %}{% set y %}{{ [m(n - 1)]|map('trim')|join|upper }}{% endset %}{{ y }}{% endfor %}{% endif %}{% endmacro %}{{ m(1000) }}",
        "{% macro m(n) %}{% call(z) k(n) %}{{ m(n + 1) if z else '' }}{% endcall %}{% endmacro %}{% macro k(n) %}{{ caller(n) }}{% endmacro %}{{ m(1) }}",
        "{% set ns = namespace(l=[]) %}{% for i in range(1000) %}{% set ns.l = [ns.l, {'k': ns.l}] %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(l=[]) %}{% for i in range(300) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l|tojson }}{{ ns.l == ns.l[0] }}",
        "{% for x in [[1, []]] recursive %}{{ loop([x]) }}{% endfor %}",
    };
    loam_err err;
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++) {
        loami_buf out = { 0 };
        render(templates[i], "{}", &out, &err);
        loami_buf_free(&out);
    }
    for (int open = 0; open < 2; open++) {
        char *t = nested(open ? "(" : "[", "a", open ? ")" : "]", 118);
        loami_buf b = { 0 }, out = { 0 };
        loami_buf_printf(&b, "{{ %s }}", t);
        if (render(b.data, "{\"a\": 1}", &out, &err) < 0) *(bool *)arg = false;
        loami_buf_free(&b);
        loami_buf_free(&out);
        free(t);
    }
    return NULL;
}

static void test_small_stack(void **state)
{
    pthread_t thread;
    pthread_attr_t attr;
    bool ok = true;
    (void)state;
    pthread_attr_init(&attr);
    assert_int_equal(pthread_attr_setstacksize(&attr, STACK_BYTES), 0);
    assert_int_equal(pthread_create(&thread, &attr, deepest, &ok), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    assert_true(ok);
}

static void *render_often(void *arg)
{
    for (int i = 0; i < 200; i++) {
        json_t *vars = json_pack("{s:[{s:s}, {s:s}]}", "messages", "content", "é", "content", "b");
        loami_buf out = { 0 };
        loam_err err;
        int rc = loami_jinja_render(arg, &out, vars, &err);
        bool good = rc == 0 && strcmp(out.data, "\u00c9B2") == 0;
        loami_buf_free(&out);
        json_decref(vars);
        if (!good) return arg;
    }
    return NULL;
}

static void test_threads_share_a_template(void **state)
{
    static const char text[] = "{% macro m(x) %}{{ x|upper }}{% endmacro %}{% for x in messages %}{{ m(x.content) }}{% endfor %}{{ messages|length }}";
    loami_jinja *j;
    loam_err err;
    pthread_t threads[4];
    void *bad;
    (void)state;
    CHECK_OK(loami_jinja_open(&j, text, sizeof text - 1, &err), err, 0);
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, render_often, j), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
    loami_jinja_close(j);
}

static void test_output_is_appended(void **state)
{
    loami_buf out = { 0 };
    loam_err err;
    (void)state;
    loami_buf_puts(&out, "before ");
    CHECK_OK(render("{{ a }}", "{\"a\": \"x\\u0000y\"}", &out, &err), err, 0);
    assert_int_equal(out.len, 10);
    assert_memory_equal(out.data, "before x\0y", 10);
    CHECK_FAILS(render("x{{ b.c }}", "{}", &out, &err), err, LOAM_E_TEMPLATE, "'b' is undefined");
    assert_int_equal(out.len, 10);
    loami_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_syntax_errors_have_their_line), cmocka_unit_test(test_render_errors_have_their_line), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_nesting), cmocka_unit_test(test_small_stack), cmocka_unit_test(test_threads_share_a_template),
        cmocka_unit_test(test_output_is_appended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
