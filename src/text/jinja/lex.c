#include "text/jinja/run.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_BALANCE = 1000 };       /* open brackets in one tag */

typedef struct lexer {
    jrun *r;
    const char *s;                 /* [n] the source with its line ends made "\n" */
    size_t n, at;
    uint32_t line;
    bool at_line_start;            /* the last thing read ended with a newline */
    jtoken *tokens;
    size_t n_tokens, cap;
    char open[MAX_BALANCE];        /* the closing brackets still awaited */
    size_t n_open;
} lexer;

static const struct { const char *text; jtok type; } operators[] = {
    { "//", T_FLOORDIV }, { "**", T_POW }, { "==", T_EQ }, { "!=", T_NE }, { ">=", T_GE }, { "<=", T_LE },
    { "+", T_ADD }, { "-", T_SUB }, { "/", T_DIV }, { "*", T_MUL }, { "%", T_MOD }, { "~", T_TILDE },
    { "[", T_LBRACKET }, { "]", T_RBRACKET }, { "(", T_LPAREN }, { ")", T_RPAREN }, { "{", T_LBRACE },
    { "}", T_RBRACE },
    { ">", T_GT }, { "<", T_LT }, { "=", T_ASSIGN }, { ".", T_DOT }, { ":", T_COLON }, { "|", T_PIPE },
    { ",", T_COMMA }, { ";", T_SEMICOLON },
};

static _Noreturn void fail_at(lexer *x, const char *what)
{
    x->r->m.line = x->line;
    loami_j_fail(x->r, "%s", what);
}

static void add(lexer *x, jtok type, uint32_t line, jval value)
{
    if (x->n_tokens == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 256;
        jtoken *bigger = loami_j_array(x->r, cap, sizeof *bigger);
        if (x->n_tokens) memcpy(bigger, x->tokens, x->n_tokens * sizeof *bigger);
        x->tokens = bigger;
        x->cap = cap;
    }
    x->tokens[x->n_tokens++] = (jtoken){ type, line, value };
    loami_j_work(x->r, 0);
}

static void add_text(lexer *x, jtok type, uint32_t line, size_t from, size_t to)
{
    add(x, type, line, loami_j_str(x->r, x->s + from, to - from));
}

static bool here(const lexer *x, size_t at, const char *z)
{
    size_t n = strlen(z);
    return x->n - at >= n && memcmp(x->s + at, z, n) == 0;
}

/* Moves to `to`, counting lines. */
static void advance(lexer *x, size_t to)
{
    for (size_t i = x->at; i < to; i++) x->line += x->s[i] == '\n';
    if (to > x->at) x->at_line_start = x->s[to - 1] == '\n';
    x->at = to;
}

static size_t skip_space(const lexer *x, size_t at)
{
    jstr s = { .p = x->s, .n = x->n };
    while (at < x->n) {
        size_t next = at;
        if (!loami_j_space(loami_j_next(&s, &next))) break;
        at = next;
    }
    return at;
}

/* The end of what precedes the space that ends at `to`, not before from. */
static size_t back_over_space(const lexer *x, size_t from, size_t to)
{
    jstr s = { .p = x->s + from, .n = to - from };
    return from + loami_j_strip(x->r, &s, NULL, false, true).s->n;
}

/* The end of a tag at `at`: "+%}", "-%}" with the space after it, "%}" with the newline after it when trim.
 * Returns where the text goes on, or 0. plus: whether "+" is allowed. */
static size_t tag_end(const lexer *x, size_t at, const char *end, bool plus, bool trim)
{
    size_t n = strlen(end);
    if (plus && x->s[at] == '+' && here(x, at + 1, end)) return at + 1 + n;
    if (x->s[at] == '-' && here(x, at + 1, end)) return skip_space(x, at + 1 + n);
    if (!here(x, at, end)) return 0;
    at += n;
    return trim && at < x->n && x->s[at] == '\n' ? at + 1 : at;
}

