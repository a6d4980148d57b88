/* GET /v1/models, GET /v1/models/{id} */
#include "api/endpoints.h"

#include <string.h>

/* How most weights are stored; all of them together make bits_per_weight. */
static void put_quantization(loami_buf *out, const loam_model_info *info)
{
    double bits = info->parameters ? 8.0 * (double)info->weight_bytes / (double)info->parameters : 0;
    loami_buf_puts(out, ",\"quantization\":");
    if (info->quant_mode)
        loami_buf_printf(out, "{\"mode\":\"%s\",\"bits\":%u,\"group_size\":%u}", info->quant_mode, info->quant_bits,
                         info->quant_group);
    else
        loami_buf_puts(out, "null");
    loami_buf_printf(out, ",\"bits_per_weight\":%.3f", bits);
}

static void put_capabilities(loami_buf *out, const loam_text *text)
{
    static const struct {
        unsigned bit;
        const char *name;
    } table[] = { { LOAM_OFFERS_CHAT, "chat" }, { LOAM_OFFERS_TOOLS, "tools" }, { LOAM_OFFERS_REASONING, "reasoning" } };
    unsigned offers = loam_text_offers(text);
    loami_buf_puts(out, ",\"capabilities\":[\"completion\",\"embedding\"");
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (offers & table[i].bit) loami_buf_printf(out, ",\"%s\"", table[i].name);
    loami_buf_putc(out, ']');
}

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
                     ",\"context_length\":%u,\"parameters\":%llu,\"weight_bytes\":%llu,\"vocabulary\":%u,\"embedding_dimensions\":%u",
                     a->info->context_tokens, (unsigned long long)a->info->parameters,
                     (unsigned long long)a->info->weight_bytes, a->info->vocab_tokens, a->info->embed_dims);
    put_quantization(out, a->info);
    put_capabilities(out, a->text);
    loami_buf_puts(out, "}}");
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
