/* One event of a stream: what it tells about the answer, and how it has to look for this client. */
#include "gateway/gw.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct parts {
    loami_span object, id, created, model, choices, usage, error;
    loami_span choice, delta, text, ids, finish; /* of the first choice */
} parts;

static bool has_text(loami_span s)
{
    return s.at && s.n > 2 && s.at[0] == '"';
}

static bool is_null(loami_span s)
{
    return !s.at || loami_span_is(s, "null");
}

static void take_apart(parts *p, loami_span object)
{
    static const char *const names[] = { "id", "created", "model", "choices", "usage", "error" };
    loami_span *const spans[] = { &p->id, &p->created, &p->model, &p->choices, &p->usage, &p->error };
    loami_peek walk = { .in = object };
    loami_span key, value;
    p->object = object;
    while (loami_peek_next(&walk, &key, &value))
        for (int i = 0; i < 6; i++)
            if (loami_span_is(key, names[i])) *spans[i] = value;
    p->choice = loami_peek_first(p->choices);
    walk = (loami_peek){ .in = p->choice };
    while (p->choice.at && loami_peek_next(&walk, &key, &value)) {
        if (loami_span_is(key, "delta"))
            p->delta = value;
        else if (loami_span_is(key, "text"))
            p->text = value;
        else if (loami_span_is(key, "token_ids"))
            p->ids = value;
        else if (loami_span_is(key, "finish_reason"))
            p->finish = value;
    }
}

/* ---- usage --------------------------------------------------------------------------------------- */

typedef struct usage_field {
    const char *name;
    enum { PROMPT, ANSWER, INSIDE } what;
} usage_field;

/* OpenAI's names, Anthropic's, Ollama's; and what they are in. */
static const usage_field usage_fields[] = {
    { "usage", INSIDE },        { "prompt_tokens", PROMPT }, { "completion_tokens", ANSWER },
    { "input_tokens", PROMPT }, { "output_tokens", ANSWER }, { "prompt_eval_count", PROMPT },
    { "eval_count", ANSWER },   { "message", INSIDE },       { "response", INSIDE },
};

static void find_usage(loami_span object, uint64_t found[2], int depth)
{
    loami_peek walk = { .in = object };
    loami_span key, value;
    uint64_t v;
    if (!object.at || object.at[0] != '{') return;
    while (loami_peek_next(&walk, &key, &value)) {
        const usage_field *f = NULL;
        for (size_t i = 0; i < sizeof usage_fields / sizeof usage_fields[0] && !f; i++)
            if (loami_span_is(key, usage_fields[i].name)) f = &usage_fields[i];
        if (!f) continue;
        if (f->what == INSIDE && depth < 2)
            find_usage(value, found, depth + 1);
        else if (f->what != INSIDE && loami_span_u64(value, &v) && v)
            found[f->what] = v;
    }
}

void loami_usage_read(loami_attempt *a, loami_span object)
{
    uint64_t found[2] = { 0, 0 };
    loami_exchange *x = a->x;
    find_usage(object, found, 0);
    if (found[PROMPT]) x->prompt_tokens = found[PROMPT] > a->base ? found[PROMPT] - a->base : found[PROMPT];
    if (found[ANSWER]) x->answer_tokens = found[ANSWER] + a->base;
}

/* ---- what was said ------------------------------------------------------------------------------- */

static void keep_ids(loami_exchange *x, loami_span ids)
{
    if (ids.n < 3) return;
    if (x->ids.len) loami_buf_putc(&x->ids, ',');
    loami_buf_put(&x->ids, ids.at + 1, ids.n - 2);
    x->n_ids++;
    for (size_t i = 1; i + 1 < ids.n; i++) x->n_ids += ids.at[i] == ',';
}

static uint64_t count_ids(loami_span ids)
{
    uint64_t n = ids.n > 2;
    for (size_t i = 1; i + 1 < ids.n; i++) n += ids.at[i] == ',';
    return n;
}

static void note_time(loami_attempt *a, uint64_t tokens)
{
    loami_exchange *x = a->x;
    double now = loami_now_s();
    loami_backend_numbers *n = &a->backend->numbers;
    if (!a->spoke)
        loami_hist_add(&n->ttft, loami_hist_ttft, now - a->start_s);
    else
        loami_hist_add(&n->itl, loami_hist_itl, now - x->last_s);
    if (!x->first_s) x->first_s = now;
    x->last_s = now;
    a->spoke = true;
    x->n_tokens += tokens;
    loami_attempt_owe_less(a, (double)tokens);
}

/* Members of a delta besides role and content: tool calls, reasoning. Only the same program can go on with
 * those. */
static bool is_odd(loami_span delta)
{
    loami_peek walk = { .in = delta };
    loami_span key, value;
    while (loami_peek_next(&walk, &key, &value))
        if (!loami_span_is(key, "role") && !loami_span_is(key, "content") && !is_null(value) &&
            !loami_span_is(value, "[]") && !loami_span_is(value, "\"\""))
            return true;
    return false;
}

