/* Calls as JSON: {"name": ..., "arguments": {...}}, one, several, or a list of them. */
#include "text/format/parser.h"

#include <stdlib.h>
#include <string.h>

/* Where reading is. Up to STREAM nothing of the object is taken: it may turn out to be text. */
enum { START, KEY, KEY_TEXT, COLON, VALUE, VALUE_TEXT, STREAM, AFTER };

typedef enum kind { IS_NAME, IS_ARGUMENTS, IS_ID, IS_FUNCTION, IS_OTHER } kind;

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static kind kind_of(const loami_format_parser *p)
{
    static const struct { const char *key; kind k; } keys[] = {
        { "name", IS_NAME }, { "tool_name", IS_NAME }, { "arguments", IS_ARGUMENTS },
        { "parameters", IS_ARGUMENTS },
        { "id", IS_ID }, { "tool_call_id", IS_ID }, { "function", IS_FUNCTION }, { "type", IS_FUNCTION },
    };
    const loami_json_calls *c = p->config;
    const char *key = p->key.data ? p->key.data : "";
    if (c && c->by_name) return IS_ARGUMENTS;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i].key) == 0) return keys[i].k;
    return IS_OTHER;
}

/* A JSON string as its text. */
static bool unquote(loami_buf *out, const char *s, size_t n)
{
    json_t *v = json_loadb(s, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    loami_buf_clear(out);
    bool ok = json_is_string(v) && memchr(json_string_value(v), 0, json_string_length(v)) == NULL;
    if (ok) loami_buf_put(out, json_string_value(v), json_string_length(v));
    json_decref(v);
    return ok && !out->failed;
}

static void begin(loami_format_parser *p)
{
    loami_call_begin(p, p->call_name.data, p->call_name.len, p->call_id.data);
}

/* Arguments that are at hand as a whole: an object, a string that holds one, or null. */
static bool put_arguments(loami_format_parser *p, const char *s, size_t n)
{
    loami_buf text = { 0 };
    bool ok = true;
    while (n && is_space(s[0])) s++, n--;
    if (n && s[0] == '"') {
        ok = unquote(&text, s, n);
        s = text.data ? text.data : "";
        n = text.len;
    } else if (n == 0 || (n == 4 && memcmp(s, "null", 4) == 0)) {
        s = "{}";
        n = 2;
    } else {
        ok = s[0] == '{';
    }
    if (ok) {
        begin(p);
        loami_call_arguments(p, s, n);
    }
    loami_buf_free(&text);
    return ok;
}

/* The object is over: the byte at the cursor is its brace. */
static loami_body end_object(loami_format_parser *p)
{
    size_t n = p->cursor + 1;
    if (!p->in_call) {
        const char *s = loami_text_at(p);
        if (!p->call_name.len || !put_arguments(p, s + p->args_from, p->args_to - p->args_from))
            return BODY_BAD;
    }
    loami_take(p, n);
    loami_call_end(p);
    p->step = START;
    return BODY_MORE;
}

/* A value is complete: bytes [from, end) at hand. */
static bool end_value(loami_format_parser *p, size_t from, size_t end)
{
    const char *s = loami_text_at(p) + from;
    size_t n = end - from;
    switch (kind_of(p)) {
    case IS_NAME: return p->in_call || unquote(&p->call_name, s, n);
    case IS_ID:
        unquote(&p->call_id, s, n);
        return true;
    case IS_ARGUMENTS:
        if (p->in_call) return true;
        if (!p->call_name.len) {   /* they wait for the name */
            p->args_from = from;
            p->args_to = end;
            return true;
        }
        return put_arguments(p, s, n);
    case IS_FUNCTION:
        if (s[0] == '"' && strcmp(p->key.data, "function") == 0 && !p->in_call) unquote(&p->call_name, s, n);
        return true;
    default: return true;
    }
}

/* Whether the value at the cursor is arguments that can be passed on while they come. */
static bool can_stream(loami_format_parser *p, char c)
{
    const loami_json_calls *config = p->config;
    if (p->in_call || c != '{' || kind_of(p) != IS_ARGUMENTS) return false;
    if (config && config->by_name) {
        loami_buf_clear(&p->call_name);
        loami_buf_put(&p->call_name, p->key.data, p->key.len);
    }
    return p->call_name.len > 0;
}

/* One byte of an object. BODY_MORE: go on. */
static loami_body object_byte(loami_format_parser *p, char c)
{
    int done;
    switch (p->step) {
    case KEY:
        if (c == '}') return end_object(p);
        if (is_space(c) || c == ',') break;
        if (c != '"') return BODY_BAD;
        p->scan = (loami_json_scan){ 0 };
        loami_json_scan_byte(&p->scan, c);
        p->seen = p->cursor;       /* where the key begins */
        p->step = KEY_TEXT;
        break;
    case KEY_TEXT:
        if (loami_json_scan_byte(&p->scan, c) != 1) break;
        if (!unquote(&p->key, loami_text_at(p) + p->seen, p->cursor + 1 - p->seen)) return BODY_BAD;
        if (p->f.calls->bare && kind_of(p) == IS_OTHER && !p->in_call) return BODY_BAD;
        p->step = COLON;
        break;
    case COLON:
        if (is_space(c)) break;
        if (c != ':') return BODY_BAD;
        p->step = VALUE;
        break;
    case VALUE:
        if (is_space(c)) break;
        p->scan = (loami_json_scan){ 0 };
        if (can_stream(p, c)) {
            begin(p);
            loami_take(p, p->cursor);
            p->step = STREAM;
            return BODY_MORE;      /* the byte is looked at again */
        }
        p->seen = p->cursor;       /* where the value begins */
        p->step = VALUE_TEXT;
        return BODY_MORE;
    case VALUE_TEXT:
        done = loami_json_scan_byte(&p->scan, c);
        if (done == 0) break;
        if (done < 0) return BODY_BAD;
        p->step = KEY;
        if (!end_value(p, p->seen, p->cursor + (done == 1))) return BODY_BAD;
        if (done == 2) return BODY_MORE;
        break;
    default: break;
    }
    p->cursor++;
    return BODY_MORE;
}

static loami_body read_object(loami_format_parser *p)
{
    while (p->cursor < loami_text_left(p) && p->step != START && p->step != STREAM) {
        loami_body b = object_byte(p, loami_text_at(p)[p->cursor]);
        if (b != BODY_MORE) return b;
    }
    return BODY_MORE;
}

static loami_body read_stream(loami_format_parser *p)
{
    const char *s = loami_text_at(p);
    size_t left = loami_text_left(p), n = 0;
    int done = 0;
    while (n < left && done == 0) done = loami_json_scan_byte(&p->scan, s[n++]);
    if (done < 0) n--;
    loami_call_arguments(p, s, n);
    loami_take(p, n);
    if (done < 0) {
        loami_call_end(p);
        return BODY_DONE;
    }
    if (done == 1) p->step = KEY;
    return BODY_MORE;
}

/* Between calls: a list's brackets, commas, the end of the section. */
static loami_body read_start(loami_format_parser *p)
{
    const loami_json_calls *config = p->config;
    loami_skip_space(p);
    if (!loami_text_left(p)) return BODY_MORE;
    char c = loami_text_at(p)[0];
    int closes = config && config->close ? loami_begins(p, config->close) : 0;
    if (closes == FIND_WAIT) return BODY_MORE;
    if (closes && loami_made_calls(p)) {
        loami_take(p, strlen(config->close));
        return BODY_DONE;
    }
    if (c == '[' && !p->in_list && !loami_made_calls(p)) {
        p->in_list = true;
        loami_take(p, 1);
    } else if (c == ']' && p->in_list) {
        p->in_list = false;
        loami_take(p, 1);
    } else if ((c == ',' || c == ';') && loami_made_calls(p)) {
        loami_take(p, 1);
    } else if (c == '{') {
        loami_buf_clear(&p->call_name);
        loami_buf_clear(&p->call_id);
        p->args_from = p->args_to = p->seen = 0;
        p->cursor = 1;
        p->step = KEY;
    } else {
        return loami_made_calls(p) ? BODY_DONE : BODY_BAD;
    }
    return BODY_MORE;
}

static loami_body read_calls(loami_format_parser *p)
{
    for (;;) {
        size_t at = p->at, cursor = p->cursor;
        int step = p->step;
        loami_body b = step == START ? read_start(p) : step == STREAM ? read_stream(p) : read_object(p);
        if (b != BODY_MORE) return b;
        if (p->final && p->step == START && !loami_text_left(p) && loami_made_calls(p)) return BODY_DONE;
        if (at == p->at && cursor == p->cursor && step == p->step) return BODY_MORE;
    }
}

const loami_style loami_style_json = { read_calls };
