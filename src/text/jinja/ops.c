/* Operators, with Python's meaning. */
#include "text/jinja/run.h"

#include <math.h>
#include <string.h>

bool loami_j_whole(jval v, int64_t *i)
{
    if (v.type != J_INT && v.type != J_BOOL) return false;
    *i = v.type == J_INT ? v.i : v.b;
    return true;
}

bool loami_j_number(jval v, double *f)
{
    int64_t i;
    if (v.type == J_FLOAT) *f = v.f;
    else if (loami_j_whole(v, &i)) *f = (double)i;
    else return false;
    return true;
}

int64_t loami_j_index(jrun *r, jval v)
{
    int64_t i;
    if (v.type == J_UNDEF) loami_j_fail_undef(r, v.u);
    if (!loami_j_whole(v, &i))
        loami_j_fail(r, "'%s' object cannot be interpreted as an integer", loami_j_typename(v));
    return i;
}

bool loami_j_has_len(jval v)
{
    switch (v.type) {
    case J_UNDEF: case J_STR: case J_LIST: case J_TUPLE: case J_DICT: case J_VIEW: case J_RANGE: case J_LOOP: return true;
    default: return false;
    }
}

int64_t loami_j_len(jrun *r, jval v)
{
    static const jstr length = { .p = "length", .n = 6 };
    switch (v.type) {
    case J_UNDEF: return 0;
    case J_STR: return (int64_t)loami_j_chars(v.s);
    case J_LIST:
    case J_TUPLE: return (int64_t)v.l->n;
    case J_DICT: return (int64_t)v.d->n;
    case J_VIEW: return (int64_t)v.view->d->n;
    case J_RANGE: return v.range->len;
    case J_LOOP:
        loami_j_attribute(r, v, &length, &v);
        return v.i;
    default: loami_j_fail(r, "object of type '%s' has no len()", loami_j_typename(v));
    }
}

bool loami_j_true(jrun *r, jval v)
{
    switch (v.type) {
    case J_MISSING:
    case J_UNDEF:
    case J_NONE: return false;
    case J_BOOL: return v.b;
    case J_INT: return v.i != 0;
    case J_FLOAT: return v.f != 0;
    case J_STR: return v.s->n != 0;
    default: return !loami_j_has_len(v) || loami_j_len(r, v) != 0;
    }
}

bool loami_j_same(jval a, jval b)
{
    if (a.type != b.type) return false;
    switch (a.type) {
    case J_NONE: return true;
    case J_BOOL: return a.b == b.b;
    case J_INT: return a.i == b.i;
    case J_FLOAT: return a.f == b.f;
    case J_STR: return a.s == b.s || (a.s->p == b.s->p && a.s->n == b.s->n);
    default: return a.p == b.p;
    }
}

/* ---- arithmetic ---- */

static _Noreturn void overflow(jrun *r)
{
    loami_j_fail(r, "an integer beyond 64 bits");
}

static const char *const signs[] = {
    [OP_ADD] = "+", [OP_SUB] = "-", [OP_MUL] = "*", [OP_DIV] = "/", [OP_FLOORDIV] = "//", [OP_MOD] = "%", [OP_POW] = "** or pow()",
    [OP_LT] = "<", [OP_LE] = "<=", [OP_GT] = ">", [OP_GE] = ">=",
};

static _Noreturn void unsupported(jrun *r, jop op, jval a, jval b)
{
    if (a.type == J_UNDEF) loami_j_fail_undef(r, a.u);
    if (b.type == J_UNDEF) loami_j_fail_undef(r, b.u);
    if (op == OP_ADD && a.type == J_STR && !a.s->markup)
        loami_j_fail(r, "can only concatenate str (not \"%s\") to str", loami_j_typename(b));
    loami_j_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", signs[op], loami_j_typename(a),
                 loami_j_typename(b));
}

static int64_t floor_div(jrun *r, int64_t a, int64_t b)
{
    if (b == 0) loami_j_fail(r, "division by zero");
    if (b == -1) {
        if (a == INT64_MIN) overflow(r);
        return -a;
    }
    return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}

static int64_t floor_mod(jrun *r, int64_t a, int64_t b)
{
    if (b == 0) loami_j_fail(r, "division by zero");
    if (b == -1) return 0;
    int64_t m = a % b;
    return m && (m < 0) != (b < 0) ? m + b : m;
}

static int64_t int_pow(jrun *r, int64_t base, int64_t exponent)
{
    int64_t out = 1;
    while (exponent) {
        if ((exponent & 1) && __builtin_mul_overflow(out, base, &out)) overflow(r);
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base)) overflow(r);
    }
    return out;
}

