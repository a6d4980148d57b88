/* Regular expressions as Python, JavaScript and Rust agree on them, without what no automaton does:
 * references back, looking around, word borders. The whole text has to match, so ^ and $ say nothing at its
 * ends and are refused elsewhere. */
#include "grammar/syntax.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_TIMES = 65535, MOST_RANGES = 512, ANCHOR_BEGIN = 1, ANCHOR_END = 2 };

typedef struct reader {
    loami_syntax *d;
    const char *s;
    size_t at, n;
    bool quoted;
    const char *where;
    int depth;
    loam_err *err;
    int rc;
} reader;

typedef struct ranges {
    loami_range r[MOST_RANGES];
    uint32_t n;
} ranges;

static loami_expr *wrong(reader *r, int code, size_t at, const char *what)
{
    if (r->rc == 0)
        r->rc = loami_fail(r->err, code, "%s%sthe regular expression, at character %zu: %s", r->where,
                           r->where[0] ? ": " : "", at + 1, what);
    return NULL;
}

static loami_expr *unsupported(reader *r, size_t at, const char *what)
{
    return wrong(r, LOAM_E_UNSUPPORTED, at, what);
}

static bool more(const reader *r)
{
    return r->at < r->n && r->rc == 0;
}

static char peek(const reader *r, size_t ahead)
{
    return r->at + ahead < r->n ? r->s[r->at + ahead] : 0;
}

static uint32_t take_char(reader *r)
{
    uint32_t c;
    size_t n = loami_utf8_next(r->s + r->at, r->n - r->at, &c);
    if (n == 0) {
        wrong(r, LOAM_E_ARG, r->at, "invalid UTF-8");
        n = 1;
    }
    r->at += n;
    return c;
}

/* ---- classes ---- */

static void put(reader *r, ranges *to, uint32_t lo, uint32_t hi)
{
    if (to->n == MOST_RANGES)
        unsupported(r, r->at, "a class of more than 512 ranges");
    else
        to->r[to->n++] = (loami_range){ lo, hi };
}

static void put_all(reader *r, ranges *to, const loami_range *from, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) put(r, to, from[i].lo, from[i].hi);
}

/* \d, \w and \s are ASCII's. Languages differ about what else they match, so their opposites leave out what
 * some take for a digit, letter or space: what is generated matches everywhere. */
static bool put_shorthand(reader *r, ranges *to, uint32_t c)
{
    static const loami_range digit[] = { { '0', '9' } },
                             word[] = { { '0', '9' }, { 'A', 'Z' }, { '_', '_' }, { 'a', 'z' } },
                             space[] = { { 9, 13 }, { ' ', ' ' } },
                             no_digit[] = { { 0, '/' },
                                            { ':', 0x65f },
                                            { 0x3041, 0x30ff },
                                            { 0x4e00, 0x9fff },
                                            { 0xac00, 0xd7a3 } },
                             no_word[] = { { 0, '/' },
                                           { ':', '@' },
                                           { '[', '^' },
                                           { '`', '`' },
                                           { '{', 0x7f } },
                             no_space[] = { { 0, 8 },           { 0x0e, 0x1b },      { 0x21, 0x7f },
                                            { 0xa1, 0x167f },   { 0x1681, 0x1fff },  { 0x2010, 0x2027 },
                                            { 0x2030, 0x205e }, { 0x2070, 0x2fff },  { 0x3001, 0xd7ff },
                                            { 0xf900, 0xfdff }, { 0x10000, 0x1ffff } };
    switch (c) {
    case 'd': put_all(r, to, digit, 1); return true;
    case 'w': put_all(r, to, word, 4); return true;
    case 's': put_all(r, to, space, 2); return true;
    case 'D': put_all(r, to, no_digit, 5); return true;
    case 'W': put_all(r, to, no_word, 5); return true;
    case 'S': put_all(r, to, no_space, 11); return true;
    default: return false;
    }
}

