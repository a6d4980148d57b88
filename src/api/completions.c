/* POST /v1/completions */
#include "api/endpoints.h"
#include "api/structure.h"

#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_PROMPTS = 64,
    DEFAULT_TOKENS = 16, /* OpenAI's, unless the server was started with another */
};

typedef struct text_request {
    loami_params p;
    const json_t *prompt;
    loami_structure s;
    bool echo, has_logprobs;
    uint32_t logprobs;
} text_request;

static int read_prompt(void *to, const json_t *v, const char *where, loami_fault *f)
{
    if (!json_is_string(v) && !json_is_array(v))
        return loami_field_wrong(f, where, "a string, or an array of strings or of token ids");
    *(const json_t **)to = v;
    return 0;
}

static int read_logprobs(void *request, const json_t *v, const char *where, loami_fault *f)
{
    text_request *q = request;
    json_int_t k = -1;
    if (!loami_whole(v, &k) || k < 0 || k > LOAM_MAX_LOGPROBS)
        return loami_field_wrong(f, where, "an integer from 0 to 20");
    q->has_logprobs = true;
    q->logprobs = (uint32_t)k;
    return 0;
}

static const loami_field fields[] = {
    LOAMI_PARAMS_FIELDS,
    { .name = "prompt",
      .kind = LOAMI_F_CUSTOM,
      .at = offsetof(text_request, prompt),
      .read = read_prompt,
      .required = true },
    LOAMI_FIELD(BOOL, "echo", text_request, echo),
    LOAMI_STRUCTURE_FIELDS(offsetof(text_request, s)),
    LOAMI_READ("logprobs", read_logprobs),
    LOAMI_REFUSE("suffix", "text is only added at the end"),
    LOAMI_REFUSE("messages", "for a chat use /v1/chat/completions"),
    { 0 },
};

/* ---- prompts ------------------------------------------------------------------------------------------ */

static int add_text(loami_run *run, loami_prompt *p, const char *text, loami_fault *f)
{
    loam_err err;
    int n = loam_encode(run->hold.served->text, text, strlen(text), 0, &p->ids, &err);
    if (n < 0) return loami_fault_from(f, &err, "prompt");
    p->n = (uint32_t)n;
    p->text = strdup(text);
    return p->text ? 0 : loami_fault_set(f, 503, "out_of_memory", "", "Out of memory.");
}

static int add_ids(loami_run *run, loami_prompt *p, const json_t *ids, const char *where, loami_fault *f)
{
    loam_err err;
    p->ids = loami_token_array(ids, where, &p->n, f);
    if (!p->ids) return -1;
    if (loam_decode(run->hold.served->text, p->ids, p->n, 0, &p->text, NULL, &err) < 0)
        return loami_fault_from(f, &err, where);
    return 0;
}

static int add_prompts(loami_run *run, const json_t *v, loami_fault *f)
{
    char where[32];
    uint32_t n = loami_texts_count(v, "prompt", MAX_PROMPTS, f);
    if (n == 0) return -1;
    if (n * run->request->n > LOAMI_MAX_CHOICES * 2)
        return loami_fault_set(f, 400, "invalid_value", "n",
                               "%u prompts times n = %u are more than 64 answers.", n, run->request->n);
    if (!loami_run_prompts(run, n)) return loami_fault_set(f, 503, "out_of_memory", "", "Out of memory.");
    for (uint32_t i = 0; i < n; i++) {
        const json_t *it = loami_texts_get(v, "prompt", i, where, f);
        if (!it) return -1;
        int rc = json_is_string(it) ? add_text(run, &run->prompts[i], json_string_value(it), f)
                                    : add_ids(run, &run->prompts[i], it, where, f);
        if (rc < 0) return -1;
    }
    return 0;
}