/* Emits the text [from, to) before a tag, less the space that the tag's sign or lstrip_blocks takes. */
static void text_before(lexer *x, size_t from, size_t to, char sign, bool block)
{
    size_t end = to;
    if (sign == '-') {
        end = back_over_space(x, from, to);
    } else if (sign != '+' && block) {
        size_t line = to;
        while (line > from && x->s[line - 1] != '\n') line--;
        if ((line > from || x->at_line_start) && line < to && back_over_space(x, line, to) == line)
            end = line;
    }
    if (end > from) add_text(x, T_DATA, x->line, from, end);
}

/* ---- raw and comments ---- */

/* "{%- raw %}" at `at`: where its text begins, or 0. */
static size_t raw_begin(const lexer *x, size_t at)
{
    at += 2;
    if (at < x->n && (x->s[at] == '-' || x->s[at] == '+')) at++;
    at = skip_space(x, at);
    if (!here(x, at, "raw")) return 0;
    at = skip_space(x, at + 3);
    return at < x->n ? tag_end(x, at, "%}", false, false) : 0;
}

static void lex_raw(lexer *x)
{
    size_t from = x->at;
    for (size_t i = from; i + 1 < x->n; i++) {
        if (!here(x, i, "{%")) continue;
        size_t at = i + 2;
        char sign = at < x->n ? x->s[at] : 0;
        if (sign == '-' || sign == '+') at++;
        at = skip_space(x, at);
        if (!here(x, at, "endraw")) continue;
        at = skip_space(x, at + 6);
        size_t end = at < x->n ? tag_end(x, at, "%}", true, true) : 0;
        if (!end) continue;
        text_before(x, from, i, sign, true);
        advance(x, end);
        return;
    }
    if (from < x->n) fail_at(x, "the end of a raw block is missing");
}

static void lex_comment(lexer *x)
{
    for (size_t i = x->at; i < x->n; i++) {
        size_t end = tag_end(x, i, "#}", true, true);
        if (!end) continue;
        advance(x, end);
        return;
    }
    if (x->at < x->n) fail_at(x, "the end of a comment is missing");
}

/* ---- inside tags ---- */

static size_t digits(const lexer *x, size_t at, const char *which)
{
    while (at < x->n && strchr(which, x->s[at]) && x->s[at]) at++;
    return at;
}

/* Digits with single underscores between them; `at` itself when there is none. */
static size_t number_part(const lexer *x, size_t at, const char *which)
{
    size_t end = digits(x, at, which);
    while (end > at && end + 1 < x->n && x->s[end] == '_') {
        size_t more = digits(x, end + 1, which);
        if (more == end + 1) break;
        end = more;
    }
    return end;
}

static const char DECIMAL[] = "0123456789";

/* The end of a float at `at`, or 0. */
static size_t float_end(const lexer *x, size_t at)
{
    if (at > 0 && x->s[at - 1] == '.') return 0;
    size_t whole = number_part(x, at, DECIMAL), end = whole, exponent;
    if (whole == at) return 0;
    if (end < x->n && x->s[end] == '.') {
        size_t fraction = number_part(x, end + 1, DECIMAL);
        if (fraction > end + 1) end = fraction;
    }
    if (end < x->n && (x->s[end] == 'e' || x->s[end] == 'E')) {
        size_t from = end + 1;
        if (from < x->n && (x->s[from] == '+' || x->s[from] == '-')) from++;
        exponent = number_part(x, from, DECIMAL);
        if (exponent > from) return exponent;
    }
    return end > whole ? end : 0;
}

static size_t integer_end(const lexer *x, size_t at)
{
    static const struct { char letter; const char *which; } bases[] = {
        { 'b', "01" }, { 'o', "01234567" }, { 'x', "0123456789abcdefABCDEF" },
    };
    if (x->s[at] < '0' || x->s[at] > '9') return 0;
    if (x->s[at] != '0') return number_part(x, at, DECIMAL);
    for (int i = 0; i < 3; i++) {
        if (at + 2 >= x->n || (x->s[at + 1] | 32) != bases[i].letter) continue;
        size_t from = at + 2 + (x->s[at + 2] == '_'), end = number_part(x, from, bases[i].which);
        if (end > from) return end;
    }
    return number_part(x, at, "0");
}

