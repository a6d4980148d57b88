/* POST /v1/chat/completions */
#include "api/endpoints.h"
#include "api/prompt.h"
#include "api/structure.h"

#include <stdlib.h>
#include <string.h>

typedef struct chat_request {
    loami_params p;
    loami_dialogue d;
    loami_structure s;
    bool logprobs;
    uint32_t top_logprobs;
    bool one_call, hide_reasoning, echo;
} chat_request;

static int read_modalities(void *to, const json_t *v, const char *where, loami_fault *f)
{
    const char *one = json_string_value(json_array_get(v, 0));
    (void)to;
    if (json_array_size(v) == 1 && one && strcmp(one, "text") == 0) return 0;
    return loami_fault_set(f, 400, "unsupported_parameter", where, "'%s' can only be [\"text\"].", where);
}

static int read_service_tier(void *to, const json_t *v, const char *where, loami_fault *f)
{
    const char *s = json_string_value(v);
    (void)to;
    if (s && (strcmp(s, "auto") == 0 || strcmp(s, "default") == 0)) return 0;
    return loami_field_wrong(f, where, "\"auto\" or \"default\": there is one tier");
}

static const loami_field fields[] = {
    LOAMI_PARAMS_FIELDS,
    LOAMI_DIALOGUE_FIELDS(offsetof(chat_request, d)),
    LOAMI_RANGE(U32, "max_completion_tokens", chat_request, p.max_completion_tokens, 1, 1e8),
    LOAMI_FIELD(BOOL, "logprobs", chat_request, logprobs),
    LOAMI_RANGE(U32, "top_logprobs", chat_request, top_logprobs, 0, LOAM_MAX_LOGPROBS),
    LOAMI_FIELD(BOOL, "echo", chat_request, echo),
    LOAMI_STRUCTURE_FIELDS(offsetof(chat_request, s)),
    LOAMI_READ("modalities", read_modalities),
    LOAMI_READ("service_tier", read_service_tier),
    LOAMI_REFUSE_TRUE("store", "no answer is stored"),
    LOAMI_READ_AT("parallel_tool_calls", offsetof(chat_request, one_call), loami_read_not),
    LOAMI_READ_AT("include_reasoning", offsetof(chat_request, hide_reasoning), loami_read_not),
    LOAMI_REFUSE("audio", "answers are text"),
    LOAMI_REFUSE("prediction", "answers are not predicted"),
    LOAMI_REFUSE("web_search_options", "nothing is fetched for a client"),
    LOAMI_REFUSE("functions", "use tools"),
    LOAMI_REFUSE("function_call", "use tool_choice"),
    LOAMI_REFUSE("prompt", "a chat has messages; for plain text use /v1/completions"),
    { 0 },
};

static int parse(loami_run *run, const json_t *body, loami_fault *f)
{
    chat_request *q = (chat_request *)run->request;
    const loami_api *a = run->api;
    loam_err err;

    if (loami_fields_read(fields, body, "", a->config.lenient, q, f) < 0 || loami_params_check(&q->p, f) < 0)
        return -1;
    if (!(run->model = loami_api_model(a, q->p.model, f))) return -1;
    if (q->top_logprobs && !q->logprobs)
        return loami_fault_set(f, 400, "invalid_value", "top_logprobs",
                               "'top_logprobs' is for logprobs: true.");
    q->p.want_logprobs = q->logprobs;
    q->p.n_logprobs = q->top_logprobs;
    if (!loami_run_prompts(run, 1)) return loami_fault_set(f, 503, "out_of_memory", "", "Out of memory.");
    loami_prompt *p = &run->prompts[0];
    if (loami_prompt_render(&p->text, run->hold.served->text, &q->d, f) < 0) return -1;
    if (q->echo && loami_prompt_echo(&p->echo, &q->d, f) < 0) return -1;
    /* The template writes its own BOS. */
    int n = loam_encode(run->hold.served->text, p->text, strlen(p->text), LOAM_NO_SPECIAL, &p->ids, &err);
    if (n < 0) return loami_fault_from(f, &err, "messages");
    p->n = (uint32_t)n;
    run->parsed = true;
    run->one_call = q->one_call;
    run->hide_reasoning = q->hide_reasoning;
    if (loami_dialogue_has_tools(&q->d) && !(run->tools = loami_json_text(q->d.tools)))
        return loami_fault_set(f, 503, "out_of_memory", "", "Out of memory.");
    loami_structure_calls calls = { p->text, q->d.tools, q->d.tool_choice, q->d.tool, q->one_call };
    return loami_structure_open(run, &q->s, &calls, f);
}

