#include "text/format/parser.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- JSON as json.dumps writes it ---------------------------------------------------------------------- */

static void put_text(loami_buf *out, const json_t *v)
{
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    if (!text) {
        out->failed = true;
        return;
    }
    loami_buf_puts(out, text);
    free(text);
}

void loami_put_json(loami_buf *out, const json_t *v)
{
    if (json_is_array(v)) {
        loami_buf_putc(out, '[');
        for (size_t i = 0; i < json_array_size(v); i++) {
            if (i) loami_buf_puts(out, ", ");
            loami_put_json(out, json_array_get(v, i));
        }
        loami_buf_putc(out, ']');
    } else if (json_is_object(v)) {
        bool first = true;
        loami_buf_putc(out, '{');
        for (void *at = json_object_iter((json_t *)v); at; at = json_object_iter_next((json_t *)v, at)) {
            json_t *key = json_string(json_object_iter_key(at));
            if (!first) loami_buf_puts(out, ", ");
            if (key) put_text(out, key);
            else out->failed = true;
            json_decref(key);
            loami_buf_puts(out, ": ");
            loami_put_json(out, json_object_iter_value(at));
            first = false;
        }
        loami_buf_putc(out, '}');
    } else {
        put_text(out, v);
    }
}

/* ---- types from a schema ------------------------------------------------------------------------------- */

enum { MAY_STRING = 1, MAY_OTHER = 2 };

static unsigned type_named(const char *name)
{
    return !name ? 0 : strcmp(name, "string") == 0 ? MAY_STRING : MAY_OTHER;
}

/* What a schema allows; 0: it does not say. */
static unsigned allowed(const json_t *schema, unsigned depth)
{
    static const char *const unions[] = { "anyOf", "oneOf" };
    const json_t *type = json_object_get(schema, "type"), *values = json_object_get(schema, "enum");
    unsigned may = type_named(json_string_value(type));
    for (size_t i = 0; i < json_array_size(type); i++)
        may |= type_named(json_string_value(json_array_get(type, i)));
    for (size_t i = 0; !type && i < json_array_size(values); i++)
        may |= json_is_string(json_array_get(values, i)) ? MAY_STRING : MAY_OTHER;
    for (int u = 0; u < 2 && depth < 4; u++) {
        const json_t *all = json_object_get(schema, unions[u]);
        for (size_t i = 0; i < json_array_size(all); i++) may |= allowed(json_array_get(all, i), depth + 1);
    }
    return may;
}

static const json_t *schema_of(const json_t *tools, const char *tool, const char *key)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *t = json_array_get(tools, i), *f = json_object_get(t, "function");
        if (!f) f = t;
        const char *name = json_string_value(json_object_get(f, "name"));
        if (!name || strcmp(name, tool) != 0) continue;
        return json_object_get(json_object_get(json_object_get(f, "parameters"), "properties"), key);
    }
    return NULL;
}

static json_t *python_value(const char *text, size_t n)
{
    size_t at = 0;
    json_t *v = n && (text[0] == '{' || text[0] == '[') ? loami_python_literal(text, n, &at, 0) : NULL;
    if (v && at < n) {
        json_decref(v);
        v = NULL;
    }
    return v;
}

/* JSON, or what Python writes in its place: some templates print a value as it is. */
static json_t *as_json(const char *text, size_t n)
{
    static const struct { const char *word; int kind; } words[] = { { "True", 1 }, { "False", 0 },
                                                                    { "None", -1 } };
    while (n && strchr(" \n\t\r", text[0])) text++, n--;
    while (n && strchr(" \n\t\r", text[n - 1])) n--;
    for (int i = 0; i < 3; i++)
        if (n == strlen(words[i].word) && memcmp(text, words[i].word, n) == 0)
            return words[i].kind < 0 ? json_null() : json_boolean(words[i].kind);
    json_t *v = json_loadb(text, n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    return v ? v : python_value(text, n);
}

json_t *loami_argument(const json_t *tools, const char *tool, const char *key, const char *text, size_t n)
{
    unsigned may = allowed(schema_of(tools, tool, key), 0);
    if (may != MAY_STRING) {
        json_t *v = as_json(text, n);
        if (v && !json_is_string(v)) return v;
        json_decref(v);
    }
    return json_stringn(text, n);
}

/* ---- Python literals ----------------------------------------------------------------------------------- */

enum { DEEPEST = 64 };

static void skip_space(const char *s, size_t n, size_t *at)
{
    while (*at < n && strchr(" \n\t\r", s[*at]) && s[*at]) ++*at;
}

static bool take_char(const char *s, size_t n, size_t *at, char c)
{
    skip_space(s, n, at);
    if (*at >= n || s[*at] != c) return false;
    ++*at;
    return true;
}

static json_t *quoted(const char *s, size_t n, size_t *at)
{
    static const char escapes[] = "n\nt\tr\r\\\\'\'\"\"b\bf\f";
    loami_buf out = { 0 };
    json_t *v = NULL;
    char quote = s[(*at)++];
    for (; *at < n && s[*at] != quote; ++*at) {
        char c = s[*at];
        if (c != '\\' || *at + 1 >= n) {
            loami_buf_putc(&out, c);
            continue;
        }
        const char *e = escapes;
        while (*e && *e != s[*at + 1]) e += 2;
        if (*e) loami_buf_putc(&out, e[1]);
        else loami_buf_put(&out, s + *at, 2);
        ++*at;
    }
    if (*at < n) {
        ++*at;
        v = json_stringn(out.data ? out.data : "", out.len);
    }
    loami_buf_free(&out);
    return v;
}

static json_t *word(const char *s, size_t n, size_t *at)
{
    size_t from = *at;
    static const char set[] = "+-._0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    while (*at < n && s[*at] && strchr(set, s[*at])) ++*at;
    return *at > from ? as_json(s + from, *at - from) : NULL;
}

/* [a, b], (a, b), {"k": v} */
static json_t *collection(const char *s, size_t n, size_t *at, unsigned depth)
{
    char open = s[(*at)++], close = open == '[' ? ']' : open == '(' ? ')' : '}';
    json_t *all = open == '{' ? json_object() : json_array();
    while (all && !take_char(s, n, at, close)) {
        json_t *k = NULL, *v = loami_python_literal(s, n, at, depth + 1);
        bool ok = v != NULL;
        if (ok && open == '{') {
            k = v;
            bool keyed = json_is_string(k) && take_char(s, n, at, ':');
            v = keyed ? loami_python_literal(s, n, at, depth + 1) : NULL;
            ok = v && json_object_set(all, json_string_value(k), v) == 0;
        } else if (ok) {
            ok = json_array_append(all, v) == 0;
        }
        json_decref(k);
        json_decref(v);
        skip_space(s, n, at);
        if (ok && *at < n && (s[*at] == ',' || s[*at] == close)) {
            *at += s[*at] == ',';
            continue;
        }
        json_decref(all);
        return NULL;
    }
    return all;
}

json_t *loami_python_literal(const char *s, size_t n, size_t *at, unsigned depth)
{
    skip_space(s, n, at);
    if (*at >= n || depth > DEEPEST) return NULL;
    char c = s[*at];
    if (c == '"' || c == '\'') return quoted(s, n, at);
    if (c == '[' || c == '(' || c == '{') return collection(s, n, at, depth);
    return word(s, n, at);
}
