/* Numbers between bounds, digit by digit: exact, without arithmetic on what is generated. */
#include "grammar/schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WHOLE_DIGITS = 18, /* of a number without a bound: fits into 64 bits */
    ALL_DIGITS = 15,   /* so many decimal digits differ as doubles, too */
    MOST_DIGITS = 64,  /* of a bound; beyond, it is refused */
    MULTIPLE = 256,
};

/* A bound's magnitude: digits before the point without leading zeros ("0" alone is empty), and after it
 * without trailing. */
typedef struct decimal {
    char whole[MOST_DIGITS + 1], part[MOST_DIGITS + 1];
    uint32_t n_whole, n_part;
} decimal;

typedef struct limits {
    loami_schema *c;
    decimal lo, hi;
    bool has_hi, above, below; /* above, below: the bound itself is not allowed */
    bool integer;
    uint32_t digits; /* after the point */
} limits;

static loami_expr *digit(loami_schema *c, char lo, char hi)
{
    loami_range r = { (uint32_t)lo, (uint32_t)hi };
    return lo > hi ? loami_x_never(c->d) : loami_x_chars(c->d, &r, 1, false);
}

static loami_expr *any_digits(loami_schema *c, uint32_t lo, uint32_t hi)
{
    return loami_x_repeat(c->d, digit(c, '0', '9'), NULL, lo, hi);
}

/* ---- whole numbers ---- */

/* n digits that are, as a number, from lo to hi; NULL: no bound on that side. */
static loami_expr *between(loami_schema *c, const char *lo, const char *hi, uint32_t n)
{
    loami_syntax *d = c->d;
    if (n == 0 || (!lo && !hi)) return any_digits(c, n, n);
    char a = lo ? *lo : '0', b = hi ? *hi : '9';
    const char *lo_rest = lo ? lo + 1 : NULL, *hi_rest = hi ? hi + 1 : NULL;
    if (a == b) return loami_x_two(d, digit(c, a, a), between(c, lo_rest, hi_rest, n - 1));
    loami_expr *x = loami_x_never(d);
    char from = lo ? (char)(a + 1) : a, to = hi ? (char)(b - 1) : b;
    if (lo) x = loami_x_two(d, digit(c, a, a), between(c, lo_rest, NULL, n - 1));
    if (from <= to) x = loami_x_either(d, x, loami_x_two(d, digit(c, from, to), any_digits(c, n - 1, n - 1)));
    if (hi) x = loami_x_either(d, x, loami_x_two(d, digit(c, b, b), between(c, NULL, hi_rest, n - 1)));
    return x;
}

/* Whole numbers > 0 from lo to hi (digits without leading zeros; NULL hi: no bound). */
static loami_expr *positive(loami_schema *c, const char *lo, const char *hi)
{
    uint32_t n_lo = (uint32_t)strlen(lo), n_hi = hi                    ? (uint32_t)strlen(hi)
                                                 : n_lo > WHOLE_DIGITS ? n_lo
                                                                       : WHOLE_DIGITS;
    if (n_lo == 0) lo = "1", n_lo = 1;
    if (n_hi < n_lo || (n_hi == n_lo && hi && strcmp(lo, hi) > 0)) return loami_x_never(c->d);
    if (n_hi == n_lo) return between(c, lo, hi, n_lo);
    loami_expr *x = between(c, lo, NULL, n_lo);
    if (n_hi - n_lo > 1)
        x = loami_x_either(c->d, x, loami_x_two(c->d, digit(c, '1', '9'), any_digits(c, n_lo, n_hi - 2)));
    if (!hi)
        return loami_x_either(c->d, x,
                              loami_x_two(c->d, digit(c, '1', '9'), any_digits(c, n_hi - 1, n_hi - 1)));
    char least[MOST_DIGITS + 2] = "1";
    memset(least + 1, '0', n_hi - 1);
    least[n_hi] = 0;
    return loami_x_either(c->d, x, between(c, least, hi, n_hi));
}

/* The same with 0, if lo says so. */
static loami_expr *whole(loami_schema *c, const char *lo, const char *hi)
{
    loami_expr *zero = *lo ? loami_x_never(c->d) : loami_x_text(c->d, "0");
    return loami_x_either(c->d, zero, hi && !*hi ? loami_x_never(c->d) : positive(c, lo, hi));
}