static uint32_t hex(reader *r, int digits)
{
    uint32_t c = 0;
    for (int i = 0; i < digits; i++) {
        char x = peek(r, 0);
        int v = x >= '0' && x <= '9'                 ? x - '0'
                : (x | 32) >= 'a' && (x | 32) <= 'f' ? (x | 32) - 'a' + 10
                                                     : -1;
        if (v < 0) {
            wrong(r, LOAM_E_ARG, r->at, "a hexadecimal digit is missing");
            return 0;
        }
        c = c << 4 | (uint32_t)v;
        r->at++;
    }
    return c;
}

/* \u{1F600} */
static uint32_t braced_hex(reader *r)
{
    uint32_t c = 0;
    for (r->at++; peek(r, 0) != '}' && r->rc == 0 && c <= 0x10ffff;) c = c << 4 | hex(r, 1);
    if (peek(r, 0) == '}') r->at++;
    return c;
}

/* The character that \x stands for, x = c taken already. */
static uint32_t escaped(reader *r, uint32_t c)
{
    static const char names[] = "nrtfvae0", values[] = "\n\r\t\f\v\a\x1b";
    size_t at = r->at - 2;
    const char *found = c < 128 ? strchr(names, (int)c) : NULL;
    uint32_t value = c;
    if (c == 'x')
        value = hex(r, 2);
    else if (c == 'u')
        value = peek(r, 0) == '{' ? braced_hex(r) : hex(r, 4);
    else if (c == 'U')
        value = hex(r, 8);
    else if (found && c)
        value = (unsigned char)values[found - names];
    else if ((c >= '1' && c <= '9') || c == 'k')
        unsupported(r, at, "a reference back (\\1, \\k) is not supported");
    else if (c == 'p' || c == 'P')
        unsupported(r, at, "\\p{...} is not supported: write the characters as a class");
    else if (c == 'b' || c == 'B' || c == 'G')
        unsupported(r, at, "a border (\\b, \\B, \\G) is not supported");
    else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        unsupported(r, at, "this escape is not known");
    if (value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        wrong(r, LOAM_E_ARG, at, "this is no character");
    return value;
}

/* One end of a range. False: it was a shorthand, whose ranges are in to. */
static bool class_char(reader *r, ranges *to, uint32_t *c)
{
    *c = take_char(r);
    if (*c != '\\') return true;
    if (!more(r)) {
        wrong(r, LOAM_E_ARG, r->at, "a backslash at the end");
        return true;
    }
    *c = take_char(r);
    if (put_shorthand(r, to, *c)) return false;
    *c = *c == 'b' ? '\b' : escaped(r, *c);
    return true;
}

static loami_expr *chars(reader *r, ranges *set, bool inverted)
{
    ranges other;
    set->n = loami_chars_normal(set->r, set->n);
    if (!inverted) return loami_x_chars(r->d, set->r, set->n, r->quoted);
    if (set->n >= MOST_RANGES) return unsupported(r, r->at, "a class of more than 511 ranges");
    other.n = loami_chars_invert(set->r, set->n, other.r);
    return loami_x_chars(r->d, other.r, other.n, r->quoted);
}

static loami_expr *class(reader *r)
{
    ranges set;
    size_t begin = r->at++;
    bool inverted = peek(r, 0) == '^', first = true;
    set.n = 0;
    r->at += inverted;
    while (more(r) && (peek(r, 0) != ']' || first)) {
        uint32_t lo, hi;
        first = false;
        if (peek(r, 0) == '[' && peek(r, 1) == ':')
            return unsupported(r, r->at, "[:name:] is not supported: write the characters");
        if (!class_char(r, &set, &lo)) continue;
        hi = lo;
        if (peek(r, 0) == '-' && r->at + 1 < r->n && peek(r, 1) != ']') {
            r->at++;
            if (!class_char(r, &set, &hi)) return wrong(r, LOAM_E_ARG, r->at, "a range ends in a class");
        }
        if (hi < lo) return wrong(r, LOAM_E_ARG, r->at, "a range runs backwards");
        put(r, &set, lo, hi);
    }
    if (r->rc < 0) return NULL;
    if (!more(r)) return wrong(r, LOAM_E_ARG, begin, "'[' is not closed");
    r->at++;
    return chars(r, &set, inverted);
}

static loami_expr *any_char(reader *r)
{
    static const loami_range lines[] = { { '\n', '\n' }, { '\r', '\r' }, { 0x2028, 0x2029 } };
    ranges set;
    r->at++;
    memcpy(set.r, lines, sizeof lines);
    set.n = 3;
    return chars(r, &set, true);
}

/* ---- groups and repetition ---- */

static loami_expr *alternatives(reader *r);

static loami_expr *anchor(reader *r, uint32_t which)
{
    loami_expr *x = loami_x_empty(r->d);
    if (x) x->lo = which;
    return x;
}

static loami_expr *group(reader *r)
{
    size_t begin = r->at++;
    if (peek(r, 0) == '?') {
        char a = peek(r, 1), b = peek(r, 2);
        bool named = (a == '<' && b != '=' && b != '!') || (a == 'P' && b == '<');
        if (named) {
            while (more(r) && peek(r, 0) != '>') r->at++;
            r->at++;
        } else if (a == ':') {
            r->at += 2;
        } else {
            return unsupported(r, begin,
                               "(?...) is not supported but for (?:...) and names: looking around and flags "
                               "can't be honoured");
        }
    }
    if (++r->depth > LOAMI_SYNTAX_DEPTH) return unsupported(r, begin, "groups are nested more than 128 deep");
    loami_expr *x = alternatives(r);
    r->depth--;
    if (r->rc < 0) return NULL;
    if (peek(r, 0) != ')') return wrong(r, LOAM_E_ARG, begin, "'(' is not closed");
    r->at++;
    return x;
}

static loami_expr *atom(reader *r)
{
    size_t begin = r->at;
    uint32_t c;
    switch (peek(r, 0)) {
    case '(': return group(r);
    case '[': return class(r);
    case '.': return any_char(r);
    case '^': r->at++; return anchor(r, ANCHOR_BEGIN);
    case '$': r->at++; return anchor(r, ANCHOR_END);
    case '*':
    case '+':
    case '?': return wrong(r, LOAM_E_ARG, begin, "nothing to repeat");
    default: break;
    }
    c = take_char(r);
    if (c == '\\') {
        ranges set;
        set.n = 0;
        if (!more(r)) return wrong(r, LOAM_E_ARG, begin, "a backslash at the end");
        c = take_char(r);
        if (c == 'A') return anchor(r, ANCHOR_BEGIN);
        if (c == 'z' || c == 'Z') return anchor(r, ANCHOR_END);
        if (put_shorthand(r, &set, c)) return chars(r, &set, false);
        c = escaped(r, c);
    }
    if (r->rc < 0) return NULL;
    return loami_x_chars(r->d, &(loami_range){ c, c }, 1, r->quoted);
}

static bool number(reader *r, uint32_t *out)
{
    size_t from = r->at;
    uint64_t v = 0;
    for (; peek(r, 0) >= '0' && peek(r, 0) <= '9' && v <= MOST_TIMES; r->at++)
        v = v * 10 + (uint64_t)(peek(r, 0) - '0');
    *out = (uint32_t)v;
    return r->at > from;
}

/* {m}, {m,}, {m,n}. False: it is none of these, and the brace a character like others. */
static bool braces(reader *r, uint32_t *lo, uint32_t *hi)
{
    size_t from = r->at++;
    bool has_lo = number(r, lo);
    *hi = *lo;
    if (peek(r, 0) == ',') {
        r->at++;
        if (!number(r, hi)) *hi = LOAMI_NO_LIMIT;
        if (!has_lo) *lo = 0;
        has_lo |= *hi != LOAMI_NO_LIMIT;
    }
    if (has_lo && peek(r, 0) == '}') {
        r->at++;
        return true;
    }
    r->at = from;
    return false;
}

static loami_expr *repeated(reader *r)
{
    loami_expr *x = atom(r);
    while (more(r) && x) {
        uint32_t lo = 0, hi = LOAMI_NO_LIMIT;
        size_t begin = r->at;
        char c = peek(r, 0);
        if (c == '{') {
            if (!braces(r, &lo, &hi)) break;
        } else if (c == '*' || c == '+' || c == '?') {
            r->at++;
            lo = c == '+';
            hi = c == '?' ? 1 : LOAMI_NO_LIMIT;
        } else {
            break;
        }
        if (hi < lo) return wrong(r, LOAM_E_ARG, begin, "the limits of a repetition run backwards");
        if ((hi != LOAMI_NO_LIMIT && hi > MOST_TIMES) || lo > MOST_TIMES)
            return unsupported(r, begin, "more than 65535 repetitions");
        if (peek(r, 0) == '+') return unsupported(r, r->at, "a possessive repetition is not supported");
        if (peek(r, 0) == '?') r->at++; /* lazy or not, it is the same language */
        x = loami_x_repeat(r->d, x, NULL, lo, hi);
    }
    return x;
}

static loami_expr *sequence(reader *r)
{
    loami_exprs items = { 0 };
    while (more(r) && peek(r, 0) != '|' && peek(r, 0) != ')') loami_exprs_put(r->d, &items, repeated(r));
    return r->rc < 0 ? NULL : loami_x_seq(r->d, items.items, items.n);
}

static loami_expr *alternatives(reader *r)
{
    loami_exprs items = { 0 };
    loami_exprs_put(r->d, &items, sequence(r));
    while (more(r) && peek(r, 0) == '|') {
        r->at++;
        loami_exprs_put(r->d, &items, sequence(r));
    }
    return r->rc < 0 ? NULL : loami_x_alt(r->d, items.items, items.n);
}

/* ---- anchors ---- */

static bool is_nothing(const loami_expr *x)
{
    return x->kind == LOAMI_X_EMPTY;
}

static void check_anchors(reader *r, const loami_expr *x, bool first, bool last)
{
    if (r->rc < 0) return;
    switch (x->kind) {
    case LOAMI_X_EMPTY:
        if ((x->lo == ANCHOR_BEGIN && !first) || (x->lo == ANCHOR_END && !last))
            unsupported(r, 0, "'^' is understood at its beginning and '$' at its end, and nowhere else");
        break;
    case LOAMI_X_SEQ: {
        uint32_t from = 0, to = x->n;
        while (from < x->n && is_nothing(x->u.items[from])) from++;
        while (to > 0 && is_nothing(x->u.items[to - 1])) to--;
        for (uint32_t i = 0; i < x->n; i++)
            check_anchors(r, x->u.items[i], first && i <= from, last && i + 1 >= to);
        break;
    }
    case LOAMI_X_ALT:
        for (uint32_t i = 0; i < x->n; i++) check_anchors(r, x->u.items[i], first, last);
        break;
    case LOAMI_X_REPEAT: check_anchors(r, x->u.items[0], first && x->hi == 1, last && x->hi == 1); break;
    default: break;
    }
}

int loami_regex_read(loami_syntax *d, loami_expr **out, const char *s, size_t n, bool quoted,
                     const char *where, loam_err *err)
{
    reader r = { .d = d, .s = s, .n = n, .quoted = quoted, .where = where, .err = err };
    loami_expr *x = alternatives(&r);
    if (r.rc == 0 && r.at < r.n) wrong(&r, LOAM_E_ARG, r.at, "')' without '('");
    if (r.rc == 0 && x) check_anchors(&r, x, true, true);
    if (r.rc == 0 && !x) d->failed = true;
    *out = x;
    return r.rc;
}
