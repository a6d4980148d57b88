/* What a backend is sent: the client's body, with what this backend needs changed. When an answer is
 * continued, that includes what was said so far:
 *
 * - exactly, for backends whose token ids travel: "loam_resume": {"token_ids": [...]} beside the request's
 * own fields and its seed. The backend puts the ids behind the prompt, counts them as tokens of the answer
 * (usage, max_tokens, penalties, stop strings, grammar), draws the next token as number n_ids + 1 of the
 * seed, and sends what comes after the text that those ids have released.
 * - as a last message of the assistant that is to be continued, where a server can do that;
 * - for plain text completions, as the end of the prompt. */
#include "gateway/gw.h"

#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_openai(const loami_exchange *x)
{
    return x->endpoint->shape == LOAMI_SHAPE_CHAT || x->endpoint->shape == LOAMI_SHAPE_TEXT;
}

static bool exact_possible(const loami_exchange *x)
{
    return !x->ids_broken && x->n_ids && !x->ids.failed;
}

static bool words_possible(const loami_exchange *x)
{
    const loami_facts *f = &x->facts;
    if (!f->plain || x->odd || x->text.failed || f->continues_last) return false;
    return x->endpoint->shape == LOAMI_SHAPE_CHAT ? f->messages.n > 2 && f->messages.at[0] == '['
                                                  : f->prompt.n > 1 && f->prompt.at[0] == '"';
}

const char *loami_resume_obstacle(const loami_exchange *x)
{
    if (!x->routes->config->resume) return "continuing answers is switched off";
    if (!is_openai(x)) return "answers of this kind cannot be continued";
    if (!x->facts.one_answer) return "several answers at once cannot be continued";
    if (!x->said || exact_possible(x) || words_possible(x)) return NULL;
    return "what was said so far is more than text, or too long to be kept";
}

bool loami_resume_fits(const loami_exchange *x, const loami_backend *b)
{
    if (!x->said) return true;
    if (!b->kind) return false;
    if (b->kind->exact && exact_possible(x)) return true;
    if (!words_possible(x)) return false;
    return x->endpoint->shape == LOAMI_SHAPE_TEXT || b->kind->continues || b->kind->prefills;
}

/* ---- changes ------------------------------------------------------------------------------------- */

typedef struct draft {
    loami_edits edits;
    const char *base;
    loami_span body;
    loami_buf texts[12];
    uint32_t n_texts;
} draft;

static loami_buf *text_of(draft *d)
{
    return &d->texts[d->n_texts++];
}

static void set_member(draft *d, loami_span object, loami_span old, const char *name, const char *value)
{
    loami_buf *t = text_of(d);
    loami_buf_printf(t, "\"%s\":%s", name, value);
    if (!t->failed) loami_edit_member(&d->edits, d->base, object, old, t->data, strlen(value));
}

static void set_model(draft *d, loami_attempt *a)
{
    const loami_facts *f = &a->x->facts;
    const char *told;
    loami_buf value = { 0 };
    if (!loami_backend_has(a->backend, f->name, &told) || !told) return;
    if (f->asked && strcmp(told, f->asked) == 0) return;
    loami_json_put(&value, told, strlen(told));
    if (!value.failed) set_member(d, f->body, f->model, "model", value.data);
    loami_buf_free(&value);
}

/* Usage is asked for where somebody counts it; events of it alone are kept from clients that did not ask. */
static void set_usage(draft *d, const loami_exchange *x)
{
    const loami_facts *f = &x->facts;
    if (f->wants_usage || !is_openai(x) || (!x->gw->ledger && !x->key)) return;
    if (!f->stream_options.at || f->stream_options.at[0] != '{') {
        set_member(d, f->body, f->stream_options, "stream_options", "{\"include_usage\":true}");
        return;
    }
    set_member(d, f->stream_options, loami_peek_get(f->stream_options, "include_usage"), "include_usage",
               "true");
}

static void set_exact(draft *d, loami_attempt *a)
{
    loami_exchange *x = a->x;
    const loami_facts *f = &x->facts;
    char number[24];
    if (!a->backend->kind || !a->backend->kind->exact || !is_openai(x) || !f->one_answer ||
        !x->routes->config->resume)
        return;
    if (!f->wants_ids) set_member(d, f->body, f->return_ids, "return_token_ids", "true");
    if (f->has_seed || !f->samples) return;
    snprintf(number, sizeof number, "%llu", (unsigned long long)x->seed);
    set_member(d, f->body, f->seed, "seed", number);
}

/* ---- continuing ---------------------------------------------------------------------------------- */

static void less_tokens(draft *d, loami_span old, const char *name, uint64_t said)
{
    uint64_t most;
    char number[24];
    if (!loami_span_u64(old, &most)) return;
    snprintf(number, sizeof number, "%llu", (unsigned long long)(most > said ? most - said : 1));
    set_member(d, d->body, old, name, number);
}

static void add_words(draft *d, loami_attempt *a)
{
    loami_exchange *x = a->x;
    const loami_facts *f = &x->facts;
    loami_buf *t = text_of(d);
    loami_span at;

    a->base = x->n_tokens;
    less_tokens(d, f->max_tokens, "max_tokens", x->n_tokens);
    less_tokens(d, f->max_completion, "max_completion_tokens", x->n_tokens);
    if (x->endpoint->shape == LOAMI_SHAPE_TEXT) {
        at = (loami_span){ f->prompt.at + f->prompt.n - 1, 0 };
        loami_buf_put(t, x->text.data, x->text.len);
    } else {
        at = (loami_span){ f->messages.at + f->messages.n - 1, 0 };
        loami_buf_puts(t, ",{\"role\":\"assistant\",\"content\":\"");
        loami_buf_put(t, x->text.data, x->text.len);
        loami_buf_puts(t, "\"}");
        if (a->backend->kind->continues) {
            set_member(d, f->body, loami_peek_get(f->body, "add_generation_prompt"), "add_generation_prompt",
                       "false");
            set_member(d, f->body, loami_peek_get(f->body, "continue_final_message"),
                       "continue_final_message", "true");
        }
    }
    if (!t->failed && t->data) loami_edit(&d->edits, d->base, at, t->data, t->len);
}

static void add_said(draft *d, loami_attempt *a)
{
    loami_exchange *x = a->x;
    if (!x->said) return;
    if (!a->backend->kind->exact || !exact_possible(x)) {
        add_words(d, a);
        return;
    }
    loami_buf value = { 0 };
    loami_buf_printf(&value, "{\"token_ids\":[%s]}", x->ids.data);
    if (!value.failed) set_member(d, x->facts.body, (loami_span){ 0 }, "loam_resume", value.data);
    loami_buf_free(&value);
}

bool loami_body_for(loami_attempt *a)
{
    loami_exchange *x = a->x;
    const loami_facts *f = &x->facts;
    bool ok = true;
    if (!f->body.at) return true;
    draft d = { .base = x->body, .body = f->body };
    set_model(&d, a);
    if (f->stream) {
        set_usage(&d, x);
        set_exact(&d, a);
        if (a->resumes) add_said(&d, a);
    }
    if (d.edits.n) loami_edits_apply(&d.edits, x->body, x->n_body, &a->body);
    for (uint32_t i = 0; i < d.n_texts; i++) {
        ok = ok && !d.texts[i].failed;
        loami_buf_free(&d.texts[i]);
    }
    return ok && !a->body.failed;
}
