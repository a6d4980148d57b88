#include "gateway/peek.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static size_t skip_blanks(loami_span s, size_t i)
{
    while (i < s.n && is_blank(s.at[i])) i++;
    return i;
}

/* After the closing quote of the string that opens at i; 0 when it does not close. */
static size_t skip_string(loami_span s, size_t i)
{
    for (i++; i < s.n;) {
        const char *quote = memchr(s.at + i, '"', s.n - i);
        if (!quote) return 0;
        size_t end = (size_t)(quote - s.at), slashes = 0;
        while (end - slashes > i && s.at[end - slashes - 1] == '\\') slashes++;
        if (slashes % 2 == 0) return end + 1;
        i = end + 1;
    }
    return 0;
}

/* After the bracket that closes the one at i. Which kind closes which is kept as one bit a level. */
static size_t skip_nested(loami_span s, size_t i)
{
    enum { DEPTH = 2048 }; /* jansson's own limit */
    unsigned char square[DEPTH / 8] = { 0 };
    uint32_t depth = 0;
    while (i < s.n) {
        char c = s.at[i];
        if (c == '"') {
            i = skip_string(s, i);
            if (!i) return 0;
            continue;
        }
        if (c == '{' || c == '[') {
            if (depth == DEPTH) return 0;
            unsigned char bit = (unsigned char)(1u << depth % 8);
            square[depth / 8] = (unsigned char)(c == '[' ? square[depth / 8] | bit
                                                         : square[depth / 8] & ~bit);
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
            if ((square[depth / 8] >> depth % 8 & 1) != (c == ']')) return 0;
            if (depth == 0) return i + 1;
        }
        i++;
    }
    return 0;
}

static size_t skip_value(loami_span s, size_t i)
{
    if (i >= s.n) return 0;
    if (s.at[i] == '"') return skip_string(s, i);
    if (s.at[i] == '{' || s.at[i] == '[') return skip_nested(s, i);
    size_t from = i;
    while (i < s.n && !is_blank(s.at[i]) && s.at[i] != ',' && s.at[i] != '}' && s.at[i] != ']' &&
           s.at[i] != ':' && s.at[i] != '"')
        i++;
    return i > from ? i : 0;
}

loami_span loami_peek_value(const char *text, size_t n)
{
    loami_span all = { text, n }, none = { 0 };
    size_t from = skip_blanks(all, 0);
    if (from == n || (text[from] != '{' && text[from] != '[')) return none;
    size_t end = skip_value(all, from);
    if (!end || skip_blanks(all, end) != n) return none;
    return (loami_span){ text + from, end - from };
}

static bool fail(loami_peek *p)
{
    p->bad = true;
    p->at = p->in.n;
    return false;
}

bool loami_peek_next(loami_peek *p, loami_span *key, loami_span *value)
{
    loami_span in = p->in;
    bool object;
    if (!in.at || in.n < 2 || p->at >= in.n) return false;
    object = in.at[0] == '{';
    size_t i = skip_blanks(in, p->at ? p->at : 1);
    bool first = p->at == 0;
    if (i >= in.n) return fail(p);
    if (in.at[i] == (object ? '}' : ']')) {
        p->at = in.n;
        return false;
    }
    if (!first) {
        if (in.at[i] != ',') return fail(p);
        i = skip_blanks(in, i + 1);
    }
    *key = (loami_span){ 0 };
    if (object) {
        if (i >= in.n || in.at[i] != '"') return fail(p);
        size_t end = skip_string(in, i);
        if (!end) return fail(p);
        *key = (loami_span){ in.at + i + 1, end - i - 2 };
        i = skip_blanks(in, end);
        if (i >= in.n || in.at[i] != ':') return fail(p);
        i = skip_blanks(in, i + 1);
    }
    size_t end = skip_value(in, i);
    if (!end || end >= in.n) return fail(p);
    *value = (loami_span){ in.at + i, end - i };
    p->at = end;
    return true;
}

loami_span loami_peek_get(loami_span object, const char *name)
{
    loami_peek p = { .in = object };
    loami_span key, value, found = { 0 };
    if (!object.at || object.at[0] != '{') return found;
    while (loami_peek_next(&p, &key, &value))
        if (loami_span_key_is(key, name)) found = value;
    return found;
}