/* One more or less, as text. */
static void add_one(char *s)
{
    size_t i = strlen(s);
    while (i > 0 && s[i - 1] == '9') s[--i] = '0';
    if (i > 0)
        s[i - 1]++;
    else
        memmove(s + 1, s, strlen(s) + 1), s[0] = '1';
}

static void take_one(char *s)
{
    size_t i = strlen(s);
    while (i > 0 && s[i - 1] == '0') s[--i] = '9';
    s[i - 1]--;
    if (s[0] == '0') memmove(s, s + 1, strlen(s));
}

/* ---- after the point ---- */

/* What may come after i digits of a fraction, of which those of lo (tight_lo), of hi (tight_hi) were met so
 * far. some: at least one digit has to come. */
static loami_expr *fraction(const limits *l, uint32_t i, bool tight_lo, bool tight_hi, bool some)
{
    loami_schema *c = l->c;
    loami_syntax *d = c->d;
    uint32_t left = l->digits > i ? l->digits - i : 0;
    tight_lo = tight_lo && (i < l->lo.n_part || l->above);
    if (!tight_lo && !tight_hi) return left < some ? loami_x_never(d) : any_digits(c, some, left);
    bool low_left = tight_lo && i < l->lo.n_part, high_left = tight_hi && i < l->hi.n_part;
    bool may_end = !some && !(tight_lo && (low_left || l->above)) && !(tight_hi && !high_left && l->below);
    loami_expr *end = may_end ? loami_x_empty(d) : loami_x_never(d), *x = end;
    if (left == 0) return end;
    if (tight_hi && !high_left && (l->below || tight_lo))
        return end; /* it is hi already, and nothing but zeros could follow */
    char a = low_left ? l->lo.part[i] : '0', b = high_left ? l->hi.part[i] : tight_hi ? '0' : '9';
    for (char k = a; k <= b; k++) {
        bool lo = tight_lo && k == a, hi = tight_hi && k == b;
        if (!lo && !hi) { /* those in between are alike */
            char last = tight_hi ? (char)(b - 1) : b;
            x = loami_x_either(d, x,
                               loami_x_two(d, digit(c, k, last), fraction(l, i + 1, false, false, false)));
            k = last;
            continue;
        }
        x = loami_x_either(d, x, loami_x_two(d, digit(c, k, k), fraction(l, i + 1, lo, hi, false)));
    }
    return x;
}

/* Whole part, then perhaps a point and a fraction. whole_ok: the number may end before the point. */
static loami_expr *with_fraction(const limits *l, loami_expr *whole_part, bool tight_lo, bool tight_hi)
{
    loami_syntax *d = l->c->d;
    loami_expr *none = fraction(l, 0, tight_lo, tight_hi, false);
    bool may_end = !(tight_lo && (l->lo.n_part || l->above)) && !(tight_hi && !l->hi.n_part && l->below);
    if (!none) return NULL;
    loami_expr *point = loami_x_two(d, loami_x_text(d, "."), fraction(l, 0, tight_lo, tight_hi, true));
    return loami_x_two(d, whole_part, may_end ? loami_x_either(d, loami_x_empty(d), point) : point);
}

static loami_expr *literal_whole(const limits *l, const decimal *x)
{
    return loami_x_text(l->c->d, x->n_whole ? x->whole : "0");
}

static int compare_whole(const decimal *a, const decimal *b)
{
    if (a->n_whole != b->n_whole) return a->n_whole < b->n_whole ? -1 : 1;
    return strcmp(a->whole, b->whole);
}

