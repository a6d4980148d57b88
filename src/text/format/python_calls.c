/* Calls as Python writes them: get_weather(city="Oslo", days=3). Read as a whole, when the section is over. */
#include "text/format/parser.h"

#include <string.h>

static bool name_char(char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_' || c == '.' || c == '-';
}

static size_t skip(const char *s, size_t n, size_t at, const char *set)
{
    while (at < n && s[at] && strchr(set, s[at])) at++;
    return at;
}

/* key=value, ... up to the parenthesis. */
static json_t *arguments(const char *s, size_t n, size_t *at)
{
    json_t *all = json_object();
    for (;;) {
        *at = skip(s, n, *at, " \n\t\r,");
        if (*at < n && s[*at] == ')') {
            ++*at;
            return all;
        }
        size_t from = *at;
        while (*at < n && name_char(s[*at])) ++*at;
        char key[256];
        size_t k = *at - from;
        *at = skip(s, n, *at, " ");
        if (!all || k == 0 || k >= sizeof key || *at >= n || s[*at] != '=') break;
        memcpy(key, s + from, k);
        key[k] = 0;
        ++*at;
        json_t *v = loami_python_literal(s, n, at, 0);
        if (!v || json_object_set_new(all, key, v) < 0) break;
    }
    json_decref(all);
    return NULL;
}

/* One call at *at; counted only when p. Llama writes tool.call(...) for the tools that it was born with. */
static bool one_call(loami_format_parser *p, const char *s, size_t n, size_t *at)
{
    static const char suffix[] = ".call";
    size_t from = *at, end;
    while (*at < n && name_char(s[*at])) ++*at;
    end = *at;
    if (end == from || end >= n || s[end] != '(' || (s[from] >= '0' && s[from] <= '9')) return false;
    ++*at;
    json_t *args = arguments(s, n, at);
    if (!args) return false;
    size_t len = end - from, k = sizeof suffix - 1;
    if (len > k && memcmp(s + end - k, suffix, k) == 0) len -= k;
    if (p) loami_call_whole(p, s + from, len, NULL, args);
    json_decref(args);
    return true;
}

/* All calls of a text, perhaps in a list. */
static bool all_calls(loami_format_parser *p, const char *s, size_t n)
{
    size_t at = skip(s, n, 0, " \n\t\r");
    bool list = at < n && s[at] == '[';
    size_t count = 0;
    at += list;
    for (;;) {
        at = skip(s, n, at, " \n\t\r,;");
        if (at == n) return count > 0 && !list;
        if (list && s[at] == ']') return count > 0 && skip(s, n, at + 1, " \n\t\r") == n;
        if (!one_call(p, s, n, &at)) return false;
        count++;
    }
}

/* {"name": ..., "parameters": {...}} */
static bool json_call(loami_format_parser *p, const char *s, size_t n, bool code)
{
    json_t *v = json_loadb(s, n, 0, NULL);
    const char *name = json_string_value(json_object_get(v, "name"));
    const json_t *args = json_object_get(v, "parameters");
    if (!args) args = json_object_get(v, "arguments");
    bool ok = name && json_is_object(args);
    if (ok) loami_call_whole(p, name, strlen(name), NULL, args);
    else if (json_is_object(v) && code) {
        loami_call_whole(p, "python", 6, NULL, v);
        ok = true;
    }
    json_decref(v);
    return ok;
}

static bool code_call(loami_format_parser *p, const char *s, size_t n)
{
    json_t *args = json_object(), *code = json_stringn(s, n);
    bool ok = args && code && json_object_set(args, "code", code) == 0;
    if (ok) loami_call_whole(p, "python", 6, NULL, args);
    json_decref(code);
    json_decref(args);
    return ok;
}

static loami_body read_calls(loami_format_parser *p)
{
    const loami_python_calls *c = p->config;
    size_t n;
    int k = c->close ? loami_find(p, &c->close, 1, &n) : FIND_NONE;
    if (k < 0) {
        if (!p->final) return BODY_MORE;
        n = loami_text_left(p);
    }
    const char *s = loami_text_at(p);
    size_t trimmed = n;
    while (trimmed && strchr(" \n\t\r", s[trimmed - 1])) trimmed--;
    if (all_calls(NULL, s, n)) all_calls(p, s, n);
    else if (trimmed == 0) return BODY_BAD;
    else if (!json_call(p, s, trimmed, c->code) && !(c->code && code_call(p, s, trimmed))) return BODY_BAD;
    loami_take(p, n + (k == 0 ? strlen(c->close) : 0));
    loami_buf_clear(&p->raw);
    return BODY_DONE;
}

const loami_style loami_style_python = { read_calls };