/* ---- the answer --------------------------------------------------------------------------------------- */

/* {"token":"…","logprob":-0.1,"bytes":[…] without its end, so that more can follow */
static void put_token(loami_run *run, loami_buf *out, int32_t id, float logprob)
{
    loami_buf_puts(out, "{\"token\":");
    loami_put_token_text(out, run->hold.served->text, id);
    loami_buf_printf(out, ",\"logprob\":%.6f,\"bytes\":", logprob);
    loami_put_token_bytes(out, run->hold.served->text, id);
}

static void logprob(loami_run *run, loami_choice *c, const loam_token *t)
{
    loami_buf *out = &c->logprobs[0];
    if (out->len) loami_buf_putc(out, ',');
    put_token(run, out, t->id, t->logprob);
    loami_buf_puts(out, ",\"top_logprobs\":[");
    for (uint32_t i = 0; i < t->n_top; i++) {
        if (i) loami_buf_putc(out, ',');
        put_token(run, out, t->top[i].id, t->top[i].logprob);
        loami_buf_putc(out, '}');
    }
    loami_buf_puts(out, "]}");
}

static void put_logprobs(loami_run *run, loami_choice *c)
{
    loami_buf *out = &run->out;
    if (!run->request->want_logprobs) {
        loami_buf_puts(out, "null");
        return;
    }
    loami_buf_puts(out, "{\"content\":[");
    loami_buf_put(out, c->logprobs[0].data, c->logprobs[0].len);
    loami_buf_puts(out, "],\"refusal\":null}");
}

static void put_head(loami_run *run, const char *object)
{
    loami_buf_printf(&run->out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", run->id,
                     object, (long long)run->created_s);
    loami_json_put(&run->out, run->model, strlen(run->model));
    loami_buf_printf(&run->out, ",\"system_fingerprint\":\"loam-%s\",\"choices\":[", loam_version());
}

static void put_token_ids(loami_run *run, loami_choice *c)
{
    if (!run->request->return_token_ids) return;
    loami_buf_puts(&run->out, ",\"token_ids\":[");
    loami_buf_put(&run->out, c->ids.data, c->ids.len);
    loami_buf_putc(&run->out, ']');
}

/* One chunk: what is in delta and what else belongs to the choice. */
static void open_chunk(loami_run *run, uint32_t index)
{
    loami_buf_puts(&run->out, "data: ");
    put_head(run, "chat.completion.chunk");
    loami_buf_printf(&run->out, "{\"index\":%u,\"delta\":{", index);
}

static void end_chunk(loami_run *run)
{
    loami_buf_puts(&run->out, run->request->include_usage ? ",\"usage\":null}\n\n" : "}\n\n");
}

static void close_chunk(loami_run *run)
{
    loami_buf_puts(&run->out, "}]");
    end_chunk(run);
}

/* What was asked for about the prompt comes with the first chunk of all. */
static void begin(loami_run *run)
{
    for (uint32_t i = 0; i < run->n_choices; i++) {
        const char *echo = run->choices[i].prompt->echo;
        open_chunk(run, i);
        loami_buf_puts(&run->out, "\"role\":\"assistant\",\"content\":");
        loami_json_put(&run->out, echo ? echo : "", echo ? strlen(echo) : 0);
        loami_buf_puts(&run->out, "},\"logprobs\":null,\"finish_reason\":null}]");
        if (i == 0) loami_put_given(&run->out, run, run->choices[i].prompt);
        end_chunk(run);
    }
}

static void put_call(loami_buf *out, const loami_call *call, uint32_t index, const loam_part *p)
{
    loami_buf_printf(out, "\"tool_calls\":[{\"index\":%u,", index);
    if (p->kind == LOAM_PART_CALL) {
        loami_buf_puts(out, "\"id\":");
        loami_json_put(out, call->id, strlen(call->id));
        loami_buf_puts(out, ",\"type\":\"function\",\"function\":{\"name\":");
        loami_json_put(out, p->text, p->text_len);
        loami_buf_puts(out, ",\"arguments\":\"\"}}]");
    } else {
        loami_buf_puts(out, "\"function\":{\"arguments\":");
        loami_json_put(out, p->text, p->text_len);
        loami_buf_puts(out, "}}]");
    }
}

