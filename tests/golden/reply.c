/* Takes answers apart: each line {"template", "prompt", "tools", "pieces": [...]} gives what the parser makes of it. */
#include "text/format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct result {
    loami_buf content, reasoning, arguments;
    json_t *calls;
    bool open;
} result;

static void fail(const char *what)
{
    fprintf(stderr, "reply: %s\n", what);
    exit(1);
}

static void take(void *arg, const loami_event *e)
{
    result *r = arg;
    json_t *call;
    switch (e->kind) {
    case LOAMI_CONTENT: loami_buf_put(&r->content, e->text, e->n); break;
    case LOAMI_REASONING: loami_buf_put(&r->reasoning, e->text, e->n); break;
    case LOAMI_CALL:
        if (r->open || e->call != json_array_size(r->calls)) fail("a call begins within another");
        r->open = true;
        json_array_append_new(r->calls, json_pack("{s:s%, s:s?}", "name", e->text, e->n, "id", e->id));
        loami_buf_clear(&r->arguments);
        break;
    case LOAMI_ARGUMENTS:
        if (!r->open) fail("arguments without a call");
        loami_buf_put(&r->arguments, e->text, e->n);
        break;
    case LOAMI_CALL_END:
        if (!r->open) fail("the end of no call");
        r->open = false;
        call = json_array_get(r->calls, e->call);
        json_object_set_new(call, "arguments",
                            json_stringn(r->arguments.data ? r->arguments.data : "", r->arguments.len));
        if (e->id) json_object_set_new(call, "id", json_string(e->id));
        break;
    }
}

static json_t *text_of(const loami_buf *b)
{
    return json_stringn(b->data ? b->data : "", b->len);
}

static void answer(const json_t *in)
{
    const char *text = json_string_value(json_object_get(in, "template"));
    const json_t *tools = json_object_get(in, "tools"), *pieces = json_object_get(in, "pieces");
    loami_format f = loami_format_detect(text, strlen(text));
    loami_format_parser *p;
    loam_err err;
    result r = { .calls = json_array() };
    if (loami_format_open(&p, &f, json_string_value(json_object_get(in, "prompt")),
                          json_is_array(tools) ? tools : NULL, take, &r, &err) < 0)
        fail(err.msg);
    for (size_t i = 0; i < json_array_size(pieces); i++) {
        const json_t *piece = json_array_get(pieces, i);
        if (loami_format_put(p, json_string_value(piece), json_string_length(piece), &err) < 0) fail(err.msg);
    }
    if (loami_format_end(p, &err) < 0) fail(err.msg);
    if (r.open) fail("a call did not end");
    json_t *out = json_pack("{s:s, s:o, s:o, s:O, s:b}", "format", f.name, "content", text_of(&r.content),
                            "reasoning",
                            text_of(&r.reasoning), "calls", r.calls, "keep_special", f.keep_special);
    char *line = json_dumps(out, JSON_COMPACT);
    puts(line);
    free(line);
    json_decref(out);
    json_decref(r.calls);
    loami_format_close(p);
    loami_buf_free(&r.content);
    loami_buf_free(&r.reasoning);
    loami_buf_free(&r.arguments);
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    loam_err err;
    while ((n = getline(&line, &cap, stdin)) >= 0) {
        json_t *in;
        if (loami_json_parse(&in, line, (size_t)n, "line", &err) < 0) fail(err.msg);
        answer(in);
        json_decref(in);
    }
    free(line);
    return 0;
}
