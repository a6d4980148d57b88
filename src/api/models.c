/* GET /v1/models, GET /v1/models/{id} */
#include "api/endpoints.h"

#include "base/clock.h"

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

/* What is known of a model that is not loaded is from when it was. */
static void put_facts(loami_buf *out, const loami_served *s)
{
    const loam_model_info *info = s->info ? s->info : &s->known;
    if (!info->context_tokens) return;
    loami_buf_printf(out, ",\"max_model_len\":%u,\"meta\":{", info->context_tokens);
    if (s->info) {
        loami_buf_puts(out, "\"family\":");
        loami_json_put(out, info->family, strlen(info->family));
        loami_buf_putc(out, ',');
    }
    loami_buf_printf(out, "\"context_length\":%u,\"parameters\":%llu,\"weight_bytes\":%llu,\"vocabulary\":%u",
                     info->context_tokens, (unsigned long long)info->parameters,
                     (unsigned long long)info->weight_bytes, info->vocab_tokens);
    loami_buf_printf(out, ",\"embedding_dimensions\":%u", info->embed_dims);
    put_quantization(out, info);
    if (s->text) put_capabilities(out, s->text);
    loami_buf_putc(out, '}');
}

static void put_model(loami_buf *out, const loami_api *a, const loami_served *s, const char *name)
{
    const char *root = s->config->names[0];
    loami_buf_puts(out, "{\"id\":");
    loami_json_put(out, name, strlen(name));
    loami_buf_printf(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"loam\",\"root\":",
                     (long long)a->opened_s);
    loami_json_put(out, root, strlen(root));
    loami_buf_printf(out, ",\"state\":\"%s\",\"pinned\":%s,\"memory_bytes\":%llu,\"requests\":%u",
                     loami_served_state_name(s->state), s->config->pinned ? "true" : "false",
                     (unsigned long long)loami_served_bytes(s), loami_served_holds(s) + s->n_waits);
    if (s->state == LOAMI_SERVED_LOADED && a->models.config.ttl_s && !s->config->pinned &&
        loami_served_holds(s) == 0)
        loami_buf_printf(out, ",\"unloads_in_s\":%.0f", s->used_s + a->models.config.ttl_s - loami_now_s());
    put_facts(out, s);
    loami_buf_putc(out, '}');
}

void loami_api_models(loami_reply *r, void *api)
{
    const loami_api *a = api;
    loami_fault f;
    loami_buf out = { 0 };
    bool first = true;
    if (loami_api_check_ready(a, &f) < 0) {
        loami_reply_fail(r, &f);
        return;
    }
    loami_buf_puts(&out, "{\"object\":\"list\",\"data\":[");
    for (uint32_t m = 0; m < a->models.config.n_models; m++) {
        const loami_served *s = &a->models.list[m];
        for (uint32_t i = 0; i < s->config->n_names; i++) {
            const char *name = s->config->names[i];
            if (i && (name[0] == '/' || name[0] == '.')) continue; /* where it lies is nobody's business */
            if (!first) loami_buf_putc(&out, ',');
            put_model(&out, a, s, name);
            first = false;
        }
    }
    loami_buf_puts(&out, "]}");
    loami_reply_send(r, 200, "application/json", out.data, out.len);
    loami_buf_free(&out);
}

void loami_api_model_one(loami_reply *r, void *api)
{
    loami_api *a = api;
    loami_fault f;
    loami_buf out = { 0 };
    const char *name = NULL;
    const loami_served *s = NULL;
    if (loami_api_check_ready(a, &f) == 0) s = loami_models_find(&a->models, loami_reply_tail(r), &name, &f);
    if (!s) {
        loami_reply_fail(r, &f);
        return;
    }
    put_model(&out, a, s, name);
    loami_reply_send(r, 200, "application/json", out.data, out.len);
    loami_buf_free(&out);
}
