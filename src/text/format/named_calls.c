/* Calls as a name, a marker, and a JSON object. */
#include "text/format/parser.h"

#include <string.h>

enum { FIRST, EACH, NAME, NAME_LINE, ARGUMENTS, STREAM, TAIL };
enum { LONGEST_NAME = 256 };

static const loami_json_calls json_instead = { .close = NULL };

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static void trim(const char **s, size_t *n)
{
    while (*n && is_space((*s)[0])) ++*s, --*n;
    while (*n && is_space((*s)[*n - 1])) --*n;
}

static bool good_name(const char *s, size_t n)
{
    if (n == 0 || n > LONGEST_NAME) return false;
    for (size_t i = 0; i < n; i++)
        if (is_space(s[i]) || s[i] == '<' || s[i] == '{' || s[i] == '"' || s[i] == 0) return false;
    return true;
}

/* The text before name_end: a name, and perhaps an id. */
static bool set_name(loami_format_parser *p, const char *s, size_t n)
{
    const loami_named_calls *c = p->config;
    const char *id = NULL, *mark = c->id_mark ? memmem(s, n, c->id_mark, strlen(c->id_mark)) : NULL;
    size_t id_n = 0;
    loami_buf_clear(&p->call_name);
    loami_buf_clear(&p->call_id);
    if (mark) {
        const char *rest = mark + strlen(c->id_mark);
        size_t before = (size_t)(mark - s), after = n - (size_t)(rest - s);
        id = c->id_last ? rest : s;
        id_n = c->id_last ? after : before;
        s = c->id_last ? s : rest;
        n = c->id_last ? before : after;
    }
    trim(&s, &n);
    if (c->numbered) {
        size_t end = n;
        while (end && s[end - 1] >= '0' && s[end - 1] <= '9') end--;
        if (end && end < n && s[end - 1] == ':') {
            id = s;
            id_n = n;
            n = end - 1;
        }
    }
    size_t strip = c->strip ? strlen(c->strip) : 0;
    if (strip && n > strip && memcmp(s, c->strip, strip) == 0) s += strip, n -= strip;
    if (!good_name(s, n)) return false;
    loami_buf_put(&p->call_name, s, n);
    if (id) trim(&id, &id_n);
    if (id && !memchr(id, 0, id_n)) loami_buf_put(&p->call_id, id, id_n);
    return true;
}

static loami_body read_first(loami_format_parser *p)
{
    const loami_named_calls *c = p->config;
    loami_skip_space(p);
    if (!loami_text_left(p)) return BODY_MORE;
    char first = loami_text_at(p)[0];
    if (c->may_be_json && (first == '[' || first == '{')) {
        p->style = &loami_style_json;
        p->config = &json_instead;
        p->step = 0;
        return p->style->read(p);
    }
    p->step = !c->name_end ? ARGUMENTS : c->each ? EACH : NAME;
    return BODY_MORE;
}

static loami_body read_each(loami_format_parser *p)
{
    const loami_named_calls *c = p->config;
    loami_skip_space(p);
    if (!loami_text_left(p)) return BODY_MORE;
    int begins = loami_begins(p, c->each), closes = c->close ? loami_begins(p, c->close) : 0;
    if (begins == 1) {
        loami_take(p, strlen(c->each));
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
    const loami_named_calls *c = p->config;
    const char *const line = "\n";
    size_t where;
    int k = loami_find(p, p->step == NAME ? &c->name_end : &line, 1, &where);
    if (k < 0) return where > 2 * LONGEST_NAME ? BODY_BAD : BODY_MORE;
    const char *s = loami_text_at(p);
    bool typed = p->step == NAME && where == 8 && memcmp(s, "function", 8) == 0;
    if (!typed && !set_name(p, s, where)) return BODY_BAD;
    loami_take(p, where + (p->step == NAME ? strlen(c->name_end) : 1));
    p->step = typed ? NAME_LINE : ARGUMENTS;
    return BODY_MORE;
}

static void begin(loami_format_parser *p)
{
    loami_call_begin(p, p->call_name.data, p->call_name.len, p->call_id.data);
}

/* Up to the brace: white space, and the beginning of a fenced block. */
static loami_body read_arguments(loami_format_parser *p)
{
    const loami_named_calls *c = p->config;
    const char *s = loami_text_at(p);
    size_t left = loami_text_left(p), n = 0;
    while (n < left && (is_space(s[n]) || strchr("`json", s[n])) && s[n]) n++;
    if (n == left) return BODY_MORE;
    if (s[n] == '{') {
        begin(p);
        loami_take(p, n);
        p->scan = (loami_json_scan){ 0 };
        p->step = STREAM;
        return BODY_MORE;
    }
    if (n) loami_take(p, n);
    int closes = c->each_close ? loami_begins(p, c->each_close) : 0;
    if (closes == FIND_WAIT) return BODY_MORE;
    if (closes == 0) return BODY_BAD;
    begin(p);
    loami_call_arguments(p, "{}", 2);
    p->step = TAIL;
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
    if (done == 0) return BODY_MORE;
    p->step = TAIL;
    return BODY_MORE;
}

static loami_body read_tail(loami_format_parser *p)
{
    const loami_named_calls *c = p->config;
    if (c->each_close) {
        const char *s = loami_text_at(p);
        size_t left = loami_text_left(p), n = 0;
        while (n < left && (is_space(s[n]) || s[n] == '`')) n++;
        if (n == left && !p->final) return BODY_MORE;
        if (n) loami_take(p, n);
        int closes = loami_begins(p, c->each_close);
        if (closes == FIND_WAIT) return BODY_MORE;
        if (closes) loami_take(p, strlen(c->each_close));
    }
    loami_call_end(p);
    p->step = EACH;
    return c->close ? BODY_MORE : BODY_DONE;
}

static loami_body read_calls(loami_format_parser *p)
{
    static loami_body (*const steps[])(loami_format_parser *) = {
        [FIRST] = read_first, [EACH] = read_each, [NAME] = read_name, [NAME_LINE] = read_name,
        [ARGUMENTS] = read_arguments, [STREAM] = read_stream, [TAIL] = read_tail,
    };
    for (;;) {
        size_t at = p->at;
        int step = p->step;
        const loami_style *style = p->style;
        loami_body b = steps[step](p);
        if (b != BODY_MORE || p->style != style) return b;
        if (p->final && p->step == EACH && !loami_text_left(p)) return BODY_DONE;
        if (at == p->at && step == p->step) return BODY_MORE;
    }
}

const loami_style loami_style_named = { read_calls };
