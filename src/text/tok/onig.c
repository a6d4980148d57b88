#include "base/hex.h"
#include "base/utf8.h"
#include "text/tok/regex.h"
#include "text/tok/unicode.h"

#include <stdio.h>
#include <string.h>

enum { MAX_DEPTH = 100 }; /* of groups and of classes in classes; PCRE2's own limit is 250 */

typedef struct group {
    size_t start;           /* where its text began in out */
    unsigned closers;       /* ')' that options in mid-branch still owe */
} group;

typedef struct parser {
    const char *p, *end;
    loami_buf *out;
    const char *what, *source;
    size_t source_len;
    loam_err *err;
    size_t atom;            /* where the last item began in out */
    bool has_atom;
    group groups[MAX_DEPTH];
    unsigned depth;
} parser;

/* One operand of && in a class: what goes between brackets, and alternatives that cannot. */
typedef struct term {
    loami_buf items, alts;
} term;

static int refuse(const parser *s, const char *construct)
{
    return loami_fail(s->err, LOAM_E_UNSUPPORTED, "%s: regular expression \"%.*s\": %s is not supported",
                      s->what, (int)(s->source_len < 200 ? s->source_len : 200), s->source, construct);
}

static bool eat(parser *s, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0) return false;
    s->p += n;
    return true;
}

/* ---- sets of characters, as the inside of a PCRE2 class ---- */

static void put_new(loami_buf *b, const char *category, size_t n)
{
    for (size_t i = 0; i < loami_uni_new_count; i++) {
        const loami_uni_run *r = &loami_uni_new[i];
        if (memcmp(r->category, category, n) == 0) loami_buf_printf(b, "\\x{%x}-\\x{%x}", r->lo, r->hi);
    }
}

static void put_category(loami_buf *b, const char *category)
{
    loami_buf_printf(b, "\\p{%s}", category);
    put_new(b, category, strlen(category));
}

static void put_space(loami_buf *b)
{
    loami_buf_puts(b, "\\t-\\r\\x{85}\\p{Z}");
}

/* in_class: between brackets. Outside, Oniguruma takes Latin-1's superscripts and fractions for letters. */
static void put_word(loami_buf *b, bool in_class)
{
    loami_buf_puts(b, in_class ? "\\p{Alphabetic}" : "\\p{Alphabetic}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}");
    put_category(b, "M");
    put_category(b, "Nd");
    put_category(b, "Pc");
    put_new(b, "L", 1);
}

/* Names of sets that are not scripts: Oniguruma's (lower case, without _ - and spaces), and general
 * categories. */
static const struct {
    const char *name, *category;
} categories[] = {
    { "letter", "L" }, { "uppercaseletter", "Lu" }, { "lowercaseletter", "Ll" },
    { "titlecaseletter", "Lt" }, { "modifierletter", "Lm" }, { "otherletter", "Lo" }, { "mark", "M" },
    { "nonspacingmark", "Mn" }, { "spacingmark", "Mc" }, { "enclosingmark", "Me" }, { "number", "N" },
    { "decimalnumber", "Nd" }, { "digit", "Nd" }, { "letternumber", "Nl" }, { "othernumber", "No" },
    { "punctuation", "P" }, { "punct", "P" }, { "connectorpunctuation", "Pc" }, { "dashpunctuation", "Pd" },
    { "openpunctuation", "Ps" }, { "closepunctuation", "Pe" }, { "initialpunctuation", "Pi" },
    { "finalpunctuation", "Pf" }, { "otherpunctuation", "Po" }, { "symbol", "S" }, { "mathsymbol", "Sm" },
    { "currencysymbol", "Sc" }, { "modifiersymbol", "Sk" }, { "othersymbol", "So" }, { "separator", "Z" },
    { "spaceseparator", "Zs" }, { "lineseparator", "Zl" }, { "paragraphseparator", "Zp" },
    { "control", "Cc" }, { "cntrl", "Cc" }, { "format", "Cf" }, { "l", "L" }, { "lu", "Lu" },
    { "ll", "Ll" }, { "lt", "Lt" }, { "lm", "Lm" }, { "lo", "Lo" }, { "m", "M" }, { "mn", "Mn" },
    { "mc", "Mc" }, { "me", "Me" }, { "n", "N" }, { "nd", "Nd" }, { "nl", "Nl" }, { "no", "No" },
    { "p", "P" }, { "pc", "Pc" }, { "pd", "Pd" }, { "ps", "Ps" }, { "pe", "Pe" }, { "pi", "Pi" },
    { "pf", "Pf" }, { "po", "Po" }, { "s", "S" }, { "sm", "Sm" }, { "sc", "Sc" }, { "sk", "Sk" },
    { "so", "So" }, { "z", "Z" }, { "zs", "Zs" }, { "zl", "Zl" }, { "zp", "Zp" }, { "c", "C" },
    { "cc", "Cc" }, { "cf", "Cf" }, { "cn", "Cn" }, { "co", "Co" },
};