/* Numbers >= 0 within the limits. */
static loami_expr *magnitudes(limits *l)
{
    loami_syntax *d = l->c->d;
    char from[MOST_DIGITS + 2], to[MOST_DIGITS + 2];
    uint32_t n = l->has_hi && l->hi.n_whole > l->lo.n_whole ? l->hi.n_whole : l->lo.n_whole;
    l->digits = n < ALL_DIGITS ? ALL_DIGITS - n : 0;
    int order = l->has_hi ? compare_whole(&l->lo, &l->hi) : -1;
    if (order > 0) return loami_x_never(d);
    if (l->integer) {
        snprintf(from, sizeof from, "%s", l->lo.whole);
        snprintf(to, sizeof to, "%s", l->hi.whole);
        if (l->lo.n_part || l->above) add_one(from);
        if (l->has_hi && !l->hi.n_part && l->below) {
            if (!l->hi.n_whole) return loami_x_never(d);
            take_one(to);
        }
        return whole(l->c, from, l->has_hi ? to : NULL);
    }
    if (order == 0) return with_fraction(l, literal_whole(l, &l->lo), true, true);
    loami_expr *x = with_fraction(l, literal_whole(l, &l->lo), true, false);
    snprintf(from, sizeof from, "%s", l->lo.whole);
    add_one(from);
    snprintf(to, sizeof to, "%s", l->hi.whole);
    if (l->has_hi) take_one(to);
    loami_expr *middle = l->has_hi && !*to ? loami_x_never(d) : positive(l->c, from, l->has_hi ? to : NULL);
    if (middle && middle->kind != LOAMI_X_NEVER)
        x = loami_x_either(d, x, with_fraction(l, middle, false, false));
    if (l->has_hi) x = loami_x_either(d, x, with_fraction(l, literal_whole(l, &l->hi), false, true));
    return x;
}

/* ---- bounds ---- */

/* One side: the tighter of two keywords. */
typedef struct bound {
    double value;  /* to compare with */
    json_t *exact; /* NULL: none */
    bool strict;
} bound;

static bool read_bound(loami_schema *c, const json_t *s, const char *keyword, const char *strict, int sign,
                       bound *out)
{
    json_t *v = json_object_get(s, keyword), *x = json_object_get(s, strict);
    *out = (bound){ 0 };
    if ((v && !json_is_number(v)) || (x && !json_is_number(x) && !json_is_boolean(x))) {
        loami_schema_wrong(c, LOAM_E_ARG, v && !json_is_number(v) ? keyword : strict, "must be a number");
        return false;
    }
    if (v) *out = (bound){ json_number_value(v), v, json_is_true(x) }; /* true: draft 4 */
    if (json_is_number(x) && (!v || sign * (json_number_value(x) - out->value) >= 0))
        *out = (bound){ json_number_value(x), x, true };
    return true;
}

static bool to_decimal(loami_schema *c, const bound *b, decimal *out)
{
    char text[400], *point;
    *out = (decimal){ 0 };
    if (!b->exact) return true;
    if (json_is_integer(b->exact)) {
        json_int_t i = json_integer_value(b->exact);
        snprintf(text, sizeof text, "%llu", i < 0 ? 0ull - (unsigned long long)i : (unsigned long long)i);
    } else {
        double v = fabs(json_real_value(b->exact));
        int digits = 0;
        for (; digits < MOST_DIGITS; digits++) {
            snprintf(text, sizeof text, "%.*f", digits, v);
            if (strtod(text, NULL) == v) break;
        }
        if (digits == MOST_DIGITS) goto refuse;
    }
    point = strchr(text, '.');
    if (point) *point++ = 0;
    if (strlen(text) > MOST_DIGITS) goto refuse;
    snprintf(out->whole, sizeof out->whole, "%s", strcmp(text, "0") == 0 ? "" : text);
    if (point) snprintf(out->part, sizeof out->part, "%s", point);
    out->n_whole = (uint32_t)strlen(out->whole);
    out->n_part = (uint32_t)strlen(out->part);
    while (out->n_part && out->part[out->n_part - 1] == '0') out->part[--out->n_part] = 0;
    return true;
refuse:
    loami_schema_wrong(c, LOAM_E_UNSUPPORTED, "minimum",
                       "a bound of more than %d digits before or after the point", MOST_DIGITS);
    return false;
}

