/* GET /health, /livez, /readyz: whether this server lives, can answer, and what it is doing. Answered at any
 * time, never waited for: what an engine does is read from its heartbeat, so an engine that hangs cannot look
 * well. */
#include "api/endpoints.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

static const double STALL_S =
    60; /* a step takes milliseconds; the longest prefill slice on the slowest machine, seconds */

/* What one model's engine does. */
typedef struct pulse {
    const char *name; /* "idle", "prefill", "decode", "stalled" */
    double since_s;
    loam_engine_state e;
} pulse;

static double stall_s(const loami_api *a)
{
    return a->config.stall_s ? a->config.stall_s : STALL_S;
}

static pulse feel(const loami_api *a, const loami_served *s)
{
    static const char *const names[] = { "idle", "prefill", "decode" };
    pulse p = { .name = names[0] };
    if (!s->engine || !s->info) return p;
    loam_engine_stat(s->engine, &p.e);
    bool stalled = p.e.step_s > stall_s(a);
    p.name = stalled ? "stalled" : names[p.e.phase];
    p.since_s = stalled ? p.e.step_s : p.e.phase_s;
    return p;
}

/* The one that says most about the server: stalled before decode before prefill before idle. */
static uint32_t weight(const pulse *p)
{
    return p->name[0] == 's' ? 3 : p->name[0] == 'd' ? 2 : p->name[0] == 'p' ? 1 : 0;
}

const char *loami_api_pulse(const loami_api *a, const loami_served *s)
{
    return feel(a, s).name;
}

static bool is_loaded(const loami_served *s)
{
    return s->state == LOAMI_SERVED_LOADED || s->state == LOAMI_SERVED_LEAVING;
}

bool loami_api_stalled(const loami_api *a)
{
    for (uint32_t i = 0; a->models.list && i < a->models.config.n_models; i++)
        if (is_loaded(&a->models.list[i])) {
            pulse p = feel(a, &a->models.list[i]);
            if (weight(&p) == 3) return true;
        }
    return false;
}

/* ---- /health ------------------------------------------------------------------------------------------ */

/* One entry of "models", of those that are loaded or on their way. */
static void put_model(loami_buf *out, const loami_served *s, const pulse *p, double now)
{
    const char *name = s->config->names[0];
    loami_buf_puts(out, "{\"id\":");
    loami_json_put(out, name, strlen(name));
    if (is_loaded(s))
        loami_buf_printf(out, ",\"state\":\"%s\",\"since\":%.3f,\"running\":%u,\"waiting\":%u}", p->name,
                         p->since_s, p->e.running, p->e.waiting);
    else
        loami_buf_printf(out, ",\"state\":\"%s\",\"since\":%.3f}", loami_served_state_name(s->state),
                         now - s->changed_s);
}

const char *loami_api_device(const loami_api *a)
{
    for (uint32_t i = 0; a->models.list && i < a->models.config.n_models; i++)
        if (is_loaded(&a->models.list[i])) return a->models.list[i].info->device;
    return NULL;
}

static void put_counts(loami_buf *out, const loam_engine_state *e)
{
    loami_buf_printf(out,
                     ",\"running\":%u,\"waiting\":%u,\"pages_used\":%u,\"pages\":%u,\"prompt_tokens\":%llu,"
                     "\"new_tokens\":%llu",
                     e->running, e->waiting, e->pages_used, e->pages, (unsigned long long)e->prompt_tokens,
                     (unsigned long long)e->new_tokens);
}

static void add(loam_engine_state *sum, const loam_engine_state *e)
{
    sum->running += e->running;
    sum->waiting += e->waiting;
    sum->pages_used += e->pages_used;
    sum->pages += e->pages;
    sum->prompt_tokens += e->prompt_tokens;
    sum->new_tokens += e->new_tokens;
}

