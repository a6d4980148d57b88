/* GET /health: whether this server can answer, and what it is doing. Answered at any time, never waited for.
 */
#include "api/endpoints.h"

#include <string.h>

void loami_api_health(loami_reply *r, void *api)
{
    const loami_api *a = api;
    const char *status = a->draining ? "draining" : a->engine ? "ok" : "loading";
    loami_buf out = { 0 };

    loami_buf_printf(&out, "{\"status\":\"%s\",\"model\":", status);
    loami_json_put(&out, a->config.names[0], strlen(a->config.names[0]));
    loami_buf_puts(&out, ",\"device\":");
    if (a->info)
        loami_json_put(&out, a->info->device, strlen(a->info->device));
    else
        loami_buf_puts(&out, "null");
    loami_buf_printf(&out, ",\"framework\":\"loam\",\"version\":\"%s\"", loam_version());
    if (a->engine) {
        loam_engine_state s;
        loam_engine_stat(a->engine, &s);
        loami_buf_printf(&out,
                         ",\"running\":%u,\"waiting\":%u,\"pages_used\":%u,\"pages\":%u,\"prompt_tokens\":%"
                         "llu,\"new_tokens\":%llu",
                         s.running, s.waiting, s.pages_used, s.pages, (unsigned long long)s.prompt_tokens,
                         (unsigned long long)s.new_tokens);
    }
    loami_buf_putc(&out, '}');
    bool ok = a->engine && !a->draining;
    if (!ok) loami_reply_set(r, "Retry-After", "1");
    loami_reply_set(r, "Cache-Control", "no-store");
    loami_reply_send(r, ok ? 200 : 503, "application/json", out.data, out.len);
    loami_buf_free(&out);
}