static loami_expr *bounded(loami_schema *c, const bound *lo, const bound *hi, bool integer)
{
    loami_syntax *d = c->d;
    decimal low, high;
    loami_expr *x = loami_x_never(d);
    bool lo_negative = !lo->exact || lo->value < 0, hi_positive = !hi->exact || hi->value > 0;
    if (!to_decimal(c, lo, &low) || !to_decimal(c, hi, &high)) return NULL;
    if (lo->exact && hi->exact &&
        (lo->value > hi->value || (lo->value == hi->value && (lo->strict || hi->strict))))
        return x;
    if (hi_positive || (hi->value == 0 && !hi->strict)) { /* 0 and more */
        limits l = { .c = c, .hi = high, .has_hi = hi->exact, .below = hi->strict, .integer = integer };
        if (!lo_negative) l.lo = low, l.above = lo->strict;
        x = magnitudes(&l);
    }
    if (lo_negative) { /* less than 0: magnitudes the other way round */
        limits l = {
            .c = c, .hi = low, .has_hi = lo->exact, .below = lo->strict, .above = true, .integer = integer
        };
        if (!hi_positive) l.lo = high, l.above = hi->strict || hi->value == 0;
        loami_expr *m = magnitudes(&l);
        if (m && m->kind == LOAMI_X_NEVER) return x;
        x = loami_x_either(d, x, loami_x_two(d, loami_x_text(d, "-"), m));
    }
    return x;
}

/* ---- multiples ---- */

/* Whole numbers divisible by m: a rule for each remainder. */
static loami_expr *multiples(loami_schema *c, uint32_t m)
{
    loami_syntax *d = c->d;
    uint32_t rules[MULTIPLE];
    loami_exprs firsts = { 0 };
    for (uint32_t k = 0; k < m; k++)
        if (!(rules[k] = loami_rule_new(d, NULL))) return NULL;
    for (uint32_t k = 0; k < m; k++) {
        loami_exprs next = { 0 };
        for (char x = '0'; x <= '9'; x++)
            loami_exprs_put(
                d, &next,
                loami_x_two(d, digit(c, x, x), loami_x_rule(d, rules[(k * 10 + (uint32_t)(x - '0')) % m])));
        if (k == 0) loami_exprs_put(d, &next, loami_x_empty(d));
        loami_expr *x = loami_x_alt(d, next.items, next.n);
        d->rules[rules[k]].expr = x;
    }
    for (char x = '1'; x <= '9'; x++)
        loami_exprs_put(d, &firsts,
                        loami_x_two(d, digit(c, x, x), loami_x_rule(d, rules[(uint32_t)(x - '0') % m])));
    loami_expr *some = loami_x_alt(d, firsts.items, firsts.n),
               *sign = loami_x_repeat(d, loami_x_text(d, "-"), NULL, 0, 1);
    return loami_x_either(d, loami_x_text(d, "0"), loami_x_two(d, sign, some));
}

static loami_expr *multiple_of(loami_schema *c, const json_t *m, bool is_bounded, bool *integer)
{
    double d = json_number_value(m);
    if (!json_is_number(m) || !(d > 0))
        return loami_schema_wrong(c, LOAM_E_ARG, "multipleOf", "must be a number above 0");
    if (d == 1) {
        *integer = true;
        return NULL;
    }
    if (d != (double)(uint32_t)(d < MULTIPLE ? d : 0) || d > MULTIPLE)
        return loami_schema_wrong(c, LOAM_E_UNSUPPORTED, "multipleOf",
                                  "only whole numbers up to %d can be honoured", MULTIPLE);
    if (is_bounded)
        return loami_schema_wrong(c, LOAM_E_UNSUPPORTED, "multipleOf",
                                  "together with minimum or maximum it can't be honoured");
    return multiples(c, (uint32_t)d);
}

loami_expr *loami_schema_number(loami_schema *c, const json_t *s, bool integer)
{
    bound lo, hi;
    const json_t *multiple = json_object_get(s, "multipleOf");
    if (!read_bound(c, s, "minimum", "exclusiveMinimum", 1, &lo) ||
        !read_bound(c, s, "maximum", "exclusiveMaximum", -1, &hi))
        return NULL;
    if (multiple) {
        loami_expr *x = multiple_of(c, multiple, lo.exact || hi.exact, &integer);
        if (x || c->rc < 0) return x;
    }
    if (!lo.exact && !hi.exact) return integer ? loami_json_integer_x(c->d) : loami_json_number_x(c->d);
    return bounded(c, &lo, &hi, integer);
}