static jval int_op(jrun *r, jop op, int64_t a, int64_t b)
{
    int64_t v = 0;
    switch (op) {
    case OP_ADD:
        if (__builtin_add_overflow(a, b, &v)) overflow(r);
        break;
    case OP_SUB:
        if (__builtin_sub_overflow(a, b, &v)) overflow(r);
        break;
    case OP_MUL:
        if (__builtin_mul_overflow(a, b, &v)) overflow(r);
        break;
    case OP_DIV:
        if (b == 0) loami_j_fail(r, "division by zero");
        return loami_j_float((double)a / (double)b);
    case OP_FLOORDIV: v = floor_div(r, a, b); break;
    case OP_MOD: v = floor_mod(r, a, b); break;
    default:
        if (b < 0) {
            if (a == 0) loami_j_fail(r, "0.0 cannot be raised to a negative power");
            return loami_j_float(pow((double)a, (double)b));
        }
        v = int_pow(r, a, b);
        break;
    }
    return loami_j_int(v);
}

/* Python's float modulo has the sign of the divisor, and // agrees with it. */
static void float_divmod(jrun *r, double a, double b, double *div, double *mod)
{
    if (b == 0) loami_j_fail(r, "float division by zero");
    double m = fmod(a, b), d = (a - m) / b;
    if (m != 0) {
        if ((b < 0) != (m < 0)) {
            m += b;
            d -= 1;
        }
    } else {
        m = copysign(0, b);
    }
    if (d != 0) {
        double f = floor(d);
        *div = d - f > 0.5 ? f + 1 : f;
    } else {
        *div = copysign(0, a / b);
    }
    *mod = m;
}

static jval float_op(jrun *r, jop op, double a, double b)
{
    double div, mod, p;
    switch (op) {
    case OP_ADD: return loami_j_float(a + b);
    case OP_SUB: return loami_j_float(a - b);
    case OP_MUL: return loami_j_float(a * b);
    case OP_DIV:
        if (b == 0) loami_j_fail(r, "float division by zero");
        return loami_j_float(a / b);
    case OP_FLOORDIV:
        float_divmod(r, a, b, &div, &mod);
        return loami_j_float(div);
    case OP_MOD:
        float_divmod(r, a, b, &div, &mod);
        return loami_j_float(mod);
    default:
        if (a == 0 && b < 0) loami_j_fail(r, "0.0 cannot be raised to a negative power");
        p = pow(a, b);
        if (isnan(p) && !isnan(a) && !isnan(b)) loami_j_fail(r, "a complex number");
        if (isinf(p) && isfinite(a) && isfinite(b)) loami_j_fail(r, "a number too large for a float");
        return loami_j_float(p);
    }
}

static jval repeat(jrun *r, jval v, int64_t times)
{
    if (times < 0) times = 0;
    if (v.type == J_STR) {
        jsb b = { .r = r };
        if (v.s->n) {
            if ((uint64_t)times > (uint64_t)J_MAX_MEMORY / v.s->n)
                loami_j_fail(r, "a string of more than %d MB", J_MAX_MEMORY >> 20);
            for (int64_t i = 0; i < times; i++) loami_j_put(&b, v.s->p, v.s->n);
        }
        jval out = loami_j_sbval(&b);
        ((jstr *)out.s)->markup = v.s->markup;
        return out;
    }
    jlb b = { .r = r };
    for (int64_t i = 0; i < times && v.l->n; i++)
        for (size_t k = 0; k < v.l->n; k++) loami_j_push(&b, v.l->v[k]);
    return loami_j_lbval(&b, v.type);
}

static bool repeatable(jval v)
{
    return v.type == J_STR || v.type == J_LIST || v.type == J_TUPLE;
}

static jval add_strings(jrun *r, jval a, jval b)
{
    if (a.s->markup || b.s->markup) {
        a = loami_j_escape(r, a);
        b = loami_j_escape(r, b);
    }
    return loami_j_concat(r, a.s, b.s);
}

static jval add_lists(jrun *r, jval a, jval b)
{
    size_t n = a.l->n + b.l->n;
    jval *v = loami_j_array(r, n ? n : 1, sizeof *v);
    if (a.l->n) memcpy(v, a.l->v, a.l->n * sizeof *v);
    if (b.l->n) memcpy(v + a.l->n, b.l->v, b.l->n * sizeof *v);
    loami_j_work(r, n * sizeof *v);
    return loami_j_list(r, a.type, v, n);
}

jval loami_j_binary(jrun *r, jop op, jval a, jval b)
{
    int64_t i = 0, j = 0;
    double f, g;
    bool a_whole = loami_j_whole(a, &i), b_whole = loami_j_whole(b, &j);
    if (a_whole && b_whole) return int_op(r, op, i, j);
    if (loami_j_number(a, &f) && loami_j_number(b, &g)) return float_op(r, op, f, g);
    if (op == OP_ADD && a.type == b.type) {
        if (a.type == J_STR) return add_strings(r, a, b);
        if (a.type == J_LIST || a.type == J_TUPLE) return add_lists(r, a, b);
    }
    if (op == OP_MUL && b_whole && repeatable(a)) return repeat(r, a, j);
    if (op == OP_MUL && a_whole && repeatable(b)) return repeat(r, b, i);
    if (op == OP_MOD && a.type == J_STR) return loami_j_percent(r, a.s, b);
    unsupported(r, op, a, b);
}