/* \p{name} as class items; false for a name that cannot be. */
static bool put_property(loami_buf *b, const char *name, size_t n, bool in_class)
{
    char low[64];
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        if (c == '_' || c == '-' || c == ' ') continue;
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) ||
            k == sizeof low - 1)
            return false;
        low[k++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
    }
    low[k] = 0;
    for (size_t i = 0; i < sizeof categories / sizeof *categories; i++)
        if (strcmp(low, categories[i].name) == 0) return put_category(b, categories[i].category), true;
    if (strcmp(low, "word") == 0) return put_word(b, in_class), true;
    if (strcmp(low, "space") == 0 || strcmp(low, "whitespace") == 0) return put_space(b), true;
    if (strcmp(low, "any") == 0) return loami_buf_puts(b, "\\x{0}-\\x{10ffff}"), true;
    if (strcmp(low, "alpha") == 0 || strcmp(low, "alphabetic") == 0) {
        loami_buf_puts(b, "\\p{Alphabetic}");
        return put_new(b, "L", 1), true;
    }
    if (strcmp(low, "alnum") == 0) {
        loami_buf_puts(b, "\\p{Alphabetic}");
        put_category(b, "Nd");
        return put_new(b, "L", 1), true;
    }
    if (strcmp(low, "upper") == 0 || strcmp(low, "lower") == 0) {
        loami_buf_printf(b, "\\p{%scase}", low);
        return put_new(b, *low == 'u' ? "Lu" : "Ll", 2), true;
    }
    if (strcmp(low, "ascii") == 0) return loami_buf_puts(b, "\\x{0}-\\x{7f}"), true;
    if (strcmp(low, "blank") == 0) return loami_buf_puts(b, "\\t\\p{Zs}"), true;
    if (strcmp(low, "xdigit") == 0) return loami_buf_puts(b, "0-9a-fA-F"), true;
    loami_buf_printf(b, "\\p{sc:%s}", low); /* not \p{Han}: that would be the script extensions */
    if (strcmp(low, "han") == 0) loami_buf_puts(b, "\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}");
    return true;
}

/* After "\p" or "\P": the braces. *neg is toggled by \P and by ^. */
static int property(parser *s, loami_buf *b, bool *neg, bool in_class)
{
    const char *close = s->p < s->end && *s->p == '{' ? memchr(s->p, '}', (size_t)(s->end - s->p)) : NULL;
    if (!close) return refuse(s, "\\p without {...}");
    s->p++;
    if (*s->p == '^') {
        *neg = !*neg;
        s->p++;
    }
    if (s->p >= close || !put_property(b, s->p, (size_t)(close - s->p), in_class))
        return refuse(s, "this \\p{...}");
    s->p = close + 1;
    return 0;
}

/* The letter after a backslash, if it stands for a set: 1 with the set's items in b. 0: it does not. */
static int set_escape(parser *s, char c, loami_buf *b, bool *neg, bool in_class)
{
    *neg = c >= 'A' && c <= 'Z';
    switch (c) {
    case 's': case 'S': put_space(b); return 1;
    case 'w': case 'W': put_word(b, in_class); return 1;
    case 'd': case 'D': put_category(b, "Nd"); return 1;
    case 'h': case 'H': loami_buf_puts(b, "0-9a-fA-F"); return 1;
    case 'p': case 'P': {
        int rc = property(s, b, neg, in_class);
        return rc < 0 ? rc : 1;
    }
    }
    return 0;
}