static void note_answer(loami_attempt *a, const parts *p)
{
    loami_exchange *x = a->x;
    loami_span text = p->delta.at ? loami_peek_get(p->delta, "content") : p->text;
    bool odd = p->delta.at && is_odd(p->delta), says = has_text(text) || odd;

    if (says || p->ids.n > 2) note_time(a, p->ids.n > 2 ? count_ids(p->ids) : 1);
    if (has_text(text)) loami_buf_put(&x->text, text.at + 1, text.n - 2);
    if (says) x->said = true;
    if (odd) x->odd = true;
    if (p->ids.n > 2)
        keep_ids(x, p->ids);
    else if (says)
        x->ids_broken = true;
    if (odd) loami_calls_keep(x, loami_peek_get(p->delta, "tool_calls"));
    if (!is_null(p->finish)) x->finish = loami_finish_of(p->finish);
    if (!is_null(p->finish)) x->finished = true;
}

/* ---- how it looks -------------------------------------------------------------------------------- */

static char *copy(loami_span s)
{
    return s.at ? strndup(s.at, s.n) : NULL;
}

/* All events of one answer have the head of the first one, whoever sends them. */
static void keep_head(loami_exchange *x, const parts *p, loami_edits *e, const char *base)
{
    if (!x->id && p->id.at) {
        x->id = copy(p->id);
        x->created = copy(p->created);
        x->model = copy(p->model);
        return;
    }
    if (!x->resumes) return;
    if (x->id && p->id.at) loami_edit(e, base, p->id, x->id, strlen(x->id));
    if (x->created && p->created.at) loami_edit(e, base, p->created, x->created, strlen(x->created));
    if (x->model && p->model.at) loami_edit(e, base, p->model, x->model, strlen(x->model));
}

static bool on_error(loami_attempt *a, const parts *p)
{
    char *words = loami_span_string(loami_peek_get(p->error, "message"), 4000, NULL),
         *type = loami_span_string(loami_peek_get(p->error, "type"), 100, NULL);
    uint64_t code = 0;
    loami_span_u64(loami_peek_get(p->error, "code"), &code);
    bool client = (type && strstr(type, "invalid_request")) || (code >= 400 && code < 500);
    snprintf(a->words, sizeof a->words, "%s", words ? words : "it sent an error");
    free(words);
    free(type);
    if (client)
        a->x->finished = a->x->done = true;
    else
        a->failed = true;
    return client;
}

/* A continued answer begins once more; the client has heard that. */
static bool repeats_beginning(const loami_attempt *a, const parts *p)
{
    return a->resumes && p->delta.at && loami_peek_get(p->delta, "role").at &&
           !has_text(loami_peek_get(p->delta, "content")) && !is_odd(p->delta) && is_null(p->finish) &&
           p->ids.n < 3;
}

static void put_openai(loami_attempt *a, loami_span whole, loami_span data)
{
    loami_exchange *x = a->x;
    loami_buf *out = &x->gw->scratch;
    loami_edits edits = { .n = 0 };
    char usage[160];
    parts p;

    memset(&p, 0, sizeof p);
    take_apart(&p, data);
    if (!is_null(p.error) && !on_error(a, &p)) return;
    if (repeats_beginning(a, &p)) return;
    if (!is_null(p.usage)) {
        loami_usage_read(a, p.usage);
        if (!p.choice.at && !x->facts.wants_usage) return; /* we asked, not the client */
        x->usage_told = true;
    }
    if (p.choice.at) note_answer(a, &p);
    keep_head(x, &p, &edits, whole.at);
    if (p.ids.at && !x->facts.wants_ids) loami_edit_remove(&edits, whole.at, p.choice, p.ids);
    if (!is_null(p.usage) && a->base) {
        snprintf(usage, sizeof usage,
                 "{\"prompt_tokens\":%llu,\"completion_tokens\":%llu,\"total_tokens\":%llu}",
                 (unsigned long long)x->prompt_tokens, (unsigned long long)x->answer_tokens,
                 (unsigned long long)(x->prompt_tokens + x->answer_tokens));
        loami_edit(&edits, whole.at, p.usage, usage, strlen(usage));
    }
    loami_edits_apply(&edits, whole.at, whole.n, out);
}

void loami_event(void *arg, loami_span whole, loami_span data)
{
    loami_attempt *a = arg;
    loami_exchange *x = a->x;
    loami_buf *out = &x->gw->scratch;
    bool openai = x->endpoint->shape == LOAMI_SHAPE_CHAT || x->endpoint->shape == LOAMI_SHAPE_TEXT;

    if (a->failed || x->done) return;
    if (openai && loami_span_is(data, "[DONE]")) x->done = true;
    loami_span object = data.at ? loami_peek_value(data.at, data.n) : data;
    if (openai && object.at && object.at[0] == '{') {
        put_openai(a, whole, object);
        return;
    }
    if (object.at && object.at[0] == '{') {
        loami_usage_read(a, object);
        note_time(a, 1);
        x->said = true;
    }
    loami_buf_put(out, whole.at, whole.n);
}
