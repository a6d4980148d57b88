/* Text with holes: fmt % args, and fmt.format(...). */
#include "text/jinja/run.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_WIDTH = 1 << 20, MAX_PRECISION = 400, MAX_NESTED = 2 };

/* ---- % ---- */

typedef struct percent {
    jrun *r;
    const jstr *fmt;
    size_t at;
    jval args, *v;                 /* [n] the arguments by position */
    size_t n, used;
    bool markup;
} percent;

/* One hole: %(key)flags width .precision type */
typedef struct hole {
    bool left, plus, space, alternate, zero, keyed;
    int64_t width, precision;
    char type;
    jval value;
} hole;

static jval next_arg(percent *x)
{
    if (x->used >= x->n) loami_j_fail(x->r, "not enough arguments for format string");
    return x->v[x->used++];
}

static char look(percent *x)
{
    if (x->at >= x->fmt->n) loami_j_fail(x->r, "incomplete format");
    return x->fmt->p[x->at];
}

static int64_t amount(percent *x, bool *negative, int64_t limit)
{
    int64_t n = 0;
    if (look(x) == '*') {
        jval v = next_arg(x);
        x->at++;
        if (!loami_j_whole(v, &n)) loami_j_fail(x->r, "* wants int");
        *negative = n < 0;
        if (n < -limit || n > limit)
            loami_j_fail(x->r, "a format with a width or precision over %d", (int)limit);
        return n < 0 ? -n : n;
    }
    for (char c; c = look(x), c >= '0' && c <= '9'; x->at++) {
        n = n * 10 + (c - '0');
        if (n > limit) loami_j_fail(x->r, "a format with a width or precision over %d", (int)limit);
    }
    return n;
}

static void parse_key(percent *x, hole *h)
{
    size_t from = ++x->at, depth = 1;
    for (; depth; x->at++) {
        char c = look(x);
        depth += (c == '(') - (c == ')');
    }
    if (x->args.type != J_DICT) loami_j_fail(x->r, "format requires a mapping");
    jval key = loami_j_part(x->r, x->fmt, from, x->at - 1 - from);
    h->keyed = true;
    if (!loami_j_dict_get(x->r, x->args.d, key, &h->value))
        loami_j_fail(x->r, "KeyError: '%.*s'", key.s->n > 100 ? 100 : (int)key.s->n, key.s->p);
}

static void parse_hole(percent *x, hole *h)
{
    bool negative = false;
    *h = (hole){ .precision = -1 };
    if (look(x) == '(') parse_key(x, h);
    for (char c; c = look(x), strchr("-+ #0", c) && c; x->at++) {
        h->left |= c == '-';
        h->plus |= c == '+';
        h->space |= c == ' ';
        h->alternate |= c == '#';
        h->zero |= c == '0';
    }
    h->width = amount(x, &negative, MAX_WIDTH);
    h->left |= negative;
    if (look(x) == '.') {
        x->at++;
        negative = false;
        h->precision = amount(x, &negative, MAX_PRECISION);
        if (negative) h->precision = 0;
    }
    if (strchr("hlL", look(x)) && look(x)) x->at++;
    h->type = look(x);
    x->at++;
    if (!h->keyed) h->value = next_arg(x);
}

/* sign and prefix, then the body, padded. */
static void put_padded(jsb *b, const hole *h, const char *lead, const char *body, size_t n, size_t chars,
                       bool zeros)
{
    size_t have = strlen(lead) + chars, missing = (size_t)h->width > have ? (size_t)h->width - have : 0;
    zeros = zeros && h->zero && !h->left;
    for (size_t i = 0; i < missing && !h->left && !zeros; i++) loami_j_putc(b, ' ');
    loami_j_puts(b, lead);
    for (size_t i = 0; i < missing && zeros; i++) loami_j_putc(b, '0');
    loami_j_put(b, body, n);
    for (size_t i = 0; i < missing && h->left; i++) loami_j_putc(b, ' ');
}

static const char *sign_of(const hole *h, bool negative)
{
    return negative ? "-" : h->plus ? "+" : h->space ? " " : "";
}

