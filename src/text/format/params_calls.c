/* Calls as a name and arguments one by one, each between markers. */
#include "text/format/parser.h"

#include <string.h>

enum { CALL, NAME, PARAM, KEY, VALUE_MARK, VALUE };
enum { LONGEST_NAME = 256 };

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static void set_trimmed(loami_buf *b, const char *s, size_t n)
{
    while (n && is_space(s[0])) s++, n--;
    while (n && is_space(s[n - 1])) n--;
    loami_buf_clear(b);
    loami_buf_put(b, s, n);
}

static loami_body read_call(loami_format_parser *p)
{
    const loami_params_calls *c = p->config;
    if (!c->call) {
        p->step = NAME;
        return BODY_MORE;
    }
    loami_skip_space(p);
    if (!loami_text_left(p)) return BODY_MORE;
    int begins = loami_begins(p, c->call), closes = c->close ? loami_begins(p, c->close) : 0;
    int first = c->first && !loami_made_calls(p) ? loami_begins(p, c->first) : 0;
    if (first == 1) {
        loami_take(p, strlen(c->first));
        return BODY_MORE;
    }
    if (first == FIND_WAIT) return BODY_MORE;
    if (begins == 1) {
        loami_take(p, strlen(c->call));
        p->step = NAME;
        return BODY_MORE;
    }
    if (closes == 1 && loami_made_calls(p)) {
        loami_take(p, strlen(c->close));
        return BODY_DONE;
    }
    if (begins == FIND_WAIT || closes == FIND_WAIT) return BODY_MORE;
    return loami_made_calls(p) ? BODY_DONE : BODY_BAD;
}

static loami_body read_name(loami_format_parser *p)
{
    const loami_params_calls *c = p->config;
    const char *const marks[] = { c->name_end ? c->name_end : "\n", c->name_end ? NULL : c->param,
                                  c->name_end ? NULL : c->call_end };
    size_t where, space = 0;
    if (!c->name_end) {            /* a line's end before the name does not end it */
        while (space < loami_text_left(p) && is_space(loami_text_at(p)[space])) space++;
        if (space) loami_take(p, space);
    }
    int k = loami_find(p, marks, 3, &where);
    if (k < 0) return where > LONGEST_NAME ? BODY_BAD : BODY_MORE;
    set_trimmed(&p->call_name, loami_text_at(p), where);
    const char *name = p->call_name.data;
    if (!p->call_name.len || where > LONGEST_NAME) return BODY_BAD;
    if (strpbrk(name, " <>{\"\n") || strlen(name) != p->call_name.len) return BODY_BAD;
    loami_take(p, where + (k == 0 ? strlen(marks[0]) : 0));
    p->n_params = 0;
    p->step = PARAM;
    return BODY_MORE;
}

static void begin(loami_format_parser *p)
{
    if (p->in_call) return;
    loami_call_begin(p, p->call_name.data, p->call_name.len, NULL);
    loami_call_arguments(p, "{", 1);
}

static loami_body read_param(loami_format_parser *p)
{
    const loami_params_calls *c = p->config;
    const char *s = loami_text_at(p);
    size_t n = 0;
    while (n < loami_text_left(p) && is_space(s[n])) n++;
    if (n) loami_take(p, n);
    if (!loami_text_left(p)) return BODY_MORE;
    int begins = loami_begins(p, c->param), ends = loami_begins(p, c->call_end);
    if (begins == 1) {
        begin(p);
        loami_take(p, strlen(c->param));
        p->step = KEY;
        return BODY_MORE;
    }
    if (ends != 1 && (begins == FIND_WAIT || ends == FIND_WAIT)) return BODY_MORE;
    if (ends != 1 && !p->in_call) return BODY_BAD;
    begin(p);
    if (ends == 1) loami_take(p, strlen(c->call_end));
    loami_call_arguments(p, "}", 1);
    loami_call_end(p);
    p->step = CALL;
    return c->close && ends == 1 ? BODY_MORE : BODY_DONE;
}

/* The key, and what else an element may say of its value: key" string="true */
static loami_body read_key(loami_format_parser *p)
{
    const loami_params_calls *c = p->config;
    size_t where;
    if (loami_find(p, &c->key_end, 1, &where) < 0) return BODY_MORE;
    const char *s = loami_text_at(p), *quote = memchr(s, '"', where);
    set_trimmed(&p->key, s, quote ? (size_t)(quote - s) : where);
    p->typed = quote && memmem(s, where, "string=\"", 8) != NULL;
    p->is_text = p->typed && memmem(s, where, "string=\"true", 12) != NULL;
    loami_take(p, where + strlen(c->key_end));
    p->step = c->value ? VALUE_MARK : VALUE;
    return BODY_MORE;
}

static loami_body read_value_mark(loami_format_parser *p)
{
    const loami_params_calls *c = p->config;
    loami_skip_space(p);
    if (!loami_text_left(p)) return BODY_MORE;
    int begins = loami_begins(p, c->value);
    if (begins == FIND_WAIT) return BODY_MORE;
    if (begins == 1) loami_take(p, strlen(c->value));
    p->step = VALUE;
    return BODY_MORE;
}

static json_t *value_of(const loami_format_parser *p, const char *s, size_t n)
{
    json_t *v = NULL;
    if (p->typed && p->is_text) return json_stringn(s, n);
    if (p->typed) v = json_loadb(s, n, JSON_DECODE_ANY, NULL);
    return v ? v : loami_argument(p->tools, p->call_name.data, p->key.data, s, n);
}

static loami_body read_value(loami_format_parser *p)
{
    const loami_params_calls *c = p->config;
    size_t where;
    if (loami_find(p, &c->value_end, 1, &where) < 0) return BODY_MORE;
    const char *s = loami_text_at(p);
    size_t n = where;
    if (c->lines && n && s[0] == '\n') s++, n--;
    if (c->lines && n && s[n - 1] == '\n') n--;
    json_t *v = value_of(p, s, n), *key = json_string(p->key.data ? p->key.data : "");
    if (v && key) {                /* what is not UTF-8 is left out */
        loami_buf text = { 0 };
        if (p->n_params++) loami_buf_puts(&text, ", ");
        loami_put_json(&text, key);
        loami_buf_puts(&text, ": ");
        loami_put_json(&text, v);
        loami_call_arguments(p, text.data, text.len);
        p->in.failed |= text.failed;
        loami_buf_free(&text);
    }
    json_decref(v);
    json_decref(key);
    loami_take(p, where + strlen(c->value_end));
    p->step = PARAM;
    return BODY_MORE;
}

static loami_body read_calls(loami_format_parser *p)
{
    static loami_body (*const steps[])(loami_format_parser *) = {
        [CALL] = read_call, [NAME] = read_name, [PARAM] = read_param, [KEY] = read_key, [VALUE_MARK] = read_value_mark, [VALUE] = read_value,
    };
    for (;;) {
        size_t at = p->at;
        int step = p->step;
        loami_body b = steps[step](p);
        if (b != BODY_MORE) return b;
        if (p->final && p->step == CALL && !loami_text_left(p) && loami_made_calls(p)) return BODY_DONE;
        if (at == p->at && step == p->step) return BODY_MORE;
    }
}

const loami_style loami_style_params = { read_calls };