jval loami_j_unary(jrun *r, jop op, jval a)
{
    int64_t i;
    if (a.type == J_UNDEF) loami_j_fail_undef(r, a.u);
    if (loami_j_whole(a, &i)) {
        if (op == OP_NEG && i == INT64_MIN) overflow(r);
        return loami_j_int(op == OP_NEG ? -i : i);
    }
    if (a.type != J_FLOAT)
        loami_j_fail(r, "bad operand type for unary %s: '%s'", op == OP_NEG ? "-" : "+", loami_j_typename(a));
    return loami_j_float(op == OP_NEG ? -a.f : a.f);
}

/* ---- comparison ---- */

/* -1, 0, 1; 2 when one is not a number. */
static int order_numbers(jval a, jval b)
{
    int64_t i, j;
    double f, g;
    if (loami_j_whole(a, &i) && loami_j_whole(b, &j)) return (i > j) - (i < j);
    loami_j_number(a, &f);
    loami_j_number(b, &g);
    if (isnan(f) || isnan(g)) return 2;
    if (f != g || fabs(f) < 9007199254740992.0 || a.type == b.type) return (f > g) - (f < g);
    /* Near or beyond 2^53 the conversion may have rounded: both have the same double, so compare as integers. */
    if (fabs(f) >= 9223372036854775807.0) return a.type == J_FLOAT ? (f > 0) - (f < 0) : (f < 0) - (f > 0);
    i = a.type == J_FLOAT ? (int64_t)a.f : a.i;
    j = b.type == J_FLOAT ? (int64_t)b.f : b.i;
    return (i > j) - (i < j);
}

static int order_strings(jrun *r, const jstr *a, const jstr *b)
{
    size_t n = a->n < b->n ? a->n : b->n;
    loami_j_work(r, n);
    int c = n ? memcmp(a->p, b->p, n) : 0;
    return c ? (c > 0) - (c < 0) : (a->n > b->n) - (a->n < b->n);
}

/* Lists: the first items that differ decide, else the lengths. */
static bool compare_lists(jrun *r, jop op, const jlist *a, const jlist *b)
{
    size_t i = 0;
    while (i < a->n && i < b->n && (loami_j_same(a->v[i], b->v[i]) || loami_j_equal(r, a->v[i], b->v[i])))
        i++;
    if (i < a->n && i < b->n) return loami_j_compare(r, op, a->v[i], b->v[i]);
    int c = (a->n > b->n) - (a->n < b->n);
    return op == OP_LT ? c < 0 : op == OP_LE ? c <= 0 : op == OP_GT ? c > 0 : c >= 0;
}

static bool compare_order(jrun *r, jop op, jval a, jval b)
{
    double f, g;
    int c;
    if (a.type == J_UNDEF) loami_j_fail_undef(r, a.u);
    if (b.type == J_UNDEF) loami_j_fail_undef(r, b.u);
    if (a.type == J_STR && b.type == J_STR) {
        c = order_strings(r, a.s, b.s);
    } else if (loami_j_number(a, &f) && loami_j_number(b, &g)) {
        c = order_numbers(a, b);
        if (c == 2) return false;
    } else if (a.type == b.type && (a.type == J_LIST || a.type == J_TUPLE)) {
        loami_j_enter(r);
        bool yes = compare_lists(r, op, a.l, b.l);
        loami_j_leave(r);
        return yes;
    } else {
        loami_j_fail(r, "'%s' not supported between instances of '%s' and '%s'", signs[op],
                     loami_j_typename(a), loami_j_typename(b));
    }
    return op == OP_LT ? c < 0 : op == OP_LE ? c <= 0 : op == OP_GT ? c > 0 : c >= 0;
}

int loami_j_order(jrun *r, jval a, jval b)
{
    return compare_order(r, OP_LT, a, b);
}

static bool contains_text(jrun *r, const jstr *in, jval item)
{
    if (item.type != J_STR)
        loami_j_fail(r, "'in <string>' requires string as left operand, not %s", loami_j_typename(item));
    loami_j_work(r, in->n);
    return item.s->n == 0 || (item.s->n <= in->n && memmem(in->p, in->n, item.s->p, item.s->n) != NULL);
}

bool loami_j_contains(jrun *r, jval item, jval in)
{
    jval v;
    if (in.type == J_STR) return contains_text(r, in.s, item);
    if (in.type == J_DICT) return loami_j_dict_get(r, in.d, item, &v);
    if (in.type == J_VIEW && in.view->what == J_KEYS) return loami_j_dict_get(r, in.view->d, item, &v);
    if (!loami_j_iterable(in)) loami_j_fail(r, "argument of type '%s' is not iterable", loami_j_typename(in));
    jiter *it = loami_j_iter(r, in);
    while (loami_j_step(r, it, &v))
        if (loami_j_same(v, item) || loami_j_equal(r, v, item)) return true;
    return false;
}

bool loami_j_compare(jrun *r, jop op, jval a, jval b)
{
    switch (op) {
    case OP_EQ: return loami_j_equal(r, a, b);
    case OP_NE: return !loami_j_equal(r, a, b);
    case OP_IN: return loami_j_contains(r, a, b);
    case OP_NOT_IN: return !loami_j_contains(r, a, b);
    default: return compare_order(r, op, a, b);
    }
}