static size_t name_end(const lexer *x, size_t at)
{
    jstr s = { .p = x->s, .n = x->n };
    while (at < x->n) {
        size_t next = at;
        if (!loami_j_word(loami_j_next(&s, &next))) break;
        at = next;
    }
    return at;
}

static void lex_number(lexer *x, size_t end, bool real)
{
    jstr s = { .p = x->s + x->at, .n = end - x->at };
    jval v = { .type = real ? J_FLOAT : J_INT };
    bool ok = real ? loami_j_parse_float(&s, &v.f) : loami_j_parse_int(&s, 0, &v.i);
    if (!ok) fail_at(x, "a number beyond 64 bits");
    add(x, real ? T_FLOAT : T_INT, x->line, v);
    advance(x, end);
}

/* An escape of `count` hexadecimal digits at `at`. */
static void hex_escape(lexer *x, jsb *b, size_t at, size_t count, size_t end)
{
    uint32_t cp = 0;
    for (size_t i = 0; i < count; i++) {
        char c = at + i < end ? x->s[at + i] : 0;
        int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' &&
            (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (d < 0) fail_at(x, "a string has a truncated \\x, \\u or \\U escape");
        cp = cp << 4 | (uint32_t)d;
    }
    if (cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000)) fail_at(x, "a string escapes what is no character");
    loami_j_putcp(b, cp);
}

/* One backslash escape at `at` (the backslash), as Python's unicode-escape reads it. Returns where it ends. */
static size_t unescape(lexer *x, jsb *b, size_t at, size_t end)
{
    static const char letters[] = "n\nt\tr\r\\\\'\'\"\"a\ab\bf\fv\v";
    static const struct { char letter; size_t n; } hex[] = { { 'x', 2 }, { 'u', 4 }, { 'U', 8 } };
    char c = x->s[at + 1];
    for (const char *p = letters; *p; p += 2)
        if (c == *p) {
            loami_j_putc(b, p[1]);
            return at + 2;
        }
    for (int i = 0; i < 3; i++)
        if (c == hex[i].letter) {
            hex_escape(x, b, at + 2, hex[i].n, end);
            return at + 2 + hex[i].n;
        }
    if (c == '\n') return at + 2;
    if (c == 'N') fail_at(x, "\\N{...} escapes are not supported: write the character");
    if (c >= '0' && c <= '7') {
        uint32_t cp = 0;
        size_t i = at + 1;
        for (; i < end && i < at + 4 && x->s[i] >= '0' && x->s[i] <= '7'; i++)
            cp = cp * 8 + (uint32_t)(x->s[i] - '0');
        loami_j_putcp(b, cp);
        return i;
    }
    /* Python sees other characters here already escaped to ASCII, so that their backslash survives. */
    loami_j_putc(b, '\\');
    at++;
    if ((unsigned char)c < 0x80) return at;
    jstr s = { .p = x->s, .n = end };
    uint32_t cp = loami_j_next(&s, &at);
    loami_j_printf(b, cp < 0x100 ? "x%02x" : cp < 0x10000 ? "u%04x" : "U%08x", cp);
    return at;
}

static void lex_string(lexer *x)
{
    size_t from = x->at + 1, end = from;
    char quote = x->s[x->at];
    bool plain = true;
    for (; end < x->n && x->s[end] != quote; end++)
        if (x->s[end] == '\\') {
            plain = false;
            end++;
        }
    if (end >= x->n) fail_at(x, "a string is not closed");
    if (plain) {
        add_text(x, T_STRING, x->line, from, end);
    } else {
        jsb b = { .r = x->r };
        for (size_t i = from; i < end;) {
            size_t run = i;
            while (run < end && x->s[run] != '\\') run++;
            loami_j_put(&b, x->s + i, run - i);
            i = run < end ? unescape(x, &b, run, end) : run;
        }
        add(x, T_STRING, x->line, loami_j_sbval(&b));
    }
    advance(x, end + 1);
}

static void balance(lexer *x, char c)
{
    static const char pairs[] = "(){}[]";
    for (const char *p = pairs; *p; p += 2) {
        if (c == *p) {
            if (x->n_open == MAX_BALANCE) fail_at(x, "too many open brackets");
            x->open[x->n_open++] = p[1];
        } else if (c == p[1]) {
            char text[40] = "unexpected ' '";
            text[12] = c;
            if (x->n_open == 0 || x->open[--x->n_open] != c) fail_at(x, text);
        }
    }
}

