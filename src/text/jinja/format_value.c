/* Python's format(value, spec): [[fill]align][sign][#][0][width][grouping][.precision][type]. */
#include "text/jinja/run.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_WIDTH = 1 << 20, MAX_PRECISION = 400 };

typedef struct spec {
    uint32_t fill;
    char align, sign, group, type; /* 0 = not given */
    bool alternate, zero;
    int64_t width, precision;      /* precision -1 = not given */
} spec;

static int64_t number(jrun *r, const jstr *s, size_t *at, int64_t limit)
{
    int64_t n = 0;
    for (; *at < s->n && s->p[*at] >= '0' && s->p[*at] <= '9'; ++*at) {
        n = n * 10 + (s->p[*at] - '0');
        if (n > limit) loami_j_fail(r, "a format with a width or precision over %d", (int)limit);
    }
    return n;
}

static char one_of(const jstr *s, size_t *at, const char *set)
{
    if (*at >= s->n || !s->p[*at] || !strchr(set, s->p[*at])) return 0;
    return s->p[(*at)++];
}

static spec parse(jrun *r, const jstr *s)
{
    spec f = { .fill = ' ', .precision = -1 };
    size_t at = 0, next = 0;
    if (s->n) {
        uint32_t fill = loami_j_next(s, &next);
        if (next < s->n && strchr("<>=^", s->p[next]) && s->p[next]) {
            f.fill = fill;
            f.align = s->p[next];
            at = next + 1;
        } else {
            f.align = one_of(s, &at, "<>=^");
        }
    }
    bool filled = at > 1;
    f.sign = one_of(s, &at, "+- ");
    f.alternate = one_of(s, &at, "#") != 0;
    f.zero = one_of(s, &at, "0") != 0;
    if (f.zero && !filled) f.fill = '0';
    f.width = number(r, s, &at, MAX_WIDTH);
    f.group = one_of(s, &at, ",_");
    if (one_of(s, &at, ".")) {
        size_t from = at;
        f.precision = number(r, s, &at, MAX_PRECISION);
        if (at == from) loami_j_fail(r, "Format specifier missing precision");
    }
    if (at < s->n) f.type = s->p[at++];
    if (at < s->n) loami_j_fail(r, "Invalid format specifier");
    return f;
}

/* Pads prefix and body to the width; '=' pads between them. */
static void padded(jsb *b, const spec *f, const char *prefix, const char *body, size_t n, size_t chars,
                   char default_align)
{
    char align = f->align ? f->align : f->zero && default_align == '>' ? '=' : default_align;
    size_t have = strlen(prefix) + chars, missing = (size_t)f->width > have ? (size_t)f->width - have : 0;
    size_t left = align == '>' ? missing : align == '^' ? missing / 2 : 0, between = align == '=' ? missing : 0;
    for (size_t i = 0; i < left; i++) loami_j_putcp(b, f->fill);
    loami_j_puts(b, prefix);
    for (size_t i = 0; i < between; i++) loami_j_putcp(b, f->fill);
    loami_j_put(b, body, n);
    for (size_t i = left + between; i < missing; i++) loami_j_putcp(b, f->fill);
}

/* digits with a separator every few from the right, up to the first that is no digit; zeros in front of them to
 * fill `width` when zero padding is asked for. */
static void grouped(jsb *out, const char *digits, char group, size_t every, size_t width)
{
    size_t whole = strspn(digits,
                          every == 3 ? "0123456789" : "0123456789abcdefABCDEF"), rest = strlen(digits) - whole, total = whole;
    while (group && total + rest + (total - 1) / every < width) total++;
    for (size_t i = 0; i < total; i++) {
        if (group && i && (total - i) % every == 0) loami_j_putc(out, group);
        loami_j_putc(out, i < total - whole ? '0' : digits[i - (total - whole)]);
    }
    loami_j_put(out, digits + whole, rest);
}

static void put_number(jsb *b, const spec *f, bool negative, const char *prefix, const char *digits,
                       size_t every)
{
    char lead[8];
    snprintf(lead, sizeof lead, "%s%s", negative ? "-" : f->sign == '+' ? "+" : f->sign == ' ' ? " " : "",
             prefix);
    jsb body = { .r = b->r };
    bool zeros = f->fill == '0' && (f->align == '=' || (!f->align && f->zero));
    size_t width = zeros && (size_t)f->width > strlen(lead) ? (size_t)f->width - strlen(lead) : 0;
    grouped(&body, digits, f->group, every, width);
    padded(b, f, lead, body.p ? body.p : "", body.n, body.n, '>');
}