loami_span loami_peek_first(loami_span array)
{
    loami_peek p = { .in = array };
    loami_span key, value;
    if (array.at && array.at[0] == '[' && loami_peek_next(&p, &key, &value)) return value;
    return (loami_span){ 0 };
}

bool loami_span_is(loami_span s, const char *text)
{
    return s.at && s.n == strlen(text) && memcmp(s.at, text, s.n) == 0;
}

bool loami_span_key_is(loami_span key, const char *name)
{
    if (!memchr(key.at, '\\', key.n)) return loami_span_is(key, name);
    size_t n;
    char *text = loami_span_string((loami_span){ key.at - 1, key.n + 2 }, 256, &n);
    bool same = text && n == strlen(name) && memcmp(text, name, n) == 0;
    free(text);
    return same;
}

char *loami_span_string(loami_span s, size_t limit, size_t *len)
{
    json_t *v;
    loami_buf out = { 0 };
    if (!s.at || s.n < 2 || s.at[0] != '"' || s.n > limit * 6 + 2) return NULL;
    if (loami_json_parse(&v, s.at, s.n, "", NULL) < 0) return NULL;
    if (json_is_string(v) && json_string_length(v) <= limit)
        loami_buf_put(&out, json_string_value(v), json_string_length(v));
    else
        out.failed = true;
    json_decref(v);
    return loami_buf_take(&out, len);
}

bool loami_span_u64(loami_span s, uint64_t *out)
{
    uint64_t v = 0;
    if (!s.at || s.n == 0 || s.n > 19) return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.at[i] < '0' || s.at[i] > '9') return false;
        v = v * 10 + (uint64_t)(s.at[i] - '0');
    }
    *out = v;
    return true;
}

/* ---- changing ------------------------------------------------------------------------------------ */

void loami_edit(loami_edits *e, const char *base, loami_span old, const char *text, size_t len)
{
    if (e->n == LOAMI_EDITS) return;
    uint32_t i = e->n++;
    size_t from = (size_t)(old.at - base);
    for (; i > 0 && e->edit[i - 1].from > from; i--) e->edit[i] = e->edit[i - 1];
    e->edit[i].from = from;
    e->edit[i].n = old.n;
    e->edit[i].text = text;
    e->edit[i].len = len;
}

void loami_edit_member(loami_edits *e, const char *base, loami_span object, loami_span old, const char *pair,
                       size_t n_value)
{
    size_t n = strlen(pair);
    if (old.at) {
        loami_edit(e, base, old, pair + n - n_value, n_value);
        return;
    }
    loami_span front = { object.at + 1, 0 };
    bool empty = object.at[skip_blanks(object, 1)] == '}', second = false;
    for (uint32_t i = 0; i < e->n; i++)
        second |= e->edit[i].from == (size_t)(front.at - base) && e->edit[i].n == 0;
    if (empty && second) loami_edit(e, base, front, ",", 1);
    loami_edit(e, base, front, pair, n);
    if (!empty) loami_edit(e, base, front, ",", 1);
}

void loami_edit_remove(loami_edits *e, const char *base, loami_span object, loami_span value)
{
    /* Back to the key's opening quote, then to the comma before it, or on to the one behind. */
    loami_peek p = { .in = object };
    loami_span key, v;
    size_t from = 0, end;
    while (loami_peek_next(&p, &key, &v))
        if (v.at == value.at) from = (size_t)(key.at - object.at) - 1;
    if (!from) return;
    end = skip_blanks(object, (size_t)(value.at - object.at) + value.n);
    size_t back = from;
    while (back > 1 && is_blank(object.at[back - 1])) back--;
    if (object.at[back - 1] == ',')
        from = back - 1;
    else if (end < object.n && object.at[end] == ',')
        end++;
    loami_edit(e, base, (loami_span){ object.at + from, end - from }, "", 0);
}

void loami_edits_apply(const loami_edits *e, const char *base, size_t n, loami_buf *out)
{
    size_t at = 0;
    for (uint32_t i = 0; i < e->n; i++) {
        if (e->edit[i].from < at) continue;
        loami_buf_put(out, base + at, e->edit[i].from - at);
        loami_buf_put(out, e->edit[i].text, e->edit[i].len);
        at = e->edit[i].from + e->edit[i].n;
    }
    loami_buf_put(out, base + at, n - at);
}