/* Fills *all with the state of the whole, and models with that of each. */
static void look(const loami_api *a, pulse *all, loami_buf *models)
{
    double now = loami_now_s();
    bool first = true;
    *all = (pulse){ .name = "idle", .since_s = -1 };
    for (uint32_t i = 0; a->models.list && i < a->models.config.n_models; i++) {
        const loami_served *s = &a->models.list[i];
        if (s->state == LOAMI_SERVED_NOT_LOADED) continue;
        pulse p = feel(a, s);
        if (!first) loami_buf_putc(models, ',');
        put_model(models, s, &p, now);
        first = false;
        if (!is_loaded(s)) continue;
        bool idle_longer = weight(&p) == 0 && weight(all) == 0 && all->since_s >= 0 &&
                           p.since_s > all->since_s;
        if (all->since_s < 0 || weight(&p) > weight(all) || (weight(&p) == weight(all) && !idle_longer)) {
            all->name = p.name;
            all->since_s = p.since_s;
        }
        add(&all->e, &p.e);
    }
}

void loami_api_health(loami_reply *r, void *api)
{
    const loami_api *a = api;
    const char *name = a->config.models.models[0].names[0], *machine = loami_api_device(a);
    loami_buf out = { 0 }, models = { 0 };
    pulse p;

    look(a, &p, &models);
    bool stalled = weight(&p) == 3, ok = a->models.ready && !a->draining && !stalled;
    loami_buf_printf(&out, "{\"status\":\"%s\",\"model\":",
                     stalled           ? "stalled"
                     : a->draining     ? "draining"
                     : a->models.ready ? "ok"
                                       : "loading");
    loami_json_put(&out, name, strlen(name));
    loami_buf_puts(&out, ",\"device\":");
    if (machine)
        loami_json_put(&out, machine, strlen(machine));
    else
        loami_buf_puts(&out, "null");
    loami_buf_printf(&out, ",\"framework\":\"loam\",\"version\":\"%s\"", loam_version());
    if (a->models.ready) {
        loami_buf_printf(&out, ",\"state\":\"%s\",\"since\":%.3f", p.name, p.since_s > 0 ? p.since_s : 0);
        put_counts(&out, &p.e);
    }
    loami_buf_puts(&out, ",\"models\":[");
    loami_buf_put(&out, models.data, models.len);
    loami_buf_puts(&out, "]}");
    if (!ok) loami_reply_set(r, "Retry-After", "1");
    loami_reply_set(r, "Cache-Control", "no-store");
    loami_reply_send(r, ok ? 200 : 503, "application/json", out.data, out.len);
    loami_buf_free(&out);
    loami_buf_free(&models);
}

/* ---- /livez and /readyz ------------------------------------------------------------------------------- */

static void say(loami_reply *r, const char *wrong)
{
    char body[64];
    int n = snprintf(body, sizeof body, "{\"status\":\"%s\"}", wrong ? wrong : "ok");
    if (wrong) loami_reply_set(r, "Retry-After", "1");
    loami_reply_set(r, "Cache-Control", "no-store");
    loami_reply_send(r, wrong ? 503 : 200, "application/json", body, (size_t)n);
}

/* Whether it would help to start the process anew: loading and draining are no reason. */
void loami_api_live(loami_reply *r, void *api)
{
    say(r, loami_api_stalled(api) ? "stalled" : NULL);
}

/* Whether it should get requests. */
void loami_api_ready(loami_reply *r, void *api)
{
    const loami_api *a = api;
    say(r, a->draining ? "draining" : !a->models.ready ? "loading" : loami_api_stalled(a) ? "stalled" : NULL);
}

/* ---- the watch ---------------------------------------------------------------------------------------- */

static void on_watch(void *arg)
{
    loami_api *a = arg;
    bool busy = !LIST_EMPTY(&a->runs) || !LIST_EMPTY(&a->errands);
    a->watching = false;
    for (uint32_t i = 0; i < a->models.config.n_models; i++) {
        loami_served *s = &a->models.list[i];
        if (!is_loaded(s)) continue;
        pulse p = feel(a, s);
        bool stalled = weight(&p) == 3;
        busy |= p.e.running > 0 || p.e.step_s > 0; /* a client that left leaves a step that hangs */
        if (stalled && !s->stall_told && a->config.on_stall)
            a->config.on_stall(a->config.stall_arg, s->config->names[0], p.e.step_s);
        s->stall_told = stalled;
    }
    if (busy) loami_api_watch(a);
}

/* Nothing ticks while nothing runs. */
void loami_api_watch(loami_api *a)
{
    if (!a->watching) a->watching = loami_timer_set(a->loop, &a->watch, stall_s(a) / 4, on_watch, a);
}
