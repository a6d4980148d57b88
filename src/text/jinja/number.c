#include "text/jinja/run.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A printed number without the decimal comma of some locales. */
static void point(char *s)
{
    for (; *s; s++)
        if (*s == ',') *s = '.';
}

/* Digits and decimal exponent of the shortest text that reads back as f: d.ddde+xx. */
static int shortest(double f, char *text, size_t n)
{
    for (int p = 0; p < 17; p++) {
        snprintf(text, n, "%.*e", p, f);
        if (strtod(text, NULL) == f || p == 16) break;
    }
    point(text);
    return atoi(strchr(text, 'e') + 1);
}

void loami_j_float_repr(jsb *b, double f)
{
    char text[40], digits[24];
    size_t n = 0;
    if (isnan(f) || isinf(f)) {
        loami_j_puts(b, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    int e = shortest(f, text, sizeof text);
    if (text[0] == '-') loami_j_putc(b, '-');
    for (const char *p = text; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    if (e < -4 || e >= 16) {
        loami_j_putc(b, digits[0]);
        if (n > 1) loami_j_putc(b, '.');
        loami_j_put(b, digits + 1, n - 1);
        loami_j_printf(b, "e%c%02d", e < 0 ? '-' : '+', abs(e));
        return;
    }
    if (e < 0) {
        loami_j_puts(b, "0.");
        for (int i = -1; i > e; i--) loami_j_putc(b, '0');
        loami_j_put(b, digits, n);
        return;
    }
    for (size_t i = 0; i <= (size_t)e; i++) loami_j_putc(b, i < n ? digits[i] : '0');
    loami_j_putc(b, '.');
    if (n > (size_t)e + 1) loami_j_put(b, digits + e + 1, n - (size_t)e - 1);
    else loami_j_putc(b, '0');
}

/* ---- reading, as int() and float() of a string do ---- */

/* Copies s without surrounding space and with the underscores between digits left out; false when there is
 * something that no number has. Digits of other scripts become ASCII. */
static bool plain(const jstr *s, char *out, size_t room)
{
    size_t n = 0, from = 0, to = s->n;
    while (from < to && loami_j_space((unsigned char)s->p[from]) && (unsigned char)s->p[from] < 0x80) from++;
    while (to > from && loami_j_space((unsigned char)s->p[to - 1]) && (unsigned char)s->p[to - 1] < 0x80)
        to--;
    for (size_t i = from; i < to; i++) {
        char c = s->p[i];
        if ((unsigned char)c >= 0x80 || c == 0) return false;
        if (c == '_') {
            bool between = i > from && i + 1 < to && s->p[i + 1] != '_';
            if (!between) return false;
            continue;
        }
        if (n + 1 >= room) return false;
        out[n++] = c;
    }
    out[n] = 0;
    return n > 0;
}

bool loami_j_parse_int(const jstr *s, int64_t base, int64_t *out)
{
    char text[128], *p = text, *end;
    if (base != 0 && (base < 2 || base > 36)) return false;
    if (!plain(s, text, sizeof text)) return false;
    bool negative = *p == '-';
    if (*p == '+' || *p == '-') p++;
    if (*p == '+' || *p == '-' || loami_j_space((unsigned char)*p)) return false;
    static const struct { char letter; int base; } prefixes[] = { { 'x', 16 }, { 'o', 8 }, { 'b', 2 } };
    bool prefixed = false;
    for (int i = 0; i < 3; i++)
        if (p[0] == '0' && (p[1] | 32) == prefixes[i].letter && (base == 0 || base == prefixes[i].base)) {
            base = prefixes[i].base;
            p += 2;
            prefixed = true;
            break;
        }
    if (base == 0) {
        if (!prefixed && p[0] == '0' && strspn(p, "0") != strlen(p)) return false;
        base = 10;
    }
    if (!*p || *p == '+' || *p == '-' || (base == 16 && (p[1] | 32) == 'x')) return false;
    errno = 0;
    unsigned long long v = strtoull(p, &end, (int)base);
    if (*end || errno || v > (unsigned long long)INT64_MAX + negative) return false;
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

bool loami_j_parse_float(const jstr *s, double *out)
{
    char text[400], *end;
    if (!plain(s, text, sizeof text)) return false;
    const char *p = text + (text[0] == '+' || text[0] == '-');
    bool word = strcasecmp(p, "inf") == 0 || strcasecmp(p, "infinity") == 0 || strcasecmp(p, "nan") == 0;
    if (!word && strspn(p, "0123456789.eE+-") != strlen(p)) return false;
    *out = strtod(text, &end);
    return *end == 0;
}

/* ---- rounding ---- */

static jval round_int(jrun *r, int64_t i, int64_t digits)
{
    if (digits >= 0) return loami_j_int(i);
    if (digits < -18) return loami_j_int(0);
    int64_t unit = 1, rest, half, out;
    for (; digits < 0; digits++) unit *= 10;
    rest = i % unit;
    if (rest < 0) rest += unit;
    out = i - rest;
    half = unit / 2;
    if (rest > half || (rest == half && (out / unit) % 2 != 0)) {
        if (__builtin_add_overflow(out, unit, &out)) loami_j_fail(r, "an integer beyond 64 bits");
    }
    return loami_j_int(out);
}

jval loami_j_round(jrun *r, jval v, jval digits)
{
    int64_t i, places = digits.type == J_MISSING ? 0 : loami_j_index(r, digits);
    if (loami_j_whole(v, &i)) return round_int(r, i, places);
    if (v.type == J_UNDEF) loami_j_fail_undef(r, v.u);
    if (v.type != J_FLOAT) loami_j_fail(r, "type %s doesn't define __round__ method", loami_j_typename(v));
    if (!isfinite(v.f) || places > 323) return v;
    if (places < -308) return loami_j_float(0.0 * v.f);
    if (places < 0) {
        double unit = pow(10, (double)-places), q = v.f / unit, z = nearbyint(q);
        return loami_j_float(z * unit);
    }
    char text[700];
    snprintf(text, sizeof text, "%.*f", (int)places, v.f);
    return loami_j_float(strtod(text, NULL));
}