static void part(loami_run *run, loami_choice *c, const loam_part *p)
{
    loami_buf *out = &run->out;
    open_chunk(run, c->index);
    if (p->kind == LOAM_PART_TEXT) {
        loami_buf_puts(out, "\"content\":");
        loami_json_put(out, p->text, p->text_len);
    } else if (p->kind == LOAM_PART_REASONING) { /* by both names that clients look for */
        loami_buf_puts(out, "\"reasoning_content\":");
        loami_json_put(out, p->text, p->text_len);
        loami_buf_puts(out, ",\"reasoning\":");
        loami_json_put(out, p->text, p->text_len);
    } else {
        put_call(out, &c->calls[c->n_calls - 1], c->n_calls - 1, p);
    }
    loami_buf_puts(out, "},\"logprobs\":");
    put_logprobs(run, c);
    loami_buf_puts(out, ",\"finish_reason\":null");
    put_token_ids(run, c);
    close_chunk(run);
}

static void finish(loami_run *run, loami_choice *c)
{
    open_chunk(run, c->index);
    loami_buf_puts(&run->out, "},\"logprobs\":");
    if (c->logprobs[0].len)
        put_logprobs(run, c);
    else
        loami_buf_puts(&run->out, "null");
    loami_buf_printf(&run->out, ",\"finish_reason\":\"%s\"", loami_finish_name(c));
    if (c->ids.len) put_token_ids(run, c);
    close_chunk(run);
}

static void end(loami_run *run)
{
    if (!run->request->include_usage) return;
    loami_buf_puts(&run->out, "data: ");
    put_head(run, "chat.completion.chunk");
    loami_buf_puts(&run->out, "],\"usage\":");
    loami_put_usage(&run->out, run);
    loami_buf_puts(&run->out, "}\n\n");
}

static void put_message(loami_buf *out, const loami_choice *c)
{
    const char *echo = c->prompt->echo;
    loami_buf whole = { 0 };
    if (echo) loami_buf_puts(&whole, echo);
    loami_buf_put(&whole, c->text.data, c->text.len);
    loami_buf_puts(out, "{\"role\":\"assistant\",\"content\":");
    if (c->n_calls && whole.len == 0)
        loami_buf_puts(out, "null");
    else
        loami_json_put(out, whole.data ? whole.data : "", whole.len);
    if (whole.failed) out->failed = true;
    loami_buf_free(&whole);
    if (c->reasoning.len) {
        loami_buf_puts(out, ",\"reasoning_content\":");
        loami_json_put(out, c->reasoning.data, c->reasoning.len);
        loami_buf_puts(out, ",\"reasoning\":");
        loami_json_put(out, c->reasoning.data, c->reasoning.len);
    }
    if (c->n_calls) loami_buf_puts(out, ",\"tool_calls\":[");
    for (uint32_t i = 0; i < c->n_calls; i++) {
        const loami_call *call = &c->calls[i];
        loami_buf_puts(out, i ? ",{\"id\":" : "{\"id\":");
        loami_json_put(out, call->id, strlen(call->id));
        loami_buf_puts(out, ",\"type\":\"function\",\"function\":{\"name\":");
        loami_json_put(out, call->name.data ? call->name.data : "", call->name.len);
        loami_buf_puts(out, ",\"arguments\":");
        loami_json_put(out, call->arguments.data ? call->arguments.data : "", call->arguments.len);
        loami_buf_puts(out, "}}");
    }
    if (c->n_calls) loami_buf_putc(out, ']');
    loami_buf_puts(out, ",\"refusal\":null}");
}

static void whole(loami_run *run)
{
    put_head(run, "chat.completion");
    for (uint32_t i = 0; i < run->n_choices; i++) {
        loami_choice *c = &run->choices[i];
        loami_buf_printf(&run->out, "%s{\"index\":%u,\"message\":", i ? "," : "", i);
        put_message(&run->out, c);
        loami_buf_puts(&run->out, ",\"logprobs\":");
        put_logprobs(run, c);
        loami_buf_printf(&run->out, ",\"finish_reason\":\"%s\"", loami_finish_name(c));
        put_token_ids(run, c);
        loami_buf_putc(&run->out, '}');
    }
    loami_buf_puts(&run->out, "],\"usage\":");
    loami_put_usage(&run->out, run);
    loami_put_given(&run->out, run, &run->prompts[0]);
    loami_buf_putc(&run->out, '}');
}

const loami_shape loami_chat_shape = {
    .id_prefix = "chatcmpl-",
    .prompt_field = "messages",
    .request_size = sizeof(chat_request),
    .parse = parse,
    .logprob = logprob,
    .begin = begin,
    .part = part,
    .finish = finish,
    .end = end,
    .whole = whole,
};

void loami_api_chat(loami_reply *r, void *api)
{
    loami_run_open(api, r, &loami_chat_shape);
}
