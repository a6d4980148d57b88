/* The tests of `x is ...`. */
#include "text/jinja/run.h"

#define TEST(name, expression) \
    static jval name(jrun *r, jval v, jval *p, const jargs *args) \
    { \
        (void)r, (void)p, (void)args; \
        return loami_j_bool(expression); \
    }

static bool is_number(jval v)
{
    return v.type == J_INT || v.type == J_FLOAT || v.type == J_BOOL;
}

static bool is_callable(jval v)
{
    switch (v.type) {
    case J_UNDEF: case J_MACRO: case J_FUNC: case J_METHOD: case J_LOOP: case J_JOINER: return true;
    default: return false;
    }
}

static bool is_sequence(jval v)
{
    return loami_j_has_len(v) && v.type != J_VIEW && v.type != J_LOOP;
}

static bool modulo_is(jrun *r, jval v, jval by, int64_t want)
{
    return loami_j_equal(r, loami_j_binary(r, OP_MOD, v, by), loami_j_int(want));
}

static bool known(jrun *r, const jbuiltin *(*find)(const char *, size_t), jval v)
{
    loami_j_hash(r, v);            /* Python looks it up in a dict: what has no hash fails */
    return v.type == J_STR && find(v.s->p, v.s->n);
}

static jval method(jrun *r, jval v, const char *name)
{
    jval text = loami_j_tostr(r, v);
    return loami_j_find(loami_j_methods_str_is, name, 7)->call(r, text, NULL, NULL);
}

TEST(t_defined, v.type != J_UNDEF)
TEST(t_undefined, v.type == J_UNDEF)
TEST(t_none, v.type == J_NONE)
TEST(t_boolean, v.type == J_BOOL)
TEST(t_true, v.type == J_BOOL && v.b)
TEST(t_false, v.type == J_BOOL && !v.b)
TEST(t_integer, v.type == J_INT)
TEST(t_float, v.type == J_FLOAT)
TEST(t_number, is_number(v))
TEST(t_string, v.type == J_STR)
TEST(t_mapping, v.type == J_DICT)
TEST(t_sequence, is_sequence(v))
TEST(t_iterable, loami_j_iterable(v))
TEST(t_callable, is_callable(v))
TEST(t_escaped, v.type == J_STR && v.s->markup)
TEST(t_sameas, loami_j_same(v, p[0]))
TEST(t_odd, modulo_is(r, v, loami_j_int(2), 1))
TEST(t_even, modulo_is(r, v, loami_j_int(2), 0))
TEST(t_divisibleby, modulo_is(r, v, p[0], 0))
TEST(t_filter, known(r, loami_j_filter, v))
TEST(t_test, known(r, loami_j_test, v))
TEST(t_lower, method(r, v, "islower").b)
TEST(t_upper, method(r, v, "isupper").b)
TEST(t_in, loami_j_contains(r, v, p[0]))
TEST(t_eq, loami_j_compare(r, OP_EQ, v, p[0]))
TEST(t_ne, loami_j_compare(r, OP_NE, v, p[0]))
TEST(t_lt, loami_j_compare(r, OP_LT, v, p[0]))
TEST(t_le, loami_j_compare(r, OP_LE, v, p[0]))
TEST(t_gt, loami_j_compare(r, OP_GT, v, p[0]))
TEST(t_ge, loami_j_compare(r, OP_GE, v, p[0]))

const jbuiltin loami_j_tests[] = {
    { "defined", t_defined, "" }, { "undefined", t_undefined, "" }, { "none", t_none, "" },
    { "string", t_string, "" },
    { "mapping", t_mapping, "" }, { "sequence", t_sequence, "" }, { "iterable", t_iterable, "" },
    { "boolean", t_boolean, "" },
    { "true", t_true, "" }, { "false", t_false, "" }, { "number", t_number, "" },
    { "integer", t_integer, "" },
    { "float", t_float, "" }, { "callable", t_callable, "" }, { "sameas", t_sameas, "other" },
    { "escaped", t_escaped, "" },
    { "in", t_in, "seq" }, { "odd", t_odd, "" }, { "even", t_even, "" },
    { "divisibleby", t_divisibleby, "num" },
    { "lower", t_lower, "" }, { "upper", t_upper, "" }, { "filter", t_filter, "" }, { "test", t_test, "" },
    { "==", t_eq, "/ b" }, { "eq", t_eq, "/ b" }, { "equalto", t_eq, "/ b" }, { "!=", t_ne, "/ b" },
    { "ne", t_ne, "/ b" },
    { "<", t_lt, "/ b" }, { "lt", t_lt, "/ b" }, { "lessthan", t_lt, "/ b" }, { "<=", t_le, "/ b" },
    { "le", t_le, "/ b" },
    { ">", t_gt, "/ b" }, { "gt", t_gt, "/ b" }, { "greaterthan", t_gt, "/ b" }, { ">=", t_ge, "/ b" },
    { "ge", t_ge, "/ b" },
    { NULL, NULL, NULL },
};