static void lex_operator(lexer *x)
{
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (!here(x, x->at, operators[i].text)) continue;
        balance(x, x->s[x->at]);
        size_t end = x->at + strlen(operators[i].text);
        add_text(x, operators[i].type, x->line, x->at, end);
        advance(x, end);
        return;
    }
    char text[60];
    jstr s = { .p = x->s, .n = x->n };
    size_t end = x->at, at = x->at;
    loami_j_next(&s, &end);
    memcpy(text, "unexpected character ", 21);
    memcpy(text + 21, x->s + at, end - at);
    text[21 + end - at] = 0;
    fail_at(x, text);
}

/* The tokens of one tag up to its end. */
static void lex_tag(lexer *x, bool block)
{
    const char *close = block ? "%}" : "}}";
    x->n_open = 0;
    while (x->at < x->n) {
        size_t end = x->n_open ? 0 : tag_end(x, x->at, close, block, block);
        if (end) {
            add(x, block ? T_BLOCK_END : T_VAR_END, x->line, loami_j_strz(x->r, close));
            advance(x, end);
            return;
        }
        if ((end = skip_space(x, x->at)) > x->at) {
            advance(x, end);
            continue;
        }
        if ((end = float_end(x, x->at)) > 0) {
            lex_number(x, end, true);
        } else if ((end = integer_end(x, x->at)) > 0) {
            lex_number(x, end, false);
        } else if ((end = name_end(x, x->at)) > x->at) {
            size_t at = 0;
            jstr s = { .p = x->s + x->at, .n = end - x->at };
            if (loami_j_numeric(loami_j_next(&s, &at))) fail_at(x, "a name begins with a digit");
            add_text(x, T_NAME, x->line, x->at, end);
            advance(x, end);
        } else if (x->s[x->at] == '\'' || x->s[x->at] == '"') {
            lex_string(x);
        } else {
            lex_operator(x);
        }
    }
}

/* The next "{%", "{{" or "{#", or n. */
static size_t find_tag(const lexer *x)
{
    for (size_t i = x->at; i + 1 < x->n; i++)
        if (x->s[i] == '{' && (x->s[i + 1] == '%' || x->s[i + 1] == '{' || x->s[i + 1] == '#')) return i;
    return x->n;
}

/* Line ends become "\n", and one at the very end is dropped, as Jinja does. */
static void normalise(lexer *x, const char *text, size_t n)
{
    char *out = loami_j_alloc(x->r, n + 1);
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\r') {
            out[k++] = '\n';
            i += i + 1 < n && text[i + 1] == '\n';
        } else {
            out[k++] = text[i];
        }
    }
    if (k && out[k - 1] == '\n') k--;
    x->s = out;
    x->n = k;
}

jtoken *loami_j_lex(jrun *r, const char *text, size_t n)
{
    lexer *x = loami_j_alloc(r, sizeof *x);
    *x = (lexer){ .r = r, .line = 1, .at_line_start = true };
    normalise(x, text, n);
    while (x->at < x->n) {
        size_t tag = find_tag(x), raw = 0;
        if (tag == x->n) {
            add_text(x, T_DATA, x->line, x->at, x->n);
            break;
        }
        char kind = x->s[tag + 1];
        if (kind == '%') raw = raw_begin(x, tag);
        char sign = tag + 2 < x->n ? x->s[tag + 2] : 0;
        if (sign != '-' && sign != '+') sign = 0;
        text_before(x, x->at, tag, sign, kind != '{');
        advance(x, raw ? raw : tag + 2 + (sign != 0));
        if (raw) {
            lex_raw(x);
        } else if (kind == '#') {
            lex_comment(x);
        } else {
            add(x, kind == '%' ? T_BLOCK_BEGIN : T_VAR_BEGIN, x->line,
                loami_j_strz(r, kind == '%' ? "{%" : "{{"));
            lex_tag(x, kind == '%');
        }
    }
    add(x, T_EOF, x->line, loami_j_strz(r, "end of template"));
    return x->tokens;
}
