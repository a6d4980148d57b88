/* POST /v1/score: how likely a continuation is after a prompt, token by token, in one prefill and nothing
 * generated. */
#include "api/endpoints.h"
#include "api/errand.h"
#include "api/prompt.h"

#include <stdlib.h>
#include <string.h>

typedef struct score_request {
    const char *model;
    loami_dialogue d;
    const json_t *prompt, *continuation;
} score_request;

static int read_text(void *to, const json_t *v, const char *where, loami_fault *f)
{
    if (!json_is_string(v) && !json_is_array(v))
        return loami_field_wrong(f, where, "a string or an array of token ids");
    *(const json_t **)to = v;
    return 0;
}

static const loami_field fields[] = {
    LOAMI_FIELD(STRING, "model", score_request, model),
    LOAMI_DIALOGUE_FIELDS(offsetof(score_request, d)),
    LOAMI_READ_AT("prompt", offsetof(score_request, prompt), read_text),
    { .name = "continuation",
      .kind = LOAMI_F_CUSTOM,
      .at = offsetof(score_request, continuation),
      .read = read_text,
      .required = true },
    { 0 },
};

typedef struct ids {
    int32_t *data;
    uint32_t n;
} ids;

/* Appends the tokens of a string, or the ids of an array. */
static int add(ids *to, const loami_served *m, const json_t *v, const char *where, unsigned flags,
               loami_fault *f)
{
    loam_err err;
    int32_t *more = NULL;
    uint32_t n_more = 0;
    if (json_is_array(v)) {
        more = loami_token_array(v, where, &n_more, f);
        if (!more) return -1;
    } else {
        int n = loam_encode(m->text, json_string_value(v), json_string_length(v), flags, &more, &err);
        if (n < 0) return loami_fault_from(f, &err, where);
        n_more = (uint32_t)n;
    }
    int32_t *all = realloc(to->data, ((size_t)to->n + n_more + 1) * sizeof *all);
    if (all) {
        memcpy(all + to->n, more, n_more * sizeof *all);
        to->data = all;
        to->n += n_more;
    }
    free(more);
    return all ? 0 : loami_fault_set(f, 503, "out_of_memory", "", "Out of memory.");
}

static int add_prompt(ids *to, const loami_served *m, const score_request *q, loami_fault *f)
{
    char *rendered;
    if ((q->prompt != NULL) + (q->d.messages != NULL) != 1)
        return loami_fault_set(f, 400, "invalid_value", "prompt", "Say either 'prompt' or 'messages'.");
    if (q->prompt) return add(to, m, q->prompt, "prompt", 0, f);
    if (loami_prompt_render(&rendered, m->text, &q->d, f) < 0) return -1;
    json_t *text = json_string(rendered);
    int rc = text ? add(to, m, text, "messages", LOAM_NO_SPECIAL, f)
                  : loami_fault_set(f, 503, "out_of_memory", "", "Out of memory.");
    json_decref(text);
    free(rendered);
    return rc;
}

static void put_answer(loami_buf *out, const loami_served *m, const char *model, const ids *all, uint32_t from,
                       const float *logprobs)
{
    double sum = 0;
    loami_buf_puts(out, "{\"object\":\"score\",\"model\":");
    loami_json_put(out, model, strlen(model));
    loami_buf_puts(out, ",\"tokens\":[");
    for (uint32_t i = from; i < all->n; i++) {
        if (i > from) loami_buf_putc(out, ',');
        loami_put_token_text(out, m->text, all->data[i]);
    }
    loami_buf_puts(out, "],\"token_ids\":[");
    for (uint32_t i = from; i < all->n; i++)
        loami_buf_printf(out, i > from ? ",%d" : "%d", (int)all->data[i]);
    loami_buf_puts(out, "],\"token_logprobs\":[");
    for (uint32_t i = from; i < all->n; i++) {
        loami_buf_printf(out, i > from ? ",%.6f" : "%.6f", logprobs[i - 1]);
        sum += logprobs[i - 1];
    }
    loami_buf_printf(
        out,
        "],\"logprob\":%.6f,\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":0,\"total_tokens\":%u}}",
        sum, all->n, all->n);
}

static int score(loami_errand *e, const loami_served *m, const json_t *body, loami_buf *out, loami_fault *f)
{
    const loami_api *a = e->api;
    score_request q = { 0 };
    ids all = { 0 };
    float *logprobs = NULL;
    loam_err err;
    int rc = -1;

    if (loami_fields_read(fields, body, "", a->config.lenient, &q, f) < 0) return -1;
    const char *model = loami_api_model(a, q.model, f);
    if (!model || add_prompt(&all, m, &q, f) < 0) goto out;
    uint32_t from = all.n;
    if (add(&all, m, q.continuation, "continuation", LOAM_NO_SPECIAL, f) < 0) goto out;
    if (from == 0 || all.n == from) {
        loami_field_wrong(f, from ? "continuation" : "prompt", "at least one token");
        goto out;
    }
    logprobs = malloc(all.n * sizeof *logprobs);
    if (!logprobs) {
        loami_fault_set(f, 503, "out_of_memory", "", "Out of memory.");
        goto out;
    }
    if (loam_score(m->engine, all.data, all.n, logprobs, &err) < 0) {
        loami_fault_from(f, &err, q.prompt ? "prompt" : "messages");
        goto out;
    }
    put_answer(out, m, model, &all, from, logprobs);
    e->tokens = all.n;
    rc = 0;
out:
    free(logprobs);
    free(all.data);
    return rc;
}

void loami_api_score(loami_reply *r, void *api)
{
    loami_api *a = api;
    loami_errand_open(a, a->patient, r, score);
}