static void put_text(percent *x, jsb *b, const hole *h)
{
    jsb shown = { .r = x->r };
    jval v = h->value;
    if (h->type == 's' && x->markup) v = loami_j_escape(x->r, v);
    if (h->type == 's') loami_j_show(&shown, v);
    else loami_j_repr(&shown, v);
    const jstr *s = loami_j_sbval(&shown).s;
    if (h->type == 'a') {
        jsb ascii = { .r = x->r };
        for (size_t i = 0; i < s->n;) {
            uint32_t cp = loami_j_next(s, &i);
            if (cp < 0x80) loami_j_putc(&ascii, (char)cp);
            else loami_j_printf(&ascii, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
        }
        s = loami_j_sbval(&ascii).s;
    }
    size_t chars = loami_j_chars(s), n = s->n;
    if (h->precision >= 0 && (size_t)h->precision < chars) {
        chars = (size_t)h->precision;
        n = loami_j_offset(s, chars);
    }
    put_padded(b, h, "", s->p, n, chars, false);
}

static void put_int(percent *x, jsb *b, const hole *h)
{
    char digits[MAX_PRECISION + 80], lead[8];
    int64_t i = 0;
    bool decimal = strchr("diu", h->type) != NULL;
    if (h->value.type == J_UNDEF) loami_j_fail_undef(x->r, h->value.u);
    if (decimal && h->value.type == J_FLOAT) {
        if (!isfinite(h->value.f)) loami_j_fail(x->r, "cannot convert float infinity or NaN to integer");
        if (fabs(h->value.f) >= 9e18) {
            int n = snprintf(digits, sizeof digits, "%.0f", fabs(h->value.f));
            put_padded(b, h, sign_of(h, h->value.f < 0), digits, (size_t)n, (size_t)n, true);
            return;
        }
        i = (int64_t)h->value.f;
    } else if (!loami_j_whole(h->value, &i)) {
        loami_j_fail(x->r, "%%%c format: a%s number is required, not %s", h->type,
                     decimal ? " real" : "n integer", loami_j_typename(h->value));
    }
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    int precision = h->precision < 0 ? 1 : (int)h->precision;
    static const struct { char type; const char *fmt, *prefix; } forms[] = {
        { 'x', "%.*" PRIx64, "0x" }, { 'X', "%.*" PRIX64, "0X" }, { 'o', "%.*" PRIo64, "0o" },
    };
    const char *prefix = "", *fmt = "%.*" PRIu64;
    for (int k = 0; k < 3; k++)
        if (h->type == forms[k].type) {
            fmt = forms[k].fmt;
            prefix = h->alternate ? forms[k].prefix : "";
        }
    int n = snprintf(digits, sizeof digits, fmt, precision ? precision : 1, u);
    snprintf(lead, sizeof lead, "%s%s", sign_of(h, i < 0), prefix);
    put_padded(b, h, lead, digits, (size_t)n, (size_t)n, true);
}

static void put_float(percent *x, jsb *b, const hole *h)
{
    char text[800], fmt[16];
    double f;
    if (h->value.type == J_UNDEF) loami_j_fail_undef(x->r, h->value.u);
    if (!loami_j_number(h->value, &f))
        loami_j_fail(x->r, "must be real number, not %s", loami_j_typename(h->value));
    bool upper = h->type < 'a';
    int n;
    if (isfinite(f)) {
        snprintf(fmt, sizeof fmt, "%%%s.%d%c", h->alternate ? "#" : "",
                 h->precision < 0 ? 6 : (int)h->precision, h->type);
        n = snprintf(text, sizeof text, fmt, fabs(f));
    } else {
        n = snprintf(text, sizeof text, "%s", isnan(f) ? (upper ? "NAN" : "nan") : upper ? "INF" : "inf");
    }
    put_padded(b, h, sign_of(h, signbit(f) && !isnan(f)), text, (size_t)n, (size_t)n, true);
}

static void put_char(percent *x, jsb *b, const hole *h)
{
    int64_t i;
    jsb one = { .r = x->r };
    if (loami_j_whole(h->value, &i)) {
        if (i < 0 || i > 0x10ffff || (i >= 0xd800 && i < 0xe000))
            loami_j_fail(x->r, "%%c arg not in range(0x110000)");
        loami_j_putcp(&one, (uint32_t)i);
    } else {
        if (h->value.type != J_STR || loami_j_chars(h->value.s) != 1)
            loami_j_fail(x->r, "%%c requires int or char");
        loami_j_show(&one, h->value);
    }
    put_padded(b, h, "", one.p, one.n, 1, false);
}

jval loami_j_percent(jrun *r, const jstr *fmt, jval args)
{
    static const struct { const char *types; void (*put)(percent *x, jsb *b, const hole *h); } kinds[] = {
        { "sra", put_text }, { "diuxXo", put_int }, { "eEfFgG", put_float }, { "c", put_char },
    };
    percent x = { .r = r, .fmt = fmt, .args = args, .v = &args, .n = 1, .markup = fmt->markup };
    jsb b = { .r = r };
    hole h;
    if (args.type == J_TUPLE) {
        x.v = args.l->v;
        x.n = args.l->n;
    }
    while (x.at < fmt->n) {
        const char *hit = memchr(fmt->p + x.at, '%', fmt->n - x.at);
        size_t end = hit ? (size_t)(hit - fmt->p) : fmt->n;
        loami_j_put(&b, fmt->p + x.at, end - x.at);
        x.at = end + 1;
        if (!hit) break;
        if (x.at < fmt->n && fmt->p[x.at] == '%') {
            loami_j_putc(&b, '%');
            x.at++;
            continue;
        }
        parse_hole(&x, &h);
        size_t k = 0;
        while (k < 4 && !strchr(kinds[k].types, h.type)) k++;
        if (k == 4 || !h.type)
            loami_j_fail(r, "unsupported format character '%c' (0x%x) at index %zu", h.type, h.type,
                         x.at - 1);
        kinds[k].put(&x, &b, &h);
    }
    bool mapping = args.type == J_DICT || args.type == J_LIST || args.type == J_RANGE || args.type == J_UNDEF;
    if (x.used < x.n && !mapping) loami_j_fail(r, "not all arguments converted during string formatting");
    jval out = loami_j_sbval(&b);
    ((jstr *)out.s)->markup = fmt->markup;
    return out;
}

/* ---- .format ---- */

typedef struct holes {
    jrun *r;
    const jargs *args;
    int64_t automatic;             /* next number of {}; -1: numbers are written out */
    bool numbered, markup;
} holes;

static jval argument(holes *x, const jstr *name)
{
    int64_t i;
    bool digits = name->n > 0;
    for (size_t k = 0; k < name->n; k++) digits &= name->p[k] >= '0' && name->p[k] <= '9';
    if (name->n == 0) {
        if (x->numbered)
            loami_j_fail(x->r, "cannot switch from manual field specification to automatic field numbering");
        i = x->automatic++;
    } else if (digits) {
        if (x->automatic)
            loami_j_fail(x->r, "cannot switch from automatic field numbering to manual field specification");
        x->numbered = true;
        if (!loami_j_parse_int(name, 10, &i)) loami_j_fail(x->r, "Too many decimal digits in format string");
    } else {
        for (size_t k = 0; k < x->args->n_named; k++)
            if (x->args->names[k]->n == name->n && memcmp(x->args->names[k]->p, name->p, name->n) == 0)
                return x->args->named[k];
        loami_j_fail(x->r, "KeyError: '%.*s'", name->n > 100 ? 100 : (int)name->n, name->p);
    }
    if (i >= (int64_t)x->args->n)
        loami_j_fail(x->r, "Replacement index %d out of range for positional args tuple", (int)i);
    return x->args->v[i];
}

/* "name.attr[key]..." */
static jval field(holes *x, const jstr *s)
{
    size_t at = 0;
    while (at < s->n && s->p[at] != '.' && s->p[at] != '[') at++;
    jval v = argument(x, loami_j_part(x->r, s, 0, at).s);
    while (at < s->n) {
        size_t from = at + 1, end = from;
        bool bracket = s->p[at] == '[';
        if (!bracket && s->p[at] != '.')
            loami_j_fail(x->r, "Only '.' or '[' may follow ']' in format field specifier");
        while (end < s->n && (bracket ? s->p[end] != ']' : s->p[end] != '.' && s->p[end] != '[')) end++;
        if (bracket && end == s->n) loami_j_fail(x->r, "Missing ']' in format string");
        if (end == from) loami_j_fail(x->r, "Empty attribute in format string");
        jval part = loami_j_part(x->r, s, from, end - from), number = { .type = J_INT };
        bool digits = true;
        for (size_t k = from; k < end; k++) digits &= s->p[k] >= '0' && s->p[k] <= '9';
        if (!bracket) v = loami_j_getattr(x->r, v, part.s);
        else v = loami_j_getitem(x->r, v, digits && loami_j_parse_int(part.s, 10, &number.i) ? number : part);
        at = end + bracket;
    }
    return v;
}

static void expand(holes *x, jsb *b, const jstr *fmt, unsigned nested);

/* "name!r:spec" */
static void put_field(holes *x, jsb *b, const jstr *s, unsigned nested)
{
    size_t name = 0, depth = 0;
    for (; name < s->n; name++) {
        char c = s->p[name];
        depth += (c == '[') - (c == ']' && depth);
        if (!depth && (c == '!' || c == ':')) break;
    }
    jval v = field(x, loami_j_part(x->r, s, 0, name).s);
    if (name < s->n && s->p[name] == '!') {
        char c = name + 1 < s->n ? s->p[name + 1] : 0;
        jsb shown = { .r = x->r };
        if (c == 's') loami_j_show(&shown, v);
        else if (c == 'r') loami_j_repr(&shown, v);
        else loami_j_fail(x->r, "Unknown conversion specifier");
        v = loami_j_sbval(&shown);
        name += 2;
        if (name < s->n && s->p[name] != ':') loami_j_fail(x->r, "expected ':' after conversion specifier");
    }
    jsb spec = { .r = x->r };
    if (name < s->n) expand(x, &spec, loami_j_part(x->r, s, name + 1, s->n - name - 1).s, nested + 1);
    if (!x->markup) {
        loami_j_format_value(b, v, loami_j_sbval(&spec).s);
        return;
    }
    jsb text = { .r = x->r };
    loami_j_format_value(&text, v, loami_j_sbval(&spec).s);
    jval shown = loami_j_sbval(&text);
    ((jstr *)shown.s)->markup = v.type == J_STR && v.s->markup;
    loami_j_show(b, loami_j_escape(x->r, shown));
}

static void expand(holes *x, jsb *b, const jstr *fmt, unsigned nested)
{
    if (nested >= MAX_NESTED) loami_j_fail(x->r, "Max string recursion exceeded");
    for (size_t at = 0; at < fmt->n;) {
        char c = fmt->p[at];
        bool twice = at + 1 < fmt->n && fmt->p[at + 1] == c;
        if (c != '{' && c != '}') {
            size_t end = at;
            while (end < fmt->n && fmt->p[end] != '{' && fmt->p[end] != '}') end++;
            loami_j_put(b, fmt->p + at, end - at);
            at = end;
            continue;
        }
        if (twice) {
            loami_j_putc(b, c);
            at += 2;
            continue;
        }
        if (c == '}') loami_j_fail(x->r, "Single '}' encountered in format string");
        size_t end = at + 1, depth = 1;
        for (; end < fmt->n && depth; end++) depth += (fmt->p[end] == '{') - (fmt->p[end] == '}');
        if (depth)
            loami_j_fail(x->r,
                         at + 1 == fmt->n ? "Single '{' encountered in format string" : "expected '}' before end of string");
        put_field(x, b, loami_j_part(x->r, fmt, at + 1, end - at - 2).s, nested);
        at = end;
    }
}

jval loami_j_format(jrun *r, const jstr *fmt, const jargs *args)
{
    holes x = { .r = r, .args = args, .markup = fmt->markup };
    jsb b = { .r = r };
    expand(&x, &b, fmt, 0);
    jval out = loami_j_sbval(&b);
    ((jstr *)out.s)->markup = fmt->markup;
    return out;
}