static int parse(loami_run *run, const json_t *body, loami_fault *f)
{
    text_request *q = (text_request *)run->request;
    const loami_api *a = run->api;
    if (loami_fields_read(fields, body, "", a->config.lenient, q, f) < 0 || loami_params_check(&q->p, f) < 0)
        return -1;
    if (!(run->model = loami_api_model(a, q->p.model, f))) return -1;
    if (q->echo && q->has_logprobs) {
        q->p.score_prompt = true;
        if (q->p.n_prompt_logprobs < q->logprobs) q->p.n_prompt_logprobs = q->logprobs;
    }
    if (!q->p.max_tokens && !a->config.max_tokens) q->p.max_tokens = DEFAULT_TOKENS;
    q->p.want_logprobs = q->has_logprobs;
    q->p.n_logprobs = q->logprobs;
    if (add_prompts(run, q->prompt, f) < 0) return -1;
    return loami_structure_open(run, &q->s, NULL, f);
}

/* ---- the answer --------------------------------------------------------------------------------------- */

static size_t count_chars(const char *s, size_t n)
{
    size_t chars = 0;
    for (size_t i = 0; i < n; i++) chars += ((unsigned char)s[i] & 0xc0) != 0x80;
    return chars;
}

/* Four lists side by side: tokens, token_logprobs, top_logprobs, text_offset. logprob NAN: a first token, which nothing
 * comes before. */
static void put_entry(loami_run *run, loami_buf *list, int32_t id, float logprob, const loam_logprob *top, uint32_t n_top,
                      size_t offset)
{
    for (int k = 0; k < 4; k++)
        if (list[3].len) loami_buf_putc(&list[k], ',');
    loami_put_token_text(&list[0], run->hold.served->text, id);
    if (isnan(logprob)) loami_buf_puts(&list[1], "null");
    else loami_buf_printf(&list[1], "%.6f", logprob);
    if (isnan(logprob) || n_top == 0) {
        loami_buf_puts(&list[2], "null");
    } else {
        loami_buf_putc(&list[2], '{');
        for (uint32_t i = 0; i < n_top; i++) {
            if (i) loami_buf_putc(&list[2], ',');
            loami_put_token_text(&list[2], run->hold.served->text, top[i].id);
            loami_buf_printf(&list[2], ":%.6f", top[i].logprob);
        }
        loami_buf_putc(&list[2], '}');
    }
    loami_buf_printf(&list[3], "%zu", offset);
}

static void logprob(loami_run *run, loami_choice *c, const loam_token *t)
{
    text_request *q = (text_request *)run->request;
    size_t echoed = q->echo ? count_chars(c->prompt->text, strlen(c->prompt->text)) : 0;
    put_entry(run, c->logprobs, t->id, t->logprob, t->top, t->n_top, echoed + c->n_chars);
}

/* How much of the text at `at` the token stands for: nothing, if it was added (BOS), and a space that the tokenizer puts
 * before a text is not there. */
static size_t covered(const loami_run *run, int32_t id, const char *at)
{
    size_t n = 0, covers = 0;
    char *bytes = NULL;
    if (loam_token_bytes(run->hold.served->text, id, &bytes, &n, NULL) < 0) return 0;
    const char *from = n && bytes[0] == ' ' && at[0] != ' ' ? bytes + 1 : bytes;
    n -= (size_t)(from - bytes);
    if (n && strncmp(at, from, n) == 0) covers = n;
    free(bytes);
    return covers;
}

/* The same lists for the prompt, which is echoed. */
static void put_echoed(loami_run *run, const loami_prompt *p, loami_buf *list)
{
    text_request *q = (text_request *)run->request;
    uint32_t n_top = q->p.n_prompt_logprobs;
    const char *at = p->text;
    size_t offset = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const loam_logprob *top = i && n_top ? p->top + (size_t)(i - 1) * n_top : NULL;
        put_entry(run, list, p->ids[i], i ? p->logprobs[i - 1] : NAN, top, q->logprobs, offset);
        size_t n = covered(run, p->ids[i], at);
        offset += count_chars(at, n);
        at += n;
    }
}