/* ---- single characters ---- */

static int hex(parser *s, size_t least, size_t most, uint32_t *cp)
{
    size_t k = 0;
    *cp = 0;
    for (; k < most && s->p < s->end; k++, s->p++) {
        int v = loami_hex_digit(*s->p);
        if (v < 0) break;
        *cp = *cp << 4 | (uint32_t)v;
    }
    bool scalar = *cp <= 0x10ffff && !(*cp >= 0xd800 && *cp < 0xe000);
    return k >= least && scalar ? 0 : refuse(s, "this hexadecimal escape");
}

/* A character after a backslash (p is behind its letter c): 0 with *cp, or an error. */
static int char_escape(parser *s, uint32_t c, uint32_t *cp)
{
    static const char from[] = "ntrfvae", to[] = "\n\t\r\f\v\a\x1b";
    const char *at = c && c < 128 ? strchr(from, (int)c) : NULL;
    *cp = at ? (uint32_t)to[at - from] : c;
    if (at) return 0;
    if (c == 'x' && s->p < s->end && *s->p == '{') {
        s->p++;
        int rc = hex(s, 1, 8, cp);
        return rc < 0 ? rc : eat(s, "}") ? 0 : refuse(s, "a list in \\x{...}");
    }
    if (c == 'x') {
        int rc = hex(s, 0, 2, cp);
        return rc < 0 ? rc : *cp > 0x7f ? refuse(s, "a raw byte \\xHH") : 0;
    }
    if (c == 'u') return hex(s, 4, 4, cp);
    if (c == 'c' || c == 'C' || c == 'M') return refuse(s, "a control escape");
    if (c == '0') {
        *cp = 0;
        for (int k = 0; k < 2 && s->p < s->end && *s->p >= '0' && *s->p <= '7'; k++)
            *cp = *cp * 8 + (uint32_t)(*s->p++ - '0');
    }
    return 0;
}

static int next_char(parser *s, uint32_t *cp)
{
    size_t len = loami_utf8_next(s->p, (size_t)(s->end - s->p), cp);
    if (!len) return refuse(s, "ill-formed UTF-8");
    s->p += len;
    return 0;
}