static void format_int(jsb *b, const spec *f, int64_t v)
{
    static const struct { char type; int base; const char *prefix; } bases[] = {
        { 'b', 2, "0b" }, { 'o', 8, "0o" }, { 'x', 16, "0x" }, { 'X', 16, "0X" },
    };
    char digits[72], *p = digits + sizeof digits - 1;
    const char *prefix = "";
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    unsigned base = 10;
    if (f->precision >= 0) loami_j_fail(b->r, "Precision not allowed in integer format specifier");
    for (int i = 0; i < 4; i++)
        if (f->type == bases[i].type) {
            base = (unsigned)bases[i].base;
            prefix = f->alternate ? bases[i].prefix : "";
        }
    if (f->group == ',' && base != 10) loami_j_fail(b->r, "Cannot specify ',' with '%c'.", f->type);
    *p = 0;
    do {
        *--p = (f->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[u % base];
        u /= base;
    } while (u);
    put_number(b, f, v < 0, prefix, p, base == 10 ? 3 : 4);
}

static void format_char(jsb *b, const spec *f, int64_t v)
{
    if (f->sign || f->precision >= 0)
        loami_j_fail(b->r, "Sign and precision not allowed with integer format specifier 'c'");
    if (v < 0 || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
        loami_j_fail(b->r, "%%c arg not in range(0x110000)");
    jsb one = { .r = b->r };
    loami_j_putcp(&one, (uint32_t)v);
    padded(b, f, "", one.p, one.n, 1, '<');
}

/* What a float without type and precision looks like: as repr. */
static void short_float(jsb *b, double v)
{
    loami_j_float_repr(b, v);
}

/* d.de+xx without the zeros at the fraction's end. */
static void with_exponent(char *text, size_t n, int precision, double v)
{
    snprintf(text, n, "%.*e", precision - 1, v);
    char *e = strchr(text, 'e'), *end = e;
    if (memchr(text, '.', (size_t)(e - text)))
        while (end[-1] == '0' || end[-1] == '.')
            if (*--end == '.') break;
    memmove(end, e, strlen(e) + 1);
}

static void format_float(jsb *b, const spec *f, double v)
{
    char text[800], fmt[16];
    char type = f->type == 'n' ? 'g' : f->type == '%' ? 'f' : f->type;
    int precision = f->precision >= 0 ? (int)f->precision : 6;
    double magnitude = fabs(v) * (f->type == '%' ? 100 : 1);
    bool negative = signbit(v) && !isnan(v);
    if (!type && f->precision < 0 && isfinite(v)) {
        jsb plain = { .r = b->r };
        short_float(&plain, magnitude);
        loami_j_putc(&plain, 0);
        put_number(b, f, negative, "", plain.p, 3);
        return;
    }
    bool dotted = !type;           /* like g, but never without a fraction */
    if (!type) type = 'g';
    if (dotted && precision == 0) precision = 1;
    snprintf(fmt, sizeof fmt, "%%%s.%d%c", f->alternate ? "#" : "", precision, type);
    if (isfinite(v)) snprintf(text, sizeof text - 4, fmt, magnitude);
    else snprintf(text, sizeof text, "%s",
                  isnan(v) ? (type < 'a' ? "NAN" : "nan") : type < 'a' ? "INF" : "inf");
    if (dotted && isfinite(v) && !strpbrk(text, ".e")) {
        /* An exponent where there is no digit left for the fraction. */
        size_t n = strlen(text);
        if ((int)n >= precision + (text[0] == '0')) with_exponent(text, sizeof text, precision, magnitude);
        else strcat(text, ".0");
    }
    if (f->type == '%') strcat(text, "%");
    put_number(b, f, negative, "", text, 3);
}

static void format_string(jsb *b, const spec *f, const jstr *s)
{
    if (f->sign) loami_j_fail(b->r, "Sign not allowed in string format specifier");
    if (f->alternate) loami_j_fail(b->r, "Alternate form (#) not allowed in string format specifier");
    if (f->group) loami_j_fail(b->r, "Cannot specify '%c' with 's'.", f->group);
    if (f->align == '=') loami_j_fail(b->r, "'=' alignment not allowed in string format specifier");
    size_t chars = loami_j_chars(s), n = s->n;
    if (f->precision >= 0 && (size_t)f->precision < chars) {
        chars = (size_t)f->precision;
        n = loami_j_offset(s, chars);
    }
    padded(b, f, "", s->p, n, chars, '<');
}

void loami_j_format_value(jsb *b, jval v, const jstr *text)
{
    jrun *r = b->r;
    int64_t i;
    double d;
    if (text->n == 0) {
        loami_j_show(b, v);
        return;
    }
    spec f = parse(r, text);
    bool whole = loami_j_whole(v, &i);
    if (v.type == J_STR && (!f.type || f.type == 's')) format_string(b, &f, v.s);
    else if (whole && f.type == 'c') format_char(b, &f, i);
    else if (whole && (!f.type || strchr("bdoxXn", f.type))) format_int(b, &f, i);
    else if (loami_j_number(v, &d) && (!f.type ? v.type == J_FLOAT : strchr("eEfFgGn%", f.type) != NULL))
        format_float(b, &f, d);
    else if (v.type == J_STR || loami_j_number(v, &d))
        loami_j_fail(r, "Unknown format code '%c' for object of type '%s'", f.type, loami_j_typename(v));
    else loami_j_fail(r, "unsupported format string passed to %s.__format__", loami_j_typename(v));
}
