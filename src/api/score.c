/* POST /v1/score: how likely a continuation is after a prompt, token by token, in one prefill and nothing
 * generated. */
#include "api/endpoints.h"
#include "api/errand.h"
#include "api/params.h"
#include "api/prompt.h"

#include <stdlib.h>
#include <string.h>

typedef struct score_request {
    const char *model;
    loami_dialogue d;
    const json_t *prompt, *continuation; /* borrowed from the body, as strings are */
    int32_t priority;
    float timeout_s;
    const char *name;          /* of the model */
    int32_t *ids;              /* [text.n] malloc'd */
    loam_tokens text;          /* prompt and continuation */
    uint32_t from;             /* where the latter begins */
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
    LOAMI_READ_AT("timeout", offsetof(score_request, timeout_s), loami_read_timeout),
    LOAMI_READ_AT("priority", offsetof(score_request, priority), loami_read_priority),
    { 0 },
};

/* Appends the tokens of a string, or the ids of an array. */
static int add(score_request *q, const loami_served *m, const json_t *v, const char *where, unsigned flags,
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
    int32_t *all = realloc(q->ids, ((size_t)q->text.n + n_more + 1) * sizeof *all);
    if (all) {
        memcpy(all + q->text.n, more, n_more * sizeof *all);
        q->text.ids = q->ids = all;
        q->text.n += n_more;
    }
    free(more);
    return all ? 0 : loami_fault_set(f, 503, "out_of_memory", "", "Out of memory.");
}

static int add_prompt(score_request *q, const loami_served *m, loami_fault *f)
{
    char *rendered;
    if ((q->prompt != NULL) + (q->d.messages != NULL) != 1)
        return loami_fault_set(f, 400, "invalid_value", "prompt", "Say either 'prompt' or 'messages'.");
    if (q->prompt) return add(q, m, q->prompt, "prompt", 0, f);
    if (loami_prompt_render(&rendered, m->text, &q->d, f) < 0) return -1;
    json_t *text = json_string(rendered);
    int rc = text ? add(q, m, text, "messages", LOAM_NO_SPECIAL, f)
                  : loami_fault_set(f, 503, "out_of_memory", "", "Out of memory.");
    json_decref(text);
    free(rendered);
    return rc;
}

static int score(loami_errand *e, const loami_served *m, const json_t *body, loami_buf *out, loami_fault *f)
{
    score_request *q = e->state;
    (void)out;
    if (loami_fields_read(fields, body, "", e->api->config.lenient, q, f) < 0 || !(q->name = loami_api_model(e->api, q->model, f))) return -1;
    if (add_prompt(q, m, f) < 0) return -1;
    q->from = q->text.n;
    if (add(q, m, q->continuation, "continuation", LOAM_NO_SPECIAL, f) < 0) return -1;
    if (q->from == 0 || q->text.n == q->from) return loami_field_wrong(f, q->from ? "continuation" : "prompt", "at least one token");
    loam_job_request request = { .kind = LOAM_JOB_SCORE, .texts = &q->text, .n_texts = 1, .priority = q->priority };
    return loami_errand_begin(e, m, &request, q->prompt ? "prompt" : "messages", f);
}

static void put(loami_errand *e, const loami_served *m, const loam_outcome *r, loami_buf *out)
{
    const score_request *q = e->state;
    uint32_t n = q->text.n;
    double sum = 0;
    loami_buf_puts(out, "{\"object\":\"score\",\"model\":");
    loami_json_put(out, q->name, strlen(q->name));
    loami_buf_puts(out, ",\"tokens\":[");
    for (uint32_t i = q->from; i < n; i++) {
        if (i > q->from) loami_buf_putc(out, ',');
        loami_put_token_text(out, m->text, q->ids[i]);
    }
    loami_buf_puts(out, "],\"token_ids\":[");
    for (uint32_t i = q->from; i < n; i++) loami_buf_printf(out, i > q->from ? ",%d" : "%d", (int)q->ids[i]);
    loami_buf_puts(out, "],\"token_logprobs\":[");
    for (uint32_t i = q->from; i < n; i++) {
        loami_buf_printf(out, i > q->from ? ",%.6f" : "%.6f", r->floats[i - 1]);
        sum += r->floats[i - 1];
    }
    loami_buf_printf(out, "],\"logprob\":%.6f,\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":0,\"total_tokens\":%u}}", sum, n, n);
}

static void clear(void *state)
{
    free(((score_request *)state)->ids);
}

void loami_api_score(loami_reply *r, void *api)
{
    static const loami_errand_kind kind = { sizeof(score_request), score, put, clear, offsetof(loami_stats, scores) };
    loami_errand_open(api, r, &kind);
}