static void put_char(loami_buf *b, uint32_t cp)
{
    bool plain = (cp >= '0' && cp <= '9') || (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z');
    if (plain) loami_buf_putc(b, (char)cp);
    else loami_buf_printf(b, "\\x{%x}", cp);
}

/* ---- classes ---- */

static int class(parser *s, loami_buf *out, unsigned depth);

static void put_alt(term *t, const char *before, const loami_buf *set, const char *after)
{
    if (t->alts.len) loami_buf_putc(&t->alts, '|');
    loami_buf_puts(&t->alts, before);
    loami_buf_put(&t->alts, set->data, set->len);
    loami_buf_puts(&t->alts, after);
}

static int posix_set(parser *s, term *t)
{
    loami_buf set = { 0 };
    bool neg = eat(s, "^");
    const char *close = s->p;
    while (close + 1 < s->end && !(close[0] == ':' && close[1] == ']')) close++;
    int rc = 0;
    if (close + 1 >= s->end) rc = refuse(s, "[: without :]");
    else if (!put_property(&set, s->p, (size_t)(close - s->p), true)) rc = refuse(s, "this [:...:]");
    else if (close - s->p == 5 && memcmp(s->p, "punct", 5) == 0)
        put_category(&set, "S"); /* \p{Punct} has no symbols */
    if (rc < 0) goto out;
    if (neg) put_alt(t, "[^", &set, "]");
    else loami_buf_put(&t->items, set.data, set.len);
    s->p = close + 2;
out:
    s->out->failed |= set.failed;
    loami_buf_free(&set);
    return rc;
}

/* One item of a class that is not a bracket: a set, a character or a range. */
static int class_item(parser *s, term *t)
{
    uint32_t lo, hi;
    int rc = next_char(s, &lo);
    if (rc < 0) return rc;
    if (lo == '\\') {
        if (s->p == s->end) return refuse(s, "a backslash at the end");
        rc = next_char(s, &lo);
        if (rc < 0) return rc;
        loami_buf set = { 0 };
        bool neg = false;
        rc = lo < 128 ? set_escape(s, (char)lo, &set, &neg, true) : 0;
        if (rc == 1 && neg) put_alt(t, "[^", &set, "]");
        else if (rc == 1) loami_buf_put(&t->items, set.data, set.len);
        s->out->failed |= set.failed;
        loami_buf_free(&set);
        if (rc != 0) return rc < 0 ? rc : 0;
        if (lo == 'b') lo = 8;
        else if ((rc = char_escape(s, lo, &lo)) < 0) return rc;
    }
    put_char(&t->items, lo);
    if (s->end - s->p < 2 || s->p[0] != '-' || s->p[1] == ']' || s->p[1] == '[') return 0;
    if (s->p[1] == '\\' && s->end - s->p > 2 && strchr("swdhpSWDHP", s->p[2])) return 0;
    s->p++;
    rc = next_char(s, &hi);
    if (rc == 0 && hi == '\\') {
        rc = s->p == s->end ? refuse(s, "a backslash at the end") : next_char(s, &hi);
        if (rc == 0 && hi == 'b') hi = 8;
        else if (rc == 0) rc = char_escape(s, hi, &hi);
    }
    if (rc < 0) return rc;
    if (hi < lo) return refuse(s, "a range that runs backwards");
    loami_buf_putc(&t->items, '-');
    put_char(&t->items, hi);
    return 0;
}

/* Items up to ]] or &&; *more when it was &&. */
static int class_term(parser *s, term *t, bool first, bool *more, unsigned depth)
{
    for (bool start = first;; start = false) {
        if (s->p == s->end) return refuse(s, "[ without ]");
        if (*s->p == ']' && !start) {
            s->p++;
            *more = false;
            return 0;
        }
        if (eat(s, "&&")) {
            *more = true;
            return 0;
        }
        int rc;
        if (eat(s, "[:")) {
            rc = posix_set(s, t);
        } else if (eat(s, "[")) {
            if (t->alts.len) loami_buf_putc(&t->alts, '|');
            rc = class(s, &t->alts, depth + 1);
        } else {
            rc = class_item(s, t);
        }
        if (rc < 0) return rc;
    }
}

static void put_term(loami_buf *b, const term *t)
{
    loami_buf_puts(b, "(?:");
    if (t->items.len) {
        loami_buf_putc(b, '[');
        loami_buf_put(b, t->items.data, t->items.len);
        loami_buf_putc(b, ']');
    }
    if (t->items.len && t->alts.len) loami_buf_putc(b, '|');
    loami_buf_put(b, t->alts.data, t->alts.len);
    loami_buf_putc(b, ')');
}

/* After "[". */
static int class(parser *s, loami_buf *out, unsigned depth)
{
    loami_buf all = { 0 };
    bool neg = eat(s, "^"), more = true;
    int rc = depth > MAX_DEPTH ? refuse(s, "a class nested this deep") : 0;
    for (unsigned k = 0; rc == 0 && more; k++) {
        term t = { { 0 }, { 0 } };
        rc = class_term(s, &t, k == 0, &more, depth);
        if (rc == 0 && !t.items.len && !t.alts.len) rc = refuse(s, "an empty class");
        if (rc == 0 && k == 0 && !more && !t.alts.len) {
            loami_buf_puts(out, neg ? "[^" : "[");
            loami_buf_put(out, t.items.data, t.items.len);
            loami_buf_putc(out, ']');
            neg = false;
        } else if (rc == 0 && more) {
            loami_buf_puts(&all, "(?=");
            put_term(&all, &t);
            loami_buf_putc(&all, ')');
        } else if (rc == 0) {
            put_term(&all, &t);
        }
        loami_buf_free(&t.items);
        loami_buf_free(&t.alts);
        if (out->len > (1u << 24) || all.len > (1u << 24)) rc = refuse(s, "a class this large");
    }
    if (rc == 0 && all.len) {
        loami_buf_puts(out, neg ? "(?:(?!" : "(?:");
        loami_buf_put(out, all.data, all.len);
        loami_buf_puts(out, neg ? ")(?s:.))" : ")");
    }
    loami_buf_free(&all);
    return rc;
}

/* ---- everything else ---- */

static void begin_atom(parser *s)
{
    s->atom = s->out->len;
    s->has_atom = true;
}

static int escape(parser *s)
{
    uint32_t c;
    loami_buf set = { 0 };
    bool neg;
    if (s->p == s->end) return refuse(s, "a backslash at the end");
    int rc = next_char(s, &c);
    if (rc < 0) return rc;
    begin_atom(s);
    rc = c < 128 ? set_escape(s, (char)c, &set, &neg, false) : 0;
    if (rc == 1) {
        loami_buf_puts(s->out, neg ? "[^" : "[");
        loami_buf_put(s->out, set.data, set.len);
        loami_buf_putc(s->out, ']');
    }
    if (rc == 0 && (c == 'b' || c == 'B')) {
        put_word(&set, false);
        loami_buf_printf(s->out,
                         c == 'b' ? "(?:(?<=[%s])(?![%s])|(?<![%s])(?=[%s]))"
                                  : "(?:(?<=[%s])(?=[%s])|(?<![%s])(?![%s]))",
                         set.data, set.data, set.data, set.data);
        rc = 1;
    }
    s->out->failed |= set.failed;
    loami_buf_free(&set);
    if (rc != 0) return rc < 0 ? rc : 0;
    if (c && c < 128 && strchr("AzZGKXR123456789", (int)c)) {
        loami_buf_printf(s->out, "\\%c", (char)c);
        return 0;
    }
    if (c == 'N' || c == 'O') {
        loami_buf_puts(s->out, c == 'N' ? "[^\\n]" : "(?s:.)");
        return 0;
    }
    if (c && c < 128 && strchr("kgyY", (int)c)) return refuse(s, "a named reference or a text border");
    rc = char_escape(s, c, &c);
    if (rc == 0) put_char(s->out, c);
    return rc;
}

/* "(?imx-imx" up to : or ). 1 when it ended in ), the options then reaching to the end of the group. */
static int options(parser *s)
{
    loami_buf_puts(s->out, "(?");
    for (; s->p < s->end && *s->p != ':' && *s->p != ')'; s->p++) {
        if (*s->p != 'i' && *s->p != 'm' && *s->p != '-') return refuse(s, "this (?");
        loami_buf_putc(s->out, *s->p == 'm' ? 's' : *s->p);
    }
    if (s->p == s->end) return refuse(s, "( without )");
    loami_buf_putc(s->out, ':');
    return *s->p++ == ')';
}

static int open_group(parser *s)
{
    static const char *const kinds[] = { "(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!" };
    if (eat(s, "(?#")) {
        const char *close = memchr(s->p, ')', (size_t)(s->end - s->p));
        if (!close) return refuse(s, "( without )");
        s->p = close + 1;
        return 0;
    }
    if (s->depth == MAX_DEPTH) return refuse(s, "a group nested this deep");
    size_t start = s->out->len;
    bool known = false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && !known; i++) {
        known = eat(s, kinds[i]);
        if (known) loami_buf_puts(s->out, kinds[i]);
    }
    if (!known && eat(s, "(?")) {
        if (s->p < s->end && *s->p == '<') return refuse(s, "a named group");
        int rc = options(s);
        if (rc < 0) return rc;
        if (rc == 1) {
            s->groups[s->depth].closers++;
            s->has_atom = false;
            return 0;
        }
    } else if (!known) {
        s->p++;
        loami_buf_putc(s->out, '(');
    }
    s->groups[++s->depth] = (group){ .start = start };
    s->has_atom = false;
    return 0;
}