static void put_choice(loami_run *run, loami_choice *c, const char *text, size_t n, bool first,
                       const char *finish)
{
    static const char *const names[4] = { "tokens", "token_logprobs", "top_logprobs", "text_offset" };
    text_request *q = (text_request *)run->request;
    loami_buf *out = &run->out, echo = { 0 }, echoed[4] = { 0 };

    loami_buf_printf(out, "{\"index\":%u,\"text\":", c->index);
    if (q->echo && first) loami_buf_puts(&echo, c->prompt->text);
    loami_buf_put(&echo, text, n);
    loami_json_put(out, echo.data ? echo.data : "", echo.len);
    loami_buf_free(&echo);
    loami_buf_puts(out, ",\"logprobs\":");
    if (q->has_logprobs) {
        if (q->echo && first) put_echoed(run, c->prompt, echoed);
        for (int k = 0; k < 4; k++) {
            loami_buf_printf(out, "%s\"%s\":[", k ? "," : "{", names[k]);
            loami_buf_put(out, echoed[k].data, echoed[k].len);
            if (echoed[k].len && c->logprobs[k].len) loami_buf_putc(out, ',');
            loami_buf_put(out, c->logprobs[k].data, c->logprobs[k].len);
            loami_buf_putc(out, ']');
            out->failed |= echoed[k].failed;
            loami_buf_free(&echoed[k]);
        }
        loami_buf_putc(out, '}');
    } else {
        loami_buf_puts(out, "null");
    }
    if (finish)
        loami_buf_printf(out, ",\"finish_reason\":\"%s\"", finish);
    else
        loami_buf_puts(out, ",\"finish_reason\":null");
    if (q->p.return_token_ids) {
        loami_buf_puts(out, ",\"token_ids\":[");
        loami_buf_put(out, c->ids.data, c->ids.len);
        loami_buf_putc(out, ']');
    }
    if (first) loami_put_given(out, run, c->prompt);
    loami_buf_putc(out, '}');
}

static void put_head(loami_run *run)
{
    loami_buf_printf(&run->out,
                     "{\"id\":\"%s\",\"object\":\"text_completion\",\"created\":%lld,\"model\":", run->id,
                     (long long)run->created_s);
    loami_json_put(&run->out, run->model, strlen(run->model));
    loami_buf_printf(&run->out, ",\"system_fingerprint\":\"loam-%s\",\"choices\":[", loam_version());
}

static void put_event(loami_run *run, loami_choice *c, const char *text, size_t n, bool first,
                      const char *finish)
{
    loami_buf_puts(&run->out, "data: ");
    put_head(run);
    put_choice(run, c, text, n, first, finish);
    loami_buf_puts(&run->out, run->request->include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

/* What is echoed, and what was asked for about the prompt, goes ahead. */
static void begin(loami_run *run)
{
    text_request *q = (text_request *)run->request;
    bool ahead = q->echo || q->p.return_token_ids || q->p.show_prompt_logprobs;
    for (uint32_t i = 0; ahead && i < run->n_choices; i++)
        put_event(run, &run->choices[i], "", 0, true, NULL);
}

static void part(loami_run *run, loami_choice *c, const loam_part *p)
{
    put_event(run, c, p->text, p->text_len, false, NULL);
}

static void finish(loami_run *run, loami_choice *c)
{
    put_event(run, c, "", 0, false, loami_finish_name(c));
}

static void put_usage(loami_run *run)
{
    loami_buf_puts(&run->out, "],\"usage\":");
    loami_put_usage(&run->out, run);
    loami_buf_putc(&run->out, '}');
}

static void end(loami_run *run)
{
    if (!run->request->include_usage) return;
    loami_buf_puts(&run->out, "data: ");
    put_head(run);
    put_usage(run);
    loami_buf_puts(&run->out, "\n\n");
}

static void whole(loami_run *run)
{
    put_head(run);
    for (uint32_t i = 0; i < run->n_choices; i++) {
        if (i) loami_buf_putc(&run->out, ',');
        loami_choice *c = &run->choices[i];
        put_choice(run, c, c->text.data, c->text.len, true, loami_finish_name(c));
    }
    put_usage(run);
}

const loami_shape loami_text_shape = {
    .id_prefix = "cmpl-",
    .prompt_field = "prompt",
    .request_size = sizeof(text_request),
    .parse = parse,
    .logprob = logprob,
    .begin = begin,
    .part = part,
    .finish = finish,
    .end = end,
    .whole = whole,
};

void loami_api_completions(loami_reply *r, void *api)
{
    loami_run_open(api, r, &loami_text_shape);
}
