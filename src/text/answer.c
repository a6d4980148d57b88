/* loam_parser of loam.h: format.h with what a model's text knows. */
#include "text/chat.h"
#include "text/format.h"

#include <stdlib.h>
#include <string.h>

struct loam_parser {
    loami_format_parser *format;
    json_t *tools;
    void (*emit)(void *arg, const loam_part *part);
    void *arg;
};

loami_format loami_text_format(const loam_text *t, bool tools)
{
    const loami_chat_template *c = tools && t->tools.text ? &t->tools : &t->chat;
    return loami_format_detect(c->text ? c->text : "", c->text ? strlen(c->text) : 0);
}

unsigned loam_text_offers(const loam_text *t)
{
    loami_format f = loami_text_format(t, true);
    unsigned what = t->chat.text ? LOAM_OFFERS_CHAT : 0;
    if (f.calls) what |= LOAM_OFFERS_TOOLS;
    if (f.think) what |= LOAM_OFFERS_REASONING;
    return what;
}

static void pass_on(void *arg, const loami_event *e)
{
    static const loam_part_kind kinds[] = {
        [LOAMI_CONTENT] = LOAM_PART_TEXT,      [LOAMI_REASONING] = LOAM_PART_REASONING,
        [LOAMI_CALL] = LOAM_PART_CALL,         [LOAMI_ARGUMENTS] = LOAM_PART_ARGUMENTS,
        [LOAMI_CALL_END] = LOAM_PART_CALL_END,
    };
    const loam_parser *p = arg;
    p->emit(p->arg, &(loam_part){ kinds[e->kind], e->call, e->text, e->n, e->id });
}

int loam_parser_open(loam_parser **out, const loam_text *t, const char *prompt, const char *tools_json,
                     void (*emit)(void *arg, const loam_part *part), void *arg, loam_err *err)
{
    loam_parser *p = calloc(1, sizeof *p);
    if (!p) return loami_fail_nomem(err);
    p->emit = emit;
    p->arg = arg;
    loami_format f = loami_text_format(t, tools_json != NULL);
    int rc = tools_json ? loami_json_parse(&p->tools, tools_json, strlen(tools_json), "tools", err) : 0;
    if (rc == 0) rc = loami_format_open(&p->format, &f, prompt, p->tools, pass_on, p, err);
    if (rc < 0)
        loam_parser_close(p);
    else
        *out = p;
    return rc;
}

int loam_parser_put(loam_parser *p, const char *text, size_t n, loam_err *err)
{
    return loami_format_put(p->format, text, n, err);
}

int loam_parser_end(loam_parser *p, loam_err *err)
{
    return loami_format_end(p->format, err);
}

void loam_parser_close(loam_parser *p)
{
    if (!p) return;
    loami_format_close(p->format);
    json_decref(p->tools);
    free(p);
}

bool loam_parser_wants_special(const loam_text *t, const char *tools_json)
{
    return loami_text_format(t, tools_json != NULL).keep_special;
}