static int close_group(parser *s)
{
    if (s->depth == 0) return refuse(s, ") without (");
    group *g = &s->groups[s->depth--];
    for (unsigned k = 0; k <= g->closers; k++) loami_buf_putc(s->out, ')');
    s->atom = g->start;
    s->has_atom = true;
    s->p++;
    return 0;
}

/* Puts (?: ) around the last item, so that it can be repeated again. */
static void wrap_atom(parser *s)
{
    if (!loami_buf_reserve(s->out, 4)) return;
    char *at = s->out->data + s->atom;
    memmove(at + 3, at, s->out->len - s->atom);
    memcpy(at, "(?:", 3);
    s->out->len += 3;
    loami_buf_putc(s->out, ')');
}

static bool number(const char **p, const char *end, unsigned *v)
{
    const char *from = *p;
    for (*v = 0; *p < end && **p >= '0' && **p <= '9'; (*p)++)
        *v = *v > 100000 ? *v : *v * 10 + (unsigned)(**p - '0');
    return *p > from;
}

/* "{n}", "{n,}", "{n,m}", "{,m}" at p: its text and whether n is all there is. False: a literal brace. */
static bool interval(parser *s, char text[48], bool *fixed)
{
    const char *p = s->p + 1;
    unsigned lo = 0, hi = 0;
    bool has_lo = number(&p, s->end, &lo), comma = p < s->end && *p == ',';
    if (comma) p++;
    bool has_hi = comma && number(&p, s->end, &hi);
    if (p == s->end || *p != '}' || !(has_lo || has_hi)) return false;
    s->p = p + 1;
    *fixed = !comma;
    if (!comma) snprintf(text, 48, "{%u}", lo);
    else if (has_hi) snprintf(text, 48, "{%u,%u}", lo, hi);
    else snprintf(text, 48, "{%u,}", lo);
    return true;
}

