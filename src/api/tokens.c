/* POST /tokenize, /detokenize, /apply-template: the model's text without its weights. Fields are those of
 * vLLM and of llama-server (prompt and content mean the same). */
#include "api/endpoints.h"
#include "api/errand.h"
#include "api/prompt.h"

#include <stdlib.h>
#include <string.h>

typedef struct tokens_request {
    const char *model, *prompt, *content;
    loami_dialogue d;
    const json_t *tokens;
    bool no_special, strings;
} tokens_request;

#define MODEL_FIELD LOAMI_FIELD(STRING, "model", tokens_request, model)

static int render(const loami_served *m, const tokens_request *q, char **prompt, loami_fault *f)
{
    return loami_prompt_render(prompt, m->text, &q->d, f);
}

static int tokenize(loami_errand *e, const loami_served *m, const json_t *body, loami_buf *out, loami_fault *f)
{
    const loami_api *a = e->api;
    static const loami_field fields[] = {
        MODEL_FIELD,
        LOAMI_DIALOGUE_FIELDS(offsetof(tokens_request, d)),
        LOAMI_FIELD(STRING, "prompt", tokens_request, prompt),
        LOAMI_FIELD(STRING, "content", tokens_request, content),
        LOAMI_READ_AT("add_special_tokens", offsetof(tokens_request, no_special), loami_read_not),
        LOAMI_READ_AT("add_special", offsetof(tokens_request, no_special), loami_read_not),
        LOAMI_FIELD(BOOL, "return_token_strs", tokens_request, strings),
        { 0 },
    };
    tokens_request q = { 0 };
    char *rendered = NULL;
    int32_t *ids = NULL;
    loam_err err;
    int rc = -1;

    if (loami_fields_read(fields, body, "", a->config.lenient, &q, f) < 0 || !loami_api_model(a, q.model, f))
        return -1;
    const char *text = q.prompt ? q.prompt : q.content;
    if ((q.prompt != NULL) + (q.content != NULL) + (q.d.messages != NULL) != 1)
        return loami_fault_set(f, 400, "invalid_value", "prompt",
                               "Say either 'prompt' (or 'content') or 'messages'.");
    if (q.d.messages) {
        if (render(m, &q, &rendered, f) < 0) return -1;
        text = rendered;
    }
    int n = loam_encode(m->text, text, strlen(text), q.no_special || rendered ? LOAM_NO_SPECIAL : 0, &ids,
                        &err);
    if (n < 0) {
        loami_fault_from(f, &err, "prompt");
        goto out;
    }
    loami_buf_puts(out, "{\"tokens\":[");
    for (int i = 0; i < n; i++) loami_buf_printf(out, i ? ",%d" : "%d", (int)ids[i]);
    loami_buf_printf(out, "],\"count\":%d,\"max_model_len\":%u", n, m->info->context_tokens);
    if (q.strings) {
        loami_buf_puts(out, ",\"token_strs\":[");
        for (int i = 0; i < n; i++) {
            if (i) loami_buf_putc(out, ',');
            loami_put_token_text(out, m->text, ids[i]);
        }
        loami_buf_putc(out, ']');
    }
    loami_buf_putc(out, '}');
    rc = 0;
out:
    free(ids);
    free(rendered);
    return rc;
}

static int detokenize(loami_errand *e, const loami_served *m, const json_t *body, loami_buf *out, loami_fault *f)
{
    const loami_api *a = e->api;
    static const loami_field fields[] = {
        MODEL_FIELD,
        { .name = "tokens", .kind = LOAMI_F_ARRAY, .at = offsetof(tokens_request, tokens), .required = true },
        { 0 },
    };
    tokens_request q = { 0 };
    loam_err err;
    char *text = NULL;
    size_t n_text;
    if (loami_fields_read(fields, body, "", a->config.lenient, &q, f) < 0 || !loami_api_model(a, q.model, f))
        return -1;

    uint32_t n;
    int32_t *ids = loami_token_array(q.tokens, "tokens", &n, f);
    if (!ids) return -1;
    int rc = loam_decode(m->text, ids, n, 0, &text, &n_text, &err);
    free(ids);
    if (rc < 0) return loami_fault_from(f, &err, "tokens");
    loami_buf_puts(out, "{\"prompt\":");
    loami_json_put(out, text, n_text);
    loami_buf_puts(out, ",\"content\":");
    loami_json_put(out, text, n_text);
    loami_buf_putc(out, '}');
    free(text);
    return 0;
}

static int apply_template(loami_errand *e, const loami_served *m, const json_t *body, loami_buf *out, loami_fault *f)
{
    const loami_api *a = e->api;
    static const loami_field fields[] = { MODEL_FIELD,
                                          LOAMI_DIALOGUE_FIELDS(offsetof(tokens_request, d)),
                                          { 0 } };
    tokens_request q = { 0 };
    char *text;
    if (loami_fields_read(fields, body, "", a->config.lenient, &q, f) < 0 || !loami_api_model(a, q.model, f))
        return -1;
    if (render(m, &q, &text, f) < 0) return -1;
    loami_buf_puts(out, "{\"prompt\":");
    loami_json_put(out, text, strlen(text));
    loami_buf_putc(out, '}');
    free(text);
    return 0;
}

void loami_api_tokenize(loami_reply *r, void *api)
{
    static const loami_errand_kind kind = { .work = tokenize };
    loami_errand_open(api, r, &kind);
}

void loami_api_detokenize(loami_reply *r, void *api)
{
    static const loami_errand_kind kind = { .work = detokenize };
    loami_errand_open(api, r, &kind);
}

void loami_api_template(loami_reply *r, void *api)
{
    static const loami_errand_kind kind = { .work = apply_template };
    loami_errand_open(api, r, &kind);
}
