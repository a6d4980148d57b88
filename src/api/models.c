/* GET /v1/models, GET /v1/models/{id} */
#include "api/endpoints.h"

#include <string.h>

static void put_model(loami_buf *out, const loami_api *a, const char *name)
{
    loami_buf_puts(out, "{\"id\":");
    loami_json_put(out, name, strlen(name));
    loami_buf_printf(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"loam\",\"root\":",
                     (long long)a->opened_s);
    loami_json_put(out, a->config.names[0], strlen(a->config.names[0]));
    loami_buf_printf(out, ",\"max_model_len\":%u,\"meta\":{\"family\":", a->info->context_tokens);
    loami_json_put(out, a->info->family, strlen(a->info->family));
    loami_buf_printf(out,
                     ",\"context_length\":%u,\"parameters\":%llu,\"weight_bytes\":%llu,\"vocabulary\":%u}}",
                     a->info->context_tokens, (unsigned long long)a->info->parameters,
                     (unsigned long long)a->info->weight_bytes, a->info->vocab_tokens);
}

void loami_api_models(loami_reply *r, void *api)
{
    const loami_api *a = api;
    loami_fault f;
    loami_buf out = { 0 };
    if (loami_api_check_ready(a, &f) < 0) {
        loami_reply_fail(r, &f);
        return;
    }
    loami_buf_puts(&out, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0; i < a->config.n_names; i++) {
        const char *name = a->config.names[i];
        if (i && (name[0] == '/' || name[0] == '.')) continue; /* where it lies is nobody's business */
        if (i) loami_buf_putc(&out, ',');
        put_model(&out, a, name);
    }
    loami_buf_puts(&out, "]}");
    loami_reply_send(r, 200, "application/json", out.data, out.len);
    loami_buf_free(&out);
}

void loami_api_model_one(loami_reply *r, void *api)
{
    const loami_api *a = api;
    loami_fault f;
    loami_buf out = { 0 };
    const char *name = NULL;
    if (loami_api_check_ready(a, &f) == 0) name = loami_api_model(a, loami_reply_tail(r), &f);
    if (!name) {
        loami_reply_fail(r, &f);
        return;
    }
    put_model(&out, a, name);
    loami_reply_send(r, 200, "application/json", out.data, out.len);
    loami_buf_free(&out);
}