static bool at_quantifier(const parser *s)
{
    return s->p < s->end && (*s->p == '*' || *s->p == '+' || *s->p == '?' || *s->p == '{');
}

/* One or more quantifiers after an item. */
static int quantifiers(parser *s)
{
    for (unsigned k = 0; at_quantifier(s); k++) {
        char text[48];
        bool fixed = false, braces = *s->p == '{';
        if (braces && !interval(s, text, &fixed)) break;
        if (!s->has_atom) return refuse(s, "a quantifier with nothing before it");
        if (k > 8) return refuse(s, "a quantifier repeated this often");
        if (k > 0) wrap_atom(s);
        if (!braces) snprintf(text, sizeof text, "%c", *s->p++);
        loami_buf_puts(s->out, text);
        if (s->p == s->end) break;
        if (*s->p == '?' && !fixed) loami_buf_putc(s->out, *s->p++);
        else if (*s->p == '+' && !braces) loami_buf_putc(s->out, *s->p++);
    }
    return 0;
}

static int item(parser *s)
{
    uint32_t c;
    switch (*s->p) {
    case '\\': s->p++; return escape(s);
    case '(': return open_group(s);
    case ')': return close_group(s);
    case '[': s->p++; begin_atom(s); return class(s, s->out, 0);
    case '|':
        loami_buf_putc(s->out, *s->p++);
        s->has_atom = false;
        return 0;
    case '^': case '$': case '.':
        begin_atom(s);
        loami_buf_putc(s->out, *s->p++);
        return 0;
    case '*': case '+': case '?': return refuse(s, "a quantifier with nothing before it");
    default:
        begin_atom(s);
        if (next_char(s, &c) < 0) return LOAM_E_UNSUPPORTED;
        put_char(s->out, c);
        return 0;
    }
}

int loami_onig_translate(loami_buf *out, const char *pattern, size_t n, const char *what, loam_err *err)
{
    parser s = { .p = pattern, .end = pattern + n, .out = out, .source = pattern, .source_len = n };
    s.what = what;
    s.err = err;
    while (s.p < s.end) {
        int rc = item(&s);
        if (rc == 0) rc = quantifiers(&s);
        if (rc < 0) return rc;
        if (out->len > (1u << 24)) return refuse(&s, "its length");
    }
    if (s.depth) return refuse(&s, "( without )");
    for (unsigned k = 0; k < s.groups[0].closers; k++) loami_buf_putc(out, ')');
    return out->failed ? loami_fail_nomem(err) : 0;
}
