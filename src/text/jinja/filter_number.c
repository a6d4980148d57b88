/* Filters over numbers. */
#include "text/jinja/run.h"

#include <math.h>
#include <stdio.h>

static jval f_abs(jrun *r, jval v, jval *p, const jargs *args)
{
    int64_t i;
    (void)p, (void)args;
    if (v.type == J_UNDEF) loami_j_fail(r, "bad operand type for abs(): 'Undefined'");
    if (v.type == J_FLOAT) return loami_j_float(fabs(v.f));
    if (!loami_j_whole(v, &i)) loami_j_fail(r, "bad operand type for abs(): '%s'", loami_j_typename(v));
    return i < 0 ? loami_j_unary(r, OP_NEG, loami_j_int(i)) : loami_j_int(i);
}

/* int(f) */
static jval truncated(jrun *r, double f)
{
    if (isinf(f)) loami_j_fail(r, "cannot convert float infinity to integer");
    if (fabs(f) >= 9223372036854775808.0) loami_j_fail(r, "an integer beyond 64 bits");
    return loami_j_int((int64_t)f);
}

static jval f_int(jrun *r, jval v, jval *p, const jargs *args)
{
    jval fallback = p[0].type == J_MISSING ? loami_j_int(0) : p[0];
    int64_t i, base = p[1].type == J_MISSING ? 10 : loami_j_index(r, p[1]);
    double f;
    (void)args;
    if (v.type == J_UNDEF) loami_j_fail_undef(r, v.u);
    if (loami_j_whole(v, &i)) return loami_j_int(i);
    if (v.type == J_FLOAT) return isnan(v.f) ? fallback : truncated(r, v.f);
    if (v.type != J_STR) return fallback;
    if (loami_j_parse_int(v.s, base, &i)) return loami_j_int(i);
    if (!loami_j_parse_float(v.s, &f) || !isfinite(f)) return fallback;
    return truncated(r, f);
}

static jval f_float(jrun *r, jval v, jval *p, const jargs *args)
{
    double f;
    (void)args;
    if (v.type == J_UNDEF) loami_j_fail_undef(r, v.u);
    if (loami_j_number(v, &f) || (v.type == J_STR && loami_j_parse_float(v.s, &f))) return loami_j_float(f);
    return p[0].type == J_MISSING ? loami_j_float(0) : p[0];
}

static jval f_round(jrun *r, jval v, jval *p, const jargs *args)
{
    jval digits = p[0].type == J_MISSING ? loami_j_int(0) : p[0];
    double f;
    (void)args;
    if (p[1].type == J_MISSING || (p[1].type == J_STR && loami_j_is(p[1].s, "common")))
        return loami_j_round(r, v, digits);
    bool ceiling = p[1].type == J_STR && loami_j_is(p[1].s, "ceil");
    if (!ceiling && !(p[1].type == J_STR && loami_j_is(p[1].s, "floor")))
        loami_j_fail(r, "method must be common, ceil or floor");
    jval unit = loami_j_binary(r, OP_POW, loami_j_int(10), digits), scaled = loami_j_binary(r, OP_MUL, v,
        unit);
    if (!loami_j_number(scaled, &f)) loami_j_fail(r, "must be real number, not %s", loami_j_typename(scaled));
    if (scaled.type == J_FLOAT) {
        if (isnan(f)) loami_j_fail(r, "cannot convert float NaN to integer");
        scaled = truncated(r, ceiling ? ceil(f) : floor(f));
    }
    return loami_j_binary(r, OP_DIV, scaled, unit);
}

static jval f_filesizeformat(jrun *r, jval v, jval *p, const jargs *args)
{
    static const char *const names[][2] = { { "kB", "KiB" }, { "MB", "MiB" }, { "GB", "GiB" },
                                            { "TB", "TiB" },
                                            { "PB", "PiB" }, { "EB", "EiB" }, { "ZB", "ZiB" },
                                            { "YB", "YiB" } };
    bool binary = p[0].type != J_MISSING && loami_j_true(r, p[0]);
    double base = binary ? 1024 : 1000, bytes = 0;
    char text[400];
    jsb b = { .r = r };
    (void)args;
    if (v.type == J_UNDEF) loami_j_fail_undef(r, v.u);
    if (!loami_j_number(v, &bytes) && !(v.type == J_STR && loami_j_parse_float(v.s, &bytes)))
        loami_j_fail(r, "could not convert %s to float", loami_j_typename(v));
    if (bytes == 1) {
        loami_j_puts(&b, "1 Byte");
    } else if (bytes < base) {
        snprintf(text, sizeof text, "%.0f Bytes", trunc(bytes));
        loami_j_puts(&b, text);
    } else {
        int i = 0;
        while (i < 7 && !(bytes < pow(base, i + 2))) i++;
        snprintf(text, sizeof text, "%.1f %s", base * bytes / pow(base, i + 2), names[i][binary]);
        loami_j_puts(&b, text);
    }
    return loami_j_sbval(&b);
}

const jbuiltin loami_j_filters_number[] = {
    { "int", f_int, "default? base?" }, { "float", f_float, "default?" }, { "abs", f_abs, "" },
    { "round", f_round, "precision? method?" },
    { "filesizeformat", f_filesizeformat, "binary?" },
    { NULL, NULL, NULL },
};
